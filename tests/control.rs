//! The daemon in the background as the original's users know it: `--start`, `--stop`, `--restart`, `--status`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::agent::{Finished, Home};
use support::device::{Device, Table};
use support::server::Server;
use support::until;

/// A home whose agent, if one is in the background, ends with the test.
struct Stage {
    home: Home,
    device: Device,
    server: Server,
}

impl Stage {
    fn new() -> Self {
        let (device, server) = (Device::counting(1), Server::start());
        let home = Home::new(server.address());
        let stage = Self { home, device, server };
        stage.configure("");
        stage
    }

    /// A device that answers, one that does not, and these lines before them.
    fn configure(&self, more: &str) {
        let groups = format!(
            "  - ip_devices: ['{}', '127.0.0.1:1']\n    input_registers: [30001, 30002]\n",
            self.device.target()
        );
        self.home.write_config(&format!(
            "{more}polling_interval: 100ms\nflush_interval: 50ms\nagent_hostname: agent.example.net\npolling_groups:\n{groups}"
        ));
    }

    fn control(&self, flags: &[&str]) -> Finished {
        let directory = self.home.config_dir();
        let mut arguments = flags.to_vec();
        arguments.extend(["--config_dir", directory.to_str().unwrap()]);
        self.home.output(&arguments)
    }

    /// Fails unless it ends with this code and these are its first words.
    fn expect(&self, flags: &[&str], code: i32, words: &str) -> Finished {
        let finished = self.control(flags);
        assert_eq!(finished.code, Some(code), "{flags:?}: {} {}", finished.stdout, finished.stderr);
        let line = finished.stdout.lines().next().unwrap_or_default();
        assert_eq!(line, format!("Daemon {words} - pattoo_agent_modbustcpd"), "{flags:?}");
        finished
    }

    fn status(&self) -> Value {
        let Finished { code, stdout, stderr } = self.control(&["--status", "--format", "json"]);
        assert_eq!(code, Some(0), "{stdout} {stderr}");
        serde_json::from_str(&stdout).unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.control(&["--stop", "--force"]);
    }
}

#[test]
fn it_starts_tells_how_it_is_restarts_and_stops_and_each_of_them_twice_is_no_failure() {
    let stage = Stage::new();
    stage.expect(&["--status"], 3, "is stopped");
    stage.expect(&["--stop"], 0, "is stopped");
    stage.expect(&["--start"], 0, "started");
    stage.expect(&["--start"], 0, "is running");
    until("readings at the server", || stage.server.row_count() > 4);
    until("both devices polled", || stage.status()["polling"]["down"] == 1);
    let finished = stage.expect(&["--status"], 0, "is running");
    let rows: Vec<&str> = finished.stdout.lines().collect();
    let place =
        |text: &str| rows.iter().position(|row| row.contains(text)).unwrap_or_else(|| panic!("{text}: {rows:#?}"));
    assert!(place("polling  1 of 2 devices answer; 4 points") < place("took the last of"));
    let (down, up) = (place("127.0.0.1:1 "), place(&stage.device.target()));
    assert!(down < up, "the worst first: {rows:#?}");
    assert!(rows[down].contains("connection: cannot connect") && rows[down].contains("never"), "{}", rows[down]);

    let first = stage.status();
    stage.expect(&["--restart"], 0, "stopped");
    let second = stage.status();
    assert_ne!(first["pid"], second["pid"]);
    assert_eq!(first["agent_id"], second["agent_id"]);
    stage.expect(&["--stop"], 0, "stopped");
    stage.expect(&["--stop"], 0, "is stopped");
    stage.expect(&["--status"], 3, "is stopped");
    stage.expect(&["--restart"], 0, "is stopped");
    stage.expect(&["--status"], 0, "is running");
}

