//! `once`: every device polled once, every value or the reason why there is none.
//!
//! Devices are polled side by side, `AT_ONCE` of them, by the same session that the daemon uses. A poll that takes
//! long is followed on stderr, if that is a terminal.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use super::selection::Selection;
use crate::cli::terminal::{complain, pour, say, width};
use crate::config::{Config, Device, Instance, Point};
use crate::daemon::assemble;
use crate::daemon::exit::Exit;
use crate::modbus::plan::{Block, Reads, Span};
use crate::modbus::session::DeviceSettings;
use crate::modbus::session::{EndpointDial, Outcome, Session, Subject};
use crate::reading::points;
use crate::reading::{PointId, Timestamp, Value};
use crate::status::snapshot::Time;
use crate::text::count;
use crate::text::harmless::{self, escaped};
use crate::text::table::TextTable;
use crate::time::clock;

/// So many devices are polled at the same time.
const AT_ONCE: usize = 64;

/// How often it is said how far it is.
const PROGRESS: Duration = Duration::from_secs(1);

/// What to poll, and how to show it.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What to poll.
    pub selection: Selection,
    /// Whether a point without a value is a failure.
    pub strict: bool,
    /// How to show it.
    pub form: Form,
}

/// How readings are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// In columns.
    #[default]
    Table,
    /// As a JSON array.
    Json,
    /// With commas.
    Csv,
}

/// One point after the poll.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    device: String,
    unit: u8,
    point: String,
    /// The entries as read, in hexadecimal.
    pub(super) raw: Option<String>,
    value: Option<f64>,
    time: Option<Time>,
    /// Why there is no value.
    pub(super) why: Option<String>,
    #[serde(flatten)]
    labels: Labels,
    #[serde(skip)]
    shown: String,
}

impl Line {
    /// The value with its unit of measurement, and what it means; empty where there is none.
    fn value_for_people(&self) -> String {
        let Labels { unit_of_measurement, text, .. } = &self.labels;
        let value = match (unit_of_measurement, self.value) {
            (Some(unit), Some(_)) => format!("{} {unit}", self.shown),
            _ => self.shown.clone(),
        };
        points::called(text.as_deref(), &value)
    }
}

/// What the configuration calls a point and its value.
#[derive(Debug, Default, Serialize)]
struct Labels {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit_of_measurement: Option<String>,
    /// The text for the value, of `values`.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

/// Polls once and prints what came of it.
#[must_use]
pub fn once(instance: &Instance, options: &Options) -> Exit {
    let config = match options.selection.load(instance) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let lines = poll(&config);
    let failed = lines.iter().filter(|line| line.value.is_none()).count();
    match options.form {
        Form::Json => drop(pour(&(harmless::json(&serde_json::to_string_pretty(&lines).unwrap_or_default()) + "\n"))),
        Form::Csv => drop(pour(&rows(&lines).csv())),
        Form::Table => {
            // Row by row in the order of the groups, a device would be torn apart.
            let mut by_device: Vec<(&Point, &Line)> = config.points.iter().zip(&lines).collect();
            by_device.sort_by_key(|(point, _)| (point.device, point.unit));
            say(&table(&by_device).within(width()));
            say(&format!("\n{}", hint_of(&config, &lines)));
            say(&format!("{} read, {failed} without a value.\n", count(lines.len() - failed, "point")));
        }
    }
    if options.strict && failed > 0 { Exit::NotRunning } else { Exit::Done }
}

/// The lines for somebody who does not know the registers yet: device by device, what each number is; of many, so many rows.
pub(super) fn brief(config: &Config, lines: &[Line], most_rows: usize) -> String {
    let mut text = String::new();
    let mut by_device: BTreeMap<(usize, u8), TextTable> = BTreeMap::new();
    for (point, line) in config.points.iter().zip(lines).take(most_rows) {
        let table = by_device.entry((point.device, point.unit.0));
        let table = table.or_insert_with(|| TextTable::new(&["number", "name", "value, or why there is none"]));
        let number = format!("{}{}", point.reference.number(), point.format.part());
        let value = line.why.clone().unwrap_or_else(|| line.value_for_people());
        table.push([number, line.labels.name.clone().unwrap_or_default(), value]);
    }
    for ((device, unit), table) in by_device {
        let name = config.devices.get(device).map_or("", Device::name);
        // Writing to a String cannot fail.
        let _ = write!(text, "{}, unit {unit}:\n{}\n", escaped(name), table.within(width()));
    }
    if let more @ 1.. = lines.len().saturating_sub(most_rows) {
        let _ = write!(text, "and {more} more\n\n");
    }
    text + &hint_of(config, lines)
}

/// What to try for the first register that a device says it has not; empty where there is none.
pub(super) fn hint_of(config: &Config, lines: &[Line]) -> String {
    config.points.iter().zip(lines).find_map(|(point, line)| hint(point, line)).unwrap_or_default()
}

/// Every point of `config`, in its order, after one poll of every device.
pub(super) fn poll(config: &Config) -> Vec<Line> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("the system gives no means to wait for devices: {error}"));
            return Vec::new();
        }
    };
    let devices = assemble::devices(config);
    let total = devices.len();
    let local = LocalSet::new();
    let polled = local.block_on(&runtime, async move {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut polls = JoinSet::new();
        for settings in devices {
            let turns = Arc::clone(&turns);
            polls.spawn_local(async move {
                // Nobody closes it.
                let _turn = turns.acquire_owned().await;
                poll_device(&settings).await
            });
        }
        let mut found = HashMap::new();
        let mut done = 0;
        // Not at once: what is done within a second needs no line about how far it is.
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + PROGRESS, PROGRESS);
        loop {
            tokio::select! {
                polled = polls.join_next() => match polled {
                    None => break,
                    Some(polled) => {
                        done += 1;
                        // A poll that panicked has lost its own points, and `line` says so for each of them.
                        found.extend(polled.unwrap_or_default());
                    }
                },
                _ = tick.tick() => progress(done, total),
            }
        }
        progress_is_over();
        found
    });
    // A name look-up that hangs must not hold the process.
    runtime.shutdown_background();
    let table = assemble::points(config);
    // Every point of the configuration has a line, whatever came of its device.
    let points = (0..).map(PointId).zip(&config.points);
    points.map(|(id, point)| line(point, table.get(id), polled.get(&id))).collect()
}

