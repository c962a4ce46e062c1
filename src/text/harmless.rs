//! What reaches a terminal or a log, made harmless: the one place that decides which characters do.
//!
//! Names in a configuration, paths, what a device sends and what a server answers are written by others. A control
//! character in them can move the cursor, recolour, retitle or, as a newline, forge a line; a bidirectional one shows
//! text in another order than it is; an invisible one hides a difference. All of these are shown as `\u{..}`. What stands
//! in a line is made harmless by [`escaped`] where the line is put together; `cli::terminal`, the only way to the terminal, does
//! the same once more ([`lines`]) for everything but the newlines that are ours.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character may be shown as it is.
#[must_use]
pub fn is_harmless(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            // Soft hyphen, marks of direction, spaces and joiners without width, ends of lines and paragraphs,
            // invisible operators, fillers, the byte order mark, annotations, tags. Joiners that change letters, and
            // selectors of a variant, belong to the writing of many languages.
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}' | '\u{200e}'
            | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` on one line and without anything that a terminal obeys.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_harmless) { Cow::Borrowed(text) } else { Cow::Owned(printable(text, usize::MAX)) }
}

/// The same, cut to `limit` bytes.
#[must_use]
pub fn printable(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len().min(limit));
    for character in text.chars() {
        if out.len() >= limit {
            out.push('…');
            break;
        }
        if is_harmless(character) { out.push(character) } else { out.extend(character.escape_default()) }
    }
    out
}

/// JSON that means the same and is harmless too.
#[must_use]
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        // Outside of strings there is nothing else that is not harmless, and inside none of it is a newline.
        if character == '\n' || is_harmless(character) {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// Lines, each of them harmless; the newlines are ours.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    if text.chars().all(|character| character == '\n' || is_harmless(character)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(escaped).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown_and_not_done() {
        let cases = [
            ("a\nb\x1b[31m\r\0", "a\\nb\\u{1b}[31m\\r\\u{0}"),
            ("\u{9b}31m\u{7f}\t", "\\u{9b}31m\\u{7f}\\t"),
            ("a\u{202e}b\u{2066}c\u{61c}", "a\\u{202e}b\\u{2066}c\\u{61c}"),
            ("a\u{2028}b\u{85}", "a\\u{2028}b\\u{85}"),
            ("a\u{200b}\u{feff}\u{e0041}", "a\\u{200b}\\u{feff}\\u{e0041}"),
            ("grüße 漢字 می‌خواهم", "grüße 漢字 می‌خواهم"),
        ];
        for (text, shown) in cases {
            assert_eq!(escaped(text), shown);
            assert_eq!(lines(&format!("ours\n{text}")).lines().next(), Some("ours"));
            assert!(lines(text).chars().all(|character| character == '\n' || is_harmless(character)));
        }
        assert!(printable(&"x".repeat(1_000_000), 2_000).len() < 2_008);
    }

    #[test]
    fn json_means_what_it_meant() {
        let value = serde_json::json!({"a\u{202e}": "\u{1b}[31m\u{7f}\u{e0041}\n", "b": [1, "é"]});
        let text = json(&serde_json::to_string_pretty(&value).unwrap());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        assert!(text.chars().all(|character| character == '\n' || is_harmless(character)));
    }
}
