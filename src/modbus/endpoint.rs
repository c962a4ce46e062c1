//! An `ip_device` as configured, read as the host and port to connect to.
//!
//! Refuses what cannot be an address. The text itself stays with the series (it is the polled target at
//! the server); an [`Endpoint`] is what is shared by all texts that mean the same host and port.

use std::fmt;

/// The port of Modbus TCP.
pub const DEFAULT_PORT: u16 = 502;

/// A host (name in lower case, IPv4 or IPv6 address without brackets) and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// TCP port, never 0.
    pub port: u16,
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
