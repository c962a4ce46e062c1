//! `pattoo.yaml` and `pattoo_agent.yaml`: what all pattoo programs share.
//!
//! Sections of others are ignored; in ours an unknown key is a warning, because other programs may know it.
//! `pattoo_agent_api` may stand in either file; the one in `pattoo_agent.yaml` wins, which is told when the two
//! name different servers. Values that the Python agent took are taken as it took them, with a warning.
//!
//! `pattoo.yaml` may be absent where nothing goes to a pattoo server ([`load`](super::load)): then the directories are those that a
//! service has by the Filesystem Hierarchy Standard.

use std::path::{Path, PathBuf};

use super::configuration::LogLevel;
use super::diagnostic::Diagnostic;
use super::outputs::network;
use super::path::path;
use super::yaml::cursor::{Cursor, Entry, Report};
use super::yaml::node::Node;
use super::yaml::source::Source;
use crate::outputs::network::Network;

/// The sections that are read here.
pub const SECTIONS: [&str; 2] = ["pattoo", "pattoo_agent_api"];

pub const PATTOO_KEYS: [&str; 6] =
    ["log_level", "log_directory", "cache_directory", "daemon_directory", "system_daemon_directory", "language"];
pub const API_KEYS: [&str; 2] = ["ip_address", "ip_bind_port"];

/// What is part of a key that was meant to protect something.
const OF_SECURITY: [&str; 9] = ["auth", "cert", "key", "pass", "secur", "ssl", "tls", "token", "verif"];

/// Section `pattoo`.
#[derive(Debug)]
pub struct Pattoo {
    pub log_level: LogLevel,
    pub log_directory: PathBuf,
    pub cache_directory: PathBuf,
    pub daemon_directory: PathBuf,
    pub system_daemon_directory: PathBuf,
}

impl Default for Pattoo {
    /// Without `pattoo.yaml`.
    fn default() -> Self {
        Self {
            log_level: LogLevel::Info,
            log_directory: "/var/log/pattoo".into(),
            cache_directory: "/var/lib/pattoo/cache".into(),
            daemon_directory: "/var/lib/pattoo/daemon".into(),
            system_daemon_directory: "/run/pattoo".into(),
        }
    }
}

/// Section `pattoo_agent_api`.
#[derive(Debug)]
pub struct AgentApi {
    pub host: String,
    pub port: u16,
    /// How it is reached by `url`, which wins over host and port.
    pub network: Option<Network>,
}

/// Both sections from `pattoo.yaml` and `pattoo_agent.yaml`, as far as these are there. `None` when something is wrong.
pub fn read(pattoo: Option<&Source>, pattoo_agent: Option<&Source>, report: &mut Report) -> Option<(Pattoo, AgentApi)> {
    // Both files are read before one of them can end this.
    let own = pattoo.map(|source| sections(source, report)).unwrap_or_default();
    let newer = pattoo_agent.map(|source| sections(source, report)).unwrap_or_default();
    let of = |sections: &[Entry<'_>], name: &str| sections.iter().position(|entry| entry.key == name);
    let section = match (pattoo, of(&own, "pattoo")) {
        (None, _) => Some(Pattoo::default()),
        (Some(pattoo), Some(place)) => directories(&pattoo.file, &own[place], report),
        (Some(pattoo), None) => {
            report.faults.push(no_directories(&pattoo.file));
            return None;
        }
    };
    // In this order, because it is where later versions of pattoo look.
    let wins = of(&newer, "pattoo_agent_api").map(|place| &newer[place]);
    let own_api = of(&own, "pattoo_agent_api").map(|place| &own[place]);
    let api = agent_api(wins.or(own_api), report);
    if let (Some(pattoo), Some(wins), Some(loses), Some(api)) = (pattoo, wins, own_api, &api) {
        report.warnings.extend(two_servers(pattoo, wins, loses, api));
    }
    Some((section?, api?))
}

/// A warning, unless both sections name the server `api`.
fn two_servers(pattoo: &Source, wins: &Entry<'_>, loses: &Entry<'_>, api: &AgentApi) -> Option<Diagnostic> {
    // What is wrong with a section that nobody uses is no fault.
    let other = agent_api(Some(loses), &mut Report { lenient: true, ..Report::default() });
    let same = |other: &AgentApi| {
        other.host.eq_ignore_ascii_case(&api.host) && other.port == api.port && other.network == api.network
    };
    if other.as_ref().is_some_and(same) {
        return None;
    }
    let other = other.map_or_else(String::new, |other| format!(" ({} port {})", other.host, other.port));
    Some(wins.key_cursor.diagnostic(format!(
        "found another server than at {}:{}{other}; readings go to the one here, {} port {}; take one of the two sections out",
        pattoo.file.display(),
        loses.key_cursor.place(),
        api.host,
        api.port
    )))
}

/// `system_daemon_directory` and `daemon_directory`, from section `pattoo` alone. `None` when something is wrong
/// with it.
pub fn daemon_directories(pattoo: &Source, report: &mut Report) -> Option<[PathBuf; 2]> {
    let sections = sections(pattoo, report);
    let Some(section) = sections.iter().find(|entry| entry.key == "pattoo") else {
        report.faults.push(no_directories(&pattoo.file));
        return None;
    };
    let pattoo = directories(&pattoo.file, section, report)?;
    Some([pattoo.system_daemon_directory, pattoo.daemon_directory])
}

fn no_directories(file: &Path) -> Diagnostic {
    Diagnostic::of_file(file, "the section \"pattoo\" is missing; it names the directories")
}

fn sections<'a>(source: &'a Source, report: &mut Report) -> Vec<Entry<'a>> {
    let root = Cursor::root(source);
    root.entries(report).unwrap_or_else(|| {
        report.faults.push(root.unfit("a mapping with the section \"pattoo\""));
        Vec::new()
    })
}

