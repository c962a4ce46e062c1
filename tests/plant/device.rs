//! A simulated device or gateway: what comes back for a request at a moment, by what ails it just then.
//!
//! Every word tells where it is from: it is a hash of the device, the unit, the table, the address and the number of the
//! request that it answers, so that no value can pass for another. Words that are scaled follow a power of ten that
//! moves every few seconds, so that value and power fit only if they are of one moment.

use std::collections::BTreeSet;
use std::time::Duration;

use pattoo_agent_modbustcpd::modbus::error::{ConnectError, Exception, ReadError, Violation};
use pattoo_agent_modbustcpd::modbus::plan::Block;
use pattoo_agent_modbustcpd::modbus::register::Table;
use pattoo_agent_modbustcpd::net::error::DialError;

/// Holding registers from here on are powers of ten.
pub const SCALES: u16 = 900;
/// Holding registers from here on, up to [`SCALES`], are numbers that are scaled.
pub const SCALED: u16 = 800;
/// What each of them is when it is scaled.
pub const QUANTITY: u16 = 600;
/// How long a power of ten stays.
const EPOCH: Duration = Duration::from_secs(7);

/// What can ail a device.
#[derive(Debug, Clone, PartialEq)]
pub enum Ailment {
    /// Connections are refused.
    Refusing,
    /// Nobody answers a connection.
    Unreachable,
    /// Connections are taken and nothing is answered.
    Silent,
    /// One unit is not answered for.
    UnitSilent(u8),
    /// The gateway says that a unit is gone.
    UnitGone(u8),
    /// Values at some addresses are refused with this exception code.
    Registers(u8, BTreeSet<u16>),
    /// Requests for more registers are refused with exception 3.
    Longer(u16),
    /// Requests for more registers are not answered.
    SilentLonger(u16),
    /// Everything is answered with this exception.
    Exception(u8),
    /// One request in so many is answered with this exception.
    Hiccup(u8, u8),
    /// Exception 6 for what is asked sooner than this after the request before.
    Busy(Duration),
    /// What is asked so soon after connecting is not answered.
    Deaf(Duration),
    /// The connection is closed after each answer.
    Closing,
    /// The connection is closed after each answer, and none is taken for so long.
    Restarting(Duration),
    /// One reply in so many is lost.
    Losing(u8),
    /// One reply in so many does not fit its request.
    Garbled(u8),
    /// Replies take so long.
    Slow(Duration),
}

/// An ailment and when it ails.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Which.
    pub ailment: Ailment,
    /// From this moment.
    pub from: Duration,
    /// Up to this one.
    pub until: Duration,
}

/// What a request or a connection has come to.
#[derive(Debug)]
pub enum Came {
    /// These words.
    Words(Vec<u16>),
    /// Not that.
    Failed(ReadError),
}

/// One device.
#[derive(Debug)]
pub struct Device {
    /// What tells its words from those of others.
    home: u64,
    /// What ails it.
    pub faults: Vec<Fault>,
    /// Whether replies have ids.
    pub ids: bool,
    random: fastrand::Rng,
    connected: Option<Duration>,
    answered: bool,
    refuses_until: Duration,
    asked_at: Duration,
    /// Requests so far.
    pub requests: u64,
    /// Connections that were tried so far.
    pub connects: u64,
}

impl Device {
    /// A device that is well but for `faults`.
    pub fn new(faults: Vec<Fault>, ids: bool, seed: u64) -> Self {
        Self {
            home: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            faults,
            ids,
            random: fastrand::Rng::with_seed(seed),
            connected: None,
            answered: false,
            refuses_until: Duration::ZERO,
            asked_at: Duration::ZERO,
            requests: 0,
            connects: 0,
        }
    }

    /// What ails it at `now`.
    pub fn ailments(&self, now: Duration) -> impl Iterator<Item = &Ailment> {
        self.faults.iter().filter(move |fault| fault.from <= now && now < fault.until).map(|fault| &fault.ailment)
    }

    /// Whether nothing has ailed it within `since` before `now`.
    pub fn is_well(&self, now: Duration, since: Duration) -> bool {
        self.faults.iter().all(|fault| fault.from > now || fault.until + since < now)
    }

