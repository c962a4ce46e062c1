//! `probe`: a device that is not configured yet, looked at: what a range of its entries may mean, which units
//! answer, which ranges it has, and what its SunSpec models are. It only ever reads.
//!
//! Searches ask for one thing after the other with a pause between, and show what they have found when they
//! are interrupted.

use std::fmt::Write as _;
use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use super::candidate::Candidate;
use super::sunspec::{self, Model};
use crate::cli::terminal::{complain, pour, say, width};
use crate::daemon::exit::Exit;
use crate::modbus::decode::value;
use crate::modbus::format::{Byte, Format, Kind, Order, Typed};
use crate::modbus::plan::Limits;
use crate::modbus::register::{Reference, Table};
use crate::modbus::settings::Transport;
use crate::reading::Value;
use crate::text::table::TextTable;

/// Between two requests of a search.
const PAUSE: Duration = Duration::from_millis(10);

/// What to look for.
#[derive(Debug, Clone)]
pub enum Search {
    /// These entries.
    Range {
        /// The reference number of the first.
        number: i64,
        /// How many.
        count: u16,
    },
    /// Units that answer a request for this register.
    Units {
        /// Its reference number.
        number: i64,
    },
    /// Ranges of the input and holding registers that can be read.
    Scan,
    /// The models of a SunSpec device.
    SunSpec,
}

/// Whom to ask, and for what.
#[derive(Debug, Clone)]
pub struct Options {
    /// Host, `host:port` or serial port, as in `ip_devices`.
    pub target: String,
    /// The unit.
    pub unit: u8,
    /// RTU over TCP instead of Modbus TCP.
    pub rtu: bool,
    /// How long to wait for a connection, and for a reply.
    pub timeout: Duration,
    /// What for.
    pub search: Search,
}

/// Looks, and prints what it has found.
#[must_use]
pub fn probe(options: &Options) -> Exit {
    let transport = if options.rtu { Transport::Rtu } else { Transport::Tcp };
    let candidate = match Candidate::new(&options.target, options.unit, transport, options.timeout) {
        Ok(candidate) => candidate,
        Err(error) => {
            complain(&format!("{:?} is no device: {error}; allowed are name, address, host:port", options.target));
            return Exit::Usage;
        }
    };
    let reference = match options.search {
        Search::Range { number, .. } | Search::Units { number } => {
            let reference = reference(number);
            if reference.is_none() {
                complain(&format!(
                    "{number} is no reference number; input registers are {}, holding registers {}",
                    Table::InputRegisters.numbers(),
                    Table::HoldingRegisters.numbers()
                ));
                return Exit::Usage;
            }
            reference
        }
        Search::Scan | Search::SunSpec => None,
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Exit::Failure };
    let mut device = Device { candidate };
    let exit = runtime.block_on(async {
        match (&options.search, reference) {
            (Search::Range { count, .. }, Some(first)) => device.range(first, *count, options).await,
            (Search::Units { .. }, Some(reference)) => device.units(reference).await,
            (Search::SunSpec, _) => device.sunspec(options).await,
            _ => device.scan().await,
        }
    });
    // A name look-up that hangs must not hold the process.
    runtime.shutdown_background();
    exit
}

fn reference(number: i64) -> Option<Reference> {
    // A number below 10001 could only be a coil.
    [Table::InputRegisters, Table::HoldingRegisters, Table::DiscreteInputs, Table::Coils]
        .into_iter()
        .filter(|table| *table != Table::Coils || number < 10_001)
        .find_map(|table| Reference::new(table, number))
}

/// The device that is looked at, and what is shown of it.
struct Device {
    candidate: Candidate,
}

