//! The open batch: gathers readings until a batch is closed. Pure.
//!
//! A batch holds readings of one point table, and either dates or boot times of one hold; whatever differs closes it, and so
//! does [`MAX_READINGS`]. When its time is up is the caller's business.

use std::sync::Arc;

use super::batch::{Batch, Encoder, HoldoverId, Position};
use crate::reading::Reading;
use crate::reading::points::PointTable;
use crate::time::timeline::Stamp;

/// No batch holds more readings.
pub const MAX_READINGS: u32 = 5_000;

/// Readings on their way into a batch.
#[derive(Debug, Default)]
pub struct Batcher {
    encoder: Encoder,
    /// What the open batch is of; `None` before the first reading.
    of: Option<(Arc<PointTable>, Option<HoldoverId>)>,
}

impl Batcher {
    /// Takes over readings of `table`; those without dates are of `hold`. Returns what was closed by it. Positions
    /// are given to batches later.
    pub fn accept(&mut self, table: &Arc<PointTable>, readings: &[Reading], hold: Option<HoldoverId>) -> Vec<Batch> {
        let mut closed = Vec::new();
        for reading in readings {
            let undated = hold.filter(|_| matches!(Stamp::read(reading.at), Stamp::Undated(_)));
            // By address, which costs nothing for each reading: a second copy of one table would only close a batch
            // early.
            let same = self.of.as_ref().is_some_and(|(of, held)| Arc::ptr_eq(of, table) && *held == undated);
            if !same {
                closed.extend(self.close());
                self.of = Some((Arc::clone(table), undated));
            }
            self.encoder.push(reading);
            if self.encoder.count() >= MAX_READINGS {
                closed.extend(self.close());
            }
        }
        closed
    }

    /// Closes the open batch; `None` when it holds nothing.
    pub fn close(&mut self) -> Option<Batch> {
        let (table, undated) = self.of.as_ref()?;
        self.encoder.finish(Position::default(), Arc::clone(table), *undated)
    }

    /// Whether a batch is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.encoder.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reading::points::Builder;
    use crate::reading::{PointId, Timestamp, Value};

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn readings(count: u32, at: Timestamp) -> Vec<Reading> {
        (0..count).map(|n| Reading { point: PointId(n), at, value: Value::Integer(i64::from(n)) }).collect()
    }

    fn table(host: &str) -> Arc<PointTable> {
        Arc::new(Builder::new("4c", host, Duration::from_secs(10)).build())
    }

    #[test]
    fn a_batch_is_closed_when_it_is_full_and_by_what_is_of_another_kind() {
        let (mut batcher, one, other, hold) = (Batcher::default(), table("one"), table("other"), Some(HoldoverId(7)));
        let closed = batcher.accept(&one, &readings(12_345, NOW), None);
        assert_eq!(closed.iter().map(|batch| batch.count).collect::<Vec<_>>(), [5_000, 5_000]);
        let undated = Stamp::Undated(Duration::from_secs(50)).written();
        let closed = batcher.accept(&one, &readings(3, undated), hold);
        assert_eq!(closed.iter().map(|batch| (batch.count, batch.undated)).collect::<Vec<_>>(), [(2_345, None)]);
        let closed = batcher.accept(&one, &readings(1, NOW), hold);
        assert_eq!(closed.iter().map(|batch| (batch.count, batch.undated)).collect::<Vec<_>>(), [(3, hold)]);
        let closed = batcher.accept(&other, &readings(1, NOW), None);
        assert_eq!(closed.iter().map(|batch| batch.table.hostname()).collect::<Vec<_>>(), ["one"]);
        assert!(batcher.is_open());
        assert_eq!(batcher.close().map(|batch| (batch.count, batch.newest)), Some((1, NOW)));
        assert!(!batcher.is_open() && batcher.close().is_none());
    }
}
