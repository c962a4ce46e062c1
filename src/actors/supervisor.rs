//! The supervisor: starts every other actor, restarts devices, ends the process in order.
//!
//! A [`Reload`] starts and stops devices and leaves alone those that it does not concern.
//!
//! A device that exits unasked (a panic) is started again after a backoff; one that exits too often, or
//! any other actor that exits unasked, ends the process with a failure: never a half-dead daemon. Stopping
//! goes along the flow, so that nothing is accepted that cannot be stored: devices, aggregator, poster.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::oneshot;

use super::aggregator::AggregatorActor;
use super::context::AgentContext;

use super::device::{DeviceActor, DevicePlan};
use super::lifecycle::{ActorId, ExitGuard, ExitStatus, Exited, Heartbeat, Stop};
use super::poster::{self, PosterActor};
use super::spooler::SpoolThread;
use super::timekeeper::Timekeeper;
use crate::failpoint;
use crate::modbus::endpoint::Endpoint;
use crate::modbus::session::DeviceSettings;
use crate::outputs::Open;
use crate::outputs::pipeline::Pipeline;
use crate::reading::points::PointTable;
use crate::status::narrator::Narrator;
use crate::text::seconds;
use crate::time::backoff::Backoff;
use crate::time::clock;

/// Another configuration, from whoever has read it. After the reply every device is read as it says.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reload {
    /// One entry per device.
    pub devices: Vec<Arc<DeviceSettings>>,
    /// Those of them that go on as they are, but for what their points are called.
    pub kept: HashSet<Endpoint>,
    /// What every point is.
    pub table: Arc<PointTable>,
    /// For the poster.
    pub delivery: poster::Reload,
}

/// Panics of one device within [`FORGIVEN`] of each other after which the whole process gives up.
pub const MAX_RESTARTS: u32 = 8;

/// A device that ran this long without a panic has a clean slate.
pub const FORGIVEN: Duration = Duration::from_secs(3_600);

/// How long stopping may take before what is still in memory is given up.
pub const GRACE: Duration = Duration::from_millis(1_500);

/// What the supervisor starts, checked and opened beforehand.
pub struct Parts {
    /// One entry per device of the configuration.
    pub devices: Vec<Arc<DeviceSettings>>,
    /// What every point is.
    pub table: Arc<PointTable>,
    /// The log on disk.
    pub spool: SpoolThread,
    /// What decides about log and outputs.
    pub pipeline: Pipeline,
    /// Of each output in the pipeline's order, its name and what makes what brings its posts to the server.
    pub outputs: Vec<(String, Open)>,
    /// Tells of both.
    pub narrator: Narrator,
    /// The source of all stamps.
    pub timekeeper: Timekeeper,
    /// What all share.
    pub context: AgentContext,
}

/// The actor that owns all others.
pub struct SupervisorActor {
    parts: Option<Parts>,
    timekeeper: Timekeeper,
    context: AgentContext,
    /// By number; no number is given twice.
    devices: BTreeMap<u64, Supervised>,
    next_number: u64,
    flow: Option<Flow>,
    stopping: bool,
    ending: Option<oneshot::Sender<ExitStatus>>,
}

/// The way of a reading, downstream of the devices.
#[derive(Clone)]
struct Flow {
    aggregator: Addr<AggregatorActor>,
    poster: Addr<PosterActor>,
    /// The poster's.
    _arbiter: Rc<Arbiter>,
}

struct Supervised {
    plan: DevicePlan,
    address: Addr<DeviceActor>,
    started: Instant,
    restarts: Backoff,
}

impl SupervisorActor {
    /// A supervisor that will start `parts`, and the word of how it ended; no word at all means a panic.
    #[must_use]
    pub fn new(parts: Parts) -> (Self, oneshot::Receiver<ExitStatus>) {
        let (ending, ended) = oneshot::channel();
        let this = Self {
            timekeeper: parts.timekeeper.clone(),
            context: parts.context.clone(),
            parts: Some(parts),
            devices: BTreeMap::new(),
            next_number: 0,
            flow: None,
            stopping: false,
            ending: Some(ending),
        };
        (this, ended)
    }

    fn end(&mut self, ending: ExitStatus) {
        if let Some(sender) = self.ending.take() {
            sender.send(ending).ok();
        }
    }

