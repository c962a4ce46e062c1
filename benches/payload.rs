//! What a datapoint costs on its way into a body, beside the least that any encoder could do, and beside copying as
//! many bytes.

#![allow(clippy::expect_used)] // a benchmark on wrong data is none

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pattoo_agent_modbustcpd::outputs::pattoo::identity::{Agent, Series};
use pattoo_agent_modbustcpd::outputs::pattoo::payload::{Catalogue, Encoder};
use pattoo_agent_modbustcpd::reading::points::Kind;
use pattoo_agent_modbustcpd::reading::{PointId, Reading, Timestamp, Value};

const POINTS: u32 = 10_000;
const BATCH: u32 = 5_000;
const NOW: u64 = 1_700_000_000_123;

fn agent() -> Agent {
    let id = "4c".repeat(32).parse().expect("64 hex digits");
    Agent::new(id, "modbus-gw.example.net").expect("a short name")
}

/// 100 devices with the same 100 registers each.
fn series() -> Vec<Series> {
    (0..POINTS)
        .map(|point| {
            let target = format!("192.0.2.{}", point / 100);
            let key = format!("input_register_{}", 30_001 + point % 100);
            Series::new(target, key, 1, Kind::Integer, Duration::from_secs(10)).expect("short names")
        })
        .collect()
}

/// A poll of half of the devices: a timestamp per device.
fn readings(factor: f64) -> Vec<Reading> {
    (0..BATCH)
        .map(|point| Reading {
            point: PointId(point),
            at: Timestamp::from_millis(NOW + u64::from(point / 100)),
            value: Value::Float(f64::from(point * 13 % 65_536) * factor),
        })
        .collect()
}

fn encode(encoder: &mut Encoder, readings: &[Reading]) -> Vec<u8> {
    for reading in readings {
        encoder.push(reading).expect("a finite value of a known point");
    }
    encoder.finish(Timestamp::from_millis(NOW)).expect("13 digits")
}

/// What the text around values and timestamps is when every id is fixed beforehand and all of it is known: the least
/// that an encoder can do is to copy this and to write numbers in between.
struct Bound {
    pairs: Vec<Vec<u8>>,
    rows: Vec<Vec<u8>>,
    start: Vec<u8>,
}

impl Bound {
    /// Taken apart from a body of the agent's.
    fn of(body: &[u8]) -> Self {
        let text = std::str::from_utf8(body).expect("JSON");
        let (pairs, rows) = text.split_once("},\"datapoint_pairs\":[").expect("pairs and rows");
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut rest = pairs;
        while let Some(place) = rest.find("\"pattoo_value\",") {
            let (piece, value) = rest.split_at(place + "\"pattoo_value\",".len());
            pieces.push(piece.as_bytes().to_vec());
            rest = &value[value.find(']').expect("a pair ends")..];
        }
        let start = pieces.remove(0);
        pieces.push(rest.as_bytes().to_vec());
        let rows = rows.trim_end_matches("]}}").split_inclusive("],").map(|row| row.as_bytes().to_vec()).collect();
        Self { pairs: pieces, rows, start }
    }

    fn encode(&self, readings: &[Reading], size: usize) -> Vec<u8> {
        let mut body = Vec::with_capacity(size);
        body.extend_from_slice(&self.start);
        let (mut float, mut integer) = (zmij::Buffer::new(), itoa::Buffer::new());
        for (reading, pair) in readings.iter().zip(&self.pairs) {
            match reading.value {
                #[allow(clippy::cast_possible_truncation, reason = "registers")]
                Value::Float(value) if value.fract() == 0.0 => {
                    body.extend_from_slice(integer.format(value as i64).as_bytes());
                    body.extend_from_slice(b".0");
                }
                Value::Float(value) => body.extend_from_slice(float.format_finite(value).as_bytes()),
                Value::Integer(value) => body.extend_from_slice(integer.format(value).as_bytes()),
            }
            body.extend_from_slice(pair);
        }
        for row in &self.rows {
            body.extend_from_slice(row);
        }
        body
    }
}

fn payload(c: &mut Criterion) {
    let (agent, series) = (agent(), series());
    let catalogue = Arc::new(Catalogue::new(&agent, Duration::from_secs(300), &series).expect("an interval"));
    let mut group = c.benchmark_group("payload");
    group.throughput(Throughput::Elements(BATCH.into()));
    for (name, factor) in [("whole numbers", 1.0), ("tenths", 0.1)] {
        let readings = readings(factor);
        let mut encoder = Encoder::new(Arc::clone(&catalogue));
        let body = encode(&mut encoder, &readings);
        let bound = Bound::of(&body);
        group.bench_function(format!("encode 5,000 {name}"), |b| b.iter(|| encode(&mut encoder, black_box(&readings))));
        group.bench_function(format!("bound: all text known, 5,000 {name}"), |b| {
            b.iter(|| bound.encode(black_box(&readings), body.len()));
        });
        group.bench_function(format!("copy the bytes of 5,000 {name}"), |b| b.iter(|| black_box(&body).clone()));
    }
    group.finish();
}

criterion_group!(benches, payload);
criterion_main!(benches);
