//! The batches that wait, and the proof that each row of them arrived once and in order.

use std::collections::BTreeMap;
use std::path::Path;

use super::POINTS;
use crate::support::server::{Row, Server};
use crate::support::{fill, now_ms, python};

/// One batch of so many is the Python agent's, a file of its own.
const PYTHONS: usize = 4;

/// The polled target of the Python agent's batches.
const PYTHONS_TARGET: &str = "old.example.net";

/// The agent that they are of.
pub const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The batches that wait.
#[derive(Debug)]
pub struct Files {
    count: usize,
    /// The stamp of the first.
    first_ms: u64,
}

impl Files {
    /// So many, the newest of a minute ago.
    pub fn new(count: usize) -> Self {
        Self { count, first_ms: now_ms() - 1_000 * (count as u64 + 60) }
    }

    /// Puts all of them below the cache directory: the agent's into its log, the Python agent's beside it.
    pub fn write(&self, cache: &Path) {
        let ours = (self.count - self.count / PYTHONS) as u64;
        let points = u32::try_from(POINTS).expect("few");
        // What the Python agent has left is older than what came since.
        fill::fill(cache, ID, ours, points, self.stamp(0), |batch, point| {
            let batch = usize::try_from(batch).expect("an address");
            f64_of(value(batch + batch / (PYTHONS - 1), point as usize))
        });
        let keys: Vec<String> = (0..POINTS).map(key).collect();
        for file in (0..self.count).rev().filter(|file| is_pythons(*file)) {
            let at = self.stamp(file);
            let readings: Vec<_> =
                (0..POINTS).map(|point| (PYTHONS_TARGET, &*keys[point], f64_of(value(file, point)))).collect();
            python::leave(&cache.join(ID), ID, at, &python::body(ID, at, &readings));
        }
    }

    /// When its readings were taken.
    fn stamp(&self, file: usize) -> u64 {
        let pythons = file / PYTHONS;
        let place = if is_pythons(file) { pythons } else { self.count / PYTHONS + file - pythons };
        self.first_ms + 1_000 * place as u64
    }

    /// The batch and the point that this row is of; `None` for a row of a poll.
    fn origin(&self, row: &Row) -> Option<Result<(usize, usize), String>> {
        let pythons = row.target == PYTHONS_TARGET;
        if !pythons && row.target != fill::TARGET {
            return None;
        }
        let wrong = || Err(format!("{} {} = {} at {}", row.target, row.key, row.value, row.timestamp));
        let Some(value) = row.value.as_f64().filter(|value| value.fract() == 0.0 && *value >= 0.0) else {
            return Some(wrong());
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and not negative")]
        let value = value as usize;
        let (file, point) = (value / POINTS, value % POINTS);
        let right = is_pythons(file) == pythons && row.timestamp == self.stamp(file) && row.key == key(point);
        Some(if right && file < self.count { Ok((file, point)) } else { wrong() })
    }
}

/// What has arrived so far.
#[derive(Debug)]
pub struct Arrivals {
    /// What is to arrive.
    pub files: Files,
    /// Rows of cached batches.
    pub cached: usize,
    /// Rows of polls.
    pub live: Vec<Row>,
    /// Rows that no batch holds, and those that came before their turn.
    pub wrong: Vec<String>,
    /// The batch that came last, by owner and point.
    last: BTreeMap<(bool, usize), usize>,
}

impl Arrivals {
    /// Nothing so far.
    pub fn of(files: Files) -> Self {
        Self { files, cached: 0, live: Vec::new(), wrong: Vec::new(), last: BTreeMap::new() }
    }

    /// How many whole batches.
    pub fn files_arrived(&self) -> usize {
        self.cached / POINTS
    }

    /// Takes in what the server has stored since the last look.
    pub fn look(&mut self, server: &Server) {
        for row in server.take_rows() {
            match self.files.origin(&row) {
                None => self.live.push(row),
                Some(Err(wrong)) => self.wrong.push(wrong),
                Some(Ok((file, point))) => {
                    let pythons = is_pythons(file);
                    let from = self.last.insert((pythons, point), file).map_or(0, |last| last + 1);
                    // Each batch of this owner in its turn, none missed, none twice.
                    if (from..self.files.count).find(|file| is_pythons(*file) == pythons) != Some(file) {
                        self.wrong.push(format!("batch {file} after batch {from}, point {point}"));
                    }
                    self.cached += 1;
                }
            }
        }
    }
}

fn is_pythons(file: usize) -> bool {
    file % PYTHONS == PYTHONS - 1
}

fn key(point: usize) -> String {
    format!("input_register_{}", 30_001 + point)
}

/// Tells the batch and the point.
fn value(file: usize, point: usize) -> usize {
    file * POINTS + point
}

fn f64_of(value: usize) -> f64 {
    f64::from(u32::try_from(value).expect("fewer than four billion values"))
}
