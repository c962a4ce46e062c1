//! `configure` as scripts meet it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::thread;

use rustix::pty::{self, OpenptFlags};
use support::agent::Home;
use support::archives;
use support::device::{Device, Mode, Table, Values};
use support::server::Server;

fn home() -> Home {
    Home::new("127.0.0.1:9".parse().unwrap())
}

/// The answers for one group of devices that are not there.
fn away(devices: &str) -> String {
    format!("{devices}\nkeep\n1\n30001 30002\n-\n-\n\n10s\nno\n")
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
    let answers = format!("{}pattoo\n127.0.0.2\n\n\n\n\n\n\nkeep\nyes\n", away("127.0.0.1:1, 127.0.0.2:1"));
    let output = configure(&home, directory.to_str().unwrap(), &answers, &[]);
    assert!(output.status.success(), "{output:?}");
    let new = fs::read_to_string(&shared).unwrap();
    assert!(new.contains("ip_address: 127.0.0.2") && new.contains("ip_bind_port: 20202"), "{new}");
    assert_eq!(fs::read_to_string(directory.join("pattoo.yaml.bak")).unwrap(), old);
    let checked = home.output(&["check", "--config_dir", directory.to_str().unwrap()]);
    assert!(checked.stdout.contains("127.0.0.1:1") && checked.stdout.contains("127.0.0.2:1"), "{}", checked.stdout);
}

