//! What a device is known to refuse, and the requests that are made instead: pure.
//!
//! Owns what was learned of one device: values that it refuses, units that refuse gaps, and the longest request that a
//! unit takes. A refused value is left out of every request and asked for alone now and then: soon when it has been
//! read before (after a second, at most a minute apart), ever more rarely when it never was (after a minute, at most an
//! hour apart). The others are read as if it were not there.
//!
//! What is asked instead of a request belongs to that request of that plan, so it is kept with it and not here;
//! [`Refusals::generation`] says when it must be worked out again. Nothing learned outlives what it was learned of:
//! [`Refusals::retain`] forgets what a new plan does not ask for. [`search`] finds out what is refused, [`store`]
//! keeps it for the next process.

pub mod search;
pub mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use self::search::Found;
use super::plan::{Block, Limits, Span};
use super::register::{Table, UnitId};
use crate::reading::Timestamp;
use crate::time::clock::Moment;

/// How soon a refused value that was never read is tried again for the first time.
pub const SOONEST: Duration = Duration::from_secs(60);

/// How rarely a refused value that was never read is tried at last, and a longer request than a unit takes.
pub const RAREST: Duration = Duration::from_secs(3_600);

/// How soon a refused value that has been read before is tried again for the first time.
// A device that refuses what it has answered before is starting, or busy for a moment: to leave the value out for a
// minute would lose a minute.
pub const SOONEST_OF_KNOWN: Duration = Duration::from_secs(1);

/// How rarely a refused value that has been read before is tried at last.
pub const RAREST_OF_KNOWN: Duration = Duration::from_secs(60);

/// How soon a longer request is tried for the first time when the limit was found by timeouts.
pub const SOONEST_TIMEOUT: Duration = Duration::from_secs(300);

/// How rarely a longer request is tried at last when the limit was found by timeouts: each costs one.
pub const RAREST_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

/// So many refused values are tried in one poll.
// Each costs a request that is likely to be refused, and makes the poll longer.
pub const PROBES: usize = 2;

/// What is known of one device.
#[derive(Debug, Default)]
pub struct Refusals {
    spans: BTreeMap<Span, Refused>,
    gaps: BTreeMap<UnitId, Gaps>,
    longest: BTreeMap<(UnitId, bool), Longest>,
    /// Units of which nothing could be read, and when they are searched again.
    search_backoff: BTreeMap<UnitId, Again>,
    generation: u64,
}

/// What is worth keeping for the next process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned {
    /// Values that are refused.
    pub refused: Vec<Span>,
    /// Units that refuse entries that nobody asked for.
    pub gaps: Vec<UnitId>,
    /// The longest requests that units take.
    pub limits: Vec<Limit>,
    /// How long the device must be left alone after connecting; zero for not at all.
    pub pause_after_connect: Duration,
}

/// The longest request that a unit takes, as far as experience tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The unit.
    pub unit: UnitId,
    /// Whether it is about bits, else about registers.
    pub bits: bool,
    /// So many entries are read in one request.
    pub works: u16,
    /// So many are not.
    pub fails: u16,
    /// Whether longer requests were not answered at all, rather than refused.
    pub silent: bool,
}

impl Learned {
    /// Whether nothing was learned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What was learned besides refused values, a sentence each, with the key that would say the same.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let gaps = self
            .gaps
            .iter()
            .map(|unit| format!("unit {unit} refuses registers between those that are wanted (as max_gap: 0)"));
        let limits = self.limits.iter().map(ToString::to_string);
        let pause = (!self.pause_after_connect.is_zero()).then(|| {
            let pause = humantime::format_duration(self.pause_after_connect);
            format!("needs a pause after connecting (as pause_after_connect: {pause})")
        });
        gaps.chain(limits).chain(pause).collect()
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unit, bits, works, silent, .. } = self;
        let (what, key) = if *bits { ("bits", "max_bits") } else { ("registers", "max_registers") };
        let longer = if *silent { "does not answer" } else { "refuses" };
        write!(f, "unit {unit} {longer} requests for more than {works} {what} (as {key}: {works})")
    }
}

/// A value that is refused.
#[derive(Debug, Clone, Copy)]
struct Refused {
    since: Timestamp,
    /// Whether it has been read before.
    known: bool,
    again: Again,
}

