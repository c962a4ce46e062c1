//! What has been accepted and is not on disk yet: the open batch, and sealed ones that wait their turn.
//!
//! Pure: given readings and a source of stamps, it says what to hand over. A batch is sealed at
//! [`MAX_DATAPOINTS`], at [`MAX_BYTES`], when the caller's flush timer fires, between readings that have
//! dates and readings that wait for them, and between readings of two catalogues: a batch holds one kind only.
//! Memory is bounded by [`MAX_PENDING_BYTES`]: past it the oldest sealed batch gives way, and its
//! datapoints are returned to be counted as lost.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::outputs::pattoo::payload::{Catalogue, Encoder};
use crate::reading::{Reading, Timestamp};
use crate::time::timeline::Stamp;

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
    /// Whether that and the stamps of its readings are dates, or boot times that wait for them.
    pub dated: bool,
    /// How many datapoints it holds.
    pub datapoints: usize,
    /// The JSON text.
    pub body: Bytes,
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
    /// Whether the readings of the open batch have dates.
    dated: bool,
    sealed: VecDeque<Arc<Batch>>,
    sealed_bytes: usize,
    seals: u64,
    handed_over: bool,
}

impl Batcher {
    /// Nothing accepted yet.
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>) -> Self {
        Self {
            encoder: Encoder::new(catalogue),
            dated: true,
            sealed: VecDeque::new(),
            sealed_bytes: 0,
            seals: 0,
            handed_over: false,
        }
    }

    /// Makes the points of the next readings those of `catalogue`, sealing what was open under another one;
    /// returns how many datapoints were displaced by it.
    pub fn follow(&mut self, catalogue: &Arc<Catalogue>, stamp: impl Fn(bool) -> Timestamp) -> usize {
        if self.encoder.encodes(catalogue) {
            return 0;
        }
        let displaced = self.seal(stamp);
        self.encoder = Encoder::new(Arc::clone(catalogue));
        displaced
    }

    /// Takes over `readings`, sealing batches as they fill; `stamp` says with what, given whether the readings
    /// of the batch have dates.
    pub fn accept(&mut self, readings: &[Reading], stamp: impl Fn(bool) -> Timestamp) -> Accepted {
        let mut accepted = Accepted::default();
        for reading in readings {
            let dated = matches!(Stamp::read(reading.at), Stamp::At(_));
            if dated != self.dated {
                accepted.displaced += self.seal(&stamp);
                self.dated = dated;
            }
            if self.encoder.push(reading).is_err() {
                accepted.not_sendable += 1;
            } else if self.encoder.datapoints() >= MAX_DATAPOINTS || self.encoder.bytes() >= SEAL_AT_BYTES {
                accepted.displaced += self.seal(&stamp);
            }
        }
        accepted
    }

    /// Closes the open batch, if it holds anything; returns how many datapoints were displaced by it.
    pub fn seal(&mut self, stamp: impl Fn(bool) -> Timestamp) -> usize {
        let datapoints = self.encoder.datapoints();
        if datapoints == 0 {
            return 0;
        }
        self.seals += 1;
        let at = stamp(self.dated);
        let Ok(body) = self.encoder.finish(at) else {
            // No stamp of the timeline is refused; were one, the batch must not grow for ever.
            return self.encoder.clear();
        };
        self.sealed_bytes += body.len();
        self.sealed.push_back(Arc::new(Batch { at, dated: self.dated, datapoints, body: body.into() }));
        self.displace()
    }

    /// Whether an open batch waits for its flush.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.encoder.is_empty()
    }

    /// How many batches were sealed: the open one is the same as long as this is.
    #[must_use]
    pub fn seals(&self) -> u64 {
        self.seals
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
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;
    use crate::outputs::pattoo::identity::{Agent, AgentId, DataType, Series};
    use crate::reading::{PointId, Value};

    fn batcher() -> Batcher {
        Batcher::new(catalogue(30_001))
    }

    /// A hundred points from this register on.
    fn catalogue(first: u32) -> Arc<Catalogue> {
        let agent = Agent::new(AgentId::from_bytes([7; 32]), "host").unwrap();
        let interval = Duration::from_secs(10);
        let series: Vec<_> = (0..100)
            .map(|n| {
                let key = format!("input_register_{}", first + n);
                Series::new("device", key, 1, DataType::Integer, interval).unwrap()
            })
            .collect();
        Arc::new(Catalogue::new(&agent, interval, &series).unwrap())
    }

    fn readings(count: u32, at: Timestamp) -> Vec<Reading> {
        (0..count).map(|n| Reading { point: PointId(n % 100), at, value: Value::Float(f64::from(n)) }).collect()
    }

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// A millisecond later each time.
    fn stamps() -> impl Fn(bool) -> Timestamp {
        let last = Cell::new(NOW);
        move |_| last.replace(last.get().after(Duration::from_millis(1)))
    }

    #[test]
    fn a_batch_is_sealed_when_full_and_when_flushed() {
        let mut batcher = batcher();
        let stamps = stamps();
        assert_eq!(batcher.accept(&readings(12_345, NOW), &stamps), Accepted::default());
        assert!(batcher.is_open());
        batcher.seal(&stamps);
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
    fn whatever_seals_a_batch_is_counted_and_nothing_else() {
        let mut batcher = batcher();
        let stamps = stamps();
        batcher.seal(&stamps);
        assert_eq!(batcher.seals(), 0, "there was nothing to seal");
        batcher.accept(&readings(4_999, NOW), &stamps);
        assert_eq!(batcher.seals(), 0, "it is not full");
        batcher.accept(&readings(2, NOW), &stamps);
        assert_eq!(batcher.seals(), 1, "it is full");
        batcher.seal(&stamps);
        assert_eq!(batcher.seals(), 2, "its time is up");
        batcher.accept(&readings(1, NOW), &stamps);
        batcher.accept(&readings(1, Stamp::Undated(Duration::from_secs(50)).written()), &stamps);
        assert_eq!(batcher.seals(), 3, "what follows has no date");
        batcher.follow(&catalogue(31_001), &stamps);
        assert_eq!(batcher.seals(), 4, "what follows is of another catalogue");
    }

    #[test]
    fn readings_with_dates_and_without_are_never_in_one_batch() {
        let mut batcher = batcher();
        let undated = Stamp::Undated(Duration::from_secs(50)).written();
        let stamp = |dated| if dated { NOW } else { undated };
        for at in [NOW, undated, undated, NOW] {
            batcher.accept(&readings(1, at), stamp);
        }
        batcher.seal(stamp);
        let mut handed = Vec::new();
        while let Some(batch) = batcher.hand_over() {
            handed.push((batch.dated, batch.at, batch.datapoints));
            batcher.stored();
        }
        assert_eq!(handed, [(true, NOW, 1), (false, undated, 2), (true, NOW, 1)]);
    }

    #[test]
    fn readings_are_encoded_with_the_catalogue_that_they_were_read_by() {
        let (old, new) = (catalogue(30_001), catalogue(31_001));
        let mut batcher = Batcher::new(Arc::clone(&old));
        let stamps = stamps();
        // Across a reload a poll that began before it may end after one that began later.
        for catalogue in [&old, &old, &new, &old, &new] {
            assert_eq!(batcher.follow(catalogue, &stamps), 0);
            batcher.accept(&readings(1, NOW), &stamps);
        }
        batcher.seal(&stamps);
        let mut handed = Vec::new();
        while let Some(batch) = batcher.hand_over() {
            let body = String::from_utf8(batch.body.to_vec()).unwrap();
            let keys = ["input_register_30001", "input_register_31001"].map(|key| body.contains(key));
            handed.push((batch.datapoints, keys));
            batcher.stored();
        }
        let (of_old, of_new) = ([true, false], [false, true]);
        assert_eq!(handed, [(2, of_old), (1, of_new), (1, of_old), (1, of_new)]);
    }

    #[test]
    fn one_batch_is_handed_over_at_a_time_and_stays_first_when_refused() {
        let mut batcher = batcher();
        let stamps = stamps();
        batcher.accept(&readings(10_000, NOW), &stamps);
        let first = batcher.hand_over().unwrap();
        assert_eq!(batcher.hand_over(), None);
        batcher.refused();
        assert_eq!(batcher.hand_over().unwrap().at, first.at);
        batcher.stored();
        assert!(batcher.hand_over().unwrap().at > first.at);
    }

    #[test]
    fn when_memory_is_full_the_oldest_gives_way_but_never_the_one_being_stored() {
        let mut batcher = batcher();
        let stamps = stamps();
        batcher.accept(&readings(5_000, NOW), &stamps);
        let in_flight = batcher.hand_over().unwrap();
        let mut displaced = 0;
        for _ in 0..100 {
            displaced += batcher.accept(&readings(5_000, NOW), &stamps).displaced;
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
        let mut batcher = batcher();
        let stamps = stamps();
        let mut poison = readings(4, NOW);
        poison[0].value = Value::Float(f64::NAN);
        poison[1].value = Value::Float(1e30);
        poison[2].point = PointId(100);
        assert_eq!(batcher.accept(&poison, &stamps), Accepted { not_sendable: 3, displaced: 0 });
        batcher.seal(&stamps);
        assert_eq!(batcher.hand_over().unwrap().datapoints, 1);
    }

    #[test]
    fn a_stamp_that_no_body_can_have_costs_the_batch_and_is_counted() {
        let mut batcher = batcher();
        batcher.accept(&readings(3, NOW), stamps());
        assert_eq!(batcher.seal(|_| Timestamp::from_millis(50_000)), 3);
        assert!(batcher.is_empty());
    }
}
