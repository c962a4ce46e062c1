//! The encoder, read back by the rules of the server.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::outputs::pattoo::body::Body;
use crate::outputs::pattoo::identity::{Agent, Series};
use crate::outputs::pattoo::server_rules::datapoints;
use crate::reading::points::Kind;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_123);
const MINUTE: Duration = Duration::from_secs(60);

fn agent() -> Agent {
    Agent::new("4c".repeat(32).parse().unwrap(), "plant-7.example.net").unwrap()
}

fn series(target: &str, key: &str, unit: u8) -> Series {
    Series::new(target, key, unit, Kind::Integer, MINUTE).unwrap()
}

fn encoder(series: &[Series]) -> Encoder {
    Encoder::new(Arc::new(Catalogue::new(&agent(), MINUTE, series).unwrap()))
}

fn reading(point: u32, value: Value) -> Reading {
    Reading { point: PointId(point), at: NOW, value }
}

#[test]
fn a_body_looks_like_this() {
    let mut encoder = encoder(&[series("a", "input_register_30001", 0), series("b", "input_register_30001", 0)]);
    encoder.push(&reading(1, Value::Float(13.0))).unwrap();
    encoder.push(&reading(1, Value::Integer(14))).unwrap();
    let id = agent().id().to_string();
    let checksum = series("b", "input_register_30001", 0).checksum(&agent());
    let expected = [
        r#"{"pattoo_agent_timestamp":1700000000123,"pattoo_agent_id":""#,
        &id,
        r#"","pattoo_agent_polling_interval":60000,"pattoo_datapoints":{"key_value_pairs":{"#,
        r#""9":["pattoo_timestamp",1700000000123],"7":["pattoo_key","input_register_30001"],"0":["unit","000"],"#,
        r#""1":["pattoo_agent_polling_interval","60000"],"2":["pattoo_agent_hostname","plant-7.example.net"],"#,
        r#""3":["pattoo_agent_id",""#,
        &id,
        r#""],"8":["pattoo_agent_polled_target","b"],"5":["pattoo_agent_program","pattoo_agent_modbustcpd"],"#,
        r#""6":["pattoo_data_type",99],"15":["pattoo_checksum",""#,
        &checksum,
        r#""],"16":["pattoo_value",13.0],"10":["pattoo_value",14]},"#,
        r#""datapoint_pairs":[[0,1,2,3,8,5,7,6,16,9,15],[0,1,2,3,8,5,7,6,10,9,15]]}}"#,
    ];
    assert_eq!(String::from_utf8(encoder.finish(NOW).unwrap()).unwrap(), expected.concat());
}

#[test]
fn what_would_kill_the_ingester_is_refused_and_leaves_the_batch_as_it_was() {
    let mut encoder = encoder(&[series("a", "k", 0), series("b", "l", 1)]);
    encoder.push(&reading(0, Value::Float(1.0))).unwrap();
    let before = encoder.bytes();
    // Of a point and at a time that are not in the batch otherwise.
    let later = Timestamp::from_millis(NOW.as_millis() + 1);
    let poison = Reading { at: later, ..reading(1, Value::Float(f64::NAN)) };
    assert!(matches!(encoder.push(&poison), Err(Refused::NotFinite(_))));
    for value in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
        assert!(matches!(encoder.push(&reading(0, Value::Float(value))), Err(Refused::NotFinite(_))), "{value}");
    }
    for value in [1e29, -1e29, f64::MAX] {
        assert_eq!(encoder.push(&reading(0, Value::Float(value))), Err(Refused::TooLarge(value)));
    }
    assert_eq!(encoder.push(&reading(2, Value::Integer(1))), Err(Refused::UnknownPoint(PointId(2))));
    assert_eq!((encoder.bytes(), encoder.datapoints()), (before, 1));
    encoder.push(&Reading { value: Value::Float(2.0), ..poison }).unwrap();
    let body = encoder.finish(NOW).unwrap();
    assert_eq!(datapoints(&body).len(), 2);
    encoder.push(&reading(0, Value::Float(9.9e28))).unwrap();
    encoder.push(&reading(0, Value::Integer(i64::MIN))).unwrap();
    assert_eq!(encoder.datapoints(), 2);
}

