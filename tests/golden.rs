//! The posts that the original agent was recorded with, against those of the real binary.
//!
//! Each folder of `fixtures/golden` holds a configuration, what the devices held, and the body that the
//! original sent. The same datapoints must arrive: target, key, unit, data type, value in its number form,
//! interval, checksum; order and timestamps aside. [`CORRECTIONS`] holds what the original got wrong.
//!
//! The recorded devices listened at 127.0.0.1 to 127.0.0.5, port 502, and the address is part of a series'
//! identity: where the system keeps that port from us, the test says so and proves nothing (root may use it;
//! `sysctl net.ipv4.ip_unprivileged_port_start=502` lets everybody).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use serde_json::Value;

use support::agent::Home;
use support::device::{Device, Table, Values};
use support::server::{Database, Row, Server, checksum};

/// Where the original is wrong, and what was meant.
struct Correction {
    vector: &'static str,
    why: &'static str,
    /// `(target, unit, key, value)` that the original did not send.
    missing: &'static [(&'static str, &'static str, &'static str, f64)],
    /// `(target, key)` that it should not have sent.
    wrong: &'static [(&'static str, &'static str)],
}

const CORRECTIONS: [Correction; 3] = [
    Correction {
        vector: "04",
        why: "the original reads one holding register of a run and drops the rest",
        missing: &[
            ("127.0.0.2", "001", "holding_register_40011", 115.0),
            ("127.0.0.2", "001", "holding_register_40012", 126.0),
            ("127.0.0.3", "001", "holding_register_40011", 115.0),
            ("127.0.0.3", "001", "holding_register_40012", 126.0),
        ],
        wrong: &[],
    },
    Correction {
        vector: "06",
        why: "the original looks only at the first number of a run: an invalid one costs its neighbours, \
              and an invalid neighbour is read",
        missing: &[
            ("127.0.0.5", "000", "input_register_30001", 13.0),
            ("127.0.0.5", "000", "input_register_30002", 20.0),
            ("127.0.0.4", "000", "input_register_365535", 65_535.0),
            ("127.0.0.4", "000", "input_register_365536", 6.0),
        ],
        wrong: &[("127.0.0.4", "input_register_40000")],
    },
    Correction {
        vector: "12",
        why: "the original takes a plain string for a list of characters",
        missing: &[("0.0", "000", "input_register_30001", 13.0)],
        wrong: &[("0", "input_register_30001")],
    },
];

/// What makes a datapoint the same one.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Datapoint {
    target: String,
    unit: String,
    key: String,
    data_type: u64,
    value: String,
    interval: String,
    checksum: String,
}

impl From<&Row> for Datapoint {
    fn from(row: &Row) -> Self {
        Self {
            target: row.target.clone(),
            unit: row.unit.clone(),
            key: row.key.clone(),
            data_type: row.data_type,
            value: row.value.to_string(),
            interval: row.interval.clone(),
            checksum: row.checksum.clone(),
        }
    }
}

#[test]
fn every_recorded_post_is_reproduced() {
    let mut folders: Vec<_> =
        fs::read_dir("tests/fixtures/golden").unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    assert_eq!(folders.len(), 7);
    if let Err(error) = TcpListener::bind("127.0.0.1:502")
        && error.kind() == ErrorKind::PermissionDenied
    {
        return support::skipped(&format!("the recorded posts need port 502: {error}"));
    }
    for folder in folders {
        reproduce(&folder);
    }
}

