//! `install` and `uninstall`: a plan of steps, made when everything is known to be right, then performed or
//! printed.
//!
//! What is checked first: that we are root on a systemd system, that user and group exist, that the
//! configuration has no fault and can be read by that user, and that directories which exist are that user's. What root
//! writes goes to directories that nobody else can replace, through no link that leads out of an image; what the user
//! gets is made by descriptor, so that nothing that is there already changes hands.
//! `--root` installs into an image (nothing is run there), `--dry-run` prints the steps; neither needs
//! systemd. A step that fails ends it; all steps may be performed again.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::AtFlags;
use rustix::process::geteuid;
use thiserror::Error;

use super::account::{self, Account};
use super::unit::{self, Service};
use crate::cli::arguments::{Install, Place};
use crate::cli::terminal::{complain, say};
use crate::config::{self, ConfigError};
use crate::daemon::exit::Exit;
use crate::files::atomic::{self, Access};
use crate::files::trust::{self, NewDirectory};
use crate::outputs::pattoo::identity::PROGRAM;
use crate::text::Chain;

/// Why nothing, or not all, was done.
#[derive(Debug, Error)]
enum SetupError {
    #[error("{0} must be run as the \"root\" user or with \"sudo\"; --dry-run shows what it would do")]
    NotRoot(&'static str),
    #[error(
        "this is not a \"systemd\" system; --root DIR installs into an image, `run` keeps the agent in the foreground"
    )]
    NoSystemd,
    #[error("{0}")]
    NoAccount(String),
    #[error("{0}")]
    Configuration(#[source] ConfigError),
    #[error("{}: user \"{username}\" cannot read it; run chgrp {group} and chmod g+r on it", path.display())]
    Unreadable { path: PathBuf, username: String, group: String },
    #[error("{} belongs to user {owner}, not to \"{username}\"; run chown -R {username}:{group} on it", path.display())]
    Owner { path: PathBuf, owner: u32, username: String, group: String },
    #[error("cannot {action}")]
    Io { action: String, source: io::Error },
    #[error("`{0}` failed")]
    Command(String),
}

impl SetupError {
    fn exit(&self) -> Exit {
        match self {
            Self::NotRoot(_) | Self::Unreadable { .. } | Self::Owner { .. } => Exit::Permissions,
            Self::Configuration(error) => error.into(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Exit::Permissions,
            Self::NoSystemd | Self::NoAccount(_) | Self::Io { .. } | Self::Command(_) => Exit::Failure,
        }
    }
}

/// Ends the service for good.
const END_SERVICE: &[&[&str]] = &[&["systemctl", "disable", "--now", "pattoo_agent_modbustcpd.service"]];

/// Ends all shards for good.
const END_SHARDS: &[&[&str]] = &[
    // By a pattern: a template is disabled as one, but its instances have to be named to be stopped.
    &["systemctl", "stop", "pattoo_agent_modbustcpd@*.service"],
    &["systemctl", "disable", "pattoo_agent_modbustcpd@.service"],
];

/// One thing to do; shown as what one would type.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Directory { path: PathBuf, account: Account },
    Program { from: PathBuf, to: PathBuf },
    File { path: PathBuf, text: String },
    Remove(PathBuf),
    Run(&'static [&'static str]),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { path, account: Account { uid, gid, .. } } => {
                write!(f, "install -d -m 0750 -o {uid} -g {gid} {}", shell(path))
            }
            Self::Program { from, to } => write!(f, "install -m 0755 {} {}", shell(from), shell(to)),
            Self::File { path, text } => write!(f, "cat > {} <<'END'\n{text}END", shell(path)),
            Self::Remove(path) => write!(f, "rm -f {}", shell(path)),
            Self::Run(words) => f.write_str(&words.join(" ")),
        }
    }
}

/// A path as a shell reads it back: whoever pastes a step into one must not run a part of a name.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-+:@%,=".contains(character);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Puts the agent under systemd.
#[must_use]
pub fn install(config_dir: &Path, how: &Install) -> Exit {
    let done = plan(config_dir, how).and_then(|steps| carry_out(&steps, &how.place));
    tell(done, || {
        if how.place.dry_run {
            return String::new();
        }
        format!(
            "\nSUCCESS! You are now able to start/stop and enable/disable the following systemd services:\n\n\
             {}\n",
            if how.shards {
                format!("{PROGRAM}@0-4.service (shard 0/4, and likewise the others)")
            } else {
                format!("{PROGRAM}.service")
            }
        )
    })
}

