//! Pure arithmetic: what the devices served against what is in the database.
//!
//! From each delivered value of a counting device the judge gets back the number `n` of the answer that it
//! came in. A value that no answer explains is *misattributed*, one of a faulty answer *forbidden*, one whose
//! `n` does not rise with its timestamp *disorder*, one `n` twice in a series a *duplicate*, and a register of
//! a good answer that is not there is *lost*. A mix-up goes unseen once in 65,536 readings.

use std::collections::{BTreeMap, BTreeSet};

use super::device::{Device, Fate, Served, Table};
use super::server::Row;

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
}

impl Verdict {
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
        // Read after the rows were: no row can be older than the answer that explains it.
        judge_one(device, &device.served(), rows.iter().filter(|row| row.target == target), &mut verdict);
    }
    verdict
}

fn judge_one<'a>(device: &Device, served: &[Served], rows: impl Iterator<Item = &'a Row>, verdict: &mut Verdict) {
    let answers: BTreeMap<(u8, Table, u64), &Served> =
        served.iter().map(|answer| ((answer.unit, answer.table, answer.n), answer)).collect();
    let mut arrived = BTreeSet::new();
    let mut last: BTreeMap<(u8, Table, u16), u64> = BTreeMap::new();
    for row in rows {
        let what = format!("{} unit {} {} = {} at {}", row.target, row.unit, row.key, row.value, row.timestamp);
        let Some((unit, table, address, value)) = parse(row) else {
            verdict.misattributed.push(what);
            continue;
        };
        let n = unwrap(device.values().n_of(unit, address, value), last.get(&(unit, table, address)).copied());
        let Some(answer) = answers.get(&(unit, table, n)).filter(|answer| answer.addresses().contains(&address.into()))
        else {
            verdict.misattributed.push(format!("{what}, would be answer {n}"));
            continue;
        };
        if answer.fate == Fate::Forbidden {
            verdict.forbidden.push(format!("{what}: {answer}"));
        }
        if !arrived.insert((unit, table, address, n)) {
            verdict.duplicate.push(format!("{what}: {answer}"));
        } else if last.get(&(unit, table, address)).is_some_and(|last| *last > n) {
            verdict.disorder.push(format!("{what}: {answer}"));
        }
        last.insert((unit, table, address), n);
        verdict.worst_stamp_error = verdict.worst_stamp_error.max(answer.at_ms.abs_diff(row.timestamp));
    }
    verdict.arrived += arrived.len();
    for answer in served.iter().filter(|answer| answer.fate == Fate::Due) {
        for address in answer.addresses() {
            verdict.served += 1;
            let address = u16::try_from(address).expect("a device refuses what is beyond 65535");
            if !arrived.contains(&(answer.unit, answer.table, address, answer.n)) {
                let what = format!("{} address {address} of {answer}", device.target());
                verdict.lost.push((answer.at_ms, what));
            }
        }
    }
}

/// Unit, table, address and word of a row; `None` for what no 16-bit register can have given.
fn parse(row: &Row) -> Option<(u8, Table, u16, u16)> {
    let (table, address) = Table::of_key(&row.key)?;
    // `2715.0` for most points, `2715` for those with multiplier 0.
    let value = row.value.to_string();
    let value = value.strip_suffix(".0").unwrap_or(&value).parse().ok()?;
    Some((row.unit.parse().ok()?, table, address, value))
}

/// The `n` nearest to the last one of its series, of which only the lowest 16 bits came.
pub fn unwrap(low: u64, last: Option<u64>) -> u64 {
    let Some(last) = last else { return low };
    let ahead = (low + 65_536 - last % 65_536) % 65_536;
    // No counter was ever below zero.
    if ahead < 32_768 || last + ahead < 65_536 { last + ahead } else { last + ahead - 65_536 }
}
