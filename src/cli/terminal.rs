//! The only ways to the terminal: lines for stdout and for stderr, made harmless once more.
//!
//! What stands in a line was made harmless where the line was put together; here everything but the newlines, which are
//! ours. A reader that has gone away changes nothing.

use std::io::{self, Write as _};

use crate::text::harmless::lines;

/// Lines for stdout, each with its end.
pub fn say(text: &str) {
    let mut stdout = io::stdout();
    // A reader that has gone away has read enough.
    stdout.write_all(lines(text).as_bytes()).and_then(|()| stdout.flush()).ok();
}

/// Lines for stdout, of many; whether anybody is left to read more.
#[must_use]
pub fn pour(text: &str) -> bool {
    let mut stdout = io::stdout();
    stdout.write_all(lines(text).as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

/// Lines for stderr, the last one without its end.
pub fn complain(text: &str) {
    // A stderr that nobody reads changes nothing.
    writeln!(io::stderr(), "{}", lines(text)).ok();
}
