//! What is allowed and probably not meant: one device under two names, unit 0 beside other units, values that share
//! registers. Nothing of it hinders a start.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::iter;
use std::path::{Path, PathBuf};
use std::ptr;

use super::agent::Group;
use super::registers::Register;
use super::view::Report;
use super::{AGENT_FILE, Device, Fault, Point, SHARED_AGENT_FILE, SHARED_FILE};
use crate::files::trust;
use crate::modbus::register::UnitId;

/// Whoever may write to the files, or put others in their place, decides what is polled and where it goes.
pub fn of_owners(directory: &Path) -> Vec<Fault> {
    let files = [SHARED_FILE, SHARED_AGENT_FILE, AGENT_FILE].map(|name| directory.join(name));
    let doubt = |path: &Path| {
        let doubt = std::fs::metadata(path).ok().as_ref().and_then(trust::doubt)?;
        Some(Fault::of_file(path, doubt))
    };
    iter::once(directory).chain(files.iter().map(PathBuf::as_path)).filter_map(doubt).collect()
}

/// A device that is spelled in two ways is one connection, but its charts are those of two devices.
pub fn of_names(groups: &[Group<'_>], devices: &[Device], report: &mut Report) {
    let mut others: BTreeMap<&str, &Device> =
        devices.iter().flat_map(|device| device.names.iter().skip(1).map(move |name| (&**name, device))).collect();
    for (name, _, view) in groups.iter().flat_map(|group| &group.devices) {
        if let Some(device) = others.remove(&**name) {
            report.warnings.push(view.fault(format!(
                "found {name:?}, which is the device {:?} under another name; the two are polled over one connection and \
                 charted as two devices, so spell it in one way unless that is meant",
                device.name()
            )));
        }
    }
}

/// A gateway takes unit 0 for a broadcast, which is not answered.
pub fn of_unit_0(groups: &[Group<'_>], points: &[Point], devices: &[Device], report: &mut Report) {
    let mut units: BTreeMap<usize, BTreeSet<UnitId>> = BTreeMap::new();
    for point in points {
        units.entry(point.device).or_default().insert(point.unit);
    }
    let gateways: BTreeMap<&str, UnitId> = units
        .iter()
        .filter(|(_, units)| units.contains(&UnitId(0)))
        .filter_map(|(&device, units)| Some((devices.get(device)?, *units.range(UnitId(1)..).next()?)))
        .flat_map(|(device, other)| device.names.iter().map(move |name| (&**name, other)))
        .collect();
    for group in groups.iter().filter(|group| group.unit == UnitId(0)) {
        let gateway = group.devices.iter().find_map(|(name, _, view)| Some((name, view, gateways.get(&**name)?)));
        if let Some((name, view, other)) = gateway {
            report.warnings.push(view.fault(format!(
                "found {name:?} with unit 0 in group {:?}, and with unit {other} in another one; a gateway sends what is \
                 for unit 0 to all of its units and none of them answers, so give this group the unit of its device",
                group.name
            )));
        }
    }
}

/// Two values that share a register in part cannot both be what the device means by it.
pub fn of_overlaps(points: &[Point], registers: &[&Register<'_>], report: &mut Report) {
    let place = |point: &Point| (point.device, point.unit, point.reference.table(), point.reference.address());
    let mut sorted: Vec<(&Point, &Register<'_>)> = points.iter().zip(registers.iter().copied()).collect();
    sorted.sort_by_key(|(point, _)| place(point));
    let mut told = HashSet::new();
    // The one that reaches furthest of those before.
    let mut before: Option<(&Point, &Register<'_>)> = None;
    let end = |point: &Point| u32::from(point.reference.address()) + u32::from(point.format.width());
    for (point, register) in sorted {
        let same_table = |other: &Point| {
            (other.device, other.unit, other.reference.table()) == (point.device, point.unit, point.reference.table())
        };
        match before {
            Some((other, other_register)) if same_table(other) && end(other) > point.reference.address().into() => {
                let same_place = place(other) == place(point) && end(other) == end(point);
                // One device under two names is another matter, and so are many devices of one group.
                if !same_place && other.target == point.target && told.insert(ptr::from_ref(register)) {
                    report.warnings.push(register.view.fault(format!(
                        "found {} ({}), which shares registers with {} ({}) at {}; one of the two is probably off by one \
                         or of another type",
                        point.key(),
                        point.format,
                        other.key(),
                        other.format,
                        other_register.view.place()
                    )));
                }
                if end(point) > end(other) {
                    before = Some((point, register));
                }
            }
            _ => before = Some((point, register)),
        }
    }
}
