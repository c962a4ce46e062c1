//! One request of remote write 1.0.

use awc::http::header::{self, HeaderName, HeaderValue};
use bytes::Bytes;

use super::PrometheusSettings;
use super::message::push_series;
use crate::outputs::http::{Headers, Reply, parameter};
use crate::outputs::samples::answer::{NotTaken, judge};
use crate::outputs::samples::deliver::{Protocol, Series, Target};
use crate::outputs::{Failure, Verdict};

/// What to look after when nobody takes a request.
const ENDPOINT: &str =
    "this is no endpoint of remote write; check url, and that Prometheus has --web.enable-remote-write-receiver";

/// Remote write 1.0.
#[derive(Debug, Clone, Copy)]
pub struct RemoteWrite;

impl RemoteWrite {
    /// Where posts are written by these settings; `None` when they make no URL.
    #[must_use]
    pub fn target(settings: &PrometheusSettings) -> Option<Target<Self>> {
        let endpoint = settings.network.endpoint("Bearer");
        let parameters =
            settings.parameters.iter().map(|(name, value)| format!("{}={}", parameter(name), parameter(value)));
        let parameters: Vec<_> = parameters.collect();
        let mark = if parameters.is_empty() { "" } else { "?" };
        let uri = endpoint.uri(&format!("{mark}{}", parameters.join("&")))?;
        Some(Target { endpoint, uri, protocol: Self })
    }
}

impl Protocol for RemoteWrite {
    const TAKES_NOTHING: bool = false;

    fn request(&self, series: &[Series]) -> Result<(Headers, Bytes), Failure> {
        const HEADERS: [(HeaderName, HeaderValue); 3] = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf")),
            (header::CONTENT_ENCODING, HeaderValue::from_static("snappy")),
            // The number that the specification 1.0 wants here.
            (HeaderName::from_static("x-prometheus-remote-write-version"), HeaderValue::from_static("0.1.0")),
        ];
        let mut body = Vec::new();
        for Series { head, samples, .. } in series {
            push_series(&mut body, head, samples);
        }
        // The specification wants the block format of Snappy and forbids the framed one.
        let compressed = snap::raw::Encoder::new().compress_vec(&body);
        // Only of a body of 4 GB.
        let compressed = compressed.map_err(|error| Failure::new(Verdict::TooLarge, "too_large", error.to_string()))?;
        Ok((HEADERS.into(), compressed.into()))
    }

    fn judge(&self, server: &str, reply: &Reply) -> Result<(), NotTaken> {
        judge(server, reply, &reply.said, ENDPOINT)
    }
}
