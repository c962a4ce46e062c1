//! What is configured just now, and which of it answers: for outputs that tell of devices and not of readings alone.
//!
//! Whoever polls writes here, an output reads and is woken by each change. Neither waits for the other, and readings do not come
//! this way: they come from the log, in order, however late. So an output may learn that a device is away before its last readings
//! have reached it.
//!
//! A device is a unit at an address, as the point table names it. One that has never answered and is not yet known to be away is
//! neither: nothing is said of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::reading::points::{Device, PointTable};

/// After so many polls in a row without an answer a device is away: one lost reply is no absence.
pub const AWAY_AFTER: u32 = 3;

/// A unit at an address.
pub type Unit = (String, u8);

/// The unit that a device of a point table is.
#[must_use]
pub fn unit(device: &Device) -> Unit {
    (device.device.clone(), device.unit)
}

/// What all share that know of the plant.
#[derive(Debug, Clone)]
pub struct Plant(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Shared with whoever looks, and made anew when it changes meanwhile.
    now: Mutex<Arc<Now>>,
    changes: watch::Sender<()>,
}

/// How it is just now.
#[derive(Debug, Clone, Default)]
pub struct Now {
    /// What is configured; `None` before anybody has said so.
    pub table: Option<Arc<PointTable>>,
    /// Of each unit of which that is known, whether it answers.
    pub answers: HashMap<Unit, bool>,
}

impl Default for Plant {
    fn default() -> Self {
        Self(Arc::new(Shared { now: Mutex::default(), changes: watch::Sender::new(()) }))
    }
}

impl Plant {
    /// This is configured from now on. What is configured no more is forgotten.
    pub fn configure(&self, table: &Arc<PointTable>) {
        let units: HashSet<Unit> = table.iter().map(|point| unit(point.device)).collect();
        self.change(|now| {
            now.answers.retain(|unit, _| units.contains(unit));
            now.table = Some(Arc::clone(table));
        });
    }

    /// Some units answer from now on, or do not.
    pub fn say(&self, changes: impl IntoIterator<Item = (Unit, bool)>) {
        let known = self.now();
        // What is known already wakes nobody.
        let changes = changes.into_iter().filter(|(unit, answers)| known.answers.get(unit) != Some(answers));
        let changes: Vec<_> = changes.collect();
        drop(known);
        if !changes.is_empty() {
            self.change(|now| now.answers.extend(changes));
        }
    }

    /// How it is just now.
    #[must_use]
    pub fn now(&self) -> Arc<Now> {
        Arc::clone(&self.lock())
    }

    /// What says when that has changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        // Whoever looks just now keeps what he has: a copy is changed then.
        change(Arc::make_mut(&mut self.lock()));
        self.0.changes.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Now>> {
        // A panic in between leaves plain data.
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often in a row each unit of one device has not answered.
#[derive(Debug, Default)]
pub struct Absences(BTreeMap<u8, u32>);

impl Absences {
    /// A poll has ended: these units have given something, these have not answered. What is to be said of them now.
    pub fn polled(
        &mut self,
        answered: impl IntoIterator<Item = u8>,
        silent: impl IntoIterator<Item = u8>,
    ) -> Vec<(u8, bool)> {
        let mut changes = Vec::new();
        for unit in answered {
            // 0 is there and told; a unit of which nothing is known yet is told, too.
            if self.0.insert(unit, 0) != Some(0) {
                changes.push((unit, true));
            }
        }
        for unit in silent {
            // One that has given something in this poll was away for a moment only.
            if changes.contains(&(unit, true)) {
                continue;
            }
            let failures = self.0.entry(unit).or_default();
            *failures = failures.saturating_add(1);
            // Equal, not more: it is told once.
            if *failures == AWAY_AFTER {
                changes.push((unit, false));
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reading::points::{Builder, Kind, Register};

    #[test]
    fn a_unit_is_away_after_three_polls_and_there_after_one() {
        let mut absences = Absences::default();
        assert_eq!(absences.polled([1], [2]), [(1, true)]);
        assert_eq!(absences.polled([1], [2]), []);
        assert_eq!(absences.polled([1], [2]), [(2, false)]);
        assert_eq!(absences.polled([], [1, 2]), [], "told once");
        assert_eq!(absences.polled([1], []), [(1, true)], "whoever was told otherwise is put right");
        assert_eq!(absences.polled([2], []), [(2, true)]);
        assert_eq!(absences.polled([1, 2], []), []);
    }

    #[test]
    fn what_is_configured_no_more_is_forgotten_and_only_changes_wake() {
        let table = |names: &[&str]| {
            let mut builder = Builder::new("4c", "host", Duration::from_secs(1));
            for name in names {
                builder.push(&Device::new(name, 1, "g", 1_000), &Register::new("k", "t", 1, Kind::Float));
            }
            Arc::new(builder.build())
        };
        let plant = Plant::default();
        let mut changes = plant.changes();
        let unit = |name: &str| (name.to_owned(), 1);
        let mut woken = || {
            changes.has_changed().unwrap() && {
                changes.mark_unchanged();
                true
            }
        };
        assert!(!woken());
        plant.configure(&table(&["a", "b"]));
        assert!(woken());
        plant.say([(unit("a"), true), (unit("b"), false)]);
        assert!(woken());
        plant.say([(unit("a"), true)]);
        assert!(!woken());
        plant.configure(&table(&["b"]));
        assert!(woken());
        assert_eq!(plant.now().answers, HashMap::from([(unit("b"), false)]));
    }
}
