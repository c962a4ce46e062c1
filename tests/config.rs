//! What a configuration means, and what is said of one that means nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pattoo_agent_modbustcpd::config::keys::{self, Key};
use pattoo_agent_modbustcpd::config::outputs::{OutputConfig, OutputKind};
use pattoo_agent_modbustcpd::config::{self, Config, Loaded, point_table};
use pattoo_agent_modbustcpd::modbus::format::{Byte, Format, Kind, Order, Scale, Typed};
use pattoo_agent_modbustcpd::outputs::file::{FileSettings, Format as FileFormat};
use pattoo_agent_modbustcpd::outputs::influxdb::InfluxSettings;
use pattoo_agent_modbustcpd::outputs::influxdb::deliver::Target as InfluxTarget;
use pattoo_agent_modbustcpd::outputs::influxdb::encode::InfluxEncode;
use pattoo_agent_modbustcpd::outputs::mqtt::encode::MqttEncode;
use pattoo_agent_modbustcpd::outputs::mqtt::message::parse;
use pattoo_agent_modbustcpd::outputs::mqtt::sparkplug::edge_node::EdgeNode;
use pattoo_agent_modbustcpd::outputs::mqtt::sparkplug::encode::SparkplugEncode;
use pattoo_agent_modbustcpd::outputs::mqtt::{Identity, MqttSettings};
use pattoo_agent_modbustcpd::outputs::network::Network;
use pattoo_agent_modbustcpd::outputs::otlp::{Otlp, OtlpSettings};
use pattoo_agent_modbustcpd::outputs::plant::Plant;
use pattoo_agent_modbustcpd::outputs::prometheus::PrometheusSettings;
use pattoo_agent_modbustcpd::outputs::samples::encode::SampleEncode;
use pattoo_agent_modbustcpd::outputs::samples::pace::Pace;
use pattoo_agent_modbustcpd::outputs::sqlite::{Bounds, SqliteSettings};
use pattoo_agent_modbustcpd::outputs::{Encode as _, Start};
use pattoo_agent_modbustcpd::reading::{PointId, Reading, Timestamp, Value, points};
use pattoo_agent_modbustcpd::spool::{Limits, MinFree};
use proptest::prelude::*;
use tempfile::TempDir;

const PATTOO: &str = "\
pattoo:
  log_directory: /tmp/log
  cache_directory: /tmp/cache
  daemon_directory: /tmp/daemon
";

/// A key of ours: what stands in the same file is not taken as the Python agent took it.
const OURS: &str = "flush_interval: 1s\n";

/// A directory with this as `pattoo_agent_modbustcpd.yaml` and a `pattoo.yaml` that is right.
fn directory(agent: impl AsRef<[u8]>) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("pattoo.yaml"), PATTOO).unwrap();
    std::fs::write(directory.path().join("pattoo_agent_modbustcpd.yaml"), agent).unwrap();
    directory
}

/// A page of the book.
fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

fn load(agent: &str) -> Loaded {
    config::load(directory(agent).path()).unwrap_or_else(|error| panic!("{agent}\n{error}"))
}

/// What is said of a wrong file, without the directory.
fn faults(agent: impl AsRef<[u8]>) -> Vec<String> {
    let directory = directory(agent);
    let error = config::load(directory.path()).err().unwrap();
    let prefix = format!("{}/", directory.path().display());
    error.faults.iter().map(|fault| fault.to_string().replace(&prefix, "")).collect()
}

fn warnings(agent: &str) -> Vec<String> {
    load(agent).warnings.iter().map(|fault| fault.to_string().rsplit('/').next().unwrap().to_owned()).collect()
}

/// A file with one group, to which `more` is added.
fn group(more: &str) -> String {
    format!("polling_groups:\n  - ip_devices: [a]\n    input_registers: [30001]\n{more}")
}

#[test]
fn every_sample_loads_without_a_warning() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert_eq!(config::load(&root.join("setup/kubernetes/config")).unwrap().warnings, []);
    let samples = root.join("config");
    let names: BTreeSet<_> = std::fs::read_dir(&samples).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "two samples and the schema: {names:?}");
    let loaded = config::load(&samples).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.devices.len(), 6);
    assert_eq!(loaded.config.points.len(), 3 * 8 + 2 + 6 + 13);
}

#[test]
fn a_spurious_key_in_every_mapping_of_the_samples_is_refused() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let text = std::fs::read_to_string(samples.join("pattoo_agent_modbustcpd.yaml")).unwrap();
    let mut tried = 0;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#') && line.contains(": ")) {
        let indent = line.len() - line.trim_start_matches([' ', '-']).len();
        let spurious = match line.rsplit_once('}') {
            Some((inside, rest)) => format!("{inside}, spurious: 1}}{rest}"),
            None => format!("{line}\n{}spurious: 1", " ".repeat(indent)),
        };
        let said = faults(text.replacen(line, &spurious, 1)).join("\n");
        assert!(said.contains("spurious: found an unknown key"), "{line}\n{said}");
        tried += 1;
    }
    assert!(tried > 10, "{tried}");
}

#[test]
fn all_faults_are_told_at_once_with_their_place() {
    let file = "\
pooling_interval: 10
polling_groups:
  - group_name: a
    ip_devices:
      - tcp://plc:502
      - ok
    unit: \"1\"
    input_register: [30001]
    holding_registers:
      - adress: 40001
      - address: 40002
        multiplier: .inf
      - \"40003\"
flush_interval: 1s
";
    let expected = [
        "pattoo_agent_modbustcpd.yaml:1:1: pooling_interval: found an unknown key; did you mean \"polling_interval\"?",
        "pattoo_agent_modbustcpd.yaml:5:9: polling_groups[0].ip_devices[0]: found \"tcp://plc:502\", which is no device: it is a URL; write only the host, or host:port; allowed are name, address, host:port",
        "pattoo_agent_modbustcpd.yaml:7:11: polling_groups[0].unit: found \"1\", a text; allowed is a whole number from 0 to 255 (remove the quotes)",
        "pattoo_agent_modbustcpd.yaml:8:5: polling_groups[0].input_register: found an unknown key; did you mean \"input_registers\"?",
        "pattoo_agent_modbustcpd.yaml:10:9: polling_groups[0].holding_registers[0]: found a register without address; allowed is its number, or a mapping with address",
        "pattoo_agent_modbustcpd.yaml:10:9: polling_groups[0].holding_registers[0].adress: found an unknown key; did you mean \"address\"?",
        "pattoo_agent_modbustcpd.yaml:12:21: polling_groups[0].holding_registers[1].multiplier: found inf; allowed is a finite number below 1e24, because the server's ingester dies on larger values",
        "pattoo_agent_modbustcpd.yaml:13:9: polling_groups[0].holding_registers[2]: found \"40003\", a text; allowed is a number (remove the quotes)",
    ];
    let mut found = faults(file);
    found.sort();
    let mut expected = expected.map(str::to_owned);
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn the_sample_of_the_original_documentation_gets_help() {
    let file = "\
polling_groups:
  - group_name: TEST 1
    ip_devices:
      - test1.modbus.tcp.device.net
    input_registers:
      - address: 30123
        multiplier: 1
      - 30789
        multiplier: 1
";
    let found = faults(file);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("pattoo_agent_modbustcpd.yaml:9:9: this is not YAML"), "{}", found[0]);
    assert!(found[0].contains("    - 30789\nor\n    - address: 30789\n      multiplier: 1"), "{}", found[0]);
}

#[test]
fn intervals_mean_what_they_meant_and_durations_too() {
    let cases = [
        ("300", 300_000),
        ("'-61'", 61_000),
        ("-61", 61_000),
        ("7.9", 7_000),
        ("10s", 10_000),
        ("500ms", 500),
        ("5m", 300_000),
        ("1:30", 90_000),
        ("1_000", 1_000_000),
        ("", 300_000),
        ("~", 300_000),
    ];
    for (value, ms) in cases {
        let loaded = load(&group("").replace("polling_groups", &format!("polling_interval: {value}\npolling_groups")));
        assert_eq!(loaded.config.polling_interval, Duration::from_millis(ms), "{value}");
        assert_eq!(loaded.config.points[0].interval, Duration::from_millis(ms), "{value}");
    }
    for value in
        ["0", "0.5", "true", "[1]", "often", "'7.9'", "1e400", ".nan", ".inf", "5000000000", "50days", "99ms", "1.5ms"]
    {
        let file = group("").replace("polling_groups", &format!("polling_interval: {value}\npolling_groups"));
        let found = faults(file + OURS);
        assert!(found.len() == 1 && found[0].contains(":1:19: polling_interval: found "), "{value}: {found:?}");
    }
}

#[test]
fn multipliers_mean_what_they_meant() {
    let cases = [
        ("1", Scale::Times(1.0)),
        ("0.1", Scale::Times(0.1)),
        ("-0.5", Scale::Times(-0.5)),
        ("0", Scale::Raw),
        ("0.0", Scale::Raw),
        ("'0'", Scale::Times(0.0)),
        ("1e3", Scale::Times(1000.0)),
        ("' 3 '", Scale::Times(3.0)),
        ("'1_0'", Scale::Times(10.0)),
        ("~", Scale::Times(1.0)),
        ("", Scale::Times(1.0)),
        ("true", Scale::Times(1.0)),
        ("yes", Scale::Times(1.0)),
        ("abc", Scale::Times(1.0)),
        ("''", Scale::Times(1.0)),
        ("[2]", Scale::Times(1.0)),
    ];
    for (value, scale) in cases {
        let loaded =
            load(&group(&format!("    holding_registers:\n      - address: 40001\n        multiplier: {value}\n")));
        assert_eq!(loaded.config.points[1].format, Format::Word(scale), "{value}");
    }
    for value in [".inf", "-.inf", ".nan", "1e300", "'inf'", "'nan'", "1e25"] {
        let found =
            faults(group(&format!("    holding_registers:\n      - {{address: 40001, multiplier: {value}}}\n")));
        assert!(found.len() == 1 && found[0].contains("multiplier: found "), "{value}: {found:?}");
    }
}

