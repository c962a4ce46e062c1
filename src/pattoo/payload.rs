//! A batch of readings → the JSON body of one post, and the text of it that never changes.
//!
//! A body lists *pairs*, each with an id (`"7":["pattoo_key","input_register_30387"]`), and for each
//! datapoint the ids of its eleven pairs. Ids need not be dense and their order means nothing to the server.
//! So a [`Catalogue`] renders every pair that is known from the configuration once and gives it an id for
//! ever; an [`Encoder`] copies into a body those that the body's readings need, once each, and adds what a
//! reading alone knows: its value and its timestamp, under ids beyond the catalogue's.
//!
//! Invariant: a body made here is one the server's ingester survives. Values are finite and below 10²⁹,
//! every id that a datapoint names is there, the top-level timestamp has 13 digits. A reading that would
//! break it is [`Refused`] and leaves the batch as it was.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::identity::{Agent, IdentityError, PROGRAM, Series, wire_millis};
use super::json;
use crate::reading::{PointId, Reading, Timestamp, Value};

/// The server's ingester hangs on numbers of 10³⁰ and more; a digit less is a margin.
const VALUE_LIMIT: f64 = 1e29;

/// The server sorts posts by name, and names begin with the timestamp as text: it must keep its 13 digits.
const TIMESTAMP_DIGITS: usize = 13;

/// What every body begins with; the zeros give way to the timestamp once the body is finished.
const BODY_START: &[u8] = b"{\"pattoo_agent_timestamp\":0000000000000,\"pattoo_agent_id\":";
const TIMESTAMP_PLACE: Range<usize> = 26..26 + TIMESTAMP_DIGITS;
const BETWEEN_PAIRS_AND_ROWS: &[u8] = b"},\"datapoint_pairs\":[";
const BODY_END: &[u8] = b"]}}";

/// Why a reading is not in a batch.
#[derive(Debug, Clone, Copy, Error, PartialEq)]
pub enum Refused {
    /// No series of the catalogue is this point.
    #[error("point {} is not configured", .0.0)]
    UnknownPoint(PointId),
    /// Not a number, or infinite: the server answers 200 and its ingester dies.
    #[error("a value of {0} cannot be posted")]
    NotFinite(f64),
    /// Too large: the server answers 200 and its ingester hangs.
    #[error("a value of {0:e} is beyond the server's limit of {VALUE_LIMIT:e}")]
    TooLarge(f64),
}

/// Why a batch cannot become a body; the batch stays as it is.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum Unfinished {
    /// There is nothing to post.
    #[error("the batch is empty")]
    Empty,
    /// The clock is before 2001-09-09 or after 2286-11-20.
    #[error(
        "{0} ms is no timestamp of {TIMESTAMP_DIGITS} digits, which the server needs to keep posts in order"
    )]
    Timestamp(Timestamp),
}

/// The place of a pair among those that the configuration fixes, and its id in every body.
type PairId = usize;

/// Everything about the series of one configuration that is the same in every body.
#[derive(Debug)]
pub struct Catalogue {
    /// The body up to its first pair.
    start: Vec<u8>,
    /// The pairs, `"7":["pattoo_key","input_register_30387"],` each.
    pairs: Texts,
    points: Vec<PointText>,
    /// Of each point, the start of its row (`[0,1,2,3,4,5,6,7,`) and its end (`,8],`).
    rows: Texts,
}

/// What one point has in every body.
#[derive(Debug)]
struct PointText {
    /// The pairs that other points may have too.
    shared: [PairId; 8],
    /// The pair that no other series has.
    checksum: PairId,
}

impl Catalogue {
    /// The catalogue of `agent`'s `series`; a point's place in `series` is its [`PointId`].
    ///
    /// # Errors
    /// When `polling_interval`, which every body states beside those of the series, is none that the
    /// server can store.
    pub fn new(
        agent: &Agent,
        polling_interval: Duration,
        series: &[Series],
    ) -> Result<Self, IdentityError> {
        let mut start = BODY_START.to_vec();
        json::push_string(&mut start, agent.id().as_str());
        start.extend_from_slice(b",\"pattoo_agent_polling_interval\":");
        json::push_integer(&mut start, wire_millis(polling_interval)?.into());
        start.extend_from_slice(b",\"pattoo_datapoints\":{\"key_value_pairs\":{");

        let mut catalogue = Self {
            start,
            pairs: Texts::default(),
            points: Vec::new(),
            rows: Texts::default(),
        };
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
            pair(
                "pattoo_agent_polling_interval",
                Literal::Text(&wire_millis(series.interval())?.to_string()),
            ),
            pair("pattoo_agent_hostname", Literal::Text(agent.hostname())),
            pair("pattoo_agent_id", Literal::Text(agent.id().as_str())),
            pair("pattoo_agent_polled_target", Literal::Text(series.target())),
            pair("pattoo_agent_program", Literal::Text(PROGRAM)),
            pair("pattoo_key", Literal::Text(series.key())),
            pair(
                "pattoo_data_type",
                Literal::Number(series.data_type().code().into()),
            ),
        ];
        let checksum = pair("pattoo_checksum", Literal::Text(&series.checksum(agent)));
        self.points.push(PointText { shared, checksum });

