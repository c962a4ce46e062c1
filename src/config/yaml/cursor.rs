//! A node together with the way to it, and the report that its faults go into.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::node::{Node, Route, Step};
use super::source::Source;
use super::yaml11;
use crate::config::diagnostic::{Diagnostic, MAX_TOLD};
use crate::config::synonyms;

/// So much that the Python agent took is warned of one by one; the rest is counted.
const MOST_TAKEN: usize = 10_000;

/// Everything that is wrong (faults) or questionable (warnings) so far.
#[derive(Debug, Default)]
pub struct Report {
    /// What stops the agent from starting.
    pub faults: Vec<Diagnostic>,
    /// What a person should know.
    pub warnings: Vec<Diagnostic>,
    /// What `~` stands for.
    pub home: Option<OsString>,
    /// `daemon_directory`, where files go whose place is not configured.
    pub daemon_directory: PathBuf,
    /// Where systemd has put the secrets of the service (`$CREDENTIALS_DIRECTORY`).
    pub credentials: Option<PathBuf>,
    /// Whether the file at hand is taken as the Python agent took it ([`crate::config::original`]).
    pub lenient: bool,
    /// Files as they are to be instead of as they are.
    pub proposed: Vec<(PathBuf, String)>,
    /// How often something was taken as the Python agent took it.
    pub taken: usize,
    /// How many registers all groups have so far, each number of a range counted.
    pub registers: usize,
}

impl Report {
    /// The warnings in order, no more than are told, the last one with the number of the others.
    pub fn settle_warnings(&mut self, sort: impl Fn(&mut Vec<Diagnostic>)) {
        sort(&mut self.warnings);
        // One slip in a group is one warning, however many devices the group has.
        self.warnings.dedup();
        // What was not even kept is among the number of the others.
        let beyond = self.taken.saturating_sub(MOST_TAKEN) + self.warnings.len().saturating_sub(MAX_TOLD);
        self.warnings.truncate(MAX_TOLD);
        if let Some(last) = self.warnings.last().filter(|_| beyond > 0) {
            let message = format!("there are {beyond} more warnings; they are shown when these are mended");
            self.warnings.push(Diagnostic::of_file(&last.file, message));
        }
    }

    /// What the Python agent took and this one does not: a warning where the file is taken as it took it, else a
    /// fault. `taken` says as what.
    pub fn unless_lenient(&mut self, mut fault: Diagnostic, taken: &str) {
        if self.lenient {
            self.taken += 1;
            // A mapping that is merged into hundreds of groups brings its unknown keys each time.
            if self.taken <= MOST_TAKEN {
                fault.message = format!("{}; {taken}, as with the Python agent", fault.message);
                self.warnings.push(fault);
            }
        } else {
            self.faults.push(fault);
        }
    }
}

/// One node of one file.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    source: &'a Source,
    /// The node as it is meant.
    pub node: Cow<'a, Node>,
    /// The node as our parser reads it.
    parsed: &'a Node,
    route: Route,
    path: String,
}

/// One entry of a mapping.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// The key.
    pub key: String,
    /// What stands at the key itself.
    pub key_cursor: Cursor<'a>,
    /// Its value.
    pub value: Cursor<'a>,
}

impl<'a> Cursor<'a> {
    /// The whole file.
    pub fn root(source: &'a Source) -> Self {
        Self {
            source,
            node: Cow::Borrowed(&source.root),
            parsed: &source.root,
            route: Route::new(),
            path: String::new(),
        }
    }

    fn below(&self, node: &'a Node, step: Step, path: String) -> Self {
        let mut route = self.route.clone();
        route.push(step);
        let mut cursor = Self { source: self.source, node: Cow::Borrowed(node), parsed: node, route, path };
        // A plain scalar that YAML 1.1 and 1.2 read differently has the meaning that it had for the original.
        if let Node::Text(text) = node
            && let Some(meant) = yaml11::resolve(text)
            // Last, because it parses the file again: nearly every text is none of the ambiguous ones.
            && self.source.is_plain(&cursor.route)
        {
            cursor.node = Cow::Owned(meant);
        }
        cursor
    }

