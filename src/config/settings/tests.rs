//! What sections mean, and what is said of those that mean nothing.

use std::fs;

use super::*;
use crate::config::{Config, load_for};

const SHARED: &str = "pattoo: {log_directory: /l, cache_directory: /c, daemon_directory: /d}\n";

/// Two devices, one of them under two spellings.
const GROUPS: &str = "\
polling_groups:
  - {ip_devices: [meter, '10.0.0.7:502'], input_registers: [30001]}
  - {ip_devices: [Meter], holding_registers: [40001]}
";

fn load(sections: &str) -> Result<Config, Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pattoo.yaml"), SHARED).unwrap();
    fs::write(directory.path().join("pattoo_agent_modbustcpd.yaml"), format!("{sections}{GROUPS}")).unwrap();
    let told = |fault: &crate::config::Fault| fault.to_string().rsplit('/').next().unwrap().to_owned();
    load_for(directory.path(), None)
        .map(|loaded| loaded.config)
        .map_err(|error| error.faults.iter().map(|fault| told(fault).split_once(':').unwrap().1.to_owned()).collect())
}

fn settings(sections: &str) -> [Settings; 2] {
    let config = load(sections).unwrap();
    assert_eq!(config.devices.len(), 2);
    [0, 1].map(|place| config.devices[place].settings.clone())
}

#[test]
fn without_a_word_everything_is_as_it_always_was() {
    let built_in = Settings {
        connect_timeout: Duration::from_secs(3),
        response_timeout: Duration::from_secs(3),
        pause_after_connect: Duration::ZERO,
        pause_between_requests: Duration::ZERO,
        close_after_poll: false,
        max_registers: 125,
        max_bits: 2_000,
        max_gap: 0,
        retries: 1,
    };
    for nothing in ["", "device_defaults:\ndevices:\n", "devices: {meter: }\n"] {
        assert_eq!(settings(nothing), [built_in.clone(), built_in.clone()], "{nothing}");
    }
}

