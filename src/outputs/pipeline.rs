//! From the aggregator to the servers: the memory tail, the disk and every output's delivery as one thing that decides.
//!
//! Pure: told `now` and what came of the last action, it says what to do next ([`Action`]). The poster actor performs
//! that with a thread and real servers, the simulation with a disk and servers of its own; both drive this code.
//!
//! # Rules
//!
//! - There is one order. A batch gets its place when it comes, and no output sees a reading before those in front of it.
//! - While the disk is well, an output is given only what is durable. While it refuses or hangs, outputs read on from the
//!   memory tail; the disk is tried again beside the posts. What every output has by then is never written.
//! - A write that fails evicts nothing. Readings are lost for the limits of the cache (the log says which), and when what the
//!   disk does not take is more than memory may hold; each output counts what it had not delivered yet.
//! - An undated batch holds up what is behind it until its date is known; from then on it is read like any other, its stamps moved
//!   by one offset that is on disk before the first of them is given out.
//! - One job for the disk and one post for each output are under way at a time. Whatever fails is tried again after a
//!   pause that is never nothing.
//! - Old caches are delivered first, by the output that takes them.

mod holes;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use self::holes::Holes;
use super::delivery::{Delivery, MAX_BACKOFF, Next, Run};
use super::{Answer, Failure, Output, Start, Verdict};
use crate::counters::{DropReason, LogCounters, OutputCounters, Published};
use crate::reading::{Reading, Timestamp};
use crate::spool::batch::{Batch, HoldoverId, Position};
use crate::spool::job::{
    Cursor, Done, Evicted, GapReason, Holdover, Job, Limit, OldBatch, OldName, Read, SetAside, Usage, Write, Written,
};
use crate::spool::log::Opened;
use crate::spool::tail::Tail;
use crate::spool::{Limits, SpoolError};
use crate::text::Chain;
use crate::time::backoff::Backoff;
use crate::time::clock::Moment;
use crate::time::timeline::Stamp;

/// A job that the disk has not answered for so long means that it hangs.
pub const HANGS_AFTER: Duration = Duration::from_secs(2);

/// The longest pause before the disk is tried again.
const DISK_PAUSE: Duration = Duration::from_secs(10);

/// No job writes more than about so many bytes, so that others have their turn.
const MOST_WRITE: usize = 4 << 20;

/// How often a server is asked for the time while readings wait for it,
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// and how soon, once, after an answer that made the clock implausible: one odd answer condemns nothing.
const CONFIRM: Duration = Duration::from_secs(3);

/// So long after a stop a post may begin. One that nobody waits for is made again in the next life.
const POSTS_BEGIN: Duration = Duration::from_millis(500);

/// A clock that has moved by this against the time since boot has been set.
const STEP: Duration = Duration::from_secs(2);

/// What the clocks say, and what is known of them.
pub struct Now<'a> {
    /// Both clocks.
    pub moment: Moment,
    /// Whether the wall clock is believed.
    pub believed: bool,
    /// What to add to the boot times of the last hold that is over, to date them.
    pub offset: Option<Duration>,
    /// How far a stamp is ahead of the server's clock, if it must not be sent yet.
    pub too_far_ahead: &'a dyn Fn(Timestamp) -> Option<Duration>,
}

impl Now<'_> {
    fn boot(&self) -> Duration {
        self.moment.boot
    }
}

/// What to do next.
#[derive(Debug)]
pub enum Action {
    /// Give this to the log; tell [`Pipeline::done`] of the answer.
    Disk(Job),
    /// Post this by that output; tell [`Pipeline::answered`] of the answer.
    Post {
        /// Which output, by its place.
        output: usize,
        /// What.
        body: Bytes,
        /// Whether some of it may have been posted before, of which nobody knows: by an earlier life whose cursor is lost, or
        /// under another configuration.
        again: bool,
    },
    /// Ask that output's server for the time; tell [`Pipeline::time_told`] of the answer.
    AskTime {
        /// Which output, by its place.
        output: usize,
    },
}

/// Something worth telling a person.
#[derive(Debug)]
pub enum Event {
    /// A post was delivered.
    Posted {
        /// Which output.
        output: usize,
        /// Its bytes.
        bytes: usize,
        /// Its readings.
        readings: usize,
    },
    /// A post, or a question for the time, failed.
    Failed {
        /// Which output.
        output: usize,
        /// Why.
        failure: Failure,
        /// Until the next attempt.
        pause: Duration,
    },
    /// Readings are ahead of the server's clock and wait; `None`: they are not any more.
    Ahead {
        /// Which output.
        output: usize,
        /// By how much.
        by: Option<Duration>,
    },
    /// Readings that an output could not deliver are in quarantine.
    Quarantined {
        /// Which output.
        output: usize,
        /// How many; 0 when nobody knows.
        readings: usize,
        /// What is wrong with them.
        why: String,
        /// Where they are.
        path: std::path::PathBuf,
    },
    /// Readings are lost to an output.
    Lost {
        /// Which output.
        output: usize,
        /// How many.
        readings: u64,
        /// Why.
        reason: DropReason,
    },
    /// The disk refused something; what, in words.
    DiskRefuses(String),
    /// The disk has not answered for so long.
    DiskHangs(Duration),
    /// The disk does what it is asked again.
    DiskWell,
    /// What is on disk cannot be read; what, in words.
    CannotRead(String),
    /// It can again.
    ReadsAgain,
    /// Something cannot be put into quarantine, or an old batch not be removed; what, in words.
    CannotKeep(String),
    /// It can again.
    KeepsAgain,
    /// A cursor of an output that is not configured any more was dropped.
    Forgotten {
        /// Its name.
        name: String,
        /// How many readings on disk it had not delivered.
        readings: u64,
    },
    /// The limits have let go of so many batches of the old caches, whose readings nobody has counted.
    OldEvicted(usize),
    /// All batches of the old caches are delivered.
    OldDone,
}

/// One output.
struct Lane {
    name: String,
    tells_time: bool,
    delivery: Delivery,
    /// Up to here it is done, whatever the reason.
    cursor: Position,
    /// What is before was there when this life began, or when this server was named: some of it may have been posted, and nobody
    /// knows.
    begin: Position,
    /// What of that is on disk; `None`: nothing, it is new.
    saved: Option<Position>,
    /// The greatest stamp of a post that is on disk: no post is made with a greater one, so no later life gives it again.
    saved_stamp: Timestamp,
    /// What the delivery has loaded and not passed, batch by batch.
    spans: VecDeque<Span>,
    /// Evicted up to here, and counted, while older readings are still in memory and under way.
    evicted: Position,
    /// What was given up in memory and counted.
    holes: Holes,
    old: Old,
    /// A read is asked for and not answered.
    reading: bool,
    /// A post or a question is under way.
    busy: bool,
    /// Bytes and readings of the post.
    posted: (usize, usize),
    /// What comes next is of this time without a clock, and has no date yet.
    held: Option<HoldoverId>,
    /// Nothing is asked or posted before.
    pause: Duration,
    /// Put aside what cannot be delivered.
    aside: Option<Aside>,
    /// When its server last told the time.
    told: Option<Moment>,
    state: LaneState,
    asking: Backoff,
    /// The longest pause after what failed.
    max_backoff: Duration,
    /// It lets go of what is older.
    max_age: Option<Duration>,
    counters: OutputCounters,
}