/// Takes it away.
#[must_use]
pub fn uninstall(place: &Place) -> Exit {
    let root = place.root.as_deref();
    let mut steps = Vec::new();
    for (of_shards, end) in [(false, END_SERVICE), (true, END_SHARDS)] {
        let unit = unit_file(root, of_shards);
        if unit.exists() {
            // While the unit is there: systemd cannot disable what it knows no more.
            steps.extend(end.iter().filter(|_| root.is_none()).map(|words| Step::Run(words)));
            steps.push(Step::Remove(unit));
        }
    }
    if steps.is_empty() {
        say(&format!("Not installed: there is no {}.\n", unit_file(root, false).display()));
        return Exit::Done;
    }
    if root.is_none() {
        steps.push(Step::Run(&["systemctl", "daemon-reload"]));
    }
    let done = allowed("uninstall", place).and_then(|()| carry_out(&steps, place));
    tell(done, || {
        if place.dry_run {
            return String::new();
        }
        format!("{PROGRAM}.service is removed; configuration, readings, agent id and the program itself stay.\n")
    })
}

fn tell(done: Result<(), SetupError>, success: impl FnOnce() -> String) -> Exit {
    match done {
        Ok(()) => {
            say(&success());
            Exit::Done
        }
        Err(error) => {
            let told = match &error {
                // It lists its faults itself.
                SetupError::Configuration(faults) => faults.to_string(),
                other => Chain(other).to_string(),
            };
            complain(&told);
            error.exit()
        }
    }
}

/// Whether we may and can.
fn allowed(what: &'static str, place: &Place) -> Result<(), SetupError> {
    if place.dry_run {
        return Ok(());
    }
    if !geteuid().is_root() {
        return Err(SetupError::NotRoot(what));
    }
    if place.root.is_none() && !Path::new("/run/systemd/system").is_dir() {
        return Err(SetupError::NoSystemd);
    }
    Ok(())
}

fn plan(config_dir: &Path, how: &Install) -> Result<Vec<Step>, SetupError> {
    allowed("install", &how.place)?;
    let root = how.place.root.as_deref();
    let Install { username, group, .. } = how;
    let account = account::find(username, group, root).map_err(SetupError::NoAccount)?;
    let io = |action: &str| {
        let action = action.to_owned();
        |source| SetupError::Io { action, source }
    };
    // The unit names it, and a service does not start in the directory that this command was given in.
    let config_dir = std::path::absolute(config_dir).map_err(io("find the configuration directory"))?;
    // `~` in the configuration is the home of whoever runs the service, not of root, who installs it.
    let loaded = config::load_for(&below(root, &config_dir), Some(account.home.clone().into_os_string()))
        .map_err(SetupError::Configuration)?;
    for warning in &loaded.warnings {
        complain(&format!("warning: {warning}"));
    }
    for name in [config::SHARED_FILE, config::AGENT_FILE] {
        let path = below(root, &config_dir.join(name));
        // The configuration does without it.
        if name == config::SHARED_FILE && !path.exists() {
            continue;
        }
        if !fs::metadata(&path).is_ok_and(|file| readable(file.uid(), file.gid(), file.mode(), &account)) {
            return Err(SetupError::Unreadable { path, username: username.clone(), group: group.clone() });
        }
    }
    let config = loaded.config;
    let mut directories =
        vec![config.cache_directory, config.daemon_directory, config.system_daemon_directory, config.log_directory];
    directories.sort();
    directories.dedup();
    let mut steps = Vec::new();
    // What is below /run is gone at each boot: systemd makes it, by the unit.
    for directory in directories.iter().filter(|directory| unit::runtime_name(directory).is_none()) {
        let path = below(root, directory);
        match fs::metadata(&path) {
            Ok(found) if found.uid() == account.uid => {}
            // Refused, not given to the account: what is in it may be somebody else's.
            Ok(found) => {
                let (username, group) = (username.clone(), group.clone());
                return Err(SetupError::Owner { path, owner: found.uid(), username, group });
            }
            Err(_) => steps.push(Step::Directory { path, account: account.clone() }),
        }
    }
    let running = std::env::current_exe().map_err(io("find this program"))?;
    // Installed already, by a package as a rule, which will replace it there.
    let binary = if root.is_none() && (running.starts_with("/usr") || running.starts_with("/opt")) {
        running
    } else {
        // Where it is now, the service may not see it, or it may be built anew under its feet.
        let to = Path::new("/usr/local/bin").join(PROGRAM);
        steps.push(Step::Program { from: running, to: below(root, &to) });
        to
    };
    let (directories, of_shards) = (&directories[..], how.shards);
    let service = Service { binary: &binary, config_dir: &config_dir, username, group, directories, of_shards };
    steps.push(Step::File { path: unit_file(root, of_shards), text: unit::render(&service) });
    if root.is_none() {
        steps.push(Step::Run(&["systemctl", "daemon-reload"]));
    }
    Ok(steps)
}

