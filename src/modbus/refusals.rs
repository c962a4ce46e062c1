//! What a device is known to refuse, and the requests that are made instead: pure.
//!
//! Owns the memory of one device: values that it refuses, whether it refuses gaps, and the longest request that it
//! takes. A refused value is left out of every request and tried alone now and then, ever more rarely; the others are
//! read as if it were not there. Nothing here is looked at while nothing is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::hunt::Found;
use super::plan::{Block, Spot};
use super::register::{Table, UnitId};
use crate::clock::Moment;
use crate::reading::Timestamp;

/// How soon a refused value is tried again for the first time.
pub const SOONEST: Duration = Duration::from_secs(60);

/// How rarely a refused value is tried at last, and how long a limit is believed that was found by experience.
pub const RAREST: Duration = Duration::from_secs(3_600);

/// So many refused values are tried in one poll.
const PROBES: usize = 2;

/// What is known of one device.
#[derive(Debug, Default)]
pub struct Refusals {
    spots: BTreeMap<Spot, Refused>,
    gaps: bool,
    longest: BTreeMap<(UnitId, bool), Longest>,
    /// Units of which nothing could be read: not searched before.
    barren: BTreeMap<UnitId, Again>,
    /// What is asked instead of a block of the plan, or that it is asked as it is.
    instead: BTreeMap<Request, Option<Pieces>>,
}

/// Unit, table, address and quantity of a request of the plan.
type Request = (UnitId, Table, u16, u16);

/// The requests that are made instead of one of the plan.
type Pieces = Arc<[Block]>;

/// A value that is refused.
#[derive(Debug, Clone, Copy)]
struct Refused {
    since: Timestamp,
    again: Again,
}

/// When something is tried again, on the boot clock.
#[derive(Debug, Clone, Copy)]
struct Again {
    at: Duration,
    wait: Duration,
}

impl Again {
    fn first(now: Duration) -> Self {
        Self { at: now + SOONEST, wait: SOONEST }
    }

    fn later(self, now: Duration) -> Self {
        let wait = (self.wait * 2).min(RAREST);
        Self { at: now + wait, wait }
    }
}

/// How long a request may be, as far as experience tells.
#[derive(Debug, Clone, Copy)]
struct Longest {
    works: u16,
    fails: u16,
    until: Duration,
}

impl Longest {
    /// Half-way between what works and what does not, until the two meet.
    fn limit(self) -> u16 {
        self.works.midpoint(self.fails).max(self.works)
    }
}

impl Refusals {
    /// Values that an earlier process found refused; each is tried again soon.
    pub fn remember(&mut self, spots: impl IntoIterator<Item = Spot>, now: Moment) {
        let refused = Refused { since: now.wall, again: Again::first(now.boot) };
        self.spots.extend(spots.into_iter().map(|spot| (spot, refused)));
        self.instead.clear();
    }

