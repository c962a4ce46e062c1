//! The point tables, on disk: the files `log/<table id>.points`.
//!
//! A table is durable before the first frame that names it, and goes when no segment names it. Its name is derived from
//! its content, so a damaged one is known and never understood as another. Some are held in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use super::SpoolError;
use super::disk::{Disk, read_whole};
use super::log::DIRECTORY;
use super::source::Patience;
use crate::reading::points::{PointTable, TableId};

/// So many are held though nobody else holds them: a backlog of two configurations, read by two outputs.
const HELD: usize = 4;

/// How the name of a point table ends.
const EXTENSION: &str = ".points";

/// Which tables there are.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Bytes of those on disk.
    on_disk: BTreeMap<TableId, u64>,
    /// Those on disk of which this life knows that they are whole.
    sound: BTreeSet<TableId>,
    /// The one used last is the last.
    held: Vec<Arc<PointTable>>,
    weak: BTreeMap<TableId, Weak<PointTable>>,
}

impl Tables {
    /// There is a file `name` of `bytes` bytes; whether it has the name of a table.
    pub(super) fn found(&mut self, id: TableId, bytes: u64) {
        self.on_disk.insert(id, bytes);
    }

    /// Bytes of all on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.on_disk.values().fold(0, |sum, &bytes| sum.saturating_add(bytes))
    }

    /// `table` is about to be named: it must be on disk, durably.
    pub(super) fn name(&mut self, disk: &mut dyn Disk, table: &Arc<PointTable>) -> Result<(), SpoolError> {
        let id = table.id();
        if self.sound.contains(&id) {
            return Ok(());
        }
        let text = table.to_text();
        // One of an earlier life may be damaged by now.
        let whole = self.on_disk.contains_key(&id)
            && read_whole(disk, &path(id)).is_ok_and(|on_disk| on_disk.as_ref() == Some(&text));
        if !whole {
            disk.replace(&path(id), &text)?;
        }
        self.on_disk.insert(id, text.len() as u64);
        self.sound.insert(id);
        self.hold(Arc::clone(table));
        Ok(())
    }

    /// The table of this id; `None` when it is missing or damaged.
    pub(super) fn get(
        &mut self,
        disk: &mut dyn Disk,
        patience: &mut Patience,
        id: TableId,
    ) -> Result<Option<Arc<PointTable>>, SpoolError> {
        // While anybody holds it (the configuration, batches in memory) all share that one, and the disk is not asked.
        if let Some(table) = self.weak.get(&id).and_then(Weak::upgrade) {
            if self.held.last().is_none_or(|last| last.id() != id) {
                self.hold(Arc::clone(&table));
            }
            return Ok(Some(table));
        }
        let path = path(id);
        let text = match read_whole(disk, &path) {
            Ok(text) => text,
            Err(error) if error.is_of_the_medium() && patience.failed(&path, 0) => None,
            // No later attempt would end otherwise: the frames that name it count as damaged, and what is behind them
            // goes on.
            Err(SpoolError::NotAFile { .. } | SpoolError::TooLarge { .. }) => None,
            Err(error) => return Err(error),
        };
        let table = text.and_then(|text| PointTable::from_text(&text, id).ok()).map(Arc::new);
        match &table {
            Some(table) => self.hold(Arc::clone(table)),
            // The next batch that names it writes it anew.
            None => drop(self.sound.remove(&id)),
        }
        Ok(table)
    }

    fn hold(&mut self, table: Arc<PointTable>) {
        // Otherwise an entry would stay for each configuration that has ever been.
        self.weak.retain(|_, table| table.strong_count() > 0);
        self.weak.insert(table.id(), Arc::downgrade(&table));
        self.held.retain(|held| held.id() != table.id());
        if self.held.len() >= HELD {
            self.held.remove(0);
        }
        self.held.push(table);
    }

    /// Takes those from the disk that no segment names; it does not matter when the disk refuses.
    pub(super) fn retain(&mut self, disk: &mut dyn Disk, named: &BTreeSet<TableId>) {
        let unnamed: Vec<_> = self.on_disk.keys().filter(|id| !named.contains(id)).copied().collect();
        for id in unnamed {
            if disk.remove(&path(id)).is_ok() {
                self.on_disk.remove(&id);
                self.sound.remove(&id);
            }
        }
    }

    /// The files are gone.
    pub(super) fn forget_disk(&mut self) {
        self.on_disk.clear();
        self.sound.clear();
    }
}

fn path(id: TableId) -> String {
    format!("{DIRECTORY}/{:016x}{EXTENSION}", id.0)
}

/// The id of the table with this file name.
pub(super) fn id_of(name: &str) -> Option<TableId> {
    hex16(name.strip_suffix(EXTENSION)?).map(TableId)
}

/// Sixteen hexadecimal digits as [`format!`] writes them: one text for each number.
pub(super) fn hex16(text: &str) -> Option<u64> {
    let canonical = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(text, 16).ok().filter(|_| canonical)
}
