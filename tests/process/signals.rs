//! Signals in every state.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::support::agent::{Agent, Home};
use super::support::device::{Device, Mode as DeviceMode};
use super::support::python;
use super::support::server::{Mode, Server};
use super::support::{self, PATIENCE, needs};
use super::{home_with, limit_files, log_file, logged, run_by_shell};

fn send(home: &Home, signal: Signal) {
    kill_process(home.pid().unwrap(), signal).unwrap();
}

fn running(server: &Server, device: &Device) -> (Home, Agent) {
    let home = home_with(server, device);
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    (home, agent)
}

/// What an agent said from its order to stop on.
fn since_the_order(agent: &Agent) -> String {
    let log = agent.log();
    log.split_once("SIGTERM; stopping").unwrap_or_else(|| panic!("no order in:\n{log}")).1.to_owned()
}

/// Exit code 0 says that it was in time: the agent itself watches over that ([`a_stop_that_hangs_is_ended`]), and the
/// limits are held to two seconds where they stand.
#[test]
fn sigterm_ends_it_in_time_whatever_hangs() {
    let states = [
        (DeviceMode::Answer, Mode::Ok),
        (DeviceMode::Silent, Mode::Ok),
        (DeviceMode::Answer, Mode::HangOnAccept),
        (DeviceMode::Silent, Mode::HangAfterReading),
    ];
    for (device_mode, mode) in states {
        let (device, server) = (Device::counting(1), Server::start());
        let home = home_with(&server, &device);
        let config = home.config_dir().join("pattoo_agent_modbustcpd.yaml");
        let text = fs::read_to_string(&config).unwrap();
        // Whoever waits for a reply does not end.
        fs::write(&config, format!("{text}device_defaults: {{response_timeout: 60s}}\n")).unwrap();
        let mut agent = home.run();
        agent.until("readings to arrive", || server.row_count() > 0);
        server.set(mode.clone());
        let (posts, requests) = (server.connections(), device.request_count());
        agent.until("the new mode to be met", || server.connections() > posts + 1 || mode != Mode::Ok);
        device.set(device_mode);
        agent.until("work", || device.request_count() > requests);
        agent.sigterm();
        agent.ends_with(0);
        let said = since_the_order(&agent);
        assert!(said.contains("stopped; everything is delivered or on disk"), "{device_mode:?} {mode:?}: {said}");
        for waited in ["no whole reply within", "post failed"] {
            assert!(!said.contains(waited), "{device_mode:?} {mode:?}: {said}");
        }
    }
}

#[test]
fn sigterm_ends_it_in_time_with_a_large_backlog_and_leaves_that_as_it_is() {
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let (device, server) = (Device::counting(2), Server::start());
    server.set(Mode::Status(500));
    let home = home_with(&server, &device);
    home.write_agent_id(ID);
    let directory = home.path().join("cache").join(ID);
    for at in (1_700_000_000_000..).step_by(1_000).take(5_000) {
        let body = python::body(ID, at, &[("10.0.0.1", "input_register_30001", 7.0)]);
        python::leave(&directory, ID, at, &body);
    }
    let mut agent = home.run();
    agent.until("polls and posts", || device.request_count() > 3 && server.post_count() > 0);
    agent.sigterm();
    agent.ends_with(0);
    assert!(home.spooled().len() >= 5_000);
}

#[test]
fn a_disk_and_a_server_that_take_nothing_do_not_hold_the_end_and_the_loss_is_said() {
    let device = Device::counting(3);
    let (_home, mut agent) = running_without_disk_and_server(&device);
    agent.sigterm();
    agent.ends_with(1);
    assert!(since_the_order(&agent).contains("stopped; LOST "), "{}", agent.log());
    assert!(since_the_order(&agent).contains("in_memory "), "{}", agent.log());
}

#[test]
fn a_stop_that_hangs_is_ended() {
    let (_home, _server, _device, mut agent) = hung_in_its_stop();
    agent.ends_with(1);
    assert!(since_the_order(&agent).contains("not stopped 1.75s after it was asked for; exiting at once"));
}

/// That it is the second signal, and not the end of patience, is decided in virtual time, in `daemon/signals.rs`.
#[test]
fn a_second_signal_ends_it() {
    for second in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let (home, _server, _device, mut agent) = hung_in_its_stop();
        // The end of patience may come first.
        if let Some(pid) = home.pid() {
            kill_process(pid, second).ok();
        }
        agent.ends_with(1);
        assert!(since_the_order(&agent).contains("exiting at once"), "{second:?}: {}", agent.log());
    }
}

