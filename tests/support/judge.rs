//! Pure arithmetic: what the devices served against what is in the database.
//!
//! From each delivered value of a counting device the judge gets back the number `n` of the answer that it
//! came in. A value that no answer explains is *misattributed*, one of a faulty answer *forbidden*, one whose
//! `n` does not rise with its timestamp *disorder*, one `n` twice in a series a *duplicate*, and a register of
//! a good answer that is not there is *lost*. A mix-up goes unseen once in 65,536 readings.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::device::{Device, Fate, Served, Table};
use super::server::Row;

/// A reading in a database, as far as the arithmetic needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Unit.
    pub unit: u8,
    /// Table.
    pub table: Table,
    /// Register, 0-based.
    pub address: u16,
    /// What the register held.
    pub word: u16,
    /// When it is said to have been read.
    pub timestamp: u64,
}

impl Arrival {
    /// The register behind a row; `None` for what no 16-bit register times this can have given.
    pub fn of(row: &Row, multiplier: f64) -> Option<Self> {
        Self::new(row.unit.parse().ok()?, &row.key, row.value.as_f64()? / multiplier, row.timestamp)
    }

    /// The register behind a value that was divided by what the configuration multiplies it by.
    pub fn new(unit: u8, key: &str, word: f64, timestamp: u64) -> Option<Self> {
        let (table, address) = Table::of_key(key)?;
        let whole = word.round();
        if (word - whole).abs() > 1e-6 || !(0.0..=65_535.0).contains(&whole) {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and within a word")]
        let word = whole as u16;
        Some(Self { unit, table, address, word, timestamp })
    }
}

/// What the arithmetic says.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Readings of good answers: registers, not answers.
    pub served: usize,
    /// Readings in the database that an answer explains.
    pub arrived: usize,
    /// Readings of good answers that are not in the database: when they were served, and which.
    pub lost: Vec<(u64, String)>,
    /// The same answer twice in one series.
    pub duplicate: Vec<String>,
    /// Answers that were overtaken by later ones.
    pub disorder: Vec<String>,
    /// Values that no answer held.
    pub misattributed: Vec<String>,
    /// Values of late, cut or wrong answers.
    pub forbidden: Vec<String>,
    /// The longest time between an answer and its timestamp, either way, in ms.
    pub worst_stamp_error: u64,
    /// That time of each reading, with when it was served.
    pub stamp_errors: Vec<(u64, u64)>,
    /// Readings of late, cut or wrong answers.
    pub served_forbidden: usize,
    /// Readings that are not in the database but were found set aside.
    pub aside: usize,
}

impl Verdict {
    /// What is lost, but for what was served in one of these times: that kills may have cost.
    pub fn lost_but(self, kills: &[Range<u64>]) -> Vec<(u64, String)> {
        self.lost.into_iter().filter(|(at, _)| !kills.iter().any(|kill| kill.contains(at))).collect()
    }

    /// Fails the test unless whatever arrived was right; says nothing of what is lost.
    pub fn assert_true(&self) {
        assert!(self.duplicate.is_empty(), "duplicates: {:#?}", self.duplicate);
        assert!(self.disorder.is_empty(), "disorder: {:#?}", self.disorder);
        assert!(self.misattributed.is_empty(), "values that no answer held: {:#?}", self.misattributed);
        assert!(self.forbidden.is_empty(), "values of faulty answers: {:#?}", self.forbidden);
    }

    /// Fails the test unless everything served arrived, once, in order, and nothing else.
    pub fn assert_complete(&self) {
        self.assert_true();
        assert!(self.lost.is_empty(), "lost {} of {}: {:#?}", self.lost.len(), self.served, self.lost);
    }

    /// What was served before this time of the wall clock and is lost.
    pub fn lost_before(&self, ms: u64) -> Vec<&str> {
        self.lost.iter().filter(|(at, _)| *at < ms).map(|(_, what)| what.as_str()).collect()
    }
}

