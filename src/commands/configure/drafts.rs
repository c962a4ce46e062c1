//! The files as they are to be: what stands in them already, changed in place, and what is new. Nothing is written before all of
//! it is valid and has been seen.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};
use similar::TextDiff;

use super::ConfigureError;
use super::group::Group;
use crate::config::edit::{self, Edit, Refused};
use crate::config::{self, AGENT_FILE, ConfigError, Diagnostic, Loaded, SHARED_AGENT_FILE, SHARED_FILE};
use crate::files::atomic::{self, Access};
use crate::files::trust::{self, NewDirectory};

/// What shows that a file is not the Python agent's, for which more is let through.
const OURS: &str = "log_format: text\n";

/// All files of a configuration.
#[derive(Debug, Clone)]
pub struct Drafts {
    /// Where they are.
    pub directory: PathBuf,
    /// `pattoo.yaml`; empty where it is not needed.
    pub shared: Edit,
    /// `pattoo_agent.yaml`; empty where it is not there.
    pub newer: Edit,
    /// What to poll, as it is; `None` where there is nothing yet.
    pub agent: Option<Edit>,
    /// How often a new file has everything polled.
    pub interval: String,
    /// The entry of `outputs` of a new file; `None`: pattoo.
    pub output: Option<String>,
    /// Items of `polling_groups` that are new.
    pub groups: Vec<String>,
    /// Devices of these that speak RTU over TCP.
    pub rtu: Vec<String>,
    /// Files that hold a secret, and are new.
    pub secrets: Vec<(PathBuf, String)>,
    before: [Option<String>; 3],
}

/// One file that will not be as it is.
#[derive(Debug)]
pub struct Change {
    /// Where.
    pub path: PathBuf,
    before: Option<String>,
    after: String,
    is_secret: bool,
}

impl Drafts {
    /// Those of this directory, as they are.
    pub fn of(directory: &Path) -> Result<Self, ConfigureError> {
        let read = |name| existing(&directory.join(name));
        let before = [read(SHARED_FILE)?, read(SHARED_AGENT_FILE)?, read(AGENT_FILE)?];
        let parsed = |place: usize, name: &str| match &before[place] {
            None => Ok(None),
            Some(text) => {
                let not_yaml = |why| ConfigureError::NotYaml { path: directory.join(name), why };
                Edit::parse(text).map(Some).map_err(not_yaml)
            }
        };
        Ok(Self {
            directory: directory.to_owned(),
            shared: parsed(0, SHARED_FILE)?.unwrap_or_default(),
            newer: parsed(1, SHARED_AGENT_FILE)?.unwrap_or_default(),
            // Not parsed before it is to be changed (`open_agent`).
            agent: None,
            interval: "300".to_owned(),
            output: None,
            groups: Vec::new(),
            rtu: Vec::new(),
            secrets: Vec::new(),
            before,
        })
    }

    /// Reads the file of what to poll in order to change it, which a file that is only used need not be fit for.
    pub fn open_agent(&mut self) -> Result<(), ConfigureError> {
        if let Some(text) = &self.before[2] {
            let not_yaml = |why| ConfigureError::NotYaml { path: self.directory.join(AGENT_FILE), why };
            self.agent = Some(Edit::parse(text).map_err(not_yaml)?);
        }
        Ok(())
    }

    /// Whether there is a `pattoo.yaml`.
    pub fn has_shared(&self) -> bool {
        self.before[0].is_some()
    }

    /// Whether it is said already what to poll.
    pub fn has_agent(&self) -> bool {
        self.before[2].is_some()
    }

    /// Puts one more group into them.
    pub fn add(&mut self, group: &Group) {
        self.groups.push(group.items());
        for target in group.rtu_targets() {
            if !self.rtu.iter().any(|known| known == target) {
                self.rtu.push(target.to_owned());
            }
        }
    }

    /// These with one more group.
    pub fn with_group(&self, group: &Group) -> Self {
        let mut drafts = self.clone();
        drafts.add(group);
        drafts
    }

    /// What to poll: a text of its own, or the old one with more groups.
    fn agent_text(&self) -> Result<Option<String>, Refused> {
        if let Some(old) = &self.agent {
            let mut edit = old.clone();
            for items in &self.groups {
                edit.append("polling_groups", items)?;
            }
            for target in &self.rtu {
                edit.put("devices", target, "transport", "rtu")?;
            }
            return Ok(Some(edit.text().to_owned()));
        }
        if self.groups.is_empty() {
            // Nothing new to poll: the file stays byte for byte.
            return Ok(self.before[2].clone());
        }
        let output = self.output.as_ref().map_or_else(String::new, |entry| format!("outputs:\n  - {entry}\n"));
        let heading = if self.rtu.is_empty() { "" } else { "devices:\n" };
        let rtu = self.rtu.iter().map(|target| format!("  {}: {{transport: rtu}}\n", edit::quoted(target)));
        let rtu: Vec<String> = rtu.collect();
        let devices = heading.to_owned() + &rtu.concat();
        let groups = self.groups.iter().flat_map(|items| items.lines()).map(|line| format!("  {line}\n"));
        let groups: String = groups.collect();
        Ok(Some(format!("polling_interval: {}\n{output}{devices}polling_groups:\n{groups}", self.interval)))
    }

