//! Text for people: an error with its causes, a duration as one says it, a number with its noun. Pure.
//!
//! [`harmless`] decides which characters reach a terminal or a log; [`table`] aligns rows in columns, [`alike`](mod@alike) tells
//! many alike rows once.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use self::harmless::escaped;
use crate::reading::millis;

pub mod alike;
pub mod harmless;
pub mod table;

/// An error and all its sources on one line, outermost first.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escaped(&self.0.to_string()))?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {}", escaped(&error.to_string()))?;
            source = error.source();
        }
        Ok(())
    }
}

/// `duration` in words, to the second above ten of them, to the tenth of a second below, and still
/// more exactly below a second.
#[must_use]
pub fn seconds(duration: Duration) -> impl fmt::Display {
    let step = match duration.as_millis() {
        ..100 => 1,
        100..1_000 => 10,
        1_000..10_000 => 100,
        _ => 1_000,
    };
    humantime::format_duration(Duration::from_millis(millis(duration) / step * step))
}

/// `number` with a comma between thousands: `1,234,567`.
#[must_use]
pub fn grouped(number: impl fmt::Display) -> String {
    let digits = number.to_string();
    let comma = |place: usize| place > 0 && (digits.len() - place).is_multiple_of(3);
    digits.char_indices().flat_map(|(place, digit)| comma(place).then_some(',').into_iter().chain([digit])).collect()
}

/// `text` in lines of at most `width` characters, broken between words where that can be.
#[must_use]
pub fn folded(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        let length = word.trim_end_matches(' ').chars().count();
        if used > 0 && used + length > width {
            lines.push(String::new());
            used = 0;
        }
        for character in word.chars() {
            // A space at the end of a line is not seen.
            if used >= width && character != ' ' {
                lines.push(String::new());
                used = 0;
            }
            if let Some(line) = lines.last_mut() {
                line.push(character);
                used += 1;
            }
        }
    }
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines
}

/// Each line of `text` in lines of at most `width` characters, the further ones a little to the right.
#[must_use]
pub fn wrapped(text: &str, width: usize) -> String {
    if text.lines().all(|line| line.chars().count() <= width) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let words = line.trim_start_matches(' ');
        let indent = " ".repeat((line.len() - words.len()).min(width / 2));
        let further = format!("\n{indent}    ");
        out.push_str(&indent);
        out.push_str(&folded(words, width.saturating_sub(indent.len() + 4)).join(&further));
        out.push_str(end);
    }
    out
}

/// `1 device`, `2 devices`.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// `2 GB`, `1 MiB`, `7 bytes`: in the largest unit of which it is a whole number.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 6] =
        [(1_000_000_000, "GB"), (1 << 30, "GiB"), (1_000_000, "MB"), (1 << 20, "MiB"), (1_000, "kB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{bytes} bytes"), |(unit, name)| format!("{} {name}", bytes / unit))
}

/// The first few of `names`, and how many more there are.
pub fn some_of(names: impl ExactSizeIterator<Item = impl fmt::Display>) -> String {
    const FEW: usize = 8;
    let more = names.len().saturating_sub(FEW);
    let few: Vec<String> = names.take(FEW).map(|name| escaped(&name.to_string()).into_owned()).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    few.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_whole_number_of_something() {
        let cases =
            [(0, "0 bytes"), (7, "7 bytes"), (2_000_000_000, "2 GB"), (1 << 20, "1 MiB"), (1_500_000, "1500 kB")];
        for (bytes, expected) in cases {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn an_error_is_told_with_all_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot store")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("disk on fire"));
        assert_eq!(Chain(&error).to_string(), "cannot store: disk on fire");
    }

    #[test]
    fn a_line_is_broken_between_words_and_only_where_it_is_too_long() {
        let cases = [
            ("short", 80, "short"),
            ("one two three", 11, "one two\n    three"),
            ("  one two three\nfour", 13, "  one two\n      three\nfour"),
            ("/a/path/without/spaces", 14, "/a/path/wi\n    thout/spac\n    es"),
        ];
        for (text, width, expected) in cases {
            assert_eq!(wrapped(text, width), expected, "{text}");
            assert!(wrapped(text, width).lines().all(|line| line.chars().count() <= width));
        }
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(
            [count(0, "point"), count(1, "device"), count(2, "request")],
            ["0 points", "1 device", "2 requests"]
        );
    }

    #[test]
    fn of_many_names_a_few_are_told() {
        assert_eq!(some_of(["a", "b"].iter()), "a, b");
        assert_eq!(some_of(0..10), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
    }

    #[test]
    fn durations_are_told_as_exactly_as_one_wants_to_know_them() {
        let cases = [
            (1_234, "1s 200ms"),
            (59_999, "59s"),
            (90_061_001, "1day 1h 1m 1s"),
            (157, "150ms"),
            (3, "3ms"),
            (0, "0s"),
        ];
        for (ms, said) in cases {
            assert_eq!(seconds(Duration::from_millis(ms)).to_string(), said);
        }
    }
}
