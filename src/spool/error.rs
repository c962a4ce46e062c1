//! What the disk can refuse, told with the path and the attempt.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use thiserror::Error;

use super::batch::Position;
use crate::files::lock::TakeError;

/// Why the spool did not do what it was asked.
#[derive(Debug, Error)]
pub enum SpoolError {
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
    /// Another process has it open.
    #[error("the cache directory {} is held by another agent", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Its lock file cannot be locked.
    #[error("the lock file {} is not to be had", path.display())]
    NoLock {
        /// The lock file.
        path: PathBuf,
        /// What is in the way.
        source: TakeError,
    },
    /// Something else was put where a directory of ours is to be.
    #[error(
        "{} is {what}, not a directory of its own, and is left alone, because readings must not be led elsewhere; \
         remove it (for a cache on another disk let cache_directory name that disk), then start the agent again",
        path.display()
    )]
    NotADirectory {
        /// Where.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// Something else was put where a file of ours is to be.
    #[error("{} is no regular file of its own and is left alone", path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
    },
    /// A file, or what is to become one, has more bytes than any of ours.
    #[error("{} has {bytes} bytes, too many", path.display())]
    TooLarge {
        /// Where.
        path: PathBuf,
        /// How many.
        bytes: u64,
    },
    /// A batch begins before the end of the log.
    #[error("a batch begins at reading {}, the log ends at {}", first.0, end.0)]
    OutOfOrder {
        /// Its first reading.
        first: Position,
        /// The end of the log.
        end: Position,
    },
    /// It was deleted, and what is at its path now is another disk.
    #[error("the cache directory {} is gone, and another file system is in its place", path.display())]
    Moved {
        /// The directory.
        path: PathBuf,
    },
}

impl SpoolError {
    /// Whether there is no room for another batch.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.errno().is_some_and(|errno| [Errno::NOSPC, Errno::DQUOT].contains(&errno))
    }

    /// Whether it is the fault of this file, and not of a process that has used up what it may have.
    #[must_use]
    pub fn is_of_the_file(&self) -> bool {
        let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR, Errno::AGAIN, Errno::STALE];
        self.errno().is_some_and(|errno| !passing.contains(&errno))
    }

    /// Whether the medium cannot read or write this place: the fault of no process, and none that waiting mends for sure.
    #[must_use]
    pub fn is_of_the_medium(&self) -> bool {
        // Linux: EUCLEAN and EBADMSG are a file system's words for damaged metadata and a wrong checksum, ENODATA the
        // block layer's for a medium error, EILSEQ for failed protection data.
        let medium = [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::NODATA, Errno::ILSEQ];
        self.errno().is_some_and(|errno| medium.contains(&errno))
    }

    /// Whether there is no such file.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.errno() == Some(Errno::NOENT)
    }

    /// Whether the disk takes nothing but can be read.
    #[must_use]
    pub fn takes_nothing(&self) -> bool {
        self.is_full() || self.is_read_only()
    }

    /// Whether the file system is mounted for reading only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.errno() == Some(Errno::ROFS)
    }

    fn errno(&self) -> Option<Errno> {
        let Self::Io { source, .. } = self else { return None };
        source.raw_os_error().map(Errno::from_raw_os_error)
    }
}
