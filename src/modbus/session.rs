//! One device across connections: connects when it must, reads blocks, keeps trouble where it belongs.
//!
//! A poll reads its blocks one after another over one connection. What fails costs as little as it can:
//!
//! - an exception costs its block; busy (5, 6) is asked once more in the same poll;
//! - a timeout, a transport or a protocol error closes the connection; the unit that was asked is left
//!   alone for the rest of the poll, then probed once per backoff period, after the units that are well;
//! - exceptions 10 and 11 say that the unit behind the gateway is gone: the same, but the link is fine;
//! - [`SILENT_UNITS`] units in a row without any answer, or a failed connect, end the poll: the device
//!   itself is in trouble, and is tried again once per backoff period;
//! - a connection that the device closed while it was idle is opened again and the request sent once more.
//!
//! Values exist only for replies of this poll. Trouble is told as changes of state, by [`Subject`].

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::decode::{Gathering, NotAValue};
use super::endpoint::Endpoint;
use super::error::{ConnectError, ReadError};
use super::link::{Link, Timeouts};
use super::plan::Block;
use super::register::{Table, UnitId};
use crate::backoff::Backoff;
use crate::clock;
use crate::health::{Change, Health, Trouble};
use crate::phrase::Chain;
use crate::reading::{PointId, Reading, Timestamp, Value};
use crate::resolve::Resolver;

/// This many units in a row without an answer, and the device is taken to be silent as a whole.
pub const SILENT_UNITS: usize = 2;

/// How long a device that says it is busy is left alone before it is asked once more.
pub const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// What can be in trouble by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The connection to the host and port.
    Connection,
    /// One unit: its own device, when it is behind a gateway.
    Unit(UnitId),
    /// One request.
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
            Self::Unit(unit) => write!(f, "unit {unit}"),
            Self::Block { unit, table, address, quantity } => {
                write!(f, "unit {unit}, {table} at address {address}, quantity {quantity}")
            }
        }
    }
}

/// A change of state that a person should read about.
#[derive(Debug)]
pub struct Event {
    /// What it is about.
    pub subject: Subject,
    /// What happened.
    pub change: Change,
    /// Why; `None` for a recovery.
    pub cause: Option<ReadError>,
    /// How long until it is tried again, when that is not simply the next poll.
    pub retry_in: Option<Duration>,
}

/// What one poll brought.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Every value that was read.
    pub readings: Vec<Reading>,
    /// Values that were read but cannot be sent.
    pub not_sendable: usize,
    /// Points that the device has no value for.
    pub unavailable: usize,
    /// Values that were read but are outside the configured limits.
    pub outside_limits: usize,
    /// What is worth a line in the log.
    pub events: Vec<Event>,
    /// Whether the device answered anything at all.
    pub answered: bool,
}

impl Outcome {
    fn take(&mut self, point: PointId, at: Timestamp, value: Result<Value, NotAValue>) {
        match value {
            Ok(value) => self.readings.push(Reading { point, at, value }),
            Err(NotAValue::OutOfRange { .. } | NotAValue::NoWord { .. }) => self.not_sendable += 1,
            Err(NotAValue::Outside(_)) => self.outside_limits += 1,
            Err(
                NotAValue::Unavailable(_) | NotAValue::NotANumber(_) | NotAValue::NotDecimal(_) | NotAValue::Unscaled,
            ) => self.unavailable += 1,
        }
    }
}

/// The way to a device: makes a new connection whenever the last one is gone.
pub trait Dial {
    /// Connects.
    fn dial(&mut self) -> impl Future<Output = Result<Link, ConnectError>>;
}

/// The way to a device over TCP.
#[derive(Debug)]
pub struct TcpDial {
    resolver: Resolver,
    timeouts: Timeouts,
}

impl TcpDial {
    /// The way to `endpoint`, whose name is resolved afresh each time.
    #[must_use]
    pub fn new(endpoint: &Endpoint, timeouts: Timeouts) -> Self {
        Self { resolver: Resolver::new(&endpoint.host, endpoint.port), timeouts }
    }
}

impl Dial for TcpDial {
    async fn dial(&mut self) -> Result<Link, ConnectError> {
        Link::connect(&mut self.resolver, self.timeouts).await
    }
}

/// A device and what is known of it since the start.
#[derive(Debug)]
pub struct Session<D> {
    dial: D,
    link: Option<Link>,
    connection: Gate,
    units: BTreeMap<UnitId, Gate>,
    health: Health<Subject>,
    troubles: BTreeMap<Subject, Trouble>,
}

/// Lets an attempt through once per backoff period.
#[derive(Debug, Default)]
struct Gate {
    backoff: Backoff,
    opens: Option<Instant>,
}

impl Gate {
    fn shut(&mut self) -> Duration {
        let wait = self.backoff.fail(fastrand::f64());
        self.opens = Some(Instant::now() + wait);
        wait
    }

    fn is_open(&self) -> bool {
        self.opens.is_none_or(|opens| opens <= Instant::now())
    }
}

/// What a failed read means for the rest of the poll.
enum Verdict {
    /// This block only.
    Refused,
    /// This unit does not answer.
    Silent,
    /// Nobody answers.
    Unreachable,
}

