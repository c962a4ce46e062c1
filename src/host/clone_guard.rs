//! The machine on which this agent's id was first used, so that a cloned card is noticed.
//!
//! Two agents with one id mix their readings at the server. What is remembered beside the id is a digest of the
//! machine id, which systemd asks not to be told to anybody. A machine without one (many containers) is not
//! judged.

use std::path::{Path, PathBuf};

use crate::digest::sha256;
use crate::files::text_file::{self, TextFileError};
use crate::outputs::pattoo::identity::{AgentId, PROGRAM};

/// Where the machine id is.
const MACHINE_ID: &str = "/etc/machine-id";

/// Where the digest is remembered, below `daemon_directory`.
#[must_use]
pub fn path(daemon_directory: &Path) -> PathBuf {
    daemon_directory.join("agent_id").join(format!("{PROGRAM}.machine"))
}

/// What a person should be told when this is another machine than before; remembers it when it is the first.
///
/// # Errors
/// When what is remembered cannot be read, or this machine not be remembered.
pub fn notice(daemon_directory: &Path) -> Result<Option<String>, TextFileError> {
    let machine_id = text_file::read(Path::new(MACHINE_ID)).ok().flatten();
    notice_on(machine_id.as_deref().unwrap_or_default(), daemon_directory)
}

fn notice_on(machine_id: &str, daemon_directory: &Path) -> Result<Option<String>, TextFileError> {
    let machine_id = machine_id.trim();
    if machine_id.is_empty() {
        return Ok(None);
    }
    let here = AgentId::from_bytes(sha256(&[PROGRAM.as_bytes(), b" ", machine_id.as_bytes()]));
    let path = path(daemon_directory);
    match text_file::read(&path)? {
        None => text_file::write(&path, here.as_str()).map(|()| None),
        Some(first) if first.trim() == here.as_str() => Ok(None),
        Some(_) => Ok(Some(format!(
            "this is not the machine on which this agent id was first used: if that one still runs, the readings of \
             both are mixed at the server, and this one needs an id of its own (remove what is in {} and start anew); \
             if this one has taken its place, remove {}",
            path.parent().unwrap_or(&path).display(),
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_is_told_at_each_start_and_none_is_not_judged() {
        let root = tempfile::tempdir().unwrap();
        let notice = |machine_id| notice_on(machine_id, root.path()).unwrap().is_some();
        let starts = ["", "first\n", "first", "", "second", "second", "first"].map(notice);
        assert_eq!(starts, [false, false, false, false, true, true, false]);
        let kept = std::fs::read_to_string(path(root.path())).unwrap();
        assert!(!kept.contains("first"), "a digest");
    }
}
