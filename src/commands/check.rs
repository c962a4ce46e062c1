//! `check`: the configuration validated without a network: what is wrong with it, what is doubtful, what will be
//! polled, how, or what an edit changes; and with one, whether the outputs would take readings.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::slice;

use serde::Serialize;

use super::{plan, reach, spool};
use crate::cli::terminal::{complain, pour, say, width};
use crate::config::diff::{Diff, OutputDiff};
use crate::config::render::Extent;
use crate::config::settings::table;
use crate::config::{Config, Diagnostic, Instance, Loaded, keys, outputs, render};
use crate::daemon::exit::{self, Exit};
use crate::daemon::refusal_file;
use crate::modbus::plan::{Span, runs};
use crate::modbus::refusals::store::RefusalStore;
use crate::modbus::register::UnitId;
use crate::text::table::TextTable;
use crate::text::{Chain, count, harmless, some_of};

/// Prints every fault and every warning to stderr, and what will be polled to stdout unless there is a fault, row by row if `all` is
/// asked for; a warning counts as a fault if it is to be `strict`.
#[must_use]
pub fn check(instance: &Instance, strict: bool, all: bool) -> Exit {
    let Loaded { config, warnings } = match load(instance) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let timings = plan::timings(&config);
    let tight = plan::tight(&timings);
    for verdict in &tight {
        warn(verdict);
    }
    let requests: usize = timings.iter().map(|timing| timing.requests).sum();
    let extent = Extent { all, width: width() };
    say(&format!("{}, each of them read once by {}.\n", render::summary(&config, extent), count(requests, "request")));
    let doubts = warnings.len() + tight.len();
    if strict && doubts > 0 {
        complain(&format!("{}, and --strict allows none", count(doubts, "warning")));
        return Exit::BadConfiguration;
    }
    Exit::Done
}

/// The same for programs: one JSON object on stdout, whatever is wrong.
#[must_use]
pub fn as_json(instance: &Instance, strict: bool) -> Exit {
    let (faults, warnings, polled, exit) = match instance.load() {
        Ok(Loaded { config, warnings }) => {
            let timings = plan::timings(&config);
            let tight = plan::tight(&timings);
            let doubts = warnings.len() + tight.len();
            let warnings = warnings.iter().map(Told::from).chain(tight.into_iter().map(Told::of_time));
            let polled = Polled {
                devices: config.devices.len(),
                points: config.points.len(),
                requests: timings.iter().map(|timing| timing.requests).sum(),
            };
            let exit = if strict && doubts > 0 { Exit::BadConfiguration } else { Exit::Done };
            (Vec::new(), warnings.collect(), Some(polled), exit)
        }
        Err(error) => {
            let told = |told: &[Diagnostic]| told.iter().map(Told::from).collect::<Vec<_>>();
            (told(&error.faults), told(&error.warnings), None, Exit::from(&error))
        }
    };
    let checked = Checked { version: 1, ok: exit == Exit::Done, faults, warnings, polled };
    pour(&(harmless::json(&serde_json::to_string_pretty(&checked).unwrap_or_default()) + "\n"));
    exit
}

/// What a check has found, for programs. A field may be added; one that changes its meaning makes another version.
#[derive(Debug, Serialize)]
struct Checked {
    version: u32,
    /// Whether the agent starts with it; with `--strict`, whether nothing is doubtful either.
    ok: bool,
    faults: Vec<Told>,
    warnings: Vec<Told>,
    /// What will be polled; not there when there is a fault.
    #[serde(flatten)]
    polled: Option<Polled>,
}

#[derive(Debug, Serialize)]
struct Polled {
    devices: usize,
    points: usize,
    requests: usize,
}

/// One fault or warning, for programs.
#[derive(Debug, Default, Serialize)]
struct Told {
    /// Not there for what is about no file, such as requests for which there is no time.
    file: Option<PathBuf>,
    line: Option<usize>,
    column: Option<usize>,
    /// The way to the value, `polling_groups[0].unit`.
    key: Option<String>,
    message: String,
}

impl Told {
    fn of_time(message: String) -> Self {
        Self { message, ..Self::default() }
    }
}

impl From<&Diagnostic> for Told {
    fn from(of: &Diagnostic) -> Self {
        let (line, column) = of.position.unzip();
        let key = Some(of.path.clone()).filter(|key| !key.is_empty());
        let message = [slice::from_ref(&of.message), &*of.instead].concat().join("\n");
        Self { file: Some(of.file.clone()), line, column, key, message }
    }
}

/// Prints every fault to stderr, and nothing else: for a service manager, which asks before each reload.
#[must_use]
pub fn faults(instance: &Instance) -> Exit {
    match instance.load() {
        Ok(_) => Exit::Done,
        Err(error) => {
            complain(&error.to_string());
            Exit::from(&error)
        }
    }
}

/// Asks every output whether it would take readings, and prints what it says; none is given any.
#[must_use]
pub fn connect(instance: &Instance) -> Exit {
    let config = match load(instance) {
        Ok(loaded) => loaded.config,
        Err(exit) => return exit,
    };
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
    let config = match load(instance) {
        Ok(loaded) => loaded.config,
        Err(exit) => return exit,
    };
    say(&format!("{}\n", keys::settings(&config, width())));
    say(&format!("{}\n", outputs::table(&config.outputs, width())));
    say(&table::settings(&config, width()));
    match refusal_file::look(&refusal_file::path(&config)) {
        Ok(store) => say(&learned(&config, &store)),
        // No failure: the settings, which were asked for, are shown.
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
    if table.is_empty() { String::new() } else { format!("\n{}", table.within(width())) }
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
    // The same shard of both, or every device of the others would be new or gone.
    let running = Instance { config_dir: running, ..*instance };
    let (running, new) = match (load(&running), load(instance)) {
        (Ok(running), Ok(new)) => (running, new),
        (Err(exit), _) | (_, Err(exit)) => return exit,
    };
    let diff = Diff::between(&running.config, &new.config);
    say(&render::diff(&diff));
    for name in diff.outputs.iter().filter_map(OutputDiff::ended) {
        // Where the running agent has its log: the new configuration may name another directory.
        if let Some(readings) = spool::undelivered(&running.config, name) {
            say(&format!("Output {name} has {readings} readings on disk to deliver.\n"));
        }
    }
    Exit::Done
}

/// The configuration there; what is wrong with it, or doubtful, is on stderr.
fn load(instance: &Instance) -> Result<Loaded, Exit> {
    let loaded = instance.load().map_err(|error| exit::refuse(&error))?;
    for warning in &loaded.warnings {
        warn(warning.shown());
    }
    Ok(loaded)
}

fn warn(doubt: impl Display) {
    complain(&format!("warning: {doubt}"));
}
