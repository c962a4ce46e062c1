//! Readings as lines of a file: JSON objects, or CSV under a header.
//!
//! A line says time (RFC 3339, UTC, milliseconds), device, unit, key, name, value, unit of measurement, group, the name of the
//! device, the text for the value, and tags (in CSV as JSON). A post is
//! appended and made durable before it counts, by a thread that may wait for the disk ([`Appended`]). Every failure is one
//! to try again after: a disk does not refuse readings.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Number, json};

use super::{Answer, Deliver, Encode, Encoded, Failure, LocalFuture, Verdict};
use crate::files::appended::Appended;
use crate::reading::points::{Point, PointTable};
use crate::reading::{Reading, Timestamp, Value};

/// How readings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A JSON object a line.
    #[default]
    Jsonl,
    /// Comma-separated values (RFC 4180), with a header.
    Csv,
}

/// What the configuration says of such an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// The file.
    pub path: PathBuf,
    /// How readings are written.
    pub format: Format,
    /// No file is larger, unless one post is.
    pub max_bytes: u64,
    /// So many older files are kept beside it: `<path>.1` and so on.
    pub keep: u32,
}

/// What stands in a line, in this order; the header of a CSV.
pub const COLUMNS: &str = "time,device,unit,key,name,value,unit_of_measurement,group,device_name,text,tags";

/// Makes lines.
#[derive(Debug, Clone, Copy)]
pub struct FileEncode(pub Format);

impl Encode for FileEncode {
    fn encode(&mut self, table: &Arc<PointTable>, readings: &[Reading], room: usize, _: Timestamp) -> Encoded {
        let (mut text, mut taken, mut lines) = (Vec::new(), 0, 0);
        for reading in readings {
            taken += 1;
            let Some(values) = table.get(reading.point).and_then(|point| values(point, reading)) else { continue };
            line(&values, self.0, &mut text);
            lines += 1;
            if text.len() + text.len() / lines > room {
                break;
            }
        }
        Encoded { body: (lines > 0).then(|| text.into()), taken, not_sendable: taken - lines, stamp: None }
    }

    fn extension(&self) -> &'static str {
        if self.0 == Format::Csv { "csv" } else { "jsonl" }
    }
}

/// What stands in a column.
#[derive(Serialize)]
#[serde(untagged)]
enum Cell<'a> {
    Nothing,
    Number(Number),
    Text(Cow<'a, str>),
    Tags(BTreeMap<&'a str, &'a str>),
}

/// What stands in the columns; `None` when the value is no number or the time no date.
fn values<'a>(point: Point<'a>, reading: &Reading) -> Option<[Cell<'a>; 11]> {
    let Point { device, register } = point;
    let value = match reading.value {
        Value::Integer(value) => value.into(),
        Value::Float(value) => Number::from_f64(value)?,
    };
    let text = |text: Option<&'a str>| text.map_or(Cell::Nothing, |text| Cell::Text(text.into()));
    let time = (reading.at < Timestamp::NO_DATE).then(|| reading.at.rfc3339().to_string())?;
    let tags: BTreeMap<_, _> = point.tags().collect();
    Some([
        Cell::Text(time.into()),
        text(Some(&device.device)),
        Cell::Number(device.unit.into()),
        text(Some(&register.key)),
        text(register.name.as_deref()),
        Cell::Number(value),
        text(register.unit_of_measurement.as_deref()),
        text(Some(&device.group)),
        text(device.name.as_deref()),
        text(point.text_of(reading.value)),
        if tags.is_empty() { Cell::Nothing } else { Cell::Tags(tags) },
    ])
}

fn line(values: &[Cell<'_>; 11], format: Format, to: &mut Vec<u8>) {
    if format == Format::Csv {
        to.extend_from_slice(values.each_ref().map(cell).join(",").as_bytes());
        return to.push(b'\n');
    }
    let mut separator = '{';
    for (name, value) in COLUMNS.split(',').zip(values).filter(|(_, value)| !matches!(value, Cell::Nothing)) {
        // Into memory, and every key is text: it cannot fail.
        write!(to, "{separator}\"{name}\":").and_then(|()| Ok(serde_json::to_writer(&mut *to, value)?)).ok();
        separator = ',';
    }
    to.extend_from_slice(b"}\n");
}

/// A value as it stands in CSV.
fn cell(value: &Cell<'_>) -> String {
    let text = match value {
        Cell::Nothing => String::new(),
        Cell::Text(text) => text.to_string(),
        other => json!(other).to_string(),
    };
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// Appends posts.
#[derive(Debug)]
pub struct FileDeliver {
    path: PathBuf,
    /// A post that nobody waits for any more may still be on its way to the disk: the next one waits for it.
    file: Arc<Mutex<Appended>>,
}

impl FileDeliver {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(FileSettings { path, format, max_bytes, keep }: FileSettings) -> Self {
        let (header, opening) = match format {
            Format::Csv => (format!("{COLUMNS}\n"), COLUMNS),
            Format::Jsonl => (String::new(), "{"),
        };
        let file = Appended::new(path.clone(), header, opening, max_bytes, keep);
        Self { path, file: Arc::new(Mutex::new(file)) }
    }
}

impl Deliver for FileDeliver {
    fn post(&mut self, body: Bytes) -> LocalFuture<'_, Answer> {
        let file = Arc::clone(&self.file);
        let append = move || file.lock().unwrap_or_else(PoisonError::into_inner).append(body);
        Box::pin(async move {
            let written =
                tokio::task::spawn_blocking(append).await.unwrap_or_else(|error| Err(io::Error::other(error)));
            let text = |error| format!("cannot append to {}: {error}", self.path.display());
            let verdict = Verdict::Later { after: None, late: false };
            let result = written.map_err(|error| Failure::new(verdict, "write", text(error)));
            Answer { result, server_time: None }
        })
    }
}

#[cfg(test)]
mod tests;
