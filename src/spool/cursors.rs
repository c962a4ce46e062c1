//! Where the outputs are, on disk: the file `log/cursors`.
//!
//! The file has three slots of [`SLOT`] bytes, made once with all their bytes, so a full disk takes every later write. A slot
//! holds the cursors of all outputs under a sequence number and a CRC-32C; the one with the greatest number counts. A write
//! goes into the slot that holds neither what was synced last nor what was written last: a torn write loses itself and
//! nothing older, and a power cut what was written since the last sync. When it is not known which slot was synced last, the
//! file is made anew as a whole, which takes 48 KiB of a disk for a moment.
//!
//! A slot: CRC-32C of all behind it (4 bytes), bytes behind this field (4), sequence number (8), then for each
//! output position (8), stamp (8), length of the name (2), name.
//!
//! Damaged in every slot it knows no output. A cursor that goes back costs a second delivery, which servers ignore.

use std::collections::BTreeMap;

use super::SpoolError;
use super::batch::Position;
use super::disk::{Disk, read_whole, shown};
use super::job::Cursor;
use super::log::CURSORS;
use crate::reading::Timestamp;

/// Bytes for the cursors of all outputs.
const SLOT: usize = 16 << 10;

const SLOTS: usize = 3;

/// What is known of the cursors, in memory and on disk.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    pub(super) all: BTreeMap<String, Cursor>,
    /// The sequence number in each slot; 0 where there is none.
    slots: [u64; SLOTS],
    /// The slot that was written last,
    last: Option<usize>,
    /// and the one that was synced last.
    synced: Option<usize>,
    /// Whether the file has its size.
    made: bool,
    /// Whether what is in memory is on disk.
    written: bool,
}

impl Cursors {
    /// Reads them; the second result says that there are some which cannot be read.
    pub(super) fn open(disk: &mut dyn Disk) -> Result<(Self, bool), SpoolError> {
        let mut this = Self { written: true, ..Self::default() };
        let Some(content) = read_whole(disk, CURSORS)? else { return Ok((this, false)) };
        for (place, slot) in content.chunks(SLOT).take(SLOTS).enumerate() {
            let Some((sequence, all)) = parse(slot) else { continue };
            if this.slots.iter().all(|&other| other < sequence) {
                (this.all, this.last) = (all, Some(place));
            }
            if let Some(slot) = this.slots.get_mut(place) {
                *slot = sequence;
            }
        }
        // A file of zeros is one that was made and never written.
        let damaged = this.last.is_none() && content.iter().any(|&byte| byte != 0);
        this.made = content.len() == SLOTS * SLOT && !damaged;
        // What a process that was killed has written last is nowhere but in memory yet. If it cannot be made durable, nobody knows
        // which slot is: none of them is written to, the next write makes the file anew.
        this.made &= this.sync(disk).is_ok();
        Ok((this, damaged))
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
        let sequence = self.slots.iter().max().copied().unwrap_or_default().saturating_add(1);
        let bytes = encode(sequence, &self.all);
        if bytes.len() > SLOT {
            return Err(SpoolError::TooLarge { path: shown(disk, CURSORS), bytes: bytes.len() as u64 });
        }
        if !self.made {
            return self.make(disk, sequence, bytes);
        }
        let free =
            self.slots.iter_mut().enumerate().filter(|(place, _)| ![self.last, self.synced].contains(&Some(*place)));
        // There is always one: of three slots at most two are spared.
        let Some((place, slot)) = free.min_by_key(|(_, sequence)| **sequence) else { return Ok(()) };
        // 0 until the write is through: a torn slot is then the next to be written, and its old number is not counted
        // on.
        *slot = 0;
        disk.write_at(CURSORS, (place * SLOT) as u64, &bytes).inspect_err(|error| {
            // Somebody has deleted it.
            self.made &= !error.is_gone();
        })?;
        *slot = sequence;
        (self.last, self.written) = (Some(place), true);
        Ok(())
    }

    /// Makes what was written durable.
    pub(super) fn sync(&mut self, disk: &mut dyn Disk) -> Result<(), SpoolError> {
        if self.last == self.synced || !self.made || !self.written {
            return Ok(());
        }
        // After an error nobody knows what of it is on disk: it is written once more, elsewhere.
        disk.sync(CURSORS).inspect_err(|_| self.written = false)?;
        self.synced = self.last;
        Ok(())
    }

