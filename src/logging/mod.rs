//! The log: one line per event, to stderr and to `<log_directory>/pattoo.log`.
//!
//! The form is the original agent's, so that what people search for goes on matching:
//! `2026-11-23 06:47:34,107 - pattoo_file - INFO - [root] (1070S): text`. An event names its code in the
//! field `code` (0 when the original had none); every other field follows the text as `name=value`, but for those that the text says
//! already (`TOLD`).
//!
//! Where stderr is the systemd journal (`journal`), which keeps time, level and sender of each line itself, a line there is its
//! priority, its text, its fields and its code.
//!
//! With [`Format::Json`] each line is an object with `time` (RFC 3339), `level`, `code`, `message` and all other fields,
//! for programs that collect logs. `docs/log-json.md` says which there are.
//!
//! Writing never blocks and never fails the agent: lines go through bounded queues to threads of their own
//! (`writer`), and are dropped when one is full (a full disk, a terminal that nobody reads). Control
//! characters are escaped, so that a device or a server cannot forge a line; no line is longer than
//! [`MAX_LINE`].

mod file;
mod journal;
mod last;
pub mod throttle;
mod writer;

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{ChronoLocal, FormatTime as _};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, reload};

pub use self::file::FILE_NAME;
use self::file::LogFile;
pub use self::last::{LastLine, last_lines};
use self::writer::LogWriter;
use crate::text::harmless::printable;

/// Longer lines are cut.
pub const MAX_LINE: usize = 2_000;

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// As the original agent's.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

/// Fields for programs: the text of the event says them too, or names the device that they are of.
const TOLD: [&str; 12] = [
    "device",
    "group",
    "unit",
    "table",
    "registers",
    "output",
    "why",
    "reason",
    "path",
    "lost",
    "lasted_seconds",
    "next_attempt_seconds",
];

/// The least time between two lines of the status page's server.
const QUIET: Duration = Duration::from_secs(60);

/// Whether lines are JSON.
static JSON: AtomicBool = AtomicBool::new(false);

/// Whether nobody is left who reads stderr.
static DETACHED: AtomicBool = AtomicBool::new(false);

/// Where lines go, once the log is started.
static WRITERS: OnceLock<Vec<LogWriter>> = OnceLock::new();

/// The level, once the log is started.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Sends events of `level` and above to stderr and to the log file in `directory`.
///
/// # Errors
/// When the log file cannot be opened, or a thread not started; that costs only itself.
pub fn start(level: LevelFilter, directory: &Path) -> io::Result<()> {
    let stderr = LogWriter::start("console", |line| {
        // Not eprintln!, which panics when nobody has the other end of a pipe any more.
        if DETACHED.load(Ordering::Relaxed) { Ok(()) } else { io::stderr().write_all(line) }
    });
    let file = LogFile::open(directory).and_then(|mut file| LogWriter::start("log file", move |line| file.write(line)));
    let console = if journal::takes_stderr() { Head::Journal } else { Head::Original("pattoo_console") };
    let (level, handle) = reload::Layer::new(level);
    let started = tracing_subscriber::registry()
        .with(level)
        // Not filter_fn: its verdict is kept for each place in the code, and this one changes with time.
        .with(dynamic_filter_fn(|event, _| concerns(event)))
        .with(stderr.as_ref().ok().map(|writer| layer(writer.clone(), console)))
        .with(file.as_ref().ok().map(|writer| layer(writer.clone(), Head::Original("pattoo_file"))))
        .with(last::KeepLast)
        .try_init();
    // Only a second start in one process could fail; the first one stays.
    if started.is_ok() {
        LEVEL.set(handle).ok();
    }
    let mut writers = Vec::new();
    let mut keep = |writer: io::Result<LogWriter>| writer.map(|writer| writers.push(writer));
    let (file, stderr) = (keep(file), keep(stderr));
    WRITERS.set(writers).ok();
    file.and(stderr)
}

/// Whether an event is for whoever runs the agent. What the status page's libraries say of requests is not: any client can
/// make them say it without end. What they say of the server itself is, once a minute, with the number of what was not
/// written in between.
fn concerns(event: &Metadata<'_>) -> bool {
    let target = event.target();
    let of = |name: &str| target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    if of("actix_http") || of("actix_web") {
        return false;
    }
    !of("actix_server") || (*event.level() <= Level::WARN && PAGE_SERVER.may_tell(Instant::now()))
}

/// The throttle of what the status page's server says.
static PAGE_SERVER: Throttle = Throttle { state: Mutex::new((None, 0)), told: AtomicU64::new(0) };

