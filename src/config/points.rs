//! Groups and devices → every point once, in the original's order, and the devices that they are read from.
//!
//! A point that is configured twice is polled once. It is a warning when both say the same or the original agent could
//! not have been told of it, else a fault. What is allowed and probably not meant is judged here too, because only here all of it
//! is known.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::agent::Agent;
use super::configuration::{Device, MAX_POINTS, Point};
use super::diagnostic::Diagnostic;
use super::groups::Group;
use super::naming::{self, Tags};
use super::provenance::Provenance;
use super::registers::Register;
use super::yaml::cursor::{Report, cut};
use super::{limits, lints, name_clashes};
use crate::modbus::endpoint::Endpoint;
use crate::modbus::format::{Format, Part};
use crate::modbus::register::{Reference, Table, UnitId};
use crate::modbus::settings::Settings;
use crate::reading::points;

/// A fault when there are more points than [`MAX_POINTS`].
pub fn too_many_points(agent: &Agent<'_>, file: &Path) -> Option<Diagnostic> {
    let of =
        |group: &Group<'_>| group.devices.len().saturating_mul(group.units.len()).saturating_mul(group.registers.len());
    let points = agent.groups.iter().map(of).fold(0, usize::saturating_add);
    let message = format!("found {points} points (devices times units times registers); allowed are {MAX_POINTS}");
    (points > MAX_POINTS).then(|| Diagnostic::of_file(file, message))
}

/// What identifies a series, but for what all series of an agent have in common.
type Identity<'g> = (&'g str, UnitId, Reference, Part, points::Kind);

/// Every point once, in the original's order: groups as in the file, input before holding registers, devices
/// as in the file, then by multiplier and number.
pub fn points<'g>(agent: &'g Agent<'_>, report: &mut Report) -> (Vec<Device>, Provenance, Vec<Point>) {
    // Before the points: the tags of a point are those of its device, too.
    let (mut devices, places) = devices(agent);
    let settings = agent.sections.settle(&mut devices, report);
    let mut known: HashMap<Identity<'g>, Seen<'_>> = HashMap::new();
    let mut points = Vec::new();
    let mut registers_of_points = Vec::new();
    for (number, group) in (0..).zip(&agent.groups) {
        // Of millions of points many share a name.
        let group_name: Arc<str> = group.name.as_str().into();
        let tags = naming::merged(&group.tags, agent.sections.default_tags());
        for table in Table::ALL {
            let registers = in_order(group, table);
            if registers.is_empty() {
                continue;
            }
            for (target, address, _) in &group.devices {
                let target_name: Arc<str> = target.as_str().into();
                // One connection for all spellings of an endpoint: many devices take only one.
                let Some(&device) = places.get(&agent.sections.endpoint(target, address)) else { continue };
                let tags = Arc::new(devices.get(device).map_or_else(Tags::new, |it| naming::merged(&it.tags, &tags)));
                let of_units =
                    group.units.iter().flat_map(|unit| registers.iter().map(move |register| (*unit, register)));
                for (unit, register) in of_units {
                    let (format, kind) = (&register.format, register.kind);
                    // By the spelling, not by the endpoint: at the server two spellings are two charts, as with the
                    // original.
                    let identity = (target.as_str(), unit, register.reference, format.part(), kind);
                    if let Some(first) = known.get(&identity) {
                        first.clash(group, register, report);
                        continue;
                    }
                    known.insert(identity, Seen { group: &group.name, register });
                    registers_of_points.push(*register);
                    // Its place here is its id, and that of its register in `registers_of_points`: nothing below may
                    // sort one of them.
                    points.push(Point {
                        device,
                        target: Arc::clone(&target_name),
                        group: Arc::clone(&group_name),
                        unit,
                        reference: register.reference,
                        format: format.clone(),
                        kind,
                        interval: group.polling_interval.unwrap_or(agent.polling_interval),
                        together: group.together.then_some(number),
                        naming: register.naming.clone(),
                        tags: Arc::clone(&tags),
                    });
                }
            }
        }
    }
    limits::check(&agent.groups, &devices, report);
    name_clashes::of_devices(&agent.sections, &devices, report);
    name_clashes::of_points(&points, &registers_of_points, &devices, report);
    lints::of_names(&agent.groups, &devices, report);
    lints::of_unit_0(&agent.groups, &points, &devices, report);
    lints::of_overlaps(&points, &registers_of_points, report);
    lints::of_scale_registers(&agent.groups, &devices, report);
    (devices, settings, points)
}

