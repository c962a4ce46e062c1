//! One post, and what its answers mean.
//!
//! Such a server keeps each series in order of time, and does not say which series of a post it refuses, nor always the whole
//! post: Prometheus takes all of it or nothing (`storage/remote/write_handler.go` rolls back at the first sample that it does
//! not take), Mimir and Thanos take what they can. A sample is
//!
//! | refused as | when the server has of its series |
//! |---|---|
//! | nothing: it is taken, or there already | nothing newer, or this very sample as the newest one |
//! | *out of order* | something newer |
//! | *duplicate* | another value of the same time |
//! | *out of bounds*, *too old* | anything: it is older than what the server still takes of any series |
//!
//! # Rules
//!
//! - A post holds one sample of each series at most (`encode`), so what is repeated because its answer was in doubt is refused
//!   by nobody, and any part of it may go alone.
//! - A post that is refused in such words goes again in parts, until it is known of each sample by itself. What the server
//!   took on the way it keeps.
//! - *Out of order* means that the server has it, where it was posted before: in this life, which knows what was taken, or in
//!   an earlier one whose cursor was lost with the power ([`Deliver::post_again`]). Of what was read in this life, and of a
//!   series of which something was taken in it, it means that somebody else writes the same series: that reading is refused.
//! - What is refused in such words will be refused for ever ([`Verdict::RefusedForGood`]): it is set aside without asking
//!   again, so a backlog that is older than the server's window does not stop what comes behind it. Too old is also every
//!   reading that is not newer. A time in the future is another matter: it is waited for.
//! - Other words are about the post ([`Verdict::RefusedPart`]: Mimir's limits, names), about us, or about the server.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use awc::http::header::{self, HeaderName, HeaderValue};
use awc::http::{Method, Uri};
use bytes::Bytes;
use prost::Message as _;

use super::PrometheusSettings;
use super::message::{RawSeries, WriteRequest};
use crate::outputs::http::{Endpoint, HttpClient, Reply, Request, printable};
use crate::outputs::{Answer, Deliver, Failure, LocalFuture, Verdict};
use crate::reading::Timestamp;
use crate::text::count;

/// Where posts are written, known to be well formed.
#[derive(Debug, Clone)]
pub struct Target {
    endpoint: Endpoint,
    uri: Uri,
}

impl Target {
    /// By these settings; `None` when they make no URL.
    #[must_use]
    pub fn new(settings: &PrometheusSettings) -> Option<Self> {
        let endpoint = settings.network.endpoint("Bearer");
        let uri = endpoint.uri("")?;
        Some(Self { endpoint, uri })
    }
}

/// Writes posts.
pub struct PrometheusDeliver {
    client: HttpClient,
    uri: Uri,
    known: HashMap<u64, Known>,
    /// So many readings of earlier lives were there already, and nobody was told of them yet.
    there: usize,
}

/// What is known of a series in this life.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The server has everything up to here.
    until: i64,
    /// It has taken something, and did not merely have it.
    taken: bool,
}

/// A series of a post, with its one sample.
#[derive(Debug, Clone)]
struct One {
    /// As it stands in a request.
    raw: Bytes,
    /// Tells its series from others.
    series: u64,
    at: i64,
}

/// In which words samples are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    OutOfOrder,
    Duplicate,
    TooOld,
}

/// Why a post was not taken.
#[derive(Debug)]
enum NotTaken {
    /// For samples in it.
    Samples(Refusal, String),
    Otherwise(Failure),
}

impl PrometheusDeliver {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(Target { endpoint, uri }: Target) -> Self {
        Self { client: HttpClient::new(endpoint), uri, known: HashMap::new(), there: 0 }
    }

    /// Posts; `again`: what an earlier life may have posted.
    async fn write(&mut self, body: Bytes, again: bool) -> Result<(), Failure> {
        if !again && self.there > 0 {
            let (server, there) = (self.client.server(), count(std::mem::take(&mut self.there), "reading"));
            tracing::info!(
                "{server} had {there} of before this start already, or newer ones of the same series: what an earlier run has \
                 posted, unless somebody else writes the same series"
            );
        }
        let ones = ones(&body);
        match self.send(body).await {
            Ok(()) => {
                self.taken(&ones);
                Ok(())
            }
            Err(NotTaken::Otherwise(failure)) => Err(failure),
            Err(NotTaken::Samples(refusal, text)) => self.write_in_parts(ones, refusal, text, again).await,
        }
    }

