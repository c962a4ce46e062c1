//! Who an agent is, what a series is, and the checksum by which the server knows the series.
//!
//! A series at the server is (agent id, host name, unit, target, program, key, data type). Change one of
//! them and its chart starts anew, so everything here reproduces the original agent to the byte; interval
//! and multiplier are not part of it. The types cannot hold what the server's ingester dies of: a text over
//! [`MAX_TEXT_BYTES`], or an interval that is not a whole number of milliseconds below 2³². Whoever
//! configures such a thing gets an [`IdentityError`] before anything is polled.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::digest::sha256;
use crate::reading::points::Kind;

/// The program name that is part of every series of this agent, and of every file name the original chose.
pub const PROGRAM: &str = "pattoo_agent_modbustcpd";

/// The longest text, in bytes of UTF-8, that the server's database takes.
pub const MAX_TEXT_BYTES: usize = 512;

/// Why something cannot be part of a series.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IdentityError {
    /// Not 64 hex digits.
    #[error("an agent id is 64 hex digits, but this is {0:?}")]
    AgentId(String),
    /// A text longer than the database takes.
    #[error("the {what} is {bytes} bytes long, the server takes at most {MAX_TEXT_BYTES}: {start:?}…")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// How it begins.
        start: String,
    },
    /// An interval that the server cannot store.
    #[error("an interval of {0:?} is not a whole number of milliseconds from 1 to 4294967295")]
    Interval(Duration),
}

/// The 64 hex digits that are this agent at the server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AgentId(String);

impl AgentId {
    /// The id that spells these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(text(hex(bytes)))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentId {
    type Err = IdentityError;

    /// White space around the digits is ignored; their case is kept, for it is part of every checksum.
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let digits = text.trim();
        if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Self(digits.to_owned()))
        } else {
            Err(IdentityError::AgentId(start(digits)))
        }
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// This agent: the part of the identity that all its series share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    id: AgentId,
    hostname: String,
    program: String,
}

impl Agent {
    /// The agent `id` on the host that the server knows as `hostname`.
    ///
    /// # Errors
    /// When the host name is too long for the server.
    pub fn new(id: AgentId, hostname: impl Into<String>) -> Result<Self, IdentityError> {
        let hostname = fitting("host name", hostname.into())?;
        Ok(Self { id, hostname, program: PROGRAM.to_owned() })
    }

    /// The same agent as another program than this crate's.
    ///
    /// # Errors
    /// When the name is too long for the server.
    pub fn of_program(self, program: impl Into<String>) -> Result<Self, IdentityError> {
        Ok(Self { program: fitting("program", program.into())?, ..self })
    }

    /// The program that it is.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &AgentId {
        &self.id
    }

    /// Its host name.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.hostname
    }
}

/// The server's number for a kind of values: its `pattoo_data_type`.
#[must_use]
pub fn code(kind: Kind) -> u8 {
    match kind {
        // Every 16-bit register, whatever its multiplier, and everything else that is no float.
        Kind::Integer => 99,
        Kind::Float => 101,
        // Charted as a rate.
        Kind::Counter => 32,
        Kind::Counter64 => 64,
    }
}

/// One configured value of one device, as the server sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    target: String,
    key: String,
    unit: u8,
    kind: Kind,
    interval: Duration,
}

impl Series {
    /// The series `key` (`input_register_30387`) of the device configured as `target`, polled each `interval`.
    ///
    /// # Errors
    /// When a text is too long for the server or the interval is none that it can store.
    pub fn new(
        target: impl Into<String>,
        key: impl Into<String>,
        unit: u8,
        kind: Kind,
        interval: Duration,
    ) -> Result<Self, IdentityError> {
        wire_millis(interval)?;
        Ok(Self {
            target: fitting("ip_device", target.into())?,
            key: fitting("key", key.into())?,
            unit,
            kind,
            interval,
        })
    }

    /// The device as configured.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Its name at the server.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The unit as the server knows it: three digits.
    #[must_use]
    pub fn unit(&self) -> String {
        format!("{:03}", self.unit)
    }

    /// What kind of values it has.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The time between two of its readings.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Whether `other` is at most another value of the same device.
    #[must_use]
    pub(super) fn differs_only_in_key(&self, other: &Self) -> bool {
        let Self { target, key: _, unit, kind, interval } = self;
        (target, unit, kind, interval) == (&other.target, &other.unit, &other.kind, &other.interval)
    }

