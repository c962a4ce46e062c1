//! How much disk the log and the old caches may take together. What goes when it is more is the business of `evict`.

use std::fmt;
use std::time::Duration;

use crate::text::size;

/// How much of the file system stays free.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MinFree {
    /// This part of it, from 0 to 1.
    Ratio(f64),
    /// This many bytes.
    Bytes(u64),
}

/// How much disk the queue may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// While less is free, the oldest batches give way to new ones.
    pub min_free: MinFree,
    /// The most bytes that all batches may have together.
    pub max_bytes: Option<u64>,
    /// The greatest age of a batch.
    pub max_age: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { min_free: MinFree::Ratio(0.05), max_bytes: None, max_age: None }
    }
}

impl fmt::Display for MinFree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio(ratio) => write!(f, "{}%", (ratio * 10_000.0).round() / 100.0),
            Self::Bytes(bytes) => f.write_str(&size(*bytes)),
        }
    }
}

impl MinFree {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
    pub(super) fn bytes(self, whole: u64) -> u64 {
        match self {
            Self::Ratio(ratio) => (whole as f64 * ratio.clamp(0.0, 1.0)) as u64,
            Self::Bytes(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_one_of_the_whole() {
        let cases = [
            (MinFree::Ratio(0.05), 50),
            (MinFree::Ratio(-1.0), 0),
            (MinFree::Ratio(f64::NAN), 0),
            (MinFree::Ratio(7.0), 1_000),
            (MinFree::Bytes(7), 7),
        ];
        for (min_free, bytes) in cases {
            assert_eq!(min_free.bytes(1_000), bytes, "{min_free:?}");
        }
    }
}
