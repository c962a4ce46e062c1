//! Requests, read back with the messages that OpenTelemetry publishes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue as Attribute, any_value};
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, NumberDataPoint, metric, number_data_point};
use proptest::prelude::*;

use super::*;
use crate::outputs::Encode as _;
use crate::outputs::fixtures::{network, reading};
use crate::outputs::samples::deliver::{Protocol as _, series_of};
use crate::outputs::samples::encode::SampleEncode;
use crate::outputs::samples::pace::Pace;
use crate::outputs::template::{Unfit, unfit};
use crate::reading::points::{Builder, Device, PointTable, Register};
use crate::reading::{Reading, Timestamp, Value as Number};

pub fn settings(metric: &str, attributes: &[(&str, &str)]) -> OtlpSettings {
    OtlpSettings {
        network: network("http://collector.example.net:4318", 4318),
        metric: metric.parse().unwrap(),
        attributes: attributes.iter().map(|(key, value)| ((*key).to_owned(), value.parse().unwrap())).collect(),
        resource: Vec::new(),
        counters: Counters::Sum,
        gzip: false,
    }
}

pub fn otlp(settings: &OtlpSettings) -> Otlp {
    Otlp::new(settings.clone(), "4c4c", "agent.example.net")
}

fn named(name: &str, unit_of_measurement: &str, kind: Kind, tags: &[(&str, &str)]) -> Register {
    Register {
        name: Some(name.to_owned()),
        unit_of_measurement: Some(unit_of_measurement.to_owned()).filter(|unit| !unit.is_empty()),
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..Register::new("input_register_30001", "input_register", 30_001, kind)
    }
}

fn table(registers: &[Register]) -> Arc<PointTable> {
    let mut builder = Builder::new("4c4c", "agent.example.net", Duration::from_secs(300));
    let device = Device { name: Some("boiler".to_owned()), ..Device::new("192.0.2.20", 3, "heat", 1_000) };
    for register in registers {
        builder.push(&device, register);
    }
    Arc::new(builder.build())
}

/// What a receiver reads of a post.
fn received(settings: &OtlpSettings, registers: &[Register], readings: &[Reading]) -> ExportMetricsServiceRequest {
    let mut encode = SampleEncode::new(otlp(settings), Pace::default());
    let post = encode.encode(&table(registers), readings, 1 << 20, Timestamp::default());
    let (_, body) = otlp(settings).request(&series_of(post.body.unwrap())).unwrap();
    ExportMetricsServiceRequest::decode(body).unwrap()
}

fn texts(attributes: &[Attribute]) -> BTreeMap<String, String> {
    let text = |attribute: &Attribute| match attribute.value.clone().unwrap().value.unwrap() {
        any_value::Value::StringValue(text) => (attribute.key.clone(), text),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(text).collect()
}

/// What a receiver has of it: name, unit, whether it is a sum, the device, when, what.
fn lines(request: &ExportMetricsServiceRequest) -> Vec<String> {
    let mut lines = Vec::new();
    for metric in &request.resource_metrics[0].scope_metrics[0].metrics {
        let (kind, points) = match metric.data.as_ref().unwrap() {
            metric::Data::Gauge(gauge) => ("gauge", &gauge.data_points),
            metric::Data::Sum(sum) => {
                assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Cumulative);
                assert!(sum.is_monotonic);
                ("sum", &sum.data_points)
            }
            other => panic!("{other:?}"),
        };
        for point in points {
            assert_eq!(point.start_time_unix_nano, 0, "nobody knows it");
            let attributes = texts(&point.attributes);
            let attributes: Vec<_> = attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let (at, value) = (point.time_unix_nano, double(point));
            lines.push(format!("{} [{}] {kind} {} {at} {value}", metric.name, metric.unit, attributes.join(",")));
        }
    }
    lines
}

