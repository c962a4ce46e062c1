//! The registers and bits of a polling group: numbers, runs of them, and how each becomes a value.
//!
//! A bare number, or a mapping with `address` and `multiplier` alone, means what it means to the original agent,
//! its oddities included. Every other key makes a point that the original does not know; nothing about such a
//! one is guessed or left out in silence.

use std::rc::Rc;
use std::sync::Arc;

use super::configuration::MAX_POINTS;
use super::diagnostic::Diagnostic;
use super::naming::Naming;
use super::synonyms::{self, Meant};
use super::yaml::cursor::{Cursor, Entry, Report};
use super::yaml::node::Node;
use super::yaml::yaml11::python_float;
use crate::modbus::decode;
use crate::modbus::format::{Byte, Format, Kind, Order, Scale, Typed};
use crate::modbus::register::{Reference, Table};
use crate::reading::Value;
use crate::reading::points;

pub const KEYS: [&str; 18] = [
    "address",
    "multiplier",
    "type",
    "order",
    "byte",
    "bit",
    "bits",
    "offset",
    "scale_register",
    "unavailable",
    "minimum",
    "maximum",
    "counter",
    "count",
    "name",
    "unit_of_measurement",
    "tags",
    "values",
];

/// Those of a bit.
pub const BIT_KEYS: [&str; 6] = ["address", "count", "name", "unit_of_measurement", "tags", "values"];

pub const TYPES: [(&str, Kind); 15] = [
    ("uint16", Kind::Uint16),
    ("int16", Kind::Int16),
    ("uint8", Kind::Uint8(Byte::Low)),
    ("int8", Kind::Int8(Byte::Low)),
    ("uint32", Kind::Uint32),
    ("int32", Kind::Int32),
    ("uint64", Kind::Uint64),
    ("int64", Kind::Int64),
    ("float16", Kind::Float16),
    ("float32", Kind::Float32),
    ("float64", Kind::Float64),
    ("bcd", Kind::Bcd(1)),
    ("bcd16", Kind::Bcd(1)),
    ("bcd32", Kind::Bcd(2)),
    ("bcd64", Kind::Bcd(4)),
];

/// The largest value that the server stores, with a margin.
const TOO_LARGE: f64 = 1e29;

/// One register, bit, or value of several registers.
#[derive(Debug, Clone)]
pub struct Register<'a> {
    /// Where it begins.
    pub reference: Reference,
    /// How it becomes a value.
    pub format: Format,
    /// What kind of number it holds.
    pub kind: points::Kind,
    /// The multiplier as configured: the original sorts by it.
    pub sorted_by: f64,
    /// Its name and its metadata.
    pub naming: Naming,
    /// Where it is configured.
    pub cursor: Rc<Cursor<'a>>,
    /// Where it is named.
    pub named_at: Option<Rc<Cursor<'a>>>,
}

/// What a group says for all of its registers.
#[derive(Debug, Default)]
pub struct Defaults {
    /// `type`.
    pub kind: Option<Kind>,
    /// `order`.
    pub order: Option<Order>,
    /// `unavailable`.
    pub unavailable: Option<Sentinels>,
}

/// What a device says instead of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Sentinels {
    /// The patterns of SunSpec, by type.
    SunSpec,
    /// These.
    Numbers(Vec<Sentinel>),
}

/// One number that means that there is no value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sentinel {
    /// The pattern of the registers; when negative, in two's complement.
    Integer(i128),
    /// The value of a float.
    Float(f64),
}

/// Reads the list of one table into `registers`.
pub fn read<'a>(
    table: Table,
    value: &Cursor<'a>,
    defaults: &Defaults,
    registers: &mut Vec<Register<'a>>,
    report: &mut Report,
) {
    if matches!(*value.node, Node::Null) {
        return;
    }
    if let Some(pairs) = names(value, report) {
        for (number, name) in pairs {
            // A name is all that such a mapping says; everything else is the group's default.
            let of = |key: &str| (key == "name").then_some(&name);
            let Some(run) = run_at(table, &number, &of, defaults, report) else { continue };
            if !add(run, &number, registers, report) {
                return;
            }
        }
        return;
    }
    let Some(items) = value.items() else {
        let allowed = format!("a list of numbers of {table}, or a mapping of such numbers to names");
        report.unless_lenient(value.unfit(&allowed), "it is left out");
        return;
    };
    for item in items {
        // To know which faults are of this item: only those may become warnings.
        let faults = report.faults.len();
        let run = run(table, &item, defaults, report);
        if report.lenient && is_ignored(&item) {
            // The documented bare numbers among them: what is wrong with one ended nothing.
            for fault in report.faults.split_off(faults) {
                report.unless_lenient(fault, "it is left out");
            }
        }
        let Some(run) = run else { continue };
        if !add(run, &item, registers, report) {
            return;
        }
    }
}

