//! One device across connections: connects when it must, reads blocks, keeps trouble where it belongs.
//!
//! A poll reads its blocks one after another over one connection. What fails costs as little as it can:
//!
//! - an exception costs its block; busy (5, 6) is asked again in the same poll, once unless it is set;
//! - a refused address or value (2, 3) costs the points that it is about: the others are found ([`Hunt`]) and read in
//!   the same poll, and from then on without them ([`Refusals`]);
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
use super::hunt::{Found, Hunt};
use super::link::Link;
use super::plan::{Block, Spot, runs};
use super::refusals::Refusals;
use super::register::{Table, UnitId, Units};
use super::settings::Settings;
use crate::backoff::Backoff;
use crate::clock;
use crate::health::{Change, Health, Trouble};
use crate::phrase::{Chain, some_of};
use crate::reading::{PointId, Reading, Timestamp, Value};
use crate::resolve::Resolver;

/// This many units in a row without an answer, and the device is taken to be silent as a whole.
pub const SILENT_UNITS: usize = 2;

/// In one poll at most so many requests are made to find out what is refused: as many as it takes for one request
/// of [`Limits::MAX_REGISTERS`](super::plan::Limits::MAX_REGISTERS) values of which any are refused.
pub const MOST_EXTRA: usize = 250;

/// How long a device that says it is busy is left alone before it is asked again.
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
    /// Points that were read and have no value, and why.
    pub omitted: Vec<(PointId, NotAValue)>,
    /// The entries that were read, for a session that keeps them.
    pub words: Vec<(Spot, Vec<u16>)>,
    /// What is worth a line in the log.
    pub events: Vec<Event>,
    /// The [`kind`](ReadError::kind) of each request or connection that failed.
    pub failures: Vec<&'static str>,
    /// What was learned of what the device refuses.
    pub lessons: Vec<Lesson>,
    /// Whether the device answered anything at all.
    pub answered: bool,
}

/// What was learned of what a device refuses; told once.
#[derive(Debug)]
pub enum Lesson {
    /// These values are refused, and left out from now on.
    Refused(Vec<Spot>, ReadError),
    /// A value that was refused is read again.
    Accepted(Spot),
    /// Entries that nobody asked for are refused.
    Gaps,
    /// A request was refused that is longer than what is read without trouble.
    TooLong {
        /// The unit.
        unit: UnitId,
        /// The table.
        table: Table,
        /// What was read.
        works: u16,
        /// What was refused.
        fails: u16,
    },
}

impl Outcome {
    fn take(&mut self, point: PointId, at: Timestamp, value: Result<Value, NotAValue>) {
        match value {
            Ok(value) => self.readings.push(Reading { point, at, value }),
            Err(why) => self.omitted.push((point, why)),
        }
    }
}

/// The way to a device: makes a new connection whenever the last one is gone.
pub trait Dial {
    /// Connects.
    fn dial(&mut self) -> impl Future<Output = Result<Link, ConnectError>>;
}

/// The way to an endpoint.
#[derive(Debug)]
pub struct EndpointDial {
    to: Way,
    settings: Settings,
}

#[derive(Debug)]
enum Way {
    Tcp(Resolver),
    Serial(String),
}

impl EndpointDial {
    /// The way to `endpoint`; the name of a host is resolved afresh each time.
    #[must_use]
    pub fn new(endpoint: &Endpoint, settings: Settings) -> Self {
        let to = match endpoint {
            Endpoint::Tcp { host, port } => Way::Tcp(Resolver::new(host, *port)),
            Endpoint::Serial { path } => Way::Serial(path.clone()),
        };
        Self { to, settings }
    }
}

impl Dial for EndpointDial {
    async fn dial(&mut self) -> Result<Link, ConnectError> {
        match &mut self.to {
            Way::Tcp(host) => Link::connect(host, &self.settings).await,
            Way::Serial(path) => Link::open(path, &self.settings).await,
        }
    }
}

