//! Builds that must be caught: the patches of `tests/broken`, and which test must fail on each, as the page there says.

use std::fs;
use std::path::{Path, PathBuf};

/// A build that breaks one promise, and one test that must notice.
#[derive(Debug)]
pub struct Broken {
    /// Of the patch.
    pub name: String,
    /// What must fail.
    pub test: Test,
}

/// A test.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// The program that it is in.
    pub program: String,
    /// Its name there.
    pub name: String,
}

/// Where the patches are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken")
}

/// What the page says, row by row.
pub fn all() -> Vec<Broken> {
    let page = fs::read_to_string(directory().join("README.md")).expect("the page of the patches");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let of = |row: &str| {
        let cells: Vec<_> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let [patch, _, tests] = cells[..] else { panic!("not a patch, what it breaks and what must fail: {row}") };
        let bare = |text: &str| text.trim_matches('`').to_owned();
        let test = |test: &str| {
            let (program, name) = test.split_once(", ").unwrap_or_else(|| panic!("not a program and a test: {row}"));
            Broken { name: bare(patch), test: Test { program: bare(program), name: bare(name) } }
        };
        tests.split("; ").map(test).collect::<Vec<_>>()
    };
    rows.flat_map(of).collect()
}

impl Broken {
    /// The patch that makes it.
    pub fn patch(&self) -> PathBuf {
        directory().join(format!("{}.patch", self.name))
    }
}
