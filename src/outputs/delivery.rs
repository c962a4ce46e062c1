//! The policy of one output: what to post next, and what follows from the answer. Pure: told the time since boot and a
//! random number, it waits for nothing and touches no disk.
//!
//! - Readings go in order, oldest first, as many in a post as the way lets through (`size`).
//! - A post whose answer is in doubt goes again byte for byte. Another body gets a greater stamp than any post that was given
//!   out, so that it takes the place of none at the server.
//! - Every failure pauses, longer each time, with jitter; a server that is back is posted to within [`MAX_BACKOFF`], unless it
//!   asked for more.
//! - What a server says that it will never take is set aside at once. Nothing else is dropped for being refused: after `split_refused_after`, or at once where a server says that it takes a part of
//!   the post, the rest of the front run is taken apart by series, and
//!   what is refused again and again while the server takes other things is set aside (`bisection`). What was set aside in
//!   the last hour is suspected at once the next time.
//!
//! Invariant: a reading is finished once: delivered, not sendable, or on disk in quarantine. [`Progress`] tells it when all
//! readings before it are finished too, so a cursor that follows passes over nothing.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::bisection::{Ask, Bisection, MEMORY, Trust, WITNESS};
use super::size::Size;
use super::{Encode, Encoded, Failure, OldLoad, Unsound, Verdict};
use crate::digest::sha256;
use crate::reading::points::{PointTable, TableId};
use crate::reading::{Reading, Timestamp};
use crate::spool::job::OldBatch;
use crate::time::backoff::{Backoff, FIRST};
use crate::time::timeline::HOUR;

/// A server that is back is posted to within this time, if nothing else is configured.
pub const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// The longest pause after a refusal while suspects are on trial: these posts are tiny, and the one before was accepted.
const TRIAL_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause after a post that was merely too large: the next one is half as large, so there are few of these.
const SMALLER_PAUSE: Duration = Duration::from_millis(100);

/// Readings of one point table, all dated.
#[derive(Debug)]
pub struct Run {
    /// What their points are.
    pub table: Arc<PointTable>,
    /// In order.
    pub readings: Vec<Reading>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Post this now.
    Post {
        /// The post.
        body: Bytes,
        /// The newest stamp of its readings.
        newest: Timestamp,
        /// How many they are.
        readings: usize,
    },
    /// Nothing before this time since boot.
    Wait(Duration),
    /// Keep this in quarantine first, then call [`Delivery::set_aside`].
    SetAside {
        /// The name of the file: the same for the same content.
        file_name: String,
        /// Its content.
        body: Vec<u8>,
        /// How many readings it holds.
        readings: usize,
        /// Why they cannot be delivered.
        why: String,
    },
    /// What was loaded is all done, or nothing is loaded: take [`Delivery::progress`], then load more.
    Empty,
}

/// How far a delivery has come since it was last asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Readings from the front of the load that are finished: the sum of the other three. Those of old caches do not count
    /// here, because they are not in the log.
    pub passed: usize,
    /// The server has them.
    pub delivered: usize,
    /// No server of this kind could take them.
    pub not_sendable: usize,
    /// They are in quarantine.
    pub quarantined: usize,
}

/// What follows from an answer for the shell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// How long the server is left alone.
    pub pause: Duration,
    /// Whether the post counts as failed: not when it was merely too large, or a step of the search for what is refused.
    pub failed: bool,
}

/// The delivery to one output.
pub struct Delivery {
    encode: Box<dyn Encode>,
    split_refused_after: Duration,
    max_backoff: Duration,
    stamp: Timestamp,
    /// The wall clock, while it is believed.
    wall: Option<Timestamp>,
    way: Way,
    not_before: Duration,
    /// What is loaded, oldest first.
    sources: VecDeque<Source>,
    /// How far the front source has come.
    front: Front,
    /// Given out, and not answered for good.
    post: Option<Post>,
    aside: Option<Aside>,
    progress: Progress,
}

