//! One device, decided: which request is next, and what a reply or a failure means. Pure.
//!
//! Owns what is known of the device from poll to poll (its faults, what it refuses, which of its units are silent, what
//! of each request is not read) and the poll under way. [`Core::begin`] starts a poll; [`Core::next`] says what to do;
//! [`Core::connected`], [`Core::read`] and [`Core::failed`] say what came of it; [`Core::end`] hands over what the poll
//! brought. All of it is told `now`, and its jitter comes from a generator that the caller seeds.
//!
//! Guarantees: what is asked instead of a request belongs to that request of that plan, so that a value can only go to
//! a point of the plan by which the poll began; state follows what is read, so a device of which every point is read
//! has no fault; nothing learned outlives what it was learned of ([`Core::assign`]); a poll makes a bounded number of
//! requests: one for each of the plan or of its substitutes, [`MOST_EXTRA`] for searches, [`PROBES`](crate::modbus::refusals::PROBES) for refused values
//! and as many runs of them as become readable, 16 at most for each scale register that is read again, and for each of
//! those at most `retries` more while the device is busy and one over a new connection.

mod answer;
mod choice;
mod poll;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use self::poll::Poll;
use super::event::{Event, Outcome, Subject, Unread};
use super::gate::{Gate, Pause};
use super::pause::ConnectPause;
use super::plan::DeviceSettings;
use crate::modbus::error::ReadError;
use crate::modbus::link::Remark;
use crate::modbus::plan::{Block, Span, runs};
use crate::modbus::refusals::search::Found;
use crate::modbus::refusals::{Learned, Refusals};
use crate::modbus::register::{Table, UnitId};
use crate::outage::{Fault, Outages};
use crate::text::{Chain, some_of};
use crate::time::clock::Moment;

/// This many units in a row without an answer, and the device is taken to be silent as a whole.
// One may be dead by itself; to wait for a third would cost a silent gateway one more timeout.
pub const SILENT_UNITS: usize = 2;

/// In one poll at most so many requests are made to find out what is refused: as many as it takes for one request
/// of [`Limits::MAX_REGISTERS`](crate::modbus::plan::Limits::MAX_REGISTERS) values of which any are refused.
pub const MOST_EXTRA: usize = 250;

/// How long a device that says it is busy is left alone before it is asked again for the first time; then twice as long.
// Doubled, since one length is not enough: whoever is busy when asked within 300 ms is never read 100 ms apart.
pub const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// A busy device is never left alone for longer than this within a poll.
pub const LONGEST_BUSY_PAUSE: Duration = Duration::from_secs(2);

/// After so many timeouts of a unit, or of one request of it, it is asked for a single value, every other time.
pub const TIMEOUTS_BEFORE_SMALL: u32 = 3;

/// A scale register is read again so often in one poll at most; values that would need more have none in that poll.
// A search asks for it after each of its requests, and of those there may be [`MOST_EXTRA`].
const MOST_RECHECKS: u8 = 16;

/// Silent units may take one part in so many of the time of a device of which other units answer.
const SHARE_OF_SILENT: u32 = 5;

/// When something was refused of which only that is known: a device that a reload concerns begins anew, too.
const BEFORE: &str = "before the last start or reload";

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum Step<'c> {
    /// Connect, and ask nothing for so long after it, or for as long as is configured if that is longer.
    Connect(Duration),
    /// Read this.
    Ask(&'c Block),
    /// Do nothing for so long.
    Rest(Pause),
    /// The poll is over: [`Core::end`] has what it brought.
    End,
}

