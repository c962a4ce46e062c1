//! What is asked next in a poll: the requests of the plan or what is asked instead of them, searches for what is
//! refused, values that were refused before, scale registers that are read again; and what a search has found.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::poll::{Asked, Asking, Parts, Poll, Purpose};
use super::{Core, MOST_EXTRA, MOST_RECHECKS, TIMEOUTS_BEFORE_SMALL};
use crate::modbus::plan::{Block, Reads, Span};
use crate::modbus::refusals::search::{Found, Search};
use crate::modbus::refusals::{Limit, PROBES};
use crate::modbus::session::event::Discovery;
use crate::text::Chain;
use crate::time::clock::Moment;

/// Before a value is read a second time in one poll: stamps are whole milliseconds, and two readings of a point must not
/// have the same.
const NEXT_STAMP: Duration = Duration::from_millis(1);

impl Core {
    /// Chooses what to ask next; `false` when the poll is over.
    pub(super) fn pick(&mut self, now: Moment) -> bool {
        while self.poll.over.is_none()
            && let Some(asking) = self.candidate(now)
        {
            let unit = asking.block(&self.plan).unit;
            if !self.poll.silent.contains(unit) && (self.all_silent || self.opens(unit) <= now.boot) {
                self.poll.asking = Some(asking);
                return true;
            }
            // Its unit fell silent: no other part of the search would be asked either.
            if asking.purpose == Purpose::Search {
                self.end_search(now);
            }
        }
        false
    }

    /// What is to be asked next if its unit may be asked.
    fn candidate(&mut self, now: Moment) -> Option<Asking> {
        // Right after the single value that was answered: now the whole shows what the silence was about.
        if let Some((request, works)) = self.poll.confirm.take() {
            let asked = self.first_of(request);
            let mut asking = Asking::new(Purpose::Confirm(works), Some(request), asked);
            asking.rest = Some(NEXT_STAMP);
            return Some(asking);
        }
        if let Some(asking) = self.next_part() {
            return Some(asking);
        }
        while let Some(&request) = self.poll.queue.front() {
            let unit = self.block_of(&self.requests[request]).unit;
            // Not at the end of the poll: of a gateway's other units one may be silent, and its timeout would part the
            // scale register from its values.
            if self.poll.unit.is_some_and(|before| before != unit)
                && let Some(asking) = self.next_recheck()
            {
                return Some(asking);
            }
            self.poll.unit = Some(unit);
            self.poll.queue.pop_front();
            if let Some(small) = self.small(request) {
                return Some(Asking::new(Purpose::Small, Some(request), Asked::Own(Box::new(small))));
            }
            match self.substitutes(request) {
                // All of it is refused: only probes ask for it.
                Some(blocks) if blocks.is_empty() => {}
                _ => {
                    let asked = self.first_of(request);
                    return Some(Asking::new(Purpose::Read, Some(request), asked));
                }
            }
        }
        // After all that is planned: a search may take many requests, which would make other values late.
        if let Some(asking) = self.next_of_search(now) {
            return Some(asking);
        }
        // After everything else: what is tried here is likely to be refused again.
        if self.poll.probes.is_none() {
            self.poll.probes = Some(self.probes(now.boot));
        }
        if let Some((request, block)) = self.poll.probes.as_mut().and_then(VecDeque::pop_front) {
            return Some(Asking::new(Purpose::Probe, Some(request), Asked::Own(Box::new(block))));
        }
        self.next_recheck()
    }

    /// A scale register that must be read again: soon after the values that it scales, so that it can hardly have moved
    /// there and back, hence before the next unit is asked, and after each request of a search.
    fn next_recheck(&mut self) -> Option<Asking> {
        let Poll { decoder, rechecked, .. } = &mut self.poll;
        let block = decoder.rechecks().into_iter().find(|block| {
            let times = rechecked.entry((block.unit, block.table, block.address)).or_insert(0);
            let may_be = *times < MOST_RECHECKS;
            *times += u8::from(may_be);
            may_be
        })?;
        Some(Asking::new(Purpose::Recheck, None, Asked::Own(Box::new(block))))
    }

    /// The first request that is made for one of the plan; the others follow it.
    fn first_of(&mut self, request: usize) -> Asked {
        match self.substitutes(request) {
            Some(blocks) if !blocks.is_empty() => {
                self.poll.parts = Some(Parts { request, blocks: Arc::clone(&blocks), next: 1 });
                Asked::Part(blocks, 0)
            }
            _ => Asked::Planned(self.requests[request].cycle, self.requests[request].place),
        }
    }

    fn next_part(&mut self) -> Option<Asking> {
        let parts = self.poll.parts.as_mut()?;
        if parts.next == parts.blocks.len() {
            self.poll.parts = None;
            return None;
        }
        let asked = Asked::Part(Arc::clone(&parts.blocks), parts.next);
        parts.next += 1;
        Some(Asking::new(Purpose::Read, Some(parts.request), asked))
    }

    /// What is asked instead of a request; `None`: it itself. Worked out once, until something else is refused.
    fn substitutes(&mut self, request: usize) -> Option<Arc<[Block]>> {
        // Kept with this request of this plan, not by address: another plan has other points at the same place.
        let generation = self.refusals.generation();
        if let Some((of, known)) = &self.requests[request].substitutes
            && *of == generation
        {
            return known.clone();
        }
        let blocks: Option<Arc<[Block]>> =
            self.refusals.substitutes(self.block_of(&self.requests[request])).map(Arc::from);
        self.requests[request].substitutes = Some((generation, blocks.clone()));
        blocks
    }

