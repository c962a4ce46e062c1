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
        self.change(section, key, wanted, &written)
    }

    /// Sets a key to what is wanted, in the first of the ways to write it that means that.
    fn change(&mut self, section: &str, key: &str, wanted: Value, written: &[String]) -> Result<(), Refused> {
        let mut expected = self.value.clone();
        let of = expected.entry(Value::from(section)).or_insert_with(|| Value::from(Mapping::new()));
        // A key with nothing behind it, or with comments only, is a section all the same.
        if of.is_null() {
            *of = Value::from(Mapping::new());
        }
        let value = written.first().map_or("", String::as_str);
        let refused =
            || Refused { what: format!("{section}: {key}"), wanted: format!("{section}:\n  {}: {value}", quoted(key)) };
        // What the file must say afterwards is made of the parsed value, and never of the text, which is only tried.
        of.as_mapping_mut().ok_or_else(refused)?.insert(Value::from(key), wanted);
        // A comma ends a value between braces, and is part of one that stands alone in its line.
        let ends = [&["#", ",", "}"][..], &["#"]];
        let ways = ends.into_iter().flat_map(|ends| written.iter().map(move |value| (value, ends)));
        let candidates = ways.filter_map(|(value, ends)| self.with(section, key, value, ends));
        self.take(candidates.collect(), &expected).ok_or_else(refused)
    }

    /// Puts a mapping of one key into a section, below a key of its own; one that is there already stays as it is.
    ///
    /// # Errors
    /// When the text cannot be changed so that it says this and nothing else than before.
    pub fn put(&mut self, section: &str, of: &str, key: &str, value: &str) -> Result<(), Refused> {
        // What somebody has written for it is not judged here, and not added to.
        if self.value.get(section).is_some_and(|section| section.get(of).is_some()) {
            return Ok(());
        }
        let mapping = Mapping::from_iter([(Value::from(key), Value::from(value))]);
        self.change(section, of, mapping.into(), &[format!("{{{key}: {}}}", quoted(value))])
    }

    /// Puts items behind the last one of the list `key`, which begins with the file if it is not there. `items` are lines, an item
    /// begins with `- ` and is not indented.
    ///
    /// # Errors
    /// When the text cannot be changed so that it says this and nothing else than before.
    pub fn append(&mut self, key: &str, items: &str) -> Result<(), Refused> {
        let refused = || Refused { what: key.to_owned(), wanted: format!("{key}:\n{}", indented(items, 2)) };
        // What was answered may be no YAML at all.
        let more: Vec<Value> = serde_yaml::from_str(items).map_err(|_| refused())?;
        let mut expected = self.value.clone();
        let of = expected.entry(Value::from(key)).or_insert_with(|| Value::from(Vec::<Value>::new()));
        if of.is_null() {
            *of = Value::from(Vec::<Value>::new());
        }
        of.as_sequence_mut().ok_or_else(refused)?.extend(more);
        let candidate = self.with_items(key, items);
        self.take(candidate.into_iter().collect(), &expected).ok_or_else(refused)
    }

    /// Makes the first of these texts the text that means what is expected; `None` where none does.
    fn take(&mut self, candidates: Vec<String>, expected: &Mapping) -> Option<()> {
        // As it was parsed: by the order of its keys the next change finds its place.
        let read = |text: String| Some(Self { value: parse(&text).ok()?, text });
        *self = candidates.into_iter().filter_map(read).find(|it| it.value == *expected)?;
        Some(())
    }

    /// The text with `value` for a key, as it is written; what stands there ends before one of `ends`.
    fn with(&self, section: &str, key: &str, value: &str, ends: &[&str]) -> Option<String> {
        let lines = Lines::of(&self.text);
        let written = quoted(key);
        let Some((place, entries)) = self.entry(section) else {
            return Some(lines.with_at_end(&format!("{section}:\n  {written}: {value}\n")));
        };
        let Value::Mapping(entries) = entries else {
            // A section of nothing: `pattoo_agent_api:`.
            let (line, column) = locate(&self.text, &[Step::Key(place)])?;
            // Within braces nothing can be put on a line below.
            return (column == 1).then(|| lines.with_below(line, &format!("  {written}: {value}\n")));
        };
        if let Some(at) = entries.iter().position(|(of, _)| *of == key) {
            let start = lines.offset(locate(&self.text, &[Step::Value(place), Step::Value(at)])?)?;
            let (before, after) = self.text.split_at(start);
            return Some(format!("{before}{value}{}", &after[scalar_length(after, ends)?..]));
        }
        // A mapping of lines begins with its first key, so that this column is the indentation of all its keys.
        let (line, column) = locate(&self.text, &[Step::Value(place)])?;
        let start = lines.offset((line, column))?;
        // At the beginning, because only its first sign can be located.
        if let Some(inside) = self.text[start..].strip_prefix('{') {
            let comma = if entries.is_empty() { "" } else { ", " };
            return Some(format!("{}{{{written}: {value}{comma}{inside}", &self.text[..start]));
        }
        let last = lines.end_of(line, |indent, _| indent + 1 >= column);
        Some(lines.with_below(last, &format!("{}{written}: {value}\n", " ".repeat(column - 1))))
    }

    /// The text with more items in a list.
    fn with_items(&self, key: &str, items: &str) -> Option<String> {
        let lines = Lines::of(&self.text);
        let Some((place, list)) = self.entry(key) else {
            return Some(lines.with_at_end(&format!("{key}:\n{}", indented(items, 2))));
        };
        if list.is_null() {
            return self.with_first_items(place, items);
        }
        if list.as_sequence()?.is_empty() {
            return self.with_first_items(place, items);
        }
        let (line, column) = locate(&self.text, &[Step::Value(place), Step::Item(0)])?;
        let start = lines.offset((line, column))?;
        // It may stand alone, with its item in the next line.
        let dash = self.text[..start].rfind('-')?;
        let of_line = self.text[..dash].rfind('\n').map_or(0, |end| end + 1);
        let indent = self.text.get(of_line..dash)?;
        // `[-1]`, or a list within another one: a line below would belong to something else.
        if !indent.chars().all(|it| it == ' ') {
            return None;
        }
        let indent = indent.len();
        // YAML lets the items of a list be as little indented as its key is, and then the next key is too.
        let belongs = |of: usize, text: &str| of > indent || (of == indent && text.starts_with('-'));
        Some(lines.with_below(lines.end_of(line, belongs), &indented(items, indent)))
    }

    /// The text with items below a key that has none yet: whatever says so in the line of the key is taken out.
    fn with_first_items(&self, place: usize, items: &str) -> Option<String> {
        let (line, _) = locate(&self.text, &[Step::Key(place)])?;
        let start = Lines::of(&self.text).offset((line, 1))?;
        let of_line = self.text[start..].lines().next()?;
        // The first colon may be one within a quoted key: then the text means something else, and `take` refuses it.
        let colon = of_line.find(':')? + 1;
        let nothing = ["[]", "~", "null"].into_iter().find(|it| of_line[colon..].trim_start().starts_with(it));
        let text = match nothing {
            Some(nothing) => {
                let (key, rest) = self.text.split_at(start + colon);
                format!("{key}{}", rest.trim_start_matches(' ').strip_prefix(nothing)?)
            }
            None => self.text.clone(),
        };
        Some(Lines::of(&text).with_below(line, &indented(items, 2)))
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
    // Into the library's own value: it keeps the order of the file, and refuses a key that comes twice.
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
                    // Two single quotes within single quotes are one sign; a backslash is nothing special there.
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
            // A `#` begins a comment behind white space only; elsewhere it is part of the value.
            let is_comment = |at: usize| line[..at].ends_with([' ', '\t']);
            let first =
                |end: &&str| line.match_indices(*end).map(|(at, _)| at).find(|at| *end != "#" || is_comment(*at));
            let end = ends.iter().filter_map(first).min().unwrap_or(line.len());
            // The white space before a comment stays: right behind a value, `#` would be part of it.
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
        // New lines end as the others do: a file from Windows stays one.
        Self { text, newline: if text.contains("\r\n") { "\r\n" } else { "\n" } }
    }

    /// Where in the text a character of a line is.
    fn offset(&self, (line, column): (usize, usize)) -> Option<usize> {
        // Lines with their ends, or each \r would be lost from the count.
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
        // The last line of a file may have no end.
        let end = if before.is_empty() || before.ends_with('\n') { "" } else { self.newline };
        format!("{before}{end}{}{after}", more.replace('\n', self.newline))
    }
}

#[cfg(test)]
mod tests;
