//! `tests/FAULTS.md` is true: every fault is listed once, every test it names exists, and no fault loses its
//! test unnoticed; and the builds that prove the harnesses can still be made.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and the count is to be seen"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use support::broken::{self, Broken, Test};

/// How many faults have a test; raise it with each that gets one.
const COVERED: usize = 183;

/// How many faults of each kind there are: devices, network, server, disk, process, clock, input, security, operator.
const KINDS: [(&str, usize); 9] =
    [("D", 40), ("N", 16), ("S", 31), ("K", 25), ("P-", 22), ("C", 14), ("I", 15), ("X", 15), ("O", 12)];

/// Fault and what stands beside it, in the order of the page.
fn rows() -> Vec<(String, String)> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/FAULTS.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    let fault = |cell: &str| cell.split(' ').next().unwrap_or_default().to_owned();
    rows.filter(|(cell, _)| *cell != "fault").map(|(cell, tests)| (fault(cell), tests.to_owned())).collect()
}

/// The tests that a cell names; none when it says why there is none.
fn tests(cell: &str) -> Vec<(&str, &str)> {
    if cell.starts_with('—') {
        return Vec::new();
    }
    let named = cell.split(", ").map(|test| test.strip_prefix('`').and_then(|test| test.strip_suffix('`')));
    named.map(|test| test.and_then(|test| test.rsplit_once("::")).unwrap_or((cell, "is no list of tests"))).collect()
}

#[test]
fn every_fault_is_on_the_page_once() {
    let listed: Vec<String> = rows().into_iter().map(|(fault, _)| fault).collect();
    let expected: Vec<String> =
        KINDS.iter().flat_map(|(kind, count)| (1..=*count).map(move |number| format!("{kind}{number}"))).collect();
    assert_eq!(expected.len(), 190);
    let unknown: BTreeSet<_> = listed.iter().filter(|fault| !expected.contains(fault)).collect();
    assert!(unknown.is_empty(), "no such faults: {unknown:?}");
    for fault in &expected {
        assert_eq!(listed.iter().filter(|listed| *listed == fault).count(), 1, "{fault}");
    }
}

#[test]
fn every_test_on_the_page_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    let mut missing = Vec::new();
    for (fault, cell) in &rows() {
        for (file, name) in tests(cell) {
            let source = sources
                .entry(file.to_owned())
                .or_insert_with(|| fs::read_to_string(root.join(file)).unwrap_or_default());
            if !source.contains(&format!("fn {name}(")) {
                missing.push(format!("{fault}: {file}::{name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(sources.len() > 10, "{} files", sources.len());
}

#[test]
fn no_fault_loses_its_test_unnoticed() {
    let rows = rows();
    let (covered, open): (Vec<_>, Vec<_>) = rows.iter().partition(|(_, cell)| !tests(cell).is_empty());
    for (fault, why) in &open {
        assert!(why.trim_start_matches('—').trim().len() > 5, "{fault}: without a test and without a reason");
    }
    println!("{} of {} faults have a test", covered.len(), rows.len());
    for (fault, why) in &open {
        println!("{fault} {why}");
    }
    assert!(covered.len() >= COVERED, "{} faults have a test, {COVERED} had one", covered.len());
}

#[test]
fn every_broken_build_can_be_made_and_names_a_test_that_must_notice() {
    if !support::needs(&["git"]) {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = broken::all();
    for build in &listed {
        let check =
            Command::new("git").args(["apply", "--check"]).arg(build.patch()).current_dir(root).output().unwrap();
        assert!(check.status.success(), "{}: {}", build.name, String::from_utf8_lossy(&check.stderr));
        let Test { program, name } = &build.test;
        let sources = [format!("tests/{program}.rs"), format!("tests/{program}/main.rs")];
        let has = |source: &String| {
            fs::read_to_string(root.join(source)).is_ok_and(|source| source.contains(&format!("fn {name}(")))
        };
        assert!(sources.iter().any(has), "{}: there is no {program}, {name}", build.name);
    }
    let entries = fs::read_dir(broken::directory()).unwrap().map(|entry| entry.unwrap().path());
    let patches: BTreeSet<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "patch")).collect();
    assert_eq!(listed.iter().map(Broken::patch).collect::<BTreeSet<_>>(), patches, "the page and the directory");
    assert!(patches.len() >= 19, "{} patches", patches.len());
}
