//! The closed books: what became of every reading.
//!
//! Counters that any thread may read at any moment and that only go up. A reading that a device sent is
//! *accepted* once the aggregator has it, then *stored* once its batch is on disk, then *delivered* once
//! the server has said so; whatever else happens to it is a drop under a [`Reason`]. Nothing leaves
//! uncounted: a new way to lose a reading needs a new reason here first.
//!
//! *Lost* is what a device gave, what was accepted, and what will never be at the server: what the disk had no room
//! for ([`Tally::lost`]) and what memory had none for. A value that is none, or that no server takes, is dropped
//! and not lost: nobody could have had it. What is in quarantine is on disk, for people to look at, and not lost.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::spool::Tally;

/// Why a datapoint was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The server's ingester would die on it: not finite, or 1e29 and beyond.
    NotSendable,
    /// The device said that it has no value, or sent one that is none: a sentinel, NaN, no decimal, no power of ten.
    Unavailable,
    /// Below the configured minimum or above the maximum.
    OutsideLimits,
    /// The spool refused batches for so long that the memory set aside for them was full.
    MemoryFull,
}

impl Reason {
    /// Every reason, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::NotSendable, Self::Unavailable, Self::OutsideLimits, Self::MemoryFull];

    /// The reason as a word for logs and counters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSendable => "not_sendable",
            Self::Unavailable => "unavailable",
            Self::OutsideLimits => "outside_limits",
            Self::MemoryFull => "memory_full",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::NotSendable => 0,
            Self::Unavailable => 1,
            Self::OutsideLimits => 2,
            Self::MemoryFull => 3,
        }
    }
}

/// The counters of one run of the agent, in datapoints unless said otherwise.
#[derive(Debug, Default)]
pub struct Books {
    accepted: AtomicU64,
    stored: AtomicU64,
    direct: AtomicU64,
    dropped: [AtomicU64; Reason::ALL.len()],
    overruns: AtomicU64,
    disk: Mutex<Tally>,
}

impl Books {
    /// The aggregator has taken over `count` readings.
    pub fn accept(&self, count: usize) {
        add(&self.accepted, count);
    }

    /// `count` datapoints are on disk, fsynced.
    pub fn store(&self, count: usize) {
        add(&self.stored, count);
    }

    /// The server has taken over `count` datapoints that the disk had refused.
    pub fn deliver_from_memory(&self, count: usize) {
        add(&self.direct, count);
    }

    /// `count` datapoints are dropped.
    pub fn lose(&self, reason: Reason, count: usize) {
        add(&self.dropped[reason.index()], count);
    }

    /// `count` polls were skipped because the one before them still ran.
    pub fn overrun(&self, count: u64) {
        self.overruns.fetch_add(count, Ordering::Relaxed);
    }

    /// What became of everything that was put on disk.
    pub fn on_disk(&self, tally: Tally) {
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner) = tally;
    }

    /// Readings taken over so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Datapoints put on disk so far.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Datapoints delivered so far without having been on disk.
    #[must_use]
    pub fn delivered_from_memory(&self) -> u64 {
        self.direct.load(Ordering::Relaxed)
    }

    /// Datapoints dropped so far under `reason`.
    #[must_use]
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.dropped[reason.index()].load(Ordering::Relaxed)
    }

    /// Polls skipped so far.
    #[must_use]
    pub fn overruns(&self) -> u64 {
        self.overruns.load(Ordering::Relaxed)
    }

    /// The spool's part of the books, over all runs.
    #[must_use]
    pub fn disk(&self) -> Tally {
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is lost so far. What is in memory is lost as well, once the process ends.
    #[must_use]
    pub fn lost(&self) -> Lost {
        Lost::of(&self.disk(), self.dropped(Reason::MemoryFull))
    }

    /// Readings accepted that are neither on disk nor delivered nor dropped: in memory, about to be stored.
    #[must_use]
    pub fn in_memory(&self) -> u64 {
        let dropped: u64 = Reason::ALL.iter().map(|&reason| self.dropped(reason)).sum();
        self.accepted().saturating_sub(self.stored() + self.delivered_from_memory() + dropped)
    }
}

/// What is lost, by the reason for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost(Vec<(&'static str, u64)>);

impl Lost {
    /// The reasons: a limit of the cache, files that somebody else removed, a full memory.
    fn of(disk: &Tally, memory_full: u64) -> Self {
        Self(vec![
            ("cache_min_free", disk.evicted_space),
            ("cache_max_bytes", disk.evicted_size),
            ("cache_max_age", disk.evicted_age),
            ("vanished", disk.vanished),
            (Reason::MemoryFull.as_str(), memory_full),
        ])
    }

    /// With what is in memory and has no time any more to get to the disk.
    #[must_use]
    pub fn and_in_memory(mut self, count: u64) -> Self {
        self.0.push(("in_memory", count));
        self
    }

    /// All of it.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// Every reason with its number.
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().copied()
    }
}

impl fmt::Display for Lost {
    /// `7100 readings: cache_max_bytes 7000, memory_full 100`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count();
        write!(f, "{count} {}", if count == 1 { "reading" } else { "readings" })?;
        let mut separator = ": ";
        for (reason, count) in self.by_reason().filter(|(_, count)| *count > 0) {
            write!(f, "{separator}{reason} {count}")?;
            separator = ", ";
        }
        Ok(())
    }
}

impl fmt::Display for Books {
    /// Where every reading of this run and of what was on disk before it is, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = self.disk();
        write!(
            f,
            "readings accepted {}, found on disk {}; delivered {}, on disk {}, in memory {}, quarantined {}, evicted {}, \
             vanished {}",
            self.accepted(),
            disk.found,
            disk.delivered + self.delivered_from_memory(),
            disk.on_disk,
            self.in_memory(),
            disk.quarantined,
            disk.evicted(),
            disk.vanished,
        )?;
        Reason::ALL.iter().try_for_each(|&reason| write!(f, ", {} {}", reason.as_str(), self.dropped(reason)))
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_is_in_memory_until_it_is_stored_or_dropped() {
        let books = Books::default();
        books.accept(10);
        books.store(6);
        books.lose(Reason::MemoryFull, 3);
        assert_eq!(books.in_memory(), 1);
        books.lose(Reason::NotSendable, 1);
        assert_eq!(books.in_memory(), 0);
        assert_eq!(books.dropped(Reason::MemoryFull), 3);
    }

    #[test]
    fn lost_is_what_the_server_could_have_had() {
        let books = Books::default();
        books.accept(30);
        for reason in Reason::ALL {
            books.lose(reason, 2);
        }
        assert_eq!(books.lost().to_string(), "2 readings: memory_full 2");
        let tally = Tally {
            evicted_space: 1,
            evicted_size: 7,
            evicted_age: 2,
            vanished: 3,
            quarantined: 9,
            ..Tally::default()
        };
        books.on_disk(tally);
        assert_eq!(books.lost().count(), 15);
        let told = books.lost().and_in_memory(4).to_string();
        let expected = "19 readings: cache_min_free 1, cache_max_bytes 7, cache_max_age 2, vanished 3, memory_full 2, \
                        in_memory 4";
        assert_eq!(told, expected);
        assert_eq!(Books::default().lost().to_string(), "0 readings");
    }
}
