//! Everything the agent tells of itself at one moment, in the shape in which programs get it as JSON.
//!
//! Times are RFC 3339 in UTC, counts are whole numbers since the start unless said otherwise. Keys are only
//! ever added; if one ever had to change its meaning, [`SCHEMA`] would become 2. `docs/status-json.md` says each of them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::health::{self, Problem};
use super::polls::{Durations, Polls};
use super::registry::{DeviceState, Registry, State};
use super::values::{PointNow, Values};
use crate::counters::{Counters, DropReason, OutputCounters, Published};
use crate::outage::Fault;
use crate::outputs::pattoo::identity::PROGRAM;
use crate::outputs::sqlite::History;
use crate::reading::{Timestamp, Value};
use crate::time::clock::Moment;
use crate::time::timeline::ClockState;

/// The version of the shape of a snapshot.
pub const SCHEMA: u32 = 1;

/// With more points than this, a snapshot of all devices has no values: it would be larger than a gateway likes to hold.
pub const MOST_VALUES: usize = 10_000;

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The agent id.
    pub agent_id: String,
    /// The host name that identifies every series.
    pub hostname: String,
    /// The outputs, in the order of the configuration.
    pub outputs: Vec<OutputProfile>,
    /// When the process started.
    pub started: Timestamp,
    /// The database of the first output that is one.
    pub history: Option<History>,
}

/// What does not change about an output but by a reload.
#[derive(Debug, Clone, Default)]
pub struct OutputProfile {
    /// Its name.
    pub name: String,
    /// Its kind, as configured.
    pub kind: &'static str,
    /// Where its posts go, for people.
    pub server: String,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The version of this shape.
    // Missing in what earlier releases say: the agent that runs may be older than the one that asks it. So it is with
    // all defaults below.
    #[serde(default)]
    pub schema: u32,
    /// The program's name.
    pub program: String,
    /// Its version.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// The agent id.
    pub agent_id: String,
    /// The host name that identifies every series.
    pub hostname: String,
    /// When the process started.
    pub started: Time,
    /// When this was written down.
    pub now: Time,
    /// Whether `history.json` has plots of days.
    #[serde(default)]
    pub has_history: bool,
    /// What is not as it should be, the worst first.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// Polling as a whole.
    pub polling: Polling,
    /// Where the readings of the first output go.
    pub server: Server,
    /// Every output, in the order of the configuration.
    #[serde(default)]
    pub outputs: Vec<Output>,
    /// What waits on disk.
    pub cache: Cache,
    /// The machine's clock.
    pub clock: Clock,
    /// What became of every reading.
    pub books: Ledger,
    /// Every device, in order of name.
    pub devices: Vec<Device>,
}

/// Polling as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Polling {
    /// Devices configured.
    pub devices: usize,
    /// Of those, the ones of which every point can be read.
    pub up: usize,
    /// Of those, the ones of which some points cannot be read.
    pub degraded: usize,
    /// Of those, the ones of which no point can be read.
    pub down: usize,
    /// Of those, the ones whose first poll has not ended.
    pub starting: usize,
    /// Points configured.
    pub points: usize,
    /// Of those, the ones that devices refuse with an exception.
    pub refused: usize,
    /// Readings a minute, over the last five or so many as there were; `None` in the first ten seconds.
    pub readings_per_minute: Option<u64>,
    /// Polls skipped because the one before them still ran.
    pub overruns: u64,
    /// How long polls took.
    pub durations: Durations,
    /// Requests that failed, by kind.
    pub failures: BTreeMap<String, u64>,
    /// Points that were due and were not read, by reason.
    #[serde(default)]
    pub unread: BTreeMap<String, u64>,
}

/// Where readings go.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Host and port.
    pub address: String,
    /// When it last took a post.
    pub last_success: Option<Time>,
    /// Posts that it took.
    pub posts: u64,
    /// Attempts that failed.
    #[serde(default)]
    pub failures: u64,
    /// Since when it takes none.
    pub failing_since: Option<Time>,
    /// Why the last attempt failed.
    pub cause: Option<String>,
    /// When it is tried again.
    pub next_attempt: Option<Time>,
}

