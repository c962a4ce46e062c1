//! The output `otlp` in the real binary: against a real VictoriaMetrics, against a real Prometheus behind a receiver, and against one
//! that takes what it is sent in part. What is in them against what the device served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use support::agent::{HOSTNAME, Home, POINTS};
use support::destination::{Destination, kill};
use support::device::Device;
use support::judge::Arrival;
use support::otlp::{Receiver, Written, partly};
use support::prometheus::{Labels, Prometheus, Series};
use support::victoria::Victoria;

/// An agent with no output but this one.
fn home_of(url: &str, device: &Device) -> Home {
    let home = Home::without_pattoo();
    configure(&home, url, device);
    home
}

fn configure(home: &Home, url: &str, device: &Device) {
    let output = format!("{{type: otlp, url: '{url}', max_backoff: 1s, attributes: {{site: plant 7}}}}");
    home.write_output(&output, &device.target(), POINTS);
}

/// The series that are the agent's.
const OURS: &str = "{__name__=~\"modbus.+\",site=\"plant 7\"}";

impl Destination for Victoria {
    fn arrivals(&self) -> Vec<Arrival> {
        arrivals(self.series(OURS))
    }
}

impl Destination for Mutex<Prometheus> {
    fn arrivals(&self) -> Vec<Arrival> {
        arrivals(self.lock().unwrap().series(OURS))
    }
}

/// Every reading of these series.
fn arrivals(all: Vec<Series>) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    for series in all {
        let key = &series.labels["__name__"].as_str().unwrap()["modbus.".len()..];
        let unit = series.labels["unit"].as_str().unwrap().parse().unwrap();
        arrivals.extend(series.samples.iter().map(|(at, value)| Arrival::new(unit, key, *value, *at).unwrap()));
    }
    arrivals.sort_by_key(|arrival| arrival.timestamp);
    arrivals
}

/// How many readings on disk wait for the server.
fn waits(home: &Home) -> usize {
    support::spool::waiting(&home.spool(), "otlp").len()
}

