//! What a reply or a failure means: for the request, for its unit, for the device, and for what is known of it.

use std::sync::Arc;
use std::time::Duration;

use super::poll::{Asking, Poll, Purpose, Verdict};
use super::{
    BUSY_PAUSE, Connection, Core, LONGEST_BUSY_PAUSE, MOST_EXTRA, MOST_RECHECKS, Request, SHARE_OF_SILENT, SILENT_UNITS,
};
use crate::modbus::error::{ConnectError, ReadError};
use crate::modbus::link::Remark;
use crate::modbus::plan::{Block, Span};
use crate::modbus::refusals::Limit;
use crate::modbus::register::{Table, UnitId};
use crate::modbus::session::event::{Discovery, Outcome, Subject, Unread};
use crate::modbus::session::gate::Gate;
use crate::reading::Timestamp;
use crate::text::Chain;
use crate::time::clock::Moment;

impl Core {
    /// The connection is there, or why it is not.
    pub fn connected(&mut self, result: Result<(), ConnectError>, now: Moment) {
        match result {
            Ok(()) => {
                self.poll.outcome.connected = true;
                self.heard = false;
                self.connection = Connection { linked: true, fresh: true, made_in: self.polls, lasting: false };
            }
            Err(error) => {
                let Some(asking) = self.poll.asking.take() else { return };
                self.unreachable(error.into(), asking.begun(now), now);
            }
        }
    }

    /// The words of the request that was asked, and when they were there.
    pub fn read(&mut self, words: &[u16], at: Timestamp, now: Moment) {
        let Some(asking) = self.poll.asking.take() else { return };
        // Shared, so that the block can be borrowed while the state changes.
        let plan = Arc::clone(&self.plan);
        let block = asking.block(&plan);
        let Block { unit, table, address, quantity, .. } = *block;
        self.answered(unit, asking.request, now);
        self.poll.outcome.learned |= self.refusals.read(unit, table, quantity);
        let small = asking.purpose == Purpose::Small;
        if small {
            self.poll.confirm = asking.request.map(|request| (request, quantity));
        } else {
            self.poll.answering.insert(unit);
        }
        let Poll { outcome, decoder, search, .. } = &mut self.poll;
        if self.keeps_words {
            outcome.words.push((Span { unit, table, address, width: quantity }, words.to_vec()));
        }
        outcome.readings.reserve(block.points.len());
        decoder.take(block, words, at, |point, at, value| outcome.take(point, at, value));
        if small {
            // What is read is a reading, whatever it was asked for; the request itself is still to come.
            outcome.ahead += block.values().count();
        } else if let Some(request) = asking.request {
            let request = &mut self.requests[request];
            if request.values == 0 {
                request.is_answered();
            }
            request.left = request.left.saturating_sub(block.values().count());
            // A request as long as the one that was suspected is read: it was a hiccup after all.
            if request.suspected.as_ref().is_some_and(|(_, suspected)| *suspected <= quantity) {
                request.suspected = None;
            }
        }
        match (asking.purpose, search) {
            (Purpose::Search, Some((.., search))) => search.read(),
            (Purpose::Probe, _) => self.accepted(block),
            _ => {}
        }
    }

