//! What the agent learns of devices, from end to end: it is used, shown, kept across restarts and reloads, and forgotten
//! when it is about nothing any more.
//!
//! Decided by what devices were asked and by what the log and `--status` say, never by how long something took.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::Value;
use support::agent::{Agent, HOSTNAME, Home};
use support::device::{Device, Mode, Refusal, Request, Table, Values};
use support::gateway::{Gateway, Line};
use support::judge::judge;
use support::server::Server;

/// A home with these settings and groups, that tells the server soon.
fn home_with(server: &Server, settings: &str, groups: &str) -> Home {
    let home = Home::new(server.address());
    configure(&home, settings, groups);
    home
}

fn configure(home: &Home, settings: &str, groups: &str) {
    home.write_config(&format!(
        "{settings}\nflush_interval: 20ms\nagent_hostname: {HOSTNAME}\ncache_min_free: 0\npolling_groups:\n{groups}"
    ));
}

/// A group of one unit of a device with these registers of this list.
fn group(target: impl std::fmt::Display, unit: u8, list: &str, registers: &str) -> String {
    format!("  - {{ip_devices: ['{target}'], unit: {unit}, {list}: [{registers}]}}\n")
}

/// Has the agent read its configuration again, until it says so.
fn reload(agent: &mut Agent) {
    const TAKEN_OVER: &str = "the new configuration is taken over";
    let before = agent.log().matches(TAKEN_OVER).count();
    agent.sighup();
    until_said(agent, TAKEN_OVER, before + 1);
}

/// Waits until the log has said something so often.
fn until_said(agent: &mut Agent, what: &str, times: usize) {
    support::until(&format!("{what:?} in the log"), || {
        assert!(agent.is_running(), "it ended:\n{}", agent.log());
        agent.log().matches(what).count() >= times
    });
}

/// Ends the agent when everything served has arrived, so that a restart loses nothing.
fn end(agent: &mut Agent, devices: &[&Device], server: &Server) {
    for device in devices {
        device.set(Mode::Silent);
    }
    agent.until("every reading served to arrive", || missing(devices, server).is_empty());
    agent.stop();
    for device in devices {
        device.set(Mode::Answer);
    }
}

/// What was served and did not arrive.
fn missing(devices: &[&Device], server: &Server) -> Vec<String> {
    let lost = judge(devices, server.database().rows()).lost;
    lost.into_iter().map(|(_, what)| what).collect()
}

/// Everything served arrives, once, in order and at its own series.
fn everything_arrives(agent: &mut Agent, devices: &[&Device], server: &Server) {
    end(agent, devices, server);
    assert_eq!(missing(devices, server), [""; 0]);
    judge(devices, server.database().rows()).assert_true();
    server.database().assert_sound();
    for device in devices {
        assert_eq!(device.violations(), [""; 0], "{}", device.target());
    }
}

/// Waits until so many more answers with values were served, of those that `counts`.
fn served(agent: &mut Agent, device: &Device, more: usize, counts: impl Fn(&support::device::Served) -> bool) {
    let so_far = || device.served().iter().filter(|answer| counts(answer)).count();
    let before = so_far();
    agent.until("more values", || so_far() >= before + more);
}

/// What `--status` says.
fn status(home: &Home) -> Value {
    let directory = home.config_dir();
    let finished = home.output(&["--status", "--format", "json", "--config_dir", directory.to_str().unwrap()]);
    serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{finished:?}"))
}

/// What `--status` says of a device.
fn status_of(home: &Home, device: &str) -> Value {
    let mut status = status(home);
    let devices = status["devices"].as_array_mut().unwrap();
    devices.iter_mut().find(|it| it["name"] == device).unwrap_or_else(|| panic!("no {device}")).take()
}

