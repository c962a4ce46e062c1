//! One connection to a device, with one request in flight, under a deadline: the only file that names
//! `tokio_modbus`.
//!
//! Owns the life of the connection. It asks for bits and registers with function codes 1 to 4 and cannot express
//! another request. A reply is believed only when it fits its request in every field (`guard`), is whole
//! before the deadline (of the exchange, not of each read), and has one word per register or bit. Between exchanges it
//! keeps the pauses that the device is to have, which count for no deadline.
//!
//! Each exchange has a client of `tokio_modbus` of its own on the connection (see `wire`): a client holds two buffers of
//! 8 KiB, which would be most of what a device costs in memory, and cold in the processor's caches when its turn comes.
//!
//! Invariant: after any failure but an exception, and after a read that was abandoned, the connection is
//! gone: nothing that arrives late can be taken for an answer. The link then answers
//! [`ReadError::LinkClosed`], and its owner makes a new one; closing sends RST.

mod dial;
mod expected;
mod guard;
mod serial;
#[cfg(test)]
mod tests;
pub mod tls;
mod wire;

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_modbus::client::{Client, rtu, tcp};
use tokio_modbus::{ProtocolError, Request, Response, Slave};

use crate::modbus::error::{ConnectError, Exception, ReadError, Violation};
use crate::modbus::plan::Block;
use crate::modbus::register::Table;
use crate::modbus::settings::{Settings, Transport};
use crate::resolve::Resolver;
use expected::Framing;
use guard::FrameGuard;
use wire::Wire;

/// A connection to one device, open until the first failure.
pub struct Link {
    /// Absent while a request is in flight, and for ever after a failure.
    wire: Option<Wire>,
    response_timeout: Duration,
    pause: Duration,
    /// No request leaves before.
    silent_until: Option<Instant>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("open", &self.wire.is_some()).finish_non_exhaustive()
    }
}

impl Link {
    /// Connects to the first of the host's addresses that accepts.
    ///
    /// # Errors
    ///
    /// When no address accepts within the connect timeout, or not as it must.
    pub async fn connect(host: &mut Resolver, settings: &Settings) -> Result<Self, ConnectError> {
        let deadline = Instant::now() + settings.connect_timeout;
        let stream = dial::dial(host, settings.connect_timeout).await?;
        let any_transaction = settings.ignore_transaction_id;
        let link = match &settings.transport {
            Transport::Tcp => Self::over_tcp(stream, any_transaction, settings.response_timeout),
            Transport::Rtu => Self::over_rtu(stream, settings.response_timeout),
            Transport::Tls(tls) => {
                let insecure = |source| ConnectError::Tls { host: host.host().to_owned(), source };
                let stream = tls.shake_hands(stream, deadline).await.map_err(insecure)?;
                Self::over_tcp(stream, any_transaction, settings.response_timeout)
            }
        };
        Ok(link.paced(settings.pause_after_connect, settings.pause_between_requests))
    }

    /// Opens the serial port at `path`.
    ///
    /// # Errors
    ///
    /// When there is none, or it cannot be opened within the connect timeout.
    pub async fn open(path: &str, settings: &Settings) -> Result<Self, ConnectError> {
        let port = serial::open(path, settings).await?;
        let silence = serial::silence(settings.baud);
        let [first, others] = [settings.pause_after_connect, settings.pause_between_requests];
        Ok(Self::over_rtu(port, settings.response_timeout).paced(first.max(silence), others.max(silence)))
    }

    /// A link over a stream that is open already.
    pub fn over<S>(stream: S, response_timeout: Duration) -> Self
    where
        S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin + 'static,
    {
        Self::over_tcp(stream, false, response_timeout)
    }

    fn over_tcp<S>(stream: S, any_transaction: bool, response_timeout: Duration) -> Self
    where
        S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin + 'static,
    {
        let guard = FrameGuard::new(Box::new(stream) as _, Framing::Mbap).of_any_transaction(any_transaction);
        Self::with(guard, response_timeout)
    }

    /// A link over a stream that is open already, with the frames of a serial line.
    pub fn over_rtu<S>(stream: S, response_timeout: Duration) -> Self
    where
        S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin + 'static,
    {
        Self::with(FrameGuard::new(Box::new(stream) as _, Framing::Rtu), response_timeout)
    }

