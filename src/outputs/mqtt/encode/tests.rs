//! Messages, read back from the lines of a post.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::outputs::fixtures::{network, reading, table};
use crate::outputs::mqtt::message::{Message, parse};
use crate::outputs::mqtt::topic::check;
use crate::outputs::mqtt::{Identity, Version};
use crate::outputs::template::{Unfit, unfit};
use crate::reading::points::{Device, Kind, Register};
use crate::shard::Shard;

fn settings(topic: &str, payload: Payload, messages: Messages) -> MqttSettings {
    MqttSettings {
        network: network("mqtt://broker.example.net", 1883),
        version: Version::V5,
        client_id: None,
        shard: Shard::default(),
        topic: topic.parse().unwrap(),
        payload,
        messages,
        retain: true,
        availability_topic: None,
        home_assistant: None,
        sparkplug: None,
    }
}

fn named(device: &str, name: &str, unit: Option<&str>) -> (Device, Register) {
    let device = Device { name: Some(device.to_owned()), ..Device::new("192.0.2.20", 1, "heat", 1_000) };
    let register = Register {
        name: Some(name.to_owned()),
        unit_of_measurement: unit.map(str::to_owned),
        values: vec![(0, "off".to_owned()), (2, "hot \"water\"".to_owned())],
        ..Register::new("input_register_30001", "input_register", 30_001, Kind::Float)
    };
    (device, register)
}

fn text(encoded: &Encoded) -> &str {
    std::str::from_utf8(encoded.body.as_deref().unwrap_or_default()).unwrap()
}

fn encoder(settings: MqttSettings) -> MqttEncode {
    MqttEncode::new(settings)
}

fn encode(settings: &MqttSettings, table: &Arc<PointTable>, readings: &[Reading]) -> Encoded {
    let mut encode = encoder(settings.clone());
    let encoded = encode.encode(table, readings, 1 << 20, Timestamp::default());
    assert_eq!(encoded, encode.encode(table, readings, 1 << 20, Timestamp::default()), "the same again");
    encoded
}

/// Two points of one name, and that name.
fn clash(table: &PointTable, settings: &MqttSettings) -> Option<(usize, usize, String)> {
    match unfit(table, |point| name_of(point, settings))? {
        Unfit::Clash(first, second, name) => Some((first, second, name)),
        Unfit::Nameless(place) => panic!("{place} has no name"),
    }
}

#[test]
fn each_reading_is_a_message_with_what_its_point_is() {
    let table = table(&[named("boiler", "flow", Some("°C")), named("boiler", "mode", None)]);
    let settings = settings("modbus/{device}/{name}", Payload::Json, Messages::Point);
    let readings = [
        reading(0, 1_000, Value::Float(21.5)),
        reading(1, 1_000, Value::Integer(2)),
        reading(0, 2_000, Value::Integer(-7)),
    ];
    let encoded = encode(&settings, &table, &readings);
    assert_eq!(
        text(&encoded),
        "{\"topic\":\"modbus/boiler/flow\",\"payload\":{\"time\":\"1970-01-01T00:00:01.000Z\",\"value\":21.5,\"unit_of_measurement\":\
         \"°C\",\"name\":\"flow\",\"device\":\"boiler\"}}\n\
         {\"topic\":\"modbus/boiler/mode\",\"payload\":{\"time\":\"1970-01-01T00:00:01.000Z\",\"value\":2,\"text\":\"hot \\\"water\\\"\",\
         \"name\":\"mode\",\"device\":\"boiler\"}}\n\
         {\"topic\":\"modbus/boiler/flow\",\"payload\":{\"time\":\"1970-01-01T00:00:02.000Z\",\"value\":-7,\"unit_of_measurement\":\
         \"°C\",\"name\":\"flow\",\"device\":\"boiler\"}}\n"
    );
    assert_eq!((encoded.taken, encoded.not_sendable), (3, 0));
    let messages = parse(&encoded.body.unwrap());
    assert_eq!(messages.len(), 3);
    assert!(messages.iter().all(|message| serde_json::from_slice::<Json>(&message.payload).unwrap().is_object()));
}

