//! The loop of one device, decided: when its requests are due, and what follows what. Pure.
//!
//! A request is due at the ticks of its cycle, and again before its next tick when it was not answered at all, at the
//! earliest moment at which it could be made. A value is read once for each tick: what was answered is not asked for
//! again, and what was not answered by its next tick is given up and counted.
//!
//! Guarantee: between the end of a poll and the beginning of the next one [`Polling::next`] returns a [`Step::Rest`],
//! whose pause is never nothing. This is a property of [`Turn`], of which each poll makes the whole round.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Step};
use super::event::Outcome;
use super::gate::Pause;
use super::plan::DeviceSettings;
use crate::modbus::refusals::Learned;
use crate::time::clock::Moment;
use crate::time::schedule::{Anchor, Grid, Schedule};

/// A device and when it is polled.
#[derive(Debug)]
pub struct Polling {
    core: Core,
    /// One for each cycle.
    schedules: Vec<Schedule>,
    /// Whether each cycle is due by its tick in this poll.
    at_tick: Vec<bool>,
    /// The requests of this poll.
    due: Vec<usize>,
    begun: Duration,
    turn: Turn,
}

/// Where in its round the loop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// A rest has passed: a poll may begin.
    Rested,
    /// A poll is under way.
    InPoll,
    /// A poll is over: a rest follows.
    Over,
}

impl Polling {
    /// A device that is read by `plan`, at once and then at its ticks.
    #[must_use]
    pub fn new(plan: Arc<DeviceSettings>, learned: &Learned, now: Moment, random: fastrand::Rng) -> Self {
        let grid = |interval| Schedule::new(Grid::new(interval, &plan.name));
        Self {
            schedules: plan.cycles.iter().map(|cycle| grid(cycle.interval)).collect(),
            at_tick: vec![false; plan.cycles.len()],
            due: Vec::new(),
            begun: Duration::ZERO,
            turn: Turn::Rested,
            core: Core::new(plan, learned, now, random),
        }
    }

    /// From the next poll on the device is read by `plan`; not to be called within a poll. Cycles of the same interval
    /// keep their ticks. Whether something learned was forgotten.
    pub fn assign(&mut self, plan: Arc<DeviceSettings>) -> bool {
        let before: Vec<Duration> = self.core.plan().cycles.iter().map(|cycle| cycle.interval).collect();
        // A new schedule is due at once: an edit of one cycle is not to poll the others.
        let kept = |interval: Duration| {
            let place = before.iter().position(|known| *known == interval)?;
            self.schedules.get(place).cloned()
        };
        let schedules = plan
            .cycles
            .iter()
            .map(|cycle| kept(cycle.interval).unwrap_or_else(|| Schedule::new(Grid::new(cycle.interval, &plan.name))));
        self.schedules = schedules.collect();
        self.at_tick = vec![false; plan.cycles.len()];
        self.core.assign(plan)
    }

    /// What is known of the device.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// To tell it what came of a step.
    pub fn core_mut(&mut self) -> &mut Core {
        &mut self.core
    }

    /// What to do now. After a [`Step::Rest`] it has passed; after [`Step::End`], [`end`](Self::end) is called.
    pub fn next(&mut self, now: Moment) -> Step<'_> {
        match self.turn {
            Turn::Over => {
                self.turn = Turn::Rested;
                return Step::Rest(self.pause(now.boot));
            }
            Turn::Rested => {
                if !self.begin(now) {
                    return Step::Rest(self.pause(now.boot));
                }
                self.turn = Turn::InPoll;
            }
            Turn::InPoll => {}
        }
        self.core.next(now)
    }

    /// Whether a poll is under way; another plan is given between polls only.
    #[must_use]
    pub fn in_poll(&self) -> bool {
        self.turn == Turn::InPoll
    }

    /// The poll has ended: what it brought, and how many ticks passed meanwhile without a poll. Whoever sees to the
    /// connection closes it when the plan says so.
    pub fn end(&mut self, now: Moment, anchor: Anchor) -> (Outcome, u64) {
        self.turn = Turn::Over;
        let outcome = self.core.end(now);
        let cycles = self.schedules.iter_mut().zip(&self.at_tick);
        let skipped = cycles.map(|(schedule, at_tick)| {
            // A cycle that was not due may have waited for the requests of another: those ticks are missed, too.
            if *at_tick { schedule.finish(now.boot, anchor) } else { schedule.kept_waiting(now.boot, anchor) }
        });
        (outcome, skipped.sum())
    }

    /// When the poll began.
    #[must_use]
    pub fn begun(&self) -> Duration {
        self.begun
    }

    /// How long until something is due.
    fn pause(&self, now: Duration) -> Pause {
        let tick = self.schedules.iter().map(|schedule| schedule.wait(now)).min().unwrap_or(Duration::MAX);
        let owed = self.core.owed_at().map(|at| at.saturating_sub(now));
        Pause::of(owed.map_or(tick, |owed| owed.min(tick)))
    }

    /// Begins a poll of what is due; `false` when nothing is.
    fn begin(&mut self, now: Moment) -> bool {
        self.due.clear();
        for (cycle, schedule) in self.schedules.iter_mut().enumerate() {
            let at_tick = schedule.wait(now.boot).is_zero();
            self.at_tick[cycle] = at_tick;
            if at_tick {
                schedule.begin(now.boot);
                self.due.extend(self.core.of_cycle(cycle));
            }
        }
        if self.core.owes() {
            self.core.add_owed(now.boot, &mut self.due);
        }
        // A cycle without requests has its poll as well: a tick that is left standing turns the loop each millisecond.
        if self.due.is_empty() && !self.at_tick.contains(&true) {
            return false;
        }
        self.begun = now.boot;
        let at_tick = &self.at_tick;
        self.core.begin(&self.due, |cycle| at_tick[cycle], now);
        true
    }
}
