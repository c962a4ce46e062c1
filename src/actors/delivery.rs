//! The loop that empties the spool: oldest first, one post in flight, backlogs merged.
//!
//! What goes into one post is decided by [`Consignment`] and its parts, what becomes of a post that is too large
//! or refused by [`Carrier`]; this loop performs it. What the server refuses while it takes the rest is kept in
//! quarantine.
//!
//! Before the first post, and after each step of the clock, the server is asked for the time, and a batch
//! that is more than an hour ahead of it waits.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::carrier::{Carrier, Next};
use super::spooler::{SpoolGone, SpoolThread, Taken};
use super::timekeeper::Timekeeper;
use crate::batch::Batch;
use crate::failpoint;
use crate::outage::{Outages as Health, Transition as Change};
use crate::outputs::pattoo::consignment::{Consignment, Item, Kept};
use crate::outputs::pattoo::identity::AgentId;
use crate::outputs::pattoo::post::{PostError, Poster};
use crate::reading::Timestamp;
use crate::shard::Shard;
use crate::spool::{Finding, Findings, Name, SpoolError, Stored};
use crate::status::registry::Registry as Board;
use crate::text::{Chain, count, seconds};
use crate::time::clock::{self, Moment};
use crate::time::timeline::ClockState;

/// A clock that has moved by this against the time since boot has been set.
const STEP: Duration = Duration::from_secs(2);

/// How often a server is asked for the time while batches or readings wait for it.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Whom to deliver to, and how.
#[derive(Debug)]
pub struct Destination {
    /// The server.
    pub poster: Poster,
    /// Who we are.
    pub id: AgentId,
    /// Which of several agents of that name.
    pub shard: Shard,
    /// The greatest stamp that was posted before.
    pub posted: Timestamp,
    /// How long the oldest batch may be refused before it is taken apart.
    pub patience: Duration,
}

/// What a reload may change about deliveries.
#[derive(Debug)]
pub struct Terms {
    /// Another server; `None`: the same as before.
    pub server: Option<Poster>,
    /// How long the oldest batch may be refused before it is taken apart.
    pub patience: Duration,
}

/// Where the poster's two halves meet, besides the disk.
#[derive(Debug, Default)]
pub struct Doorway {
    arrived: Notify,
    terms: RefCell<Option<Terms>>,
    /// There are new terms: no pause that belongs to the old ones goes on.
    reloaded: Notify,
    /// The loop waits for something to arrive.
    idle: Cell<bool>,
    direct: RefCell<Option<(Arc<Batch>, oneshot::Sender<bool>)>>,
}

impl Doorway {
    /// A batch is on disk: none may overtake it from memory, even before the loop has heard of it.
    pub fn arrived(&self) {
        self.idle.set(false);
        self.arrived.notify_one();
    }

    /// The next post is on these terms.
    pub fn reload(&self, mut terms: Terms) {
        let mut waiting = self.terms.borrow_mut();
        // A server that was named just before, and not turned to yet, is none that could be kept.
        terms.server = terms.server.or_else(|| waiting.take().and_then(|terms| terms.server));
        *waiting = Some(terms);
        self.reloaded.notify_one();
    }

    /// Lets time pass, until there are new terms.
    async fn pause(&self, pause: Duration) {
        // Timed out is what it usually is.
        tokio::time::timeout(pause, self.reloaded.notified()).await.ok();
    }

    /// Posts a batch that the disk has refused, unless others are before it; `true` when it is delivered.
    pub async fn deliver_from_memory(&self, batch: Arc<Batch>) -> bool {
        if !self.idle.get() {
            return false;
        }
        let (answer, answered) = oneshot::channel();
        self.direct.replace(Some((batch, answer)));
        self.arrived();
        answered.await.unwrap_or(false)
    }

    async fn wait(&self) {
        self.idle.set(true);
        self.arrived.notified().await;
        self.idle.set(false);
    }
}