#[test]
fn a_plain_value_is_text_and_what_is_set_aside_still_says_when_it_was() {
    let table = table(&[named("boiler", "flow", None)]);
    let settings = settings("a/{name}", Payload::Value, Messages::Point);
    let encoded = encode(&settings, &table, &[reading(0, 5, Value::Float(0.1)), reading(0, 6, Value::Float(1e300))]);
    assert_eq!(
        text(&encoded),
        "{\"time\":\"1970-01-01T00:00:00.005Z\",\"topic\":\"a/flow\",\"payload\":\"0.1\"}\n\
         {\"time\":\"1970-01-01T00:00:00.006Z\",\"topic\":\"a/flow\",\"payload\":\"1e+300\"}\n"
    );
    let payloads: Vec<_> = parse(&encoded.body.unwrap()).into_iter().map(|message| message.payload).collect();
    assert_eq!(payloads, ["0.1", "1e+300"]);
}

#[test]
fn readings_of_one_device_and_instant_are_one_message() {
    let table = table(&[named("a", "u", None), named("a", "i", None), named("b", "u", None)]);
    let settings = settings("modbus/{device}", Payload::Json, Messages::Device);
    let readings = [
        reading(0, 1_000, Value::Float(230.5)),
        reading(2, 1_000, Value::Integer(1)),
        reading(1, 1_000, Value::Integer(4)),
        reading(0, 2_000, Value::Integer(5)),
    ];
    let encoded = encode(&settings, &table, &readings);
    assert_eq!(
        text(&encoded),
        "{\"topic\":\"modbus/a\",\"payload\":{\"time\":\"1970-01-01T00:00:01.000Z\",\"u\":230.5,\"i\":4}}\n\
         {\"topic\":\"modbus/b\",\"payload\":{\"time\":\"1970-01-01T00:00:01.000Z\",\"u\":1}}\n\
         {\"topic\":\"modbus/a\",\"payload\":{\"time\":\"1970-01-01T00:00:02.000Z\",\"u\":5}}\n"
    );
    assert_eq!((encoded.taken, encoded.not_sendable), (4, 0));
}

#[test]
fn what_cannot_be_said_is_counted_and_a_small_room_still_takes_one() {
    let long = "x".repeat(65_600);
    let table = table(&[named("boiler", "flow", None), named(&long, "flow", None)]);
    let mut encode = encoder(settings("{device}/{name}", Payload::Value, Messages::Point));
    let readings = [
        reading(0, 1, Value::Float(f64::NAN)),
        reading(0, 2, Value::Float(f64::INFINITY)),
        reading(9, 3, Value::Integer(1)),
        reading(0, Timestamp::NO_DATE.as_millis(), Value::Integer(1)),
        reading(1, 4, Value::Integer(1)),
        reading(0, Timestamp::NO_DATE.as_millis() - 1, Value::Integer(1)),
        reading(0, 6, Value::Integer(1)),
    ];
    let encoded = encode.encode(&table, &readings, 1, Timestamp::default());
    assert_eq!((encoded.taken, encoded.not_sendable), (6, 5));
    assert_eq!(text(&encoded), "{\"time\":\"9999-12-31T23:59:59.999Z\",\"topic\":\"boiler/flow\",\"payload\":\"1\"}\n");
    let none = encode.encode(&table, &readings[..5], 1, Timestamp::default());
    assert_eq!((none.body, none.taken, none.not_sendable), (None, 5, 5));
}

#[test]
fn two_points_that_would_be_one_are_found() {
    let points = table(&[named("a", "u", None), named("a", "i", None), named("b/", "u", None), named("b+", "u", None)]);
    let found = |topic: &str, messages| clash(&points, &settings(topic, Payload::Json, messages));
    let two = |first, second, said: &str| Some((first, second, said.to_owned()));
    assert_eq!(found("modbus/{device}/{name}", Messages::Point), two(2, 3, "modbus/b_/u"));
    assert_eq!(found("{device}", Messages::Point), two(0, 1, "a"));
    assert_eq!(found("{device}", Messages::Device), two(2, 3, "b_ u"));
    assert_eq!(found("x", Messages::Device), two(0, 2, "x u"));
    let time = table(&[named("a", "time", None)]);
    let settings = settings("x", Payload::Json, Messages::Device);
    assert_eq!(clash(&time, &settings), None);
    let encoded = encode(&settings, &time, &[reading(0, 1, Value::Integer(2))]);
    assert_eq!(text(&encoded), "{\"topic\":\"x\",\"payload\":{\"time\":\"1970-01-01T00:00:00.001Z\",\"time_\":2}}\n");
}