/// One output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Its kind, as configured.
    pub kind: String,
    /// How its server takes posts.
    pub server: Server,
    /// The stamp of the oldest reading that waits for it, as far as it is known.
    pub oldest: Option<Time>,
    /// Readings a minute that it delivered, over the last five or so many as there were; `None` in the first ten seconds.
    #[serde(default)]
    pub delivered_per_minute: Option<u64>,
    /// What became of the readings that it was to deliver.
    pub readings: Ledger,
}

/// What waits on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    /// Readings that wait for the first output.
    pub readings: u64,
    /// Segments of the log.
    pub segments: usize,
    /// Files of old caches.
    pub batches: usize,
    /// Readings that wait for a date.
    pub undated: u64,
    /// Bytes.
    pub bytes: u64,
    /// The stamp of the oldest reading that waits for any output.
    pub oldest: Option<Time>,
    /// What is wrong with the disk.
    #[serde(default)]
    pub fault: Option<String>,
    /// Whether that is that it does not answer.
    #[serde(skip)]
    pub hangs: bool,
}

/// The machine's clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Clock {
    /// Whether stamps are its time.
    pub good: bool,
    /// In words.
    pub state: String,
}

/// What became of every reading: `accepted + found = delivered + on_disk + in_memory + quarantined + dropped`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Readings taken over from devices in this life.
    pub accepted: u64,
    /// Readings that earlier lives left on disk.
    pub found: u64,
    /// The server has them.
    pub delivered: u64,
    /// On disk now.
    pub on_disk: u64,
    /// In memory, about to be stored.
    pub in_memory: u64,
    /// Set aside for people to look at.
    pub quarantined: u64,
    /// Gone, by reason; what is lost is among it.
    pub dropped: BTreeMap<String, u64>,
    /// Lost: the server could have had it, and never will.
    #[serde(default)]
    pub lost: u64,
    /// Of that, by reason; those of the cache by the limit.
    #[serde(default)]
    pub lost_by_reason: BTreeMap<String, u64>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// As it is configured, in `ip_devices`.
    pub name: String,
    /// The name that the configuration gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// How it is.
    pub state: State,
    /// Since when.
    pub since: Option<Time>,
    /// When it gave its last reading.
    pub last_good: Option<Time>,
    /// Points read from it.
    pub points: usize,
    /// Of those, the ones that it refuses with an exception.
    pub refused: usize,
    /// Points that could not be read when they were last due, refused ones included.
    #[serde(default)]
    pub missing: usize,
    /// Polls that ended.
    pub polls: u64,
    /// Readings that it gave.
    pub readings: u64,
    /// Polls skipped because the one before them still ran.
    pub overruns: u64,
    /// How many seconds the last poll took.
    pub took: f64,
    /// The first value that the last poll gave.
    pub value: Option<f64>,
    /// The name of that value, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_name: Option<String>,
    /// What is failing.
    pub troubles: Vec<DeviceTrouble>,
    /// What was learned of it besides refused values, a sentence each.
    #[serde(default)]
    pub learned: Vec<String>,
    /// The polling groups that read it, sorted.
    #[serde(default)]
    pub groups: Vec<String>,
    /// When the last poll ended, whatever came of it.
    #[serde(default)]
    pub last_poll: Option<Time>,
    /// Requests and connections that failed.
    #[serde(default)]
    pub failures: u64,
    /// How it was in each minute of the last hour, the oldest first: `+` up, `~` degraded, `!` down, `.` starting, `-` where
    /// that is not known.
    #[serde(default)]
    pub hour: String,
    /// Every point with its last value, where values were asked for and are not too many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<PointValue>,
}

/// One point and its last value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointValue {
    /// The unit id that is asked.
    pub unit: u8,
    /// The name of its polling group.
    pub group: String,
    /// The table: `input_register`, `holding_register`, `coil` or `discrete_input`.
    pub table: String,
    /// The reference number as configured.
    pub register: u32,
    /// Table, reference number and part as one word, as pattoo calls it.
    pub key: String,
    /// Its name, if the configuration gives it one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// In what it is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit_of_measurement: Option<String>,
    /// The last value; `None` before the first one.
    pub value: Option<serde_json::Number>,
    /// What that value means, where the configuration says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// When it was read.
    pub read: Option<Time>,
    /// Why it was not read when it was last due; `None` when it was.
    pub why: Option<String>,
    /// The samples of the last hour, the oldest first, one each `sampled_every` seconds; for one device only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Option<f32>>,
}

