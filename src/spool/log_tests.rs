//! The log on a disk in memory, and on a real one.

use std::sync::Arc;
use std::time::Duration;

use super::batch::{Batch, Encoder, HoldoverId, Position};
use super::frame::FRAME_MAGIC;
use super::job::{
    Cursor, Done, Evicted, Gap, GapReason, Holdover, Job, Limit, OldName, Read, SetAside, Write, Written,
};
use super::sim_disk::{EACCES, EIO, EMFILE, ENOSPC, EROFS, SimDisk};
use super::{Disk as _, Life, Limits, Log, MinFree, Opened, RealDisk, SpoolError};
use crate::reading::points::{Builder, Device, Kind, PointTable, Register};
use crate::reading::{PointId, Reading, Timestamp, Value};
use crate::time::timeline::Stamp;

pub(super) const ID: &str = "4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c";
const START: u64 = 1_790_000_000_000;

pub(super) fn life() -> Life<'static> {
    let restamp = |body: &[u8], _: Duration, at: Timestamp| Ok([body, format!(" at {at}").as_bytes()].concat());
    Life { agent_id: ID, boot_id: "boot", restamp }
}

pub(super) fn table(n: u32) -> Arc<PointTable> {
    let mut builder = Builder::new(ID, "host", Duration::from_secs(u64::from(n) + 1));
    builder.push(&Device::new("a", 1, "g", 1), &Register::new(&format!("k{n}"), "coil", n, Kind::Integer));
    Arc::new(builder.build())
}

/// A batch of `count` readings from the position `first` on, each with its position as value.
pub(super) fn batch(first: u64, count: u64) -> Arc<Batch> {
    undated(first, count, None)
}

fn undated(first: u64, count: u64, hold: Option<HoldoverId>) -> Arc<Batch> {
    let mut encoder = Encoder::default();
    for n in first..first + count {
        let value = Value::Integer(i64::try_from(n).unwrap());
        encoder.push(&Reading { point: PointId(0), at: Timestamp::from_millis(START + n), value });
    }
    Arc::new(encoder.finish(Position(first), table(0), hold).unwrap())
}

fn limits() -> Limits {
    Limits { min_free: MinFree::Bytes(0), ..Limits::default() }
}

fn open(disk: &SimDisk) -> (Log, Opened) {
    Log::open(Box::new(disk.clone()), limits(), &life()).unwrap()
}

fn write(log: &mut Log, write: Write) -> Written {
    let Done::Written(written) = log.perform(Job::Write(write)) else { panic!("another answer") };
    written
}

fn append(log: &mut Log, batches: impl IntoIterator<Item = Arc<Batch>>) -> Written {
    write(log, Write { batches: batches.into_iter().collect(), sync: true, ..Write::default() })
}

fn read(log: &mut Log, from: u64, most: usize) -> Result<Read, SpoolError> {
    let Done::Read { result, .. } = log.perform(Job::Read { output: 0, from: Position(from), most }) else {
        panic!("another answer")
    };
    result
}

/// The positions of the readings that are there, whose values are right.
fn positions(read: &Read) -> Vec<u64> {
    let mut positions = Vec::new();
    for batch in &read.batches {
        for (position, reading) in (batch.first.0..).zip(batch.readings().unwrap()) {
            assert_eq!(reading.value, Value::Integer(i64::try_from(position).unwrap()));
            positions.push(position);
        }
    }
    positions
}

/// Segments of 64 KiB, `count` of them full and one begun; batches of 1,000 readings.
fn segments(log: &mut Log, count: usize) -> u64 {
    log.perform(Job::Limit(Limits { max_bytes: Some(1 << 20), ..limits() }));
    let mut next = 0;
    while log.segments.len() <= count {
        append(log, [batch(next, 1_000)]);
        next += 1_000;
    }
    next
}

fn segment(disk: &SimDisk, n: usize) -> String {
    disk.world().paths().into_iter().filter(|path| path.ends_with(".segment")).nth(n).unwrap()
}

