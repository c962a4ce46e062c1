//! The host name that is part of every series, and the file that remembers it.
//!
//! The original asks the system at each start, so a new container, a DNS outage or a renamed host starts
//! every chart anew. Here the name first used is remembered beside the agent id and stays in use:
//! configured, else remembered (in two copies, [`mirrored`]), else what the system says. Whenever these disagree there is a
//! [`Disagreement`] to warn of; what is remembered is never replaced but by hand.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::system_name;
use crate::files::mirrored::{self, MirroredError};
use crate::outputs::pattoo::identity::{MAX_TEXT_BYTES, PROGRAM};

/// How long the system may take to say its name when it only serves to warn of a change.
const TO_COMPARE: Duration = Duration::from_secs(2);

/// How long it may take when the answer names every series from now on: as long as the resolver may need to
/// fail by itself, because a name said in haste would have to stay.
const TO_REMEMBER: Duration = Duration::from_secs(60);

/// Why there is no host name.
#[derive(Debug, Error)]
pub enum HostnameError {
    /// The file or its copy could not be read or made, or they disagree.
    #[error("the host name in use cannot be remembered")]
    File(#[from] MirroredError),
    /// The file is there, but what it holds is no name.
    #[error("{} holds no host name: {found:?}; remove it and {}, and set agent_hostname", path.display(), mirrored::copy(path).display())]
    NotAName {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
}

/// The name to post under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostname {
    /// The name.
    pub name: String,
    /// What a person should be told about it.
    pub warning: Option<Disagreement>,
}

/// Two sources of the host name that disagree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disagreement {
    /// `agent_hostname` is not the name first used: it is obeyed, and every chart starts anew.
    Configured {
        /// The name configured and in use.
        configured: String,
        /// The name first used.
        remembered: String,
        /// Where that is remembered.
        path: PathBuf,
    },
    /// The system now says something else than it did: the name first used stays.
    System {
        /// What the system says.
        system: String,
        /// The name first used, and in use.
        remembered: String,
    },
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured { configured, remembered, path } => write!(
                f,
                "agent_hostname is {configured:?}, but this agent has posted as {remembered:?}: every chart at the \
                 server starts anew under the new name; if that is meant, remove {} and {}",
                path.display(),
                mirrored::copy(path).display()
            ),
            Self::System { system, remembered } => write!(
                f,
                "this host is now called {system:?}, but this agent has posted as {remembered:?} and goes on so: \
                 under another name every chart at the server would start anew; agent_hostname settles it"
            ),
        }
    }
}

/// Where the name is remembered, below `daemon_directory`.
#[must_use]
pub fn path(daemon_directory: &Path) -> PathBuf {
    daemon_directory.join("agent_id").join(format!("{PROGRAM}.hostname"))
}

/// The name to post under, remembered from now on. Asks the system unless it is configured, which may take a
/// minute the first time and two seconds later on.
///
/// # Errors
/// When the name cannot be remembered, or what is remembered is no name.
pub fn decide(configured: Option<&str>, daemon_directory: &Path) -> Result<Hostname, HostnameError> {
    decide_with(configured, daemon_directory, system_name::within)
}

fn decide_with(
    configured: Option<&str>,
    daemon_directory: &Path,
    system: impl FnOnce(Duration) -> Option<String>,
) -> Result<Hostname, HostnameError> {
    let path = path(daemon_directory);
    let Some(remembered) = remembered(&path)? else {
        let name = match configured {
            Some(configured) => configured.to_owned(),
            None => system(TO_REMEMBER).unwrap_or_else(system_name::node),
        };
        mirrored::write(&path, &format!("{name}\n"))?;
        return Ok(Hostname { name, warning: None });
    };
    if let Some(configured) = configured {
        let configured = configured.to_owned();
        let name = configured.clone();
        let warning = (configured != remembered).then_some(Disagreement::Configured { configured, remembered, path });
        return Ok(Hostname { name, warning });
    }
    let name = remembered.clone();
    // A name service that is slow today says nothing about another name.
    let Some(system) = system(TO_COMPARE) else {
        return Ok(Hostname { name, warning: None });
    };
    let warning = (system != remembered).then_some(Disagreement::System { system, remembered });
    Ok(Hostname { name, warning })
}

fn remembered(path: &Path) -> Result<Option<String>, HostnameError> {
    let Some(mirrored::Found { text, .. }) = mirrored::read(path)? else {
        return Ok(None);
    };
    let name = text.trim();
    if name.is_empty() || name.len() > MAX_TEXT_BYTES || name.contains(char::is_control) {
        let found = name.chars().take(70).collect();
        return Err(HostnameError::NotAName { path: path.to_owned(), found });
    }
    Ok(Some(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn decide(configured: Option<&str>, directory: &Path, system: &str) -> Hostname {
        decide_with(configured, directory, |_| Some(system.to_owned())).unwrap()
    }

    fn silent(name: &str) -> Hostname {
        Hostname { name: name.to_owned(), warning: None }
    }

    #[test]
    fn the_name_first_used_stays_when_the_system_changes_its_mind() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(decide(None, root.path(), "plant-7"), silent("plant-7"));
        assert_eq!(decide(None, root.path(), "plant-7"), silent("plant-7"));

        let Hostname { name, warning } = decide(None, root.path(), "localhost");
        assert_eq!(name, "plant-7");
        let warning = warning.unwrap().to_string();
        assert!(warning.contains("\"localhost\"") && warning.contains("\"plant-7\""), "{warning}");
    }

    #[test]
    fn the_configured_name_is_obeyed_and_a_change_warned_of() {
        let root = tempfile::tempdir().unwrap();
        decide(None, root.path(), "plant-7");
        assert_eq!(decide(Some("plant-7"), root.path(), "x"), silent("plant-7"));

        let Hostname { name, warning } = decide(Some("plant-8"), root.path(), "x");
        assert_eq!(name, "plant-8");
        assert!(warning.unwrap().to_string().contains("starts anew"));
        assert_eq!(decide(None, root.path(), "plant-7"), silent("plant-7"));
    }

    #[test]
    fn a_configured_name_is_remembered_without_asking_the_system() {
        let root = tempfile::tempdir().unwrap();
        let never = |_| panic!("asked the system");
        assert_eq!(decide_with(Some("plant-7"), root.path(), never).unwrap(), silent("plant-7"));
        assert_eq!(decide(None, root.path(), "plant-7"), silent("plant-7"));
    }

    #[test]
    fn a_system_that_cannot_say_its_name_in_time_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        decide(None, root.path(), "plant-7");
        assert_eq!(decide_with(None, root.path(), |_| None).unwrap(), silent("plant-7"));
    }

    #[test]
    fn a_file_without_a_name_is_an_error() {
        for text in ["", "\n", "a\nb", "a\0", &"x".repeat(513)] {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("agent_id")).unwrap();
            fs::write(path(root.path()), text).unwrap();
            let result = decide_with(None, root.path(), |_| Some("plant-7".to_owned()));
            assert!(matches!(result, Err(HostnameError::NotAName { .. })), "{text:?}");
        }
    }
}
