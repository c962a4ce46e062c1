//! The memory tail: the newest batches, in the order of the log, whether the disk has them or not.
//!
//! Batches enter at the end and leave at the front. One leaves when every output is past it; or when it can be read from disk:
//! durable, and the tail is larger than [`KEPT_BYTES`], or written, and it is larger than [`MOST_BYTES`]; or, as the last
//! resort, when what the disk does not take is larger than [`MOST_BYTES`]: that is a loss, and whoever asked for it must count
//! it. So memory is bounded, and there is one order, whatever the disk does. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use super::batch::{Batch, Position};

/// Batches that are durable are kept for outputs that are about to read them, up to this many bytes.
pub const KEPT_BYTES: usize = 1 << 20;

/// Batches that the disk does not take are kept up to this many bytes.
pub const MOST_BYTES: usize = 16 << 20;

/// What a batch takes besides its payload.
const OVERHEAD: usize = 160;

/// The newest batches.
#[derive(Debug)]
pub struct Tail {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    /// Bounds of what is durable and of all.
    kept: usize,
    most: usize,
    end: Position,
}

impl Tail {
    /// No batches, behind a log that ends at `end`.
    #[must_use]
    pub fn new(end: Position) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, kept: KEPT_BYTES, most: MOST_BYTES, end }
    }

    /// From now on what the disk does not take is kept up to so many bytes, instead of [`MOST_BYTES`].
    pub fn limit(&mut self, most: usize) {
        self.most = most;
        self.kept = KEPT_BYTES.min(most);
    }

    /// Puts a batch behind all others, which gives its readings their numbers.
    pub fn push(&mut self, mut batch: Batch) {
        batch.first = self.end;
        self.end = batch.end();
        self.bytes += cost(&batch);
        self.batches.push_back(Arc::new(batch));
    }

    /// The number of the next reading that comes.
    #[must_use]
    pub fn end(&self) -> Position {
        self.end
    }

    /// The number of the oldest reading in memory; the end when there is none.
    #[must_use]
    pub fn start(&self) -> Position {
        self.batches.front().map_or(self.end, |batch| batch.first)
    }

    /// Bytes of all batches, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The batches that have readings from `position` on.
    pub fn from(&self, position: Position) -> impl Iterator<Item = &Arc<Batch>> {
        let start = self.batches.partition_point(|batch| batch.end() <= position);
        self.batches.range(start..)
    }

    /// Lets go of what no output needs (all are past `passed`), and of what is durable and too much to keep.
    pub fn trim(&mut self, passed: Position, durable: Position) {
        while let Some(batch) = self.batches.front() {
            let spare = batch.end() <= durable && self.bytes > self.kept;
            if batch.end() > passed && !spare {
                break;
            }
            self.pop_front();
        }
    }

    /// Lets go of what is written, though not durable, as far as there is more than memory may hold: it can be read from disk.
    pub fn spill(&mut self, written: Position) {
        while self.bytes > self.most && self.batches.front().is_some_and(|batch| batch.end() <= written) {
            self.pop_front();
        }
    }

    /// The oldest batch behind `written`, taken away for good, if what is behind there is more than memory may hold.
    pub fn overflow(&mut self, written: Position) -> Option<Arc<Batch>> {
        if self.bytes <= self.most {
            return None;
        }
        // Those before `written` can be read from disk, so they need not be given up: `spill` lets go of them without a
        // loss.
        let place = self.batches.partition_point(|batch| batch.first < written);
        // The newest one is never given up: it has just come.
        if place + 1 >= self.batches.len() {
            return None;
        }
        let batch = self.batches.remove(place)?;
        self.bytes -= cost(&batch);
        Some(batch)
    }

    fn pop_front(&mut self) {
        if let Some(batch) = self.batches.pop_front() {
            self.bytes -= cost(&batch);
        }
    }
}

fn cost(batch: &Batch) -> usize {
    batch.payload.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Timestamp;
    use crate::reading::points::PointTable;

    fn batch(count: u32, bytes: usize) -> Batch {
        Batch {
            first: Position(0),
            count,
            table: PointTable::empty(),
            undated: None,
            newest: Timestamp::default(),
            payload: vec![0; bytes],
        }
    }

    #[test]
    fn what_is_durable_goes_when_memory_is_short_and_what_all_have_goes_at_once() {
        let mut tail = Tail::new(Position(100));
        for _ in 0..3 {
            tail.push(batch(10, KEPT_BYTES / 2));
        }
        assert_eq!((tail.start(), tail.end()), (Position(100), Position(130)));
        tail.trim(Position(100), Position(100));
        assert_eq!(tail.start(), Position(100), "nobody has it, and the disk neither");
        tail.trim(Position(100), Position(130));
        assert_eq!(tail.start(), Position(120), "one is kept for who is about to read it");
        tail.trim(Position(130), Position(100));
        assert_eq!((tail.start(), tail.bytes()), (Position(130), 0));
    }

    #[test]
    fn what_the_disk_does_not_take_is_bounded_and_the_oldest_of_it_is_given_up() {
        let mut tail = Tail::new(Position(0));
        for _ in 0..5 {
            tail.push(batch(10, MOST_BYTES / 4));
        }
        let lost = tail.overflow(Position(10)).unwrap();
        assert_eq!((lost.first, tail.start()), (Position(10), Position(0)), "the first one is on disk");
        assert_eq!(tail.from(Position(5)).map(|batch| batch.first.0).collect::<Vec<_>>(), [0, 20, 30, 40]);
        assert_eq!(tail.overflow(Position(10)).map(|batch| batch.first), Some(Position(20)));
        assert_eq!(tail.overflow(Position(10)), None);
    }

    #[test]
    fn what_is_written_and_never_durable_is_bounded_and_not_lost() {
        let mut tail = Tail::new(Position(0));
        for _ in 0..5 {
            tail.push(batch(10, MOST_BYTES / 4));
        }
        tail.spill(Position(40));
        assert_eq!((tail.start(), tail.overflow(Position(40))), (Position(20), None));
    }
}