        let mut row_start = String::from("[");
        for id in shared {
            row_start.push_str(&format!("{id},"));
        }
        self.rows.push(row_start.as_bytes());
        self.rows.push(format!(",{checksum}],").as_bytes());
        Ok(())
    }

    /// The id of a pair, which is rendered if it is new.
    fn pair(
        &mut self,
        known: &mut HashMap<Vec<u8>, PairId>,
        key: &str,
        value: Literal<'_>,
    ) -> PairId {
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
enum Literal<'a> {
    Text(&'a str),
    Number(i64),
}

/// Many small texts in one allocation.
#[derive(Debug, Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text pushed as number `place`; nothing when there is none.
    fn text(&self, place: usize) -> &[u8] {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[place]]
    }
}

/// A batch under construction; made once and used for one body after the other.
#[derive(Debug)]
pub struct Encoder {
    catalogue: Arc<Catalogue>,
    /// The body so far: its start and the pairs.
    body: Vec<u8>,
    /// The datapoints so far; they follow the pairs.
    rows: Vec<u8>,
    datapoints: usize,
    /// The number of this batch, counted from 1.
    batch: u64,
    /// For each pair of the catalogue, the batch that it was last copied into.
    written: Vec<u64>,
    next_id: PairId,
    /// The timestamp written last and its id: the readings of one reply share it.
    timestamp: Option<(Timestamp, PairId)>,
}

impl Encoder {
    /// An empty batch of readings of the catalogue's points.
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>) -> Self {
        Self {
            body: catalogue.start.clone(),
            rows: Vec::new(),
            datapoints: 0,
            batch: 1,
            written: vec![0; catalogue.pairs.len()],
            next_id: catalogue.pairs.len(),
            timestamp: None,
            catalogue,
        }
    }

    /// Adds `reading` to the batch.
    ///
    /// # Errors
    /// When the reading cannot be posted; the batch is then as before.
    pub fn push(&mut self, reading: &Reading) -> Result<(), Refused> {
        let place = reading.point.index();
        if place >= self.catalogue.points.len() {
            return Err(Refused::UnknownPoint(reading.point));
        }
        if let Value::Float(value) = reading.value {
            if !value.is_finite() {
                return Err(Refused::NotFinite(value));
            }
            if value.abs() >= VALUE_LIMIT {
                return Err(Refused::TooLarge(value));
            }
        }

        self.write_fixed_pairs(place);
        let value = self.write_value(reading.value);
        let timestamp = self.write_timestamp(reading.at);

        self.rows
            .extend_from_slice(self.catalogue.rows.text(2 * place));
        push_id(&mut self.rows, value);
        self.rows.push(b',');
        push_id(&mut self.rows, timestamp);
        self.rows
            .extend_from_slice(self.catalogue.rows.text(2 * place + 1));
        self.datapoints += 1;
        Ok(())
    }

    /// How many readings are in the batch.
    #[must_use]
    pub fn datapoints(&self) -> usize {
        self.datapoints
    }

    /// Whether no reading is in the batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.datapoints == 0
    }

    /// How many bytes the body would have if it were finished now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let last_commas = if self.is_empty() { 0 } else { 2 };
        self.body.len() + BETWEEN_PAIRS_AND_ROWS.len() + self.rows.len() + BODY_END.len()
            - last_commas
    }

    /// The body of the batch as posted at `timestamp`; the encoder is then empty.
    ///
    /// # Errors
    /// When there is nothing to post, or `timestamp` is none that the server can sort by.
    pub fn finish(&mut self, timestamp: Timestamp) -> Result<Vec<u8>, Unfinished> {
        if self.is_empty() {
            return Err(Unfinished::Empty);
        }
        let digits = timestamp.to_string();
        if digits.len() != TIMESTAMP_DIGITS {
            return Err(Unfinished::Timestamp(timestamp));
        }

        let size = self.bytes();
        // The next batch is likely to be as large as this one.
        let mut next = Vec::with_capacity(size);
        next.extend_from_slice(&self.catalogue.start);
        let mut body = std::mem::replace(&mut self.body, next);
        body[TIMESTAMP_PLACE].copy_from_slice(digits.as_bytes());
        body.pop();
        body.extend_from_slice(BETWEEN_PAIRS_AND_ROWS);
        self.rows.pop();
        body.extend_from_slice(&self.rows);
        body.extend_from_slice(BODY_END);

        self.rows.clear();
        self.datapoints = 0;
        self.batch += 1;
        self.next_id = self.catalogue.pairs.len();
        self.timestamp = None;
        Ok(body)
    }

    /// Copies the point's fixed pairs into the body, but for those that are there.
    fn write_fixed_pairs(&mut self, place: usize) {
        let PointText { shared, checksum } = &self.catalogue.points[place];
        // The checksum is the point's own: where it is, the others are.
        if self.written[*checksum] == self.batch {
            return;
        }
        for &pair in shared.iter().chain([checksum]) {
            if self.written[pair] != self.batch {
                self.written[pair] = self.batch;
                self.body.extend_from_slice(self.catalogue.pairs.text(pair));
            }
        }
    }

    fn write_value(&mut self, value: Value) -> PairId {
        let id = self.start_pair(b"\":[\"pattoo_value\",");
        match value {
            Value::Integer(value) => json::push_integer(&mut self.body, value),
            Value::Float(value) => json::push_float(&mut self.body, value),
        }
        self.body.extend_from_slice(b"],");
        id
    }

    fn write_timestamp(&mut self, at: Timestamp) -> PairId {
        if let Some((last, id)) = self.timestamp
            && last == at
        {
            return id;
        }
        let id = self.start_pair(b"\":[\"pattoo_timestamp\",");
        self.body
            .extend_from_slice(itoa::Buffer::new().format(at.as_millis()).as_bytes());
        self.body.extend_from_slice(b"],");
        self.timestamp = Some((at, id));
        id
    }

    /// Begins a pair that belongs to this batch alone, up to its value.
    fn start_pair(&mut self, key: &[u8]) -> PairId {
        let id = self.next_id;
        self.next_id += 1;
        self.body.push(b'"');
        push_id(&mut self.body, id);
        self.body.extend_from_slice(key);
        id
    }
}

