//! A device that is not configured yet, and what it answers: one session to one unit of it, by which `probe` and `configure`
//! find out what it is. It only ever reads.

use std::time::Duration;

use tokio::time::timeout;

use super::sunspec::{self, Model};
use crate::modbus::endpoint::{Address, DEFAULT_PORT, Endpoint, EndpointError};
use crate::modbus::error::ReadError;
use crate::modbus::format::{Format, Scale};
use crate::modbus::plan::{Limits, Span, plan};
use crate::modbus::register::{Point, Reference, Table, UnitId};
use crate::modbus::session::{EndpointDial, Outcome, Session, Subject};
use crate::modbus::settings::{Settings, Transport};
use crate::reading::PointId;
use crate::time::clock;

/// No device has more models; a chain that is longer turns in a circle.
const MOST_MODELS: usize = 200;

/// What passes on top of the response timeout before a unit is given up: a poll would ask once more over a new connection.
const SLACK: Duration = Duration::from_millis(500);

/// The units that are asked for where nobody knows which one it is: most devices are 1, those that are no gateway often say that
/// they are 0 or 255, as the guide to Modbus TCP has it.
pub const USUAL_UNITS: [u8; 3] = [1, 0, 255];

/// What [`contact`] has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contact {
    /// A unit answers, if only with an exception.
    Answers {
        /// Which one.
        unit: u8,
        /// Whether it speaks RTU over TCP.
        is_rtu: bool,
    },
    /// There is a connection, and none of the units answers on it; why not.
    Silent(String),
    /// There is no connection; why not.
    Away(String),
}

/// The device.
pub struct Candidate {
    endpoint: Endpoint,
    settings: Settings,
    unit: UnitId,
    session: Session<EndpointDial>,
}

impl Candidate {
    /// The unit of the device that `target`, as it would stand in `ip_devices`, names. No connection is made yet.
    ///
    /// # Errors
    /// When `target` names no device.
    pub fn new(target: &str, unit: u8, transport: Transport, timeout: Duration) -> Result<Self, EndpointError> {
        let endpoint = match target.parse::<Address>()? {
            Address::Tcp(host, port) => Endpoint::Tcp { host, port: port.unwrap_or(DEFAULT_PORT) },
            Address::Serial(path) => Endpoint::Serial { path },
        };
        let settings =
            Settings { transport, connect_timeout: timeout, response_timeout: timeout, ..Settings::default() };
        Ok(Self { session: session(&endpoint, &settings), endpoint, settings, unit: UnitId(unit) })
    }

    /// Where it is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The unit that is asked.
    #[must_use]
    pub fn unit(&self) -> UnitId {
        self.unit
    }

    /// Asks this unit from now on, over a new connection: one that did not answer would be left alone with its connection.
    pub fn turn_to(&mut self, unit: u8) {
        self.session = session(&self.endpoint, &self.settings);
        self.unit = UnitId(unit);
    }

    /// What it refuses, and why.
    pub fn refused(&self) -> impl Iterator<Item = (String, String)> {
        self.session.core().refused().map(|(what, fault, _)| (what, fault.cause))
    }

