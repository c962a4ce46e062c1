//! The queue on disk: one file per batch, delivered oldest first.
//!
//! # Format
//!
//! `<cache_directory>/<agent id>/` holds one file for each batch that is not delivered yet; its [`Name`] is
//! its place in the queue, its content one post body. There is no index: presence means not delivered.
//! `quarantine/` beside the batches holds what was found damaged. A file that ends in `.tmp` is a batch
//! being written, or what a crash left of one.
//!
//! # Invariants
//!
//! - A batch is visible under its name only when its content is on disk: written under a temporary name,
//!   fsynced, renamed, and the directory fsynced. [`Spool::append`] returns after the last of these.
//! - Stamps of appended batches only go up, so a rename never replaces anything.
//! - What leaves the spool is whole: the content of a batch of ours has the CRC-32C of its name, a Python
//!   agent's is a JSON object with the server's four keys. Whatever is not is moved to `quarantine/`
//!   untouched and reported; nothing damaged is ever deleted, and nothing damaged stops the queue.
//! - A delivered batch is unlinked without an fsync of the directory: after a power cut it may be back, and
//!   is posted once more, which the server ignores.
//! - Foreign names, directories, links and special files are neither read nor touched.
//! - Memory does not grow with the queue: the oldest [`WINDOW`] names are held, and the directory is read
//!   again when they are used up.
//! - One process at a time: the directory is held with flock for life.
//!
//! Everything here blocks on the disk; it belongs on a thread of its own.

use std::collections::{BTreeSet, BinaryHeap, HashSet};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

pub use self::error::SpoolError;
pub use self::name::Name;
use crate::reading::Timestamp;

mod body;
mod error;
mod name;

/// How many names are held in memory.
pub const WINDOW: usize = 65_536;

/// No batch is larger, in bytes; the Python agent's may be larger than ours.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// The directory for damaged batches.
const QUARANTINE: &str = "quarantine";

/// A batch read back from disk, whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the queue.
    pub name: Name,
    /// The post body.
    pub body: Vec<u8>,
    /// How many datapoints it holds.
    pub datapoints: usize,
}

/// A batch that was found damaged and moved away.
#[derive(Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Where it is now.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// The queue of one agent.
#[derive(Debug)]
pub struct Spool {
    directory: OwnedFd,
    path: PathBuf,
    agent_id: String,
    limit: usize,
    /// The oldest names on disk, `limit` at most after a scan.
    window: BTreeSet<Name>,
    /// Whether there is nothing on disk beyond the window.
    complete: bool,
    batches: usize,
    newest: Option<Timestamp>,
    /// Delivered, but the disk would not remove them.
    delivered: HashSet<Name>,
    quarantined: Vec<Quarantined>,
}

impl Spool {
    /// Opens the queue of the agent with this id below `cache_directory`, made when missing.
    ///
    /// # Errors
    /// When the directory cannot be made, read or locked.
    pub fn open(cache_directory: &Path, agent_id: &str) -> Result<Self, SpoolError> {
        Self::open_with(cache_directory, agent_id, WINDOW)
    }

    fn open_with(cache_directory: &Path, agent_id: &str, limit: usize) -> Result<Self, SpoolError> {
        let path = cache_directory.join(agent_id);
        make_directory(&path)?;
        let directory =
            fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
                .map_err(failed("open", &path))?;
        match fs::flock(&directory, fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(SpoolError::InUse { path }),
            Err(errno) => return Err(failed("lock", &path)(errno)),
        }
        let mut spool = Self {
            directory,
            path,
            agent_id: agent_id.to_owned(),
            limit,
            window: BTreeSet::new(),
            complete: true,
            batches: 0,
            newest: None,
            delivered: HashSet::new(),
            quarantined: Vec::new(),
        };
        spool.scan(true)?;
        Ok(spool)
    }
}

impl Spool {
    /// How many batches wait on disk.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// The greatest stamp on disk.
    #[must_use]
    pub fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    /// What was found damaged since the last call.
    pub fn take_quarantined(&mut self) -> Vec<Quarantined> {
        std::mem::take(&mut self.quarantined)
    }

