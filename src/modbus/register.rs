//! The specification's words: tables, addresses, reference numbers, units, points.
//!
//! Owns the rule that maps a configured reference number to the 0-based address on the wire. A
//! [`Reference`] cannot be out of its table's range. How the registers of a point become a value is its [`Format`].

use std::fmt;

use crate::modbus::format::Format;
use crate::reading::PointId;

/// A table of a Modbus device (Modbus Application Protocol 1.1b3, 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Read-only 16-bit registers, function code 4.
    InputRegisters,
    /// Read-write 16-bit registers, function code 3.
    HoldingRegisters,
    /// Read-write bits, function code 1.
    Coils,
    /// Read-only bits, function code 2.
    DiscreteInputs,
}

impl Table {
    /// Every table, in the order in which a device is asked for them.
    pub const ALL: [Self; 4] = [Self::InputRegisters, Self::HoldingRegisters, Self::Coils, Self::DiscreteInputs];

    /// The key under which the server knows an entry of this table is this, `_` and the reference number.
    #[must_use]
    pub fn key_prefix(self) -> &'static str {
        match self {
            Self::InputRegisters => "input_register",
            Self::HoldingRegisters => "holding_register",
            Self::Coils => "coil",
            Self::DiscreteInputs => "discrete_input",
        }
    }

    /// Whether its entries are single bits.
    #[must_use]
    pub fn is_bits(self) -> bool {
        matches!(self, Self::Coils | Self::DiscreteInputs)
    }

    /// The reference numbers that are allowed, for people.
    #[must_use]
    pub fn numbers(self) -> &'static str {
        match self {
            Self::InputRegisters => "30001 to 39999 or 300001 to 365536",
            Self::HoldingRegisters => "40001 to 49999 or 400001 to 465536",
            Self::Coils => "1 to 65536",
            Self::DiscreteInputs => "10001 to 19999 or 100001 to 165536",
        }
    }

    /// The reference number of an address, in five digits where they reach.
    #[must_use]
    pub fn number_of(self, address: u16) -> u32 {
        let (five, six) = self.bases();
        (if address < 9_999 { five } else { six }) + u32::from(address)
    }

    /// First reference numbers of the five-digit and the six-digit form; those of coils are the same, because a
    /// number has no leading zeros.
    fn bases(self) -> (u32, u32) {
        match self {
            Self::InputRegisters => (30_001, 300_001),
            Self::HoldingRegisters => (40_001, 400_001),
            Self::Coils => (1, 1),
            Self::DiscreteInputs => (10_001, 100_001),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InputRegisters => "input registers",
            Self::HoldingRegisters => "holding registers",
            Self::Coils => "coils",
            Self::DiscreteInputs => "discrete inputs",
        })
    }
}

/// An entry of a table as the configuration names it: 30001–39999 or 300001–365536 for input registers,
/// 40001–49999 or 400001–465536 for holding registers, 1–65536 for coils, 10001–19999 or 100001–165536 for
/// discrete inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    table: Table,
    number: u32,
}

impl Reference {
    /// The entry with this reference number, or `None` when the number is not one of `table`.
    #[must_use]
    pub fn new(table: Table, number: i64) -> Option<Self> {
        let number = u32::try_from(number).ok()?;
        let (five, six) = table.bases();
        let known = (five..five + 9_999).contains(&number) || (six..six + 65_536).contains(&number);
        known.then_some(Self { table, number })
    }

    /// The entry `count` places behind this one, spelled in the same form; `None` behind the end of the table or of
    /// the five-digit form.
    #[must_use]
    pub fn after(self, count: u32) -> Option<Self> {
        let (_, six) = self.table.bases();
        let after = Self::new(self.table, i64::from(self.number) + i64::from(count))?;
        ((self.number >= six) == (after.number >= six)).then_some(after)
    }

    /// The table it is in.
    #[must_use]
    pub fn table(self) -> Table {
        self.table
    }

    /// The number as configured.
    #[must_use]
    pub fn number(self) -> u32 {
        self.number
    }

    /// The 0-based address on the wire.
    #[must_use]
    pub fn address(self) -> u16 {
        let (five, six) = self.table.bases();
        let base = if self.number >= six { six } else { five };
        // `new` admits nothing that is outside u16 here.
        u16::try_from(self.number - base).unwrap_or(u16::MAX)
    }
}

impl fmt::Display for Reference {
    /// The key of the point at the server, `input_register_30387`, `coil_00001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, number) = (self.table.key_prefix(), self.number);
        match self.table {
            // As the field writes them: 00001, and 010000 where five digits do not reach.
            Table::Coils if number > 9_999 => write!(f, "{prefix}_{number:06}"),
            _ => write!(f, "{prefix}_{number:05}"),
        }
    }
}

