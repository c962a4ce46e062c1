//! What will be polled, and what an edit changes, as tables for people. Pure.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::configuration::{Config, Device, Point};
use super::diff::{self, Diff};
use super::naming;
use crate::text::harmless::escaped;
use crate::text::table::TextTable;
use crate::text::{count, seconds};

/// What becomes of a point that keeps its name.
const REDESCRIBED: &str = "gets another group, unit of measurement, tag or text";

/// The outputs, the directories, every run of registers, and what the configuration says of them.
#[must_use]
pub fn summary(config: &Config) -> String {
    let mut text = String::new();
    for output in &config.outputs {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "output    {}, to {}", output.name, escaped(&output.target(config)));
    }
    let directories = [
        ("cache", config.cache_directory.display().to_string()),
        ("identity", config.daemon_directory.display().to_string()),
        ("log", config.log_directory.display().to_string()),
    ];
    for (what, value) in directories {
        let _ = writeln!(text, "{what:<9} {}", escaped(&value));
    }
    text.push('\n');
    text.push_str(&runs(&config.points).columns());
    text.push_str(&descriptions(config));
    let _ = write!(text, "\n{}, {}", count(config.devices.len(), "device"), count(config.points.len(), "point"));
    text
}

/// Everything that `diff` holds, a line for each device, series and key.
#[must_use]
pub fn diff(diff: &Diff<'_>) -> String {
    let device = |device: &Device| (device.name().to_owned(), String::new());
    let key = |key: &str| (key.to_owned(), String::new());
    let mut rows: Vec<(&str, (String, String))> = Vec::new();
    rows.extend(diff.removed.iter().map(|it| ("device removed", device(it))));
    rows.extend(diff.changed.iter().map(|(_, it)| ("device replaced", device(it))));
    rows.extend(diff.added.iter().map(|it| ("device added", device(it))));
    rows.extend(
        diff.forked
            .iter()
            .map(|(before, after)| ("chart forked", (diff::name(before), format!("goes on as {}", diff::name(after))))),
    );
    rows.extend(diff.orphaned.iter().map(|it| ("chart ends", (diff::name(it), String::new()))));
    rows.extend(diff.renamed.iter().map(|(before, after)| ("point renamed", key(&diff::renamed(before, after)))));
    rows.extend(diff.redescribed.iter().map(|it| ("point", (diff::name(it), REDESCRIBED.to_owned()))));
    rows.extend(diff.renamed_devices.iter().map(|it| ("device renamed", key(&diff::renamed_device(it)))));
    rows.extend(diff.outputs.iter().map(|it| ("output", (it.to_string(), String::new()))));
    rows.extend(diff.settings.iter().map(|it| ("at once", key(it))));
    rows.extend(diff.needs_restart.iter().map(|it| ("with a restart", key(it))));
    let mut text = String::new();
    for (what, (name, more)) in rows {
        let line = format!("{what:<15}  {}  {}", escaped(&name), escaped(&more));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if diff.is_empty() {
        text.push_str("Nothing changes.\n");
        return text;
    }
    let _ = writeln!(text, "\nA reload means: {diff}.");
    if let Some(restart) = diff.restart() {
        let _ = writeln!(text, "Then {restart}.");
    }
    if let Some(drops) = diff.drops() {
        let _ = writeln!(text, "But {drops}.");
    }
    text
}

/// One row for each run of adjacent values that are read alike.
fn runs(points: &[Point]) -> TextTable {
    let kind =
        |point: &Point| if point.reference.table().is_bits() { "bit".to_owned() } else { point.format.to_string() };
    let mut sorted: Vec<(&Point, String)> = points.iter().map(|point| (point, kind(point))).collect();
    sorted.sort_by(|(a, of_a), (b, of_b)| {
        let key = |point: &Point| (point.device, point.unit, point.reference.table());
        (key(a), &a.target).cmp(&(key(b), &b.target)).then(a.reference.cmp(&b.reference)).then(of_a.cmp(of_b))
    });
    let same_run = |(a, of_a): &(&Point, String), (b, of_b): &(&Point, String)| {
        (&a.target, a.unit, a.interval, of_a) == (&b.target, b.unit, b.interval, of_b)
            && a.reference.after(a.format.width().into()) == Some(b.reference)
    };
    let mut runs = TextTable::new(&["device", "unit", "table", "numbers", "type", "points", "interval"]);
    for run in sorted.chunk_by(same_run) {
        let (Some((first, kind)), Some((last, _))) = (run.first(), run.last()) else { continue };
        let end = last.reference.number() + u32::from(last.format.width()) - 1;
        let numbers = match first.reference.number() {
            number if number == end => number.to_string(),
            number => format!("{number}-{end}"),
        };
        let table = first.reference.table().to_string();
        let (unit, interval) = (first.unit.to_string(), seconds(first.interval).to_string());
        runs.push([first.target.to_string(), unit, table, numbers, kind.clone(), run.len().to_string(), interval]);
    }
    runs
}

/// What the configuration says of devices and of registers, for those of which it says something; a register that a group
/// reads from many devices stands here once, with the tags that are not the device's own.
fn descriptions(config: &Config) -> String {
    let mut devices = TextTable::new(&["device", "name", "tags"]);
    for device in config.devices.iter().filter(|device| device.label.is_some() || !device.tags.is_empty()) {
        let label = device.label.clone().unwrap_or_default();
        devices.push([device.name().to_owned(), label, naming::listed(&device.tags)]);
    }
    let mut registers = TextTable::new(&["group", "key", "name", "measured in", "tags", "values"]);
    let mut known = HashSet::new();
    for point in &config.points {
        let (name, metadata) = (point.naming.name.as_deref().unwrap_or_default(), &point.naming.metadata);
        let mut tags = naming::merged(&metadata.tags, &point.tags);
        let of_device = config.devices.get(point.device).map(|device| &device.tags);
        tags.retain(|tag| metadata.tags.contains(tag) || !of_device.is_some_and(|tags| tags.contains(tag)));
        let values: Vec<_> = metadata.values.iter().map(|(number, text)| format!("{number}={text}")).collect();
        let unit = metadata.unit_of_measurement.as_deref().unwrap_or_default();
        let (key, tags, values) = (point.key(), naming::listed(&tags), values.join(", "));
        let row = [&*point.group, &key, name, unit, &tags, &values].map(str::to_owned);
        let [_, _, described @ ..] = &row;
        if described.iter().any(|cell| !cell.is_empty()) && known.insert(row.clone()) {
            registers.push(row);
        }
    }
    let tables = [devices, registers].into_iter().filter(|table| !table.is_empty());
    tables.flat_map(|table| ["\n".to_owned(), table.columns()]).collect()
}
