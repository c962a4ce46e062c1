//! Every setting, its value and where it comes from, as a table for people. Pure.
//!
//! First what holds for all devices, then of each device only what is its own: in a plant of hundreds, those
//! few lines are what one looks for.

use std::fmt::Write as _;

use super::KEYS;
use crate::config::Config;
use crate::modbus::settings::Settings;
use crate::phrase::count;

/// Where a value comes from, as it is called in the file.
const BUILT_IN: &str = "built in";
const DEFAULTS: &str = "device_defaults";
const OWN: &str = "devices";

type Row = [String; 4];

/// The settings of `config`.
#[must_use]
pub fn settings(config: &Config) -> String {
    let origins = &config.settings;
    let general = KEYS.map(|key| {
        let from = if origins.defaults.contains(&key) { DEFAULTS } else { BUILT_IN };
        ["(all devices)", key, &value(&origins.general, key), from].map(str::to_owned)
    });
    let own = origins.devices.iter().filter_map(|(place, keys)| Some((config.devices.get(*place)?, keys)));
    let own = own.flat_map(|(device, keys)| {
        keys.iter().map(|key| [device.name(), key, &value(&device.settings, key), OWN].map(str::to_owned))
    });
    let mut rows: Vec<Row> = vec![["device", "setting", "value", "from"].map(str::to_owned)];
    rows.extend(general.into_iter().chain(own));
    let mut text = String::new();
    lay_out(&mut text, &rows);
    let (all, own) = (count(config.devices.len(), "device"), origins.devices.len());
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n{all}; with settings of their own: {own}.");
    text
}

/// The value of `key` as it is written in the file.
fn value(settings: &Settings, key: &str) -> String {
    let duration = |duration| humantime::format_duration(duration).to_string();
    match key {
        "connect_timeout" => duration(settings.connect_timeout),
        "response_timeout" => duration(settings.response_timeout),
        "pause_after_connect" => duration(settings.pause_after_connect),
        "pause_between_requests" => duration(settings.pause_between_requests),
        "close_after_poll" => settings.close_after_poll.to_string(),
        "max_registers" => settings.max_registers.to_string(),
        "max_bits" => settings.max_bits.to_string(),
        "max_gap" => settings.max_gap.to_string(),
        _ => settings.retries.to_string(),
    }
}

fn lay_out(text: &mut String, rows: &[Row]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2].map(width);
    for [device, setting, value, from] in rows {
        let [a, b, c] = widths;
        let _ = writeln!(text, "{device:<a$}  {setting:<b$}  {value:<c$}  {from}");
    }
}
