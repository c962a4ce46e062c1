//! The directory `quarantine/`: what is damaged or cannot be delivered, for people to look at.
//!
//! Names are made of the content, so the same is not kept twice. Nothing is ever removed from it.

use std::path::PathBuf;

use super::SpoolError;
use super::disk::{Disk, Stat, shown};

/// Beside the log.
pub(super) const DIRECTORY: &str = "quarantine";

/// Keeps `body` as `file_name`, unless a file of this name and length is there.
pub(super) fn keep(disk: &mut dyn Disk, file_name: &str, body: &[u8]) -> Result<PathBuf, SpoolError> {
    let path = format!("{DIRECTORY}/{file_name}");
    // The length is enough: the name is made of the content, and `replace` leaves no half of a file.
    if disk.stat(&path)? != Stat::File(body.len() as u64) {
        disk.replace(&path, body)?;
    }
    Ok(shown(disk, &path))
}
