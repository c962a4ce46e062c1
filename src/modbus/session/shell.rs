//! Performs what [`Core`] decides: connects, reads, waits. Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Step};
use super::event::Outcome;
use super::plan::{Cycle, DeviceSettings};
use super::polling::Polling;
use crate::modbus::endpoint::Endpoint;
use crate::modbus::error::{ConnectError, ReadError};
use crate::modbus::link::Link;
use crate::modbus::plan::Block;
use crate::modbus::refusals::Learned;
use crate::modbus::settings::Settings;
use crate::net::resolve::Resolver;
use crate::reading::Timestamp;
use crate::time::clock::{self, Moment};
use crate::time::schedule::Anchor;

/// The way to a device: makes a new connection whenever the last one is gone.
pub trait Dial {
    /// Connects; nothing is asked over the connection for `pause`, or for as long as is configured if that is longer.
    fn dial(&mut self, pause: Duration) -> impl Future<Output = Result<Link, ConnectError>>;
}

/// The way to an endpoint.
#[derive(Debug)]
pub struct EndpointDial {
    to: Way,
    settings: Settings,
}

#[derive(Debug)]
enum Way {
    Tcp(Resolver),
    Serial(String),
}

impl EndpointDial {
    /// The way to `endpoint`; the name of a host is resolved afresh each time.
    #[must_use]
    pub fn new(endpoint: &Endpoint, settings: Settings) -> Self {
        let to = match endpoint {
            Endpoint::Tcp { host, port } => Way::Tcp(Resolver::new(host, *port)),
            Endpoint::Serial { path } => Way::Serial(path.clone()),
        };
        Self { to, settings }
    }
}

impl Dial for EndpointDial {
    async fn dial(&mut self, pause: Duration) -> Result<Link, ConnectError> {
        let configured = self.settings.pause_after_connect;
        let link = match &mut self.to {
            Way::Tcp(host) => Link::connect(host, &self.settings).await,
            Way::Serial(path) => Link::open(path, &self.settings).await,
        };
        link.map(|mut link| {
            // The link has the configured pause already, and this takes its place: it may only become longer.
            if pause > configured {
                link.rest(pause);
            }
            link
        })
    }
}

/// The connection to a device, if there is one, and the clocks to go by.
#[derive(Debug)]
struct Wire<D> {
    dial: D,
    link: Option<Link>,
    clock: fn() -> Moment,
}

impl<D: Dial> Wire<D> {
    async fn connect(&mut self, core: &mut Core, pause: Duration) {
        // Boxed: dialing is rare, and an unboxed future would enlarge every device's poll future.
        let dialed = Box::pin(self.dial.dial(pause)).await;
        let result = dialed.map(|link| self.link = Some(link));
        core.connected(result, (self.clock)());
    }

    /// Performs each step and tells `core` what came of it; each reply is dated by `stamp` when it is there.
    async fn poll(&mut self, core: &mut Core, stamp: &mut impl FnMut() -> Timestamp) {
        loop {
            match core.next((self.clock)()) {
                Step::End => return,
                Step::Rest(pause) => tokio::time::sleep(pause.duration()).await,
                Step::Connect(pause) => self.connect(core, pause).await,
                Step::Ask(block) => {
                    let (result, remark, may_ask_again) = match &mut self.link {
                        Some(link) => (link.read(block).await, link.take_remark(), link.may_ask_again()),
                        None => (Err(ReadError::LinkClosed), None, false),
                    };
                    match result {
                        Ok(words) => {
                            // Before its words are decoded: the date is that of the reply.
                            let at = stamp();
                            core.read(&words, at, (self.clock)());
                        }
                        Err(error) => core.failed(error, may_ask_again, (self.clock)()),
                    }
                    if let Some(remark) = remark {
                        core.remarked(remark);
                    }
                    // At once, not when there is another: many a device takes one connection only, and the next step
                    // may be to connect.
                    if !core.is_linked() {
                        self.link = None;
                    }
                }
            }
        }
    }
}

