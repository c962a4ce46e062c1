//! Readings → the lines of a post: `{"device":"boiler","metric":"flow","time":"…","value":21.5,"unit_of_measurement":"°C","interval_ms":10000}`.
//!
//! A value says its datatype by how it is written: `true`, `21`, `21.0`. Not sendable: a value that is not finite, a metric without a
//! name, a date after the year 9999.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde::Deserialize;

use super::SparkplugSettings;
use super::payload::{self, Datatype};
use crate::outputs::mqtt::message::quoted;
use crate::outputs::recent::Recent;
use crate::outputs::{Encode, Encoded};
use crate::reading::points::{Point, PointTable, Register};
use crate::reading::{Reading, Timestamp, Value};

/// Makes lines.
#[derive(Debug)]
pub struct SparkplugEncode {
    settings: SparkplugSettings,
    /// Of each point; `None` where its metric has no name.
    tables: Recent<Vec<Option<Known>>>,
}

/// What is written of a point in each line.
#[derive(Debug)]
struct Known {
    /// Before the time.
    before: String,
    /// After the value.
    after: String,
    is_bit: bool,
}

/// A line, read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// As it stands in its post.
    pub bytes: Bytes,
    /// The device.
    pub device: String,
    /// The metric.
    pub metric: String,
    /// When it was read.
    pub at: Timestamp,
    /// Its value.
    pub value: payload::Value,
    /// Of the value.
    pub datatype: Datatype,
    /// In what it is measured.
    pub unit_of_measurement: Option<String>,
    /// Milliseconds between two polls.
    pub interval_ms: u64,
}

#[derive(Deserialize)]
struct Text {
    device: String,
    metric: String,
    time: String,
    value: Written,
    unit_of_measurement: Option<String>,
    interval_ms: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Boolean(bool),
    Integer(i64),
    Float(f64),
}

impl SparkplugEncode {
    /// By these settings.
    #[must_use]
    pub fn new(settings: SparkplugSettings) -> Self {
        Self { settings, tables: Recent::default() }
    }
}

impl Encode for SparkplugEncode {
    fn encode(&mut self, table: &Arc<PointTable>, readings: &[Reading], room: usize, _: Timestamp) -> Encoded {
        let settings = &self.settings;
        let known = self.tables.of(table, || table.iter().map(|point| Known::new(&point, settings)).collect());
        let (mut body, mut taken, mut sent) = (String::new(), 0, 0);
        for &Reading { point, at, value } in readings {
            taken += 1;
            let known = known.get(point.index()).and_then(Option::as_ref).filter(|_| at < Timestamp::NO_DATE);
            let Some(Known { before, after, is_bit }) = known else { continue };
            let Some(value) = written(value, *is_bit) else { continue };
            sent += 1;
            let _ = writeln!(body, "{before}{}\",\"value\":{value}{after}", at.rfc3339());
            if body.len() + body.len() / sent > room {
                break;
            }
        }
        Encoded { body: (sent > 0).then(|| body.into()), taken, not_sendable: taken - sent, stamp: None }
    }

    fn extension(&self) -> &'static str {
        "jsonl"
    }
}

impl Known {
    fn new(point: &Point<'_>, settings: &SparkplugSettings) -> Option<Self> {
        let (device, metric) = (quoted(&settings.device_id(point)), quoted(&settings.metric(point)?));
        let unit = point.register.unit_of_measurement.as_deref();
        let unit = unit.map_or_else(String::new, |unit| format!(",\"unit_of_measurement\":{}", quoted(unit)));
        Some(Self {
            before: format!("{{\"device\":{device},\"metric\":{metric},\"time\":\""),
            after: format!("{unit},\"interval_ms\":{}}}", point.device.interval_ms),
            is_bit: is_bit(point.register),
        })
    }
}

/// Whether a register holds true or false.
#[must_use]
pub fn is_bit(register: &Register) -> bool {
    ["coil", "discrete_input"].contains(&&*register.table)
}

/// A value as JSON; `None` when it is no number.
fn written(value: Value, is_bit: bool) -> Option<String> {
    Some(match value {
        // Whatever kind or multiplier it has: a metric that was once written as 1 would get another datatype and be
        // born again.
        _ if is_bit => (value.as_f64() != 0.0).to_string(),
        Value::Integer(value) => itoa::Buffer::new().format(value).to_owned(),
        Value::Float(value) if value.is_finite() => zmij::Buffer::new().format_finite(value).to_owned(),
        Value::Float(_) => return None,
    })
}

