//! A real Prometheus on a free port of an address of its own, with its files in a directory of its own.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::PATIENCE;

/// The server; it ends with this.
pub struct Prometheus {
    directory: tempfile::TempDir,
    address: SocketAddr,
    process: Option<Child>,
    /// Whether it takes remote write.
    pub receives: bool,
}

/// Names and values.
pub type Labels = Vec<(String, String)>;

/// A series: its labels, and its samples in the order in which the server gives them.
#[derive(Debug)]
pub struct Series {
    pub labels: Value,
    pub samples: Vec<(u64, f64)>,
}

impl Prometheus {
    /// Started, without any series.
    pub fn start() -> Self {
        let mut server = Self {
            directory: tempfile::tempdir().unwrap(),
            // Freed again at once; nobody else listens on this address.
            address: super::listen_somewhere().local_addr().unwrap(),
            process: None,
            receives: true,
        };
        server.configure("");
        server.run();
        server
    }

    /// What its configuration says besides nothing, from the next start on.
    pub fn configure(&self, yaml: &str) {
        fs::write(self.path("prometheus.yml"), format!("global: {{}}\n{yaml}")).unwrap();
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint of remote write.
    pub fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// Where its series are.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts it again after [`kill`](Self::kill), and waits until it is ready.
    pub fn run(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", self.path("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", self.data().display()));
        command.arg(format!("--web.listen-address={}", self.address));
        command.args(self.receives.then_some("--web.enable-remote-write-receiver"));
        let process = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.process = Some(process);
        let begun = std::time::Instant::now();
        while self.request("GET", "/-/ready", &[]).is_none_or(|(status, _)| status != 200) {
            assert!(begun.elapsed() < PATIENCE, "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Writes a sample as somebody else would; the answer's status and body.
    pub fn write(&self, labels: &[(&str, &str)], at: u64, value: f64) -> (u16, String) {
        let labels = labels.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        self.write_all(&[(labels, vec![(at, value)])]).unwrap()
    }

    /// Writes series, each with its labels, sorted, and its samples; the answer's status and body.
    pub fn write_all(&self, series: &[(Labels, Vec<(u64, f64)>)]) -> Option<(u16, String)> {
        // By hand from the specification: what the agent has for it must not judge itself.
        let varint = |mut left: u64| {
            let mut bytes = Vec::new();
            while left >= 128 {
                bytes.push(u8::try_from(left & 127).unwrap() | 128);
                left >>= 7;
            }
            bytes.push(u8::try_from(left).unwrap());
            bytes
        };
        let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2], &*varint(bytes.len() as u64), bytes].concat();
        let mut request = Vec::new();
        for (labels, samples) in series {
            let mut series = Vec::new();
            for (name, text) in labels {
                series.extend(field(1, &[field(1, name.as_bytes()), field(2, text.as_bytes())].concat()));
            }
            for (at, value) in samples {
                series.extend(field(2, &[&[1 << 3 | 1][..], &value.to_le_bytes(), &[2 << 3], &varint(*at)].concat()));
            }
            request.extend(field(1, &series));
        }
        self.request("POST", "/api/v1/write", &snap::raw::Encoder::new().compress_vec(&request).unwrap())
    }

    /// Every series that a selector finds, with every sample of the last day.
    pub fn series(&self, selector: &str) -> Vec<Series> {
        let escaped = escaped(&format!("{selector}[1d]"));
        let time = super::now_ms() / 1_000 + 10_000;
        let Some((status, body)) = self.request("GET", &format!("/api/v1/query?time={time}&query={escaped}"), &[])
        else {
            return Vec::new();
        };
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        let number = |value: &Value| value.as_str().unwrap().parse().unwrap();
        let sample = |sample: &Value| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time with three digits")]
            let at = (sample[0].as_f64().unwrap() * 1_000.0).round() as u64;
            (at, number(&sample[1]))
        };
        let series = answer["data"]["result"].as_array().unwrap().iter();
        series
            .map(|series| Series {
                labels: series["metric"].clone(),
                samples: series["values"].as_array().unwrap().iter().map(sample).collect(),
            })
            .collect()
    }

    fn request(&self, method: &str, path: &str, body: &[u8]) -> Option<(u16, String)> {
        request(self.address, method, path, body)
    }
}

/// A text as the value of a parameter.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        write!(escaped, "%{byte:02X}").unwrap();
    }
    escaped
}

/// One exchange; `None` where there is no whole answer.
pub fn request(server: SocketAddr, method: &str, path: &str, body: &[u8]) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Version 1.0, so that the answer is in one piece and the connection ends with it.
    let head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Makes blocks of text, as a person does with what a server finds too old; what promtool says if it cannot.
pub fn blocks_from(text: &Path, data: &Path) -> Result<(), String> {
    let mut promtool = Command::new("promtool");
    let output = promtool.args(["tsdb", "create-blocks-from", "openmetrics"]).args([text, data]).output().unwrap();
    let said = || String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned();
    if output.status.success() { Ok(()) } else { Err(said()) }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.kill();
    }
}
