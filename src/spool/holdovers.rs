//! The holds, on disk: the file `log/holdovers`, one line that says what it is and its CRC-32C, then JSON.
//!
//! Readings that were taken while the clock was not believed name their hold; what they need to get a date stands here,
//! durable before the first batch that names it. A hold goes when no segment names it any more. One that a batch names
//! again is written again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SpoolError;
use super::batch::HoldoverId;
use super::disk::{Disk, read_whole};
use super::job::Holdover;
use super::log::HOLDS;

const TITLE: &str = "modbus-holdovers-1";

/// What is known of the holds, in memory and on disk.
#[derive(Debug, Default)]
pub(super) struct Holdovers {
    /// Every hold of this life, also those that left the disk.
    known: BTreeMap<HoldoverId, Holdover>,
    /// As they are on disk.
    on_disk: BTreeMap<HoldoverId, Holdover>,
    /// A write has failed: what is on disk is what was there before, or what was to be there.
    unsure: bool,
    /// New in this life, and no batch has named them yet.
    unnamed: BTreeSet<HoldoverId>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    id: u64,
    boot_id: String,
    since_ns: u64,
    offset_ns: Option<u64>,
}

impl Holdovers {
    /// Reads them; the second result says that there are some which cannot be read.
    pub(super) fn open(disk: &mut dyn Disk) -> Result<(Self, bool), SpoolError> {
        let Some(content) = read_whole(disk, HOLDS)? else { return Ok((Self::default(), false)) };
        let Some(all) = parse(&content) else { return Ok((Self::default(), true)) };
        Ok((Self { known: all.clone(), on_disk: all, ..Self::default() }, false))
    }

    pub(super) fn all(&self) -> Vec<Holdover> {
        self.on_disk.values().cloned().collect()
    }

    /// The hold of this id.
    pub(super) fn get(&self, id: HoldoverId) -> Option<&Holdover> {
        self.known.get(&id)
    }

    /// Puts `holds` on disk, durably.
    pub(super) fn put(&mut self, disk: &mut dyn Disk, holds: &[Holdover]) -> Result<(), SpoolError> {
        for hold in holds {
            // Known whatever the disk says: what it refuses now goes along with the next attempt.
            if self.known.insert(hold.id, hold.clone()).is_none() {
                self.unnamed.insert(hold.id);
            }
        }
        // What could not be written in an earlier attempt is as new.
        let wanted = self.known.iter().filter(|(id, _)| self.is_wanted(**id, holds));
        let wanted: BTreeMap<HoldoverId, Holdover> = wanted.map(|(id, hold)| (*id, hold.clone())).collect();
        self.write(disk, wanted)
    }

    fn is_wanted(&self, id: HoldoverId, new: &[Holdover]) -> bool {
        self.on_disk.contains_key(&id) || self.unnamed.contains(&id) || new.iter().any(|hold| hold.id == id)
    }

    /// A batch is about to name `id`: it must be on disk. One that nobody has ever told of cannot be.
    pub(super) fn name(&mut self, disk: &mut dyn Disk, id: HoldoverId) -> Result<(), SpoolError> {
        let Some(hold) = self.known.get(&id) else { return Ok(()) };
        // It may have left the disk since: no segment named it for a while.
        if self.unsure || self.on_disk.get(&id) != Some(hold) {
            let hold = hold.clone();
            self.put(disk, &[hold])?;
        }
        self.unnamed.remove(&id);
        Ok(())
    }

    /// Takes those from the disk that no segment names; it does not matter when the disk refuses.
    pub(super) fn retain(&mut self, disk: &mut dyn Disk, named: &BTreeSet<HoldoverId>) {
        // Of one that no batch has named yet the first batch may wait in memory for a disk that takes it.
        let stays = |id: &HoldoverId| named.contains(id) || self.unnamed.contains(id);
        let kept: BTreeMap<HoldoverId, Holdover> =
            self.on_disk.iter().filter(|(id, _)| stays(id)).map(|(id, hold)| (*id, hold.clone())).collect();
        self.write(disk, kept).ok();
    }

    /// The file is gone.
    pub(super) fn forget_disk(&mut self) {
        self.on_disk.clear();
    }