/// What is left of a batch that the delivery has loaded.
struct Span {
    first: Position,
    count: u64,
    /// The newest stamp in it.
    newest: Timestamp,
}

/// How attempts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaneState {
    Well,
    /// The last one failed.
    Failing,
    /// What is next is ahead of the server's clock: the newest stamp in it.
    Ahead(Timestamp),
}

/// The old caches, for the output that takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Old {
    /// There is nothing, or it is not for this output.
    None,
    /// There may be some; the oldest is not read yet.
    Ask,
    /// This one is loaded.
    Loaded(OldName),
}

/// What goes into quarantine.
#[derive(Debug)]
struct Aside {
    job: SetAside,
    /// It is under way.
    sent: bool,
    readings: usize,
    why: String,
    /// The batch of the old caches that it is, whole.
    whole: Option<OldName>,
}

/// What a write under way saves besides batches.
#[derive(Debug, Default)]
struct Sent {
    cursors: Vec<(String, Cursor)>,
    holds: Vec<Holdover>,
    forget: Vec<String>,
    sync: bool,
}

/// How the disk is.
#[derive(Debug, Default)]
struct Disk {
    /// A job is under way since.
    busy: Option<Duration>,
    /// It was said that it hangs.
    hangs: bool,
    /// What is written.
    writes: Tries,
    /// What is read.
    reads: Tries,
    /// What is put into quarantine, or removed: another matter, because a disk that takes nothing can be read.
    keeps: Tries,
    fault: Option<String>,
}

/// How attempts of one kind go.
#[derive(Debug, Default)]
struct Tries {
    failing: bool,
    backoff: Backoff,
    /// Nothing is tried before.
    pause: Duration,
}

impl Tries {
    fn failed(&mut self, now: Duration, random: f64) {
        self.failing = true;
        self.pause = now + self.backoff.fail_up_to(DISK_PAUSE, random);
    }

    /// Whether it had failed before.
    fn worked(&mut self) -> bool {
        std::mem::take(self).failing
    }
}

/// The way of readings behind the aggregator.
pub struct Pipeline {
    boot_id: String,
    flush_interval: Duration,
    tail: Tail,
    /// Up to here batches are on disk, or never need to be.
    written: Position,
    /// Up to here they are durable, or never need to be.
    durable: Position,
    /// When what is written must be durable.
    sync_due: Option<Duration>,
    holds: BTreeMap<HoldoverId, (Holdover, bool)>,
    lanes: Vec<Lane>,
    disk: Disk,
    usage: Usage,
    forget: Vec<String>,
    /// Old batches that are done with, and those of them that the disk would not remove.
    forget_old: VecDeque<OldName>,
    kept_old: VecDeque<OldName>,
    /// The one that is being removed.
    forgetting: Option<OldName>,
    limits: Option<Limits>,
    /// When servers were last asked for the time because readings wait for it.
    asked: Option<Duration>,
    believed: bool,
    /// The wall clock when it was last looked at, if it was believed.
    wall: Option<Timestamp>,
    /// What the write under way saves.
    sent: Sent,
    /// From then on no post begins.
    last_post: Option<Duration>,
    /// That is now.
    posts_are_over: bool,
    appended: u64,
    old_batches_lost: u64,
    undated: BTreeMap<HoldoverId, u64>,
    events: Vec<Event>,
}

impl Pipeline {
    /// What goes on from `opened` in the boot `boot_id`; batches are durable `flush_interval` after they came.
    #[must_use]
    pub fn new(opened: Opened, outputs: Vec<OutputPlan>, boot_id: &str, flush_interval: Duration) -> Self {
        let Opened { end, newest, mut cursors, holds, usage, .. } = opened;
        let mut lanes = Vec::new();
        // Where no output is known, none is new: the cursors are lost, or a life ended before it wrote any.
        let knows_none = cursors.is_empty();
        for plan in outputs {
            let saved = cursors.remove(&plan.name);
            let begin = match plan.start {
                Start::End if !knows_none => end,
                _ => usage.start,
            };
            let cursor = saved.unwrap_or(Cursor { position: begin, stamp: Timestamp::default() });
            let position = cursor.position.min(end);
            // The greatest that was ever given, which may be far behind the newest reading when much waits.
            let stamp = saved.map_or(newest, |saved| saved.stamp);
            lanes.push(Lane {
                tells_time: plan.tells_time,
                delivery: Delivery::new(plan.encode, plan.split_refused_after, stamp),
                cursor: position,
                begin: end,
                saved: saved.map(|saved| saved.position),
                saved_stamp: saved.map(|saved| saved.stamp).unwrap_or_default(),
                spans: VecDeque::new(),
                evicted: Position::default(),
                holes: Holes::default(),
                old: if plan.takes_old_caches { Old::Ask } else { Old::None },
                reading: false,
                busy: false,
                posted: (0, 0),
                held: None,
                pause: Duration::ZERO,
                aside: None,
                told: None,
                state: LaneState::Well,
                asking: Backoff::default(),
                max_backoff: MAX_BACKOFF,
                max_age: None,
                counters: OutputCounters {
                    name: plan.name.clone(),
                    found: end.since(position),
                    ..OutputCounters::default()
                },
                name: plan.name,
            });
        }
        let events = cursors
            .iter()
            .map(|(name, cursor)| Event::Forgotten { name: name.clone(), readings: end.since(cursor.position) })
            .collect();
        Self {
            boot_id: boot_id.to_owned(),
            flush_interval,
            tail: Tail::new(end),
            written: end,
            durable: end,
            sync_due: None,
            holds: holds.into_iter().map(|hold| (hold.id, (hold, true))).collect(),
            lanes,
            disk: Disk::default(),
            usage,
            forget: cursors.into_keys().collect(),
            forget_old: VecDeque::new(),
            kept_old: VecDeque::new(),
            forgetting: None,
            limits: None,
            asked: None,
            believed: true,
            wall: None,
            sent: Sent::default(),
            last_post: None,
            posts_are_over: false,
            appended: 0,
            old_batches_lost: 0,
            undated: BTreeMap::new(),
            events,
        }
    }