#[test]
fn what_is_written_is_read_after_a_kill() {
    let disk = SimDisk::new(1);
    let (mut log, opened) = open(&disk);
    assert_eq!((opened.end, opened.usage.segments, opened.cursors.len()), (Position(0), 0, 0));
    let written = append(&mut log, [batch(0, 10), batch(10, 5)]);
    written.result.unwrap();
    assert_eq!((written.end, written.durable), (Position(15), Position(15)));
    let writes = disk.world().operations["write"];
    assert_eq!(writes, 1, "one write for the job");
    drop(log);
    let (mut log, opened) = open(&disk);
    assert_eq!((opened.end, opened.newest), (Position(15), Timestamp::from_millis(START + 14)));
    let found = read(&mut log, 3, 100).unwrap();
    assert_eq!((positions(&found), found.gaps.len()), ((0..15).collect(), 0));
    assert_eq!(found.batches[0].table.get(PointId(0)).unwrap().register.key, "k0");
    assert!(read(&mut log, 15, 100).unwrap().batches.is_empty());
}

#[test]
fn the_form_on_disk() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    append(&mut log, [batch(7, 2), undated(9, 1, Some(HoldoverId(3)))]);
    let path = segment(&disk, 0);
    assert_eq!(path, "log/0000000000000007.segment");
    let hex = disk.world().content(&path).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    assert_eq!(hex, include_str!("golden.segment.hex").split_whitespace().collect::<String>());
}

#[test]
fn bytes_for_each_reading() {
    for (readings, most) in [(100, 16.0), (10, 24.0)] {
        let disk = SimDisk::new(1);
        let (mut log, _) = open(&disk);
        let mut encoder = Encoder::default();
        for n in 0..100 {
            for point in 0..readings {
                let value = Value::Float(f64::from(n * point) * 0.1);
                let at = Timestamp::from_millis(START + u64::from(n) * 10_000);
                encoder.push(&Reading { point: PointId(5_000 + point), at, value });
            }
            let batch = encoder.finish(Position(u64::from(n * readings)), table(0), None).unwrap();
            append(&mut log, [Arc::new(batch)]);
        }
        let path = segment(&disk, 0);
        #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
        let bytes = disk.world().content(&path).len() as f64 / f64::from(100 * readings);
        assert!(bytes <= most, "{bytes} bytes a reading in batches of {readings}");
    }
}

#[test]
fn a_torn_end_is_cut_off_and_the_next_batch_follows() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    append(&mut log, [batch(0, 10), batch(10, 10)]);
    let path = segment(&disk, 0);
    let whole = disk.world().content(&path).clone();
    drop(log);
    for length in 0..whole.len() {
        *disk.world().content(&path) = whole[..length].to_vec();
        let (mut log, opened) = open(&disk);
        let end = opened.end.0;
        assert!([0, 10].contains(&end), "{length}: {end}");
        assert_eq!(opened.cut.is_some(), ![32, 32 + (whole.len() - 32) / 2].contains(&length), "{length}");
        append(&mut log, [batch(end, 5)]).result.unwrap();
        let found = read(&mut log, 0, 100).unwrap();
        assert_eq!((positions(&found), found.gaps), ((0..end + 5).collect(), Vec::new()), "{length}");
        drop(log);
        disk.world().plant(&path, &whole);
    }
}

/// No flipped bit makes it panic or yields a wrong value; it costs the frame in which it is at most.
#[test]
fn a_flipped_bit_costs_one_frame() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    append(&mut log, (0..4).map(|n| batch(5 * n, 5)));
    let path = segment(&disk, 0);
    let whole = disk.world().content(&path).clone();
    for bit in 0..8 * whole.len() {
        disk.world().content(&path)[bit / 8] ^= 1 << (bit % 8);
        // In a log that is open, and in one that is opened on it.
        for reopen in [false, true] {
            if reopen {
                log = open(&disk).0;
            }
            let found = read(&mut log, 0, 100).unwrap();
            let there = positions(&found);
            let missing: u64 = found.gaps.iter().map(|gap| gap.to.since(gap.from)).sum();
            let cut = 20 - log.end.0;
            assert_eq!(there.len() as u64 + missing + cut, 20, "bit {bit}");
            assert!(there.len() >= if bit < 8 * 32 { 20 } else { 15 }, "bit {bit}: {there:?}");
            for gap in &found.gaps {
                let GapReason::Damaged(path) = &gap.why else { panic!("{gap:?}") };
                assert!(path.starts_with("/sim/quarantine"), "{gap:?}");
            }
        }
        disk.world().plant(&path, &whole);
        log = open(&disk).0;
    }
    let damaged = disk.world().paths().iter().filter(|path| path.starts_with("quarantine")).count();
    assert!(damaged > 100, "{damaged}");
}

