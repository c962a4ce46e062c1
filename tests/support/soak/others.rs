//! What the outputs beside pattoo have: a file and a database on this machine, and what waits for a server that is never there.
//!
//! Everything that pattoo's database must have, these must have too, whatever befalls the pattoo server.

use std::path::{Path, PathBuf};

use super::fleet::Fleet;
use crate::support::agent::Home;
use crate::support::archives::{self, Kept};
use crate::support::judge::Arrival;
use crate::support::server::Database;
use crate::support::spool;

/// The names of all outputs, in the order of the configuration.
pub const OUTPUTS: [&str; 4] = ["pattoo", "influxdb", "sqlite", "file"];

/// Those of them that have everything once devices are silent.
pub const REACHABLE: [&str; 3] = ["pattoo", "sqlite", "file"];

/// Small enough for some of them in each run.
const FILE_BYTES: &str = "2MB";

/// The configuration's `outputs`. Nobody listens at port 1.
pub fn configured(home: &Home) -> String {
    format!(
        "outputs:\n  - pattoo\n  - {{type: influxdb, url: 'http://127.0.0.1:1', database: plant}}\n  - sqlite\n  \
         - {{type: file, path: {}, max_bytes: {FILE_BYTES}, keep: 1000}}\n",
        file(home.path()).display()
    )
}

fn file(home: &Path) -> PathBuf {
    home.join("archive.jsonl")
}

/// What one output has.
#[derive(Debug)]
pub struct Other {
    /// Its name.
    pub name: &'static str,
    /// By device, in the order of its arrival, or of its time where there is no other.
    pub arrivals: Vec<Vec<Arrival>>,
    /// What no register of ours can have given.
    pub foreign: Vec<String>,
    /// How often something came again, one reading after another.
    pub repeats: usize,
}

/// All of them, once the agent has ended.
pub fn all(home: &Home, fleet: &Fleet) -> Vec<Other> {
    vec![waiting(home, fleet), in_database(home, fleet), in_file(home, fleet)]
}

impl Other {
    fn new(name: &'static str, fleet: &Fleet) -> Self {
        Self { name, arrivals: vec![Vec::new(); fleet.devices.len()], foreign: Vec::new(), repeats: 0 }
    }

    fn take_in(&mut self, found: Option<(usize, Arrival)>, what: impl FnOnce() -> String) {
        match found {
            Some((device, arrival)) => self.arrivals[device].push(arrival),
            None => self.foreign.push(what()),
        }
    }

    fn keep(&mut self, kept: &Kept, fleet: &Fleet) {
        let Kept { device, unit, key, value, at } = kept;
        self.take_in(fleet.find(device, *unit, key, *value, *at), || format!("{kept:?}"));
    }
}

/// What is on disk for the server that is never there.
fn waiting(home: &Home, fleet: &Fleet) -> Other {
    let mut other = Other::new("influxdb", fleet);
    for body in spool::waiting(&home.spool(), other.name) {
        // One for each: what the log holds is no pattoo server's concern.
        let mut database = Database::default();
        database.ingest(&body);
        for row in database.take_rows() {
            other.take_in(fleet.recognise(&row), || format!("{row:?}"));
        }
    }
    other
}

fn in_database(home: &Home, fleet: &Fleet) -> Other {
    let mut other = Other::new("sqlite", fleet);
    for kept in archives::in_database(&home.path().join("daemon/readings.sqlite")) {
        other.keep(&kept, fleet);
    }
    other
}

fn in_file(home: &Home, fleet: &Fleet) -> Other {
    let (kept, repeats) = archives::in_file(&file(home.path()));
    let mut other = Other { repeats, ..Other::new("file", fleet) };
    for kept in &kept {
        other.keep(kept, fleet);
    }
    other
}
