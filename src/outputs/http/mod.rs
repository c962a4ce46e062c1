//! One HTTP exchange with an output's server: a request, and as much of the answer as is worth reading.
//!
//! What the answer means is the output's business; that there was none is an [`HttpError`], and then the server may or may
//! not have what was sent.
//!
//! Bounds: addresses, TCP, proxy and TLS have [`Timeouts::connect`], the whole exchange has [`Timeouts::total`], at most
//! [`MAX_ANSWER_BYTES`] of an answer are kept. No redirect is followed, no proxy is taken from the environment, no
//! compressed answer is asked for. Connections are made by [`net`](crate::net), so that awc sees no TLS and no names.

mod error;
mod pieces;
mod reply;

use std::cell::Cell;
use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_rt::net::{ActixStream, Ready};
use actix_service::fn_service;
use actix_tls::connect::{ConnectError as DialFailure, ConnectInfo, Connection};
use awc::error::{ConnectError as AwcError, SendRequestError};
use awc::http::header::{self, HeaderName, HeaderValue};
use awc::http::{Method, Uri};
use awc::{Client, ClientResponse};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::Interest;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

pub use self::error::{HttpError, printable};
use self::pieces::Pieces;
pub use self::reply::{End, MAX_ANSWER_BYTES, MAX_RETRY_AFTER, Reply};
use crate::net::connect::{Connector, Server, Stream, authority};
use crate::net::error::ConnectError;

/// A connection that nobody has used for so long is closed by us; servers do so earlier as a rule.
const IDLE: Duration = Duration::from_secs(300);

/// No connection is older: what a name leads to may change.
const LIFETIME: Duration = Duration::from_secs(3_600);

/// Smaller bodies are not worth compressing.
const LEAST_TO_COMPRESS: usize = 512;

/// How long the parts of an exchange may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For resolving the name, the TCP handshake, the proxy and the TLS handshake.
    pub connect: Duration,
    /// For everything, from the name to the last byte of the answer.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), total: Duration::from_secs(30) }
    }
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The server.
    pub server: Server,
    /// What stands before the path of each request: empty, or `/base`.
    pub base: String,
    /// What each request has besides its own; values that are secret are marked so.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long an exchange may take.
    pub timeouts: Timeouts,
    /// Whether a connection is used again.
    pub keep_alive: bool,
}

impl Endpoint {
    /// Host and port, for messages.
    #[must_use]
    pub fn authority(&self) -> String {
        authority(&self.server.host, self.server.port)
    }

    /// The address of `path`, as awc is to see it; `None` when there can be none.
    #[must_use]
    pub fn uri(&self, path: &str) -> Option<Uri> {
        let authority = self.authority();
        let uri = format!("http://{authority}{}{path}", self.base).parse::<Uri>().ok()?;
        // A host such as `a/b` or `a@b` parses, but as something else than a host.
        let is_host = uri.authority().is_some_and(|parsed| parsed == authority.as_str());
        (is_host && !self.server.host.is_empty() && !authority.contains('@')).then_some(uri)
    }
}

/// Headers of a request.
pub type Headers = Vec<(HeaderName, HeaderValue)>;

/// What is asked of a server.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// How.
    pub method: Method,
    /// Of what.
    pub uri: &'a Uri,
    /// In addition to those of the endpoint.
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// What is sent; empty for a request without a body.
    pub body: Bytes,
}

/// Asks one server, one request at a time. It stays on the thread where it is made.
pub struct HttpClient {
    endpoint: Endpoint,
    /// Host and port.
    server: String,
    client: Client,
    /// How many connections were made.
    connections: Rc<Cell<u64>>,
    /// Whether the last request was sent twice.
    repeated: bool,
}

