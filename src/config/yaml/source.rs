//! One configuration file: read with suspicion, parsed once, and able to say where a node of it is.
//!
//! Refused before a byte of YAML is parsed: what is no regular file, larger than [`MAX_BYTES`], writable by
//! everybody, not UTF-8, or nested so that the parser would not come to an end ([`nesting`]). A document that is not
//! YAML, or in which aliases repeat more than can be held, is one fault with its position. Whatever the file is, the
//! work for it is bounded: looks for positions and for words that may have been meant end when they have cost enough.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeSeed as _;

use super::nesting::{self, Excess};
use super::node::{Budget, Build, Node, Route, locate};
use crate::config::diagnostic::{Diagnostic, did_you_mean};

/// No configuration file is larger: ten thousand devices by their addresses have 300 KB.
pub const MAX_BYTES: u64 = 1 << 20;

/// Each look for a position walks the text again; beyond this many bytes in all a file could cost minutes.
const MAX_WALKED: usize = 8 << 20;

/// So many words are compared with what was found, over all faults.
const MAX_COMPARED: usize = 20_000;

/// For so many words of a file it is looked up what they mean elsewhere; a person mends fewer at once.
const MAX_LOOKED_UP: usize = 1_000;

/// A parsed file.
#[derive(Debug)]
pub struct Source {
    /// Where it is.
    pub file: PathBuf,
    text: String,
    /// What it says.
    pub root: Node,
    /// Bytes walked to locate faults.
    walked_for_faults: Cell<usize>,
    /// Bytes walked to see whether scalars have quotes.
    walked_for_quotes: Cell<usize>,
    /// Words compared to say which was meant.
    compared: Cell<usize>,
    /// Words for which it was looked up what they mean elsewhere.
    looked_up: Cell<usize>,
}

impl Source {
    /// The file at `path`, or `None` when there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, Diagnostic> {
        let Some(bytes) = read(path)? else { return Ok(None) };
        Self::of_text(path, text(path, bytes)?).map(Some)
    }

    /// The file at `path` as if it held this text.
    pub fn of_text(path: &Path, text: String) -> Result<Self, Diagnostic> {
        let root = parse(path, &text)?;
        Ok(Self {
            file: path.to_owned(),
            text,
            root,
            walked_for_faults: Cell::new(0),
            walked_for_quotes: Cell::new(0),
            compared: Cell::new(0),
            looked_up: Cell::new(0),
        })
    }

    /// The known word that was probably meant; after many faults nobody looks for it any more.
    pub fn meant<'k>(&self, found: &str, known: &[&'k str]) -> Option<&'k str> {
        // Counted in words known, not in words found: that is what a comparison costs.
        self.compared.set(self.compared.get().saturating_add(known.len()));
        // At least one word is compared with all, even where the known ones are the devices of a plant and more than
        // the bound.
        if self.compared.get() > MAX_COMPARED.max(known.len()) { None } else { did_you_mean(found, known) }
    }

    /// Whether it is looked up what one word more means elsewhere.
    pub fn may_look_up(&self) -> bool {
        self.looked_up.set(self.looked_up.get().saturating_add(1));
        self.looked_up.get() <= MAX_LOOKED_UP
    }

    /// A fault at the node that `route` leads to; `path` is the same way in words. Beyond
    /// [`MAX_WALKED`] the path must do.
    pub fn diagnostic(&self, route: &Route, path: &str, message: impl Into<String>) -> Diagnostic {
        // Faults and quotes have an account each: many faults must not change what a scalar means, nor the other way
        // round.
        let position = self.may_walk(&self.walked_for_faults).then(|| locate(&self.text, route)).flatten();
        let line = position.map_or_else(String::new, |(line, _)| self.line(line));
        Diagnostic { position, path: path.to_owned(), line, ..Diagnostic::of_file(&self.file, message) }
    }

    /// The line with this number, from 1, unless it may hold a secret: what is shown on a terminal or in a log stays there.
    fn line(&self, number: usize) -> String {
        line_of(&self.text, number)
    }

    /// Whether the scalar at `route` stands in the file without quotes.
    pub fn is_plain(&self, route: &Route) -> bool {
        // What is said of the rest does not matter: the file is refused for them.
        if !self.may_walk(&self.walked_for_quotes) {
            return true;
        }
        let Some((line, column)) = locate(&self.text, route) else { return false };
        let line = self.text.lines().nth(line - 1).unwrap_or_default();
        // The parser gives quoted and plain scalars alike; only the character that one begins with tells them apart.
        !matches!(line.chars().nth(column - 1), Some('"' | '\'' | '|' | '>'))
    }

    /// The fault of a file with too many scalars that YAML 1.1 and 1.2 read differently.
    pub fn too_ambiguous(&self) -> Option<Diagnostic> {
        let message = "found too many values such as 0123, 1_000, 1:30 or yes, which not every program reads the same \
                       way; write them plainly";
        // Beyond the bound `is_plain` only guesses, and what was guessed must not be polled: the whole file is refused.
        (self.walked_for_quotes.get() > MAX_WALKED).then(|| Diagnostic::of_file(&self.file, message))
    }

    fn may_walk(&self, walked: &Cell<usize>) -> bool {
        // The whole text, wherever the node is: the parser reads a document to its end before it gives out the first
        // value.
        walked.set(walked.get().saturating_add(self.text.len()));
        walked.get() <= MAX_WALKED
    }
}

