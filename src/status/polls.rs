//! How long polls take and what requests fail of, over all devices: counters that only go up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::modbus::session::Unread;

/// Polls are counted by whether they took at most so many seconds.
// The default buckets of Prometheus' client libraries.
pub const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The counters.
#[derive(Debug, Default)]
pub struct Polls {
    /// By the first bound that they keep; the last one is for those that keep none.
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
    failures: Mutex<BTreeMap<&'static str, u64>>,
    unread: [AtomicU64; Unread::ALL.len()],
}

/// How long polls took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    /// For each bound in seconds, how many took at most that long.
    pub at_most: Vec<(f64, u64)>,
    /// How many there were.
    pub count: u64,
    /// How many seconds they took together.
    pub seconds: f64,
}

impl Polls {
    /// A poll took this long, whatever came of it.
    pub fn took(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let place = BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(BOUNDS.len());
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A request failed, or a connection: of this kind ([`kind`](crate::modbus::error::ReadError::kind)).
    pub fn failed(&self, kind: &'static str) {
        *self.failures.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
    }

    /// So many points were due and were not read, by [`Unread::index`].
    pub fn unread(&self, counts: [usize; Unread::ALL.len()]) {
        for (counter, count) in self.unread.iter().zip(counts).filter(|(_, count)| *count > 0) {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// How many points were due and were not read so far, by reason.
    #[must_use]
    pub fn unread_so_far(&self) -> BTreeMap<String, u64> {
        let counts = Unread::ALL.iter().zip(&self.unread);
        counts.map(|(why, count)| (why.as_str().to_owned(), count.load(Ordering::Relaxed))).collect()
    }

    /// How long polls took so far.
    #[must_use]
    pub fn durations(&self) -> Durations {
        let counts = self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        // Kept apart and added here: a poll touches one counter, not all those above it.
        let sums = counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        let at_most = BOUNDS.into_iter().zip(sums).collect();
        let seconds = Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64();
        // Summed and not counted: it must equal the last bucket, whatever is counted while this reads.
        Durations { at_most, count: counts.iter().sum(), seconds }
    }

    /// How many requests failed so far, by kind.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<String, u64> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_is_counted_under_every_bound_that_it_keeps() {
        let polls = Polls::default();
        for millis in [1, 5, 6, 300, 60_000] {
            polls.took(Duration::from_millis(millis));
        }
        let Durations { at_most, count, seconds } = polls.durations();
        let counts: Vec<_> = at_most.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4]);
        assert_eq!(count, 5);
        assert!((seconds - 60.312).abs() < 1e-6, "{seconds}");
    }
}
