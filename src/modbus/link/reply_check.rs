//! What the reply to a request must look like in either framing, field by field: pure.
//!
//! Owns the comparison of a reply's head with its request. Fields are compared in the order of the wire,
//! each as soon as it is whole, so that the verdict does not depend on how the bytes were cut; what is
//! known to be wrong is refused before the rest arrives. A field is left out only where the device's settings say
//! so ([`Ignored`]).

use crate::modbus::error::Violation;
use crate::modbus::settings::Settings;

/// MBAP header, function code, address, quantity: no request is longer.
pub(super) const REQUEST_LEN: usize = 12;
/// The part of an MBAP frame that its length field does not count.
const UNCOUNTED: usize = 6;
/// Unit, function code, byte count.
const RTU_HEAD: usize = 3;
/// Low byte first.
const CHECKSUM: usize = 2;
/// Function codes whose replies have eight entries in a byte.
const READ_COILS: u8 = 1;
const READ_DISCRETE_INPUTS: u8 = 2;
/// Unit, function code, exception code.
const EXCEPTION_LENGTH: u16 = 3;
/// Marks the function code of an exception.
const EXCEPTION_BIT: u8 = 0x80;

/// What is around a PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// The MBAP header of Modbus TCP.
    Mbap,
    /// Unit and checksum, as on a serial line.
    Rtu,
}

impl Framing {
    /// How long a request is.
    pub(super) fn request_len(self) -> usize {
        match self {
            Self::Mbap => REQUEST_LEN,
            // Unit, function code, address, quantity, checksum.
            Self::Rtu => 8,
        }
    }
}

/// Fields of a reply that a device is allowed to get wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ignored {
    /// `ignore_transaction_id`
    pub transaction: bool,
    /// `ignore_unit_id`
    pub unit: bool,
}

impl Ignored {
    pub(super) fn by(settings: &Settings) -> Self {
        Self { transaction: settings.ignore_transaction_id, unit: settings.ignore_unit_id }
    }
}

/// What the reply to a request must look like.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReplyCheck {
    framing: Framing,
    ignored: Ignored,
    pub(super) transaction: u16,
    pub(super) unit: u8,
    pub(super) function: u8,
    quantity: u16,
}

impl ReplyCheck {
    /// As the bytes of a request for registers or bits ask for it.
    pub(super) fn by(framing: Framing, ignored: Ignored, request: &[u8; REQUEST_LEN]) -> Self {
        let (transaction, pdu) = match *request {
            [t0, t1, _, _, _, _, unit, function, _, _, q0, q1] if framing == Framing::Mbap => {
                (u16::from_be_bytes([t0, t1]), [unit, function, q0, q1])
            }
            [unit, function, _, _, q0, q1, ..] => (0, [unit, function, q0, q1]),
        };
        let [unit, function, q0, q1] = pdu;
        Self { framing, ignored, transaction, unit, function, quantity: u16::from_be_bytes([q0, q1]) }
    }

    /// The whole length of the reply when the device does what it was asked.
    pub(super) fn whole(&self) -> usize {
        match self.framing {
            Framing::Mbap => UNCOUNTED + usize::from(self.length()),
            Framing::Rtu => RTU_HEAD + usize::from(self.byte_count()) + CHECKSUM,
        }
    }

    /// Compares the head of a reply as far as it has come; its whole length once the head is there and fits.
    ///
    /// # Errors
    /// The first field that does not fit. The checksum of RTU is not looked at.
    pub(super) fn check(&self, reply: &[u8]) -> Result<Option<usize>, Violation> {
        match self.framing {
            Framing::Mbap => Ok(self.check_mbap(reply)?.map(|length| UNCOUNTED + usize::from(length))),
            Framing::Rtu => self.check_rtu(reply),
        }
    }

    /// Writes the unit that was asked into a whole reply of another one.
    pub(super) fn correct_unit(&self, reply: &mut [u8]) {
        match (self.framing, reply) {
            (Framing::Mbap, [_, _, _, _, _, _, unit, ..]) => *unit = self.unit,
            (Framing::Rtu, [frame @ .., c0, c1]) => {
                if let Some(unit) = frame.first_mut() {
                    *unit = self.unit;
                }
                // The codec looks at the checksum once more.
                [*c0, *c1] = checksum(frame).to_le_bytes();
            }
            (Framing::Mbap | Framing::Rtu, _) => {}
        }
    }