impl<D: Dial> Session<D> {
    /// Not connected yet.
    #[must_use]
    pub fn new(dial: D) -> Self {
        Self {
            dial,
            link: None,
            connection: Gate::default(),
            units: BTreeMap::new(),
            health: Health::default(),
            troubles: BTreeMap::new(),
        }
    }

    /// How long until a device that cannot be connected to may be tried again; `None` for any other device.
    #[must_use]
    pub fn retry_in(&self) -> Option<Duration> {
        self.connection.opens.map(|opens| opens.saturating_duration_since(Instant::now()))
    }

    /// What is failing now.
    #[must_use]
    pub fn troubles(&self) -> &BTreeMap<Subject, Trouble> {
        &self.troubles
    }

    /// Reads `blocks`, as far as the device lets it; each reply is dated by `stamp` when it is there.
    pub async fn poll<'b>(
        &mut self,
        blocks: impl IntoIterator<Item = &'b Block>,
        mut stamp: impl FnMut() -> Timestamp,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        if !self.connection.is_open() {
            return outcome;
        }
        let (well, probes): (Vec<_>, Vec<_>) =
            blocks.into_iter().partition(|block| !self.units.contains_key(&block.unit));
        let mut silent: Vec<UnitId> = Vec::new();
        let mut gathering = Gathering::default();
        for block in well.into_iter().chain(probes) {
            if silent.contains(&block.unit) || !self.units.get(&block.unit).is_none_or(Gate::is_open) {
                continue;
            }
            match self.read(block).await {
                Ok(words) => {
                    outcome.answered = true;
                    self.answered(block, &mut outcome);
                    gathering.take(block, &words, stamp(), |point, at, value| outcome.take(point, at, value));
                }
                Err((Verdict::Refused, cause)) => {
                    outcome.answered = true;
                    self.reached(block.unit, &mut outcome);
                    self.failed(Subject::of(block), cause, None, &mut outcome);
                }
                Err((Verdict::Silent, cause)) => {
                    outcome.answered |= !cause.link_is_dead();
                    silent.push(block.unit);
                    let wait = self.units.entry(block.unit).or_default().shut();
                    self.failed(Subject::Unit(block.unit), cause, Some(wait), &mut outcome);
                    if !outcome.answered && silent.len() >= SILENT_UNITS {
                        break;
                    }
                }
                Err((Verdict::Unreachable, cause)) => {
                    let wait = self.connection.shut();
                    self.failed(Subject::Connection, cause, Some(wait), &mut outcome);
                    break;
                }
            }
        }
        gathering.finish(|point, at, value| outcome.take(point, at, value));
        outcome
    }

    /// One block, over the present connection or a new one.
    async fn read(&mut self, block: &Block) -> Result<Vec<u16>, (Verdict, ReadError)> {
        match self.exchange(block).await {
            Err((_, error)) if error.is_stale_connection() => self.exchange(block).await,
            Err((_, error)) if error.is_busy() => {
                tokio::time::sleep(BUSY_PAUSE).await;
                self.exchange(block).await
            }
            other => other,
        }
    }

    async fn exchange(&mut self, block: &Block) -> Result<Vec<u16>, (Verdict, ReadError)> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.dial.dial().await.map_err(|error| (Verdict::Unreachable, error.into()))?,
        };
        // The backoff itself goes on until the device has answered something.
        self.connection.opens = None;
        let result = link.read(block).await;
        match result {
            Err(error) if error.link_is_dead() => Err((Verdict::Silent, error)),
            Err(error) => {
                self.link = Some(link);
                Err((if error.unit_is_gone() { Verdict::Silent } else { Verdict::Refused }, error))
            }
            Ok(words) => {
                self.link = Some(link);
                Ok(words)
            }
        }
    }

    fn answered(&mut self, block: &Block, outcome: &mut Outcome) {
        self.reached(block.unit, outcome);
        self.worked(Subject::of(block), outcome);
    }

    fn reached(&mut self, unit: UnitId, outcome: &mut Outcome) {
        self.connection = Gate::default();
        self.units.remove(&unit);
        self.worked(Subject::Connection, outcome);
        self.worked(Subject::Unit(unit), outcome);
    }

    fn worked(&mut self, subject: Subject, outcome: &mut Outcome) {
        self.troubles.remove(&subject);
        if let Some(change) = self.health.worked(&subject, clock::boot()) {
            outcome.events.push(Event { subject, change, cause: None, retry_in: None });
        }
    }

    fn failed(&mut self, subject: Subject, cause: ReadError, retry_in: Option<Duration>, outcome: &mut Outcome) {
        let now = clock::wall();
        let said = Chain(&cause).to_string();
        self.troubles.entry(subject).or_insert_with(|| Trouble { since: now, cause: String::new() }).cause = said;
        if let Some(change) = self.health.failed(subject, cause.kind(), clock::boot()) {
            outcome.events.push(Event { subject, change, cause: Some(cause), retry_in });
        }
    }
}

impl Subject {
    /// The request that reads `block`.
    #[must_use]
    pub fn of(block: &Block) -> Self {
        Self::Block { unit: block.unit, table: block.table, address: block.address, quantity: block.quantity }
    }
}

#[cfg(test)]
mod tests;
