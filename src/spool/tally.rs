//! The spool's part of the books: what came in, what became of it, in datapoints.
//!
//! `found + stored = delivered + quarantined + evicted + vanished + on_disk`, at any moment. What an earlier
//! life left behind is *found* at the start, as many as that life has written down; what nobody has counted (files
//! of the Python agent or of earlier releases) when it is first read. So a start costs nothing, however much there is.

use crate::reading::Timestamp;

/// Why the oldest batches had to give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evicted {
    /// The file system is nearly full.
    Space,
    /// The spool is as large as it may be.
    Size,
    /// It is older than anybody wants to know.
    Age,
}

/// What came into the spool and what became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Datapoints that earlier lives left on disk.
    pub found: u64,
    /// Datapoints put on disk in this life.
    pub stored: u64,
    /// Datapoints that the server has taken.
    pub delivered: u64,
    /// Datapoints set aside because they, or their file, cannot be delivered.
    pub quarantined: u64,
    /// Datapoints that gave way because the file system is nearly full.
    pub evicted_space: u64,
    /// Datapoints that gave way because the spool is as large as it may be.
    pub evicted_size: u64,
    /// Datapoints that were too old.
    pub evicted_age: u64,
    /// Datapoints whose file somebody else removed.
    pub vanished: u64,
    /// Datapoints on disk now, as far as they are counted.
    pub on_disk: u64,
    /// Batches on disk now that can be delivered.
    pub batches: usize,
    /// Batches on disk now that have no date yet; their datapoints are on disk too.
    pub held: usize,
    /// Bytes on disk now; for a backlog of earlier lives beyond the oldest 65,536 batches an estimate.
    pub bytes: u64,
    /// The stamp of the oldest batch on disk that can be delivered.
    pub oldest: Option<Timestamp>,
}

impl Tally {
    /// Datapoints that left the disk undelivered.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.evicted() + self.vanished
    }

    /// Datapoints that gave way to newer ones.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted_space + self.evicted_size + self.evicted_age
    }

    /// What is wrong with the books: 0.
    #[must_use]
    pub fn residual(&self) -> i128 {
        let came = i128::from(self.found) + i128::from(self.stored);
        came - [self.delivered, self.quarantined, self.lost(), self.on_disk].map(i128::from).iter().sum::<i128>()
    }

    /// What happened since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            found: self.found - earlier.found,
            stored: self.stored - earlier.stored,
            delivered: self.delivered - earlier.delivered,
            quarantined: self.quarantined - earlier.quarantined,
            evicted_space: self.evicted_space - earlier.evicted_space,
            evicted_size: self.evicted_size - earlier.evicted_size,
            evicted_age: self.evicted_age - earlier.evicted_age,
            vanished: self.vanished - earlier.vanished,
            ..*self
        }
    }

    pub(super) fn evicted_for(&mut self, reason: Evicted) -> &mut u64 {
        match reason {
            Evicted::Space => &mut self.evicted_space,
            Evicted::Size => &mut self.evicted_size,
            Evicted::Age => &mut self.evicted_age,
        }
    }
}