/// A device and what is known of it since the start.
#[derive(Debug)]
pub struct Core {
    plan: Arc<DeviceSettings>,
    /// What is known of each request of the plan, cycle by cycle.
    requests: Vec<Request>,
    units_planned: usize,
    random: fastrand::Rng,
    keeps_words: bool,
    polls: u64,
    connection: Connection,
    /// Whether this connection, or the last one, has answered anything.
    heard: bool,
    /// What answered last: the unit, and the request of the plan.
    heard_of: Option<(UnitId, Option<usize>)>,
    /// Shut while the device as a whole is left alone.
    device: Gate,
    /// Whether that is because it takes connections and answers nothing.
    all_silent: bool,
    /// The unit that was asked last while all were silent.
    asked_last: Option<UnitId>,
    pause: ConnectPause,
    /// Units that did not answer when last asked.
    silent: BTreeMap<UnitId, Silent>,
    /// While others answer, no silent unit is asked before.
    silent_from: Duration,
    outages: Outages<Subject>,
    faults: BTreeMap<Subject, Fault>,
    refusals: Refusals,
    /// What the device said when it last refused a value of a unit and table.
    refused_with: BTreeMap<(UnitId, Table), String>,
    /// The kinds of remarks on its connection that were told.
    remarked: Vec<std::mem::Discriminant<Remark>>,
    poll: Poll,
}

/// The connection, as far as it matters to what is asked over it.
#[derive(Debug, Default)]
struct Connection {
    /// Whether there is one.
    linked: bool,
    /// Whether its first request is still to be answered, or not.
    fresh: bool,
    /// The poll in which it was made.
    made_in: u64,
    /// Whether it has answered in a later poll than that.
    lasting: bool,
}

/// A unit that did not answer when last asked.
#[derive(Debug, Default)]
struct Silent {
    gate: Gate,
    /// Timeouts in a row.
    timeouts: u32,
    /// The pause after connecting with which it did not answer last.
    pause: Duration,
    /// Whether others answered with no longer pause, or over the same connection.
    alone: bool,
}

/// A request of the plan and what is known of it.
#[derive(Debug)]
struct Request {
    cycle: usize,
    place: usize,
    /// What is asked instead, and by which generation of what is refused.
    substitutes: Option<(u64, Option<Arc<[Block]>>)>,
    /// How many values it reads.
    values: usize,
    /// How many of them this poll has not read yet.
    left: usize,
    /// How many were not read when it was last due, and how many of those are refused.
    missing: usize,
    refused: usize,
    /// Why it was not answered when it was last due; it is asked again before its next tick.
    owed: Option<Unread>,
    /// Whether every value that is not refused has been read before.
    known: bool,
    /// How often in a row it was not answered, whatever else its unit answers, and the timeouts among that.
    unanswered: u32,
    timeouts: u32,
    /// Whether one of them was over a connection that had answered others.
    alone: bool,
    /// What the last search concluded of its length or gaps, and of how many entries; believed when the next one does,
    /// too.
    suspected: Option<(Found, u16)>,
    /// Whether the device answered a part of it with an exception in this poll.
    exception: bool,
}

impl Core {
    /// A device that is read by `plan`, of which an earlier process has `learned` something. Not connected yet.
    #[must_use]
    pub fn new(plan: Arc<DeviceSettings>, learned: &Learned, now: Moment, random: fastrand::Rng) -> Self {
        let mut core = Self {
            requests: Vec::new(),
            units_planned: 0,
            random,
            keeps_words: false,
            polls: 0,
            connection: Connection::default(),
            device: Gate::default(),
            all_silent: false,
            asked_last: None,
            pause: ConnectPause::default(),
            silent: BTreeMap::new(),
            silent_from: Duration::ZERO,
            heard: false,
            heard_of: None,
            outages: Outages::default(),
            faults: BTreeMap::new(),
            refusals: Refusals::default(),
            refused_with: BTreeMap::new(),
            remarked: Vec::new(),
            poll: Poll::default(),
            plan: Arc::clone(&plan),
        };
        // Before the plan is assigned, which forgets what an earlier process has learned of anything else.
        core.refusals.remember(learned, now);
        core.pause.remember(learned.pause_after_connect, now.boot);
        core.assign(plan);
        core
    }

