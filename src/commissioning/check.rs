//! `check`: the configuration validated without a network: what is wrong with it, what is doubtful, what will be
//! polled, how, or what an edit changes.

use std::fmt::Display;
use std::path::PathBuf;

use super::{complain, plan, say};
use crate::config::changes::Changes;
use crate::config::settings::table;
use crate::config::{Instance, Loaded, render};
use crate::daemon::exit::Exit;
use crate::phrase::count;

/// Prints every fault and every warning to stderr, and what will be polled to stdout unless there is a fault; a
/// warning counts as one if it is to be `strict`.
#[must_use]
pub fn check(instance: &Instance, strict: bool) -> Exit {
    let Some(Loaded { config, warnings }) = load(instance) else { return Exit::BadConfiguration };
    let timings = plan::timings(&config);
    let tight: Vec<_> = timings.iter().filter(|timing| !timing.fits()).collect();
    for timing in &tight {
        warn(plan::verdict(timing));
    }
    let requests: usize = timings.iter().map(|timing| timing.requests).sum();
    say(&format!("{}, each of them read once by {}.\n", render::summary(&config), count(requests, "request")));
    let doubts = warnings.len() + tight.len();
    if strict && doubts > 0 {
        complain(&format!("{}, and --strict allows none", count(doubts, "warning")));
        return Exit::BadConfiguration;
    }
    Exit::Done
}

/// Prints how the devices are treated, and where the configuration says so.
#[must_use]
pub fn settings(instance: &Instance) -> Exit {
    let Some(Loaded { config, .. }) = load(instance) else { return Exit::BadConfiguration };
    say(&table::settings(&config));
    Exit::Done
}

/// Prints what changes when the agent `instance` that runs with the configuration in `running` is given its own.
#[must_use]
pub fn compare(running: PathBuf, instance: &Instance) -> Exit {
    let running = Instance { config_dir: running, ..*instance };
    let (Some(running), Some(new)) = (load(&running), load(instance)) else { return Exit::BadConfiguration };
    say(&render::changes(&Changes::between(&running.config, &new.config)));
    Exit::Done
}

/// The configuration there; what is wrong with it, or doubtful, is on stderr.
fn load(instance: &Instance) -> Option<Loaded> {
    let loaded = instance.load().inspect_err(|error| complain(&error.to_string())).ok()?;
    for warning in &loaded.warnings {
        warn(warning);
    }
    Some(loaded)
}

fn warn(doubt: impl Display) {
    complain(&format!("warning: {doubt}"));
}
