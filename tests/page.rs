//! The status over HTTP, from the real agent: what browsers, Prometheus, programs and probes get.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use support::agent::{Agent, Home};
use support::device::{Device, Mode};
use support::server::Server;
use support::until;

/// An agent with a page, and one device more that nobody answers for.
fn agent(home: &Home, device: &Device) -> (Agent, SocketAddr) {
    home.write_config(&format!(
        "status_listen: 127.0.0.1:0\npolling_interval: 100ms\nflush_interval: 50ms\nagent_hostname: agent.example.net\n\
         polling_groups:\n  - ip_devices: ['{}', '127.0.0.1:1']\n    input_registers: [30001, 30002]\n",
        device.target()
    ));
    let mut agent = home.run();
    agent.until("the page", || agent_log(home).contains("the status page is on http://"));
    let log = agent_log(home);
    let address = log.split("the status page is on http://").nth(1).unwrap().split('/').next().unwrap();
    (agent, address.parse().unwrap())
}

fn agent_log(home: &Home) -> String {
    std::fs::read_to_string(home.path().join("log/pattoo.log")).unwrap_or_default()
}

/// Status line and head, and body.
fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

#[test]
fn the_page_its_numbers_and_its_probes_say_what_the_status_says() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = Home::new(server.address());
    let (mut agent, address) = agent(&home, &device);
    agent.until("readings to arrive", || server.row_count() > 4);
    agent.until("both devices polled", || get(address, "/-/ready").0.starts_with("HTTP/1.1 200"));
    assert_eq!(get(address, "/-/healthy").1, "healthy\n");

    let (head, page) = get(address, "/");
    assert!(head.contains("text/html") && head.contains("default-src 'none'"), "{head}");
    assert!(!page.contains("http://") || page.matches("http://").count() == page.matches("http://www.w3.org").count());

    let (_, json) = get(address, "/status.json");
    let status: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&status["polling"]["up"], &status["polling"]["down"]), (&1.into(), &1.into()));

    let (head, metrics) = get(address, "/metrics");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let name = |name: &str| format!("pattoo_agent_modbus_{name}");
    let up = |device: &str| metric(&metrics, &name(&format!("device_up{{device=\"{device}\"}}")));
    assert!((up(&device.target()) - 1.0).abs() < 1e-9 && up("127.0.0.1:1").abs() < 1e-9);
    assert!(metric(&metrics, &name("readings_settled_total{fate=\"delivered\"}")) > 3.0);
    assert!(metric(&metrics, &name("server_up")) > 0.5);
    assert!(metric(&metrics, &name("poll_duration_seconds_count")) > 1.0);
    assert!(metric(&metrics, &name("poll_duration_seconds_bucket{le=\"+Inf\"}")) > 1.0);
    assert!(metric(&metrics, &name("request_failures_total{kind=\"unreachable\"}")) > 0.5);
    let of = status["devices"].as_array().unwrap().iter().find(|it| it["name"] == *device.target()).unwrap();
    assert!(of["value"].is_number() && of["took"].as_f64().unwrap() > 0.0, "{of}");
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok() && line.starts_with("pattoo_agent_modbus_"), "{line}");
    }
    let families = metrics.lines().filter(|line| line.starts_with("# TYPE")).count();
    assert_eq!(families, metrics.lines().filter(|line| line.starts_with("# HELP")).count());

    device.set(Mode::Silent);
    until("the device to be down", || {
        metric(&get(address, "/metrics").1, &name(&format!("device_up{{device=\"{}\"}}", device.target()))) < 0.5
    });
    assert!(get(address, "/nothing").0.starts_with("HTTP/1.1 404"));
    agent.stop();
    assert!(!agent.log().contains("actix"), "how the page is served is nobody's business:\n{}", agent.log());
}

#[test]
fn a_taken_address_costs_the_page_and_nothing_else() {
    let (device, server) = (Device::counting(2), Server::start());
    let home = Home::new(server.address());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    home.write_config(&format!(
        "status_listen: {}\npolling_interval: 100ms\nflush_interval: 50ms\nagent_hostname: agent.example.net\n\
         polling_groups:\n  - ip_devices: ['{}']\n    input_registers: [30001]\n",
        taken.local_addr().unwrap(),
        device.target()
    ));
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 2);
    assert!(agent.log().contains("no status page: "), "{}", agent.log());
    agent.stop();
}
