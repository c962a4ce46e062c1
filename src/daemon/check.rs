//! `check`: the configuration validated without a network, and what will be polled, how, or what an edit
//! changes.

use std::io::{self, Write as _};
use std::path::PathBuf;

use super::assemble;
use super::exit::Exit;
use crate::config::changes::Changes;
use crate::config::settings::table;
use crate::config::{Config, Instance, render};
use crate::phrase::count;

/// Prints every fault to stderr, or else what will be polled to stdout.
#[must_use]
pub fn check(instance: &Instance) -> Exit {
    let Some(config) = load(instance) else { return Exit::BadConfiguration };
    let requests: usize =
        assemble::devices(&config).iter().flat_map(|device| &device.cycles).map(|cycle| cycle.blocks.len()).sum();
    say(&format!("{}, each of them read once by {}.\n", render::summary(&config), count(requests, "request")));
    Exit::Done
}

/// Prints how the devices are treated, and where the configuration says so.
#[must_use]
pub fn settings(instance: &Instance) -> Exit {
    let Some(config) = load(instance) else { return Exit::BadConfiguration };
    say(&table::settings(&config));
    Exit::Done
}

/// Prints what changes when the agent `instance` that runs with the configuration in `running` is given its own.
#[must_use]
pub fn compare(running: PathBuf, instance: &Instance) -> Exit {
    let running = Instance { config_dir: running, ..*instance };
    let (Some(running), Some(new)) = (load(&running), load(instance)) else { return Exit::BadConfiguration };
    say(&render::changes(&Changes::between(&running, &new)));
    Exit::Done
}

/// The configuration there; what is wrong with it is on stderr.
fn load(instance: &Instance) -> Option<Config> {
    let mut stderr = io::stderr();
    let loaded = match instance.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            // A reader that has gone away is no fault of the configuration.
            writeln!(stderr, "{error}").ok();
            return None;
        }
    };
    for warning in &loaded.warnings {
        writeln!(stderr, "warning: {warning}").ok();
    }
    Some(loaded.config)
}

fn say(text: &str) {
    io::stdout().write_all(text.as_bytes()).ok();
}
