//! What a point is to a Prometheus: a metric with labels. What is set aside is text (OpenMetrics), of which
//! `promtool tsdb create-blocks-from openmetrics` makes blocks that a server takes however old they are.

use std::fmt::Write as _;

use prost::Message as _;

use super::PrometheusSettings;
use super::message::{Label, TimeSeries};
use crate::outputs::samples::encode::{Describe, Description};
use crate::outputs::samples::name;
use crate::outputs::samples::post::Sample;
use crate::reading::points::{Kind, Point};

/// About what a sample takes in a body.
const SAMPLE_BYTES: usize = 24;

/// The label that the name of the metric is.
const NAME: &str = "__name__";

impl Describe for PrometheusSettings {
    fn series(&self, point: &Point<'_>) -> Option<Description> {
        let labels = labels(point, self)?;
        let text = text(&labels);
        let head = TimeSeries { labels, samples: Vec::new() }.encode_to_vec().into();
        Some(Description { head, text, sample_bytes: SAMPLE_BYTES })
    }

    fn aside(&self, mut samples: Vec<(&Description, Sample)>) -> String {
        // The format wants the samples of a metric together.
        samples.sort_by_key(|(series, sample)| (metric_of(&series.text), &series.text, sample.timestamp));
        let mut text = String::new();
        for (series, Sample { value, timestamp }) in samples {
            // Without a loss: milliseconds are three digits, and a float is written so that it is read as the same one.
            let _ = writeln!(text, "{} {value} {}.{:03}", series.text, timestamp / 1_000, timestamp % 1_000);
        }
        text.push_str("# EOF\n");
        text
    }

    fn extension(&self) -> &'static str {
        "openmetrics"
    }
}

fn metric_of(series: &str) -> &str {
    series.split('{').next().unwrap_or(series)
}

/// The labels of a point, sorted, the name of its metric among them; `None` when that has no name.
fn labels(point: &Point<'_>, settings: &PrometheusSettings) -> Option<Vec<Label>> {
    let mut metric = name::metric(&settings.metric.fill(point, str::to_owned));
    if metric.is_empty() {
        return None;
    }
    let suffix = &settings.counter_suffix;
    if matches!(point.register.kind, Kind::Counter | Kind::Counter64) && !metric.ends_with(suffix) {
        metric = name::metric(&format!("{metric}{suffix}"));
    }
    let mut labels = name::labels(&settings.labels, point, name::label);
    labels.push((NAME.to_owned(), metric));
    labels.sort();
    Some(labels.into_iter().map(|(name, value)| Label { name, value }).collect())
}

/// As people and queries write it: `metric{label="value"}`.
fn text(labels: &[Label]) -> String {
    let metric = labels.iter().find(|label| label.name == NAME).map_or("", |label| &label.value);
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let rest = labels.iter().filter(|label| label.name != NAME);
    let rest: Vec<_> = rest.map(|Label { name, value }| format!("{name}=\"{}\"", escaped(value))).collect();
    if rest.is_empty() { metric.to_owned() } else { format!("{metric}{{{}}}", rest.join(",")) }
}

/// What no two points may have in common: metric and labels. `None` when the metric has no name.
#[must_use]
pub fn name_of(point: &Point<'_>, settings: &PrometheusSettings) -> Option<String> {
    labels(point, settings).map(|labels| text(&labels))
}

#[cfg(test)]
mod tests;
