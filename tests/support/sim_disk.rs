//! A disk in memory that fails as disks do, for simulations of the log.
//!
//! Whoever includes this file has `Disk`, `Space`, `Stat` and `SpoolError` in scope. A clone is the same disk, so a test keeps
//! one, gives the log another, and after a crash opens a new log on it.
//!
//! What it models: a kill of the process changes nothing. A power cut keeps what was synced; of what was not, any part of
//! each write, and of new and removed names the first so many. A failed write leaves any part of its bytes. A failed sync
//! drops what it should have made durable, though it can still be read. Which operation fails is said by a rate or a hook.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Disk, Space, SpoolError, Stat};

pub const EIO: i32 = 5;
pub const EACCES: i32 = 13;
pub const EMFILE: i32 = 24;
pub const ENOSPC: i32 = 28;
pub const EROFS: i32 = 30;
const ENOENT: i32 = 2;
const EEXIST: i32 = 17;

/// What a write tears at.
const SECTOR: usize = 512;

/// Says with which errno an operation on a path fails, if it does.
pub type Hook = Box<dyn FnMut(&'static str, &str) -> Option<i32> + Send>;

/// A disk in memory.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<World>>);

/// All there is to it.
pub struct World {
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    renamed: Vec<(String, Option<usize>)>,
    files: Vec<File>,
    random: u64,
    /// The time since the disk was made.
    pub now: Duration,
    /// How many bytes it holds; `None` for as many as you like.
    pub capacity: Option<u64>,
    /// What others have on it.
    pub others: u64,
    /// Whether others take whatever becomes free.
    pub eaten: bool,
    /// Of a thousand operations so many fail.
    pub rate: u64,
    /// Says what else fails.
    pub hook: Option<Hook>,
    /// How many operations of each kind there were.
    pub operations: BTreeMap<&'static str, u64>,
    /// Blocks of 4 KiB that cannot be read.
    pub bad: BTreeSet<(String, u64)>,
}

#[derive(Default, Clone)]
struct File {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// A failed sync has dropped something.
    dropped: bool,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

impl File {
    fn change(&mut self, change: Change) {
        match &change {
            Change::Write(at, bytes) => put(&mut self.live, *at, bytes),
            Change::Cut(length) => self.live.truncate(*length),
        }
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write(at, bytes) => put(&mut self.durable, at, &bytes),
                Change::Cut(length) => self.durable.truncate(length),
            }
        }
    }
}

