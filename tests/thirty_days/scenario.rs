//! What happens in a run, all of it drawn beforehand from a seed, so that parts of it can be left out.

use std::time::Duration;

use fastrand::Rng;
use pattoo_agent_modbustcpd::outputs::Start;
use pattoo_agent_modbustcpd::spool::{Limits, MinFree};

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3_600);
pub const DAY: Duration = Duration::from_secs(86_400);

/// What the disk holds at most.
pub const CAPACITY: u64 = 64 << 20;

/// A run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// For what is drawn while it runs.
    pub seed: u64,
    /// How long devices are polled, and everything goes wrong.
    pub until: Duration,
    /// Between two polls.
    pub interval: Duration,
    pub devices: usize,
    /// Of each device.
    pub points: usize,
    pub outputs: Vec<OutputSpec>,
    pub limits: Limits,
    /// What the tail holds at most, if less than usual.
    pub memory: Option<usize>,
    pub flush_interval: Duration,
    /// How many files an earlier agent has left.
    pub old: usize,
    pub faults: Vec<Fault>,
    pub moments: Vec<(Duration, Moment)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputSpec {
    pub kind: Kind,
    pub split_refused_after: Duration,
    /// It lets go of what is older.
    pub max_age: Option<Duration>,
    pub start: Start,
    /// Whether it is configured at first.
    pub present: bool,
}

/// What an output makes of readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Posts of a pattoo server, judged by the ingester's rules.
    Pattoo,
    /// Lines of a file, judged by arithmetic.
    Lines,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    pub what: What,
    pub from: Duration,
    pub until: Duration,
}

/// What is wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum What {
    Server(usize, Weather),
    Disk(DiskFault),
    /// Our clock is so many milliseconds ahead.
    Clock(i64),
    /// Our clock shows the time since boot.
    Unset,
    /// No device answers.
    Silent,
}

/// What the server does with a post.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weather {
    /// There is none: refused at once, or after the time for a connection.
    Down { slow: bool },
    /// Does not answer in time; whether it has stored it, it does not say.
    Hanging,
    /// Answers 500, so often of a hundred times.
    Error(u8),
    /// Answers 503 and wants to be left alone for so many seconds.
    Busy(u64),
    /// Answers 413 to more bytes than this.
    TooLarge(usize),
    /// Stores it and says nothing.
    Mute,
    /// Answers 500 to what holds a value of the poisoned series.
    Poisoned,
    /// One answer says a time so many milliseconds off.
    OddDate(i64),
    /// Its clock is so many milliseconds off.
    Clock(i64),
    /// Takes so long for each answer, in milliseconds.
    Slow(u64),
}

/// What is wrong with the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// Somebody else fills it.
    Full,
    /// Takes nothing.
    ReadOnly,
    /// Nothing written arrives.
    BadWrites,
    /// Nothing becomes durable.
    BadSyncs,
    /// Permission denied.
    Unreadable,
    /// Does not answer.
    Hangs,
    /// Answers after up to so many milliseconds.
    Slow(u64),
    /// So many of a thousand operations fail.
    Flaky(u64),
}

/// What happens at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moment {
    /// An orderly stop, and a start later.
    Stop { down: Duration, toggle: Option<usize> },
    /// The process is killed.
    Kill { down: Duration, toggle: Option<usize> },
    /// The machine loses power; its clock is unset for so long after the start.
    PowerCut { down: Duration, unset: Duration },
    /// Another configuration: another server for an output, another point table, other limits.
    Reload { server: Option<usize>, table: bool, limits: Option<Limits> },
    /// Somebody removes a segment: the oldest, the newest, or one in between.
    Remove(u8),
    /// Bits of a segment change.
    Rot(u8),
}

impl Moment {
    /// Whether a life ends by it.
    pub fn is_restart(&self) -> bool {
        matches!(self, Self::Stop { .. } | Self::Kill { .. } | Self::PowerCut { .. })
    }
}

/// No limit but the size of the disk.
pub fn unlimited() -> Limits {
    Limits { min_free: MinFree::Bytes(0), max_bytes: None, max_age: None }
}

