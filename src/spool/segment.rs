//! The segments of the log, as they are known in memory: some hundred bytes for each.
//!
//! What a segment holds (which tables, which holds, up to which stamps) is known of those written in this life and of the
//! newest of an earlier one, which is scanned when the log is opened. Of others it is found out when it matters, which
//! is when they have become the oldest.

use std::collections::{BTreeMap, BTreeSet};

use super::SpoolError;
use super::batch::{HoldoverId, Position};
use super::disk::Disk;
use super::frame::{Beginning, Header, SEGMENT_HEADER, beginning};
use super::job::Holdover;
use super::log::DIRECTORY;
use super::source::{At, Patience, Source};
use super::tables::hex16;
use crate::reading::Timestamp;
use crate::reading::points::TableId;

/// How the name of a segment ends.
const EXTENSION: &str = ".segment";

/// What a segment holds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) tables: BTreeSet<TableId>,
    /// The greatest date.
    pub(super) dated: Option<Timestamp>,
    /// The greatest boot time of each hold.
    pub(super) undated: BTreeMap<HoldoverId, Timestamp>,
}

impl Facts {
    pub(super) fn add(&mut self, header: &Header) {
        self.tables.insert(header.table);
        let newest = match header.undated {
            None => self.dated.get_or_insert(header.newest),
            Some(hold) => self.undated.entry(hold).or_insert(header.newest),
        };
        *newest = header.newest.max(*newest);
    }

    /// The greatest date in it that is known, whatever else is in it.
    pub(super) fn newest_known<'h>(&self, hold: impl Fn(HoldoverId) -> Option<&'h Holdover>) -> Option<Timestamp> {
        let later = self.undated.iter().filter_map(|(&id, &boot)| hold(id)?.date(boot));
        self.dated.max(later.max())
    }

    /// The greatest date in it; `None` when it holds readings without one, or none at all.
    pub(super) fn newest<'h>(&self, hold: impl Fn(HoldoverId) -> Option<&'h Holdover>) -> Option<Timestamp> {
        let mut newest = self.dated;
        for (&id, &boot) in &self.undated {
            // One that has no date yet makes the age of the whole segment unknown, which leaves whole or not at all.
            newest = newest.max(Some(hold(id)?.date(boot)?));
        }
        newest
    }
}

/// One segment.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Bytes up to the end of the last whole frame; nothing is read behind.
    pub(super) length: u64,
    /// Bytes of the file.
    pub(super) size: u64,
    /// The position behind its last reading; for one that an earlier life left, where the next one begins.
    pub(super) end: Position,
    /// What it holds, if it is known.
    pub(super) facts: Option<Facts>,
    /// Up to here it is durable, in bytes,
    pub(super) synced: u64,
    /// and in readings.
    pub(super) durable: Position,
    /// A sync has failed: what was written since the last one must be written again.
    pub(super) rewrite: bool,
}

impl Segment {
    /// A segment that is about to be made.
    pub(super) fn new(first: Position) -> Self {
        let facts = Some(Facts::default());
        Self { length: 0, size: 0, end: first, facts, synced: 0, durable: first, rewrite: false }
    }

    /// A segment that an earlier life left.
    pub(super) fn found(first: Position, size: u64) -> Self {
        // Nothing of it counts as durable: the life that wrote it may have been killed before it synced.
        Self { length: size, size, end: first, facts: None, synced: 0, durable: first, rewrite: false }
    }
}

/// The path of the segment that begins with `first`.
pub(super) fn path(first: Position) -> String {
    format!("{DIRECTORY}/{:016x}{EXTENSION}", first.0)
}

/// The position in the name of a segment.
pub(super) fn first_of(name: &str) -> Option<Position> {
    hex16(name.strip_suffix(EXTENSION)?).map(Position)
}

/// What a segment begins with. Blocks that cannot be read count as damaged.
pub(super) fn look(disk: &mut dyn Disk, first: Position) -> Result<(Beginning, Vec<u8>), SpoolError> {
    let mut bytes = vec![0; 32];
    match disk.read_at(&path(first), 0, &mut bytes) {
        Ok(read) => bytes.truncate(read),
        Err(error) if error.is_of_the_medium() => return Ok((Beginning::Damaged, Vec::new())),
        Err(error) => return Err(error),
    }
    Ok((beginning(&bytes, first), bytes))
}

/// What a scan has found.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) facts: Facts,
    /// How many frames have a whole header.
    pub(super) frames: u64,
    /// The position behind the last frame.
    pub(super) end: Position,
    /// Bytes up to the end of the last frame.
    pub(super) length: u64,
    /// Whether the disk could not read something.
    pub(super) unreadable: bool,
}

/// Reads the headers of all frames of a segment of `size` bytes.
pub(super) fn scan(
    disk: &mut dyn Disk,
    patience: &mut Patience,
    first: Position,
    size: u64,
) -> Result<Scan, SpoolError> {
    let mut source = Source::new(disk, patience, path(first), size);
    let mut scan =
        Scan { facts: Facts::default(), frames: 0, end: first, length: SEGMENT_HEADER.min(size), unreadable: false };
    let mut at = SEGMENT_HEADER;
    loop {
        match source.frame(at)? {
            At::End => break,
            // A frame of readings that were there before is what was on the disk before this file.
            At::Frame(header) if header.first >= scan.end => {
                scan.facts.add(&header);
                at = at.saturating_add(header.frame());
                (scan.frames, scan.end, scan.length) = (scan.frames.saturating_add(1), header.end(), at);
            }
            At::Frame(_) | At::Damaged => match source.next_whole(at.saturating_add(1), scan.end)? {
                Some(next) => at = next,
                None => break,
            },
        }
    }
    scan.unreadable = source.unreadable;
    Ok(scan)
}
