//! A file that is written to where it is: opened through no link, and made for the agent and its group.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens the regular file at `path` for reading and appending; a new one has the mode 0640.
///
/// # Errors
/// When the system says no, or something else is in its place.
pub fn open_or_make(path: &Path) -> io::Result<File> {
    // A pipe that nobody reads would be waited for, and a link may be somebody else's.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::new(ErrorKind::InvalidInput, "it is no file")) }
}