    /// Whether no connection to it stands.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.session.core().faults().contains_key(&Subject::Connection)
    }

    /// Forgets what was refused: it is asked for again.
    pub fn forget(&mut self) {
        self.session.forget_refusals();
    }

    /// Why nothing was read.
    #[must_use]
    pub fn fault(&self) -> String {
        let faults = self.session.core().faults();
        // Without a connection nothing else is to blame.
        let worst = faults.get(&Subject::Connection).or_else(|| faults.values().next());
        let refused = || self.session.core().refused().next().map(|(_, fault, _)| fault);
        worst.cloned().or_else(refused).map_or("no answer".to_owned(), |fault| fault.cause)
    }

    /// The entries from `first` on, to the end of the table at most; `None` where one cannot be read.
    pub async fn read(&mut self, first: Reference, count: u16) -> (Outcome, Vec<Option<u16>>) {
        let points: Vec<Point> = (0..count)
            .filter_map(|n| {
                let reference = first.after(n.into())?;
                let format = Format::Word(Scale::Raw);
                Some(Point { id: PointId(n.into()), unit: self.unit, reference, format, together: None })
            })
            .collect();
        // The protocol's own limits: nothing is known of the device yet, and what it refuses the session takes apart.
        let blocks = plan(&points, Limits::default());
        let outcome = self.session.poll(blocks.iter(), clock::wall).await;
        let mut words = vec![None; points.len()];
        for (Span { address, .. }, read) in &outcome.words {
            let start = usize::from(address.saturating_sub(first.address()));
            for (to, word) in words.iter_mut().skip(start).zip(read) {
                *to = Some(*word);
            }
        }
        (outcome, words)
    }

    /// The first of these units that answers; each is asked once.
    async fn unit_that_answers(&mut self, units: &[u8]) -> Contact {
        let patience = self.settings.response_timeout;
        let mut why = None;
        for unit in units.iter().copied() {
            self.turn_to(unit);
            let Ok(answer) = timeout(patience + SLACK, self.words_at(0, 1)).await else {
                why.get_or_insert_with(|| ReadError::ResponseTimeout(patience).to_string());
                continue;
            };
            let Some((outcome, _)) = answer else { continue };
            // A gateway answers for a unit that it does not reach.
            if outcome.answered && !self.is_unreached() {
                return Contact::Answers { unit, is_rtu: self.settings.transport == Transport::Rtu };
            }
            // Where there is no connection for one unit there is none for the others.
            if !outcome.connected {
                return Contact::Away(self.fault());
            }
            why.get_or_insert_with(|| self.fault());
        }
        Contact::Silent(why.unwrap_or_default())
    }

    fn is_unreached(&self) -> bool {
        self.session.core().faults().contains_key(&Subject::Unit(self.unit))
    }

    /// The models of a SunSpec device, one behind the other.
    ///
    /// # Errors
    /// With the reason why it is none.
    pub async fn models(&mut self) -> Result<Vec<Model>, String> {
        let mut address = self.marker().await?;
        let mut models = Vec::new();
        while let Some([id, length]) = self.two(address).await
            && id != sunspec::END
            && models.len() < MOST_MODELS
        {
            let model = Model { id, address, length };
            models.push(model);
            let Some(next) = model.next() else { break };
            address = next;
        }
        Ok(models)
    }

    /// Where the first model is, or why there is none.
    async fn marker(&mut self) -> Result<u16, String> {
        let mut why = None;
        for base in sunspec::BASES {
            self.forget();
            match self.two(base).await {
                Some(sunspec::MARKER) => return base.checked_add(2).ok_or_else(String::new),
                // A device that answers is no silent one, whatever it says at other addresses.
                Some([first, second]) => {
                    why = Some(format!(
                        "the device answers, {first:04x} {second:04x} at {base}, and is no SunSpec device"
                    ));
                }
                None => {
                    why.get_or_insert_with(|| self.fault());
                }
            }
        }
        Err(why.unwrap_or_default())
    }

    async fn two(&mut self, address: u16) -> Option<[u16; 2]> {
        match self.words_at(address, 2).await?.1[..] {
            [Some(first), Some(second)] => Some([first, second]),
            _ => None,
        }
    }

    /// Holding registers by their address.
    async fn words_at(&mut self, address: u16, count: u16) -> Option<(Outcome, Vec<Option<u16>>)> {
        let first = Reference::new(Table::HoldingRegisters, 400_001 + i64::from(address))?;
        Some(self.read(first, count).await)
    }
}

/// Which of these units of `target` answers first. A converter that passes on the bytes of a serial line takes connections as a
/// gateway does, and answers nothing that is not RTU: the first unit is asked so, too, when all are silent.
pub async fn contact(target: &str, units: &[u8], timeout: Duration) -> Contact {
    let candidate = |transport| Candidate::new(target, 1, transport, timeout);
    let (mut tcp, mut rtu) = match (candidate(Transport::Tcp), candidate(Transport::Rtu)) {
        (Ok(tcp), Ok(rtu)) => (tcp, rtu),
        (Err(error), _) | (_, Err(error)) => return Contact::Away(format!("{target:?} is no device: {error}")),
    };
    let found = tcp.unit_that_answers(units).await;
    // A serial port has been asked by RTU already: nothing else is spoken there.
    if matches!(found, Contact::Silent(_)) && matches!(tcp.endpoint, Endpoint::Tcp { .. }) {
        // Only one: each would cost another timeout.
        let first = units.get(..1).unwrap_or_default();
        if let answers @ Contact::Answers { .. } = rtu.unit_that_answers(first).await {
            return answers;
        }
    }
    found
}

fn session(endpoint: &Endpoint, settings: &Settings) -> Session<EndpointDial> {
    Session::new(EndpointDial::new(endpoint, settings.clone()), settings.clone()).keeping_words()
}