    fn add_device(&mut self, plan: DevicePlan, flow: &Flow, this: &Addr<Self>) {
        // Never a number again: the word of an old actor's end must not restart the one that a reload has put in its
        // place.
        let number = self.next_number;
        self.next_number += 1;
        let address = self.start_device(number, plan.clone(), flow, this);
        let device = Supervised { plan, address, started: Instant::now(), restarts: Backoff::default() };
        self.devices.insert(number, device);
    }

    fn start_device(&self, number: u64, plan: DevicePlan, flow: &Flow, this: &Addr<Self>) -> Addr<DeviceActor> {
        let guard = ExitGuard::new(this.clone().recipient(), ActorId::Device(number));
        let submit = flow.aggregator.clone().recipient();
        let timekeeper = self.timekeeper.clone();
        DeviceActor::new(plan, submit, timekeeper, self.context.clone(), guard).start()
    }

    fn restart_device(&mut self, number: u64, ctx: &mut Context<Self>) {
        // One that is not configured any more has stopped as it should.
        let Some(device) = self.devices.get_mut(&number) else { return };
        // By how long this life has lasted, so before its end is counted.
        if device.started.elapsed() >= FORGIVEN {
            device.restarts.reset();
        }
        let wait = device.restarts.fail(fastrand::f64());
        let name = &device.plan.settings.name;
        // A bug that comes back each time is not cured by one more start here: the service manager starts the process
        // whole.
        if device.restarts.failures() > MAX_RESTARTS {
            tracing::error!(device = %name, restarts = MAX_RESTARTS, "{name}: its actor panics again and again; the agent gives up and exits");
            self.end(ExitStatus::Failed);
            return;
        }
        self.context.registry.device(name).write(|state| state.crashed(&seconds(wait).to_string(), clock::now()));
        tracing::error!(device = %name, "{name}: its actor panicked; it is started again in {}", seconds(wait));
        ctx.run_later(wait, move |this, ctx| {
            if this.stopping {
                return;
            }
            // The plan as it is now. A reload during the wait has changed it here, or removed the device; the dead
            // actor could be told nothing.
            let (Some(device), Some(flow)) = (this.devices.get(&number), this.flow.as_ref()) else { return };
            let address = this.start_device(number, device.plan.clone(), flow, &ctx.address());
            if let Some(device) = this.devices.get_mut(&number) {
                device.address = address;
                device.started = Instant::now();
            }
        });
    }
}

impl Actor for SupervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(parts) = self.parts.take() else { return };
        let this = ctx.address();
        // A thread for the poster alone: while a megabyte is encoded, devices are polled. Threads are crossed once a
        // batch, not once a reading.
        let arbiter = Arbiter::new();
        let poster = {
            let guard = ExitGuard::new(this.clone().recipient(), ActorId::Poster);
            let (pipeline, outputs, spool, narrator) = (parts.pipeline, parts.outputs, parts.spool, parts.narrator);
            let (timekeeper, context) = (self.timekeeper.clone(), self.context.clone());
            PosterActor::start_in_arbiter(&arbiter.handle(), move |_| {
                PosterActor::new(pipeline, outputs, spool, timekeeper, context, narrator, guard)
            })
        };
        let table = parts.table;
        self.context.plant.configure(&table);
        let aggregator = AggregatorActor::new(
            self.timekeeper.clone(),
            poster.clone().recipient(),
            self.context.clone(),
            ExitGuard::new(this.clone().recipient(), ActorId::Aggregator),
        )
        .start();
        let flow = Flow { aggregator, poster, _arbiter: Rc::new(arbiter) };
        // Before a device starts: what an earlier process remembers of devices that are configured no more goes out of
        // the file with the next write.
        self.context.learned.retain(parts.devices.iter().map(|device| &device.endpoint));
        for settings in parts.devices {
            self.add_device(DevicePlan { settings, table: Arc::clone(&table) }, &flow, &this);
        }
        self.flow = Some(flow);
    }
}

impl Handler<Exited> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, exited: Exited, ctx: &mut Self::Context) {
        if self.stopping {
            return;
        }
        // Asked after `stopping`: in a stop all guards speak, and none of their actors is to come back.
        match exited.actor {
            ActorId::Device(number) => self.restart_device(number, ctx),
            // Not restarted in place: batches under way, answers and the spool thread would belong to two of them. An
            // end without a panic is as bad.
            ActorId::Aggregator | ActorId::Poster => {
                tracing::error!(actor = ?exited.actor, panicked = exited.panicked, "actor is gone; the agent exits so that it can be started whole");
                self.end(ExitStatus::Failed);
            }
        }
    }
}

