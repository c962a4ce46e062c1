//! How each device and the server are just now, written by the actors that know it.
//!
//! Slots of plain data behind short locks: a writer never waits for a reader that is slow, because readers
//! copy. What is not failing has no entry, so a healthy device costs a few words.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::availability::Availability;
use super::polls::Polls;
use super::values::{Budget, Values};
use crate::outage::Fault;
use crate::reading::Timestamp;
use crate::time::clock::Moment;

/// How a device is; the worst first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// None of its points can be read.
    Down,
    /// Some of its points cannot be read.
    Degraded,
    /// Its first poll has not ended.
    #[default]
    Starting,
    /// Every point can be read.
    Up,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "down",
            Self::Degraded => "degraded",
            Self::Starting => "starting",
            Self::Up => "up",
        })
    }
}

/// One device as its actor sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceState {
    /// How it is.
    pub state: State,
    /// When that last changed; `None` before the first poll has ended.
    pub since: Option<Timestamp>,
    /// How many points are read from it.
    pub points: usize,
    /// Of those, the ones that it refuses with an exception.
    pub refused: usize,
    /// Of those, the ones that could not be read when they were last due, refused ones included.
    pub missing: usize,
    /// Polls that ended, whatever came of them.
    pub polls: u64,
    /// Polls skipped because the one before them still ran.
    pub overruns: u64,
    /// Readings that it gave.
    pub readings: u64,
    /// When it gave the last one.
    pub last_good: Option<Timestamp>,
    /// How long the last poll took.
    pub took: Duration,
    /// The first value that the last poll gave.
    pub value: Option<f64>,
    /// The name of that value, if it has one.
    pub value_name: Option<String>,
    /// The name of the device, if the configuration gives it one.
    pub label: Option<String>,
    /// What is failing now, by what it is called in the log.
    pub faults: Vec<(String, Fault)>,
    /// What was learned of it besides refused values, a sentence each.
    pub learned: Vec<String>,
    /// The polling groups that read it, sorted.
    pub groups: Vec<String>,
    /// When the last poll ended.
    pub last_poll: Option<Timestamp>,
    /// How it was in each minute of the last hour.
    pub availability: Availability,
    /// Requests and connections that failed.
    pub failures: u64,
}

/// What a poll has shown of a device.
#[derive(Debug, Default)]
pub struct Polled {
    /// Readings that it gave.
    pub readings: usize,
    /// Polls skipped meanwhile.
    pub skipped: u64,
    /// Points that cannot be read now, whenever that was last tried.
    pub failing: usize,
    /// Of those, the ones that it refuses with an exception.
    pub refused: usize,
    /// How long it took.
    pub took: Duration,
    /// The first value that it gave.
    pub value: Option<f64>,
    /// The name of that value, if it has one.
    pub value_name: Option<String>,
    /// What is failing now.
    pub faults: Vec<(String, Fault)>,
    /// What was learned of it besides refused values, a sentence each.
    pub learned: Vec<String>,
    /// Requests and connections that failed in it.
    pub failures: usize,
}

impl DeviceState {
    /// A poll has ended at `now`.
    pub fn polled(&mut self, polled: Polled, now: Moment) {
        self.polls += 1;
        self.failures += polled.failures as u64;
        self.last_poll = Some(now.wall);
        self.overruns += polled.skipped;
        self.readings += polled.readings as u64;
        (self.missing, self.refused) = (polled.failing, polled.refused);
        (self.took, self.learned) = (polled.took, polled.learned);
        (self.value, self.value_name) = (polled.value, polled.value_name);
        if polled.readings > 0 {
            self.last_good = Some(now.wall);
        }
        let state = match polled.failing {
            0 => State::Up,
            failing if failing < self.points => State::Degraded,
            _ => State::Down,
        };
        self.enter(state, polled.faults, now);
    }

    /// Its actor panicked at `now` and is started again after `wait`.
    pub fn crashed(&mut self, wait: &str, now: Moment) {
        let cause = format!("its actor panicked, which is a bug; it is started again in {wait}");
        self.enter(State::Down, vec![("the agent".to_owned(), Fault { since: now.wall, cause })], now);
    }

    fn enter(&mut self, state: State, faults: Vec<(String, Fault)>, now: Moment) {
        // Another cause of the same state does not begin it anew.
        if self.state != state {
            self.since = Some(now.wall);
        }
        self.availability.enter(state, now.boot);
        (self.state, self.faults) = (state, faults);
    }
}

/// The server of an output as the poster sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerState {
    /// When it last took a post.
    pub last_success: Option<Timestamp>,
    /// Posts that it took.
    pub posts: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// What is failing now, if anything.
    pub fault: Option<Fault>,
    /// When it is tried again after that.
    pub next_attempt: Option<Timestamp>,
}

impl ServerState {
    /// It took a post at `now`.
    pub fn took(&mut self, now: Timestamp) {
        let (posts, failures) = (self.posts + 1, self.failures);
        // Fault and next attempt go with it: the failure is over.
        *self = Self { last_success: Some(now), posts, failures, ..Self::default() };
    }

