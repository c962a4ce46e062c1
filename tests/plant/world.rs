//! The plant: devices, the real loop of each under a clock that a test turns, reloads and restarts, and what must hold.
//!
//! The loop of a device is driven as its actor drives it, step by step; an edit is compared and taken over as the
//! supervisor does it. After each poll the invariants are checked; the first that does not hold ends the run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pattoo_agent_modbustcpd::config::Config;
use pattoo_agent_modbustcpd::config::diff::Diff;
use pattoo_agent_modbustcpd::daemon::assemble;
use pattoo_agent_modbustcpd::modbus::endpoint::Endpoint;
use pattoo_agent_modbustcpd::modbus::error::ConnectError;
use pattoo_agent_modbustcpd::modbus::plan::Block;
use pattoo_agent_modbustcpd::modbus::refusals::RAREST;
use pattoo_agent_modbustcpd::modbus::refusals::store::RefusalStore;
use pattoo_agent_modbustcpd::modbus::session::{DeviceSettings, Outcome, Polling, Step, Subject};
use pattoo_agent_modbustcpd::reading::{PointId, Timestamp};
use pattoo_agent_modbustcpd::time::clock::Moment;
use pattoo_agent_modbustcpd::time::schedule::Anchor;

use super::configuration::Configuration;
use super::device::{Ailment, Came, Device, Fault, QUANTITY, SCALED, SCALES};

/// The machine was booted so long before a run begins.
const BOOTED: Duration = Duration::from_secs(1_000);

/// What happens in a run, all of it drawn beforehand, so that parts of it can be left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// For what is drawn while it runs.
    pub seed: u64,
    /// Until this moment.
    pub until: Duration,
    /// Whether replies have ids, and what ails each device.
    pub devices: Vec<(bool, Vec<Fault>)>,
    /// What is configured, from this moment on.
    pub configurations: Vec<(Duration, Configuration)>,
    /// When the agent is started anew.
    pub restarts: Vec<Duration>,
}

/// What a run was worth.
#[derive(Debug, Default)]
pub struct Stats {
    /// Polls.
    pub polls: u64,
    /// Requests.
    pub requests: u64,
    /// Values that arrived.
    pub readings: u64,
    /// Values that were due and did not.
    pub unread: u64,
    /// Reloads that were taken over.
    pub reloads: u64,
    /// Devices that went on through a reload.
    pub kept: u64,
    /// Values found refused.
    pub learned: u64,
}

/// Words of a device that were handed over in this poll.
struct Served {
    unit: u8,
    address: u16,
    words: Vec<u16>,
}

enum Pending {
    Connect(Result<(), ConnectError>),
    Ask(Came),
}

/// The actor of one device.
struct Actor {
    device: usize,
    polling: Polling,
    /// What the points of its plan are.
    config: Arc<Config>,
    /// What it is to take over between polls.
    next: Option<(Arc<DeviceSettings>, Arc<Config>)>,
    wake: Duration,
    pending: Option<Pending>,
    /// No request leaves before.
    quiet_until: Duration,
    served: Vec<Served>,
    due: usize,
    settled: usize,
    /// A second, and how often a poll began and the loop rested in it.
    in_second: (u64, u64, u64),
    lines: BTreeMap<Subject, Vec<Duration>>,
}

/// A run of a scenario.
pub struct World<'a> {
    scenario: &'a Scenario,
    directory: &'a Path,
    now: Duration,
    devices: Vec<Device>,
    actors: BTreeMap<Endpoint, Actor>,
    store: RefusalStore,
    config: Arc<Config>,
    stats: Stats,
}

/// What did not hold.
pub type Violation = String;

impl<'a> World<'a> {
    /// A run that begins with the first configuration; `None` when that is refused.
    pub fn new(scenario: &'a Scenario, directory: &'a Path) -> Option<Self> {
        let devices = (0_u64..).zip(&scenario.devices);
        let devices =
            devices.map(|(at, (ids, faults))| Device::new(faults.clone(), *ids, scenario.seed + 1 + at)).collect();
        let config = Arc::new(scenario.configurations.first()?.1.load(directory)?);
        let mut world = Self {
            scenario,
            directory,
            now: Duration::ZERO,
            devices,
            actors: BTreeMap::new(),
            store: RefusalStore::read(""),
            config,
            stats: Stats::default(),
        };
        world.start().expect("nothing is learned yet");
        Some(world)
    }

