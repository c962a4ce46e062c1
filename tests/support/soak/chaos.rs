//! Lets the plan happen to a running agent, and writes down what did.
//!
//! One thread: it sleeps until the next thing is due, and between sleeps takes the rows out of the server,
//! looks at the process, and starts it again if it has ended by itself, which is a violation.

mod steps;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::disk::{Damaged, Disk, Planted};
use super::fleet::Fleet;
use super::ledger::{FLUSH_MS, Ledger};
use super::others;
use super::plan::{Ailment, Plan, Whim};
use super::report::{Evidence, Report};
use super::watch::Watch;
use super::{Settings, ms};
use crate::support::agent::{Agent, HOSTNAME, Home};
use crate::support::device::Mode as DeviceMode;
use crate::support::now_ms;
use crate::support::server::Server;
use crate::support::spool;

const TICK: Duration = Duration::from_millis(20);

/// How long the agent may take to stop before the harness kills it.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// How long everything may take to arrive once all is well: devices and server are left alone for up to a
/// minute after their last failure.
const SETTLING: Duration = Duration::from_secs(240);

/// Where libfaketime is, for those who have it.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// A running world.
pub struct Chaos {
    server: Server,
    elsewhere: Server,
    fleet: Fleet,
    home: Home,
    disk: Option<Disk>,
    clock: Option<PathBuf>,
    agent: Agent,
    /// Whether it is meant to run.
    up: bool,
    begun: Instant,
    begun_ms: u64,
    /// Whims that have not begun, the next one last, and those that have not ended.
    whims: Vec<Whim>,
    ailing: Vec<(Whim, u64)>,
    is_part: bool,
    whole_plan: bool,
    planned: Vec<String>,
    rng: Rng,
    ledger: Ledger,
    watch: Watch,
    damaged: Vec<Damaged>,
    planted: Vec<Planted>,
    poisoned: Vec<(usize, super::fleet::Series)>,
    stop_times: Vec<Duration>,
    /// Rows that arrived while too large bodies, or one series, were refused.
    split: usize,
    bisected: usize,
    /// Kinds of faults that cannot be tried on this machine.
    impossible: Vec<&'static str>,
    violations: Vec<String>,
    seed: u64,
}

impl Chaos {
    /// Everything well, the agent at work.
    pub fn prepare(settings: &Settings, plan: &Plan) -> Self {
        let (server, elsewhere) = (Server::start(), Server::start());
        server.forget_bodies();
        let fleet = Fleet::start(settings.devices);
        let mut home = Home::of(&settings.binary, server.address(), "info");
        home.write_config(&format!(
            "polling_interval: 1s\nflush_interval: {FLUSH_MS}ms\nagent_hostname: {HOSTNAME}\n\
             cache_min_free: 0%\nsplit_refused_after: 1s\n{}polling_groups:\n{}",
            others::configured(&home),
            fleet.groups(),
        ));
        let mut impossible = Vec::new();
        let disk = Disk::mount(&home.path().join("cache"));
        if disk.is_none() {
            println!("SKIPPED: no right to mount a file system, so no full and no read-only disk");
            impossible.extend(["DiskFull", "ReadOnly"]);
        }
        let clock = fs::exists(FAKETIME).unwrap_or(false).then(|| home.path().join("clock"));
        if let Some(clock) = &clock {
            fs::write(clock, "+0").expect("a file in the home");
            for (name, value) in [
                ("LD_PRELOAD", FAKETIME),
                ("FAKETIME_TIMESTAMP_FILE", clock.to_str().expect("a path in UTF-8")),
                ("FAKETIME_CACHE_DURATION", "1"),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                ("FAKETIME_DISABLE_SHM", "1"),
                ("NO_FAKE_STAT", "1"),
            ] {
                home.set_variable(name, value);
            }
        } else {
            println!("SKIPPED: no {FAKETIME}, so no steps of the clock");
            impossible.push("Clock");
        }
        let mut whims = plan.whims.clone();
        whims.reverse();
        let ledger = Ledger {
            starts: vec![now_ms()],
            ailing: vec![Vec::new(); fleet.devices.len()],
            slow: vec![Vec::new(); fleet.devices.len()],
            ..Ledger::default()
        };
        Self {
            agent: home.run(),
            up: true,
            server,
            elsewhere,
            fleet,
            home,
            disk,
            clock,
            begun: Instant::now(),
            begun_ms: now_ms(),
            whims,
            ailing: Vec::new(),
            is_part: settings.only.is_some(),
            whole_plan: plan.is_whole(),
            planned: plan.kinds().into_keys().collect(),
            rng: Rng::with_seed(plan.salt),
            ledger,
            watch: Watch::begin(),
            damaged: Vec::new(),
            planted: Vec::new(),
            poisoned: Vec::new(),
            stop_times: Vec::new(),
            split: 0,
            bisected: 0,
            impossible,
            violations: Vec::new(),
            seed: settings.seed,
        }
    }

