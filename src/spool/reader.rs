//! The log as somebody reads it who is not its owner: beside a running agent, after a crash, from a copy.
//!
//! It is the [`Log`] itself on a [`Disk`] that takes nothing. So it reads what the agent would read, in the same words, and
//! nothing can be written: no lock is taken, no torn end is cut off, nothing is moved to quarantine. A segment that
//! is being appended to is read up to its last whole frame as it was when the log was opened; what the owner removes
//! meanwhile is a gap that has vanished.
//!
//! Segments are surveyed by the headers of their frames. Memory does not grow with the log but for some words a segment.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::batch::{Batch, Position};
use super::directory::{Directory, failed};
use super::disk::{Disk, Space, Stat, read_whole, shown};
use super::frame::{Header, SEGMENT_HEADER};
use super::job::{Done, Job, Read};
use super::limits::Limits;
use super::log::{Life, Log, Opened};
use super::old::Restamp;
use super::quarantine;
use super::segment;
use super::source::{At, Patience, Source};
use super::{Name, SpoolError};
use crate::reading::{Reading, Timestamp};

/// The log of one agent, to look at.
#[derive(Debug)]
pub struct Reader {
    log: Log,
    opened: Opened,
    agent_id: String,
}

/// What a segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The number of its first reading, as in its name.
    pub first: Position,
    /// Its file, below the directory of the agent.
    pub path: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// How many readings it holds.
    pub readings: u64,
    /// Of those, how many have no date yet.
    pub undated: u64,
    /// When its first reading was taken, if that has a date.
    pub oldest: Option<Timestamp>,
    /// The greatest date in it.
    pub newest: Option<Timestamp>,
    /// Whether something in it is damaged.
    pub damaged: bool,
}

/// What the log holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// Its segments, oldest first.
    pub segments: Vec<Summary>,
    /// Of each position that was asked for: how many readings are at or behind it.
    pub waiting: Vec<u64>,
}

/// Files and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Files {
    /// How many.
    pub files: usize,
    /// Their bytes together.
    pub bytes: u64,
}

