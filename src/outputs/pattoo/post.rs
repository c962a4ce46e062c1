//! One attempt to deliver one body to the pattoo agent API.
//!
//! Delivered means: status 200 and a complete answer whose text is `OK`; a captive portal, a cut answer, a
//! redirect are not. Everything else is a [`PostError`], and then the server may or may not have stored the
//! body: posting it again is safe there, losing it is not.
//!
//! Each attempt has a connection of its own, because the server closes it anyway. The session cookie is
//! sent back: without it the server makes a file per post and slows down from 8 to 32 ms.

mod error;
#[cfg(test)]
mod tests;

use awc::http::header::{self, HeaderMap, HeaderValue};
use awc::http::{Method, Uri};
use bytes::Bytes;

pub use self::error::PostError;
use super::identity::AgentId;
use crate::net::connect::Server;
use crate::outputs::http::{End, Endpoint, HttpClient, Reply, Request, Timeouts, printable};
use crate::outputs::network::Network;
use crate::reading::Timestamp;

/// A cookie longer than this is none that the server sets; it is not kept.
const MAX_COOKIE_BYTES: usize = 4096;

/// The agent API of one pattoo server, as one agent uses it.
#[derive(Debug, Clone)]
pub struct Api {
    endpoint: Endpoint,
    /// Where bodies go.
    receive: Uri,
    /// Where the server says that it is there, and what time it is.
    status: Uri,
}

impl Api {
    /// For the agent `id`, at `host` (a name, IPv4, or IPv6 with or without brackets) and `port`.
    ///
    /// # Errors
    /// When `host` cannot be part of a URL.
    pub fn new(host: &str, port: u16, id: &AgentId) -> Result<Self, PostError> {
        let unwrapped = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let bare = unwrapped.filter(|host| host.contains(':')).unwrap_or(host);
        let server = Server { host: bare.to_owned(), port, tls: None, proxy: None };
        let (headers, timeouts) = (Vec::new(), Timeouts::default());
        Self::of(Endpoint { server, base: String::new(), headers, timeouts, keep_alive: false }, id)
    }

    /// The same where `network` leads, as behind a reverse proxy.
    ///
    /// # Errors
    /// When it makes no URL.
    pub fn at(network: &Network, id: &AgentId) -> Result<Self, PostError> {
        Self::of(Endpoint { keep_alive: false, ..network.endpoint("Bearer") }, id)
    }

    fn of(endpoint: Endpoint, id: &AgentId) -> Result<Self, PostError> {
        let endpoint = Endpoint { base: format!("{}/pattoo/api/v1/agent", endpoint.base), ..endpoint };
        match (endpoint.uri(&format!("/receive/{id}")), endpoint.uri("/status")) {
            (Some(receive), Some(status)) => Ok(Self { endpoint, receive, status }),
            _ => Err(PostError::Address { server: endpoint.authority() }),
        }
    }
}

/// Delivers bodies to one pattoo server, one at a time. It stays on the thread where it is made.
pub struct Poster {
    client: HttpClient,
    api: Api,
    cookie: Option<HeaderValue>,
    server_date: Option<Timestamp>,
}

impl Poster {
    /// A poster to `api`.
    #[must_use]
    pub fn new(api: Api) -> Self {
        Self { client: HttpClient::new(api.endpoint.clone()), api, cookie: None, server_date: None }
    }

    /// The same poster with other time limits.
    #[must_use]
    pub fn with_timeouts(self, timeouts: Timeouts) -> Self {
        Self { client: self.client.with_timeouts(timeouts), ..self }
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
        // A date of an earlier answer must not be told as that of this one.
        self.server_date = None;
        let mut headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        headers.extend(self.cookie.clone().map(|cookie| (header::COOKIE, cookie)));
        let request = Request { method: Method::POST, uri: &self.api.receive, headers: &headers, body: body.into() };
        let reply = self.client.exchange(request).await?;
        self.server_date = reply.date();
        // An answer that sets no cookie leaves the session as it is.
        self.cookie = session_cookie(&reply.headers).or_else(|| self.cookie.take());
        self.judge(reply)
    }

    /// Asks the server for the time; `None` when it does not tell, or is not the agent API.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn ask_time(&mut self) -> Result<Option<Timestamp>, PostError> {
        let request = Request { method: Method::GET, uri: &self.api.status, headers: &[], body: Bytes::new() };
        let reply = self.client.exchange(request).await?;
        // The agent API answers 200 here: with another status something else answers, whose clock says nothing of the
        // server's.
        Ok(reply.date().filter(|_| reply.status == 200))
    }

    /// Decides by the answer whether the server has the body.
    fn judge(&self, reply: Reply) -> Result<(), PostError> {
        let retry_after = reply.retry_after();
        let Reply { status, headers, said, end } = reply;
        let (server, excerpt) = (self.client.server().to_owned(), printable(&said));
        match (status, end) {
            (300..=399, _) => {
                let location = printable(headers.get(header::LOCATION).map_or(b"", HeaderValue::as_bytes));
                Err(PostError::Redirected { server, status, location })
            }
            (200, End::Complete) if said.trim_ascii() == b"OK" => Ok(()),
            (200, End::Complete | End::TooLong) => Err(PostError::NotOk { server, excerpt }),
            (200, End::Broken(source)) => Err(PostError::Transport { server, source }),
            (200, End::Late) => Err(PostError::Timeout { server, after: self.client.timeouts().total }),
            // The status alone says that the body is not stored, whatever became of the rest.
            _ => Err(PostError::Refused { server, status, excerpt, retry_after }),
        }
    }
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