/// What `check --settings` says.
fn settings(home: &Home) -> String {
    let directory = home.config_dir();
    let finished = home.output(&["check", "--settings", "--config_dir", directory.to_str().unwrap()]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished.stdout
}

/// The file in which the agent keeps what it has learned.
fn kept(home: &Home) -> String {
    fs::read_to_string(home.path().join("daemon/refused/pattoo_agent_modbustcpd.refused")).unwrap_or_default()
}

/// The lines of the log from `from` on that name a device and are no detail.
fn lines_about<'l>(log: &'l str, device: &Device) -> Vec<&'l str> {
    let target = device.target();
    log.lines().filter(|line| line.contains(&target) && !line.contains("DEBUG")).collect()
}

/// Every wait that the log tells of, in seconds.
fn waits(log: &str) -> Vec<f64> {
    let told = log.split("tried again in ").skip(1);
    told.map(|rest| {
        let wait = rest.split([',', ';']).next().unwrap();
        humantime::parse_duration(wait).unwrap_or_else(|_| panic!("{wait}")).as_secs_f64()
    })
    .collect()
}

/// Processor time of the agent so far.
fn processor_time(agent: &Agent) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.id())).unwrap();
    let words: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = words[11].parse::<u64>().unwrap() + words[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// A1: what is asked instead of a request names the points of the configuration that it was worked out by.
#[test]
fn after_a_reload_values_stand_at_their_own_series_whatever_was_refused() {
    let (a, b, server) = (Device::counting(1), Device::counting(2), Server::start());
    a.refuse(Table::Holding, 4);
    let of_a = group(a.target(), 1, "holding_registers", "{address: 40001, count: 10}");
    let home = home_with(&server, "polling_interval: 100ms", &of_a);
    let mut agent = home.run();
    until_said(&mut agent, "refuses holding registers 40005", 1);
    served(&mut agent, &a, 6, |answer| answer.first == 5);
    // Every point of device a gets another number.
    let of_b = group(b.target(), 1, "holding_registers", "{address: 40001, count: 7}");
    configure(&home, "polling_interval: 100ms", &format!("{of_b}{of_a}"));
    reload(&mut agent);
    served(&mut agent, &a, 6, |answer| answer.first == 5);
    served(&mut agent, &b, 6, |_| true);
    assert_eq!(a.connections(), 1, "kept");
    everything_arrives(&mut agent, &[&a, &b], &server);
    let keys = |device: &Device| -> BTreeSet<String> {
        let rows = server.database().rows().to_vec();
        rows.into_iter().filter(|row| row.target == device.target()).map(|row| row.key).collect()
    };
    assert_eq!((keys(&a).len(), keys(&b).len()), (9, 7));
}

/// Several times what the polls of the two devices take in a debug build.
const MOST_SPENT: Duration = Duration::from_millis(1_500);

/// A2: counted in polls of the other device and in processor time, of which a loop that does not wait takes all.
#[test]
fn a_gateway_that_closes_in_the_middle_of_a_poll_costs_no_other_device_a_poll() {
    let (gateway, other, server) = (Device::counting(1), Device::counting(2), Server::start());
    gateway.set_unit(1, Mode::Silent);
    let groups = [
        group(gateway.target(), 1, "holding_registers", "40001"),
        group(gateway.target(), 2, "holding_registers", "40001, 40100"),
        group(other.target(), 1, "holding_registers", "40001"),
    ];
    let settings = "polling_interval: 200ms\ndevice_defaults: {response_timeout: 1s}";
    let home = home_with(&server, settings, &groups.concat());
    let mut agent = home.run();
    served(&mut agent, &gateway, 4, |answer| answer.unit == 2);
    gateway.habit(|habits| habits.stops_after = Some(2));
    agent.until("the gateway to refuse connections", || !gateway.is_listening());
    // While it is away, and then while unit 1 alone is left alone.
    for back in [false, true] {
        if back {
            gateway.start();
            served(&mut agent, &gateway, 6, |answer| answer.unit == 2);
        }
        let (before, polls) = (processor_time(&agent), 40);
        served(&mut agent, &other, polls, |_| true);
        let spent = processor_time(&agent).saturating_sub(before);
        assert!(spent < MOST_SPENT, "{spent:?} of processor time for {polls} polls");
    }
    assert_eq!(other.connections(), 1);
    everything_arrives(&mut agent, &[&gateway, &other], &server);
}

/// A4: whatever was said of it while it started.
#[test]
fn a_device_of_which_everything_is_read_is_up() {
    let (device, server) = (Device::counting(1), Server::start());
    device.set(Mode::Exception(4));
    device.habit(|habits| habits.longest = Some((60, Refusal::Exception(3))));
    let group = group(device.target(), 1, "holding_registers", "{address: 40001, count: 100}");
    let home = home_with(&server, "polling_interval: 100ms", &group);
    let mut agent = home.run();
    agent.until("some exceptions", || device.request_count() > 8);
    device.set(Mode::Answer);
    for first in [0, 99] {
        served(&mut agent, &device, 4, |answer| answer.addresses().contains(&first));
    }
    agent.until("the device to be up", || {
        let state = status_of(&home, &device.target());
        state["state"] == "up" && state["refused"] == 0 && state["troubles"] == Value::Array(Vec::new())
    });
    everything_arrives(&mut agent, &[&device], &server);
}

/// A5: one attempt per backoff period, and a line for a change of state only.
#[test]
fn a_gateway_that_takes_connections_and_never_answers_gets_few_requests_and_few_lines() {
    let (gateway, other, server) = (Device::counting(1), Device::counting(2), Server::start());
    gateway.set(Mode::Silent);
    let mut groups = group(other.target(), 1, "input_registers", "30001");
    for unit in 1..=30 {
        groups += &group(gateway.target(), unit, "input_registers", "30001");
    }
    let settings = "polling_interval: 200ms\ndevice_defaults: {response_timeout: 100ms, max_backoff: 2s}";
    let home = home_with(&server, settings, &groups);
    let mut agent = home.run();
    served(&mut agent, &other, 75, |_| true);
    agent.until("more attempts", || gateway.request_count() >= 10);
    let requests = gateway.requests();
    // A first poll asks two units, one of them twice; from then on a request opens each backoff period, and one more
    // follows over the same connection only while it is not known that all are silent.
    let attempts = &requests[4..];
    for pair in attempts.windows(2) {
        // Half of the first step of a second, less the jitter of a quarter and what the clocks differ by.
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(200), "{pair:?}");
    }
    let asked: Vec<u8> = attempts.iter().map(|request| request.unit).collect();
    let units: BTreeSet<u8> = asked.iter().copied().collect();
    assert_eq!(units.len(), asked.len().min(30), "one after the other: {asked:?}");
    let log = agent.log();
    let lines = lines_about(&log, &gateway);
    assert!((1..=3).contains(&lines.len()), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("all units: down for")), "{lines:#?}");
    // It comes back as a whole.
    gateway.set(Mode::Answer);
    for unit in [1, 30] {
        served(&mut agent, &gateway, 2, |answer| answer.unit == unit);
    }
    everything_arrives(&mut agent, &[&gateway, &other], &server);
}