    /// From the next poll on the device is read by `plan`; not to be called within a poll. Whether something learned
    /// was forgotten, because it is about nothing that this plan asks for.
    pub fn assign(&mut self, plan: Arc<DeviceSettings>) -> bool {
        let shape = |plan: &DeviceSettings| -> Vec<Subject> { plan.blocks().map(Subject::of).collect() };
        let cycles = |plan: &DeviceSettings| -> Vec<(Duration, usize)> {
            plan.cycles.iter().map(|cycle| (cycle.interval, cycle.blocks.len())).collect()
        };
        // What is known of a request is kept by its place, and after any other edit a place means another request. The
        // points are not compared: an edit elsewhere in the configuration numbers them anew and changes no request.
        let same = cycles(&self.plan) == cycles(&plan) && shape(&self.plan) == shape(&plan);
        let before = std::mem::take(&mut self.requests);
        let places = plan
            .cycles
            .iter()
            .enumerate()
            .flat_map(|(cycle, of)| of.blocks.iter().enumerate().map(move |(place, block)| (cycle, place, block)));
        self.requests = places.map(|(cycle, place, block)| Request::new(cycle, place, block)).collect();
        if same {
            for (request, before) in self.requests.iter_mut().zip(before) {
                request.carry_over(&before);
            }
        }
        let units: BTreeSet<UnitId> = plan.blocks().map(|block| block.unit).collect();
        self.units_planned = units.len();
        self.silent.retain(|unit, _| units.contains(unit));
        let blocks: BTreeSet<Subject> = plan.blocks().map(Subject::of).collect();
        let concerned = |subject: &Subject| match subject {
            // These fail whatever is asked for, so that an edit of the points does not end them.
            Subject::Connection | Subject::AllUnits => true,
            Subject::Unit(unit) => units.contains(unit),
            Subject::Block { .. } => blocks.contains(subject),
        };
        // A fault ends when its subject is read. Of what nobody asks for any more it would stay for ever.
        self.faults.retain(|subject, _| concerned(subject));
        self.outages.retain(concerned);
        self.refused_with.retain(|(unit, _), _| units.contains(unit));
        let forgotten = self.refusals.retain(plan.blocks());
        self.plan = plan;
        forgotten
    }

    /// Hands over the entries as they were read, too.
    pub fn keep_words(&mut self) {
        self.keeps_words = true;
    }

    /// The connection was given up between polls.
    pub fn hung_up(&mut self) {
        self.connection.linked = false;
    }

    /// By what the device is read.
    #[must_use]
    pub fn plan(&self) -> &Arc<DeviceSettings> {
        &self.plan
    }

    /// What is failing now.
    #[must_use]
    pub fn faults(&self) -> &BTreeMap<Subject, Fault> {
        &self.faults
    }

    /// What the device is known to refuse.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// What the next process should know of the device.
    #[must_use]
    pub fn learned(&self) -> Learned {
        Learned { pause_after_connect: self.pause.found(), ..self.refusals.learned() }
    }

    /// Whatever was refused may be asked for again.
    pub fn forget_refusals(&mut self) {
        self.refusals = Refusals::default();
        for request in &mut self.requests {
            // The generation of new refusals counts from 0 again: old substitutes could pass for current ones.
            (request.substitutes, request.suspected) = (None, None);
        }
    }

    /// How many points were not read when they were last due, and how many of those are refused.
    #[must_use]
    pub fn missing(&self) -> (usize, usize) {
        let of = |request: &Request| (request.missing, request.refused);
        self.requests.iter().map(of).fold((0, 0), |(all, refused), (more, also)| (all + more, refused + also))
    }

    /// Why the value at `span`, which is refused, is refused.
    #[must_use]
    pub fn refused_because(&self, span: Span) -> String {
        let with = self.refused_with.get(&(span.unit, span.table));
        with.cloned().unwrap_or_else(|| format!("refused {BEFORE}"))
    }

