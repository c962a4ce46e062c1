//! The status over HTTP, from the real agent: what browsers, Prometheus, programs and probes get.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::agent::{Agent, Home};
use support::device::{Device, Mode};
use support::server::Server;
use support::{PATIENCE, until};

/// An agent with a page, and one device more that nobody answers for.
fn agent(home: &Home, device: &Device) -> (Agent, SocketAddr) {
    home.write_config(&format!(
        "status_listen: 127.0.0.1:0\npolling_interval: 100ms\nflush_interval: 50ms\nagent_hostname: agent.example.net\n\
         polling_groups:\n  - ip_devices: ['{}', '127.0.0.1:1']\n    input_registers: [30001, 30002]\n",
        device.target()
    ));
    let mut agent = home.run();
    agent.until("the page", || !home.pages().is_empty());
    let address = home.pages()[0];
    (agent, address)
}

/// Status line and head, and body.
fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// What is answered to these bytes, up to the end of the connection; it may be reset.
fn send(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ").or(answer.strip_prefix("HTTP/1.0 "))?.get(..3)?.parse().ok()
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
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(line.starts_with("pattoo_agent_modbus_") || line.starts_with("process_"), "{line}");
        // What has not happened has no sample.
        assert!(!line.contains("timestamp") || value.parse::<f64>().unwrap() > 1e9, "{line}");
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

/// The next poll is an hour away, and its names are not to be.
#[test]
fn other_names_are_shown_before_the_next_poll() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = Home::new(server.address());
    let configure = |name: &str| {
        home.write_config(&format!(
            "status_listen: 127.0.0.1:0\npolling_interval: 1h\nagent_hostname: agent.example.net\nreadings_in_metrics: true\n\
             devices: {{'{0}': {{name: {name}}}}}\npolling_groups:\n  - ip_devices: ['{0}']\n    input_registers: \
             [{{address: 30001, name: flow_of_{name}}}]\n",
            device.target()
        ));
    };
    configure("boiler");
    let mut agent = home.run();
    agent.until("the page", || !home.pages().is_empty());
    let address = home.pages()[0];
    agent.until("the first poll", || get(address, "/-/ready").0.starts_with("HTTP/1.1 200"));
    let requests = device.request_count();
    configure("heater");
    agent.sighup();
    let told = || ["/status.json", "/metrics"].map(|path| get(address, path).1);
    agent.until("the new names", || {
        told().iter().all(|it| it.contains("\"heater\"") && it.contains("\"flow_of_heater\""))
    });
    assert!(told().iter().all(|it| !it.contains("boiler")), "{:?}", told());
    assert_eq!(device.request_count(), requests);
    agent.stop();
}

/// A key without its place in lists: `devices[].name`.
fn keys(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                found.insert(path.clone());
                // Of these the keys are reasons.
                if !["dropped", "lost_by_reason", "failures", "unread"].contains(&&**key) {
                    keys(value, &path, found);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, &format!("{path}[]"), found)),
        _ => {}
    }
}