/// What was learned of the way to the server, and of the server.
#[derive(Debug, Default)]
struct Way {
    size: Size,
    backoff: Backoff,
    trust: Trust,
    /// When the server last accepted something.
    accepted: Option<Duration>,
    /// A reading that it has accepted.
    control: Option<(Arc<PointTable>, Reading)>,
    /// Series that were condemned, and when.
    condemned: HashMap<(TableId, u32), Duration>,
}

/// Where rows come from.
enum Source {
    Run(Run),
    Old(Box<dyn OldLoad>),
}

/// How far the front source has come.
#[derive(Default)]
struct Front {
    /// What became of each row.
    marks: Vec<Mark>,
    /// The first row that is not finished.
    row: usize,
    /// Since when its posts are refused.
    refused: Option<Duration>,
    /// A row of it that the server has accepted, for sources that have no readings.
    control: Option<usize>,
    /// Why it has rows that the server will never take; they are set aside together, when nothing else is left of it.
    never: String,
    search: Option<Search>,
}

/// A source that is taken apart.
struct Search {
    bisection: Bisection,
    /// The rows of each item.
    items: Vec<Vec<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mark {
    #[default]
    Waiting,
    Delivered,
    NotSendable,
    Quarantined,
    /// The server will never take it.
    Never,
}

/// A post that was given out.
struct Post {
    body: Bytes,
    newest: Timestamp,
    rows: Vec<usize>,
    not_sendable: usize,
    what: What,
    /// It was refused already, as it is.
    refused: bool,
}

/// What a post is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// The next rows.
    InOrder,
    /// So many items of a search; and so many of them wholly.
    Items { touched: usize, complete: usize },
    /// What was accepted before.
    Control,
}

/// What is to be set aside.
struct Aside {
    file_name: String,
    body: Vec<u8>,
    why: String,
    what: Apart,
}

/// What is in a file that is set aside.
enum Apart {
    /// Rows of the front source, of which so many cannot be sent anyway.
    Rows(Vec<usize>, usize),
    /// So many rows that were never to be posted.
    Unsound(usize),
}

impl Delivery {
    /// Nothing is loaded. What is refused is taken apart after `split_refused_after`; the last post before had the stamp `stamp`.
    #[must_use]
    pub fn new(encode: Box<dyn Encode>, split_refused_after: Duration, stamp: Timestamp) -> Self {
        Self {
            encode,
            split_refused_after,
            max_backoff: MAX_BACKOFF,
            stamp,
            wall: None,
            way: Way::default(),
            not_before: Duration::ZERO,
            sources: VecDeque::new(),
            front: Front::default(),
            post: None,
            aside: None,
            progress: Progress::default(),
        }
    }

    /// No pause is longer from now on, but for one that the server asks for.
    pub fn set_max_backoff(&mut self, most: Duration) {
        self.max_backoff = most;
    }

    /// What the wall clock shows, if it is believed: it may have been set back behind a stamp that was given out.
    pub fn set_wall(&mut self, wall: Option<Timestamp>) {
        self.wall = wall;
    }

    /// How many readings are worth loading: about one post.
    #[must_use]
    pub fn want(&self) -> usize {
        self.way.size.readings()
    }

    /// Takes over readings, oldest first; only after [`Next::Empty`].
    pub fn load(&mut self, runs: Vec<Run>) {
        for mut run in runs.into_iter().filter(|run| !run.readings.is_empty()) {
            match self.sources.back_mut() {
                // What is of one table fits into one post.
                // Not into a source that has begun: there is one mark for each of its rows.
                Some(Source::Run(last)) if last.table.id() == run.table.id() && !self.front.is_begun() => {
                    last.readings.append(&mut run.readings);
                }
                _ => self.sources.push_back(Source::Run(run)),
            }
        }
    }

