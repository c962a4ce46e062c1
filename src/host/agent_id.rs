//! The file that holds the agent id: the identity of every series this agent has ever posted.
//!
//! Reads the original's file where it is, and keeps a copy of it ([`mirrored`]); makes an id only when there is
//! neither, and when that is allowed. A file that is there and holds no id is an error for a person to settle: a
//! new id in its place would start every chart anew, silently.

use std::io;
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};
use thiserror::Error;

use crate::digest::sha256;
use crate::files::mirrored::{self, MirroredError};
use crate::outputs::pattoo::identity::{AgentId, IdentityError, PROGRAM};

/// Why there is no agent id.
#[derive(Debug, Error)]
pub enum AgentIdError {
    /// The file or its copy could not be read or made, or they disagree.
    #[error("no agent id without its file")]
    File(#[from] MirroredError),
    /// There is no file, and none is to be made.
    #[error("there is no agent id in {}, and PATTOO_REQUIRE_STATE forbids to make one; is the volume mounted?", .0.display())]
    Missing(PathBuf),
    /// The file is there, but what it holds is no id.
    #[error("{} holds no agent id; restore it, or remove it and {} to start every chart anew",
        path.display(), mirrored::copy(path).display())]
    NotAnId {
        /// The file.
        path: PathBuf,
        /// What was found.
        source: IdentityError,
    },
    /// The id that was given is not the one that is stored.
    #[error("PATTOO_AGENT_ID is not the agent id in {}; remove one of them, for charts belong to an id", .0.display())]
    Another(PathBuf),
    /// What was given is none.
    #[error("PATTOO_AGENT_ID holds no agent id")]
    Given(#[source] IdentityError),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes to make an agent id from")]
    Random(#[source] io::Error),
}

/// An agent id as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAgentId {
    /// The id.
    pub id: AgentId,
    /// What the original took for the id when its file has white space around it, a trailing newline above
    /// all: the name of the cache directory in which it then left what it could not deliver.
    pub original_cache: Option<String>,
    /// Whether the file was gone and was made again from its copy.
    pub restored: bool,
}

/// What to do when there is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Make one: every chart starts here.
    Make,
    /// Refuse: the volume that holds it is not there.
    Refuse,
}

/// Where the agent id is, below `daemon_directory`.
#[must_use]
pub fn path(daemon_directory: &Path) -> PathBuf {
    daemon_directory.join("agent_id").join(format!("{PROGRAM}.agent_id"))
}

/// The agent id of this `daemon_directory`, made and stored if there is none and `missing` says so.
///
/// # Errors
/// When the file cannot be read or made, holds no id, or is missing and must not be.
pub fn load_or_make(daemon_directory: &Path, missing: Missing) -> Result<StoredAgentId, AgentIdError> {
    if let Some(stored) = load(daemon_directory)? {
        return Ok(stored);
    }
    let path = path(daemon_directory);
    if missing == Missing::Refuse {
        return Err(AgentIdError::Missing(path));
    }
    let id = random()?;
    mirrored::write(&path, id.as_str())?;
    Ok(StoredAgentId { id, original_cache: None, restored: false })
}

/// The agent id `given` from outside, for agents on several machines that are one to the server; it is not stored.
///
/// # Errors
/// When it is none, or another one is stored.
pub fn given(daemon_directory: &Path, given: &str) -> Result<StoredAgentId, AgentIdError> {
    let id: AgentId = given.parse().map_err(AgentIdError::Given)?;
    match load(daemon_directory)? {
        Some(stored) if stored.id != id => Err(AgentIdError::Another(path(daemon_directory))),
        Some(stored) => Ok(stored),
        None => Ok(StoredAgentId { id, original_cache: None, restored: false }),
    }
}

/// The agent id of this `daemon_directory`, or `None` when none was made yet.
///
/// # Errors
/// When the file cannot be read or holds no id.
pub fn load(daemon_directory: &Path) -> Result<Option<StoredAgentId>, AgentIdError> {
    let path = path(daemon_directory);
    let Some(mirrored::Found { text, restored }) = mirrored::read(&path)? else {
        return Ok(None);
    };
    let id: AgentId = text.parse().map_err(|source| AgentIdError::NotAnId { path, source })?;
    let original = first_line(&text);
    let original_cache = (original != id.as_str()).then_some(original);
    Ok(Some(StoredAgentId { id, original_cache, restored }))
}

/// The first line as Python's `readline` gives it, its end included.
fn first_line(text: &str) -> String {
    match text.find(['\n', '\r']) {
        Some(end) => format!("{}\n", &text[..end]),
        None => text.to_owned(),
    }
}

/// An id that no other agent has.
fn random() -> Result<AgentId, AgentIdError> {
    let mut bytes = [0_u8; 64];
    let mut filled = 0;
    while filled < bytes.len() {
        // Without flags it waits for the kernel's first entropy. A gateway on its first boot starts late then, but with
        // an id of its own.
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())
            .map_err(|error| AgentIdError::Random(error.into()))?;
    }
    Ok(AgentId::from_bytes(sha256(&[&bytes])))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ID: &str = "37ff015533c1d7e0f2c23891cc7acce7c145d454bac8cd0223649591ef63bb84";

    fn daemon_directory_with(text: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("agent_id")).unwrap();
        fs::write(path(root.path()), text).unwrap();
        root
    }

    #[test]
    fn an_id_is_made_once_and_is_another_elsewhere() {
        let [here, there] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        assert_eq!(load(here.path()).unwrap(), None);
        assert!(matches!(load_or_make(here.path(), Missing::Refuse), Err(AgentIdError::Missing(_))));
        assert_eq!(load(here.path()).unwrap(), None);
        let made = load_or_make(here.path(), Missing::Make).unwrap();
        assert_eq!(made.original_cache, None);
        assert_eq!(load_or_make(here.path(), Missing::Make).unwrap(), made);
        assert_ne!(load_or_make(there.path(), Missing::Make).unwrap().id, made.id);
        assert_eq!(fs::read_to_string(path(here.path())).unwrap(), made.id.as_str());
        fs::remove_file(path(here.path())).unwrap();
        assert_eq!(load_or_make(here.path(), Missing::Refuse).unwrap(), StoredAgentId { restored: true, ..made });
    }

    #[test]
    fn the_originals_file_is_read_and_its_cache_directory_named_as_the_original_named_it() {
        let cases = [
            (ID.to_owned(), None),
            (format!("{ID}\n"), Some(format!("{ID}\n"))),
            (format!("{ID}\r\n"), Some(format!("{ID}\n"))),
            (format!(" {ID} \n\n"), Some(format!(" {ID} \n"))),
        ];
        for (text, original_cache) in cases {
            let root = daemon_directory_with(&text);
            let stored = load_or_make(root.path(), Missing::Make).unwrap();
            assert_eq!((stored.id.as_str(), stored.original_cache), (ID, original_cache), "{text:?}");
            assert_eq!(fs::read_to_string(path(root.path())).unwrap(), text);
        }
    }

    #[test]
    fn a_file_without_an_id_is_an_error_and_stays_as_it_is() {
        for text in ["", "\n", "not an id", &ID[1..], &format!("{ID}\n{ID}\n")] {
            let root = daemon_directory_with(text);
            assert!(matches!(load_or_make(root.path(), Missing::Make), Err(AgentIdError::NotAnId { .. })), "{text:?}");
            assert_eq!(fs::read_to_string(path(root.path())).unwrap(), text);
        }
    }
}
