//! One name for two: devices, or points of one device and unit.
//!
//! An output that knows points by their names would mix the two. A point without a name goes by its key, a device by its
//! spelling in `ip_devices`, so that neither may be the name of another. Once told for each register and device.

use std::collections::{HashMap, HashSet};
use std::ptr;

use super::configuration::{Device, Point};
use super::registers::Register;
use super::settings::Sections;
use super::yaml::cursor::{Cursor, Report, cut};
use crate::modbus::register::UnitId;

/// Devices of one name.
pub fn of_devices(sections: &Sections<'_>, devices: &[Device], report: &mut Report) {
    let spelled = devices.iter().flat_map(|device| device.names.iter().map(move |name| (&**name, device)));
    // A spelling belongs to one device: two devices with one are the same endpoint, and that is one device.
    let spelled: HashMap<&str, &Device> = spelled.collect();
    let mut named: HashMap<&str, &Device> = HashMap::new();
    for device in devices {
        let (Some(name), Some(place)) = (&device.label, sections.named_at(device)) else { continue };
        if let Some(first) = named.insert(name, device) {
            let first = sections.named_at(first).map_or_else(String::new, Cursor::place);
            report.faults.push(place.diagnostic(format!(
                "found the name {:?}, which the device at {first} has too; allowed is a name of its own for each",
                cut(name)
            )));
        } else if spelled.get(&**name).is_some_and(|other| !ptr::eq(*other, device)) {
            let message = format!("found the name {:?}, which is another device in ip_devices", cut(name));
            report.faults.push(place.diagnostic(format!("{message}; allowed is a name of its own for each")));
        }
    }
}

/// Points of one device and unit with one name; `registers` has the one of each of `points`.
pub fn of_points(points: &[Point], registers: &[&Register<'_>], devices: &[Device], report: &mut Report) {
    let owner = |point: &Point| devices.get(point.device).and_then(|device| device.label.as_deref());
    let mut named: HashMap<(&str, UnitId, &str), &Register<'_>> = HashMap::new();
    let mut told = HashSet::new();
    let mut clash = |first: &Register<'_>, second: &Register<'_>, point: &Point, name: &str| {
        // By where it lies in memory: one register of a group is a point of each of its devices and units.
        if told.insert(ptr::from_ref(second).cast::<()>()) {
            let place = second.named_at.as_ref().unwrap_or(&second.cursor);
            let first = first.named_at.as_ref().unwrap_or(&first.cursor);
            report.faults.push(place.diagnostic(format!(
                "found a second point of {} unit {} with the name {:?}, the first is at {}; allowed is one",
                cut(&point.target),
                point.unit,
                cut(name),
                first.place()
            )));
        }
    };
    let both = || points.iter().zip(registers.iter().copied());
    for (point, register) in both() {
        // Names first, all of them: a key may be the name of a point that comes later.
        let Some(name) = point.naming.name.as_deref() else { continue };
        // As outputs know it: by its name, under which two spellings of a device are one.
        let device = owner(point).unwrap_or(&point.target);
        if let Some(first) = named.insert((device, point.unit, name), register) {
            clash(first, register, point, name);
        }
    }
    // Where nothing is named no key can be taken for a name, and a million of them need not be made.
    if named.is_empty() {
        return;
    }
    for (point, register) in both().filter(|(point, _)| point.naming.name.is_none()) {
        let key = point.key();
        let device = owner(point).unwrap_or(&point.target);
        if let Some(first) = named.get(&(device, point.unit, key.as_str())) {
            clash(register, first, point, &key);
        }
    }
}