    /// Takes over a batch of an old cache, at `now`; only after [`Next::Empty`].
    ///
    /// # Errors
    /// When the output cannot deliver it: keep the file whole in quarantine.
    pub fn load_old(&mut self, batch: OldBatch, now: Timestamp) -> Result<(), String> {
        let load = self.encode.old(batch, now)?;
        if let Some(Unsound { rows, at, body, why }) = load.unsound() {
            let file_name = file_name(at, &body, self.encode.extension());
            self.aside = Some(Aside { file_name, body, why, what: Apart::Unsound(rows) });
        }
        self.sources.push_back(Source::Old(load));
        Ok(())
    }

    /// What to do at `now`, a time since boot. The same again, until it is done: see [`answered`](Self::answered) and
    /// [`set_aside`](Self::set_aside).
    pub fn next(&mut self, now: Duration) -> Next {
        while self.aside.is_none() && self.post.is_none() {
            if !self.prepare(now) {
                return Next::Empty;
            }
        }
        if let Some(Aside { file_name, body, why, what }) = &self.aside {
            let readings = match what {
                Apart::Rows(rows, _) => rows.len(),
                Apart::Unsound(rows) => *rows,
            };
            return Next::SetAside { file_name: file_name.clone(), body: body.clone(), readings, why: why.clone() };
        }
        match &self.post {
            // Only posts wait: what is to be set aside needs no server.
            Some(_) if now < self.not_before => Next::Wait(self.not_before),
            Some(post) => Next::Post { body: post.body.clone(), newest: post.newest, readings: post.rows.len() },
            None => Next::Empty,
        }
    }

    /// What became of the post given out last; `random` is uniform in 0..1. Not for a post that was given out before
    /// [`configure`](Self::configure) named another server.
    pub fn answered(&mut self, result: &Result<(), Failure>, now: Duration, random: f64) -> Told {
        let Some(post) = self.post.take() else { return Told::default() };
        let told = match result {
            Ok(()) => {
                self.accepted(&post, now);
                Told::default()
            }
            Err(failure) => self.failed(post, failure, now, random),
        };
        self.not_before = now + told.pause;
        told
    }

    /// What was to be set aside is on disk.
    pub fn set_aside(&mut self) {
        match self.aside.take().map(|aside| aside.what) {
            Some(Apart::Rows(rows, not_sendable)) => self.finish(&rows, not_sendable, Mark::Quarantined),
            Some(Apart::Unsound(rows)) => self.progress.quarantined += rows,
            None => {}
        }
    }

    /// How far it has come since the last call.
    pub fn progress(&mut self) -> Progress {
        std::mem::take(&mut self.progress)
    }

    /// Lets go of all that is loaded: how many readings are finished behind the one that is not, which [`progress`](Self::progress)
    /// has not told. `None` while something of it is to be set aside: nothing is let go of then.
    pub fn let_go(&mut self) -> Option<Progress> {
        let never = self.front.marked(Mark::Never);
        // What the server will never take is kept before anything is let go of.
        if self.aside.is_none() && !never.is_empty() {
            self.put_aside(never, self.front.never.clone());
        }
        if self.aside.is_some() {
            return None;
        }
        let mut finished = Progress::default();
        // What is finished behind the first row that is not: `progress` has told only what is before it.
        for mark in self.front.marks.iter().skip(self.front.row) {
            match mark {
                Mark::Waiting | Mark::Never => continue,
                Mark::Delivered => finished.delivered += 1,
                Mark::NotSendable => finished.not_sendable += 1,
                Mark::Quarantined => finished.quarantined += 1,
            }
            finished.passed += 1;
        }
        self.sources.clear();
        self.front = Front::default();
        self.post = None;
        Some(finished)
    }

    /// The stamp of the last post that was given out. Kept on disk before the post is made, it keeps the posts of another
    /// life of this agent apart from it.
    #[must_use]
    pub fn stamp(&self) -> Timestamp {
        self.stamp
    }