/// When something is tried again, on the boot clock.
#[derive(Debug, Clone, Copy)]
struct Again {
    at: Duration,
    wait: Duration,
}

impl Again {
    fn after(wait: Duration, now: Duration) -> Self {
        Self { at: now + wait, wait }
    }

    fn later(self, now: Duration, rarest: Duration) -> Self {
        Self::after((self.wait * 2).min(rarest), now)
    }
}

impl Refused {
    fn new(since: Timestamp, known: bool, now: Duration) -> Self {
        Self { since, known, again: Again::after(if known { SOONEST_OF_KNOWN } else { SOONEST }, now) }
    }
}

/// A unit that refuses entries that nobody asked for.
#[derive(Debug, Clone, Copy)]
struct Gaps {
    /// Whether none is asked for now.
    believed: bool,
    /// When that ends, or when it is forgotten.
    until: Duration,
}

/// How long a request may be, as far as experience tells.
#[derive(Debug, Clone, Copy)]
struct Longest {
    works: u16,
    fails: u16,
    silent: bool,
    /// What did not work before a longer one was tried.
    failed_before: Option<u16>,
    /// When a longer one is tried.
    longer: Again,
}

impl Longest {
    fn new(works: u16, fails: u16, silent: bool, now: Duration) -> Self {
        Self { works, fails, silent, failed_before: None, longer: Again::after(Self::soonest(silent), now) }
    }

    /// Half-way between what works and what does not, until the two meet.
    fn limit(self) -> u16 {
        self.works.midpoint(self.fails).max(self.works)
    }

    fn soonest(silent: bool) -> Duration {
        if silent { SOONEST_TIMEOUT } else { SOONEST }
    }

    fn rarest(silent: bool) -> Duration {
        if silent { RAREST_TIMEOUT } else { RAREST }
    }
}

impl Refusals {
    /// What an earlier process has learned; each refused value is tried again soon.
    pub fn remember(&mut self, learned: &Learned, now: Moment) {
        self.generation += 1;
        for &span in &learned.refused {
            // Whether it was ever read is not kept on disk.
            self.spans.insert(span, Refused::new(now.wall, false, now.boot));
        }
        let gaps = Gaps { believed: true, until: now.boot + RAREST };
        self.gaps.extend(learned.gaps.iter().map(|&unit| (unit, gaps)));
        for &Limit { unit, bits, works, fails, silent } in &learned.limits {
            self.longest.insert((unit, bits), Longest::new(works, fails, silent, now.boot));
        }
    }

    /// What the next process should know.
    #[must_use]
    pub fn learned(&self) -> Learned {
        let limit = |(&(unit, bits), &Longest { works, fails, silent, .. }): (&(UnitId, bool), &Longest)| Limit {
            unit,
            bits,
            works,
            fails,
            silent,
        };
        Learned {
            refused: self.spans.keys().copied().collect(),
            gaps: self.gaps.iter().filter(|(_, gaps)| gaps.believed).map(|(&unit, _)| unit).collect(),
            limits: self.longest.iter().map(limit).collect(),
            pause_after_connect: Duration::ZERO,
        }
    }

