//! Names, units of measurement, tags and texts: what is taken, and how the rest is refused.

use std::fs;

use crate::config::{Config, Diagnostic, Loaded, Point, load_for};

const SHARED: &str = "pattoo: {log_directory: /l, cache_directory: /c, daemon_directory: /d}\n";

fn load(agent: &str) -> Result<Loaded, Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pattoo.yaml"), SHARED).unwrap();
    fs::write(directory.path().join("pattoo_agent_modbustcpd.yaml"), agent).unwrap();
    let below = format!("{}/pattoo_agent_modbustcpd.yaml:", directory.path().display());
    let told = |fault: &Diagnostic| fault.to_string().replace(&below, "");
    load_for(directory.path(), None).map_err(|error| error.faults.iter().map(told).collect())
}

fn config(agent: &str) -> Config {
    load(agent).unwrap_or_else(|faults| panic!("{agent}\n{faults:#?}")).config
}

/// A group with one table.
fn group(table: &str) -> String {
    format!("polling_groups: [{{ip_devices: [a], {table}}}]\n")
}

fn called(config: &Config) -> Vec<String> {
    config.points.iter().map(Point::called).collect()
}

fn tags(tags: &[(String, String)]) -> String {
    tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_value_has_a_name_however_it_is_spelled_and_a_run_has_one_for_each() {
    for (table, names) in [
        ("input_registers: [30001]", "input_register_30001"),
        ("input_registers: [{address: 30001, name: flow}]", "flow (input_register_30001)"),
        ("input_registers: {30001: flow}", "flow (input_register_30001)"),
        ("coils: {00008: ' pump on '}", "pump on (coil_00008)"),
        ("input_registers: {30001: off, 30003: 007}", "off (input_register_30001), 007 (input_register_30003)"),
        ("input_registers: {30001-30002: u}", "u_1 (input_register_30001), u_2 (input_register_30002)"),
        ("input_registers: {30001-30002: 'l{n} u{n}'}", "l1 u1 (input_register_30001), l2 u2 (input_register_30002)"),
        (
            "type: float32, input_registers: [{address: 30001, count: 2, name: u}]",
            "u_1 (input_register_30001), u_2 (input_register_30003)",
        ),
        ("input_registers: [{address: 30001, count: 1, name: 'u{n}'}]", "u1 (input_register_30001)"),
        ("input_registers: [{address: 30001, count: 1, name: u}]", "u (input_register_30001)"),
        ("discrete_inputs: [{address: 10001, name: door, values: {0: shut}}]", "door (discrete_input_10001)"),
    ] {
        assert_eq!(called(&config(&group(table))).join(", "), names, "{table}");
    }
}

#[test]
fn what_a_value_means_is_kept_in_order_as_it_is_written() {
    let register =
        "{address: 40010, unit_of_measurement: °C, tags: {hall: 3, area: on}, values: {2: hot water, 0: off, -1: no}}";
    let config = config(&group(&format!("holding_registers: [{register}]")));
    let metadata = &config.points[0].naming.metadata;
    assert_eq!(metadata.unit_of_measurement.as_deref(), Some("°C"));
    assert_eq!(tags(&metadata.tags), "area=on hall=3");
    let values: Vec<_> = metadata.values.iter().map(|(value, text)| (*value, text.as_str())).collect();
    assert_eq!(values, [(-1, "no"), (0, "off"), (2, "hot water")]);
}

/// The device wins over its group, and that over what all devices have.
#[test]
fn tags_are_those_of_the_nearest() {
    let config = config(
        "device_defaults: {tags: {site: all, hall: all, row: all}}\n\
         devices: {a: {name: boiler, tags: {hall: device}}}\n\
         polling_groups: [{ip_devices: [a, b], tags: {hall: group, row: group}, coils: [1]}]\n",
    );
    let found: Vec<_> = config.points.iter().map(|point| tags(&point.tags)).collect();
    assert_eq!(found, ["hall=device row=group site=all", "hall=group row=group site=all"]);
    let labels: Vec<_> = config.devices.iter().map(|device| device.label.as_deref()).collect();
    assert_eq!(labels, [Some("boiler"), None]);
}

#[test]
fn a_device_has_its_name_under_each_of_its_spellings() {
    let text = "devices: {a: {name: boiler}}\npolling_groups: [{ip_devices: ['a:502'], coils: [1]}, {ip_devices: [a], coils: [2]}]\n";
    let config = config(text);
    assert_eq!(config.devices[0].label.as_deref(), Some("boiler"));
}

#[test]
fn what_can_be_no_name_is_told_with_its_place() {
    let long = "x".repeat(256);
    let cases = [
        ("[{address: 30001, name: ''}]".to_owned(), "found \"\"; allowed is a name of 1 to 255 bytes"),
        ("[{address: 30001, name: }]".to_owned(), "found nothing; allowed is a name"),
        ("[{address: 30001, name: 1.5}]".to_owned(), "found 1.5; allowed is a name"),
        ("[{address: 30001, name: [a]}]".to_owned(), "found a list; allowed is a name"),
        ("[{address: 30001, name: \"a\\eb\"}]".to_owned(), "allowed is a name of 1 to 255 bytes without control"),
        (format!("[{{address: 30001, name: {long}}}]"), "allowed is a name of 1 to 255 bytes"),
        ("{30001: 'u{N}'}".to_owned(), "found \"u{N}\"; allowed is a name, in braces {n} alone"),
        ("{30001: u, flow: 30002}".to_owned(), "found a mapping; allowed is a list of numbers of input registers, or"),
        ("{30001: {name: u}}".to_owned(), "found a mapping; allowed is a name"),
        ("{40001: u, 30001: v, x30001: w}".to_owned(), "found a mapping; allowed is a list"),
        ("[{address: 30001, unit_of_measurement: }]".to_owned(), "allowed is a unit of measurement of"),
        ("[{address: 30001, tags: [a]}]".to_owned(), "found a list; allowed is a mapping of words to words"),
        ("[{address: 30001, tags: {a: }}]".to_owned(), "found nothing; allowed is the value of a tag"),
        ("[{address: 30001, tags: {a: 1, a: 2}}]".to_owned(), "found this key twice; allowed is once"),
        ("[{address: 30001, values: {on: 1}}]".to_owned(), "allowed is a whole number of at most 64 bits"),
        ("[{address: 30001, values: {1: a, 0x1: b}}]".to_owned(), "found this key twice; allowed is once"),
        ("[{address: 30001, nam: a}]".to_owned(), "found an unknown key; did you mean \"name\"?"),
    ];
    for (table, said) in cases {
        let faults = load(&format!("flush_interval: 1s\n{}", group(&format!("input_registers: {table}")))).unwrap_err();
        assert!(faults.len() == 1 && faults[0].contains(said) && faults[0].starts_with("2:"), "{table}: {faults:#?}");
    }
    for (sections, said) in [
        ("device_defaults: {name: x}", "1:25: device_defaults.name: found one name for all devices; allowed is"),
        (
            "devices: {a: {name: b}}",
            "1:21: devices.a.name: found the name \"b\", which is another device in ip_devices",
        ),
        (
            "devices: {a: {name: x}, b: {name: x}}",
            "1:35: devices.b.name: found the name \"x\", which the device at 1:21 has too",
        ),
    ] {
        let faults = load(&format!("{sections}\npolling_groups: [{{ip_devices: [a, b], coils: [1]}}]\n")).unwrap_err();
        assert!(faults.len() == 1 && faults[0].starts_with(said), "{faults:#?}");
    }
}

#[test]
fn two_points_of_a_device_and_unit_are_not_called_alike() {
    let of = |groups: &str| format!("flush_interval: 1s\npolling_groups:\n{groups}");
    let cases = [
        ("  - {ip_devices: [a, b], input_registers: {30001: u, 30002: u}}\n", "3:61:"),
        (
            "  - {ip_devices: [a, b], input_registers: [{address: 30001-30002, name: u}, {address: 30003, name: u_2}]}\n",
            "3:100:",
        ),
        (
            "  - {ip_devices: [a], input_registers: {30001: input_register_30002}}\n  - {ip_devices: [a], input_registers: [30002]}\n",
            "3:",
        ),
        ("  - {ip_devices: [a], coils: {1: u}}\n  - {ip_devices: [a], input_registers: {30001: u}}\n", "4:"),
    ];
    for (groups, place) in cases {
        let faults = load(&of(groups)).unwrap_err();
        assert!(faults.len() == 1 && faults[0].starts_with(place), "{groups}: {faults:#?}");
        assert!(
            faults[0].contains("found a second point of a unit 0 with the name")
                && faults[0].contains("the first is at ")
        );
    }
    for groups in [
        "  - {ip_devices: [a, b], input_registers: {30001: u, 30002: v}}\n",
        "  - {ip_devices: [a], unit: 1, coils: {1: u}}\n  - {ip_devices: [a], unit: 2, coils: {1: u}}\n",
        "  - {ip_devices: [a], coils: {1: u}}\n  - {ip_devices: [a], coils: {1: u}}\n",
    ] {
        load(&of(groups)).unwrap();
    }
    let faults = load(&of("  - {ip_devices: [a], coils: {1: u}}\n  - {ip_devices: [a], coils: {1: v}}\n")).unwrap_err();
    assert!(faults[0].contains("found the point at 3:31 again, with another name"), "{faults:#?}");
}

/// The Python agent read no mapping of registers. What it went past is gone past, unless it is names.
#[test]
fn a_mapping_in_a_file_of_the_python_agent_is_left_out_as_before() {
    let text = "polling_groups: [{ip_devices: [a], input_registers: {address: 30001}, holding_registers: [40001]}]\n";
    let Loaded { config, warnings } = load(text).unwrap();
    assert_eq!((called(&config).join(" ").as_str(), warnings.len()), ("holding_register_40001", 1));
    assert!(warnings[0].message.ends_with("it is left out, as with the Python agent"), "{warnings:#?}");
}
