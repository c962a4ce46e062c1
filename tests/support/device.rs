//! A Modbus TCP device, from the specification and bare sockets: one thread per connection.
//!
//! It answers function codes 3 and 4 and nothing else, writes down every request, and counts as violations
//! what an agent must never do: another function, more than 125 registers, two requests at a time, a second
//! connection, bytes sent before the answer was there. [`Mode`] makes it misbehave, at run time, as a whole
//! or for one unit.
//!
//! Invariant: every answer with values is in the served list *before* its first byte leaves, so whatever
//! the agent delivers can be traced to one answer.

pub mod quirks;
pub mod values;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

pub use quirks::{Quirks, Refusal};
pub use values::{Fate, Served, Table, Values};

/// So long an answer may be on its way that will arrive whole.
const ON_ITS_WAY: Duration = Duration::from_millis(200);

/// What the device does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The whole answer at once.
    Answer,
    /// The whole answer after a while, still in time.
    Slow(Duration),
    /// The whole answer, one byte at a time.
    Drip,
    /// The answer in two pieces, cut behind this many bytes.
    SplitAt(usize),
    /// The whole answer, then the connection is closed.
    CloseAfterAnswer,
    /// The whole answer at once; a connection over which nothing comes for so long afterwards is closed.
    CloseIdle(Duration),
    /// No answer.
    Silent,
    /// The whole answer after so long a while that it must not count any more.
    Late(Duration),
    /// No values but this exception code.
    Exception(u8),
    /// An answer to another transaction.
    WrongTransaction,
    /// An answer of another protocol.
    WrongProtocol,
    /// An answer of another unit.
    WrongUnit,
    /// An answer to another function.
    WrongFunction,
    /// An answer with one register less than asked for, consistent in itself.
    TooFewRegisters,
    /// An answer whose byte count is not what follows.
    WrongByteCount,
    /// Half of the answer, then the end of the stream.
    Truncated,
    /// Half of the answer, then a reset.
    Reset,
    /// The answer and, in the same write, another one that nobody asked for.
    TwoFrames,
    /// Frames without end that nobody asked for.
    Firehose,
}

/// A request as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Modbus function code.
    pub function: u8,
    /// Unit id.
    pub unit: u8,
    /// First register, 0-based.
    pub address: u16,
    /// How many.
    pub quantity: u16,
    /// When it was there.
    pub at: Instant,
    /// Which connection it came over, counted from 1.
    pub connection: u64,
}

/// A running device; it stops when dropped.
#[derive(Debug)]
pub struct Device {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    values: Values,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    modes_of_units: BTreeMap<u8, Mode>,
    refused: BTreeSet<(Table, u16)>,
    quirks: Quirks,
    /// Raised by each stop: an accept loop of an earlier life knows that it is over.
    life: u64,
    listening: bool,
    /// The connections that have not ended, by number.
    open: BTreeMap<u64, TcpStream>,
    connections: u64,
    /// The connections with a request that is being answered.
    busy: BTreeSet<u64>,
    counters: BTreeMap<(u8, Table), u64>,
    requests: Vec<Request>,
    served: Vec<Served>,
    violations: Vec<String>,
}

impl Device {
    /// A device on an address of its own whose values count up; `number` makes them its own.
    pub fn counting(number: u32) -> Self {
        Self::serve(super::listen_somewhere(), Values::Counting { device: number })
    }

    /// A device at `address` with `values`.
    pub fn at(address: SocketAddr, values: Values) -> std::io::Result<Self> {
        Ok(Self::serve(super::listen(address)?, values))
    }

