//! Readings → one post, with as many samples of each series as [`Pace`] allows: one, as a rule.
//!
//! A server keeps a series in order of time: it refuses what is older than the newest sample that it has, and ignores that one
//! itself when it comes again. So of a post with one sample of each series any part can go alone, in any order, and all of it
//! again: nothing of it is refused for having been taken before. A post ends where a series would have too many.
//!
//! What is set aside is text (OpenMetrics), of which `promtool tsdb create-blocks-from openmetrics` makes blocks that a server
//! takes however old they are. Not sendable: a value that is not finite, a point whose metric has no name.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::PrometheusSettings;
use super::message::{Label, Post, PostSample, PostSeries, Sample, TimeSeries};
use super::name;
use super::pace::Pace;
use crate::outputs::recent::Recent;
use crate::outputs::{Encode, Encoded};
use crate::reading::points::{Kind, Point, PointTable};
use crate::reading::{Reading, Timestamp};

/// About what a sample takes in a body.
const SAMPLE_BYTES: usize = 24;

/// The label that the name of the metric is.
const NAME: &str = "__name__";

/// Makes requests.
#[derive(Debug)]
pub struct PrometheusEncode {
    settings: PrometheusSettings,
    pace: Pace,
    tables: Recent<Table>,
}

/// What the points of a table are.
#[derive(Debug)]
struct Table {
    series: Vec<Series>,
    /// Of each point its place in `series`; `None` if its metric has no name.
    points: Vec<Option<usize>>,
    /// How many posts were made of it.
    posts: u64,
}

#[derive(Debug)]
struct Series {
    /// Its labels, as they stand in a request.
    encoded: Bytes,
    /// The same as text.
    text: String,
    /// The last post that has a sample of it, and its place there.
    post: (u64, usize),
}

impl PrometheusEncode {
    /// By these settings, at the pace that is found when posts are delivered.
    #[must_use]
    pub fn new(settings: PrometheusSettings, pace: Pace) -> Self {
        Self { settings, pace, tables: Recent::default() }
    }
}

impl Encode for PrometheusEncode {
    fn encode(&mut self, table: &Arc<PointTable>, readings: &[Reading], room: usize, _: Timestamp) -> Encoded {
        let most = self.pace.samples();
        let Table { series, points, posts } = self.tables.of(table, || Table::new(table, &self.settings));
        *posts += 1;
        let mut post = Post::default();
        let (mut taken, mut sent, mut bytes) = (0, 0, 0);
        for (place, reading) in (0..).zip(readings) {
            let of = points.get(reading.point.index()).copied().flatten().and_then(|of| series.get_mut(of));
            let (Some(of), Some(sample)) = (of, sample(*reading)) else {
                taken += 1;
                continue;
            };
            if of.post.0 != *posts {
                of.post = (*posts, post.series.len());
                bytes += of.encoded.len();
                post.series.push(PostSeries { labels: of.encoded.clone(), samples: Vec::new() });
            }
            let Some(PostSeries { samples, .. }) = post.series.get_mut(of.post.1) else { break };
            let is_next = samples.last().is_none_or(|last| last.sample.timestamp < sample.timestamp);
            if samples.len() >= most || !is_next {
                break;
            }
            samples.push(PostSample { sample, place });
            taken += 1;
            sent += 1;
            bytes += SAMPLE_BYTES;
            if bytes + bytes / sent > room {
                break;
            }
        }
        let body = (sent > 0).then(|| post.encode_to_vec().into());
        Encoded { body, taken, not_sendable: taken - sent, stamp: None }
    }

    fn set_aside(&mut self, table: &Arc<PointTable>, readings: &[Reading]) -> Encoded {
        let Table { series, points, .. } = self.tables.of(table, || Table::new(table, &self.settings));
        // The format wants the samples of a metric together.
        let mut lines: Vec<(&str, i64, f64)> = Vec::new();
        for reading in readings {
            let of = points.get(reading.point.index()).copied().flatten().and_then(|place| series.get(place));
            if let (Some(of), Some(Sample { value, timestamp })) = (of, sample(*reading)) {
                lines.push((&of.text, timestamp, value));
            }
        }
        lines.sort_by(|(a, a_at, _), (b, b_at, _)| (metric_of(a), a, a_at).cmp(&(metric_of(b), b, b_at)));
        let mut text = String::new();
        for (series, at, value) in &lines {
            // Without a loss: milliseconds are three digits, and a float is written so that it is read as the same one.
            let _ = writeln!(text, "{series} {value} {}.{:03}", at / 1_000, at % 1_000);
        }
        text.push_str("# EOF\n");
        let not_sendable = readings.len() - lines.len();
        let body = (!lines.is_empty()).then(|| Bytes::from(text));
        Encoded { body, taken: readings.len(), not_sendable, stamp: None }
    }

    fn extension(&self) -> &'static str {
        "openmetrics"
    }
}

/// A reading that a server can take.
fn sample(Reading { at, value, .. }: Reading) -> Option<Sample> {
    let value = value.as_f64();
    // Not a number is how servers mark the end of a series, among others.
    let timestamp = i64::try_from(at.as_millis()).ok()?;
    value.is_finite().then_some(Sample { value, timestamp })
}

fn metric_of(series: &str) -> &str {
    series.split('{').next().unwrap_or(series)
}

impl Table {
    fn new(table: &PointTable, settings: &PrometheusSettings) -> Self {
        let mut known: HashMap<Vec<Label>, usize> = HashMap::new();
        let mut series = Vec::new();
        let points = table.iter().map(|point| {
            let labels = labels(&point, settings)?;
            let place = *known.entry(labels).or_insert_with_key(|labels| {
                series.push(Series::new(labels));
                series.len() - 1
            });
            Some(place)
        });
        let points = points.collect();
        Self { points, series, posts: 0 }
    }
}

impl Series {
    fn new(labels: &[Label]) -> Self {
        let text = text(labels);
        let encoded = TimeSeries { labels: labels.to_vec(), samples: Vec::new() }.encode_to_vec();
        Self { encoded: encoded.into(), text, post: (0, 0) }
    }
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
    // What the output is told comes first in rank. A server takes no label twice.
    let told = settings.labels.iter().map(|(label, value)| (label.as_str(), value.fill(point, str::to_owned)));
    let tags = point.tags().map(|(tag, value)| (tag, value.to_owned()));
    let mut labels: Vec<Label> = Vec::new();
    for (label, value) in told.chain(tags) {
        let name = name::label(label);
        if !name.is_empty() && !labels.iter().any(|known| known.name == name) {
            labels.push(Label { name, value });
        }
    }
    labels.retain(|label| !label.value.is_empty());
    labels.push(Label { name: NAME.to_owned(), value: metric });
    labels.sort_by(|a, b| a.name.cmp(&b.name));
    Some(labels)
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
