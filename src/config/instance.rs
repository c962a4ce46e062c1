//! One agent: a configuration directory, and which of several agents with it ([`Shard`]).
//!
//! A shard has the devices that are its own, and directories of its own for what one process alone may hold: the
//! queue on disk, lock, pid file and socket. Agent id, host name and log are those of all.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{AGENT_FILE, Config, ConfigError, Fault, Loaded, Point};
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
        let Loaded { config, warnings } = super::load(&self.config_dir)?;
        if self.shard.is_one_of_many() && config.agent_hostname.is_none() {
            let message = "agent_hostname is missing; it is part of every series, and all shards must have the same";
            return Err(ConfigError { faults: vec![Fault::of_file(&self.config_dir.join(AGENT_FILE), message)] });
        }
        Ok(Loaded { config: config.of_shard(self.shard), warnings })
    }

    /// Where its lock and its socket are, whatever else is wrong with the files.
    ///
    /// # Errors
    /// With every fault of the file that says it.
    pub fn system_daemon_directory(&self) -> Result<PathBuf, ConfigError> {
        super::system_daemon_directory(&self.config_dir).map(|directory| own(&directory, self.shard))
    }
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
        let mut places = HashMap::new();
        let mut devices = Vec::new();
        for (place, device) in self.devices.into_iter().enumerate() {
            if shard.owns(&device.endpoint.to_string()) {
                places.insert(place, devices.len());
                devices.push(device);
            }
        }
        let point = |point: Point| Some(Point { device: *places.get(&point.device)?, ..point });
        // A status page of its own, too: on one machine only one can have the port.
        let status_listen = self.status_listen.map(|mut address| {
            address.set_port(address.port().saturating_add(shard.index()));
            address
        });
        Self {
            shard,
            cache_directory: own(&self.cache_directory, shard),
            system_daemon_directory: own(&self.system_daemon_directory, shard),
            status_listen,
            points: self.points.into_iter().filter_map(point).collect(),
            devices,
            ..self
        }
    }
}