#[test]
fn the_server_is_asked_for_where_it_counts() {
    let home = home();
    let directory = home.config_dir();
    let newer = directory.join("pattoo_agent.yaml");
    fs::write(&newer, "pattoo_agent_api: {ip_address: newer.example.net, ip_bind_port: 20209}\n").unwrap();
    let before = fs::read_to_string(directory.join("pattoo.yaml")).unwrap();
    let answers = format!("{}pattoo\n127.0.0.2\n9\n\n\n\n\n\nkeep\nyes\n", away("127.0.0.1:1"));
    let output = configure(&home, directory.to_str().unwrap(), &answers, &[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("ip_address [newer.example.net]") && said.contains("ip_bind_port [20209]"), "{said}");
    assert!(said.contains("found another server than at"), "a warning of two servers: {said}");
    assert!(fs::read_to_string(&newer).unwrap().contains("ip_address: 127.0.0.2"));
    assert_eq!(fs::read_to_string(directory.join("pattoo.yaml")).unwrap(), before);
    let checked = home.output(&["check", "--config_dir", directory.to_str().unwrap()]);
    assert!(checked.stdout.contains("127.0.0.2 port 9"), "{}", checked.stdout);
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
    let group = away("127.0.0.1:1");
    let cases = [
        ("127.0.0.1:1\nkeep\n1\nthirty\n-\n".to_owned(), 78, "etc/pattoo_agent_modbustcpd.yaml:6"),
        ("127.0.0.1:1\nkeep\n".to_owned(), 1, "--yes"),
        ("127.0.0.1:1\nend\n".to_owned(), 0, ""),
        (format!("{group}pattoo\n\n\n\n\n\n\n\nkeep\nno\n"), 0, ""),
        (format!("{group}pattoo\n\n\n\n\n\n\n\nend\n"), 0, ""),
        (format!("{group}influxdb\ntsdb\n"), 78, "found \"tsdb\""),
    ];
    for (answers, code, told) in cases {
        let home = home();
        let directory = home.config_dir();
        let before = fs::read_to_string(directory.join("pattoo.yaml")).unwrap();
        let output = configure(&home, directory.to_str().unwrap(), &answers, &[]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(stderr.contains(told), "{stderr}");
        assert_eq!(code == 0, String::from_utf8_lossy(&output.stdout).ends_with("Nothing is written.\n"), "{output:?}");
        assert_eq!(fs::read_to_string(directory.join("pattoo.yaml")).unwrap(), before);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "{answers:?}");
    }
}

/// Whoever presses Ctrl-D somewhere in between has written nothing, whichever the question.
#[test]
fn answers_that_end_at_any_question_leave_nothing_behind() {
    let device = Device::counting(1);
    let address = listen_for_influx();
    let answers = format!(
        "{}\n\n30001\n-\n\n-\nmeters\n10s\nno\ninfluxdb\nhttp://{address}\nv2\nplant\nours\ntoken\n\ngeheim\nyes\n",
        device.target()
    );
    let lines: Vec<&str> = answers.split_inclusive('\n').collect();
    for end in 0..lines.len() {
        let home = home();
        let directory = home.config_dir();
        let output = configure(&home, directory.to_str().unwrap(), &lines[..end].concat(), &[]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{end}: {output:?}");
        assert!(
            stderr.contains("nothing is written: the answers ended before the questions; --yes"),
            "{end}: {stderr}"
        );
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "{end}");
    }
    assert_eq!(device.violations(), [""; 0]);
}

#[test]
fn whoever_wants_to_sees_again_whether_server_and_devices_answer() {
    let (server, device, gone) = (Server::start(), Device::counting(1), Device::counting(2));
    gone.stop();
    let home = Home::new(server.address());
    let directory = home.config_dir();
    let (here, there) = (device.target(), gone.target());
    let group = format!("{here}, {there}\nkeep\n1\n30001 30002\n-\nyes\n-\n\n10s\nno\n");
    let answers = format!("{group}pattoo\n\n\n\n\n\n\n\ntest\nno\n");
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
    let output = configure(&home, directory.to_str().unwrap(), &format!("{group}1\n\n\n\n\n\n\n\nend\n"), &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.to_lowercase().contains("connection refused"), "{said}");
}

/// What its registers hold is seen before anything is written, or why they cannot be read; and a slip is corrected.
#[test]
fn what_a_device_gives_is_shown_at_once() {
    let device = Device::counting(1);
    device.refuse(Table::Input, 2);
    let home = home();
    let directory = home.config_dir();
    let answers = format!("{}\n\n30001 30003\n-\nno\n30001\n-\nYES\n-\n\n10s\nn\nsqlite\ny\n", device.target());
    let output = configure(&home, directory.to_str().unwrap(), &answers, &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains(&format!("{} answers as unit 1.\n", device.target())), "{said}");
    let row = said.lines().find(|line| line.starts_with("30003 ")).unwrap();
    assert!(row.contains("exception 2 (illegal data address)"), "{row}");
    assert!(said.contains("1 of 2 points read.\n") && said.contains("1 of 1 point read.\n"), "{said}");
    let served = device.served();
    let last = served.iter().rev().find(|served| served.table == Table::Input).unwrap();
    let value = device.values().at(1, Table::Input, 0, last.n);
    let row = said.lines().rev().find(|line| line.starts_with("30001 ")).unwrap();
    assert_eq!(row.split_whitespace().nth(1), Some(&*value.to_string()), "{row}");
    assert_eq!(device.violations(), [""; 0]);
}

#[test]
fn a_device_that_is_away_silent_or_says_no_is_told_apart() {
    let (away, silent, refusing, second) =
        (Device::counting(1), Device::counting(2), Device::counting(3), Device::counting(4));
    away.stop();
    silent.set(Mode::Silent);
    refusing.set(Mode::Exception(4));
    second.set_unit(1, Mode::Exception(11));
    for (device, told, choice) in [
        (&away, "cannot connect to", "end\n"),
        (&silent, "takes a connection, but none of the units 1, 0 and 255 answers: no whole reply within 3s", "end\n"),
        (&refusing, "answers as unit 1.", "\n30001\n-\n"),
        (&second, "answers as unit 0, and not as unit 1.", "\n30001\n-\n"),
    ] {
        let home = home();
        let directory = home.config_dir();
        let output = configure(&home, directory.to_str().unwrap(), &format!("{}\n{choice}", device.target()), &[]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(told), "no {told}: {said}");
        assert_eq!(said.ends_with("Nothing is written.\n"), choice == "end\n", "{said}");
        let refused = "exception 4 (server device failure)";
        assert_eq!(said.contains(refused), device.target() == refusing.target(), "{said}");
    }
}

#[test]
fn a_sunspec_device_is_known_and_its_values_have_names_and_units() {
    let mut words = vec![(40_000, 0x5375), (40_001, 0x6E53), (40_002, 1), (40_003, 66), (40_070, 103), (40_071, 50)];
    words.extend([(40_084, 12_340), (40_085, 0xFFFF), (40_122, 0xFFFF), (40_123, 0)]);
    let other = (40_072..40_122).filter(|address| !(40_084..=40_085).contains(address));
    words.extend(other.map(|address| (address, 0x8000)));
    let overrides = words.into_iter().map(|(at, word)| (None, Table::Holding, at, word)).collect();
    let device = Device::at("127.0.0.1:0".parse().unwrap(), Values::Fixed { overrides }).unwrap();
    let home = home();
    let directory = home.config_dir();
    let answers = format!("{}\n\nyes\n-\n10s\nno\nsqlite\nyes\n", device.target());
    let output = configure(&home, directory.to_str().unwrap(), &answers, &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("is a SunSpec device: 1 common; 103 inverter, three phase.\n"), "{said}");
    let row = said.lines().find(|line| line.starts_with("440085  W ")).unwrap();
    assert!(row.contains("1234 W"), "{row}");
    let once = home.output(&["once", "--format", "json", "--config_dir", directory.to_str().unwrap()]);
    assert!(
        once.stdout.contains("\"unit_of_measurement\": \"W\"") && once.stdout.contains("1234.0"),
        "{}",
        once.stdout
    );
}

/// No server, no pattoo.yaml asked for, and the agent runs with it.
#[test]
fn an_agent_with_sqlite_needs_no_server_and_runs() {
    let (first, second) = (Device::counting(1), Device::counting(2));
    let home = home();
    let directory = home.config_dir();
    let before = fs::read_to_string(directory.join("pattoo.yaml")).unwrap();
    let answers = format!(
        "{}\n\n30001 30002\n-\nyes\n-\nmeters\n100ms\nyes\n{}\n\n-\n40001\nyes\n-\nboiler room\nno\nsqlite\nyes\n",
        first.target(),
        second.target()
    );
    let output = configure(&home, directory.to_str().unwrap(), &answers, &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("ip_bind_port"), "{said}");
    assert_eq!(fs::read_to_string(directory.join("pattoo.yaml")).unwrap(), before);
    let checked = home.output(&["check", "--config_dir", directory.to_str().unwrap()]);
    assert_eq!((checked.code, &*checked.stderr), (Some(0), ""));
    assert!(checked.stdout.contains("2 devices, 3 points"), "{}", checked.stdout);
    let agent = fs::read_to_string(directory.join("pattoo_agent_modbustcpd.yaml")).unwrap();
    assert!(agent.contains("- group_name: meters\n") && agent.contains("- group_name: boiler room\n"), "{agent}");
    let mut agent = home.run();
    let database = home.path().join("daemon/readings.sqlite");
    agent.until("readings of both in the database", || {
        let kept = if database.exists() { archives::in_database(&database) } else { Vec::new() };
        [&first, &second].iter().all(|device| kept.iter().any(|kept| kept.device == device.target()))
    });
    agent.stop();
}

/// As the database does: 204 for what it takes.
fn listen_for_influx() -> std::net::SocketAddr {
    let listener = support::listen_somewhere();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).to_lowercase();
            let status =
                if head.contains("authorization: token geheim") { "204 No Content" } else { "401 Unauthorized" };
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok();
        }
    });
    address
}

