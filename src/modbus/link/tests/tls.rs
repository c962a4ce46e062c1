//! The link over TLS, on a stream in memory: what differs from a bare one.

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use super::device::{RESPONSE, UNIT, holding, reply};
use crate::modbus::error::Insecure;
use crate::modbus::link::Link;
use crate::modbus::link::tls::{Credentials, Pem, Tls};

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
    let credentials = Credentials::new(Pem { ca: cert.pem().into_bytes(), own: None }).unwrap();
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
