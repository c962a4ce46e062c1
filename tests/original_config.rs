//! Configurations that the Python agent ran with: an upgrade ends no polling, and says what it was told of.
//!
//! What is warned of here is an error as soon as the file has any key of ours.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pattoo_agent_modbustcpd::config::{self, Config, LogLevel};
use tempfile::TempDir;

/// A key of ours at the top of a file.
const OURS: &str = "flush_interval: 1s\n";

fn directory(pattoo: &str, agent: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let directories =
        "pattoo:\n  log_directory: /tmp/log\n  cache_directory: /tmp/cache\n  daemon_directory: /tmp/daemon\n";
    fs::write(directory.path().join("pattoo.yaml"), format!("{directories}{pattoo}")).unwrap();
    fs::write(directory.path().join("pattoo_agent_modbustcpd.yaml"), agent).unwrap();
    directory
}

/// What it means, and what it is warned of, without the directory.
fn load(pattoo: &str, agent: &str) -> (Config, Vec<String>) {
    let directory = directory(pattoo, agent);
    let loaded = config::load(directory.path()).unwrap_or_else(|error| panic!("{pattoo}{agent}\n{error}"));
    let prefix = format!("{}/", directory.path().display());
    (loaded.config, loaded.warnings.iter().map(|warning| warning.to_string().replace(&prefix, "")).collect())
}

/// A file of the original with these lines at the top, in its group, and in a list of registers.
fn file(top: &str, group: &str, registers: &str) -> String {
    format!(
        "{top}polling_groups:\n  - group_name: one\n    ip_targets: [192.0.2.1]\n{group}    input_registers:\n      - address: 30001\n{registers}"
    )
}

fn keys(config: &Config) -> Vec<String> {
    config.points.iter().map(|point| format!("{} {}", point.target, point.key().replace("_register", ""))).collect()
}

/// The same file is refused when it has a key of ours.
fn refused_with_a_key_of_ours(agent: &str) {
    let directory = directory("", &format!("{agent}{OURS}"));
    assert!(config::load(directory.path()).is_err(), "{agent}");
}

