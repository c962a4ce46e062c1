//! The disk of a run: which of its operations fail, and for how long a job takes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use pattoo_agent_modbustcpd::spool::{Limits, MinFree};

use super::scenario::{CAPACITY, DiskFault};
use super::sim_disk::{EACCES, EIO, ENOSPC, EROFS, SimDisk};

/// What others leave of a disk on which something is to stay free, besides that.
const TIGHT: u64 = 150_000;

/// A disk, and what is wrong with it.
pub struct FaultyDisk {
    pub disk: SimDisk,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    faults: Vec<DiskFault>,
    /// The process ends after so many operations.
    ends_after: Option<u64>,
}

impl State {
    fn fails(&mut self, action: &str) -> Option<i32> {
        if let Some(left) = &mut self.ends_after {
            if *left == 0 {
                return Some(EIO);
            }
            *left -= 1;
        }
        let reads = matches!(action, "read" | "list" | "stat");
        let syncs = matches!(action, "fsync");
        let grows = matches!(action, "write" | "create" | "replace");
        self.faults.iter().find_map(|fault| match fault {
            DiskFault::Full if grows => Some(ENOSPC),
            DiskFault::ReadOnly if !reads => Some(EROFS),
            DiskFault::BadWrites if grows => Some(EIO),
            DiskFault::BadSyncs if syncs || action == "replace" => Some(EIO),
            // What is open stays open.
            DiskFault::Unreadable if !matches!(action, "write" | "fsync") => Some(EACCES),
            _ => None,
        })
    }
}

impl FaultyDisk {
    pub fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let state = Arc::<Mutex<State>>::default();
        let hook = Arc::clone(&state);
        {
            let mut world = disk.world();
            world.capacity = Some(CAPACITY);
            world.hook = Some(Box::new(move |action, _| hook.lock().unwrap().fails(action)));
        }
        Self { disk, state }
    }

    /// From now on this is wrong.
    pub fn set(&self, now: Duration, faults: Vec<DiskFault>, limits: &Limits) {
        let mut world = self.disk.world();
        world.now = now;
        let paths = world.paths();
        let ours: u64 = paths.iter().map(|path| world.content(path).len() as u64).sum();
        let free = match limits.min_free {
            // Less is short of only when somebody fills the disk.
            MinFree::Bytes(bytes) if bytes >= 1 << 20 => bytes + TIGHT,
            _ => CAPACITY,
        };
        // Somebody else takes all that is left, and what we let go, too.
        world.others = if faults.contains(&DiskFault::Full) { CAPACITY - ours } else { CAPACITY - free };
        world.rate =
            faults.iter().map(|fault| if let DiskFault::Flaky(rate) = fault { *rate } else { 0 }).max().unwrap_or(0);
        self.state.lock().unwrap().faults = faults;
    }

    /// The process ends within `operations`, or `None`: it goes on.
    pub fn end_after(&self, operations: Option<u64>) {
        self.state.lock().unwrap().ends_after = operations;
    }

    /// How long a job takes that hangs nowhere.
    pub fn takes(faults: &[DiskFault], rng: &mut Rng) -> Duration {
        let slow = faults.iter().find_map(|fault| if let DiskFault::Slow(ms) = fault { Some(*ms) } else { None });
        Duration::from_millis(rng.u64(1..=slow.unwrap_or(5)))
    }

    /// Somebody removes a segment; whether there was one, and whether it was the newest.
    pub fn remove(&self, which: u8) -> Option<bool> {
        let (path, newest) = self.segment(which)?;
        self.state.lock().unwrap().faults.clear();
        let mut world = self.disk.world();
        world.rate = 0;
        drop(world);
        pattoo_agent_modbustcpd::spool::Disk::remove(&mut self.disk.clone(), &path).unwrap();
        Some(newest)
    }

    /// Some bits of a segment change; whether there was one, and whether it was the newest.
    pub fn rot(&self, which: u8, rng: &mut Rng) -> Option<bool> {
        let (path, newest) = self.segment(which)?;
        let mut world = self.disk.world();
        let content = world.content(&path);
        if content.is_empty() {
            return None;
        }
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(0..content.len());
            content[at] ^= 1 << rng.u8(0..8);
        }
        Some(newest)
    }

    fn segment(&self, which: u8) -> Option<(String, bool)> {
        let paths: Vec<_> = self.disk.world().paths().into_iter().filter(|path| path.ends_with(".segment")).collect();
        let place = match which % 3 {
            0 => 0,
            1 => paths.len().checked_sub(1)?,
            _ => usize::from(which) % paths.len().max(1),
        };
        let newest = place + 1 == paths.len();
        paths.get(place).cloned().map(|path| (path, newest))
    }
}