    /// What the server recognises the series by, when `agent` posts it: 64 lower-case hex digits.
    #[must_use]
    pub fn checksum(&self, agent: &Agent) -> String {
        let code = code(self.kind).to_string();
        // The order, and hex text between the steps, are the original's: the server knows a series by this sum, and
        // another one would begin every chart anew.
        let seed = hex(sha256(&[self.key.as_bytes(), code.as_bytes()]));
        let sum = [
            ("unit", self.unit().as_str()),
            ("pattoo_agent_hostname", &agent.hostname),
            ("pattoo_agent_id", agent.id.as_str()),
            ("pattoo_agent_polled_target", &self.target),
            ("pattoo_agent_program", &agent.program),
        ]
        .into_iter()
        .fold(seed, |sum, (key, value)| hex(sha256(&[&sum, key.as_bytes(), value.as_bytes()])));
        text(sum)
    }
}

/// An interval in the server's unit.
///
/// # Errors
/// When it is none that the server can store.
pub fn wire_millis(interval: Duration) -> Result<u32, IdentityError> {
    u32::try_from(interval.as_millis())
        .ok()
        .filter(|&ms| ms > 0 && Duration::from_millis(ms.into()) == interval)
        .ok_or(IdentityError::Interval(interval))
}

fn text(digits: [u8; 64]) -> String {
    digits.into_iter().map(char::from).collect()
}

/// Bytes as lower-case hex digits.
fn hex(bytes: [u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    for (digits, byte) in text.chunks_exact_mut(2).zip(bytes) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

fn fitting(what: &'static str, text: String) -> Result<String, IdentityError> {
    if text.len() <= MAX_TEXT_BYTES {
        return Ok(text);
    }
    Err(IdentityError::TooLong { what, bytes: text.len(), start: start(&text) })
}

/// Enough of a text to recognise it by.
fn start(text: &str) -> String {
    text.chars().take(70).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const ID: &str = "4cdcccc044dedbd932ee13e96766dd477f9f5b460a7a742e154647028461de04";

    #[test]
    fn the_checksum_is_the_originals() {
        let agent = Agent::new(ID.parse().unwrap(), "modbus-gw.example.net").unwrap();
        let cases = [
            ("input_register_30387", "2bfa791598aa9f1fb6179520c8b38e5fa8307ec68412f5513e9484fe7175a254"),
            ("holding_register_40123", "cfa45cfe0a584eae1e0dcbdf2c0ad1694a1bbaa6ba056f53e52377ced2201a48"),
        ];
        for (key, checksum) in cases {
            let series = Series::new("127.0.0.2", key, 0, Kind::Integer, MINUTE).unwrap();
            assert_eq!(series.checksum(&agent), checksum, "{key}");
        }
    }

    #[test]
    fn an_agent_id_is_64_hex_digits_with_white_space_around_them_at_most() {
        for text in [ID.to_owned(), format!("{ID}\n"), format!(" \t{ID}\r\n")] {
            assert_eq!(text.parse::<AgentId>().unwrap().as_str(), ID);
        }
        let upper = ID.to_uppercase();
        assert_eq!(upper.parse::<AgentId>().unwrap().to_string(), upper);
        for text in ["", "\n", &ID[1..], &format!("{ID}0"), &ID.replace('4', "g"), &ID.replace('4', " ")] {
            assert!(text.parse::<AgentId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_text_of_512_bytes_fits_and_one_of_513_does_not_whatever_its_characters() {
        let fits = ["x".repeat(512), "ü".repeat(256)];
        let does_not = ["x".repeat(513), "ü".repeat(257)];
        let id: AgentId = ID.parse().unwrap();
        for (texts, ok) in [(fits, true), (does_not, false)] {
            for text in texts {
                let series = |target: &str, key: &str| Series::new(target, key, 0, Kind::Integer, MINUTE).is_ok();
                assert_eq!(series(&text, "k"), ok);
                assert_eq!(series("t", &text), ok);
                assert_eq!(Agent::new(id.clone(), text).is_ok(), ok);
            }
        }
    }

    #[test]
    fn an_interval_is_whole_milliseconds_below_two_to_the_32() {
        let ms = Duration::from_millis;
        for (interval, wire) in [
            (ms(1), Some(1)),
            (ms(300_000), Some(300_000)),
            (ms(4_294_967_295), Some(u32::MAX)),
            (ms(4_294_967_296), None),
            (Duration::MAX, None),
            (Duration::ZERO, None),
            (Duration::from_micros(1_500), None),
        ] {
            assert_eq!(wire_millis(interval).ok(), wire, "{interval:?}");
        }
    }

    #[test]
    fn a_unit_has_three_digits() {
        for (unit, text) in [(0, "000"), (3, "003"), (255, "255")] {
            let series = Series::new("t", "k", unit, Kind::Integer, MINUTE).unwrap();
            assert_eq!(series.unit(), text);
        }
    }
}
