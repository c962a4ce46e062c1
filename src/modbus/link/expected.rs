//! What the reply to a request must look like, field by field: pure.
//!
//! Owns the comparison of a reply's head with its request. Fields are compared in the order of the wire,
//! each as soon as it is whole, so that the verdict does not depend on how the bytes were cut; what is
//! known to be wrong is refused before the rest arrives.

use crate::modbus::error::Violation;

/// MBAP header, function code, address, quantity.
pub(super) const REQUEST_LEN: usize = 12;
/// MBAP header, function code, byte count (or exception code).
pub(super) const REPLY_HEAD_LEN: usize = 9;
/// Function codes whose replies have eight entries in a byte.
const READ_COILS: u8 = 1;
const READ_DISCRETE_INPUTS: u8 = 2;
/// Unit, function code, exception code.
const EXCEPTION_LENGTH: u16 = 3;
/// Marks the function code of an exception.
const EXCEPTION_BIT: u8 = 0x80;

/// What the reply to a request must look like.
pub(super) struct Expected {
    transaction: u16,
    unit: u8,
    function: u8,
    quantity: u16,
}

impl Expected {
    /// As the bytes of a request for registers or bits ask for it.
    pub(super) fn by(request: &[u8; REQUEST_LEN]) -> Self {
        let [t0, t1, _, _, _, _, unit, function, _, _, q0, q1] = *request;
        Self { transaction: u16::from_be_bytes([t0, t1]), unit, function, quantity: u16::from_be_bytes([q0, q1]) }
    }

    fn byte_count(&self) -> u16 {
        // 250 at most; a plan asks for 125 registers or 2000 bits at most.
        match self.function {
            READ_COILS | READ_DISCRETE_INPUTS => self.quantity.div_ceil(8),
            _ => self.quantity.saturating_mul(2),
        }
    }

    /// The length field when the device does what it was asked: unit, function code, byte count, data.
    pub(super) fn length(&self) -> u16 {
        self.byte_count().saturating_add(3)
    }

    /// Compares the first bytes of a reply; its length field once the whole head is there and fits.
    pub(super) fn check(&self, head: &[u8]) -> Result<Option<u16>, Violation> {
        let [t0, t1, rest @ ..] = head else {
            return Ok(None);
        };
        let found = u16::from_be_bytes([*t0, *t1]);
        if found != self.transaction {
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
        if length != EXCEPTION_LENGTH && length != self.length() {
            return Err(self.wrong_length(length));
        }

        let [unit, rest @ ..] = rest else {
            return Ok(None);
        };
        if *unit != self.unit {
            let (expected, found) = (self.unit, *unit);
            return Err(Violation::Unit { expected, found });
        }

        let [function, rest @ ..] = rest else {
            return Ok(None);
        };
        let is_exception = *function == self.function | EXCEPTION_BIT;
        if *function != self.function && !is_exception {
            let (expected, found) = (self.function, *function);
            return Err(Violation::Function { expected, found });
        }
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
        let (expected, found) = (self.byte_count(), u16::from(*count));
        if !is_exception && found != expected {
            return Err(Violation::ByteCount { expected, found });
        }
        Ok(Some(length))
    }

    fn wrong_length(&self, found: u16) -> Violation {
        let expected = self.length();
        Violation::Length { expected, found }
    }
}
