//! Where readings go: what a kind of server must be able to say, and everything that is the same for all of them.
//!
//! | file | what it owns |
//! |---|---|
//! | this one | [`Encode`] and [`Deliver`]: what an output must be able to say |
//! | [`delivery`] | the policy of one output: order, backoff, refusals, what is set aside; pure |
//! | `size`, `bisection` | of it: how much goes into one post; which series a server refuses, on evidence; pure |
//! | `pipeline` | the memory tail, the disk and every output's delivery as one thing that decides; pure |
//! | [`http`] | one exchange with a server over HTTP |
//! | [`network`] | what outputs over a network are configured with alike |
//! | [`plant`] | what is configured just now, and which of it answers |
//! | `recent` | what an output has made of the last point tables |
//! | [`template`] | a text with places for what a point is; pure |
//! | [`pattoo`] | posts of a pattoo server, and the old caches that are such posts |
//! | [`file`](mod@file) | lines of a file |
//! | [`influxdb`] | lines of an InfluxDB, and of what takes them too |
//! | [`mqtt`] | messages to a broker |
//! | [`otlp`] | data points to a receiver of OTLP |
//! | [`prometheus`] | samples of a Prometheus, and of what takes its remote write too |
//! | [`samples`] | what outputs have in common whose servers keep series of samples |
//! | [`sqlite`] | rows of a database on this machine |
//!
//! An output is a cursor over the log: it is given readings in order, makes posts of them, and acknowledges. It never
//! sees the disk, a queue or another output. A new output implements the two traits in a file or folder of its own; its keys
//! are read by `config::outputs`, and `daemon::assemble` makes it of them.

mod bisection;
pub mod delivery;
pub mod file;
#[cfg(test)]
mod fixtures;
pub mod http;
pub mod influxdb;
pub mod mqtt;
pub mod network;
pub mod otlp;
pub mod pattoo;
pub mod pipeline;
pub mod plant;
pub mod prometheus;
mod recent;
pub mod samples;
mod size;
pub mod sqlite;
pub mod template;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::reading::points::PointTable;
use crate::reading::{Reading, Timestamp};
use crate::spool::job::OldBatch;

/// A future of the poster's thread.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Makes posts of readings. Pure: it waits for nothing.
pub trait Encode: Send {
    /// Makes one post of the first of `readings` (at least one, all dated, all of `table`): of as many as take
    /// about `room` bytes, and of one at least. `posted` is the greatest stamp that a post had so far.
    fn encode(&mut self, table: &Arc<PointTable>, readings: &[Reading], room: usize, posted: Timestamp) -> Encoded;

    /// What is kept of `readings`, which the server refuses, for people: as many as go into one file. Unless an output says
    /// otherwise that is the post.
    fn set_aside(&mut self, table: &Arc<PointTable>, readings: &[Reading]) -> Encoded {
        self.encode(table, readings, usize::MAX, Timestamp::default())
    }

    /// How the name of a file ends that holds what is kept: `json`.
    fn extension(&self) -> &'static str;

    /// Takes apart a batch of an old cache, at `now`. Only the output that the old caches were made for can.
    ///
    /// # Errors
    /// When it cannot be delivered: it is damaged, or not of this agent. The text says why.
    fn old(&self, batch: OldBatch, now: Timestamp) -> Result<Box<dyn OldLoad>, String> {
        let _ = (batch, now);
        Err("this output does not take it".to_owned())
    }
}

/// A batch of an old cache, ready to be posted: rows that are made into posts without being understood.
pub trait OldLoad: Send {
    /// What must not be posted, to be kept in quarantine before anything is posted.
    fn unsound(&self) -> Option<Unsound>;

    /// How many rows can be posted; they are numbered from 0, oldest first.
    fn rows(&self) -> usize;

    /// The series of a row: the same number for the same series.
    fn series(&self, row: usize) -> u32;

    /// When the reading of a row was taken.
    fn at(&self, row: usize) -> Timestamp;

    /// As [`Encode::encode`], of the first of these rows (at least one).
    fn encode(&self, rows: &[usize], room: usize, posted: Timestamp) -> Encoded;
}

/// Rows of an old cache that no server could take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsound {
    /// How many.
    pub rows: usize,
    /// The stamp of the batch.
    pub at: Timestamp,
    /// What to keep.
    pub body: Vec<u8>,
    /// What is wrong with them.
    pub why: String,
}

