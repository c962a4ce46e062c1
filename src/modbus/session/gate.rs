//! Waits: one that is never nothing, and a gate that lets one attempt through per backoff period. Pure.

use std::time::Duration;

use crate::time::backoff::{Backoff, FIRST};

/// How long to wait: at least [`Pause::LEAST`], so that no loop that awaits one can spin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pause(Duration);

impl Pause {
    /// The shortest wait.
    pub const LEAST: Duration = Duration::from_millis(1);

    /// `wait`, or the shortest one if it is less.
    #[must_use]
    pub fn of(wait: Duration) -> Self {
        Self(wait.max(Self::LEAST))
    }

    /// How long.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.0
    }
}

/// Lets an attempt through once per backoff period.
#[derive(Debug, Default)]
pub(super) struct Gate {
    backoff: Backoff,
    opens: Option<Duration>,
}

impl Gate {
    /// The attempt that began at `begun` has failed at `now`: shut for a step of `cap` at most, counted from its
    /// beginning, less what passes before its request (`lead`). How long until it opens.
    pub(super) fn shut(
        &mut self,
        begun: Duration,
        now: Duration,
        cap: Duration,
        lead: Duration,
        random: f64,
    ) -> Duration {
        let wait = self.backoff.fail_up_to(cap, random);
        // Never at once, however long the attempt took.
        let least = now + (FIRST / 2).min(cap).mul_f64(0.5 + 0.5 * random);
        // A timeout or a slow connection is part of the period: added to it, attempts were rarer than the cap says.
        let opens = (begun + wait.saturating_sub(lead)).max(least);
        self.opens = Some(opens);
        opens.saturating_sub(now)
    }

    /// Shut for the first step again, whatever came before.
    pub(super) fn start_anew(&mut self) {
        self.backoff.reset();
    }

    /// When it opens; zero for one that is open.
    pub(super) fn opens(&self) -> Duration {
        self.opens.unwrap_or_default()
    }

    /// Whether it is shut, or was until a moment ago, and nothing has worked since.
    pub(super) fn has_failed(&self) -> bool {
        self.opens.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: Duration = Duration::from_secs(15);

    #[test]
    fn a_pause_is_never_nothing() {
        assert_eq!(Pause::of(Duration::ZERO).duration(), Pause::LEAST);
        assert_eq!(Pause::of(CAP).duration(), CAP);
    }

    #[test]
    fn from_one_attempt_to_the_next_it_is_the_cap_at_most_and_never_nothing() {
        for random in [0.0, 0.5, 0.999] {
            for (took, lead) in [(0, 0), (3, 0), (3, 8), (60, 0), (0, 20)].map(|(a, b)| (secs(a), secs(b))) {
                let mut gate = Gate::default();
                let mut begun = secs(100);
                for _ in 0..20 {
                    let now = begun + took;
                    let wait = gate.shut(begun, now, CAP, lead, random);
                    assert!(wait >= FIRST / 4, "{wait:?}");
                    let next = gate.opens();
                    assert_eq!(next, now + wait);
                    let period = next.saturating_sub(begun);
                    assert!(period <= CAP.max(took + FIRST), "{period:?}");
                    begun = next;
                }
            }
        }
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
}