#[test]
fn the_same_damage_is_kept_once_and_passed_by_every_output() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    append(&mut log, (0..3).map(|n| batch(5 * n, 5)));
    let path = segment(&disk, 0);
    let length = disk.world().content(&path).len();
    disk.world().content(&path)[length / 2] ^= 0xff;
    for output in [0, 1, 1] {
        let job = Job::Read { output, from: Position(0), most: 100 };
        let Done::Read { result, .. } = log.perform(job) else { panic!() };
        let found = result.unwrap();
        assert_eq!(positions(&found), [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]);
        assert_eq!((found.gaps[0].from, found.gaps[0].to), (Position(5), Position(10)));
    }
    assert_eq!(log.in_quarantine().unwrap().0, 1);
}

#[test]
fn damage_before_the_place_where_an_output_goes_on_costs_it_nothing() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    append(&mut log, (0..5).map(|n| batch(5 * n, 5)));
    drop(log);
    let path = segment(&disk, 0);
    let content = disk.world().content(&path).clone();
    let frames: Vec<_> = content
        .windows(FRAME_MAGIC.len())
        .enumerate()
        .filter(|(_, bytes)| *bytes == FRAME_MAGIC)
        .map(|(at, _)| at)
        .collect();
    // A header, and the readings of another frame.
    disk.world().content(&path)[frames[1] + 9] ^= 0xff;
    disk.world().content(&path)[frames[4] - 1] ^= 0xff;
    for (from, gap) in [(15, 15..20), (12, 15..20), (5, 5..10), (20, 0..0)] {
        let found = read(&mut open(&disk).0, from, usize::MAX).unwrap();
        let gaps: Vec<_> = found.gaps.iter().map(|gap| gap.from.0..gap.to.0).collect();
        assert_eq!(gaps.first().cloned().unwrap_or_default(), gap, "from {from}");
    }
    let kept: Vec<_> = disk.world().paths().into_iter().filter(|path| path.starts_with("quarantine")).collect();
    let kept: Vec<_> = kept.iter().map(|path| disk.world().content(path).len()).collect();
    let frame = frames[2] - frames[1];
    assert_eq!(kept, [frame, frame], "as large as what is damaged");
}

#[test]
fn a_failed_write_leaves_nothing_and_evicts_nothing() {
    for errno in [ENOSPC, EIO] {
        let disk = SimDisk::new(3);
        let (mut log, _) = open(&disk);
        let next = segments(&mut log, 2);
        let full = log.bytes();
        log.perform(Job::Limit(Limits { max_bytes: Some(full / 2), max_age: Some(Duration::ZERO), ..limits() }));
        // It can neither be written nor cut.
        disk.world().hook = Some(Box::new(move |action, path| {
            (matches!(action, "write" | "cut") && path.ends_with("segment")).then_some(errno)
        }));
        let now = Some(Timestamp::from_millis(START * 2));
        for _ in 0..3 {
            let written = write(&mut log, Write { batches: vec![batch(next, 10)], now, ..Write::default() });
            assert_eq!((written.end, written.evicted.len()), (Position(next), 0));
            written.result.unwrap_err();
        }
        disk.world().hook = None;
        log.perform(Job::Limit(limits()));
        append(&mut log, [batch(next, 10)]).result.unwrap();
        let expected: Vec<_> = (0..next + 10).collect();
        let found = read(&mut log, 0, usize::MAX).unwrap();
        assert_eq!((positions(&found), found.gaps), (expected.clone(), Vec::new()));
        drop(log);
        let found = read(&mut open(&disk).0, 0, usize::MAX).unwrap();
        assert_eq!((positions(&found), found.gaps), (expected, Vec::new()));
    }
}

