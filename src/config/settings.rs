//! `device_defaults` and `devices`: how devices are treated, all of them and each one.
//!
//! A value is taken from the device's own section, else from the defaults for all, else it is built in
//! ([`Settings::default`]); [`Provenance`] remembers which. A device has one connection, however many spellings
//! lead to it, so that one section at most may be about it. A section that is about no device at all is a slip.

use std::collections::{BTreeMap, HashMap};

use super::configuration::Device;
use super::groups::Group;
use super::naming::{self, Tags};
use super::provenance::{Provenance, Stated};
use super::tls::{CredentialCache, TlsSection};
use super::value::{duration, flag, number};
use super::yaml::cursor::{Cursor, Entry, Report};
use super::yaml::node::Node;
use crate::modbus::endpoint::{Address, DEFAULT_PORT, Endpoint, SECURE_PORT};
use crate::modbus::settings::{Parity, Settings, Transport};

pub mod table;

/// Keys that describe a device, and say nothing of how it is polled.
const DESCRIPTIONS: [&str; 2] = ["name", "tags"];

/// All keys of a device.
pub const KEYS: [&str; 19] = [
    "transport",
    "connect_timeout",
    "response_timeout",
    "pause_after_connect",
    "pause_between_requests",
    "close_after_poll",
    "ignore_transaction_id",
    "ignore_unit_id",
    "max_registers",
    "max_bits",
    "max_gap",
    "retries",
    "max_backoff",
    "baud",
    "parity",
    "stop_bits",
    "tls",
    "name",
    "tags",
];

/// Both sections as they are meant.
#[derive(Debug, Default)]
pub struct Sections<'a> {
    defaults: Layer<'a>,
    own: HashMap<String, Own<'a>>,
}

/// Settings, and what a section said of them.
#[derive(Debug, Clone, Default)]
struct Layer<'a> {
    /// All but the credentials.
    settings: Settings,
    /// Whether connections are to be secure; with `tls`.
    secure: bool,
    /// Where it is said how requests travel.
    transport_at: Option<Cursor<'a>>,
    tls: TlsSection<'a>,
    /// The name of the device, and where it is.
    name: Option<(String, Cursor<'a>)>,
    tags: Tags,
    stated: Vec<Stated>,
}

/// The section of one device.
#[derive(Debug)]
struct Own<'a> {
    layer: Layer<'a>,
    key: Cursor<'a>,
}

/// Reads the sections, as far as they are there, for the devices of `groups`. What is wrong is in the report.
pub fn read<'a>(
    [defaults, devices]: [Option<&Cursor<'a>>; 2],
    groups: &[Group<'_>],
    report: &mut Report,
) -> Sections<'a> {
    let mut sections = Sections::default();
    if let Some(cursor) = defaults {
        sections.defaults.read(cursor, report);
        if let Some((_, place)) = sections.defaults.name.take() {
            report
                .faults
                .push(place.diagnostic("found one name for all devices; allowed is a name of each in devices"));
        }
    }
    for Entry { key, key_cursor, value } in devices.map_or_else(Vec::new, |cursor| cursor.entries_of("devices", report))
    {
        // Tags of the defaults rank behind those of groups.
        let mut layer = Layer { stated: Vec::new(), tags: Tags::new(), ..sections.defaults.clone() };
        layer.read(&value, report);
        sections.own.insert(key.trim().to_owned(), Own { layer, key: key_cursor });
    }
    let mut known: Vec<&str> = groups.iter().flat_map(|group| &group.devices).map(|(text, ..)| &**text).collect();
    // Sorted for the search: a plant may have ten thousand devices, each in several groups.
    known.sort_unstable();
    known.dedup();
    for (name, own) in &sections.own {
        if known.binary_search(&&**name).is_err() {
            let hint = match own.key.meant(name, &known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "allowed are those of ip_devices, spelled alike".to_owned(),
            };
            report.faults.push(own.key.diagnostic(format!("found a device that no polling group has; {hint}")));
        }
    }
    sections
}

impl<'a> Layer<'a> {
    fn read(&mut self, cursor: &Cursor<'a>, report: &mut Report) {
        for entry in cursor.entries_of("settings", report) {
            match KEYS.iter().find(|key| **key == entry.key) {
                Some(&"transport") => self.transport(&entry.value, report),
                Some(&"tls") => {
                    let stated = self.tls.read(&entry.value, report);
                    self.stated.extend(stated);
                }
                Some(&"name") => {
                    self.name = naming::name(&entry.value, report).map(|name| (name, entry.value));
                    self.stated.extend(self.name.iter().map(|(name, _)| ("name", name.clone())));
                }
                Some(&"tags") => {
                    self.tags = naming::tags(&entry.value, report);
                    self.stated.push(("tags", naming::listed(&self.tags)));
                }
                Some(key) => {
                    set(&mut self.settings, key, &entry.value, report);
                    self.stated.push((key, table::value(&self.settings, key)));
                }
                None => report.faults.push(entry.unknown(&KEYS)),
            }
        }
    }

    fn transport(&mut self, value: &Cursor<'a>, report: &mut Report) {
        let text = match &*value.node {
            Node::Text(text) => text.trim(),
            _ => "",
        };
        (self.settings.transport, self.secure) = match text {
            "tcp" => (Transport::Tcp, false),
            "rtu" => (Transport::Rtu, false),
            // Until the credentials are read.
            "tls" => (Transport::Tcp, true),
            _ => return report.faults.push(value.unfit("tcp, rtu (RTU over TCP) or tls (Modbus/TCP Security)")),
        };
        self.transport_at = Some(value.clone());
        self.stated.push(("transport", text.to_owned()));
    }

