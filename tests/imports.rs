//! The tables of `src/lib.rs` are true: every room imports what its row allows and nothing else, no two rooms import
//! each other, and every foreign crate is named only where its row says.
//!
//! Nothing here parses Rust. Comments and tests are left out; what remains is searched for `crate::` and for names of
//! crates. So a path must begin with its room: `use crate::{a, b}` and `super::super` are refused.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Fewer files are not all of them.
const LEAST_FILES: usize = 150;

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The rows of the table in the header of `lib.rs` whose first head is `head`, cell by cell.
fn table(head: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(src().join("lib.rs")).unwrap();
    let mut lines = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    lines.find(|line| line.starts_with(&format!("| {head} |"))).expect("there is such a table");
    let rows = lines.skip(1).map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows: Vec<_> = rows.map(|row| row.split(" | ").map(str::to_owned).collect::<Vec<_>>()).collect();
    assert!(rows.len() > 10, "{} rows below {head}", rows.len());
    rows
}

/// The names in a cell that stand between backticks.
fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every source file, as it is called below `src`, without its comments and its tests.
fn sources() -> Vec<(String, String)> {
    let mut folders = vec![src()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(src()).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let is_test = name.split('/').any(|part| part == "tests" || part == "tests.rs");
            if !is_test && path.extension().is_some_and(|extension| extension == "rs") {
                sources.push((name, without_comments_and_tests(&fs::read_to_string(path).unwrap())));
            }
        }
    }
    assert!(sources.len() >= LEAST_FILES, "{} files", sources.len());
    sources.sort();
    sources
}

fn without_comments_and_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| line.split(" // ").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// What stands behind each `prefix` that is a word of its own: as much as can be part of a path.
fn behind<'t>(text: &'t str, prefix: &'t str) -> impl Iterator<Item = &'t str> {
    let own = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    text.match_indices(prefix).filter(move |(at, _)| own(*at)).map(move |(at, _)| {
        let rest = &text[at + prefix.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        &rest[..end]
    })
}

fn room_of(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

/// Whether `path` is `prefix` or below it, their parts being separated by `separator`.
fn is_below(path: &str, prefix: &str, separator: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(separator))
}

/// Room and what it may import, from bottom to top.
fn rooms() -> Vec<(String, Vec<String>)> {
    let row = |row: Vec<String>| (names(&row[0]).swap_remove(0), names(&row[2]));
    table("room").into_iter().map(row).collect()
}

#[test]
fn every_room_has_a_row() {
    let text = fs::read_to_string(src().join("lib.rs")).unwrap();
    let modules: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let rooms: Vec<String> = rooms().into_iter().map(|(room, _)| room).collect();
    assert_eq!(modules.iter().copied().collect::<BTreeSet<_>>(), rooms.iter().map(String::as_str).collect());
    assert_eq!(modules.len(), rooms.len());
}

#[test]
fn rooms_import_only_rooms_below_them() {
    let rooms = rooms();
    for (place, (room, imports)) in rooms.iter().enumerate() {
        for import in imports {
            let below = rooms[..place].iter().any(|(below, _)| is_below(import, below, "::"));
            assert!(below, "{room} may not import {import}, which does not stand above it in the table");
        }
    }
}

#[test]
fn files_import_what_their_room_may() {
    let rooms = rooms();
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for (file, text) in sources() {
        let room = room_of(&file);
        if room == "lib" || room == "main" {
            continue;
        }
        let (_, allowed) = rooms.iter().find(|(name, _)| name == room).unwrap_or_else(|| panic!("no row for {file}"));
        if text.contains("super::super") || behind(&text, "crate::").any(str::is_empty) {
            wrong.push(format!("{file}: a path that does not begin with its room"));
        }
        for path in behind(&text, "crate::").filter(|path| room_of_path(path) != room) {
            match allowed.iter().find(|allowed| is_below(path, allowed, "::")) {
                Some(allowed) => drop(used.insert((room.to_owned(), allowed.clone()))),
                None => wrong.push(format!("{file}: crate::{path}")),
            }
        }
    }
    assert!(wrong.is_empty(), "the table in src/lib.rs does not allow: {wrong:#?}");
    assert!(used.len() > 60, "{} imports", used.len());
}

/// The supervisor starts every actor, so an actor that imports it closes a circle; what both need is in `lifecycle`.
#[test]
fn no_actor_imports_the_supervisor() {
    let actors: Vec<_> = sources().into_iter().filter(|(file, _)| room_of(file) == "actors").collect();
    assert!(actors.len() > 5, "{} files", actors.len());
    for (file, text) in &actors {
        let imports = ["super::supervisor", "crate::actors::supervisor"].iter().any(|path| text.contains(path));
        assert!(!imports, "{file}");
    }
}

fn room_of_path(path: &str) -> &str {
    path.split("::").next().unwrap_or(path)
}

#[test]
fn every_dependency_has_a_row() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let lines = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let dependencies: BTreeSet<String> = lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| Some(line.split_once(" = ")?.0.replace('-', "_")))
        .collect();
    let rows: BTreeSet<String> = table("crate").iter().map(|row| names(&row[0]).swap_remove(0)).collect();
    assert_eq!(rows.iter().filter(|name| *name != "std::fs").cloned().collect::<BTreeSet<_>>(), dependencies);
}

#[test]
fn foreign_crates_are_named_where_their_row_says() {
    let rows = table("crate");
    let sources = sources();
    let mut wrong = Vec::new();
    for row in &rows {
        let (name, places) = (names(&row[0]).swap_remove(0), names(&row[1]));
        for place in &places {
            assert!(src().join(place).exists(), "{name}: there is no {place}");
        }
        let prefix = format!("{name}::");
        let users: Vec<&str> = sources
            .iter()
            .filter(|(_, text)| behind(text, &prefix).next().is_some())
            .map(|(file, _)| file.as_str())
            .collect();
        assert!(!users.is_empty(), "nobody names {name}");
        if row[1] != "anywhere" {
            let outside = users.iter().filter(|file| !places.iter().any(|place| is_below(file, place, "/")));
            wrong.extend(outside.map(|file| format!("{file}: {name}")));
        }
    }
    assert!(wrong.is_empty(), "the table in src/lib.rs does not allow: {wrong:#?}");
}
