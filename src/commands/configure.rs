//! `configure`: questions with the current values offered, then both configuration files.
//!
//! `pattoo.yaml` is shared: sections and keys that are not asked for stay as they are. A file of what to poll
//! that exists is never touched, its first group is asked for only when there is none. Each answer is judged at once, by the
//! configuration that it would make: on a terminal it is asked for again, elsewhere it ends there. The new files are
//! checked as the agent will check them and shown before they are written, and whoever wants to can see first
//! whether server and devices answer; what they replace is kept beside them as `.bak`. A directory that somebody else
//! could replace is refused, and nothing is written through a link. `--yes` asks nothing.
//!
//! Offered is what the Python agent's installation offers, but where a service keeps its data (`DIFFERS`); what
//! that installation has made on this machine is offered before anything else, because the agent id is there.

use std::env;
use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};
use rustix::process::geteuid;
use thiserror::Error;

use crate::cli::terminal::{complain, pour, say};
use crate::commands::reach;
use crate::config::edit::{self, Edit};
use crate::config::{self, AGENT_FILE, Config, Diagnostic, SHARED_AGENT_FILE, SHARED_FILE};
use crate::daemon::exit::Exit;
use crate::files::atomic::{self, Access, WriteError};
use crate::files::trust::{self, NewDirectory};
use crate::text::Chain;

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
    #[error("{} is no mapping of sections that could be written anew: {why}; correct it or move it away", path.display())]
    NotYaml { path: PathBuf, why: String },
    #[error("nothing is written: the answers ended before the questions; --yes takes all that is offered")]
    NoAnswer(#[source] io::Error),
    #[error("nothing is written: the configuration would be wrong\n{0}")]
    Wrong(String),
}

