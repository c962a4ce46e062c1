//! The messages of Sparkplug B, as far as they are needed, with the field numbers of the specification (3.0.0, chapter 6).
//!
//! Each field is optional there, so what is not said is not there: a sequence number of 0 is one that is said.

use bytes::Bytes;
use prost::Message as _;

use crate::reading::Timestamp;

/// The metric by which a host asks for births.
pub const REBIRTH: &str = "Node Control/Rebirth";

/// The metric that tells which death belongs to which birth.
pub const BD_SEQ: &str = "bdSeq";

/// The property of a metric that says in what it is measured.
const ENG_UNIT: &str = "engUnit";

/// The datatypes that are used, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datatype {
    /// A signed integer.
    Int64 = 4,
    /// A float.
    Double = 10,
    /// True or false.
    Boolean = 11,
    /// Text in UTF-8.
    String = 12,
}

/// `Payload`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    /// When the message was made, in milliseconds since 1970.
    #[prost(uint64, optional, tag = "1")]
    pub timestamp: Option<u64>,
    /// The metrics.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
    /// From 0 to 255, one more with each message.
    #[prost(uint64, optional, tag = "3")]
    pub seq: Option<u64>,
}

/// `Payload.Metric`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metric {
    /// In births only, where there is an alias.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Stands for the name.
    #[prost(uint64, optional, tag = "2")]
    pub alias: Option<u64>,
    /// When the value was read, in milliseconds since 1970.
    #[prost(uint64, optional, tag = "3")]
    pub timestamp: Option<u64>,
    /// In births only.
    #[prost(uint32, optional, tag = "4")]
    pub datatype: Option<u32>,
    /// It is for the history, and not how the metric is now.
    #[prost(bool, optional, tag = "5")]
    pub is_historical: Option<bool>,
    /// There is no value.
    #[prost(bool, optional, tag = "7")]
    pub is_null: Option<bool>,
    /// In births only.
    #[prost(message, optional, tag = "9")]
    pub properties: Option<PropertySet>,
    /// The value.
    #[prost(oneof = "Value", tags = "11, 13, 14")]
    pub value: Option<Value>,
}

/// The value of a metric.
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum Value {
    /// Of an `Int64`: its two's complement.
    #[prost(uint64, tag = "11")]
    Long(u64),
    /// Of a `Double`.
    #[prost(double, tag = "13")]
    Double(f64),
    /// Of a `Boolean`.
    #[prost(bool, tag = "14")]
    Boolean(bool),
}

/// `Payload.PropertySet`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PropertySet {
    /// Their names.
    #[prost(string, repeated, tag = "1")]
    pub keys: Vec<String>,
    /// Their values, in the order of the names.
    #[prost(message, repeated, tag = "2")]
    pub values: Vec<PropertyValue>,
}

/// `Payload.PropertyValue`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PropertyValue {
    /// Its datatype.
    #[prost(uint32, optional, tag = "1")]
    pub datatype: Option<u32>,
    /// Its value.
    #[prost(string, optional, tag = "8")]
    pub string: Option<String>,
}

impl Payload {
    /// Made at `now`, with the sequence number `seq` if it has one.
    #[must_use]
    pub fn new(now: Timestamp, seq: Option<u8>, metrics: Vec<Metric>) -> Self {
        Self { timestamp: Some(now.as_millis()), metrics, seq: seq.map(u64::from) }
    }

    /// As it goes to the broker.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// Whether a host asks for births by it.
    #[must_use]
    pub fn asks_for_births(payload: &Bytes) -> bool {
        let asks =
            |metric: &Metric| metric.name.as_deref() == Some(REBIRTH) && metric.value == Some(Value::Boolean(true));
        Self::decode(payload.clone()).is_ok_and(|payload| payload.metrics.iter().any(asks))
    }
}

impl Metric {
    /// A metric of the edge node itself, which has no alias.
    #[must_use]
    pub fn of_node(name: &str, datatype: Datatype, value: Value, now: Timestamp) -> Self {
        Self {
            name: Some(name.to_owned()),
            timestamp: Some(now.as_millis()),
            datatype: Some(datatype as u32),
            value: Some(value),
            ..Self::default()
        }
    }
}

impl PropertySet {
    /// In what something is measured.
    #[must_use]
    pub fn of_unit(unit: &str) -> Self {
        let value = PropertyValue { datatype: Some(Datatype::String as u32), string: Some(unit.to_owned()) };
        Self { keys: vec![ENG_UNIT.to_owned()], values: vec![value] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by hand from the specification's field numbers: (number << 3 | wire type), length, content.
    #[test]
    fn each_field_has_the_number_of_the_specification() {
        let metric = Metric {
            name: Some("u".to_owned()),
            alias: Some(7),
            timestamp: Some(300),
            datatype: Some(Datatype::Double as u32),
            is_historical: Some(true),
            is_null: Some(false),
            properties: Some(PropertySet::of_unit("V")),
            value: Some(Value::Double(1.0)),
        };
        let payload = Payload::new(Timestamp::from_millis(300), Some(0), vec![metric]);
        let properties = [&[0x0a, 7][..], b"engUnit", &[0x12, 5, 0x08, 12, 0x42, 1], b"V"].concat();
        let metric = [
            &[0x0a, 1, b'u', 0x10, 7, 0x18, 0xac, 2, 0x20, 10, 0x28, 1, 0x38, 0, 0x4a][..],
            &[u8::try_from(properties.len()).unwrap()],
            &properties,
            &[0x69, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f],
        ]
        .concat();
        let expected =
            [&[0x08, 0xac, 2, 0x12][..], &[u8::try_from(metric.len()).unwrap()], &metric, &[0x18, 0]].concat();
        assert_eq!(payload.bytes(), expected);
        for (value, bytes) in [(Value::Long(5), [0x58, 5]), (Value::Boolean(true), [0x70, 1])] {
            let metric = Metric { value: Some(value), ..Metric::default() };
            assert_eq!(metric.encode_to_vec(), bytes);
        }
    }

    #[test]
    fn only_the_one_command_asks_for_births() {
        let asks = |name: &str, value| {
            let now = Timestamp::from_millis(1);
            let metric = Metric::of_node(name, Datatype::Boolean, value, now);
            Payload::asks_for_births(&Payload::new(now, None, vec![metric]).bytes())
        };
        assert!(asks(REBIRTH, Value::Boolean(true)));
        assert!(!asks(REBIRTH, Value::Boolean(false)));
        assert!(!asks("Node Control/Reboot", Value::Boolean(true)));
        assert!(!Payload::asks_for_births(&Bytes::from_static(b"\xff\xff\xff")));
        assert!(!Payload::asks_for_births(&Bytes::new()));
    }
}
