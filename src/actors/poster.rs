//! The poster: performs what the [`Pipeline`] decides, with a thread for the disk and the configured servers.
//!
//! Nothing is decided here. One job for the disk and one post for each output are under way; their answers go back to
//! the pipeline, and what it says is worth telling goes to the log. When the spool thread is gone the actor ends, and the process
//! with it.

use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::aggregator::Append;
use super::context::AgentContext;
use super::lifecycle::{ExitGuard, Heartbeat, Stop};
use super::spooler::SpoolThread;
use super::timekeeper::Timekeeper;
use crate::failpoint;
use crate::outputs::pipeline::{Action, Now, Pipeline};
use crate::outputs::{Deliver, Halves, Open};
use crate::spool::Limits;
use crate::status::narrator::Narrator;
use crate::time::clock;

/// How long a stop waits for servers once everything is on disk.
pub const LAST_POSTS: Duration = Duration::from_secs(1);

/// What a reload changes for the poster, from the supervisor: from the next post and the next batch on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reload {
    /// About the disk.
    pub limits: Limits,
    /// For how long a batch may be written and not durable.
    pub flush_interval: Duration,
    /// About outputs, by name.
    pub outputs: Vec<(String, OutputChange)>,
}

/// What a reload changes about one output.
pub struct OutputChange {
    /// Another server; `None`: the same as before.
    pub server: Option<Halves>,
    /// How long the oldest post may be refused before it is taken apart.
    pub split_refused_after: Duration,
    /// How long its server is left alone at most.
    pub max_backoff: Duration,
    /// It lets go of readings that are older.
    pub max_age: Option<Duration>,
}

/// An output as the actor holds it.
pub struct Way {
    /// Its name.
    pub name: String,
    /// Brings its posts to the server; `None` while one is under way.
    pub deliver: Option<Box<dyn Deliver>>,
    /// How often that was replaced: an answer of another one is not about the present server.
    pub generation: u32,
    /// What is under way, or was last.
    pub attempt: SpawnHandle,
}

/// The actor between the aggregator and the servers.
pub struct PosterActor {
    pipeline: Pipeline,
    ways: Vec<Way>,
    spool: SpoolThread,
    timekeeper: Timekeeper,
    context: AgentContext,
    narrator: Narrator,
    timer: Option<SpawnHandle>,
    /// Whoever waits for the end, and when that comes at the latest once everything is on disk.
    stopping: Option<(oneshot::Sender<()>, Duration)>,
    /// It was told that all is done: nothing begins any more.
    stopped: bool,
    _guard: ExitGuard,
}

impl PosterActor {
    /// An actor that performs what `pipeline` decides; `ways` are its outputs, in its order. On the thread of the actor.
    #[must_use]
    pub fn new(
        pipeline: Pipeline,
        ways: Vec<(String, Open)>,
        spool: SpoolThread,
        timekeeper: Timekeeper,
        context: AgentContext,
        narrator: Narrator,
        guard: ExitGuard,
    ) -> Self {
        // Opened here, on the poster's thread: an HTTP client cannot move to another one.
        let way = |(name, open): (_, Open)| Way {
            name,
            deliver: Some(open()),
            generation: 0,
            attempt: SpawnHandle::default(),
        };
        let ways = ways.into_iter().map(way).collect();
        Self {
            pipeline,
            ways,
            spool,
            timekeeper,
            context,
            narrator,
            timer: None,
            stopping: None,
            stopped: false,
            _guard: guard,
        }
    }

