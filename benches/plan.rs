//! How long planning takes: the price of a configuration, paid once at its start.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pattoo_agent_modbustcpd::modbus::format::{Format, Scale};
use pattoo_agent_modbustcpd::modbus::plan::{Limits, plan};
use pattoo_agent_modbustcpd::modbus::register::{Point, Reference, Table, UnitId};
use pattoo_agent_modbustcpd::reading::PointId;

const POINTS: u32 = 10_000;

/// One point per step of `stride` registers, in an order that is not the plan's.
fn points(stride: u32) -> Vec<Point> {
    let numbers = (0..POINTS).map(|i| 300_001 + (i * 7_919 % POINTS) * stride);
    (0..)
        .zip(numbers)
        .filter_map(|(id, number)| {
            Some(Point {
                id: PointId(id),
                unit: UnitId(0),
                reference: Reference::new(Table::InputRegisters, i64::from(number))?,
                format: Format::Word(Scale::Times(1.0)),
                together: None,
            })
        })
        .collect()
}

fn planning(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    group.throughput(Throughput::Elements(u64::from(POINTS)));
    for (name, stride, blocks) in [("contiguous", 1, 80), ("scattered", 5, 10_000)] {
        let points = points(stride);
        assert_eq!(plan(&points, Limits::default()).len(), blocks, "{name}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| plan(black_box(&points), Limits::default()));
        });
    }
    group.finish();
}

criterion_group!(benches, planning);
criterion_main!(benches);
