//! What will happen, and when: drawn from a seed before anything starts.
//!
//! Two lanes run side by side. *Steps* are faults of the process, the server, the disk and the clock, one after
//! another with pauses in between; *whims* are faults of single devices. Kinds are dealt from shuffled decks, so
//! that a run long enough for one deck has every kind in it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use fastrand::Rng;

use crate::support::device::Mode as DeviceMode;

/// How long faults go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Every step once, as short as it can be, for a test.
    Short,
    /// About this long.
    Minutes(u32),
}

/// Something that befalls the process, the server, the disk or the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and a new start.
    Kill,
    /// SIGTERM, and a new start.
    Terminate,
    /// SIGSTOP, then SIGCONT.
    Freeze,
    /// The server fails in this way; half-way the agent may be killed too.
    Server(Outage),
    /// All but one series is taken.
    Poison,
    /// Bodies of more bytes than this are answered 413.
    TooLarge(usize),
    /// The disk is full.
    DiskFull,
    /// The agent is killed and starts on a disk that is read-only, and becomes writable later: a disk on which
    /// a file is open for writing, as the agent's is, cannot be made read-only.
    ReadOnly,
    /// The agent is killed, and batches on disk are damaged before it starts again.
    Damage,
    /// Files of others appear among the batches.
    Foreign,
    /// The clock is off by so many seconds for a while.
    Clock(i64),
}

/// How the server fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// It does not listen.
    Down,
    /// It stores nothing and answers this.
    Status(u16),
    /// It accepts connections and says nothing.
    HangOnAccept,
    /// It reads posts and says nothing.
    HangAfterReading,
    /// It answers 200 with a page.
    Html,
    /// It answers 204.
    NoContent,
    /// It sends the agent elsewhere.
    Redirect,
    /// It stores and closes without a word.
    StoreThenClose,
    /// It stores and cuts its answer.
    StoreThenCutAnswer,
}

/// A step of the plan.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Peace before it.
    pub pause: Duration,
    /// What happens.
    pub fault: Fault,
    /// For how long.
    pub lasts: Duration,
    /// Whether the agent is killed half-way.
    pub kill: bool,
}

/// What is wrong with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ailment {
    /// It answers like this.
    Mode(DeviceMode),
    /// It does not listen.
    Down,
}

/// A fault of one device.
#[derive(Debug, Clone, Copy)]
pub struct Whim {
    /// When, from the beginning.
    pub at: Duration,
    /// Which device.
    pub device: usize,
    /// Only this unit of it.
    pub unit: Option<u8>,
    /// What is wrong.
    pub ailment: Ailment,
    /// For how long.
    pub lasts: Duration,
}

/// Everything that will happen.
#[derive(Debug)]
pub struct Plan {
    /// How long faults go on.
    pub length: Length,
    /// In their order.
    pub steps: Vec<Step>,
    /// By time.
    pub whims: Vec<Whim>,
    /// For what is decided on the spot: which bytes are damaged.
    pub salt: u64,
}

/// From this many minutes on, every kind of fault must have happened.
pub const WHOLE_DECK_MINUTES: u32 = 5;

/// From this many minutes on there is one outage of two minutes.
const LONG_OUTAGE_MINUTES: u32 = 10;

/// Every kind at least once; what the agent must survive most often more often.
fn deck() -> Vec<Fault> {
    use Fault::{Clock, Damage, DiskFull, Foreign, Freeze, Kill, Poison, ReadOnly, Server, Terminate, TooLarge};
    use Outage::{
        Down, HangAfterReading, HangOnAccept, Html, NoContent, Redirect, Status, StoreThenClose, StoreThenCutAnswer,
    };
    let outages = [
        Down,
        Down,
        Status(500),
        Status(503),
        Status(404),
        HangOnAccept,
        HangAfterReading,
        Html,
        NoContent,
        Redirect,
        StoreThenClose,
        StoreThenCutAnswer,
    ];
    let others = [
        Kill,
        Kill,
        Kill,
        Terminate,
        Terminate,
        Freeze,
        Poison,
        TooLarge(24 << 10),
        DiskFull,
        ReadOnly,
        Damage,
        Foreign,
        Clock(4),
        Clock(-4),
        Clock(7_200),
    ];
    outages.map(Server).into_iter().chain(others).collect()
}

