//! Words → values: pure.
//!
//! Owns what words mean once their reply has been believed. Refuses what the server cannot store: NaN,
//! infinity and numbers of 1e29 and beyond stop its ingestion for every agent, so a [`Value`] that left
//! this file is finite and below that. A refused value costs its own point only, and is never a 0 instead.
//!
//! A point may be scaled by a power of ten that is in another register. In the same reply that register is believed.
//! In another one it may have changed since: [`PollDecoder`] then keeps the number until the poll is over, and it is a
//! value only if the register was read before it and after it and was the same.

use std::collections::{BTreeMap, HashMap};
use std::num::FpCategory;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::modbus::format::{Byte, Format, Kind, Order, Scale, Typed};
use crate::modbus::plan::{Block, Reads, Span, scale_requests};
use crate::reading::{PointId, Timestamp, Value};

/// The server stops ingesting at 1e30; a decimal below that leaves room for what it adds up.
const TOO_LARGE: f64 = 1e29;

/// The powers of ten that a register may hold (SunSpec Device Information Model Specification, `sunssf`).
const POWERS: std::ops::RangeInclusive<i16> = -10..=10;

/// A power of ten as it was read, and when.
type Dated = (Timestamp, u16);

/// A scale register that is read before and after a value is believed if the two are no further apart.
const AROUND: Duration = Duration::from_secs(10);

/// Why words that were read are not a reading.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum NotAValue {
    /// The scaled number is beyond what the server can store.
    #[error("{number} times {factor} is {} or more", TOO_LARGE)]
    OutOfRange {
        /// As read.
        number: f64,
        /// The configured multiplier.
        factor: f64,
    },
    /// The words are not those of this block.
    #[error("the reply has no entry {offset}")]
    NoWord {
        /// Counted from the first entry of the block.
        offset: u16,
    },
    /// The pattern that means that there is no value.
    #[error("the device says that it has no value (0x{0:X})")]
    Unavailable(u64),
    /// Not a number, or infinite.
    #[error("the device sent {0}")]
    NotANumber(f64),
    /// A decimal digit above 9.
    #[error("0x{0:X} is no binary coded decimal")]
    NotDecimal(u64),
    /// The register with the power of ten was not read, or not both before and after the value, or holds none.
    #[error("its power of ten is not known")]
    Unscaled,
    /// The power of ten was another one after the value than before it.
    #[error("its power of ten changed from {before} to {after} while it was read")]
    ScaleMoved {
        /// As read before the value.
        before: i16,
        /// As read after it.
        after: i16,
    },
    /// Below the configured minimum or above the maximum.
    #[error("{0} is outside the configured limits")]
    Outside(f64),
}

/// The values of one poll, as replies come in.
#[derive(Debug, Default)]
pub struct PollDecoder {
    /// How many replies there were.
    replies: u32,
    scales: HashMap<Span, Scales>,
    waiting: Vec<Waiting>,
}

/// What a scale register held in the course of a poll.
#[derive(Debug, Default)]
struct Scales {
    /// The number of the reply, when it was there, and the word in it, in this order.
    // The number decides what was before what: stamps go back when the clock is set back far enough.
    read: Vec<(u32, Timestamp, u16)>,
    /// The longest request that was answered with it.
    longest: u16,
}

/// A number that is a value once its power of ten is known.
#[derive(Debug)]
struct Waiting {
    point: PointId,
    at: Timestamp,
    /// The number of the reply that it was in.
    reply: u32,
    number: Value,
    typed: Arc<Typed>,
    scale: Span,
}

impl PollDecoder {
    /// Reads the reply to `block`, which was there at `at`, and hands each value that is known by it to `found`. To be
    /// called in the order in which the replies came.
    pub fn take(
        &mut self,
        block: &Block,
        words: &[u16],
        at: Timestamp,
        mut found: impl FnMut(PointId, Timestamp, Result<Value, NotAValue>),
    ) {
        self.replies += 1;
        let reply = self.replies;
        for point in &block.points {
            let start = usize::from(point.offset);
            let of_point = words.get(start..start + usize::from(point.width));
            let (id, format) = match &point.reads {
                Reads::Value(id, format) => (*id, format),
                Reads::PowerOfTen => {
                    if let Some(&[word, ..]) = of_point {
                        let scales = self.scales.entry(block.span(point)).or_default();
                        scales.read.push((reply, at, word));
                        // A request for scale registers that is no longer than this one is not too long for the device.
                        scales.longest = scales.longest.max(block.quantity);
                    }
                    continue;
                }
            };
            let Some(of_point) = of_point else {
                found(id, at, Err(NotAValue::NoWord { offset: point.offset }));
                continue;
            };
            match (format, format.scale_address(), of_point) {
                (Format::Word(scale), _, &[word, ..]) => found(id, at, decode(*scale, word)),
                (Format::Typed(typed), Some(address), of_point) => {
                    let in_reply = address.checked_sub(block.address).and_then(|offset| words.get(usize::from(offset)));
                    match (number(typed, of_point), in_reply) {
                        // No power of ten makes a value of it, so that it need not wait for one.
                        (Err(none), _) => found(id, at, Err(none)),
                        (Ok(number), Some(&word)) => found(id, at, scaled_by(typed, number, word)),
                        (Ok(number), None) => {
                            let scale = Span { unit: block.unit, table: block.table, address, width: 1 };
                            let typed = Arc::clone(typed);
                            self.waiting.push(Waiting { point: id, at, reply, number, typed, scale });
                        }
                    }
                }
                (format, ..) => found(id, at, value(format, of_point)),
            }
        }
    }

