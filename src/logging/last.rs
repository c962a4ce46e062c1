//! The last lines of the log, in memory, for whoever looks at the agent from afar. Bounded: [`MOST`] lines.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::{MAX_LINE, Parts, level_name};
use crate::text::harmless::printable;

/// How many lines are kept: 200 kB at most, if each is as long as a line may be.
const MOST: usize = 100;

static LAST: Mutex<VecDeque<LastLine>> = Mutex::new(VecDeque::new());

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastLine {
    /// When it was written.
    pub at: SystemTime,
    /// Its level, as in the log: `INFO`, `WARNING`, `ERROR`, `DEBUG`.
    pub level: &'static str,
    /// Its text.
    pub message: String,
}

/// The last lines, the oldest first.
#[must_use]
pub fn last_lines() -> Vec<LastLine> {
    lock().iter().cloned().collect()
}

fn lock() -> MutexGuard<'static, VecDeque<LastLine>> {
    // Nobody panics with the lock held.
    LAST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What keeps them.
pub(super) struct KeepLast;

impl<S: Subscriber> Layer<S> for KeepLast {
    #[expect(clippy::disallowed_methods, reason = "no simulation has a log")]
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() > Level::INFO {
            return;
        }
        let mut parts = Parts::default();
        event.record(&mut parts);
        let message = printable(&parts.message, MAX_LINE);
        let line = LastLine { at: SystemTime::now(), level: level_name(*event.metadata().level()).0, message };
        let mut last = lock();
        if last.len() == MOST {
            last.pop_front();
        }
        last.push_back(line);
    }
}
