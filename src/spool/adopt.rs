//! Taking in what the Python agent left in a directory of another name: its id file had white space around the id, and its
//! cache directory and files then have it too.

use std::path::Path;

use super::directory::Directory;
use super::{Name, SpoolError};
use crate::reading::Timestamp;

/// Moves the files of the directory `name` beside `directory` into that, under names of the agent with this id.
pub(super) fn adopt(directory: &Directory, name: &str, agent_id: &str) -> Result<usize, SpoolError> {
    let beside = directory.path().parent().unwrap_or(Path::new("."));
    let Some(other) = Directory::open_existing(beside.join(name))? else { return Ok(0) };
    let mut adopted = 0;
    other.list(|file| {
        let Some(found) = Name::parse(file.to_bytes(), name) else { return Ok(()) };
        let mut at = found.at();
        // Two files of one millisecond: the later one moves on until its place is free.
        let place = loop {
            let place = Name::python(at).file_name(agent_id);
            if !directory.has(&place)? {
                break place;
            }
            at = Timestamp::from_millis(at.as_millis().saturating_add(1));
        };
        adopted += usize::from(other.move_to(file, directory, &place)?);
        Ok(())
    })?;
    if adopted > 0 {
        directory.sync()?;
    }
    Ok(adopted)
}