/// A6: nothing learned outlives what it was learned of.
#[test]
fn a_refused_register_that_is_taken_out_is_forgotten() {
    let (device, server) = (Device::counting(1), Server::start());
    device.refuse(Table::Holding, 4);
    let group = |registers: &str| group(device.target(), 1, "holding_registers", registers);
    let home = home_with(&server, "polling_interval: 100ms", &group("{address: 40001, count: 10}"));
    let mut agent = home.run();
    until_said(&mut agent, "refuses holding registers 40005", 1);
    agent.until("it to be kept", || kept(&home).contains("refused 1 holding_register 4 1"));
    assert_eq!(status_of(&home, &device.target())["refused"], 1);
    assert!(settings(&home).contains("unit 1 refuses 40005"), "{}", settings(&home));
    configure(&home, "polling_interval: 100ms", &group("{address: 40001, count: 4}, 40006"));
    reload(&mut agent);
    agent.until("it to be gone from the file", || !kept(&home).contains("refused 1"));
    for _ in 0..2 {
        served(&mut agent, &device, 3, |_| true);
        agent.until("the device to be up", || status_of(&home, &device.target())["state"] == "up");
        let state = status_of(&home, &device.target());
        assert_eq!((&state["troubles"], &state["refused"]), (&Value::Array(Vec::new()), &0.into()), "{state}");
        end(&mut agent, &[&device], &server);
        agent = home.run();
    }
    assert!(!settings(&home).contains("refuses"), "{}", settings(&home));
    everything_arrives(&mut agent, &[&device], &server);
}

