//! The search for what a device refuses in a request, request by request: pure.
//!
//! Told what became of each request, it says what to ask next. A block is halved at the borders of its values until
//! what is refused stands alone; whatever is read on the way is read once.
//!
//! A unit of which nothing is known to answer is asked for [`SAMPLES`] single values first, spread over the block: when
//! none of them is read there is no search, for a device that refuses everything is not to be bothered.
//!
//! One hiccup teaches nothing: a part that fails for a passing reason (busy, device failure) is asked once more at the
//! end of the search. When it fails again, the search says nothing of lengths and gaps, which it would only infer, and
//! of values only those that were refused when asked alone.
//!
//! Bound: at most 2k·⌈log₂ n⌉ requests for k refused values of n, never more than 2n, each asked once more at most.

use crate::modbus::plan::{Block, Span};

/// So many values are tried to see whether a unit answers at all.
pub const SAMPLES: usize = 8;

/// A search under way.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "what happened so far, each independent of the others")]
pub struct Search {
    block: Block,
    /// Asked from the end.
    queue: Vec<Block>,
    asked: Option<Block>,
    sampling: bool,
    refused: Vec<Span>,
    read: Vec<Span>,
    longest_read: u16,
    /// Whether a request without gaps for several values was refused.
    run_refused: bool,
    /// Parts that failed for a passing reason and are asked once more.
    again: Vec<Block>,
    /// Whether the queue is that of the parts asked once more.
    repeating: bool,
    /// Whether a part failed for a passing reason twice, or was not asked.
    inconclusive: bool,
}

/// What a search has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing of the block can be read: perhaps nothing is wrong with any of its values.
    Nothing,
    /// These values are refused, in order of address.
    Refused(Vec<Span>),
    /// The device refuses entries that nobody asked for.
    Gaps,
    /// The device refuses long requests.
    TooLong {
        /// The longest request that was read.
        works: u16,
        /// The request that was refused.
        fails: u16,
    },
}

impl Search {
    /// The search in `block`, which was refused; `answering`: whether something else of its unit was read.
    #[must_use]
    pub fn new(block: &Block, answering: bool) -> Self {
        let mut this = Self {
            block: block.clone(),
            queue: Vec::new(),
            asked: None,
            sampling: false,
            refused: Vec::new(),
            read: Vec::new(),
            longest_read: 0,
            run_refused: false,
            again: Vec::new(),
            repeating: false,
            inconclusive: false,
        };
        let spans = block.spans();
        if answering {
            this.narrow(block);
        } else if spans.len() > 1 {
            // Not of one value alone: of a unit that answers nothing else, its refusal shows nothing of the value.
            this.sampling = true;
            let step = spans.len().div_ceil(SAMPLES);
            // The last one too: the middle of a device is as often a hole as its ends.
            let samples = spans.iter().step_by(step).chain(spans.last()).collect::<Vec<_>>();
            this.queue = samples.iter().rev().flat_map(|&&sample| alone(block, sample)).collect();
            this.queue.dedup();
        }
        this
    }

    /// What to ask now; `None` when the search is over.
    pub fn ask(&mut self) -> Option<&Block> {
        if self.queue.is_empty() && !self.again.is_empty() {
            // At the end, when what passes has had time to pass.
            self.queue = std::mem::take(&mut self.again);
            self.repeating = true;
        }
        self.asked = self.queue.pop();
        self.asked.as_ref()
    }

    /// The request failed for a reason that may pass: it says nothing of what was asked for.
    pub fn hiccup(&mut self) {
        let Some(asked) = self.asked.take() else { return };
        if self.repeating {
            self.inconclusive = true;
        } else {
            self.again.push(asked);
        }
    }

    /// The request was answered with values.
    pub fn read(&mut self) {
        let Some(asked) = self.asked.take() else { return };
        self.read.extend(asked.spans());
        self.longest_read = self.longest_read.max(asked.quantity);
        if self.sampling {
            // It answers: the rest is worth the search.
            self.sampling = false;
            // They are among all that is not read yet.
            self.again.clear();
            let known = |span: &Span| self.read.contains(span) || self.refused.contains(span);
            self.queue = self.block.pieces(u16::MAX, |span| !known(&span));
            self.queue.reverse();
        }
    }

    /// The request was refused.
    pub fn refused(&mut self) {
        let Some(asked) = self.asked.take() else { return };
        self.run_refused |= asked.spans().len() > 1;
        self.narrow(&asked);
    }

    /// Whether anything was read.
    #[must_use]
    pub fn has_read(&self) -> bool {
        !self.read.is_empty()
    }

