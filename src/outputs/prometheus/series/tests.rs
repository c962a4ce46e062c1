//! Requests, decoded again.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::outputs::fixtures::{network, reading, table};
use crate::outputs::network::Network;
use crate::outputs::prometheus::message::push_series;
use crate::outputs::samples::encode::SampleEncode;
use crate::outputs::samples::pace::Pace;
use crate::outputs::samples::post::{Post, PostSeries};
use crate::outputs::template::{Unfit, unfit};
use crate::outputs::{Encode as _, Encoded};
use crate::reading::points::{Device, PointTable, Register};
use crate::reading::{Reading, Timestamp, Value};

fn encoder(settings: &PrometheusSettings) -> SampleEncode<PrometheusSettings> {
    SampleEncode::new(settings.clone(), Pace::default())
}

fn settings(metric: &str, labels: &[(&str, &str)]) -> PrometheusSettings {
    PrometheusSettings {
        network: Network { base: "/api/v1/push".to_owned(), ..network("http://mimir.example.net/api/v1/push", 80) },
        parameters: Vec::new(),
        metric: metric.parse().unwrap(),
        counter_suffix: "_total".to_owned(),
        labels: labels.iter().map(|(label, value)| ((*label).to_owned(), value.parse().unwrap())).collect(),
    }
}

fn named(name: &str, unit: u8, tags: &[(&str, &str)]) -> (Device, Register) {
    let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let device = Device { name: Some("boiler plc".to_owned()), ..Device::new("192.0.2.20", unit, "heat", 1_000) };
    let register = Register {
        name: Some(name.to_owned()),
        tags,
        ..Register::new("input_register_30001", "input_register", 30_001, Kind::Float)
    };
    (device, register)
}

fn counter(name: &str) -> (Device, Register) {
    let (device, register) = named(name, 1, &[]);
    (device, Register { kind: Kind::Counter64, ..register })
}

/// Each series of a request as text, with its samples.
fn decoded(encoded: &Encoded) -> Vec<(String, Vec<(i64, f64)>)> {
    let post = Post::decode(encoded.body.clone().unwrap_or_default()).unwrap();
    let series = post.series.into_iter().map(|PostSeries { head, samples }| {
        let mut request = Vec::new();
        push_series(&mut request, &head, &samples);
        let length = prost::decode_length_delimiter(&request[1..]).unwrap();
        let series = &request[request.len() - length..];
        assert_eq!(request[0], 0x0a);
        let TimeSeries { labels, samples } = TimeSeries::decode(series).unwrap();
        assert!(labels.is_sorted_by(|a, b| a.name < b.name), "sorted, and none twice: {labels:?}");
        (text(&labels), samples.iter().map(|sample| (sample.timestamp, sample.value)).collect())
    });
    series.collect()
}

const LABELS: [(&str, &str); 2] = [("device", "{device}"), ("unit", "{unit}")];

/// Two points of one name, and that name.
fn clash(table: &PointTable, settings: &PrometheusSettings) -> Option<(usize, usize, String)> {
    match unfit(table, |point| name_of(point, settings))? {
        Unfit::Clash(first, second, name) => Some((first, second, name)),
        Unfit::Nameless(place) => panic!("{place} has no name"),
    }
}