/// A9: remembered and shown like refused registers.
#[test]
fn the_longest_request_that_a_device_takes_is_remembered() {
    let (device, server) = (Device::counting(1), Server::start());
    device.habit(|habits| habits.longest = Some((40, Refusal::Exception(3))));
    let group = group(device.target(), 1, "holding_registers", "{address: 40001, count: 100}");
    let home = home_with(&server, "polling_interval: 100ms", &group);
    let mut agent = home.run();
    agent.until("the limit to be kept", || kept(&home).contains("limit 1 registers 40 41 refused"));
    let sentence = "unit 1 refuses requests for more than 40 registers (as max_registers: 40)";
    assert!(agent.log().contains("max_registers would say so from the start"), "{}", agent.log());
    end(&mut agent, &[&device], &server);
    let before = device.request_count();
    let mut agent = home.run();
    for first in [0, 40, 80] {
        served(&mut agent, &device, 3, |answer| answer.first == first);
    }
    let longest = device.requests()[before..].iter().map(|request| request.quantity).max();
    assert_eq!(longest, Some(40), "asked for too much again");
    agent.until("the device to be up", || status_of(&home, &device.target())["state"] == "up");
    let state = status_of(&home, &device.target());
    assert_eq!(state["learned"], serde_json::json!([sentence]), "{state}");
    let settings = settings(&home);
    assert!(settings.contains(sentence), "{settings}");
    assert!(!agent.log().contains("WARNING"), "nothing new was learned:\n{}", agent.log());
    everything_arrives(&mut agent, &[&device], &server);
}

/// A file that says nonsense costs requests and nothing else; one of the version before is understood.
#[test]
fn whatever_the_file_of_what_was_learned_says_the_device_is_read() {
    let (device, server) = (Device::counting(1), Server::start());
    device.refuse(Table::Holding, 4);
    device.habit(|habits| habits.longest = Some((40, Refusal::Exception(3))));
    let group = group(device.target(), 1, "holding_registers", "{address: 40001, count: 100}");
    let home = home_with(&server, "polling_interval: 100ms", &group);
    let mut agent = home.run();
    agent.until("both to be kept", || {
        ["limit 1 registers 40 41", "refused 1"].iter().all(|it| kept(&home).contains(it))
    });
    let good = kept(&home);
    let target = device.target();
    // Killed, so that nothing is written at its end.
    device.set(Mode::Silent);
    agent.until("every reading served to arrive", || missing(&[&device], &server).is_empty());
    agent.sigkill();
    device.set(Mode::Answer);
    let file = home.path().join("daemon/refused/pattoo_agent_modbustcpd.refused");
    let old = format!("pattoo-refused-1\n{target} 1 holding_register 4 1\n");
    let lies = format!(
        "pattoo-learned-2\n{target} settings {}\n{target} limit 1 registers 65534 65535 silent\n{target} limit 1 \
         registers 0 0 refused\n{target} refused 1 holding_register 65535 65535\n{target} refused 1 holding_register 0 0\n\
         {target} gaps 999\n{target} pause 99999999999999999999\n{target}\n\n x",
        good.split("settings ").nth(1).unwrap().lines().next().unwrap()
    );
    let half = &good[..good.len() - 9];
    for (text, kept_hole) in [(good.as_str(), true), (&old, true), (&lies, false), (half, false), ("\0\u{fffd}", false)]
    {
        fs::write(&file, text).unwrap();
        let before = device.request_count();
        let mut agent = home.run();
        for register in [0, 3, 5, 99] {
            served(&mut agent, &device, 2, |answer| answer.addresses().contains(&register));
        }
        agent.until("only the one to be refused", || status_of(&home, &target)["refused"] == 1);
        if kept_hole {
            let asked = &device.requests()[before..];
            let with_hole = |request: &&Request| request.address <= 4 && 4 < request.address + request.quantity;
            assert!(asked.iter().filter(with_hole).all(|request| request.quantity == 1), "{text}: {asked:?}");
        }
        end(&mut agent, &[&device], &server);
    }
    judge(&[&device], server.database().rows()).assert_true();
}

