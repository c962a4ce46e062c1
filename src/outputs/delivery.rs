//! The policy of one output: what to post next, and what follows from the answer. Pure.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Encode, Failure};
use crate::reading::points::PointTable;
use crate::reading::{Reading, Timestamp};
use crate::spool::job::OldBatch;

/// Readings of one point table, all dated.
#[derive(Debug)]
pub struct Run {
    /// What their points are.
    pub table: Arc<PointTable>,
    /// In order.
    pub readings: Vec<Reading>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Post this now.
    Post {
        /// The post.
        body: Bytes,
        /// The newest stamp of its readings.
        newest: Timestamp,
        /// How many they are.
        readings: usize,
    },
    /// Nothing before this time since boot.
    Wait(Duration),
    /// Keep this in quarantine first.
    SetAside {
        /// The name of the file.
        file_name: String,
        /// Its content.
        body: Vec<u8>,
        /// How many readings it holds.
        readings: usize,
        /// Why they cannot be delivered.
        why: String,
    },
    /// What was loaded is all done, or nothing is loaded: take [`Delivery::progress`], then load more.
    Empty,
}

/// How far a delivery has come since it was last asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Readings from the front of the load that are finished: the sum of the other three. Of old caches: 0.
    pub passed: usize,
    /// The server has them.
    pub delivered: usize,
    /// No server of this kind could take them.
    pub not_sendable: usize,
    /// They are in quarantine.
    pub quarantined: usize,
}

/// What the shell does about an answer, and whether a person should know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Until the next post.
    pub pause: Duration,
    /// Whether the post counts as failed: not when it was merely too large, or part of the search for what is refused.
    pub failed: bool,
}

/// The delivery to one output.
pub struct Delivery {
    encode: Box<dyn Encode>,
    stamp: Timestamp,
}

impl Delivery {
    /// Nothing is loaded; the greatest stamp posted before is `stamp`.
    #[must_use]
    pub fn new(encode: Box<dyn Encode>, _split_refused_after: Duration, stamp: Timestamp) -> Self {
        Self { encode, stamp }
    }

    /// Lets no wait be longer, but for one that the server asks for.
    pub fn set_max_backoff(&mut self, _most: Duration) {}

    /// How many readings are worth loading: about one post.
    #[must_use]
    pub fn want(&self) -> usize {
        5_000
    }

    /// Takes over readings, oldest first; only after [`Next::Empty`].
    pub fn load(&mut self, _runs: Vec<Run>) {}

    /// Takes over a batch of an old cache; only after [`Next::Empty`].
    ///
    /// # Errors
    /// When the output cannot deliver it: keep the file whole in quarantine.
    pub fn load_old(&mut self, batch: OldBatch, now: Timestamp) -> Result<(), String> {
        self.encode.old(batch, now).map(drop)
    }

    /// What to do at `now`, a time since boot.
    pub fn next(&mut self, _now: Duration) -> Next {
        Next::Empty
    }

    /// What became of the post given out last; `random` is uniform in 0..1.
    pub fn answered(&mut self, _result: &Result<(), Failure>, _now: Duration, _random: f64) -> Told {
        Told::default()
    }

    /// What was to be set aside last is on disk.
    pub fn set_aside(&mut self) {}

    /// How far it has come since the last call.
    pub fn progress(&mut self) -> Progress {
        Progress::default()
    }

    /// The stamp of the newest post that was given out.
    #[must_use]
    pub fn stamp(&self) -> Timestamp {
        self.stamp
    }

    /// Goes on under another configuration. With `encode` the server is another one: what was learned of the way to the old
    /// one is forgotten, and what is loaded stays.
    pub fn configure(&mut self, encode: Option<Box<dyn Encode>>, _split_refused_after: Duration) {
        if let Some(encode) = encode {
            self.encode = encode;
        }
    }
}