    /// Takes over a batch. It is in order from here on, and lost by nothing but a limit or an end before the disk has it.
    ///
    /// `hold` is the time without a clock that it is of, if it is undated.
    pub fn accept(&mut self, batch: Batch, hold: Option<Holdover>, now: Duration) {
        if let Some(hold) = hold {
            *self.undated.entry(hold.id).or_insert(0) += u64::from(batch.count);
            // One that is known stays as it is: it may have its offset by now.
            self.holds.entry(hold.id).or_insert((hold, false));
        }
        self.appended += u64::from(batch.count);
        self.tail.push(batch);
        self.sync_due.get_or_insert(now + self.flush_interval);
        // First what can be read from disk, which is no loss.
        self.tail.spill(self.written);
        while let Some(lost) = self.tail.overflow(self.written) {
            self.give_up(&lost);
        }
    }

    /// What has happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// From now on the log takes no more disk than `limits`, and batches are durable after `flush_interval`.
    pub fn configure(&mut self, limits: Limits, flush_interval: Duration) {
        self.limits = Some(limits);
        self.flush_interval = flush_interval;
    }

    /// From now on what the disk does not take is kept in memory up to about so many bytes.
    pub fn limit_memory(&mut self, bytes: usize) {
        self.tail.limit(bytes);
    }

    /// How many bytes of batches are in memory, about.
    #[must_use]
    pub fn bytes_in_memory(&self) -> usize {
        self.tail.bytes()
    }

    /// From now on this holds for the output `name`: with `encode` another server is meant.
    pub fn configure_output(
        &mut self,
        name: &str,
        encode: Option<Box<dyn super::Encode>>,
        split_refused_after: Duration,
    ) {
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.name == name) else { return };
        lane.pause = Duration::ZERO;
        if encode.is_some() {
            // Neither its clock nor what it takes are known. What is under way to the old one is given up: whoever brings its
            // answer must not tell it.
            (lane.told, lane.busy, lane.begin) = (None, false, self.tail.end());
            // The new one may take what the old one has condemned; but what is on its way to quarantine would be in both places.
            lane.aside.take_if(|aside| !aside.sent && aside.whole.is_none());
            if lane.aside.is_none() {
                lane.delivery.take_back();
            }
        }
        lane.delivery.configure(encode, split_refused_after);
    }

    /// From now on the output `name` lets go of readings that are older than `most`, as far as the clock is believed.
    pub fn set_max_age(&mut self, name: &str, most: Option<Duration>) {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.name == name) {
            lane.max_age = most;
        }
    }

    /// From now on the server of the output `name` is left alone for `most` after posts that failed, unless it asks for more.
    pub fn set_max_backoff(&mut self, name: &str, most: Duration) {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.name == name) {
            lane.delivery.set_max_backoff(most);
            lane.max_backoff = most;
        }
    }

    /// No batch comes any more: everything goes to disk at once, the disk is tried at once, and posts go on for a moment.
    pub fn stop(&mut self, now: Duration) {
        self.last_post = Some(now + POSTS_BEGIN);
        self.disk.writes.pause = now;
        self.sync_due = self.sync_due.map(|_| now);
    }

    /// Whether a stop has nothing to wait for: everything is on disk or delivered, and each output is done or failing.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let stored = self.durable == self.tail.end() && !self.is_cursor_unsaved() && self.sync_due.is_none();
        let done = |lane: &Lane| {
            let has_all = lane.cursor == self.tail.end() && lane.old == Old::None;
            // More time would not help these: the server, the clock or the disk is in the way.
            let waits = lane.state != LaneState::Well || lane.held.is_some() || lane.aside.is_some();
            has_all || waits || (self.posts_are_over && !lane.busy)
        };
        // A disk that refuses is not waited for, if each output has by now what is in memory only.
        self.is_stored_or_delivered() && (stored || self.disk.writes.failing) && self.lanes.iter().all(done)
    }

    /// Whether nothing is in memory only.
    #[must_use]
    pub fn is_stored_or_delivered(&self) -> bool {
        self.durable == self.tail.end() || self.lanes.iter().all(|lane| lane.cursor == self.tail.end())
    }

    /// Whether the disk is about to take what outputs have acknowledged. Ended before that, the agent delivers it again.
    #[must_use]
    pub fn saves_cursors(&self) -> bool {
        self.is_cursor_unsaved() && !self.disk.writes.failing && !self.disk.hangs
    }

    /// The numbers, as they are now.
    #[must_use]
    pub fn published(&self) -> Published {
        let outputs = self.lanes.iter().map(|lane| self.counters(lane)).collect();
        let log = LogCounters {
            bytes: self.usage.bytes,
            segments: self.usage.segments,
            old_batches: self.usage.old_batches,
            oldest: self.usage.oldest,
            undated: self.undated.values().sum(),
            fault: self.disk.fault.clone(),
            hangs: self.disk.hangs,
            old_batches_lost: self.old_batches_lost,
        };
        Published { outputs, log }
    }

    fn counters(&self, lane: &Lane) -> OutputCounters {
        let waiting = self.waiting(lane);
        // What is loaded and was evicted meanwhile is in memory only, too.
        let evicted = lane.evicted.min(lane.loaded_end()).since(lane.cursor);
        let in_memory = (evicted + self.tail.end().since(self.written.max(lane.cursor))).min(waiting);
        let next = self.tail.from(lane.cursor).next().filter(|_| lane.cursor >= self.tail.start());
        // What is loaded is known best; of what is on disk only how old the oldest segment is.
        let oldest = match (lane.spans.front(), next) {
            (Some(span), _) => Some(span.newest),
            // A boot time says nothing about age.
            (None, Some(batch)) => batch.undated.is_none().then_some(batch.newest),
            (None, None) => self.usage.oldest.filter(|_| waiting > 0),
        };
        OutputCounters {
            appended: self.appended,
            on_disk: waiting - in_memory,
            in_memory,
            oldest,
            ..lane.counters.clone()
        }
    }

    /// How many readings wait for `lane`: those from its cursor on that are still there.
    fn waiting(&self, lane: &Lane) -> u64 {
        let all = self.tail.end().since(lane.cursor);
        // What was given up or evicted lies behind the cursor, but was counted as lost when it went.
        let given_up = lane.holes.between(lane.cursor, self.tail.end());
        // What a limit took of what was given up before is counted once.
        let loaded = lane.loaded_end();
        let evicted = lane.evicted.since(loaded).saturating_sub(lane.holes.between(loaded, lane.evicted));
        all.saturating_sub(given_up).saturating_sub(evicted)
    }
}

impl Lane {
    /// The position behind everything that is loaded.
    fn loaded_end(&self) -> Position {
        self.spans.back().map_or(self.cursor, |span| span.first.after(span.count))
    }

    /// Whether it was given up. A disk that hung may have it all the same; but it is counted as lost, and has been told.
    fn has_lost(&self, position: Position) -> bool {
        self.holes.end_around(position).is_some()
    }

