//! `polling_groups`: which registers of which devices, by the rules of the original agent.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::naming::{self, Tags};
use super::registers::{self, Register};
use super::value::{MAX_TEXT_BYTES, interval};
use super::yaml::cursor::{Cursor, Report};
use super::yaml::node::Node;
use crate::modbus::endpoint::Address;
use crate::modbus::plan::Limits as RequestLimits;
use crate::modbus::register::{Table, UnitId};

/// All keys of a group.
pub const KEYS: [&str; 14] = [
    "group_name",
    "ip_devices",
    "ip_targets",
    "unit",
    "polling_interval",
    "input_registers",
    "holding_registers",
    "coils",
    "discrete_inputs",
    "type",
    "order",
    "unavailable",
    "together",
    "tags",
];

/// The name of a group goes to no server, and the original takes any.
const MAX_NAME_BYTES: usize = 4096;

/// One polling group.
#[derive(Debug)]
pub struct Group<'a> {
    pub name: String,
    pub devices: Vec<(String, Address, Cursor<'a>)>,
    /// The units of each device, at least one, each once.
    pub units: Vec<UnitId>,
    pub polling_interval: Option<Duration>,
    /// Whether what it reads of a table is read by one request or not at all.
    pub together: bool,
    /// Tags of all its points.
    pub tags: Tags,
    /// Input registers, holding registers, coils, discrete inputs, each in the order of the file.
    pub registers: Vec<Register<'a>>,
}

/// Reads the group at `place` of the list.
pub fn read<'a>(place: usize, cursor: &Cursor<'a>, report: &mut Report) -> Option<Group<'a>> {
    let Some(entries) = cursor.entries(report) else {
        let fault = cursor.unfit("a mapping with ip_devices and registers");
        match *cursor.node {
            Node::Text(_) | Node::List(_) => report.unless_lenient(fault, "it is left out"),
            _ => report.faults.push(fault),
        }
        return None;
    };
    let mut group = Group {
        name: format!("group {}", place + 1),
        devices: Vec::new(),
        units: vec![UnitId::default()],
        polling_interval: None,
        together: false,
        tags: Tags::new(),
        registers: Vec::new(),
    };
    let mut polled = true;
    let (mut named, mut tables) = (false, [const { None }; Table::ALL.len()]);
    let mut defaults = registers::Defaults::default();
    let mut whole = None;
    let faults_before = report.faults.len();
    for entry in &entries {
        let value = &entry.value;
        match entry.key.as_str() {
            "group_name" => group.name = name(value, report),
            "ip_devices" | "ip_targets" => {
                named = true;
                devices(value, &mut group.devices, report);
            }
            "unit" => match units(value, report) {
                Some(units) => group.units = units,
                // The group is read to its end, so that its other faults are told.
                None => polled = false,
            },
            "polling_interval" => group.polling_interval = interval(value, report),
            "input_registers" => tables[0] = Some(value),
            "holding_registers" => tables[1] = Some(value),
            "coils" => tables[2] = Some(value),
            "discrete_inputs" => tables[3] = Some(value),
            // Registers are read after the loop: a default may stand behind the list that it is for.
            "type" => defaults.kind = registers::kind(value, report),
            "order" => defaults.order = registers::order(value, report),
            "together" => match &*value.node {
                Node::Bool(together) => (group.together, whole) = (*together, Some(value)),
                _ => report.faults.push(value.unfit("true or false")),
            },
            "tags" => group.tags = naming::tags(value, report),
            "unavailable" => defaults.unavailable = registers::sentinels(value, report),
            _ => entry.report_unknown(&KEYS, report),
        }
    }
    // The original looks for the devices of what it reads only.
    let reads = tables.iter().any(Option::is_some);
    if !named && (reads || !report.lenient) {
        report.faults.push(cursor.diagnostic("ip_devices is missing; it lists the devices of this group"));
    }
    for (table, value) in Table::ALL.into_iter().zip(tables) {
        if let Some(value) = value {
            registers::read(table, value, &defaults, &mut group.registers, report);
        }
    }
    if !polled {
        group.registers.clear();
    }
    if let Some(cursor) = whole.filter(|_| group.together) {
        report.faults.extend(Table::ALL.into_iter().filter_map(|table| too_long(table, &group.registers, cursor)));
    }
    // After a fault it is no wonder, and the fault says why.
    if group.registers.is_empty() && report.faults.len() == faults_before {
        report.warnings.push(cursor.diagnostic("this group has nothing that can be read, so nothing of it is polled"));
    }
    Some(group)
}

