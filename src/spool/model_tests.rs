//! The log in a world that fails, against a list of what was written.
//!
//! Random jobs, kills, power cuts, refusals and full disks; two outputs read as they like. Whatever was told to be durable
//! comes out of every cursor before it, in order, once, or is told as evicted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::batch::{Batch, Encoder, HoldoverId, Position};
use super::job::{Cursor, Done, GapReason, Holdover, Job, Read, Write, Written};
use super::log_tests::{life, table};
use super::sim_disk::SimDisk;
use super::{Limits, Log, MinFree};
use crate::reading::{PointId, Reading, Timestamp, Value};

#[derive(Debug, Clone)]
enum Op {
    /// Batches of so many readings each.
    Append(Vec<u8>, bool),
    Sync,
    Read(usize, u16),
    Kill,
    PowerCut,
    /// Of a thousand operations so many fail from now on.
    Rate(u64),
    /// So many bytes are left.
    Full(Option<u64>),
    Limit(Option<u64>),
    Age(Option<u64>),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (proptest::collection::vec(1..60_u8, 1..6), prop::bool::weighted(0.2)).prop_map(|(n, held)| Op::Append(n, held)),
        4 => Just(Op::Sync),
        6 => (0..2_usize, 1..400_u16).prop_map(|(output, most)| Op::Read(output, most)),
        1 => Just(Op::Kill),
        1 => Just(Op::PowerCut),
        1 => prop_oneof![Just(0), Just(0), 1..400_u64].prop_map(Op::Rate),
        1 => prop_oneof![Just(None), (0..40_000_u64).prop_map(Some)].prop_map(Op::Full),
        1 => prop_oneof![Just(None), (50_000..400_000_u64).prop_map(Some)].prop_map(Op::Limit),
        1 => prop_oneof![Just(None), (1..3_000_u64).prop_map(Some)].prop_map(Op::Age),
    ]
}

/// What the pipeline and the outputs know.
struct Model {
    disk: SimDisk,
    log: Option<Log>,
    limits: Limits,
    life: i64,
    /// Every reading that may be in the log.
    content: BTreeMap<u64, i64>,
    /// Batches that are not written.
    waiting: VecDeque<Arc<Batch>>,
    next: u64,
    end: u64,
    durable: u64,
    evicted: u64,
    /// Readings that a power cut may have taken.
    unsure: Vec<std::ops::Range<u64>>,
    cursors: [u64; 2],
    /// What a kill, and what a power cut leaves of them at least.
    written: [u64; 2],
    synced: [u64; 2],
    now: u64,
}

const NAMES: [&str; 2] = ["pattoo", "tsdb"];