/// One device with the values of all its points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceDetail {
    /// The version of this shape.
    pub schema: u32,
    /// When this was written down.
    pub now: Time,
    /// Seconds between two samples; `None` when there is no room for samples of so many points.
    pub sampled_every: Option<f64>,
    /// The device.
    pub device: Device,
}

/// One thing that is failing at a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceTrouble {
    /// The connection, a unit, or a request.
    pub what: String,
    /// Since when.
    pub since: Time,
    /// Why it failed last.
    pub cause: String,
}

/// Readings a minute, as far as they are known.
#[derive(Debug, Clone, Default)]
pub struct Rates {
    /// Taken over from devices.
    pub accepted: Option<u64>,
    /// Delivered, by output.
    pub delivered: Vec<u64>,
}

/// Everything as it is now, without values.
#[must_use]
pub fn take(
    profile: &Profile,
    registry: &Registry,
    counters: &Counters,
    rates: &Rates,
    clock: Clock,
    now: Moment,
) -> Snapshot {
    let devices: Vec<Device> = registry.devices().into_iter().map(|(name, state)| device(name, state, now)).collect();
    let published = counters.published();
    let of_output = |(place, profile): (usize, &OutputProfile)| Output {
        delivered_per_minute: rates.delivered.get(place).copied(),
        ..output(profile, published.outputs.get(place), counters, registry)
    };
    let outputs: Vec<Output> = profile.outputs.iter().enumerate().map(of_output).collect();
    let oldest = published.outputs.iter().filter_map(|output| output.oldest).min();
    let mut snapshot = Snapshot {
        schema: SCHEMA,
        program: PROGRAM.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        agent_id: profile.agent_id.clone(),
        hostname: profile.hostname.clone(),
        started: Time(profile.started),
        now: Time(now.wall),
        has_history: profile.history.is_some(),
        problems: Vec::new(),
        polling: polling(&devices, rates.accepted, counters.overruns(), registry.polls()),
        server: outputs.first().map_or_else(Server::default, |output| output.server.clone()),
        cache: Cache {
            readings: published.outputs.first().map_or(0, OutputCounters::waiting),
            segments: published.log.segments,
            batches: published.log.old_batches,
            undated: published.log.undated,
            bytes: published.log.bytes,
            oldest: oldest.map(Time),
            fault: published.log.fault.clone(),
            hangs: published.log.hangs,
        },
        clock,
        books: books(counters, &published),
        outputs,
        devices,
    };
    // At last, of what the snapshot says: page, --status and status.json cannot differ about it.
    snapshot.problems = health::problems(&snapshot);
    snapshot
}

/// One device as it is now, with the values of all its points; `None` when there is no such device.
#[must_use]
pub fn detail(registry: &Registry, name: &str, now: Moment) -> Option<DeviceDetail> {
    // First: the values' slot is made when it is asked for, and a client may ask for any name.
    let state = registry.find(name)?;
    let slot = registry.values(name);
    let (values, every) = slot.look(|values| (values_of(values, true, now), values.sampled_every()));
    let device = Device { values, ..device(name.to_owned(), state, now) };
    Some(DeviceDetail {
        schema: SCHEMA,
        now: Time(now.wall),
        sampled_every: every.map(|every| every.as_secs_f64()),
        device,
    })
}

/// Adds the values of all points of all devices, unless these are more than `most`.
pub fn add_values(snapshot: &mut Snapshot, registry: &Registry, now: Moment, most: usize) {
    if snapshot.polling.points <= most {
        for device in &mut snapshot.devices {
            device.values = registry.values(&device.name).look(|values| values_of(values, false, now));
        }
    }
}

