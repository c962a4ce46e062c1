//! The real binary: a directory of its own, a configuration, a process that does not outlive the test.
//!
//! Waiting is always for a condition, with a limit, and ends at once when the agent has died; whoever waits
//! in vain gets the agent's log printed.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::PATIENCE;

/// The host name in every configuration that [`Home`] writes.
pub const HOSTNAME: &str = "agent.example.net";

/// Nobody listens there.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// Points of the tests of outputs: registers of both tables.
pub const POINTS: &str = "input_registers: [30001-30010], holding_registers: [40101]";

/// Everything an agent owns: configuration, cache, id, log; removed when dropped.
#[derive(Debug)]
pub struct Home {
    root: TempDir,
    binary: PathBuf,
    environment: Vec<(String, String)>,
}

impl Home {
    /// A home for the binary that Cargo built for this test, posting to `server`.
    pub fn new(server: SocketAddr) -> Self {
        let Some(binary) = option_env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd") else {
            unreachable!("Cargo sets it for tests; an example uses `of`")
        };
        Self::of(Path::new(binary), server, "debug")
    }

    /// A home for this binary, posting to `server`, logging from `log_level` up.
    pub fn of(binary: &Path, server: SocketAddr, log_level: &str) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let home = Self { root, binary: binary.to_path_buf(), environment: Vec::new() };
        fs::create_dir(home.config_dir()).expect("a directory for the configuration");
        let root = home.path().display();
        let pattoo = format!(
            "pattoo:\n  log_level: {log_level}\n  log_directory: {root}/log\n  cache_directory: {root}/cache\n  \
             daemon_directory: {root}/daemon\n  system_daemon_directory: {root}/run\n  language: en\n\
             pattoo_agent_api:\n  ip_address: {}\n  ip_bind_port: {}\n",
            server.ip(),
            server.port(),
        );
        fs::write(home.config_dir().join("pattoo.yaml"), pattoo).expect("a file in it");
        home
    }

    /// A home without a pattoo server: whatever is configured there, nobody listens.
    pub fn without_pattoo() -> Self {
        Self::new(NOWHERE)
    }

    /// The directory of this home.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Where the status page of each life is that has told it, the first life first.
    pub fn pages(&self) -> Vec<SocketAddr> {
        let log = self.log();
        let told = log.split("the status page is on http://").skip(1);
        // A line may be half written.
        told.filter_map(|rest| rest.split_once("/\n")?.0.parse().ok()).collect()
    }

    /// The directory with the configuration.
    pub fn config_dir(&self) -> PathBuf {
        self.path().join("etc")
    }

    /// Writes `pattoo_agent_modbustcpd.yaml` as it stands.
    pub fn write_config(&self, yaml: &str) {
        fs::write(self.config_dir().join("pattoo_agent_modbustcpd.yaml"), yaml).expect("a file in the home");
    }

    /// Writes a configuration: polling groups as YAML list items, one interval for all.
    pub fn write_groups(&self, interval: &str, groups: &str) {
        self.write_config(&format!(
            "polling_interval: {interval}\nagent_hostname: {HOSTNAME}\npolling_groups:\n{groups}"
        ));
    }

    /// Writes a configuration with this one output, as YAML, that polls `points` of unit 1 of a device ten times a second.
    pub fn write_output(&self, output: &str, target: &str, points: &str) {
        self.write_config(&format!(
            "polling_interval: 100ms\nflush_interval: 20ms\nagent_hostname: {HOSTNAME}\noutputs: [{output}]\npolling_groups:\n  \
             - {{group_name: meters, ip_devices: ['{target}'], unit: 1, {points}}}\n"
        ));
    }

    /// What the agent has written to its log file so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path().join("log/pattoo.log")).unwrap_or_default()
    }

    /// Whether these words are in its log file.
    pub fn says(&self, words: &str) -> bool {
        self.log().contains(words)
    }

    /// Sets a variable of the agent's environment.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// The agent id in its file.
    pub fn agent_id(&self) -> String {
        fs::read_to_string(self.agent_id_file()).expect("an agent id").trim().to_owned()
    }

    /// Puts this text where the agent keeps its id.
    pub fn write_agent_id(&self, text: &str) {
        let file = self.agent_id_file();
        fs::create_dir_all(file.parent().expect("a file in a directory")).expect("a directory for the id");
        fs::write(file, text).expect("a file in it");
    }

    /// Where the agent keeps its id.
    pub fn agent_id_file(&self) -> PathBuf {
        self.path().join("daemon/agent_id/pattoo_agent_modbustcpd.agent_id")
    }

    /// Where the agent keeps what is not delivered yet.
    pub fn spool(&self) -> PathBuf {
        self.path().join("cache").join(self.agent_id())
    }

    /// What is on disk and not delivered to the pattoo server, as bodies: the old caches first, then one for each batch of the
    /// log.
    pub fn spooled(&self) -> Vec<Vec<u8>> {
        let mut bodies = self.cached();
        bodies.extend(super::spool::waiting(&self.spool(), "pattoo"));
        bodies
    }

    /// The bodies of old caches, in the order of their names.
    pub fn cached(&self) -> Vec<Vec<u8>> {
        let Ok(entries) = fs::read_dir(self.spool()) else { return Vec::new() };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        files.sort();
        // One that is gone meanwhile has been delivered.
        files.iter().filter_map(|path| fs::read(path).ok()).collect()
    }

    /// How many batches were set aside as damaged.
    pub fn quarantined(&self) -> usize {
        fs::read_dir(self.spool().join("quarantine")).map_or(0, Iterator::count)
    }

    /// Starts the agent in the foreground.
    pub fn run(&self) -> Agent {
        self.start(&["run", "--config_dir", self.config_dir().to_str().expect("a path in UTF-8")])
    }

    /// Starts the agent in the foreground below another program, which gets these arguments first.
    pub fn run_under(&self, program: &str, arguments: &[String]) -> Agent {
        let mut command = Command::new(program);
        command.args(arguments).arg(&self.binary);
        self.spawn(command, &["run", "--config_dir", self.config_dir().to_str().expect("a path in UTF-8")])
    }

    /// The process that the agent says it is, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        let pid = fs::read_to_string(self.path().join("run/pid/pattoo_agent_modbustcpd.pid")).ok()?;
        Pid::from_raw(pid.trim().parse().ok()?)
    }

    /// Starts the agent with these arguments.
    pub fn start(&self, arguments: &[&str]) -> Agent {
        self.spawn(Command::new(&self.binary), arguments)
    }

    fn spawn(&self, mut command: Command, arguments: &[&str]) -> Agent {
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_remove("PATTOO_CONFIGDIR").current_dir(self.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn().expect("the agent's binary");
        let output = Output::default();
        let readers = vec![
            output.collect(child.stdout.take().expect("piped"), |text| &mut text.stdout),
            output.collect(child.stderr.take().expect("piped"), |text| &mut text.stderr),
        ];
        Agent { child, output, readers, ended: None }
    }

    /// Runs the agent with these arguments to its end.
    pub fn output(&self, arguments: &[&str]) -> Finished {
        let mut agent = self.start(arguments);
        let code = agent.wait(PATIENCE);
        Finished { code, stdout: agent.stdout(), stderr: agent.log() }
    }
}