fn push_id(out: &mut Vec<u8>, id: PairId) {
    out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::identity::DataType;
    use super::super::server_rules::datapoints;
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_123);
    const MINUTE: Duration = Duration::from_secs(60);

    fn agent() -> Agent {
        Agent::new("4c".repeat(32).parse().unwrap(), "plant-7.example.net").unwrap()
    }

    fn series(target: &str, key: &str, unit: u8) -> Series {
        Series::new(target, key, unit, DataType::Integer, MINUTE).unwrap()
    }

    fn encoder(series: &[Series]) -> Encoder {
        Encoder::new(Arc::new(Catalogue::new(&agent(), MINUTE, series).unwrap()))
    }

    fn reading(point: u32, value: Value) -> Reading {
        Reading {
            point: PointId(point),
            at: NOW,
            value,
        }
    }

    #[test]
    fn a_body_looks_like_this() {
        let mut encoder = encoder(&[
            series("a", "input_register_30001", 0),
            series("b", "input_register_30001", 0),
        ]);
        encoder.push(&reading(1, Value::Float(13.0))).unwrap();
        encoder.push(&reading(1, Value::Integer(14))).unwrap();
        let id = agent().id().to_string();
        let checksum = series("b", "input_register_30001", 0).checksum(&agent());
        let expected = [
            r#"{"pattoo_agent_timestamp":1700000000123,"pattoo_agent_id":""#,
            &id,
            r#"","pattoo_agent_polling_interval":60000,"pattoo_datapoints":{"key_value_pairs":{"#,
            r#""0":["unit","000"],"1":["pattoo_agent_polling_interval","60000"],"#,
            r#""2":["pattoo_agent_hostname","plant-7.example.net"],"3":["pattoo_agent_id",""#,
            &id,
            r#""],"9":["pattoo_agent_polled_target","b"],"5":["pattoo_agent_program","pattoo_agent_modbustcpd"],"#,
            r#""6":["pattoo_key","input_register_30001"],"7":["pattoo_data_type",99],"10":["pattoo_checksum",""#,
            &checksum,
            r#""],"11":["pattoo_value",13.0],"12":["pattoo_timestamp",1700000000123],"13":["pattoo_value",14]},"#,
            r#""datapoint_pairs":[[0,1,2,3,9,5,6,7,11,12,10],[0,1,2,3,9,5,6,7,13,12,10]]}}"#,
        ];
        assert_eq!(
            String::from_utf8(encoder.finish(NOW).unwrap()).unwrap(),
            expected.concat()
        );
    }

    #[test]
    fn what_would_kill_the_ingester_is_refused_and_leaves_the_batch_as_it_was() {
        let mut encoder = encoder(&[series("a", "k", 0)]);
        encoder.push(&reading(0, Value::Float(1.0))).unwrap();
        let before = encoder.bytes();
        for value in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            assert!(
                matches!(
                    encoder.push(&reading(0, Value::Float(value))),
                    Err(Refused::NotFinite(_))
                ),
                "{value}"
            );
        }
        for value in [1e29, -1e29, f64::MAX] {
            assert_eq!(
                encoder.push(&reading(0, Value::Float(value))),
                Err(Refused::TooLarge(value))
            );
        }
        assert_eq!(
            encoder.push(&reading(1, Value::Integer(1))),
            Err(Refused::UnknownPoint(PointId(1)))
        );
        assert_eq!((encoder.bytes(), encoder.datapoints()), (before, 1));
        encoder.push(&reading(0, Value::Float(9.9e28))).unwrap();
        encoder.push(&reading(0, Value::Integer(i64::MIN))).unwrap();
        assert_eq!(encoder.datapoints(), 3);
    }

    #[test]
    fn a_body_is_only_made_of_readings_and_a_timestamp_of_13_digits() {
        let mut encoder = encoder(&[series("a", "k", 0)]);
        assert_eq!(encoder.finish(NOW), Err(Unfinished::Empty));
        encoder.push(&reading(0, Value::Integer(1))).unwrap();
        for ms in [0, 999_999_999_999, 10_000_000_000_000, u64::MAX] {
            let timestamp = Timestamp::from_millis(ms);
            assert_eq!(
                encoder.finish(timestamp),
                Err(Unfinished::Timestamp(timestamp))
            );
        }
        for ms in [1_000_000_000_000, 9_999_999_999_999] {
            let body = encoder.finish(Timestamp::from_millis(ms)).unwrap();
            assert!(datapoints(&body)[0].contains_key("pattoo_value"));
            encoder.push(&reading(0, Value::Integer(1))).unwrap();
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::Integer),
            (-9.9e28..9.9e28).prop_map(Value::Float),
            (
                any::<u16>(),
                prop_oneof![Just(1.0), Just(0.1), Just(-0.001), Just(1e-9), Just(3e20)]
            )
                .prop_map(|(word, factor)| Value::Float(f64::from(word) * factor)),
        ]
    }

    proptest! {
        #[test]
        fn parsing_a_body_gives_the_readings_back(
            points in prop::collection::vec((".{0,8}", 0_u32..3, 0_u8..3), 1..20),
            batches in prop::collection::vec(prop::collection::vec((any::<u32>(), values(), 0_u64..3), 1..30), 1..4),
        ) {
            let series: Vec<_> = points.iter().map(|(target, key, unit)| series(target, &format!("k{key}"), *unit)).collect();
            let mut encoder = encoder(&series);
            for batch in batches {
                let readings: Vec<_> = batch
                    .into_iter()
                    .map(|(point, value, late)| Reading {
                        point: PointId(point % u32::try_from(series.len()).unwrap()),
                        at: Timestamp::from_millis(NOW.as_millis() + late),
                        value,
                    })
                    .collect();
                for reading in &readings {
                    encoder.push(reading).unwrap();
                }
                prop_assert_eq!(encoder.datapoints(), readings.len());
                let bytes = encoder.bytes();
                let body = encoder.finish(NOW).unwrap();
                prop_assert_eq!(body.len(), bytes);

                let got = datapoints(&body);
                prop_assert_eq!(got.len(), readings.len());
                for (got, reading) in got.iter().zip(&readings) {
                    let series = &series[reading.point.index()];
                    let value = match reading.value {
                        Value::Integer(value) => serde_json::json!(value),
                        Value::Float(value) => serde_json::json!(value),
                    };
                    prop_assert_eq!(&got["pattoo_value"], &value);
                    prop_assert_eq!(&got["pattoo_timestamp"], &serde_json::json!(reading.at.as_millis()));
                    prop_assert_eq!(&got["pattoo_agent_polled_target"], series.target());
                    prop_assert_eq!(&got["pattoo_key"], series.key());
                    prop_assert_eq!(&got["unit"], &series.unit());
                    prop_assert_eq!(&got["pattoo_checksum"], &series.checksum(&agent()));
                }
            }
        }
    }
}
