//! One agent for each set of directories: a lock that the kernel holds, and a pid file for people.
//!
//! The lock is a [`WriteLock`] on `<system_daemon_directory>/lock/pattoo_agent_modbustcpd.flock`: free the moment its
//! owner dies, so that a file left behind hinders nobody, seen across containers, and not to be had by whoever may only
//! read the file. The kernel tells [`holder`] which process has it. The pid file says the same to people; nothing is
//! decided by it.
//!
//! The file is not named `….lock`: to the `--stop` of the Python agent a file of that name means "busy, wait",
//! for ever. Earlier releases of this agent lock that one. So it is looked at as well, and removed when nobody
//! holds it ([`remove_former`]).
//!
//! Either must be a plain file with one name in a directory that nobody else can write to:
//! a link, a FIFO, a device is neither followed nor waited for nor written to.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use thiserror::Error;

use crate::files::directory::{self, DirectoryError};
use crate::files::lock::{self, TakeError, WriteLock};
use crate::outputs::pattoo::identity::PROGRAM;

/// How the name of the lock file ends.
const SUFFIX: &str = "flock";

/// How the name of the lock file of earlier releases ends, which is also the Python agent's sign for "busy".
const FORMER_SUFFIX: &str = "lock";

/// Why the lock is not ours.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another agent runs on the same directories.
    #[error("another agent holds {}", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
    },
    /// A process that is no agent is in the way.
    #[error("the lock file {} is not to be had", path.display())]
    InTheWay {
        /// The lock file.
        path: PathBuf,
        /// Which process.
        source: TakeError,
    },
    /// The directory is missing or somebody else's.
    #[error("no place for the lock")]
    Directory(#[from] DirectoryError),
    /// Something else was put in the place of a file of ours.
    #[error("{} is no file of its own (links are not followed); remove it", .0.display())]
    NotAFile(PathBuf),
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
    _lock: WriteLock,
    pid_file: PathBuf,
}

impl Lock {
    /// Takes the lock below `system_daemon_directory` and writes the pid file.
    ///
    /// # Errors
    /// When another process has it, or the files cannot be made.
    pub fn acquire(system_daemon_directory: &Path) -> Result<Self, LockError> {
        let path = file(system_daemon_directory, "lock", SUFFIX)?;
        let lock = WriteLock::take(fs::CWD, &path).map_err(|error| not_taken(error, &path))?;
        // Nobody but the holder of the lock looks after the former file.
        if !remove_former(system_daemon_directory) {
            return Err(LockError::Held { path: named(system_daemon_directory, FORMER_SUFFIX) });
        }
        // After both locks: until then the file may be that of the agent which runs.
        let pid_file = file(system_daemon_directory, "pid", "pid")?;
        let mut pid = std::fs::File::from(open(&pid_file)?);
        // Emptied only now. O_TRUNC when it is opened would have emptied it before it is known that it has no second
        // name elsewhere.
        pid.set_len(0)
            .and_then(|()| writeln!(pid, "{}", std::process::id()))
            .map_err(|error| failed("write", &pid_file, error))?;
        Ok(Self { _lock: lock, pid_file })
    }
}

/// Who runs on a set of directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// This process.
    Process(Pid),
    /// A process that cannot be seen from here: in another container.
    Elsewhere,
}

/// Who holds the lock below `system_daemon_directory` just now, be it an earlier release; changes nothing.
///
/// # Errors
/// When the lock file is there and cannot be looked at.
pub fn holder(system_daemon_directory: &Path) -> Result<Option<Holder>, LockError> {
    match holder_of(named(system_daemon_directory, SUFFIX))? {
        None => match holder_of(named(system_daemon_directory, FORMER_SUFFIX)) {
            // No release locks a link.
            Err(LockError::NotAFile(_)) => Ok(None),
            holder => holder,
        },
        holder => Ok(holder),
    }
}

/// Removes the lock file of earlier releases, for which the Python agent's `--stop` would wait. Returns whether
/// it is out of the way: false only while somebody holds it. What cannot be removed, or is no file of its own,
/// stays.
#[must_use]
pub fn remove_former(system_daemon_directory: &Path) -> bool {
    let path = named(system_daemon_directory, FORMER_SUFFIX);
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    // Without CREATE: to leave a file of this name behind would make the Python agent's --stop wait.
    let Ok(file) = fs::open(&path, flags, Mode::empty()) else { return true };
    let ours = fs::fstat(&file)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1);
    if !ours {
        return true;
    }
    // Earlier releases take this lock besides `flock`, which any reader of the file can take.
    if !matches!(lock::writer(&file), Ok(None)) {
        return false;
    }
    // While it is locked, if it can be: an earlier release that has it open already finds it held and ends.
    fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok();
    std::fs::remove_file(&path).ok();
    true
}

