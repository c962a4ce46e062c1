//! Runs the real agent through every fault at random and judges what became of each reading:
//! `cargo run --release --example soak -- --seed N --minutes M`.
//!
//! Prints seed, binary and plan first, the table last; exits with 1 when any bound was broken. As root it
//! mounts a small disk of its own to fill; with Debian's `libfaketime` installed it also steps the clock.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program for developers"
)]

#[path = "../tests/support/mod.rs"]
mod support;

#[path = "../tests/support/soak/mod.rs"]
mod soak;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use soak::{Length, Settings};

const DEVICES: u32 = 30;

fn main() -> ExitCode {
    let (mut seed, mut minutes, mut devices) = (fastrand::u64(..), 20, DEVICES);
    let (mut binary, mut only) = (None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().expect("each option has a value");
        match name.as_str() {
            "--seed" => seed = number(&value),
            "--minutes" => minutes = value.parse().expect("a number of minutes"),
            "--devices" => devices = value.parse().expect("a number of devices"),
            "--only" => only = Some(value),
            "--binary" => binary = Some(PathBuf::from(value)),
            _ => {
                panic!(
                    "usage: soak [--seed N] [--minutes M] [--devices D] [--binary PATH] [--only KIND]; 0 minutes: the short plan"
                )
            }
        }
    }
    let length = if minutes == 0 { Length::Short } else { Length::Minutes(minutes) };
    let report = soak::run(&Settings { binary: binary.unwrap_or_else(build_agent), seed, length, devices, only });
    if report.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A number, in hex when it begins with `0x`, as it is printed.
fn number(text: &str) -> u64 {
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
    parsed.expect("a number")
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
