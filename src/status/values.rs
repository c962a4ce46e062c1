//! The last value of each point of a device, why it has none, and how it went over the last hour. Pure.
//!
//! Written once a poll by the device, read by whoever looks at the page or asks for `status.json`. The last value costs 24
//! bytes a point. The hour costs no more than [`MOST_BYTES`] for all devices together: the more points there are, the
//! fewer samples each has, and with more than 69,905 of them there is none ([`Budget`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::reading::points::{Kind, Point, PointTable};
use crate::reading::{PointId, Reading, Value};

/// What is kept for plots.
pub const HOUR: Duration = Duration::from_secs(3_600);

/// What plots of all devices may take of memory.
pub const MOST_BYTES: usize = 8 << 20;

/// Samples of a point in an hour: one each twenty seconds.
const MOST_SAMPLES: usize = 180;

/// With fewer, one each two minutes, a plot says nothing.
const LEAST_SAMPLES: usize = 30;

/// How much memory plots may take, and how much of it is taken.
#[derive(Debug, Default)]
pub struct Budget {
    /// Points of all devices; 0 while nobody could look at plots.
    points: AtomicUsize,
    /// Samples for which there is memory already.
    taken: AtomicUsize,
}

impl Budget {
    /// So many points there are in all, and somebody may look at their plots. Until then, none are kept.
    pub fn expect(&self, points: usize) {
        self.points.store(points, Ordering::Relaxed);
    }

    /// There are so many points from now on. What is kept of those before stays.
    pub fn changed(&self, points: usize) {
        self.points.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| (before > 0).then_some(points)).ok();
    }

    /// How many samples each of `points` of one device may have; they are taken.
    fn take(&self, points: usize) -> usize {
        let all = self.points.load(Ordering::Relaxed).max(points);
        if points == 0 || self.points.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let most = MOST_BYTES / size_of::<f32>();
        let mut samples = 0;
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            // An equal part of all, but no more than is left: after a reload others may hold more than theirs. Another
            // thread may make this run again; the last run is what was taken.
            samples = MOST_SAMPLES.min(most / all).min(most.saturating_sub(taken) / points);
            (samples >= LEAST_SAMPLES).then(|| taken + samples * points)
        });
        if taken.is_ok() { samples } else { 0 }
    }

    fn give_back(&self, samples: usize) {
        self.taken.fetch_sub(samples, Ordering::Relaxed);
    }
}

/// The points of one device.
#[derive(Debug, Default)]
pub struct Values {
    table: Option<Arc<PointTable>>,
    /// Its points, sorted; what follows is in this order.
    ids: Vec<PointId>,
    /// When each was read last, in time since boot, and as what.
    last: Vec<Option<(Duration, Value)>>,
    /// Why those that could not be read when they were last due were not.
    why: BTreeMap<PointId, Arc<str>>,
    hour: Hour,
}

/// A point as it is now.
#[derive(Debug)]
pub struct PointNow<'a> {
    /// What it is.
    pub point: Point<'a>,
    /// When it was read last, in time since boot, and as what.
    pub last: Option<(Duration, Value)>,
    /// Why it could not be read when it was last due; `None` when it was.
    pub why: Option<&'a str>,
    /// Its samples of the last hour, the oldest first; none when none are kept.
    pub samples: Vec<Option<f32>>,
}

impl Values {
    /// From now on these are its points; those that it has had before keep what is known of them.
    pub fn assign(&mut self, table: Arc<PointTable>, ids: impl Iterator<Item = PointId>, budget: &Arc<Budget>) {
        let mut ids: Vec<_> = ids.collect();
        ids.sort_unstable();
        ids.dedup();
        let before = self.table.take();
        let of_before = |(place, id): (usize, &PointId)| Some((identity(before.as_ref()?.get(*id)?), place));
        let known: HashMap<_, _> = self.ids.iter().enumerate().filter_map(of_before).collect();
        let from: Vec<Option<usize>> = ids.iter().map(|id| known.get(&identity(table.get(*id)?)).copied()).collect();
        let mut why = BTreeMap::new();
        for (id, from) in ids.iter().zip(&from) {
            let text = from.and_then(|from| self.why.get(self.ids.get(from)?));
            why.extend(text.map(|text| (*id, Arc::clone(text))));
        }
        self.last = from.iter().map(|from| self.last.get((*from)?).copied().flatten()).collect();
        self.hour = std::mem::take(&mut self.hour).moved(&from, budget);
        (self.table, self.ids, self.why) = (Some(table), ids, why);
    }

