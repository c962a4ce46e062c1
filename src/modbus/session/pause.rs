//! How long a device must be left alone after connecting, found by experience: pure.
//!
//! Some devices swallow what they are asked in the first seconds of a connection. When the first requests of
//! [`FAILURES`] connections in a row were not answered, the next connections are given a pause of 1, 2, 4 and 8 seconds,
//! then none again. A device that answers after a pause may have been away only. So while it answers, the connection is
//! made anew with half of the pause, and half of that ([`ConnectPause::wants_trial`]), until one is not answered; when the
//! next one with the pause before that is, then this is what the device needs. It is told, kept for the next process, and
//! tried anew after an hour.
//!
//! Bound: no pause is longer than [`LONGEST`]; a device that was only away costs at most five connections, one that needs
//! a pause one request that is not answered more.

use std::time::Duration;

/// After so many connections in a row without an answer a pause is tried.
pub const FAILURES: u32 = 2;

/// The first pause that is tried.
const FIRST: Duration = Duration::from_secs(1);

/// The longest pause that is tried.
pub const LONGEST: Duration = Duration::from_secs(8);

/// Half of it is not tried any more.
const SHORTEST: Duration = Duration::from_millis(500);

/// How long a pause that was found is believed.
const BELIEVED: Duration = Duration::from_secs(3_600);

/// So many failures in a row make a pause that was found doubtful.
const DOUBTFUL: u32 = 4;

/// What is known of the pause that a device needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectPause {
    state: State,
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// None is needed, as far as one knows; so long is tried now.
    Searching(Duration),
    /// Twice as long was enough; so long is tried now.
    Halving(Duration),
    /// Half as long was not enough a moment ago; so long was before, and is tried now.
    Verifying(Duration),
    /// So long is needed; believed until then.
    Found(Duration, Duration),
}

impl Default for ConnectPause {
    fn default() -> Self {
        Self { state: State::Searching(Duration::ZERO), failures: 0 }
    }
}

impl ConnectPause {
    /// An earlier process has found that `pause` is needed.
    pub fn remember(&mut self, pause: Duration, now: Duration) {
        if !pause.is_zero() {
            *self = Self { state: State::Found(pause.min(LONGEST), now + BELIEVED), failures: 0 };
        }
    }

    /// The pause to make after connecting now.
    #[must_use]
    pub fn now(&self) -> Duration {
        match self.state {
            State::Searching(pause) | State::Halving(pause) | State::Verifying(pause) | State::Found(pause, _) => pause,
        }
    }

    /// Whether a connection that answers is to be made anew, because another pause is to be tried.
    #[must_use]
    pub fn wants_trial(&self) -> bool {
        matches!(self.state, State::Halving(_) | State::Verifying(_))
    }

    /// What was not answered had another reason: what was not told yet is forgotten.
    pub fn forgive(&mut self) {
        // What was found was shown by an answer.
        if !matches!(self.state, State::Found(..)) {
            *self = Self::default();
        }
    }

    /// The pause that was found; zero for none.
    #[must_use]
    pub fn found(&self) -> Duration {
        match self.state {
            State::Found(pause, _) => pause,
            State::Searching(_) | State::Halving(_) | State::Verifying(_) => Duration::ZERO,
        }
    }

    /// The first request of a connection was answered; `Some` when that shows how long a pause is needed.
    pub fn answered(&mut self, now: Duration) -> Option<Duration> {
        self.failures = 0;
        self.state = match self.state {
            // It answers without one: whatever was tried before, none is needed.
            State::Searching(pause) | State::Halving(pause) if pause.is_zero() => State::Searching(pause),
            State::Searching(pause) | State::Halving(pause) => State::Halving(halved(pause)),
            State::Verifying(pause) => {
                self.state = State::Found(pause, now + BELIEVED);
                return Some(pause);
            }
            // It may have another firmware by now, or be another device.
            State::Found(pause, until) if until <= now => State::Halving(halved(pause)),
            found @ State::Found(..) => found,
        };
        None
    }

