//! Beside the Python agent of the same name, which knows nothing of us: a stand-in that behaves as it does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::process::{Child, Command};

use rustix::process::Pid;
use support::agent::{Finished, Home};
use support::device::Device;
use support::python::{PythonAgent, runs};
use support::server::Server;
use support::{needs, until};

/// A home for both agents. Whatever is in the background ends with the test.
struct Stage {
    /// Before its files are gone.
    python: PythonAgent,
    home: Home,
    _device: Device,
    server: Server,
}

impl Stage {
    fn new() -> Self {
        Self::with_pid_file_below("run")
    }

    /// Earlier releases of the Python agent have their pid file below `daemon_directory`.
    fn with_pid_file_below(directory: &str) -> Self {
        let (device, server) = (Device::counting(1), Server::start());
        let home = Home::new(server.address());
        home.write_groups("100ms", &format!("  - {{ip_devices: ['{}'], input_registers: [30001]}}\n", device.target()));
        let python = PythonAgent::in_directory(&home.path().join(directory));
        Self { python, home, _device: device, server }
    }

    fn ours(&self, flags: &[&str]) -> Finished {
        let directory = self.home.config_dir();
        self.home.output(&[flags, &["--config_dir", directory.to_str().unwrap()]].concat())
    }

    /// Fails unless our command ends with this code, and its first line says this.
    fn expect(&self, flags: &[&str], code: i32, words: &str) -> Finished {
        let finished = self.ours(flags);
        assert_eq!(finished.code, Some(code), "{flags:?}: {} {}", finished.stdout, finished.stderr);
        let line = finished.stdout.lines().next().unwrap_or_default();
        assert_eq!(line, format!("Daemon {words} - pattoo_agent_modbustcpd"), "{flags:?}");
        finished
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.ours(&["--stop", "--force"]);
    }
}

#[test]
fn none_starts_beside_it_and_the_status_says_who_runs() {
    if !needs(&["python3"]) {
        return;
    }
    for directory in ["run", "daemon"] {
        let stage = Stage::with_pid_file_below(directory);
        let pid = stage.python.start(&[]);
        let number = pid.as_raw_nonzero().to_string();
        let status = stage.expect(&["--status"], 75, "is running");
        assert!(status.stdout.contains(&format!("the Python agent runs, process {number}")), "{}", status.stdout);
        let json: serde_json::Value =
            serde_json::from_str(&stage.ours(&["--status", "--format", "json"]).stdout).unwrap();
        assert_eq!((&json["running"], json["python_agent"]["pid"].to_string()), (&false.into(), number.clone()));

        let of_a_shard = stage.ours(&["run", "--shard", "1/2"]);
        for refused in [stage.expect(&["--start"], 75, "not started"), stage.ours(&["run"]), of_a_shard] {
            assert_eq!(refused.code, Some(75), "{}", refused.stderr);
            for said in ["the Python agent runs", &number, "--stop ends it"] {
                assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
            }
        }
        assert_eq!(stage.python.pid(), Some(pid), "its pid file is its own");
        assert!(runs(pid));
        assert!(stage.server.database().rows().is_empty());
    }
}

