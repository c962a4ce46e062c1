//! What readings cost on disk, in the directory for temporary files (`TMPDIR`): appended and synced, read, drained; and how
//! many bytes each takes.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout)] // a benchmark on wrong data is none

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pattoo_agent_modbustcpd::reading::points::{Builder, PointTable};
use pattoo_agent_modbustcpd::reading::{PointId, Reading, Timestamp, Value};
use pattoo_agent_modbustcpd::spool::batch::{Batch, Encoder, Position};
use pattoo_agent_modbustcpd::spool::job::{Done, Job, Write, Written};
use pattoo_agent_modbustcpd::spool::{Life, Limits, Log, MinFree, RealDisk};

/// How many readings a flush brings, and how many go into one post.
const READINGS: u32 = 5_000;

/// So many flushes are drained.
const FLUSHES: u64 = 100;

fn table() -> Arc<PointTable> {
    Arc::new(Builder::new("4c", "host", Duration::from_secs(10)).build())
}

fn open(root: &tempfile::TempDir) -> Log {
    let disk = RealDisk::open(root.path(), &"4c".repeat(32)).expect("a disk");
    let limits = Limits { min_free: MinFree::Bytes(0), ..Limits::default() };
    let restamp = |_: &[u8], _, _| Err(String::new());
    let life = Life { agent_id: &"4c".repeat(32), boot_id: "boot", restamp };
    Log::open(Box::new(disk), limits, &life).expect("a log").0
}

/// `READINGS` readings from `first` on, `points` of them to a poll and a batch; every second value has a fraction.
fn batches(first: u64, points: u32, table: &Arc<PointTable>) -> Vec<Arc<Batch>> {
    let mut encoder = Encoder::default();
    let polls = (0..READINGS / points).map(|poll| {
        let at = Timestamp::from_millis(1_790_000_000_000 + first + u64::from(poll) * 7);
        for point in 0..points {
            let raw = f64::from(point * 37 % 4_000);
            let value = Value::Float(if point % 2 == 0 { raw } else { raw * 0.1 });
            encoder.push(&Reading { point: PointId(poll * points + point), at, value });
        }
        let position = Position(first + u64::from(poll * points));
        Arc::new(encoder.finish(position, Arc::clone(table), None).expect("readings"))
    });
    polls.collect()
}

fn append(log: &mut Log, batches: Vec<Arc<Batch>>) -> Written {
    let write = Write { batches, sync: true, ..Write::default() };
    let Done::Written(written) = log.perform(Job::Write(write)) else { panic!("another answer") };
    written.result.as_ref().expect("a disk");
    written
}

fn drain(log: &mut Log, mut from: Position, end: Position) -> usize {
    let mut read = 0;
    while from < end {
        let job = Job::Read { output: 0, from, most: READINGS as usize };
        let Done::Read { result, .. } = log.perform(job) else { panic!("another answer") };
        let batches = result.expect("a disk").batches;
        read += batches.iter().map(|batch| batch.readings().expect("whole").len()).sum::<usize>();
        from = batches.last().expect("readings").end();
    }
    read
}

fn spool(c: &mut Criterion) {
    let table = table();
    for points in [100, 10] {
        let root = tempfile::tempdir().expect("a directory");
        let written = append(&mut open(&root), batches(0, points, &table));
        let tenths = written.usage.bytes * 10 / u64::from(READINGS);
        println!("{}.{} bytes a reading in batches of {points}", tenths / 10, tenths % 10);
    }
    let mut group = c.benchmark_group("spool");
    group.sample_size(10);
    group.throughput(Throughput::Elements(u64::from(READINGS)));
    for points in [100, 10] {
        group.bench_function(format!("append, sync and read 5,000 readings in batches of {points}"), |b| {
            let root = tempfile::tempdir().expect("a directory");
            let mut log = open(&root);
            let mut first = 0;
            b.iter_batched(
                || {
                    let new = batches(first, points, &table);
                    first += u64::from(READINGS);
                    new
                },
                |new| {
                    let from = new.first().expect("readings").first;
                    let written = append(&mut log, new);
                    drain(&mut log, from, written.end)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.throughput(Throughput::Elements(u64::from(READINGS) * FLUSHES));
    group.bench_function("open and drain a backlog of 500,000 readings", |b| {
        let root = tempfile::tempdir().expect("a directory");
        let mut log = open(&root);
        let mut end = Position(0);
        for flush in 0..FLUSHES {
            end = append(&mut log, batches(flush * u64::from(READINGS), 100, &table)).end;
        }
        drop(log);
        b.iter(|| drain(&mut open(&root), Position(0), end));
    });
    group.finish();
}

criterion_group!(benches, spool);
criterion_main!(benches);
