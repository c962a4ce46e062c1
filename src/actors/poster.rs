//! The poster: puts batches on disk; beside it a loop delivers what is there ([`super::delivery`]).
//!
//! The two meet only on disk, so an outage merely makes the queue longer. The one exception is a disk that
//! refuses a batch while nothing waits on it: then the batch goes to the server from memory, since no order
//! can be broken by it. When the spool thread is gone the actor ends, and the process with it.

use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;

use super::delivery::{Delivery, Destination, Doorway, Terms};
use super::lifecycle::{ExitGuard, Heartbeat, Stop};
use super::spooler::{SpoolGone, SpoolThread};
use super::timekeeper::Timekeeper;
use crate::batch::Batch;
use crate::outage::{Outages as Health, Transition as Change};
use crate::spool::{Limits, SpoolError};
use crate::status::registry::Registry as Board;
use crate::text::{Chain, count};
use crate::time::clock;

/// A batch to put on disk, from the aggregator. After `Ok` the sender may forget it; after `Err` it is neither
/// on disk nor at the server, and why has been logged.
#[derive(Debug, Message)]
#[rtype(result = "Result<Kept, NotStored>")]
pub struct Store(pub Arc<Batch>);

/// What a reload changes for the poster, from the supervisor: from the next post and the next batch on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Reload {
    /// About deliveries.
    pub terms: Terms,
    /// About the disk.
    pub limits: Limits,
}

/// Where the batch is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// On disk, whatever crashes.
    OnDisk,
    /// At the server, the disk having refused it.
    Delivered,
}

/// The spool refused the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotStored;

/// The actor between the aggregator and the server.
pub struct PosterActor {
    spool: SpoolThread,
    timekeeper: Timekeeper,
    doorway: Rc<Doorway>,
    delivery: Option<Delivery>,
    health: Health<()>,
    _guard: ExitGuard,
}

impl PosterActor {
    /// An actor that delivers what is in `spool`.
    #[must_use]
    pub fn new(
        to: Destination,
        spool: SpoolThread,
        timekeeper: Timekeeper,
        board: Arc<Board>,
        guard: ExitGuard,
    ) -> Self {
        let doorway = Rc::<Doorway>::default();
        let delivery = Delivery::new(to, spool.clone(), timekeeper.clone(), board, Rc::clone(&doorway));
        Self { spool, timekeeper, doorway, delivery: Some(delivery), health: Health::default(), _guard: guard }
    }
}

impl Actor for PosterActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(delivery) = self.delivery.take() else { return };
        ctx.spawn(delivery.run().into_actor(self).map(|SpoolGone, _, ctx| ctx.stop()));
    }
}

impl Handler<Store> for PosterActor {
    type Result = ResponseActFuture<Self, Result<Kept, NotStored>>;

    fn handle(&mut self, Store(batch): Store, _: &mut Self::Context) -> Self::Result {
        let spool = self.spool.clone();
        let append = {
            let batch = Arc::clone(&batch);
            let offset = self.timekeeper.offset();
            async move { spool.append(batch, offset).await }
        };
        Box::pin(append.into_actor(self).then(move |answer, this, ctx| {
            if answer.is_err() {
                ctx.stop();
            }
            let on_disk = answer.is_ok_and(|appended| {
                this.tell_stored(&appended.result, batch.datapoints);
                appended.result.is_ok()
            });
            let doorway = Rc::clone(&this.doorway);
            let kept = async move {
                if on_disk {
                    doorway.arrived();
                    Ok(Kept::OnDisk)
                } else if batch.dated && doorway.deliver_from_memory(batch).await {
                    Ok(Kept::Delivered)
                } else {
                    Err(NotStored)
                }
            };
            kept.into_actor(this)
        }))
    }
}

impl Handler<Reload> for PosterActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Reload { terms, limits }: Reload, _: &mut Self::Context) -> Self::Result {
        self.doorway.reload(terms);
        let spool = self.spool.clone();
        Box::pin(async move {
            // A thread that is gone ends the process; the next batch finds out.
            spool.limit(limits).await.ok();
        })
    }
}

impl PosterActor {
    fn tell_stored(&mut self, result: &Result<(), SpoolError>, datapoints: usize) {
        let now = clock::boot();
        match result {
            Ok(()) => {
                if let Some(Change::Recovered { failures, .. }) = self.health.worked(&(), now) {
                    tracing::info!("the cache directory takes batches again after {failures} failures");
                }
            }
            Err(error) => {
                if self.health.failed((), "disk", now).is_some() {
                    tracing::error!(
                        "cannot put a batch of {} on disk: {}; it stays in memory, goes to the server from there \
                         when nothing on disk is before it, and is tried again",
                        count(datapoints, "reading"),
                        Chain(error)
                    );
                }
            }
        }
    }
}

impl Handler<Heartbeat> for PosterActor {
    type Result = bool;

    fn handle(&mut self, _: Heartbeat, _: &mut Self::Context) -> Self::Result {
        true
    }
}

impl Handler<Stop> for PosterActor {
    type Result = ();

    /// A post in flight is abandoned: its batch is on disk.
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
