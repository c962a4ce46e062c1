//! One device: polls its cycles when they are due and submits what was read.
//!
//! A shell over [`Session`] (the connection and the requests), [`Schedule`] (when) and [`crate::health`] (what is
//! worth a line). One poll runs at a time; the next tick is armed when it has ended and its readings are
//! accepted, so a slow device or a slow aggregator skips ticks and queues nothing.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use actix_rt::task::JoinHandle;

use super::aggregator::Submit;
use super::supervisor::{ExitGuard, Shared, Stop};
use super::timekeeper::Timekeeper;
use crate::books::Reason;
use crate::clock;
use crate::failpoint;
use crate::health::Change;
use crate::modbus::decode::NotAValue;
use crate::modbus::endpoint::Endpoint;
use crate::modbus::plan::{Block, Spot, runs};
use crate::modbus::session::{EndpointDial, Event, Lesson, Outcome, Session, Subject};
use crate::modbus::settings::Settings;
use crate::pattoo::payload::Catalogue;
use crate::phrase::{Chain, count, seconds, some_of};
use crate::schedule::{Grid, Schedule};
use crate::status::board::{Cell, DeviceState, Polled};
use crate::tally::Tally;
use crate::timeline::Track;

/// What a device actor needs to know, computed once per configuration.
#[derive(Debug)]
pub struct DeviceSettings {
    /// As people call it in the log: the first `ip_device` that means it.
    pub name: String,
    /// Where it is.
    pub endpoint: Endpoint,
    /// How to treat it.
    pub settings: Settings,
    /// What to read, by interval.
    pub cycles: Vec<Cycle>,
}

impl DeviceSettings {
    /// How many points are read from it.
    #[must_use]
    pub fn points(&self) -> usize {
        self.cycles.iter().flat_map(|cycle| &cycle.blocks).map(|block| block.values().count()).sum()
    }
}

/// The requests that are due together.
#[derive(Debug)]
pub struct Cycle {
    /// Time between two polls.
    pub interval: Duration,
    /// One request each.
    pub blocks: Vec<Block>,
}

/// What a device actor does under one configuration. To a running one, from the supervisor: from now on it does this;
/// only what its points are called may differ from what it did.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Assignment {
    /// What to read.
    pub settings: Arc<DeviceSettings>,
    /// What its points are.
    pub catalogue: Arc<Catalogue>,
}

/// The actor that polls one device.
#[derive(Debug)]
pub struct DeviceActor {
    assignment: Rc<RefCell<Assignment>>,
    /// What it does once it is started.
    device: Option<Device>,
    /// A task of its own: as a future of the actor, each reply would go through the actor's mailbox and back.
    polling: Option<JoinHandle<()>>,
}

impl DeviceActor {
    /// An actor that polls at once and then keeps to its grid.
    #[must_use]
    pub fn new(
        assignment: Assignment,
        submit: Recipient<Submit>,
        timekeeper: Timekeeper,
        shared: Shared,
        guard: ExitGuard,
    ) -> Self {
        let settings = &assignment.settings;
        let schedules: Vec<_> =
            settings.cycles.iter().map(|cycle| Schedule::new(Grid::new(cycle.interval, &settings.name))).collect();
        let unanswered = vec![false; schedules.len()];
        let mut session = Session::new(EndpointDial::new(&settings.endpoint, settings.settings.clone()))
            .with_retries(settings.settings.retries);
        session.remember(shared.ledger.of(&settings.endpoint));
        // Another actor may have read this device a moment ago.
        let track = timekeeper.track();
        let cell = shared.board.device(&settings.name);
        cell.write(|state| state.points = settings.points());
        let assignment = Rc::new(RefCell::new(assignment));
        let device = Device {
            assignment: Rc::clone(&assignment),
            submit,
            shared,
            cell,
            schedules,
            unanswered,
            due: Vec::new(),
            timekeeper,
            overruns: Tally::default(),
            session,
            track,
            _guard: guard,
        };
        Self { assignment, device: Some(device), polling: None }
    }
}

