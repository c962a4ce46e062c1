//! What the ingester makes of a post, by the rules that were measured on the real one.
//!
//! A datapoint is kept only if its timestamp is greater than the last one of the same series; otherwise it
//! is dropped in silence, which the [`Database`] counts: as a repetition when it is there already, as
//! *late* when it is lost. What would kill the real ingester, or make it ignore a whole post, is written
//! down as such; so is a checksum that is not the chain of the datapoint's own metadata.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::Head;
use crate::support::now_ms;

/// A datapoint that was kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// `pattoo_checksum`: the series.
    pub checksum: String,
    /// `unit`, three digits.
    pub unit: String,
    /// `pattoo_agent_polling_interval` of the datapoint, in ms.
    pub interval: String,
    /// `pattoo_agent_hostname`.
    pub hostname: String,
    /// `pattoo_agent_id`.
    pub agent_id: String,
    /// `pattoo_agent_polled_target`.
    pub target: String,
    /// `pattoo_agent_program`.
    pub program: String,
    /// `pattoo_key`.
    pub key: String,
    /// `pattoo_data_type`.
    pub data_type: u64,
    /// `pattoo_value`, in the number form in which it came.
    pub value: Value,
    /// `pattoo_timestamp`.
    pub timestamp: u64,
}

/// Everything that was ingested, and everything that was wrong with it.
#[derive(Debug, Clone, Default)]
pub struct Database {
    rows: Vec<Row>,
    /// The stamps of each series, with the number of excuses there were when they came last.
    known: BTreeMap<String, BTreeMap<u64, usize>>,
    excuses: usize,
    /// The time of each that came again needlessly.
    needless: Vec<u64>,
    /// How many came again alone and needlessly.
    alone: usize,
    /// Checksums that were worked out before, with what they are made of.
    chains: BTreeMap<String, String>,
    last_of_series: BTreeMap<String, u64>,
    last_post: BTreeMap<String, (u64, Vec<u8>)>,
    posted_again: usize,
    late: Vec<Row>,
    repeated: usize,
    /// What came again since somebody looked; `None`: nobody looks.
    watched: Option<Vec<Row>>,
    deaths: Vec<String>,
    invalid: Vec<String>,
    disorder: Vec<String>,
}

impl Database {
    /// What was kept, in the order of its arrival.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What was dropped because a later one of its series was there already: lost for ever.
    pub fn late(&self) -> &[Row] {
        &self.late
    }

    /// How many datapoints came again.
    pub fn repeated(&self) -> usize {
        self.repeated
    }

    /// When datapoints came again though their sender had no reason to doubt that they had arrived, in ms.
    pub fn needless(&self) -> &[u64] {
        &self.needless
    }

    /// How many datapoints came again alone: so a sender asks whether the server takes anything, while it refuses something.
    pub fn alone(&self) -> usize {
        self.alone
    }

    /// The sender may not know what its last post was: the next one may be of any time.
    pub fn excuse_order(&mut self) {
        self.last_post.clear();
    }

    /// What has come so far may come again, once: its sender may not know that it arrived.
    pub fn excuse(&mut self) {
        self.excuses += 1;
    }

    /// From now on what comes again is kept until [`take_repeated`](Self::take_repeated).
    pub fn watched(self) -> Self {
        Self { watched: Some(Vec::new()), ..self }
    }