/// What is read together must fit into one request.
fn too_long(table: Table, registers: &[Register<'_>], cursor: &Cursor<'_>) -> Option<Diagnostic> {
    let span = span(table, registers)?;
    // What the protocol allows; whether a device of the group allows less is judged when its settings are known.
    let most = RequestLimits::default().of(table);
    (span > most.into()).then(|| {
        cursor.diagnostic(format!(
            "found {table} that span {span} places and are to be read together; allowed are {most}, which is what one \
             request may ask for"
        ))
    })
}

/// How many places of `table` lie between the first and the last that is read for `registers`.
pub fn span(table: Table, registers: &[Register<'_>]) -> Option<u32> {
    let of_table = || registers.iter().filter(|register| register.reference.table() == table);
    let first = of_table().flat_map(|it| [Some(it.reference.address()), it.format.scale_address()]).flatten().min()?;
    let ends = |it: &Register<'_>| {
        let scale = it.format.scale_address().map_or(0, |address| u32::from(address) + 1);
        scale.max(u32::from(it.reference.address()) + u32::from(it.format.width()))
    };
    Some(of_table().map(ends).max()?.saturating_sub(u32::from(first)))
}

/// A fault for a device as other collectors have it, a mapping.
fn mapped(item: &Cursor<'_>, pairs: &[(Cursor<'_>, Cursor<'_>)]) -> Diagnostic {
    let of = |keys: &[&str]| {
        let is_one = |node: &Node| matches!(node, Node::Text(key) if keys.contains(&key.as_str()));
        pairs.iter().find(|(key, _)| is_one(&key.node)).map(|(_, value)| value.node.shown().replace('"', ""))
    };
    // The fault shows the text to write instead, made of what other collectors call its parts.
    let host = of(&["host", "hostname", "ip", "ip_address", "address", "ip_device", "name"]);
    let port = of(&["port"]).map_or_else(String::new, |port| format!(":{port}"));
    let host = host.unwrap_or_else(|| "name or address".to_owned());
    item.unfit(&format!("a text, \"{host}{port}\"; settings of a device stand in devices"))
}

/// It stands in many messages, so that it must not be a book.
fn name(value: &Cursor<'_>, report: &mut Report) -> String {
    match &*value.node {
        Node::Text(text) if text.len() > MAX_NAME_BYTES => {
            report.faults.push(value.unfit("a name of at most 4096 bytes"));
            String::new()
        }
        Node::Text(text) => text.trim().to_owned(),
        other => other.shown(),
    }
}

fn devices<'a>(value: &Cursor<'a>, devices: &mut Vec<(String, Address, Cursor<'a>)>, report: &mut Report) {
    let items = match (value.items(), &*value.node) {
        (Some(items), _) => items,
        (None, Node::Text(_)) => {
            report.warnings.push(value.diagnostic("found one text where a list belongs; it is taken as one device"));
            vec![value.clone()]
        }
        (None, Node::Mapping(_)) if report.lenient => {
            let fault = value.unfit("a list of devices (name, address, host:port)");
            report.unless_lenient(fault, "its keys are the devices");
            value.entries(report).unwrap_or_default().into_iter().map(|entry| entry.key_cursor).collect()
        }
        (None, _) => {
            report.faults.push(value.unfit("a list of devices (name, address, host:port)"));
            return;
        }
    };
    if items.is_empty() {
        report.unless_lenient(value.unfit("at least one device (name, address, host:port)"), "the group is left out");
    }
    for item in items {
        let Node::Text(text) = &*item.node else {
            if let Some(pairs) = item.pairs() {
                report.unless_lenient(mapped(&item, &pairs), "it is left out");
            } else {
                let found = item.node.shown();
                let message =
                    format!("found {found}, which is no text and is left out; put it in quotes if it is a device");
                report.warnings.push(item.diagnostic(message));
            }
            continue;
        };
        if text.len() > MAX_TEXT_BYTES {
            report.faults.push(item.unfit("name, address, host:port, of at most 512 bytes"));
            continue;
        }
        let text = text.trim().to_owned();
        match text.parse() {
            Ok(address) => devices.push((text, address, item)),
            Err(error) => {
                let found = item.node.shown();
                let fault = item.diagnostic(format!(
                    "found {found}, which is no device: {error}; allowed are name, address, host:port"
                ));
                report.unless_lenient(fault, "it is left out");
            }
        }
    }
}

const UNITS: &str = "a whole number from 0 to 255, or a list of such, [1, 2, 5-8], of which each is polled";

/// What `unit` says; `None` for numbers that no unit has.
fn units(value: &Cursor<'_>, report: &mut Report) -> Option<Vec<UnitId>> {
    let items = match value.items() {
        // One number goes by the original's rules; a text such as "5-8" it could not mean.
        None if !matches!(&*value.node, Node::Text(text) if range(text).is_some()) => {
            return Some(vec![unit(value, report)?]);
        }
        items => items.unwrap_or_else(|| vec![value.clone()]),
    };
    let mut units = Vec::new();
    for item in &items {
        let of_item = match &*item.node {
            Node::Integer(number) => u8::try_from(*number).ok().map(|unit| unit..=unit),
            Node::Text(text) => range(text),
            _ => None,
        };
        let Some(of_item) = of_item else {
            report.unless_lenient(item.unfit(UNITS), "the list counts as unit 0");
            return Some(vec![UnitId::default()]);
        };
        // Each once: [1-5, 3] would be the same points twice.
        units.extend(of_item.map(UnitId).filter(|unit| !units.contains(unit)).collect::<Vec<_>>());
    }
    if units.is_empty() {
        report.unless_lenient(value.unfit(UNITS), "it counts as unit 0");
        return Some(vec![UnitId::default()]);
    }
    if report.lenient {
        // That agent took whatever is no number for unit 0, which nobody who writes a list can have meant.
        let found = value.node.shown();
        let message = format!("found {found}, of which each unit is polled; the Python agent took it for unit 0");
        report.warnings.push(value.diagnostic(message));
    }
    Some(units)
}

/// Units such as `5-8` or `5..8`.
fn range(text: &str) -> Option<RangeInclusive<u8>> {
    let (first, last) = text.split_once("..").or_else(|| text.split_once('-'))?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some(first..=last)
}

/// One unit. The original takes 0 for whatever is no number; a quoted number is a slip that it hides. A group with a number
/// that is no unit it never polled.
fn unit(value: &Cursor<'_>, report: &mut Report) -> Option<UnitId> {
    let number = match &*value.node {
        Node::Null => return Some(UnitId::default()),
        Node::Integer(number) => *number,
        #[allow(
            clippy::cast_possible_truncation,
            reason = "towards zero, as Python's int() does; saturation is out of range too"
        )]
        Node::Float(number) if number.is_finite() && (report.lenient || number.fract() == 0.0) => *number as i128,
        Node::Text(text) if text.trim().parse::<i128>().is_ok() => {
            let found = value.node.shown();
            report.faults.push(value.diagnostic(format!(
                "found {found}, a text; allowed is a whole number from 0 to 255 (remove the quotes)"
            )));
            return None;
        }
        Node::Bool(_) | Node::Text(_) | Node::Float(_) => {
            report.unless_lenient(value.unfit(UNITS), "it counts as unit 0");
            return Some(UnitId::default());
        }
        _ => {
            report.faults.push(value.unfit(UNITS));
            return None;
        }
    };
    let unit = u8::try_from(number).ok().map(UnitId);
    if unit.is_none() {
        report.unless_lenient(value.unfit(UNITS), "the group is left out");
    }
    unit
}