    /// Runs to the end.
    pub fn run(mut self) -> Result<Stats, Violation> {
        let mut edits = self.scenario.configurations.iter().skip(1).peekable();
        let mut restarts = self.scenario.restarts.iter().peekable();
        while self.now < self.scenario.until {
            let actor = self.actors.values().map(|actor| actor.wake).min().unwrap_or(self.scenario.until);
            let edit = edits.peek().map_or(Duration::MAX, |(at, _)| *at);
            let restart = restarts.peek().map_or(Duration::MAX, |at| **at);
            self.now = self.now.max(actor.min(edit).min(restart));
            if self.now >= edit
                && let Some((_, configuration)) = edits.next()
            {
                self.reload(configuration)?;
            } else if self.now >= restart {
                restarts.next();
                self.restart()?;
            } else {
                let due: Vec<Endpoint> =
                    self.actors.iter().filter(|(_, it)| it.wake <= self.now).map(|(at, _)| at.clone()).collect();
                for endpoint in due {
                    self.step(&endpoint)?;
                }
            }
        }
        self.stats.requests = self.devices.iter().map(|device| device.requests).sum();
        Ok(self.stats)
    }

    fn moment(&self) -> Moment {
        let boot = BOOTED + self.now;
        Moment { wall: Timestamp::from_millis(u64::try_from(boot.as_millis()).expect("a short run")), boot }
    }

    /// Every device of the configuration gets an actor.
    fn start(&mut self) -> Result<(), Violation> {
        for plan in assemble::devices(&self.config) {
            self.add(&plan)?;
        }
        Ok(())
    }

    fn add(&mut self, plan: &Arc<DeviceSettings>) -> Result<(), Violation> {
        let place = |name: &str| -> usize { name[1..].split('.').next().and_then(|it| it.parse().ok()).expect("d0") };
        let device = place(&plan.name);
        self.devices[device].hang_up();
        let fingerprint = plan.settings.fingerprint();
        let learned = self.store.of(&plan.endpoint, &fingerprint);
        let random = fastrand::Rng::with_seed(self.scenario.seed ^ 0x5EED);
        let polling = Polling::new(Arc::clone(plan), &learned, self.moment(), random);
        self.store.note(&plan.endpoint, &fingerprint, polling.core().learned());
        let actor = Actor {
            device,
            polling,
            config: Arc::clone(&self.config),
            next: None,
            wake: self.now,
            pending: None,
            quiet_until: Duration::ZERO,
            served: Vec::new(),
            due: 0,
            settled: 0,
            in_second: (0, 0, 0),
            lines: BTreeMap::new(),
        };
        actor.nothing_outlives_its_plan()?;
        self.actors.insert(plan.endpoint.clone(), actor);
        Ok(())
    }

    fn reload(&mut self, configuration: &Configuration) -> Result<(), Violation> {
        let Some(new) = configuration.load(self.directory) else { return Ok(()) };
        let new = Arc::new(self.config.as_ref().clone().taken_over_by(new));
        let old = std::mem::replace(&mut self.config, Arc::clone(&new));
        let changes = Diff::between(&old, &new);
        let kept: HashSet<Endpoint> = changes.kept.iter().map(|device| device.endpoint.clone()).collect();
        if std::env::var_os("PLANT_SKIP").is_none() {
            check_kept(&old, &new, &kept)?;
        }
        self.stats.reloads += 1;
        self.stats.kept += kept.len() as u64;
        self.store.retain(new.devices.iter().map(|device| &device.endpoint));
        self.actors.retain(|endpoint, _| kept.contains(endpoint));
        for plan in assemble::devices(&new) {
            match self.actors.get_mut(&plan.endpoint) {
                Some(actor) => actor.next = Some((plan, Arc::clone(&new))),
                None => self.add(&plan)?,
            }
        }
        Ok(())
    }

    /// The process ends and another one begins.
    fn restart(&mut self) -> Result<(), Violation> {
        self.actors.clear();
        let text = self.store.changed();
        let before: Vec<_> = self.known();
        if let Some(text) = text {
            self.store = RefusalStore::read(&text);
        }
        if self.known() != before {
            return Err(format!("what was learned is not the same after a restart: {before:?}, {:?}", self.known()));
        }
        self.store.retain(self.config.devices.iter().map(|device| &device.endpoint));
        self.start()
    }

