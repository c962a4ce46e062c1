//! What the disk can refuse, told with the path and the attempt.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use thiserror::Error;

use crate::reading::Timestamp;

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
    /// The stamp of a new batch is not greater than all before it.
    #[error("a batch of {at} cannot follow one of {newest}")]
    NotNewer {
        /// The new batch's stamp.
        at: Timestamp,
        /// The newest on disk.
        newest: Timestamp,
    },
}

impl SpoolError {
    /// Whether the disk itself is full, read-only or broken, so that the next attempt is best made later.
    #[must_use]
    pub fn is_disk_trouble(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        source
            .raw_os_error()
            .map(Errno::from_raw_os_error)
            .is_some_and(|errno| [Errno::NOSPC, Errno::DQUOT, Errno::FBIG, Errno::ROFS, Errno::IO].contains(&errno))
    }
}
