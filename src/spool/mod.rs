//! The queue on disk: one file per batch, delivered oldest first.
//!
//! # Format
//!
//! `<cache_directory>/<agent id>/` holds one file for each batch that is not delivered yet; its [`Name`] is
//! its place in the queue, its content one post body. There is no index: presence means not delivered.
//! `quarantine/` beside the batches holds what cannot be delivered, `undated/` what has no date yet
//! (see `held.rs`). A file that ends in `.tmp` is a batch
//! being written, or what a crash left of one. `state` remembers stamps and counters and may be lost.
//!
//! # Invariants
//!
//! - A batch is visible under its name only when its content is on disk: written under a temporary name,
//!   fsynced, renamed, and the directory fsynced. [`Spool::append`] returns after the last of these; when
//!   one of them fails, nothing is left behind.
//! - Stamps of appended batches only go up, unless the clock was set back; a name holds stamp and content,
//!   so a rename replaces nothing but the same batch.
//! - What leaves the spool is whole: the content of a batch of ours has the CRC-32C of its name, and every
//!   content passes the [`Check`] given at the start. Whatever does not is moved to `quarantine/` untouched
//!   and reported; nothing damaged is ever deleted, and nothing damaged stops the queue. What the disk cannot
//!   read in [`PATIENCE`] attempts counts as damaged.
//! - A delivered batch is unlinked without an fsync of the directory: after a power cut it may be back, and
//!   is posted once more, which the server ignores. One that cannot be unlinked is not given out again.
//! - Foreign names, directories, links and special files are neither read nor touched.
//! - Nothing is dropped but by [`Limits`]: then the oldest batches, whole, and counted.
//! - Every datapoint is in the [`Tally`] once.
//! - Memory does not grow with the queue: the oldest [`WINDOW`] names are held, and the directory is read
//!   again when they are used up.
//! - One process at a time: the write lock of the file `lock` in the directory is held for life.
//!
//! Everything here blocks on the disk; it belongs on a thread of its own.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use self::directory::{Content, Directory, TEMPORARY};
pub use self::disk::{Disk, Space, Stat};
pub use self::error::SpoolError;
use self::held::Held;
pub use self::held::{Redate, Undated};
use self::limits::Free;
pub use self::limits::{Limits, MinFree};
pub use self::log::{Cut, Life, Log, Opened};
pub use self::name::Name;
pub use self::old::Restamp;
pub use self::real::RealDisk;
use self::state::{Remembered, State};
use self::tally::Evicted;
pub use self::tally::Tally;
use self::window::{Entry, Window};
use crate::files::lock::WriteLock;
use crate::reading::Timestamp;

mod adopt;
mod append;
pub mod batch;
pub mod batcher;
mod cursors;
mod directory;
pub mod disk;
mod error;
mod evict;
mod frame;
mod held;
mod holds;
pub mod job;
mod limits;
pub mod log;
mod name;
pub mod old;
mod quarantine;
mod read;
pub mod real;
mod segment;
#[cfg(test)]
#[path = "../../tests/support/sim_disk.rs"]
mod sim_disk;
mod source;
mod state;
mod tables;
pub mod tail;
mod tally;
#[cfg(test)]
mod tests;
mod window;

/// How many names are held in memory.
pub const WINDOW: usize = 65_536;

/// How often the disk may fail to read a batch before it is set aside.
pub const PATIENCE: u8 = 3;

/// The directory for what cannot be delivered.
const QUARANTINE: &str = "quarantine";

/// So many batches are set aside in one call at most, so that others have their turn.
const MOST_AT_ONCE: usize = 256;

/// So many findings are told one by one.
const MOST_TOLD: usize = 16;

/// A stamp of the year 2100 or later is no reason for ours to follow it.
const IMPLAUSIBLE: Timestamp = Timestamp::from_millis(4_102_444_800_000);

/// Judges the content of a batch of this stamp, or says what is wrong with it.
pub type Check = fn(body: &[u8], at: Timestamp, agent_id: &str) -> Result<Checked, String>;