    /// A poll has ended, `now` after boot; `why` says it of the points that it could not read.
    pub fn polled(&mut self, readings: &[Reading], why: impl Iterator<Item = (PointId, Arc<str>)>, now: Duration) {
        // First all reasons: a point that another request has read loses its reason again below.
        self.why.extend(why);
        let row = self.hour.row(now);
        for reading in readings {
            let Some(place) = self.place(reading.point) else { continue };
            self.last[place] = Some((now, reading.value));
            if let Some(sample) = row.and_then(|row| self.hour.samples.get_mut(row + place)) {
                #[allow(clippy::cast_possible_truncation, reason = "for a plot of a hundred pixels")]
                let value = reading.value.as_f64() as f32;
                *sample = value;
            }
            // Nearly always it is, and then no reading costs a look-up.
            if !self.why.is_empty() {
                self.why.remove(&reading.point);
            }
        }
    }

    /// Most devices have their points one after the other.
    fn place(&self, id: PointId) -> Option<usize> {
        let first = self.ids.first()?.index();
        let place = id.index().checked_sub(first)?;
        if self.ids.get(place) == Some(&id) {
            return Some(place);
        }
        self.ids.binary_search(&id).ok()
    }

    /// How many points it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The time between two samples; `None` when none are kept.
    #[must_use]
    pub fn sampled_every(&self) -> Option<Duration> {
        self.hour.every()
    }

    /// Each point as it is `now` after boot, in the order of the configuration; with its samples if `sampled`.
    pub fn points(&self, sampled: bool, now: Duration) -> impl Iterator<Item = PointNow<'_>> {
        self.ids.iter().zip(&self.last).enumerate().filter_map(move |(place, (id, last))| {
            Some(PointNow {
                point: self.table.as_ref()?.get(*id)?,
                last: *last,
                why: self.why.get(id).map(|why| &**why),
                samples: if sampled { self.hour.of(place, now) } else { Vec::new() },
            })
        })
    }
}

/// What a point stays the same by. Not by its id, which is a place in one configuration: after a reload it may have another. One
/// register may be two points of one key, as an integer and as a float or under two spellings of the device.
fn identity(point: Point<'_>) -> (&str, u8, &str, Kind) {
    (&point.device.device, point.device.unit, &point.register.key, point.register.kind)
}

/// Samples of the last hour.
#[derive(Debug, Default)]
struct Hour {
    /// What its memory counts towards.
    budget: Option<Arc<Budget>>,
    points: usize,
    /// How many rows there are; none when nothing is kept.
    rows: usize,
    /// One row a sample, one column a point; the row of a moment is its number, counted from the boot, modulo the rows.
    samples: Vec<f32>,
    /// The number of the newest row, once there is one.
    newest: Option<u128>,
}

impl Hour {
    fn new(points: usize, budget: &Arc<Budget>) -> Self {
        let rows = budget.take(points);
        // NaN is no sample: no reading is one, and an Option would take twice the memory.
        Self { budget: Some(Arc::clone(budget)), points, rows, samples: vec![f32::NAN; rows * points], newest: None }
    }

    /// The same for points of which each was at the place that `from` says.
    fn moved(mut self, from: &[Option<usize>], budget: &Arc<Budget>) -> Self {
        let is_same = from.iter().enumerate().all(|(place, from)| *from == Some(place));
        // Without rows it is tried again: another device may have given memory back.
        if is_same && from.len() == self.points && self.rows > 0 {
            return self;
        }
        // First, so that there is room for the new ones.
        self.give_back();
        let mut hour = Self::new(from.len(), budget);
        // Other steps: what the old rows hold is of other moments.
        if hour.rows != self.rows {
            return hour;
        }
        hour.newest = self.newest;
        for row in 0..self.rows {
            for (place, from) in from.iter().enumerate() {
                let sample = from.and_then(|from| self.samples.get(row * self.points + from));
                if let (Some(to), Some(sample)) = (hour.samples.get_mut(row * hour.points + place), sample) {
                    *to = *sample;
                }
            }
        }
        hour
    }

