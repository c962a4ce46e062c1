//! Memory over time: a third of the window with a server, a third without, a third with it again.

use std::process::Command;
use std::thread;
use std::time::Instant;

use crate::Plan;
use crate::peers::{Peer, Who};
use crate::process::Process;
use crate::round::CORES;
use crate::simulator::Served;
use crate::sink::Taken;

/// So often its memory is looked at in each third.
const LOOKS: u32 = 10;

/// Measures and prints.
pub fn run(plan: &Plan) {
    let shape = plan.shapes[0];
    let program = std::env::current_exe().expect("a program has a path");
    let mut simulator = Process::start(Command::new(&program).arg("simulator"), CORES.1);
    let mut sink = Process::start(Command::new(&program).arg("sink"), CORES.1);
    let (modbus, http) = (simulator.port(), sink.port());
    let peer = Peer::new(Who::Agent, shape, modbus, http, &plan.binary());
    let agent = Process::start(&peer.command, CORES.0);
    println!("{} devices × {} registers, once a second, {:?}", shape.devices, shape.registers, plan.window);
    println!("{:>10} {:>24} {:>10} {:>10} {:>8}", "minute", "the server", "RSS KiB", "peak KiB", "served");
    let (begun, step) = (Instant::now(), plan.window / (3 * LOOKS));
    for (server, refuses) in [("takes everything", false), ("refuses everything", true), ("takes everything", false)] {
        Taken::refuse(http, refuses).expect("a sink");
        for _ in 0..LOOKS {
            Served::ask(modbus).expect("a simulator");
            thread::sleep(step);
            let served = Served::ask(modbus).expect("a simulator").registers as f64;
            let (now, peak) = agent.memory();
            println!(
                "{:>10.1} {server:>24} {now:>10} {peak:>10} {:>7.1}%",
                begun.elapsed().as_secs_f64() / 60.0,
                100.0 * served / (shape.rate() * step.as_secs_f64()),
            );
        }
    }
    let waits = peer.waiting();
    println!("readings on disk in the end: {waits}");
}
