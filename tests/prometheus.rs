//! The output `prometheus` in the real binary, against a real Prometheus: both are killed, the cursor is lost, the server has
//! something newer; what is in it against what the device served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::net::SocketAddr;

use serde_json::json;
use support::agent::{Agent, HOSTNAME, Home};
use support::device::{Device, Mode, Table};
use support::judge::{Arrival, Verdict, weigh};
use support::now_ms;
use support::prometheus::{Prometheus, blocks_from};

/// What a kill may cost: readings that are not gathered yet (50 ms), and those on their way to the disk of a busy machine.
const LOST_BY_A_KILL_MS: u64 = 50 + 1_000;

/// Nobody is there: no output is pattoo.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// An agent with no output but this one.
fn home_of(server: &Prometheus, device: &Device) -> Home {
    let home = Home::new(NOWHERE);
    home.write_config(&format!(
        "polling_interval: 100ms\nflush_interval: 20ms\nagent_hostname: {HOSTNAME}\noutputs:\n  - {{type: prometheus, url: \
         '{}', max_backoff: 1s, labels: {{site: plant 7}}}}\npolling_groups:\n  - {{group_name: meters, ip_devices: \
         ['{}'], unit: 1, input_registers: [30001-30010], holding_registers: [40101]}}\n",
        server.url(),
        device.target()
    ));
    home
}

/// Every reading that is there, each series in the order of the server.
fn arrivals(server: &Prometheus) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    for series in server.series("{__name__=~\"modbus_.+\",site=\"plant 7\"}") {
        let name = series.labels["__name__"].as_str().unwrap();
        let (table, address) = Table::of_key(name.strip_prefix("modbus_").unwrap()).unwrap();
        let unit = series.labels["unit"].as_str().unwrap().parse().unwrap();
        for (timestamp, value) in series.samples {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what a register holds")]
            arrivals.push(Arrival { unit, table, address, word: value as u16, timestamp });
        }
    }
    arrivals.sort_by_key(|arrival| arrival.timestamp);
    arrivals
}

fn judged(device: &Device, server: &Prometheus) -> Verdict {
    let mut verdict = Verdict::default();
    // Read before what was served is: no row can be older than the answer that explains it.
    let arrivals = arrivals(server);
    weigh(device, &device.served(), &arrivals, &[], &mut verdict);
    verdict
}

/// Lets what was served arrive; nothing more comes.
fn everything_arrives(agent: &mut Agent, device: &Device, server: &Prometheus) {
    device.set(Mode::Silent);
    agent.until("every reading in the server", || judged(device, server).lost.is_empty());
    judged(device, server).assert_complete();
}

fn some_more(agent: &mut Agent, server: &Prometheus) {
    let before = arrivals(server).len();
    agent.until("some more readings", || arrivals(server).len() > before + 50);
}

fn log(home: &Home) -> String {
    fs::read_to_string(home.path().join("log/pattoo.log")).unwrap_or_default()
}

#[test]
fn a_server_that_is_killed_again_and_again_gets_everything_once_and_in_order() {
    if !support::needs(&["prometheus"]) {
        return;
    }
    let (device, mut server) = (Device::counting(1), Prometheus::start());
    let home = home_of(&server, &device);
    let mut agent = home.run();
    for _ in 0..3 {
        some_more(&mut agent, &server);
        server.kill();
        let before = device.served_count();
        agent.until("polls that go on", || device.served_count() > before + 10);
        server.run();
    }
    everything_arrives(&mut agent, &device, &server);
    agent.stop();
    assert!(agent.log().contains("stopped; everything is delivered or on disk"));
    let series = server.series("modbus_holding_register_40101");
    let labels = json!({"__name__": "modbus_holding_register_40101", "device": device.target(), "group": "meters",
        "site": "plant 7", "unit": "1"});
    assert_eq!(series.iter().map(|series| &series.labels).collect::<Vec<_>>(), [&labels]);
    assert_eq!(home.quarantined(), 0);
    assert!(!server.log().contains("Out of order"), "{}", server.log());
}

