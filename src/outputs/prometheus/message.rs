//! The messages of remote write 1.0, as far as they are needed. Source: Prometheus, "Remote-Write 1.0 specification".
//!
//! A message is one that another is appended to, and labels stand before samples. So the labels of a point are encoded once
//! for each point table, and whoever takes a post apart need not look into them.

use bytes::BufMut as _;
use prost::Message as _;

use crate::outputs::samples::post::{PostSample, Sample};

/// What stands before each `TimeSeries` in a `WriteRequest`: field 1, of which the length follows.
const SERIES: u8 = 0x0a;

/// `TimeSeries`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TimeSeries {
    /// Sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Sorted by time.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
}

/// `Label`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Label {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Appends a `TimeSeries` to a `WriteRequest`.
pub fn push_series<'a>(request: &mut Vec<u8>, labels: &[u8], samples: impl IntoIterator<Item = &'a PostSample>) {
    let samples = samples.into_iter().map(|sample| sample.sample).collect();
    let samples = TimeSeries { labels: Vec::new(), samples };
    request.push(SERIES);
    // A vector takes any length.
    let _ = prost::encode_length_delimiter(labels.len() + samples.encoded_len(), request);
    request.put_slice(labels);
    let _ = samples.encode(request);
}