    fn borrowed(&self) -> Option<&'a Node> {
        // What is owned is a scalar that was read by YAML 1.1: nothing is below it.
        match self.node {
            Cow::Borrowed(node) => Some(node),
            Cow::Owned(_) => None,
        }
    }

    /// The entries of a mapping that may be empty, of `of`; anything else is a fault.
    pub fn entries_of(&self, of: &str, report: &mut Report) -> Vec<Entry<'a>> {
        self.entries(report).unwrap_or_else(|| {
            // All its lines may be comments.
            if !matches!(*self.node, Node::Null) {
                report.faults.push(self.unfit(&format!("a mapping of {of}")));
            }
            Vec::new()
        })
    }

    /// The items of a list; `None` for anything else.
    pub fn items(&self) -> Option<Vec<Self>> {
        let Some(Node::List(items)) = self.borrowed() else { return None };
        let items = items.iter().enumerate();
        Some(
            items.map(|(place, item)| self.below(item, Step::Item(place), format!("{}[{place}]", self.path))).collect(),
        )
    }

    /// The entries of a mapping, merge keys (`<<`) resolved; `None` for anything else. Keys that are no text
    /// or come twice are reported.
    pub fn entries(&self, report: &mut Report) -> Option<Vec<Entry<'a>>> {
        let Some(Node::Mapping(entries)) = self.borrowed() else { return None };
        let mut found: Vec<Entry<'a>> = Vec::new();
        // Where each is in `found`.
        // By hash, because `devices` may have ten thousand keys and a search of `found` for each is quadratic.
        let mut known: HashMap<&str, usize> = HashMap::new();
        let mut merged: Vec<Entry<'a>> = Vec::new();
        for (place, (key, value)) in entries.iter().enumerate() {
            let path = |name: &str| {
                // A key may be as long as the file, and its path stands in every message about what is below it.
                let name = cut(name);
                if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
            };
            let key_cursor = self.below(key, Step::Key(place), path(&key.shown().replace('"', "")));
            // Where numbers are keys (registers and their names, texts for values) the mapping is read by `pairs`
            // instead.
            let Node::Text(name) = key else {
                let fault = key_cursor.diagnostic(format!("found the key {}; allowed are words", key.shown()));
                report.unless_lenient(fault, "it is ignored");
                continue;
            };
            let value = self.below(value, Step::Value(place), path(name));
            // Set aside: wherever the merge key stands, a key of the mapping itself wins over a merged one.
            if name == "<<" {
                let sources = value.items().unwrap_or_else(|| vec![value]);
                merged.extend(sources.iter().filter_map(|source| source.entries(report)).flatten());
            } else if let Some(&first) = known.get(name.as_str()) {
                report.unless_lenient(
                    key_cursor.diagnostic("found this key twice; allowed is once"),
                    "the last one counts",
                );
                if report.lenient
                    && let Some(first) = found.get_mut(first)
                {
                    // In the place of the first, as in a dict of Python: order matters for groups and devices.
                    *first = Entry { key: name.clone(), key_cursor, value };
                }
            } else {
                known.insert(name, found.len());
                found.push(Entry { key: name.clone(), key_cursor, value });
            }
        }
        let mut known: HashSet<String> = known.into_keys().map(str::to_owned).collect();
        // Of several sources the earlier one wins (the merge key's specification), so the first of a name is kept.
        for entry in merged {
            if known.insert(entry.key.clone()) {
                found.push(entry);
            }
        }
        Some(found)
    }

    /// The keys of a mapping and their values, whatever the keys are and as often as they come; `None` for anything else.
    pub fn pairs(&self) -> Option<Vec<(Self, Self)>> {
        let Some(Node::Mapping(entries)) = self.borrowed() else { return None };
        let pair = |(place, (key, value)): (usize, &'a (Node, Node))| {
            let name = key.shown().replace('"', "");
            let path = format!("{}.{}", self.path, cut(&name));
            (self.below(key, Step::Key(place), path.clone()), self.below(value, Step::Value(place), path))
        };
        Some(entries.iter().enumerate().map(pair).collect())
    }

    /// A fault at this node.
    pub fn diagnostic(&self, message: impl Into<String>) -> Diagnostic {
        self.source.diagnostic(&self.route, &self.path, message)
    }

    /// A fault that says what was found here and what is allowed.
    pub fn unfit(&self, allowed: &str) -> Diagnostic {
        self.diagnostic(format!("found {}; allowed is {allowed}", self.node.shown()))
    }

    /// The known word that was probably meant by `found`.
    pub fn meant<'k>(&self, found: &str, known: &[&'k str]) -> Option<&'k str> {
        self.source.meant(found, known)
    }

    /// What `look_up` says of a word of this file; nothing after a thousand of them, which nobody would read.
    pub fn looked_up<T>(&self, look_up: impl FnOnce() -> Option<T>) -> Option<T> {
        if self.source.may_look_up() { look_up() } else { None }
    }

    /// Where the file is that this node stands in.
    pub fn directory(&self) -> &Path {
        self.source.file.parent().unwrap_or(Path::new(""))
    }

    /// Line and column of this node, for a message about another one.
    pub fn place(&self) -> String {
        match self.diagnostic("").position {
            // Without a position there were so many faults that none is looked for any more.
            Some((line, column)) => format!("{line}:{column}"),
            None => self.path.clone(),
        }
    }

    /// The text as it stands in the file: `off` is no boolean here.
    pub fn written(&self) -> Option<&'a str> {
        if let Node::Text(text) = self.parsed { Some(text) } else { None }
    }

    /// The digits of a plain number that begins with a 0, which YAML 1.1 reads as octal.
    pub fn digits(&self) -> Option<&str> {
        let Node::Text(text) = self.parsed else { return None };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (digits && self.is_plain()).then_some(text)
    }

    /// Whether the value stands in the file without quotes.
    pub fn is_plain(&self) -> bool {
        self.source.is_plain(&self.route)
    }
}

/// A name in a message, or in the way to a value: its beginning says enough.
pub fn cut(name: &str) -> &str {
    const LONGEST: usize = 80;
    name.char_indices().nth(LONGEST).map_or(name, |(end, _)| &name[..end])
}

impl Entry<'_> {
    /// Reports a key that nobody knows.
    pub fn report_unknown(&self, known: &[&str], report: &mut Report) {
        report.unless_lenient(self.unknown(known), "it is ignored");
    }

    /// A fault for a key that nobody knows.
    pub fn unknown(&self, known: &[&str]) -> Diagnostic {
        let synonym = || {
            if let Some(meant) = synonyms::key(&self.key, known) {
                return Some(meant.hint());
            }
            let (place, key) = synonyms::elsewhere(&self.key, known)?;
            let named = if key == self.key { "it".to_owned() } else { format!("\"{key}\"") };
            Some(format!("{named} belongs to {place}"))
        };
        // What a word means elsewhere comes before likeness: by its letters alone `scale` led to scale_register.
        let hint = if let Some(hint) = self.key_cursor.looked_up(synonym) {
            hint
        } else if let Some(word) = self.key_cursor.meant(&self.key, known) {
            format!("did you mean \"{word}\"?")
        } else {
            format!("allowed are {}", known.join(", "))
        };
        self.key_cursor.diagnostic(format!("found an unknown key; {hint}"))
    }
}
