//! What to take next from the spool, and what to do about a post that was not delivered. Pure: told the time
//! since boot and a random number, it says how much, or how long to wait.
//!
//! How many bytes go into one post adapts to the way: halved when a post is refused as too large or is not
//! through in time, down to a single reading (there are ways on which no large packet gets through), and an
//! eighth more when one is delivered.
//!
//! Nothing is dropped for being refused. After the patience given at the start the oldest batch is posted alone,
//! then apart; what is then refused while its siblings are taken is condemned ([`Parts`](crate::outputs::pattoo::parts)).

use std::time::Duration;

use crate::outputs::pattoo::consignment::Consignment;
use crate::outputs::pattoo::parts::WITNESS;
use crate::outputs::pattoo::post::PostError;
use crate::spool::Name;
use crate::time::backoff::Backoff;

/// The most bytes of stored batches that are merged into one post.
const MOST_BYTES: usize = 1 << 20;

/// The most batches that are merged into one post.
const MOST_BATCHES: usize = 2_000;

/// How deliveries have gone so far.
#[derive(Debug)]
pub struct Carrier {
    patience: Duration,
    backoff: Backoff,
    limit: Limit,
    /// When the server last accepted a post.
    accepted: Option<Duration>,
    refused_since: Option<Duration>,
    /// Up to this batch each is posted alone, because one of them is refused.
    suspect: Option<Name>,
}

/// What follows a post that was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next part, after a pause.
    Post {
        /// How long to leave the server alone.
        pause: Duration,
        /// Whether that is worth a line: it failed, and was not merely too large to go as a whole.
        failed: bool,
    },
    /// The oldest batch alone.
    Alone,
}

/// How many bytes go into one post.
#[derive(Debug)]
struct Limit {
    bytes: usize,
    /// More has been refused as too large.
    ceiling: usize,
}

impl Carrier {
    /// Nothing is known of the way; a batch is taken apart when it was refused for `patience`.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self {
            patience,
            backoff: Backoff::default(),
            limit: Limit { bytes: MOST_BYTES, ceiling: MOST_BYTES },
            accepted: None,
            refused_since: None,
            suspect: None,
        }
    }

    /// From now on a batch is taken apart when it was refused for `patience`.
    pub fn be_patient(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// How many bytes and how many batches to take for one post.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (self.limit.bytes, if self.suspect.is_some() { 1 } else { MOST_BATCHES })
    }

    /// Batches are on their way that were not before.
    pub fn begin(&mut self) {
        self.refused_since = None;
    }

    /// Makes the next part smaller if a post of `bytes` is more than is likely to get through; `false` when it is to
    /// be tried as it is.
    pub fn cut(&self, bytes: usize, consignment: &mut Consignment) -> bool {
        bytes > self.limit.bytes && consignment.parts().too_large()
    }

    /// A post was delivered.
    pub fn delivered(&mut self, now: Duration) {
        self.accepted = Some(now);
        self.backoff.reset();
    }

    /// A post of the batches under way was delivered.
    pub fn part_delivered(&mut self, consignment: &mut Consignment, now: Duration) {
        consignment.parts().accepted(now);
        self.limit.delivered();
    }

    /// Batches up to `newest` are delivered whole.
    pub fn done(&mut self, newest: Name) {
        self.suspect = self.suspect.filter(|&suspect| newest < suspect);
    }

    /// How long to leave alone what has just failed; `random` is uniform in 0..1.
    pub fn pause(&mut self, random: f64) -> Duration {
        self.backoff.fail(random)
    }

    /// Decides what to do about a post of `bytes` that was not delivered, of batches up to `newest`, `alone` or
    /// merged.
    pub fn failed(
        &mut self,
        error: &PostError,
        bytes: usize,
        (newest, alone): (Name, bool),
        consignment: &mut Consignment,
        now: Duration,
        random: f64,
    ) -> Next {
        if error.is_too_large() {
            self.limit.too_large(bytes);
            if consignment.parts().too_large() {
                return Next::Post { pause: Duration::ZERO, failed: false };
            }
        }
        if error.is_late() {
            self.limit.late(bytes);
            consignment.parts().too_large();
        }
        let mut leave_alone = true;
        if error.is_about_the_body() {
            consignment.parts().refused(now);
            let since = *self.refused_since.get_or_insert(now);
            let patient = now.saturating_sub(since) < self.patience && self.suspect.is_none();
            if !patient && !alone {
                self.suspect = Some(newest);
                return Next::Alone;
            }
            if !patient && !consignment.is_apart() {
                consignment.take_apart();
            }
            // It is this batch, not the server, and more like it may be behind.
            let well = self.accepted.is_some_and(|accepted| now.saturating_sub(accepted) <= WITNESS);
            leave_alone = !(consignment.is_apart() && well);
        }
        let pause = if leave_alone {
            error.retry_after().unwrap_or_default().max(self.backoff.fail(random))
        } else {
            Duration::ZERO
        };
        Next::Post { pause, failed: true }
    }
}

impl Limit {
    fn delivered(&mut self) {
        self.bytes = (self.bytes + self.bytes / 8 + 256).min(self.ceiling);
    }

    fn late(&mut self, bytes: usize) {
        self.bytes = (bytes / 2).clamp(1, self.ceiling);
    }

    fn too_large(&mut self, bytes: usize) {
        self.ceiling = (bytes / 2).clamp(1, self.ceiling);
        self.bytes = self.ceiling;
    }
}