/// What is learned while it is away, or just being looked for, is about the configuration of now.
#[test]
fn a_reload_during_a_search_or_an_outage_mixes_nothing_up() {
    let (a, b, server) = (Device::counting(1), Device::counting(2), Server::start());
    for address in [7, 30, 31, 77] {
        a.refuse(Table::Holding, address);
    }
    // A search of many requests, each of which takes a while.
    a.set(Mode::Slow(Duration::from_millis(10)));
    let settings = "polling_interval: 100ms\ndevice_defaults: {response_timeout: 1s, max_backoff: 1s}";
    let of_a = group(a.target(), 1, "holding_registers", "{address: 40001, count: 100}");
    let of_b = group(b.target(), 1, "holding_registers", "{address: 40001, count: 7}");
    let home = home_with(&server, settings, &of_a);
    let mut agent = home.run();
    agent.until("a search", || a.request_count() > 4);
    configure(&home, settings, &format!("{of_b}{of_a}"));
    reload(&mut agent);
    served(&mut agent, &a, 4, |answer| answer.first == 78);
    a.stop();
    agent.until("it to be missed", || status_of(&home, &a.target())["state"] == "down");
    configure(&home, settings, &of_a);
    reload(&mut agent);
    a.start();
    served(&mut agent, &a, 4, |answer| answer.first == 78);
    assert_eq!(status_of(&home, &a.target())["refused"], 4);
    // What was under way when it went, or was taken out, may be lost.
    agent.stop();
    judge(&[&a, &b], server.database().rows()).assert_true();
    server.database().assert_sound();
    assert_eq!(a.violations(), [""; 0]);
}

/// A10: counted in polls: a minute would be six hundred.
#[test]
fn a_register_that_has_worked_is_back_soon() {
    let (device, server) = (Device::counting(1), Server::start());
    let group = group(device.target(), 1, "input_registers", "30001, 30002, 30003");
    let home = home_with(&server, "polling_interval: 100ms", &group);
    let mut agent = home.run();
    served(&mut agent, &device, 5, |_| true);
    device.refuse(Table::Input, 1);
    // Refused for as long as it takes to be tried alone and refused again.
    let alone = |request: &&Request| (request.address, request.quantity) == (1, 1);
    agent.until("it to be tried", || device.requests().iter().filter(alone).count() >= 2);
    device.allow(Table::Input, 1);
    let before = device.request_count();
    agent.until("it to be back", || agent_reads(&device, before, 1));
    let polls = device.requests()[before..].iter().filter(|request| request.address == 0).count();
    assert!(polls < 100, "{polls} polls without it");
    served(&mut agent, &device, 5, |answer| answer.count == 3);
    until_said(&mut agent, "no longer refuses input registers 30002", 1);
    agent.until("the device to be up", || status_of(&home, &device.target())["state"] == "up");
    everything_arrives(&mut agent, &[&device], &server);
}

/// Whether this register has been read since the request with this number.
fn agent_reads(device: &Device, since: usize, register: u32) -> bool {
    let from = device.requests().get(since).map(|request| request.at);
    from.is_some() && device.served().iter().rev().take(3).any(|answer| answer.addresses().contains(&register))
}