#[test]
fn a_post_ends_where_a_series_comes_again() {
    let table = table(&[named("u", 1, &[]), named("i", 1, &[("l", "1")]), named("u", 2, &[])]);
    let mut encode = encoder(&settings("modbus_{name}", &LABELS));
    let readings = [
        reading(0, 1_000, Value::Float(230.5)),
        reading(1, 1_001, Value::Integer(-7)),
        reading(2, 999, Value::Float(f64::NAN)),
        reading(2, 1_002, Value::Float(1e300)),
        reading(0, 2_000, Value::Float(0.1)),
        reading(1, 2_001, Value::Integer(3)),
    ];
    let encoded = encode.encode(&table, &readings, 1 << 20, Timestamp::default());
    let series = |text: &str, at, value| (text.to_owned(), vec![(at, value)]);
    assert_eq!(
        decoded(&encoded),
        [
            series(r#"modbus_u{device="boiler plc",unit="1"}"#, 1_000, 230.5),
            series(r#"modbus_i{device="boiler plc",l="1",unit="1"}"#, 1_001, -7.0),
            series(r#"modbus_u{device="boiler plc",unit="2"}"#, 1_002, 1e300),
        ]
    );
    assert_eq!((encoded.taken, encoded.not_sendable), (4, 1));
    let encoded = encode.encode(&table, &readings[4..], 1 << 20, Timestamp::default());
    assert_eq!((decoded(&encoded).len(), encoded.taken), (2, 2));
    let encoded = encode.encode(&table, &readings, 1, Timestamp::default());
    assert_eq!((decoded(&encoded).len(), encoded.taken), (1, 1), "a small room still takes one");
}

/// What is posted of a series ascends, and says from which reading it is.
#[test]
fn a_post_has_as_many_samples_of_a_series_as_its_pace_allows() {
    let table = table(&[named("u", 1, &[]), named("i", 1, &[])]);
    let pace = Pace::default();
    let mut encode = SampleEncode::new(settings("{name}", &[]), pace.clone());
    pace.taken(Duration::ZERO);
    let readings: Vec<_> = [(0, 1), (1, 1), (0, 2), (0, 2), (1, 2), (0, 3)]
        .map(|(point, at)| reading(point, at, Value::Integer(7)))
        .into();
    let nan = reading(0, 9, Value::Float(f64::NAN));
    let mut places = |readings: &[Reading]| {
        let encoded = encode.encode(&table, readings, 1 << 20, Timestamp::default());
        let post = Post::decode(encoded.body.unwrap()).unwrap();
        let places = |series: &PostSeries| series.samples.iter().map(|sample| sample.place).collect::<Vec<_>>();
        (encoded.taken, post.series.iter().map(places).collect::<Vec<_>>())
    };
    assert_eq!(places(&readings), (3, vec![vec![0, 2], vec![1]]), "two of one time are two posts");
    assert_eq!(places(&readings[3..]), (3, vec![vec![0, 2], vec![1]]));
    assert_eq!(places(&[nan, readings[0], nan, readings[1]]), (4, vec![vec![1], vec![3]]));
    assert_eq!(places(&[readings[0], readings[2], readings[5], readings[1]]), (2, vec![vec![0, 1]]));
}

#[test]
fn counters_end_as_counters_do_and_labels_have_their_rank() {
    let points = [
        counter("energy"),
        counter("energy_total"),
        named("Vorlauf (°C)", 1, &[("site", "a"), ("a-b", "1"), ("a.b", "2"), ("__name__", "x"), ("hall", "3")]),
        named("温度", 1, &[]),
    ];
    let labels = [("site", "plant 7"), ("hall", ""), ("none", "{tags.none}")];
    let text_of = |settings: &PrometheusSettings, place: usize| {
        let table = table(&points);
        labels_of(&table, settings, place).map(|labels| text(&labels))
    };
    let settings = settings("modbus_{name}", &labels);
    let plain = PrometheusSettings { counter_suffix: String::new(), ..settings.clone() };
    let bare = PrometheusSettings { metric: "{name}".parse().unwrap(), ..settings.clone() };
    for (settings, place, said) in [
        (&settings, 0, Some(r#"modbus_energy_total{site="plant 7"}"#)),
        (&settings, 1, Some(r#"modbus_energy_total{site="plant 7"}"#)),
        (&plain, 0, Some(r#"modbus_energy{site="plant 7"}"#)),
        (&settings, 2, Some(r#"modbus_Vorlauf_C_{_name__="x",a_b="1",site="plant 7"}"#)),
        (&settings, 3, Some(r#"modbus__{site="plant 7"}"#)),
        (&bare, 3, None),
    ] {
        assert_eq!(text_of(settings, place).as_deref(), said);
    }
    let (first, second, said) = clash(&table(&points), &settings).unwrap();
    assert_eq!((first, second, &*said), (0, 1, r#"modbus_energy_total{site="plant 7"}"#));
    assert_eq!(clash(&table(&points), &plain), None);
}

fn labels_of(table: &PointTable, settings: &PrometheusSettings, place: usize) -> Option<Vec<Label>> {
    labels(&table.iter().nth(place).unwrap(), settings)
}

#[test]
fn what_cannot_be_sent_is_counted() {
    let table = table(&[named("u", 1, &[])]);
    let readings = [
        reading(0, 1, Value::Float(f64::INFINITY)),
        reading(9, 2, Value::Integer(1)),
        reading(0, u64::MAX, Value::Integer(1)),
    ];
    let mut encode = encoder(&settings("m", &[]));
    let encoded = encode.encode(&table, &readings, 1 << 20, Timestamp::default());
    assert_eq!((encoded.body, encoded.taken, encoded.not_sendable), (None, 3, 3));
    let aside = encode.set_aside(&table, &readings);
    assert_eq!((aside.body, aside.taken, aside.not_sendable), (None, 3, 3));
    let mut nameless = encoder(&settings("{tags.none}", &[]));
    let encoded = nameless.encode(&table, &[reading(0, 1, Value::Integer(1))], 1 << 20, Timestamp::default());
    assert_eq!((encoded.body, encoded.taken, encoded.not_sendable), (None, 1, 1));
}

#[test]
fn what_is_set_aside_is_text_that_promtool_reads() {
    let table = table(&[named("u", 1, &[("x", "a\"b\\c\n")]), named("i", 1, &[])]);
    let mut encode = encoder(&settings("{name}", &[]));
    let readings = [
        reading(0, 1_700_000_000_007, Value::Float(0.1)),
        reading(1, 1_700_000_000_007, Value::Integer(-3)),
        reading(0, 1_700_000_001_000, Value::Float(f64::NAN)),
        reading(0, 1_700_000_002_000, Value::Float(1e-9)),
    ];
    let aside = encode.set_aside(&table, &readings);
    assert_eq!(
        std::str::from_utf8(&aside.body.unwrap()).unwrap(),
        "i -3 1700000000.007\nu{x=\"a\\\"b\\\\c\\n\"} 0.1 1700000000.007\nu{x=\"a\\\"b\\\\c\\n\"} 0.000000001 1700000002.000\n# EOF\n"
    );
    assert_eq!((aside.taken, aside.not_sendable), (4, 1));
}

proptest! {
    /// Any name, any tag, any value: a server is shown valid names alone, and what was meant.
    #[test]
    fn what_is_encoded_is_decoded(
        name in "\\PC{0,20}",
        tag in "\\PC{1,12}",
        of in "\\PC{0,12}",
        device in "[a-z]{0,3}",
        value in prop_oneof![any::<f64>().prop_map(Value::Float), any::<i64>().prop_map(Value::Integer)],
        at in 0..u64::try_from(i64::MAX).unwrap(),
    ) {
        let table = table(&[named(&name, 1, &[(&tag, &of)])]);
        let settings = settings("modbus_{name}", &[("device", &device), ("group", "{group}")]);
        let encoded = encoder(&settings).encode(&table, &[reading(0, at, value)], 1 << 20, Timestamp::default());
        prop_assert_eq!(encoded.taken, 1);
        prop_assert_eq!(encoded.not_sendable == 1, !value.as_f64().is_finite());
        let Some(body) = encoded.body else { return Ok(()) };
        let post = Post::decode(body).unwrap();
        let TimeSeries { labels, .. } = TimeSeries::decode(post.series[0].head.clone()).unwrap();
        let samples: Vec<_> = post.series[0].samples.iter().map(|sample| sample.sample).collect();
        prop_assert!(labels.is_sorted_by(|a, b| a.name < b.name));
        for Label { name, value } in &labels {
            prop_assert!(!value.is_empty());
            if name == NAME {
                prop_assert_eq!(&name::metric(value), value);
                prop_assert!(value.starts_with("modbus_"));
            } else {
                prop_assert_eq!(&name::label(name), name);
            }
        }
        let label = |wanted: &str| labels.iter().find(|label| label.name == wanted).map_or("", |label| &label.value);
        prop_assert_eq!(label("group"), "heat");
        prop_assert_eq!(label("device"), &device);
        let tag = name::label(&tag);
        if !["", "group", "device"].contains(&&*tag) {
            prop_assert_eq!(label(&tag), of);
        }
        // A message has no negative zero: it is left out as zero is.
        prop_assert_eq!((samples[0].value + 0.0).to_bits(), (value.as_f64() + 0.0).to_bits());
        prop_assert_eq!(samples[0].timestamp.unsigned_abs(), at);
    }
}