/// Numbers and their names, if `value` is a mapping of these. In a file of the Python agent it is not: that agent ignored it.
fn names<'a>(value: &Cursor<'a>, report: &Report) -> Option<Vec<(Cursor<'a>, Cursor<'a>)>> {
    let pairs = value.pairs().filter(|_| !report.lenient)?;
    let numbers = pairs.iter().all(|(key, _)| is_numbers(&key.node));
    Some(pairs).filter(|_| numbers)
}

/// Whether it can only be meant as a number or a range of numbers.
pub fn is_numbers(node: &Node) -> bool {
    match node {
        Node::Integer(_) => true,
        Node::Text(text) => text.starts_with(|first: char| first.is_ascii_digit()),
        _ => false,
    }
}

/// Adds the registers of `run`, unless the file then has too many: a fault, and `false`.
fn add<'a>(run: Run<'a>, item: &Cursor<'_>, registers: &mut Vec<Register<'a>>, report: &mut Report) -> bool {
    // Of the whole file: a range of a few bytes is tens of thousands of registers.
    report.registers = report.registers.saturating_add(run.count as usize);
    let fit = report.registers <= MAX_POINTS;
    if fit {
        registers.extend(run.registers());
    } else {
        report.faults.push(item.diagnostic(format!("found more points than the {MAX_POINTS} that are allowed")));
    }
    fit
}

/// Whether the Python agent went past this item of a list without a word.
fn is_ignored(item: &Cursor<'_>) -> bool {
    let Node::Mapping(entries) = &*item.node else { return true };
    // The last of a repeated key is the one that the Python agent saw.
    let address = entries.iter().rfind(|(key, _)| matches!(key, Node::Text(key) if key == "address"));
    // A merged one may have it.
    let merges = entries.iter().any(|(key, _)| matches!(key, Node::Text(key) if key == "<<"));
    match address {
        None => !merges,
        Some((_, address)) => matches!(address, Node::Bool(_) | Node::Float(_)),
    }
}

/// A type's name.
pub fn kind(value: &Cursor<'_>, report: &mut Report) -> Option<Kind> {
    let names = TYPES.map(|(name, _)| name);
    if let Node::Text(text) = &*value.node {
        // Manuals write UINT16.
        let text = text.trim().to_lowercase();
        if let Some((_, kind)) = TYPES.iter().find(|(name, _)| *name == text) {
            return Some(*kind);
        }
        let hint = value.looked_up(|| synonyms::kind(&text)).map(Meant::hint);
        let near = || value.meant(&text, &names).map(|word| format!("did you mean \"{word}\"?"));
        if let Some(hint) = hint.or_else(near) {
            let found = value.node.shown();
            report.faults.push(value.diagnostic(format!("found {found}, which is no type; {hint}")));
            return None;
        }
    }
    report.faults.push(value.unfit(&format!("one of {}", names.join(", "))));
    None
}

/// How bytes are arranged.
pub fn order(value: &Cursor<'_>, report: &mut Report) -> Option<Order> {
    let order = match &*value.node {
        Node::Text(text) => Order::parse(text.trim()),
        _ => None,
    };
    if order.is_none() {
        let written = value.written().unwrap_or_default();
        let meant = value.looked_up(|| synonyms::order(written));
        let hint = meant.map_or_else(String::new, |meant| format!("; {}", meant.hint()));
        let allowed = "ABCD (the default), DCBA, BADC or CDAB, A being the most significant byte";
        report.faults.push(value.unfit(&format!("{allowed}{hint}")));
    }
    order
}