/// A11: each retry waits longer.
#[test]
fn a_device_that_is_busy_for_a_while_after_each_answer_is_read_whole_in_each_poll() {
    let (device, server) = (Device::counting(1), Server::start());
    device.habit(|habits| habits.rests = Duration::from_millis(300));
    let group = group(device.target(), 1, "holding_registers", "40001, 40200, 40400");
    let home = home_with(&server, "polling_interval: 2s", &group);
    let mut agent = home.run();
    for first in [0, 199, 399] {
        served(&mut agent, &device, 3, |answer| answer.first == first);
    }
    agent.until("the device to be up", || status_of(&home, &device.target())["state"] == "up");
    let state = status(&home);
    assert_eq!(state["polling"]["unread"]["exception"].as_u64().unwrap_or_default(), 0, "{state}");
    everything_arrives(&mut agent, &[&device], &server);
}

/// A12: what it takes in silence is found, told, and kept.
#[test]
fn a_device_that_does_not_answer_long_requests_is_read_in_shorter_ones() {
    let (device, server) = (Device::counting(1), Server::start());
    device.habit(|habits| habits.longest = Some((28, Refusal::Silence)));
    let group = group(device.target(), 1, "holding_registers", "{address: 40001, count: 100}");
    let settings_of = "polling_interval: 500ms\ndevice_defaults: {response_timeout: 300ms, max_backoff: 1s}";
    let home = home_with(&server, settings_of, &group);
    let mut agent = home.run();
    for first in [0, 99] {
        served(&mut agent, &device, 3, |answer| answer.addresses().contains(&first));
    }
    let line = "does not answer a request for 100 holding registers";
    assert!(agent.log().contains(line) || agent.log().contains("max_registers would say so"), "{}", agent.log());
    agent.until("the limit to be kept", || kept(&home).contains("limit 1 registers 28 29 silent"));
    let sentence = "unit 1 does not answer requests for more than 28 registers (as max_registers: 28)";
    agent.until("the device to be up", || status_of(&home, &device.target())["state"] == "up");
    let learned = status_of(&home, &device.target())["learned"].take();
    assert!(learned.as_array().unwrap().contains(&sentence.into()), "{learned}");
    end(&mut agent, &[&device], &server);
    let before = device.request_count();
    let mut agent = home.run();
    for first in [0, 28, 56, 84] {
        served(&mut agent, &device, 3, |answer| answer.first == first);
    }
    assert_eq!(device.requests()[before..].iter().map(|request| request.quantity).max(), Some(28));
    everything_arrives(&mut agent, &[&device], &server);
}

/// A12, where another request of the same unit is answered in each poll.
#[test]
fn a_long_request_without_an_answer_is_found_among_short_ones_that_are_answered() {
    let (device, server) = (Device::counting(1), Server::start());
    device.habit(|habits| habits.longest = Some((28, Refusal::Silence)));
    let groups = [
        group(device.target(), 1, "input_registers", "30001"),
        group(device.target(), 1, "holding_registers", "{address: 40001, count: 60}, 40200"),
    ];
    let settings = "polling_interval: 500ms\ndevice_defaults: {response_timeout: 300ms, max_backoff: 1s}";
    let home = home_with(&server, settings, &groups.concat());
    let mut agent = home.run();
    for (table, first) in [(Table::Holding, 0), (Table::Holding, 59), (Table::Input, 0), (Table::Holding, 199)] {
        served(&mut agent, &device, 3, |answer| answer.table == table && answer.addresses().contains(&first));
    }
    assert!(agent.log().contains("max_registers would say so from the start"), "{}", agent.log());
    everything_arrives(&mut agent, &[&device], &server);
}

