//! A simulated plant that drives the real code: the loop of a device, its session, refusals, planner and reload, under
//! a clock that a test turns, with random devices, configurations, faults, edits and restarts.
//!
//! `PLANT_SEED=7 cargo test --test plant` repeats one run; a failure is shrunk to the faults and edits that it takes.
//! `PLANT_HOURS=5000 cargo test --release --test plant fresh` runs so many virtual hours with fresh seeds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod configuration;
mod device;
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use configuration::Configuration;
use device::{Ailment, Fault};
use fastrand::Rng;
use world::{Scenario, Stats, World};

/// How long a run of a random scenario lasts.
const HOURS: u64 = 6;

const SHARED: &str = "pattoo: {log_level: info, log_directory: /tmp, cache_directory: /tmp, daemon_directory: /tmp}\n\
                      pattoo_agent_api: {ip_address: server.example.net, ip_bind_port: 20201}\n";

#[test]
fn fixed_seeds() {
    let only = std::env::var("PLANT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds: Vec<u64> = only.map_or((0..60).collect(), |seed| vec![seed]);
    explore(seeds);
}

#[test]
fn fresh_seeds() {
    let hours = std::env::var("PLANT_HOURS").ok().and_then(|hours| hours.parse().ok()).unwrap_or(HOURS);
    let first = fastrand::u64(..1 << 48);
    say(&format!("seeds {first} to {}", first + hours / HOURS));
    explore(first..first + hours / HOURS);
}

/// Runs a scenario for each seed.
fn explore(seeds: impl IntoIterator<Item = u64>) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pattoo.yaml"), SHARED).unwrap();
    let mut all = Stats::default();
    for seed in seeds {
        let scenario = draw(seed);
        match run(&scenario, directory.path()) {
            Ok(stats) => {
                all.polls += stats.polls;
                all.requests += stats.requests;
                all.readings += stats.readings;
                all.unread += stats.unread;
                all.reloads += stats.reloads;
                all.kept += stats.kept;
                all.learned += stats.learned;
            }
            Err(what) => {
                let (scenario, what) = shrink(scenario, what, directory.path());
                let texts: Vec<_> =
                    scenario.configurations.iter().map(|(at, text)| format!("at {at:?}:\n{}", text.text())).collect();
                panic!(
                    "PLANT_SEED={seed}: {what}\ndevices {:#?}\nrestarts {:?}\n{}",
                    scenario.devices,
                    scenario.restarts,
                    texts.join("\n")
                );
            }
        }
    }
    say(&format!("{all:?}"));
    assert!(all.readings > 1_000 && (all.learned > 0 || all.polls < 1_000_000), "a dull plant: {all:?}");
}

fn say(line: &str) {
    // A test that nobody reads goes on.
    writeln!(std::io::stdout(), "{line}").ok();
}

/// Runs a scenario; a panic is a violation, too.
fn run(scenario: &Scenario, directory: &Path) -> Result<Stats, String> {
    let ran = catch_unwind(AssertUnwindSafe(|| match World::new(scenario, directory) {
        Some(world) => world.run(),
        // A configuration that the agent refuses.
        None => Ok(Stats::default()),
    }));
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default())
    })
}

/// The same failure with as little as it takes.
fn shrink(mut scenario: Scenario, mut what: String, directory: &Path) -> (Scenario, String) {
    let mut smaller = true;
    while std::mem::take(&mut smaller) {
        for candidate in candidates(&scenario) {
            if let Err(why) = run(&candidate, directory) {
                (scenario, what, smaller) = (candidate, why, true);
                break;
            }
        }
    }
    (scenario, what)
}

/// The scenario without one of its parts.
fn candidates(scenario: &Scenario) -> Vec<Scenario> {
    let mut candidates = Vec::new();
    for at in 1..scenario.configurations.len() {
        let mut less = scenario.clone();
        less.configurations.remove(at);
        candidates.push(less);
    }
    for at in 0..scenario.restarts.len() {
        let mut less = scenario.clone();
        less.restarts.remove(at);
        candidates.push(less);
    }
    for device in 0..scenario.devices.len() {
        for at in 0..scenario.devices[device].1.len() {
            let mut less = scenario.clone();
            less.devices[device].1.remove(at);
            candidates.push(less);
        }
    }
    candidates
}

