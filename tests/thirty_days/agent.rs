//! The agent without actors: its pure parts, performed one event after the other.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use pattoo_agent_modbustcpd::actors::carrier::{Carrier, Next};
use pattoo_agent_modbustcpd::actors::spooler;
use pattoo_agent_modbustcpd::batch::Batcher;
use pattoo_agent_modbustcpd::books::{Books, Reason};
use pattoo_agent_modbustcpd::outputs::pattoo::consignment::{Consignment, Item, Kept, Post};
use pattoo_agent_modbustcpd::outputs::pattoo::identity::{self, AgentId, Series};
use pattoo_agent_modbustcpd::outputs::pattoo::payload::Catalogue;
use pattoo_agent_modbustcpd::outputs::pattoo::post::PostError;
use pattoo_agent_modbustcpd::reading::points::Kind;
use pattoo_agent_modbustcpd::reading::{PointId, Reading, Timestamp, Value, millis};
use pattoo_agent_modbustcpd::shard::Shard;
use pattoo_agent_modbustcpd::spool::{Limits, MinFree, Name, Spool, Stored};
use pattoo_agent_modbustcpd::time::backoff::Backoff;
use pattoo_agent_modbustcpd::time::clock::Moment;
use pattoo_agent_modbustcpd::time::schedule::{Anchor, Grid, Schedule};
use pattoo_agent_modbustcpd::time::timeline::{BUILT, Timeline, Track};
use tempfile::TempDir;

use super::weather::{MINUTE, Server, World};

pub const DEVICES: usize = 2;
pub const POINTS: usize = 2;
pub const INTERVAL: u64 = 5 * MINUTE;
/// The series that the server sometimes refuses; each device has one.
pub const POISONED: &str = "input_register_30002";

const FLUSH: u64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(600);
/// A clock that has moved by this has been set.
const STEP: Duration = Duration::from_secs(2);
const ASK_AGAIN: u64 = 30_000;
const NEVER: u64 = u64::MAX;
const BOOT_ID: &str = "0123456789abcdef0123456789abcdef";

pub struct Agent {
    rng: Rng,
    id: AgentId,
    root: TempDir,
    catalogue: Arc<Catalogue>,
    books: Books,
    devices: Vec<Device>,
    life: Life,
    /// The longest time without a poll of a device, in ms.
    pub longest_gap: u64,
}

/// What lasts from a start to the next.
struct Life {
    spool: Spool,
    timeline: Timeline,
    anchor: Anchor,
    batcher: Batcher,
    /// In ms of the world, as all times here.
    flush: u64,
    store: u64,
    refusals: Backoff,
    carrier: Carrier,
    posted: Timestamp,
    told: Option<Moment>,
    load: Option<Load>,
    /// The next thing that delivery does.
    deliver: u64,
    answer: Option<(Timestamp, usize, Result<(), PostError>)>,
}

/// Batches under way.
struct Load {
    names: Vec<Name>,
    newest: Name,
    oldest: Name,
    consignment: Consignment,
    /// What is posted again as it is: nothing was said about it.
    again: Option<Post>,
}

struct Device {
    target: String,
    schedule: Schedule,
    track: Track,
    polls: u64,
    due: u64,
    polled: Option<u64>,
}

impl Agent {
    pub fn new(world: &World, rng: Rng) -> Self {
        // In memory, where there is such a file system: a month has many batches.
        let memory = Path::new("/dev/shm");
        let root = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap();
        let id = AgentId::from_bytes([7; 32]);
        let agent = identity::Agent::new(id.clone(), "agent.example.net").unwrap();
        let interval = Duration::from_millis(INTERVAL);
        let series: Vec<Series> = (0..DEVICES * POINTS)
            .map(|place| {
                let key = format!("input_register_{}", 30_001 + place % POINTS);
                Series::new(target(place / POINTS), key, 1, Kind::Integer, interval).unwrap()
            })
            .collect();
        let catalogue = Arc::new(Catalogue::new(&agent, interval, &series).unwrap());
        let devices = (0..DEVICES).map(|device| Device::new(&target(device))).collect();
        let life = Life::begin(root.path(), &id, &catalogue, world);
        Self { rng, id, root, catalogue, books: Books::default(), devices, life, longest_gap: 0 }
    }

    /// Stops in order, and starts again.
    pub fn restart(mut self, world: &World) -> Self {
        self.flush(world);
        assert_eq!(self.unaccounted(), 0, "a stop leaves nothing in memory");
        for device in &mut self.devices {
            let (polls, polled) = (device.polls, device.polled);
            let due = if device.due == NEVER { NEVER } else { world.now };
            *device = Device { polls, due, polled, ..Device::new(&device.target) };
        }
        // The directory has one owner at a time.
        drop(self.life);
        let life = Life::begin(self.root.path(), &self.id, &self.catalogue, world);
        Self { life, ..self }
    }

