//! Modbus/TCP Security: who we are, whom we believe, and the handshake. The only file that names `tokio_rustls`.
//!
//! A device is believed when its certificate is signed by one of the given authorities and is for the name that
//! is expected; there is no way to switch that off, and none to go on in plain. Our own certificate is shown to
//! a device that asks for it. TLS 1.2 and 1.3.
//!
//! Keys and certificates are PEM, read by others: nothing here touches a file. Two credentials are equal when
//! they were made of the same bytes.

use std::fmt;
use std::io;
use std::sync::Arc;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, ClientConfig, RootCertStore};

use crate::modbus::error::Insecure;

/// Whom we believe, and who we are.
pub struct Credentials {
    config: Arc<ClientConfig>,
    /// What it was made of.
    pem: Pem,
}

/// The contents of the files.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pem {
    /// Certificates of those who sign for devices.
    pub ca: Vec<u8>,
    /// Our certificate with those between it and its authority, and its key; none to show none.
    pub own: Option<(Vec<u8>, Vec<u8>)>,
}

/// Why there are no credentials.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// No certificate in the first file.
    #[error("there is no certificate in it that can be used")]
    Ca(#[source] io::Error),
    /// No certificate in the second.
    #[error("there is no certificate in it that can be used")]
    Certificate(#[source] io::Error),
    /// No key in the third.
    #[error("there is no private key in it that can be used; allowed is one in PEM, without a password")]
    Key(#[source] io::Error),
    /// Both are there and do not belong together.
    #[error("this key is not that of tls.certificate")]
    Pair(#[source] io::Error),
}

/// What a name must be to be expected in a certificate.
#[derive(Debug, Error)]
#[error("no certificate can be for this name")]
pub struct NoServerName;

/// The credentials for one device, and the name by which it is known to its authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    credentials: Arc<Credentials>,
    name: ServerName<'static>,
}

impl Credentials {
    /// Of the contents of the files.
    ///
    /// # Errors
    /// When one of them is not what it should be.
    pub fn new(pem: Pem) -> Result<Self, CredentialsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&pem.ca).map_err(CredentialsError::Ca)? {
            roots.add(certificate).map_err(|error| CredentialsError::Ca(io::Error::other(error)))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| CredentialsError::Ca(io::Error::other(error)))?
            .with_root_certificates(roots);
        let config = match &pem.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate).map_err(CredentialsError::Certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| CredentialsError::Key(plain(error)))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| pair(&error))?
            }
        };
        Ok(Self { config: Arc::new(config), pem })
    }
}

fn certificates(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(plain)?;
    if found.is_empty() { Err(plain(pem::Error::NoItemsFound)) } else { Ok(found) }
}

fn plain(error: pem::Error) -> io::Error {
    io::Error::other(error)
}

fn pair(error: &rustls::Error) -> CredentialsError {
    let source = io::Error::other(error.clone());
    match error {
        rustls::Error::InconsistentKeys(_) => CredentialsError::Pair(source),
        rustls::Error::InvalidCertificate(_) => CredentialsError::Certificate(source),
        _ => CredentialsError::Key(source),
    }
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.pem == other.pem
    }
}

impl Eq for Credentials {}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("own", &self.pem.own.is_some()).finish_non_exhaustive()
    }
}

impl Tls {
    /// For the device that its authority calls `name`: a host name, or an address.
    ///
    /// # Errors
    /// When no certificate can be for such a name.
    pub fn new(credentials: Arc<Credentials>, name: &str) -> Result<Self, NoServerName> {
        // The zone of an address is nobody's but ours.
        let name = name.split_once('%').map_or(name, |(address, _)| address);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| NoServerName)?;
        Ok(Self { credentials, name })
    }

    /// The name that is expected.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.to_str().into_owned()
    }

    /// A secure connection over `stream`, until `deadline`.
    pub(super) async fn shake_hands<S>(&self, stream: S, deadline: Instant) -> Result<TlsStream<S>, Insecure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let begun = Instant::now();
        let connector = TlsConnector::from(Arc::clone(&self.credentials.config));
        match timeout_at(deadline, connector.connect(self.name.clone(), stream)).await {
            Ok(result) => result.map_err(|error| failure(error).unwrap_or_else(Insecure::Cut)),
            Err(_elapsed) => Err(Insecure::Timeout(begun.elapsed())),
        }
    }
}

/// What TLS says of a failure; the error itself when it is none of TLS.
pub(super) fn failure(error: io::Error) -> Result<Insecure, io::Error> {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let failure = match of_tls {
        None => return Err(error),
        Some(InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            Insecure::Expired(error)
        }
        Some(InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })) => {
            Insecure::NotYetValid(error)
        }
        Some(InvalidCertificate(CertificateError::UnknownIssuer)) => Insecure::UnknownIssuer(error),
        Some(InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => Insecure::OtherName(error),
        Some(InvalidCertificate(_)) => Insecure::Certificate(error),
        Some(InvalidMessage(_)) => Insecure::NotTls(error),
        Some(AlertReceived(alert)) if is_about_us(*alert) => Insecure::Refused(error),
        Some(_) => Insecure::Other(error),
    };
    Ok(failure)
}

/// Whether a device complains of our certificate, or that there is none.
fn is_about_us(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::NoCertificate
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            | A::CertificateRequired
    )
}
