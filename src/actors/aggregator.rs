//! The aggregator: takes readings from all devices and hands them to the poster in batches.
//!
//! Owns the timer of the open batch and nothing else of substance: what is closed when is [`Batcher`]'s business. A reading
//! waits here for the end of its slot of the polling grid, at most [`GATHER`]; that is what a kill can lose.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::context::AgentContext;
use super::lifecycle::{ExitGuard, Heartbeat, Stop};
use super::timekeeper::Timekeeper;
use crate::failpoint;
use crate::reading::Reading;
use crate::reading::points::PointTable;
use crate::spool::batch::Batch;
use crate::spool::batcher::Batcher;
use crate::spool::job::Holdover;
use crate::time::schedule::SLOT;

/// How long a reading waits at most for others before its batch goes to the disk.
pub const GATHER: Duration = SLOT;

/// So many polls may wait to be taken in: as many devices as may well answer in the same instant.
const MAILBOX: usize = 256;

/// Readings of one poll, from a device. Once they are in the mailbox they are the aggregator's: the sender may forget
/// them.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Submit {
    /// What their points are: those of the configuration by which they were read.
    pub table: Arc<PointTable>,
    /// The readings.
    pub readings: Vec<Reading>,
}

/// A batch, from the aggregator to the poster, which owns it from then on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Append {
    /// The batch.
    pub batch: Batch,
    /// What it is of, if it is undated.
    pub hold: Option<Holdover>,
}

/// The actor between all devices and the poster.
#[derive(Debug)]
pub struct AggregatorActor {
    batcher: Batcher,
    timekeeper: Timekeeper,
    append: Recipient<Append>,
    context: AgentContext,
    timer: Option<SpawnHandle>,
    _guard: ExitGuard,
}

impl AggregatorActor {
    /// An aggregator that hands its batches to `append`.
    #[must_use]
    pub fn new(timekeeper: Timekeeper, append: Recipient<Append>, context: AgentContext, guard: ExitGuard) -> Self {
        Self { batcher: Batcher::default(), timekeeper, append, context, timer: None, _guard: guard }
    }

    fn hand_over(&self, batch: Batch) {
        let hold = batch.undated.and_then(|_| self.timekeeper.hold());
        // Without a bound: the poster never waits for disk or server, and what it cannot get rid of it bounds itself. One that is
        // gone ends the process.
        self.append.do_send(Append { batch, hold });
    }

    fn flush(&mut self) {
        if let Some(batch) = self.batcher.close() {
            self.hand_over(batch);
        }
    }
}

impl Actor for AggregatorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // No exact bound: actix gives each sender one place more. A device that finds it full waits and skips ticks;
        // nothing is dropped.
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Submit> for AggregatorActor {
    type Result = ();

    fn handle(&mut self, Submit { table, readings }: Submit, ctx: &mut Self::Context) {
        failpoint::pass("aggregator");
        // Before the poster can count them as appended: a reader of the status who looks in between finds them in
        // memory.
        self.context.counters.accept(readings.len());
        let hold = self.timekeeper.hold().map(|hold| hold.id);
        for batch in self.batcher.accept(&table, &readings, hold) {
            self.hand_over(batch);
        }
        if self.timer.is_none() && self.batcher.is_open() {
            // With the polls of the next slot, for which this thread wakes up anyway. What was closed meanwhile leaves the
            // timer to what came after it: that waits less than it might.
            self.timer = Some(ctx.run_later(self.timekeeper.until_slot(), |this, _| {
                this.timer = None;
                this.flush();
            }));
        }
    }
}

impl Handler<Heartbeat> for AggregatorActor {
    type Result = bool;

    // To be answered is the proof: the question has come through the same mailbox as the readings.
    fn handle(&mut self, _: Heartbeat, _: &mut Self::Context) -> Self::Result {
        true
    }
}

impl Handler<Stop> for AggregatorActor {
    type Result = ();

    /// The reply says that the poster has everything.
    fn handle(&mut self, _: Stop, _: &mut Self::Context) {
        // Devices have stopped before this was sent, so every Submit was handled before. The poster is told to stop
        // after the reply, so this batch is in its mailbox before that.
        self.flush();
    }
}
