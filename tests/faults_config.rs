//! The faults of configuration files (rows I of FAULTS.md) that are not in `config.rs`: files that were made
//! to cost time or memory, and what odd but valid ones do to the running agent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pattoo_agent_modbustcpd::config::{self, ConfigError, Loaded};
use pattoo_agent_modbustcpd::modbus::format::{Format, Scale};
use support::agent::Home;
use support::device::{Device, Mode};
use support::judge::judge;
use support::server::Server;

const PATTOO: &str = "pattoo: {log_directory: /tmp/l, cache_directory: /tmp/c, daemon_directory: /tmp/d}\n";

fn load(agent: &str) -> Result<Loaded, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pattoo.yaml"), PATTOO).unwrap();
    fs::write(directory.path().join("pattoo_agent_modbustcpd.yaml"), agent).unwrap();
    config::load(directory.path())
}

/// What a refused file is refused for.
fn faults(agent: &str) -> Vec<String> {
    load(agent).err().unwrap().faults.iter().map(ToString::to_string).collect()
}

fn group(devices: &str, registers: &str) -> String {
    format!("  - ip_devices: [{devices}]\n    holding_registers: [{registers}]\n")
}

fn list(items: impl Iterator<Item = impl std::fmt::Display>) -> String {
    items.fold(String::new(), |mut list, item| {
        write!(list, "{item},").unwrap();
        list
    })
}

#[test]
fn as_many_registers_as_a_file_holds_are_read_and_a_repeated_target_once() {
    let registers = list(400_001..435_000);
    let loaded = load(&format!("polling_groups:\n{}", group("a", &registers))).unwrap();
    assert_eq!((loaded.config.points.len(), loaded.warnings.len()), (34_999, 0));

    let loaded = load(&format!("polling_groups:\n{}", group(&"a,".repeat(1_000), "40001,40002"))).unwrap();
    assert_eq!((loaded.config.devices.len(), loaded.config.points.len()), (1, 2));
}

