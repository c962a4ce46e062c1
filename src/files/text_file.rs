//! One line of text on disk that must outlive the process: the agent id, the remembered host name.
//!
//! Reads with suspicion: a symlink, a FIFO, a device or a file over [`MAX_BYTES`] is an error, never
//! followed, waited for or read into memory. Writes whole or not at all ([`atomic`]), so that a power cut leaves the
//! old content or the new. Files are
//! for their owner alone (0600), missing directories are made with mode 0750.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use thiserror::Error;

use crate::files::atomic::{self, Access, WriteError};

/// More than any such file holds.
pub const MAX_BYTES: u64 = 4096;

/// Why a small file could not be read or written.
#[derive(Debug, Error)]
pub enum TextFileError {
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
    /// It is no regular file.
    #[error("{} is no regular file (links are not followed)", .0.display())]
    NotAFile(PathBuf),
    /// It is longer than any file of its kind.
    #[error("{} is larger than {} bytes", .0.display(), .1)]
    TooLarge(PathBuf, u64),
    /// It holds no text.
    #[error("{} is not UTF-8 text", .0.display())]
    NotText(PathBuf),
}

/// The content of the file at `path`, or `None` when there is no such file.
///
/// # Errors
/// When something is there that cannot be read as a small text.
pub fn read(path: &Path) -> Result<Option<String>, TextFileError> {
    read_up_to(path, MAX_BYTES)
}

/// The content of the file at `path`, if it is not longer than `bytes`, or `None` when there is no such file.
///
/// # Errors
/// When something is there that cannot be read as such a text.
pub fn read_up_to(path: &Path, bytes: u64) -> Result<Option<String>, TextFileError> {
    let most = bytes;
    let io = |source| failed("read", path, source);
    // Without NONBLOCK the opening of a FIFO waits for a writer.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return Err(TextFileError::NotAFile(path.to_owned()));
        }
        Err(error) => return Err(io(error)),
    };
    if !file.metadata().map_err(io)?.is_file() {
        return Err(TextFileError::NotAFile(path.to_owned()));
    }
    let mut bytes = Vec::new();
    // One byte more shows that it is too long. What the file says of its length may be another one by now.
    file.take(most + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > most {
        return Err(TextFileError::TooLarge(path.to_owned(), most));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| TextFileError::NotText(path.to_owned()))
}

/// Makes `text` the content of the file at `path`, and its directory if it is missing.
///
/// # Errors
/// When the system says no; the file is then as it was.
pub fn write(path: &Path, text: &str) -> Result<(), TextFileError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(directory)
        .map_err(|error| failed("make the directory", directory, error))?;

    atomic::write(path, text.as_bytes(), Access::mode(0o600))
        .map_err(|WriteError { action, path, source }| TextFileError::Io { action, path, source })
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> TextFileError {
    TextFileError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_was_written_is_read_back_and_only_its_owner_may() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("new/agent_id/x.agent_id");
        assert!(read(&path).unwrap().is_none());
        for text in ["first", "second\n"] {
            write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap().unwrap(), text);
            assert_eq!(mode(&path), 0o600);
        }
        assert_eq!(mode(path.parent().unwrap()) & 0o027, 0);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_or_an_enemy_left_as_the_temporary_file_is_not_written_through() {
        let root = tempfile::tempdir().unwrap();
        let victim = root.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        let path = root.path().join("x.agent_id");
        symlink(&victim, root.path().join("x.agent_id.tmp")).unwrap();
        write(&path, "text").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), "text");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    }

    #[test]
    fn links_fifos_directories_and_large_files_are_refused_without_waiting() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::write(at("target"), "text").unwrap();
        symlink(at("target"), at("link")).unwrap();
        symlink(at("nowhere"), at("broken")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        let everyone = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, everyone, 0).unwrap();
        for name in ["link", "broken", "directory", "fifo"] {
            assert!(matches!(read(&at(name)), Err(TextFileError::NotAFile(_))), "{name}");
        }

        fs::write(at("fits"), "x".repeat(4096)).unwrap();
        fs::write(at("large"), "x".repeat(4097)).unwrap();
        fs::write(at("binary"), [0xff, 0xfe]).unwrap();
        assert!(read(&at("fits")).is_ok());
        assert!(matches!(read(&at("large")), Err(TextFileError::TooLarge(..))));
        assert!(matches!(read(&at("binary")), Err(TextFileError::NotText(_))));
    }
}