    fn with(guard: FrameGuard<Box<dyn wire::Stream>>, response_timeout: Duration) -> Self {
        Self { wire: Some(Wire::new(guard)), response_timeout, pause: Duration::ZERO, silent_until: None }
    }

    /// With pauses: from now, and after each exchange.
    fn paced(self, first: Duration, others: Duration) -> Self {
        let mut link = Self { pause: others, ..self };
        link.rest(first);
        link
    }

    fn rest(&mut self, pause: Duration) {
        self.silent_until = (!pause.is_zero()).then(|| Instant::now() + pause);
    }

    /// The words of `block`, one per register; of bits, one per bit, 0 or 1.
    ///
    /// # Errors
    ///
    /// When the device says no, and when the link breaks; after the latter it is closed.
    pub async fn read(&mut self, block: &Block) -> Result<Vec<u16>, ReadError> {
        if let Some(end) = self.silent_until.take() {
            sleep_until(end).await;
        }
        // Put back only by an exchange that ended well: dropping this future closes the link too.
        let wire = self.wire.take().ok_or(ReadError::LinkClosed)?;
        let result = timeout(self.response_timeout, exchange(&wire, block))
            .await
            .unwrap_or(Err(ReadError::ResponseTimeout(self.response_timeout)));
        if !matches!(&result, Err(error) if error.link_is_dead()) {
            self.wire = Some(wire);
            self.rest(self.pause);
        }
        result
    }
}

async fn exchange(wire: &Wire, block: &Block) -> Result<Vec<u16>, ReadError> {
    let unit = Slave(block.unit.0);
    let mut client = match wire.framing() {
        Framing::Mbap => tcp::attach_slave(wire.clone(), unit),
        Framing::Rtu => rtu::attach_slave(wire.clone(), unit),
    };
    match client.call(request(block)).await {
        Ok(Ok(response)) => words(response, block).map_err(ReadError::Protocol),
        Ok(Err(code)) => Err(ReadError::Exception(Exception { code: code.into() })),
        Err(tokio_modbus::Error::Transport(error)) => Err(unwrapped(error)),
        // An exception without the function that it is about, see `expected`.
        Err(tokio_modbus::Error::Protocol(ProtocolError::FunctionCodeMismatch { result: Err(no), .. })) => {
            Err(ReadError::Exception(Exception { code: no.exception.into() }))
        }
        // The guard has compared the headers already; this is here to be total.
        Err(tokio_modbus::Error::Protocol(error)) => Err(ReadError::Io(io::Error::other(error))),
    }
}

/// The one place where a request is made.
fn request(block: &Block) -> Request<'static> {
    match block.table {
        Table::InputRegisters => Request::ReadInputRegisters(block.address, block.quantity),
        Table::HoldingRegisters => Request::ReadHoldingRegisters(block.address, block.quantity),
        Table::Coils => Request::ReadCoils(block.address, block.quantity),
        Table::DiscreteInputs => Request::ReadDiscreteInputs(block.address, block.quantity),
    }
}

fn words(response: Response, block: &Block) -> Result<Vec<u16>, Violation> {
    let (expected, found) = (request(block).function_code(), response.function_code());
    match response {
        Response::ReadInputRegisters(words) | Response::ReadHoldingRegisters(words) if expected == found => {
            if words.len() == usize::from(block.quantity) {
                Ok(words)
            } else {
                Err(Violation::ByteCount {
                    expected: block.quantity.saturating_mul(2),
                    found: u16::try_from(words.len() * 2).unwrap_or(u16::MAX),
                })
            }
        }
        // The bits that fill up the last byte are nobody's.
        Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) if expected == found => {
            if bits.len() >= usize::from(block.quantity) {
                Ok(bits.into_iter().take(block.quantity.into()).map(u16::from).collect())
            } else {
                Err(Violation::ByteCount {
                    expected: block.quantity.div_ceil(8),
                    found: u16::try_from(bits.len() / 8).unwrap_or(u16::MAX),
                })
            }
        }
        _ => Err(Violation::Function { expected: expected.value(), found: found.value() }),
    }
}

/// What the guard said, if it was the guard, or TLS.
fn unwrapped(error: io::Error) -> ReadError {
    error.downcast().unwrap_or_else(|error| tls::failure(error).map_or_else(ReadError::Io, ReadError::Tls))
}
