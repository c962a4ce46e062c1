//! What `pattoo.yaml` needs: each key with what it says now, or with what the Python agent has made on this machine, or with what
//! suffices.
//!
//! Offered is what the Python agent's installation offers, but where a service keeps its data (`DIFFERS`); what that
//! installation has made here is offered before anything else, because the agent id is there.

use std::path::Path;

use rustix::process::geteuid;

use super::ConfigureError;
use super::drafts::Drafts;
use super::interview::{Interview, Objection};
use crate::cli::terminal::say;
use crate::config::edit::Edit;
use crate::config::{SHARED_AGENT_FILE, SHARED_FILE};

/// What is offered otherwise than by the Python agent's installation, and why.
const DIFFERS: &str = "\
The defaults are those of the Python agent, but for
  cache_directory          /var/lib/pattoo/cache, was /opt/pattoo-cache
  daemon_directory         /var/lib/pattoo/daemon, was /opt/pattoo-daemon
  system_daemon_directory  /run/pattoo, was /var/run/pattoo (the same)
Services keep their data in /var/lib. Directories below /opt are offered where
they exist: agent id and readings are there. Users other than root are offered
directories below ~/pattoo.
";

/// The section that names the server.
const SERVER: &str = "pattoo_agent_api";

/// Where the Python agent's installations have their directories, later ones first.
const ITS_DIRECTORIES: [(&str, [&str; 2]); 2] =
    [("cache", ["/opt/pattoo/cache", "/opt/pattoo-cache"]), ("daemon", ["/opt/pattoo/daemon", "/opt/pattoo-daemon"])];

/// A key of `pattoo.yaml` and what is offered for it.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    section: &'static str,
    key: &'static str,
    offered: String,
}

/// What `pattoo.yaml` needs, with what it says now, or else with what the Python agent has made, or else with what
/// suffices. `newer` is `pattoo_agent.yaml` where the server is named there.
fn questions(edit: &Edit, newer: Option<&Edit>, root: bool, is_there: impl Fn(&str) -> bool) -> Vec<Question> {
    let its = |name| ITS_DIRECTORIES.iter().filter(move |(of, _)| *of == name).flat_map(|(_, paths)| paths);
    // For root only: others could not write there.
    let found = |name| its(name).find(|path| root && is_there(path)).map(|path| (*path).to_owned());
    let data = |name: &str| if root { format!("/var/lib/pattoo/{name}") } else { format!("~/pattoo/{name}") };
    let run = if root { "/run/pattoo".to_owned() } else { data("run") };
    let log = if root { "/var/log/pattoo".to_owned() } else { data("log") };
    let defaults = [
        (SERVER, "ip_address", "127.0.0.1".to_owned()),
        (SERVER, "ip_bind_port", "20201".to_owned()),
        ("pattoo", "log_level", "debug".to_owned()),
        ("pattoo", "log_directory", log),
        ("pattoo", "cache_directory", found("cache").unwrap_or_else(|| data("cache"))),
        ("pattoo", "daemon_directory", found("daemon").unwrap_or_else(|| data("daemon"))),
        ("pattoo", "system_daemon_directory", run),
    ];
    let offer = |(section, key, default)| {
        // A key that is not there has its default, whatever the section that does not count says.
        let of = newer.filter(|_| section == SERVER).unwrap_or(edit);
        let offered = of.get(section, key).unwrap_or(default);
        Question { section, key, offered }
    };
    defaults.into_iter().map(offer).collect()
}

