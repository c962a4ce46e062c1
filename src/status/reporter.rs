//! Takes snapshots for whoever asks, and knows how many readings came lately.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::registry::Registry;
use super::snapshot::{self, Clock, Profile, Snapshot};
use crate::counters::Counters;
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
    /// When, and how many readings there had been then; those of the last five minutes.
    samples: VecDeque<(Duration, u64)>,
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
        Self { profile, registry, counters, clock: Box::new(clock), samples: VecDeque::new() }
    }

    /// Posts of the output `name` go to another server from now on.
    pub fn posts_to(&mut self, name: &str, server: String) {
        if let Some(output) = self.profile.outputs.iter_mut().find(|output| output.name == name) {
            output.server = server;
        }
    }

    /// To be called each [`SAMPLE_EVERY`], with the time since boot.
    pub fn sample(&mut self, now: Duration) {
        self.samples.push_back((now, self.counters.accepted()));
        // One that is five minutes old is what the newest is compared with.
        while self.samples.get(1).is_some_and(|&(at, _)| now.saturating_sub(at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Everything as it is now.
    #[must_use]
    pub fn snapshot(&self, now: Moment) -> Snapshot {
        snapshot::take(&self.profile, &self.registry, &self.counters, self.rate(now.boot), (self.clock)(), now.wall)
    }

    fn rate(&self, now: Duration) -> Option<u64> {
        let &(since, count) = self.samples.front()?;
        let passed = now.saturating_sub(since);
        if passed < SAMPLE_EVERY {
            return None;
        }
        let came = u128::from(self.counters.accepted().saturating_sub(count));
        u64::try_from(came * MINUTE.as_millis() / passed.as_millis()).ok()
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
        };
        let clock = || Clock { good: true, state: String::new() };
        let mut reporter = Reporter::new(profile, Arc::default(), Arc::clone(&counters), clock);
        let second = Duration::from_secs(1);
        reporter.sample(Duration::ZERO);
        assert_eq!(reporter.rate(second), None);
        // Ten a second for six minutes, then a silence.
        for tick in 1..=36 {
            counters.accept(100);
            reporter.sample(tick * SAMPLE_EVERY);
            assert_eq!(reporter.rate(tick * SAMPLE_EVERY), Some(600));
        }
        for tick in 37..=51 {
            reporter.sample(tick * SAMPLE_EVERY);
        }
        assert_eq!(reporter.rate(510 * second), Some(300));
    }
}