/// The lines of a post, in order. What is no such line is left out.
#[must_use]
pub fn parse(post: &Bytes) -> Vec<Line> {
    let lines = post.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let line = |line: &[u8]| {
        let Text { device, metric, time, value, unit_of_measurement, interval_ms } =
            serde_json::from_slice(line).ok()?;
        let at: SystemTime = humantime::parse_rfc3339(&time).ok()?;
        let (value, datatype) = match value {
            Written::Boolean(value) => (payload::Value::Boolean(value), Datatype::Boolean),
            Written::Integer(value) => (payload::Value::Long(value.cast_unsigned()), Datatype::Int64),
            Written::Float(value) => (payload::Value::Double(value), Datatype::Double),
        };
        let bytes = post.slice_ref(line);
        Some(Line { bytes, device, metric, at: at.into(), value, datatype, unit_of_measurement, interval_ms })
    };
    lines.filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::reading::PointId;
    use crate::reading::points::{Builder, Device, Kind};

    fn settings(device_id: &str, metric: &str) -> SparkplugSettings {
        SparkplugSettings {
            group_id: "plant".to_owned(),
            edge_node_id: None,
            device_id: device_id.parse().unwrap(),
            metric: metric.parse().unwrap(),
            primary_host_id: None,
        }
    }

    fn encoded(settings: SparkplugSettings, registers: &[Register], values: &[Value]) -> Encoded {
        let device = Device { name: Some("boi/ler".to_owned()), ..Device::new("192.0.2.20", 3, "heat", 1_000) };
        let mut builder = Builder::new("4c", "host", Duration::from_secs(300));
        for register in registers {
            builder.push(&device, register);
        }
        let at = Timestamp::from_millis(1_795_943_592_005);
        let readings: Vec<_> =
            (0..).zip(values).map(|(point, &value)| Reading { point: PointId(point), at, value }).collect();
        SparkplugEncode::new(settings).encode(&Arc::new(builder.build()), &readings, 1 << 20, at)
    }

    fn register(name: &str, table: &str, unit: Option<&str>) -> Register {
        let unit_of_measurement = unit.map(str::to_owned);
        Register { name: Some(name.to_owned()), unit_of_measurement, ..Register::new("k", table, 1, Kind::Float) }
    }

    #[test]
    fn a_line_says_what_was_read_and_is_read_back() {
        let registers =
            [register("flow", "input_register", Some("°C")), register("pump", "coil", None), register("n", "x", None)];
        let values = [Value::Float(21.0), Value::Float(1.0), Value::Integer(i64::MIN)];
        let Encoded { body, taken, not_sendable, .. } =
            encoded(settings("{device}-{unit}", "{name}"), &registers, &values);
        assert_eq!((taken, not_sendable), (3, 0));
        let body = body.unwrap();
        assert_eq!(
            std::str::from_utf8(&body).unwrap().lines().next().unwrap(),
            "{\"device\":\"boi_ler-3\",\"metric\":\"flow\",\"time\":\"2026-11-29T09:13:12.005Z\",\"value\":21.0,\
             \"unit_of_measurement\":\"°C\",\"interval_ms\":1000}"
        );
        let lines = parse(&body);
        let values: Vec<_> = lines.iter().map(|line| (&*line.metric, line.value, line.datatype)).collect();
        assert_eq!(
            values,
            [
                ("flow", payload::Value::Double(21.0), Datatype::Double),
                ("pump", payload::Value::Boolean(true), Datatype::Boolean),
                ("n", payload::Value::Long(1 << 63), Datatype::Int64),
            ]
        );
        assert!(lines.iter().all(|line| line.at == Timestamp::from_millis(1_795_943_592_005)));
        assert!(body.starts_with(&lines[0].bytes));
    }

    #[test]
    fn what_has_no_name_and_what_is_no_number_cannot_be_sent() {
        let registers = [register("a", "x", None), register("b", "x", None)];
        let values = [Value::Float(f64::NAN), Value::Float(1.0)];
        let told = encoded(settings("{tags.x}", "{name}"), &registers, &values);
        assert_eq!((told.taken, told.not_sendable, parse(&told.body.unwrap())[0].device.as_str()), (2, 1, "_"));
        let told = encoded(settings("{device}", "{tags.x}"), &registers, &values);
        assert_eq!((told.body, told.taken, told.not_sendable), (None, 2, 2));
    }

    proptest! {
        #[test]
        fn any_name_and_value_are_read_back(
            name in "(?s).{1,20}",
            unit in "(?s).{0,6}",
            float in any::<f64>().prop_filter("finite", |it| it.is_finite()),
            integer in any::<i64>(),
        ) {
            let registers = [register(&name, "x", Some(&unit)), register(&name, "x", Some(&unit))];
            let values = [Value::Float(float), Value::Integer(integer)];
            let lines = parse(&encoded(settings("{device}", "{name}"), &registers, &values).body.unwrap());
            prop_assert_eq!(lines.len(), 2);
            prop_assert_eq!(lines[0].value, payload::Value::Double(float));
            prop_assert_eq!(lines[1].value, payload::Value::Long(integer.cast_unsigned()));
            for line in &lines {
                prop_assert_eq!((&line.metric, line.unit_of_measurement.as_ref()), (&name, Some(&unit)));
            }
        }
    }
}