    /// What it needs next: what is behind a hole, if it has come to that.
    fn next(&self) -> Position {
        self.holes.end_around(self.cursor).unwrap_or(self.cursor)
    }

    /// Where the next life begins: nothing before it can be read again.
    fn resume(&self) -> Position {
        self.cursor.max(self.evicted)
    }

    fn is_unsaved(&self) -> bool {
        self.saved != Some(self.resume()) || self.is_stamp_unsaved()
    }

    fn is_stamp_unsaved(&self) -> bool {
        self.saved_stamp < self.delivery.stamp()
    }

    /// Whether nothing is to be loaded now.
    fn is_occupied(&self) -> bool {
        self.reading || self.aside.is_some() || self.held.is_some() || !self.spans.is_empty()
    }
}

/// What the pipeline needs of an [`Output`]; the rest of it is the shell's.
pub struct OutputPlan {
    /// As [`Output::name`].
    pub name: String,
    /// As [`Output::encode`].
    pub encode: Box<dyn super::Encode>,
    /// As [`Output::tells_time`].
    pub tells_time: bool,
    /// As [`Output::takes_old_caches`].
    pub takes_old_caches: bool,
    /// As [`Output::split_refused_after`].
    pub split_refused_after: Duration,
    /// As [`Output::start`].
    pub start: Start,
}

impl OutputPlan {
    /// Parts an output into what decides and what awaits.
    #[must_use]
    pub fn of(output: Output) -> (Self, super::Open) {
        let Output { name, encode, deliver, tells_time, takes_old_caches, split_refused_after, start, .. } = output;
        (Self { name, encode, tells_time, takes_old_caches, split_refused_after, start }, deliver)
    }
}

impl Pipeline {
    /// What to do next; `None`: nothing before [`deadline`](Self::deadline), or until something happens.
    pub fn next(&mut self, now: &Now<'_>) -> Option<Action> {
        self.look_at_clock(now);
        self.look_at_disk(now.boot());
        self.release_dated();
        if let Some(job) = self.start_job(now) {
            return Some(job);
        }
        for place in 0..self.lanes.len() {
            if let Some(action) = self.next_of(place, now) {
                return Some(action);
            }
        }
        // What an output has just passed or put aside is work for the disk, and so is the stamp of a post that waits for it.
        self.start_job(now)
    }

    fn start_job(&mut self, now: &Now<'_>) -> Option<Action> {
        if self.disk.busy.is_some() {
            return None;
        }
        let job = self.next_job(now)?;
        self.disk.busy = Some(now.boot());
        Some(Action::Disk(job))
    }

    /// When to call [`next`](Self::next) again if nothing else happens before.
    #[must_use]
    pub fn deadline(&self, now: Duration) -> Duration {
        // At least once in a while: the clock may become right while nothing happens.
        let waits_for_date = !self.believed || self.lanes.iter().any(|lane| lane.held.is_some());
        let mut at = now + Duration::from_secs(if waits_for_date { 1 } else { 30 });
        if let Some(since) = self.disk.busy {
            if !self.disk.hangs {
                at = at.min(since + HANGS_AFTER);
            }
        } else {
            let pauses = [self.disk.writes.pause, self.disk.reads.pause, self.disk.keeps.pause];
            let pauses = pauses.into_iter().filter(|&pause| pause > now);
            // What is due while the disk is left alone can be done at the end of its pause only.
            at = pauses.chain(self.sync_due.map(|due| due.max(self.disk.writes.pause))).fold(at, Duration::min);
        }
        at = self.lanes.iter().map(|lane| lane.pause).filter(|&pause| pause > now).fold(at, Duration::min);
        // Never nothing: a time that is over and cannot be acted upon would make the caller spin.
        at.max(now + Duration::from_millis(1))
    }

    /// Gives what is undated its date as soon as there is one, and what is not ahead any more its turn.
    fn look_at_clock(&mut self, now: &Now<'_>) {
        if self.believed && !now.believed {
            // What made it implausible may have been one odd answer.
            self.asked = self.asked.map(|_| now.boot().saturating_sub(ASK_AGAIN.saturating_sub(CONFIRM)));
        }
        self.believed = now.believed;
        self.wall = now.believed.then_some(now.moment.wall);
        for lane in &mut self.lanes {
            // Whichever server has told the time.
            if let LaneState::Ahead(newest) = lane.state
                && (now.too_far_ahead)(newest).is_none()
            {
                lane.pause = Duration::ZERO;
            }
        }
        let Some(offset) = now.offset.filter(|_| now.believed) else { return };
        for (hold, saved) in self.holds.values_mut() {
            // The offset belongs to the counter of this boot. One that has an offset keeps it: some of its readings may
            // be delivered.
            if hold.boot_id == self.boot_id && hold.offset.is_none() {
                hold.offset = Some(offset);
                // On disk before the first reading is dated by it, while the disk takes anything: a later life must
                // give the rest the same dates.
                *saved = false;
            }
        }
    }

    fn look_at_disk(&mut self, now: Duration) {
        if let Some(since) = self.disk.busy.filter(|_| !self.disk.hangs)
            && now.saturating_sub(since) >= HANGS_AFTER
        {
            self.disk.hangs = true;
            let lasted = now.saturating_sub(since);
            self.disk.fault =
                Some(format!("the disk of the cache directory hangs for {}", crate::text::seconds(lasted)));
            self.events.push(Event::DiskHangs(lasted));
        }
    }

    /// Up to where outputs may read.
    fn deliverable(&self) -> Position {
        // While the disk is well no server gets what a power cut could take from the log. One that is not well must not
        // hold readings up: then what is delivered need not be written.
        if self.disk.writes.failing || self.disk.hangs { self.tail.end() } else { self.durable }
    }

    fn is_cursor_unsaved(&self) -> bool {
        self.lanes.iter().any(Lane::is_unsaved)
    }