impl Reader {
    /// Opens the log in `directory`, which is that of the agent `agent_id`; `None` when there is no such directory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(directory: &Path, agent_id: &str, restamp: Restamp) -> Result<Option<Self>, SpoolError> {
        let Some(root) = Directory::open_existing(directory.to_owned())? else { return Ok(None) };
        let disk = ReadOnly { root, began: Instant::now(), open: None };
        // It dates nothing, so it does not matter which boot this is.
        let life = Life { agent_id, boot_id: "", restamp };
        let (log, opened) = Log::open(Box::new(disk), Limits::default(), &life)?;
        Ok(Some(Self { log, opened, agent_id: agent_id.to_owned() }))
    }

    /// What was found: the end, cursors, holds, findings.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The oldest reading that is there; the end when there is none.
    #[must_use]
    pub fn start(&self) -> Position {
        self.log.segments.first_key_value().map_or(self.opened.end, |(&first, _)| first)
    }

    /// What the segments hold, and how many readings are at or behind each of `positions`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn survey(&mut self, positions: &[Position]) -> Result<Survey, SpoolError> {
        let mut survey = Survey { segments: Vec::new(), waiting: vec![0; positions.len()] };
        let segments: Vec<_> = self.log.segments.iter().map(|(&first, segment)| (first, segment.length)).collect();
        let ends = segments.iter().skip(1).map(|&(next, _)| Some(next)).chain([None]);
        for (&(first, length), next) in segments.iter().zip(ends) {
            let mut summary = Summary {
                first,
                path: segment::path(first),
                bytes: length,
                readings: 0,
                undated: 0,
                oldest: None,
                newest: None,
                damaged: false,
            };
            let mut count = |header: &Header, newest: Option<Timestamp>| {
                let readings = u64::from(header.count);
                summary.readings += readings;
                match newest {
                    Some(_) => summary.newest = summary.newest.max(newest),
                    None => summary.undated += readings,
                }
                for (waiting, from) in survey.waiting.iter_mut().zip(positions) {
                    *waiting += header.end().since((*from).max(header.first));
                }
            };
            match self.headers(first, length, next, &mut count) {
                Ok(damaged) => summary.damaged = damaged,
                // The owner has removed it.
                Err(error) if error.is_gone() => continue,
                Err(error) => return Err(error),
            }
            summary.oldest = self.first_date(first)?;
            survey.segments.push(summary);
        }
        Ok(survey)
    }

    /// Calls `visit` with the header of each frame of a segment, and with the date of the newest reading in it, if it has one.
    /// Whether something is damaged.
    fn headers(
        &mut self,
        first: Position,
        length: u64,
        next: Option<Position>,
        visit: &mut dyn FnMut(&Header, Option<Timestamp>),
    ) -> Result<bool, SpoolError> {
        // Whoever looks does not come again: what cannot be read is damaged at once.
        let mut patience = Patience::none();
        let mut source = Source::new(&mut *self.log.disk, &mut patience, segment::path(first), length);
        let (mut at, mut end, mut damaged) = (SEGMENT_HEADER, first, false);
        loop {
            match source.frame(at)? {
                At::End => break,
                // What a failed write has left.
                At::Frame(header) if next.is_some_and(|next| header.first >= next) => break,
                At::Frame(header) if header.first >= end => {
                    let newest = match header.undated {
                        None => Some(header.newest),
                        Some(hold) => self.log.holds.get(hold).and_then(|hold| hold.date(header.newest)),
                    };
                    visit(&header, newest);
                    (at, end) = (at.saturating_add(header.frame()), header.end());
                }
                At::Frame(_) | At::Damaged => {
                    damaged = true;
                    match source.next_whole(at.saturating_add(1), end)? {
                        Some(whole) => at = whole,
                        None => break,
                    }
                }
            }
        }
        Ok(damaged || source.unreadable)
    }

    /// When the reading at `from`, or the first behind it, was taken; `None` when there is none, or it has no date.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn first_date(&mut self, from: Position) -> Result<Option<Timestamp>, SpoolError> {
        let read = self.read(from, 1)?;
        let dated = read.batches.first().and_then(|batch| self.dated(batch, from));
        Ok(dated.and_then(|readings| readings.first().map(|reading| reading.at)))
    }

    /// The readings from `from` on, `most` of them or some more. None at all: there is nothing more.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn read(&mut self, from: Position, most: usize) -> Result<Read, SpoolError> {
        match self.log.perform(Job::Read { output: 0, from, most }) {
            Done::Read { result, .. } => result,
            _ => Ok(Read::default()),
        }
    }

    /// The readings of `batch` from `from` on, each with its date; `None` when they have none yet, or are damaged.
    #[must_use]
    pub fn dated(&self, batch: &Batch, from: Position) -> Option<Vec<Reading>> {
        let hold = match batch.undated {
            None => None,
            Some(hold) => Some(self.log.holds.get(hold)?),
        };
        let readings = batch.readings().ok()?;
        let passed = usize::try_from(from.since(batch.first)).unwrap_or(usize::MAX);
        let dated = |reading: Reading| {
            let at = hold.map_or(Some(reading.at), |hold| hold.date(reading.at))?;
            Some(Reading { at, ..reading })
        };
        readings.into_iter().skip(passed).map(dated).collect()
    }

    /// What is in quarantine, and where.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn quarantine(&mut self) -> Result<(Files, PathBuf), SpoolError> {
        let mut names = Vec::new();
        self.log.disk.list(quarantine::DIRECTORY, &mut |name| names.push(name.to_owned()))?;
        let mut files = Files::default();
        for name in names {
            files.add(self.log.disk.stat(&format!("{}/{name}", quarantine::DIRECTORY))?);
        }
        Ok((files, shown(&*self.log.disk, quarantine::DIRECTORY)))
    }

    /// The batches of the old caches that wait, oldest first.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn old_batches(&mut self) -> Result<Vec<Name>, SpoolError> {
        let mut names = Vec::new();
        let agent_id = &self.agent_id;
        self.log.disk.list("", &mut |name| names.extend(Name::parse(name.as_bytes(), agent_id)))?;
        names.sort_unstable();
        Ok(names)
    }

    /// How many bytes those are.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn old_bytes(&mut self) -> Result<Files, SpoolError> {
        let mut files = Files::default();
        for name in self.old_batches()? {
            files.add(self.log.disk.stat(&name.file_name(&self.agent_id))?);
        }
        Ok(files)
    }

    /// The body of a batch of the old caches, byte for byte; `None` when it is gone, or its checksum is not that of its name.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn old_body(&mut self, name: Name) -> Result<Option<Vec<u8>>, SpoolError> {
        let body = read_whole(&mut *self.log.disk, &name.file_name(&self.agent_id))?;
        Ok(body.filter(|body| name.crc().is_none_or(|crc| crc == crc32c::crc32c(body))))
    }
}

