//! Where the readings of the demonstration go: a simulated pattoo server, a simulated InfluxDB, a simulated Prometheus, a
//! simulated receiver of OTLP, a simulated broker, or a database on this machine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use influxdb_line_protocol::{FieldValue, parse_lines};
use rusqlite::{Connection, OpenFlags};

use crate::broker;
use crate::support::agent::Home;
use crate::support::judge::Arrival;
use crate::support::otlp::series_of;
use crate::support::prometheus::Labels;
use crate::support::server::Server;
use crate::support::{device::Table, listen, listen_somewhere, until};

/// A reading that arrived.
#[derive(Debug, Clone)]
pub struct Row {
    /// Milliseconds since 1970.
    pub at: u64,
    /// As it is configured.
    pub device: String,
    /// Table and number of the register.
    pub key: String,
    pub value: f64,
}

impl Row {
    /// For the arithmetic.
    pub fn arrival(&self) -> Arrival {
        let (table, address) = Table::of_key(&self.key).expect("a key of a register");
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what a register holds")]
        let word = self.value as u16;
        Arrival { unit: 0, table, address, word, timestamp: self.at }
    }
}

/// One of them.
pub enum Sink {
    Pattoo(Server),
    InfluxDb(Simulated),
    Prometheus(Simulated),
    Otlp(Simulated),
    Mqtt(Simulated),
    Sqlite { path: PathBuf, lock: Option<Connection> },
}

impl Sink {
    /// By the name of the type; `None` when there is no such.
    pub fn of(kind: &str) -> Option<Self> {
        Some(match kind {
            "pattoo" => Self::Pattoo(Server::start()),
            "influxdb" => Self::InfluxDb(Simulated::start(take)),
            "prometheus" => Self::Prometheus(Simulated::start(take)),
            "otlp" => Self::Otlp(Simulated::start(take)),
            "mqtt" => Self::Mqtt(Simulated::start(broker::take)),
            "sqlite" => Self::Sqlite { path: PathBuf::new(), lock: None },
            _ => return None,
        })
    }

    /// What a pattoo server would have; nobody is there for the others.
    pub fn pattoo(&self) -> SocketAddr {
        if let Self::Pattoo(server) = self { server.address() } else { SocketAddr::from(([127, 0, 0, 1], 1)) }
    }

    /// The line of the configuration, and what it leads to.
    pub fn configure(&mut self, home: &Home) -> (String, String) {
        match self {
            Self::Pattoo(server) => (String::new(), format!("A simulated pattoo server at {}.", server.address())),
            Self::InfluxDb(server) => (
                format!("outputs: [{{type: influxdb, url: 'http://{}', database: plant}}]\n", server.address),
                format!("A simulated InfluxDB at {}.", server.address),
            ),
            Self::Prometheus(server) => (
                format!("outputs: [{{type: prometheus, url: 'http://{}/api/v1/write'}}]\n", server.address),
                format!("A simulated Prometheus at {}.", server.address),
            ),
            Self::Otlp(server) => (
                format!("outputs: [{{type: otlp, url: 'http://{}'}}]\n", server.address),
                format!("A simulated receiver of OTLP at {}.", server.address),
            ),
            Self::Mqtt(server) => (
                format!("outputs: [{{type: mqtt, url: 'mqtt://{}'}}]\n", server.address),
                format!("A simulated broker at {}.", server.address),
            ),
            Self::Sqlite { path, .. } => {
                *path = home.path().join("daemon/readings.sqlite");
                ("outputs: [sqlite]\n".to_owned(), format!("An SQLite database, {}.", path.display()))
            }
        }
    }

    /// It takes nothing any more.
    pub fn stop(&mut self) {
        match self {
            Self::Pattoo(server) => server.stop(),
            Self::InfluxDb(server) | Self::Prometheus(server) | Self::Otlp(server) | Self::Mqtt(server) => {
                server.stop();
            }
            Self::Sqlite { path, lock } => {
                let other = Connection::open(path).expect("the database");
                until("a lock on it", || other.execute_batch("BEGIN EXCLUSIVE").is_ok());
                *lock = Some(other);
            }
        }
    }

    /// It takes readings again.
    pub fn come_back(&mut self) {
        match self {
            Self::Pattoo(server) => server.come_back(),
            Self::InfluxDb(server) | Self::Prometheus(server) | Self::Otlp(server) | Self::Mqtt(server) => {
                server.come_back();
            }
            Self::Sqlite { lock, .. } => drop(lock.take()),
        }
    }

    /// What it does when it takes nothing, for the audience.
    pub fn trouble(&self) -> &'static str {
        if let Self::Sqlite { .. } = self { "another program locks the database" } else { "the server goes away" }
    }

    /// Everything that has arrived, in order of arrival.
    pub fn rows(&self) -> Vec<Row> {
        match self {
            Self::Pattoo(server) => {
                let row = |row: &crate::support::server::Row| Row {
                    at: row.timestamp,
                    device: row.target.clone(),
                    key: row.key.clone(),
                    value: row.value.as_f64().unwrap_or_default(),
                };
                server.database().rows().iter().map(row).collect()
            }
            Self::InfluxDb(server) | Self::Prometheus(server) | Self::Otlp(server) | Self::Mqtt(server) => {
                server.rows.lock().expect("no thread of it panics").clone()
            }
            Self::Sqlite { path, .. } => of_database(path),
        }
    }

    /// What its own rules say of what arrived.
    pub fn assert_sound(&self) {
        if let Self::Pattoo(server) = self {
            server.database().assert_sound();
        }
    }
}

