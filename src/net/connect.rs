//! One server → a stream to it: its addresses, TCP, a proxy if one is configured, TLS if it must be secure; within one
//! deadline.
//!
//! The address that accepted last is tried first, so that a dead one beside it is not paid for at each connection. A proxy
//! is asked for a tunnel (`CONNECT`, RFC 9110, 9.3.6), for plain servers too, and none is ever taken from the environment.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::dial::first_to_accept;
use super::error::{ConnectError, DialError};
use super::resolve::Resolver;
use super::tls::{Tls, TlsStream};

/// A proxy that says more than this before its tunnel is none.
const MAX_PROXY_ANSWER: usize = 8 << 10;

/// Where a server is, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What makes the connection secure, if it must be.
    pub tls: Option<Tls>,
    /// What stands in between.
    pub proxy: Option<Proxy>,
}

/// An HTTP proxy that makes tunnels.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The value of `Proxy-Authorization`, if it wants one.
    pub authorization: Option<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the login: what is shown for debugging may be logged.
        write!(f, "Proxy({})", authority(&self.host, self.port))
    }
}

/// `host:port`, an IPv6 address in brackets.
#[must_use]
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Makes connections to one server.
#[derive(Debug)]
pub struct Connector {
    server: Server,
    resolver: Resolver,
    /// The address that accepted last.
    accepted: Option<SocketAddr>,
}

impl Connector {
    /// Nothing is asked or opened yet.
    #[must_use]
    pub fn new(server: Server) -> Self {
        // The proxy looks the server's name up: whoever needs one may not be able to.
        let (host, port) = match &server.proxy {
            Some(proxy) => (&proxy.host, proxy.port),
            None => (&server.host, server.port),
        };
        let resolver = Resolver::new(host, port);
        Self { server, resolver, accepted: None }
    }

    /// A new connection, made within `limit` in all.
    ///
    /// # Errors
    /// When there is none in time, or not as it must be.
    pub async fn connect(&mut self, limit: Duration) -> Result<Stream, ConnectError> {
        let deadline = Instant::now() + limit;
        let host = self.resolver.host().to_owned();
        let unresolved = |source| DialError::Resolve { host: host.clone(), source };
        let mut addresses = self.resolver.addresses(limit).await.map_err(unresolved)?;
        // A stable sort: the others stay in the resolver's order.
        addresses.sort_by_key(|&address| Some(address) != self.accepted);
        let Some(accepted) = first_to_accept(&addresses, deadline).await else {
            return Err(unresolved(io::ErrorKind::NotFound.into()).into());
        };
        let mut stream = accepted?;
        self.accepted = stream.peer_addr().ok();
        let Server { host, port, tls, proxy } = &self.server;
        if let Some(proxy) = proxy {
            let tunnel = timeout_at(deadline, tunnel(&mut stream, &authority(host, *port), proxy)).await;
            let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
            tunnel
                .unwrap_or_else(|_elapsed| Err(late()))
                .map_err(|source| ConnectError::Proxy { proxy: authority(&proxy.host, proxy.port), source })?;
        }
        match tls {
            None => Ok(Stream::Plain(stream)),
            Some(tls) => {
                let secure = tls.shake_hands(stream, deadline).await;
                let insecure = |source| ConnectError::Tls { host: host.clone(), source };
                secure.map(|stream| Stream::Secure(Box::new(stream))).map_err(insecure)
            }
        }
    }
}

/// Has the proxy at the other end of `stream` connect it to `target`.
async fn tunnel(stream: &mut TcpStream, target: &str, proxy: &Proxy) -> io::Result<()> {
    let authorization = proxy.authorization.as_ref();
    let authorization = authorization.map_or_else(String::new, |value| format!("Proxy-Authorization: {value}\r\n"));
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).await?;
    // Byte by byte: what stands behind the answer is the server's.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == MAX_PROXY_ANSWER {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what it answers is no HTTP"));
        }
        answer.push(stream.read_u8().await?);
    }
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).into_owned();
    let mut words = line.split(' ');
    match (words.next(), words.next()) {
        // Any 2xx is a tunnel (RFC 9110, 9.3.6).
        (Some("HTTP/1.1" | "HTTP/1.0"), Some(status)) if status.len() == 3 && status.starts_with('2') => Ok(()),
        (Some("HTTP/1.1" | "HTTP/1.0"), Some("407")) => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "it wants a login (407); give it in proxy"))
        }
        _ => Err(io::Error::other(format!("it answered {line:?} instead of 200"))),
    }
}

/// A connection to a server.
#[derive(Debug)]
pub enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// Over TLS.
    Secure(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The TCP connection below.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Secure(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Secure(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn behind(port: u16) -> Connector {
        let authorization = Some("Basic dXNlcjpwYXNz".to_owned());
        let proxy = Some(Proxy { host: "127.0.0.1".to_owned(), port, authorization });
        Connector::new(Server { host: "2001:db8::7".to_owned(), port: 8086, tls: None, proxy })
    }

    /// What a proxy is asked that says `answer`, and what comes of it.
    async fn through(answer: &'static [u8]) -> (String, Result<String, ConnectError>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut connector = behind(listener.local_addr().unwrap().port());
        let proxy = async {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(client.read_u8().await.unwrap());
            }
            client.write_all(answer).await.unwrap();
            client.shutdown().await.unwrap();
            String::from_utf8(asked).unwrap()
        };
        let client = async {
            let mut stream = connector.connect(LIMIT).await?;
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            Ok(said)
        };
        tokio::join!(proxy, client)
    }

    #[tokio::test]
    async fn a_proxy_is_asked_for_a_tunnel_and_what_follows_is_the_servers() {
        let (asked, said) = through(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nhello").await;
        assert_eq!(
            asked,
            "CONNECT [2001:db8::7]:8086 HTTP/1.1\r\nHost: [2001:db8::7]:8086\r\nProxy-Authorization: Basic \
             dXNlcjpwYXNz\r\n\r\n"
        );
        assert_eq!(said.unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_proxy_that_makes_no_tunnel_is_told_of_with_what_it_said() {
        for (answer, text) in [
            (&b"HTTP/1.1 403 Forbidden\r\n\r\n"[..], "it answered \"HTTP/1.1 403 Forbidden\" instead of 200"),
            (b"HTTP/1.0 407 Login\r\n\r\n", "it wants a login (407)"),
            (b"SSH-2.0-x\r\n\r\n", "it answered \"SSH-2.0-x\""),
            (b"HTTP/1.1 200 OK\r\n", ""),
            (b"", ""),
        ] {
            let error = through(answer).await.1.unwrap_err();
            assert_eq!(error.kind(), "proxy");
            let ConnectError::Proxy { source, .. } = error else { panic!("{error:?}") };
            assert!(source.to_string().contains(text), "{source}");
        }
    }

    #[tokio::test]
    async fn no_answer_that_never_ends_is_read_for_ever() {
        let endless: &'static [u8] = vec![b'x'; MAX_PROXY_ANSWER + 1].leak();
        let error = through(endless).await.1.unwrap_err();
        assert!(matches!(&error, ConnectError::Proxy { source, .. } if source.kind() == io::ErrorKind::InvalidData));
    }

    #[test]
    fn a_proxy_does_not_tell_its_password() {
        assert_eq!(format!("{:?}", behind(1).server.proxy.unwrap()), "Proxy(127.0.0.1:1)");
    }
}