#[test]
fn each_key_is_read_from_both_sections_and_the_device_wins_over_the_defaults() {
    type Key = (&'static str, &'static str, fn(&mut Settings), &'static str, fn(&mut Settings));
    let cases: [Key; 9] = [
        (
            "connect_timeout",
            "1",
            |s| s.connect_timeout = Duration::from_secs(1),
            "250ms",
            |s| {
                s.connect_timeout = Duration::from_millis(250);
            },
        ),
        (
            "response_timeout",
            "1.5",
            |s| s.response_timeout = Duration::from_millis(1_500),
            "1m",
            |s| {
                s.response_timeout = Duration::from_secs(60);
            },
        ),
        (
            "pause_after_connect",
            "100ms",
            |s| s.pause_after_connect = Duration::from_millis(100),
            "2s",
            |s| {
                s.pause_after_connect = Duration::from_secs(2);
            },
        ),
        (
            "pause_between_requests",
            "20ms",
            |s| s.pause_between_requests = Duration::from_millis(20),
            "0",
            |s| {
                s.pause_between_requests = Duration::ZERO;
            },
        ),
        ("close_after_poll", "true", |s| s.close_after_poll = true, "no", |s| s.close_after_poll = false),
        ("max_registers", "100", |s| s.max_registers = 100, "1", |s| s.max_registers = 1),
        ("max_bits", "1000", |s| s.max_bits = 1_000, "16", |s| s.max_bits = 16),
        ("max_gap", "10", |s| s.max_gap = 10, "123", |s| s.max_gap = 123),
        ("retries", "0", |s| s.retries = 0, "10", |s| s.retries = 10),
    ];
    assert_eq!(cases.map(|(key, ..)| key), KEYS, "every key");
    for (key, general, of_all, special, of_one) in cases {
        let [mut all, mut one] = [Settings::default(), Settings::default()];
        of_all(&mut all);
        of_all(&mut one);
        of_one(&mut one);
        let defaults = format!("device_defaults: {{{key}: {general}}}\n");
        let own = format!("devices: {{meter: {{{key}: {special}}}}}\n");
        assert_eq!(settings(&defaults), [all.clone(), all.clone()], "{key}");
        // The order of the sections in the file is of no account.
        assert_eq!(settings(&format!("{own}{defaults}")), [one, all], "{key}");
    }
}

#[test]
fn whichever_spelling_of_a_device_has_the_section_the_device_is_treated_so() {
    for spelling in ["meter", "Meter", "' Meter '"] {
        let [meter, other] = settings(&format!("devices: {{{spelling}: {{max_gap: 4}}}}\n"));
        assert_eq!((meter.max_gap, other.max_gap), (4, 0), "{spelling}");
    }
}

#[test]
fn what_cannot_be_meant_is_told_with_its_place_and_what_is_allowed() {
    let cases = [
        ("device_defaults: 3s\n", "1:18: device_defaults: found \"3s\"; allowed is a mapping of settings"),
        ("devices: [meter]\n", "1:10: devices: found a list; allowed is a mapping of devices"),
        ("devices: {meter: 3}\n", "1:18: devices.meter: found 3; allowed is a mapping of settings"),
        (
            "device_defaults: {respons_timeout: 3s}\n",
            "1:19: device_defaults.respons_timeout: found an unknown key; did you mean \"response_timeout\"?",
        ),
        (
            "devices: {metre: {max_gap: 3}}\n",
            "1:11: devices.metre: found a device that no polling group has; did you mean \"meter\"?",
        ),
        (
            "devices: {10.0.0.7: {max_gap: 3}}\n",
            "1:11: devices.10.0.0.7: found a device that no polling group has; did you mean \"10.0.0.7:502\"?",
        ),
        (
            "devices: {boiler: {max_gap: 3}}\n",
            "1:11: devices.boiler: found a device that no polling group has; allowed are those of ip_devices, \
             spelled alike",
        ),
        (
            "devices: {meter: {max_gap: 3}, Meter: {max_gap: 3}}\n",
            "1:32: devices.Meter: found a second section for meter:502, which is the device of the one at 1:11; \
             allowed is one",
        ),
        (
            "device_defaults: {connect_timeout: 0}\n",
            "1:36: device_defaults.connect_timeout: found 0; allowed is a duration such as 500ms, from 10ms to 1m",
        ),
        (
            "device_defaults: {response_timeout: 61s}\n",
            "1:37: device_defaults.response_timeout: found \"61s\"; allowed is a duration such as 500ms, from 10ms to \
             1m",
        ),
        (
            "device_defaults: {pause_after_connect: -1}\n",
            "1:40: device_defaults.pause_after_connect: found -1; allowed is a duration such as 500ms, from 0s to 1m",
        ),
        (
            "device_defaults: {pause_between_requests: .nan}\n",
            "1:43: device_defaults.pause_between_requests: found NaN; allowed is a duration such as 500ms, from 0s to \
             1m",
        ),
        (
            "device_defaults: {close_after_poll: 1}\n",
            "1:37: device_defaults.close_after_poll: found 1; allowed is true or false",
        ),
        (
            "device_defaults: {max_registers: 126}\n",
            "1:34: device_defaults.max_registers: found 126; allowed is a whole number from 1 to 125",
        ),
        (
            "device_defaults: {max_bits: 0}\n",
            "1:29: device_defaults.max_bits: found 0; allowed is a whole number from 1 to 2000",
        ),
        (
            "device_defaults: {max_gap: 1.0}\n",
            "1:28: device_defaults.max_gap: found 1.0; allowed is a whole number from 0 to 123",
        ),
        (
            "device_defaults: {retries: many}\n",
            "1:28: device_defaults.retries: found \"many\"; allowed is a whole number from 0 to 10",
        ),
    ];
    for (sections, fault) in cases {
        assert_eq!(load(sections).unwrap_err(), [fault], "{sections}");
    }
}

#[test]
fn the_table_shows_each_value_and_where_it_comes_from() {
    let config =
        load("device_defaults: {retries: 2}\ndevices: {Meter: {response_timeout: 10s, retries: 0}}\n").unwrap();
    let expected = "\
device         setting                 value  from
(all devices)  connect_timeout         3s     built in
(all devices)  response_timeout        3s     built in
(all devices)  pause_after_connect     0s     built in
(all devices)  pause_between_requests  0s     built in
(all devices)  close_after_poll        false  built in
(all devices)  max_registers           125    built in
(all devices)  max_bits                2000   built in
(all devices)  max_gap                 0      built in
(all devices)  retries                 2      device_defaults
meter          response_timeout        10s    devices
meter          retries                 0      devices

2 devices; with settings of their own: 1.
";
    assert_eq!(table::settings(&config), expected);
}
