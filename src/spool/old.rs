//! The old caches: bodies of posts that the Python agent and earlier releases have left, one file each.
//!
//! They are given out oldest first, byte for byte, by name (see [`Name`]), and forgotten when they are delivered. One of ours
//! whose content has not the checksum of its name goes to quarantine; what is no regular file is left alone. The oldest
//! names are held in memory, and the directory is read again when they are used up (see `window.rs`).
//!
//! `undated/<boot id>/` holds bodies of an earlier release that had no date yet. Where the offset that dates them is written
//! down, they are dated before the first body is given out, and take their place among the others. The rest stays
//! where it is, because nobody can ever date it, and is told.

use std::collections::HashSet;
use std::time::Duration;

use super::disk::{Disk, Stat, read_whole, shown};
use super::job::{OldBatch, OldName};
use super::log::{Life, tell};
use super::quarantine;
use super::source::Patience;
use super::state;
use super::window::Window;
use super::{Findings, IMPLAUSIBLE, Name, SpoolError, WINDOW};
use crate::reading::Timestamp;
use crate::time::timeline::Stamp;

const UNDATED: &str = "undated";
const OFFSET: &str = "offset";
const STATE: &str = "state";

/// No body is larger, in bytes.
const MAX_BODY: u64 = super::directory::MAX_FILE_BYTES;

/// Puts dates into a body: the body, by how much boot times are to be moved, the new stamp of the body.
pub type Restamp = fn(&[u8], Duration, Timestamp) -> Result<Vec<u8>, String>;

/// What is left of the old caches.
pub(super) struct Old {
    agent_id: String,
    restamp: Restamp,
    window: Window,
    /// Given out and not forgotten: not evicted.
    lent: Option<Name>,
    /// Not given out any more: forgotten, but the disk keeps them, or no regular files.
    passed: HashSet<Name>,
    /// Directories of boots whose bodies wait for their dates.
    to_date: Vec<String>,
    /// Directories of boots whose bodies can never be dated.
    dateless: Vec<String>,
}

impl Old {
    /// Looks for them; the second result is the greatest stamp that they, or what an earlier release remembers, have.
    pub(super) fn open(disk: &mut dyn Disk, life: &Life<'_>) -> Result<(Self, Timestamp), SpoolError> {
        let mut this = Self {
            agent_id: life.agent_id.to_owned(),
            restamp: life.restamp,
            window: Window::new(WINDOW),
            lent: None,
            passed: HashSet::new(),
            to_date: Vec::new(),
            dateless: Vec::new(),
        };
        let mut newest = this.scan(disk)?;
        let remembered = read_whole(disk, STATE).ok().flatten().map(|text| state::remembered(&text));
        for stamp in remembered.into_iter().flatten() {
            newest = if stamp < IMPLAUSIBLE { newest.max(stamp) } else { newest };
        }
        let mut boots = Vec::new();
        // What is no directory is not ours.
        disk.list(UNDATED, &mut |name| boots.push(format!("{UNDATED}/{name}"))).ok();
        for boot in boots {
            match disk.stat(&format!("{boot}/{OFFSET}")) {
                Ok(Stat::File(_)) => this.to_date.push(boot),
                _ => this.dateless.push(boot),
            }
        }
        Ok((this, newest))
    }

    /// Tells what can never be delivered.
    pub(super) fn tell(&self, findings: &mut Findings, disk: &dyn Disk) {
        for boot in &self.dateless {
            tell(findings, shown(disk, boot), "its readings have no date, and nobody knows the offset", false);
        }
    }

    pub(super) fn batches(&self) -> usize {
        self.window.batches()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.window.bytes()
    }

    /// The oldest; `None` when there is none any more.
    pub(super) fn next(
        &mut self,
        disk: &mut dyn Disk,
        patience: &mut Patience,
        findings: &mut Findings,
    ) -> Result<Option<OldBatch>, SpoolError> {
        // Before the first is given out: the dated bodies take their place among the others, which may be the first.
        self.date(disk, findings)?;
        // It stays in the window until it is forgotten, so that whoever failed with it is given it again.
        self.lent = None;
        loop {
            if self.window.is_used_up() {
                self.scan(disk)?;
            }
            let Some((name, _)) = self.window.next(None) else { return Ok(None) };
            let path = name.file_name(&self.agent_id);
            let body = match read_body(disk, &path) {
                Err(error) if error.is_of_the_medium() && patience.failed(&path, 0) => {
                    Body::Damaged("the disk cannot read it")
                }
                body => body?,
            };
            match body {
                Body::Whole(body) if name.crc().is_none_or(|crc| crc == crc32c::crc32c(&body)) => {
                    self.lent = Some(name);
                    let left = self.window.batches();
                    return Ok(Some(OldBatch { name: OldName(path), at: name.at(), body, left }));
                }
                Body::Whole(_) => self.set_aside(disk, findings, name, "its CRC-32C is not that of its name"),
                Body::Damaged(why) => self.set_aside(disk, findings, name, why),
                Body::Strange => {
                    self.pass(name);
                    tell(findings, shown(disk, &path), "it is no regular file", false);
                }
                Body::Gone => drop(self.window.forget(name)),
            }
        }
    }

    /// It is delivered or in quarantine.
    pub(super) fn forget(&mut self, disk: &mut dyn Disk, name: &OldName) -> Result<(), SpoolError> {
        let Some(parsed) = Name::parse(name.0.as_bytes(), &self.agent_id) else { return Ok(()) };
        self.lent = self.lent.filter(|&lent| lent != parsed);
        // Also when the disk keeps it: it is not given out again in this life.
        self.pass(parsed);
        disk.remove(&name.0)?;
        self.passed.remove(&parsed);
        Ok(())
    }

