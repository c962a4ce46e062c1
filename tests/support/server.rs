//! A pattoo server: the agent API over bare HTTP/1.1, and behind it the ingester's rules.
//!
//! It answers as the real one was measured to: 200 `OK`, `Connection: close`, `Date`, a session cookie; 500
//! for what is not JSON or has other than the four keys; 404 for another content type and for JSON that is
//! no object. What it answers 200 it ingests at once into a [`Database`]. [`Mode`] makes it fail, at run
//! time; every request is written down in the order in which it came.

mod database;
pub mod http;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

pub use database::{Database, Row, checksum};
pub use http::Head;

/// What the server does with a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Stores it and answers 200 `OK`.
    Ok,
    /// Stores nothing and answers this.
    Status(u16),
    /// Stores nothing, answers 302 to this address.
    Redirect(SocketAddr),
    /// Stores nothing, answers 200 with a page, as a captive portal does.
    Html,
    /// Stores nothing, answers 204.
    NoContent,
    /// Accepts and never reads, until the mode changes; then closes.
    HangOnAccept,
    /// Reads and never answers, until the mode changes; then closes.
    HangAfterReading,
    /// Answers 413 to a body of more bytes than this, stores every other.
    TooLarge(usize),
    /// Answers 500 to a body that holds this text, stores every other.
    Refusing(String),
    /// Stores it and closes without a word.
    StoreThenClose,
    /// Stores it, announces a longer answer than it sends, and closes.
    StoreThenCutAnswer,
    /// Stores it and resets the connection.
    StoreThenReset,
    /// Stores two of three, and answers the third with this.
    Sometimes(u16),
    /// Stores nothing, sends these bytes and closes.
    Say(&'static [u8]),
    /// Stores it, sends these bytes, which mean 200 `OK`, and closes.
    StoreAndSay(&'static [u8]),
    /// Stores nothing, sends the first and then the second for ever.
    Flood(&'static [u8], &'static [u8]),
}

impl Mode {
    fn stores(&self) -> bool {
        self.acknowledges() || matches!(self, Self::StoreThenClose | Self::StoreThenCutAnswer | Self::StoreThenReset)
    }

    /// Whether it says so when it has stored something.
    fn acknowledges(&self) -> bool {
        matches!(self, Self::Ok | Self::Sometimes(_) | Self::StoreAndSay(_) | Self::TooLarge(_) | Self::Refusing(_))
    }
}

/// A post as it came.
#[derive(Debug, Clone)]
pub struct Post {
    /// Request line and headers.
    pub head: Head,
    /// The body.
    pub body: Vec<u8>,
    /// When it was there.
    pub at: Instant,
    /// The status that it was answered with, if any.
    pub status: Option<u16>,
}

impl Post {
    /// The body's `pattoo_agent_timestamp`; 0 when it has none.
    pub fn timestamp(&self) -> u64 {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["pattoo_agent_timestamp"].as_u64().unwrap_or_default()
    }
}

/// A running server; it stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The mode or the life has changed.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    /// Raised by each stop: an accept loop of an earlier life knows that it is over.
    life: u64,
    listening: bool,
    open: BTreeMap<u64, TcpStream>,
    connections: u64,
    /// Posts that were being handled at one time, at most.
    most_at_once: usize,
    at_once: usize,
    posts: Vec<Post>,
    forgets_bodies: bool,
    /// Posts that were stored, and those of them whose sender was told so.
    stored: usize,
    acknowledged: usize,
    database: Database,
}

impl Server {
    /// A server on an address of its own.
    pub fn start() -> Self {
        Self::serve(super::listen_somewhere())
    }

    /// A server at this address.
    pub fn start_at(address: SocketAddr) -> Self {
        Self::serve(super::listen(address).expect("an address that is free"))
    }