/// Some devices do not answer for registers that they do not have.
#[test]
fn a_request_that_is_never_answered_costs_no_other_request_of_its_unit_its_values() {
    for others in ["", "40100"] {
        let (device, server) = (Device::counting(1), Server::start());
        device.habit(|habits| habits.holes.push((Table::Holding, 4, Refusal::Silence)));
        let registers = if others.is_empty() { "40005".to_owned() } else { format!("40005, {others}") };
        let mut groups = group(device.target(), 1, "holding_registers", &registers);
        groups += &group(device.target(), 1, "input_registers", "30001");
        // Of another unit nothing is ever answered.
        device.set_unit(2, Mode::Silent);
        groups += &group(device.target(), 2, "holding_registers", "40001");
        let settings = "polling_interval: 500ms\ndevice_defaults: {response_timeout: 200ms, max_backoff: 1s}";
        let home = home_with(&server, settings, &groups);
        let mut agent = home.run();
        served(&mut agent, &device, 20, |answer| answer.table == Table::Input);
        if !others.is_empty() {
            served(&mut agent, &device, 3, |answer| answer.first == 99);
        }
        let log = agent.log();
        let lines = lines_about(&log, &device);
        assert!(lines.len() <= 8, "{lines:#?}");
        everything_arrives(&mut agent, &[&device], &server);
    }
}

/// A13: by the device's own clock; an agent that is slow waits longer, and is heard.
#[test]
fn a_device_that_is_deaf_after_connecting_is_given_a_pause_and_its_need_is_remembered() {
    let (device, server) = (Device::counting(1), Server::start());
    device.habit(|habits| habits.deaf = Duration::from_millis(1_100));
    let group = group(device.target(), 1, "holding_registers", "40001, 40002");
    let settings_of = "polling_interval: 500ms\ndevice_defaults: {response_timeout: 200ms, max_backoff: 1s}";
    let home = home_with(&server, settings_of, &group);
    let mut agent = home.run();
    until_said(&mut agent, "pause_after_connect would say so from the start", 1);
    let connections = device.connections();
    served(&mut agent, &device, 10, |_| true);
    assert!(device.connections() <= connections + 1, "it goes on over one connection");
    agent.until("the pause to be kept", || kept(&home).contains("pause 2000"));
    agent.until("the device to be up", || status_of(&home, &device.target())["state"] == "up");
    let sentence = "needs a pause after connecting (as pause_after_connect: 2s)";
    let state = status_of(&home, &device.target());
    assert_eq!(state["learned"], serde_json::json!([sentence]), "{state}");
    assert!(settings(&home).contains(sentence), "{}", settings(&home));
    end(&mut agent, &[&device], &server);
    let (before, connections) = (device.request_count(), device.connections());
    let mut agent = home.run();
    served(&mut agent, &device, 5, |_| true);
    let requests = device.requests();
    assert!(!agent.log().contains("lengthen polling_interval"), "the pause is no lack of time:\n{}", agent.log());
    let first = &requests[before..];
    assert!(first.iter().all(|request| request.connection == connections + 1), "{first:?}");
    everything_arrives(&mut agent, &[&device], &server);
}

/// A14: with a pause, in which the greeting lies in wait, and without.
#[test]
fn what_a_device_says_before_it_is_asked_is_thrown_away() {
    for pause in ["0s", "150ms"] {
        let (plain, serial, server) = (Device::counting(1), Device::counting(2), Server::start());
        plain.habit(|habits| habits.greeting = b"+++ registration 4711 +++\r\n");
        let gateway = Gateway::rtu(serial.address());
        gateway.set(Line::Greets);
        let groups = [
            group(plain.target(), 1, "holding_registers", "40001"),
            group(gateway.target(), 1, "holding_registers", "40001"),
        ];
        let settings = format!(
            "polling_interval: 200ms\ndevice_defaults: {{pause_after_connect: {pause}}}\ndevices: {{'{}': {{transport: rtu}}}}",
            gateway.target()
        );
        let home = home_with(&server, &settings, &groups.concat());
        let mut agent = home.run();
        served(&mut agent, &plain, 5, |_| true);
        served(&mut agent, &serial, 5, |_| true);
        until_said(&mut agent, "thrown away after connecting", 1);
        let targets: BTreeSet<String> = server.database().rows().iter().map(|row| row.target.clone()).collect();
        assert!(targets.contains(&plain.target()), "{targets:?}");
        support::until("values of the line", || {
            server.database().rows().iter().any(|row| row.target == gateway.target())
        });
        everything_arrives(&mut agent, &[&plain], &server);
        assert_eq!(gateway.violations(), [""; 0]);
    }
}

