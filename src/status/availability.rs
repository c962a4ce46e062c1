//! How a device was in each minute of the last hour. Pure.

use std::time::Duration;

use super::registry::State;

/// Minutes that are remembered.
pub const MINUTES: usize = 60;

/// The worst state of each minute, counted from the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Availability {
    /// By minute, modulo [`MINUTES`].
    worst: [Option<State>; MINUTES],
    /// The newest minute, and the state in which it ended; `None` before the first poll.
    newest: Option<(u64, State)>,
}

impl Default for Availability {
    fn default() -> Self {
        Self { worst: [None; MINUTES], newest: None }
    }
}

impl Availability {
    /// It is in this state from `now` after boot on.
    pub fn enter(&mut self, state: State, now: Duration) {
        let minute = minute(now);
        self.go_on(minute);
        let worst = &mut self.worst[place(minute)];
        // The lower of two is the worse one.
        *worst = Some(worst.map_or(state, |worst| worst.min(state)));
        self.newest = Some((minute, state));
    }

    /// What it was in each minute up to `now`, the oldest first: `+` up, `~` degraded, `!` down, `.` starting,
    /// `-` where that is not known.
    #[must_use]
    pub fn hour(&self, now: Duration) -> String {
        // On a copy: whoever looks changes nothing, and a device that is polled once an hour enters no state in
        // between.
        let mut until_now = *self;
        let newest = minute(now);
        until_now.go_on(newest);
        let letter = |ago: u64| match newest.checked_sub(ago).and_then(|minute| until_now.worst[place(minute)]) {
            Some(State::Up) => '+',
            Some(State::Degraded) => '~',
            Some(State::Down) => '!',
            Some(State::Starting) => '.',
            None => '-',
        };
        (0..MINUTES as u64).rev().map(letter).collect()
    }

    /// In the minutes since the newest one, this one too, it was as it was then.
    fn go_on(&mut self, minute: u64) {
        let Some((newest, state)) = self.newest else { return };
        // The newest ones only: after a night of suspend there are more minutes than places.
        for minute in (newest + 1..=minute).rev().take(MINUTES) {
            self.worst[place(minute)] = Some(state);
        }
    }
}

fn minute(now: Duration) -> u64 {
    now.as_secs() / 60
}

fn place(minute: u64) -> usize {
    usize::try_from(minute % MINUTES as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: u64, second: u64) -> Duration {
        Duration::from_secs(60 * minute + second)
    }

    #[test]
    fn each_minute_is_as_bad_as_its_worst_moment_and_goes_on_until_the_next_poll() {
        let mut availability = Availability::default();
        assert_eq!(availability.hour(at(3, 0)), "-".repeat(60));
        availability.enter(State::Up, at(100, 0));
        assert_eq!(availability.hour(at(102, 0)), "-".repeat(57) + "+++");
        availability.enter(State::Down, at(103, 10));
        availability.enter(State::Up, at(103, 50));
        assert_eq!(availability.hour(at(105, 0)), "-".repeat(54) + "+++!++");
        availability.enter(State::Degraded, at(105, 30));
        assert_eq!(availability.hour(at(105, 31)), "-".repeat(54) + "+++!+~");
        assert_eq!(availability.hour(at(163, 0)), "+~".to_owned() + &"~".repeat(58));
        assert_eq!(availability.hour(at(10_000, 0)), "~".repeat(60));
        availability.enter(State::Up, at(10_000, 1));
        assert_eq!(availability.hour(at(10_000, 2)), "~".repeat(60), "it was degraded when the minute began");
        assert_eq!(availability.hour(at(10_001, 0)), "~".repeat(59) + "+");
    }
}
