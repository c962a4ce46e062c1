//! What a datapoint costs the whole agent, beside the least that any client could do:
//! `cargo run --release --example bench -- [--rounds N] [--seconds S] [--only NAME] [--shapes 100x100,1000x10]
//! [--binary PATH]`.
//!
//! Simulator, server and client are processes of their own; the client has a core to itself. Each client polls
//! the same registers of the same devices each second; what is compared is its processor time (user and
//! system) for each register that the simulator served meanwhile. Rounds are interleaved; medians are printed.
//! Ratios of one run on one machine mean something, microseconds of two machines do not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program for developers"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod fleet;
mod floor;
mod peers;
mod process;
mod simulator;
mod sink;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use fleet::Shape;
use peers::{Peer, Who};
use process::Process;
use simulator::Served;
use sink::Taken;

/// Where the client runs, and where everything else does.
const CORES: (usize, usize) = (0, 1);

/// How long a client may take until it polls every device.
const WARM_UP: Duration = Duration::from_secs(60);

struct Plan {
    rounds: usize,
    window: Duration,
    shapes: Vec<Shape>,
    who: Vec<Who>,
    binary: Option<PathBuf>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("simulator") => simulator::run(Duration::from_secs(1)).unwrap(),
        Some("sink") => sink::run().unwrap(),
        Some("floor") => {
            let number = |place: usize| arguments.get(place).map(|number| number.parse::<u32>().expect("a number"));
            let shape = Shape::new(number(2).unwrap(), number(3).unwrap());
            let port = |place| number(place).map(|port| u16::try_from(port).expect("a port"));
            floor::run(shape, port(1).unwrap(), port(4)).unwrap();
        }
        _ => compare(&plan(&arguments)),
    }
}

fn plan(arguments: &[String]) -> Plan {
    let shapes = vec![Shape::new(100, 100), Shape::new(1_000, 10), Shape::new(1_000, 100)];
    let mut plan = Plan { rounds: 3, window: Duration::from_secs(10), shapes, who: Who::ALL.to_vec(), binary: None };
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { panic!("each option has a value") };
        match name.as_str() {
            "--rounds" => plan.rounds = value.parse().expect("a number of rounds"),
            "--seconds" => plan.window = Duration::from_secs(value.parse().expect("a number of seconds")),
            "--only" => plan.who.retain(|who| value.split(',').any(|name| who.name().contains(name))),
            "--binary" => plan.binary = Some(PathBuf::from(value)),
            "--shapes" => plan.shapes = value.split(',').map(shape).collect(),
            _ => panic!("unknown option {name}"),
        }
    }
    plan
}

/// `DEVICESxREGISTERS`, or `DEVICES+DEADxREGISTERS`.
fn shape(text: &str) -> Shape {
    let (devices, registers) = text.split_once('x').expect("DEVICESxREGISTERS");
    let (devices, dead) = devices.split_once('+').unwrap_or((devices, "0"));
    let number = |text: &str| text.parse().expect("a number");
    Shape { dead: number(dead), ..Shape::new(number(devices), number(registers)) }
}

/// What a client did in one window.
#[derive(Debug, Clone, Copy)]
struct Measured {
    /// Microseconds of the client's processor time for each register.
    per_datapoint: f64,
    /// The share of a core that the client took.
    share: f64,
    /// The share of a core that the simulator took.
    simulator: f64,
    /// Registers served, against those due.
    served: f64,
    /// Bytes posted for each register.
    bytes: f64,
    memory: (u64, u64),
    late: [u64; 3],
}

fn compare(plan: &Plan) {
    let binary = plan.binary.clone().unwrap_or_else(build_agent);
    println!("agent           : {}", binary.display());
    println!(
        "plan            : {} rounds of {:?}, medians; client on core {}, the rest on core {}",
        plan.rounds, plan.window, CORES.0, CORES.1
    );
    let (here, missing): (Vec<Who>, Vec<Who>) = plan.who.iter().partition(|who| who.missing().is_none());
    for who in missing {
        println!("skipped         : {}, which is not installed ({})", who.name(), who.missing().unwrap());
    }
    for &shape in &plan.shapes {
        let mut all = BTreeMap::<Who, Vec<Measured>>::new();
        for _ in 0..plan.rounds {
            for &who in &here {
                match measure(who, shape, plan.window, &binary) {
                    Ok(measured) => all.entry(who).or_default().push(measured),
                    Err(why) => println!("{} at {}x{}: {why}", who.name(), shape.devices, shape.registers),
                }
            }
        }
        print(shape, &all);
    }
}

