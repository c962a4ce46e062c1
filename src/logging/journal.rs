//! Whether lines on stderr go to the systemd journal, and how it wants them.
//!
//! systemd says in `JOURNAL_STREAM` which device and inode the journal's stream has (`systemd.exec(5)`). Only if stderr is
//! that very stream is anything changed: a pipe or a file behind which the variable is still set gets lines as everywhere. The
//! journal stamps lines itself and takes the level from `<N>` at their beginning (`sd-daemon(3)`).

use tracing::Level;

/// Whether stderr is the journal's stream.
#[must_use]
pub fn takes_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(rustix::stdio::stderr()).is_ok_and(|stderr| is_stream(&stream, stderr.st_dev, stderr.st_ino))
}

fn is_stream(variable: &str, device: u64, inode: u64) -> bool {
    let parse = |(device, inode): (&str, &str)| Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?));
    variable.split_once(':').and_then(parse) == Some((device, inode))
}

/// What stands before a line of this level: a priority of `syslog(3)`.
#[must_use]
pub fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stream_that_the_variable_names_is_the_journal() {
        assert!(is_stream("9:1234", 9, 1_234));
        for other in ["9:1235", "8:1234", "9", "", ":", "9:1234:1", "a:b", "-9:1234"] {
            assert!(!is_stream(other, 9, 1_234), "{other}");
        }
    }
}
