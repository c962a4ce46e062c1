//! `outputs`, type `mqtt`: readings as messages to a broker.

use super::influxdb::template;
use super::network::{self, MQTT};
use crate::config::value::flag;
use crate::config::yaml::cursor::{Cursor, Entry, Report};
use crate::config::yaml::node::Node;
use crate::outputs::mqtt::sparkplug::{SparkplugSettings, is_id};
use crate::outputs::mqtt::{self, Messages, MqttSettings, Payload, Version};
use crate::shard::Shard;

/// What it takes besides what all outputs over a network take.
pub const KEYS: &[&str] = &[
    "version",
    "client_id",
    "topic",
    "payload",
    "messages",
    "retain",
    "availability_topic",
    "home_assistant",
    "discovery_prefix",
    "group_id",
    "edge_node_id",
    "device_id",
    "metric",
    "primary_host_id",
];

/// What only an edge node takes.
const SPARKPLUG_KEYS: [&str; 5] = ["group_id", "edge_node_id", "device_id", "metric", "primary_host_id"];

/// What an edge node does not take: the specification says it.
const PLAIN_KEYS: [&str; 6] =
    ["topic", "messages", "retain", "availability_topic", "home_assistant", "discovery_prefix"];

/// The default of `topic`, where a message is about a point.
const TOPIC: &str = "modbus/{device}/{name}";

/// The default of `topic`, where a message is about a device.
const DEVICE_TOPIC: &str = "modbus/{device}";

/// The default of `group_id`.
const GROUP_ID: &str = "modbus";

/// The default of `device_id`.
const DEVICE_ID: &str = "{device}";

/// The default of `metric`.
const METRIC: &str = "{name}";

/// The default of `discovery_prefix`: that of Home Assistant.
const DISCOVERY_PREFIX: &str = "homeassistant";

/// Reads it. What is wrong is in the report.
pub fn read(item: &Cursor<'_>, entries: &[Entry<'_>], report: &mut Report) -> Option<MqttSettings> {
    let faults = report.faults.len();
    let network = network::read(item, entries, MQTT, report)?;
    let of = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    if let (false, Some(value)) = (network.base.is_empty(), of("url")) {
        report.faults.push(value.diagnostic("found a URL with a path; write topic instead"));
    }
    // Version 5, because 3.1.1 has no word for a refusal: brokers acknowledge what is forbidden and throw it away.
    let version = of("version").map_or(Version::default(), |value| match (value.written(), &*value.node) {
        // To YAML 3.1.1 is a text and 5 a number.
        (Some("3.1.1"), _) => Version::V3,
        (Some("5" | "5.0"), _) | (None, Node::Integer(5)) => Version::V5,
        _ => {
            report.faults.push(value.unfit("5 or 3.1.1"));
            Version::default()
        }
    });
    let client_id = of("client_id").and_then(|value| network::line(value, "a client id", report));
    let payloads = [("json", Some(Payload::Json)), ("value", Some(Payload::Value)), ("sparkplug", None)];
    let payload = word(of("payload"), &payloads, report);
    // Told, not ignored: whoever sets a topic looks for messages there.
    let wrong = if payload.is_some() { &SPARKPLUG_KEYS[..] } else { &PLAIN_KEYS };
    for entry in entries.iter().filter(|entry| wrong.contains(&&*entry.key)) {
        report.faults.push(entry.key_cursor.diagnostic(match payload {
            Some(_) => format!("found {} without payload: sparkplug; give both", entry.key),
            None => format!(
                "found {} with payload: sparkplug, whose topics and retained messages its specification says; names are set by \
                 group_id, edge_node_id, device_id and metric",
                entry.key
            ),
        }));
    }
    let sparkplug = if payload.is_none() { sparkplug(of, report) } else { None };
    let is_sparkplug = payload.is_none();
    let payload = payload.unwrap_or_default();
    let messages = word(of("messages"), &[("point", Messages::Point), ("device", Messages::Device)], report);
    if let (Payload::Value, Messages::Device, Some(value)) = (payload, messages, of("payload")) {
        report
            .faults
            .push(value.diagnostic("found payload: value with messages: device, whose messages are JSON objects"));
    }
    let default = if messages == Messages::Device { DEVICE_TOPIC } else { TOPIC };
    let topic = template(of("topic"), default, report);
    if let (Some(topic), Some(value)) = (&topic, of("topic"))
        && let Err(error) = mqtt::check_template(topic)
    {
        report.faults.push(value.diagnostic(format!("found {}: {error}", value.node.shown())));
    }
    let availability_topic = of("availability_topic").and_then(|value| plain_topic(value, report));
    let mut is_announced = false;
    if let Some(value) = of("home_assistant") {
        flag(&mut is_announced, value, report);
        if is_announced && messages == Messages::Device {
            let message = "found home_assistant with messages: device; it takes a state from a message about its point";
            report.faults.push(value.diagnostic(message));
        }
    }
    let prefix = of("discovery_prefix").and_then(|value| plain_topic(value, report));
    if let (false, Some(value)) = (is_announced, of("discovery_prefix")) {
        report.faults.push(value.diagnostic("found discovery_prefix without home_assistant: true; give both"));
    }
    // Only where it is wanted: to announce is to subscribe, and some brokers end a connection that subscribes to what
    // is forbidden.
    let home_assistant = is_announced.then(|| prefix.unwrap_or_else(|| DISCOVERY_PREFIX.to_owned()));
    // A message about a device holds what came with one answer of it: the last one is not the state of the device.
    let mut retain = messages == Messages::Point && !is_sparkplug;
    if let Some(value) = of("retain") {
        flag(&mut retain, value, report);
    }
    if report.faults.len() > faults {
        return None;
    }
    let (topic, shard) = (topic?, Shard::default());
    Some(MqttSettings {
        network,
        version,
        client_id,
        shard,
        topic,
        payload,
        messages,
        retain,
        availability_topic,
        home_assistant,
        sparkplug,
    })
}

