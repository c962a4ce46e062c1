//! The status page of the real agent in a real browser: phone, tablet, desk and wall, light and dark, with few devices and with
//! thousands. What is looked at stands in `tests/browser/look.mjs`.
//!
//! `PATTOO_TEST_BROWSER` names the directory in which `npm install` put what that needs; `PATTOO_TEST_PICTURES` one for
//! screenshots.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use support::agent::Home;
use support::device::{Device, Table, Values};
use support::server::Server;

/// What looking takes.
const TOOLS: [&str; 3] = ["node", "chromium", "puppeteer-core"];

/// Looks at the page of an agent of which every device is asked by `more` besides the first; ends the agent.
fn look(home: &Home, device: &Device, more: &str, devices: usize) -> String {
    home.write_config(&format!(
        "status_listen: 127.0.0.1:0\nagent_hostname: gateway7.example.net\npolling_interval: 1s\nflush_interval: 100ms\n\
         devices: {{'{0}': {{name: boiler}}}}\npolling_groups:\n  - group_name: boilers\n    ip_devices: ['{0}']\n    \
         input_registers: [{{address: 30001, name: flow_temperature, unit_of_measurement: °C}}, 30002, 30003]\n{more}",
        device.target()
    ));
    let mut agent = home.run();
    agent.until("the page", || !home.pages().is_empty());
    agent.until("some polls", || device.served_count() > 3);
    let address = format!("http://{}/", home.pages()[0]);
    let pictures = std::env::var_os("PATTOO_TEST_PICTURES").unwrap_or_else(|| "-".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/look.mjs");
    let mut command = Command::new("node");
    command
        .arg(script)
        .args([&address, &devices.to_string()])
        .arg(pictures)
        .arg(support::browser().canonicalize().unwrap());
    let mut browser = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let pid = agent.id();
    writeln!(browser.stdin.take().unwrap(), "{pid}").unwrap();
    let answer = browser.wait_with_output().unwrap();
    assert!(answer.status.success(), "{answer:?}");
    let said = String::from_utf8(answer.stdout).unwrap();
    let (summary, faults) = said.split_once('\n').unwrap();
    assert!(faults.is_empty(), "{faults}");
    agent.sigkill();
    summary.to_owned()
}

#[test]
fn three_devices_are_seen_by_everybody_on_every_screen() {
    if !support::needs(&TOOLS) {
        return;
    }
    let (device, refusing) = (Device::counting(1), Device::counting(2));
    refusing.refuse(Table::Input, 1);
    let server = Server::start();
    let home = Home::new(server.address());
    let more = format!(
        "  - group_name: meters\n    ip_devices: ['{}', '127.0.0.1:1']\n    input_registers: [30001, 30002]\n",
        refusing.target()
    );
    let summary = look(&home, &device, &more, 3);
    assert!(summary.contains("1 device is down: 127.0.0.1:1"), "{summary}");
    assert!(summary.contains("1 device does not give every point"), "{summary}");
}

#[test]
fn thousands_of_devices_are_no_burden() {
    if !support::needs(&TOOLS) {
        return;
    }
    let device = Device::at("0.0.0.0:0".parse().unwrap(), Values::Counting { device: 1 }).unwrap();
    let server = Server::start();
    let home = Home::new(server.address());
    let port = device.address().port();
    // One in fifty answers.
    let name = |number: usize| {
        let port = if number.is_multiple_of(50) { port } else { 1 };
        format!("'127.9.{}.{}:{port}'", number / 250, number % 250 + 1)
    };
    let names: Vec<String> = (0..4_999).map(name).collect();
    let more = format!(
        "  - group_name: fleet\n    ip_devices: [{}]\n    polling_interval: 1h\n    input_registers: [30001]\n",
        names.join(", ")
    );
    look(&home, &device, &more, 5_000);
}