impl World {
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below.max(1)
    }

    fn used(&self) -> u64 {
        self.names.values().map(|&file| self.files[file].live.len() as u64).sum::<u64>() + self.others
    }

    fn link(&mut self, path: &str, file: Option<usize>) {
        match file {
            Some(file) => self.names.insert(path.to_owned(), file),
            None => self.names.remove(path),
        };
        self.renamed.push((path.to_owned(), file));
    }

    fn fault(&mut self, action: &'static str, path: &str) -> Option<i32> {
        *self.operations.entry(action).or_default() += 1;
        if let Some(errno) = self.hook.as_mut().and_then(|hook| hook(action, path)) {
            return Some(errno);
        }
        let rate = self.rate;
        (rate > 0 && self.random(1_000) < rate).then(|| {
            let reads = matches!(action, "read" | "list" | "stat");
            // What the medium cannot read stays so: see `bad`.
            let errnos = if reads { [EACCES, EMFILE, EACCES] } else { [EIO, ENOSPC, EACCES] };
            errnos[usize::try_from(self.random(3)).unwrap()]
        })
    }

    /// The process dies. What a failed sync has dropped is written again by the process that has seen it fail and by no
    /// other: a failed sync, a kill and a power cut, one after the other, are more than is promised.
    pub fn kill(&mut self) {
        for file in self.files.iter_mut().filter(|file| file.dropped) {
            file.dropped = false;
            let same = file.live.iter().zip(&file.durable).take_while(|(live, durable)| live == durable).count();
            let missing = file.live.get(same..).unwrap_or_default().to_vec();
            file.pending.extend([Change::Cut(file.live.len()), Change::Write(same, missing)]);
        }
    }

    /// Power goes and comes back.
    pub fn power_cut(&mut self) {
        let kept = usize::try_from(self.random(self.renamed.len() as u64 + 1)).unwrap();
        for (path, file) in std::mem::take(&mut self.renamed).into_iter().take(kept) {
            match file {
                Some(file) => self.durable_names.insert(path, file),
                None => self.durable_names.remove(&path),
            };
        }
        self.names = self.durable_names.clone();
        for file in 0..self.files.len() {
            self.files[file].dropped = false;
            for change in std::mem::take(&mut self.files[file].pending) {
                let luck = self.random(4);
                match change {
                    _ if luck == 0 => {}
                    Change::Cut(length) => self.files[file].durable.truncate(length),
                    Change::Write(at, bytes) => {
                        let sectors = self.random((bytes.len() / SECTOR) as u64 + 1);
                        let part = if luck == 1 { usize::try_from(sectors).unwrap() * SECTOR } else { bytes.len() };
                        // The size may be there before the bytes are.
                        let bytes = if luck == 2 { vec![0; bytes.len()] } else { bytes };
                        put(&mut self.files[file].durable, at, &bytes[..part]);
                    }
                }
            }
            self.files[file].live = self.files[file].durable.clone();
        }
    }

    /// The files there are.
    pub fn paths(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    /// The content of a file, to be looked at or damaged.
    pub fn content(&mut self, path: &str) -> &mut Vec<u8> {
        let file = self.names[path];
        &mut self.files[file].live
    }

    /// Makes a file, durably, as somebody else would.
    pub fn plant(&mut self, path: &str, content: &[u8]) {
        self.files.push(File { live: content.to_vec(), durable: content.to_vec(), ..File::default() });
        self.names.insert(path.to_owned(), self.files.len() - 1);
        self.durable_names.insert(path.to_owned(), self.files.len() - 1);
    }
}

impl SimDisk {
    /// An empty disk; everything that it does by chance follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            renamed: Vec::new(),
            files: Vec::new(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: Duration::ZERO,
            capacity: None,
            others: 0,
            eaten: false,
            rate: 0,
            hook: None,
            operations: BTreeMap::new(),
            bad: BTreeSet::new(),
        })))
    }

    /// The world behind it.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, action: &'static str, path: &str) -> Result<MutexGuard<'_, World>, SpoolError> {
        let mut world = self.world();
        match world.fault(action, path) {
            Some(errno) => Err(failed(action, path, errno)),
            None => Ok(world),
        }
    }
}

