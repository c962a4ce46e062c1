//! The log of readings on disk: segments to which batches are appended, and from which outputs read.
//!
//! # Format
//!
//! `<cache_directory>/<agent id>/` holds
//!
//! | path | what |
//! |---|---|
//! | `log/<first position>.segment` | batches in order, see `frame.rs`; named after the first reading, 16 hex digits |
//! | `log/<table id>.points` | what the points of the batches are, see `tables.rs` |
//! | `log/cursors` | how far each output has acknowledged, see `cursors.rs` |
//! | `log/holdovers` | what readings without a date need to get one, see `holdovers.rs` |
//! | `quarantine/` | what is damaged or cannot be delivered, for people to look at |
//! | `<stamp>_<agent id>….json`, `undated/`, `state` | what the Python agent and earlier releases left, see `old.rs` |
//! | `lock` | one process at a time |
//!
//! # Invariants
//!
//! - Positions in a segment only go up, and end where the next one begins or before. What lies in a segment at or behind
//!   the position at which the next one begins does not count: a failed write has left it.
//! - [`Written::end`](super::job::Written::end) says what survives the death of the process, `durable` what survives a power cut. What a frame names
//!   (point table, hold) is durable before the frame is written.
//! - A failed append is cut off again. If the disk refuses even that, the segment is closed and the next batch begins a new one.
//! - After a failed sync everything since the last good one is written once more before the next: the kernel may have
//!   dropped it. (A process that is killed in between takes that knowledge along; only a power cut after it can tell.)
//! - What cannot be read is told as a [`Gap`](super::job::Gap), from position to position, never passed in silence. Damage costs the
//!   frames that it lies in. Errors of the process (no descriptors, no memory, no permission) are no damage.
//! - A segment that every output has acknowledged leaves when the cursors that say so are durable.
//! - Nothing is dropped but by [`Limits`]: whole segments, the oldest first, told. A write that fails evicts nothing.
//! - Opening scans the newest segment only. What its end has lost is cut off: bytes behind the last frame with a whole header
//!   were never durable.
//! - Foreign names and special files are neither read nor touched.
//!
//! Everything here blocks on the disk; it belongs on a thread of its own. All that it knows of the disk is [`Disk`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use super::batch::Position;
use super::cursors::Cursors;
use super::disk::{Disk, Stat, shown};
use super::evict::Free;
use super::frame::{self, Beginning, SEGMENT_HEADER};
use super::holdovers::Holdovers;
use super::job::{Cursor, Done, Holdover, Job, Usage, Write, Written};
use super::limits::Limits;
use super::old::{Old, Restamp};
use super::quarantine;
use super::read::Marks;
use super::segment::{self, Segment};
use super::source::Patience;
use super::tables::{self, Tables};
use super::{Finding, Findings, MOST_TOLD, SpoolError};
use crate::reading::Timestamp;
use crate::time::timeline::HOUR;

/// Where segments, tables, cursors and holds are.
pub(super) const DIRECTORY: &str = "log";
pub(super) const CURSORS: &str = "log/cursors";
pub(super) const HOLDS: &str = "log/holdovers";

/// What ends the name of a file that is being written.
const TEMPORARY: &str = ".tmp";

/// A segment is about so large,
const SEGMENT_BYTES: u64 = 4 << 20;

/// at most this part of what the log may take,
// Limits remove whole segments: so a log at its limit loses about a sixteenth of what it may hold, and not nearly all.
const SEGMENT_SHARE: u64 = 16;

/// and at least this.
const LEAST_SEGMENT_BYTES: u64 = 64 << 10;

/// So many of the newest segments may not be durable when a life ends. One that is full is synced before the next begins, so
/// there are two but for a disk that takes writes and refuses to sync them, or to cut them off.
const UNSYNCED: usize = 16;

/// Whose log it is.
#[derive(Clone, Copy)]
pub struct Life<'a> {
    /// The agent, by which files of the old caches are known.
    pub agent_id: &'a str,
    /// This boot of the machine.
    pub boot_id: &'a str,
    /// Puts dates into a body of the old caches.
    pub restamp: Restamp,
}

