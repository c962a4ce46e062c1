//! A field of Modbus devices in one thread, fast enough to be no part of what is measured.
//!
//! One listener on the loopback device answers for every address of 127.0.0.0/8: as many devices as a test
//! has addresses. Devices whose second byte is [`DEAD`] accept and never answer. Function code
//! [`COUNT`] is this simulator's own: it tells what was served since it was asked last, see [`Served`].

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mio::net::{TcpListener, TcpStream as Stream};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

/// The second byte of the addresses of devices that never answer.
pub const DEAD: u8 = 9;

/// The function code that asks for the counters: the first of those that are free for everyone's own use.
const COUNT: u8 = 0x41;

/// Polls are due on multiples of this, in milliseconds of the wall clock.
const SLOT_MS: f64 = 50.0;

/// A request that comes by so much before a slot belongs to it, in milliseconds: clients go by clocks of their own.
const EARLY_MS: f64 = 5.0;

const LISTENER: Token = Token(usize::MAX);
const HEADER: usize = 7;
const MOST_REGISTERS: usize = 125;

/// What was served since it was asked last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Served {
    /// Requests answered.
    pub requests: u64,
    /// Registers in the answers.
    pub registers: u64,
    /// How late after its instant of the grid a request came, in microseconds: at p50, p99, at most.
    pub late: [u64; 3],
    /// How many connections are open.
    pub connections: u64,
}

impl Served {
    /// Asks the simulator at this port.
    pub fn ask(port: u16) -> io::Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(&[0, 1, 0, 0, 0, 2, 0, COUNT])?;
        let mut reply = [0; HEADER + 1 + 6 * 8];
        stream.read_exact(&mut reply)?;
        let mut words = reply[HEADER + 1..].chunks_exact(8).map(|word| u64::from_be_bytes(word.try_into().unwrap()));
        let mut next = || words.next().unwrap();
        Ok(Self { requests: next(), registers: next(), late: [next(), next(), next()], connections: next() })
    }
}

/// Serves until it is killed; prints its port first. Requests of one device come each `interval`.
pub fn run(interval: Duration) -> io::Result<()> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind_device(Some(b"lo"))?;
    listener.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    listener.listen(16_384)?;
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener.into());
    println!("{}", listener.local_addr()?.port());

    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(4_096);
    let mut field = Field { interval, connections: HashMap::new(), served: Served::default(), late: Vec::new() };
    let mut last = 0;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let dead = matches!(stream.local_addr()?.ip(), std::net::IpAddr::V4(ip) if ip.octets()[1] == DEAD);
                    last += 1;
                    stream.set_nodelay(true)?;
                    poll.registry().register(&mut stream, Token(last), Interest::READABLE)?;
                    field.connections.insert(last, Connection { stream, dead, expected: None });
                }
            } else {
                field.serve(event.token().0);
            }
        }
    }
}

struct Field {
    interval: Duration,
    connections: HashMap<usize, Connection>,
    served: Served,
    /// Of each request since it was asked last, in microseconds.
    late: Vec<u32>,
}

struct Connection {
    stream: Stream,
    dead: bool,
    /// When its next request is due, in milliseconds since the epoch.
    expected: Option<f64>,
}

impl Field {
    /// Answers what has come on this connection. Requests are so short that they come whole.
    fn serve(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let mut buffer = [0; 4_096];
        let length = match connection.stream.read(&mut buffer) {
            Ok(0) => {
                self.connections.remove(&token);
                return;
            }
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => {
                self.connections.remove(&token);
                return;
            }
        };
        if connection.dead {
            return;
        }
        let mut asked = false;
        let mut requests = &buffer[..length];
        while requests.len() > HEADER {
            if requests[HEADER] == COUNT {
                asked = true;
                break;
            }
            let (request, rest) = requests.split_at(HEADER + 5);
            requests = rest;
            let count = usize::from(u16::from_be_bytes([request[10], request[11]])).min(MOST_REGISTERS);
            let mut reply = [0; HEADER + 2 + 2 * MOST_REGISTERS];
            let bytes = 2 * count;
            reply[..4].copy_from_slice(&request[..4]);
            reply[4..6].copy_from_slice(&u16::try_from(3 + bytes).unwrap().to_be_bytes());
            reply[6] = request[6];
            reply[7] = request[7];
            reply[8] = u8::try_from(bytes).unwrap();
            // Another value each time, as a meter's: up to five digits.
            let seed = self.served.requests.wrapping_mul(40_503);
            for (place, word) in reply[9..9 + bytes].chunks_exact_mut(2).enumerate() {
                word.copy_from_slice(&(seed.wrapping_add(place as u64 * 1_057) as u16).to_be_bytes());
            }
            self.served.requests += 1;
            self.served.registers += count as u64;
            self.late.extend(connection.lateness(self.interval));
            if connection.stream.write_all(&reply[..9 + bytes]).is_err() {
                self.connections.remove(&token);
                return;
            }
        }
        if asked {
            self.tell(token);
        }
    }

    fn tell(&mut self, token: usize) {
        self.served.connections = self.connections.len() as u64 - 1;
        self.late.sort_unstable();
        let at = |share: usize| self.late.get((self.late.len() * share / 100).min(self.late.len().max(1) - 1)).copied();
        self.served.late = [at(50), at(99), at(100)].map(|late| u64::from(late.unwrap_or(0)));
        self.late.clear();
        let Served { requests, registers, late: [p50, p99, most], connections } = std::mem::take(&mut self.served);
        let mut reply = vec![0, 1, 0, 0, 0, 50, 0, COUNT];
        for word in [requests, registers, p50, p99, most, connections] {
            reply.extend_from_slice(&word.to_be_bytes());
        }
        if let Some(mut connection) = self.connections.remove(&token) {
            connection.stream.write_all(&reply).ok();
        }
    }
}

impl Connection {
    /// How late this request is, in microseconds; `None` for those that set the grid: the second one, and any that comes
    /// so early that the one that had set it was late itself, as some are when thousands of devices start at once.
    #[expect(clippy::disallowed_methods, reason = "a benchmark of the real one")]
    fn lateness(&mut self, interval: Duration) -> Option<u32> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3;
        let interval = interval.as_secs_f64() * 1e3;
        let late = self.expected.map(|expected| now - expected);
        self.expected = match self.expected {
            // The first comes at once after the start, off the grid.
            None => Some(f64::NAN),
            Some(expected) if now + SLOT_MS > expected => Some(expected + interval),
            _ => Some(((now + EARLY_MS) / SLOT_MS).floor() * SLOT_MS + interval),
        };
        late.filter(|late| *late > -SLOT_MS).map(|late| (late.abs() * 1e3) as u32)
    }
}