/// What a [`Check`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// How many datapoints the body holds.
    pub datapoints: usize,
    /// Whether it can be posted byte for byte.
    pub plain: bool,
}

/// A batch read back from disk, whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the queue.
    pub name: Name,
    /// The post body.
    pub body: Bytes,
    /// What the check found.
    pub checked: Checked,
}

/// A batch that is not given out.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it is now.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// Whether it was moved to quarantine; what is no regular file stays where it is.
    pub moved: bool,
}

/// What was found damaged or strange.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The first of them.
    pub told: Vec<Finding>,
    /// How many more there were.
    pub untold: usize,
}

/// The queue of one agent.
#[derive(Debug)]
pub struct Spool {
    directory: Directory,
    /// Held for as long as the spool is there; `None` on a disk that takes no file.
    #[allow(dead_code, reason = "held, never looked at")]
    lock: Option<WriteLock>,
    agent_id: String,
    check: Check,
    limits: Limits,
    window: Window,
    free: Free,
    state: State,
    /// Over the life of the directory.
    tally: Tally,
    /// What of it is of earlier lives.
    earlier: Tally,
    /// Datapoints that earlier lives left on disk and that are in batches not read yet, as the last of them said.
    uncounted: u64,
    newest: Timestamp,
    posted: Timestamp,
    /// Batches up to this stamp are of earlier lives.
    inherited: Timestamp,
    /// The newest of those given out: they are not evicted.
    lent: Option<Name>,
    /// The batch put on disk last: it needs no reading when its turn comes soon.
    fresh: Option<(Name, Bytes)>,
    /// Delivered, but the disk would not remove them.
    tombstones: HashSet<Name>,
    /// No regular files.
    strange: HashSet<Name>,
    /// The disk failed to read this one so often.
    unread: Option<(Name, u8)>,
    /// What has no date yet; `None` while there was nothing to hold.
    held: Option<Held>,
    boot_id: String,
    findings: Findings,
}

impl Spool {
    /// Opens the queue of the agent with this id below `cache_directory`, made when missing.
    ///
    /// # Errors
    /// When the directory cannot be made, read or locked.
    pub fn open(cache_directory: &Path, agent_id: &str, check: Check, limits: Limits) -> Result<Self, SpoolError> {
        Self::open_with(cache_directory, agent_id, check, limits, WINDOW)
    }

    fn open_with(
        cache_directory: &Path,
        agent_id: &str,
        check: Check,
        limits: Limits,
        window: usize,
    ) -> Result<Self, SpoolError> {
        let directory = Directory::open(cache_directory.join(agent_id))?;
        let lock = directory.lock()?;
        let (state, Remembered { newest, posted, tally, on_disk }) = State::open(&directory);
        let mut spool = Self {
            directory,
            lock,
            agent_id: agent_id.to_owned(),
            check,
            limits,
            window: Window::new(window),
            free: Free::default(),
            state,
            tally,
            earlier: tally,
            uncounted: on_disk.unwrap_or(0),
            newest: if newest < IMPLAUSIBLE { newest } else { Timestamp::default() },
            posted: if posted < IMPLAUSIBLE { posted } else { Timestamp::default() },
            inherited: newest,
            lent: None,
            fresh: None,
            tombstones: HashSet::new(),
            strange: HashSet::new(),
            unread: None,
            held: None,
            boot_id: "unknown".to_owned(),
            findings: Findings::default(),
        };
        // The first look settles nothing: it is the one that says what is inherited.
        let uncounted = std::mem::take(&mut spool.uncounted);
        spool.scan(true)?;
        spool.inherited = spool.newest;
        spool.uncounted = uncounted;
        if Directory::open_existing(spool.directory.path().join(held::UNDATED)).is_ok_and(|it| it.is_none()) {
            spool.settle();
        }
        Ok(spool)
    }

