//! `outputs`: where readings go. Without it, one output: pattoo.
//!
//! An entry is a type, or a mapping with a type and what that type needs. An output is known by its name: its cursor in
//! the log of readings has it, so two outputs of one name are a fault, and another name is another output. A type that
//! later versions will know is told as such.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::configuration::Config;
use super::diagnostic::Diagnostic;
use super::path::path;
use super::value::{LONGEST_DURATION, bytes, duration_within, number};
use super::yaml::cursor::{Cursor, Entry, Report};
use super::yaml::node::Node;
use crate::files::trust;
use crate::outputs::Start;
use crate::outputs::delivery::MAX_BACKOFF;
use crate::outputs::file::{FileSettings, Format as FileFormat};
use crate::shard::Shard;
use crate::text::size;
use crate::text::table::TextTable;

/// The default of `split_refused_after`.
pub const SPLIT_REFUSED_AFTER: Duration = Duration::from_secs(3_600);

/// The default of `max_bytes`.
const FILE_BYTES: u64 = 64_000_000;

/// A file that holds less is rotated all the time.
const LEAST_FILE_BYTES: u64 = 64_000;

/// The default of `keep`.
const FILES_KEPT: u32 = 10;

const MOST_FILES_KEPT: u32 = 1_000;

/// No longer name fits everywhere that a name goes: the file of cursors, metrics, file names.
const MAX_NAME_BYTES: usize = 64;

/// The types that there are.
const TYPES: [&str; 2] = ["pattoo", "file"];

/// The types that later versions will have.
const LATER_TYPES: [&str; 4] = ["influxdb", "mqtt", "prometheus", "sqlite"];

/// What every type takes.
const KEYS: [&str; 5] = ["type", "name", "start", "split_refused_after", "max_backoff"];

/// What the type `file` takes besides.
const FILE_KEYS: [&str; 4] = ["path", "format", "max_bytes", "keep"];

/// One entry of `outputs`.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputConfig {
    /// Its name; the type where none is given.
    pub name: String,
    /// What kind of server.
    pub kind: OutputKind,
    /// Where it begins when it is new.
    pub start: Start,
    /// How long its oldest post may be refused before it is taken apart to find out why.
    pub split_refused_after: Duration,
    /// How long its server is left alone at most after posts that failed, unless it asks for more.
    pub max_backoff: Duration,
}

/// The kinds of servers, with their settings.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputKind {
    /// The pattoo server of `pattoo_agent_api`.
    Pattoo,
    /// Files.
    File(FileSettings),
}

impl OutputKind {
    /// As it is configured.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pattoo => "pattoo",
            Self::File(_) => "file",
        }
    }
}

impl Default for OutputConfig {
    /// The pattoo server.
    fn default() -> Self {
        Self {
            name: "pattoo".to_owned(),
            kind: OutputKind::Pattoo,
            start: Start::End,
            split_refused_after: SPLIT_REFUSED_AFTER,
            max_backoff: MAX_BACKOFF,
        }
    }
}

impl OutputConfig {
    /// Where its posts go, for people.
    #[must_use]
    pub fn target(&self, config: &Config) -> String {
        match &self.kind {
            OutputKind::Pattoo => format!("{} port {}", config.server_host, config.server_port),
            OutputKind::File(settings) => settings.path.display().to_string(),
        }
    }

    /// What is set, key by key, as it is written in the file.
    #[must_use]
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        let start = match self.start {
            Start::End => "end",
            Start::Beginning => "beginning",
        };
        let mut shown = vec![
            ("type", self.kind.as_str().to_owned()),
            ("start", start.to_owned()),
            ("split_refused_after", humantime::format_duration(self.split_refused_after).to_string()),
            ("max_backoff", humantime::format_duration(self.max_backoff).to_string()),
        ];
        if let OutputKind::File(FileSettings { path, format, max_bytes, keep }) = &self.kind {
            let format = match format {
                FileFormat::Jsonl => "jsonl",
                FileFormat::Csv => "csv",
            };
            shown.extend([
                ("path", path.display().to_string()),
                ("format", format.to_owned()),
                ("max_bytes", size(*max_bytes)),
                ("keep", keep.to_string()),
            ]);
        }
        shown
    }

    /// This output once `new` has been taken over without a restart.
    #[must_use]
    pub fn taken_over_by(&self, new: &Config) -> Self {
        let same = new.outputs.iter().find(|output| output.name == self.name);
        let OutputConfig { split_refused_after, max_backoff, .. } = *same.unwrap_or(self);
        Self { split_refused_after, max_backoff, ..self.clone() }
    }

    /// This output for `shard`: two agents never write to one file.
    #[must_use]
    pub fn of_shard(mut self, shard: Shard) -> Self {
        if let OutputKind::File(settings) = &mut self.kind
            && !shard.suffix().is_empty()
        {
            let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
            let mut name = format!("{}_{}", text(settings.path.file_stem()), shard.suffix());
            if let Some(extension) = settings.path.extension() {
                name = format!("{name}.{}", text(Some(extension)));
            }
            settings.path.set_file_name(name);
        }
        self
    }
}