/// What was found when the log was opened.
#[derive(Debug, Default)]
pub struct Opened {
    /// The position of the next reading: behind all that are in the log and all that an output has acknowledged.
    pub end: Position,
    /// The greatest date in the log, as far as headers say.
    pub newest: Timestamp,
    /// The greatest stamp in the old caches, as far as names say. Nobody has checked it: it may be decades ahead.
    pub newest_old: Timestamp,
    /// Where the outputs are.
    pub cursors: BTreeMap<String, Cursor>,
    /// The holds that batches may name.
    pub holds: Vec<Holdover>,
    /// What is on disk.
    pub usage: Usage,
    /// What was cut off the newest segment because it was not written to its end.
    pub cut: Option<Cut>,
    /// What is strange or damaged.
    pub findings: Findings,
}

impl Opened {
    /// The stamp that new ones must exceed. One of the old caches that is ahead of the clock at `now` does not bind: it is in error
    /// or the clock is, and every reading from now on would be dated by it.
    #[must_use]
    pub fn last_stamp(&self, now: Timestamp) -> Timestamp {
        if self.newest_old <= now.after(HOUR) { self.newest.max(self.newest_old) } else { self.newest }
    }
}

/// What was cut off a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub path: PathBuf,
    /// How much.
    pub bytes: u64,
}

/// The log of one agent.
pub struct Log {
    pub(super) disk: Box<dyn Disk>,
    pub(super) limits: Limits,
    pub(super) segments: BTreeMap<Position, Segment>,
    /// The newest segment, if it takes more.
    pub(super) open: Option<Position>,
    /// Files that a failed attempt to make a segment has left; nothing is in them.
    pub(super) leftovers: BTreeSet<Position>,
    /// Segments that hold what is not durable yet.
    pub(super) unsynced: BTreeSet<Position>,
    /// A segment was made, and the directory was not synced since.
    pub(super) directory_unsynced: bool,
    /// The position behind the last reading that is written.
    pub(super) end: Position,
    /// The greatest date ever written.
    pub(super) newest: Timestamp,
    pub(super) cursors: Cursors,
    pub(super) holds: Holdovers,
    pub(super) tables: Tables,
    pub(super) old: Old,
    pub(super) marks: BTreeMap<usize, Marks>,
    pub(super) patience: Patience,
    pub(super) table_patience: Patience,
    pub(super) free: Free,
    /// Segments of which something could not be read. They are not deleted when they are done with, but kept in quarantine:
    /// a better disk, or a better day of this one, may read them.
    pub(super) unreadable: BTreeSet<Position>,
    /// The segment whose end could not be read when the log was opened, and up to where its readings were thought to go.
    pub(super) guess: Option<(Position, Position)>,
    /// A segment has gone: tables and holds may be named no more.
    pub(super) untidy: bool,
    pub(super) findings: Findings,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("root", &self.disk.root()).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log on `disk`.
    ///
    /// # Errors
    /// When the disk does not let it be read. That it takes nothing is no reason.
    pub fn open(mut disk: Box<dyn Disk>, limits: Limits, life: &Life<'_>) -> Result<(Self, Opened), SpoolError> {
        let (cursors, bad_cursors) = Cursors::open(&mut *disk)?;
        let (holds, bad_holds) = Holdovers::open(&mut *disk)?;
        let (old, newest_old) = Old::open(&mut *disk, life)?;
        let mut log = Self {
            disk,
            limits,
            segments: BTreeMap::new(),
            open: None,
            leftovers: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            directory_unsynced: false,
            // A cursor may stand behind the last frame: what was delivered from memory while the disk refused is never
            // written. A position that was given twice would count as acknowledged.
            end: cursors.all.values().map(|cursor| cursor.position).max().unwrap_or_default(),
            newest: Timestamp::default(),
            cursors,
            holds,
            tables: Tables::default(),
            old,
            marks: BTreeMap::new(),
            patience: Patience::default(),
            table_patience: Patience::default(),
            free: Free::default(),
            unreadable: BTreeSet::new(),
            guess: None,
            // An earlier life may have removed segments and been killed before it removed what only they named.
            untidy: true,
            findings: Findings::default(),
        };
        for (path, bad) in [(CURSORS, bad_cursors), (HOLDS, bad_holds)] {
            if bad {
                log.keep_damaged(path);
            }
        }
        log.find()?;
        let cut = log.open_newest()?;
        log.sync_found();
        log.old.tell(&mut log.findings, &*log.disk);
        let opened = Opened {
            end: log.end,
            newest: log.newest,
            newest_old,
            cursors: log.cursors.all.clone(),
            holds: log.holds.all(),
            usage: log.usage(),
            cut,
            findings: log.take_findings(),
        };
        Ok((log, opened))
    }

