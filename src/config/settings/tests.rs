//! What sections mean, and what is said of those that mean nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use super::*;
use crate::config::{Config, Diagnostic, Loaded, load_for};

const SHARED: &str = "pattoo: {log_directory: /l, cache_directory: /c, daemon_directory: /d}\n";

/// Two devices, one of them under two spellings.
const GROUPS: &str = "\
polling_groups:
  - {ip_devices: [meter, '10.0.0.7:502'], input_registers: [30001]}
  - {ip_devices: [Meter], holding_registers: [40001]}
";

fn load(sections: &str) -> Result<Config, Vec<String>> {
    load_in(&tempfile::tempdir().unwrap(), sections).map(|loaded| loaded.config)
}

/// What is said of the configuration in `directory` once it has these sections.
fn load_in(directory: &TempDir, sections: &str) -> Result<Loaded, Vec<String>> {
    fs::write(directory.path().join("pattoo.yaml"), SHARED).unwrap();
    fs::write(directory.path().join("pattoo_agent_modbustcpd.yaml"), format!("{sections}{GROUPS}")).unwrap();
    let below = format!("{}/", directory.path().display());
    let told = |fault: &Diagnostic| fault.to_string().replace(&below, "").split_once(':').unwrap().1.to_owned();
    load_for(directory.path(), Some("/home/me".into())).map_err(|error| error.faults.iter().map(told).collect())
}

fn settings(sections: &str) -> [Settings; 2] {
    let config = load(sections).unwrap();
    assert_eq!(config.devices.len(), 2);
    [0, 1].map(|place| config.devices[place].settings.clone())
}

#[test]
fn without_a_word_everything_is_as_it_always_was() {
    let built_in = Settings {
        transport: Transport::Tcp,
        connect_timeout: Duration::from_secs(3),
        response_timeout: Duration::from_secs(3),
        pause_after_connect: Duration::ZERO,
        pause_between_requests: Duration::ZERO,
        close_after_poll: false,
        ignore_transaction_id: false,
        ignore_unit_id: false,
        max_registers: 125,
        max_bits: 2_000,
        max_gap: 0,
        retries: 3,
        max_backoff: Duration::from_secs(15),
        baud: 19_200,
        parity: Parity::Even,
        stop_bits: 1,
    };
    for nothing in ["", "device_defaults:\ndevices:\n", "devices: {meter: }\n"] {
        assert_eq!(settings(nothing), [built_in.clone(), built_in.clone()], "{nothing}");
    }
}