    fn known(&self) -> Vec<String> {
        let devices = self.config.devices.iter();
        devices.map(|it| format!("{:?}", self.store.of(&it.endpoint, &it.settings.fingerprint()))).collect()
    }

    /// The actor at `endpoint` goes on.
    fn step(&mut self, endpoint: &Endpoint) -> Result<(), Violation> {
        let moment = self.moment();
        let now = self.now;
        let Some(actor) = self.actors.get_mut(endpoint) else { return Ok(()) };
        let device = &mut self.devices[actor.device];
        match actor.pending.take() {
            None => {}
            Some(Pending::Connect(result)) => actor.polling.core_mut().connected(result, moment),
            Some(Pending::Ask(Came::Words(words))) => actor.polling.core_mut().read(&words, moment.wall, moment),
            Some(Pending::Ask(Came::Failed(error))) => {
                let again = matches!(error, pattoo_agent_modbustcpd::modbus::error::ReadError::ResponseTimeout(_))
                    && device.may_ask_again();
                actor.polling.core_mut().failed(error, again, moment);
            }
        }
        if !actor.polling.core().is_linked() {
            device.hang_up();
        }
        for turn in 0.. {
            if turn > 4 {
                return Err(format!("{endpoint}: the loop turns without a rest"));
            }
            if !actor.polling.in_poll()
                && let Some((plan, config)) = actor.next.take()
            {
                actor.take_over(plan, config, &self.store)?;
            }
            let (timeout, configured) = {
                let settings = &actor.polling.core().plan().settings;
                (settings.response_timeout, settings.pause_after_connect)
            };
            match actor.polling.next(moment) {
                Step::Rest(pause) => {
                    actor.wake = now + pause.duration();
                    actor.count(now, 0, 1);
                    // Each interval, what is owed by each unit, and the pauses of a busy device.
                    return match actor.in_second.2 {
                        ..100 => Ok(()),
                        rests => Err(format!("{endpoint}: the loop turns {rests} times in one second")),
                    };
                }
                Step::Connect(pause) => {
                    let (took, result) = device.connect(now);
                    actor.wake = now + took;
                    if result.is_ok() {
                        actor.quiet_until = actor.wake + pause.max(configured);
                    }
                    actor.pending = Some(Pending::Connect(result));
                    return Ok(());
                }
                Step::Ask(block) => {
                    let at = now.max(actor.quiet_until);
                    let (took, came) = device.ask(block, at, timeout);
                    if let Came::Words(words) = &came {
                        let (unit, address) = (block.unit.0, block.address);
                        actor.served.push(Served { unit, address, words: words.clone() });
                    }
                    actor.wake = at + took;
                    actor.pending = Some(Pending::Ask(came));
                    return Ok(());
                }
                Step::End => {
                    let (outcome, skipped) = actor.polling.end(moment, Anchor::new(moment));
                    if actor.polling.core().plan().settings.close_after_poll {
                        actor.polling.core_mut().hung_up();
                    }
                    if !actor.polling.core().is_linked() {
                        device.hang_up();
                    }
                    if outcome.learned {
                        actor.note(&self.store);
                    }
                    self.stats.polls += 1;
                    self.stats.readings += outcome.readings.len() as u64;
                    self.stats.unread += outcome.unread.iter().sum::<usize>() as u64;
                    self.stats.learned += outcome.discoveries.len() as u64;
                    actor.check(&outcome, skipped, device, now).map_err(|what| format!("{endpoint}: {what}"))?;
                }
            }
        }
        Ok(())
    }
}

/// A device of which nothing that is read or how has changed is kept.
fn check_kept(old: &Config, new: &Config, kept: &HashSet<Endpoint>) -> Result<(), Violation> {
    let view = |config: &Config, at: usize| {
        let points = config.points.iter().filter(|point| point.device == at);
        let mut points: Vec<_> = points
            .map(|point| {
                // What is read together, whatever its number is.
                let with =
                    config.points.iter().filter(|other| point.together.is_some() && other.together == point.together);
                let mut with: Vec<_> =
                    with.map(|other| (other.unit, other.reference, other.format.part().to_string())).collect();
                with.sort();
                format!("{} {:?} {:?} {:?} {with:?}", point.unit, point.reference, point.format, point.interval)
            })
            .collect();
        points.sort();
        points
    };
    for (at, device) in new.devices.iter().enumerate() {
        let Some(before) = old.devices.iter().position(|before| before == device) else { continue };
        if view(old, before) == view(new, at) && !kept.contains(&device.endpoint) {
            return Err(format!("{} is replaced though nothing of it has changed", device.endpoint));
        }
    }
    Ok(())
}

