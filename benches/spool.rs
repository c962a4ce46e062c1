//! What a batch costs on disk, in the directory for temporary files (`TMPDIR`): put there, taken, removed.

#![allow(clippy::expect_used)] // a benchmark on wrong data is none

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pattoo_agent_modbustcpd::reading::Timestamp;
use pattoo_agent_modbustcpd::spool::{Checked, Limits, MinFree, Spool, SpoolError};

/// The body of a full batch has about as many bytes.
const BYTES: usize = 850_000;

/// How many batches are drained.
const BATCHES: u64 = 100;

fn open(root: &tempfile::TempDir) -> Result<Spool, SpoolError> {
    let check = |_: &[u8], _, _: &str| Ok(Checked { datapoints: 5_000, plain: true });
    let limits = Limits { min_free: MinFree::Bytes(0), ..Limits::default() };
    Spool::open(root.path(), &"4c".repeat(32), check, limits)
}

fn fill(spool: &mut Spool, body: &Bytes) {
    for batch in 1..=BATCHES {
        spool.append(Timestamp::from_millis(1_700_000_000_000 + batch), body, 5_000).expect("a disk");
    }
}

fn spool(c: &mut Criterion) {
    let body = Bytes::from(vec![b'7'; BYTES]);
    let mut group = c.benchmark_group("spool");
    group.sample_size(10);
    group.throughput(Throughput::Elements(5_000));
    group.bench_function("append, take and acknowledge one batch of 850 KB", |b| {
        let root = tempfile::tempdir().expect("a directory");
        let mut spool = open(&root).expect("a spool");
        let mut at = 1_700_000_000_000;
        b.iter(|| {
            at += 1;
            spool.append(Timestamp::from_millis(at), &body, 5_000).expect("a disk");
            let taken = spool.take(1, 1).expect("a batch");
            spool.acknowledge(&[taken[0].name], taken[0].name.at(), 0).expect("a disk");
        });
    });
    group.throughput(Throughput::Elements(5_000 * BATCHES));
    group.bench_function("drain 100 batches of 850 KB", |b| {
        b.iter_batched(
            || {
                let root = tempfile::tempdir().expect("a directory");
                let mut spool = open(&root).expect("a spool");
                fill(&mut spool, &body);
                (spool, root)
            },
            |(mut spool, root)| {
                while spool.tally().batches > 0 {
                    let taken = spool.take(1, 1).expect("a batch");
                    spool.acknowledge(&[taken[0].name], taken[0].name.at(), 0).expect("a disk");
                }
                // Its end is not measured.
                (spool, root)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, spool);
criterion_main!(benches);
