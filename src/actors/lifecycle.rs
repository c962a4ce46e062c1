//! The life of every actor: how it is asked to stop and whether it works, and how its end is noticed.
//!
//! These messages stand apart from the actors that send and take them, so that no actor needs to know the supervisor.
//! An [`ExitGuard`] speaks during unwinding too: no actor can be gone without the supervisor being told.

use actix::prelude::*;

/// Stop, from the supervisor (to it: from a signal). The reply says that it is done.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// Whether readings can get from the devices to the disk, from whoever keeps the watchdog quiet. To the
/// supervisor: the reply is true once the aggregator and the poster have served a message too; to those: they do.
/// No reply at all means that one of them hangs.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "bool")]
pub struct Heartbeat;

/// An actor is gone, from its [`ExitGuard`].
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Exited {
    /// Which actor.
    pub actor: ActorId,
    /// Whether a panic was its end.
    pub panicked: bool,
}

/// An actor under supervision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorId {
    /// The device that was given this number.
    Device(u64),
    /// The aggregator.
    Aggregator,
    /// The poster.
    Poster,
}

/// Tells the supervisor when the actor that holds it is dropped, during unwinding too.
#[derive(Debug)]
pub struct ExitGuard {
    supervisor: Recipient<Exited>,
    actor: ActorId,
}

impl ExitGuard {
    /// A guard for `actor`.
    #[must_use]
    pub fn new(supervisor: Recipient<Exited>, actor: ActorId) -> Self {
        Self { supervisor, actor }
    }
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        // do_send passes the bound of the mailbox: this word must arrive however many messages wait. To a supervisor
        // that is gone it does nothing, and then the process is ending.
        self.supervisor.do_send(Exited { actor: self.actor, panicked: std::thread::panicking() });
    }
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// Stopped as asked, everything on disk or delivered.
    Done,
    /// Readings of this run are lost, or something is broken.
    Failed,
}