#[test]
fn after_a_failed_sync_everything_is_written_again() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    append(&mut log, [batch(0, 10)]);
    disk.world().hook = Some(Box::new(|action, _| (action == "fsync").then_some(EIO)));
    let written = append(&mut log, [batch(10, 10)]);
    written.result.unwrap_err();
    assert_eq!((written.end, written.durable), (Position(20), Position(10)));
    disk.world().hook = None;
    let written = append(&mut log, []);
    written.result.unwrap();
    assert_eq!(written.durable, Position(20));
    disk.world().power_cut();
    assert_eq!(open(&disk).1.end, Position(20));
}

#[test]
fn a_place_that_cannot_be_read_is_an_error_twice_and_then_damage() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    append(&mut log, (0..40).map(|n| batch(500 * n, 500)));
    let path = segment(&disk, 0);
    disk.world().bad.insert((path, 3));
    for _ in 0..2 {
        let mut got = 0;
        let error = loop {
            match read(&mut log, got, 500) {
                Ok(read) => got = read.batches.last().unwrap().end().0,
                Err(error) => break error,
            }
        };
        assert!(error.is_of_the_medium() && got > 0, "{error}");
    }
    let mut missing = Vec::new();
    let mut there = 0;
    for _ in 0..60 {
        let result = read(&mut log, there, 500);
        if let Ok(read) = result {
            missing.extend(read.gaps.clone());
            let end = read.batches.last().map(|batch| batch.end().0);
            there = end.unwrap_or(there);
        }
    }
    assert_eq!(there, 20_000);
    let [Gap { from, to, why: GapReason::Damaged(_) }] = &missing[..] else { panic!("{missing:?}") };
    assert!(to.since(*from) <= 2_000, "{missing:?}");
}

#[test]
fn a_disk_that_answers_nothing_loses_nothing() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    append(&mut log, [batch(0, 10)]);
    disk.world().hook = Some(Box::new(|_, _| Some(EIO)));
    for _ in 0..10 {
        read(&mut log, 0, 10).unwrap_err();
    }
    disk.world().hook = None;
    assert_eq!(positions(&read(&mut log, 0, 10).unwrap()).len(), 10);
}

#[test]
fn errors_of_the_process_pass_nothing_over() {
    for errno in [EACCES, EMFILE, 12] {
        let disk = SimDisk::new(1);
        let (mut log, _) = open(&disk);
        append(&mut log, [batch(0, 10)]);
        drop(log);
        let (mut log, _) = open(&disk);
        disk.world().hook = Some(Box::new(move |_, _| Some(errno)));
        for _ in 0..10 {
            read(&mut log, 0, 10).unwrap_err();
        }
        disk.world().hook = None;
        assert_eq!(positions(&read(&mut log, 0, 10).unwrap()).len(), 10);
    }
}

#[test]
fn a_frame_without_its_table_is_damaged() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    append(&mut log, [batch(0, 10)]);
    drop(log);
    let points = disk.world().paths().into_iter().find(|path| path.ends_with(".points")).unwrap();
    disk.world().content(&points)[3] ^= 1;
    let (mut log, _) = open(&disk);
    let found = read(&mut log, 0, 10).unwrap();
    assert!(found.batches.is_empty() && matches!(found.gaps[0].why, GapReason::Damaged(_)), "{found:?}");
    // Who writes with this table again mends it.
    append(&mut log, [batch(10, 1)]).result.unwrap();
    assert_eq!(positions(&read(&mut log, 0, 100).unwrap()), (0..11).collect::<Vec<_>>());
}