fn holder_of(path: PathBuf) -> Result<Option<Holder>, LockError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match fs::open(&path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::LOOP) => return Err(LockError::NotAFile(path)),
        Err(errno) => return Err(failed("open", &path, errno.into())),
    };
    match lock::writer(&file) {
        Ok(None) => Ok(None),
        Ok(Some(pid)) => Ok(Some(pid.map_or(Holder::Elsewhere, Holder::Process))),
        Err(errno) => Err(failed("inspect", &path, errno.into())),
    }
}

impl LockError {
    /// Whether somebody else's permissions are in the way.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A pid file that stays is harmless.
        std::fs::remove_file(&self.pid_file).ok();
    }
}

/// `<directory>/<kind>/<program>.<suffix>`, its directory made when missing.
fn file(directory: &Path, kind: &'static str, suffix: &'static str) -> Result<PathBuf, LockError> {
    let directory = directory.join(kind);
    directory::make_trusted(&directory)?;
    Ok(directory.join(format!("{PROGRAM}.{suffix}")))
}

/// A lock file with this suffix, whether or not it is there.
fn named(system_daemon_directory: &Path, suffix: &'static str) -> PathBuf {
    system_daemon_directory.join("lock").join(format!("{PROGRAM}.{suffix}"))
}

/// Opens the file, made when missing, without a change to what it holds.
fn open(path: &Path) -> Result<OwnedFd, LockError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mode = Mode::from_raw_mode(0o640);
    let file = match fs::open(path, flags, mode) {
        Ok(file) => file,
        Err(Errno::LOOP) => return Err(LockError::NotAFile(path.to_owned())),
        Err(errno) => return Err(failed("open", path, errno.into())),
    };
    let stat = fs::fstat(&file).map_err(|errno| failed("inspect", path, errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
        return Err(LockError::NotAFile(path.to_owned()));
    }
    // One that was made with another mode; a file of another owner is left as it is.
    fs::fchmod(&file, mode).ok();
    Ok(file)
}

fn not_taken(error: TakeError, path: &Path) -> LockError {
    let path = path.to_owned();
    match error {
        TakeError::Held => LockError::Held { path },
        TakeError::Reader(_) => LockError::InTheWay { path, source: error },
        TakeError::NotAFile => LockError::NotAFile(path),
        TakeError::Io(action, errno) => failed(action, &path, errno.into()),
    }
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

    /// A process that locks a file until it is dropped.
    struct Other(std::process::Child);

    impl Drop for Other {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    /// The former lock file, and another process that has locked it as `how` says.
    fn former(directory: &Path, how: &str) -> (PathBuf, Other) {
        std::fs::create_dir_all(directory.join("lock")).unwrap();
        let path = directory.join("lock/pattoo_agent_modbustcpd.lock");
        let script = format!(
            "import fcntl, sys, time\nf = open(sys.argv[1], 'w+')\n{how}\nprint('locked', flush=True)\ntime.sleep(600)"
        );
        let mut command = std::process::Command::new("python3");
        let mut child = command.args(["-c", &script]).arg(&path).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
        assert_eq!(line, "locked\n");
        (path, Other(child))
    }

    #[test]
    fn an_earlier_release_that_runs_is_noticed_and_its_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = former(directory.path(), "fcntl.flock(f, fcntl.LOCK_EX)\nfcntl.lockf(f, fcntl.LOCK_EX)");
        assert!(matches!(Lock::acquire(directory.path()), Err(LockError::Held { path: held }) if held == path));
        assert!(path.exists() && !remove_former(directory.path()));
        assert!(!directory.path().join("pid").exists(), "its pid file is its own");
        drop(other);
        drop(Lock::acquire(directory.path()).unwrap());
    }

    #[test]
    fn no_file_for_which_the_python_agent_would_wait_is_there_or_left_whoever_has_flocked_it() {
        let directory = tempfile::tempdir().unwrap();
        let (path, _reader) = former(directory.path(), "fcntl.flock(f, fcntl.LOCK_EX)");
        let ours = Lock::acquire(directory.path()).unwrap();
        assert!(!path.exists(), "removed");
        drop(ours);
        assert!(!path.exists(), "not made");
        assert!(remove_former(directory.path()), "nothing to remove is no failure");
    }

    #[test]
    fn what_is_no_file_in_its_place_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        std::fs::create_dir(directory.path().join("lock")).unwrap();
        let path = directory.path().join("lock/pattoo_agent_modbustcpd.lock");
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        drop(Lock::acquire(directory.path()).unwrap());
        assert_eq!(holder(directory.path()).unwrap(), None);
        assert_eq!(std::fs::read_to_string(victim).unwrap(), "untouched");
        assert!(path.is_symlink());
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
        assert!(matches!(Lock::acquire(directory.path()), Err(LockError::NotAFile(_))));
        assert_eq!(std::fs::read_to_string(victim).unwrap(), "untouched");
    }
}
