//! Points → the requests that read them: pure, total and the same for every order of the input.
//!
//! Owns the rule of what shares a request: entries of one unit and one table that touch each other, up to the
//! limit. A gap is bridged only as far as [`Limits::with_gap`] allows, which is not at all by default, because a
//! device may refuse the whole request for one register that nobody asked for. The registers of one value are
//! never in two requests, nor are points that are to be read together: whoever configures them sees to it that they
//! fit into one.
//!
//! A value that is scaled by another register is read by the same request as that register, whatever lies between
//! them, if the two fit into one: a device may change both between two requests. Where they do not fit, the scale
//! register is read before the value, and once more at the end of the poll ([`rechecks`]), so that a change is seen.
//!
//! Invariant: every point is in exactly one [`Block`], and each scale register that it needs is in the same block, or
//! in one before it. Blocks come in order of unit, table and address, but for those that read a scale register for
//! another one, which come before that; they do not depend on the order of the configuration: permuting a file must not
//! change what is on the wire. What a block reads is in order of address and id. Nothing here can fail.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::modbus::format::Format;
use crate::modbus::register::{Point, Table, UnitId};
use crate::reading::PointId;

/// What one request to a device may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    registers: u16,
    bits: u16,
    gap: u16,
}

impl Limits {
    /// Registers in one request at most, by the specification (6.3, 6.4).
    pub const MAX_REGISTERS: u16 = 125;

    /// Coils or discrete inputs in one request at most, by the specification (6.1, 6.2).
    pub const MAX_BITS: u16 = 2_000;

    /// At most this many registers in a request, or `None` when it is not 1–125.
    #[must_use]
    pub fn new(max_registers: u16) -> Option<Self> {
        (1..=Self::MAX_REGISTERS)
            .contains(&max_registers)
            .then_some(Self { registers: max_registers, ..Self::default() })
    }

    /// At most this many bits in a request, or `None` when it is not 1–2000.
    #[must_use]
    pub fn with_bits(self, max_bits: u16) -> Option<Self> {
        (1..=Self::MAX_BITS).contains(&max_bits).then_some(Self { bits: max_bits, ..self })
    }

    /// Up to this many entries that nobody asked for are read between two that somebody did.
    #[must_use]
    pub fn with_gap(self, max_gap: u16) -> Self {
        Self { gap: max_gap, ..self }
    }

    /// How many entries of `table` one request may have.
    #[must_use]
    pub fn of(self, table: Table) -> u16 {
        if table.is_bits() { self.bits } else { self.registers }
    }
}

impl Default for Limits {
    /// The bounds of the protocol itself, and no gaps.
    fn default() -> Self {
        Self { registers: Self::MAX_REGISTERS, bits: Self::MAX_BITS, gap: 0 }
    }
}

/// Where a value is: entries of one table of one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The unit.
    pub unit: UnitId,
    /// The table.
    pub table: Table,
    /// The first entry, 0-based.
    pub address: u16,
    /// How many entries.
    pub width: u16,
}

/// Spots of one unit and table as runs of reference numbers: `40010`, `40013-40016`.
#[must_use]
pub fn runs(spans: impl IntoIterator<Item = Span>) -> Vec<String> {
    let mut runs: Vec<(Table, u32, u32)> = Vec::new();
    for Span { table, address, width, .. } in spans {
        let first = table.number_of(address);
        let last = first + u32::from(width.max(1)) - 1;
        match runs.last_mut() {
            Some((of, _, end)) if *of == table && first <= *end + 1 => *end = last.max(*end),
            _ => runs.push((table, first, last)),
        }
    }
    let text =
        |(_, first, last): (Table, u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.into_iter().map(text).collect()
}

/// One request: a run of entries of one table of one unit, and what its reply is read for.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// The unit that is asked.
    pub unit: UnitId,
    /// The table that is read.
    pub table: Table,
    /// The first entry, 0-based.
    pub address: u16,
    /// The number of entries: 1–125 registers or 1–2000 bits.
    pub quantity: u16,
    /// Whether its points are read together or not at all, whatever a device refuses of it.
    pub whole: bool,
    /// What the entries mean; several points may share one.
    pub points: Vec<BlockPoint>,
}

/// What a part of the reply to a block is read for.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockPoint {
    /// Its first entry, counted from the first of the block.
    pub offset: u16,
    /// How many entries it has.
    pub width: u16,
    /// What they are.
    pub reads: Reads,
}

/// What some entries of a table are read for.
#[derive(Debug, Clone, PartialEq)]
pub enum Reads {
    /// The value of a point.
    Value(PointId, Format),
    /// The power of ten by which other points of the unit are scaled.
    PowerOfTen,
}