    /// Every file that is there or is to be.
    fn files(&self) -> Result<Vec<Change>, ConfigureError> {
        let path = |name| self.directory.join(name);
        let agent = self.agent_text().map_err(|refused| ConfigureError::InPlace { path: path(AGENT_FILE), refused })?;
        let of = |edit: &Edit| Some(edit.text().to_owned()).filter(|text| !text.is_empty());
        let texts = [(SHARED_FILE, of(&self.shared)), (SHARED_AGENT_FILE, of(&self.newer)), (AGENT_FILE, agent)];
        let files = texts.into_iter().zip(&self.before).filter_map(|((name, after), before)| {
            Some(Change { path: path(name), before: before.clone(), after: after?, is_secret: false })
        });
        let secrets = self.secrets.iter().map(|(path, secret)| Change {
            path: path.clone(),
            before: None,
            after: format!("{secret}\n"),
            is_secret: true,
        });
        Ok(files.chain(secrets).collect())
    }

    /// The same for whoever reads a configuration.
    fn texts(&self) -> Result<Vec<(PathBuf, String)>, ConfigureError> {
        Ok(self.files()?.into_iter().map(|file| (file.path, file.after)).collect())
    }

    /// What the agent will say of all files.
    pub fn load(&self) -> Result<Result<Loaded, ConfigError>, ConfigureError> {
        Ok(config::load_as_proposed(&self.directory, env::var_os("HOME"), self.texts()?))
    }

    /// What the agent would say if the new groups stood alone, with an output that needs nothing: what is wrong elsewhere is no matter
    /// of a device.
    pub fn load_apart(&self) -> Result<Loaded, ConfigError> {
        let alone = Self { agent: None, output: Some("sqlite".to_owned()), ..self.clone() };
        let text = alone.agent_text().ok().flatten().unwrap_or_default();
        // A directory without files: nothing that stands elsewhere, not even `pattoo.yaml`, can be at fault for a
        // device.
        let nowhere = Path::new("/nonexistent");
        config::load_as_proposed(nowhere, env::var_os("HOME"), vec![(nowhere.join(AGENT_FILE), text)])
    }

    /// The place that the next new group will have in `polling_groups`.
    pub fn next_place(&self) -> usize {
        let old = self.agent.as_ref().map_or(0, |old| old.items("polling_groups"));
        old + self.groups.iter().flat_map(|items| items.lines()).filter(|line| line.starts_with("- ")).count()
    }

    /// What the agent will say of them, as far as it is about one answer: `is_about` gets each diagnostic and whether it is a fault.
    /// Of a new file nothing is let through as it was for the Python agent.
    pub fn objections(&self, is_about: impl Fn(&Diagnostic, bool) -> bool) -> Result<Vec<Diagnostic>, ConfigureError> {
        let is_new = self.agent.is_none() && !self.groups.is_empty();
        let mut proposed = self.texts()?;
        for (path, text) in proposed.iter_mut().filter(|_| is_new) {
            // One key of ours, for the judging only; what is written has none of it.
            if path.ends_with(AGENT_FILE) {
                text.push_str(OURS);
            }
        }
        let (faults, warnings) = match config::load_as_proposed(&self.directory, env::var_os("HOME"), proposed) {
            Ok(loaded) => (Vec::new(), loaded.warnings),
            Err(error) => (error.faults, error.warnings),
        };
        let told = faults.into_iter().map(|it| (it, true)).chain(warnings.into_iter().map(|it| (it, false)));
        Ok(told.filter(|(it, is_fault)| is_about(it, *is_fault)).map(|(it, _)| it).collect())
    }

    /// What is not as it was.
    pub fn changes(&self) -> Result<Vec<Change>, ConfigureError> {
        let mut files = self.files()?;
        // What is written as it was would get a new time stamp, and its `.bak` would replace an older one that differs.
        files.retain(|file| file.before.as_ref() != Some(&file.after));
        Ok(files)
    }
}

impl Change {
    /// For people: all of a new file, and of another one the lines that change; of a secret, only that it is there.
    pub fn shown(&self) -> String {
        let path = self.path.display();
        match &self.before {
            _ if self.is_secret => format!("# {path}\n(a secret, which is not shown; mode 0600)\n"),
            None => format!("# {path}\n{}", self.after),
            Some(before) => {
                let diff = TextDiff::from_lines(before, &self.after);
                let mut diff = diff.unified_diff();
                format!("# {path}: what changes\n{}", diff.context_radius(2).missing_newline_hint(false))
            }
        }
    }

    /// Whether nobody else may read it.
    pub fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// Writes the file, and keeps what it replaces beside it.
    pub fn write(&self) -> Result<(), ConfigureError> {
        let path = &self.path;
        let io = |action| move |source| ConfigureError::Io { action, path: path.clone(), source };
        let directory = path.parent().unwrap_or(Path::new("."));
        let new = NewDirectory { mode: 0o755, owner: None };
        // All writing goes by this descriptor: a directory that is replaced meanwhile is not written to.
        let directory = trust::open_or_make(directory, new, None).map_err(io("make the directory of"))?;
        let access = match fs::symlink_metadata(path) {
            // Whoever could read it still can, and nobody else.
            Ok(old) => {
                let owner = Some((Uid::from_raw(old.uid()), Gid::from_raw(old.gid())));
                Access { owner, ..Access::mode(old.mode() & 0o777) }
            }
            Err(_) => Access::mode(if self.is_secret { 0o600 } else { 0o644 }),
        };
        // First the copy: whenever this ends, one of the two files has the old text.
        if let Some(old) = existing(path)? {
            atomic::write_in(&directory, &path.with_extension("yaml.bak"), old.as_bytes(), access)?;
        }
        Ok(atomic::write_in(&directory, path, self.after.as_bytes(), access)?)
    }
}

/// The text of a file, or `None` where there is none.
fn existing(path: &Path) -> Result<Option<String>, ConfigureError> {
    // What it leads to is not ours to replace, and a link is not what people expect to be replaced.
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(ConfigureError::NotAFile(path.to_owned())),
        _ => edit::read(path).map_err(ConfigureError::Unreadable),
    }
}
