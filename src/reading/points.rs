//! The point table: what every point of one configuration is, said once.
//!
//! A [`Reading`](super::Reading) names its point by a number; whoever stores or delivers it looks up here which device,
//! register and unit of measurement that is. Owns plain data and its form on disk. A table never changes: another configuration has
//! another table, and [`TableId`], which is derived from the content, tells them apart. So what was read under one
//! configuration is never understood by another one.
//!
//! Knows no server. Limits and names of a server are the business of its output.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{PointId, Value, millis};
use crate::digest::sha256;

/// Which point table: the first 64 bits of the SHA-256 of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u64);

/// What kind of number a point holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A quantity of an integer type, scaled or not.
    Integer,
    /// A quantity of a floating-point type.
    Float,
    /// A counter of at most 32 bits, of interest as a rate.
    Counter,
    /// A counter of more than 32 bits, of interest as a rate.
    Counter64,
}

/// What points of one device, unit and polling group have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Device {
    /// The device as configured (`ip_device`).
    pub device: String,
    /// The unit id that is asked.
    pub unit: u8,
    /// The name of the polling group.
    pub group: String,
    /// Milliseconds between two polls.
    pub interval_ms: u64,
    /// What people call the device.
    // Here and below: what is not given does not stand in the text, so that a table keeps the id that it had before
    // there were such keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The tags of device and group, those of the device first in rank; each key once, sorted by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(String, String)>,
}

impl Device {
    /// Without name and tags.
    #[must_use]
    pub fn new(device: &str, unit: u8, group: &str, interval_ms: u64) -> Self {
        let [device, group] = [device, group].map(str::to_owned);
        Self { device, unit, group, interval_ms, name: None, tags: Vec::new() }
    }

    /// The time between two polls.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }
}

/// What points at the same place of different devices have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Register {
    /// Table, reference number and part as one word: `input_register_30387`, `holding_register_40001_bit_3`.
    pub key: String,
    /// The table: `input_register`, `holding_register`, `coil` or `discrete_input`.
    pub table: String,
    /// The reference number as configured.
    pub number: u32,
    /// What kind of number it holds.
    pub kind: Kind,
    /// What people call the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// In what the value is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_of_measurement: Option<String>,
    /// Its own tags; each key once, sorted by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(String, String)>,
    /// What values mean; each value once, sorted by value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<(i64, String)>,
}

impl Register {
    /// With nothing that people add.
    #[must_use]
    pub fn new(key: &str, table: &str, number: u32, kind: Kind) -> Self {
        let [key, table] = [key, table].map(str::to_owned);
        Self { key, table, number, kind, name: None, unit_of_measurement: None, tags: Vec::new(), values: Vec::new() }
    }
}

/// Up to this, every whole number is a float of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// One point, looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point<'a> {
    /// Where it is read.
    pub device: &'a Device,
    /// What is read there.
    pub register: &'a Register,
}

impl<'a> Point<'a> {
    /// What people call the value: its name, else its key.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.register.name.as_deref().unwrap_or(&self.register.key)
    }

    /// What people call its device: the name of the device, else the device as configured.
    #[must_use]
    pub fn device_name(&self) -> &'a str {
        self.device.name.as_deref().unwrap_or(&self.device.device)
    }

    /// Every tag, sorted by key. Where device and register have the same key, that of the register counts.
    pub fn tags(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        // Both are sorted, so that going through them side by side needs no list of its own.
        let (mut of_device, mut of_register) =
            (self.device.tags.iter().peekable(), self.register.tags.iter().peekable());
        std::iter::from_fn(move || {
            let order = match (of_device.peek(), of_register.peek()) {
                (Some((device, _)), Some((register, _))) => device.cmp(register),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            if order == Ordering::Equal {
                of_device.next();
            }
            let next = if order == Ordering::Less { of_device.next() } else { of_register.next() };
            next.map(|(key, value)| (&**key, &**value))
        })
    }

    /// What `value` means, if it is one of `values`.
    #[must_use]
    pub fn text_of(&self, value: Value) -> Option<&'a str> {
        let number = match value {
            Value::Integer(number) => number,
            #[allow(clippy::cast_possible_truncation, reason = "it is a whole number, and in range")]
            Value::Float(number) if number.fract() == 0.0 && number.abs() <= EXACT => number as i64,
            Value::Float(_) => return None,
        };
        let values = &self.register.values;
        let place = values.binary_search_by_key(&number, |(known, _)| *known).ok()?;
        values.get(place).map(|(_, text)| &**text)
    }
}

/// `key`, after the `name` if there is one: `flow (input_register_30387)`.
#[must_use]
pub fn called(name: Option<&str>, key: &str) -> String {
    name.map_or_else(|| key.to_owned(), |name| format!("{name} ({key})"))
}

