//! What leaves the log: what every output has acknowledged, and what the limits do not let stay.
//!
//! Segments leave whole, the oldest first; of the old caches, which are older than any segment, files do. For
//! `cache_min_free` only as much goes as is of use: nothing when all of it would not be enough, and nothing for
//! [`VAIN_PAUSE`] after one that did not raise the free space, because somebody else is filling the disk.

use std::collections::BTreeSet;
use std::time::Duration;

use super::SpoolError;
use super::batch::Position;
use super::disk::shown;
use super::job::{Evicted, Limit};
use super::log::{DIRECTORY, Log};
use super::quarantine;
use super::segment;
use super::source::Patience;
use crate::reading::Timestamp;

/// How often the file system is asked how full it is.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long nothing goes for the sake of free space after something has gone in vain.
const VAIN_PAUSE: Duration = Duration::from_secs(60);

/// When the file system is asked again.
#[derive(Debug, Default)]
pub(super) struct Free {
    next: Option<Duration>,
}

impl Log {
    /// Removes the segments that end at or before `position`; the newest stays.
    pub(super) fn release(&mut self, position: Position) -> Result<(), SpoolError> {
        while let Some((first, Some(next))) = self.oldest()
            && next <= position
        {
            if self.unreadable.contains(&first) {
                self.keep(first)?;
            } else {
                self.remove(first)?;
            }
        }
        Ok(())
    }

    /// Lets go what the limits do not let stay; everything before `released` is no loss.
    pub(super) fn evict(&mut self, now: Option<Timestamp>, released: Position) -> Vec<Evicted> {
        let mut evicted = Vec::new();
        // By age first, because what leaves for it leaves anyway and may spare the other limits.
        if let (Some(age), Some(now)) = (self.limits.max_age, now) {
            while self.old.evict_before(&mut *self.disk, now, age) {}
            while self.oldest_is_older(now, age) && self.evict_oldest(Limit::MaxAge, released, &mut evicted) {}
        }
        if let Some(max) = self.limits.max_bytes {
            while self.bytes() > max
                && (self.old.evict(&mut *self.disk).is_some()
                    || self.evict_oldest(Limit::MaxBytes, released, &mut evicted))
            {}
        }
        self.raise_free_space(released, &mut evicted);
        evicted
    }

    fn oldest(&self) -> Option<(Position, Option<Position>)> {
        let mut firsts = self.segments.keys();
        firsts.next().map(|&first| (first, firsts.next().copied()))
    }

    fn oldest_is_older(&mut self, now: Timestamp, age: Duration) -> bool {
        self.learn_oldest();
        let Some((_, oldest)) = self.segments.first_key_value() else { return false };
        let newest = oldest.facts.as_ref().and_then(|facts| facts.newest(|id| self.holds.get(id)));
        // By the newest reading in it, since it leaves whole. While one of its readings has no date it has no age and
        // stays.
        newest.is_some_and(|newest| newest.after(age) < now)
    }

    /// Lets the oldest segment go; `false` when there is none, or the disk keeps it.
    fn evict_oldest(&mut self, limit: Limit, released: Position, evicted: &mut Vec<Evicted>) -> bool {
        let Some((first, next)) = self.oldest() else { return false };
        let up_to = next.unwrap_or(self.end);
        if up_to <= released {
            // It is no loss, unless a power cut takes the cursors back.
            self.cursors.sync(&mut *self.disk).ok();
        }
        let gone = self.remove(first).is_ok();
        if gone && (up_to > released || !self.cursors.are_durable()) {
            evicted.push(Evicted { up_to, limit });
        }
        gone
    }

    fn raise_free_space(&mut self, released: Position, evicted: &mut Vec<Evicted>) {
        let now = self.disk.uptime();
        if self.free.next.is_some_and(|next| now < next) {
            return;
        }
        // Set first: a file system that does not say how full it is is not asked at each write either.
        self.free.next = Some(now.saturating_add(ASK_EVERY));
        // A file system that does not say how full it is is not full until it refuses.
        let Some(mut space) = self.disk.space() else { return };
        let wanted = self.limits.min_free.bytes(space.total);
        // The newest segment stays.
        let newest = self.segments.last_key_value().map_or(0, |(_, newest)| newest.size);
        let held = self.bytes().saturating_sub(newest);
        // All of it would not be enough: somebody else has filled the disk, and our readings would be lost for nothing.
        if held < wanted.saturating_sub(space.free) {
            return;
        }
        while space.free < wanted {
            let gone = self.old.evict(&mut *self.disk).is_some()
                || (self.segments.len() > 1 && self.evict_oldest(Limit::MinFree, released, evicted));
            let Some(after) = self.disk.space().filter(|_| gone) else { break };
            if after.free <= space.free {
                self.free.next = Some(now.saturating_add(VAIN_PAUSE));
                break;
            }
            space = after;
        }
    }

    fn remove(&mut self, first: Position) -> Result<(), SpoolError> {
        self.disk.remove(&segment::path(first))?;
        self.forget(first);
        Ok(())
    }

    /// Puts a segment that could not be read where people look.
    fn keep(&mut self, first: Position) -> Result<(), SpoolError> {
        let path = segment::path(first);
        let to = path.replacen(DIRECTORY, quarantine::DIRECTORY, 1);
        if self.disk.rename(&path, &to)? {
            let kept = shown(&*self.disk, &to);
            self.tell(kept, "the disk cannot read all of it", true);
        }
        self.forget(first);
        Ok(())
    }

    fn forget(&mut self, first: Position) {
        self.segments.remove(&first);
        self.unreadable.remove(&first);
        self.unsynced.remove(&first);
        self.marks.values_mut().for_each(|marks| marks.forget(first));
        // It may be the newest (`cache_max_bytes`, `cache_max_age`): then the next batch begins a segment.
        self.open = self.open.filter(|&open| open != first);
        self.untidy = true;
    }

    /// Finds out what the oldest segment holds.
    pub(super) fn learn_oldest(&mut self) {
        let Some((&first, oldest)) = self.segments.first_key_value() else { return };
        if oldest.facts.is_some() {
            return;
        }
        let scan = segment::scan(&mut *self.disk, &mut Patience::none(), first, oldest.length);
        // After an error it stays unknown, and the next write tries again.
        if let (Ok(scan), Some(oldest)) = (scan, self.segments.get_mut(&first)) {
            if scan.unreadable {
                self.unreadable.insert(first);
            }
            oldest.facts = Some(scan.facts);
        }
    }

    /// Removes the tables and holds that no segment names. While it is not known what one holds, it may name all of them.
    pub(super) fn tidy(&mut self) {
        // A leftover may hold frames of a write that failed half way. A later life will find them, with what they name.
        if !self.leftovers.is_empty() || !std::mem::take(&mut self.untidy) {
            return;
        }
        let (mut tables, mut holds) = (BTreeSet::new(), BTreeSet::new());
        for segment in self.segments.values() {
            let Some(facts) = &segment.facts else { return };
            tables.extend(&facts.tables);
            holds.extend(facts.undated.keys());
        }
        self.tables.retain(&mut *self.disk, &tables);
        self.holds.retain(&mut *self.disk, &holds);
    }
}
