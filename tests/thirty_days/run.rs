//! The shell around the real core: performs what the [`Pipeline`] decides, as the actors do, under a clock of its own; and holds it
//! to its promises at every step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use pattoo_agent_modbustcpd::actors::aggregator::GATHER;
use pattoo_agent_modbustcpd::actors::poster::LAST_POSTS;
use pattoo_agent_modbustcpd::actors::supervisor::GRACE;
use pattoo_agent_modbustcpd::counters::{DropReason, OutputCounters};
use pattoo_agent_modbustcpd::outputs::pattoo::identity::AgentId;
use pattoo_agent_modbustcpd::outputs::pipeline::{Action, Event, Now, OutputPlan, Pipeline};
use pattoo_agent_modbustcpd::outputs::{Answer, Failure, Start, Verdict};
use pattoo_agent_modbustcpd::reading::points::PointTable;
use pattoo_agent_modbustcpd::reading::{Reading, Timestamp, Value};
use pattoo_agent_modbustcpd::spool::Limits;
use pattoo_agent_modbustcpd::spool::batch::Batch;
use pattoo_agent_modbustcpd::spool::batcher::Batcher;
use pattoo_agent_modbustcpd::spool::job::{Done, Holdover, Job, Limit};
use pattoo_agent_modbustcpd::spool::log::{Log, Opened};
use pattoo_agent_modbustcpd::time::clock::Moment as Clocks;
use pattoo_agent_modbustcpd::time::schedule::{Anchor, Grid, Schedule};
use pattoo_agent_modbustcpd::time::timeline::{BUILT, ClockState, Timeline, Track};

use super::disk::FaultyDisk;
use super::ledger::{AGENT_ID, Entry, Ledger, START};
use super::old;
use super::scenario::{DiskFault, HOUR, Kind, MINUTE, Moment, OutputSpec, SECOND, Scenario, Weather, What};
use super::sink::{Sink, encoder};

impl Stats {
    fn drop(&mut self, counters: &OutputCounters) {
        for (reason, count) in counters.dropped.by_reason().filter(|(_, count)| *count > 0) {
            *self.dropped.entry(reason.as_str()).or_default() += count;
        }
    }

    pub fn add(&mut self, other: Self) {
        let Self { readings, arrived, repeated, posts, jobs, lives, lost, dropped, quarantined, hangs, dated } = other;
        self.readings += readings;
        self.arrived += arrived;
        self.repeated += repeated;
        self.posts += posts;
        self.jobs += jobs;
        self.lives += lives;
        self.lost += lost;
        dropped.into_iter().for_each(|(reason, count)| *self.dropped.entry(reason).or_default() += count);
        self.quarantined += quarantined;
        self.hangs += hangs;
        self.dated += dated;
    }
}

/// What did not hold.
pub type Violation = String;

const NEVER: Duration = Duration::MAX;
/// What a server takes that is well.
const ROUND_TRIP: Duration = Duration::from_millis(20);
/// After so long the agent gives an answer up.
const TIMEOUT: Duration = Duration::from_secs(30);
/// What the first series of each device is refused for.
const POISON: &str = "input_register_30001";
/// Readings wait no longer than this, besides the time until they are durable, while all is well.
const PROMPT: Duration = Duration::from_secs(6);
/// After so long without any fault all is well.
const SETTLED: Duration = Duration::from_secs(330);

/// What a run was worth.
#[derive(Debug, Default, Clone)]
pub struct Stats {
    pub readings: u64,
    pub arrived: u64,
    pub repeated: u64,
    pub posts: u64,
    pub jobs: u64,
    pub lives: u64,
    /// Taken by kills and power cuts.
    pub lost: u64,
    pub dropped: BTreeMap<&'static str, u64>,
    pub quarantined: u64,
    pub hangs: u64,
    pub dated: u64,
}

pub struct Run<'a> {
    scenario: &'a Scenario,
    rng: Rng,
    /// True time since the run began.
    now: Duration,
    /// When the machine was booted, in that time, minus how long it took.
    booted: Duration,
    boots: u32,
    unset_until: Duration,
    /// Clocks that are far ahead when no server was heard: nobody can know, so they are not.
    suppressed: BTreeSet<usize>,
    considered: BTreeSet<usize>,
    told_odd: BTreeSet<usize>,
    disk: FaultyDisk,
    ledger: Ledger,
    /// What has which number in the log.
    positions: Vec<Option<(usize, usize)>>,
    turn: usize,
    table: Arc<PointTable>,
    limits: Limits,
    devices: Vec<Device>,
    outputs: Vec<OutputState>,
    life: Life,
    next_moment: usize,
    /// What is known to be wrong with the newest segment since it was begun.
    meddled: bool,
    /// There was a moment in which files were removed or damaged.
    ever_meddled: bool,
    ever_cut: bool,
    /// A life ended while something was in memory only.
    ever_forgotten: bool,
    ever_limited: BTreeSet<&'static str>,
    checks: BTreeMap<Duration, Vec<Check>>,
    /// The clock was not believed, or something else was the matter with the whole agent.
    unwell: Duration,
    stats: Stats,
    /// From when on everything is told.
    trace: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
enum Check {
    /// The server of an output has been back for so long.
    Back { output: usize, since: Duration },
    /// So often was a server asked that did not answer.
    Calm { output: usize, from: Duration, refused: bool },
    /// The clock has become right.
    Dated,
}

struct Device {
    schedule: Schedule,
    track: Track,
    due: Duration,
}

struct OutputState {
    spec: OutputSpec,
    name: String,
    present: bool,
    /// It owes all readings from this one on.
    owes_from: u64,
    sinks: Vec<Sink>,
    /// What was set aside, by series and number.
    aside: BTreeSet<(usize, usize)>,
    /// What earlier lives have counted.
    dropped: u64,
    quarantined: u64,
    in_memory: u64,
    attempts: Vec<Duration>,
    /// The last attempt failed, and the next may come then.
    not_before: Duration,
    no_post_before: Duration,
    /// What waited at the end of the last life, if that was told rightly.
    left: Option<u64>,
    /// How many files of the old caches were lost to the limits.
    evicted_old: u64,
}

/// What lasts from a start to the next.
struct Life {
    log: Option<Log>,
    pipeline: Pipeline,
    batcher: Batcher,
    /// What is in the open batch.
    gathered: VecDeque<(usize, usize)>,
    gather: Duration,
    timeline: Timeline,
    anchor: Anchor,
    boot_id: String,
    /// The outputs, in the order of the pipeline.
    lanes: Vec<usize>,
    flights: Vec<Option<Flight>>,
    job: Option<UnderWay>,
    wake: Duration,
    armed: Duration,
    /// Not even the deadline needed it: something else has happened since it was armed.
    touched: bool,
    /// Look once before the deadline.
    probe: Duration,
    clock_when_armed: i64,
    heard: bool,
    /// So far it was told that readings survive a kill, or a power cut.
    written: u64,
    durable: u64,
    /// Where the log ended at the start.
    found: u64,
    /// When which reading was handed over.
    handed: Duration,
    began: Duration,
    stopping: Option<Duration>,
    /// The disk refused or hung at some time: what was given out then may be nowhere else.
    from_memory: bool,
    write_failed: Option<Duration>,
    read_failed: Option<Duration>,
    jobs_in_a_row: u32,
    /// So often in a row it was woken and had nothing to do.
    in_vain: u32,
    bytes: u64,
    waits_for_date: bool,
}

