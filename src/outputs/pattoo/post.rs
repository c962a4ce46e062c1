//! One attempt to deliver one body to the pattoo agent API.
//!
//! Delivered means: status 200 and a complete answer whose text is `OK`; a captive portal, a cut answer, a
//! redirect are not. Everything else is a [`PostError`], and then the server may or may not have stored the
//! body: posting it again is safe there, losing it is not.
//!
//! Bounds: name and handshake have [`Timeouts::connect`], the whole attempt has [`Timeouts::total`], at most
//! [`MAX_ANSWER_BYTES`] of an answer are read. Each attempt has a connection of its own, because the server
//! closes it anyway. No redirect is followed, no proxy asked, no compression offered. The session cookie is
//! sent back: without it the server makes a file per post and slows down from 8 to 32 ms.

mod error;
mod pieces;
#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::time::{Duration, SystemTime};

use awc::error::{ConnectError, SendRequestError};
use awc::http::header::{self, HeaderMap, HeaderName, HeaderValue, HttpDate};
use awc::http::{Method, StatusCode, Uri};
use awc::{Client, ClientResponse, Connector};
use bytes::Bytes;
use futures_core::Stream;
use tokio::time::{Instant, timeout_at};

pub use self::error::PostError;
use self::error::printable;
use self::pieces::Pieces;
use super::identity::{AgentId, PROGRAM};
use crate::reading::Timestamp;
use crate::resolve::{Resolver, fair_share};

/// The longest answer that is read; the server's is two bytes long.
pub const MAX_ANSWER_BYTES: usize = 1024;

/// The longest pause that a server may ask for by `Retry-After`.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A cookie longer than this is none that the server sets; it is not kept.
const MAX_COOKIE_BYTES: usize = 4096;

/// How long the parts of an attempt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For resolving the name and the TCP handshake.
    pub connect: Duration,
    /// For everything, from the name to the last byte of the answer.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), total: Duration::from_secs(30) }
    }
}

/// Delivers bodies to one pattoo server, one at a time.
#[derive(Debug)]
pub struct Poster {
    uri: Uri,
    /// Where the server says that it is there, and what time it is.
    status: Uri,
    /// Host and port, for messages.
    server: String,
    resolver: Resolver,
    /// The address that accepted last: tried first, so that a dead one beside it is not paid for at each post.
    accepted: Option<SocketAddr>,
    timeouts: Timeouts,
    cookie: Option<HeaderValue>,
    server_date: Option<Timestamp>,
}

impl Poster {
    /// A poster for the agent `id` to the pattoo agent API at `host` (a name, IPv4, or IPv6 with or without
    /// brackets) and `port`.
    ///
    /// # Errors
    /// When `host` cannot be part of a URL.
    pub fn new(host: &str, port: u16, id: &AgentId) -> Result<Self, PostError> {
        let bare_ipv6 = host.contains(':') && !host.starts_with('[');
        let server = if bare_ipv6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let api = |path: &str| {
            let uri = format!("http://{server}/pattoo/api/v1/agent/{path}").parse::<Uri>().ok()?;
            // A host such as `a/b` or `a@b` parses, but as something else than a host.
            let is_host = uri.authority().is_some_and(|parsed| parsed == server.as_str());
            (is_host && !host.is_empty() && !host.contains('@')).then_some(uri)
        };
        match (api(&format!("receive/{id}")), api("status")) {
            (Some(uri), Some(status)) => {
                let resolver = Resolver::new(host.trim_start_matches('[').trim_end_matches(']'), port);
                Ok(Self {
                    uri,
                    status,
                    server,
                    resolver,
                    accepted: None,
                    timeouts: Timeouts::default(),
                    cookie: None,
                    server_date: None,
                })
            }
            _ => Err(PostError::Address { server }),
        }
    }

    /// The same poster with other time limits.
    #[must_use]
    pub fn with_timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// The server's clock when it answered the last attempt, whatever it answered; `None` when it did not
    /// answer or did not say.
    #[must_use]
    pub fn server_date(&self) -> Option<Timestamp> {
        self.server_date
    }