    /// The requests to make at the end of the poll, each for scale registers alone: those that were read before a value
    /// in another reply, and not after it. Empty for a poll of values that came with their scale registers.
    #[must_use]
    pub fn rechecks(&self) -> Vec<Block> {
        let mut again = BTreeMap::new();
        for Waiting { reply, scale, .. } in &self.waiting {
            let Some(scales) = self.scales.get(scale) else { continue };
            if let (Some(_), None) = scales.around(*reply) {
                again.insert(*scale, scales.longest);
            }
        }
        scale_requests(again)
    }

    /// The poll is over: hands what has waited to `found`.
    pub fn finish(self, mut found: impl FnMut(PointId, Timestamp, Result<Value, NotAValue>)) {
        for Waiting { point, at, reply, number, typed, scale } in self.waiting {
            let value = match self.scales.get(&scale).map(|scales| scales.around(reply)) {
                // In so long a time it may have moved there and back.
                Some((Some((from, _)), Some((until, _)))) if until.since(from) > AROUND => Err(NotAValue::Unscaled),
                Some((Some((_, before)), Some((_, after)))) if before == after => scaled_by(&typed, number, before),
                Some((Some((_, before)), Some((_, after)))) => {
                    Err(NotAValue::ScaleMoved { before: before.cast_signed(), after: after.cast_signed() })
                }
                _ => Err(NotAValue::Unscaled),
            };
            found(point, at, value);
        }
    }
}

impl Scales {
    /// What was read last before this reply, and first after it.
    fn around(&self, reply: u32) -> (Option<Dated>, Option<Dated>) {
        let before = self.read.iter().rev().find(|(read, ..)| *read < reply);
        let after = self.read.iter().find(|(read, ..)| *read > reply);
        (before.map(|(_, at, word)| (*at, *word)), after.map(|(_, at, word)| (*at, *word)))
    }
}

/// `number` times the power of ten in `word`.
fn scaled_by(typed: &Typed, number: Value, word: u16) -> Result<Value, NotAValue> {
    let power = word.cast_signed();
    // Not 0x8000 either, by which a device says that it has no power of ten.
    if POWERS.contains(&power) { scaled(typed, number, power.into()) } else { Err(NotAValue::Unscaled) }
}

/// What `words` mean in a format whose power of ten, if it has one, is 0.
///
/// # Errors
///
/// When they are not a value that the server can store.
pub fn value(format: &Format, words: &[u16]) -> Result<Value, NotAValue> {
    match format {
        Format::Word(scale) => match words {
            [word, ..] => decode(*scale, *word),
            [] => Err(NotAValue::NoWord { offset: 0 }),
        },
        Format::Typed(typed) => scaled(typed, number(typed, words)?, 0),
    }
}

/// What `word` means under `scale`.
fn decode(scale: Scale, word: u16) -> Result<Value, NotAValue> {
    match scale {
        Scale::Raw => Ok(Value::Integer(i64::from(word))),
        Scale::Times(factor) => {
            let number = f64::from(word);
            let value = times(number, factor);
            // False for NaN too.
            if value.abs() < TOO_LARGE {
                Ok(Value::Float(value))
            } else {
                Err(NotAValue::OutOfRange { number, factor })
            }
        }
    }
}

/// The number in `words`, not yet scaled.
fn number(typed: &Typed, words: &[u16]) -> Result<Value, NotAValue> {
    let bits = pattern(typed.kind, typed.order, words);
    // As bits, before they are a number: 0x8000 and its like are patterns, whatever the type.
    if typed.unavailable.contains(&bits) {
        return Err(NotAValue::Unavailable(bits));
    }
    #[allow(clippy::cast_possible_truncation, reason = "the pattern has no more bits than its kind")]
    let number = match typed.kind {
        Kind::Uint8(_) | Kind::Uint16 | Kind::Uint32 | Kind::Uint64 => unsigned(bits),
        Kind::Int8(_) => Value::Integer((bits as u8).cast_signed().into()),
        Kind::Int16 => Value::Integer((bits as u16).cast_signed().into()),
        Kind::Int32 => Value::Integer((bits as u32).cast_signed().into()),
        Kind::Int64 => Value::Integer(bits.cast_signed()),
        Kind::Float16 => Value::Float(float16(bits as u16)),
        Kind::Float32 => Value::Float(f32::from_bits(bits as u32).into()),
        Kind::Float64 => Value::Float(f64::from_bits(bits)),
        Kind::Bcd(_) => unsigned(decimal(bits)?),
        Kind::Bits { first, last } => unsigned((bits >> first) & ((1 << (1 + last - first)) - 1)),
    };
    match number {
        Value::Float(float) if matches!(float.classify(), FpCategory::Nan | FpCategory::Infinite) => {
            Err(NotAValue::NotANumber(float))
        }
        number => Ok(number),
    }
}

