//! Puts old faults back, one at a time, and looks whether the tests notice: `cargo run --example broken [-- NAME …]`.
//!
//! Each patch of `tests/broken` is applied to a copy of the tree in `target/broken`; what it makes must build, and the test that
//! the page there names must fail, and pass on the copy as it is. Exits with 1 when it is otherwise. What the copy has built
//! stays, so that each patch costs what it changes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program for developers"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use support::broken::{self, Broken, Test};

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut builds = broken::all();
    builds.retain(|build| wanted.is_empty() || wanted.contains(&build.name));
    assert!(!builds.is_empty(), "no such patch");
    let tree = Tree::copied();
    let tests: BTreeSet<&Test> = builds.iter().map(|build| &build.test).collect();
    let tries = tests.into_iter().map(|test| (None, test)).chain(builds.iter().map(|build| (Some(build), &build.test)));
    let (mut wrong, mut complaints) = (0, String::new());
    for (patch, test) in tries {
        let begun = Instant::now();
        let found = tree.run(patch, test);
        let (name, expected) = patch.map_or(("-", "passed"), |build| (&*build.name, "failed"));
        println!("{name:<26} {:<14} {:<64} {:<14} {:>4.0?}", test.program, test.name, found.word, begun.elapsed());
        if found.word != expected {
            wrong += 1;
            writeln!(
                complaints,
                "\n{name}: {} {} {}, it must have {expected}\n{}",
                test.program, test.name, found.word, found.said
            )
            .expect("memory");
        }
    }
    tree.restore();
    println!(
        "{complaints}\nbuilds tried : {}\nnot as they must be: {wrong}\nVERDICT {}",
        builds.len(),
        if wrong == 0 { "PASS" } else { "FAIL" }
    );
    ExitCode::from(u8::from(wrong > 0))
}

/// What became of a test.
struct Found {
    /// `passed`, `failed`, or how far it came.
    word: &'static str,
    /// What was said.
    said: String,
}

/// A copy of the tree that may be broken.
struct Tree {
    /// Where the copy is.
    at: PathBuf,
    /// What it holds while it is not broken.
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Tree {
    /// The tree as it is now: whoever works on it meanwhile changes nothing.
    fn copied() -> Self {
        let of = Path::new(env!("CARGO_MANIFEST_DIR"));
        let list = Command::new("git").args(["ls-files", "-z", "-co", "--exclude-standard"]).current_dir(of).output();
        let list = String::from_utf8(list.expect("git").stdout).expect("names in UTF-8");
        // One that is listed and cannot be read is removed and not committed.
        let read = |name: &str| Some((PathBuf::from(name), fs::read(of.join(name)).ok()?));
        let files: BTreeMap<_, _> = list.split_terminator('\0').filter_map(read).collect();
        assert!(files.len() > 300, "{} files of the tree", files.len());
        Self { at: of.join("target/broken/tree"), files }
    }

    /// Makes the copy whole; a file that is the same stays untouched, for Cargo goes by times.
    fn restore(&self) {
        for (name, content) in &self.files {
            let path = self.at.join(name);
            if fs::read(&path).ok().as_ref() != Some(content) {
                fs::create_dir_all(path.parent().expect("it is in the copy")).expect("a directory of the copy");
                fs::write(path, content).expect("a file of the copy");
            }
        }
        let mut directories = vec![self.at.clone()];
        while let Some(directory) = directories.pop() {
            let entries = fs::read_dir(directory).expect("a directory of the copy");
            for path in entries.map(|entry| entry.expect("an entry").path()) {
                if path.is_dir() {
                    directories.push(path);
                } else if !self.files.contains_key(path.strip_prefix(&self.at).expect("it is in the copy")) {
                    fs::remove_file(path).expect("a file of the copy");
                }
            }
        }
    }

    /// Runs a test in it, with a patch or as it is.
    fn run(&self, patch: Option<&Broken>, test: &Test) -> Found {
        self.restore();
        if let Some(patch) = patch {
            let applied = Command::new("git")
                .arg("apply")
                .arg(patch.patch())
                .current_dir(&self.at)
                // It is no part of the repository around it.
                .env("GIT_CEILING_DIRECTORIES", self.at.parent().expect("it is in target"))
                .output()
                .expect("git");
            if !applied.status.success() {
                return Found { word: "does not apply", said: String::from_utf8_lossy(&applied.stderr).into_owned() };
            }
        }
        let cargo = |arguments: &[&str]| {
            let ran = Command::new(env!("CARGO"))
                .args(["test", "--quiet", "--locked", "--test", &test.program])
                .args(arguments)
                .current_dir(&self.at)
                .env("CARGO_TARGET_DIR", self.at.with_file_name("build"))
                .env("CARGO_PROFILE_DEV_DEBUG", "false")
                .output()
                .expect("cargo");
            let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            (ran.status.success(), said.concat())
        };
        let (builds, said) = cargo(&["--no-run"]);
        if !builds {
            return Found { word: "does not build", said };
        }
        let (_, said) = cargo(&[&test.name, "--", "--exact"]);
        let ended = |how: &str| said.contains(&format!("test result: {how}"));
        let word = match (ended("ok. 1 passed"), ended("FAILED. 0 passed; 1 failed")) {
            (true, false) => "passed",
            (false, true) => "failed",
            _ => "was not run",
        };
        Found { word, said }
    }
}
