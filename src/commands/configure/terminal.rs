//! The person at this process: questions on stdout, answers from stdin, a terminal or a pipe.

use std::io::{self, IsTerminal as _, Read as _};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use super::interview::Person;
use crate::cli::terminal::{complain, say};

/// No longer answer is read.
const LONGEST: u64 = 64 << 10;

/// Ctrl-C, where it is a character like any other.
const INTERRUPT: u8 = 3;

/// Stdin, stdout and stderr.
#[derive(Debug)]
pub struct Terminal;

impl Person for Terminal {
    fn answer(&mut self, question: &str, hidden: bool) -> io::Result<String> {
        let is_terminal = io::stdin().is_terminal();
        // Before the question: whoever sees it may type at once.
        let before = if hidden && is_terminal { Some(without_echo()?) } else { None };
        say(question);
        let mut line = Vec::new();
        // Byte by byte: a secret without echo ends with Ctrl-C, too, which is no end of a line to the library.
        let read = io::stdin().lock().take(LONGEST).bytes().try_for_each(|byte| {
            line.push(byte.map_err(Some)?);
            let is_end = |byte: &u8| *byte == b'\n' || (before.is_some() && *byte == INTERRUPT);
            // The end of a line is no error, but there is nothing to go on for.
            if line.last().is_some_and(is_end) { Err(None) } else { Ok(()) }
        });
        let read = read.or_else(|why: Option<io::Error>| why.map_or(Ok(()), Err));
        if let Some(before) = &before {
            // Before anything can end this: a terminal must not be left without echo.
            tcsetattr(io::stdin(), OptionalActions::Now, before)?;
        }
        let ended = read.is_err() || line.is_empty() || (before.is_some() && line.contains(&INTERRUPT));
        // What was typed, or is not to be seen, has left the cursor behind the question.
        if !is_terminal || before.is_some() || ended {
            say(if hidden || ended { "\n" } else { "" });
        }
        read?;
        if ended {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // What is cut off would be taken for the next answer.
        if line.len() as u64 == LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer is longer than 64 KiB"));
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        if !is_terminal && !hidden {
            // Whoever reads the output of a script sees what was answered where.
            say(&format!("{}\n", line.trim_end()));
        }
        Ok(line)
    }

    fn tell(&mut self, text: &str) {
        say(text);
    }

    fn object(&mut self, text: &str) {
        complain(text);
    }

    fn can_answer_again(&self) -> bool {
        io::stdin().is_terminal()
    }
}

/// Lets stdin show nothing of what is typed; what it was before. Ctrl-C ends no process that would leave it so.
fn without_echo() -> io::Result<Termios> {
    let before = tcgetattr(io::stdin())?;
    let mut modes = before.clone();
    modes.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
    // A terminal gives out whole lines: without this Ctrl-C would not be seen before the next Enter.
    modes.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
    tcsetattr(io::stdin(), OptionalActions::Now, &modes)?;
    Ok(before)
}