fn measure(who: Who, shape: Shape, window: Duration, binary: &Path) -> Result<Measured, String> {
    let program = std::env::current_exe().expect("a program has a path");
    let mut simulator = Process::start(Command::new(&program).arg("simulator"), CORES.1);
    let mut sink = Process::start(Command::new(&program).arg("sink"), CORES.1);
    let (modbus, http) = (simulator.port(), sink.port());
    let peer = Peer::new(who, shape, modbus, http, binary);
    let mut client = Process::start(&peer.command, CORES.0);

    let asked = || Served::ask(modbus).map_err(|error| format!("the simulator: {error}"));
    let started = Instant::now();
    let all = u64::from(shape.devices + shape.dead);
    while asked()?.connections < all {
        if !client.lives() {
            return Err("it ended".to_owned());
        }
        if started.elapsed() > WARM_UP {
            return Err(format!("it has not connected to every device in {WARM_UP:?}"));
        }
        thread::sleep(Duration::from_millis(200));
    }
    // Past the first polls, which are off the grid, and the first batches.
    thread::sleep(Duration::from_secs(3));

    asked()?;
    Taken::ask(http).map_err(|error| error.to_string())?;
    let (began, client_before, simulator_before) = (Instant::now(), client.cpu(), simulator.cpu());
    thread::sleep(window);
    let elapsed = began.elapsed();
    let used = |process: &Process, before| process.cpu().saturating_sub(before).as_secs_f64();
    let (own, other) = (used(&client, client_before), used(&simulator, simulator_before));
    let served = asked()?;
    let posted = Taken::ask(http).map_err(|error| error.to_string())?;
    if served.registers == 0 {
        return Err("nothing was polled".to_owned());
    }
    let registers = served.registers as f64;
    Ok(Measured {
        per_datapoint: own * 1e6 / registers,
        share: own / elapsed.as_secs_f64(),
        simulator: other / elapsed.as_secs_f64(),
        served: registers / (shape.rate() * elapsed.as_secs_f64()),
        bytes: posted.bytes as f64 / registers,
        memory: client.memory(),
        late: served.late,
    })
}

fn print(shape: Shape, all: &BTreeMap<Who, Vec<Measured>>) {
    let median = |who: Who, of: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = all.get(&who)?.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    let agent = median(Who::Agent, |measured| measured.per_datapoint);
    let dead = if shape.dead == 0 { String::new() } else { format!(" and {} dead", shape.dead) };
    println!("\n{} devices{dead} × {} registers, once a second", shape.devices, shape.registers);
    println!(
        "{:24} {:>9} {:>9} {:>7} {:>7} {:>7} {:>9} {:>9} {:>20}",
        "", "µs/point", "agent/it", "core %", "sim %", "served", "B/point", "RSS KiB", "late ms p50 p99 max"
    );
    for &who in all.keys() {
        let value = |of: fn(&Measured) -> f64| median(who, of).unwrap_or(f64::NAN);
        let cost = value(|measured| measured.per_datapoint);
        let late = [value(|m| m.late[0] as f64), value(|m| m.late[1] as f64), value(|m| m.late[2] as f64)];
        println!(
            "{:24} {:>9.3} {:>9.3} {:>7.1} {:>7.1} {:>6.1}% {:>9.1} {:>9.0} {:>6.1} {:>6.1} {:>6.1}",
            who.name(),
            cost,
            agent.map_or(f64::NAN, |agent| agent / cost),
            value(|m| m.share * 100.0),
            value(|m| m.simulator * 100.0),
            value(|m| m.served * 100.0),
            value(|m| m.bytes),
            value(|m| m.memory.1 as f64),
            late[0] / 1e3,
            late[1] / 1e3,
            late[2] / 1e3,
        );
    }
}

/// Builds the agent; Cargo builds no binaries for an example.
fn build_agent() -> PathBuf {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--release", "--bin", "pattoo_agent_modbustcpd"]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(build.status().expect("cargo").success(), "the agent does not build");
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/release/pattoo_agent_modbustcpd"))
}
