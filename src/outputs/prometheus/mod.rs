//! Remote write of Prometheus, version 1.0, and of what takes it too: Mimir, Thanos, Cortex, VictoriaMetrics, GreptimeDB.
//!
//! | file | what it owns |
//! |---|---|
//! | this one | what such an output is configured with |
//! | [`message`] | the messages of the protocol |
//! | [`series`] | what a point is there, and text for what is set aside |
//! | [`remote_write`] | one request |
//!
//! All else it has in common with what keeps series of samples: [`samples`](super::samples).

pub mod message;
pub mod remote_write;
pub mod series;

use super::network::Network;
use super::template::Template;

/// What the configuration says of such an output.
#[derive(Debug, Clone, PartialEq)]
pub struct PrometheusSettings {
    /// The server; its URL is that of the write endpoint.
    pub network: Network,
    /// What stands behind the `?` of that URL, names and values.
    pub parameters: Vec<(String, String)>,
    /// The name of the metric that a point is.
    pub metric: Template,
    /// What a counter's name ends with; empty where it is to have no such ending.
    pub counter_suffix: String,
    /// The labels of its series, beside its tags; empty ones are left out.
    pub labels: Vec<(String, Template)>,
}
