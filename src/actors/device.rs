//! One device: polls its cycles when they are due and submits what was read.
//!
//! A shell over [`Poller`] (when what is asked, and what a failure costs). One poll runs
//! at a time; the next tick is armed when it has ended and its readings are accepted, so a slow device or a slow
//! aggregator skips ticks and queues nothing.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use actix_rt::task::JoinHandle;
use tokio::sync::Notify;

use super::aggregator::Submit;
use super::context::AgentContext;
use super::lifecycle::{ExitGuard, Stop};
use super::timekeeper::Timekeeper;
use crate::counters::DropReason;
use crate::failpoint;
use crate::logging::throttle::LogThrottle;
use crate::modbus::decode::NotAValue;
use crate::modbus::plan::{Block, Span, runs};
use crate::modbus::refusals::Limit;
use crate::modbus::session::{DeviceSettings, Discovery, EndpointDial, Event, Outcome, Poller, Polling, Subject};
use crate::outage::{Fault, Transition};
use crate::outputs::plant::{Absences, unit};
use crate::reading::points::{self, PointTable, called};
use crate::reading::{PointId, Reading};
use crate::status::registry::{DeviceState, Polled, Slot};
use crate::status::values::{Budget, Values};
use crate::text::{Chain, count, seconds, some_of};
use crate::time::clock::{self, Moment};
use crate::time::timeline::Track;

/// What a device actor does under one configuration. To a running one, from the supervisor: from now on it does this;
/// only what its points are called may differ from what it did.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct DevicePlan {
    /// What to read.
    pub settings: Arc<DeviceSettings>,
    /// What its points are.
    pub table: Arc<PointTable>,
}

impl DevicePlan {
    /// The name of the device, if the configuration gives it one.
    fn label(&self) -> Option<&str> {
        let first = self.settings.blocks().flat_map(Block::values).next()?;
        self.table.get(first)?.device.name.as_deref()
    }

    /// The polling groups that read it, sorted.
    fn groups(&self) -> Vec<String> {
        self.groups_of(|_| true).into_iter().map(str::to_owned).collect()
    }

    /// The polling groups of what such requests read, sorted.
    fn groups_of(&self, asked: impl Fn(&Block) -> bool) -> BTreeSet<&str> {
        let points = self.settings.blocks().filter(|block| asked(block)).flat_map(Block::values);
        points.filter_map(|id| Some(self.table.get(id)?.device.group.as_str())).collect()
    }

    /// The same as the log names them.
    fn groups_told(&self, asked: impl Fn(&Block) -> bool) -> String {
        some_of(self.groups_of(asked).iter())
    }

    /// Says what is configured of it to whoever asks how it is.
    fn describe(&self, slot: &Slot<DeviceState>, values: &Slot<Values>, budget: &Arc<Budget>) {
        // Worked out before the slot is locked: whoever writes or reads the status waits for the lock.
        let (points, label, groups) = (self.settings.points(), self.label().map(str::to_owned), self.groups());
        let names: HashSet<&str> =
            self.points().filter_map(|id| self.table.get(id)?.register.name.as_deref()).collect();
        slot.write(|state| {
            (state.points, state.label, state.groups) = (points, label, groups);
            // Under which name the value stands now is known with the next poll.
            state.value_name.take_if(|name| !names.contains(name.as_str()));
        });
        values.write(|values| values.assign(Arc::clone(&self.table), self.points(), budget));
    }

    /// The device as the log calls it: `boiler (192.0.2.20:1502)`.
    fn called(&self) -> String {
        called(self.label(), &self.settings.name)
    }

    /// Every point that is read from it.
    fn points(&self) -> impl Iterator<Item = PointId> {
        self.settings.blocks().flat_map(Block::values)
    }

    /// The names of the values at `spans`, in brackets; nothing where they have none.
    fn names(&self, spans: &[Span]) -> String {
        let spans: BTreeSet<Span> = spans.iter().copied().collect();
        let points = self.settings.blocks().flat_map(|block| block.values_at(|span| spans.contains(&span)));
        let names: BTreeSet<&str> = points.filter_map(|id| self.table.get(id)?.register.name.as_deref()).collect();
        if names.is_empty() { String::new() } else { format!(" ({})", some_of(names.iter())) }
    }
}

/// The actor that polls one device.
#[derive(Debug)]
pub struct DeviceActor {
    assigned: Rc<Assigned>,
    /// What it does once it is started.
    device: Option<Device>,
    /// A task of its own: as a future of the actor, each reply would go through the actor's mailbox and back.
    polling: Option<JoinHandle<()>>,
}

