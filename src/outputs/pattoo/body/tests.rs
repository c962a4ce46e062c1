//! Bodies of ours and of the original, merged and taken apart, read back by the rules of the server.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::outputs::pattoo::identity::{Agent, AgentId, Series};
use crate::outputs::pattoo::payload::{Catalogue, Encoder};
use crate::outputs::pattoo::server_rules::{self, Datapoint};
use crate::reading::points::Kind;
use crate::reading::{PointId, Reading, Value};

const NOW: u64 = 1_700_000_000_123;

fn id() -> AgentId {
    AgentId::from_bytes([0x4c; 32])
}

/// A body of ours: (series, milliseconds after the start, value) each.
fn ours(at: u64, readings: &[(u32, u64, f64)]) -> Vec<u8> {
    let agent = Agent::new(id(), "plant-7").unwrap();
    let interval = Duration::from_secs(10);
    let series: Vec<_> = (0..8)
        .map(|n| Series::new("device", format!("input_register_{n}"), 1, Kind::Integer, interval).unwrap())
        .collect();
    let mut encoder = Encoder::new(Arc::new(Catalogue::new(&agent, interval, &series).unwrap()));
    for &(point, late, value) in readings {
        let at = Timestamp::from_millis(NOW + late);
        encoder.push(&Reading { point: PointId(point), at, value: Value::Float(value) }).unwrap();
    }
    encoder.finish(Timestamp::from_millis(at)).unwrap()
}

/// The same rows as the Python agent writes them: with spaces, and ids from 0.
fn python(body: &[u8]) -> Vec<u8> {
    String::from_utf8(body.to_vec()).unwrap().replace(':', ": ").replace(',', ", ").into_bytes()
}

fn merged(bodies: &[Vec<u8>], at: u64) -> Vec<u8> {
    let bodies: Vec<_> = bodies.iter().map(|body| Body::parse(body).unwrap()).collect();
    let all = Datapoints::sound(&bodies);
    all.encode(0..all.len(), id().as_str(), Timestamp::from_millis(at))
}

#[test]
fn every_recorded_body_of_the_original_survives_a_merge_unchanged() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden");
    let mut bodies = 0;
    for folder in fs::read_dir(golden).unwrap() {
        let Ok(text) = fs::read(folder.unwrap().path().join("body.json")) else { continue };
        let body = Body::parse(&text).unwrap();
        assert!(body.is_plain(&body.agent_id, Timestamp::from_millis(NOW)) && body.unsound().is_none());
        let stripped = body.agent_id.trim().to_owned();
        let bodies_of_one = [body];
        let rows = Datapoints::sound(&bodies_of_one);
        let again = rows.encode(0..rows.len(), &stripped, Timestamp::from_millis(NOW));
        let said = |body: &[u8]| format!("{:?}", server_rules::datapoints(body));
        assert_eq!(said(&again), said(&text));
        bodies += 1;
    }
    assert_eq!(bodies, 7);
}

#[test]
fn a_merge_holds_the_rows_of_all_in_order_under_the_new_stamp_and_shares_what_is_equal() {
    let one = ours(NOW, &[(0, 0, 1.5), (1, 0, 1e-7)]);
    let two = ours(NOW + 1, &[(0, 1, -0.0), (1, 1, 9.9e28)]);
    let both = merged(&[one.clone(), python(&two)], NOW + 7);
    let text = String::from_utf8(both.clone()).unwrap();
    assert!(text.starts_with(&format!("{{\"pattoo_agent_timestamp\":{},", NOW + 7)));
    assert_eq!(text.matches("pattoo_agent_program").count(), 1, "{text}");
    assert!(both.len() < one.len() + two.len());
    let expected = [server_rules::datapoints(&one), server_rules::datapoints(&two)].concat();
    assert_eq!(format!("{:?}", server_rules::datapoints(&both)), format!("{expected:?}"));
}

