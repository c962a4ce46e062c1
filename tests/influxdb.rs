//! The output `influxdb` in the real binary, against a real InfluxDB: killed, without its database, with a login, with a field
//! that it refuses; what is in it against what the device served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::net::SocketAddr;

use serde_json::json;
use support::agent::{Agent, HOSTNAME, Home};
use support::device::{Device, Mode, Table};
use support::influxdb::InfluxDb;
use support::judge::{Arrival, Verdict, weigh};
use support::now_ms;

/// What a kill may cost: readings that are not gathered yet (50 ms), and those on their way to the disk of a busy machine.
const LOST_BY_A_KILL_MS: u64 = 50 + 1_000;

/// Nobody is there: no output is pattoo.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// An agent with no output but this one.
fn home_of(server: &InfluxDb, device: &Device, keys: &str) -> Home {
    let home = Home::new(NOWHERE);
    configure(&home, server, device, keys);
    home
}

fn configure(home: &Home, server: &InfluxDb, device: &Device, keys: &str) {
    home.write_config(&format!(
        "polling_interval: 100ms\nflush_interval: 20ms\nagent_hostname: {HOSTNAME}\noutputs:\n  - {{type: influxdb, url: \
         'http://{}', database: plant, max_backoff: 1s{keys}}}\npolling_groups:\n  - {{group_name: meters, ip_devices: \
         ['{}'], unit: 1, input_registers: [30001-30010], holding_registers: [40101]}}\n",
        server.address(),
        device.target()
    ));
}

/// Every reading that is there, in order of time.
fn arrivals(server: &InfluxDb) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    for row in server.rows("plant", "modbus") {
        let unit = row.tags["unit"].as_str().unwrap().parse().unwrap();
        for (key, value) in row.fields.iter().filter(|(_, value)| value.is_number()) {
            let (table, address) = Table::of_key(key).unwrap();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what a register holds")]
            let word = value.as_f64().unwrap() as u16;
            arrivals.push(Arrival { unit, table, address, word, timestamp: row.at });
        }
    }
    arrivals
}

fn judged(device: &Device, server: &InfluxDb) -> Verdict {
    let mut verdict = Verdict::default();
    // Read before what was served is: no row can be older than the answer that explains it.
    let arrivals = arrivals(server);
    weigh(device, &device.served(), &arrivals, &[], &mut verdict);
    verdict
}

/// Lets what was served arrive; nothing more comes.
fn everything_arrives(agent: &mut Agent, device: &Device, server: &InfluxDb) {
    device.set(Mode::Silent);
    agent.until("every reading in the database", || judged(device, server).lost.is_empty());
    judged(device, server).assert_complete();
}

fn some_more(agent: &mut Agent, server: &InfluxDb) {
    let before = arrivals(server).len();
    agent.until("some more readings", || arrivals(server).len() > before + 50);
}

fn log(home: &Home) -> String {
    fs::read_to_string(home.path().join("log/pattoo.log")).unwrap_or_default()
}

#[test]
fn a_server_that_is_killed_again_and_again_gets_everything_once_and_in_order() {
    if !support::needs(&["influxd"]) {
        return;
    }
    let (device, mut server) = (Device::counting(1), InfluxDb::start(false));
    server.ask("CREATE DATABASE plant");
    let home = home_of(&server, &device, "");
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
    let rows = server.rows("plant", "modbus");
    let tags = &rows[0].tags;
    assert_eq!(tags, &json!({"device": device.target(), "group": "meters", "unit": "1"}));
    assert!(rows.iter().any(|row| row.fields.len() > 5), "a line has a field for each point of an instant");
}

