//! One client in one window: started, left to warm up, measured.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::fleet::Shape;
use crate::peers::{Peer, Who};
use crate::process::Process;
use crate::simulator::Served;
use crate::sink::Taken;

/// Where the client runs, and where everything else does.
pub const CORES: (usize, usize) = (0, 1);

/// How long a client may take until it polls every device.
const WARM_UP: Duration = Duration::from_secs(60);

/// What a client did in one window.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Microseconds of the client's processor time for each register.
    pub per_datapoint: f64,
    /// The share of a core that the client took.
    pub share: f64,
    /// The share of a core that the simulator took.
    pub simulator: f64,
    /// Registers served, against those due.
    pub served: f64,
    /// Bytes posted for each register.
    pub bytes: f64,
    /// Resident KiB: at the end, and the most there ever was.
    pub memory: (u64, u64),
    /// How late requests came, in microseconds: p50, p99, at most.
    pub late: [u64; 3],
}

/// The medians of several rounds, by what is looked at.
pub fn median(rounds: &[Measured], of: fn(&Measured) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Starts the client, and everything that it needs, and measures it for one window.
pub fn measure(who: Who, shape: Shape, window: Duration, binary: &Path) -> Result<Measured, String> {
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
