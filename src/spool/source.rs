//! A segment as it is read: a piece of it in memory, frames found in it, whatever is damaged passed.
//!
//! What the disk cannot read (EIO and its kin) is an error at first, so that whoever asked tries again; a place that fails
//! [`PATIENCE`] times in a row is read block by block, and blocks that fail are zeros from then on: a checksum then finds
//! the frames in them damaged. Errors that speak of the process and not of the medium are returned every time.

use std::collections::BTreeMap;

use super::PATIENCE;
use super::SpoolError;
use super::batch::Position;
use super::disk::Disk;
use super::frame::{FRAME_HEADER, FRAME_MAGIC, Header};

/// So much is read at once.
const CHUNK: u64 = 64 << 10;

/// What a disk loses at once.
const BLOCK: usize = 4 << 10;

/// So many places that could not be read are remembered.
const PLACES: usize = 256;

/// Which places the disk failed to read, and how often in a row.
#[derive(Debug, Default)]
pub(super) struct Patience {
    failures: BTreeMap<(String, u64), u8>,
    /// Nobody will try again.
    at_an_end: bool,
}

impl Patience {
    /// For whoever cannot try again.
    pub(super) fn none() -> Self {
        Self { failures: BTreeMap::new(), at_an_end: true }
    }

    /// One more failure; whether it is time to do without.
    pub(super) fn failed(&mut self, path: &str, at: u64) -> bool {
        if self.failures.len() >= PLACES {
            // Counts that begin anew cost attempts, not readings.
            self.failures.clear();
        }
        let failures = self.failures.entry((path.to_owned(), at)).or_default();
        *failures = failures.saturating_add(1);
        self.at_an_end || *failures >= PATIENCE
    }

    /// The place could be read.
    pub(super) fn succeeded(&mut self, path: &str, at: u64) {
        if !self.failures.is_empty() {
            self.failures.remove(&(path.to_owned(), at));
        }
    }
}

/// A segment that is read.
pub(super) struct Source<'a> {
    pub(super) disk: &'a mut dyn Disk,
    patience: &'a mut Patience,
    pub(super) path: String,
    /// Nothing is read from here on.
    limit: u64,
    start: u64,
    buffer: Vec<u8>,
    /// Whether the disk could not read something of it.
    pub(super) unreadable: bool,
}

/// What is at a place in a segment.
pub(super) enum At {
    End,
    Frame(Header),
    Damaged,
}

impl<'a> Source<'a> {
    /// The first `limit` bytes of the segment at `path`.
    pub(super) fn new(disk: &'a mut dyn Disk, patience: &'a mut Patience, path: String, limit: u64) -> Self {
        Self { disk, patience, path, limit, start: 0, buffer: Vec::new(), unreadable: false }
    }

    /// Where it ends; earlier than thought when the file turned out to be shorter.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// `length` bytes from `at` on; `None` when there are not so many.
    pub(super) fn get(&mut self, at: u64, length: usize) -> Result<Option<&[u8]>, SpoolError> {
        let Some(end) = at.checked_add(length as u64).filter(|&end| end <= self.limit) else { return Ok(None) };
        if at < self.start || end > self.start.saturating_add(self.buffer.len() as u64) {
            self.fill(at, length)?;
        }
        let from = usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
        Ok(self.buffer.get(from..from.saturating_add(length)))
    }

    /// What is at `at`.
    pub(super) fn frame(&mut self, at: u64) -> Result<At, SpoolError> {
        if at >= self.limit {
            return Ok(At::End);
        }
        let header = self.get(at, FRAME_HEADER)?.and_then(Header::parse);
        // The file may have turned out to end here.
        if at >= self.limit {
            return Ok(At::End);
        }
        let whole = header.filter(|header| at.saturating_add(header.frame()) <= self.limit);
        Ok(whole.map_or(At::Damaged, At::Frame))
    }

    /// The payload of the frame at `at`; `None` when it is damaged.
    pub(super) fn payload(&mut self, at: u64, header: &Header) -> Result<Option<&[u8]>, SpoolError> {
        let payload = self.get(at.saturating_add(FRAME_HEADER as u64), header.payload as usize)?;
        Ok(payload.filter(|payload| crc32c::crc32c(payload) == header.crc))
    }

    /// Where the next whole frame is, from `at` on, of readings from `from` on.
    pub(super) fn next_whole(&mut self, mut at: u64, from: Position) -> Result<Option<u64>, SpoolError> {
        loop {
            let ahead = self.ahead(at)?;
            if ahead.len() < FRAME_HEADER {
                return Ok(None);
            }
            let Some(found) = ahead.windows(FRAME_MAGIC.len()).position(|bytes| bytes == FRAME_MAGIC) else {
                // The last three bytes may be the beginning of a magic.
                at = at.saturating_add((ahead.len() - FRAME_MAGIC.len()) as u64 + 1);
                continue;
            };
            at = at.saturating_add(found as u64);
            // The four bytes may stand in a payload by chance: both checksums must be right.
            if let At::Frame(header) = self.frame(at)?
                && header.first >= from
                && self.payload(at, &header)?.is_some()
            {
                return Ok(Some(at));
            }
            at = at.saturating_add(1);
        }
    }

    /// What is in memory from `at` on, at least a header if there is one.
    fn ahead(&mut self, at: u64) -> Result<&[u8], SpoolError> {
        if self.get(at, FRAME_HEADER)?.is_none() {
            return Ok(&[]);
        }
        let from = usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
        Ok(self.buffer.get(from..).unwrap_or_default())
    }

    fn fill(&mut self, at: u64, length: usize) -> Result<(), SpoolError> {
        let most = self.limit.saturating_sub(at).min(CHUNK.max(length as u64));
        let most = usize::try_from(most).unwrap_or(length);
        self.start = at;
        self.buffer.clear();
        self.buffer.resize(most, 0);
        let read = match self.disk.read_at(&self.path, at, &mut self.buffer) {
            Err(error) if error.is_of_the_medium() => self.read_in_blocks(at, length),
            read => read,
        };
        // The zeros that it was filled with must not be taken for what is on disk.
        let read = read.inspect_err(|_| self.buffer.clear())?;
        if read < self.buffer.len() {
            self.buffer.truncate(read);
            self.limit = at.saturating_add(read as u64);
        }
        Ok(())
    }

    /// Fills the buffer as far as it can be read, with at least `length` bytes; what is read ahead must not be the reason why
    /// what is wanted cannot be had.
    fn read_in_blocks(&mut self, at: u64, length: usize) -> Result<usize, SpoolError> {
        let mut done = 0;
        while done < self.buffer.len() {
            let place = at.saturating_add(done as u64);
            let block = place / BLOCK as u64;
            // Up to the next boundary of the file.
            let within = usize::try_from(place % BLOCK as u64).unwrap_or_default();
            let until = done.saturating_add(BLOCK.saturating_sub(within)).min(self.buffer.len());
            let Some(piece) = self.buffer.get_mut(done..until) else { break };
            match self.disk.read_at(&self.path, place, piece) {
                Ok(read) if read < piece.len() => return Ok(done.saturating_add(read)),
                Ok(_) => self.patience.succeeded(&self.path, block),
                Err(error) if error.is_of_the_medium() && done >= length => {
                    self.buffer.truncate(done);
                    break;
                }
                Err(error) if error.is_of_the_medium() => {
                    if !self.patience.failed(&self.path, block) {
                        return Err(error);
                    }
                    piece.fill(0);
                    self.unreadable = true;
                }
                Err(error) => return Err(error),
            }
            done = until;
        }
        Ok(done)
    }
}