#[test]
fn each_key_is_read_from_both_sections_and_the_device_wins_over_the_defaults() {
    type Key = (&'static str, &'static str, fn(&mut Settings), &'static str, fn(&mut Settings));
    let cases: [Key; 15] = [
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
        (
            "ignore_transaction_id",
            "true",
            |s| s.ignore_transaction_id = true,
            "no",
            |s| s.ignore_transaction_id = false,
        ),
        ("ignore_unit_id", "true", |s| s.ignore_unit_id = true, "no", |s| s.ignore_unit_id = false),
        ("max_registers", "100", |s| s.max_registers = 100, "1", |s| s.max_registers = 1),
        ("max_bits", "1000", |s| s.max_bits = 1_000, "16", |s| s.max_bits = 16),
        ("max_gap", "10", |s| s.max_gap = 10, "123", |s| s.max_gap = 123),
        ("retries", "0", |s| s.retries = 0, "10", |s| s.retries = 10),
        (
            "max_backoff",
            "1s",
            |s| s.max_backoff = Duration::from_secs(1),
            "1h",
            |s| {
                s.max_backoff = Duration::from_secs(3_600);
            },
        ),
        ("baud", "9600", |s| s.baud = 9_600, "115200", |s| s.baud = 115_200),
        ("parity", "none", |s| s.parity = Parity::None, "odd", |s| s.parity = Parity::Odd),
        ("stop_bits", "2", |s| s.stop_bits = 2, "1", |s| s.stop_bits = 1),
    ];
    assert_eq!(cases.map(|(key, ..)| key), KEYS[1..16], "every key but transport and tls");
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
            "device_defaults: {transport: udp}\n",
            "1:30: device_defaults.transport: found \"udp\"; allowed is tcp, rtu (RTU over TCP) or tls (Modbus/TCP \
             Security)",
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
            "device_defaults: {baud: 0}\n",
            "1:25: device_defaults.baud: found 0; allowed is a whole number from 110 to 4000000",
        ),
        ("device_defaults: {parity: E}\n", "1:27: device_defaults.parity: found \"E\"; allowed is none, even or odd"),
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
(all devices)  transport               tcp    built in
(all devices)  connect_timeout         3s     built in
(all devices)  response_timeout        3s     built in
(all devices)  pause_after_connect     0s     built in
(all devices)  pause_between_requests  0s     built in
(all devices)  close_after_poll        false  built in
(all devices)  ignore_transaction_id   false  built in
(all devices)  ignore_unit_id          false  built in
(all devices)  max_registers           125    built in
(all devices)  max_bits                2000   built in
(all devices)  max_gap                 0      built in
(all devices)  retries                 2      device_defaults
(all devices)  max_backoff             15s    built in
(all devices)  baud                    19200  built in
(all devices)  parity                  even   built in
(all devices)  stop_bits               1      built in
meter          response_timeout        10s    devices
meter          retries                 0      devices

2 devices; with settings of their own: 1.
";
    assert_eq!(table::settings(&config, usize::MAX), expected);
}

#[test]
fn each_shard_shows_the_settings_of_its_own_devices() {
    let config = load("devices: {meter: {retries: 0}, '10.0.0.7:502': {retries: 2}}\n").unwrap();
    let shards = ["0/4", "1/4", "2/4", "3/4"].map(|shard| config.clone().of_shard(shard.parse().unwrap()));
    assert_eq!(shards.iter().map(|shard| shard.devices.len()).sum::<usize>(), 2);
    assert!(shards.iter().all(|shard| shard.devices.len() < 2), "both in one shard prove nothing");
    for shard in shards {
        let text = table::settings(&shard, usize::MAX);
        let rows: Vec<_> = text.lines().filter(|line| line.ends_with("  devices")).collect();
        assert_eq!(rows.len(), shard.devices.len(), "{text}");
        assert!(rows.iter().zip(&shard.devices).all(|(row, device)| row.starts_with(device.name())), "{text}");
    }
}

/// A directory with two authorities, and a certificate and a key that belong together.
fn with_files() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (certificate, key) in [("ca.pem", "ca.key"), ("me.pem", "me.key")] {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([certificate.to_owned()]).unwrap();
        fs::write(directory.path().join(certificate), cert.pem()).unwrap();
        let key = directory.path().join(key);
        fs::write(&key, signing_key.serialize_pem()).unwrap();
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    }
    directory
}

const SECURE: &str = "device_defaults: {transport: tls, tls: {ca: ca.pem, certificate: me.pem, key: me.key}}\n";

#[test]
fn a_secure_device_listens_on_its_own_port_and_is_known_by_its_host_or_by_the_name_that_is_given() {
    let directory = with_files();
    let devices = |sections: &str| {
        let config = load_in(&directory, sections).unwrap().config;
        config.devices.into_iter().map(|device| {
            let name = match &device.settings.transport {
                Transport::Tls(tls) => tls.name(),
                other => format!("{other:?}"),
            };
            (device.endpoint.to_string(), name)
        })
    };
    let cases = [
        ("", ["meter:502", "Tcp", "10.0.0.7:502", "Tcp"]),
        ("device_defaults: {transport: rtu}\n", ["meter:502", "Rtu", "10.0.0.7:502", "Rtu"]),
        (SECURE, ["meter:802", "meter", "10.0.0.7:502", "10.0.0.7"]),
        (
            &format!("{SECURE}devices: {{'10.0.0.7:502': {{tls: {{server_name: boiler.example}}}}}}\n"),
            ["meter:802", "meter", "10.0.0.7:502", "boiler.example"],
        ),
        (
            &format!("{SECURE}devices: {{'10.0.0.7:502': {{transport: tcp}}}}\n"),
            ["meter:802", "meter", "10.0.0.7:502", "Tcp"],
        ),
    ];
    for (sections, expected) in cases {
        let found: Vec<_> = devices(sections).flat_map(|(endpoint, name)| [endpoint, name]).collect();
        assert_eq!(found, expected, "{sections}");
    }
}

