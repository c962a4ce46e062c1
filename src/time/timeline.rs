//! With what a reading or a batch is stamped, whatever happens to the wall clock. Pure: told [`Moment`]s.
//!
//! Stamps are read off a *line* that follows the wall clock, and goes by the time since boot where that
//! clock cannot be followed:
//!
//! | the wall clock | the line |
//! |---|---|
//! | goes on, or is set forward | is the wall clock |
//! | is set back by up to [`HOUR`] | goes on at nine tenths of real time until the clock has caught up |
//! | is set back further | is the wall clock; stamps repeat, and the server drops them: [`ClockState::Repeating`] |
//! | is before the build date, over an hour ahead of the server's, or decades ahead of the build | is of no use: stamps are boot times, see below |
//!
//! Invariant: the stamps of one [`Track`] strictly increase, restarts included, save for a step back of more than an hour.
//! No stamp is before the build date, none an hour ahead of the server's clock.
//!
//! *Undated readings.* While the clock is not believed, readings are stamped with their boot times and take their place in
//! the log so. Once it is believed, [`offset`](Timeline::offset) is what is to be added to each: the dates are later than all
//! stamps from before the holdover, and no later than the line at its end. So order is kept, as nothing behind an undated
//! reading is delivered before it has its date.

mod clock_log;
mod stamp;
mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::clock_log::{ClockLog, Notice};
pub use self::stamp::{Stamp, Track};
use self::stamp::{next, whole};
pub use self::state::{ClockState, Implausible};
use crate::reading::{Timestamp, millis};
use crate::time::clock::Moment;

/// The beginning of the year of this release, 2026: no clock that shows less is set.
pub const BUILT: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// What the clock may be set back by without loss, and what it may be ahead of the server's.
pub const HOUR: Duration = Duration::from_secs(3_600);

/// Setting a clock back by an hour takes a moment, by which the step measures more.
const TIME_TO_SET: Duration = Duration::from_secs(2);

/// How far ahead of the server's clock the line may be: a second less than the hour, because a stamp may
/// have to make way for others of its millisecond.
const AHEAD_OF_SERVER: Duration = Duration::from_secs(3_599);

/// How long after the build a clock is believed that no server has confirmed.
const HORIZON: Duration = Duration::from_secs(20 * 365 * 86_400);

/// From when on stamps are said to be ahead of the clock; below is jitter.
const NOTEWORTHY: Duration = Duration::from_secs(1);

/// The source of all stamps of a process.
#[derive(Debug)]
pub struct Timeline {
    built: Timestamp,
    trust_local_clock: bool,
    server: Option<Line>,
    /// `None` before the first moment.
    line: Option<Line>,
    /// The greatest stamp of this epoch.
    newest: Timestamp,
    /// Counts the steps back after which stamps repeat.
    epoch: u64,
    /// The greatest stamp of earlier epochs.
    repeats: Timestamp,
    holdover: Option<Holdover>,
    release: Option<Release>,
    state: ClockState,
}

impl Timeline {
    /// A line for a program built no earlier than `built`, whose stamps will be greater than `last`, the
    /// greatest that an earlier process has left on disk.
    #[must_use]
    pub fn new(built: Timestamp, last: Timestamp) -> Self {
        Self {
            built,
            trust_local_clock: false,
            server: None,
            line: None,
            newest: last,
            epoch: 0,
            repeats: Timestamp::default(),
            holdover: None,
            release: None,
            state: ClockState::Good,
        }
    }

    /// The same, but believing the wall clock over the server's.
    #[must_use]
    pub fn trusting_local_clock(self) -> Self {
        Self { trust_local_clock: true, ..self }
    }

    /// From now on, whether the wall clock is believed over the server's.
    pub fn trust_local_clock(&mut self, trust: bool) {
        self.trust_local_clock = trust;
    }

    /// The same, for an earlier process of this boot has left undated readings, the oldest of `since`.
    #[must_use]
    pub fn holding_since(self, since: Duration) -> Self {
        let since = whole(since);
        // Behind all that the earlier process has dated: what it held came after that.
        let line = Line { at: from_epoch(next(self.newest)), boot: since };
        Self { line: Some(line), holdover: Some(Holdover { since, newest: since }), ..self }
    }

    /// The server's clock showed `date` when the answer that came at `now` was written.
    ///
    /// A server whose clock is not set either has no say.
    pub fn server_says(&mut self, date: Timestamp, now: Moment) {
        if date >= self.built {
            self.server = Some(Line { at: from_epoch(date), boot: now.boot });
        }
    }