    /// The job that the disk is to do now.
    fn next_job(&mut self, now: &Now<'_>) -> Option<Job> {
        let boot = now.boot();
        if boot >= self.disk.writes.pause {
            let unwritten = self.tail.from(self.written).next().is_some();
            let due = self.sync_due.is_some_and(|due| due <= boot);
            let dates = self.holds.values().any(|(_, saved)| !saved);
            // Before all other jobs: what is in memory only is lost with the process.
            if unwritten || due || dates || self.is_cursor_unsaved() || !self.forget.is_empty() {
                let write = self.write(now, due);
                let Write { cursors, holds, forget, sync, .. } = &write;
                let (cursors, holds, forget) = (cursors.clone(), holds.clone(), forget.clone());
                self.sent = Sent { cursors, holds, forget, sync: *sync };
                return Some(Job::Write(write));
            }
            if let Some(limits) = self.limits.take() {
                return Some(Job::Limit(limits));
            }
        }
        if boot >= self.disk.keeps.pause {
            for place in 0..self.lanes.len() {
                if let Some(aside) = self.lanes[place].aside.as_mut().filter(|aside| !aside.sent) {
                    aside.sent = true;
                    return Some(Job::SetAside(aside.job.clone()));
                }
            }
        }
        // At once, because it would be given out again otherwise; where that failed, later.
        let kept = || if boot < self.disk.keeps.pause { None } else { self.kept_old.pop_front() };
        if let Some(name) = self.forget_old.pop_front().or_else(kept) {
            self.forgetting = Some(name.clone());
            return Some(Job::ForgetOld(name));
        }
        if boot < self.disk.reads.pause {
            return None;
        }
        // Whoever was served last is behind the others: it is occupied until all that it was given is passed.
        let deliverable = self.deliverable();
        let start = self.tail.start();
        for place in 0..self.lanes.len() {
            let lane = &mut self.lanes[place];
            if lane.is_occupied() {
                continue;
            }
            if lane.old == Old::Ask {
                lane.reading = true;
                return Some(Job::ReadOld { output: place });
            }
            let from = lane.next();
            // From `start` on it is in memory, and nothing from `written` on is on disk.
            if lane.old == Old::None && from < start.min(deliverable) && from < self.written {
                lane.reading = true;
                return Some(Job::Read { output: place, from, most: lane.delivery.want() });
            }
        }
        None
    }

    fn write(&mut self, now: &Now<'_>, sync: bool) -> Write {
        let mut bytes = 0;
        let fits = |batch: &&Arc<Batch>| {
            // One batch at least: one that is larger than a write may be would never be written.
            let first = bytes == 0;
            bytes += batch.payload.len();
            first || bytes <= MOST_WRITE
        };
        let batches: Vec<_> = self.tail.from(self.written).take_while(fits).cloned().collect();
        let cursors = self
            .lanes
            .iter()
            .filter(|lane| lane.is_unsaved())
            // `resume`, not the cursor: what is loaded and was evicted is in memory only. A later life would find it
            // gone, and count it as lost once more.
            .map(|lane| (lane.name.clone(), Cursor { position: lane.resume(), stamp: lane.delivery.stamp() }));
        Write {
            holds: self.holds.values().filter(|(_, saved)| !saved).map(|(hold, _)| hold.clone()).collect(),
            cursors: cursors.collect(),
            forget: self.forget.clone(),
            release: self.lanes.iter().map(|lane| lane.cursor).min().unwrap_or(self.tail.end()),
            sync,
            now: now.believed.then_some(now.moment.wall),
            batches,
        }
    }

    /// What the output at `place` is to do now.
    fn next_of(&mut self, place: usize, now: &Now<'_>) -> Option<Action> {
        let boot = now.boot();
        let lane = &self.lanes[place];
        if lane.busy || lane.reading || boot < lane.pause || self.posts_are_over {
            return None;
        }
        if self.must_ask(place, now) {
            let lane = &mut self.lanes[place];
            lane.busy = true;
            self.asked = Some(boot);
            return Some(Action::AskTime { output: place });
        }
        if self.lanes[place].aside.is_some() {
            return None;
        }
        self.let_go_of_old(place);
        self.lanes[place].delivery.set_wall(self.wall);
        loop {
            if self.lanes[place].spans.is_empty() {
                self.load_from_tail(place);
            }
            let lane = &mut self.lanes[place];
            match lane.delivery.next(boot) {
                Next::Empty => {
                    self.pass(place);
                    let lane = &mut self.lanes[place];
                    if let Old::Loaded(name) = &lane.old {
                        self.forget_old.push_back(name.clone());
                        // The next one is asked for behind the job that removes this one, so it is not given out twice.
                        lane.old = Old::Ask;
                        return None;
                    }
                    if self.lanes[place].spans.is_empty() && !self.load_from_tail(place) {
                        return None;
                    }
                }
                Next::Wait(until) => {
                    lane.pause = until;
                    return None;
                }
                Next::SetAside { file_name, body, readings, why } => {
                    let job = SetAside { output: place, file_name, body };
                    lane.aside = Some(Aside { job, sent: false, readings, why, whole: None });
                    return None;
                }
                Next::Post { body, newest, readings } => {
                    // One reading of the future makes a pattoo server drop all later ones of its series until then: its
                    // clock is compared before the first post, and again after ours was set.
                    if lane.tells_time && lane.told.is_none_or(|told| told.has_stepped(now.moment, STEP)) {
                        lane.busy = true;
                        self.asked = Some(boot);
                        return Some(Action::AskTime { output: place });
                    }
                    let ahead = (now.too_far_ahead)(newest);
                    if ahead.is_some() || matches!(lane.state, LaneState::Ahead(_)) {
                        lane.state = if ahead.is_some() { LaneState::Ahead(newest) } else { LaneState::Well };
                        self.events.push(Event::Ahead { output: place, by: ahead });
                    }
                    if ahead.is_some() {
                        lane.pause = boot + ASK_AGAIN;
                        // It is asked again before the next attempt: it may be the server's clock that was wrong.
                        lane.told = None;
                        return None;
                    }
                    // A pattoo server names its files after the stamp: a later life that gave it to another post could
                    // write over this one. `start_job` at the end of `next` saves it.
                    if lane.is_stamp_unsaved() && !self.disk.writes.failing && !self.disk.hangs {
                        return None;
                    }
                    lane.busy = true;
                    lane.posted = (body.len(), readings);
                    return Some(Action::Post { output: place, body, again: lane.cursor < lane.begin });
                }
            }
        }
    }

    /// Whether the server is to be asked for the time because readings wait for it.
    fn must_ask(&self, place: usize, now: &Now<'_>) -> bool {
        let first = self.lanes.iter().position(|lane| lane.tells_time) == Some(place);
        let waits = !now.believed || self.lanes.iter().any(|lane| lane.held.is_some());
        // One server is asked for all outputs: there is one clock to be judged.
        first && waits && self.asked.is_none_or(|asked| now.boot().saturating_sub(asked) >= ASK_AGAIN)
    }

    /// Gives the output what comes next, if that is in memory.
    fn load_from_tail(&mut self, place: usize) -> bool {
        let (lane, deliverable) = (&self.lanes[place], self.deliverable());
        if lane.old != Old::None || lane.is_occupied() {
            return false;
        }
        // What is not in memory is on disk, unless it was given up.
        let cursor = lane.next();
        if cursor < self.tail.start() && cursor < self.written {
            return false;
        }
        let batches: Vec<_> = self.tail.from(cursor).take_while(|batch| batch.end() <= deliverable).cloned().collect();
        if batches.is_empty() {
            return false;
        }
        self.load(place, &batches)
    }

