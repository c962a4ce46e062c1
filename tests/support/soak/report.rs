//! What became of every reading, as a table, and which bounds were broken.
//!
//! Arithmetic on what the devices served, what the database and every other output hold, what lies in quarantine and what the
//! [`Ledger`] excuses; nothing that the agent says of itself is believed, save its books, which must close.
//! A run that did not meet what it was planned to meet proves nothing, and is a failure too.

mod closing;
mod spread;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use self::closing::Closing;
use super::disk::Damaged;
use super::fleet::{Fleet, Series};
use super::ledger::Ledger;
use super::others::Other;
use super::watch::{Sample, Watch};
use crate::support::server::Server;

/// Everything that is known at the end.
pub struct Evidence<'a> {
    /// Of the plan.
    pub seed: u64,
    /// The server, with its database.
    pub server: &'a Server,
    /// The devices and what arrived of them.
    pub fleet: &'a Fleet,
    /// What the other outputs have.
    pub others: &'a [Other],
    /// Where the agent sets aside what it cannot deliver.
    pub quarantine: PathBuf,
    /// What happened.
    pub ledger: &'a Ledger,
    /// What the process needed.
    pub watch: &'a Watch,
    /// The process once all was well again.
    pub steady: Option<Sample>,
    /// Batches that were damaged.
    pub damaged: &'a [Damaged],
    /// Series that were refused for a while.
    pub poisoned: &'a [(usize, Series)],
    /// From SIGTERM to the end.
    pub stop_times: &'a [Duration],
    /// Rows that arrived while large bodies were refused.
    pub split: usize,
    /// Rows that arrived while one series was refused.
    pub bisected: usize,
    /// Kinds of faults that were planned and possible and did not happen.
    pub missing: Vec<String>,
    /// Whether only faults of one kind were planned.
    pub is_part: bool,
    /// Whether every kind of fault was planned.
    pub whole_plan: bool,
    /// Series with a fresh reading at the end, of all.
    pub liveness: (usize, usize),
    /// By how much the clock was off at most, in ms.
    pub injected: u64,
    /// The agent's log of all lives.
    pub log: &'a str,
    /// When it began.
    pub begun: Instant,
    /// The same by the wall clock.
    pub begun_ms: u64,
    /// What was seen to be wrong on the way.
    pub violations: Vec<String>,
}

/// The table and the verdict.
#[derive(Debug)]
pub struct Report {
    lines: Vec<(&'static str, String)>,
    violations: Vec<String>,
    seed: u64,
}

impl Report {
    /// Judges.
    pub fn close(evidence: Evidence<'_>) -> Self {
        Closing::new(evidence).close()
    }

    /// Whether no bound was broken.
    pub fn passes(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.lines {
            writeln!(f, "{name:<16}: {value}")?;
        }
        for violation in &self.violations {
            writeln!(f, "VIOLATION: {violation}")?;
        }
        if self.passes() {
            f.write_str("VERDICT PASS")
        } else {
            write!(f, "VERDICT FAIL: {} violations, seed {:#x}", self.violations.len(), self.seed)
        }
    }
}

/// SHA-256 of a file in hex.
pub fn sha256(path: &Path) -> String {
    let bytes = fs::read(path).expect("the agent's binary");
    Sha256::digest(bytes).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}
