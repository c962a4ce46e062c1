//! The [`Disk`] of the operating system, reached by descriptors.
//!
//! The directory of the agent is held open and locked for life; every file is opened relative to it, so nothing is written
//! below a mount point whose disk was pulled. Links are not followed, a FIFO is not waited for, what is no regular file is
//! left alone. Directories have mode 0750, files 0640. A few files are kept open, so that a process that has used up its
//! descriptors goes on writing. When somebody has deleted the directory, a new one is made in its place, on the same disk.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{self, OFlags};
use rustix::io::Errno;

use super::SpoolError;
use super::directory::{Directory, failed};
use super::disk::{Disk, Space, Stat};
use crate::files::lock::WriteLock;

/// So many files are kept open: the segment that grows, the cursors, and one segment for each of some outputs.
const OPEN: usize = 8;

/// The directory of an agent on a disk.
#[derive(Debug)]
pub struct RealDisk {
    root: Directory,
    /// Held for as long as this lives; `None` on a disk that takes no file.
    #[allow(dead_code, reason = "held, never looked at")]
    lock: Option<WriteLock>,
    directories: BTreeMap<String, Directory>,
    /// The one used last is the last.
    files: Vec<OpenFile>,
    began: Instant,
}

#[derive(Debug)]
struct OpenFile {
    path: String,
    writable: bool,
    file: OwnedFd,
}

impl RealDisk {
    /// Opens and locks the directory of the agent with this id below `cache_directory`; it is made when missing.
    ///
    /// # Errors
    /// When it cannot be made, opened or locked; [`SpoolError::InUse`] when another process has it.
    pub fn open(cache_directory: &Path, agent_id: &str) -> Result<Self, SpoolError> {
        let root = Directory::open(cache_directory.join(agent_id))?;
        let lock = root.lock()?;
        // So that a directory made just now is found again after a power cut; one that is old needs none of it.
        if let Ok(parent) = fs::open(cache_directory, OFlags::RDONLY | OFlags::CLOEXEC, fs::Mode::empty()) {
            fs::fsync(parent).ok();
        }
        Ok(Self { root, lock, directories: BTreeMap::new(), files: Vec::new(), began: Instant::now() })
    }

    /// Takes in what the Python agent left in a directory of another name beside this one: its id file had white space around
    /// the id, and its cache directory and files then have it too. Returns how many files were taken in. To be called
    /// before the log is opened.
    ///
    /// # Errors
    /// When a file cannot be moved; those moved before stay moved.
    pub fn adopt(&self, name: &str, agent_id: &str) -> Result<usize, SpoolError> {
        super::adopt::adopt(&self.root, name, agent_id)
    }

    /// The directory at `path`; `None` when it is missing and not to be made.
    fn at(&mut self, path: &str, make: bool) -> Result<Option<&Directory>, SpoolError> {
        if path.is_empty() {
            return Ok(Some(&self.root));
        }
        if self.directories.get(path).is_some_and(Directory::is_deleted) {
            self.directories.remove(path);
            // These files have lost their names with the directory.
            self.files.retain(|open| !open.path.starts_with(path));
        }
        if !self.directories.contains_key(path) {
            let Some(opened) = self.walk(path, make)? else { return Ok(None) };
            // The one that is always needed stays open, and one of the others.
            self.directories.retain(|name, _| name == super::log::DIRECTORY);
            self.directories.insert(path.to_owned(), opened);
        }
        Ok(self.directories.get(path))
    }

    fn walk(&mut self, path: &str, make: bool) -> Result<Option<Directory>, SpoolError> {
        if make && self.root.is_deleted() {
            self.renew()?;
        }
        let mut found: Option<Directory> = None;
        for name in path.split('/') {
            let parent = found.as_ref().unwrap_or(&self.root);
            let existing = parent.existing(name)?;
            if existing.is_none() && !make {
                return Ok(None);
            }
            let opened = if let Some(existing) = existing {
                existing
            } else {
                let new = parent.subdirectory(name)?;
                // What is synced in a directory whose own name is not durable is lost with it.
                parent.sync()?;
                new
            };
            found = Some(opened);
        }
        Ok(found)
    }

    /// Begins anew where somebody has deleted everything.
    fn renew(&mut self) -> Result<(), SpoolError> {
        if let Some(new) = self.root.anew()? {
            // The lock was on a file in the directory that was deleted: it keeps nobody out of the new one.
            self.lock = new.lock()?;
            self.root = new;
            self.directories.clear();
            self.files.clear();
        }
        Ok(())
    }