impl Model {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let limits = Limits { min_free: MinFree::Bytes(0), ..Limits::default() };
        let mut this = Self {
            disk,
            log: None,
            limits,
            life: 0,
            content: BTreeMap::new(),
            waiting: VecDeque::new(),
            next: 0,
            end: 0,
            durable: 0,
            evicted: 0,
            unsure: Vec::new(),
            cursors: [0; 2],
            written: [0; 2],
            synced: [0; 2],
            now: 1_790_000_000_000,
        };
        this.open();
        this
    }

    fn open(&mut self) {
        let first = Log::open(Box::new(self.disk.clone()), self.limits, &life());
        let (log, opened) = first.unwrap_or_else(|_| {
            // A disk that lets nothing be read is no log yet.
            self.disk.world().rate = 0;
            self.disk.world().kill();
            Log::open(Box::new(self.disk.clone()), self.limits, &life()).unwrap()
        });
        self.log = Some(log);
        self.life += 1;
        let end = opened.end.0;
        // When everything was evicted and no cursor tells of it, numbers begin anew.
        if self.evicted < self.durable {
            assert!(end >= self.durable, "the log ends at {end}, durable was {}", self.durable);
        }
        self.content.retain(|&position, _| position < end);
        self.waiting.clear();
        (self.next, self.end, self.durable) = (end, end, self.durable.min(end));
        for (output, name) in NAMES.into_iter().enumerate() {
            let cursor = opened.cursors.get(name).map_or(0, |cursor| cursor.position.0);
            assert!(cursor <= self.cursors[output], "{name}: {cursor}, was {}", self.cursors[output]);
            assert!(cursor >= self.written[output], "{name}: {cursor}, {} was written", self.written[output]);
            self.cursors[output] = cursor;
        }
    }

    fn kill(&mut self) {
        self.log = None;
        self.disk.world().kill();
        self.open();
    }

    fn power_cut(&mut self) {
        self.log = None;
        self.disk.world().power_cut();
        self.unsure.push(self.durable..self.end.max(self.next));
        self.written = self.synced;
        self.open();
    }

    fn append(&mut self, sizes: &[u8], undated: bool) {
        let hold = undated.then(|| HoldoverId(self.life.unsigned_abs()));
        for &size in sizes {
            let mut encoder = Encoder::default();
            let first = self.next;
            for _ in 0..size {
                self.now += 1;
                let value = i64::try_from(self.next).unwrap() * 1_000 + self.life;
                self.content.insert(self.next, value);
                let at = Timestamp::from_millis(self.now);
                encoder.push(&Reading { point: PointId(0), at, value: Value::Integer(value) });
                self.next += 1;
            }
            let batch = encoder.finish(Position(first), table(u32::from(size) % 2), hold).unwrap();
            self.waiting.push_back(Arc::new(batch));
        }
        let holds = hold.map(|id| Holdover { id, boot_id: "b".to_owned(), since: Duration::ZERO, offset: None });
        self.write(holds.into_iter().collect(), false);
    }

    fn write(&mut self, holds: Vec<Holdover>, sync: bool) {
        let cursors = self.cursors.map(|position| Cursor { position: Position(position), ..Cursor::default() });
        let write = Write {
            holds,
            batches: self.waiting.iter().cloned().collect(),
            cursors: NAMES.map(str::to_owned).into_iter().zip(cursors).collect(),
            release: Position(self.cursors[0].min(self.cursors[1])),
            sync,
            now: Some(Timestamp::from_millis(self.now)),
            ..Write::default()
        };
        let Done::Written(written) = self.log.as_mut().unwrap().perform(Job::Write(write)) else { panic!() };
        let Written { result, end, durable, evicted, .. } = written;
        assert!(end.0 >= self.end && durable <= end, "{end:?} {durable:?}");
        (self.end, self.durable) = (end.0, self.durable.max(durable.0));
        self.waiting.retain(|batch| batch.first >= end);
        let failing = {
            let world = self.disk.world();
            world.rate > 0 || world.capacity.is_some()
        };
        if !failing {
            result.as_ref().unwrap();
            assert_eq!(end.0, self.next.max(end.0));
            assert!(!sync || durable == end);
        }
        if result.is_ok() {
            self.written = self.cursors;
            if sync {
                self.synced = self.cursors;
            }
        } else {
            // Some cursors may be written all the same.
            assert!(evicted.is_empty() || self.waiting.is_empty());
        }
        for evicted in evicted {
            self.evicted = self.evicted.max(evicted.up_to.0);
        }
        for cursor in &mut self.cursors {
            *cursor = (*cursor).max(self.evicted.min(self.end));
        }
    }

    fn read(&mut self, output: usize, most: u16) {
        let from = self.cursors[output];
        let job = Job::Read { output, from: Position(from), most: usize::from(most) };
        let Done::Read { result, .. } = self.log.as_mut().unwrap().perform(job) else { panic!() };
        let Ok(Read { batches, gaps }) = result else {
            assert!(self.disk.world().rate > 0);
            return;
        };
        let mut gaps = gaps.into_iter().peekable();
        let mut batches = batches.into_iter().peekable();
        let (mut wanted, mut got) = (from, 0);
        loop {
            if let Some(gap) = gaps.next_if(|gap| batches.peek().is_none_or(|batch| gap.from < batch.first)) {
                assert_eq!(gap.from.0, wanted);
                for position in gap.from.0..gap.to.0 {
                    let lost = self.unsure.iter().any(|range| range.contains(&position)) || position < self.evicted;
                    assert!(lost || !self.content.contains_key(&position), "{position} is missing: {gap:?}");
                }
                assert!(gap.to > gap.from);
                assert!(gap.why == GapReason::Vanished || !self.unsure.is_empty(), "{gap:?}");
                wanted = gap.to.0;
            } else if let Some(batch) = batches.next() {
                assert!(batch.first.0 <= wanted && wanted < batch.end().0);
                for (position, reading) in (batch.first.0..).zip(batch.readings().unwrap()) {
                    let expected = self.content.get(&position).map(|&value| Value::Integer(value));
                    assert_eq!(Some(reading.value), expected, "at {position}");
                }
                if let Some(hold) = batch.undated {
                    assert!(self.log.as_ref().unwrap().holds.get(hold).is_some(), "{hold:?}");
                }
                got += batch.end().0 - wanted;
                wanted = batch.end().0;
            } else {
                break;
            }
        }
        assert!(got >= u64::from(most) || wanted >= self.end, "{got} of {most}, up to {wanted} of {}", self.end);
        self.cursors[output] = wanted;
    }

    fn perform(&mut self, op: &Op) {
        match op {
            Op::Append(sizes, held) => self.append(sizes, *held),
            Op::Sync => self.write(Vec::new(), true),
            Op::Read(output, most) => self.read(*output, *most),
            Op::Kill => self.kill(),
            Op::PowerCut => self.power_cut(),
            Op::Rate(rate) => self.disk.world().rate = *rate,
            Op::Full(room) => {
                let mut world = self.disk.world();
                let used: u64 = world.paths().iter().map(|path| world.content(path).len() as u64).sum();
                world.capacity = room.map(|room| used + room);
            }
            Op::Limit(max_bytes) => self.limit(Limits { max_bytes: *max_bytes, ..self.limits }),
            Op::Age(age) => self.limit(Limits { max_age: age.map(Duration::from_millis), ..self.limits }),
        }
    }

    fn limit(&mut self, limits: Limits) {
        self.limits = limits;
        self.log.as_mut().unwrap().perform(Job::Limit(limits));
    }
}

/// The same cases each time, and other ones by an explicit command: `PROPTEST_CASES=9000 cargo test --lib model_tests`.
fn cases() -> ProptestConfig {
    let rng_seed = if std::env::var_os("PROPTEST_CASES").is_some() { RngSeed::Random } else { RngSeed::Fixed(14) };
    ProptestConfig { rng_seed, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn whatever_fails_every_durable_reading_comes_out_once_in_order(
        seed in 1..u64::MAX,
        ops in proptest::collection::vec(op(), 1..150),
    ) {
        let mut model = Model::new(seed);
        for op in &ops {
            model.perform(op);
        }
        // In the end the world is well again, and everything comes out.
        model.perform(&Op::Rate(0));
        model.perform(&Op::Full(None));
        model.perform(&Op::Sync);
        for output in 0..2 {
            while model.cursors[output] < model.end {
                model.read(output, u16::MAX);
            }
        }
    }
}
