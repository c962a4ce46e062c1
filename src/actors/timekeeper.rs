//! The timeline that all actors share, and the anchor of their grids: every stamp of the process comes from
//! here, and every device is due by the same clock.
//!
//! A handle that can be cloned. The clocks are read while it is held, so that a moment read before a step of
//! the clock cannot be applied after it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{self, Moment};
use crate::reading::Timestamp;
use crate::schedule::Anchor;
use crate::timeline::{ClockState, Timeline, Track};

/// A handle on the process's timeline.
#[derive(Debug, Clone)]
pub struct Timekeeper {
    timeline: Arc<Mutex<Timeline>>,
    anchor: Arc<Mutex<Anchor>>,
}

impl Timekeeper {
    /// Shares `timeline`.
    #[must_use]
    pub fn new(timeline: Timeline) -> Self {
        let anchor = Anchor::new(clock::now());
        Self { timeline: Arc::new(Mutex::new(timeline)), anchor: Arc::new(Mutex::new(anchor)) }
    }

    /// The stamp of what happens now, as it is written: a date, or the boot time while there is none.
    pub fn stamp(&self, track: &mut Track) -> Timestamp {
        let mut timeline = lock(&self.timeline);
        timeline.stamp(clock::now(), track).written()
    }

    /// The stamp of a batch that is closed now, greater than every stamp before it: a date when its readings
    /// are `dated`, else a boot time as it is written.
    #[must_use]
    pub fn seal(&self, dated: bool) -> Timestamp {
        let mut timeline = lock(&self.timeline);
        let now = clock::now();
        if dated { timeline.seal(now) } else { timeline.seal_undated(now) }
    }

    /// The server's clock showed `date` just now; returns what ours show.
    #[must_use]
    pub fn server_says(&self, date: Timestamp) -> Moment {
        let mut timeline = lock(&self.timeline);
        let now = clock::now();
        timeline.server_says(date, now);
        now
    }

    /// A poll has ended: now, and the grid's anchor.
    #[must_use]
    pub fn polled(&self) -> (Moment, Anchor) {
        let mut anchor = lock(&self.anchor);
        let now = clock::now();
        anchor.follow(now);
        (now, *anchor)
    }

    /// How the clock is.
    #[must_use]
    pub fn observe(&self) -> ClockState {
        let mut timeline = lock(&self.timeline);
        timeline.observe(clock::now())
    }

    /// What to add to the boot times of the last hold, to date them; `None` while there is none that is over.
    #[must_use]
    pub fn offset(&self) -> Option<Duration> {
        lock(&self.timeline).offset()
    }

    /// Whether a batch with this stamp must not be sent yet.
    #[must_use]
    pub fn is_future(&self, at: Timestamp) -> bool {
        lock(&self.timeline).is_future(at, clock::now())
    }
}

/// A panic in between leaves plain numbers, each of them whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