    /// Gives the output the readings of `batches` from its cursor on: about as many as it wants, as far as they have dates.
    fn load(&mut self, place: usize, batches: &[Arc<Batch>]) -> bool {
        let want = self.lanes[place].delivery.want().max(1) as u64;
        let mut runs: Vec<Run> = Vec::new();
        let mut loaded = 0;
        for batch in batches {
            let lane = &self.lanes[place];
            let from = lane.loaded_end();
            if batch.end() <= from || lane.has_lost(from.max(batch.first)) {
                continue;
            }
            // Not more than about one post: what is left over of a batch would be a post of its own, however small it is.
            if loaded > 0 && loaded + batch.end().since(from) > want {
                break;
            }
            let offset = match self.date_of(batch) {
                Dating::Dated(offset) => offset,
                Dating::NotYet => {
                    // Behind what is loaded it is met again when that is done: only then the output waits for a date.
                    if loaded == 0 {
                        self.lanes[place].held = batch.undated;
                    }
                    break;
                }
                // Nobody will ever date it: it must not hold up what is behind.
                Dating::Never => {
                    // To skip moves the cursor, which must not pass what is loaded before: this batch is met again when
                    // that is done.
                    if loaded > 0 {
                        break;
                    }
                    self.skip(place, batch.end(), DropReason::NeverDated);
                    continue;
                }
            };
            let Ok(readings) = batch.readings() else {
                // Its checksum was right: whoever wrote it did not write this. It must not block what is behind it.
                if loaded > 0 {
                    break;
                }
                self.skip(place, batch.end(), DropReason::Unreadable);
                continue;
            };
            if from < batch.first {
                if loaded > 0 {
                    break;
                }
                self.skip(place, batch.first, DropReason::Vanished);
            }
            let lane_from = from.max(batch.first);
            let passed = usize::try_from(lane_from.since(batch.first)).unwrap_or(usize::MAX);
            let readings: Vec<_> = readings.into_iter().skip(passed).map(|reading| dated(reading, offset)).collect();
            let newest = readings.iter().map(|reading| reading.at).max().unwrap_or_default();
            if self.is_too_old(place, newest) {
                if loaded > 0 {
                    break;
                }
                self.skip(place, batch.end(), DropReason::OutputMaxAge);
                continue;
            }
            let count = batch.end().since(lane_from);
            let lane = &mut self.lanes[place];
            lane.spans.push_back(Span { first: lane_from, count, newest });
            loaded += count;
            match runs
                .last_mut()
                // A table that was read from disk may be in memory twice.
                .filter(|run| Arc::ptr_eq(&run.table, &batch.table) || run.table.id() == batch.table.id())
            {
                Some(run) => run.readings.extend(readings),
                None => runs.push(Run { table: Arc::clone(&batch.table), readings }),
            }
        }
        if loaded > 0 {
            self.lanes[place].delivery.load(runs);
        }
        loaded > 0
    }

    /// Whether the output lets go of readings of which the newest is `newest`.
    fn is_too_old(&self, place: usize, newest: Timestamp) -> bool {
        self.lanes[place].max_age.zip(self.wall).is_some_and(|(max_age, wall)| wall.since(newest) > max_age)
    }

    /// Drops what is loaded when all of it is too old by now: the server may be gone for good, and it holds up what is behind.
    fn let_go_of_old(&mut self, place: usize) {
        let lane = &self.lanes[place];
        let newest = lane.spans.iter().map(|span| span.newest).max();
        if lane.old != Old::None || newest.is_none_or(|newest| !self.is_too_old(place, newest)) {
            return;
        }
        self.pass(place);
        let lane = &mut self.lanes[place];
        if lane.spans.is_empty() {
            return;
        }
        let Some(finished) = lane.delivery.let_go() else { return };
        let end = lane.loaded_end();
        let loaded: u64 = lane.spans.drain(..).map(|span| span.count).sum();
        // What was evicted behind it was counted then.
        lane.cursor = end.max(std::mem::take(&mut lane.evicted));
        lane.counters.delivered += finished.delivered as u64;
        lane.counters.quarantined += finished.quarantined as u64;
        lane.counters.dropped.add(DropReason::NotSendable, finished.not_sendable as u64);
        let lost = loaded.saturating_sub(finished.passed as u64);
        if lost > 0 {
            lane.counters.dropped.add(DropReason::OutputMaxAge, lost);
            self.events.push(Event::Lost { output: place, readings: lost, reason: DropReason::OutputMaxAge });
        }
        self.let_go();
    }

    /// Outputs that wait for a date go on as soon as there is one.
    fn release_dated(&mut self) {
        for place in 0..self.lanes.len() {
            if self.lanes[place].held.is_some_and(|id| self.offset_of(id).is_some()) {
                self.lanes[place].held = None;
            }
        }
    }

    /// What dates the batches of this holdover: once it is on disk, or at once when the disk takes nothing.
    fn offset_of(&self, id: HoldoverId) -> Option<Duration> {
        let (hold, saved) = self.holds.get(&id)?;
        hold.offset.filter(|_| *saved || self.disk.writes.failing || self.disk.hangs)
    }

    fn date_of(&self, batch: &Batch) -> Dating {
        let Some(id) = batch.undated else { return Dating::Dated(None) };
        if let Some(offset) = self.offset_of(id) {
            return Dating::Dated(Some(offset));
        }
        match self.holds.get(&id) {
            // The offset is on its way to the disk, or the clock of this boot may become right.
            Some((hold, _)) if hold.offset.is_some() || hold.boot_id == self.boot_id => Dating::NotYet,
            _ => Dating::Never,
        }
    }

    /// Moves the output to `to`: what lies before it was dropped for `reason`, unless that was counted before.
    fn skip(&mut self, place: usize, to: Position, reason: DropReason) {
        let lane = &mut self.lanes[place];
        let from = lane.cursor;
        // What memory gave up was counted then.
        let counted = lane.holes.between(from, to);
        let count = to.since(from).saturating_sub(counted);
        lane.cursor = lane.cursor.max(to);
        if count > 0 {
            lane.counters.dropped.add(reason, count);
            self.events.push(Event::Lost { output: place, readings: count, reason });
        }
        self.let_go();
    }

    /// A batch is lost from memory.
    fn give_up(&mut self, batch: &Batch) {
        for place in 0..self.lanes.len() {
            let lane = &mut self.lanes[place];
            let loaded = lane.loaded_end();
            // What is loaded is held by the delivery and may yet arrive.
            let from = batch.first.max(loaded).max(lane.cursor);
            let count = batch.end().since(from);
            if count == 0 {
                continue;
            }
            lane.holes.add(from, batch.end());
            lane.counters.dropped.add(DropReason::MemoryFull, count);
            self.events.push(Event::Lost { output: place, readings: count, reason: DropReason::MemoryFull });
        }
        self.forget_undated(batch);
    }