    /// Takes in what the Python agent left in a directory of another name: its id file had white space
    /// around the id, and its cache directory and files then have it too. Returns how many were taken in.
    ///
    /// # Errors
    /// When a file cannot be moved; those moved before stay moved.
    pub fn adopt(&mut self, cache_directory: &Path, name: &str) -> Result<usize, SpoolError> {
        let path = cache_directory.join(name);
        let other = match fs::open(
            &path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        ) {
            Ok(other) => other,
            Err(Errno::NOENT) => return Ok(0),
            Err(errno) => return Err(failed("open", &path)(errno)),
        };
        let mut adopted = 0;
        for entry in fs::Dir::read_from(&other).map_err(failed("read", &path))? {
            let entry = entry.map_err(failed("read", &path))?;
            let Some(found) = Name::parse(entry.file_name().to_bytes(), name) else { continue };
            let mut at = found.at();
            // Two files of one millisecond: the later one moves on until its place is free.
            let file = loop {
                let file = Name::python(at).file_name(&self.agent_id);
                match fs::statat(&self.directory, &*file, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => break file,
                    Err(errno) => return Err(failed("inspect", &self.path.join(file))(errno)),
                    Ok(_) => at = Timestamp::from_millis(at.as_millis() + 1),
                }
            };
            fs::renameat(&other, entry.file_name(), &self.directory, &*file).map_err(failed("move", &path))?;
            adopted += 1;
        }
        if adopted > 0 {
            fs::fsync(&self.directory).map_err(failed("fsync", &self.path))?;
            self.scan(false)?;
        }
        Ok(adopted)
    }

    /// Puts a batch on disk; after `Ok` it survives a crash of the process and of the machine.
    ///
    /// # Errors
    /// When the disk refuses, or `at` is not greater than every stamp before it. Nothing of it stays behind.
    pub fn append(&mut self, at: Timestamp, body: &[u8]) -> Result<Name, SpoolError> {
        if let Some(newest) = self.newest.filter(|&newest| newest >= at) {
            return Err(SpoolError::NotNewer { at, newest });
        }
        let name = Name::of(at, body);
        let file_name = name.file_name(&self.agent_id);
        let temporary = format!("{file_name}{TEMPORARY}");
        if let Err(error) = self.write(&temporary, &file_name, body) {
            // A failed fsync is never asked again of the same file: the next attempt writes a new one.
            fs::unlinkat(&self.directory, &*temporary, AtFlags::empty()).ok();
            return Err(error);
        }
        if self.complete && self.window.len() < self.limit {
            self.window.insert(name);
        } else {
            self.complete = false;
        }
        self.batches += 1;
        self.newest = Some(at);
        Ok(name)
    }

