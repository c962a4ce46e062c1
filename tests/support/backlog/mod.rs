//! The real agent started on a million batches that wait: what the start costs, how fast they are
//! delivered, and whether anything is lost, doubled or disordered, or polling disturbed by it.
//!
//! Three of four batches are in the log, the others are files of the Python agent. Each value tells which batch and
//! which point it is of, so every row proves itself ([`files`]). The agent is told to stop while it reads the directory, and again when half is delivered.
//! What it must do is in [`Report::faults`]; how fast, which a busy machine may miss, in [`Report::late`].

mod files;
mod report;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use files::{Arrivals, Files};
pub use report::Report;

use crate::support::agent::Home;
use crate::support::device::{Device, Mode};
use crate::support::judge::judge;
use crate::support::peak_memory;
use crate::support::server::Server;

/// How many registers a batch holds.
pub const POINTS: usize = 5;

/// How often the device is polled.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Debug)]
pub struct Settings {
    /// The agent.
    pub binary: PathBuf,
    /// How many batches wait for it.
    pub files: usize,
}

/// Makes the batches, lets the agent deliver them, and judges what came of it.
pub fn run(settings: &Settings) -> Report {
    let server = Server::start();
    server.forget_bodies();
    let home = Home::of(&settings.binary, server.address(), "info");
    home.write_agent_id(files::ID);
    server.stop();
    let mut arrivals = Arrivals::of(Files::new(settings.files));
    let begun = Instant::now();
    arrivals.files.write(&home.path().join("cache"));
    let mut report = Report::new(settings.files, begun.elapsed());

    let device = Device::counting(1);
    home.write_groups("1s", &group(&device));
    for after in [0, 400] {
        let mut agent = home.run();
        let pid = agent.id();
        agent.until("a process that can be asked to stop", || catches_sigterm(pid));
        thread::sleep(Duration::from_millis(after));
        report.stop(&mut agent, &format!("{after} ms after it can be asked"));
    }
    server.come_back();
    for (share, when) in [(settings.files / 2, "when half was delivered"), (settings.files, "at the end")] {
        let (requests, posts, born) = (device.request_count(), server.post_count(), Instant::now());
        let mut agent = home.run();
        agent.until("the first poll", || device.request_count() > requests);
        agent.until("the first post", || server.post_count() > posts);
        let first = (device.requests()[requests].at, server.posts()[posts].at);
        report.start(first.0 - born, first.1 - born);
        let (before, begun) = (arrivals.cached, first.1);
        while arrivals.files_arrived() < share {
            let cached = arrivals.cached;
            agent.until("rows of batches", || {
                arrivals.look(&server);
                arrivals.cached > cached
            });
            report.rss_kib = report.rss_kib.max(peak_memory(agent.id()));
        }
        report.drained(arrivals.cached - before, begun.elapsed());
        report.polled(&device.requests()[requests..]);
        if share == settings.files {
            device.set(Mode::Silent);
            agent.until("the last live readings", || {
                arrivals.look(&server);
                judge(&[&device], &arrivals.live).lost.is_empty() && home.spooled().is_empty()
            });
        }
        report.rss_kib = report.rss_kib.max(peak_memory(agent.id()));
        report.processor += processor(agent.id());
        report.stop(&mut agent, when);
    }
    arrivals.look(&server);
    report.settle(&arrivals, &judge(&[&device], &arrivals.live), &server.database(), &home);
    report
}

/// All registers of this device.
fn group(device: &Device) -> String {
    let registers: Vec<String> = (0..POINTS).map(|point| (30_001 + point).to_string()).collect();
    let registers = registers.join(", ");
    format!("  - group_name: all\n    ip_devices: ['{}']\n    input_registers: [{registers}]\n", device.target())
}

/// Whether SIGTERM asks a process to stop, and does not end it.
fn catches_sigterm(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & (1 << 14) != 0)
}

/// How long a process has computed, in its own code and the system's.
fn processor(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or_default());
    // A hundred a second, as Linux counts for programs.
    Duration::from_millis(10 * ticks.sum::<u64>())
}