#[test]
fn a_series_is_the_same_in_bodies_of_both_agents() {
    let bodies = [ours(NOW, &[(0, 0, 1.0), (1, 0, 1.0)]), python(&ours(NOW + 1, &[(1, 1, 1.0), (2, 1, 1.0)]))];
    let bodies: Vec<_> = bodies.iter().map(|body| Body::parse(body).unwrap()).collect();
    assert_eq!(Datapoints::sound(&bodies).series(), [0, 1, 1, 2]);
}

#[test]
fn what_the_ingester_dies_of_makes_its_row_unsound_and_no_other() {
    let good = String::from_utf8(ours(NOW, &[(0, 0, 1.0), (1, 1, 2.0), (2, 2, 3.0)])).unwrap();
    let long = "x".repeat(513);
    let cases = [
        ("2.0]", "Infinity]"),
        ("2.0]", "-Infinity]"),
        ("2.0]", "NaN]"),
        ("2.0]", "1e29]"),
        ("2.0]", "-1e400]"),
        ("2.0]", "123456789012345678901234567890123456789]"),
        ("2.0]", "\"2.0\"]"),
        ("2.0]", "null]"),
        ("1700000000124]", "\"1700000000124\"]"),
        ("1700000000124]", "17000000001240]"),
        ("1700000000124]", "1700000000124.0]"),
        ("1700000000124]", "-1]"),
        ("1700000000124]", "0]"),
        ("\"input_register_1\"", &format!("\"{long}\"")),
        ("\"input_register_1\"", &format!("\"{}\"", "é".repeat(257))),
        ("\"input_register_1\"", "1"),
        ("[\"pattoo_key\",\"input_register_1\"", "[\"pattoo_kez\",\"input_register_1\""),
        ("[\"pattoo_key\",\"input_register_1\"", "[\"unit\",\"input_register_1\""),
        ("\"33\":[\"pattoo_checksum\"", "\"99\":[\"pattoo_checksum\""),
    ];
    for (from, to) in cases {
        assert_eq!(good.matches(from).count(), 1, "{from}");
        let bad = legible(good.replace(from, to).into_bytes());
        let body = Body::parse(&bad).unwrap_or_else(|error| panic!("{to}: {error:?}"));
        assert_eq!(body.unsound().map(|(rows, _)| rows), Some(1), "{to}");
        assert!(!body.is_plain(id().as_str(), Timestamp::from_millis(NOW)));
        let bodies = [body];
        let sound = Datapoints::sound(&bodies);
        let left = sound.encode(0..sound.len(), id().as_str(), Timestamp::from_millis(NOW));
        let values: Vec<_> = server_rules::datapoints(&left).iter().map(|row| row["pattoo_value"].clone()).collect();
        assert_eq!(values, [1.0, 3.0], "{to}");
        let unsound = Datapoints::unsound(&bodies);
        let kept = unsound.encode(0..unsound.len(), id().as_str(), Timestamp::from_millis(NOW));
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&kept).is_ok());
        assert_eq!(unsound.len(), 1, "{to}");
    }
}

#[test]
fn a_text_of_512_bytes_is_short_enough_however_it_is_escaped() {
    for (text, sound) in [
        ("x".repeat(512), true),
        ("x".repeat(513), false),
        ("\\u00e9".repeat(256), true),
        ("\\u00e9".repeat(257), false),
        ("\\u0041".repeat(512), true),
    ] {
        assert_eq!(is_short_text(&format!("\"{text}\"")), sound, "{} bytes", text.len());
    }
}

