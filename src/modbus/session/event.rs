//! What a poll brought and what is worth telling of it: plain data.

use std::fmt;
use std::time::Duration;

use crate::modbus::decode::NotAValue;
use crate::modbus::error::ReadError;
use crate::modbus::link::Remark;
use crate::modbus::plan::{Block, Span};
use crate::modbus::refusals::Limit;
use crate::modbus::register::{Table, UnitId};
use crate::outage::Transition;
use crate::reading::{PointId, Reading, Timestamp, Value};

/// What can be at fault by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The connection to the host and port.
    Connection,
    /// Every unit: the device takes connections and answers nothing.
    AllUnits,
    /// One unit: its own device, when it is behind a gateway.
    Unit(UnitId),
    /// One request of the plan.
    Block {
        /// Unit asked.
        unit: UnitId,
        /// Table asked.
        table: Table,
        /// First address asked, 0-based.
        address: u16,
        /// How many registers.
        quantity: u16,
    },
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection => f.write_str("connection"),
            Self::AllUnits => f.write_str("all units"),
            Self::Unit(unit) => write!(f, "unit {unit}"),
            Self::Block { unit, table, address, quantity } => {
                write!(f, "unit {unit}, {table} at address {address}, quantity {quantity}")
            }
        }
    }
}

impl Subject {
    /// The request that reads `block`.
    #[must_use]
    pub fn of(block: &Block) -> Self {
        Self::Block { unit: block.unit, table: block.table, address: block.address, quantity: block.quantity }
    }

    /// The unit that it is about; `None` for the whole device.
    #[must_use]
    pub fn unit(self) -> Option<UnitId> {
        match self {
            Self::Connection | Self::AllUnits => None,
            Self::Unit(unit) | Self::Block { unit, .. } => Some(unit),
        }
    }

    /// Whether `block` cannot be read while it fails.
    #[must_use]
    pub fn is_about(self, block: &Block) -> bool {
        match self {
            Self::Connection | Self::AllUnits => true,
            Self::Unit(unit) => unit == block.unit,
            Self::Block { .. } => self == Self::of(block),
        }
    }

    /// Whether it is a request for what is at `span`, among others.
    #[must_use]
    pub fn covers(self, span: Span) -> bool {
        let Self::Block { unit, table, address, quantity } = self else { return false };
        // Behind the last entry of a table is 65536.
        let end = |address: u16, quantity: u16| u32::from(address) + u32::from(quantity);
        (unit, table) == (span.unit, span.table)
            && address <= span.address
            && end(span.address, span.width) <= end(address, quantity)
    }
}

/// A change of state that a person should read about.
#[derive(Debug)]
pub struct Event {
    /// What it is about.
    pub subject: Subject,
    /// What happened.
    pub transition: Transition,
    /// Why; `None` for a recovery.
    pub cause: Option<ReadError>,
    /// How long until it is tried again, when that is not simply the next poll.
    pub retry_in: Option<Duration>,
}

/// What was learned of a device; told once.
#[derive(Debug)]
pub enum Discovery {
    /// These values are refused, and left out from now on.
    Refused(Vec<Span>, ReadError),
    /// Values that were refused are read again.
    Accepted(Vec<Span>),
    /// Entries that nobody asked for are refused.
    Gaps(UnitId),
    /// A request was refused, or not answered, that is longer than what is read without a fault.
    TooLong {
        /// The table.
        table: Table,
        /// What works and what does not.
        limit: Limit,
    },
    /// The device answers only so long after it was connected to.
    NeedsPause(Duration),
    /// Something odd about its connection, of which it works all the same.
    Remark(Remark),
}

/// Why a point that was due was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// The device is known to refuse it.
    Refused,
    /// The device answered its request with an exception.
    Exception,
    /// Its unit does not answer.
    Silent,
    /// There is no connection to the device.
    Unreachable,
}

impl Unread {
    /// Every reason, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Refused, Self::Exception, Self::Silent, Self::Unreachable];

    /// The reason as a word for logs and counters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Exception => "exception",
            Self::Silent => "silent",
            Self::Unreachable => "unreachable",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Refused => 0,
            Self::Exception => 1,
            Self::Silent => 2,
            Self::Unreachable => 3,
        }
    }
}

/// What one poll brought.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Every value that was read.
    pub readings: Vec<Reading>,
    /// Points that were read and have no value, and why.
    pub omitted: Vec<(PointId, NotAValue)>,
    /// How many points were due by their tick.
    pub due: usize,
    /// How many values were read to see whether a unit answers at all, ahead of the requests that they belong to: not
    /// counted among what was due.
    pub ahead: usize,
    /// How many points that were due, now or earlier, are given up, by [`Unread::index`].
    pub unread: [usize; Unread::ALL.len()],
    /// The entries that were read, for a session that keeps them.
    pub words: Vec<(Span, Vec<u16>)>,
    /// What is worth a line in the log.
    pub events: Vec<Event>,
    /// The [`kind`](ReadError::kind) of each request or connection that failed.
    pub failures: Vec<&'static str>,
    /// What was learned of the device.
    pub discoveries: Vec<Discovery>,
    /// Whether what is worth keeping for the next process has changed.
    pub learned: bool,
    /// Whether a connection was made for it.
    pub connected: bool,
    /// Whether the device answered anything at all.
    pub answered: bool,
}

impl Outcome {
    pub(super) fn take(&mut self, point: PointId, at: Timestamp, value: Result<Value, NotAValue>) {
        match value {
            Ok(value) => self.readings.push(Reading { point, at, value }),
            Err(why) => self.omitted.push((point, why)),
        }
    }
}