/// A device and what is known of it since the start.
#[derive(Debug)]
pub struct Session<D> {
    dial: D,
    /// How often a busy device is asked again in the same poll.
    retries: u16,
    keeps_words: bool,
    /// What the next poll puts its readings into.
    lent: Vec<Reading>,
    link: Option<Link>,
    connection: Gate,
    units: BTreeMap<UnitId, Gate>,
    health: Health<Subject>,
    troubles: BTreeMap<Subject, Trouble>,
    refusals: Refusals,
    /// What the device said when it last refused a value of a unit and table.
    refused_with: BTreeMap<(UnitId, Table), String>,
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

/// A poll under way.
struct Poll<S> {
    outcome: Outcome,
    gathering: Gathering,
    stamp: S,
    /// Units that have been found silent.
    silent: Units,
    /// Units of which something was read.
    answering: Units,
    /// Requests that are to be searched for what is refused of them.
    refused: Vec<(Block, ReadError)>,
    /// Requests made by searches.
    extra: usize,
    /// Whether the device itself is in trouble.
    over: bool,
}

impl<S> Poll<S> {
    fn new(stamp: S, readings: Vec<Reading>) -> Self {
        Self {
            outcome: Outcome { readings, ..Outcome::default() },
            gathering: Gathering::default(),
            stamp,
            silent: Units::default(),
            answering: Units::default(),
            refused: Vec::new(),
            extra: 0,
            over: false,
        }
    }