/// The unit id of a request: 0 for a device of its own, else a device behind a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnitId(pub u8);

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Some of the units that may be behind one address.
#[derive(Debug, Clone, Copy, Default)]
// A bit for each, where a list of units would be an allocation in each poll.
pub struct Units([u64; 4]);

impl Units {
    /// Adds a unit, unless it is among them.
    pub fn insert(&mut self, unit: UnitId) {
        let (word, bit) = Self::place(unit);
        self.0[word] |= bit;
    }

    /// Whether a unit is among them.
    #[must_use]
    pub fn contains(self, unit: UnitId) -> bool {
        let (word, bit) = Self::place(unit);
        self.0[word] & bit != 0
    }

    /// How many they are.
    #[must_use]
    pub fn count(self) -> usize {
        self.0.into_iter().map(|word| word.count_ones() as usize).sum()
    }

    fn place(UnitId(unit): UnitId) -> (usize, u64) {
        (usize::from(unit / 64), 1 << (unit % 64))
    }
}

/// One configured value of one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its place among all points of the configuration.
    pub id: PointId,
    /// The unit it is read from.
    pub unit: UnitId,
    /// Where it begins.
    pub reference: Reference,
    /// How its registers become a value.
    pub format: Format,
    /// The points of a unit and table that have the same number here are read by one request or not at all.
    pub together: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_numbers_map_to_addresses_and_nothing_else_is_a_register() {
        use Table::{Coils as C, DiscreteInputs as D, HoldingRegisters as H, InputRegisters as I};
        let cases = [
            (I, 30_001, Some(0)),
            (I, 39_999, Some(9_998)),
            (I, 300_001, Some(0)),
            (I, 310_000, Some(9_999)),
            (I, 365_536, Some(65_535)),
            (H, 40_001, Some(0)),
            (H, 49_999, Some(9_998)),
            (H, 400_001, Some(0)),
            (H, 465_536, Some(65_535)),
            (C, 1, Some(0)),
            (C, 10_001, Some(10_000)),
            (C, 65_536, Some(65_535)),
            (D, 10_001, Some(0)),
            (D, 19_999, Some(9_998)),
            (D, 100_001, Some(0)),
            (D, 165_536, Some(65_535)),
            (C, 0, None),
            (C, 65_537, None),
            (D, 1, None),
            (D, 20_000, None),
            (D, 165_537, None),
            (I, 30_000, None),
            (I, 40_000, None),
            (I, 40_001, None),
            (I, 300_000, None),
            (I, 365_537, None),
            (H, 40_000, None),
            (H, 50_000, None),
            (H, 30_001, None),
            (H, 465_537, None),
            (I, 0, None),
            (I, -5, None),
            (I, i64::MAX, None),
        ];
        for (table, number, address) in cases {
            let got = Reference::new(table, number).map(Reference::address);
            assert_eq!(got, address, "{table} {number}");
        }
    }
    #[test]
    fn keys_are_those_that_the_server_knows() {
        use Table::{Coils, DiscreteInputs, HoldingRegisters, InputRegisters};
        let cases = [
            (InputRegisters, 30_387, "input_register_30387"),
            (HoldingRegisters, 465_536, "holding_register_465536"),
            (Coils, 1, "coil_00001"),
            (Coils, 10_000, "coil_010000"),
            (DiscreteInputs, 10_001, "discrete_input_10001"),
        ];
        for (table, number, key) in cases {
            assert_eq!(Reference::new(table, number).unwrap().to_string(), key);
        }
    }

    #[test]
    fn each_of_256_units_is_told_from_the_others() {
        let mut units = Units::default();
        for unit in (0..=255).map(UnitId) {
            assert!(!units.contains(unit), "{unit}");
            units.insert(unit);
            units.insert(unit);
            assert!(units.contains(unit), "{unit}");
            assert_eq!(units.count(), usize::from(unit.0) + 1);
        }
    }

    #[test]
    fn a_run_ends_with_its_table_and_its_form() {
        use Table::{Coils, DiscreteInputs, InputRegisters};
        let cases = [
            (InputRegisters, 30_001, 9_998, Some(39_999)),
            (InputRegisters, 30_001, 9_999, None),
            (InputRegisters, 39_999, 260_002, None),
            (InputRegisters, 365_535, 1, Some(365_536)),
            (InputRegisters, 365_535, 2, None),
            (Coils, 9_999, 1, Some(10_000)),
            (DiscreteInputs, 19_999, 1, None),
        ];
        for (table, number, count, end) in cases {
            let after = Reference::new(table, number).unwrap().after(count).map(Reference::number);
            assert_eq!(after, end, "{table} {number} {count}");
        }
    }
}