#[test]
fn units_mean_what_they_meant_and_what_cannot_be_one_is_refused() {
    let cases = [
        ("0", 0),
        ("1", 1),
        ("255", 255),
        ("1.9", 1),
        ("~", 0),
        ("", 0),
        ("true", 0),
        ("[1]", 1),
        ("abc", 0),
        ("0x10", 16),
        ("017", 15),
    ];
    for (value, unit) in cases {
        let loaded = load(&group(&format!("    unit: {value}\n")));
        assert_eq!(loaded.config.points[0].unit.0, unit, "{value}");
    }
    for value in ["-1", "256", "'1'", "1e9", ".nan", "{a: 1}"] {
        let found = faults(group(&format!("    unit: {value}\n")) + OURS);
        assert!(found.len() == 1 && found[0].contains(":4:11: polling_groups[0].unit: found "), "{value}: {found:?}");
    }
}

#[test]
fn a_number_outside_its_table_is_left_out_with_a_warning_and_costs_only_itself() {
    let file =
        "polling_groups:\n  - ip_devices: [a]\n    input_registers: [30000, 30001, 40001, 072461, 0, -5, 365537]\n";
    let Loaded { config: Config { points, .. }, warnings } = load(file);
    // 072461 is octal to the original: 30001 once more.
    assert_eq!(points.len(), 1);
    assert_eq!(points[0].reference.to_string(), "input_register_30001");
    assert_eq!(warnings.len(), 6);
    assert!(
        warnings[1].to_string().contains(":3:37: polling_groups[0].input_registers[2]: found 40001, which is left out")
    );
    assert!(
        warnings[1]
            .to_string()
            .contains("; it is the number of one of the holding registers; if 40001 is the address itself")
    );
    assert!(warnings[2].to_string().contains("found 072461, which is octal and means 30001"));

    let nothing = faults("polling_groups:\n  - ip_devices: [a]\n    input_registers: [50000]\n");
    assert!(nothing[0].contains("there is nothing to poll"), "{nothing:?}");
}

#[test]
fn a_point_is_polled_once_and_the_smallest_multiplier_wins() {
    let file = "\
polling_groups:
  - group_name: one
    ip_devices: [a, A, 'a:502']
    input_registers:
      - {address: 30001, multiplier: 10}
      - {address: 30001, multiplier: 0.5}
      - 300001
      - 300001
  - group_name: two
    ip_targets: [a]
    input_registers: [30001]
";
    let Loaded { config, warnings } = load(file);
    assert_eq!(config.devices.len(), 1, "three spellings of one endpoint");
    assert_eq!(config.devices[0].names, ["a", "A", "a:502"]);
    assert_eq!(config.points.len(), 6, "two keys for each of three targets");
    assert_eq!(config.points[0].format, Format::Word(Scale::Times(0.5)));
    let told = |words: &str| warnings.iter().filter(|warning| warning.to_string().contains(words)).count();
    assert_eq!((told("under another name"), told("already read at"), warnings.len()), (2, 2, 4), "{warnings:?}");
    assert!(warnings[3].to_string().contains("already read at 6:19 (group \"one\")"), "{}", warnings[3]);
}

#[test]
fn what_is_no_device_is_refused_or_left_out_with_a_word() {
    assert!(
        warnings("polling_groups:\n  - ip_devices: a\n    input_registers: [30001]\n")[0]
            .contains("taken as one device")
    );
    assert!(
        warnings("polling_groups:\n  - ip_devices: [7, a]\n    input_registers: [30001]\n")[0]
            .contains("found 7, which is no text")
    );
    for (devices, said) in [
        ("ip_devices: []", "at least one device"),
        ("ip_devices: {a: 1}", "a list of devices"),
        ("ip_devices: ['']", "there is no host in it"),
        ("ip_devices: ['a:0']", "its port is not a number"),
        ("unit: 1", "ip_devices is missing"),
    ] {
        let found = faults(format!("polling_groups:\n  - {devices}\n    input_registers: [30001]\n{OURS}"));
        assert!(found.len() == 1 && found[0].contains(said), "{devices}: {found:?}");
    }
}

