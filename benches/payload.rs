//! What a datapoint costs on its way into a body, beside the cost of copying as many bytes.

#![allow(clippy::expect_used)] // a benchmark on wrong data is none

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pattoo_agent_modbustcpd::pattoo::identity::{Agent, DataType, Series};
use pattoo_agent_modbustcpd::pattoo::payload::{Catalogue, Encoder};
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
            let target = format!("192.168.1.{}", point / 100);
            let key = format!("input_register_{}", 30_001 + point % 100);
            Series::new(target, key, 1, DataType::Integer, Duration::from_secs(10)).expect("short names")
        })
        .collect()
}

/// A poll of half of the devices: a timestamp per device.
fn readings() -> Vec<Reading> {
    (0..BATCH)
        .map(|point| Reading {
            point: PointId(point),
            at: Timestamp::from_millis(NOW + u64::from(point / 100)),
            value: Value::Float(f64::from(point * 13 % 65_536) * 0.1),
        })
        .collect()
}

fn encode(encoder: &mut Encoder, readings: &[Reading]) -> Vec<u8> {
    for reading in readings {
        encoder.push(reading).expect("a finite value of a known point");
    }
    encoder.finish(Timestamp::from_millis(NOW)).expect("13 digits")
}

fn payload(c: &mut Criterion) {
    let (agent, series, readings) = (agent(), series(), readings());
    let catalogue = Catalogue::new(&agent, Duration::from_secs(300), &series).expect("an interval");
    let mut encoder = Encoder::new(Arc::new(catalogue));
    let body = encode(&mut encoder, &readings);

    let mut group = c.benchmark_group("payload");
    group.throughput(Throughput::Elements(BATCH.into()));
    group.bench_function("encode 5,000 readings", |b| {
        b.iter(|| encode(&mut encoder, black_box(&readings)));
    });
    group.bench_function("copy the same bytes", |b| {
        b.iter(|| black_box(&body).clone());
    });

    group.sample_size(10).throughput(Throughput::Elements(POINTS.into()));
    group.bench_function("checksums of 10,000 series", |b| {
        b.iter(|| series.iter().map(|series| series.checksum(&agent).len()).sum::<usize>());
    });
    group.bench_function("catalogue of 10,000 series", |b| {
        b.iter(|| Catalogue::new(&agent, Duration::from_secs(300), &series).map(|catalogue| catalogue.len()));
    });
    group.finish();
}

criterion_group!(benches, payload);
criterion_main!(benches);
