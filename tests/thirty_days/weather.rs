//! The world around the agent: what the server does when, how wrong the clock is, when the disk takes nothing.

use std::time::Duration;

use fastrand::Rng;
use pattoo_agent_modbustcpd::outputs::pattoo::post::PostError;
use pattoo_agent_modbustcpd::reading::Timestamp;
use pattoo_agent_modbustcpd::time::clock::Moment;

use super::agent::POISONED;
use crate::support::server::Database;

pub const MINUTE: u64 = 60_000;
pub const HOUR: u64 = 60 * MINUTE;
pub const DAY: u64 = 24 * HOUR;

/// The true time at which the month begins, ten minutes after boot.
const START: u64 = 1_790_000_000_000;
const UPTIME: u64 = 10 * MINUTE;

/// What the server does with a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Stores it.
    Well,
    /// There is none.
    Down,
    /// Does not answer in time; whether it has stored it, it does not say.
    Hanging,
    /// Answers 500.
    Refusing,
    /// Answers 503 and wants to be left alone for a while.
    Busy,
    /// Answers 413 to more bytes than this.
    TooLarge(usize),
    /// Stores it and says nothing.
    Mute,
    /// Answers 500 to a body with the poisoned series.
    Poisoned,
}

/// A time of one weather.
#[derive(Debug, Clone, Copy)]
pub struct Spell {
    pub from: u64,
    pub lasts: u64,
    pub weather: Weather,
}

/// The month; all times in ms since its beginning.
#[derive(Debug)]
pub struct World {
    /// Which time it is.
    pub now: u64,
    /// How often the clock is set.
    pub steps: u64,
    spells: Vec<Spell>,
    /// From when on the clock is so wrong.
    clock: Vec<(u64, i64)>,
    /// When the disk takes nothing.
    full: Vec<(u64, u64)>,
    restarts: Vec<u64>,
}

impl World {
    /// Every month is another one; each has every weather.
    pub fn draw(rng: &mut Rng, lasts: u64) -> Self {
        let kinds = |rng: &mut Rng| {
            let mut kinds = [
                (Weather::Down, 3 * DAY),
                (Weather::Down, 10 * MINUTE),
                (Weather::Hanging, HOUR),
                (Weather::Refusing, 3 * HOUR),
                (Weather::Refusing, 5 * MINUTE),
                (Weather::Busy, 3 * HOUR),
                (Weather::TooLarge(rng.usize(3_000..100_000)), 12 * HOUR),
                (Weather::Mute, 10 * MINUTE),
                (Weather::Poisoned, 3 * HOUR),
            ];
            rng.shuffle(&mut kinds);
            kinds
        };
        let (mut spells, mut from) = (Vec::new(), 0);
        while from < lasts {
            for (weather, longest) in kinds(rng) {
                for (weather, lasts) in [(Weather::Well, rng.u64(MINUTE..8 * HOUR)), (weather, rng.u64(1_000..longest))]
                {
                    spells.push(Spell { from, lasts, weather });
                    from += lasts;
                }
            }
        }
        spells.retain(|spell| spell.from < lasts);
        let end = spells.last().map_or(0, |spell| spell.from + spell.lasts);
        spells.push(Spell { from: end, lasts: u64::MAX - end, weather: Weather::Well });
        Self { now: 0, steps: 0, spells, clock: vec![(0, 0)], full: Vec::new(), restarts: Vec::new() }
            .with_clock(rng, lasts)
            .with_disk(rng, lasts)
    }

    fn with_clock(mut self, rng: &mut Rng, lasts: u64) -> Self {
        let mut at = 0;
        loop {
            at += rng.u64(HOUR..2 * DAY);
            if at >= lasts - DAY {
                break;
            }
            let minute = i64::try_from(MINUTE).expect("small");
            match rng.u8(0..6) {
                0 => {
                    // Ahead by a day or not set at all, and right again later.
                    let wrong = if rng.bool() { 1_440 * minute } else { -i64::try_from(START).expect("a date") };
                    let right = self.clock.last().map_or(0, |last| last.1);
                    self.clock.push((at, wrong));
                    at += rng.u64(MINUTE..12 * HOUR);
                    self.clock.push((at, right));
                }
                1 => self.clock.push((at, 0)),
                _ => self.clock.push((at, rng.i64(-30 * minute..25 * minute))),
            }
        }
        self.clock.push((lasts - DAY, 0));
        self.steps = self.clock.len() as u64;
        self
    }

    fn with_disk(mut self, rng: &mut Rng, lasts: u64) -> Self {
        let mut at = 0;
        while at < lasts {
            at += rng.u64(HOUR..3 * DAY);
            let until = at + rng.u64(1_000..2 * HOUR);
            self.full.push((at, until));
            self.restarts.push(until + rng.u64(0..DAY));
            at = until;
        }
        self.full.retain(|(_, until)| *until < lasts);
        self.restarts.extend((0..10).map(|_| rng.u64(0..lasts)));
        // While the disk takes nothing, a stop loses what is in memory.
        let full = &self.full;
        self.restarts.retain(|at| *at < lasts && !full.iter().any(|(from, until)| (*from..until + HOUR).contains(at)));
        // Nor does a start know a clock that is a day ahead before it has heard the server.
        let ends = self.clock.iter().skip(1).map(|(from, _)| *from).chain([u64::MAX]);
        let ahead: Vec<_> = self.clock.iter().zip(ends).filter(|((_, error), _)| error.unsigned_abs() > HOUR).collect();
        let heard = |at: u64| {
            self.spells.iter().any(|spell| {
                spell.weather == Weather::Well && spell.from <= at && at - spell.from + HOUR / 4 < spell.lasts
            })
        };
        self.restarts.retain(|at| heard(*at) && !ahead.iter().any(|((from, _), to)| at + HOUR / 4 >= *from && at < to));
        self.restarts.sort_unstable();
        self
    }

