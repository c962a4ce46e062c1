//! argv → command → exit code. No logic.

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use pattoo_agent_modbustcpd::cli::arguments::{Cli, Command, Control, Format, Probe, TableFormat};
use pattoo_agent_modbustcpd::cli::terminal;
use pattoo_agent_modbustcpd::commands::selection::Selection;
use pattoo_agent_modbustcpd::commands::{
    check, completions, configure, install, manual, once, plan, probe, schema, spool, translations,
};
use pattoo_agent_modbustcpd::config::Instance;
use pattoo_agent_modbustcpd::daemon::exit::Exit;
use pattoo_agent_modbustcpd::daemon::{self, control};

const NOTHING_TO_DO: &str = "nothing to do: name a command, or --start, --stop, --restart or --status";

#[expect(clippy::disallowed_methods, reason = "the end of all, after the log")]
fn main() {
    let cli = Cli::parse();
    let instance = &Instance { config_dir: cli.config_dir, shard: cli.shard };
    let directory = &instance.config_dir;
    let exit = match (cli.command, cli.control) {
        (Some(_), control) if control.is_any() => {
            Cli::command().error(ErrorKind::ArgumentConflict, "a flag of the daemon and a command at once").exit()
        }
        (Some(Command::Start), _) | (None, Control { start: true, .. }) => control::start(instance),
        (Some(Command::Stop(how)), _) => control::stop(instance, how.force),
        (Some(Command::Restart(how)), _) => control::restart(instance, how.force),
        (Some(Command::Status(how)), _) if how.follow => control::follow(instance, how.format, how.all),
        (Some(Command::Status(how)), _) => control::status(instance, how.format, how.all),
        (Some(Command::Run), _) => daemon::run::run(instance),
        (Some(Command::Check(how)), _) => match how.against {
            None if how.settings => check::settings(instance),
            None if how.connect => check::connect(instance),
            None if how.quiet => check::faults(instance),
            None if how.format == Format::Json => check::as_json(instance, how.strict),
            None => check::check(instance, how.strict, how.all),
            Some(running) => check::compare(running, instance),
        },
        (Some(Command::Plan(how)), _) => {
            let json = how.format == Format::Json;
            plan::plan(instance, plan::Options { response: how.response, measure: how.measure, json, all: how.all })
        }
        (Some(Command::Once(how)), _) => {
            let form = match how.format {
                TableFormat::Table => once::Form::Table,
                TableFormat::Json => once::Form::Json,
                TableFormat::Csv => once::Form::Csv,
            };
            let selection = Selection { devices: how.device, groups: how.group };
            once::once(instance, &once::Options { selection, strict: how.strict, form })
        }
        (Some(Command::Probe(how)), _) => {
            let number = how.address.unwrap_or(40_001);
            let search = match () {
                () if how.units => probe::Search::Units { number },
                () if how.scan => probe::Search::Scan,
                () if how.sunspec => probe::Search::SunSpec,
                () => probe::Search::Range { number, count: how.count },
            };
            let Probe { target, unit, rtu, timeout, .. } = how;
            probe::probe(&probe::Options { target, unit, rtu, timeout, search })
        }
        (Some(Command::Spool(how)), _) => spool::spool(instance, how.action),
        (Some(Command::Translations(how)), _) => {
            let selection = Selection { devices: how.device, groups: how.group };
            translations::translations(
                instance,
                &translations::Options { selection, language: how.language, to: how.to },
            )
        }
        (Some(Command::Configure(how)), _) => configure::configure(directory, how.yes),
        (Some(Command::Install(how)), _) => install::install(directory, &how),
        (Some(Command::Uninstall(place)), _) => install::uninstall(&place),
        (Some(Command::Schema), _) => schema::schema(),
        (Some(Command::Completions(how)), _) => completions::completions(how.shell),
        (Some(Command::Manual(how)), _) => manual::manual(&how.to),
        (None, Control { stop: true, .. }) => control::stop(instance, cli.force),
        (None, Control { restart: true, .. }) => control::restart(instance, cli.force),
        (None, Control { status: true, .. }) => control::status(instance, cli.format, cli.all),
        (None, Control { .. }) => Cli::command().error(ErrorKind::MissingSubcommand, NOTHING_TO_DO).exit(),
    };
    // Who asked for it must not take what is not there for all of it.
    let exit = if exit == Exit::Done && terminal::has_failed() { Exit::Failure } else { exit };
    // Not a return: a name look-up that hangs in a thread of its own must not hold the process.
    std::process::exit(i32::from(exit.code()));
}
