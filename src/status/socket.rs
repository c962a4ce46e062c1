//! The Unix socket by which a running agent tells how it is: whoever connects gets one snapshot as JSON.
//!
//! It is served by a thread of its own, so that it answers when the rest of the process hangs, and it is the
//! owner's alone (0600). Nothing is read from a client; one that does not read is left after [`PATIENCE`], or earlier
//! when many others ask.
//! Whoever serves must hold the agent's lock: a socket of that name is then a dead process's and is replaced.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use thiserror::Error;
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Builder;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use super::reporter::{Reporter, SAMPLE_EVERY};
use super::snapshot::Snapshot;
use crate::outputs::pattoo::identity::PROGRAM;
use crate::time::clock;

/// How long a client may take, and how long one waits for the agent.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// As many are answered at once; one more, and the oldest is left, for it does not read.
const MOST_CLIENTS: usize = 8;

/// Whoever asks within this time of another gets the same snapshot: it takes work, and memory while it is read.
const FRESH: Duration = Duration::from_millis(250);

/// The pause after a connection that could not be taken.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// `sun_path` without its final zero.
const LONGEST_ADDRESS: usize = 107;

/// A longer answer is not an agent's.
const MAX_ANSWER: u64 = 256 << 20;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody serves it.
    #[error("nobody answers on {}", .0.display())]
    Nobody(PathBuf),
    /// It is served, but no answer comes.
    #[error("no answer on {} within {PATIENCE:?}; the agent hangs", .0.display())]
    Silent(PathBuf),
    /// The system said no.
    #[error("cannot ask on {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no answer of this program.
    #[error("the answer on {} is not understood; is the running agent of another version?", path.display())]
    Strange {
        /// The socket.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
}

/// Where the socket of the agent with this `system_daemon_directory` is.
#[must_use]
pub fn path(system_daemon_directory: &Path) -> PathBuf {
    system_daemon_directory.join(format!("{PROGRAM}.sock"))
}

/// A socket that is served; removed when dropped.
#[derive(Debug)]
pub struct Served {
    path: PathBuf,
}

impl Drop for Served {
    fn drop(&mut self) {
        // One that stays is replaced by the next owner of the lock.
        fs::remove_file(&self.path).ok();
    }
}

/// Serves snapshots on `path` until the process ends.
///
/// # Errors
/// When the socket cannot be made, or something else is in its place.
pub fn serve(path: &Path, reporter: Arc<Mutex<Reporter>>) -> io::Result<Served> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else is there; remove it")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // The file mode mask keeps all but the owner from connecting until the mode is set.
    let listener = UnixListener::bind(Address::of(path)?.path)?;
    let served = Served { path: path.to_owned() };
    for_the_owner_alone(path)?;
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    thread::Builder::new()
        .name("status".to_owned())
        .spawn(move || runtime.block_on(answer_all(listener, &reporter)))?;
    Ok(served)
}

/// Sets the mode of the socket itself: a link that somebody has put in its place meanwhile is not followed.
fn for_the_owner_alone(path: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !socket.metadata()?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else was put in its place"));
    }
    // A socket cannot be opened but by O_PATH, and fchmod takes no such descriptor. By this name chmod finds what the
    // descriptor is of, and not what is at the path by now.
    let itself = Path::new("/proc/self/fd").join(socket.as_raw_fd().to_string());
    fs::set_permissions(itself, fs::Permissions::from_mode(0o600))
}

async fn answer_all(listener: UnixListener, reporter: &Mutex<Reporter>) {
    // It is non-blocking, and the runtime has its driver: nothing that could be refused.
    let Ok(listener) = tokio::net::UnixListener::from_std(listener) else { return };
    let mut clients: VecDeque<AbortHandle> = VecDeque::new();
    // Shared by the clients of one moment: eight of them that read slowly hold one text, not eight.
    let (mut json, mut taken): (Arc<[u8]>, Option<Instant>) = (Arc::default(), None);
    let mut sample = tokio::time::interval(SAMPLE_EVERY);
    // The default would make up for all ticks of a suspend at once.
    sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            _ = sample.tick() => {
                lock(reporter).sample(clock::boot());
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let Ok((mut client, _)) = accepted else {
            // Out of descriptors, most likely: others need them more.
            tokio::time::sleep(AFTER_REFUSAL).await;
            continue;
        };
        clients.retain(|client| !client.is_finished());
        // Who reads is done in an instant, so the oldest is one that does not.
        if clients.len() == MOST_CLIENTS
            && let Some(oldest) = clients.pop_front()
        {
            oldest.abort();
        }
        if taken.is_none_or(|taken| taken.elapsed() >= FRESH) {
            let snapshot = lock(reporter).snapshot(clock::now());
            json = serde_json::to_vec(&snapshot).unwrap_or_default().into();
            taken = Some(Instant::now());
        }
        let json = Arc::clone(&json);
        let answer = async move { client.write_all(&json).await };
        // A client that is gone or slow is its own trouble.
        let answer = tokio::spawn(async move { tokio::time::timeout(PATIENCE, answer).await.is_ok() });
        clients.push_back(answer.abort_handle());
    }
}

