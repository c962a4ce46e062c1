//! A host → an open TCP connection, within one deadline.
//!
//! Owns the order in which the addresses are tried that [`Resolver`] finds, and the options of the socket. IPv4
//! and IPv6 addresses are tried one after the other, as the resolver sorts them; each gets an equal share of
//! what is left of the time. On failure the error is that of the last address.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::error::DialError;
use super::resolve::{Resolver, fair_share};

/// An idle connection is probed after this time, so that one whose peer is gone does not stay for ever.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// Time between two probes.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

/// A connection to `host`, made within `limit` in all.
///
/// # Errors
/// When no address of it accepts in time.
pub async fn dial(host: &mut Resolver, limit: Duration) -> Result<TcpStream, DialError> {
    let deadline = Instant::now() + limit;
    let addresses = host.addresses(limit).await;
    let unresolved = |source| DialError::Resolve { host: host.host().to_owned(), source };
    match first_to_accept(&addresses.map_err(unresolved)?, deadline).await {
        Some(result) => result,
        None => Err(unresolved(io::ErrorKind::NotFound.into())),
    }
}

/// Tries `addresses` in their order; `None` if there are none.
pub(super) async fn first_to_accept(
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Option<Result<TcpStream, DialError>> {
    let mut last = None;
    for (&address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let result = attempt(address, fair_share(deadline, left)).await;
        if result.is_ok() {
            return Some(result);
        }
        last = Some(result);
    }
    last
}

async fn attempt(address: SocketAddr, limit: Duration) -> Result<TcpStream, DialError> {
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(connected) => connected.and_then(prepared).map_err(|source| DialError::Unreachable { address, source }),
        Err(_elapsed) => Err(DialError::Timeout { address, waited: limit }),
    }
}

fn prepared(stream: TcpStream) -> io::Result<TcpStream> {
    // Requests are small, and a reply is waited for before the next: there is nothing to gather.
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An address where nobody listens: the listener that proved it free is gone.
    async fn refusing() -> SocketAddr {
        listener().await.1
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_the_connection_prepared() {
        let (listener, address) = listener().await;
        let stream = dial(&mut Resolver::new("localhost", address.port()), LIMIT).await.unwrap();
        listener.accept().await.unwrap();
        assert!(stream.nodelay().unwrap());
        assert!(SockRef::from(&stream).keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_refusing_port_is_unreachable() {
        let address = refusing().await;
        let error = dial(&mut Resolver::new("127.0.0.1", address.port()), LIMIT).await.unwrap_err();
        let DialError::Unreachable { address: tried, source } = error else {
            panic!("{error:?}");
        };
        assert_eq!(tried, address);
        assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn the_next_address_is_tried_after_one_that_refuses() {
        let (_listener, good) = listener().await;
        let addresses = [refusing().await, good, refusing().await];
        let result = first_to_accept(&addresses, Instant::now() + LIMIT).await;
        let stream = result.unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
    }

    /// An address that answers nothing: its queue of connections is full, and further ones are ignored.
    async fn silent() -> (TcpListener, TcpStream, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let queued = TcpStream::connect(address).await.unwrap();
        (listener, queued, address)
    }

    #[tokio::test]
    async fn a_silent_address_takes_only_its_share_of_the_time() {
        let (_full, _queued, silent) = silent().await;
        let (_listener, good) = listener().await;
        let deadline = Instant::now() + Duration::from_secs(1);
        let result = first_to_accept(&[silent, good], deadline).await;
        assert!(Instant::now() < deadline);
        assert_eq!(result.unwrap().unwrap().peer_addr().unwrap(), good);
    }

    #[tokio::test]
    async fn a_silent_address_is_a_timeout_and_no_address_is_nothing() {
        let (_full, _queued, silent) = silent().await;
        let limit = Duration::from_millis(50);
        let error = dial(&mut Resolver::new("127.0.0.1", silent.port()), limit).await.unwrap_err();
        assert!(
            matches!(error, DialError::Timeout { address, waited } if address == silent && waited <= limit),
            "{error:?}"
        );
        assert!(first_to_accept(&[], Instant::now()).await.is_none());
    }

    #[tokio::test]
    async fn a_name_that_is_none_is_not_resolved() {
        let error = dial(&mut Resolver::new("not a host name", 502), LIMIT).await.unwrap_err();
        assert!(matches!(error, DialError::Resolve { .. }), "{error:?}");
    }
}
