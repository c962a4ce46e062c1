//! Lines, read back by another reader of the protocol.

use influxdb_line_protocol::{FieldValue, parse_lines};
use proptest::prelude::*;

use super::*;
use crate::outputs::fixtures::{network, reading, table};
use crate::outputs::influxdb::Api;
use crate::outputs::template::{Unfit, unfit};
use crate::reading::Value;
use crate::reading::points::{Device, Kind, Register};

fn settings(measurement: &str, field: &str, tags: &[(&str, &str)]) -> InfluxSettings {
    InfluxSettings {
        network: network("http://tsdb.example.net:8086", 8086),
        api: Api::V1 { database: "plant".to_owned(), retention_policy: None },
        measurement: measurement.parse().unwrap(),
        field: field.parse().unwrap(),
        tags: tags.iter().map(|(tag, value)| ((*tag).to_owned(), value.parse().unwrap())).collect(),
        integers: false,
        gzip: true,
    }
}

fn named(name: &str, unit: u8, tags: &[(&str, &str)]) -> (Device, Register) {
    let pairs =
        |tags: &[(&str, &str)]| tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let device = Device { name: Some("boiler plc".to_owned()), ..Device::new("192.0.2.20", unit, "heat", 1_000) };
    let register = Register {
        name: Some(name.to_owned()),
        tags: pairs(tags),
        ..Register::new("input_register_30001", "input_register", 30_001, Kind::Float)
    };
    (device, register)
}

fn text(encoded: &Encoded) -> &str {
    std::str::from_utf8(encoded.body.as_deref().unwrap_or_default()).unwrap()
}

/// A server takes no line with a tag of this name, leaves out such a field without a word, and takes no tag twice.
/// Two points of one name, and that name.
fn clash(table: &PointTable, settings: &InfluxSettings) -> Option<(usize, usize, String)> {
    match unfit(table, |point| name_of(point, settings))? {
        Unfit::Clash(first, second, name) => Some((first, second, name)),
        Unfit::Nameless(place) => panic!("{place} has no name"),
    }
}

#[test]
fn time_and_a_tag_that_is_there_twice() {
    let table = table(&[named("time", 1, &[("time", "time"), ("a\\b", "1"), ("a/b", "2")]), named("u", 1, &[])]);
    let mut encode = InfluxEncode::new(settings("time", "{name}", &[]));
    let readings = [reading(0, 1_000, Value::Integer(7)), reading(1, 1_000, Value::Integer(8))];
    let encoded = encode.encode(&table, &readings, 1 << 20, Timestamp::default());
    assert_eq!(text(&encoded), "time,a/b=1,time_=time time_=7 1000\ntime u=8 1000\n");
}

#[test]
fn points_of_one_device_and_instant_are_fields_of_one_line() {
    let table = table(&[named("u", 1, &[]), named("i", 1, &[]), named("u", 2, &[]), named("p", 1, &[("l", "1")])]);
    let mut encode = InfluxEncode::new(settings("{group}", "{name}", &[("device", "{device}"), ("unit", "{unit}")]));
    let readings = [
        reading(0, 1_000, Value::Float(230.5)),
        reading(2, 1_000, Value::Integer(-7)),
        reading(1, 1_000, Value::Float(1e300)),
        reading(3, 1_000, Value::Float(0.1)),
        reading(0, 2_000, Value::Integer(i64::MAX)),
    ];
    let encoded = encode.encode(&table, &readings, 1 << 20, Timestamp::default());
    assert_eq!(
        text(&encoded),
        "heat,device=boiler\\ plc,unit=1 u=230.5,i=1e+300 1000\nheat,device=boiler\\ plc,unit=2 u=-7 1000\n\
         heat,device=boiler\\ plc,l=1,unit=1 p=0.1 1000\nheat,device=boiler\\ plc,unit=1 u=9223372036854775807 2000\n"
    );
    assert_eq!((encoded.taken, encoded.not_sendable), (5, 0));
    let mut whole = InfluxEncode::new(InfluxSettings { integers: true, ..settings("m", "{name}", &[]) });
    let encoded = whole.encode(&table, &readings[1..2], 1 << 20, Timestamp::default());
    assert_eq!(text(&encoded), "m u=-7i 1000\n");
}

