//! `outputs`, type `sqlite`: readings in a database on this machine.

use std::time::Duration;

use super::file::file_path;
use crate::config::value::{LONGEST_DURATION, bytes, duration_within};
use crate::config::yaml::cursor::{Entry, Report};
use crate::outputs::sqlite::{Bounds, SqliteSettings};
use crate::text::size;

/// The default of `path`, in `daemon_directory`: what is there is kept, as the agent id is. A cache may be emptied.
const FILE: &str = "readings.sqlite";

/// The default of `max_bytes`: 100 points every 10 s for a year take 8 GB, and the disks of gateways are small.
const DATABASE_BYTES: u64 = 1_000_000_000;

/// In less the journal of a thousand points has no room.
const LEAST_DATABASE_BYTES: u64 = 64_000_000;

const ALLOWED: &str = "the whole path of a file, such as /var/lib/pattoo/readings.sqlite";

/// What it takes.
pub const KEYS: &[&str] = &["path", "max_bytes"];

/// Reads it. What is wrong is in the report.
pub fn read(entries: &[Entry<'_>], report: &mut Report) -> Option<SqliteSettings> {
    let mut path = Some(report.daemon_directory.join(FILE));
    // A size by default: the disk also holds what waits for other outputs.
    let mut bounds = Bounds { max_age: None, max_bytes: DATABASE_BYTES };
    for Entry { key, value, .. } in entries {
        match key.as_str() {
            "path" => path = file_path(value, ALLOWED, report),
            "max_age" => {
                let allowed = Duration::from_secs(3_600)..=LONGEST_DURATION;
                bounds.max_age = duration_within(value, allowed, "a duration such as 365days, from 1h", report);
            }
            "max_bytes" => match bytes(&value.node).filter(|&bytes| bytes >= LEAST_DATABASE_BYTES) {
                Some(bytes) => bounds.max_bytes = bytes,
                None => report.faults.push(value.unfit("a size such as 1GB, from 64MB")),
            },
            _ => {}
        }
    }
    Some(SqliteSettings { path: path?, bounds })
}

/// What is set, key by key, as it is written in the file.
#[must_use]
pub fn shown(SqliteSettings { path, bounds }: &SqliteSettings) -> Vec<(&'static str, String)> {
    let max_age =
        bounds.max_age.map_or_else(|| "no limit".to_owned(), |age| humantime::format_duration(age).to_string());
    vec![("path", path.display().to_string()), ("max_age", max_age), ("max_bytes", size(bounds.max_bytes))]
}
