//! What the outputs on this machine have written: a database and a file of lines, read as any other program would.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rusqlite::{Connection, OpenFlags, Row};
use serde_json::Value;

/// A reading that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The device as it is spelled in the configuration.
    pub device: String,
    /// The unit id.
    pub unit: u8,
    /// The key of the register.
    pub key: String,
    /// The value.
    pub value: f64,
    /// When it was read, in milliseconds since 1970.
    pub at: u64,
}

/// What is in a database, by time; nothing while there is none.
pub fn in_database(path: &Path) -> Vec<Kept> {
    let Ok(database) = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY) else { return Vec::new() };
    let query = "SELECT device, unit, key, CAST(value AS REAL), ms FROM history ORDER BY ms";
    // Before the first post there is no table.
    let Ok(mut rows) = database.prepare(query) else { return Vec::new() };
    let kept = |row: &Row<'_>| {
        let at = row.get::<_, i64>(4)?.unsigned_abs();
        Ok(Kept { device: row.get(0)?, unit: row.get(1)?, key: row.get(2)?, value: row.get(3)?, at })
    };
    rows.query_map((), kept).expect("rows").map(|row| row.expect("a row as it was written")).collect()
}

/// What is in a file and those that it was rotated to, in the order in which it was written, and how often something came again:
/// a kill leaves lines that the next life writes again, one after another. It may also leave the end of a line, which that cuts off.
pub fn in_file(newest: &Path) -> (Vec<Kept>, usize) {
    let older = |age: u32| PathBuf::from(format!("{}.{age}", newest.display()));
    let mut paths = vec![newest.to_owned()];
    while let Some(path) = u32::try_from(paths.len()).ok().map(older).filter(|path| path.exists()) {
        paths.push(path);
    }
    let (mut known, mut kept, mut repeats, mut repeated) = (HashSet::new(), Vec::new(), 0, false);
    for path in paths.into_iter().rev() {
        let text = fs::read_to_string(path).unwrap_or_default();
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let is_new = known.insert(line.to_owned());
            repeats += usize::from(!is_new && !repeated);
            repeated = !is_new;
            if is_new {
                kept.push(of_line(line).unwrap_or_else(|| panic!("not a reading: {line}")));
            }
        }
    }
    (kept, repeats)
}

fn of_line(line: &str) -> Option<Kept> {
    let line: Value = serde_json::from_str(line).ok()?;
    let at = humantime::parse_rfc3339(line["time"].as_str()?).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Kept {
        device: line["device"].as_str()?.to_owned(),
        unit: u8::try_from(line["unit"].as_u64()?).ok()?,
        key: line["key"].as_str()?.to_owned(),
        value: line["value"].as_f64()?,
        at: u64::try_from(at.as_millis()).ok()?,
    })
}
