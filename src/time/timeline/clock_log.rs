//! Which changes of the clock are worth a line in the log, and what the line says. Pure.
//!
//! A line is told when the clock's state becomes another one, not while its amounts change, and each kind of
//! state at most once in [`QUIET`]; a state that is still there after that is told then. So a clock that is set
//! back and forth without end costs a line a minute for each of its states.

use std::collections::BTreeMap;
use std::time::Duration;

use super::state::{ClockState, Implausible};
use crate::outage::QUIET;
use crate::text::seconds;

/// What the log has said of the clock so far.
#[derive(Debug, Default)]
pub struct ClockLog {
    /// The state of the last line, and since when; `None` while the clock is right.
    told: Option<(Kind, Duration)>,
    /// When each kind was told last.
    last: BTreeMap<Kind, Duration>,
}

/// One line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Readings wait, or are lost.
    Grave(String),
    /// Somebody should set a clock.
    Warning(String),
    /// All is well again.
    Relief(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    NotSet,
    AheadOfServer,
    FarFuture,
    Repeating,
    Slewing,
    Behind,
    Good,
}

impl ClockLog {
    /// The line to write, if there is one, when the clock is in this state at the boot time `now`.
    pub fn observe(&mut self, state: ClockState, now: Duration) -> Option<Notice> {
        let kind = Kind::of(state);
        let told = self.told.map_or(Kind::Good, |(kind, _)| kind);
        let quiet = self.last.get(&kind).is_some_and(|&last| now.saturating_sub(last) < QUIET);
        if kind == told || quiet {
            return None;
        }
        // Of the first state that was not right: whatever came after it, the clock has been wrong since then.
        let since = self.told.map_or(now, |(_, since)| since);
        self.told = (kind != Kind::Good).then_some((kind, since));
        self.last.insert(kind, now);
        Some(notice(state, told, now.saturating_sub(since)))
    }
}

impl Kind {
    fn of(state: ClockState) -> Self {
        match state {
            ClockState::NotPlausible { reason: Implausible::NotSet { .. } } => Self::NotSet,
            ClockState::NotPlausible { reason: Implausible::AheadOfServer { .. } } => Self::AheadOfServer,
            ClockState::NotPlausible { reason: Implausible::FarFuture { .. } } => Self::FarFuture,
            ClockState::Repeating { .. } => Self::Repeating,
            ClockState::Slewing { .. } => Self::Slewing,
            ClockState::Behind { .. } => Self::Behind,
            ClockState::Good => Self::Good,
        }
    }

    fn holds(self) -> bool {
        matches!(self, Self::NotSet | Self::AheadOfServer | Self::FarFuture)
    }
}

/// The whole sentence: what is, and what becomes of readings.
fn notice(state: ClockState, before: Kind, lasted: Duration) -> Notice {
    let held = "readings are taken on and kept on disk without dates; they get them and are delivered once";
    match state {
        ClockState::NotPlausible { reason: Implausible::NotSet { .. } } => {
            Notice::Grave(format!("{state}; {held} it is set"))
        }
        ClockState::NotPlausible { reason: Implausible::AheadOfServer { .. } } => Notice::Grave(format!(
            "{state}; {held} the two are within an hour; set this machine's clock, or the server's, or \
             trust_local_clock in the configuration"
        )),
        ClockState::NotPlausible { reason: Implausible::FarFuture { .. } } => Notice::Grave(format!(
            "{state}; {held} one does or the clock is set; trust_local_clock in the configuration makes it believed"
        )),
        ClockState::Repeating { .. } => Notice::Grave(format!("{state}; they are read and posted all the same")),
        ClockState::Slewing { ahead } => {
            // The line loses a tenth of real time.
            Notice::Warning(format!("{state}, in about {}; no reading is lost by it", seconds(ahead * 10)))
        }
        ClockState::Behind { .. } => Notice::Warning(format!(
            "{state}; readings are dated by this machine's clock all the same; set the one of the two that is wrong"
        )),
        ClockState::Good => {
            let dated = if before.holds() { "; what was kept without dates is dated and delivered" } else { "" };
            Notice::Relief(format!("{state} again after {}{dated}", seconds(lasted)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Timestamp;

    const AHEAD: ClockState =
        ClockState::NotPlausible { reason: Implausible::AheadOfServer { by: Duration::from_secs(7_200) } };

    fn converging(seconds: u64) -> ClockState {
        ClockState::Slewing { ahead: Duration::from_secs(seconds) }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_state_is_told_once_whatever_its_amount_and_then_that_it_is_over() {
        let mut notices = ClockLog::default();
        assert_eq!(notices.observe(ClockState::Good, at(5)), None);
        let told = notices.observe(converging(60), at(6));
        assert_eq!(
            told,
            Some(Notice::Warning(
                "the clock was set back; timestamps are 1m ahead of it until it has caught up, in about 10m; no \
                 reading is lost by it"
                    .to_owned()
            ))
        );
        for second in 7..600 {
            assert_eq!(notices.observe(converging(66 - second / 10), at(second)), None);
        }
        let over = notices.observe(ClockState::Good, at(606));
        assert_eq!(over, Some(Notice::Relief("the clock is right again after 10m".to_owned())));
        assert_eq!(notices.observe(ClockState::Good, at(607)), None);
    }

    #[test]
    fn a_clock_that_is_set_to_and_fro_gets_a_line_a_minute_for_each_of_its_states() {
        let mut notices = ClockLog::default();
        let states = [AHEAD, converging(60), ClockState::Good];
        let lines: Vec<_> =
            (0..240).zip(states.iter().cycle()).filter_map(|(n, &state)| notices.observe(state, at(n))).collect();
        assert!((4..=12).contains(&lines.len()), "{lines:#?}");
    }

    #[test]
    fn what_was_kept_back_is_told_once_it_may_be() {
        let mut notices = ClockLog::default();
        assert!(notices.observe(AHEAD, at(0)).is_some());
        assert!(notices.observe(ClockState::Good, at(1)).is_some());
        assert_eq!(notices.observe(AHEAD, at(2)), None);
        assert!(matches!(notices.observe(AHEAD, at(60)), Some(Notice::Grave(_))));
    }

    #[test]
    fn each_line_says_what_becomes_of_readings() {
        let wall = Timestamp::from_millis(50_000);
        let cases = [
            (AHEAD, "kept on disk without dates"),
            (ClockState::NotPlausible { reason: Implausible::NotSet { wall } }, "once it is set"),
            (ClockState::NotPlausible { reason: Implausible::FarFuture { wall } }, "trust_local_clock"),
            (ClockState::Repeating { until: wall }, "the server drops readings until"),
            (converging(1), "no reading is lost"),
            (ClockState::Behind { by: at(9_000) }, "dated by this machine's clock"),
        ];
        for (state, said) in cases {
            let told = format!("{:?}", ClockLog::default().observe(state, at(0)));
            assert!(told.contains(said), "{told}");
        }
        let mut notices = ClockLog::default();
        notices.observe(AHEAD, at(0));
        let told = format!("{:?}", notices.observe(ClockState::Good, at(90)));
        assert!(told.contains("right again after 1m 30s; what was kept without dates is dated"), "{told}");
    }
}
