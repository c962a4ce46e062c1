//! Why a post is not known to be delivered, and what follows from it.
//!
//! What a person must mend is "us": login, client id, permissions, a version or feature that the broker does not have. What is
//! wrong with a message is searched for. All else goes again. Source: MQTT 5, 2.4 and the tables of reason codes in 3.2, 3.4 and 3.14.

use std::io;
use std::time::Duration;

use thiserror::Error;

use super::packet::Reason;
use crate::net::error::ConnectError;
use crate::outputs::http::printable;
use crate::outputs::{Failure, Verdict};
use crate::text::Chain;

/// When the broker said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// To our login.
    Login,
    /// To what we want to hear.
    Subscription,
    /// To a message of this topic.
    Message(String),
    /// To anything more on this connection.
    Connection,
}

/// Why a post is not known to be delivered.
#[derive(Debug, Error)]
pub enum MqttError {
    /// No connection.
    #[error("cannot connect to {server}")]
    Connect {
        /// Host and port.
        server: String,
        /// What stood in the way.
        source: ConnectError,
    },
    /// Connected, but what was due did not come in time.
    #[error("{server} did not acknowledge everything within {}", humantime::format_duration(*.after))]
    Timeout {
        /// Host and port.
        server: String,
        /// The time it had.
        after: Duration,
    },
    /// The connection broke.
    #[error("the connection with {server} broke before everything was acknowledged")]
    Transport {
        /// Host and port.
        server: String,
        /// What broke it.
        source: io::Error,
    },
    /// Nobody is there for whom something is to be sent.
    #[error("{server} says that the primary host is not there; everything waits for it")]
    NobodyHears {
        /// Host and port.
        server: String,
    },
    /// The broker said no.
    #[error("{}", refused(.server, .to, .reason))]
    Refused {
        /// Host and port.
        server: String,
        /// To what.
        to: To,
        /// Why.
        reason: Reason,
    },
    /// A message is larger than the broker takes.
    #[error("{server} takes {most} bytes at once, and a message to {topic} has {bytes}")]
    TooLarge {
        /// Host and port.
        server: String,
        /// Of the message.
        topic: String,
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        most: usize,
        /// Whether it holds readings; others cannot be made smaller.
        is_of_post: bool,
    },
    /// There is no such packet.
    #[error("{what} does not fit into a packet")]
    NoPacket {
        /// What was to be in it.
        what: String,
    },
}

/// What a reason of a broker means.
struct Meaning {
    code: u8,
    text: &'static str,
    kind: &'static str,
    verdict: Verdict,
}

const LATER: Verdict = Verdict::Later { after: None, late: false };

/// What is not here has the meaning of [`OTHER`].
const MEANINGS: [Meaning; 24] = {
    const fn us(code: u8, kind: &'static str, text: &'static str) -> Meaning {
        Meaning { code, text, kind, verdict: Verdict::RefusedUs }
    }
    const fn later(code: u8, kind: &'static str, text: &'static str) -> Meaning {
        Meaning { code, text, kind, verdict: LATER }
    }
    const fn part(code: u8, text: &'static str) -> Meaning {
        Meaning { code, text, kind: "refused", verdict: Verdict::RefusedPart }
    }
    [
        later(0x81, "transport", "malformed packet"),
        later(0x82, "transport", "protocol error"),
        us(0x84, "version", "it does not speak this version of MQTT; write version: 3.1.1 (or 5)"),
        us(0x85, "client_id", "it does not take the client id; set client_id"),
        us(0x86, "login", "bad user name or password; check username and password_file"),
        us(0x87, "login", "not authorized; check username and password_file, and which topics they may publish to"),
        later(0x88, "server", "server unavailable"),
        later(0x89, "server", "server busy"),
        us(0x8A, "login", "this client is banned; ask whoever keeps the broker"),
        later(0x8B, "server", "server shutting down"),
        us(0x8C, "login", "bad authentication method; it wants another one than user name and password"),
        later(0x8D, "server", "it heard nothing from us for too long"),
        us(0x8E, "taken_over", "another client came with the same client id; give each its own client_id"),
        part(0x90, "topic name invalid"),
        later(0x91, "transport", "packet identifier in use"),
        later(0x93, "transport", "receive maximum exceeded"),
        Meaning { code: 0x95, text: "packet too large", kind: "too_large", verdict: Verdict::TooLarge },
        later(0x96, "server", "message rate too high"),
        later(0x97, "server", "quota exceeded"),
        part(0x99, "payload format invalid"),
        us(0x9A, "retain", "it keeps no retained messages, which the last will is; another broker is needed"),
        us(0x9B, "qos", "it takes no messages of QoS 1, so nothing would be acknowledged; another broker is needed"),
        us(0x9C, "not_found", "use another server; check url"),
        us(0x9D, "not_found", "the server has moved; check url"),
    ]
};

