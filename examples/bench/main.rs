//! What a datapoint costs the whole agent, beside the least that any client could do, and how that grows:
//!
//! - `cargo run --release --example bench` compares clients of the same devices;
//! - `… -- growth` polls 10 to 10,000 devices;
//! - `… -- start` starts with up to a million points, and with up to a million cached batches;
//! - `… -- drain` delivers a backlog of a million datapoints while polling goes on;
//! - `… -- outputs` makes and delivers posts of each output, beside writing as many bytes;
//! - `… -- memory` looks at memory before, during and after an outage of the server, `--seconds` in all.
//!
//! Options: `--rounds N`, `--seconds S`, `--only NAME,NAME`, `--shapes 100x100,900+100x10` (devices, `+` dead ones,
//! `x` registers), `--binary PATH`, `--plots DIR` (where `growth` and `start` draw).
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

mod compare;
mod drain;
mod fleet;
mod floor;
mod growth;
mod memory;
mod outputs;
mod peers;
mod plot;
mod process;
mod round;
mod simulator;
mod sink;
mod start;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use fleet::Shape;
use peers::Who;

/// What was asked for.
struct Plan {
    rounds: usize,
    window: Duration,
    shapes: Vec<Shape>,
    who: Vec<Who>,
    binary: Option<PathBuf>,
    plots: PathBuf,
}

impl Plan {
    /// The agent that is measured.
    fn binary(&self) -> PathBuf {
        self.binary.clone().unwrap_or_else(build_agent)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("simulator") => simulator::run(Duration::from_secs(1)).unwrap(),
        Some("sink") => sink::run(arguments.get(1).map(|pace| pace.parse().expect("bytes a second"))).unwrap(),
        Some("floor") => {
            let number = |place: usize| arguments.get(place).map(|number| number.parse::<u32>().expect("a number"));
            let shape = Shape::new(number(2).unwrap(), number(3).unwrap());
            let port = |place| number(place).map(|port| u16::try_from(port).expect("a port"));
            floor::run(shape, port(1).unwrap(), port(4)).unwrap();
        }
        Some("growth") => growth::run(&plan(&arguments[1..])),
        Some("start") => start::run(&plan(&arguments[1..])),
        Some("memory") => memory::run(&plan(&arguments[1..])),
        Some("outputs") => outputs::run(&plan(&arguments[1..])),
        Some("drain") => drain::run(&plan(&arguments[1..])),
        _ => compare::compare(&plan(&arguments)),
    }
}

fn plan(arguments: &[String]) -> Plan {
    let shapes = vec![Shape::new(100, 100), Shape::new(1_000, 10), Shape::new(1_000, 100)];
    let (who, window) = (Who::ALL.to_vec(), Duration::from_secs(10));
    let mut plan = Plan { rounds: 3, window, shapes, who, binary: None, plots: PathBuf::from("target/bench") };
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { panic!("each option has a value") };
        match name.as_str() {
            "--rounds" => plan.rounds = value.parse().expect("a number of rounds"),
            "--seconds" => plan.window = Duration::from_secs(value.parse().expect("a number of seconds")),
            "--only" => plan.who.retain(|who| value.split(',').any(|name| who.name().contains(name))),
            "--binary" => plan.binary = Some(PathBuf::from(value)),
            "--plots" => plan.plots = PathBuf::from(value),
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

/// Builds the agent; Cargo builds no binaries for an example.
fn build_agent() -> PathBuf {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--release", "--bin", "pattoo_agent_modbustcpd"]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(build.status().expect("cargo").success(), "the agent does not build");
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/release/pattoo_agent_modbustcpd"))
}