    /// The books of the spool, from its opening on.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let oldest = self.window.next(None).map(|(name, _)| name.at());
        let tally = self.tally.since(&self.earlier);
        Tally {
            found: tally.found + self.uncounted,
            on_disk: tally.on_disk + self.uncounted,
            batches: self.window.batches(),
            bytes: self.window.bytes(),
            oldest,
            ..tally
        }
    }

    /// Where the queue is, and how much disk it may take.
    #[must_use]
    pub fn place(&self) -> (&Path, Limits) {
        (self.directory.path(), self.limits)
    }

    /// The greatest stamp ever used, as far as the disk knows.
    #[must_use]
    pub fn newest(&self) -> Timestamp {
        self.newest
    }

    /// The greatest stamp that a post may have had.
    #[must_use]
    pub fn posted(&self) -> Timestamp {
        self.posted
    }

    /// From now on the queue takes no more disk than `limits` allow; what is too much goes with the next batch.
    pub fn limit(&mut self, limits: Limits) {
        (self.limits, self.free) = (limits, Free::default());
    }

    /// How many files wait in quarantine for somebody to look at them, and where; `None` when there are none.
    #[must_use]
    pub fn in_quarantine(&self) -> Option<(usize, PathBuf)> {
        let quarantine = Directory::open_existing(self.directory.path().join(QUARANTINE)).ok()??;
        let mut files = 0;
        let dots: [&[u8]; 2] = [b".", b".."];
        let count = |name: &CStr| {
            files += usize::from(!dots.contains(&name.to_bytes()));
            Ok(())
        };
        quarantine.list(count).ok()?;
        (files > 0).then(|| (files, quarantine.path().to_owned()))
    }

    /// What was found damaged since the last call.
    pub fn take_findings(&mut self) -> Findings {
        std::mem::take(&mut self.findings)
    }
}

impl Spool {
    /// Puts a batch on disk; after `Ok` it survives a crash of the process and of the machine.
    ///
    /// # Errors
    /// When the disk refuses. Nothing of it stays behind.
    pub fn append(&mut self, at: Timestamp, body: &Bytes, datapoints: usize) -> Result<Name, SpoolError> {
        let bytes = body.len() as u64;
        self.make_room(at, bytes);
        let name = Name::of(at, body);
        let file_name = name.file_name(&self.agent_id);
        match self.write(&file_name, body) {
            Err(error) if error.is_full() && self.give_way(bytes) > 0 => self.write(&file_name, body),
            written => written,
        }?;
        let datapoints = datapoints as u64;
        self.window.append(name, Entry { bytes, datapoints: Some(datapoints) });
        self.fresh = Some((name, body.clone()));
        self.tally.stored += datapoints;
        self.tally.on_disk += datapoints;
        self.newest = self.newest.max(at);
        self.save_on_disk();
        Ok(name)
    }

    fn write(&mut self, file_name: &str, content: &[u8]) -> Result<(), SpoolError> {
        let Err(error) = self.directory.write(file_name, content) else { return Ok(()) };
        let Some(anew) = self.directory.anew()? else { return Err(error) };
        self.lock = anew.lock()?;
        self.state = State::open(&anew).0;
        self.directory = anew;
        self.directory.write(file_name, content)
    }

