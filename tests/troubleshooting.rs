//! The book's table of what is in the log, and what the sources write to it: neither has what the other lacks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

/// The source of the agent without its tests, with each text on one line.
fn sources() -> String {
    fn gather(directory: &Path, text: &mut String) {
        let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                gather(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let source = fs::read_to_string(&path).unwrap();
                text.push_str(source.split("#[cfg(test)]\nmod tests {").next().unwrap());
            }
        }
    }
    let mut text = String::new();
    gather(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    let mut pieces = text.split("\\\n");
    let first = pieces.next().unwrap().to_owned();
    pieces.fold(first, |text, piece| text + piece.trim_start())
}

/// What the first column of the table quotes.
fn quoted() -> Vec<String> {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/troubleshooting.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| row.split(" | ").next().unwrap().split('`').skip(1).step_by(2).map(str::to_owned)).collect()
}

/// The first text of each call of `macro_name`.
fn texts<'a>(sources: &'a str, macro_name: &str) -> Vec<&'a str> {
    let calls = sources.split(macro_name).skip(1);
    calls.map(|call| call.split_once('"').unwrap().1.split_once('"').unwrap().0).collect()
}

#[test]
fn what_the_table_quotes_is_what_the_agent_says() {
    let (sources, quoted) = (sources(), quoted());
    assert!(quoted.len() > 40, "{quoted:?}");
    let unsaid: Vec<_> = quoted.iter().filter(|words| !sources.contains(&***words)).collect();
    assert!(unsaid.is_empty(), "nowhere in the sources: {unsaid:#?}");
}

#[test]
fn every_warning_and_error_is_in_the_table() {
    let (sources, quoted) = (sources(), quoted());
    let said: Vec<_> = ["tracing::warn!(", "tracing::error!("].iter().flat_map(|name| texts(&sources, name)).collect();
    assert!(said.len() > 50, "{said:?}");
    // Warnings that are made elsewhere, and the device's line, which is its cause and what happens next.
    let is_made_elsewhere =
        |text: &str| text.starts_with('{') && text.ends_with('}') && !text[1..text.len() - 1].contains(' ');
    let is_cause = |text: &str| ["{called}: {subject}: {cause}; {next}", "{called}: {remark}"].contains(&text);
    let missing: Vec<_> = said
        .into_iter()
        .filter(|text| !is_made_elsewhere(text) && !is_cause(text))
        .filter(|text| !quoted.iter().any(|words| text.contains(&**words)))
        .collect();
    assert!(missing.is_empty(), "not in docs/troubleshooting.md: {missing:#?}");
}