impl DeviceActor {
    /// An actor that polls at once and then keeps to its grid.
    #[must_use]
    pub fn new(
        plan: DevicePlan,
        submit: Recipient<Submit>,
        timekeeper: Timekeeper,
        context: AgentContext,
        guard: ExitGuard,
    ) -> Self {
        let settings = &plan.settings;
        let fingerprint = settings.settings.fingerprint();
        // Under other settings, such as another max_registers or another transport, what was learned may not hold.
        let learned = context.learned.of(&settings.endpoint, &fingerprint);
        let polling = Polling::new(Arc::clone(settings), &learned, clock::now(), fastrand::Rng::new());
        // What is about nothing that is asked for any more is forgotten there, too.
        context.learned.note(&settings.endpoint, &fingerprint, polling.core().learned());
        let dial = EndpointDial::new(&settings.endpoint, settings.settings.clone());
        // Another actor may have read this device a moment ago.
        let track = timekeeper.track();
        let slot = context.registry.device(&settings.name);
        let values = context.registry.values(&settings.name);
        plan.describe(&slot, &values, context.registry.budget());
        let device = Device {
            called: plan.called(),
            now: plan.clone(),
            assigned: Rc::new(Assigned { plan: RefCell::new(plan), is_new: Notify::new() }),
            submit,
            context,
            slot,
            values,
            timekeeper,
            overruns: LogThrottle::default(),
            absences: Absences::default(),
            poller: Poller::new(dial, polling),
            track,
            _guard: guard,
        };
        Self { assigned: Rc::clone(&device.assigned), device: Some(device), polling: None }
    }
}

impl Drop for DeviceActor {
    fn drop(&mut self) {
        // A JoinHandle that is dropped detaches its task: the device would be polled on by nobody's order, beside the
        // actor that has taken its place.
        if let Some(polling) = &self.polling {
            polling.abort();
        }
    }
}

impl Actor for DeviceActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        // By reference: as an argument of the future it would have its place in it twice.
        self.polling = self.device.take().map(|mut device| actix_rt::spawn(async move { device.run().await }));
    }
}

impl Handler<DevicePlan> for DeviceActor {
    type Result = ();

    /// A poll that runs goes on as it was; the next one is by this.
    fn handle(&mut self, plan: DevicePlan, _: &mut Self::Context) {
        self.assigned.plan.replace(plan);
        self.assigned.is_new.notify_one();
    }
}

impl Handler<Stop> for DeviceActor {
    type Result = ResponseFuture<()>;

    /// The reply says that nothing is asked of the device any more.
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) -> Self::Result {
        // The reply is a future of its own, so it comes although the actor has stopped.
        ctx.stop();
        let polling = self.polling.take();
        Box::pin(async move {
            // Awaited, because abort only asks: the connection is closed when the task is gone. Some devices accept one
            // connection only, and another actor may dial this one as soon as the reply is there.
            if let Some(polling) = polling {
                polling.abort();
                // Cancelled is what it is.
                polling.await.ok();
            }
        })
    }
}

/// What fails, by what it is called in the log.
type Faults = Vec<(String, Fault)>;

/// What the actor tells the loop to do.
#[derive(Debug)]
struct Assigned {
    // No lock: task and actor are on one thread, and no borrow lives across an await.
    plan: RefCell<DevicePlan>,
    /// Ends a rest: what the device is called is not to wait for the next poll, which may be hours away.
    is_new: Notify,
}

/// The loop of one device and what it remembers: one future for its whole life, so that a poll makes none.
#[derive(Debug)]
struct Device {
    /// Replaced by the actor.
    assigned: Rc<Assigned>,
    /// The plan by which it polls, until the next poll begins.
    now: DevicePlan,
    /// The device as the log calls it.
    called: String,
    submit: Recipient<Submit>,
    context: AgentContext,
    /// How this device is, for whoever asks.
    slot: Arc<Slot<DeviceState>>,
    /// What it was read as, for whoever looks.
    values: Arc<Slot<Values>>,
    timekeeper: Timekeeper,
    overruns: LogThrottle,
    absences: Absences,
    poller: Poller<EndpointDial>,
    /// The stamps of this device's readings.
    track: Track,
    // Here and not in the actor: a panic ends the task alone, and the actor would go on without it and answer every
    // message.
    _guard: ExitGuard,
}