#[test]
fn programs_get_every_value_with_its_unit_or_why_there_is_none_and_each_key_is_documented() {
    let (device, server) = (Device::counting(1), Server::start());
    device.refuse(support::device::Table::Input, 2);
    let home = Home::new(server.address());
    let (mut agent, address) = page_of(&home, &device, "");
    home.write_config(&format!(
        "status_listen: {address}\nagent_hostname: gateway7.example.net\npolling_interval: 100ms\nflush_interval: 50ms\n\
         readings_in_metrics: true\ndevices: {{'{0}': {{name: boiler}}}}\npolling_groups:\n  - group_name: boilers\n    \
         ip_devices: ['{0}', '127.0.0.1:1']\n    input_registers:\n      - {{address: 30001, name: flow, \
         unit_of_measurement: °C, multiplier: 0.1}}\n      - {{address: 30002, values: {{1: heating}}}}\n      - 30003\n      \
         - {{address: 30002, counter: true}}\n",
        device.target()
    ));
    agent.sighup();
    let of = |status: &Value, name: &str| {
        let devices = status["devices"].as_array().unwrap();
        devices.iter().find(|device| device["name"] == name).cloned().unwrap_or_default()
    };
    let read = || serde_json::from_str::<Value>(&get(address, "/status.json").1).unwrap();
    agent.until("the refused value to be known", || {
        let boiler = of(&read(), &device.target());
        boiler["values"].as_array().is_some_and(|values| values.len() == 4 && values[3]["why"].is_string())
            && boiler["values"][0]["value"].is_number()
    });
    agent.until("the other device to be down", || of(&read(), "127.0.0.1:1")["state"] == "down");
    let status = read();
    assert_eq!(status["schema"], 1);
    let boiler = of(&status, &device.target());
    let [flow, mode, refused] = [0, 1, 3].map(|place| boiler["values"][place].clone());
    assert_eq!(
        (&flow["name"], &flow["unit_of_measurement"], &flow["why"]),
        (&"flow".into(), &"°C".into(), &Value::Null)
    );
    assert!(flow["read"].is_string() && flow["key"] == "input_register_30001" && flow["register"] == 30001, "{flow}");
    assert!(mode["value"].is_number(), "{mode}");
    assert!(refused["why"].as_str().unwrap().contains("refused") && refused["value"].is_null(), "{refused}");
    let down = of(&status, "127.0.0.1:1");
    assert!(down["values"][0]["why"].as_str().unwrap().starts_with("connection: "), "{down}");
    assert!(down["hour"].as_str().unwrap().ends_with('!') && down["groups"][0] == "boilers", "{down}");
    assert!(status["problems"][0]["text"].as_str().unwrap().contains("127.0.0.1:1"), "{status}");

    // Without values, and one device with its last hour.
    let (_, lean) = get(address, "/status.json?values=no");
    assert!(!lean.contains("\"values\""), "{lean}");
    let detail: Value =
        serde_json::from_str(&get(address, &format!("/device.json?name={}", device.target())).1).unwrap();
    assert_eq!((detail["device"]["label"].as_str(), detail["sampled_every"].as_f64()), (Some("boiler"), Some(20.0)));
    let samples = detail["device"]["values"][0]["samples"].as_array().unwrap();
    assert!(samples.len() == 180 && samples.iter().any(Value::is_number), "{detail}");
    for other in ["/device.json?name=nothing", "/device.json", "/device.json?name=%ff"] {
        assert!(get(address, other).0.starts_with("HTTP/1.1 404"), "{other}");
    }
    let log: Value = serde_json::from_str(&get(address, "/log.json").1).unwrap();
    assert!(log["lines"].as_array().unwrap().iter().any(|line| line["level"] == "WARNING"), "{log}");

    // As metrics, too; what cannot be read has no sample, and no series has two.
    let (_, metrics) = get(address, "/metrics");
    let reading = metrics.lines().filter(|line| line.starts_with("pattoo_agent_modbus_reading{")).collect::<Vec<_>>();
    assert!(reading.iter().any(|line| line.contains("name=\"flow\",unit_of_measurement=\"°C\"")), "{reading:?}");
    assert_eq!(reading.len(), 2, "{reading:?}");

    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/status-json.md")).unwrap();
    let documented: BTreeSet<&str> = document.split('`').skip(1).step_by(2).collect();
    let mut found = BTreeSet::new();
    keys(&status, "", &mut found);
    keys(&detail, "", &mut found);
    // The books of the first output, the same server again, and the device of the detail are said by a reference.
    let said = |key: &str| {
        let key = key.replace("books.", "outputs[].readings.").replace("device.", "devices[].");
        let key = if key.starts_with("server.") { format!("outputs[].{key}") } else { key };
        let inside = [
            "outputs[].server",
            "devices[].values",
            "devices[].troubles[]",
            "polling.durations",
            "polling",
            "cache",
            "clock",
        ];
        [key.clone(), format!("{key}[]"), key.replace("devices[].values[].samples", "device.values[].samples[]")]
            .iter()
            .any(|key| documented.contains(&**key))
            || inside.contains(&&*key)
            || key.starts_with("devices[].troubles[].")
            || key.starts_with("polling.durations.at_most")
    };
    let missing: Vec<_> = found.iter().filter(|key| !said(key)).collect();
    assert!(missing.is_empty(), "docs/status-json.md does not say {missing:?}");
    agent.stop();
}