impl Files {
    fn add(&mut self, stat: Stat) {
        if let Stat::File(bytes) = stat {
            (self.files, self.bytes) = (self.files + 1, self.bytes.saturating_add(bytes));
        }
    }
}

/// The directory of an agent on a disk that takes nothing.
#[derive(Debug)]
struct ReadOnly {
    root: Directory,
    began: Instant,
    /// The file that was read last.
    open: Option<(String, OwnedFd)>,
}

impl ReadOnly {
    /// The directory at `path`, which is one name at most: nothing is deeper than that and read here.
    fn at(&self, path: &str) -> Result<Option<Directory>, SpoolError> {
        let mut found = Directory::open_existing(self.root.path().to_owned())?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Some(parent) = found else { return Ok(None) };
            found = parent.existing(name)?;
        }
        Ok(found)
    }

    fn refused<T>(&self, action: &'static str, path: &str) -> Result<T, SpoolError> {
        Err(failed(action, &self.root.path().join(path))(Errno::ROFS))
    }
}

impl Disk for ReadOnly {
    fn root(&self) -> &Path {
        self.root.path()
    }

    fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    fn list(&mut self, directory: &str, visit: &mut dyn FnMut(&str)) -> Result<(), SpoolError> {
        let Some(directory) = self.at(directory)? else { return Ok(()) };
        directory.list(|name| {
            if let Some(name) = name.to_str().ok().filter(|name| !matches!(*name, "." | "..")) {
                visit(name);
            }
            Ok(())
        })
    }