fn double(point: &NumberDataPoint) -> f64 {
    match point.value {
        Some(number_data_point::Value::AsDouble(value)) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_receiver_reads_what_was_meant() {
    let registers = [
        named("Vorlauf (heiß)", "°C", Kind::Float, &[("hall", "3"), ("unit", "tag")]),
        named("energy", "kWh", Kind::Counter64, &[]),
        named("energy", "kWh", Kind::Counter64, &[("phase", "2")]),
        named("mode", "", Kind::Integer, &[]),
    ];
    let readings = [
        reading(0, 1_795_943_592_007, Number::Float(-0.5)),
        reading(1, 1_795_943_592_008, Number::Integer(7)),
        reading(2, 1_795_943_592_009, Number::Integer(8)),
        reading(3, 1_795_943_592_010, Number::Integer(0)),
    ];
    let settings = settings("modbus.{name}", &[("device", "{device}"), ("unit", "{unit}"), ("none", "{tags.none}")]);
    let request = received(&settings, &registers, &readings);
    assert_eq!(
        lines(&request),
        [
            "modbus.mode [] gauge device=boiler,unit=3 1795943592010000000 0",
            "modbus.Vorlauf_heiß_ [Cel] gauge device=boiler,hall=3,unit=3 1795943592007000000 -0.5",
            "modbus.energy [kW.h] sum device=boiler,unit=3 1795943592008000000 7",
            "modbus.energy [kW.h] sum device=boiler,phase=2,unit=3 1795943592009000000 8",
        ]
    );
    let resource = |settings: &OtlpSettings| {
        let request = received(settings, &registers, &readings);
        assert_eq!(request.resource_metrics.len(), 1);
        texts(&request.resource_metrics[0].resource.as_ref().unwrap().attributes)
    };
    let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let ours = [
        ("host.name", "agent.example.net"),
        ("service.instance.id", "4c4c"),
        ("service.name", "pattoo_agent_modbustcpd"),
    ];
    assert_eq!(resource(&settings), pairs(&ours));
    let told = [("service.name", "plant 7"), ("host.name", ""), ("site", "north")];
    let told = told.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let told = OtlpSettings { resource: told.into(), counters: Counters::Gauge, ..settings.clone() };
    assert_eq!(
        resource(&told),
        pairs(&[("service.instance.id", "4c4c"), ("service.name", "plant 7"), ("site", "north")])
    );
    assert!(lines(&received(&told, &registers, &readings)).iter().all(|line| line.contains("] gauge ")));
}

/// A receiver that tells names apart by their letters alone takes two points for one.
#[test]
fn points_that_a_receiver_could_not_tell_apart_are_found() {
    let clash =
        |registers: &[Register], metric: &str| unfit(&table(registers), |point| name_of(point, &settings(metric, &[])));
    let float = |name: &str, tags: &[(&str, &str)]| named(name, "", Kind::Float, tags);
    let said = clash(&[float("Flow", &[]), float("flow", &[])], "{name}");
    assert_eq!(said, Some(Unfit::Clash(0, 1, "flow{}".to_owned())));
    assert_eq!(clash(&[float("flow", &[]), float("flow", &[("a", "1")])], "{name}"), None);
    let (a, b) = (float("u", &[("a", "1"), ("b", "2")]), float("u", &[("b", "2"), ("a", "1")]));
    assert!(matches!(clash(&[a, b], "{name}"), Some(Unfit::Clash(..))));
    assert_eq!(clash(&[float("flow", &[])], "{tags.none}"), Some(Unfit::Nameless(0)));
    for nameless in ["1st", "_flow", ".flow", "°", "x".repeat(256).as_str()] {
        assert_eq!(clash(&[float(nameless, &[])], "{name}"), Some(Unfit::Nameless(0)), "{nameless}");
    }
}

#[test]
fn what_is_set_aside_is_a_request_in_json() {
    let registers = [named("u", "V", Kind::Float, &[("x", "\"a\"")]), named("energy", "kWh", Kind::Counter, &[])];
    let readings = [
        reading(0, 1_795_943_592_007, Number::Float(0.1)),
        reading(1, 1_795_943_592_008, Number::Integer(7)),
        reading(0, 1_795_943_593_007, Number::Float(f64::NAN)),
    ];
    let mut encode = SampleEncode::new(otlp(&settings("{name}", &[])), Pace::default());
    let aside = encode.set_aside(&table(&registers), &readings);
    assert_eq!((aside.taken, aside.not_sendable, encode.extension()), (3, 1, "otlp.json"));
    let found: Value = serde_json::from_slice(&aside.body.unwrap()).unwrap();
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let resource = [
        text("service.name", "pattoo_agent_modbustcpd"),
        text("service.instance.id", "4c4c"),
        text("host.name", "agent.example.net"),
    ];
    let gauge = json!({"dataPoints": [
        {"attributes": [text("x", "\"a\"")], "timeUnixNano": "1795943592007000000", "asDouble": 0.1}
    ]});
    let sum = json!({"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [
        {"attributes": [], "timeUnixNano": "1795943592008000000", "asDouble": 7.0}
    ]});
    let metrics =
        [json!({"name": "u", "unit": "V", "gauge": gauge}), json!({"name": "energy", "unit": "kW.h", "sum": sum})];
    assert_eq!(
        found,
        json!({"resourceMetrics": [{
            "resource": {"attributes": resource},
            "scopeMetrics": [{"scope": {"name": "pattoo_agent_modbustcpd"}, "metrics": metrics}]
        }]})
    );
}

proptest! {
    /// Any name, any tag, any value: a receiver is shown names that begin with a letter, and what was meant.
    #[test]
    fn what_is_encoded_is_received(
        name in "\\PC{0,20}",
        tag in "\\PC{1,12}",
        of in "\\PC{0,12}",
        unit in "\\PC{0,6}",
        counter in any::<bool>(),
        value in prop_oneof![any::<f64>().prop_filter("finite", |it| it.is_finite()).prop_map(Number::Float), any::<i64>().prop_map(Number::Integer)],
        at in 0..9_223_372_036_854_u64,
    ) {
        let kind = if counter { Kind::Counter } else { Kind::Float };
        let registers = [named(&name, &unit, kind, &[(&tag, &of)])];
        let settings = settings("modbus.{name}", &[("group", "{group}")]);
        let request = received(&settings, &registers, &[reading(0, at, value)]);
        let metric = &request.resource_metrics[0].scope_metrics[0].metrics[0];
        prop_assert!(metric.name.starts_with("modbus."));
        prop_assert!(metric.name.chars().all(|it| it.is_alphanumeric() || "_.-/".contains(it)));
        prop_assert_eq!(&*metric.unit, ucum(&unit));
        let points = match metric.data.as_ref().unwrap() {
            metric::Data::Sum(sum) => { prop_assert!(counter); &sum.data_points }
            metric::Data::Gauge(gauge) => { prop_assert!(!counter); &gauge.data_points }
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(points.len(), 1);
        prop_assert_eq!(points[0].time_unix_nano, at * 1_000_000);
        // The post between the two halves has no negative zero.
        prop_assert_eq!((double(&points[0]) + 0.0).to_bits(), (value.as_f64() + 0.0).to_bits());
        let attributes = texts(&points[0].attributes);
        prop_assert_eq!(&attributes["group"], "heat");
        if tag != "group" {
            prop_assert_eq!(attributes.get(&tag), Some(&of).filter(|of| !of.is_empty()));
        }
    }
}
