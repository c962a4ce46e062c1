//! What has failed since when, and which of it is worth a line in the log.
//!
//! A [`Outages`] holds one entry for each thing that is failing now and nothing for what is well, so a
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
pub enum Transition {
    /// It worked until now.
    Failed {
        /// Outages since the last line that were too short and too soon after it to get one.
        suppressed: u64,
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
pub struct Fault {
    /// The first failure in a row.
    pub since: Timestamp,
    /// The last error, with its causes.
    pub cause: String,
}

/// What is failing now or did so within the last minute, by subject.
#[derive(Debug)]
pub struct Outages<S> {
    failing: BTreeMap<S, Record>,
}

#[derive(Debug)]
struct Record {
    since: Duration,
    /// In a row; 0 once it works again.
    failures: u64,
    /// When the last line about it was written, if any was.
    // No zero for never: in the first minute after boot that would be a moment ago, and the line would be kept back.
    logged_at: Option<Duration>,
    /// What the last line about the present outage said; `None` while nothing was said of it.
    told: Option<Told>,
    suppressed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    cause: &'static str,
    down: bool,
}

impl<S: Ord> Default for Outages<S> {
    fn default() -> Self {
        Self { failing: BTreeMap::new() }
    }
}

impl<S: Ord> Outages<S> {
    /// `subject` failed for `cause` (a short stable word).
    pub fn failed(&mut self, subject: S, cause: &'static str, now: Duration) -> Option<Transition> {
        let record = self.failing.entry(subject).or_insert(Record {
            since: now,
            failures: 0,
            logged_at: None,
            told: None,
            suppressed: 0,
        });
        if record.failures == 0 {
            // The entry may be that of an outage which is over.
            record.since = now;
        }
        record.failures += 1;
        let transition = record.transition(cause, now)?;
        record.logged_at = Some(now);
        record.told = Some(Told { cause, down: record.failures >= DOWN_AFTER });
        record.suppressed = 0;
        Some(transition)
    }

    /// Whether nothing has failed within the last minute.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.failing.is_empty()
    }

    /// `subject` worked.
    pub fn worked(&mut self, subject: &S, now: Duration) -> Option<Transition> {
        let record = self.failing.get_mut(subject)?;
        if record.failures == 0 {
            // Kept for a minute after its last line although it works, so that whoever flaps is known.
            if !record.is_quiet(now) {
                self.failing.remove(subject);
            }
            return None;
        }
        let transition = Transition::Recovered { lasted: record.lasted(now), failures: record.failures };
        record.failures = 0;
        // Its failure was not told, so that its end would be news of nothing.
        if record.told.take().is_none() {
            record.suppressed += 1;
            return None;
        }
        record.logged_at = Some(now);
        Some(transition)
    }

    /// Forgets every subject but those to `keep`.
    pub fn retain(&mut self, keep: impl Fn(&S) -> bool) {
        self.failing.retain(|subject, _| keep(subject));
    }

    /// How often `subject` has failed in a row.
    #[must_use]
    pub fn failures(&self, subject: &S) -> u64 {
        self.failing.get(subject).map_or(0, |record| record.failures)
    }
}

impl Record {
    fn lasted(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }

    fn is_quiet(&self, now: Duration) -> bool {
        self.logged_at.is_some_and(|told| now.saturating_sub(told) < QUIET)
    }

    fn transition(&self, cause: &'static str, now: Duration) -> Option<Transition> {
        let quiet = self.is_quiet(now);
        match self.told {
            // Told by a later failure, should it last so long; else it is counted as suppressed.
            None if quiet => None,
            None => Some(Transition::Failed { suppressed: self.suppressed }),
            Some(told) if !told.down && self.failures >= DOWN_AFTER => {
                Some(Transition::Down { lasted: self.lasted(now) })
            }
            Some(told) if told.cause != cause && !quiet => Some(Transition::OtherCause { failures: self.failures }),
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
        let mut outages = Outages::default();
        assert_eq!(outages.failed("a", "timeout", at(0)), Some(Transition::Failed { suppressed: 0 }));
        assert_eq!(outages.failed("a", "timeout", at(1)), None);
        assert_eq!(outages.failed("a", "timeout", at(2)), Some(Transition::Down { lasted: Duration::from_secs(2) }));
        for second in 3..500 {
            assert_eq!(outages.failed("a", "timeout", at(second)), None);
        }
        assert_eq!(
            outages.worked(&"a", at(500)),
            Some(Transition::Recovered { lasted: Duration::from_secs(500), failures: 500 })
        );
        assert_eq!(outages.worked(&"a", at(501)), None);
        assert_eq!(outages.worked(&"b", at(501)), None);
    }

    #[test]
    fn in_the_first_minute_after_boot_a_failure_is_told_as_at_any_other_time() {
        let mut outages = Outages::default();
        assert_eq!(outages.failed("a", "timeout", Duration::ZERO), Some(Transition::Failed { suppressed: 0 }));
        let lasted = Duration::from_secs(1);
        assert_eq!(outages.worked(&"a", lasted), Some(Transition::Recovered { lasted, failures: 1 }));
        assert_eq!(outages.failed("a", "timeout", 2 * lasted), None);
    }

    #[test]
    fn another_cause_is_told_at_most_once_a_minute() {
        let mut outages = Outages::default();
        outages.failed("a", "timeout", at(0));
        assert_eq!(outages.failed("a", "refused", at(10)), None);
        assert_eq!(outages.failed("a", "refused", at(11)), Some(Transition::Down { lasted: Duration::from_secs(11) }));
        assert_eq!(outages.failed("a", "timeout", at(60)), None);
        assert_eq!(outages.failed("a", "timeout", at(71)), Some(Transition::OtherCause { failures: 5 }));
        assert_eq!(outages.failed("a", "timeout", at(200)), None);
    }

    #[test]
    fn a_device_that_flaps_every_second_gets_two_lines_a_minute_and_the_rest_counted() {
        let mut outages = Outages::default();
        let mut lines = Vec::new();
        for second in 0..240 {
            let transition = if second % 2 == 0 {
                outages.failed("a", "reset", at(second))
            } else {
                outages.worked(&"a", at(second))
            };
            lines.extend(transition);
        }
        let told = lines.iter().filter(|line| matches!(line, Transition::Failed { .. })).count();
        assert_eq!(told, 4, "{lines:?}");
        assert_eq!(lines.len(), 8);
        assert_eq!(lines[2], Transition::Failed { suppressed: 30 });
    }

    #[test]
    fn what_is_well_for_a_minute_is_forgotten() {
        let mut outages = Outages::default();
        outages.failed("a", "reset", at(0));
        outages.worked(&"a", at(1));
        outages.worked(&"a", at(62));
        assert!(outages.failing.is_empty());
    }
}