/// The requests that read `points`, each of them once.
#[must_use]
pub fn plan(points: &[Point], limits: Limits) -> Vec<Block> {
    let mut wanted: Vec<Wanted> = points.iter().flat_map(|point| wanted(point, limits)).collect();
    wanted.sort_by_key(Wanted::order);
    let mut blocks: Vec<Block> = Vec::new();
    let mut last = None;
    for wanted in wanted {
        // With its like in one request, whatever is between them, and with nothing else.
        let limits = if wanted.together.is_some() { WHOLE } else { limits };
        let may = last.replace(wanted.together) == Some(wanted.together);
        place(&mut blocks, may, wanted, limits);
    }
    for block in &mut blocks {
        block.sort_points();
    }
    // By address again, whatever belongs together. The number of what is read together is a place in the configuration
    // and decides nothing.
    blocks.sort_by_key(|block| {
        (block.unit, block.table, block.address, block.quantity, block.whole, block.values().min())
    });
    let mut blocks = scale_registers_first(blocks, |table| limits.of(table));
    // A plan stays for as long as its device.
    for block in &mut blocks {
        block.points.shrink_to_fit();
    }
    blocks.shrink_to_fit();
    blocks
}

/// The requests that read scale registers again at the end of a poll of `blocks` in this order, when each of them was
/// answered: one entry for each value whose scale register is in another block, unless a later block has it anyway.
#[must_use]
pub fn rechecks<'b>(blocks: impl IntoIterator<Item = &'b Block, IntoIter: Clone>) -> Vec<Block> {
    let blocks = blocks.into_iter();
    // The first and the last request that reads a scale register, and the longest of them.
    let mut read: HashMap<Span, (usize, usize, u16)> = HashMap::new();
    for (place, block) in blocks.clone().enumerate() {
        for span in block.scale_registers() {
            let (_, last, longest) = read.entry(span).or_insert((place, place, 0));
            (*last, *longest) = (place, block.quantity.max(*longest));
        }
    }
    let mut again = BTreeMap::new();
    for (place, block) in blocks.enumerate() {
        for span in block.scale_registers_elsewhere() {
            if let Some(&(first, last, longest)) = read.get(&span)
                && first < place
                && last < place
            {
                again.insert(span, longest);
            }
        }
    }
    scale_requests(again)
}

/// Requests for these scale registers alone. Each comes with how long a request for it may be; those that touch each
/// other share one.
pub(super) fn scale_requests(spans: impl IntoIterator<Item = (Span, u16)>) -> Vec<Block> {
    let spans: BTreeMap<Span, u16> = spans.into_iter().collect();
    let mut blocks: Vec<Block> = Vec::new();
    let mut longest = 0;
    for (span, most) in spans {
        let known = blocks.len();
        // The longest that is known to be answered for any register of the run; each run has its own.
        longest = most.max(longest);
        place(&mut blocks, true, Wanted::scale_register(span), Limits { registers: longest, bits: longest, gap: 0 });
        if blocks.len() > known {
            longest = most;
        }
    }
    blocks
}

/// What is read together may be as long as the protocol allows, with gaps of any length.
const WHOLE: Limits = Limits { registers: Limits::MAX_REGISTERS, bits: Limits::MAX_BITS, gap: u16::MAX };

/// Entries that must come in one reply, and what for: a value, its scale register, or both.
struct Wanted {
    unit: UnitId,
    table: Table,
    together: Option<u32>,
    /// The first entry.
    address: u16,
    /// From the first entry to the last one.
    width: u16,
    value: Option<(u16, PointId, Format)>,
    scale: Option<u16>,
}

impl Wanted {
    /// The value of `format` that is at `span`.
    fn value(span: Span, id: PointId, format: Format, together: Option<u32>) -> Self {
        let Span { unit, table, address, width } = span;
        Self { unit, table, together, address, width, value: Some((address, id, format)), scale: None }
    }

    /// The scale register at `span`.
    fn scale_register(span: Span) -> Self {
        let Span { unit, table, address, width } = span;
        Self { unit, table, together: None, address, width, value: None, scale: Some(address) }
    }

    /// The same together with the scale register at `scale`; `None` when that takes more than `most` entries.
    fn with_scale_register(&self, scale: u16, most: u16) -> Option<Self> {
        let address = self.address.min(scale);
        // Behind the last entry of a table is 65536.
        let end = (u32::from(self.address) + u32::from(self.width)).max(u32::from(scale) + 1);
        let width = u16::try_from(end - u32::from(address)).ok().filter(|width| *width <= most)?;
        let Self { unit, table, together, ref value, .. } = *self;
        Some(Self { unit, table, together, address, width, value: value.clone(), scale: Some(scale) })
    }

