//! A path as people write it: `~` stands for the home directory of the user that the agent runs as.
//!
//! A control character is refused: a path ends up in messages, and in the unit that root installs, where a newline
//! begins a line of its own.

use std::path::{Path, PathBuf};

use super::yaml::cursor::{Cursor, Report};
use super::yaml::node::Node;
use crate::text::harmless::is_harmless;

/// Where the file `name` is that `value` names: in `$CREDENTIALS_DIRECTORY` if it is there (`systemd.exec(5)`), else beside the file
/// that names it. Only a name and no more is looked for there: what lies elsewhere is none of the credentials.
pub fn credential(name: &Path, value: &Cursor<'_>, report: &Report) -> PathBuf {
    let bare = report.credentials.as_ref().filter(|_| Some(name.as_os_str()) == name.file_name());
    let place = bare.map(|directory| directory.join(name)).filter(|path| path.is_file());
    place.unwrap_or_else(|| value.directory().join(name))
}

/// The path in `value`, which should be `what`; relative when it is written so. What is wrong is in the report.
pub fn path(value: &Cursor<'_>, what: &str, report: &mut Report) -> Option<PathBuf> {
    let text = match &*value.node {
        Node::Text(text) if !text.is_empty() && text.chars().all(is_harmless) => text,
        Node::Text(text) if !text.is_empty() => {
            let found = value.node.shown();
            report.faults.push(value.diagnostic(format!(
                "found {found}, in which a character is invisible or controls a terminal; allowed is {what} without such"
            )));
            return None;
        }
        _ => {
            report.faults.push(value.unfit(what));
            return None;
        }
    };
    // `~user` is not looked up, and stays a name as any other.
    let Some(rest) = text.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
        return Some(PathBuf::from(text));
    };
    let Some(home) = report.home.as_ref().filter(|home| !home.is_empty()) else {
        report.faults.push(value.diagnostic(format!("found \"{text}\", but HOME is not set; write the whole path")));
        return None;
    };
    // $HOME is no text of the configuration, and ends up in the unit that root installs all the same.
    if !home.to_str().is_some_and(|home| home.chars().all(is_harmless)) {
        let message = format!("found \"{text}\", but HOME holds what no path should; write the whole path");
        report.faults.push(value.diagnostic(message));
        return None;
    }
    // Without its slash, or `join` would throw away the home.
    Some(PathBuf::from(home).join(rest.trim_start_matches('/')))
}
