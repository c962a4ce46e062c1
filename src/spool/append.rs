//! The way of a batch to disk: appended, then made durable.

use std::sync::Arc;

use super::SpoolError;
use super::batch::{Batch, Position};
use super::disk::{Stat, shown};
use super::frame::{self, Header};
use super::log::{DIRECTORY, Log};
use super::segment::{self, Segment};

/// What is written once more after a failed sync is read in pieces of so many bytes.
const PIECE: usize = 1 << 20;

/// No segment grows beyond this, whatever the disk refuses.
const MOST_SEGMENT_BYTES: u64 = 16 << 20;

impl Log {
    /// Appends `batches`, in one write for each segment. Those before [`Log::end`] are written, whatever the result.
    pub(super) fn append(&mut self, batches: &[Arc<Batch>]) -> Result<(), SpoolError> {
        let mut rest = batches;
        let mut begun_anew = false;
        while !rest.is_empty() {
            match self.append_some(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                // Once only: a directory that goes again and again must not hold this thread.
                Err(error) if error.is_gone() && !begun_anew => {
                    // Somebody has deleted the files: what was in them is lost, what comes need not be.
                    begun_anew = true;
                    self.open = None;
                    // What frames name was in the same directory: it is written again before the first new frame.
                    self.tables.forget_disk();
                    self.holds.forget_disk();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Appends the first of `batches`, as many as the segment takes; returns how many.
    fn append_some(&mut self, batches: &[Arc<Batch>]) -> Result<usize, SpoolError> {
        let Some(first) = batches.first().map(|batch| batch.first) else { return Ok(0) };
        let full = |segment: &Segment| segment.length >= self.segment_bytes();
        if self.open.and_then(|open| self.segments.get(&open)).is_some_and(full) {
            self.close();
        }
        let place = self.open.unwrap_or(first);
        // A copy is changed: if the disk refuses, the log knows what it knew before.
        let mut grown = match self.open.and_then(|open| self.segments.get(&open)) {
            Some(segment) => segment.clone(),
            None => Segment::new(first),
        };
        let (begins, offset) = (self.open.is_none(), grown.length);
        // The header says the greatest date before it, so that a start learns it without a scan of every segment.
        let mut bytes = if begins { frame::segment_header(first, self.newest) } else { Vec::new() };
        let (mut taken, mut end, mut newest, mut refused) = (0, self.end, self.newest, None);
        for batch in batches {
            // One that could not be closed takes all.
            let fits =
                offset >= self.segment_bytes() || offset.saturating_add(bytes.len() as u64) < self.segment_bytes();
            if taken > 0 && !fits {
                break;
            }
            match self.frame(batch, end) {
                Ok(header) => {
                    bytes.extend_from_slice(&header.to_bytes());
                    bytes.extend_from_slice(&batch.payload);
                    if let Some(facts) = &mut grown.facts {
                        facts.add(&header);
                    }
                    end = header.end();
                    let date = match header.undated {
                        None => Some(header.newest),
                        Some(hold) => self.holds.get(hold).and_then(|hold| hold.date(header.newest)),
                    };
                    newest = newest.max(date.unwrap_or_default());
                    taken += 1;
                }
                Err(error) => {
                    // Those before it are written first: what this one names holds up nothing that was there earlier.
                    refused = Some(error);
                    break;
                }
            }
        }
        if let (0, Some(error)) = (taken, refused) {
            return Err(error);
        }
        let put = self.put(place, begins, offset, &bytes);
        if put.is_err()
            && self.open != Some(place)
            && let Some(segment) = self.segments.get_mut(&place)
        {
            // What could not be cut off counts for a later life, with the tables and holds that it names.
            segment.facts = grown.facts.take();
        }
        put?;
        grown.length = offset.saturating_add(bytes.len() as u64);
        (grown.size, grown.end) = (grown.length, end);
        self.segments.insert(place, grown);
        self.unsynced.insert(place);
        self.directory_unsynced |= begins;
        (self.open, self.end, self.newest) = (Some(place), end, newest);
        Ok(taken)
    }

    /// The header of `batch`, whose table and hold are on disk then.
    fn frame(&mut self, batch: &Batch, end: Position) -> Result<Header, SpoolError> {
        // A gap is no fault (readings were lost in memory), a step back is: a position names one reading for ever.
        if batch.first < end || batch.count == 0 {
            return Err(SpoolError::OutOfOrder { first: batch.first, end });
        }
        let Some(header) = Header::of(batch) else {
            let bytes = batch.payload.len() as u64;
            return Err(SpoolError::TooLarge { path: shown(&*self.disk, DIRECTORY), bytes });
        };
        // Before the frame: a power cut must never leave one whose hold or table is not there.
        if let Some(hold) = batch.undated {
            self.holds.name(&mut *self.disk, hold)?;
        }
        self.tables.name(&mut *self.disk, &batch.table)?;
        Ok(header)
    }

    /// Writes `bytes` at `offset` of the segment `place`, or nothing.
    fn put(&mut self, place: Position, begins: bool, offset: u64, bytes: &[u8]) -> Result<(), SpoolError> {
        let path = segment::path(place);
        if begins {
            self.make(place, &path)?;
        }
        let Err(error) = self.disk.write_at(&path, offset, bytes) else { return Ok(()) };
        if begins {
            // The next attempt makes a file of the same name, and `create` takes no name that is in use.
            if self.disk.remove(&path).is_err() {
                self.leftovers.insert(place);
            }
        } else if self.disk.truncate(&path, offset).is_err() {
            // What is behind its last frame does not count, because the next segment begins before it.
            self.open = None;
            // The limits count what is on disk, whether it is of use or not.
            if let (Ok(Stat::File(size)), Some(segment)) = (self.disk.stat(&path), self.segments.get_mut(&place)) {
                segment.size = size;
            }
        }
        Err(error)
    }

    fn make(&mut self, place: Position, path: &str) -> Result<(), SpoolError> {
        let Err(error) = self.disk.create(path) else { return Ok(()) };
        // One of ours without a frame, which could not be cut or removed before.
        let empty = self.segments.get(&place).is_some_and(|segment| segment.end == place);
        // Anything else under this name holds readings or is somebody else's, and is not removed.
        if !empty && !self.leftovers.contains(&place) {
            return Err(error);
        }
        self.disk.remove(path)?;
        self.leftovers.remove(&place);
        self.disk.create(path)
    }

    /// The newest segment is full. It is made durable first, so that a later life knows which may not be; while the disk refuses
    /// that, it goes on growing.
    fn close(&mut self) {
        let too_large = self.open.and_then(|open| self.segments.get(&open));
        let too_large = too_large.is_some_and(|segment| segment.length >= MOST_SEGMENT_BYTES);
        if self.sync().is_ok() || too_large {
            self.open = None;
        }
    }

    /// Makes durable what is written.
    pub(super) fn sync(&mut self) -> Result<(), SpoolError> {
        let mut result = Ok(());
        if self.directory_unsynced {
            result = self.disk.sync_directory(DIRECTORY);
            self.directory_unsynced = result.is_err();
        }
        // All of them, though one fails: a segment that the disk refuses must not keep the others from being durable.
        for first in self.unsynced.clone() {
            let synced = self.sync_segment(first);
            result = result.and(synced);
        }
        result
    }

    fn sync_segment(&mut self, first: Position) -> Result<(), SpoolError> {
        let Some(segment) = self.segments.get_mut(&first) else {
            self.unsynced.remove(&first);
            return Ok(());
        };
        let path = segment::path(first);
        let (from, to) = (segment.synced, segment.length);
        // After a failed fsync Linux counts the pages as clean: the next one says Ok for what never reached the disk.
        // To write the same bytes makes the pages dirty again.
        let rewritten = if segment.rewrite { rewrite(&mut *self.disk, &path, from, to) } else { Ok(()) };
        match rewritten.and_then(|()| self.disk.sync(&path)) {
            // Not for a file that somebody has removed: to read it back for the rewrite would fail at each sync from
            // then on, and nothing would ever be durable again.
            Err(error) if !error.is_gone() => {
                segment.rewrite = true;
                Err(error)
            }
            result => {
                segment.rewrite = false;
                // Else the bytes are on disk in a file whose name a power cut may take: they do not count before the
                // directory is synced.
                if !self.directory_unsynced {
                    (segment.synced, segment.durable) = (segment.length, segment.end);
                    self.unsynced.remove(&first);
                }
                // One that somebody has deleted is an error once.
                result
            }
        }
    }

    /// Up to here everything is durable.
    pub(super) fn durable(&self) -> Position {
        let pending = self.unsynced.iter().filter_map(|first| self.segments.get(first));
        // The least: behind it something may be lost though a later segment was synced.
        pending.map(|segment| segment.durable).min().unwrap_or(self.end)
    }
}

/// Writes once more what is in the page cache and perhaps not on disk.
fn rewrite(disk: &mut dyn super::disk::Disk, path: &str, mut from: u64, to: u64) -> Result<(), SpoolError> {
    let mut piece = Vec::new();
    while from < to {
        let length = usize::try_from(to.saturating_sub(from)).map_or(PIECE, |length| length.min(PIECE));
        piece.resize(length, 0);
        let read = disk.read_at(path, from, &mut piece)?;
        let Some(piece) = piece.get(..read).filter(|piece| !piece.is_empty()) else { break };
        disk.write_at(path, from, piece)?;
        from = from.saturating_add(read as u64);
    }
    Ok(())
}