/// Compares what counting devices served with the rows of a database; rows of other targets are ignored.
pub fn judge(devices: &[&Device], rows: &[Row]) -> Verdict {
    let mut verdict = Verdict::default();
    for device in devices {
        let target = device.target();
        let mut arrivals = Vec::new();
        for row in rows.iter().filter(|row| row.target == target) {
            match Arrival::of(row, 1.0) {
                Some(arrival) => arrivals.push(arrival),
                None => verdict.misattributed.push(format!("{target} {} = {}", row.key, row.value)),
            }
        }
        // Read after the rows were: no row can be older than the answer that explains it.
        weigh(device, &device.served(), &arrivals, &[], &mut verdict);
    }
    verdict
}

/// Compares what one device served with what arrived of it, in the order of arrival; `aside` is what was found
/// elsewhere, and not missed.
pub fn weigh(device: &Device, served: &[Served], arrivals: &[Arrival], aside: &[Arrival], verdict: &mut Verdict) {
    let mut answers: BTreeMap<(u8, Table), Vec<&Served>> = BTreeMap::new();
    for answer in served {
        // They count up from 0.
        answers.entry((answer.unit, answer.table)).or_default().push(answer);
    }
    let answer = |arrival: &Arrival, n: u64| {
        let answers = answers.get(&(arrival.unit, arrival.table))?;
        let answer = *answers.get(usize::try_from(n).ok()?)?;
        answer.addresses().contains(&arrival.address.into()).then_some(answer)
    };
    let mut arrived = HashSet::with_capacity(arrivals.len());
    let mut last: BTreeMap<(u8, Table, u16), u64> = BTreeMap::new();
    for arrival in arrivals {
        let Arrival { unit, table, address, word, timestamp } = *arrival;
        let what = || format!("{} unit {unit} {table:?} {address} = {word} at {timestamp}", device.target());
        let series = (unit, table, address);
        let n = unwrap(device.values().n_of(unit, address, word), last.get(&series).copied());
        let Some(answer) = answer(arrival, n) else {
            verdict.misattributed.push(format!("{}, would be answer {n}", what()));
            continue;
        };
        if answer.fate == Fate::Forbidden {
            verdict.forbidden.push(format!("{}: {answer}", what()));
        }
        if !arrived.insert((unit, table, address, n)) {
            verdict.duplicate.push(format!("{}: {answer}", what()));
        } else if last.get(&series).is_some_and(|last| *last > n) {
            verdict.disorder.push(format!("{}: {answer}", what()));
        }
        last.insert(series, n);
        let error = answer.at_ms.abs_diff(timestamp);
        verdict.worst_stamp_error = verdict.worst_stamp_error.max(error);
        verdict.stamp_errors.push((answer.at_ms, error));
    }
    verdict.arrived += arrived.len();
    for arrival in aside {
        let Arrival { unit, table, address, word, timestamp } = *arrival;
        let low = device.values().n_of(unit, address, word);
        let candidates = (low..).step_by(65_536).map_while(|n| Some((n, answer(arrival, n)?)));
        if let Some((n, _)) = candidates.min_by_key(|(_, answer)| answer.at_ms.abs_diff(timestamp))
            && arrived.insert((unit, table, address, n))
        {
            verdict.aside += 1;
        }
    }
    for answer in served {
        for address in answer.addresses() {
            verdict.served += usize::from(answer.fate == Fate::Due);
            verdict.served_forbidden += usize::from(answer.fate == Fate::Forbidden);
            let address = u16::try_from(address).expect("a device refuses what is beyond 65535");
            if answer.fate == Fate::Due && !arrived.contains(&(answer.unit, answer.table, address, answer.n)) {
                let what = format!("{} address {address} of {answer}", device.target());
                verdict.lost.push((answer.at_ms, what));
            }
        }
    }
}

/// The `n` nearest to the last one of its series, of which only the lowest 16 bits came.
pub fn unwrap(low: u64, last: Option<u64>) -> u64 {
    let Some(last) = last else { return low };
    let ahead = (low + 65_536 - last % 65_536) % 65_536;
    // No counter was ever below zero.
    if ahead < 32_768 || last + ahead < 65_536 { last + ahead } else { last + ahead - 65_536 }
}
