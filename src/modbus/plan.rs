//! Points → the requests that read them: pure, total and the same for every order of the input.
//!
//! Owns the rule of what shares a request: entries of one unit and one table that touch each other, up to the
//! limit. A gap is bridged only as far as [`Limits::with_gap`] allows, which is not at all by default, because a
//! device may refuse the whole request for one register that nobody asked for. The registers of one value are
//! never in two requests, nor are points that are to be read together: whoever configures them sees to it that they
//! fit into one.
//!
//! Invariant: every point is in exactly one [`Block`], and so is every power of ten that a point needs; blocks
//! come in order of unit, table and address (not in the order of the configuration: permuting a file must not change
//! what is on the wire), and what a block reads in order of address and id. Nothing here can fail.

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
pub struct Spot {
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
pub fn runs(spots: impl IntoIterator<Item = Spot>) -> Vec<String> {
    let mut runs: Vec<(Table, u32, u32)> = Vec::new();
    for Spot { table, address, width, .. } in spots {
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
    let mut wanted: Vec<Wanted> = points.iter().flat_map(wanted).collect();
    wanted.sort_by_key(Wanted::order);
    // A power of ten that many points need is read once.
    wanted.dedup_by(|a, b| a.reads == Reads::PowerOfTen && a.order() == b.order());

    let mut blocks: Vec<Block> = Vec::new();
    let mut last = None;
    for wanted in wanted {
        // With its like in one request, whatever is between them, and with nothing else.
        let limits = if wanted.together.is_some() { Limits { gap: u16::MAX, ..Limits::default() } } else { limits };
        let open = blocks.last_mut().filter(|_| last == Some(wanted.together));
        last = Some(wanted.together);
        match open.and_then(|block| Some((block.offset_of(&wanted, limits)?, block))) {
            Some((offset, block)) => block.add(wanted, offset),
            None => blocks.push(Block::starting_at(wanted)),
        }
    }
    // By address again, whatever belongs together.
    blocks.sort_by_key(|block| (block.unit, block.table, block.address));
    // A plan stays for as long as its device.
    for block in &mut blocks {
        block.points.shrink_to_fit();
    }
    blocks.shrink_to_fit();
    blocks
}

/// Entries that must come in one reply.
struct Wanted {
    unit: UnitId,
    table: Table,
    address: u16,
    width: u16,
    together: Option<u32>,
    reads: Reads,
}

impl Wanted {
    fn order(&self) -> (UnitId, Table, Option<u32>, u16, Option<PointId>) {
        let id = match self.reads {
            Reads::Value(id, _) => Some(id),
            Reads::PowerOfTen => None,
        };
        (self.unit, self.table, self.together, self.address, id)
    }
}

/// What must be read for the value of `point`.
fn wanted(point: &Point) -> impl Iterator<Item = Wanted> {
    let (unit, table, address) = (point.unit, point.reference.table(), point.reference.address());
    let reads = Reads::Value(point.id, point.format.clone());
    let together = point.together;
    let value = Wanted { unit, table, address, width: point.format.width(), together, reads };
    let power = point.format.scale_address();
    let power = power.map(|address| Wanted { unit, table, address, width: 1, together, reads: Reads::PowerOfTen });
    [Some(value), power].into_iter().flatten()
}

impl Block {
    /// The points whose values it reads.
    pub fn values(&self) -> impl Iterator<Item = PointId> + '_ {
        self.points.iter().filter_map(|point| match point.reads {
            Reads::Value(id, _) => Some(id),
            Reads::PowerOfTen => None,
        })
    }

    /// The points whose values are at `wanted` spots.
    pub fn values_at(&self, wanted: impl Fn(Spot) -> bool) -> impl Iterator<Item = PointId> {
        self.points.iter().filter_map(move |point| match point.reads {
            Reads::Value(id, _) if wanted(self.spot(point)) => Some(id),
            _ => None,
        })
    }

    /// Where its values are, each place once, in order of address.
    #[must_use]
    pub fn spots(&self) -> Vec<Spot> {
        let mut spots: Vec<_> = self.points.iter().map(|point| self.spot(point)).collect();
        spots.sort_unstable_by_key(|spot| (spot.address, spot.width));
        spots.dedup();
        spots
    }

    /// Where the value of one of its points is.
    #[must_use]
    pub fn spot(&self, point: &BlockPoint) -> Spot {
        let address = self.address.saturating_add(point.offset);
        Spot { unit: self.unit, table: self.table, address, width: point.width }
    }

    /// The requests that read what is at the spots to `keep` and no other entry, each of at most `longest` entries if
    /// its values allow it.
    #[must_use]
    pub fn pieces(&self, longest: u16, keep: impl Fn(Spot) -> bool) -> Vec<Self> {
        let limits = Limits { registers: longest, bits: longest, gap: 0 };
        let mut pieces: Vec<Self> = Vec::new();
        for point in &self.points {
            let Spot { unit, table, address, width } = self.spot(point);
            if !keep(self.spot(point)) {
                continue;
            }
            let wanted = Wanted { unit, table, address, width, together: None, reads: point.reads.clone() };
            match pieces.last_mut().and_then(|piece| Some((piece.offset_of(&wanted, limits)?, piece))) {
                Some((offset, piece)) => piece.add(wanted, offset),
                None => pieces.push(Self { whole: self.whole, ..Self::starting_at(wanted) }),
            }
        }
        pieces
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
        let Wanted { width, reads, .. } = wanted;
        self.quantity = self.quantity.max(offset + width);
        self.points.push(BlockPoint { offset, width, reads });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::modbus::format::{Kind, Scale, Typed};
    use crate::modbus::register::Reference;

    fn point(id: u32, unit: u8, table: Table, number: i64) -> Point {
        Point {
            id: PointId(id),
            unit: UnitId(unit),
            reference: Reference::new(table, number).unwrap(),
            format: Format::Word(Scale::Times(f64::from(id))),
            together: None,
        }
    }

    /// A value of 2 or 4 registers, scaled by the power of ten at an address.
    fn typed(id: u32, table: Table, number: i64, kind: Kind, scale_address: Option<u16>) -> Point {
        let format = Format::Typed(Typed { scale_address, ..Typed::plain(kind) }.into());
        Point { format, ..point(id, 0, table, number) }
    }

    /// A block in the words of [`Shape`]; a power of ten has the id 999.
    fn id(at: &BlockPoint) -> u32 {
        match at.reads {
            Reads::Value(id, _) => id.0,
            Reads::PowerOfTen => 999,
        }
    }

    /// (unit, table, address, quantity, [(id, offset)])
    type Shape = (u8, Table, u16, u16, Vec<(u32, u16)>);

    fn shape(block: &Block) -> Shape {
        let points = block.points.iter().map(|p| (id(p), p.offset)).collect();
        (block.unit.0, block.table, block.address, block.quantity, points)
    }

    #[test]
    fn touching_registers_share_a_request_and_nothing_else_does() {
        use Table::{HoldingRegisters as H, InputRegisters as I};
        let cases: [(&str, Vec<Point>, Vec<Shape>); 7] = [
            ("nothing to read", vec![], vec![]),
            (
                "a run in any order",
                vec![point(0, 0, I, 30_003), point(1, 0, I, 30_001), point(2, 0, I, 30_002)],
                vec![(0, I, 0, 3, vec![(1, 0), (2, 1), (0, 2)])],
            ),
            (
                "a gap of one register is not bridged",
                vec![point(0, 0, I, 30_001), point(1, 0, I, 30_003)],
                vec![(0, I, 0, 1, vec![(0, 0)]), (0, I, 2, 1, vec![(1, 0)])],
            ),
            (
                "one address, two reference numbers and two targets",
                vec![point(0, 0, I, 30_001), point(1, 0, I, 300_001), point(2, 0, I, 30_001), point(3, 0, I, 30_002)],
                vec![(0, I, 0, 2, vec![(0, 0), (1, 0), (2, 0), (3, 1)])],
            ),
            (
                "tables do not mix, input registers first",
                vec![point(0, 0, H, 40_002), point(1, 0, I, 30_001)],
                vec![(0, I, 0, 1, vec![(1, 0)]), (0, H, 1, 1, vec![(0, 0)])],
            ),
            (
                "units do not mix",
                vec![point(0, 2, I, 30_001), point(1, 1, I, 30_002)],
                vec![(1, I, 1, 1, vec![(1, 0)]), (2, I, 0, 1, vec![(0, 0)])],
            ),
            (
                "the last register of a table",
                vec![point(0, 0, H, 465_535), point(1, 0, H, 465_536)],
                vec![(0, H, 65_534, 2, vec![(0, 0), (1, 1)])],
            ),
        ];
        for (name, points, expected) in cases {
            let blocks = plan(&points, Limits::default());
            assert_eq!(blocks.iter().map(shape).collect::<Vec<_>>(), expected, "{name}");
        }
    }

    #[test]
    fn a_value_of_several_registers_is_in_one_request_and_its_power_of_ten_in_the_same_poll() {
        use Kind::{Float64, Uint32};
        use Table::{Coils as C, HoldingRegisters as H};
        let limits = Limits::new(4).unwrap();
        let cases: [(&str, Limits, Vec<Point>, Vec<Shape>); 6] = [
            (
                "values that touch, up to the limit",
                limits,
                vec![typed(0, H, 40_001, Uint32, None), typed(1, H, 40_003, Uint32, None), point(2, 0, H, 40_005)],
                vec![(0, H, 0, 4, vec![(0, 0), (1, 2)]), (0, H, 4, 1, vec![(2, 0)])],
            ),
            (
                "a value is not cut at the limit",
                limits,
                vec![point(0, 0, H, 40_001), typed(1, H, 40_002, Float64, None)],
                vec![(0, H, 0, 1, vec![(0, 0)]), (0, H, 1, 4, vec![(1, 0)])],
            ),
            (
                "values that overlap",
                limits,
                vec![typed(0, H, 40_001, Uint32, None), typed(1, H, 40_002, Uint32, None)],
                vec![(0, H, 0, 3, vec![(0, 0), (1, 1)])],
            ),
            (
                "a power of ten that two points need and a third reads as its value",
                Limits::default(),
                vec![
                    typed(0, H, 40_001, Kind::Uint16, Some(1)),
                    typed(1, H, 40_004, Kind::Uint16, Some(1)),
                    point(2, 0, H, 40_002),
                ],
                vec![(0, H, 0, 2, vec![(0, 0), (999, 1), (2, 1)]), (0, H, 3, 1, vec![(1, 0)])],
            ),
            (
                "gaps as long as they may be",
                Limits::default().with_gap(2),
                vec![point(0, 0, H, 40_001), point(1, 0, H, 40_004), point(2, 0, H, 40_008)],
                vec![(0, H, 0, 4, vec![(0, 0), (1, 3)]), (0, H, 7, 1, vec![(2, 0)])],
            ),
            (
                "more bits than registers",
                limits,
                (0..5).map(|n| point(n, 0, C, 1 + i64::from(n))).collect(),
                vec![(0, C, 0, 5, (0..5).map(|n| (n, u16::try_from(n).unwrap())).collect())],
            ),
        ];
        for (name, limits, points, expected) in cases {
            let blocks = plan(&points, limits);
            assert_eq!(blocks.iter().map(shape).collect::<Vec<_>>(), expected, "{name}");
        }
    }

    #[test]
    fn what_is_read_together_is_in_one_request_with_whatever_lies_between_and_with_nothing_else() {
        use Table::{Coils as C, HoldingRegisters as H};
        let of = |group, point| Point { together: Some(group), ..point };
        let scaled = of(7, typed(2, H, 40_090, Kind::Uint16, Some(0)));
        let points = [
            of(7, point(0, 0, H, 40_003)),
            of(7, point(1, 0, H, 40_080)),
            scaled,
            of(7, point(3, 0, C, 9)),
            of(8, point(4, 0, H, 40_004)),
            point(5, 0, H, 40_002),
            point(6, 0, H, 40_004),
        ];
        let blocks = plan(&points, Limits::new(20).unwrap());
        let shapes: Vec<_> = blocks.iter().map(|block| (shape(block), block.whole)).collect();
        let expected = [
            ((0, H, 0, 90, vec![(999, 0), (0, 2), (1, 79), (2, 89)]), true),
            ((0, H, 1, 1, vec![(5, 0)]), false),
            ((0, H, 3, 1, vec![(6, 0)]), false),
            ((0, H, 3, 1, vec![(4, 0)]), true),
            ((0, C, 8, 1, vec![(3, 0)]), true),
        ];
        assert_eq!(shapes, expected);
    }

    #[test]
    fn a_long_run_is_cut_at_the_limit() {
        let points: Vec<_> = (0..251).map(|i| point(i, 0, Table::HoldingRegisters, 400_001 + i64::from(i))).collect();
        for (limit, expected) in
            [(125, vec![(0, 125), (125, 125), (250, 1)]), (100, vec![(0, 100), (100, 100), (200, 51)])]
        {
            let blocks = plan(&points, Limits::new(limit).unwrap());
            let runs: Vec<_> = blocks.iter().map(|b| (b.address, b.quantity)).collect();
            assert_eq!(runs, expected);
        }
    }

    #[test]
    fn spots_are_told_as_runs_of_reference_numbers() {
        let spot = |address, width| Spot { unit: UnitId(1), table: Table::HoldingRegisters, address, width };
        let spots = [spot(0, 1), spot(1, 2), spot(2, 1), spot(9, 1), spot(9_998, 2), spot(20_000, 1)];
        assert_eq!(runs(spots), ["40001-40003", "40010", "49999-50000", "420001"]);
    }

    #[test]
    fn limits_admit_what_the_protocol_admits() {
        for (max, admitted) in [(0, false), (1, true), (125, true), (126, false)] {
            assert_eq!(Limits::new(max).is_some(), admitted, "{max}");
        }
    }

    /// Points of few units and all widths, crowded where runs, duplicates and the end of a table are likely.
    fn points() -> impl Strategy<Value = Vec<Point>> {
        let address = prop_oneof![0_i64..300, 65_400_i64..65_532, 0_i64..65_532];
        let kind = prop_oneof![Just(Kind::Uint16), Just(Kind::Uint32), Just(Kind::Float64), Just(Kind::Bcd(4))];
        let one = (0_u8..3, 0_usize..4, address, kind, prop::option::weighted(0.2, 0_u16..300));
        prop::collection::vec(one, 0..600).prop_map(|ones| {
            (0..)
                .zip(ones)
                .map(|(id, (unit, table, address, kind, scale_address))| {
                    let bases = [300_001, 400_001, 1, 100_001];
                    let plain = point(id, unit, Table::ALL[table], bases[table] + address);
                    if plain.reference.table().is_bits() {
                        return plain;
                    }
                    Point { format: Format::Typed(Typed { scale_address, ..Typed::plain(kind) }.into()), ..plain }
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn every_point_is_read_once_whole_and_its_power_of_ten_with_it(
            points in points(), max in 4_u16..=125, gap in prop_oneof![Just(0_u16), 0_u16..9]
        ) {
            let limits = Limits::new(max).unwrap().with_bits(max * 2).unwrap().with_gap(gap);
            let blocks = plan(&points, limits);
            let mut seen = vec![0; points.len()];
            for block in &blocks {
                prop_assert!((1..=limits.of(block.table)).contains(&block.quantity));
                prop_assert!(u32::from(block.address) + u32::from(block.quantity) <= 65_536);
                for at in &block.points {
                    prop_assert!(at.offset + at.width <= block.quantity);
                    let Reads::Value(id, format) = &at.reads else { continue };
                    let point = &points[id.index()];
                    seen[id.index()] += 1;
                    prop_assert_eq!(point.unit, block.unit);
                    prop_assert_eq!(point.reference.table(), block.table);
                    prop_assert_eq!(point.reference.address(), block.address + at.offset);
                    prop_assert_eq!(&point.format, format);
                    prop_assert_eq!(format.width(), at.width);
                    if let Some(address) = format.scale_address() {
                        let read = blocks.iter().flat_map(|other| other.points.iter().map(move |at| (other, at)));
                        let there = |(other, at): &(&Block, &BlockPoint)| {
                            at.reads == Reads::PowerOfTen
                                && (other.unit, other.table, other.address + at.offset) == (point.unit, block.table, address)
                        };
                        prop_assert_eq!(read.filter(there).count(), 1);
                    }
                }
                // No longer run of entries is asked for that nobody wants than a gap may be.
                let mut unwanted = 0;
                for offset in 0..block.quantity {
                    let wanted = block.points.iter().any(|at| (at.offset..at.offset + at.width).contains(&offset));
                    unwanted = if wanted { 0 } else { unwanted + 1 };
                    prop_assert!(unwanted <= gap);
                }
            }
            prop_assert!(seen.iter().all(|&times| times == 1));
        }

        #[test]
        fn the_order_of_the_points_does_not_matter(
            (points, shuffled) in points().prop_flat_map(|p| (Just(p.clone()), Just(p).prop_shuffle()))
        ) {
            prop_assert_eq!(plan(&points, Limits::default()), plan(&shuffled, Limits::default()));
        }
    }
}