/// A run of one device and one output in which nothing goes wrong.
pub fn quiet() -> Scenario {
    Scenario {
        seed: 1,
        until: 6 * HOUR,
        interval: 10 * SECOND,
        devices: 1,
        points: 1,
        outputs: vec![OutputSpec {
            kind: Kind::Pattoo,
            split_refused_after: 600 * SECOND,
            max_age: None,
            start: Start::Beginning,
            present: true,
        }],
        limits: unlimited(),
        memory: None,
        flush_interval: SECOND,
        old: 0,
        faults: Vec::new(),
        moments: Vec::new(),
    }
}

/// Draws a run: the same for each seed.
pub fn draw(seed: u64) -> Scenario {
    let mut rng = Rng::with_seed(seed);
    let (until, interval) = [
        (6 * HOUR, 10 * SECOND),
        (DAY, 40 * SECOND),
        (4 * DAY, 3 * MINUTE),
        (10 * DAY, 7 * MINUTE),
        (30 * DAY, 20 * MINUTE),
    ][rng.usize(0..5)];
    let mut outputs = outputs(&mut rng);
    ages(seed, until, &mut outputs);
    let limits = limits(&mut rng, until);
    let memory = (rng.u8(0..3) == 0).then(|| rng.usize(20_000..300_000));
    let flush_interval = [SECOND, SECOND, 5 * SECOND, 30 * SECOND][rng.usize(0..4)];
    let mut scenario = Scenario {
        seed,
        until,
        interval,
        devices: rng.usize(1..4),
        points: rng.usize(1..4),
        outputs,
        limits,
        memory,
        flush_interval,
        old: if rng.u8(0..3) == 0 { rng.usize(1..30) } else { 0 },
        faults: Vec::new(),
        moments: Vec::new(),
    };
    let faults = rng.usize(2..30);
    for _ in 0..faults {
        let fault = fault(&mut rng, &scenario);
        scenario.faults.push(fault);
    }
    clocks(&mut rng, &mut scenario);
    for _ in 0..rng.usize(0..10) {
        let at = near(&mut rng, &scenario);
        let moment = moment(&mut rng, &scenario);
        scenario.moments.push((at, moment));
    }
    scenario.moments.sort_by_key(|(at, _)| *at);
    scenario
}

fn outputs(rng: &mut Rng) -> Vec<OutputSpec> {
    let split = [30 * SECOND, 10 * MINUTE][rng.usize(0..2)];
    let start = |rng: &mut Rng| if rng.bool() { Start::End } else { Start::Beginning };
    let first = OutputSpec {
        kind: Kind::Pattoo,
        split_refused_after: split,
        max_age: None,
        start: Start::Beginning,
        present: true,
    };
    let mut outputs = vec![first];
    for _ in 0..rng.usize(0..3) {
        outputs.push(OutputSpec {
            kind: if rng.u8(0..4) == 0 { Kind::Pattoo } else { Kind::Lines },
            split_refused_after: split,
            max_age: None,
            start: start(rng),
            present: rng.u8(0..4) > 0,
        });
    }
    outputs
}

/// One output in four lets go of what is old. Drawn apart, so that a seed means what it meant before.
fn ages(seed: u64, until: Duration, outputs: &mut [OutputSpec]) {
    let mut rng = Rng::with_seed(seed ^ 0x006d_6178_5f61_6765);
    for output in outputs {
        output.max_age = (rng.u8(0..4) == 0).then(|| until.mul_f64(0.005 + 0.2 * rng.f64()));
    }
}

fn limits(rng: &mut Rng, until: Duration) -> Limits {
    let one_in_four = |rng: &mut Rng| rng.u8(0..4) == 0;
    Limits {
        // Some of it can be had by letting go what is ours, or none of it.
        min_free: MinFree::Bytes(match rng.u8(0..6) {
            0 => rng.u64(1..32) << 20,
            1 => rng.u64(5_000..100_000),
            _ => 0,
        }),
        max_bytes: one_in_four(rng).then(|| rng.u64(20_000..800_000)),
        max_age: one_in_four(rng).then(|| until.mul_f64(0.01 + 0.3 * rng.f64())),
    }
}

