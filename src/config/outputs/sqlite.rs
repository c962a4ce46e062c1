//! `outputs`, type `sqlite`: readings in a database on this machine.

use super::file::file_path;
use crate::config::yaml::cursor::{Entry, Report};
use crate::outputs::sqlite::SqliteSettings;

/// The default of `path`, in `daemon_directory`: what is there is kept, as the agent id is. A cache may be emptied.
const FILE: &str = "readings.sqlite";

const ALLOWED: &str = "the whole path of a file, such as /var/lib/pattoo/readings.sqlite";

/// What it takes.
pub const KEYS: &[&str] = &["path"];

/// Reads it. What is wrong is in the report.
pub fn read(entries: &[Entry<'_>], report: &mut Report) -> Option<SqliteSettings> {
    let mut path = Some(report.daemon_directory.join(FILE));
    for Entry { key, value, .. } in entries {
        if key == "path" {
            path = file_path(value, ALLOWED, report);
        }
    }
    Some(SqliteSettings { path: path? })
}

/// What is set, key by key, as it is written in the file.
#[must_use]
pub fn shown(SqliteSettings { path }: &SqliteSettings) -> Vec<(&'static str, String)> {
    vec![("path", path.display().to_string())]
}
