//! Why there is no connection, or no secure one. What stands in a message is for a person who configures a device or an
//! output: it says what to look at next.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use super::tls::Pin;

/// Why no address of a host accepts.
#[derive(Debug, Error)]
pub enum DialError {
    /// The name has no address, or nobody could tell in time.
    #[error("cannot resolve {host}")]
    Resolve {
        /// The name as configured.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The last address that was tried refused, or no way leads to it.
    #[error("cannot connect to {address}")]
    Unreachable {
        /// The address.
        address: SocketAddr,
        /// What the network stack said.
        source: io::Error,
    },
    /// The last address that was tried did not answer.
    #[error("no connection to {address} within {}", about(.waited))]
    Timeout {
        /// The address.
        address: SocketAddr,
        /// This address's share of the time.
        waited: Duration,
    },
}

impl DialError {
    /// The name under which this is counted.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "resolve",
            Self::Unreachable { .. } => "unreachable",
            Self::Timeout { .. } => "connect_timeout",
        }
    }
}

/// Why there is no connection to a server.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No address of the server, or of its proxy, accepts.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The proxy makes no tunnel.
    #[error("the proxy {proxy} makes no tunnel")]
    Proxy {
        /// Host and port.
        proxy: String,
        /// Why.
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
            Self::Dial(_) => "connect",
            Self::Proxy { .. } => "proxy",
            Self::Tls { source, .. } => source.kind(),
        }
    }

    /// Whether only a person can mend it: the server is not believed, or does not believe us.
    #[must_use]
    pub fn is_about_us(&self) -> bool {
        let Self::Tls { source, .. } = self else { return false };
        // These may be the network's, and go away by themselves.
        !matches!(source, Insecure::Cut(_) | Insecure::Timeout(_) | Insecure::Other(_))
    }
}

/// Why a connection is not the secure one that it must be.
#[derive(Debug, Error)]
pub enum Insecure {
    /// Too old.
    #[error("its certificate has expired; it needs a new one, unless this machine's clock is wrong")]
    Expired(#[source] io::Error),
    /// Too new.
    #[error("its certificate is not valid yet; is this machine's clock right?")]
    NotYetValid(#[source] io::Error),
    /// Of an authority that we were not told of, or of none.
    #[error(
        "its certificate is signed by nobody in tls.ca; if it has made the certificate itself, compare the two there and set tls.pin to {pin}"
    )]
    UnknownIssuer {
        /// The SHA-256 of the certificate.
        pin: Pin,
        /// What TLS said.
        source: io::Error,
    },
    /// Of another peer, or of this one by a name that it is not configured with.
    #[error(
        "its certificate is for another name; tls.server_name says which one to expect. If there is none in it but the CN, compare the two there and set tls.pin to {pin}"
    )]
    OtherName {
        /// The SHA-256 of the certificate.
        pin: Pin,
        /// What TLS said.
        source: io::Error,
    },
    /// Not fit to be shown by a server: above all an authority's own.
    #[error(
        "its certificate is not one for a server (made by itself, CA:TRUE?); compare the two there and set tls.pin to {pin}"
    )]
    SelfMade {
        /// The SHA-256 of the certificate.
        pin: Pin,
        /// What TLS said.
        source: io::Error,
    },
    /// Another one than is pinned.
    #[error(
        "its certificate is not that of tls.pin; if it has a new one, compare the two there and set tls.pin to {pin}"
    )]
    OtherPin {
        /// The SHA-256 of the certificate that was shown.
        pin: Pin,
    },
    /// The peer does not prove that the certificate is its own.
    #[error("its certificate cannot be used")]
    Certificate(#[source] io::Error),
    /// What came is not TLS.
    #[error("it does not speak TLS; is this a port without it?")]
    NotTls(#[source] io::Error),
    /// The peer does not believe us.
    #[error("it refused us; it must know who signed tls.certificate")]
    Refused(#[source] io::Error),
    /// The connection ended before it was secure.
    #[error("the connection broke during the TLS handshake; does it speak TLS, and know who signed tls.certificate?")]
    Cut(#[source] io::Error),
    /// The handshake was not done in time.
    #[error("no whole TLS handshake within {0:?}; does it speak TLS?")]
    Timeout(Duration),
    /// Anything else, in the words of TLS.
    #[error("TLS failed")]
    Other(#[source] io::Error),
}

impl Insecure {
    /// The name under which this is counted.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Expired(_) => "tls_expired",
            Self::NotYetValid(_) => "tls_not_yet_valid",
            Self::UnknownIssuer { .. } => "tls_unknown_issuer",
            Self::OtherName { .. } => "tls_name",
            Self::SelfMade { .. } | Self::Certificate(_) => "tls_certificate",
            Self::OtherPin { .. } => "tls_pin",
            Self::NotTls(_) => "tls_none",
            Self::Refused(_) => "tls_refused",
            Self::Cut(_) => "tls_cut",
            Self::Timeout(_) => "tls_timeout",
            Self::Other(_) => "tls",
        }
    }
}

/// A duration as people say it: nobody waits to the nanosecond.
fn about(waited: &Duration) -> humantime::FormattedDuration {
    let hundredths = (*waited + Duration::from_millis(5)).as_millis() / 10;
    humantime::format_duration(Duration::from_millis(u64::try_from(hundredths * 10).unwrap_or(u64::MAX)))
}
