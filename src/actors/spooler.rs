//! The thread that owns the spool: the only place that waits for the disk.
//!
//! A [`SpoolThread`] is a handle that can be cloned; each call is a job for the thread and a future for its
//! answer. Jobs run in the order in which they were sent; before an answer is given the books know what is on
//! disk. What a job loses of the queue is told in the log, at once and then at most once a minute. The thread ends
//! when the last handle is dropped. If the thread is gone (a panic), every call answers
//! [`SpoolGone`], and whoever called must end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::oneshot;

use crate::batch::Batch;
use crate::books::Books;
use crate::failpoint;
use crate::outage::QUIET;
use crate::outputs::pattoo::body::{Body, legible};
use crate::outputs::pattoo::restamp;
use crate::reading::Timestamp;
use crate::spool::{Checked, Findings, Limits, Name, Spool, SpoolError, Stored, Tally};
use crate::text::{Chain, count, seconds, size};
use crate::time::clock;

/// The spool thread has ended.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the spool thread is gone")]
pub struct SpoolGone;

/// A handle on the thread that owns the spool.
#[derive(Debug, Clone)]
pub struct SpoolThread {
    jobs: mpsc::Sender<Job>,
}

/// What became of a batch that was to be put on disk.
#[derive(Debug)]
pub struct Appended {
    /// Whether the disk has it.
    pub result: Result<(), SpoolError>,
}

/// The oldest batches.
#[derive(Debug)]
pub struct Taken {
    /// They, or why the disk does not give them.
    pub result: Result<Vec<Stored>, SpoolError>,
    /// What was found damaged on the way.
    pub findings: Findings,
    /// How many batches are on disk, these included.
    pub batches: usize,
}

type Job = Box<dyn FnOnce(&mut Spool, &Books) + Send>;

impl SpoolThread {
    /// Moves `spool` to a thread of its own, which keeps `books` up to date.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(mut spool: Spool, books: Arc<Books>) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        books.on_disk(spool.tally());
        std::thread::Builder::new().name("spool".to_owned()).spawn(move || {
            let mut losses = Losses::default();
            for job in queue {
                failpoint::pass("spool");
                job(&mut spool, &books);
                losses.tell(&spool, clock::boot());
            }
        })?;
        Ok(Self { jobs })
    }

    /// Puts `batch` on disk: to be delivered, or, while its readings have no dates, to be held. Before one with
    /// dates goes what was held, dated by adding `offset`.
    ///
    /// # Errors
    /// The thread is gone.
    pub async fn append(&self, batch: Arc<Batch>, offset: Option<Duration>) -> Result<Appended, SpoolGone> {
        self.ask(move |spool| {
            let result = put(spool, &batch, offset);
            Appended { result }
        })
        .await
    }

    /// Reads the oldest batches, as [`Spool::take`] does.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn take(&self, bytes: usize, count: usize) -> Result<Taken, SpoolGone> {
        self.ask(move |spool| {
            let result = spool.take(bytes, count);
            Taken { result, findings: spool.take_findings(), batches: spool.tally().batches }
        })
        .await
    }

    /// Keeps what cannot be delivered of the batch `name`, as [`Spool::set_aside`] does.
    ///
    /// # Errors
    /// The outer error: the thread is gone; the inner: the disk refused it.
    pub async fn set_aside(&self, name: Name, body: Vec<u8>) -> Result<Result<PathBuf, SpoolError>, SpoolGone> {
        self.ask(move |spool| spool.set_aside(name, &body)).await
    }

    /// Removes delivered batches, as [`Spool::acknowledge`] does.
    ///
    /// # Errors
    /// As [`Self::set_aside`].
    pub async fn acknowledge(
        &self,
        names: Vec<Name>,
        posted: Timestamp,
        quarantined: usize,
    ) -> Result<Result<(), SpoolError>, SpoolGone> {
        self.ask(move |spool| spool.acknowledge(&names, posted, quarantined)).await
    }

    /// Remembers a post that has never been on disk, as [`Spool::remember`] does.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn remember(&self, posted: Timestamp) -> Result<(), SpoolGone> {
        self.ask(move |spool| spool.remember(posted)).await
    }

    /// From now on the queue takes no more disk than `limits` allow.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn limit(&self, limits: Limits) -> Result<(), SpoolGone> {
        self.ask(move |spool| spool.limit(limits)).await
    }

    async fn ask<T: Send + 'static>(&self, job: impl FnOnce(&mut Spool) -> T + Send + 'static) -> Result<T, SpoolGone> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |spool, books| {
            let done = job(spool);
            // First: whoever hears of it may look at the books at once.
            books.on_disk(spool.tally());
            // Whoever asked may have been stopped.
            answer.send(done).ok();
        });
        self.jobs.send(job).map_err(|_| SpoolGone)?;
        answered.await.map_err(|_| SpoolGone)
    }
}

