//! One configuration → what every point is, for whoever stores or delivers its readings. Pure.

use super::configuration::Config;
use super::naming::Naming;
use crate::reading::millis;
use crate::reading::points::{self, PointTable};

/// The point table of no agent: for commands that poll without an agent id, and to see whether outputs can tell points apart.
#[must_use]
pub fn nameless(config: &Config) -> PointTable {
    of(config, points::Builder::new("", "", config.polling_interval))
}

/// What every point is, in the order of the configuration: `table`, filled.
#[must_use]
pub fn of(config: &Config, mut table: points::Builder) -> PointTable {
    let mut device: Option<points::Device> = None;
    for point in &config.points {
        let unit = point.unit.0;
        let interval_ms = millis(point.interval);
        let same = device.as_ref().is_some_and(|device| {
            (&*device.device, device.unit, &*device.group, device.interval_ms, &device.tags)
                == (&*point.target, unit, &*point.group, interval_ms, &*point.tags)
        });
        // Points of a device stand together, so that one row of it is made for many of a million points.
        if !same {
            let name = config.devices.get(point.device).and_then(|device| device.label.clone());
            let tags = Vec::clone(&point.tags);
            let new = points::Device::new(&point.target, unit, &point.group, interval_ms);
            device = Some(points::Device { name, tags, ..new });
        }
        let reference = point.reference;
        let table_name = reference.table().key_prefix();
        let Naming { name, metadata } = &point.naming;
        let register = points::Register {
            name: name.as_deref().map(str::to_owned),
            unit_of_measurement: metadata.unit_of_measurement.clone(),
            tags: metadata.tags.clone(),
            values: metadata.values.clone(),
            ..points::Register::new(&point.key(), table_name, reference.number(), point.kind)
        };
        if let Some(device) = &device {
            table.push(device, &register);
        }
    }
    table.build()
}
