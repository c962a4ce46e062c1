//! A batch: readings of one point table that were gathered together, in the compact form in which they are kept.
//!
//! The form, of each reading (little endian; a *varint* has seven bits a byte, least first; *zigzag* maps signed numbers
//! to unsigned ones, 0, -1, 1, -2 …):
//!
//! | what | how |
//! |---|---|
//! | flags | one byte: bits 0 and 1 the form of the value, bit 2: the same stamp as the reading before, bit 3: the point after the one before |
//! | point | zigzag varint, the difference to the point before (to 0 at first); not there with bit 3 |
//! | stamp | zigzag varint, the difference in ms to the stamp before (to the first stamp of the batch's header, which is 0); not there with bit 2 |
//! | value | form 0: a float, 8 bytes; 1: an integer, zigzag varint; 2: a float without a fraction below 2⁵³, zigzag varint |
//!
//! Owns the codec and nothing else; where a batch lies, and its checksum, is the log's business. Every float keeps its
//! bits, `-0.0` included. What is decoded was encoded here: anything else is [`Damaged`], never a panic.

use std::sync::Arc;

use thiserror::Error;

use crate::reading::points::PointTable;
use crate::reading::{PointId, Reading, Timestamp, Value};

/// The number of a reading in the log. The first reading that an agent ever took has number 0; numbers only go up, and
/// may have gaps where something was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// The position `readings` behind this one.
    #[must_use]
    pub fn after(self, readings: u64) -> Self {
        Self(self.0.saturating_add(readings))
    }

    /// How many readings lie from `earlier` up to here; 0 when it is behind.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A time in which the clock was not believed: readings of it have boot times for stamps until its date is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldoverId(pub u64);

/// Readings in their compact form.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// The number of its first reading.
    pub first: Position,
    /// How many readings it holds, at least one.
    pub count: u32,
    /// What their points are.
    pub table: Arc<PointTable>,
    /// The time without a clock of which the stamps are boot times; `None`: they are dates.
    pub undated: Option<HoldoverId>,
    /// The greatest stamp in it.
    pub newest: Timestamp,
    /// The readings.
    pub payload: Vec<u8>,
}

impl Batch {
    /// The position behind its last reading.
    #[must_use]
    pub fn end(&self) -> Position {
        self.first.after(u64::from(self.count))
    }

    /// Its readings, one after the other.
    ///
    /// # Errors
    /// When the payload is none that was encoded here.
    pub fn readings(&self) -> Result<Vec<Reading>, Damaged> {
        decode(&self.payload, self.count)
    }
}

/// The payload is none that was encoded here.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[error("its readings cannot be decoded")]
pub struct Damaged;

/// A batch under construction.
#[derive(Debug, Default)]
pub struct Encoder {
    payload: Vec<u8>,
    count: u32,
    point: i64,
    at: u64,
    newest: Timestamp,
}

const VALUE_FORM: u8 = 0b11;
const FLOAT: u8 = 0;
const INTEGER: u8 = 1;
const WHOLE_FLOAT: u8 = 2;
const SAME_STAMP: u8 = 0b100;
const NEXT_POINT: u8 = 0b1000;

/// Whole floats below this are kept as integers without loss.
const WHOLE_LIMIT: f64 = 9_007_199_254_740_992.0;

impl Encoder {
    /// Adds a reading.
    pub fn push(&mut self, reading: &Reading) {
        let point = i64::from(reading.point.0);
        let at = reading.at.as_millis();
        let flags = self.payload.len();
        self.payload.push(0);
        let mut marks = 0;
        if self.count > 0 && point == self.point + 1 {
            marks |= NEXT_POINT;
        } else {
            push_zigzag(&mut self.payload, point - self.point);
        }
        if self.count > 0 && at == self.at {
            marks |= SAME_STAMP;
        } else {
            // Stamps of several devices are in no order: wrapping, every difference comes back.
            push_zigzag(&mut self.payload, at.wrapping_sub(self.at).cast_signed());
        }
        match reading.value {
            Value::Integer(value) => {
                marks |= INTEGER;
                push_zigzag(&mut self.payload, value);
            }
            Value::Float(value) => {
                if let Some(integer) = whole(value) {
                    marks |= WHOLE_FLOAT;
                    push_zigzag(&mut self.payload, integer);
                } else {
                    marks |= FLOAT;
                    self.payload.extend_from_slice(&value.to_bits().to_le_bytes());
                }
            }
        }
        if let Some(byte) = self.payload.get_mut(flags) {
            *byte = marks;
        }
        (self.point, self.at) = (point, at);
        self.newest = self.newest.max(reading.at);
        self.count += 1;
    }

    /// How many readings it holds.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many bytes the readings take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payload.len()
    }

    /// The batch, which begins at `first`; the encoder is then empty. `None` when it holds no reading.
    pub fn finish(&mut self, first: Position, table: Arc<PointTable>, undated: Option<HoldoverId>) -> Option<Batch> {
        let this = std::mem::take(self);
        // The next batch is likely to be as large.
        self.payload = Vec::with_capacity(this.payload.len());
        (this.count > 0).then_some(Batch {
            first,
            count: this.count,
            table,
            undated,
            newest: this.newest,
            payload: this.payload,
        })
    }
}