    fn serve(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = State {
            mode: Mode::Ok,
            life: 0,
            listening: false,
            open: BTreeMap::new(),
            connections: 0,
            most_at_once: 0,
            at_once: 0,
            posts: Vec::new(),
            forgets_bodies: false,
            stored: 0,
            acknowledged: 0,
            database: Database::default(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let server = Self { address, shared };
        server.accept_from(listener);
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it behaves like this.
    pub fn set(&self, mode: Mode) {
        self.shared.state().mode = mode;
        self.shared.changed.notify_all();
    }

    /// Ends every connection and refuses new ones.
    pub fn stop(&self) {
        let was_listening = {
            let mut state = self.shared.state();
            state.life += 1;
            for stream in state.open.values() {
                // One that the agent has closed already cannot be shut down any more.
                stream.shutdown(Shutdown::Both).ok();
            }
            std::mem::replace(&mut state.listening, false)
        };
        self.shared.changed.notify_all();
        if was_listening {
            // Wakes the accept loop, which sees that its life is over and closes the listener.
            TcpStream::connect(self.address).ok();
            super::until("the server to stop listening", || TcpStream::connect(self.address).is_err());
        }
    }

    /// Listens again, on the same address.
    pub fn come_back(&self) {
        self.accept_from(super::listen(self.address).expect("the address that it had before"));
    }

    /// What the ingester has kept so far.
    pub fn database(&self) -> Database {
        self.shared.state().database.clone()
    }

    /// How many datapoints the ingester has kept so far.
    pub fn row_count(&self) -> usize {
        self.shared.state().database.rows().len()
    }

    /// From now on the bodies of posts are not kept once they are ingested.
    pub fn forget_bodies(&self) {
        self.shared.state().forgets_bodies = true;
    }

    /// The rows kept since the last call.
    pub fn take_rows(&self) -> Vec<Row> {
        self.shared.state().database.take_rows()
    }

    /// The sender has ended or was halted: what it has posted so far may come again, once.
    pub fn excuse_repetition(&self) {
        self.shared.state().database.excuse();
    }

    /// From now on the agent may not know what it has posted last.
    pub fn excuse_order(&self) {
        self.shared.state().database.excuse_order();
    }

    /// How many posts were stored without their sender being told so.
    pub fn ambiguous(&self) -> usize {
        let state = self.shared.state();
        state.stored - state.acknowledged
    }

    /// Every post so far.
    pub fn posts(&self) -> Vec<Post> {
        self.shared.state().posts.clone()
    }

    /// How many posts were read so far.
    pub fn post_count(&self) -> usize {
        self.shared.state().posts.len()
    }

    /// How many connections there were so far, with or without a post.
    pub fn connections(&self) -> u64 {
        self.shared.state().connections
    }

    /// How many posts are being handled now.
    pub fn at_once(&self) -> usize {
        self.shared.state().at_once
    }

    /// How many posts were handled at one time, at most.
    pub fn most_at_once(&self) -> usize {
        self.shared.state().most_at_once
    }

    fn accept_from(&self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        let life = {
            let mut state = self.shared.state();
            state.listening = true;
            state.life
        };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(connection) = shared.state().admit(life, &stream) else { return };
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.handle(life, stream);
                    shared.state().open.remove(&connection);
                });
            }
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            // The test has failed already; a second panic would hide why.
            self.shared.state().life += 1;
            self.shared.changed.notify_all();
        } else {
            self.stop();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no simulator thread panics")
    }

