//! `completions`: what a shell needs to complete the words of the command line, made of its definition.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::arguments::Cli;
use crate::cli::terminal::pour;
use crate::daemon::exit::Exit;
use crate::outputs::pattoo::identity::PROGRAM;

/// Prints the completions for `shell`.
#[must_use]
pub fn completions(shell: Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), PROGRAM, &mut script);
    pour(&String::from_utf8_lossy(&script));
    Exit::Done
}
