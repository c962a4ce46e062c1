//! Where the outputs are, on disk: the file `log/cursors`.
//!
//! The file has two halves of [`HALF`] bytes, made once with all their bytes, so a full disk takes every later write. A half
//! holds the cursors of all outputs under a sequence number and a CRC-32C; the one with the greater number counts. What is
//! written goes into the half that does not hold what was synced last: whatever tears a write, or however many of them since
//! the last sync, what was synced last is still there.
//!
//! A half: CRC-32C of all behind it (4 bytes), bytes behind this field (4), sequence number (8), then for each
//! output position (8), stamp (8), length of the name (2), name.
//!
//! Damaged in both halves it knows no output. A cursor that goes back costs a second delivery, which servers ignore.

use std::collections::BTreeMap;

use super::SpoolError;
use super::batch::Position;
use super::disk::{Disk, Stat, read_whole, shown};
use super::job::Cursor;
use super::log::CURSORS;
use crate::reading::Timestamp;

/// Bytes for each of the two.
pub(super) const HALF: usize = 16 << 10;

/// What is known of the cursors, in memory and on disk.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    pub(super) all: BTreeMap<String, Cursor>,
    sequence: u64,
    /// Where the next write goes: 0 or 1.
    half: u64,
    /// Whether the file has its size.
    made: bool,
    /// Whether what is in memory is on disk.
    written: bool,
    /// Whether what was written is durable.
    pub(super) synced: bool,
}

impl Cursors {
    /// Reads them; the second result says that there are some which cannot be read.
    pub(super) fn open(disk: &mut dyn Disk) -> Result<(Self, bool), SpoolError> {
        let new = Self { written: true, synced: true, ..Self::default() };
        let Some(content) = read_whole(disk, CURSORS)? else { return Ok((new, false)) };
        let halves = [0, HALF].map(|at| content.get(at..).and_then(parse));
        let newest = halves.into_iter().zip([0_u64, 1]).filter_map(|(half, place)| Some((half?, place)));
        let made = content.len() == 2 * HALF;
        let Some(((sequence, all), place)) = newest.max_by_key(|((sequence, _), _)| *sequence) else {
            // A file of zeros is one that was made and never written.
            return Ok((Self { made, ..new }, content.iter().any(|&byte| byte != 0)));
        };
        let mut this = Self { all, sequence, half: place, made, written: true, synced: false };
        // What a process that was killed has written last is nowhere but in memory yet.
        this.sync(disk).ok();
        Ok((this, false))
    }

    /// Puts them where `cursors` say, without those to `forget`.
    pub(super) fn set(&mut self, cursors: &[(String, Cursor)], forget: &[String]) {
        for (name, cursor) in cursors {
            if self.all.get(name) != Some(cursor) {
                self.all.insert(name.clone(), *cursor);
                self.written = false;
            }
        }
        for name in forget {
            self.written &= self.all.remove(name).is_none();
        }
    }

    /// Writes them, if they have changed since.
    pub(super) fn write(&mut self, disk: &mut dyn Disk) -> Result<(), SpoolError> {
        if self.written {
            return Ok(());
        }
        self.make(disk)?;
        let sequence = self.sequence.saturating_add(1);
        let bytes = encode(sequence, &self.all);
        if bytes.len() > HALF {
            return Err(SpoolError::TooLarge { path: shown(disk, CURSORS), bytes: bytes.len() as u64 });
        }
        self.synced = false;
        self.sequence = sequence;
        disk.write_at(CURSORS, self.half * HALF as u64, &bytes).inspect_err(|error| {
            // Somebody has deleted it.
            self.made &= !error.is_gone();
        })?;
        self.written = true;
        Ok(())
    }

    /// Makes what was written durable.
    pub(super) fn sync(&mut self, disk: &mut dyn Disk) -> Result<(), SpoolError> {
        // A half that a failed write has torn must not become the one that counts.
        if self.synced || !self.made || !self.written {
            return Ok(());
        }
        // After an error nobody knows what of it is on disk: the same half is written again.
        disk.sync(CURSORS).inspect_err(|_| self.written = false)?;
        self.synced = true;
        self.half = 1 - self.half;
        Ok(())
    }

    fn make(&mut self, disk: &mut dyn Disk) -> Result<(), SpoolError> {
        if self.made {
            return Ok(());
        }
        if disk.stat(CURSORS)? == Stat::Missing {
            disk.replace(CURSORS, &[0; 2 * HALF])?;
        } else {
            // One that was cut, by whomever: what it holds stays.
            let mut content = read_whole(disk, CURSORS)?.unwrap_or_default();
            content.resize(2 * HALF, 0);
            disk.replace(CURSORS, &content)?;
        }
        self.made = true;
        Ok(())
    }
}

fn encode(sequence: u64, all: &BTreeMap<String, Cursor>) -> Vec<u8> {
    let mut content = sequence.to_le_bytes().to_vec();
    for (name, cursor) in all {
        let name = name.as_bytes();
        content.extend_from_slice(&cursor.position.0.to_le_bytes());
        content.extend_from_slice(&cursor.stamp.as_millis().to_le_bytes());
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        content.extend_from_slice(&length.to_le_bytes());
        content.extend_from_slice(name.get(..usize::from(length)).unwrap_or(name));
    }
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&length), &content).to_le_bytes();
    [&crc, &length, content.as_slice()].concat()
}

fn parse(half: &[u8]) -> Option<(u64, BTreeMap<String, Cursor>)> {
    let (&crc, rest) = half.split_first_chunk::<4>()?;
    let (&length, rest) = rest.split_first_chunk::<4>()?;
    let content = rest.get(..usize::try_from(u32::from_le_bytes(length)).ok()?)?;
    if u32::from_le_bytes(crc) != crc32c::crc32c_append(crc32c::crc32c(&length), content) {
        return None;
    }
    let (&sequence, mut rest) = content.split_first_chunk::<8>()?;
    let mut all = BTreeMap::new();
    while !rest.is_empty() {
        let (&position, behind) = rest.split_first_chunk::<8>()?;
        let (&stamp, behind) = behind.split_first_chunk::<8>()?;
        let (&length, behind) = behind.split_first_chunk()?;
        let (name, behind) = behind.split_at_checked(usize::from(u16::from_le_bytes(length)))?;
        let [position, stamp] = [position, stamp].map(u64::from_le_bytes);
        let cursor = Cursor { position: Position(position), stamp: Timestamp::from_millis(stamp) };
        all.insert(String::from_utf8_lossy(name).into_owned(), cursor);
        rest = behind;
    }
    Some((u64::from_le_bytes(sequence), all))
}