impl Actor {
    fn note(&self, store: &RefusalStore) {
        let core = self.polling.core();
        store.note(&core.plan().endpoint, &core.plan().settings.fingerprint(), core.learned());
    }

    fn take_over(
        &mut self,
        plan: Arc<DeviceSettings>,
        config: Arc<Config>,
        store: &RefusalStore,
    ) -> Result<(), Violation> {
        if self.polling.assign(plan) {
            self.note(store);
        }
        self.config = config;
        self.nothing_outlives_its_plan()
    }

    fn nothing_outlives_its_plan(&self) -> Result<(), Violation> {
        let core = self.polling.core();
        let planned: HashSet<_> = core.plan().blocks().flat_map(Block::spans).collect();
        let units: HashSet<_> = core.plan().blocks().map(|block| block.unit).collect();
        let learned = core.learned();
        let of_others =
            learned.limits.iter().map(|limit| limit.unit).chain(learned.gaps).find(|it| !units.contains(it));
        match (core.refusals().spans().find(|span| !planned.contains(span)), of_others) {
            (None, None) => Ok(()),
            others => Err(format!("{others:?} is remembered though nothing asks for it")),
        }
    }

    /// What must hold after each poll.
    fn check(&mut self, outcome: &Outcome, skipped: u64, device: &Device, now: Duration) -> Result<(), Violation> {
        let served = std::mem::take(&mut self.served);
        self.check_values(outcome, &served)?;
        let core = self.polling.core();
        let read = outcome.readings.len() + outcome.omitted.len() - outcome.ahead;
        self.due += outcome.due;
        self.settled += read + outcome.unread.iter().sum::<usize>();
        if self.due != self.settled + core.owed() {
            let (due, settled, owed) = (self.due, self.settled, core.owed());
            return Err(format!("{due} values were due, {settled} are read or given up, {owed} are owed"));
        }
        let points = core.plan().points();
        let (missing, refused) = core.missing();
        let all_read = outcome.due == points && outcome.readings.len() == points + outcome.ahead;
        if all_read && (missing > 0 || !core.faults().is_empty()) {
            let faults = core.faults();
            return Err(format!("every value is read, and yet {missing} are missing, {faults:?}"));
        }
        if outcome.due == points && missing != points - read {
            return Err(format!("{read} of {points} values are read, and {missing} are missing"));
        }
        if refused > missing {
            return Err(format!("{refused} are refused and only {missing} missing"));
        }
        self.check_learned(device)?;
        self.check_recovery(outcome, (skipped, served.len()), device, now)?;
        self.check_rates(outcome, now)
    }

    /// Each value is at its own series, of a reply of this poll, and the only one of its series, but for those that were read
    /// ahead to see whether a unit answers at all: these are read again with the others, and later.
    fn check_values(&self, outcome: &Outcome, served: &[Served]) -> Result<(), Violation> {
        let mut seen: HashMap<PointId, Timestamp> = HashMap::new();
        let mut ahead = outcome.ahead;
        for reading in &outcome.readings {
            let Some(point) = self.config.points.get(reading.point.index()) else {
                return Err(format!("a value of a point that is none: {reading:?}"));
            };
            if self.config.devices[point.device].endpoint != self.polling.core().plan().endpoint {
                return Err(format!("a value at the series of another device: {reading:?} {point:?}"));
            }
            let value = reading.value.as_f64();
            if let Some(before) = seen.insert(reading.point, reading.at) {
                if ahead == 0 {
                    return Err(format!("two values of {} in one poll", point.key()));
                }
                ahead -= 1;
                if before >= reading.at {
                    return Err(format!("two values of {} with one stamp, or not in order", point.key()));
                }
            }
            let (address, width) = (point.reference.address(), point.format.width());
            let fits = |served: &Served| {
                let from = usize::from(address.checked_sub(served.address)?);
                let words = served.words.get(from..from + usize::from(width))?;
                let number = words.iter().fold(0.0, |number, word| number * 65_536.0 + f64::from(*word));
                let scaled = (SCALED..SCALES).contains(&address) && point.format.scale_address().is_some();
                let expected = if scaled { f64::from(QUANTITY) } else { number };
                (served.unit == point.unit.0 && (value - expected).abs() < 1e-6).then_some(())
            };
            if !served.iter().any(|served| fits(served).is_some()) {
                return Err(format!("{value} at {} of unit {} is no value of this poll", point.key(), point.unit));
            }
        }
        Ok(())
    }

