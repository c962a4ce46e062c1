//! argv → command → exit code. No logic.

use clap::Parser as _;
use pattoo_agent_modbustcpd::cli::{Cli, Command};
use pattoo_agent_modbustcpd::daemon;

fn main() {
    let cli = Cli::parse();
    let exit = match cli.command {
        Command::Run => daemon::run::run(&cli.config_dir),
        Command::Check => daemon::check::check(&cli.config_dir),
    };
    // Not a return: a name look-up that hangs in a thread of its own must not hold the process.
    std::process::exit(i32::from(exit.code()));
}
