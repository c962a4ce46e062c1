//! `device_defaults` and `devices`: how devices are treated, all of them and each one.
//!
//! A value is taken from the device's own section, else from the defaults for all, else it is built in
//! ([`Settings::default`]); [`Origins`] remembers which. A device has one connection, however many spellings
//! lead to it, so that one section at most may be about it. A section that is about no device at all is a slip.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Device;
use super::agent::Group;
use super::fault::did_you_mean;
use super::node::Node;
use super::view::{Entry, Report, View};
use crate::modbus::settings::Settings;

pub mod table;

const KEYS: [&str; 9] = [
    "connect_timeout",
    "response_timeout",
    "pause_after_connect",
    "pause_between_requests",
    "close_after_poll",
    "max_registers",
    "max_bits",
    "max_gap",
    "retries",
];

/// Both sections as they are meant.
#[derive(Debug, Default)]
pub struct Sections<'a> {
    defaults: Layer,
    own: HashMap<String, Own<'a>>,
}

/// Settings, and the keys that a section gave for them.
#[derive(Debug, Clone, Default)]
struct Layer {
    settings: Settings,
    stated: Vec<&'static str>,
}

/// The section of one device.
#[derive(Debug)]
struct Own<'a> {
    layer: Layer,
    key: View<'a>,
}

/// Where the settings of the devices come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    /// What holds for a device without a section of its own.
    pub general: Settings,
    /// The keys in `device_defaults`.
    pub defaults: Vec<&'static str>,
    /// The keys in the section of a device, by its place in [`super::Config::devices`].
    pub devices: BTreeMap<usize, Vec<&'static str>>,
}

/// Reads the sections, as far as they are there, for the devices of `groups`. What is wrong is in the report.
pub fn read<'a>(
    [defaults, devices]: [Option<&View<'a>>; 2],
    groups: &[Group<'_>],
    report: &mut Report,
) -> Sections<'a> {
    let mut sections = Sections::default();
    if let Some(view) = defaults {
        sections.defaults.read(view, report);
    }
    for Entry { key, key_view, value } in devices.map_or_else(Vec::new, |view| entries(view, "devices", report)) {
        let mut layer = Layer { settings: sections.defaults.settings.clone(), stated: Vec::new() };
        layer.read(&value, report);
        sections.own.insert(key.trim().to_owned(), Own { layer, key: key_view });
    }
    let mut known: Vec<&str> = groups.iter().flat_map(|group| &group.devices).map(|(text, _)| &**text).collect();
    known.sort_unstable();
    known.dedup();
    for (name, own) in &sections.own {
        if known.binary_search(&&**name).is_err() {
            let hint = match did_you_mean(name, &known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "allowed are those of ip_devices, spelled alike".to_owned(),
            };
            report.faults.push(own.key.fault(format!("found a device that no polling group has; {hint}")));
        }
    }
    sections
}

/// The entries of a mapping that may be empty.
fn entries<'a>(view: &View<'a>, of: &str, report: &mut Report) -> Vec<Entry<'a>> {
    view.entries(report).unwrap_or_else(|| {
        // All its lines may be comments.
        if !matches!(*view.node, Node::Null) {
            report.faults.push(view.unfit(&format!("a mapping of {of}")));
        }
        Vec::new()
    })
}

impl Layer {
    fn read(&mut self, view: &View<'_>, report: &mut Report) {
        for entry in entries(view, "settings", report) {
            match KEYS.iter().find(|key| **key == entry.key) {
                Some(key) => {
                    set(&mut self.settings, key, &entry.value, report);
                    self.stated.push(key);
                }
                None => report.faults.push(entry.unknown(&KEYS)),
            }
        }
    }
}

fn set(settings: &mut Settings, key: &str, value: &View<'_>, report: &mut Report) {
    match key {
        "connect_timeout" => duration(&mut settings.connect_timeout, Settings::TIMEOUTS, value, report),
        "response_timeout" => duration(&mut settings.response_timeout, Settings::TIMEOUTS, value, report),
        "pause_after_connect" => duration(&mut settings.pause_after_connect, Settings::PAUSES, value, report),
        "pause_between_requests" => duration(&mut settings.pause_between_requests, Settings::PAUSES, value, report),
        "max_registers" => number(&mut settings.max_registers, Settings::REGISTERS, value, report),
        "max_bits" => number(&mut settings.max_bits, Settings::BITS, value, report),
        "max_gap" => number(&mut settings.max_gap, Settings::GAPS, value, report),
        "retries" => number(&mut settings.retries, Settings::RETRIES, value, report),
        _ => match &*value.node {
            Node::Bool(close) => settings.close_after_poll = *close,
            _ => report.faults.push(value.unfit("true or false")),
        },
    }
}

/// A bare number is seconds.
fn duration(of: &mut Duration, allowed: RangeInclusive<Duration>, value: &View<'_>, report: &mut Report) {
    let duration = match &*value.node {
        Node::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        Node::Float(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
        Node::Text(text) => humantime::parse_duration(text.trim()).ok(),
        _ => None,
    };
    let Some(duration) = duration.filter(|duration| allowed.contains(duration)) else {
        let [least, most] = [allowed.start(), allowed.end()].map(|bound| humantime::format_duration(*bound));
        report.faults.push(value.unfit(&format!("a duration such as 500ms, from {least} to {most}")));
        return;
    };
    *of = duration;
}

fn number(of: &mut u16, allowed: RangeInclusive<u16>, value: &View<'_>, report: &mut Report) {
    let number = match &*value.node {
        Node::Integer(number) => u16::try_from(*number).ok(),
        _ => None,
    };
    let Some(number) = number.filter(|number| allowed.contains(number)) else {
        let (least, most) = allowed.into_inner();
        report.faults.push(value.unfit(&format!("a whole number from {least} to {most}")));
        return;
    };
    *of = number;
}

impl Sections<'_> {
    /// Gives each device its settings.
    pub fn settle(&self, devices: &mut [Device], report: &mut Report) -> Origins {
        let Layer { settings: general, stated: defaults } = self.defaults.clone();
        let mut origins = Origins { general, defaults, devices: BTreeMap::new() };
        for (place, device) in devices.iter_mut().enumerate() {
            let mut sections = device.names.iter().filter_map(|name| self.own.get(name));
            let Some(own) = sections.next() else {
                device.settings = origins.general.clone();
                continue;
            };
            for other in sections {
                let message = format!(
                    "found a second section for {}, which is the device of the one at {}; allowed is one",
                    device.endpoint,
                    own.key.place()
                );
                report.faults.push(other.key.fault(message));
            }
            device.settings = own.layer.settings.clone();
            origins.devices.insert(place, own.layer.stated.clone());
        }
        origins
    }
}

#[cfg(test)]
mod tests;