impl Device {
    async fn range(&mut self, first: Reference, count: u16, options: &Options) -> Exit {
        let (_, words) = self.candidate.read(first, count).await;
        if words.iter().all(Option::is_none) {
            complain(&format!(
                "{} unit {}: {}",
                self.candidate.endpoint(),
                self.candidate.unit(),
                self.candidate.fault()
            ));
            return Exit::Failure;
        }
        say(&single(first, &words));
        if !first.table().is_bits() {
            for (registers, kinds) in [
                (2, &[Kind::Uint32, Kind::Int32, Kind::Float32, Kind::Bcd(2)][..]),
                (4, &[Kind::Uint64, Kind::Int64, Kind::Float64]),
            ] {
                let table = several(first, &words, registers, kinds);
                if !table.is_empty() {
                    say(&format!("\n{}", table.within(width())));
                }
            }
        }
        for (what, why) in self.candidate.refused() {
            say(&format!("\n{what}: {why}\n"));
        }
        // As it is: broken at the width of the terminal it could not be pasted.
        pour(&format!("\n{}", paste(first, &words, options)));
        Exit::Done
    }

    async fn units(&mut self, reference: Reference) -> Exit {
        let mut found = TextTable::new(&["unit", "answer"]);
        // 248 to 254 are reserved; 255 is what a device on TCP that is no gateway is asked as.
        let all: Vec<u8> = (0..=247).chain([255]).collect();
        let total = all.len();
        let search = async {
            for (place, unit) in all.into_iter().enumerate() {
                progress(place, total, "units");
                self.candidate.turn_to(unit);
                let (outcome, words) = self.candidate.read(reference, 1).await;
                match words.first() {
                    Some(Some(word)) => found.push([unit.to_string(), format!("{word} (0x{word:04x})")]),
                    _ if outcome.answered && !outcome.failures.contains(&"connect_timeout") => {
                        found.push([unit.to_string(), self.candidate.fault()]);
                    }
                    // Without a connection no other unit answers either, and each would cost another timeout.
                    _ if self.candidate.is_away() => {
                        return Err(self.candidate.fault());
                    }
                    _ => {}
                }
                tokio::time::sleep(PAUSE).await;
            }
            Ok(())
        };
        let ended = until_interrupted(search).await;
        over();
        if found.is_empty() && matches!(ended, Some(Ok(()))) {
            complain("no unit answers");
            return Exit::Failure;
        }
        if !found.is_empty() {
            say(&found.within(width()));
        }
        match &ended {
            Some(Ok(())) => {}
            Some(Err(why)) => complain(why),
            None => complain("interrupted; this is what was found until then"),
        }
        if matches!(ended, Some(Ok(()))) { Exit::Done } else { Exit::Failure }
    }

