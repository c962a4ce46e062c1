//! `spool`: the readings on disk, looked at beside a running agent or without one. Changes nothing there.
//!
//! Which log it is says the configuration, or `--cache` when there is none that can be read: the directory of an agent is
//! known by its name, which is an agent id. Where there are several, somebody must say which.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cli::arguments::{SpoolAction, SpoolPlace};
use crate::cli::terminal::complain;
use crate::config::outputs::{OutputConfig, OutputKind};
use crate::config::{Config, ConfigError, Instance};
use crate::daemon::exit::Exit;
use crate::outputs::Start;
use crate::outputs::pattoo::identity::AgentId;
use crate::outputs::pattoo::restamp;
use crate::spool::SpoolError;
use crate::spool::batch::Position;
use crate::spool::job::Cursor;
use crate::spool::reader::Reader;
use crate::text::Chain;

mod export;
mod show;

/// Does it.
#[must_use]
pub fn spool(instance: &Instance, action: SpoolAction) -> Exit {
    let done = match action {
        SpoolAction::Show(how) => Found::open(instance, &how.place).and_then(|found| show::show(found, how.format)),
        SpoolAction::Export(how) => {
            Found::open(instance, &how.place).and_then(|found| export::export(found, instance.shard, &how))
        }
    };
    done.unwrap_or_else(|error| {
        complain(&match &error {
            // Its lines are made harmless one by one.
            Refused::Config(faults) => faults.shown(),
            error => Chain(error).to_string(),
        });
        match error {
            Refused::Config(faults) => Exit::from(&faults),
            Refused::Usage(_) => Exit::Usage,
            _ => Exit::Failure,
        }
    })
}

/// How many readings are on disk that the output `name` of `config` has not delivered; `None` when nobody can say.
#[must_use]
pub fn undelivered(config: &Config, name: &str) -> Option<u64> {
    let (cache, agent_id) = agent_of(&config.cache_directory).ok()?;
    let mut reader = Reader::open(&cache.join(agent_id.as_str()), agent_id.as_str(), restamp::by).ok()??;
    let from = reader.opened().cursors.get(name)?.position;
    reader.survey(&[from]).ok()?.waiting.first().copied()
}

/// Why nothing is shown or written.
#[derive(Debug, Error)]
enum Refused {
    /// The configuration does not say where the log is.
    #[error("the configuration has faults; --cache DIR does without it")]
    Config(#[source] ConfigError),
    /// It is not there, or there are several.
    #[error("{0}")]
    NoLog(String),
    /// What was asked for does not exist.
    #[error("{0}")]
    Usage(String),
    /// The log cannot be read.
    #[error("the log of readings cannot be read")]
    Log(#[from] SpoolError),
    /// What it holds cannot be written where it was to be.
    #[error("cannot write {}", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The log of an agent, and who reads from it.
struct Found {
    cache: PathBuf,
    agent_id: AgentId,
    reader: Reader,
    /// Those of the configuration in its order, then those that are only on disk.
    outputs: Vec<Output>,
}

/// An output: who reads from the log, and from where.
struct Output {
    name: String,
    /// `None`: it is not in the configuration, or nobody has read that.
    kind: Option<&'static str>,
    /// Whether the batches of the old caches are for it.
    takes_old_caches: bool,
    /// Where it goes on.
    from: Position,
    /// As it is on disk.
    cursor: Option<Cursor>,
}

impl Found {
    fn open(instance: &Instance, place: &SpoolPlace) -> Result<Self, Refused> {
        let configured = match &place.cache {
            Some(_) => None,
            None => Some(instance.load().map_err(Refused::Config)?.config),
        };
        let cache = place.cache.clone().or_else(|| configured.as_ref().map(|config| config.cache_directory.clone()));
        let (cache, agent_id) = agent_of(&cache.unwrap_or_default())?;
        let directory = cache.join(agent_id.as_str());
        let reader = Reader::open(&directory, agent_id.as_str(), restamp::by)?;
        let reader = reader.ok_or_else(|| Refused::NoLog(format!("{} is gone", directory.display())))?;
        let outputs =
            outputs(&reader, configured.map(|config| config.outputs).unwrap_or_default(), place.cache.is_some());
        Ok(Self { cache, agent_id, reader, outputs })
    }
}

/// Who reads from the log. Where no configuration says whose the old caches are, they are everybody's.
fn outputs(reader: &Reader, configured: Vec<OutputConfig>, unknown: bool) -> Vec<Output> {
    let opened = reader.opened();
    let mut outputs = Vec::new();
    for OutputConfig { name, kind, start, .. } in configured {
        let cursor = opened.cursors.get(&name).copied();
        let new = match start {
            Start::End => opened.end,
            Start::Beginning => reader.start(),
        };
        let from = cursor.map_or(new, |cursor| cursor.position);
        // They are bodies of posts to a pattoo server.
        let takes_old_caches = matches!(kind, OutputKind::Pattoo);
        outputs.push(Output { name, kind: Some(kind.as_str()), takes_old_caches, from, cursor });
    }
    // An output that is in no configuration any more may be the one that somebody is looking for.
    for (name, &cursor) in &opened.cursors {
        if outputs.iter().all(|output| output.name != *name) {
            let (name, from) = (name.clone(), cursor.position);
            outputs.push(Output { name, kind: None, takes_old_caches: unknown, from, cursor: Some(cursor) });
        }
    }
    outputs
}

/// The cache directory at `place`, and whose log is in it; `place` may be the directory of the agent itself.
fn agent_of(place: &Path) -> Result<(PathBuf, AgentId), Refused> {
    let id_of = |path: &Path| path.file_name()?.to_str()?.parse::<AgentId>().ok();
    // `.` and links have no name that could be an id.
    let whole = fs::canonicalize(place)
        .map_err(|error| Refused::NoLog(format!("there is no cache directory {}: {error}", place.display())))?;
    if let (Some(id), Some(cache)) = (id_of(&whole), whole.parent()) {
        return Ok((cache.to_owned(), id));
    }
    let entries = fs::read_dir(&whole)
        .map_err(|error| Refused::NoLog(format!("cannot read the cache directory {}: {error}", whole.display())))?;
    let mut found: Vec<AgentId> = entries.flatten().filter_map(|entry| id_of(&entry.path())).collect();
    found.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    match (found.pop(), found.is_empty()) {
        (Some(id), true) => Ok((whole, id)),
        (None, _) => Err(Refused::NoLog(format!("no agent has left readings in {}", whole.display()))),
        (Some(id), false) => {
            let all = found.iter().chain([&id]).map(AgentId::as_str).collect::<Vec<_>>().join("\n");
            let text = "has the readings of several agents; name one of them with --cache DIR/ID:";
            Err(Refused::NoLog(format!("{} {text}\n{all}", whole.display())))
        }
    }
}