#[test]
fn files_that_are_no_configuration_are_refused_in_a_moment() {
    let cases: [(&[u8], &str); 14] = [
        (b"", "the file is empty"),
        (b"# nothing\n", "the file is empty"),
        (b"a: 1\n---\nb: 2\n", "found a second document"),
        (b"a: [1\n", "this is not YAML"),
        (b"flush_interval: 1\na: 1\na: 2\n", "3:1: a: found this key twice"),
        (b"polling_groups: x\n", "1:17: polling_groups: found \"x\"; allowed is a list of polling groups"),
        (b"polling_groups: []\n", "at least one polling group"),
        (b"- 1\n", "found a list; allowed is a mapping"),
        (b"\tx: 1\n", "this is not YAML"),
        (b"a: \"\xff\"\n", "1:5: found a byte that is not UTF-8 text"),
        (b"a: b\0c\n", "this is not YAML"),
        (b"polling_groups: !!python/object:os.system [ls]\n", "there is nothing to poll"),
        (b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n", "repetition limit"),
        (b"flush_interval: 1\n1: 2\n", "found the key 1; allowed are words"),
    ];
    for (file, said) in cases {
        let begun = Instant::now();
        let found = faults(file).join("\n");
        assert!(found.contains(said), "{}: {found}", String::from_utf8_lossy(file));
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    for deep in ["[".repeat(65_536), "- ".repeat(50_000), "{a: ".repeat(10_000)] {
        assert!(faults(deep)[0].contains("this is not YAML"));
    }
    assert!(faults("x".repeat(1_100_000))[0].contains("has 1100000 bytes; allowed are 1048576"));
    assert!(load(&format!("\u{feff}{}", group("").replace('\n', "\r\n"))).warnings.is_empty());
}

/// The directories are then those of a service, and all that a pattoo server needs is still asked for.
#[test]
fn pattoo_yaml_may_be_absent_where_no_output_is_pattoo() {
    let without = |agent: &str| {
        let directory = directory(agent);
        std::fs::remove_file(directory.path().join("pattoo.yaml")).unwrap();
        directory
    };
    for outputs in ["[sqlite]", "[{type: sqlite, name: a, path: /a.sqlite}, sqlite]"] {
        let directory = without(&group(&format!("outputs: {outputs}\n")));
        let Loaded { config, warnings } = config::load(directory.path()).unwrap();
        assert_eq!(warnings, []);
        let directories =
            [&config.cache_directory, &config.daemon_directory, &config.system_daemon_directory, &config.log_directory];
        let expected = ["/var/lib/pattoo/cache", "/var/lib/pattoo/daemon", "/run/pattoo", "/var/log/pattoo"];
        assert_eq!(directories, expected.map(Path::new));
        let instance = config::Instance { config_dir: directory.path().to_owned(), shard: config.shard };
        assert_eq!(instance.system_daemon_directory().unwrap(), config.system_daemon_directory);
        // What the other file says is judged all the same.
        let file = directory.path().join("pattoo_agent.yaml");
        std::fs::write(&file, "pattoo_agent_api: {ip_bind_port: 0}\n").unwrap();
        let said = config::load(directory.path()).err().unwrap().to_string();
        assert!(said.contains("pattoo_agent.yaml:1:34: pattoo_agent_api.ip_bind_port: found 0"), "{said}");
    }
    let missing = "pattoo.yaml: there is no such file; --config_dir or PATTOO_CONFIGDIR names the directory that holds it, and \
                   `pattoo_agent_modbustcpd configure` writes it; it is needed wherever an output is pattoo, and outputs is [pattoo] unless it says otherwise";
    for outputs in ["", "outputs: [pattoo]\n", "outputs: [sqlite, {type: pattoo, name: a}]\n"] {
        let error = config::load(without(&group(outputs)).path()).err().unwrap();
        assert!(error.faults.len() == 1 && error.faults[0].to_string().ends_with(missing), "{error}");
    }
    let nothing = tempfile::tempdir().unwrap();
    let none = config::load(nothing.path()).err().unwrap();
    assert!(none.faults.len() == 1 && none.to_string().contains("found neither"), "{none}");
    let instance = config::Instance {
        config_dir: nothing.path().to_owned(),
        shard: config::load(directory(group("")).path()).unwrap().config.shard,
    };
    assert!(instance.system_daemon_directory().is_err(), "another directory was meant");
    // A file that is there counts, whatever is wrong with it.
    let directory = directory(group("outputs: [sqlite]\n"));
    std::fs::write(directory.path().join("pattoo.yaml"), "{").unwrap();
    assert_eq!(config::load(directory.path()).err().unwrap().faults.len(), 1);
}

#[test]
fn what_is_no_safe_file_is_refused_without_waiting() {
    let directory = directory(group(""));
    let file = directory.path().join("pattoo_agent_modbustcpd.yaml");
    let said = || config::load(directory.path()).err().unwrap().to_string();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    assert!(said().contains("can be written by every user"));
    std::fs::remove_file(&file).unwrap();
    assert!(said().contains("there is no such file; --config_dir or PATTOO_CONFIGDIR"));
    std::fs::create_dir(&file).unwrap();
    assert!(said().contains("is no regular file"));
    std::fs::remove_dir(&file).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(said().contains("is no regular file"));
}

#[test]
fn the_shared_files_are_read_as_the_original_does() {
    let directory = directory(group(""));
    let pattoo = directory.path().join("pattoo.yaml");
    let load = || config::load(directory.path());
    let loaded = load().unwrap();
    assert_eq!((loaded.config.server_host.as_str(), loaded.config.server_port), ("localhost", 20_201));
    assert_eq!(loaded.config.system_daemon_directory, PathBuf::from("/tmp/daemon"));

    let api = "pattoo_agent_api:\n  ip_address: '[2001:db8::1]'\n  ip_bind_port: 20202\npattoo_web: {anything: 1}\n";
    std::fs::write(&pattoo, format!("{PATTOO}  log_levle: info\n{api}")).unwrap();
    let loaded = load().unwrap();
    assert_eq!((loaded.config.server_host.as_str(), loaded.config.server_port), ("2001:db8::1", 20_202));
    assert!(
        loaded.warnings[0]
            .to_string()
            .contains("5:3: pattoo.log_levle: found an unknown key; did you mean \"log_level\"?")
    );

    std::fs::write(directory.path().join("pattoo_agent.yaml"), "pattoo_agent_api: {ip_address: newer}\n").unwrap();
    assert_eq!(load().unwrap().config.server_host, "newer");

    std::fs::write(&pattoo, "pattoo:\n  log_level: loud\n  cache_directory: 7\n").unwrap();
    let said = load().err().unwrap().to_string();
    for part in [
        "2:14: pattoo.log_level: found \"loud\"; allowed is debug, info, warning, error or critical; it counts as debug, as \
         with the Python agent",
        "3:20: pattoo.cache_directory: found 7; allowed is a directory",
        "log_directory is missing",
        "daemon_directory is missing",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

#[test]
fn limits_of_the_cache_are_read_and_nonsense_is_refused() {
    let groups = "polling_groups: [{ip_devices: [a], input_registers: [30001]}]\n";
    let keys = "cache_min_free: 1GiB\ncache_max_bytes: 2GB\ncache_max_age: 90days\nsplit_refused_after: 10m\n\
                trust_local_clock: true\nstatus_listen: \"[::1]:20204\"\n";
    let config = load(&format!("{keys}{groups}")).config;
    let day = Duration::from_secs(86_400);
    let limits = Limits { min_free: MinFree::Bytes(1 << 30), max_bytes: Some(2_000_000_000), max_age: Some(90 * day) };
    assert_eq!(config.cache_limits, limits);
    assert_eq!((config.split_refused_after, config.trust_local_clock), (Duration::from_secs(600), true));
    assert_eq!(config.status_listen, Some("[::1]:20204".parse().unwrap()));
    let defaults = load(groups).config;
    assert_eq!(defaults.status_listen, None);
    assert_eq!(defaults.cache_limits, Limits { min_free: MinFree::Ratio(0.05), max_bytes: None, max_age: None });
    assert_eq!((defaults.split_refused_after, defaults.trust_local_clock), (Duration::from_secs(3_600), false));

    let keys = "cache_min_free: 95%\ncache_max_bytes: 7\ncache_max_age: never\nsplit_refused_after: 0\n\
                trust_local_clock: perhaps\nstatus_listen: 20204\n";
    let said = faults(format!("{keys}{groups}")).join("\n");
    for part in [
        "1:17: cache_min_free: found \"95%\"; allowed is a share such as 5%, from 0% to 90%, or a size such as 500MB",
        "2:18: cache_max_bytes: found 7; allowed is a size such as 2GB, from 1MB",
        "3:16: cache_max_age: found \"never\"; allowed is a duration such as 30days, from 1m",
        "4:22: split_refused_after: found 0; allowed is a duration such as 1h, from 1s",
        "5:20: trust_local_clock: found \"perhaps\"; allowed is true or false",
        "6:16: status_listen: found 20204; allowed is an address with a port, such as 127.0.0.1:20204",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

/// The table of keys is what the book says, what the sample shows, and what holds without a key.
#[test]
fn every_key_is_said_once_and_everywhere_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/configuration.md")).unwrap();
    let reference = keys::reference();
    assert!(page.contains(&reference), "this belongs into docs/configuration.md:\n{reference}");
    let sample = std::fs::read_to_string(root.join("config/pattoo_agent_modbustcpd.yaml")).unwrap();
    let file = group("");
    let without = load(&format!("{OURS}{file}")).config;
    let settings = keys::settings(&without, usize::MAX);
    for Key { name, default, shown, .. } in &keys::TABLE {
        let line = |line: &str| line.trim_start_matches(['#', ' ']).starts_with(&format!("{name}:"));
        assert!(sample.lines().any(line), "{name} is not in the sample");
        assert_eq!(settings.contains(&format!("\n{name} ")), shown.is_some(), "{name}\n{settings}");
        let Some(shown) = shown else { continue };
        assert_eq!(shown(&without), *default, "{name}");
        if !default.starts_with('(') {
            assert_eq!(load(&format!("{name}: {default}\n{file}")).config, without, "{name}");
        }
    }
    assert_eq!(keys::NAMES.iter().collect::<BTreeSet<_>>().len(), keys::TABLE.len());
}

/// A file with these outputs, one on a line, and a place where files can be written.
fn with_outputs(outputs: &str, place: &Path) -> String {
    let lines = outputs.replace('\n', "\n  - ");
    group(&format!("outputs:\n  - {lines}\n")).replace("DIR", &place.display().to_string())
}

#[test]
fn outputs_are_read_with_their_defaults() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    let file = |name: &str, format, max_bytes, keep| {
        OutputKind::File(FileSettings { path: place.join(name), format, max_bytes, keep })
    };
    let sqlite = |path: PathBuf, max_age, max_bytes| {
        OutputKind::Sqlite(SqliteSettings { path, bounds: Bounds { max_age, max_bytes } })
    };
    let default = "/tmp/daemon/readings.sqlite";
    let hour = Duration::from_secs(3_600);
    let output = |name: &str, kind, start, split_refused_after| OutputConfig {
        name: name.to_owned(),
        kind,
        start,
        split_refused_after,
        max_backoff: Duration::from_secs(10),
        max_age: None,
    };
    let cases = [
        ("pattoo", vec![output("pattoo", OutputKind::Pattoo, Start::End, hour)]),
        ("{type: pattoo}", vec![output("pattoo", OutputKind::Pattoo, Start::End, hour)]),
        (
            "{type: pattoo, name: plant-7_B, start: beginning, split_refused_after: 90}",
            vec![output("plant-7_B", OutputKind::Pattoo, Start::Beginning, Duration::from_secs(90))],
        ),
        (
            "{type: file, path: DIR/a.jsonl}",
            vec![output("file", file("a.jsonl", FileFormat::Jsonl, 64_000_000, 10), Start::End, hour)],
        ),
        (
            "{type: file, path: DIR/a.CSV}",
            vec![output("file", file("a.CSV", FileFormat::Csv, 64_000_000, 10), Start::End, hour)],
        ),
        (
            "{type: file, path: DIR/log, format: csv, max_bytes: 64kB, keep: 0}",
            vec![output("file", file("log", FileFormat::Csv, 64_000, 0), Start::End, hour)],
        ),
        (
            "{type: file, path: DIR/a.csv, format: jsonl, max_bytes: 1GiB, keep: 1000, name: a}\npattoo",
            vec![
                output("a", file("a.csv", FileFormat::Jsonl, 1 << 30, 1_000), Start::End, hour),
                output("pattoo", OutputKind::Pattoo, Start::End, hour),
            ],
        ),
        ("sqlite", vec![output("sqlite", sqlite(default.into(), None, 1_000_000_000), Start::End, hour)]),
        (
            "{type: sqlite, path: DIR/a.db, max_age: 365days, max_bytes: 64MB}",
            vec![output(
                "sqlite",
                sqlite(place.join("a.db"), Some(Duration::from_secs(365 * 86_400)), 64_000_000),
                Start::End,
                hour,
            )],
        ),
    ];
    for (outputs, expected) in cases {
        let loaded = load(&with_outputs(outputs, place));
        assert_eq!(loaded.config.outputs, expected, "{outputs}");
        assert_eq!(loaded.warnings, [], "{outputs}");
    }
    assert_eq!(load(&group("")).config.outputs, [OutputConfig::default()]);
    // Wherever the key stands, it holds for the outputs that say nothing else.
    let file = with_outputs("pattoo\n{type: file, path: DIR/a, split_refused_after: 1m}", place);
    for file in [format!("{file}split_refused_after: 2h\n"), format!("split_refused_after: 2h\n{file}")] {
        let after: Vec<_> = load(&file).config.outputs.iter().map(|it| it.split_refused_after.as_secs()).collect();
        assert_eq!(after, [7_200, 60]);
    }
    assert_eq!(
        load("split_refused_after: 2h\n{}".replace("{}", &group("")).as_str()).config.outputs[0]
            .split_refused_after
            .as_secs(),
        7_200
    );
}

/// Each of `cases` has one fault, with this in its text; `DIR` stands for a directory that is there.
fn refused(cases: &[(&str, &str)]) {
    let place = tempfile::tempdir().unwrap();
    for (outputs, expected) in cases {
        let directory = place.path().display().to_string();
        let said = faults(group(&outputs.replace("DIR", &directory)));
        assert!(said.len() == 1 && said[0].contains(&expected.replace("DIR", &directory)), "{outputs}\n{said:#?}");
    }
}

#[test]
fn outputs_over_a_network_that_cannot_be_are_refused_with_their_place() {
    refused(&[
        ("outputs: [influxdb]", "outputs[0]: found a server without url; write url: http://server.example.net"),
        (
            "outputs: [{type: influxdb, url: 'http://tsdb.example.net'}]",
            "outputs[0]: found an output of type influxdb that does not say where in the server; write database (version 1)",
        ),
        (
            "outputs: [{type: influxdb, url: 'ftp://tsdb.example.net', database: a}]",
            "outputs[0].url: found \"ftp://tsdb.example.net\"; allowed is a URL such as http://",
        ),
        (
            "outputs: [{type: influxdb, url: 'http://me:secret@tsdb.example.net', database: a}]",
            "outputs[0].url: found a URL with a login in it; write username and password_file instead",
        ),
        (
            "outputs: [{type: influxdb, url: 'http://tsdb.example.net/?db=a', database: a}]",
            "outputs[0].url: found a URL with a ? or a # in it; its parameters have keys of their own",
        ),
        (
            "outputs: [{type: influxdb, url: 'http://tsdb.example.net/base#a', database: a}]",
            "outputs[0].url: found a URL with a ? or a # in it",
        ),
        (
            "outputs: [{type: influxdb, url: 'http://tsdb.example.net:65536', database: a}]",
            "outputs[0].url: found \"http://tsdb.example.net:65536\"; allowed is a URL such as http://",
        ),
        ("outputs: [{type: influxdb, url: 'http://tsdb.example.net:0', database: a}]", "with a port from 1 to 65535"),
        ("outputs: [{type: influxdb, url: 'http://tsdb.example.net:x/', database: a}]", "with a port from 1 to 65535"),
        ("outputs: [{type: influxdb, url: 'http://[2001:db8::1]:99999', database: a}]", "with a port from 1 to 65535"),
        (
            "outputs: [{type: influxdb, url: 'http://tsdb.example.net', database: a, org: b}]",
            "outputs[0].org: found org, which api v1 does not have",
        ),
        (
            "outputs: [{type: influxdb, url: 'http://tsdb.example.net', database: a, api: v4}]",
            "outputs[0].api: found \"v4\"; allowed is v1, v2 or v3",
        ),
        (
            "outputs: [{type: influxdb, url: 'http://tsdb.example.net', database: a, measurement: '{nam}'}]",
            "outputs[0].measurement: found \"{nam}\": there is no {nam}; there are {address}",
        ),
        (
            "outputs: [{type: influxdb, url: 'http://tsdb.example.net', database: a, tls: {ca: a.pem}}]",
            "outputs[0].tls: found tls, but the url is not one of https://",
        ),
        (
            "outputs: [{type: influxdb, url: 'https://tsdb.example.net', database: a, tls: {insecure: true}}]",
            "outputs[0].tls.insecure: found an unknown key",
        ),
        (
            "outputs: [{type: influxdb, url: 'https://tsdb.example.net', database: a, verify: false}]",
            "outputs[0].verify: found an unknown key",
        ),
        (
            "outputs: [{type: influxdb, url: 'http://tsdb.example.net', database: a, password_file: DIR/none, username: b}]",
            "outputs[0].password_file: found DIR/none; there is no such file",
        ),
        (
            "outputs: [{type: influxdb, url: 'http://tsdb.example.net', database: a, headers: {Host: b}}]",
            "found \"Host\"; allowed is the name of a header",
        ),
        (
            "outputs: [{type: influxdb, url: 'http://tsdb.example.net', database: a, proxy: {username: b}}]",
            "outputs[0].proxy: found proxy without a url",
        ),
        (
            "outputs: [{type: influxdb, url: 'http://tsdb.example.net', database: a, max_age: 1s}]",
            "outputs[0].max_age: found \"1s\"; allowed is a duration such as 30days, from 1m",
        ),
        (
            "outputs: [{type: influxdb, url: 'http://tsdb.example.net', database: a, timeout: 1h}]",
            "outputs[0].timeout: found \"1h\"; allowed is a duration such as 30s, from 1s to 10m",
        ),
        (
            "outputs: [{type: prometheus, url: 'https://mimir.example.net'}]",
            "outputs[0].url: found a URL without a path; write that of the endpoint, such as /api/v1/write (Prometheus)",
        ),
        (
            "outputs: [{type: prometheus, url: 'https://mimir.example.net/api/v1/push', labels: {__name__: a}}]",
            "found \"__name__\"; allowed is the name of a label: letters, digits and _",
        ),
        (
            "outputs: [{type: prometheus, url: 'https://mimir.example.net/api/v1/push', counter_suffix: '-total'}]",
            "outputs[0].counter_suffix: found \"-total\"; allowed is letters, digits, _ and :, such as _total",
        ),
        (
            "outputs: [{type: prometheus, url: 'https://mimir.example.net/api/v1/push', metric: '{tags.}'}]",
            "outputs[0].metric: found \"{tags.}\": there is no {tags.}; there are {address}",
        ),
        (
            "outputs: [{type: prometheus, url: 'https://mimir.example.net/api/v1/push', database: a}]",
            "outputs[0].database: found an unknown key",
        ),
        (
            "outputs: [{type: prometheus, url: 'https://mimir.example.net/api/v1/push', parameters: {db: [a]}}]",
            "outputs[0].parameters.db: found no value of a parameter; allowed is a text",
        ),
    ]);
}

#[test]
fn a_receiver_of_otlp_that_cannot_be_is_refused_with_its_place() {
    refused(&[
        (
            "outputs: [{type: otlp, url: 'http://192.0.2.10:4318', counters: rate}]",
            "outputs[0].counters: found \"rate\"; allowed is sum or gauge",
        ),
        (
            "outputs: [{type: otlp, url: 'http://192.0.2.10:4318', resource: {service.name: [a]}}]",
            "outputs[0].resource.service.name: found a list; allowed is a text",
        ),
        (
            "outputs: [{type: otlp, url: 'http://192.0.2.10:4318', attributes: {a: '{nam}'}}]",
            "outputs[0].attributes.a: found \"{nam}\": there is no {nam}; there are {address}",
        ),
        (
            "outputs: [{type: otlp, url: 'grpc://192.0.2.10:4317'}]",
            "outputs[0].url: found \"grpc://192.0.2.10:4317\"; allowed is a URL such as http://",
        ),
    ]);
}

#[test]
fn outputs_to_a_broker_that_cannot_be_are_refused_with_their_place() {
    let url = "outputs: [{type: mqtt, url: 'mqtt://192.0.2.10'";
    let cases = [
        ("outputs: [mqtt", "outputs[0]: found a server without url; write url: mqtt://server.example.net"),
        (
            "outputs: [{type: mqtt, url: 'http://a.example.net'}",
            "outputs[0].url: found \"http://a.example.net\"; allowed is a URL such as mqtt://",
        ),
        (
            "outputs: [{type: mqtt, url: 'mqtt://a.example.net/b'}",
            "outputs[0].url: found a URL with a path; write topic instead",
        ),
        ("version: 4", "outputs[0].version: found 4; allowed is 5 or 3.1.1"),
        ("version: 3.1", "outputs[0].version: found 3.1; allowed is 5 or 3.1.1"),
        ("client_id: ''", "outputs[0].client_id: found \"\"; allowed is a client id, not empty, on one line"),
        ("topic: 'a/{nam}'", "outputs[0].topic: found \"a/{nam}\": there is no {nam}; there are {address}"),
        ("topic: '{name}/#'", "outputs[0].topic: found \"{name}/#\": a topic has no '#' in it"),
        ("topic: '/{name}'", "outputs[0].topic: found \"/{name}\": it has a level without a name"),
        (
            "topic: '$SYS/{name}'",
            "outputs[0].topic: found \"$SYS/{name}\": topics that begin with $ are the broker's own",
        ),
        ("availability_topic: 'a/+'", "outputs[0].availability_topic: found \"a/+\": a topic has no '+' in it"),
        ("payload: xml", "outputs[0].payload: found \"xml\"; allowed is json, value or sparkplug"),
        ("messages: group", "outputs[0].messages: found \"group\"; allowed is point or device"),
        ("payload: value, messages: device", "outputs[0].payload: found payload: value with messages: device"),
        ("group_id: a", "outputs[0].group_id: found group_id without payload: sparkplug; give both"),
        (
            "payload: sparkplug, topic: a",
            "outputs[0].topic: found topic with payload: sparkplug, whose topics and retained messages its specification says; \
             names are set by group_id, edge_node_id, device_id and metric",
        ),
        (
            "payload: sparkplug, home_assistant: true",
            "outputs[0].home_assistant: found home_assistant with payload: sparkplug",
        ),
        (
            "payload: sparkplug, group_id: a/b",
            "outputs[0].group_id: found \"a/b\"; allowed is an id without /, + and #",
        ),
        ("payload: sparkplug, edge_node_id: ''", "outputs[0].edge_node_id: found \"\"; allowed is an id, not empty"),
        ("payload: sparkplug, metric: '{nam}'", "outputs[0].metric: found \"{nam}\": there is no {nam}"),
        ("retain: 1", "outputs[0].retain: found 1; allowed is true or false"),
        ("headers: {a: b}", "outputs[0].headers: found an unknown key"),
        ("home_assistant: 1", "outputs[0].home_assistant: found 1; allowed is true or false"),
        (
            "home_assistant: true, messages: device",
            "outputs[0].home_assistant: found home_assistant with messages: device",
        ),
        ("discovery_prefix: ha", "outputs[0].discovery_prefix: found discovery_prefix without home_assistant: true"),
        (
            "home_assistant: true, discovery_prefix: 'ha/'",
            "outputs[0].discovery_prefix: found \"ha/\": it has a level without a name",
        ),
        (
            "client_id: a}, {type: mqtt, name: b, url: 'mqtt://192.0.2.10', client_id: a",
            "outputs[1].type: found the client_id \"a\", which the output at",
        ),
    ];
    let whole: Vec<_> = cases
        .map(|(text, said)| {
            (if text.starts_with("outputs") { format!("{text}]") } else { format!("{url}, {text}}}]") }, said)
        })
        .into();
    refused(&whole.iter().map(|(text, said)| (&**text, *said)).collect::<Vec<_>>());
}

/// What holds where nothing is said, and what is shown of it.
#[test]
fn an_output_to_a_broker_needs_no_more_than_a_url() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("password"), "sesame\n").unwrap();
    let login = format!("username: plant, password_file: {}/password", place.path().display());
    for (outputs, port, rows) in [
        (
            "{type: mqtt, url: 'mqtt://192.0.2.10'}".to_owned(),
            1883,
            vec![
                ("version", "5"),
                ("topic", "modbus/{device}/{name}"),
                ("payload", "json"),
                ("messages", "point"),
                ("retain", "true"),
                ("client_id", "derived from the agent id"),
                ("availability_topic", "derived from the agent id"),
                ("timeout", "30s"),
            ],
        ),
        (
            format!("{{type: mqtt, url: 'mqtts://192.0.2.10', version: 3.1.1, messages: device, client_id: a, {login}}}"),
            8883,
            vec![
                ("version", "3.1.1"),
                ("topic", "modbus/{device}"),
                ("messages", "device"),
                ("retain", "false"),
                ("client_id", "a"),
                ("username", "plant"),
                ("password_file", "set (not shown)"),
            ],
        ),
        (
            "{type: mqtt, url: 'mqtt://192.0.2.10:1884', version: 5, payload: value, retain: false, availability_topic: a/b, home_assistant: true}".to_owned(),
            1884,
            vec![
                ("payload", "value"),
                ("retain", "false"),
                ("availability_topic", "a/b"),
                ("home_assistant", "true"),
                ("discovery_prefix", "homeassistant"),
            ],
        ),
        (
            "{type: mqtt, url: 'mqtt://192.0.2.10', payload: sparkplug}".to_owned(),
            1883,
            vec![
                ("payload", "sparkplug"),
                ("group_id", "modbus"),
                ("edge_node_id", "the client id"),
                ("device_id", "{device}"),
                ("metric", "{name}"),
                ("primary_host_id", "none"),
            ],
        ),
    ] {
        let Loaded { config, .. } = load(&group(&format!("outputs: [{outputs}]\n")));
        let OutputKind::Mqtt(settings) = &config.outputs[0].kind else { panic!("{outputs}") };
        assert_eq!(settings.network.server.port, port);
        let shown = config.outputs[0].shown();
        for (key, value) in rows {
            assert_eq!(shown.iter().find(|(known, _)| *known == key).map(|(_, value)| &**value), Some(value), "{key}");
        }
        assert!(!shown.iter().any(|(_, value)| value.contains("sesame")));
    }
}

#[test]
fn outputs_that_cannot_be_are_refused_with_their_place() {
    let cases = [
        ("outputs: []", "outputs: found a list; allowed is at least one output, such as [pattoo]"),
        ("outputs:", "outputs: found nothing; allowed is a list of outputs, such as [pattoo]"),
        ("outputs: pattoo", "outputs: found \"pattoo\"; allowed is a list of outputs, such as [pattoo]"),
        (
            "outputs: [7]",
            "outputs[0]: found 7; allowed is a type (pattoo, file, sqlite, influxdb, mqtt, prometheus, otlp) or a mapping with a type",
        ),
        ("outputs: [patoo]", "outputs[0]: found \"patoo\", an unknown type; did you mean \"pattoo\"?"),
        (
            "outputs: [kafka]",
            "outputs[0]: found \"kafka\", an unknown type; allowed are pattoo, file, sqlite, influxdb, mqtt, prometheus, otlp",
        ),
        (
            "outputs: [{name: a}]",
            "outputs[0]: found an output without type; allowed are pattoo, file, sqlite, influxdb, mqtt, prometheus, otlp",
        ),
        (
            "outputs: [{type: 1}]",
            "outputs[0].type: found 1; allowed is pattoo, file, sqlite, influxdb, mqtt, prometheus, otlp",
        ),
        (
            "outputs: [{type: pattoo, pth: /x}]",
            "outputs[0].pth: found an unknown key; allowed are type, name, start, split_refused_after, max_backoff, max_age",
        ),
        (
            "outputs: [{type: pattoo, path: /x}]",
            "outputs[0].path: found an unknown key; allowed are type, name, start, split_refused_after, max_backoff, max_age",
        ),
        (
            "outputs: [{type: file, path: DIR/a, kep: 1}]",
            "outputs[0].kep: found an unknown key; did you mean \"keep\"?",
        ),
        ("outputs: [{type: pattoo, start: now}]", "outputs[0].start: found \"now\"; allowed is end or beginning"),
        (
            "outputs: [{type: pattoo, split_refused_after: 0}]",
            "outputs[0].split_refused_after: found 0; allowed is a duration such as 1h, from 1s",
        ),
        (
            "outputs: [{type: pattoo, name: 'a b'}]",
            "outputs[0].name: found \"a b\"; allowed is a name of letters, digits, _ and -, at most 64 of them",
        ),
        ("outputs: [{type: pattoo, name: ''}]", "outputs[0].name: found \"\"; allowed is a name of letters"),
        ("outputs: [{type: pattoo, name: 7}]", "outputs[0].name: found 7; allowed is a name of letters"),
        (
            "outputs: [file]",
            "outputs[0]: found an output of type file without a path; write {type: file, path: /var/lib/pattoo/",
        ),
        (
            "outputs: [{type: file}]",
            "outputs[0]: found an output of type file without a path; write {type: file, path:",
        ),
        (
            "outputs: [{type: file, path: a.csv}]",
            "outputs[0].path: found \"a.csv\"; allowed is the whole path of a file",
        ),
        ("outputs: [{type: file, path: DIR/}]", "allowed is the whole path of a file, such as /var/lib/pattoo/"),
        ("outputs: [{type: file, path: /}]", "outputs[0].path: found \"/\"; allowed is the whole path of a file"),
        ("outputs: [{type: file, path: DIR/..}]", "allowed is the whole path of a file, such as"),
        (
            "outputs: [{type: file, path: DIR/a, format: xml}]",
            "outputs[0].format: found \"xml\"; allowed is jsonl or csv",
        ),
        (
            "outputs: [{type: file, path: DIR/a, max_bytes: 10kB}]",
            "outputs[0].max_bytes: found \"10kB\"; allowed is a size such as 64MB, from 64kB",
        ),
        (
            "outputs: [{type: file, path: DIR/a, keep: 1001}]",
            "outputs[0].keep: found 1001; allowed is a whole number from 0 to 1000",
        ),
        (
            "outputs: [pattoo, {type: pattoo, name: b}]",
            "4:26: outputs[1].type: found a second output of type pattoo, the first is at 4:11; allowed is one",
        ),
        (
            "outputs: [{type: file, path: DIR/a}, {type: file, path: DIR/b}]",
            "outputs[1].type: found \"file\", the name of the output at 4:18 too; give one of the two another name",
        ),
        (
            "outputs: [pattoo, {type: file, name: pattoo, path: DIR/b}]",
            "4:38: outputs[1].name: found \"pattoo\", the name of the output at 4:11 too",
        ),
        (
            "outputs: [{type: file, path: DIR/a}, {type: file, name: b, path: DIR/./a}]",
            "the path of the output at 4:30 too; allowed is a file for each output",
        ),
        (
            "outputs: [{type: file, path: /tmp/a}, {type: file, name: b, path: /tmp/../tmp/a}]",
            "the path of the output at 4:30 too; allowed is a file for each output",
        ),
    ];
    refused(&cases);
    // All of them at once, in a file that is otherwise the Python agent's: outputs is a key of ours.
    let said = faults(group("comment: x\noutputs: [mqtt, {type: file, path: a, keep: -1, x: 1}]\n"));
    assert_eq!(said.len(), 5, "{said:#?}");
}

#[test]
fn databases_that_cannot_be_are_refused_with_their_place() {
    let cases = [
        (
            "outputs: [sqlite, {type: sqlite, name: b}]",
            "outputs[1].type: found /tmp/daemon/readings.sqlite, the path of the output at 4:11 too; allowed is a file for each",
        ),
        (
            "outputs: [{type: sqlite, max_bytes: 63MB}]",
            "outputs[0].max_bytes: found \"63MB\"; allowed is a size such as 1GB, from 64MB",
        ),
        (
            "outputs: [{type: sqlite, max_age: 59m}]",
            "outputs[0].max_age: found \"59m\"; allowed is a duration such as 365days, from 1h",
        ),
        (
            "outputs: [{type: sqlite, path: a.db}]",
            "outputs[0].path: found \"a.db\"; allowed is the whole path of a file, such as /var/lib/pattoo/readings.sqlite",
        ),
    ];
    for (outputs, expected) in cases {
        let said = faults(group(outputs));
        assert!(said.len() == 1 && said[0].contains(expected), "{outputs}\n{said:#?}");
    }
}

#[test]
fn what_speaks_against_the_place_of_a_file_is_a_warning() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("file"), "").unwrap();
    let cases = [
        ("DIR/none/a.csv", "cannot be used: No such file or directory"),
        ("DIR/file/a.csv", "/file/a.csv; "),
        ("DIR", "it is there and no regular file, so nothing can be written to it"),
        ("/tmp/readings.csv", "its directory: mode 1777 lets every user of this machine write to it"),
    ];
    for (path, expected) in cases {
        let loaded = load(&with_outputs(&format!("{{type: file, path: {path}}}"), place.path()));
        let said: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert!(said.len() == 1 && said[0].contains(expected), "{path}: {said:?}");
    }
}

