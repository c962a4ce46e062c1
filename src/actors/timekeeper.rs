//! The timeline that all actors share, and the anchor of their grids: every stamp of the process comes from
//! here, and every device is due by the same clock.
//!
//! Each poll looks at the clock too; what is worth saying of it is a line in the log ([`Notices`]).
//!
//! A handle that can be cloned. The clocks are read while it is held, so that a moment read before a step of
//! the clock cannot be applied after it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::reading::Timestamp;
use crate::time::clock::{self, Moment};
use crate::time::schedule::Anchor;
use crate::time::timeline::{ClockState, Notice, Notices, Timeline, Track};

/// A handle on the process's timeline.
#[derive(Debug, Clone)]
pub struct Timekeeper(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    timeline: Timeline,
    anchor: Anchor,
    notices: Notices,
}

impl Timekeeper {
    /// Shares `timeline`.
    #[must_use]
    pub fn new(timeline: Timeline) -> Self {
        let (anchor, notices) = (Anchor::new(clock::now()), Notices::default());
        Self(Arc::new(Mutex::new(Shared { timeline, anchor, notices })))
    }

    /// A panic in between leaves plain numbers, each of them whole.
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A track that begins after every stamp so far.
    #[must_use]
    pub fn track(&self) -> Track {
        self.shared().timeline.track()
    }

    /// From now on, whether this machine's clock is believed over the server's.
    pub fn trust_local_clock(&self, trust: bool) {
        self.shared().timeline.trust_local_clock(trust);
    }

    /// The stamp of what happens now, as it is written: a date, or the boot time while there is none.
    pub fn stamp(&self, track: &mut Track) -> Timestamp {
        let mut shared = self.shared();
        shared.timeline.stamp(clock::now(), track).written()
    }

    /// The stamp of a batch that is closed now, greater than every stamp before it: a date when its readings
    /// are `dated`, else a boot time as it is written.
    #[must_use]
    pub fn seal(&self, dated: bool) -> Timestamp {
        let mut shared = self.shared();
        let now = clock::now();
        if dated { shared.timeline.seal(now) } else { shared.timeline.seal_undated(now) }
    }

    /// The server's clock showed `date` just now; returns what ours show.
    #[must_use]
    pub fn server_says(&self, date: Timestamp) -> Moment {
        let mut shared = self.shared();
        let now = clock::now();
        shared.timeline.server_says(date, now);
        now
    }

    /// A poll has ended: now, and the grid's anchor. Writes to the log what is new about the clock.
    #[must_use]
    pub fn polled(&self) -> (Moment, Anchor) {
        let (moment, anchor, notice) = {
            let shared = &mut *self.shared();
            let now = clock::now();
            let state = shared.timeline.observe(now);
            shared.anchor.follow(now);
            (now, shared.anchor, shared.notices.observe(state, now.boot))
        };
        match notice {
            Some(Notice::Grave(line)) => tracing::error!("{line}"),
            Some(Notice::Warning(line)) => tracing::warn!("{line}"),
            Some(Notice::Relief(line)) => tracing::info!("{line}"),
            None => {}
        }
        (moment, anchor)
    }

    /// How the clock is.
    #[must_use]
    pub fn observe(&self) -> ClockState {
        let mut shared = self.shared();
        shared.timeline.observe(clock::now())
    }

    /// What to add to the boot times of the last hold, to date them; `None` while there is none that is over.
    #[must_use]
    pub fn offset(&self) -> Option<Duration> {
        self.shared().timeline.offset()
    }

    /// How far a batch with this stamp is ahead of the server's clock, if it must not be sent yet.
    #[must_use]
    pub fn too_far_ahead(&self, at: Timestamp) -> Option<Duration> {
        self.shared().timeline.too_far_ahead(at, clock::now())
    }
}