/// The loop and what it remembers.
pub struct Delivery {
    to: Destination,
    spool: SpoolThread,
    timekeeper: Timekeeper,
    board: Arc<Board>,
    doorway: Rc<Doorway>,
    carrier: Carrier,
    health: Health<Trouble>,
    /// When the server last told the time.
    told: Option<Moment>,
    /// When it was last asked for it, since boot.
    asked: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    Reading,
    Posting,
    Removing,
    SettingAside,
    Future,
}

impl Delivery {
    /// A loop that delivers what is in `spool`.
    #[must_use]
    pub fn new(
        to: Destination,
        spool: SpoolThread,
        timekeeper: Timekeeper,
        board: Arc<Board>,
        doorway: Rc<Doorway>,
    ) -> Self {
        let carrier = Carrier::new(to.patience);
        Self {
            to,
            spool,
            timekeeper,
            board,
            doorway,
            carrier,
            health: Health::default(),
            told: None,
            asked: Duration::ZERO,
        }
    }

    /// Runs until the spool's thread is gone.
    pub async fn run(mut self) -> SpoolGone {
        loop {
            failpoint::pass("poster");
            if let Err(gone) = self.step().await {
                return gone;
            }
        }
    }

    async fn step(&mut self) -> Result<(), SpoolGone> {
        let (bytes, count) = self.carrier.load();
        let Taken { result, findings, batches } = self.spool.take(bytes, count).await?;
        tell_findings(&findings);
        match result {
            Ok(stored) if !stored.is_empty() => self.deliver(stored).await?,
            // What was looked at was set aside: there is more.
            Ok(_) if batches > 0 => {}
            Ok(_) => self.wait().await?,
            Err(error) => self.cannot_read(&error).await,
        }
        Ok(())
    }

    /// Waits for something to deliver. While readings wait for a date the server is asked for the time now and then: one
    /// odd answer must not hold them for ever.
    async fn wait(&mut self) -> Result<(), SpoolGone> {
        if let ClockState::NotPlausible { .. } = self.timekeeper.observe() {
            let left = (self.asked + ASK_AGAIN).saturating_sub(clock::boot());
            if left.is_zero() {
                self.take_terms();
                self.ask_time().await;
                return Ok(());
            }
            if tokio::time::timeout(left, self.doorway.wait()).await.is_err() {
                self.doorway.idle.set(false);
                return Ok(());
            }
        } else {
            self.doorway.wait().await;
        }
        let Some((batch, answer)) = self.doorway.direct.take() else { return Ok(()) };
        let item = Item { at: batch.at, body: batch.body.clone(), datapoints: batch.datapoints, plain: true };
        let consignment = Consignment::new(vec![item], self.to.id.clone(), self.to.shard);
        let delivered = match consignment.next(self.to.posted) {
            Some(post) if self.is_due(post.at).await => {
                self.spool.remember(post.at).await?;
                match self.to.poster.post(post.body).await {
                    Ok(()) => {
                        self.delivered(post.at, batch.body.len());
                        true
                    }
                    Err(error) => {
                        self.tell_refused(&error, Duration::ZERO);
                        false
                    }
                }
            }
            _ => false,
        };
        // The aggregator may have been stopped.
        answer.send(delivered).ok();
        Ok(())
    }