struct UnderWay {
    since: Duration,
    ends: Duration,
    job: Option<Job>,
    done: Option<Done>,
    told: bool,
    last_batch: u64,
    is_write: bool,
}

struct Flight {
    /// `None`: it asks for the time.
    body: Option<Bytes>,
    sink: usize,
    arrives: Duration,
    answers: Duration,
    answer: Option<Answer>,
    arrived: bool,
    stale: bool,
}

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// In order, with everything stored.
    Stored,
    Killed,
    Cut,
}

impl<'a> Run<'a> {
    pub fn new(scenario: &'a Scenario) -> Result<Self, Violation> {
        let ledger = Ledger::new(scenario);
        let table = ledger.table(0);
        let disk = FaultyDisk::new(scenario.seed);
        old::plant(&disk.disk, &ledger, scenario.old);
        let outputs = (0..).zip(&scenario.outputs).map(|(place, spec)| OutputState {
            spec: *spec,
            name: format!("output_{place}"),
            present: spec.present,
            owes_from: 0,
            sinks: vec![Sink::new(spec.kind, ledger.series())],
            aside: BTreeSet::new(),
            dropped: 0,
            quarantined: 0,
            in_memory: 0,
            attempts: Vec::new(),
            not_before: Duration::ZERO,
            no_post_before: Duration::ZERO,
            left: None,
            evicted_old: 0,
        });
        let mut run = Self {
            scenario,
            rng: Rng::with_seed(scenario.seed ^ 0x5EED),
            now: Duration::ZERO,
            booted: Duration::ZERO,
            boots: 0,
            unset_until: Duration::ZERO,
            suppressed: BTreeSet::new(),
            considered: BTreeSet::new(),
            told_odd: BTreeSet::new(),
            disk,
            positions: Vec::new(),
            turn: 0,
            table,
            limits: scenario.limits,
            devices: Vec::new(),
            outputs: outputs.collect(),
            life: Life::none(),
            ledger,
            next_moment: 0,
            meddled: false,
            ever_meddled: false,
            ever_cut: false,
            ever_forgotten: false,
            ever_limited: BTreeSet::new(),
            checks: BTreeMap::new(),
            unwell: Duration::ZERO,
            stats: Stats::default(),
            trace: std::env::var("DELIVERY_TRACE").ok().and_then(|from| from.parse().ok()).map(Duration::from_secs),
        };
        run.plan_checks();
        run.note_limits();
        run.begin(None)?;
        Ok(run)
    }

    /// Runs to the end; what is wrong is told with the time at which it was.
    pub fn run(mut self) -> Result<Stats, Violation> {
        loop {
            match self.step() {
                Ok(true) => {}
                Ok(false) => return Ok(std::mem::take(&mut self.stats)),
                Err(what) => return Err(format!("at {}: {what}", humantime::format_duration(self.now))),
            }
        }
    }

    /// Does the next thing; `false` at the end.
    fn step(&mut self) -> Result<bool, Violation> {
        let until = self.scenario.until;
        if self.now >= until && self.life.stopping.is_none() {
            if self.is_idle() {
                self.finish()?;
                return Ok(false);
            }
            if self.now > until + 3 * HOUR {
                return Err(format!("it is never delivered: {:#?}", self.life.pipeline.published()));
            }
        }
        let moment = self.scenario.moments.get(self.next_moment).map_or(NEVER, |(at, _)| *at);
        let check = self.checks.keys().next().copied().unwrap_or(NEVER);
        let poll = match self.life.stopping {
            None => self.devices.iter().map(|device| device.due).min().filter(|&due| due < until).unwrap_or(NEVER),
            Some(_) => NEVER,
        };
        let stop = self.life.stopping.map_or(NEVER, |since| since + GRACE);
        let life = &self.life;
        let job = life.job.as_ref().map_or(NEVER, |job| job.ends);
        let flights = life.flights.iter().flatten();
        let flight = flights.map(|it| if it.arrived { it.answers } else { it.arrives }).min().unwrap_or(NEVER);
        let wake = life.wake.min(life.probe);
        let next = [moment, check, poll, stop, job, flight, wake, life.gather].into_iter().min().unwrap_or(NEVER);
        self.advance(next.max(self.now));
        if self.now >= moment && self.life.stopping.is_none() {
            self.next_moment += 1;
            let (_, moment) = self.scenario.moments[self.next_moment - 1];
            self.happens(moment)?;
        } else if self.now >= moment {
            self.next_moment += 1;
        } else if self.now >= check {
            let (_, checks) = self.checks.pop_first().unwrap();
            for check in checks {
                self.check(check)?;
            }
        } else if self.now >= poll {
            let due = self.devices.iter().position(|device| device.due <= self.now).unwrap();
            self.poll(due)?;
        } else if self.now >= self.life.gather {
            self.life.gather = NEVER;
            let batch = self.life.batcher.close();
            self.hand_over(batch)?;
        } else if self.now >= job {
            self.job_ends()?;
        } else if self.now >= flight {
            self.flight()?;
        } else if self.now >= stop {
            self.ended(End::Killed, Duration::from_secs(1), Duration::ZERO, None)?;
        } else {
            self.wakes()?;
        }
        Ok(true)
    }

    fn advance(&mut self, now: Duration) {
        self.now = now;
        for (place, fault) in self.scenario.faults.iter().enumerate() {
            if fault.from <= now && is_far_ahead(fault.what) && self.considered.insert(place) && !self.life.heard {
                self.suppressed.insert(place);
            }
        }
    }
}

