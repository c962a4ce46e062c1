//! The output `otlp` in the real binary: against a real VictoriaMetrics, against a real Prometheus behind a receiver, and against one
//! that takes what it is sent in part. What is in them against what the device served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use support::agent::{Agent, HOSTNAME, Home};
use support::device::{Device, Mode, Table};
use support::judge::{Arrival, Verdict, weigh};
use support::now_ms;
use support::otlp::{Receiver, Written, partly};
use support::prometheus::{Labels, Prometheus, Series};
use support::victoria::Victoria;

/// What a kill may cost: readings that are not gathered yet (50 ms), and those on their way to the disk of a busy machine.
const LOST_BY_A_KILL_MS: u64 = 50 + 1_000;

/// Nobody is there: no output is pattoo.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// An agent with no output but this one.
fn home_of(url: &str, keys: &str, device: &Device) -> Home {
    let home = Home::new(NOWHERE);
    configure(&home, url, keys, device);
    home
}

fn configure(home: &Home, url: &str, keys: &str, device: &Device) {
    home.write_config(&format!(
        "polling_interval: 100ms\nflush_interval: 20ms\nagent_hostname: {HOSTNAME}\noutputs:\n  - {{type: otlp, url: '{url}', \
         max_backoff: 1s, attributes: {{site: plant 7}}{keys}}}\npolling_groups:\n  - {{group_name: meters, ip_devices: \
         ['{}'], unit: 1, input_registers: [30001-30010], holding_registers: [40101]}}\n",
        device.target()
    ));
}

/// Where series are.
trait Database {
    /// All of the agent's, whose names begin so.
    fn all(&self, prefix: &str) -> Vec<Series>;
}

impl Database for Victoria {
    fn all(&self, prefix: &str) -> Vec<Series> {
        self.series(&format!("{{__name__=~\"{prefix}.+\",site=\"plant 7\"}}"))
    }
}

impl Database for Mutex<Prometheus> {
    fn all(&self, prefix: &str) -> Vec<Series> {
        self.lock().unwrap().series(&format!("{{__name__=~\"{prefix}.+\",site=\"plant 7\"}}"))
    }
}

/// Every reading that is there.
fn arrivals(database: &impl Database) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    for series in database.all("modbus") {
        let name = series.labels["__name__"].as_str().unwrap();
        let (table, address) = Table::of_key(&name["modbus.".len()..]).unwrap();
        let unit = series.labels["unit"].as_str().unwrap().parse().unwrap();
        for (timestamp, value) in series.samples {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what a register holds")]
            arrivals.push(Arrival { unit, table, address, word: value as u16, timestamp });
        }
    }
    arrivals.sort_by_key(|arrival| arrival.timestamp);
    arrivals
}

fn judged(device: &Device, database: &impl Database) -> Verdict {
    let mut verdict = Verdict::default();
    // Read before what was served is: no row can be older than the answer that explains it.
    let arrivals = arrivals(database);
    weigh(device, &device.served(), &arrivals, &[], &mut verdict);
    verdict
}

/// What is not there, but for what kills may cost.
fn missing(device: &Device, database: &impl Database, allowed: &[std::ops::Range<u64>]) -> Vec<(u64, String)> {
    let lost = judged(device, database).lost.into_iter();
    lost.filter(|(at, _)| !allowed.iter().any(|kill| kill.contains(at))).collect()
}

fn some_more(agent: &mut Agent, database: &impl Database) {
    let before = arrivals(database).len();
    agent.until("some more readings", || arrivals(database).len() > before + 50);
}

