//! The command line as people and service managers meet it: texts, exit codes, and nothing done when
//! something is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use support::agent::{Finished, Home};
use support::device::Device;
use support::server::Server;

fn home() -> Home {
    // Nothing listens there, and nothing is asked.
    Home::new("127.0.0.1:9".parse().unwrap())
}

fn in_config_dir(home: &Home, command: &str) -> Finished {
    home.output(&[command, "--config_dir", home.config_dir().to_str().unwrap()])
}

#[test]
fn without_arguments_it_helps_and_exits_2() {
    let Finished { code, stdout, stderr } = home().output(&[]);
    assert_eq!(code, Some(2));
    let text = stdout + &stderr;
    assert!(text.contains("Usage") && text.contains("run") && text.contains("check"), "{text}");
}

#[test]
fn help_and_version_are_on_stdout_and_no_failure() {
    let home = home();
    for flag in ["--help", "-h"] {
        let Finished { code, stdout, stderr } = home.output(&[flag]);
        assert_eq!((code, &*stderr), (Some(0), ""));
        assert!(stdout.contains("--config_dir") && stdout.contains("Exit codes"), "{stdout}");
    }
    for flag in ["--version", "-V"] {
        let Finished { code, stdout, stderr } = home.output(&[flag]);
        assert_eq!((code, &*stderr), (Some(0), ""));
        assert_eq!(stdout, format!("pattoo_agent_modbustcpd {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn what_nobody_understands_exits_2_and_says_what_is_possible() {
    let home = home();
    for arguments in [&["--nonsense"][..], &["polll"], &["run", "--config_dir"]] {
        let Finished { code, stderr, .. } = home.output(arguments);
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(stderr.contains("--help"), "{stderr}");
    }
}

#[test]
fn check_prints_what_will_be_polled_and_touches_neither_network_nor_disk() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = Home::new(server.address());
    home.write_groups(
        "300",
        &format!(
            "  - group_name: plant\n    ip_devices: ['{}', plc.example.net]\n    \
             input_registers: [30001, 30002]\n",
            device.target(),
        ),
    );
    let Finished { code, stdout, stderr } = in_config_dir(&home, "check");
    assert_eq!(code, Some(0), "{stderr}");
    for word in [&*device.target(), "plc.example.net", "2 requests"] {
        assert!(stdout.contains(word), "{word} in {stdout}");
    }
    assert_eq!((device.connections(), server.connections()), (0, 0));
    let made: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(made, ["etc"], "no directory but that of the configuration");
}

#[test]
fn the_configuration_directory_can_come_from_the_environment() {
    let mut home = home();
    home.write_groups("300", "  - group_name: x\n    ip_devices: [plc.example.net]\n    input_registers: [30001]\n");
    let directory = home.config_dir().to_str().unwrap().to_owned();
    home.set_variable("PATTOO_CONFIGDIR", &directory);
    let Finished { code, stdout, stderr } = home.output(&["check"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("plc.example.net"), "{stdout}");
}

#[test]
fn a_bad_configuration_exits_78_tells_every_fault_with_its_place_and_starts_nothing() {
    let (device, server) = (Device::counting(2), Server::start());
    let home = Home::new(server.address());
    home.write_config(&format!(
        "polling_interval: soon\n\
         poling_groups: []\n\
         polling_groups:\n\
         \x20 - group_name: plant\n\
         \x20   ip_devices: ['{}']\n\
         \x20   unit: 256\n\
         \x20   input_registers: [30001, forty]\n",
        device.target(),
    ));
    for command in ["run", "check"] {
        let Finished { code, stdout, stderr } = in_config_dir(&home, command);
        assert_eq!(code, Some(78), "{stderr}");
        for (line, words) in [
            (1, ["polling_interval", "soon"]),
            (2, ["poling_groups", "polling_groups"]),
            (6, ["unit", "256"]),
            (7, ["input_registers", "forty"]),
        ] {
            let place = format!("pattoo_agent_modbustcpd.yaml:{line}:");
            let told =
                stderr.lines().find(|told| told.contains(&place) && words.iter().all(|word| told.contains(word)));
            assert!(told.is_some(), "{place} with {words:?} in:\n{stderr}");
        }
        assert_eq!(stdout, "");
    }
    assert_eq!((device.connections(), server.connections()), (0, 0));
    let made: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(made, ["etc"], "nothing started, nothing made");
}

#[test]
fn a_missing_configuration_exits_78_and_names_the_file() {
    let home = home();
    for command in ["run", "check"] {
        let Finished { code, stderr, .. } = in_config_dir(&home, command);
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains("pattoo_agent_modbustcpd.yaml"), "{stderr}");
    }
}

#[test]
fn what_the_book_shows_of_check_is_what_it_prints() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/running.md")).unwrap();
    let shown = page.split("check --config_dir config\n").nth(1).unwrap().split("```").next().unwrap();
    let mut home = home();
    home.set_variable("HOME", "/home/pattoo");
    let Finished { code, stdout, stderr } =
        home.output(&["check", "--config_dir", root.join("config").to_str().unwrap()]);
    assert_eq!((code, &*stderr, &*stdout), (Some(0), "", shown));
}

#[test]
fn what_the_book_shows_of_settings_is_the_end_of_what_is_printed() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/devices.md")).unwrap();
    let shown = page.split("check --config_dir config --settings\n...\n").nth(1).unwrap().split("```").next().unwrap();
    let config = root.join("config");
    let Finished { code, stdout, stderr } =
        home().output(&["check", "--settings", "--config_dir", config.to_str().unwrap()]);
    assert_eq!((code, &*stderr), (Some(0), ""));
    assert!(stdout.ends_with(shown), "{stdout}");
}