    /// Finds out what became of each sample of a post that was refused.
    async fn write_in_parts(
        &mut self,
        ones: Vec<One>,
        refusal: Refusal,
        mut text: String,
        again: bool,
    ) -> Result<(), Failure> {
        let all = ones.len();
        let mut left: Vec<One> = ones.into_iter().filter(|one| !self.has(one)).collect();
        // Newest first: when a server finds that one too old, it is all of them.
        if refusal == Refusal::TooOld {
            left.sort_by_key(|one| std::cmp::Reverse(one.at));
        }
        let mut width = if refusal == Refusal::TooOld { 1 } else { left.len().div_ceil(2) };
        let (mut refused, mut until) = (0, Timestamp::default());
        while !left.is_empty() {
            let part = &left[..width.clamp(1, left.len())];
            match self.send(request(part)).await {
                Ok(()) => {
                    let part: Vec<One> = left.drain(..width.clamp(1, left.len())).collect();
                    self.taken(&part);
                    width = width.saturating_mul(2);
                }
                Err(NotTaken::Otherwise(failure)) => return Err(failure),
                Err(NotTaken::Samples(..)) if part.len() > 1 => width = part.len() / 2,
                Err(NotTaken::Samples(refusal, said)) => {
                    let one = left.remove(0);
                    match refusal {
                        Refusal::OutOfOrder if again && !self.has_taken(&one) => {
                            self.known.insert(one.series, Known { until: one.at, taken: false });
                            self.there += 1;
                        }
                        Refusal::TooOld => {
                            let before = left.len();
                            left.retain(|other| other.at > one.at);
                            refused += 1 + before - left.len();
                            until = until.max(Timestamp::from_millis(one.at.unsigned_abs()));
                            text = said;
                        }
                        Refusal::OutOfOrder | Refusal::Duplicate => {
                            refused += 1;
                            text = said;
                        }
                    }
                }
            }
        }
        let verdict = match refused {
            0 => return Ok(()),
            refused if refused == all => Verdict::RefusedForGood { until },
            _ => Verdict::RefusedPart,
        };
        Err(Failure { verdict, kind: "refused", text })
    }

    async fn send(&mut self, body: Bytes) -> Result<(), NotTaken> {
        const HEADERS: [(HeaderName, HeaderValue); 3] = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf")),
            (header::CONTENT_ENCODING, HeaderValue::from_static("snappy")),
            (HeaderName::from_static("x-prometheus-remote-write-version"), HeaderValue::from_static("0.1.0")),
        ];
        let compressed = snap::raw::Encoder::new().compress_vec(&body).map_err(|error| {
            // Only of a body of 4 GB.
            NotTaken::Otherwise(Failure { verdict: Verdict::TooLarge, kind: "too_large", text: error.to_string() })
        })?;
        let request = Request { method: Method::POST, uri: &self.uri, headers: &HEADERS, body: compressed.into() };
        match self.client.exchange(request).await {
            Ok(reply) => judge(self.client.server(), &reply),
            Err(error) => Err(NotTaken::Otherwise(error.into())),
        }
    }

    fn taken(&mut self, ones: &[One]) {
        for One { series, at, .. } in ones {
            let known = self.known.entry(*series).or_insert(Known { until: *at, taken: true });
            *known = Known { until: known.until.max(*at), taken: true };
        }
    }

    /// Whether the server has it, as this life knows.
    fn has(&self, one: &One) -> bool {
        self.known.get(&one.series).is_some_and(|known| one.at <= known.until)
    }

    /// Whether it has taken something of its series in this life.
    fn has_taken(&self, one: &One) -> bool {
        self.known.get(&one.series).is_some_and(|known| known.taken)
    }
}

/// The series of a post.
fn ones(body: &Bytes) -> Vec<One> {
    let WriteRequest { timeseries } = WriteRequest::decode(body.clone()).unwrap_or_default();
    let one = |raw: Bytes| {
        let RawSeries { labels, samples } = RawSeries::decode(raw.clone()).ok()?;
        let mut hasher = DefaultHasher::new();
        labels.hash(&mut hasher);
        Some(One { raw, series: hasher.finish(), at: samples.first()?.timestamp })
    };
    timeseries.into_iter().filter_map(one).collect()
}

fn request(ones: &[One]) -> Bytes {
    let timeseries = ones.iter().map(|one| one.raw.clone()).collect();
    WriteRequest { timeseries }.encode_to_vec().into()
}