    /// Lets all of it happen.
    pub fn play(&mut self, plan: &Plan) {
        for step in &plan.steps {
            self.pass(step.pause);
            self.take(*step);
        }
    }

    fn kill(&mut self) {
        let from = now_ms();
        self.up = false;
        self.agent.sigkill();
        self.ledger.ends.push(from..now_ms());
        self.collect();
    }

    fn terminate(&mut self) {
        let (from, told) = (now_ms(), Instant::now());
        self.up = false;
        self.agent.sigterm();
        let stops = self.agent.ends_within(STOP_PATIENCE);
        if !stops {
            self.agent.sigkill();
        }
        self.ledger.ends.push(from..now_ms());
        if !stops {
            self.violations.push(format!("it still runs {STOP_PATIENCE:?} after SIGTERM"));
            return;
        }
        self.stop_times.push(told.elapsed());
        let code = self.agent.wait(STOP_PATIENCE);
        let log = self.agent.log();
        let last = log.lines().last().unwrap_or_default();
        if code != Some(0) {
            self.violations.push(format!("exit code {code:?} after SIGTERM: {last}"));
        }
        self.collect();
    }

    fn start(&mut self) {
        self.server.excuse_repetition();
        if self.ledger.ends.last().is_some_and(|end| self.ledger.could_not_write(end.start)) {
            self.server.excuse_order();
        }
        self.agent = self.home.run();
        self.up = true;
        self.ledger.starts.push(now_ms());
        self.watch.born();
    }

