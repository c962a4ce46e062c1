//! An `ip_device` as configured, read as what to connect to: a host and port, or a serial port of this machine.
//!
//! Refuses what cannot be an address. The text itself stays with the series (it is the polled target at
//! the server); an [`Endpoint`] is what is shared by all texts that mean the same. Which port of a host that is
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

/// What a text begins with that means a serial port; the path follows.
const SERIAL: &str = "serial:";

/// A serial port, or a host and the port if it was spelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// As in [`Endpoint::Tcp`].
    Tcp(String, Option<u16>),
    /// As in [`Endpoint::Serial`].
    Serial(String),
}

/// One connection's worth of devices: what has requests one after the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// Over the network.
    Tcp {
        /// A name in lower case, or an IPv4 or IPv6 address without brackets.
        host: String,
        /// TCP port, never 0.
        port: u16,
    },
    /// A line that begins at this machine.
    Serial {
        /// The device file.
        path: String,
    },
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
    /// A serial port with something behind it.
    #[error("the speed and the parity of a serial port are settings (baud, parity, stop_bits), no part of its name")]
    SerialSettings,
    /// Longer than the server stores.
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
}

impl Address {
    /// What to connect to when a host listens on `port` unless it says otherwise.
    #[must_use]
    pub fn endpoint(&self, port: u16) -> Endpoint {
        match self.clone() {
            Self::Tcp(host, spelled) => Endpoint::Tcp { host, port: spelled.unwrap_or(port) },
            Self::Serial(path) => Endpoint::Serial { path },
        }
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
        if let Some(path) = text.strip_prefix(SERIAL).filter(|path| path.starts_with('/')) {
            return serial(path);
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
            // `parse` alone would take +502 as well.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok().filter(|port| *port != 0).ok_or(EndpointError::Port)?)
            }
            Some(_) => return Err(EndpointError::Port),
        };
        // Names have no case, and two spellings of one must share a connection.
        Ok(Self::Tcp(host.to_lowercase(), port))
    }
}

/// The device file of a serial port.
fn serial(path: &str) -> Result<Address, EndpointError> {
    let strange = |c: &char| c.is_whitespace() || c.is_control() || "\\\"'<>".contains(*c);
    match path.chars().find(strange) {
        Some(character) => Err(EndpointError::Character(character)),
        None if path.contains(['?', '#', '&', '=']) => Err(EndpointError::SerialSettings),
        None => Ok(Address::Serial(path.to_owned())),
    }
}

/// An address, perhaps with a zone (`fe80::1%eth0`).
fn ipv6(host: &str) -> Result<&str, EndpointError> {
    let address = host.split_once('%').map_or(host, |(address, _)| address);
    address.parse::<Ipv6Addr>().map(|_| host).map_err(|_| EndpointError::Ipv6)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Serial { path } => write!(f, "{SERIAL}{path}"),
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
            (" 192.0.2.20:1502 ", Ok(("192.0.2.20", 1502))),
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
            let expected = expected.map(|(host, port): (&str, u16)| Endpoint::Tcp { host: host.to_owned(), port });
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!("x".repeat(513).parse::<Endpoint>(), Err(EndpointError::TooLong));
    }

    #[test]
    fn a_serial_port_is_its_device_file_and_nothing_else() {
        let serial = |path: &str| Ok(Endpoint::Serial { path: path.to_owned() });
        let cases = [
            ("serial:/dev/ttyUSB0", serial("/dev/ttyUSB0")),
            (" serial:/dev/serial/by-id/usb-A_B:1.0-port0 ", serial("/dev/serial/by-id/usb-A_B:1.0-port0")),
            ("serial:/dev/ttyUSB0?baud=9600&parity=even", Err(EndpointError::SerialSettings)),
            ("serial:/dev/tty USB0", Err(EndpointError::Character(' '))),
            // Hosts.
            ("serial:502", Ok(Endpoint::Tcp { host: "serial".to_owned(), port: 502 })),
            ("serial:ttyUSB0", Err(EndpointError::Port)),
            ("serial:", Err(EndpointError::Port)),
            ("/dev/ttyUSB0", Err(EndpointError::Character('/'))),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Endpoint>(), expected, "{text}");
        }
    }

    #[test]
    fn an_endpoint_reads_back_what_it_shows() {
        for text in ["a:502", "[2001:db8::7]:502", "192.0.2.20:1502", "serial:/dev/ttyS0"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }
}