    /// Forgets what is about nothing that `blocks` ask for; whether there was any.
    pub fn retain<'b>(&mut self, blocks: impl Iterator<Item = &'b Block> + Clone) -> bool {
        let known = (self.spans.len(), self.gaps.len(), self.longest.len());
        if known == (0, 0, 0) {
            return false;
        }
        let units: BTreeSet<UnitId> = blocks.clone().map(|block| block.unit).collect();
        // What is read together or not at all is never searched, so that nothing of it is known as refused.
        let planned: BTreeSet<Span> = blocks.filter(|block| !block.whole).flat_map(Block::spans).collect();
        self.spans.retain(|span, _| planned.contains(span));
        self.gaps.retain(|unit, _| units.contains(unit));
        self.longest.retain(|(unit, _), _| units.contains(unit));
        self.search_backoff.retain(|unit, _| units.contains(unit));
        self.generation += 1;
        known != (self.spans.len(), self.gaps.len(), self.longest.len())
    }

    /// Another number whenever [`substitutes`](Self::substitutes) may say otherwise than before.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The values that are refused, in order.
    #[must_use]
    pub fn spans(&self) -> impl ExactSizeIterator<Item = Span> + '_ {
        self.spans.keys().copied()
    }

    /// By unit and table, since when values are refused and which.
    #[must_use]
    pub fn by_table(&self) -> BTreeMap<(UnitId, Table), (Timestamp, Vec<Span>)> {
        let mut tables: BTreeMap<_, (Timestamp, Vec<Span>)> = BTreeMap::new();
        for (&span, refused) in &self.spans {
            let (since, spans) = tables.entry((span.unit, span.table)).or_insert((refused.since, Vec::new()));
            *since = refused.since.min(*since);
            spans.push(span);
        }
        tables
    }

    /// Whether a value is refused.
    #[must_use]
    pub fn refuses(&self, span: Span) -> bool {
        self.spans.contains_key(&span)
    }

    /// The requests to make instead of `block`; `None`: it itself.
    #[must_use]
    pub fn substitutes(&self, block: &Block) -> Option<Vec<Block>> {
        if block.whole || (self.spans.is_empty() && self.gaps.is_empty() && self.longest.is_empty()) {
            return None;
        }
        let limit = self.limit_of(block.unit, block.table);
        // Gaps are left out whichever of the three holds: `pieces` bridges none.
        let holes = block.spans().iter().any(|&span| self.refuses(span));
        let gaps =
            self.gaps.get(&block.unit).is_some_and(|gaps| gaps.believed) && block.pieces(u16::MAX, |_| true).len() > 1;
        (holes || gaps || block.quantity > limit).then(|| block.pieces(limit, |span| !self.refuses(span)))
    }

    /// What has been believed for long enough is tried again, so that what a device has learned since is found: a longer
    /// request, and one with entries that nobody asked for.
    pub fn widen(&mut self, now: Duration) {
        let mut widened = false;
        if !self.gaps.is_empty() {
            self.gaps.retain(|_, gaps| {
                let over = gaps.until <= now;
                widened |= over;
                let again = over && gaps.believed;
                if again {
                    // Not forgotten while they are tried: if they are refused again, that is no news.
                    *gaps = Gaps { believed: false, until: now + RAREST };
                }
                again || !over
            });
        }
        for longest in self.longest.values_mut().filter(|longest| longest.longer.at <= now) {
            // The first one: when several longer ones were tried, what failed before all of them still holds.
            longest.failed_before = longest.failed_before.or(Some(longest.fails));
            // `limit` is the middle of the two: at least half as long again as what works.
            longest.fails = longest.fails.max(longest.works.saturating_mul(2).saturating_add(1));
            longest.longer = longest.longer.later(now, Longest::rarest(longest.silent));
            widened = true;
        }
        if widened {
            self.generation += 1;
        }
    }

    /// Whether a unit of which nothing else is read may be searched now.
    #[must_use]
    pub fn may_search(&self, unit: UnitId, now: Duration) -> bool {
        self.search_backoff.get(&unit).is_none_or(|again| again.at <= now)
    }

    /// What a search in a block of `unit` has found; `known`: whether its values have been read before. `true` when it
    /// is news.
    pub fn learn(&mut self, unit: UnitId, table: Table, found: &Found, known: bool, now: Moment) -> bool {
        let Moment { wall, boot: now } = now;
        self.generation += 1;
        match found {
            Found::Nothing => {
                let again = self.search_backoff.get(&unit);
                let again = again.map_or(Again::after(SOONEST, now), |again| again.later(now, RAREST));
                self.search_backoff.insert(unit, again);
                false
            }
            Found::Refused(spans) => {
                self.search_backoff.remove(&unit);
                let before = self.spans.len();
                for &span in spans {
                    self.spans.entry(span).or_insert(Refused::new(wall, known, now));
                }
                self.spans.len() > before
            }
            Found::Gaps => self.gaps.insert(unit, Gaps { believed: true, until: now + RAREST }).is_none(),
            Found::TooLong { works, fails } => self.limit(unit, table, *works, *fails, false, now),
        }
    }

    /// A request of `fails` entries was not answered, one of `works` was; `true` when it is news.
    pub fn limit(&mut self, unit: UnitId, table: Table, works: u16, fails: u16, silent: bool, now: Duration) -> bool {
        let key = (unit, table.is_bits());
        let known = self.longest.get(&key).copied();
        // Of a unit without a limit nothing is known but that one entry is the least that can be asked for.
        let before = known.unwrap_or(Longest::new(1, u16::MAX, silent, now));
        // A longer one was tried in vain: as before, without another search.
        let failed_before = before.failed_before.filter(|failed| *failed > before.works);
        let fails = failed_before.unwrap_or(before.fails).min(fails);
        // What once worked may fail now: `works` stays below `fails`, as the file wants it.
        let works = before.works.max(works).min(fails.saturating_sub(1)).max(1);
        self.longest.insert(key, Longest { works, fails, failed_before: None, ..before });
        self.generation += 1;
        known.is_none()
    }

    /// Whether the longest request that a unit answers is known, and a request of `quantity` is longer.
    #[must_use]
    pub fn is_longer_than_works(&self, unit: UnitId, table: Table, quantity: u16) -> bool {
        // Only where silence was the sign: a refusal explains itself.
        self.longest.get(&(unit, table.is_bits())).is_some_and(|longest| longest.silent && longest.works < quantity)
    }

    /// A request of `quantity` entries was read; `true` when that is more than was known to work.
    pub fn read(&mut self, unit: UnitId, table: Table, quantity: u16) -> bool {
        if self.longest.is_empty() {
            return false;
        }
        let key = (unit, table.is_bits());
        let Some(longest) = self.longest.get_mut(&key) else { return false };
        if longest.works >= quantity {
            return false;
        }
        longest.works = quantity;
        // Perhaps it takes still longer ones.
        if longest.failed_before.is_some_and(|failed| failed <= quantity) {
            // Half, because `later` doubles it.
            longest.longer.wait = Longest::soonest(longest.silent) / 2;
        }
        longest.fails = longest.fails.max(quantity.saturating_add(1));
        let most = if table.is_bits() { Limits::MAX_BITS } else { Limits::MAX_REGISTERS };
        // The protocol allows no more, so that there is no limit left to know.
        if quantity >= most {
            self.longest.remove(&key);
        }
        self.generation += 1;
        true
    }

    /// Refused values that are due to be tried, the longest due first.
    #[must_use]
    pub fn due(&self, now: Duration) -> Vec<Span> {
        let mut due: Vec<_> = self
            .spans
            .iter()
            .filter(|(_, refused)| refused.again.at <= now)
            .map(|(&it, of)| (of.again.at, it))
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, span)| span).collect()
    }

    /// A refused value was tried and refused again.
    pub fn refused_again(&mut self, span: Span, now: Duration) {
        if let Some(refused) = self.spans.get_mut(&span) {
            let rarest = if refused.known { RAREST_OF_KNOWN } else { RAREST };
            refused.again = refused.again.later(now, rarest);
        }
    }

    /// A refused value was read.
    pub fn accepted(&mut self, span: Span) {
        self.spans.remove(&span);
        self.generation += 1;
    }

    /// The device, or one unit of it, may be another one than before, or has started anew: everything refused is tried
    /// again at once.
    pub fn try_all_again(&mut self, unit: Option<UnitId>, now: Duration) {
        let concerned = |of: UnitId| unit.is_none_or(|unit| unit == of);
        for (_, refused) in self.spans.iter_mut().filter(|(span, _)| concerned(span.unit)) {
            // Its wait begins anew, too: a device that has just started may refuse once more and answer soon after.
            refused.again = Refused::new(refused.since, refused.known, now).again;
            refused.again.at = now;
        }
        self.search_backoff.retain(|of, _| !concerned(*of));
    }

    /// Whether a limit of a unit is known, by whatever experience.
    #[must_use]
    pub fn has_limit(&self, unit: UnitId, table: Table) -> bool {
        self.longest.contains_key(&(unit, table.is_bits()))
    }

    /// How many entries one request to a unit may have, as far as is known.
    #[must_use]
    pub fn limit_of(&self, unit: UnitId, table: Table) -> u16 {
        self.longest.get(&(unit, table.is_bits())).map_or(u16::MAX, |longest| longest.limit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modbus::format::{Format, Scale};
    use crate::modbus::plan::plan;
    use crate::modbus::register::{Point, Reference};
    use crate::reading::PointId;

    const NOW: Duration = Duration::from_secs(1_000);

    fn moment() -> Moment {
        Moment { wall: Timestamp::from_millis(7), boot: NOW }
    }

    fn block(quantity: u16, gap: u16) -> Block {
        let point = |n: u16| Point {
            id: PointId(n.into()),
            unit: UnitId(1),
            reference: Reference::new(Table::InputRegisters, 30_001 + i64::from(n * (gap + 1))).unwrap(),
            format: Format::Word(Scale::Raw),
            together: None,
        };
        let points: Vec<_> = (0..quantity).map(point).collect();
        plan(&points, Limits::default().with_gap(gap)).remove(0)
    }

    fn span(address: u16) -> Span {
        Span { unit: UnitId(1), table: Table::InputRegisters, address, width: 1 }
    }

    /// Address and quantity of what is asked instead.
    fn instead(refusals: &Refusals, block: &Block) -> Vec<(u16, u16)> {
        let pieces = refusals.substitutes(block);
        pieces.map_or(Vec::new(), |pieces| pieces.iter().map(|it| (it.address, it.quantity)).collect())
    }

    fn learn(refusals: &mut Refusals, found: &Found) -> bool {
        refusals.learn(UnitId(1), Table::InputRegisters, found, false, moment())
    }

    #[test]
    fn what_is_refused_is_left_out_and_the_rest_is_read_around_it() {
        let mut refusals = Refusals::default();
        let block = block(10, 0);
        assert_eq!(instead(&refusals, &block), []);
        assert!(learn(&mut refusals, &Found::Refused(vec![span(0), span(4)])));
        assert!(!learn(&mut refusals, &Found::Refused(vec![span(4)])), "no news");
        assert_eq!(instead(&refusals, &block), [(1, 3), (5, 5)]);
        refusals.accepted(span(0));
        assert_eq!(instead(&refusals, &block), [(0, 4), (5, 5)]);
        refusals.accepted(span(4));
        assert_eq!(instead(&refusals, &block), []);
        let whole = Block { whole: true, ..block };
        refusals.remember(&Learned { refused: vec![span(3)], ..Learned::default() }, moment());
        assert_eq!(instead(&refusals, &whole), [], "together or not at all");
    }

    #[test]
    fn gaps_are_read_no_more_once_they_were_refused() {
        let mut refusals = Refusals::default();
        let block = block(3, 2);
        assert_eq!(instead(&refusals, &block), []);
        assert!(learn(&mut refusals, &Found::Gaps));
        assert!(!learn(&mut refusals, &Found::Gaps));
        assert_eq!(instead(&refusals, &block), [(0, 1), (3, 1), (6, 1)]);
        refusals.widen((NOW + RAREST).saturating_sub(SOONEST));
        assert_eq!(refusals.learned().gaps, [UnitId(1)]);
        refusals.widen(NOW + RAREST);
        assert_eq!(instead(&refusals, &block), [], "perhaps it has learned");
        assert!(!learn(&mut refusals, &Found::Gaps), "no news");
        refusals.widen(NOW + RAREST);
        refusals.widen(NOW + RAREST * 2);
        assert!(learn(&mut refusals, &Found::Gaps), "forgotten after an hour in which it was not refused");
    }

    /// How many polls and refused requests it takes until the limit of a device is known.
    fn converge(refusals: &mut Refusals, block: &Block, device: u16) -> usize {
        let mut failed = 0;
        for _ in 0..20 {
            let asked = instead(refusals, block);
            let quantity = asked.first().map_or(block.quantity, |(_, quantity)| *quantity);
            if quantity <= device {
                let before = refusals.generation();
                refusals.read(UnitId(1), Table::InputRegisters, quantity);
                if refusals.generation() == before {
                    break;
                }
            } else {
                failed += 1;
                learn(refusals, &Found::TooLong { works: 1, fails: quantity });
            }
        }
        failed
    }

    #[test]
    fn the_longest_request_is_found_by_halving_and_a_longer_one_is_tried_ever_more_rarely() {
        for device in [1, 2, 3, 28, 63, 64, 100, 124] {
            let mut refusals = Refusals::default();
            let block = block(125, 0);
            let failed = converge(&mut refusals, &block, device);
            assert!(failed <= 8, "{device}: {failed} refused requests");
            assert_eq!(instead(&refusals, &block)[0], (0, device));
            // It was asked for more than it takes: known to the next process, too.
            let mut next = Refusals::default();
            next.remember(&refusals.learned(), moment());
            assert_eq!(instead(&next, &block)[0], (0, device), "remembered");

            refusals.widen(NOW + SOONEST / 2);
            assert_eq!(instead(&refusals, &block)[0], (0, device), "believed");
            let (mut now, mut failed) = (NOW, 0);
            for _ in 0..24 * 60 {
                now += Duration::from_secs(60);
                refusals.widen(now);
                failed += converge(&mut refusals, &block, device);
                assert_eq!(instead(&refusals, &block)[0], (0, device), "{device}");
            }
            assert!(failed <= 32, "{device}: {failed} requests of a day are refused");
            // It takes everything now: that is found within an hour and a few minutes.
            for _ in 0..70 {
                now += Duration::from_secs(60);
                refusals.widen(now);
                converge(&mut refusals, &block, 125);
            }
            assert_eq!(instead(&refusals, &block), [], "{device}");
            assert!(refusals.learned().is_empty());
        }
    }

    #[test]
    fn a_refused_value_is_tried_ever_more_rarely_and_a_known_one_soon() {
        for (known, soonest, a_day) in [(false, SOONEST, 24..=30), (true, SOONEST_OF_KNOWN, 1_300..=1_450)] {
            let mut refusals = Refusals::default();
            let found = Found::Refused((0..5).map(span).collect());
            refusals.learn(UnitId(1), Table::InputRegisters, &found, known, moment());
            assert_eq!(refusals.due(NOW), []);
            let mut now = NOW + soonest;
            assert_eq!(refusals.due(now).len(), 5);
            for n in 1..5 {
                refusals.accepted(span(n));
            }
            let mut tried = 0;
            for _ in 0..24 * 3_600 {
                if !refusals.due(now).is_empty() {
                    tried += 1;
                    refusals.refused_again(span(0), now);
                }
                now += Duration::from_secs(1);
            }
            assert!(a_day.contains(&tried), "{tried} times a day");
            refusals.try_all_again(None, now);
            assert_eq!(refusals.due(now), [span(0)], "a device that has started anew");
        }
    }

    #[test]
    fn of_two_that_are_due_the_one_that_waits_longer_is_first() {
        let mut refusals = Refusals::default();
        learn(&mut refusals, &Found::Refused(vec![span(0), span(1)]));
        let now = NOW + SOONEST;
        refusals.refused_again(span(0), now);
        assert_eq!(refusals.due(now + RAREST), [span(1), span(0)]);
    }

    #[test]
    fn what_a_new_plan_does_not_ask_for_is_forgotten() {
        let mut refusals = Refusals::default();
        let blocks = [block(10, 0)];
        assert!(!refusals.retain(blocks.iter()));
        let other = Span { unit: UnitId(2), ..span(3) };
        let wide = Span { width: 2, ..span(3) };
        let learned = Learned {
            refused: vec![span(3), wide, span(10), other],
            gaps: vec![UnitId(1), UnitId(2)],
            limits: [1, 2]
                .map(|unit| Limit { unit: UnitId(unit), bits: false, works: 5, fails: 6, silent: false })
                .into(),
            ..Learned::default()
        };
        refusals.remember(&learned, moment());
        assert!(refusals.retain(blocks.iter()));
        assert!(!refusals.retain(blocks.iter()));
        let left = refusals.learned();
        assert_eq!((left.refused, left.gaps, left.limits.len()), (vec![span(3)], vec![UnitId(1)], 1));
        assert!(refusals.retain([].iter()) && refusals.learned().is_empty());
    }

    #[test]
    fn a_unit_of_which_nothing_was_read_is_searched_ever_more_rarely() {
        let mut refusals = Refusals::default();
        assert!(refusals.may_search(UnitId(1), NOW));
        learn(&mut refusals, &Found::Nothing);
        assert!(!refusals.may_search(UnitId(1), NOW + SOONEST / 2));
        assert!(refusals.may_search(UnitId(1), NOW + SOONEST) && refusals.may_search(UnitId(2), NOW));
        learn(&mut refusals, &Found::Nothing);
        assert!(!refusals.may_search(UnitId(1), NOW + SOONEST));
    }
}
