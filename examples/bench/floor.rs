//! The least that a client can do: one thread, one epoll, no actors, no checks, no decoding.
//!
//! Polls the same registers of the same devices at the same instants as the agent. The *read floor* discards
//! what it reads; the *full floor* also writes as many bytes as the agent, with the same calls to make them
//! durable, posts them as they are and removes them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::net::TcpStream as Stream;
use mio::{Events, Interest, Poll, Token};
use pattoo_agent_modbustcpd::time::schedule::Grid;
use tempfile::TempDir;

use crate::fleet::{MAX_DATAPOINTS, Shape, template};

/// Polls for ever; with a port of a server, keeps and posts as well.
pub fn run(shape: Shape, simulator: u16, server: Option<u16>) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut devices = Vec::new();
    for (place, target) in shape.targets(simulator).into_iter().enumerate() {
        let address: SocketAddr = target.parse().expect("an address and a port");
        let mut stream = Stream::from_std(connect(address)?);
        poll.registry().register(&mut stream, Token(place), Interest::READABLE)?;
        devices.push(stream);
    }
    let interval = shape.interval;
    let slots = Slots::new(&shape, simulator);
    let request = [0, 1, 0, 0, 0, 6, 1, 4, 0, 0, 0, u8::try_from(shape.registers).expect("one request")];
    let reply = 9 + 2 * shape.registers as usize;
    let mut chain = server.map(|port| Chain::new(&shape, port)).transpose()?;
    let mut events = Events::with_capacity(4_096);
    let mut buffer = [0; 4_096];
    let (mut slot, mut due) = slots.next(wall());
    loop {
        let wait = due.saturating_sub(wall());
        // Rounded up, as epoll counts milliseconds: else it would spin.
        poll.poll(&mut events, Some(wait + Duration::from_micros(999)))?;
        for event in &events {
            let length = devices[event.token().0].read(&mut buffer)?;
            assert_eq!(length % reply, 0, "answers come whole on loopback");
            if let Some(chain) = &mut chain {
                chain.take(shape.registers as usize)?;
            }
        }
        if let Some(chain) = &mut chain {
            chain.flush()?;
        }
        if wall() >= due {
            for &place in &slots.devices[slot] {
                devices[place].write_all(&request)?;
            }
            (slot, due) = slots.next(due);
            // Missed instants are skipped, as the agent does.
            if due + interval < wall() {
                (slot, due) = slots.next(wall());
            }
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark of the real one")]
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Which devices are due in which slot of an interval.
struct Slots {
    interval: Duration,
    /// Instants within the interval, with their devices.
    offsets: Vec<Duration>,
    devices: Vec<Vec<usize>>,
}

impl Slots {
    fn new(shape: &Shape, simulator: u16) -> Self {
        let interval = shape.interval;
        let mut slots = std::collections::BTreeMap::<Duration, Vec<usize>>::new();
        for (place, target) in shape.targets(simulator).iter().enumerate() {
            let tick = Grid::new(interval, target).next_after(SystemTime::UNIX_EPOCH.into());
            let offset = Duration::from_millis(tick.as_millis() % u64::try_from(interval.as_millis()).unwrap());
            slots.entry(offset).or_default().push(place);
        }
        let (offsets, devices) = slots.into_iter().unzip();
        Self { interval, offsets, devices }
    }

    /// The first slot after `now`, and when it is due.
    fn next(&self, now: Duration) -> (usize, Duration) {
        let start = Duration::from_millis(
            u64::try_from(now.as_millis() / self.interval.as_millis() * self.interval.as_millis()).unwrap(),
        );
        let into = now.saturating_sub(start);
        match self.offsets.iter().position(|&offset| offset > into) {
            Some(slot) => (slot, start + self.offsets[slot]),
            None => (0, start + self.interval + self.offsets[0]),
        }
    }
}

/// Keeps and posts bytes.
struct Chain {
    directory: TempDir,
    server: TcpStream,
    /// A full batch.
    template: Vec<u8>,
    open: usize,
    since: Instant,
    written: u64,
}

impl Chain {
    fn new(shape: &Shape, port: u16) -> io::Result<Self> {
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        server.set_nodelay(true)?;
        let directory = tempfile::tempdir()?;
        Ok(Self { directory, server, template: template(shape), open: 0, since: Instant::now(), written: 0 })
    }

    fn take(&mut self, datapoints: usize) -> io::Result<()> {
        if self.open == 0 {
            self.since = Instant::now();
        }
        self.open += datapoints;
        while self.open >= MAX_DATAPOINTS {
            self.deliver(MAX_DATAPOINTS)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.open > 0 && self.since.elapsed() >= Duration::from_secs(1) { self.deliver(self.open) } else { Ok(()) }
    }

    fn deliver(&mut self, datapoints: usize) -> io::Result<()> {
        self.open -= datapoints;
        self.since = Instant::now();
        self.written += 1;
        let body = &self.template[..self.template.len() * datapoints / MAX_DATAPOINTS];
        let path = self.directory.path().join(format!("{}.json", self.written));
        keep(self.directory.path(), &path, body)?;
        post(&mut self.server, body)?;
        fs::remove_file(path)
    }
}

/// Durable under its name: temporary name, fsync, rename, fsync of the directory.
pub fn keep(directory: &Path, path: &PathBuf, body: &[u8]) -> io::Result<()> {
    let unfinished = directory.join("unfinished");
    let mut file = File::create(&unfinished)?;
    file.write_all(body)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(directory)?.sync_all()
}

/// Posts and waits for the answer.
pub fn post(server: &mut TcpStream, body: &[u8]) -> io::Result<()> {
    let head = format!("POST / HTTP/1.1\r\nHost: floor\r\nContent-Length: {}\r\n\r\n", body.len());
    server.write_all(head.as_bytes())?;
    server.write_all(body)?;
    let mut answer = [0; 128];
    let mut length = 0;
    while !answer[..length].ends_with(b"\r\n\r\nOK") {
        length += match server.read(&mut answer[length..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => length,
        };
    }
    Ok(())
}