/// One that was told to stop and never will.
fn hung_in_its_stop() -> (Home, Server, Device, Agent) {
    let (device, server) = (Device::counting(4), Server::start());
    let mut home = home_with(&server, &device);
    let point = home.path().join("fail_point");
    home.set_variable("PATTOO_FAIL_POINT", point.to_str().unwrap());
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    fs::write(&point, "hang supervisor").unwrap();
    agent.sigterm();
    support::until("the fail point to be passed", || !point.exists());
    (home, server, device, agent)
}

/// One that polls and has found out that it can neither store nor deliver.
fn running_without_disk_and_server(device: &Device) -> (Home, Agent) {
    let server = Server::start();
    let (home, mut agent) = running(&server, device);
    server.stop();
    limit_files(&home, Some(0));
    until_log(&mut agent, "cannot write to the cache directory");
    let before = device.request_count();
    agent.until("polls that go on", || device.request_count() > before + 3);
    (home, agent)
}

fn until_log(agent: &mut Agent, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !agent.log().contains(text) {
        assert!(agent.is_running() && Instant::now() < deadline, "no {text:?} in:\n{}", agent.log());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn sigquit_ends_it_without_a_stop() {
    let (device, server) = (Device::counting(5), Server::start());
    let (home, mut agent) = running(&server, &device);
    send(&home, Signal::QUIT);
    agent.ends_with(1);
    let log = agent.log();
    assert!(log.contains("SIGQUIT; exiting at once") && !log.contains("stopped"), "{log}");
}

#[test]
fn sighup_without_a_use_changes_nothing_and_says_why() {
    let (device, server) = (Device::counting(6), Server::start());
    let (home, mut agent) = running(&server, &device);
    send(&home, Signal::HUP);
    agent.until("a word", || logged(&home).contains("nothing in the configuration has changed"));
    let file = home.config_dir().join("pattoo_agent_modbustcpd.yaml");
    fs::write(&file, "polling_interval: never\n").unwrap();
    send(&home, Signal::HUP);
    agent.until("another word", || logged(&home).contains("goes on with the configuration that it has"));
    fs::remove_file(&file).unwrap();
    send(&home, Signal::HUP);
    let rows = server.row_count();
    agent.until("readings that go on", || server.row_count() > rows + 10);
    agent.stop();
}

#[test]
fn a_log_that_is_moved_away_goes_on_under_its_name() {
    let (device, server) = (Device::counting(7), Server::start());
    let (home, mut agent) = running(&server, &device);
    fs::rename(log_file(&home), home.path().join("log/pattoo.log.1")).unwrap();
    send(&home, Signal::USR1);
    agent.until("a new log", || logged(&home).contains("SIGUSR1"));
    fs::remove_file(log_file(&home)).unwrap();
    send(&home, Signal::HUP);
    agent.until("a new log again", || logged(&home).contains("SIGHUP"));
    agent.stop();
}

#[test]
fn signals_that_others_die_of_do_not_end_it() {
    let (device, server) = (Device::counting(8), Server::start());
    let (home, mut agent) = running(&server, &device);
    for signal in [Signal::PIPE, Signal::XFSZ, Signal::USR1, Signal::HUP] {
        send(&home, signal);
    }
    let rows = server.row_count();
    agent.until("readings that go on", || server.row_count() > rows + 5);
    agent.stop();
}

#[test]
fn as_process_1_of_a_container_it_obeys_too() {
    if !needs(&["root"]) {
        return;
    }
    for (signal, code) in [(Signal::TERM, 0), (Signal::INT, 0), (Signal::QUIT, 1)] {
        let (device, server) = (Device::counting(9), Server::start());
        let home = home_with(&server, &device);
        let mut agent = run_by_shell(&home, r#"exec unshare --pid --fork --kill-child "$0" "$@""#);
        agent.until("readings to arrive", || server.row_count() > 0);
        assert_eq!(home.pid(), Pid::from_raw(1), "it is process 1 there");
        kill_process(outside(&home), signal).unwrap();
        assert_eq!(agent.wait(PATIENCE), Some(code), "{signal:?}");
    }
}

/// The agent's process id as seen from here.
fn outside(home: &Home) -> Pid {
    let home = home.path().to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        (command.contains(home) && !command.starts_with("unshare")).then_some(pid)
    });
    let processes: Vec<i32> = processes.collect();
    assert_eq!(processes.len(), 1, "{processes:?}");
    Pid::from_raw(processes[0]).unwrap()
}
