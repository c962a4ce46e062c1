//! A connection that lets nothing through but the one reply to the one request that was sent.
//!
//! Sits between the stream and `codec`: `tokio_modbus` believes too much of a lying device. It checks the number of
//! registers in debug builds only (by a panic), buffers frames of up to 64 KiB, reports a closed connection as whatever
//! error came last, and has no word for bytes that nobody asked for. The reader compares the reply with what is
//! [`ReplyCheck`] of it. It counts the transactions, since the codec serves other connections too.
//!
//! Invariant: what is handed over fits its request exactly (the transaction, protocol 0 and length of Modbus TCP or the
//! checksum of RTU, unit, function or its exception, byte count), and no request leaves whose function code is not one
//! of the four that read. After an error the stream is of no further use; the owner drops it.
//!
//! What else may come, and is thrown away:
//!
//! - Before the first request anything, at most [`MOST_GREETING`] bytes; with Modbus TCP also before the first reply, as
//!   long as it does not look like a frame: many send their greeting after our first request has left.
//! - With transaction ids, the whole and fitting reply to an older request that was given up ([`ReplyReader::give_up`]).
//!   Never more than one byte beyond the reply that was asked for is taken from the stream.
//! - Without (RTU), what comes between exchanges, at most [`MOST_UNASKED`] bytes at a time; within them what
//!   `deframe` says. While a reply to an earlier request is owed ([`Line`]), no request leaves.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout_at};

use super::deframe::{self, Progress, SETTLE, Search};
use super::line::Line;
use super::remark::{Remark, Remarks};
use super::reply_check::{Framing, Ignored, REQUEST_LEN, ReplyCheck};
use crate::modbus::error::{ReadError, Violation};
use crate::net::tls;

/// So much of a reply is taken at once: all of the longest, and the byte behind it.
const PIECE: usize = 260;

/// So many bytes may come after connecting that no request asked for.
const MOST_GREETING: usize = 1 << 10;

/// So many bytes may come between two exchanges on a line without transaction ids: more than a port of this machine
/// holds, and than a busy line brings in two seconds.
const MOST_UNASKED: usize = 64 << 10;

/// So much noise is skipped to find a reply (but for the first on a connection, which may greet).
const MOST_NOISE: usize = 256;

/// On a line that never falls silent, the request leaves this long after it was due.
const LONGEST_HUSH: Duration = Duration::from_secs(1);

/// So many requests on a new connection may be without an answer.
const MOST_OWED: usize = 8;

/// Transaction, protocol, length.
const HEADER: usize = 6;

/// Function codes of requests that read.
const READS: std::ops::RangeInclusive<u8> = 1..=4;

/// Whatever leads to a device.
pub(super) trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Stream for S {}

/// The stream and what is known of the exchanges on it.
#[derive(Debug)]
pub(super) struct ReplyReader {
    stream: Box<dyn Stream>,
    framing: Framing,
    /// What the device may get wrong.
    ignored: Ignored,
    /// The transaction id of the next request.
    transaction: u16,
    /// Whether a request has left on this stream.
    asked: bool,
    /// Whether a reply has come on this stream before.
    reused: bool,
    /// Whether any frame has come, be it late.
    framed: bool,
    /// Bytes that came unasked before the first frame.
    greeting: usize,
    /// What has come and is not decided.
    bytes: Vec<u8>,
    /// So many of these came before the request left: no reply to it begins with them.
    early: usize,
    /// The request that is sent whole and not answered yet.
    in_flight: Option<ReplyCheck>,
    /// Requests that were given up, whose replies may still come.
    owed: Vec<ReplyCheck>,
    /// Of the exchange under way, without transaction ids.
    search: Option<Box<Search>>,
    /// What outlives the connection, and until when it is to be marked if this exchange has no answer.
    line: Option<Line>,
    unanswered_until: Option<Instant>,
    remarks: Remarks,
}

