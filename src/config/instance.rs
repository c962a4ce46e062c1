//! One agent: a configuration directory, and which of several agents with it ([`Shard`]).
//!
//! A shard has the devices that are its own, and places of its own for what one process alone may hold: the queue on
//! disk, lock, pid file and socket, and the files of outputs. Agent id, host name and log are those of all.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::configuration::{AGENT_FILE, Config, Point};
use super::diagnostic::{ConfigError, Diagnostic};
use super::load::{self, Loaded};
use crate::shard::Shard;

/// Which agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Where its configuration is.
    pub config_dir: PathBuf,
    /// Which of several with it.
    pub shard: Shard,
}

impl Instance {
    /// Its configuration.
    ///
    /// # Errors
    /// With every fault of every file, and when shards would not post under one name.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let Loaded { config, warnings } = load::load(&self.config_dir)?;
        // Without it each may take that of its machine or container, and a device that moves to another shard starts new
        // charts.
        if self.shard.is_one_of_many() && config.agent_hostname.is_none() {
            let message = "agent_hostname is missing; it is part of every series, and all shards must have the same";
            return Err(vec![Diagnostic::of_file(&self.config_dir.join(AGENT_FILE), message)].into());
        }
        Ok(Loaded { config: config.of_shard(self.shard), warnings })
    }

    /// Where its lock and its socket are, whatever else is wrong with the files.
    ///
    /// # Errors
    /// With every fault of the file that says it.
    pub fn system_daemon_directory(&self) -> Result<PathBuf, ConfigError> {
        Ok(self.places()?.system_daemon_directory)
    }

    /// Where what runs can be found, whatever else is wrong with the files.
    ///
    /// # Errors
    /// With every fault of the file that says it.
    pub fn places(&self) -> Result<Places, ConfigError> {
        let [system, daemon] = load::daemon_directories(&self.config_dir)?;
        Ok(Places {
            system_daemon_directory: own(&system, self.shard),
            // Not the shard's own: the Python agent knows no shards.
            pid_directories: pid_directories(system, daemon),
        })
    }
}

/// Where what runs can be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Parent of the agent's own lock and socket.
    pub system_daemon_directory: PathBuf,
    /// Where the Python agent may have its pid file.
    pub pid_directories: Vec<PathBuf>,
}

/// Parents of the pid file of the Python agent: of its later releases and of its earlier ones.
fn pid_directories(system: PathBuf, daemon: PathBuf) -> Vec<PathBuf> {
    if system == daemon { vec![system] } else { vec![system, daemon] }
}

/// What a shard has to itself below `directory`.
fn own(directory: &Path, shard: Shard) -> PathBuf {
    // Nothing to add: the directory itself, and no slash at its end.
    if shard.suffix().is_empty() { directory.to_owned() } else { directory.join(shard.suffix()) }
}

impl Config {
    /// This configuration as far as it concerns `shard`.
    #[must_use]
    pub fn of_shard(self, shard: Shard) -> Self {
        let own_device: Vec<bool> =
            self.devices.iter().map(|device| shard.owns(&device.endpoint.to_string())).collect();
        // By endpoint: all spellings of a device are one connection, which must not be in two processes.
        let config = self.with_points(|point| own_device.get(point.device) == Some(&true));
        // A status page of its own, too: on one machine only one can have the port.
        let status_listen = config.status_listen.map(|mut address| {
            address.set_port(address.port().saturating_add(shard.index()));
            address
        });
        Self {
            shard,
            // daemon_directory is not among them: agent id and host name there are those of all shards.
            cache_directory: own(&config.cache_directory, shard),
            system_daemon_directory: own(&config.system_daemon_directory, shard),
            status_listen,
            outputs: config.outputs.into_iter().map(|output| output.of_shard(shard)).collect(),
            ..config
        }
    }

    /// Parents of the pid file that the Python agent with this configuration has, whatever the shard.
    #[must_use]
    pub fn pid_directories(&self) -> Vec<PathBuf> {
        let own = &self.system_daemon_directory;
        let system = if self.shard.suffix().is_empty() { Some(own.as_path()) } else { own.parent() };
        pid_directories(system.unwrap_or(own).to_owned(), self.daemon_directory.clone())
    }

    /// This configuration with the points to `keep` alone, and the devices that have any.
    #[must_use]
    pub fn with_points(self, keep: impl Fn(&Point) -> bool) -> Self {
        let mut points: Vec<Point> = self.points.into_iter().filter(|point| keep(point)).collect();
        // In order, so that devices stay in the order of the file and places only become smaller.
        let kept: BTreeSet<usize> = points.iter().map(|point| point.device).collect();
        let places: HashMap<usize, usize> = kept.iter().copied().zip(0..).collect();
        for point in &mut points {
            point.device = places.get(&point.device).copied().unwrap_or_default();
        }
        let devices =
            (0..).zip(self.devices).filter(|(place, _)| kept.contains(place)).map(|(_, device)| device).collect();
        Self { devices, points, ..self }
    }
}