#[test]
fn no_two_shards_write_to_one_file() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    let config =
        load(&with_outputs("{type: file, path: DIR/a.b.csv}\n{type: file, name: x, path: DIR/log}", place)).config;
    let files = |shard: &str| -> Vec<_> {
        config.clone().of_shard(shard.parse().unwrap()).outputs.iter().map(|it| it.target(&config)).collect()
    };
    let paths = |names: [&str; 2]| names.map(|name| place.join(name).display().to_string());
    assert_eq!(files("0/1"), paths(["a.b.csv", "log"]));
    assert_eq!(files("0/4"), paths(["a.b.csv", "log"]));
    assert_eq!(files("3/4"), paths(["a.b_shard_3.csv", "log_shard_3"]));
}

#[test]
fn anchors_and_merge_keys_work() {
    let file = "\
polling_groups:
  - &base
    group_name: one
    ip_devices: [a]
    input_registers: [30001]
  - <<: *base
    group_name: two
    ip_devices: [b]
";
    assert_eq!(load(file).config.points.len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn no_damage_to_a_configuration_makes_it_panic(cuts in prop::collection::vec((0usize..1200, 0usize..40, "[-:{}\\[\\],&*!|>'\"%#a0 \n\t]{0,6}"), 1..6)) {
        let mut text = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pattoo_agent_modbustcpd.yaml")).unwrap();
        text.retain(|&byte| byte != b'#');
        for (at, length, insert) in cuts {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, insert.bytes());
        }
        let directory = directory(&text);
        match config::load(directory.path()) {
            Ok(loaded) => prop_assert!(!loaded.config.points.is_empty()),
            Err(error) => prop_assert!(!error.faults.is_empty()),
        }
    }
}

