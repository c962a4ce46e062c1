//! What a device does besides its mode, and together with any of it: the odd habits from which an agent has to learn.
//!
//! A device goes by its own clock where a habit lasts for a while, and never by that of the test: whoever is slower
//! than expected finds it awake, rested or quiet, and never the other way round.

use std::time::{Duration, Instant};

use super::Table;

/// What becomes of a request that is too much for the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No answer.
    Silence,
    /// This exception code.
    Exception(u8),
}

/// The habits of one device; none at first.
#[derive(Debug, Default)]
pub struct Quirks {
    /// Requests for more entries are refused so.
    pub longest: Option<(u16, Refusal)>,
    /// Requests that touch this register are refused so.
    pub holes: Vec<(Table, u16, Refusal)>,
    /// Nothing is answered for so long after a connection was accepted.
    pub deaf: Duration,
    /// Busy for so long after an answer with values.
    pub rests: Duration,
    /// Sent right after a connection was accepted.
    pub greeting: &'static [u8],
    /// Every answer says that it is of this unit.
    pub answers_as: Option<u8>,
    /// After the next answer of this unit every connection is closed, and new ones are refused.
    pub stops_after: Option<u8>,
    /// When the last answer with values was sent.
    pub answered: Option<Instant>,
}

impl Quirks {
    /// How a request over a connection that was accepted at `accepted` is refused, if it is.
    pub fn refusal(&self, table: Table, address: u16, quantity: u16, accepted: Instant) -> Option<Refusal> {
        let touches = |at: u16| at.checked_sub(address).is_some_and(|offset| offset < quantity);
        let hole = self.holes.iter().find(|(of, at, _)| *of == table && touches(*at));
        if accepted.elapsed() < self.deaf {
            Some(Refusal::Silence)
        } else if self.answered.is_some_and(|answered| answered.elapsed() < self.rests) {
            Some(Refusal::Exception(6))
        } else {
            let too_long = self.longest.filter(|(longest, _)| *longest < quantity).map(|(_, refusal)| refusal);
            hole.map(|(.., refusal)| *refusal).or(too_long)
        }
    }
}
