//! The link over TLS, on a stream in memory: what differs from a bare one.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedKey, DnType, IsCa, KeyPair, date_time_ymd};
use rcgen::{Certificate, generate_simple_self_signed};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::sign;
use tokio_rustls::server::TlsStream;

use super::device::{RESPONSE, UNIT, holding, reply};
use crate::modbus::link::Link;
use crate::net::error::Insecure;
use crate::net::tls::{Credentials, Pem, Pin, Tls, Trust};

/// A device, and what we must have to believe it.
fn identity() -> (TlsAcceptor, Tls) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["plc.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let credentials = Credentials::new(Pem { trust: Trust::Authority(cert.pem().into_bytes()), own: None }).unwrap();
    (TlsAcceptor::from(Arc::new(server)), Tls::new(Arc::new(credentials), "plc.example").unwrap())
}

/// A link that has read one block.
async fn used() -> (Link, TlsStream<DuplexStream>) {
    let (near, far) = duplex(512);
    let (acceptor, tls) = identity();
    let (secure, device) = tokio::join!(tls.shake_hands(near, Instant::now() + RESPONSE), acceptor.accept(far));
    let (mut link, mut device) = (Link::over(secure.unwrap(), RESPONSE), device.unwrap());
    let block = holding(1);
    let (read, ()) = tokio::join!(link.read(&block), async {
        device.read_exact(&mut [0; 12]).await.unwrap();
        device.write_all(&reply(0, UNIT, 3, &[9])).await.unwrap();
        device.flush().await.unwrap();
    });
    assert_eq!(read.unwrap(), [9]);
    (link, device)
}

#[tokio::test]
async fn a_connection_that_ends_without_a_farewell_is_as_stale_as_any_that_was_closed() {
    let (mut link, device) = used().await;
    drop(device);
    let error = link.read(&holding(1)).await.unwrap_err();
    assert!(error.is_stale_connection(), "{error:?}");

    let (mut link, mut device) = used().await;
    device.shutdown().await.unwrap();
    let error = link.read(&holding(1)).await.unwrap_err();
    assert!(error.is_stale_connection(), "{error:?}");
}

#[tokio::test]
async fn what_is_tampered_with_on_its_way_is_a_failure_of_the_connection() {
    let (mut link, device) = used().await;
    let (mut bare, _) = device.into_inner();
    // A record of application data that nobody with the key has made.
    bare.write_all(&[&[23, 3, 3, 0, 32][..], &[7; 32]].concat()).await.unwrap();
    let error = link.read(&holding(1)).await.unwrap_err();
    assert!(error.is_of_the_connection(), "{error:?}");
    assert_eq!(link.read(&holding(1)).await.unwrap_err().kind(), "link_closed");
}

