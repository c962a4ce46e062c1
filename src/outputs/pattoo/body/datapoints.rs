//! The sound rows of several bodies as one supply, from which posts are made: all of them, or a part.
//!
//! Equal pairs are shared, each row keeps its place behind those of older bodies, and each knows its series
//! (its checksum), because rows of one series must reach the server in order and so must never be overtaken
//! by one another.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Body, KEYS, NOWHERE};
use crate::outputs::pattoo::json;
use crate::reading::Timestamp;

/// Rows of bodies of one agent.
#[derive(Debug, Default)]
pub struct Datapoints<'a> {
    interval: u32,
    pairs: Vec<(&'a str, &'a str)>,
    rows: Vec<[u32; KEYS.len()]>,
    series: Vec<u32>,
}

impl<'a> Datapoints<'a> {
    /// The sound rows of `bodies`, oldest body first. A body states one interval beside those of its rows:
    /// the newest one's.
    #[must_use]
    pub fn sound(bodies: &'a [Body<'a>]) -> Self {
        Self::gather(bodies, true)
    }

    /// The rows of `bodies` that must not be posted, to be kept for people.
    #[must_use]
    pub fn unsound(bodies: &'a [Body<'a>]) -> Self {
        Self::gather(bodies, false)
    }

    fn gather(bodies: &'a [Body<'a>], sound: bool) -> Self {
        let mut all = Self { interval: bodies.last().map_or(0, |body| body.interval), ..Self::default() };
        let mut known: HashMap<(&str, &str), u32> = HashMap::new();
        let mut series: HashMap<Cow<'_, str>, u32> = HashMap::new();
        for body in bodies {
            let mut places = vec![NOWHERE; body.pairs.len()];
            let mut faults = body.unsound.iter().map(|unsound| unsound.row).peekable();
            for (place, row) in body.rows.iter().enumerate() {
                if faults.next_if_eq(&place).is_none() != sound {
                    continue;
                }
                let mut checksum = "";
                all.rows.push(row.map(|pair| {
                    let Some(Some(new)) = (pair != NOWHERE).then(|| places.get_mut(pair as usize)) else {
                        return NOWHERE;
                    };
                    let pair = &body.pairs[pair as usize];
                    if pair.key == KEYS[10] {
                        checksum = pair.value;
                    }
                    if *new == NOWHERE {
                        let pairs = &mut all.pairs;
                        *new = *known.entry((&pair.key, pair.value)).or_insert_with_key(|&pair| {
                            pairs.push(pair);
                            u32::try_from(pairs.len() - 1).unwrap_or(NOWHERE)
                        });
                    }
                    *new
                }));
                let next = u32::try_from(series.len()).unwrap_or(NOWHERE);
                // Escapes are resolved: one checksum that was written in two ways is one series.
                let checksum = serde_json::from_str(checksum).unwrap_or(Cow::Borrowed(checksum));
                all.series.push(*series.entry(checksum).or_insert(next));
            }
        }
        all
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Of each row, its series: numbered from 0, the same number for the same series.
    #[must_use]
    pub fn series(&self) -> &[u32] {
        &self.series
    }

    /// When the reading of a row was taken.
    #[must_use]
    pub fn at(&self, row: usize) -> Option<Timestamp> {
        super::stamp_of(self.rows.get(row)?.iter().filter_map(|&pair| self.pairs.get(pair as usize)).copied())
    }

    /// A body of these `rows`, in this order, as posted at `at`.
    #[must_use]
    pub fn encode(&self, rows: impl IntoIterator<Item = usize>, agent_id: &str, at: Timestamp) -> Vec<u8> {
        let mut body = b"{\"pattoo_agent_timestamp\":".to_vec();
        let mut digits = itoa::Buffer::new();
        body.extend_from_slice(digits.format(at.as_millis()).as_bytes());
        body.extend_from_slice(b",\"pattoo_agent_id\":");
        json::push_string(&mut body, agent_id);
        body.extend_from_slice(b",\"pattoo_agent_polling_interval\":");
        body.extend_from_slice(digits.format(self.interval).as_bytes());
        body.extend_from_slice(b",\"pattoo_datapoints\":{\"key_value_pairs\":{");
        let mut ids = vec![NOWHERE; self.pairs.len()];
        let mut next = 0;
        let mut lists = Vec::new();
        for row in rows.into_iter().filter_map(|row| self.rows.get(row)) {
            lists.push(b'[');
            for &pair in row.iter().filter(|&&pair| pair != NOWHERE) {
                let id = &mut ids[pair as usize];
                if *id == NOWHERE {
                    *id = next;
                    next += 1;
                    let (key, value) = self.pairs[pair as usize];
                    body.push(b'"');
                    body.extend_from_slice(digits.format(*id).as_bytes());
                    body.extend_from_slice(b"\":[");
                    json::push_string(&mut body, key);
                    body.push(b',');
                    body.extend_from_slice(value.as_bytes());
                    body.extend_from_slice(b"],");
                }
                lists.extend_from_slice(digits.format(*id).as_bytes());
                lists.push(b',');
            }
            close(&mut lists, b"],");
        }
        close(&mut body, b"},\"datapoint_pairs\":[");
        body.extend_from_slice(&lists);
        close(&mut body, b"]}}");
        body
    }
}

/// Ends a list: without the comma after its last item.
fn close(text: &mut Vec<u8>, end: &[u8]) {
    if text.last() == Some(&b',') {
        text.pop();
    }
    text.extend_from_slice(end);
}