fn failed(action: &'static str, path: &str, errno: i32) -> SpoolError {
    SpoolError::Io { action, path: Path::new("/sim").join(path), source: io::Error::from_raw_os_error(errno) }
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl Disk for SimDisk {
    fn root(&self) -> &Path {
        Path::new("/sim")
    }

    fn uptime(&self) -> Duration {
        self.world().now
    }

    fn list(&mut self, directory: &str, visit: &mut dyn FnMut(&str)) -> Result<(), SpoolError> {
        let world = self.begin("list", directory)?;
        let mut names = BTreeSet::new();
        for path in world.names.keys() {
            let inside = if directory.is_empty() { Some(&**path) } else { path.strip_prefix(directory) };
            let inside = inside.filter(|inside| directory.is_empty() || inside.starts_with('/'));
            names.extend(inside.and_then(|inside| inside.trim_start_matches('/').split('/').next()).map(str::to_owned));
        }
        drop(world);
        for name in &names {
            visit(name);
        }
        Ok(())
    }

    fn stat(&mut self, path: &str) -> Result<Stat, SpoolError> {
        let world = self.begin("stat", path)?;
        let file = world.names.get(path);
        Ok(file.map_or(Stat::Missing, |&file| Stat::File(world.files[file].live.len() as u64)))
    }

    fn create(&mut self, path: &str) -> Result<(), SpoolError> {
        let mut world = self.begin("create", path)?;
        if world.names.contains_key(path) {
            return Err(failed("create", path, EEXIST));
        }
        world.files.push(File::default());
        let file = world.files.len() - 1;
        world.link(path, Some(file));
        Ok(())
    }

    fn write_at(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), SpoolError> {
        let mut world = self.world();
        let fault = world.fault("write", path);
        let Some(&file) = world.names.get(path) else { return Err(failed("write", path, ENOENT)) };
        let grows = (at(offset) + bytes.len()).saturating_sub(world.files[file].live.len()) as u64;
        let room = world.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(world.used()));
        let errno = fault.or((grows > room).then_some(ENOSPC));
        let part = match errno {
            Some(_) => at(world.random(bytes.len() as u64 + 1))
                .min(bytes.len() - at(grows.saturating_sub(room)).min(bytes.len())),
            None => bytes.len(),
        };
        world.files[file].change(Change::Write(at(offset), bytes[..part].to_vec()));
        errno.map_or(Ok(()), |errno| Err(failed("write", path, errno)))
    }

    fn read_at(&mut self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, SpoolError> {
        let world = self.begin("read", path)?;
        let Some(&file) = world.names.get(path) else { return Err(failed("read", path, ENOENT)) };
        let content = world.files[file].live.get(at(offset)..).unwrap_or_default();
        let length = content.len().min(buffer.len());
        let blocks = offset / 4096..(offset + length as u64).div_ceil(4096);
        if blocks.into_iter().any(|block| world.bad.contains(&(path.to_owned(), block))) {
            return Err(failed("read", path, EIO));
        }
        buffer[..length].copy_from_slice(&content[..length]);
        Ok(length)
    }

    fn truncate(&mut self, path: &str, length: u64) -> Result<(), SpoolError> {
        let mut world = self.begin("cut", path)?;
        let Some(&file) = world.names.get(path) else { return Err(failed("cut", path, ENOENT)) };
        world.files[file].change(Change::Cut(at(length)));
        Ok(())
    }

    fn sync(&mut self, path: &str) -> Result<(), SpoolError> {
        let mut world = self.world();
        let fault = world.fault("fsync", path);
        let Some(&file) = world.names.get(path) else { return Err(failed("fsync", path, ENOENT)) };
        if fault.is_none() {
            world.files[file].sync();
        } else {
            world.files[file].pending.clear();
            world.files[file].dropped = true;
        }
        fault.map_or(Ok(()), |errno| Err(failed("fsync", path, errno)))
    }

    fn sync_directory(&mut self, directory: &str) -> Result<(), SpoolError> {
        let mut world = self.begin("fsync", directory)?;
        let within = |path: &str| path.rsplit_once('/').map_or("", |(parent, _)| parent) == directory;
        for (path, file) in std::mem::take(&mut world.renamed) {
            if !within(&path) {
                world.renamed.push((path, file));
                continue;
            }
            match file {
                Some(file) => world.durable_names.insert(path, file),
                None => world.durable_names.remove(&path),
            };
        }
        Ok(())
    }

    fn replace(&mut self, path: &str, content: &[u8]) -> Result<(), SpoolError> {
        let mut world = self.world();
        let room = world.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(world.used()));
        let full = (content.len() as u64 > room).then_some(ENOSPC);
        let fault = world.fault("replace", path).or(full);
        if fault.is_none() || (full.is_none() && world.random(2) == 0) {
            world.files.push(File { live: content.to_vec(), durable: content.to_vec(), ..File::default() });
            let file = world.files.len() - 1;
            world.link(path, Some(file));
        }
        drop(world);
        if let Some(errno) = fault {
            return Err(failed("replace", path, errno));
        }
        self.sync_directory(path.rsplit_once('/').map_or("", |(parent, _)| parent))
    }

    fn remove(&mut self, path: &str) -> Result<(), SpoolError> {
        let mut world = self.begin("remove", path)?;
        if let Some(&file) = world.names.get(path) {
            if world.eaten {
                world.others += world.files[file].live.len() as u64;
            }
            world.link(path, None);
        }
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<bool, SpoolError> {
        let mut world = self.begin("rename", from)?;
        let Some(file) = world.names.get(from).copied() else { return Ok(false) };
        world.link(to, Some(file));
        world.link(from, None);
        Ok(true)
    }

    fn space(&mut self) -> Option<Space> {
        let world = self.world();
        let total = world.capacity?;
        Some(Space { free: total.saturating_sub(world.used()), total })
    }
}
