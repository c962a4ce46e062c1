//! One agent for each set of directories: a lock that the kernel holds, and a pid file for people.
//!
//! The lock is flock on `<system_daemon_directory>/lock/pattoo_agent_modbustcpd.lock`: free the moment its
//! owner dies, so that a file left behind hinders nobody. Neither file is ever followed as a link. The pid
//! file says which process it is; nothing is decided by it.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

use crate::pattoo::identity::PROGRAM;

/// Why the lock is not ours.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another agent runs on the same directories.
    #[error("another agent holds {}", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
    },
    /// The system said no.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The right to run on one set of directories, given back when dropped.
#[derive(Debug)]
pub struct Lock {
    _lock: OwnedFd,
    pid_file: PathBuf,
}

impl Lock {
    /// Takes the lock below `system_daemon_directory` and writes the pid file.
    ///
    /// # Errors
    /// When another process has it, or the files cannot be made.
    pub fn acquire(system_daemon_directory: &Path) -> Result<Self, LockError> {
        let path = file(system_daemon_directory, "lock")?;
        let lock = open(&path, OFlags::empty())?;
        match fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(LockError::Held { path }),
            Err(errno) => return Err(failed("lock", &path, errno.into())),
        }
        let pid_file = file(system_daemon_directory, "pid")?;
        let mut pid = std::fs::File::from(open(&pid_file, OFlags::TRUNC)?);
        writeln!(pid, "{}", std::process::id()).map_err(|error| failed("write", &pid_file, error))?;
        Ok(Self { _lock: lock, pid_file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A pid file that stays is harmless.
        std::fs::remove_file(&self.pid_file).ok();
    }
}

/// `<directory>/<kind>/<program>.<kind>`, its directory made when missing.
fn file(directory: &Path, kind: &'static str) -> Result<PathBuf, LockError> {
    let directory = directory.join(kind);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o750).create(&directory);
    made.map_err(|error| failed("make", &directory, error))?;
    Ok(directory.join(format!("{PROGRAM}.{kind}")))
}

fn open(path: &Path, extra: OFlags) -> Result<OwnedFd, LockError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | extra;
    let mode = Mode::from_raw_mode(0o640);
    let file = fs::open(path, flags, mode).map_err(|errno| failed("open", path, errno.into()))?;
    // Whatever the umask says; a file of another owner is left as it is.
    fs::fchmod(&file, mode).ok();
    Ok(file)
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> LockError {
    LockError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_refused_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::acquire(directory.path()).unwrap();
        assert!(matches!(Lock::acquire(directory.path()), Err(LockError::Held { .. })));
        let pid = std::fs::read_to_string(directory.path().join("pid/pattoo_agent_modbustcpd.pid")).unwrap();
        assert_eq!(pid.trim(), std::process::id().to_string());
        drop(first);
        drop(Lock::acquire(directory.path()).unwrap());
    }

    #[test]
    fn a_stale_pid_file_hinders_nobody_and_a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid/pattoo_agent_modbustcpd.pid");
        std::fs::create_dir(directory.path().join("pid")).unwrap();
        for stale in ["", "1", "999999999999", "-1", "garbage"] {
            std::fs::write(&pid, stale).unwrap();
            drop(Lock::acquire(directory.path()).unwrap());
        }
        let victim = directory.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, &pid).unwrap();
        assert!(matches!(Lock::acquire(directory.path()), Err(LockError::Io { .. })));
        assert_eq!(std::fs::read_to_string(victim).unwrap(), "untouched");
    }
}