    /// A single value of a request that has not been answered for long, or whose unit has not: perhaps it is asked for
    /// too much.
    fn small(&mut self, request: usize) -> Option<Block> {
        let of = &self.requests[request];
        // Both are counted. A short request that is answered ends the count of the unit, and of the longer ones beside
        // it the length would never be found.
        let of_unit = self.silent.get(&self.block_of(of).unit).map_or(0, |silent| silent.timeouts);
        // Every other time only, then the whole again: the device may be silent about this very value.
        let doubtful = |timeouts: u32| timeouts >= TIMEOUTS_BEFORE_SMALL && timeouts % 2 == 1;
        if !doubtful(of_unit) && !doubtful(of.timeouts) {
            return None;
        }
        let substitutes = self.substitutes(request);
        let first = substitutes.as_ref().and_then(|blocks| blocks.first());
        let first = first.unwrap_or_else(|| self.block_of(&self.requests[request]));
        let spans = first.spans();
        if first.whole || spans.len() < 2 {
            return None;
        }
        // One that is of use alone.
        let needs_another = |span: &Span| {
            first.points.iter().any(|point| match &point.reads {
                Reads::Value(_, format) => format.scale_address().is_some() && first.span(point) == *span,
                Reads::PowerOfTen => false,
            })
        };
        let narrowest = spans.into_iter().min_by_key(|span| (needs_another(span), span.width))?;
        first.pieces(u16::MAX, |span| span == narrowest).into_iter().next()
    }

    fn next_of_search(&mut self, now: Moment) -> Option<Asking> {
        loop {
            if let Some(asking) = self.next_recheck() {
                return Some(asking);
            }
            if self.poll.search.is_none() {
                let (request, block, cause) = self.poll.refused.pop_front()?;
                let answering = self.poll.answering.contains(block.unit);
                // Perhaps it refuses everything: it is searched once for each backoff period, not in each poll.
                if !answering && !self.refusals.may_search(block.unit, now.boot) {
                    self.exception(request, cause, now);
                    continue;
                }
                let search = Search::new(&block, answering);
                self.poll.search = Some((request, block, cause, search));
            }
            let Poll { search: Some((request, .., search)), extra, .. } = &mut self.poll else { return None };
            if *extra < MOST_EXTRA
                && let Some(part) = search.ask()
            {
                *extra += 1;
                let asked = Asked::Own(Box::new(part.clone()));
                return Some(Asking::new(Purpose::Search, Some(*request), asked));
            }
            self.end_search(now);
        }
    }

    /// What a search has found, if there is one.
    pub(super) fn end_search(&mut self, now: Moment) {
        let Some((request, block, cause, search)) = self.poll.search.take() else { return };
        let (unit, table) = (block.unit, block.table);
        let (found, has_read) = (search.found(), search.has_read());
        let inferred = matches!(found, Found::Gaps | Found::TooLong { .. });
        // Refused values were refused when asked alone; gaps and lengths are only inferred. Where a limit is known
        // already, there is nothing new to believe.
        if inferred && !self.refusals.has_limit(unit, table) {
            let of = &mut self.requests[request].suspected;
            let again = of
                .as_ref()
                .is_some_and(|(suspected, _)| std::mem::discriminant(suspected) == std::mem::discriminant(&found));
            if !again {
                // It may have been a hiccup: the next poll asks for the same, and believes what it finds.
                *of = Some((found, block.quantity));
                return;
            }
            *of = None;
        }
        if found == Found::Nothing {
            // A search that was cut short says nothing.
            if !self.poll.silent.contains(unit) && self.poll.over.is_none() {
                if !has_read {
                    self.refusals.learn(unit, table, &found, false, now);
                }
                self.exception(request, cause, now);
            }
            return;
        }
        let known = self.requests[request].known;
        if !self.refusals.learn(unit, table, &found, known, now) {
            // No news for people. But a limit may have moved, and the next process is to know it.
            self.poll.outcome.learned = true;
            return;
        }
        let discovery = match found {
            Found::Nothing => return,
            Found::Refused(spans) => {
                self.refused_with.insert((unit, table), Chain(&cause).to_string());
                Discovery::Refused(spans, cause)
            }
            Found::Gaps => Discovery::Gaps(unit),
            Found::TooLong { works, fails } => {
                let limit = Limit { unit, bits: table.is_bits(), works, fails, silent: false };
                Discovery::TooLong { table, limit }
            }
        };
        self.poll.outcome.discoveries.push(discovery);
    }

    /// Refused values that are due to be tried, each alone.
    fn probes(&self, now: Duration) -> VecDeque<(usize, Block)> {
        if self.refusals.spans().len() == 0 {
            return VecDeque::new();
        }
        let due = self.refusals.due(now).into_iter();
        due.filter_map(|span| {
            // Only with its own request that is due: a value is read once for each tick, also one that is tried.
            let at_hand = |place: &&usize| {
                let block = self.block_of(&self.requests[**place]);
                !block.whole && (block.unit, block.table) == (span.unit, span.table) && block.spans().contains(&span)
            };
            let place = *self.poll.due.iter().find(at_hand)?;
            let pieces = self.block_of(&self.requests[place]).pieces(u16::MAX, |other| other == span);
            Some((place, pieces.into_iter().next()?))
        })
        .take(PROBES)
        .collect()
    }
}
