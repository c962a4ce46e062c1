//! A stored body read again: checked against what the server survives, merged with others, taken apart.
//!
//! Works on the text: a pair's value is copied as it was written, so no number is changed by passing
//! through. What belongs to one row is judged by row: a value that is not finite, a text over 512 bytes, a
//! pair that is missing make that row *unsound*, never its neighbours. Unsound rows are never posted; the
//! Python agent, whose multiplier may be `.inf`, left some in its cache. Only a text that is no body at all
//! is [`Damaged`].

mod datapoints;
#[cfg(test)]
mod tests;
mod wire;

use std::borrow::Cow;
use std::collections::HashMap;

use thiserror::Error;

pub use self::datapoints::Datapoints;
use self::wire::Wire;
use super::identity::MAX_TEXT_BYTES;
use super::payload::{TIMESTAMP_DIGITS, VALUE_LIMIT};
use crate::reading::Timestamp;

/// The keys of a row, in the original's order.
const KEYS: [&str; 11] = [
    "unit",
    "pattoo_agent_polling_interval",
    "pattoo_agent_hostname",
    "pattoo_agent_id",
    "pattoo_agent_polled_target",
    "pattoo_agent_program",
    "pattoo_key",
    "pattoo_data_type",
    "pattoo_value",
    "pattoo_timestamp",
    "pattoo_checksum",
];

/// The data types that the ingester stores.
const DATA_TYPES: [&str; 4] = ["99", "101", "32", "64"];

/// Why a text is no body that the server would take.
#[derive(Debug, Error)]
pub enum Damaged {
    /// No JSON, or not the server's four keys.
    #[error("it is no post body")]
    NoBody(#[source] serde_json::Error),
    /// The server sorts posts by this stamp as text.
    #[error("its timestamp {0} does not have {TIMESTAMP_DIGITS} digits")]
    Timestamp(u64),
    /// It belongs to somebody else.
    #[error("it is of another agent, {0:?}")]
    OtherAgent(String),
    /// There is nothing to post.
    #[error("it holds no datapoint")]
    Empty,
}

/// One stored body.
#[derive(Debug)]
pub struct Body<'a> {
    agent_id: Cow<'a, str>,
    at: Timestamp,
    interval: u32,
    pairs: Vec<Pair<'a>>,
    /// Places in `pairs`.
    rows: Vec<[u32; KEYS.len()]>,
    unsound: Vec<Unsound>,
}

#[derive(Debug)]
struct Pair<'a> {
    key: Cow<'a, str>,
    /// As written.
    value: &'a str,
}

/// A row that must not be posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unsound {
    row: usize,
    why: &'static str,
}

impl<'a> Body<'a> {
    /// Reads `text`, which is best made [`legible`] before.
    ///
    /// # Errors
    /// When the server would answer 500 to it, or ignore it whole.
    pub fn parse(text: &'a [u8]) -> Result<Self, Damaged> {
        let wire: Wire<'a> = serde_json::from_slice(text).map_err(Damaged::NoBody)?;
        if wire.at.to_string().len() != TIMESTAMP_DIGITS {
            return Err(Damaged::Timestamp(wire.at));
        }
        if wire.datapoints.rows.is_empty() {
            return Err(Damaged::Empty);
        }
        let mut places = HashMap::with_capacity(wire.datapoints.pairs.len());
        let mut pairs = Vec::with_capacity(wire.datapoints.pairs.len());
        let mut judged = Vec::with_capacity(wire.datapoints.pairs.len());
        for (place, (id, key, value)) in (0_u32..).zip(wire.datapoints.pairs) {
            places.insert(id, place);
            judged.push(judge(&key, value));
            pairs.push(Pair { key, value });
        }
        let mut body = Self {
            agent_id: wire.agent_id,
            at: Timestamp::from_millis(wire.at),
            interval: wire.interval,
            pairs,
            rows: Vec::with_capacity(wire.datapoints.rows.len()),
            unsound: Vec::new(),
        };
        for (row, ids) in wire.datapoints.rows.into_iter().enumerate() {
            let mut found = 0_u16;
            let mut why = None;
            let ids = ids.map(|id| {
                let Some(&place) = places.get(&id) else {
                    why = Some("one of its pairs is missing");
                    return NOWHERE;
                };
                match judged[place as usize] {
                    Ok(key) => found |= 1 << key,
                    // Of this row only: a pair that several rows share makes each of them unsound, and no other.
                    Err(fault) => why = Some(fault),
                }
                place
            });
            if found != ALL_KEYS {
                why = why.or(Some("it does not have the eleven keys of a datapoint"));
            }
            body.rows.push(ids);
            body.unsound.extend(why.map(|why| Unsound { row, why }));
        }
        Ok(body)
    }

    /// How many datapoints it holds, sound or not.
    #[must_use]
    pub fn datapoints(&self) -> usize {
        self.rows.len()
    }

