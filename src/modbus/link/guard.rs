//! A connection that lets nothing through but the one reply to the one request that was sent.
//!
//! Sits between the stream and `codec`: `tokio_modbus` believes too much of a lying device. It checks the number of
//! registers in debug builds only (by a panic), buffers frames of up to 64 KiB, reports a closed connection as whatever
//! error came last, and has no word for bytes that nobody asked for. The guard compares the reply with what is
//! [`Expected`] of it. It counts the transactions, since the codec serves other connections too.
//!
//! Invariant: what is handed over fits its request exactly (the transaction, protocol 0 and length of Modbus TCP or the
//! checksum of RTU, unit, function or its exception, byte count). Never more than one byte beyond the reply that was
//! asked for is taken from the stream. After an error the stream is of no further use; the owner drops it.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::expected::{Expected, Framing, REQUEST_LEN};
use super::tls;
use crate::modbus::error::{ReadError, Violation};

/// So much of a reply is taken at once: all of the longest, and the byte behind it.
const PIECE: usize = 260;

/// Whatever leads to a device.
pub(super) trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Stream for S {}

/// The stream and what is known of the exchanges on it.
#[derive(Debug)]
pub(super) struct FrameGuard {
    stream: Box<dyn Stream>,
    framing: Framing,
    /// Whether the transaction id of a reply is taken for that of its request, whatever it is.
    any_transaction: bool,
    /// The transaction id of the next request.
    transaction: u16,
    /// Whether a reply has come on this stream before.
    reused: bool,
    /// Whether bytes came behind the last reply.
    excess: bool,
}

impl FrameGuard {
    pub(super) fn new(stream: impl Stream + 'static, framing: Framing) -> Self {
        let stream = Box::new(stream);
        Self { stream, framing, any_transaction: false, transaction: 0, reused: false, excess: false }
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// For a device that does not repeat the transaction id: what it says there is replaced.
    pub(super) fn of_any_transaction(self, any_transaction: bool) -> Self {
        Self { any_transaction, ..self }
    }

    /// Sends `request`, under a transaction id of its own, and hands over the reply to it.
    ///
    /// # Errors
    ///
    /// When the stream is closed or broken, and when anything came that is not that reply.
    pub(super) async fn exchange(&mut self, mut request: [u8; REQUEST_LEN]) -> Result<Vec<u8>, ReadError> {
        self.check_silent().await?;
        let [t0, t1, ..] = &mut request;
        let transaction = self.transaction.to_be_bytes();
        if self.framing == Framing::Mbap {
            [*t0, *t1] = transaction;
            self.transaction = self.transaction.wrapping_add(1);
        }
        let sent = self.stream.write_all(&request[..self.framing.request_len()]).await;
        sent.map_err(|error| self.failed(error, 0))?;
        self.stream.flush().await.map_err(|error| self.failed(error, 0))?;

        let expected = Expected::by(self.framing, &request);
        let mut reply = Vec::new();
        loop {
            // One byte beyond the reply: enough to know that there is more, and a read that comes back short
            // spares the reactor the next one.
            let missing = expected.whole() + 1 - reply.len();
            let received = reply.len();
            self.receive(&mut reply, missing).await.map_err(|error| self.failed(error, received))?;
            if reply.len() == received {
                return Err(self.closed(None, received));
            }
            if let [to0, to1, ..] = &mut reply[..]
                && self.any_transaction
                && self.framing == Framing::Mbap
            {
                [*to0, *to1] = transaction;
            }
            if let Some(whole) = expected.check(&reply).map_err(ReadError::Protocol)?
                && whole <= reply.len()
            {
                self.excess = reply.len() > whole;
                self.reused = true;
                reply.truncate(whole);
                return Ok(reply);
            }
        }
    }

    /// Adds what comes next of a reply, `missing` bytes at most; nothing when the stream has ended.
    async fn receive(&mut self, reply: &mut Vec<u8>, missing: usize) -> io::Result<()> {
        poll_fn(|context| {
            // Room only once there is something: most of the time a device waits.
            let mut bytes = [0; PIECE];
            let mut buf = ReadBuf::new(&mut bytes[..missing.min(PIECE)]);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buf))?;
            reply.extend_from_slice(buf.filled());
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Before a request: the stream must be open and silent.
    async fn check_silent(&mut self) -> Result<(), ReadError> {
        if self.excess {
            return Err(ReadError::Protocol(Violation::Unasked));
        }
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        match poll_fn(|context| Poll::Ready(Pin::new(&mut self.stream).poll_read(context, &mut buf))).await {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) if buf.filled().is_empty() => Err(self.closed(None, 0)),
            Poll::Ready(Ok(())) => Err(ReadError::Protocol(Violation::Unasked)),
            Poll::Ready(Err(error)) => Err(self.failed(error, 0)),
        }
    }

    fn closed(&self, source: Option<io::Error>, received: usize) -> ReadError {
        ReadError::Closed { received, reused: self.reused, source }
    }

    /// Tells a connection that the device closed from other failures of the stream.
    fn failed(&self, error: io::Error, received: usize) -> ReadError {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match error.kind() {
            // The last one: closed without the farewell of TLS.
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => self.closed(Some(error), received),
            _ => tls::failure(error).map_or_else(ReadError::Io, ReadError::Tls),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    #[tokio::test]
    async fn nothing_behind_a_reply_is_handed_over_and_one_byte_of_it_is_taken() {
        let reply = [0, 0, 0, 0, 0, 5, 7, 3, 2, 0, 9];
        let (near, mut far) = duplex(64);
        let mut guard = FrameGuard::new(near, Framing::Mbap);
        let answer = async {
            far.read_exact(&mut [0; REQUEST_LEN]).await.unwrap();
            far.write_all(&reply).await.unwrap();
            far.write_all(&[1, 2, 3, 4]).await.unwrap();
            drop(far);
        };
        let request = [0, 0, 0, 0, 0, 6, 7, 3, 0, 0, 0, 1];
        let (handed_over, ()) = tokio::join!(guard.exchange(request), answer);
        assert_eq!(handed_over.unwrap(), reply);

        let mut untouched = Vec::new();
        guard.stream.read_to_end(&mut untouched).await.unwrap();
        assert_eq!(untouched, [2, 3, 4]);
    }
}
