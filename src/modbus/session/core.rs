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
//! requests: one for each of the plan or of its substitutes, [`MOST_EXTRA`] for searches, [`PROBES`] for refused values
//! and as many runs of them as become readable, one for each scale register that is read again, and for each of those
//! at most `retries` more while the device is busy and one over a new connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::event::{Discovery, Event, Outcome, Subject, Unread};
use super::gate::{Gate, Pause};
use super::pause::ConnectPause;
use super::plan::DeviceSettings;
use crate::clock::Moment;
use crate::health::{Health, Trouble};
use crate::modbus::decode::PollDecoder;
use crate::modbus::error::{ConnectError, ReadError};
use crate::modbus::link::Remark;
use crate::modbus::plan::{Block, Spot, runs};
use crate::modbus::refusals::search::{Found, Search};
use crate::modbus::refusals::{Learned, Limit, PROBES, Refusals};
use crate::modbus::register::{Table, UnitId, Units};
use crate::phrase::{Chain, some_of};
use crate::reading::{Reading, Timestamp};

/// This many units in a row without an answer, and the device is taken to be silent as a whole.
pub const SILENT_UNITS: usize = 2;

/// In one poll at most so many requests are made to find out what is refused: as many as it takes for one request
/// of [`Limits::MAX_REGISTERS`](crate::modbus::plan::Limits::MAX_REGISTERS) values of which any are refused.
pub const MOST_EXTRA: usize = 250;

/// How long a device that says it is busy is left alone before it is asked again for the first time; then twice as long.
pub const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// A busy device is never left alone for longer than this within a poll.
pub const LONGEST_BUSY_PAUSE: Duration = Duration::from_secs(2);

/// After so many timeouts of a unit it is asked for a single value, every other time.
pub const TIMEOUTS_BEFORE_SMALL: u32 = 3;

/// A scale register is read again so often in one poll at most; values that would need more have none in that poll.
const MOST_RECHECKS: u8 = 16;

/// Silent units may take one part in so many of the time of a device of which other units answer.
const SHARE_OF_SILENT: u32 = 5;

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
    /// What the next poll puts its readings into.
    lent: Vec<Reading>,
    polls: u64,
    linked: bool,
    /// Whether the first request of this connection is still to be answered, or not.
    fresh: bool,
    /// The poll in which the connection was made.
    connected_in: u64,
    /// Whether it has answered in a later poll than that.
    lasting: bool,
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
    health: Health<Subject>,
    troubles: BTreeMap<Subject, Trouble>,
    refusals: Refusals,
    /// What the device said when it last refused a value of a unit and table.
    refused_with: BTreeMap<(UnitId, Table), String>,
    /// The kinds of remarks on its connection that were told.
    remarked: Vec<std::mem::Discriminant<Remark>>,
    poll: Poll,
}

/// A unit that did not answer when last asked.
#[derive(Debug, Default)]
struct Silent {
    gate: Gate,
    /// Timeouts in a row.
    timeouts: u32,
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
    /// What the last search concluded of its length or gaps, and of how many entries; believed when the next one does,
    /// too.
    suspected: Option<(Found, u16)>,
    /// Whether the device answered a part of it with an exception in this poll.
    exception: bool,
}

/// A poll under way.
#[derive(Debug, Default)]
struct Poll {
    begun: Duration,
    outcome: Outcome,
    decoder: PollDecoder,
    /// The requests of this poll, and of those the ones that were not asked yet.
    due: Vec<usize>,
    queue: VecDeque<usize>,
    /// What follows once a device that was silent as a whole has answered.
    held_back: Vec<usize>,
    parts: Option<Parts>,
    asking: Option<Asking>,
    /// Requests that are to be searched for what is refused of them.
    refused: VecDeque<(usize, Block, ReadError)>,
    search: Option<(usize, Block, ReadError, Search)>,
    /// Requests made by searches.
    extra: usize,
    probes: Option<VecDeque<(usize, Block)>>,
    /// Scale registers that were read again, and how often.
    rechecked: BTreeMap<(UnitId, Table, u16), u8>,
    /// The unit of the request of the plan that was begun last.
    unit: Option<UnitId>,
    /// A request whose unit answers a single value, which has so many entries: asked once more.
    confirm: Option<(usize, u16)>,
    /// Units and tables of which everything refused is tried in this poll, because one value was read again.
    regained: BTreeSet<(UnitId, Table)>,
    /// Units that have been found silent, and why.
    silent: Units,
    silences: Vec<(UnitId, ReadError, Duration)>,
    /// Units of which something was read.
    answering: Units,
    /// Whether a connection was asked once more although it had not answered.
    asked_again: bool,
    /// Why nothing more is asked.
    over: Option<Unread>,
}

