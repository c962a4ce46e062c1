//! What the log asks of a disk: the few operations on files below the directory of one agent.
//!
//! All that decides is above this trait, so a simulation implements it in memory and lets every operation fail, be torn
//! or be undone by a power cut. What an implementation owes:
//!
//! - Paths are relative to the directory of the agent, `log/0000000000000000.segment`; none leads out of it. A directory on
//!   the way is made when a file in it is made.
//! - Bytes that [`write_at`](Disk::write_at) took survive the death of the process. They survive a power cut after
//!   [`sync`](Disk::sync) of the file, and the file's name does after [`sync_directory`](Disk::sync_directory).
//! - After an error of `write_at` any part of the bytes may be in the file. After an error of `sync` nothing that was written
//!   since the last `Ok` is sure to reach the disk, even if a later `sync` says `Ok`: it must be written again.
//! - [`replace`](Disk::replace) is all or nothing, and durable when it says `Ok`.
//! - A missing file is the error for which [`SpoolError::is_gone`] says yes.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SpoolError;

/// No small file (point table, holds, body of an old cache) is larger, in bytes.
pub(super) const MAX_WHOLE: u64 = 256 << 20;

/// What is behind a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stat {
    /// Nothing.
    Missing,
    /// A regular file of so many bytes.
    File(u64),
    /// A directory, link, FIFO, socket or device.
    Other,
}

/// How full the file system is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What this process may still write.
    pub free: u64,
    /// The size of the file system.
    pub total: u64,
}

/// The directory of one agent.
pub trait Disk: Send + Debug {
    /// Where it is, for messages.
    fn root(&self) -> &Path;

    /// Time since some moment; never goes back.
    fn uptime(&self) -> Duration;

    /// Calls `visit` with each name in `directory` (empty: the agent's own) that is valid UTF-8. A missing directory has none.
    ///
    /// # Errors
    /// When the disk refuses.
    fn list(&mut self, directory: &str, visit: &mut dyn FnMut(&str)) -> Result<(), SpoolError>;

    /// What is at `path`; a link is not followed.
    ///
    /// # Errors
    /// When the disk does not say.
    fn stat(&mut self, path: &str) -> Result<Stat, SpoolError>;

    /// Makes an empty file where nothing is.
    ///
    /// # Errors
    /// When there is something, or the disk refuses.
    fn create(&mut self, path: &str) -> Result<(), SpoolError>;

    /// Writes `bytes` into an existing file from `offset` on.
    ///
    /// # Errors
    /// When the disk refuses any of them.
    fn write_at(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), SpoolError>;

    /// Fills `buffer` from `offset` on; fewer bytes than it holds mean the end of the file.
    ///
    /// # Errors
    /// When the disk refuses, or there is no such regular file.
    fn read_at(&mut self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, SpoolError>;

    /// Cuts a file to `length` bytes.
    ///
    /// # Errors
    /// When the disk refuses.
    fn truncate(&mut self, path: &str, length: u64) -> Result<(), SpoolError>;

    /// Makes the content of a file durable (`fdatasync`).
    ///
    /// # Errors
    /// When the disk refuses.
    fn sync(&mut self, path: &str) -> Result<(), SpoolError>;

    /// Makes the names in `directory` durable.
    ///
    /// # Errors
    /// When the disk refuses.
    fn sync_directory(&mut self, directory: &str) -> Result<(), SpoolError>;

    /// Makes `content` the content of the file at `path`, at once and durably.
    ///
    /// # Errors
    /// When the disk refuses. The file then has its old content or all of the new one.
    fn replace(&mut self, path: &str, content: &[u8]) -> Result<(), SpoolError>;

    /// Removes the file, which may be gone already.
    ///
    /// # Errors
    /// When the disk refuses.
    fn remove(&mut self, path: &str) -> Result<(), SpoolError>;

    /// Gives the file another name; `false` when it is gone.
    ///
    /// # Errors
    /// When the disk refuses.
    fn rename(&mut self, from: &str, to: &str) -> Result<bool, SpoolError>;

    /// How full the file system is; `None` when it does not say.
    fn space(&mut self) -> Option<Space>;
}

/// `path`, for messages.
pub(super) fn shown(disk: &dyn Disk, path: &str) -> PathBuf {
    disk.root().join(path)
}

/// The whole content of a small file; `None` when there is none.
pub(super) fn read_whole(disk: &mut dyn Disk, path: &str) -> Result<Option<Vec<u8>>, SpoolError> {
    let size = match disk.stat(path)? {
        Stat::Missing => return Ok(None),
        Stat::Other => return Err(SpoolError::NotAFile { path: shown(disk, path) }),
        Stat::File(size) => size,
    };
    if size > MAX_WHOLE {
        return Err(SpoolError::TooLarge { path: shown(disk, path), bytes: size });
    }
    let mut content = vec![0; usize::try_from(size).unwrap_or_default()];
    match disk.read_at(path, 0, &mut content) {
        Ok(read) => content.truncate(read),
        // Removed since `stat`.
        Err(error) if error.is_gone() => return Ok(None),
        Err(error) => return Err(error),
    }
    Ok(Some(content))
}
