//! Standard streams, the log, the environment.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use super::support::agent::Home;
use super::support::device::{Device, Mode as DeviceMode};
use super::support::judge::judge;
use super::support::server::Server;
use super::{home_with, limit_files, logged, run_by_shell};

fn fifo(home: &Home) -> PathBuf {
    let path = home.path().join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    path
}

#[test]
fn closed_streams_are_dev_null_and_no_socket_takes_their_place() {
    let (device, server) = (Device::counting(20), Server::start());
    let home = home_with(&server, &device);
    let mut agent = run_by_shell(&home, r#"exec "$0" "$@" <&- >&- 2>&-"#);
    agent.until("readings to arrive", || server.row_count() > 0);
    for stream in 0..3 {
        let target = fs::read_link(format!("/proc/{}/fd/{stream}", home.pid().unwrap().as_raw_nonzero())).unwrap();
        assert_eq!(target, PathBuf::from("/dev/null"), "{stream}");
    }
    agent.stop();
}

#[test]
fn a_stderr_that_nobody_reads_blocks_neither_polling_nor_the_end() {
    let (device, server) = (Device::counting(21), Server::start());
    let home = home_with(&server, &device);
    let fifo = fifo(&home);
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let mut full = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(&fifo).unwrap();
    while full.write(&[b'x'; 4096]).is_ok() {}
    while full.write(b"x").is_ok() {}
    let mut agent = run_by_shell(&home, &format!(r#"exec "$0" "$@" 2<>'{}'"#, fifo.display()));
    agent.until("readings to arrive", || server.row_count() > 20);
    assert!(logged(&home).contains("started"), "the file has what stderr has not");
    agent.sigterm();
    // In time: the agent watches over that itself.
    agent.ends_with(0);
    assert!(logged(&home).contains("stopped; everything is delivered or on disk"));
}

#[test]
fn a_stderr_whose_reader_is_gone_changes_nothing() {
    let (device, server) = (Device::counting(22), Server::start());
    let home = home_with(&server, &device);
    let fifo = fifo(&home);
    let mut agent = run_by_shell(&home, &format!(r#"exec "$0" "$@" 2>'{}'"#, fifo.display()));
    // Opening waits for the other end; then it is gone.
    drop(File::open(&fifo).unwrap());
    agent.until("readings to arrive", || server.row_count() > 20);
    agent.stop();
    assert!(!logged(&home).contains("panic"), "{}", logged(&home));
}

#[test]
fn while_no_file_can_grow_polling_goes_on_and_afterwards_everything_arrives() {
    let (device, server) = (Device::counting(23), Server::start());
    let home = home_with(&server, &device);
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    limit_files(&home, Some(0));
    let before = device.served_count();
    agent.until("polls that go on", || device.served_count() > before + 20);
    limit_files(&home, None);
    let size = logged(&home).len();
    agent.until("a log that goes on", || logged(&home).len() > size);
    assert!(logged(&home).contains("did not get to the log file"), "{}", logged(&home));
    device.set(DeviceMode::Silent);
    agent.until("everything to arrive", || judge(&[&device], server.database().rows()).lost.is_empty());
    server.database().assert_sound();
    agent.stop();
}

#[test]
fn it_runs_without_an_environment_and_in_a_strange_one() {
    let surroundings: [&[&str]; 3] = [
        &["-i"],
        &["-i", "LANG=tr_TR.UTF-8", "LC_ALL=tr_TR.UTF-8", "TZ=:garbage/../.."],
        &["-u", "HOME", "-u", "TZ", "-u", "PATH", "http_proxy=http://127.0.0.1:1", "ALL_PROXY=socks5://127.0.0.1:1"],
    ];
    for arguments in surroundings {
        let (device, server) = (Device::counting(24), Server::start());
        let home = home_with(&server, &device);
        let mut agent = home.run_under("/usr/bin/env", &arguments.iter().map(ToString::to_string).collect::<Vec<_>>());
        agent.until("readings to arrive", || server.row_count() > 0);
        agent.stop();
    }
}

#[test]
fn a_device_slower_than_its_interval_is_told_of_once_and_not_at_every_poll() {
    let (device, server) = (Device::counting(25), Server::start());
    device.set(DeviceMode::Slow(Duration::from_millis(150)));
    let home = home_with(&server, &device);
    let mut agent = home.run();
    agent.until("some slow polls", || device.request_count() > 8);
    agent.stop();
    assert_eq!(logged(&home).matches("took longer than the polling interval").count(), 1, "{}", logged(&home));
}

#[test]
fn a_server_that_refuses_everything_gets_a_few_lines_and_not_one_per_post() {
    let (device, server) = (Device::counting(26), Server::start());
    server.stop();
    let home = home_with(&server, &device);
    let mut agent = home.run();
    agent.until("an outage", || logged(&home).contains("(1097"));
    agent.stop();
    let lines = logged(&home).lines().filter(|line| line.contains("cannot connect")).count();
    assert!((1..=2).contains(&lines), "{}", logged(&home));
}

#[test]
fn no_secret_gets_into_the_log_the_command_line_or_a_file() {
    const SECRET: &str = "canary-5f1c";
    let (device, server) = (Device::counting(27), Server::start());
    let mut home = home_with(&server, &device);
    let point = home.path().join("etc/fail_point");
    home.set_variable("PATTOO_FAIL_POINT", point.to_str().unwrap());
    home.set_variable("http_proxy", &format!("http://me:{SECRET}@127.0.0.1:1"));
    home.set_variable("PASSWORD", SECRET);
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    device.set(DeviceMode::Exception(4));
    fs::write(&point, "device").unwrap();
    agent.until("a panic", || logged(&home).contains("panic at"));
    server.set(super::support::server::Mode::Status(500));
    let file = home.config_dir().join("pattoo.yaml");
    let (yaml, address) = (fs::read_to_string(&file).unwrap(), format!("ip_address: {}", server.address().ip()));
    fs::write(&file, yaml.replace(&address, &format!("ip_address: 'http://me:{SECRET}@host'"))).unwrap();
    let pid = home.pid().unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    agent.until("a word about the configuration", || logged(&home).contains("http://me:…@host"));
    let command_line = fs::read_to_string(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap();
    agent.stop();
    let config_dir = home.config_dir();
    let check = home.output(&["check", "--config_dir", config_dir.to_str().unwrap()]);
    assert!(check.stderr.contains("me:…@host"), "{}", check.stderr);
    let mut texts = vec![command_line, agent.log(), check.stdout, check.stderr, home.output(&["--help"]).stdout];
    collect(home.path(), &config_dir, &mut texts);
    assert!(texts.len() > 10, "{}", texts.len());
    for text in texts {
        // Nor the cookie of the server.
        assert!(!text.contains(SECRET) && !text.contains("session=abc"), "{text}");
    }
}

/// What every file below `directory` holds, but for those in `except`.
fn collect(directory: &Path, except: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path != except {
            collect(&path, except, texts);
        } else if path.is_file() {
            texts.push(String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned());
        }
    }
}
