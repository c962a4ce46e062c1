//! A log full of readings that wait, written by the agent's own code: faster than any agent could poll them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pattoo_agent_modbustcpd::reading::points::{Builder, Device, Kind, PointTable, Register};
use pattoo_agent_modbustcpd::reading::{PointId, Reading, Timestamp, Value};
use pattoo_agent_modbustcpd::spool::batch::{Batch, Encoder, Position};
use pattoo_agent_modbustcpd::spool::job::{Cursor, Done, Job, Write};
use pattoo_agent_modbustcpd::spool::{Life, Limits, Log, MinFree, RealDisk};

/// The polled target of these readings.
pub const TARGET: &str = "meter.example.net";

/// So many batches are written at once.
const AT_ONCE: u64 = 10_000;

/// Puts `batches` of `points` readings each into the log of the agent `id` below `cache`, for the output `pattoo`: the
/// first at `first_ms`, one each second, with the values that `value` gives for batch and point.
pub fn fill(cache: &Path, id: &str, batches: u64, points: u32, first_ms: u64, value: impl Fn(u64, u32) -> f64) {
    let disk = RealDisk::open(cache, id).expect("a directory of ours");
    let life = Life { agent_id: id, boot_id: "fill", restamp: |_, _, _| Err("nothing is undated".to_owned()) };
    let limits = Limits { min_free: MinFree::Bytes(0), max_bytes: None, max_age: None };
    let (mut log, opened) = Log::open(Box::new(disk), limits, &life).expect("a log that can be read");
    let (table, mut encoder) = (table(id, points), Encoder::default());
    let cursor = Cursor { position: opened.end, stamp: Timestamp::default() };
    let mut first = opened.end;
    for begin in (0..batches).step_by(usize::try_from(AT_ONCE).expect("small")) {
        let mut write = Write { cursors: vec![("pattoo".to_owned(), cursor)], sync: true, ..Write::default() };
        for batch in begin..batches.min(begin + AT_ONCE) {
            let at = Timestamp::from_millis(first_ms + 1_000 * batch);
            for point in 0..points {
                encoder.push(&Reading { point: PointId(point), at, value: Value::Float(value(batch, point)) });
            }
            let batch: Batch = encoder.finish(first, Arc::clone(&table), None).expect("readings");
            first = Position(batch.end().0);
            write.batches.push(Arc::new(batch));
        }
        let Done::Written(written) = log.perform(Job::Write(write)) else { unreachable!("a write was asked for") };
        written.result.expect("room on the disk");
    }
}

/// Of one device, unit 0: the input registers from 30001 on.
fn table(id: &str, points: u32) -> Arc<PointTable> {
    let mut table = Builder::new(id, "agent.example.net", Duration::from_secs(1));
    let device = Device::new(TARGET, 0, "all", 1_000);
    for number in 30_001..30_001 + points {
        let key = format!("input_register_{number}");
        table.push(&device, &Register::new(&key, "input_register", number, Kind::Integer));
    }
    Arc::new(table.build())
}