impl ConfigureError {
    fn exit(&self) -> Exit {
        match self {
            Self::Wrong(_) | Self::NotYaml { .. } | Self::Unreadable(_) => Exit::BadConfiguration,
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

/// What is offered otherwise than by the Python agent's installation, and why.
const DIFFERS: &str = "\
The defaults are those of the Python agent, but for
  cache_directory          /var/lib/pattoo/cache, was /opt/pattoo-cache
  daemon_directory         /var/lib/pattoo/daemon, was /opt/pattoo-daemon
                           (/var/lib is where services keep their data; those below /opt
                           are offered where they exist: agent id and readings are there)
  system_daemon_directory  /run/pattoo, was /var/run/pattoo (the same directory)
and, for users other than root, directories below ~/pattoo.
";

/// The section that names the server.
const SERVER: &str = "pattoo_agent_api";

/// Where the Python agent's installations have their directories, later ones first.
const ITS_DIRECTORIES: [(&str, [&str; 2]); 2] =
    [("cache", ["/opt/pattoo/cache", "/opt/pattoo-cache"]), ("daemon", ["/opt/pattoo/daemon", "/opt/pattoo-daemon"])];

/// A key of `pattoo.yaml` and what is offered for it.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    section: &'static str,
    key: &'static str,
    offered: String,
}

/// What `pattoo.yaml` needs, with what it says now, or else with what the Python agent has made, or else with what
/// suffices. `newer` is `pattoo_agent.yaml` where the server is named there.
fn questions(edit: &Edit, newer: Option<&Edit>, root: bool, is_there: impl Fn(&str) -> bool) -> Vec<Question> {
    let its = |name| ITS_DIRECTORIES.iter().filter(move |(of, _)| *of == name).flat_map(|(_, paths)| paths);
    let found = |name| its(name).find(|path| root && is_there(path)).map(|path| (*path).to_owned());
    let data = |name: &str| if root { format!("/var/lib/pattoo/{name}") } else { format!("~/pattoo/{name}") };
    let run = if root { "/run/pattoo".to_owned() } else { data("run") };
    let log = if root { "/var/log/pattoo".to_owned() } else { data("log") };
    let defaults = [
        (SERVER, "ip_address", "127.0.0.1".to_owned()),
        (SERVER, "ip_bind_port", "20201".to_owned()),
        ("pattoo", "log_level", "debug".to_owned()),
        ("pattoo", "log_directory", log),
        ("pattoo", "cache_directory", found("cache").unwrap_or_else(|| data("cache"))),
        ("pattoo", "daemon_directory", found("daemon").unwrap_or_else(|| data("daemon"))),
        ("pattoo", "system_daemon_directory", run),
    ];
    let offer = |(section, key, default)| {
        // A key that is not there has its default, whatever the section that does not count says.
        let of = newer.filter(|_| section == SERVER).unwrap_or(edit);
        let offered = of.get(section, key).unwrap_or(default);
        Question { section, key, offered }
    };
    defaults.into_iter().map(offer).collect()
}

/// The first polling group as it is answered.
struct FirstGroup {
    interval: String,
    devices: String,
    unit: String,
    input: String,
    holding: String,
}

impl Default for FirstGroup {
    /// What is offered.
    fn default() -> Self {
        let [interval, devices, unit, input, holding] = ["300", "127.0.0.1:502", "0", "30001", "-"].map(str::to_owned);
        Self { interval, devices, unit, input, holding }
    }
}

impl FirstGroup {
    /// As YAML flow: what a person types between commas is what the file says.
    fn text(&self) -> String {
        let Self { interval, devices, unit, input, holding } = self;
        let quoted: Vec<String> = words(devices).map(|word| format!("{word:?}")).collect();
        let mut registers = String::new();
        for (key, list) in [("input_registers", input), ("holding_registers", holding)] {
            let list: Vec<&str> = words(list).filter(|word| *word != "-").collect();
            if !list.is_empty() {
                registers.extend(["    ", key, ": [", &list.join(", "), "]\n"]);
            }
        }
        let units: Vec<&str> = words(unit).collect();
        let unit = if let [one] = units[..] { one.to_owned() } else { format!("[{}]", units.join(", ")) };
        format!(
            "polling_interval: {interval}\npolling_groups:\n  - group_name: group 1\n    ip_devices: [{}]\n    unit: {unit}\n{registers}",
            quoted.join(", ")
        )
    }
}

/// What the agent would say of `files`, as far as it is about this answer: each diagnostic, and whether it is a fault.
fn objections(
    config_dir: &Path,
    files: &[(&str, String)],
    is_about: impl Fn(&Diagnostic, bool) -> bool,
) -> Vec<Diagnostic> {
    let proposed = files.iter().map(|(name, text)| (config_dir.join(name), text.clone())).collect();
    let (faults, warnings) = match config::load_as_proposed(config_dir, env::var_os("HOME"), proposed) {
        Ok(loaded) => (Vec::new(), loaded.warnings),
        Err(error) => (error.faults, error.warnings),
    };
    let told = faults.into_iter().map(|it| (it, true)).chain(warnings.into_iter().map(|it| (it, false)));
    told.filter(|(it, is_fault)| is_about(it, *is_fault)).map(|(it, _)| it).collect()
}

/// Asks until there is no objection to the answer; where nobody is there to be asked again, it ends with the objections.
fn ask_until(
    what: &str,
    offered: &str,
    yes: bool,
    mut object: impl FnMut(&str) -> Vec<Diagnostic>,
) -> Result<(), ConfigureError> {
    loop {
        let answer = ask(what, offered, yes)?;
        let objections = object(&answer);
        // What is offered is judged with everything else at the end.
        if objections.is_empty() || yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(ConfigureError::Wrong(objections.iter().map(Diagnostic::shown).collect::<Vec<_>>().join("\n")));
        }
        for objection in &objections {
            complain(&objection.message);
        }
    }
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ' ']).filter(|word| !word.is_empty())
}

/// Asks, shows, writes.
#[must_use]
pub fn configure(config_dir: &Path, yes: bool) -> Exit {
    match ask_and_write(config_dir, yes) {
        Ok(()) => Exit::Done,
        Err(error) => {
            let told = match &error {
                ConfigureError::Wrong(_) => error.to_string(),
                other => Chain(other).to_string(),
            };
            complain(&told);
            error.exit()
        }
    }
}

