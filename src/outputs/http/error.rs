//! Why there is no answer, and what an answer looks like in a message.
//!
//! What a server said is quoted only as far as [`printable`] lets it: it is text from outside, and it ends up in terminals
//! and logs.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::net::error::ConnectError;
use crate::outputs::{Failure, Verdict};
use crate::text::Chain;
use crate::text::harmless::escaped;

/// How much of an answer a message quotes.
const EXCERPT_CHARS: usize = 200;

/// Why there is no answer of a server.
#[derive(Debug, Error)]
pub enum HttpError {
    /// No connection.
    #[error("no connection to {server}; is it running, and is url right?")]
    Connect {
        /// Host and port.
        server: String,
        /// What stood in the way.
        source: ConnectError,
    },
    /// Connected, but the answer was not complete in time.
    #[error("{server} gave no complete answer within {}", humantime::format_duration(*.after))]
    Timeout {
        /// Host and port.
        server: String,
        /// The time it had.
        after: Duration,
    },
    /// The connection broke, or what came back was no HTTP.
    #[error("the exchange with {server} broke before its answer was complete")]
    Transport {
        /// Host and port.
        server: String,
        /// What broke it.
        source: io::Error,
    },
}

impl HttpError {
    /// What follows from it: only a peer that is not believed, or does not believe us, is a matter of configuration.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Timeout { .. } => Verdict::Later { after: None, late: true },
            Self::Connect { source, .. } if source.is_about_us() => Verdict::RefusedUs,
            Self::Connect { .. } | Self::Transport { .. } => Verdict::Later { after: None, late: false },
        }
    }

    /// The name under which this is counted.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connect { source, .. } => source.kind(),
            Self::Timeout { .. } => "timeout",
            Self::Transport { .. } => "transport",
        }
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        Self::new(error.verdict(), error.kind(), Chain(&error).to_string())
    }
}

/// The beginning of what a server said, on one line and without control characters.
#[must_use]
pub fn printable(said: &[u8]) -> String {
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
