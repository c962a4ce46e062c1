//! `spool show`: what is on disk, for people in 80 columns or for programs.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::{Found, Output, Refused};
use crate::cli::arguments::Format;
use crate::cli::terminal::say;
use crate::daemon::exit::Exit;
use crate::reading::Timestamp;
use crate::spool::batch::Position;
use crate::spool::reader::{Files, Summary, Survey};
use crate::text::table::TextTable;
use crate::text::{count, harmless, seconds};
use crate::time::clock;

/// More segments than this are shown by the first and the last of them.
const MOST_ROWS: usize = 20;

/// What is on disk.
#[derive(Debug, Serialize)]
struct Shown {
    cache: String,
    agent_id: String,
    /// The numbers of the oldest reading and of the next one.
    start: u64,
    end: u64,
    readings: u64,
    bytes: u64,
    /// Readings without a date.
    undated: u64,
    quarantine: Kept,
    old_caches: Kept,
    /// What is strange or damaged.
    findings: Vec<String>,
    outputs: Vec<ShownOutput>,
    segments: Vec<ShownSegment>,
}

#[derive(Debug, Serialize)]
struct Kept {
    directory: String,
    files: usize,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct ShownOutput {
    name: String,
    /// `None`: not in the configuration.
    #[serde(rename = "type")]
    kind: Option<&'static str>,
    /// The number of the next reading to deliver; `None`: it is new.
    cursor: Option<u64>,
    waiting: u64,
    /// When the oldest that waits was taken, in ms.
    oldest: Option<u64>,
    /// How long ago that is.
    age_seconds: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ShownSegment {
    path: String,
    first: u64,
    bytes: u64,
    readings: u64,
    undated: u64,
    oldest: Option<u64>,
    newest: Option<u64>,
    damaged: bool,
}

/// Prints it.
pub(super) fn show(mut found: Found, format: Format) -> Result<Exit, Refused> {
    let shown = look(&mut found)?;
    match format {
        Format::Json => say(&(harmless::json(&serde_json::to_string_pretty(&shown).unwrap_or_default()) + "\n")),
        Format::Table => say(&shown.text()),
    }
    Ok(Exit::Done)
}

fn look(found: &mut Found) -> Result<Shown, Refused> {
    let Found { cache, agent_id, reader, outputs } = found;
    let positions: Vec<Position> = outputs.iter().map(|output| output.from).collect();
    let Survey { segments, waiting } = reader.survey(&positions)?;
    let now = clock::wall();
    let mut shown_outputs = Vec::new();
    for (output, waiting) in outputs.iter().zip(waiting) {
        let oldest = if waiting > 0 { reader.first_date(output.from)? } else { None };
        let Output { name, kind, cursor, .. } = output;
        shown_outputs.push(ShownOutput {
            name: name.clone(),
            kind: *kind,
            cursor: cursor.map(|cursor| cursor.position.0),
            waiting,
            oldest: oldest.map(Timestamp::as_millis),
            age_seconds: oldest.map(|oldest| now.since(oldest).as_secs()),
        });
    }
    let (quarantine, quarantined_in) = reader.quarantine()?;
    let kept = |Files { files, bytes }, directory| Kept { directory, files, bytes };
    let directory = cache.join(agent_id.as_str()).display().to_string();
    let findings = &reader.opened().findings;
    let mut said: Vec<String> =
        findings.told.iter().map(|finding| format!("{}: {}", finding.path.display(), finding.why)).collect();
    if findings.untold > 0 {
        said.push(format!("{} like these", count(findings.untold, "more file")));
    }
    Ok(Shown {
        start: reader.start().0,
        end: reader.opened().end.0,
        readings: segments.iter().map(|segment| segment.readings).sum(),
        bytes: segments.iter().map(|segment| segment.bytes).sum(),
        undated: segments.iter().map(|segment| segment.undated).sum(),
        quarantine: kept(quarantine, quarantined_in.display().to_string()),
        old_caches: kept(reader.old_bytes()?, directory),
        cache: cache.display().to_string(),
        agent_id: agent_id.as_str().to_owned(),
        findings: said,
        outputs: shown_outputs,
        segments: segments.into_iter().map(segment).collect(),
    })
}

fn segment(summary: Summary) -> ShownSegment {
    let Summary { first, path, bytes, readings, undated, oldest, newest, damaged } = summary;
    let [oldest, newest] = [oldest, newest].map(|date| date.map(Timestamp::as_millis));
    ShownSegment { path, first: first.0, bytes, readings, undated, oldest, newest, damaged }
}

impl Shown {
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let mut line = |what: &str, value: &str| {
            let _ = writeln!(text, "{what:<11} {}", harmless::escaped(value));
        };
        line("cache", &self.cache);
        line("agent", &self.agent_id);
        let segments = count(self.segments.len(), "segment");
        let readings = count(usize::try_from(self.readings).unwrap_or(usize::MAX), "reading");
        line("log", &format!("{readings}, {} in {segments}; numbers {} to {}", size(self.bytes), self.start, self.end));
        if self.undated > 0 {
            line("undated", &format!("{} of them have no date yet", self.undated));
        }
        for (what, kept) in [("old caches", &self.old_caches), ("quarantine", &self.quarantine)] {
            if kept.files > 0 {
                line(what, &format!("{}, {}", count(kept.files, "file"), size(kept.bytes)));
            }
        }
        for finding in &self.findings {
            line("strange", finding);
        }
        let mut table = TextTable::new(&["output", "type", "next reading", "waiting", "oldest waits for"]);
        for ShownOutput { name, kind, cursor, waiting, age_seconds, .. } in &self.outputs {
            let age = match age_seconds {
                Some(age) => seconds(Duration::from_secs(*age)).to_string(),
                None if *waiting > 0 => "no date yet".to_owned(),
                None => String::new(),
            };
            let next = cursor.map_or_else(|| "new".to_owned(), |cursor| cursor.to_string());
            let kind = kind.unwrap_or("?").to_owned();
            table.push([name.clone(), kind, next, waiting.to_string(), age]);
        }
        if !table.is_empty() {
            text.push('\n');
            text.push_str(&table.columns());
        }
        if !self.segments.is_empty() {
            text.push('\n');
            text.push_str(&self.table_of_segments());
        }
        text
    }

    fn table_of_segments(&self) -> String {
        let mut table = TextTable::new(&["segment", "size", "readings", "oldest (UTC)", "newest"]);
        let few = self.segments.len() <= MOST_ROWS;
        let shown = if few { self.segments.len() } else { MOST_ROWS / 2 };
        let between = self.segments.len() - if few { self.segments.len() } else { 2 * shown };
        for segment in self.segments.iter().take(shown) {
            table.push(segment.row());
        }
        if let Some(hidden) = self.segments.get(shown..shown + between).filter(|hidden| !hidden.is_empty()) {
            let bytes = size(hidden.iter().map(|segment| segment.bytes).sum());
            let readings: u64 = hidden.iter().map(|segment| segment.readings).sum();
            let oldest = hidden.first().and_then(|segment| segment.oldest);
            let newest = hidden.last().and_then(|segment| segment.newest);
            table.push([format!("{between} more"), bytes, readings.to_string(), date(oldest), date(newest)]);
            for segment in self.segments.iter().skip(shown + between) {
                table.push(segment.row());
            }
        }
        table.columns()
    }
}

impl ShownSegment {
    fn row(&self) -> [String; 5] {
        // Its directory and ending are those of all.
        let name = self.path.rsplit('/').next().unwrap_or_default().split('.').next().unwrap_or_default();
        let damaged = if self.damaged { " (damaged)" } else { "" };
        let readings = format!("{}{damaged}", self.readings);
        [name.to_owned(), size(self.bytes), readings, date(self.oldest), date(self.newest)]
    }
}

fn date(ms: Option<u64>) -> String {
    let Some(ms) = ms else { return "no date yet".to_owned() };
    let text = UNIX_EPOCH
        .checked_add(Duration::from_millis(ms))
        .map(|at| humantime::format_rfc3339_seconds(at).to_string().replace('T', " ").replace('Z', ""));
    text.unwrap_or_default()
}

/// About so many bytes.
fn size(bytes: u64) -> String {
    let unit = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")].into_iter().find(|(unit, _)| bytes >= *unit);
    match unit {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}
