//! Values as people write them: whether, how many, how long, how large. What is wrong is in the report.
//!
//! A kind of value has one home, so that it is read alike wherever it stands and refused in the same words.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::yaml::cursor::{Cursor, Report};
use super::yaml::node::Node;

/// The default of `polling_interval`.
pub const POLLING_INTERVAL: Duration = Duration::from_secs(300);

/// The least `polling_interval` that the original knew: it polled without a pause, where it took one for 0.
const LEAST: Duration = Duration::from_secs(1);

/// The longest: in milliseconds the server has 32 bits for it.
const LONGEST: Duration = Duration::from_secs(49 * 86_400);

const INTERVALS: &str = "seconds as a whole number, or a duration such as 10s or 5m, from 100ms to 49days";

/// No longer text is stored by the server.
pub const MAX_TEXT_BYTES: usize = 512;

/// Longer than any duration that somebody means.
pub const LONGEST_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Whether.
pub fn flag(of: &mut bool, value: &Cursor<'_>, report: &mut Report) {
    match &*value.node {
        Node::Bool(flag) => *of = *flag,
        _ => report.faults.push(value.unfit("true or false")),
    }
}

/// A whole number within `allowed`.
pub fn number<N>(of: &mut N, allowed: RangeInclusive<N>, value: &Cursor<'_>, report: &mut Report)
where
    N: TryFrom<i128> + PartialOrd + Display,
{
    let number = match &*value.node {
        Node::Integer(number) => N::try_from(*number).ok(),
        _ => None,
    };
    let Some(number) = number.filter(|number| allowed.contains(number)) else {
        let (least, most) = allowed.into_inner();
        report.faults.push(value.unfit(&format!("a whole number from {least} to {most}")));
        return;
    };
    *of = number;
}

/// A duration within `allowed`, which a fault calls `form`; a bare number is seconds.
pub fn duration_within(
    value: &Cursor<'_>,
    allowed: RangeInclusive<Duration>,
    form: &str,
    report: &mut Report,
) -> Option<Duration> {
    let duration = match &*value.node {
        Node::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        // Refuses what is negative, infinite or NaN.
        Node::Float(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
        Node::Text(text) => humantime::parse_duration(text.trim()).ok(),
        _ => None,
    };
    let duration = duration.filter(|duration| allowed.contains(duration));
    if duration.is_none() {
        report.faults.push(value.unfit(form));
    }
    duration
}

/// The same, into `of`; a fault says the bounds.
pub fn duration(of: &mut Duration, allowed: RangeInclusive<Duration>, value: &Cursor<'_>, report: &mut Report) {
    let [least, most] = [allowed.start(), allowed.end()].map(|bound| humantime::format_duration(*bound));
    let form = format!("a duration such as 500ms, from {least} to {most}");
    if let Some(duration) = duration_within(value, allowed, &form, report) {
        *of = duration;
    }
}

/// What the original took and [`interval`] does not, with a warning: for its default whatever is nothing (0, false,
/// an empty text or list), for a second `true`. What it took for 0 otherwise it polled without a pause: a second, too.
pub fn originals_interval(value: &Cursor<'_>, report: &mut Report) -> Option<Duration> {
    const NOTHING: &str = "the default of 300 s holds, as with the Python agent";
    const NO_PAUSE: &str = "1 s holds, the least of whole seconds: the Python agent took 0 and polled without a pause";
    let (interval, taken) = match &*value.node {
        Node::Integer(0) | Node::Bool(false) => (POLLING_INTERVAL, NOTHING),
        Node::Float(seconds) if *seconds == 0.0 => (POLLING_INTERVAL, NOTHING),
        Node::Text(text) if text.is_empty() => (POLLING_INTERVAL, NOTHING),
        Node::List(items) if items.is_empty() => (POLLING_INTERVAL, NOTHING),
        Node::Mapping(entries) if entries.is_empty() => (POLLING_INTERVAL, NOTHING),
        // int(True) is 1.
        Node::Bool(true) => (LEAST, "1 s holds, as with the Python agent"),
        Node::Float(seconds) if seconds.abs() < 1.0 => (LEAST, NO_PAUSE),
        // True to Python, unlike the number 0: its default is not taken, and int() makes 0 of it.
        Node::Text(text) if text.trim().trim_start_matches(['-', '+']).parse() == Ok(0) => (LEAST, NO_PAUSE),
        Node::Integer(seconds) if seconds.unsigned_abs() > LONGEST.as_secs().into() => {
            (LONGEST, "49 days hold, the longest that the server can store")
        }
        _ => return None,
    };
    let fault = value.unfit(INTERVALS);
    report.warnings.push(Diagnostic { message: format!("{}; {taken}", fault.message), ..fault });
    Some(interval)
}

/// `abs(int(value))` seconds as in the original, or a duration with its unit.
pub fn interval(value: &Cursor<'_>, report: &mut Report) -> Option<Duration> {
    let seconds = match &*value.node {
        Node::Null => return None,
        Node::Integer(seconds) => u64::try_from(seconds.unsigned_abs()).ok().map(Duration::from_secs),
        // Towards zero, as Python's int() does.
        Node::Float(seconds) => Duration::try_from_secs_f64(seconds.abs().trunc()).ok(),
        Node::Text(text) => {
            // A number in quotes is seconds to int(), and its sign means nothing to abs().
            let digits = text.trim().trim_start_matches(['-', '+']);
            digits.parse().map(Duration::from_secs).ok().or_else(|| humantime::parse_duration(text.trim()).ok())
        }
        _ => None,
    };
    let allowed = Duration::from_millis(100)..=LONGEST;
    // Whole milliseconds, because posts say it in these.
    let seconds = seconds.filter(|seconds| allowed.contains(seconds) && seconds.subsec_nanos() % 1_000_000 == 0);
    if seconds.is_none() {
        report.faults.push(value.unfit(INTERVALS));
    }
    seconds
}

/// A number of bytes; `kB`, `MB`, `GB`, `TB` are powers of 1000, `KiB`, `MiB`, `GiB`, `TiB` of 1024.
pub fn bytes(node: &Node) -> Option<u64> {
    let text = match node {
        Node::Integer(bytes) => return u64::try_from(*bytes).ok(),
        Node::Text(text) => text.trim(),
        _ => return None,
    };
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    // In any case of letters: nobody means millibytes by mb.
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}
