//! The specification's words: tables, addresses, reference numbers, units, points.
//!
//! Owns the rule that maps a configured reference number to the 0-based address on the wire. A
//! [`Reference`] cannot be out of its table's range.

use std::fmt;

use crate::reading::PointId;

/// A table of a Modbus device (Modbus Application Protocol 1.1b3, 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Read-only 16-bit registers, function code 4.
    InputRegisters,
    /// Read-write 16-bit registers, function code 3.
    HoldingRegisters,
}

impl Table {
    /// The key under which the server knows a register of this table is this, `_` and the reference number.
    #[must_use]
    pub fn key_prefix(self) -> &'static str {
        match self {
            Self::InputRegisters => "input_register",
            Self::HoldingRegisters => "holding_register",
        }
    }

    /// First reference numbers of the five-digit and the six-digit form.
    fn bases(self) -> (u32, u32) {
        match self {
            Self::InputRegisters => (30_001, 300_001),
            Self::HoldingRegisters => (40_001, 400_001),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InputRegisters => "input registers",
            Self::HoldingRegisters => "holding registers",
        })
    }
}

/// A register as the configuration names it: 30001–39999 or 300001–365536 for input registers,
/// 40001–49999 or 400001–465536 for holding registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    table: Table,
    number: u32,
}

impl Reference {
    /// The register with this reference number, or `None` when the number is not one of `table`.
    #[must_use]
    pub fn new(table: Table, number: i64) -> Option<Self> {
        let number = u32::try_from(number).ok()?;
        let (five, six) = table.bases();
        let known = (five..five + 9_999).contains(&number) || (six..six + 65_536).contains(&number);
        known.then_some(Self { table, number })
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
    /// The key of the point at the server, `input_register_30387`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.table.key_prefix(), self.number)
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

/// What a register's word is multiplied by before it is posted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// The word itself, as an integer: `multiplier: 0`.
    Raw,
    /// The word times this finite factor, as a float.
    Times(f64),
}

/// One configured value of one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Its place among all points of the configuration.
    pub id: PointId,
    /// The unit it is read from.
    pub unit: UnitId,
    /// Where it is.
    pub reference: Reference,
    /// How its word becomes a value.
    pub scale: Scale,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_numbers_map_to_addresses_and_nothing_else_is_a_register() {
        use Table::{HoldingRegisters as H, InputRegisters as I};
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
}
