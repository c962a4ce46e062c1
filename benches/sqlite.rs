//! What readings cost in an `SQLite` database, in the directory for temporary files (`TMPDIR`): a post made, a post written, beside
//! as many bytes appended to a file and synced; how many bytes each takes, and how many are written for it.

#![allow(clippy::expect_used, clippy::print_stdout)] // a benchmark on wrong data is none

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pattoo_agent_modbustcpd::outputs::sqlite::{Bounds, SqliteDeliver, SqliteEncode, SqliteSettings};
use pattoo_agent_modbustcpd::outputs::{Deliver as _, Encode as _};
use pattoo_agent_modbustcpd::reading::points::{Builder, Device, Kind, PointTable, Register};
use pattoo_agent_modbustcpd::reading::{PointId, Reading, Timestamp, Value};

/// So many points are read at once.
const POINTS: u32 = 100;

/// What a reading takes in the database.
const BYTES_OF_A_READING: usize = 25;

fn table(points: u32) -> Arc<PointTable> {
    let mut table = Builder::new(&"4c".repeat(32), "host", Duration::from_secs(10));
    let device = Device::new("192.0.2.20:1502", 1, "meters", 10_000);
    for number in 30_001..30_001 + points {
        let key = format!("input_register_{number}");
        table.push(&device, &Register::new(&key, "input_register", number, Kind::Integer));
    }
    Arc::new(table.build())
}

/// So many polls from `first` on, one each second; every second value has a fraction.
fn readings(first: u32, polls: u32, points: u32) -> Vec<Reading> {
    let poll = |poll: u32| {
        (0..points).map(move |point| {
            let raw = f64::from((point * 37 + poll) % 4_000);
            let at = Timestamp::from_millis(1_790_000_000_000 + u64::from(poll) * 1_000);
            Reading { point: PointId(point), at, value: Value::Float(if point % 2 == 0 { raw } else { raw * 0.1 }) }
        })
    };
    (first..first + polls).flat_map(poll).collect()
}

fn body(table: &Arc<PointTable>, readings: &[Reading]) -> Bytes {
    SqliteEncode.encode(table, readings, usize::MAX, Timestamp::default()).body.expect("readings")
}

fn output(directory: &Path) -> SqliteDeliver {
    let bounds = Bounds { max_age: None, max_bytes: 1 << 40 };
    SqliteDeliver::new(SqliteSettings { path: directory.join("readings.sqlite"), bounds })
}

/// Bytes that this process has written so far.
fn written() -> u64 {
    let io = fs::read_to_string("/proc/self/io").expect("Linux");
    io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok()).expect("a number")
}

fn sqlite(c: &mut Criterion) {
    let system = actix_rt::System::new();
    let post = |output: &mut SqliteDeliver, body| system.block_on(output.post(body)).result.expect("a database");
    for (points, polls) in [(10, 2_000), (POINTS, 2_000), (1_000, 600)] {
        let (table, directory) = (table(points), tempfile::tempdir().expect("a directory"));
        let (mut output, before) = (output(directory.path()), written());
        for poll in 0..polls {
            post(&mut output, body(&table, &readings(poll, 1, points)));
        }
        let all = u64::from(points * polls);
        let size = fs::metadata(directory.path().join("readings.sqlite")).expect("a file").len();
        println!(
            "{points} points a post: {} bytes a reading, {} written for it",
            size / all,
            (written() - before) / all
        );
    }
    let (table, directory) = (table(POINTS), tempfile::tempdir().expect("a directory"));
    let mut group = c.benchmark_group("sqlite");
    group.sample_size(20);
    for polls in [1, 50] {
        let count = (polls * POINTS) as usize;
        group.throughput(Throughput::Elements(count as u64));
        let (mut output, mut next) = (output(directory.path()), 0);
        let mut more = || {
            next += polls;
            readings(next, polls, POINTS)
        };
        group.bench_function(format!("make a post of {count}"), |b| {
            b.iter_batched(&mut more, |readings| body(&table, &readings), BatchSize::SmallInput);
        });
        group.bench_function(format!("write a post of {count}"), |b| {
            let body = || body(&table, &more());
            b.iter_batched(body, |body| post(&mut output, body), BatchSize::SmallInput);
        });
        let mut file = File::create(directory.path().join("bound")).expect("a file");
        group.bench_function(format!("append and sync the bytes of {count}"), |b| {
            let bytes = vec![0x5a; count * BYTES_OF_A_READING];
            b.iter(|| file.write_all(&bytes).and_then(|()| file.sync_data()).expect("a disk"));
        });
    }
    group.finish();
}

criterion_group!(benches, sqlite);
criterion_main!(benches);
