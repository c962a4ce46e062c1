//! The timeline that all actors share, and the anchor of their grids: every stamp of the process comes from
//! here, and every device is due by the same clock.
//!
//! Each poll looks at the clock too; what is worth saying of it is a line in the log ([`ClockLog`]).
//!
//! A handle that can be cloned. The clocks are read while it is held, so that a moment read before a step of
//! the clock cannot be applied after it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::reading::Timestamp;
use crate::spool::job::Holdover;
use crate::time::clock::{self, Moment};
use crate::time::schedule::Anchor;
use crate::time::timeline::{ClockLog, ClockState, Notice, Timeline, Track};

/// A handle on the process's timeline.
#[derive(Debug, Clone)]
pub struct Timekeeper(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    timeline: Timeline,
    anchor: Anchor,
    log: ClockLog,
    boot_id: String,
}

impl Timekeeper {
    /// Shares `timeline` of the boot `boot_id`.
    #[must_use]
    pub fn new(timeline: Timeline, boot_id: &str) -> Self {
        let (anchor, log) = (Anchor::new(clock::now()), ClockLog::default());
        Self(Arc::new(Mutex::new(State { timeline, anchor, log, boot_id: boot_id.to_owned() })))
    }

    /// A panic in between leaves plain numbers, each of them whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A track that begins after every stamp so far.
    #[must_use]
    pub fn track(&self) -> Track {
        self.state().timeline.track()
    }

    /// From now on, whether this machine's clock is believed over the server's.
    pub fn trust_local_clock(&self, trust: bool) {
        self.state().timeline.trust_local_clock(trust);
    }

    /// The stamp of what happens now, as it is written: a date, or the boot time while there is none.
    pub fn stamp(&self, track: &mut Track) -> Timestamp {
        let mut state = self.state();
        state.timeline.stamp(clock::now(), track).written()
    }

    /// The server's clock showed `date` just now; returns what ours show.
    #[must_use]
    pub fn server_says(&self, date: Timestamp) -> Moment {
        let mut state = self.state();
        let now = clock::now();
        state.timeline.server_says(date, now);
        now
    }

    /// A poll has ended: now, and the grid's anchor. Writes to the log what is new about the clock.
    #[must_use]
    pub fn polled(&self) -> (Moment, Anchor) {
        // The block ends the lock before a line is written: other devices wait for it with every stamp.
        let (moment, anchor, notice) = {
            let state = &mut *self.state();
            let now = clock::now();
            let clock = state.timeline.observe(now);
            state.anchor.follow(now);
            (now, state.anchor, state.log.observe(clock, now.boot))
        };
        tell(notice);
        (moment, anchor)
    }

    /// How long until the next slot of the grid: never nothing, at most [`SLOT`](crate::time::schedule::SLOT).
    #[must_use]
    pub fn until_slot(&self) -> Duration {
        self.state().anchor.until_slot(clock::boot())
    }

    /// What the clocks show now, and whether the wall clock is believed. Writes to the log what is new about the clock.
    #[must_use]
    pub fn look(&self) -> (Moment, bool) {
        let (moment, clock, notice) = {
            let state = &mut *self.state();
            let now = clock::now();
            let clock = state.timeline.observe(now);
            (now, clock, state.log.observe(clock, now.boot))
        };
        tell(notice);
        (moment, !matches!(clock, ClockState::NotPlausible { .. }))
    }

    /// The time without a clock that undated readings are of: the present one, or the last that is over.
    #[must_use]
    pub fn hold(&self) -> Option<Holdover> {
        let state = self.state();
        state.timeline.holdover_since().map(|since| Holdover::new(&state.boot_id, since))
    }

    /// How the clock is.
    #[must_use]
    pub fn observe(&self) -> ClockState {
        let mut state = self.state();
        state.timeline.observe(clock::now())
    }

    /// What to add to the boot times of the last hold, to date them; `None` while there is none that is over.
    #[must_use]
    pub fn offset(&self) -> Option<Duration> {
        self.state().timeline.offset()
    }

    /// How far a batch with this stamp is ahead of the server's clock, if it must not be sent yet.
    #[must_use]
    pub fn too_far_ahead(&self, at: Timestamp) -> Option<Duration> {
        self.state().timeline.too_far_ahead(at, clock::now())
    }
}

fn tell(notice: Option<Notice>) {
    match notice {
        Some(Notice::Grave(line)) => tracing::error!("{line}"),
        Some(Notice::Warning(line)) => tracing::warn!("{line}"),
        Some(Notice::Relief(line)) => tracing::info!("{line}"),
        None => {}
    }
}
