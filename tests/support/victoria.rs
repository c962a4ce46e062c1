//! A real VictoriaMetrics on a free port of an address of its own, which takes OTLP, with its files in a directory of its own.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::PATIENCE;
use super::prometheus::{Series, escaped, request};

/// The server; it ends with this.
pub struct Victoria {
    directory: tempfile::TempDir,
    address: SocketAddr,
    process: Option<Child>,
}

impl Victoria {
    /// Started, without any series.
    pub fn start() -> Self {
        let address = super::listen_somewhere().local_addr().unwrap();
        let mut server = Self { directory: tempfile::tempdir().unwrap(), address, process: None };
        server.run();
        server
    }

    /// What the output is told.
    pub fn url(&self) -> String {
        format!("http://{}/opentelemetry", self.address)
    }

    /// Starts it again after [`stop`](Self::stop), and waits until it is ready.
    pub fn run(&mut self) {
        let path = |name: &str| self.directory.path().join(name);
        let log = fs::File::options().create(true).append(true).open(path("log")).unwrap();
        let mut command = Command::new("victoria-metrics");
        command.arg(format!("-storageDataPath={}", path("data").display()));
        command.arg(format!("-httpListenAddr={}", self.address));
        // What comes twice is there twice without this.
        command.args(["-dedup.minScrapeInterval=1ms", "-memory.allowedBytes=64MB"]);
        self.process = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let begun = Instant::now();
        while request(self.address, "GET", "/health", &[]).is_none_or(|(status, _)| status != 200) {
            assert!(begun.elapsed() < PATIENCE, "{}", fs::read_to_string(path("log")).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it as its unit does. Killed, it forgets the last seconds of what it has acknowledged.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.process.take().unwrap().wait().unwrap();
    }

    /// It answers nobody until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.process.as_ref().unwrap());
        kill_process(pid, signal).unwrap();
    }

    /// Every series that a selector finds, with every sample.
    pub fn series(&self, selector: &str) -> Vec<Series> {
        request(self.address, "GET", "/internal/force_flush", &[]);
        let path = format!("/api/v1/export?match%5B%5D={}&start=0", escaped(selector));
        let Some((status, body)) = request(self.address, "GET", &path, &[]) else { return Vec::new() };
        assert_eq!(status, 200, "{body}");
        let series = |line: &str| {
            let found: Value = serde_json::from_str(line).unwrap();
            let numbers = |key: &str| found[key].as_array().unwrap().clone().into_iter();
            let samples = numbers("timestamps").zip(numbers("values"));
            Series {
                labels: found["metric"].clone(),
                samples: samples.map(|(at, value)| (at.as_u64().unwrap(), value.as_f64().unwrap())).collect(),
            }
        };
        body.lines().map(series).collect()
    }
}

impl Drop for Victoria {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
    }
}
