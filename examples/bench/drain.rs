//! A backlog on its way: how fast, beside a bare client that posts as much, and what polling feels of it.

use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::Plan;
use crate::fleet::{MAX_DATAPOINTS, Shape, template};
use crate::floor::post;
use crate::peers::{Peer, Who};
use crate::process::Process;
use crate::round::CORES;
use crate::simulator::Served;
use crate::sink::Taken;

/// How many datapoints wait at least.
const BACKLOG: u64 = 1_000_000;

/// What fills the backlog, and is polled meanwhile.
const SHAPE: Shape = Shape::new(1_000, 100);

/// How many bytes a second a pattoo server takes: 36,000 datapoints.
const PACE: u64 = 6_000_000;

/// Measures and prints.
pub fn run(plan: &Plan) {
    for (server, pace) in [("only reads", None), ("is as fast as pattoo's", Some(PACE))] {
        println!("\nA server that {server}");
        beside(plan, pace);
    }
}

fn beside(plan: &Plan, pace: Option<u64>) {
    let binary = plan.binary();
    println!("{:>24} {:>14} {:>14} {:>10}", "", "bytes", "MB/s", "of bare");
    let mut shares = Vec::new();
    for _ in 0..plan.rounds {
        let program = std::env::current_exe().expect("a program has a path");
        let mut simulator = Process::start(Command::new(&program).arg("simulator"), CORES.1);
        let mut sink = Command::new(&program);
        sink.arg("sink").args(pace.map(|pace| pace.to_string()));
        let mut sink = Process::start(&sink, CORES.1);
        let (modbus, http) = (simulator.port(), sink.port());
        Taken::refuse(http, true).expect("a sink");
        let peer = Peer::new(Who::Agent, SHAPE, modbus, http, &binary);
        let agent = Process::start(&peer.command, CORES.0);
        let bytes = fill(&peer);

        Served::ask(modbus).expect("a simulator");
        Taken::refuse(http, false).expect("a sink");
        let (took, cpu) = drained(http, bytes, &agent);
        let late = Served::ask(modbus).expect("a simulator").late;
        let speed = bytes as f64 / took.as_secs_f64() / 1e6;
        drop(agent);

        let bare_took = bare(http, bytes);
        let bare_speed = bytes as f64 / bare_took.as_secs_f64() / 1e6;
        shares.push(speed / bare_speed);
        println!("{:>24} {bytes:>14} {bare_speed:>14.0}", "bare client");
        println!(
            "{:>24} {bytes:>14} {speed:>14.0} {:>10.2}   its core {:.0} % busy, polls late by p50 {:.1} p99 {:.1} max {:.1} ms",
            "agent, polling meanwhile",
            speed / bare_speed,
            100.0 * cpu.as_secs_f64() / took.as_secs_f64(),
            late[0] as f64 / 1e3,
            late[1] as f64 / 1e3,
            late[2] as f64 / 1e3,
        );
    }
    shares.sort_by(f64::total_cmp);
    println!("median          : {:.2} of the bare client's speed", shares[shares.len() / 2]);
}

/// Waits until the backlog is large enough; about how many bytes it is in posts.
fn fill(peer: &Peer) -> u64 {
    while peer.waiting() < BACKLOG {
        thread::sleep(Duration::from_millis(100));
    }
    peer.waiting() * template(&SHAPE).len() as u64 / MAX_DATAPOINTS as u64
}

/// How long the agent takes for so many bytes from the first that is taken, and its processor time.
fn drained(http: u16, bytes: u64, agent: &Process) -> (Duration, Duration) {
    let mut taken = Taken::default();
    let mut begun = None;
    loop {
        let more = Taken::ask(http).expect("a sink");
        taken.bytes += more.bytes;
        if more.bytes > 0 && begun.is_none() {
            // What came with the first look came before it.
            begun = Some((Instant::now(), agent.cpu()));
            taken.bytes = 0;
        }
        if let Some((begun, cpu)) = begun
            && taken.bytes >= bytes
        {
            return (begun.elapsed(), agent.cpu().saturating_sub(cpu));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// How long it takes to post so many bytes in bodies of a full batch over one connection.
fn bare(http: u16, bytes: u64) -> Duration {
    let body = template(&SHAPE);
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, http)).expect("a sink");
    server.set_nodelay(true).expect("a socket");
    let begun = Instant::now();
    for _ in 0..bytes.div_ceil(body.len() as u64) {
        post(&mut server, &body).expect("a sink");
    }
    begun.elapsed()
}