#[test]
fn an_agent_that_is_killed_loses_what_was_not_on_disk_yet_and_doubles_nothing() {
    if !support::needs(&["prometheus"]) {
        return;
    }
    let (device, mut server) = (Device::counting(2), Prometheus::start());
    let home = home_of(&server, &device);
    let mut allowed = Vec::new();
    for life in 0..5 {
        let (mut agent, before) = (home.run(), arrivals(&server).len());
        if life == 3 {
            // The agent is killed while it delivers a backlog.
            server.kill();
            let polled = device.served_count();
            agent.until("a backlog", || device.served_count() > polled + 60);
            server.run();
        }
        agent.until("readings of this life", || arrivals(&server).len() > before + 20 + 7 * life);
        let killed_at = now_ms();
        agent.sigkill();
        allowed.push(killed_at - LOST_BY_A_KILL_MS..now_ms());
    }
    let (mut agent, started_at) = (home.run(), now_ms());
    agent.until("the last life", || arrivals(&server).last().is_some_and(|last| last.timestamp > started_at));
    device.set(Mode::Silent);
    let missing = || {
        let lost = judged(&device, &server).lost;
        lost.into_iter().filter(|(at, _)| !allowed.iter().any(|kill| kill.contains(at))).collect::<Vec<_>>()
    };
    agent.until("every reading that was on disk", || missing().is_empty());
    agent.stop();
    assert_eq!(missing(), []);
    judged(&device, &server).assert_true();
    assert_eq!(home.quarantined(), 0);
}

/// The power is cut before the cursor is durable: what was posted since is posted again, in other posts than before. The server
/// has it, and nobody knows how much of it.
#[test]
fn what_is_posted_again_after_a_power_cut_is_there_once() {
    if !support::needs(&["prometheus"]) {
        return;
    }
    let (device, server) = (Device::counting(3), Prometheus::start());
    let home = home_of(&server, &device);
    let mut agent = home.run();
    some_more(&mut agent, &server);
    let cursors = home.spool().join("log/cursors");
    let durable = fs::read(&cursors).unwrap();
    let before = arrivals(&server).len();
    agent.until("posts that nobody will know of", || arrivals(&server).len() > before + 200);
    let killed_at = now_ms();
    agent.sigkill();
    let allowed = killed_at - LOST_BY_A_KILL_MS..now_ms();
    fs::write(&cursors, durable).unwrap();
    let mut agent = home.run();
    agent.until("readings of the new life", || arrivals(&server).last().is_some_and(|last| last.timestamp > killed_at));
    device.set(Mode::Silent);
    let missing = || {
        let lost = judged(&device, &server).lost.into_iter();
        lost.filter(|(at, _)| !allowed.contains(at)).collect::<Vec<_>>()
    };
    agent.until("every reading that was on disk", || missing().is_empty());
    agent.stop();
    judged(&device, &server).assert_true();
    assert_eq!(home.quarantined(), 0);
    assert!(server.log().contains("out of order sample"), "the server has refused what it had");
    assert!(log(&home).contains("of before this start already"), "{}", log(&home));
}

