//! Several outputs at once in the real binary: a database that is killed, another on this machine, a file, and a server that
//! never comes back. None costs the others anything, kills of the agent and a reload included.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::Path;

use serde_json::Value;
use support::agent::{HOSTNAME, Home};
use support::archives::{self, Kept};
use support::destination::kill;
use support::device::{Device, Mode};
use support::influxdb::InfluxDb;
use support::judge::{Arrival, Verdict, weigh};
use support::now_ms;

/// Nobody is there.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

fn configure(home: &Home, database: &InfluxDb, device: &Device, group: &str) {
    let root = home.path().display();
    home.write_config(&format!(
        "polling_interval: 100ms\nflush_interval: 20ms\nagent_hostname: {HOSTNAME}\noutputs:\n  - {{type: influxdb, url: \
         'http://{}', database: plant, max_backoff: 1s}}\n  - {{type: prometheus, url: 'http://{NOWHERE}/api/v1/write'}}\n  - \
         sqlite\n  - {{type: file, path: {root}/archive.jsonl}}\npolling_groups:\n  - {{group_name: {group}, ip_devices: \
         ['{}'], unit: 1, input_registers: [30001-30010], holding_registers: [40101]}}\n",
        database.address(),
        device.target()
    ));
}

fn in_influxdb(database: &InfluxDb) -> Vec<Arrival> {
    let rows = database.rows("plant", "modbus");
    let of_row = |row: &support::influxdb::Row| {
        let unit = row.tags["unit"].as_str().unwrap().parse().unwrap();
        let arrival =
            |(key, value): &(String, Value)| Arrival::new(unit, key, value.as_f64().unwrap(), row.at).unwrap();
        row.fields.iter().map(arrival).collect::<Vec<_>>()
    };
    rows.iter().flat_map(of_row).collect()
}

fn arrivals(kept: Vec<Kept>) -> Vec<Arrival> {
    kept.into_iter().map(|Kept { unit, key, value, at, .. }| Arrival::new(unit, &key, value, at).unwrap()).collect()
}

fn in_sqlite(home: &Home) -> Vec<Arrival> {
    arrivals(archives::in_database(&home.path().join("daemon/readings.sqlite")))
}

fn in_file(path: &Path) -> Vec<Arrival> {
    arrivals(archives::in_file(path).0)
}

fn weighed(device: &Device, arrivals: &[Arrival]) -> Verdict {
    let mut verdict = Verdict::default();
    weigh(device, &device.served(), arrivals, &[], &mut verdict);
    verdict
}

/// What was read and not lost by a kill, and is not in `arrivals`.
fn missing(device: &Device, arrivals: &[Arrival], kills: &[Range<u64>]) -> Vec<(u64, String)> {
    weighed(device, arrivals).lost_but(kills)
}

#[test]
fn one_that_is_killed_and_one_that_never_comes_back_cost_the_others_nothing() {
    if !support::needs(&["influxd"]) {
        return;
    }
    let (device, mut database) = (Device::counting(1), InfluxDb::start(false));
    database.ask("CREATE DATABASE plant");
    let home = Home::new(NOWHERE);
    configure(&home, &database, &device, "meters");
    let file = home.path().join("archive.jsonl");
    let mut kills = Vec::new();
    for life in 0..3 {
        let mut agent = home.run();
        let count = |home: &Home| (in_sqlite(home).len(), in_file(&file).len());
        let before = count(&home);
        if life > 0 {
            database.kill();
        }
        agent.until("the others to go on", || count(&home).0 > before.0 + 100 && count(&home).1 > before.1 + 100);
        if life > 0 {
            database.run();
        }
        // Another group, so that readings of two tables alternate in what waits.
        configure(&home, &database, &device, &format!("meters{life}"));
        agent.sighup();
        let before = in_influxdb(&database).len();
        agent.until("the database to follow", || in_influxdb(&database).len() > before + 100);
        kills.push(kill(&mut agent));
    }
    let (mut agent, started_at) = (home.run(), now_ms());
    agent.until("the last life", || in_file(&file).last().is_some_and(|last| last.timestamp > started_at));
    device.set(Mode::Silent);
    agent.until("everything in the database", || missing(&device, &in_influxdb(&database), &kills).is_empty());
    agent.until("everything in the one on this machine", || missing(&device, &in_sqlite(&home), &kills).is_empty());
    agent.until("everything in the file", || missing(&device, &in_file(&file), &kills).is_empty());

    let shown =
        home.output(&["spool", "show", "--format", "json", "--config_dir", home.config_dir().to_str().unwrap()]);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown.stdout));
    let waiting = |name: &str| {
        let outputs = shown["outputs"].as_array().unwrap();
        let output = outputs.iter().find(|output| output["name"] == name).unwrap_or_else(|| panic!("{shown}"));
        output["waiting"].as_u64().unwrap()
    };
    let served = u64::try_from(weighed(&device, &in_sqlite(&home)).arrived).unwrap();
    assert!(waiting("prometheus") >= served, "{shown}");
    agent.stop();

    // One group is another series in InfluxDB, so that what was read is there once all the same.
    for arrivals in [in_influxdb(&database), in_sqlite(&home), in_file(&file)] {
        let verdict = weighed(&device, &arrivals);
        assert!(verdict.arrived > 300, "{} arrived", verdict.arrived);
        verdict.assert_true();
    }
    let (_, repeats) = archives::in_file(&file);
    assert!(repeats <= kills.len(), "the file has something twice {repeats} times");
}
