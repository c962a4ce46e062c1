//! What the log is asked to do and what it answers: the words between the pipeline, which decides, and the
//! `Log`, which waits for the disk on a thread of its own (or, in a simulation, is a call).
//!
//! Plain data. One job is under way at a time, in the order in which they were given.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::SpoolError;
use super::batch::{Batch, HoldoverId, Position};
use super::limits::Limits;
use crate::digest::sha256;
use crate::reading::{Timestamp, millis};
use crate::time::timeline::Stamp;

/// How far an output has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The number of the next reading to deliver.
    pub position: Position,
    /// The greatest stamp that a post of this output had; 0 for outputs whose posts have none.
    pub stamp: Timestamp,
}

/// A time in which the clock was not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdover {
    /// As batches name it.
    pub id: HoldoverId,
    /// Of which boot its stamps are.
    pub boot_id: String,
    /// The boot time at which it began.
    pub since: Duration,
    /// What to add to a time since boot to get the time since the epoch; `None` while nobody knows.
    pub offset: Option<Duration>,
}

impl Holdover {
    /// The hold of the boot `boot_id` that began at `since`, with no offset yet.
    #[must_use]
    pub fn new(boot_id: &str, since: Duration) -> Self {
        let digest = sha256(&[boot_id.as_bytes(), &millis(since).to_be_bytes()]);
        // 0 is how a batch with dates is marked.
        let id = digest.first_chunk().map_or(1, |first| u64::from_be_bytes(*first).max(1));
        Self { id: HoldoverId(id), boot_id: boot_id.to_owned(), since, offset: None }
    }

    /// The date of a stamp of this hold; `None` while nobody knows. A stamp that is a date already stays as it is.
    #[must_use]
    pub fn date(&self, stamp: Timestamp) -> Option<Timestamp> {
        match Stamp::read(stamp) {
            Stamp::At(date) => Some(date),
            Stamp::Undated(boot) => Some(Timestamp::from(UNIX_EPOCH + boot + self.offset?)),
        }
    }
}

/// A job for the log.
#[derive(Debug)]
pub enum Job {
    /// Write what is new, and tidy up.
    Write(Write),
    /// Read what an output is to deliver next.
    Read {
        /// Which output, for the answer.
        output: usize,
        /// From this reading on.
        from: Position,
        /// Until so many readings are there, or the end of what is written.
        most: usize,
    },
    /// Keep in quarantine what cannot be delivered.
    SetAside(SetAside),
    /// The oldest batch of the old caches (the Python agent's and those of earlier releases), for the output that takes them.
    ReadOld {
        /// Which output, for the answer.
        output: usize,
    },
    /// A batch of the old caches is delivered or in quarantine: forget it.
    ForgetOld(OldName),
    /// From now on the log takes no more disk than this.
    Limit(Limits),
}

/// What is new. All of it may be empty.
#[derive(Debug, Default)]
pub struct Write {
    /// Holdovers that began or got their offset: on disk before the batches.
    pub holds: Vec<Holdover>,
    /// Batches to append, in order.
    pub batches: Vec<Arc<Batch>>,
    /// Where outputs are.
    pub cursors: Vec<(String, Cursor)>,
    /// Outputs that are configured no more.
    pub forget: Vec<String>,
    /// Every output has acknowledged up to here: segments that end before it can go.
    pub release: Position,
    /// Whether everything written so far is to be made durable.
    pub sync: bool,
    /// The time by which ages are judged; `None` while the clock is not believed.
    pub now: Option<Timestamp>,
}

/// What cannot be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Which output could not deliver it, for the answer.
    pub output: usize,
    /// The name of the file in `quarantine/`; the same content has the same name, so that after a crash it is not kept twice.
    pub file_name: String,
    /// Its content.
    pub body: Vec<u8>,
}

/// The name of a batch of the old caches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OldName(pub String);

/// The answer to a [`Job`].
#[derive(Debug)]
pub enum Done {
    /// To [`Job::Write`].
    Written(Written),
    /// To [`Job::Read`].
    Read {
        /// Which output asked.
        output: usize,
        /// What there is, or why it cannot be read just now.
        result: Result<Read, SpoolError>,
    },
    /// To [`Job::SetAside`].
    SetAside {
        /// Which output asked.
        output: usize,
        /// Where it is now.
        result: Result<PathBuf, SpoolError>,
    },
    /// To [`Job::ReadOld`].
    Old {
        /// Which output asked.
        output: usize,
        /// The oldest batch; `None` when there is none any more.
        result: Result<Option<OldBatch>, SpoolError>,
    },
    /// To [`Job::ForgetOld`].
    Forgotten(Result<(), SpoolError>),
    /// To [`Job::Limit`].
    Limited,
}

/// How far the log has come.
#[derive(Debug)]
pub struct Written {
    /// Whether everything asked for was done; what failed first if not. Batches before [`end`](Self::end) are written all
    /// the same.
    pub result: Result<(), SpoolError>,
    /// Up to here batches are written: they survive a kill.
    pub end: Position,
    /// Up to here they are durable: they survive a power cut.
    pub durable: Position,
    /// What the limits have let go, in order.
    pub evicted: Vec<Evicted>,
    /// How many batches of the old caches the limits have let go.
    pub evicted_old: usize,
    /// What is on disk now.
    pub usage: Usage,
}

/// Readings that gave way to newer ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evicted {
    /// All readings before this one are gone.
    pub up_to: Position,
    /// The limit.
    pub limit: Limit,
}

/// The limits of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// `cache_min_free`: the file system is nearly full.
    MinFree,
    /// `cache_max_bytes`: the log is as large as it may be.
    MaxBytes,
    /// `cache_max_age`: nobody wants to know any more.
    MaxAge,
}

/// What is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The oldest reading that is still there.
    pub start: Position,
    /// Bytes of segments, point tables, old caches.
    pub bytes: u64,
    /// Segments.
    pub segments: usize,
    /// Files of the old caches that wait.
    pub old_batches: usize,
    /// The greatest stamp in the oldest segment, as far as it is a date.
    pub oldest: Option<Timestamp>,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Read {
    /// Batches in order, the first of which may begin before the position that was asked for. Fewer readings than asked for,
    /// and none at all, mean that there is nothing more on disk.
    pub batches: Vec<Arc<Batch>>,
    /// Readings that are not there: from, to (exclusive), why. In order; between, before and behind the batches.
    pub gaps: Vec<Gap>,
}

/// Readings that cannot be had from disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The first that is missing.
    pub from: Position,
    /// The first behind that is there.
    pub to: Position,
    /// Why.
    pub why: GapReason,
}

/// Why readings are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GapReason {
    /// They were damaged; what is left of them is kept here.
    Damaged(PathBuf),
    /// The segment is gone: somebody else removed it, or they were delivered from memory and never on disk.
    Vanished,
    /// There never were any: the end of the log could not be read when it was opened, and how many readings it held was guessed.
    Guessed,
}

/// A batch of the old caches: a body as the pattoo server takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldBatch {
    /// Its name.
    pub name: OldName,
    /// The stamp of its name.
    pub at: Timestamp,
    /// The body.
    pub body: Vec<u8>,
    /// How many batches there are, this one included.
    pub left: usize,
}
