//! The moment from which the agent works: told to whoever started it.
//!
//! Started with `--start`, the process leaves its starter's session first of all, and when it works says
//! [`WORD`] on its standard output and lets go of all three streams; what it would say on stderr from then on is
//! appended to `pattoo-daemon.log` in the log directory. In the foreground nothing happens.

use std::env;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use rustix::process::setsid;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::logging;

/// Set for a process that is to go on in the background.
pub const DETACH: &str = "PATTOO_DETACH";

/// What the starter waits for.
pub const WORD: &str = "ready\n";

/// Leaves the session of the starter, if the starter asked for that.
pub fn leave_session() {
    if is_requested() {
        // Refused only to a process that leads a group already, which is as good.
        setsid().ok();
    }
}

/// Everything works now.
///
/// # Errors
/// When the streams cannot be let go of; the agent works all the same.
pub fn announce(log_directory: &Path) -> io::Result<()> {
    if !is_requested() {
        return Ok(());
    }
    // The streams are not closed: the next file or socket would get their numbers, and whoever writes to stderr would
    // write into it.
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    // The starter may have lost patience.
    io::stdout().write_all(WORD.as_bytes()).and_then(|()| io::stdout().flush()).ok();
    dup2_stdin(&nothing)?;
    dup2_stdout(&nothing)?;
    match logging::detach(log_directory) {
        Ok(file) => dup2_stderr(&file)?,
        Err(error) => {
            // All the same: the starter reads this stream until its end, and would wait for as long as the agent lives.
            dup2_stderr(&nothing)?;
            return Err(error);
        }
    }
    Ok(())
}

fn is_requested() -> bool {
    env::var_os(DETACH).is_some_and(|value| value == "1")
}
