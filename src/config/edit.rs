//! A configuration file changed in place: the value of a key is replaced, a key is put into its section, an item is put
//! behind the last one of a list. All other lines, comments among them, stay as they are, byte for byte.
//!
//! Nothing here is trusted: the new text is parsed again, and it must say what the old one said, but for the change. Where
//! it does not (anchors, several lines for one value, lists in brackets), the change is refused and the text stays.

use std::path::Path;

use serde_yaml::{Mapping, Value};
use thiserror::Error;

use super::diagnostic::Diagnostic;
use super::yaml::node::{Step, locate};
use super::yaml::source::{self, Source};

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} is written in a way that only a person can change; write it there by hand:\n{wanted}")]
pub struct Refused {
    what: String,
    wanted: String,
}

/// Sections of keys and values as they stand in a file; by default of one that is not there yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit {
    text: String,
    value: Mapping,
}

impl Edit {
    /// What stands in a file.
    ///
    /// # Errors
    /// When the agent would not read it, it is no mapping, or has a key twice: which of the two is meant is not for a
    /// program to say that writes the file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value = parse(text)?;
        Ok(Self { text: text.to_owned(), value })
    }

    /// Whether the section is there, whatever is in it.
    #[must_use]
    pub fn has(&self, section: &str) -> bool {
        self.value.contains_key(section)
    }

    /// The value of a key as a person would type it.
    #[must_use]
    pub fn get(&self, section: &str, key: &str) -> Option<String> {
        match self.value.get(section)?.get(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// How many items a list has; none where there is no such list.
    #[must_use]
    pub fn items(&self, list: &str) -> usize {
        self.value.get(list).and_then(Value::as_sequence).map_or(0, Vec::len)
    }

    /// The file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Sets a key; a whole number stays one, and a value that is there already as it is written.
    ///
    /// # Errors
    /// When the text cannot be changed so that it says this and nothing else than before.
    pub fn set(&mut self, section: &str, key: &str, value: &str) -> Result<(), Refused> {
        if self.get(section, key).as_deref() == Some(value) {
            return Ok(());
        }
        let (wanted, written) = scalar(value);
        let mut expected = self.value.clone();
        let of = expected.entry(Value::from(section)).or_insert_with(|| Value::from(Mapping::new()));
        if of.is_null() {
            *of = Value::from(Mapping::new());
        }
        let refused = || Refused { what: format!("{section}: {key}"), wanted: format!("{section}:\n  {key}: {value}") };
        of.as_mapping_mut().ok_or_else(refused)?.insert(Value::from(key), wanted);
        // A comma ends a value between braces, and is part of one that stands alone in its line.
        let ends = [&["#", ",", "}"][..], &["#"]];
        let ways = ends.into_iter().flat_map(|ends| written.iter().map(move |value| (value, ends)));
        let candidates = ways.filter_map(|(value, ends)| self.with(section, key, value, ends));
        self.take(candidates.collect(), expected).ok_or_else(refused)
    }

    /// Puts items behind the last one of the list `key`, which begins with the file if it is not there. `items` are lines, an item
    /// begins with `- ` and is not indented.
    ///
    /// # Errors
    /// When the text cannot be changed so that it says this and nothing else than before.
    pub fn append(&mut self, key: &str, items: &str) -> Result<(), Refused> {
        let refused = || Refused { what: key.to_owned(), wanted: format!("{key}:\n{}", indented(items, 2)) };
        let more: Vec<Value> = serde_yaml::from_str(items).map_err(|_| refused())?;
        let mut expected = self.value.clone();
        let of = expected.entry(Value::from(key)).or_insert_with(|| Value::from(Vec::<Value>::new()));
        if of.is_null() {
            *of = Value::from(Vec::<Value>::new());
        }
        of.as_sequence_mut().ok_or_else(refused)?.extend(more);
        let candidate = self.with_items(key, items);
        self.take(candidate.into_iter().collect(), expected).ok_or_else(refused)
    }

    /// Makes the first of these texts the text that means what is expected; `None` where none does.
    fn take(&mut self, candidates: Vec<String>, expected: Mapping) -> Option<()> {
        let text = candidates.into_iter().find(|text| parse(text).is_ok_and(|value| value == expected))?;
        *self = Self { text, value: expected };
        Some(())
    }

    /// The text with `value` for a key, as it is written; what stands there ends before one of `ends`.
    fn with(&self, section: &str, key: &str, value: &str, ends: &[&str]) -> Option<String> {
        let lines = Lines::of(&self.text);
        let Some((place, entries)) = self.entry(section) else {
            return Some(lines.with_at_end(&format!("{section}:\n  {key}: {value}\n")));
        };
        let Value::Mapping(entries) = entries else {
            // A section of nothing: `pattoo_agent_api:`.
            let (line, column) = locate(&self.text, &[Step::Key(place)])?;
            return (column == 1).then(|| lines.with_below(line, &format!("  {key}: {value}\n")));
        };
        if let Some(at) = entries.iter().position(|(of, _)| *of == key) {
            let start = lines.offset(locate(&self.text, &[Step::Value(place), Step::Value(at)])?)?;
            let (before, after) = self.text.split_at(start);
            return Some(format!("{before}{value}{}", &after[scalar_length(after, ends)?..]));
        }
        let (line, column) = locate(&self.text, &[Step::Value(place)])?;
        let start = lines.offset((line, column))?;
        if let Some(inside) = self.text[start..].strip_prefix('{') {
            let comma = if entries.is_empty() { "" } else { ", " };
            return Some(format!("{}{{{key}: {value}{comma}{inside}", &self.text[..start]));
        }
        let last = lines.end_of(line, |indent, _| indent + 1 >= column);
        Some(lines.with_below(last, &format!("{}{key}: {value}\n", " ".repeat(column - 1))))
    }

    /// The text with more items in a list.
    fn with_items(&self, key: &str, items: &str) -> Option<String> {
        let lines = Lines::of(&self.text);
        let Some((place, list)) = self.entry(key) else {
            return Some(lines.with_at_end(&format!("{key}:\n{}", indented(items, 2))));
        };
        if list.is_null() {
            let (line, _) = locate(&self.text, &[Step::Key(place)])?;
            return Some(lines.with_below(line, &indented(items, 2)));
        }
        let (line, column) = locate(&self.text, &[Step::Value(place), Step::Item(0)])?;
        let start = lines.offset((line, column))?;
        let dash = self.text[..start].rfind('-')?;
        let of_line = lines.offset((line, 1))?;
        let indent = self.text.get(of_line..dash)?;
        if !indent.chars().all(|it| it == ' ') {
            return None;
        }
        let indent = indent.len();
        let belongs = |of: usize, text: &str| of > indent || (of == indent && text.starts_with('-'));
        Some(lines.with_below(lines.end_of(line, belongs), &indented(items, indent)))
    }

    /// The place of a section in the file, and what stands there.
    fn entry(&self, section: &str) -> Option<(usize, &Value)> {
        self.value.iter().enumerate().find(|(_, (key, _))| *key == section).map(|(place, (_, value))| (place, value))
    }
}

/// The text of a configuration file that is safe to read, or `None` when there is none.
///
/// # Errors
/// When something is there that cannot be read as such.
pub fn read(path: &Path) -> Result<Option<String>, Diagnostic> {
    source::read(path)?.map(|bytes| source::text(path, bytes)).transpose()
}

/// A text as it stands in a file, with quotes where it needs them, even within brackets.
#[must_use]
pub fn quoted(text: &str) -> String {
    let plain = |it: char| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_' | '.' | '/' | '(' | ')');
    let written = serde_yaml::to_string(text).unwrap_or_default();
    let written = written.trim_end();
    // What is a plain text to the library is one between commas too, if it has none of the signs that mean something there.
    if written == text && text.chars().all(plain) && !is_a_flag(text) {
        return text.to_owned();
    }
    in_quotes(text)
}

/// A text with quotes.
#[must_use]
pub fn in_quotes(text: &str) -> String {
    // A JSON text is one of YAML.
    serde_json::to_string(text).unwrap_or_default()
}

/// Lines, each with this many spaces before it.
fn indented(lines: &str, spaces: usize) -> String {
    lines.lines().map(|line| format!("{:spaces$}{line}\n", "")).collect::<Vec<_>>().concat()
}

fn parse(text: &str) -> Result<Mapping, String> {
    // Whatever would keep the parser busy for minutes is refused by the one that knows how.
    Source::of_text(Path::new(""), text.to_owned()).map_err(|fault| fault.message)?;
    serde_yaml::from_str(text).map_err(|error| error.to_string())
}

/// What a typed value means, and the ways to write it, the plainest first.
fn scalar(typed: &str) -> (Value, Vec<String>) {
    if let Ok(number) = typed.parse::<u64>() {
        return (Value::from(number), vec![number.to_string()]);
    }
    let mut written = vec![in_quotes(typed)];
    if !is_a_flag(typed) {
        written.insert(0, serde_yaml::to_string(typed).unwrap_or_default().trim_end().to_owned());
    }
    (Value::from(typed), written)
}

/// Whether a program that reads YAML 1.1, as those in Python do, takes this word for true or false.
fn is_a_flag(text: &str) -> bool {
    ["y", "yes", "n", "no", "on", "off"].contains(&&*text.to_ascii_lowercase())
}

/// How many bytes the scalar has with which `text` begins, if it is one of one line.
fn scalar_length(text: &str, ends: &[&str]) -> Option<usize> {
    let line = text.lines().next().unwrap_or_default();
    match line.chars().next()? {
        quote @ ('"' | '\'') => {
            let mut rest = line.char_indices().skip(1).peekable();
            while let Some((at, it)) = rest.next() {
                match it {
                    '\\' if quote == '"' => drop(rest.next()),
                    _ if it == quote && quote == '\'' && rest.peek().is_some_and(|(_, next)| *next == quote) => {
                        rest.next();
                    }
                    _ if it == quote => return Some(at + 1),
                    _ => {}
                }
            }
            None
        }
        // Several lines, an anchor, an alias, a tag, or no scalar at all.
        '|' | '>' | '&' | '*' | '!' | '{' | '[' => None,
        _ => {
            let is_comment = |at: usize| line[..at].ends_with([' ', '\t']);
            let first =
                |end: &&str| line.match_indices(*end).map(|(at, _)| at).find(|at| *end != "#" || is_comment(*at));
            let end = ends.iter().filter_map(first).min().unwrap_or(line.len());
            Some(line[..end].trim_end().len())
        }
    }
}

/// A text by its lines, which are counted from 1, as columns are.
struct Lines<'t> {
    text: &'t str,
    /// How they end in this file.
    newline: &'static str,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        Self { text, newline: if text.contains("\r\n") { "\r\n" } else { "\n" } }
    }

    /// Where in the text a character of a line is.
    fn offset(&self, (line, column): (usize, usize)) -> Option<usize> {
        let start: usize = self.text.split_inclusive('\n').take(line - 1).map(str::len).sum();
        let of_line = self.text.get(start..)?;
        Some(start + of_line.char_indices().nth(column - 1).map_or(of_line.len(), |(at, _)| at))
    }

    /// The last line of the block that `from` is in: behind it comes one with something in it that does not belong there, by its
    /// indentation and its text. What is empty or a comment belongs to what follows.
    fn end_of(&self, from: usize, belongs: impl Fn(usize, &str) -> bool) -> usize {
        let mut last = from;
        for (number, line) in (1..).zip(self.text.lines()).skip(from) {
            let text = line.trim_start_matches(' ');
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            if !belongs(line.len() - text.len(), text) {
                break;
            }
            last = number;
        }
        last
    }

    /// The text with more lines below this one.
    fn with_below(&self, line: usize, more: &str) -> String {
        let end: usize = self.text.split_inclusive('\n').take(line).map(str::len).sum();
        self.with_at(end, more)
    }

    fn with_at_end(&self, more: &str) -> String {
        self.with_at(self.text.len(), more)
    }

    fn with_at(&self, at: usize, more: &str) -> String {
        let (before, after) = self.text.split_at(at);
        let end = if before.is_empty() || before.ends_with('\n') { "" } else { self.newline };
        format!("{before}{end}{}{after}", more.replace('\n', self.newline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text after the key was set.
    fn set(text: &str, section: &str, key: &str, value: &str) -> String {
        let mut edit = Edit::parse(text).unwrap();
        edit.set(section, key, value).unwrap();
        edit.text
    }

    #[test]
    fn a_file_that_is_not_there_yet_is_made_of_what_is_set() {
        let mut edit = Edit::default();
        edit.set("pattoo_agent_api", "ip_bind_port", "20201").unwrap();
        edit.set("pattoo", "log_level", "info").unwrap();
        edit.set("pattoo", "log_directory", "~/pattoo/log").unwrap();
        let expected =
            "pattoo_agent_api:\n  ip_bind_port: 20201\npattoo:\n  log_level: info\n  log_directory: ~/pattoo/log\n";
        assert_eq!(edit.text(), expected);
        assert!(edit.has("pattoo") && !edit.has("polling"));
        assert_eq!(edit.get("pattoo_agent_api", "ip_bind_port").as_deref(), Some("20201"));
    }

    #[test]
    fn a_value_is_replaced_and_a_key_is_added_where_it_belongs() {
        let commented =
            "# mine\npattoo:\n    log_level: debug   # while testing\n    # language: en\n\n# theirs\nother:\n- 1\n";
        let cases = [
            (commented, "pattoo", "log_level", "info", commented.replace("level: debug", "level: info")),
            (commented, "pattoo", "x", "a b", commented.replace("testing\n", "testing\n    x: a b\n")),
            (commented, "new", "x", "7", format!("{commented}new:\n  x: 7\n")),
            ("a: {b: 'it''s', c: 2}", "a", "b", "x, y", "a: {b: \"x, y\", c: 2}".to_owned()),
            ("a: {b: one, c: 2}", "a", "c", "3", "a: {b: one, c: 3}".to_owned()),
            ("a: {b: one}", "a", "c", "3", "a: {c: 3, b: one}".to_owned()),
            ("a:\n  b: x,y#z # w\n", "a", "b", "v", "a:\n  b: v # w\n".to_owned()),
            ("a: {}", "a", "c", "yes", "a: {c: \"yes\"}".to_owned()),
            ("a:\r\nb: 1\r\n", "a", "c", "3", "a:\r\n  c: 3\r\nb: 1\r\n".to_owned()),
            ("a:\n  b: \"x \\\" # y\" # z\n", "a", "b", "n", "a:\n  b: \"n\" # z\n".to_owned()),
            ("ä: ö\na:\n  ü: 'ß' # é\n  b: 1", "a", "ü", "x", "ä: ö\na:\n  ü: x # é\n  b: 1".to_owned()),
            ("a:\n  b: 1", "a", "c", "x", "a:\n  b: 1\n  c: x\n".to_owned()),
        ];
        for (text, section, key, value, expected) in cases {
            assert_eq!(set(text, section, key, value), expected, "{text:?}: {key}");
        }
        assert_eq!(set(commented, "pattoo", "log_level", "debug"), commented);
    }

    #[test]
    fn an_item_goes_behind_the_last_one_of_its_list() {
        let item = "- name: two\n  of: [1, 2]\n";
        let cases = [
            (
                "l:\n  - name: one # first\n    of: 1\n\n# end\nx: 1\n",
                "l:\n  - name: one # first\n    of: 1\n  - name: two\n    of: [1, 2]\n\n# end\nx: 1\n",
            ),
            ("l:\n- name: one\n  of:\n  - 1\nx: 1", "l:\n- name: one\n  of:\n  - 1\n- name: two\n  of: [1, 2]\nx: 1"),
            ("l:\n  -   name: one", "l:\n  -   name: one\n  - name: two\n    of: [1, 2]\n"),
            ("l: # none\nx: 1\n", "l: # none\n  - name: two\n    of: [1, 2]\nx: 1\n"),
            ("x: 1\n", "x: 1\nl:\n  - name: two\n    of: [1, 2]\n"),
        ];
        for (text, expected) in cases {
            let mut edit = Edit::parse(text).unwrap();
            edit.append("l", item).unwrap();
            assert_eq!(edit.text(), expected, "{text:?}");
        }
    }

    /// What it would cost to get one of these right is more than to write one line by hand.
    #[test]
    fn what_cannot_be_changed_in_place_is_refused_and_stays() {
        for (text, key) in [
            ("a:\n  b: |\n    x\n", "b"),
            ("a: &x {b: 1}\nc: *x\n", "b"),
            ("a:\n  b: &x 1\nc: *x\n", "b"),
            ("a: 5\n", "b"),
            ("a:\n  b: one\n   two\n", "b"),
            ("{a: {b: 1}, l: 2}\n...\n", "new"),
        ] {
            let mut edit = Edit::parse(text).unwrap();
            let section = if key == "new" { "new" } else { "a" };
            let refused = edit.set(section, key, "x").unwrap_err().to_string();
            assert!(refused.contains("by hand"), "{refused}");
            assert_eq!(edit, Edit::parse(text).unwrap(), "{text}");
        }
        for text in ["l: [{name: one}]\n", "l: 5\n", "l:\n  - name: &a one\n    of: |\n      # x\n\n"] {
            let mut edit = Edit::parse(text).unwrap();
            let done = edit.append("l", "- name: two\n");
            assert!(done.is_err() || text.contains('&'), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_reason() {
        let cases = [("- a list", "expected a YAML mapping"), ("a: 1\nb: 1\na: 2\n", "\"a\""), ("a: [", "not YAML")];
        for (text, why) in cases {
            let error = Edit::parse(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_text_has_quotes_where_it_needs_them() {
        let cases =
            ["meters", "SunSpec 103 (inverter)", "a, b", "yes", "7", "a: b", "- x", "#", "{", "it's", "a \"b\"", " x"];
        for text in cases {
            let written = quoted(text);
            let read: Mapping = serde_yaml::from_str(&format!("l: [{written}]")).unwrap();
            assert_eq!(read.get("l"), Some(&Value::from(vec![text])), "{written}");
        }
        assert_eq!([quoted("plc 7"), quoted("a:502")], ["plc 7", "\"a:502\""]);
    }
}