/// One line a minute, and how many there would have been.
struct Throttle {
    /// When the last one was written, and how many came since.
    state: Mutex<(Option<Instant>, u64)>,
    /// How many were not written before the last one.
    told: AtomicU64,
}

impl Throttle {
    fn may_tell(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.is_some_and(|at| now.saturating_duration_since(at) < QUIET) {
            state.1 += 1;
            return false;
        }
        self.told.store(std::mem::take(&mut state.1), Ordering::Relaxed);
        state.0 = Some(now);
        true
    }
}

/// From now on, events of `level` and above count.
pub fn set_level(level: LevelFilter) {
    if let Some(handle) = LEVEL.get() {
        // Refused only when the subscriber is gone.
        handle.reload(level).ok();
    }
}

/// From now on, lines are written like this.
pub fn set_format(format: Format) {
    JSON.store(format == Format::Json, Ordering::Relaxed);
}

/// From now on stderr is not for people but for what a daemon must not lose: the file `pattoo-daemon.log` in
/// `directory`, into which lines of the log, which are in their own file, do not go.
///
/// # Errors
/// When that file cannot be opened, or is no plain file of its own; stderr then is as good as it was.
pub fn detach(directory: &Path) -> io::Result<File> {
    DETACHED.store(true, Ordering::Relaxed);
    file::open(&directory.join(file::DAEMON_FILE_NAME))
}

/// Waits until what was logged is written, for `limit` at most: the last thing before the process ends.
pub fn flush(limit: Duration) {
    // One deadline for all sinks: the process ends in time, however many hang.
    let deadline = Instant::now() + limit;
    for writer in WRITERS.get().into_iter().flatten() {
        writer.flush(deadline);
    }
}