    pub fn spool(&self) -> &Spool {
        &self.life.spool
    }

    /// Readings that are neither on disk nor lost under a reason.
    pub fn unaccounted(&self) -> u64 {
        self.books.in_memory()
    }

    pub fn polls(&self, target: &str) -> u64 {
        self.devices.iter().find(|device| device.target == target).map_or(0, |device| device.polls)
    }

    pub fn targets(&self) -> Vec<String> {
        self.devices.iter().map(|device| device.target.clone()).collect()
    }

    pub fn stop_polling(&mut self) {
        self.devices.iter_mut().for_each(|device| device.due = NEVER);
    }

    /// Whether nothing is left to do.
    pub fn is_idle(&self) -> bool {
        let tally = self.life.spool.tally();
        self.life.batcher.is_empty() && tally.batches == 0 && tally.held == 0 && self.life.load.is_none()
    }

    pub fn next_event(&self) -> u64 {
        let due = self.devices.iter().map(|device| device.due).min().unwrap_or(NEVER);
        due.min(self.life.flush).min(self.life.store).min(self.life.deliver)
    }

    pub fn step(&mut self, world: &World, server: &mut Server) {
        for device in 0..DEVICES {
            if self.devices[device].due <= world.now {
                self.poll(device, world);
            }
        }
        if self.life.flush <= world.now {
            self.flush(world);
        }
        if self.life.store <= world.now {
            self.store(world);
        }
        while self.life.deliver <= world.now {
            self.deliver(world, server);
        }
    }

    fn poll(&mut self, place: usize, world: &World) {
        let (moment, device, life) = (world.moment(), &mut self.devices[place], &mut self.life);
        if let Some(before) = device.polled.replace(world.now) {
            self.longest_gap = self.longest_gap.max(world.now - before);
        }
        device.schedule.begin(moment.boot);
        let at = life.timeline.stamp(moment, &mut device.track).written();
        let value = Value::Float(f64::from(u32::try_from(device.polls).unwrap()));
        let point = |point| PointId(u32::try_from(place * POINTS + point).unwrap());
        let readings: Vec<_> = (0..POINTS).map(|nth| Reading { point: point(nth), at, value }).collect();
        device.polls += 1;
        life.anchor.follow(moment);
        device.schedule.finish(moment.boot, life.anchor);
        device.due = world.now + millis(device.schedule.wait(moment.boot)).max(1);

        self.books.accept(readings.len());
        let timeline = std::cell::RefCell::new(&mut life.timeline);
        let accepted = life.batcher.accept(&readings, |dated| seal(&mut timeline.borrow_mut(), moment, dated));
        self.books.lose(Reason::MemoryFull, accepted.displaced);
        assert_eq!(accepted.not_sendable, 0);
        self.store_soon(world);
        if self.life.batcher.is_open() {
            self.life.flush = self.life.flush.min(world.now + FLUSH);
        }
    }

    fn flush(&mut self, world: &World) {
        let life = &mut self.life;
        life.flush = NEVER;
        let timeline = std::cell::RefCell::new(&mut life.timeline);
        let displaced = life.batcher.seal(|dated| seal(&mut timeline.borrow_mut(), world.moment(), dated));
        self.books.lose(Reason::MemoryFull, displaced);
        self.store_soon(world);
    }

    fn store_soon(&mut self, world: &World) {
        if self.life.store == NEVER {
            self.store(world);
        }
    }

    fn store(&mut self, world: &World) {
        let life = &mut self.life;
        life.store = NEVER;
        while let Some(batch) = life.batcher.hand_over() {
            if world.disk_is_full() {
                life.batcher.refused();
                life.store = world.now + millis(life.refusals.fail(self.rng.f64()));
                return;
            }
            if batch.dated {
                if let Some(offset) = life.timeline.offset() {
                    life.spool.date_held(offset, &spooler::redate).unwrap();
                }
                life.spool.append(batch.at, &batch.body, batch.datapoints).unwrap();
                if life.deliver == NEVER {
                    life.deliver = world.now;
                }
            } else {
                life.spool.hold(batch.at, &batch.body, batch.datapoints).unwrap();
            }
            self.books.store(batch.datapoints);
            life.batcher.stored();
            life.refusals.reset();
        }
    }
}

