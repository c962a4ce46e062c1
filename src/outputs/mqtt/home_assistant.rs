//! What Home Assistant is told of points, so that it has them as sensors without being configured: MQTT discovery. Pure.
//!
//! Each point has a message of its own, which the broker keeps, at `<prefix>/<component>/<node id>/<object id>/config`. The node is
//! the agent, with all its shards; object id and `unique_id` stay the same when device or point get another name. A point is available while
//! the agent is connected and its device answers. A class is given only where the unit of measurement is one that
//! Home Assistant takes for it, and a state class only where the class has it: else it refuses the sensor, or warns for ever.
//! Source: home-assistant.io, "MQTT", "MQTT sensor", "MQTT binary sensor"; `DEVICE_CLASS_UNITS` and
//! `DEVICE_CLASS_STATE_CLASSES` of its sensors.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use super::message::Message;
use super::topic::topic;
use super::{Identity, MqttSettings, Payload};
use crate::digest::sha256;
use crate::reading::points::{Kind, Point, PointTable, TableId};

/// A point of which nothing is heard for so many of its intervals is shown as unavailable.
const INTERVALS: u32 = 3;

/// But not before this: a poll may be late, a broker may be away for a moment.
const LEAST_EXPIRY: Duration = Duration::from_secs(60);

/// Units of measurement and the class of what is measured in them, for quantities.
const CLASSES: [(&str, &[&str]); 14] = [
    ("apparent_power", &["VA"]),
    ("current", &["A", "mA"]),
    ("duration", &["d", "h", "min", "s", "ms"]),
    ("energy", ENERGY),
    ("frequency", &["Hz", "kHz", "MHz", "GHz"]),
    ("illuminance", &["lx"]),
    ("irradiance", &["W/m²"]),
    ("power", &["W", "kW", "MW", "GW", "TW"]),
    ("pressure", &["Pa", "hPa", "kPa", "bar", "cbar", "mbar", "mmHg", "inHg", "psi"]),
    ("reactive_power", &["var"]),
    ("speed", &["m/s", "km/h", "mph", "kn", "ft/s"]),
    ("temperature", &["°C", "°F", "K"]),
    ("voltage", &["V", "mV"]),
    ("volume_flow_rate", &["m³/h", "L/min", "ft³/min"]),
];

/// Units of energy. m³ is of water, of gas or of neither, and % of anything: they have no class.
const ENERGY: &[&str] = &["Wh", "kWh", "MWh", "GWh", "TWh", "J", "kJ", "MJ", "GJ"];

/// What is to be said of the points that are configured, by the topic of their state.
#[derive(Debug)]
pub struct Announcements {
    settings: MqttSettings,
    identity: Identity,
    /// The point table that they are of.
    table: Option<TableId>,
    of_states: HashMap<String, Message>,
    /// Where they are published.
    topics: HashSet<String>,
}

impl Announcements {
    /// None yet.
    #[must_use]
    pub fn new(settings: MqttSettings, identity: Identity) -> Self {
        Self { settings, identity, table: None, of_states: HashMap::new(), topics: HashSet::new() }
    }

    /// These points are configured, and no others.
    pub fn take_over(&mut self, table: &PointTable) {
        let Some(prefix) = self.settings.home_assistant.as_ref().filter(|_| self.table != Some(table.id())) else {
            return;
        };
        self.table = Some(table.id());
        let mut units: HashMap<&str, HashSet<u8>> = HashMap::new();
        for Point { device, .. } in table.iter() {
            units.entry(&device.device).or_default().insert(device.unit);
        }
        self.of_states.clear();
        self.topics.clear();
        for point in table.iter() {
            let Some(topic) = topic(&self.settings.topic, &point) else { continue };
            // Several units behind one address are several devices there, which need names that differ.
            let one_unit = units.get(&*point.device.device).is_none_or(|units| units.len() == 1);
            let message = announcement(&point, &topic, one_unit, prefix, &self.settings, &self.identity);
            self.topics.insert(message.topic.clone());
            self.of_states.insert(topic, message);
        }
    }

    /// What is to be said before the first message of `topic`.
    #[must_use]
    pub fn of(&self, topic: &str) -> Option<&Message> {
        self.of_states.get(topic)
    }

    /// Whether one of them is published at `topic`.
    #[must_use]
    pub fn has(&self, topic: &str) -> bool {
        self.topics.contains(topic)
    }

    /// What their topics and those of the other shards fit, if there are any.
    #[must_use]
    pub fn filter(&self) -> Option<String> {
        let prefix = self.settings.home_assistant.as_ref()?;
        Some(format!("{prefix}/+/{}/+/config", node(&self.identity)))
    }