    /// Delivers the batches whole and removes them, unless one of them must go alone.
    async fn deliver(&mut self, stored: Vec<Stored>) -> Result<(), SpoolGone> {
        let names: Vec<Name> = stored.iter().map(|stored| stored.name).collect();
        let (Some(&oldest), Some(&newest)) = (names.first(), names.last()) else { return Ok(()) };
        let mut remembered = newest.at();
        let mut consignment =
            Consignment::new(stored.into_iter().map(item).collect(), self.to.id.clone(), self.to.shard);
        let mut aside = self.set_aside(oldest, consignment.unsound()).await?;
        self.carrier.begin();
        while let Some(post) = consignment.next(self.to.posted) {
            if self.carrier.cut(post.body.len(), &mut consignment) {
                continue;
            }
            if !self.is_due(post.at).await {
                continue;
            }
            if post.at > remembered {
                // No name on disk says it.
                self.spool.remember(post.at).await?;
                remembered = post.at;
            }
            let bytes = post.body.len();
            match self.to.poster.post(post.body).await {
                Ok(()) => {
                    self.carrier.part_delivered(&mut consignment, clock::boot());
                    self.delivered(post.at, bytes);
                }
                Err(error) => {
                    let batches = (newest, names.len() == 1);
                    let (now, random) = (clock::boot(), fastrand::f64());
                    let part = consignment.parts().next();
                    let next = self.carrier.failed(&error, bytes, batches, &mut consignment, now, random);
                    if error.is_late() && consignment.parts().next() != part {
                        // The server may have it: another body of this stamp would take its place there.
                        self.to.posted = self.to.posted.max(post.at);
                    }
                    match next {
                        Next::Post { pause, failed } => {
                            if failed {
                                self.tell_refused(&error, pause);
                            }
                            self.doorway.pause(pause).await;
                        }
                        Next::Alone => return Ok(()),
                    }
                }
            }
        }
        aside += self.set_aside(oldest, consignment.condemned()).await?;
        self.carrier.done(newest);
        let removed = self.spool.acknowledge(names, self.to.posted, aside).await?;
        self.tell_removed(removed);
        Ok(())
    }

    fn delivered(&mut self, at: Timestamp, bytes: usize) {
        self.to.posted = self.to.posted.max(at);
        self.carrier.delivered(clock::boot());
        self.board.server().write(|state| state.took(clock::wall()));
        if let Some(date) = self.to.poster.server_date() {
            self.told = Some(self.timekeeper.server_says(date));
        }
        if let Some(Change::Recovered { lasted, failures }) = self.health.worked(&Trouble::Posting, clock::boot()) {
            let lasted = seconds(lasted);
            tracing::info!(
                code = 1007,
                "the server takes batches again after {lasted} and {failures} failed posts; what was kept is delivered oldest first"
            );
        }
        tracing::debug!(code = 1027, at = %at, bytes, "posted");
    }

    /// Whether a batch of this stamp may be posted now. Asks the server for the time if need be, and takes its
    /// time when the answer is no.
    async fn is_due(&mut self, at: Timestamp) -> bool {
        self.take_terms();
        let stepped = self.told.is_none_or(|told| told.has_stepped(clock::now(), STEP));
        if stepped && !self.ask_time().await {
            return false;
        }
        let Some(ahead) = self.timekeeper.too_far_ahead(at) else {
            if let Some(Change::Recovered { .. }) = self.health.worked(&Trouble::Future, clock::boot()) {
                tracing::info!("batches on disk are no longer ahead of the server's clock; delivery goes on");
            }
            return true;
        };
        if self.health.failed(Trouble::Future, "future", clock::boot()).is_some() {
            tracing::error!(
                "batches on disk are stamped up to {} ahead of the server's clock and are held until it is less than an \
                 hour; set this machine's clock, or the server's, or trust_local_clock in the configuration",
                seconds(ahead)
            );
        }
        self.doorway.pause(ASK_AGAIN).await;
        self.take_terms();
        self.ask_time().await;
        false
    }

    /// What has been configured since the last post.
    fn take_terms(&mut self) {
        let Some(Terms { server, patience }) = self.doorway.terms.take() else { return };
        self.carrier.be_patient(patience);
        if let Some(server) = server {
            // Neither its clock nor what it takes are known.
            (self.to.poster, self.told, self.carrier) = (server, None, Carrier::new(patience));
        }
    }

    /// Asks the server for the time; `false` when there was no answer at all, after a pause.
    async fn ask_time(&mut self) -> bool {
        self.asked = clock::boot();
        match self.to.poster.ask_time().await {
            Ok(date) => {
                // A server that does not tell is not asked each time.
                self.told = Some(date.map_or_else(clock::now, |date| self.timekeeper.server_says(date)));
                true
            }
            Err(error) => {
                let pause = self.carrier.pause(fastrand::f64());
                self.tell_refused(&error, pause);
                self.doorway.pause(pause).await;
                false
            }
        }
    }

