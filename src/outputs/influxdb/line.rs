//! Names and values in the line protocol: what must be escaped, and what cannot be said at all. Pure.
//!
//! Source: InfluxData, "Line protocol" (v1, v2 and v3). A backslash is escaped by nothing there, so one at the end of a name
//! would escape what follows: it becomes `/`. A newline ends a line, so any control character becomes a space. `time` is the
//! time's own name: a field or a tag so called becomes `time_`.

use crate::reading::Value;

/// A measurement: commas and spaces are escaped.
pub fn measurement(text: &str) -> String {
    // A line that begins so is a comment.
    let text = text.strip_prefix('#').map_or_else(|| text.to_owned(), |rest| format!("_{rest}"));
    escaped(&text, &[',', ' '])
}

/// A tag's key, or a field's: an equals sign too.
pub fn key(text: &str) -> String {
    // Version 1 leaves out a field of that name and answers that all is well, if its line has another one; it takes no line with
    // such a tag.
    if text == "time" { "time_".to_owned() } else { tag_value(text) }
}

/// A tag's value: as a key.
pub fn tag_value(text: &str) -> String {
    escaped(text, &[',', ' ', '='])
}

fn escaped(text: &str, special: &[char]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        let character = match character {
            '\\' => '/',
            character if character.is_control() => ' ',
            character => character,
        };
        if special.contains(&character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Appends a value of a field; `false` when it is no number.
pub fn push_value(line: &mut String, value: Value, integers: bool) -> bool {
    match value {
        Value::Integer(value) => {
            line.push_str(itoa::Buffer::new().format(value));
            if integers {
                line.push('i');
            }
        }
        Value::Float(value) if value.is_finite() => line.push_str(zmij::Buffer::new().format_finite(value)),
        Value::Float(_) => return false,
    }
    true
}
