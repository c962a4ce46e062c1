//! Readings that are lost: the word for it in log, status, metrics and exit code, in the life that lost them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;
use support::agent::{Agent, HOSTNAME, Home};
use support::device::{Device, Mode};
use support::server::Server;
use support::{PATIENCE, until};

/// The oldest post is of a few polls.
const ONE_POST: u64 = 5_000;

fn configure(home: &Home, device: &Device, more: &str) {
    home.write_config(&format!(
        "{more}polling_interval: 100ms\nflush_interval: 50ms\nagent_hostname: {HOSTNAME}\nstatus_listen: 127.0.0.1:0\n\
         polling_groups:\n  - {{ip_devices: ['{}'], input_registers: [30001-31000]}}\n",
        device.target()
    ));
}

fn status(home: &Home) -> Value {
    let directory = home.config_dir();
    let finished = home.output(&["--status", "--format", "json", "--config_dir", directory.to_str().unwrap()]);
    serde_json::from_str(&finished.stdout).unwrap_or_default()
}

fn number(status: &Value, name: &str) -> u64 {
    status["books"][name].as_u64().unwrap_or_default()
}

/// The number that stands behind `words` in the last line that has them.
fn told(agent: &Agent, words: &str) -> u64 {
    let log = agent.log();
    let line = log.lines().rfind(|line| line.contains(words)).unwrap_or_else(|| panic!("no {words:?} in:\n{log}"));
    let digits: String = line.split(words).nth(1).unwrap().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{words:?} without a number: {line}"))
}

/// What the status page says to Prometheus.
fn metrics(agent: &Agent) -> String {
    let log = agent.log();
    let address = log.split("the status page is on http://").nth(1).unwrap().split('/').next().unwrap();
    let mut page = TcpStream::connect(address).unwrap();
    page.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    page.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn what_gave_way_is_lost_in_every_place_that_tells_of_it_and_the_next_life_begins_anew() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = Home::new(server.address());
    configure(&home, &device, "cache_max_bytes: 1MB\n");
    server.stop();
    let mut agent = home.run();
    agent.until("a loss that is told", || home.says("LOST "));
    device.set(Mode::Silent);
    let mut first = status(&home);
    // One more attempt without a change: by then what was to be written is.
    until("nothing under way but the post that is tried again and again", || {
        let now = status(&home);
        if now["books"] != first["books"] {
            first = now;
            return false;
        }
        let failures = |status: &Value| status["server"]["failures"].as_u64().unwrap_or_default();
        failures(&now) > failures(&first) && number(&now, "in_memory") <= ONE_POST
    });
    let (lost, tried) = (number(&first, "lost"), number(&first, "in_memory"));
    assert!(lost > 0 && first["books"]["lost_by_reason"]["cache_max_bytes"] == lost, "{first:#}");
    assert_eq!(first["books"]["dropped"]["evicted"], lost);
    let table = home.output(&["--status", "--config_dir", home.config_dir().to_str().unwrap()]).stdout;
    assert!(table.contains(&format!("LOST     {lost} readings since the start: cache_max_bytes {lost}")), "{table}");
    let page = metrics(&agent);
    for line in ["# HELP pattoo_agent_modbus_readings_lost_total Readings LOST", &sample("cache_max_bytes", lost)] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    agent.sigterm();
    assert_eq!(agent.wait(PATIENCE), Some(1), "{}", agent.log());
    // What was evicted while it was being posted is nowhere any more.
    assert_eq!(told(&agent, "stopped; LOST "), lost + tried);
    let log = agent.log();
    let line = log.lines().find(|line| line.contains("LOST ")).unwrap();
    let path = home.spool().display().to_string();
    for said in ["the oldest in", &path, "the cache is over cache_max_bytes (1 MB)", "lost since the start"] {
        assert!(line.contains(said), "{said}: {line}");
    }

    // What was on disk is found, whatever was lost before is told no more.
    let left = told(&agent, ", on disk ");
    assert_eq!(left, number(&first, "on_disk"));
    configure(&home, &device, "");
    for killed in [true, false] {
        let mut agent = home.run();
        agent.until("the next life", || number(&status(&home), "found") > 0);
        let next = status(&home);
        assert_eq!((number(&next, "found"), number(&next, "on_disk"), number(&next, "lost")), (left, left, 0));
        assert_eq!((number(&next, "delivered"), next["books"]["dropped"]["evicted"].as_u64()), (0, Some(0)));
        assert!(metrics(&agent).contains(&format!("readings_total{{from=\"found_on_disk\"}} {left}\n")));
        if killed {
            agent.sigkill();
            continue;
        }
        server.come_back();
        agent.until("everything at the server", || server.row_count() as u64 == left);
        agent.until("everything acknowledged", || number(&status(&home), "on_disk") == 0);
        assert_eq!((number(&status(&home), "found"), number(&status(&home), "delivered")), (left, left));
        agent.stop();
        assert!(agent.log().contains("stopped; everything is delivered or on disk"));
    }
}

fn sample(reason: &str, count: u64) -> String {
    format!("pattoo_agent_modbus_readings_lost_total{{reason=\"{reason}\"}} {count}\n")
}