    /// Keeps what cannot be delivered, however often the disk refuses it; returns how many datapoints it was.
    async fn set_aside(&mut self, name: Name, kept: Option<Kept>) -> Result<usize, SpoolGone> {
        let Some(Kept { datapoints, body, why }) = kept else { return Ok(0) };
        let path = loop {
            match self.spool.set_aside(name, body.clone()).await? {
                Ok(path) => break path,
                Err(error) => {
                    if self.health.failed(Trouble::SettingAside, "disk", clock::boot()).is_some() {
                        tracing::error!("cannot keep what cannot be delivered: {}; delivery waits", Chain(&error));
                    }
                    tokio::time::sleep(self.carrier.pause(fastrand::f64())).await;
                }
            }
        };
        self.health.worked(&Trouble::SettingAside, clock::boot());
        tracing::error!(
            code = 1036,
            "{} not delivered: {why}; kept as {} for you to look at",
            count(datapoints, "reading"),
            path.display()
        );
        Ok(datapoints)
    }

    fn tell_refused(&mut self, error: &PostError, pause: Duration) {
        let now = clock::boot();
        let cause = Chain(error);
        self.board.server().write(|state| state.refused(cause.to_string(), clock::wall(), pause));
        let next = seconds(pause);
        match self.health.failed(Trouble::Posting, error.kind(), now) {
            None | Some(Change::Recovered { .. }) => {}
            Some(Change::Down { lasted }) => {
                let lasted = seconds(lasted);
                tracing::error!(
                    code = 1097,
                    "the server has taken nothing for {lasted}: {cause}; readings are kept on disk, next attempt in {next}"
                );
            }
            Some(Change::Failed { .. } | Change::OtherCause { .. }) => {
                tracing::warn!(code = 1028, "post failed: {cause}; the batch stays on disk, next attempt in {next}");
            }
        }
    }

    fn tell_removed(&mut self, removed: Result<(), SpoolError>) {
        let now = clock::boot();
        match removed {
            Ok(()) => {
                self.health.worked(&Trouble::Removing, now);
            }
            Err(error) => {
                if self.health.failed(Trouble::Removing, "disk", now).is_some() {
                    tracing::error!(
                        "cannot remove a delivered batch: {}; it is not posted again unless the agent restarts",
                        Chain(&error)
                    );
                }
            }
        }
    }

    async fn cannot_read(&mut self, error: &SpoolError) {
        if self.health.failed(Trouble::Reading, "disk", clock::boot()).is_some() {
            tracing::error!("cannot read the cache directory: {}; delivery waits", Chain(error));
        }
        tokio::time::sleep(self.carrier.pause(fastrand::f64())).await;
    }
}

fn item(Stored { name, body, checked }: Stored) -> Item {
    Item { at: name.at(), body, datapoints: checked.datapoints, plain: checked.plain }
}

fn tell_findings(Findings { told, untold }: &Findings) {
    for Finding { path, why, moved } in told {
        if *moved {
            tracing::error!(
                code = 1036,
                "a batch on disk is damaged and not delivered: {why}; it is kept as {} for you to look at",
                path.display()
            );
        } else {
            tracing::warn!("{} is no batch and is left alone: {why}", path.display());
        }
    }
    if *untold > 0 {
        tracing::error!(code = 1036, "{untold} more files like these");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn a_batch_in_memory_does_not_overtake_one_that_has_just_reached_the_disk() {
        let doorway = Doorway::default();
        let batch = || Arc::new(Batch { at: Timestamp::default(), dated: true, datapoints: 1, body: Bytes::new() });
        let wait = doorway.wait();
        tokio::pin!(wait);
        assert!(tokio::time::timeout(Duration::ZERO, &mut wait).await.is_err(), "the loop waits");
        doorway.arrived();
        assert!(!doorway.deliver_from_memory(batch()).await);
        assert!(doorway.direct.borrow().is_none());
    }
}
