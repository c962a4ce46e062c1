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

use std::path::PathBuf;

use soak::{Length, Plan, Settings};

#[test]
fn a_minute_of_faults_loses_nothing() {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd"));
    let report = soak::run(&Settings { binary, seed: 0x5EED, length: Length::Short, devices: 12 });
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
