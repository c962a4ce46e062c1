//! What happened when, and so which reading may be missing: the obligations of promise P1, seen from outside.
//!
//! A reading must arrive when it was served longer before the end of the process than it takes to poll, to
//! flush and to fsync. Time in which the process was halted, or the disk refused to write, does not count.
//! All times are the harness's own wall clock in ms, which nobody sets.

use std::collections::BTreeMap;
use std::ops::Range;

/// The agent's `flush_interval` in this run.
pub const FLUSH_MS: u64 = 250;

/// From the last answer of a poll to a disk that survives a kill: what is gathered, and what a busy machine takes beside it.
const DURABLE_MS: u64 = 50 + 750;

/// How long a poll may take that meets a fault: two units without an answer, 3 s each, and the rest.
pub const CYCLE_MS: u64 = 7_500;

/// An answer that waits longer than this in a halted process may be taken or not.
const TIMEOUT_MS: u64 = 2_800;

/// Everything that excuses something.
#[derive(Debug, Default)]
pub struct Ledger {
    /// When a process began.
    pub starts: Vec<u64>,
    /// From when one was killed or told to stop, to when it was gone.
    pub ends: Vec<Range<u64>>,
    /// When the process was halted.
    pub frozen: Vec<Range<u64>>,
    /// When the disk refused to write.
    pub stalls: Vec<Range<u64>>,
    /// When the clock was off.
    pub clock: Vec<Range<u64>>,
    /// When a device had a fault.
    pub ailing: Vec<Vec<Range<u64>>>,
    /// When a device had a fault that can make a poll last.
    pub slow: Vec<Vec<Range<u64>>>,
    /// How often the server was still busy with a post whose sender had been killed.
    pub orphaned_posts: usize,
    /// How often each kind of fault has happened.
    pub happened: BTreeMap<String, usize>,
}

impl Ledger {
    /// One more fault of this kind.
    pub fn count(&mut self, kind: String) {
        *self.happened.entry(kind).or_default() += 1;
    }

    /// How often a fault of this kind has happened.
    pub fn times(&self, kind: &str) -> usize {
        self.happened.get(kind).copied().unwrap_or_default()
    }

    /// Whether a reading served then may be lost with the memory of a process.
    pub fn is_at_risk(&self, device: usize, served: u64) -> bool {
        let Some(end) = self.ends.iter().find(|end| end.end >= served).map(|end| end.start) else { return false };
        let slow = self.slow[device].iter().any(|slow| overlap(slow, served, end) > 0);
        let needed = if slow { DURABLE_MS + CYCLE_MS } else { DURABLE_MS };
        let idle: u64 = self.frozen.iter().map(|frozen| overlap(frozen, served, end)).sum();
        let stalled: u64 = self.stalls.iter().map(|stall| overlap(&lasting(stall), served, end)).sum();
        end.saturating_sub(served + idle + stalled) < needed
    }

    /// Whether a process that ended then may have had no way to keep what it had posted.
    pub fn could_not_write(&self, end: u64) -> bool {
        self.stalls.iter().any(|stall| lasting(stall).contains(&end))
    }

    /// Whether an answer served then may have come too late for a process that was halted.
    pub fn is_doubtful(&self, served: u64) -> bool {
        let long = self.frozen.iter().filter(|frozen| frozen.end - frozen.start > TIMEOUT_MS);
        is_in(long, served, 200, 200)
    }

    /// Whether the process was halted then, or has just gone on.
    pub fn was_frozen(&self, at: u64) -> bool {
        is_in(self.frozen.iter(), at, 200, 1_000)
    }

    /// Whether a device that is asked then is asked in peace.
    pub fn is_calm(&self, device: usize, at: u64) -> bool {
        let just_started = self.starts.iter().any(|start| (*start..start + 3_000).contains(&at));
        !just_started
            && !self.was_frozen(at)
            && !is_in(self.clock.iter(), at, 1_000, 3_000)
            && !is_in(self.ailing[device].iter(), at, 500, CYCLE_MS)
    }

    /// The number of the process that ran then.
    pub fn life(&self, at: u64) -> usize {
        self.starts.iter().filter(|start| **start <= at).count()
    }
}

fn is_in<'a>(mut ranges: impl Iterator<Item = &'a Range<u64>>, at: u64, before: u64, after: u64) -> bool {
    ranges.any(|range| (range.start - before..range.end + after).contains(&at))
}

/// For how long the agent may write nothing: after a refusal it waits for as long as the disk has refused so far, at most.
fn lasting(stall: &Range<u64>) -> Range<u64> {
    stall.start..stall.end + (stall.end - stall.start) + 2_000
}

/// How much of `range` lies between two times.
fn overlap(range: &Range<u64>, from: u64, to: u64) -> u64 {
    range.end.min(to).saturating_sub(range.start.max(from))
}