fn layer<S>(writer: LogWriter, head: Head) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_ansi(false).event_format(Line {
        head,
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

/// What stands before the text of an event.
#[derive(Clone, Copy)]
enum Head {
    /// As the original writes it, with the name of its logger.
    Original(&'static str),
    /// What the journal takes off again.
    Journal,
}

/// One event as one line.
struct Line {
    head: Head,
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
        if event.metadata().target().starts_with("actix_server") {
            // Read and not taken: the event comes here once for each sink.
            let more = PAGE_SERVER.told.load(Ordering::Relaxed);
            if more > 0 {
                parts.fields.push(("suppressed", more.into()));
            }
        }
        let (level, mark) = level_name(*event.metadata().level());
        if let Head::Journal = self.head {
            writer.write_str(journal::prefix(*event.metadata().level()))?;
        }
        if JSON.load(Ordering::Relaxed) {
            return parts.write_json(level, &mut writer);
        }
        let mut fields = String::new();
        for (name, value) in parts.fields.iter().filter(|(name, _)| !TOLD.contains(name)) {
            match value {
                Value::String(text) => write!(fields, " {name}={text}")?,
                value => write!(fields, " {name}={value}")?,
            }
        }
        let line = match self.head {
            Head::Original(logger) => {
                self.timer.format_time(&mut writer)?;
                format!(" - {logger} - {level} - [{}] ({}{mark}): {}{fields}", self.user, parts.code, parts.message)
            }
            Head::Journal if parts.code == 0 => format!("{}{fields}", parts.message),
            Head::Journal => format!("{}{fields} code={}", parts.message, parts.code),
        };
        writer.write_str(&printable(&line, MAX_LINE))?;
        writer.write_char('\n')
    }
}

/// A level as the original names it, and its mark behind the code.
fn level_name(level: Level) -> (&'static str, char) {
    match level {
        Level::ERROR => ("ERROR", 'E'),
        Level::WARN => ("WARNING", 'S'),
        Level::INFO => ("INFO", 'S'),
        Level::DEBUG | Level::TRACE => ("DEBUG", 'S'),
    }
}

#[derive(Default)]
struct Parts {
    code: u64,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Parts {
    /// One object on one line.
    fn write_json(&self, level: &str, writer: &mut Writer<'_>) -> fmt::Result {
        let text = |text: &str| Value::from(printable(text, MAX_LINE));
        let mut time = String::new();
        ChronoLocal::rfc_3339().format_time(&mut Writer::new(&mut time))?;
        // In this order, which a map would not keep.
        write!(writer, "{{\"time\":{},\"level\":\"{level}\",\"code\":{}", text(&time), self.code)?;
        write!(writer, ",\"message\":{}", text(&self.message))?;
        for (name, value) in &self.fields {
            let value = value.as_str().map_or_else(|| value.clone(), text);
            write!(writer, ",{}:{value}", text(name))?;
        }
        writer.write_str("}\n")
    }
}

impl Visit for Parts {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "code" { self.code = value } else { self.fields.push((field.name(), value.into())) }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.record_u64(field, value),
            Err(_) => self.fields.push((field.name(), value.into())),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // Durations: to the millisecond, as the text has them.
        self.fields.push((field.name(), ((value * 1_000.0).round() / 1_000.0).into()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // The Debug of arguments is the text itself, without quotes.
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => {
                self.fields.push((name, format!("{value:?}").into()));
                Ok(())
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_device_sends_can_forge_a_line_or_fill_the_disk() {
        let line = logged(|| tracing::warn!(device = %"m\u{202e}", cause = %"x\n".repeat(100_000), "a\nb\x1b[31m"));
        assert!(line.contains("a\\nb\\u{1b}[31m cause=x\\nx") && line.matches('\n').count() == 1, "{line}");
        assert!(line.len() < MAX_LINE + 100, "{}", line.len());
    }

    #[test]
    fn what_clients_make_the_page_say_is_one_line_a_minute_at_most() {
        let throttle = Throttle { state: Mutex::new((None, 0)), told: AtomicU64::new(0) };
        let start = Instant::now();
        let told = (0..600).filter(|tenth| throttle.may_tell(start + Duration::from_millis(100 * tenth))).count();
        assert_eq!(told, 1);
        assert!(throttle.may_tell(start + QUIET));
        assert_eq!(throttle.told.load(Ordering::Relaxed), 599);
    }

    /// What an event of this kind looks like in the file.
    fn logged(event: impl FnOnce()) -> String {
        logged_with(Head::Original("pattoo_file"), event)
    }

    fn logged_with(head: Head, event: impl FnOnce()) -> String {
        let directory = tempfile::tempdir().unwrap();
        let mut file = LogFile::open(directory.path()).unwrap();
        let writer = LogWriter::start("test", move |line| file.write(line)).unwrap();
        let subscriber = tracing_subscriber::registry().with(layer(writer.clone(), head));
        tracing::subscriber::with_default(subscriber, event);
        writer.flush(Instant::now() + Duration::from_secs(30));
        std::fs::read_to_string(directory.path().join(FILE_NAME)).unwrap()
    }

    #[test]
    fn an_object_has_all_fields_whatever_is_in_them() {
        let mut parts = Parts { code: 65_027, message: "a \"b\"\n\u{1b}[31m".to_owned(), ..Parts::default() };
        parts.fields.push(("device", "m\\1".into()));
        parts.fields.push(("lasted_seconds", 2.401.into()));
        let mut line = String::new();
        parts.write_json("WARNING", &mut Writer::new(&mut line)).unwrap();
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1);
        assert_eq!(object["message"], "a \"b\"\\n\\u{1b}[31m");
        let rest = [&object["level"], &object["code"], &object["device"]].map(ToString::to_string);
        assert_eq!(rest, ["\"WARNING\"", "65027", "\"m\\\\1\""]);
        assert_eq!(object["lasted_seconds"], 2.401);
        assert!(object["time"].as_str().unwrap().contains('T'), "{line}");
    }

    /// E7: no second stamp, no sender, and the priority by the level.
    #[test]
    fn a_line_for_the_journal_is_priority_text_fields_and_code() {
        let lines = logged_with(Head::Journal, || {
            tracing::error!("lost");
            tracing::warn!(code = 65_028, device = %"m1", cause = %"a\n<0>b", "down");
            tracing::info!(points = 3, "started");
            tracing::debug!("posted");
        });
        assert_eq!(lines, "<3>lost\n<4>down cause=a\\n<0>b code=65028\n<6>started points=3\n<7>posted\n");
    }

    #[test]
    fn a_line_reads_like_the_originals() {
        let line = logged(|| tracing::info!(code = 1070, device = %"m1", points = 3, "started"));
        let (time, rest) = line.split_at(23);
        assert!(time.as_bytes()[19] == b',' && time.as_bytes()[10] == b' ', "{line}");
        let rest = rest.replace(&user(), "USER");
        assert_eq!(rest, " - pattoo_file - INFO - [USER] (1070S): started points=3\n");
    }

    #[test]
    fn fields_for_programs_are_not_said_twice_in_a_line_for_people() {
        let line = logged(|| {
            let unit: Option<u8> = None;
            tracing::warn!(device = "m", unit, why = "off", lasted_seconds = 2.400_6, refused = 3, "m: off for 2s");
        });
        assert!(line.ends_with(": m: off for 2s refused=3\n"), "{line}");
    }
}