/// A service sees no process of another user (`ProtectProc=invisible`), so it cannot tell; it starts and says so.
#[test]
fn one_of_another_user_that_cannot_be_seen_is_warned_of() {
    if !needs(&["root", "unshare", "mount", "setpriv"]) {
        return;
    }
    let stage = Stage::new();
    let mut other = Command::new("setpriv").args(["--reuid=65532", "--clear-groups", "sleep", "60"]).spawn().unwrap();
    let pid_file = stage.python.pid_file();
    fs::create_dir_all(pid_file.parent().unwrap()).unwrap();
    fs::write(&pid_file, other.id().to_string()).unwrap();
    // Group 0 would see all.
    let script = "mount -t proc -o hidepid=invisible proc /proc && exec setpriv --regid=65531 --clear-groups \
                  --inh-caps=-all --bounding-set=-all \"$0\" \"$@\"";
    let mut agent = stage.home.run_under("unshare", &["--mount", "sh", "-c", script].map(ToOwned::to_owned));
    agent.until("readings", || stage.server.row_count() > 0);
    let said = format!("{} names process {}, which another user runs", pid_file.display(), other.id());
    assert!(agent.log().contains(&said), "{}", agent.log());
    agent.stop();
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn stop_ends_it_and_removes_what_it_leaves() {
    if !needs(&["python3"]) {
        return;
    }
    let stage = Stage::new();
    let pid = stage.python.start(&[]);
    fs::write(stage.python.lock_file(), "").unwrap();
    stage.expect(&["--stop"], 0, "stopped");
    assert!(!runs(pid));
    assert!(!stage.python.pid_file().exists() && !stage.python.lock_file().exists());
    stage.expect(&["--stop"], 0, "is stopped");
    stage.expect(&["--status"], 3, "is stopped");
}

#[test]
fn only_force_ends_one_that_does_not_stop() {
    if !needs(&["python3"]) {
        return;
    }
    let stage = Stage::new();
    let pid = stage.python.start(&["--deaf"]);
    stage.expect(&["--stop", "--force"], 0, "stopped");
    assert!(!runs(pid));
    assert!(!stage.python.pid_file().exists());
}

#[test]
fn restart_puts_this_agent_in_its_place() {
    if !needs(&["python3"]) {
        return;
    }
    let stage = Stage::new();
    let pid = stage.python.start(&[]);
    stage.expect(&["--restart"], 0, "stopped");
    assert!(!runs(pid));
    stage.expect(&["--status"], 0, "is running");
    until("readings", || stage.server.row_count() > 0);
    assert_ne!(stage.python.run(&["--start"]), Some(0), "nor does it start beside this one");
}

#[test]
fn going_back_to_it_works_also_after_an_earlier_release_of_this_agent() {
    if !needs(&["python3"]) {
        return;
    }
    for left_by_an_earlier_release in [false, true] {
        let stage = Stage::new();
        if left_by_an_earlier_release {
            fs::create_dir_all(stage.python.lock_file().parent().unwrap()).unwrap();
            fs::write(stage.python.lock_file(), "").unwrap();
        }
        stage.expect(&["--start"], 0, "started");
        assert!(!stage.python.lock_file().exists(), "its --stop would wait for as long as there is one");
        stage.expect(&["--stop"], 0, "stopped");
        let pid = stage.python.start(&[]);
        assert_eq!(stage.python.run(&["--stop"]), Some(0));
        assert!(!runs(pid));
    }
    // Its own `--stop` ends us, too, as whoever has the old one in a script expects.
    let stage = Stage::new();
    stage.expect(&["--start"], 0, "started");
    assert_eq!(stage.python.run(&["--stop"]), Some(0));
    stage.expect(&["--status"], 3, "is stopped");
}

/// A process that ends with the test, however that ends.
struct Bystander(Child);

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn an_unrelated_process_with_its_number_is_left_alone() {
    if !needs(&["python3"]) {
        return;
    }
    let stage = Stage::new();
    let script = stage.home.path().join("another.py");
    fs::write(&script, "import time\nwhile True:\n    time.sleep(1)\n").unwrap();
    fs::create_dir_all(stage.python.pid_file().parent().unwrap()).unwrap();
    // The name as an argument of another script is not the script.
    for arguments in [vec![script.to_str().unwrap()], vec![script.to_str().unwrap(), "pattoo_agent_modbustcpd.py"]] {
        let mut bystander = Bystander(Command::new("python3").args(&arguments).spawn().unwrap());
        let pid = Pid::from_child(&bystander.0);
        fs::write(stage.python.pid_file(), format!("{}\n", bystander.0.id())).unwrap();
        until("the bystander's program", || {
            fs::read_to_string(format!("/proc/{}/cmdline", bystander.0.id()))
                .is_ok_and(|line| line.contains("another.py"))
        });
        stage.expect(&["--status"], 3, "is stopped");
        stage.expect(&["--stop", "--force"], 0, "is stopped");
        assert!(bystander.0.try_wait().unwrap().is_none() && runs(pid), "{arguments:?}");
        stage.expect(&["--start"], 0, "started");
        stage.expect(&["--stop"], 0, "stopped");
        assert!(bystander.0.try_wait().unwrap().is_none(), "{arguments:?}");
    }
}
