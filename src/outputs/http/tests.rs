//! The client against real sockets and a server that counts its connections.

use std::sync::Arc;

use awc::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::net::tls::{Credentials, Pem, Tls, Trust};
use crate::outputs::Verdict;

const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n";

fn endpoint(port: u16) -> Endpoint {
    Endpoint {
        server: Server { host: "127.0.0.1".to_owned(), port, tls: None, proxy: None },
        base: "/base".to_owned(),
        headers: vec![(HeaderName::from_static("x-own"), HeaderValue::from_static("1"))],
        timeouts: Timeouts::default(),
        keep_alive: true,
    }
}

async fn post(client: &mut HttpClient, endpoint: &Endpoint, body: &'static str) -> Result<Reply, HttpError> {
    let uri = endpoint.uri("/write?a=b").unwrap();
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("text/plain"))];
    client.exchange(Request { method: Method::POST, uri: &uri, headers: &headers, body: body.into() }).await
}

/// One request with a body that ends with `.`.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut text = Vec::new();
    while !text.ends_with(b".") || !text.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        text.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(text).ok()
}

/// Answers as many requests as `requests`, then closes.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, requests: usize) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..requests {
        seen.extend(request(&mut stream).await);
        stream.write_all(ANSWER).await.unwrap();
        stream.flush().await.unwrap();
    }
    seen
}

#[actix_rt::test]
async fn a_connection_serves_many_requests_with_every_header() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = endpoint(listener.local_addr().unwrap().port());
    let mut client = HttpClient::new(endpoint.clone());
    let server = async { answer(listener.accept().await.unwrap().0, 3).await };
    let posts = async {
        for _ in 0..3 {
            let reply = post(&mut client, &endpoint, "a.").await.unwrap();
            assert!(reply.is_whole_success() && reply.status == 204);
        }
    };
    let (seen, ()) = tokio::join!(server, posts);
    for text in &seen {
        for part in ["POST /base/write?a=b HTTP/1.1\r\n", "x-own: 1\r\n", "content-type: text/plain\r\n", "\r\n\r\na."]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    assert_eq!(seen.len(), 3, "over the one connection that was accepted");
}

/// The server closes while a request is on its way: nobody knows whether it saw it, so it gets it once more.
#[actix_rt::test]
async fn a_kept_connection_that_breaks_is_replaced_once() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = endpoint(listener.local_addr().unwrap().port());
    let mut client = HttpClient::new(endpoint.clone());
    let server = async {
        let (mut first, _) = listener.accept().await.unwrap();
        let seen = request(&mut first).await.unwrap();
        first.write_all(ANSWER).await.unwrap();
        request(&mut first).await.unwrap();
        drop(first);
        let again = answer(listener.accept().await.unwrap().0, 1).await;
        assert!(seen.ends_with("a.") && again[0].ends_with("b."));
        // A connection that was just made is not replaced.
        let (mut third, _) = listener.accept().await.unwrap();
        request(&mut third).await.unwrap();
    };
    let posts = async {
        post(&mut client, &endpoint, "a.").await.unwrap();
        assert!(!client.has_repeated());
        post(&mut client, &endpoint, "b.").await.unwrap();
        assert!(client.has_repeated());
        let mut fresh = HttpClient::new(endpoint.clone());
        let error = post(&mut fresh, &endpoint, "c.").await.unwrap_err();
        assert_eq!(error.kind(), "transport");
    };
    tokio::join!(server, posts);
}

fn identity() -> (TlsAcceptor, Vec<u8>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["db.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(server)), cert.pem().into_bytes())
}

#[actix_rt::test]
async fn over_tls_a_server_is_believed_for_its_certificate_and_its_name_alone() {
    for (name, believed) in [("db.example", true), ("other.example", false)] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (acceptor, ca) = identity();
        let credentials = Arc::new(Credentials::new(Pem { trust: Trust::Authority(ca), own: None }).unwrap());
        let mut endpoint = endpoint(listener.local_addr().unwrap().port());
        endpoint.server.tls = Some(Tls::new(credentials, name).unwrap());
        let mut client = HttpClient::new(endpoint.clone());
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { return Vec::new() };
            answer(stream, 2).await
        };
        let posts = async {
            let first = post(&mut client, &endpoint, "a.").await;
            if believed {
                first.unwrap();
                return post(&mut client, &endpoint, "b.").await.map(|_| ());
            }
            first.map(|_| ())
        };
        let (seen, result) = tokio::join!(server, posts);
        match result {
            Ok(()) => assert!(believed && seen.len() == 2),
            Err(error) => {
                assert!(!believed && seen.is_empty(), "{error:?}");
                assert_eq!((error.kind(), error.verdict()), ("tls_name", Verdict::RefusedUs));
            }
        }
    }
}

#[test]
fn what_is_compressed_is_the_same_again() {
    use std::io::Read as _;
    let body = b"m u=1 1\n".repeat(1_000);
    let packed = gzip(&body).unwrap();
    assert!(packed.len() * 10 < body.len());
    let mut read = Vec::new();
    flate2::read::GzDecoder::new(&*packed).read_to_end(&mut read).unwrap();
    assert_eq!(read, body);
    assert_eq!(gzip(b"m u=1 1\n"), None, "not worth it");
}
