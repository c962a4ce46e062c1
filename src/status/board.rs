//! How each device and the server are just now, written by the actors that know it.
//!
//! Cells of plain data behind short locks: a writer never waits for a reader that is slow, because readers
//! copy. What is not failing has no entry, so a healthy device costs a few words.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::health::Trouble;
use crate::reading::Timestamp;

/// One device as its actor sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceState {
    /// How many points are read from it.
    pub points: usize,
    /// Polls that ended, whatever came of them.
    pub polls: u64,
    /// Polls skipped because the one before them still ran.
    pub overruns: u64,
    /// Readings that it gave.
    pub readings: u64,
    /// When it gave the last one.
    pub last_good: Option<Timestamp>,
    /// Whether the last poll got any answer; `None` before the first has ended.
    pub answered: Option<bool>,
    /// When that last changed.
    pub since: Timestamp,
    /// What is failing now, by what it is called in the log.
    pub troubles: BTreeMap<String, Trouble>,
}

impl DeviceState {
    /// A poll has ended at `now` with this many readings.
    pub fn polled(&mut self, answered: bool, readings: usize, skipped: u64, now: Timestamp) {
        self.polls += 1;
        self.overruns += skipped;
        self.readings += readings as u64;
        if readings > 0 {
            self.last_good = Some(now);
        }
        if self.answered != Some(answered) {
            self.answered = Some(answered);
            self.since = now;
        }
    }

    /// What is failing now, by what it is called in the log.
    pub fn tell_troubles(&mut self, troubles: impl Iterator<Item = (String, Trouble)>) {
        self.troubles.clear();
        self.troubles.extend(troubles);
    }
}

/// The server as the poster sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerState {
    /// When it last took a post.
    pub last_success: Option<Timestamp>,
    /// Posts that it took.
    pub posts: u64,
    /// What is failing now, if anything.
    pub trouble: Option<Trouble>,
    /// When it is tried again after that.
    pub next_attempt: Option<Timestamp>,
}

impl ServerState {
    /// It took a post at `now`.
    pub fn took(&mut self, now: Timestamp) {
        *self = Self { last_success: Some(now), posts: self.posts + 1, trouble: None, next_attempt: None };
    }

    /// A post or a question failed at `now`; the next attempt is after `pause`.
    pub fn refused(&mut self, cause: String, now: Timestamp, pause: Duration) {
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        self.trouble = Some(Trouble { since, cause });
        self.next_attempt = Some(now.after(pause));
    }
}

/// What the actors share with whoever asks how they are.
#[derive(Debug, Default)]
pub struct Board {
    devices: Mutex<BTreeMap<String, Arc<Cell<DeviceState>>>>,
    server: Cell<ServerState>,
}

impl Board {
    /// The cell of a device, by its name in the log; the one it has had before, when its actor is started again.
    #[must_use]
    pub fn device(&self, name: &str) -> Arc<Cell<DeviceState>> {
        Arc::clone(lock(&self.devices).entry(name.to_owned()).or_default())
    }

    /// The device is configured no more.
    pub fn forget(&self, name: &str) {
        lock(&self.devices).remove(name);
    }

    /// Every device, in order of name.
    #[must_use]
    pub fn devices(&self) -> Vec<(String, DeviceState)> {
        // Cells are read after the list is free again: no device waits for ten thousand others.
        let cells: Vec<_> = lock(&self.devices).iter().map(|(name, cell)| (name.clone(), Arc::clone(cell))).collect();
        cells.into_iter().map(|(name, cell)| (name, cell.read())).collect()
    }

    /// The server's cell.
    #[must_use]
    pub fn server(&self) -> &Cell<ServerState> {
        &self.server
    }
}

/// A value that one thread writes and others copy.
#[derive(Debug, Default)]
pub struct Cell<T>(Mutex<T>);

impl<T: Clone> Cell<T> {
    /// Changes it.
    pub fn write(&self, change: impl FnOnce(&mut T)) {
        change(&mut lock(&self.0));
    }

    /// A copy.
    #[must_use]
    pub fn read(&self) -> T {
        lock(&self.0).clone()
    }
}

/// A panic in between leaves plain data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_as_its_last_poll_was_since_the_first_of_that_kind() {
        let board = Board::default();
        let cell = board.device("meter");
        for (second, answered) in [(1, true), (2, true), (3, false), (4, false)] {
            let at = Timestamp::from_millis(second * 1_000);
            cell.write(|state| state.polled(answered, usize::from(answered) * 5, 0, at));
        }
        let state = &board.devices()[0].1;
        assert_eq!((state.polls, state.readings, state.answered), (4, 10, Some(false)));
        assert_eq!(state.since.as_millis(), 3_000);
        assert_eq!(state.last_good.unwrap().as_millis(), 2_000);
        board.forget("meter");
        assert!(board.devices().is_empty());
    }
}
