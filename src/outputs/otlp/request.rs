//! One request, and what its answer means.
//!
//! A server may take a part of a request and answer 200 all the same: it says then how many data points it has refused, and in a
//! sentence why, but not which. Where the sentence is that of a Prometheus, what becomes of each sample is found out as there; else
//! the search for the others begins at once ([`Verdict::RefusedPart`]). The specification does not want what was refused to be
//! repeated; but what is repeated here is what may have been taken, so that only what was refused is set aside. It wants nothing
//! repeated after a 500 either; but a server that breaks has not said that it will never take a reading, so it is waited for.
//! Source: OpenTelemetry, "OTLP Specification", *OTLP/HTTP Response*.

use std::collections::BTreeMap;

use awc::http::header::{self, HeaderValue};
use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;

use super::message::{
    CUMULATIVE, DataPoint, ExportRequest, ExportResponse, Head, Metric, PartialSuccess, Points, Resource,
    ResourceMetrics, Scope, ScopeMetrics, Status, key_values,
};
use super::series::nanoseconds;
use super::{Otlp, PROGRAM};
use crate::outputs::http::{Headers, Reply, gzip, printable};
use crate::outputs::samples::answer::{NotTaken, judge, refused};
use crate::outputs::samples::deliver::{Protocol, Series, Target};
use crate::outputs::samples::post::Sample;
use crate::outputs::{Failure, Verdict};
use crate::text::count;

/// Where metrics are taken, below the URL.
pub const PATH: &str = "/v1/metrics";

/// What to look after when nobody takes a request.
const ENDPOINT: &str = "nobody takes metrics by OTLP there; check url, which /v1/metrics is put behind: a Prometheus has \
                        /api/v1/otlp, with --web.enable-otlp-receiver";

impl Otlp {
    /// Where posts are written; `None` when there is no such URL.
    #[must_use]
    pub fn target(self) -> Option<Target<Self>> {
        let endpoint = self.settings.network.endpoint("Bearer");
        let uri = endpoint.uri(PATH)?;
        Some(Target { endpoint, uri, protocol: self })
    }
}

impl Protocol for Otlp {
    const TAKES_NOTHING: bool = true;

    fn request(&self, series: &[Series]) -> Result<(Headers, Bytes), Failure> {
        let mut metrics: BTreeMap<(bool, Bytes), Vec<Bytes>> = BTreeMap::new();
        for Series { head, samples, .. } in series {
            // It is ours, so it is one.
            let Head { metric, attributes, is_sum } = Head::decode(head.clone()).unwrap_or_default();
            let points = metrics.entry((is_sum, metric)).or_default();
            points.extend(samples.iter().map(|sample| data_point(&attributes, sample.sample)));
        }
        let metrics = metrics.into_iter().map(|((is_sum, metric), data_points)| {
            let points = Points { data_points, ..Points::default() };
            let points = if is_sum {
                let sum = Points { aggregation_temporality: CUMULATIVE, is_monotonic: true, ..points };
                Metric { sum: Some(sum), ..Metric::default() }
            } else {
                Metric { gauge: Some(points), ..Metric::default() }
            };
            appended(&metric, &points)
        });
        let scope = ScopeMetrics { scope: Some(Scope { name: PROGRAM.to_owned() }), metrics: metrics.collect() };
        let resource = Some(Resource { attributes: key_values(&self.resource) });
        let resource_metrics = vec![ResourceMetrics { resource, scope_metrics: vec![scope] }];
        let body = ExportRequest { resource_metrics }.encode_to_vec();
        let mut headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))];
        let compressed = self.settings.gzip.then(|| gzip(&body)).flatten();
        headers.extend(compressed.is_some().then_some((header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))));
        Ok((headers, compressed.unwrap_or_else(|| body.into())))
    }

    fn judge(&self, server: &str, reply: &Reply) -> Result<(), NotTaken> {
        let otherwise = |verdict, kind, text| Err(NotTaken::Otherwise(Failure::new(verdict, kind, text)));
        if !reply.is_whole_success() || reply.is_page() {
            let said = Status::decode(&*reply.said).ok().map(|status| status.message).filter(|text| !text.is_empty());
            return judge(server, reply, said.as_ref().map_or(&reply.said, |said| said.as_bytes()), ENDPOINT);
        }
        let Some(PartialSuccess { rejected_data_points, error_message }) = partial_success(&reply.said) else {
            let said = printable(&reply.said);
            let text = format!("{server} answered {}, but not as OTLP does; check url: \"{said}\"", reply.status);
            return otherwise(Verdict::RefusedUs, "not_ok", text);
        };
        let said = error_message.as_bytes();
        if rejected_data_points == 0 {
            if !said.is_empty() {
                tracing::debug!("{server} has taken a post and says: \"{}\"", printable(said));
            }
            return Ok(());
        }
        if let Some(refused) = refused(server, reply.status, said) {
            return Err(refused);
        }
        let rejected = usize::try_from(rejected_data_points).unwrap_or_default();
        let text = format!(
            "{server} took a part of a post and refused {} (which is searched for): \"{}\"",
            count(rejected, "data point"),
            printable(said)
        );
        otherwise(Verdict::RefusedPart, "refused", text)
    }
}

/// A data point with these attributes.
fn data_point(attributes: &[u8], Sample { value, timestamp }: Sample) -> Bytes {
    let time_unix_nano = nanoseconds(timestamp);
    appended(attributes, &DataPoint { time_unix_nano, as_double: Some(value), ..DataPoint::default() })
}

/// A message that begins with an encoded one.
fn appended(begin: &[u8], rest: &impl prost::Message) -> Bytes {
    let mut message = Vec::with_capacity(begin.len() + rest.encoded_len());
    message.extend_from_slice(begin);
    // A vector takes any length.
    let _ = rest.encode(&mut message);
    message.into()
}

/// What an answer says of what was not taken; `None` when it is none of OTLP.
fn partial_success(said: &[u8]) -> Option<PartialSuccess> {
    // Some answer in JSON, whatever they were asked in. No message begins with a brace.
    if !said.trim_ascii_start().starts_with(b"{") {
        return Some(ExportResponse::decode(said).ok()?.partial_success.unwrap_or_default());
    }
    let answer: Value = serde_json::from_slice(said).ok()?;
    // What stands before a receiver, or is none, may say with a 200 that it has failed.
    if answer.get("error").is_some_and(|error| !error.is_null()) {
        return None;
    }
    let partial = &answer["partialSuccess"];
    // 64 bits are a text in the JSON of protobuf, as a rule.
    let rejected = &partial["rejectedDataPoints"];
    let rejected_data_points = match rejected {
        Value::String(text) => text.parse().ok()?,
        Value::Null => 0,
        number => number.as_i64()?,
    };
    let error_message = partial["errorMessage"].as_str().unwrap_or_default().to_owned();
    Some(PartialSuccess { rejected_data_points, error_message })
}

#[cfg(test)]
mod tests;
