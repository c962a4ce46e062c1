//! A host name → its addresses, in a limited time whatever the name service does.
//!
//! A [`Resolver`] belongs to one host. The system is asked on a thread that may block, by one question at a
//! time: one that hangs is left there, and its answer taken whenever it comes. When there is no answer in time,
//! or a bad one, the last good one stands in for it: devices and servers move seldom, name services fail often.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout};

use crate::logging::throttle::LogThrottle;
use crate::time::clock;

/// No answer is waited for longer than this.
pub const LIMIT: Duration = Duration::from_secs(5);

/// With a last good answer at hand, a new one may take this part of the time that is there to connect.
const SHARE_OF_CONNECTING: u32 = 3;

/// One host and port, and what is known of its addresses.
#[derive(Debug)]
pub struct Resolver {
    host: String,
    port: u16,
    last_good: Vec<SocketAddr>,
    asking: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
    failures: LogThrottle,
}

impl Resolver {
    /// A resolver of `host`: a name, or an address without brackets.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        let host = host.to_owned();
        Self { host, port, last_good: Vec::new(), asking: None, failures: LogThrottle::default() }
    }

    /// The host as it was given.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The addresses in the order in which they are to be tried, at least one; for a connection that must be made
    /// within `limit`.
    ///
    /// # Errors
    /// When there is no good answer in time, and never was one.
    pub async fn addresses(&mut self, limit: Duration) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![(address, self.port).into()]);
        }
        let parts = if self.last_good.is_empty() { 1 } else { SHARE_OF_CONNECTING };
        match self.ask((limit / parts).min(LIMIT)).await {
            Ok(addresses) => {
                self.last_good.clone_from(&addresses);
                Ok(addresses)
            }
            Err(error) if self.last_good.is_empty() => Err(error),
            Err(error) => {
                if self.failures.add(1, clock::boot()).is_some() {
                    tracing::warn!("cannot resolve {}: {error}; its last known address is used", self.host);
                }
                Ok(self.last_good.clone())
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "here it is done, on a thread of its own")]
    async fn ask(&mut self, limit: Duration) -> io::Result<Vec<SocketAddr>> {
        let asking = self.asking.get_or_insert_with(|| {
            let host = (self.host.clone(), self.port);
            spawn_blocking(move || host.to_socket_addrs().map(Iterator::collect))
        });
        // Lent to the timeout, not given: a question that hangs is asked no second time, or threads would gather behind
        // a dead name service.
        let Ok(answer) = timeout(limit, asking).await else {
            let late = format!("no answer within {}", humantime::format_duration(limit));
            return Err(io::Error::new(io::ErrorKind::TimedOut, late));
        };
        self.asking = None;
        match answer? {
            Ok(addresses) if addresses.is_empty() => Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
            answer => answer,
        }
    }
}

/// What the next of `addresses` that are still to be tried may take of the time until `deadline`: equal parts, so
/// that a black hole in front does not starve the address that works.
#[must_use]
pub fn fair_share(deadline: Instant, addresses: usize) -> Duration {
    let left = deadline.saturating_duration_since(Instant::now());
    left / u32::try_from(addresses).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_asked_of_nobody() {
        for (host, address) in [("192.0.2.1", "192.0.2.1:502"), ("2001:db8::7", "[2001:db8::7]:502")] {
            let mut resolver = Resolver::new(host, 502);
            assert_eq!(resolver.addresses(Duration::ZERO).await.unwrap(), [address.parse().unwrap()]);
        }
    }

    #[tokio::test]
    async fn the_last_good_answer_stands_in_for_a_bad_one_and_for_none() {
        let good = vec![SocketAddr::from(([192, 0, 2, 1], 502))];
        let mut resolver = Resolver::new("not a host name", 502);
        resolver.addresses(LIMIT).await.unwrap_err();
        resolver.last_good.clone_from(&good);
        assert_eq!(resolver.addresses(LIMIT).await.unwrap(), good, "a bad answer");

        resolver.asking = Some(tokio::spawn(std::future::pending()));
        let started = Instant::now();
        assert_eq!(resolver.addresses(Duration::from_millis(90)).await.unwrap(), good, "no answer");
        assert!(started.elapsed() >= Duration::from_millis(30), "a third of the time is waited");
        assert!(resolver.asking.is_some(), "the question stands");
        resolver.last_good.clear();
        let error = resolver.addresses(Duration::from_millis(10)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn an_answer_that_comes_late_is_used_the_next_time() {
        let mut resolver = Resolver::new("late.example", 502);
        let late = vec![SocketAddr::from(([192, 0, 2, 2], 502))];
        let (answer, answered) = tokio::sync::oneshot::channel();
        resolver.asking = Some(tokio::spawn(async { answered.await.map_err(io::Error::other) }));
        resolver.addresses(Duration::from_millis(10)).await.unwrap_err();
        answer.send(late.clone()).unwrap();
        assert_eq!(resolver.addresses(LIMIT).await.unwrap(), late);
    }

    #[tokio::test(start_paused = true)]
    async fn each_address_gets_an_equal_share_of_what_is_left() {
        let deadline = Instant::now() + Duration::from_secs(3);
        for (addresses, share) in [(3, 1_000), (2, 1_500), (1, 3_000)] {
            assert_eq!(fair_share(deadline, addresses), Duration::from_millis(share));
        }
        assert_eq!(fair_share(Instant::now(), 2), Duration::ZERO);
    }
}
