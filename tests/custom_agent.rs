//! The example of an agent of one's own does what it says, as a process of its own, to a simulated server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};
use support::server::{Row, Server};
use support::until;

/// The program, which Cargo builds for `cargo test` without a name; with one it is built here.
fn program() -> PathBuf {
    let arguments = ["build", "--quiet", "--locked", "--example", "custom_agent"];
    assert!(Command::new(env!("CARGO")).args(arguments).status().unwrap().success());
    let tests = std::env::current_exe().unwrap();
    tests.parent().unwrap().parent().unwrap().join("examples/custom_agent")
}

fn start(program: &Path, server: &Server, directory: &Path) -> Child {
    Command::new(program).arg(server.address().to_string()).arg(directory).arg("0.1").spawn().unwrap()
}

fn end(mut agent: Child, signal: Signal) -> Option<i32> {
    kill_process(Pid::from_child(&agent), signal).unwrap();
    agent.wait().unwrap().code()
}

#[test]
fn an_agent_of_ones_own_delivers_once_and_in_order_across_an_outage_and_a_kill() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/custom_agent.rs")).unwrap();
    assert!(text.lines().count() < 100, "it says under a hundred lines");
    if !Path::new("/etc/machine-id").exists() {
        support::skipped("it needs /etc/machine-id");
        return;
    }
    let (program, server, directory) = (program(), Server::start(), tempfile::tempdir().unwrap());
    let on_disk = || -> u64 {
        let spools =
            fs::read_dir(&directory).unwrap().filter_map(|entry| fs::read_dir(entry.unwrap().path().join("log")).ok());
        spools.flatten().map(|file| file.unwrap().metadata().unwrap().len()).sum()
    };
    let agent = start(&program, &server, directory.path());
    until("readings", || server.row_count() > 12);
    server.stop();
    // A kill in an outage; what was written is delivered by the next one.
    let size = on_disk();
    until("readings on disk", || on_disk() > size + 200);
    end(agent, Signal::KILL);
    server.excuse_repetition();
    let before = server.row_count();
    server.come_back();
    let agent = start(&program, &server, directory.path());
    until("what had waited, and more", || server.row_count() > before + 12);
    assert_eq!(end(agent, Signal::TERM), Some(0));

    let database = server.database();
    let of = |key: &str| database.rows().iter().filter(|row| row.key == key).collect::<Vec<&Row>>();
    for key in ["load_1m", "load_5m", "load_15m"] {
        let stamps: Vec<u64> = of(key).iter().map(|row| row.timestamp).collect();
        assert!(stamps.len() > 8 && stamps.is_sorted_by(|earlier, later| earlier < later), "{key}: {stamps:?}");
    }
    let programs: BTreeSet<_> = database.rows().iter().map(|row| row.program.clone()).collect();
    assert_eq!(programs, ["pattoo_agent_linux_load".to_owned()].into());
}
