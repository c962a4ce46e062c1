//! What can go wrong between a request and its words, in two layers: the device said no ([`Exception`]),
//! or the link broke (everything else in [`ReadError`]).
//!
//! Owns the classification. [`ReadError::link_is_dead`] is what decides whether a connection lives on:
//! after a timeout or a frame that does not fit, a late reply would pass for the next answer, so only an
//! exception leaves it open. [`ReadError::kind`] is the name under which a failure is counted; once
//! published it does not change. No decision anywhere looks at a text.

use std::fmt;
use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::net::error::{DialError, Insecure};

/// Why a block was not read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The device received the request and refused it; the connection is as good as before.
    #[error("the device answered with an exception")]
    Exception(#[source] Exception),
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The whole reply was not there in time.
    #[error("no whole reply within {0:?}")]
    ResponseTimeout(Duration),
    /// End of file, or a reset.
    #[error("connection closed by the device after {received} bytes of its reply")]
    Closed {
        /// Bytes of the reply that had arrived.
        received: usize,
        /// Whether an earlier request on this connection had been answered.
        reused: bool,
        /// The error when it was a reset, none when it was an end of file.
        source: Option<io::Error>,
    },
    /// The connection turned out not to be the secure one that it must be.
    #[error("the secure connection failed")]
    Tls(#[source] Insecure),
    /// The network stack reported something else.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The device sent what is not the reply to this request.
    #[error("the reply does not fit the request")]
    Protocol(#[from] Violation),
    /// The request is none that reads. No byte of it was sent.
    #[error("a request with function code {function} was made; only 1 to 4, which read, are ever sent")]
    NotARead {
        /// Of the request.
        function: u8,
    },
    /// An earlier error, or a read that was abandoned, had closed this link.
    #[error("the link is closed")]
    LinkClosed,
}

impl ReadError {
    /// Whether the connection must not be used again: true for all but an exception. After a response timeout the
    /// link itself knows of one case more, `Link::may_ask_again`.
    #[must_use]
    pub fn link_is_dead(&self) -> bool {
        match self {
            // No wildcard below: whoever adds an error decides here whether the connection outlives it.
            Self::Exception(_) => false,
            Self::Connect(_)
            | Self::ResponseTimeout(_)
            | Self::Closed { .. }
            | Self::Tls(_)
            | Self::Io(_)
            | Self::Protocol(_)
            | Self::NotARead { .. }
            | Self::LinkClosed => true,
        }
    }

    /// Whether a connection that had worked turned out to be of no use before it was asked again: closed by
    /// the device, or holding bytes that nobody asked for.
    ///
    /// Devices close idle connections: that is no failure, and the request is to be sent once more on a
    /// new connection.
    #[must_use]
    pub fn is_stale_connection(&self) -> bool {
        matches!(self, Self::Closed { received: 0, reused: true, .. } | Self::Protocol(Violation::Unasked))
    }

    /// Whether no unit behind this connection can be asked: there is none, or not the secure one that must be.
    #[must_use]
    pub fn is_of_the_connection(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Tls(_))
    }

    /// Whether the device asks for patience: acknowledge (5) or busy (6).
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Exception(Exception { code: 5 | 6 }))
    }

    /// Whether the device refuses what was asked for and might not refuse less: illegal address (2) or value (3).
    #[must_use]
    pub fn is_about_the_request(&self) -> bool {
        // Not 4, which devices say of whatever they are asked while something ails them.
        matches!(self, Self::Exception(Exception { code: 2 | 3 }))
    }

    /// Whether a gateway says that it cannot reach the unit (10, 11): the connection is fine.
    #[must_use]
    pub fn unit_is_gone(&self) -> bool {
        matches!(self, Self::Exception(Exception { code: 10 | 11 }))
    }

    /// The name under which this is counted.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Exception(_) => "exception",
            Self::Connect(error) => error.kind(),
            Self::ResponseTimeout(_) => "response_timeout",
            Self::Closed { .. } => "closed",
            Self::Tls(insecure) => insecure.kind(),
            Self::Io(_) => "io",
            Self::Protocol(violation) => violation.kind(),
            Self::NotARead { .. } => "not_a_read",
            Self::LinkClosed => "link_closed",
        }
    }
}

/// Why there is no connection to an endpoint.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No address of the host accepts.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It is not there, no serial port, not ours, or cannot be set as the line wants it.
    #[error("cannot open the serial port {path}; is it there, and may the agent's user read and write it?")]
    SerialPort {
        /// The device file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is a connection, but no secure one.
    #[error("no secure connection to {host}")]
    Tls {
        /// The name as configured.
        host: String,
        /// What was wrong.
        source: Insecure,
    },
}

impl ConnectError {
    /// The name under which this is counted.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dial(error) => error.kind(),
            Self::SerialPort { .. } => "serial_port",
            Self::Tls { source, .. } => source.kind(),
        }
    }
}