/// What a finished process left.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// A running agent; killed when dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    output: Output,
    readers: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

impl Agent {
    /// Its log so far.
    pub fn log(&self) -> String {
        self.output.text.lock().expect("no reader panics").stderr.clone()
    }

    /// What it printed so far.
    pub fn stdout(&self) -> String {
        self.output.text.lock().expect("no reader panics").stdout.clone()
    }

    /// Waits until `condition` holds; fails the test with the log when it does not, or when the agent dies.
    pub fn until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                self.fail(&format!("the agent ended ({status}) while waiting for: {what}"));
            }
            if Instant::now() > deadline {
                self.fail(&format!("waited {PATIENCE:?} in vain for: {what}"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    /// Asks it to stop.
    pub fn sigterm(&self) {
        self.signal(Signal::TERM);
    }

    /// Has it read its configuration again.
    pub fn sighup(&self) {
        self.signal(Signal::HUP);
    }

    /// Stops it as Ctrl-C does.
    pub fn sigint(&self) {
        self.signal(Signal::INT);
    }

    /// Halts it without its knowing, until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut would, as far as it can tell.
    pub fn sigkill(&mut self) {
        self.signal(Signal::KILL);
        assert_eq!(self.wait(PATIENCE), None, "killed by a signal");
    }

    /// Kills it unless it has ended by itself.
    pub fn sigkill_if_running(&mut self) {
        if self.is_running() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }

    /// Whether it ends by itself within this time.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Waits for its end, and fails the test unless it has this exit code.
    pub fn ends_with(&mut self, code: i32) {
        let ended = self.wait(PATIENCE);
        if ended != Some(code) {
            self.fail(&format!("exit code {ended:?} instead of {code}"));
        }
    }

    /// Waits for its end; its exit code, or `None` when a signal ended it.
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        let deadline = Instant::now() + limit;
        while self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child of ours");
            if self.ended.is_none() && Instant::now() > deadline {
                self.fail(&format!("the agent still runs after {limit:?}"));
            }
            thread::sleep(Duration::from_millis(2));
        }
        for reader in self.readers.drain(..) {
            reader.join().expect("no reader panics");
        }
        self.ended.and_then(|status| status.code())
    }

    /// Stops it and fails the test unless it ends in order.
    pub fn stop(&mut self) {
        self.sigterm();
        let code = self.wait(PATIENCE);
        if code != Some(0) {
            self.fail(&format!("exit code {code:?} after SIGTERM"));
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a process of ours");
    }

    fn fail(&self, why: &str) -> ! {
        let mut message = format!("{why}\n--- its log ---\n");
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let skipped = lines.len().saturating_sub(200);
        if skipped > 0 {
            writeln!(message, "… {skipped} lines before").expect("memory");
        }
        panic!("{message}{}", lines[skipped..].join("\n"));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[derive(Debug, Default)]
struct Output {
    text: Arc<Mutex<Text>>,
}

#[derive(Debug, Default)]
struct Text {
    stdout: String,
    stderr: String,
}

impl Output {
    fn collect(&self, pipe: impl Read + Send + 'static, side: fn(&mut Text) -> &mut String) -> JoinHandle<()> {
        let text = Arc::clone(&self.text);
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(pipe.read_until(b'\n', &mut line), Ok(read) if read > 0) {
                side(&mut text.lock().expect("no reader panics")).push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        })
    }
}