/// The database is asked at once, and what it says may be corrected; the secret is in a file of its own that nobody else can read.
#[test]
fn an_output_is_tried_out_and_its_secret_stands_in_no_yaml() {
    let device = Device::counting(1);
    let address = listen_for_influx();
    let home = home();
    let directory = home.config_dir();
    let group = format!("{}\n\n30001\n-\nyes\n-\n\n10s\nno\n", device.target());
    let influx = |token: &str| format!("http://{address}\nv2\nmodbus\nplant\ntoken\n\n{token}\n");
    let answers = format!("{group}influxdb\n{}correct\n{}yes\n", influx("falsch"), influx("geheim"));
    let output = configure(&home, directory.to_str().unwrap(), &answers, &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("401") && said.contains(": answers\n"), "{said}");
    let agent = fs::read_to_string(directory.join("pattoo_agent_modbustcpd.yaml")).unwrap();
    let entry = format!("url: \"http://{address}\", bucket: modbus, org: plant, token_file: influxdb.token}}");
    assert!(agent.contains(&entry), "{agent}");
    let secret = directory.join("influxdb.token");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "geheim\n");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(![&said, &agent].iter().any(|text| text.contains("geheim") || text.contains("falsch")), "{said} {agent}");
    assert_eq!(home.output(&["check", "--connect", "--config_dir", directory.to_str().unwrap()]).code, Some(0));
}

