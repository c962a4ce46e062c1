//! One connection to a device, with one request in flight, under a deadline.
//!
//! Owns the life of the connection. What it asks for, and what the reply says, is `codec`'s, which can express no
//! request but those for bits and registers. A reply is believed only when it fits its request in every field
//! (`reply_reader`), is whole before the deadline (of the exchange, not of each read), and has one word per register or bit.
//! Between exchanges it keeps the pauses that the device is to have, which count for no deadline.
//!
//! Invariant: after any failure but an exception, and after a read that was abandoned, the connection is
//! gone: nothing that arrives late can be taken for an answer. The link then answers
//! [`ReadError::LinkClosed`], and its owner makes a new one; closing sends RST. Two additions:
//!
//! - A connection with transaction ids that has brought no reply so far outlives a response timeout
//!   ([`Link::may_ask_again`]): some devices swallow what comes in their first seconds. The ids tell a late reply apart.
//! - Without transaction ids even a new connection may bring a late reply. The [`Line`] owes it for twice the response
//!   timeout, and the link lets no request leave before that is over: its owner need not know.

mod codec;
mod deframe;
mod line;
mod remark;
mod reply_check;
mod reply_reader;
mod serial;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};

use crate::modbus::error::{ConnectError, ReadError};
use crate::modbus::plan::Block;
use crate::modbus::settings::{Settings, Transport};
use crate::net::dial::dial;
use crate::net::resolve::Resolver;
use remark::Remarks;
use reply_check::{Framing, Ignored, REQUEST_LEN};
use reply_reader::ReplyReader;

pub use line::Line;
pub use remark::Remark;

/// A connection to one device, open until the first failure.
pub struct Link {
    /// Absent while a request is in flight, and for ever after a failure.
    reader: Option<ReplyReader>,
    response_timeout: Duration,
    pause: Duration,
    /// No request leaves before, by the pauses of the device.
    silent_until: Option<Instant>,
    /// Nor before this.
    quiet_until: Option<Instant>,
    /// Of a connection that is gone.
    remarks: Remarks,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("open", &self.reader.is_some()).finish_non_exhaustive()
    }
}

impl Link {
    /// Connects to the first of the host's addresses that accepts.
    ///
    /// # Errors
    ///
    /// When no address accepts within the connect timeout, or not as it must.
    pub async fn connect(host: &mut Resolver, settings: &Settings) -> Result<Self, ConnectError> {
        // For name, connection and handshake together: who accepts and then says nothing costs no second timeout.
        let deadline = Instant::now() + settings.connect_timeout;
        let stream = dial(host, settings.connect_timeout).await?;
        // Closing sends RST: devices with a handful of sessions have been seen to free one on nothing else. Nothing of
        // ours is ever lost by it, because a link is closed between exchanges or after a failure. A system that refuses
        // has closed the connection already.
        let _ = stream.set_zero_linger();
        // The gateway, not the name: two names of one gateway lead to one line.
        let place = stream.peer_addr().map_or_else(|_| host.host().to_owned(), |address| address.to_string());
        let reader = match &settings.transport {
            Transport::Tcp => ReplyReader::new(stream, Framing::Mbap),
            Transport::Rtu => ReplyReader::new(stream, Framing::Rtu),
            Transport::Tls(tls) => {
                let insecure = |source| ConnectError::Tls { host: host.host().to_owned(), source };
                ReplyReader::new(tls.shake_hands(stream, deadline).await.map_err(insecure)?, Framing::Mbap)
            }
        };
        let link = Self::with(reader.ignoring(Ignored::by(settings)), settings.response_timeout);
        // With ids a late reply is told by its id, whatever connection brings it.
        let link = if link.is_without_ids() { link.on(Line::at(&place)) } else { link };
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
        let reader = ReplyReader::new(port, Framing::Rtu).ignoring(Ignored::by(settings));
        let link = Self::with(reader, settings.response_timeout).on(Line::at(path));
        Ok(link.paced(first.max(silence), others.max(silence)))
    }

    /// A link over a stream that is open already.
    pub fn over<S>(stream: S, response_timeout: Duration) -> Self
    where
        S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin + 'static,
    {
        Self::with(ReplyReader::new(stream, Framing::Mbap), response_timeout)
    }

