//! One process at a time, by a lock that only whoever may write to its file can take.
//!
//! It is the write lock of `fcntl`: the kernel gives it to a descriptor that is open for writing and to no other, frees
//! it the moment its owner dies, and tells which process has it. `flock` asks for no such right: any reader of the file
//! takes it and keeps the agent from starting, so it decides nothing here. The file is made with mode 0600, because a
//! reader could still ask for a *read* lock, which is in the way of ours; one that does on a file of another mode is
//! told apart from an agent ([`TakeError::Reader`]).
//!
//! Such a lock belongs to the process: it is gone as soon as the process closes *any* descriptor of the file, and the
//! same process is given it a second time. Both are ruled out by a list of the files that this process has locked.
//! It is not inherited by `fork`: a daemon must lock after it has detached.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::{self, AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, Pid, fcntl_getlk};
use thiserror::Error;

/// For the owner alone: who cannot open it cannot be in the way.
pub const MODE: Mode = Mode::from_raw_mode(0o600);

/// How often a lock that is held for moments only is tried.
const TRIES: usize = 100;

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Device and inode of a file.
type Identity = (u64, u64);

/// The files that this process has locked.
static LOCKED: Mutex<BTreeSet<Identity>> = Mutex::new(BTreeSet::new());

/// Why the lock is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TakeError {
    /// Another process, or this one, has it.
    #[error("another process holds it")]
    Held,
    /// A process that may only read the file has a read lock on it; `None`: one that cannot be seen from here.
    #[error("a process that may only read it has locked it ({}); end that process", shown(*.0))]
    Reader(Option<Pid>),
    /// Something else was put in its place.
    #[error("it is no file of its own (links are not followed)")]
    NotAFile,
    /// The system said no.
    #[error("cannot {0}")]
    Io(&'static str, #[source] Errno),
}

fn shown(pid: Option<Pid>) -> String {
    pid.map_or_else(|| "in another container".to_owned(), |pid| format!("process {}", Pid::as_raw(Some(pid))))
}

/// The lock, given back when dropped.
#[derive(Debug)]
pub struct WriteLock {
    /// `None` only while it is dropped.
    file: Option<OwnedFd>,
    identity: Identity,
}

impl WriteLock {
    /// Takes the lock of the file `name` in `directory`; the file is made when missing and stays.
    ///
    /// # Errors
    /// When somebody else has it, or the file cannot be had.
    pub fn take(directory: impl AsFd, name: &Path) -> Result<Self, TakeError> {
        let directory = directory.as_fd();
        // Held to the end of this function: no other thread of this process may open and close the file in between.
        let mut locked = locked();
        // Before it is opened: to close it again would end the lock that this process has.
        match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if locked.contains(&identity(&stat)) => return Err(TakeError::Held),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(TakeError::Io("inspect", errno)),
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match fs::openat(directory, name, flags, MODE) {
            Ok(file) => file,
            // A link, a directory, a socket.
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(TakeError::NotAFile),
            Err(errno) => return Err(TakeError::Io("open", errno)),
        };
        let stat = fs::fstat(&file).map_err(|errno| TakeError::Io("inspect", errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
            return Err(TakeError::NotAFile);
        }
        // One that was made with another mode; a file of another owner is left as it is.
        fs::fchmod(&file, MODE).ok();
        match fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            // Systems may say either (fcntl(2)).
            Err(Errno::AGAIN | Errno::ACCESS) => return Err(who_is_in_the_way(&file)),
            Err(errno) => return Err(TakeError::Io("lock", errno)),
        }
        let identity = identity(&stat);
        locked.insert(identity);
        Ok(Self { file: Some(file), identity })
    }

    /// Takes a lock that others hold for moments only; `None` when it is not to be had within a few seconds.
    #[must_use]
    pub fn wait(directory: impl AsFd, name: &Path) -> Option<Self> {
        for _ in 0..TRIES {
            match Self::take(&directory, name) {
                Ok(lock) => return Some(lock),
                Err(TakeError::Held | TakeError::Reader(_)) => thread::sleep(PAUSE),
                Err(TakeError::NotAFile | TakeError::Io(..)) => break,
            }
        }
        None
    }
}

impl Drop for WriteLock {
    fn drop(&mut self) {
        let mut locked = locked();
        // Closed while nobody else of this process can lock it: closing would end that lock.
        drop(self.file.take());
        locked.remove(&self.identity);
    }
}

/// Who has the write lock of this file, which may be open for reading only; changes nothing.
///
/// # Errors
/// When the system does not say.
pub fn writer(file: impl AsFd) -> Result<Option<Option<Pid>>, Errno> {
    // What is in the way of a read lock is a write lock: a mere reader of the file has none.
    Ok(fcntl_getlk(file, &Flock::from(FlockType::ReadLock))?.map(|lock| lock.pid))
}

