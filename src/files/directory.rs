//! The directories of the configuration: whose they are, and what they are made of.
//!
//! What the agent trusts (lock, pid file, agent id, cache) must not be anybody else's to replace: a directory
//! of another user, or one that every user may write to, is refused. A log directory like that is warned of,
//! and so is a group that may write. The sticky bit of `/tmp` keeps others from replacing what is ours.
//!
//! A cache in memory, in a container's own layer or on the network is not what the promises about power cuts
//! and second agents were made for; that is warned of.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open, statfs};
use rustix::process::geteuid;
use thiserror::Error;

use super::lock::WriteLock;
use super::trust::{self, Untrusted};

/// Why a directory is of no use.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// It is not ours alone.
    #[error("what the agent relies on could be replaced by others")]
    Untrusted(#[from] Untrusted),
    /// Something else is in its place.
    #[error("{} is a file or a link to nothing, where a directory is to be; remove it, or configure another place", .0.display())]
    NotADirectory(PathBuf),
    /// The system said no.
    #[error("cannot make {}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes a directory that the agent relies on, if it is missing; warns when its group may write to it.
///
/// # Errors
/// When it cannot be made or looked at, or is not to be trusted.
pub fn make_trusted(path: &Path) -> Result<(), DirectoryError> {
    let made = make(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => DirectoryError::NotADirectory(path.to_owned()),
        _ => DirectoryError::Io { path: path.to_owned(), source },
    });
    match made? {
        None => Ok(()),
        Some(group @ Untrusted::Group(_)) => {
            tracing::warn!("{group}");
            Ok(())
        }
        Some(grave) => Err(grave.into()),
    }
}

/// Makes a directory if it is missing, and says what is wrong with whom it belongs to.
///
/// # Errors
/// When it cannot be made or looked at.
pub fn make(path: &Path) -> io::Result<Option<Untrusted>> {
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(path)?;
    let metadata = std::fs::metadata(path)?;
    Ok(trust::judge(path, metadata.uid(), metadata.mode(), geteuid().as_raw()))
}

/// What a person should know of the file system below `cache_directory`.
#[must_use]
pub fn medium_warning(cache_directory: &Path) -> Option<String> {
    // Numbers from the kernel's magic.h; a type that this machine's word cannot hold is none of them.
    let kind = u64::try_from(statfs(cache_directory).ok()?.f_type).ok()? & 0xffff_ffff;
    let (name, meaning) = match kind {
        0x0102_1994 => ("tmpfs", "is in memory: what is not delivered yet is lost when the machine restarts"),
        0x8584_58f6 => ("ramfs", "is in memory: what is not delivered yet is lost when the machine restarts"),
        0x794c_7630 => {
            ("overlayfs", "is a container's own layer: what is not delivered yet is lost with the container")
        }
        0x6969 => {
            ("NFS", "is on the network: a power cut or a second agent on another host can lose or double readings")
        }
        0xff53_4d42 | 0xfe53_4d42 => {
            ("SMB", "is on the network: a power cut or a second agent on another host can lose or double readings")
        }
        _ => return None,
    };
    Some(format!("the cache directory {} ({name}) {meaning}", cache_directory.display()))
}

/// Has a directory to oneself for as long as the result lives, among those who ask for that; nobody waits for it
/// longer than a few seconds, for it serves only to settle who is first. What is locked is a file within it, because
/// the directory itself can be locked by whoever may look into it: `lock_name`.
#[must_use]
pub fn hold(path: &Path, lock_name: &str) -> Option<WriteLock> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let directory = open(path, flags, Mode::empty()).ok()?;
    WriteLock::wait(&directory, Path::new(lock_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_in_memory_is_warned_of() {
        let warning = medium_warning(Path::new("/dev/shm"));
        assert!(warning.is_none_or(|warning| warning.contains("tmpfs")), "at most that");
        assert_eq!(medium_warning(Path::new("/proc")), None);
    }
}