fn unit_file(root: Option<&Path>, of_shards: bool) -> PathBuf {
    let at = if of_shards { "@" } else { "" };
    below(root, Path::new("/etc/systemd/system")).join(format!("{PROGRAM}{at}.service"))
}

/// An absolute path of the installed system as we find it.
fn below(root: Option<&Path>, path: &Path) -> PathBuf {
    root.map_or_else(|| path.to_owned(), |root| root.join(path.strip_prefix("/").unwrap_or(path)))
}

fn readable(owner: u32, group: u32, mode: u32, by: &Account) -> bool {
    // The first class that applies decides, as in the kernel: bits for all do not help a group that has none.
    let bit = if owner == by.uid {
        0o400
    } else if group == by.gid {
        0o040
    } else {
        0o004
    };
    by.uid == 0 || mode & bit != 0
}

fn carry_out(steps: &[Step], place: &Place) -> Result<(), SetupError> {
    for step in steps {
        if place.dry_run {
            say(&format!("{step}\n"));
            continue;
        }
        perform(step, place.root.as_deref())?;
    }
    Ok(())
}

fn perform(step: &Step, root: Option<&Path>) -> Result<(), SetupError> {
    let did = match step {
        Step::Directory { path, account } => directory_of(path, account, root),
        Step::Program { from, to } => {
            fs::read(from).and_then(|program| if from == to { Ok(()) } else { replace(to, &program, 0o755, root) })
        }
        Step::File { path, text } => replace(path, text.as_bytes(), 0o644, root),
        Step::Remove(path) => remove(path, root),
        Step::Run(words) => {
            // Words and no shell: nothing in a path or a name can be taken for a command.
            return match Command::new(words[0]).args(&words[1..]).status() {
                Ok(status) if status.success() => Ok(()),
                Ok(_) => Err(SetupError::Command(words.join(" "))),
                Err(source) => Err(SetupError::Io { action: format!("run {}", words[0]), source }),
            };
        }
    };
    did.map_err(|source| {
        // The first line: that of a file would show all of it.
        let shown = step.to_string();
        SetupError::Io { action: shown.lines().next().unwrap_or_default().to_owned(), source }
    })
}

/// A directory that is made for the account; one that came into being meanwhile must be its own already.
fn directory_of(path: &Path, account: &Account, root: Option<&Path>) -> io::Result<()> {
    let new = NewDirectory { mode: 0o750, owner: Some((account.uid, account.gid)) };
    let made = fs::File::from(trust::open_or_make(path, new, root)?);
    if made.metadata()?.uid() == account.uid {
        return Ok(());
    }
    let what = format!("{} was made by somebody else meanwhile", path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
}

/// Whole or not at all; a program that runs from there goes on with the old one.
fn replace(path: &Path, content: &[u8], mode: u32, root: Option<&Path>) -> io::Result<()> {
    let directory = of_roots(path, root)?;
    atomic::write_in(&directory, path, content, Access::mode(mode)).map_err(|error| error.source)
}

fn remove(path: &Path, root: Option<&Path>) -> io::Result<()> {
    let (directory, name) = (of_roots(path, root)?, path.file_name().unwrap_or_default());
    Ok(rustix::fs::unlinkat(&directory, name, AtFlags::empty())?)
}

/// The directory of `path`, made when missing, in which nobody but root can put anything.
fn of_roots(path: &Path, root: Option<&Path>) -> io::Result<OwnedFd> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    trust::check_way(directory)?;
    trust::open_or_make(directory, NewDirectory { mode: 0o755, owner: None }, root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_read_a_file_is_told_by_owner_then_group_then_the_rest() {
        let by = Account { uid: 7, gid: 8, home: PathBuf::new() };
        let cases = [
            (7, 9, 0o600, true),
            (7, 8, 0o077, false),
            (0, 8, 0o640, true),
            (0, 8, 0o604, false),
            (0, 0, 0o644, true),
            (0, 0, 0o640, false),
        ];
        for (owner, group, mode, expected) in cases {
            assert_eq!(readable(owner, group, mode, &by), expected, "{owner} {group} {mode:o}");
        }
    }

    #[test]
    fn a_step_that_is_pasted_into_a_shell_does_what_it_says() {
        let remove = |path: &str| Step::Remove(PathBuf::from(path)).to_string();
        assert_eq!(remove("/etc/systemd/system/x@.service"), "rm -f /etc/systemd/system/x@.service");
        assert_eq!(remove("/a b/$(reboot)'; x"), r"rm -f '/a b/$(reboot)'\''; x'");
    }

    #[test]
    fn paths_of_an_image_stay_within_it() {
        assert_eq!(below(Some(Path::new("/image")), Path::new("/etc/x")), Path::new("/image/etc/x"));
        assert_eq!(below(None, Path::new("/etc/x")), Path::new("/etc/x"));
    }
}