#[test]
fn each_output_of_each_agent_is_a_client_of_its_own_and_stays_the_same() {
    let of = |settings: &MqttSettings, agent: &str, output: &str| Identity::new(settings, agent, output);
    let plain = settings("modbus/{device}/{name}", Payload::Json, Messages::Point);
    let second = MqttSettings { shard: "1/2".parse().unwrap(), ..plain.clone() };
    let first = of(&plain, "4c", "mqtt");
    assert_eq!(first, of(&plain, "4c", "mqtt"));
    assert_eq!(first.client_id.len(), 22);
    assert!(first.client_id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{first:?}");
    assert_eq!(first.availability_topic, format!("modbus/status/{}", first.client_id));
    for other in [of(&plain, "4d", "mqtt"), of(&plain, "4c", "other"), of(&second, "4c", "mqtt")] {
        assert_ne!(other.client_id, first.client_id);
        assert_ne!(other.availability_topic, first.availability_topic);
    }
    let named = MqttSettings {
        client_id: Some("plant/7".to_owned()),
        topic: "{group}/x/{name}".parse().unwrap(),
        ..second.clone()
    };
    let said = of(&named, "4c", "mqtt");
    assert_eq!((&*said.client_id, &*said.availability_topic), ("plant/7_shard_1", "pattoo/status/plant_7_shard_1"));
    let whole = MqttSettings { availability_topic: Some("plant/there".to_owned()), ..second };
    assert_eq!(of(&whole, "4c", "mqtt").availability_topic, "plant/there/shard_1");
    for (template, prefix) in [("a/b/{name}", "a/b"), ("a/b{name}", "a"), ("a/b", "a/b"), ("{name}/a", "pattoo")] {
        let settings = settings(template, Payload::Json, Messages::Point);
        let topic = of(&settings, "4c", "mqtt").availability_topic;
        assert!(topic.starts_with(&format!("{prefix}/status/pattoo")), "{template} {topic}");
    }
}

proptest! {
    /// Any name and any value: a topic that a broker takes, with the levels of the template, and what was read is in the message.
    #[test]
    fn any_name_makes_a_good_topic_and_any_value_comes_back(
        device in "(?s).{0,20}",
        name in "(?s).{0,20}",
        unit in "(?s).{0,10}",
        value in prop_oneof![any::<f64>().prop_map(Value::Float), any::<i64>().prop_map(Value::Integer)],
        at in 0..Timestamp::NO_DATE.as_millis(),
        plain in any::<bool>(),
    ) {
        let table = table(&[named(&device, &name, Some(&unit))]);
        let payload = if plain { Payload::Value } else { Payload::Json };
        let settings = settings("{device}/a/{name}", payload, Messages::Point);
        let encoded = encode(&settings, &table, &[reading(0, at, value)]);
        if encoded.not_sendable == 1 {
            prop_assert!(matches!(value, Value::Float(value) if !value.is_finite()));
            return Ok(());
        }
        let messages = parse(&encoded.body.unwrap());
        prop_assert_eq!(messages.len(), 1);
        let Message { topic, payload, .. } = &messages[0];
        prop_assert_eq!(check(topic), Ok(()));
        prop_assert_eq!(topic.split('/').count(), 3);
        let said = if plain {
            serde_json::from_slice::<Json>(payload).unwrap()
        } else {
            let payload: Json = serde_json::from_slice(payload).unwrap();
            prop_assert_eq!(&payload["name"], name.as_str());
            prop_assert_eq!(&payload["unit_of_measurement"], unit.as_str());
            let time = humantime::parse_rfc3339(payload["time"].as_str().unwrap()).unwrap();
            prop_assert_eq!(Timestamp::from(time).as_millis(), at);
            payload["value"].clone()
        };
        match value {
            Value::Integer(value) => prop_assert_eq!(said.as_i64(), Some(value)),
            Value::Float(value) => prop_assert_eq!(said.as_f64().map(f64::to_bits), Some(value.to_bits())),
        }
    }
}
