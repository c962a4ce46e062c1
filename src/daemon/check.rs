//! `check`: the configuration validated without a network, and what will be polled.

use std::io::Write as _;
use std::path::Path;

use super::assemble;
use super::exit::Exit;
use crate::config;
use crate::phrase::count;

/// Prints every fault to stderr, or else what will be polled to stdout.
#[must_use]
pub fn check(config_dir: &Path) -> Exit {
    let mut stderr = std::io::stderr();
    let loaded = match config::load(config_dir) {
        Ok(loaded) => loaded,
        Err(error) => {
            // A reader that has gone away is no fault of the configuration.
            writeln!(stderr, "{error}").ok();
            return Exit::BadConfiguration;
        }
    };
    for warning in &loaded.warnings {
        writeln!(stderr, "warning: {warning}").ok();
    }
    let requests: usize = assemble::devices(&loaded.config)
        .iter()
        .flat_map(|device| &device.cycles)
        .map(|cycle| cycle.blocks.len())
        .sum();
    let summary = config::render::summary(&loaded.config);
    writeln!(std::io::stdout(), "{summary}, each of them read once by {}.", count(requests, "request")).ok();
    Exit::Done
}
