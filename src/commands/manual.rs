//! `manual`: a manual page for each command, made of the definition of the command line. For packages; people read `--help`.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::arguments::Cli;
use crate::cli::terminal::complain;
use crate::daemon::exit::Exit;
use crate::text::Chain;

/// Writes the pages into `directory`: `pattoo_agent_modbustcpd.1`, `pattoo_agent_modbustcpd-check.1` …
#[must_use]
pub fn manual(directory: &Path) -> Exit {
    let written = fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command(), directory));
    let Err(error) = written else { return Exit::Done };
    complain(&format!("cannot write manual pages into {}: {}", directory.display(), Chain(&error)));
    if error.kind() == io::ErrorKind::PermissionDenied { Exit::Permissions } else { Exit::Failure }
}

/// The command line without what is not for people.
fn command() -> clap::Command {
    Cli::command().disable_help_subcommand(true)
}
