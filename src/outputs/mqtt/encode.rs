//! Readings → messages: one for each reading, or one for the readings of a topic and instant.
//!
//! What is said of a point is written once for each point table; the last two tables are kept, because around a reload readings
//! of two tables alternate. Not sendable: a value that is not finite, a topic that is too long, a date after the year 9999.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::message::{push, quoted};
use super::topic::topic;
use super::{Messages, MqttSettings, Payload};
use crate::outputs::recent::Recent;
use crate::outputs::{Encode, Encoded};
use crate::reading::points::{Point, PointTable};
use crate::reading::{Reading, Timestamp, Value};

/// What a line holds besides topic and payload.
const LINE: usize = 64;

/// Makes messages.
#[derive(Debug)]
pub struct MqttEncode {
    settings: MqttSettings,
    tables: Recent<Table>,
}

/// What the points of a table are in messages.
#[derive(Debug)]
struct Table {
    /// Each once, quoted.
    topics: Vec<String>,
    points: Vec<Option<Known>>,
}

/// What a point is in messages.
#[derive(Debug)]
struct Known {
    /// Its place in `topics`.
    topic: usize,
    /// Members of the payload that are the same for each reading; or the name of the one member, quoted.
    members: String,
}

impl MqttEncode {
    /// By these settings.
    #[must_use]
    pub fn new(settings: MqttSettings) -> Self {
        Self { settings, tables: Recent::default() }
    }
}

impl Encode for MqttEncode {
    fn encode(&mut self, table: &Arc<PointTable>, readings: &[Reading], room: usize, _: Timestamp) -> Encoded {
        let (payload, messages) = (self.settings.payload, self.settings.messages);
        let Table { topics, points } = self.tables.of(table, || Table::new(table, &self.settings));
        // Messages in order of their first reading; of each its topic, its instant and its payload up to the last bracket.
        let mut made: Vec<(usize, Timestamp, String)> = Vec::new();
        let mut places: HashMap<(usize, Timestamp), usize> = HashMap::new();
        let (mut taken, mut sent, mut bytes) = (0, 0, 0);
        for &Reading { point, at, value } in readings {
            taken += 1;
            let known = points.get(point.index()).and_then(Option::as_ref).filter(|_| at < Timestamp::NO_DATE);
            let (Some(Known { topic, members }), Some(number)) = (known, number(value)) else { continue };
            sent += 1;
            let add = |payload: &mut String| _ = write!(payload, ",{members}:{number}");
            let place = places.get(&(*topic, at)).and_then(|&place| made.get_mut(place));
            if let (Messages::Device, Some((_, _, payload))) = (messages, place) {
                let before = payload.len();
                add(payload);
                bytes += payload.len() - before;
            } else {
                let payload = match (messages, payload) {
                    (Messages::Device, _) => {
                        let mut payload = format!("{{\"time\":\"{}\"", at.rfc3339());
                        add(&mut payload);
                        payload
                    }
                    (Messages::Point, Payload::Value) => format!("\"{number}"),
                    (Messages::Point, Payload::Json) => {
                        let text = table.get(point).and_then(|point| point.text_of(value));
                        let text = text.map_or_else(String::new, |text| format!(",\"text\":{}", quoted(text)));
                        format!("{{\"time\":\"{}\",\"value\":{number}{text}{members}", at.rfc3339())
                    }
                };
                bytes += topics.get(*topic).map_or(0, String::len) + payload.len() + LINE;
                places.insert((*topic, at), made.len());
                made.push((*topic, at, payload));
            }
            if bytes + bytes / sent > room {
                break;
            }
        }
        let is_text = messages == Messages::Point && payload == Payload::Value;
        let mut body = String::with_capacity(bytes);
        for (topic, at, mut payload) in made {
            payload.push(if is_text { '"' } else { '}' });
            let time = if is_text { format!("\"time\":\"{}\",", at.rfc3339()) } else { String::new() };
            push(&mut body, &time, topics.get(topic).map_or("", String::as_str), &payload);
        }
        Encoded { body: (sent > 0).then(|| body.into()), taken, not_sendable: taken - sent, stamp: None }
    }

    fn extension(&self) -> &'static str {
        "jsonl"
    }
}

impl Table {
    fn new(table: &PointTable, settings: &MqttSettings) -> Self {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut topics = Vec::new();
        let points = table.iter().map(|point| {
            let topic = topic(&settings.topic, &point)?;
            let topic = *places.entry(topic).or_insert_with_key(|topic| {
                topics.push(quoted(topic));
                topics.len() - 1
            });
            let members = match settings.messages {
                Messages::Point => members(&point),
                Messages::Device => quoted(&member(&point)),
            };
            Some(Known { topic, members })
        });
        let points = points.collect();
        Self { topics, points }
    }
}

/// What is said of a point in each message.
fn members(point: &Point<'_>) -> String {
    let unit = point.register.unit_of_measurement.as_deref();
    let members = [("unit_of_measurement", unit), ("name", Some(point.name())), ("device", Some(point.device_name()))];
    let members = members.iter().filter_map(|(name, text)| Some(format!(",\"{name}\":{}", quoted((*text)?))));
    members.collect()
}

/// A value as JSON; `None` when it is no number.
fn number(value: Value) -> Option<String> {
    match value {
        Value::Integer(value) => Some(itoa::Buffer::new().format(value).to_owned()),
        Value::Float(value) => value.is_finite().then(|| zmij::Buffer::new().format_finite(value).to_owned()),
    }
}

/// What a point is called in a message about several. `time` is what each of these has besides.
fn member(point: &Point<'_>) -> String {
    let name = point.name();
    if name == "time" { "time_".to_owned() } else { name.to_owned() }
}

/// What no two points may have in common: the topic, and the name in a message if it is about several. `None` when the topic is
/// too long.
#[must_use]
pub fn name_of(point: &Point<'_>, settings: &MqttSettings) -> Option<String> {
    if let Some(sparkplug) = &settings.sparkplug {
        return sparkplug.name_of(point);
    }
    let topic = topic(&settings.topic, point)?;
    Some(if settings.messages == Messages::Device { format!("{topic} {}", member(point)) } else { topic })
}

#[cfg(test)]
mod tests;