    fn serve(listener: TcpListener, values: Values) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = State {
            mode: Mode::Answer,
            modes_of_units: BTreeMap::new(),
            refused: BTreeSet::new(),
            quirks: Quirks::default(),
            life: 0,
            listening: false,
            open: BTreeMap::new(),
            connections: 0,
            busy: BTreeSet::new(),
            counters: BTreeMap::new(),
            requests: Vec::new(),
            served: Vec::new(),
            violations: Vec::new(),
        };
        let device = Self { address, shared: Arc::new(Shared { address, values, state: Mutex::new(state) }) };
        device.accept_from(listener);
        device
    }

    /// The `ip_device` text of the configuration, which is the polled target of its readings.
    pub fn target(&self) -> String {
        self.address.to_string()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its registers hold.
    pub fn values(&self) -> &Values {
        &self.shared.values
    }

    /// From now on every unit behaves like this.
    pub fn set(&self, mode: Mode) {
        let mut state = self.shared.state();
        state.mode = mode;
        state.modes_of_units.clear();
        // An answer that is on its way is due once it has left: whoever silences the device judges what it has served.
        let deadline = Instant::now() + ON_ITS_WAY;
        while mode == Mode::Silent && state.served.last().is_some_and(|last| last.fate == Fate::Optional) {
            drop(state);
            thread::yield_now();
            if Instant::now() > deadline {
                return;
            }
            state = self.shared.state();
        }
    }

    /// From now on this unit behaves like this, whatever the others do.
    pub fn set_unit(&self, unit: u8, mode: Mode) {
        self.shared.state().modes_of_units.insert(unit, mode);
    }

    /// From now on a range that touches this register is refused with exception 2.
    pub fn refuse(&self, table: Table, address: u16) {
        self.shared.state().refused.insert((table, address));
    }

    /// From now on that register is read like any other.
    pub fn allow(&self, table: Table, address: u16) {
        self.shared.state().refused.remove(&(table, address));
    }

    /// Changes its habits from now on.
    pub fn habit(&self, change: impl FnOnce(&mut Quirks)) {
        change(&mut self.shared.state().quirks);
    }

    /// Ends every connection and refuses new ones.
    pub fn stop(&self) {
        self.shared.refuse_connections();
        for stream in self.shared.state().open.values() {
            // One that the agent has closed already cannot be shut down any more.
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Listens again, on the same address.
    pub fn start(&self) {
        self.accept_from(super::listen(self.address).expect("the address that it had before"));
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// Whether it takes connections.
    pub fn is_listening(&self) -> bool {
        self.shared.state().listening
    }

    /// How many requests there were so far.
    pub fn request_count(&self) -> usize {
        self.shared.state().requests.len()
    }

    /// Every answer with values so far.
    pub fn served(&self) -> Vec<Served> {
        self.shared.state().served.clone()
    }

    /// How many good answers there were so far.
    pub fn served_count(&self) -> usize {
        self.shared.state().served.iter().filter(|served| served.fate == Fate::Due).count()
    }

    /// How many connections there were so far.
    pub fn connections(&self) -> u64 {
        self.shared.state().connections
    }

    /// What the agent did that it must never do.
    pub fn violations(&self) -> Vec<String> {
        self.shared.state().violations.clone()
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
                    wire::converse(&shared, connection, stream);
                    shared.state().forget(connection);
                });
            }
        });
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if thread::panicking() {
            // The test has failed already; a second panic would hide why.
            self.shared.state().life += 1;
        } else {
            self.stop();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no simulator thread panics")
    }

    /// Stops listening; connections that are there stay.
    fn refuse_connections(&self) {
        let was_listening = {
            let mut state = self.state();
            state.life += 1;
            std::mem::replace(&mut state.listening, false)
        };
        if was_listening {
            // Wakes the accept loop, which sees that its life is over and closes the listener.
            TcpStream::connect(self.address).ok();
            super::until("the device to stop listening", || TcpStream::connect(self.address).is_err());
        }
    }
}

impl State {
    /// The number of a new connection, or `None` when the device has stopped.
    fn admit(&mut self, life: u64, stream: &TcpStream) -> Option<u64> {
        if life != self.life {
            return None;
        }
        // The agent may have closed one a moment ago without its thread having noticed yet.
        self.open.retain(|_, open| !wire::is_closed(open));
        self.connections += 1;
        self.open.insert(self.connections, stream.try_clone().expect("a spare descriptor"));
        if self.open.len() > 1 {
            self.violations.push(format!("{} connections at once", self.open.len()));
        }
        Some(self.connections)
    }

    fn forget(&mut self, connection: u64) {
        self.open.remove(&connection);
        self.busy.remove(&connection);
    }

    /// Whether another connection, one that the agent has not closed, waits for its answer.
    fn is_busy_elsewhere(&self, connection: u64) -> bool {
        let open = |other: &u64| self.open.get(other).is_some_and(|stream| !wire::is_closed(stream));
        self.busy.iter().any(|other| *other != connection && open(other))
    }

    fn mode_of(&self, unit: u8) -> Mode {
        self.modes_of_units.get(&unit).copied().unwrap_or(self.mode)
    }

    fn refuses(&self, table: Table, address: u16, quantity: u16) -> bool {
        (0..quantity).any(|offset| self.refused.contains(&(table, address.wrapping_add(offset))))
    }
}
