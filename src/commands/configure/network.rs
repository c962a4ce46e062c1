//! What is asked of devices and of servers before anything is written: nothing is sent to either but questions.

use std::time::Duration;

use tokio::task::LocalSet;

use crate::commands::candidate::{Candidate, Contact, contact};
use crate::commands::once::{self, Line};
use crate::commands::sunspec::Model;
use crate::commands::{probe, reach};
use crate::config::{Config, Point};
use crate::modbus::format::Format;
use crate::modbus::register::Table;
use crate::modbus::settings::Transport;

/// How long a connection, and each reply, may take: as long as the agent waits unless it is told otherwise.
const PATIENCE: Duration = Duration::from_secs(3);

/// No more rows are shown: what does not fit is the same as what does, most often.
const MOST_ROWS: usize = 60;

/// So many pairs that look like floats are some.
const LEAST_FLOATS: usize = 2;

/// What a poll has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// Each value, or why there is none, for people.
    pub text: String,
    /// How many values there are.
    pub read: usize,
    /// How many points were asked for.
    pub of: usize,
    /// That all pairs of registers look like floats, and in which order of words, if they do.
    pub floats: Option<Floats>,
}

/// Pairs of registers that look like floats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floats {
    /// Where they are.
    pub table: Table,
    /// As they are configured.
    pub entry: String,
}

/// Whom one can ask.
pub trait Network {
    /// Which of these units of each device answers first. Devices are asked side by side.
    fn contact(&mut self, targets: &[String], units: &[u8]) -> Vec<Contact>;

    /// The models of a SunSpec device; `None` for another one.
    fn models(&mut self, target: &str, unit: u8, transport: Transport) -> Option<Vec<Model>>;

    /// Every point of `config`, read once.
    fn poll(&mut self, config: &Config) -> Values;

    /// Whether each output would take readings, as [`reach::outputs`] says it.
    fn outputs(&mut self, config: &Config) -> Vec<Result<String, String>>;
}

/// Those that are there.
#[derive(Debug)]
pub struct Sockets;

impl Network for Sockets {
    fn contact(&mut self, targets: &[String], units: &[u8]) -> Vec<Contact> {
        let asked = wait_for(async {
            // Side by side: ten devices that are off cost one timeout and not ten.
            let local = LocalSet::new();
            let asked: Vec<_> = targets
                .iter()
                .map(|target| {
                    let (target, units) = (target.clone(), units.to_owned());
                    local.spawn_local(async move { contact(&target, &units, PATIENCE).await })
                })
                .collect();
            let answers = async {
                let mut contacts = Vec::new();
                for one in asked {
                    // In the order of the addresses, whoever answers first.
                    contacts.push(one.await.unwrap_or_else(|error| Contact::Away(error.to_string())));
                }
                contacts
            };
            local.run_until(answers).await
        });
        asked.unwrap_or_else(|why| vec![Contact::Away(why); targets.len()])
    }

    fn models(&mut self, target: &str, unit: u8, transport: Transport) -> Option<Vec<Model>> {
        let mut candidate = Candidate::new(target, unit, transport, PATIENCE).ok()?;
        wait_for(candidate.models()).ok()?.ok()
    }

    fn poll(&mut self, config: &Config) -> Values {
        let lines = once::poll(config);
        let read = lines.iter().filter(|line| line.why.is_none()).count();
        // One line instead of a table in which each row says that the device is away.
        let text = match all_the_same(&lines) {
            Some(why) => why + &once::hint_of(config, &lines),
            None => once::brief(config, &lines, MOST_ROWS),
        };
        Values { text, read, of: lines.len(), floats: floats(config, &lines) }
    }

    fn outputs(&mut self, config: &Config) -> Vec<Result<String, String>> {
        reach::outputs(config)
    }
}

/// Why there is no value at all, if it is one reason for all of them: what a device that is away says of each register.
fn all_the_same(lines: &[Line]) -> Option<String> {
    let (first, rest) = lines.split_first()?;
    let why = first.why.as_ref()?;
    (!rest.is_empty() && rest.iter().all(|line| line.why.as_ref() == Some(why))).then(|| format!("{why}\n"))
}

/// What the registers of one device may be together, where they stand one behind the other and are read one by one.
fn floats(config: &Config, lines: &[Line]) -> Option<Floats> {
    let first = config.points.first()?;
    let in_turn = |(place, point): (u32, &Point)| {
        let is_word = matches!(point.format, Format::Word(_));
        is_word
            && (point.device, point.unit) == (first.device, first.unit)
            && first.reference.after(place) == Some(point.reference)
    };
    if !(0..).zip(&config.points).all(in_turn) {
        return None;
    }
    let word = |line: &Line| u16::from_str_radix(line.raw.as_deref()?, 16).ok();
    let words: Vec<_> = lines.iter().map(word).collect();
    // One pair looks like a float by chance too often.
    let (order, number, count) = probe::floats(first.reference, &words).filter(|(.., count)| *count >= LEAST_FLOATS)?;
    let entry = format!("{{address: {number}, type: float32, order: {order}, count: {count}}}");
    Some(Floats { table: first.reference.table(), entry })
}

/// What comes of questions to devices; `Err` where none can be asked.
fn wait_for<T>(questions: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the system gives no means to wait for devices: {error}"))?;
    let answer = runtime.block_on(questions);
    // A name look-up that hangs must not hold the process.
    runtime.shutdown_background();
    Ok(answer)
}