    /// A track whose stamps are greater than all that were given so far.
    #[must_use]
    pub fn track(&self) -> Track {
        Track { last: self.newest, epoch: self.epoch, held: self.holdover.map(|holdover| holdover.newest) }
    }

    /// The stamp of what happened at `now`, greater than those given to `track` before.
    pub fn stamp(&mut self, now: Moment, track: &mut Track) -> Stamp {
        let Some(mut at) = self.advance(now) else {
            return Stamp::Undated(self.undated(now.boot, track));
        };
        if track.epoch == self.epoch {
            at = at.max(next(track.last));
        }
        if let Some(held) = track.held.and_then(|boot| self.date(boot)).filter(|_| self.dates_bind()) {
            // The track's undated readings get these dates, also those on disk: what follows must come after them.
            at = at.max(next(held));
        }
        (track.last, track.epoch) = (at, self.epoch);
        self.newest = self.newest.max(at);
        Stamp::At(at)
    }

    /// The boot time at which the present holdover began, or the last one that is over.
    #[must_use]
    pub fn holdover_since(&self) -> Option<Duration> {
        self.holdover.map(|holdover| holdover.since).or(self.release.map(|release| release.since))
    }

    /// What to add to a boot time of the last holdover that is over, to date it; `None` when there was none.
    #[must_use]
    pub fn offset(&self) -> Option<Duration> {
        self.release.map(|release| release.line.at.saturating_sub(release.line.boot))
    }

    /// The date of an instant in the last holdover that is over; `None` for any other instant.
    #[must_use]
    pub fn date(&self, boot: Duration) -> Option<Timestamp> {
        let release = self.release.filter(|release| (release.since..=release.until).contains(&boot))?;
        Some(date(release.line.at(boot)))
    }

    /// How the clock is at `now`.
    pub fn observe(&mut self, now: Moment) -> ClockState {
        self.advance(now);
        self.state
    }

    /// How far `at` lies ahead of the server's clock, if that is so far that it must not be sent yet.
    #[must_use]
    pub fn too_far_ahead(&self, at: Timestamp, now: Moment) -> Option<Duration> {
        let ahead = from_epoch(at).saturating_sub(self.server()?.at(now.boot));
        (ahead > HOUR).then_some(ahead)
    }

    /// Whether the server, if it has had everything until now, drops a reading of this stamp.
    #[must_use]
    pub fn is_repeated(&self, at: Timestamp) -> bool {
        at <= self.repeats
    }

    /// How often the clock was set back by so much that stamps are repeated.
    #[must_use]
    pub fn steps_back(&self) -> u64 {
        self.epoch
    }

    /// Moves the line on to `now`; `None` while the clock is not believed.
    fn advance(&mut self, now: Moment) -> Option<Timestamp> {
        let wall = from_epoch(now.wall);
        let last = *self.line.get_or_insert(Line { at: from_epoch(next(self.newest)), boot: now.boot });
        // Threads that read the clocks before each other may come here after each other.
        let boot = now.boot.max(last.boot);
        let straight = last.at(boot);

        if let Some(reason) = self.implausible(now) {
            // Once: while it lasts, what was held keeps the line of its beginning, however the clock is set meanwhile.
            if self.holdover.is_none() {
                let since = whole(boot);
                self.line = Some(Line { at: straight.max(from_epoch(next(self.newest))), boot: since });
                self.holdover = Some(Holdover { since, newest: since });
            }
            self.state = ClockState::NotPlausible { reason };
            return None;
        }

        let at = if straight > self.highest(now) {
            // The line would be too far ahead, of the clock or of the server, which drops a series until a stamp of the
            // future has passed. With a holdover, the next dates are those of its readings.
            self.leave(date(wall.saturating_sub(self.held_for(now))));
            wall
        } else if self.holdover.is_some() {
            // What was held is dated by boot time: over it, the line must not have been slower.
            straight.max(wall)
        } else {
            // Slower, not still: the distances between readings stay right but for a tenth.
            wall.max(last.at + straight.saturating_sub(last.at) * 9 / 10)
        };
        let line = Line { at, boot };
        self.line = Some(line);
        if let Some(holdover) = self.holdover.take() {
            self.release =
                // `newest` may be ahead of `boot`: readings of one instant are a millisecond apart in their track.
                Some(Release { since: holdover.since, until: holdover.newest.max(boot), line, epoch: self.epoch });
            // Tracks that begin later must come after the dates that are given out by this.
            self.newest = self.newest.max(date(line.at(holdover.newest)));
        }
        self.state = self.judge(line, now);
        Some(date(at))
    }

