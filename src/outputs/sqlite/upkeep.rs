//! Upkeep of the database, in small steps between posts: new readings get their place, the oldest go.
//!
//! - A post is appended to `recent`, which is in order of time. To put each reading in its place in `readings`, which is in order
//!   of point and time, would write a page of 4 KiB for each point of each poll. So many at once share the pages: [`PER_POINT`] of
//!   each point are moved together.
//! - What is older than `max_age` is deleted, counted from the newest reading: a clock that is wrong deletes nothing. While the file
//!   is over its part of `max_bytes`, so are the oldest readings. Free pages are used again, and those beyond the bound given back.
//! - The rest of `max_bytes` is the journal's. One that grows beyond it, because another program reads and does not end, is a
//!   failure: the file is not to fill the disk.
//!
//! Nothing is deleted for want of space on the disk: that is a failure, and the readings wait in the log.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::error::DatabaseError;
use crate::logging::throttle::LogThrottle;
use crate::text::size;
use crate::time::clock;

/// So many readings of each point are moved to their place at once.
const PER_POINT: i64 = 128;

/// Fewer are not worth the move, however few points there are; more would keep a post waiting.
const MOVED_AT_ONCE: (i64, i64) = (2_000, 100_000);

/// So many readings are deleted at most between two posts, in some ten milliseconds: twice as many as a post can bring.
const DELETED_AT_ONCE: i64 = 40_000;

/// What a reading takes in the file.
const BYTES_OF_A_READING: i64 = 25;

/// So many pages are given back at most between two posts.
const PAGES_AT_ONCE: i64 = 1_000;

// Another agent that shares the file may have moved everything: then max(ms) is NULL, which may not be written.
const MOVE: &str = "
INSERT INTO readings SELECT point, ms, value FROM recent WHERE true ORDER BY point, ms ON CONFLICT DO NOTHING;
UPDATE moved SET until_ms = max(until_ms, (SELECT coalesce(max(ms), until_ms) FROM recent));
DELETE FROM recent;
";

/// Of one point, those before a time, the oldest so many.
const DELETE: &str = "DELETE FROM readings WHERE point = ?1 AND ms < coalesce(\
    (SELECT ms FROM readings WHERE point = ?1 AND ms < ?2 ORDER BY ms LIMIT 1 OFFSET ?3), ?2)";

const OLDEST: &str = "SELECT coalesce(min((SELECT min(ms) FROM readings WHERE point = points.id)), 0) FROM points";

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// No reading is older than this before the newest.
    pub max_age: Option<Duration>,
    /// The file and its journal are not larger together.
    pub max_bytes: u64,
}

impl Bounds {
    /// The part of the journal.
    fn journal(self) -> u64 {
        self.max_bytes / 8
    }

    /// The part of the file.
    fn file(self) -> i64 {
        i64::try_from(self.max_bytes - self.journal()).unwrap_or(i64::MAX)
    }
}

/// What is to be done to an open database.
#[derive(Debug)]
pub struct Upkeep {
    /// Rows in `recent`, if nobody else has moved them.
    recent: i64,
    /// So many are moved.
    move_at: i64,
    /// Some that are too many are still there.
    too_many: bool,
}

/// What was deleted.
#[derive(Debug, Default)]
pub struct Deleted {
    rows: u64,
    before: i64,
    throttle: LogThrottle,
}

impl Upkeep {
    /// Of the database of `connection`, which may have been left by another life.
    pub fn of(connection: &Connection) -> Result<Self, DatabaseError> {
        let points = number(connection, "SELECT count(*) FROM points")?;
        let recent = number(connection, "SELECT count(*) FROM recent")?;
        let (least, most) = MOVED_AT_ONCE;
        Ok(Self { recent, move_at: (points * PER_POINT).clamp(least, most), too_many: true })
    }

    /// So many readings were appended.
    pub fn added(&mut self, readings: usize) {
        self.recent += i64::try_from(readings).unwrap_or(i64::MAX);
    }

    /// Does what is due, with the file at `path`.
    ///
    /// # Errors
    /// When the database says no, or another program hinders the journal from being emptied.
    pub fn step(
        &mut self,
        connection: &mut Connection,
        path: &Path,
        bounds: Bounds,
        deleted: &mut Deleted,
    ) -> Result<(), DatabaseError> {
        if self.recent >= self.move_at {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(MOVE)?;
            transaction.commit()?;
            *self = Self::of(connection)?;
            check_journal(connection, path, bounds)?;
        }
        if self.too_many {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let rows = deleted.delete(&transaction, bounds)?;
            transaction.commit()?;
            // Once nothing is found, it is looked again after the next move: `of` sets it.
            self.too_many = rows > 0 || give_back(connection, bounds)?;
        }
        deleted.tell(path, bounds);
        check_journal(connection, path, bounds)
    }
}

