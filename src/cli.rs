//! The command line as types. No I/O.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Polls Modbus TCP devices and delivers every reading to a pattoo server.
#[derive(Debug, Parser)]
#[command(name = "pattoo_agent_modbustcpd", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// Directory of the configuration files.
    #[arg(
        help = "Directory with pattoo.yaml and pattoo_agent_modbustcpd.yaml",
        long = "config_dir",
        visible_alias = "config-dir",
        value_name = "DIR",
        env = "PATTOO_CONFIGDIR",
        default_value = "/etc/pattoo",
        global = true
    )]
    pub config_dir: PathBuf,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Command {
    /// Poll and deliver in the foreground until SIGTERM or SIGINT (containers, systemd)
    Run,
    /// Validate the configuration without a network and print what will be polled
    Check,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failure, 2 usage, 75 another agent holds the directories, 77 permissions, 78 bad configuration";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