    fn end(mut self) -> Outcome {
        self.gathering.finish(|point, at, value| self.outcome.take(point, at, value));
        self.outcome
    }
}

/// What became of a request.
enum Asked {
    /// Its values are read.
    Read,
    /// The device said no.
    Refused(ReadError),
    /// It was not made, or nobody answered; that is told already.
    Not,
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
            retries: Settings::default().retries,
            keeps_words: false,
            lent: Vec::new(),
            link: None,
            connection: Gate::default(),
            units: BTreeMap::new(),
            health: Health::default(),
            troubles: BTreeMap::new(),
            refusals: Refusals::default(),
            refused_with: BTreeMap::new(),
        }
    }

    /// How long until a device that cannot be connected to may be tried again; `None` for any other device.
    #[must_use]
    pub fn retry_in(&self) -> Option<Duration> {
        self.connection.opens.map(|opens| opens.saturating_duration_since(Instant::now()))
    }

    /// One that asks a busy device so often again in the same poll.
    #[must_use]
    pub fn with_retries(self, retries: u16) -> Self {
        Self { retries, ..self }
    }

    /// One that hands over the entries as they were read, too.
    #[must_use]
    pub fn keeping_words(self) -> Self {
        Self { keeps_words: true, ..self }
    }

    /// The readings of the next poll go into `buffer`, which is empty.
    pub fn lend(&mut self, buffer: Vec<Reading>) {
        self.lent = buffer;
    }

    /// Gives up the connection until the next poll.
    pub fn hang_up(&mut self) {
        self.link = None;
    }

    /// What is failing now.
    #[must_use]
    pub fn troubles(&self) -> &BTreeMap<Subject, Trouble> {
        &self.troubles
    }

    /// What the device is known to refuse.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Why the value at `spot`, which is refused, is refused.
    #[must_use]
    pub fn refused_because(&self, spot: Spot) -> String {
        let with = self.refused_with.get(&(spot.unit, spot.table));
        with.cloned().unwrap_or_else(|| "refused in an earlier run of the agent".to_owned())
    }

    /// Whatever was refused may be asked for again.
    pub fn forget_refusals(&mut self) {
        self.refusals = Refusals::default();
    }

    /// What the device is known to refuse, by unit and table, for people.
    pub fn refused(&self) -> impl Iterator<Item = (String, Trouble)> + '_ {
        self.refusals.by_table().into_iter().map(|((unit, table), (since, spots))| {
            let with = self.refused_with.get(&(unit, table)).map_or("in an earlier run of the agent", String::as_str);
            let cause = format!("refused: {} ({with})", some_of(runs(spots).iter()));
            (format!("unit {unit}, {table}"), Trouble { since, cause })
        })
    }

    /// An earlier process found that these values are refused.
    pub fn remember(&mut self, spots: impl IntoIterator<Item = Spot>) {
        self.refusals.remember(spots, clock::now());
    }

    /// Reads `blocks`, as far as the device lets it; each reply is dated by `stamp` when it is there.
    pub async fn poll<'b>(
        &mut self,
        blocks: impl IntoIterator<Item = &'b Block, IntoIter: Clone>,
        stamp: impl FnMut() -> Timestamp,
    ) -> Outcome {
        let mut poll = Poll::new(stamp, std::mem::take(&mut self.lent));
        if !self.connection.is_open() {
            return poll.outcome;
        }
        let (blocks, now) = (blocks.into_iter(), clock::boot());
        // Units that have been silent come last; otherwise the order stays.
        let silent: Vec<_> = self.units.keys().copied().collect();
        for last in [false, true] {
            for block in blocks.clone().filter(|block| silent.contains(&block.unit) == last) {
                match self.refusals.instead(block, now) {
                    None => self.read_or_note(block, &mut poll).await,
                    Some(pieces) => {
                        for piece in pieces.iter() {
                            self.read_or_note(piece, &mut poll).await;
                        }
                    }
                }
            }
        }
        for (block, cause) in std::mem::take(&mut poll.refused) {
            Box::pin(self.search(&block, cause, &mut poll)).await;
        }
        for probe in self.refusals.probes(&blocks, now) {
            Box::pin(self.try_again(&probe, &mut poll)).await;
        }
        poll.end()
    }

    /// Reads `block`; what the device refuses of it is searched later in the poll.
    async fn read_or_note<S: FnMut() -> Timestamp>(&mut self, block: &Block, poll: &mut Poll<S>) {
        match self.ask(block, poll).await {
            Asked::Read => {
                self.refusals.read(block.unit, block.table, block.quantity);
                // Requests for parts of it may have failed before.
                let parts: Vec<_> = self.troubles.keys().filter(|it| it.is_within(block)).copied().collect();
                for part in parts {
                    self.worked(part, &mut poll.outcome);
                }
            }
            Asked::Refused(cause) if cause.is_about_the_request() && !block.whole => {
                poll.refused.push((block.clone(), cause));
            }
            Asked::Refused(cause) => self.failed(Subject::of(block), cause, None, &mut poll.outcome),
            Asked::Not => {}
        }
    }

    /// Finds out what of `block` is refused, and reads the rest of it.
    async fn search<S: FnMut() -> Timestamp>(&mut self, block: &Block, cause: ReadError, poll: &mut Poll<S>) {
        let (unit, table) = (block.unit, block.table);
        let answering = poll.answering.contains(unit);
        if !answering && !self.refusals.may_search(unit, clock::boot()) {
            return self.failed(Subject::of(block), cause, None, &mut poll.outcome);
        }
        let mut hunt = Hunt::new(block, answering);
        while poll.extra < MOST_EXTRA
            && let Some(part) = hunt.ask()
        {
            poll.extra += 1;
            match self.ask(part, poll).await {
                Asked::Read => hunt.read(),
                Asked::Refused(cause) if cause.is_about_the_request() => hunt.refused(),
                Asked::Refused(_) => {}
                Asked::Not => break,
            }
        }
        let found = hunt.end();
        let news = self.refusals.learn(unit, table, &found, clock::now());
        match found {
            Found::Nothing => self.failed(Subject::of(block), cause, None, &mut poll.outcome),
            _ if !news => self.worked(Subject::of(block), &mut poll.outcome),
            Found::Refused(spots) => {
                self.refused_with.insert((unit, table), Chain(&cause).to_string());
                self.worked(Subject::of(block), &mut poll.outcome);
                poll.outcome.lessons.push(Lesson::Refused(spots, cause));
            }
            Found::Gaps => poll.outcome.lessons.push(Lesson::Gaps),
            Found::TooLong { works, fails } => {
                poll.outcome.lessons.push(Lesson::TooLong { unit, table, works, fails });
            }
        }
    }

    /// Reads one value that was refused before.
    async fn try_again<S: FnMut() -> Timestamp>(&mut self, probe: &Block, poll: &mut Poll<S>) {
        for spot in probe.spots() {
            match self.ask(probe, poll).await {
                Asked::Read => {
                    self.refusals.accepted(spot);
                    poll.outcome.lessons.push(Lesson::Accepted(spot));
                }
                Asked::Refused(cause) => {
                    self.refused_with.insert((spot.unit, spot.table), Chain(&cause).to_string());
                    self.refusals.refused_again(spot, clock::boot());
                }
                Asked::Not => {}
            }
        }
    }

    /// Asks for `block`, unless its unit or the device has been found silent in this poll.
    async fn ask<S: FnMut() -> Timestamp>(&mut self, block: &Block, poll: &mut Poll<S>) -> Asked {
        let Block { unit, .. } = *block;
        if poll.over || poll.silent.contains(unit) || !self.units.get(&unit).is_none_or(Gate::is_open) {
            return Asked::Not;
        }
        let outcome = &mut poll.outcome;
        let result = self.read(block).await;
        outcome.failures.extend(result.as_ref().err().map(|(_, error)| error.kind()));
        match result {
            Ok(words) => {
                outcome.answered = true;
                poll.answering.insert(unit);
                self.reached(unit, outcome);
                if self.keeps_words {
                    let spot = Spot { unit, table: block.table, address: block.address, width: block.quantity };
                    outcome.words.push((spot, words.clone()));
                }
                outcome.readings.reserve(block.points.len());
                poll.gathering.take(block, &words, (poll.stamp)(), |point, at, value| outcome.take(point, at, value));
                Asked::Read
            }
            Err((Verdict::Refused, cause)) => {
                outcome.answered = true;
                self.reached(unit, outcome);
                Asked::Refused(cause)
            }
            Err((Verdict::Silent, cause)) => {
                outcome.answered |= !cause.link_is_dead();
                poll.silent.insert(unit);
                let wait = self.units.entry(unit).or_default().shut();
                self.failed(Subject::Unit(unit), cause, Some(wait), outcome);
                poll.over = !outcome.answered && poll.silent.count() >= SILENT_UNITS;
                Asked::Not
            }
            Err((Verdict::Unreachable, cause)) => {
                let wait = self.connection.shut();
                self.failed(Subject::Connection, cause, Some(wait), outcome);
                poll.over = true;
                Asked::Not
            }
        }
    }

    /// One block, over the present connection or a new one.
    async fn read(&mut self, block: &Block) -> Result<Vec<u16>, (Verdict, ReadError)> {
        let mut result = self.exchange(block).await;
        if matches!(&result, Err((_, error)) if error.is_stale_connection()) {
            result = self.exchange(block).await;
        }
        for _ in 0..self.retries {
            if !matches!(&result, Err((_, error)) if error.is_busy()) {
                break;
            }
            tokio::time::sleep(BUSY_PAUSE).await;
            result = self.exchange(block).await;
        }
        result
    }

    async fn exchange(&mut self, block: &Block) -> Result<Vec<u16>, (Verdict, ReadError)> {
        let mut link = match self.link.take() {
            Some(link) => link,
            // What is rare lies apart: the future of each device is as large as the largest of its parts.
            None => Box::pin(self.dial.dial()).await.map_err(|error| (Verdict::Unreachable, error.into()))?,
        };
        // The backoff itself goes on until the device has answered something.
        self.connection.opens = None;
        let result = link.read(block).await;
        match result {
            Err(error) if error.is_of_the_connection() => Err((Verdict::Unreachable, error)),
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

    fn reached(&mut self, unit: UnitId, outcome: &mut Outcome) {
        self.connection = Gate::default();
        self.units.remove(&unit);
        self.worked(Subject::Connection, outcome);
        self.worked(Subject::Unit(unit), outcome);
    }

    fn worked(&mut self, subject: Subject, outcome: &mut Outcome) {
        if self.health.is_well() {
            return;
        }
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

    /// Whether it is a request for what is in `block`, or for a part of that.
    fn is_within(self, block: &Block) -> bool {
        let Self::Block { unit, table, address, quantity } = self else { return false };
        let end = |address: u16, quantity: u16| u32::from(address) + u32::from(quantity);
        (unit, table) == (block.unit, block.table)
            && block.address <= address
            && end(address, quantity) <= end(block.address, block.quantity)
    }

    /// Whether it is a request for what is at `spot`, among others.
    #[must_use]
    pub fn covers(self, spot: Spot) -> bool {
        let Self::Block { unit, table, address, quantity } = self else { return false };
        let end = |address: u16, quantity: u16| u32::from(address) + u32::from(quantity);
        (unit, table) == (spot.unit, spot.table)
            && address <= spot.address
            && end(spot.address, spot.width) <= end(address, quantity)
    }
}

#[cfg(test)]
mod tests;
