//! How the registers of a point become its value: data type, order of bytes, scaling, what is no value. Plain data.
//!
//! A [`Format`] says what was configured and knows how many registers that takes; [`decode`](super::decode) performs
//! it. The original agent knows one kind, an unsigned 16-bit word times a multiplier: that is [`Format::Word`],
//! and it costs nothing more than it did.

use std::fmt;
use std::sync::Arc;

/// How the registers of a point become a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// An unsigned word (or a bit of a table of bits), whatever it holds.
    Word(Scale),
    /// Everything else.
    // Shared: a plan, and whatever is asked instead of its requests, has a format for each point.
    Typed(Arc<Typed>),
}

impl Format {
    /// How many registers it takes.
    #[must_use]
    pub fn width(&self) -> u16 {
        match self {
            Self::Word(_) => 1,
            Self::Typed(typed) => typed.kind.width(),
        }
    }

    /// What tells points of one register apart.
    #[must_use]
    pub fn part(&self) -> Part {
        match self {
            Self::Word(_) => Part::Whole,
            Self::Typed(typed) => match typed.kind {
                Kind::Uint8(byte) | Kind::Int8(byte) => Part::Byte(byte),
                Kind::Bits { first, last } => Part::Bits { first, last },
                _ => Part::Whole,
            },
        }
    }

    /// The address, in the point's own table and unit, of the register that holds its power of ten.
    #[must_use]
    pub fn scale_address(&self) -> Option<u16> {
        match self {
            Self::Word(_) => None,
            Self::Typed(typed) => typed.scale_address,
        }
    }
}

impl fmt::Display for Format {
    /// The type, as people call it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(_) => f.write_str("uint16"),
            Self::Typed(typed) => typed.kind.fmt(f),
        }
    }
}

/// What a number as read is multiplied by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Nothing; an integer stays one: `multiplier: 0`, and the default of all types but `uint16`.
    Raw,
    /// This finite factor; the value is a float: the default of `uint16`, with the factor 1, as in the original.
    Times(f64),
}

/// A format that the original agent does not know.
#[derive(Debug, Clone, PartialEq)]
pub struct Typed {
    /// What the registers hold.
    pub kind: Kind,
    /// How their bytes are arranged.
    pub order: Order,
    /// What the number is multiplied by.
    pub scale: Scale,
    /// Where its power of ten is, as an address in the same table and unit.
    pub scale_address: Option<u16>,
    /// What is added in the end.
    pub offset: f64,
    /// Patterns that mean that there is no value.
    pub unavailable: Vec<u64>,
    /// Less than this is no value.
    pub minimum: Option<f64>,
    /// More than this is no value.
    pub maximum: Option<f64>,
}

impl Typed {
    /// A number of this kind as it stands in the registers, and nothing more.
    #[must_use]
    pub fn plain(kind: Kind) -> Self {
        Self {
            kind,
            order: Order::default(),
            scale: Scale::Raw,
            scale_address: None,
            offset: 0.0,
            unavailable: Vec::new(),
            minimum: None,
            maximum: None,
        }
    }
}

/// A half of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Byte {
    /// The more significant one, first on the wire.
    High,
    /// The less significant one.
    Low,
}

/// What the registers of a point hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An unsigned byte.
    Uint8(Byte),
    /// A byte in two's complement.
    Int8(Byte),
    /// An unsigned word.
    Uint16,
    /// A word in two's complement.
    Int16,
    /// Two registers, unsigned.
    Uint32,
    /// Two registers in two's complement.
    Int32,
    /// Four registers, unsigned.
    Uint64,
    /// Four registers in two's complement.
    Int64,
    /// IEEE 754 binary16.
    Float16,
    /// IEEE 754 binary32.
    Float32,
    /// IEEE 754 binary64.
    Float64,
    /// Four decimal digits in each of so many registers.
    Bcd(u16),
    /// These bits of a word as a number, 0 being the least significant one.
    Bits {
        /// The least significant bit.
        first: u8,
        /// The most significant bit.
        last: u8,
    },
}

impl Kind {
    /// How many registers it takes.
    #[must_use]
    pub fn width(self) -> u16 {
        match self {
            Self::Uint8(_) | Self::Int8(_) | Self::Uint16 | Self::Int16 | Self::Float16 | Self::Bits { .. } => 1,
            Self::Uint32 | Self::Int32 | Self::Float32 => 2,
            Self::Uint64 | Self::Int64 | Self::Float64 => 4,
            Self::Bcd(registers) => registers,
        }
    }