/// The requests that are made instead of one of the plan.
#[derive(Debug)]
struct Parts {
    request: usize,
    blocks: Arc<[Block]>,
    next: usize,
}

/// A request that is to be made, or is made now.
#[derive(Debug)]
struct Asking {
    purpose: Purpose,
    /// The request of the plan that it is for; none for one that is for the whole poll.
    request: Option<usize>,
    block: Asked,
    begun: Option<Duration>,
    /// How often it was asked again because the device was busy, and whether a rest is due before it is.
    busy: u16,
    rest: Option<Duration>,
    /// Whether it was sent again over a new connection.
    resent: bool,
}

/// Where the request is that is made.
#[derive(Debug)]
enum Asked {
    /// In the plan: cycle and place.
    Planned(usize, usize),
    /// Among the substitutes of one of the plan.
    Part(Arc<[Block]>, usize),
    /// Made for this poll.
    Own(Box<Block>),
}

impl Asking {
    fn new(purpose: Purpose, request: Option<usize>, block: Asked) -> Self {
        Self { purpose, request, block, begun: None, busy: 0, rest: None, resent: false }
    }

    fn block<'a>(&'a self, plan: &'a DeviceSettings) -> &'a Block {
        match &self.block {
            Asked::Planned(cycle, place) => &plan.cycles[*cycle].blocks[*place],
            Asked::Part(blocks, place) => &blocks[*place],
            Asked::Own(block) => block,
        }
    }

