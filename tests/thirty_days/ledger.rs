//! What was read, and when: the truth by which all that arrives is judged.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use pattoo_agent_modbustcpd::outputs::pattoo::identity::AgentId;
use pattoo_agent_modbustcpd::reading::PointId;
use pattoo_agent_modbustcpd::reading::points::{Builder, Device, Kind, PointTable, Register};

use super::scenario::{DAY, Scenario};
use super::support::server::Row;

/// The true time at which a run begins.
pub const START: u64 = 1_790_000_000_000;

/// How far a stamp may be from the truth: our clock is wrong by up to 28 minutes, and stamps never go back.
const WRONG: u64 = 56 * 60_000;

/// The agent.
pub const AGENT_ID: [u8; 32] = [0x4c; 32];

/// One value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it was read.
    pub read: Duration,
    /// Its number in the log, once it has one.
    pub position: Option<u64>,
    /// A kill, a power cut or damage has taken it before it was safe.
    pub lost: bool,
}

/// Everything that was read. The n-th value of a series is n.
pub struct Ledger {
    points: usize,
    interval: Duration,
    /// By series and number. The first ones of each are in the old caches.
    pub entries: Vec<Vec<Entry>>,
    /// How many of each series are in the old caches.
    pub old: usize,
}

impl Ledger {
    pub fn new(scenario: &Scenario) -> Self {
        let series = scenario.devices * scenario.points;
        let entry = Entry { read: Duration::ZERO, position: None, lost: false };
        Self {
            points: scenario.points,
            interval: scenario.interval,
            entries: vec![vec![entry; scenario.old]; series],
            old: scenario.old,
        }
    }

    pub fn series(&self) -> usize {
        self.entries.len()
    }

    /// The stamp of the n-th reading in the old caches.
    pub fn old_stamp(n: usize) -> u64 {
        START - u64::try_from(DAY.as_millis()).unwrap() + n as u64 * 10_000
    }

    /// Every point; in another order for another `turn`.
    pub fn table(&self, turn: usize) -> Arc<PointTable> {
        let id = AgentId::from_bytes(AGENT_ID);
        let mut builder = Builder::new(id.as_str(), "agent.example.net", self.interval);
        for place in 0..self.series() {
            let (device, register) = self.point((place + turn) % self.series());
            builder.push(&device, &register);
        }
        Arc::new(builder.build())
    }

    /// Where a series is in the table of this `turn`.
    pub fn place(&self, series: usize, turn: usize) -> PointId {
        let turn = turn % self.series();
        PointId(u32::try_from((series + self.series() - turn) % self.series()).unwrap())
    }

    fn point(&self, series: usize) -> (Device, Register) {
        let number = u32::try_from(30_001 + series % self.points).unwrap();
        let interval_ms = u64::try_from(self.interval.as_millis()).unwrap();
        let name = format!("plant-{}.example.net", series / self.points);
        let register = Register::new(&format!("input_register_{number}"), "input_register", number, Kind::Integer);
        (Device::new(&name, 1, "meters", interval_ms), register)
    }

    fn known(&self, device: &str, key: &str) -> usize {
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
        let device: usize = digits(device).parse().unwrap();
        let number: usize = digits(key).parse().unwrap();
        device * self.points + number - 30_001
    }

    /// Series, number and stamp of a row of a pattoo server.
    pub fn row(&self, row: &Row) -> (usize, usize, u64) {
        (self.known(&row.target, &row.key), number(row.value.as_f64().expect("a number")), row.timestamp)
    }

    /// Series, number and stamp of a line of comma-separated values.
    pub fn line(&self, line: &str) -> (usize, usize, u64) {
        let columns: Vec<_> = line.split(',').collect();
        let [time, device, _, key, _, value, ..] = columns[..] else { panic!("{line}") };
        let at = humantime::parse_rfc3339(time).unwrap().duration_since(UNIX_EPOCH).unwrap();
        (self.known(device, key), number(value.parse().unwrap()), u64::try_from(at.as_millis()).unwrap())
    }

    /// Whether the n-th value of the series may have this stamp, at `now`.
    pub fn check(&self, series: usize, n: usize, at: u64, now: Duration) -> Result<(), String> {
        let Some(entry) = self.entries[series].get(n) else {
            return Err(format!("series {series}: {n} was never read"));
        };
        if n < self.old {
            return if at == Self::old_stamp(n) { Ok(()) } else { Err(format!("old {n} of series {series} at {at}")) };
        }
        let read = START + u64::try_from(entry.read.as_millis()).unwrap();
        if read.abs_diff(at) > WRONG {
            return Err(format!("series {series}: {n} was read at {read} and has the stamp {at}"));
        }
        if at > START + u64::try_from(now.as_millis()).unwrap() + WRONG {
            return Err(format!("series {series}: {n} is of the future: {at}"));
        }
        Ok(())
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
fn number(value: f64) -> usize {
    value as usize
}
