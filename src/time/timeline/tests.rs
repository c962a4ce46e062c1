//! The catalogue of clock faults (C1 to C13, where it is pure), and the promises under arbitrary sequences.

mod arbitrary;

use std::time::SystemTime;

use super::*;

const DAY: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;
/// The true time at which every test begins, ten minutes after boot.
const START: u64 = 1_790_000_000_000;
const UPTIME: u64 = 600_000;

/// A machine whose wall clock can be wrong, and the server whose clock is right.
#[derive(Debug, Clone, Copy)]
struct World {
    /// Time since the test began.
    passed: u64,
    /// How wrong the wall clock is.
    error: i64,
}

impl World {
    fn new(error: i64) -> Self {
        Self { passed: 0, error }
    }

    fn now(&self) -> Moment {
        let wall = (START + self.passed).saturating_add_signed(self.error);
        Moment { wall: at(wall), boot: Duration::from_millis(UPTIME + self.passed) }
    }

    /// The true time.
    fn true_time(&self) -> u64 {
        START + self.passed
    }

    /// What a `Date` header would say.
    fn server(&self) -> Timestamp {
        at(self.true_time() / 1_000 * 1_000)
    }
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn line() -> Timeline {
    Timeline::new(BUILT, Timestamp::default())
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap()
}

/// The stamp, which must be a date.
fn dated(line: &mut Timeline, now: Moment, track: &mut Track) -> u64 {
    match line.stamp(now, track) {
        Stamp::At(date) => date.as_millis(),
        undated @ Stamp::Undated(_) => panic!("{undated:?}: {}", line.state),
    }
}

/// The boot time, which must be all that is known.
fn undated(line: &mut Timeline, now: Moment, track: &mut Track) -> Duration {
    match line.stamp(now, track) {
        Stamp::Undated(boot) => boot,
        dated @ Stamp::At(_) => panic!("{dated:?}: {}", line.state),
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the real one is the case")]
fn the_build_date_is_not_in_the_future() {
    assert!(BUILT < SystemTime::now().into());
}

#[test]
fn a_clock_that_just_goes_on_is_followed_to_the_millisecond() {
    let (mut world, mut line, mut track) = (World::new(0), line(), Track::default());
    for _ in 0..1_000 {
        world.passed += 1_003;
        assert_eq!(dated(&mut line, world.now(), &mut track), world.true_time());
        assert_eq!(line.observe(world.now()), ClockState::Good);
    }
}

#[test]
fn c1_readings_before_the_clock_is_set_are_held_and_dated_once_it_is() {
    let mut world = World::new(-signed(START) + 50_000);
    let (mut line, mut track) = (line(), Track::default());
    let mut held = Vec::new();
    for _ in 0..60 {
        world.passed += 10_000;
        held.push((world.true_time(), undated(&mut line, world.now(), &mut track)));
        assert!(held.iter().all(|&(_, boot)| line.date(boot).is_none()));
    }
    assert!(matches!(line.observe(world.now()), ClockState::NotPlausible { reason: Implausible::NotSet { .. } }));
    world.error = 0;
    assert_eq!(line.observe(world.now()), ClockState::Good);
    for (truth, boot) in held {
        assert_eq!(line.date(boot), Some(at(truth)));
    }
    world.passed += 10_000;
    assert_eq!(dated(&mut line, world.now(), &mut track), world.true_time());
}

#[test]
fn c2_what_an_earlier_process_of_the_boot_held_is_dated_above_what_it_had_stamped() {
    let last = START - 60_000;
    for error in [0, -30_000, -30 * 60_000, 20 * 60_000] {
        let mut world = World::new(error);
        let since = world.now().boot;
        world.passed += 30_000;
        let mut line = Timeline::new(BUILT, at(last)).holding_since(since);
        let mut track = Track::default();
        world.passed += 30_000;
        let next = dated(&mut line, world.now(), &mut track);
        let dates = [0, 10_000, 59_999].map(|ms| line.date(since + Duration::from_millis(ms)).unwrap().as_millis());
        assert!(last < dates[0] && dates.is_sorted() && dates[2] < next, "{error}: {dates:?} {next}");
        assert_eq!(dates[1] - dates[0], 10_000);
        assert_eq!(line.date(since.saturating_sub(Duration::from_millis(1))), None, "nothing was held then");
    }
}

#[test]
fn c3_c7_a_step_back_of_up_to_an_hour_costs_no_reading_and_is_made_up_at_a_tenth() {
    // A leap second, and an hour that takes some milliseconds to set.
    for step in [1_000, 2_000, 59_000, HOUR_MS, HOUR_MS + 300] {
        let (mut world, mut line, mut track) = (World::new(0), line(), Track::default());
        line.server_says(world.server(), world.now());
        let mut last = dated(&mut line, world.now(), &mut track);
        world.error = -signed(step);
        let mut ahead = step;
        for poll in 0.. {
            world.passed += 10_000;
            let stamp = dated(&mut line, world.now(), &mut track);
            let wall = world.now().wall.as_millis();
            assert!(stamp > last && stamp - last >= 9_000, "{step}: {last} {stamp}");
            assert!(!line.is_repeated(at(stamp)) && line.too_far_ahead(at(stamp), world.now()).is_none());
            ahead = ahead.saturating_sub(1_000);
            assert_eq!(stamp - wall, ahead, "{step} after {poll} polls");
            let state = line.observe(world.now());
            let converging = ClockState::Slewing { ahead: Duration::from_millis(ahead) };
            assert_eq!(state == converging, ahead >= 1_000, "{state}");
            last = stamp;
            if ahead == 0 {
                break;
            }
        }
    }
}

#[test]
fn c4_a_step_back_of_more_is_followed_at_once_and_says_until_when_stamps_repeat() {
    for step in [HOUR_MS + 60_000, DAY, 200 * DAY] {
        let (mut world, mut line, mut track) = (World::new(0), line(), Track::default());
        let last = at(dated(&mut line, world.now(), &mut track));
        world.error = -signed(step);
        world.passed += 10_000;
        for _ in 0..3 {
            world.passed += 10_000;
            let stamp = dated(&mut line, world.now(), &mut track);
            assert_eq!(stamp, world.now().wall.as_millis());
            assert!(line.is_repeated(at(stamp)) && line.is_repeated(last));
            assert_eq!(line.observe(world.now()), ClockState::Repeating { until: last });
        }
        // Once more, and what was given out in between is not what counts.
        world.error -= 2 * signed(HOUR_MS);
        assert_eq!(line.observe(world.now()), ClockState::Repeating { until: last });
        assert_eq!(line.steps_back(), 2);
        // The line passes where it was, or the clock is set right.
        world.error = 0;
        let stamp = dated(&mut line, world.now(), &mut track);
        assert_eq!((stamp, line.is_repeated(at(stamp))), (world.true_time(), false));
        assert_eq!(line.observe(world.now()), ClockState::Good);
    }
}

#[test]
fn c4_a_step_back_that_meets_no_stamp_given_out_repeats_none() {
    let (mut world, mut line, mut track) = (World::new(0), line(), Track::default());
    dated(&mut line, world.now(), &mut track);
    world.passed += 3 * HOUR_MS;
    world.error = -2 * signed(HOUR_MS);
    assert_eq!(dated(&mut line, world.now(), &mut track), START + HOUR_MS);
    assert_eq!(line.steps_back(), 0);
}

#[test]
fn c4_a_step_back_to_before_the_build_holds_and_loses_nothing() {
    let (mut world, mut line, mut track) = (World::new(0), line(), Track::default());
    let last = dated(&mut line, world.now(), &mut track);
    world.passed += 10_000;
    world.error = -signed(5 * 365 * DAY);
    let boot = undated(&mut line, world.now(), &mut track);
    world.passed += DAY;
    world.error = 0;
    let next = dated(&mut line, world.now(), &mut track);
    let date = line.date(boot).unwrap().as_millis();
    assert_eq!((date - last, next - date), (10_000, DAY));
}

#[test]
fn c5_a_step_forward_is_followed_within_an_hour_of_the_server_and_held_beyond() {
    for (step, held) in [(1_000, false), (HOUR_MS - 10_000, false), (HOUR_MS, true), (DAY, true)] {
        for server in [true, false] {
            let (mut world, mut line, mut track) = (World::new(0), line(), Track::default());
            if server {
                world.passed += 700;
                line.server_says(world.server(), world.now());
            }
            dated(&mut line, world.now(), &mut track);
            world.passed += 1_000;
            world.error = signed(step);
            let stamp = line.stamp(world.now(), &mut track);
            let expected = if held && server { Stamp::Undated(world.now().boot) } else { Stamp::At(world.now().wall) };
            assert_eq!(stamp, expected, "{step} {server}");
        }
    }
}

#[test]
fn c5_readings_held_for_a_clock_ahead_are_dated_when_it_is_set_back() {
    let (mut world, mut line, mut track) = (World::new(0), line(), Track::default());
    line.server_says(world.server(), world.now());
    dated(&mut line, world.now(), &mut track);
    world.error = signed(DAY);
    world.passed += 10_000;
    let boot = undated(&mut line, world.now(), &mut track);
    world.passed += 10_000;
    world.error = 0;
    assert_eq!(dated(&mut line, world.now(), &mut track), world.true_time());
    assert_eq!(line.date(boot), Some(at(START + 10_000)));
}

#[test]
fn c6_a_clock_in_2099_is_believed_only_if_the_server_is_there_too_or_the_user_says_so() {
    let world = World::new(4_080_000_000_000 - signed(START));
    let mut track = Track::default();
    let mut line = line();
    undated(&mut line, world.now(), &mut track);
    line.server_says(world.server(), world.now());
    undated(&mut line, world.now(), &mut track);
    line.server_says(world.now().wall, world.now());
    dated(&mut line, world.now(), &mut track);

    let (mut line, mut track) = (Timeline::new(BUILT, Timestamp::default()).trusting_local_clock(), Track::default());
    line.server_says(world.server(), world.now());
    assert_eq!(line.too_far_ahead(world.now().wall, world.now()), None);
    assert_eq!(dated(&mut line, world.now(), &mut track), 4_080_000_000_000);
}

#[test]
fn c9_a_frozen_clock_gives_stamps_that_go_up() {
    let (mut world, mut line, mut track) = (World::new(0), line(), Track::default());
    let frozen: Vec<_> = (0..5).map(|_| dated(&mut line, world.now(), &mut track) - START).collect();
    assert_eq!(frozen, [0, 1, 2, 3, 4], "both clocks frozen");
    let mut last = START + 4;
    for _ in 0..100 {
        world.passed += 100;
        world.error -= 100;
        let stamp = dated(&mut line, world.now(), &mut track);
        assert!(stamp > last && stamp <= world.true_time());
        last = stamp;
    }
    assert_eq!(last, START + 9_000, "boot time goes on");
}

#[test]
fn c10_clocks_ten_times_too_fast_and_too_slow_give_stamps_within_an_hour_of_the_server() {
    for rate in [9_000, -900] {
        let (mut world, mut line, mut track) = (World::new(0), line(), Track::default());
        line.server_says(world.server(), world.now());
        let (mut dates, mut holds, mut last) = (0, 0, 0);
        for _ in 0..20_000 {
            world.passed += 1_000;
            world.error += rate;
            match line.stamp(world.now(), &mut track) {
                Stamp::At(date) => {
                    assert!(date.as_millis() <= world.true_time() + HOUR_MS);
                    assert!(date.as_millis() > last || line.is_repeated(date), "{last} {date}");
                    last = date.as_millis();
                    dates += 1;
                }
                Stamp::Undated(_) => holds += 1,
            }
        }
        assert!(if rate > 0 { dates > 300 && holds > 19_000 } else { dates == 20_000 }, "{dates} {holds}");
    }
}

#[test]
fn c12_a_clock_that_went_back_with_the_disk_is_known_by_the_servers() {
    let (world, mut line, mut track) = (World::new(-signed(DAY)), line(), Track::default());
    dated(&mut line, world.now(), &mut track);
    assert_eq!(line.observe(world.now()), ClockState::Good);
    line.server_says(world.server(), world.now());
    assert_eq!(line.observe(world.now()), ClockState::Behind { by: Duration::from_millis(DAY) });
}

#[test]
fn c13_polls_in_one_millisecond_differ_and_the_tracks_of_others_are_not_moved_by_it() {
    let (world, mut line) = (World::new(0), line());
    let (mut busy, mut idle) = (Track::default(), Track::default());
    let stamps = [(); 3].map(|()| dated(&mut line, world.now(), &mut busy) - START);
    assert_eq!(stamps, [0, 1, 2]);
    assert_eq!(dated(&mut line, world.now(), &mut idle) - START, 0);
}

#[test]
fn stamps_go_on_after_the_last_ones_of_an_earlier_process() {
    let cases: [(i64, ClockState); 4] = [
        (-10_000, ClockState::Good),
        (0, ClockState::Good),
        (30_000, ClockState::Slewing { ahead: Duration::from_millis(30_001) }),
        (signed(HOUR_MS), ClockState::Slewing { ahead: HOUR + Duration::from_millis(1) }),
    ];
    for (ahead, state) in cases {
        let world = World::new(0);
        let last = START.saturating_add_signed(ahead);
        let mut line = Timeline::new(BUILT, at(last));
        assert_eq!(line.observe(world.now()), state);
        assert_eq!(dated(&mut line, world.now(), &mut Track::default()), START.max(last + 1));
    }
    let world = World::new(0);
    let last = at(START + 2 * HOUR_MS);
    let mut line = Timeline::new(BUILT, last);
    assert_eq!(dated(&mut line, world.now(), &mut Track::default()), START);
    assert_eq!(line.observe(world.now()), ClockState::Repeating { until: last });
}

#[test]
fn a_line_that_the_server_would_not_be_sent_is_left_for_the_clock() {
    let (mut world, mut track) = (World::new(signed(HOUR_MS) / 2), Track::default());
    let mut line = Timeline::new(BUILT, at(START + HOUR_MS / 2 * 3 - 1_000));
    let ahead = dated(&mut line, world.now(), &mut track);
    line.server_says(world.server(), world.now());
    assert!(line.too_far_ahead(at(ahead), world.now()).is_some());
    world.passed += 1;
    assert_eq!(dated(&mut line, world.now(), &mut track), world.now().wall.as_millis());
    assert!(matches!(line.observe(world.now()), ClockState::Repeating { .. }));
}

#[test]
fn a_clock_that_runs_past_the_build_date_is_still_not_set() {
    let mut world = World::new(signed(BUILT.as_millis()) - signed(START) - 60_000);
    let (mut line, mut track) = (line(), Track::default());
    undated(&mut line, world.now(), &mut track);
    world.passed += 3 * DAY;
    let boot = undated(&mut line, world.now(), &mut track);
    world.error = 0;
    dated(&mut line, world.now(), &mut track);
    assert_eq!(line.date(boot), Some(at(START + 3 * DAY)));
}

#[test]
fn a_server_without_a_clock_has_no_say() {
    let (world, mut line) = (World::new(0), line());
    line.server_says(at(50_000), world.now());
    assert_eq!(dated(&mut line, world.now(), &mut Track::default()), START);
}

#[test]
fn a_moment_that_comes_late_moves_nothing_back() {
    let (mut world, mut line, mut track) = (World::new(0), line(), Track::default());
    let late = world.now();
    world.passed += 5;
    assert_eq!(dated(&mut line, world.now(), &mut track) - START, 5);
    assert_eq!(dated(&mut line, late, &mut Track::default()) - START, 5);
    world.passed += 1;
    assert_eq!(dated(&mut line, world.now(), &mut track) - START, 6);
    world.error = -signed(START);
    let since = undated(&mut line, world.now(), &mut track);
    let late = Moment { wall: at(0), ..late };
    assert_eq!(undated(&mut line, late, &mut Track::default()), since, "what is held is not older than the hold");
}