/// Sets what is offered for each key; with an interview, what is answered.
///
/// Where `pattoo_agent.yaml` has the server, it wins: an answer in the other file would be without effect.
pub fn fill(drafts: &mut Drafts, mut interview: Option<&mut Interview<'_>>) -> Result<(), ConfigureError> {
    if drafts.shared == Edit::default() {
        match &mut interview {
            Some(interview) => interview.tell(DIFFERS),
            None => say(DIFFERS),
        }
    }
    let has_server = drafts.newer.has(SERVER);
    let is_there = |path: &str| Path::new(path).is_dir();
    let newer = drafts.newer.clone();
    let questions = questions(&drafts.shared, has_server.then_some(&newer), geteuid().is_root(), is_there);
    // What is not answered yet has what is offered: a file without a section is not judged further.
    for question in &questions {
        put(drafts, question, &question.offered)?;
    }
    let Some(interview) = &mut interview else { return Ok(()) };
    for question in &questions {
        let Question { section, key, offered } = question;
        let path = format!("{section}.{key}");
        let mut refused = None;
        let answer = interview.ask(&format!("{section}: {key}"), offered, |answer| {
            let mut trial = drafts.clone();
            if let Err(error) = put(&mut trial, question, answer) {
                // No answer can mend it: the text of the file is in the way. So it is not asked for again.
                refused = Some(error);
                return Vec::new();
            }
            // A doubt about a directory is no reason to ask again.
            let about = trial.objections(|it, is_fault| it.path == path && (is_fault || *key == "log_level"));
            about.unwrap_or_default().iter().map(Objection::from).collect()
        })?;
        refused.map_or(Ok(()), Err)?;
        put(drafts, question, &answer)?;
    }
    Ok(())
}

/// Sets the directories where only root could make those that an agent without `pattoo.yaml` has; whether that is so.
pub fn fill_directories(drafts: &mut Drafts) -> Result<bool, ConfigureError> {
    if geteuid().is_root() || drafts.has_shared() {
        return Ok(false);
    }
    for question in questions(&drafts.shared, None, false, |_| false).iter().filter(|it| it.section != SERVER) {
        let value = if question.key == "log_level" { "info" } else { &question.offered };
        put(drafts, question, value)?;
    }
    Ok(true)
}

fn put(drafts: &mut Drafts, question: &Question, value: &str) -> Result<(), ConfigureError> {
    let Question { section, key, .. } = question;
    let is_newer = *section == SERVER && drafts.newer.has(SERVER);
    let (of, name) = if is_newer { (&mut drafts.newer, SHARED_AGENT_FILE) } else { (&mut drafts.shared, SHARED_FILE) };
    of.set(section, key, value)
        .map_err(|refused| ConfigureError::InPlace { path: drafts.directory.join(name), refused })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_says_is_offered_and_defaults_for_the_rest() {
        let edit = Edit::parse("pattoo_agent_api: {ip_address: server.example.net}").unwrap();
        let offered: Vec<_> =
            questions(&edit, None, true, |_| false).into_iter().map(|question| question.offered).collect();
        assert_eq!(offered[..3], ["server.example.net", "20201", "debug"]);
        assert!(offered[3..].iter().all(|directory| directory.starts_with('/')), "{offered:?}");
    }

    #[test]
    fn the_directories_of_a_python_agent_are_offered_where_they_are() {
        let of = |question: &Question| question.key.ends_with("_directory").then(|| question.offered.clone());
        let offered = |root, there: &[&str]| -> Vec<String> {
            questions(&Edit::default(), None, root, |path| there.contains(&path)).iter().filter_map(of).collect()
        };
        let fresh = ["/var/log/pattoo", "/var/lib/pattoo/cache", "/var/lib/pattoo/daemon", "/run/pattoo"];
        assert_eq!(offered(true, &[]), fresh);
        let there = ["/opt/pattoo-cache", "/opt/pattoo-daemon"];
        assert_eq!(offered(true, &there)[1..3], there);
        let later = ["/opt/pattoo/cache", "/opt/pattoo/daemon"];
        assert_eq!(offered(true, &[&there[..], &later[..]].concat())[1..3], later);
        assert!(offered(false, &there).iter().all(|directory| directory.starts_with("~/pattoo/")));
        assert!(fresh.iter().all(|directory| directory.ends_with("log/pattoo") || DIFFERS.contains(directory)));
        assert!(there.iter().all(|directory| DIFFERS.contains(directory)));
    }
}
