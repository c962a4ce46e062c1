//! Until when a line without transaction ids owes a reply: what outlives a connection.
//!
//! A reply that comes late carries no number. If the next request asks the same unit for as many registers, it fits
//! that request in every field; nothing but time tells the two apart. A gateway passes such a reply on over whatever
//! connection is open by then, and a serial port that is opened again still has the same wires. So a [`Line`] belongs
//! to the place (address and port, or device file), not to the connection or the device's session: after an exchange
//! without an answer, whatever ended it (also a reload that took the device away in the middle of it), no request
//! leaves over the line until twice the response timeout has passed since the one that was not answered. A gateway may
//! also keep what comes while nobody is connected: over a new connection to a line whose last exchange had no answer, no
//! request leaves within the response timeout after connecting.
//!
//! Assumption: no reply comes later than twice the response timeout after its request. One that does is told from the
//! next one's only if unit, function or quantity differ. What an earlier process asked is not known here.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The lines of this process, by place. A static, because a reload replaces everything that could hand one over.
static LINES: LazyLock<Mutex<HashMap<String, Line>>> = LazyLock::new(Mutex::default);

/// No gateway that is of use keeps a reply for so long.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);

/// A line without transaction ids; clones are the same line.
#[derive(Debug, Clone, Default)]
pub struct Line(Arc<Mutex<Option<Instant>>>);

impl Line {
    /// The line at `place`.
    pub(super) fn at(place: &str) -> Self {
        // A panic elsewhere leaves the lines whole: nothing here is changed in two steps.
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(place) {
            return line.clone();
        }
        // Bounded by the lines in use, and those that had no answer a short while ago.
        let lately = Instant::now().checked_sub(FORGOTTEN_AFTER);
        lines.retain(|_, line| Arc::strong_count(&line.0) > 1 || line.owes_until().is_some_and(|it| Some(it) > lately));
        lines.entry(place.to_owned()).or_default().clone()
    }

    /// A reply that was asked for may come until then.
    pub(super) fn owe(&self, until: Instant) {
        let mut owes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *owes = owes.max(Some(until));
    }

    /// A request was answered.
    pub(super) fn settle(&self) {
        // It left after the time of every older reply was over, so that nothing else is owed.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Until when a reply may come that nobody waits for any more, after an exchange without an answer.
    #[must_use]
    pub fn owes_until(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_is_known_by_its_place_as_long_as_it_owes_a_reply() {
        let (soon, late) = (Instant::now() + Duration::from_secs(1), Instant::now() + Duration::from_secs(2));
        Line::at("192.0.2.1:4001").owe(late);
        Line::at("192.0.2.1:4001").owe(soon);
        Line::at("192.0.2.2:4001");
        assert_eq!(Line::at("192.0.2.1:4001").owes_until(), Some(late));
        assert_eq!(Line::at("192.0.2.2:4001").owes_until(), None);
        let kept = Line::at("192.0.2.2:4001");
        tokio::time::advance(FORGOTTEN_AFTER + Duration::from_secs(3)).await;
        Line::at("192.0.2.3:4001");
        {
            let lines = LINES.lock().unwrap();
            assert!(!lines.contains_key("192.0.2.1:4001"), "forgotten after a while: {lines:?}");
        }
        kept.owe(late);
        kept.settle();
        assert_eq!(Line::at("192.0.2.2:4001").owes_until(), None);
    }
}