    /// What a device that is well again owes its agent.
    fn check_recovery(
        &self,
        outcome: &Outcome,
        (skipped, served): (u64, usize),
        device: &Device,
        now: Duration,
    ) -> Result<(), Violation> {
        let core = self.polling.core();
        let settings = &core.plan().settings;
        let longest = core.plan().cycles.iter().map(|cycle| cycle.interval).max().unwrap_or_default();
        let (missing, _) = core.missing();
        if outcome.due == core.plan().points() && device.is_well(now, 2 * RAREST + 3 * longest) && missing > 0 {
            return Err(format!("well for hours, and {missing} values are missing: {:?}", core.faults()));
        }
        let soon = settings.max_backoff.max(longest) + Duration::from_secs(60);
        let link = |subject: &&Subject| !matches!(subject, Subject::Block { .. });
        if device.is_well(now, soon)
            && let Some(subject) = core.faults().keys().find(link)
        {
            return Err(format!("well for {soon:?}, and {subject} is still left alone: {:?}", core.faults()));
        }
        // A pause after connecting that was needed once, or is tried, may cost ticks.
        if skipped > 0 && !outcome.connected && device.is_well(now, soon + RAREST) && core.plan().cycles.len() == 1 {
            let (begun, learned) = (self.polling.begun().saturating_sub(BOOTED), core.learned());
            return Err(format!(
                "{skipped} polls skipped of a device that is well, from {begun:?} to {now:?}: {} requests, {:?}, {learned:?}",
                served, outcome.failures
            ));
        }
        Ok(())
    }

    fn count(&mut self, now: Duration, polls: u64, rests: u64) {
        let (second, before, rested) = self.in_second;
        let (before, rested) = if second == now.as_secs() { (before, rested) } else { (0, 0) };
        self.in_second = (now.as_secs(), before + polls, rested + rests);
    }

    /// Nothing is learned of hiccups, and nothing but what ails the device.
    fn check_learned(&self, device: &Device) -> Result<(), Violation> {
        let learned = self.polling.core().learned();
        let harmless = |fault: &Fault| {
            matches!(
                fault.ailment,
                Ailment::Registers(..)
                    | Ailment::Hiccup(_, 4 | 6)
                    | Ailment::Exception(4 | 6)
                    | Ailment::Busy(_)
                    | Ailment::Closing
                    | Ailment::Restarting(_)
                    | Ailment::Refusing
                    | Ailment::UnitGone(_)
                    | Ailment::Garbled(_)
            )
        };
        if device.faults.iter().all(harmless) && !(learned.limits.is_empty() && learned.pause_after_connect.is_zero()) {
            return Err(format!("learned {:?} of a device that takes all requests", learned.sentences()));
        }
        let refusing = |fault: &Fault| {
            matches!(fault.ailment, Ailment::Registers(..) | Ailment::Hiccup(_, 2 | 3) | Ailment::Exception(2 | 3))
        };
        // A request that is too long and has gaps is taken for one that is refused for its gaps.
        let gaps = device.faults.iter().any(|fault| matches!(fault.ailment, Ailment::Longer(_)));
        if !device.faults.iter().any(refusing) && !(learned.refused.is_empty() && (gaps || learned.gaps.is_empty())) {
            return Err(format!("learned {learned:?} of a device that refuses no value"));
        }
        Ok(())
    }

    /// No more polls, attempts and lines than there may be.
    fn check_rates(&mut self, outcome: &Outcome, now: Duration) -> Result<(), Violation> {
        self.count(now, 1, 0);
        // One a second by the shortest interval, and what is owed by the units of a gateway.
        if self.in_second.1 > 12 {
            return Err(format!("{} polls in one second", self.in_second.1));
        }
        for event in &outcome.events {
            let lines = self.lines.entry(event.subject).or_default();
            lines.retain(|at| *at + Duration::from_secs(60) > now);
            lines.push(now);
            // Failed, down, recovered; and failed again, because a recovery may be followed by a failure at once.
            if lines.len() > 4 {
                return Err(format!("{} lines about {} in a minute", lines.len(), event.subject));
            }
        }
        Ok(())
    }
}