/// A socket's address has 107 bytes at most: a longer path is given by way of its directory's descriptor.
struct Address {
    path: PathBuf,
    _directory: Option<File>,
}

impl Address {
    fn of(path: &Path) -> io::Result<Self> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if path.as_os_str().len() <= LONGEST_ADDRESS {
            return Ok(Self { path: path.to_owned(), _directory: None });
        }
        let directory = File::open(directory)?;
        let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _directory: Some(directory) })
    }
}

/// The snapshot of the agent that serves `path`.
///
/// # Errors
/// When nobody answers, or not in time, or not in the form of this version.
pub fn ask(path: &Path) -> Result<Snapshot, AskError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::Nobody(path.to_owned()),
        // That is how the end of a read timeout is told.
        io::ErrorKind::WouldBlock => AskError::Silent(path.to_owned()),
        _ => AskError::Io { path: path.to_owned(), source },
    };
    let stream = Address::of(path).and_then(|address| UnixStream::connect(&address.path)).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).map_err(failed)?;
    serde_json::from_slice(&answer).map_err(|source| AskError::Strange { path: path.to_owned(), source })
}

/// A panic in between leaves plain data.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Timestamp;
    use crate::status::registry::Registry;
    use crate::status::snapshot::{Clock, OutputProfile, Profile};

    fn reporter(registry: Arc<Registry>) -> Arc<Mutex<Reporter>> {
        let profile = Profile {
            agent_id: "4c".repeat(32),
            hostname: "plant".to_owned(),
            outputs: vec![OutputProfile {
                name: "pattoo".to_owned(),
                kind: "pattoo",
                server: "server port 20201".to_owned(),
            }],
            started: Timestamp::default(),
            history: None,
        };
        let clock = || Clock { good: true, state: "good".to_owned() };
        Arc::new(Mutex::new(Reporter::new(profile, registry, Arc::default(), clock)))
    }

    #[test]
    fn a_link_in_the_place_of_the_socket_keeps_its_target_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (victim, path) = (directory.path().join("victim"), directory.path().join("x.sock"));
        fs::write(&victim, "").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        for_the_owner_alone(&path).unwrap_err();
        serve(&path, reporter(Arc::default())).unwrap_err();
        assert_eq!(fs::metadata(&victim).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn who_asks_gets_everything_however_many_do_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(directory.path());
        let registry = Arc::<Registry>::default();
        for device in 0..10_000 {
            registry.device(&format!("192.168.{}.{}", device / 256, device % 256)).write(|state| state.points = 10);
        }
        let served = serve(&path, reporter(registry)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let idle: Vec<_> = (0..3 * MOST_CLIENTS).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let snapshot = ask(&path).unwrap();
        assert_eq!((snapshot.polling.devices, snapshot.polling.points), (10_000, 100_000));
        drop((idle, served));
        assert!(matches!(ask(&path), Err(AskError::Nobody(_))));
    }

    #[test]
    fn a_path_longer_than_an_address_is_served_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("x".repeat(200));
        fs::create_dir(&long).unwrap();
        let path = path(&long);
        let served = serve(&path, reporter(Arc::default())).unwrap();
        assert_eq!(ask(&path).unwrap().pid, std::process::id());
        drop(served);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_socket_is_replaced_and_anything_else_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(directory.path());
        drop(UnixListener::bind(&path).unwrap());
        drop(serve(&path, reporter(Arc::default())).unwrap());
        fs::write(&path, "precious").unwrap();
        assert!(serve(&path, reporter(Arc::default())).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let victim = directory.path().join("victim");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        assert!(serve(&path, reporter(Arc::default())).is_err() && !victim.exists());
    }
}