    /// Goes on under another configuration, at once. With `encode` the server is another one: what was learned of the way to the
    /// old one is forgotten, and what is loaded stays; what was to be set aside is, unless it is [taken back](Self::take_back).
    pub fn configure(&mut self, encode: Option<Box<dyn Encode>>, split_refused_after: Duration) {
        self.split_refused_after = split_refused_after;
        self.not_before = Duration::ZERO;
        let Some(encode) = encode else { return };
        self.encode = encode;
        // Size, control and condemned series are what the old server has taught.
        self.way = Way::default();
        // Made by the old encoder: its readings are still marked as waiting, and are encoded anew.
        self.post = None;
        self.front.search = None;
        self.front.refused = None;
        self.front.control = None;
        // The old server has condemned them; the new one may take them.
        self.front.marks.iter_mut().filter(|mark| **mark == Mark::Never).for_each(|mark| *mark = Mark::Waiting);
    }

    /// What was to be set aside because the server refuses it is posted again, if it is not on its way to the disk.
    pub fn take_back(&mut self) {
        self.aside.take_if(|aside| matches!(aside.what, Apart::Rows(..)));
    }

    /// Makes what comes next, if anything is left.
    fn prepare(&mut self, now: Duration) -> bool {
        let Some(source) = self.sources.front() else { return false };
        if self.front.marks.is_empty() {
            self.front.marks = vec![Mark::Waiting; source.rows()];
        }
        if self.front.row >= self.front.marks.len() {
            self.sources.pop_front();
            self.front = Front::default();
            return true;
        }
        match self.front.ask(self.way.control.is_some(), now) {
            Asked::Rows => {
                let rest = self.front.rest();
                // Together, when nothing else is left of the source: a file for some thousand readings, not one for
                // each post.
                if rest.is_empty() {
                    self.put_aside(self.front.marked(Mark::Never), self.front.never.clone());
                } else {
                    self.make(rest, None, now);
                }
            }
            Asked::Items(items) => self.make(self.front.rows_of(&items), Some(&items), now),
            Asked::Control => self.make_control(),
            Asked::Condemned(rows) => self.condemn(rows, now),
        }
        true
    }

    /// Makes a post of the first of `rows`, which are those of `items` if a search asked for them.
    fn make(&mut self, mut rows: Vec<usize>, items: Option<&[usize]>, now: Duration) {
        let Some(source) = self.sources.front() else { return };
        let first = rows.first().map(|&row| source.at(row)).unwrap_or_default();
        let posted = to_follow(self.stamp, first, self.wall);
        let encoded = source.encode(&mut *self.encode, &rows, self.way.size.room(), posted);
        // An encoder that takes nothing would be asked for ever.
        rows.truncate(encoded.taken.max(1));
        let what = items.map_or(What::InOrder, |items| self.front.covered(items, rows.len()));
        let Some(body) = encoded.body else {
            if let (Some(search), What::Items { complete, .. }) = (&mut self.front.search, what) {
                // Nothing of them was posted: that says neither that the server takes them nor that it refuses them.
                search.bisection.passed(complete, now, &mut self.way.trust);
            }
            self.finish(&rows, rows.len(), Mark::NotSendable);
            return;
        };
        // Whatever becomes of this post: no other body may have its stamp.
        self.stamp = encoded.stamp.unwrap_or(self.stamp);
        self.way.size.made(body.len(), rows.len());
        let newest = rows.iter().map(|&row| source.at(row)).max().unwrap_or_default();
        self.post = Some(Post { body, newest, rows, not_sendable: encoded.not_sendable, what, refused: false });
    }

    /// Makes a post of one reading that the server has accepted before.
    ///
    /// A suspect can only be condemned by a server that takes other things at the same moment. When everything else is through, one
    /// reading goes again: a server drops, or writes over, what it has already. To post everything anew would cost more and say
    /// no more.
    fn make_control(&mut self) {
        let room = self.way.size.room();
        let posted = |at| to_follow(self.stamp, at, self.wall);
        let (encoded, newest) = match (self.front.control, &self.way.control, self.sources.front()) {
            (Some(row), _, Some(source)) => {
                let at = source.at(row);
                (source.encode(&mut *self.encode, &[row], room, posted(at)), at)
            }
            (None, Some((table, reading)), _) => {
                (self.encode.encode(table, std::slice::from_ref(reading), room, posted(reading.at)), reading.at)
            }
            _ => return,
        };
        let Some(body) = encoded.body else {
            (self.front.control, self.way.control) = (None, None);
            return;
        };
        self.stamp = encoded.stamp.unwrap_or(self.stamp);
        self.post = Some(Post { body, newest, rows: Vec::new(), not_sendable: 0, what: What::Control, refused: false });
    }