    /// What both clocks show.
    pub fn moment(&self) -> Moment {
        let error = self.clock.iter().rfind(|(from, _)| *from <= self.now).map_or(0, |(_, error)| *error);
        Moment {
            wall: Timestamp::from_millis((START + self.now).saturating_add_signed(error)),
            boot: Duration::from_millis(UPTIME + self.now),
        }
    }

    /// The true time to the second, as a server tells it.
    pub fn date(&self) -> Timestamp {
        Timestamp::from_millis((START + self.now) / 1_000 * 1_000)
    }

    /// Whether the disk takes nothing.
    pub fn disk_is_full(&self) -> bool {
        self.full.iter().any(|(from, until)| (*from..*until).contains(&self.now))
    }

    /// Whether all the time the disk takes batches and the clock is one that dates them.
    pub fn has_new_batches_in(&self, spell: &Spell) -> bool {
        let until = spell.from.saturating_add(spell.lasts);
        let full = self.full.iter().any(|(from, to)| *from < until && to + MINUTE > spell.from);
        let ends = self.clock.iter().skip(1).map(|(from, _)| *from).chain([u64::MAX]);
        let undated = self
            .clock
            .iter()
            .zip(ends)
            .any(|((from, error), to)| error.unsigned_abs() > HOUR && *from < until && to > spell.from);
        !full && !undated
    }

    /// When the agent is started anew next.
    pub fn next_change(&self) -> u64 {
        self.restarts.first().copied().unwrap_or(u64::MAX)
    }

    /// Whether that is now.
    pub fn is_restart(&mut self) -> bool {
        let due = self.next_change() <= self.now;
        if due {
            self.restarts.remove(0);
        }
        due
    }

    /// What the server is doing.
    pub fn weather(&self) -> Weather {
        self.spells[self.spell()].weather
    }

    fn spell(&self) -> usize {
        self.spells.partition_point(|spell| spell.from <= self.now) - 1
    }

    /// Every weather in its turn.
    pub fn spells(&self) -> impl Iterator<Item = &Spell> {
        self.spells.iter()
    }

    /// How many spells were no good ones.
    pub fn outages(&self) -> usize {
        self.spells().filter(|spell| spell.weather != Weather::Well).count()
    }
}

/// The server, as the weather lets it be.
#[derive(Debug, Default)]
pub struct Server {
    /// What the ingester made of it.
    pub database: Database,
    /// The most bytes of a post.
    pub largest: usize,
    /// How often each spell saw the agent.
    contacts: Vec<u64>,
}

impl Server {
    /// Takes a post; how long it took, and what came of it.
    pub fn post(&mut self, world: &World, body: &[u8]) -> (u64, Result<(), PostError>) {
        self.seen(world);
        self.largest = self.largest.max(body.len());
        let took = 20 + body.len() as u64 / 1_000;
        match world.weather() {
            Weather::Down => (5, Err(transport())),
            Weather::Hanging => {
                if world.now.is_multiple_of(2) {
                    self.database.ingest(body);
                }
                (30_000, Err(PostError::Timeout { server: String::new(), after: Duration::from_secs(30) }))
            }
            Weather::Refusing => (took, Err(refused(500, None))),
            Weather::Busy => (took, Err(refused(503, Some(Duration::from_secs(90))))),
            Weather::TooLarge(most) if body.len() > most => (took, Err(refused(413, None))),
            Weather::Poisoned if holds(body, POISONED) => (took, Err(refused(500, None))),
            Weather::Mute => {
                self.database.ingest(body);
                (took, Err(transport()))
            }
            Weather::Well | Weather::TooLarge(_) | Weather::Poisoned => {
                self.database.ingest(body);
                (took, Ok(()))
            }
        }
    }

    /// Tells the time, if it answers at all.
    pub fn ask_time(&mut self, world: &World) -> Option<Timestamp> {
        self.seen(world);
        (!matches!(world.weather(), Weather::Down | Weather::Hanging)).then(|| world.date())
    }

    /// How often each spell saw the agent.
    pub fn contacts(&self, world: &World) -> Vec<u64> {
        let mut contacts = self.contacts.clone();
        contacts.resize(world.spells.len(), 0);
        contacts
    }

    fn seen(&mut self, world: &World) {
        let spell = world.spell();
        self.contacts.resize(self.contacts.len().max(spell + 1), 0);
        self.contacts[spell] += 1;
    }
}

fn holds(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

fn transport() -> PostError {
    PostError::Transport { server: String::new(), source: std::io::ErrorKind::ConnectionReset.into() }
}

fn refused(status: u16, retry_after: Option<Duration>) -> PostError {
    PostError::Refused { server: String::new(), status, excerpt: String::new(), retry_after }
}