/// The line with this number, from 1; without its password if it has one.
fn line_of(text: &str, number: usize) -> String {
    let line = text.lines().nth(number - 1).unwrap_or_default();
    let lower = line.to_ascii_lowercase().replace("_file", "");
    let is_secret =
        lower.contains('@') || ["pass", "token", "secret", "api_key"].iter().any(|word| lower.contains(word));
    if is_secret { String::new() } else { line.to_owned() }
}

fn parse(path: &Path, text: &str) -> Result<Node, Diagnostic> {
    // Before the parser, which takes minutes for such a text until it says the same.
    if let Some(excess) = nesting::excess(text) {
        return Err(too_much(path, excess));
    }
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let budget = Budget::default();
    // No document at all, and one of nothing but comments, are the same empty file.
    let root = match documents.next().map(|document| Build(&budget).deserialize(document)) {
        Some(Ok(root)) => root,
        None => Node::Null,
        Some(Err(error)) => return Err(not_yaml(path, text, &error)),
    };
    // Only the first document is looked at; what stands in a second one would be left out without a word.
    if documents.next().is_some() {
        return Err(Diagnostic::of_file(path, "found a second document (after `---`); allowed is one"));
    }
    if root == Node::Null {
        return Err(Diagnostic::of_file(path, "the file is empty"));
    }
    Ok(root)
}

/// The bytes of a file that is safe to read, or `None` when there is none.
pub(in crate::config) fn read(path: &Path) -> Result<Option<Vec<u8>>, Diagnostic> {
    let failed = |error: io::Error| Diagnostic {
        is_permission: error.kind() == io::ErrorKind::PermissionDenied,
        ..Diagnostic::of_file(path, format!("cannot be read: {error}"))
    };
    // Without NONBLOCK the opening of a FIFO waits for a writer.
    // No effect on a regular file, and anything else is refused below.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file: File = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        // Whether a file is needed only the caller knows.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // Of what was opened: the path may lead to another file by now.
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(Diagnostic::of_file(path, "is no regular file"));
    }
    if metadata.mode() & 0o002 != 0 {
        return Err(Diagnostic::of_file(path, "can be written by every user of this machine; run chmod o-w on it"));
    }
    if metadata.len() > MAX_BYTES {
        return Err(Diagnostic::of_file(path, format!("has {} bytes; allowed are {MAX_BYTES}", metadata.len())));
    }
    let mut bytes = Vec::new();
    // The file may have grown since its length was looked at.
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