    /// Makes a file of the first of `rows`, which the server refuses, though it takes others.
    fn condemn(&mut self, rows: Vec<usize>, now: Duration) {
        if let Some(source @ Source::Run(run)) = self.sources.front() {
            let id = run.table.id();
            self.way.condemned.extend(rows.iter().map(|&row| ((id, source.series(row)), now)));
        }
        self.put_aside(rows, "refused by the server, which takes others".to_owned());
    }

    /// Makes a file of the first of `rows`; `why` they cannot be delivered.
    fn put_aside(&mut self, mut rows: Vec<usize>, why: String) {
        let Some(source) = self.sources.front() else { return };
        let Encoded { body, taken, not_sendable, .. } = source.set_aside(&mut *self.encode, &rows);
        rows.truncate(taken.max(1));
        let Some(body) = body else {
            self.finish(&rows, rows.len(), Mark::NotSendable);
            return;
        };
        let first = rows.first().map(|&row| source.at(row)).unwrap_or_default();
        self.aside = Some(Aside {
            file_name: file_name(first, &body, self.encode.extension()),
            body: body.into(),
            why,
            what: Apart::Rows(rows, not_sendable),
        });
    }

    fn accepted(&mut self, post: &Post, now: Duration) {
        self.way.accepted = Some(now);
        self.way.backoff.reset();
        self.front.refused = None;
        match (&mut self.front.search, post.what) {
            (Some(search), What::Control) => search.bisection.control(true, now, &mut self.way.trust),
            (Some(search), What::Items { complete, .. }) => {
                search.bisection.accepted(complete, now, &mut self.way.trust);
            }
            // The same bytes were refused before: of this server a refusal proves less.
            _ if post.refused => self.way.trust.contradicted(now),
            _ => {}
        }
        if post.what == What::Control {
            return;
        }
        self.way.size.delivered(post.body.len());
        self.keep_control(&post.rows, post.not_sendable);
        self.finish(&post.rows, post.not_sendable, Mark::Delivered);
    }

    /// Remembers one reading of these rows, which were accepted, but for so many that cannot be sent.
    fn keep_control(&mut self, rows: &[usize], not_sendable: usize) {
        let Some(source) = self.sources.front() else { return };
        let all_sent = not_sendable == 0;
        if !all_sent && (self.way.control.is_some() || self.front.control.is_some()) {
            return;
        }
        // Of a post with some that could not be sent only the encoder knows which these are.
        let (encode, room) = (&mut self.encode, self.way.size.room());
        let mut is_sendable =
            |row: usize| source.encode(&mut **encode, &[row], room, Timestamp::default()).body.is_some();
        let Some(&row) = rows.iter().rev().find(|&&row| all_sent || is_sendable(row)) else { return };
        match source {
            Source::Run(run) => {
                let reading = run.readings.get(row).copied();
                self.way.control = reading.map(|reading| (Arc::clone(&run.table), reading)).or(self.way.control.take());
                if let Some(reading) = reading {
                    self.way.condemned.remove(&(run.table.id(), reading.point.0));
                }
            }
            // Its rows cannot be encoded without it, so this control goes with the batch.
            Source::Old(_) => self.front.control = Some(row),
        }
    }