#[tokio::test]
async fn a_flood_is_closed_before_it_fills_more_than_a_record() {
    let (mut link, mut device) = used().await;
    let block = holding(1);
    let (read, sent) = tokio::join!(
        async {
            let read = link.read(&block).await;
            let again = link.read(&block).await;
            (read, again)
        },
        async {
            let (mut sent, flood) = (0, [0; 1024]);
            while device.write_all(&flood).await.is_ok() && device.flush().await.is_ok() {
                sent += flood.len();
            }
            sent
        }
    );
    assert!(read.0.is_err() && read.1.is_err(), "{read:?}");
    assert!(sent <= 64 * 1024, "{sent} bytes taken");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_hangs_ends_at_its_deadline() {
    let (near, _far) = duplex(4096);
    let (_, tls) = identity();
    let begun = Instant::now();
    let error = tls.shake_hands(near, begun + RESPONSE).await.unwrap_err();
    assert!(matches!(error, Insecure::Timeout(waited) if waited == RESPONSE), "{error:?}");
}

/// A certificate as devices make them for themselves.
fn self_made(change: impl FnOnce(&mut CertificateParams)) -> (Certificate, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "plc.example");
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

/// What comes of a handshake with a device that shows `certificate` and signs with `key`.
async fn handshake(trust: Trust, certificate: &Certificate, key: &KeyPair) -> Result<(), Insecure> {
    #[derive(Debug)]
    struct Shown(Arc<sign::CertifiedKey>);
    impl tokio_rustls::rustls::server::ResolvesServerCert for Shown {
        fn resolve(&self, _: tokio_rustls::rustls::server::ClientHello<'_>) -> Option<Arc<sign::CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let signing = ring::sign::any_supported_type(&key).unwrap();
    let shown = Shown(Arc::new(sign::CertifiedKey::new(vec![certificate.der().clone()], signing)));
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    let credentials = Credentials::new(Pem { trust, own: None }).unwrap();
    let tls = Tls::new(Arc::new(credentials), "plc.example").unwrap();
    let (near, far) = duplex(4096);
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let deadline = Instant::now() + RESPONSE;
    let (secure, _) = tokio::join!(tls.shake_hands(near, deadline), acceptor.accept(far));
    secure.map(|_| ())
}

fn pin_of(certificate: &Certificate) -> String {
    use std::fmt::Write as _;
    let digest = Sha256::digest(certificate.der());
    digest.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[tokio::test]
async fn a_certificate_that_the_device_has_made_itself_is_taken_by_its_pin_and_told_with_it() {
    let ca = self_made(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let common_name = self_made(|_| ());
    let expired = self_made(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    let other = self_made(|_| ());
    for (case, (certificate, key), told) in [
        ("CA:TRUE", &ca, "its certificate is not one for a server (made by itself, CA:TRUE?)"),
        ("CN only", &common_name, "its certificate is for another name"),
        ("expired", &expired, "its certificate"),
    ] {
        let pin = pin_of(certificate);
        // As an authority it is of no use.
        let error = handshake(Trust::Authority(certificate.pem().into_bytes()), certificate, key).await.unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with(told), "{case}: {said}");
        assert!(said.contains(&format!("set tls.pin to {pin}")) || case == "expired", "{case}: {said}");
        // Nor is somebody else's.
        let error = handshake(Trust::Authority(other.0.pem().into_bytes()), certificate, key).await.unwrap_err();
        if case != "expired" {
            assert!(matches!(error, Insecure::UnknownIssuer { .. } | Insecure::SelfMade { .. }), "{case}: {error:?}");
            assert!(error.to_string().ends_with(&format!("set tls.pin to {pin}")), "{case}: {error}");
        }
        let with_colons: Vec<&str> = (0..64).step_by(2).map(|at| &pin[at..at + 2]).collect();
        for spelled in [pin.clone(), pin.to_uppercase(), with_colons.join(":")] {
            handshake(Trust::Pin(spelled.parse().unwrap()), certificate, key).await.unwrap();
        }
        let error = handshake(Trust::Pin(pin_of(&other.0).parse().unwrap()), certificate, key).await.unwrap_err();
        assert_eq!(error.kind(), "tls_pin", "{case}");
        assert!(error.to_string().ends_with(&format!("set tls.pin to {pin}")), "{case}: {error}");
    }
}

#[tokio::test]
async fn a_pinned_certificate_without_its_key_is_refused() {
    let (certificate, key) = self_made(|_| ());
    let trust = || Trust::Pin(pin_of(&certificate).parse().unwrap());
    let error = handshake(trust(), &certificate, &KeyPair::generate().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), "tls_certificate", "{error:?}");
    handshake(trust(), &certificate, &key).await.unwrap();
}

#[test]
fn a_pin_is_sixty_four_hexadecimal_digits() {
    let pin = "0123456789abcdef".repeat(4);
    assert_eq!(pin.parse::<Pin>().unwrap().to_string(), pin);
    for wrong in ["", ":", &pin[1..], &format!("{pin}0"), &pin.replace('f', "g"), &pin.replace('f', "é")] {
        assert!(wrong.parse::<Pin>().is_err(), "{wrong}");
    }
}
