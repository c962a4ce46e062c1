//! The files of a directory → one [`Config`], or every fault of every file at once.
//!
//! A file that cannot be read or parsed is a fault like any other: what the other files say is judged all the same. So is a
//! `pattoo.yaml` that is absent where an output is pattoo.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::configuration::{AGENT_FILE, Config, SHARED_AGENT_FILE, SHARED_FILE};
use super::diagnostic::{ConfigError, Diagnostic};
use super::outputs::OutputKind;
use super::points::{points, too_many_points};
use super::shared::Pattoo;
use super::yaml::cursor::Report;
use super::yaml::source::Source;
use super::{agent, lints, outputs, shared};
use crate::shard::Shard;

/// A configuration without faults, and what a person should know of it all the same.
#[derive(Debug, PartialEq)]
pub struct Loaded {
    /// What to do.
    pub config: Config,
    /// What is questionable, in order of file and line; of very much the beginning, and how much more there is.
    pub warnings: Vec<Diagnostic>,
}

/// Reads the configuration files in `directory`.
///
/// # Errors
/// With every fault of every file.
pub fn load(directory: &Path) -> Result<Loaded, ConfigError> {
    load_for(directory, std::env::var_os("HOME"))
}

/// Reads the configuration files in `directory` as a user with this home directory will.
///
/// # Errors
/// With every fault of every file.
pub fn load_for(directory: &Path, home: Option<OsString>) -> Result<Loaded, ConfigError> {
    load_as_proposed(directory, home, Vec::new())
}

/// Reads the configuration files in `directory` as if some of them, by their paths, had these texts.
///
/// # Errors
/// With every fault of every file.
pub fn load_as_proposed(
    directory: &Path,
    home: Option<OsString>,
    proposed: Vec<(PathBuf, String)>,
) -> Result<Loaded, ConfigError> {
    // The shared files have no keys but the original's.
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let mut report = Report { home, credentials, proposed, lenient: true, ..Report::default() };
    let shared_file = open(&directory.join(SHARED_FILE), &mut report);
    // A file that is there and cannot be read has left a fault; then nobody says that it is missing.
    let is_absent = shared_file.is_none() && report.faults.is_empty();
    let shared_agent_file = open(&directory.join(SHARED_AGENT_FILE), &mut report);
    // One sentence that leads on, instead of a fault for each file that is missing.
    if is_absent
        && !report.proposed.iter().any(|(path, _)| path.ends_with(AGENT_FILE))
        && is_missing(&directory.join(AGENT_FILE))
    {
        return Err(nothing(directory).into());
    }
    let agent_file = required(directory, AGENT_FILE, &mut report);
    report.warnings.extend(lints::of_owners(directory));
    // Before the agent's own file: an output may have its place in `daemon_directory`.
    let shared = if shared_file.is_some() || is_absent {
        shared::read(shared_file.as_ref(), shared_agent_file.as_ref(), &mut report)
    } else {
        None
    };
    for file in [&shared_file, &shared_agent_file].into_iter().flatten() {
        lints::of_scalars(file, Some(&shared::SECTIONS), &mut report);
    }
    // Without it there are faults already.
    report.daemon_directory = shared.as_ref().map(|(pattoo, _)| pattoo.daemon_directory.clone()).unwrap_or_default();
    let agent = agent_file.as_ref().and_then(|file| agent::read(file, &mut report));
    if let Some(file) = &agent_file {
        // After the file was read, which has found out whether it is the Python agent's: in such a file a variable is a
        // warning only.
        lints::of_scalars(file, None, &mut report);
    }
    // A directory with neither file is not the one that was meant.
    let needs_it = agent
        .as_ref()
        .map_or(agent_file.is_none(), |agent| agent.outputs.iter().any(|output| output.kind == OutputKind::Pattoo));
    if is_absent && needs_it {
        report.faults.push(missing(
            &directory.join(SHARED_FILE),
            "; it is needed wherever an output is pattoo, and outputs is [pattoo] unless it says otherwise",
        ));
    }
    let sources = [&shared_file, &shared_agent_file, &agent_file];
    report.faults.extend(sources.into_iter().flatten().filter_map(Source::too_ambiguous));
    if let (Some(agent), Some(file)) = (&agent, &agent_file) {
        // Before any point is made: a small file can say devices times units times registers by the billion.
        report.faults.extend(too_many_points(agent, &file.file));
    }
    // Not of a file with faults: groups are half read then, and clashes of what is left of them would mislead.
    let points = agent.as_ref().filter(|_| report.faults.is_empty()).map(|agent| points(agent, &mut report));
    if let (Some((_, _, points)), Some(file)) = (&points, &agent_file)
        && points.is_empty()
        && report.faults.is_empty()
    {
        report.faults.push(Diagnostic::of_file(
            &file.file,
            "there is nothing to poll: no polling group has both a device and a register",
        ));
    }
    // A fault of the file as a whole comes first, one that was not located last.
    let order = |fault: &Diagnostic| (fault.position.is_none() && !fault.path.is_empty(), fault.position);
    let sort = |faults: &mut Vec<Diagnostic>| faults.sort_by(|a, b| (&a.file, order(a)).cmp(&(&b.file, order(b))));
    sort(&mut report.faults);
    report.settle_warnings(sort);
    match (shared, agent, points) {
        (Some((pattoo, api)), Some(agent), Some((devices, settings, points))) if report.faults.is_empty() => {
            let config = Config {
                shard: Shard::default(),
                log_level: pattoo.log_level,
                log_format: agent.log_format,
                log_directory: pattoo.log_directory,
                cache_directory: pattoo.cache_directory,
                daemon_directory: pattoo.daemon_directory,
                system_daemon_directory: pattoo.system_daemon_directory,
                server_host: api.host,
                server_port: api.port,
                server_network: api.network.map(Box::new),
                polling_interval: agent.polling_interval,
                flush_interval: agent.flush_interval,
                cache_limits: agent.cache_limits,
                outputs: agent.outputs,
                split_refused_after: agent.split_refused_after,
                trust_local_clock: agent.trust_local_clock,
                status_listen: agent.status_listen,
                status_hosts: agent.status_hosts,
                readings_in_metrics: agent.readings_in_metrics,
                agent_hostname: agent.hostname,
                devices,
                settings,
                points,
            };
            let clash = |message| Diagnostic::of_file(&directory.join(AGENT_FILE), message);
            // Last, because it needs every point with its final names and tags.
            let faults: Vec<_> = outputs::faults_of_points(&config).into_iter().map(clash).collect();
            let warnings = report.warnings;
            if faults.is_empty() { Ok(Loaded { config, warnings }) } else { Err(ConfigError { faults, warnings }) }
        }
        _ => Err(ConfigError { faults: report.faults, warnings: report.warnings }),
    }
}