    /// Makes one attempt to deliver `body`; `Ok` means that the server has it.
    ///
    /// # Errors
    /// In every other case, see [`PostError`].
    pub async fn post(&mut self, body: impl Into<Bytes>) -> Result<(), PostError> {
        self.server_date = None;
        let deadline = Instant::now() + self.timeouts.total;
        match timeout_at(deadline, self.send(Some(body.into()))).await {
            Ok(Ok(response)) => self.judge(response, deadline).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.late()),
        }
    }

    /// Asks the server for the time; `None` when it does not tell, or is not the agent API.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn ask_time(&mut self) -> Result<Option<Timestamp>, PostError> {
        let deadline = Instant::now() + self.timeouts.total;
        let response = timeout_at(deadline, self.send(None)).await.unwrap_or_else(|_| Err(self.late()))?;
        if response.status() != StatusCode::OK {
            return Ok(None);
        }
        Ok(header_text(response.headers(), header::DATE).and_then(http_date).map(Timestamp::from))
    }

    /// Posts the body, or without one asks for the status, at the first of the server's addresses that accepts; waits
    /// for the head of the answer.
    async fn send(&mut self, body: Option<Bytes>) -> Result<ClientResponse, PostError> {
        let connected = Instant::now() + self.timeouts.connect;
        let addresses = self.resolver.addresses(self.timeouts.connect).await;
        let mut addresses = addresses.map_err(|source| PostError::Connect { server: self.server.clone(), source })?;
        addresses.sort_by_key(|&address| Some(address) != self.accepted);
        let mut refused = None;
        for (&address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
            // awc asserts here and there that what it parses is what it expects; a hostile answer must not be
            // able to end the poster.
            match without_panic(self.send_to(address, fair_share(connected, left), body.clone())).await {
                Ok(Ok(response)) => {
                    self.accepted = Some(address);
                    return Ok(response);
                }
                Ok(Err(error)) => match self.not_answered(error) {
                    error @ PostError::Connect { .. } => refused = Some(error),
                    error => return Err(error),
                },
                Err(panicked) => return Err(self.broken(panicked)),
            }
        }
        Err(refused.unwrap_or_else(|| self.late()))
    }

    fn send_to(&self, address: SocketAddr, limit: Duration, body: Option<Bytes>) -> awc::SendClientRequest {
        // A pool of connections for this attempt alone: none is ever used twice.
        let client = Client::builder()
            .connector(Connector::new().timeout(limit))
            .disable_redirects()
            .disable_timeout()
            .no_default_headers()
            .finish();
        let (method, uri) = if body.is_some() { (Method::POST, &self.uri) } else { (Method::GET, &self.status) };
        let mut request = client
            .request(method, uri.clone())
            .address(address)
            .no_decompress()
            .force_close()
            .insert_header((header::USER_AGENT, format!("{PROGRAM}/{}", env!("CARGO_PKG_VERSION"))));
        if let Some(cookie) = &self.cookie {
            request = request.insert_header((header::COOKIE, cookie.clone()));
        }
        match body {
            Some(body) => request.content_type("application/json").send_body(Pieces(body)),
            None => request.send(),
        }
    }

    /// Decides by the answer whether the server has the body.
    async fn judge(&mut self, mut response: ClientResponse, deadline: Instant) -> Result<(), PostError> {
        let headers = response.headers();
        let date = header_text(headers, header::DATE).and_then(http_date);
        // The server's own clock, for the date that it asks us to wait for is one of that clock.
        let now = date.unwrap_or_else(SystemTime::now);
        let retry_after = header_text(headers, header::RETRY_AFTER).and_then(|text| retry_after(text, now));
        let length = stated_length(headers);
        let cookie = session_cookie(headers);
        let location = printable(headers.get(header::LOCATION).map_or(b"", HeaderValue::as_bytes));

        self.server_date = date.map(Timestamp::from);
        if cookie.is_some() {
            self.cookie = cookie;
        }

        let server = self.server.clone();
        let status = response.status();
        if status.is_redirection() {
            return Err(PostError::Redirected { server, status: status.as_u16(), location });
        }
        let (answer, end) = read_answer(&mut response, deadline).await;
        let excerpt = printable(&answer);
        if status != StatusCode::OK {
            // The status alone says that the body is not stored, whatever became of the rest.
            return Err(PostError::Refused { server, status: status.as_u16(), excerpt, retry_after });
        }
        // awc takes the end of the connection for the end of the answer, however much is missing. (Of an
        // answer in chunks it does not tell whether the last one came; there the word OK must do.)
        let end = match (end, length) {
            (End::Complete, Err(error)) => End::Broken(error),
            (End::Complete, Ok(Some(length))) if length != answer.len() as u64 => {
                End::Broken(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is cut"))
            }
            (end, _) => end,
        };
        match end {
            End::Complete if answer.trim_ascii() == b"OK" => Ok(()),
            End::Complete | End::TooLong => Err(PostError::NotOk { server, excerpt }),
            End::Broken(source) => Err(self.broken(source)),
            End::Late => Err(self.late()),
        }
    }

    fn not_answered(&self, error: SendRequestError) -> PostError {
        let source = match error {
            // This is how awc says that the server closed the connection instead of answering.
            SendRequestError::Connect(ConnectError::Disconnected) => {
                return self.broken(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"));
            }
            SendRequestError::Connect(ConnectError::Io(error)) => error,
            SendRequestError::Connect(ConnectError::Timeout) => {
                let limit = humantime::format_duration(self.timeouts.connect);
                io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {limit}"))
            }
            SendRequestError::Connect(error) => io::Error::other(error.to_string()),
            SendRequestError::Send(error) => return self.broken(error),
            error => return self.broken(io::Error::other(error.to_string())),
        };
        PostError::Connect { server: self.server.clone(), source }
    }

    fn broken(&self, source: io::Error) -> PostError {
        PostError::Transport { server: self.server.clone(), source }
    }

    fn late(&self) -> PostError {
        PostError::Timeout { server: self.server.clone(), after: self.timeouts.total }
    }
}

/// How the reading of an answer ended.
enum End {
    Complete,
    TooLong,
    Broken(io::Error),
    Late,
}

/// The beginning of the answer, and whether that was all.
async fn read_answer(response: &mut ClientResponse, deadline: Instant) -> (Vec<u8>, End) {
    let mut answer = Vec::new();
    loop {
        let next = poll_fn(|context| Pin::new(&mut *response).poll_next(context));
        let piece = match timeout_at(deadline, without_panic(next)).await {
            Ok(Ok(None)) => return (answer, End::Complete),
            Ok(Ok(Some(Ok(piece)))) => piece,
            Ok(Ok(Some(Err(error)))) => {
                return (answer, End::Broken(io::Error::other(error.to_string())));
            }
            Ok(Err(panicked)) => return (answer, End::Broken(panicked)),
            Err(_) => return (answer, End::Late),
        };
        let room = MAX_ANSWER_BYTES - answer.len();
        answer.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            return (answer, End::TooLong);
        }
    }
}

/// The future's output, or an error where it panicked.
async fn without_panic<F: Future>(future: F) -> io::Result<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        polled.map_or_else(
            |_| Err(io::Error::other("the HTTP client cannot make sense of it")).into(),
            |poll| poll.map(Ok),
        )
    })
    .await
}

fn header_text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// The length of the answer, if it is stated; stated in two ways it could be read in two ways.
fn stated_length(headers: &HeaderMap) -> io::Result<Option<u64>> {
    let Some(length) = header_text(headers, header::CONTENT_LENGTH) else {
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
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        http_date(text)?.duration_since(now).unwrap_or_default()
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

/// The `name=value` of the last cookie that the server set.
fn session_cookie(headers: &HeaderMap) -> Option<HeaderValue> {
    let set = headers.get_all(header::SET_COOKIE).last()?.to_str().ok()?;
    let cookie = set.split(';').next()?.trim();
    if cookie.len() > MAX_COOKIE_BYTES || !cookie.contains('=') {
        return None;
    }
    HeaderValue::from_str(cookie).ok()
}