    fn every(&self) -> Option<Duration> {
        let rows = u32::try_from(self.rows).ok().filter(|rows| *rows > 0)?;
        Some(HOUR / rows)
    }

    fn number(&self, now: Duration) -> Option<u128> {
        Some(now.as_millis() / self.every()?.as_millis().max(1))
    }

    /// Where the row of this moment begins, which is empty unless it has been begun before.
    fn row(&mut self, now: Duration) -> Option<usize> {
        let number = self.number(now)?;
        let begin = |number: u128| usize::try_from(number % self.rows as u128).unwrap_or(0) * self.points;
        // Every row in between is of the hour before.
        // Before the first row all are emptied. Below, `number + 1` bounds it soon after the boot, when fewer have
        // passed.
        let between = self.newest.map_or(u128::MAX, |newest| number.saturating_sub(newest)).min(self.rows as u128);
        for number in number + 1 - between.min(number + 1)..=number {
            if Some(number) > self.newest {
                let begin = begin(number);
                self.samples[begin..begin + self.points].fill(f32::NAN);
            }
        }
        self.newest = self.newest.max(Some(number));
        Some(begin(number))
    }

    /// The samples of the point at `place`, the oldest first, up to this moment.
    fn of(&self, place: usize, now: Duration) -> Vec<Option<f32>> {
        let Some((number, newest)) = self.number(now).zip(self.newest) else { return Vec::new() };
        let sample = |ago: usize| {
            let number = number.checked_sub(ago as u128).filter(|number| *number <= newest)?;
            // A row that was not begun since is older than an hour.
            (newest - number < self.rows as u128).then_some(())?;
            let row = usize::try_from(number % self.rows as u128).ok()?;
            self.samples.get(row * self.points + place).copied().filter(|sample| sample.is_finite())
        };
        (0..self.rows).rev().map(sample).collect()
    }

    fn give_back(&mut self) {
        // Taken, because Drop comes here once more.
        if let Some(budget) = self.budget.take() {
            budget.give_back(self.samples.len());
        }
    }
}

impl Drop for Hour {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Timestamp;
    use crate::reading::points::{Builder, Device, Register};

    fn table(keys: &[&str]) -> Arc<PointTable> {
        let mut builder = Builder::new("", "", Duration::from_secs(1));
        for key in keys {
            builder.push(&Device::new("meter", 1, "group", 1_000), &Register::new(key, "coil", 1, Kind::Integer));
        }
        Arc::new(builder.build())
    }

    fn ids(count: u32) -> impl Iterator<Item = PointId> {
        (0..count).map(PointId)
    }

    fn reading(point: u32, value: i64) -> Reading {
        Reading { point: PointId(point), at: Timestamp::default(), value: Value::Integer(value) }
    }

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn budget(points: usize) -> Arc<Budget> {
        let budget = Arc::<Budget>::default();
        budget.expect(points);
        budget
    }

    fn why(point: u32, why: &str) -> impl Iterator<Item = (PointId, Arc<str>)> {
        std::iter::once((PointId(point), Arc::from(why)))
    }

    #[test]
    fn a_point_has_its_last_value_and_why_it_has_no_newer_one() {
        let mut values = Values::default();
        values.assign(table(&["a", "b"]), ids(2), &budget(2));
        values.polled(&[reading(0, 7)], why(1, "refused"), second(100));
        values.polled(&[], why(0, "silent"), second(110));
        let now: Vec<_> = values.points(false, second(110)).map(|now| (now.last, now.why)).collect();
        assert_eq!(now, [(Some((second(100), Value::Integer(7))), Some("silent")), (None, Some("refused"))]);
        values.polled(&[reading(0, 8), reading(1, 9)], std::iter::empty(), second(120));
        assert!(values.points(false, second(120)).all(|now| now.why.is_none() && now.last.is_some()));
    }

