//! The database: one row for each point, one for each reading (in two tables, see [`upkeep`](super::upkeep)), and the view
//! `history` for people.
//!
//! - A point is known by agent, device, unit id, key, kind and unit of measurement. Names, group, tags and texts are labels:
//!   whoever changes them finds all of the point's history under the new ones. A number stays in the unit in which it was read.
//! - A reading is known by point and time. One that comes again is there already: a post may be repeated after a kill, or after an
//!   answer that nobody waited for.
//! - A post is one transaction, durable when it is acknowledged (WAL, `synchronous=FULL`). Others read meanwhile.
//! - What is not ours is not touched: `application_id` says whose the file is, `user_version` the version of its tables.
//!
//! After any failure it is opened anew, so that it goes on by itself when the cause is gone. A file that was moved away or
//! removed is noticed: what is acknowledged is in it, and a new one is made. One that somebody has emptied begins anew.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSql, ToSqlOutput};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::error::DatabaseError;
use super::upkeep::{Bounds, Deleted, Upkeep};
use super::{Number, Point, Post};
use crate::files::regular;

/// "ptto": whose the file is.
const APPLICATION_ID: i64 = 0x7074_746f;

/// The version of the tables.
const VERSION: i64 = 1;

/// So long another program is waited for that writes; then the delivery waits, which costs no thread.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// The journal is cut down to this after a large transaction.
const JOURNAL_BYTES: i64 = 4 << 20;

/// Of the value no type is declared: so an integer stays an integer and a float a float.
const TABLES: &str = "
CREATE TABLE points (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    device TEXT NOT NULL,
    unit INTEGER NOT NULL,
    key TEXT NOT NULL,
    kind TEXT NOT NULL,
    unit_of_measurement TEXT NOT NULL,
    device_name TEXT NOT NULL,
    name TEXT NOT NULL,
    group_name TEXT NOT NULL,
    tags TEXT,
    texts TEXT,
    UNIQUE (agent, device, unit, key, kind, unit_of_measurement)
);
CREATE TABLE recent (
    ms INTEGER NOT NULL,
    point INTEGER NOT NULL REFERENCES points,
    value NOT NULL,
    PRIMARY KEY (ms, point)
) WITHOUT ROWID;
CREATE TABLE readings (
    point INTEGER NOT NULL REFERENCES points,
    ms INTEGER NOT NULL,
    value NOT NULL,
    PRIMARY KEY (point, ms)
) WITHOUT ROWID;
CREATE TABLE moved (until_ms INTEGER NOT NULL);
INSERT INTO moved VALUES (-1);
";

/// What people query. A join keeps to the order in which it is written (CROSS JOIN): it begins with the points, which are few, and
/// finds the readings of each by the primary key. Of the recent readings it begins with these.
const HISTORY: &str = "
CREATE VIEW history AS
SELECT COLUMNS FROM points CROSS JOIN readings ON readings.point = points.id
UNION ALL
SELECT COLUMNS FROM recent CROSS JOIN points ON points.id = recent.point;
";

const COLUMNS: &str = "
    strftime('%Y-%m-%dT%H:%M:%fZ', ms / 1000.0, 'unixepoch') AS time,
    device_name,
    name,
    value,
    nullif(unit_of_measurement, '') AS unit_of_measurement,
    json_extract(texts, CASE
        WHEN typeof(value) = 'integer' OR abs(value) <= 9007199254740992.0 AND value = CAST(value AS INTEGER)
        THEN '$.\"' || CAST(value AS INTEGER) || '\"' END) AS text,
    group_name,
    tags,
    device,
    unit,
    key,
    ms,
    point";

const FIND_POINT: &str = "SELECT id FROM points WHERE agent = ?1 AND device = ?2 AND unit = ?3 AND key = ?4 AND kind = ?5 \
    AND unit_of_measurement = ?6 AND (device_name, name, group_name, tags, texts) IS (?7, ?8, ?9, ?10, ?11)";

const LABEL_POINT: &str = "INSERT INTO points (agent, device, unit, key, kind, unit_of_measurement, device_name, name, \
    group_name, tags, texts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
    ON CONFLICT (agent, device, unit, key, kind, unit_of_measurement) DO UPDATE SET device_name = excluded.device_name, \
    name = excluded.name, group_name = excluded.group_name, tags = excluded.tags, texts = excluded.texts RETURNING id";

/// What was moved is not looked for unless the reading is as old, which no new one is.
const INSERT_READING: &str = "INSERT INTO recent SELECT ?1, ?2, ?3 WHERE ?1 > ?4 OR NOT EXISTS \
    (SELECT 1 FROM readings WHERE point = ?2 AND ms = ?1) ON CONFLICT DO NOTHING";

/// A database, opened when it is written to.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    bounds: Bounds,
    open: Option<Open>,
    deleted: Deleted,
}

#[derive(Debug)]
struct Open {
    connection: Connection,
    /// Device and inode of the file.
    file: (u64, u64),
    upkeep: Upkeep,
}

impl Database {
    /// The database at `path`, in which no more than `bounds` is kept; nothing is opened yet.
    pub fn new(path: PathBuf, bounds: Bounds) -> Self {
        Self { path, bounds, open: None, deleted: Deleted::default() }
    }