/// Gives back some of the free pages that are beyond the file's part; whether there were some.
fn give_back(connection: &Connection, bounds: Bounds) -> Result<bool, DatabaseError> {
    let pages = |what| number(connection, what);
    let most = bounds.file() / pages("PRAGMA page_size")?;
    let beyond = (pages("PRAGMA page_count")? - most).min(pages("PRAGMA freelist_count")?).min(PAGES_AT_ONCE);
    if beyond > 0 {
        // A row for each page.
        let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({beyond})"))?;
        let mut pages = vacuum.query(())?;
        while pages.next()?.is_some() {}
    }
    Ok(beyond > 0)
}

impl Deleted {
    /// Deletes some of what is too old or too much; returns how many readings.
    fn delete(&mut self, transaction: &Transaction<'_>, bounds: Bounds) -> Result<i64, DatabaseError> {
        let number = |sql| number(transaction, sql);
        let newest = number("SELECT until_ms FROM moved")?;
        let mut rows = 0;
        if let Some(age) = bounds.max_age.and_then(|age| i64::try_from(age.as_millis()).ok()) {
            rows += self.delete_before(transaction, newest.saturating_sub(age), DELETED_AT_ONCE)?;
        }
        while rows < DELETED_AT_ONCE {
            let pages = number("PRAGMA page_count")? - number("PRAGMA freelist_count")?;
            let used = pages * number("PRAGMA page_size")?;
            if used <= bounds.file() {
                break;
            }
            // The oldest of all points: a short span of time, so that no point loses much more of its past than another.
            let oldest = number(OLDEST)?;
            let spans = used / (BYTES_OF_A_READING * DELETED_AT_ONCE / 8) + 1;
            let before = oldest + (newest - oldest) / spans + 1;
            match self.delete_before(transaction, before, DELETED_AT_ONCE - rows)? {
                0 => break,
                more => rows += more,
            }
        }
        Ok(rows)
    }

    /// Deletes the readings before a time, so many at most; returns how many.
    fn delete_before(&mut self, transaction: &Transaction<'_>, before: i64, most: i64) -> Result<i64, DatabaseError> {
        let (mut points, mut delete) = (transaction.prepare("SELECT id FROM points")?, transaction.prepare(DELETE)?);
        let (mut points, mut rows) = (points.query(())?, 0);
        while rows < most
            && let Some(point) = points.next()?
        {
            let more = delete.execute(params![point.get::<_, i64>(0)?, before, most - rows])?;
            rows += i64::try_from(more).unwrap_or(most);
        }
        self.rows += rows.unsigned_abs();
        self.before = self.before.max(before);
        Ok(rows)
    }

    /// Tells of it, once in a while.
    fn tell(&mut self, path: &Path, bounds: Bounds) {
        let rows = std::mem::take(&mut self.rows);
        let Some(rows) = self.throttle.add(rows, clock::boot()) else { return };
        let before = UNIX_EPOCH + Duration::from_millis(self.before.unsigned_abs());
        let age = bounds.max_age.map(|age| format!("max_age ({}), ", humantime::format_duration(age)));
        tracing::info!(
            "deleted {rows} readings of before {} from {}: {}max_bytes ({})",
            humantime::format_rfc3339_seconds(before),
            path.display(),
            age.unwrap_or_default(),
            size(bounds.max_bytes)
        );
    }
}

/// Empties the journal of the file at `path` when it is about to outgrow its part.
///
/// # Errors
/// When the database says no, or another program hinders it.
fn check_journal(connection: &Connection, path: &Path, bounds: Bounds) -> Result<(), DatabaseError> {
    let mut journal = path.as_os_str().to_owned();
    journal.push("-wal");
    // The other half is for the next post.
    let most = bounds.journal() / 2;
    if std::fs::metadata(journal).map_or(0, |journal| journal.len()) <= most {
        return Ok(());
    }
    match number(connection, "PRAGMA wal_checkpoint(TRUNCATE)")? {
        0 => Ok(()),
        _ => Err(DatabaseError::Journal(size(most))),
    }
}

fn number(connection: &Connection, sql: &str) -> Result<i64, DatabaseError> {
    Ok(connection.query_row(sql, (), |row| row.get(0))?)
}
