//! Why a body is not known to be delivered: one sentence each that a person can act on.
//!
//! [`PostError::verdict`] says what follows from it for the delivery.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::net::error::ConnectError;
use crate::outputs::Verdict;
use crate::outputs::http::HttpError;

/// Why a body is not known to be delivered.
#[derive(Debug, Error)]
pub enum PostError {
    /// Host and port make no URL.
    #[error("{server:?} is no address of a pattoo server; check ip_address and ip_bind_port of pattoo_agent_api")]
    Address {
        /// Host and port.
        server: String,
    },
    /// No connection.
    #[error(
        "cannot connect to the pattoo server at {server}; is it running, and are ip_address and ip_bind_port right?"
    )]
    Connect {
        /// Host and port.
        server: String,
        /// What stood in the way.
        source: ConnectError,
    },
    /// Connected, but the answer was not complete in time.
    #[error("the pattoo server at {server} gave no complete answer within {}", humantime::format_duration(*.after))]
    Timeout {
        /// Host and port.
        server: String,
        /// The time it had.
        after: Duration,
    },
    /// The connection broke, or what came back was no HTTP.
    #[error("the exchange with the pattoo server at {server} broke before its answer was complete")]
    Transport {
        /// Host and port.
        server: String,
        /// What broke it.
        source: io::Error,
    },
    /// A status other than 200.
    #[error("{server} answered {status} instead of 200 ({}): \"{excerpt}\"", advice(*.status))]
    Refused {
        /// Host and port.
        server: String,
        /// The status.
        status: u16,
        /// The beginning of the answer, fit to be printed.
        excerpt: String,
        /// How long the server wants to be left alone, at most [`crate::outputs::http::MAX_RETRY_AFTER`].
        retry_after: Option<Duration>,
    },
    /// A redirect, which is never followed: whoever answered is not the agent API.
    #[error(
        "{server} answered {status}, a redirect to \"{location}\", which is not followed; check ip_address and ip_bind_port"
    )]
    Redirected {
        /// Host and port.
        server: String,
        /// The status.
        status: u16,
        /// Where to, fit to be printed.
        location: String,
    },
    /// Status 200, but not the server's `OK`.
    #[error("{server} answered 200 but not OK; is it a pattoo server, or something in between? \"{excerpt}\"")]
    NotOk {
        /// Host and port.
        server: String,
        /// The beginning of the answer, fit to be printed.
        excerpt: String,
    },
}

impl PostError {
    /// How long the server wants to be left alone, at most [`crate::outputs::http::MAX_RETRY_AFTER`].
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What follows from it.
    ///
    /// A status of the server itself is never about us: it knows no login and no redirect. 500 is in doubt, because it answers so to a
    /// body that it does not like and to a full disk; unless it asks for time, which no body would change.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let later = |late| Verdict::Later { after: self.retry_after(), late };
        match self {
            Self::Timeout { .. } => later(true),
            Self::Connect { .. } | Self::Transport { .. } => later(false),
            Self::Address { .. } | Self::Redirected { .. } | Self::NotOk { .. } => Verdict::RefusedUs,
            Self::Refused { status, retry_after, .. } => match status {
                // The request did not come in time, so a smaller one may.
                408 => later(true),
                413 => Verdict::TooLarge,
                // The agent API answers 404 to what is no JSON object, and every body is one: something else answers here.
                401 | 403 | 404 | 405 | 407 => Verdict::RefusedUs,
                429 | 501..=599 => later(false),
                500 if retry_after.is_some() => later(false),
                400..=500 => Verdict::RefusedBody,
                _ => Verdict::RefusedUs,
            },
        }
    }

    /// The name under which this is counted.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Address { .. } => "address",
            Self::Connect { .. } => "connect",
            Self::Timeout { .. } => "timeout",
            Self::Transport { .. } => "transport",
            Self::Refused { .. } => "refused",
            Self::Redirected { .. } => "redirected",
            Self::NotOk { .. } => "not_ok",
        }
    }
}

impl From<HttpError> for PostError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Connect { server, source } => Self::Connect { server, source },
            HttpError::Timeout { server, after } => Self::Timeout { server, after },
            HttpError::Transport { server, source } => Self::Transport { server, source },
        }
    }
}

/// What a person can do about a status.
fn advice(status: u16) -> &'static str {
    match status {
        404 | 405 => "is this the pattoo agent API? check ip_address and ip_bind_port",
        401 | 403 | 407 => {
            "something wants a login, which the pattoo agent API never does; check ip_address and ip_bind_port"
        }
        413 => "something in between limits the size of a post",
        429 | 503 => "it asks to be left alone for a while",
        500..=599 => "its log knows why",
        _ => "the pattoo agent API never does; check ip_address and ip_bind_port",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_says_what_follows_from_it() {
        use Verdict::{RefusedBody, RefusedUs, TooLarge};

        let pause = Some(Duration::from_secs(7));
        let later = |after, late| Verdict::Later { after, late };
        let cases = [
            (&[400, 409, 415, 422, 499, 500][..], None, RefusedBody),
            (&[413], None, TooLarge),
            (&[408], None, later(None, true)),
            (&[429, 501, 502, 503, 504, 507, 599], None, later(None, false)),
            (&[429, 500, 503], pause, later(pause, false)),
            (&[100, 204, 206, 401, 403, 404, 405, 407, 600, 999], None, RefusedUs),
        ];
        for (statuses, retry_after, verdict) in cases {
            for &status in statuses {
                let (server, excerpt) = (String::new(), String::new());
                let error = PostError::Refused { server, status, excerpt, retry_after };
                assert_eq!(error.verdict(), verdict, "{status}");
            }
        }
    }
}