fn directories(file: &Path, section: &Entry<'_>, report: &mut Report) -> Option<Pattoo> {
    let Some(entries) = section.value.entries(report) else {
        report.faults.push(section.value.unfit("a mapping with the directories"));
        return None;
    };
    // What the Python agent takes where nothing is said.
    let mut log_level = LogLevel::Debug;
    let mut found: [Option<Option<PathBuf>>; 4] = Default::default();
    for entry in &entries {
        match entry.key.as_str() {
            "log_level" => log_level = level(&entry.value, report),
            "log_directory" => found[0] = Some(directory(&entry.value, report)),
            "cache_directory" => found[1] = Some(directory(&entry.value, report)),
            "daemon_directory" => found[2] = Some(directory(&entry.value, report)),
            "system_daemon_directory" if is_nothing(&entry.value) => {
                let fault = entry.value.unfit("a directory");
                report.unless_lenient(fault, "daemon_directory is it");
            }
            "system_daemon_directory" => found[3] = Some(directory(&entry.value, report)),
            "language" => {}
            _ => report.warnings.push(entry.unknown(&PATTOO_KEYS)),
        }
    }
    let [log, cache, daemon, system] = found;
    let mut required = |name: &str, value: Option<Option<PathBuf>>| {
        if value.is_none() {
            let message = format!("{name} is missing; it must name a directory that the agent may write to");
            report.faults.push(Diagnostic { path: "pattoo".to_owned(), ..Diagnostic::of_file(file, message) });
        }
        value.flatten()
    };
    let log_directory = required("log_directory", log);
    let cache_directory = required("cache_directory", cache);
    let daemon_directory = required("daemon_directory", daemon);
    // As with the Python agent: its earlier releases had their pid file in daemon_directory.
    let system_daemon_directory = system.unwrap_or_else(|| daemon_directory.clone());
    Some(Pattoo {
        log_level,
        log_directory: log_directory?,
        cache_directory: cache_directory?,
        daemon_directory: daemon_directory?,
        system_daemon_directory: system_daemon_directory?,
    })
}

/// What is nothing to Python: for this the original took its default.
fn is_nothing(value: &Cursor<'_>) -> bool {
    match &*value.node {
        Node::Null | Node::Bool(false) | Node::Integer(0) => true,
        Node::Text(text) => text.is_empty(),
        Node::List(items) => items.is_empty(),
        Node::Mapping(entries) => entries.is_empty(),
        _ => false,
    }
}