    /// Does all that is to be done now, and comes back when there is more.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        failpoint::pass("poster");
        // Answers of disk and servers may still come. The supervisor has been told that there is nothing more to wait
        // for, so nothing may begin.
        if self.stopped {
            return;
        }
        loop {
            let timekeeper = &self.timekeeper;
            let too_far_ahead = |at| timekeeper.too_far_ahead(at);
            let (moment, believed) = timekeeper.look();
            let now = Now { moment, believed, offset: timekeeper.offset(), too_far_ahead: &too_far_ahead };
            let Some(action) = self.pipeline.next(&now) else { break };
            self.perform(action, ctx);
        }
        let now = clock::boot();
        // Once, after all actions, and as a whole: nobody sees a reading twice, or nowhere.
        self.context.counters.publish(self.pipeline.published());
        for event in self.pipeline.take_events() {
            self.narrator.tell(event, &self.context.registry, now);
        }
        if let Some(timer) = self.timer.take() {
            // One timer at a time. Each answer comes through here, and each would leave one more timer that sets the
            // next.
            ctx.cancel_future(timer);
        }
        let mut wait = self.pipeline.deadline(now).saturating_sub(now);
        if let Some((_, latest)) = &self.stopping {
            // While the disk has not everything, `latest` ends nothing: the wait is for servers only, and the
            // supervisor's own limit is what ends a wait for the disk. Cursors too: a post that is acknowledged and not
            // noted is delivered again.
            let stored = self.pipeline.is_stored_or_delivered() && !self.pipeline.saves_cursors();
            if self.pipeline.is_settled() || (stored && now >= *latest) {
                self.stopped = true;
                if let Some((stopped, _)) = self.stopping.take() {
                    // The supervisor may have run out of time.
                    stopped.send(()).ok();
                }
            // Not once it has passed: the wait would be nothing, and this would turn without a pause until the disk
            // answers.
            } else if now < *latest {
                wait = wait.min(latest.saturating_sub(now));
            }
        }
        self.timer = Some(ctx.run_later(wait, |this, ctx| {
            this.timer = None;
            this.pump(ctx);
        }));
    }

    fn perform(&mut self, action: Action, ctx: &mut Context<Self>) {
        match action {
            Action::Disk(job) => {
                // Spawned, not waited for: batches are taken in and posts go on while the disk works, or hangs.
                let done = self.spool.perform(job).into_actor(self).map(|done, this, ctx| {
                    // Without the thread no reading gets to the disk any more. The guard tells the supervisor, which
                    // ends the process.
                    let Ok(done) = done else { return ctx.stop() };
                    // Chance comes from outside, as time does: the simulation decides both.
                    this.pipeline.done(done, clock::boot(), fastrand::f64());
                    this.pump(ctx);
                });
                ctx.spawn(done);
            }
            Action::Post { output, body, again } => self.ask(output, Some((body, again)), ctx),
            Action::AskTime { output } => self.ask(output, None, ctx),
        }
    }

    /// Posts `post`, which an earlier life may have posted; or without one asks for the time.
    fn ask(&mut self, output: usize, post: Option<(bytes::Bytes, bool)>, ctx: &mut Context<Self>) {
        let Some(way) = self.ways.get_mut(output) else { return };
        let generation = way.generation;
        // Moved into the attempt: two of one output cannot be under way at once, so posts keep their order.
        let Some(mut deliver) = way.deliver.take() else { return };
        let is_post = post.is_some();
        // The attempt owns all that it needs. A reload replaces the way beside it, and the answer finds another
        // generation.
        let asked = async move {
            let answer = match post {
                Some((body, false)) => deliver.post(body).await,
                Some((body, true)) => deliver.post_again(body).await,
                None => deliver.ask_time().await,
            };
            (deliver, answer)
        };
        let answered = asked.into_actor(self).map(move |(deliver, answer), this, ctx| {
            let Some(way) = this.ways.get_mut(output).filter(|way| way.generation == generation) else {
                // Of a server that is not the present one any more: it says nothing about that.
                return;
            };
            way.deliver = Some(deliver);
            // One look at the clocks for the timeline and the pipeline: a step of the clock cannot come in between.
            let now = answer.server_time.map_or_else(clock::now, |date| this.timekeeper.server_says(date));
            let random = fastrand::f64();
            if is_post {
                this.pipeline.answered(output, &answer, now, random);
            } else {
                this.pipeline.time_told(output, &answer, now, random);
            }
            this.pump(ctx);
        });
        let attempt = ctx.spawn(answered);
        if let Some(way) = self.ways.get_mut(output) {
            way.attempt = attempt;
        }
    }
}

impl Actor for PosterActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.pump(ctx);
    }
}

impl Handler<Append> for PosterActor {
    type Result = ();

    fn handle(&mut self, Append { batch, hold }: Append, ctx: &mut Self::Context) {
        // Pumped at once, not with the timer: a kill loses what has not been written, so a batch is written as it
        // comes.
        self.pipeline.accept(batch, hold, clock::boot());
        self.pump(ctx);
    }
}

impl Handler<Reload> for PosterActor {
    type Result = ();

    fn handle(&mut self, reload: Reload, ctx: &mut Self::Context) {
        self.pipeline.configure(reload.limits, reload.flush_interval);
        self.narrator.limit(reload.limits);
        for (name, OutputChange { server, split_refused_after, max_backoff, max_age }) in reload.outputs {
            let (encode, open) = server.unzip();
            // By name: the actor's list is that of the start.
            if let Some(way) = self.ways.iter_mut().find(|way| way.name == name)
                && let Some(open) = open
            {
                // Given up, not only not listened to: it would go on at the old server beside the next one, and its connection
                // would end behind the one that is begun here.
                ctx.cancel_future(way.attempt);
                let mut deliver = open();
                deliver.begin();
                (way.deliver, way.generation) = (Some(deliver), way.generation + 1);
            }
            self.pipeline.configure_output(&name, encode, split_refused_after);
            self.pipeline.set_max_backoff(&name, max_backoff);
            self.pipeline.set_max_age(&name, max_age);
        }
        self.pump(ctx);
    }
}

impl Handler<Heartbeat> for PosterActor {
    type Result = bool;

    fn handle(&mut self, _: Heartbeat, _: &mut Self::Context) -> Self::Result {
        true
    }
}

impl Handler<Stop> for PosterActor {
    type Result = ResponseFuture<()>;

    /// The reply says that there is nothing more to wait for: everything is on disk, and each server has what it takes.
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) -> Self::Result {
        let (stopped, has_stopped) = oneshot::channel();
        let now = clock::boot();
        self.pipeline.stop(now);
        self.stopping = Some((stopped, now + LAST_POSTS));
        self.pump(ctx);
        Box::pin(async move {
            has_stopped.await.ok();
        })
    }
}