    fn port(&self) -> u16 {
        if self.secure { SECURE_PORT } else { DEFAULT_PORT }
    }

    /// The settings of the device at `endpoint`.
    fn settled(&self, endpoint: &Endpoint, cache: &mut CredentialCache, report: &mut Report) -> Settings {
        let mut tls = |host: &str| {
            let place = self.transport_at.as_ref().filter(|_| self.secure)?;
            cache.tls(&self.tls, host, place, report)
        };
        let transport = match endpoint {
            // Whatever the defaults say.
            Endpoint::Serial { .. } => Transport::Rtu,
            Endpoint::Tcp { host, .. } => tls(host).map_or_else(|| self.settings.transport.clone(), Transport::Tls),
        };
        Settings { transport, ..self.settings.clone() }
    }
}

fn set(settings: &mut Settings, key: &str, value: &Cursor<'_>, report: &mut Report) {
    match key {
        "connect_timeout" => duration(&mut settings.connect_timeout, Settings::TIMEOUTS, value, report),
        "response_timeout" => duration(&mut settings.response_timeout, Settings::TIMEOUTS, value, report),
        "pause_after_connect" => duration(&mut settings.pause_after_connect, Settings::PAUSES, value, report),
        "pause_between_requests" => duration(&mut settings.pause_between_requests, Settings::PAUSES, value, report),
        "max_registers" => number(&mut settings.max_registers, Settings::REGISTERS, value, report),
        "max_bits" => number(&mut settings.max_bits, Settings::BITS, value, report),
        "max_gap" => number(&mut settings.max_gap, Settings::GAPS, value, report),
        "max_backoff" => duration(&mut settings.max_backoff, Settings::BACKOFFS, value, report),
        "retries" => number(&mut settings.retries, Settings::RETRIES, value, report),
        "baud" => number(&mut settings.baud, Settings::BAUDS, value, report),
        "stop_bits" => number(&mut settings.stop_bits, Settings::STOP_BITS, value, report),
        "parity" => match &*value.node {
            Node::Text(text) if text == "none" => settings.parity = Parity::None,
            Node::Text(text) if text == "even" => settings.parity = Parity::Even,
            Node::Text(text) if text == "odd" => settings.parity = Parity::Odd,
            _ => report.faults.push(value.unfit("none, even or odd")),
        },
        "ignore_transaction_id" => flag(&mut settings.ignore_transaction_id, value, report),
        "ignore_unit_id" => flag(&mut settings.ignore_unit_id, value, report),
        _ => flag(&mut settings.close_after_poll, value, report),
    }
}

impl<'a> Own<'a> {
    /// Where this section itself, not the defaults, says how requests travel.
    fn transport_at(&self) -> Option<&Cursor<'a>> {
        let stated = self.layer.stated.iter().any(|(key, _)| *key == "transport");
        self.layer.transport_at.as_ref().filter(|_| stated)
    }
}

impl Sections<'_> {
    /// What the device `name` means, whose text is `address`: the port may depend on how the device is talked to.
    #[must_use]
    pub fn endpoint(&self, name: &str, address: &Address) -> Endpoint {
        // Modbus/TCP Security has a port of its own (802), which an address without a port means as soon as it is
        // secure.
        address.endpoint(self.own.get(name).map_or(&self.defaults, |own| &own.layer).port())
    }

    /// The tags of all devices.
    #[must_use]
    pub fn default_tags(&self) -> &Tags {
        &self.defaults.tags
    }

    /// Where the device is named.
    #[must_use]
    pub fn named_at(&self, device: &Device) -> Option<&Cursor<'_>> {
        let mut own = device.names.iter().filter_map(|name| self.own.get(name));
        own.find_map(|own| own.layer.name.as_ref()).map(|(_, place)| place)
    }

    /// Gives each device its settings, its name and its tags.
    pub fn settle(&self, devices: &mut [Device], report: &mut Report) -> Provenance {
        let mut provenance = Provenance { defaults: self.defaults.stated.clone(), devices: BTreeMap::new() };
        let mut cache = CredentialCache::default();
        for device in devices {
            let mut sections = device.names.iter().filter_map(|name| self.own.get(name));
            // The first spelling that has a section decides; a second section is a fault below.
            let own = sections.next();
            for (other, own) in sections.filter_map(|other| Some((other, own?))) {
                let message = format!(
                    "found a second section for {}, which is the device of the one at {}; allowed is one",
                    device.endpoint,
                    own.key.place()
                );
                report.faults.push(other.key.diagnostic(message));
            }
            // Only what its own section says: a transport in the defaults is meant for the devices on the network.
            if let (Endpoint::Serial { .. }, Some(place)) = (&device.endpoint, own.and_then(Own::transport_at)) {
                let message = "found a transport for a serial port, where only RTU is spoken; leave it out";
                report.faults.push(place.diagnostic(message));
            }
            let layer = own.map_or(&self.defaults, |own| &own.layer);
            device.settings = layer.settled(&device.endpoint, &mut cache, report);
            if let Some(own) = own {
                device.label = own.layer.name.as_ref().map(|(name, _)| name.clone());
                device.tags.clone_from(&own.layer.tags);
                provenance.devices.insert(device.endpoint.clone(), own.layer.stated.clone());
            }
        }
        provenance
    }
}

#[cfg(test)]
mod tests;
