//! For tests: the policy of a delivery with the posts of this room, against a server that keeps the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::encode::PattooEncode;
use super::identity::AgentId;
use super::server_rules::{Datapoint, datapoints};
use crate::outputs::delivery::{Delivery, Next, Progress, Run};
use crate::outputs::{Failure, Verdict};
use crate::reading::points::{Builder, Device, Kind, PointTable, Register};
use crate::reading::{PointId, Reading, Timestamp, Value};
use crate::shard::Shard;
use crate::spool::job::{OldBatch, OldName};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_123);

fn table(points: u32) -> Arc<PointTable> {
    let mut builder = Builder::new(&"4c".repeat(32), "plant-7", Duration::from_secs(10));
    let device = Device::new("192.0.2.20", 1, "g", 10_000);
    for number in (30_001..).take(points as usize) {
        let key = format!("input_register_{number}");
        builder.push(&device, &Register::new(&key, "input_register", number, Kind::Integer));
    }
    Arc::new(builder.build())
}

fn polls(points: u32, polls: u32) -> Vec<Reading> {
    let reading = |poll, point| Reading {
        point: PointId(point),
        at: NOW.after(Duration::from_secs(10) * poll),
        value: Value::Float(f64::from(poll * 1_000 + point)),
    };
    (0..polls).flat_map(|poll| (0..points).map(move |point| reading(poll, point))).collect()
}

fn delivery() -> Delivery {
    let encode = PattooEncode::new(AgentId::from_bytes([0x4c; 32]), Shard::default());
    Delivery::new(Box::new(encode), Duration::from_secs(60), Timestamp::default())
}

/// What a server holds, and what lies in quarantine.
#[derive(Default)]
struct Found {
    server: Vec<Datapoint>,
    quarantine: Vec<Datapoint>,
    progress: Progress,
    posts: usize,
}

/// Delivers all that is loaded to a server that never takes the series of this key.
fn deliver(delivery: &mut Delivery, refused: &str) -> Found {
    let (mut found, mut now, mut stamps) = (Found::default(), Duration::from_secs(100), BTreeSet::new());
    loop {
        match delivery.next(now) {
            Next::Empty => {
                found.progress = delivery.progress();
                return found;
            }
            Next::Wait(until) => now = until,
            Next::SetAside { body, .. } => {
                found.quarantine.extend(datapoints(&body));
                delivery.set_aside();
            }
            Next::Post { body, .. } => {
                found.posts += 1;
                let rows = datapoints(&body);
                let is_poison = rows.iter().any(|row| row["pattoo_key"] == refused);
                let result = if is_poison { Err(Failure::new(Verdict::RefusedBody, "refused", "")) } else { Ok(()) };
                if result.is_ok() {
                    assert!(stamps.insert(delivery.stamp()), "each post has a stamp of its own");
                    assert_eq!(stamps.last(), Some(&delivery.stamp()));
                    found.server.extend(rows);
                }
                delivery.answered(&result, now, 0.5);
            }
        }
    }
}

/// What the server keeps: of each series only what is newer than what it has (G1).
fn kept(rows: &[Datapoint]) -> usize {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let newer = |row: &&Datapoint| {
        let at = row["pattoo_timestamp"].as_u64().unwrap();
        let last = last.entry(row["pattoo_checksum"].to_string()).or_default();
        std::mem::replace(last, at.max(*last)) < at
    };
    rows.iter().filter(newer).count()
}

#[test]
fn a_backlog_lands_whole_in_few_posts() {
    let mut delivery = delivery();
    delivery.load(vec![Run { table: table(100), readings: polls(100, 120) }]);
    let found = deliver(&mut delivery, "none");
    assert_eq!((found.server.len(), kept(&found.server)), (12_000, 12_000));
    assert!(found.posts <= 3, "{}", found.posts);
    assert_eq!(found.progress, Progress { passed: 12_000, delivered: 12_000, ..Progress::default() });
}

#[test]
fn a_series_that_the_server_refuses_costs_no_other() {
    let mut delivery = delivery();
    delivery.load(vec![Run { table: table(50), readings: polls(50, 10) }]);
    let found = deliver(&mut delivery, "input_register_30017");
    assert_eq!((kept(&found.server), found.quarantine.len()), (490, 10));
    assert!(found.quarantine.iter().all(|row| row["pattoo_key"] == "input_register_30017"));
    assert_eq!(found.progress, Progress { passed: 500, delivered: 490, quarantined: 10, ..Progress::default() });
}

#[test]
fn an_old_batch_with_a_refused_series_costs_no_other() {
    let mut fresh = delivery();
    fresh.load(vec![Run { table: table(4), readings: polls(4, 4) }]);
    let Next::Post { body, newest, .. } = fresh.next(Duration::ZERO) else { panic!() };
    let mut delivery = delivery();
    let old = OldBatch { name: OldName("a".to_owned()), at: newest, body: body.to_vec(), left: 1 };
    delivery.load_old(old, newest).unwrap();
    let found = deliver(&mut delivery, "input_register_30003");
    assert_eq!((kept(&found.server), found.quarantine.len()), (12, 4));
    assert_eq!(found.progress, Progress { delivered: 12, quarantined: 4, ..Progress::default() });
}

/// To the byte, if nothing stands against it.
#[test]
fn every_recorded_body_of_the_original_goes_as_it_is() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden");
    let mut bodies = 0;
    for folder in std::fs::read_dir(golden).unwrap() {
        let Ok(text) = std::fs::read(folder.unwrap().path().join("body.json")) else { continue };
        let top: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let said = top["pattoo_agent_id"].as_str().unwrap();
        let at = Timestamp::from_millis(top["pattoo_agent_timestamp"].as_u64().unwrap());
        let encode = PattooEncode::new(said.parse().unwrap(), Shard::default());
        let mut delivery = Delivery::new(Box::new(encode), Duration::from_secs(60), Timestamp::default());
        let old = OldBatch { name: OldName("a".to_owned()), at, body: text.clone(), left: 1 };
        delivery.load_old(old, at).unwrap();
        let Next::Post { body, .. } = delivery.next(Duration::ZERO) else { panic!() };
        // The newline that the original left in its id is not sent.
        assert!(body == text || said.ends_with('\n'), "{said:?}");
        assert_eq!(format!("{:?}", datapoints(&body)), format!("{:?}", datapoints(&text)));
        bodies += 1;
    }
    assert_eq!(bodies, 7);
}
