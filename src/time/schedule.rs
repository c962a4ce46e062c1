//! When a cycle is polled: at once after the start, then on the wall-clock grid of its interval.
//!
//! Every device has a fixed phase within min(interval, 10 s), taken from a hash of its name, so that a
//! thousand devices do not answer in the same instant and yet keep the same instant on each run. Phases
//! are multiples of [`SLOT`]: a wake-up costs more than a request, so devices share them.
//!
//! Pure: told `now`, it says how long to wait. The grid is the wall clock's, but time passes by the clock
//! that nobody sets: an [`Anchor`] says how far the two are apart, and follows a step of the wall clock only
//! when it has kept its word for a minute. So a clock that is stepped, frozen or far too fast costs no poll
//! and adds none. Ticks that pass while a poll runs are skipped, never queued, and counted as overruns when the poll is
//! why they were missed: a poll that began at its tick overran every one that passed. One that began at another moment
//! (the first one, one that is repeated after an outage, one after a suspend) takes the place of the tick that follows,
//! so that it overran as many as it lasted whole intervals.

use std::time::Duration;

use crate::reading::{Timestamp, millis};
use crate::time::clock::Moment;

/// Phases are multiples of this.
pub const SLOT: Duration = Duration::from_millis(50);

/// No phase is longer than this, however long the interval.
pub const MAX_PHASE: Duration = Duration::from_secs(10);

/// A timer may fire so much before the tick it was armed for.
const EARLY: Duration = Duration::from_millis(20);

/// The wall clock has stepped when it is this far from where it was expected.
const STEP: i64 = 1_000;

/// A step is followed when the wall clock has gone on from it for this long.
const STEADY: Duration = Duration::from_secs(60);

/// The instants `phase + k × interval` of wall-clock time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    interval: u64,
    phase: u64,
}

impl Grid {
    /// The grid of `interval` with the phase that belongs to `name`.
    #[must_use]
    pub fn new(interval: Duration, name: &str) -> Self {
        let interval = millis(interval).max(1);
        let slots = interval.min(millis(MAX_PHASE)) / millis(SLOT);
        // An interval shorter than a slot has no room for a phase.
        let phase = if slots == 0 { 0 } else { fnv1a(name) % slots * millis(SLOT) };
        Self { interval, phase }
    }

    /// The first instant of the grid that is later than `now`.
    #[must_use]
    pub fn next_after(self, now: Timestamp) -> Timestamp {
        // The interval is added first, for `now` may be less than the phase.
        let into = (now.as_millis() + self.interval - self.phase) % self.interval;
        Timestamp::from_millis(now.as_millis() + self.interval - into)
    }

    /// How many instants of the grid lie in (`after`, `until`].
    #[must_use]
    pub fn ticks_between(self, after: Timestamp, until: Timestamp) -> u64 {
        let first = self.next_after(after);
        if until < first { 0 } else { (until.as_millis() - first.as_millis()) / self.interval + 1 }
    }
}

/// How far the wall clock is ahead of the time since boot, as far as polling believes it.
#[derive(Debug, Clone, Copy)]
pub struct Anchor {
    /// In milliseconds; what polling goes by.
    ahead: i64,
    /// What the wall clock has shown last, and since when.
    shown: (i64, Duration),
}

impl Anchor {
    /// Believes the wall clock.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        Self { ahead: ahead(now), shown: (ahead(now), now.boot) }
    }

    /// Looks at the clocks again.
    pub fn follow(&mut self, now: Moment) {
        let (shown, since) = self.shown;
        if ahead(now).abs_diff(shown) >= STEP.unsigned_abs() {
            // It has moved again, so that its minute begins anew.
            self.shown = (ahead(now), now.boot);
        } else if now.boot.saturating_sub(since) >= STEADY {
            self.ahead = shown;
        }
    }

    /// How long after this time since boot the next slot begins: never nothing, at most [`SLOT`].
    #[must_use]
    pub fn until_slot(self, boot: Duration) -> Duration {
        let into = Duration::from_millis(self.on_grid(boot).as_millis() % millis(SLOT));
        // To the whole millisecond at which the polls of that slot are due.
        SLOT.saturating_sub(into).saturating_sub(boot.saturating_sub(Duration::from_millis(millis(boot))))
    }

    /// The time on the grid's clock at this time since boot.
    fn on_grid(self, boot: Duration) -> Timestamp {
        let boot = i64::try_from(boot.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(u64::try_from(boot.saturating_add(self.ahead)).unwrap_or(0))
    }
}