impl Device {
    async fn run(&mut self) {
        loop {
            // Only between two polls: the readings of one poll are of one point table.
            self.take_over();
            let is_due = tokio::select! {
                is_due = self.poller.is_due_or_rest() => is_due,
                () = self.assigned.is_new.notified() => false,
            };
            if is_due {
                self.poll().await;
            }
        }
    }

    /// A reload during a poll is for the next one.
    fn take_over(&mut self) {
        let plan = self.assigned.plan.borrow().clone();
        // By pointer, because this is asked before each poll and each rest. A reload makes all settings anew, so the
        // same pointer means that there was none.
        if Arc::ptr_eq(self.poller.polling().core().plan(), &plan.settings) {
            return;
        }
        plan.describe(&self.slot, &self.values, self.context.registry.budget());
        if self.poller.assign(Arc::clone(&plan.settings)) {
            self.note_learned(&plan.settings);
        }
        (self.called, self.now) = (plan.called(), plan);
    }

    async fn poll(&mut self) {
        failpoint::pass("device");
        let settings = Arc::clone(self.poller.polling().core().plan());
        // Each reply gets its stamp when it is there, not the poll at its end: a poll of many requests may take
        // seconds.
        let (timekeeper, track) = (&self.timekeeper, &mut self.track);
        self.poller.poll(&mut || timekeeper.stamp(track)).await;
        let (now, anchor) = self.timekeeper.polled();
        let (mut outcome, skipped) = self.poller.end(now, anchor);
        let readings = std::mem::take(&mut outcome.readings);
        // Noted now: the readings are given away before the status is written.
        let (taken, first) = (readings.len(), readings.first().copied());
        // With the plan by which it was polled: what waits in `plan` since a reload during the poll has other points.
        let (why, faults) = self.failing(&outcome);
        self.values.write(|values| values.polled(&readings, why.into_iter(), now.boot));
        self.note_presence(&readings);
        if !readings.is_empty() {
            self.submit(Submit { table: Arc::clone(&self.now.table), readings }).await;
        }
        self.polled(&settings, outcome, (taken, first), faults, skipped, now);
    }

    /// Hands readings over, however long the aggregator takes to have room for them.
    async fn submit(&self, submit: Submit) {
        // A reply for each poll would wake this device once more.
        if let Err(SendError::Full(submit)) = self.submit.try_send(submit) {
            // An aggregator that is gone ends the process; nothing to do here.
            self.submit.send(submit).await.ok();
        }
    }

    fn polled(
        &mut self,
        settings: &DeviceSettings,
        outcome: Outcome,
        (taken, first): (usize, Option<Reading>),
        faults: Faults,
        skipped: u64,
        now: Moment,
    ) {
        self.context.counters.overrun(skipped);
        // In boot time: the wall clock may have been set while the poll ran.
        let took = now.boot.saturating_sub(self.poller.polling().begun());
        self.context.registry.polls().took(took);
        for kind in &outcome.failures {
            self.context.registry.polls().failed(kind);
        }
        self.context.registry.polls().unread(outcome.unread);
        let value = first.map(|first| first.value.as_f64());
        let value_name = first.and_then(|first| self.now.table.get(first.point)?.register.name.clone());
        let failures = outcome.failures.len();
        let polled = self.look(Polled {
            readings: taken,
            skipped,
            took,
            value,
            value_name,
            failures,
            faults,
            ..Polled::default()
        });
        self.slot.write(|state| state.polled(polled, now));
        // Of requests that were not answered it is told otherwise, and a pause after connecting is meant to be.
        if outcome.answered
            && outcome.failures.is_empty()
            && (!outcome.connected || settings.settings.close_after_poll)
            && let Some(skipped) = self.overruns.add(skipped, now.boot)
        {
            tracing::warn!(
                device = %settings.name,
                "{}: {} skipped, because the one before took longer than the polling interval; \
                 lengthen polling_interval or read fewer registers of this device",
                self.called,
                count(usize::try_from(skipped).unwrap_or(usize::MAX), "poll"),
            );
        }
        for (_, why) in &outcome.omitted {
            self.context.counters.drop_values(reason(why), 1);
        }
        for event in outcome.events {
            tell(&self.now, &self.called, event);
        }
        if outcome.learned {
            self.note_learned(settings);
        }
        for discovery in outcome.discoveries {
            tell_discovery(&self.now, &self.called, discovery);
        }
    }

