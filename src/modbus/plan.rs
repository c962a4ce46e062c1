//! Points → the requests that read them: pure, total and the same for every order of the input.
//!
//! Owns the rule of what shares a request: registers of one unit and one table that touch each other, up
//! to the limit. A gap is never bridged, because a device may refuse the whole request for one register
//! that nobody asked for.
//!
//! Invariant: every point is in exactly one [`Block`]; blocks come in order of unit, table and address
//! (not in the order of the configuration: permuting a file must not change what is on the wire), and the
//! points of a block in order of address and id. Nothing here can fail.

use crate::modbus::register::{Point, Scale, Table, UnitId};
use crate::reading::PointId;

/// What one request to a device may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    max_registers: u16,
}

impl Limits {
    /// Registers in one request at most, by the specification (6.3, 6.4).
    pub const MAX_REGISTERS: u16 = 125;

    /// At most this many registers in a request, or `None` when it is not 1–125.
    #[must_use]
    pub fn new(max_registers: u16) -> Option<Self> {
        (1..=Self::MAX_REGISTERS).contains(&max_registers).then_some(Self { max_registers })
    }
}

impl Default for Limits {
    /// The bounds of the protocol itself.
    fn default() -> Self {
        Self { max_registers: Self::MAX_REGISTERS }
    }
}

/// One request: a run of registers of one table of one unit, and the points that its reply answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// The unit that is asked.
    pub unit: UnitId,
    /// The table that is read.
    pub table: Table,
    /// The first register, 0-based.
    pub address: u16,
    /// The number of registers, 1–125.
    pub quantity: u16,
    /// What the registers mean; several points may share a register.
    pub points: Vec<BlockPoint>,
}

/// Where the value of a point is in the reply to its block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockPoint {
    /// The point.
    pub id: PointId,
    /// Its register, counted from the first of the block.
    pub offset: u16,
    /// How its word becomes a value.
    pub scale: Scale,
}

/// The requests that read `points`, each of them once.
#[must_use]
pub fn plan(points: &[Point], limits: Limits) -> Vec<Block> {
    let mut points = points.to_vec();
    points.sort_unstable_by_key(|point| {
        let (table, address) = (point.reference.table(), point.reference.address());
        (point.unit, table, address, point.id)
    });

    let mut blocks: Vec<Block> = Vec::new();
    for point in &points {
        let open = blocks.last_mut();
        match open.and_then(|block| Some((block.offset_of(point, limits)?, block))) {
            Some((offset, block)) => block.add(point, offset),
            None => blocks.push(Block::starting_at(point)),
        }
    }
    blocks
}

impl Block {
    fn starting_at(point: &Point) -> Self {
        let mut block = Self {
            unit: point.unit,
            table: point.reference.table(),
            address: point.reference.address(),
            quantity: 0,
            points: Vec::new(),
        };
        block.add(point, 0);
        block
    }

    /// Where `point` goes when it is in this block or right after its end, and there is room.
    fn offset_of(&self, point: &Point, limits: Limits) -> Option<u16> {
        let same = self.unit == point.unit && self.table == point.reference.table();
        // A difference of addresses, never a sum: `address + quantity` is 65536 at the end of a table.
        let offset = point.reference.address().checked_sub(self.address)?;
        (same && offset <= self.quantity && offset < limits.max_registers).then_some(offset)
    }

    fn add(&mut self, point: &Point, offset: u16) {
        self.quantity = self.quantity.max(offset + 1);
        self.points.push(BlockPoint { id: point.id, offset, scale: point.scale });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::modbus::register::Reference;

    fn point(id: u32, unit: u8, table: Table, number: i64) -> Point {
        Point {
            id: PointId(id),
            unit: UnitId(unit),
            reference: Reference::new(table, number).unwrap(),
            scale: Scale::Times(f64::from(id)),
        }
    }

    /// (unit, table, address, quantity, [(id, offset)])
    type Shape = (u8, Table, u16, u16, Vec<(u32, u16)>);

    fn shape(block: &Block) -> Shape {
        let points = block.points.iter().map(|p| (p.id.0, p.offset)).collect();
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
    fn limits_admit_what_the_protocol_admits() {
        for (max, admitted) in [(0, false), (1, true), (125, true), (126, false)] {
            assert_eq!(Limits::new(max).is_some(), admitted, "{max}");
        }
    }

    /// Points of few units, crowded where runs, duplicates and the end of a table are likely.
    fn points() -> impl Strategy<Value = Vec<Point>> {
        let address = prop_oneof![0_i64..300, 65_400_i64..65_536, 0_i64..65_536];
        let one = (0_u8..3, any::<bool>(), address);
        prop::collection::vec(one, 0..600).prop_map(|ones| {
            (0..)
                .zip(ones)
                .map(|(id, (unit, input, address))| {
                    let (table, base) =
                        if input { (Table::InputRegisters, 300_001) } else { (Table::HoldingRegisters, 400_001) };
                    point(id, unit, table, base + address)
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn every_point_is_read_once_from_its_own_register(points in points(), max in 1_u16..=125) {
            let mut seen = vec![0; points.len()];
            for block in plan(&points, Limits::new(max).unwrap()) {
                prop_assert!((1..=max).contains(&block.quantity));
                prop_assert!(u32::from(block.address) + u32::from(block.quantity) <= 65_536);
                for at in &block.points {
                    let point = &points[at.id.index()];
                    seen[at.id.index()] += 1;
                    prop_assert_eq!(point.unit, block.unit);
                    prop_assert_eq!(point.reference.table(), block.table);
                    prop_assert_eq!(point.reference.address(), block.address + at.offset);
                    prop_assert_eq!(point.scale, at.scale);
                }
                // No register is asked for that no point wants.
                for offset in 0..block.quantity {
                    prop_assert!(block.points.iter().any(|at| at.offset == offset));
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
