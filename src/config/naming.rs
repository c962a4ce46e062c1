//! Names, units of measurement, tags and texts for values, as the configuration gives them.
//!
//! They go to people, and to every output that has a place for them. None of them is part of a series at the pattoo server.
//! A text is taken as it is written, `off` and `007` too, but for white space around it. Refused are texts that no output
//! could carry: empty ones, long ones, and those with characters that a terminal obeys or nobody sees.

use std::sync::Arc;

use super::diagnostic::Diagnostic;
use super::yaml::cursor::{Cursor, Report};
use super::yaml::node::Node;
use crate::text::harmless::is_harmless;

/// No text is longer.
const MAX_BYTES: usize = 255;

/// What stands for the place in a run, from 1 on.
const PLACE: &str = "{n}";

/// Keys and values, each key once, sorted by key.
pub type Tags = Vec<(String, String)>;

/// The name and the metadata of a register.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naming {
    /// The name of the value; without one, it goes by its key.
    pub name: Option<Arc<str>>,
    /// Shared by all values of a run.
    pub metadata: Arc<Metadata>,
}

/// What is known of a value besides its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The unit of measurement.
    pub unit_of_measurement: Option<String>,
    /// The register's own tags.
    pub tags: Tags,
    /// Texts for numbers, each number once, sorted by number.
    pub values: Vec<(i64, String)>,
}

impl Naming {
    /// From the keys of a register, which `of` looks up. Faults go to the report.
    pub fn read<'v, 'a: 'v>(of: &impl Fn(&str) -> Option<&'v Cursor<'a>>, report: &mut Report) -> Self {
        let mut metadata = Metadata::default();
        if let Some(value) = of("unit_of_measurement") {
            metadata.unit_of_measurement = text(value, "a unit of measurement", report);
        }
        if let Some(value) = of("tags") {
            metadata.tags = tags(value, report);
        }
        if let Some(value) = of("values") {
            metadata.values = values(value, report);
        }
        let name = of("name").and_then(|value| template(value, report)).map(Arc::from);
        Self { name, metadata: Arc::new(metadata) }
    }

    /// The same for the value at `place`, counted from 0, of `count`.
    #[must_use]
    pub fn of_place(&self, place: u32, count: u32) -> Self {
        let name = self.name.as_deref().map(|name| {
            let n = place + 1;
            match name.contains(PLACE) {
                true => name.replace(PLACE, &n.to_string()),
                // A name without {n} would be that of each value, and two points of one name are a fault.
                false if count > 1 => format!("{name}_{n}"),
                false => name.to_owned(),
            }
        });
        // A run may have tens of thousands of values.
        Self { name: name.map(Arc::from), metadata: Arc::clone(&self.metadata) }
    }
}

/// A name.
pub fn name(value: &Cursor<'_>, report: &mut Report) -> Option<String> {
    text(value, "a name", report)
}

/// A name in which `{n}` may stand, and no other brace: it would look as if it were replaced, too.
fn template(value: &Cursor<'_>, report: &mut Report) -> Option<String> {
    let name = name(value, report)?;
    let fit = !name.replace(PLACE, "").contains(['{', '}']);
    if !fit {
        report.faults.push(value.unfit("a name, in braces {n} alone, which is 1, 2, 3 … in a run"));
    }
    fit.then_some(name)
}

/// A mapping of words to words.
pub fn tags(value: &Cursor<'_>, report: &mut Report) -> Tags {
    const ALLOWED: &str = "a mapping of words to words, such as {hall: 3}";
    let mut tags = Tags::new();
    for (key, value) in value.pairs().unwrap_or_else(|| none(value, ALLOWED, report)) {
        if let (Some(tag), Some(of)) = (text(&key, "a tag", report), text(&value, "the value of a tag", report)) {
            put(&mut tags, tag, of, &key, report);
        }
    }
    tags
}

/// As people read them: `hall=3, site=7`.
#[must_use]
pub fn listed(tags: &Tags) -> String {
    let tags: Vec<_> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    tags.join(", ")
}

/// `own`, and those of `others` whose keys are not in it.
#[must_use]
pub fn merged(own: &Tags, others: &Tags) -> Tags {
    let mut tags = own.clone();
    for (key, value) in others {
        if let Err(place) = tags.binary_search_by(|(known, _)| known.cmp(key)) {
            tags.insert(place, (key.clone(), value.clone()));
        }
    }
    tags
}

/// A mapping of whole numbers to texts.
fn values(value: &Cursor<'_>, report: &mut Report) -> Vec<(i64, String)> {
    const ALLOWED: &str = "a mapping of whole numbers to texts, such as {0: off, 1: heating}";
    let mut values = Vec::new();
    for (key, value) in value.pairs().unwrap_or_else(|| none(value, ALLOWED, report)) {
        let number = match *key.node {
            Node::Integer(number) => i64::try_from(number).ok(),
            _ => None,
        };
        if number.is_none() {
            report.faults.push(key.unfit("a whole number of at most 64 bits"));
        }
        if let (Some(number), Some(of)) = (number, text(&value, "the text of a value", report)) {
            put(&mut values, number, of, &key, report);
        }
    }
    values
}

fn none<T>(value: &Cursor<'_>, allowed: &str, report: &mut Report) -> Vec<T> {
    // All its lines may be comments.
    if !matches!(*value.node, Node::Null) {
        report.faults.push(value.unfit(allowed));
    }
    Vec::new()
}

fn put<K: Ord>(all: &mut Vec<(K, String)>, key: K, value: String, cursor: &Cursor<'_>, report: &mut Report) {
    // Sorted, so that another order in the file is no change for a reload.
    match all.binary_search_by(|(known, _)| known.cmp(&key)) {
        Ok(_) => report.faults.push(twice(cursor)),
        Err(place) => all.insert(place, (key, value)),
    }
}

fn twice(cursor: &Cursor<'_>) -> Diagnostic {
    cursor.diagnostic("found this key twice; allowed is once")
}

/// The text, as it is written.
fn text(value: &Cursor<'_>, what: &str, report: &mut Report) -> Option<String> {
    let text = match (value.written(), &*value.node) {
        (Some(text), _) => Some(text.trim().to_owned()),
        (None, Node::Integer(number)) => Some(number.to_string()),
        (None, Node::Bool(flag)) => Some(flag.to_string()),
        (None, _) => None,
    };
    let fit = |text: &String| (1..=MAX_BYTES).contains(&text.len()) && text.chars().all(is_harmless);
    let text = text.filter(fit);
    if text.is_none() {
        let allowed = format!("{what} of 1 to {MAX_BYTES} bytes without control characters");
        report.faults.push(value.unfit(&allowed));
    }
    text
}

#[cfg(test)]
mod tests;