/// Somebody else has written a later sample of one series: its readings are set aside, and cost the others nothing.
#[test]
fn a_series_that_somebody_else_writes_costs_only_itself() {
    if !support::needs(&["prometheus"]) {
        return;
    }
    let (device, server) = (Device::counting(4), Prometheus::start());
    let home = home_of(&server, &device);
    let target = device.target();
    let labels = [
        ("__name__", "modbus_input_register_30003"),
        ("device", &*target),
        ("group", "meters"),
        ("site", "plant 7"),
        ("unit", "1"),
    ];
    let mut agent = home.run();
    some_more(&mut agent, &server);
    let foreign = now_ms() + 1_800_000;
    assert_eq!(server.write(&labels, foreign, 7.0), (204, String::new()));
    agent.until("refused readings in quarantine", || home.quarantined() > 10);
    some_more(&mut agent, &server);
    device.set(Mode::Silent);
    let missing = || {
        let lost = judged(&device, &server).lost;
        lost.into_iter().filter(|(_, name)| !name.contains(" address 2 of ")).collect::<Vec<_>>()
    };
    agent.until("every reading of the others", || missing().is_empty());
    agent.until("nothing that waits", || waits(&home) == 0);
    agent.stop();
    let verdict = judged(&device, &server);
    assert!(verdict.duplicate.is_empty() && verdict.disorder.is_empty() && verdict.arrived > 100);
    assert!(!verdict.lost.is_empty() && verdict.lost.iter().all(|(_, name)| name.contains(" address 2 of ")));
    assert!(log(&home).contains("somebody else writes the same series"), "{}", log(&home));
    let told = log(&home).matches("for you to look at").count();
    assert!(told < 5, "not a line for each poll: {told}");
    // Each of them is there as text.
    let mut aside = String::new();
    for entry in fs::read_dir(home.spool().join("quarantine")).unwrap() {
        aside += &fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    let kept = aside.lines().filter(|line| line.starts_with("modbus_input_register_30003{")).count();
    assert_eq!(kept, verdict.lost.len());
}

/// The server's head is two hours ahead, so everything is too old for it: all of it is set aside at once, and promtool makes
/// blocks of that.
#[test]
fn what_is_too_old_for_the_server_is_set_aside_as_text_that_promtool_takes() {
    if !support::needs(&["prometheus", "promtool"]) {
        return;
    }
    let (device, mut server) = (Device::counting(5), Prometheus::start());
    let home = home_of(&server, &device);
    assert_eq!(server.write(&[("__name__", "up")], now_ms() + 7_200_000, 1.0), (204, String::new()));
    let mut agent = home.run();
    agent.until("readings in quarantine", || device.served_count() > 20 && home.quarantined() > 3);
    device.set(Mode::Silent);
    agent.until("nothing that waits", || waits(&home) == 0);
    agent.stop();
    assert!(log(&home).contains("it takes nothing so old; out_of_order_time_window"), "{}", log(&home));
    assert!(arrivals(&server).is_empty());
    server.kill();
    for entry in fs::read_dir(home.spool().join("quarantine")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(blocks_from(&path, &server.data()), Ok(()), "{}", path.display());
    }
    server.run();
    judged(&device, &server).assert_complete();
}

/// With a window, the server takes what is old and what comes again; what is older than that it refuses in other words.
#[test]
fn a_window_for_what_is_out_of_order_is_used() {
    if !support::needs(&["prometheus"]) {
        return;
    }
    let (device, mut server) = (Device::counting(7), Prometheus::start());
    let window = |server: &mut Prometheus, window: &str| {
        server.kill();
        server.configure(&format!("storage: {{tsdb: {{out_of_order_time_window: {window}}}}}\n"));
        server.run();
    };
    let home = home_of(&server, &device);
    window(&mut server, "1d");
    assert_eq!(server.write(&[("__name__", "up")], now_ms() + 7_200_000, 1.0), (204, String::new()));
    let mut agent = home.run();
    some_more(&mut agent, &server);
    let cursors = home.spool().join("log/cursors");
    let durable = fs::read(&cursors).unwrap();
    some_more(&mut agent, &server);
    let killed_at = now_ms();
    agent.sigkill();
    let allowed = killed_at - LOST_BY_A_KILL_MS..now_ms();
    fs::write(&cursors, durable).unwrap();
    let mut agent = home.run();
    agent.until("readings of the new life", || arrivals(&server).last().is_some_and(|last| last.timestamp > killed_at));
    device.set(Mode::Silent);
    let missing = || {
        let lost = judged(&device, &server).lost.into_iter();
        lost.filter(|(at, _)| !allowed.contains(at)).collect::<Vec<_>>()
    };
    agent.until("every reading that was on disk", || missing().is_empty());
    judged(&device, &server).assert_true();
    assert_eq!(home.quarantined(), 0);
    let before = arrivals(&server).len();
    window(&mut server, "1m");
    device.set(Mode::Answer);
    // The file is there a moment before it is told.
    agent.until("readings in quarantine, and a word of it", || {
        home.quarantined() > 0 && log(&home).contains("(it takes nothing so old; out_of_order_time_window")
    });
    agent.stop();
    assert_eq!(arrivals(&server).len(), before);
}

/// How many readings on disk wait for the server.
fn waits(home: &Home) -> usize {
    support::spool::waiting(&home.spool(), "prometheus").len()
}

#[test]
fn a_server_that_takes_no_remote_write_is_told_and_costs_nothing_but_time() {
    if !support::needs(&["prometheus"]) {
        return;
    }
    let (device, mut server) = (Device::counting(6), Prometheus::start());
    server.kill();
    server.receives = false;
    server.run();
    let home = home_of(&server, &device);
    let check = |code: i32, said: &str| {
        let finished = home.output(&["check", "--connect", "--config_dir", home.config_dir().to_str().unwrap()]);
        let output = finished.stdout.clone() + &finished.stderr;
        assert_eq!(finished.code, Some(code), "{output}");
        assert!(output.contains(&format!("output prometheus, {}: ", server.url())), "{output}");
        assert!(output.contains(said), "{output}");
    };
    check(1, "answered 404 (this is no endpoint of remote write; check url, and that Prometheus has --web.enable");
    let mut agent = home.run();
    agent.until("a line in the log", || log(&home).contains("answered 404 (this is no endpoint of remote write"));
    server.kill();
    server.receives = true;
    server.run();
    some_more(&mut agent, &server);
    everything_arrives(&mut agent, &device, &server);
    agent.stop();
    assert_eq!(home.quarantined(), 0);
    let finished = home.output(&["check", "--connect", "--config_dir", home.config_dir().to_str().unwrap()]);
    assert!(finished.code == Some(0) && finished.stdout.contains(": answers"), "{finished:?}");
}
