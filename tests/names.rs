//! Names, units of measurement, tags and texts, from the configuration to everything that shows them, by the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};
use support::agent::{HOSTNAME, Home};
use support::device::{Device, Mode, Table, Values};
use support::server::Server;

/// The body of the answer.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// In the log, in `--status`, on the page, in the metrics, in a file; and before the pattoo server as if it had no name.
#[test]
fn what_is_named_goes_by_its_name_wherever_it_is_shown() {
    let overrides = [(0, 1), (1, 230)].map(|(address, word)| (None, Table::Holding, address, word)).to_vec();
    let device = Device::at("127.0.0.1:0".parse().unwrap(), Values::Fixed { overrides }).unwrap();
    device.refuse(Table::Holding, 2);
    let server = Server::start();
    let home = Home::new(server.address());
    let (file, target) = (home.path().join("readings.jsonl"), device.target());
    let config = format!(
        "status_listen: 127.0.0.1:0\npolling_interval: 100ms\nflush_interval: 50ms\nagent_hostname: {HOSTNAME}\n\
         outputs: [pattoo, {{type: file, path: {}}}]\ndevice_defaults: {{response_timeout: 500ms, tags: {{site: plant, hall: 1}}}}\n\
         devices: {{'{target}': {{name: boiler, tags: {{hall: 3}}}}}}\npolling_groups:\n  \
         - ip_devices: ['{target}']\n    unit: 1\n    tags: {{site: north, pipe: x}}\n    holding_registers:\n      \
         - {{address: 40001, name: mode, values: {{0: off, 1: heating}}, tags: {{pipe: supply}}}}\n      \
         - {{address: 40002, name: voltage, unit_of_measurement: V}}\n      \
         - {{address: 40003, name: flow}}\n",
        file.display()
    );
    home.write_config(&config);
    let called = format!("boiler ({target})");
    let mut agent = home.run();
    let refused = format!("{called}: unit 1 refuses holding registers 40003 (flow): ");
    agent.until("the refused register", || home.says(&refused));

    let lines = || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    agent.until("lines of two points", || lines().len() > 2);
    let line = |name: &str| lines().into_iter().find(|line| line["name"] == name).unwrap();
    let (mode, voltage) = (line("mode"), line("voltage"));
    assert_eq!(
        (&mode["device"], &mode["device_name"], &mode["text"]),
        (&json!(target), &json!("boiler"), &json!("heating"))
    );
    assert_eq!(mode["tags"], json!({"hall": "3", "pipe": "supply", "site": "north"}));
    assert_eq!((&voltage["unit_of_measurement"], &voltage["text"]), (&json!("V"), &Value::Null));
    assert_eq!(voltage["tags"], json!({"hall": "3", "pipe": "x", "site": "north"}));

    let status = home.output(&["--status", "--config_dir", home.config_dir().to_str().unwrap()]);
    let row = status.stdout.lines().find(|line| line.starts_with(&called));
    assert!(row.is_some_and(|row| row.contains("(flow)")), "{}", status.stdout);
    agent.until("the page", || !home.pages().is_empty());
    let address = &home.pages()[0].to_string();
    let names = || {
        let json: Value = serde_json::from_str(&get(address, "/status.json")).unwrap();
        ["name", "label", "value_name"].map(|key| json["devices"][0][key].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(names(), [&*target, "boiler", "mode"]);
    let info = format!("pattoo_agent_modbus_device_info{{device=\"{target}\",name=\"boiler\"}} 1\n");
    let metrics = get(address, "/metrics");
    assert!(metrics.contains(&info), "{metrics}");
    // The page shows it; tests/browser.rs looks at that.
    assert!(get(address, "/page.js").contains("device.label"));

    home.write_config(&config.replace("name: boiler", "name: heater").replace("name: mode", "name: state"));
    agent.sighup();
    agent.until("the new names", || names() == [&*target, "heater", "state"]);
    assert_eq!(device.connections(), 1, "{}", agent.log());
    device.set(Mode::Silent);
    agent.until("a line about the device", || home.says(&format!("heater ({target}): ")));

    agent.until("rows", || server.row_count() > 2);
    agent.stop();
    server.database().assert_sound();
    let rows = server.database().rows().to_vec();
    let series: BTreeSet<_> = rows.iter().map(|row| (&row.target, &row.key, &row.checksum)).collect();
    assert_eq!(series.len(), 2, "{series:?}");
}
