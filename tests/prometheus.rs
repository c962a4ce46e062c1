//! The output `prometheus` in the real binary, against a real Prometheus: both are killed, the cursor is lost, the server has
//! something newer; what is in it against what the device served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;

use serde_json::json;
use support::agent::{Home, POINTS};
use support::destination::{Destination, kill};
use support::device::{Device, Mode};
use support::judge::Arrival;
use support::now_ms;
use support::prometheus::{Prometheus, blocks_from};

/// An agent with no output but this one.
fn home_of(server: &Prometheus, device: &Device) -> Home {
    let home = Home::without_pattoo();
    let output = format!("{{type: prometheus, url: '{}', max_backoff: 1s, labels: {{site: plant 7}}}}", server.url());
    home.write_output(&output, &device.target(), POINTS);
    home
}

impl Destination for Prometheus {
    fn arrivals(&self) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        for series in self.series("{__name__=~\"modbus_.+\",site=\"plant 7\"}") {
            let key = series.labels["__name__"].as_str().unwrap().strip_prefix("modbus_").unwrap();
            let unit = series.labels["unit"].as_str().unwrap().parse().unwrap();
            let arrived = series.samples.iter().map(|(at, value)| Arrival::new(unit, key, *value, *at).unwrap());
            arrivals.extend(arrived);
        }
        arrivals.sort_by_key(|arrival| arrival.timestamp);
        arrivals
    }
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
        server.gets(&mut agent, 50);
        server.kill();
        let before = device.served_count();
        agent.until("polls that go on", || device.served_count() > before + 10);
        server.run();
    }
    server.gets_everything(&mut agent, &device);
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
    let mut kills = Vec::new();
    for life in 0..5 {
        let mut agent = home.run();
        let before = server.arrivals().len();
        if life == 3 {
            // The agent is killed while it delivers a backlog.
            server.kill();
            let polled = device.served_count();
            agent.until("a backlog", || device.served_count() > polled + 60);
            server.run();
        }
        agent.until("readings of this life", || server.arrivals().len() > before + 20 + 7 * life);
        kills.push(kill(&mut agent));
    }
    let (mut agent, started_at) = (home.run(), now_ms());
    server.gets_one_after(&mut agent, started_at);
    server.gets_everything_but(&mut agent, &device, &kills);
    agent.stop();
    assert_eq!(server.missing(&device, &kills), []);
    server.judged(&device).assert_true();
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
    server.gets(&mut agent, 50);
    let cursors = home.spool().join("log/cursors");
    let durable = fs::read(&cursors).unwrap();
    // Posts that nobody will know of.
    server.gets(&mut agent, 200);
    let killed = kill(&mut agent);
    fs::write(&cursors, durable).unwrap();
    let mut agent = home.run();
    server.gets_one_after(&mut agent, killed.end);
    server.gets_everything_but(&mut agent, &device, &[killed]);
    agent.stop();
    server.judged(&device).assert_true();
    assert_eq!(home.quarantined(), 0);
    assert!(server.log().contains("out of order sample"), "the server has refused what it had");
    assert!(home.says("of before this start already"), "{}", home.log());
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
    server.gets(&mut agent, 50);
    let foreign = now_ms() + 1_800_000;
    assert_eq!(server.write(&labels, foreign, 7.0), (204, String::new()));
    agent.until("refused readings in quarantine", || home.quarantined() > 10);
    server.gets(&mut agent, 50);
    let verdict = server.gets_everything_but_register(&mut agent, &device, 2);
    agent.until("nothing that waits", || waits(&home) == 0);
    agent.stop();
    assert!(home.says("somebody else writes the same series"), "{}", home.log());
    let told = home.log().matches("for you to look at").count();
    assert!(told < 5, "not a line for each poll: {told}");
    // Each of them is there as text.
    assert_eq!(set_aside(&home, "modbus_input_register_30003{"), verdict.lost.len());
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
    // What was read last waits nowhere yet.
    agent.until("everything in quarantine", || set_aside(&home, "modbus_") == server.judged(&device).served);
    agent.stop();
    assert!(home.says("it takes nothing so old; out_of_order_time_window"), "{}", home.log());
    assert!(server.arrivals().is_empty());
    server.kill();
    for entry in fs::read_dir(home.spool().join("quarantine")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(blocks_from(&path, &server.data()), Ok(()), "{}", path.display());
    }
    server.run();
    server.judged(&device).assert_complete();
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
    server.gets(&mut agent, 50);
    let cursors = home.spool().join("log/cursors");
    let durable = fs::read(&cursors).unwrap();
    server.gets(&mut agent, 50);
    let killed = kill(&mut agent);
    fs::write(&cursors, durable).unwrap();
    let mut agent = home.run();
    server.gets_one_after(&mut agent, killed.end);
    server.gets_everything_but(&mut agent, &device, &[killed]);
    assert_eq!(home.quarantined(), 0);
    let before = server.arrivals().len();
    window(&mut server, "1m");
    device.set(Mode::Answer);
    // The file is there a moment before it is told.
    agent.until("readings in quarantine, and a word of it", || {
        home.quarantined() > 0 && home.says("(it takes nothing so old; out_of_order_time_window")
    });
    agent.stop();
    assert_eq!(server.arrivals().len(), before);
}

/// How many readings are in quarantine, of series that begin so.
fn set_aside(home: &Home, series: &str) -> usize {
    let files = fs::read_dir(home.spool().join("quarantine")).into_iter().flatten();
    // One that is being written has another name a moment later.
    let texts = files.filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok());
    texts.map(|text| text.lines().filter(|line| line.starts_with(series)).count()).sum()
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
    agent.until("a line in the log", || home.says("answered 404 (this is no endpoint of remote write"));
    server.kill();
    server.receives = true;
    server.run();
    server.gets(&mut agent, 50);
    server.gets_everything(&mut agent, &device);
    agent.stop();
    assert_eq!(home.quarantined(), 0);
    let finished = home.output(&["check", "--connect", "--config_dir", home.config_dir().to_str().unwrap()]);
    assert!(finished.code == Some(0) && finished.stdout.contains(": answers"), "{finished:?}");
}
