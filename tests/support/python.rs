//! What the Python agent leaves behind, bodies and cache files in its own spelling, and a stand-in for its daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::server::{Row, checksum};

/// A body as the Python agent posts and caches it: `(target, key, value)` of unit 0, all read at `at`.
pub fn body(agent_id: &str, at: u64, readings: &[(&str, &str, f64)]) -> Vec<u8> {
    let mut pairs: Vec<serde_json::Value> = Vec::new();
    let mut datapoints = Vec::new();
    for (target, key, value) in readings {
        let mut row = Row {
            checksum: String::new(),
            unit: "000".to_owned(),
            interval: "300000".to_owned(),
            hostname: "python.example.net".to_owned(),
            agent_id: agent_id.to_owned(),
            target: (*target).to_owned(),
            program: "pattoo_agent_modbustcpd".to_owned(),
            key: (*key).to_owned(),
            data_type: 99,
            value: json!(value),
            timestamp: at,
        };
        row.checksum = checksum(&row);
        let first = pairs.len();
        pairs.extend([
            json!(["unit", row.unit]),
            json!(["pattoo_agent_polling_interval", row.interval]),
            json!(["pattoo_agent_hostname", row.hostname]),
            json!(["pattoo_agent_id", row.agent_id]),
            json!(["pattoo_agent_polled_target", row.target]),
            json!(["pattoo_agent_program", row.program]),
            json!(["pattoo_key", row.key]),
            json!(["pattoo_data_type", row.data_type]),
            json!(["pattoo_value", row.value]),
            json!(["pattoo_timestamp", row.timestamp]),
            json!(["pattoo_checksum", row.checksum]),
        ]);
        datapoints.push((first..pairs.len()).collect::<Vec<_>>());
    }
    let numbered: Vec<String> = pairs.iter().enumerate().map(|(id, pair)| format!("\"{id}\": {pair}")).collect();
    format!(
        "{{\"pattoo_agent_timestamp\": {at}, \"pattoo_agent_id\": \"{agent_id}\", \
         \"pattoo_agent_polling_interval\": 300000, \"pattoo_datapoints\": \
         {{\"key_value_pairs\": {{{}}}, \"datapoint_pairs\": {}}}}}",
        numbered.join(", "),
        json!(datapoints),
    )
    .into_bytes()
}

/// Puts a cache file where the Python agent would have put it; `directory` is that of its agent id.
pub fn leave(directory: &Path, agent_id: &str, at: u64, body: &[u8]) -> PathBuf {
    fs::create_dir_all(directory).expect("a cache directory");
    let path = directory.join(format!("{at}_{agent_id}.json"));
    fs::write(&path, body).expect("a cache file");
    path
}

/// A stand-in for the Python agent as its users start and stop it: the same files, the same flags, no polling.
///
/// `--start` refuses while there is a pid file, leaves the terminal and writes its pid; `--stop` waits for as long as
/// there is a lock file, sends SIGTERM until the process is gone, then removes both files.
const AGENT: &str = r"
import os, signal, sys, time
root, flags = sys.argv[-1], sys.argv[1:-1]
pid_file = root + '/pid/pattoo_agent_modbustcpd.pid'
lock_file = root + '/lock/pattoo_agent_modbustcpd.lock'
for path in (pid_file, lock_file):
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)

def pid():
    try:
        with open(pid_file) as file:
            return int(file.read().strip())
    except OSError:
        return None

if '--start' in flags:
    if pid():
        sys.exit('PID file already exists. Daemon already running?')
    if '--deaf' in flags:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork():
        os.wait()
        sys.exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open('/dev/null', os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    with open(pid_file, 'w+') as file:
        file.write('{}\n'.format(os.getpid()))
    while True:
        time.sleep(1)
if '--stop' in flags:
    process = pid()
    try:
        while process:
            if not os.path.exists(lock_file):
                os.kill(process, signal.SIGTERM)
            time.sleep(0.05)
    except ProcessLookupError:
        for path in (pid_file, lock_file):
            if os.path.exists(path):
                os.remove(path)
";

/// The Python agent's stand-in, in the directories of one home.
#[derive(Debug)]
pub struct PythonAgent {
    script: PathBuf,
    root: PathBuf,
}

impl PythonAgent {
    /// The script, not started, with its files below `root`.
    pub fn in_directory(root: &Path) -> Self {
        let script = root.with_extension("bin").join("pattoo_agent_modbustcpd.py");
        fs::create_dir_all(script.parent().expect("a directory")).expect("a directory for the script");
        fs::write(&script, AGENT).expect("the script");
        Self { script, root: root.to_owned() }
    }

    /// Runs the script with these flags; its exit code.
    pub fn run(&self, flags: &[&str]) -> Option<i32> {
        let mut command = Command::new("python3");
        command.arg(&self.script).args(flags).arg(&self.root).stderr(Stdio::null());
        command.status().expect("python3").code()
    }

    /// Starts the daemon and waits until it has written its pid.
    pub fn start(&self, more: &[&str]) -> Pid {
        assert_eq!(self.run(&[&["--start"], more].concat()), Some(0));
        super::until("the pid file of the Python agent", || self.pid().is_some());
        self.pid().expect("a pid")
    }

    /// What its pid file says.
    pub fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.pid_file()).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    }

    /// Where it writes its pid.
    pub fn pid_file(&self) -> PathBuf {
        self.root.join("pid/pattoo_agent_modbustcpd.pid")
    }

    /// For whose absence its `--stop` waits.
    pub fn lock_file(&self) -> PathBuf {
        self.root.join("lock/pattoo_agent_modbustcpd.lock")
    }
}

/// Whether a process runs; one that has ended and is waited for by nobody does not.
pub fn runs(pid: Pid) -> bool {
    let line = fs::read(format!("/proc/{}/cmdline", Pid::as_raw(Some(pid))));
    line.is_ok_and(|line| !line.is_empty())
}

impl Drop for PythonAgent {
    fn drop(&mut self) {
        // By its own pid file, unless the number is another process's by now.
        let ours = |pid: Pid| {
            let line = fs::read(format!("/proc/{}/cmdline", Pid::as_raw(Some(pid)))).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&*self.script.to_string_lossy())
        };
        if let Some(pid) = self.pid().filter(|&pid| ours(pid)) {
            kill_process(pid, Signal::KILL).ok();
        }
    }
}
