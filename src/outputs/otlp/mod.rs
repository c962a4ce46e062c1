//! Metrics by OTLP over HTTP, in protobuf: an OpenTelemetry collector, Prometheus, Mimir, VictoriaMetrics and many others.
//!
//! | file | what it owns |
//! |---|---|
//! | this one | what such an output is configured with, and from whom its metrics come |
//! | [`message`] | the messages of the protocol |
//! | [`series`] | what a point is there, and text for what is set aside |
//! | [`request`] | one request, and what its answer means |
//!
//! What is behind a receiver may keep series in order of time and refuse in the words of a Prometheus; one that does not is served
//! as well by the same care. So all else is that of [`samples`](super::samples).

pub mod message;
pub mod request;
pub mod series;

use super::network::Network;
use super::template::Template;

/// By which name the agent says that it is the service, and the scope, that metrics come from.
const PROGRAM: &str = "pattoo_agent_modbustcpd";

/// What the configuration says of such an output.
#[derive(Debug, Clone, PartialEq)]
pub struct OtlpSettings {
    /// The server; `/v1/metrics` is put behind its URL.
    pub network: Network,
    /// The name of the metric that a point is.
    pub metric: Template,
    /// The attributes of its data points, beside its tags; empty ones are left out.
    pub attributes: Vec<(String, Template)>,
    /// Attributes of the resource, in place of ours or beside them; empty ones are left out.
    pub resource: Vec<(String, String)>,
    /// What a counter is.
    pub counters: Counters,
    /// Whether posts are compressed.
    pub gzip: bool,
}

/// What a counter is to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counters {
    /// A cumulative, monotonic sum without a start: when the device began to count nobody knows.
    Sum,
    /// A gauge, for servers that take no such sum.
    Gauge,
}

/// What is written, and from whom it comes.
#[derive(Debug, Clone)]
pub struct Otlp {
    settings: OtlpSettings,
    /// The attributes of the resource.
    resource: Vec<(String, String)>,
}

impl Otlp {
    /// From the agent of this id on this host. Its version is left out: each update would begin all series anew.
    #[must_use]
    pub fn new(settings: OtlpSettings, agent_id: &str, hostname: &str) -> Self {
        let ours = [("service.name", PROGRAM), ("service.instance.id", agent_id), ("host.name", hostname)];
        let mut resource: Vec<_> = ours.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        resource.retain(|(key, _)| settings.resource.iter().all(|(told, _)| told != key));
        resource.extend(settings.resource.iter().filter(|(_, value)| !value.is_empty()).cloned());
        Self { settings, resource }
    }
}
