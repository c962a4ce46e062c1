//! The batches that wait, and the proof that each row of them arrived once and in order.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{POINTS, group};
use crate::support::agent::Home;
use crate::support::device::Device;
use crate::support::server::{Database, Row, Server};
use crate::support::{now_ms, python};

/// One batch of so many is the Python agent's.
const PYTHONS: usize = 4;

/// The polled target of the Python agent's batches.
const PYTHONS_TARGET: &str = "meter.example.net";

/// What a cached batch is copied from, and how many copies there are.
#[derive(Debug)]
pub struct Files {
    count: usize,
    agent_id: String,
    /// The stamp of the first.
    first_ms: u64,
    /// A body of the agent with `@STAMP@`, `@READ@` and `@0@`, `@1@`… where stamps and values belong.
    template: String,
    /// The keys of the values, in that order.
    keys: Vec<String>,
    /// The polled target of the template.
    target: String,
}

impl Files {
    /// Lets the agent write one batch while the server is away, and removes it again.
    pub fn record(home: &Home, server: &Server, count: usize) -> Self {
        server.stop();
        let device = Device::counting(0);
        // One poll, at once.
        home.write_groups("300s", &group(&device));
        let mut agent = home.run();
        agent.until("a batch", || home.agent_id_file().exists() && !home.spooled().is_empty());
        agent.stop();
        let body = home.spooled().remove(0);
        fs::remove_dir_all(home.spool()).expect("a directory of ours");
        fs::create_dir(home.spool()).expect("a directory of ours");

        let mut database = Database::default();
        database.ingest(&body);
        let rows = database.take_rows();
        let stated: serde_json::Value = serde_json::from_slice(&body).expect("a body");
        let stamp = stated["pattoo_agent_timestamp"].to_string();
        let mut template = String::from_utf8(body).expect("text");
        for (place, row) in rows.iter().enumerate() {
            template =
                template.replace(&format!("\"pattoo_value\",{}]", row.value), &format!("\"pattoo_value\",@{place}@]"));
        }
        template =
            template.replace(&format!("\"pattoo_timestamp\",{}]", rows[0].timestamp), "\"pattoo_timestamp\",@READ@]");
        template =
            template.replace(&format!("\"pattoo_agent_timestamp\":{stamp},"), "\"pattoo_agent_timestamp\":@STAMP@,");
        assert_eq!((rows.len(), template.matches('@').count()), (POINTS, 2 * (2 + POINTS)), "{template}");
        Self {
            count,
            agent_id: home.agent_id(),
            first_ms: now_ms() - 1_000 * (count as u64 + 60),
            template,
            keys: rows.iter().map(|row| row.key.clone()).collect(),
            target: device.target(),
        }
    }

    /// Puts all of them into the directory, the newest first.
    pub fn write(&self, spool: &Path) {
        for file in (0..self.count).rev() {
            let (stamp, read) = (self.stamp(file), self.stamp(file) - 7);
            if is_pythons(file) {
                let keys = &self.keys;
                let readings: Vec<_> =
                    (0..POINTS).map(|point| (PYTHONS_TARGET, &*keys[point], f64_of(value(file, point)))).collect();
                python::leave(spool, &self.agent_id, stamp, &python::body(&self.agent_id, stamp, &readings));
                continue;
            }
            let mut body = self.template.replace("@STAMP@", &stamp.to_string()).replace("@READ@", &read.to_string());
            for point in 0..POINTS {
                body = body.replace(&format!("@{point}@"), &value(file, point).to_string());
            }
            let name = format!("{stamp}_{}_{:08x}.json", self.agent_id, crc32c::crc32c(body.as_bytes()));
            fs::write(spool.join(name), body).expect("room on the disk");
        }
    }

    fn stamp(&self, file: usize) -> u64 {
        self.first_ms + 1_000 * file as u64
    }

    /// The batch and the point that this row is of; `None` for a row of a poll.
    fn origin(&self, row: &Row) -> Option<Result<(usize, usize), String>> {
        let pythons = row.target == PYTHONS_TARGET;
        if !pythons && row.target != self.target {
            return None;
        }
        let wrong = || Err(format!("{} {} = {} at {}", row.target, row.key, row.value, row.timestamp));
        let Some(value) = row.value.as_f64().filter(|value| value.fract() == 0.0 && *value >= 0.0) else {
            return Some(wrong());
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and not negative")]
        let value = value as usize;
        let (file, point) = (value / POINTS, value % POINTS);
        let read = self.stamp(file) - if pythons { 0 } else { 7 };
        let right = is_pythons(file) == pythons && row.timestamp == read && row.key == self.keys[point];
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

/// Tells the batch and the point.
fn value(file: usize, point: usize) -> usize {
    file * POINTS + point
}

fn f64_of(value: usize) -> f64 {
    f64::from(u32::try_from(value).expect("fewer than four billion values"))
}