    async fn scan(&mut self) -> Exit {
        let mut runs: Vec<(Table, u32, u32)> = Vec::new();
        let tables = [Table::InputRegisters, Table::HoldingRegisters];
        let step = u32::from(Limits::MAX_REGISTERS);
        let total = 65_536_u32.div_ceil(step) as usize * tables.len();
        let search = async {
            let mut place = 0;
            for table in tables {
                for start in (0..65_536).step_by(step as usize) {
                    progress(place, total, "ranges");
                    place += 1;
                    self.candidate.forget();
                    // Six digits: five reach no further than the 9,999th register of a table.
                    let six = if table == Table::InputRegisters { 300_001 } else { 400_001 };
                    let Some(first) = Reference::new(table, six + i64::from(start)) else { continue };
                    let count = u16::try_from(step.min(65_536 - start)).unwrap_or(Limits::MAX_REGISTERS);
                    let (outcome, words) = self.candidate.read(first, count).await;
                    // A refusal is an answer; a device that says nothing any more would cost a timeout for each of a
                    // thousand ranges.
                    if !outcome.answered {
                        return Err(self.candidate.fault());
                    }
                    for (address, _) in (start..).zip(&words).filter(|(_, word)| word.is_some()) {
                        match runs.last_mut() {
                            Some((of, _, end)) if *of == table && *end + 1 == address => *end = address,
                            _ => runs.push((table, address, address)),
                        }
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Ok(())
        };
        let ended = until_interrupted(search).await;
        over();
        let mut found = TextTable::new(&["table", "numbers", "registers"]);
        for (table, first, last) in &runs {
            let number = |address: &u32| table.number_of(u16::try_from(*address).unwrap_or(u16::MAX)).to_string();
            let numbers = if first == last { number(first) } else { format!("{}-{}", number(first), number(last)) };
            found.push([table.to_string(), numbers, (last - first + 1).to_string()]);
        }
        say(&found.within(width()));
        match ended {
            Some(Ok(())) if !runs.is_empty() => Exit::Done,
            Some(Ok(())) => {
                complain("nothing of this unit can be read; --units shows which units answer");
                Exit::Failure
            }
            Some(Err(why)) => {
                complain(&why);
                Exit::Failure
            }
            None => {
                complain("interrupted; this is what was found until then");
                Exit::Failure
            }
        }
    }

    async fn sunspec(&mut self, options: &Options) -> Exit {
        let models = match self.candidate.models().await {
            Ok(models) => models,
            Err(why) => {
                complain(&format!("no SunSpec marker at the addresses {:?}: {why}", sunspec::BASES));
                return Exit::Failure;
            }
        };
        let mut table = TextTable::new(&["model", "about", "numbers", "length"]);
        for model in &models {
            let Model { id, address, length } = *model;
            let number = Table::HoldingRegisters.number_of(address);
            let numbers = format!("{number}-{}", number + u32::from(length) + 1);
            table.push([id.to_string(), model.name().to_owned(), numbers, length.to_string()]);
        }
        say(&table.within(width()));
        let groups = sunspec::groups(&models, &[&options.target], &options.unit.to_string());
        if groups.is_empty() {
            say("\nNone of these models is known here.\n");
        } else {
            pour(&format!("\npolling_groups:\n{groups}"));
        }
        Exit::Done
    }
}

/// Each entry by itself.
fn single(first: Reference, words: &[Option<u16>]) -> String {
    if first.table().is_bits() {
        let mut table = TextTable::new(&["number", "value"]);
        for (number, word) in (first.number()..).zip(words) {
            table.push([number.to_string(), word.map_or("refused".to_owned(), |word| word.to_string())]);
        }
        return table.within(width());
    }
    let mut table =
        TextTable::new(&["number", "hex", "uint16", "int16", "high", "low", "float16", "bcd", "text", "note"]);
    for (number, word) in (first.number()..).zip(words) {
        let Some(word) = *word else {
            table.push([number.to_string(), "refused".to_owned()]);
            continue;
        };
        let as_kind = |kind| shown(kind, Order::Abcd, &[word]);
        let [high, low] = word.to_be_bytes();
        let cells =
            [Kind::Uint16, Kind::Int16, Kind::Uint8(Byte::High), Kind::Uint8(Byte::Low), Kind::Float16, Kind::Bcd(1)];
        let row = [number.to_string(), format!("{word:04x}")].into_iter().chain(cells.map(as_kind));
        table.push(row.chain([text([high, low]), note(word).to_owned()]));
    }
    table.within(width())
}

/// Every pair (or four) from the first register on, in every order.
fn several(first: Reference, words: &[Option<u16>], registers: usize, kinds: &[Kind]) -> TextTable {
    const ORDERS: [(&str, Order); 4] =
        [("ABCD", Order::Abcd), ("CDAB", Order::Cdab), ("BADC", Order::Badc), ("DCBA", Order::Dcba)];
    let heads: Vec<&str> = ["number", "type"].into_iter().chain(ORDERS.map(|(name, _)| name)).collect();
    let mut table = TextTable::new(&heads);
    for (number, words) in (first.number()..).step_by(registers).zip(words.chunks_exact(registers)) {
        // A value with a part that is refused is none.
        let Some(words) = words.iter().copied().collect::<Option<Vec<u16>>>() else { continue };
        for &kind in kinds {
            let cells = ORDERS.map(|(_, order)| shown(kind, order, &words));
            table.push([number.to_string(), kind.to_string()].into_iter().chain(cells));
        }
    }
    table
}

fn shown(kind: Kind, order: Order, words: &[u16]) -> String {
    match value(&Format::Typed(Arc::new(Typed { order, ..Typed::plain(kind) })), words) {
        Ok(Value::Integer(integer)) => integer.to_string(),
        Ok(Value::Float(float)) if float != 0.0 && !(1e-4..1e9).contains(&float.abs()) => format!("{float:.3e}"),
        Ok(Value::Float(float)) => float.to_string(),
        Err(_) => "-".to_owned(),
    }
}

fn text(bytes: [u8; 2]) -> String {
    if bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
        bytes.iter().map(|&byte| char::from(byte)).collect()
    } else {
        String::new()
    }
}

/// What a word may be instead of a value.
fn note(word: u16) -> &'static str {
    match word {
        0x8000 => "no value, if int16 (SunSpec)",
        0xFFFF => "no value, if uint16 (SunSpec)",
        0x7FFF => "no value, or the greatest, if int16",
        0x7FC0 | 0xFFC0 => "no value, if the start of a float32",
        _ => "",
    }
}

/// What to put into the configuration.
fn paste(first: Reference, words: &[Option<u16>], options: &Options) -> String {
    let table = match first.table() {
        Table::InputRegisters => "input_registers",
        Table::HoldingRegisters => "holding_registers",
        Table::Coils => "coils",
        Table::DiscreteInputs => "discrete_inputs",
    };
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for (number, _) in (first.number()..).zip(words).filter(|(_, word)| word.is_some()) {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == number => *end = number,
            _ => runs.push((number, number)),
        }
    }
    let runs: Vec<String> =
        runs.iter().map(|(from, to)| if from == to { from.to_string() } else { format!("{from}-{to}") }).collect();
    let mut text = "polling_groups:\n".to_owned();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "  - ip_devices: [\"{}\"]\n    unit: {}\n    {table}: [{}]",
        options.target,
        options.unit,
        runs.join(", ")
    );
    if let Some((order, number, count)) = floats(first, words) {
        let _ = writeln!(
            text,
            "# All pairs are plausible as float32; then instead:\n#   {table}: [{{address: {number}, type: float32, order: {order}, \
             count: {count}}}]"
        );
    }
    text
}

