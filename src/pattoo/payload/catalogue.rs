//! What the configuration fixes of every body: the text of its pairs and of its rows.
//!
//! Rendered once; an encoder only copies from it. A pair's place in the catalogue is its id in every body, so
//! ids below [`Catalogue::pairs`] are taken for ever and those from there on are free for values and
//! timestamps.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use crate::pattoo::identity::{Agent, IdentityError, PROGRAM, Series, wire_millis};
use crate::pattoo::json;

/// Where in [`Catalogue::start`] the thirteen digits of the timestamp go; zeros until then.
pub(super) const TIMESTAMP_PLACE: Range<usize> = 26..39;
const START: &[u8] = b"{\"pattoo_agent_timestamp\":0000000000000,\"pattoo_agent_id\":";

/// The place of a pair among those that the configuration fixes, and its id in every body.
pub(super) type PairId = usize;

/// Everything about the series of one configuration that is the same in every body.
#[derive(Debug)]
pub struct Catalogue {
    /// The body up to its first pair.
    pub(super) start: Vec<u8>,
    /// The pairs, `"7":["pattoo_key","input_register_30387"],` each.
    pub(super) pairs: Texts,
    /// Of each point, its pairs.
    pub(super) points: Vec<PointPairs>,
    /// Of each point, the start of its row (`[0,1,2,3,4,5,6,7,`) and its end (`,8],`).
    pub(super) rows: Texts,
}

/// The pairs that every datapoint of one point has.
#[derive(Debug)]
pub(super) struct PointPairs {
    /// Those that other points may have too.
    pub(super) shared: [PairId; 8],
    /// The one that no other series has.
    pub(super) checksum: PairId,
}

impl Catalogue {
    /// The catalogue of `agent`'s `series`; a point's place in `series` is its
    /// [`PointId`](crate::reading::PointId).
    ///
    /// # Errors
    /// When `polling_interval`, which every body states beside those of the series, is none that the
    /// server can store.
    pub fn new(agent: &Agent, polling_interval: Duration, series: &[Series]) -> Result<Self, IdentityError> {
        let mut start = START.to_vec();
        json::push_string(&mut start, agent.id().as_str());
        start.extend_from_slice(b",\"pattoo_agent_polling_interval\":");
        json::push_integer(&mut start, wire_millis(polling_interval)?.into());
        start.extend_from_slice(b",\"pattoo_datapoints\":{\"key_value_pairs\":{");

        let mut catalogue = Self { start, pairs: Texts::default(), points: Vec::new(), rows: Texts::default() };
        let mut known = HashMap::new();
        for series in series {
            catalogue.add(agent, series, &mut known)?;
        }
        Ok(catalogue)
    }

    /// How many points it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether it knows no point.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    fn add(
        &mut self,
        agent: &Agent,
        series: &Series,
        known: &mut HashMap<Vec<u8>, PairId>,
    ) -> Result<(), IdentityError> {
        let mut pair = |key: &str, value: Literal<'_>| self.pair(known, key, value);
        let shared = [
            pair("unit", Literal::Text(&series.unit())),
            pair("pattoo_agent_polling_interval", Literal::Text(&wire_millis(series.interval())?.to_string())),
            pair("pattoo_agent_hostname", Literal::Text(agent.hostname())),
            pair("pattoo_agent_id", Literal::Text(agent.id().as_str())),
            pair("pattoo_agent_polled_target", Literal::Text(series.target())),
            pair("pattoo_agent_program", Literal::Text(PROGRAM)),
            pair("pattoo_key", Literal::Text(series.key())),
            pair("pattoo_data_type", Literal::Number(series.data_type().code().into())),
        ];
        let checksum = pair("pattoo_checksum", Literal::Text(&series.checksum(agent)));
        self.points.push(PointPairs { shared, checksum });

        let row_start = format!("[{},", shared.map(|id| id.to_string()).join(","));
        self.rows.push(row_start.as_bytes());
        self.rows.push(format!(",{checksum}],").as_bytes());
        Ok(())
    }

    /// The id of a pair, which is rendered if it is new.
    fn pair(&mut self, known: &mut HashMap<Vec<u8>, PairId>, key: &str, value: Literal<'_>) -> PairId {
        let mut content = Vec::new();
        json::push_string(&mut content, key);
        content.push(b',');
        match value {
            Literal::Text(text) => json::push_string(&mut content, text),
            Literal::Number(number) => json::push_integer(&mut content, number),
        }
        let pairs = &mut self.pairs;
        *known.entry(content).or_insert_with_key(|content| {
            let id = pairs.len();
            pairs.push(&[format!("\"{id}\":[").as_bytes(), content, b"],"].concat());
            id
        })
    }
}

/// The two kinds of values that a fixed pair can have.
#[derive(Clone, Copy)]
enum Literal<'a> {
    Text(&'a str),
    Number(i64),
}

/// Many small texts in one allocation.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text pushed as number `place`, counted from 0.
    pub(super) fn text(&self, place: usize) -> &[u8] {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[place]]
    }
}
