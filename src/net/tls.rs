//! TLS, for Modbus/TCP Security and for servers: who we are, whom we believe, and the handshake. The only file that
//! names `tokio_rustls`.
//!
//! A peer is believed when its certificate is signed by one of the given authorities and is for the name that
//! is expected, or when it is the very certificate that is pinned ([`Pin`]); there is no way to switch that off, and none
//! to go on in plain. A pin stands for a certificate that no authority has signed: its name and dates are not looked at,
//! but the peer must prove that it has the key, as with any other. Our own certificate is shown to a peer that asks
//! for it. TLS 1.2 and 1.3.
//!
//! Keys and certificates are PEM, read by others: nothing here touches a file. Two credentials are equal when
//! they were made of the same bytes.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
pub use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};

use super::error::Insecure;
use crate::digest::sha256;

/// Whom we believe, and who we are.
pub struct Credentials {
    config: Arc<ClientConfig>,
    /// What it was made of.
    pem: Pem,
}

/// The SHA-256 of a certificate, its whole DER: 64 hexadecimal digits, with or without colons.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

/// What is no [`Pin`].
#[derive(Debug, Error)]
#[error("no SHA-256 of a certificate")]
pub struct NoPin;

impl Pin {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(sha256(&[certificate]))
    }
}

impl FromStr for Pin {
    type Err = NoPin;

    fn from_str(text: &str) -> Result<Self, NoPin> {
        let mut digits = text.chars().filter(|digit| *digit != ':').map(|digit| digit.to_digit(16));
        let mut pin = [0; 32];
        for byte in &mut pin {
            let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else { return Err(NoPin) };
            *byte = u8::try_from(high << 4 | low).map_err(|_| NoPin)?;
        }
        if digits.next().is_some() { Err(NoPin) } else { Ok(Self(pin)) }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

/// What makes a peer one to believe.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Trust {
    /// One of these certificates, in PEM, has signed its own, for the name that is expected.
    Authority(Vec<u8>),
    /// It has this certificate.
    Pin(Pin),
    /// One of these, which this machine believes, has signed its own, for the name that is expected. DER.
    System(Vec<Vec<u8>>),
}

/// The contents of the files.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pem {
    /// Whom we believe.
    pub trust: Trust,
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

/// The credentials for one peer, and the name by which it is known to its authority.
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
        let unusable = |error: rustls::Error| CredentialsError::Ca(io::Error::other(error));
        // Named here: without it rustls takes one that the process has installed, and panics when there is none.
        let provider = Arc::new(ring::default_provider());
        let authority = match &pem.trust {
            Trust::Pin(pin) => Err(*pin),
            trusted => {
                let mut roots = RootCertStore::empty();
                match trusted {
                    Trust::Authority(ca) => {
                        for certificate in certificates(ca).map_err(CredentialsError::Ca)? {
                            roots.add(certificate).map_err(unusable)?;
                        }
                    }
                    Trust::System(ders) => {
                        // A machine has some of those that no library takes.
                        roots.add_parsable_certificates(ders.iter().map(|der| CertificateDer::from_slice(der)));
                    }
                    Trust::Pin(_) => {}
                }
                let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
                Ok(verifier.build().map_err(|error| CredentialsError::Ca(io::Error::other(error)))?)
            }
        };
        let verifier = Verifier { authority, provider: Arc::clone(&provider) };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            // The library calls every verifier of one's own so. Ours leaves the verdict to the library's, or to the
            // pin.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
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

/// Looks at a certificate, and says which one it is when it is refused.
#[derive(Debug)]
struct Verifier {
    /// The library's own verifier, or the only certificate that is taken.
    authority: Result<Arc<WebPkiServerVerifier>, Pin>,
    provider: Arc<CryptoProvider>,
}

/// Why a certificate was refused, and which it was.
#[derive(Debug, Error)]
#[error("{error}")]
struct RefusedCertificate {
    error: rustls::Error,
    pin: Pin,
    is_pinned: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pin = Pin::of(end_entity);
        let refused = match &self.authority {
            Ok(authority) => {
                match authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                    Ok(verified) => return Ok(verified),
                    Err(error) => RefusedCertificate { error, pin, is_pinned: false },
                }
            }
            Err(pinned) if *pinned == pin => return Ok(ServerCertVerified::assertion()),
            Err(_) => {
                let error = CertificateError::ApplicationVerificationFailure.into();
                RefusedCertificate { error, pin, is_pinned: true }
            }
        };
        Err(CertificateError::Other(OtherError(Arc::new(refused))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // For a pinned certificate too: certificates are public, and only this shows that the peer has the key.
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
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
    /// For the peer that its authority calls `name`: a host name, or an address.
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
    ///
    /// # Errors
    /// When the peer is not believed, does not believe us, or is late.
    pub async fn shake_hands<S>(&self, stream: S, deadline: Instant) -> Result<TlsStream<S>, Insecure>
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

/// What TLS says of a failure.
///
/// # Errors
/// The error itself when it is none of TLS.
pub fn failure(error: io::Error) -> Result<Insecure, io::Error> {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let failure = match of_tls {
        None => return Err(error),
        Some(InvalidCertificate(CertificateError::Other(OtherError(other)))) => {
            match other.downcast_ref::<RefusedCertificate>() {
                Some(refused) => of_certificate(refused),
                None => Insecure::Other(error),
            }
        }
        // The signature of the handshake: it does not have the key.
        Some(InvalidCertificate(_)) => Insecure::Certificate(error),
        Some(InvalidMessage(_)) => Insecure::NotTls(error),
        Some(AlertReceived(alert)) if is_about_us(*alert) => Insecure::Refused(error),
        Some(_) => Insecure::Other(error),
    };
    Ok(failure)
}

fn of_certificate(refused: &RefusedCertificate) -> Insecure {
    use rustls::Error::InvalidCertificate;
    let (pin, source) = (refused.pin, io::Error::other(refused.error.clone()));
    match &refused.error {
        _ if refused.is_pinned => Insecure::OtherPin { pin },
        InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Insecure::Expired(source)
        }
        InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            Insecure::NotYetValid(source)
        }
        InvalidCertificate(CertificateError::UnknownIssuer) => Insecure::UnknownIssuer { pin, source },
        InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            Insecure::OtherName { pin, source }
        }
        // Above all CaUsedAsEndEntity: self-made certificates say CA:TRUE.
        _ => Insecure::SelfMade { pin, source },
    }
}

/// Whether the peer complains of our certificate, or that there is none.
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