/// A device that is polled when somebody says so, for what engineers ask before the daemon runs.
#[derive(Debug)]
pub struct Session<D> {
    wire: Wire<D>,
    core: Core,
    settings: Settings,
}

impl<D: Dial> Session<D> {
    /// Not connected yet.
    #[must_use]
    pub fn new(dial: D, settings: Settings) -> Self {
        let core = Core::new(plan(Vec::new(), &settings), &Learned::default(), clock::now(), fastrand::Rng::new());
        Self { wire: Wire { dial, link: None, clock: clock::now }, core, settings }
    }

    /// One that goes by another clock, for tests in which the clock is paused.
    #[must_use]
    pub fn going_by(mut self, clock: fn() -> Moment) -> Self {
        self.wire.clock = clock;
        self
    }

    /// One that hands over the entries as they were read, too.
    #[must_use]
    pub fn keeping_words(mut self) -> Self {
        self.core.keep_words();
        self
    }

    /// What is known of the device.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Whatever was refused may be asked for again.
    pub fn forget_refusals(&mut self) {
        self.core.forget_refusals();
    }

    /// Reads `blocks`, as far as the device lets it; each reply is dated by `stamp` when it is there.
    pub async fn poll<'b>(
        &mut self,
        blocks: impl IntoIterator<Item = &'b Block>,
        mut stamp: impl FnMut() -> Timestamp,
    ) -> Outcome {
        self.core.assign(plan(blocks.into_iter().cloned().collect(), &self.settings));
        let all: Vec<usize> = self.core.of_cycle(0).collect();
        self.core.begin(&all, |_| true, (self.wire.clock)());
        self.wire.poll(&mut self.core, &mut stamp).await;
        self.core.end((self.wire.clock)())
    }
}

/// A plan of these requests, once.
fn plan(blocks: Vec<Block>, settings: &Settings) -> Arc<DeviceSettings> {
    let endpoint = Endpoint::Serial { path: String::new() };
    // Nobody goes by this interval: whoever has a session says when.
    let cycles = vec![Cycle { interval: Duration::MAX, blocks }];
    Arc::new(DeviceSettings { name: String::new(), endpoint, settings: settings.clone(), cycles })
}

/// A device that is polled when it is due, for as long as the daemon runs.
#[derive(Debug)]
pub struct Poller<D> {
    wire: Wire<D>,
    polling: Polling,
}

impl<D: Dial> Poller<D> {
    /// Not connected yet.
    #[must_use]
    pub fn new(dial: D, polling: Polling) -> Self {
        Self { wire: Wire { dial, link: None, clock: clock::now }, polling }
    }

    /// What is known of the device, and when it is polled.
    #[must_use]
    pub fn polling(&self) -> &Polling {
        &self.polling
    }

    /// To lend it a buffer, between polls.
    pub fn core_mut(&mut self) -> &mut Core {
        self.polling.core_mut()
    }

    /// From the next poll on the device is read by `plan`; between polls only. Whether something learned was forgotten.
    pub fn assign(&mut self, plan: Arc<DeviceSettings>) -> bool {
        self.polling.assign(plan)
    }

    /// True when a poll is due, which [`poll`](Self::poll) makes; else waits, never for nothing, and is to be asked again.
    pub async fn is_due_or_rest(&mut self) -> bool {
        match self.polling.next((self.wire.clock)()) {
            Step::Rest(pause) => {
                tokio::time::sleep(pause.duration()).await;
                false
            }
            _ => true,
        }
    }

    /// Makes the poll that is due; each reply is dated by `stamp` when it is there.
    pub async fn poll(&mut self, stamp: &mut impl FnMut() -> Timestamp) {
        self.wire.poll(self.polling.core_mut(), stamp).await;
    }

    /// The poll is over at `now`: what it brought, and how many ticks passed meanwhile.
    pub fn end(&mut self, now: Moment, anchor: Anchor) -> (Outcome, u64) {
        let ended = self.polling.end(now, anchor);
        if self.polling.core().plan().settings.close_after_poll {
            self.polling.core_mut().hung_up();
        }
        if !self.polling.core().is_linked() {
            self.wire.link = None;
        }
        ended
    }
}