    /// By where it begins, so that of all requests that were begun before, the last one reaches furthest.
    fn order(&self) -> (UnitId, Table, Option<u32>, u16, u16, Option<PointId>) {
        let id = self.value.as_ref().map(|(_, id, _)| *id);
        (self.unit, self.table, self.together, self.address, self.width, id)
    }
}

/// What must be read for the value of `point`.
fn wanted(point: &Point, limits: Limits) -> impl Iterator<Item = Wanted> {
    let (unit, table, together) = (point.unit, point.reference.table(), point.together);
    let span = Span { unit, table, address: point.reference.address(), width: point.format.width() };
    let value = Wanted::value(span, point.id, point.format.clone(), together);
    let most = if together.is_some() { WHOLE } else { limits }.of(table);
    let scale = point.format.scale_address();
    let both = scale.and_then(|scale| value.with_scale_register(scale, most));
    let apart = scale.filter(|_| both.is_none()).map(|address| {
        let scale = Wanted::scale_register(Span { unit, table, address, width: 1 });
        Wanted { together, ..scale }
    });
    [Some(both.unwrap_or(value)), apart].into_iter().flatten()
}

/// Adds `wanted` to the last of `blocks`, if it `may` and there is room, or else to a new one.
fn place(blocks: &mut Vec<Block>, may: bool, wanted: Wanted, limits: Limits) {
    let open = blocks.last_mut().filter(|_| may);
    match open.and_then(|block| Some((block.offset_of(&wanted, limits)?, block))) {
        Some((offset, block)) => block.add(wanted, offset),
        None => blocks.push(Block::starting_at(wanted)),
    }
}

/// The same requests in the same order, but each behind those that read a scale register which a value of it has and
/// it does not read itself. Where two wait for each other, a request for the scale register alone comes first; `most`
/// says how long it may be.
fn scale_registers_first(blocks: Vec<Block>, most: impl Fn(Table) -> u16) -> Vec<Block> {
    let needs: Vec<Vec<Span>> = blocks.iter().map(|block| block.scale_registers_elsewhere().collect()).collect();
    if needs.iter().all(Vec::is_empty) {
        return blocks;
    }
    let mut readers: HashMap<Span, usize> = HashMap::new();
    for (place, block) in blocks.iter().enumerate() {
        for span in block.scale_registers() {
            readers.entry(span).or_insert(place);
        }
    }
    let (mut begun, mut read) = (vec![false; blocks.len()], HashSet::new());
    let (mut order, mut alone) = (Vec::with_capacity(blocks.len()), BTreeMap::new());
    for start in 0..blocks.len() {
        // A way of its own instead of a recursion: a chain of requests may be as long as a table.
        let mut path = if begun[start] { Vec::new() } else { vec![(start, 0)] };
        begun[start] = true;
        while let Some((place, next)) = path.last_mut() {
            let place = *place;
            let Some(&span) = needs[place].get(*next) else {
                path.pop();
                order.push(place);
                read.extend(blocks[place].scale_registers());
                continue;
            };
            *next += 1;
            match readers.get(&span) {
                _ if read.contains(&span) => {}
                // Nothing here reads it.
                None => {}
                // Begun and not read: it is on this very path, so that each waits for the other.
                Some(&reader) if begun[reader] => {
                    alone.insert(span, most(span.table));
                    read.insert(span);
                }
                Some(&reader) => {
                    begun[reader] = true;
                    path.push((reader, 0));
                }
            }
        }
    }
    let mut slots: Vec<Option<Block>> = blocks.into_iter().map(Some).collect();
    let mut sorted = scale_requests(alone);
    sorted.extend(order.into_iter().filter_map(|place| slots.get_mut(place)?.take()));
    // Stable: within a table of a unit the order that was just found stays.
    sorted.sort_by_key(|block| (block.unit, block.table));
    sorted
}

