//! Thirty days of outages in seconds: the real way of a reading from the batcher to its servers, under a clock that a test
//! turns.
//!
//! Driven are the timeline, the batcher, the pipeline with its tail and deliveries, the encoders and the log, on a disk in memory
//! that fails as disks do ([`disk`]), between devices that count and servers that obey the weather ([`scenario`]). What arrives is judged by
//! arithmetic, and at a pattoo server by the ingester's rules ([`sink`]); what is promised is looked at at every step ([`run`]).
//!
//! One seed is one run, to the last byte. `DELIVERY_SEED=7 cargo test --test thirty_days` repeats one; a failure is shrunk to the
//! faults that it takes. `DELIVERY_DAYS=5000 cargo test --release --test thirty_days fresh` runs so many days with fresh seeds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unchecked_time_subtraction,
    reason = "a test fails by panicking"
)]
#![allow(clippy::struct_excessive_bools, reason = "what has been in a run, each thing on its own")]

#[path = "../support/mod.rs"]
mod support;

mod disk;
mod ledger;
mod old;
mod run;
mod scenario;
#[path = "../support/sim_disk.rs"]
mod sim_disk;
mod sink;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use pattoo_agent_modbustcpd::spool::{Disk, MinFree, Space, SpoolError, Stat};
use run::{Run, Stats};
use scenario::{DAY, DiskFault, Fault, Kind, Moment, OutputSpec, Scenario, Weather, What};

/// How long a failure is made smaller.
const SHRINKING: Duration = Duration::from_secs(40);

/// Fresh seeds that have found something: a segment that is removed before it is durable; what a disk that hung has written
/// after it was given up; an output that is back before the log was made to forget it; a post of hours whose answer is in
/// doubt; an old batch that is delivered and that the disk does not let go; an output that goes, and whose cursor alone was
/// where the log ended; dates that readings got later, and that were ahead of the clock when the next life began; a limit that
/// took what memory had given up already.
const FOUND: [u64; 8] = [
    98_008_677_098_372,
    59_866_036_602_679,
    40_015_517_745_993,
    72_472_218_075_078,
    178_264_086_436_855,
    186_705_156_792_358,
    243_815_554_169_263,
    262_320_207_355_839,
];