impl ReplyReader {
    pub(super) fn new(stream: impl Stream + 'static, framing: Framing) -> Self {
        Self {
            stream: Box::new(stream),
            framing,
            ignored: Ignored::default(),
            transaction: 0,
            asked: false,
            reused: false,
            framed: false,
            greeting: 0,
            bytes: Vec::new(),
            early: 0,
            in_flight: None,
            owed: Vec::new(),
            search: None,
            line: None,
            unanswered_until: None,
            remarks: Remarks::default(),
        }
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// For a device that gets these fields wrong.
    pub(super) fn ignoring(mut self, ignored: Ignored) -> Self {
        self.ignored = ignored;
        self
    }

    /// On a line that outlives the connection.
    pub(super) fn on(mut self, line: Line) -> Self {
        self.line = Some(line);
        self
    }

    /// Whether nothing but time tells a late reply from the next one.
    pub(super) fn is_without_ids(&self) -> bool {
        self.framing == Framing::Rtu || self.ignored.transaction
    }

    pub(super) fn remarks(&mut self) -> &mut Remarks {
        &mut self.remarks
    }

    /// Before `request` is sent: waits until `quiet_until`, and until the line is silent if it has no transaction ids.
    /// For no deadline of the device's.
    ///
    /// # Errors
    ///
    /// When the stream is closed or broken, and when something has come that may not.
    pub(super) async fn prepare(
        &mut self,
        request: &[u8; REQUEST_LEN],
        quiet_until: Option<Instant>,
        response_timeout: Duration,
    ) -> Result<(), ReadError> {
        let owed_until = self.line.as_ref().and_then(Line::owes_until);
        let quiet_until = quiet_until.max(owed_until).filter(|until| *until > Instant::now());
        match self.framing {
            // Boxed for the reason given in `exchange`.
            Framing::Rtu => Box::pin(self.hush(request, quiet_until, response_timeout)).await,
            Framing::Mbap => {
                if let Some(until) = quiet_until {
                    tokio::time::sleep_until(until).await;
                }
                if self.asked { self.check_silent().await } else { self.skip_greeting().await }
            }
        }
    }

    /// Sends `request`, under a transaction id of its own, and hands over the reply to it.
    ///
    /// # Errors
    ///
    /// When the stream is closed or broken, and when anything came that is not that reply.
    pub(super) async fn exchange(
        &mut self,
        mut request: [u8; REQUEST_LEN],
        response_timeout: Duration,
    ) -> Result<Vec<u8>, ReadError> {
        let function = match self.framing {
            Framing::Mbap => request[7],
            Framing::Rtu => request[1],
        };
        // The codec can express no other. This is the promise that holds whatever becomes of the codec.
        if !READS.contains(&function) {
            return Err(ReadError::NotARead { function });
        }
        if self.framing == Framing::Mbap {
            let [t0, t1, ..] = &mut request;
            [*t0, *t1] = self.next_transaction().to_be_bytes();
        }
        // Before the first byte leaves: a write that fails half way has asked, too.
        (self.asked, self.early) = (true, self.bytes.len());
        // Set before the write, unset by the reply: whatever ends this future in between, `drop` tells the line.
        self.unanswered_until = Some(Instant::now() + 2 * response_timeout);
        let sent = self.stream.write_all(&request[..self.framing.request_len()]).await;
        sent.map_err(|error| self.failed(error, 0))?;
        self.stream.flush().await.map_err(|error| self.failed(error, 0))?;
        let reply = match self.framing {
            Framing::Mbap => self.receive_numbered(ReplyCheck::by(self.framing, self.ignored, &request)).await?,
            // Boxed: serial lines are slow and few, and an unboxed future would enlarge every device's poll future.
            Framing::Rtu => Box::pin(self.receive_unnumbered(&request)).await?,
        };
        self.unanswered_until = None;
        if let Some(line) = &self.line {
            line.settle();
        }
        (self.reused, self.framed) = (true, true);
        self.remark_greeting();
        Ok(reply)
    }

    /// The deadline of the exchange is over: why there is no reply, and, if the link may be used again, that it owes one.
    pub(super) fn give_up(&mut self) -> Option<Violation> {
        self.remark_greeting();
        if let Some(search) = self.search.take() {
            return search.fault();
        }
        if let Some(check) = self.in_flight.take()
            && !self.is_without_ids()
            && !self.reused
            && !self.framed
        {
            self.owed.push(check);
        }
        None
    }

    /// Whether the last request was given up on a connection that has brought no frame so far, and another may be made.
    pub(super) fn may_ask_again(&self) -> bool {
        !self.framed && self.in_flight.is_none() && !self.owed.is_empty() && self.owed.len() < MOST_OWED
    }

    /// An id that no reply can bear that is still owed.
    fn next_transaction(&mut self) -> u16 {
        // Ends soon, for no more than MOST_OWED are owed.
        while self.owed.iter().any(|expected| expected.transaction == self.transaction) {
            self.transaction = self.transaction.wrapping_add(1);
        }
        let transaction = self.transaction;
        self.transaction = transaction.wrapping_add(1);
        transaction
    }

    fn remark_greeting(&mut self) {
        if self.greeting > 0 {
            self.remarks.make(Remark::Greeting { bytes: self.greeting });
        }
    }

    /// With transaction ids: the reply that is `reply_check`.
    async fn receive_numbered(&mut self, check: ReplyCheck) -> Result<Vec<u8>, ReadError> {
        // Left there by whatever ends this future: `give_up` makes of it a reply that is owed.
        self.in_flight = Some(check);
        loop {
            let whole = match self.judge(&check)? {
                Judged::Whole(whole) => {
                    self.in_flight = None;
                    let behind = self.bytes.split_off(whole);
                    let mut reply = std::mem::replace(&mut self.bytes, behind);
                    if check.is_of_any_unit() {
                        // The codec compares the unit as well, and would refuse the reply.
                        check.correct_unit(&mut reply);
                    }
                    return Ok(reply);
                }
                Judged::Needs(whole) => whole,
            };
            // One byte beyond the reply: enough to know that there is more, and a read that comes back short
            // spares the reactor the next one.
            let received = self.bytes.len();
            if !self.receive(whole + 1 - received).await.map_err(|error| self.failed(error, received))? {
                return Err(self.closed(None, received));
            }
        }
    }

    /// What stands at the beginning of what has come, without what is thrown away.
    fn judge(&mut self, check: &ReplyCheck) -> Result<Judged, Violation> {
        loop {
            // What came before the request left is no reply to it, however well it fits: a late one, or a greeting.
            let checked = if self.early > 0 { Err(Violation::Unasked) } else { check.check(&self.bytes) };
            let violation = match checked {
                Ok(Some(whole)) if whole <= self.bytes.len() => return Ok(Judged::Whole(whole)),
                Ok(Some(whole)) => return Ok(Judged::Needs(whole)),
                Ok(None) => return Ok(Judged::Needs(check.whole())),
                Err(violation) => violation,
            };
            match self.skip_unwanted()? {
                Unwanted::Skipped => {}
                Unwanted::Needs(whole) => return Ok(Judged::Needs(whole)),
                Unwanted::No => return Err(violation),
            }
        }
    }

    /// Skips a late reply, or a byte of a greeting, at the beginning of what has come.
    fn skip_unwanted(&mut self) -> Result<Unwanted, Violation> {
        let looks_like_frame = looks_like_frame(&self.bytes);
        if !self.framed && looks_like_frame == Some(false) {
            // Byte for byte: a greeting has no length, and the first frame may begin right behind it.
            self.skip(1);
            self.greeted(1)?;
            return Ok(Unwanted::Skipped);
        }
        if !self.framed && looks_like_frame.is_none() {
            return Ok(Unwanted::Needs(HEADER));
        }
        let [t0, t1, ..] = self.bytes[..] else {
            return Ok(if self.owed.is_empty() { Unwanted::No } else { Unwanted::Needs(HEADER) });
        };
        let transaction = u16::from_be_bytes([t0, t1]);
        let Some(place) = self.owed.iter().position(|owed| owed.transaction == transaction) else {
            return Ok(Unwanted::No);
        };
        // The id of an older request on something that is not its reply: nothing behind that can be believed.
        match self.owed[place].check(&self.bytes)? {
            Some(whole) if whole <= self.bytes.len() => {
                self.skip(whole);
                self.owed.swap_remove(place);
                // The device answers over this connection, so that from now on a timeout is a failure like any other.
                self.framed = true;
                Ok(Unwanted::Skipped)
            }
            Some(whole) => Ok(Unwanted::Needs(whole)),
            None => Ok(Unwanted::Needs(self.owed[place].whole())),
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.bytes.drain(..bytes);
        self.early = self.early.saturating_sub(bytes);
    }

    fn greeted(&mut self, bytes: usize) -> Result<(), Violation> {
        self.greeting += bytes;
        if self.greeting > MOST_GREETING { Err(Violation::Flood { most: MOST_GREETING }) } else { Ok(()) }
    }

    /// Without transaction ids: the reply to `request`, found in whatever comes.
    async fn receive_unnumbered(&mut self, request: &[u8; REQUEST_LEN]) -> Result<Vec<u8>, ReadError> {
        // A device that greets may do so after the first request has left.
        let most_noise = if self.reused { MOST_NOISE } else { MOST_GREETING };
        // Kept where it is found when the deadline ends this future.
        self.search = Some(Box::new(Search::new(request, self.ignored, most_noise)));
        let mut settles_at = None;
        let mut reply = loop {
            let more = match settles_at {
                None => Some(self.receive(PIECE).await),
                Some(end) => timeout_at(end, self.receive(PIECE)).await.ok(),
            };
            let Some(search) = &mut self.search else { return Err(ReadError::LinkClosed) };
            let received = search.received();
            // Each byte that comes starts the wait for silence anew.
            settles_at = None;
            match more {
                None => {
                    if let Some(reply) = search.settled() {
                        break reply;
                    }
                }
                Some(Ok(true)) => {
                    search.push(&self.bytes);
                    self.bytes.clear();
                    match search.advance()? {
                        Progress::Reply(reply) => break reply,
                        Progress::Settling => settles_at = Some(Instant::now() + SETTLE),
                        Progress::More => {}
                    }
                }
                Some(Ok(false)) => return Err(self.closed(None, received)),
                Some(Err(error)) => return Err(self.failed(error, received)),
            }
        };
        if let Some(search) = self.search.take() {
            if search.has_echo() {
                self.remarks.make(Remark::Echo);
            }
            match search.noise() {
                0 => {}
                // Allowed in the first exchange only, where it is a greeting that crossed the request.
                bytes if bytes > MOST_NOISE => self.remarks.make(Remark::Greeting { bytes }),
                bytes => self.remarks.make(Remark::Noise { bytes }),
            }
        }
        if self.ignored.unit {
            ReplyCheck::by(self.framing, self.ignored, request).correct_unit(&mut reply);
        }
        Ok(reply)
    }

    /// Adds what comes next, `most` bytes at most; `false` when the stream has ended.
    async fn receive(&mut self, most: usize) -> io::Result<bool> {
        poll_fn(|context| self.poll_receive(context, most)).await
    }

    fn poll_receive(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<bool>> {
        // Room only once there is something: most of the time a device waits.
        let mut bytes = [0; PIECE];
        let mut buf = ReadBuf::new(&mut bytes[..most.min(PIECE)]);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buf))?;
        self.bytes.extend_from_slice(buf.filled());
        Poll::Ready(Ok(!buf.filled().is_empty()))
    }

    /// Adds what is there already, `most` bytes at most; `false` when there is nothing.
    async fn receive_at_hand(&mut self, most: usize) -> Result<bool, ReadError> {
        // Asked once, never waited for: what is not there yet is the business of whoever reads next.
        match poll_fn(|context| Poll::Ready(self.poll_receive(context, most))).await {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(true)) => Ok(true),
            Poll::Ready(Ok(false)) => Err(self.closed(None, 0)),
            Poll::Ready(Err(error)) => Err(self.failed(error, 0)),
        }
    }