    /// The values that are refused, in order.
    #[must_use]
    pub fn spots(&self) -> impl ExactSizeIterator<Item = Spot> + '_ {
        self.spots.keys().copied()
    }

    /// By unit and table, since when values are refused and which.
    #[must_use]
    pub fn by_table(&self) -> BTreeMap<(UnitId, Table), (Timestamp, Vec<Spot>)> {
        let mut tables: BTreeMap<_, (Timestamp, Vec<Spot>)> = BTreeMap::new();
        for (&spot, refused) in &self.spots {
            let (since, spots) = tables.entry((spot.unit, spot.table)).or_insert((refused.since, Vec::new()));
            *since = refused.since.min(*since);
            spots.push(spot);
        }
        tables
    }

    /// Whether a value is refused.
    #[must_use]
    pub fn refuses(&self, spot: Spot) -> bool {
        self.spots.contains_key(&spot)
    }

    /// The requests to make instead of `block`; `None`: it itself.
    pub fn instead(&mut self, block: &Block, now: Duration) -> Option<Pieces> {
        if block.whole || (self.spots.is_empty() && !self.gaps && self.longest.is_empty()) {
            return None;
        }
        let known = self.longest.len();
        self.longest.retain(|_, longest| now < longest.until);
        if self.longest.len() < known {
            self.instead.clear();
        }
        let place = (block.unit, block.table, block.address, block.quantity);
        if let Some(known) = self.instead.get(&place) {
            return known.clone();
        }
        let limit = self.longest.get(&(block.unit, block.table.is_bits())).map_or(u16::MAX, |longest| longest.limit());
        let spots = block.spots();
        let holes = spots.iter().any(|&spot| self.refuses(spot));
        let gaps = self.gaps && block.pieces(u16::MAX, |_| true).len() > 1;
        let instead = (holes || gaps || block.quantity > limit)
            .then(|| Arc::from(block.pieces(limit, |spot| !self.refuses(spot))));
        self.instead.insert(place, instead.clone());
        instead
    }

    /// Whether a unit of which nothing else is read may be searched now.
    #[must_use]
    pub fn may_search(&self, unit: UnitId, now: Duration) -> bool {
        self.barren.get(&unit).is_none_or(|again| again.at <= now)
    }

    /// What a search in a block of `unit` has found; `true` when it is news.
    pub fn learn(&mut self, unit: UnitId, table: Table, found: &Found, now: Moment) -> bool {
        let Moment { wall, boot: now } = now;
        self.instead.clear();
        match found {
            Found::Nothing => {
                let again = self.barren.get(&unit).map_or(Again::first(now), |again| again.later(now));
                self.barren.insert(unit, again);
                false
            }
            Found::Refused(spots) => {
                self.barren.remove(&unit);
                let known = self.spots.len();
                for &spot in spots {
                    self.spots.entry(spot).or_insert(Refused { since: wall, again: Again::first(now) });
                }
                self.spots.len() > known
            }
            Found::Gaps => !std::mem::replace(&mut self.gaps, true),
            Found::TooLong { works, fails } => {
                let key = (unit, table.is_bits());
                let known = self.longest.get(&key).copied();
                let before = known.unwrap_or(Longest { works: 1, fails: u16::MAX, until: now + RAREST });
                let fails = before.fails.min(*fails);
                let works = before.works.max(*works).min(fails.saturating_sub(1)).max(1);
                self.longest.insert(key, Longest { works, fails, ..before });
                known.is_none()
            }
        }
    }

    /// A request of `quantity` entries was read.
    pub fn read(&mut self, unit: UnitId, table: Table, quantity: u16) {
        if self.longest.is_empty() {
            return;
        }
        if let Some(longest) = self.longest.get_mut(&(unit, table.is_bits()))
            && longest.works < quantity
            && quantity < longest.fails
        {
            longest.works = quantity;
            self.instead.clear();
        }
    }

    /// Refused values among those of `blocks` that are due to be tried, each alone.
    #[must_use]
    pub fn probes<'b>(&self, blocks: &(impl Iterator<Item = &'b Block> + Clone), now: Duration) -> Vec<Block> {
        let due = self.spots.iter().filter(|(_, refused)| refused.again.at <= now).map(|(&spot, _)| spot);
        due.filter_map(|spot| {
            let at_hand = |block: &&Block| {
                !block.whole && (block.unit, block.table) == (spot.unit, spot.table) && block.spots().contains(&spot)
            };
            let block = blocks.clone().find(at_hand)?;
            block.pieces(u16::MAX, |other| other == spot).into_iter().next()
        })
        .take(PROBES)
        .collect()
    }

    /// A refused value was tried and refused again.
    pub fn refused_again(&mut self, spot: Spot, now: Duration) {
        if let Some(refused) = self.spots.get_mut(&spot) {
            refused.again = refused.again.later(now);
        }
    }

    /// A refused value was read.
    pub fn accepted(&mut self, spot: Spot) {
        self.spots.remove(&spot);
        self.instead.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modbus::format::{Format, Scale};
    use crate::modbus::plan::{Limits, plan};
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

    fn spot(address: u16) -> Spot {
        Spot { unit: UnitId(1), table: Table::InputRegisters, address, width: 1 }
    }

    /// Address and quantity of what is asked instead.
    fn instead(refusals: &mut Refusals, block: &Block, now: Duration) -> Vec<(u16, u16)> {
        let pieces = refusals.instead(block, now);
        pieces.map_or(Vec::new(), |pieces| pieces.iter().map(|it| (it.address, it.quantity)).collect())
    }

    fn learn(refusals: &mut Refusals, found: &Found) -> bool {
        refusals.learn(UnitId(1), Table::InputRegisters, found, moment())
    }

    #[test]
    fn what_is_refused_is_left_out_and_the_rest_is_read_around_it() {
        let mut refusals = Refusals::default();
        let block = block(10, 0);
        assert_eq!(instead(&mut refusals, &block, NOW), []);
        assert!(learn(&mut refusals, &Found::Refused(vec![spot(0), spot(4)])));
        assert!(!learn(&mut refusals, &Found::Refused(vec![spot(4)])), "no news");
        assert_eq!(instead(&mut refusals, &block, NOW), [(1, 3), (5, 5)]);
        refusals.accepted(spot(0));
        assert_eq!(instead(&mut refusals, &block, NOW), [(0, 4), (5, 5)]);
        refusals.accepted(spot(4));
        assert_eq!(instead(&mut refusals, &block, NOW), []);
        let whole = Block { whole: true, ..block };
        refusals.remember([spot(3)], moment());
        assert_eq!(instead(&mut refusals, &whole, NOW), [], "together or not at all");
    }

    #[test]
    fn gaps_are_read_no_more_once_they_were_refused() {
        let mut refusals = Refusals::default();
        let block = block(3, 2);
        assert_eq!(instead(&mut refusals, &block, NOW), []);
        assert!(learn(&mut refusals, &Found::Gaps));
        assert!(!learn(&mut refusals, &Found::Gaps));
        assert_eq!(instead(&mut refusals, &block, NOW), [(0, 1), (3, 1), (6, 1)]);
    }

    #[test]
    fn the_longest_request_is_found_by_halving_and_tried_anew_after_an_hour() {
        let mut refusals = Refusals::default();
        let block = block(125, 0);
        let device = 77;
        for poll in 0..20 {
            let asked = instead(&mut refusals, &block, NOW);
            let asked = if asked.is_empty() { vec![(0, 125)] } else { asked };
            let quantity = asked[0].1;
            if quantity <= device {
                refusals.read(UnitId(1), Table::InputRegisters, quantity);
            } else {
                let news = learn(&mut refusals, &Found::TooLong { works: quantity / 2, fails: quantity });
                assert_eq!(news, poll == 0);
            }
        }
        assert_eq!(instead(&mut refusals, &block, NOW), [(0, 77), (77, 48)]);
        assert_eq!(instead(&mut refusals, &block, NOW + RAREST), [], "perhaps it has learned");
    }

    #[test]
    fn a_refused_value_is_tried_alone_ever_more_rarely() {
        let mut refusals = Refusals::default();
        let blocks = [block(10, 0)];
        learn(&mut refusals, &Found::Refused((0..5).map(spot).collect()));
        assert_eq!(refusals.probes(&blocks.iter(), NOW), []);
        let mut now = NOW + SOONEST;
        let probes = refusals.probes(&blocks.iter(), now);
        assert_eq!(probes.iter().map(|it| (it.address, it.quantity)).collect::<Vec<_>>(), [(0, 1), (1, 1)]);
        for n in 1..5 {
            refusals.accepted(spot(n));
        }
        let mut tried = 0;
        for _ in 0..24 * 60 {
            if !refusals.probes(&blocks.iter(), now).is_empty() {
                tried += 1;
                refusals.refused_again(spot(0), now);
            }
            now += Duration::from_secs(60);
        }
        assert!((24..=30).contains(&tried), "{tried} times a day");
        assert_eq!(refusals.probes(&[].iter(), now + RAREST), [], "what is not configured is not tried");
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
