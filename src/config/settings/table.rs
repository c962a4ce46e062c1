//! Every setting, its value and where it comes from, as a table for people. Pure.
//!
//! First what holds for all devices, then of each device only what is its own: in a plant of hundreds, those
//! few lines are what one looks for.

use std::fmt::Write as _;

use super::{DESCRIPTIONS, KEYS};
use crate::config::Config;
use crate::config::provenance::Provenance;
use crate::modbus::settings::{Parity, Settings, Transport};
use crate::text::count;
use crate::text::table::TextTable;

/// Where a value comes from, as it is called in the file.
const BUILT_IN: &str = "built in";
const DEFAULTS: &str = "device_defaults";
const OWN: &str = "devices";

/// In the place of a device, what holds for those without a section of their own.
const ALL: &str = "(all devices)";

/// The settings of `config`.
#[must_use]
pub fn settings(config: &Config, width: usize) -> String {
    let Provenance { defaults, devices } = &config.settings;
    let row = |device: &str, key: &str, value: &str, from: &str| [device, key, value, from].map(str::to_owned);
    let mut table = TextTable::new(&["device", "setting", "value", "from"]);
    let said = |key: &str| defaults.iter().find(|(stated, _)| *stated == key);
    // Neither `tls` nor a description has a default.
    for key in KEYS.into_iter().filter(|key| *key != "tls" && !DESCRIPTIONS.contains(key)) {
        table.push(match said(key) {
            Some((_, value)) => row(ALL, key, value, DEFAULTS),
            None => row(ALL, key, &value(&Settings::default(), key), BUILT_IN),
        });
    }
    for (key, value) in defaults.iter().filter(|(key, _)| key.starts_with("tls.") || DESCRIPTIONS.contains(key)) {
        table.push(row(ALL, key, value, DEFAULTS));
    }
    let own = config.devices.iter().filter_map(|device| Some((device.name(), devices.get(&device.endpoint)?)));
    for (name, stated) in own.clone() {
        for (key, value) in stated {
            table.push(row(name, key, value, OWN));
        }
    }
    let mut text = table.within(width);
    let (all, own) = (count(config.devices.len(), "device"), own.count());
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n{all}; with settings of their own: {own}.");
    text
}

/// The value of `key` as it is written in the file.
pub(super) fn value(settings: &Settings, key: &str) -> String {
    let duration = |duration| humantime::format_duration(duration).to_string();
    match key {
        "transport" => match settings.transport {
            Transport::Tcp => "tcp".to_owned(),
            Transport::Rtu => "rtu".to_owned(),
            Transport::Tls(_) => "tls".to_owned(),
        },
        "connect_timeout" => duration(settings.connect_timeout),
        "response_timeout" => duration(settings.response_timeout),
        "pause_after_connect" => duration(settings.pause_after_connect),
        "pause_between_requests" => duration(settings.pause_between_requests),
        "close_after_poll" => settings.close_after_poll.to_string(),
        "ignore_transaction_id" => settings.ignore_transaction_id.to_string(),
        "ignore_unit_id" => settings.ignore_unit_id.to_string(),
        "max_registers" => settings.max_registers.to_string(),
        "max_bits" => settings.max_bits.to_string(),
        "max_gap" => settings.max_gap.to_string(),
        "max_backoff" => duration(settings.max_backoff),
        "retries" => settings.retries.to_string(),
        "baud" => settings.baud.to_string(),
        "parity" => match settings.parity {
            Parity::None => "none".to_owned(),
            Parity::Even => "even".to_owned(),
            Parity::Odd => "odd".to_owned(),
        },
        _ => settings.stop_bits.to_string(),
    }
}
