//! The aggregator: takes readings from all devices, hands batches to the poster one at a time.
//!
//! Owns the flush timer and nothing else of substance: what is sealed when and what gives way is
//! [`Batcher`]'s business. A batch that the spool refuses stays first in line and is offered again after
//! a backoff, so a full disk costs memory up to the batcher's cap and then the oldest readings, counted.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::context::AgentContext;
use super::lifecycle::{ExitGuard, Heartbeat, Stop};
use super::poster::{Kept, Store};
use super::timekeeper::Timekeeper;
use crate::batch::{Batcher, MAX_PENDING_BYTES};
use crate::books::Reason;
use crate::failpoint;
use crate::outage::QUIET;
use crate::outputs::pattoo::payload::Catalogue;
use crate::reading::Reading;
use crate::text::{count, size};
use crate::time::backoff::Backoff;
use crate::time::clock;

/// So many polls may wait to be taken in: as many devices as may well answer in the same instant.
const MAILBOX: usize = 256;

/// Readings of one poll, from a device. Once they are in the mailbox they are the aggregator's: the sender may forget
/// them.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Submit {
    /// What their points are: those of the configuration by which they were read.
    pub catalogue: Arc<Catalogue>,
    /// They.
    pub readings: Vec<Reading>,
}

/// How long a reading may wait for others from now on, from the supervisor.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct FlushInterval(pub Duration);

/// The actor between all devices and the poster.
#[derive(Debug)]
pub struct AggregatorActor {
    batcher: Batcher,
    timekeeper: Timekeeper,
    store: Recipient<Store>,
    shared: AgentContext,
    flush_interval: Duration,
    /// The timer of the open batch, and the [`Batcher::seals`] by which it is known.
    flush: Option<(u64, SpawnHandle)>,
    backoff: Backoff,
    stopping: Option<oneshot::Sender<()>>,
    /// How many the memory had no room for when that was last told, and when.
    loss_told: Option<(u64, Duration)>,
    _guard: ExitGuard,
}

impl AggregatorActor {
    /// An aggregator that stores into `store` what waited for `flush_interval` at most.
    #[must_use]
    pub fn new(
        batcher: Batcher,
        timekeeper: Timekeeper,
        store: Recipient<Store>,
        shared: AgentContext,
        flush_interval: Duration,
        guard: ExitGuard,
    ) -> Self {
        Self {
            batcher,
            timekeeper,
            store,
            shared,
            flush_interval,
            flush: None,
            backoff: Backoff::default(),
            stopping: None,
            loss_told: None,
            _guard: guard,
        }
    }

    fn flush(&mut self, ctx: &mut Context<Self>) {
        self.flush = None;
        let displaced = self.batcher.seal(|dated| self.timekeeper.seal(dated));
        self.drop_oldest(displaced);
        self.hand_over(ctx);
    }

    fn drop_oldest(&mut self, datapoints: usize) {
        if datapoints == 0 {
            return;
        }
        self.shared.books.lose(Reason::MemoryFull, datapoints);
        let (lost, now) = (self.shared.books.dropped(Reason::MemoryFull), clock::boot());
        if self.loss_told.is_none_or(|(_, at)| now.saturating_sub(at) >= QUIET) {
            let told = self.loss_told.map_or(0, |(told, _)| told);
            tracing::error!(
                "LOST {} that the disk does not take, the oldest in memory (it holds {} of them); \
                 {lost} lost this way since the start",
                count(usize::try_from(lost - told).unwrap_or(usize::MAX), "reading"),
                size(MAX_PENDING_BYTES as u64)
            );
            self.loss_told = Some((lost, now));
        }
    }

    fn hand_over(&mut self, ctx: &mut Context<Self>) {
        let Some(batch) = self.batcher.hand_over() else {
            if self.batcher.is_empty()
                && let Some(stopping) = self.stopping.take()
            {
                // The supervisor may have run out of patience.
                stopping.send(()).ok();
            }
            return;
        };
        let datapoints = batch.datapoints;
        let stored = self.store.send(Store(batch)).into_actor(self).map(move |reply, this, ctx| {
            if let Ok(Ok(kept)) = reply {
                match kept {
                    Kept::OnDisk => this.shared.books.store(datapoints),
                    Kept::Delivered => this.shared.books.deliver_from_memory(datapoints),
                }
                this.batcher.stored();
                this.backoff.reset();
                this.hand_over(ctx);
                return;
            }
            // Why, the poster has said.
            this.batcher.refused();
            let wait = this.backoff.fail(fastrand::f64());
            ctx.run_later(wait, Self::hand_over);
        });
        ctx.spawn(stored);
    }
}

impl Actor for AggregatorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Submit> for AggregatorActor {
    type Result = ();

    fn handle(&mut self, Submit { catalogue, readings }: Submit, ctx: &mut Self::Context) {
        failpoint::pass("aggregator");
        self.shared.books.accept(readings.len());
        let displaced = self.batcher.follow(&catalogue, |dated| self.timekeeper.seal(dated));
        self.drop_oldest(displaced);
        let accepted = self.batcher.accept(&readings, |dated| self.timekeeper.seal(dated));
        self.shared.buffers.give_back(readings);
        self.shared.books.lose(Reason::NotSendable, accepted.not_sendable);
        self.drop_oldest(accepted.displaced);
        self.hand_over(ctx);
        let seals = self.batcher.seals();
        if let Some((_, timer)) = self.flush.take_if(|(of, _)| *of != seals) {
            // It was for readings that have left: those that came now have their time before them.
            ctx.cancel_future(timer);
        }
        if self.flush.is_none() && self.batcher.is_open() {
            self.flush = Some((seals, ctx.run_later(self.flush_interval, Self::flush)));
        }
    }
}

impl Handler<FlushInterval> for AggregatorActor {
    type Result = ();

    fn handle(&mut self, FlushInterval(interval): FlushInterval, _: &mut Self::Context) {
        self.flush_interval = interval;
    }
}

impl Handler<Heartbeat> for AggregatorActor {
    type Result = bool;

    fn handle(&mut self, _: Heartbeat, _: &mut Self::Context) -> Self::Result {
        true
    }
}

impl Handler<Stop> for AggregatorActor {
    type Result = ResponseFuture<()>;

    /// The reply says that everything is on disk.
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) -> Self::Result {
        let (sender, receiver) = oneshot::channel();
        self.stopping = Some(sender);
        self.flush(ctx);
        Box::pin(async move {
            receiver.await.ok();
        })
    }
}