    /// The oldest batches: as many as have `bytes` together, `count` at most, one at least. Damaged ones among
    /// them are moved to quarantine. None at all while there are some means: call again.
    ///
    /// From here on they may have been posted, whatever becomes of this process: their stamps are remembered, so that
    /// a later life, which may find others with them, gives none of these stamps to another body.
    ///
    /// # Errors
    /// When the disk refuses to read the first of them, or to move a damaged one away.
    pub fn take(&mut self, bytes: usize, count: usize) -> Result<Vec<Stored>, SpoolError> {
        let mut taken: Vec<Stored> = Vec::new();
        let mut room = bytes as u64;
        self.lent = None;
        if self.window.is_used_up() {
            self.scan(false)?;
        }
        for _ in 0..count.saturating_add(MOST_AT_ONCE) {
            let Some((name, entry)) = self.window.next(self.lent) else { break };
            if !taken.is_empty() && (taken.len() >= count || entry.bytes > room) {
                break;
            }
            match self.inspect(name) {
                Ok(Some(stored)) => {
                    room = room.saturating_sub(entry.bytes);
                    self.lent = Some(name);
                    taken.push(stored);
                }
                Ok(None) => {}
                Err(_) if !taken.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        let newest = taken.iter().map(|stored| stored.name.at()).max().unwrap_or_default();
        if newest > self.posted {
            self.posted = newest;
            self.save();
        }
        Ok(taken)
    }

    /// The batch of this name; `None` when it is one no more.
    fn inspect(&mut self, name: Name) -> Result<Option<Stored>, SpoolError> {
        let read = self.read(name);
        if let Err(error) = &read
            && error.is_of_the_file()
        {
            let failures = self.unread.filter(|&(last, _)| last == name).map_or(0, |(_, failures)| failures) + 1;
            self.unread = Some((name, failures));
            if failures >= PATIENCE {
                let why = "the disk cannot read it".to_owned();
                if self.quarantine(name, why.clone()).is_err() {
                    self.skip(name, why);
                }
                return Ok(None);
            }
        }
        match read? {
            Found::Whole(stored) => {
                self.learn(name, stored.checked.datapoints as u64);
                return Ok(Some(stored));
            }
            // A disk that does not let it be moved away must not hold up what is behind it.
            Found::Damaged(why) => {
                if self.quarantine(name, why.clone()).is_err() {
                    self.skip(name, why);
                }
            }
            Found::Strange(why) => self.skip(name, format!("it is {why}")),
            Found::Gone => self.leave(name, |tally| &mut tally.vanished),
        }
        Ok(None)
    }

    /// Keeps `body`, which holds what cannot be delivered of `name`, in quarantine. The books hear of it when
    /// the batch is acknowledged.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_aside(&mut self, name: Name, body: &[u8]) -> Result<PathBuf, SpoolError> {
        let quarantine = self.directory.subdirectory(QUARANTINE)?;
        // The same content has the same name: after a crash it is not kept twice.
        let file_name = Name::of(name.at(), body).file_name(&self.agent_id);
        quarantine.write(&file_name, body)?;
        Ok(quarantine.path().join(file_name))
    }

    /// Removes batches that were posted under the stamp `posted`, but for `quarantined` datapoints of them
    /// that were set aside.
    ///
    /// # Errors
    /// When the disk refuses; the batches then stay on disk but are not given out again in this life.
    pub fn acknowledge(&mut self, names: &[Name], posted: Timestamp, quarantined: usize) -> Result<(), SpoolError> {
        let mut datapoints = 0;
        for &name in names {
            let entry = self.forget(name);
            datapoints += entry.and_then(|entry| entry.datapoints).unwrap_or(0);
        }
        let quarantined = (quarantined as u64).min(datapoints);
        self.tally.on_disk = self.tally.on_disk.saturating_sub(datapoints);
        self.tally.quarantined += quarantined;
        self.tally.delivered += datapoints - quarantined;
        self.posted = self.posted.max(posted);
        self.lent = None;
        self.settle();
        // The names are about to go, and with them what they say about stamps.
        self.save();
        let mut result = Ok(());
        for name in names.iter().copied().chain(self.tombstones.iter().next().copied()).collect::<Vec<_>>() {
            match self.directory.remove(&name.file_name(&self.agent_id)) {
                Ok(()) => drop(self.tombstones.remove(&name)),
                Err(error) => {
                    self.tombstones.insert(name);
                    result = Err(error);
                }
            }
        }
        result
    }

    /// A post is about to have the stamp `posted`, which no batch on disk has: later stamps are to be greater, in
    /// later lives too.
    pub fn remember(&mut self, posted: Timestamp) {
        self.newest = self.newest.max(posted);
        self.posted = self.posted.max(posted);
        self.save();
    }

    /// Writes down stamps and counters, which a crash of the process then leaves alone.
    fn save(&mut self) {
        let tally = Tally { on_disk: self.tally.on_disk + self.uncounted, ..self.tally };
        let remembered = Remembered { newest: self.newest, posted: self.posted, tally, on_disk: None };
        self.state.save(&self.directory, &remembered);
    }

    /// Writes down how many datapoints are on disk, so that the next life knows without reading them.
    fn save_on_disk(&mut self) {
        self.state.save_on_disk(self.tally.on_disk + self.uncounted);
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.save();
    }
}

impl Spool {
    fn read(&self, name: Name) -> Result<Found, SpoolError> {
        // Known of what was put here by this process, which made it right.
        let datapoints = self.window.get(name).and_then(|entry| entry.datapoints);
        let ours = datapoints.map(|it| Checked { datapoints: usize::try_from(it).unwrap_or(usize::MAX), plain: true });
        let fresh = self.fresh.as_ref().filter(|(fresh, _)| *fresh == name);
        if let (Some((_, body)), Some(checked)) = (fresh, ours) {
            return Ok(Found::Whole(Stored { name, body: body.clone(), checked }));
        }
        let body = match self.directory.read(&name.file_name(&self.agent_id))? {
            Content::Whole(body) => Bytes::from(body),
            Content::Damaged(why) => return Ok(Found::Damaged(why)),
            Content::Strange(why) => return Ok(Found::Strange(why)),
            Content::Gone => return Ok(Found::Gone),
        };
        if let Some(expected) = name.crc() {
            let found = crc32c::crc32c(&body);
            if found != expected {
                return Ok(Found::Damaged(format!("its CRC-32C is {found:08x}, not {expected:08x}")));
            }
            if let Some(checked) = ours {
                return Ok(Found::Whole(Stored { name, body, checked }));
            }
        }
        Ok(match (self.check)(&body, name.at(), &self.agent_id) {
            Ok(checked) => Found::Whole(Stored { name, body, checked }),
            Err(why) => Found::Damaged(why),
        })
    }

