//! What memory has given up for an output, and was counted as lost then: ranges of positions, in order.
//!
//! An outage of the disk that fills the memory leaves one range; a server that is away for longer may see several. Each is kept
//! until the cursor of the output is behind it, so that what is missing there is not counted a second time.

use std::collections::VecDeque;

use crate::spool::batch::Position;

/// Ranges of positions, each from the first one to the one behind the last.
#[derive(Debug, Default)]
pub(super) struct Holes(VecDeque<(Position, Position)>);

impl Holes {
    /// From `from` to `to`, which lies behind all that was given up before.
    pub(super) fn add(&mut self, from: Position, to: Position) {
        match self.0.back_mut() {
            Some((_, end)) if *end >= from => *end = to.max(*end),
            _ => self.0.push_back((from, to)),
        }
    }

    /// How many positions between `from` and `to` were given up.
    pub(super) fn between(&self, from: Position, to: Position) -> u64 {
        self.0.iter().map(|&(start, end)| end.min(to).since(start.max(from))).sum()
    }

    /// What is behind the hole that `position` is in.
    pub(super) fn end_around(&self, position: Position) -> Option<Position> {
        self.0.iter().find(|(start, end)| *start <= position && position < *end).map(|(_, end)| *end)
    }

    /// All before `cursor` was passed.
    pub(super) fn forget_before(&mut self, cursor: Position) {
        while self.0.front().is_some_and(|(_, end)| *end <= cursor) {
            self.0.pop_front();
        }
    }
}
