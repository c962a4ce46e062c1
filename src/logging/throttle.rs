//! What happens too often for a line each: counted, and told at most once in [`QUIET`]. Pure.
//!
//! The first occurrence is told at once. `now` is time since boot, so that a step of the wall clock neither
//! opens the gate nor shuts it for long.

use std::time::Duration;

/// The least time between two lines.
pub const QUIET: Duration = Duration::from_secs(60);

/// Occurrences of one thing.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogThrottle {
    suppressed: u64,
    logged_at: Option<Duration>,
}

impl LogThrottle {
    /// It happened `count` times more; `Some` when it is time for a line: how often since the last one.
    pub fn add(&mut self, count: u64, now: Duration) -> Option<u64> {
        self.suppressed += count;
        // Asked with a count of 0 as well: what was kept back is told when the minute is over, though nothing more has
        // happened.
        let quiet = self.logged_at.is_some_and(|at| now.saturating_sub(at) < QUIET);
        if quiet || self.suppressed == 0 {
            return None;
        }
        self.logged_at = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_once_a_minute_with_its_number() {
        let mut throttle = LogThrottle::default();
        let told: Vec<_> = (0..150)
            .filter_map(|second| Some((second, throttle.add(u64::from(second % 2 == 0), Duration::from_secs(second))?)))
            .collect();
        assert_eq!(told, [(0, 1), (60, 30), (120, 30)]);
    }
}