    #[test]
    fn the_hour_goes_on_and_what_is_older_is_gone() {
        let mut values = Values::default();
        values.assign(table(&["a"]), ids(1), &budget(1));
        assert_eq!(values.sampled_every(), Some(second(20)));
        let samples = |values: &Values, now: u64| values.points(true, second(now)).next().unwrap().samples;
        assert!(samples(&values, 5).is_empty());
        for poll in 0..10 {
            values.polled(&[reading(0, poll)], std::iter::empty(), second(poll.unsigned_abs() * 10));
        }
        let at_100 = samples(&values, 100);
        assert_eq!(at_100.len(), 180);
        // The last of each twenty seconds; nothing yet in the newest.
        assert_eq!(at_100[174..], [Some(1.0), Some(3.0), Some(5.0), Some(7.0), Some(9.0), None]);
        assert!(at_100[..174].iter().all(Option::is_none));
        values.polled(&[reading(0, 99)], std::iter::empty(), second(3_640));
        let later = samples(&values, 3_640);
        assert_eq!((later[0], later[1], later[2], later[179]), (Some(7.0), Some(9.0), None, Some(99.0)));
        assert_eq!(later.iter().flatten().count(), 3);
        assert!(samples(&values, 100_000).iter().all(Option::is_none));
        values.polled(&[reading(0, 1)], std::iter::empty(), second(100_000));
        assert_eq!(samples(&values, 100_000).iter().flatten().count(), 1);
    }

    #[test]
    fn a_reload_moves_what_is_known_to_where_its_point_is() {
        let (mut values, budget) = (Values::default(), budget(3));
        values.assign(table(&["a", "b"]), ids(2), &budget);
        values.polled(&[reading(0, 1)], why(1, "refused"), second(10));
        values.assign(table(&["c", "b", "a"]), ids(3), &budget);
        let now: Vec<_> = values.points(true, second(10)).collect();
        assert_eq!((now[0].last, now[0].why), (None, None));
        assert_eq!((now[1].last, now[1].why), (None, Some("refused")));
        assert_eq!(now[2].last, Some((second(10), Value::Integer(1))));
        assert_eq!((now[2].samples[179], now[0].samples[179]), (Some(1.0), None));
    }

    /// One register read as two types, and one device under two spellings: they have one key and are two points.
    #[test]
    fn a_reload_mixes_up_no_points_of_one_key() {
        let table = |spelling: &str| {
            let mut builder = Builder::new("", "", Duration::from_secs(1));
            for (device, kind) in [("meter", Kind::Integer), ("meter", Kind::Float), ("meter:502", Kind::Integer)] {
                builder.push(&Device::new(device, 1, spelling, 1_000), &Register::new("a", "coil", 1, kind));
            }
            Arc::new(builder.build())
        };
        let (mut values, budget) = (Values::default(), budget(3));
        values.assign(table("before"), ids(3), &budget);
        values.polled(&[reading(0, 10), reading(1, 11), reading(2, 12)], std::iter::empty(), second(10));
        values.assign(table("after"), ids(3), &budget);
        let now: Vec<_> = values.points(true, second(10)).map(|now| (now.last.unwrap().1, now.samples[179])).collect();
        let expected = |value: i64, sample: f32| (Value::Integer(value), Some(sample));
        assert_eq!(now, [expected(10, 10.0), expected(11, 11.0), expected(12, 12.0)]);
    }

    #[test]
    fn plots_of_all_devices_never_take_more_than_their_budget() {
        for (points, each, expected) in
            [(10, 10, 180), (11_650, 50, 180), (23_000, 100, 91), (69_000, 1_000, 30), (70_000, 1_000, 0), (0, 10, 0)]
        {
            let budget = budget(points);
            let devices: Vec<_> = (0..points.max(10) / each).map(|_| Hour::new(each, &budget)).collect();
            assert!(devices.iter().all(|device| device.rows == expected), "{points}");
            assert!(budget.taken.load(Ordering::Relaxed) * size_of::<f32>() <= MOST_BYTES);
            // More than was expected: what there is suffices no more.
            let more: Vec<_> = (0..2_000).map(|_| Hour::new(100, &budget)).collect();
            assert!(budget.taken.load(Ordering::Relaxed) * size_of::<f32>() <= MOST_BYTES);
            drop((devices, more));
            assert_eq!(budget.taken.load(Ordering::Relaxed), 0);
        }
    }
}