    /// Whether what was published at one of these topics is of this output, and not of another shard.
    #[must_use]
    pub fn is_ours(&self, payload: &[u8]) -> bool {
        let said: Option<Json> = serde_json::from_slice(payload).ok();
        said.is_some_and(|said| said["availability"][0]["topic"] == *self.identity.availability_topic)
    }
}

/// The agent, as a level of topics.
fn node(identity: &Identity) -> String {
    id(&["pattoo"], &identity.series)
}

fn announcement(
    point: &Point<'_>,
    topic: &str,
    one_unit: bool,
    prefix: &str,
    settings: &MqttSettings,
    identity: &Identity,
) -> Message {
    let Point { device, register } = point;
    let unit = device.unit.to_string();
    let device_id = id(&[&device.device, &unit], &identity.series);
    let id = id(&[&device.device, &unit, &register.key], &identity.series);
    let device_name = point.device_name();
    let device_name = if one_unit { device_name.to_owned() } else { format!("{device_name} unit {unit}") };
    let expiry = (device.interval() * INTERVALS).max(LEAST_EXPIRY).as_secs_f64().ceil();
    let is_binary = ["coil", "discrete_input"].contains(&&*register.table);
    let mut config = Map::new();
    let mut say = |key: &str, value: Json| config.insert(key.to_owned(), value);
    say("name", point.name().into());
    say("unique_id", id.clone().into());
    say("state_topic", topic.into());
    say("availability", json!([{"topic": identity.availability_topic}, {"topic": identity.device_topic(device)}]));
    say("availability_mode", "all".into());
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds, and not negative")]
    say("expire_after", (expiry as u64).into());
    if let Some(template) = template(point, is_binary, settings.payload) {
        say("value_template", template.into());
    }
    if !is_binary && !has_texts(point, settings.payload) {
        let unit = register.unit_of_measurement.as_deref().filter(|unit| !unit.is_empty());
        let (class, state_class) = classes(unit, register.kind);
        for (key, value) in [("unit_of_measurement", unit), ("device_class", class), ("state_class", Some(state_class))]
        {
            if let Some(value) = value {
                say(key, value.into());
            }
        }
    }
    say("device", json!({"identifiers": [device_id], "name": device_name}));
    say("origin", json!({"name": env!("CARGO_PKG_NAME"), "sw_version": env!("CARGO_PKG_VERSION")}));
    let component = if is_binary { "binary_sensor" } else { "sensor" };
    let topic = format!("{prefix}/{component}/{}/{id}/config", node(identity));
    Message { line: Bytes::new(), topic, payload: Json::from(config).to_string().into(), kept: true }
}

/// Readable, and the same only for the same things of the same agent: letters, digits and `_`.
fn id(parts: &[&str], series: &str) -> String {
    let mut hashed: Vec<&[u8]> = vec![series.as_bytes()];
    let mut words = Vec::new();
    for part in parts {
        hashed.extend([&b"\0"[..], part.as_bytes()]);
        words.push(part.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '_' }).collect::<String>());
    }
    let [a, b, c, d, ..] = sha256(&hashed);
    format!("{}_{:08x}", words.join("_"), u32::from_be_bytes([a, b, c, d]))
}

/// How the state is found in a message; `None` where the message is the state.
fn template(point: &Point<'_>, is_binary: bool, payload: Payload) -> Option<String> {
    let value = match payload {
        Payload::Json => "value_json.value",
        Payload::Value => "value",
    };
    if is_binary {
        // A bit may be written as 1, or as 1.0.
        return Some(format!("{{{{ 'ON' if {value} | float(0) != 0 else 'OFF' }}}}"));
    }
    match payload {
        Payload::Json if has_texts(point, payload) => {
            Some("{{ value_json.text | default(value_json.value) }}".to_owned())
        }
        Payload::Json => Some("{{ value_json.value }}".to_owned()),
        Payload::Value => None,
    }
}

/// Whether the state is what values mean, and no number.
fn has_texts(point: &Point<'_>, payload: Payload) -> bool {
    payload == Payload::Json && !point.register.values.is_empty()
}

/// The device class and the state class of a number.
fn classes(unit: Option<&str>, kind: Kind) -> (Option<&'static str>, &'static str) {
    let class =
        CLASSES.iter().find(|(_, units)| unit.is_some_and(|unit| units.contains(&unit))).map(|(class, _)| *class);
    let is_counter = matches!(kind, Kind::Counter | Kind::Counter64);
    match class {
        Some("energy" | "duration") if is_counter => (class, "total_increasing"),
        // It may be a balance, which also falls.
        Some("energy") => (class, "total"),
        // No other class has a state class for what only grows.
        _ if is_counter => (None, "total_increasing"),
        class => (class, "measurement"),
    }
}

#[cfg(test)]
mod tests;