/// What every point of one configuration is.
#[derive(Debug, PartialEq, Eq)]
pub struct PointTable {
    id: TableId,
    text: Text,
}

/// The content, as it is on disk.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Text {
    /// The agent that read them.
    agent_id: String,
    /// The host name that the agent goes by.
    hostname: String,
    /// The program that the agent is, if it is another one than this crate's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    /// The default interval of the configuration in milliseconds.
    polling_interval_ms: u64,
    devices: Vec<Device>,
    registers: Vec<Register>,
    /// Of each point, its places in `devices` and `registers`.
    points: Vec<(u32, u32)>,
}

/// A point table under construction.
#[derive(Debug)]
pub struct Builder {
    text: Text,
    known_devices: std::collections::HashMap<Device, u32>,
    known_registers: std::collections::HashMap<Register, u32>,
}

impl Builder {
    /// No points yet, of the agent `agent_id` on the host known as `hostname`; `polling_interval` is the default one.
    #[must_use]
    pub fn new(agent_id: &str, hostname: &str, polling_interval: Duration) -> Self {
        let text = Text {
            agent_id: agent_id.to_owned(),
            hostname: hostname.to_owned(),
            program: None,
            polling_interval_ms: millis(polling_interval),
            devices: Vec::new(),
            registers: Vec::new(),
            points: Vec::new(),
        };
        Self {
            text,
            known_devices: std::collections::HashMap::new(),
            known_registers: std::collections::HashMap::new(),
        }
    }

    /// The same of an agent that is another program than this crate's.
    #[must_use]
    pub fn of_program(mut self, program: &str) -> Self {
        self.text.program = Some(program.to_owned());
        self
    }

    /// Adds the next point.
    pub fn push(&mut self, device: &Device, register: &Register) {
        let last = self.text.points.last().map(|&(device, _)| device);
        // Points come device by device, so that most of them need no look-up.
        let same = last.filter(|&last| self.text.devices.get(last as usize) == Some(device));
        let device = same.unwrap_or_else(|| place(&mut self.text.devices, &mut self.known_devices, device));
        let register = place(&mut self.text.registers, &mut self.known_registers, register);
        self.text.points.push((device, register));
    }

    /// The table.
    #[must_use]
    pub fn build(self) -> PointTable {
        // Plain data: to write it as JSON cannot fail.
        let id = id_of(&serde_json::to_vec(&self.text).unwrap_or_default());
        PointTable { id, text: self.text }
    }
}

fn place<T: Clone + Eq + std::hash::Hash>(
    all: &mut Vec<T>,
    known: &mut std::collections::HashMap<T, u32>,
    one: &T,
) -> u32 {
    if let Some(&place) = known.get(one) {
        return place;
    }
    let place = u32::try_from(all.len()).unwrap_or(u32::MAX);
    all.push(one.clone());
    known.insert(one.clone(), place);
    place
}

fn id_of(text: &[u8]) -> TableId {
    let digest = sha256(&[text]);
    TableId(digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first)))
}

impl PointTable {
    /// A table without points, for tests and for what has none.
    #[must_use]
    pub fn empty() -> Arc<Self> {
        Arc::new(Builder::new("", "", Duration::from_secs(1)).build())
    }

    /// Which table it is.
    #[must_use]
    pub fn id(&self) -> TableId {
        self.id
    }

    /// The agent that read the points.
    #[must_use]
    pub fn agent_id(&self) -> &str {
        &self.text.agent_id
    }

    /// The host name that the agent went by.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.text.hostname
    }

    /// The program that the agent was, if it was another one than this crate's.
    #[must_use]
    pub fn program(&self) -> Option<&str> {
        self.text.program.as_deref()
    }

    /// The default interval of the configuration.
    #[must_use]
    pub fn polling_interval(&self) -> Duration {
        Duration::from_millis(self.text.polling_interval_ms)
    }

    /// How many points there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.text.points.len()
    }

    /// Whether there is no point.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.points.is_empty()
    }

    /// The point of this number, if there is one.
    #[must_use]
    pub fn get(&self, point: PointId) -> Option<Point<'_>> {
        let &(device, register) = self.text.points.get(point.index())?;
        let device = self.text.devices.get(device as usize)?;
        Some(Point { device, register: self.text.registers.get(register as usize)? })
    }

    /// Every point, in order of number.
    pub fn iter(&self) -> impl Iterator<Item = Point<'_>> {
        (0..).map(PointId).map_while(|point| self.get(point))
    }

    /// The table as it is kept on disk: one JSON object.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        serde_json::to_vec(&self.text).unwrap_or_default()
    }

    /// The table that was kept as `text`.
    ///
    /// # Errors
    /// When it is none, or not the one of the name `id`.
    pub fn from_text(text: &[u8], id: TableId) -> Result<Self, NoTable> {
        // Of the bytes, before anything in them is believed.
        if id_of(text) != id {
            return Err(NoTable::OtherContent);
        }
        Ok(Self { id, text: serde_json::from_slice(text)? })
    }
}

