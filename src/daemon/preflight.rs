//! Whether the system lets the process have the descriptors and threads that it needs, asked before it starts.
//!
//! Missing in the middle of a start they would end in a panic somewhere in a runtime; here they are one
//! sentence that says what to raise. They are asked for by taking them, because a limit on either comes from
//! many places (the service manager, the shell, a control group), and then given back.

use std::fs::File;
use std::io;
use std::sync::{PoisonError, RwLock};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

/// Descriptors that an agent with one device has at most, the standard streams apart.
const DESCRIPTORS: usize = 24;

/// Threads of an agent with one device.
const THREADS: usize = 8;

/// Why there is no use in starting.
#[derive(Debug, Error)]
pub enum Insufficient {
    /// Not even for one device.
    #[error(
        "the process may not open as many files and sockets as it needs, {DESCRIPTORS} and one per device; \
         raise LimitNOFILE of the service, or ulimit -n"
    )]
    Descriptors(#[source] io::Error),
    /// No thread, no agent.
    #[error(
        "the process may not have as many threads as it needs, {THREADS}; raise TasksMax or LimitNPROC of the \
         service, the pids limit of the container, or ulimit -u"
    )]
    Threads(#[source] io::Error),
}

/// Takes as many descriptors as the process may have, and makes sure that these and threads suffice for a start.
///
/// # Errors
/// When they do not.
pub fn check() -> Result<(), Insufficient> {
    // The soft limit is often 1,024, and each device has a socket.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Refused, the process goes on with what it has.
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).ok();
    let files: Result<Vec<_>, _> = (0..DESCRIPTORS).map(|_| File::open("/dev/null")).collect();
    drop(files.map_err(Insufficient::Descriptors)?);

    let gate = RwLock::new(());
    thread::scope(|scope| {
        // All of them are to be there at once: if each ended as soon as it is started, there might never be two. The
        // gate opens when this closure returns, before the scope waits for them.
        let _closed = gate.write().unwrap_or_else(PoisonError::into_inner);
        let wait = || drop(gate.read());
        (0..THREADS).try_for_each(|_| thread::Builder::new().spawn_scoped(scope, wait).map(drop))
    })
    .map_err(Insufficient::Threads)
}

/// What a person should know who configured so many devices.
#[must_use]
pub fn warning(devices: usize) -> Option<String> {
    let limit = getrlimit(Resource::Nofile).current?;
    let needed = devices + DESCRIPTORS;
    (limit < needed as u64).then(|| {
        format!(
            "{devices} devices need up to {needed} open files and sockets, and the process may have {limit}: some will \
             not be read; raise LimitNOFILE of the service, or ulimit -n"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_a_test_and_not_for_everything() {
        check().unwrap();
        assert_eq!(warning(1), None);
        let limited = getrlimit(Resource::Nofile).current.is_some();
        assert_eq!(warning(usize::MAX / 2).is_some(), limited);
    }
}
