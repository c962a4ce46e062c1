//! For tests: what the server's agent API and ingester demand of a body, and the datapoints they see in it.
//!
//! Written from the server's rules, not from our encoder, so that a mistake there shows here. Panics, as a
//! test does, where the server would answer other than 200, ignore the file, or die.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::identity::MAX_TEXT_BYTES;

/// One datapoint: its eleven keys and their values.
pub type Datapoint = BTreeMap<String, Value>;

const TOP_KEYS: [&str; 4] =
    ["pattoo_agent_id", "pattoo_agent_polling_interval", "pattoo_agent_timestamp", "pattoo_datapoints"];

const DATAPOINT_KEYS: [&str; 11] = [
    "unit",
    "pattoo_agent_polling_interval",
    "pattoo_agent_hostname",
    "pattoo_agent_id",
    "pattoo_agent_polled_target",
    "pattoo_agent_program",
    "pattoo_key",
    "pattoo_data_type",
    "pattoo_value",
    "pattoo_timestamp",
    "pattoo_checksum",
];

/// The datapoints of a body, in its order, if the server takes it.
pub fn datapoints(body: &[u8]) -> Vec<Datapoint> {
    let body: Value = serde_json::from_slice(body).expect("JSON");
    let top = body.as_object().expect("an object");
    let mut keys: Vec<_> = top.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, TOP_KEYS);
    assert_eq!(top["pattoo_agent_timestamp"].as_u64().expect("an integer").to_string().len(), 13);
    assert!(top["pattoo_agent_polling_interval"].as_u64().expect("an integer") < 1 << 32);
    let id = top["pattoo_agent_id"].as_str().expect("a string");

    let datapoints = top["pattoo_datapoints"].as_object().expect("an object");
    assert_eq!(datapoints.len(), 2);
    let pairs = datapoints["key_value_pairs"].as_object().expect("an object");
    let mut used = HashSet::new();
    let rows = datapoints["datapoint_pairs"].as_array().expect("an array");
    let datapoints = rows
        .iter()
        .map(|row| {
            let ids = row.as_array().expect("an array of ids");
            let keys_and_values: Vec<_> = ids
                .iter()
                .map(|id| {
                    let id = id.as_u64().expect("an integer").to_string();
                    let pair = pairs.get(&id).unwrap_or_else(|| panic!("pair {id} is missing"));
                    used.insert(id);
                    check_pair(pair)
                })
                .collect();
            let keys: Vec<_> = keys_and_values.iter().map(|(key, _)| key.as_str()).collect();
            assert_eq!(keys, DATAPOINT_KEYS);
            Datapoint::from_iter(keys_and_values)
        })
        .collect::<Vec<_>>();
    assert_eq!(used.len(), pairs.len(), "pairs that no datapoint needs");
    for datapoint in &datapoints {
        assert_eq!(datapoint["pattoo_agent_id"], id.trim_end());
    }
    datapoints
}

fn check_pair(pair: &Value) -> (String, Value) {
    let [key, value] = pair.as_array().expect("an array").as_slice() else { panic!("{pair} is no pair") };
    let key = key.as_str().expect("a string");
    match key {
        "pattoo_timestamp" => assert!(value.is_u64(), "{value}"),
        "pattoo_value" => assert!(value.as_f64().is_some_and(|value| value.abs() < 1e30), "{value}"),
        "pattoo_data_type" => assert!([99, 101, 32, 64].map(Value::from).contains(value), "{value}"),
        _ => assert!(value.as_str().is_some_and(|text| text.len() <= MAX_TEXT_BYTES), "{value}"),
    }
    if key == "pattoo_agent_polling_interval" {
        let ms = value.as_str().and_then(|text| text.parse::<u32>().ok());
        assert!(ms.is_some(), "{value}");
    }
    (key.to_owned(), value.clone())
}

/// A test of the test: the rules bite.
#[test]
fn a_body_with_a_missing_pair_a_fifth_key_or_a_short_row_is_noticed() {
    let good = include_str!("../../../tests/fixtures/golden/13/body.json");
    assert_eq!(datapoints(good.as_bytes()).len(), 1);
    for (from, to) in [
        (r#""10": ["#, r#""11": ["#),
        (r#"{"pattoo_agent_timestamp""#, r#"{"x": 1, "pattoo_agent_timestamp""#),
        ("[[0, 1,", "[[1,"),
        ("1700000000123", "170000000012"),
        ("13.0", "\"13.0\""),
        ("\"61000\"", "\"4294967296\""),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good);
        assert!(std::panic::catch_unwind(|| datapoints(bad.as_bytes())).is_err(), "{from} -> {to}");
    }
}