    fn failed(&mut self, post: Post, failure: &Failure, now: Duration, random: f64) -> Told {
        let smaller = post.rows.len() > 1;
        match failure.verdict {
            // The post is not kept: its rows are still waiting, and the next one is made of as many as fit.
            Verdict::TooLarge if smaller => {
                self.way.size.too_large(post.body.len());
                Told { pause: SMALLER_PAUSE.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0)), failed: false }
            }
            // Too large with one reading: it can be made no smaller, so it is refused like any other.
            Verdict::TooLarge | Verdict::RefusedBody => self.refused(post, false, now, random),
            // A control has no row that waits: there is nothing to be set aside. Nor is there where no reading is
            // named.
            Verdict::RefusedForGood if post.what != What::Control && !failure.refused.is_empty() => {
                self.refused_for_good(&post, failure, now);
                Told::default()
            }
            Verdict::RefusedPart | Verdict::RefusedForGood => self.refused(post, true, now, random),
            verdict @ (Verdict::RefusedUs | Verdict::Later { .. }) => {
                if let Some(search) = &mut self.front.search {
                    // What fails for another reason says that the server is not well: no refusal counts before a
                    // control is accepted again.
                    search.bisection.disturbed();
                }
                let (after, late) = match verdict {
                    Verdict::Later { after, late } => (after.unwrap_or_default(), late),
                    _ => (Duration::ZERO, false),
                };
                if late {
                    self.way.size.late(post.body.len());
                }
                // The same again, byte for byte, for the server may have it. Only after a time-out a smaller post is
                // worth more than that: there are ways on which no large one gets through.
                if !(late && smaller) {
                    self.post = Some(post);
                }
                // What the server asks for makes the pause longer, never shorter.
                Told { pause: after.max(self.way.backoff.fail_up_to(self.max_backoff, random)), failed: true }
            }
        }
    }

    /// The server has these rows, but for those that it will never take. It has understood all of it, so there is no reason to
    /// leave it alone; and each such answer finishes the rows of a post.
    fn refused_for_good(&mut self, post: &Post, failure: &Failure, now: Duration) {
        self.front.refused = None;
        self.way.backoff.reset();
        let never = |place: &usize| failure.refused.contains(place);
        let (never, taken): (Vec<_>, Vec<_>) = post.rows.iter().enumerate().partition(|(place, _)| never(place));
        let [never, taken] = [never, taken].map(|rows| rows.into_iter().map(|(_, &row)| row).collect::<Vec<_>>());
        if let (Some(search), What::Items { complete, .. }) = (&mut self.front.search, post.what) {
            search.bisection.passed(complete, now, &mut self.way.trust);
        }
        // If it takes something of this post, it is well, and that is a control for a search.
        if taken.len() > post.not_sendable {
            self.way.accepted = Some(now);
            self.keep_control(&taken, post.not_sendable);
        }
        for &row in &never {
            self.front.marks.get_mut(row).into_iter().for_each(|mark| *mark = Mark::Never);
        }
        self.front.never = format!("the server will never take them: {}", failure.text);
        self.finish(&taken, post.not_sendable, Mark::Delivered);
    }

    /// A post is refused; `in_part`: the server says that it is for a part of it.
    fn refused(&mut self, mut post: Post, in_part: bool, now: Duration, random: f64) -> Told {
        let (mut most, mut failed) = (self.max_backoff, true);
        if let Some(search) = &mut self.front.search {
            let on_trial = search.bisection.is_on_trial();
            match post.what {
                What::Control => search.bisection.control(false, now, &mut self.way.trust),
                What::Items { touched, .. } => search.bisection.refused(touched, now, &mut self.way.trust),
                What::InOrder => {}
            }
            if self.way.accepted.is_some_and(|accepted| now.saturating_sub(accepted) <= WITNESS) {
                // It is what was posted, not the server, and more like it may be behind.
                most = most.min(if on_trial { TRIAL_PAUSE } else { FIRST });
                failed = false;
            }
        } else {
            let since = *self.front.refused.get_or_insert(now);
            post.refused = true;
            let waited = now.saturating_sub(since) >= self.split_refused_after;
            // One refusal proves little: a full disk, or a bad server behind a balancer, refuses in the same words. So
            // it is waited for first, unless the server says itself that it takes the rest, or the culprit is known.
            if in_part || waited || self.is_known_to_be_refused(now) {
                self.take_apart(now);
            } else {
                self.post = Some(post);
            }
        }
        Told { pause: self.way.backoff.fail_up_to(most, random), failed }
    }

    /// Whether the front source holds a series that was condemned lately.
    fn is_known_to_be_refused(&mut self, now: Duration) -> bool {
        self.way.condemned.retain(|_, condemned| now.saturating_sub(*condemned) <= MEMORY);
        // Old batches have no point table by which their series would be known again.
        let Some(Source::Run(run)) = self.sources.front() else { return false };
        let id = run.table.id();
        let rest = run.readings.iter().skip(self.front.row);
        !self.way.condemned.is_empty() && rest.map(|reading| (id, reading.point.0)).any(|it| self.is_known(&it, now))
    }

    fn is_known(&self, series: &(TableId, u32), now: Duration) -> bool {
        self.way.condemned.get(series).is_some_and(|condemned| now.saturating_sub(*condemned) <= MEMORY)
    }

    /// Goes on series by series with what is left of the front source.
    fn take_apart(&mut self, now: Duration) {
        let Some(source) = self.sources.front() else { return };
        // Whole series: where single rows were passed over, later ones of their series would come first.
        let mut places: HashMap<u32, usize> = HashMap::new();
        let mut items: Vec<Vec<usize>> = Vec::new();
        let mut known = Vec::new();
        for row in self.front.row..self.front.marks.len() {
            let series = source.series(row);
            let place = *places.entry(series).or_insert_with(|| {
                items.push(Vec::new());
                known.push(match source {
                    Source::Run(run) => self.is_known(&(run.table.id(), series), now),
                    Source::Old(_) => false,
                });
                items.len() - 1
            });
            items.get_mut(place).into_iter().for_each(|rows| rows.push(row));
        }
        let bisection = Bisection::new(items.len(), |item| known.get(item).is_some_and(|&known| known));
        self.front.search = Some(Search { bisection, items });
    }

    /// These rows are finished: the last `not_sendable` of them cannot be sent, the others are as `mark` says. (Which of the
    /// rows of a post cannot be sent is known to the encoder only, and the sums are the same.)
    fn finish(&mut self, rows: &[usize], not_sendable: usize, mark: Mark) {
        let sent = rows.len().saturating_sub(not_sendable);
        for (place, &row) in rows.iter().enumerate() {
            if let Some(at) = self.front.marks.get_mut(row) {
                *at = if place < sent { mark } else { Mark::NotSendable };
            }
        }
        let in_the_log = matches!(self.sources.front(), Some(Source::Run(_)));
        while let Some(&mark) = self.front.marks.get(self.front.row) {
            match mark {
                Mark::Waiting | Mark::Never => break,
                Mark::Delivered => self.progress.delivered += 1,
                Mark::NotSendable => self.progress.not_sendable += 1,
                Mark::Quarantined => self.progress.quarantined += 1,
            }
            self.progress.passed += usize::from(in_the_log);
            self.front.row += 1;
        }
    }
}