#[test]
fn what_the_status_says_adds_up() {
    let stage = Stage::new();
    stage.server.stop();
    stage.expect(&["--start"], 0, "started");
    until("a server that is missed", || stage.status()["server"]["cause"].is_string());
    until("batches on disk", || stage.status()["books"]["on_disk"].as_u64() > Some(6));
    let status = stage.status();
    let number = |name: &str| status["books"][name].as_u64().unwrap();
    let dropped: u64 =
        status["books"]["dropped"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    let went = number("delivered") + number("on_disk") + number("in_memory") + number("quarantined") + dropped;
    assert_eq!(went, number("accepted") + number("found"), "{status:#}");
    let waits = status["cache"]["readings"].as_u64().unwrap();
    // What is being gathered does not wait yet.
    assert!((number("on_disk")..=number("on_disk") + number("in_memory")).contains(&waits), "{status:#}");
    assert!(status["cache"]["oldest"].is_string() && status["server"]["last_success"].is_null(), "{status:#}");
    let devices = status["devices"].as_array().unwrap();
    let of = |name: &str| devices.iter().find(|device| device["name"] == name).unwrap();
    assert_eq!((&of(&stage.device.target())["state"], &of("127.0.0.1:1")["state"]), (&"up".into(), &"down".into()));
    assert!(of(&stage.device.target())["last_good"].is_string() && of("127.0.0.1:1")["last_good"].is_null());
    stage.server.come_back();
    until("everything delivered", || {
        stage.status()["cache"]["readings"] == 0 && stage.status()["server"]["cause"].is_null()
    });
    assert_eq!(stage.status()["cache"]["batches"], 0, "no file of an old cache");
}

#[test]
fn a_device_is_down_degraded_or_up_as_its_points_can_be_read() {
    let stage = Stage::new();
    stage.home.write_groups(
        "100ms",
        &format!("  - ip_devices: ['{}']\n    input_registers: [30001, 30005, 30006]\n", stage.device.target()),
    );
    stage.expect(&["--start"], 0, "started");
    let is = |state: &str, refused: u64| {
        let device = stage.status()["devices"][0].clone();
        device["state"] == state && device["refused"] == refused
    };
    until("all of it", || is("up", 0));
    stage.device.refuse(Table::Input, 4);
    until("a part of it", || is("degraded", 1));
    let shown = stage.control(&["--status"]).stdout;
    assert!(
        shown.contains("3, 1 refused") && shown.contains("refused: 30005 (") && shown.contains("illegal data address")
    );
    stage.device.refuse(Table::Input, 0);
    until("more of it", || is("degraded", 2));
    stage.device.refuse(Table::Input, 5);
    until("nothing of it", || is("down", 3));
}

#[test]
fn two_starts_at_once_make_one_agent() {
    let stage = Stage::new();
    thread::scope(|scope| {
        let starts: Vec<_> = (0..6).map(|_| scope.spawn(|| stage.control(&["--start"]))).collect();
        for start in starts {
            let Finished { code, stdout, stderr } = start.join().unwrap();
            assert_eq!(code, Some(0), "{stdout} {stderr}");
        }
    });
    stage.expect(&["--stop"], 0, "stopped");
    stage.expect(&["--status"], 3, "is stopped");
}

#[test]
fn what_keeps_it_from_starting_is_told_at_once_and_leaves_a_running_one_alone() {
    let stage = Stage::new();
    stage.configure("poling_interval: 1\n");
    let Finished { code, stdout, stderr } = stage.control(&["--start"]);
    assert_eq!((code, &*stdout), (Some(78), ""));
    assert!(stderr.contains("did you mean"), "{stderr}");
    stage.expect(&["--status"], 3, "is stopped");

    stage.configure("");
    stage.expect(&["--start"], 0, "started");
    let pid = stage.status()["pid"].clone();
    stage.configure("poling_interval: 1\n");
    let Finished { code, stderr, .. } = stage.control(&["--restart"]);
    assert!(code == Some(78) && stderr.contains("nothing was stopped"), "{stderr}");
    assert_eq!(stage.status()["pid"], pid);
    stage.expect(&["--stop"], 0, "stopped");

    stage.configure("");
    fs::remove_dir_all(stage.home.path().join("cache")).unwrap();
    fs::write(stage.home.path().join("cache"), "no directory").unwrap();
    let finished = stage.expect(&["--start"], 1, "not started");
    assert!(finished.stderr.contains("/cache"), "{}", finished.stderr);
}

/// The state of each thread, as `/proc` says it: `proc_pid_stat(5)`.
fn threads(pid: Pid) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap();
    let state = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        let (_, behind_the_name) = stat.rsplit_once(") ")?;
        behind_the_name.split(' ').next().map(str::to_owned)
    };
    tasks.map(Result::unwrap).filter_map(state).collect()
}

