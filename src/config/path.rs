//! A path as people write it: `~` stands for the home directory of the user that the agent runs as.

use std::path::PathBuf;

use super::node::Node;
use super::view::{Report, View};

/// The path in `value`, which should be `what`; relative when it is written so. What is wrong is in the report.
pub fn path(value: &View<'_>, what: &str, report: &mut Report) -> Option<PathBuf> {
    let text = match &*value.node {
        Node::Text(text) if !text.is_empty() && !text.contains('\0') => text,
        _ => {
            report.faults.push(value.unfit(what));
            return None;
        }
    };
    let Some(rest) = text.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
        return Some(PathBuf::from(text));
    };
    let Some(home) = report.home.as_ref().filter(|home| !home.is_empty()) else {
        report.faults.push(value.fault(format!("found \"{text}\", but HOME is not set; write the whole path")));
        return None;
    };
    Some(PathBuf::from(home).join(rest.trim_start_matches('/')))
}
