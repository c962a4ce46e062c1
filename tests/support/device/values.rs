//! What registers hold: values that prove where they come from, or a fixed picture of a recorded device.
//!
//! A counting device raises `n` by one with each answer per unit and table; register `a` of an answer holds
//! `(n + 7919·a + 104729·device + 1299709·unit) mod 65536`. From a delivered value the [judge](crate::support::judge)
//! gets `n` back, and so the one answer that it came in.

use std::fmt;
use std::ops::Range;

use super::super::now_ms;

/// A table that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Function code 4, reference numbers from 30001 or 300001.
    Input,
    /// Function code 3, reference numbers from 40001 or 400001.
    Holding,
    /// Bits, function code 1, reference numbers from 1.
    Coil,
    /// Bits, function code 2, reference numbers from 10001 or 100001.
    Discrete,
}

impl Table {
    /// The table that a function code reads.
    pub fn of_function(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Coil),
            2 => Some(Self::Discrete),
            3 => Some(Self::Holding),
            4 => Some(Self::Input),
            _ => None,
        }
    }

    /// The list of a polling group, the start of a key and the first five-digit number.
    pub fn words(self) -> (&'static str, &'static str, u32) {
        match self {
            Self::Input => ("input_registers", "input_register", 30_001),
            Self::Holding => ("holding_registers", "holding_register", 40_001),
            Self::Coil => ("coils", "coil", 1),
            Self::Discrete => ("discrete_inputs", "discrete_input", 10_001),
        }
    }

    /// How many entries a request may ask for.
    pub fn longest(self) -> u16 {
        match self {
            Self::Input | Self::Holding => 125,
            Self::Coil | Self::Discrete => 2_000,
        }
    }

    /// The table and the 0-based address of a key such as `input_register_30387`.
    pub fn of_key(key: &str) -> Option<(Self, u16)> {
        let (table, five, six, number) = match key.rsplit_once('_')? {
            ("input_register", number) => (Self::Input, 30_001, 300_001, number),
            ("holding_register", number) => (Self::Holding, 40_001, 400_001, number),
            ("coil", number) => (Self::Coil, 1, 65_537, number),
            ("discrete_input", number) => (Self::Discrete, 10_001, 100_001, number),
            _ => return None,
        };
        let number: u32 = number.parse().ok()?;
        let address = number.checked_sub(six).or_else(|| number.checked_sub(five))?;
        Some((table, u16::try_from(address).ok()?))
    }
}

/// What the registers of a device hold.
#[derive(Debug, Clone)]
pub enum Values {
    /// Values that count up and are no other device's.
    Counting {
        /// The device's number in the formula.
        device: u32,
    },
    /// Input register `a` holds `7a + 13`, holding register `a` `11a + 5`, every third coil and every second discrete
    /// input is on, but for some.
    Fixed {
        /// Those that hold something else; no unit means every unit.
        overrides: Vec<(Option<u8>, Table, u16, u16)>,
    },
    /// Register `value` holds 6, 60 or 600 with the power of ten in register `scale`, of which it is 600; the power
    /// moves with each third answer.
    Moving {
        /// The address of the value.
        value: u16,
        /// The address of its power of ten.
        scale: u16,
    },
}

impl Values {
    /// What the register at `address` holds in answer `n`.
    pub fn at(&self, unit: u8, table: Table, address: u16, n: u64) -> u16 {
        match self {
            Self::Counting { device } => {
                let sum = n + offset(*device, unit, address);
                u16::try_from(sum % 65_536).expect("a word")
            }
            Self::Fixed { overrides } => {
                let named = overrides.iter().find(|(of, in_table, at, _)| {
                    of.is_none_or(|of| of == unit) && (*in_table, *at) == (table, address)
                });
                let formula = match table {
                    Table::Input => address.wrapping_mul(7).wrapping_add(13),
                    Table::Holding => address.wrapping_mul(11).wrapping_add(5),
                    Table::Coil => u16::from(address.is_multiple_of(3)),
                    Table::Discrete => u16::from(address.is_multiple_of(2)),
                };
                named.map_or(formula, |(.., value)| *value)
            }
            Self::Moving { value, scale } => match (n / 3 % 3, address) {
                (0, address) if address == *value => 6,
                (1, address) if address == *value => 60,
                (2, address) if address == *value => 600,
                (0, address) if address == *scale => 2,
                (1, address) if address == *scale => 1,
                _ => 0,
            },
        }
    }

    /// The `n` modulo 65536 of the answer that `value` came in.
    pub fn n_of(&self, unit: u8, address: u16, value: u16) -> u64 {
        match self {
            Self::Counting { device } => (u64::from(value) + 65_536 - offset(*device, unit, address) % 65_536) % 65_536,
            Self::Fixed { .. } | Self::Moving { .. } => 0,
        }
    }
}

fn offset(device: u32, unit: u8, address: u16) -> u64 {
    7_919 * u64::from(address) + 104_729 * u64::from(device) + 1_299_709 * u64::from(unit)
}

/// What may become of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was right: every value in it must be delivered.
    Due,
    /// It may have arrived whole or not: delivering it is right, and so is not delivering it.
    Optional,
    /// It was late, cut or a lie: no value in it may ever be delivered.
    Forbidden,
}

/// An answer with values.
#[derive(Debug, Clone, Copy)]
pub struct Served {
    /// Unit that answered.
    pub unit: u8,
    /// Table read.
    pub table: Table,
    /// First register, 0-based.
    pub first: u16,
    /// How many registers.
    pub count: u16,
    /// Which answer of this unit and table.
    pub n: u64,
    /// When its last byte was written, in ms of the wall clock.
    pub at_ms: u64,
    /// What may become of it.
    pub fate: Fate,
}

impl Served {
    /// An answer that is about to be sent.
    pub fn now(unit: u8, table: Table, first: u16, count: u16, n: u64, fate: Fate) -> Self {
        Self { unit, table, first, count, n, at_ms: now_ms(), fate }
    }

    /// The addresses in it.
    pub fn addresses(&self) -> Range<u32> {
        u32::from(self.first)..u32::from(self.first) + u32::from(self.count)
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unit, table, first, count, n, at_ms, fate } = self;
        write!(f, "{fate:?} answer {n} of unit {unit}, {table:?} {first}+{count}, at {at_ms}")
    }
}