#[test]
fn files_keep_their_comments_and_everything_that_is_not_asked_for_byte_for_byte() {
    let device = Device::counting(1);
    let home = home();
    let directory = home.config_dir();
    let shared = directory.join("pattoo.yaml");
    let old = format!(
        "# of the plant\n{}  # a key of others\n\nother: {{a: 1}}  # stays\n",
        fs::read_to_string(&shared).unwrap().replace("log_level: debug", "log_level: debug  # while testing")
    );
    fs::write(&shared, &old).unwrap();
    let groups = "# what is polled\npolling_interval: 10s   # by the contract\npolling_groups:\n# the first\n- group_name: \
                  boilers\n  ip_devices: ['127.0.0.1:1']\n  unit: 1\n  input_registers: [30001]  # level\n\n# the end\n";
    home.write_config(groups);
    let answers = format!("yes\n{}\n\n30002\n-\nyes\n-\n\nno\nyes\n\n\ninfo\n\n\n\n\nkeep\nyes\n", device.target());
    let output = configure(&home, directory.to_str().unwrap(), &answers, &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("polls 1 device in 1 group.\n"), "{said}");
    assert!(said.contains("-  log_level: debug  # while testing\n+  log_level: info  # while testing\n"), "{said}");
    assert_eq!(fs::read_to_string(&shared).unwrap(), old.replace("log_level: debug", "log_level: info"));
    let new = format!(
        "- group_name: group 2\n  ip_devices: [\"{}\"]\n  unit: 1\n  input_registers: [30002]\n\n# the end\n",
        device.target()
    );
    let agent = directory.join("pattoo_agent_modbustcpd.yaml");
    assert_eq!(fs::read_to_string(&agent).unwrap(), groups.replace("\n# the end\n", &new));
    assert_eq!(fs::read_to_string(directory.join("pattoo.yaml.bak")).unwrap(), old);
    assert_eq!(fs::read_to_string(directory.join("pattoo_agent_modbustcpd.yaml.bak")).unwrap(), groups);
}

/// Nobody is there to be asked: no device is either.
/// A file that says where readings go is not asked for a server of pattoo, though without groups it is wrong.
#[test]
fn the_first_group_of_a_file_is_put_into_it_and_its_outputs_stay() {
    let groups =
        "  - group_name: one\n    ip_devices: [\"127.0.0.1:1\"]\n    unit: 1\n    input_registers: [30001, 30002]\n";
    for (before, after) in [
        ("outputs: [sqlite]\npolling_groups: []  # none yet\n", "outputs: [sqlite]\npolling_groups:  # none yet\n{}"),
        (
            "outputs: [sqlite]\npolling_groups:\npolling_interval: 10s",
            "outputs: [sqlite]\npolling_groups:\n{}polling_interval: 10s",
        ),
        ("outputs: [sqlite]\n", "outputs: [sqlite]\npolling_groups:\n{}"),
    ] {
        let home = home();
        let directory = home.config_dir();
        let file = directory.join("pattoo_agent_modbustcpd.yaml");
        fs::remove_file(directory.join("pattoo.yaml")).unwrap();
        fs::write(&file, before).unwrap();
        let answers = "yes\n127.0.0.1:1\nkeep\n1\n30001 30002\n-\n-\none\nno\nyes\n";
        let output = configure(&home, directory.to_str().unwrap(), answers, &[]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), after.replace("{}", groups));
    }
}

