//! `cargo run --example demo`: the real agent at work, on loopback, in about fifteen seconds.
//!
//! Two simulated Modbus devices count up, a simulated pattoo server prints what arrives; with `-- --output influxdb`, `prometheus`,
//! `otlp` or `mqtt` a simulated one of these or a broker, with `-- --output sqlite` a database on this machine and no server at all.
//! In the middle the server goes away for a while; at the end the books are closed: every reading served has arrived once.
//! Everything lives in a temporary directory and is gone afterwards; Ctrl-C stops it early.
#![allow(clippy::print_stdout, reason = "a demonstration is there to be read")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "and may end where it stands")]

mod broker;
mod sink;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sink::{Row, Sink};
use support::agent::{Agent, Home};
use support::device::{Device, Mode};
use support::judge::{Verdict, weigh};

const ACT: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    let Some(mut sink) = chosen() else {
        println!("usage: demo [--output pattoo|influxdb|mqtt|otlp|prometheus|sqlite]");
        return ExitCode::from(2);
    };
    let binary = build_agent();
    let interrupted = watch_for_ctrl_c();
    let devices = [Device::counting(0), Device::counting(1)];
    let home = Home::of(&binary, sink.pattoo(), "info");
    let (outputs, told) = sink.configure(&home);
    home.write_config(&format!(
        "polling_interval: 1s\nagent_hostname: agent.example.net\n{outputs}polling_groups:\n  - group_name: \
         demonstration\n    ip_devices: ['{}', '{}']\n    input_registers: [30001, 30002]\n",
        devices[0].target(),
        devices[1].target(),
    ));
    println!("Two simulated Modbus devices, {} and {}:", devices[0].target(), devices[1].target());
    println!("two input registers each, polled once a second; all of them count their polls.");
    println!("{told} Between them the real agent:\n");
    println!("$ pattoo_agent_modbustcpd run --config_dir {}\n", home.config_dir().display());

    let mut stage = Stage { sink, agent: home.run(), lines: 0, rows: 0, interrupted };
    stage.play(ACT);
    let trouble = stage.sink.trouble();
    stage.say(&format!("{trouble}; the agent goes on polling and keeps what it reads on disk"));
    stage.sink.stop();
    stage.play(ACT);
    stage.say("that is over; what was kept comes first");
    stage.sink.come_back();
    let back = support::now_ms();
    stage.play_until_shown(|rows| rows.last().is_some_and(|last| last.at > back));
    stage.play(ACT);

    stage.say("the devices fall silent, the last readings arrive, the agent is told to stop");
    let devices: Vec<&Device> = devices.iter().collect();
    for device in &devices {
        device.set(Mode::Silent);
    }
    stage.play_until_shown(|rows| judged(&devices, rows).lost.is_empty());
    let early = stage.is_interrupted();
    let (code, sink) = stage.stop();

    let verdict = judged(&devices, &sink.rows());
    println!("\nThe books, by arithmetic on the counters:");
    println!("  readings served by the devices  {:>5}", verdict.served);
    println!("  readings in the database        {:>5}", verdict.arrived);
    println!("  lost                            {:>5}", verdict.lost.len());
    println!("  twice                           {:>5}", verdict.duplicate.len());
    println!("  out of order                    {:>5}", verdict.disorder.len());
    println!("  wrong                           {:>5}", verdict.misattributed.len() + verdict.forbidden.len());
    println!("  exit code of the agent          {:>5}", code.map_or("none".to_owned(), |code| code.to_string()));
    if early {
        println!("Stopped early: what is missing was still on its way, on disk.");
    } else {
        verdict.assert_complete();
        sink.assert_sound();
    }
    if code == Some(0) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the command line asks for.
fn chosen() -> Option<Sink> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Sink::of("pattoo"),
        ["--output", kind] => Sink::of(kind),
        _ => None,
    }
}

/// What was served against what arrived.
fn judged(devices: &[&Device], rows: &[Row]) -> Verdict {
    let mut verdict = Verdict::default();
    for device in devices {
        let of_device = rows.iter().filter(|row| row.device == device.target());
        weigh(device, &device.served(), &of_device.map(Row::arrival).collect::<Vec<_>>(), &[], &mut verdict);
    }
    verdict
}

/// Builds the agent in the profile of this program; Cargo builds no binaries for an example.
fn build_agent() -> PathBuf {
    let example = env::current_exe().expect("a program has a path");
    let profile = example.parent().and_then(|examples| examples.parent()).expect("target/<profile>/examples");
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--bin", "pattoo_agent_modbustcpd"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo").success(), "the agent does not build");
    profile.join("pattoo_agent_modbustcpd")
}

fn watch_for_ctrl_c() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(tokio::signal::ctrl_c()).expect("a signal handler");
        flag.store(true, Ordering::Relaxed);
    });
    interrupted
}

/// What the audience sees: rows as they reach the database, the agent's log between them.
struct Stage {
    sink: Sink,
    agent: Agent,
    /// Lines of the log and rows of the database that were shown already.
    lines: usize,
    rows: usize,
    interrupted: Arc<AtomicBool>,
}

impl Stage {
    /// Tells the next turn of the story, after what has happened until now.
    fn say(&mut self, what: &str) {
        self.show();
        if !self.is_interrupted() {
            println!("\n--- {what} ---\n");
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn play(&mut self, time: Duration) {
        let end = Instant::now() + time;
        self.play_until(|| Instant::now() > end);
    }

    /// Shows what happens until `done` or Ctrl-C.
    fn play_until(&mut self, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + support::PATIENCE;
        while !done() && !self.is_interrupted() {
            self.show();
            assert!(self.agent.is_running(), "the agent has ended:\n{}", self.agent.log());
            assert!(Instant::now() < deadline, "nothing more happens:\n{}", self.agent.log());
            thread::sleep(Duration::from_millis(20));
        }
        self.show();
    }

    /// The same until what arrived is as it should be.
    fn play_until_shown(&mut self, done: impl Fn(&[Row]) -> bool) {
        let deadline = Instant::now() + support::PATIENCE;
        while !done(&self.sink.rows()) && !self.is_interrupted() {
            self.show();
            assert!(Instant::now() < deadline, "nothing more happens:\n{}", self.agent.log());
            thread::sleep(Duration::from_millis(20));
        }
        self.show();
    }

    fn show(&mut self) {
        let log = self.agent.log();
        for line in log.lines().skip(self.lines) {
            println!("agent: {line}");
            self.lines += 1;
        }
        let rows = self.sink.rows();
        let new = rows.get(self.rows..).unwrap_or_default();
        if self.rows == 0 && !new.is_empty() {
            println!("\n{:<14}{:<24}{:<24}{:>8}", "time (UTC)", "device", "register", "value");
        }
        for row in new {
            println!("{:<14}{:<24}{:<24}{:>8.1}", clock(row.at), row.device, row.key, row.value);
        }
        self.rows += new.len();
    }

    /// Stops the agent; its exit code, and where its readings went.
    fn stop(mut self) -> (Option<i32>, Sink) {
        // A terminal sends Ctrl-C to the agent too.
        let told = self.is_interrupted() && self.agent.ends_within(Duration::from_secs(1));
        if !told {
            self.agent.sigterm();
        }
        let code = self.agent.wait(Duration::from_secs(10));
        self.show();
        (code, self.sink)
    }
}

/// The time of day of a timestamp.
fn clock(ms: u64) -> String {
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
}
