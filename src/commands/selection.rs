//! Which devices and polling groups a command is about.

use std::collections::HashSet;
use std::sync::Arc;

use crate::cli::terminal::complain;
use crate::config::{Config, Instance, Point};
use crate::daemon::exit::{self, Exit};

/// Devices by their text in `ip_devices` or by their name, and polling groups by theirs; all where none is listed.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The devices.
    pub devices: Vec<String>,
    /// The polling groups.
    pub groups: Vec<String>,
}

impl Selection {
    /// What is selected of the configuration of `instance`; what is wrong with either is on stderr.
    ///
    /// # Errors
    /// With what the command ends with.
    pub fn load(&self, instance: &Instance) -> Result<Config, Exit> {
        let loaded = instance.load().map_err(|error| exit::refuse(&error))?;
        self.of(loaded.config).map_err(|why| {
            complain(&why);
            Exit::Usage
        })
    }

    /// What of `config` is selected: its points, with their devices.
    ///
    /// # Errors
    /// When nothing has one of the names.
    pub fn of(&self, config: Config) -> Result<Config, String> {
        let unknown = |what: &str, name: &str| format!("no {what} is called {name:?} in the configuration");
        let mut targets: HashSet<Arc<str>> = HashSet::new();
        for name in &self.devices {
            // One name may stand for several spellings, so that it selects what all of them have.
            let label = |point: &Point| config.devices.get(point.device).and_then(|device| device.label.as_ref());
            let of_it = |point: &&Point| *point.target == **name || label(point) == Some(name);
            let mut found = config.points.iter().filter(of_it).map(|point| Arc::clone(&point.target)).peekable();
            if found.peek().is_none() {
                return Err(unknown("device", name));
            }
            targets.extend(found);
        }
        for name in &self.groups {
            // Refused, or a slip in a name would look as if nothing had been read.
            if config.points.iter().all(|point| *point.group != **name) {
                return Err(unknown("group", name));
            }
        }
        let every = (self.devices.is_empty(), self.groups.is_empty());
        Ok(config.with_points(|point| {
            (every.0 || targets.contains(&point.target))
                && (every.1 || self.groups.iter().any(|group| **group == *point.group))
        }))
    }
}