/// What the world is like.
impl Run<'_> {
    fn boot(&self) -> Duration {
        self.now - self.booted.min(self.now)
    }

    fn active(&self) -> impl Iterator<Item = (usize, What)> + '_ {
        let now = self.now;
        let faults = self.scenario.faults.iter().enumerate();
        faults
            .filter(move |(_, fault)| fault.from <= now && now < fault.until)
            .map(|(place, fault)| (place, fault.what))
    }

    /// How wrong our clock is; `None`: it is not set.
    fn clock_error(&self) -> Option<i64> {
        if self.now < self.unset_until {
            return None;
        }
        let mut error = Some(0);
        for (place, what) in self.active() {
            match what {
                What::Clock(ms) if !self.suppressed.contains(&place) => error = Some(ms),
                What::Unset => error = None,
                _ => {}
            }
        }
        error
    }

    fn clocks(&self) -> Clocks {
        let boot = UPTIME + self.boot();
        let wall = match self.clock_error() {
            Some(error) => (START + ms(self.now)).saturating_add_signed(error),
            None => ms(boot),
        };
        Clocks { wall: Timestamp::from_millis(wall), boot }
    }

    fn weather(&self, output: usize) -> Option<Weather> {
        let weathers = self.active().filter_map(|(_, what)| match what {
            What::Server(place, weather) if place == output => Some(weather),
            _ => None,
        });
        weathers.filter(|weather| !matches!(weather, Weather::OddDate(_) | Weather::Clock(_))).last()
    }

    /// What the server says that the time is.
    fn server_time(&mut self, output: usize) -> Option<Timestamp> {
        if self.outputs[output].spec.kind != Kind::Pattoo {
            return None;
        }
        let mut error = 0;
        let mut odd = None;
        for (place, what) in self.active() {
            match what {
                What::Server(it, Weather::Clock(ms)) if it == output => error = ms,
                What::Server(it, Weather::OddDate(ms)) if it == output && !self.told_odd.contains(&place) => {
                    odd = Some((place, ms));
                }
                _ => {}
            }
        }
        if let Some((place, ms)) = odd {
            self.told_odd.insert(place);
            error = ms;
        }
        Some(Timestamp::from_millis((START + ms(self.now)).saturating_add_signed(error) / 1_000 * 1_000))
    }

    fn disk_faults(&self) -> Vec<DiskFault> {
        self.active().filter_map(|(_, what)| if let What::Disk(fault) = what { Some(fault) } else { None }).collect()
    }

    /// Until when a job hangs that is under way from now until `until`.
    fn hangs_until(&self, until: Duration) -> Option<Duration> {
        let hangs = self.scenario.faults.iter().filter(|fault| fault.what == What::Disk(DiskFault::Hangs));
        hangs.filter(|fault| fault.from <= until && self.now < fault.until).map(|fault| fault.until).max()
    }

    fn set_disk(&self) {
        self.disk.set(self.now, self.disk_faults(), &self.limits);
    }

    /// When one of these was last the matter, `None`: never.
    fn last_trouble(&self, concerns: impl Fn(What) -> bool) -> Option<Duration> {
        let faults = self.scenario.faults.iter().filter(|fault| fault.from <= self.now && concerns(fault.what));
        faults.map(|fault| fault.until.min(self.now)).max()
    }

    fn plan_checks(&mut self) {
        for fault in &self.scenario.faults {
            match fault.what {
                What::Server(output, weather) => {
                    let refused = matches!(weather, Weather::Error(_));
                    let quiet = matches!(weather, Weather::Down { .. } | Weather::Hanging | Weather::Busy(_));
                    if quiet || weather == Weather::Error(100) {
                        let check = Check::Calm { output, from: fault.from, refused };
                        self.checks.entry(fault.until).or_default().push(check);
                    }
                    if quiet {
                        let check = Check::Back { output, since: fault.until };
                        self.checks.entry(fault.until).or_default().push(check);
                    }
                }
                What::Clock(_) | What::Unset => {
                    self.checks.entry(fault.until + 8 * SECOND).or_default().push(Check::Dated);
                }
                _ => {}
            }
        }
    }

    fn note_limits(&mut self) {
        let Limits { min_free, max_bytes, max_age } = self.limits;
        let is_tight = !matches!(min_free, pattoo_agent_modbustcpd::spool::MinFree::Bytes(0));
        let limits = [
            (is_tight, "cache_min_free"),
            (max_bytes.is_some(), "cache_max_bytes"),
            (max_age.is_some(), "cache_max_age"),
        ];
        self.ever_limited.extend(limits.into_iter().filter(|(set, _)| *set).map(|(_, name)| name));
    }
}

/// How long the machine is up when it starts the agent.
const UPTIME: Duration = Duration::from_secs(20);

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

fn is_far_ahead(what: What) -> bool {
    matches!(what, What::Clock(ms) if ms > 3_600_000)
}

impl Life {
    /// Before the first.
    fn none() -> Self {
        let opened = Opened::default();
        Self {
            log: None,
            pipeline: Pipeline::new(opened, Vec::new(), "", SECOND),
            batcher: Batcher::default(),
            gathered: VecDeque::new(),
            gather: NEVER,
            timeline: Timeline::new(BUILT, Timestamp::default()),
            anchor: Anchor::new(Clocks { wall: Timestamp::default(), boot: Duration::ZERO }),
            boot_id: String::new(),
            lanes: Vec::new(),
            flights: Vec::new(),
            job: None,
            wake: NEVER,
            armed: Duration::ZERO,
            touched: true,
            probe: NEVER,
            clock_when_armed: 0,
            heard: false,
            written: 0,
            durable: 0,
            found: 0,
            handed: Duration::ZERO,
            began: Duration::ZERO,
            stopping: None,
            from_memory: false,
            write_failed: None,
            read_failed: None,
            jobs_in_a_row: 0,
            in_vain: 0,
            bytes: 0,
            waits_for_date: false,
        }
    }

    fn hold(&self) -> Option<Holdover> {
        self.timeline.holdover_since().map(|since| Holdover::new(&self.boot_id, since))
    }
}

