//! The thread that owns the spool: the only place that waits for the disk.
//!
//! A [`SpoolThread`] is a handle that can be cloned; each call is a job for the thread and a future for its
//! answer. Jobs run in the order in which they were sent. The thread ends when the last handle is dropped.
//! If the thread is gone (a panic), every call answers [`SpoolGone`], and whoever called must end.

use std::sync::Arc;
use std::sync::mpsc;

use tokio::sync::oneshot;

use crate::batch::Batch;
use crate::spool::{Name, Quarantined, Spool, SpoolError, Stored};

/// The spool thread has ended.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the spool thread is gone")]
pub struct SpoolGone;

/// A handle on the thread that owns the spool.
#[derive(Debug, Clone)]
pub struct SpoolThread {
    jobs: mpsc::Sender<Job>,
}

type Job = Box<dyn FnOnce(&mut Spool) + Send>;

impl SpoolThread {
    /// Moves `spool` to a thread of its own.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(mut spool: Spool) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("spool".to_owned()).spawn(move || {
            for job in queue {
                job(&mut spool);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Puts `batch` on disk.
    ///
    /// # Errors
    /// The outer error: the thread is gone; the inner: the disk refused it.
    pub async fn append(&self, batch: Arc<Batch>) -> Result<Result<(), SpoolError>, SpoolGone> {
        self.ask(move |spool| spool.append(batch.at, &batch.body).map(drop)).await
    }

    /// Reads the oldest batch, and tells what was found damaged on the way to it.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn oldest(&self) -> Result<(Result<Option<Stored>, SpoolError>, Vec<Quarantined>), SpoolGone> {
        self.ask(|spool| (spool.oldest(), spool.take_quarantined())).await
    }

    /// Removes a delivered batch.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn acknowledge(&self, name: Name) -> Result<Result<(), SpoolError>, SpoolGone> {
        self.ask(move |spool| spool.acknowledge(name)).await
    }

    async fn ask<T: Send + 'static>(&self, job: impl FnOnce(&mut Spool) -> T + Send + 'static) -> Result<T, SpoolGone> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |spool| {
            // Whoever asked may have been stopped.
            answer.send(job(spool)).ok();
        });
        self.jobs.send(job).map_err(|_| SpoolGone)?;
        answered.await.map_err(|_| SpoolGone)
    }
}
