//! The edge node over one connection after another: who was born, what the next number is. Pure: told the time.
//!
//! - Each connection has a number, `bdSeq`, in its last will and in its birth, one more than the one before; 0 is the first of this
//!   process. A broker publishes the will of the old connection before it takes the new one, so no death of another process comes
//!   behind a birth.
//! - A birth of the node, then one of each device that answers or of which there is something to send, then data. A device is born, too, before the first reading of it is
//!   sent, and again when there is a metric, a datatype or a unit of measurement that its birth did not have.
//! - A birth says of a metric how it is now, if that is known; else that it has no value.
//! - A device that is away, or configured no more, dies. What waits of it is sent all the same: it is born for that.
//! - With a primary host, nothing is said before that host is there; once it is not, the connection ends.
//! - Data has aliases only. An alias belongs to device and metric for as long as the process lives.
//! - A value is historical when it was read before the birth of the connection by more than one interval of its device (and 5 s): it
//!   is not how the metric is now. A birth that a host asks for begins no other connection.
//!
//! Invariant: messages are made in the order in which they are sent, each once; a message that may not have been sent ends the
//! connection. So numbers have no gap.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use super::encode::{Line, is_bit, parse};
use super::payload::{self, BD_SEQ, Datatype, Payload, PropertySet, REBIRTH, Value};
use super::{NAMESPACE, SparkplugSettings, is_current};
use crate::outputs::mqtt::message::Message;
use crate::outputs::plant::{Now, Plant, Unit, unit};
use crate::reading::Timestamp;
use crate::reading::points::{PointTable, TableId};

/// So many values are in one message at most.
const MOST_METRICS: usize = 1_000;

/// The agent as an edge node.
#[derive(Debug)]
pub struct EdgeNode {
    settings: SparkplugSettings,
    /// As which node of its group it comes.
    id: String,
    plant: Plant,
    /// Of the connection; none before the first one.
    bd_seq: Option<u8>,
    /// Of the next message.
    seq: u8,
    /// When the node was born over this connection.
    birth: Timestamp,
    /// By device and metric.
    aliases: HashMap<(String, String), u64>,
    devices: BTreeMap<String, Device>,
    /// The point table that `devices` is of.
    table: Option<TableId>,
    /// A host asks for births.
    is_asked: bool,
    /// What the primary host has said of itself last over this connection: when, and whether it is there.
    host: Option<(u64, bool)>,
}

/// What a primary host says of itself.
#[derive(Deserialize)]
struct HostState {
    online: bool,
    timestamp: u64,
}

#[derive(Debug, Default)]
struct Device {
    /// Over this connection.
    is_born: bool,
    /// Its birth does not have what it should.
    has_changed: bool,
    /// What it is by the configuration; none if it is in no configuration any more.
    units: Vec<Unit>,
    metrics: BTreeMap<String, Metric>,
}

#[derive(Debug)]
struct Metric {
    alias: u64,
    datatype: Datatype,
    unit_of_measurement: Option<String>,
    interval: Duration,
    /// The newest value that was sent, and when it was read.
    last: Option<(Timestamp, Value)>,
}

impl EdgeNode {
    /// No connection yet. Which devices there are and which of them answer is seen in `plant`.
    #[must_use]
    pub fn new(settings: SparkplugSettings, id: String, plant: Plant) -> Self {
        Self {
            settings,
            id,
            plant,
            bd_seq: None,
            seq: 0,
            birth: Timestamp::default(),
            aliases: HashMap::new(),
            devices: BTreeMap::new(),
            table: None,
            is_asked: false,
            host: None,
        }
    }

    /// Where commands to it come, and what its primary host says of itself.
    #[must_use]
    pub fn filters(&self) -> Vec<String> {
        let of_host = |host| format!("{NAMESPACE}/STATE/{host}");
        let host = self.settings.primary_host_id.as_ref().map(of_host);
        [self.topic("NCMD", None)].into_iter().chain(host).collect()
    }

