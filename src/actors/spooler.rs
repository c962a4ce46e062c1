//! The thread that owns the log: the only place that waits for the disk.
//!
//! A [`SpoolThread`] is a handle; each [`Job`] is performed in the order in which it was sent, and answered by a future.
//! The thread ends when the handle is dropped. If it is gone (a panic), every call answers [`SpoolGone`], and whoever called must
//! end.

use std::sync::mpsc;

use tokio::sync::oneshot;

use crate::failpoint;
use crate::spool::job::{Done, Job};
use crate::spool::log::Log;
use crate::status::narrator::tell_findings;

/// The spool thread has ended.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the spool thread is gone")]
pub struct SpoolGone;

/// A handle on the thread that owns the log.
#[derive(Debug)]
pub struct SpoolThread {
    jobs: mpsc::Sender<(Job, oneshot::Sender<Done>)>,
}

impl SpoolThread {
    /// Moves `log` to a thread of its own.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(mut log: Log) -> std::io::Result<Self> {
        // Without a bound, but the poster has one job under way: what waits for the disk waits in the pipeline, which
        // bounds it.
        let (jobs, queue) = mpsc::channel::<(Job, oneshot::Sender<Done>)>();
        std::thread::Builder::new().name("spool".to_owned()).spawn(move || {
            for (job, answer) in queue {
                failpoint::pass("spool");
                // Whoever asked may have been stopped.
                answer.send(log.perform(job)).ok();
                tell_findings(&log.take_findings());
            }
        })?;
        Ok(Self { jobs })
    }

    /// Has `job` done.
    ///
    /// # Errors
    /// The thread is gone.
    pub fn perform(&self, job: Job) -> impl Future<Output = Result<Done, SpoolGone>> + use<> {
        let (answer, answered) = oneshot::channel();
        // Sent by the call and not by the first poll of the future, so that jobs are done in the order of the calls.
        let sent = self.jobs.send((job, answer));
        async move {
            sent.map_err(|_| SpoolGone)?;
            answered.await.map_err(|_| SpoolGone)
        }
    }
}
