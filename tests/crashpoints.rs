//! A sample of the crash points; all of them: `cargo run --release --example crashpoints`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::Path;

use support::crashpoints::{Blow, Scene, is_possible, try_all};

fn sample(scene: Scene, calls: &[&'static str], blow: Blow, step: usize, limit: usize) {
    if !is_possible() {
        println!("skipped: strace is not there, or may not trace");
        return;
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd"));
    let mut tried = 0;
    for call in calls {
        let series = try_all(binary, scene, call, blow, step, limit);
        tried += series.tried;
        if let Some((point, why)) = series.failures.first() {
            panic!("{point}\n{why}");
        }
    }
    assert!(tried > 0, "no such call in this scene");
}

#[test]
fn killed_at_a_call_of_a_life_it_loses_nothing_that_was_on_disk() {
    sample(Scene::Life, &["fsync", "renameat", "unlinkat", "write"], Blow::Kill, 3, 3);
}

#[test]
fn killed_at_a_call_of_a_drain_it_loses_nothing_that_was_on_disk() {
    sample(Scene::Drain, &["unlinkat", "sendto"], Blow::Kill, 1, 4);
}

#[test]
fn killed_at_a_call_of_a_start_on_leftovers_it_loses_nothing() {
    sample(Scene::Leftovers, &["renameat", "unlinkat", "fsync"], Blow::Kill, 1, 3);
}

#[test]
fn a_disk_that_fails_once_ends_nothing_and_loses_nothing() {
    for error in ["ENOSPC", "EIO"] {
        sample(Scene::Life, &["fsync", "renameat", "unlinkat"], Blow::Error(error), 2, 2);
    }
}