/// Starts and ends.
impl Run<'_> {
    fn begin(&mut self, ended: Option<End>) -> Result<(), Violation> {
        let boot_id = format!("{:032x}", u64::from(self.boots) + (self.scenario.seed << 8));
        let (log, opened) = loop {
            if let Some(until) = self.hangs_until(self.now) {
                self.advance(until);
            }
            self.set_disk();
            match old::open(&self.disk.disk, self.limits, &boot_id) {
                Ok(opened) => break opened,
                // It is started again by whoever watches it.
                Err(_) => self.advance(self.now + 5 * SECOND),
            }
        };
        let end = opened.end.0;
        let must = match ended {
            Some(End::Stored) => self.positions.len() as u64,
            Some(End::Killed) => self.life.written,
            Some(End::Cut) => self.life.durable,
            None => 0,
        };
        if end < must && !self.meddled {
            return Err(format!("after {ended:?} the log ends at {end}, {must} were safe"));
        }
        self.meddled &= ended != Some(End::Stored);
        for lost in self.positions.iter().skip(usize::try_from(end).unwrap()).flatten() {
            self.ledger.entries[lost.0][lost.1].lost = true;
            self.stats.lost += 1;
        }
        self.positions.resize(usize::try_from(end).unwrap(), None);
        for (series, n) in self.life.gathered.drain(..) {
            self.ledger.entries[series][n].lost = true;
            self.stats.lost += 1;
        }

        let id = AgentId::from_bytes(AGENT_ID);
        let lanes: Vec<_> = (0..self.outputs.len()).filter(|&output| self.outputs[output].present).collect();
        for &output in &lanes {
            let state = &mut self.outputs[output];
            if !opened.cursors.contains_key(&state.name) {
                let begins = match state.spec.start {
                    Start::End => opened.end.0,
                    Start::Beginning => opened.usage.start.0,
                };
                state.owes_from = state.owes_from.max(begins);
            }
        }
        let plans = lanes.iter().map(|&output| {
            let OutputState { spec, name, .. } = &self.outputs[output];
            OutputPlan {
                name: name.clone(),
                encode: encoder(spec.kind, &id),
                tells_time: spec.kind == Kind::Pattoo,
                takes_old_caches: output == 0,
                split_refused_after: spec.split_refused_after,
                start: spec.start,
            }
        });
        let plans: Vec<_> = plans.collect();
        let undated = opened.holds.iter().filter(|hold| hold.boot_id == boot_id && hold.offset.is_none());
        let mut timeline = Timeline::new(BUILT, opened.last_stamp(self.clocks().wall));
        if let Some(since) = undated.map(|hold| hold.since).max() {
            timeline = timeline.holding_since(since);
        }
        let mut pipeline = Pipeline::new(opened, plans, &boot_id, self.scenario.flush_interval);
        if let Some(bytes) = self.scenario.memory {
            pipeline.limit_memory(bytes);
        }
        let clocks = self.clocks();
        self.life = Life {
            log: Some(log),
            pipeline,
            timeline,
            anchor: Anchor::new(clocks),
            boot_id,
            flights: lanes.iter().map(|_| None).collect(),
            lanes,
            wake: self.now,
            armed: self.now,
            written: end,
            durable: 0,
            found: end,
            began: self.now,
            ..Life::none()
        };
        self.stats.lives += 1;
        self.unwell = self.now;
        self.devices = (0..self.scenario.devices)
            .map(|device| Device {
                schedule: Schedule::new(Grid::new(self.scenario.interval, &format!("plant-{device}.example.net"))),
                track: self.life.timeline.track(),
                due: self.now,
            })
            .collect();
        let published = self.life.pipeline.published();
        for (&output, counters) in self.life.lanes.iter().zip(&published.outputs) {
            let state = &mut self.outputs[output];
            if let Some(left) = state.left.take().filter(|_| ended == Some(End::Stored))
                && left != counters.found
            {
                return Err(format!("{} left {left}, and {} are found", state.name, counters.found));
            }
            state.not_before = Duration::ZERO;
            state.no_post_before = Duration::ZERO;
        }
        self.pump()
    }

    fn happens(&mut self, moment: Moment) -> Result<(), Violation> {
        let ahead = self.active().any(|(place, what)| is_far_ahead(what) && !self.suppressed.contains(&place));
        if moment.is_restart() && ahead {
            // What a start cannot know: that the clock is a day ahead.
            return Ok(());
        }
        match moment {
            Moment::Stop { .. } => {
                let batch = self.life.batcher.close();
                self.life.gather = NEVER;
                self.hand_over(batch)?;
                let boot = self.clocks().boot;
                self.life.pipeline.stop(boot);
                self.life.stopping = Some(self.now);
                self.life.touched = true;
                self.pump()
            }
            Moment::Kill { down, toggle } => self.ended(End::Killed, down, Duration::ZERO, toggle),
            Moment::PowerCut { down, unset } => self.ended(End::Cut, down, unset, None),
            Moment::Reload { server, table, limits } => self.reload(server, table, limits),
            Moment::Remove(which) => {
                if let Some(newest) = self.disk.remove(which) {
                    self.meddled |= newest;
                    self.ever_meddled = true;
                }
                Ok(())
            }
            Moment::Rot(which) => {
                if let Some(newest) = self.disk.rot(which, &mut self.rng) {
                    self.meddled |= newest;
                    self.ever_meddled = true;
                }
                Ok(())
            }
        }
    }

    fn reload(&mut self, server: Option<usize>, table: bool, limits: Option<Limits>) -> Result<(), Violation> {
        self.turn += usize::from(table);
        self.table = self.ledger.table(self.turn);
        self.limits = limits.unwrap_or(self.limits);
        self.note_limits();
        self.unwell = self.now;
        let life = &mut self.life;
        life.pipeline.configure(self.limits, self.scenario.flush_interval);
        let id = AgentId::from_bytes(AGENT_ID);
        for (lane, &output) in life.lanes.iter().enumerate() {
            let state = &mut self.outputs[output];
            let another = server == Some(output);
            if another {
                state.sinks.push(Sink::new(state.spec.kind, self.ledger.series()));
                if let Some(flight) = &mut life.flights[lane] {
                    flight.stale = true;
                }
                (state.not_before, state.no_post_before) = (Duration::ZERO, Duration::ZERO);
            }
            let encode = another.then(|| encoder(state.spec.kind, &id));
            life.pipeline.configure_output(&state.name, encode, state.spec.split_refused_after);
            state.not_before = Duration::ZERO;
            state.no_post_before = Duration::ZERO;
        }
        life.touched = true;
        self.pump()
    }

    /// What a kill or a power cut may cost: nothing that was there a moment ago, while the disk is well.
    fn is_safe(&self, end: End) -> Result<(), Violation> {
        let disk = self.last_trouble(|what| matches!(what, What::Disk(_))).unwrap_or_default();
        if self.now - disk < 30 * SECOND || self.now - self.life.began < 30 * SECOND {
            return Ok(());
        }
        let (safe, moment) = match end {
            End::Stored => (self.positions.len() as u64, Duration::ZERO),
            End::Killed => (self.life.written, Duration::from_millis(150)),
            End::Cut => (self.life.durable, self.scenario.flush_interval + Duration::from_millis(200)),
        };
        let unsafe_ones = self.positions.iter().skip(usize::try_from(safe).unwrap()).flatten();
        for &(series, n) in unsafe_ones.chain(&self.life.gathered) {
            let ago = self.now - self.ledger.entries[series][n].read;
            // What every output has needs no disk.
            let has = |output: &OutputState| output.sinks.iter().any(|sink| sink.has(series, n));
            if ago > moment && !self.life.lanes.iter().all(|&output| has(&self.outputs[output])) {
                return Err(format!("{end:?} costs series {series}: {n}, which was read {ago:?} ago"));
            }
        }
        Ok(())
    }

    /// A life is over, and `down` later the next begins.
    fn ended(&mut self, end: End, down: Duration, unset: Duration, toggle: Option<usize>) -> Result<(), Violation> {
        self.is_safe(end)?;
        let published = self.life.pipeline.published();
        for (&output, counters) in self.life.lanes.iter().zip(&published.outputs) {
            let state = &mut self.outputs[output];
            state.dropped += counters.dropped.sum();
            state.quarantined += counters.quarantined;
            // What was loaded and evicted meanwhile was nowhere else; at a stop it is told as lost.
            state.in_memory += counters.in_memory;
            self.stats.drop(counters);
            self.stats.quarantined += counters.quarantined;
            state.left = (end == End::Stored).then_some(counters.on_disk);
        }
        // What is on the wire arrives, or not.
        for lane in 0..self.life.flights.len() {
            let Some(flight) = self.life.flights[lane].take() else { continue };
            let output = self.life.lanes[lane];
            if let Some(body) = flight.body
                && !flight.arrived
                && self.rng.bool()
                && self.weather(output).is_none()
            {
                self.outputs[output].sinks[flight.sink].store(&body, &self.ledger, self.now, u64::MAX)?;
            }
            self.outputs[output].sinks[flight.sink].excuse();
        }
        if let Some(UnderWay { job: Some(job), .. }) = self.life.job.take()
            && self.rng.bool()
        {
            self.set_disk();
            self.disk.end_after(Some(self.rng.u64(0..8)));
            if let Some(log) = &mut self.life.log {
                log.perform(job);
            }
            self.disk.end_after(None);
        }
        let amnesia = self.life.from_memory || self.meddled;
        self.ever_forgotten |= self.life.from_memory;
        if end != End::Stored {
            for output in &mut self.outputs {
                for sink in &mut output.sinks {
                    sink.forgets();
                    sink.amnesia |= amnesia;
                    sink.cut |= end == End::Cut;
                }
            }
        }
        self.life.log = None;
        self.disk.disk.world().kill();
        if end == End::Cut {
            self.disk.disk.world().power_cut();
            self.ever_cut = true;
            self.boots += 1;
        }
        if let Some(output) = toggle {
            let state = &mut self.outputs[output];
            state.present = !state.present;
            state.left = None;
            if state.present {
                state.sinks = vec![Sink::new(state.spec.kind, self.ledger.series())];
                state.aside.clear();
                (state.dropped, state.quarantined, state.owes_from) = (0, 0, 0);
            }
        }
        self.life.heard = false;
        self.advance(self.now + Duration::from_millis(ms(down)));
        if end == End::Cut {
            self.booted = self.now;
            self.unset_until = self.now + unset;
        }
        self.begin(Some(end))
    }

    fn is_idle(&self) -> bool {
        let published = self.life.pipeline.published();
        let delivered = published.outputs.iter().all(|output| output.waiting() == 0);
        delivered
            && published.log.old_batches == 0
            && self.life.gathered.is_empty()
            && self.life.flights.iter().all(Option::is_none)
    }

    /// Everything is delivered: it is counted.
    fn finish(&mut self) -> Result<(), Violation> {
        let published = self.life.pipeline.published();
        for (&output, counters) in self.life.lanes.clone().iter().zip(&published.outputs) {
            let state = &mut self.outputs[output];
            state.dropped += counters.dropped.sum();
            state.quarantined += counters.quarantined;
            self.stats.drop(counters);
            self.stats.quarantined += counters.quarantined;
        }
        self.stats.readings = self.ledger.entries.iter().map(|entries| entries.len() as u64).sum();
        for output in self.life.lanes.clone() {
            let state = &self.outputs[output];
            let mut missing = Vec::new();
            for (series, entries) in self.ledger.entries.iter().enumerate() {
                for (n, entry) in entries.iter().enumerate() {
                    let owed = match entry.position {
                        Some(position) => position >= state.owes_from && !entry.lost,
                        // Of the old caches.
                        None => output == 0 && n < self.ledger.old,
                    };
                    let has = state.sinks.iter().any(|sink| sink.has(series, n)) || state.aside.contains(&(series, n));
                    if owed && !has {
                        missing.push((series, n, entry.position));
                    }
                }
            }
            let forgiven: u64 = state.sinks.iter().map(|sink| sink.forgiven).sum();
            let old = state.evicted_old * self.ledger.series() as u64;
            let counted = state.dropped + state.quarantined + state.in_memory + forgiven + old;
            if missing.len() as u64 > counted {
                let shown: Vec<_> = missing.iter().take(10).collect();
                return Err(format!("{}: {} are missing, {counted} counted: {shown:?}", state.name, missing.len()));
            }
            for sink in &state.sinks {
                self.stats.arrived += sink.rows;
                self.stats.repeated += sink.repeated;
            }
        }
        Ok(())
    }
}

