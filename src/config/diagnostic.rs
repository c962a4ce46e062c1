//! What is wrong with a configuration, told so that a person can mend it: where, what was found, what is allowed.
//!
//! All faults are collected before any is told. The form is `file:line:column: path: found …; allowed is …`.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::text::harmless::{escaped, is_harmless};

/// No longer text is a known word with a slip in it.
const LONGEST_WORD: usize = 256;

/// No more of a line is shown: with its number it fits a terminal of 80 columns.
const LONGEST_LINE: usize = 68;

/// Faults and warnings beyond this many are counted only.
pub const MAX_TOLD: usize = 100;

/// One fault, or one warning, of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file.
    pub file: PathBuf,
    /// Line and column from 1, when it is about a place in the file.
    pub position: Option<(usize, usize)>,
    /// The way to the value, `polling_groups[0].unit`; empty when it is about the file.
    pub path: String,
    /// What was found, and what is allowed; shown on one line.
    pub message: String,
    /// What to write instead, when that takes lines of its own; shown below.
    pub instead: Vec<String>,
    /// The line of the file that it is about; empty where there is none, or where it may hold a secret.
    pub line: String,
    /// Whether somebody who may do more would not have it.
    pub is_permission: bool,
}

impl Diagnostic {
    /// A fault of the file as a whole.
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            file: file.to_owned(),
            position: None,
            path: String::new(),
            message,
            instead: Vec::new(),
            line: String::new(),
            is_permission: false,
        }
    }

    /// The same with the line of the file, and a caret below the place, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut text = self.to_string();
        if let (Some((number, column)), false) = (self.position, self.line.trim().is_empty()) {
            // Each character is one column, and what a terminal obeys is none.
            let plain = |it: char| {
                if it == '\t' {
                    ' '
                } else if is_harmless(it) {
                    it
                } else {
                    '·'
                }
            };
            let before = column.saturating_sub(1);
            let skipped = before.saturating_sub(LONGEST_LINE / 2);
            let line: String = self.line.chars().skip(skipped).take(LONGEST_LINE).map(plain).collect();
            let (line, caret) = (line.trim_end(), before - skipped);
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{number:>5} | {line}\n{:5} | {:caret$}^", "", "");
        }
        text
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", escaped(&self.file.display().to_string()))?;
        if let Some((line, column)) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", escaped(&self.path))?;
        }
        write!(f, " {}", escaped(&self.message))?;
        self.instead.iter().try_for_each(|line| write!(f, "\n{}", escaped(line)))
    }
}

/// Every fault of a configuration; there is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// In order of file and line.
    pub faults: Vec<Diagnostic>,
    /// What is questionable besides, and may be what is behind a fault; bounded.
    pub warnings: Vec<Diagnostic>,
}

impl From<Vec<Diagnostic>> for ConfigError {
    fn from(faults: Vec<Diagnostic>) -> Self {
        Self { faults, warnings: Vec::new() }
    }
}

impl ConfigError {
    /// Whether nothing is wrong but that files may not be read.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        // With any other fault rights alone would not help.
        self.faults.iter().all(|fault| fault.is_permission)
    }

    /// Every fault and every warning with the line that it is about, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        self.told(Diagnostic::shown)
    }

    fn told(&self, one: impl Fn(&Diagnostic) -> String) -> String {
        let mut told: Vec<String> = self.faults.iter().take(MAX_TOLD).map(&one).collect();
        if let more @ 1.. = self.faults.len().saturating_sub(MAX_TOLD) {
            told.push(format!("and {more} more faults"));
        }
        // With the faults: a warning that all registers are left out says why there is nothing to poll.
        told.extend(self.warnings.iter().map(|warning| format!("warning: {}", one(warning))));
        told.join("\n")
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(Diagnostic::to_string))
    }
}

impl std::error::Error for ConfigError {}

/// The known word nearest to `found`, if it is near enough to have been meant.
pub fn did_you_mean<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    // Nobody slips so far, and to compare costs as much as both are long.
    if found.len() > LONGEST_WORD {
        return None;
    }
    let lower = found.to_lowercase();
    let near = known.iter().map(|word| (strsim::jaro_winkler(&lower, word), *word));
    near.filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_where_what_and_what_is_allowed() {
        let fault = Diagnostic {
            position: Some((7, 11)),
            path: "polling_groups[0].unit".into(),
            line: "    unit: \"1\"".into(),
            ..Diagnostic::of_file(Path::new("/etc/pattoo/a.yaml"), "found \"1\"; allowed is a number")
        };
        assert_eq!(
            fault.to_string(),
            "/etc/pattoo/a.yaml:7:11: polling_groups[0].unit: found \"1\"; allowed is a number"
        );
        let shown = fault.shown();
        let shown: Vec<&str> = shown.lines().skip(1).collect();
        assert_eq!(shown, ["    7 |     unit: \"1\"", "      |           ^"]);
        let long =
            Diagnostic { line: format!("{}\t\u{1b}x", "a ".repeat(500)), position: Some((1, 1001)), ..fault.clone() };
        let shown = long.shown();
        let (line, caret) = (shown.lines().nth(1).unwrap(), shown.lines().nth(2).unwrap());
        assert!(line.ends_with("a  ·x") && line.chars().count() < 80, "{line}");
        assert_eq!(caret.chars().count(), line.chars().count() - 2, "{shown}");
        let many = ConfigError::from(vec![fault; 120]);
        assert_eq!(many.to_string().lines().count(), 101);
        assert!(many.to_string().ends_with("and 20 more faults"));
    }

    #[test]
    fn a_slip_of_the_pen_is_recognized_and_another_word_is_not() {
        let known = ["polling_interval", "polling_groups", "agent_hostname"];
        assert_eq!(did_you_mean("pooling_interval", &known), Some("polling_interval"));
        assert_eq!(did_you_mean("Polling_Group", &known), Some("polling_groups"));
        assert_eq!(did_you_mean("colour", &known), None);
    }
}