impl Drop for DeviceActor {
    fn drop(&mut self) {
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

impl Handler<Assignment> for DeviceActor {
    type Result = ();

    /// A poll that runs goes on as it was; the next one is by this.
    fn handle(&mut self, assignment: Assignment, _: &mut Self::Context) {
        self.assignment.replace(assignment);
    }
}

impl Handler<Stop> for DeviceActor {
    type Result = ResponseFuture<()>;

    /// The reply says that nothing is asked of the device any more.
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        let polling = self.polling.take();
        Box::pin(async move {
            if let Some(polling) = polling {
                polling.abort();
                // Cancelled is what it is.
                polling.await.ok();
            }
        })
    }
}

/// The loop of one device and what it remembers: one future for its whole life, so that a poll makes none.
#[derive(Debug)]
struct Device {
    /// Replaced by the actor.
    assignment: Rc<RefCell<Assignment>>,
    submit: Recipient<Submit>,
    shared: Shared,
    /// How this device is, for whoever asks.
    cell: Arc<Cell<DeviceState>>,
    /// One per cycle.
    schedules: Vec<Schedule>,
    /// Cycles whose last poll got no answer at all: tried again before their next tick.
    unanswered: Vec<bool>,
    /// The cycles of this poll.
    due: Vec<usize>,
    timekeeper: Timekeeper,
    overruns: Tally,
    session: Session<EndpointDial>,
    /// The stamps of this device's readings.
    track: Track,
    _guard: ExitGuard,
}

impl Device {
    async fn run(&mut self) {
        loop {
            let now = clock::boot();
            self.note_due(now);
            if self.due.is_empty() {
                tokio::time::sleep(self.wait(now)).await;
            } else {
                self.poll(now).await;
            }
        }
    }

    /// How long until something is due.
    fn wait(&self, now: Duration) -> Duration {
        let tick = self.schedules.iter().map(|schedule| schedule.wait(now)).min().unwrap_or(Duration::MAX);
        let again = self.session.retry_in().filter(|_| self.unanswered.contains(&true));
        again.map_or(tick, |again| tick.min(again))
    }

    fn note_due(&mut self, now: Duration) {
        let ready = self.session.retry_in().is_some_and(|wait| wait.is_zero());
        let cycles = self.schedules.iter().zip(&self.unanswered).enumerate();
        let due = cycles.filter(|(_, (schedule, unanswered))| schedule.wait(now).is_zero() || (ready && **unanswered));
        self.due.clear();
        self.due.extend(due.map(|(cycle, _)| cycle));
    }

    async fn poll(&mut self, begun: Duration) {
        failpoint::pass("device");
        for &cycle in &self.due {
            self.schedules[cycle].begin(begun);
        }
        // A reload during the poll is for the next one.
        let Assignment { settings, catalogue } = self.assignment.borrow().clone();
        let blocks = self.due.iter().flat_map(|&cycle| &settings.cycles[cycle].blocks);
        let (timekeeper, track) = (&self.timekeeper, &mut self.track);
        self.session.lend(self.shared.buffers.take());
        let mut outcome = self.session.poll(blocks, || timekeeper.stamp(track)).await;
        if settings.settings.close_after_poll {
            self.session.hang_up();
        }
        let readings = std::mem::take(&mut outcome.readings);
        let (taken, value) = (readings.len(), readings.first().map(|reading| reading.value.as_f64()));
        if readings.is_empty() {
            self.shared.buffers.give_back(readings);
        } else {
            self.submit(Submit { catalogue, readings }).await;
        }
        self.polled(&settings, outcome, (taken, value), begun);
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
        (taken, value): (usize, Option<f64>),
        begun: Duration,
    ) {
        let (now, anchor) = self.timekeeper.polled();
        let mut skipped = 0;
        for &cycle in &self.due {
            skipped += self.schedules[cycle].finish(now.boot, anchor);
            self.unanswered[cycle] = !outcome.answered;
        }
        self.shared.books.overrun(skipped);
        let took = now.boot.saturating_sub(begun);
        self.shared.board.polls().took(took);
        for kind in &outcome.failures {
            self.shared.board.polls().failed(kind);
        }
        let polled = self.look(settings, Polled { readings: taken, skipped, took, value, ..Polled::default() });
        self.cell.write(|state| state.polled(polled, now.wall));
        // Of a device that gives no answer it is told otherwise.
        if outcome.answered
            && let Some(skipped) = self.overruns.add(skipped, now.boot)
        {
            tracing::warn!(
                device = %settings.name,
                "{}: {} skipped, because the one before took longer than the polling interval; \
                 lengthen polling_interval or read fewer registers of this device",
                settings.name,
                count(usize::try_from(skipped).unwrap_or(usize::MAX), "poll"),
            );
        }
        self.shared.books.accept(outcome.omitted.len());
        for (_, why) in &outcome.omitted {
            self.shared.books.lose(reason(why), 1);
        }
        for event in outcome.events {
            tell(&settings.name, event);
        }
        if !outcome.lessons.is_empty() {
            self.shared.ledger.note(&settings.endpoint, self.session.refusals().spots().collect());
        }
        for lesson in outcome.lessons {
            tell_lesson(&settings.name, lesson);
        }
    }

