//! What it costs to make values of the words of a reply.

#![allow(clippy::expect_used)] // a benchmark on wrong data is none

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pattoo_agent_modbustcpd::modbus::decode::PollDecoder;
use pattoo_agent_modbustcpd::modbus::format::{Format, Scale};
use pattoo_agent_modbustcpd::modbus::plan::{Limits, plan};
use pattoo_agent_modbustcpd::modbus::register::{Point, Reference, Table, UnitId};
use pattoo_agent_modbustcpd::reading::{PointId, Timestamp};

/// As many as fit into one request.
const REGISTERS: u16 = 125;

fn decode(c: &mut Criterion) {
    let words: Vec<u16> = (0..REGISTERS).map(|word| word * 523).collect();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(REGISTERS.into()));
    for (name, scale) in [("raw", Scale::Raw), ("times 0.1", Scale::Times(0.1))] {
        let points: Vec<_> = (0..u32::from(REGISTERS))
            .map(|id| Point {
                id: PointId(id),
                unit: UnitId(1),
                reference: Reference::new(Table::InputRegisters, i64::from(30_001 + id)).expect("a reference number"),
                format: Format::Word(scale),
                together: None,
            })
            .collect();
        let blocks = plan(&points, Limits::default());
        assert_eq!(blocks.len(), 1);
        group.bench_function(format!("125 registers, {name}"), |b| {
            b.iter(|| {
                let mut found = 0;
                let mut decoder = PollDecoder::default();
                decoder.take(&blocks[0], black_box(&words), Timestamp::default(), |_, _, value| {
                    found += usize::from(black_box(value).is_ok());
                });
                found
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
