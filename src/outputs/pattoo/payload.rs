//! A batch of readings → the JSON body of one post, and the text of it that never changes.
//!
//! A body lists *pairs*, each with an id (`"7":["pattoo_key","input_register_30387"]`), and for each
//! datapoint the ids of its eleven pairs. Ids need not be dense and their order means nothing to the server.
//! So a [`Catalogue`] renders every pair that is known from the configuration once and gives it an id for
//! ever; an [`Encoder`] copies into a body those that the body's readings need, once each, and adds what a
//! reading alone knows: its value, under the id that the catalogue keeps for it, and its timestamp.
//!
//! Invariant: a body made here is one the server's ingester survives. Values are finite and below 10²⁹,
//! every id that a datapoint names is there, the top-level timestamp has 13 digits. A reading that would
//! break it is [`Refused`] and leaves the batch as it was.

mod catalogue;
mod short;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use thiserror::Error;

pub use self::catalogue::Catalogue;
use self::catalogue::{PairId, PointPairs, TIMESTAMP_PLACE};
use self::short::Short;
use super::json;
use crate::reading::{PointId, Reading, Timestamp, Value};

/// The server's ingester hangs on numbers of 10³⁰ and more; a digit less is a margin.
pub(super) const VALUE_LIMIT: f64 = 1e29;

/// The server sorts posts by name, and names begin with the timestamp as text: it must keep its 13 digits.
pub(super) const TIMESTAMP_DIGITS: usize = 13;

/// What follows the pairs, and what ends the body.
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
    #[error("{0} ms is no timestamp of {TIMESTAMP_DIGITS} digits, which the server needs to keep posts in order")]
    Timestamp(Timestamp),
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
    /// Of what the catalogue knows, what is in the body.
    written: Written,
    next_id: PairId,
    /// The timestamp written last: the readings of one reply share it.
    timestamp: Option<Timestamp>,
    /// Its id, as rows name it.
    timestamp_id: Short,
}

#[derive(Debug)]
struct Written {
    shared: Marks,
    families: Marks,
    points: Marks,
}

/// A mark or none at each of many places.
#[derive(Debug)]
struct Marks(Vec<u64>);

impl Marks {
    fn of(places: usize) -> Self {
        Self(vec![0; places.div_ceil(64)])
    }

    /// Marks a place; whether it was marked before.
    fn set(&mut self, place: usize) -> bool {
        let (word, bit) = (&mut self.0[place / 64], 1 << (place % 64));
        let was = *word & bit != 0;
        *word |= bit;
        was
    }

    fn clear(&mut self) {
        self.0.fill(0);
    }
}

