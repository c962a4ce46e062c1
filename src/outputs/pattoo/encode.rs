//! Readings → posts of a pattoo server.
//!
//! Each point table has a [`Catalogue`], made when its first reading comes; the last two are kept, because around a reload
//! readings of two tables alternate. What the server could not store (a text over 512 bytes, a value that is not finite) is
//! counted as not sendable and never posted: one such body stops the ingestion of every agent.
//!
//! The stamp of a post is that of its newest reading, but greater than that of the post before, so that the server reads posts
//! in the order in which they were sent, and one of the shard's own, so that no other shard's post takes its place there.

use std::sync::Arc;
use std::time::Duration;

use super::identity::{Agent, AgentId, Series};
use super::old::OldBody;
use super::payload::{Catalogue, Encoder};
use crate::outputs::recent::Recent;
use crate::outputs::{Encode, Encoded, OldLoad};
use crate::reading::points::{Point, PointTable};
use crate::reading::{PointId, Reading, Timestamp};
use crate::shard::Shard;
use crate::spool::job::OldBatch;

/// Makes the posts of one agent, or of one shard of it.
#[derive(Debug)]
pub struct PattooEncode {
    agent_id: AgentId,
    shard: Shard,
    tables: Recent<Table>,
}

/// What a point table is at the server.
#[derive(Debug)]
struct Table {
    /// `None`: nothing of it can be posted.
    encoder: Option<Encoder>,
    /// Of each point its place in the catalogue, `None` if it cannot be posted; empty when all can, each at its own place.
    places: Vec<Option<PointId>>,
}

impl PattooEncode {
    /// For this shard of the agent with this id.
    #[must_use]
    pub fn new(agent_id: AgentId, shard: Shard) -> Self {
        Self { agent_id, shard, tables: Recent::default() }
    }
}

impl Encode for PattooEncode {
    fn encode(&mut self, table: &Arc<PointTable>, readings: &[Reading], room: usize, posted: Timestamp) -> Encoded {
        let shard = self.shard;
        let Table { encoder: Some(encoder), places } = self.tables.of(table, || Table::new(table)) else {
            return nothing_of(readings.len());
        };
        encoder.clear();
        let (mut taken, mut newest) = (0, Timestamp::default());
        for reading in readings {
            taken += 1;
            let place = if places.is_empty() { Some(reading.point) } else { place_of(places, reading.point) };
            let Some(point) = place else { continue };
            if encoder.push(&Reading { point, ..*reading }).is_ok() {
                newest = newest.max(reading.at);
            }
            // One more is likely to be as large as those before.
            if encoder.bytes() + encoder.bytes() / encoder.datapoints().max(1) > room && !encoder.is_empty() {
                break;
            }
        }
        let (stamp, datapoints) = (stamp(shard, posted, newest), encoder.datapoints());
        let Ok(body) = encoder.finish(stamp) else {
            // Nothing of them can be sent, or the server could not sort a post of that date.
            encoder.clear();
            return nothing_of(taken);
        };
        Encoded { body: Some(body.into()), taken, not_sendable: taken - datapoints, stamp: Some(stamp) }
    }

    fn extension(&self) -> &'static str {
        "json"
    }

    fn old(&self, batch: OldBatch, now: Timestamp) -> Result<Box<dyn OldLoad>, String> {
        Ok(Box::new(OldBody::new(batch, &self.agent_id, self.shard, now)?))
    }
}

impl Table {
    fn new(table: &PointTable) -> Self {
        let series = |point: Point<'_>| {
            let Point { device, register } = point;
            Series::new(&*device.device, &*register.key, device.unit, register.kind, device.interval()).ok()
        };
        let all: Vec<Option<Series>> = table.iter().map(series).collect();
        let mut places = Vec::new();
        if all.iter().any(Option::is_none) {
            // The catalogue has no place for a point that the server could not store: those behind it move up.
            let mut next = (0..).map(PointId);
            places = all.iter().map(|series| series.as_ref().and_then(|_| next.next())).collect();
        }
        let all: Vec<Series> = all.into_iter().flatten().collect();
        let agent = table.agent_id().parse().and_then(|id| Agent::new(id, table.hostname()));
        let agent = agent.and_then(|agent| match table.program() {
            Some(program) => agent.of_program(program),
            None => Ok(agent),
        });
        // The points of the table are judged one by one above; what fails here is the agent, the program or the
        // interval, which every datapoint or body has. So nothing of the table can be posted.
        let catalogue = agent.and_then(|agent| Catalogue::new(&agent, table.polling_interval(), &all));
        Self { encoder: catalogue.ok().map(|catalogue| Encoder::new(Arc::new(catalogue))), places }
    }
}