/// A random scenario, the same for each seed.
fn draw(seed: u64) -> Scenario {
    let mut rng = Rng::with_seed(seed);
    let until = Duration::from_secs(HOURS * 3_600);
    let count = rng.usize(1..5);
    let devices = (0..count).map(|_| (rng.bool(), faults(&mut rng, until))).collect();
    let mut configuration = Configuration::draw(&mut rng, count);
    let mut configurations = vec![(Duration::ZERO, configuration.clone())];
    for at in moments(&mut rng, until, 8) {
        configuration.edit(&mut rng);
        configurations.push((at, configuration.clone()));
    }
    let restarts = moments(&mut rng, until, 3);
    Scenario { seed, until, devices, configurations, restarts }
}

fn moments(rng: &mut Rng, until: Duration, most: usize) -> Vec<Duration> {
    let mut moments: Vec<_> = (0..rng.usize(0..=most)).map(|_| until.mul_f64(rng.f64())).collect();
    moments.sort();
    moments
}

fn faults(rng: &mut Rng, until: Duration) -> Vec<Fault> {
    // Some devices have but what must not teach anything, or only what is refused.
    let harmless = rng.u8(0..3) == 0;
    let fault = |rng: &mut Rng| {
        // In the first half, so that there is time to get well.
        let from = until.mul_f64(rng.f64() * 0.5);
        let long = [2, 10, 60, 700, 3_600][rng.usize(0..5)];
        Fault {
            ailment: if harmless { harmless_ailment(rng) } else { ailment(rng) },
            from,
            until: from + Duration::from_secs_f64(f64::from(long) * (0.2 + rng.f64())),
        }
    };
    let mut faults: Vec<_> = (0..rng.usize(0..10)).map(|_| fault(rng)).collect();
    if harmless {
        let ailment = Ailment::Hiccup(rng.u8(2..8), [4, 6][rng.usize(0..2)]);
        // Before what is refused, so that it comes instead of a refusal, too.
        faults.insert(0, Fault { ailment, from: Duration::ZERO, until: until / 2 });
    }
    faults
}

/// Refused values, and what passes.
fn harmless_ailment(rng: &mut Rng) -> Ailment {
    match rng.u8(0..8) {
        0..=2 => loop {
            if let refused @ Ailment::Registers(..) = ailment(rng) {
                break refused;
            }
        },
        3..=5 => Ailment::Hiccup(rng.u8(2..12), [4, 6][rng.usize(0..2)]),
        6 => Ailment::Exception(4),
        _ => Ailment::Restarting(Duration::from_secs(rng.u64(1..20))),
    }
}

fn ailment(rng: &mut Rng) -> Ailment {
    let unit = rng.u8(1..4);
    let ms = |rng: &mut Rng, most: u64| Duration::from_millis(rng.u64(10..most));
    match rng.u8(0..17) {
        0 => Ailment::Refusing,
        1 => Ailment::Unreachable,
        2 => Ailment::Silent,
        3 => Ailment::UnitSilent(unit),
        4 => Ailment::UnitGone(unit),
        5 | 6 => {
            let at = |rng: &mut Rng| {
                [rng.u16(0..200), rng.u16(300..500), rng.u16(600..720), rng.u16(800..980)][rng.usize(0..4)]
            };
            let refused: BTreeSet<u16> = (0..rng.usize(1..12)).map(|_| at(rng)).collect();
            Ailment::Registers(rng.u8(2..4), refused)
        }
        7 => Ailment::Longer(rng.u16(1..124)),
        8 => Ailment::SilentLonger(rng.u16(1..124)),
        9 => Ailment::Exception([1, 2, 3, 4, 6][rng.usize(0..5)]),
        10 => Ailment::Hiccup(rng.u8(2..50), [2, 4, 6][rng.usize(0..3)]),
        11 => Ailment::Busy(ms(rng, 400)),
        12 => Ailment::Deaf(ms(rng, 6_000)),
        13 => Ailment::Closing,
        14 => Ailment::Restarting(ms(rng, 20_000)),
        15 => {
            if rng.bool() {
                Ailment::Losing(rng.u8(2..50))
            } else {
                Ailment::Garbled(rng.u8(2..50))
            }
        }
        _ => Ailment::Slow(ms(rng, 1_500)),
    }
}
