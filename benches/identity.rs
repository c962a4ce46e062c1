//! What the series of a configuration cost at a start: checksums, and the text that never changes.

#![allow(clippy::expect_used)] // a benchmark on wrong data is none

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pattoo_agent_modbustcpd::outputs::pattoo::identity::{Agent, Series};
use pattoo_agent_modbustcpd::outputs::pattoo::payload::Catalogue;
use pattoo_agent_modbustcpd::reading::points::Kind;

const POINTS: u32 = 10_000;

fn identity(c: &mut Criterion) {
    let agent = Agent::new("4c".repeat(32).parse().expect("64 hex digits"), "modbus-gw.example.net").expect("a name");
    let series: Vec<_> = (0..POINTS)
        .map(|point| {
            let (target, key) =
                (format!("192.0.2.{}", point / 100), format!("input_register_{}", 30_001 + point % 100));
            Series::new(target, key, 1, Kind::Integer, Duration::from_secs(10)).expect("short names")
        })
        .collect();
    let mut group = c.benchmark_group("identity");
    group.sample_size(10).throughput(Throughput::Elements(POINTS.into()));
    group.bench_function("checksums of 10,000 series", |b| {
        b.iter(|| series.iter().map(|series| series.checksum(&agent).len()).sum::<usize>());
    });
    group.bench_function("catalogue of 10,000 series", |b| {
        b.iter(|| Catalogue::new(&agent, Duration::from_secs(300), &series).map(|catalogue| catalogue.len()));
    });
    group.finish();
}

criterion_group!(benches, identity);
criterion_main!(benches);