/// Numbers that mean that there is no value.
pub fn sentinels(value: &Cursor<'_>, report: &mut Report) -> Option<Sentinels> {
    if let Node::Text(text) = &*value.node
        && text.trim().eq_ignore_ascii_case("sunspec")
    {
        return Some(Sentinels::SunSpec);
    }
    let items = value.items().unwrap_or_else(|| vec![value.clone()]);
    let mut numbers = Vec::new();
    for item in items {
        match &*item.node {
            Node::Integer(number) => numbers.push(Sentinel::Integer(*number)),
            Node::Float(number) => numbers.push(Sentinel::Float(*number)),
            _ => {
                report.faults.push(item.unfit("sunspec, a number such as 0x8000, or a list of numbers"));
                return None;
            }
        }
    }
    Some(Sentinels::Numbers(numbers))
}

/// Points of one kind, one behind the other.
struct Run<'a> {
    first: Register<'a>,
    count: u32,
}

impl<'a> Run<'a> {
    fn registers(self) -> impl Iterator<Item = Register<'a>> {
        let Self { first, count } = self;
        let width = u32::from(first.format.width());
        (0..count).filter_map(move |place| {
            let reference = first.reference.after(place * width)?;
            Some(Register { reference, naming: first.naming.of_place(place, count), ..first.clone() })
        })
    }
}

fn run<'a>(table: Table, item: &Cursor<'a>, defaults: &Defaults, report: &mut Report) -> Option<Run<'a>> {
    let entries = item.entries(report).unwrap_or_default();
    let is_mapping = matches!(*item.node, Node::Mapping(_));
    let of = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    let known: &[&str] = if table.is_bits() { &BIT_KEYS } else { &KEYS };
    for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
        report.unless_lenient(unknown(entry, table), "it is ignored");
    }
    let address = if is_mapping { of("address") } else { Some(item) };
    let Some(address) = address else {
        let message = "found a register without address; allowed is its number, or a mapping with address";
        report.faults.push(item.diagnostic(message));
        return None;
    };
    run_at(table, address, &of, defaults, report)
}

/// The registers from `address` on; `of` looks up the other keys.
fn run_at<'v, 'a: 'v>(
    table: Table,
    address: &Cursor<'a>,
    of: &impl Fn(&str) -> Option<&'v Cursor<'a>>,
    defaults: &Defaults,
    report: &mut Report,
) -> Option<Run<'a>> {
    let faults = report.faults.len();
    // Range, multiplier, format, count and names are read before one of them ends this: their faults are told at once.
    let range = range(table, address, report);
    let multiplier = of("multiplier").map_or(Some(Multiplier::NONE), |value| multiplier(value, report));
    let (format, kind) = if table.is_bits() {
        (Some(Format::Word(Scale::Raw)), points::Kind::Integer)
    } else {
        // Read before the type: SunSpec has another pattern for no value where a number counts.
        let counts = of("counter").is_some_and(|value| flag(value, report));
        let typed = typed(table, of, defaults, multiplier, counts, report);
        let kind = typed.as_ref().map_or(points::Kind::Integer, |typed| point_kind(typed.kind, counts));
        (typed.map(simplest), kind)
    };
    let count = of("count").and_then(|value| count(value, report));
    let naming = Naming::read(of, report);
    let ((first, last), format, multiplier) = (range?, format?, multiplier?);
    // Some faults leave a value behind (counter, tags, a name); they must not pass as a good register.
    if report.faults.len() > faults {
        return None;
    }
    let width = u32::from(format.width());
    let count = match (last, count) {
        (Some(_), Some(_)) => {
            report.faults.push(address.diagnostic("found a range and a count; allowed is one of them"));
            return None;
        }
        (Some(last), None) => {
            let registers = last.number() - first.number() + 1;
            // The last value of such a range would end in a register that was not meant.
            if registers % width != 0 {
                let message = format!(
                    "found a range of {registers} registers; allowed are whole values of {width} registers each"
                );
                report.faults.push(address.diagnostic(message));
                return None;
            }
            registers / width
        }
        (None, count) => count.unwrap_or(1),
    };
    // In 32 bits: the end of a value that begins at address 65535 is no 16-bit number, and must not wrap to a small
    // one.
    let end = first.after((count - 1) * width).map(|last| u32::from(last.address()) + width);
    if end.is_none_or(|end| end > 65_536) {
        let what = if count == 1 { "a value" } else { "a run of values" };
        report.faults.push(address.diagnostic(format!("found {what} that goes on behind the end of the {table}")));
        return None;
    }
    let sorted_by = multiplier.number.unwrap_or(1.0);
    let cursor = Rc::new(address.clone());
    let named_at = of("name").cloned().map(Rc::new);
    Some(Run { first: Register { reference: first, format, kind, sorted_by, naming, cursor, named_at }, count })
}