    /// Whether somebody is there for whom something is to be sent.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.settings.primary_host_id.is_none() || self.host.is_some_and(|(_, online)| online)
    }

    /// The last will of the next connection. Each has another one.
    pub fn will(&mut self, now: Timestamp) -> Message {
        self.bd_seq = Some(self.bd_seq.map_or(0, |before| before.wrapping_add(1)));
        // What was said over an earlier connection may have changed while there was none: it is heard anew.
        self.host = None;
        self.message("NDEATH", None, &Payload::new(now, None, vec![self.number(now)]))
    }

    /// The connection begins at `now`, for this post if there is one: what is said first.
    pub fn begin(&mut self, post: Option<&Bytes>, now: Timestamp) -> Vec<Message> {
        (self.birth, self.is_asked) = (now, false);
        self.look();
        self.devices.values_mut().for_each(|device| device.is_born = false);
        // What the post holds is known before the first birth: else that would say Double of what turns out to be Int64
        // a moment later, and each start had two births of a device.
        for line in post.map_or_else(Vec::new, parse) {
            self.know(&line);
            // It will have to be.
            self.devices.get_mut(&line.device).into_iter().for_each(|device| device.is_born = true);
        }
        self.births(now)
    }

    /// Something came to a topic.
    pub fn hear(&mut self, topic: &str, payload: &Bytes) {
        match self.filters().iter().position(|filter| filter == topic) {
            Some(0) => self.is_asked |= Payload::asks_for_births(payload),
            Some(_) => {
                // What is older than the last word has been overtaken on its way.
                let last = self.host.map_or(0, |(at, _)| at);
                let said = serde_json::from_slice(payload).ok().filter(|said: &HostState| said.timestamp >= last);
                self.host = said.map(|HostState { online, timestamp }| (timestamp, online)).or(self.host);
            }
            None => {}
        }
    }

    /// The messages of a post.
    pub fn post(&mut self, body: &Bytes, now: Timestamp) -> Vec<Message> {
        self.look();
        let mut of_devices: Vec<(String, Vec<Line>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for line in parse(body) {
            self.know(&line);
            let place = *places.entry(line.device.clone()).or_insert_with_key(|device| {
                of_devices.push((device.clone(), Vec::new()));
                of_devices.len() - 1
            });
            of_devices.get_mut(place).into_iter().for_each(|(_, lines)| lines.push(line.clone()));
        }
        // A device may be several units, which are read side by side; values are to be in order of time.
        for (_, lines) in &mut of_devices {
            lines.sort_by_key(|line| line.at);
        }
        let mut messages = Vec::new();
        for (device, _) in &of_devices {
            if self.devices.get(device).is_none_or(|device| !device.is_born || device.has_changed) {
                messages.extend(self.device_birth(device, now));
            }
        }
        for (device, lines) in &of_devices {
            messages.extend(lines.chunks(MOST_METRICS).filter_map(|lines| self.data(device, lines, now)));
        }
        messages
    }

    /// What is to be said at `now` besides: births that a host asks for, deaths of devices that are away, births of those that are back.
    pub fn due(&mut self, now: Timestamp) -> Vec<Message> {
        let state = self.look();
        let mut messages = if std::mem::take(&mut self.is_asked) { self.births(now) } else { Vec::new() };
        let ids: Vec<String> = self.devices.keys().cloned().collect();
        for id in ids {
            let Some(device) = self.devices.get(&id) else { continue };
            let (is_born, presence) = (device.is_born, device.presence(&state));
            if is_born && presence == Some(false) {
                messages.push(self.device_death(&id, now));
            } else if (!is_born && presence == Some(true)) || (is_born && device.has_changed) {
                messages.extend(self.device_birth(&id, now));
            }
        }
        // One that is configured no more leaves when its death is said.
        self.devices.retain(|_, device| device.is_born || !device.units.is_empty());
        messages
    }

    /// The birth of the node, and of each device that is there.
    fn births(&mut self, now: Timestamp) -> Vec<Message> {
        let state = self.look();
        self.seq = 0;
        let rebirth = payload::Metric::of_node(REBIRTH, Datatype::Boolean, Value::Boolean(false), now);
        let payload = Payload::new(now, Some(self.next()), vec![self.number(now), rebirth]);
        let mut messages = vec![self.message("NBIRTH", None, &payload)];
        let is_there = |device: &Device| device.is_born || device.presence(&state) == Some(true);
        let there: Vec<_> =
            self.devices.iter().filter(|(_, device)| is_there(device)).map(|(id, _)| id.clone()).collect();
        messages.extend(there.iter().filter_map(|device| self.device_birth(device, now)));
        messages
    }

    fn device_birth(&mut self, id: &str, now: Timestamp) -> Option<Message> {
        let device = self.devices.get_mut(id)?;
        (device.is_born, device.has_changed) = (true, false);
        let metrics = device.metrics.iter().map(|(name, metric)| metric.born(name, now)).collect();
        let seq = self.next();
        Some(self.message("DBIRTH", Some(id), &Payload::new(now, Some(seq), metrics)))
    }

    fn device_death(&mut self, id: &str, now: Timestamp) -> Message {
        self.devices.get_mut(id).into_iter().for_each(|device| device.is_born = false);
        let seq = self.next();
        self.message("DDEATH", Some(id), &Payload::new(now, Some(seq), Vec::new()))
    }

    /// What was read of one device, which is born and has these metrics.
    fn data(&mut self, id: &str, lines: &[Line], now: Timestamp) -> Option<Message> {
        let birth = self.birth;
        let device = self.devices.get_mut(id)?;
        let mut metrics = Vec::with_capacity(lines.len());
        for Line { metric, at, value, .. } in lines {
            let metric = device.metrics.get_mut(metric)?;
            let is_current = is_current(*at, metric.interval, birth);
            if is_current && metric.last.is_none_or(|(last, _)| last <= *at) {
                metric.last = Some((*at, *value));
            }
            metrics.push(payload::Metric {
                alias: Some(metric.alias),
                timestamp: Some(at.as_millis()),
                is_historical: (!is_current).then_some(true),
                value: Some(*value),
                ..payload::Metric::default()
            });
        }
        let seq = self.next();
        let line = lines.first()?.bytes.clone();
        Some(Message { line, ..self.message("DDATA", Some(id), &Payload::new(now, Some(seq), metrics)) })
    }

    /// Knows the metric of a line, as that says.
    fn know(&mut self, line: &Line) {
        let Line { device: id, metric: name, datatype, unit_of_measurement, interval_ms, .. } = line;
        let device = self.devices.entry(id.clone()).or_default();
        let interval = Duration::from_millis(*interval_ms);
        match device.metrics.get_mut(name) {
            Some(metric) if metric.datatype == *datatype && metric.unit_of_measurement == *unit_of_measurement => {}
            Some(metric) => {
                (metric.datatype, metric.unit_of_measurement) = (*datatype, unit_of_measurement.clone());
                (metric.interval, metric.last) = (interval, None);
                device.has_changed = true;
            }
            None => {
                let alias = alias(&mut self.aliases, id, name);
                let unit_of_measurement = unit_of_measurement.clone();
                let metric = Metric { alias, datatype: *datatype, unit_of_measurement, interval, last: None };
                device.metrics.insert(name.clone(), metric);
                device.has_changed = true;
            }
        }
    }

    /// Looks at the plant, and takes another configuration over.
    fn look(&mut self) -> Arc<Now> {
        let now = self.plant.now();
        if let Some(table) = now.table.as_ref().filter(|table| self.table != Some(table.id())) {
            self.take_over(table);
        }
        now
    }

    fn take_over(&mut self, table: &PointTable) {
        self.table = Some(table.id());
        let mut before = std::mem::take(&mut self.devices);
        for point in table.iter() {
            // A metric without a name cannot be told; its readings are counted as not sendable.
            let Some(name) = self.settings.metric(&point) else { continue };
            let id = self.settings.device_id(&point);
            let known = before.get_mut(&id).and_then(|device| device.metrics.remove(&name));
            let device = self.devices.entry(id.clone()).or_default();
            let unit = unit(point.device);
            if !device.units.contains(&unit) {
                device.units.push(unit);
            }
            let unit_of_measurement = point.register.unit_of_measurement.clone();
            let interval = point.device.interval();
            // A number is a float unless it has been seen to be something else: which, no configuration says.
            let number = known.as_ref().map_or(Datatype::Double, |metric| match metric.datatype {
                Datatype::Int64 => Datatype::Int64,
                _ => Datatype::Double,
            });
            let datatype = if is_bit(point.register) { Datatype::Boolean } else { number };
            let same =
                known.filter(|known| known.datatype == datatype && known.unit_of_measurement == unit_of_measurement);
            device.has_changed |= same.is_none();
            let new = |alias| Metric { alias, datatype, unit_of_measurement, interval, last: None };
            let metric = same.map(|same| Metric { interval, ..same });
            let metric = metric.unwrap_or_else(|| new(alias(&mut self.aliases, &id, &name)));
            device.metrics.insert(name, metric);
        }
        for (id, old) in before {
            match self.devices.get_mut(&id) {
                Some(device) => {
                    device.is_born = old.is_born;
                    // What is left of it is configured no more.
                    device.has_changed |= old.has_changed || !old.metrics.is_empty();
                }
                None if old.is_born => _ = self.devices.insert(id, Device { units: Vec::new(), ..old }),
                None => {}
            }
        }
    }

    /// The number of the connection, as a metric.
    fn number(&self, now: Timestamp) -> payload::Metric {
        payload::Metric::of_node(BD_SEQ, Datatype::Int64, Value::Long(self.bd_seq.unwrap_or(0).into()), now)
    }

    fn next(&mut self) -> u8 {
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        seq
    }

    fn topic(&self, kind: &str, device: Option<&str>) -> String {
        let topic = format!("{NAMESPACE}/{}/{kind}/{}", self.settings.group_id, self.id);
        device.map_or(topic.clone(), |device| format!("{topic}/{device}"))
    }

    fn message(&self, kind: &str, device: Option<&str>, payload: &Payload) -> Message {
        Message { line: Bytes::new(), topic: self.topic(kind, device), payload: payload.bytes(), kept: false }
    }
}