fn place_of(places: &[Option<PointId>], point: PointId) -> Option<PointId> {
    places.get(point.index()).copied().flatten()
}

fn nothing_of(readings: usize) -> Encoded {
    Encoded { body: None, taken: readings, not_sendable: readings, stamp: None }
}

/// The stamp of a post that is to follow one of `posted`: `newest`, or the millisecond after `posted`; then the shard's next.
pub(super) fn stamp(shard: Shard, posted: Timestamp, newest: Timestamp) -> Timestamp {
    // The server names its file after the stamp, and ingests files in the order of their names: two posts with one
    // stamp may overwrite each other.
    shard.stamp(if newest > posted { newest } else { posted.after(Duration::from_millis(1)) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::outputs::pattoo::server_rules::datapoints;
    use crate::reading::Value;
    use crate::reading::points::{Builder, Device, Kind, Register};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_123);
    const ROOM: usize = 1 << 20;

    fn device(name: &str, unit: u8) -> Device {
        Device { name: Some("boiler".to_owned()), ..Device::new(name, unit, "meters", 10_000) }
    }

    fn register(key: &str, kind: Kind) -> Register {
        let (name, unit_of_measurement) = (Some("flow".to_owned()), Some("°C".to_owned()));
        Register { name, unit_of_measurement, ..Register::new(key, "input_register", 30_001, kind) }
    }

    fn table(points: &[(Device, Register)]) -> Arc<PointTable> {
        let mut builder = Builder::new(&"4c".repeat(32), "plant-7.example.net", Duration::from_secs(300));
        for (device, register) in points {
            builder.push(device, register);
        }
        Arc::new(builder.build())
    }

    fn small(key: &str) -> Arc<PointTable> {
        table(&[(device("a", 0), register(key, Kind::Integer))])
    }

    fn encode() -> PattooEncode {
        PattooEncode::new(AgentId::from_bytes([0x4c; 32]), Shard::default())
    }

    fn reading(point: u32, late: u64, value: f64) -> Reading {
        let at = NOW.after(Duration::from_millis(late));
        Reading { point: PointId(point), at, value: Value::Float(value) }
    }

    /// Byte for byte what an encoder of the same series makes: a name, tags, a unit of measurement change no series.
    #[test]
    fn a_body_is_that_of_the_series() {
        let kinds = [Kind::Integer, Kind::Float, Kind::Counter, Kind::Counter64];
        let points: Vec<_> =
            kinds.into_iter().map(|kind| (device("192.0.2.20:1502", 3), register("k", kind))).collect();
        let readings: Vec<_> = (0..4).map(|point| reading(point, u64::from(point), 13.5)).collect();
        let encoded = encode().encode(&table(&points), &readings, ROOM, Timestamp::default());

        let agent = Agent::new(AgentId::from_bytes([0x4c; 32]), "plant-7.example.net").unwrap();
        let series = |kind| Series::new("192.0.2.20:1502", "k", 3, kind, Duration::from_secs(10)).unwrap();
        let catalogue = Catalogue::new(&agent, Duration::from_secs(300), &kinds.map(series)).unwrap();
        let mut plain = Encoder::new(Arc::new(catalogue));
        for reading in &readings {
            plain.push(reading).unwrap();
        }
        let stamp = NOW.after(Duration::from_millis(3));
        let body = Some(plain.finish(stamp).unwrap().into());
        assert_eq!(encoded, Encoded { body, taken: 4, not_sendable: 0, stamp: Some(stamp) });
    }

    #[test]
    fn what_the_server_cannot_store_is_counted_and_costs_no_neighbour() {
        let long = "x".repeat(513);
        let points = [
            (device("a", 0), register("k", Kind::Integer)),
            (device(&long, 0), register("k", Kind::Integer)),
            (device("b", 0), register("k", Kind::Integer)),
            (Device { interval_ms: 0, ..device("c", 0) }, register("k", Kind::Integer)),
        ];
        let readings: Vec<_> = [(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0), (4, 5.0), (0, f64::NAN), (0, 1e29), (2, 6.0)]
            .map(|(point, value)| reading(point, 0, value))
            .into();
        let encoded = encode().encode(&table(&points), &readings, ROOM, Timestamp::default());
        assert_eq!((encoded.taken, encoded.not_sendable), (8, 5));
        let said = |row: &_| -> (String, f64) {
            let row: &std::collections::BTreeMap<String, serde_json::Value> = row;
            (row["pattoo_agent_polled_target"].as_str().unwrap().to_owned(), row["pattoo_value"].as_f64().unwrap())
        };
        let rows: Vec<_> = datapoints(&encoded.body.unwrap()).iter().map(said).collect();
        assert_eq!(rows, [("a".to_owned(), 1.0), ("b".to_owned(), 3.0), ("b".to_owned(), 6.0)]);
        let encoded = encode().encode(&table(&points), &readings[1..2], ROOM, Timestamp::default());
        assert_eq!(encoded, nothing_of(1));
    }

    #[test]
    fn a_table_of_no_agent_blocks_nothing() {
        for (id, host) in [("no id".to_owned(), "host".to_owned()), ("4c".repeat(32), "h".repeat(513))] {
            let mut builder = Builder::new(&id, &host, Duration::from_secs(300));
            builder.push(&device("a", 0), &register("k", Kind::Integer));
            let encoded = encode().encode(&Arc::new(builder.build()), &[reading(0, 0, 1.0)], ROOM, NOW);
            assert_eq!(encoded, nothing_of(1));
        }
        let early = Reading { at: Timestamp::from_millis(50_000), ..reading(0, 0, 1.0) };
        assert_eq!(encode().encode(&small("k"), &[early], ROOM, Timestamp::default()), nothing_of(1));
    }

    #[test]
    fn a_post_has_about_as_many_bytes_as_there_is_room_for() {
        let mut encode = encode();
        let readings: Vec<_> = (0..5_000).map(|n| reading(0, n, 1.0)).collect();
        for room in [1, 1_000, 5_000, 50_000] {
            let encoded = encode.encode(&small("k"), &readings, room, Timestamp::default());
            let bytes = encoded.body.unwrap().len();
            assert!(encoded.taken == 1 || (bytes <= room && bytes > room * 9 / 10), "{bytes} of {room}");
        }
    }

    #[test]
    fn stamps_follow_the_newest_reading_and_the_post_before_and_are_the_shards_own() {
        let ms = Duration::from_millis;
        let cases = [
            (Timestamp::default(), NOW),
            (NOW, NOW.after(ms(1))),
            (NOW.after(ms(70)), NOW.after(ms(71))),
            (NOW.after(ms(7_200_000)), NOW.after(ms(7_200_001))),
        ];
        for (posted, expected) in cases {
            assert_eq!(stamp(Shard::default(), posted, NOW), expected);
            let shards: Vec<Shard> = (0..3).map(|n| format!("{n}/3").parse().unwrap()).collect();
            let stamps: BTreeSet<_> = shards.iter().map(|&shard| stamp(shard, posted, NOW)).collect();
            assert!(stamps.len() == 3 && stamps.iter().all(|stamp| stamp.since(expected) < ms(3)));
        }
    }

    #[test]
    fn the_last_two_tables_are_remembered() {
        let mut encode = encode();
        let tables = ["k", "l", "m"].map(small);
        for (place, known) in [(0, vec![0]), (1, vec![1, 0]), (0, vec![0, 1]), (2, vec![2, 0]), (1, vec![1, 2])] {
            let encoded = encode.encode(&tables[place], &[reading(0, 0, 1.0)], ROOM, Timestamp::default());
            let key = format!("\"{}\"", tables[place].get(PointId(0)).unwrap().register.key);
            assert!(String::from_utf8(encoded.body.unwrap().to_vec()).unwrap().contains(&key));
            let ids: Vec<_> = known.into_iter().map(|place: usize| tables[place].id()).collect();
            assert_eq!(encode.tables.ids(), ids);
        }
    }
}