fn log(home: &Home) -> String {
    fs::read_to_string(home.path().join("log/pattoo.log")).unwrap_or_default()
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
    let home = home_of(&server.url(), "", &device);
    let check = |said: &str, code: i32| {
        let finished = home.output(&["check", "--connect", "--config_dir", home.config_dir().to_str().unwrap()]);
        let output = finished.stdout.clone() + &finished.stderr;
        assert!(finished.code == Some(code) && output.contains(said), "{output}");
    };
    check(": answers", 0);
    let mut agent = home.run();
    let mut allowed = Vec::new();
    for round in 0..3 {
        some_more(&mut agent, &server);
        if round == 1 {
            server.freeze();
        } else {
            server.stop();
        }
        let before = device.served_count();
        agent.until("polls that go on", || device.served_count() > before + 10);
        if round == 2 {
            check("no connection to", 1);
            let killed_at = now_ms();
            agent.sigkill();
            allowed.push(killed_at - LOST_BY_A_KILL_MS..now_ms());
            agent = home.run();
        }
        if round == 1 {
            server.thaw();
        } else {
            server.run();
        }
    }
    some_more(&mut agent, &server);
    device.set(Mode::Silent);
    agent.until("every reading in the server", || missing(&device, &server, &allowed).is_empty());
    agent.stop();
    judged(&device, &server).assert_true();
    assert_eq!((missing(&device, &server, &allowed), home.quarantined()), (vec![], 0));
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
    let home = home_of(&receiver.url(), "", &device);
    let mut agent = home.run();
    some_more(&mut agent, &*server);
    server.lock().unwrap().kill();
    let before = device.served_count();
    agent.until("polls that go on", || device.served_count() > before + 10);
    server.lock().unwrap().run();
    some_more(&mut agent, &*server);
    // The power is cut before the cursor is durable: what was posted since is posted again.
    let cursors = home.spool().join("log/cursors");
    let durable = fs::read(&cursors).unwrap();
    some_more(&mut agent, &*server);
    let killed_at = now_ms();
    agent.sigkill();
    let killed = killed_at - LOST_BY_A_KILL_MS..now_ms();
    fs::write(&cursors, durable).unwrap();
    let mut agent = home.run();
    agent
        .until("readings of the new life", || arrivals(&*server).last().is_some_and(|last| last.timestamp > killed_at));
    device.set(Mode::Silent);
    agent.until("every reading that was on disk", || {
        missing(&device, &*server, std::slice::from_ref(&killed)).is_empty()
    });
    agent.stop();
    judged(&device, &*server).assert_true();
    assert_eq!(home.quarantined(), 0);
    assert!(log(&home).contains("of before this start already"), "{}", log(&home));
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
    let home = home_of(&wrong, "", &device);
    let finished = home.output(&["check", "--connect", "--config_dir", home.config_dir().to_str().unwrap()]);
    let said = "answered 400 (nobody takes metrics by OTLP there; check url, which /v1/metrics is put behind";
    assert!(finished.code == Some(1) && (finished.stdout.clone() + &finished.stderr).contains(said), "{finished:?}");
    let mut agent = home.run();
    agent.until("a line in the log", || log(&home).contains(said));
    // The whole URL of the endpoint will do as well.
    configure(&home, &format!("{}/v1/metrics", server.url()), "", &device);
    let pid = rustix::process::Pid::from_raw(agent.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    some_more(&mut agent, &server);
    device.set(Mode::Silent);
    agent.until("every reading in the server", || judged(&device, &server).lost.is_empty());
    agent.stop();
    judged(&device, &server).assert_complete();
    assert_eq!(home.quarantined(), 0);
}

/// What it has taken, of a receiver that refuses one metric.
#[derive(Default)]
struct Shelf(Mutex<Written>);

impl Database for Shelf {
    fn all(&self, _: &str) -> Vec<Series> {
        let of = |(labels, samples): &(Labels, Vec<(u64, f64)>)| Series {
            labels: labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect(),
            samples: samples.clone(),
        };
        self.0.lock().unwrap().iter().map(of).collect()
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
    let home = home_of(&receiver.url(), "", &device);
    let mut agent = home.run();
    agent.until("refused readings in quarantine", || device.served_count() > 20 && home.quarantined() > 2);
    device.set(Mode::Silent);
    let others = || {
        let lost = judged(&device, &*shelf).lost;
        lost.into_iter().filter(|(_, name)| !name.contains(" address 2 of ")).collect::<Vec<_>>()
    };
    agent.until("every reading of the others", || others().is_empty());
    agent.until("nothing that waits", || waits(&home) == 0);
    agent.stop();
    let verdict = judged(&device, &*shelf);
    assert!(verdict.duplicate.is_empty() && verdict.disorder.is_empty());
    let said =
        "took a part of a post and refused 1 data point (which is searched for): \"unit of modbus.input_register_30003";
    assert!(log(&home).contains(said), "{}", log(&home));
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
