//! One write request, and what its answer means.
//!
//! Writing a line again is no harm: measurement, tags and time say which point it is. So a post in doubt goes again, and when
//! the server took a part of it ([`Verdict::RefusedPart`]) the search for the rest begins at once. 401, 403 and 404 are about
//! us: the login, the database. Source: InfluxData, "InfluxDB API", v1, v2 and v3.

use awc::http::header::{self, HeaderName, HeaderValue};
use awc::http::{Method, Uri};
use bytes::Bytes;

use super::{Api, InfluxSettings};
use crate::outputs::http::{Endpoint, HttpClient, Reply, Request, gzip, parameter, printable};
use crate::outputs::{Answer, Deliver, Failure, LocalFuture, Verdict};

/// In what the servers say of a body of which they did not take all. Version 1 and 2: the first two; version 3: the third; what
/// a field or a date is refused for: the others.
const PARTS: [&str; 6] = [
    "partial write",
    "unable to parse",
    "partial write of line protocol",
    "field type conflict",
    "beyond retention policy",
    "invalid field",
];

/// Writes posts.
pub struct InfluxDeliver {
    client: HttpClient,
    uri: Uri,
    gzip: bool,
}

/// Where posts are written, known to be well formed.
#[derive(Debug, Clone)]
pub struct Target {
    endpoint: Endpoint,
    uri: Uri,
    gzip: bool,
}

impl Target {
    /// By these settings; `None` when they make no URL.
    #[must_use]
    pub fn new(settings: &InfluxSettings) -> Option<Self> {
        let (scheme, path) = match &settings.api {
            Api::V1 { database, retention_policy } => {
                let rp = retention_policy.as_ref().map_or_else(String::new, |rp| format!("&rp={}", parameter(rp)));
                ("Token", format!("/write?db={}{rp}&precision=ms", parameter(database)))
            }
            Api::V2 { org, bucket } => {
                let org = org.as_ref().map_or_else(String::new, |org| format!("org={}&", parameter(org)));
                ("Token", format!("/api/v2/write?{org}bucket={}&precision=ms", parameter(bucket)))
            }
            Api::V3 { database } => {
                ("Bearer", format!("/api/v3/write_lp?db={}&precision=millisecond", parameter(database)))
            }
        };
        let endpoint = settings.network.endpoint(scheme);
        let uri = endpoint.uri(&path)?;
        Some(Self { endpoint, uri, gzip: settings.gzip })
    }
}

impl InfluxDeliver {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(Target { endpoint, uri, gzip }: Target) -> Self {
        Self { client: HttpClient::new(endpoint), uri, gzip }
    }

    async fn write(&mut self, body: Bytes) -> Answer {
        const PLAIN: (HeaderName, HeaderValue) =
            (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        const GZIP: (HeaderName, HeaderValue) = (header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let compressed = self.gzip.then(|| gzip(&body)).flatten();
        let headers = [PLAIN, GZIP];
        let (headers, body) = match compressed {
            Some(body) => (&headers[..], body),
            None => (&headers[..1], body),
        };
        match self.client.exchange(Request { method: Method::POST, uri: &self.uri, headers, body }).await {
            Ok(reply) => Answer { result: judge(self.client.server(), &reply), server_time: None },
            Err(error) => Answer { result: Err(error.into()), server_time: None },
        }
    }
}

/// What follows from an answer of `server`.
///
/// # Errors
/// When it does not mean that the server has all of it.
pub fn judge(server: &str, reply: &Reply) -> Result<(), Failure> {
    let is_empty = reply.said.trim_ascii().is_empty();
    if reply.is_whole_success() && is_empty {
        return Ok(());
    }
    let said = printable(&reply.said);
    let text = String::from_utf8_lossy(&reply.said).to_lowercase();
    let later = |late| Verdict::Later { after: reply.retry_after(), late };
    let (verdict, kind, advice) = match reply.status {
        // Who has taken a post has nothing to say. Version 1 says so by 204, and by 200 that it understood and could not do it.
        200..=299 if !is_empty => {
            (Verdict::RefusedUs, "not_ok", "but not as a write API does; is it one, or something in between? check url")
        }
        200..=299 => (later(false), "transport", "the answer is cut"),
        // What stood in the post before or after a line that it cannot read may be stored or not.
        400 | 422 if PARTS.iter().any(|part| text.contains(part)) => {
            (Verdict::RefusedPart, "refused", "it takes a part of the post; which part it refuses is searched for")
        }
        401 | 403 => {
            (Verdict::RefusedUs, "login", "check username and password_file, or token_file, and what they may write")
        }
        404 => (Verdict::RefusedUs, "not_found", "check url, and database, or org and bucket"),
        300..=399 | 405 | 407 | 410 => (Verdict::RefusedUs, "not_found", "this is no write API; check url"),
        408 => (later(true), "timeout", "it waited in vain"),
        413 => (Verdict::TooLarge, "too_large", "a smaller post follows"),
        400..=428 | 430..=499 => (Verdict::RefusedBody, "refused", "its log knows why"),
        _ => (later(false), "server", "it asks to be left alone for a while"),
    };
    Err(Failure::new(verdict, kind, format!("{server} answered {} ({advice}): \"{said}\"", reply.status)))
}

impl Deliver for InfluxDeliver {
    fn post(&mut self, body: Bytes) -> LocalFuture<'_, Answer> {
        Box::pin(self.write(body))
    }

    fn try_out(&mut self) -> LocalFuture<'_, Result<String, Failure>> {
        // An empty line: some take it, some say that there is nothing in it, and both look at login and database first.
        Box::pin(async {
            match self.write(Bytes::from_static(b"\n")).await.result {
                Err(failure) if !matches!(failure.verdict, Verdict::RefusedBody | Verdict::RefusedPart) => Err(failure),
                _ => Ok("answers".to_owned()),
            }
        })
    }
}

#[cfg(test)]
mod tests;