#[test]
fn lines_that_are_to_be_written_by_hand_are_shown_as_lines() {
    let home = home();
    let directory = home.config_dir();
    let flow = "polling_groups: [{ip_devices: [plc1], input_registers: [30001]}]\n";
    fs::write(directory.join("pattoo_agent_modbustcpd.yaml"), flow).unwrap();
    let output = configure(&home, directory.to_str().unwrap(), "yes\n", &[]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(told.contains("by hand:\npolling_groups:\n  - group_name: group 1\n    ip_devices: [\"meter1"), "{told}");
}

#[test]
fn without_questions_no_device_is_asked() {
    let device = Device::counting(1);
    let home = home();
    let target = device.target();
    home.write_groups("10s", &format!("  - {{ip_devices: ['{target}'], input_registers: [30001]}}\n"));
    let output = configure(&home, home.config_dir().to_str().unwrap(), "", &["--yes"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!((device.connections(), device.request_count()), (0, 0));
}

/// On a terminal what is wrong is asked for again, what is secret is not seen, and Ctrl-D ends it on a line of its own.
#[test]
fn on_a_terminal_a_slip_costs_one_more_answer_and_a_secret_is_not_seen() {
    let device = Device::counting(1);
    let address = listen_for_influx();
    let home = home();
    let ours = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    pty::grantpt(&ours).unwrap();
    pty::unlockpt(&ours).unwrap();
    let name = pty::ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs: OwnedFd = File::options().read(true).write(true).open(name).unwrap().into();
    let (out, err) = (theirs.try_clone().unwrap(), theirs.try_clone().unwrap());
    let mut child = Command::new(env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd"))
        .args(["configure", "--config_dir", home.config_dir().to_str().unwrap()])
        .env("HOME", home.path())
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::from(out))
        .stderr(Stdio::from(err))
        .spawn()
        .unwrap();
    rustix::fs::fcntl_setfl(&ours, rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK).unwrap();
    let (mut writer, mut reader) = (File::from(ours.try_clone().unwrap()), File::from(ours));
    let mut said = String::new();
    let target = device.target();
    let url = format!("http://{address}");
    let answers = [
        ("1. Address", "a/b"),
        ("cannot be part of a host", &target),
        ("2. Its unit", "one"),
        ("a whole number", ""),
        ("3. Input", "30001"),
        ("4. Holding", "-"),
        ("5. Does that look right?", "maybe"),
        ("answer yes or no", "YES"),
        ("6. Address of another", "-"),
        ("7. Name", "meters"),
        ("8. How often", "10s"),
        ("9. Another group", "No"),
        ("10. Where", "telegraf"),
        ("a number from 1 to 7", "2"),
        ("11. URL", &url),
        ("12. Which", "2"),
        ("13. Bucket", "b"),
        ("14. Organization", "o"),
        ("15. Who", "token"),
        ("16. File", ""),
        ("17. The token", "geheim"),
        ("18. Write this?", "\u{4}"),
        ("the answers ended", ""),
    ];
    let mut seen = 0;
    for (question, answer) in answers {
        support::until(question, || {
            let mut piece = [0; 4096];
            let read = reader.read(&mut piece).unwrap_or(0);
            said.push_str(&String::from_utf8_lossy(&piece[..read]));
            said[seen..].contains(question)
        });
        seen += said[seen..].find(question).unwrap() + question.len();
        let end = if answer == "\u{4}" { "" } else { "\n" };
        write!(writer, "{answer}{end}").unwrap();
    }
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!said.contains("geheim") && said.contains(": answers\r\n"), "{said}");
    assert!(said.contains("\r\nnothing is written: the answers ended"), "{said}");
    assert_eq!(fs::read_dir(home.config_dir()).unwrap().count(), 1);
}
