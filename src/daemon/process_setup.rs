//! What the process inherits and what becomes of a panic: put right before anything else happens.
//!
//! - The file mode mask is ours, so that files and directories get exactly the modes that they are made with.
//! - No core file, and no other process of the same user that looks into this one's memory.
//! - A panic is one line in the log. Whether the process survives it is the supervisor's business for actors;
//!   a panic in a thread that nobody supervises ends it at once: never a half-dead daemon.
//!
//! Not here, because the standard library does it: descriptors 0, 1 and 2 are open (on `/dev/null` if need
//! be) before `main` starts, and SIGPIPE is ignored.

use std::io::{self, Write as _};
use std::panic::{PanicHookInfo, set_hook};
use std::process;
use std::thread;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, set_dumpable_behavior, umask};

use super::exit::Exit;
use crate::logging;
use crate::text::harmless::printable;

/// The threads that live as long as the process and report to nobody.
const UNSUPERVISED: [&str; 3] = ["log", "signals", "spool"];

/// How long the log may take for the last line of a process that ends at once.
pub const LAST_WORDS: Duration = Duration::from_millis(200);

/// Puts it right.
pub fn apply() {
    umask(Mode::from_raw_mode(0o027));
    // Refused by no kernel that we know; a core file is no reason not to work.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
    set_hook(Box::new(tell_panic));
}

/// Ends the process without waiting for anything but the log, and for that not long.
#[expect(clippy::disallowed_methods, reason = "here it is done, after the log")]
pub fn end_at_once(exit: Exit) -> ! {
    logging::flush(LAST_WORDS);
    process::exit(i32::from(exit.code()))
}

fn tell_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    // The message is a &str where it has no arguments, and a String where it has.
    let payload = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let payload = payload.unwrap_or("no message");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    if tracing::dispatcher::has_been_set() {
        tracing::error!("this is a bug, please report it: panic at {place}: {payload}");
    } else {
        let line = printable(&format!("panic at {place}: {payload}"), logging::MAX_LINE);
        // A stderr that nobody reads changes nothing.
        writeln!(io::stderr(), "{line}").ok();
    }
    // After the line, and only for these: what runs on an arbiter has a guard, and a device that panics must not end
    // the others.
    if thread::current().name().is_some_and(|name| UNSUPERVISED.contains(&name)) {
        end_at_once(Exit::Failure);
    }
}