    /// What came again since the last call, if it is watched.
    pub fn take_repeated(&mut self) -> Vec<Row> {
        self.watched.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What is wrong with the order of posts that were answered 200.
    pub fn disorder(&self) -> &[String] {
        &self.disorder
    }

    /// The rows kept since the last call; for those who look at a database that grows for hours.
    pub fn take_rows(&mut self) -> Vec<Row> {
        std::mem::take(&mut self.rows)
    }

    /// How many posts came again, whole, although they had been answered 200.
    pub fn posted_again(&self) -> usize {
        self.posted_again
    }

    /// What would have ended the ingester of the real server.
    pub fn deaths(&self) -> &[String] {
        &self.deaths
    }

    /// What the real ingester would have ignored or misfiled.
    pub fn invalid(&self) -> &[String] {
        &self.invalid
    }

    /// Fails the test for whatever no agent may ever send, however the network and the devices behave.
    pub fn assert_sound(&self) {
        assert!(self.deaths.is_empty(), "posts that end the ingester of the real server: {:#?}", self.deaths);
        assert!(self.invalid.is_empty(), "posts that the real ingester ignores: {:#?}", self.invalid);
        assert!(self.late.is_empty(), "datapoints sent after later ones of their series: {:#?}", self.late);
        assert!(self.disorder.is_empty(), "timestamps of posts must rise: {:#?}", self.disorder);
    }

    /// Stores a post that deserves 200.
    pub fn store(&mut self, head: &Head, body: &[u8]) {
        let stated: Value = serde_json::from_slice(body).unwrap_or_default();
        if stated["pattoo_agent_id"].as_str() != Some(sender(head)) {
            self.invalid.push(format!("posted by {}: {}", sender(head), stated["pattoo_agent_id"]));
        }
        if head.header("content-length").is_none() {
            self.invalid.push("no content length".to_owned());
        }
        self.ingest(body);
    }

    /// The agent has been told 200: it may never send this body again, nor an older one.
    pub fn acknowledged(&mut self, head: &Head, body: &[u8]) {
        let stated: Value = serde_json::from_slice(body).unwrap_or_default();
        let timestamp = stated["pattoo_agent_timestamp"].as_u64().unwrap_or_default();
        match self.last_post.insert(sender(head).to_owned(), (timestamp, body.to_vec())) {
            Some(last) if last == (timestamp, body.to_vec()) => self.posted_again += 1,
            Some((last, _)) if last >= timestamp => self.disorder.push(format!("{timestamp} after {last}")),
            _ => {}
        }
    }

    /// Ingests a body, from a post or from a file that is still to be posted.
    pub fn ingest(&mut self, body: &[u8]) {
        let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
            self.invalid.push(format!("not an object: {}", String::from_utf8_lossy(body)));
            return;
        };
        if !has_the_four_keys(&body) {
            self.invalid.push(format!("keys {:?}", body.keys()));
            return;
        }
        self.check_top(&body);
        let data = &body["pattoo_datapoints"];
        let (Some(pairs), Some(datapoints)) = (data["key_value_pairs"].as_object(), data["datapoint_pairs"].as_array())
        else {
            self.invalid.push(format!("pattoo_datapoints {data}"));
            return;
        };
        for (id, pair) in pairs {
            self.check_pair(id, pair);
        }
        let rows: Option<Vec<Row>> = datapoints.iter().map(|ids| row(pairs, ids)).collect();
        // One bad datapoint costs the whole post.
        match rows {
            None => self.invalid.push(format!("a datapoint with a missing or foreign pair in {data}")),
            Some(rows) if rows.is_empty() => self.invalid.push("no datapoint at all".to_owned()),
            Some(rows) => {
                let alone = rows.len() == 1;
                for row in rows {
                    self.keep(row, alone);
                }
            }
        }
    }

    fn check_top(&mut self, body: &Map<String, Value>) {
        let timestamp = body["pattoo_agent_timestamp"].as_u64();
        if timestamp.is_none_or(|timestamp| timestamp.to_string().len() != 13) {
            self.deaths.push(format!("pattoo_agent_timestamp {}", body["pattoo_agent_timestamp"]));
        }
        let interval = body["pattoo_agent_polling_interval"].as_u64();
        if interval.is_none_or(|interval| interval >= 1 << 32) {
            self.deaths.push(format!("pattoo_agent_polling_interval {}", body["pattoo_agent_polling_interval"]));
        }
    }

    fn check_pair(&mut self, id: &str, pair: &Value) {
        let (Some(key), Some(value), None) = (pair[0].as_str(), pair.get(1), pair.get(2)) else {
            self.invalid.push(format!("pair {id} is {pair}"));
            return;
        };
        let deadly = match value {
            _ if key.len() > 512 => true,
            Value::String(text) => {
                text.len() > 512
                    || (key == "pattoo_agent_polling_interval" && text.parse::<u32>().is_err())
                    || key == "pattoo_timestamp"
            }
            Value::Number(number) if key == "pattoo_timestamp" => !number.is_u64(),
            Value::Number(number) => number.as_f64().is_none_or(|value| !value.is_finite() || value.abs() >= 1e30),
            _ => true,
        };
        if deadly {
            self.deaths.push(format!("pair {id} is {pair}"));
        }
    }