/// From a second to a third of the run, short ones as often as long ones; of a long run rarely a second.
fn lasts(rng: &mut Rng, until: Duration) -> Duration {
    let longest = (until / 3).as_secs_f64();
    let shortest = if until > DAY { 0.4 } else { 0.1 };
    Duration::from_secs_f64(longest.powf(rng.f64() * (1.0 - shortest) + shortest)).max(SECOND)
}

/// A moment, often close to where something else begins or ends.
fn near(rng: &mut Rng, scenario: &Scenario) -> Duration {
    let until = scenario.until.mul_f64(0.95);
    let fault = rng.choice(&scenario.faults).copied();
    let at = match fault {
        Some(fault) if rng.bool() => {
            let edge = if rng.bool() { fault.from } else { fault.until };
            let away = Duration::from_secs_f64(600_f64.powf(rng.f64()) - 1.0);
            if rng.bool() { edge + away } else { edge.saturating_sub(away) }
        }
        _ => until.mul_f64(rng.f64()),
    };
    Duration::from_millis(u64::try_from(at.min(until).as_millis()).unwrap())
}

fn fault(rng: &mut Rng, scenario: &Scenario) -> Fault {
    let from = near(rng, scenario);
    let lasts = lasts(rng, scenario.until);
    let what = match rng.u8(0..10) {
        0..=4 => What::Server(rng.usize(0..scenario.outputs.len()), weather(rng, scenario)),
        5..=8 => What::Disk(disk_fault(rng)),
        _ => What::Silent,
    };
    // Of an agent that nothing reads for long there is little to see.
    let lasts = if what == What::Silent { lasts.min(12 * scenario.interval) } else { lasts };
    let until = from + lasts;
    Fault { what, from, until: Duration::from_millis(u64::try_from(until.min(scenario.until).as_millis()).unwrap()) }
}

fn weather(rng: &mut Rng, scenario: &Scenario) -> Weather {
    let two_hours = 7_200_000;
    let sign = if rng.bool() { 1 } else { -1 };
    // With two servers that tell the time nobody knows which one is right.
    let one_clock = scenario.outputs.iter().filter(|output| output.kind == Kind::Pattoo).count() == 1;
    match rng.u8(0..13) {
        0 | 1 => Weather::Down { slow: rng.bool() },
        2 | 3 => Weather::Hanging,
        4 => Weather::Error(rng.u8(10..=90)),
        5 => Weather::Error(100),
        6 => Weather::Busy(rng.u64(1..200)),
        7 => Weather::TooLarge(rng.usize(900..60_000)),
        8 => Weather::Mute,
        9 | 10 => Weather::Poisoned,
        11 if one_clock && rng.bool() => Weather::OddDate(sign * two_hours),
        // In between our line may be too far ahead of it and our clock not: stamps repeat then, and are lost.
        11 if one_clock && rng.bool() => Weather::Clock(sign * rng.i64(60_000..1_800_000)),
        11 if one_clock => Weather::Clock(sign * rng.i64(6_000_000..2 * two_hours)),
        _ => Weather::Slow(rng.u64(100..20_000)),
    }
}

fn disk_fault(rng: &mut Rng) -> DiskFault {
    match rng.u8(0..10) {
        0 => DiskFault::Full,
        1 => DiskFault::ReadOnly,
        2 => DiskFault::BadWrites,
        3 => DiskFault::BadSyncs,
        4 => DiskFault::Unreadable,
        5..=7 => DiskFault::Hangs,
        8 => DiskFault::Slow(rng.u64(20..1_800)),
        _ => DiskFault::Flaky(rng.u64(1..300)),
    }
}

/// The clock is wrong by less than stamps can hide, or by so much that it is not believed.
fn clocks(rng: &mut Rng, scenario: &mut Scenario) {
    for _ in 0..rng.usize(0..6) {
        let from = near(rng, scenario);
        let minute = 60_000;
        let (what, lasts) = match rng.u8(0..4) {
            0 => (What::Unset, lasts(rng, scenario.until)),
            1 => (What::Clock(1_440 * minute), lasts(rng, scenario.until)),
            _ => (What::Clock(rng.i64(-28 * minute..25 * minute)), 2 * lasts(rng, scenario.until)),
        };
        let until = (from + lasts).min(scenario.until);
        scenario.faults.push(Fault { what, from, until });
    }
}