/// Readings.
impl Run<'_> {
    fn poll(&mut self, place: usize) -> Result<(), Violation> {
        self.healthy()?;
        let clocks = self.clocks();
        let silent = self.active().any(|(_, what)| what == What::Silent);
        let life = &mut self.life;
        let device = &mut self.devices[place];
        device.schedule.begin(clocks.boot);
        let at = life.timeline.stamp(clocks, &mut device.track).written();
        life.anchor.follow(clocks);
        device.schedule.finish(clocks.boot, life.anchor);
        device.due = self.now + device.schedule.wait(clocks.boot).max(Duration::from_millis(1));
        if silent {
            return Ok(());
        }
        let mut readings = Vec::new();
        for point in 0..self.scenario.points {
            let series = place * self.scenario.points + point;
            let n = self.ledger.entries[series].len();
            self.ledger.entries[series].push(Entry { read: self.now, position: None, lost: false });
            life.gathered.push_back((series, n));
            let number = u32::try_from(n).unwrap();
            let value =
                if series.is_multiple_of(2) { Value::Float(f64::from(number)) } else { Value::Integer(number.into()) };
            readings.push(Reading { point: self.ledger.place(series, self.turn), at, value });
        }
        let hold = life.hold().map(|hold| hold.id);
        let closed = life.batcher.accept(&self.table, &readings, hold);
        for batch in closed {
            self.hand_over(Some(batch))?;
        }
        if self.life.gather == NEVER && self.life.batcher.is_open() {
            self.life.gather = self.now + GATHER;
        }
        Ok(())
    }

    fn hand_over(&mut self, batch: Option<Batch>) -> Result<(), Violation> {
        let Some(batch) = batch else { return Ok(()) };
        let life = &mut self.life;
        for _ in 0..batch.count {
            let (series, n) = life.gathered.pop_front().unwrap();
            self.ledger.entries[series][n].position = Some(self.positions.len() as u64);
            self.positions.push(Some((series, n)));
        }
        let hold = batch.undated.and_then(|_| life.hold());
        let boot = UPTIME + (self.now - self.booted.min(self.now));
        life.pipeline.accept(batch, hold, boot);
        life.handed = self.now;
        life.jobs_in_a_row = 0;
        life.touched = true;
        self.pump()
    }
}