/// What is to be made next.
enum Asked {
    Rows,
    Items(Vec<usize>),
    Control,
    Condemned(Vec<usize>),
}

impl Front {
    fn is_begun(&self) -> bool {
        !self.marks.is_empty()
    }

    fn ask(&mut self, control: bool, now: Duration) -> Asked {
        let control = control || self.control.is_some();
        let asked = self.search.as_mut().map(|search| search.bisection.ask(control, now));
        match asked {
            Some(Ask::Items(items)) => Asked::Items(items),
            Some(Ask::Control) => Asked::Control,
            Some(Ask::Done) => {
                let condemned = self.search.as_ref().map_or(Vec::new(), |search| search.bisection.condemned().to_vec());
                let mut rows = self.rows_of(&condemned);
                // They stand series by series; what is kept is in the order in which it was read.
                rows.sort_unstable();
                if !rows.is_empty() {
                    return Asked::Condemned(rows);
                }
                self.search = None;
                Asked::Rows
            }
            None => Asked::Rows,
        }
    }

    /// All rows that are still to be posted.
    fn rest(&self) -> Vec<usize> {
        self.marked(Mark::Waiting)
    }

    fn marked(&self, mark: Mark) -> Vec<usize> {
        (self.row..self.marks.len()).filter(|&row| self.marks.get(row) == Some(&mark)).collect()
    }