/// What an edge node takes.
fn sparkplug<'a, 'b: 'a>(
    of: impl Fn(&str) -> Option<&'a Cursor<'b>>,
    report: &mut Report,
) -> Option<SparkplugSettings> {
    let mut id = |key: &str| {
        let value = of(key)?;
        let id = network::line(value, "an id", report)?;
        if is_id(&id) {
            return Some(id);
        }
        report.faults.push(value.unfit("an id without /, + and #"));
        None
    };
    let (group_id, edge_node_id, primary_host_id) = (id("group_id"), id("edge_node_id"), id("primary_host_id"));
    let group_id = group_id.unwrap_or_else(|| GROUP_ID.to_owned());
    let device_id = template(of("device_id"), DEVICE_ID, report)?;
    let metric = template(of("metric"), METRIC, report)?;
    Some(SparkplugSettings { group_id, edge_node_id, device_id, metric, primary_host_id })
}

/// What is set, key by key, as it is written in the file.
#[must_use]
pub fn shown(settings: &MqttSettings) -> Vec<(&'static str, String)> {
    let mut shown = network::shown(&settings.network);
    let version = if settings.version == Version::V3 { "3.1.1" } else { "5" };
    let derived = || "derived from the agent id".to_owned();
    shown.push(("version", version.to_owned()));
    shown.push(("client_id", settings.client_id.clone().unwrap_or_else(derived)));
    if let Some(SparkplugSettings { group_id, edge_node_id, device_id, metric, primary_host_id }) = &settings.sparkplug
    {
        shown.extend([("payload", "sparkplug".to_owned()), ("group_id", group_id.clone())]);
        shown.push(("edge_node_id", edge_node_id.clone().unwrap_or_else(|| "the client id".to_owned())));
        shown.extend([("device_id", device_id.to_string()), ("metric", metric.to_string())]);
        shown.push(("primary_host_id", primary_host_id.clone().unwrap_or_else(|| "none".to_owned())));
        return shown;
    }
    let payload = if settings.payload == Payload::Value { "value" } else { "json" };
    let messages = if settings.messages == Messages::Device { "device" } else { "point" };
    shown.push(("topic", settings.topic.to_string()));
    shown.extend([("payload", payload.to_owned()), ("messages", messages.to_owned())]);
    shown.push(("retain", settings.retain.to_string()));
    shown.push(("availability_topic", settings.availability_topic.clone().unwrap_or_else(derived)));
    shown.push(("home_assistant", settings.home_assistant.is_some().to_string()));
    shown.extend(settings.home_assistant.clone().map(|prefix| ("discovery_prefix", prefix)));
    shown
}

/// A topic without places.
fn plain_topic(value: &Cursor<'_>, report: &mut Report) -> Option<String> {
    let topic = network::line(value, "a topic", report)?;
    let fault = |error| report.faults.push(value.diagnostic(format!("found {}: {error}", value.node.shown())));
    mqtt::check(&topic).map_err(fault).ok().map(|()| topic)
}

/// One of these words; the first one where there is none.
fn word<T: Copy + Default>(value: Option<&Cursor<'_>>, words: &[(&str, T)], report: &mut Report) -> T {
    let default = words.first().map_or_else(T::default, |(_, of)| *of);
    let Some(value) = value else { return default };
    if let Some((_, of)) = words.iter().find(|(word, _)| value.written() == Some(word)) {
        return *of;
    }
    let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    let (last, others) = words.split_last().map_or(("", &[][..]), |(last, others)| (*last, others));
    report.faults.push(value.unfit(&format!("{} or {last}", others.join(", "))));
    default
}