fn unknown(entry: &Entry<'_>, table: Table) -> Diagnostic {
    if table.is_bits() && KEYS.contains(&entry.key.as_str()) {
        return entry
            .key_cursor
            .diagnostic(format!("found a key that {table} do not have; allowed are {}", BIT_KEYS.join(", ")));
    }
    entry.unknown(if table.is_bits() { &BIT_KEYS } else { &KEYS })
}

/// The format as the original knows it, if it does.
fn simplest(typed: Typed) -> Format {
    let word = Typed { scale: typed.scale, ..Typed::plain(Kind::Uint16) };
    // `type: uint16` says what a bare number means: one format for both, or writing it out would make the device
    // another.
    if typed == word { Format::Word(typed.scale) } else { Format::Typed(typed.into()) }
}

/// What is configured of a register but its place.
fn typed<'v, 'a: 'v>(
    table: Table,
    of: &impl Fn(&str) -> Option<&'v Cursor<'a>>,
    defaults: &Defaults,
    multiplier: Option<Multiplier>,
    counts: bool,
    report: &mut Report,
) -> Option<Typed> {
    // Each is read, whatever is wrong with the others: somebody mends all of them at once.
    let kind = kind_of(of, defaults, report);
    let order = of("order").map_or(Some(defaults.order.unwrap_or_default()), |value| order(value, report));
    let sentinels = of("unavailable").map_or(Some(None), |value| Some(Some((value, sentinels(value, report)?))));
    // Strict: with its scale register left out a value would be wrong by powers of ten.
    let scale_address =
        of("scale_register").map_or(Some(None), |value| Some(Some(reference(table, value, true, report)?.address())));
    let offset = of("offset").map_or(Some(0.0), |value| number_of(value, report));
    // Without a limit that is wrong, values that were to be left out would be posted.
    let mut limit = |key| of(key).map_or(Some(None), |value| number_of(value, report).map(Some));
    let (minimum, maximum) = (limit("minimum"), limit("maximum"));
    let (kind, order, scale_address, offset) = (kind?, order?, scale_address?, offset?);
    let (minimum, maximum) = (minimum?, maximum?);
    let Multiplier { number, raw } = multiplier?;
    // What an unsigned word is times without a multiplier is the original's rule; that of the others is ours.
    let scale = match number {
        _ if raw => Scale::Raw,
        Some(number) => Scale::Times(number),
        None if kind == Kind::Uint16 => Scale::Times(1.0),
        None => Scale::Raw,
    };
    let unavailable = match (sentinels?, &defaults.unavailable) {
        (Some((value, sentinels)), _) => patterns(kind, counts, &sentinels, Some((value, report)))?,
        // Of the group: not every register of it can have that pattern, and that is no slip.
        (None, Some(sentinels)) => patterns(kind, counts, sentinels, None)?,
        (None, None) => Vec::new(),
    };
    if let (Some(low), Some(high), Some(value)) = (minimum, maximum, of("minimum"))
        && low > high
    {
        report.faults.push(value.diagnostic(format!("found {low}, which is above the maximum of {high}")));
        return None;
    }
    Some(Typed { kind, order, scale, scale_address, offset, unavailable, minimum, maximum })
}

