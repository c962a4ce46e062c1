//! Whatever is read: the body is JSON, holds the readings, and nothing the server's ingester dies on.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pattoo_agent_modbustcpd::outputs::pattoo::identity::{Agent, AgentId, Series};
use pattoo_agent_modbustcpd::outputs::pattoo::payload::{Catalogue, Encoder};
use pattoo_agent_modbustcpd::reading::points::Kind;
use pattoo_agent_modbustcpd::reading::{PointId, Reading, Timestamp, Value};

const POINTS: u32 = 50;

static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| {
    let agent = Agent::new(AgentId::from_bytes([7; 32]), "höst \"quoted\"\u{1}").unwrap();
    let interval = Duration::from_secs(10);
    let series: Vec<_> = (0..POINTS)
        .map(|n| Series::new("dévice", format!("input_register_{n}"), 1, Kind::Integer, interval).unwrap())
        .collect();
    Arc::new(Catalogue::new(&agent, interval, &series).unwrap())
});

#[derive(Arbitrary, Debug)]
struct Read {
    point: u8,
    at: u64,
    float: bool,
    bits: u64,
}

fuzz_target!(|reads: Vec<Read>| {
    let mut encoder = Encoder::new(Arc::clone(&CATALOGUE));
    let mut taken = Vec::new();
    for read in reads {
        let value =
            if read.float { Value::Float(f64::from_bits(read.bits)) } else { Value::Integer(read.bits.cast_signed()) };
        let reading = Reading {
            point: PointId(read.point.into()),
            at: Timestamp::from_millis(read.at % 10_000_000_000_000),
            value,
        };
        let before = (encoder.datapoints(), encoder.bytes());
        if encoder.push(&reading).is_ok() {
            taken.push(reading);
        } else {
            assert_eq!((encoder.datapoints(), encoder.bytes()), before, "a refused reading changed the batch");
        }
    }
    if taken.is_empty() {
        return;
    }
    let size = encoder.bytes();
    let body = encoder.finish(Timestamp::from_millis(1_700_000_000_000)).unwrap();
    assert_eq!(body.len(), size);
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let data = &body["pattoo_datapoints"];
    let rows = data["datapoint_pairs"].as_array().unwrap();
    assert_eq!(rows.len(), taken.len());
    for (row, reading) in rows.iter().zip(&taken) {
        let pairs: Vec<_> = row.as_array().unwrap().iter().map(|id| &data["key_value_pairs"][id.to_string()]).collect();
        assert_eq!(pairs.len(), 11);
        assert_eq!(pairs[6][1], format!("input_register_{}", reading.point.0));
        assert_eq!(pairs[9][1].as_u64(), Some(reading.at.as_millis()));
        match reading.value {
            Value::Integer(value) => assert_eq!(pairs[8][1].as_i64(), Some(value)),
            Value::Float(value) => {
                let read = pairs[8][1].as_f64().unwrap();
                assert!(read.is_finite() && read.abs() < 1e29);
                assert!((read - value).abs() <= value.abs() * 1e-15, "{read} {value}");
            }
        }
    }
});