    /// Keeps a datapoint that came `alone`, or with others.
    fn keep(&mut self, row: Row, alone: bool) {
        let Row { key, data_type, unit, hostname, agent_id, target, program, .. } = &row;
        let links = format!("{key} {data_type} {unit} {hostname} {agent_id} {target} {program}");
        if self.chains.get(&row.checksum) != Some(&links) {
            let chain = checksum(&row);
            if row.checksum != chain {
                self.invalid.push(format!("{} has checksum {}, should be {chain}", row.key, row.checksum));
            }
            self.chains.insert(chain, links);
        }
        let last = self.last_of_series.get(&row.checksum).copied();
        if last.is_none_or(|last| row.timestamp > last) {
            self.last_of_series.insert(row.checksum.clone(), row.timestamp);
            self.known.entry(row.checksum.clone()).or_default().insert(row.timestamp, self.excuses);
            self.rows.push(row);
        } else if let Some(came) = self.known.get_mut(&row.checksum).and_then(|known| known.get_mut(&row.timestamp)) {
            self.repeated += 1;
            match *came == self.excuses {
                true if alone => self.alone += 1,
                true => self.needless.push(now_ms()),
                false => {}
            }
            *came = self.excuses;
            self.watched.iter_mut().for_each(|watched| watched.push(row.clone()));
        } else {
            self.late.push(row);
        }
    }
}

/// The agent id in the path of a post.
fn sender(head: &Head) -> &str {
    head.line.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default()
}

/// Whether these are exactly the keys of a post.
pub fn has_the_four_keys(body: &Map<String, Value>) -> bool {
    const KEYS: [&str; 4] =
        ["pattoo_agent_id", "pattoo_agent_polling_interval", "pattoo_agent_timestamp", "pattoo_datapoints"];
    body.len() == KEYS.len() && KEYS.iter().all(|key| body.contains_key(*key))
}

/// The checksum chain over the datapoint's own metadata.
pub fn checksum(row: &Row) -> String {
    let hex = |text: String| Sha256::digest(text).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let seed = hex(format!("{}{}", row.key, row.data_type));
    let metadata = [
        ("unit", &row.unit),
        ("pattoo_agent_hostname", &row.hostname),
        ("pattoo_agent_id", &row.agent_id),
        ("pattoo_agent_polled_target", &row.target),
        ("pattoo_agent_program", &row.program),
    ];
    metadata.iter().fold(seed, |chain, (key, value)| hex(format!("{chain}{key}{value}")))
}

/// One datapoint, when it has exactly the eleven pairs that the server knows.
fn row(pairs: &Map<String, Value>, ids: &Value) -> Option<Row> {
    let pairs: BTreeMap<&str, &Value> = ids
        .as_array()?
        .iter()
        .map(|id| {
            let pair = pairs.get(&id.as_u64()?.to_string())?;
            Some((pair[0].as_str()?, pair.get(1)?))
        })
        .collect::<Option<_>>()?;
    let text = |key: &str| Some((*pairs.get(key)?).as_str()?.to_owned());
    let row = Row {
        checksum: text("pattoo_checksum")?,
        unit: text("unit")?,
        interval: text("pattoo_agent_polling_interval")?,
        hostname: text("pattoo_agent_hostname")?,
        agent_id: text("pattoo_agent_id")?,
        target: text("pattoo_agent_polled_target")?,
        program: text("pattoo_agent_program")?,
        key: text("pattoo_key")?,
        data_type: pairs.get("pattoo_data_type")?.as_u64()?,
        value: (*pairs.get("pattoo_value")?).clone(),
        timestamp: pairs.get("pattoo_timestamp")?.as_u64()?,
    };
    (ids.as_array()?.len() == 11 && pairs.len() == 11).then_some(row)
}