#[test]
fn credentials_that_cannot_be_used_are_told_with_the_file_and_nothing_is_started_without_them() {
    let directory = with_files();
    fs::write(directory.path().join("text"), "no certificate").unwrap();
    let at = directory.path().display();
    let cases = [
        (
            "transport: tls".to_owned(),
            "1:30: device_defaults.transport: found tls without tls.ca, the file with the certificate of who signs for \
             the devices, and without tls.pin, the SHA-256 of the device's own; without either no device can be believed"
                .to_owned(),
        ),
        (
            "transport: tls, tls: {pin: 'AB:CD'}".to_owned(),
            "1:46: device_defaults.tls.pin: found \"AB:CD\"; allowed is the SHA-256 of the device's certificate: 64 \
             hexadecimal digits in quotes, with or without colons"
                .to_owned(),
        ),
        (
            "transport: tls, tls: {pin: 1234}".to_owned(),
            "1:46: device_defaults.tls.pin: found 1234; allowed is the SHA-256 of the device's certificate: 64 \
             hexadecimal digits in quotes, with or without colons"
                .to_owned(),
        ),
        (
            "transport: tls, tls: {ca: none.pem}".to_owned(),
            "1:45: device_defaults.tls.ca: found none.pem; there is no such file".to_owned(),
        ),
        (
            format!("transport: tls, tls: {{ca: {at}}}"),
            format!("1:45: device_defaults.tls.ca: found {at}, which is no regular file"),
        ),
        (
            "transport: tls, tls: {ca: text}".to_owned(),
            "1:45: device_defaults.tls.ca: found text: there is no certificate in it that can be used: no items found"
                .to_owned(),
        ),
        (
            "transport: tls, tls: {ca: ca.pem, certificate: me.pem}".to_owned(),
            "1:66: device_defaults.tls.certificate: found tls.certificate without tls.key; they are given both or not \
             at all"
                .to_owned(),
        ),
        (
            "transport: tls, tls: {ca: ca.pem, key: me.key}".to_owned(),
            "1:58: device_defaults.tls.key: found tls.key without tls.certificate; they are given both or not at all"
                .to_owned(),
        ),
        (
            "transport: tls, tls: {ca: ca.pem, certificate: me.pem, key: me.pem}".to_owned(),
            "1:79: device_defaults.tls.key: found me.pem: there is no private key in it that can be used; allowed is \
             one in PEM, without a password: no items found"
                .to_owned(),
        ),
        (
            "transport: tls, tls: {ca: ca.pem, certificate: me.pem, key: ca.key}".to_owned(),
            "1:79: device_defaults.tls.key: found ca.key: this key is not that of tls.certificate: keys may not be \
             consistent: KeyMismatch"
                .to_owned(),
        ),
        (
            "tls: {authority: ca.pem}".to_owned(),
            "1:25: device_defaults.tls.authority: found an unknown key; allowed are ca, pin, certificate, key, server_name"
                .to_owned(),
        ),
        (
            "tls: {server_name: [a]}".to_owned(),
            "1:38: device_defaults.tls.server_name: found a list; allowed is a host name or an address".to_owned(),
        ),
        (
            "transport: tls, tls: {ca: ca.pem, server_name: 'a b'}".to_owned(),
            "1:66: device_defaults.tls.server_name: found \"a b\": no certificate can be for this name; set server_name"
                .to_owned(),
        ),
    ];
    for (settings, fault) in cases {
        let faults = load_in(&directory, &format!("device_defaults: {{{settings}}}\n")).unwrap_err();
        assert_eq!(faults.first(), Some(&fault), "{settings}");
    }
}

