//! The vocabulary that every room shares: which point was read, when, and what its value was.
//!
//! Owns nothing but plain data. A [`Reading`] exists only for a value that a device sent in this poll;
//! there is no reading for a failure.

pub mod points;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A configured point: its place in the dense table of all points of one configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointId(pub u32);

impl PointId {
    /// The place as an index into a slice that has one entry per point.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Wall-clock time in whole milliseconds since 1970-01-01 00:00 UTC, the server's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The beginning of the year 10000, which RFC 3339 cannot say.
    pub const NO_DATE: Self = Self(253_402_300_800_000);

    /// As RFC 3339 says it, in UTC with milliseconds; only of an instant before [`NO_DATE`](Self::NO_DATE).
    #[must_use]
    pub fn rfc3339(self) -> humantime::Rfc3339Timestamp {
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(self.0))
    }

    /// The instant `ms` milliseconds after the epoch.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This instant moved on by `duration`, rounded down to the millisecond.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This instant moved back by `duration`; the epoch where it would be before that.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// How long `self` is after `earlier`; zero when it is before it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for Timestamp {
    /// A clock set before 1970 counts as the epoch.
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0, millis))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A duration in whole milliseconds, rounded down.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a point held, in the number form in which the original agent posts it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A JSON integer: points with multiplier 0, which means "raw".
    Integer(i64),
    /// A JSON float, always finite: every other point.
    Float(f64),
}

impl Value {
    /// The number, rounded to the nearest float.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "that is what is asked for")]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            Self::Float(float) => float,
        }
    }
}

/// One value of one point, read from its device at `at`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Which point was read.
    pub point: PointId,
    /// When the reply with this value was there.
    pub at: Timestamp,
    /// What the point held.
    pub value: Value,
}
