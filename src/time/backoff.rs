//! How long to leave alone what has just failed: doubling from [`FIRST`] to [`CAP`], with jitter.
//!
//! Pure: the caller brings the random number and the clock. The jitter takes away up to half, so that a
//! thousand agents do not come back in one second after an outage and yet none comes back at once.

use std::time::Duration;

/// The wait after the first failure, before jitter.
pub const FIRST: Duration = Duration::from_secs(1);

/// The longest wait.
pub const CAP: Duration = Duration::from_secs(60);

/// Consecutive failures of one thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// One more failure: how long to wait, between half the current step and the whole of it.
    /// `random` is uniform in 0..1.
    pub fn fail(&mut self, random: f64) -> Duration {
        self.fail_up_to(CAP, random)
    }

    /// As [`fail`](Self::fail), with a step of `cap` at most.
    pub fn fail_up_to(&mut self, cap: Duration, random: f64) -> Duration {
        // Far enough for any cap that can be configured, which is an hour at most.
        let step = FIRST.saturating_mul(1 << self.failures.min(12)).min(cap);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How often it has failed since it last worked.
    #[must_use]
    pub fn failures(self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_one_second_to_a_minute_and_start_anew() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..9).map(|_| backoff.fail(1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.fail(1.0), FIRST);
    }

    #[test]
    fn a_longer_cap_is_reached() {
        let mut backoff = Backoff::default();
        let hour = Duration::from_secs(3_600);
        let waits: Vec<_> = (0..14).map(|_| backoff.fail_up_to(hour, 1.0)).collect();
        assert_eq!((waits[6].as_secs(), waits[12], waits[13]), (64, hour, hour));
    }

    #[test]
    fn a_shorter_cap_holds_for_every_wait() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..7).map(|_| backoff.fail_up_to(Duration::from_secs(15), 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 15, 15, 15]);
        assert_eq!(Backoff::default().fail_up_to(FIRST / 4, 1.0), FIRST / 4);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        for random in [0.0, 0.3, 0.999] {
            let wait = Backoff::default().fail(random);
            assert!(wait >= FIRST / 2 && wait <= FIRST, "{wait:?}");
        }
        let mut worn = Backoff { failures: u32::MAX };
        assert_eq!(worn.fail(1.0), CAP);
    }
}