/// A minute's worth of a deck, in an order that makes sense of every card.
fn short_deck() -> Vec<Fault> {
    use Fault::{Damage, DiskFull, Foreign, Freeze, Kill, ReadOnly, Server, Terminate, TooLarge};
    use Outage::{Down, HangAfterReading, Html, Status, StoreThenClose};
    vec![
        Kill,
        Server(StoreThenClose),
        Foreign,
        Terminate,
        Server(Down),
        Damage,
        Server(Status(500)),
        Server(Html),
        DiskFull,
        Freeze,
        TooLarge(8 << 10),
        Server(HangAfterReading),
        ReadOnly,
        Kill,
    ]
}

fn ailments(rng: &mut Rng) -> Vec<Ailment> {
    use DeviceMode::{
        Answer, CloseAfterAnswer, Drip, Exception, Firehose, Late, Reset, Silent, Slow, SplitAt, TooFewRegisters,
        Truncated, TwoFrames, WrongByteCount, WrongFunction, WrongProtocol, WrongTransaction, WrongUnit,
    };
    let exception = [1, 2, 3, 4, 5, 6, 10, 11][rng.usize(..8)];
    let modes = [
        Slow(Duration::from_millis(rng.u64(20..150))),
        Drip,
        SplitAt(rng.usize(1..12)),
        CloseAfterAnswer,
        Silent,
        // Beyond the agent's response timeout of 3 s.
        Late(Duration::from_millis(rng.u64(3_050..3_400))),
        Exception(exception),
        WrongTransaction,
        WrongProtocol,
        WrongUnit,
        WrongFunction,
        TooFewRegisters,
        WrongByteCount,
        Truncated,
        Reset,
        TwoFrames,
        Firehose,
    ];
    debug_assert!(!modes.contains(&Answer));
    modes.into_iter().map(Ailment::Mode).chain([Ailment::Down]).collect()
}

impl Plan {
    /// The plan of this seed.
    pub fn draw(seed: u64, length: Length, devices: u32) -> Self {
        let mut rng = Rng::with_seed(seed);
        let steps = match length {
            Length::Short => short_deck().into_iter().map(|fault| short_step(fault, &mut rng)).collect(),
            Length::Minutes(minutes) => draw_steps(minutes, &mut rng),
        };
        let whole = steps.iter().map(|step: &Step| step.pause + step.lasts).sum();
        let whims = draw_whims(whole, devices, &mut rng);
        Self { length, steps, whims, salt: rng.u64(..) }
    }

    /// Keeps only steps of kinds whose name holds `text`, to look at one fault by itself.
    pub fn keep(&mut self, text: &str) {
        self.steps.retain(|step| step.fault.kind().contains(text));
        self.whims.clear();
    }

    /// Whether every kind of fault must have happened.
    pub fn is_whole(&self) -> bool {
        matches!(self.length, Length::Minutes(minutes) if minutes >= WHOLE_DECK_MINUTES)
    }

    /// How often each kind of fault will happen.
    pub fn kinds(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for step in &self.steps {
            *kinds.entry(step.fault.kind()).or_default() += 1;
        }
        for whim in &self.whims {
            *kinds.entry(whim.ailment.kind()).or_default() += 1;
        }
        kinds
    }
}

fn short_step(fault: Fault, rng: &mut Rng) -> Step {
    let lasts = match fault {
        Fault::Kill | Fault::Terminate | Fault::Foreign => 200,
        // Whatever is killed must have been at it for longer than readings may be in memory.
        Fault::Damage => 2_500,
        Fault::Server(Outage::Down) => 5_000,
        _ => rng.u64(1_200..2_000),
    };
    let kill = matches!(fault, Fault::Server(Outage::Down | Outage::StoreThenClose));
    Step { pause: Duration::from_millis(rng.u64(800..1_600)), fault, lasts: Duration::from_millis(lasts), kill }
}