/// Why a text is no point table.
#[derive(Debug, thiserror::Error)]
pub enum NoTable {
    /// The name is derived from another content.
    #[error("its content is not the one that its name was derived from")]
    OtherContent,
    /// No JSON of this form.
    #[error("it is no point table")]
    NoJson(#[from] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> Device {
        Device::new(name, 1, "meters", 10_000)
    }

    fn register(number: u32) -> Register {
        Register::new(&format!("input_register_{number}"), "input_register", number, Kind::Integer)
    }

    fn table() -> PointTable {
        let mut builder = Builder::new("4c", "host", Duration::from_secs(300));
        for name in ["a", "b"] {
            for number in [30_001, 30_002] {
                builder.push(&device(name), &register(number));
            }
        }
        builder.build()
    }

    #[test]
    fn every_point_is_found_by_its_number_before_and_after_the_disk() {
        let table = table();
        let read = PointTable::from_text(&table.to_text(), table.id()).unwrap();
        assert_eq!(read, table);
        for (place, (name, number)) in
            [("a", 30_001), ("a", 30_002), ("b", 30_001), ("b", 30_002)].into_iter().enumerate()
        {
            let point = read.get(PointId(u32::try_from(place).unwrap())).unwrap();
            assert_eq!((&*point.device.device, point.register.number), (name, number));
        }
        assert!(read.get(PointId(4)).is_none());
        assert_eq!((read.text.devices.len(), read.text.registers.len()), (2, 2), "what is shared is there once");
    }

    #[test]
    fn a_table_without_names_is_the_one_of_before_there_were_names() {
        let text = String::from_utf8(table().to_text()).unwrap();
        assert!(
            !["name\":", "tags", "values", "unit_of"].iter().any(|key| text.replace("hostname\":", "").contains(key))
        );
    }

    #[test]
    fn a_point_goes_by_its_names_where_it_has_some() {
        let (device, register) = (device("192.0.2.20"), register(30_001));
        let plain = Point { device: &device, register: &register };
        assert_eq!((plain.name(), plain.device_name()), ("input_register_30001", "192.0.2.20"));
        let device = Device { name: Some("boiler".to_owned()), ..device.clone() };
        let register = Register { name: Some("flow".to_owned()), ..register.clone() };
        let named = Point { device: &device, register: &register };
        assert_eq!((named.name(), named.device_name()), ("flow", "boiler"));
    }

    #[test]
    fn a_register_has_the_tags_of_its_device_but_where_it_says_otherwise() {
        let tags = |tags: &str| tags.chars().map(|key| (key.to_lowercase().to_string(), key.to_string())).collect();
        for (of_device, of_register, merged) in [
            ("", "", ""),
            ("ac", "", "ac"),
            ("", "B", "B"),
            ("ac", "B", "aBc"),
            ("abc", "BD", "aBcD"),
            ("b", "AB", "AB"),
        ] {
            let device = Device { tags: tags(of_device), ..device("a") };
            let register = Register { tags: tags(of_register), ..register(1) };
            let point = Point { device: &device, register: &register };
            assert_eq!(point.tags().map(|(_, value)| value).collect::<String>(), merged, "{of_device} {of_register}");
        }
    }

    #[test]
    fn a_value_has_the_text_of_exactly_its_number() {
        let values = [(-1, "off"), (0, "idle"), (2, "heating"), (i64::MAX, "unknown")];
        let values = values.map(|(value, text)| (value, text.to_owned())).to_vec();
        let register = Register { values, ..register(1) };
        let point = Point { device: &device("a"), register: &register };
        for (value, text) in [
            (Value::Integer(-1), Some("off")),
            (Value::Float(2.0), Some("heating")),
            (Value::Float(-0.0), Some("idle")),
            (Value::Float(1.5), None),
            (Value::Integer(1), None),
            (Value::Integer(i64::MAX), Some("unknown")),
            (Value::Integer(i64::MAX - 1), None),
        ] {
            assert_eq!(point.text_of(value), text, "{value:?}");
        }
    }

    #[test]
    fn another_content_is_another_table_and_a_damaged_one_is_none() {
        let other = Builder::new("4c", "other host", Duration::from_secs(300)).build();
        assert_ne!(table().id(), other.id());
        let mut text = table().to_text();
        text[20] ^= 1;
        assert!(matches!(PointTable::from_text(&text, table().id()), Err(NoTable::OtherContent)));
    }
}