/// The kind that `type`, `byte`, `bit` and `bits` say together.
fn kind_of<'v, 'a: 'v>(
    of: &impl Fn(&str) -> Option<&'v Cursor<'a>>,
    defaults: &Defaults,
    report: &mut Report,
) -> Option<Kind> {
    let named: Vec<_> = ["type", "bit", "bits"].into_iter().filter_map(|key| Some((key, of(key)?))).collect();
    if let [(one, _), (other, cursor), ..] = named[..] {
        report.faults.push(cursor.diagnostic(format!("found {one} and {other}; allowed is one of them")));
        return None;
    }
    let kind = match named.first() {
        Some(("type", value)) => kind(value, report)?,
        Some((_, value)) => bits(value, report)?,
        None => defaults.kind.unwrap_or(Kind::Uint16),
    };
    let Some(value) = of("byte") else { return Some(kind) };
    let byte = match &*value.node {
        Node::Text(text) if text.trim().eq_ignore_ascii_case("high") => Byte::High,
        Node::Text(text) if text.trim().eq_ignore_ascii_case("low") => Byte::Low,
        _ => {
            report.faults.push(value.unfit("high or low (the default)"));
            return None;
        }
    };
    match kind {
        Kind::Uint8(_) => Some(Kind::Uint8(byte)),
        Kind::Int8(_) => Some(Kind::Int8(byte)),
        _ => {
            report
                .faults
                .push(value.diagnostic("found byte without a type of one byte; allowed is it with uint8 and int8"));
            None
        }
    }
}

/// `3`, or `4..7` from the least significant bit to the most significant one.
fn bits(value: &Cursor<'_>, report: &mut Report) -> Option<Kind> {
    let bounds = match &*value.node {
        Node::Integer(bit) => Some((*bit, *bit)),
        Node::Text(text) => text.split_once("..").or_else(|| text.split_once('-')).and_then(|(first, last)| {
            // `4..=7`, too: 7 is included in each of these spellings.
            let last = last.trim_start_matches('=');
            Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
        }),
        _ => None,
    };
    let fit = bounds.filter(|(first, last)| (0..=15).contains(first) && (first..=&15).contains(&last));
    let narrow = |bit: i128| u8::try_from(bit).ok();
    let kind = fit.and_then(|(first, last)| Some(Kind::Bits { first: narrow(first)?, last: narrow(last)? }));
    if kind.is_none() {
        report.faults.push(value.unfit("a bit from 0 to 15, or bits such as 4..7, 0 being the least significant one"));
    }
    kind
}