/// The readings of a payload that holds `count` of them.
///
/// # Errors
/// When it does not.
pub fn decode(payload: &[u8], count: u32) -> Result<Vec<Reading>, Damaged> {
    // A reading takes two bytes at least: no count in a damaged header asks for more memory than the payload has.
    let mut readings = Vec::with_capacity((count as usize).min(payload.len() / 2));
    let mut rest = payload;
    let (mut point, mut at) = (0_i64, 0_u64);
    for _ in 0..count {
        let flags = take_byte(&mut rest)?;
        point = if flags & NEXT_POINT == 0 { point.wrapping_add(take_zigzag(&mut rest)?) } else { point + 1 };
        if flags & SAME_STAMP == 0 {
            at = at.wrapping_add_signed(take_zigzag(&mut rest)?);
        }
        let value = match flags & VALUE_FORM {
            FLOAT => {
                let (bits, behind) = rest.split_first_chunk::<8>().ok_or(Damaged)?;
                rest = behind;
                Value::Float(f64::from_bits(u64::from_le_bytes(*bits)))
            }
            INTEGER => Value::Integer(take_zigzag(&mut rest)?),
            #[allow(clippy::cast_precision_loss, reason = "only whole floats below 2^53 are kept so")]
            WHOLE_FLOAT => Value::Float(take_zigzag(&mut rest)? as f64),
            _ => return Err(Damaged),
        };
        let point = u32::try_from(point).map_err(|_| Damaged)?;
        readings.push(Reading { point: PointId(point), at: Timestamp::from_millis(at), value });
    }
    if rest.is_empty() { Ok(readings) } else { Err(Damaged) }
}

/// The integer that stands for `value` without loss, if there is one.
fn whole(value: f64) -> Option<i64> {
    if value.abs() >= WHOLE_LIMIT {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, reason = "it counts only if nothing was cut off")]
    let integer = value as i64;
    #[allow(clippy::cast_precision_loss, reason = "below 2^53 there is none")]
    // By bits: -0.0 equals 0, and its sign would be lost.
    let same = (integer as f64).to_bits() == value.to_bits();
    same.then_some(integer)
}

fn push_zigzag(out: &mut Vec<u8>, value: i64) {
    let mut rest = (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned();
    while rest >= 0x80 {
        #[allow(clippy::cast_possible_truncation, reason = "seven bits are meant")]
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    #[allow(clippy::cast_possible_truncation, reason = "below 128")]
    out.push(rest as u8);
}

fn take_byte(rest: &mut &[u8]) -> Result<u8, Damaged> {
    let (&byte, behind) = rest.split_first().ok_or(Damaged)?;
    *rest = behind;
    Ok(byte)
}

fn take_zigzag(rest: &mut &[u8]) -> Result<i64, Damaged> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = take_byte(rest)?;
        let bits = u64::from(byte & 0x7f);
        // Of the tenth byte one bit is left of the 64; more would be cut off in silence.
        if shift == 63 && bits > 1 {
            return Err(Damaged);
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
        }
    }
    Err(Damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(readings: &[Reading]) -> Batch {
        let mut encoder = Encoder::default();
        for reading in readings {
            encoder.push(reading);
        }
        encoder.finish(Position(7), PointTable::empty(), None).unwrap()
    }

    #[test]
    fn a_hundred_registers_of_one_poll_take_few_bytes_each() {
        let readings: Vec<_> = (0..100_u32)
            .map(|n| Reading {
                point: PointId(1_000 + n),
                at: Timestamp::from_millis(1_790_000_000_123),
                value: Value::Float(f64::from(n * 500)),
            })
            .collect();
        let batch = encoded(&readings);
        assert!(batch.payload.len() <= 4 * 100 + 10, "{} bytes", batch.payload.len());
        assert_eq!(batch.end(), Position(107));
    }

    fn reading() -> impl Strategy<Value = Reading> {
        let value = prop_oneof![
            any::<i64>().prop_map(Value::Integer),
            any::<f64>().prop_filter("a number", |value| !value.is_nan()).prop_map(Value::Float),
            any::<i32>().prop_map(|value| Value::Float(f64::from(value))),
            Just(Value::Float(-0.0)),
        ];
        (any::<u32>(), any::<u64>(), value).prop_map(|(point, at, value)| Reading {
            point: PointId(point),
            at: Timestamp::from_millis(at),
            value,
        })
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded_to_the_bit(readings in proptest::collection::vec(reading(), 1..50)) {
            let batch = encoded(&readings);
            let decoded = batch.readings().unwrap();
            prop_assert_eq!(&decoded, &readings);
            for (one, other) in decoded.iter().zip(&readings) {
                if let (Value::Float(one), Value::Float(other)) = (one.value, other.value) {
                    prop_assert_eq!(one.to_bits(), other.to_bits());
                }
            }
            prop_assert_eq!(batch.newest, readings.iter().map(|reading| reading.at).max().unwrap());
        }

        #[test]
        fn nothing_that_can_be_decoded_makes_it_panic(payload in proptest::collection::vec(any::<u8>(), 0..80), count: u32) {
            decode(&payload, count).ok();
        }
    }
}