/// The one order in which all pairs are floats as they come from instruments, the number of the first, and how many they are.
pub(super) fn floats(first: Reference, words: &[Option<u16>]) -> Option<(&'static str, u32, usize)> {
    let words: Vec<u16> = words.iter().copied().collect::<Option<_>>()?;
    if first.table().is_bits() || words.len() < 2 || words.len() % 2 == 1 {
        return None;
    }
    let plausible = |order: Order| {
        words.chunks_exact(2).all(|pair| {
            let format = Format::Typed(Arc::new(Typed { order, ..Typed::plain(Kind::Float32) }));
            matches!(value(&format, pair), Ok(Value::Float(float)) if float == 0.0 || (1e-4..1e8).contains(&float.abs()))
        // Nothing but zeros fits every order, and says nothing.
        }) && words.iter().any(|&word| word != 0)
    };
    let orders = [("ABCD", Order::Abcd), ("CDAB", Order::Cdab), ("BADC", Order::Badc), ("DCBA", Order::Dcba)];
    let mut fit = orders.into_iter().filter(|(_, order)| plausible(*order));
    let (name, _) = fit.next()?;
    // Where two orders fit, the values do not tell which one it is.
    fit.next().is_none().then_some((name, first.number(), words.len() / 2))
}

/// The result of `search`, unless somebody presses Ctrl-C before.
async fn until_interrupted<T>(search: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        result = search => Some(result),
        _ = tokio::signal::ctrl_c() => None,
    }
}

fn progress(done: usize, total: usize, what: &str) {
    if io::stderr().is_terminal() {
        write!(io::stderr(), "\r{done} of {total} {what}; Ctrl-C shows what was found").ok();
    }
}

fn over() {
    if io::stderr().is_terminal() {
        write!(io::stderr(), "\r{:60}\r", "").ok();
    }
}