impl Agent {
    /// The next thing that delivery has to do, as its loop does it.
    fn deliver(&mut self, world: &World, server: &mut Server) {
        let (life, now, random) = (&mut self.life, world.moment(), self.rng.f64());
        life.deliver = world.now;
        if let (Some((at, bytes, result)), Some(load)) = (life.answer.take(), &mut life.load) {
            match result {
                Ok(()) => {
                    load.again = None;
                    life.carrier.part_delivered(&mut load.consignment, now.boot);
                    life.carrier.delivered(now.boot);
                    life.posted = life.posted.max(at);
                    life.timeline.server_says(world.date(), now);
                    life.told = Some(now);
                }
                Err(error) => {
                    if error.is_about_the_body() || error.is_late() {
                        load.again = None;
                    }
                    let batches = (load.newest, load.names.len() == 1);
                    match life.carrier.failed(&error, bytes, batches, &mut load.consignment, now.boot, random) {
                        Next::Post { pause, .. } => life.deliver += millis(pause),
                        Next::Alone => life.load = None,
                    }
                }
            }
            return;
        }
        let Some(load) = &mut life.load else {
            let (bytes, count) = life.carrier.load();
            let taken = life.spool.take(bytes, count).unwrap();
            life.load = Load::new(taken, &self.id);
            life.carrier.begin();
            if life.load.is_none() {
                life.deliver = NEVER;
            }
            return;
        };
        let Some(post) = load.again.take().or_else(|| load.consignment.next(life.posted)) else {
            let aside = load.consignment.condemned().map_or(0, |Kept { datapoints, body, .. }| {
                life.spool.set_aside(load.oldest, &body).unwrap();
                datapoints
            });
            life.carrier.done(load.newest);
            life.spool.acknowledge(&load.names, life.posted, aside).unwrap();
            life.load = None;
            return;
        };
        let ask = life.told.is_none_or(|told| told.has_stepped(now, STEP))
            || life.timeline.too_far_ahead(post.at, now).is_some();
        if ask {
            let Some(date) = server.ask_time(world) else {
                life.deliver += millis(life.carrier.pause(random));
                load.again = Some(post);
                return;
            };
            life.timeline.server_says(date, now);
            life.told = Some(now);
            if life.timeline.too_far_ahead(post.at, now).is_some() {
                life.deliver += ASK_AGAIN;
                load.again = Some(post);
                return;
            }
        }
        let (took, result) = server.post(world, &post.body);
        life.answer = Some((post.at, post.body.len(), result));
        load.again = Some(post);
        life.deliver += took;
    }
}

impl Life {
    fn begin(root: &Path, id: &AgentId, catalogue: &Arc<Catalogue>, world: &World) -> Self {
        let limits = Limits { min_free: MinFree::Bytes(0), ..Limits::default() };
        let mut spool = Spool::open(root, id.as_str(), spooler::check, limits).unwrap();
        let undated = spool.open_held(BOOT_ID).unwrap();
        if let Some(offset) = undated.offset {
            spool.date_held(offset, &spooler::redate).unwrap();
        }
        let timeline = Timeline::new(BUILT, spool.newest());
        let timeline = match undated.since.filter(|_| undated.offset.is_none()) {
            Some(since) => timeline.holding_since(since),
            None => timeline,
        };
        Self {
            posted: spool.posted(),
            spool,
            timeline,
            anchor: Anchor::new(world.moment()),
            batcher: Batcher::new(Arc::clone(catalogue)),
            flush: NEVER,
            store: NEVER,
            refusals: Backoff::default(),
            carrier: Carrier::new(PATIENCE),
            told: None,
            load: None,
            deliver: world.now,
            answer: None,
        }
    }
}

impl Load {
    /// `None` when there is nothing to deliver.
    fn new(taken: Vec<Stored>, id: &AgentId) -> Option<Self> {
        let names: Vec<Name> = taken.iter().map(|stored| stored.name).collect();
        let (&oldest, &newest) = (names.first()?, names.last()?);
        let item = |Stored { name, body, checked }: Stored| Item {
            at: name.at(),
            body,
            datapoints: checked.datapoints,
            plain: checked.plain,
        };
        let consignment = Consignment::new(taken.into_iter().map(item).collect(), id.clone(), Shard::default());
        assert_eq!(consignment.unsound(), None);
        Some(Self { names, newest, oldest, consignment, again: None })
    }
}

impl Device {
    fn new(target: &str) -> Self {
        let schedule = Schedule::new(Grid::new(Duration::from_millis(INTERVAL), target));
        Self { target: target.to_owned(), schedule, track: Track::default(), polls: 0, due: 0, polled: None }
    }
}

fn target(device: usize) -> String {
    format!("plant-{device}.example.net")
}

/// The stamp of a batch that is closed now.
fn seal(timeline: &mut Timeline, now: Moment, dated: bool) -> Timestamp {
    if dated { timeline.seal(now) } else { timeline.seal_undated(now) }
}