#[test]
fn a_pin_needs_no_file_wins_over_the_authority_of_the_defaults_and_is_shown() {
    let directory = with_files();
    let (pin, other) = ("AB".repeat(32), ["cd"; 32].join(":"));
    let alone = format!("device_defaults: {{transport: tls, tls: {{pin: '{pin}'}}}}\n");
    let beside = |pin: &str| format!("{SECURE}devices: {{meter: {{tls: {{pin: '{pin}'}}}}}}\n");
    let alone = load_in(&directory, &alone).unwrap();
    let [first, second] = [&pin, &other].map(|pin| load_in(&directory, &beside(pin)).unwrap());
    let transport = |loaded: &Loaded, device: usize| loaded.config.devices[device].settings.transport.clone();
    assert!(matches!(transport(&alone, 0), Transport::Tls(_)));
    assert_ne!(transport(&first, 0), transport(&first, 1), "one by its pin, the other by its authority");
    assert_ne!(transport(&first, 0), transport(&second, 0), "another pin is another device");
    assert_eq!(transport(&first, 1), transport(&second, 1));
    let shown = table::settings(&first.config, usize::MAX);
    assert!(shown.contains(&format!("tls.pin                 {}  devices", pin.to_lowercase())), "{shown}");
}

#[test]
fn a_key_that_everybody_can_read_is_warned_of() {
    let directory = with_files();
    for (mode, warned) in [(0o600, false), (0o640, false), (0o644, true)] {
        fs::set_permissions(directory.path().join("me.key"), fs::Permissions::from_mode(mode)).unwrap();
        let warnings = load_in(&directory, SECURE).unwrap().warnings;
        let told = warnings.iter().filter(|warning| warning.to_string().contains("run chmod o-rwx on it"));
        assert_eq!(told.count(), usize::from(warned), "{mode:o}: {warnings:?}");
    }
}

#[test]
fn a_certificate_that_was_renewed_in_its_place_makes_another_device_of_it() {
    let directory = with_files();
    let before = load_in(&directory, SECURE).unwrap();
    assert_eq!(before, load_in(&directory, SECURE).unwrap());
    let others = with_files();
    fs::copy(others.path().join("ca.pem"), directory.path().join("ca.pem")).unwrap();
    assert_ne!(before, load_in(&directory, SECURE).unwrap());
}

/// The configuration of a serial port, or what is said of it.
fn serial(sections: &str, unit: u8) -> Result<Loaded, Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let groups =
        format!("polling_groups:\n  - {{ip_devices: ['serial:/dev/ttyS7'], unit: {unit}, input_registers: [30001]}}\n");
    fs::write(directory.path().join("pattoo.yaml"), SHARED).unwrap();
    fs::write(directory.path().join("pattoo_agent_modbustcpd.yaml"), format!("{sections}{groups}")).unwrap();
    let message = |fault: &Diagnostic| fault.message.clone();
    load_for(directory.path(), None).map_err(|error| error.faults.iter().map(message).collect())
}

#[test]
fn on_a_serial_port_rtu_is_spoken_whatever_the_network_does() {
    for defaults in ["tcp", "rtu", "tls"] {
        let sections = format!(
            "device_defaults: {{transport: {defaults}, baud: 9600}}\ndevices: {{'serial:/dev/ttyS7': {{parity: none}}}}\n"
        );
        let device = serial(&sections, 1).unwrap().config.devices.remove(0);
        assert_eq!((device.endpoint.to_string(), device.name()), ("serial:/dev/ttyS7".to_owned(), "serial:/dev/ttyS7"));
        let Settings { transport, baud, parity, .. } = device.settings;
        assert_eq!((transport, baud, parity), (Transport::Rtu, 9_600, Parity::None), "{defaults}");
    }
    let faults = serial("devices: {'serial:/dev/ttyS7': {transport: tcp}}\n", 1).unwrap_err();
    assert_eq!(faults, ["found a transport for a serial port, where only RTU is spoken; leave it out"]);
}