    /// What has been found.
    #[must_use]
    pub fn found(&self) -> Found {
        if self.read.is_empty() && (self.sampling || self.block.spans().iter().all(|span| self.refused.contains(span)))
        {
            return Found::Nothing;
        }
        // Each was refused when asked alone: that is certain, also of a search that was cut short.
        if !self.refused.is_empty() {
            let mut refused = self.refused.clone();
            refused.sort_unstable();
            // A scale register may have been asked for beside two values.
            refused.dedup();
            return Found::Refused(refused);
        }
        let over = self.queue.is_empty() && self.asked.is_none() && self.again.is_empty() && !self.inconclusive;
        let only_gaps = !self.run_refused && self.block.pieces(u16::MAX, |_| true).len() > 1;
        match (only_gaps, over) {
            (true, true) => Found::Gaps,
            (false, true) if self.longest_read > 0 => {
                Found::TooLong { works: self.longest_read, fails: self.block.quantity }
            }
            // Something came between, and nothing is certain.
            _ => Found::Nothing,
        }
    }

    /// Queues smaller requests for what is in `block`: without its gaps, or else its halves.
    fn narrow(&mut self, block: &Block) {
        let pieces = block.pieces(u16::MAX, |_| true);
        // Before halves: with a gap in it, a half would be refused for what nobody wants.
        if pieces.len() > 1 {
            self.queue.extend(pieces.into_iter().rev());
            return;
        }
        let spans = block.spans();
        match spans[..] {
            [] => {}
            // The request that was refused had nothing else in it.
            [one] => self.refused.push(one),
            _ => {
                let (first, second) = spans.split_at(spans.len() / 2);
                for half in [second, first] {
                    self.queue.extend(block.pieces(u16::MAX, |span| half.contains(&span)).into_iter().rev());
                }
            }
        }
    }
}