    /// Does `job`. Blocks on the disk.
    pub fn perform(&mut self, job: Job) -> Done {
        match job {
            Job::Write(write) => Done::Written(self.write(&write)),
            Job::Read { output, from, most } => Done::Read { output, result: self.read(output, from, most) },
            Job::SetAside(aside) => {
                let result = quarantine::keep(&mut *self.disk, &aside.file_name, &aside.body);
                Done::SetAside { output: aside.output, result }
            }
            Job::ReadOld { output } => {
                let result = self.old.next(&mut *self.disk, &mut self.patience, &mut self.findings);
                Done::Old { output, result }
            }
            Job::ForgetOld(name) => Done::Forgotten(self.old.forget(&mut *self.disk, &name)),
            Job::Limit(limits) => {
                // Also ends a pause in which nothing leaves for free space: with other limits something may be gained.
                (self.limits, self.free) = (limits, Free::default());
                Done::Limited
            }
        }
    }

    /// How many files wait in quarantine for somebody to look at them, and where; `None` when there are none.
    pub fn in_quarantine(&mut self) -> Option<(usize, PathBuf)> {
        let mut files = 0;
        self.disk.list(quarantine::DIRECTORY, &mut |_| files += 1).ok()?;
        (files > 0).then(|| (files, shown(&*self.disk, quarantine::DIRECTORY)))
    }

    /// What was found strange or damaged since the last call.
    pub fn take_findings(&mut self) -> Findings {
        std::mem::take(&mut self.findings)
    }

    /// Does what belongs to one write; whatever fails, the rest is done all the same.
    fn write(&mut self, write: &Write) -> Written {
        let holds = self.holds.put(&mut *self.disk, &write.holds);
        if write.holds.iter().any(|hold| hold.offset.is_some()) {
            self.date();
        }
        let appended = self.append(&write.batches);
        // Whatever became of the batches: the slots of the cursors have their bytes already, so a full disk takes them
        // too.
        self.cursors.set(&write.cursors, &write.forget);
        let mut results = vec![self.cursors.write(&mut *self.disk)];
        if write.sync {
            results.push(self.sync());
            results.push(self.cursors.sync(&mut *self.disk));
        }
        // Not before the cursors are durable: after a power cut an output would look for what it has delivered.
        if self.cursors.are_durable() {
            results.push(self.release(write.release));
        }
        // A write that fails lets nothing go: it may be that nothing can be gained by it.
        // After `release`, so that room made by what everybody has spares what somebody has not.
        let (mut evicted, old) = (Vec::new(), self.old.batches());
        if holds.is_ok() && appended.is_ok() {
            evicted = self.evict(write.now, write.release);
        }
        let evicted_old = old.saturating_sub(self.old.batches());
        self.tidy();
        let result = [holds, appended].into_iter().chain(results).collect();
        Written { result, end: self.end, durable: self.durable(), evicted, evicted_old, usage: self.usage() }
    }

    /// Readings that had no date have one: it may be the greatest.
    fn date(&mut self) {
        let facts = self.segments.values().filter_map(|segment| segment.facts.as_ref());
        let newest = facts.filter_map(|facts| facts.newest_known(|id| self.holds.get(id))).max();
        self.newest = self.newest.max(newest.unwrap_or_default());
    }

    /// What is on disk now.
    pub(super) fn usage(&mut self) -> Usage {
        self.learn_oldest();
        let oldest = self.segments.first_key_value();
        Usage {
            start: oldest.map_or(self.end, |(&first, _)| first),
            bytes: self.bytes(),
            segments: self.segments.len(),
            old_batches: self.old.batches(),
            oldest: oldest.and_then(|(_, segment)| segment.facts.as_ref()?.newest(|id| self.holds.get(id))),
        }
    }