    fn write(&mut self, disk: &mut dyn Disk, all: BTreeMap<HoldoverId, Holdover>) -> Result<(), SpoolError> {
        if all == self.on_disk && !self.unsure {
            return Ok(());
        }
        self.unsure = true;
        disk.replace(HOLDS, &encode(&all))?;
        (self.on_disk, self.unsure) = (all, false);
        Ok(())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn encode(all: &BTreeMap<HoldoverId, Holdover>) -> Vec<u8> {
    let lines: Vec<Line> = all
        .values()
        .map(|hold| Line {
            id: hold.id.0,
            boot_id: hold.boot_id.clone(),
            since_ns: nanos(hold.since),
            offset_ns: hold.offset.map(nanos),
        })
        .collect();
    let json = serde_json::to_vec(&lines).unwrap_or_default();
    [format!("{TITLE} {:08x}\n", crc32c::crc32c(&json)).as_bytes(), &json].concat()
}

fn parse(content: &[u8]) -> Option<BTreeMap<HoldoverId, Holdover>> {
    let end = content.iter().position(|&byte| byte == b'\n')?;
    let (title, json) = content.split_at_checked(end)?;
    let json = json.get(1..)?;
    if title != format!("{TITLE} {:08x}", crc32c::crc32c(json)).as_bytes() {
        return None;
    }
    let lines: Vec<Line> = serde_json::from_slice(json).ok()?;
    let holds = lines.into_iter().map(|line| {
        let id = HoldoverId(line.id);
        let (since, offset) = (Duration::from_nanos(line.since_ns), line.offset_ns.map(Duration::from_nanos));
        (id, Holdover { id, boot_id: line.boot_id, since, offset })
    });
    Some(holds.collect())
}

#[cfg(test)]
mod tests {
    use super::super::sim_disk::{EIO, SimDisk};
    use super::*;

    fn hold(id: u64) -> Holdover {
        let (boot_id, since) = (format!("boot {id}\n\"x\""), Duration::from_millis(id));
        Holdover { id: HoldoverId(id), boot_id, since, offset: (id > 1).then_some(Duration::from_secs(1_790_000_000)) }
    }

    #[test]
    fn what_was_put_is_read_and_any_damage_is_known() {
        let mut disk = SimDisk::new(1);
        let (mut holds, _) = Holdovers::open(&mut disk).unwrap();
        holds.put(&mut disk, &[hold(1), hold(2)]).unwrap();
        assert_eq!(Holdovers::open(&mut disk).unwrap().0.all(), [hold(1), hold(2)]);
        let whole = disk.world().content(HOLDS).clone();
        for byte in 0..whole.len() {
            disk.world().content(HOLDS)[byte] ^= 1;
            let (after, damaged) = Holdovers::open(&mut disk).unwrap();
            assert!(damaged && after.all().is_empty(), "byte {byte}");
            disk.world().plant(HOLDS, &whole);
        }
    }

    #[test]
    fn a_hold_stays_while_a_segment_names_it_or_no_batch_has_named_it_yet() {
        let mut disk = SimDisk::new(1);
        let (mut holds, _) = Holdovers::open(&mut disk).unwrap();
        holds.put(&mut disk, &[hold(1), hold(2), hold(3)]).unwrap();
        for id in [1, 2] {
            holds.name(&mut disk, HoldoverId(id)).unwrap();
        }
        holds.retain(&mut disk, &BTreeSet::from([HoldoverId(2)]));
        assert_eq!(Holdovers::open(&mut disk).unwrap().0.all(), [hold(2), hold(3)]);
        holds.name(&mut disk, HoldoverId(1)).unwrap();
        assert_eq!(Holdovers::open(&mut disk).unwrap().0.all().len(), 3, "one that is named again is written again");
    }

    #[test]
    fn a_failed_write_is_made_up_for() {
        let mut disk = SimDisk::new(1);
        let (mut holds, _) = Holdovers::open(&mut disk).unwrap();
        disk.world().hook = Some(Box::new(|action, _| (action == "replace").then_some(EIO)));
        holds.put(&mut disk, &[hold(1)]).unwrap_err();
        holds.name(&mut disk, HoldoverId(1)).unwrap_err();
        disk.world().hook = None;
        holds.put(&mut disk, &[]).unwrap();
        assert_eq!(Holdovers::open(&mut disk).unwrap().0.all(), [hold(1)]);
    }
}
