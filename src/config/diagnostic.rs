//! What is wrong with a configuration, told so that a person can mend it: where, what was found, what is allowed.
//!
//! All faults are collected before any is told. The form is `file:line:column: path: found …; allowed is …`.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::text::harmless::escaped;

/// No longer text is a known word with a slip in it.
const LONGEST_WORD: usize = 256;

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
}

impl Diagnostic {
    /// A fault of the file as a whole.
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { file: file.to_owned(), position: None, path: String::new(), message, instead: Vec::new() }
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

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, fault) in self.faults.iter().take(MAX_TOLD).enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        if let more @ 1.. = self.faults.len().saturating_sub(MAX_TOLD) {
            write!(f, "\nand {more} more faults")?;
        }
        self.warnings.iter().try_for_each(|warning| write!(f, "\nwarning: {warning}"))
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
            file: "/etc/pattoo/a.yaml".into(),
            position: Some((7, 11)),
            path: "polling_groups[0].unit".into(),
            message: "found \"1\"; allowed is a number".into(),
            instead: Vec::new(),
        };
        assert_eq!(
            fault.to_string(),
            "/etc/pattoo/a.yaml:7:11: polling_groups[0].unit: found \"1\"; allowed is a number"
        );
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