    /// A link over a stream that is open already, with the frames of a serial line.
    pub fn over_rtu<S>(stream: S, response_timeout: Duration) -> Self
    where
        S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin + 'static,
    {
        Self::with(ReplyReader::new(stream, Framing::Rtu), response_timeout)
    }

    /// The same over a line that outlives it: what an earlier connection left unanswered is waited for.
    #[must_use]
    pub fn on(mut self, line: Line) -> Self {
        if line.owes_until().is_some() {
            // What a gateway has kept for the next connection comes soon after that is made.
            self.keep_quiet_until(Instant::now() + self.response_timeout);
        }
        self.reader = self.reader.map(|reader| reader.on(line));
        self
    }

    fn with(reader: ReplyReader, response_timeout: Duration) -> Self {
        Self {
            reader: Some(reader),
            response_timeout,
            pause: Duration::ZERO,
            silent_until: None,
            quiet_until: None,
            remarks: Remarks::default(),
        }
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

    /// Whether nothing but time tells a late reply from the next one: RTU, and `ignore_transaction_id`. False for a link
    /// that is closed.
    #[must_use]
    pub fn is_without_ids(&self) -> bool {
        self.reader.as_ref().is_some_and(ReplyReader::is_without_ids)
    }

    /// No request leaves before `until`. Without transaction ids, what arrives until then is thrown away; with them it is
    /// judged as ever.
    ///
    /// A link on a [`Line`] does so by itself after what was left unanswered.
    pub fn keep_quiet_until(&mut self, until: Instant) {
        self.quiet_until = self.quiet_until.max(Some(until));
    }

    /// After a response timeout: whether the next request may go over this same connection. So it is with transaction
    /// ids as long as no reply has come over it at all, and not too many requests are open.
    #[must_use]
    pub fn may_ask_again(&self) -> bool {
        self.reader.as_ref().is_some_and(ReplyReader::may_ask_again)
    }

    /// What a person should know of this connection, each kind once.
    pub fn take_remark(&mut self) -> Option<Remark> {
        self.reader.as_mut().map_or(&mut self.remarks, ReplyReader::remarks).take()
    }

    /// The words of `block`, one per register; of bits, one per bit, 0 or 1.
    ///
    /// # Errors
    ///
    /// When the device says no, and when the link breaks; after the latter it is closed, unless it
    /// [may be asked again](Self::may_ask_again).
    pub async fn read(&mut self, block: &Block) -> Result<Vec<u16>, ReadError> {
        // Before the reader is taken: a read that is abandoned in this pause has asked nothing, so the link lives.
        if let Some(end) = self.silent_until.take() {
            sleep_until(end).await;
        }
        // Put back only by an exchange that ended well: dropping this future closes the link too.
        let mut reader = self.reader.take().ok_or(ReadError::LinkClosed)?;
        let request = codec::request(reader.framing(), block);
        // Outside of the deadline: no device is to blame for the pauses that it needs, or for others on its line.
        let result = match reader.prepare(&request, self.quiet_until.take(), self.response_timeout).await {
            Ok(()) => {
                let exchanged =
                    timeout(self.response_timeout, exchange(&mut reader, request, block, self.response_timeout));
                exchanged.await.unwrap_or_else(|_elapsed| Err(self.timed_out(&mut reader)))
            }
            Err(error) => Err(error),
        };
        let lives = match &result {
            Ok(_) => true,
            Err(ReadError::ResponseTimeout(_)) => reader.may_ask_again(),
            Err(error) => !error.link_is_dead(),
        };
        if lives {
            self.reader = Some(reader);
            self.rest(self.pause);
        } else {
            // What the reader has noticed outlives it: of all connections this is the one that needs explaining.
            self.remarks = std::mem::take(reader.remarks());
        }
        result
    }

    fn timed_out(&self, reader: &mut ReplyReader) -> ReadError {
        reader.give_up().map_or(ReadError::ResponseTimeout(self.response_timeout), ReadError::Protocol)
    }
}

async fn exchange(
    reader: &mut ReplyReader,
    request: [u8; REQUEST_LEN],
    block: &Block,
    response_timeout: Duration,
) -> Result<Vec<u16>, ReadError> {
    let reply = reader.exchange(request, response_timeout).await?;
    codec::words(reader.framing(), block, reply)
}
