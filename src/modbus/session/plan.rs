//! What one device is asked for and how it is treated, computed once per configuration.

use std::time::Duration;

use crate::modbus::endpoint::Endpoint;
use crate::modbus::plan::Block;
use crate::modbus::settings::Settings;

/// What is to be known of one device to poll it.
#[derive(Debug)]
pub struct DeviceSettings {
    /// As people call it in the log: the first `ip_device` that means it.
    pub name: String,
    /// Where it is.
    pub endpoint: Endpoint,
    /// How to treat it.
    pub settings: Settings,
    /// What to read, by interval.
    pub cycles: Vec<Cycle>,
}

impl DeviceSettings {
    /// How many points are read from it.
    #[must_use]
    pub fn points(&self) -> usize {
        self.blocks().map(|block| block.values().count()).sum()
    }

    /// Every request.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> + Clone {
        self.cycles.iter().flat_map(|cycle| &cycle.blocks)
    }
}

/// The requests that are due together.
#[derive(Debug)]
pub struct Cycle {
    /// Time between two polls.
    pub interval: Duration,
    /// One request each.
    pub blocks: Vec<Block>,
}