    fn forget_undated(&mut self, batch: &Batch) {
        let Some(id) = batch.undated else { return };
        if let Some(count) = self.undated.get_mut(&id) {
            *count = count.saturating_sub(u64::from(batch.count));
            if *count == 0 {
                self.undated.remove(&id);
            }
        }
    }

    /// Takes over how far the output's delivery has come.
    fn pass(&mut self, place: usize) {
        let lane = &mut self.lanes[place];
        let progress = lane.delivery.progress();
        lane.counters.delivered += progress.delivered as u64;
        lane.counters.quarantined += progress.quarantined as u64;
        lane.counters.dropped.add(DropReason::NotSendable, progress.not_sendable as u64);
        let mut passed = progress.passed as u64;
        let finished = (progress.delivered + progress.quarantined + progress.not_sendable) as u64;
        if matches!(lane.old, Old::Loaded(_)) {
            // Nobody has counted them before.
            lane.counters.found += finished;
        }
        while let Some(Span { first, count, .. }) = lane.spans.front_mut().filter(|_| passed > 0) {
            let part = passed.min(*count);
            *first = first.after(part);
            *count -= part;
            passed -= part;
            lane.cursor = *first;
            if *count == 0 {
                lane.spans.pop_front();
            }
        }
        if lane.spans.is_empty() {
            // Counted when it was evicted.
            lane.cursor = lane.cursor.max(std::mem::take(&mut lane.evicted));
        }
        self.let_go();
    }

    /// Frees the memory of what nobody needs.
    fn let_go(&mut self) {
        for lane in &mut self.lanes {
            lane.holes.forget_before(lane.cursor);
        }
        let passed = self.lanes.iter().map(|lane| lane.cursor).min().unwrap_or(self.tail.end());
        self.tail.trim(passed, self.durable);
        // What all outputs have needs no disk.
        self.written = self.written.max(self.tail.start());
        self.durable = self.durable.max(self.tail.start().min(passed));
        // Holdovers of which nothing waits any more.
        if passed == self.tail.end() {
            self.undated.clear();
        }
    }
}

/// Whether a batch has dates.
enum Dating {
    /// It has; what is to be added to its stamps.
    Dated(Option<Duration>),
    NotYet,
    Never,
}

fn dated(reading: Reading, offset: Option<Duration>) -> Reading {
    match (offset, Stamp::read(reading.at)) {
        (Some(offset), Stamp::Undated(boot)) => Reading { at: Timestamp::from(UNIX_EPOCH + boot + offset), ..reading },
        _ => reading,
    }
}

impl Pipeline {
    /// The disk has answered.
    pub fn done(&mut self, done: Done, now: Duration, random: f64) {
        self.disk.busy = None;
        let hung = std::mem::take(&mut self.disk.hangs);
        match done {
            Done::Written(written) => self.written(written, now, random),
            Done::Read { output, result } => self.read(output, result, now, random),
            Done::SetAside { output, result } => self.aside_done(output, result, now, random),
            Done::Old { output, result } => self.old_read(output, result, now, random),
            Done::Forgotten(result) => match result {
                Ok(()) => {
                    self.forgetting = None;
                    self.keeps_again();
                }
                Err(error) => {
                    self.kept_old.extend(self.forgetting.take());
                    self.cannot_keep(&error, now, random);
                }
            },
            Done::Limited => {}
        }
        // One that hung and then refused has not become well.
        if hung && !self.disk.writes.failing {
            self.disk.fault = None;
            self.events.push(Event::DiskWell);
        }
    }

    fn written(&mut self, written: Written, now: Duration, random: f64) {
        let Written { result, end, durable, evicted, evicted_old, usage } = written;
        if evicted_old > 0 {
            self.old_batches_lost += evicted_old as u64;
            self.events.push(Event::OldEvicted(evicted_old));
        }
        // After an error it is not marked as saved, so the next write takes it along.
        let sent = std::mem::take(&mut self.sent);
        self.usage = usage;
        self.written = self.written.max(end.min(self.tail.end()));
        self.durable = self.durable.max(durable.min(self.tail.end()));
        for Evicted { up_to, limit } in evicted {
            self.evict(up_to, limit);
        }
        match result {
            Ok(()) => {
                if self.disk.writes.worked() {
                    self.disk.fault = None;
                    self.events.push(Event::DiskWell);
                }
                self.wrote(sent, now);
            }
            Err(error) => {
                self.disk.writes.failed(now, random);
                let why = Chain(&error).to_string();
                self.disk.fault = Some(format!("the disk refuses: {why}"));
                self.events.push(Event::DiskRefuses(why));
            }
        }
        self.let_go();
    }