/// A post.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoded {
    /// What is sent; nothing when none of the readings can be sent.
    pub body: Option<Bytes>,
    /// How many readings were used up: those in the body, and those that cannot be sent.
    pub taken: usize,
    /// Of those, the ones that no server of this kind could take.
    pub not_sendable: usize,
    /// The stamp of the post, greater than `posted`, if posts have such.
    pub stamp: Option<Timestamp>,
}

/// Brings posts to a server, one at a time. It lives on the poster's thread, where [`Open`] makes it.
pub trait Deliver {
    /// It has taken the place of another one, whether or not there is something to post: where others are told who is there, it
    /// comes at once.
    fn begin(&mut self) {}

    /// Makes one attempt.
    fn post(&mut self, body: Bytes) -> LocalFuture<'_, Answer>;

    /// As [`Deliver::post`], of readings that were there before this was made: some of them may have been posted, and nobody
    /// knows. Most servers take that for what it is, a repetition.
    fn post_again(&mut self, body: Bytes) -> LocalFuture<'_, Answer> {
        self.post(body)
    }

    /// Asks the server what time it is. An output whose servers do not tell answers at once, without a time.
    fn ask_time(&mut self) -> LocalFuture<'_, Answer> {
        Box::pin(std::future::ready(Answer { result: Ok(()), server_time: None }))
    }

    /// Asks whether the server would take a post, and gives it no reading: what a person should know of it.
    ///
    /// # Errors
    /// When it would not.
    fn try_out(&mut self) -> LocalFuture<'_, Result<String, Failure>> {
        Box::pin(std::future::ready(Ok("is on this machine".to_owned())))
    }
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `Ok`: the server has it.
    pub result: Result<(), Failure>,
    /// The server's clock when it answered, if it told.
    pub server_time: Option<Timestamp>,
}

/// Why a post is not known to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What follows from it.
    pub verdict: Verdict,
    /// The name under which it is counted: `connect`, `timeout`, `refused` …
    pub kind: &'static str,
    /// In a sentence or two, for a person.
    pub text: String,
    /// Of [`Verdict::RefusedForGood`]: which readings, by their place among those that the post took.
    pub refused: Vec<usize>,
}

impl Failure {
    /// Of a whole post: no reading of it is told apart.
    #[must_use]
    pub fn new(verdict: Verdict, kind: &'static str, text: impl Into<String>) -> Self {
        Self { verdict, kind, text: text.into(), refused: Vec::new() }
    }
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The post is too large for the server or the way.
    TooLarge,
    /// This post may be the reason, while the server takes others.
    RefusedBody,
    /// A part of this post is the reason: the server says so, and a post of the rest is taken. Which part is searched for at once.
    RefusedPart,
    /// The server will never take these readings of the post ([`Failure::refused`]), whatever else it takes: its words mean nothing
    /// else. All others it has.
    RefusedForGood,
    /// We are the reason: credentials, a database that is missing. Nothing is dropped for it.
    RefusedUs,
    /// Neither: try again.
    Later {
        /// How long the server wants to be left alone.
        after: Option<Duration>,
        /// The time ran out: the server may have it, and a smaller post may get through.
        late: bool,
    },
}

/// Where an output begins that has no cursor yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With what is read from now on.
    #[default]
    End,
    /// With everything that is still on disk.
    Beginning,
}

/// Makes a [`Deliver`] on the thread where it will work: HTTP clients cannot move to another one.
pub type Open = Box<dyn FnOnce() -> Box<dyn Deliver> + Send>;

/// What makes posts, and what brings them to the server.
pub type Halves = (Box<dyn Encode>, Open);

/// One configured output.
pub struct Output {
    /// Its name: letters, digits, `_` and `-`; that of its cursor.
    pub name: String,
    /// Its kind, as configured: `pattoo`, `file`.
    pub kind: &'static str,
    /// Where its posts go, for people.
    pub target: String,
    /// Makes its posts.
    pub encode: Box<dyn Encode>,
    /// Makes what brings them there.
    pub deliver: Open,
    /// Whether its server tells the time: then it is asked before the first post and after each step of our clock.
    pub tells_time: bool,
    /// Whether it takes what the old caches hold, byte for byte.
    pub takes_old_caches: bool,
    /// How long its oldest post may be refused before it is taken apart.
    pub split_refused_after: Duration,
    /// Where it begins when it is new.
    pub start: Start,
}