    /// Why the request that was asked was not read. `may_ask_again`: the connection has ids and has not answered
    /// anything yet, so that a late reply can be told apart.
    pub fn failed(&mut self, error: ReadError, may_ask_again: bool, now: Moment) {
        let Some(mut asking) = self.poll.asking.take() else { return };
        // After a timeout with ids a late reply can be told apart, so that the connection need not be closed yet.
        self.connection.linked &= !error.link_is_dead() || may_ask_again;
        // Once for each request: whoever closes each connection must not keep a poll going for ever.
        if error.is_stale_connection() && !asking.resent {
            if self.connection.lasting {
                // It has worked for longer than a poll, so that the device does not close whatever rests: it has
                // started anew, or is another one.
                self.refusals.try_all_again(None, now.boot);
            }
            asking.resent = true;
            self.poll.asking = Some(asking);
            return;
        }
        if error.is_busy() && asking.busy < self.plan.settings.retries {
            // 100 ms doubled 8 times is beyond the longest pause already.
            asking.rest = Some((BUSY_PAUSE * 2_u32.pow(asking.busy.min(8).into())).min(LONGEST_BUSY_PAUSE));
            asking.busy += 1;
            self.poll.asking = Some(asking);
            return;
        }
        let Block { unit, table, quantity, .. } = *asking.block(&self.plan);
        let timeout = matches!(error, ReadError::ResponseTimeout(_));
        // A request that may be too long says nothing of a pause, and neither does what is silent while others answer.
        let excused =
            self.is_silent_alone(unit, asking.request) || self.refusals.is_longer_than_works(unit, table, quantity);
        // Only the first request of a connection speaks of a pause; what is excused leaves that to the next one.
        if timeout && !excused && std::mem::take(&mut self.connection.fresh) {
            let found = self.pause.found();
            self.pause.silent();
            self.poll.outcome.learned |= self.pause.found() != found;
        }
        // Each costs another timeout: once in a poll, and never for a unit that was silent before.
        if may_ask_again && !self.poll.asked_again && !self.silent.contains_key(&unit) && !self.all_silent {
            self.poll.asked_again = true;
            self.poll.asking = Some(asking);
            return;
        }
        // Asked once more is enough: what comes later is nobody's.
        self.connection.linked &= !error.link_is_dead();
        match Verdict::of(&error) {
            Verdict::Refused => self.refused_now(&asking, error, now),
            Verdict::Silent => self.silent_now(&asking, error, now),
            Verdict::Unreachable => self.unreachable(error, asking.begun(now), now),
        }
    }

    /// Something odd about the connection; each kind is told once.
    pub fn remarked(&mut self, remark: Remark) {
        let kind = std::mem::discriminant(&remark);
        if !self.remarked.contains(&kind) {
            self.remarked.push(kind);
            self.poll.outcome.discoveries.push(Discovery::Remark(remark));
        }
    }