#[test]
fn segments_leave_when_they_are_released_and_tables_with_them() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    let next = segments(&mut log, 3);
    let hold = Holdover { id: HoldoverId(9), boot_id: "b".to_owned(), since: Duration::ZERO, offset: None };
    write(
        &mut log,
        Write { holds: vec![hold], batches: vec![undated(next, 1, Some(HoldoverId(9)))], ..Write::default() },
    );
    drop(log);
    let (mut log, opened) = open(&disk);
    assert_eq!((opened.holds.len(), opened.usage.segments), (1, 4));
    let second = log.segments.keys().nth(1).copied().unwrap();
    for (release, left) in [(Position(second.0 - 1), 4), (second, 3), (Position(next + 1), 1)] {
        let written = write(&mut log, Write { release, sync: true, ..Write::default() });
        written.result.unwrap();
        assert_eq!((written.usage.segments, written.evicted.len()), (left, 0), "{release:?}");
    }
    assert!(disk.world().paths().iter().any(|path| path.ends_with(".points")));
    log.perform(Job::Limit(Limits { max_bytes: Some(0), ..limits() }));
    let written = write(&mut log, Write::default());
    assert_eq!(written.evicted, [Evicted { up_to: Position(next + 1), limit: Limit::MaxBytes }]);
    let left = disk.world().paths();
    assert!(!left.iter().any(|path| path.ends_with(".points") || path.ends_with(".segment")), "{left:?}");
    drop(log);
    assert_eq!(open(&disk).1.holds.len(), 0);
}

#[test]
fn the_limits_let_the_oldest_segments_go() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    let next = segments(&mut log, 4);
    let firsts: Vec<_> = log.segments.keys().copied().collect();
    let now = Some(Timestamp::from_millis(START + firsts[2].0));
    log.perform(Job::Limit(Limits { max_age: Some(Duration::ZERO), ..limits() }));
    let written = write(&mut log, Write { now, ..Write::default() });
    let ages: Vec<_> = firsts[1..3].iter().map(|&up_to| Evicted { up_to, limit: Limit::MaxAge }).collect();
    assert_eq!(written.evicted, ages);
    assert_eq!(write(&mut log, Write::default()).evicted, [], "no clock, no age");
    // What was acknowledged by all is no loss.
    log.perform(Job::Limit(Limits { max_bytes: Some(1), ..limits() }));
    let written = write(&mut log, Write { release: Position(next), ..Write::default() });
    assert_eq!((written.evicted, written.usage.bytes, written.usage.start), (Vec::new(), 0, Position(next)));
}

#[test]
fn free_space_is_raised_only_as_far_as_that_is_of_use() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    segments(&mut log, 8);
    let bytes = log.bytes();
    let set =
        |log: &mut Log, min_free| log.perform(Job::Limit(Limits { min_free: MinFree::Bytes(min_free), ..limits() }));
    disk.world().capacity = Some(bytes + 1_000_000);
    set(&mut log, 1_100_000);
    let written = write(&mut log, Write::default());
    assert_eq!(written.evicted.len(), 2);
    assert!(written.evicted.iter().all(|evicted| evicted.limit == Limit::MinFree));
    // All of it would not be enough.
    set(&mut log, 5_000_000);
    assert_eq!(write(&mut log, Write::default()).evicted, []);
}

#[test]
fn a_vain_eviction_is_not_repeated_for_a_minute() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    segments(&mut log, 8);
    let used = log.bytes();
    disk.world().capacity = Some(used + 1_000_000);
    log.perform(Job::Limit(Limits { min_free: MinFree::Bytes(1_100_000), ..limits() }));
    // Somebody takes whatever becomes free.
    disk.world().eaten = true;
    let mut gone = Vec::new();
    for seconds in [0, 2, 30, 59, 61, 62] {
        disk.world().now = Duration::from_secs(seconds);
        gone.push(write(&mut log, Write::default()).evicted.len());
    }
    assert_eq!(gone, [1, 0, 0, 0, 1, 0]);
}

#[test]
fn cursors_are_kept_through_a_full_disk_a_kill_and_a_power_cut() {
    let cursor = |position| Cursor { position: Position(position), stamp: Timestamp::from_millis(position * 2) };
    let put = |log: &mut Log, position, sync| {
        let cursors = vec![("pattoo".to_owned(), cursor(position)), ("x".to_owned(), cursor(1))];
        write(log, Write { cursors, sync, ..Write::default() })
    };
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    put(&mut log, 1, true).result.unwrap();
    disk.world().capacity = Some(0);
    put(&mut log, 7, true).result.unwrap();
    put(&mut log, 8, false).result.unwrap();
    put(&mut log, 9, false).result.unwrap();
    drop(log);
    let (mut log, opened) = open(&disk);
    assert_eq!((opened.cursors["pattoo"], opened.end), (cursor(9), Position(9)));
    for seed in 0..200 {
        put(&mut log, 20 + seed, true).result.unwrap();
        put(&mut log, 30 + seed, false).result.unwrap();
        put(&mut log, 40 + seed, false).result.unwrap();
        disk.world().power_cut();
        let (new, opened) = open(&disk);
        log = new;
        assert!(opened.cursors["pattoo"].position >= Position(20 + seed), "{:?}", opened.cursors);
        assert_eq!(opened.cursors["x"], cursor(1));
    }
    let forget = vec!["x".to_owned()];
    write(&mut log, Write { forget, ..Write::default() }).result.unwrap();
    drop(log);
    assert_eq!(open(&disk).1.cursors.len(), 1);
}