    fn write(&self, temporary: &str, file_name: &str, body: &[u8]) -> Result<(), SpoolError> {
        let path = self.path.join(temporary);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o640);
        let file = fs::openat(&self.directory, temporary, flags, mode).map_err(failed("make", &path))?;
        // Whatever the umask says.
        fs::fchmod(&file, mode).map_err(failed("set the mode of", &path))?;
        let mut file = std::fs::File::from(file);
        file.write_all(body).map_err(|source| SpoolError::Io { action: "write", path: path.clone(), source })?;
        fs::fsync(&file).map_err(failed("fsync", &path))?;
        fs::renameat(&self.directory, temporary, &self.directory, file_name).map_err(failed("rename", &path))?;
        fs::fsync(&self.directory).map_err(failed("fsync", &self.path))
    }

    /// The batch that is to be delivered next. Damaged ones before it are moved to quarantine.
    ///
    /// # Errors
    /// When the disk refuses to read, or to move a damaged batch away.
    pub fn oldest(&mut self) -> Result<Option<Stored>, SpoolError> {
        loop {
            if self.window.is_empty() && !self.complete {
                self.scan(false)?;
            }
            let Some(&name) = self.window.first() else { return Ok(None) };
            match self.read(name)? {
                Found::Whole(stored) => return Ok(Some(stored)),
                Found::Damaged(why) => self.quarantine(name, why)?,
                Found::Gone => self.forget(name),
            }
        }
    }

    /// Removes a delivered batch.
    ///
    /// # Errors
    /// When the disk refuses; the batch then stays on disk but is not given out again in this life.
    pub fn acknowledge(&mut self, name: Name) -> Result<(), SpoolError> {
        let file_name = name.file_name(&self.agent_id);
        self.forget(name);
        match fs::unlinkat(&self.directory, &*file_name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => {
                self.delivered.insert(name);
                Err(failed("remove", &self.path.join(file_name))(errno))
            }
        }
    }

    fn forget(&mut self, name: Name) {
        if self.window.remove(&name) {
            self.batches = self.batches.saturating_sub(1);
        }
    }

    fn read(&self, name: Name) -> Result<Found, SpoolError> {
        let file_name = name.file_name(&self.agent_id);
        let path = self.path.join(&file_name);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match fs::openat(&self.directory, &*file_name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(Found::Gone),
            Err(Errno::LOOP) => return Ok(Found::Damaged("it is a symbolic link".to_owned())),
            Err(errno) => return Err(failed("open", &path)(errno)),
        };
        let stat = fs::fstat(&file).map_err(failed("inspect", &path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Found::Damaged("it is no regular file".to_owned()));
        }
        if stat.st_nlink > 1 {
            return Ok(Found::Damaged("it has more than one link".to_owned()));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if size > MAX_FILE_BYTES {
            return Ok(Found::Damaged(format!("it has {size} bytes, more than {MAX_FILE_BYTES}")));
        }
        let mut body = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        let mut limited = std::fs::File::from(file).take(MAX_FILE_BYTES);
        limited.read_to_end(&mut body).map_err(|source| SpoolError::Io { action: "read", path, source })?;
        if let Some(expected) = name.crc() {
            let found = crc32c::crc32c(&body);
            if found != expected {
                return Ok(Found::Damaged(format!("its CRC-32C is {found:08x}, not {expected:08x}")));
            }
        }
        Ok(match body::check(&body, &self.agent_id) {
            Ok(datapoints) => Found::Whole(Stored { name, body, datapoints }),
            Err(why) => Found::Damaged(why),
        })
    }

    fn quarantine(&mut self, name: Name, why: String) -> Result<(), SpoolError> {
        let file_name = name.file_name(&self.agent_id);
        let path = self.path.join(QUARANTINE);
        make_directory(&path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let quarantine =
            fs::openat(&self.directory, QUARANTINE, flags, Mode::empty()).map_err(failed("open", &path))?;
        let mut target = file_name.clone();
        let mut copy = 1;
        while fs::statat(&quarantine, &*target, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            copy += 1;
            target = format!("{file_name}.{copy}");
        }
        let moved = fs::renameat(&self.directory, &*file_name, &quarantine, &*target);
        moved.map_err(failed("quarantine", &self.path.join(file_name)))?;
        self.forget(name);
        self.quarantined.push(Quarantined { path: path.join(target), why });
        Ok(())
    }

    /// Reads the directory: keeps the oldest names, counts all.
    fn scan(&mut self, first: bool) -> Result<(), SpoolError> {
        let mut oldest: BinaryHeap<Name> = BinaryHeap::new();
        self.batches = 0;
        self.complete = true;
        for entry in fs::Dir::read_from(&self.directory).map_err(failed("read", &self.path))? {
            let entry = entry.map_err(failed("read", &self.path))?;
            let file_name = entry.file_name().to_bytes();
            let Some(name) = Name::parse(file_name, &self.agent_id) else {
                if first && self.is_leftover(file_name) {
                    fs::unlinkat(&self.directory, entry.file_name(), AtFlags::empty()).ok();
                }
                continue;
            };
            if self.delivered.contains(&name) {
                continue;
            }
            self.batches += 1;
            self.newest = self.newest.max(Some(name.at()));
            oldest.push(name);
            if oldest.len() > self.limit {
                oldest.pop();
                self.complete = false;
            }
        }
        self.window = oldest.into_iter().collect();
        Ok(())
    }

    /// Whether this is what a crash left of a batch that was being written: no other `.tmp` is ours to remove.
    fn is_leftover(&self, file_name: &[u8]) -> bool {
        file_name.strip_suffix(TEMPORARY.as_bytes()).is_some_and(|name| Name::parse(name, &self.agent_id).is_some())
    }
}

const TEMPORARY: &str = ".tmp";

/// What is behind a name.
enum Found {
    Whole(Stored),
    Damaged(String),
    Gone,
}

/// Makes a directory of ours and its parents, for owner and group alone.
fn make_directory(path: &Path) -> Result<(), SpoolError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o750).create(path);
    made.map_err(|source| SpoolError::Io { action: "make", path: path.to_owned(), source })
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(Errno) -> SpoolError + 'a {
    move |errno| SpoolError::Io { action, path: path.to_owned(), source: io::Error::from(errno) }
}