/// It is stopped, frozen and started again, the agent is killed meanwhile.
#[test]
fn a_real_victoria_metrics_gets_everything_once_and_in_order() {
    if !support::needs(&["victoria-metrics"]) {
        return;
    }
    let (device, mut server) = (Device::counting(1), Victoria::start());
    let home = home_of(&server.url(), &device);
    let check = |said: &str, code: i32| {
        let finished = home.output(&["check", "--connect", "--config_dir", home.config_dir().to_str().unwrap()]);
        let output = finished.stdout.clone() + &finished.stderr;
        assert!(finished.code == Some(code) && output.contains(said), "{output}");
    };
    check(": answers", 0);
    let mut agent = home.run();
    let mut kills = Vec::new();
    for round in 0..3 {
        server.gets(&mut agent, 50);
        if round == 1 {
            server.freeze();
        } else {
            server.stop();
        }
        let before = device.served_count();
        agent.until("polls that go on", || device.served_count() > before + 10);
        if round == 2 {
            check("no connection to", 1);
            kills.push(kill(&mut agent));
            agent = home.run();
        }
        if round == 1 {
            server.thaw();
        } else {
            server.run();
        }
    }
    server.gets(&mut agent, 50);
    server.gets_everything_but(&mut agent, &device, &kills);
    agent.stop();
    server.judged(&device).assert_true();
    assert_eq!((server.missing(&device, &kills), home.quarantined()), (vec![], 0));
    let series = server.series("{__name__=\"modbus.holding_register_40101\"}");
    let labels = json!({"__name__": "modbus.holding_register_40101", "device": device.target(), "group": "meters",
        "site": "plant 7", "unit": "1", "service.name": "pattoo_agent_modbustcpd", "host.name": HOSTNAME,
        "service.instance.id": home.agent_id().trim()});
    let Value::Object(found) = &series[0].labels else { panic!("{series:?}") };
    // The scope is a label too in some versions.
    let found: serde_json::Map<_, _> = found
        .iter()
        .filter(|(key, _)| !key.starts_with("scope"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    assert_eq!((series.len(), Value::Object(found)), (1, labels));
}

/// A receiver in front of a real Prometheus.
fn in_front_of(server: &Arc<Mutex<Prometheus>>) -> Receiver {
    let server = Arc::clone(server);
    Receiver::start(Box::new(move |written| {
        let (status, said) = server.lock().unwrap().write_all(written)?;
        Some((if status == 204 { 200 } else { status }, said.into_bytes()))
    }))
}

/// It refuses what is out of order, and both it and the agent are killed.
#[test]
fn a_prometheus_behind_a_receiver_gets_everything_once_and_in_order() {
    if !support::needs(&["prometheus"]) {
        return;
    }
    let (device, server) = (Device::counting(2), Arc::new(Mutex::new(Prometheus::start())));
    let receiver = in_front_of(&server);
    let home = home_of(&receiver.url(), &device);
    let mut agent = home.run();
    server.gets(&mut agent, 50);
    server.lock().unwrap().kill();
    let before = device.served_count();
    agent.until("polls that go on", || device.served_count() > before + 10);
    server.lock().unwrap().run();
    server.gets(&mut agent, 50);
    // The power is cut before the cursor is durable: what was posted since is posted again.
    let cursors = home.spool().join("log/cursors");
    let durable = fs::read(&cursors).unwrap();
    server.gets(&mut agent, 50);
    let killed = kill(&mut agent);
    fs::write(&cursors, durable).unwrap();
    let mut agent = home.run();
    server.gets_one_after(&mut agent, killed.end);
    server.gets_everything_but(&mut agent, &device, &[killed]);
    agent.stop();
    server.judged(&device).assert_true();
    assert_eq!(home.quarantined(), 0);
    assert!(home.says("of before this start already"), "{}", home.log());
    let heads = receiver.heads();
    for part in
        ["post /v1/metrics http/1.1\r\n", "content-type: application/x-protobuf\r\n", "content-encoding: gzip\r\n"]
    {
        assert!(heads.iter().any(|head| head.contains(part)), "{part} in {heads:?}");
    }
}

/// It is told, by the running agent and by `check --connect`, and costs nothing but time.
#[test]
fn a_url_where_nobody_takes_otlp_is_told_until_a_reload() {
    if !support::needs(&["victoria-metrics"]) {
        return;
    }
    let (device, server) = (Device::counting(4), Victoria::start());
    let wrong = server.url().replace("/opentelemetry", "/wrong");
    let home = home_of(&wrong, &device);
    let finished = home.output(&["check", "--connect", "--config_dir", home.config_dir().to_str().unwrap()]);
    let said = "answered 400 (nobody takes metrics by OTLP there; check url, which /v1/metrics is put behind";
    assert!(finished.code == Some(1) && (finished.stdout.clone() + &finished.stderr).contains(said), "{finished:?}");
    let mut agent = home.run();
    agent.until("a line in the log", || home.says(said));
    // The whole URL of the endpoint will do as well.
    configure(&home, &format!("{}/v1/metrics", server.url()), &device);
    agent.sighup();
    server.gets(&mut agent, 50);
    server.gets_everything(&mut agent, &device);
    agent.stop();
    server.judged(&device).assert_complete();
    assert_eq!(home.quarantined(), 0);
}

/// What it has taken, of a receiver that refuses one metric.
#[derive(Default)]
struct Shelf(Mutex<Written>);

impl Destination for Shelf {
    fn arrivals(&self) -> Vec<Arrival> {
        let of = |(labels, samples): &(Labels, Vec<(u64, f64)>)| Series {
            labels: labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect(),
            samples: samples.clone(),
        };
        arrivals(self.0.lock().unwrap().iter().map(of).collect())
    }
}

/// Its data points are told from the others, and set aside; the others arrive once each poll is sorted out.
#[test]
fn what_a_receiver_refuses_of_a_post_is_set_aside_and_costs_no_other() {
    let (device, shelf) = (Device::counting(3), Arc::new(Shelf::default()));
    let receiver = {
        let shelf = Arc::clone(&shelf);
        Receiver::start(Box::new(move |written| {
            let mut taken = shelf.0.lock().unwrap();
            let mut refused = 0;
            for (labels, samples) in written {
                if labels[0].1 == "modbus_input_register_30003" {
                    refused += i64::try_from(samples.len()).unwrap();
                    continue;
                }
                match taken.iter_mut().find(|(known, _)| known == labels) {
                    // As such receivers do, it keeps a data point that comes again once.
                    Some((_, known)) => known
                        .extend(samples.iter().filter(|sample| !known.contains(sample)).copied().collect::<Vec<_>>()),
                    None => taken.push((labels.clone(), samples.clone())),
                }
            }
            let said = if refused == 0 {
                Vec::new()
            } else {
                partly(refused, "unit of modbus.input_register_30003 is unknown")
            };
            Some((200, said))
        }))
    };
    let home = home_of(&receiver.url(), &device);
    let mut agent = home.run();
    agent.until("refused readings in quarantine", || device.served_count() > 20 && home.quarantined() > 2);
    let verdict = shelf.gets_everything_but_register(&mut agent, &device, 2);
    agent.until("nothing that waits", || waits(&home) == 0);
    agent.stop();
    let said =
        "took a part of a post and refused 1 data point (which is searched for): \"unit of modbus.input_register_30003";
    assert!(home.says(said), "{}", home.log());
    // Each of them is there, as a request that a receiver takes.
    let mut aside = 0;
    for entry in fs::read_dir(home.spool().join("quarantine")).unwrap() {
        let request: Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        for metric in request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap() {
            assert_eq!(metric["name"], "modbus.input_register_30003");
            aside += metric["gauge"]["dataPoints"].as_array().unwrap().len();
        }
    }
    assert_eq!(aside, verdict.lost.len());
}
