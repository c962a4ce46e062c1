//! `configure`: a device first, what it says, then where its readings go, then the configuration files.
//!
//! Each answer is judged at once: by the configuration that it would make, by the device, which is asked who it is and what it has
//! (`network`), and by the output, which is asked whether it would take readings. Files that exist are changed in
//! place and keep their comments ([`edit`](crate::config::edit)); one that says what to poll gets groups behind its
//! own, or stays. `pattoo.yaml` is asked for where an output is pattoo. What changes is shown before it is written, and what
//! is replaced is kept beside it as `.bak`. A directory that somebody else could replace is refused, and nothing is
//! written through a link. `--yes` asks nobody anything, no device either.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use thiserror::Error;

use self::drafts::{Change, Drafts};
use self::group::Group;
use self::interview::Interview;
use self::network::{Network, Sockets};
use self::terminal::Terminal;
use crate::cli::terminal::{complain, pour, say};
use crate::commands::reach;
use crate::config::edit::Refused;
use crate::config::outputs::OutputKind;
use crate::config::{AGENT_FILE, Config, Diagnostic};
use crate::daemon::exit::Exit;
use crate::files::atomic::WriteError;
use crate::files::trust;
use crate::text::{Chain, count};

mod devices;
mod drafts;
mod group;
mod interview;
mod network;
mod output;
#[cfg(test)]
mod script;
mod shared;
mod terminal;
#[cfg(test)]
mod tests;

