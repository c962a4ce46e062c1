//! When a cycle is polled: at once after the start, then on the wall-clock grid of its interval.
//!
//! Every device has a fixed phase within min(interval, 10 s), taken from a hash of its name, so that a
//! thousand devices do not answer in the same instant and yet keep the same instant on each run. Phases
//! are multiples of [`SLOT`]: a wake-up costs more than a request, so devices share them.
//!
//! Pure: told `now`, it says how long to wait. Ticks that pass while a poll runs are counted as overruns
//! and skipped, never queued. The wait is at most one interval whatever the wall clock does, so a stepped
//! clock costs one tick off the grid and never a burst or a silence.

use std::time::Duration;

use crate::reading::{Timestamp, millis};

/// Phases are multiples of this.
pub const SLOT: Duration = Duration::from_millis(50);

/// No phase is longer than this, however long the interval.
pub const MAX_PHASE: Duration = Duration::from_secs(10);

/// The instants `phase + k × interval` of wall-clock time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    interval: u64,
    phase: u64,
}

impl Grid {
    /// The grid of `interval` with the phase that belongs to `name`.
    #[must_use]
    pub fn new(interval: Duration, name: &str) -> Self {
        let interval = millis(interval).max(1);
        let slots = interval.min(millis(MAX_PHASE)) / millis(SLOT);
        let phase = if slots == 0 { 0 } else { fnv1a(name) % slots * millis(SLOT) };
        Self { interval, phase }
    }

    /// The first instant of the grid that is later than `now`.
    #[must_use]
    pub fn next_after(self, now: Timestamp) -> Timestamp {
        let into = (now.as_millis() + self.interval - self.phase) % self.interval;
        Timestamp::from_millis(now.as_millis() + self.interval - into)
    }

    /// How many instants of the grid lie in (`after`, `until`].
    #[must_use]
    pub fn ticks_between(self, after: Timestamp, until: Timestamp) -> u64 {
        let first = self.next_after(after);
        if until < first { 0 } else { (until.as_millis() - first.as_millis()) / self.interval + 1 }
    }
}

/// One cycle's place in time: waiting for a tick, or polling since one.
#[derive(Debug, Clone)]
pub struct Schedule {
    grid: Grid,
    due: Option<Timestamp>,
    base: Timestamp,
}

impl Schedule {
    /// Due at once.
    #[must_use]
    pub fn new(grid: Grid) -> Self {
        Self { grid, due: None, base: Timestamp::default() }
    }

    /// How long to wait for the next poll: at most one interval.
    #[must_use]
    pub fn wait(&self, now: Timestamp) -> Duration {
        let wait = self.due.map_or(Duration::ZERO, |due| due.since(now));
        wait.min(Duration::from_millis(self.grid.interval))
    }

    /// A poll begins at `now`.
    pub fn begin(&mut self, now: Timestamp) {
        // A timer may fire a little before the tick it was armed for; that tick must not come again. A due
        // time far ahead means that the clock was set back: then only the clock counts.
        self.base = match self.due {
            Some(due) if due > now && millis(due.since(now)) < self.grid.interval / 2 => due,
            _ => now,
        };
    }

    /// The poll that began last ended at `now`: arms the next tick, returns how many ticks it overran.
    pub fn finish(&mut self, now: Timestamp) -> u64 {
        let now = now.max(self.base);
        self.due = Some(self.grid.next_after(now));
        self.grid.ticks_between(self.base, now)
    }
}

/// FNV-1a, 64 bits: the same on every run and every machine, unlike the standard library's hashers.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn grid(interval: u64, phase: u64) -> Grid {
        Grid { interval, phase }
    }

    #[test]
    fn the_next_tick_is_the_first_grid_instant_after_now() {
        let cases = [
            (1_000, 0, 0, 1_000),
            (1_000, 0, 999, 1_000),
            (1_000, 0, 1_000, 2_000),
            (1_000, 250, 1_000, 1_250),
            (1_000, 250, 1_249, 1_250),
            (1_000, 250, 1_250, 2_250),
            (300_000, 9_950, 1_700_000_000_123, 1_700_000_109_950),
        ];
        for (interval, phase, now, next) in cases {
            assert_eq!(grid(interval, phase).next_after(at(now)), at(next), "{interval}+{phase} after {now}");
        }
    }

    #[test]
    fn phases_are_fixed_slots_within_the_interval_and_ten_seconds() {
        for interval in [20, 50, 200, 1_000, 10_000, 300_000] {
            for name in ["a", "192.168.1.20:1502", "meter.example.net"] {
                let grid = Grid::new(Duration::from_millis(interval), name);
                assert_eq!(grid, Grid::new(Duration::from_millis(interval), name));
                assert_eq!(grid.phase % 50, 0);
                assert!(grid.phase < interval.clamp(1, 10_000), "{name} {interval} {}", grid.phase);
            }
        }
        let spread: std::collections::BTreeSet<_> =
            (0..1000).map(|n| Grid::new(Duration::from_secs(10), &format!("device-{n}")).phase).collect();
        assert!(spread.len() > 150, "only {} of 200 slots are used", spread.len());
    }

    #[test]
    fn the_first_poll_is_due_at_once_and_then_each_tick_once() {
        let mut schedule = Schedule::new(grid(1_000, 0));
        assert_eq!(schedule.wait(at(1_234)), Duration::ZERO);
        schedule.begin(at(1_234));
        assert_eq!(schedule.finish(at(1_300)), 0);
        assert_eq!(schedule.wait(at(1_300)), Duration::from_millis(700));
    }

    #[test]
    fn a_timer_that_fires_early_does_not_poll_a_tick_twice() {
        let mut schedule = Schedule::new(grid(1_000, 0));
        schedule.begin(at(1_500));
        schedule.finish(at(1_510));
        schedule.begin(at(1_998));
        assert_eq!(schedule.finish(at(1_999)), 0);
        assert_eq!(schedule.wait(at(1_999)), Duration::from_secs(1));
        assert_eq!(schedule.due, Some(at(3_000)));
    }

    #[test]
    fn a_long_poll_skips_and_counts_the_ticks_it_overran() {
        let mut schedule = Schedule::new(grid(1_000, 0));
        schedule.begin(at(1_000));
        assert_eq!(schedule.finish(at(4_200)), 3);
        assert_eq!(schedule.due, Some(at(5_000)));
    }

    #[test]
    fn a_stepped_clock_costs_at_most_one_interval() {
        let mut schedule = Schedule::new(grid(60_000, 0));
        schedule.begin(at(10_000_000));
        schedule.finish(at(10_000_100));
        assert_eq!(schedule.wait(at(1_000)), Duration::from_secs(60), "set back by hours");
        assert_eq!(schedule.wait(at(99_000_000)), Duration::ZERO, "set forward by a day");
        schedule.begin(at(1_000));
        assert_eq!(schedule.finish(at(1_100)), 0);
        assert_eq!(schedule.due, Some(at(60_000)));
    }
}