    /// What the device is known to refuse, by unit and table, for people; and where that is.
    pub fn refused(&self) -> impl Iterator<Item = (String, Fault, Vec<Span>)> + '_ {
        self.refusals.by_table().into_iter().map(|((unit, table), (since, spans))| {
            let with = self.refused_with.get(&(unit, table)).map_or(BEFORE, String::as_str);
            let cause = format!("refused: {} ({with})", some_of(runs(spans.iter().copied()).iter()));
            (format!("unit {unit}, {table}"), Fault { since, cause }, spans)
        })
    }

    /// The requests of one cycle, in the order of the plan.
    pub(super) fn of_cycle(&self, cycle: usize) -> impl Iterator<Item = usize> + '_ {
        let first = self.requests.partition_point(|request| request.cycle < cycle);
        let count = self.requests[first..].iter().take_while(|request| request.cycle == cycle).count();
        first..first + count
    }

    /// Whether something that was due was not answered and is to be asked again.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.requests.iter().any(|request| request.owed.is_some())
    }

    /// How many values were due and are neither read nor given up, because they are to be asked for again.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.requests.iter().filter(|request| request.owed.is_some()).map(|request| request.values).sum()
    }

    /// The earliest moment at which a request that is owed could be made.
    pub(super) fn owed_at(&self) -> Option<Duration> {
        let owed = self.requests.iter().filter(|request| request.owed.is_some());
        owed.map(|request| self.opens(self.block_of(request).unit)).min()
    }

    /// Adds the requests that are owed and can be made at `now`.
    pub(super) fn add_owed(&self, now: Duration, due: &mut Vec<usize>) {
        for (place, request) in self.requests.iter().enumerate() {
            let block = self.block_of(request);
            if request.owed.is_some() && self.opens(block.unit) <= now && !due.contains(&place) {
                due.push(place);
                // A scale register that is asked for apart is of no use but with what it scales.
                let scales = self.of_cycle(request.cycle).filter(|&other| {
                    self.requests[other].values == 0 && self.block_of(&self.requests[other]).unit == block.unit
                });
                for scale in scales {
                    if !due.contains(&scale) {
                        due.push(scale);
                    }
                }
            }
        }
        // In the order of the plan again, in which a scale register comes before what it scales.
        due.sort_unstable();
    }

    /// When a unit may be asked: never before the device as a whole may.
    fn opens(&self, unit: UnitId) -> Duration {
        let device = self.device.opens();
        match self.silent.get(&unit) {
            None => device,
            // The units take turns, one for each opening of the device's gate; their own gates would hold the turn up.
            Some(_) if self.all_silent => device,
            Some(silent) => device.max(silent.gate.opens()).max(self.silent_from),
        }
    }

    /// Begins a poll of these requests of the plan; those `at_tick` come by their schedule, the others are owed.
    pub fn begin(&mut self, due: &[usize], at_tick: impl Fn(usize) -> bool, now: Moment) {
        self.polls += 1;
        self.refusals.widen(now.boot);
        let poll = &mut self.poll;
        poll.begun = now.boot;
        let values = due.iter().map(|&place| self.requests[place].values).sum();
        poll.outcome = Outcome { readings: Vec::with_capacity(values), ..Outcome::default() };
        poll.due.clear();
        poll.due.extend_from_slice(due);
        for &place in due {
            let request = &mut self.requests[place];
            let owed = request.owed.take();
            if at_tick(request.cycle) {
                poll.outcome.due += request.values;
                if let Some(why) = owed {
                    // Its last tick has passed without it.
                    poll.outcome.unread[why.index()] += request.values;
                }
            }
            request.left = request.values;
            request.exception = false;
        }
        self.fill_queue(now.boot);
    }

    /// The order of a poll: silent units come last; otherwise the order stays.
    fn fill_queue(&mut self, now: Duration) {
        // A poll of nothing, but a poll: at its end what was due is noted as owed, to be asked for when the gate opens.
        if self.device.opens() > now {
            let why = if self.all_silent { Unread::Silent } else { Unread::Unreachable };
            self.poll.over = Some(why);
            return;
        }
        let Self { poll, requests, plan, silent, all_silent, asked_last, .. } = self;
        let unit = |place: &usize| plan.cycles[requests[*place].cycle].blocks[requests[*place].place].unit;
        if silent.is_empty() && !*all_silent {
            poll.queue.extend(&poll.due);
            return;
        }
        if *all_silent {
            // One request of the unit behind the one that was asked last.
            let units = || poll.due.iter().map(unit);
            let behind = units().filter(|unit| asked_last.is_none_or(|last| last < *unit)).min();
            *asked_last = behind.or_else(|| units().min());
            let of_unit = poll.due.iter().filter(|place| Some(unit(place)) == *asked_last);
            // Not simply the first: one that is never answered, whatever is well, would hide that the unit is back.
            let first = of_unit.min_by_key(|place| requests[**place].unanswered).copied();
            poll.queue.extend(first);
            // If that one is answered, the others follow in this poll.
            poll.held_back.extend(poll.due.iter().filter(|place| Some(**place) != first));
            return;
        }
        poll.queue.extend(poll.due.iter().filter(|place| !silent.contains_key(&unit(place))));
        let mut last: Vec<usize> = poll.due.iter().copied().filter(|place| silent.contains_key(&unit(place))).collect();
        // Of one unit, what is never answered comes last, so that it costs nothing that is.
        last.sort_by_key(|place| {
            // The unit that has waited longest goes first: `silent_from` may let only one of them be asked.
            (silent.get(&unit(place)).map(|silent| silent.gate.opens()), unit(place), requests[*place].unanswered)
        });
        poll.queue.extend(last);
    }

    /// Whether there is anything to do in this poll.
    pub fn goes_on(&mut self, now: Moment) -> bool {
        self.poll.asking.is_some() || self.pick(now)
    }

    /// What to do now.
    pub fn next(&mut self, now: Moment) -> Step<'_> {
        if !self.goes_on(now) {
            return Step::End;
        }
        let Self { poll: Poll { asking: Some(asking), .. }, plan, pause, connection, .. } = self else {
            return Step::End;
        };
        if let Some(rest) = asking.rest.take() {
            return Step::Rest(Pause::of(rest));
        }
        // Kept when it is sent again: the backoff counts from here, with the connection and whatever was tried before.
        asking.begun.get_or_insert(now.boot);
        if connection.linked { Step::Ask(asking.block(plan)) } else { Step::Connect(pause.now()) }
    }

    fn block_of(&self, request: &Request) -> &Block {
        &self.plan.cycles[request.cycle].blocks[request.place]
    }

    fn worked(&mut self, subject: Subject, now: Moment) {
        // Nearly always so, and then `faults` is empty as well: whatever is in there, `outages` has, too.
        if self.outages.is_well() {
            return;
        }
        self.faults.remove(&subject);
        if let Some(transition) = self.outages.worked(&subject, now.boot) {
            self.poll.outcome.events.push(Event { subject, transition, cause: None, retry_in: None });
        }
    }

    fn fault(&mut self, subject: Subject, cause: ReadError, retry_in: Option<Duration>, now: Moment) {
        let said = Chain(&cause).to_string();
        self.faults.entry(subject).or_insert_with(|| Fault { since: now.wall, cause: String::new() }).cause = said;
        if let Some(transition) = self.outages.failed(subject, cause.kind(), now.boot) {
            self.poll.outcome.events.push(Event { subject, transition, cause: Some(cause), retry_in });
        }
    }
}

impl Request {
    fn new(cycle: usize, place: usize, block: &Block) -> Self {
        Self {
            cycle,
            place,
            substitutes: None,
            values: block.values().count(),
            left: 0,
            missing: 0,
            refused: 0,
            owed: None,
            known: false,
            unanswered: 0,
            timeouts: 0,
            alone: false,
            suspected: None,
            exception: false,
        }
    }

    /// The request of another plan that asks for the same; what is asked instead is not carried over, for that names
    /// the points of the plan that it was worked out by.
    fn carry_over(&mut self, before: &Self) {
        // The same registers may hold fewer points than before.
        (self.missing, self.refused, self.owed, self.known) =
            (before.missing.min(self.values), before.refused.min(self.values), before.owed, before.known);
        (self.unanswered, self.timeouts, self.alone) = (before.unanswered, before.timeouts, before.alone);
    }

    /// Its silence is over.
    fn is_answered(&mut self) {
        (self.unanswered, self.timeouts, self.alone) = (0, 0, false);
    }
}