    /// Before the first request, with transaction ids: what the device says by itself is thrown away.
    async fn skip_greeting(&mut self) -> Result<(), ReadError> {
        while self.receive_at_hand(PIECE).await? {
            let bytes = std::mem::take(&mut self.bytes).len();
            self.greeted(bytes)?;
        }
        Ok(())
    }

    /// Before another request, with transaction ids: the stream must be open, and silent but for late replies.
    async fn check_silent(&mut self) -> Result<(), ReadError> {
        loop {
            while !self.bytes.is_empty() {
                match self.skip_unwanted()? {
                    Unwanted::Skipped => {}
                    // The rest of it is seen to when it comes.
                    Unwanted::Needs(_) => break,
                    Unwanted::No => return Err(ReadError::Protocol(Violation::Unasked)),
                }
            }
            // One byte is enough to know that the connection holds what nobody asked for.
            let most = if self.owed.is_empty() { 1 } else { PIECE };
            if !self.receive_at_hand(most).await? {
                return Ok(());
            }
        }
    }

    /// Before each request, without transaction ids: throws away what comes until `quiet_until` and, when something
    /// comes, until the line has been silent for a moment.
    async fn hush(
        &mut self,
        request: &[u8; REQUEST_LEN],
        quiet_until: Option<Instant>,
        response_timeout: Duration,
    ) -> Result<(), ReadError> {
        let mut end = quiet_until.unwrap_or_else(Instant::now);
        let mut limit = end + LONGEST_HUSH;
        let (mut thrown_away, mut heard_rival) = (0, false);
        self.bytes.clear();
        loop {
            let kept = self.bytes.len();
            match timeout_at(end, self.receive(PIECE)).await {
                Ok(Ok(true)) => {
                    thrown_away += self.bytes.len() - kept;
                    if thrown_away > MOST_UNASKED {
                        return Err(ReadError::Protocol(Violation::Flood { most: MOST_UNASKED }));
                    }
                    // As much as a request: the last that was heard.
                    let heard = self.bytes.len().saturating_sub(self.framing.request_len());
                    self.bytes.drain(..heard);
                    end = end.max(limit.min(Instant::now() + SETTLE));
                }
                Ok(Ok(false)) => return Err(self.closed(None, 0)),
                Ok(Err(error)) => return Err(self.failed(error, 0)),
                // Once only: a client that asks again and again must not keep the request for ever.
                Err(_silent) if !heard_rival && deframe::ends_with_rival(&self.bytes, request, self.ignored) => {
                    // Another client waits for an answer that could be taken for ours.
                    heard_rival = true;
                    end = Instant::now() + response_timeout;
                    limit = end + LONGEST_HUSH;
                }
                Err(_silent) => break,
            }
        }
        self.bytes.clear();
        if !self.asked && thrown_away > 0 {
            self.remarks.make(Remark::Greeting { bytes: thrown_away });
        }
        Ok(())
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

impl Drop for ReplyReader {
    /// Whatever ends the exchange, also a future that is dropped: the line owes its reply.
    fn drop(&mut self) {
        if let (Some(line), Some(until)) = (&self.line, self.unanswered_until) {
            line.owe(until);
        }
    }
}

/// What stands at the beginning of what has come.
enum Judged {
    /// The reply, of this length.
    Whole(usize),
    /// What is as long as this when it is whole.
    Needs(usize),
}

/// Whether something that may be thrown away stands at the beginning of what has come.
enum Unwanted {
    No,
    Needs(usize),
    Skipped,
}

/// Whether these bytes begin as any frame of Modbus TCP does; `None` as long as they are too few to tell.
fn looks_like_frame(bytes: &[u8]) -> Option<bool> {
    match *bytes {
        // The length counts the unit and a PDU, which has 1 to 253 bytes.
        [_, _, p0, p1, l0, l1, ..] => Some((p0, p1) == (0, 0) && (2..=254).contains(&u16::from_be_bytes([l0, l1]))),
        // Text and other greetings are told by this byte: no need to wait for more, which may never come.
        [_, _, p0, ..] if p0 != 0 => Some(false),
        _ => None,
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
        let mut reader = ReplyReader::new(near, Framing::Mbap);
        let answer = async {
            far.read_exact(&mut [0; REQUEST_LEN]).await.unwrap();
            far.write_all(&reply).await.unwrap();
            far.write_all(&[1, 2, 3, 4]).await.unwrap();
            drop(far);
        };
        let request = [0, 0, 0, 0, 0, 6, 7, 3, 0, 0, 0, 1];
        let (handed_over, ()) = tokio::join!(reader.exchange(request, Duration::from_secs(1)), answer);
        assert_eq!(handed_over.unwrap(), reply);

        let mut untouched = Vec::new();
        reader.stream.read_to_end(&mut untouched).await.unwrap();
        assert_eq!(untouched, [2, 3, 4]);
    }

    #[tokio::test]
    async fn only_the_four_functions_that_read_ever_leave() {
        for framing in [Framing::Mbap, Framing::Rtu] {
            for function in 0..=u8::MAX {
                let (near, mut far) = duplex(64);
                let mut reader = ReplyReader::new(near, framing);
                let request = match framing {
                    Framing::Mbap => [0, 0, 0, 0, 0, 6, 7, function, 0, 0, 0, 1],
                    Framing::Rtu => [7, function, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
                };
                let exchange = reader.exchange(request, Duration::from_secs(1));
                let error = tokio::select! {
                    result = exchange => Some(result.unwrap_err()),
                    read = far.read_u8() => { read.unwrap(); None }
                };
                let refused = matches!(error, Some(ReadError::NotARead { function: found }) if found == function);
                assert_eq!(refused, !(1..=4).contains(&function), "{framing:?} {function}: {error:?}");
                drop(reader);
                let mut sent = Vec::new();
                far.read_to_end(&mut sent).await.unwrap();
                assert_eq!(sent.is_empty(), refused, "{framing:?} {function}: {sent:?}");
            }
        }
    }
}