    fn quarantine(&mut self, name: Name, why: String) -> Result<(), SpoolError> {
        let file_name = name.file_name(&self.agent_id);
        let quarantine = self.directory.subdirectory(QUARANTINE)?;
        let mut target = file_name.clone();
        let mut copy = 1;
        while quarantine.has(&target)? {
            copy += 1;
            target = format!("{file_name}.{copy}");
        }
        let from = CString::new(file_name).unwrap_or_default();
        if self.directory.move_to(&from, &quarantine, &target)? {
            self.leave(name, |tally| &mut tally.quarantined);
            self.tell(Finding { path: quarantine.path().join(target), why, moved: true });
        } else {
            self.leave(name, |tally| &mut tally.vanished);
        }
        Ok(())
    }

    /// Leaves it where it is and looks at it no more in this life.
    fn skip(&mut self, name: Name, why: String) {
        self.leave(name, |tally| &mut tally.vanished);
        self.strange.insert(name);
        let path = self.directory.path().join(name.file_name(&self.agent_id));
        self.tell(Finding { path, why, moved: false });
    }

    fn tell(&mut self, finding: Finding) {
        if self.findings.told.len() < MOST_TOLD {
            self.findings.told.push(finding);
        } else {
            self.findings.untold += 1;
        }
    }

    /// A batch turns out to hold so many datapoints.
    fn learn(&mut self, name: Name, datapoints: u64) {
        if self.window.get(name).is_some_and(|entry| entry.datapoints.is_some()) {
            return;
        }
        self.window.count(name, datapoints);
        if name.at() <= self.inherited || name.at() >= IMPLAUSIBLE {
            self.found(datapoints);
        }
    }

    /// An earlier life left so many datapoints in a batch that is read for the first time.
    fn found(&mut self, datapoints: u64) {
        self.tally.found += datapoints;
        self.tally.on_disk += datapoints;
        self.uncounted = self.uncounted.saturating_sub(datapoints);
    }

    /// A batch is no more, for this reason.
    fn leave(&mut self, name: Name, reason: impl FnOnce(&mut Tally) -> &mut u64) {
        if let Some(Entry { datapoints: Some(datapoints), .. }) = self.forget(name) {
            *reason(&mut self.tally) += datapoints;
            self.tally.on_disk = self.tally.on_disk.saturating_sub(datapoints);
        }
        self.settle();
    }