    /// Whether it is a floating-point number.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float16 | Self::Float32 | Self::Float64)
    }

    /// The patterns by which a device that follows SunSpec says that it has no such value, or no such `counter`.
    ///
    /// Source: SunSpec Device Information Model Specification, 4.2.1, "unimplemented" values. An accumulator (`acc16`,
    /// `acc32`, `acc64`) says 0. The pattern of an unsigned number is taken for one as well: some devices say it, and a
    /// counter passes it once in its life at most. Those of floats are not numbers and need no pattern.
    #[must_use]
    pub fn sunspec_unavailable(self, counter: bool) -> Vec<u64> {
        let unimplemented = match self {
            // Bits, too: the whole word is compared, before they are taken out of it.
            Self::Uint16 | Self::Bits { .. } => 0xFFFF,
            Self::Int16 => 0x8000,
            Self::Uint32 => 0xFFFF_FFFF,
            Self::Int32 => 0x8000_0000,
            Self::Uint64 => u64::MAX,
            Self::Int64 => 1 << 63,
            Self::Uint8(_) | Self::Int8(_) | Self::Bcd(_) | Self::Float16 | Self::Float32 | Self::Float64 => {
                return Vec::new();
            }
        };
        let accumulates = counter && matches!(self, Self::Uint16 | Self::Uint32 | Self::Uint64);
        if accumulates { vec![0, unimplemented] } else { vec![unimplemented] }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let half = |byte: &Byte| if *byte == Byte::High { " high" } else { " low" };
        match self {
            Self::Uint8(byte) => write!(f, "uint8{}", half(byte)),
            Self::Int8(byte) => write!(f, "int8{}", half(byte)),
            Self::Uint16 => f.write_str("uint16"),
            Self::Int16 => f.write_str("int16"),
            Self::Uint32 => f.write_str("uint32"),
            Self::Int32 => f.write_str("int32"),
            Self::Uint64 => f.write_str("uint64"),
            Self::Int64 => f.write_str("int64"),
            Self::Float16 => f.write_str("float16"),
            Self::Float32 => f.write_str("float32"),
            Self::Float64 => f.write_str("float64"),
            Self::Bcd(registers) => write!(f, "bcd{}", 16 * registers),
            Self::Bits { first, last } if first == last => write!(f, "bit {first}"),
            Self::Bits { first, last } => write!(f, "bits {first}..{last}"),
        }
    }
}

/// How the bytes of a value of several registers are arranged; `A` is the most significant byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As the specification has it.
    #[default]
    Abcd,
    /// The least significant byte first.
    Dcba,
    /// The bytes of each register exchanged.
    Badc,
    /// The least significant register first.
    Cdab,
}

impl Order {
    /// Whether the least significant register comes first.
    #[must_use]
    pub fn swaps_words(self) -> bool {
        matches!(self, Self::Dcba | Self::Cdab)
    }

    /// Whether the bytes of each register are exchanged.
    #[must_use]
    pub fn swaps_bytes(self) -> bool {
        matches!(self, Self::Dcba | Self::Badc)
    }

    /// The order that this text spells: of two, four or eight letters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "AB" | "ABCD" | "ABCDEFGH" => Some(Self::Abcd),
            "BA" | "DCBA" | "HGFEDCBA" => Some(Self::Dcba),
            "BADC" | "BADCFEHG" => Some(Self::Badc),
            "CDAB" | "GHEFCDAB" => Some(Self::Cdab),
            _ => None,
        }
    }
}

/// The part of a register that a point is about; the end of its key at the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// All of it, or of several registers.
    Whole,
    /// One of its bytes.
    Byte(Byte),
    /// Some of its bits.
    Bits {
        /// The least significant bit.
        first: u8,
        /// The most significant bit.
        last: u8,
    },
}

impl fmt::Display for Part {
    /// What follows the key of the register: `_bit_3`, `_bits_4_7`, `_high`, `_low`, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Byte(Byte::High) => f.write_str("_high"),
            Self::Byte(Byte::Low) => f.write_str("_low"),
            Self::Bits { first, last } if first == last => write!(f, "_bit_{first}"),
            Self::Bits { first, last } => write!(f, "_bits_{first}_{last}"),
        }
    }
}