/// Unspecified, or specific to the implementation.
const OTHER: Meaning = Meaning { code: 0x80, text: "its log may know why", kind: "server", verdict: LATER };

fn meaning(reason: &Reason) -> &'static Meaning {
    MEANINGS.iter().find(|meaning| meaning.code == reason.code).unwrap_or(&OTHER)
}

fn refused(server: &str, to: &To, reason: &Reason) -> String {
    let what = match to {
        To::Login => "the login".to_owned(),
        To::Subscription => "a subscription".to_owned(),
        To::Message(topic) => format!("a message to {}", printable(topic.as_bytes())),
        To::Connection => "to go on".to_owned(),
    };
    let said = reason.said.as_ref().map(|said| format!(": \"{}\"", printable(said.as_bytes())));
    format!(
        "{server} refused {what} with reason 0x{:02X} ({}){}",
        reason.code,
        meaning(reason).text,
        said.unwrap_or_default()
    )
}

impl MqttError {
    /// What follows from it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Timeout { .. } => Verdict::Later { after: None, late: true },
            Self::Connect { source, .. } if source.is_about_us() => Verdict::RefusedUs,
            Self::Connect { .. } | Self::Transport { .. } | Self::NobodyHears { .. } => LATER,
            Self::TooLarge { is_of_post: true, .. } => Verdict::TooLarge,
            Self::TooLarge { is_of_post: false, .. } => Verdict::RefusedUs,
            Self::NoPacket { .. } => Verdict::RefusedPart,
            Self::Refused { to, reason, .. } => match (to, meaning(reason).verdict) {
                // What is wrong with this message, the broker does not say: it may be the message.
                (To::Message(_), LATER) if meaning(reason).code == OTHER.code => Verdict::RefusedBody,
                // There is no message yet: it is the last will.
                (To::Login, Verdict::RefusedPart | Verdict::TooLarge) | (To::Subscription, _) => Verdict::RefusedUs,
                (_, verdict) => verdict,
            },
        }
    }

    /// The name under which it is counted.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connect { source, .. } => source.kind(),
            Self::Timeout { .. } => "timeout",
            Self::Transport { .. } => "transport",
            Self::NobodyHears { .. } => "primary_host",
            Self::TooLarge { .. } => "too_large",
            Self::NoPacket { .. } => "refused",
            Self::Refused { .. } if self.verdict() == Verdict::RefusedBody => "refused",
            Self::Refused { reason, .. } => meaning(reason).kind,
        }
    }
}

impl From<MqttError> for Failure {
    fn from(error: MqttError) -> Self {
        Self::new(error.verdict(), error.kind(), Chain(&error).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(to: To, code: u8) -> Failure {
        let reason = Reason { code, said: Some("no \u{1b}[31m".to_owned()) };
        MqttError::Refused { server: "broker.example.net:1883".to_owned(), to, reason }.into()
    }

    #[test]
    fn each_reason_says_what_follows_from_it() {
        let message = || To::Message("modbus/a/b".to_owned());
        for (to, code, verdict, kind) in [
            (To::Login, 0x80, LATER, "server"),
            (To::Login, 0x84, Verdict::RefusedUs, "version"),
            (To::Login, 0x85, Verdict::RefusedUs, "client_id"),
            (To::Login, 0x86, Verdict::RefusedUs, "login"),
            (To::Login, 0x87, Verdict::RefusedUs, "login"),
            (To::Login, 0x88, LATER, "server"),
            (To::Login, 0x89, LATER, "server"),
            (To::Login, 0x90, Verdict::RefusedUs, "refused"),
            (To::Login, 0x95, Verdict::RefusedUs, "too_large"),
            (To::Login, 0x9F, LATER, "server"),
            (message(), 0x80, Verdict::RefusedBody, "refused"),
            (message(), 0x83, Verdict::RefusedBody, "refused"),
            (message(), 0x87, Verdict::RefusedUs, "login"),
            (message(), 0x90, Verdict::RefusedPart, "refused"),
            (message(), 0x97, LATER, "server"),
            (message(), 0x99, Verdict::RefusedPart, "refused"),
            (To::Connection, 0x8B, LATER, "server"),
            (To::Connection, 0x8E, Verdict::RefusedUs, "taken_over"),
            (To::Connection, 0x95, Verdict::TooLarge, "too_large"),
            (To::Connection, 0x80, LATER, "server"),
        ] {
            let failure = refused(to.clone(), code);
            assert_eq!((failure.verdict, failure.kind), (verdict, kind), "{to:?} {code:x}");
            assert!(failure.text.contains(&format!("0x{code:02X}")), "{}", failure.text);
            assert!(failure.text.contains("\"no \\u{1b}[31m\""), "{}", failure.text);
        }
    }
}