#[test]
fn any_unit_may_answer_on_a_serial_line_only_where_one_is_polled() {
    for (transport, second, refused) in [("rtu", 2, true), ("rtu", 1, false), ("tcp", 2, false)] {
        let directory = tempfile::tempdir().unwrap();
        let groups: String = [1, second]
            .map(|unit| format!("  - {{ip_devices: [meter], unit: {unit}, input_registers: [3000{unit}]}}\n"))
            .concat();
        let agent =
            format!("devices: {{meter: {{transport: {transport}, ignore_unit_id: true}}}}\npolling_groups:\n{groups}");
        fs::write(directory.path().join("pattoo.yaml"), SHARED).unwrap();
        fs::write(directory.path().join("pattoo_agent_modbustcpd.yaml"), agent).unwrap();
        let faults = load_for(directory.path(), None).map_or_else(|error| error.faults, |_| Vec::new());
        let told: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
        let expected = "found unit 2 of meter, whose unit 1 is polled too, with ignore_unit_id; allowed is one unit, because \
                        on a serial line nothing else tells the replies of two devices apart";
        assert_eq!(told, if refused { vec![expected] } else { vec![] }, "{transport} {second}");
    }
}

#[test]
fn unit_0_of_a_serial_line_is_warned_of() {
    for (unit, warned) in [(0, true), (1, false)] {
        let warnings = serial("", unit).unwrap().warnings;
        let told = warnings.iter().any(|warning| warning.message.contains("found unit 0 for serial:/dev/ttyS7"));
        assert_eq!((warnings.len(), told), (usize::from(warned), warned), "{warnings:?}");
    }
    let rtu = load_in(&tempfile::tempdir().unwrap(), "device_defaults: {transport: rtu}\n").unwrap();
    let told = rtu.warnings.iter().filter(|warning| warning.message.contains("found unit 0 for meter"));
    assert_eq!(told.count(), 2, "{:?}", rtu.warnings);
}

#[test]
fn what_does_not_fit_into_one_request_to_a_device_is_told() {
    let cases = [
        ("max_registers: 2", "input_registers: [{address: 30001, type: float32}]", None),
        ("max_registers: 1", "coils: [1]", None),
        (
            "max_registers: 1",
            "input_registers: [30001, {address: 30011, type: float32}]",
            Some("found a value of 2 registers; allowed are 1 in one request to meter"),
        ),
        ("max_registers: 10", "together: true, holding_registers: [40001, 40010]", None),
        (
            "max_registers: 9",
            "together: true, holding_registers: [40001, 40010]",
            Some(
                "found holding registers that span 10 places and are to be read together; allowed are 9 in one request \
                 to meter",
            ),
        ),
        (
            "max_bits: 8",
            "together: true, coils: [1, 9]",
            Some("found coils that span 9 places and are to be read together; allowed are 8 in one request to meter"),
        ),
    ];
    for (setting, registers, fault) in cases {
        let directory = tempfile::tempdir().unwrap();
        let agent = format!(
            "devices: {{meter: {{{setting}}}}}\npolling_groups: [{{ip_devices: [other, meter], {registers}}}]\n"
        );
        fs::write(directory.path().join("pattoo.yaml"), SHARED).unwrap();
        fs::write(directory.path().join("pattoo_agent_modbustcpd.yaml"), agent).unwrap();
        let faults = load_for(directory.path(), None).map_or_else(|error| error.faults, |_| Vec::new());
        let told: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
        assert_eq!(told, fault.into_iter().collect::<Vec<_>>(), "{setting} {registers}");
    }
}