/// Every setting of every output, for people.
#[must_use]
pub fn table(outputs: &[OutputConfig]) -> String {
    let mut table = TextTable::new(&["output", "setting", "value"]);
    for output in outputs {
        for (key, value) in output.shown() {
            table.push([output.name.clone(), key.to_owned(), value]);
        }
    }
    table.columns()
}

/// `split_refused_after`, at the top or of one output.
pub fn split_refused_after(value: &Cursor<'_>, report: &mut Report) -> Option<Duration> {
    duration_within(value, Duration::from_secs(1)..=LONGEST_DURATION, "a duration such as 1h, from 1s", report)
}

fn max_backoff(value: &Cursor<'_>, report: &mut Report) -> Option<Duration> {
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(3_600));
    duration_within(value, least..=most, "a duration such as 10s, from 1s to 1h", report)
}

/// Reads the list. What is wrong is in the report. `split_refused_after` is what holds for an output that does not say it.
pub fn read(cursor: &Cursor<'_>, split_refused_after: Duration, report: &mut Report) -> Vec<OutputConfig> {
    let items = match cursor.items() {
        Some(items) if items.is_empty() => {
            report.faults.push(cursor.unfit("at least one output, such as [pattoo]"));
            return Vec::new();
        }
        Some(items) => items,
        None => {
            report.faults.push(cursor.unfit("a list of outputs, such as [pattoo]"));
            return Vec::new();
        }
    };
    let found: Vec<_> = items.iter().filter_map(|item| Found::read(item, split_refused_after, report)).collect();
    report.faults.extend(clashes(&found));
    found.into_iter().map(|found| found.output).collect()
}

/// An output, and where it says what must be its own.
struct Found<'a> {
    output: OutputConfig,
    /// Where it is named: by its name, else by its type.
    named: Cursor<'a>,
    /// Its type.
    typed: Cursor<'a>,
    /// Its `path`, if it has one.
    path: Option<Cursor<'a>>,
}

