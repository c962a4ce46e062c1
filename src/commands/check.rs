//! `check`: the configuration validated without a network: what is wrong with it, what is doubtful, what will be
//! polled, how, or what an edit changes; and with one, whether the outputs would take readings.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;

use super::{plan, reach, spool};
use crate::cli::terminal::{complain, say};
use crate::config::diff::{Diff, OutputDiff};
use crate::config::settings::table;
use crate::config::{Config, Instance, Loaded, keys, outputs, render};
use crate::daemon::exit::Exit;
use crate::daemon::refusal_file;
use crate::modbus::plan::{Span, runs};
use crate::modbus::refusals::store::RefusalStore;
use crate::modbus::register::UnitId;
use crate::text::table::TextTable;
use crate::text::{Chain, count, some_of};

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

/// Asks every output whether it would take readings, and prints what it says; none is given any.
#[must_use]
pub fn connect(instance: &Instance) -> Exit {
    let Some(Loaded { config, .. }) = load(instance) else { return Exit::BadConfiguration };
    let mut exit = Exit::Done;
    for answer in reach::outputs(&config) {
        match answer {
            Ok(said) => say(&format!("{said}\n")),
            Err(why) => {
                complain(&why);
                exit = Exit::Failure;
            }
        }
    }
    exit
}

/// Prints every setting: the agent's, the outputs', the devices' with where the configuration says so.
#[must_use]
pub fn settings(instance: &Instance) -> Exit {
    let Some(Loaded { config, .. }) = load(instance) else { return Exit::BadConfiguration };
    say(&format!("{}\n", keys::settings(&config)));
    say(&format!("{}\n", outputs::table(&config.outputs)));
    say(&table::settings(&config));
    match refusal_file::look(&refusal_file::path(&config)) {
        Ok(store) => say(&learned(&config, &store)),
        Err(error) => warn(format_args!("what was learned of devices cannot be shown: {}", Chain(&error))),
    }
    Exit::Done
}

/// What the agent has learned of devices by asking them, for people; nothing when it has learned nothing.
fn learned(config: &Config, store: &RefusalStore) -> String {
    let mut table = TextTable::new(&["device", "learned"]);
    for device in &config.devices {
        let learned = store.of(&device.endpoint, &device.settings.fingerprint());
        for (unit, spans) in by_unit(&learned.refused) {
            table.push([device.name().to_owned(), format!("unit {unit} refuses {}", some_of(runs(spans).iter()))]);
        }
        for sentence in learned.sentences() {
            table.push([device.name().to_owned(), sentence]);
        }
    }
    if table.is_empty() { String::new() } else { format!("\n{}", table.columns()) }
}

fn by_unit(spans: &[Span]) -> BTreeMap<UnitId, Vec<Span>> {
    let mut units: BTreeMap<UnitId, Vec<Span>> = BTreeMap::new();
    for span in spans {
        units.entry(span.unit).or_default().push(*span);
    }
    units
}

/// Prints what changes when the agent `instance` that runs with the configuration in `running` is given its own.
#[must_use]
pub fn compare(running: PathBuf, instance: &Instance) -> Exit {
    let running = Instance { config_dir: running, ..*instance };
    let (Some(running), Some(new)) = (load(&running), load(instance)) else { return Exit::BadConfiguration };
    let diff = Diff::between(&running.config, &new.config);
    say(&render::diff(&diff));
    for name in diff.outputs.iter().filter_map(OutputDiff::ended) {
        if let Some(readings) = spool::undelivered(&running.config, name) {
            say(&format!("Output {name} has {readings} readings on disk to deliver.\n"));
        }
    }
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