#[test]
fn keys_that_it_ignored_are_warned_of_with_their_place() {
    let agent = file("site: plant 7\n", "    comment: [x]\n", "        label: flow\n        scale: 0.1\n");
    let (config, warnings) = load("", &agent);
    assert_eq!(keys(&config), ["192.0.2.1 input_30001"]);
    let file = "pattoo_agent_modbustcpd.yaml";
    let ignored = "it is ignored, as with the Python agent";
    let expected = [
        format!("{file}:1:1: site: found an unknown key; allowed are "),
        format!("{file}:5:5: polling_groups[0].comment: found an unknown key; did you mean \"count\""),
        format!("{file}:8:9: polling_groups[0].input_registers[0].label: found an unknown key; allowed are "),
        format!(
            "{file}:9:9: polling_groups[0].input_registers[0].scale: found an unknown key; did you mean \"scale_register\""
        ),
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
    for (warning, expected) in warnings.iter().zip(&expected) {
        let begins = expected.split("; ").next().unwrap();
        assert!(warning.starts_with(begins) && warning.ends_with(ignored), "{warning}\n{expected}");
    }
    refused_with_a_key_of_ours(&agent);
    // Wherever the key of ours stands.
    for ours in [
        agent.replace("    comment", "    unit: 1\n    together: false\n    comment"),
        agent.replace("        label", "        type: uint16\n        label"),
        agent.replace("        label", "        name"),
        format!("{agent}  - {{ip_devices: [b], coils: [1]}}\n"),
        format!("x: [&x {{unit: 1}}, &y {{coils: [1]}}]\n{agent}  - {{<<: [*x, *y], ip_devices: [b]}}\n"),
    ] {
        assert!(config::load(directory("", &ours).path()).is_err(), "{ours}");
    }
}

/// A log must not grow by a warning for each of tens of thousands, at each start and each reload.
#[test]
fn of_very_many_warnings_the_first_are_told_and_the_rest_is_counted() {
    for keys in [50, 100, 101, 9_000, 20_000] {
        let unknown = (0..keys).map(|number| format!("key{number}: 1\n")).collect::<Vec<_>>().concat();
        let (_, warnings) = load("", &file(&unknown, "", ""));
        let told = keys.min(100);
        assert!(warnings[..told].iter().enumerate().all(|(place, it)| it.contains(&format!(" key{place}: "))));
        let rest = format!("pattoo_agent_modbustcpd.yaml: there are {} more warnings;", keys - told);
        assert_eq!(warnings.len(), told + usize::from(keys > told));
        assert!(keys == told || warnings[told].starts_with(&rest), "{}", warnings[told]);
    }
}

#[test]
fn intervals_that_it_took_for_nothing_or_for_0_are_never_a_busy_loop() {
    let default = Duration::from_secs(300);
    let second = Duration::from_secs(1);
    for (value, interval) in [
        ("0", default),
        ("0.0", default),
        ("false", default),
        ("off", default),
        ("''", default),
        ("[]", default),
        ("{}", default),
        ("true", second),
        ("0.5", second),
        ("-0.9", second),
        ("'0'", second),
        ("' -0 '", second),
        ("5000000000", Duration::from_secs(49 * 86_400)),
    ] {
        let agent = file(&format!("polling_interval: {value}\n"), "", "");
        let (config, warnings) = load("", &agent);
        assert_eq!(config.polling_interval, interval, "{value}");
        let place = "pattoo_agent_modbustcpd.yaml:1:19: polling_interval: found ";
        assert!(warnings.len() == 1 && warnings[0].starts_with(place), "{value}: {warnings:?}");
        refused_with_a_key_of_ours(&agent);
    }
    for (value, interval) in [("", default), ("~", default), ("60", Duration::from_secs(60)), ("10s", 10 * second)] {
        let (config, warnings) = load("", &file(&format!("polling_interval: {value}\n"), "", ""));
        assert_eq!((config.polling_interval, warnings.len()), (interval, 0), "{value}");
    }
    // It crashed on these, so that nobody has them.
    for value in ["often", "[1]", ".nan", ".inf", "'7.9'"] {
        let agent = file(&format!("polling_interval: {value}\n"), "", "");
        assert!(config::load(directory("", &agent).path()).is_err(), "{value}");
    }
}

#[test]
fn what_it_went_past_costs_only_itself() {
    let cases = [
        // Registers.
        ("", "", "      - multiplier: 2\n      - address: true\n      - address: 30002.0\n", 3),
        ("", "", "      - thirty\n      - '30002'\n      - 30005-30002\n      - [30002]\n      -\n", 5),
        ("", "    holding_registers: all\n", "", 1),
        // Groups.
        ("", "", "  - just a text\n  - [a, list]\n", 2),
        ("", "", "  - group_name: nothing to read, and no devices\n", 1),
        ("", "", "  - {ip_targets: [192.0.2.2], unit: 300, input_registers: [{address: 30001}]}\n", 2),
        ("", "", "  - {ip_targets: [], input_registers: [{address: 30001}]}\n", 1),
        ("", "", "  - {ip_targets: [http://192.0.2.2, 'host:99999'], input_registers: [{address: 30001}]}\n", 2),
        // Keys.
        ("1: 2\non: x\n", "", "", 2),
        ("site: a\nsite: b\n", "", "", 2),
        ("polling_interval: 7\npolling_interval: 9\n", "", "", 1),
    ];
    for (top, group, registers, said) in cases {
        let agent = file(top, group, registers);
        let (config, warnings) = load("", &agent);
        assert_eq!(keys(&config), ["192.0.2.1 input_30001"], "{agent}");
        assert_eq!(warnings.len(), said, "{agent}\n{warnings:#?}");
        refused_with_a_key_of_ours(&agent);
    }
    let (config, _) = load("", &file("polling_interval: 7\npolling_interval: 9\n", "", ""));
    assert_eq!(config.polling_interval, Duration::from_secs(9), "the last one counts");
    let (config, _) =
        load("", "polling_groups:\n  - ip_targets: {a: 1, b: 2}\n    input_registers: [{address: 30001}]\n");
    assert_eq!(keys(&config), ["a input_30001", "b input_30001"], "the keys are the devices");
}

#[test]
fn what_it_took_of_the_shared_file_is_taken() {
    let agent = file("", "", "");
    for (lines, level, said) in [
        ("  log_level: verbose\n", LogLevel::Debug, 1),
        ("  log_level: 10\n", LogLevel::Debug, 1),
        ("  log_level: off\n", LogLevel::Debug, 1),
        ("  log_level: WARNING\n", LogLevel::Warning, 0),
        ("  log_level:\n", LogLevel::Debug, 0),
        ("", LogLevel::Debug, 0),
        ("  comment: mine\n  log_level: info\n  log_level: error\n", LogLevel::Error, 2),
    ] {
        let (config, warnings) = load(lines, &agent);
        assert_eq!((config.log_level, warnings.len()), (level, said), "{lines}{warnings:?}");
    }
    for nothing in ["", "''", "false", "0", "[]"] {
        let (config, warnings) = load(&format!("  system_daemon_directory: {nothing}\n"), &agent);
        assert_eq!(config.system_daemon_directory, Path::new("/tmp/daemon"), "{nothing}");
        assert_eq!(warnings.len(), 1, "{nothing}: {warnings:?}");
    }
    for (api, host, port) in [
        ("pattoo_agent_api:\n", "localhost", 20_201),
        ("pattoo_agent_api:\n  ip_address:\n  ip_bind_port:\n", "localhost", 20_201),
        ("pattoo_agent_api:\n  ip_bind_port: '20205'\n", "localhost", 20_205),
        ("pattoo_agent_api:\n  ip_address: a\n  ip_bind_port: 20205.0\n", "a", 20_205),
        ("3: x\npattoo_agent_api: {ip_address: b}\n", "b", 20_201),
    ] {
        let (config, _) = load(api, &agent);
        assert_eq!((&*config.server_host, config.server_port), (host, port), "{api}");
    }
}

#[test]
fn two_files_that_name_different_servers_are_warned_of_with_both_places() {
    let agent = file("", "", "");
    let cases = [
        ("{ip_address: old.example.net}", "{ip_address: new.example.net}", Some("old.example.net port 20201")),
        ("{ip_address: a, ip_bind_port: 1}", "{ip_address: a}", Some("a port 1")),
        ("{ip_address: a}", "{ip_bind_port: 20202}", Some("a port 20201")),
        ("{ip_address: 'http://a'}", "{ip_address: a}", Some("pattoo.yaml:5:1")),
        ("{ip_address: A.example.net}", "{ip_address: a.example.net, ip_bind_port: 20201}", None),
        ("{}", "{ip_address: localhost}", None),
    ];
    for (old, new, said) in cases {
        let directory = directory(&format!("pattoo_agent_api: {old}\n"), &agent);
        let newer = directory.path().join("pattoo_agent.yaml");
        fs::write(&newer, format!("# newer\npattoo_agent_api: {new}\n")).unwrap();
        let loaded = config::load(directory.path()).unwrap();
        let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        match said {
            None => assert_eq!(warnings, [""; 0], "{old} {new}"),
            Some(said) => {
                let place = format!("{}:2:1: pattoo_agent_api: found another server than at ", newer.display());
                assert!(warnings.len() == 1 && warnings[0].starts_with(&place), "{warnings:?}");
                for said in [said, "pattoo.yaml:5:1", "readings go to the one here"] {
                    assert!(warnings[0].contains(said), "{said}: {}", warnings[0]);
                }
            }
        }
    }
}

#[test]
fn strict_refuses_what_is_warned_of() {
    for (top, strict) in [("", 0), ("site: plant 7\n", 78), ("polling_interval: 0\n", 78)] {
        let directory = directory("", &file(top, "", ""));
        let check = |more: &[&str]| {
            let program = env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd");
            let directory = directory.path().to_str().unwrap();
            let output = Command::new(program).args(["check", "--config_dir", directory]).args(more).output().unwrap();
            output.status.code()
        };
        assert_eq!((check(&[]), check(&["--strict"])), (Some(0), Some(strict)), "{top}");
    }
}

#[test]
fn what_was_left_out_is_told_when_nothing_is_left() {
    let agent = "polling_groups:\n  - ip_targets: ['host:99999']\n    input_registers: [thirty]\n";
    let told = config::load(directory("", agent).path()).err().unwrap().to_string();
    for said in
        ["there is nothing to poll", "warning: ", "found \"host:99999\", which is no device", "found \"thirty\""]
    {
        assert!(told.contains(said), "{said}: {told}");
    }
}
