//! `outputs`, type `otlp`: readings as metrics by OTLP over HTTP.

use super::influxdb::{template, templates};
use super::network::{self, HTTP};
use crate::config::value::flag;
use crate::config::yaml::cursor::{Cursor, Entry, Report};
use crate::config::yaml::node::Node;
use crate::outputs::otlp::request::PATH;
use crate::outputs::otlp::{Counters, OtlpSettings};

/// What it takes besides what all outputs over a network take.
pub const KEYS: &[&str] = &["metric", "attributes", "resource", "counters", "gzip"];

/// Where receivers speak gRPC, which this output does not.
const GRPC_PORT: u16 = 4317;

/// The default of `metric`.
const METRIC: &str = "modbus.{name}";

/// The attributes of every data point, unless `attributes` says otherwise.
const ATTRIBUTES: [(&str, &str); 3] = [("device", "{device}"), ("group", "{group}"), ("unit", "{unit}")];

/// Reads it. What is wrong is in the report.
pub fn read(item: &Cursor<'_>, entries: &[Entry<'_>], report: &mut Report) -> Option<OtlpSettings> {
    let faults = report.faults.len();
    let mut network = network::read(item, entries, HTTP, report)?;
    // Other programs are told the whole URL of the endpoint.
    if network.base.ends_with(PATH) {
        network.base.truncate(network.base.len() - PATH.len());
    }
    let of = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    if let (GRPC_PORT, Some(url)) = (network.server.port, of("url")) {
        let message = "found port 4317, where a receiver of OTLP speaks gRPC as a rule; over HTTP it is 4318";
        report.warnings.push(url.diagnostic(message));
    }
    let metric = template(of("metric"), METRIC, report);
    let attributes = templates(of("attributes"), &ATTRIBUTES, "attributes, such as {site: plant-7}", |_| None, report);
    let resource = of("resource").map_or_else(Vec::new, |value| resource(value, report));
    // `gauge` is for servers that take no cumulative sums.
    let counters = of("counters").map_or(Some(Counters::Sum), |value| counters(value, report));
    let mut gzip = true;
    if let Some(value) = of("gzip") {
        flag(&mut gzip, value, report);
    }
    if report.faults.len() > faults {
        return None;
    }
    Some(OtlpSettings { network, metric: metric?, attributes, resource, counters: counters?, gzip })
}

fn resource(value: &Cursor<'_>, report: &mut Report) -> Vec<(String, String)> {
    let entries = value.entries_of("attributes, such as {service.name: plant-7}", report);
    let attributes = entries.into_iter().filter_map(|entry| match (entry.value.written(), &*entry.value.node) {
        (Some(text), _) => Some((entry.key, text.to_owned())),
        (None, Node::Integer(number)) => Some((entry.key, number.to_string())),
        _ => {
            report.faults.push(entry.value.unfit("a text"));
            None
        }
    });
    attributes.collect()
}

fn counters(value: &Cursor<'_>, report: &mut Report) -> Option<Counters> {
    match &*value.node {
        Node::Text(text) if text == "sum" => Some(Counters::Sum),
        Node::Text(text) if text == "gauge" => Some(Counters::Gauge),
        _ => {
            report.faults.push(value.unfit("sum or gauge"));
            None
        }
    }
}

/// What is set, key by key, as it is written in the file.
#[must_use]
pub fn shown(settings: &OtlpSettings) -> Vec<(&'static str, String)> {
    let OtlpSettings { network, metric, attributes, resource, counters, gzip } = settings;
    let attributes: Vec<_> = attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let resource: Vec<_> = resource.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let counters = match counters {
        Counters::Sum => "sum",
        Counters::Gauge => "gauge",
    };
    let mut shown = network::shown(network);
    shown.extend([("metric", metric.to_string()), ("attributes", attributes.join(", "))]);
    shown.extend((!resource.is_empty()).then(|| ("resource", resource.join(", "))));
    shown.extend([("counters", counters.to_owned()), ("gzip", gzip.to_string())]);
    shown
}
