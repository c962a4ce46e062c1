//! The output `influxdb` in the real binary, against a real InfluxDB: killed, without its database, with a login, with a field
//! that it refuses; what is in it against what the device served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;

use serde_json::json;
use support::agent::{Home, POINTS};
use support::destination::{Destination, kill};
use support::device::Device;
use support::influxdb::InfluxDb;
use support::judge::Arrival;
use support::now_ms;

/// An agent with no output but this one.
fn home_of(server: &InfluxDb, device: &Device, keys: &str) -> Home {
    let home = Home::without_pattoo();
    let output =
        format!("{{type: influxdb, url: 'http://{}', database: plant, max_backoff: 1s{keys}}}", server.address());
    home.write_output(&output, &device.target(), POINTS);
    home
}

impl Destination for InfluxDb {
    fn arrivals(&self) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        for row in self.rows("plant", "modbus") {
            let unit = row.tags["unit"].as_str().unwrap().parse().unwrap();
            for (key, value) in row.fields.iter().filter(|(_, value)| value.is_number()) {
                arrivals.push(Arrival::new(unit, key, value.as_f64().unwrap(), row.at).unwrap());
            }
        }
        arrivals
    }
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
        server.gets(&mut agent, 50);
        server.kill();
        let before = device.served_count();
        agent.until("polls that go on", || device.served_count() > before + 10);
        server.run();
    }
    server.gets_everything(&mut agent, &device);
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
    let mut kills = Vec::new();
    for life in 0..4 {
        let mut agent = home.run();
        server.gets(&mut agent, 20 + 7 * life);
        kills.push(kill(&mut agent));
    }
    let (mut agent, started_at) = (home.run(), now_ms());
    server.gets_one_after(&mut agent, started_at);
    server.gets_everything_but(&mut agent, &device, &kills);
    agent.stop();
    assert_eq!(server.missing(&device, &kills), []);
    server.judged(&device).assert_true();
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
    agent.until("the login to be told", || home.says("answered 401 (check username and password_file"));
    fs::write(&secret, "geheim\n").unwrap();
    agent.sighup();
    agent.until("the database to be told", || home.says("answered 404 (check url, and database"));
    server.ask("CREATE DATABASE plant");
    server.gets(&mut agent, 50);
    server.gets_everything(&mut agent, &device);
    agent.stop();
    assert!(!home.says("geheim") && !home.says("falsch"), "no secret in the log");
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
    server.gets(&mut agent, 50);
    agent.until("a refused reading in quarantine", || home.quarantined() > 0);
    server.gets(&mut agent, 50);
    server.gets_everything_but_register(&mut agent, &device, 2);
    agent.stop();
    assert!(home.says("field type conflict"), "{}", home.log());
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