fn who_is_in_the_way(file: &OwnedFd) -> TakeError {
    match fcntl_getlk(file, &Flock::from(FlockType::WriteLock)) {
        Ok(Some(lock)) if lock.typ == FlockType::ReadLock => TakeError::Reader(lock.pid),
        // Also when it is gone by now: whoever had it may be an agent that ends.
        Ok(_) => TakeError::Held,
        Err(errno) => TakeError::Io("inspect", errno),
    }
}

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

fn locked() -> MutexGuard<'static, BTreeSet<Identity>> {
    LOCKED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::print_stdout, reason = "one process tells another")]
mod tests {
    use std::fs::File;
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::process::{Child, Command, Stdio};

    use rustix::fs::CWD;

    use super::*;

    fn take(path: &Path) -> Result<WriteLock, TakeError> {
        WriteLock::take(CWD, path)
    }

    #[test]
    fn it_is_taken_once_and_again_when_it_is_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = take(&path).unwrap();
        assert_eq!(take(&path).unwrap_err(), TakeError::Held);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        drop(first);
        drop(take(&path).unwrap());
    }

    /// What another process is to do, and with which file.
    const ROLE: &str = "PATTOO_TEST_LOCK_ROLE";
    const FILE: &str = "PATTOO_TEST_LOCK_FILE";

    /// Does nothing but as the process that [`another`] starts.
    #[test]
    fn as_another_process() {
        let (Ok(role), Ok(file)) = (std::env::var(ROLE), std::env::var(FILE)) else { return };
        let file = Path::new(&file);
        let reader = File::open(file).unwrap();
        match role.as_str() {
            "take" => println!("taken: {}", take(file).is_ok()),
            "who" => println!("taken: {}", writer(&reader).unwrap().is_none()),
            _ => {
                fs::fcntl_lock(&reader, FlockOperation::NonBlockingLockShared).unwrap();
                println!("taken: true");
                std::io::stdin().read_line(&mut String::new()).unwrap();
            }
        }
    }

    /// Another process in this role, and whether it could do what it was to.
    fn another(role: &str, file: &Path) -> (Child, bool) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "files::lock::tests::as_another_process", "--nocapture"]);
        command.env(ROLE, role).env(FILE, file).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // The harness says the test's name on the same line.
        let taken = lines.find_map(|line| line.split("taken: ").nth(1).map(|taken| taken == "true")).unwrap();
        (child, taken)
    }

    /// A second look by the same process must not end its lock: the kernel would let another process have it.
    #[test]
    fn a_failed_attempt_of_the_same_process_leaves_the_lock_in_force() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let lock = take(&path).unwrap();
        take(&path).unwrap_err();
        for (role, free) in [("take", false), ("who", false)] {
            let (mut child, taken) = another(role, &path);
            assert_eq!(taken, free, "{role}");
            child.wait().unwrap();
        }
        drop(lock);
        let (mut child, taken) = another("take", &path);
        assert!(taken, "given back");
        child.wait().unwrap();
    }

    /// A read lock is in the way, but whoever has it is no agent: that is said, and `--status` is not misled.
    #[test]
    fn a_reader_with_a_read_lock_is_told_apart_from_an_agent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        std::fs::write(&path, "").unwrap();
        let (mut child, taken) = another("read", &path);
        assert!(taken);
        let id = Pid::from_child(&child);
        assert_eq!(take(&path).unwrap_err(), TakeError::Reader(Some(id)));
        assert_eq!(writer(File::open(&path).unwrap()), Ok(None));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600, "nobody follows it");
        drop(child.stdin.take());
        child.wait().unwrap();
        take(&path).unwrap();
    }

    #[test]
    fn flock_by_a_reader_decides_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        std::fs::write(&path, "").unwrap();
        let reader = File::open(&path).unwrap();
        reader.lock().unwrap();
        take(&path).unwrap();
    }

    #[test]
    fn what_is_planted_in_its_place_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("victim"), "untouched").unwrap();
        symlink(at("victim"), at("link")).unwrap();
        std::fs::hard_link(at("victim"), at("second name")).unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        fs::mknodat(CWD, at("fifo"), FileType::Fifo, MODE, 0).unwrap();
        for name in ["link", "second name", "directory", "fifo"] {
            assert_eq!(take(&at(name)).unwrap_err(), TakeError::NotAFile, "{name}");
        }
        assert_eq!(std::fs::read_to_string(at("victim")).unwrap(), "untouched");
    }
}