    fn handle(&self, life: u64, mut stream: TcpStream) {
        if self.state().mode == Mode::HangOnAccept {
            self.hang(life, &Mode::HangOnAccept);
            return;
        }
        let Some((head, body)) = http::read_request(&mut stream) else { return };
        if head.line.starts_with("GET /pattoo/api/v1/agent/status ") {
            http::answer(&mut stream, 200, "", b"The Pattoo Agent API is Operational.\n");
            return;
        }
        let (post, mode, status) = self.state().receive(head, body);
        let status_and_extra = match &mode {
            Mode::HangOnAccept | Mode::HangAfterReading => {
                self.hang(life, &mode);
                None
            }
            Mode::StoreThenClose => None,
            Mode::StoreThenCutAnswer => {
                http::cut_answer(&mut stream);
                None
            }
            Mode::StoreThenReset => {
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok();
                None
            }
            Mode::Say(bytes) => {
                stream.write_all(bytes).ok();
                None
            }
            Mode::Flood(head, again) => {
                stream.write_all(head).ok();
                while stream.write_all(again).is_ok() {}
                None
            }
            Mode::StoreAndSay(text) => {
                let mut state = self.state();
                state.at_once -= 1;
                if stream.write_all(text).is_ok() {
                    state.answered(post, &mode, status);
                }
                return;
            }
            Mode::Redirect(to) => Some((status, format!("Location: http://{to}/elsewhere"), &b"moved"[..])),
            Mode::Html => Some((status, "Content-Type: text/html".to_owned(), &b"<html>Welcome</html>"[..])),
            Mode::NoContent | Mode::Status(_) => Some((status, String::new(), &b""[..])),
            mode if mode.acknowledges() && status == 200 => {
                Some((status, "Set-Cookie: session=abc; HttpOnly; Path=/".to_owned(), &b"OK"[..]))
            }
            Mode::Ok | Mode::Sometimes(_) | Mode::TooLarge(_) | Mode::Refusing(_) => {
                Some((status, String::new(), &b"error"[..]))
            }
        };
        // Under the lock, so that no stop and no next post can come between the answer and its record.
        let mut state = self.state();
        state.at_once -= 1;
        if let Some((status, extra, text)) = status_and_extra {
            if http::answer(&mut stream, status, &extra, text) {
                state.answered(post, &mode, status);
            } else {
                // It may be stored, and whoever sent it cannot know.
                state.database.excuse();
            }
        }
        if state.forgets_bodies {
            state.posts[post].body = Vec::new();
        }
    }

    /// Waits until the mode is another one or the server stops.
    fn hang(&self, life: u64, mode: &Mode) {
        let state = self.state();
        drop(self.changed.wait_while(state, |state| state.life == life && state.mode == *mode));
    }
}

impl State {
    /// The number of a new connection, or `None` when the server has stopped.
    fn admit(&mut self, life: u64, stream: &TcpStream) -> Option<u64> {
        if life != self.life {
            return None;
        }
        self.connections += 1;
        self.open.insert(self.connections, stream.try_clone().expect("a spare descriptor"));
        Some(self.connections)
    }

    /// Writes a post down, stores it if it is to be stored; its place, the mode and the status to answer.
    fn receive(&mut self, head: Head, body: Vec<u8>) -> (usize, Mode, u16) {
        self.at_once += 1;
        self.most_at_once = self.most_at_once.max(self.at_once);
        let mode = self.mode.clone();
        let status = match mode {
            Mode::Status(status) => status,
            Mode::Sometimes(status) if self.posts.len() % 3 == 2 => status,
            Mode::Redirect(_) => 302,
            Mode::NoContent => 204,
            Mode::Html => 200,
            Mode::TooLarge(most) if body.len() > most => 413,
            Mode::Refusing(ref text) if String::from_utf8_lossy(&body).contains(text) => 500,
            _ => verdict(&head, &body),
        };
        if mode.stores() && status == 200 {
            self.database.store(&head, &body);
            self.stored += 1;
            if !mode.acknowledges() {
                self.database.excuse();
            }
        }
        self.posts.push(Post { head, body, at: Instant::now(), status: None });
        (self.posts.len() - 1, mode, status)
    }

    fn answered(&mut self, post: usize, mode: &Mode, status: u16) {
        let post = &mut self.posts[post];
        post.status = Some(status);
        if mode.acknowledges() && status == 200 {
            self.acknowledged += 1;
            self.database.acknowledged(&post.head, &post.body);
        }
    }
}

/// What the real API answers to this request.
fn verdict(head: &Head, body: &[u8]) -> u16 {
    let receives = head.line.strip_prefix("POST /pattoo/api/v1/agent/receive/");
    if receives.is_none() || head.header("content-type") != Some("application/json") {
        return 404;
    }
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(serde_json::Value::Object(body)) if database::has_the_four_keys(&body) => 200,
        Ok(serde_json::Value::Object(_)) | Err(_) => 500,
        Ok(_) => 404,
    }
}