#[test]
fn devices_times_registers_are_bounded_before_they_are_multiplied() {
    let begun = Instant::now();
    let registers = list(400_001..402_001);
    let within = group(&list((0..50).map(|n| format!("a{n}"))), &registers);
    assert!(load(&format!("polling_groups:\n{within}")).is_ok());
    let beyond = group(&list((0..501).map(|n| format!("a{n}"))), &registers);
    let found = faults(&format!("polling_groups:\n{beyond}"));
    assert!(found.len() == 1 && found[0].contains("found 1002000 points"), "{found:?}");
    // Groups that are each within the bound.
    let found = faults(&format!("polling_groups:\n{}", within.repeat(11)));
    assert!(found.len() == 1 && found[0].contains("found 1100000 points"), "{found:?}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn a_file_of_nothing_but_faults_is_refused_without_a_look_for_each() {
    let found = faults(&format!("flush_interval: 1s\npolling_groups:\n{}", group("a", &"x,".repeat(20_000))));
    assert_eq!(found.len(), 20_000);
    assert!(found[0].contains(":4:25: polling_groups[0].holding_registers[0]: found \"x\""), "{}", found[0]);
    assert!(found[19_999].contains(".yaml: polling_groups[0].holding_registers[19999]: found"), "{}", found[19_999]);
}

#[test]
fn a_file_of_nothing_but_numbers_in_disguise_is_refused_without_a_look_for_each() {
    let begun = Instant::now();
    let found = faults(&format!("polling_groups:\n{}", group("a", &"0116101,".repeat(10_000))));
    assert!(found[0].contains("too many values such as 0123"), "{}", found[0]);
    // One look at each would take minutes.
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn the_smallest_multipliers_give_numbers_that_the_server_stores() {
    for (text, factor) in [("-0.0", None), ("1e-320", Some(1e-320)), ("-1e-320", Some(-1e-320)), ("1e23", Some(1e23))] {
        let loaded =
            load(&format!("polling_groups:\n{}", group("a", &format!("{{address: 40001, multiplier: {text}}}"))));
        let format = loaded.unwrap().config.points.remove(0).format;
        assert_eq!(format, Format::Word(factor.map_or(Scale::Raw, Scale::Times)), "{text}");
        let value = pattoo_agent_modbustcpd::modbus::decode::value(&format, &[65_535]);
        assert!(value.is_ok(), "{text}: {value:?}");
    }
}

#[test]
fn a_name_that_the_server_cannot_store_is_refused() {
    let long = "x".repeat(513);
    for file in [
        format!("agent_hostname: {long}\npolling_groups:\n{}", group("a", "40001")),
        format!("agent_hostname: \"a\\nb\"\npolling_groups:\n{}", group("a", "40001")),
        format!("agent_hostname: {}\npolling_groups:\n{}", "é".repeat(257), group("a", "40001")),
        format!("polling_groups:\n{}", group(&long, "40001")),
        format!("polling_groups:\n{}", group("\"a\\nb\"", "40001")),
    ] {
        assert_eq!(faults(&file).len(), 1, "{file}");
    }
}

#[test]
fn odd_names_and_addresses_reach_neither_the_log_raw_nor_the_server_and_delay_nobody() {
    let (device, server) = (Device::counting(80), Server::start());
    let home = Home::new(server.address());
    let names = [
        "\\u202Ertl\\u202C",
        "emoji \\U0001F527",
        "two\\nlines",
        "\\e[31mred",
        "$(reboot); jndi:ldap://x/a",
        &"x".repeat(600),
        "{}%s%n",
    ];
    let mut groups = String::new();
    for (name, number) in names.iter().zip(40_001..) {
        // Each device of all groups but one is where nobody can be.
        for target in [device.target().as_str(), "224.0.0.1:502", "255.255.255.255:502", "[ff02::1]:502"] {
            writeln!(
                groups,
                "  - group_name: \"{name}\"\n    ip_devices: ['{target}']\n    holding_registers: [{number}]"
            )
            .unwrap();
        }
    }
    home.write_groups("200ms", &groups);
    let mut agent = home.run();
    agent.until("readings", || device.served_count() > 4 * names.len() && server.row_count() > names.len());
    device.set(Mode::Silent);
    agent.until("every reading served to arrive", || judge(&[&device], server.database().rows()).lost.is_empty());
    judge(&[&device], server.database().rows()).assert_complete();
    server.database().assert_sound();
    let raw = |character: char| character.is_control() && character != '\n' || "\u{202e}\u{202c}".contains(character);
    assert!(!agent.log().contains(raw), "{}", agent.log().escape_debug());
    assert!(agent.log().lines().all(|line| line.len() < 4_096));
    // `check` prints names to terminals.
    let printed = home.output(&["check", "--config_dir", home.config_dir().to_str().unwrap()]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert!(!printed.stdout.contains(raw), "{}", printed.stdout.escape_debug());
}

#[test]
fn a_file_that_leads_back_to_itself_is_refused() {
    let home = Home::new(([127, 0, 0, 1], 1).into());
    let file: PathBuf = home.config_dir().join("pattoo_agent_modbustcpd.yaml");
    std::os::unix::fs::symlink(&file, &file).unwrap();
    let finished = home.output(&["run", "--config_dir", home.config_dir().to_str().unwrap()]);
    assert_eq!(finished.code, Some(78), "{}", finished.stderr);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    assert!(!home.path().join("cache").exists(), "nothing was begun");
}

#[test]
fn a_file_that_is_being_written_is_read_once_and_taken_whole_or_not_at_all() {
    let home = Home::new(([127, 0, 0, 1], 1).into());
    let file = home.config_dir().join("pattoo_agent_modbustcpd.yaml");
    let text = format!("polling_groups:\n{}", group("a,b,c", "40001,40002,40003"));
    fs::write(&file, &text).unwrap();
    let (done, mut codes) = (AtomicBool::new(false), [0, 0]);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for end in [0, text.len() / 2, text.len()] {
                    fs::write(&file, &text[..end]).unwrap();
                    thread::sleep(Duration::from_micros(300));
                }
            }
        });
        for _ in 0..60 {
            let finished = home.output(&["check", "--config_dir", home.config_dir().to_str().unwrap()]);
            match finished.code {
                // Half a file may be a configuration too: nobody can know that more was to come.
                Some(0) => codes[0] += 1,
                Some(78) => codes[1] += 1,
                other => panic!("exit {other:?}: {}", finished.stderr),
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(codes[0] > 0 && codes[1] > 0, "taken and refused: {codes:?}");
}
