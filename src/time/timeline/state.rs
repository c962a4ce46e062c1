//! What is to be said about the clock: to the log when it changes, to the status at any time.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use crate::reading::Timestamp;
use crate::text::seconds;

/// How the clock is, as far as stamps are concerned; the worst first, if several hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockState {
    /// It is not believed: stamps are boot times, readings wait for their date.
    NotPlausible {
        /// Why.
        reason: Implausible,
    },
    /// It was set back by more than stamps can hide: those given out now have been given out before.
    Repeating {
        /// The greatest stamp given out before; the server drops readings up to it.
        until: Timestamp,
    },
    /// It was set back by less: stamps go on, slower than time, until it has caught up.
    Slewing {
        /// How far they are ahead of it.
        ahead: Duration,
    },
    /// It is behind the server's by so much that one of the two is wrong; stamps follow it all the same.
    Behind {
        /// How far.
        by: Duration,
    },
    /// Stamps are its time.
    Good,
}

/// Why the wall clock is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Implausible {
    /// It shows a time before this program was built, or has run on from one without being set.
    NotSet {
        /// What it shows.
        wall: Timestamp,
    },
    /// It is ahead of the server's clock.
    AheadOfServer {
        /// How far.
        by: Duration,
    },
    /// It shows a time decades after this program was built, and no server has confirmed it.
    FarFuture {
        /// What it shows.
        wall: Timestamp,
    },
}

impl fmt::Display for ClockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotPlausible { reason } => reason.fmt(f),
            Self::Repeating { until } => {
                let until = utc(until);
                write!(
                    f,
                    "the clock was set back to before {until}; the server drops readings until it is later than that"
                )
            }
            Self::Slewing { ahead } => {
                let ahead = seconds(ahead);
                write!(f, "the clock was set back; timestamps are {ahead} ahead of it until it has caught up")
            }
            Self::Behind { by } => write!(f, "the clock is {} behind the server's", seconds(by)),
            Self::Good => f.write_str("the clock is right"),
        }
    }
}

impl fmt::Display for Implausible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotSet { wall } => write!(f, "the clock says {} and has not been set", utc(wall)),
            Self::AheadOfServer { by } => write!(f, "the clock is {} ahead of the server's", seconds(by)),
            Self::FarFuture { wall } => write!(f, "the clock says {}, and no server confirms it", utc(wall)),
        }
    }
}

/// The date as people write it; the last second of 9999 stands for all that comes after it.
fn utc(date: Timestamp) -> impl fmt::Display {
    let ms = date.as_millis().min(Timestamp::NO_DATE.as_millis() - 1);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_told_in_words_whatever_the_clock_shows() {
        let cases = [
            (
                Implausible::NotSet { wall: Timestamp::from_millis(50_000) },
                "the clock says 1970-01-01T00:00:50Z and has not been set",
            ),
            (
                Implausible::FarFuture { wall: Timestamp::from_millis(u64::MAX) },
                "the clock says 9999-12-31T23:59:59Z, and no server confirms it",
            ),
            (Implausible::AheadOfServer { by: Duration::from_secs(86_400) }, "the clock is 1day ahead of the server's"),
        ];
        for (reason, said) in cases {
            assert_eq!(ClockState::NotPlausible { reason }.to_string(), said);
        }
    }
}
