//! How a run of datapoints is posted when it cannot go as a whole: in parts, each accepted or not. Pure.
//!
//! Items are posted from the first to the last, a *width* of them at a time. A part that is too large, or
//! that is refused, is halved; after each part that is accepted the next is twice as wide. So a limit on the
//! way is found in a few posts, and so is a single item that the server cannot take.
//!
//! Such an item is [`condemned`](Parts::condemned) only on evidence: it was refused alone less than
//! [`WITNESS`] after another item was accepted. While everything is refused the server is at fault and nothing
//! is condemned; all items are then tried anew, for ever. Passing an item over is allowed only between items
//! whose order means nothing to the server, which is why an item is then a whole series
//! ([`Parts::apart`]); in [`Parts::in_order`] none is ever passed over.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// How long an item that was accepted says that the server is well.
pub const WITNESS: Duration = Duration::from_secs(60);

/// What is left to post of a run of items.
#[derive(Debug, Clone)]
pub struct Parts {
    items: usize,
    may_pass_over: bool,
    next: usize,
    width: usize,
    /// Refused alone, before anything was accepted.
    alone: Vec<usize>,
    /// Of those, what is to be tried again now that the server accepts something.
    again: VecDeque<usize>,
    accepted: Option<Duration>,
    condemned: Vec<usize>,
}

impl Parts {
    /// Items that must go one after another.
    #[must_use]
    pub fn in_order(items: usize) -> Self {
        Self {
            items,
            may_pass_over: false,
            next: 0,
            width: items,
            alone: Vec::new(),
            again: VecDeque::new(),
            accepted: None,
            condemned: Vec::new(),
        }
    }

    /// Items whose order means nothing, one of which may be what the server cannot take.
    #[must_use]
    pub fn apart(items: usize) -> Self {
        Self { may_pass_over: true, ..Self::in_order(items) }
    }

    /// The items to post next; `None` when each is accepted or condemned.
    #[must_use]
    pub fn next(&self) -> Option<Range<usize>> {
        if let Some(&item) = self.again.front() {
            return Some(item..item + 1);
        }
        let end = self.items.min(self.next + self.width);
        (self.next < end).then_some(self.next..end)
    }

    /// The server has taken the part.
    pub fn accepted(&mut self, now: Duration) {
        self.accepted = Some(now);
        if self.again.pop_front().is_none() {
            self.next += self.width;
            self.width = self.width.saturating_mul(2);
        }
        // They may have been refused because everything was.
        self.again.extend(std::mem::take(&mut self.alone));
    }

    /// The part is too large for the way or for the time it has: `false` when it cannot be smaller.
    pub fn too_large(&mut self) -> bool {
        let width = self.next().map_or(0, |part| part.len());
        self.width = (width / 2).max(1);
        width > 1
    }

    /// The server has refused the part.
    pub fn refused(&mut self, now: Duration) {
        if !self.may_pass_over {
            return;
        }
        let Some(part) = self.next() else { return };
        if part.len() > 1 {
            self.width = part.len() / 2;
            return;
        }
        let witnessed = self.accepted.is_some_and(|accepted| now.saturating_sub(accepted) <= WITNESS);
        if self.again.pop_front().is_none() {
            self.next += 1;
            self.width = self.items;
        }
        if witnessed {
            self.condemned.push(part.start);
        } else {
            self.alone.push(part.start);
        }
        if self.next().is_none() && !self.alone.is_empty() {
            // No evidence either way. What is posted twice is dropped by the server.
            *self = Self::apart(self.items);
        }
    }