    fn stat(&mut self, path: &str) -> Result<Stat, SpoolError> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.at(directory)?.map_or(Ok(Stat::Missing), |directory| directory.stat(name))
    }

    fn read_at(&mut self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, SpoolError> {
        let shown = self.root.path().join(path);
        if self.open.as_ref().is_none_or(|(open, _)| open != path) {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            let directory = self.at(directory)?.ok_or_else(|| failed("open", &shown)(Errno::NOENT))?;
            self.open = Some((path.to_owned(), directory.open_file(name, OFlags::RDONLY)?));
        }
        let Some((_, file)) = &self.open else { return Ok(0) };
        let mut read = 0;
        while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match rustix::io::pread(file, rest, offset.saturating_add(read as u64)) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("read", &shown)(errno)),
            }
        }
        Ok(read)
    }

    // Not known, so nothing is ever removed for its sake.
    fn space(&mut self) -> Option<Space> {
        None
    }

    fn create(&mut self, path: &str) -> Result<(), SpoolError> {
        self.refused("make", path)
    }

    fn write_at(&mut self, path: &str, _: u64, _: &[u8]) -> Result<(), SpoolError> {
        self.refused("write", path)
    }

    fn truncate(&mut self, path: &str, _: u64) -> Result<(), SpoolError> {
        self.refused("cut", path)
    }

    fn sync(&mut self, path: &str) -> Result<(), SpoolError> {
        self.refused("fsync", path)
    }

    fn sync_directory(&mut self, directory: &str) -> Result<(), SpoolError> {
        self.refused("fsync", directory)
    }

    fn replace(&mut self, path: &str, _: &[u8]) -> Result<(), SpoolError> {
        self.refused("write", path)
    }

    fn remove(&mut self, path: &str) -> Result<(), SpoolError> {
        self.refused("remove", path)
    }

    fn rename(&mut self, from: &str, _: &str) -> Result<bool, SpoolError> {
        self.refused("move", from)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::reading::points::PointTable;
    use crate::reading::{PointId, Value};
    use crate::spool::RealDisk;
    use crate::spool::batch::{Encoder, HoldoverId};
    use crate::spool::job::{Cursor, GapReason, Holdover, Write};
    use crate::time::timeline::Stamp;

    const ID: &str = "4cdcccc044dedbd932ee13e96766dd477f9f5b460a7a742e154647028461de04";

    fn restamp(_: &[u8], _: Duration, _: Timestamp) -> Result<Vec<u8>, String> {
        Err("nobody asks".to_owned())
    }

    /// Readings with the numbers from `first` on, one for each of `stamps`.
    fn batch(first: u64, stamps: &[u64], undated: Option<HoldoverId>) -> std::sync::Arc<Batch> {
        let mut encoder = Encoder::default();
        for &at in stamps {
            encoder.push(&Reading { point: PointId(0), at: Timestamp::from_millis(at), value: Value::Float(1.5) });
        }
        encoder.finish(Position(first), PointTable::empty(), undated).unwrap().into()
    }

    /// The stamp of a reading that was taken so many seconds after boot, while there was no clock.
    fn after_boot(seconds: u64) -> u64 {
        Stamp::Undated(Duration::from_secs(seconds)).written().as_millis()
    }

    /// A log of five readings with dates, three whose date is known by now, two without one, and a gap before the last.
    #[test]
    fn what_is_surveyed_is_what_was_written_and_nobody_is_kept_out() {
        let cache = tempfile::tempdir().unwrap();
        let life = Life { agent_id: ID, boot_id: "boot", restamp };
        let disk = RealDisk::open(cache.path(), ID).unwrap();
        let (mut log, _) = Log::open(Box::new(disk), Limits::default(), &life).unwrap();
        let dated =
            Holdover { offset: Some(Duration::from_secs(1_000)), ..Holdover::new("boot", Duration::from_secs(1)) };
        let undated = Holdover::new("boot", Duration::from_secs(2));
        let batches = vec![
            batch(0, &[700_000, 700_100], None),
            batch(2, &[5, 6, 7].map(after_boot), Some(dated.id)),
            batch(5, &[8, 9].map(after_boot), Some(undated.id)),
            batch(20, &[2_000_000, 2_000_001, 2_000_002], None),
        ];
        let cursor = Cursor { position: Position(3), stamp: Timestamp::from_millis(9) };
        let write = Write {
            holds: vec![dated, undated],
            batches,
            cursors: vec![("pattoo".to_owned(), cursor)],
            sync: true,
            ..Write::default()
        };
        let Done::Written(written) = log.perform(Job::Write(write)) else { panic!("another answer") };
        written.result.unwrap();

        // The log is still open, and locked.
        let mut reader = Reader::open(&cache.path().join(ID), ID, restamp).unwrap().unwrap();
        assert_eq!((reader.start(), reader.opened().end), (Position(0), Position(23)));
        assert_eq!(reader.opened().cursors, BTreeMap::from([("pattoo".to_owned(), cursor)]));
        let survey = reader.survey(&[Position(0), Position(3), Position(6), Position(22), Position(23)]).unwrap();
        assert_eq!(survey.waiting, [10, 7, 4, 1, 0]);
        let [segment] = &survey.segments[..] else { panic!("{survey:?}") };
        assert_eq!((segment.readings, segment.undated, segment.damaged), (10, 2, false));
        let date = |ms| Some(Timestamp::from_millis(ms));
        assert_eq!((segment.oldest, segment.newest), (date(700_000), date(2_000_002)));
        let cases = [(0, date(700_000)), (3, date(1_006_000)), (6, None), (7, date(2_000_000)), (23, None)];
        for (from, expected) in cases {
            assert_eq!(reader.first_date(Position(from)).unwrap(), expected, "{from}");
        }
        let read = reader.read(Position(6), 10).unwrap();
        assert_eq!(read.batches.iter().map(|batch| batch.first.0).collect::<Vec<_>>(), [5, 20]);
        let gap = &read.gaps[0];
        assert_eq!((gap.from, gap.to, &gap.why), (Position(7), Position(20), &GapReason::Vanished));
        // Nothing can be written through it.
        let Done::Written(written) =
            reader.log.perform(Job::Write(Write { batches: vec![batch(30, &[1], None)], ..Write::default() }))
        else {
            panic!("another answer")
        };
        assert!(written.result.unwrap_err().takes_nothing());
        assert!(Reader::open(&cache.path().join("none"), ID, restamp).unwrap().is_none());
    }
}