/// How the bytes of a device differ from the reply that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// Of another request, or of a gateway that does not echo it.
    #[error(
        "transaction id {expected} expected, {found} found; if it never repeats that of the request, set ignore_transaction_id"
    )]
    TransactionId {
        /// Of the request.
        expected: u16,
        /// Of the reply.
        found: u16,
    },
    /// Not Modbus.
    #[error("protocol id 0 expected, {found} found")]
    ProtocolId {
        /// In the reply.
        found: u16,
    },
    /// The header announces too few or too many bytes.
    #[error("length {expected} expected, {found} found")]
    Length {
        /// Unit id and PDU for what was asked, or for an exception if it is one.
        expected: u16,
        /// In the header.
        found: u16,
    },
    /// Of another device behind the gateway.
    #[error("unit {expected} expected, {found} found; if it answers so whatever unit is asked, set ignore_unit_id")]
    Unit {
        /// Asked.
        expected: u8,
        /// Answering.
        found: u8,
    },
    /// Neither the function code asked for nor its exception.
    #[error("function code {expected} expected, {found} found")]
    Function {
        /// Of the request.
        expected: u8,
        /// Of the reply.
        found: u8,
    },
    /// Not two bytes for each register asked for.
    #[error("byte count {expected} expected, {found} found")]
    ByteCount {
        /// Of the registers asked for.
        expected: u16,
        /// Of the reply.
        found: u16,
    },
    /// Not what the device had sent, or not its frame.
    #[error("the checksum is wrong")]
    Checksum,
    /// Bytes that no request was waiting for: a second frame, or junk behind a reply.
    #[error("no bytes expected before the request, some found")]
    Unasked,
    /// Bytes on a serial line that are no frame of anybody.
    #[error(
        "no frame found in {bytes} bytes of noise; check termination and bias of the line, and its speed and parity"
    )]
    NoFrame {
        /// How many.
        bytes: usize,
    },
    /// Another client asked the same unit the same, so that a reply could be for either.
    #[error("another client asks unit {unit} on the same line; a serial line takes one client")]
    OtherClient {
        /// The unit.
        unit: u8,
    },
    /// More bytes without a request, or around a reply, than are thrown away.
    #[error("over {most} bytes came that nobody asked for; is this a Modbus device?")]
    Flood {
        /// How many are thrown away.
        most: usize,
    },
}

impl Violation {
    /// The name under which this is counted.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TransactionId { .. } => "transaction_id",
            Self::ProtocolId { .. } => "protocol_id",
            Self::Length { .. } => "length",
            Self::Unit { .. } => "unit",
            Self::Function { .. } => "function",
            Self::ByteCount { .. } => "byte_count",
            Self::Checksum => "checksum",
            Self::Unasked => "unasked",
            Self::NoFrame { .. } => "no_frame",
            Self::OtherClient { .. } => "other_client",
            Self::Flood { .. } => "flood",
        }
    }
}

/// An exception code: the device understood that it was asked and says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub struct Exception {
    /// As sent, also when the specification does not know it.
    pub code: u8,
}

impl Exception {
    /// The specification's words (Modbus Application Protocol 1.1b3, 7), if it knows the code.
    #[must_use]
    pub fn meaning(self) -> Option<&'static str> {
        Some(match self.code {
            1 => "illegal function",
            2 => "illegal data address",
            3 => "illegal data value",
            4 => "server device failure",
            5 => "acknowledge",
            6 => "server device busy",
            8 => "memory parity error",
            10 => "gateway path unavailable",
            11 => "gateway target device failed to respond",
            _ => return None,
        })
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.meaning() {
            Some(meaning) => write!(f, "exception {} ({meaning})", self.code),
            None => write!(f, "exception {}", self.code),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn an_exception_says_its_number_and_the_specifications_meaning() {
        let cases = [
            (0, "exception 0"),
            (1, "exception 1 (illegal function)"),
            (2, "exception 2 (illegal data address)"),
            (3, "exception 3 (illegal data value)"),
            (4, "exception 4 (server device failure)"),
            (5, "exception 5 (acknowledge)"),
            (6, "exception 6 (server device busy)"),
            (7, "exception 7"),
            (8, "exception 8 (memory parity error)"),
            (10, "exception 10 (gateway path unavailable)"),
            (11, "exception 11 (gateway target device failed to respond)"),
            (0x80, "exception 128"),
            (0xFF, "exception 255"),
        ];
        for (code, text) in cases {
            assert_eq!(Exception { code }.to_string(), text);
        }
    }

    #[test]
    fn only_a_used_connection_without_a_byte_of_the_reply_is_stale() {
        for (received, reused, stale) in [(0, true, true), (0, false, false), (1, true, false), (1, false, false)] {
            let error = ReadError::Closed { received, reused, source: None };
            assert_eq!(error.is_stale_connection(), stale, "{received} {reused}");
        }
        assert!(!ReadError::LinkClosed.is_stale_connection());
    }

    #[test]
    fn a_chain_says_each_thing_once() {
        let error = ReadError::from(Violation::Unit { expected: 3, found: 4 });
        let source = error.source().map(ToString::to_string);
        assert_eq!(error.to_string(), "the reply does not fit the request");
        let expected = "unit 3 expected, 4 found; if it answers so whatever unit is asked, set ignore_unit_id";
        assert_eq!(source.as_deref(), Some(expected));

        let error = ReadError::Exception(Exception { code: 2 });
        let source = error.source().map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("exception 2 (illegal data address)"));
    }
}
