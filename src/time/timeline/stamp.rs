//! What a reading is stamped with, and who has been given which stamp.
//!
//! A stamp is a date, or, while the wall clock is not to be believed, the time since boot. Both have
//! thirteen digits in a body, so that the same encoder writes either and a date can later take the place of
//! a boot time without moving a byte: a boot time is written as [`EPOCH_OF_BOOT`] (2001) plus its
//! milliseconds. Dates of 2001 to 2017 never occur otherwise; a machine up for sixteen years would.

use std::time::Duration;

use crate::reading::{Timestamp, millis};

/// How a boot time of zero is written.
const EPOCH_OF_BOOT: u64 = 1_000_000_000_000;

/// From here on, what is written is a date.
const FIRST_DATE: u64 = 1_500_000_000_000;

/// When something was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// At this date.
    At(Timestamp),
    /// So long after boot, in whole milliseconds; the date is not known yet.
    Undated(Duration),
}

impl Stamp {
    /// As it stands in a reading and in a body.
    #[must_use]
    pub fn written(self) -> Timestamp {
        match self {
            Self::At(date) => date,
            Self::Undated(boot) => Timestamp::from_millis(EPOCH_OF_BOOT).after(boot),
        }
    }

    /// The stamp that is written so.
    #[must_use]
    pub fn read(written: Timestamp) -> Self {
        match written.as_millis() {
            ms @ EPOCH_OF_BOOT..FIRST_DATE => Self::Undated(Duration::from_millis(ms - EPOCH_OF_BOOT)),
            _ => Self::At(written),
        }
    }
}

/// A sequence in which stamps only go up: the readings of one device, say.
///
/// Strictness belongs to the sequence and not to all stamps of the process: a thousand devices polled each
/// second would otherwise push the line into the future, a millisecond for each stamp.
#[derive(Debug, Clone, Default)]
pub struct Track {
    /// The last date given to it.
    pub(super) last: Timestamp,
    /// The epoch of that date; a date of an earlier epoch binds nobody.
    pub(super) epoch: u64,
    /// The last boot time given to it.
    pub(super) held: Option<Duration>,
}

/// One whole millisecond later, and no more.
pub(super) fn next(stamp: Timestamp) -> Timestamp {
    stamp.after(Duration::from_millis(1))
}

/// Cut to whole milliseconds, the precision of a stamp.
pub(super) fn whole(boot: Duration) -> Duration {
    Duration::from_millis(millis(boot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_stamp_has_thirteen_digits_and_reads_as_it_was() {
        let years = |years: u64| Duration::from_secs(years * 365 * 86_400);
        let cases = [
            (Stamp::Undated(Duration::ZERO), 1_000_000_000_000),
            (Stamp::Undated(Duration::from_millis(50_123)), 1_000_000_050_123),
            (Stamp::Undated(years(15)), 1_473_040_000_000),
            (Stamp::At(Timestamp::from_millis(1_767_225_600_000)), 1_767_225_600_000),
        ];
        for (stamp, written) in cases {
            assert_eq!(stamp.written().as_millis(), written, "{stamp:?}");
            assert_eq!(Stamp::read(stamp.written()), stamp);
        }
        let before = Timestamp::from_millis(999_999_999_999);
        assert_eq!(Stamp::read(before), Stamp::At(before));
    }
}