    /// Lets the oldest go for the sake of the limits; `None` when there is none, or the disk keeps it.
    pub(super) fn evict(&mut self, disk: &mut dyn Disk) -> Option<u64> {
        if self.window.is_used_up() {
            self.scan(disk).ok()?;
        }
        let (name, entry) = self.window.next(self.lent)?;
        disk.remove(&name.file_name(&self.agent_id)).ok()?;
        self.window.forget(name);
        Some(entry.bytes)
    }

    /// Lets the oldest go if it is older than `age`.
    pub(super) fn evict_before(&mut self, disk: &mut dyn Disk, now: Timestamp, age: Duration) -> bool {
        let old = self.window.next(self.lent).is_some_and(|(name, _)| name.at().after(age) < now);
        old && self.evict(disk).is_some()
    }

    fn pass(&mut self, name: Name) {
        self.window.forget(name);
        self.passed.insert(name);
    }

    /// A disk that does not let it be moved away must not hold up what is behind it.
    fn set_aside(&mut self, disk: &mut dyn Disk, findings: &mut Findings, name: Name, why: &str) {
        let path = name.file_name(&self.agent_id);
        let to = format!("{}/{path}", quarantine::DIRECTORY);
        let moved = disk.rename(&path, &to).is_ok();
        if moved {
            self.window.forget(name);
        } else {
            self.pass(name);
        }
        tell(findings, shown(disk, if moved { &to } else { &path }), why, moved);
    }

    /// Reads the directory: holds the oldest names, counts all. Returns the greatest plausible stamp.
    fn scan(&mut self, disk: &mut dyn Disk) -> Result<Timestamp, SpoolError> {
        let mut refill = self.window.refill();
        let mut newest = Timestamp::default();
        disk.list("", &mut |file| {
            // A file that the disk does not remove is still listed: it would be delivered again and again.
            if let Some(name) = Name::parse(file.as_bytes(), &self.agent_id).filter(|name| !self.passed.contains(name))
            {
                refill.offer(name);
                // One name that is decades ahead must not set the stamps of all posts to come.
                if name.at() < IMPLAUSIBLE {
                    newest = newest.max(name.at());
                }
            }
        })?;
        let agent_id = &self.agent_id;
        self.window.replace(refill, |name| match disk.stat(&name.file_name(agent_id)) {
            Ok(Stat::File(bytes)) => bytes,
            _ => 0,
        });
        Ok(newest)
    }
}

/// Dates.
impl Old {
    fn date(&mut self, disk: &mut dyn Disk, findings: &mut Findings) -> Result<(), SpoolError> {
        // Popped after it is done: an error leaves the boot for the next attempt.
        while let Some(boot) = self.to_date.last().cloned() {
            self.date_boot(disk, findings, &boot)?;
            self.to_date.pop();
            self.scan(disk)?;
        }
        Ok(())
    }

    fn date_boot(&self, disk: &mut dyn Disk, findings: &mut Findings, boot: &str) -> Result<(), SpoolError> {
        let path = format!("{boot}/{OFFSET}");
        let text = read_whole(disk, &path)?.unwrap_or_default();
        let Some(offset) = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()) else {
            tell(findings, shown(disk, &path), "it is no offset", false);
            return Ok(());
        };
        let mut names = Vec::new();
        disk.list(boot, &mut |file| names.extend(Name::parse(file.as_bytes(), &self.agent_id)))?;
        // The list is closed before: dating removes files from this directory.
        for name in names {
            self.date_body(disk, findings, boot, name, Duration::from_nanos(offset))?;
        }
        // Last: who finds the offset after a crash dates the rest of the bodies by it.
        disk.remove(&path)
    }

    /// One that is dated twice, because of a crash in between, gets the same dates.
    fn date_body(
        &self,
        disk: &mut dyn Disk,
        findings: &mut Findings,
        boot: &str,
        name: Name,
        offset: Duration,
    ) -> Result<(), SpoolError> {
        let file = name.file_name(&self.agent_id);
        let path = format!("{boot}/{file}");
        let at = match Stamp::read(name.at()) {
            Stamp::Undated(boot) => Timestamp::default().after(boot.saturating_add(offset)),
            Stamp::At(date) => date,
        };
        let dated = match read_body(disk, &path)? {
            Body::Whole(body) if name.crc() == Some(crc32c::crc32c(&body)) => (self.restamp)(&body, offset, at),
            Body::Whole(_) => Err("its CRC-32C is not that of its name".to_owned()),
            Body::Damaged(why) => Err(why.to_owned()),
            Body::Strange => Err("it is no regular file".to_owned()),
            Body::Gone => return Ok(()),
        };
        match dated {
            Ok(body) => {
                // The new file is durable before the old one goes. A crash in between leaves both, and the second
                // attempt makes the same.
                disk.replace(&Name::of(at, &body).file_name(&self.agent_id), &body)?;
                disk.remove(&path)
            }
            Err(why) => {
                let to = format!("{}/{file}", quarantine::DIRECTORY);
                disk.rename(&path, &to)?;
                tell(findings, shown(disk, &to), &why, true);
                Ok(())
            }
        }
    }
}

/// What is behind a name.
enum Body {
    Whole(Vec<u8>),
    Damaged(&'static str),
    Strange,
    Gone,
}

fn read_body(disk: &mut dyn Disk, path: &str) -> Result<Body, SpoolError> {
    match disk.stat(path)? {
        Stat::Missing => return Ok(Body::Gone),
        Stat::Other => return Ok(Body::Strange),
        Stat::File(bytes) if bytes > MAX_BODY => return Ok(Body::Damaged("it is too large")),
        Stat::File(_) => {}
    }
    Ok(read_whole(disk, path)?.map_or(Body::Gone, Body::Whole))
}