#[test]
fn an_agent_that_is_killed_loses_what_was_not_on_disk_yet_and_doubles_nothing() {
    if !support::needs(&["influxd"]) {
        return;
    }
    let (device, server) = (Device::counting(2), InfluxDb::start(false));
    server.ask("CREATE DATABASE plant");
    let home = home_of(&server, &device, ", gzip: false, integers: true");
    let mut allowed = Vec::new();
    for life in 0..4 {
        let (mut agent, before) = (home.run(), arrivals(&server).len());
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
}

/// The database is missing, then the login is wrong: nothing is dropped, a person is told what to do, and a reload mends it.
#[test]
fn what_is_about_us_is_told_and_costs_nothing_but_time() {
    if !support::needs(&["influxd"]) {
        return;
    }
    let (device, server) = (Device::counting(3), InfluxDb::start(true));
    let mut home = home_of(&server, &device, ", username: admin, password_file: influxdb.password");
    // As systemd hands it to a service, by LoadCredential=.
    let credentials = home.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    home.set_variable("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap());
    let secret = credentials.join("influxdb.password");
    fs::write(&secret, "falsch\n").unwrap();
    let mut agent = home.run();
    agent.until("the login to be told", || log(&home).contains("answered 401 (check username and password_file"));
    fs::write(&secret, "geheim\n").unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(agent.id().cast_signed()).unwrap(),
        rustix::process::Signal::HUP,
    )
    .unwrap();
    agent.until("the database to be told", || log(&home).contains("answered 404 (check url, and database"));
    server.ask("CREATE DATABASE plant");
    some_more(&mut agent, &server);
    everything_arrives(&mut agent, &device, &server);
    agent.stop();
    assert!(!log(&home).contains("geheim") && !log(&home).contains("falsch"), "no secret in the log");
    assert_eq!(home.quarantined(), 0);
}

/// One field was of another type before: its readings are set aside and counted, every other one arrives at once.
#[test]
fn a_field_that_the_server_refuses_costs_only_itself() {
    if !support::needs(&["influxd"]) {
        return;
    }
    let (device, server) = (Device::counting(4), InfluxDb::start(false));
    server.ask("CREATE DATABASE plant");
    let tags = format!("device={},group=meters,unit=1", device.target());
    // In the shard of today: elsewhere the type may be another one.
    server.write("plant", &format!("modbus,{tags} input_register_30003=\"text\" {}", now_ms()));
    let home = home_of(&server, &device, "");
    let mut agent = home.run();
    some_more(&mut agent, &server);
    agent.until("a refused reading in quarantine", || home.quarantined() > 0);
    some_more(&mut agent, &server);
    device.set(Mode::Silent);
    let missing = || {
        let lost = judged(&device, &server).lost;
        lost.into_iter().filter(|(_, name)| !name.contains(" address 2 of ")).collect::<Vec<_>>()
    };
    agent.until("every reading of the others", || missing().is_empty());
    agent.stop();
    let verdict = judged(&device, &server);
    assert!(verdict.duplicate.is_empty() && verdict.disorder.is_empty() && verdict.misattributed.is_empty());
    assert!(verdict.arrived > 100 && !verdict.lost.is_empty());
    assert!(log(&home).contains("field type conflict"), "{}", log(&home));
}

#[test]
fn check_asks_the_server_whether_it_would_take_readings_and_gives_it_none() {
    if !support::needs(&["influxd"]) {
        return;
    }
    let (device, mut server) = (Device::counting(5), InfluxDb::start(false));
    let home = home_of(&server, &device, "");
    let check = |code: i32, said: &str| {
        let finished = home.output(&["check", "--connect", "--config_dir", home.config_dir().to_str().unwrap()]);
        let output = finished.stdout.clone() + &finished.stderr;
        assert_eq!(finished.code, Some(code), "{output}");
        assert!(output.contains(&format!("output influxdb, http://{}: ", server.address())), "{output}");
        assert!(output.contains(said), "{output}");
    };
    check(1, "answered 404 (check url, and database, or org and bucket)");
    server.ask("CREATE DATABASE plant");
    check(0, ": answers");
    assert!(server.rows("plant", "modbus").is_empty());
    server.kill();
    let finished = home.output(&["check", "--connect", "--config_dir", home.config_dir().to_str().unwrap()]);
    assert!(finished.code == Some(1) && finished.stderr.contains("Connection refused"), "{}", finished.stderr);
    assert_eq!(device.request_count(), 0);
}