    /// When it was begun, with the connection that it needed.
    fn begun(&self, now: Moment) -> Duration {
        self.begun.unwrap_or(now.boot)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To read what the plan wants.
    Read,
    /// To find out what is refused.
    Search,
    /// To see whether values are still refused.
    Probe,
    /// To read scale registers again.
    Recheck,
    /// To see whether a silent unit answers at all.
    Small,
    /// To see whether a unit that answers a request of so many entries answers this one.
    Confirm(u16),
}

/// What a failed read means for the rest of the poll.
enum Verdict {
    /// This request only.
    Refused,
    /// This unit does not answer.
    Silent,
    /// Nobody answers.
    Unreachable,
}

impl Verdict {
    fn of(error: &ReadError) -> Self {
        if error.is_of_the_connection() {
            Self::Unreachable
        } else if error.link_is_dead() || error.unit_is_gone() {
            Self::Silent
        } else {
            Self::Refused
        }
    }
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
            lent: Vec::new(),
            polls: 0,
            linked: false,
            fresh: true,
            connected_in: 0,
            lasting: false,
            device: Gate::default(),
            all_silent: false,
            asked_last: None,
            pause: ConnectPause::default(),
            silent: BTreeMap::new(),
            silent_from: Duration::ZERO,
            health: Health::default(),
            troubles: BTreeMap::new(),
            refusals: Refusals::default(),
            refused_with: BTreeMap::new(),
            remarked: Vec::new(),
            poll: Poll::default(),
            plan: Arc::clone(&plan),
        };
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
                request.carry_over(before);
            }
        }
        let units: BTreeSet<UnitId> = plan.blocks().map(|block| block.unit).collect();
        self.units_planned = units.len();
        self.silent.retain(|unit, _| units.contains(unit));
        let blocks: BTreeSet<Subject> = plan.blocks().map(Subject::of).collect();
        let concerned = |subject: &Subject| match subject {
            Subject::Connection | Subject::AllUnits => true,
            Subject::Unit(unit) => units.contains(unit),
            Subject::Block { .. } => blocks.contains(subject),
        };
        self.troubles.retain(|subject, _| concerned(subject));
        self.health.retain(concerned);
        self.refused_with.retain(|(unit, _), _| units.contains(unit));
        let forgotten = self.refusals.retain(plan.blocks());
        self.plan = plan;
        forgotten
    }

    /// Hands over the entries as they were read, too.
    pub fn keep_words(&mut self) {
        self.keeps_words = true;
    }

    /// The readings of the next poll go into `buffer`, which is empty.
    pub fn lend(&mut self, buffer: Vec<Reading>) {
        self.lent = buffer;
    }

    /// The connection was given up between polls.
    pub fn hung_up(&mut self) {
        self.linked = false;
    }

    /// By what the device is read.
    #[must_use]
    pub fn plan(&self) -> &Arc<DeviceSettings> {
        &self.plan
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

    /// What the next process should know of the device.
    #[must_use]
    pub fn learned(&self) -> Learned {
        Learned { pause_after_connect: self.pause.found(), ..self.refusals.learned() }
    }

    /// Whatever was refused may be asked for again.
    pub fn forget_refusals(&mut self) {
        self.refusals = Refusals::default();
        for request in &mut self.requests {
            (request.substitutes, request.suspected) = (None, None);
        }
    }

    /// How many points were not read when they were last due, and how many of those are refused.
    #[must_use]
    pub fn missing(&self) -> (usize, usize) {
        let of = |request: &Request| (request.missing, request.refused);
        self.requests.iter().map(of).fold((0, 0), |(all, refused), (more, also)| (all + more, refused + also))
    }

    /// Why the value at `spot`, which is refused, is refused.
    #[must_use]
    pub fn refused_because(&self, spot: Spot) -> String {
        let with = self.refused_with.get(&(spot.unit, spot.table));
        with.cloned().unwrap_or_else(|| "refused in an earlier run of the agent".to_owned())
    }

    /// What the device is known to refuse, by unit and table, for people.
    pub fn refused(&self) -> impl Iterator<Item = (String, Trouble)> + '_ {
        self.refusals.by_table().into_iter().map(|((unit, table), (since, spots))| {
            let with = self.refused_with.get(&(unit, table)).map_or("in an earlier run of the agent", String::as_str);
            let cause = format!("refused: {} ({with})", some_of(runs(spots).iter()));
            (format!("unit {unit}, {table}"), Trouble { since, cause })
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
        due.sort_unstable();
    }

    /// When a unit may be asked: never before the device as a whole may.
    fn opens(&self, unit: UnitId) -> Duration {
        let device = self.device.opens();
        match self.silent.get(&unit) {
            None => device,
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
        poll.outcome = Outcome { readings: std::mem::take(&mut self.lent), ..Outcome::default() };
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
            let after = |place: &usize| asked_last.is_none_or(|last| last < unit(place));
            let first = poll.due.iter().position(after).unwrap_or_default();
            poll.queue.extend(poll.due.get(first));
            *asked_last = poll.due.get(first).map(unit);
            let others = poll.due.iter().enumerate().filter(|(place, _)| *place != first).map(|(_, other)| *other);
            poll.held_back.extend(others);
            return;
        }
        poll.queue.extend(poll.due.iter().filter(|place| !silent.contains_key(&unit(place))));
        let mut last: Vec<usize> = poll.due.iter().copied().filter(|place| silent.contains_key(&unit(place))).collect();
        last.sort_by_key(|place| silent.get(&unit(place)).map(|silent| silent.gate.opens()));
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
        let Self { poll: Poll { asking: Some(asking), .. }, plan, pause, linked, .. } = self else { return Step::End };
        if let Some(rest) = asking.rest.take() {
            return Step::Rest(Pause::of(rest));
        }
        asking.begun.get_or_insert(now.boot);
        if *linked { Step::Ask(asking.block(plan)) } else { Step::Connect(pause.now()) }
    }

    /// The connection is there, or why it is not.
    pub fn connected(&mut self, result: Result<(), ConnectError>, now: Moment) {
        match result {
            Ok(()) => {
                self.linked = true;
                self.poll.outcome.connected = true;
                (self.fresh, self.lasting, self.connected_in) = (true, false, self.polls);
            }
            Err(error) => {
                let Some(asking) = self.poll.asking.take() else { return };
                self.unreachable(error.into(), asking.begun(now), now);
            }
        }
    }

    /// The words of the request that was asked, and when they were there.
    pub fn read(&mut self, words: &[u16], at: Timestamp, now: Moment) {
        let Some(asking) = self.poll.asking.take() else { return };
        let plan = Arc::clone(&self.plan);
        let block = asking.block(&plan);
        let Block { unit, table, address, quantity, .. } = *block;
        self.answered(unit, now);
        self.refusals.read(unit, table, quantity);
        if let Purpose::Small = asking.purpose {
            self.poll.confirm = asking.request.map(|request| (request, quantity));
            return;
        }
        self.poll.answering.insert(unit);
        let Poll { outcome, decoder, search, .. } = &mut self.poll;
        if self.keeps_words {
            outcome.words.push((Spot { unit, table, address, width: quantity }, words.to_vec()));
        }
        outcome.readings.reserve(block.points.len());
        decoder.take(block, words, at, |point, at, value| outcome.take(point, at, value));
        if let Some(request) = asking.request {
            let request = &mut self.requests[request];
            request.left = request.left.saturating_sub(block.values().count());
            if request.suspected.as_ref().is_some_and(|(_, suspected)| *suspected <= quantity) {
                request.suspected = None;
            }
        }
        match (asking.purpose, search) {
            (Purpose::Search, Some((.., search))) => search.read(),
            (Purpose::Probe, _) => self.accepted(block),
            _ => {}
        }
    }

    /// Why the request that was asked was not read. `may_ask_again`: the connection has ids and has not answered
    /// anything yet, so that a late reply can be told apart.
    pub fn failed(&mut self, error: ReadError, may_ask_again: bool, now: Moment) {
        let Some(mut asking) = self.poll.asking.take() else { return };
        self.linked &= !error.link_is_dead() || may_ask_again;
        if error.is_stale_connection() && !asking.resent {
            if self.lasting {
                // It has worked for longer than a poll, so that the device does not close whatever rests: it has
                // started anew, or is another one.
                self.refusals.try_all_again(None, now.boot);
            }
            asking.resent = true;
            self.poll.asking = Some(asking);
            return;
        }
        if error.is_busy() && asking.busy < self.plan.settings.retries {
            asking.rest = Some((BUSY_PAUSE * 2_u32.pow(asking.busy.min(8).into())).min(LONGEST_BUSY_PAUSE));
            asking.busy += 1;
            self.poll.asking = Some(asking);
            return;
        }
        let Block { unit, table, quantity, .. } = *asking.block(&self.plan);
        let timeout = matches!(error, ReadError::ResponseTimeout(_));
        // A request that may be too long says nothing of a pause.
        if timeout && !self.refusals.is_longer_than_works(unit, table, quantity) && std::mem::take(&mut self.fresh) {
            let found = self.pause.found();
            self.pause.silent();
            self.poll.outcome.learned |= self.pause.found() != found;
        }
        if may_ask_again && !self.poll.asked_again && !self.silent.contains_key(&unit) && !self.all_silent {
            self.poll.asked_again = true;
            self.poll.asking = Some(asking);
            return;
        }
        // Asked once more is enough: what comes later is nobody's.
        self.linked &= !error.link_is_dead();
        match Verdict::of(&error) {
            Verdict::Refused => self.refused_now(&asking, error, now),
            Verdict::Silent => self.silent_now(&asking, error, now),
            Verdict::Unreachable => self.unreachable(error, asking.begun(now), now),
        }
    }

    /// Something odd about the connection; each kind is told once.
    pub fn remarked(&mut self, remark: Remark) {
        let kind = std::mem::discriminant(&remark);
        if !self.remarked.contains(&kind) {
            self.remarked.push(kind);
            self.poll.outcome.discoveries.push(Discovery::Remark(remark));
        }
    }

    /// Whether the connection is of use: false after a failure, when the shell closes it.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.linked
    }

    /// The unit has said something.
    fn answered(&mut self, unit: UnitId, now: Moment) {
        self.poll.outcome.answered = true;
        if std::mem::take(&mut self.fresh)
            && let Some(needed) = self.pause.answered(now.boot)
        {
            self.poll.outcome.discoveries.push(Discovery::NeedsPause(needed));
        }
        self.lasting |= self.connected_in < self.polls;
        if self.device.has_failed() {
            self.device = Gate::default();
            self.refusals.try_all_again(None, now.boot);
        }
        if !self.silent.is_empty() && self.silent.remove(&unit).is_some() {
            self.refusals.try_all_again(Some(unit), now.boot);
        }
        if std::mem::take(&mut self.all_silent) {
            let (silent, held_back) = (&self.silent, std::mem::take(&mut self.poll.held_back));
            let unit = |place: &usize| self.block_of(&self.requests[*place]).unit;
            let (well, others): (Vec<_>, Vec<_>) =
                held_back.into_iter().partition(|place| !silent.contains_key(&unit(place)));
            self.poll.queue.extend(well);
            self.poll.queue.extend(others);
        }
        if !self.health.is_well() {
            for subject in [Subject::Connection, Subject::AllUnits, Subject::Unit(unit)] {
                self.worked(subject, now);
            }
        }
    }

    /// The device said no.
    fn refused_now(&mut self, asking: &Asking, cause: ReadError, now: Moment) {
        let plan = Arc::clone(&self.plan);
        let block = asking.block(&plan);
        self.answered(block.unit, now);
        self.poll.outcome.failures.push(cause.kind());
        match (asking.purpose, asking.request) {
            (Purpose::Read | Purpose::Confirm(_), Some(request)) => {
                if cause.is_about_the_request() && !block.whole {
                    self.poll.refused.push_back((request, block.clone(), cause));
                } else {
                    self.exception(request, cause, now);
                }
            }
            (Purpose::Search, _) => {
                if let Some((.., search)) = &mut self.poll.search {
                    if cause.is_about_the_request() { search.refused() } else { search.hiccup() }
                }
            }
            (Purpose::Probe, _) => {
                if let [spot] = block.spots()[..] {
                    self.refused_with.insert((spot.unit, spot.table), Chain(&cause).to_string());
                    self.refusals.refused_again(spot, now.boot);
                }
            }
            // It answers, whatever it says.
            (Purpose::Small, Some(request)) => self.poll.confirm = Some((request, block.quantity)),
            (Purpose::Recheck, _) => {
                // The value that it scales is told to be none.
                self.poll.rechecked.insert((block.unit, block.table, block.address), MOST_RECHECKS);
            }
            (_, None) => {}
        }
    }

    /// Nobody answered for the unit.
    fn silent_now(&mut self, asking: &Asking, cause: ReadError, now: Moment) {
        let Block { unit, table, quantity, .. } = *asking.block(&self.plan);
        let timeout = matches!(cause, ReadError::ResponseTimeout(_));
        self.poll.outcome.answered |= !cause.link_is_dead();
        self.poll.outcome.failures.push(cause.kind());
        let narrowing = timeout && self.refusals.is_longer_than_works(unit, table, quantity);
        match asking.purpose {
            Purpose::Confirm(works) if timeout => self.too_long_in_silence(unit, table, works, quantity, now),
            _ if narrowing => {
                self.refusals.limit(unit, table, 1, quantity, true, now.boot);
                self.poll.outcome.learned = true;
            }
            _ => {}
        }
        let (begun, cap, lead) = (asking.begun(now), self.plan.settings.max_backoff, self.pause.now());
        let known = self.silent.contains_key(&unit);
        let silent = self.silent.entry(unit).or_default();
        if narrowing {
            silent.gate.start_anew();
        }
        silent.timeouts = if timeout { silent.timeouts + 1 } else { 0 };
        let wait = silent.gate.shut(begun, now.boot, cap, lead, self.random.f64());
        if known && self.units_planned > 1 {
            self.silent_from = now.boot + now.boot.saturating_sub(begun) * (SHARE_OF_SILENT - 1);
        }
        self.poll.silent.insert(unit);
        self.poll.silences.push((unit, cause, wait));
        let silent = self.poll.silent.count();
        if !self.poll.outcome.answered && self.units_planned > 1 && (self.all_silent || silent >= SILENT_UNITS) {
            self.all_silent = true;
            self.poll.over = Some(Unread::Silent);
        }
        self.end_search(now);
    }

    /// A unit answers a request of `works` entries and none of `fails`.
    fn too_long_in_silence(&mut self, unit: UnitId, table: Table, works: u16, fails: u16, now: Moment) {
        self.pause.forgive();
        if self.refusals.limit(unit, table, works, fails, true, now.boot) {
            let limit = Limit { unit, bits: table.is_bits(), works, fails, silent: true };
            self.poll.outcome.discoveries.push(Discovery::TooLong { table, limit });
        }
        self.poll.outcome.learned = true;
    }

    /// There is no connection.
    fn unreachable(&mut self, cause: ReadError, begun: Duration, now: Moment) {
        self.linked = false;
        self.poll.outcome.failures.push(cause.kind());
        let (cap, lead) = (self.plan.settings.max_backoff, self.pause.now());
        let wait = self.device.shut(begun, now.boot, cap, lead, self.random.f64());
        self.all_silent = false;
        self.fault(Subject::Connection, cause, Some(wait), now);
        self.poll.over = Some(Unread::Unreachable);
    }

    /// The poll is over: what it brought.
    pub fn end(&mut self, now: Moment) -> Outcome {
        self.end_search(now);
        let Poll { outcome, decoder, .. } = &mut self.poll;
        std::mem::take(decoder).finish(|point, at, value| outcome.take(point, at, value));
        // What was refused and could not be searched any more.
        for (request, _, cause) in std::mem::take(&mut self.poll.refused) {
            self.exception(request, cause, now);
        }
        self.tell_silence(now);
        let due = std::mem::take(&mut self.poll.due);
        for &place in &due {
            self.close(place, now);
        }
        let mut outcome = std::mem::take(&mut self.poll.outcome);
        // The device answers: a moment to see whether it needs the pause that it was given.
        self.linked &= !self.pause.wants_trial() || !outcome.answered;
        outcome.learned |= outcome.discoveries.iter().any(|it| !matches!(it, Discovery::Remark(_)));
        let queue = std::mem::take(&mut self.poll.queue);
        self.poll = Poll { due, queue, ..Poll::default() };
        self.poll.queue.clear();
        outcome
    }

    /// What became of a request of the poll that is over.
    fn close(&mut self, place: usize, now: Moment) {
        let request = &self.requests[place];
        let block = self.block_of(request);
        let Request { left, values, exception, .. } = *request;
        let refused = if left == 0 || block.whole || self.refusals.spots().len() == 0 {
            0
        } else {
            block.values_at(|spot| self.refusals.refuses(spot)).count().min(left)
        };
        let (subject, unit) = (Subject::of(block), block.unit);
        let is_read = left == refused && !exception;
        if is_read {
            self.worked(subject, now);
        }
        let silent = self.poll.silent.contains(unit) || self.silent.contains_key(&unit);
        let why = match self.poll.over {
            _ if exception => Unread::Exception,
            Some(why) => why,
            None if silent => Unread::Silent,
            None => Unread::Exception,
        };
        let request = &mut self.requests[place];
        (request.missing, request.refused) = (left, if exception { left } else { refused });
        request.known |= is_read;
        let given_up = left - refused;
        let unread = &mut self.poll.outcome.unread;
        unread[Unread::Refused.index()] += refused;
        if why != Unread::Exception && left == values && given_up > 0 {
            // Nothing of it was read, so that it may be asked again before its next tick.
            unread[Unread::Refused.index()] -= refused;
            request.owed = Some(why);
        } else {
            unread[why.index()] += given_up;
        }
    }

    /// One line when all are silent, else one for each unit.
    fn tell_silence(&mut self, now: Moment) {
        let silences = std::mem::take(&mut self.poll.silences);
        if !self.all_silent {
            for (unit, cause, wait) in silences {
                self.fault(Subject::Unit(unit), cause, Some(wait), now);
            }
            return;
        }
        let Some((_, cause, _)) = silences.into_iter().next() else { return };
        let (begun, cap, lead) = (self.poll.begun, self.plan.settings.max_backoff, self.pause.now());
        let wait = self.device.shut(begun, now.boot, cap, lead, self.random.f64());
        self.fault(Subject::AllUnits, cause, Some(wait), now);
    }

    /// Chooses what to ask next; `false` when the poll is over.
    fn pick(&mut self, now: Moment) -> bool {
        while self.poll.over.is_none()
            && let Some(asking) = self.candidate(now)
        {
            let unit = asking.block(&self.plan).unit;
            if !self.poll.silent.contains(unit) && (self.all_silent || self.opens(unit) <= now.boot) {
                self.poll.asking = Some(asking);
                return true;
            }
            if asking.purpose == Purpose::Search {
                self.end_search(now);
            }
        }
        false
    }

    /// What is to be asked next if its unit may be asked.
    fn candidate(&mut self, now: Moment) -> Option<Asking> {
        if let Some((request, works)) = self.poll.confirm.take() {
            let asked = self.first_of(request);
            return Some(Asking::new(Purpose::Confirm(works), Some(request), asked));
        }
        if let Some(asking) = self.next_part() {
            return Some(asking);
        }
        while let Some(&request) = self.poll.queue.front() {
            let unit = self.block_of(&self.requests[request]).unit;
            if self.poll.unit.is_some_and(|before| before != unit)
                && let Some(asking) = self.next_recheck()
            {
                return Some(asking);
            }
            self.poll.unit = Some(unit);
            self.poll.queue.pop_front();
            if let Some(small) = self.small(request) {
                return Some(Asking::new(Purpose::Small, Some(request), Asked::Own(Box::new(small))));
            }
            match self.substitutes(request) {
                Some(blocks) if blocks.is_empty() => {}
                _ => {
                    let asked = self.first_of(request);
                    return Some(Asking::new(Purpose::Read, Some(request), asked));
                }
            }
        }
        if let Some(asking) = self.next_of_search(now) {
            return Some(asking);
        }
        if self.poll.probes.is_none() {
            self.poll.probes = Some(self.probes(now.boot));
        }
        if let Some((request, block)) = self.poll.probes.as_mut().and_then(VecDeque::pop_front) {
            return Some(Asking::new(Purpose::Probe, Some(request), Asked::Own(Box::new(block))));
        }
        self.next_recheck()
    }

    /// A scale register that must be read again: soon after the values that it scales, so that it can hardly have moved
    /// there and back, hence before the next unit is asked, and after each request of a search.
    fn next_recheck(&mut self) -> Option<Asking> {
        let Poll { decoder, rechecked, .. } = &mut self.poll;
        let block = decoder.rechecks().into_iter().find(|block| {
            let times = rechecked.entry((block.unit, block.table, block.address)).or_insert(0);
            *times += 1;
            *times <= MOST_RECHECKS
        })?;
        Some(Asking::new(Purpose::Recheck, None, Asked::Own(Box::new(block))))
    }

    /// The first request that is made for one of the plan; the others follow it.
    fn first_of(&mut self, request: usize) -> Asked {
        match self.substitutes(request) {
            Some(blocks) if !blocks.is_empty() => {
                self.poll.parts = Some(Parts { request, blocks: Arc::clone(&blocks), next: 1 });
                Asked::Part(blocks, 0)
            }
            _ => Asked::Planned(self.requests[request].cycle, self.requests[request].place),
        }
    }

    fn next_part(&mut self) -> Option<Asking> {
        let parts = self.poll.parts.as_mut()?;
        if parts.next == parts.blocks.len() {
            self.poll.parts = None;
            return None;
        }
        let asked = Asked::Part(Arc::clone(&parts.blocks), parts.next);
        parts.next += 1;
        Some(Asking::new(Purpose::Read, Some(parts.request), asked))
    }

    /// What is asked instead of a request; `None`: it itself. Worked out once, until something else is refused.
    fn substitutes(&mut self, request: usize) -> Option<Arc<[Block]>> {
        let generation = self.refusals.generation();
        if let Some((of, known)) = &self.requests[request].substitutes
            && *of == generation
        {
            return known.clone();
        }
        let blocks: Option<Arc<[Block]>> =
            self.refusals.substitutes(self.block_of(&self.requests[request])).map(Arc::from);
        self.requests[request].substitutes = Some((generation, blocks.clone()));
        blocks
    }

    /// A single value of a request, when its unit has been silent for long: perhaps it is asked for too much.
    fn small(&mut self, request: usize) -> Option<Block> {
        if self.silent.is_empty() {
            return None;
        }
        let unit = self.block_of(&self.requests[request]).unit;
        let timeouts = self.silent.get(&unit)?.timeouts;
        if timeouts < TIMEOUTS_BEFORE_SMALL || timeouts % 2 == 0 {
            return None;
        }
        let substitutes = self.substitutes(request);
        let first = substitutes.as_ref().and_then(|blocks| blocks.first());
        let first = first.unwrap_or_else(|| self.block_of(&self.requests[request]));
        let spots = first.spots();
        if first.whole || spots.len() < 2 {
            return None;
        }
        let narrowest = spots.into_iter().min_by_key(|spot| spot.width)?;
        first.pieces(u16::MAX, |spot| spot == narrowest).into_iter().next()
    }

    fn next_of_search(&mut self, now: Moment) -> Option<Asking> {
        loop {
            if let Some(asking) = self.next_recheck() {
                return Some(asking);
            }
            if self.poll.search.is_none() {
                let (request, block, cause) = self.poll.refused.pop_front()?;
                let answering = self.poll.answering.contains(block.unit);
                if !answering && !self.refusals.may_search(block.unit, now.boot) {
                    self.exception(request, cause, now);
                    continue;
                }
                let search = Search::new(&block, answering);
                self.poll.search = Some((request, block, cause, search));
            }
            let Poll { search: Some((request, .., search)), extra, .. } = &mut self.poll else { return None };
            if *extra < MOST_EXTRA
                && let Some(part) = search.ask()
            {
                *extra += 1;
                let asked = Asked::Own(Box::new(part.clone()));
                return Some(Asking::new(Purpose::Search, Some(*request), asked));
            }
            self.end_search(now);
        }
    }

    /// What a search has found, if there is one.
    fn end_search(&mut self, now: Moment) {
        let Some((request, block, cause, search)) = self.poll.search.take() else { return };
        let (unit, table) = (block.unit, block.table);
        let (found, has_read) = (search.found(), search.has_read());
        let inferred = matches!(found, Found::Gaps | Found::TooLong { .. });
        if inferred && !self.refusals.has_limit(unit, table) {
            let of = &mut self.requests[request].suspected;
            let again = of
                .as_ref()
                .is_some_and(|(suspected, _)| std::mem::discriminant(suspected) == std::mem::discriminant(&found));
            if !again {
                // It may have been a hiccup: the next poll asks for the same, and believes what it finds.
                *of = Some((found, block.quantity));
                return;
            }
            *of = None;
        }
        if found == Found::Nothing {
            if !self.poll.silent.contains(unit) {
                if !has_read {
                    self.refusals.learn(unit, table, &found, false, now);
                }
                self.exception(request, cause, now);
            }
            return;
        }
        let known = self.requests[request].known;
        if !self.refusals.learn(unit, table, &found, known, now) {
            self.poll.outcome.learned = true;
            return;
        }
        let discovery = match found {
            Found::Nothing => return,
            Found::Refused(spots) => {
                self.refused_with.insert((unit, table), Chain(&cause).to_string());
                Discovery::Refused(spots, cause)
            }
            Found::Gaps => Discovery::Gaps(unit),
            Found::TooLong { works, fails } => {
                let limit = Limit { unit, bits: table.is_bits(), works, fails, silent: false };
                Discovery::TooLong { table, limit }
            }
        };
        self.poll.outcome.discoveries.push(discovery);
    }

    /// Refused values that are due to be tried, each alone.
    fn probes(&self, now: Duration) -> VecDeque<(usize, Block)> {
        if self.refusals.spots().len() == 0 {
            return VecDeque::new();
        }
        let due = self.refusals.due(now).into_iter();
        due.filter_map(|spot| {
            let at_hand = |place: &&usize| {
                let block = self.block_of(&self.requests[**place]);
                !block.whole && (block.unit, block.table) == (spot.unit, spot.table) && block.spots().contains(&spot)
            };
            let place = *self.poll.due.iter().find(at_hand)?;
            let pieces = self.block_of(&self.requests[place]).pieces(u16::MAX, |other| other == spot);
            Some((place, pieces.into_iter().next()?))
        })
        .take(PROBES)
        .collect()
    }

    /// Refused values were read: whatever else is refused there may be readable again, too.
    fn accepted(&mut self, block: &Block) {
        let (unit, table, spots) = (block.unit, block.table, block.spots());
        for &spot in &spots {
            self.refusals.accepted(spot);
        }
        self.poll.outcome.discoveries.push(Discovery::Accepted(spots));
        if !self.poll.regained.insert((unit, table)) {
            return;
        }
        let limit = self.refusals.limit_of(unit, table);
        let mut runs = Vec::new();
        for &place in &self.poll.due {
            let block = self.block_of(&self.requests[place]);
            if !block.whole && (block.unit, block.table) == (unit, table) {
                let pieces = block.pieces(limit, |spot| self.refusals.refuses(spot));
                runs.extend(pieces.into_iter().map(|piece| (place, piece)));
            }
        }
        runs.truncate(MOST_EXTRA.saturating_sub(self.poll.extra));
        self.poll.extra += runs.len();
        let probes = self.poll.probes.get_or_insert_default();
        // What was to be tried alone is among the runs now, and is not to be read twice.
        probes.retain(|(_, block)| (block.unit, block.table) != (unit, table));
        probes.extend(runs);
    }

    /// The device answers a request of the plan, or a part of it, with an exception.
    fn exception(&mut self, request: usize, cause: ReadError, now: Moment) {
        self.requests[request].exception = true;
        let subject = Subject::of(self.block_of(&self.requests[request]));
        self.fault(subject, cause, None, now);
    }

    fn block_of(&self, request: &Request) -> &Block {
        &self.plan.cycles[request.cycle].blocks[request.place]
    }

    fn worked(&mut self, subject: Subject, now: Moment) {
        if self.health.is_well() {
            return;
        }
        self.troubles.remove(&subject);
        if let Some(change) = self.health.worked(&subject, now.boot) {
            self.poll.outcome.events.push(Event { subject, change, cause: None, retry_in: None });
        }
    }

    fn fault(&mut self, subject: Subject, cause: ReadError, retry_in: Option<Duration>, now: Moment) {
        let said = Chain(&cause).to_string();
        self.troubles.entry(subject).or_insert_with(|| Trouble { since: now.wall, cause: String::new() }).cause = said;
        if let Some(change) = self.health.failed(subject, cause.kind(), now.boot) {
            self.poll.outcome.events.push(Event { subject, change, cause: Some(cause), retry_in });
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
            suspected: None,
            exception: false,
        }
    }

    /// The request of another plan that asks for the same; what is asked instead is not carried over, for that names
    /// the points of the plan that it was worked out by.
    fn carry_over(&mut self, before: Self) {
        (self.missing, self.refused, self.owed, self.known) =
            (before.missing.min(self.values), before.refused.min(self.values), before.owed, before.known);
    }
}
