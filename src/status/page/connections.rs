//! The connections of the status page: how many, from whom, for how long.
//!
//! A client that sends slowly, reads nothing, or sends more than it reads holds a connection and costs nobody anything
//! else: none lives longer than [`LIFE`], whatever it does, and when there are more than [`MOST`], the oldest of whoever has
//! most is closed. So a probe finds its way through however many others there are. To close is to shut the socket down
//! from outside, by a descriptor of its own: the server then finds that the client is gone.

use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;

/// Longer than anybody needs for one request and its answer.
pub const LIFE: Duration = Duration::from_secs(10);

/// Open at once.
pub const MOST: usize = 32;

/// Those that are open.
#[derive(Debug, Default)]
pub struct Connections {
    open: Mutex<Open<OwnedFd>>,
}

/// One of them, for as long as it is open.
#[derive(Debug)]
pub struct Connection {
    of: Arc<Connections>,
    number: u64,
}

impl Connections {
    /// From now on this one is open; `None` when the system gives no descriptor to close it by, and then it is closed.
    pub fn opened(self: &Arc<Self>, socket: impl AsFd, peer: Option<IpAddr>) -> Option<Connection> {
        let socket = socket.as_fd();
        // A descriptor of its own. By the server's number another connection might be shut down, when that one was
        // closed meanwhile.
        let Ok(handle) = socket.try_clone_to_owned() else {
            close(&socket);
            return None;
        };
        let mut open = self.lock();
        let number = open.add(peer.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), Instant::now(), handle);
        for one in open.too_many(MOST) {
            close(&one);
        }
        Some(Connection { of: Arc::clone(self), number })
    }

    /// Closes those that have been open for too long.
    pub fn close_old(&self) {
        for one in self.lock().older_than(LIFE, Instant::now()) {
            close(&one);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open<OwnedFd>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.of.lock().remove(self.number);
    }
}

fn close(socket: &impl AsFd) {
    // Refused only when it is closed already.
    SockRef::from(socket).shutdown(Shutdown::Both).ok();
}

/// Who is open, the oldest first; `H` is what closes one.
#[derive(Debug)]
struct Open<H> {
    next: u64,
    all: Vec<(u64, IpAddr, Instant, H)>,
}

impl<H> Default for Open<H> {
    fn default() -> Self {
        Self { next: 0, all: Vec::new() }
    }
}

impl<H> Open<H> {
    fn add(&mut self, peer: IpAddr, now: Instant, handle: H) -> u64 {
        self.next += 1;
        self.all.push((self.next, peer, now, handle));
        self.next
    }

    fn remove(&mut self, number: u64) {
        self.all.retain(|(of, ..)| *of != number);
    }

    fn older_than(&mut self, life: Duration, now: Instant) -> Vec<H> {
        let young = self.all.partition_point(|(_, _, since, _)| now.saturating_duration_since(*since) >= life);
        self.all.drain(..young).map(|(.., handle)| handle).collect()
    }

    /// What is to be closed so that `most` are left.
    fn too_many(&mut self, most: usize) -> Vec<H> {
        let mut closed = Vec::new();
        while self.all.len() > most {
            // Quadratic in one more than `most`: it is called with each that is added.
            let of = |peer: IpAddr| self.all.iter().filter(|(_, other, ..)| *other == peer).count();
            let most_of_all = self.all.iter().map(|(_, peer, ..)| of(*peer)).max();
            let Some(place) = self.all.iter().position(|(_, peer, ..)| Some(of(*peer)) == most_of_all) else { break };
            closed.push(self.all.remove(place).3);
        }
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_whoever_has_most_goes_first_and_a_lone_probe_stays() {
        let [many, few, probe] = [1, 2, 3].map(|last| IpAddr::from([192, 0, 2, last]));
        let (mut open, now) = (Open::default(), Instant::now());
        open.add(probe, now, 0);
        for handle in 1..=20 {
            open.add(many, now, handle);
        }
        for handle in 21..=25 {
            open.add(few, now, handle);
        }
        assert!(open.too_many(26).is_empty());
        assert_eq!(open.too_many(20), [1, 2, 3, 4, 5, 6]);
        let left = open.too_many(3);
        assert_eq!(left.len(), 17);
        assert!(!left.contains(&0), "the probe, and one of each of the others");
    }

    #[test]
    fn none_lives_for_ever() {
        let (mut open, now) = (Open::default(), Instant::now());
        let peer = IpAddr::from([192, 0, 2, 1]);
        let numbers: Vec<u64> = (0..5_u64).map(|age| open.add(peer, now + Duration::from_secs(age), age)).collect();
        open.remove(numbers[1]);
        assert_eq!(open.older_than(LIFE, now + Duration::from_secs(12)), [0, 2]);
        assert!(open.older_than(LIFE, now + Duration::from_secs(12)).is_empty());
    }
}