impl Handler<Reload> for SupervisorActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, reload: Reload, _: &mut Self::Context) -> Self::Result {
        // A stop that has begun wins: what is started now would be stopped by nobody.
        let Some(flow) = self.flow.clone().filter(|_| !self.stopping) else { return Box::pin(fut::ready(())) };
        let Reload { devices, mut kept, table, delivery } = reload;
        // What was learned of a device that is not configured any more is forgotten.
        self.context.learned.retain(devices.iter().map(|device| &device.endpoint));
        self.context.plant.configure(&table);
        flow.poster.do_send(delivery);
        self.context.registry.budget().changed(table.len());
        let mut wanted: BTreeMap<Endpoint, DevicePlan> = BTreeMap::new();
        let mut names = HashSet::new();
        for settings in devices {
            names.insert(settings.name.clone());
            let plan = DevicePlan { settings, table: Arc::clone(&table) };
            wanted.insert(plan.settings.endpoint.clone(), plan);
        }
        let mut leaving = Vec::new();
        self.devices.retain(|_, device| {
            let endpoint = &device.plan.settings.endpoint;
            // Taken out of both, so that what is left of `wanted` is what must be started.
            let Some(plan) = kept.take(endpoint).and_then(|endpoint| wanted.remove(&endpoint)) else {
                leaving.push((device.plan.settings.name.clone(), device.address.clone()));
                return false;
            };
            // Not waited for: the device takes it over when its present poll has ended, and a poll may last long.
            device.address.do_send(plan.clone());
            device.plan = plan;
            true
        });
        let stop = async move {
            // Before another actor asks the same device, or the books of one that is gone are closed.
            for (_, device) in &leaving {
                device.send(Stop).await.ok();
            }
            leaving
        };
        Box::pin(stop.into_actor(self).map(move |left, this, ctx| {
            for (name, _) in left {
                // One that was only replaced keeps its slot, and with it what was counted of it.
                if !names.contains(&name) {
                    this.context.registry.forget(&name);
                }
            }
            // Asked again: a signal may have come while devices stopped.
            let Some(flow) = this.flow.clone().filter(|_| !this.stopping) else { return };
            for plan in wanted.into_values() {
                this.add_device(plan, &flow, &ctx.address());
            }
        }))
    }
}

impl Handler<Heartbeat> for SupervisorActor {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, _: Heartbeat, _: &mut Self::Context) -> Self::Result {
        let flow = self.flow.as_ref().map(|flow| (flow.aggregator.clone(), flow.poster.clone()));
        Box::pin(async move {
            let Some((aggregator, poster)) = flow else { return false };
            // Devices are not asked: one that hangs costs its own readings only. One that blocks the thread blocks this
            // question too.
            matches!((aggregator.send(Heartbeat).await, poster.send(Heartbeat).await), (Ok(true), Ok(true)))
        })
    }
}

impl Handler<Stop> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        failpoint::pass("supervisor");
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        let devices: Vec<_> = self.devices.values().map(|device| device.address.clone()).collect();
        let flow = self.flow.as_ref().map(|flow| (flow.aggregator.clone(), flow.poster.clone()));
        let stop = async move {
            let in_order = async {
                for device in &devices {
                    // A device that is gone has stopped.
                    device.send(Stop).await.ok();
                }
                let Some((aggregator, poster)) = flow else { return true };
                aggregator.send(Stop).await.is_ok() && poster.send(Stop).await.is_ok()
            };
            // One limit for all of it. What is left when it ends hangs, and to wait longer would end in the signal
            // loop's exit without a word about what is lost.
            matches!(tokio::time::timeout(GRACE, in_order).await, Ok(true))
        };
        ctx.spawn(stop.into_actor(self).map(|in_time, this, _| {
            let counters = &this.context.counters;
            // Losses of the whole run, evictions too: whoever looks at the exit code must not take a loss for
            // everything delivered.
            let lost = counters.lost().and_in_memory(counters.in_memory());
            if lost.count() > 0 {
                tracing::error!(code = 1071, "stopped; LOST {lost}; {counters}");
            } else if in_time {
                tracing::info!(code = 1071, "stopped; everything is delivered or on disk: {counters}");
            } else {
                let what = if counters.published().log.hangs {
                    "the disk hangs"
                } else {
                    "a part of the agent does not answer"
                };
                tracing::error!(code = 1071, "stopped, not in order: {what}; nothing is lost: {counters}");
            }
            this.end(if in_time && lost.count() == 0 { ExitStatus::Done } else { ExitStatus::Failed });
        }));
    }
}