fn moment(rng: &mut Rng, scenario: &Scenario) -> Moment {
    let down = Duration::from_secs_f64(3_600_f64.powf(rng.f64()));
    let some = |rng: &mut Rng| Some(rng.usize(0..scenario.outputs.len()));
    // The first output is always there.
    let toggle = if rng.u8(0..3) == 0 { some(rng).filter(|&output| output > 0) } else { None };
    match rng.u8(0..12) {
        0..=2 => Moment::Stop { down, toggle },
        3..=5 => Moment::Kill { down, toggle },
        6 | 7 => {
            let unset = if rng.bool() { lasts(rng, scenario.until).min(HOUR) } else { Duration::ZERO };
            Moment::PowerCut { down, unset }
        }
        8 | 9 => Moment::Reload {
            server: if rng.bool() { some(rng) } else { None },
            table: rng.bool(),
            limits: rng.bool().then(|| limits(rng, scenario.until)),
        },
        10 => Moment::Remove(rng.u8(..)),
        _ => Moment::Rot(rng.u8(..)),
    }
}

/// The scenario with less of everything, the boldest cuts first.
pub fn candidates(scenario: &Scenario) -> Vec<Scenario> {
    let mut candidates = Vec::new();
    let mut add = |change: &dyn Fn(&mut Scenario)| {
        let mut less = scenario.clone();
        change(&mut less);
        candidates.push(less);
    };
    for part in [2, 4] {
        let until = scenario.until.mul_f64(1.0 - 1.0 / f64::from(part));
        if until > HOUR {
            add(&|less| cut(less, until));
        }
        let (faults, moments) = (less_than(scenario.faults.len(), part), less_than(scenario.moments.len(), part));
        if faults > 1 {
            for from in (0..scenario.faults.len()).step_by(faults) {
                add(&|less| drop(less.faults.drain(from..(from + faults).min(less.faults.len()))));
            }
        }
        if moments > 1 {
            for from in (0..scenario.moments.len()).step_by(moments) {
                add(&|less| drop(less.moments.drain(from..(from + moments).min(less.moments.len()))));
            }
        }
    }
    (0..scenario.faults.len()).for_each(|at| add(&|less| _ = less.faults.remove(at)));
    (0..scenario.moments.len()).for_each(|at| add(&|less| _ = less.moments.remove(at)));
    if scenario.old > 0 {
        add(&|less| less.old = 0);
    }
    if scenario.limits != unlimited() {
        add(&|less| less.limits = unlimited());
    }
    if scenario.memory.is_some() {
        add(&|less| less.memory = None);
    }
    if scenario.outputs.len() > 1 {
        let last = scenario.outputs.len() - 1;
        add(&|less| {
            less.outputs.pop();
            less.faults.retain(|fault| !matches!(fault.what, What::Server(output, _) if output == last));
            for (_, moment) in &mut less.moments {
                match moment {
                    Moment::Stop { toggle, .. } | Moment::Kill { toggle, .. } => {
                        *toggle = toggle.filter(|&it| it < last);
                    }
                    Moment::Reload { server, .. } => *server = server.filter(|&it| it < last),
                    _ => {}
                }
            }
        });
    }
    if scenario.devices > 1 {
        add(&|less| less.devices = 1);
    }
    if scenario.points > 1 {
        add(&|less| less.points = 1);
    }
    candidates
}

fn less_than(count: usize, part: i32) -> usize {
    count / usize::try_from(part).unwrap()
}

fn cut(scenario: &mut Scenario, until: Duration) {
    scenario.until = until;
    scenario.faults.retain(|fault| fault.from < until);
    scenario.faults.iter_mut().for_each(|fault| fault.until = fault.until.min(until));
    scenario.moments.retain(|(at, _)| *at < until);
}