#[test]
fn only_force_ends_an_agent_that_does_not_stop_and_it_starts_again() {
    let stage = Stage::new();
    stage.expect(&["--start"], 0, "started");
    let pid = stage.home.pid().unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    // Its status thread is halted as well, each in its own time.
    until("every thread of it to halt", || threads(pid).iter().all(|state| state == "T"));
    let Finished { code, stdout, stderr } = stage.control(&["--status"]);
    assert_eq!(code, Some(1), "{stdout} {stderr}");
    assert!(
        stdout.starts_with("Daemon is running - ") && stderr.contains("does not say how it is"),
        "{stdout} {stderr}"
    );
    stage.expect(&["--stop", "--force"], 0, "stopped");
    stage.expect(&["--start"], 0, "started");
    let arrived = stage.server.row_count();
    until("readings again", || stage.server.row_count() > arrived);
}

#[test]
fn a_pid_file_that_names_another_process_endangers_nobody() {
    struct Bystander(Child);
    impl Drop for Bystander {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }
    let stage = Stage::new();
    let mut bystander = Bystander(Command::new("sleep").arg("1000").spawn().unwrap());
    let file = stage.home.path().join("run/pid/pattoo_agent_modbustcpd.pid");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, bystander.0.id().to_string()).unwrap();
    stage.expect(&["--status"], 3, "is stopped");
    stage.expect(&["--stop", "--force"], 0, "is stopped");
    stage.expect(&["--start"], 0, "started");
    fs::write(&file, bystander.0.id().to_string()).unwrap();
    stage.expect(&["--stop", "--force"], 0, "stopped");
    stage.expect(&["--status"], 3, "is stopped");
    assert!(bystander.0.try_wait().unwrap().is_none(), "the bystander lives");
}

#[test]
fn whoever_started_it_may_be_killed_at_any_moment_and_the_status_is_right() {
    let stage = Stage::new();
    let directory = stage.home.config_dir();
    for ms in [0, 2, 5, 10, 20, 40, 80, 160] {
        let mut starting = stage.home.start(&["--start", "--config_dir", directory.to_str().unwrap()]);
        // Not for a condition: any moment is one.
        thread::sleep(Duration::from_millis(ms));
        starting.sigkill_if_running();
        let runs = |finished: &Finished| finished.stdout.starts_with("Daemon is running");
        let first = stage.control(&["--status"]);
        assert!([Some(0), Some(1), Some(3)].contains(&first.code), "{} {}", first.stdout, first.stderr);
        assert_eq!(runs(&first), first.code != Some(3), "{}", first.stdout);
        let arrived = stage.server.row_count();
        assert_eq!(stage.control(&["--start"]).code, Some(0), "after {ms} ms");
        until("readings", || stage.server.row_count() > arrived);
        stage.expect(&["--status"], 0, "is running");
        stage.expect(&["--stop"], 0, "stopped");
        stage.expect(&["--status"], 3, "is stopped");
    }
}

#[test]
fn what_a_daemon_says_beside_its_log_has_a_file_of_its_own() {
    let stage = Stage::new();
    stage.configure("");
    stage.expect(&["--start"], 0, "started");
    let log = stage.home.path().join("log");
    until("its log", || fs::read_to_string(log.join("pattoo.log")).is_ok_and(|text| text.contains("(1070S): started")));
    let beside = log.join("pattoo-daemon.log");
    until("the other file", || beside.exists());
    assert_eq!(fs::metadata(&beside).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read_to_string(&beside).unwrap(), "", "lines of the log are in the log");
    let pid = stage.status()["pid"].to_string();
    assert_eq!(fs::read_link(format!("/proc/{pid}/fd/2")).unwrap(), beside);
    stage.expect(&["--stop"], 0, "stopped");
}