/// A17: near it one request reads both; far from it the power is read again.
#[test]
fn a_value_whose_power_of_ten_moves_is_right_or_none() {
    for (value, scale) in [(274, 255), (255, 274), (600, 200), (200, 600)] {
        let values = Values::Moving { value, scale };
        let (device, server) = (Device::at("127.0.0.1:0".parse().unwrap(), values).unwrap(), Server::start());
        let number = |address: u16| 40_001 + u32::from(address);
        let register = format!("{{address: {}, scale_register: {}}}", number(value), number(scale));
        let group = group(device.target(), 1, "holding_registers", &register);
        let home = home_with(&server, "polling_interval: 100ms", &group);
        let mut agent = home.run();
        agent.until("values", || server.row_count() >= 20);
        agent.stop();
        for row in server.database().rows() {
            assert_eq!(row.value.as_f64(), Some(600.0), "{row:?} of ({value}, {scale})");
        }
        if value.abs_diff(scale) < 125 {
            assert!(device.requests().iter().all(|request| request.quantity == 20), "one request for both");
        }
    }
}

/// A20: a device that answers as unit 0 whatever it is asked as.
#[test]
fn a_device_that_answers_as_another_unit_is_read_once_the_configuration_says_so() {
    let (device, server) = (Device::counting(1), Server::start());
    device.habit(|habits| habits.answers_as = Some(0));
    let groups =
        [3, 4].map(|unit| group(device.target(), unit, "holding_registers", "40001, {address: 40200, count: 3}"));
    let home = home_with(&server, "polling_interval: 200ms", &groups.concat());
    let mut agent = home.run();
    until_said(&mut agent, "set ignore_unit_id", 1);
    assert_eq!(server.row_count(), 0);
    let settings = format!("polling_interval: 200ms\ndevices: {{'{}': {{ignore_unit_id: true}}}}", device.target());
    configure(&home, &settings, &groups.concat());
    let before = device.served().len();
    reload(&mut agent);
    for unit in ["003", "004"] {
        agent.until("values", || server.database().rows().iter().filter(|row| row.unit == unit).count() > 12);
    }
    assert!(device.served().len() > before);
    agent.until("the device to be up", || status_of(&home, &device.target())["state"] == "up");
    device.set(Mode::Silent);
    agent.stop();
    judge(&[&device], server.database().rows()).assert_true();
    server.database().assert_sound();
}

/// A21: by what the log says of the next attempt, and counted in polls of another device.
#[test]
fn a_device_that_was_away_for_long_is_asked_again_within_max_backoff() {
    let (device, other, server) = (Device::counting(1), Device::counting(2), Server::start());
    let groups = [&device, &other].map(|device| group(device.target(), 1, "input_registers", "30001"));
    let settings = "polling_interval: 100ms\ndevice_defaults: {response_timeout: 100ms, max_backoff: 1s}";
    let home = home_with(&server, settings, &groups.concat());
    let mut agent = home.run();
    served(&mut agent, &device, 3, |_| true);
    for stopped in [false, true] {
        if stopped {
            device.stop();
        } else {
            device.set(Mode::Silent);
        }
        // Long enough for a wait that doubles without an end to be eight seconds.
        served(&mut agent, &other, 100, |_| true);
        let before = other.served_count();
        if stopped {
            device.start();
        } else {
            device.set(Mode::Answer);
        }
        served(&mut agent, &device, 1, |_| true);
        // A second is ten of them.
        let polls = other.served_count() - before;
        assert!(polls < 40, "{polls} polls of another device until it was asked again");
        served(&mut agent, &device, 3, |_| true);
    }
    let log = agent.log();
    let waits = waits(&log);
    assert!(waits.len() >= 4 && waits.iter().all(|wait| *wait <= 1.0), "{waits:?}");
    everything_arrives(&mut agent, &[&device, &other], &server);
}
