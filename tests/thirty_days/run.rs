//! The shell around the real core: performs what the [`Pipeline`] decides, as the actors do, under a clock of its own; and holds it
//! to its promises at every step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
use pattoo_agent_modbustcpd::spool::job::{Done, Holdover, Job, Limit, OldName};
use pattoo_agent_modbustcpd::spool::log::{Log, Opened};
use pattoo_agent_modbustcpd::time::clock::Moment as Clocks;
use pattoo_agent_modbustcpd::time::schedule::{Anchor, Grid, Schedule};
use pattoo_agent_modbustcpd::time::timeline::{BUILT, ClockState, Timeline, Track};

use super::disk::FaultyDisk;
use super::ledger::{AGENT_ID, Entry, Ledger, START};
use super::old;
use super::scenario::{DiskFault, Fault, HOUR, Kind, MINUTE, Moment, OutputSpec, SECOND, Scenario, Weather, What};
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
        for (reason, count) in dropped {
            *self.dropped.entry(reason).or_default() += count;
        }
        self.quarantined += quarantined;
        self.hangs += hangs;
        self.dated += dated;
    }
}

mod life;
mod promises;
mod shell;
mod world;

use self::world::is_far_ahead;

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
    /// A life ended while something was in memory only: readings, or that a limit has taken some.
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
    /// Configured again with the life that begins.
    anew: bool,
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
    /// Where the newest reading that is in the log ends: a cursor may be further, where the disk takes nothing else.
    appended: u64,
    durable: u64,
    /// Where the log begins.
    start: u64,
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
    keep_failed: Option<Duration>,
    /// Old batches that were to be removed.
    forgotten: Vec<OldName>,
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
            anew: false,
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
        // One at a time: what comes during a stop meets the next life.
        let moment = self.scenario.moments.get(self.next_moment).filter(|_| self.life.stopping.is_none());
        let moment = moment.map_or(NEVER, |(at, _)| *at);
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
        if self.now >= moment {
            self.next_moment += 1;
            let (_, moment) = self.scenario.moments[self.next_moment - 1];
            self.happens(moment)?;
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