    /// Lets this time pass.
    fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            self.follow_whims();
            self.collect();
            self.revive();
            let spool = self.home.agent_id_file().exists().then(|| self.home.spool());
            self.watch.look(self.agent.id(), spool.as_deref());
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(TICK));
        }
    }

    fn follow_whims(&mut self) {
        let now = self.begun.elapsed();
        while self.whims.last().is_some_and(|whim| whim.at <= now) {
            let Some(whim) = self.whims.pop() else { return };
            let device = &self.fleet.devices[whim.device];
            match (whim.ailment, whim.unit) {
                (Ailment::Down, _) => device.stop(),
                (Ailment::Mode(mode), None) => device.set(mode),
                (Ailment::Mode(mode), Some(unit)) => device.set_unit(unit, mode),
            }
            self.ledger.count(whim.ailment.kind());
            self.ailing.push((whim, now_ms()));
        }
        let (over, ailing) = self.ailing.drain(..).partition(|(whim, _)| whim.at + whim.lasts <= now);
        self.ailing = ailing;
        self.heal(over);
    }

    fn heal(&mut self, over: Vec<(Whim, u64)>) {
        for (whim, from) in over {
            let device = &self.fleet.devices[whim.device];
            match whim.ailment {
                Ailment::Down => device.start(),
                Ailment::Mode(_) => device.set(DeviceMode::Answer),
            }
            if whim.ailment.is_slow() {
                self.ledger.slow[whim.device].push(from..now_ms());
            }
            self.ledger.ailing[whim.device].push(from..now_ms());
        }
    }

    /// Takes in what has arrived.
    fn collect(&mut self) {
        for row in self.server.take_rows() {
            self.fleet.take_in(&row);
        }
    }

    /// Starts the agent again if it has ended by itself.
    fn revive(&mut self) {
        if self.up && !self.agent.is_running() {
            let now = now_ms();
            self.ledger.ends.push(now - ms(TICK)..now);
            let log = self.agent.log();
            self.violations.push(format!("it ended by itself: {}", log.lines().last().unwrap_or_default()));
            self.start();
        }
    }

    fn arrived(&self) -> usize {
        self.fleet.arrivals.iter().map(Vec::len).sum()
    }

    /// How many series have a reading newer than this, and how many there are.
    fn fresh(&self, since: u64) -> (usize, usize) {
        let (mut fresh, mut all) = (0, 0);
        for (device, arrivals) in self.fleet.arrivals.iter().enumerate() {
            for (unit, table, address) in Fleet::series(device) {
                let of = |arrival: &&crate::support::judge::Arrival| {
                    (arrival.unit, arrival.table, arrival.address) == (unit, table, address)
                };
                // The newest are last.
                fresh += usize::from(arrivals.iter().rev().find(of).is_some_and(|last| last.timestamp > since));
                all += 1;
            }
        }
        (fresh, all)
    }

    /// Ends all faults, waits until everything has arrived, and judges.
    pub fn settle(mut self) -> Report {
        let ailing = std::mem::take(&mut self.ailing);
        self.whims.clear();
        self.heal(ailing);
        let injected = self.injected_ms();
        let calm = now_ms() + injected;
        let deadline = Instant::now() + SETTLING;
        let mut liveness = (0, 1);
        while liveness.0 < liveness.1 && Instant::now() < deadline {
            self.pass(Duration::from_millis(250));
            liveness = self.fresh(calm);
        }
        let steady = self.watch.samples.last().copied();
        for device in &self.fleet.devices {
            device.stop();
        }
        let drained = self.drain(deadline);
        self.terminate();
        if !drained {
            self.violations.push(format!("not drained within {SETTLING:?}"));
        }
        if self.elsewhere.connections() > 0 {
            self.violations.push("it has followed a redirect".to_owned());
        }
        let complaints: Vec<String> = self.planted.iter().filter_map(Planted::complaint).collect();
        self.violations.extend(complaints);
        let log = fs::read_to_string(self.home.path().join("log/pattoo.log")).unwrap_or_default();
        let violations = std::mem::take(&mut self.violations);
        let report = Report::close(Evidence {
            seed: self.seed,
            server: &self.server,
            fleet: &self.fleet,
            others: &others::all(&self.home, &self.fleet),
            quarantine: self.home.spool().join("quarantine"),
            ledger: &self.ledger,
            watch: &self.watch,
            steady,
            damaged: &self.damaged,
            poisoned: &self.poisoned,
            stop_times: &self.stop_times,
            split: self.split,
            bisected: self.bisected,
            missing: self.missing(),
            is_part: self.is_part,
            whole_plan: self.whole_plan,
            liveness,
            injected,
            log: &log,
            begun: self.begun,
            begun_ms: self.begun_ms,
            violations,
        });
        if !report.passes() {
            self.keep_evidence();
        }
        report
    }

    /// Copies what the agent has left, for whoever looks for the reason.
    fn keep_evidence(&self) {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("target/soak-{:#x}", self.seed));
        let copied = Command::new("cp").arg("-rT").arg(self.home.path()).arg(&directory).status();
        println!("what the agent has left is in {}: {copied:?}", directory.display());
    }

    /// What was planned, is possible, and has not happened.
    fn missing(&self) -> Vec<String> {
        let possible = |kind: &&String| !self.impossible.iter().any(|impossible| kind.starts_with(impossible));
        let planned = self.planned.iter().filter(possible);
        planned.filter(|kind| self.ledger.times(kind) == 0).cloned().collect()
    }

    /// By how much the clock was off at most, while that was to be believed.
    fn injected_ms(&self) -> u64 {
        if self.ledger.clock.is_empty() { 0 } else { ms(Duration::from_secs(5)) }
    }

    /// Waits until nothing waits on disk for whoever is there, and nothing more arrives; whether that came about.
    fn drain(&mut self, deadline: Instant) -> bool {
        let (mut quiet_since, mut arrived) = (Instant::now(), self.arrived());
        loop {
            self.pass(Duration::from_millis(100));
            let spool = self.home.spool();
            let waits = others::REACHABLE.iter().any(|name| spool::readings(&spool, name) > 0);
            if waits || self.arrived() != arrived {
                (quiet_since, arrived) = (Instant::now(), self.arrived());
            }
            if quiet_since.elapsed() > Duration::from_secs(4) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
        }
    }
}
