//! A real InfluxDB of version 1 on a free port of loopback, with its files in a directory of its own.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::PATIENCE;

/// The server; it ends with this.
pub struct InfluxDb {
    directory: tempfile::TempDir,
    address: SocketAddr,
    process: Option<Child>,
}

/// A row of an answer: its time in milliseconds, its tags, and its fields, those without a value left out.
#[derive(Debug)]
pub struct Row {
    pub at: u64,
    pub tags: Value,
    pub fields: Vec<(String, Value)>,
}

impl InfluxDb {
    /// Started, without a database. `login`: only who has one may do anything; `admin` with the password `geheim` has.
    pub fn start(login: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let at = directory.path().display();
        let config = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:0\"\n[meta]\ndir = \"{at}/meta\"\n[data]\ndir = \
             \"{at}/data\"\nwal-dir = \"{at}/wal\"\nquery-log-enabled = false\n[http]\nbind-address = \"{address}\"\n\
             auth-enabled = {login}\nlog-enabled = false\n[monitor]\nstore-enabled = false\n"
        );
        fs::write(directory.path().join("influxdb.conf"), config).unwrap();
        let mut server = Self { directory, address, process: None };
        server.run();
        if login {
            server.ask("CREATE USER admin WITH PASSWORD 'geheim' WITH ALL PRIVILEGES");
        }
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts it again after [`kill`](Self::kill), and waits until it answers.
    pub fn run(&mut self) {
        let log = fs::File::create(self.path("influxd.log")).unwrap();
        let mut command = Command::new("influxd");
        command.arg("-config").arg(self.path("influxdb.conf"));
        let process = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.process = Some(process);
        let begun = std::time::Instant::now();
        while self.request("GET", "/ping", "").is_none_or(|answer| !answer.starts_with("HTTP/1.1 204")) {
            assert!(begun.elapsed() < PATIENCE, "{}", fs::read_to_string(self.path("influxd.log")).unwrap_or_default());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Writes a line.
    pub fn write(&self, database: &str, line: &str) {
        let answer = self.request("POST", &format!("/write?db={database}&precision=ms"), line).unwrap();
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }

    /// What it answers to a query.
    pub fn ask(&self, query: &str) -> Value {
        let mut escaped = String::new();
        for byte in query.bytes() {
            write!(escaped, "%{byte:02X}").unwrap();
        }
        let path = format!("/query?epoch=ms&u=admin&p=geheim&q={escaped}");
        let answer = self.request("POST", &path, "").unwrap_or_default();
        let Some((_, body)) = answer.split_once("\r\n\r\n") else { return Value::Null };
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{query}: {error}: {answer}"))
    }

    /// Everything in a measurement, in order of time.
    pub fn rows(&self, database: &str, measurement: &str) -> Vec<Row> {
        let answer = self.ask(&format!("SELECT * FROM \"{database}\"..\"{measurement}\" GROUP BY *"));
        let mut rows = Vec::new();
        for series in answer["results"][0]["series"].as_array().into_iter().flatten() {
            let columns: Vec<_> = series["columns"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
            for values in series["values"].as_array().unwrap() {
                let fields = columns.iter().zip(values.as_array().unwrap()).skip(1);
                let fields = fields.filter(|(_, value)| !value.is_null());
                let fields = fields.map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
                rows.push(Row { at: values[0].as_u64().unwrap(), tags: series["tags"].clone(), fields });
            }
        }
        rows.sort_by_key(|row| row.at);
        rows
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Version 1.0, so that the answer is in one piece and the connection ends with it.
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        // It answers in the version that it speaks.
        Some(String::from_utf8_lossy(&answer).replacen("HTTP/1.0", "HTTP/1.1", 1))
    }
}

impl Drop for InfluxDb {
    fn drop(&mut self) {
        self.kill();
    }
}
