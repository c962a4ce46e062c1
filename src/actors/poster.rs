//! The poster: puts batches on disk and delivers what is there, oldest first, one post in flight.
//!
//! Two things go on side by side: storing, asked for by the aggregator, and delivering, a loop that sleeps
//! while the spool is empty or the server refuses. They meet only on disk: a batch is never posted from
//! memory, so an outage merely makes the queue longer. When the spool thread is gone the actor ends, and
//! the process with it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::Notify;

use super::spooler::{SpoolGone, SpoolThread};
use super::supervisor::{ExitGuard, Stop};
use crate::backoff::Backoff;
use crate::batch::Batch;
use crate::books::Books;
use crate::clock;
use crate::health::{Change, Health};
use crate::pattoo::post::{PostError, Poster};
use crate::phrase::{Chain, seconds};
use crate::spool::{Quarantined, SpoolError, Stored};

/// A batch to put on disk, from the aggregator. After `Ok` it survives a crash and the sender may forget it;
/// after `Err` it is not on disk, and why has been logged.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), NotStored>")]
pub struct Store(pub Arc<Batch>);

/// The spool refused the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotStored;

/// The actor between the aggregator and the server.
pub struct PosterActor {
    spool: SpoolThread,
    stored: Rc<Notify>,
    delivery: Option<Delivery>,
    health: Health<Trouble>,
    _guard: ExitGuard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    Storing,
    Reading,
    Posting,
    Removing,
}

impl PosterActor {
    /// An actor that delivers what is in `spool` by `poster`.
    #[must_use]
    pub fn new(poster: Poster, spool: SpoolThread, books: Arc<Books>, guard: ExitGuard) -> Self {
        let stored = Rc::new(Notify::new());
        let delivery = Delivery {
            spool: spool.clone(),
            poster,
            stored: Rc::clone(&stored),
            books,
            backoff: Backoff::default(),
            health: Health::default(),
        };
        Self { spool, stored, delivery: Some(delivery), health: Health::default(), _guard: guard }
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
    type Result = ResponseActFuture<Self, Result<(), NotStored>>;

    fn handle(&mut self, Store(batch): Store, _: &mut Self::Context) -> Self::Result {
        let spool = self.spool.clone();
        let datapoints = batch.datapoints;
        let append = async move { spool.append(batch).await };
        Box::pin(append.into_actor(self).map(move |answer, this, ctx| match answer {
            Ok(Ok(())) => {
                this.stored.notify_one();
                if let Some(Change::Recovered { failures, .. }) = this.health.worked(&Trouble::Storing, clock::wall()) {
                    tracing::info!(failures, "the cache directory takes batches again");
                }
                Ok(())
            }
            Ok(Err(error)) => {
                if this.health.failed(Trouble::Storing, "disk", clock::wall()).is_some() {
                    tracing::error!(
                        points = datapoints,
                        cause = %Chain(&error),
                        "cannot put a batch on disk; it stays in memory and is tried again"
                    );
                }
                Err(NotStored)
            }
            Err(SpoolGone) => {
                ctx.stop();
                Err(NotStored)
            }
        }))
    }
}

impl Handler<Stop> for PosterActor {
    type Result = ();

    /// A post in flight is abandoned: its batch is on disk.
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// The loop that empties the spool.
struct Delivery {
    spool: SpoolThread,
    poster: Poster,
    stored: Rc<Notify>,
    books: Arc<Books>,
    backoff: Backoff,
    health: Health<Trouble>,
}

impl Delivery {
    async fn run(mut self) -> SpoolGone {
        loop {
            let (oldest, quarantined) = match self.spool.oldest().await {
                Ok(answer) => answer,
                Err(gone) => return gone,
            };
            for Quarantined { path, why } in quarantined {
                tracing::error!(
                    code = 1036,
                    "a batch on disk is damaged and not delivered: {why}; it is kept as {} for you to look at",
                    path.display()
                );
            }
            let wait = match oldest {
                Ok(None) => {
                    self.stored.notified().await;
                    continue;
                }
                Ok(Some(stored)) => match self.deliver(stored).await {
                    Ok(wait) => wait,
                    Err(gone) => return gone,
                },
                Err(error) => Some(self.cannot_read(&error)),
            };
            if let Some(wait) = wait {
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// Posts one batch; returns how long to wait before the next attempt, if it failed.
    async fn deliver(&mut self, stored: Stored) -> Result<Option<Duration>, SpoolGone> {
        let Stored { name, body, datapoints } = stored;
        if let Err(error) = self.poster.post(body).await {
            return Ok(Some(self.refused(&error)));
        }
        self.backoff.reset();
        self.books.deliver(datapoints);
        if let Some(Change::Recovered { since, failures }) = self.health.worked(&Trouble::Posting, clock::wall()) {
            let lasted = seconds(clock::wall().since(since));
            tracing::info!(
                code = 1007,
                "the server takes batches again after {lasted} and {failures} failed posts; what was kept is delivered oldest first"
            );
        }
        tracing::debug!(code = 1027, points = datapoints, batch = %name, "posted");
        if let Err(error) = self.spool.acknowledge(name).await? {
            if self.health.failed(Trouble::Removing, "disk", clock::wall()).is_some() {
                tracing::error!(
                    cause = %Chain(&error),
                    "cannot remove a delivered batch; it is not posted again unless the agent restarts"
                );
            }
        } else {
            self.health.worked(&Trouble::Removing, clock::wall());
        }
        Ok(None)
    }

    fn refused(&mut self, error: &PostError) -> Duration {
        let wait = error.retry_after().unwrap_or_default().max(self.backoff.fail(fastrand::f64()));
        let now = clock::wall();
        let cause = Chain(error);
        let next = seconds(wait);
        match self.health.failed(Trouble::Posting, error.kind(), now) {
            None | Some(Change::Recovered { .. }) => {}
            Some(Change::Down { since }) => {
                let lasted = seconds(now.since(since));
                tracing::error!(
                    code = 1097,
                    "the server has taken nothing for {lasted}: {cause}; readings are kept on disk, next attempt in {next}"
                );
            }
            Some(Change::Failed { .. } | Change::OtherCause { .. }) => {
                tracing::warn!(code = 1028, "post failed: {cause}; the batch stays on disk, next attempt in {next}");
            }
        }
        wait
    }

    fn cannot_read(&mut self, error: &SpoolError) -> Duration {
        if self.health.failed(Trouble::Reading, "disk", clock::wall()).is_some() {
            tracing::error!(cause = %Chain(error), "cannot read the cache directory; delivery waits");
        }
        self.backoff.fail(fastrand::f64())
    }
}