impl HttpClient {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        let connections = Rc::new(Cell::new(0));
        let connector = Rc::new(Mutex::new(Connector::new(endpoint.server.clone())));
        let (made, limit) = (Rc::clone(&connections), endpoint.timeouts.connect);
        let dial = fn_service(move |info: ConnectInfo<Uri>| {
            let (connector, made) = (Rc::clone(&connector), Rc::clone(&made));
            async move {
                made.set(made.get() + 1);
                let stream = connector.lock().await.connect(limit).await;
                let stream = stream.map_err(|error| DialFailure::Io(io::Error::other(error)))?;
                Ok::<_, DialFailure>(Connection::new(info.request().clone(), stream))
            }
        });
        // The limit of awc is only there so that ours comes first.
        let awc = awc::Connector::new().connector(dial).timeout(limit * 2);
        let client = Client::builder()
            .connector(awc.conn_keep_alive(IDLE).conn_lifetime(LIFETIME))
            .disable_redirects()
            .disable_timeout()
            .no_default_headers()
            .finish();
        Self { server: endpoint.authority(), endpoint, client, connections, repeated: false }
    }

    /// Host and port, for messages.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// How long an exchange may take.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        self.endpoint.timeouts
    }

    /// Whether the last exchange sent its request twice: then the server may have had it before it got the one that it answered.
    #[must_use]
    pub fn has_repeated(&self) -> bool {
        self.repeated
    }

    /// The same client with other time limits.
    #[must_use]
    pub fn with_timeouts(self, timeouts: Timeouts) -> Self {
        Self::new(Endpoint { timeouts, ..self.endpoint })
    }

    /// Makes one exchange. A connection that the server had closed meanwhile is replaced once.
    ///
    /// # Errors
    /// When there is no head of an answer in time. An answer that ends badly is a [`Reply`] with that [`End`].
    pub async fn exchange(&mut self, request: Request<'_>) -> Result<Reply, HttpError> {
        let deadline = Instant::now() + self.endpoint.timeouts.total;
        let connections = self.connections.get();
        let mut result = self.attempt(&request, deadline).await;
        // No new one was made, so the request went over one that was kept: the server may have closed it before it
        // came.
        let was_kept = connections > 0 && self.connections.get() == connections;
        // Not after a time-out: the server had its time, and the caller's is over.
        self.repeated = was_kept && matches!(result, Err(HttpError::Transport { .. }));
        if self.repeated {
            result = self.attempt(&request, deadline).await;
        }
        Ok(Reply::read(result?, deadline).await)
    }

    async fn attempt(&mut self, request: &Request<'_>, deadline: Instant) -> Result<ClientResponse, HttpError> {
        // awc asserts here and there that what it parses is what it expects; a hostile answer must not be able to end the
        // poster.
        match timeout_at(deadline, without_panic(self.send(request))).await {
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Ok(Err(error))) => Err(self.not_answered(error)),
            Ok(Err(panicked)) => Err(self.broken(panicked)),
            Err(_elapsed) => {
                Err(HttpError::Timeout { server: self.server.clone(), after: self.endpoint.timeouts.total })
            }
        }
    }

    fn send(&self, Request { method, uri, headers, body }: &Request<'_>) -> awc::SendClientRequest {
        let mut request = self.client.request(method.clone(), *uri).no_decompress();
        if !self.endpoint.keep_alive {
            request = request.force_close();
        }
        let own = (
            header::USER_AGENT,
            HeaderValue::from_static(concat!("pattoo_agent_modbustcpd/", env!("CARGO_PKG_VERSION"))),
        );
        for header in self.endpoint.headers.iter().chain(*headers).cloned().chain([own]) {
            request = request.insert_header(header);
        }
        if body.is_empty() { request.send() } else { request.send_body(Pieces(body.clone())) }
    }

    fn not_answered(&self, error: SendRequestError) -> HttpError {
        let server = self.server.clone();
        match error {
            // This is how awc says that the server closed the connection instead of answering.
            SendRequestError::Connect(AwcError::Disconnected) => {
                self.broken(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"))
            }
            // Our own error of `dial` above, which awc has carried through as one of the system.
            SendRequestError::Connect(AwcError::Io(error)) => match error.downcast::<ConnectError>() {
                Ok(source) => HttpError::Connect { server, source },
                Err(error) => self.broken(error),
            },
            SendRequestError::Send(error) => self.broken(error),
            error => self.broken(io::Error::other(error.to_string())),
        }
    }

    fn broken(&self, source: io::Error) -> HttpError {
        HttpError::Transport { server: self.server.clone(), source }
    }
}

/// A body that is compressed; `None` where that is not worth it.
#[must_use]
pub fn gzip(body: &[u8]) -> Option<Bytes> {
    if body.len() < LEAST_TO_COMPRESS {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// A text as the value of a parameter (RFC 3986: all but the unreserved characters are escaped).
#[must_use]
pub fn parameter(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
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

impl ActixStream for Stream {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        pin!(self.tcp().ready(Interest::READABLE)).poll(cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        pin!(self.tcp().ready(Interest::WRITABLE)).poll(cx)
    }
}

#[cfg(test)]
mod tests;