    /// The first request of a connection was not answered.
    pub fn silent(&mut self) {
        self.failures += 1;
        match self.state {
            // Half of the shortest is none, and twice none is none: hence the lower bound.
            State::Halving(pause) => self.state = State::Verifying((pause * 2).max(SHORTEST)),
            // It is away, and that says nothing of pauses.
            State::Verifying(_) => *self = Self::default(),
            State::Searching(pause) if pause.is_zero() => {
                if self.failures >= FAILURES {
                    self.state = State::Searching(FIRST);
                }
            }
            // Longer and longer, and from the beginning.
            State::Searching(pause) if pause >= LONGEST => *self = Self::default(),
            State::Searching(pause) => self.state = State::Searching((pause * 2).min(LONGEST)),
            State::Found(..) => {
                // Fewer take nothing back: it may be away, and be back with the same need.
                if self.failures >= DOUBTFUL {
                    *self = Self::default();
                }
            }
        }
    }
}

fn halved(pause: Duration) -> Duration {
    if pause <= SHORTEST { Duration::ZERO } else { pause / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connects so often to a device that swallows what it is asked within `deaf`: the pauses, and what was found.
    fn connect(times: usize, deaf: Duration) -> (Vec<Duration>, ConnectPause) {
        let mut pause = ConnectPause::default();
        let mut pauses = Vec::new();
        for _ in 0..times {
            pauses.push(pause.now());
            if pause.now() < deaf {
                pause.silent();
            } else {
                pause.answered(Duration::ZERO);
            }
        }
        (pauses, pause)
    }

    #[test]
    fn the_pause_that_a_device_needs_is_found_and_kept() {
        for (deaf, needed) in [(300, 500), (900, 1_000), (1_500, 2_000), (5_000, 8_000), (8_000, 8_000)] {
            let (pauses, pause) = connect(20, Duration::from_millis(deaf));
            assert_eq!(pause.found().as_millis(), needed, "{deaf}: {pauses:?}");
            let wasted = pauses.iter().filter(|tried| tried.as_millis() < u128::from(deaf)).count();
            assert!(wasted <= 8, "{deaf}: {pauses:?}");
        }
    }

    #[test]
    fn a_device_that_was_away_needs_no_pause_once_it_has_shown_that() {
        let mut pause = ConnectPause::default();
        for _ in 0..4 {
            pause.silent();
        }
        assert_eq!(pause.now(), Duration::from_secs(4));
        for _ in 0..6 {
            pause.answered(Duration::ZERO);
        }
        assert_eq!(pause, ConnectPause::default());
    }

    #[test]
    fn a_device_that_goes_away_while_a_shorter_pause_is_tried_teaches_nothing() {
        let mut pause = ConnectPause::default();
        for _ in 0..4 {
            pause.silent();
        }
        pause.answered(Duration::ZERO);
        assert!(pause.wants_trial());
        pause.silent();
        pause.silent();
        assert_eq!(pause.answered(Duration::ZERO), None);
        assert_eq!(pause, ConnectPause::default());
    }

    #[test]
    fn a_silent_device_is_given_every_pause_in_turn_and_none_is_found() {
        let (pauses, pause) = connect(13, Duration::MAX);
        let seconds: Vec<_> = pauses.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [0, 0, 1, 2, 4, 8, 0, 0, 1, 2, 4, 8, 0]);
        assert_eq!(pause.found(), Duration::ZERO);
    }

    #[test]
    fn what_was_found_is_tried_anew_after_an_hour_or_when_it_is_no_help_any_more() {
        let mut pause = ConnectPause::default();
        pause.remember(Duration::from_secs(4), Duration::ZERO);
        pause.answered(BELIEVED / 2);
        assert_eq!(pause.found(), Duration::from_secs(4));
        pause.answered(BELIEVED);
        assert_eq!(pause.now(), Duration::from_secs(2), "half of it is tried");
        pause.silent();
        assert_eq!(pause.answered(BELIEVED), Some(Duration::from_secs(4)), "and is not enough");
        for _ in 0..DOUBTFUL {
            pause.silent();
        }
        assert_eq!(pause, ConnectPause::default());
    }
}
