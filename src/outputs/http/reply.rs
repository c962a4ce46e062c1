//! As much of an answer as is worth reading: its status, its headers, the beginning of its body, and how that ended.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use awc::ClientResponse;
use awc::http::header::{self, HeaderMap, HeaderName, HttpDate};
use futures_core::Stream as _;
use tokio::time::{Instant, timeout_at};

use super::without_panic;
use crate::reading::Timestamp;

/// So much of an answer is kept.
pub const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The longest pause that a server may ask for by `Retry-After`.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// The beginning of its body; nothing of a redirect.
    pub said: Vec<u8>,
    /// How the reading of its body ended.
    pub end: End,
}

/// How the reading of an answer ended.
#[derive(Debug)]
pub enum End {
    /// All of it is there.
    Complete,
    /// There is more of it than is kept.
    TooLong,
    /// It broke.
    Broken(io::Error),
    /// The time ran out.
    Late,
}

impl Reply {
    /// Reads what is left of an answer until `deadline`.
    pub(super) async fn read(mut response: ClientResponse, deadline: Instant) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let (said, end) =
            // A redirect is an answer of somebody else, whatever its body says: it is not waited for.
            if status.is_redirection() { (Vec::new(), End::Complete) } else { body(&mut response, deadline).await };
        // awc takes the end of the connection for the end of the answer, however much is missing. (Of an answer in chunks
        // it does not tell whether the last one came.)
        let end = match (end, stated_length(&headers)) {
            (End::Complete, Err(error)) => End::Broken(error),
            (End::Complete, Ok(Some(length))) if length != said.len() as u64 && !status.is_redirection() => {
                End::Broken(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is cut"))
            }
            (end, _) => end,
        };
        Self { status: status.as_u16(), headers, said, end }
    }

    /// The server's clock when it answered, if it told.
    #[must_use]
    pub fn date(&self) -> Option<Timestamp> {
        self.system_time().map(Timestamp::from)
    }

    fn system_time(&self) -> Option<SystemTime> {
        text(&self.headers, header::DATE).and_then(http_date)
    }

    /// How long the server wants to be left alone, at most [`MAX_RETRY_AFTER`].
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "only beside a date that a server tells")]
    pub fn retry_after(&self) -> Option<Duration> {
        // The server's own clock, for the date that it asks us to wait for is one of that clock.
        let now = self.system_time().unwrap_or_else(SystemTime::now);
        text(&self.headers, header::RETRY_AFTER).and_then(|text| retry_after(text, now))
    }

    /// Whether it is a page for people: where one stands for an answer, a captive portal or a login page has answered, whatever
    /// the status.
    #[must_use]
    pub fn is_page(&self) -> bool {
        let html = text(&self.headers, header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"));
        html || self.said.trim_ascii_start().starts_with(b"<")
    }

    /// Whether the status is one of success, and the whole answer was there.
    #[must_use]
    pub fn is_whole_success(&self) -> bool {
        matches!(self.status, 200..=299) && matches!(self.end, End::Complete)
    }
}

/// The beginning of the body, and whether that was all.
async fn body(response: &mut ClientResponse, deadline: Instant) -> (Vec<u8>, End) {
    let mut said = Vec::new();
    loop {
        let next = poll_fn(|context| Pin::new(&mut *response).poll_next(context));
        let piece = match timeout_at(deadline, without_panic(next)).await {
            Ok(Ok(None)) => return (said, End::Complete),
            Ok(Ok(Some(Ok(piece)))) => piece,
            Ok(Ok(Some(Err(error)))) => return (said, End::Broken(io::Error::other(error.to_string()))),
            Ok(Err(panicked)) => return (said, End::Broken(panicked)),
            Err(_) => return (said, End::Late),
        };
        let room = MAX_ANSWER_BYTES - said.len();
        said.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            return (said, End::TooLong);
        }
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// The length of the answer, if it is stated; stated in two ways it could be read in two ways.
fn stated_length(headers: &HeaderMap) -> io::Result<Option<u64>> {
    let Some(length) = text(headers, header::CONTENT_LENGTH) else {
        return Ok(None);
    };
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer states two lengths"));
    }
    Ok(length.parse().ok())
}

fn http_date(text: &str) -> Option<SystemTime> {
    text.parse::<HttpDate>().ok().map(SystemTime::from)
}

/// The pause that a `Retry-After` of seconds or of a date asks for, as seen at `now`.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let pause = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number may have mean a long time, too.
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        // A date that is over asks for no pause.
        http_date(text)?.duration_since(now).unwrap_or_default()
    };
    Some(pause.min(MAX_RETRY_AFTER))
}
