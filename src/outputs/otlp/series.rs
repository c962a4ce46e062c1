//! What a point is to a receiver of OTLP: a metric with a name and a unit, and data points with attributes. What is set aside is a
//! request in OTLP's JSON, which people can read and a receiver takes.
//!
//! A name begins with a letter and has at most 255 bytes of letters and digits of any script, `_`, `.`, `-` and `/`; a run of others
//! becomes one `_`. Servers that want less of a name translate it. Upper and lower case are the same to some. Source: OpenTelemetry,
//! "Metrics API", *Instrument name syntax*, which has ASCII letters alone.

use prost::Message as _;
use serde_json::{Value, json};

use super::message::{DataPoint, Head, KeyValue, Metric, key_values};
use super::{Counters, Otlp, OtlpSettings, PROGRAM};
use crate::outputs::samples::encode::{Describe, Description};
use crate::outputs::samples::name;
use crate::outputs::samples::post::Sample;
use crate::reading::points::{Kind, Point};

/// About what a sample takes in a body beside its attributes.
const SAMPLE_BYTES: usize = 24;

/// The longest name of a metric.
const MAX_NAME_BYTES: usize = 255;

/// Units as people write them, and as UCUM does, where that is not the same.
const UCUM: [(&str, &str); 23] = [
    ("°C", "Cel"),
    ("°F", "[degF]"),
    ("°", "deg"),
    ("Ω", "Ohm"),
    ("Wh", "W.h"),
    ("kWh", "kW.h"),
    ("MWh", "MW.h"),
    ("GWh", "GW.h"),
    ("Ah", "A.h"),
    ("VA", "V.A"),
    ("kVA", "kV.A"),
    ("MVA", "MV.A"),
    ("VAh", "V.A.h"),
    ("kVAh", "kV.A.h"),
    ("l/h", "L/h"),
    ("l/min", "L/min"),
    ("l", "L"),
    ("m²", "m2"),
    ("m³", "m3"),
    ("m³/h", "m3/h"),
    ("m³/s", "m3/s"),
    ("W/m²", "W/m2"),
    ("rpm", "{rotation}/min"),
];

impl Describe for Otlp {
    fn series(&self, point: &Point<'_>) -> Option<Description> {
        let (name, attributes) = (metric(point, &self.settings)?, attributes(point, &self.settings));
        let unit = point.register.unit_of_measurement.as_deref().unwrap_or_default();
        let is_counter = matches!(point.register.kind, Kind::Counter | Kind::Counter64);
        let data_point = DataPoint { attributes: key_values(&attributes), ..DataPoint::default() };
        let data_point = data_point.encode_to_vec();
        let sample_bytes = SAMPLE_BYTES + data_point.len();
        let metric = Metric { name: name.clone(), unit: ucum(unit).to_owned(), ..Metric::default() };
        let head = Head {
            metric: metric.encode_to_vec().into(),
            attributes: data_point.into(),
            is_sum: is_counter && self.settings.counters == Counters::Sum,
        };
        Some(Description { head: head.encode_to_vec().into(), text: text(&name, &attributes), sample_bytes })
    }

    fn aside(&self, samples: Vec<(&Description, Sample)>) -> String {
        let metrics: Vec<Value> = samples.into_iter().filter_map(|(series, sample)| of_json(series, sample)).collect();
        let scope = json!({"scope": {"name": PROGRAM}, "metrics": metrics});
        let resource = json!({"attributes": attributes_of_json(&key_values(&self.resource))});
        format!("{}\n", json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [scope]}]}))
    }

    fn extension(&self) -> &'static str {
        "otlp.json"
    }
}

/// A metric of one data point.
fn of_json(series: &Description, Sample { value, timestamp }: Sample) -> Option<Value> {
    let Head { metric, attributes, is_sum } = Head::decode(series.head.clone()).ok()?;
    let (metric, data_point) = (Metric::decode(metric).ok()?, DataPoint::decode(attributes).ok()?);
    let point = json!({
        "attributes": attributes_of_json(&data_point.attributes),
        // As text: a number of JSON has 53 bits.
        "timeUnixNano": nanoseconds(timestamp).to_string(),
        "asDouble": value,
    });
    let mut json = json!({"name": metric.name, "unit": metric.unit});
    if is_sum {
        json["sum"] =
            json!({"dataPoints": [point], "aggregationTemporality": super::message::CUMULATIVE, "isMonotonic": true});
    } else {
        json["gauge"] = json!({"dataPoints": [point]});
    }
    Some(json)
}

fn attributes_of_json(attributes: &[KeyValue]) -> Value {
    let text = |KeyValue { value, .. }: &KeyValue| value.as_ref().and_then(|value| value.string_value.clone());
    attributes.iter().map(|one| json!({"key": one.key, "value": {"stringValue": text(one)}})).collect()
}

/// Nanoseconds since 1970. What is dated so late that they have no room is held back long before.
pub(super) fn nanoseconds(timestamp: i64) -> u64 {
    timestamp.unsigned_abs().saturating_mul(1_000_000)
}

/// The name of a point's metric; `None` when nothing fit is left of it.
fn metric(point: &Point<'_>, settings: &OtlpSettings) -> Option<String> {
    let name = settings.metric.fill(point, str::to_owned);
    let name = name::fit(&name, |character| character.is_alphanumeric() || "_.-/".contains(character));
    (name.len() <= MAX_NAME_BYTES && name.starts_with(char::is_alphabetic)).then_some(name)
}

fn attributes(point: &Point<'_>, settings: &OtlpSettings) -> Vec<(String, String)> {
    name::labels(&settings.attributes, point, str::to_owned)
}

fn ucum(unit: &str) -> &str {
    UCUM.iter().find(|(known, _)| *known == unit).map_or(unit, |(_, ucum)| ucum)
}

/// For people: `metric{attribute="value"}`.
fn text(name: &str, attributes: &[(String, String)]) -> String {
    let attributes: Vec<_> = attributes.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
    format!("{name}{{{}}}", attributes.join(","))
}

/// What no two points may have in common: metric, in lower case, and attributes. `None` when the metric has no name.
#[must_use]
pub fn name_of(point: &Point<'_>, settings: &OtlpSettings) -> Option<String> {
    let mut attributes = attributes(point, settings);
    attributes.sort();
    Some(text(&metric(point, settings)?.to_lowercase(), &attributes))
}

#[cfg(test)]
pub(super) mod tests;
