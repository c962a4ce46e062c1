//! Colours for what one looks for: states of devices, losses, warnings. Pure; whether there are colours decides
//! [`terminal`](super::terminal), by `NO_COLOR`, `CLICOLOR`, `TERM` and whether it is a terminal.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

const BAD: Style = AnsiColor::Red.on_default().bold();
const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
const GOOD: Style = AnsiColor::Green.on_default();

/// Words that are a cell of a table, or begin a line, and how they look.
const CELLS: [(&str, Style); 4] = [("down", BAD), ("degraded", DOUBTFUL), ("starting", DOUBTFUL), ("up", GOOD)];

/// Words that matter wherever they stand.
const ANYWHERE: [(&str, Style); 3] = [("LOST", BAD), ("DOES NOT FIT", BAD), ("DO NOT FIT", BAD)];

/// The same lines with colours.
#[must_use]
pub fn states(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let words = ANYWHERE.iter().filter_map(|&(word, style)| Some((line.find(word)?, word, style)));
        // A cell is what two spaces, or the end, are on both sides of.
        let cells = CELLS.iter().filter_map(|&(word, style)| {
            let start = line.find(&format!("  {word}  "))? + 2;
            Some((start, word, style))
        });
        match cells.chain(words).min_by_key(|(start, ..)| *start) {
            Some((start, word, style)) => {
                let (before, after) = (&line[..start], &line[start + word.len()..]);
                // Writing to a String cannot fail.
                let _ = write!(out, "{before}{style}{word}{style:#}{after}");
            }
            None => out.push_str(line),
        }
    }
    out
}

/// The same lines with `warning:` in colour.
#[must_use]
pub fn warnings(text: &str) -> String {
    const WARNING: &str = "warning:";
    let of_line = |line: &str| match line.strip_prefix(WARNING) {
        Some(rest) => format!("{DOUBTFUL}{WARNING}{DOUBTFUL:#}{rest}"),
        None => line.to_owned(),
    };
    text.split_inclusive('\n').map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_colours_and_words_within_names_have_none() {
        let table = "device    state     since\nplc-down  up        1m ago\nupper     down      2m ago\n";
        let text = states(table);
        assert!(text.starts_with("device    state     since\n"), "{text:?}");
        assert!(text.contains(&format!("plc-down  {GOOD}up{GOOD:#}")), "{text:?}");
        assert!(text.contains(&format!("upper     {BAD}down{BAD:#}")), "{text:?}");
        assert_eq!(warnings("warning: x\nno warning: y"), format!("{DOUBTFUL}warning:{DOUBTFUL:#} x\nno warning: y"));
    }
}
