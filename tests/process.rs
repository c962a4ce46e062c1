//! The process and what surrounds it: signals, streams, directories, identity, names, panics, with the real binary.
//!
//! What needs root (namespaces, other users, a name server on port 53) is skipped without it, but not in CI.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "process/clock.rs"]
mod clock;
#[path = "process/directories.rs"]
mod directories;
#[path = "process/identity.rs"]
mod identity;
#[path = "process/limits.rs"]
mod limits;
#[path = "process/names.rs"]
mod names;
#[path = "process/panics.rs"]
mod panics;
#[path = "process/signals.rs"]
mod signals;
#[path = "process/streams.rs"]
mod streams;
mod support;

use std::fs;
use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, prlimit};

use support::agent::{Agent, Home};
use support::device::Device;
use support::server::Server;

/// A home with one device, polled and flushed ten times a second.
fn home_with(server: &Server, device: &Device) -> Home {
    let home = Home::new(server.address());
    configure(&home, &device.target());
    home
}

fn configure(home: &Home, target: &str) {
    // Most tests wait for the first readings to arrive: soon.
    home.write_config(&format!(
        "polling_interval: 100ms\nflush_interval: 100ms\nagent_hostname: plant-7\npolling_groups:\n  \
         - group_name: plant\n    ip_devices: ['{target}']\n    input_registers: [30001, 30002]\n"
    ));
}

/// Starts the agent by a line of shell that ends in `exec "$0" "$@"` or the like.
fn run_by_shell(home: &Home, script: &str) -> Agent {
    home.run_under("sh", &["-c".to_owned(), script.to_owned()])
}

fn log_file(home: &Home) -> PathBuf {
    home.path().join("log/pattoo.log")
}

fn logged(home: &Home) -> String {
    fs::read_to_string(log_file(home)).unwrap_or_default()
}

/// From now on no file of the agent can grow beyond `limit` bytes: the nearest to a full disk without a disk.
fn limit_files(home: &Home, limit: Option<u64>) {
    prlimit(home.pid(), Resource::Fsize, Rlimit { current: limit, maximum: None }).unwrap();
}
