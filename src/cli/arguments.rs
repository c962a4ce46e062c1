//! The command line as types. No I/O.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::shard::Shard;
use crate::text::harmless::is_harmless;

/// Polls Modbus TCP devices and delivers every reading to a pattoo server.
#[derive(Debug, Parser)]
#[command(name = "pattoo_agent_modbustcpd", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// Directory of the configuration files.
    #[arg(
        help = "Directory with pattoo.yaml and pattoo_agent_modbustcpd.yaml",
        short = 'f',
        long = "config_dir",
        visible_alias = "config-dir",
        value_name = "DIR",
        env = "PATTOO_CONFIGDIR",
        default_value = "/etc/pattoo",
        value_parser = path(),
        global = true
    )]
    pub config_dir: PathBuf,

    /// Which of several agents with this configuration this is.
    #[arg(
        help = "Be agent K, counted from 0, of N that share the configuration: each device is polled by one of them",
        long,
        value_name = "K/N",
        env = "PATTOO_SHARD",
        default_value_t,
        hide_default_value = true,
        global = true
    )]
    pub shard: Shard,

    /// The original's flags.
    #[command(flatten)]
    pub control: Control,

    /// End by force what does not stop (with --stop and --restart)
    #[arg(long, requires = "Control", conflicts_with_all = ["start", "status"])]
    pub force: bool,

    /// Show every device (with --status)
    #[arg(long, requires = "status")]
    pub all: bool,

    /// For people or for programs (with --status)
    #[arg(long, value_enum, default_value_t = Format::Table, requires = "status")]
    pub format: Format,

    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Control of the daemon in the background, one of them at a time.
#[derive(Debug, Clone, Copy, Args)]
#[group(required = false, multiple = false)]
#[allow(clippy::struct_excessive_bools, reason = "the original's flags, of which clap allows one at a time")]
pub struct Control {
    /// Start the agent in the background
    #[arg(long)]
    pub start: bool,
    /// Stop the agent and wait until it is gone
    #[arg(long)]
    pub stop: bool,
    /// Stop the agent if it runs, then start it
    #[arg(long)]
    pub restart: bool,
    /// Say whether the agent runs, and how it is
    #[arg(long)]
    pub status: bool,
}

impl Control {
    /// Whether any of them is asked for.
    #[must_use]
    pub fn is_any(self) -> bool {
        self.start || self.stop || self.restart || self.status
    }
}

/// How output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Table,
    /// JSON for programs.
    Json,
}

/// The subcommands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Start the agent in the background; the same as --start
    Start,
    /// Stop the agent and wait until it is gone; the same as --stop
    Stop(Force),
    /// Stop the agent if it runs, then start it; the same as --restart
    Restart(Force),
    /// Say whether the agent runs, and how it is; the same as --status
    Status(Status),
    /// Poll and deliver in the foreground until SIGTERM or SIGINT (containers, systemd)
    Run,
    /// Validate the configuration without a network and print what will be polled
    Check(Check),
    /// Print every request of a poll, and whether there is time for all of them; without a network
    Plan(Plan),
    /// Poll once and print every value, or why there is none; posts nothing
    Once(Once),
    /// Look at a device that is not configured yet; reads only
    Probe(Probe),
    /// Look at the readings on disk, beside a running agent or without one; changes nothing
    Spool(Spool),
    /// Write names and units of measurement as a CSV that a pattoo server imports
    Translations(Translations),
    /// Ask for the configuration and write it
    Configure(Configure),
    /// Install the systemd service; neither enables nor starts it
    Install(Install),
    /// Remove the systemd service; configuration, readings and agent id stay
    Uninstall(Place),
    /// Print the JSON schema of the agent's configuration, by which editors complete and check it
    Schema,
    /// Print what makes a shell complete the words of this command line
    Completions(Completions),
    /// Write a manual page for each command
    #[command(hide = true)]
    Manual(Manual),
}

/// How to stop.
#[derive(Debug, Clone, Copy, Args)]
pub struct Force {
    /// End by force what does not stop
    #[arg(id = "by_force", long = "force")]
    pub force: bool,
}

/// How to show how the agent is.
#[derive(Debug, Clone, Copy, Args)]
pub struct Status {
    /// Show it anew every two seconds until Ctrl-C
    #[arg(long)]
    pub follow: bool,
    /// Show every device
    #[arg(id = "status_all", long = "all")]
    pub all: bool,
    /// For people or for programs
    #[arg(id = "status_format", long = "format", value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// For which shell.
#[derive(Debug, Clone, Copy, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: clap_complete::Shell,
}

/// Where to write.
#[derive(Debug, Clone, Args)]
pub struct Manual {
    /// The directory, which is made
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub to: PathBuf,
}