/// What one register of a group is, given as it stands in the list.
fn points(table: &str, registers: &str, of_the_group: &str) -> Vec<(String, Format, points::Kind)> {
    let file = format!("polling_groups:\n  - ip_devices: [a]\n{of_the_group}    {table}: [{registers}]\n");
    let points = load(&file).config.points;
    points.into_iter().map(|point| (point.key(), point.format, point.kind)).collect()
}

#[test]
fn every_type_is_what_it_is_called_and_has_its_own_key() {
    let word = |scale| Format::Word(scale);
    let plain = |kind| Format::Typed(Typed::plain(kind).into());
    let cases = [
        ("40001", "40001", word(Scale::Times(1.0)), points::Kind::Integer),
        ("{address: 40001, type: uint16}", "40001", word(Scale::Times(1.0)), points::Kind::Integer),
        ("{address: 40001, type: uint16, multiplier: 0}", "40001", word(Scale::Raw), points::Kind::Integer),
        ("{address: 40001, type: int16}", "40001", plain(Kind::Int16), points::Kind::Integer),
        ("{address: 40001, type: uint8}", "40001_low", plain(Kind::Uint8(Byte::Low)), points::Kind::Integer),
        (
            "{address: 40001, type: int8, byte: high}",
            "40001_high",
            plain(Kind::Int8(Byte::High)),
            points::Kind::Integer,
        ),
        ("{address: 40001, type: uint32}", "40001", plain(Kind::Uint32), points::Kind::Integer),
        ("{address: 40001, type: Float32}", "40001", plain(Kind::Float32), points::Kind::Float),
        ("{address: 40001, type: float64}", "40001", plain(Kind::Float64), points::Kind::Float),
        ("{address: 40001, type: bcd32}", "40001", plain(Kind::Bcd(2)), points::Kind::Integer),
        ("{address: 40001, type: uint32, counter: true}", "40001", plain(Kind::Uint32), points::Kind::Counter),
        ("{address: 40001, type: uint64, counter: true}", "40001", plain(Kind::Uint64), points::Kind::Counter64),
        ("{address: 40001, type: float32, counter: true}", "40001", plain(Kind::Float32), points::Kind::Counter64),
        ("{address: 40001, counter: true}", "40001", word(Scale::Times(1.0)), points::Kind::Counter),
        ("{address: 40001, bit: 3}", "40001_bit_3", plain(Kind::Bits { first: 3, last: 3 }), points::Kind::Integer),
        (
            "{address: 40001, bits: 4..7}",
            "40001_bits_4_7",
            plain(Kind::Bits { first: 4, last: 7 }),
            points::Kind::Integer,
        ),
    ];
    for (register, key, format, kind) in cases {
        let expected = vec![(format!("holding_register_{key}"), format, kind)];
        assert_eq!(points("holding_registers", register, ""), expected, "{register}");
    }
    assert_eq!(points("coils", "1, 00010", "")[1].0, "coil_00010", "a coil's number is decimal, leading zeros or not");
    assert_eq!(points("discrete_inputs", "10001", "")[0].0, "discrete_input_10001");
}