/// The original took everything that is no level for `debug`, nothing at all included.
fn level(value: &Cursor<'_>, report: &mut Report) -> LogLevel {
    let level = match &*value.node {
        Node::Text(text) => match text.to_lowercase().as_str() {
            "debug" => Some(LogLevel::Debug),
            "info" => Some(LogLevel::Info),
            "warning" => Some(LogLevel::Warning),
            "error" => Some(LogLevel::Error),
            "critical" => Some(LogLevel::Critical),
            _ => None,
        },
        _ => None,
    };
    if level.is_none() && !matches!(*value.node, Node::Null) {
        report.unless_lenient(value.unfit("debug, info, warning, error or critical"), "it counts as debug");
    }
    level.unwrap_or(LogLevel::Debug)
}

/// A path, `~` standing for the home directory.
fn directory(value: &Cursor<'_>, report: &mut Report) -> Option<PathBuf> {
    let path = path(value, "a directory", report)?;
    if path.is_relative() {
        report.warnings.push(value.diagnostic(format!(
            "found \"{}\", which depends on the directory that the agent is started in; better begin it with / or ~/",
            path.display()
        )));
    }
    std::path::absolute(path).ok()
}

fn agent_api(section: Option<&Entry<'_>>, report: &mut Report) -> Option<AgentApi> {
    let mut host = Some("localhost".to_owned());
    let mut port = Some(20_201);
    let section = section.filter(|section| !matches!(*section.value.node, Node::Null));
    let Some(section) = section else { return Some(AgentApi { host: host?, port: port?, network: None }) };
    let Some(entries) = section.value.entries(report) else {
        report.faults.push(section.value.unfit("a mapping with ip_address and ip_bind_port"));
        return None;
    };
    for entry in &entries {
        match entry.key.as_str() {
            // As if the key were not there.
            "ip_address" | "ip_bind_port" if matches!(*entry.value.node, Node::Null) => {}
            "ip_address" => host = self::host(&entry.value, report),
            "ip_bind_port" => port = self::port(&entry.value, report),
            key if network::KEYS.contains(&key) => {}
            // A fault, while other unknown keys are a warning: who writes `tls` here must not have readings posted in
            // plain.
            key if OF_SECURITY.iter().any(|part| key.to_ascii_lowercase().contains(part)) => {
                report.faults.push(entry.unknown(&[&API_KEYS[..], &network::KEYS].concat()));
            }
            _ => report.warnings.push(entry.unknown(&API_KEYS)),
        }
    }
    // One key of these is enough: `tls` or a token without `url` is then told as such, and not left out.
    let by_url = entries.iter().any(|entry| network::KEYS.contains(&entry.key.as_str()));
    if !by_url {
        return Some(AgentApi { host: host?, port: port?, network: None });
    }
    let network = network::read(&section.value, &entries, network::HTTP, report)?;
    Some(AgentApi { host: network.server.host.clone(), port: network.server.port, network: Some(network) })
}

fn host(value: &Cursor<'_>, report: &mut Report) -> Option<String> {
    if let Node::Text(text) = &*value.node {
        let bare = text.trim().trim_start_matches('[').trim_end_matches(']');
        let fit =
            !bare.is_empty() && !bare.contains(|c: char| c.is_whitespace() || c.is_control() || "/@?#[]".contains(c));
        // host:port; an IPv6 address has more than one.
        let one_colon = bare.matches(':').count() == 1;
        if fit && !one_colon {
            return Some(bare.to_owned());
        }
    }
    report.faults.push(
        value.unfit("a name, an IPv4 or an IPv6 address, without http:// and without a port (ip_bind_port has it)"),
    );
    None
}

fn port(value: &Cursor<'_>, report: &mut Report) -> Option<u16> {
    let port = match &*value.node {
        Node::Integer(port) => u16::try_from(*port).ok(),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as int() did; in range")]
        Node::Float(port) if (1.0..65_536.0).contains(port) => Some(*port as u16),
        // The original put it into a URL as it was, so a quoted number works.
        Node::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    let port = port.filter(|&port| port != 0);
    if port.is_none() {
        report.faults.push(value.unfit("a port from 1 to 65535"));
    }
    port
}
