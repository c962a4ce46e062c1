//! What has failed since when, and which of it is worth a line in the log.
//!
//! A [`Health`] holds one entry for each thing that is failing now and nothing for what is well, so a
//! device without faults costs no memory. It turns a stream of "worked" and "failed because" into changes
//! of state: first failure, down (the third failure in a row), another cause, recovery. Whoever flaps gets
//! at most one line a minute; what was kept back is counted in the next one.
//!
//! Pure: told `now`, the time since boot, so that a step of the wall clock neither mutes a line nor frees one,
//! and an outage is as long as it really was.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::reading::Timestamp;

/// Failures in a row after which a thing is called down: one soft failure is not an outage.
pub const DOWN_AFTER: u64 = 3;

/// The least time between two lines about one thing, save for the first failure and for being down.
pub const QUIET: Duration = Duration::from_secs(60);

/// A change of state that a person should read about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It worked until now.
    Failed {
        /// Outages since the last line that were too short and too soon after it to get one.
        untold: u64,
    },
    /// It has failed at least [`DOWN_AFTER`] times in a row.
    Down {
        /// Since the first of them.
        lasted: Duration,
    },
    /// It still fails, for another reason than told before.
    OtherCause {
        /// Failures in a row so far.
        failures: u64,
    },
    /// It works again.
    Recovered {
        /// Since it first failed.
        lasted: Duration,
        /// How often it failed.
        failures: u64,
    },
}

/// What is failing now: since when, and why the last attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The first failure in a row.
    pub since: Timestamp,
    /// The last error, with its causes.
    pub cause: String,
}

/// What is failing now or did so within the last minute, by subject.
#[derive(Debug)]
pub struct Health<S> {
    troubled: BTreeMap<S, Record>,
}

#[derive(Debug)]
struct Record {
    since: Duration,
    /// In a row; 0 once it works again.
    failures: u64,
    /// When the last line about it was written, if any was.
    told_at: Option<Duration>,
    /// What the last line about the present outage said; `None` while nothing was said of it.
    told: Option<Told>,
    untold: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    cause: &'static str,
    down: bool,
}

impl<S: Ord> Default for Health<S> {
    fn default() -> Self {
        Self { troubled: BTreeMap::new() }
    }
}

impl<S: Ord> Health<S> {
    /// `subject` failed for `cause` (a short stable word).
    pub fn failed(&mut self, subject: S, cause: &'static str, now: Duration) -> Option<Change> {
        let trouble = self.troubled.entry(subject).or_insert(Record {
            since: now,
            failures: 0,
            told_at: None,
            told: None,
            untold: 0,
        });
        if trouble.failures == 0 {
            trouble.since = now;
        }
        trouble.failures += 1;
        let change = trouble.change(cause, now)?;
        trouble.told_at = Some(now);
        trouble.told = Some(Told { cause, down: trouble.failures >= DOWN_AFTER });
        trouble.untold = 0;
        Some(change)
    }

    /// Whether nothing has failed within the last minute.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.troubled.is_empty()
    }

    /// `subject` worked.
    pub fn worked(&mut self, subject: &S, now: Duration) -> Option<Change> {
        let trouble = self.troubled.get_mut(subject)?;
        if trouble.failures == 0 {
            if !trouble.is_quiet(now) {
                self.troubled.remove(subject);
            }
            return None;
        }
        let change = Change::Recovered { lasted: trouble.lasted(now), failures: trouble.failures };
        trouble.failures = 0;
        if trouble.told.take().is_none() {
            trouble.untold += 1;
            return None;
        }
        trouble.told_at = Some(now);
        Some(change)
    }

    /// Forgets every subject but those to `keep`.
    pub fn retain(&mut self, keep: impl Fn(&S) -> bool) {
        self.troubled.retain(|subject, _| keep(subject));
    }

    /// How often `subject` has failed in a row.
    #[must_use]
    pub fn failures(&self, subject: &S) -> u64 {
        self.troubled.get(subject).map_or(0, |trouble| trouble.failures)
    }
}

impl Record {
    fn lasted(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }

    fn is_quiet(&self, now: Duration) -> bool {
        self.told_at.is_some_and(|told| now.saturating_sub(told) < QUIET)
    }

    fn change(&self, cause: &'static str, now: Duration) -> Option<Change> {
        let quiet = self.is_quiet(now);
        match self.told {
            None if quiet => None,
            None => Some(Change::Failed { untold: self.untold }),
            Some(told) if !told.down && self.failures >= DOWN_AFTER => Some(Change::Down { lasted: self.lasted(now) }),
            Some(told) if told.cause != cause && !quiet => Some(Change::OtherCause { failures: self.failures }),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(86_400 + seconds)
    }

    #[test]
    fn an_outage_is_told_when_it_starts_when_it_is_one_and_when_it_ends() {
        let mut health = Health::default();
        assert_eq!(health.failed("a", "timeout", at(0)), Some(Change::Failed { untold: 0 }));
        assert_eq!(health.failed("a", "timeout", at(1)), None);
        assert_eq!(health.failed("a", "timeout", at(2)), Some(Change::Down { lasted: Duration::from_secs(2) }));
        for second in 3..500 {
            assert_eq!(health.failed("a", "timeout", at(second)), None);
        }
        assert_eq!(
            health.worked(&"a", at(500)),
            Some(Change::Recovered { lasted: Duration::from_secs(500), failures: 500 })
        );
        assert_eq!(health.worked(&"a", at(501)), None);
        assert_eq!(health.worked(&"b", at(501)), None);
    }

    #[test]
    fn in_the_first_minute_after_boot_a_failure_is_told_as_at_any_other_time() {
        let mut health = Health::default();
        assert_eq!(health.failed("a", "timeout", Duration::ZERO), Some(Change::Failed { untold: 0 }));
        let lasted = Duration::from_secs(1);
        assert_eq!(health.worked(&"a", lasted), Some(Change::Recovered { lasted, failures: 1 }));
        assert_eq!(health.failed("a", "timeout", 2 * lasted), None);
    }

    #[test]
    fn another_cause_is_told_at_most_once_a_minute() {
        let mut health = Health::default();
        health.failed("a", "timeout", at(0));
        assert_eq!(health.failed("a", "refused", at(10)), None);
        assert_eq!(health.failed("a", "refused", at(11)), Some(Change::Down { lasted: Duration::from_secs(11) }));
        assert_eq!(health.failed("a", "timeout", at(60)), None);
        assert_eq!(health.failed("a", "timeout", at(71)), Some(Change::OtherCause { failures: 5 }));
        assert_eq!(health.failed("a", "timeout", at(200)), None);
    }

    #[test]
    fn a_device_that_flaps_every_second_gets_two_lines_a_minute_and_the_rest_counted() {
        let mut health = Health::default();
        let mut lines = Vec::new();
        for second in 0..240 {
            let change =
                if second % 2 == 0 { health.failed("a", "reset", at(second)) } else { health.worked(&"a", at(second)) };
            lines.extend(change);
        }
        let told = lines.iter().filter(|line| matches!(line, Change::Failed { .. })).count();
        assert_eq!(told, 4, "{lines:?}");
        assert_eq!(lines.len(), 8);
        assert_eq!(lines[2], Change::Failed { untold: 30 });
    }

    #[test]
    fn what_is_well_for_a_minute_is_forgotten() {
        let mut health = Health::default();
        health.failed("a", "reset", at(0));
        health.worked(&"a", at(1));
        health.worked(&"a", at(62));
        assert!(health.troubled.is_empty());
    }
}
