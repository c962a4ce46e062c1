//! A minute of the soak with a fixed seed; `cargo run --release --example soak` is the long one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

#[path = "support/soak/mod.rs"]
mod soak;

use std::ops::Range;
use std::path::PathBuf;

use soak::ledger::Ledger;
use soak::{Length, Plan, Settings};

#[test]
fn a_minute_of_faults_loses_nothing() {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd"));
    let report = soak::run(&Settings { binary, seed: 0x5EED, length: Length::Short, devices: 12, only: None });
    assert!(report.passes(), "{report}");
}

#[test]
fn a_seed_has_one_plan_and_five_minutes_have_every_fault() {
    let draw = |seed| Plan::draw(seed, Length::Minutes(5), 30);
    assert_eq!(draw(7).to_string(), draw(7).to_string());
    assert_ne!(draw(7).to_string(), draw(8).to_string());
    for seed in 0..50 {
        assert_eq!(draw(seed).kinds().len(), draw(0).kinds().len(), "seed {seed}");
    }
}

#[test]
fn only_what_had_no_time_to_reach_the_disk_may_be_lost() {
    let ledger = |frozen: Option<Range<u64>>, stall: Option<Range<u64>>, slow: Option<Range<u64>>| Ledger {
        ends: vec![100_000..100_100, 200_000..200_100],
        frozen: frozen.into_iter().collect(),
        stalls: stall.into_iter().collect(),
        slow: vec![slow.into_iter().collect()],
        ..Ledger::default()
    };
    for (what, ledger, served, at_risk) in [
        ("just before the end", ledger(None, None, None), 99_500, true),
        ("while it lasts", ledger(None, None, None), 100_050, true),
        ("long before it", ledger(None, None, None), 98_000, false),
        ("after the last end", ledger(None, None, None), 200_101, false),
        ("halted in between", ledger(Some(98_500..99_900), None, None), 98_000, true),
        ("no room in between", ledger(None, Some(95_000..97_000), None), 94_500, true),
        ("room again for long", ledger(None, Some(75_000..77_000), None), 74_500, false),
        ("a slow poll", ledger(None, None, Some(94_000..95_000)), 94_500, true),
        ("a slow poll long ago", ledger(None, None, Some(84_000..85_000)), 84_500, false),
    ] {
        assert_eq!(ledger.is_at_risk(0, served), at_risk, "{what}");
    }
}
