//! Batches whose readings have no date yet, because the clock was not to be believed when they were taken.
//!
//! They lie in `undated/<boot id>/` under names that count from that boot, written as any batch is, and are
//! never given out. When the clock is right again each gets its date and becomes a batch like any other. The
//! dates are boot times moved by one *offset*, which is on disk before the first of them is given: whatever
//! crashes in between, a batch that is dated twice gets the same dates, and the server ignores the copy. What
//! is left from another boot can never be dated and stays for people to look at.

use std::time::Duration;

use super::directory::{Content, Directory};
use super::window::{Entry, Window};
use super::{Name, QUARANTINE, Spool, SpoolError, WINDOW};
use crate::reading::Timestamp;
use crate::time::timeline::Stamp;

/// The directory beside the batches.
pub(super) const UNDATED: &str = "undated";

/// The file that holds the offset while batches are dated.
const OFFSET: &str = "offset";

/// Puts dates into a body: the body, by how much boot times are to be moved, the new stamp of the body.
pub type Redate<'a> = &'a dyn Fn(&[u8], Duration, Timestamp) -> Result<Vec<u8>, String>;

/// What is held of this boot.
#[derive(Debug)]
pub(super) struct Held {
    directory: Directory,
    batches: usize,
    /// Batches up to this stamp are of earlier lives.
    inherited: Timestamp,
}

/// What earlier lives have left without a date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Undated {
    /// The boot time of the oldest batch of this boot.
    pub since: Option<Duration>,
    /// An offset by which dating had begun.
    pub offset: Option<Duration>,
    /// How many directories of other boots there are.
    pub other_boots: usize,
}