    fn wrote(&mut self, sent: Sent, now: Duration) {
        let Sent { cursors, holds, forget, sync } = sent;
        let moved = !cursors.is_empty();
        for (name, cursor) in cursors {
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.name == name) {
                (lane.saved, lane.saved_stamp) = (Some(cursor.position), cursor.stamp);
            }
        }
        for written in holds {
            let Some((hold, saved)) = self.holds.get_mut(&written.id) else { continue };
            // It may have got its offset while the write was under way: then it is written once more.
            *saved = *hold == written;
            if *saved && hold.offset.is_some() {
                self.undated.remove(&written.id);
            }
        }
        self.forget.retain(|name| !forget.contains(name));
        if sync {
            self.sync_due = None;
        }
        // Also for cursors alone: without new readings nothing else would make them durable.
        if self.durable < self.tail.end() || (moved && !sync) {
            let wait = if self.last_post.is_some() { Duration::ZERO } else { self.flush_interval };
            self.sync_due.get_or_insert(now + wait);
        }
    }

    /// The limits have let go of everything before `up_to`.
    fn evict(&mut self, up_to: Position, limit: Limit) {
        let reason = match limit {
            Limit::MinFree => DropReason::MinFree,
            Limit::MaxBytes => DropReason::MaxBytes,
            Limit::MaxAge => DropReason::MaxAge,
        };
        for place in 0..self.lanes.len() {
            let lane = &mut self.lanes[place];
            let loaded = lane.loaded_end();
            // What is loaded is in memory, and may yet be delivered.
            let from = loaded.max(lane.evicted);
            let counted = lane.holes.between(from, up_to);
            let lost = up_to.since(from).saturating_sub(counted);
            if lost > 0 {
                lane.counters.dropped.add(reason, lost);
                self.events.push(Event::Lost { output: place, readings: lost, reason });
            }
            let lane = &mut self.lanes[place];
            if lane.spans.is_empty() {
                // Otherwise `pass` moves it, when what is loaded is done.
                lane.cursor = lane.cursor.max(up_to);
            } else {
                lane.evicted = lane.evicted.max(up_to);
            }
        }
    }

    fn read(&mut self, place: usize, result: Result<Read, SpoolError>, now: Duration, random: f64) {
        self.lanes[place].reading = false;
        let Read { batches, mut gaps } = match result {
            Ok(read) => read,
            Err(error) => return self.cannot_read(&error, now, random),
        };
        self.reads_again();
        gaps.sort_by_key(|gap| gap.from);
        let cursor = self.lanes[place].cursor;
        // Only the gap at the cursor is passed. Others lie behind readings that are to be delivered first, and are met
        // again.
        if let Some(gap) = gaps.iter().find(|gap| gap.from <= cursor && cursor < gap.to) {
            match &gap.why {
                GapReason::Vanished => self.skip(place, gap.to, DropReason::Vanished),
                GapReason::Guessed => {
                    // They were counted as found.
                    let lane = &mut self.lanes[place];
                    lane.counters.found = lane.counters.found.saturating_sub(gap.to.since(cursor));
                    lane.cursor = gap.to;
                    self.let_go();
                }
                GapReason::Damaged(path) => {
                    let lane = &mut self.lanes[place];
                    let readings = gap.to.since(cursor);
                    lane.counters.quarantined += readings;
                    lane.cursor = gap.to;
                    let readings = usize::try_from(readings).unwrap_or(usize::MAX);
                    let why = "damaged on disk".to_owned();
                    self.events.push(Event::Quarantined { output: place, readings, why, path: path.clone() });
                    self.let_go();
                }
            }
        }
        let cursor = self.lanes[place].cursor;
        let next_gap = gaps.iter().map(|gap| gap.from).find(|&from| from > cursor);
        let deliverable = self.deliverable();
        let usable = |batch: &Arc<Batch>| batch.end() <= deliverable && next_gap.is_none_or(|gap| batch.first < gap);
        let nothing = batches.is_empty() && gaps.is_empty();
        let usable: Vec<_> = batches.into_iter().filter(usable).collect();
        if nothing {
            // The log ends before it should: somebody has removed its newest part.
            let to = self.tail.start().min(self.written);
            if to > cursor {
                self.skip(place, to, DropReason::Vanished);
            }
        } else {
            self.load(place, &usable);
        }
    }

    fn aside_done(&mut self, place: usize, result: Result<std::path::PathBuf, SpoolError>, now: Duration, random: f64) {
        let path = match result {
            Ok(path) => path,
            Err(error) => {
                if let Some(aside) = &mut self.lanes[place].aside {
                    aside.sent = false;
                }
                return self.cannot_keep(&error, now, random);
            }
        };
        self.keeps_again();
        let lane = &mut self.lanes[place];
        let Some(Aside { readings, why, whole, .. }) = lane.aside.take() else { return };
        match whole {
            Some(name) => {
                lane.old = Old::Ask;
                // A copy is in quarantine: the file itself goes.
                self.forget_old.push_back(name);
            }
            None => lane.delivery.set_aside(),
        }
        self.events.push(Event::Quarantined { output: place, readings, why, path });
        self.pass(place);
    }

    fn old_read(&mut self, place: usize, result: Result<Option<OldBatch>, SpoolError>, now: Duration, random: f64) {
        let lane = &mut self.lanes[place];
        lane.reading = false;
        match result {
            Ok(None) => {
                lane.old = Old::None;
                // No write may follow for long that would say so.
                self.usage.old_batches = 0;
                self.events.push(Event::OldDone);
                self.reads_again();
            }
            Ok(Some(batch)) => {
                // There may be nothing to write for long, which would tell it too.
                self.usage.old_batches = batch.left;
                let (name, body) = (batch.name.clone(), batch.body.clone());
                // While the clock is not believed no stamp can be called ahead of it.
                match lane.delivery.load_old(batch, self.wall.unwrap_or(Timestamp::from_millis(u64::MAX))) {
                    Ok(()) => lane.old = Old::Loaded(name),
                    Err(why) => {
                        let job = SetAside { output: place, file_name: name.0.clone(), body };
                        lane.aside = Some(Aside { job, sent: false, readings: 0, why, whole: Some(name) });
                    }
                }
                self.reads_again();
            }
            Err(error) => self.cannot_read(&error, now, random),
        }
    }

    fn cannot_read(&mut self, error: &SpoolError, now: Duration, random: f64) {
        self.disk.reads.failed(now, random);
        self.events.push(Event::CannotRead(Chain(error).to_string()));
    }

    fn reads_again(&mut self) {
        if self.disk.reads.worked() {
            self.events.push(Event::ReadsAgain);
        }
    }

    fn cannot_keep(&mut self, error: &SpoolError, now: Duration, random: f64) {
        self.disk.keeps.failed(now, random);
        self.events.push(Event::CannotKeep(Chain(error).to_string()));
    }

    fn keeps_again(&mut self) {
        if self.disk.keeps.worked() {
            self.events.push(Event::KeepsAgain);
        }
    }

    /// The server has answered a post of the output at `place`.
    pub fn answered(&mut self, place: usize, answer: &Answer, now: Moment, random: f64) {
        let lane = &mut self.lanes[place];
        lane.busy = false;
        // Each answer that tells the time spares a question.
        if answer.server_time.is_some() {
            lane.told = Some(now);
        }
        let posted = std::mem::take(&mut lane.posted);
        let told = lane.delivery.answered(&answer.result, now.boot, random);
        // A question for the time, too, comes to a server that wants to be left alone.
        lane.pause = now.boot + told.pause;
        lane.state = if answer.result.is_err() && told.failed { LaneState::Failing } else { LaneState::Well };
        match &answer.result {
            Ok(()) => {
                let (bytes, readings) = posted;
                self.events.push(Event::Posted { output: place, bytes, readings });
            }
            Err(failure) if told.failed => {
                self.events.push(Event::Failed { output: place, failure: failure.clone(), pause: told.pause });
            }
            Err(failure) => {
                // What the server will never take says that it has the rest.
                let (bytes, readings) = posted;
                let readings = readings.saturating_sub(failure.refused.len());
                if failure.verdict == Verdict::RefusedForGood && readings > 0 {
                    self.events.push(Event::Posted { output: place, bytes, readings });
                }
            }
        }
        self.pass(place);
    }

    /// The server has answered what the output at `place` asked: the time, or nothing.
    pub fn time_told(&mut self, place: usize, answer: &Answer, now: Moment, random: f64) {
        let lane = &mut self.lanes[place];
        lane.busy = false;
        match &answer.result {
            Ok(()) => {
                // A server that does not tell is not asked each time.
                lane.told = Some(now);
                lane.asking.reset();
            }
            Err(failure) => {
                let pause = lane.asking.fail_up_to(lane.max_backoff, random);
                lane.pause = now.boot + pause;
                lane.state = LaneState::Failing;
                self.events.push(Event::Failed { output: place, failure: failure.clone(), pause });
            }
        }
    }
}

#[cfg(test)]
mod tests;
