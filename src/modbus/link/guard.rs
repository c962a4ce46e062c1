//! A stream that lets nothing through but the one reply to the one request that was sent.
//!
//! Sits between the connection and `tokio_modbus`, which believes too much of a lying device: it checks
//! the number of registers in debug builds only (by a panic), buffers frames of up to 64 KiB, reports a
//! closed connection as whatever error came last, and has no word for bytes that nobody asked for. The
//! guard reads the request as it passes and compares the reply with what is [`Expected`] of it.
//!
//! It outlives the clients on it, of which each counts its transactions from 0: the numbers on the wire are the
//! guard's own, so that an answer of an earlier exchange is never one of this.
//!
//! Invariant: `tokio_modbus` sees either a frame that fits its request exactly (the transaction, protocol
//! 0 and length of Modbus TCP or the checksum of RTU, unit, function or its exception, byte count), or an
//! [`io::Error`] that carries a [`ReadError`]. Never more than one byte beyond the expected reply is taken from the
//! stream. After an error the stream is of no further use; the owner drops it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::expected::{Expected, Framing, REQUEST_LEN};
use crate::modbus::error::{ReadError, Violation};

/// What an MBAP header begins with.
const TRANSACTION_LEN: usize = 2;

/// The stream and what is known of the exchange that is under way on it.
#[derive(Debug)]
pub(super) struct FrameGuard<S> {
    stream: S,
    framing: Framing,
    /// Whether the transaction id of a reply is taken for that of its request, whatever it is.
    any_transaction: bool,
    /// The transaction id of the next request.
    transaction: u16,
    /// The one that the client believes to have sent.
    believed: [u8; TRANSACTION_LEN],
    request: [u8; REQUEST_LEN],
    /// Bytes of the request that have left; 0 between exchanges.
    sent: usize,
    /// What of the reply has come, and perhaps one byte more.
    reply: Vec<u8>,
    /// Whether a reply has come on this stream before.
    reused: bool,
    /// Whether bytes came behind the last reply.
    excess: bool,
}

impl<S> FrameGuard<S> {
    pub(super) fn new(stream: S, framing: Framing) -> Self {
        Self {
            stream,
            framing,
            any_transaction: false,
            transaction: 0,
            believed: [0; TRANSACTION_LEN],
            request: [0; REQUEST_LEN],
            sent: 0,
            reply: Vec::new(),
            reused: false,
            excess: false,
        }
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// For a device that does not repeat the transaction id: what it says there is replaced.
    pub(super) fn of_any_transaction(self, any_transaction: bool) -> Self {
        Self { any_transaction, ..self }
    }

    /// Puts `id` in the place of the reply's transaction id, as far as that is in `bytes`, which come behind
    /// `before` others.
    fn put_transaction(&self, id: [u8; TRANSACTION_LEN], before: usize, bytes: &mut [u8]) {
        if self.framing == Framing::Mbap {
            for (byte, own) in bytes.iter_mut().zip(id.into_iter().skip(before)) {
                *byte = own;
            }
        }
    }

    /// The id under which the request was sent.
    fn own(&self) -> [u8; TRANSACTION_LEN] {
        let [t0, t1, ..] = self.request;
        [t0, t1]
    }

    /// Takes a request of the client, to be sent under a number of its own.
    fn take_request(&mut self, bytes: &[u8]) {
        for (to, from) in self.request.iter_mut().zip(bytes) {
            *to = *from;
        }
        if self.framing == Framing::Mbap {
            let [t0, t1, ..] = &mut self.request;
            self.believed = [*t0, *t1];
            [*t0, *t1] = self.transaction.to_be_bytes();
            self.transaction = self.transaction.wrapping_add(1);
        }
    }

    /// Follows the reply as it comes, and says how many of `bytes` belong to it.
    fn note_received(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let before = self.reply.len();
        self.reply.extend_from_slice(bytes);
        let received = self.reply.len();
        let whole = self.expected().check(&self.reply)?;
        let Some(whole) = whole.filter(|whole| *whole <= received) else {
            return Ok(bytes.len());
        };
        self.excess = received > whole;
        self.reused = true;
        self.sent = 0;
        self.reply.clear();
        Ok(whole.saturating_sub(before))
    }

    fn expected(&self) -> Expected {
        Expected::by(self.framing, &self.request)
    }

    fn closed(&self, source: Option<io::Error>) -> io::Error {
        io::Error::other(ReadError::Closed { received: self.reply.len(), reused: self.reused, source })
    }

    /// Tells a connection that the device closed from other failures of the stream.
    fn failed(&self, error: io::Error) -> io::Error {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match error.kind() {
            // The last one: closed without the farewell of TLS.
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => self.closed(Some(error)),
            _ => error,
        }
    }
}

impl<S: AsyncRead + Unpin> FrameGuard<S> {
    /// Reads into `buf`; no byte at all is an error.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), io::Error>> {
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        Poll::Ready(match result {
            Ok(()) if buf.filled().is_empty() => Err(self.closed(None)),
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(error)),
        })
    }

    /// Before a request: the stream must be open and silent.
    fn check_silent(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.excess {
            return Err(violated(Violation::Unasked));
        }
        let mut byte = [0];
        match self.poll_bytes(cx, &mut ReadBuf::new(&mut byte)) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => Err(violated(Violation::Unasked)),
            Poll::Ready(Err(error)) => Err(error),
        }
    }
}

fn violated(violation: Violation) -> io::Error {
    io::Error::other(ReadError::Protocol(violation))
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameGuard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.sent < this.framing.request_len() {
            // Without a request there is no reply; `tokio_modbus` does not ask for one.
            return Poll::Ready(Err(violated(Violation::Unasked)));
        }
        // One byte beyond the reply: enough to know that there is more, and a read that comes back short
        // spares the reactor the next one.
        let before = this.reply.len();
        let room = (this.expected().whole() + 1).saturating_sub(before).min(buf.remaining());
        let mut bytes = ReadBuf::new(buf.initialize_unfilled_to(room));
        ready!(this.poll_bytes(cx, &mut bytes))?;
        if this.any_transaction {
            this.put_transaction(this.own(), before, bytes.filled_mut());
        }
        let passed = this.note_received(bytes.filled()).map_err(violated)?;
        this.put_transaction(this.believed, before, bytes.filled_mut());
        buf.advance(passed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for FrameGuard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.sent == 0 {
            this.check_silent(cx)?;
            this.take_request(bytes);
        }
        let rest = this.request.get(this.sent..).and_then(|rest| rest.get(..bytes.len())).unwrap_or_default();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, rest)).map_err(|error| this.failed(error))?;
        this.sent += written;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        Pin::new(&mut this.stream).poll_flush(cx).map_err(|error| this.failed(error))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn nothing_behind_a_reply_is_passed_on_and_one_byte_of_it_is_taken() {
        let reply = [0, 0, 0, 0, 0, 5, 7, 3, 2, 0, 9];
        let (near, mut far) = duplex(64);
        let mut guard = FrameGuard::new(near, Framing::Mbap);
        guard.write_all(&[0, 0, 0, 0, 0, 6, 7, 3, 0, 0, 0, 1]).await.unwrap();
        far.write_all(&reply).await.unwrap();
        far.write_all(&[1, 2, 3, 4]).await.unwrap();
        drop(far);

        let mut passed = [0; 64];
        let length = guard.read(&mut passed).await.unwrap();
        assert_eq!(passed[..length], reply);

        let mut untouched = Vec::new();
        guard.stream.read_to_end(&mut untouched).await.unwrap();
        assert_eq!(untouched, [2, 3, 4]);
    }
}
