//! Why a body is not known to be delivered: one sentence each that a person can act on.
//!
//! What a server said is quoted only as far as [`printable`] lets it: it is text from outside, and it ends up
//! in terminals and logs. [`PostError::verdict`] says what follows from it for the delivery.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::outputs::Verdict;

use crate::text::harmless::escaped;

/// How much of an answer a message quotes.
const EXCERPT_CHARS: usize = 200;

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
        source: io::Error,
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
        /// How long the server wants to be left alone, at most [`super::MAX_RETRY_AFTER`].
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
    /// How long the server wants to be left alone, at most [`super::MAX_RETRY_AFTER`].
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

/// The beginning of what a server said, on one line and without control characters.
pub(super) fn printable(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let words: Vec<_> = text.split_whitespace().collect();
    let line = words.join(" ");
    let excerpt: String = line.chars().take(EXCERPT_CHARS).collect();
    let mut excerpt = escaped(&excerpt).into_owned();
    if line.chars().nth(EXCERPT_CHARS).is_some() {
        excerpt.push('…');
    }
    excerpt
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

    #[test]
    fn what_a_server_said_is_quoted_short_and_without_anything_that_a_terminal_obeys() {
        let long = "é".repeat(1_000);
        let cut = format!("{}…", "é".repeat(200));
        let cases: [(&[u8], &str); 6] = [
            (b"", ""),
            (b" <html>\r\n\t<p>Sign  in</p>\n", "<html> <p>Sign in</p>"),
            (b"\x1b[31mred\x07\0", "\\u{1b}[31mred\\u{7}\\u{0}"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            ("\u{202e}\u{200b}x".as_bytes(), "\\u{202e}\\u{200b}x"),
            (long.as_bytes(), &cut),
        ];
        for (said, quoted) in cases {
            assert_eq!(printable(said), quoted);
        }
    }
}