    /// Whether what is in memory survives a power cut.
    pub(super) fn are_durable(&self) -> bool {
        self.written && self.last == self.synced
    }

    /// Makes the file as a whole, with `bytes` in its first slot. They are durable at once.
    fn make(&mut self, disk: &mut dyn Disk, sequence: u64, mut bytes: Vec<u8>) -> Result<(), SpoolError> {
        bytes.resize(SLOTS * SLOT, 0);
        disk.replace(CURSORS, &bytes)?;
        self.slots = [0; SLOTS];
        if let Some(first) = self.slots.first_mut() {
            *first = sequence;
        }
        // `replace` is durable when it says Ok.
        (self.last, self.synced) = (Some(0), Some(0));
        (self.made, self.written) = (true, true);
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

fn parse(slot: &[u8]) -> Option<(u64, BTreeMap<String, Cursor>)> {
    let (&crc, rest) = slot.split_first_chunk::<4>()?;
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

#[cfg(test)]
mod tests {
    use super::super::sim_disk::{EIO, SimDisk};
    use super::*;

    fn cursor(position: u64) -> Cursor {
        Cursor { position: Position(position), stamp: Timestamp::from_millis(position) }
    }

    fn put(cursors: &mut Cursors, disk: &mut SimDisk, position: u64) {
        cursors.set(&[("pattoo".to_owned(), cursor(position))], &[]);
        cursors.write(disk).unwrap();
    }

    /// Whichever byte is damaged, what is read is the last state or the one before.
    #[test]
    fn a_damaged_byte() {
        let mut disk = SimDisk::new(1);
        let (mut cursors, damaged) = Cursors::open(&mut disk).unwrap();
        assert!(!damaged);
        for position in 1..=3 {
            put(&mut cursors, &mut disk, position);
            cursors.sync(&mut disk).unwrap();
        }
        assert!(cursors.are_durable());
        let whole = disk.world().content(CURSORS).clone();
        assert_eq!(whole.len(), SLOTS * SLOT);
        for byte in (0..whole.len()).step_by(SLOT).flat_map(|slot| slot..slot + 64) {
            disk.world().content(CURSORS)[byte] ^= 1;
            let (after, damaged) = Cursors::open(&mut disk).unwrap();
            assert!(!damaged && [cursor(3), cursor(2)].contains(&after.all["pattoo"]), "byte {byte}: {after:?}");
            disk.world().plant(CURSORS, &whole);
        }
        disk.world().content(CURSORS).fill(7);
        assert!(Cursors::open(&mut disk).unwrap().1);
    }

    /// A start whose sync fails does not know which slot is durable. Whatever is written then without a sync, a power cut leaves what
    /// was synced in the life before, or something newer.
    #[test]
    fn a_start_whose_sync_fails() {
        for (seed, unsynced) in (1..200).flat_map(|seed| (0..3).map(move |unsynced| (seed, unsynced))) {
            let mut disk = SimDisk::new(seed);
            let (mut cursors, _) = Cursors::open(&mut disk).unwrap();
            put(&mut cursors, &mut disk, 1);
            put(&mut cursors, &mut disk, 2);
            cursors.sync(&mut disk).unwrap();
            for position in 3..3 + unsynced {
                put(&mut cursors, &mut disk, position);
            }
            disk.world().kill();
            disk.world().hook = Some(Box::new(|action, path| (action == "fsync" && path == CURSORS).then_some(EIO)));
            let (mut cursors, _) = Cursors::open(&mut disk).unwrap();
            for position in 10..16 {
                put(&mut cursors, &mut disk, position);
            }
            disk.world().hook = None;
            disk.world().power_cut();
            let after = Cursors::open(&mut disk).unwrap().0.all;
            assert!(
                after.get("pattoo").is_some_and(|after| after.position >= Position(2)),
                "{seed} {unsynced}: {after:?}"
            );
        }
    }

    #[test]
    fn too_many_cursors() {
        let mut disk = SimDisk::new(1);
        let (mut cursors, _) = Cursors::open(&mut disk).unwrap();
        put(&mut cursors, &mut disk, 1);
        cursors.set(&[("x".repeat(SLOT), cursor(2))], &[]);
        assert!(matches!(cursors.write(&mut disk), Err(SpoolError::TooLarge { .. })));
        assert_eq!(Cursors::open(&mut disk).unwrap().0.all.len(), 1);
    }
}