    /// How many of them must not be posted, and what is wrong with the first.
    #[must_use]
    pub fn unsound(&self) -> Option<(usize, &'static str)> {
        self.unsound.first().map(|first| (self.unsound.len(), first.why))
    }

    /// Makes sound rows unsound of which the stamp is, as `judge` says, none to post.
    pub fn judge_stamps(&mut self, judge: impl Fn(Timestamp) -> Option<&'static str>) {
        // They stand in the order of their rows, here and when all are gathered.
        let sound = |row: &usize| self.unsound.binary_search_by_key(row, |unsound| unsound.row).is_err();
        let found: Vec<_> = (0..self.rows.len())
            .filter(sound)
            .filter_map(|row| Some(Unsound { row, why: judge(self.at(row)?)? }))
            .collect();
        self.unsound.extend(found);
        self.unsound.sort_unstable_by_key(|unsound| unsound.row);
    }

    /// When the reading of a row was taken.
    fn at(&self, row: usize) -> Option<Timestamp> {
        let pairs = self.rows.get(row)?.iter().filter_map(|&pair| self.pairs.get(pair as usize));
        stamp_of(pairs.map(|pair| (&*pair.key, pair.value)))
    }

    /// Whether it may be posted byte for byte by the agent with this id, as the post of `at`.
    #[must_use]
    pub fn is_plain(&self, agent_id: &str, at: Timestamp) -> bool {
        self.unsound.is_empty() && self.agent_id == agent_id && self.at == at
    }

    /// The same, if the agent with this id may post it.
    ///
    /// # Errors
    /// When it is of another agent. White space around the id is the Python agent's.
    pub fn of_agent(self, agent_id: &str) -> Result<Self, Damaged> {
        if self.agent_id.trim() == agent_id {
            return Ok(self);
        }
        Err(Damaged::OtherAgent(self.agent_id.into_owned()))
    }
}

/// When the reading of a row of these pairs was taken.
fn stamp_of<'a>(mut pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Timestamp> {
    pairs.find(|(key, _)| *key == KEYS[9])?.1.parse().ok().map(Timestamp::from_millis)
}

/// The place of a pair that is not there.
const NOWHERE: u32 = u32::MAX;

const ALL_KEYS: u16 = (1 << KEYS.len()) - 1;

/// Which of [`KEYS`] it is, or why the ingester would not survive it.
fn judge(key: &str, value: &str) -> Result<usize, &'static str> {
    let place = KEYS.iter().position(|known| *known == key).ok_or("it has a key that no datapoint has")?;
    let sound = match key {
        "pattoo_value" => {
            let number = is_number(value).then(|| value.parse::<f64>().ok()).flatten();
            if !number.is_some_and(|number| number.abs() < VALUE_LIMIT) {
                return Err("its value is no finite number below 1e29");
            }
            true
        }
        "pattoo_timestamp" => {
            // As text the ingester does not survive it, nor from 2^64 on.
            if !(is_digits(value) && value.len() <= TIMESTAMP_DIGITS && value != "0") {
                return Err("its timestamp is no integer of at most 13 digits");
            }
            true
        }
        "pattoo_agent_polling_interval" => {
            if !is_digits(value.trim_matches('"')) || value.trim_matches('"').parse::<u32>().is_err() {
                return Err("its polling interval is no integer below 2^32");
            }
            true
        }
        "pattoo_data_type" => DATA_TYPES.contains(&value),
        _ => is_short_text(value),
    };
    if sound { Ok(place) } else { Err("a text of it is no text of at most 512 bytes, or its data type is unknown") }
}

fn is_number(json: &str) -> bool {
    json.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether this is a JSON string that is short enough when its escapes are resolved.
fn is_short_text(json: &str) -> bool {
    if !json.starts_with('"') {
        return false;
    }
    // Quotes included, and an escape is never shorter than what it means.
    json.len() <= MAX_TEXT_BYTES + 2
        || serde_json::from_str::<Cow<'_, str>>(json).is_ok_and(|text| text.len() <= MAX_TEXT_BYTES)
}

/// `text` as JSON, where Python wrote what JSON has no form for: `Infinity` becomes a number that is
/// infinite, `NaN` no number at all, both for [`Body::parse`] to see and for no one to post.
#[must_use]
pub fn legible(mut text: Vec<u8>) -> Vec<u8> {
    let mut place = 0;
    let mut quoted = false;
    while let Some(&byte) = text.get(place) {
        match byte {
            b'\\' if quoted => place += 1,
            b'"' => quoted = !quoted,
            // What takes its place has the same length, so nothing behind it moves.
            b'I' if !quoted && text[place..].starts_with(b"Infinity") => {
                text[place..place + 8].copy_from_slice(b"1e999999");
            }
            b'N' if !quoted && text[place..].starts_with(b"NaN") => {
                text[place..place + 3].copy_from_slice(b"\"\" ");
                place += 2;
            }
            _ => {}
        }
        place += 1;
    }
    text
}