/// What follows from an answer of `server`.
fn judge(server: &str, reply: &Reply) -> Result<(), NotTaken> {
    if reply.is_whole_success() && !reply.is_page() {
        return Ok(());
    }
    let said = printable(&reply.said);
    let text = String::from_utf8_lossy(&reply.said).to_lowercase();
    let later = |late| Verdict::Later { after: reply.retry_after(), late };
    let refusal = match reply.status {
        // Prometheus before 2.46 answers 500 to what is too old for its out_of_order_time_window.
        400 | 409 | 422 | 500 => refusal(&text),
        _ => None,
    };
    if let Some(refusal) = refusal {
        let means = match refusal {
            Refusal::OutOfOrder => "somebody else writes the same series, and what it has of it is newer",
            Refusal::Duplicate => {
                "somebody else writes the same series, and has written another value at the same time"
            }
            Refusal::TooOld => {
                "it takes nothing so old; out_of_order_time_window of its configuration says how old that may be"
            }
        };
        return Err(NotTaken::Samples(refusal, format!("{server} answered {} ({means}): \"{said}\"", reply.status)));
    }
    let (verdict, kind, advice) = match reply.status {
        200..=299 if reply.is_page() => {
            (Verdict::RefusedUs, "not_ok", "but with a page; is it a server, or something in between? check url")
        }
        200..=299 => (later(false), "transport", "the answer is cut"),
        400 | 409 | 422 if is_ahead(&text) => (later(false), "future", "its clock is behind ours"),
        400 | 409 | 422 => (Verdict::RefusedPart, "refused", "which part of the post it refuses is searched for"),
        401 | 403 => (Verdict::RefusedUs, "login", "check username and password_file, or token_file"),
        404 | 405 | 410 | 415 | 300..=399 | 407 => (
            Verdict::RefusedUs,
            "not_found",
            "this is no endpoint of remote write; check url, and that Prometheus has --web.enable-remote-write-receiver",
        ),
        408 => (later(true), "timeout", "it waited in vain"),
        413 => (Verdict::TooLarge, "too_large", "a smaller post follows"),
        402..=428 | 430..=499 => (Verdict::RefusedBody, "refused", "its log knows why"),
        _ => (later(false), "server", "it asks to be left alone for a while"),
    };
    let text = format!("{server} answered {} ({advice}): \"{said}\"", reply.status);
    Err(NotTaken::Otherwise(Failure { verdict, kind, text }))
}

/// In which words samples are refused, if they are. Prometheus, Thanos and Cortex have the words of the first three, Mimir those
/// with `err-mimir`.
fn refusal(text: &str) -> Option<Refusal> {
    const WORDS: [(&str, Refusal); 8] = [
        ("out of bounds", Refusal::TooOld),
        ("too old sample", Refusal::TooOld),
        ("err-mimir-sample-timestamp-too-old", Refusal::TooOld),
        ("duplicate sample for timestamp", Refusal::Duplicate),
        ("err-mimir-sample-duplicate-timestamp", Refusal::Duplicate),
        ("out of order sample", Refusal::OutOfOrder),
        ("sample timestamp out of order", Refusal::OutOfOrder),
        ("err-mimir-sample-out-of-order", Refusal::OutOfOrder),
    ];
    let word = WORDS.iter().find(|(word, _)| text.contains(word));
    word.filter(|_| !is_ahead(text)).map(|(_, refusal)| *refusal)
}

/// Whether a sample is refused for a time that is still to come.
fn is_ahead(text: &str) -> bool {
    text.contains("too far in the future") || text.contains("err-mimir-too-far-in-future")
}

impl Deliver for PrometheusDeliver {
    fn post(&mut self, body: Bytes) -> LocalFuture<'_, Answer> {
        Box::pin(async move { Answer { result: self.write(body, false).await, server_time: None } })
    }

    fn post_again(&mut self, body: Bytes) -> LocalFuture<'_, Answer> {
        Box::pin(async move { Answer { result: self.write(body, true).await, server_time: None } })
    }

    fn ask_time(&mut self) -> LocalFuture<'_, Answer> {
        Box::pin(std::future::ready(Answer { result: Ok(()), server_time: None }))
    }

    fn try_out(&mut self) -> LocalFuture<'_, Result<String, Failure>> {
        // A request without a series: some take it, some say that there is nothing in it, and both look at the login first.
        Box::pin(async {
            match self.write(Bytes::new(), false).await {
                Err(failure) if !matches!(failure.verdict, Verdict::RefusedBody | Verdict::RefusedPart) => Err(failure),
                _ => Ok("answers".to_owned()),
            }
        })
    }
}

#[cfg(test)]
mod tests;
