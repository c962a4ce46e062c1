//! The messages of remote write 1.0, as far as they are needed. Source: Prometheus, "Remote-Write 1.0 specification".
//!
//! A series is kept as bytes: the labels of a point are encoded once for each point table, and whoever takes a request apart
//! looks only at what tells series from each other.

use bytes::Bytes;

/// `WriteRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WriteRequest {
    /// `TimeSeries` each.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub timeseries: Vec<Bytes>,
}

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

/// `TimeSeries`, its labels as bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RawSeries {
    /// `Label` each.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub labels: Vec<Bytes>,
    /// Sorted by time.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
}