fn ask_and_write(config_dir: &Path, yes: bool) -> Result<(), ConfigureError> {
    trust::check_way(config_dir).map_err(|source| ConfigureError::Untrusted { path: config_dir.to_owned(), source })?;
    let shared = config_dir.join(SHARED_FILE);
    let (mut edit, is_new) = edit_of(&shared)?;
    // Where this one has the section, it wins: an answer in the other one would be without effect.
    let (mut newer, _) = edit_of(&config_dir.join(SHARED_AGENT_FILE))?;
    let has_server = newer.has(SERVER);
    let before = (edit.clone(), newer.clone());
    say(&format!("Configuring {}.\n", shared.display()));
    if is_new {
        say(DIFFERS);
    }
    let is_there = |path: &str| Path::new(path).is_dir();
    let questions = questions(&edit, has_server.then_some(&newer), geteuid().is_root(), is_there);
    // What is not answered yet has what is offered: a file without a section is not judged further.
    for Question { section, key, offered } in &questions {
        let of = if has_server && *section == SERVER { &mut newer } else { &mut edit };
        of.set(section, key, offered);
    }
    for Question { section, key, offered } in questions {
        let path = format!("{section}.{key}");
        let in_newer = has_server && section == SERVER;
        ask_until(&format!("{section}: {key}"), &offered, yes, |answer| {
            let of = if in_newer { &mut newer } else { &mut edit };
            of.set(section, key, answer);
            let agent = FirstGroup::default().text();
            let files = [(SHARED_FILE, edit.render()), (SHARED_AGENT_FILE, newer.render()), (AGENT_FILE, agent)];
            // A doubt about a directory is no reason to ask again.
            objections(config_dir, &files[..if has_server { 3 } else { 1 }], |it, is_fault| {
                it.path == path && (is_fault || key == "log_level")
            })
        })?;
    }
    let mut files = Vec::new();
    for (name, edit, before) in [(SHARED_FILE, edit, before.0), (SHARED_AGENT_FILE, newer, before.1)] {
        if edit != before {
            files.push((name, edit.render()));
        }
    }
    if existing(&config_dir.join(AGENT_FILE))?.is_none() {
        say(&format!("\nConfiguring {AGENT_FILE}: the first group of devices, lists with commas.\n"));
        let mut group = FirstGroup::default();
        let mut asked = |what: &str, key: &str, of: fn(&mut FirstGroup) -> &mut String| {
            let offered = of(&mut group).clone();
            ask_until(what, &offered, yes, |answer| {
                answer.clone_into(of(&mut group));
                let mut proposed = files.clone();
                // With a key of ours nothing is let through as the Python agent did.
                proposed.push((AGENT_FILE, format!("{}log_format: text\n", group.text())));
                let is_register = key.ends_with("registers");
                objections(config_dir, &proposed, |it, is_fault| it.path.contains(key) && (is_fault || is_register))
            })
        };
        asked("polling_interval (300, 10s, 5m)", "polling_interval", |group| &mut group.interval)?;
        asked("ip_devices (host, or host:port)", "ip_devices", |group| &mut group.devices)?;
        asked("unit (a number, or several)", "unit", |group| &mut group.unit)?;
        asked("input_registers (30001 ...; - for none)", "input_registers", |group| &mut group.input)?;
        asked("holding_registers (40001 ...; - for none)", "holding_registers", |group| &mut group.holding)?;
        files.push((AGENT_FILE, group.text()));
    }
    if files.is_empty() {
        say("\nNothing changes.\n");
        return Ok(());
    }
    for (name, text) in &files {
        pour(&format!("\n# {}\n{text}", config_dir.join(name).display()));
    }
    let config = check(config_dir, &files)?;
    loop {
        match ask("\nWrite this? (yes, no, test: see who answers first)", "yes", yes)?.to_lowercase().as_str() {
            "yes" | "y" => break,
            "test" => {
                for answer in reach::outputs(&config) {
                    say(&format!("{}\n", answer.unwrap_or_else(|why| why)));
                }
                say(&(reach::devices(&config).join("\n") + "\n"));
            }
            "no" | "n" => {
                say("Nothing is written.\n");
                return Ok(());
            }
            // What was answered before is not thrown away for a slip.
            other => complain(&format!("found {other:?}; answer yes, no or test")),
        }
    }
    for (name, text) in &files {
        write(&config_dir.join(name), text)?;
    }
    let names: Vec<_> = files.iter().map(|(name, _)| format!("    {}", config_dir.join(name).display())).collect();
    say(&format!(
        "\nSuccessfully created configuration files:\n\n{}\n\nNext: pattoo_agent_modbustcpd check --config_dir {}\n",
        names.join("\n"),
        config_dir.display()
    ));
    Ok(())
}

/// The file as it is, and whether there is none.
fn edit_of(file: &Path) -> Result<(Edit, bool), ConfigureError> {
    let Some(text) = existing(file)? else { return Ok((Edit::default(), true)) };
    let edit = Edit::parse(&text).map_err(|why| ConfigureError::NotYaml { path: file.to_owned(), why })?;
    Ok((edit, false))
}

/// As the agent will, though nothing is written yet.
fn check(config_dir: &Path, files: &[(&str, String)]) -> Result<Config, ConfigureError> {
    let proposed = files.iter().map(|(name, text)| (config_dir.join(name), text.clone())).collect();
    let loaded = config::load_as_proposed(config_dir, env::var_os("HOME"), proposed);
    let loaded = loaded.map_err(|error| ConfigureError::Wrong(error.to_string()))?;
    for warning in &loaded.warnings {
        say(&format!("warning: {warning}\n"));
    }
    Ok(loaded.config)
}