    fn forget(&mut self, name: Name) -> Option<Entry> {
        self.fresh.take_if(|(fresh, _)| *fresh == name);
        self.window.forget(name)
    }

    /// With nothing on disk, nothing is counted there: what is left is of batches of this life that were
    /// damaged while their names were beyond the window, and with the names their counts. With nothing inherited on
    /// disk, nothing is uncounted: what is left then was miscounted by a life that ended with a power cut.
    fn settle(&mut self) {
        let is_inherited = |(name, _): (Name, Entry)| name.at() <= self.inherited;
        if self.tally.held == 0 && !self.window.is_used_up() && !self.window.next(None).is_some_and(is_inherited) {
            self.uncounted = 0;
        }
        if self.window.batches() == 0 && self.tally.held == 0 {
            self.tally.quarantined += std::mem::take(&mut self.tally.on_disk);
        }
    }

    /// Lets the oldest batches go that must not stay beside a new one.
    fn make_room(&mut self, at: Timestamp, bytes: u64) {
        if let Some(age) = self.limits.max_age {
            while self.oldest_evictable().is_some_and(|(name, _)| name.at().after(age) < at) {
                if self.evict(Evicted::Age).is_none() {
                    break;
                }
            }
        }
        if let Some(max) = self.limits.max_bytes {
            while self.window.bytes().saturating_add(bytes) > max && self.evict(Evicted::Size).is_some() {}
        }
        if self.free.is_short(&self.directory, self.limits.min_free, bytes) {
            self.give_way(bytes);
        }
    }

    /// Lets the oldest batches go that have `bytes` together; returns how many they had.
    fn give_way(&mut self, bytes: u64) -> u64 {
        let mut freed = 0;
        while freed < bytes
            && let Some(more) = self.evict(Evicted::Space)
        {
            freed += more;
        }
        freed
    }

    fn oldest_evictable(&mut self) -> Option<(Name, Entry)> {
        if self.window.is_used_up() {
            self.scan(false).ok()?;
        }
        self.window.next(self.lent)
    }

    /// Lets the oldest batch go that is not given out; returns its bytes.
    fn evict(&mut self, reason: Evicted) -> Option<u64> {
        let (name, entry) = self.oldest_evictable()?;
        if entry.datapoints.is_none()
            && let Ok(Found::Whole(stored)) = self.read(name)
        {
            self.learn(name, stored.checked.datapoints as u64);
        }
        self.directory.remove(&name.file_name(&self.agent_id)).ok()?;
        self.leave(name, |tally| tally.evicted_for(reason));
        self.save();
        Some(entry.bytes)
    }

    /// Reads the directory: keeps the oldest names, counts all.
    fn scan(&mut self, first: bool) -> Result<(), SpoolError> {
        let mut refill = self.window.refill();
        let mut newest = self.newest;
        self.directory.list(|file| {
            let Some(name) = Name::parse(file.to_bytes(), &self.agent_id) else {
                // What a crash left of a batch that was being written: no other `.tmp` is ours to remove.
                let unfinished = file.to_bytes().strip_suffix(TEMPORARY.as_bytes());
                if first && unfinished.is_some_and(|name| Name::parse(name, &self.agent_id).is_some()) {
                    self.directory.remove(&file.to_string_lossy()).ok();
                }
                return Ok(());
            };
            if !self.tombstones.contains(&name) && !self.strange.contains(&name) {
                refill.offer(name);
                if name.at() < IMPLAUSIBLE {
                    newest = newest.max(name.at());
                }
            }
            Ok(())
        })?;
        self.newest = newest;
        let size = |name: Name| self.directory.size(&name.file_name(&self.agent_id)).unwrap_or(0);
        self.window.replace(refill, size);
        self.settle();
        Ok(())
    }
}

/// What is behind a name.
enum Found {
    Whole(Stored),
    Damaged(String),
    Strange(&'static str),
    Gone,
}
