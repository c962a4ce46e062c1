//! How to treat one device: plain values, named as the keys of the configuration.
//!
//! Owns the defaults, and with them every constant of the device side that a person may want otherwise. The
//! bounds are those of the protocol and of sense; the configuration refuses what is beyond them.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::plan::Limits;
use crate::net::tls::Tls;

/// How requests travel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Transport {
    /// Modbus TCP.
    #[default]
    Tcp,
    /// The frames of a serial line in a TCP connection, to a gateway that only passes bytes on.
    Rtu,
    /// Modbus/TCP Security.
    Tls(Tls),
}

/// What a serial line adds to a character to find errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// Nothing.
    None,
    /// A bit that makes the number of ones even.
    Even,
    /// A bit that makes it odd.
    Odd,
}

/// What may be set for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How requests travel to it; on a serial port always as RTU.
    pub transport: Transport,
    /// For name resolution and all handshakes, all addresses together.
    pub connect_timeout: Duration,
    /// From a request to the last byte of its reply.
    pub response_timeout: Duration,
    /// Between a new connection and the first request over it.
    pub pause_after_connect: Duration,
    /// Between a reply and the next request.
    pub pause_between_requests: Duration,
    /// Whether the connection is given up after each poll, for others who want it.
    pub close_after_poll: bool,
    /// Whether a reply of Modbus TCP is taken though its transaction id is not that of the request.
    pub ignore_transaction_id: bool,
    /// Whether a reply is taken though its unit is not that of the request.
    pub ignore_unit_id: bool,
    /// Registers in one request at most.
    pub max_registers: u16,
    /// Coils or discrete inputs in one request at most.
    pub max_bits: u16,
    /// So many registers (or bits) that nobody asked for may be read to save a request.
    pub max_gap: u16,
    /// How often a device that says that it is busy is asked again in the same poll.
    pub retries: u16,
    /// The longest wait before a device that does not answer is tried again.
    pub max_backoff: Duration,
    /// Bits in a second on a serial port.
    pub baud: u32,
    /// Parity on a serial port.
    pub parity: Parity,
    /// Stop bits on a serial port: 1 or 2.
    pub stop_bits: u16,
}

impl Settings {
    /// What a timeout may be.
    pub const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
    /// What a pause may be.
    pub const PAUSES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);
    /// What `max_registers` may be, by the protocol.
    pub const REGISTERS: RangeInclusive<u16> = 1..=Limits::MAX_REGISTERS;
    /// What `max_bits` may be, by the protocol.
    pub const BITS: RangeInclusive<u16> = 1..=Limits::MAX_BITS;
    /// What `max_gap` may be: less than the longest request.
    // Two that are wanted and 123 between them make the longest request, 125.
    pub const GAPS: RangeInclusive<u16> = 0..=123;
    /// What `retries` may be.
    pub const RETRIES: RangeInclusive<u16> = 0..=10;
    /// What `max_backoff` may be.
    pub const BACKOFFS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
    /// What `baud` may be.
    pub const BAUDS: RangeInclusive<u32> = 110..=4_000_000;
    /// What `stop_bits` may be.
    pub const STOP_BITS: RangeInclusive<u16> = 1..=2;

    /// Those under which something may be learned of a device that would not hold under others, as one word.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Rtu => "rtu",
            Transport::Tls(_) => "tls",
        };
        let Self { max_registers, max_bits, max_gap, .. } = self;
        let pause = self.pause_after_connect.as_millis();
        format!("{transport},{max_registers},{max_bits},{max_gap},{pause}ms")
    }

    /// What one request may ask for.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let limits = Limits::new(self.max_registers).and_then(|limits| limits.with_bits(self.max_bits));
        // Out of bounds they could be in a test only.
        limits.unwrap_or_default().with_gap(self.max_gap)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            transport: Transport::Tcp,
            connect_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(3),
            pause_after_connect: Duration::ZERO,
            pause_between_requests: Duration::ZERO,
            close_after_poll: false,
            ignore_transaction_id: false,
            ignore_unit_id: false,
            max_registers: Limits::MAX_REGISTERS,
            max_bits: Limits::MAX_BITS,
            max_gap: 0,
            // 100, 200 and 400 ms later.
            retries: 3,
            max_backoff: Duration::from_secs(15),
            // The specification's own (2.4, 2.5.1).
            baud: 19_200,
            parity: Parity::Even,
            stop_bits: 1,
        }
    }
}