    /// The directory of a file that is to be made, and its name there.
    fn place<'p>(&mut self, path: &'p str) -> Result<(&Directory, &'p str), SpoolError> {
        let (directory, name) = split(path);
        if directory.is_empty() && self.root.is_deleted() {
            self.renew()?;
        }
        let shown = self.root.path().join(directory);
        let directory = self.at(directory, true)?;
        Ok((directory.ok_or_else(|| failed("open", &shown)(Errno::NOENT))?, name))
    }

    fn open_file(&mut self, path: &str, writable: bool) -> Result<&OwnedFd, SpoolError> {
        // One that is open for reading only is opened anew for writing, in its place.
        let place = self.files.iter().position(|open| open.path == path && (open.writable || !writable));
        let open = if let Some(place) = place {
            self.files.remove(place)
        } else {
            self.close(path);
            let shown = self.root.path().join(path);
            let (directory, name) = split(path);
            let directory = self.at(directory, false)?.ok_or_else(|| failed("open", &shown)(Errno::NOENT))?;
            let access = if writable { OFlags::RDWR } else { OFlags::RDONLY };
            let file = directory.open_file(name, access)?;
            OpenFile { path: path.to_owned(), writable, file }
        };
        self.keep(open);
        self.files.last().map(|open| &open.file).ok_or_else(|| failed("open", Path::new(path))(Errno::NOENT))
    }

    fn keep(&mut self, open: OpenFile) {
        if self.files.len() >= OPEN {
            self.files.remove(0);
        }
        self.files.push(open);
    }

    fn close(&mut self, path: &str) {
        self.files.retain(|open| open.path != path);
    }

    fn shown(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }
}

impl Disk for RealDisk {
    fn root(&self) -> &Path {
        self.root.path()
    }

    fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    fn list(&mut self, directory: &str, visit: &mut dyn FnMut(&str)) -> Result<(), SpoolError> {
        let Some(directory) = self.at(directory, false)? else { return Ok(()) };
        directory.list(|name| {
            if let Some(name) = name.to_str().ok().filter(|name| !matches!(*name, "." | "..")) {
                visit(name);
            }
            Ok(())
        })
    }

    fn stat(&mut self, path: &str) -> Result<Stat, SpoolError> {
        let (directory, name) = split(path);
        self.at(directory, false)?.map_or(Ok(Stat::Missing), |directory| directory.stat(name))
    }

    fn create(&mut self, path: &str) -> Result<(), SpoolError> {
        self.close(path);
        let (directory, name) = self.place(path)?;
        let file = directory.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        self.keep(OpenFile { path: path.to_owned(), writable: true, file });
        Ok(())
    }

    fn write_at(&mut self, path: &str, mut offset: u64, mut bytes: &[u8]) -> Result<(), SpoolError> {
        let shown = self.shown(path);
        let file = self.open_file(path, true)?;
        // What is written into a file without a name is lost with the process.
        if fs::fstat(file).map_err(failed("inspect", &shown))?.st_nlink == 0 {
            self.close(path);
            return Err(failed("write", &shown)(Errno::NOENT));
        }
        while !bytes.is_empty() {
            match rustix::io::pwrite(file, bytes, offset) {
                // No progress and no error: without this the loop would never end.
                Ok(0) => return Err(failed("write", &shown)(Errno::IO)),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    offset = offset.saturating_add(written as u64);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("write", &shown)(errno)),
            }
        }
        Ok(())
    }

    fn read_at(&mut self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, SpoolError> {
        let shown = self.shown(path);
        let file = self.open_file(path, false)?;
        let mut read = 0;
        while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match rustix::io::pread(file, rest, offset.saturating_add(read as u64)) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("read", &shown)(errno)),
            }
        }
        Ok(read)
    }

    fn truncate(&mut self, path: &str, length: u64) -> Result<(), SpoolError> {
        let shown = self.shown(path);
        fs::ftruncate(self.open_file(path, true)?, length).map_err(failed("cut", &shown))
    }

    fn sync(&mut self, path: &str) -> Result<(), SpoolError> {
        let shown = self.shown(path);
        fs::fdatasync(self.open_file(path, true)?).map_err(failed("fsync", &shown))
    }

    fn sync_directory(&mut self, directory: &str) -> Result<(), SpoolError> {
        self.at(directory, false)?.map_or(Ok(()), Directory::sync)
    }

    fn replace(&mut self, path: &str, content: &[u8]) -> Result<(), SpoolError> {
        self.close(path);
        let (directory, name) = self.place(path)?;
        directory.replace(name, content)
    }

    fn remove(&mut self, path: &str) -> Result<(), SpoolError> {
        // Its room is free when nobody has it open.
        self.close(path);
        let (directory, name) = split(path);
        self.at(directory, false)?.map_or(Ok(()), |directory| directory.remove(name))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<bool, SpoolError> {
        self.close(from);
        // Open files are known by their path, which is another file's from now on.
        self.close(to);
        let shown = self.shown(from);
        let (target, to) = self.place(to)?;
        let target =
            // Cloned because `at` below may close this directory to open the other.
            target.fd().try_clone().map_err(|source| SpoolError::Io { action: "move", path: shown.clone(), source })?;
        let (directory, name) = split(from);
        let Some(directory) = self.at(directory, false)? else { return Ok(false) };
        match fs::renameat(directory.fd(), name, target, to) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("move", &shown)(errno)),
        }
    }

    fn space(&mut self) -> Option<Space> {
        let system = fs::fstatvfs(self.root.fd()).ok()?;
        Some(Space {
            // Not `f_bfree`, which counts the blocks that are reserved for root.
            free: system.f_bavail.saturating_mul(system.f_frsize),
            total: system.f_blocks.saturating_mul(system.f_frsize),
        })
    }
}

/// The directory of `path`, and the name in it.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