/// What the pipeline decides is done.
impl Run<'_> {
    fn wakes(&mut self) -> Result<(), Violation> {
        let early = self.now < self.life.wake;
        self.life.probe = NEVER;
        let clock = self.clock_error().unwrap_or(i64::MIN);
        let untouched = !self.life.touched && clock == self.life.clock_when_armed;
        let armed = self.life.armed;
        self.life.jobs_in_a_row = 0;
        let before = self.stats.jobs + self.stats.posts;
        let waited = self.life.waits_for_date;
        let events = self.pump_and_count()?;
        let acted = self.stats.jobs + self.stats.posts > before || events > 0;
        // While a date is waited for the clock is looked at every second, and with it whatever else belongs to that.
        if early && acted && untouched && !self.life.waits_for_date && !waited {
            return Err(format!("the deadline was too late: there was something to do before ({events} events)"));
        }
        let periodic = Duration::from_secs(if self.life.waits_for_date { 1 } else { 30 });
        // A pause may end with nothing to do; but not one after the other.
        let in_vain = !early && !acted && untouched && !waited && self.now - armed < periodic;
        self.life.in_vain = if in_vain { self.life.in_vain + 1 } else { 0 };
        if self.life.in_vain > 2 {
            return Err(format!("woken for nothing again and again, after {:?}", self.now - armed));
        }
        Ok(())
    }

    fn pump(&mut self) -> Result<(), Violation> {
        self.pump_and_count().map(|_| ())
    }

    fn pump_and_count(&mut self) -> Result<usize, Violation> {
        let mut actions = 0;
        loop {
            let clocks = self.clocks();
            let life = &mut self.life;
            let state = life.timeline.observe(clocks);
            let believed = !matches!(state, ClockState::NotPlausible { .. });
            if !believed {
                self.unwell = self.now;
            }
            let (timeline, offset) = (&life.timeline, life.timeline.offset());
            let too_far_ahead = |at| timeline.too_far_ahead(at, clocks);
            let now = Now { moment: clocks, believed, offset, too_far_ahead: &too_far_ahead };
            let Some(action) = life.pipeline.next(&now) else { break };
            actions += 1;
            if actions > 100 {
                return Err(format!("no end of actions: {action:?}"));
            }
            if self.trace.is_some_and(|from| self.now >= from) {
                self.say(&action);
            }
            self.perform(action)?;
        }
        let events = self.life.pipeline.take_events();
        let count = events.len();
        for event in events {
            if self.trace.is_some_and(|from| self.now >= from) {
                self.say(&event);
            }
            self.tell(event)?;
        }
        self.judge()?;
        let boot = self.clocks().boot;
        let life = &mut self.life;
        let deadline = life.pipeline.deadline(boot);
        if deadline <= boot {
            return Err("the deadline is over".to_owned());
        }
        life.wake = self.now + (deadline - boot);
        life.armed = self.now;
        life.touched = false;
        life.probe = if self.rng.u8(0..8) == 0 {
            self.now + Duration::from_millis(self.rng.u64(0..=ms(deadline - boot)))
        } else {
            NEVER
        };
        life.probe = if life.probe > self.now && life.probe < life.wake { life.probe } else { NEVER };
        self.life.clock_when_armed = self.clock_error().unwrap_or(i64::MIN);
        if let Some(since) = self.life.stopping {
            let stored = self.life.pipeline.is_stored_or_delivered();
            if self.life.pipeline.is_settled() || (stored && self.now >= since + LAST_POSTS) {
                let (_, moment) = self.scenario.moments[self.next_moment - 1];
                let Moment::Stop { down, toggle } = moment else { unreachable!("only a stop stops") };
                // While the disk refuses it may be that all has it, and nothing is stored.
                let is_stored = self.life.durable == self.positions.len() as u64;
                let end = if is_stored && self.life.pipeline.is_settled() && self.life.write_failed.is_none() {
                    End::Stored
                } else {
                    End::Killed
                };
                self.ended(end, down, Duration::ZERO, toggle)?;
            } else {
                let latest = since + LAST_POSTS;
                if latest > self.now {
                    self.life.wake = self.life.wake.min(latest);
                    self.life.touched = true;
                }
            }
        }
        Ok(count)
    }

    fn perform(&mut self, action: Action) -> Result<(), Violation> {
        match action {
            Action::Disk(job) => self.start_job(job),
            Action::Post { output, body } => self.start_flight(output, Some(body)),
            Action::AskTime { output } => self.start_flight(output, None),
        }
    }

    fn start_job(&mut self, job: Job) -> Result<(), Violation> {
        self.stats.jobs += 1;
        let boot = self.now;
        let life = &mut self.life;
        if life.job.is_some() {
            return Err(format!("two jobs at a time: {job:?}"));
        }
        life.jobs_in_a_row += 1;
        if life.jobs_in_a_row > 300 {
            return Err(format!("{} jobs and nothing else happens: {job:?}", life.jobs_in_a_row));
        }
        let is_write = matches!(job, Job::Write(_));
        let failed = if is_write { life.write_failed } else { life.read_failed };
        if let Some(failed) = failed
            && boot - failed < Duration::from_millis(450)
            && life.stopping.is_none()
            && !matches!(job, Job::Limit(_))
        {
            return Err(format!("{:?} after a failure: {job:?}", boot - failed));
        }
        let last_batch = match &job {
            Job::Write(write) => write.batches.last().map_or(0, |batch| batch.end().0),
            _ => 0,
        };
        if let Job::SetAside(aside) = &job {
            let output = life.lanes[aside.output];
            self.set_aside(output, &aside.body)?;
        }
        let faults = self.disk_faults();
        let mut ends = self.now + FaultyDisk::takes(&faults, &mut self.rng);
        if let Some(until) = self.hangs_until(ends) {
            ends = ends.max(until + Duration::from_millis(self.rng.u64(1..50)));
            self.stats.hangs += 1;
        }
        let mut under_way =
            UnderWay { since: self.now, ends, job: None, done: None, told: false, last_batch, is_write };
        if self.rng.bool() {
            self.set_disk();
            under_way.done = self.life.log.as_mut().map(|log| log.perform(job));
        } else {
            under_way.job = Some(job);
        }
        self.life.job = Some(under_way);
        Ok(())
    }

    fn set_aside(&mut self, output: usize, body: &[u8]) -> Result<(), Violation> {
        let rows: Vec<(usize, usize)> = match self.outputs[output].spec.kind {
            Kind::Pattoo => {
                let mut database = super::support::server::Database::default();
                database.ingest(body);
                database.rows().iter().map(|row| self.ledger.row(row)).map(|(series, n, _)| (series, n)).collect()
            }
            Kind::Lines => {
                let text = str::from_utf8(body).unwrap();
                text.lines().map(|line| self.ledger.line(line)).map(|(series, n, _)| (series, n)).collect()
            }
        };
        let poisoned = self
            .scenario
            .faults
            .iter()
            .any(|fault| fault.what == What::Server(output, Weather::Poisoned) && fault.from <= self.now);
        for (series, n) in rows {
            if !poisoned || !series.is_multiple_of(self.scenario.points) {
                return Err(format!("series {series}: {n} is set aside though it was never refused"));
            }
            self.outputs[output].aside.insert((series, n));
        }
        Ok(())
    }

    fn job_ends(&mut self) -> Result<(), Violation> {
        let UnderWay { since, job, done, told, last_batch, is_write, .. } = self.life.job.take().unwrap();
        if self.now - since > 5 * SECOND && !told {
            return Err(format!("the disk hung for {:?}, and nobody was told", self.now - since));
        }
        let done = match (done, job) {
            (Some(done), _) => done,
            (None, Some(job)) => {
                self.set_disk();
                self.life.log.as_mut().map(|log| log.perform(job)).unwrap()
            }
            (None, None) => unreachable!("a job is done or to be done"),
        };
        let life = &mut self.life;
        let failed = match &done {
            Done::Written(written) => {
                life.written = life.written.max(written.end.0);
                life.durable = life.durable.max(written.durable.0);
                if written.end.0 < last_batch && !written.evicted.is_empty() {
                    return Err(format!("a write that failed has evicted: {:?}", written.evicted));
                }
                for evicted in &written.evicted {
                    let by = match evicted.limit {
                        Limit::MinFree => "cache_min_free",
                        Limit::MaxBytes => "cache_max_bytes",
                        Limit::MaxAge => "cache_max_age",
                    };
                    if !self.ever_limited.contains(by) {
                        return Err(format!("evicted by {by}, which is not set"));
                    }
                }
                self.outputs[0].evicted_old += written.evicted_old as u64;
                if let Some(max) = self.limits.max_bytes
                    && written.result.is_ok()
                    && written.usage.bytes > max + 70_000
                {
                    return Err(format!("{} bytes on disk, {max} allowed", written.usage.bytes));
                }
                life.bytes = written.usage.bytes;
                written.result.is_err()
            }
            Done::Read { result, .. } => result.is_err(),
            Done::SetAside { result, .. } => result.is_err(),
            Done::Old { result, .. } => result.is_err(),
            Done::Forgotten(result) => result.is_err(),
            Done::Limited => false,
        };
        let last = if is_write { &mut life.write_failed } else { &mut life.read_failed };
        *last = failed.then_some(self.now);
        life.from_memory |= failed && is_write;
        let random = self.rng.f64();
        let boot = self.clocks().boot;
        if self.trace.is_some_and(|from| self.now >= from) {
            self.say(&done);
        }
        let life = &mut self.life;
        life.pipeline.done(done, boot, random);
        life.touched = true;
        self.pump()
    }

    fn start_flight(&mut self, lane: usize, body: Option<Bytes>) -> Result<(), Violation> {
        self.stats.posts += 1;
        self.life.jobs_in_a_row = 0;
        let output = self.life.lanes[lane];
        if self.life.flights[lane].is_some() {
            return Err(format!("two posts of output {output} at a time"));
        }
        if body.as_ref().is_some_and(|body| body.len() > (1 << 20) + 2_000) {
            return Err("a post that is too large".to_owned());
        }
        let state = &mut self.outputs[output];
        if self.now < state.not_before || (body.is_some() && self.now < state.no_post_before) {
            let before = state.not_before.max(state.no_post_before) - self.now;
            return Err(format!("{}: an attempt (post: {}) {before:?} too early", state.name, body.is_some()));
        }
        state.attempts.push(self.now);
        let sink = state.sinks.len() - 1;
        let arrives = self.now + ROUND_TRIP / 2;
        self.life.flights[lane] =
            Some(Flight { body, sink, arrives, answers: NEVER, answer: None, arrived: false, stale: false });
        Ok(())
    }

    fn flight(&mut self) -> Result<(), Violation> {
        let due = |flight: &Flight| self.now >= if flight.arrived { flight.answers } else { flight.arrives };
        let lane = self.life.flights.iter().position(|flight| flight.as_ref().is_some_and(due)).unwrap();
        let mut flight = self.life.flights[lane].take().unwrap();
        let output = self.life.lanes[lane];
        if !flight.arrived {
            self.arrives(output, &mut flight)?;
            self.life.flights[lane] = Some(flight);
            return Ok(());
        }
        let answer = flight.answer.unwrap();
        let state = &mut self.outputs[output];
        if let Err(failure) = &answer.result
            && !flight.stale
        {
            let (pause, after) = match failure.verdict {
                Verdict::TooLarge => (Duration::from_millis(40), Duration::ZERO),
                Verdict::RefusedBody => (Duration::from_millis(110), Duration::ZERO),
                Verdict::RefusedUs => (Duration::from_millis(450), Duration::ZERO),
                Verdict::Later { after, .. } => (Duration::from_millis(450), after.unwrap_or_default()),
            };
            state.not_before = self.now + pause;
            if flight.body.is_some() {
                state.no_post_before = self.now + after;
            }
        }
        let clocks = self.clocks();
        if let Some(date) = answer.server_time {
            self.life.timeline.server_says(date, clocks);
            self.life.heard = true;
        }
        let random = self.rng.f64();
        let life = &mut self.life;
        if flight.body.is_some() {
            life.pipeline.answered(lane, &answer, clocks, random);
        } else {
            life.pipeline.time_told(lane, &answer, clocks, random);
        }
        life.jobs_in_a_row = 0;
        life.touched = true;
        self.pump()
    }

    /// The server does with it what it does in this weather.
    fn arrives(&mut self, output: usize, flight: &mut Flight) -> Result<(), Violation> {
        flight.arrived = true;
        let weather = self.weather(output);
        let later = |late| Verdict::Later { after: None, late };
        let back = ROUND_TRIP / 2;
        let dead = match weather {
            Some(Weather::Down { slow }) => Some((later(false), if slow { 5 * SECOND } else { back })),
            Some(Weather::Hanging) => Some((later(true), TIMEOUT)),
            Some(Weather::Mute) => Some((later(false), back)),
            _ => None,
        };
        let Some(body) = flight.body.clone() else {
            if let Some((verdict, takes)) = dead {
                flight.answer = Some(Answer { result: Err(failure(verdict)), server_time: None });
                flight.answers = self.now + takes;
                return Ok(());
            }
            let says = !matches!(weather, Some(Weather::Busy(_) | Weather::Error(100)));
            let server_time = if says { self.server_time(output) } else { None };
            flight.answer = Some(Answer { result: Ok(()), server_time });
            flight.answers = self.now + back;
            return Ok(());
        };
        let text = str::from_utf8(&body).unwrap();
        let percent = self.rng.u8(0..100);
        let verdict = match weather {
            Some(Weather::Error(share)) if percent < share => Some(Verdict::RefusedBody),
            Some(Weather::Poisoned) if text.contains(POISON) => Some(Verdict::RefusedBody),
            Some(Weather::TooLarge(most)) if body.len() > most => Some(Verdict::TooLarge),
            Some(Weather::Busy(after)) => {
                let after = Duration::from_secs(after);
                Some(Verdict::Later { after: Some(after), late: false })
            }
            _ => dead.map(|(verdict, _)| verdict),
        };
        let stores = match weather {
            Some(Weather::Down { .. }) => false,
            Some(Weather::Mute) => true,
            Some(Weather::Hanging) => self.rng.bool(),
            _ => verdict.is_none(),
        };
        // While the disk is well nothing is posted that a power cut would take.
        let durable = if self.life.from_memory { u64::MAX } else { self.life.durable.max(self.life.found) };
        let sink = &mut self.outputs[output].sinks[flight.sink];
        if stores {
            sink.store(&body, &self.ledger, self.now, durable)?;
        }
        if verdict == Some(Verdict::RefusedBody) {
            sink.refuses(self.now);
        } else if verdict.is_some() {
            sink.troubled(self.now);
            if stores {
                sink.excuse();
            }
        }
        let slow = if let Some(Weather::Slow(ms)) = weather { Duration::from_millis(ms) } else { back };
        flight.answers = self.now + dead.map_or(slow, |(_, takes)| takes);
        let server_time = if dead.is_none() { self.server_time(output) } else { None };
        flight.answer = Some(Answer { result: verdict.map_or(Ok(()), |verdict| Err(failure(verdict))), server_time });
        Ok(())
    }

    fn tell(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::DiskHangs(_) => {
                self.life.from_memory = true;
                if let Some(job) = &mut self.life.job {
                    job.told = true;
                }
            }
            Event::Lost { output, readings, reason } => {
                let allowed = match reason {
                    DropReason::MinFree | DropReason::MaxBytes | DropReason::MaxAge => {
                        self.ever_limited.contains(reason.as_str())
                    }
                    DropReason::MemoryFull => {
                        self.scenario.memory.is_some()
                            && self.last_trouble(|what| matches!(what, What::Disk(_))).is_some()
                    }
                    // What others had from memory when the agent was killed was never on disk.
                    DropReason::Vanished => self.ever_meddled || self.ever_cut || self.ever_forgotten,
                    DropReason::NeverDated => self.ever_cut,
                    _ => false,
                };
                if !allowed {
                    return Err(format!("output {output} loses {readings}: {}", reason.as_str()));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Run<'_> {
    /// For `DELIVERY_TRACE`, without what points are.
    fn say(&self, what: &dyn std::fmt::Debug) {
        let text = format!("{what:?}");
        let (mut said, mut rest) = (String::new(), text.as_str());
        while let Some((before, behind)) = rest.split_once("table: ") {
            said.push_str(before);
            rest = behind.split_once("undated: ").map_or("", |(_, behind)| behind);
        }
        said.push_str(rest);
        let said: String = said.chars().take(600).collect();
        writeln!(std::io::stdout(), "{:.3} {said}", self.now.as_secs_f64()).ok();
    }
}

fn failure(verdict: Verdict) -> Failure {
    Failure { verdict, kind: "simulated", text: String::new() }
}

/// What is promised.
impl Run<'_> {
    /// Holdovers at every step.
    fn judge(&mut self) -> Result<(), Violation> {
        let published = self.life.pipeline.published();
        for counters in &published.outputs {
            if counters.residual() != 0 {
                return Err(format!("the counters do not add up: {} {counters:#?}", counters.residual()));
            }
        }
        let most = self.scenario.memory.unwrap_or(16 << 20) + 5_000;
        let bytes = self.life.pipeline.bytes_in_memory();
        if bytes > most {
            return Err(format!("{bytes} bytes in memory"));
        }
        self.life.waits_for_date = published.log.undated > 0 || self.now == self.unwell;
        Ok(())
    }

    /// Holdovers while all has been well for a while: nothing waits for long.
    fn healthy(&mut self) -> Result<(), Violation> {
        let published = self.life.pipeline.published();
        let agent = self.last_trouble(|what| matches!(what, What::Disk(_) | What::Unset) || is_far_ahead(what));
        let agent = agent.unwrap_or_default().max(self.unwell);
        for (&output, counters) in self.life.lanes.iter().zip(&published.outputs) {
            let server = self.last_trouble(|what| matches!(what, What::Server(it, _) if it == output));
            let since = agent.max(server.unwrap_or_default());
            if self.now - since.min(self.now) < SETTLED + self.scenario.flush_interval {
                continue;
            }
            if let Some(waits) = self.oldest_waiting(counters)
                && waits > PROMPT + self.scenario.flush_interval
            {
                return Err(format!("{}: a reading waits for {waits:?} for nothing", counters.name));
            }
        }
        Ok(())
    }

    /// How long the oldest reading that waits has been waiting.
    fn oldest_waiting(&self, counters: &OutputCounters) -> Option<Duration> {
        let waiting = usize::try_from(counters.waiting()).unwrap();
        let first = self.positions.len().checked_sub(waiting)?;
        let (series, n) = self.positions.get(first..)?.iter().flatten().next()?;
        Some(self.now - self.ledger.entries[*series][*n].read)
    }

    fn check(&mut self, check: Check) -> Result<(), Violation> {
        match check {
            Check::Calm { output, from, refused } => {
                let state = &self.outputs[output];
                let count = state.attempts.len() - state.attempts.partition_point(|&at| at < from);
                let lasted = (self.now - from).as_secs();
                let most = 25 + lasted / 4 + if refused { 600 } else { 0 } + self.stats.lives * 10;
                if count as u64 > most {
                    return Err(format!("{}: {count} attempts in {lasted} s of an outage", state.name));
                }
                Ok(())
            }
            Check::Back { output, since } => self.is_back(output, since),
            Check::Dated => {
                let published = self.life.pipeline.published();
                let disk = self.last_trouble(|what| matches!(what, What::Disk(_)));
                let calm = disk.is_none_or(|last| self.now - last > 30 * SECOND);
                let believed = self.now != self.unwell && self.clock_error().is_some();
                let state = self.life.timeline.observe(self.clocks());
                let believed = believed && !matches!(state, ClockState::NotPlausible { .. });
                let young = self.now - self.life.began < 30 * SECOND;
                // Of another boot: nobody can date them.
                let ours = self.unwell + 4 * SECOND < self.now;
                if believed && ours && calm && !young && published.log.undated > 0 {
                    return Err(format!("{} readings are undated though the clock is right", published.log.undated));
                }
                self.stats.dated += 1;
                Ok(())
            }
        }
    }

    /// A server that is back is posted to soon.
    fn is_back(&mut self, output: usize, since: Duration) -> Result<(), Violation> {
        let Some(lane) = self.life.lanes.iter().position(|&it| it == output) else { return Ok(()) };
        let now = self.now;
        let state = &self.outputs[output];
        if now == since {
            let in_flight = self.life.flights[lane].as_ref().map_or(now, |flight| flight.answers.min(now + TIMEOUT));
            let due = in_flight.max(state.no_post_before) + 11 * SECOND;
            self.checks.entry(due).or_default().push(Check::Back { output, since });
            return Ok(());
        }
        let concerns = |what| {
            matches!(what, What::Disk(_) | What::Unset)
                || is_far_ahead(what)
                || matches!(what, What::Server(it, _) if it == output)
        };
        let trouble = self.scenario.faults.iter().any(|fault| {
            concerns(fault.what) && fault.until != since && fault.from < now && fault.until + MINUTE > since
        });
        let restless = self.unwell + 15 * SECOND > since || self.life.began + 15 * SECOND > since;
        if trouble || restless || self.life.stopping.is_some() {
            return Ok(());
        }
        let counters = &self.life.pipeline.published().outputs[lane];
        let durable = self.scenario.flush_interval + SECOND;
        let waits = self.oldest_waiting(counters).is_some_and(|waits| now - waits + durable < since);
        if waits && state.attempts.last().is_none_or(|&last| last < since) {
            return Err(format!("{}: its server is back since {:?}, and was not asked", state.name, now - since));
        }
        Ok(())
    }
}
