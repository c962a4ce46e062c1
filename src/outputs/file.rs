//! Readings as lines of a file: JSON objects, or CSV under a header.
//!
//! A line says time (RFC 3339, UTC, milliseconds), device, unit, key, name, value, unit of measurement, group, the name of the
//! device, the text for the value, and tags (in CSV as JSON). A post is
//! appended and made durable before it counts, by a thread that may wait for the disk ([`Appended`]). Every failure is one
//! to try again after: a disk does not refuse readings.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Map, Number, Value as Json};

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
            text.extend_from_slice(line(&values, self.0).as_bytes());
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

/// What stands in the columns; `None` when the value is no number or the time no date.
fn values(point: Point<'_>, reading: &Reading) -> Option<[Json; 11]> {
    let Point { device, register } = point;
    let value = match reading.value {
        Value::Integer(value) => value.into(),
        Value::Float(value) => Number::from_f64(value)?,
    };
    let time = (reading.at < Timestamp::NO_DATE).then(|| reading.at.rfc3339().to_string())?;
    let [device_text, key, group] = [&device.device, &register.key, &device.group].map(|text| text.as_str().into());
    let [name, unit_of_measurement, device_name] =
        [&register.name, &register.unit_of_measurement, &device.name].map(|text| text.clone().into());
    let text = point.text_of(reading.value).into();
    let tags: Map<String, Json> = point.tags().map(|(key, value)| (key.to_owned(), value.into())).collect();
    let tags = if tags.is_empty() { Json::Null } else { tags.into() };
    let (unit, value) = (device.unit.into(), value.into());
    Some([time.into(), device_text, unit, key, name, value, unit_of_measurement, group, device_name, text, tags])
}

fn line(values: &[Json; 11], format: Format) -> String {
    if format == Format::Csv {
        return values.each_ref().map(cell).join(",") + "\n";
    }
    let said = COLUMNS.split(',').zip(values).filter(|(_, value)| !value.is_null());
    let members: Vec<_> = said.map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}\n", members.join(","))
}

/// A value as it stands in CSV.
fn cell(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) if text.contains(['"', ',', '\n', '\r']) => quoted(text),
        Json::String(text) => text.clone(),
        Json::Object(_) => quoted(&value.to_string()),
        number => number.to_string(),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
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
        let header = if format == Format::Csv { format!("{COLUMNS}\n") } else { String::new() };
        let file = Appended::new(path.clone(), header, max_bytes, keep);
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