/// `system_daemon_directory` and `daemon_directory`, whatever else is wrong with the files.
///
/// # Errors
/// With every fault of the file that says it.
pub fn daemon_directories(directory: &Path) -> Result<[PathBuf; 2], ConfigError> {
    let mut report = Report { home: std::env::var_os("HOME"), lenient: true, ..Report::default() };
    let file = open(&directory.join(SHARED_FILE), &mut report);
    if file.is_none() && report.faults.is_empty() && directory.join(AGENT_FILE).exists() {
        // As `load` has it, so that --status and --stop look where the agent runs.
        let Pattoo { system_daemon_directory, daemon_directory, .. } = Pattoo::default();
        return Ok([system_daemon_directory, daemon_directory]);
    }
    if file.is_none() && report.faults.is_empty() {
        report.faults.push(missing(&directory.join(SHARED_FILE), ""));
    }
    let found = file.and_then(|file| shared::daemon_directories(&file, &mut report));
    found.ok_or_else(|| report.faults.into())
}

fn required(directory: &Path, name: &str, report: &mut Report) -> Option<Source> {
    let path = directory.join(name);
    let faults = report.faults.len();
    let source = open(&path, report);
    // A file that is there and is wrong has been told already.
    if source.is_none() && report.faults.len() == faults {
        report.faults.push(missing(&path, ""));
    }
    source
}

fn missing(path: &Path, more: &str) -> Diagnostic {
    let message = "there is no such file; --config_dir or PATTOO_CONFIGDIR names the directory that holds it, and \
                   `pattoo_agent_modbustcpd configure` writes it";
    Diagnostic::of_file(path, format!("{message}{more}"))
}

fn is_missing(path: &Path) -> bool {
    std::fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The fault of a directory without any of the files: this is how the agent meets most people.
fn nothing(directory: &Path) -> Vec<Diagnostic> {
    let message = format!(
        "found neither {AGENT_FILE} nor {SHARED_FILE} here; run `pattoo_agent_modbustcpd configure --config_dir {}`, which asks \
         for what is needed and writes both, or name the directory that holds them by --config_dir or PATTOO_CONFIGDIR",
        directory.display()
    );
    vec![Diagnostic::of_file(directory, message)]
}

fn open(path: &Path, report: &mut Report) -> Option<Source> {
    let proposed = report.proposed.iter().find(|(of, _)| of == path).map(|(_, text)| text.clone());
    let source = match proposed {
        Some(text) => Source::of_text(path, text).map(Some),
        None => Source::read(path),
    };
    source.unwrap_or_else(|fault| {
        report.faults.push(fault);
        None
    })
}
