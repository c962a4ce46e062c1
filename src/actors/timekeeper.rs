//! The timeline that all actors share: every stamp of the process comes from here.
//!
//! A handle that can be cloned. The clocks are read while it is held, so that a moment read before a step of
//! the clock cannot be applied after it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{self, Moment};
use crate::reading::Timestamp;
use crate::timeline::{ClockState, Timeline, Track};

/// A handle on the process's timeline.
#[derive(Debug, Clone)]
pub struct Timekeeper {
    timeline: Arc<Mutex<Timeline>>,
}

impl Timekeeper {
    /// Shares `timeline`.
    #[must_use]
    pub fn new(timeline: Timeline) -> Self {
        Self { timeline: Arc::new(Mutex::new(timeline)) }
    }

    /// The stamp of what happens now, as it is written: a date, or the boot time while there is none.
    pub fn stamp(&self, track: &mut Track) -> Timestamp {
        let mut timeline = self.lock();
        timeline.stamp(clock::now(), track).written()
    }

    /// The stamp of a batch that is closed now, greater than every stamp before it: a date when its readings
    /// are `dated`, else a boot time as it is written.
    #[must_use]
    pub fn seal(&self, dated: bool) -> Timestamp {
        let mut timeline = self.lock();
        let now = clock::now();
        if dated { timeline.seal(now) } else { timeline.seal_undated(now) }
    }

    /// The server's clock showed `date` just now; returns what ours show.
    #[must_use]
    pub fn server_says(&self, date: Timestamp) -> Moment {
        let mut timeline = self.lock();
        let now = clock::now();
        timeline.server_says(date, now);
        now
    }

    /// How the clock is.
    #[must_use]
    pub fn observe(&self) -> ClockState {
        let mut timeline = self.lock();
        timeline.observe(clock::now())
    }

    /// What to add to the boot times of the last hold, to date them; `None` while there is none that is over.
    #[must_use]
    pub fn offset(&self) -> Option<Duration> {
        self.lock().offset()
    }

    /// Whether a batch with this stamp must not be sent yet.
    #[must_use]
    pub fn is_future(&self, at: Timestamp) -> bool {
        self.lock().is_future(at, clock::now())
    }

    fn lock(&self) -> MutexGuard<'_, Timeline> {
        // A panic in between leaves plain numbers, each of them whole.
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