    /// What speaks against the wall clock.
    fn implausible(&self, now: Moment) -> Option<Implausible> {
        let wall = from_epoch(now.wall);
        // A clock that was not set when the holdover began is not set by running past the build date.
        if wall.saturating_sub(self.held_for(now)) < from_epoch(self.built) {
            return Some(Implausible::NotSet { wall: now.wall });
        }
        // The first case holds nevertheless: before the build date no clock is right.
        if self.trust_local_clock {
            return None;
        }
        match self.server.map(|server| server.at(now.boot)) {
            Some(server) if wall > server + AHEAD_OF_SERVER => {
                Some(Implausible::AheadOfServer { by: wall.saturating_sub(server) })
            }
            // A server that is not an hour behind it has confirmed the clock, however late it is.
            None if wall > from_epoch(self.built) + HORIZON => Some(Implausible::FarFuture { wall: now.wall }),
            _ => None,
        }
    }

    /// Whether what was held last got dates of this epoch.
    fn dates_bind(&self) -> bool {
        self.release.is_some_and(|release| release.epoch == self.epoch)
    }

    /// How high the line may be, the clock being plausible.
    fn highest(&self, now: Moment) -> Duration {
        let highest = from_epoch(now.wall) + HOUR + TIME_TO_SET;
        // The server's clock counts as well, even where ours would allow more: it is the server that drops.
        self.server().map_or(highest, |server| highest.min(server.at(now.boot) + AHEAD_OF_SERVER))
    }

    /// Leaves the line for the clock, by which the next stamp will be `next` or later: if stamps as great as
    /// that have been given out, a new epoch begins.
    fn leave(&mut self, next: Timestamp) {
        if self.newest >= next {
            self.repeats = self.repeats.max(self.newest);
            // A track that begins now would otherwise go on from a stamp that is ahead of the clock.
            self.newest = Timestamp::default();
            self.epoch += 1;
        }
    }

    fn judge(&self, line: Line, now: Moment) -> ClockState {
        let wall = from_epoch(now.wall);
        let ahead = line.at.saturating_sub(wall);
        let by = self.server().map_or(Duration::ZERO, |server| server.at(now.boot).saturating_sub(wall));
        if self.is_repeated(date(line.at)) {
            ClockState::Repeating { until: self.repeats }
        } else if ahead >= NOTEWORTHY {
            ClockState::Slewing { ahead }
        } else if by > HOUR {
            ClockState::Behind { by }
        } else {
            ClockState::Good
        }
    }

    /// The boot time to hold something under that happened at `boot`.
    fn undated(&mut self, boot: Duration, track: &mut Track) -> Duration {
        let mut boot = whole(boot);
        // Stamps of a track go up strictly, and are whole milliseconds.
        if let Some(last) = track.held {
            boot = boot.max(last + Duration::from_millis(1));
        }
        if let Some(holdover) = &mut self.holdover {
            // Another thread may have looked at the clock before the holdover began.
            boot = boot.max(holdover.since);
            holdover.newest = holdover.newest.max(boot);
        }
        track.held = Some(boot);
        boot
    }

    /// For how long the clock has not been believed.
    fn held_for(&self, now: Moment) -> Duration {
        self.holdover.map_or(Duration::ZERO, |holdover| now.boot.saturating_sub(holdover.since))
    }

    /// The server's clock, if it counts.
    fn server(&self) -> Option<Line> {
        self.server.filter(|_| !self.trust_local_clock)
    }
}

/// A clock that showed `at`, since the epoch, at the boot time `boot`, and goes on as boot time does.
#[derive(Debug, Clone, Copy)]
struct Line {
    at: Duration,
    boot: Duration,
}

impl Line {
    fn at(self, boot: Duration) -> Duration {
        // One of the two differences is zero: `boot` may be before the moment of the line.
        self.at.saturating_add(boot.saturating_sub(self.boot)).saturating_sub(self.boot.saturating_sub(boot))
    }
}

/// A time in which the clock is not believed.
#[derive(Debug, Clone, Copy)]
struct Holdover {
    since: Duration,
    /// The greatest boot time given out.
    newest: Duration,
}

/// The end of a holdover, and the line by which what was held is dated for good.
#[derive(Debug, Clone, Copy)]
struct Release {
    since: Duration,
    until: Duration,
    line: Line,
    epoch: u64,
}

fn from_epoch(date: Timestamp) -> Duration {
    Duration::from_millis(date.as_millis())
}

fn date(from_epoch: Duration) -> Timestamp {
    Timestamp::from_millis(millis(from_epoch))
}