#[test]
fn a_register_may_say_how_its_number_becomes_a_value() {
    let register = "{address: 40010, type: int16, order: BA, multiplier: 0.5, offset: -40, scale_register: 40001, \
                    unavailable: [0x8000, -1], minimum: -50, maximum: 150.5}";
    let typed = Typed {
        kind: Kind::Int16,
        order: Order::Dcba,
        scale: Scale::Times(0.5),
        scale_address: Some(0),
        offset: -40.0,
        unavailable: vec![0x8000, 0xFFFF],
        minimum: Some(-50.0),
        maximum: Some(150.5),
    };
    assert_eq!(points("holding_registers", register, "")[0].1, Format::Typed(typed.into()));
}

#[test]
fn what_is_no_value_of_a_float_is_said_as_a_number_and_of_an_integer_as_what_is_in_the_registers() {
    for (register, pattern) in [
        ("{address: 40001, type: int16, unavailable: -32768}", 0x8000),
        ("{address: 40001, type: int16, unavailable: 0x8000}", 0x8000),
        ("{address: 40001, type: float16, unavailable: -999.0}", 0xE3CE),
        ("{address: 40001, type: float32, unavailable: -999}", 0xC479_C000),
        ("{address: 40001, type: float64, unavailable: -999.0}", 0xC08F_3800_0000_0000),
    ] {
        let Format::Typed(typed) = points("holding_registers", register, "")[0].1.clone() else { panic!("{register}") };
        assert_eq!(typed.unavailable, [pattern], "{register}");
    }
}

#[test]
fn what_a_group_says_holds_for_its_registers_unless_they_say_otherwise() {
    let group = "    type: int32\n    order: CDAB\n    unavailable: sunspec\n";
    let found = points("input_registers", "30001, {address: 30003, type: uint16, order: AB}", group);
    let both = Typed { order: Order::Cdab, unavailable: vec![0x8000_0000], ..Typed::plain(Kind::Int32) };
    let other = Typed { scale: Scale::Times(1.0), unavailable: vec![0xFFFF], ..Typed::plain(Kind::Uint16) };
    assert_eq!(
        found.iter().map(|(_, format, _)| format.clone()).collect::<Vec<_>>(),
        [Format::Typed(both.into()), Format::Typed(other.into())]
    );
}

/// A18: SunSpec's accumulators say 0 for "no value"; a 0 in a counter would be a spike of the whole meter.
#[test]
fn a_counter_of_a_sunspec_device_that_says_0_has_no_value() {
    let cases: [(&str, &[u64]); 9] = [
        ("type: uint16, counter: true", &[0, 0xFFFF]),
        ("type: uint32, counter: true", &[0, 0xFFFF_FFFF]),
        ("type: uint64, counter: true", &[0, u64::MAX]),
        ("type: uint32", &[0xFFFF_FFFF]),
        ("type: uint32, counter: false", &[0xFFFF_FFFF]),
        ("type: int32, counter: true", &[0x8000_0000]),
        ("type: float32, counter: true", &[]),
        ("type: uint32, counter: true, unavailable: 7", &[7]),
        ("type: uint32, counter: true, unavailable: [9, 7, 9]", &[7, 9]),
    ];
    for (keys, patterns) in cases {
        let register = format!("{{address: 40001, {keys}}}");
        let of_register = format!("{{address: 40001, unavailable: sunspec, {keys}}}");
        let both = [points("holding_registers", &register, "    unavailable: sunspec\n")];
        let own = (!keys.contains("unavailable")).then(|| points("holding_registers", &of_register, ""));
        for found in both.into_iter().chain(own) {
            let Format::Typed(typed) = &found[0].1 else { panic!("{keys}") };
            assert_eq!(typed.unavailable, patterns, "{keys}");
        }
    }
}

/// A17: what cannot be read by one request with its scale register is told before it costs anything.
#[test]
fn values_too_far_from_their_scale_register_are_doubted() {
    let far = |values: &str, keys: &str, span: u32, most: u16| {
        Some(format!(
            "found {values} too far from scale_register to be read at once ({keys}): the two span up to {span} registers, \
             and one request to a may have {most}"
        ))
    };
    let at = |number: u32, kind: &str| format!("{{address: {number}, type: {kind}, scale_register: 40001}}");
    let cases = [
        ("", at(40_125, "int16"), None),
        ("", at(40_124, "uint32"), None),
        ("", at(40_126, "int16"), far("1 value", "holding_register_40126", 126, 125)),
        ("", at(40_125, "uint32"), far("1 value", "holding_register_40125", 126, 125)),
        ("max_registers: 20", at(40_021, "int16"), far("1 value", "holding_register_40021", 21, 20)),
        ("max_registers: 20", at(40_020, "int16"), None),
        (
            "",
            "{address: 40126-40127, type: int16, scale_register: 40001}, {address: 40200, bit: 3, scale_register: 40001}".to_owned(),
            far("3 values", "holding_register_40126, holding_register_40127, holding_register_40200_bit_3", 200, 125),
        ),
        ("", "{address: 40001, type: int16, scale_register: 40300}".to_owned(), far("1 value", "holding_register_40001", 300, 125)),
    ];
    for (settings, registers, said) in cases {
        let file = format!(
            "devices: {{a: {{{settings}}}}}\npolling_groups:\n  - ip_devices: [b, a]\n    unit: 1\n    holding_registers: [{registers}]\n"
        );
        let warnings: Vec<_> = load(&file).warnings.iter().map(|warning| warning.message.clone()).collect();
        // The device that takes the least is named; of those that take as many the first one.
        let said: Vec<_> = said
            .into_iter()
            .map(|said| if settings.is_empty() { said.replace("to a may", "to b may") } else { said })
            .collect();
        assert_eq!(warnings.len(), said.len(), "{registers}: {warnings:#?}");
        assert!(warnings.iter().zip(&said).all(|(warning, said)| warning.starts_with(said)), "{warnings:#?} {said:#?}");
    }
}

#[test]
fn runs_of_registers_are_spelled_as_a_range_or_with_a_count() {
    let cases = [
        ("input_registers", "30001-30003", "30001 30002 30003"),
        ("input_registers", "{address: 30001-30004, type: uint32}", "30001 30003"),
        ("input_registers", "{address: 365533, type: float64, count: 1}", "365533"),
        ("input_registers", "{address: 30001, type: uint64, count: 3}", "30001 30005 30009"),
        ("discrete_inputs", "{address: 10001, count: 2}, 10005-10006", "10001 10002 10005 10006"),
        ("coils", "1-3", "00001 00002 00003"),
    ];
    for (table, registers, numbers) in cases {
        let keys = points(table, registers, "").into_iter().map(|(key, ..)| key.rsplit_once('_').unwrap().1.to_owned());
        assert_eq!(keys.collect::<Vec<_>>().join(" "), numbers, "{registers}");
    }
}