#[test]
fn fixed_seeds() {
    let only = std::env::var("DELIVERY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = || (0..10).chain(12..18).chain(FOUND).collect();
    explore(only.map_or_else(seeds, |seed: u64| vec![seed]), Duration::MAX);
}

#[test]
fn fresh_seeds() {
    // By an explicit command: what a fresh seed finds is for whoever looks for it.
    let Some(days) = std::env::var("DELIVERY_DAYS").ok().and_then(|days| days.parse::<u32>().ok()) else { return };
    let first = fastrand::u64(..1 << 48);
    say(&format!("seeds from {first} on"));
    explore(first.., days * DAY);
}

/// Nothing but these faults, for six hours.
fn only(faults: &[(What, u64, u64)]) -> Scenario {
    let faults = faults.iter().map(|&(what, from, until)| Fault {
        what,
        from: Duration::from_secs(from),
        until: Duration::from_secs(until),
    });
    Scenario { faults: faults.collect(), ..scenario::quiet() }
}

fn holds(scenario: &Scenario) -> Stats {
    run(scenario).unwrap_or_else(|what| panic!("{what}\n{scenario:#?}"))
}

#[test]
fn a_disk_that_makes_nothing_durable_fills_no_memory() {
    let mut scenario = only(&[
        (What::Disk(DiskFault::BadSyncs), 600, 15_000),
        (What::Server(0, Weather::Down { slow: false }), 600, 15_000),
    ]);
    scenario.memory = Some(20_000);
    let stats = holds(&scenario);
    assert_eq!((stats.readings, stats.dropped.len()), (stats.arrived, 0), "what is written can be read");
}

#[test]
fn a_write_that_fails_evicts_nothing() {
    let mut scenario = only(&[
        (What::Disk(DiskFault::Full), 5_000, 5_100),
        (What::Server(0, Weather::Down { slow: false }), 60, 5_200),
    ]);
    scenario.until = Duration::from_secs(6_000);
    scenario.interval = Duration::from_secs(2);
    // Segments are small then, and some could go.
    scenario.limits.max_bytes = Some(1_000_000);
    scenario.limits.min_free = MinFree::Bytes(20_000);
    let stats = holds(&scenario);
    // The limit itself may let something go, in a write that does not fail.
    let dropped: u64 = stats.dropped.values().sum();
    assert_eq!(stats.readings, stats.arrived + dropped, "{stats:?}");
}

#[test]
fn what_was_given_up_is_lost_though_a_disk_that_hung_has_written_it() {
    let mut scenario = only(&[
        (What::Disk(DiskFault::Hangs), 5_000, 15_000),
        (What::Server(0, Weather::Down { slow: false }), 4_000, 16_000),
    ]);
    scenario.memory = Some(20_000);
    let stats = holds(&scenario);
    let dropped: u64 = stats.dropped.values().sum();
    assert!(dropped > 100 && stats.readings == stats.arrived + dropped, "{stats:?}");
}

#[test]
fn what_was_given_up_in_two_outages_of_the_disk_is_counted_once() {
    let mut scenario = only(&[
        (What::Server(0, Weather::Down { slow: false }), 1_000, 16_000),
        (What::Disk(DiskFault::BadWrites), 2_000, 6_000),
        (What::Disk(DiskFault::BadWrites), 8_000, 12_000),
    ]);
    scenario.memory = Some(10_000);
    let stats = holds(&scenario);
    let dropped: Vec<_> = stats.dropped.keys().copied().collect();
    assert_eq!(dropped, ["memory_full"], "{stats:?}");
    assert_eq!(stats.readings, stats.arrived + stats.dropped["memory_full"], "{stats:?}");
}

#[test]
fn what_gets_its_date_while_the_disk_takes_nothing_is_delivered_at_once() {
    let scenario = only(&[(What::Unset, 600, 1_800), (What::Disk(DiskFault::BadWrites), 1_200, 15_000)]);
    let stats = holds(&scenario);
    assert_eq!((stats.readings, stats.dropped.len()), (stats.arrived, 0), "{stats:?}");
}

#[test]
fn what_cannot_be_set_aside_holds_up_no_other_output() {
    let down = |output| (What::Server(output, Weather::Down { slow: false }), 600, 5_000);
    let mut scenario = only(&[
        down(0),
        down(1),
        (What::Server(0, Weather::Poisoned), 5_000, 15_000),
        (What::Disk(DiskFault::ReadOnly), 4_900, 15_000),
    ]);
    scenario.outputs.push(OutputSpec { kind: Kind::Lines, ..scenario.outputs[0] });
    // Too much for one post, so that it is read from disk.
    (scenario.points, scenario.interval) = (20, Duration::from_secs(2));
    // That the second gets its own meanwhile is looked at at every step.
    let stats = holds(&scenario);
    assert!(stats.quarantined > 0, "{stats:?}");
}

#[test]
fn a_backlog_of_another_life_goes_first() {
    // More than one post takes.
    let mut scenario = only(&[(What::Server(0, Weather::Down { slow: false }), 60, 2_400)]);
    (scenario.points, scenario.interval) = (20, Duration::from_secs(2));
    scenario.outputs[0].kind = Kind::Lines;
    scenario.until = Duration::from_secs(3_000);
    scenario.moments = vec![(Duration::from_secs(2_000), Moment::Kill { down: Duration::from_secs(3), toggle: None })];
    let stats = holds(&scenario);
    assert_eq!((stats.readings, stats.dropped.len()), (stats.arrived + stats.lost, 0), "{stats:?}");
}

#[test]
fn power_cuts_and_kills_cost_what_was_not_safe_yet() {
    let mut scenario = only(&[(What::Server(0, Weather::Down { slow: false }), 2_000, 9_000)]);
    scenario.flush_interval = Duration::from_secs(5);
    // Many small segments.
    scenario.until = Duration::from_secs(11_000);
    scenario.interval = Duration::from_secs(1);
    scenario.limits.max_bytes = Some(1_000_000);
    let down = Duration::from_secs(3);
    scenario.moments = (1..40_u32)
        .map(|n| {
            let at = Duration::from_millis(u64::from(n) * 263_777);
            let cut = Moment::PowerCut { down, unset: Duration::ZERO };
            (at, if n % 3 == 0 { Moment::Kill { down, toggle: None } } else { cut })
        })
        .collect();
    let stats = holds(&scenario);
    assert!(stats.lost < 39 * 6 && stats.lives == 40, "{stats:?}");
}

/// Runs a scenario for each seed, until so much time has passed in them.
fn explore(seeds: impl IntoIterator<Item = u64>, most: Duration) {
    let (mut all, mut passed) = (Stats::default(), Duration::ZERO);
    for seed in seeds {
        let scenario = scenario::draw(seed);
        match run(&scenario) {
            Ok(stats) => all.add(stats),
            Err(what) => {
                let traced = std::env::var_os("DELIVERY_TRACE").is_some();
                let (less, what) = if traced { (scenario, what) } else { shrink(scenario, what) };
                panic!("DELIVERY_SEED={seed}: {what}\n{less:#?}");
            }
        }
        passed = passed.saturating_add(scenario.until);
        if passed >= most {
            break;
        }
    }
    say(&format!("{:.1} days: {all:?}", passed.as_secs_f64() / DAY.as_secs_f64()));
}

fn say(line: &str) {
    // A test that nobody reads goes on.
    writeln!(std::io::stdout(), "{line}").ok();
}

/// Runs a scenario; a panic is a violation, too.
fn run(scenario: &Scenario) -> Result<Stats, String> {
    let ran = catch_unwind(AssertUnwindSafe(|| Run::new(scenario)?.run()));
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default())
    })
}

/// A failure with as little as it takes.
fn shrink(mut scenario: Scenario, mut what: String) -> (Scenario, String) {
    let began = Instant::now();
    let mut smaller = true;
    while std::mem::take(&mut smaller) && began.elapsed() < SHRINKING {
        for candidate in scenario::candidates(&scenario) {
            if let Err(why) = run(&candidate) {
                (scenario, what, smaller) = (candidate, why, true);
                break;
            }
        }
    }
    (scenario, what)
}
