//! Which batches are on disk: the oldest by name, those beyond them as a number.
//!
//! Pure. Memory does not grow with the queue: `limit` names are held, and when they are used up and there
//! are more, the directory is read again ([`Refill`]). Nothing is ever added to the old caches, so names leave in order.

use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Bound;

use super::Name;

/// What is known of a batch in the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct Window {
    limit: usize,
    entries: BTreeMap<Name, Entry>,
    bytes: u64,
    beyond: usize,
    /// Of those beyond; an estimate for those that an earlier life left behind.
    beyond_bytes: u64,
}

impl Window {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, entries: BTreeMap::new(), bytes: 0, beyond: 0, beyond_bytes: 0 }
    }

    /// How many batches there are.
    pub(super) fn batches(&self) -> usize {
        self.entries.len() + self.beyond
    }

    /// How many bytes they have together.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.beyond_bytes
    }

    /// The oldest batch after `name`, or of all.
    pub(super) fn next(&self, after: Option<Name>) -> Option<(Name, Entry)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries.range((from, Bound::Unbounded)).next().map(|(&name, &entry)| (name, entry))
    }

    /// The batch is no more.
    pub(super) fn forget(&mut self, name: Name) -> Option<Entry> {
        let entry = self.entries.remove(&name)?;
        self.bytes -= entry.bytes;
        Some(entry)
    }

    /// Whether the names held are used up and there are more on disk.
    pub(super) fn is_used_up(&self) -> bool {
        self.entries.is_empty() && self.beyond > 0
    }

    /// Begins anew with what is on disk.
    pub(super) fn refill(&self) -> Refill {
        Refill { limit: self.limit, oldest: BinaryHeap::new(), beyond: 0 }
    }

    /// Holds what `refill` found; `size` knows how long a file is.
    pub(super) fn replace(&mut self, refill: Refill, mut size: impl FnMut(Name) -> u64) {
        self.entries = refill.oldest.into_iter().map(|name| (name, Entry { bytes: size(name) })).collect();
        self.bytes = self.entries.values().map(|entry| entry.bytes).sum();
        self.beyond = refill.beyond;
        let average = self.bytes / self.entries.len().max(1) as u64;
        self.beyond_bytes = average * refill.beyond as u64;
    }
}

/// The oldest of many names.
pub(super) struct Refill {
    limit: usize,
    oldest: BinaryHeap<Name>,
    beyond: usize,
}

impl Refill {
    pub(super) fn offer(&mut self, name: Name) {
        if self.oldest.len() < self.limit {
            self.oldest.push(name);
            return;
        }
        self.beyond += 1;
        // The top of the heap is the newest of those held, and gives way to an older one: so one pass over the
        // directory is enough, in whatever order it lists its files.
        if let Some(mut newest) = self.oldest.peek_mut()
            && name < *newest
        {
            *newest = name;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Timestamp;

    fn name(at: u64) -> Name {
        Name::of(Timestamp::from_millis(at), b"")
    }

    fn drained(window: &mut Window) -> Vec<u64> {
        let mut names = Vec::new();
        while let Some((name, _)) = window.next(None) {
            names.push(name.at().as_millis());
            window.forget(name);
        }
        names
    }

    #[test]
    fn the_oldest_names_are_held_and_the_rest_is_a_number() {
        let mut window = Window::new(3);
        let mut refill = window.refill();
        for at in [5, 9, 1, 7, 3, 8] {
            refill.offer(name(at));
        }
        window.replace(refill, |name| name.at().as_millis());
        assert_eq!((window.batches(), window.bytes()), (6, 9 + 9));
        assert_eq!(drained(&mut window), [1, 3, 5]);
        assert!(window.is_used_up());
    }
}
