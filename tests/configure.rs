//! `configure` as scripts meet it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use support::agent::Home;
use support::device::Device;
use support::server::Server;

fn home() -> Home {
    Home::new("127.0.0.1:9".parse().unwrap())
}

/// Runs `configure` with these answers in a pipe.
fn configure(home: &Home, directory: &str, answers: &str, more: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd"))
        .args(["configure", "--config_dir", directory])
        .args(more)
        .env("HOME", home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read all.
    child.stdin.take().unwrap().write_all(answers.as_bytes()).ok();
    child.wait_with_output().unwrap()
}

#[test]
fn without_questions_a_new_directory_gets_a_configuration_that_is_valid_and_a_second_time_changes_nothing() {
    let home = home();
    let directory = home.path().join("new/etc");
    let directory = directory.to_str().unwrap();
    let output = configure(&home, directory, "", &["--yes"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(home.output(&["check", "--config_dir", directory]).code, Some(0));
    let before = fs::read_to_string(format!("{directory}/pattoo.yaml")).unwrap();
    let again = configure(&home, directory, "", &["--yes"]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("Nothing changes"), "{again:?}");
    assert_eq!(fs::read_to_string(format!("{directory}/pattoo.yaml")).unwrap(), before);
    assert_eq!(fs::read_dir(directory).unwrap().count(), 2, "nothing of the trial stays");
}

#[test]
fn answers_come_line_by_line_what_is_not_asked_for_stays_and_the_old_file_is_kept() {
    let home = home();
    let directory = home.config_dir();
    let shared = directory.join("pattoo.yaml");
    let old = fs::read_to_string(&shared).unwrap() + "pattoo_web_api:\n  ip_bind_port: 20202\n";
    fs::write(&shared, &old).unwrap();
    let answers = "server.example.net\n\n\n\n\n\n\n10s\nplc7:1502, plc8\n1\n30001 30002\n-\nyes\n";
    let output = configure(&home, directory.to_str().unwrap(), answers, &[]);
    assert!(output.status.success(), "{output:?}");
    let new = fs::read_to_string(&shared).unwrap();
    assert!(new.contains("ip_address: server.example.net") && new.contains("ip_bind_port: 20202"), "{new}");
    assert_eq!(fs::read_to_string(directory.join("pattoo.yaml.bak")).unwrap(), old);
    let checked = home.output(&["check", "--config_dir", directory.to_str().unwrap()]);
    assert!(checked.stdout.contains("plc7:1502") && checked.stdout.contains("plc8"), "{}", checked.stdout);
}

#[test]
fn the_server_is_asked_for_where_it_counts() {
    let home = home();
    let directory = home.config_dir();
    let newer = directory.join("pattoo_agent.yaml");
    fs::write(&newer, "pattoo_agent_api: {ip_address: newer.example.net, ip_bind_port: 20209}\n").unwrap();
    let before = fs::read_to_string(directory.join("pattoo.yaml")).unwrap();
    let answers = "server.example.net\n\n\n\n\n\n\n10s\nplc7\n1\n30001\n-\nyes\n";
    let output = configure(&home, directory.to_str().unwrap(), answers, &[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("ip_address [newer.example.net]") && said.contains("ip_bind_port [20209]"), "{said}");
    assert!(said.contains("found another server than at"), "a warning of two servers: {said}");
    assert!(fs::read_to_string(&newer).unwrap().contains("ip_address: server.example.net"));
    assert_eq!(fs::read_to_string(directory.join("pattoo.yaml")).unwrap(), before);
    let checked = home.output(&["check", "--config_dir", directory.to_str().unwrap()]);
    assert!(checked.stdout.contains("server.example.net port 20209"), "{}", checked.stdout);
}

/// What counts is not changed by what does not: a key that is missing has its default, and a section that is empty too.
#[test]
fn the_server_that_counts_stays_the_same_when_nothing_is_asked() {
    for (newer, server) in [
        ("pattoo_agent_api: {ip_address: newer.example.net}\n", "newer.example.net port 20201"),
        ("pattoo_agent_api: {ip_bind_port: 20209}\n", "127.0.0.1 port 20209"),
        ("pattoo_agent_api:\n", "127.0.0.1 port 20201"),
    ] {
        let home = home();
        let directory = home.config_dir();
        home.write_groups("10s", "  - {ip_devices: [plc7], input_registers: [30001]}\n");
        fs::write(directory.join("pattoo_agent.yaml"), newer).unwrap();
        let before = fs::read_to_string(directory.join("pattoo.yaml")).unwrap();
        let output = configure(&home, directory.to_str().unwrap(), "", &["--yes"]);
        assert!(output.status.success(), "{output:?}");
        let after = fs::read_to_string(directory.join("pattoo.yaml")).unwrap();
        assert!(before.contains("pattoo_agent_api") && !after.contains("20201"), "{after}");
        let checked = home.output(&["check", "--config_dir", directory.to_str().unwrap()]);
        assert!(checked.stdout.starts_with(&format!("output    pattoo, to {server}\n")), "{newer}: {}", checked.stdout);
    }
}

/// The agent takes the last of two, with a warning; which one a person means is not for `configure` to say.
#[test]
fn a_file_with_a_key_twice_is_not_written_anew_and_the_key_is_named() {
    let home = home();
    let directory = home.config_dir();
    let shared = directory.join("pattoo.yaml");
    let text = fs::read_to_string(&shared).unwrap() + "language: en\nlanguage: en\n";
    fs::write(&shared, &text).unwrap();
    let output = configure(&home, directory.to_str().unwrap(), "", &["--yes"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("\"language\""), "{said}");
    assert_eq!(fs::read_to_string(&shared).unwrap(), text);
}

#[test]
fn what_differs_from_the_python_agent_is_said_where_nothing_is_configured() {
    let home = home();
    let told = |directory: &str| {
        let output = configure(&home, directory, "", &["--yes"]);
        String::from_utf8_lossy(&output.stdout).contains("The defaults are those of the Python agent, but for")
    };
    let directory = home.path().join("new");
    let directory = directory.to_str().unwrap();
    assert!(told(directory));
    assert!(fs::read_to_string(format!("{directory}/pattoo.yaml")).unwrap().contains("log_level: debug"));
    assert!(!told(directory), "nothing is offered but what is there");
}

#[test]
fn nothing_is_written_when_answers_are_wrong_missing_or_no() {
    let shared = "\n\n\n\n\n\n\n";
    let cases = [
        (format!("{shared}10s\nplc7\n1\nthirty\n-\nyes\n"), 78, "etc/pattoo_agent_modbustcpd.yaml:6"),
        ("\n\n".to_owned(), 1, "--yes"),
        (format!("{shared}\n\n\n\n\nno\n"), 0, ""),
    ];
    for (answers, code, told) in cases {
        let home = home();
        let directory = home.config_dir();
        let before = fs::read_to_string(directory.join("pattoo.yaml")).unwrap();
        let output = configure(&home, directory.to_str().unwrap(), &answers, &[]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(stderr.contains(told), "{stderr}");
        assert_eq!(fs::read_to_string(directory.join("pattoo.yaml")).unwrap(), before);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "{answers:?}");
    }
}

#[test]
fn whoever_wants_to_sees_first_whether_server_and_devices_answer() {
    let (server, device, gone) = (Server::start(), Device::counting(1), Device::counting(2));
    gone.stop();
    let home = Home::new(server.address());
    let directory = home.config_dir();
    let (here, there) = (device.target(), gone.target());
    let answers = format!("\n\n\n\n\n\n\n10s\n{here}, {there}\n1\n30001 30002\n-\ntest\nno\n");
    let output = configure(&home, directory.to_str().unwrap(), &answers, &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let address = server.address();
    for line in [
        format!("output pattoo, {} port {}: answers\n", address.ip(), address.port()),
        format!("device {here}: 2 of 2 points read\n"),
        format!("device {there}: 0 of 2 points read; cannot connect to {there}"),
        "Nothing is written.\n".to_owned(),
    ] {
        assert!(said.contains(&line), "no {line:?} in:\n{said}");
    }
    assert!(server.database().rows().is_empty());
    server.stop();
    let output = configure(&home, directory.to_str().unwrap(), &answers, &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.to_lowercase().contains("connection refused"), "{said}");
}