#[test]
fn a_body_is_only_made_of_readings_and_a_timestamp_of_13_digits() {
    let mut encoder = encoder(&[series("a", "k", 0)]);
    assert_eq!(encoder.finish(NOW), Err(Unfinished::Empty));
    encoder.push(&reading(0, Value::Integer(1))).unwrap();
    for ms in [0, 999_999_999_999, 10_000_000_000_000, u64::MAX] {
        let timestamp = Timestamp::from_millis(ms);
        assert_eq!(encoder.finish(timestamp), Err(Unfinished::Timestamp(timestamp)));
    }
    for ms in [1_000_000_000_000, 9_999_999_999_999] {
        let body = encoder.finish(Timestamp::from_millis(ms)).unwrap();
        assert!(datapoints(&body)[0].contains_key("pattoo_value"));
        encoder.push(&reading(0, Value::Integer(1))).unwrap();
    }
}

#[test]
fn ids_are_never_given_twice_however_many_timestamps_a_batch_has() {
    let mut encoder = encoder(&[series("a", "k", 0)]);
    for ms in 0..10 {
        let at = Timestamp::from_millis(NOW.as_millis() + ms);
        encoder.push(&Reading { at, ..reading(0, Value::Integer(i64::try_from(ms).unwrap())) }).unwrap();
    }
    let body = encoder.finish(NOW).unwrap();
    for (ms, datapoint) in (0_u64..).zip(datapoints(&body)) {
        assert_eq!(datapoint["pattoo_value"], serde_json::json!(ms));
        assert_eq!(datapoint["pattoo_timestamp"], serde_json::json!(NOW.as_millis() + ms));
    }
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::Integer),
        (-9.9e28..9.9e28).prop_map(Value::Float),
        (any::<u16>(), prop_oneof![Just(1.0), Just(0.1), Just(-0.001), Just(1e-9), Just(3e20)])
            .prop_map(|(word, factor)| Value::Float(f64::from(word) * factor)),
    ]
}

proptest! {
    #[test]
    fn parsing_a_body_gives_the_readings_back(
        points in prop::collection::vec((".{0,8}", 0_u32..3, 0_u8..3), 1..20),
        batches in prop::collection::vec(prop::collection::vec((any::<u32>(), values(), 0_u64..3), 1..30), 1..4),
    ) {
        let series: Vec<_> = points.iter().map(|(target, key, unit)| series(target, &format!("k{key}"), *unit)).collect();
        let mut encoder = encoder(&series);
        for batch in batches {
            let readings: Vec<_> = batch
                .into_iter()
                .map(|(point, value, late)| Reading {
                    point: PointId(point % u32::try_from(series.len()).unwrap()),
                    at: Timestamp::from_millis(NOW.as_millis() + late),
                    value,
                })
                .collect();
            for reading in &readings {
                encoder.push(reading).unwrap();
            }
            prop_assert_eq!(encoder.datapoints(), readings.len());
            let bytes = encoder.bytes();
            let body = encoder.finish(NOW).unwrap();
            prop_assert_eq!(body.len(), bytes);

            // It refuses what is there twice, which a map does not show.
            prop_assert!(Body::parse(&body).is_ok());
            let got = datapoints(&body);
            prop_assert_eq!(got.len(), readings.len());
            for (got, reading) in got.iter().zip(&readings) {
                let series = &series[reading.point.index()];
                let value = match reading.value {
                    Value::Integer(value) => serde_json::json!(value),
                    Value::Float(value) => serde_json::json!(value),
                };
                prop_assert_eq!(&got["pattoo_value"], &value);
                prop_assert_eq!(&got["pattoo_timestamp"], &serde_json::json!(reading.at.as_millis()));
                prop_assert_eq!(&got["pattoo_agent_polled_target"], series.target());
                prop_assert_eq!(&got["pattoo_key"], series.key());
                prop_assert_eq!(&got["unit"], &series.unit());
                prop_assert_eq!(&got["pattoo_checksum"], &series.checksum(&agent()));
            }
        }
    }
}
