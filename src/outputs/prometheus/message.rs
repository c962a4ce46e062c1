//! The messages of remote write 1.0, as far as they are needed, and what the two halves of the output give each other. Source:
//! Prometheus, "Remote-Write 1.0 specification".
//!
//! A message is one that another is appended to, and labels stand before samples. So the labels of a point are encoded once
//! for each point table, and whoever takes a post apart need not look into them.

use bytes::{BufMut as _, Bytes};
use prost::Message as _;

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

/// `Sample`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Sample {
    /// The value.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// A post, as its encoder gives it to who delivers it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Post {
    /// Each series once.
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<PostSeries>,
}

/// A series of a post.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PostSeries {
    /// A `TimeSeries` that has its labels and no samples.
    #[prost(bytes = "bytes", tag = "1")]
    pub labels: Bytes,
    /// In order of time.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<PostSample>,
}

/// A sample of a post.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct PostSample {
    /// As it goes to the server.
    #[prost(message, required, tag = "1")]
    pub sample: Sample,
    /// The place of its reading among those that the post took.
    #[prost(uint32, tag = "2")]
    pub place: u32,
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