pub(in crate::config) fn text(path: &Path, bytes: Vec<u8>) -> Result<String, Diagnostic> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        let line = valid.matches('\n').count() + 1;
        let column = valid.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Diagnostic {
            position: Some((line, column)),
            ..Diagnostic::of_file(path, "found a byte that is not UTF-8 text")
        }
    })?;
    // Some editors begin a text with a byte order mark.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn too_much(path: &Path, excess: Excess) -> Diagnostic {
    let (position, message) = match excess {
        Excess::Brackets(line, column) => {
            let message = format!(
                "this is not YAML of a configuration: found brackets within brackets, more than {0} deep; allowed are {0}",
                nesting::MOST
            );
            ((line, column), message)
        }
        Excess::Directives(line) => (
            (line, 1),
            "this is not YAML of a configuration: found many lines that begin with %; allowed is one, %YAML".to_owned(),
        ),
    };
    Diagnostic { position: Some(position), ..Diagnostic::of_file(path, message) }
}

fn not_yaml(path: &Path, text: &str, error: &serde_yaml::Error) -> Diagnostic {
    if let Some(fault) = documented_slip(path, text) {
        return fault;
    }
    let position = error.location().map(|location| (location.line(), location.column()));
    let line = position.map_or_else(String::new, |(line, _)| line_of(text, line));
    // Its own text ends in the position, which the fault states in front.
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    Diagnostic { position, line, ..Diagnostic::of_file(path, format!("this is not YAML: {message}")) }
}

/// The sample in the original's documentation has `- 30789` and, below it, an indented `multiplier: 1`.
fn documented_slip(path: &Path, text: &str) -> Option<Diagnostic> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let place = lines.windows(2).position(|pair| {
        let item = pair[0].trim().strip_prefix('-').map(str::trim);
        let bare_number = item.is_some_and(|item| !item.is_empty() && item.bytes().all(|byte| byte.is_ascii_digit()));
        bare_number && pair[1].trim_start().starts_with("multiplier:") && indent(pair[1]) > indent(pair[0])
    })?;
    let number = lines[place].trim().trim_start_matches('-').trim();
    let multiplier = lines[place + 1].trim();
    let message = "this is not YAML: a bare register number cannot have a multiplier below it (the sample in the \
                   documentation of the original agent is wrong here); write either";
    let instead =
        [format!("    - {number}"), "or".to_owned(), format!("    - address: {number}"), format!("      {multiplier}")];
    let position = Some((place + 2, indent(lines[place + 1]) + 1));
    Some(Diagnostic { position, instead: instead.into(), ..Diagnostic::of_file(path, message) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::node::{MAX_NODES, Step};

    /// C7: what aliases stand for is counted as it is built, and an end is made before it is too much.
    #[test]
    fn aliases_cannot_stand_for_more_than_can_be_held() {
        let many = |item: &str| vec![item; 100].join(", ");
        let texts = [
            format!("a: &a [{}]\nb: &b [{}]\nc: [{}]\n", many("x"), many("*a"), many("*b")),
            format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), many("*a")),
        ];
        for text in texts {
            let budget = Budget::default();
            let error = Build(&budget).deserialize(serde_yaml::Deserializer::from_str(&text)).unwrap_err();
            assert!(error.to_string().contains("aliases"), "{error}");
            assert!(budget.nodes() <= MAX_NODES);
        }
        let budget = Budget::default();
        Build(&budget).deserialize(serde_yaml::Deserializer::from_str("a: &a [x, y]\nb: [*a, *a]\n")).unwrap();
        assert_eq!(budget.nodes(), 13, "each of them once, and once more for each alias");
    }

    /// C7: for many faults nobody looks for positions and for words that were meant.
    #[test]
    fn many_faults_cost_no_more_than_some() {
        let text = (0..5_000).map(|number| format!("key{number}: 1\n")).collect::<Vec<_>>().concat();
        let source = Source::of_text(Path::new("x"), text).unwrap();
        let known: Vec<&str> = vec!["kei"; 100];
        let meant = (0..1_000).filter(|_| source.meant("key", &known).is_some()).count();
        assert_eq!(meant, MAX_COMPARED / 100);
        let located =
            (0..1_000).filter(|_| source.diagnostic(&vec![Step::Value(9)], "", "").position.is_some()).count();
        assert_eq!(located, MAX_WALKED / source.text.len());
    }
}
