//! What the database says of one point over the last days, for plots: read by a connection of its own that can write nothing.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};

use super::error::DatabaseError;
use crate::reading::{Timestamp, millis};

/// So long a database is waited for that is being made or moved.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// The mean of each step. A join keeps to the order in which it is written: the readings of a point are found by the primary key;
/// of the recent ones, which are few, it begins with the time.
const MEANS: &str = "
SELECT (ms - ?5) / ?7, avg(value) FROM (
    SELECT ms, value FROM points CROSS JOIN readings ON readings.point = points.id
    WHERE agent = ?1 AND device = ?2 AND unit = ?3 AND key = ?4 AND ms >= ?5 AND ms < ?6
    UNION ALL
    SELECT ms, value FROM recent CROSS JOIN points ON points.id = recent.point
    WHERE agent = ?1 AND device = ?2 AND unit = ?3 AND key = ?4 AND ms >= ?5 AND ms < ?6
) GROUP BY 1";

/// The database of an output, to be read.
#[derive(Debug, Clone)]
pub struct History {
    /// The file.
    pub path: PathBuf,
}

/// Which point is asked for.
#[derive(Debug, Clone, Copy)]
pub struct PointKey<'a> {
    /// The agent id.
    pub agent: &'a str,
    /// The device as configured.
    pub device: &'a str,
    /// The unit id.
    pub unit: u8,
    /// Table, reference number and part as one word.
    pub key: &'a str,
}

impl History {
    /// The means of `count` steps of the time up to `until`, the oldest first; `None` for a step without a reading. Waits for the
    /// disk.
    ///
    /// # Errors
    /// When the file is none of this output, or cannot be read.
    pub fn means(
        &self,
        point: PointKey<'_>,
        until: Timestamp,
        back: Duration,
        count: u32,
    ) -> Result<Vec<Option<f64>>, DatabaseError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let mut means = vec![None; count as usize];
        let whole = |millis: u64| i64::try_from(millis).unwrap_or(i64::MAX);
        let (from, until) = (whole(until.before(back).as_millis()), whole(until.as_millis()));
        let step = (whole(millis(back)) / i64::from(count.max(1))).max(1);
        let PointKey { agent, device, unit, key } = point;
        let mut statement = connection.prepare(MEANS)?;
        let mut rows = statement.query(params![agent, device, unit, key, from, until, step])?;
        while let Some(row) = rows.next()? {
            let (place, mean): (i64, f64) = (row.get(0)?, row.get(1)?);
            if let Some(to) = usize::try_from(place).ok().and_then(|place| means.get_mut(place)) {
                *to = Some(mean);
            }
        }
        Ok(means)
    }
}