fn alone(block: &Block, span: Span) -> Vec<Block> {
    block.pieces(u16::MAX, |other| other == span)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::modbus::format::{Format, Kind, Scale, Typed};
    use crate::modbus::plan::{Limits, plan};
    use crate::modbus::register::{Point, Reference, Table, UnitId};
    use crate::reading::PointId;

    /// A device that refuses requests for these addresses, and for more than so many registers.
    struct Device {
        holes: BTreeSet<u16>,
        longest: u16,
    }

    impl Device {
        fn refuses(&self, block: &Block) -> bool {
            let addresses = block.address..block.address + block.quantity;
            block.quantity > self.longest || addresses.into_iter().any(|address| self.holes.contains(&address))
        }
    }

    /// What comes of searching in `block`: the finding, the values read in order, the requests it took.
    fn searched(device: &Device, block: &Block, answering: bool) -> (Found, Vec<Span>, usize) {
        let (mut read, mut asked) = (Vec::new(), 0);
        let mut search = Search::new(block, answering);
        while let Some(part) = search.ask() {
            asked += 1;
            if device.refuses(part) {
                search.refused();
            } else {
                read.extend(part.spans());
                search.read();
            }
        }
        (search.found(), read, asked)
    }

    /// The one block of values of these widths, with gaps of so many registers before them.
    fn block(values: &[(u16, u16)]) -> Block {
        let mut address = 0;
        let points: Vec<_> = (0..)
            .zip(values)
            .map(|(id, &(gap, width))| {
                address += gap;
                let kind = [Kind::Uint16, Kind::Uint32, Kind::Bcd(3), Kind::Uint64][usize::from(width - 1)];
                let format =
                    if width == 1 { Format::Word(Scale::Raw) } else { Format::Typed(Typed::plain(kind).into()) };
                let reference = Reference::new(Table::HoldingRegisters, 400_001 + i64::from(address)).unwrap();
                address += width;
                Point { id: PointId(id), unit: UnitId(1), reference, format, together: None }
            })
            .collect();
        let [block] = <[Block; 1]>::try_from(plan(&points, Limits::default().with_gap(9))).unwrap();
        block
    }

    fn span(address: u16) -> Span {
        Span { unit: UnitId(1), table: Table::HoldingRegisters, address, width: 1 }
    }

    #[test]
    fn what_is_refused_is_told_from_what_is_too_long_and_from_gaps() {
        let run = block(&[(0, 1); 100]);
        let gappy = block(&[(0, 1), (3, 1), (2, 1)]);
        let none = BTreeSet::new;
        let cases = [
            ("one hole", &run, Device { holes: [41].into(), longest: 125 }, true, Found::Refused(vec![span(41)])),
            ("a hole in a gap", &gappy, Device { holes: [2].into(), longest: 125 }, true, Found::Gaps),
            (
                "a hole in a gap of an unknown unit",
                &gappy,
                Device { holes: [2].into(), longest: 125 },
                false,
                Found::Gaps,
            ),
            ("long", &run, Device { holes: none(), longest: 60 }, true, Found::TooLong { works: 50, fails: 100 }),
            (
                "long and unknown",
                &run,
                Device { holes: none(), longest: 60 },
                false,
                Found::TooLong { works: 25, fails: 100 },
            ),
            ("everything", &run, Device { holes: (0..100).collect(), longest: 125 }, false, Found::Nothing),
        ];
        for (name, block, device, answering, found) in cases {
            let (got, ..) = searched(&device, block, answering);
            match (&got, &found) {
                // How long the longest is depends on where the samples were.
                (Found::TooLong { fails, .. }, Found::TooLong { fails: wanted, .. }) if !answering => {
                    assert_eq!(fails, wanted, "{name}");
                }
                _ => assert_eq!(got, found, "{name}"),
            }
        }
    }

    #[test]
    fn a_unit_that_refuses_everything_is_asked_for_a_few_samples_only() {
        let device = Device { holes: (0..125).collect(), longest: 125 };
        let (found, read, asked) = searched(&device, &block(&[(0, 1); 125]), false);
        assert_eq!((found, read.len()), (Found::Nothing, 0));
        assert!(asked <= SAMPLES + 1, "{asked}");
    }

    #[test]
    fn one_refused_value_of_many_costs_two_requests_for_each_halving() {
        for hole in 0..125 {
            let device = Device { holes: [hole].into(), longest: 125 };
            let (found, read, asked) = searched(&device, &block(&[(0, 1); 125]), true);
            assert_eq!((found, read.len()), (Found::Refused(vec![span(hole)]), 124));
            assert!(asked <= 2 * 7, "{hole}: {asked}");
        }
    }

    #[test]
    fn a_part_that_fails_for_a_passing_reason_is_asked_once_more_and_teaches_nothing() {
        let run = block(&[(0, 1); 100]);
        for (hiccups, hole) in [(1, None), (2, None), (1, Some(41)), (2, Some(41))] {
            let device = Device { holes: hole.into_iter().collect(), longest: 125 };
            let (mut search, mut left, mut read) = (Search::new(&run, true), hiccups, Vec::new());
            let mut odd = None;
            while let Some(part) = search.ask().cloned() {
                let is_odd = *odd.get_or_insert_with(|| part.clone()) == part;
                if left > 0 && is_odd {
                    left -= 1;
                    search.hiccup();
                } else if device.refuses(&part) {
                    search.refused();
                } else {
                    read.extend(part.spans());
                    search.read();
                }
            }
            let found = search.found();
            match (hiccups, hole) {
                // The whole block was refused and its halves are read: as if it were too long, which one look cannot tell.
                (1, None) => assert_eq!(found, Found::TooLong { works: 50, fails: 100 }),
                (2, None) => assert_eq!(found, Found::Nothing, "one hiccup too many"),
                (1, Some(hole)) => assert_eq!(found, Found::Refused(vec![span(hole)])),
                // The hole is in the half that was never answered.
                (_, Some(_)) => assert_eq!(found, Found::Nothing),
                other => panic!("{other:?}"),
            }
            assert_eq!(read.len(), if hiccups == 2 { 50 } else { 100 - usize::from(hole.is_some()) });
        }
    }

    proptest! {
        #[test]
        fn every_readable_value_is_read_once_and_every_other_one_is_found_within_the_bound(
            values in prop::collection::vec((prop_oneof![9 => Just(0_u16), 1 => 1_u16..9], 1_u16..=4), 1..25),
            holes in prop::collection::btree_set(0_u16..100, 0..12),
        ) {
            let block = block(&values);
            let device = Device { holes, longest: 125 };
            prop_assume!(device.refuses(&block));
            let spans = block.spans();
            let readable = |span: &Span| !(span.address..span.address + span.width).any(|at| device.holes.contains(&at));
            let (good, bad): (Vec<_>, Vec<_>) = spans.iter().copied().partition(readable);
            let (found, mut read, asked) = searched(&device, &block, true);
            read.sort_unstable();
            prop_assert_eq!(&read, &good);
            match found {
                Found::Nothing => prop_assert!(good.is_empty()),
                Found::Refused(refused) => prop_assert_eq!(refused, bad.clone()),
                Found::Gaps => prop_assert!(bad.is_empty()),
                Found::TooLong { .. } => prop_assert!(false, "nothing here is too long"),
            }
            let gaps = block.pieces(u16::MAX, |_| true).len();
            let halvings = spans.len().next_power_of_two().ilog2() as usize;
            prop_assert!(asked <= gaps + 2 * bad.len() * halvings.max(1), "{} requests", asked);
            prop_assert!(asked <= gaps + 2 * spans.len());
        }

        #[test]
        fn whatever_is_known_of_its_unit_no_value_is_read_twice(
            holes in prop::collection::btree_set(0_u16..60, 0..60), longest in 1_u16..60, answering: bool,
        ) {
            let block = block(&[(0, 1); 60]);
            let device = Device { holes, longest };
            prop_assume!(device.refuses(&block));
            let (_, mut read, asked) = searched(&device, &block, answering);
            let all = read.len();
            read.sort_unstable();
            read.dedup();
            prop_assert_eq!(all, read.len());
            prop_assert!(asked <= 2 * 60 + SAMPLES);
        }
    }
}