fn values_of(values: &Values, sampled: bool, now: Moment) -> Vec<PointValue> {
    let value = |PointNow { point, last, why, samples }: PointNow<'_>| PointValue {
        unit: point.device.unit,
        group: point.device.group.clone(),
        table: point.register.table.clone(),
        register: point.register.number,
        key: point.register.key.clone(),
        name: point.register.name.clone(),
        unit_of_measurement: point.register.unit_of_measurement.clone(),
        value: last.and_then(|(_, value)| match value {
            Value::Integer(integer) => Some(integer.into()),
            Value::Float(float) => serde_json::Number::from_f64(float),
        }),
        text: last.and_then(|(_, value)| point.text_of(value)).map(str::to_owned),
        // By today's clock, which may have been set since.
        read: last.map(|(at, _)| Time(now.wall.before(now.boot.saturating_sub(at)))),
        why: why.map(str::to_owned),
        samples,
    };
    values.points(sampled, now.boot).map(value).collect()
}

impl From<ClockState> for Clock {
    fn from(state: ClockState) -> Self {
        Self { good: state == ClockState::Good, state: state.to_string() }
    }
}

fn polling(devices: &[Device], readings_per_minute: Option<u64>, overruns: u64, polls: &Polls) -> Polling {
    let of = |state: State| devices.iter().filter(|device| device.state == state).count();
    Polling {
        devices: devices.len(),
        up: of(State::Up),
        degraded: of(State::Degraded),
        down: of(State::Down),
        starting: of(State::Starting),
        points: devices.iter().map(|device| device.points).sum(),
        refused: devices.iter().map(|device| device.refused).sum(),
        readings_per_minute,
        overruns,
        durations: polls.durations(),
        failures: polls.failures(),
        unread: polls.unread_so_far(),
    }
}

fn output(
    profile: &OutputProfile,
    counted: Option<&OutputCounters>,
    counters: &Counters,
    registry: &Registry,
) -> Output {
    let state = registry.output(&profile.name).read();
    let (failing_since, cause) = state.fault.map(|Fault { since, cause }| (Time(since), cause)).unzip();
    Output {
        name: profile.name.clone(),
        kind: profile.kind.to_owned(),
        server: Server {
            address: profile.server.clone(),
            last_success: state.last_success.map(Time),
            posts: state.posts,
            failures: state.failures,
            failing_since,
            cause,
            next_attempt: state.next_attempt.map(Time),
        },
        oldest: counted.and_then(|counted| counted.oldest).map(Time),
        delivered_per_minute: None,
        readings: counted.map_or_else(Ledger::default, |counted| ledger(counted, counters)),
    }
}

/// The first output's, and what is lost to any.
fn books(counters: &Counters, published: &Published) -> Ledger {
    let nothing = OutputCounters::default();
    let lost = counters.lost();
    // Every reason from the start: an alert on an increase needs a value from before the first loss.
    let mut by_reason: BTreeMap<String, u64> =
        DropReason::ALL.into_iter().filter(|reason| reason.is_loss()).map(|why| (why.as_str().to_owned(), 0)).collect();
    by_reason.extend(lost.by_reason().into_iter().map(|(why, count)| (why.to_owned(), count)));
    Ledger {
        lost: lost.count(),
        lost_by_reason: by_reason,
        ..ledger(published.outputs.first().unwrap_or(&nothing), counters)
    }
}

/// What is in memory is what is left: the threads put down their parts of one batch one after the other, and no reader
/// sees it twice or not at all.
fn ledger(output: &OutputCounters, counters: &Counters) -> Ledger {
    // After `output` was read, and before what was accepted: a reading is accepted before it is counted anywhere else,
    // so what is left is never less than nothing.
    let values = counters.dropped_values();
    let accepted = counters.accepted();
    let dropped = |reason: DropReason| values.count(reason) + output.dropped.count(reason);
    let mut dropped_by = BTreeMap::new();
    for reason in DropReason::ALL {
        // By which limit is said where losses are.
        let evicted = matches!(reason, DropReason::MinFree | DropReason::MaxBytes | DropReason::MaxAge);
        let name = if evicted { "evicted" } else { reason.as_str() };
        *dropped_by.entry(name.to_owned()).or_insert(0) += dropped(reason);
    }
    let gathered = accepted.saturating_sub(values.sum() + output.appended);
    let losses = || DropReason::ALL.into_iter().filter(|reason| reason.is_loss());
    Ledger {
        accepted,
        found: output.found,
        delivered: output.delivered,
        on_disk: output.on_disk,
        in_memory: output.in_memory + gathered,
        quarantined: output.quarantined,
        dropped: dropped_by,
        lost: output.dropped.lost(),
        lost_by_reason: losses().map(|reason| (reason.as_str().to_owned(), output.dropped.count(reason))).collect(),
    }
}