    /// Why points were not read, of those that are failing now, and what fails; nothing of a device that is well.
    fn failing(&self, outcome: &Outcome) -> (Vec<(PointId, Arc<str>)>, Faults) {
        let core = self.poller.polling().core();
        let (mut why, mut faults) = (Vec::new(), Vec::new());
        for (subject, fault) in core.faults() {
            // One text for all points that it concerns: a silent gateway may have thousands.
            let text: Arc<str> = format!("{subject}: {}", fault.cause).into();
            let asked = |block: &&Block| subject.is_about(block);
            why.extend(core.plan().blocks().filter(asked).flat_map(Block::values).map(|id| (id, Arc::clone(&text))));
            faults.push((subject.to_string(), fault.clone()));
        }
        for (what, mut fault, spans) in core.refused() {
            let text: Arc<str> = fault.cause.as_str().into();
            // The device's line names the points; the reason of one point does not name its neighbours.
            fault.cause.push_str(&self.now.names(&spans));
            faults.push((what, fault));
            let spans: BTreeSet<Span> = spans.into_iter().collect();
            let points = core.plan().blocks().flat_map(|block| block.values_at(|span| spans.contains(&span)));
            why.extend(points.map(|id| (id, Arc::clone(&text))));
        }
        why.extend(outcome.omitted.iter().map(|(id, why)| (*id, why.to_string().into())));
        (why, faults)
    }

    /// Tells which units answer and which do not, if that has changed with a poll that gave these.
    fn note_presence(&mut self, readings: &[Reading]) {
        let table = &self.now.table;
        let mut answered: Vec<u8> = Vec::new();
        for unit in readings.iter().filter_map(|reading| Some(table.get(reading.point)?.device.unit)) {
            // They come unit by unit.
            if answered.last() != Some(&unit) {
                answered.push(unit);
            }
        }
        let core = self.poller.polling().core();
        let blocks = || core.plan().blocks();
        let mut silent = BTreeSet::new();
        // Whoever refuses a request is there.
        for subject in core.faults().keys().filter(|subject| !matches!(subject, Subject::Block { .. })) {
            silent.extend(blocks().filter(|block| subject.is_about(block)).map(|block| block.unit.0));
        }
        let changes = self.absences.polled(answered, silent);
        if !changes.is_empty() {
            // One address may be configured by several names.
            let devices = blocks().flat_map(Block::values).filter_map(|point| Some(table.get(point)?.device));
            let of = |device: &points::Device| changes.iter().find(|(unit, _)| *unit == device.unit);
            let said: HashMap<_, _> = devices.filter_map(|device| Some((unit(device), of(device)?.1))).collect();
            self.context.plant.say(said);
        }
    }

    /// For the next process.
    fn note_learned(&self, settings: &DeviceSettings) {
        let learned = self.poller.polling().core().learned();
        self.context.learned.note(&settings.endpoint, &settings.settings.fingerprint(), learned);
    }

    /// Adds how many points are missing and what was learned, for whoever asks.
    fn look(&self, mut polled: Polled) -> Polled {
        let core = self.poller.polling().core();
        (polled.failing, polled.refused) = core.missing();
        polled.learned = core.learned().sentences();
        polled
    }
}

/// One line for one change of state: what, which device, why, what happens next.
fn tell(plan: &DevicePlan, called: &str, event: Event) {
    let Event { subject, transition, cause, retry_in } = event;
    let (device, group) = (plan.settings.name.as_str(), plan.groups_told(|block| subject.is_about(block)));
    let (code, unit) = (code(subject), subject.unit().map(|unit| unit.0));
    let cause = cause.as_ref().map_or_else(String::new, |cause| Chain(cause).to_string());
    let next = retry_in.map_or_else(
        || "asked again at each poll".to_owned(),
        |wait| format!("tried again in {}, then ever more rarely, at least once in max_backoff", seconds(wait)),
    );
    let (why, next_attempt_seconds) = (cause.as_str(), retry_in.map(|wait| wait.as_secs_f64()));
    match transition {
        // A first failure is a warning: most are over by the next attempt. It becomes an error when it lasts (Down).
        Transition::Failed { suppressed: 0 } => {
            tracing::warn!(
                code,
                device,
                group,
                unit,
                why,
                next_attempt_seconds,
                "{called}: {subject}: {cause}; {next}"
            );
        }
        Transition::Failed { suppressed } => {
            tracing::warn!(
                code,
                device,
                group,
                unit,
                why,
                next_attempt_seconds,
                "{called}: {subject}: {cause}; {next}; {suppressed} short failures before this were not told"
            );
        }
        Transition::Down { lasted } => {
            let (lasted_seconds, lasted) = (lasted.as_secs_f64(), seconds(lasted));
            tracing::error!(
                code,
                device,
                group,
                unit,
                why,
                lasted_seconds,
                next_attempt_seconds,
                "{called}: {subject}: down for {lasted}: {cause}; {next}"
            );
        }
        Transition::OtherCause { failures } => {
            tracing::warn!(
                code,
                device,
                group,
                unit,
                why,
                next_attempt_seconds,
                "{called}: {subject}: still failing, now otherwise: {cause}; {failures} failures so far; {next}"
            );
        }
        Transition::Recovered { lasted, failures } => {
            let (lasted_seconds, lasted) = (lasted.as_secs_f64(), seconds(lasted));
            let failures = count(usize::try_from(failures).unwrap_or(usize::MAX), "failure");
            tracing::info!(
                code,
                device,
                group,
                unit,
                lasted_seconds,
                "{called}: {subject}: works again after {lasted} and {failures}"
            );
        }
    }
}