#[test]
fn what_no_register_can_be_is_told_with_its_place() {
    let cases = [
        ("{address: 40001, type: flaot32}", "found \"flaot32\", which is no type; did you mean \"float32\"?"),
        ("{address: 40001, type: 32}", "found 32; allowed is one of uint16, int16,"),
        ("{address: 40001, order: ACBD}", "allowed is ABCD (the default), DCBA, BADC or CDAB"),
        ("{address: 40001, bit: 16}", "found 16; allowed is a bit from 0 to 15"),
        ("{address: 40001, bits: 7..4}", "allowed is a bit from 0 to 15"),
        ("{address: 40001, bit: 1, type: int16}", "found type and bit; allowed is one of them"),
        ("{address: 40001, byte: low}", "found byte without a type of one byte"),
        ("{address: 40001, unavailable: 70000}", "found a number that a value of this type cannot have"),
        ("{address: 40001, type: int16, unavailable: -32769}", "found a number that a value of this type cannot have"),
        ("{address: 40001, unavailable: [none]}", "allowed is sunspec, a number such as 0x8000"),
        ("{address: 40001, scale_register: 30001}", "it is the number of one of the input registers"),
        ("{address: 40001, offset: .inf}", "found inf; allowed is a finite number below 1e29"),
        ("{address: 40001, minimum: 5, maximum: 4}", "found 5, which is above the maximum of 4"),
        ("{address: 40001, counter: 1}", "found 1; allowed is true or false"),
        ("{address: 40001, count: 0}", "allowed is how many values follow each other, from 1 to 65536"),
        ("{address: 40001-40004, count: 2}", "found a range and a count; allowed is one of them"),
        (
            "{address: 40001-40003, type: uint32}",
            "found a range of 3 registers; allowed are whole values of 2 registers",
        ),
        ("{address: 465536, type: uint32}", "found a value that goes on behind the end of the holding registers"),
        ("{address: 465530, count: 8}", "found a run of values that goes on behind the end of the holding registers"),
        ("40010-40001", "allowed is a range within 40001 to 49999 or 400001 to 465536, the smaller number first"),
        ("40001-465536", "allowed is a range within"),
        ("{address: 40001, type: int16}, 40001", "found a point that would be one chart with the one at 3:35"),
    ];
    for (register, said) in cases {
        let file = format!("polling_groups:\n  - ip_devices: [a]\n    holding_registers: [{register}]\n{OURS}");
        let found = faults(&file);
        assert!(found.len() == 1 && found[0].contains(said), "{register}: {found:#?}");
        assert!(found[0].starts_with("pattoo_agent_modbustcpd.yaml:3:"), "{register}: {found:#?}");
    }
    let bits =
        "polling_groups:\n  - ip_devices: [a]\n    coils: [0, {address: 1, multiplier: 2}]\n    discrete_inputs: [1]\n";
    let found = faults(bits).join("\n");
    for said in
        ["found 0; allowed is 1 to 65536", "found a key that coils do not have", "found 1; allowed is 10001 to 19999"]
    {
        assert!(found.contains(said), "{said}: {found}");
    }
}

#[test]
fn whatever_is_wrong_with_a_register_is_told_at_once() {
    let register =
        "{address: 40001, type: x, order: x, scale_register: x, offset: x, minimum: x, maximum: x, unavailable: x}";
    let found = faults(format!("polling_groups:\n  - ip_devices: [a]\n    holding_registers: [{register}]\n{OURS}"));
    let keys = ["type", "order", "scale_register", "offset", "minimum", "maximum", "unavailable"];
    for key in keys {
        let told =
            found.iter().filter(|fault| fault.contains(&format!("holding_registers[0].{key}: found \"x\""))).count();
        assert_eq!(told, 1, "{key}: {found:#?}");
    }
    assert_eq!(found.len(), keys.len(), "{found:#?}");
}

#[test]
fn what_is_read_together_must_fit_into_one_request() {
    let file = |registers: &str| {
        format!("polling_groups:\n  - ip_devices: [a]\n    together: true\n    holding_registers: [{registers}]\n")
    };
    let points = load(&file("40001, 40124, {address: 40010, scale_register: 40125}")).config.points;
    assert!(points.iter().all(|point| point.together == Some(0)));
    for registers in
        ["40001, 40126", "40001, {address: 40125, type: uint32}", "40002, {address: 40010, scale_register: 40127}"]
    {
        let found = faults(file(registers)).join("\n");
        assert!(
            found.starts_with("pattoo_agent_modbustcpd.yaml:3:15:") && found.contains("span 126 places"),
            "{found}"
        );
    }
}

#[test]
fn a_count_in_every_line_is_no_way_to_fill_the_memory() {
    let lines = "{address: 400001, count: 65536}, ".repeat(40);
    let found = faults(format!("polling_groups:\n  - ip_devices: [a]\n    holding_registers: [{lines}]\n"));
    assert!(found[0].contains("found more points than the 1000000 that are allowed"), "{found:#?}");
}

#[test]
fn parts_of_one_register_are_charts_of_their_own_and_so_are_a_register_and_its_counter() {
    let registers = "40001, {address: 40001, bit: 0}, {address: 40001, bit: 1}, {address: 40001, bits: 0..1}, \
                     {address: 40001, type: uint8}, {address: 40001, type: uint8, byte: high}, {address: 40001, counter: true}";
    assert_eq!(points("holding_registers", registers, "").len(), 7);
}

#[test]
fn the_groups_in_the_book_are_what_it_says() {
    let page = page("points.md");
    let section = page.split("## What can be read").nth(1).unwrap();
    let yaml = section.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let Loaded { config, warnings } = load(yaml);
    assert_eq!(warnings, []);
    assert_eq!(config.points.len(), 2 * 7 + 5 + 12);
    let named = ["input_register_30001", "holding_register_40010_bit_3", "coil_00001", "discrete_input_10001"];
    for key in named {
        assert!(section.contains(key) && config.points.iter().any(|point| point.key() == key), "{key}");
    }
}

/// An output that knows points by names is told apart from a configuration in which two have one.
#[test]
fn points_that_an_output_could_not_tell_apart_are_refused() {
    let text = |output: &str, names: &str| {
        format!("outputs: [{output}]\npolling_groups:\n  - {{ip_devices: [m1, m2], input_registers: {names}}}\n")
    };
    let database = "{type: influxdb, url: 'http://192.0.2.10', database: plant";
    let said = faults(text(&format!("{database}, tags: {{device: ''}}}}"), "{30001: u}"));
    assert_eq!(
        said,
        [
            "pattoo_agent_modbustcpd.yaml: outputs: influxdb: u (input_register_30001) of m1 unit 0 and u (input_register_30001) \
          of m2 unit 0 would both be modbus,group=group\\ 1,unit=0 u, so that one value takes the place of the other; give \
          them names of their own, or the output a template that tells them apart"
        ]
    );
    load(&text(&format!("{database}}}"), "{30001: u, 30002: i}"));
    let broker = "{type: mqtt, url: 'mqtt://192.0.2.10'";
    let said = faults(text(&format!("{broker}, topic: 'a/{{group}}/{{name}}'}}"), "{30001: u}"));
    assert!(said.len() == 1 && said[0].contains("would both be a/group 1/u, so that"), "{said:?}");
    let said = faults(text(&format!("{broker}, payload: sparkplug, device_id: plc}}"), "{30001: u}"));
    assert!(said.len() == 1 && said[0].contains("would both be plc/u, so that"), "{said:?}");
    load(&text(&format!("{broker}}}"), "{30001: u, 30002: i}"));
}

/// No reading of them would ever be written.
#[test]
fn points_that_an_output_has_no_name_for_are_refused() {
    for (output, expected) in [
        (
            "{type: influxdb, url: 'http://192.0.2.10', database: plant, field: '{tags.x}'}",
            "outputs: influxdb: no value of 温度 (input_register_30001) of m1 unit 0 could be written, because its measurement or",
        ),
        (
            "{type: prometheus, url: 'http://192.0.2.10/api/v1/write', metric: '{name}'}",
            "outputs: prometheus: no value of 温度 (input_register_30001) of m1 unit 0 could be written, because nothing of its",
        ),
        (
            "{type: otlp, url: 'http://192.0.2.10:4318', metric: '1.{name}'}",
            "outputs: otlp: no value of 温度 (input_register_30001) of m1 unit 0 could be written, because its metric has no name",
        ),
    ] {
        let said = faults(format!(
            "outputs: [{output}]\npolling_groups:\n  - {{ip_devices: [m1], input_registers: {{30001: 温度}}}}\n"
        ));
        assert!(said.len() == 1 && said[0].contains(expected), "{said:#?}");
    }
}

/// As written by people, by other programs and by editors of another system.
#[test]
fn urls_and_secrets_are_understood_however_they_are_written() {
    for (url, host, port, base) in [
        ("HTTP://TSDB.example.net./Base/", "TSDB.example.net.", 80, "/Base"),
        ("http://tsdb.example.net:8086", "tsdb.example.net", 8086, ""),
        ("http://[2001:db8::1]", "2001:db8::1", 80, ""),
        ("http://[fe80::1%25eth0]:65535/a%20b", "fe80::1%eth0", 65_535, "/a%20b"),
    ] {
        let directory = directory(format!(
            "outputs: [{{type: influxdb, url: '{url}', database: a, token_file: token}}]\n{}",
            group("")
        ));
        std::fs::write(directory.path().join("token"), "\u{feff}geheim\r\n").unwrap();
        let loaded = config::load(directory.path()).unwrap();
        let OutputKind::Influx(settings) = &loaded.config.outputs[0].kind else { panic!() };
        let Network { server, base: of_url, token, .. } = &settings.network;
        assert_eq!((&*server.host, server.port, &**of_url), (host, port, base), "{url}");
        assert_eq!(token.as_ref().unwrap().reveal(), "geheim");
        assert!(InfluxTarget::new(settings).is_some(), "{url}");
    }
    let proxy = "{url: 'http://192.0.2.11', password_file: token}";
    let directory = directory(format!(
        "outputs: [{{type: influxdb, url: 'http://192.0.2.10', database: a, proxy: {proxy}}}]\n{}",
        group("")
    ));
    std::fs::write(directory.path().join("token"), "geheim").unwrap();
    let said = config::load(directory.path()).unwrap_err().to_string();
    assert!(said.contains("outputs[0].proxy.password_file: found password_file without username"), "{said}");
}