fn of_database(path: &Path) -> Vec<Row> {
    let Ok(database) = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY) else { return Vec::new() };
    let Ok(mut rows) = database.prepare("SELECT ms, device, key, CAST(value AS REAL) FROM history ORDER BY ms, key")
    else {
        return Vec::new();
    };
    let row = |row: &rusqlite::Row<'_>| {
        let at = row.get::<_, i64>(0)?.unsigned_abs();
        Ok(Row { at, device: row.get(1)?, key: row.get(2)?, value: row.get(3)? })
    };
    // While somebody else has it locked there is nothing to see.
    rows.query_map((), row).map_or_else(|_| Vec::new(), |rows| rows.filter_map(Result::ok).collect())
}

/// Takes what comes next over a connection; `None` when the connection is over.
type Take = fn(&TcpStream, &Mutex<Vec<Row>>) -> Option<()>;

/// A server as far as the demonstration needs it: an InfluxDB, a Prometheus or a receiver of OTLP, which takes lines, remote
/// write and metrics, plain or compressed; or a broker.
pub struct Simulated {
    address: SocketAddr,
    take: Take,
    rows: Arc<Mutex<Vec<Row>>>,
    open: Arc<Mutex<Option<Vec<TcpStream>>>>,
}

impl Simulated {
    fn start(take: Take) -> Self {
        let listener = listen_somewhere();
        let address = listener.local_addr().expect("a bound listener has an address");
        let server = Self { address, take, rows: Arc::default(), open: Arc::default() };
        server.accept_from(listener);
        server
    }

    fn accept_from(&self, listener: TcpListener) {
        *self.open.lock().expect("no thread of it panics") = Some(Vec::new());
        let (rows, open, take) = (Arc::clone(&self.rows), Arc::clone(&self.open), self.take);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut open = open.lock().expect("no thread of it panics");
                let Some(streams) = open.as_mut() else { return };
                streams.extend(stream.try_clone());
                let rows = Arc::clone(&rows);
                thread::spawn(move || while take(&stream, &rows).is_some() {});
            }
        });
    }

    fn stop(&self) {
        for stream in self.open.lock().expect("no thread of it panics").take().into_iter().flatten() {
            stream.shutdown(Shutdown::Both).ok();
        }
        // Wakes the thread that accepts, which sees that it is over.
        TcpStream::connect(self.address).ok();
        until("the server to be gone", || TcpStream::connect(self.address).is_err());
    }

    fn come_back(&self) {
        self.accept_from(listen(self.address).expect("the address that it had before"));
    }
}

/// One request; `None` when the connection is over.
fn take(stream: &TcpStream, rows: &Mutex<Vec<Row>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut gzip, mut snappy, mut protobuf) = (0, false, false, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
        gzip |= line == "content-encoding: gzip";
        snappy |= line == "content-encoding: snappy";
        protobuf |= line == "content-type: application/x-protobuf";
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    if gzip {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).ok()?;
        body = plain;
    }
    let taken = if snappy {
        of_remote_write(&snap::raw::Decoder::new().decompress_vec(&body).ok()?)
    } else if protobuf {
        series_of(&body).into_iter().flat_map(|(labels, samples)| rows_of(&labels, samples)).collect()
    } else {
        of_lines(&String::from_utf8(body).ok()?)
    };
    rows.lock().expect("no thread of it panics").extend(taken);
    let mut stream = stream;
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()
}

fn of_lines(text: &str) -> Vec<Row> {
    let mut taken = Vec::new();
    for line in parse_lines(text) {
        let line = line.expect("a line of the protocol");
        let device = line.tag_value("device").expect("a device").to_string();
        for (key, value) in &line.field_set {
            let FieldValue::F64(value) = value else { panic!("a number: {value:?}") };
            let at = line.timestamp.expect("an instant").unsigned_abs();
            taken.push(Row { at, device: device.clone(), key: key.to_string(), value: *value });
        }
    }
    taken
}

/// `WriteRequest` of remote write 1.0, by its specification.
#[derive(Clone, PartialEq, prost::Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

fn of_remote_write(body: &[u8]) -> Vec<Row> {
    let request = <WriteRequest as prost::Message>::decode(body).expect("a message of the protocol");
    let rows = request.timeseries.into_iter().flat_map(|TimeSeries { labels, samples }| {
        let labels: Labels = labels.into_iter().map(|Label { name, value }| (name, value)).collect();
        rows_of(
            &labels,
            samples.into_iter().map(|Sample { value, timestamp }| (timestamp.unsigned_abs(), value)).collect(),
        )
    });
    rows.collect()
}

fn rows_of(labels: &Labels, samples: Vec<(u64, f64)>) -> Vec<Row> {
    let label = |name: &str| labels.iter().find(|(label, _)| label == name).expect(name).1.clone();
    let (device, metric) = (label("device"), label("__name__"));
    let key = metric.strip_prefix("modbus_").expect("the prefix of every metric").to_owned();
    let row = |(at, value)| Row { at, device: device.clone(), key: key.clone(), value };
    samples.into_iter().map(row).collect()
}
