//! A noisy RTU line, byte by byte, and the real link on it, in virtual time.
//!
//! [`wire`] is the line with its devices, other clients and gateways; [`run`] polls over it as a session does, connection
//! by connection, and checks after each exchange that a value is the one asked for or none, and after the noise has
//! ended that values come again within two polls. A case is drawn from a seed by proptest, which shrinks what fails.
//!
//! `LINE_SEED=123 cargo test --test line` runs what that seed draws; `LINE_CASES=100000` as many cases of fresh seeds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what was seen, for whoever looks with --nocapture")]

mod run;
mod wire;

use proptest::prelude::ProptestConfig;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use run::{Report, run};
use wire::plan;

/// How many cases a seed draws.
const CASES: u32 = 400;

/// Runs the cases of `seed`; what was seen in all of them.
fn cases(seed: u64, cases: u32) -> Report {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config =
        ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 4_000, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let total = std::cell::RefCell::new(Report::default());
    let result = runner.run(&plan(), |plan| match run(&plan) {
        Ok(report) => {
            total.borrow_mut().add(&report);
            Ok(())
        }
        Err(broken) => Err(TestCaseError::fail(broken)),
    });
    match result {
        Ok(()) => total.into_inner(),
        Err(TestError::Fail(broken, plan)) => {
            panic!("LINE_SEED={seed}: {broken}\nthe least plan that fails so: {plan:#?}")
        }
        Err(TestError::Abort(why)) => panic!("LINE_SEED={seed}: {why}"),
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}: no number")))
}

#[test]
fn fixed_seeds() {
    let mut total = Report::default();
    for seed in 1..=8 {
        total.add(&cases(seed, CASES));
    }
    println!("{total:?}");
    // A line on which nothing happens proves nothing.
    assert!(total.values > 10_000 && total.failures > 1_000, "{total:?}");
    assert!(total.behind_noise > 500 && total.echoes > 500 && total.late > 500, "{total:?}");
    assert!(total.reconnects > 1_000 && total.foreign > 1_000 && total.exceptions > 100, "{total:?}");
}

#[test]
fn fresh_seeds() {
    let seed = number("LINE_SEED").unwrap_or_else(wire::fresh_seed);
    let total = cases(seed, number("LINE_CASES").map_or(2 * CASES, |cases| u32::try_from(cases).unwrap()));
    println!("LINE_SEED={seed}: {total:?}");
}
