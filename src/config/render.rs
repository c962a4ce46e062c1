//! What will be polled, and what an edit changes, as tables for people. Pure.

use std::collections::HashSet;
use std::fmt::{self, Write as _};

use super::configuration::{Config, Device, Point};
use super::diff::{self, Diff};
use super::naming::{self, Metadata};
use crate::modbus::format::{Format, Kind};
use crate::text::alike::{MANY, alike, first};
use crate::text::harmless::escaped;
use crate::text::table::TextTable;
use crate::text::{count, seconds};

/// What becomes of a point that keeps its name.
const REDESCRIBED: &str = "gets another group, unit of measurement, tag or text";

/// How much is shown, and how wide it may be.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Every row, however many there are.
    pub all: bool,
    /// Characters in a line.
    pub width: usize,
}

/// The outputs, the directories, the runs of registers, and what the configuration says of them. Of many rows those that are
/// alike are told once, and what is still too much is a number, unless all are asked for.
#[must_use]
pub fn summary(config: &Config, extent: Extent) -> String {
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
    text.push_str(&runs(&config.points, extent));
    text.push_str(&descriptions(config, extent));
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
fn runs(points: &[Point], extent: Extent) -> String {
    let mut sorted: Vec<&Point> = points.iter().collect();
    sorted.sort_by(|a, b| {
        let key = |point: &Point| (point.device, point.unit, point.reference.table());
        // A register may be there twice in a table, as bits or bytes: in order of type alone their runs stand together.
        let types = || kind(a).to_string().cmp(&kind(b).to_string());
        key(a).cmp(&key(b)).then_with(|| a.target.cmp(&b.target)).then(a.reference.cmp(&b.reference)).then_with(types)
    });
    // By the width of the value before, so that a run of 32-bit values, whose numbers go up by two, is one row.
    let same_run = |a: &&Point, b: &&Point| {
        a.reference.after(a.format.width().into()) == Some(b.reference)
            && (a.unit, a.interval) == (b.unit, b.interval)
            && a.target == b.target
            && kind(a) == kind(b)
    };
    let mut by_device: Vec<(String, Vec<[String; 6]>)> = Vec::new();
    let mut total = 0;
    for run in sorted.chunk_by(same_run) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let end = last.reference.number() + u32::from(last.format.width()) - 1;
        let numbers = match first.reference.number() {
            number if number == end => number.to_string(),
            number => format!("{number}-{end}"),
        };
        let table = first.reference.table().to_string();
        let (unit, interval) = (first.unit.to_string(), seconds(first.interval).to_string());
        let row = [unit, table, numbers, kind(first).to_string(), run.len().to_string(), interval];
        total += 1;
        match by_device.last_mut().filter(|(target, _)| **target == *first.target) {
            Some((_, rows)) => rows.push(row),
            None => by_device.push((first.target.to_string(), vec![row])),
        }
    }
    if total > MANY && !extent.all {
        by_device = alike(by_device.into_iter());
    }
    let of_device = |(device, rows): (String, Vec<[String; 6]>)| {
        rows.into_iter().map(move |[a, b, c, d, e, f]| [device.clone(), a, b, c, d, e, f])
    };
    let rows: Vec<[String; 7]> = by_device.into_iter().flat_map(of_device).collect();
    table(&["device", "unit", "table", "numbers", "type", "points", "interval"], &rows, extent)
}

/// `rows` in columns, the first of them unless all are asked for.
fn table<const N: usize>(heads: &[&str; N], rows: &[[String; N]], extent: Extent) -> String {
    let (shown, more) = if extent.all { (rows, None) } else { first(rows) };
    let mut table = TextTable::new(heads);
    for row in shown {
        table.push(row.iter().cloned());
    }
    table.within(extent.width) + &more.unwrap_or_default()
}

/// The type, as people call it.
fn kind(point: &Point) -> impl fmt::Display + PartialEq + use<> {
    match &point.format {
        _ if point.reference.table().is_bits() => Type::Bit,
        Format::Word(_) => Type::Of(Kind::Uint16),
        Format::Typed(typed) => Type::Of(typed.kind),
    }
}

/// What is shown in the column `type`.
#[derive(PartialEq)]
enum Type {
    Bit,
    Of(Kind),
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bit => f.write_str("bit"),
            Self::Of(kind) => kind.fmt(f),
        }
    }
}

/// What the configuration says of devices and of registers, for those of which it says something; a register that a group
/// reads from many devices stands here once, with the tags that are not the device's own.
fn descriptions(config: &Config, extent: Extent) -> String {
    let of_device = |device: &Device| {
        let label = device.label.clone().unwrap_or_default();
        [device.name().to_owned(), label, naming::listed(&device.tags)]
    };
    let described = |device: &&Device| device.label.is_some() || !device.tags.is_empty();
    let devices: Vec<_> = config.devices.iter().filter(described).map(of_device).collect();
    let mut registers = Vec::new();
    let mut known = HashSet::new();
    for point in &config.points {
        let naming = &point.naming;
        if naming.name.is_none() && *naming.metadata == Metadata::default() && point.tags.is_empty() {
            continue;
        }
        let (name, metadata) = (naming.name.as_deref().unwrap_or_default(), &naming.metadata);
        let mut tags = naming::merged(&metadata.tags, &point.tags);
        let of_device = config.devices.get(point.device).map(|device| &device.tags);
        // With them, a register that is read from a thousand devices would be a thousand rows that differ in nothing
        // else.
        tags.retain(|tag| metadata.tags.contains(tag) || !of_device.is_some_and(|tags| tags.contains(tag)));
        let values: Vec<_> = metadata.values.iter().map(|(number, text)| format!("{number}={text}")).collect();
        let unit = metadata.unit_of_measurement.as_deref().unwrap_or_default();
        let (key, tags, values) = (point.key(), naming::listed(&tags), values.join(", "));
        let row = [&*point.group, &key, name, unit, &tags, &values].map(str::to_owned);
        // Its group and its key are no description: a row with nothing else says nothing.
        let [_, _, described @ ..] = &row;
        if described.iter().any(|cell| !cell.is_empty()) && known.insert(row.clone()) {
            registers.push(row);
        }
    }
    let mut text = String::new();
    if !devices.is_empty() {
        text.push('\n');
        text += &table(&["device", "name", "tags"], &devices, extent);
    }
    if !registers.is_empty() {
        let heads = ["group", "key", "name", "measured in", "tags", "values"];
        text.push('\n');
        text += &table(&heads, &registers, extent);
    }
    text
}