#[test]
fn a_segment_that_somebody_has_removed_is_a_gap() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    let next = segments(&mut log, 2);
    let [_, second, third] = log.segments.keys().copied().collect::<Vec<_>>()[..] else { panic!() };
    let path = segment(&disk, 1);
    disk.clone().remove(&path).unwrap();
    let found = read(&mut log, 0, usize::MAX).unwrap();
    assert_eq!(found.gaps, [Gap { from: second, to: third, why: GapReason::Vanished }]);
    assert_eq!(positions(&found).len() as u64, next - third.since(second));
}

#[test]
fn a_segment_that_somebody_has_removed_before_it_was_durable_is_an_error_once() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    disk.world().hook = Some(Box::new(|action, path| (action == "fsync" && path.ends_with("segment")).then_some(EIO)));
    append(&mut log, [batch(0, 10)]).result.unwrap_err();
    disk.world().hook = None;
    disk.clone().remove(&segment(&disk, 0)).unwrap();
    append(&mut log, [batch(10, 10)]).result.unwrap_err();
    let written = append(&mut log, [batch(20, 10)]);
    written.result.unwrap();
    assert_eq!(written.durable, Position(30));
    let found = read(&mut log, 0, usize::MAX).unwrap();
    assert_eq!(positions(&found), (10..30).collect::<Vec<_>>());
}

#[test]
fn positions_that_were_never_written_are_a_gap() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    append(&mut log, [batch(10, 5), batch(20, 5)]).result.unwrap();
    let found = read(&mut log, 0, 100).unwrap();
    let gap = |from, to| Gap { from: Position(from), to: Position(to), why: GapReason::Vanished };
    assert_eq!(found.gaps, [gap(0, 10), gap(15, 20)]);
    let written = append(&mut log, [batch(24, 5)]);
    assert!(matches!(written.result, Err(SpoolError::OutOfOrder { .. })), "{written:?}");
}

#[test]
fn what_the_log_has_written_itself_is_not_foreign() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    let hold = Holdover { id: HoldoverId(9), boot_id: "b".to_owned(), since: Duration::ZERO, offset: None };
    let (holds, batches) = (vec![hold], vec![undated(0, 1, Some(HoldoverId(9)))]);
    let cursors = vec![("pattoo".to_owned(), Cursor::default())];
    write(&mut log, Write { holds, batches, cursors, sync: true, ..Write::default() }).result.unwrap();
    drop(log);
    // What a crash leaves of those that are replaced whole.
    let unfinished = ["log/cursors.tmp", "log/holdovers.tmp"];
    for path in unfinished {
        disk.world().plant(path, b"half of it");
    }
    let (_log, opened) = open(&disk);
    assert!(opened.findings.told.is_empty(), "{:?}", opened.findings);
    let left = disk.world().paths();
    assert!(unfinished.iter().all(|path| !left.contains(&(*path).to_owned())), "{left:?}");
}

