//! `outputs`, type `file`: readings as lines of a file.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::path::path;
use crate::config::value::{bytes, number};
use crate::config::yaml::cursor::{Cursor, Entry, Report};
use crate::config::yaml::node::Node;
use crate::files::trust;
use crate::outputs::file::{FileSettings, Format};
use crate::text::size;

/// The default of `max_bytes`.
const FILE_BYTES: u64 = 64_000_000;

/// A file that holds less is rotated all the time.
const LEAST_FILE_BYTES: u64 = 64_000;

/// The default of `keep`.
const FILES_KEPT: u32 = 10;

const MOST_FILES_KEPT: u32 = 1_000;

const ALLOWED: &str = "the whole path of a file, such as /var/lib/pattoo/readings.jsonl";

/// What it takes.
pub const KEYS: &[&str] = &["path", "format", "max_bytes", "keep"];

/// Reads it. What is wrong is in the report.
pub fn read(item: &Cursor<'_>, entries: &[Entry<'_>], report: &mut Report) -> Option<FileSettings> {
    let mut path = None;
    let mut format = None;
    let (mut max_bytes, mut keep) = (FILE_BYTES, FILES_KEPT);
    for Entry { key, value, .. } in entries {
        match key.as_str() {
            "path" => path = Some(file_path(value, ALLOWED, report)),
            "format" => match &*value.node {
                Node::Text(text) if text == "jsonl" => format = Some(Format::Jsonl),
                Node::Text(text) if text == "csv" => format = Some(Format::Csv),
                _ => report.faults.push(value.unfit("jsonl or csv")),
            },
            "max_bytes" => match bytes(&value.node).filter(|&bytes| bytes >= LEAST_FILE_BYTES) {
                Some(bytes) => max_bytes = bytes,
                None => report.faults.push(value.unfit("a size such as 64MB, from 64kB")),
            },
            "keep" => number(&mut keep, 0..=MOST_FILES_KEPT, value, report),
            _ => {}
        }
    }
    let Some(path) = path else {
        report.faults.push(item.diagnostic(
            "found an output of type file without a path; write {type: file, path: /var/lib/pattoo/readings.jsonl}",
        ));
        return None;
    };
    let path = path?;
    // Only where nothing is said: `format` wins over what the name of the file seems to say.
    let is_csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let format = format.unwrap_or(if is_csv { Format::Csv } else { Format::Jsonl });
    Some(FileSettings { path, format, max_bytes, keep })
}

/// What is set, key by key, as it is written in the file.
#[must_use]
pub fn shown(FileSettings { path, format, max_bytes, keep }: &FileSettings) -> Vec<(&'static str, String)> {
    let format = match format {
        Format::Jsonl => "jsonl",
        Format::Csv => "csv",
    };
    vec![
        ("path", path.display().to_string()),
        ("format", format.to_owned()),
        ("max_bytes", size(*max_bytes)),
        ("keep", keep.to_string()),
    ]
}

/// The path of a file that an output writes, which a fault calls `allowed`.
pub fn file_path(value: &Cursor<'_>, allowed: &str, report: &mut Report) -> Option<PathBuf> {
    let path = path(value, allowed, report)?;
    let text = path.to_string_lossy();
    // Relative to what, nobody could say: the agent is started by hand, by a service manager, in a container.
    if path.is_relative() || text.ends_with('/') || path.file_name().is_none() {
        report.faults.push(value.unfit(allowed));
        return None;
    }
    if let Some(doubt) = directory_doubt(&path) {
        report.warnings.push(value.diagnostic(format!("found {}; {doubt}", path.display())));
    }
    Some(path)
}

/// What speaks against the place of a file. It may be mended while the agent runs, so it hinders no start.
fn directory_doubt(path: &Path) -> Option<String> {
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Some("it is there and no regular file, so nothing can be written to it".to_owned());
    }
    let directory = path.parent()?;
    match fs::metadata(directory) {
        Ok(metadata) if !metadata.is_dir() => Some(format!("{} is no directory", directory.display())),
        Ok(metadata) => trust::doubt(&metadata).map(|doubt| format!("its directory: {doubt}")),
        Err(error) => Some(format!("its directory {} cannot be used: {error}", directory.display())),
    }
}