impl Encoder {
    /// An empty batch of readings of the catalogue's points.
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>) -> Self {
        Self {
            body: catalogue.start.clone(),
            rows: Vec::new(),
            datapoints: 0,
            written: Written {
                shared: Marks::of(catalogue.shared.len()),
                families: Marks::of(catalogue.families.len()),
                points: Marks::of(catalogue.len()),
            },
            next_id: catalogue.passing(),
            timestamp: None,
            timestamp_id: Short::default(),
            catalogue,
        }
    }

    /// Whether its readings are of this catalogue's points.
    #[must_use]
    pub fn encodes(&self, catalogue: &Arc<Catalogue>) -> bool {
        Arc::ptr_eq(&self.catalogue, catalogue)
    }

    /// Adds `reading` to the batch.
    ///
    /// # Errors
    /// When the reading cannot be posted; the batch is then as before.
    pub fn push(&mut self, reading: &Reading) -> Result<(), Refused> {
        let place = reading.point.index();
        let Some(point) = self.catalogue.point(place) else {
            return Err(Refused::UnknownPoint(reading.point));
        };
        if let Value::Float(value) = reading.value {
            check(value)?;
        }

        self.write_timestamp(reading.at);
        // The id that the catalogue keeps for the value is taken by an earlier reading of this point: this one has
        // another id.
        if self.written.points.set(place) {
            let id = self.start_pair(b"\":[\"pattoo_value\",");
            self.rows.extend_from_slice(self.catalogue.row_of_another_value(point));
            push_id(&mut self.rows, id);
            self.rows.push(b',');
        } else {
            self.write_shared_pairs(point);
            self.body.extend_from_slice(self.catalogue.pairs(point));
            self.rows.extend_from_slice(self.catalogue.row(point));
        }
        match reading.value {
            Value::Integer(value) => json::push_integer(&mut self.body, value),
            Value::Float(value) => json::push_float(&mut self.body, value),
        }
        self.body.extend_from_slice(b"],");
        self.timestamp_id.push_to(&mut self.rows);
        self.catalogue.row_end(point).push_to(&mut self.rows);
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
        self.body.len() + BETWEEN_PAIRS_AND_ROWS.len() + self.rows.len() + BODY_END.len() - last_commas
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
        // The next batch is likely to be as large as this one, give or take a few digits.
        let mut next = Vec::with_capacity(size + size / 16);
        next.extend_from_slice(&self.catalogue.start);
        let mut body = std::mem::replace(&mut self.body, next);
        body[TIMESTAMP_PLACE].copy_from_slice(digits.as_bytes());
        // The comma behind the last pair; below that behind the last row.
        body.pop();
        body.extend_from_slice(BETWEEN_PAIRS_AND_ROWS);
        self.rows.pop();
        body.extend_from_slice(&self.rows);
        body.extend_from_slice(BODY_END);

        self.clear();
        Ok(body)
    }

    /// Forgets the readings of the batch; returns how many there were.
    pub fn clear(&mut self) -> usize {
        self.body.truncate(self.catalogue.start.len());
        self.rows.clear();
        let Written { shared, families, points } = &mut self.written;
        for marks in [shared, families, points] {
            marks.clear();
        }
        self.next_id = self.catalogue.passing();
        self.timestamp = None;
        std::mem::take(&mut self.datapoints)
    }

    /// Copies the pairs that the point shares with others into the body, but for those that are there.
    fn write_shared_pairs(&mut self, point: PointPairs) {
        self.write_shared_pair(point.key());
        if !self.written.families.set(point.family()) {
            for pair in self.catalogue.families[point.family()].pairs() {
                self.write_shared_pair(pair);
            }
        }
    }

    fn write_shared_pair(&mut self, pair: PairId) {
        if !self.written.shared.set(pair) {
            self.body.extend_from_slice(self.catalogue.shared.text(pair));
        }
    }

    fn write_timestamp(&mut self, at: Timestamp) {
        if self.timestamp == Some(at) {
            return;
        }
        let id = self.start_pair(b"\":[\"pattoo_timestamp\",");
        self.body.extend_from_slice(itoa::Buffer::new().format(at.as_millis()).as_bytes());
        self.body.extend_from_slice(b"],");
        self.timestamp = Some(at);
        self.timestamp_id = itoa::Buffer::new().format(id).into();
    }

    /// Begins a pair that belongs to this batch alone, up to its value.
    fn start_pair(&mut self, key: &[u8]) -> PairId {
        let id = self.next_id;
        // What is kept for batches ends where the points' own ids begin: from there on it goes on behind all of them.
        self.next_id = if id + 1 == self.catalogue.own() { self.catalogue.beyond() } else { id + 1 };
        self.body.push(b'"');
        push_id(&mut self.body, id);
        self.body.extend_from_slice(key);
        id
    }
}

/// Whether the server's ingester survives `value`.
fn check(value: f64) -> Result<(), Refused> {
    // False for NaN too.
    if value.abs() < VALUE_LIMIT {
        Ok(())
    } else if value.is_finite() {
        Err(Refused::TooLarge(value))
    } else {
        Err(Refused::NotFinite(value))
    }
}

fn push_id(out: &mut Vec<u8>, id: PairId) {
    out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
}
