//! Whether what a group asks for is what the settings of its devices allow.
//!
//! One word for each group and kind of trouble, at its first entry, however many devices it has.

use std::collections::HashMap;

use super::configuration::Device;
use super::groups::{Group, span};
use super::registers::Register;
use super::yaml::cursor::Report;
use crate::modbus::register::{Table, UnitId};
use crate::modbus::settings::Transport;

/// Compares each of `groups` with its `devices`.
pub fn check(groups: &[Group<'_>], devices: &[Device], report: &mut Report) {
    // A search for each name of each group would be quadratic in devices.
    let by_name: HashMap<&str, &Device> =
        devices.iter().flat_map(|device| device.names.iter().map(move |name| (name.as_str(), device))).collect();
    for group in groups {
        let of_group: Vec<&Device> =
            group.devices.iter().filter_map(|(name, ..)| by_name.get(name.as_str()).copied()).collect();
        broadcast(group, &of_group, report);
        for table in Table::ALL {
            too_long(table, group, &of_group, report);
        }
    }
    // Over all groups at once: two units of a device may stand in two groups.
    any_unit(groups, &by_name, report);
}

/// On a line without transaction ids the unit is a part of how a reply is known: only where there is one device can it
/// be any.
fn any_unit(groups: &[Group<'_>], by_name: &HashMap<&str, &Device>, report: &mut Report) {
    let mut units: HashMap<&str, UnitId> = HashMap::new();
    for group in groups {
        for (name, _, cursor) in &group.devices {
            let device = by_name
                .get(&**name)
                .filter(|device| device.settings.ignore_unit_id && device.settings.transport == Transport::Rtu);
            let Some(device) = device else { continue };
            let Some(first) = group.units.first() else { continue };
            let unit = *units.entry(device.name()).or_insert(*first);
            if let Some(other) = group.units.iter().find(|it| **it != unit) {
                report.faults.push(cursor.diagnostic(format!(
                    "found unit {other} of {}, whose unit {unit} is polled too, with ignore_unit_id; allowed is one unit, \
                     because on a serial line nothing else tells the replies of two devices apart",
                    device.name()
                )));
            }
        }
    }
}

/// On a serial line unit 0 is for what concerns all devices, so that none of them answers.
fn broadcast(group: &Group<'_>, devices: &[&Device], report: &mut Report) {
    let device = devices.iter().find(|device| device.settings.transport == Transport::Rtu);
    if let (true, Some(device), Some(first)) = (group.units.contains(&UnitId(0)), device, group.registers.first()) {
        report.warnings.push(first.cursor.diagnostic(format!(
            "found unit 0 for {}, which on a serial line is nobody's and has no answer; give the group the unit of the \
             device",
            device.name()
        )));
    }
}

/// Whatever is never in two requests must fit into one.
fn too_long(table: Table, group: &Group<'_>, devices: &[&Device], report: &mut Report) {
    let limit = |device: &&&Device| device.settings.limits().of(table);
    // The device that takes the least: what fits there fits all of the group.
    let Some(device) = devices.iter().min_by_key(limit) else { return };
    let most = limit(&device);
    let mut of_table = group.registers.iter().filter(|register| register.reference.table() == table);
    let Some(first) = of_table.clone().next() else { return };
    let whole = if group.together { span(table, &group.registers) } else { None };
    let found = match (whole.filter(|span| *span > most.into()), of_table.find(|it| it.format.width() > most)) {
        (Some(span), _) => Some((first, format!("{table} that span {span} places and are to be read together"))),
        (None, Some(wide)) => Some((wide, format!("a value of {} registers", wide.format.width()))),
        (None, None) => None,
    };
    if let Some((Register { cursor, .. }, found)) = found {
        report
            .faults
            .push(cursor.diagnostic(format!("found {found}; allowed are {most} in one request to {}", device.name())));
    }
}
