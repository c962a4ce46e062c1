//! Words → values: pure.
//!
//! Owns what a word means once its reply has been believed. Refuses what the server cannot store: NaN,
//! infinity and numbers of 1e29 and beyond stop its ingestion for every agent, so a [`Value`] that left
//! this file is finite and below that. A refused value costs its own point only.

use thiserror::Error;

use crate::modbus::plan::Block;
use crate::modbus::register::Scale;
use crate::reading::{PointId, Value};

/// The server stops ingesting at 1e30; a decimal below that leaves room for what it adds up.
const TOO_LARGE: f64 = 1e29;

/// Why a word that was read is not a reading.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum NotAValue {
    /// The scaled word is beyond what the server can store.
    #[error("{word} times {factor} is {} or more", TOO_LARGE)]
    OutOfRange {
        /// As read.
        word: u16,
        /// The configured multiplier.
        factor: f64,
    },
    /// The words are not those of this block.
    #[error("the reply has no word {offset}")]
    NoWord {
        /// Counted from the first register of the block.
        offset: u16,
    },
}

/// The value of each point of `block` in `words`, the reply to it.
pub fn values<'a>(
    block: &'a Block,
    words: &'a [u16],
) -> impl Iterator<Item = (PointId, Result<Value, NotAValue>)> + 'a {
    block.points.iter().map(|point| {
        let offset = point.offset;
        let value = match words.get(usize::from(offset)) {
            Some(&word) => decode(point.scale, word),
            None => Err(NotAValue::NoWord { offset }),
        };
        (point.id, value)
    })
}

/// What `word` means under `scale`.
///
/// # Errors
///
/// When the product is not a number that the server can store.
pub fn decode(scale: Scale, word: u16) -> Result<Value, NotAValue> {
    match scale {
        Scale::Raw => Ok(Value::Integer(i64::from(word))),
        Scale::Times(factor) => {
            let value = f64::from(word) * factor;
            // False for NaN too.
            if value.abs() < TOO_LARGE { Ok(Value::Float(value)) } else { Err(NotAValue::OutOfRange { word, factor }) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modbus::plan::BlockPoint;
    use crate::modbus::register::{Table, UnitId};

    #[test]
    fn a_word_is_an_integer_when_raw_and_a_float_otherwise() {
        let cases = [
            (Scale::Raw, 0, Value::Integer(0)),
            (Scale::Raw, 65_535, Value::Integer(65_535)),
            (Scale::Times(1.0), 2_715, Value::Float(2_715.0)),
            (Scale::Times(0.1), 3, Value::Float(3.0 * 0.1)),
            (Scale::Times(0.0), 7, Value::Float(0.0)),
            (Scale::Times(-2.0), 7, Value::Float(-14.0)),
            (Scale::Times(1e25), 9_999, Value::Float(9_999.0 * 1e25)),
        ];
        for (scale, word, expected) in cases {
            assert_eq!(decode(scale, word), Ok(expected), "{scale:?} {word}");
        }
    }

    #[test]
    fn what_the_server_cannot_store_is_no_value() {
        let cases = [
            (1e25, 10_000),
            (-1e25, 10_000),
            (1e29, 1),
            (f64::MAX, 2),
            (f64::INFINITY, 1),
            (f64::INFINITY, 0),
            (f64::NAN, 1),
        ];
        for (factor, word) in cases {
            let got = decode(Scale::Times(factor), word);
            assert!(matches!(got, Err(NotAValue::OutOfRange { .. })), "{factor} {word}: {got:?}");
        }
    }

    #[test]
    fn each_point_gets_the_word_at_its_offset() {
        let at = |id, offset, scale| BlockPoint { id: PointId(id), offset, scale };
        let block = Block {
            unit: UnitId(1),
            table: Table::InputRegisters,
            address: 10,
            quantity: 3,
            points: vec![at(4, 0, Scale::Raw), at(5, 2, Scale::Raw), at(6, 2, Scale::Times(2.0)), at(7, 3, Scale::Raw)],
        };
        let got: Vec<_> = values(&block, &[100, 200, 300]).collect();
        let expected = vec![
            (PointId(4), Ok(Value::Integer(100))),
            (PointId(5), Ok(Value::Integer(300))),
            (PointId(6), Ok(Value::Float(600.0))),
            (PointId(7), Err(NotAValue::NoWord { offset: 3 })),
        ];
        assert_eq!(got, expected);
    }
}
