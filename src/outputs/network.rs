//! Where the server of an output is on the network, and as whom we come: what all such outputs are configured with alike.

use std::fmt;
use std::time::Duration;

use awc::http::header::{self, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::http::{Endpoint, Timeouts};
use crate::net::connect::Server;

/// The longest part of a `timeout` that a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// What must be told to nobody but the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Of its text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the server.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A server, and as whom we come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// As it is configured; without secrets.
    pub url: String,
    /// Where it is and how it is reached.
    pub server: Server,
    /// The path of the URL: empty, or `/base`.
    pub base: String,
    /// Who we are.
    pub username: Option<String>,
    /// How we prove it.
    pub password: Option<Secret>,
    /// Or what we have instead of both.
    pub token: Option<Secret>,
    /// More headers of each HTTP request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// For a whole exchange.
    pub timeout: Duration,
}

impl Network {
    /// The default of `timeout`.
    pub const TIMEOUT: Duration = Duration::from_secs(30);

    /// How long the parts of an exchange may take.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        Timeouts { connect: self.timeout.min(CONNECT), total: self.timeout }
    }

    /// The server as the HTTP client is to see it; a token is shown as one of the kind `scheme`, such as `Bearer`.
    #[must_use]
    pub fn endpoint(&self, scheme: &str) -> Endpoint {
        let mut headers = self.headers.clone();
        let authorization = match (&self.token, &self.username) {
            (Some(token), _) => Some(format!("{scheme} {}", token.reveal())),
            (None, Some(username)) => Some(basic(username, self.password.as_ref())),
            (None, None) => None,
        };
        // What the configuration has let through fits into a header.
        if let Some(mut value) = authorization.and_then(|value| HeaderValue::from_str(&value).ok()) {
            // So that no debug output of headers shows it.
            value.set_sensitive(true);
            headers.push((header::AUTHORIZATION, value));
        }
        let (server, base) = (self.server.clone(), self.base.clone());
        Endpoint { server, base, headers, timeouts: self.timeouts(), keep_alive: true }
    }
}

/// The value of a header that shows username and password (RFC 7617).
#[must_use]
pub fn basic(username: &str, password: Option<&Secret>) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.map_or("", Secret::reveal))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        Network {
            url: "https://tsdb.example.net".to_owned(),
            server: Server { host: "tsdb.example.net".to_owned(), port: 443, tls: None, proxy: None },
            base: String::new(),
            username: Some("plant".to_owned()),
            password: Some(Secret::new("open:sesame".to_owned())),
            token: None,
            headers: Vec::new(),
            timeout: Network::TIMEOUT,
        }
    }

    #[test]
    fn a_token_comes_before_a_password_and_neither_is_shown() {
        let said = |network: &Network| network.endpoint("Token").headers.pop().unwrap().1;
        assert_eq!(said(&network()), "Basic cGxhbnQ6b3BlbjpzZXNhbWU=");
        let token = Network { token: Some(Secret::new("geheim".to_owned())), ..network() };
        assert_eq!(said(&token), "Token geheim");
        for network in [network(), token] {
            let shown = format!("{network:?} {:?}", network.endpoint("Token"));
            assert!(
                !["sesame", "geheim", "c2VzYW1l", "cGxhbnQ"].iter().any(|secret| shown.contains(secret)),
                "{shown}"
            );
        }
    }
}