    /// Somebody connects: how long it takes, and what comes of it.
    pub fn connect(&mut self, now: Duration) -> (Duration, Result<(), ConnectError>) {
        self.connects += 1;
        self.connected = None;
        let address = ([192, 0, 2, 1], 502).into();
        if self.ailments(now).any(|it| *it == Ailment::Unreachable) {
            let waited = Duration::from_secs(3);
            return (waited, Err(DialError::Timeout { address, waited }.into()));
        }
        if now < self.refuses_until || self.ailments(now).any(|it| *it == Ailment::Refusing) {
            let source = std::io::ErrorKind::ConnectionRefused.into();
            return (Duration::ZERO, Err(DialError::Unreachable { address, source }.into()));
        }
        self.connected = Some(now + Duration::from_millis(2));
        self.answered = false;
        (Duration::from_millis(2), Ok(()))
    }

    /// The client has closed the connection.
    pub fn hang_up(&mut self) {
        self.connected = None;
    }

    /// Whether a connection that has not answered yet may be asked again after a timeout.
    pub fn may_ask_again(&self) -> bool {
        self.ids && !self.answered
    }

    /// Somebody asks for `block`, and waits for `timeout`: how long it takes, and what comes of it.
    pub fn ask(&mut self, block: &Block, now: Duration, timeout: Duration) -> (Duration, Came) {
        self.requests += 1;
        let closed = |received, reused| Came::Failed(ReadError::Closed { received, reused, source: None });
        let Some(connected) = self.connected else {
            let reused = std::mem::replace(&mut self.answered, false);
            return (Duration::ZERO, closed(0, reused));
        };
        let silent = (timeout, Came::Failed(ReadError::ResponseTimeout(timeout)));
        let exception = |code| Came::Failed(ReadError::Exception(Exception { code }));
        let since = now.saturating_sub(std::mem::replace(&mut self.asked_at, now));
        let mut took = Duration::from_millis(self.random.u64(3..40));
        let mut closing = false;
        let ailments: Vec<_> = self.ailments(now).cloned().collect();
        for ailment in ailments {
            let unit = block.unit.0;
            let answer = match ailment {
                Ailment::Silent => return silent,
                // Connections that were made before go on.
                Ailment::Refusing | Ailment::Unreachable if self.random.bool() => {
                    self.connected = None;
                    return (took, closed(0, self.answered));
                }
                Ailment::UnitSilent(of) if of == unit => return silent,
                Ailment::SilentLonger(most) if block.quantity > most => return silent,
                Ailment::Deaf(deaf) if now < connected + deaf => return silent,
                Ailment::Losing(one_in) if self.random.u8(0..one_in) == 0 => return silent,
                Ailment::Garbled(one_in) if self.random.u8(0..one_in) == 0 => {
                    self.connected = None;
                    let violation = Violation::Unit { expected: unit, found: unit.wrapping_add(1) };
                    return (took, Came::Failed(ReadError::Protocol(violation)));
                }
                Ailment::UnitGone(of) if of == unit => Some(11),
                Ailment::Registers(code, refused) => {
                    let asked = block.address..block.address + block.quantity;
                    refused.iter().any(|address| asked.contains(address)).then_some(code)
                }
                Ailment::Longer(most) => (block.quantity > most).then_some(3),
                Ailment::Exception(code) => Some(code),
                Ailment::Hiccup(one_in, code) => (self.random.u8(0..one_in) == 0).then_some(code),
                Ailment::Busy(least) => (since < least).then_some(6),
                Ailment::Slow(slow) => {
                    took = slow;
                    None
                }
                Ailment::Closing => {
                    closing = true;
                    None
                }
                Ailment::Restarting(away) => {
                    closing = true;
                    self.refuses_until = now + took + away;
                    None
                }
                _ => None,
            };
            if let Some(code) = answer {
                self.answered = true;
                return (took, exception(code));
            }
        }
        if took > timeout {
            return silent;
        }
        self.answered = true;
        if closing {
            self.connected = None;
        }
        let request = self.requests;
        let words = (block.address..block.address + block.quantity)
            .map(|address| word(self.home, block.unit.0, block.table, address, request, now))
            .collect();
        (took, Came::Words(words))
    }
}

/// What stands at an address when it is read by this request.
fn word(home: u64, unit: u8, table: Table, address: u16, request: u64, now: Duration) -> u16 {
    let power = u16::try_from(now.as_secs() / EPOCH.as_secs() % 3).expect("a small number");
    match address {
        SCALES.. => power,
        SCALED.. => QUANTITY / 10_u16.pow(power.into()),
        _ => {
            let mut hash = home ^ (u64::from(unit) << 56 | (table as u64) << 48 | u64::from(address) << 32 | request);
            // The finalizer of SplitMix64.
            hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            let [.., high, low] = (hash ^ hash >> 31).to_be_bytes();
            u16::from_be_bytes([high, low])
        }
    }
}