fn ahead(Moment { wall, boot }: Moment) -> i64 {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    signed(wall.as_millis()) - signed(millis(boot))
}

/// One cycle's place in time: waiting for a tick, or polling since one. Its times are since boot.
#[derive(Debug, Clone)]
pub struct Schedule {
    grid: Grid,
    due: Option<Duration>,
    /// When the poll began.
    base: Duration,
    /// Whether it began at its tick.
    on_grid: bool,
}

impl Schedule {
    /// Due at once.
    #[must_use]
    pub fn new(grid: Grid) -> Self {
        Self { grid, due: None, base: Duration::ZERO, on_grid: false }
    }

    /// How long to wait for the next poll: at most one interval.
    #[must_use]
    pub fn wait(&self, now: Duration) -> Duration {
        self.due.map_or(Duration::ZERO, |due| due.saturating_sub(now))
    }

    /// A poll begins at `now`.
    pub fn begin(&mut self, now: Duration) {
        let interval = Duration::from_millis(self.grid.interval);
        // Half of a very short interval at most: a poll that is repeated must not pass for that of the next tick.
        let early = EARLY.min(interval / 2);
        (self.base, self.on_grid) = match self.due {
            // That tick must not come again.
            Some(due) if due > now && due.saturating_sub(now) <= early => (due, true),
            // A poll without an answer is repeated; its next tick is still to come.
            Some(due) if due > now => (now, false),
            // However late other polls of the device have made it: the tick is this poll's.
            Some(due) => (now, now.saturating_sub(due) < interval),
            None => (now, false),
        };
    }

    /// Another poll of the device has ended at `now`: how many ticks passed meanwhile without a poll, besides the one
    /// that is polled now.
    #[must_use]
    pub fn kept_waiting(&self, now: Duration, anchor: Anchor) -> u64 {
        self.due
            .filter(|due| *due <= now)
            .map_or(0, |due| self.grid.ticks_between(anchor.on_grid(due), anchor.on_grid(now)))
    }

    /// The poll that began last ended at `now`: arms the next tick, returns how many ticks it overran.
    pub fn finish(&mut self, now: Duration, anchor: Anchor) -> u64 {
        let now = now.max(self.base);
        let (began, ended) = (anchor.on_grid(self.base), anchor.on_grid(now));
        // Whole milliseconds, so that nothing comes before its tick.
        let whole = Duration::from_millis(millis(now));
        self.due = Some(whole + self.grid.next_after(ended).since(ended));
        if self.on_grid {
            self.grid.ticks_between(began, ended)
        } else {
            (ended.as_millis() - began.as_millis()) / self.grid.interval
        }
    }
}

