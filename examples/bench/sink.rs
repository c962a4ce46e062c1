//! A pattoo server, or another one's write API, that takes everything and looks at nothing, in one thread: at once, or at a given pace.
//!
//! `GET /count` is its own: how many posts and bytes of bodies it took since it was asked last. So are `GET /refuse`,
//! after which it takes none, and `GET /accept`.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream as Stream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);

/// What was taken since it was asked last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taken {
    /// Posts answered with 200 and OK.
    pub posts: u64,
    /// Bytes in their bodies.
    pub bytes: u64,
}

impl Taken {
    /// Asks the sink at this port.
    pub fn ask(port: u16) -> io::Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /count HTTP/1.1\r\nConnection: close\r\n\r\n")?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        let body = reply.rsplit("\r\n\r\n").next().unwrap_or_default();
        let mut numbers = body.split_whitespace().map(|number| number.parse().unwrap_or(0));
        Ok(Self { posts: numbers.next().unwrap_or(0), bytes: numbers.next().unwrap_or(0) })
    }
}

impl Taken {
    /// From now on posts are refused, or taken.
    pub fn refuse(port: u16, refuse: bool) -> io::Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        let path = if refuse { "refuse" } else { "accept" };
        stream.write_all(format!("GET /{path} HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes())?;
        stream.read_to_string(&mut String::new())?;
        Ok(())
    }
}

/// Serves until it is killed; prints its port first. With a pace, each body takes as long as so many bytes a second.
pub fn run(pace: Option<u64>) -> io::Result<()> {
    let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    println!("{}", listener.local_addr()?.port());
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(256);
    let (mut connections, mut taken, mut last) = (HashMap::<usize, Connection>::new(), Taken::default(), 0);
    let mut refusing = false;
    let mut buffer = vec![0; 1 << 20];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    last += 1;
                    stream.set_nodelay(true)?;
                    poll.registry().register(&mut stream, Token(last), Interest::READABLE)?;
                    connections
                        .insert(last, Connection { stream, head: Vec::new(), left: None, body: 0, write: false, pace });
                }
            } else if let Some(connection) = connections.get_mut(&event.token().0)
                && connection.serve(&mut buffer, &mut taken, &mut refusing).is_err()
            {
                connections.remove(&event.token().0);
            }
        }
    }
}

struct Connection {
    stream: Stream,
    head: Vec<u8>,
    /// Bytes of the body that are still to come.
    left: Option<u64>,
    /// Its length.
    body: u64,
    /// Whether it is for a write API, which has nothing to say.
    write: bool,
    pace: Option<u64>,
}

impl Connection {
    fn serve(&mut self, buffer: &mut [u8], taken: &mut Taken, refusing: &mut bool) -> io::Result<()> {
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut came = length as u64;
            if self.left.is_none() {
                self.head.extend_from_slice(&buffer[..length]);
                let Some(end) = find(&self.head, b"\r\n\r\n") else { continue };
                came = (self.head.len() - end - 4) as u64;
                let head = String::from_utf8_lossy(&self.head[..end]).to_ascii_lowercase();
                if head.starts_with("get /count") {
                    let Taken { posts, bytes } = std::mem::take(taken);
                    self.answer(&format!("{posts} {bytes}"))?;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                if head.starts_with("get /refuse") || head.starts_with("get /accept") {
                    *refusing = head.starts_with("get /refuse");
                    self.answer("OK")?;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let bytes = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
                self.body = bytes.unwrap_or(0);
                self.write =
                    head.lines().next().is_some_and(|line| line.contains("/write") || line.contains("/v1/metrics"));
                self.left = Some(self.body);
                if !*refusing {
                    taken.bytes += bytes.unwrap_or(0);
                    taken.posts += u64::from(head.starts_with("post"));
                }
                self.head.clear();
                if head.contains("expect: 100-continue") {
                    self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                }
            }
            self.left = self.left.map(|left| left.saturating_sub(came));
            if self.left == Some(0) {
                self.left = None;
                if *refusing {
                    self.stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")?;
                } else {
                    let work = self.pace.map(|pace| Duration::from_secs_f64(self.body as f64 / pace as f64));
                    std::thread::sleep(work.unwrap_or_default());
                    if self.write {
                        self.stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
                    } else {
                        self.answer("OK")?;
                    }
                }
            }
        }
    }

    fn answer(&mut self, body: &str) -> io::Result<()> {
        let length = body.len();
        self.stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