/// What waited before the process started counts: an alert on the lag would be silent else, after each restart.
#[test]
fn the_lag_of_an_output_is_the_age_of_what_waits_longest_also_after_a_restart() {
    let device = Device::counting(1);
    let server = Server::start();
    let home = Home::new(server.address());
    home.write_config(&format!(
        "status_listen: 127.0.0.1:0\nagent_hostname: gateway7.example.net\npolling_interval: 100ms\nflush_interval: 50ms\n\
         outputs: [pattoo, {{type: influxdb, name: tsdb, url: \"http://127.0.0.1:1\", database: plant}}]\n\
         polling_groups:\n  - ip_devices: ['{}']\n    input_registers: [30001]\n",
        device.target()
    ));
    let begun = std::time::Instant::now();
    let mut agent = home.run();
    agent.until("some readings", || device.served_count() > 3);
    let first = begun.elapsed();
    agent.until("some more", || device.served_count() > 20);
    agent.stop();
    let mut agent = home.run();
    agent.until("the page again", || home.pages().len() == 2);
    let address = home.pages()[1];
    let read =
        |name: &str| metric(&get(address, "/metrics").1, &format!("pattoo_agent_modbus_{name}{{output=\"tsdb\"}}"));
    agent.until("an attempt", || read("output_failures_total") > 0.5);
    // Asked before the time is looked at, so that a busy machine makes it only greater.
    let waited = begun.elapsed().saturating_sub(first).as_secs_f64();
    let lag = read("output_lag_seconds");
    assert!(lag >= waited, "{lag} s of {waited} s");
    assert!(metric(&get(address, "/metrics").1, "pattoo_agent_modbus_output_lag_seconds{output=\"pattoo\"}") < lag);
    agent.stop();
}

/// Plots of days are read from the database of an output, beside the agent that writes to it.
#[test]
fn the_last_days_of_a_point_come_from_the_database() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = Home::new(server.address());
    let database = home.path().join("readings.sqlite");
    home.write_config(&format!(
        "status_listen: 127.0.0.1:0\nagent_hostname: gateway7.example.net\npolling_interval: 100ms\nflush_interval: 50ms\n\
         outputs: [{{type: sqlite, path: {}}}]\npolling_groups:\n  - ip_devices: ['{}']\n    unit: 1\n    input_registers: [30001]\n",
        database.display(),
        device.target()
    ));
    let mut agent = home.run();
    agent.until("the page", || !home.pages().is_empty());
    let address = home.pages()[0];
    let path = format!("/history.json?name={}&unit=1&key=input_register_30001&days=1", device.target());
    agent.until("readings in the plot", || {
        let (head, body) = get(address, &path);
        let samples = serde_json::from_str::<Value>(&body).unwrap_or_default()["samples"].clone();
        head.starts_with("HTTP/1.1 200")
            && samples.as_array().is_some_and(|all| all.len() == 480 && all[479].is_number())
    });
    let status: Value = serde_json::from_str(&get(address, "/status.json").1).unwrap();
    assert_eq!(status["has_history"], true);
    for other in ["/history.json", "/history.json?name=x&unit=300&key=y&days=1"] {
        assert!(get(address, other).0.starts_with("HTTP/1.1 404"), "{other}");
    }
    agent.stop();
}

/// Every metric that an alert or the dashboard looks at is one that the agent has.
#[test]
fn alerts_and_dashboard_know_the_metrics_of_the_agent() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = Home::new(server.address());
    let (mut agent, address) = agent(&home, &device);
    agent.until("readings to arrive", || server.row_count() > 4);
    let (_, metrics) = get(address, "/metrics");
    let known: BTreeSet<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for file in ["setup/prometheus/alerts.yaml", "setup/prometheus/alerts_test.yaml", "setup/grafana/dashboard.json"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let named: BTreeSet<&str> =
            words.filter(|word| word.starts_with("pattoo_agent_modbus_") || word.starts_with("process_")).collect();
        assert!(named.len() > 5, "{file}");
        for name in named {
            let family = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(known.contains(family) || family == "pattoo_agent_modbustcpd", "{file} looks at {name}");
        }
    }
    agent.stop();
    if support::needs(&["promtool"]) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("setup/prometheus");
        let tested = std::process::Command::new("promtool")
            .args(["test", "rules", "alerts_test.yaml"])
            .current_dir(directory)
            .output();
        let tested = tested.unwrap();
        assert!(tested.status.success(), "{tested:?}");
    }
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