    /// A post or a question failed at `now`; the next attempt is after `pause`.
    pub fn refused(&mut self, cause: String, now: Timestamp, pause: Duration) {
        // The first failure's time stays, and the last one's cause.
        let since = self.fault.as_ref().map_or(now, |fault| fault.since);
        self.fault = Some(Fault { since, cause });
        self.failures += 1;
        self.next_attempt = Some(now.after(pause));
    }
}

/// What the actors share with whoever asks how they are.
#[derive(Debug, Default)]
pub struct Registry {
    devices: Mutex<BTreeMap<String, Arc<Slot<DeviceState>>>>,
    values: Mutex<BTreeMap<String, Arc<Slot<Values>>>>,
    budget: Arc<Budget>,
    outputs: Mutex<BTreeMap<String, Arc<Slot<ServerState>>>>,
    polls: Polls,
}

impl Registry {
    /// The slot of a device, by its name in the log; the one it has had before, when its actor is started again.
    #[must_use]
    pub fn device(&self, name: &str) -> Arc<Slot<DeviceState>> {
        Arc::clone(lock(&self.devices).entry(name.to_owned()).or_default())
    }

    /// The device is configured no more.
    pub fn forget(&self, name: &str) {
        lock(&self.devices).remove(name);
        lock(&self.values).remove(name);
    }

    /// The slot of the values of a device.
    #[must_use]
    pub fn values(&self, name: &str) -> Arc<Slot<Values>> {
        Arc::clone(lock(&self.values).entry(name.to_owned()).or_default())
    }

    /// What plots of the values may take of memory.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Every device, in order of name.
    #[must_use]
    pub fn devices(&self) -> Vec<(String, DeviceState)> {
        // Slots are read after the list is free again: no device waits for ten thousand others.
        let slots: Vec<_> = lock(&self.devices).iter().map(|(name, slot)| (name.clone(), Arc::clone(slot))).collect();
        slots.into_iter().map(|(name, slot)| (name, slot.read())).collect()
    }

    /// One device; `None` when there is none of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<DeviceState> {
        // Not by `device`, which makes a slot: clients of the page may ask for any name.
        let slot = lock(&self.devices).get(name).map(Arc::clone)?;
        Some(slot.read())
    }

    /// How polls go.
    #[must_use]
    pub fn polls(&self) -> &Polls {
        &self.polls
    }

    /// The slot of an output, by its name.
    #[must_use]
    pub fn output(&self, name: &str) -> Arc<Slot<ServerState>> {
        Arc::clone(lock(&self.outputs).entry(name.to_owned()).or_default())
    }
}

/// A value that one thread writes and others copy.
#[derive(Debug, Default)]
pub struct Slot<T>(Mutex<T>);

impl<T> Slot<T> {
    /// Changes it.
    pub fn write(&self, change: impl FnOnce(&mut T)) {
        change(&mut lock(&self.0));
    }

    /// What `look` makes of it, which is to be quick: who writes waits for it.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&lock(&self.0))
    }

    /// A copy.
    #[must_use]
    pub fn read(&self) -> T
    where
        T: Clone,
    {
        self.look(T::clone)
    }
}

/// A panic in between leaves plain data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }

    fn moment(second: u64) -> Moment {
        Moment { boot: Duration::from_secs(second), wall: at(second) }
    }

    #[test]
    fn a_device_is_as_much_of_it_can_be_read_since_that_changed() {
        let registry = Registry::default();
        let slot = registry.device("meter");
        slot.write(|state| state.points = 10);
        assert_eq!((slot.read().state, slot.read().since), (State::Starting, None));
        let cases = [
            (1, 0, 10, State::Up, 1),
            (2, 0, 0, State::Up, 1),
            (3, 2, 8, State::Degraded, 3),
            (4, 9, 1, State::Degraded, 3),
            (5, 10, 0, State::Down, 5),
            (6, 10, 0, State::Down, 5),
            (7, 0, 10, State::Up, 7),
        ];
        for (second, failing, readings, state, since) in cases {
            slot.write(|state| {
                state.polled(Polled { failing, readings, skipped: 1, ..Polled::default() }, moment(second));
            });
            let now = slot.read();
            assert_eq!((now.state, now.since), (state, Some(at(since))), "{second}");
        }
        let state = &registry.devices()[0].1;
        assert_eq!((state.polls, state.readings, state.overruns, state.last_good), (7, 29, 7, Some(at(7))));
        assert_eq!(registry.find("meter").as_ref(), Some(state));
        registry.forget("meter");
        assert!(registry.devices().is_empty() && registry.find("meter").is_none());
    }

    #[test]
    fn an_outage_of_the_server_lasts_from_its_first_failure_to_the_next_success() {
        let mut state = ServerState::default();
        state.refused("refused".to_owned(), at(1), Duration::from_secs(2));
        state.refused("hung".to_owned(), at(3), Duration::from_secs(4));
        assert_eq!(state.fault, Some(Fault { since: at(1), cause: "hung".to_owned() }));
        assert_eq!(state.next_attempt, Some(at(7)));
        state.took(at(8));
        assert_eq!(state, ServerState { last_success: Some(at(8)), posts: 1, failures: 2, ..ServerState::default() });
    }
}