#[test]
fn a_date_that_readings_got_later_counts_for_the_next_life() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    let hold = Holdover { id: HoldoverId(9), boot_id: "b".to_owned(), since: Duration::ZERO, offset: None };
    let undated_at = |first: u64, boot: u64| {
        let at = Stamp::Undated(Duration::from_secs(boot)).written();
        let mut encoder = Encoder::default();
        encoder.push(&Reading { point: PointId(0), at, value: Value::Integer(1) });
        Arc::new(encoder.finish(Position(first), table(0), Some(hold.id)).unwrap())
    };
    let (holds, batches) = (vec![hold.clone()], vec![undated_at(0, 60)]);
    write(&mut log, Write { holds, batches, sync: true, ..Write::default() }).result.unwrap();
    drop(log);
    let (mut log, opened) = open(&disk);
    assert_eq!(opened.newest, Timestamp::default(), "nobody knows");
    let dated = Holdover { offset: Some(Duration::from_millis(START)), ..hold.clone() };
    write(&mut log, Write { holds: vec![dated], sync: true, ..Write::default() }).result.unwrap();
    drop(log);
    let (mut log, opened) = open(&disk);
    assert_eq!(opened.newest, Timestamp::from_millis(START + 60_000));
    // One that came too late for that is of the same hold.
    append(&mut log, [undated_at(1, 70)]);
    assert_eq!(log.newest, Timestamp::from_millis(START + 70_000));
}

#[test]
fn foreign_files_are_left_alone_and_told() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    append(&mut log, [batch(0, 10)]);
    let path = segment(&disk, 0);
    let content = disk.world().content(&path).clone();
    let foreign = ["log/00000000000000ff.segment", "log/0000000000000fff.segment", "log/00.segment", "log/notes"];
    disk.world().plant(foreign[0], &content);
    for path in &foreign[1..] {
        disk.world().plant(path, b"somebody else's, longer than a header of ours is");
    }
    let (mut log, opened) = open(&disk);
    assert_eq!((opened.findings.told.len(), opened.end), (4, Position(10)));
    append(&mut log, [batch(10, 10)]).result.unwrap();
    assert_eq!(positions(&read(&mut log, 0, 100).unwrap()).len(), 20);
    let left = disk.world().paths();
    assert!(foreign.iter().all(|path| left.contains(&(*path).to_owned())), "{left:?}");
}

#[test]
fn old_caches_come_out_in_order_and_are_forgotten() {
    let disk = SimDisk::new(1);
    let name = |n: u64| format!("{}_{ID}.json", START + n);
    let ours = |n: u64, body: &[u8]| format!("{}_{ID}_{:08x}.json", START + n, crc32c::crc32c(body));
    {
        let mut world = disk.world();
        world.plant(&name(5), b"five");
        world.plant(&name(3), b"three");
        world.plant(&ours(4, b"four"), b"four");
        world.plant(&ours(6, b"six"), b"damaged");
        world.plant("notes.json", b"");
        // Of an earlier release, without a date, and of another boot that cannot be dated.
        let held = crate::time::timeline::Stamp::Undated(Duration::from_millis(9)).written();
        world.plant(&format!("undated/boot/{held}_{ID}_{:08x}.json", crc32c::crc32c(b"held")), b"held");
        world.plant("undated/boot/offset", (START * 1_000_000).to_string().as_bytes());
        world.plant("undated/other/x", b"");
    }
    let (mut log, opened) = open(&disk);
    assert_eq!((opened.usage.old_batches, opened.newest), (4, Timestamp::default()));
    let late = Timestamp::from_millis(START + 6);
    assert_eq!(opened.last_stamp(late), late);
    assert_eq!(opened.last_stamp(Timestamp::from_millis(START - 3_600_001)), Timestamp::default());
    assert_eq!(opened.findings.told.len(), 1, "{:?}", opened.findings);
    let mut bodies = Vec::new();
    loop {
        let Done::Old { result, .. } = log.perform(Job::ReadOld { output: 0 }) else { panic!() };
        let Some(old) = result.unwrap() else { break };
        bodies.push(String::from_utf8(old.body).unwrap());
        let Done::Forgotten(result) = log.perform(Job::ForgetOld(old.name)) else { panic!() };
        result.unwrap();
    }
    assert_eq!(bodies, ["three", "four", "five", &format!("held at {}", START + 9)]);
    assert_eq!((log.take_findings().told.len(), log.in_quarantine().unwrap().0), (1, 1));
    assert_eq!(log.usage().old_batches, 0);
    log.perform(Job::ForgetOld(OldName("../x".to_owned())));
}