fn existing(path: &Path) -> Result<Option<String>, ConfigureError> {
    // What it leads to is not ours to replace, and a link is not what people expect to be replaced.
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(ConfigureError::NotAFile(path.to_owned())),
        _ => edit::read(path).map_err(ConfigureError::Unreadable),
    }
}

fn write(path: &Path, text: &str) -> Result<(), ConfigureError> {
    let io = |action| move |source| ConfigureError::Io { action, path: path.to_owned(), source };
    let directory = path.parent().unwrap_or(Path::new("."));
    let new = NewDirectory { mode: 0o755, owner: None };
    let directory = trust::open_or_make(directory, new, None).map_err(io("make the directory of"))?;
    let access = match fs::symlink_metadata(path) {
        // Whoever could read it still can, and nobody else.
        Ok(old) => {
            let owner = Some((Uid::from_raw(old.uid()), Gid::from_raw(old.gid())));
            Access { owner, ..Access::mode(old.mode() & 0o777) }
        }
        Err(_) => Access::mode(0o644),
    };
    if let Some(old) = existing(path)? {
        atomic::write_in(&directory, &path.with_extension("yaml.bak"), old.as_bytes(), access)?;
    }
    Ok(atomic::write_in(&directory, path, text.as_bytes(), access)?)
}

fn ask(what: &str, offered: &str, yes: bool) -> Result<String, ConfigureError> {
    if yes {
        return Ok(offered.to_owned());
    }
    say(&format!("{what} [{offered}]: "));
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(0) => Err(ConfigureError::NoAnswer(io::ErrorKind::UnexpectedEof.into())),
        Ok(_) if line.trim().is_empty() => Ok(offered.to_owned()),
        Ok(_) => Ok(line.trim().to_owned()),
        Err(error) => Err(ConfigureError::NoAnswer(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_says_is_offered_and_defaults_for_the_rest() {
        let edit = Edit::parse("pattoo_agent_api: {ip_address: server.example.net}").unwrap();
        let offered: Vec<_> =
            questions(&edit, None, true, |_| false).into_iter().map(|question| question.offered).collect();
        assert_eq!(offered[..3], ["server.example.net", "20201", "debug"]);
        assert!(offered[3..].iter().all(|directory| directory.starts_with('/')), "{offered:?}");
    }

    #[test]
    fn the_directories_of_a_python_agent_are_offered_where_they_are() {
        let of = |question: &Question| question.key.ends_with("_directory").then(|| question.offered.clone());
        let offered = |root, there: &[&str]| -> Vec<String> {
            questions(&Edit::default(), None, root, |path| there.contains(&path)).iter().filter_map(of).collect()
        };
        let fresh = ["/var/log/pattoo", "/var/lib/pattoo/cache", "/var/lib/pattoo/daemon", "/run/pattoo"];
        assert_eq!(offered(true, &[]), fresh);
        let there = ["/opt/pattoo-cache", "/opt/pattoo-daemon"];
        assert_eq!(offered(true, &there)[1..3], there);
        let later = ["/opt/pattoo/cache", "/opt/pattoo/daemon"];
        assert_eq!(offered(true, &[&there[..], &later[..]].concat())[1..3], later);
        assert!(offered(false, &there).iter().all(|directory| directory.starts_with("~/pattoo/")));
        assert!(fresh.iter().all(|directory| directory.ends_with("log/pattoo") || DIFFERS.contains(directory)));
        assert!(there.iter().all(|directory| DIFFERS.contains(directory)));
    }

    #[test]
    fn lists_are_taken_with_commas_or_spaces() {
        let group = FirstGroup {
            interval: "10s".to_owned(),
            devices: "plc:1502, [2001:db8::7]:502".to_owned(),
            unit: "1".to_owned(),
            input: "30001 30002".to_owned(),
            ..FirstGroup::default()
        };
        let expected = "polling_interval: 10s\npolling_groups:\n  - group_name: group 1\n    \
                        ip_devices: [\"plc:1502\", \"[2001:db8::7]:502\"]\n    unit: 1\n    input_registers: [30001, 30002]\n";
        assert_eq!(group.text(), expected);
        let several = FirstGroup { unit: "1, 2 5-7".to_owned(), ..group };
        assert!(several.text().contains("    unit: [1, 2, 5-7]\n"), "{}", several.text());
    }
}