impl Spool {
    /// Opens what is held of the boot with this id. To be called once, before anything is held.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open_held(&mut self, boot_id: &str) -> Result<Undated, SpoolError> {
        boot_id.clone_into(&mut self.boot_id);
        let undated = Directory::open_existing(self.directory.path().join(UNDATED))?;
        let Some(undated) = undated else { return Ok(Undated::default()) };
        let found = self.look_at_held(&undated, boot_id)?;
        self.settle();
        Ok(found)
    }

    fn look_at_held(&mut self, undated: &Directory, boot_id: &str) -> Result<Undated, SpoolError> {
        let mut found = Undated::default();
        let mut ours = false;
        undated.list(|name| {
            match name.to_bytes() {
                b"." | b".." => {}
                name if name == boot_id.as_bytes() => ours = true,
                _ => found.other_boots += 1,
            }
            Ok(())
        })?;
        if !ours {
            return Ok(found);
        }
        let agent_id = self.agent_id.clone();
        let held = self.held()?;
        if let Content::Whole(text) = held.directory.read(OFFSET)? {
            found.offset = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).map(Duration::from_nanos);
        }
        let mut oldest: Option<Name> = None;
        let (mut batches, mut newest) = (0, Timestamp::default());
        held.directory.list(|file| {
            if let Some(name) = Name::parse(file.to_bytes(), &agent_id) {
                batches += 1;
                newest = newest.max(name.at());
                oldest = Some(oldest.map_or(name, |oldest| oldest.min(name)));
            }
            Ok(())
        })?;
        (held.batches, held.inherited) = (batches, newest);
        found.since = oldest.and_then(|name| match Stamp::read(name.at()) {
            Stamp::Undated(boot) => Some(boot),
            Stamp::At(_) => None,
        });
        self.tally.held = batches;
        Ok(found)
    }

    /// Puts a batch without a date on disk, stamped `at` with the boot time as it is written.
    ///
    /// # Errors
    /// When the disk refuses. Nothing of it stays behind.
    pub fn hold(&mut self, at: Timestamp, body: &[u8], datapoints: usize) -> Result<(), SpoolError> {
        let file_name = Name::of(at, body).file_name(&self.agent_id);
        let held = self.held()?;
        held.directory.write(&file_name, body)?;
        held.batches += 1;
        self.tally.held += 1;
        self.tally.stored += datapoints as u64;
        self.tally.on_disk += datapoints as u64;
        self.save_on_disk();
        Ok(())
    }

    /// Makes batches of all that is held of this boot, each boot time moved by `offset`. What cannot be dated
    /// is moved to quarantine.
    ///
    /// # Errors
    /// When the disk refuses; what is dated by then is dated, the rest is held: call again.
    pub fn date_held(&mut self, offset: Duration, redate: Redate<'_>) -> Result<(), SpoolError> {
        if self.held.as_ref().is_none_or(|held| held.batches == 0) {
            return Ok(());
        }
        let held = self.held()?;
        if !held.directory.has(OFFSET)? {
            held.directory.write(OFFSET, offset.as_nanos().to_string().as_bytes())?;
        }
        loop {
            let mut window = Window::new(WINDOW);
            let mut refill = window.refill();
            let agent_id = self.agent_id.clone();
            self.held()?.directory.list(|file| {
                if let Some(name) = Name::parse(file.to_bytes(), &agent_id) {
                    refill.offer(name);
                }
                Ok(())
            })?;
            window.replace(refill, |_| 0);
            if window.batches() == 0 {
                break;
            }
            while let Some((name, _)) = window.next(None) {
                self.date(name, offset, redate)?;
                window.forget(name);
            }
        }
        let held = self.held()?;
        held.batches = 0;
        held.directory.remove(OFFSET)?;
        self.tally.held = 0;
        Ok(())
    }

    fn date(&mut self, name: Name, offset: Duration, redate: Redate<'_>) -> Result<(), SpoolError> {
        let file_name = name.file_name(&self.agent_id);
        let held = self.held()?;
        let inherited = name.at() <= held.inherited;
        let content = held.directory.read(&file_name)?;
        let at = match Stamp::read(name.at()) {
            Stamp::Undated(boot) => Timestamp::from(std::time::UNIX_EPOCH + boot + offset),
            Stamp::At(date) => date,
        };
        let dated = match content {
            Content::Whole(body) if name.crc() == Some(crc32c::crc32c(&body)) => redate(&body, offset, at),
            Content::Whole(_) => Err("its CRC-32C is not that of its name".to_owned()),
            Content::Damaged(why) => Err(why),
            Content::Strange(why) => Err(format!("it is {why}")),
            Content::Gone => return Ok(()),
        };
        let body = match dated {
            Ok(body) => body,
            Err(why) => return self.refuse(&file_name, why),
        };
        let datapoints = (self.check)(&body, at, &self.agent_id).map_or(0, |checked| checked.datapoints as u64);
        let new = Name::of(at, &body);
        self.write(&new.file_name(&self.agent_id), &body)?;
        self.window.append(new, Entry { bytes: body.len() as u64, datapoints: Some(datapoints) });
        self.newest = self.newest.max(at);
        if inherited {
            self.found(datapoints);
        }
        let held = self.held()?;
        held.directory.remove(&file_name)?;
        held.batches = held.batches.saturating_sub(1);
        self.tally.held = self.tally.held.saturating_sub(1);
        Ok(())
    }

    fn refuse(&mut self, file_name: &str, why: String) -> Result<(), SpoolError> {
        let quarantine = self.directory.subdirectory(QUARANTINE)?;
        let from = std::ffi::CString::new(file_name).unwrap_or_default();
        self.held()?.directory.move_to(&from, &quarantine, file_name)?;
        self.tell(super::Finding { path: quarantine.path().join(file_name), why, moved: true });
        Ok(())
    }

    fn held(&mut self) -> Result<&mut Held, SpoolError> {
        let held = if let Some(held) = self.held.take() {
            held
        } else {
            let directory = self.directory.subdirectory(UNDATED)?.subdirectory(&self.boot_id)?;
            Held { directory, batches: 0, inherited: Timestamp::default() }
        };
        Ok(self.held.insert(held))
    }
}