    /// Whether any unit may answer.
    pub(super) fn is_of_any_unit(&self) -> bool {
        self.ignored.unit
    }

    pub(super) fn byte_count(&self) -> u16 {
        // 250 at most; a plan asks for 125 registers or 2000 bits at most.
        match self.function {
            READ_COILS | READ_DISCRETE_INPUTS => self.quantity.div_ceil(8),
            _ => self.quantity.saturating_mul(2),
        }
    }

    /// The length field when the device does what it was asked: unit, function code, byte count, data.
    fn length(&self) -> u16 {
        self.byte_count().saturating_add(3)
    }

    /// The length field once the whole head is there and fits.
    fn check_mbap(&self, head: &[u8]) -> Result<Option<u16>, Violation> {
        let [t0, t1, rest @ ..] = head else {
            return Ok(None);
        };
        let found = u16::from_be_bytes([*t0, *t1]);
        if found != self.transaction && !self.ignored.transaction {
            let expected = self.transaction;
            return Err(Violation::TransactionId { expected, found });
        }

        let [p0, p1, rest @ ..] = rest else {
            return Ok(None);
        };
        let found = u16::from_be_bytes([*p0, *p1]);
        if found != 0 {
            return Err(Violation::ProtocolId { found });
        }

        let [l0, l1, rest @ ..] = rest else {
            return Ok(None);
        };
        let length = u16::from_be_bytes([*l0, *l1]);
        // Before anything behind it is waited for: whoever says 65535 must not be listened to for so long.
        if length != EXCEPTION_LENGTH && length != self.length() {
            return Err(self.wrong_length(length));
        }

        let [unit, rest @ ..] = rest else {
            return Ok(None);
        };
        self.check_unit(*unit)?;

        let [function, rest @ ..] = rest else {
            return Ok(None);
        };
        let is_exception = self.check_function(*function)?;
        if is_exception != (length == EXCEPTION_LENGTH) {
            return Err(if is_exception {
                let (expected, found) = (EXCEPTION_LENGTH, length);
                Violation::Length { expected, found }
            } else {
                self.wrong_length(length)
            });
        }

        let [count, ..] = rest else {
            return Ok(None);
        };
        if !is_exception {
            self.check_count(*count)?;
        }
        Ok(Some(length))
    }

    fn check_rtu(&self, head: &[u8]) -> Result<Option<usize>, Violation> {
        let [unit, rest @ ..] = head else {
            return Ok(None);
        };
        self.check_unit(*unit)?;

        let [function, rest @ ..] = rest else {
            return Ok(None);
        };
        if self.check_function(*function)? {
            return Ok(Some(RTU_HEAD + CHECKSUM));
        }

        let [count, ..] = rest else {
            return Ok(None);
        };
        self.check_count(*count)?;
        Ok(Some(self.whole()))
    }

    fn check_unit(&self, found: u8) -> Result<(), Violation> {
        let expected = self.unit;
        if found == expected || self.ignored.unit { Ok(()) } else { Err(Violation::Unit { expected, found }) }
    }

    /// Whether it is that of an exception.
    fn check_function(&self, found: u8) -> Result<bool, Violation> {
        let expected = self.function;
        // Gateways built on pymodbus leave the function out of the exceptions that are their own (10, 11, 4).
        if found == expected | EXCEPTION_BIT || found == EXCEPTION_BIT {
            return Ok(true);
        }
        if found == expected { Ok(false) } else { Err(Violation::Function { expected, found }) }
    }

    fn check_count(&self, found: u8) -> Result<(), Violation> {
        let (expected, found) = (self.byte_count(), u16::from(found));
        if found == expected { Ok(()) } else { Err(Violation::ByteCount { expected, found }) }
    }

    fn wrong_length(&self, found: u16) -> Violation {
        let expected = self.length();
        Violation::Length { expected, found }
    }
}

/// The checksum of the serial line (Modbus over Serial Line 1.02, 6.2.2); 0 over a frame that ends in its own.
pub(super) fn checksum(frame: &[u8]) -> u16 {
    frame.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_serial_line() {
        // The example of the specification, 6.2.2, and the check value of the CRC catalogue.
        assert_eq!(checksum(&[0x02, 0x07]), 0x1241);
        assert_eq!(checksum(b"123456789"), 0x4B37);
        assert_eq!(checksum(&[0x02, 0x07, 0x41, 0x12]), 0);
    }
}