impl Block {
    /// The points whose values it reads.
    pub fn values(&self) -> impl Iterator<Item = PointId> + '_ {
        self.points.iter().filter_map(|point| match point.reads {
            Reads::Value(id, _) => Some(id),
            Reads::PowerOfTen => None,
        })
    }

    /// The points whose values are at `wanted` spans.
    pub fn values_at(&self, wanted: impl Fn(Span) -> bool) -> impl Iterator<Item = PointId> {
        self.points.iter().filter_map(move |point| match point.reads {
            Reads::Value(id, _) if wanted(self.span(point)) => Some(id),
            _ => None,
        })
    }

    /// Where its values are, each place once, in order of address.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<_> = self.points.iter().map(|point| self.span(point)).collect();
        spans.sort_unstable_by_key(|span| (span.address, span.width));
        spans.dedup();
        spans
    }

    /// Where the value of one of its points is.
    #[must_use]
    pub fn span(&self, point: &BlockPoint) -> Span {
        let address = self.address.saturating_add(point.offset);
        Span { unit: self.unit, table: self.table, address, width: point.width }
    }

    /// The requests that read what is at the spans to `keep` and no other entry, each of at most `longest` entries if
    /// its values allow it. A value stays with its scale register if both are kept, everything between them too, and
    /// they fit.
    #[must_use]
    pub fn pieces(&self, longest: u16, keep: impl Fn(Span) -> bool) -> Vec<Self> {
        let limits = Limits { registers: longest, bits: longest, gap: 0 };
        let kept: Vec<(Span, &Reads)> =
            self.points.iter().map(|point| (self.span(point), &point.reads)).filter(|(span, _)| keep(*span)).collect();
        let mut end = 0;
        let touch = |(span, _): &(Span, &Reads), (next, _): &(Span, &Reads)| {
            // The furthest end so far: a wide value may reach beyond the one that follows it.
            end = end.max(u32::from(span.address) + u32::from(span.width));
            u32::from(next.address) <= end
        };
        let mut pieces: Vec<Self> = Vec::new();
        for run in kept.chunk_by(touch) {
            let is_read =
                |scale: &u16| run.iter().any(|(at, reads)| at.address == *scale && **reads == Reads::PowerOfTen);
            let mut wanted: Vec<Wanted> = run
                .iter()
                .map(|(span, reads)| match reads {
                    Reads::PowerOfTen => Wanted::scale_register(*span),
                    Reads::Value(id, format) => {
                        let value = Wanted::value(*span, *id, format.clone(), None);
                        let scale = format.scale_address().filter(is_read);
                        scale.and_then(|scale| value.with_scale_register(scale, longest)).unwrap_or(value)
                    }
                })
                .collect();
            wanted.sort_by_key(Wanted::order);
            for wanted in wanted {
                place(&mut pieces, true, wanted, limits);
            }
        }
        for piece in &mut pieces {
            piece.sort_points();
            piece.whole = self.whole;
        }
        scale_registers_first(pieces, |_| longest)
    }

    /// The scale registers that it reads for values, in order of address.
    fn scale_registers(&self) -> impl Iterator<Item = Span> + '_ {
        self.points.iter().filter(|point| point.reads == Reads::PowerOfTen).map(|point| self.span(point))
    }

    /// The scale registers of its values that its reply does not have.
    fn scale_registers_elsewhere(&self) -> impl Iterator<Item = Span> + '_ {
        let of = |point: &BlockPoint| match &point.reads {
            Reads::Value(_, format) => format.scale_address(),
            Reads::PowerOfTen => None,
        };
        let has = |address: u16| address.checked_sub(self.address).is_some_and(|offset| offset < self.quantity);
        let span = |address| Span { unit: self.unit, table: self.table, address, width: 1 };
        self.points.iter().filter_map(of).filter(move |address| !has(*address)).map(span)
    }

    fn starting_at(wanted: Wanted) -> Self {
        let Wanted { unit, table, address, together, .. } = wanted;
        let whole = together.is_some();
        let mut block = Self { unit, table, address, quantity: 0, whole, points: Vec::new() };
        block.add(wanted, 0);
        block
    }

    /// Where `wanted` goes when it is in this block or close enough to its end, and there is room for all of it.
    fn offset_of(&self, wanted: &Wanted, limits: Limits) -> Option<u16> {
        let same = self.unit == wanted.unit && self.table == wanted.table;
        // A difference of addresses, never a sum: `address + quantity` is 65536 at the end of a table.
        let offset = wanted.address.checked_sub(self.address)?;
        let near = offset <= self.quantity.saturating_add(limits.gap);
        (same && near && offset.saturating_add(wanted.width) <= limits.of(self.table)).then_some(offset)
    }

    fn add(&mut self, wanted: Wanted, offset: u16) {
        self.quantity = self.quantity.max(offset + wanted.width);
        let offset_of = |address: u16| offset + (address - wanted.address);
        if let Some((address, id, format)) = wanted.value {
            let (offset, width) = (offset_of(address), format.width());
            self.points.push(BlockPoint { offset, width, reads: Reads::Value(id, format) });
        }
        if let Some(address) = wanted.scale {
            self.points.push(BlockPoint { offset: offset_of(address), width: 1, reads: Reads::PowerOfTen });
        }
    }

    /// Everything has been added: what it reads in order of address and id, a scale register once for all its values.
    fn sort_points(&mut self) {
        self.points.sort_by_key(|point| match point.reads {
            Reads::PowerOfTen => (point.offset, None),
            Reads::Value(id, _) => (point.offset, Some(id)),
        });
        self.points
            .dedup_by(|a, b| a.reads == Reads::PowerOfTen && b.reads == Reads::PowerOfTen && a.offset == b.offset);
    }
}

#[cfg(test)]
mod tests;