/// What a poll has found of a point.
#[derive(Debug, Clone)]
struct Found {
    words: Option<Vec<u16>>,
    result: Result<(Value, Timestamp), String>,
}

async fn poll_device(settings: &DeviceSettings) -> Vec<(PointId, Found)> {
    let dial = EndpointDial::new(&settings.endpoint, settings.settings.clone());
    // A session gives out values; the table shows the words that they were made of, too.
    let mut session = Session::new(dial, settings.settings.clone()).keeping_words();
    let blocks: Vec<&Block> = settings.cycles.iter().flat_map(|cycle| &cycle.blocks).collect();
    let outcome = session.poll(blocks.iter().copied(), clock::wall).await;
    let points = blocks.iter().flat_map(|block| block.points.iter().map(move |point| (block.span(point), point)));
    let mut found = Vec::new();
    for (span, point) in points {
        // Scale registers are read and have no line of their own.
        let Reads::Value(id, _) = point.reads else { continue };
        let reading = outcome.readings.iter().find(|reading| reading.point == id);
        let result =
            reading.map(|reading| (reading.value, reading.at)).ok_or_else(|| why(id, span, &outcome, &session));
        found.push((id, Found { words: words(span, &outcome), result }));
    }
    found
}

fn words(span: Span, outcome: &Outcome) -> Option<Vec<u16>> {
    outcome.words.iter().find_map(|(read, words)| {
        let start = usize::from(span.address.checked_sub(read.address)?);
        let same = (read.unit, read.table) == (span.unit, span.table);
        words.get(start..start + usize::from(span.width)).filter(|_| same).map(<[u16]>::to_vec)
    })
}

fn why(id: PointId, span: Span, outcome: &Outcome, session: &Session<EndpointDial>) -> String {
    let faults = session.core().faults();
    let fault = |subject: &Subject| faults.get(subject).map(|fault| fault.cause.clone());
    let omitted = || outcome.omitted.iter().find(|(point, _)| *point == id).map(|(_, why)| why.to_string());
    let refused = || session.core().refusals().refuses(span).then(|| session.core().refused_because(span));
    let asked = || faults.iter().find(|(subject, _)| subject.covers(span)).map(|(_, fault)| fault.cause.clone());
    // From the value outwards, to its registers, its unit, the connection: the narrowest reason is the one that helps.
    omitted()
        .or_else(refused)
        .or_else(asked)
        .or_else(|| fault(&Subject::Unit(span.unit)))
        .or_else(|| fault(&Subject::AllUnits))
        .or_else(|| fault(&Subject::Connection))
        .unwrap_or_else(|| "not asked, because the device had not answered before".to_owned())
}