/// The bits of a value, the most significant one first.
fn pattern(kind: Kind, order: Order, words: &[u16]) -> u64 {
    let word = |word: &u16| if order.swaps_bytes() { word.swap_bytes() } else { *word };
    let append = |bits: u64, word: u16| bits << 16 | u64::from(word);
    let bits = if order.swaps_words() {
        words.iter().rev().map(word).fold(0, append)
    } else {
        words.iter().map(word).fold(0, append)
    };
    match kind {
        Kind::Uint8(Byte::High) | Kind::Int8(Byte::High) => bits >> 8,
        Kind::Uint8(Byte::Low) | Kind::Int8(Byte::Low) => bits & 0xFF,
        _ => bits,
    }
}

/// An integer, exact unless it is 2^63 or more.
fn unsigned(bits: u64) -> Value {
    #[allow(clippy::cast_precision_loss, reason = "the server's JSON has no larger integers that would be exact")]
    i64::try_from(bits).map_or(Value::Float(bits as f64), Value::Integer)
}

/// IEEE 754 binary16: a sign, five bits of exponent, ten of fraction.
fn float16(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (bits >> 10 & 0x1F, f64::from(bits & 0x3FF));
    sign * match exponent {
        // Subnormal: the fraction has no hidden one, and counts steps of 2^-14 / 1024.
        0 => fraction * f64::exp2(-24.0),
        0x1F if fraction == 0.0 => f64::INFINITY,
        0x1F => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * f64::exp2(f64::from(exponent) - 15.0),
    }
}

fn decimal(bits: u64) -> Result<u64, NotAValue> {
    (0..16).rev().try_fold(0, |number, digit| match bits >> (4 * digit) & 0xF {
        digit @ 0..=9 => Ok(10 * number + digit),
        _ => Err(NotAValue::NotDecimal(bits)),
    })
}

/// `number` times `factor`, which was written as a decimal: 23773 times 0.01 is 237.73 and not 237.73000000000002.
///
/// 0.01 is no float; 1 and 100 are, and a quotient of two floats is the one nearest to the true value. So where the factor is the
/// float nearest to a whole number over a power of ten, it is these two that are calculated with.
fn times(number: f64, factor: f64) -> f64 {
    /// Whole numbers below are exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    /// Further digits nobody writes.
    const DIGITS: i32 = 15;
    if factor.fract() != 0.0 {
        let mut under = 1.0;
        for _ in 0..DIGITS {
            under *= 10.0;
            let over = (factor * under).round();
            let product = number * over;
            if over.abs().max(product.abs()) >= EXACT {
                break;
            }
            // The float that was written, to the last bit.
            if (over / under).to_bits() == factor.to_bits() {
                return product / under;
            }
        }
    }
    number * factor
}

/// `number` times the multiplier and the power of ten, plus the offset, if it is within the limits.
fn scaled(typed: &Typed, number: Value, power: i32) -> Result<Value, NotAValue> {
    #[allow(clippy::cast_precision_loss, reason = "a scaled value is a float")]
    let float = match number {
        Value::Integer(integer) => integer as f64,
        Value::Float(float) => float,
    };
    // An integer stays one only where nothing at all is done to it: scaled, it would be a float in one poll and an
    // integer in the next.
    let exact = matches!(typed.scale, Scale::Raw) && power >= 0 && typed.scale_address.is_none() && typed.offset == 0.0;
    let factor = match typed.scale {
        Scale::Raw => 1.0,
        Scale::Times(factor) => factor,
    };
    // A quotient of two numbers that are exact is the float nearest to the decimal; a product with 0.1 is not.
    let power = if power < 0 { float / 10_f64.powi(-power) } else { float * 10_f64.powi(power) };
    let value = times(power, factor) + typed.offset;
    // False for NaN too.
    if value.abs() < TOO_LARGE {
        // Limits are those of the scaled value, which is the one that people know.
        if typed.minimum.is_some_and(|minimum| value < minimum) || typed.maximum.is_some_and(|maximum| value > maximum)
        {
            return Err(NotAValue::Outside(value));
        }
        Ok(if exact { number } else { Value::Float(value) })
    } else {
        Err(NotAValue::OutOfRange { number: float, factor })
    }
}

#[cfg(test)]
mod tests;