/// Why nothing was written.
#[derive(Debug, Error)]
enum ConfigureError {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{0}")]
    Unreadable(Diagnostic),
    #[error("{} is a link or no file; remove it, or configure the directory that it leads to", .0.display())]
    NotAFile(PathBuf),
    #[error("nothing is written to {}, because others could replace what is in it", path.display())]
    Untrusted { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("{} is no mapping of sections that could be changed: {why}; correct it or move it away", path.display())]
    NotYaml { path: PathBuf, why: String },
    #[error("nothing is written: the answers ended before the questions; --yes takes all that is offered")]
    NoAnswer(#[source] io::Error),
    #[error("nothing is written: the configuration would be wrong\n{0}")]
    Wrong(String),
    #[error("nothing is written; in {}, {refused}", path.display())]
    InPlace { path: PathBuf, refused: Refused },
    /// Somebody wants it so.
    #[error("Nothing is written.")]
    Ended,
}

impl ConfigureError {
    fn exit(&self) -> Exit {
        match self {
            Self::Ended => Exit::Done,
            Self::Wrong(_) | Self::InPlace { .. } | Self::NotYaml { .. } | Self::Unreadable(_) => {
                Exit::BadConfiguration
            }
            Self::Io { source, .. } | Self::Untrusted { source, .. } | Self::Write(WriteError { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Exit::Permissions
            }
            Self::Io { .. } | Self::Untrusted { .. } | Self::Write(_) | Self::NoAnswer(_) | Self::NotAFile(_) => {
                Exit::Failure
            }
        }
    }
}

/// Asks, shows, writes.
#[must_use]
pub fn configure(config_dir: &Path, yes: bool) -> Exit {
    let error = match ask_and_write(config_dir, yes) {
        Ok(()) => return Exit::Done,
        Err(error) => error,
    };
    match &error {
        ConfigureError::Ended => say(&format!("{error}\n")),
        // Both have lines of their own.
        ConfigureError::Wrong(_) | ConfigureError::InPlace { .. } => complain(&error.to_string()),
        other => complain(&Chain(other).to_string()),
    }
    error.exit()
}

fn ask_and_write(config_dir: &Path, yes: bool) -> Result<(), ConfigureError> {
    // Before a single question: whoever could replace what is written would decide what root's agent polls.
    trust::check_way(config_dir).map_err(|source| {
        let path = config_dir.to_owned();
        if source.kind() == io::ErrorKind::PermissionDenied {
            ConfigureError::Untrusted { path, source }
        } else {
            ConfigureError::Io { action: "write to", path, source }
        }
    })?;
    // Also before: a shared file that no program can change in place is told before anybody has answered.
    let mut drafts = Drafts::of(config_dir)?;
    say(&format!("Configuring {}.\n", config_dir.display()));
    if !yes {
        may_write(config_dir)?;
    }
    let mut person = Terminal;
    let mut interview = Interview::new(&mut person);
    if yes {
        assume(&mut drafts)?;
    } else {
        ask(&mut interview, &mut Sockets, &mut drafts)?;
    }
    let changes = drafts.changes()?;
    if changes.is_empty() {
        say("\nNothing changes.\n");
        return Ok(());
    }
    for change in &changes {
        // As it is: it is the text of files.
        pour(&format!("\n{}", change.shown()));
    }
    // Shown first, judged then: a fault names lines that can be seen above it.
    let config = checked(&drafts)?;
    if !yes {
        agree(&mut interview, &config)?;
    }
    for change in &changes {
        change.write()?;
    }
    say(&finished(config_dir, &changes));
    Ok(())
}

/// Refuses to ask where nothing can be written in the end.
fn may_write(directory: &Path) -> Result<(), ConfigureError> {
    // What is not there yet is made below the first directory that is.
    let there = directory.ancestors().find(|it| it.exists()).unwrap_or(directory);
    let failed = |error: rustix::io::Errno| ConfigureError::Io {
        action: "write to",
        path: there.to_owned(),
        source: error.into(),
    };
    access(there, Access::WRITE_OK).map_err(failed)
}

/// Takes what is offered.
fn assume(drafts: &mut Drafts) -> Result<(), ConfigureError> {
    if needs_pattoo(drafts)? {
        shared::fill(drafts, None)?;
    }
    // A file that says what to poll stays: nobody is there who could say which groups to add.
    if !drafts.has_agent() {
        drafts.add(&Group::default());
    }
    Ok(())
}

/// Asks for everything that is not known.
fn ask(interview: &mut Interview<'_>, network: &mut dyn Network, drafts: &mut Drafts) -> Result<(), ConfigureError> {
    if !drafts.has_agent() {
        interview.tell("An empty answer takes what is in brackets; nothing is written before the end.\n\n");
        devices::ask(interview, network, drafts)?;
        return output::ask(interview, network, drafts);
    }
    // A file with faults may still be added to; then it is only not said how many devices it has.
    let polled = drafts.load()?.ok().map(|loaded| count(loaded.config.devices.len(), "device"));
    drafts.open_agent()?;
    let groups = count(drafts.next_place(), "group");
    interview.tell(&match polled {
        Some(devices) => format!("{AGENT_FILE} polls {devices} in {groups}.\n"),
        None => format!("{AGENT_FILE} has {groups}.\n"),
    });
    if interview.agrees("Add a group?", false)? {
        // Whether the file can be changed at all is said before anybody has answered much, with a group that shows how it is written.
        let example = Group { devices: "meter1.example.net".to_owned(), unit: "1".to_owned(), ..Group::default() };
        drafts.with_group(&example).changes()?;
        devices::ask(interview, network, drafts)?;
    }
    // Not before: without any group a file says nothing of its outputs, because it is wrong.
    if !needs_pattoo(drafts)? {
        return Ok(());
    }
    // Where something is wrong, the questions that mend it are not offered but asked.
    let is_right = drafts.load()?.is_ok();
    if is_right && !interview.agrees("Change the pattoo server, directories or log level?", false)? {
        return Ok(());
    }
    output::ask_pattoo(interview, network, drafts)
}

/// Whether readings go to a pattoo server, as they do where it is not said.
fn needs_pattoo(drafts: &Drafts) -> Result<bool, ConfigureError> {
    if !drafts.has_agent() {
        return Ok(true);
    }
    // With pattoo.yaml missing or wrong, an output that is pattoo is what needs it.
    let loaded = drafts.load()?;
    Ok(loaded.map_or(true, |loaded| loaded.config.outputs.iter().any(|output| output.kind == OutputKind::Pattoo)))
}

/// As the agent will have it, though nothing is written yet.
fn checked(drafts: &Drafts) -> Result<Config, ConfigureError> {
    let loaded = drafts.load()?.map_err(|error| ConfigureError::Wrong(error.to_string()))?;
    for warning in &loaded.warnings {
        say(&format!("warning: {warning}\n"));
    }
    Ok(loaded.config)
}

/// Asks whether it is to be written; who answers can be seen first.
fn agree(interview: &mut Interview<'_>, config: &Config) -> Result<(), ConfigureError> {
    interview.tell("\n");
    loop {
        match interview.pick("Write this? (yes, no, test: see who answers first)", &["yes", "no", "test"], "yes")? {
            "yes" => return Ok(()),
            "no" => return Err(ConfigureError::Ended),
            _ => {
                for answer in reach::outputs(config) {
                    interview.tell(&format!("{}\n", answer.unwrap_or_else(|why| why)));
                }
                interview.tell(&(reach::devices(config).join("\n") + "\n"));
            }
        }
    }
}

/// What was written, and what comes next.
fn finished(config_dir: &Path, changes: &[Change]) -> String {
    let names: Vec<_> = changes.iter().map(|change| format!("    {}\n", change.path.display())).collect();
    let secrets: Vec<_> = changes.iter().filter(|change| change.is_secret()).collect();
    let owner = secrets.first().map_or_else(String::new, |change| {
        format!("\nThe user that the agent runs as must be able to read {}: chown it.\n", change.path.display())
    });
    format!(
        "\nSuccessfully created configuration files:\n\n{}{owner}\nNext: pattoo_agent_modbustcpd check --config_dir {}\n",
        names.concat(),
        config_dir.display()
    )
}
