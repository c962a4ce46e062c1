//! Takes snapshots for whoever asks, and knows how many readings came lately.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::registry::Registry;
use super::snapshot::{self, Clock, DeviceDetail, MOST_VALUES, Profile, Rates, Snapshot};
use crate::counters::Counters;
use crate::outputs::sqlite::History;
use crate::time::clock::Moment;

/// How often the counters are looked at for it.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// How far back the rate looks: one poll of the default interval.
const WINDOW: Duration = Duration::from_secs(300);

const MINUTE: Duration = Duration::from_secs(60);

/// What a snapshot is made of.
pub struct Reporter {
    profile: Profile,
    registry: Arc<Registry>,
    counters: Arc<Counters>,
    clock: Box<dyn Fn() -> Clock + Send>,
    readings_in_metrics: bool,
    /// What was counted lately; the samples of the last five minutes.
    samples: VecDeque<Sample>,
}

/// What had been counted at one moment.
struct Sample {
    /// In time since boot.
    at: Duration,
    accepted: u64,
    /// By output.
    delivered: Vec<u64>,
}

impl Reporter {
    /// A reporter on this registry and these counters; `clock` says how the machine's clock is.
    #[must_use]
    pub fn new(
        profile: Profile,
        registry: Arc<Registry>,
        counters: Arc<Counters>,
        clock: impl Fn() -> Clock + Send + 'static,
    ) -> Self {
        Self {
            profile,
            registry,
            counters,
            clock: Box::new(clock),
            readings_in_metrics: false,
            samples: VecDeque::new(),
        }
    }

    /// Posts of the output `name` go to another server from now on.
    pub fn posts_to(&mut self, name: &str, server: String) {
        if let Some(output) = self.profile.outputs.iter_mut().find(|output| output.name == name) {
            output.server = server;
        }
    }

    /// Whether metrics have the last value of every point, from now on.
    pub fn readings_in_metrics(&mut self, wanted: bool) {
        self.readings_in_metrics = wanted;
    }

    /// To be called each [`SAMPLE_EVERY`], with the time since boot.
    pub fn sample(&mut self, now: Duration) {
        let delivered = self.counters.published().outputs.iter().map(|output| output.delivered).collect();
        self.samples.push_back(Sample { at: now, accepted: self.counters.accepted(), delivered });
        // One that is five minutes old is what the newest is compared with.
        while self.samples.get(1).is_some_and(|sample| now.saturating_sub(sample.at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Everything as it is now, without values.
    #[must_use]
    pub fn snapshot(&self, now: Moment) -> Snapshot {
        snapshot::take(&self.profile, &self.registry, &self.counters, &self.rates(now.boot), (self.clock)(), now)
    }

    /// Everything as it is now, with the values of all points unless these are too many.
    #[must_use]
    pub fn snapshot_with_values(&self, now: Moment) -> Snapshot {
        let mut snapshot = self.snapshot(now);
        snapshot::add_values(&mut snapshot, &self.registry, now, MOST_VALUES);
        snapshot
    }

    /// Everything as it is now, as metrics tell it: with all values where that is wanted.
    #[must_use]
    pub fn snapshot_for_metrics(&self, now: Moment) -> Snapshot {
        let mut snapshot = self.snapshot(now);
        if self.readings_in_metrics {
            snapshot::add_values(&mut snapshot, &self.registry, now, usize::MAX);
        }
        snapshot
    }

    /// The device of this name with the values of all its points; `None` when there is none.
    #[must_use]
    pub fn device(&self, name: &str, now: Moment) -> Option<DeviceDetail> {
        snapshot::detail(&self.registry, name, now)
    }

    /// The database in which the readings of many days are, if there is one, and the agent that they are of.
    #[must_use]
    pub fn history(&self) -> Option<(History, String)> {
        Some((self.profile.history.clone()?, self.profile.agent_id.clone()))
    }

    fn rates(&self, now: Duration) -> Rates {
        let Some(Sample { at, accepted, delivered }) = self.samples.front() else { return Rates::default() };
        let passed = now.saturating_sub(*at);
        if passed < SAMPLE_EVERY {
            return Rates::default();
        }
        let a_minute = |before: u64, now: u64| {
            // In u128, for the product of a counter and milliseconds.
            let came = u128::from(now.saturating_sub(before));
            u64::try_from(came * MINUTE.as_millis() / passed.as_millis()).unwrap_or(u64::MAX)
        };
        let published = self.counters.published();
        Rates {
            accepted: Some(a_minute(*accepted, self.counters.accepted())),
            delivered: published
                .outputs
                .iter()
                .zip(delivered)
                .map(|(now, then)| a_minute(*then, now.delivered))
                .collect(),
        }
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter").field("profile", &self.profile).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Timestamp;

    #[test]
    fn the_rate_is_that_of_the_last_five_minutes() {
        let counters = Arc::<Counters>::default();
        let profile = Profile {
            agent_id: String::new(),
            hostname: String::new(),
            outputs: Vec::new(),
            started: Timestamp::default(),
            history: None,
        };
        let clock = || Clock { good: true, state: String::new() };
        let mut reporter = Reporter::new(profile, Arc::default(), Arc::clone(&counters), clock);
        let second = Duration::from_secs(1);
        reporter.sample(Duration::ZERO);
        assert_eq!(reporter.rates(second).accepted, None);
        // Ten a second for six minutes, then a silence.
        for tick in 1..=36 {
            counters.accept(100);
            reporter.sample(tick * SAMPLE_EVERY);
            assert_eq!(reporter.rates(tick * SAMPLE_EVERY).accepted, Some(600));
        }
        for tick in 37..=51 {
            reporter.sample(tick * SAMPLE_EVERY);
        }
        assert_eq!(reporter.rates(510 * second).accepted, Some(300));
    }
}