/// An agent whose page, with this many devices, is being served.
fn page_of(home: &Home, device: &Device, more: &str) -> (Agent, SocketAddr) {
    home.write_config(&format!(
        "status_listen: 127.0.0.1:0\nstatus_hosts: [status.example.com]\nagent_hostname: gateway7.example.net\n\
         polling_interval: 1h\npolling_groups:\n  - ip_devices: ['{}']\n    input_registers: [30001]\n{more}",
        device.target()
    ));
    let mut agent = home.run();
    agent.until("the page", || !home.pages().is_empty());
    let address = home.pages()[0];
    (agent, address)
}

/// C3: a web page of somebody else, whose name points here, reads nothing; whoever asks by address does.
#[test]
fn only_known_names_are_answered_only_reading_is_allowed_and_browsers_are_told_what_they_may() {
    let (device, server) = (Device::counting(3), Server::start());
    let home = Home::new(server.address());
    let (mut agent, address) = page_of(&home, &device, "");
    let ask = |method: &str, path: &str, host: &str| {
        send(address, format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
    };
    let paths = ["/", "/status.json", "/metrics", "/-/healthy", "/-/ready", "/nothing"];
    let own = address.to_string();
    for path in paths {
        for host in
            [&own, "localhost:20204", "[::1]:20204", "gateway7.example.net", "GATEWAY7:80", "status.example.com"]
        {
            let expected: &[Option<u16>] = if path == "/nothing" { &[Some(404)] } else { &[Some(200), Some(503)] };
            let answer = ask("GET", path, host);
            assert!(expected.contains(&status(&answer)), "{host} {path}: {answer}");
        }
        for host in
            ["rebind.example.org", "rebind.example.org:20204", "", "localhost.example.org", "gateway7.example.org"]
        {
            let answer = ask("GET", path, host);
            assert!([Some(421), Some(400)].contains(&status(&answer)), "{host:?} {path}: {answer}");
            assert!(!answer.contains("agent_id") && !answer.contains("<html"), "{answer}");
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
            let answer = ask(method, path, &own);
            assert_eq!(status(&answer), Some(405), "{method} {path}: {answer}");
            assert!(answer.to_lowercase().contains("allow: get, head"), "{answer}");
        }
        // The same head, and nothing behind it.
        let [get, head] = ["GET", "HEAD"].map(|method| ask(method, path, &own));
        let shape = |answer: &str| {
            let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
            let mut lines: Vec<String> =
                head.lines().filter(|line| !line.starts_with("date:")).map(str::to_owned).collect();
            // The status says what time it is.
            lines.iter_mut().filter(|line| line.starts_with("content-length")).for_each(|line| line.truncate(15));
            lines.sort();
            lines
        };
        assert_eq!(shape(&get), shape(&head), "{path}");
        assert!(head.ends_with("\r\n\r\n") && get.len() > head.len(), "{path}: {head}");
        for line in [
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(shape(&get).iter().any(|found| found == line), "{line}: {get:.900}");
        }
        let policy = shape(&get).into_iter().find(|line| line.starts_with("content-security-policy:")).unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    for request in [
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {own}\r\nHost: rebind.example.org\r\n\r\n"),
        format!("GET http://rebind.example.org/ HTTP/1.1\r\nHost: {own}\r\n\r\n"),
        "GET / HTTP/1.0\r\nHost: rebind.example.org\r\n\r\n".to_owned(),
    ] {
        let answer = send(address, request.as_bytes());
        assert!([Some(421), Some(400)].contains(&status(&answer)), "{request}: {answer}");
    }
    assert_eq!(status(&send(address, b"GET /-/healthy HTTP/1.0\r\n\r\n")), Some(200), "an old probe");
    agent.stop();
}

/// C1: whatever clients send, the log says nothing of it, and what is asked rightly is answered as before.
#[test]
fn malformed_requests_cost_no_line_of_the_log() {
    let (device, server) = (Device::counting(4), Server::start());
    let home = Home::new(server.address());
    let (mut agent, address) = page_of(&home, &device, "");
    agent.until("the first poll", || get(address, "/-/ready").0.starts_with("HTTP/1.1 200"));
    // Files of the log are opened when they are needed first.
    agent.until("the reading delivered", || server.row_count() > 0 && home.spooled().is_empty());
    let before = home.log().lines().count();
    let id = agent.id();
    let open = || std::fs::read_dir(format!("/proc/{id}/fd")).unwrap().count();
    let descriptors = open();
    let long = format!("GET /{} HTTP/1.1\r\nHost: {address}\r\n\r\n", "x".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\nHost: {address}\r\n{}\r\n", "x: y\r\n".repeat(5_000));
    let pipelined = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").repeat(2_000);
    let host = format!("Host: {address}\r\n");
    let malformed: Vec<Vec<u8>> = [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01",
        "\r\n\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/1.1\r\nHost\r\n\r\n",
        "GET / HTTP/1.1\r\n: x\r\n\r\n",
        &long,
        &many,
        &pipelined,
        &format!("POST / HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\n"),
        &format!("POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\nx"),
        &format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        &format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\nx"),
        &format!("GET / HTTP/1.1\r\n{host}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n\x01\x02"),
        &format!("GET / HTTP/1.1\r\n{host}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n"),
        &format!("GET /%zz/../../etc/passwd HTTP/1.1\r\n{host}\r\n"),
        &format!("POST / HTTP/1.1\r\n{host}Content-Length: 100000\r\n\r\nx"),
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([vec![0xff; 100_000], b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n".to_vec()])
    .collect();
    for request in &malformed {
        for whole in [true, false] {
            for _ in 0..5 {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(request).ok();
                if whole {
                    stream.shutdown(std::net::Shutdown::Write).ok();
                    stream.read_to_end(&mut Vec::new()).ok();
                }
                // Else it is gone before the answer.
            }
        }
    }
    assert_eq!(get(address, "/-/healthy").1, "healthy\n");
    agent.until("the descriptors to be given back", || open() <= descriptors);
    agent.stop();
    let told = home.log();
    let more: Vec<&str> = told.lines().skip(before).filter(|line| !line.contains("pattoo_agent_modbustcpd")).collect();
    assert!(more.iter().all(|line| !line.contains("actix") && !line.contains("- ERROR -")), "{more:#?}");
    assert!(more.len() < 20, "{} lines for {} requests: {more:#?}", more.len(), 10 * malformed.len());
}

/// C2: clients that read nothing, send nothing, or half of something, keep no probe waiting, and none stays.
#[test]
fn a_probe_gets_through_however_many_hold_a_connection_and_none_holds_it_for_long() {
    let (device, server) = (Device::counting(5), Server::start());
    let home = Home::new(server.address());
    // So many devices that an answer fills what the system buffers.
    let names: Vec<String> =
        (0..20_000).map(|number| format!("127.9.{}.{}:1", number / 250, number % 250 + 1)).collect();
    let more =
        format!("  - ip_devices: [{}]\n    unit: 1\n    polling_interval: 49days\n    coils: [1]\n", names.join(", "));
    let (mut agent, address) = page_of(&home, &device, &more);
    let pipelined = format!("GET /status.json HTTP/1.1\r\nHost: {address}\r\n\r\n").repeat(500);
    let half = format!("GET /status.json HTTP/1.1\r\nHost: {address}\r\nX-Slow: ");
    let body = format!("POST / HTTP/1.1\r\nHost: {address}\r\nContent-Length: 1000000\r\n\r\nx");
    let mut held = Vec::new();
    for kind in [&*pipelined, &half, "", &body] {
        for _ in 0..64 {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            stream.write_all(kind.as_bytes()).ok();
            held.push(stream);
        }
        // The client's own patience: a probe's is seldom longer.
        let mut probe = TcpStream::connect(address).unwrap();
        probe.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(probe, "GET /-/healthy HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut answer = String::new();
        probe.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("healthy\n"), "{answer}");
    }
    // Each of them finds its end, which none of them asked for; what the system had buffered comes before.
    for mut stream in held {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let ended = stream.read_to_end(&mut Vec::new());
        assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "one was held for ever");
    }
    // So many devices take an unoptimized build longer to stop than it has; that is not what is asked here.
    assert!(agent.is_running());
    agent.sigkill();
}
