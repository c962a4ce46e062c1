//! What the two halves of such an output give each other: a post, taken apart by series. The pipeline carries it as bytes.

use bytes::Bytes;

/// A sample, as remote write has it.
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
    /// What [`Describe`](super::encode::Describe) has made of it.
    #[prost(bytes = "bytes", tag = "1")]
    pub head: Bytes,
    /// In order of time.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<PostSample>,
}

/// A sample of a post.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct PostSample {
    /// The sample.
    #[prost(message, required, tag = "1")]
    pub sample: Sample,
    /// The place of its reading among those that the post took.
    #[prost(uint32, tag = "2")]
    pub place: u32,
}