    /// Whether the connection is of use: false after a failure, when the shell closes it.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.connection.linked
    }

    /// The unit has said something.
    fn answered(&mut self, unit: UnitId, request: Option<usize>, now: Moment) {
        self.poll.outcome.answered = true;
        self.heard = true;
        self.heard_of = Some((unit, request));
        let pause = self.pause.now();
        // This unit answers after no longer a pause than those had, so that it is not a pause that they lack.
        for (_, silent) in self.silent.iter_mut().filter(|(of, silent)| **of != unit && pause <= silent.pause) {
            silent.alone = true;
        }
        if std::mem::take(&mut self.connection.fresh)
            && let Some(needed) = self.pause.answered(now.boot)
        {
            self.poll.outcome.discoveries.push(Discovery::NeedsPause(needed));
        }
        self.connection.lasting |= self.connection.made_in < self.polls;
        // Whoever was away may have been restarted, or replaced: what it refused before says little now.
        if self.device.has_failed() {
            self.device = Gate::default();
            self.refusals.try_all_again(None, now.boot);
        }
        if !self.silent.is_empty() && self.silent.remove(&unit).is_some() {
            self.refusals.try_all_again(Some(unit), now.boot);
        }
        if std::mem::take(&mut self.all_silent) {
            let (silent, held_back) = (&self.silent, std::mem::take(&mut self.poll.held_back));
            let unit = |place: &usize| self.block_of(&self.requests[*place]).unit;
            // Others may be silent for themselves: their timeouts are to delay nobody.
            let (well, others): (Vec<_>, Vec<_>) =
                held_back.into_iter().partition(|place| !silent.contains_key(&unit(place)));
            self.poll.queue.extend(well);
            self.poll.queue.extend(others);
        }
        if !self.outages.is_well() {
            for subject in [Subject::Connection, Subject::AllUnits, Subject::Unit(unit)] {
                self.worked(subject, now);
            }
        }
    }

    /// The device said no.
    fn refused_now(&mut self, asking: &Asking, cause: ReadError, now: Moment) {
        let plan = Arc::clone(&self.plan);
        let block = asking.block(&plan);
        // An exception is an answer: unit and connection are well, whatever becomes of the request.
        self.answered(block.unit, asking.request, now);
        self.poll.outcome.failures.push(cause.kind());
        match (asking.purpose, asking.request) {
            (Purpose::Read | Purpose::Confirm(_), Some(request)) => {
                // What is to be read together or not at all is not taken apart. The others are searched when the rest
                // of the poll is read: a search may take many requests, and what is answered must not wait for it.
                if cause.is_about_the_request() && !block.whole {
                    self.poll.refused.push_back((request, block.clone(), cause));
                } else {
                    self.exception(request, cause, now);
                }
            }
            (Purpose::Search, _) => {
                if let Some((.., search)) = &mut self.poll.search {
                    if cause.is_about_the_request() { search.refused() } else { search.hiccup() }
                }
            }
            (Purpose::Probe, _) => {
                // Of a run, which is tried when one of its values came back, a refusal says nothing of each value.
                if let [span] = block.spans()[..] {
                    self.refused_with.insert((span.unit, span.table), Chain(&cause).to_string());
                    self.refusals.refused_again(span, now.boot);
                }
            }
            // It answers, whatever it says.
            (Purpose::Small, Some(request)) => self.poll.confirm = Some((request, block.quantity)),
            (Purpose::Recheck, _) => {
                // The value that it scales is told to be none.
                self.poll.rechecked.insert((block.unit, block.table, block.address), MOST_RECHECKS);
            }
            (_, None) => {}
        }
    }

    /// Nobody answered for the unit.
    fn silent_now(&mut self, asking: &Asking, cause: ReadError, now: Moment) {
        let Block { unit, table, quantity, .. } = *asking.block(&self.plan);
        let timeout = matches!(cause, ReadError::ResponseTimeout(_));
        // A gateway that says that a unit is gone has answered: the device as a whole is not silent.
        self.poll.outcome.answered |= !cause.link_is_dead();
        self.poll.outcome.failures.push(cause.kind());
        let narrowing = timeout && self.refusals.is_longer_than_works(unit, table, quantity);
        match asking.purpose {
            Purpose::Confirm(works) if timeout => self.too_long_in_silence(unit, table, works, quantity, now),
            _ if narrowing => {
                self.refusals.limit(unit, table, 1, quantity, true, now.boot);
                self.poll.outcome.learned = true;
            }
            _ => {}
        }
        let (begun, cap, lead) = (asking.begun(now), self.plan.settings.max_backoff, self.pause.now());
        let known = self.silent.contains_key(&unit);
        let silent = self.silent.entry(unit).or_default();
        if narrowing {
            // It was asked for more than it is known to answer: that silence says nothing of the unit.
            silent.gate.start_anew();
        }
        // Only silence may mean that a request is too long. A gateway that says no, or a broken connection, does not.
        silent.timeouts = if timeout { silent.timeouts + 1 } else { 0 };
        silent.alone |= timeout && self.heard;
        silent.pause = lead;
        let wait = silent.gate.shut(begun, now.boot, cap, lead, self.random.f64());
        if known && self.units_planned > 1 {
            // This attempt has then taken a fifth of the time until the next attempt at a silent unit.
            self.silent_from = now.boot + now.boot.saturating_sub(begun) * (SHARE_OF_SILENT - 1);
        }
        self.poll.silent.insert(unit);
        let subject = asking.request.and_then(|place| self.not_answered(place, timeout)).unwrap_or(Subject::Unit(unit));
        // Told at the end of the poll: only then is it known whether some are silent or all of them are.
        self.poll.silences.push((subject, cause, wait));
        let silent = self.poll.silent.count();
        if !self.poll.outcome.answered && self.units_planned > 1 && (self.all_silent || silent >= SILENT_UNITS) {
            self.all_silent = true;
            self.poll.over = Some(Unread::Silent);
        }
        self.end_search(now);
    }

    /// Whether silence says nothing of the connection, because others are known to answer over it: a unit or a request
    /// that was silent before. While a pause is tried only what answered with another one may speak of it.
    fn is_silent_alone(&self, unit: UnitId, request: Option<usize>) -> bool {
        let silent = self.silent.get(&unit);
        let of_request = request.map(|request| &self.requests[request]);
        if self.pause.wants_trial()
            && let Some((heard_unit, heard_request)) = self.heard_of
        {
            return (silent.is_some() && unit != heard_unit)
                || (request != heard_request && of_request.is_some_and(|of| of.unanswered > 0));
        }
        silent.is_some_and(|silent| silent.alone) || of_request.is_some_and(|of| of.alone)
    }

    /// A request of the plan was not answered. What to tell it of, when it is not the unit, which answers others.
    fn not_answered(&mut self, place: usize, timeout: bool) -> Option<Subject> {
        let request = &mut self.requests[place];
        request.unanswered += 1;
        request.timeouts = if timeout { request.timeouts + 1 } else { 0 };
        request.alone |= timeout && self.heard;
        let again = request.unanswered > 1;
        let block = self.block_of(&self.requests[place]);
        (again && self.poll.answering.contains(block.unit)).then(|| Subject::of(block))
    }

    /// A unit answers a request of `works` entries and none of `fails`.
    fn too_long_in_silence(&mut self, unit: UnitId, table: Table, works: u16, fails: u16, now: Moment) {
        // Connections were silent because of the length; what they seemed to say of a pause is void.
        self.pause.forgive();
        if self.refusals.limit(unit, table, works, fails, true, now.boot) {
            let limit = Limit { unit, bits: table.is_bits(), works, fails, silent: true };
            self.poll.outcome.discoveries.push(Discovery::TooLong { table, limit });
        }
        self.poll.outcome.learned = true;
    }

    /// There is no connection.
    fn unreachable(&mut self, cause: ReadError, begun: Duration, now: Moment) {
        self.connection.linked = false;
        self.poll.outcome.failures.push(cause.kind());
        let (cap, lead) = (self.plan.settings.max_backoff, self.pause.now());
        let wait = self.device.shut(begun, now.boot, cap, lead, self.random.f64());
        // Another fault now. Once there is a connection again, all units are asked as usual.
        self.all_silent = false;
        self.fault(Subject::Connection, cause, Some(wait), now);
        self.poll.over = Some(Unread::Unreachable);
    }

    /// Refused values were read: whatever else is refused there may be readable again, too.
    fn accepted(&mut self, block: &Block) {
        let (unit, table, spans) = (block.unit, block.table, block.spans());
        for &span in &spans {
            self.refusals.accepted(span);
        }
        self.poll.outcome.discoveries.push(Discovery::Accepted(spans));
        // The runs are probes as well and come here when they are read: they must not bring themselves again.
        if !self.poll.regained.insert((unit, table)) {
            return;
        }
        let limit = self.refusals.limit_of(unit, table);
        let mut runs = Vec::new();
        for &place in &self.poll.due {
            let block = self.block_of(&self.requests[place]);
            if !block.whole && (block.unit, block.table) == (unit, table) {
                let pieces = block.pieces(limit, |span| self.refusals.refuses(span));
                runs.extend(pieces.into_iter().map(|piece| (place, piece)));
            }
        }
        // Under the bound of searches: many values may come back at once.
        runs.truncate(MOST_EXTRA.saturating_sub(self.poll.extra));
        self.poll.extra += runs.len();
        let probes = self.poll.probes.get_or_insert_default();
        // What was to be tried alone is among the runs now, and is not to be read twice.
        probes.retain(|(_, block)| (block.unit, block.table) != (unit, table));
        probes.extend(runs);
    }

    /// The device answers a request of the plan, or a part of it, with an exception.
    pub(super) fn exception(&mut self, request: usize, cause: ReadError, now: Moment) {
        self.requests[request].exception = true;
        let subject = Subject::of(self.block_of(&self.requests[request]));
        self.fault(subject, cause, None, now);
    }

    /// The poll is over: what it brought.
    pub fn end(&mut self, now: Moment) -> Outcome {
        self.end_search(now);
        let Poll { outcome, decoder, .. } = &mut self.poll;
        std::mem::take(decoder).finish(|point, at, value| outcome.take(point, at, value));
        // What was refused and could not be searched any more.
        for (request, _, cause) in std::mem::take(&mut self.poll.refused) {
            self.exception(request, cause, now);
        }
        self.tell_silence(now);
        let due = std::mem::take(&mut self.poll.due);
        for &place in &due {
            self.close(place, now);
        }
        let mut outcome = std::mem::take(&mut self.poll.outcome);
        // The device answers: a moment to see whether it needs the pause that it was given.
        self.connection.linked &= !self.pause.wants_trial() || !outcome.answered;
        outcome.learned |= outcome.discoveries.iter().any(|it| !matches!(it, Discovery::Remark(_)));
        // Both lists go on into the next poll for the room that they have: a thousand devices poll each second.
        let queue = std::mem::take(&mut self.poll.queue);
        self.poll = Poll { due, queue, ..Poll::default() };
        self.poll.queue.clear();
        outcome
    }

    /// What became of a request of the poll that is over.
    fn close(&mut self, place: usize, now: Moment) {
        let request = &self.requests[place];
        let block = self.block_of(request);
        let Request { left, values, exception, .. } = *request;
        let refused = if left == 0 || block.whole || self.refusals.spans().len() == 0 {
            0
        } else {
            block.values_at(|span| self.refusals.refuses(span)).count().min(left)
        };
        let (subject, unit) = (Subject::of(block), block.unit);
        // Well is what is read but for refused values, by whichever requests: the state follows values, not requests.
        let is_read = left == refused && !exception;
        if is_read {
            self.worked(subject, now);
        }
        let silent = self.poll.silent.contains(unit) || self.silent.contains_key(&unit);
        let why = match self.poll.over {
            _ if exception => Unread::Exception,
            Some(why) => why,
            None if silent => Unread::Silent,
            None => Unread::Exception,
        };
        let request = &mut self.requests[place];
        (request.missing, request.refused) = (left, if exception { left } else { refused });
        request.known |= is_read;
        // One for scale registers only has no value that could be missing: it is told when it is read.
        if (is_read && values > 0) || exception {
            request.is_answered();
        }
        let given_up = left - refused;
        let unread = &mut self.poll.outcome.unread;
        // An exception is the answer to this tick; whoever gave one is asked again at the next tick only.
        if why != Unread::Exception && left == values && given_up > 0 {
            // Nothing of it was read, so that it may be asked again before its next tick.
            request.owed = Some(why);
        } else {
            unread[Unread::Refused.index()] += refused;
            unread[why.index()] += given_up;
        }
    }

    /// One line when all are silent, else one for each unit.
    fn tell_silence(&mut self, now: Moment) {
        let silences = std::mem::take(&mut self.poll.silences);
        if !self.all_silent {
            for (subject, cause, wait) in silences {
                self.fault(subject, cause, Some(wait), now);
            }
            return;
        }
        let Some((_, cause, _)) = silences.into_iter().next() else { return };
        let (begun, cap, lead) = (self.poll.begun, self.plan.settings.max_backoff, self.pause.now());
        let wait = self.device.shut(begun, now.boot, cap, lead, self.random.f64());
        self.fault(Subject::AllUnits, cause, Some(wait), now);
    }
}
