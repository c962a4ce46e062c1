//! A server as an output sees it, and the judge of all that arrives there.

use std::collections::BTreeMap;
use std::time::Duration;

use pattoo_agent_modbustcpd::outputs::Encode;
use pattoo_agent_modbustcpd::outputs::file::{FileEncode, Format};
use pattoo_agent_modbustcpd::outputs::pattoo::encode::PattooEncode;
use pattoo_agent_modbustcpd::outputs::pattoo::identity::AgentId;
use pattoo_agent_modbustcpd::shard::Shard;

use super::ledger::Ledger;
use super::scenario::{HOUR, Kind};
use super::support::server::{Database, Row};

/// What makes the posts of an output of this kind.
pub fn encoder(kind: Kind, id: &AgentId) -> Box<dyn Encode> {
    match kind {
        Kind::Pattoo => Box::new(PattooEncode::new(id.clone(), Shard::default())),
        Kind::Lines => Box::new(FileEncode(Format::Csv)),
    }
}

/// A reading that arrived.
#[derive(Debug, Clone, Copy)]
struct Came {
    at: u64,
    /// How many excuses there were when it came last.
    excuses: usize,
}

/// A server, and what it has.
pub struct Sink {
    kind: Kind,
    database: Database,
    /// Of each series what came, by number.
    came: Vec<BTreeMap<usize, Came>>,
    excuses: usize,
    /// When something was refused last.
    refused: Option<Duration>,
    /// The stamp of the last post, and the post.
    last: Option<(u64, Vec<u8>)>,
    /// The post that was stored last, and how many excuses there were.
    stored: (usize, Vec<u8>),
    /// There was a power cut.
    pub cut: bool,
    /// The agent may have forgotten stamps that it gave out.
    pub amnesia: bool,
    /// How many readings came.
    pub rows: u64,
    /// How many came again.
    pub repeated: u64,
    /// What was dropped as late after an amnesia.
    pub forgiven: u64,
}

impl Sink {
    pub fn new(kind: Kind, series: usize) -> Self {
        Self {
            kind,
            database: Database::default().watched(),
            came: vec![BTreeMap::new(); series],
            excuses: 0,
            refused: None,
            last: None,
            stored: (0, Vec::new()),
            cut: false,
            amnesia: false,
            rows: 0,
            repeated: 0,
            forgiven: 0,
        }
    }

    /// The agent does not know what of all that came has arrived.
    pub fn excuse(&mut self) {
        self.excuses += 1;
    }

    /// The agent is another process, which knows of posts only what is on disk.
    pub fn forgets(&mut self) {
        self.excuses += 1;
        self.last = None;
    }

    /// It has refused something at `now`: the agent may ask whether it still takes what it has taken.
    pub fn refuses(&mut self, now: Duration) {
        self.refused = Some(now);
    }

    /// It answers nothing that says more: what it has refused before is still in question.
    pub fn troubled(&mut self, now: Duration) {
        self.refused = self.refused.map(|_| now);
    }

    pub fn has(&self, series: usize, n: usize) -> bool {
        self.came[series].contains_key(&n)
    }

    /// Stores a post; up to the reading `durable` all are safe.
    pub fn store(&mut self, body: &[u8], ledger: &Ledger, now: Duration, durable: u64) -> Result<(), String> {
        // Nobody has answered the last one: it comes byte for byte again, for days if need be.
        if self.stored.0 < self.excuses && self.stored.1 == body {
            self.stored.0 = self.excuses;
            self.repeated += 1;
            return Ok(());
        }
        self.stored = (self.excuses, body.to_vec());
        let (rows, again, late) = match self.kind {
            Kind::Pattoo => {
                self.stamp(body)?;
                let late = self.database.late().len();
                self.database.ingest(body);
                // A file of the old caches that was let go may be back after a power cut, and comes too late.
                let back = |row: &&Row| self.cut && ledger.row(row).1 < ledger.old;
                let late = self.database.late()[late..].iter().filter(|row| !back(row)).count();
                let unsound = [self.database.deaths(), self.database.invalid()].concat();
                if !unsound.is_empty() {
                    return Err(format!("the ingester cannot take it: {unsound:?}"));
                }
                let rows = |rows: Vec<Row>| -> Vec<_> { rows.iter().map(|row| ledger.row(row)).collect() };
                (rows(self.database.take_rows()), rows(self.database.take_repeated()), late)
            }
            Kind::Lines => {
                let (mut new, mut again, mut late) = (Vec::new(), Vec::new(), 0);
                for line in str::from_utf8(body).unwrap().lines() {
                    let (series, n, at) = ledger.line(line);
                    if self.has(series, n) {
                        again.push((series, n, at));
                    } else if self.came[series].last_key_value().is_some_and(|(&last, _)| last > n) {
                        late += 1;
                    } else {
                        new.push((series, n, at));
                    }
                }
                (new, again, late)
            }
        };
        let single = rows.len() + again.len() == 1;
        for (series, n, at) in rows {
            ledger.check(series, n, at, now)?;
            if ledger.entries[series][n].position.is_some_and(|position| position >= durable) {
                return Err(format!("series {series}: {n} is posted before it is durable"));
            }
            let last = self.came[series].last_key_value().map(|(&n, came)| (n, came.at));
            match last {
                Some((last, last_at)) if last >= n || last_at >= at => {
                    if !self.amnesia {
                        return Err(format!("series {series}: {n} of {at} after {last} of {last_at}"));
                    }
                    self.forgiven += 1;
                }
                _ => {}
            }
            self.rows += 1;
            self.came[series].entry(n).or_insert(Came { at, excuses: self.excuses });
        }
        if late > 0 {
            if !self.amnesia {
                return Err(format!(
                    "{late} readings come after later ones of their series: {:?}",
                    self.database.late()
                ));
            }
            self.forgiven += late as u64;
        }
        for (series, n, at) in again {
            self.repeated += 1;
            let is_control = single && self.refused.is_some_and(|refused| now - refused <= HOUR);
            let Some(came) = self.came[series].get_mut(&n).filter(|came| came.at == at) else {
                if self.amnesia {
                    // Another reading has its stamp.
                    self.forgiven += 1;
                    continue;
                }
                return Err(format!("series {series}: {n} comes again, as of {at}: {:?}", self.came[series].get(&n)));
            };
            if came.excuses == self.excuses && !is_control {
                return Err(format!("series {series}: {n} of {at} comes again for no reason"));
            }
            if !is_control {
                came.excuses = self.excuses;
            }
        }
        Ok(())
    }

    /// Posts are ordered by their stamps.
    fn stamp(&mut self, body: &[u8]) -> Result<(), String> {
        let text = str::from_utf8(body).unwrap();
        let (_, rest) = text.split_once("\"pattoo_agent_timestamp\":").ok_or("no stamp")?;
        let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
        let stamp: u64 = digits.parse().map_err(|_| "no stamp")?;
        if let Some((last, post)) = &self.last
            && *last >= stamp
            && post != body
            && !self.amnesia
        {
            return Err(format!("a post of {stamp} after one of {last}"));
        }
        self.last = Some((stamp, body.to_vec()));
        Ok(())
    }
}
