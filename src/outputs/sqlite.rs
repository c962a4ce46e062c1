//! Readings in a `SQLite` database on this machine, for whoever has no server.
//!
//! A post holds readings and what their points are, as JSON: it needs no configuration to be understood, nor does what is set
//! aside. `database` writes each post in one transaction, by a thread that may wait for the disk, and a post that comes again
//! adds nothing. Every failure is one to try again after: what a person must mend is told as refused, and nothing is dropped.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::database::Database;
pub use self::error::DatabaseError;
pub use self::history::{History, PointKey};
pub use self::upkeep::Bounds;
use super::{Answer, Deliver, Encode, Encoded, LocalFuture};
use crate::reading::points::{self, Kind, PointTable};
use crate::reading::{Reading, Timestamp, Value};

mod database;
mod error;
mod history;
mod upkeep;

/// What the configuration says of such an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteSettings {
    /// The file.
    pub path: PathBuf,
    /// How much is kept in it.
    pub bounds: Bounds,
}

/// What a reading takes in a post at most.
const BYTES_OF_A_READING: usize = 48;

/// A post: readings, and what their points are.
#[derive(Debug, Serialize, Deserialize)]
struct Post {
    agent: String,
    points: Vec<Point>,
    /// Place in `points`, milliseconds since 1970 in UTC, value.
    readings: Vec<(usize, i64, Number)>,
}

/// A value: integers stay integers, floats floats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Integer(i64),
    Float(f64),
}

/// A point: by what it is known, then what people may call otherwise at any time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    device: String,
    unit: u8,
    key: String,
    kind: String,
    /// Empty where there is none. A number stays in the unit in which it was read.
    unit_of_measurement: String,
    device_name: String,
    name: String,
    group_name: String,
    /// A JSON object.
    tags: Option<String>,
    /// What values mean: a JSON object.
    texts: Option<String>,
}

impl From<points::Point<'_>> for Point {
    fn from(point: points::Point<'_>) -> Self {
        let points::Point { device, register } = point;
        Self {
            device: device.device.clone(),
            unit: device.unit,
            key: register.key.clone(),
            kind: kind(register.kind).to_owned(),
            unit_of_measurement: register.unit_of_measurement.clone().unwrap_or_default(),
            device_name: point.device_name().to_owned(),
            name: point.name().to_owned(),
            group_name: device.group.clone(),
            tags: object(point.tags()),
            texts: object(register.values.iter().map(|(value, text)| (value, &**text))),
        }
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Integer => "integer",
        Kind::Float => "float",
        Kind::Counter => "counter",
        Kind::Counter64 => "counter64",
    }
}

/// A JSON object; `None` where nothing would be in it.
fn object<'a, K: Ord + Serialize>(entries: impl Iterator<Item = (K, &'a str)>) -> Option<String> {
    let entries: BTreeMap<K, &str> = entries.collect();
    if entries.is_empty() { None } else { serde_json::to_string(&entries).ok() }
}

/// Makes posts.
#[derive(Debug, Clone, Copy)]
pub struct SqliteEncode;

impl Encode for SqliteEncode {
    fn encode(&mut self, table: &Arc<PointTable>, readings: &[Reading], room: usize, _: Timestamp) -> Encoded {
        let mut post = Post { agent: table.agent_id().to_owned(), points: Vec::new(), readings: Vec::new() };
        let (mut places, mut taken, mut bytes) = (HashMap::new(), 0, 0);
        for Reading { point, at, value } in readings {
            taken += 1;
            let value = match *value {
                Value::Integer(value) => Number::Integer(value),
                Value::Float(value) if value.is_finite() => Number::Float(value),
                Value::Float(_) => continue,
            };
            // The date functions of SQLite cannot say it either.
            let Some(ms) = i64::try_from(at.as_millis()).ok().filter(|_| *at < Timestamp::NO_DATE) else { continue };
            let Some(found) = table.get(*point) else { continue };
            let place = match places.entry(*point) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    let row = Point::from(found);
                    bytes += serde_json::to_vec(&row).map_or(0, |text| text.len());
                    post.points.push(row);
                    *new.insert(post.points.len() - 1)
                }
            };
            post.readings.push((place, ms, value));
            bytes += BYTES_OF_A_READING;
            if bytes + bytes / post.readings.len() > room {
                break;
            }
        }
        let sent = post.readings.len();
        let body = serde_json::to_vec(&post).ok().filter(|_| sent > 0).map(Bytes::from);
        Encoded { body, taken, not_sendable: taken - sent, stamp: None }
    }

    fn extension(&self) -> &'static str {
        "json"
    }
}

/// Writes posts.
#[derive(Debug)]
pub struct SqliteDeliver {
    path: PathBuf,
    /// A post that nobody waits for any more may still be on its way to the disk: the next one waits for it.
    database: Arc<Mutex<Database>>,
}

impl SqliteDeliver {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(SqliteSettings { path, bounds }: SqliteSettings) -> Self {
        Self { path: path.clone(), database: Arc::new(Mutex::new(Database::new(path, bounds))) }
    }
}

impl Deliver for SqliteDeliver {
    fn post(&mut self, body: Bytes) -> LocalFuture<'_, Answer> {
        let database = Arc::clone(&self.database);
        let path = self.path.clone();
        let write = move || {
            let post = serde_json::from_slice(&body)?;
            // After a panic nothing is open: `write` has taken the connection out, and what was not committed is rolled
            // back.
            database.lock().unwrap_or_else(PoisonError::into_inner).write(&post)
        };
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(error.into()));
            Answer { result: written.map_err(|error| error.failure(&path)), server_time: None }
        })
    }
}

#[cfg(test)]
mod tests;