    fn waiting(&self, rows: impl Iterator<Item = usize>) -> impl Iterator<Item = usize> {
        rows.filter(|&row| self.marks.get(row) == Some(&Mark::Waiting))
    }

    /// The rows of these items that are not finished, item by item.
    fn rows_of(&self, items: &[usize]) -> Vec<usize> {
        let Some(search) = &self.search else { return Vec::new() };
        self.waiting(items.iter().filter_map(|&item| search.items.get(item)).flatten().copied()).collect()
    }

    /// How far so many rows of `items` go.
    fn covered(&self, items: &[usize], rows: usize) -> What {
        let (mut touched, mut complete, mut left) = (0, 0, rows);
        for item in items {
            let rows = self.rows_of(std::slice::from_ref(item)).len();
            touched += usize::from(left > 0 || rows == 0);
            if left < rows {
                break;
            }
            complete += 1;
            left -= rows;
        }
        What::Items { touched, complete }
    }
}

impl Source {
    fn rows(&self) -> usize {
        match self {
            Self::Run(run) => run.readings.len(),
            Self::Old(load) => load.rows(),
        }
    }

    fn at(&self, row: usize) -> Timestamp {
        match self {
            Self::Run(run) => run.readings.get(row).map(|reading| reading.at).unwrap_or_default(),
            Self::Old(load) => load.at(row),
        }
    }

    fn series(&self, row: usize) -> u32 {
        match self {
            Self::Run(run) => run.readings.get(row).map_or(u32::MAX, |reading| reading.point.0),
            Self::Old(load) => load.series(row),
        }
    }

    fn encode(&self, encode: &mut dyn Encode, rows: &[usize], room: usize, posted: Timestamp) -> Encoded {
        match self {
            Self::Run(_) if rows.is_empty() => Encoded::default(),
            Self::Run(run) => encode.encode(&run.table, &run.readings_of(rows), room, posted),
            Self::Old(load) => load.encode(rows, room, posted),
        }
    }

    fn set_aside(&self, encode: &mut dyn Encode, rows: &[usize]) -> Encoded {
        match self {
            Self::Run(run) => encode.set_aside(&run.table, &run.readings_of(rows)),
            // It is for people, not for the server: no size is too large, and its stamp follows no other.
            Self::Old(load) => load.encode(rows, usize::MAX, Timestamp::default()),
        }
    }
}

impl Run {
    /// Usually they lie together, and nothing is copied.
    fn readings_of(&self, rows: &[usize]) -> Cow<'_, [Reading]> {
        let together = match (rows.first(), rows.last()) {
            (Some(&first), Some(&last)) => self.readings.get(first..=last),
            _ => None,
        };
        match together {
            Some(readings) if readings.len() == rows.len() && rows.is_sorted() => Cow::Borrowed(readings),
            _ => rows.iter().filter_map(|&row| self.readings.get(row)).copied().collect(),
        }
    }
}

/// The greatest stamp that a post of readings from `first` on has to follow, when that of all posts so far is `posted`: it,
/// unless the clock was set back behind it, by more than the hour that stamps may be ahead. `wall`: the clock, if believed.
#[must_use]
pub fn to_follow(posted: Timestamp, first: Timestamp, wall: Option<Timestamp>) -> Timestamp {
    let is_ahead = |at: Timestamp| wall.is_some_and(|wall| at.since(wall) > HOUR);
    if is_ahead(posted) && !is_ahead(first) { Timestamp::default() } else { posted }
}

/// The name of a file that holds `body`, of readings from `at` on.
fn file_name(at: Timestamp, body: &[u8], extension: &str) -> String {
    let [a, b, c, d, ..] = sha256(&[body]);
    format!("{at}_{:08x}.{extension}", u32::from_be_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests;
