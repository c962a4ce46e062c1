//! What has been accepted and is not on disk yet: the open batch, and sealed ones that wait their turn.
//!
//! Pure: given readings and `now`, it says what to hand over. A batch is sealed at [`MAX_DATAPOINTS`],
//! at [`MAX_BYTES`], or when the caller's flush timer fires. Its stamp is the wall clock's, but always
//! greater than the stamp before it, because the server reads batches in the order of their stamps.
//! Memory is bounded by [`MAX_PENDING_BYTES`]: past it the oldest sealed batch gives way, and its
//! datapoints are returned to be counted as lost.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::pattoo::payload::{Catalogue, Encoder};
use crate::reading::{Reading, Timestamp};

/// No batch holds more datapoints.
pub const MAX_DATAPOINTS: usize = 5_000;

/// No batch's body is longer, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// Sealed batches that the spool has not taken yet are kept up to this many bytes.
pub const MAX_PENDING_BYTES: usize = 8 << 20;

/// A body ready for the spool.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// The body's `pattoo_agent_timestamp`.
    pub at: Timestamp,
    /// How many datapoints it holds.
    pub datapoints: usize,
    /// The JSON text.
    pub body: Vec<u8>,
}

/// What became of the readings given to [`Batcher::accept`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Readings that no body may hold.
    pub not_sendable: usize,
    /// Datapoints of older batches that had to give way.
    pub displaced: usize,
}

/// The open batch and the sealed ones behind it.
#[derive(Debug)]
pub struct Batcher {
    encoder: Encoder,
    sealed: VecDeque<Arc<Batch>>,
    sealed_bytes: usize,
    last: Timestamp,
    handed_over: bool,
}

impl Batcher {
    /// Nothing accepted yet; the first stamp will be greater than `last`, the newest on disk.
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>, last: Timestamp) -> Self {
        Self { encoder: Encoder::new(catalogue), sealed: VecDeque::new(), sealed_bytes: 0, last, handed_over: false }
    }

    /// Takes over `readings`, sealing batches as they fill.
    pub fn accept(&mut self, readings: &[Reading], now: Timestamp) -> Accepted {
        let mut accepted = Accepted::default();
        for reading in readings {
            if self.encoder.push(reading).is_err() {
                accepted.not_sendable += 1;
            } else if self.encoder.datapoints() >= MAX_DATAPOINTS || self.encoder.bytes() >= SEAL_AT_BYTES {
                accepted.displaced += self.seal(now);
            }
        }
        accepted
    }

    /// Closes the open batch, if it holds anything; returns how many older datapoints were displaced by it.
    pub fn seal(&mut self, now: Timestamp) -> usize {
        if self.encoder.is_empty() {
            return 0;
        }
        let at = now.max(Timestamp::from_millis(self.last.as_millis() + 1));
        let datapoints = self.encoder.datapoints();
        // A clock that is not set yet gives no stamp that the server can sort: the batch stays open.
        let Ok(body) = self.encoder.finish(at) else { return 0 };
        self.last = at;
        self.sealed_bytes += body.len();
        self.sealed.push_back(Arc::new(Batch { at, datapoints, body }));
        self.displace()
    }

    /// Whether an open batch waits for its flush.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.encoder.is_empty()
    }

    /// The batch to hand over now: the oldest sealed one, unless it has been handed over already.
    pub fn hand_over(&mut self) -> Option<Arc<Batch>> {
        if self.handed_over {
            return None;
        }
        let batch = self.sealed.front().cloned()?;
        self.handed_over = true;
        Some(batch)
    }

    /// The batch handed over last is on disk.
    pub fn stored(&mut self) {
        self.handed_over = false;
        if let Some(batch) = self.sealed.pop_front() {
            self.sealed_bytes -= batch.body.len();
        }
    }

    /// The batch handed over last could not be stored; it stays first in line.
    pub fn refused(&mut self) {
        self.handed_over = false;
    }

    /// Whether nothing waits, neither open nor sealed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.encoder.is_empty()
    }

    fn displace(&mut self) -> usize {
        let mut displaced = 0;
        while self.sealed_bytes > MAX_PENDING_BYTES && self.sealed.len() > 1 {
            // The batch that the spool is writing just now is the spool's.
            let Some(batch) = self.sealed.remove(usize::from(self.handed_over)) else { break };
            self.sealed_bytes -= batch.body.len();
            displaced += batch.datapoints;
        }
        displaced
    }
}

