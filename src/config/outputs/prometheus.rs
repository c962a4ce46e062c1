//! `outputs`, type `prometheus`: readings as samples of remote write.

use super::influxdb::{template, templates};
use super::network::{self, HTTP};
use crate::config::yaml::cursor::{Cursor, Entry, Report};
use crate::config::yaml::node::Node;
use crate::outputs::prometheus::PrometheusSettings;

/// What it takes besides what all outputs over a network take.
pub const KEYS: &[&str] = &["parameters", "metric", "counter_suffix", "labels"];

/// The default of `metric`.
const METRIC: &str = "modbus_{name}";

/// The default of `counter_suffix`, as promtool wants it.
const COUNTER_SUFFIX: &str = "_total";

/// The labels of every series, unless `labels` says otherwise.
const LABELS: [(&str, &str); 3] = [("device", "{device}"), ("group", "{group}"), ("unit", "{unit}")];

/// Reads it. What is wrong is in the report.
pub fn read(item: &Cursor<'_>, entries: &[Entry<'_>], report: &mut Report) -> Option<PrometheusSettings> {
    let faults = report.faults.len();
    let network = network::read(item, entries, HTTP, report)?;
    let of = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    // No path is offered silently: each server has another one, and a wrong one would only show at the first post.
    if let (true, Some(value)) = (network.base.is_empty(), of("url")) {
        let message = "found a URL without a path; write that of the endpoint, such as /api/v1/write (Prometheus) or \
                       /api/v1/push (Mimir)";
        report.faults.push(value.diagnostic(message));
    }
    let parameters = of("parameters").map_or_else(Vec::new, |value| parameters(value, report));
    let metric = template(of("metric"), METRIC, report);
    let counter_suffix = of("counter_suffix").map_or(Some(COUNTER_SUFFIX.to_owned()), |value| suffix(value, report));
    let labels = templates(of("labels"), &LABELS, "labels, such as {site: plant-7}", no_label, report);
    if report.faults.len() > faults {
        return None;
    }
    Some(PrometheusSettings { network, parameters, metric: metric?, counter_suffix: counter_suffix?, labels })
}

/// What a label may be called, if that is none.
fn no_label(name: &str) -> Option<&'static str> {
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_label =
        // Labels that begin with __ are reserved for the server's own use.
        name.bytes().all(fit) && !name.starts_with("__") && !name.starts_with(|first: char| first.is_ascii_digit());
    (!is_label).then_some("the name of a label: letters, digits and _, no digit and no __ at its beginning")
}

fn parameters(value: &Cursor<'_>, report: &mut Report) -> Vec<(String, String)> {
    let entries = value.entries_of("names of parameters and their values", report);
    let parameters = entries.into_iter().filter_map(|entry| match &*entry.value.node {
        Node::Text(text) => Some((entry.key, text.clone())),
        Node::Integer(number) => Some((entry.key, number.to_string())),
        // It may be a secret.
        _ => {
            report.faults.push(entry.value.diagnostic("found no value of a parameter; allowed is a text"));
            None
        }
    });
    parameters.collect()
}

fn suffix(value: &Cursor<'_>, report: &mut Report) -> Option<String> {
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"_:".contains(&byte);
    match &*value.node {
        Node::Text(text) if text.bytes().all(fit) => Some(text.clone()),
        _ => {
            report.faults.push(value.unfit("letters, digits, _ and :, such as _total, or \"\" for no ending"));
            None
        }
    }
}

/// What is set, key by key, as it is written in the file.
#[must_use]
pub fn shown(settings: &PrometheusSettings) -> Vec<(&'static str, String)> {
    let PrometheusSettings { network, parameters, metric, counter_suffix, labels } = settings;
    let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
    let mut shown = network::shown(network);
    let names: Vec<_> = parameters.iter().map(|(name, _)| name.as_str()).collect();
    shown.extend((!names.is_empty()).then(|| ("parameters", format!("{} (values not shown)", names.join(", ")))));
    shown.extend([("metric", metric.to_string()), ("counter_suffix", counter_suffix.clone())]);
    shown.push(("labels", labels.join(", ")));
    shown
}