#[test]
fn a_real_disk_holds_a_log_and_keeps_others_out() {
    let root = tempfile::tempdir().unwrap();
    let open = || RealDisk::open(root.path(), ID);
    let (mut log, _) = Log::open(Box::new(open().unwrap()), limits(), &life()).unwrap();
    assert!(matches!(open(), Err(SpoolError::InUse { .. })));
    let cursors = vec![("pattoo".to_owned(), Cursor { position: Position(2), ..Cursor::default() })];
    let next = segments(&mut log, 2);
    write(&mut log, Write { cursors, sync: true, ..Write::default() }).result.unwrap();
    let aside = SetAside { output: 0, file_name: "x.json".to_owned(), body: b"body".to_vec() };
    let Done::SetAside { result, .. } = log.perform(Job::SetAside(aside)) else { panic!() };
    assert_eq!(std::fs::read(result.unwrap()).unwrap(), b"body");
    drop(log);
    let (mut log, opened) = Log::open(Box::new(open().unwrap()), limits(), &life()).unwrap();
    assert_eq!(
        (opened.end, opened.cursors["pattoo"].position, opened.usage.segments),
        (Position(next), Position(2), 3)
    );
    assert_eq!(positions(&read(&mut log, 0, usize::MAX).unwrap()).len() as u64, next);
    assert_eq!(log.in_quarantine().unwrap().0, 1);
    // Somebody deletes everything: what comes is written all the same.
    std::fs::remove_dir_all(root.path().join(ID)).unwrap();
    append(&mut log, [batch(next, 10)]).result.unwrap();
    let left = std::fs::read_dir(root.path().join(ID).join("log")).unwrap().count();
    assert_eq!(left, 2, "a segment and its table");
    assert_eq!(positions(&read(&mut log, next, 100).unwrap()).len(), 10);
}

#[test]
fn what_is_planted_in_the_way_is_left_alone() {
    use std::os::unix::fs::symlink;
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(ID).join("log").join(name);
    std::fs::create_dir_all(at("")).unwrap();
    let victim = root.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    symlink(&victim, at("0000000000000000.segment")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("0000000000000009.segment"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let disk = RealDisk::open(root.path(), ID).unwrap();
    let (mut log, opened) = Log::open(Box::new(disk), limits(), &life()).unwrap();
    assert_eq!(opened.findings.told.len(), 2);
    append(&mut log, [batch(0, 1)]).result.unwrap_err();
    append(&mut log, [batch(1, 1)]).result.unwrap();
    assert_eq!(std::fs::read_to_string(victim).unwrap(), "precious");
}

#[test]
fn a_disk_that_takes_nothing_can_be_read() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    append(&mut log, [batch(0, 10)]);
    drop(log);
    let path = segment(&disk, 0);
    disk.world().content(&path).extend([1; 70]);
    disk.world().hook = Some(Box::new(|action, _| (!matches!(action, "read" | "stat" | "list")).then_some(EROFS)));
    let (mut log, opened) = open(&disk);
    assert_eq!((opened.end, opened.cut), (Position(10), None));
    assert_eq!(positions(&read(&mut log, 0, 100).unwrap()).len(), 10);
    let written = append(&mut log, [batch(10, 10)]);
    written.result.unwrap_err();
    assert_eq!((written.end, written.durable), (Position(10), Position(10)));
    disk.world().hook = None;
    append(&mut log, [batch(10, 10)]).result.unwrap();
    assert_eq!(positions(&read(&mut log, 0, 100).unwrap()).len(), 20);
}

#[test]
fn many_batches_open_at_once_and_drain_without_seeking() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    let mut next = 0;
    for _ in 0..200 {
        append(&mut log, (0..500).map(|n| batch(next + n * 10, 10)));
        next += 5_000;
    }
    assert!(log.segments.len() > 2);
    disk.world().operations.clear();
    drop(log);
    let (mut log, opened) = open(&disk);
    assert_eq!(opened.end, Position(next));
    let mut from = 0;
    disk.world().operations.clear();
    while from < next {
        from = read(&mut log, from, 1_000).unwrap().batches.last().unwrap().end().0;
    }
    let reads = disk.world().operations["read"];
    assert!(reads <= 3 * next / 1_000, "{reads}");
}