impl Device {
    /// Whether it answers, where that is known: one of its units does, or none of them.
    fn presence(&self, now: &Now) -> Option<bool> {
        // Before anything is configured, nothing is configured no more.
        now.table.as_ref()?;
        let answers = |unit| now.answers.get(unit).copied();
        if self.units.iter().any(|unit| answers(unit) == Some(true)) {
            return Some(true);
        }
        // A unit of which nothing is known yet may answer: then it is not known either whether the device is away.
        self.units.iter().all(|unit| answers(unit) == Some(false)).then_some(false)
    }
}

impl Metric {
    /// As a birth at `now` has it.
    fn born(&self, name: &str, now: Timestamp) -> payload::Metric {
        let last = self.last.filter(|(at, _)| is_current(*at, self.interval, now));
        let (at, value) = last.unzip();
        payload::Metric {
            name: Some(name.to_owned()),
            alias: Some(self.alias),
            timestamp: Some(at.unwrap_or(now).as_millis()),
            datatype: Some(self.datatype as u32),
            is_historical: None,
            is_null: value.is_none().then_some(true),
            properties: self.unit_of_measurement.as_deref().map(PropertySet::of_unit),
            value,
        }
    }
}

/// The alias of a metric, the same each time.
fn alias(aliases: &mut HashMap<(String, String), u64>, device: &str, metric: &str) -> u64 {
    let next = aliases.len() as u64;
    *aliases.entry((device.to_owned(), metric.to_owned())).or_insert(next)
}

#[cfg(test)]
mod tests;