fn line(point: &Point, named: Option<points::Point<'_>>, found: Option<&Found>) -> Line {
    let words = found.and_then(|found| found.words.as_ref());
    let result = found.map_or(Err("its poll was lost; this is a bug".to_owned()), |found| found.result.clone());
    let (value, why) = (result.as_ref().ok(), result.as_ref().err());
    let shown = match value {
        Some((Value::Integer(integer), _)) => integer.to_string(),
        Some((Value::Float(float), _)) => float.to_string(),
        None => String::new(),
    };
    Line {
        device: point.target.to_string(),
        unit: point.unit.0,
        point: point.key(),
        raw: words.map(|words| words.iter().map(|word| format!("{word:04x}")).collect::<Vec<_>>().join(" ")),
        value: value.map(|(value, _)| value.as_f64()),
        time: value.map(|&(_, at)| Time(at)),
        why: why.cloned(),
        labels: named.map(|named| labels(named, value.map(|(value, _)| *value))).unwrap_or_default(),
        shown,
    }
}

fn labels(point: points::Point<'_>, value: Option<Value>) -> Labels {
    Labels {
        name: point.register.name.clone(),
        device_name: point.device.name.clone(),
        unit_of_measurement: point.register.unit_of_measurement.clone(),
        text: value.and_then(|value| point.text_of(value)).map(str::to_owned),
        tags: point.tags().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    }
}

const HEADS: [&str; 7] = ["device", "unit", "point", "raw", "value", "time", "why"];

/// What a device says of a register that it has not, most often because the manual counts otherwise.
const NO_SUCH_REGISTER: &str = "illegal data address";

/// What to try for a register that the device says it has not.
fn hint(point: &Point, line: &Line) -> Option<String> {
    let (number, table) = (point.reference.number(), point.reference.table());
    let refused = line.why.as_ref().is_some_and(|why| why.contains(NO_SUCH_REGISTER));
    let address = u16::try_from(number).ok().filter(|_| refused && !table.is_bits())?;
    let meant = table.number_of(address);
    Some(format!("If {number} is the address itself, counted from 0, as in some manuals, it is written {meant}.\n"))
}

/// For people: each label stands in the column of what it is for, and the time, which is now, in none.
fn table(lines: &[(&Point, &Line)]) -> TextTable {
    let mut table = TextTable::new(&["device", "unit", "point", "raw", "value", "why"]);
    for (_, line) in lines {
        let Labels { name, device_name, .. } = &line.labels;
        let [device, unit, point, raw, _, _, why] = cells(line);
        let (device, point) =
            (points::called(device_name.as_deref(), &device), points::called(name.as_deref(), &point));
        table.push([device, unit, point, raw, line.value_for_people(), why]);
    }
    table
}

/// For programs: each label in a column of its own.
fn rows(lines: &[Line]) -> TextTable {
    let heads: Vec<&str> = HEADS.into_iter().chain(["name", "device_name", "unit_of_measurement", "text"]).collect();
    let mut table = TextTable::new(&heads);
    for line in lines {
        let Labels { name, device_name, unit_of_measurement, text, .. } = &line.labels;
        let labels = [name, device_name, unit_of_measurement, text].map(|label| label.clone().unwrap_or_default());
        table.push(cells(line).into_iter().chain(labels));
    }
    table
}

fn cells(line: &Line) -> [String; 7] {
    let time = line.time.map_or_else(String::new, |time| time.to_string());
    let (raw, why) = (line.raw.clone().unwrap_or_default(), line.why.clone().unwrap_or_default());
    [line.device.clone(), line.unit.to_string(), line.point.clone(), raw, line.shown.clone(), time, why]
}

fn progress(done: usize, total: usize) {
    if io::stderr().is_terminal() {
        write!(io::stderr(), "\r{done} of {} polled", count(total, "device")).ok();
    }
}

fn progress_is_over() {
    if io::stderr().is_terminal() {
        write!(io::stderr(), "\r{:40}\r", "").ok();
    }
}
