//! `spool show`: what is on disk, for people in 80 columns or for programs.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::{Found, Output, Refused};
use crate::cli::arguments::Format;
use crate::cli::terminal::{pour, say, width};
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
        Format::Json => drop(pour(&(harmless::json(&serde_json::to_string_pretty(&shown).unwrap_or_default()) + "\n"))),
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
        // It reads from the disk.
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
        line("log", &format!("{readings}, {} in {segments}", size(self.bytes)));
        line("numbers", &format!("{} to {}", self.start, self.end));
        if self.undated > 0 {
            line("undated", &format!("{} of them have no date yet", self.undated));
        }
        for (what, kept) in [("old caches", &self.old_caches), ("quarantine", &self.quarantine)] {
            if kept.files > 0 {
                line(what, &format!("{}, {}", count(kept.files, "file"), size(kept.bytes)));
            }
        }
        for segment in self.segments.iter().filter(|segment| segment.damaged) {
            line("damaged", &format!("{}; what is whole of it is counted", segment.path));
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
            text.push_str(&table.within(width()));
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
        table.within(width())
    }
}

impl ShownSegment {
    fn row(&self) -> [String; 5] {
        // Its directory and ending are those of all.
        let name = self.path.rsplit('/').next().unwrap_or_default().split('.').next().unwrap_or_default();
        [name.to_owned(), size(self.bytes), self.readings.to_string(), date(self.oldest), date(self.newest)]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u64) -> ShownSegment {
        let first = number * 1_000_000;
        let date = Some(1_790_000_000_000 + number * 1_000);
        ShownSegment {
            path: format!("log/{first:016x}.segment"),
            first,
            bytes: 4 << 20,
            readings: 1_000_000,
            undated: 0,
            oldest: date,
            newest: date,
            damaged: number == 3,
        }
    }

    #[test]
    fn many_segments_are_summed_up_and_no_line_is_longer_than_80() {
        let output = |name: &str, waiting, age_seconds| ShownOutput {
            name: name.to_owned(),
            kind: Some("pattoo"),
            cursor: Some(7),
            waiting,
            oldest: None,
            age_seconds,
        };
        let kept = |files| Kept { directory: String::new(), files, bytes: 12_345 };
        let shown = |segments: u64| Shown {
            cache: "/var/lib/pattoo/cache".to_owned(),
            agent_id: "4c".repeat(32),
            start: 0,
            end: 1_000_000_000_000,
            readings: 1_000_000_000,
            bytes: 123_456_789,
            undated: 7,
            quarantine: kept(1),
            old_caches: kept(0),
            findings: vec!["x: it is no file of the log".to_owned()],
            outputs: vec![output("pattoo", 3, Some(7_230)), output("a", 3, None), output("b", 0, None)],
            segments: (0..segments).map(segment).collect(),
        };
        for (segments, rows) in [(0, 0), (1, 1), (20, 20), (21, 21), (200, 21)] {
            let text = shown(segments).text();
            let found = text.lines().filter(|line| line.contains("4.1 MB") || line.contains(" more  ")).count();
            assert_eq!(found, rows, "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
        let text = shown(200).text();
        for part in [
            "180 more          754.9 MB  180000000  2026-09-21",
            "damaged     log/00000000002dc6c0.segment; what is whole of it is counted\n",
            "quarantine  1 file, 12.3 kB\n",
            "undated     7 of them have no date yet\n",
            "strange     x: it is no file of the log\n",
            "pattoo  pattoo  7             3        2h 30s\n",
            "a       pattoo  7             3        no date yet\n",
            "b       pattoo  7             0\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("old caches"), "{text}");
    }
}