    /// Bytes of all that the limits count.
    pub(super) fn bytes(&self) -> u64 {
        let segments = self.segments.values().map(|segment| segment.size);
        segments.fold(self.tables.bytes().saturating_add(self.old.bytes()), u64::saturating_add)
    }

    /// At which size a segment is full.
    pub(super) fn segment_bytes(&self) -> u64 {
        let share = self.limits.max_bytes.map_or(SEGMENT_BYTES, |max| max / SEGMENT_SHARE);
        share.clamp(LEAST_SEGMENT_BYTES, SEGMENT_BYTES)
    }

    pub(super) fn tell(&mut self, path: PathBuf, why: &str, moved: bool) {
        tell(&mut self.findings, path, why, moved);
    }

    /// Moves a small file that cannot be understood out of the way.
    fn keep_damaged(&mut self, path: &str) {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        // Moved, because the next write makes a file of this name anew, and people may want to look at this one.
        let to = format!("{}/{name}-{:016x}", quarantine::DIRECTORY, self.end.0);
        let moved = self.disk.rename(path, &to).is_ok_and(|moved| moved);
        let path = shown(&*self.disk, if moved { &to } else { path });
        self.tell(path, "its checksum is wrong", moved);
    }
}

/// The way from a directory to a log.
impl Log {
    /// Reads the names, and the header of each segment.
    fn find(&mut self) -> Result<(), SpoolError> {
        let (mut firsts, mut found, mut unfinished, mut foreign) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        self.disk.list(DIRECTORY, &mut |name| {
            if let Some(first) = segment::first_of(name) {
                firsts.push(first);
            } else if let Some(id) = tables::id_of(name) {
                found.push((id, format!("{DIRECTORY}/{name}")));
            } else if is_unfinished(name) {
                unfinished.push(format!("{DIRECTORY}/{name}"));
            } else if !is_small(name) {
                foreign.push(format!("{DIRECTORY}/{name}"));
            }
        })?;
        // It may stay where the disk refuses: the next attempt to write that file replaces it.
        for path in unfinished {
            self.disk.remove(&path).ok();
        }
        for path in foreign {
            self.tell(shown(&*self.disk, &path), "it is no file of the log", false);
        }
        for (id, path) in found {
            if let Stat::File(bytes) = self.disk.stat(&path)? {
                self.tables.found(id, bytes);
            }
        }
        for first in firsts {
            self.find_segment(first)?;
        }
        Ok(())
    }

    fn find_segment(&mut self, first: Position) -> Result<(), SpoolError> {
        let path = segment::path(first);
        let Stat::File(size) = self.disk.stat(&path)? else {
            self.tell(shown(&*self.disk, &path), "it is no regular file", false);
            return Ok(());
        };
        match segment::look(&mut *self.disk, first) {
            Ok((Beginning::Ours(newest), _)) => self.newest = self.newest.max(newest),
            // Not in `segments`, so nothing here reads, appends to or evicts it: a newer release may have written it.
            Ok((Beginning::Foreign, _)) => {
                self.tell(shown(&*self.disk, &path), "it is of another version, or not what its name says", false);
                return Ok(());
            }
            Err(SpoolError::NotAFile { .. }) => return Ok(()),
            // Its frames may be whole, and what cannot be read now may be readable when an output wants it.
            Ok((Beginning::Damaged, _)) | Err(_) => {}
        }
        self.segments.insert(first, Segment::found(first, size));
        Ok(())
    }