/// What no two outputs may have in common.
fn clashes(found: &[Found<'_>]) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    let mut names: HashMap<&str, &Cursor<'_>> = HashMap::new();
    let mut paths: HashMap<&Path, &Cursor<'_>> = HashMap::new();
    let mut pattoo: Option<&Cursor<'_>> = None;
    for Found { output, named, typed, path } in found {
        match &output.kind {
            OutputKind::Pattoo => {
                if let Some(first) = pattoo {
                    faults.push(typed.diagnostic(format!(
                        "found a second output of type pattoo, the first is at {}; allowed is one, because \
                         pattoo_agent_api names one server",
                        first.place()
                    )));
                    // Both have the name of their type, as a rule: one fault is enough.
                    continue;
                }
                pattoo = Some(typed);
            }
            OutputKind::File(settings) => {
                if let Some(path) = path
                    && let Some(first) = paths.insert(&settings.path, path)
                {
                    faults.push(path.diagnostic(format!(
                        "found {}, the path of the output at {} too; allowed is a file for each output",
                        settings.path.display(),
                        first.place()
                    )));
                }
            }
        }
        if let Some(first) = names.insert(&output.name, named) {
            faults.push(named.diagnostic(format!(
                "found \"{}\", the name of the output at {} too; give one of the two another name",
                output.name,
                first.place()
            )));
        }
    }
    faults
}

impl<'a> Found<'a> {
    fn read(item: &Cursor<'a>, split_refused_after: Duration, report: &mut Report) -> Option<Self> {
        if matches!(*item.node, Node::Text(_)) {
            let kind = match kind(item, report)? {
                Type::Pattoo => OutputKind::Pattoo,
                Type::File => {
                    let message = "found file without a path; write {type: file, path: /var/lib/pattoo/readings.jsonl}";
                    report.faults.push(item.diagnostic(message));
                    return None;
                }
            };
            let name = kind.as_str().to_owned();
            let output = OutputConfig { name, kind, split_refused_after, ..OutputConfig::default() };
            return Some(Self { output, named: item.clone(), typed: item.clone(), path: None });
        }
        let Some(entries) = item.entries(report) else {
            report.faults.push(item.unfit(&format!("a type ({}) or a mapping with a type", TYPES.join(", "))));
            return None;
        };
        let of = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
        let Some(typed) = of("type") else {
            report
                .faults
                .push(item.diagnostic(format!("found an output without type; allowed are {}", TYPES.join(", "))));
            return None;
        };
        let kind = kind(typed, report);
        let known: Vec<&str> = match kind {
            Some(Type::Pattoo) => KEYS.to_vec(),
            // Of an unknown type nobody knows the keys.
            Some(Type::File) | None => KEYS.into_iter().chain(FILE_KEYS).collect(),
        };
        let mut name = None;
        let mut start = Start::default();
        let (mut split, mut backoff) = (split_refused_after, MAX_BACKOFF);
        for entry in &entries {
            match entry.key.as_str() {
                "name" => name = Some(self::name(&entry.value, report)),
                "start" => match &*entry.value.node {
                    Node::Text(text) if text == "end" => start = Start::End,
                    Node::Text(text) if text == "beginning" => start = Start::Beginning,
                    _ => report.faults.push(entry.value.unfit("end or beginning")),
                },
                "split_refused_after" => {
                    split = self::split_refused_after(&entry.value, report).unwrap_or(split_refused_after);
                }
                "max_backoff" => backoff = max_backoff(&entry.value, report).unwrap_or(MAX_BACKOFF),
                key if known.contains(&key) || kind.is_none() => {}
                _ => report.faults.push(entry.unknown(&known)),
            }
        }
        let kind = match kind? {
            Type::Pattoo => OutputKind::Pattoo,
            Type::File => OutputKind::File(file(item, &entries, report)?),
        };
        let name = name.unwrap_or_else(|| Some(kind.as_str().to_owned()))?;
        let output = OutputConfig { name, kind, start, split_refused_after: split, max_backoff: backoff };
        let named = of("name").unwrap_or(typed).clone();
        Some(Self { output, named, typed: typed.clone(), path: of("path").cloned() })
    }
}

/// A type that this version has.
#[derive(Clone, Copy)]
enum Type {
    Pattoo,
    File,
}

fn kind(value: &Cursor<'_>, report: &mut Report) -> Option<Type> {
    let Node::Text(text) = &*value.node else {
        report.faults.push(value.unfit(&TYPES.join(", ")));
        return None;
    };
    match text.as_str() {
        "pattoo" => return Some(Type::Pattoo),
        "file" => return Some(Type::File),
        later if LATER_TYPES.contains(&later) => report.faults.push(value.diagnostic(format!(
            "found \"{later}\", a type that this version does not know yet; allowed are {}",
            TYPES.join(", ")
        ))),
        other => {
            let hint = match value.meant(other, &TYPES) {
                Some(word) => format!("did you mean \"{word}\"?"),
                None => format!("allowed are {}", TYPES.join(", ")),
            };
            report.faults.push(value.diagnostic(format!("found {}, an unknown type; {hint}", value.node.shown())));
        }
    }
    None
}

fn name(value: &Cursor<'_>, report: &mut Report) -> Option<String> {
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    match &*value.node {
        Node::Text(text) if (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(fit) => Some(text.clone()),
        _ => {
            report.faults.push(value.unfit("a name of letters, digits, _ and -, at most 64 of them"));
            None
        }
    }
}

/// What the type `file` takes.
fn file(item: &Cursor<'_>, entries: &[Entry<'_>], report: &mut Report) -> Option<FileSettings> {
    let mut path = None;
    let mut format = None;
    let (mut max_bytes, mut keep) = (FILE_BYTES, FILES_KEPT);
    for Entry { key, value, .. } in entries {
        match key.as_str() {
            "path" => path = Some(file_path(value, report)),
            "format" => match &*value.node {
                Node::Text(text) if text == "jsonl" => format = Some(FileFormat::Jsonl),
                Node::Text(text) if text == "csv" => format = Some(FileFormat::Csv),
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
        report.faults.push(item.diagnostic("found an output of type file without a path; it names the file"));
        return None;
    };
    let path = path?;
    let is_csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let format = format.unwrap_or(if is_csv { FileFormat::Csv } else { FileFormat::Jsonl });
    Some(FileSettings { path, format, max_bytes, keep })
}

fn file_path(value: &Cursor<'_>, report: &mut Report) -> Option<PathBuf> {
    const ALLOWED: &str = "the whole path of a file, such as /var/lib/pattoo/readings.jsonl";
    let path = path(value, ALLOWED, report)?;
    let text = path.to_string_lossy();
    if path.is_relative() || text.ends_with('/') || path.file_name().is_none() {
        report.faults.push(value.unfit(ALLOWED));
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