/// The patterns that mean that a value of this kind is none. One that it cannot have is a fault where it was
/// said of this register (`said`), and of no importance where it was said of all registers of a group. In order, each
/// once: a list that is written in another order is no other format.
fn patterns(
    kind: Kind,
    counts: bool,
    sentinels: &Sentinels,
    mut said: Option<(&Cursor<'_>, &mut Report)>,
) -> Option<Vec<u64>> {
    let numbers = match sentinels {
        Sentinels::SunSpec => return Some(kind.sunspec_unavailable(counts)),
        Sentinels::Numbers(numbers) => numbers,
    };
    let mut patterns = Vec::new();
    for sentinel in numbers {
        match (pattern(kind, *sentinel), &mut said) {
            (Some(pattern), _) => patterns.push(pattern),
            (None, Some((cursor, report))) => {
                report.faults.push(cursor.diagnostic("found a number that a value of this type cannot have"));
                return None;
            }
            (None, None) => {}
        }
    }
    patterns.sort_unstable();
    patterns.dedup();
    Some(patterns)
}

/// Whether `word` is `number` as a float16.
fn is_half(word: u16, number: f64) -> bool {
    let format = Format::Typed(Arc::new(Typed::plain(Kind::Float16)));
    // By the bits, so that -0.0 is not 0.0.
    matches!(decode::value(&format, &[word]), Ok(Value::Float(float)) if float.to_bits() == number.to_bits())
}

fn pattern(kind: Kind, sentinel: Sentinel) -> Option<u64> {
    let bits = match kind {
        Kind::Uint8(_) | Kind::Int8(_) => 8,
        _ => 16 * u32::from(kind.width()),
    };
    #[allow(clippy::cast_precision_loss, reason = "a number that means nothing to the device does not match")]
    let float = match sentinel {
        Sentinel::Integer(number) => number as f64,
        Sentinel::Float(number) => number,
    };
    #[allow(clippy::cast_possible_truncation, reason = "to the float that the device can send")]
    match (kind, sentinel) {
        (Kind::Float64, _) => Some(float.to_bits()),
        (Kind::Float32, _) => Some((float as f32).to_bits().into()),
        // No 16-bit float in stable Rust: the word that is decoded to the number is searched for.
        (Kind::Float16, _) => (0..=u16::MAX).find(|word| is_half(*word, float)).map(u64::from),
        (_, Sentinel::Float(_)) => None,
        (_, Sentinel::Integer(number)) => {
            let lowest = -(1_i128 << (bits - 1));
            // Manuals give the same pattern as -32768 or as 0x8000, whether the type is signed or not.
            let wrapped = if number < 0 { number + (1_i128 << bits) } else { number };
            (number >= lowest && wrapped < 1_i128 << bits).then(|| u64::try_from(wrapped).ok())?
        }
    }
}

/// Floats are floats to the server, and integers are what every register of the original is, scaled or not: a change
/// of the multiplier must not begin another chart. A counter that is no 32-bit one at most is a 64-bit one.
fn point_kind(kind: Kind, counts: bool) -> points::Kind {
    match (counts, kind) {
        (true, Kind::Float16 | Kind::Float32 | Kind::Float64) => points::Kind::Counter64,
        (true, kind) if kind.width() > 2 => points::Kind::Counter64,
        (true, _) => points::Kind::Counter,
        (false, kind) if kind.is_float() => points::Kind::Float,
        (false, _) => points::Kind::Integer,
    }
}

fn flag(value: &Cursor<'_>, report: &mut Report) -> bool {
    if let Node::Bool(flag) = &*value.node {
        return *flag;
    }
    report.faults.push(value.unfit("true or false"));
    false
}

fn count(value: &Cursor<'_>, report: &mut Report) -> Option<u32> {
    let count = match &*value.node {
        Node::Integer(count) => u32::try_from(*count).ok().filter(|count| (1..=65_536).contains(count)),
        _ => None,
    };
    if count.is_none() {
        report.faults.push(value.unfit("how many values follow each other, from 1 to 65536"));
    }
    count
}

fn number_of(value: &Cursor<'_>, report: &mut Report) -> Option<f64> {
    let number = match &*value.node {
        #[allow(clippy::cast_precision_loss, reason = "a limit is a float")]
        Node::Integer(number) => Some(*number as f64),
        Node::Float(number) => Some(*number),
        _ => None,
    };
    // NaN is not below it either: as a limit it would let every value through.
    let number = number.filter(|number| number.abs() < TOO_LARGE);
    if number.is_none() {
        report.faults.push(value.unfit("a finite number below 1e29"));
    }
    number
}

/// The first register, and the last one if it is a range.
fn range(table: Table, value: &Cursor<'_>, report: &mut Report) -> Option<(Reference, Option<Reference>)> {
    let ends = match &*value.node {
        Node::Text(text) => text
            .split_once('-')
            .and_then(|(first, last)| Some((first.trim().parse::<i64>().ok()?, last.trim().parse::<i64>().ok()?))),
        _ => None,
    };
    let Some(of_text) = ends else { return Some((reference(table, value, table.is_bits(), report)?, None)) };
    let [first, last] = [of_text.0, of_text.1].map(|number| Reference::new(table, number));
    let both = first.zip(last).filter(|(first, last)| {
        last.number().checked_sub(first.number()).and_then(|count| first.after(count)) == Some(*last)
    });
    if both.is_none() {
        let hint = hint(table, of_text.0);
        report.faults.push(value.unfit(&format!("a range within {}, the smaller number first{hint}", table.numbers())));
    }
    both.map(|(first, last)| (first, Some(last)))
}

/// One number. One that is not of the table is left out with a warning, as the original does, unless `strict`.
fn reference(table: Table, value: &Cursor<'_>, strict: bool, report: &mut Report) -> Option<Reference> {
    let number = match (&*value.node, value.digits()) {
        // 00010 is how the field writes the tenth coil, whatever YAML 1.1 makes of it.
        // -1 is the number of nothing in any table: it is refused below with the right words.
        (_, Some(digits)) if table == Table::Coils => digits.parse().unwrap_or(-1),
        (Node::Integer(number), _) => i64::try_from(*number).unwrap_or(-1),
        (Node::Text(text), _) if text.trim().parse::<i64>().is_ok() && !value.is_plain() => {
            let found = value.node.shown();
            report
                .faults
                .push(value.diagnostic(format!("found {found}, a text; allowed is a number (remove the quotes)")));
            return None;
        }
        _ => {
            report.faults.push(value.unfit(&format!("the number of one of the {table}, {}", table.numbers())));
            return None;
        }
    };
    let reference = Reference::new(table, number);
    if reference.is_none() {
        let hint = hint(table, number);
        let (found, allowed) = (value.node.shown(), table.numbers());
        if strict {
            report.faults.push(value.diagnostic(format!("found {found}; allowed is {allowed}{hint}")));
        } else {
            report
                .warnings
                .push(value.diagnostic(format!("found {found}, which is left out; allowed is {allowed}{hint}")));
        }
    }
    reference
}

/// What a number that is none of `table` may be.
fn hint(table: Table, number: i64) -> String {
    let registers = [Table::InputRegisters, Table::HoldingRegisters, Table::DiscreteInputs];
    let other = registers.into_iter().find(|other| Reference::new(*other, number).is_some());
    let other = other.map(|other| format!("; it is the number of one of the {other}"));
    // Device manuals like to count from 0, in decimal or in hexadecimal, and 40000 is the one before the first.
    let meant = u16::try_from(number).ok().map(|address| {
        let meant = table.number_of(address);
        format!("; if {number} is the address itself, counted from 0, it is written {meant}")
    });
    [other, meant].into_iter().flatten().collect()
}

/// A multiplier as configured.
#[derive(Debug, Clone, Copy)]
struct Multiplier {
    /// `None`: there is none.
    number: Option<f64>,
    /// Whether it means "as it is".
    raw: bool,
}

impl Multiplier {
    const NONE: Self = Self { number: None, raw: false };
}

/// What a number is that is written as a fraction, with a decimal comma, or with a percent sign.
fn quotient(text: &str) -> Option<f64> {
    let number = |text: &str| text.trim().replace(',', ".").parse::<f64>().ok();
    let meant = match (text.split_once('/'), text.trim().strip_suffix('%')) {
        (Some((over, under)), _) => number(over)? / number(under)?,
        (None, Some(percent)) => number(percent)? / 100.0,
        (None, None) => number(text)?,
    };
    Some(meant).filter(|meant| meant.is_finite())
}

fn multiplier(value: &Cursor<'_>, report: &mut Report) -> Option<Multiplier> {
    const ALLOWED: &str = "a finite number";
    let numeric = match &*value.node {
        #[allow(clippy::cast_precision_loss, reason = "as Python's float() does")]
        Node::Integer(number) => Some(*number as f64),
        Node::Float(number) => Some(*number),
        Node::Text(text) => python_float(text),
        Node::Null | Node::Bool(_) | Node::List(_) | Node::Mapping(_) | Node::Tagged(_) => None,
    };
    let Some(number) = numeric else {
        match value.written().and_then(quotient) {
            // What says a number that would not be the one: nobody means 1 by it.
            Some(meant) => {
                report.unless_lenient(value.unfit(&format!("{ALLOWED}; did you mean {meant:?}?")), "it counts as 1");
            }
            None if matches!(*value.node, Node::Null) => {}
            None => {
                let found = value.node.shown();
                let message = format!("found {found}, which counts as 1; allowed is {ALLOWED}");
                report.warnings.push(value.diagnostic(message));
            }
        }
        return Some(Multiplier::NONE);
    };
    // For a word, the largest of which this is. Of longer values each product is checked when it is read.
    if number.is_nan() || number.abs() * 65_535.0 >= TOO_LARGE {
        let found = value.node.shown();
        let message = format!(
            "found {found}; allowed is {ALLOWED} below 1e24, because the server's ingester dies on larger values"
        );
        report.faults.push(value.diagnostic(message));
        return None;
    }
    // The original takes the number 0 for "none" and leaves values integers; the text "0" it makes 0.0.
    let raw = number == 0.0 && !matches!(*value.node, Node::Text(_));
    Some(Multiplier { number: Some(number), raw })
}
