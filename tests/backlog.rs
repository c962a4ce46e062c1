//! A small backlog; `cargo run --release --example backlog` is the large one, which also measures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

#[path = "support/backlog/mod.rs"]
mod backlog;

use std::path::PathBuf;

use backlog::Settings;

#[test]
fn twenty_thousand_cached_batches_are_delivered_once_in_order_in_little_memory() {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd"));
    let report = backlog::run(&Settings { binary, files: 20_000 });
    println!("{report}");
    assert!(report.faults.is_empty(), "{report}");
}
