//! An `ip_device` as configured, read as the host and port to connect to.
//!
//! Refuses what cannot be an address. The text itself stays with the series (it is the polled target at
//! the server); an [`Endpoint`] is what is shared by all texts that mean the same host and port. Which port that is
//! without a word depends on how the device is talked to, so that a text alone is an [`Address`] only.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

/// The port of Modbus TCP.
pub const DEFAULT_PORT: u16 = 502;

/// The port of Modbus/TCP Security.
pub const SECURE_PORT: u16 = 802;

/// The server stores no longer text.
const MAX_BYTES: usize = 512;

/// A host, and the port if it was spelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: Option<u16>,
}

/// A host (name in lower case, IPv4 or IPv6 address without brackets) and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// TCP port, never 0.
    pub port: u16,
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// Nothing, or nothing before the port.
    #[error("there is no host in it")]
    NoHost,
    /// A URL.
    #[error("it is a URL; write only the host, or host:port")]
    Url,
    /// White space, a control character, or something else that no host has.
    #[error("{0:?} cannot be part of a host")]
    Character(char),
    /// The part behind the last colon is no port.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// Several colons, but no IPv6 address.
    #[error("it has several colons but is no IPv6 address; with a port that is written [address]:port")]
    Ipv6,
    /// Longer than the server stores.
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
}

impl Address {
    /// What to connect to when a device listens on `port` unless it says otherwise.
    #[must_use]
    pub fn endpoint(&self, port: u16) -> Endpoint {
        Endpoint { host: self.host.clone(), port: self.port.unwrap_or(port) }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// That of a device that talks plain Modbus TCP.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Ok(text.parse::<Address>()?.endpoint(DEFAULT_PORT))
    }
}

impl FromStr for Address {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let text = text.trim();
        if text.len() > MAX_BYTES {
            return Err(EndpointError::TooLong);
        }
        if text.contains("://") {
            return Err(EndpointError::Url);
        }
        let strange = |c: &char| c.is_whitespace() || c.is_control() || "/\\?#@,;\"'<>".contains(*c);
        if let Some(character) = text.chars().find(strange) {
            return Err(EndpointError::Character(character));
        }
        let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(None) => return Err(EndpointError::Ipv6),
            Some(Some((host, ""))) => (ipv6(host)?, None),
            Some(Some((host, rest))) => (ipv6(host)?, Some(rest.strip_prefix(':').ok_or(EndpointError::Port)?)),
            None if text.matches(':').count() > 1 => (ipv6(text)?, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(EndpointError::NoHost);
        }
        let port = match port {
            None => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok().filter(|port| *port != 0).ok_or(EndpointError::Port)?)
            }
            Some(_) => return Err(EndpointError::Port),
        };
        Ok(Self { host: host.to_lowercase(), port })
    }
}

/// An address, perhaps with a zone (`fe80::1%eth0`).
fn ipv6(host: &str) -> Result<&str, EndpointError> {
    let address = host.split_once('%').map_or(host, |(address, _)| address);
    address.parse::<Ipv6Addr>().map(|_| host).map_err(|_| EndpointError::Ipv6)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_a_host_and_perhaps_a_port() {
        let cases = [
            ("test1.modbus.tcp.device.net", Ok(("test1.modbus.tcp.device.net", 502))),
            ("LocalHost", Ok(("localhost", 502))),
            (" 192.168.1.20:1502 ", Ok(("192.168.1.20", 1502))),
            ("2001:db8::7", Ok(("2001:db8::7", 502))),
            ("[2001:DB8::7]:1502", Ok(("2001:db8::7", 1502))),
            ("[2001:db8::7]", Ok(("2001:db8::7", 502))),
            ("fe80::1%eth0", Ok(("fe80::1%eth0", 502))),
            ("a:65535", Ok(("a", 65_535))),
            ("", Err(EndpointError::NoHost)),
            (":502", Err(EndpointError::NoHost)),
            ("a:", Err(EndpointError::Port)),
            ("a:0", Err(EndpointError::Port)),
            ("a:65536", Err(EndpointError::Port)),
            ("a:+1", Err(EndpointError::Port)),
            ("[::1]502", Err(EndpointError::Port)),
            ("[::1", Err(EndpointError::Ipv6)),
            ("1:2:3", Err(EndpointError::Ipv6)),
            ("[name]:502", Err(EndpointError::Ipv6)),
            ("tcp://a:502", Err(EndpointError::Url)),
            ("a b", Err(EndpointError::Character(' '))),
            ("a/b", Err(EndpointError::Character('/'))),
            ("a\u{7}", Err(EndpointError::Character('\u{7}'))),
        ];
        for (text, expected) in cases {
            let found = text.parse::<Endpoint>();
            let expected = expected.map(|(host, port): (&str, u16)| Endpoint { host: host.to_owned(), port });
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!("x".repeat(513).parse::<Endpoint>(), Err(EndpointError::TooLong));
    }

    #[test]
    fn an_endpoint_reads_back_what_it_shows() {
        for text in ["a:502", "[2001:db8::7]:502", "192.168.1.20:1502"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }
}
