//! One connection to a device, with one request in flight, under a deadline.
//!
//! Owns the life of the connection. What it asks for, and what the reply says, is `codec`'s, which can express no
//! request but those for bits and registers. A reply is believed only when it fits its request in every field
//! (`guard`), is whole before the deadline (of the exchange, not of each read), and has one word per register or bit.
//! Between exchanges it keeps the pauses that the device is to have, which count for no deadline.
//!
//! Invariant: after any failure but an exception, and after a read that was abandoned, the connection is
//! gone: nothing that arrives late can be taken for an answer. The link then answers
//! [`ReadError::LinkClosed`], and its owner makes a new one; closing sends RST.

mod codec;
mod dial;
mod expected;
mod guard;
mod serial;
#[cfg(test)]
mod tests;
pub mod tls;

use std::fmt;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};

use crate::modbus::error::{ConnectError, ReadError};
use crate::modbus::plan::Block;
use crate::modbus::settings::{Settings, Transport};
use crate::resolve::Resolver;
use expected::Framing;
use guard::FrameGuard;

/// A connection to one device, open until the first failure.
pub struct Link {
    /// Absent while a request is in flight, and for ever after a failure.
    guard: Option<FrameGuard>,
    response_timeout: Duration,
    pause: Duration,
    /// No request leaves before.
    silent_until: Option<Instant>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("open", &self.guard.is_some()).finish_non_exhaustive()
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
        let guard = FrameGuard::new(stream, Framing::Mbap).of_any_transaction(any_transaction);
        Self::with(guard, response_timeout)
    }

    /// A link over a stream that is open already, with the frames of a serial line.
    pub fn over_rtu<S>(stream: S, response_timeout: Duration) -> Self
    where
        S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin + 'static,
    {
        Self::with(FrameGuard::new(stream, Framing::Rtu), response_timeout)
    }

    fn with(guard: FrameGuard, response_timeout: Duration) -> Self {
        Self { guard: Some(guard), response_timeout, pause: Duration::ZERO, silent_until: None }
    }

    /// With pauses: from now, and after each exchange.
    fn paced(self, first: Duration, others: Duration) -> Self {
        let mut link = Self { pause: others, ..self };
        link.rest(first);
        link
    }

    /// No request leaves before `pause` has passed.
    pub fn rest(&mut self, pause: Duration) {
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
        let mut guard = self.guard.take().ok_or(ReadError::LinkClosed)?;
        let result = timeout(self.response_timeout, exchange(&mut guard, block))
            .await
            .unwrap_or(Err(ReadError::ResponseTimeout(self.response_timeout)));
        if !matches!(&result, Err(error) if error.link_is_dead()) {
            self.guard = Some(guard);
            self.rest(self.pause);
        }
        result
    }
}

async fn exchange(guard: &mut FrameGuard, block: &Block) -> Result<Vec<u16>, ReadError> {
    let reply = guard.exchange(codec::request(guard.framing(), block)).await?;
    codec::words(guard.framing(), block, reply)
}