/// FNV-1a, 64 bits: the same on every run and every machine, unlike the standard library's hashers.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn grid(interval: u64, phase: u64) -> Grid {
        Grid { interval, phase }
    }

    #[test]
    fn the_next_tick_is_the_first_grid_instant_after_now() {
        let cases = [
            (1_000, 0, 0, 1_000),
            (1_000, 0, 999, 1_000),
            (1_000, 0, 1_000, 2_000),
            (1_000, 250, 1_000, 1_250),
            (1_000, 250, 1_249, 1_250),
            (1_000, 250, 1_250, 2_250),
            (300_000, 9_950, 1_700_000_000_123, 1_700_000_109_950),
        ];
        for (interval, phase, now, next) in cases {
            assert_eq!(grid(interval, phase).next_after(at(now)), at(next), "{interval}+{phase} after {now}");
        }
    }

    #[test]
    fn phases_are_fixed_slots_within_the_interval_and_ten_seconds() {
        for interval in [20, 50, 200, 1_000, 10_000, 300_000] {
            for name in ["a", "192.0.2.20:1502", "meter.example.net"] {
                let grid = Grid::new(Duration::from_millis(interval), name);
                assert_eq!(grid, Grid::new(Duration::from_millis(interval), name));
                assert_eq!(grid.phase % 50, 0);
                assert!(grid.phase < interval.clamp(1, 10_000), "{name} {interval} {}", grid.phase);
            }
        }
        let spread: std::collections::BTreeSet<_> =
            (0..1000).map(|n| Grid::new(Duration::from_secs(10), &format!("device-{n}")).phase).collect();
        assert!(spread.len() > 150, "only {} of 200 slots are used", spread.len());
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// A schedule every second, and a wall clock that shows the time since boot.
    fn each_second() -> (Schedule, Anchor) {
        (Schedule::new(grid(1_000, 0)), Anchor::new(moment(0, 0)))
    }

    fn moment(wall: u64, boot: u64) -> Moment {
        Moment { wall: at(wall), boot: ms(boot) }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_slot_begins_with_the_polls_of_its_phase() {
        let anchor = Anchor::new(moment(7_020, 0));
        // (time since boot in µs, until the next slot in µs)
        for (boot, until) in [(0, 30_000), (29_000, 1_000), (29_999, 1), (30_000, 50_000), (30_700, 49_300)] {
            let boot = Duration::from_micros(boot);
            assert_eq!(anchor.until_slot(boot), Duration::from_micros(until), "{boot:?}");
            let next = (7_020 + millis(boot) + 1).next_multiple_of(50);
            let mut schedule = Schedule::new(grid(1_000, next % 1_000));
            schedule.begin(boot);
            schedule.finish(boot, anchor);
            assert_eq!(schedule.wait(boot), anchor.until_slot(boot), "{boot:?}");
        }
    }

    #[test]
    fn the_first_poll_is_due_at_once_and_then_each_tick_once() {
        let (mut schedule, anchor) = each_second();
        assert_eq!(schedule.wait(ms(1_234)), Duration::ZERO);
        schedule.begin(ms(1_234));
        assert_eq!(schedule.finish(ms(1_300), anchor), 0);
        assert_eq!(schedule.wait(ms(1_300)), ms(700));
    }

    #[test]
    fn a_timer_that_fires_early_does_not_poll_a_tick_twice() {
        let (mut schedule, anchor) = each_second();
        schedule.begin(ms(1_500));
        schedule.finish(ms(1_510), anchor);
        schedule.begin(ms(1_998));
        assert_eq!(schedule.finish(ms(1_999), anchor), 0);
        assert_eq!(schedule.wait(ms(1_999)), ms(1_001));
    }

    #[test]
    fn a_long_poll_skips_and_counts_the_ticks_it_overran() {
        let (mut schedule, anchor) = each_second();
        schedule.begin(ms(1_000));
        assert_eq!(schedule.finish(ms(4_200), anchor), 3);
        assert_eq!(schedule.due, Some(ms(5_000)));
    }

    /// A tick is overrun only by a poll that took longer than the interval, counted from its own tick if it has one.
    #[test]
    fn ticks_that_pass_are_overruns_only_of_polls_that_were_too_long() {
        // Polls (from, until) of a schedule every second, how many ticks the last one overran, when the next is due.
        type Case<'a> = (&'a str, &'a [(u64, u64)], u64, u64);
        let cases: [Case<'_>; 13] = [
            ("a first poll before a tick", &[(1_234, 1_300)], 0, 2_000),
            ("a first poll across a tick", &[(1_900, 2_620)], 0, 3_000),
            ("a first poll that ends at a tick", &[(1_900, 2_000)], 0, 3_000),
            ("a first poll that ends just before a tick", &[(1_100, 1_999)], 0, 2_000),
            ("a first poll of one interval less a bit", &[(1_001, 2_000)], 0, 3_000),
            ("a first poll of more than an interval", &[(1_234, 2_500)], 1, 3_000),
            ("a first poll of more than three", &[(1_234, 4_500)], 3, 5_000),
            ("a poll at its tick", &[(500, 600), (1_000, 1_999)], 0, 2_000),
            ("a poll at its tick for one interval", &[(500, 600), (1_000, 2_000)], 1, 3_000),
            ("a poll that began late, across a tick", &[(500, 600), (1_400, 2_100)], 1, 3_000),
            ("a repeated poll across a tick", &[(500, 600), (1_000, 1_100), (1_600, 2_300)], 0, 3_000),
            ("a repeated poll just before a tick", &[(500, 600), (1_000, 1_100), (1_700, 1_800)], 0, 2_000),
            ("a poll after a suspend, across a tick", &[(500, 600), (9_600, 10_200)], 0, 11_000),
        ];
        for (what, polls, overran, due) in cases {
            let (mut schedule, anchor) = each_second();
            let mut last = 0;
            for &(from, until) in polls {
                schedule.begin(ms(from));
                last = schedule.finish(ms(until), anchor);
            }
            assert_eq!((last, schedule.due), (overran, Some(ms(due))), "{what}");
        }
    }

    #[test]
    fn ticks_that_pass_while_another_cycle_is_polled_are_counted_but_for_the_one_that_is_polled_late() {
        let (mut schedule, anchor) = each_second();
        schedule.begin(ms(1_000));
        schedule.finish(ms(1_100), anchor);
        for (now, waiting) in [(1_900, 0), (2_000, 0), (2_999, 0), (3_000, 1), (5_500, 3)] {
            assert_eq!(schedule.kept_waiting(ms(now), anchor), waiting, "{now}");
        }
    }

    #[test]
    fn c11_after_eight_hours_of_sleep_one_poll_comes_at_once_and_the_next_on_the_grid() {
        let (mut schedule, anchor) = each_second();
        schedule.begin(ms(1_000));
        schedule.finish(ms(1_050), anchor);
        let woken = ms(8 * 3_600_000 + 1_300);
        assert_eq!(schedule.wait(woken), Duration::ZERO);
        schedule.begin(woken);
        assert_eq!(schedule.finish(woken + ms(50), anchor), 0, "what was slept through is no overrun");
        assert_eq!(schedule.wait(woken + ms(50)), ms(650));
    }

    /// The times since boot at which a schedule polls in ten minutes, by this wall clock.
    fn polls(interval: u64, wall: impl Fn(u64) -> u64) -> Vec<u64> {
        let look = |boot: u64| moment(wall(boot), boot);
        let (mut schedule, mut anchor) = (Schedule::new(grid(interval, 0)), Anchor::new(look(500)));
        let (mut now, mut polls) = (500, Vec::new());
        while now < 600_000 {
            schedule.begin(ms(now));
            polls.push(now);
            anchor.follow(look(now));
            schedule.finish(ms(now), anchor);
            now += millis(schedule.wait(ms(now)));
        }
        polls
    }

    #[test]
    fn c9_c10_a_clock_that_is_frozen_or_ten_times_too_fast_or_slow_changes_no_poll() {
        let right = polls(5_000, |boot| 86_400_000 + boot);
        assert_eq!(right[..3], [500, 5_000, 10_000]);
        assert_eq!(polls(5_000, |_| 86_400_500), right, "frozen");
        assert_eq!(polls(5_000, |boot| 86_395_500 + 10 * boot), right, "ten times too fast");
        assert_eq!(polls(5_000, |boot| 86_400_450 + boot / 10), right, "ten times too slow");
    }

    #[test]
    fn after_a_step_the_next_poll_comes_within_one_interval_and_the_grid_follows_in_a_minute() {
        let sixty_years = 60 * 365 * 86_400_000_u64;
        for (before, after) in [(0, 2_300), (sixty_years, 2_300), (7_200_000, 7_199_000), (3_600_000, 8_000)] {
            let step_at = 300_000;
            let polls = polls(5_000, |boot| boot + if boot < step_at { before } else { after });
            let late = polls.windows(2).skip(1).filter(|pair| pair[1] - pair[0] > 5_000).count();
            let early = polls.windows(2).skip(1).filter(|pair| pair[1] - pair[0] < 5_000).count();
            assert!(late == 0 && early <= 1, "{before} to {after}: {late} late, {early} early");
            let last = polls[polls.len() - 1];
            assert_eq!((last + after) % 5_000, 0, "on the grid of the clock as it is now");
        }
    }

    #[test]
    fn after_a_suspend_a_poll_comes_at_once_and_the_missed_ones_never() {
        let (mut schedule, anchor) = each_second();
        schedule.begin(ms(1_000));
        schedule.finish(ms(1_010), anchor);
        let resumed = ms(8 * 3_600_000);
        assert_eq!(schedule.wait(resumed), Duration::ZERO);
        schedule.begin(resumed);
        assert_eq!(schedule.finish(resumed + ms(10), anchor), 0, "ticks before the poll are not overrun by it");
        assert_eq!(schedule.wait(resumed), SECOND);
    }
}