/// One line for what was learned of a device.
fn tell_discovery(plan: &DevicePlan, called: &str, discovery: Discovery) {
    let (device, code) = (plan.settings.name.as_str(), 65_027_u64);
    let named = |spans: &[Span]| {
        let Span { unit, table, .. } = spans.first()?;
        let concerned = |block: &Block| block.spans().iter().any(|span| spans.contains(span));
        let numbers = some_of(runs(spans.iter().copied()).iter()) + &plan.names(spans);
        Some((plan.groups_told(concerned), unit.0, *table, numbers))
    };
    let of_unit = |unit| plan.groups_told(|block| block.unit == unit);
    match discovery {
        Discovery::Refused(spans, cause) => {
            let Some((group, unit, table, numbers)) = named(&spans) else { return };
            tracing::warn!(
                code,
                device,
                group,
                unit,
                registers = numbers,
                "{called}: unit {unit} refuses {table} {numbers}: {}; left out of the requests, so that the others are read, and \
                 tried again at least once an hour",
                Chain(&cause)
            );
        }
        Discovery::Accepted(spans) => {
            let Some((group, unit, table, numbers)) = named(&spans) else { return };
            tracing::info!(
                code,
                device,
                group,
                unit,
                registers = numbers,
                "{called}: unit {unit} no longer refuses {table} {numbers}"
            );
        }
        Discovery::Gaps(unit) => {
            tracing::warn!(
                code,
                device,
                group = of_unit(unit),
                unit = unit.0,
                "{called}: unit {unit} refuses registers between those that are wanted; max_gap is 0 for it from now on"
            );
        }
        Discovery::TooLong { table, limit } => {
            let Limit { unit, bits, works, fails, silent } = limit;
            let refuses = if silent { "does not answer" } else { "refuses" };
            let key = if bits { "max_bits" } else { "max_registers" };
            tracing::warn!(
                code,
                device,
                group = of_unit(unit),
                unit = unit.0,
                "{called}: unit {unit} {refuses} a request for {fails} {table} and takes one for {works}; from now on it is asked for \
                 as many at once as it takes; {key} would say so from the start"
            );
        }
        Discovery::Remark(remark) => tracing::warn!(code, device, "{called}: {remark}"),
        Discovery::NeedsPause(pause) => {
            tracing::warn!(
                code,
                device,
                "{called}: answers only {} after it was connected to; it is given that time from now on; \
                 pause_after_connect would say so from the start",
                seconds(pause)
            );
        }
    }
}

/// Under which reason a value that is none is counted.
fn reason(why: &NotAValue) -> DropReason {
    match why {
        NotAValue::OutOfRange { .. } | NotAValue::NoWord { .. } => DropReason::NotSendable,
        NotAValue::Outside(_) => DropReason::OutsideLimits,
        NotAValue::Unavailable(_)
        | NotAValue::NotANumber(_)
        | NotAValue::NotDecimal(_)
        | NotAValue::Unscaled
        | NotAValue::ScaleMoved { .. } => DropReason::Unavailable,
    }
}

/// The original's codes for the same events.
fn code(subject: Subject) -> u64 {
    match subject {
        Subject::Connection => 65028,
        Subject::AllUnits | Subject::Unit(_) => 65026,
        Subject::Block { .. } => 65027,
    }
}