    /// Scans the newest segment, cuts its torn end, and makes it the one that takes more.
    fn open_newest(&mut self) -> Result<Option<Cut>, SpoolError> {
        let mut cut = None;
        while let Some((&first, segment)) = self.segments.last_key_value() {
            let (path, size) = (segment::path(first), segment.size);
            let (beginning, header) = segment::look(&mut *self.disk, first)?;
            // A start does not wait for a better day of the disk: blocks that cannot be read are zeros at once.
            let scan = segment::scan(&mut *self.disk, &mut Patience::none(), first, size)?;
            if scan.frames == 0 && !matches!(beginning, Beginning::Ours(_)) && !scan.unreadable {
                // It was made, and nothing was written into it; or it was never ours.
                self.segments.remove(&first);
                cut = self.drop_empty(&path, &header, size).or(cut);
                // The one before is the newest then, and may have a torn end of its own.
                continue;
            }
            self.newest = self.newest.max(scan.facts.newest_known(|id| self.holds.get(id)).unwrap_or_default());
            if scan.unreadable {
                self.unreadable.insert(first);
            }
            let (mut end, torn) = (scan.end, size.saturating_sub(scan.length));
            // Stays false if the disk refuses the cut: then the next batch begins a segment, before whose first
            // position nothing of the torn end can count.
            let mut takes_more = torn == 0 && size >= SEGMENT_HEADER;
            if torn > 0 && scan.unreadable {
                // Nobody knows how many readings are in what cannot be read; each takes two bytes at least.
                end = end.after(torn / 2);
                self.guess = Some((first, end));
            } else if torn > 0 && self.disk.truncate(&path, scan.length).is_ok() {
                cut = Some(Cut { path: shown(&*self.disk, &path), bytes: torn });
                takes_more = true;
            }
            if let Some(segment) = self.segments.get_mut(&first) {
                segment.facts = Some(scan.facts);
                segment.end = scan.end;
                // What could not be read may be readable later.
                segment.length = if scan.unreadable { size } else { scan.length };
                segment.size = if takes_more { scan.length } else { size };
            }
            self.open = takes_more.then_some(first);
            self.end = self.end.max(end);
            break;
        }
        // Only the newest was scanned, so that a start does not read all of a backlog. Of the others it is known where
        // they end at the latest.
        let mut next = self.end;
        for (&first, segment) in self.segments.iter_mut().rev() {
            segment.end = if segment.facts.is_some() { segment.end } else { next };
            next = first;
        }
        Ok(cut)
    }

    fn drop_empty(&mut self, path: &str, header: &[u8], size: u64) -> Option<Cut> {
        let shown = shown(&*self.disk, path);
        if !frame::may_be_ours(header) {
            self.tell(shown, "it is no segment of the log", false);
            return None;
        }
        let dropped = if size <= SEGMENT_HEADER {
            self.disk.remove(path).is_ok()
        } else {
            let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
            self.disk.rename(path, &format!("{}/{name}", quarantine::DIRECTORY)).is_ok()
        };
        if !dropped && let Some(first) = path.rsplit_once('/').and_then(|(_, name)| segment::first_of(name)) {
            // The next segment may need this name: `make` removes the file first if it is known to hold nothing.
            self.leftovers.insert(first);
        }
        Some(Cut { path: shown, bytes: size })
    }

    /// What a life that was killed has written last may be nowhere but in memory yet.
    fn sync_found(&mut self) {
        let newest: Vec<_> = self.segments.keys().rev().take(UNSYNCED).copied().collect();
        // The directory as well: a power cut would take a segment whose name is not durable, whatever was synced of its
        // bytes.
        self.directory_unsynced = !newest.is_empty();
        self.unsynced.extend(newest);
        // A disk that is full is another matter: what it could not sync is not durable.
        if self.sync().is_err_and(|error| error.is_read_only()) {
            // Nothing that is mounted for reading only waits to be written.
            self.unsynced.clear();
        }
    }
}

/// Whether a crash has left it of a file that was being written.
fn is_unfinished(name: &str) -> bool {
    let whole = name.strip_suffix(TEMPORARY);
    whole.is_some_and(|name| is_small(name) || tables::id_of(name).is_some())
}

/// Whether it is the name of the cursors or of the holdovers.
fn is_small(name: &str) -> bool {
    [CURSORS, HOLDS].iter().any(|path| path.rsplit_once('/').is_some_and(|(_, of_path)| of_path == name))
}

pub(super) fn tell(findings: &mut Findings, path: PathBuf, why: &str, moved: bool) {
    if findings.told.len() < MOST_TOLD {
        findings.told.push(Finding { path, why: why.to_owned(), moved });
    } else {
        findings.untold = findings.untold.saturating_add(1);
    }
}
