//! The log: one line per event, to stderr and to `<log_directory>/pattoo.log`.
//!
//! The form is the original agent's, so that what people search for goes on matching:
//! `2026-11-23 06:47:34,107 - pattoo_file - INFO - [root] (1070S): text`. An event names its code in the
//! field `code` (0 when the original had none); every other field follows the text as `name=value`.
//! Standard field names: `device`, `unit`, `cause`, `next`, `points`, `batches`, `file`.
//!
//! Writing never blocks and never fails the agent: lines go through a bounded queue to a thread of their
//! own, and are dropped when it is full (a full disk, a terminal that nobody reads). Control characters
//! are escaped, so that a device or a server cannot forge a line; no line is longer than [`MAX_LINE`].

use std::fmt::{self, Write as _};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{ChronoLocal, FormatTime as _};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Longer lines are cut.
pub const MAX_LINE: usize = 2_000;

/// Lines that may wait for a slow disk or terminal before further ones are dropped.
const QUEUE: usize = 4_096;

/// The name of the log file in `log_directory`.
pub const FILE_NAME: &str = "pattoo.log";

/// Keeps the writing threads alive; dropping it writes out what is queued (for a second at most).
#[derive(Debug)]
pub struct LogGuard {
    _workers: Vec<WorkerGuard>,
}

/// Sends events of `level` and above to stderr and to the log file in `directory`.
///
/// A log file that cannot be opened costs only itself: the error is returned beside the guard.
#[must_use]
pub fn start(level: LevelFilter, directory: &Path) -> (LogGuard, Option<io::Error>) {
    let (stderr, stderr_worker) = non_blocking(io::stderr());
    let mut workers = vec![stderr_worker];
    let (file, error) = match open(directory) {
        Ok(file) => {
            let (file, worker) = non_blocking(file);
            workers.push(worker);
            (Some(file), None)
        }
        Err(error) => (None, Some(error)),
    };
    tracing_subscriber::registry()
        .with(layer(stderr, "pattoo_console").with_filter(level))
        .with(file.map(|file| layer(file, "pattoo_file").with_filter(level)))
        // Only a second start in one process could fail; the first one stays.
        .try_init()
        .ok();
    (LogGuard { _workers: workers }, error)
}

fn open(directory: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        // A FIFO or a symlink planted as the log file must neither block the start nor be followed.
        .custom_flags((rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW).bits().cast_signed())
        .open(directory.join(FILE_NAME))
}

fn non_blocking(writer: impl io::Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUE).thread_name("log").finish(writer)
}

fn layer<S>(writer: NonBlocking, logger: &'static str) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false).event_format(Line {
        logger,
        user: user(),
        timer: ChronoLocal::new("%Y-%m-%d %H:%M:%S,%3f".to_owned()),
    })
}

/// The name that the original shows in brackets: who runs the agent.
fn user() -> String {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| {
        let uid = rustix::process::getuid();
        if uid.is_root() { "root".to_owned() } else { uid.as_raw().to_string() }
    })
}

/// One event as one line.
struct Line {
    logger: &'static str,
    user: String,
    timer: ChronoLocal,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let (level, mark) = match *event.metadata().level() {
            Level::ERROR => ("ERROR", 'E'),
            Level::WARN => ("WARNING", 'S'),
            Level::INFO => ("INFO", 'S'),
            Level::DEBUG | Level::TRACE => ("DEBUG", 'S'),
        };
        self.timer.format_time(&mut writer)?;
        let line = format!(
            " - {} - {level} - [{}] ({}{mark}): {}{}",
            self.logger, self.user, parts.code, parts.message, parts.fields
        );
        writer.write_str(&printable(&line, MAX_LINE))?;
        writer.write_char('\n')
    }
}

#[derive(Default)]
struct Parts {
    code: u64,
    message: String,
    fields: String,
}

impl Visit for Parts {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "code" { self.code = value } else { self.record_debug(field, &value) }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.record_u64(field, value),
            Err(_) => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// `text` on one line: control characters escaped, cut to `limit` bytes.
#[must_use]
pub fn printable(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len().min(limit));
    for character in text.chars() {
        if out.len() >= limit {
            out.push('…');
            break;
        }
        if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}') {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_device_sends_can_forge_a_line_or_fill_the_disk() {
        assert_eq!(printable("a\nb\x1b[31m\r\0", 100), "a\\nb\\u{1b}[31m\\r\\u{0}");
        assert_eq!(printable("grüße 漢字", 100), "grüße 漢字");
        assert!(printable(&"x".repeat(1_000_000), MAX_LINE).len() < MAX_LINE + 8);
    }

    #[test]
    fn a_line_reads_like_the_originals() {
        let directory = tempfile::tempdir().unwrap();
        let (file, guard) = non_blocking(open(directory.path()).unwrap());
        let subscriber = tracing_subscriber::registry().with(layer(file, "pattoo_file"));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(code = 1070, device = %"m1", points = 3, "started");
        });
        drop(guard);
        let line = std::fs::read_to_string(directory.path().join(FILE_NAME)).unwrap();
        let (time, rest) = line.split_at(23);
        assert!(time.as_bytes()[19] == b',' && time.as_bytes()[10] == b' ', "{line}");
        let rest = rest.replace(&user(), "USER");
        assert_eq!(rest, " - pattoo_file - INFO - [USER] (1070S): started device=m1 points=3\n");
    }
}