    /// The items that the server cannot take, though it takes others.
    #[must_use]
    pub fn condemned(&self) -> &[usize] {
        &self.condemned
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Posts everything to a server that refuses a part with any of `poison`; returns what was accepted, in
    /// order, and the number of posts.
    fn drain(parts: &mut Parts, poison: &BTreeSet<usize>, step: Duration) -> (Vec<usize>, usize) {
        let (mut now, mut accepted, mut posts) = (Duration::from_secs(7_200), Vec::new(), 0);
        while let Some(part) = parts.next() {
            posts += 1;
            assert!(posts < 100_000, "it never ends");
            if part.clone().any(|item| poison.contains(&item)) {
                parts.refused(now);
            } else {
                accepted.extend(part);
                parts.accepted(now);
            }
            now += step;
        }
        (accepted, posts)
    }

    #[test]
    fn one_item_that_the_server_cannot_take_is_found_in_a_few_posts_and_costs_no_other() {
        for poison in [0, 1, 499, 500, 4_998, 4_999] {
            let mut parts = Parts::apart(5_000);
            let (accepted, posts) = drain(&mut parts, &BTreeSet::from([poison]), SECOND / 10);
            assert_eq!(parts.condemned(), [poison]);
            assert_eq!(accepted.len(), 4_999);
            assert!(posts < 120, "{posts} posts for {poison}");
        }
    }

    #[test]
    fn a_server_that_refuses_everything_condemns_nothing_however_long() {
        let mut parts = Parts::apart(7);
        for minute in 0..7 * 1_440 {
            assert!(parts.next().is_some());
            parts.refused(Duration::from_secs(60 * minute));
        }
        assert!(parts.condemned().is_empty());
        let back = Duration::from_secs(8 * 86_400);
        let mut seen = BTreeSet::new();
        while let Some(part) = parts.next() {
            seen.extend(part);
            parts.accepted(back);
        }
        assert!(parts.condemned().is_empty());
    }

    #[test]
    fn what_was_refused_long_before_the_server_took_anything_is_tried_again() {
        let mut parts = Parts::apart(2);
        parts.refused(Duration::ZERO);
        assert_eq!(parts.next(), Some(0..1));
        parts.refused(SECOND);
        assert_eq!(parts.next(), Some(1..2));
        parts.accepted(SECOND + WITNESS + SECOND);
        assert_eq!((parts.next(), parts.condemned().len()), (Some(0..1), 0));
        parts.accepted(2 * WITNESS);
        assert_eq!((parts.next(), parts.condemned().len()), (None, 0));
    }

    #[test]
    fn in_order_nothing_is_passed_over() {
        let mut parts = Parts::in_order(4);
        for second in 0..100 {
            parts.refused(SECOND * second);
            assert_eq!(parts.next(), Some(0..4));
        }
        assert!(parts.too_large());
        assert_eq!(parts.next(), Some(0..2));
        assert!(parts.too_large());
        assert_eq!(parts.next(), Some(0..1));
        assert!(!parts.too_large());
        parts.refused(SECOND);
        assert_eq!(parts.next(), Some(0..1));
        parts.accepted(SECOND);
        assert_eq!(parts.next(), Some(1..3));
        parts.accepted(SECOND);
        assert_eq!(parts.next(), Some(3..4));
        parts.accepted(SECOND);
        assert_eq!(parts.next(), None);
    }

    proptest! {
        #[test]
        fn every_item_is_accepted_or_condemned_and_only_poison_is_condemned(
            items in 1..300usize,
            poison in proptest::collection::btree_set(0..300usize, 0..6),
            step in 0..40u64,
        ) {
            let poison: BTreeSet<_> = poison.into_iter().filter(|item| *item < items).collect();
            prop_assume!(poison.len() < items);
            // The evidence is fresh enough only if posts are quick; slow ones are tried anew for ever.
            let mut parts = Parts::apart(items);
            let (accepted, posts) = drain(&mut parts, &poison, Duration::from_millis(step));
            let condemned: BTreeSet<_> = parts.condemned().iter().copied().collect();
            prop_assert_eq!(&condemned, &poison);
            let accepted: BTreeSet<_> = accepted.into_iter().collect();
            prop_assert_eq!(accepted.len() + condemned.len(), items);
            prop_assert!(posts <= 2 * items + 60);
        }

        #[test]
        fn whatever_size_the_way_lets_through_everything_arrives_once_in_order(
            items in 1..300usize,
            limits in proptest::collection::vec(1..300usize, 1..8),
        ) {
            let mut parts = Parts::in_order(items);
            let mut arrived = Vec::new();
            let mut limits = limits.into_iter().cycle();
            while let Some(part) = parts.next() {
                if part.len() > limits.next().unwrap() {
                    prop_assert!(parts.too_large());
                } else {
                    arrived.extend(part);
                    parts.accepted(SECOND);
                }
            }
            prop_assert_eq!(arrived, (0..items).collect::<Vec<_>>());
        }
    }
}
