//! Starts the real agent on a million batches that wait, in its log and in files of an old cache, and measures what that costs:
//! `cargo run --release --example backlog -- --files 1000000`.
//!
//! Prints how long the start takes to the first poll and the first post, the memory, how fast the batches
//! are delivered and what polling feels of it; exits with 1 when a bound was broken, or anything was lost,
//! doubled or disordered. They live in a temporary directory (`TMPDIR`); a file of an old cache takes 4 KiB of disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program for developers"
)]

#[path = "../tests/support/mod.rs"]
mod support;

#[path = "../tests/support/backlog/mod.rs"]
mod backlog;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use backlog::Settings;

fn main() -> ExitCode {
    let (mut files, mut binary) = (1_000_000, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().expect("each option has a value");
        match name.as_str() {
            "--files" => files = value.parse().expect("a number of files"),
            "--binary" => binary = Some(PathBuf::from(value)),
            _ => panic!("usage: backlog [--files N] [--binary PATH]"),
        }
    }
    let report = backlog::run(&Settings { binary: binary.unwrap_or_else(build_agent), files });
    println!("{report}");
    if report.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Builds the agent in the profile of this program; Cargo builds no binaries for an example.
fn build_agent() -> PathBuf {
    let example = std::env::current_exe().expect("a program has a path");
    let profile = example.parent().and_then(|examples| examples.parent()).expect("target/<profile>/examples");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--bin", "pattoo_agent_modbustcpd"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo").success(), "the agent does not build");
    profile.join("pattoo_agent_modbustcpd")
}