/// The book's example of an InfluxDB is a configuration, and its line is what two readings become.
#[test]
fn the_influxdb_in_the_book_is_what_it_says() {
    let page = page("outputs.md");
    let section = page.split("## InfluxDB").nth(1).unwrap();
    let yaml = section.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let line = section.split("```\n").nth(2).unwrap().split("```").next().unwrap();
    let Loaded { config, warnings } = load(yaml);
    assert_eq!(warnings, []);
    let OutputKind::Influx(settings) = &config.outputs[0].kind else { panic!("{:?}", config.outputs) };
    let at = Timestamp::from_millis(1_795_943_592_000);
    let reading = |point, value| Reading { point: PointId(point), at, value: Value::Float(value) };
    let table = Arc::new(point_table::nameless(&config));
    let readings = [reading(0, 230.4), reading(1, 231.0)];
    let encoded = InfluxEncode::new(InfluxSettings::clone(settings)).encode(&table, &readings, 1 << 20, at);
    assert_eq!(std::str::from_utf8(&encoded.body.unwrap()).unwrap(), line);
}

/// The book's example of a broker is a configuration, and its lines are what a subscriber prints of two readings.
#[test]
fn the_broker_in_the_book_is_what_it_says() {
    let page = page("outputs.md");
    let section = page.split("## MQTT\n").nth(1).unwrap();
    let yaml = section.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let lines = section.split("```\n").nth(2).unwrap().split("```").next().unwrap();
    let Loaded { config, warnings } = load(yaml);
    assert_eq!(warnings, []);
    let OutputKind::Mqtt(settings) = &config.outputs[0].kind else { panic!("{:?}", config.outputs) };
    let at = Timestamp::from_millis(1_795_943_592_000);
    let reading = |point, value| Reading { point: PointId(point), at, value: Value::Float(value) };
    let table = Arc::new(point_table::nameless(&config));
    let mut encode = MqttEncode::new(MqttSettings::clone(settings));
    let encoded = encode.encode(&table, &[reading(0, 230.4), reading(1, 231.0)], 1 << 20, at);
    let printed = parse(&encoded.body.unwrap())
        .into_iter()
        .map(|message| format!("{} {}\n", message.topic, std::str::from_utf8(&message.payload).unwrap()));
    assert_eq!(printed.collect::<String>(), lines);
}

/// The book's example of an edge node is a configuration, and what it says of topics is what a broker gets.
#[test]
fn the_edge_node_in_the_book_is_what_it_says() {
    let page = page("outputs.md");
    let section = page.split("## Sparkplug B\n").nth(1).unwrap();
    let yaml = section.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let lines = section.split("```\n").nth(2).unwrap().split("```").next().unwrap();
    let Loaded { config, warnings } = load(yaml);
    assert_eq!(warnings, []);
    let OutputKind::Mqtt(settings) = &config.outputs[0].kind else { panic!("{:?}", config.outputs) };
    let sparkplug = settings.sparkplug.clone().unwrap();
    let at = Timestamp::from_millis(1_795_943_592_000);
    let reading = |point, value| Reading { point: PointId(point), at, value: Value::Float(value) };
    let table = Arc::new(point_table::nameless(&config));
    let mut encode = SparkplugEncode::new(sparkplug.clone());
    let body = encode.encode(&table, &[reading(0, 230.4), reading(1, 231.0)], 1 << 20, at).body.unwrap();
    let identity = Identity::new(settings, "", "mqtt");
    let mut node = EdgeNode::new(sparkplug, identity.edge_node_id, Plant::default());
    node.will(at);
    let messages = node.begin(Some(&body), at).into_iter().chain(node.post(&body, at));
    let said = (0..).zip(messages).map(|(seq, message)| format!("{} seq {seq}\n", message.topic));
    assert_eq!(said.collect::<String>(), lines);
}

/// The book's example of a Prometheus is a configuration, and its lines are what two readings become.
#[test]
fn the_prometheus_in_the_book_is_what_it_says() {
    let page = page("outputs.md");
    let section = page.split("## Prometheus\n").nth(1).unwrap();
    let yaml = section.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let lines = section.split("```\n").nth(2).unwrap().split("```").next().unwrap();
    let Loaded { config, warnings } = load(yaml);
    assert_eq!(warnings, []);
    let OutputKind::Prometheus(settings) = &config.outputs[0].kind else { panic!("{:?}", config.outputs) };
    let at = Timestamp::from_millis(1_795_943_592_000);
    let reading = |point, value| Reading { point: PointId(point), at, value: Value::Float(value) };
    let table = Arc::new(point_table::nameless(&config));
    let readings = [reading(0, 230.4), reading(1, 231.0)];
    let mut encode = SampleEncode::new(PrometheusSettings::clone(settings), Pace::default());
    let text = encode.set_aside(&table, &readings).body.unwrap();
    assert_eq!(std::str::from_utf8(&text).unwrap(), format!("{lines}# EOF\n"));
}

/// The book's example of a collector is a configuration, and its lines are what two readings become.
#[test]
fn the_collector_in_the_book_is_what_it_says() {
    let page = page("outputs.md");
    let section = page.split("## OpenTelemetry\n").nth(1).unwrap();
    let yaml = section.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let lines = section.split("```\n").nth(2).unwrap().split("```").next().unwrap();
    let Loaded { config, warnings } = load(yaml);
    assert_eq!(warnings, []);
    let OutputKind::Otlp(settings) = &config.outputs[0].kind else { panic!("{:?}", config.outputs) };
    let at = Timestamp::from_millis(1_795_943_592_000);
    let table = Arc::new(point_table::nameless(&config));
    let readings = [
        Reading { point: PointId(0), at, value: Value::Float(230.4) },
        Reading { point: PointId(1), at, value: Value::Integer(71_812) },
    ];
    let otlp = Otlp::new(OtlpSettings::clone(settings), "4c", "agent.example.net");
    let text = SampleEncode::new(otlp, Pace::default()).set_aside(&table, &readings).body.unwrap();
    let request: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let line = |metric: &serde_json::Value| {
        let kind = if metric["sum"].is_null() { "gauge" } else { "sum" };
        let point = &metric[kind]["dataPoints"][0];
        assert_eq!(point["timeUnixNano"], "1795943592000000000");
        let attributes = point["attributes"].as_array().unwrap().iter();
        let attributes =
            attributes.map(|one| format!("{}={}", one["key"].as_str().unwrap(), one["value"]["stringValue"]));
        let attributes = attributes.collect::<Vec<_>>().join(",");
        let text = |key: &str| metric[key].as_str().unwrap();
        format!("{} [{}] {kind} {{{attributes}}} {}\n", text("name"), text("unit"), point["asDouble"].as_f64().unwrap())
    };
    let metrics = request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
    assert_eq!(metrics.iter().map(line).collect::<String>(), lines);
}

#[test]
fn the_port_of_grpc_is_warned_of() {
    let said = |port: u16| warnings(&group(&format!("outputs: [{{type: otlp, url: 'http://192.0.2.10:{port}'}}]")));
    assert!(
        said(4317).len() == 1 && said(4317)[0].contains("gRPC as a rule; over HTTP it is 4318"),
        "{:?}",
        said(4317)
    );
    assert_eq!(said(4318), [""; 0]);
}

/// What was meant to protect something must not be passed over, though the file is shared with others.
#[test]
fn a_pattoo_server_is_reached_by_url_and_unknown_keys_of_security_are_errors() {
    let with = |api: &str| {
        let directory = directory(group(""));
        std::fs::write(directory.path().join("pattoo.yaml"), format!("{PATTOO}pattoo_agent_api: {{{api}}}\n")).unwrap();
        config::load(directory.path())
    };
    let loaded = with("ip_address: 192.0.2.1, url: 'http://pattoo.example.net/behind/', timeout: 5s").unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.outputs[0].target(&loaded.config), "http://pattoo.example.net/behind/");
    let network = loaded.config.server_network.unwrap();
    assert_eq!((&*network.base, network.timeout), ("/behind", Duration::from_secs(5)));
    for (api, expected) in [
        ("ssl_verify: true", "pattoo_agent_api.ssl_verify: found an unknown key"),
        (
            "url: 'https://pattoo.example.net', tls: {insecure: true}",
            "pattoo_agent_api.tls.insecure: found an unknown key",
        ),
        ("TLS: {ca: ca.pem}", "pattoo_agent_api.TLS: found an unknown key"),
        ("tls: {ca: ca.pem}", "pattoo_agent_api: found a server without url"),
        ("ip_address: a.example.net, username: me", "pattoo_agent_api: found a server without url"),
    ] {
        let said = with(api).unwrap_err().to_string();
        assert!(said.contains(expected), "{api}: {said}");
    }
    assert_eq!(with("colour: red").unwrap().warnings.len(), 1, "another program may know it");
}

/// What a page of the book shows as a configuration is one, and nothing in it is doubted.
#[test]
fn the_configurations_in_the_book_are_good() {
    let mut seen = 0;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    for path in pages.chain([root.join("README.md")]) {
        let Ok(page) = std::fs::read_to_string(&path) else { continue };
        let blocks: Vec<&str> =
            page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect();
        let shared = blocks.iter().find(|block| block.starts_with("# pattoo.yaml"));
        for block in blocks.iter().filter(|block| block.starts_with("# pattoo_agent_modbustcpd.yaml")) {
            let directory = directory(block);
            let file = directory.path().join("pattoo.yaml");
            let names_outputs = block.lines().any(|line| line.starts_with("outputs:"));
            if names_outputs && !block.lines().skip(1).any(|line| line.contains("pattoo")) {
                std::fs::remove_file(&file).unwrap();
            } else if let Some(shared) = shared {
                std::fs::write(&file, shared).unwrap();
            }
            let loaded = config::load(directory.path()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(loaded.warnings, [], "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen}");
}