#[test]
fn what_the_server_would_not_take_at_all_is_damaged() {
    let good = String::from_utf8(ours(NOW, &[(0, 0, 1.0)])).unwrap();
    let cases = [
        (good.clone(), good[..good.len() - 1].to_owned()),
        (good.clone(), "[]".to_owned()),
        ("{\"pattoo_agent_timestamp\"".to_owned(), "{\"x\":1,\"pattoo_agent_timestamp\"".to_owned()),
        ("\"pattoo_agent_polling_interval\":10000,".to_owned(), String::new()),
        (":10000,".to_owned(), ":4294967296,".to_owned()),
        (":10000,".to_owned(), ":1e4,".to_owned()),
        (NOW.to_string(), "170000000012".to_owned()),
        (NOW.to_string(), "\"1700000000123\"".to_owned()),
        ("[[0,".to_owned(), "[[0,0,".to_owned()),
        ("[[0,".to_owned(), "[[-1,".to_owned()),
        ("\"1\":".to_owned(), "\"0\":".to_owned()),
    ];
    for (from, to) in cases {
        let bad = good.replacen(&from, &to, 1);
        assert_ne!(bad, good);
        assert!(Body::parse(bad.as_bytes()).is_err(), "{to}");
    }
    let rows = good.split_once("[[").unwrap().1;
    assert!(matches!(Body::parse(good.replace(&format!("[{rows}"), "]}}").as_bytes()), Err(Damaged::Empty)));
}

#[test]
fn only_the_agents_own_bodies_are_its_to_post() {
    let good = ours(NOW, &[(0, 0, 1.0)]);
    let quoted = format!(":\"{}\"", id());
    let with_newline = String::from_utf8(good.clone()).unwrap().replacen(&quoted, &format!(":\"{}\\n\"", id()), 1);
    let body = Body::parse(with_newline.as_bytes()).unwrap().of_agent(id().as_str()).unwrap();
    assert!(!body.is_plain(id().as_str(), Timestamp::from_millis(NOW)));
    assert!(Body::parse(&good).unwrap().of_agent("somebody").is_err());
    let body = Body::parse(&good).unwrap();
    assert!(body.is_plain(id().as_str(), Timestamp::from_millis(NOW)));
    assert!(!body.is_plain(id().as_str(), Timestamp::from_millis(NOW + 1)));
}

#[test]
fn words_in_quotes_are_left_alone_by_what_makes_a_text_legible() {
    let text = br#"["NaN","\"Infinity",NaN,-Infinity,"I\\",Infinity]"#;
    let expected = br#"["NaN","\"Infinity","" ,-1e999999,"I\\",1e999999]"#;
    assert_eq!(legible(text.to_vec()), expected);
    for end in 0..text.len() {
        assert_eq!(legible(text[..end].to_vec()).len(), end);
    }
}

fn by_series(rows: &[Datapoint]) -> BTreeMap<String, Vec<String>> {
    let mut series: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        series.entry(row["pattoo_checksum"].to_string()).or_default().push(format!("{row:?}"));
    }
    series
}

proptest! {
    #[test]
    fn parts_by_series_hold_together_what_the_whole_held(
        batches in prop::collection::vec(prop::collection::vec((0_u32..8, -1e28..1e28), 1..20), 1..5),
        choice in any::<u8>(),
    ) {
        let texts: Vec<_> = (0_u64..).zip(&batches).map(|(n, batch)| {
            let readings: Vec<_> = batch.iter().map(|&(point, value)| (point, n, value)).collect();
            let body = ours(NOW + n, &readings);
            if n % 2 == 0 { body } else { python(&body) }
        }).collect();
        let whole: Vec<_> = texts.iter().flat_map(|text| server_rules::datapoints(text)).collect();
        let bodies: Vec<_> = texts.iter().map(|text| Body::parse(text).unwrap()).collect();
        let all = Datapoints::sound(&bodies);
        let (left, right): (Vec<_>, Vec<_>) = (0..all.len()).partition(|&row| choice >> all.series()[row] & 1 == 1);
        let mut parts = Vec::new();
        for rows in [left, right].into_iter().filter(|rows| !rows.is_empty()) {
            parts.extend(server_rules::datapoints(&all.encode(rows, id().as_str(), Timestamp::from_millis(NOW))));
        }
        prop_assert_eq!(by_series(&parts), by_series(&whole));
    }
}
