//! The only ways to the terminal: lines for stdout and for stderr, made harmless once more.
//!
//! What stands in a line was made harmless where the line was put together; here everything but the newlines and the colours, which
//! are ours. Text for people is broken between words where a terminal would break it anywhere; what programs read stays as
//! it is, and so does everything that goes to a file or a pipe. A reader that has gone away changes nothing; a disk that is
//! full is told, and [`has_failed`] says so at the end.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::{AutoStream, ColorChoice};

use super::colour;
use crate::text::harmless::lines;
use crate::text::wrapped;

/// As wide as a terminal that does not say.
const USUAL_WIDTH: usize = 80;

/// Whether something could not be written to stdout that somebody waits for.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Lines of text for people, on stdout, each with its end.
pub fn say(text: &str) {
    // Made harmless before colours are put in, or they would be made harmless, too.
    let text = wrapped(&lines(text), width());
    let coloured = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
    write_out(&if coloured { colour::states(&text) } else { text });
}

/// Lines that programs read, on stdout, exactly as they are; whether anybody is left to read more.
#[allow(clippy::must_use_candidate, reason = "whoever writes once has nothing to stop")]
pub fn pour(text: &str) -> bool {
    write_out(&lines(text))
}

/// Lines of text for people, on stderr, the last one without its end.
pub fn complain(text: &str) {
    let width = columns(&io::stderr()).unwrap_or(usize::MAX);
    let text = wrapped(&lines(text), width);
    let coloured = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
    // A stderr that nobody reads changes nothing.
    writeln!(io::stderr(), "{}", if coloured { colour::warnings(&text) } else { text }).ok();
}

/// Clears the terminal for what is shown again and again; nothing where stdout is none.
pub fn clear() {
    if io::stdout().is_terminal() {
        // Home, and everything behind it.
        write_out("\u{1b}[H\u{1b}[2J\u{1b}[3J");
    }
}

/// How many characters a line for people may have: as many as the terminal shows, and any number where stdout is none.
#[must_use]
pub fn width() -> usize {
    columns(&io::stdout()).unwrap_or(usize::MAX)
}

/// Whether something could not be written to stdout, by no fault of whoever reads it.
#[must_use]
pub fn has_failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}

fn columns(stream: &(impl io::IsTerminal + std::os::fd::AsFd)) -> Option<usize> {
    let told =
        || rustix::termios::tcgetwinsize(stream).ok().map(|size| usize::from(size.ws_col)).filter(|&width| width > 0);
    stream.is_terminal().then(|| told().unwrap_or(USUAL_WIDTH))
}

fn write_out(text: &str) -> bool {
    let mut stdout = io::stdout();
    // Flushed at once: at the end of the process nobody would be told of a disk that is full.
    let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) else { return true };
    // A reader that has gone away has read enough.
    if error.kind() != io::ErrorKind::BrokenPipe && !FAILED.swap(true, Ordering::Relaxed) {
        complain(&format!("stdout cannot be written: {error}"));
    }
    false
}