/// Every device that something is read from, in file order, and where each endpoint is among them.
fn devices(agent: &Agent<'_>) -> (Vec<Device>, HashMap<Endpoint, usize>) {
    let mut devices: Vec<Device> = Vec::new();
    let mut places: HashMap<Endpoint, usize> = HashMap::new();
    // A host can be spelled in thousands of ways.
    let mut named: HashSet<(usize, &str)> = HashSet::new();
    // A group that reads nothing must not open a connection to its devices.
    for group in agent.groups.iter().filter(|group| !group.registers.is_empty()) {
        for (target, address, _) in &group.devices {
            let endpoint = agent.sections.endpoint(target, address);
            let device = *places.entry(endpoint.clone()).or_insert_with(|| {
                devices.push(Device {
                    endpoint,
                    names: Vec::new(),
                    settings: Settings::default(),
                    label: None,
                    tags: Tags::new(),
                });
                devices.len() - 1
            });
            if named.insert((device, target.as_str())) {
                devices[device].names.push(target.clone());
            }
        }
    }
    (devices, places)
}

/// The registers of one table by multiplier and number: of a number that is there twice the smallest
/// multiplier comes first, and the first is the one that is polled.
fn in_order<'g, 'a>(group: &'g Group<'a>, table: Table) -> Vec<&'g Register<'a>> {
    let mut registers: Vec<_> = group.registers.iter().filter(|register| register.reference.table() == table).collect();
    let order = |register: &Register<'_>| (register.sorted_by, register.reference.number());
    // Stable: what has the same multiplier and number stays in the order of the file, whose first is polled.
    registers.sort_by(|a, b| {
        let ((a, a_number), (b, b_number)) = (order(a), order(b));
        a.total_cmp(&b).then(a_number.cmp(&b_number))
    });
    registers
}

/// The configured register that a point was first met in.
struct Seen<'g> {
    group: &'g str,
    register: &'g Register<'g>,
}

impl Seen<'_> {
    /// A point is posted once. Another configuration of it is worth a word unless it says the same, and a fault when
    /// the original agent could not have been told either.
    fn clash(&self, group: &Group<'_>, register: &Register<'_>, report: &mut Report) {
        let same = self.register.format == register.format
            && self.register.sorted_by.to_bits() == register.sorted_by.to_bits();
        let same_naming = self.register.naming == register.naming;
        // Within one group the original sends such a point once and says nothing.
        if self.group == group.name && same && same_naming {
            return;
        }
        if !same_naming {
            let place = self.register.cursor.place();
            report.faults.push(register.cursor.diagnostic(format!(
                "found the point at {place} again, with another name, unit of measurement, tag or text; allowed is one of the two"
            )));
            return;
        }
        let (place, other) = (self.register.cursor.place(), cut(self.group));
        // An old configuration may have it in two groups, where the original sent it twice: it has to go on working. A
        // format that is ours was written for this agent.
        let originals = [&self.register.format, &register.format].into_iter().all(|it| matches!(it, Format::Word(_)));
        if originals || same {
            report.warnings.push(register.cursor.diagnostic(format!(
                "found a register that is already read at {place} (group \"{other}\"); that one is posted, this one is left out"
            )));
        } else {
            report.faults.push(register.cursor.diagnostic(format!(
                "found a point that would be one chart with the one at {place} (group \"{other}\"), which is read otherwise; allowed is one of them"
            )));
        }
    }
}