/// What to check.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct Check {
    /// Print instead what changes when the configuration in DIR is replaced by this one: devices, charts, settings
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub against: Option<PathBuf>,
    /// Print instead every setting of the devices, its value and where it comes from
    #[arg(long, conflicts_with = "against")]
    pub settings: bool,
    /// Ask instead every output over the network whether it would take readings; none is sent
    #[arg(long, conflicts_with_all = ["against", "settings"])]
    pub connect: bool,
    /// Exit with 78 if there is any warning
    #[arg(long)]
    pub strict: bool,
    /// Show every row, however many there are
    #[arg(id = "check_all", long = "all", conflicts_with_all = ["against", "settings", "connect"])]
    pub all: bool,
    /// For people or for programs; json has every fault and warning with file, line, column and key
    #[arg(
        id = "check_format",
        long = "format",
        value_name = "FORMAT",
        value_enum,
        default_value_t = Format::Table,
        conflicts_with_all = ["against", "settings", "connect"]
    )]
    pub format: Format,
    /// Print faults only, and nothing where there is none
    #[arg(short, long, conflicts_with_all = ["against", "settings", "connect", "strict"])]
    pub quiet: bool,
}

/// How to plan.
#[derive(Debug, Clone, Args)]
pub struct Plan {
    /// How long a device takes for a request [default: 50ms]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "measure")]
    pub response: Option<Duration>,
    /// Poll each device to know how long it takes; one that allows a single connection keeps a running agent waiting
    #[arg(long)]
    pub measure: bool,
    /// For people or for programs
    #[arg(id = "plan_format", long = "format", value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Show every row, however many there are
    #[arg(id = "plan_all", long = "all")]
    pub all: bool,
}

/// What to poll once.
#[derive(Debug, Clone, Args)]
#[allow(clippy::doc_markdown, reason = "the texts are for people who use a terminal")]
#[command(after_help = "Runs beside the agent. A device that allows a single connection makes one of the two wait.")]
pub struct Once {
    /// Only this device, as it is spelled in ip_devices or by its name; may be given several times
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<String>,
    /// Only this polling group; may be given several times
    #[arg(long, value_name = "NAME")]
    pub group: Vec<String>,
    /// How to print it
    #[arg(id = "once_format", long = "format", value_enum, default_value_t = TableFormat::Table)]
    pub format: TableFormat,
    /// Exit with 3 if any point has no value
    #[arg(long)]
    pub strict: bool,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// In columns.
    Table,
    /// As a JSON array.
    Json,
    /// With commas.
    Csv,
}

/// What to look at.
#[derive(Debug, Clone, Args)]
#[allow(clippy::doc_markdown, reason = "the texts are for people who use a terminal")]
#[allow(clippy::struct_excessive_bools, reason = "searches, of which clap allows one at a time")]
pub struct Probe {
    /// Name, address, host:port or serial port, as in ip_devices
    #[arg(value_name = "HOST[:PORT]")]
    pub target: String,
    /// The first register (30001, 400001, ...) or coil; for --units the one to ask for
    #[arg(value_name = "ADDRESS", required_unless_present_any = ["units", "scan", "sunspec"])]
    pub address: Option<i64>,
    /// How many
    #[arg(value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=2000))]
    pub count: u16,
    /// The unit to ask
    #[arg(long, default_value_t = 1)]
    pub unit: u8,
    /// RTU over TCP instead of Modbus TCP
    #[arg(long)]
    pub rtu: bool,
    /// How long to wait for a connection, and for each reply
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Find out which units answer
    #[arg(long, conflicts_with_all = ["scan", "sunspec"])]
    pub units: bool,
    /// Find out which registers of the unit can be read
    #[arg(long, conflicts_with_all = ["sunspec", "address"])]
    pub scan: bool,
    /// List the SunSpec models of the unit, and write polling groups for them
    #[arg(long, conflicts_with = "address")]
    pub sunspec: bool,
}

/// What to do with the readings on disk.
#[derive(Debug, Clone, Args)]
pub struct Spool {
    /// What to do.
    #[command(subcommand)]
    pub action: SpoolAction,
}

/// What can be done with them.
#[derive(Debug, Clone, Subcommand)]
pub enum SpoolAction {
    /// Show what is on disk: segments, where each output is, how much waits and for how long
    Show(SpoolShow),
    /// Write what waits as CSV, as JSON lines, or as bodies that the Python agent and the server take
    Export(SpoolExport),
}

/// Which readings.
#[derive(Debug, Clone, Args)]
pub struct SpoolPlace {
    /// The cache directory, or an agent's own in it, instead of what the configuration says, which is then not read
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub cache: Option<PathBuf>,
}

/// How to show it.
#[derive(Debug, Clone, Args)]
pub struct SpoolShow {
    /// Where it is.
    #[command(flatten)]
    pub place: SpoolPlace,
    /// For people or for programs
    #[arg(id = "spool_format", long = "format", value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// What to write, and how.
#[derive(Debug, Clone, Args)]
pub struct SpoolExport {
    /// Where it is.
    #[command(flatten)]
    pub place: SpoolPlace,
    /// What waits for this output [default: the first one]
    #[arg(long, value_name = "NAME", conflicts_with = "export_all")]
    pub output: Option<String>,
    /// Everything on disk, whatever was delivered
    #[arg(id = "export_all", long = "all")]
    pub all: bool,
    /// How to write it
    #[arg(id = "export_format", long = "format", value_name = "FORMAT", value_enum, default_value_t = ExportFormat::Csv)]
    pub format: ExportFormat,
    /// Into this directory, which is made, or is empty; pattoo needs it
    #[arg(long, value_name = "DIR", value_parser = path(), required_if_eq("export_format", "pattoo"))]
    pub to: Option<PathBuf>,
}

/// How readings are written for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Bodies of posts in files that are named as those in the cache of the Python agent.
    Pattoo,
    /// With commas.
    Csv,
    /// A JSON object a line.
    Jsonl,
}