fn draw_steps(minutes: u32, rng: &mut Rng) -> Vec<Step> {
    let whole = Duration::from_secs(60 * u64::from(minutes));
    let (mut steps, mut hand, mut sum) = (Vec::new(), Vec::new(), Duration::ZERO);
    while sum < whole {
        if hand.is_empty() {
            hand = deck();
            rng.shuffle(&mut hand);
        }
        let Some(fault) = hand.pop() else { break };
        let lasts = match fault {
            Fault::Kill | Fault::Terminate | Fault::Foreign => rng.u64(50..1_500),
            Fault::Freeze => rng.u64(500..8_000),
            Fault::Clock(_) | Fault::DiskFull | Fault::ReadOnly => rng.u64(2_000..5_000),
            // The agent leaves a server that refuses alone for longer and longer, before it takes batches apart.
            Fault::Poison if minutes >= LONG_OUTAGE_MINUTES => rng.u64(100_000..150_000),
            Fault::Poison => rng.u64(40_000..60_000),
            _ => rng.u64(2_000..8_000),
        };
        let kill = matches!(fault, Fault::Server(_)) && lasts > 4_000 && rng.bool();
        let pause = Duration::from_millis(rng.u64(500..4_000));
        let step = Step { pause, fault, lasts: Duration::from_millis(lasts), kill };
        sum += step.pause + step.lasts;
        steps.push(step);
    }
    if minutes >= LONG_OUTAGE_MINUTES {
        let long = Step {
            pause: Duration::from_secs(1),
            fault: Fault::Server(Outage::Down),
            lasts: Duration::from_secs(150),
            kill: true,
        };
        steps.insert(steps.len() / 2, long);
    }
    steps
}

fn draw_whims(whole: Duration, devices: u32, rng: &mut Rng) -> Vec<Whim> {
    let (mut whims, mut hand, mut at) = (Vec::new(), Vec::new(), Duration::from_secs(2));
    // A device has one fault at a time.
    let mut free = vec![Duration::ZERO; devices as usize];
    while at < whole {
        if hand.is_empty() {
            hand = ailments(rng);
            rng.shuffle(&mut hand);
        }
        let device = rng.usize(..free.len());
        if free[device] <= at {
            let Some(ailment) = hand.pop() else { break };
            let lasts = Duration::from_millis(rng.u64(1_500..6_000)).min(whole.saturating_sub(at));
            let unit = (matches!(ailment, Ailment::Mode(_)) && rng.bool()).then_some(1);
            free[device] = at + lasts + Duration::from_secs(1);
            whims.push(Whim { at, device, unit, ailment, lasts });
        }
        at += Duration::from_millis(rng.u64(300..1_500));
    }
    whims
}

impl Fault {
    /// Its name in tables.
    pub fn kind(self) -> String {
        match self {
            Self::Server(outage) => format!("server {outage:?}"),
            Self::Clock(seconds) => format!("Clock {seconds:+} s"),
            Self::TooLarge(_) => "server 413".to_owned(),
            other => format!("{other:?}"),
        }
    }
}

impl Ailment {
    /// Whether a poll that meets it may last much longer than others.
    pub fn is_slow(self) -> bool {
        matches!(self, Self::Mode(DeviceMode::Silent | DeviceMode::Late(_) | DeviceMode::Slow(_)))
    }

    /// Its name in tables.
    pub fn kind(self) -> String {
        let text = match self {
            Self::Mode(mode) => format!("{mode:?}"),
            Self::Down => "Down".to_owned(),
        };
        format!("device {}", text.split('(').next().unwrap_or_default())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole: Duration = self.steps.iter().map(|step| step.pause + step.lasts).sum();
        writeln!(f, "plan: {} steps, {} whims of devices, {whole:.0?}", self.steps.len(), self.whims.len())?;
        for (place, step) in self.steps.iter().enumerate() {
            let kill = if step.kill { ", killed half-way" } else { "" };
            let (kind, pause, lasts) = (step.fault.kind(), step.pause, step.lasts);
            writeln!(f, "  step {place:>3}: after {pause:>6.1?} {kind} for {lasts:.1?}{kill}")?;
        }
        let kinds: Vec<String> = self
            .kinds()
            .into_iter()
            .filter(|(kind, _)| kind.starts_with("device"))
            .map(|(kind, count)| format!("{}={count}", &kind["device ".len()..]))
            .collect();
        write!(f, "  devices: {}", kinds.join(" "))
    }
}
