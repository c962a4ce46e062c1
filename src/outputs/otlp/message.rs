//! The messages of OTLP, as far as they are needed, and the head of a series. Source: OpenTelemetry, "OTLP Specification 1.11" and
//! `opentelemetry-proto` 1.11.
//!
//! A message is one that another is appended to, and a field that is a message looks like one that is bytes. So the metric and the
//! attributes of a point are encoded once for each point table, and only time and value for each sample.

use bytes::Bytes;

/// `ExportMetricsServiceRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportRequest {
    /// From whom metrics come; one is enough.
    #[prost(message, repeated, tag = "1")]
    pub resource_metrics: Vec<ResourceMetrics>,
}

/// `ResourceMetrics`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceMetrics {
    /// Who measures.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// One scope is enough.
    #[prost(message, repeated, tag = "2")]
    pub scope_metrics: Vec<ScopeMetrics>,
}

/// `Resource`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// Each once.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// `ScopeMetrics`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ScopeMetrics {
    /// Which part of a program measures.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    /// Each a [`Metric`].
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub metrics: Vec<Bytes>,
}

/// `InstrumentationScope`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Scope {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// `KeyValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// `AnyValue`, always a text.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AnyValue {
    /// The text.
    #[prost(string, optional, tag = "1")]
    pub string_value: Option<String>,
}

/// `Metric`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metric {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The unit of measurement, by UCUM where that is known.
    #[prost(string, tag = "3")]
    pub unit: String,
    /// What goes up and down.
    #[prost(message, optional, tag = "5")]
    pub gauge: Option<Points>,
    /// What only grows.
    #[prost(message, optional, tag = "7")]
    pub sum: Option<Points>,
}

/// `Gauge`, and `Sum`, which has the last two fields.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Points {
    /// Each a [`DataPoint`].
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub data_points: Vec<Bytes>,
    /// [`CUMULATIVE`].
    #[prost(int32, tag = "2")]
    pub aggregation_temporality: i32,
    /// Whether it only grows.
    #[prost(bool, tag = "3")]
    pub is_monotonic: bool,
}

/// Of `AggregationTemporality`: values count from one start.
pub const CUMULATIVE: i32 = 2;

/// `NumberDataPoint`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DataPoint {
    /// Nanoseconds since 1970.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// The value. A double for whole numbers too, so that another multiplier is no other type.
    #[prost(double, optional, tag = "4")]
    pub as_double: Option<f64>,
    /// Each once.
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
}

/// `ExportMetricsServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportResponse {
    /// There if not everything was taken, or the server has something to say.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

/// `ExportMetricsPartialSuccess`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PartialSuccess {
    /// How many data points were refused; the others were taken.
    #[prost(int64, tag = "1")]
    pub rejected_data_points: i64,
    /// Why, or a warning when none was.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// `google.rpc.Status`, which is what errors are told in.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Status {
    /// The text.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// What is known of a series before there are samples of it; of this program only.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Head {
    /// A [`Metric`] without points.
    #[prost(bytes = "bytes", tag = "1")]
    pub metric: Bytes,
    /// A [`DataPoint`] that has its attributes and nothing else.
    #[prost(bytes = "bytes", tag = "2")]
    pub attributes: Bytes,
    /// Whether it is a sum.
    #[prost(bool, tag = "3")]
    pub is_sum: bool,
}

/// Attributes, in the order in which they are given.
pub fn key_values<'a>(attributes: impl IntoIterator<Item = &'a (String, String)>) -> Vec<KeyValue> {
    let attributes = attributes
        .into_iter()
        .map(|(key, value)| KeyValue { key: key.clone(), value: Some(AnyValue { string_value: Some(value.clone()) }) });
    attributes.collect()
}