/// What the queue has lost, as far as the log knows.
#[derive(Debug, Default)]
struct Losses {
    told: Tally,
    told_at: Option<Duration>,
}

impl Losses {
    /// Tells what was lost since the last time, unless that was a moment ago.
    fn tell(&mut self, spool: &Spool, now: Duration) {
        let tally = spool.tally();
        let lost = tally.since(&self.told);
        if lost.lost() == 0 || self.told_at.is_some_and(|at| now.saturating_sub(at) < QUIET) {
            return;
        }
        let (path, limits) = spool.place();
        let reasons = [
            (lost.evicted_space, format!("less of the disk is free than cache_min_free ({})", limits.min_free)),
            (lost.evicted_size, format!("the cache is over cache_max_bytes ({})", size(limits.max_bytes.unwrap_or(0)))),
            (lost.evicted_age, format!("older than cache_max_age ({})", seconds(limits.max_age.unwrap_or_default()))),
            (lost.vanished, "somebody else removed the files".to_owned()),
        ];
        let reasons: Vec<_> =
            reasons.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count}: {why}")).collect();
        tracing::error!(
            "LOST {} that were not delivered yet, the oldest in {} ({}); {} lost since the start",
            count(usize::try_from(lost.lost()).unwrap_or(usize::MAX), "reading"),
            path.display(),
            reasons.join("; "),
            tally.lost(),
        );
        (self.told, self.told_at) = (tally, Some(now));
    }
}

fn put(spool: &mut Spool, batch: &Batch, offset: Option<Duration>) -> Result<(), SpoolError> {
    if !batch.dated {
        return spool.hold(batch.at, &batch.body, batch.datapoints);
    }
    if let Some(offset) = offset {
        spool.date_held(offset, &redate)?;
    }
    spool.append(batch.at, &batch.body, batch.datapoints).map(drop)
}

/// Judges what the spool finds on disk by the server's rules.
///
/// # Errors
/// Says what is wrong with it.
pub fn check(body: &[u8], at: Timestamp, agent_id: &str) -> Result<Checked, String> {
    let text = legible(body.to_vec());
    let body = Body::parse(&text).and_then(|body| body.of_agent(agent_id));
    let body = body.map_err(|damaged| Chain(&damaged).to_string())?;
    Ok(Checked { datapoints: body.datapoints(), plain: body.is_plain(agent_id, at) })
}

/// Moves the boot times in a body of ours by `offset` and gives it the stamp `at`.
///
/// # Errors
/// Says what is wrong with it.
pub fn redate(body: &[u8], offset: Duration, at: Timestamp) -> Result<Vec<u8>, String> {
    let date = |boot| Some(Timestamp::from(UNIX_EPOCH + boot + offset));
    restamp::redate(body, date, at).map_err(|error| Chain(&error).to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn whoever_hears_that_a_batch_is_on_disk_finds_it_in_the_books() {
        let root = tempfile::tempdir().unwrap();
        let spool = Spool::open(root.path(), "id", check, Limits::default()).unwrap();
        let books = Arc::<Books>::default();
        let thread = SpoolThread::start(spool, Arc::clone(&books)).unwrap();
        for n in 1..=100 {
            let at = Timestamp::from_millis(1_790_000_000_000 + n);
            let batch = Batch { at, dated: true, datapoints: 1, body: Bytes::from_static(b"a body") };
            thread.append(Arc::new(batch), None).await.unwrap().result.unwrap();
            assert_eq!(books.disk().on_disk, n);
        }
    }
}
