//! Buffers for the readings of a poll: a device takes one and fills it, the aggregator empties it and gives it back.
//!
//! Owns those that nobody uses. Only so many are kept, and only small ones: a few devices with very many points must
//! not leave a large buffer with each of the others. Devices and aggregator share a thread, so nobody waits for the lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::reading::Reading;

/// So many are kept; more are freed.
const MOST: usize = 256;

/// One with room for more readings is freed.
const MOST_READINGS: usize = 1_024;

/// A handle on the buffers that nobody uses.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<Vec<Reading>>>>);

impl Buffers {
    /// An empty one: that which was used last, for the processor still has it at hand.
    #[must_use]
    pub fn take(&self) -> Vec<Reading> {
        self.kept().pop().unwrap_or_default()
    }

    /// Takes back one that is of no further use.
    pub fn give_back(&self, mut buffer: Vec<Reading>) {
        buffer.clear();
        let mut kept = self.kept();
        if (1..=MOST_READINGS).contains(&buffer.capacity()) && kept.len() < MOST {
            kept.push(buffer);
        }
    }

    /// A panic in between leaves whole buffers.
    fn kept(&self) -> MutexGuard<'_, Vec<Vec<Reading>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{PointId, Timestamp, Value};

    #[test]
    fn what_is_given_back_is_taken_again_empty_but_for_what_is_too_large_or_too_many() {
        let (buffers, reading) = (
            Buffers::default(),
            Reading { point: PointId(0), at: Timestamp::from_millis(0), value: Value::Integer(1) },
        );
        assert_eq!(buffers.take().capacity(), 0);
        for capacity in 1..=MOST + 10 {
            let mut buffer = Vec::with_capacity(capacity);
            buffer.push(reading);
            buffers.give_back(buffer);
        }
        for beyond in [0, MOST_READINGS + 1] {
            drop(buffers.take());
            buffers.give_back(Vec::with_capacity(beyond));
        }
        let taken: Vec<_> =
            std::iter::repeat_with(|| buffers.take()).take_while(|taken| taken.capacity() > 0).collect();
        assert!(taken.iter().all(Vec::is_empty));
        assert_eq!(taken.len(), MOST - 2);
    }
}