/// What to translate.
#[derive(Debug, Clone, Args)]
#[allow(clippy::doc_markdown, reason = "the texts are for people who use a terminal")]
#[command(
    after_help = "Then, on the server: pattoo_cli.py import key_translation --idx_pair_xlate_group N --filename FILE\n\
                  A language other than en must be there before: pattoo_cli.py create language --code CODE --name NAME"
)]
pub struct Translations {
    /// Only this device, as it is spelled in ip_devices or by its name; may be given several times
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<String>,
    /// Only this polling group; may be given several times
    #[arg(long, value_name = "NAME")]
    pub group: Vec<String>,
    /// The language of the names, one that the server knows
    #[arg(long, value_name = "CODE", default_value = "en", value_parser = language)]
    pub language: String,
    /// Into this file instead of stdout
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub to: Option<PathBuf>,
}

/// How to configure.
#[derive(Debug, Clone, Args)]
pub struct Configure {
    /// Ask nothing: take the values of files that exist, and defaults
    #[arg(long)]
    pub yes: bool,
}

/// How to install.
#[derive(Debug, Clone, Args)]
#[command(override_usage = "pattoo_agent_modbustcpd install [OPTIONS] -u <USERNAME> -g <GROUP>")]
pub struct Install {
    /// User who runs the agent
    #[arg(short, long, visible_alias = "user", value_parser = account_name)]
    pub username: String,
    /// Group of that user
    #[arg(short, long, value_parser = account_name)]
    pub group: String,
    /// Install a template for agents that share the configuration: pattoo_agent_modbustcpd@0-4 is shard 0/4
    #[arg(long)]
    pub shards: bool,
    /// Where to.
    #[command(flatten)]
    pub place: Place,
}

/// Where to install, and whether to.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Install into the image below DIR, running no command
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub root: Option<PathBuf>,
}

/// A path without characters that mean something to a terminal, or to the unit that root installs.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        // A path is shown on terminals, and `install` writes it into a unit, where a newline would begin a line of its
        // own.
        let harmless = path.to_str().is_some_and(|path| path.chars().all(is_harmless));
        if harmless { Ok(path) } else { Err("it holds a control character, or is not UTF-8") }
    })
}

/// The code of a language, in the lower case in which pattoo looks it up.
fn language(code: &str) -> Result<String, &'static str> {
    let fit = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
    if code.starts_with(|first: char| first.is_ascii_alphabetic()) && code.chars().all(fit) {
        // As pattoo looks it up.
        Ok(code.to_lowercase())
    } else {
        Err("allowed is the code of a language, such as en or pt-br: letters, digits, - and _, a letter first")
    }
}

/// The name of a user or a group, as `useradd` allows them and with what directories add.
fn account_name(name: &str) -> Result<String, &'static str> {
    // Nothing that a unit reads as more than a name, such as `%`, a space or a newline.
    let fit = |character: char| character.is_alphanumeric() || "_.-@".contains(character);
    let first = |character: char| character.is_alphanumeric() || character == '_';
    // Accounts of machines in a domain end in `$`.
    let bare = name.strip_suffix('$').unwrap_or(name);
    if bare.starts_with(first) && bare.chars().all(fit) {
        Ok(name.to_owned())
    } else {
        Err("allowed are letters, digits and _.-@, the first one a letter, a digit or _")
    }
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failure or readings lost, 2 usage, 3 not running (status) or a point without a value (once --strict), \
75 another agent holds the directories, 77 permissions or owners, 78 bad configuration";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_name_or_a_path_that_would_write_more_into_the_unit_is_refused() {
        let install = |config_dir: &str, username: &str, root: &str| {
            let arguments = ["x", "install", "-f", config_dir, "--root", root, "--username", username, "--group", "g"];
            Cli::try_parse_from(arguments).map(drop)
        };
        install("/etc/pat too", "plant.7-a_b@example.net", "/image").unwrap();
        install("/etc/pattoo", "machine$", "/image").unwrap();
        for bad in ["/x\nExecStartPre=/bin/sh", "/x\r", "/x\u{1b}[31m", "/x\u{2028}y", "/x\u{202e}y"] {
            install(bad, "plant", "/image").unwrap_err();
            install("/etc/pattoo", "plant", bad).unwrap_err();
        }
        for bad in ["", "a b", "a\nUser=root", "%i", "-x", "a:b", "a/b", "a\"b", "a\\b", "a$b", "#x", ";"] {
            install("/etc/pattoo", bad, "/image").unwrap_err();
        }
    }
}
