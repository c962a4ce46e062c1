//! How long it takes from the start to the first request, against points and against cached batches.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::Plan;
use crate::fleet::Shape;
use crate::plot::{Line, draw};
use crate::process::Process;
use crate::round::CORES;
use crate::simulator::Served;
use crate::support::agent::Home;

/// No start takes longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// No file system lets a file have more names.
const MOST_LINKS: usize = 60_000;

/// Measures, prints and draws.
pub fn run(plan: &Plan) {
    let binary = plan.binary();
    let mut of_points = Line { name: "points, 100 of a device", points: Vec::new() };
    let mut of_files = Line { name: "cached batches", points: Vec::new() };
    println!("{:>10} {:>10} {:>14} {:>12}", "points", "batches", "first poll", "peak KiB");
    let measure = |shape: Shape, files: usize| {
        let mut rounds: Vec<_> = (0..plan.rounds).map(|_| first_poll(&binary, shape, files)).collect();
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (millis, memory) = rounds[rounds.len() / 2];
        println!("{:>10} {files:>10} {millis:>11.1} ms {memory:>12}", shape.devices * shape.registers);
        millis
    };
    for devices in [1, 10, 100, 1_000, 10_000] {
        let millis = measure(Shape { interval: Duration::from_secs(60), ..Shape::new(devices, 100) }, 0);
        of_points.points.push((f64::from(devices * 100), millis));
    }
    for files in [100, 1_000, 10_000, 100_000, 1_000_000] {
        let millis = measure(Shape { interval: Duration::from_secs(60), ..Shape::new(1, 100) }, files);
        of_files.points.push((files as f64, millis));
    }
    draw(&plan.plots.join("start.svg"), "ms from the start to the first request", "how many", &[of_points, of_files]);
}

/// Milliseconds to the first request, and the most memory in KiB until the devices are connected.
fn first_poll(binary: &Path, shape: Shape, files: usize) -> (f64, u64) {
    let program = std::env::current_exe().expect("a program has a path");
    let mut simulator = Process::start(Command::new(&program).arg("simulator"), CORES.1);
    let modbus = simulator.port();
    // Nobody serves the discard port: batches stay where they are.
    let home = Home::of(binary, SocketAddr::from((Ipv4Addr::LOCALHOST, 9)), "info");
    home.write_config(&shape.config(modbus));
    let id = "4c".repeat(32);
    home.write_agent_id(&id);
    fill(&home.spool(), &id, files);
    let mut command = Command::new(binary);
    command.args(["run", "--config_dir"]).arg(home.config_dir());

    let begun = Instant::now();
    let mut agent = Process::start(&command, CORES.0);
    while Served::ask(modbus).expect("a simulator").requests == 0 {
        assert!(begun.elapsed() < PATIENCE && agent.lives(), "no poll");
        thread::sleep(Duration::from_millis(1));
    }
    let millis = begun.elapsed().as_secs_f64() * 1e3;
    while Served::ask(modbus).expect("a simulator").connections < u64::from(shape.devices) {
        assert!(begun.elapsed() < PATIENCE && agent.lives(), "not every device");
        thread::sleep(Duration::from_millis(50));
    }
    (millis, agent.memory().1)
}

/// Makes so many batches, as the Python agent names them; many names for one file, because only names are read.
fn fill(spool: &Path, id: &str, files: usize) {
    fs::create_dir_all(spool).expect("a directory");
    let name = |file: usize| spool.join(format!("{}_{id}.json", 1_700_000_000_000 + file));
    for first in (0..files).step_by(MOST_LINKS) {
        fs::write(name(first), "{}").expect("a file");
        for file in first + 1..files.min(first + MOST_LINKS) {
            fs::hard_link(name(first), name(file)).expect("a name");
        }
    }
}