    /// Adds what is failing, for whoever asks.
    fn look(&self, settings: &DeviceSettings, mut polled: Polled) -> Polled {
        let session = &self.session;
        let (troubles, refusals) = (session.troubles(), session.refusals());
        if troubles.is_empty() && refusals.spots().len() == 0 {
            return polled;
        }
        for block in settings.cycles.iter().flat_map(|cycle| &cycle.blocks) {
            let silent =
                troubles.contains_key(&Subject::Connection) || troubles.contains_key(&Subject::Unit(block.unit));
            let fails = |spot| refusals.refuses(spot) || troubles.keys().any(|subject| subject.covers(spot));
            let refused = if silent { 0 } else { block.values_at(fails).count() };
            polled.failing += if silent { block.values().count() } else { refused };
            polled.refused += refused;
        }
        let troubles = troubles.iter().map(|(subject, trouble)| (subject.to_string(), trouble.clone()));
        polled.troubles = troubles.chain(session.refused()).collect();
        polled
    }
}

/// One line for one change of state: what, which device, why, what happens next.
fn tell(device: &str, event: Event) {
    let Event { subject, change, cause, retry_in } = event;
    let code = code(subject);
    let cause = cause.as_ref().map_or_else(String::new, |cause| Chain(cause).to_string());
    let next = retry_in.map_or_else(
        || "asked again at each poll".to_owned(),
        |wait| format!("tried again in {}, then ever more rarely, at least once a minute", seconds(wait)),
    );
    match change {
        Change::Failed { untold: 0 } => tracing::warn!(code, device, "{device}: {subject}: {cause}; {next}"),
        Change::Failed { untold } => {
            tracing::warn!(
                code,
                device,
                "{device}: {subject}: {cause}; {next}; {untold} short failures before this were not told"
            );
        }
        Change::Down { lasted } => {
            let lasted = seconds(lasted);
            tracing::error!(code, device, "{device}: {subject} is down for {lasted}: {cause}; {next}");
        }
        Change::OtherCause { failures } => {
            tracing::warn!(
                code,
                device,
                "{device}: {subject} still fails, now otherwise: {cause}; {failures} failures so far; {next}"
            );
        }
        Change::Recovered { lasted, failures } => {
            let lasted = seconds(lasted);
            tracing::info!(code, device, "{device}: {subject} works again after {lasted} and {failures} failures");
        }
    }
}

/// One line for what was learned of what a device refuses.
fn tell_lesson(device: &str, lesson: Lesson) {
    let code = 65_027_u64;
    match lesson {
        Lesson::Refused(spots, cause) => {
            let Some(Spot { unit, table, .. }) = spots.first().copied() else { return };
            tracing::warn!(
                code,
                device,
                "{device}: unit {unit} refuses {table} {}: {}; left out of the requests, so that the others are read, and \
                 tried again at least once an hour",
                some_of(runs(spots).iter()),
                Chain(&cause)
            );
        }
        Lesson::Accepted(spot) => {
            let Spot { unit, table, .. } = spot;
            tracing::info!(
                code,
                device,
                "{device}: unit {unit} no longer refuses {table} {}",
                some_of(runs([spot]).iter())
            );
        }
        Lesson::Gaps => {
            tracing::warn!(
                code,
                device,
                "{device}: refuses registers between those that are wanted; max_gap is 0 for it from now on"
            );
        }
        Lesson::TooLong { unit, table, works, fails } => {
            tracing::warn!(
                code,
                device,
                "{device}: unit {unit} refuses a request for {fails} {table} and takes one for {works}; from now on it is asked for \
                 as many at once as it takes"
            );
        }
    }
}

/// Under which reason a value that is none is counted.
fn reason(why: &NotAValue) -> Reason {
    match why {
        NotAValue::OutOfRange { .. } | NotAValue::NoWord { .. } => Reason::NotSendable,
        NotAValue::Outside(_) => Reason::OutsideLimits,
        NotAValue::Unavailable(_)
        | NotAValue::NotANumber(_)
        | NotAValue::NotDecimal(_)
        | NotAValue::Unscaled
        | NotAValue::ScaleMoved { .. } => Reason::Unavailable,
    }
}

/// The original's codes for the same events.
fn code(subject: Subject) -> u64 {
    match subject {
        Subject::Connection => 65028,
        Subject::Unit(_) => 65026,
        Subject::Block { .. } => 65027,
    }
}