/// One more datapoint with pairs of its own is never longer than the difference.
const SEAL_AT_BYTES: usize = MAX_BYTES - 8 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pattoo::identity::{Agent, AgentId, DataType, Series};
    use crate::reading::{PointId, Value};

    fn batcher(last: u64) -> Batcher {
        let agent = Agent::new(AgentId::from_bytes([7; 32]), "host").unwrap();
        let interval = Duration::from_secs(10);
        let series: Vec<_> = (0..100)
            .map(|n| {
                let key = format!("input_register_{}", 30_001 + n);
                Series::new("device", key, 1, DataType::Integer, interval).unwrap()
            })
            .collect();
        let catalogue = Catalogue::new(&agent, interval, &series).unwrap();
        Batcher::new(Arc::new(catalogue), Timestamp::from_millis(last))
    }

    fn readings(count: u32, at: Timestamp) -> Vec<Reading> {
        (0..count).map(|n| Reading { point: PointId(n % 100), at, value: Value::Float(f64::from(n)) }).collect()
    }

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    #[test]
    fn a_batch_is_sealed_when_full_and_when_flushed() {
        let mut batcher = batcher(0);
        assert_eq!(batcher.accept(&readings(12_345, NOW), NOW), Accepted::default());
        assert!(batcher.is_open());
        batcher.seal(NOW);
        let mut sizes = Vec::new();
        while let Some(batch) = batcher.hand_over() {
            assert!(batch.body.len() <= MAX_BYTES);
            sizes.push(batch.datapoints);
            batcher.stored();
        }
        assert_eq!(sizes, [5_000, 5_000, 2_345]);
        assert!(batcher.is_empty());
    }

    #[test]
    fn stamps_only_go_up_whatever_the_clock_does() {
        let mut batcher = batcher(NOW.as_millis() + 5);
        let mut stamps = Vec::new();
        for now in [NOW, NOW, NOW.after(Duration::from_secs(9)), NOW] {
            batcher.accept(&readings(1, NOW), now);
            batcher.seal(now);
            stamps.push(batcher.hand_over().unwrap().at.as_millis() - NOW.as_millis());
            batcher.stored();
        }
        assert_eq!(stamps, [6, 7, 9_000, 9_001]);
    }

    #[test]
    fn one_batch_is_handed_over_at_a_time_and_stays_first_when_refused() {
        let mut batcher = batcher(0);
        batcher.accept(&readings(10_000, NOW), NOW);
        let first = batcher.hand_over().unwrap();
        assert_eq!(batcher.hand_over(), None);
        batcher.refused();
        assert_eq!(batcher.hand_over().unwrap().at, first.at);
        batcher.stored();
        assert!(batcher.hand_over().unwrap().at > first.at);
    }

    #[test]
    fn when_memory_is_full_the_oldest_gives_way_but_never_the_one_being_stored() {
        let mut batcher = batcher(0);
        batcher.accept(&readings(5_000, NOW), NOW);
        let in_flight = batcher.hand_over().unwrap();
        let mut displaced = 0;
        for _ in 0..100 {
            displaced += batcher.accept(&readings(5_000, NOW), NOW).displaced;
        }
        assert!(displaced > 0 && displaced % 5_000 == 0);
        assert!(batcher.sealed_bytes <= MAX_PENDING_BYTES);
        batcher.refused();
        let mut kept = 0;
        assert_eq!(batcher.hand_over().unwrap().at, in_flight.at);
        loop {
            batcher.stored();
            kept += 5_000;
            if batcher.hand_over().is_none() {
                break;
            }
        }
        assert_eq!(displaced + kept, 101 * 5_000, "every datapoint is kept or counted");
    }

    #[test]
    fn what_the_server_would_die_on_is_counted_and_not_taken() {
        let mut batcher = batcher(0);
        let mut poison = readings(4, NOW);
        poison[0].value = Value::Float(f64::NAN);
        poison[1].value = Value::Float(1e30);
        poison[2].point = PointId(100);
        assert_eq!(batcher.accept(&poison, NOW), Accepted { not_sendable: 3, displaced: 0 });
        batcher.seal(NOW);
        assert_eq!(batcher.hand_over().unwrap().datapoints, 1);
    }

    #[test]
    fn a_clock_that_is_not_set_leaves_the_batch_open() {
        let mut batcher = batcher(0);
        batcher.accept(&readings(1, NOW), Timestamp::from_millis(50_000));
        batcher.seal(Timestamp::from_millis(50_000));
        assert!(batcher.is_open() && batcher.hand_over().is_none());
        batcher.seal(NOW);
        assert!(batcher.hand_over().is_some());
    }
}