    /// Writes `post`. When this returns, it is durable in the file that is at the path.
    ///
    /// # Errors
    /// When it is not known to be; it can be written again.
    pub fn write(&mut self, post: &Post) -> Result<(), DatabaseError> {
        let moved = self.open.take_if(|open| !open.is_at(&self.path));
        // Once more if it is moved meanwhile.
        for left in [moved, None] {
            if let Some(open) = left {
                open.leave(&self.path);
            }
            // Taken, so that it is opened anew after a failure.
            let mut open = self.open.take().map_or_else(|| Open::at(&self.path), Ok)?;
            // Before the post: what fails here is told as its failure.
            open.upkeep.step(&mut open.connection, &self.path, self.bounds, &mut self.deleted)?;
            open.insert(post)?;
            if open.is_at(&self.path) {
                self.open = Some(open);
                return Ok(());
            }
            open.leave(&self.path);
        }
        Err(DatabaseError::Moved)
    }
}

impl Open {
    fn at(path: &Path) -> Result<Self, DatabaseError> {
        // Not by SQLite, which would follow a link, and let everybody read a new file.
        let file = regular::open_or_make(path).and_then(|file| file.metadata()).map_err(DatabaseError::Open)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let is_new = is_new(&connection)?;
        if is_new {
            // Before anything is in it.
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_size_limit", JOURNAL_BYTES)?;
        if is_new {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // Another agent may have been faster.
            if self::is_new(&transaction)? {
                transaction.execute_batch(TABLES)?;
                transaction.execute_batch(&HISTORY.replace("COLUMNS", COLUMNS))?;
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
                transaction.commit()?;
            }
        }
        let upkeep = Upkeep::of(&connection)?;
        Ok(Self { connection, file: (file.dev(), file.ino()), upkeep })
    }

    /// Whether what is written is found at `path`.
    fn is_at(&self, path: &Path) -> bool {
        self.length_at(path).is_some_and(|length| length > 0)
    }

    /// How long the file is, if it is at `path`; one that was opened has a page at least.
    fn length_at(&self, path: &Path) -> Option<u64> {
        let found = std::fs::metadata(path).ok()?;
        ((found.dev(), found.ino()) == self.file).then_some(found.len())
    }

    /// Closes a file that has another name now, or none: all of it is in the file itself first. Its journal has kept the name.
    fn leave(self, path: &Path) {
        if self.length_at(path) == Some(0) {
            // The journal has only some of its pages, of which no database can be made.
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).ok();
        } else if let Err(error) = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::debug!("the database that was moved has a journal left: {error}");
        }
    }

    fn insert(&mut self, post: &Post) -> Result<(), DatabaseError> {
        // Immediate: one that reads first is refused at its first write, without the busy timeout, if another program
        // has written in between.
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let points = ids(&transaction, post)?;
        let moved: i64 = transaction.query_row("SELECT until_ms FROM moved", (), |row| row.get(0))?;
        let mut insert = transaction.prepare(INSERT_READING)?;
        for (place, ms, value) in &post.readings {
            insert.execute(params![ms, points.get(*place), value, moved])?;
        }
        drop(insert);
        transaction.commit()?;
        self.upkeep.added(post.readings.len());
        Ok(())
    }
}

/// Whether nothing is in it.
fn is_new(connection: &Connection) -> Result<bool, DatabaseError> {
    // In one statement, so that another agent that makes the tables meanwhile is seen whole or not at all.
    let all = "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master) FROM pragma_application_id, \
               pragma_user_version";
    let number = |row: &rusqlite::Row<'_>, place| row.get::<_, i64>(place);
    let (program, version, tables) =
        connection.query_row(all, (), |row| Ok((number(row, 0)?, number(row, 1)?, number(row, 2)?)))?;
    match (program, version) {
        (APPLICATION_ID, VERSION) => Ok(false),
        (APPLICATION_ID, version) => Err(DatabaseError::Newer(version)),
        (0, 0) if tables == 0 => Ok(true),
        _ => Err(DatabaseError::OtherProgram),
    }
}

/// The row of each point of `post`; what has other labels now gets them.
fn ids(transaction: &Transaction<'_>, post: &Post) -> Result<Vec<i64>, DatabaseError> {
    let (mut find, mut label) = (transaction.prepare(FIND_POINT)?, transaction.prepare(LABEL_POINT)?);
    let mut id = |point: &Point| {
        let Point { device, unit, key, kind, unit_of_measurement, device_name, name, group_name, tags, texts } = point;
        let of = params![
            post.agent,
            device,
            unit,
            key,
            kind,
            unit_of_measurement,
            device_name,
            name,
            group_name,
            tags,
            texts
        ];
        let found = find.query_row(of, |row| row.get(0)).optional()?;
        found.map_or_else(|| Ok(label.query_row(of, |row| row.get(0))?), Ok)
    };
    post.points.iter().map(&mut id).collect()
}

impl ToSql for Number {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match *self {
            Self::Integer(value) => value.into(),
            Self::Float(value) => value.into(),
        })
    }
}