fn reproduce(folder: &Path) {
    let vector = folder.file_name().unwrap().to_str().unwrap();
    let case = json(&folder.join("case.json"));
    let devices = devices(&json(&folder.join("registers.json")));
    let server = Server::start();
    let home = Home::new(server.address());
    let id = case["agent_id_file"].as_str().unwrap();
    home.write_agent_id(id);
    let config = fs::read_to_string(folder.join("pattoo_agent_modbustcpd.yaml")).unwrap();
    home.write_config(&format!("{config}agent_hostname: {}\n", case["hostname"].as_str().unwrap()));
    let recorded = fs::read(folder.join("body.json")).unwrap();
    let (expected, why) = expected(vector, &recorded);

    let mut agent = home.run();
    let sent = || server.database().rows().iter().map(Datapoint::from).collect::<BTreeSet<_>>();
    agent.until(&format!("the {} datapoints of vector {vector}", expected.len()), || sent().len() >= expected.len());
    agent.stop();
    let mut database = server.database();
    home.spooled().iter().for_each(|body| database.ingest(body));
    database.assert_sound();
    let sent: BTreeSet<Datapoint> = database.rows().iter().map(Datapoint::from).collect();
    let (missing, surplus): (Vec<_>, Vec<_>) =
        (expected.difference(&sent).collect(), sent.difference(&expected).collect());
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "vector {vector} ({why})\nnot sent: {missing:#?}\nsent besides: {surplus:#?}\n{}",
        agent.log(),
    );
    let top = &json_of(&recorded)["pattoo_agent_polling_interval"];
    for post in server.posts() {
        assert_eq!(&json_of(&post.body)["pattoo_agent_polling_interval"], top, "vector {vector}");
        assert_eq!(json_of(&post.body)["pattoo_agent_id"], id.trim(), "vector {vector}");
    }
    for device in devices {
        // In vector 12 two texts lead to one device, which no agent can know.
        if vector != "12" {
            assert_eq!(device.violations(), [""; 0], "vector {vector}");
        }
        assert!(device.requests().iter().all(|request| [3, 4].contains(&request.function)), "vector {vector}");
    }
}

/// The recorded datapoints, corrected; and why.
fn expected(vector: &str, recorded: &[u8]) -> (BTreeSet<Datapoint>, &'static str) {
    let mut database = Database::default();
    database.ingest(recorded);
    let mut rows = database.rows().to_vec();
    let Some(correction) = CORRECTIONS.iter().find(|correction| correction.vector == vector) else {
        return (rows.iter().map(Datapoint::from).collect(), "as recorded");
    };
    let sample = rows[0].clone();
    for (target, key) in correction.wrong {
        let before = rows.len();
        rows.retain(|row| (&*row.target, &*row.key) != (*target, *key));
        assert!(rows.len() < before, "vector {vector} has no {key} of {target} to correct");
    }
    for (target, unit, key, value) in correction.missing {
        let mut row = Row {
            target: (*target).to_owned(),
            unit: (*unit).to_owned(),
            key: (*key).to_owned(),
            value: (*value).into(),
            ..sample.clone()
        };
        row.checksum = checksum(&row);
        rows.push(row);
    }
    (rows.iter().map(Datapoint::from).collect(), correction.why)
}

/// The five recorded devices with what they held.
fn devices(registers: &Value) -> Vec<Device> {
    (1..=5)
        .map(|last| {
            let address = SocketAddr::from(([127, 0, 0, last], 502));
            let overrides = overrides(&registers["overrides"][address.ip().to_string()]);
            let values = Values::Fixed { overrides };
            let mut device = None;
            support::until(&format!("{address} to be free"), || {
                device = Device::at(address, values.clone()).ok();
                device.is_some()
            });
            device.unwrap()
        })
        .collect()
}

/// `{unit or "*": {"input" or "holding": {address: value}}}`.
fn overrides(units: &Value) -> Vec<(Option<u8>, Table, u16, u16)> {
    let mut overrides = Vec::new();
    for (unit, tables) in units.as_object().into_iter().flatten() {
        for (table, words) in tables.as_object().unwrap() {
            let table = if table == "input" { Table::Input } else { Table::Holding };
            for (address, word) in words.as_object().unwrap() {
                let word = u16::try_from(word.as_u64().unwrap()).unwrap();
                overrides.push((unit.parse().ok(), table, address.parse().unwrap(), word));
            }
        }
    }
    overrides
}

fn json(path: &Path) -> Value {
    json_of(&fs::read(path).unwrap())
}

fn json_of(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}