#[test]
fn what_cannot_be_said_is_counted_and_a_small_room_still_takes_one() {
    let table = table(&[named("u", 1, &[])]);
    let mut encode = InfluxEncode::new(settings("m", "{name}", &[]));
    let readings = [
        reading(0, 1, Value::Float(f64::NAN)),
        reading(0, 2, Value::Float(f64::INFINITY)),
        reading(9, 3, Value::Integer(1)),
        reading(0, LAST + 1, Value::Integer(1)),
        reading(0, LAST, Value::Integer(1)),
        reading(0, 6, Value::Integer(1)),
    ];
    let encoded = encode.encode(&table, &readings, 1, Timestamp::default());
    assert_eq!((text(&encoded), encoded.taken, encoded.not_sendable), ("m u=1 9223372036854\n", 5, 4));
    let none = encode.encode(&table, &readings[..4], 1, Timestamp::default());
    assert_eq!((none.body, none.taken, none.not_sendable), (None, 4, 4));
    let mut nameless = InfluxEncode::new(settings("{tags.none}", "{name}", &[]));
    let encoded = nameless.encode(&table, &readings[4..], 1 << 20, Timestamp::default());
    assert_eq!((encoded.body, encoded.taken, encoded.not_sendable), (None, 2, 2));
}

#[test]
fn two_points_that_would_overwrite_each_other_are_found() {
    let points = table(&[named("u", 1, &[]), named("i", 1, &[]), named("u", 2, &[])]);
    assert_eq!(clash(&points, &settings("m", "{name}", &[("unit", "{unit}")])), None);
    let (first, second, said) = clash(&points, &settings("m", "{name}", &[])).unwrap();
    assert_eq!((first, second, &*said), (0, 2, "m u"));
}

proptest! {
    /// Any name, any tag, any value: another reader of the protocol finds what was meant.
    #[test]
    fn what_is_written_is_read_back(
        name in "\\PC{1,20}",
        measurement in "\\PC{1,12}",
        tag in "\\PC{1,12}",
        of in "\\PC{1,12}",
        value in prop_oneof![any::<f64>().prop_map(Value::Float), any::<i64>().prop_map(Value::Integer)],
        at in 0..LAST,
    ) {
        let (device, register) = named(&name, 1, &[(&tag, &of)]);
        let device = Device { group: measurement.clone(), ..device };
        let table = table(&[(device, register)]);
        let settings = InfluxSettings { integers: true, ..settings("{group}", "{name}", &[]) };
        let encoded = InfluxEncode::new(settings).encode(&table, &[reading(0, at, value)], 1 << 20, Timestamp::default());
        if encoded.not_sendable == 1 {
            prop_assert!(matches!(value, Value::Float(value) if !value.is_finite()));
            return Ok(());
        }
        let lines: Vec<_> = parse_lines(text(&encoded)).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(lines.len(), 1);
        let line = &lines[0];
        let plain = |text: &str| text.replace('\\', "/");
        prop_assert_eq!(line.series.measurement.to_string(), plain(&measurement.strip_prefix('#').map_or_else(|| measurement.clone(), |rest| format!("_{rest}"))));
        let tags: Vec<_> = line.series.tag_set.iter().flatten().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        prop_assert_eq!(tags, [(plain(&tag), plain(&of))]);
        let (key, read) = &line.field_set[0];
        prop_assert_eq!(key.to_string(), plain(&name));
        match (read, value) {
            (FieldValue::I64(read), Value::Integer(value)) => prop_assert_eq!(*read, value),
            (FieldValue::F64(read), Value::Float(value)) => prop_assert_eq!(read.to_bits(), value.to_bits()),
            other => prop_assert!(false, "{:?}", other),
        }
        prop_assert_eq!(line.timestamp, i64::try_from(at).ok());
    }
}