fn device(name: String, state: DeviceState, now: Moment) -> Device {
    let trouble = |(what, Fault { since, cause }): (String, Fault)| DeviceTrouble { what, since: Time(since), cause };
    Device {
        name,
        label: state.label,
        state: state.state,
        since: state.since.map(Time),
        last_good: state.last_good.map(Time),
        points: state.points,
        refused: state.refused,
        missing: state.missing,
        polls: state.polls,
        readings: state.readings,
        overruns: state.overruns,
        took: state.took.as_secs_f64(),
        value: state.value,
        value_name: state.value_name,
        troubles: state.faults.into_iter().map(trouble).collect(),
        learned: state.learned,
        groups: state.groups,
        last_poll: state.last_poll.map(Time),
        failures: state.failures,
        hour: state.availability.hour(now.boot),
        values: Vec::new(),
    }
}

/// A time, written as RFC 3339 in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.rfc3339().fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time: SystemTime = humantime::parse_rfc3339(&text).map_err(de::Error::custom)?;
        Ok(Self(time.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::status::registry::Polled;

    #[test]
    fn a_snapshot_is_read_back_as_it_was_written() {
        let registry = Registry::default();
        let wall = Timestamp::from_millis(1_700_000_000_123);
        let now = Moment { wall, boot: Duration::from_secs(100) };
        let refused = || Fault { since: wall, cause: "refused".to_owned() };
        registry.device("b").write(|state| {
            state.points = 4;
            state.polled(Polled { readings: 3, failing: 1, refused: 1, ..Polled::default() }, now);
        });
        registry.device("a").write(|state| {
            let faults = vec![("connection".to_owned(), refused())];
            state.polled(Polled { failing: 7, faults, ..Polled::default() }, now);
        });
        registry.device("c").write(|state| state.points = 7);
        registry.output("pattoo").write(|state| state.refused("hung".to_owned(), wall, Duration::from_secs(1)));
        let profile = Profile {
            agent_id: "4c".repeat(32),
            hostname: "plant".to_owned(),
            outputs: vec![OutputProfile {
                name: "pattoo".to_owned(),
                kind: "pattoo",
                server: "server port 20201".to_owned(),
            }],
            started: wall,
            history: None,
        };
        let clock = Clock { good: true, state: "good".to_owned() };
        let snapshot = take(
            &profile,
            &registry,
            &Counters::default(),
            &Rates { accepted: Some(180), delivered: vec![170] },
            clock,
            now,
        );
        let json = serde_json::to_string(&snapshot).unwrap();
        assert!(json.contains("\"now\":\"2023-11-14T22:13:20.123Z\""), "{json}");
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
        let states: Vec<_> = snapshot.devices.iter().map(|device| device.state).collect();
        assert_eq!(states, [State::Down, State::Degraded, State::Starting]);
        let Polling { up, degraded, down, starting, points, refused, .. } = snapshot.polling;
        assert_eq!((up, degraded, down, starting, points, refused), (0, 1, 1, 1, 11, 1));
    }

    #[test]
    fn the_books_are_closed_whatever_is_still_gathered() {
        let counters = Counters::default();
        counters.accept(99);
        counters.drop_values(DropReason::OutsideLimits, 1);
        let mut output =
            OutputCounters { found: 5, appended: 40, delivered: 20, on_disk: 22, ..OutputCounters::default() };
        output.dropped.add(DropReason::MaxAge, 3);
        assert_eq!(output.residual(), 0);
        counters.publish(Published { outputs: vec![output], ..Published::default() });
        let ledger = books(&counters, &counters.published());
        assert_eq!(ledger.in_memory, 59);
        assert_eq!((ledger.lost, ledger.lost_by_reason["cache_max_age"]), (3, 3));
        let gone: u64 = ledger.dropped.values().sum();
        let accounted = ledger.delivered + ledger.on_disk + ledger.in_memory + ledger.quarantined + gone;
        assert_eq!(ledger.accepted + ledger.found, accounted);
    }
}
