//! Requests and replies as bytes: the only file that names `tokio_modbus`.
//!
//! A client of `tokio_modbus` holds two buffers of 8 KiB. One for each device would be most of what a device costs in
//! memory, and cold in the processor's caches whenever its turn comes. So each thread has one client for each framing,
//! on a [`LoopbackStream`] instead of a connection: it writes a request there, which the link sends, now and whenever it asks for
//! the same again; it makes the request once more when the reply is there, which the link has received and the reply reader has
//! compared with it, and reads that from the stream. It never waits.
//!
//! It is asked for bits and registers with function codes 1 to 4; another request cannot be expressed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_modbus::client::{self, Client, rtu, tcp};
use tokio_modbus::slave::SlaveContext;
use tokio_modbus::{ProtocolError, Request, Response, Slave};

use super::reply_check::{Framing, REQUEST_LEN};
use crate::modbus::error::{Exception, ReadError, Violation};
use crate::modbus::plan::Block;
use crate::modbus::register::{Table, UnitId};

thread_local! {
    static MBAP: RefCell<Codec> = RefCell::new(Codec::new(Framing::Mbap));
    static RTU: RefCell<Codec> = RefCell::new(Codec::new(Framing::Rtu));
}

/// So many bytes of replies are read by one client, whose buffer has 8 KiB: at the end of it a reply would come in two
/// pieces, and of an exception that does not name its function nobody can tell when it is whole.
const MOST_BYTES: usize = 7 << 10;

/// So many requests are kept, for devices are asked for the same again and again; then they are made anew.
const MOST_REQUESTS: usize = 4_096;

/// The bytes that ask for `block`; of a shorter frame, followed by zeros. The transaction id, if there is one, is any.
pub(super) fn request(framing: Framing, block: &Block) -> [u8; REQUEST_LEN] {
    with(framing, |codec| codec.request(block))
}

/// The words of `block` in the `reply` to the request for it: one per register; of bits, one per bit, 0 or 1.
pub(super) fn words(framing: Framing, block: &Block, reply: Vec<u8>) -> Result<Vec<u16>, ReadError> {
    let answer = with(framing, |codec| codec.call(block, reply));
    match answer {
        Poll::Ready(Ok(Ok(response))) => of_response(response, block).map_err(ReadError::Protocol),
        Poll::Ready(Ok(Err(code))) => Err(ReadError::Exception(Exception { code: code.into() })),
        // An exception without the function that it is about, see `reply_check`.
        Poll::Ready(Err(tokio_modbus::Error::Protocol(ProtocolError::FunctionCodeMismatch {
            result: Err(no),
            ..
        }))) => Err(ReadError::Exception(Exception { code: no.exception.into() })),
        // The reply reader has looked at all that these could be about; they are here to be total.
        Poll::Ready(Err(tokio_modbus::Error::Protocol(error))) => Err(ReadError::Io(io::Error::other(error))),
        Poll::Ready(Err(tokio_modbus::Error::Transport(error))) => Err(ReadError::Io(error)),
        Poll::Pending => Err(ReadError::Io(io::ErrorKind::UnexpectedEof.into())),
    }
}

fn with<T>(framing: Framing, act: impl FnOnce(&mut Codec) -> T) -> T {
    let codec = match framing {
        Framing::Mbap => &MBAP,
        Framing::Rtu => &RTU,
    };
    codec.with_borrow_mut(act)
}

/// A client and the stream that it is on.
struct Codec {
    framing: Framing,
    client: client::Context,
    stream: LoopbackStream,
    /// How many bytes of replies the client has been given.
    bytes: usize,
    /// Requests that were made before, by what they ask for.
    requests: HashMap<(UnitId, Table, u16, u16), [u8; REQUEST_LEN]>,
}

impl Codec {
    fn new(framing: Framing) -> Self {
        let stream = LoopbackStream::default();
        stream.lock().repeats_transaction = framing == Framing::Mbap;
        Self { framing, client: attach(framing, &stream), stream, bytes: 0, requests: HashMap::new() }
    }

    fn request(&mut self, block: &Block) -> [u8; REQUEST_LEN] {
        let asked = (block.unit, block.table, block.address, block.quantity);
        if let Some(request) = self.requests.get(&asked) {
            return *request;
        }
        // Without a reply there is no answer.
        let written = self.call(block, Vec::new()).is_pending();
        let request = self.stream.lock().request;
        if self.requests.len() >= MOST_REQUESTS {
            self.requests.clear();
        }
        // What the client has not written is no request, and must not be sent in place of one for ever.
        if written {
            self.requests.insert(asked, request);
        }
        request
    }

    /// Asks for `block` and hands over the `reply`, if it is there; without it only the request is made.
    fn call(&mut self, block: &Block, reply: Vec<u8>) -> Poll<tokio_modbus::Result<Response>> {
        self.bytes += reply.len();
        if self.bytes > MOST_BYTES {
            (self.client, self.bytes) = (attach(self.framing, &self.stream), reply.len());
        }
        let replied = !reply.is_empty();
        self.stream.lock().reply = reply;
        self.client.set_slave(Slave(block.unit.0));
        let answer = {
            let call = pin!(self.client.call(of_block(block)));
            // Once: all that it could wait for is there, or is not there at all.
            call.poll(&mut Context::from_waker(Waker::noop()))
        };
        if replied && !matches!(answer, Poll::Ready(Ok(_))) {
            // What it has left unread is nobody's.
            (self.client, self.bytes) = (attach(self.framing, &self.stream), 0);
        }
        answer
    }
}

fn attach(framing: Framing, stream: &LoopbackStream) -> client::Context {
    match framing {
        Framing::Mbap => tcp::attach(stream.clone()),
        Framing::Rtu => rtu::attach(stream.clone()),
    }
}

/// The one place where a request is made.
fn of_block(block: &Block) -> Request<'static> {
    match block.table {
        Table::InputRegisters => Request::ReadInputRegisters(block.address, block.quantity),
        Table::HoldingRegisters => Request::ReadHoldingRegisters(block.address, block.quantity),
        Table::Coils => Request::ReadCoils(block.address, block.quantity),
        Table::DiscreteInputs => Request::ReadDiscreteInputs(block.address, block.quantity),
    }
}

fn of_response(response: Response, block: &Block) -> Result<Vec<u16>, Violation> {
    let (expected, found) = (of_block(block).function_code(), response.function_code());
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

/// Takes one request, and gives one reply when it has it.
#[derive(Debug, Clone, Default)]
struct LoopbackStream(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    request: [u8; REQUEST_LEN],
    reply: Vec<u8>,
    /// Whether a reply begins as its request does: the client counts its requests, of which each reply is to another.
    repeats_transaction: bool,
}

impl LoopbackStream {
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for LoopbackStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.lock();
        if stream.reply.is_empty() {
            // Nobody is to be woken: whoever asks asks once.
            return Poll::Pending;
        }
        // As much as the client has room for.
        let length = stream.reply.len().min(buf.remaining());
        buf.put_slice(&stream.reply[..length]);
        stream.reply.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LoopbackStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = &mut *self.lock();
        for (to, from) in stream.request.iter_mut().zip(bytes) {
            *to = *from;
        }
        if let ([to0, to1, ..], [from0, from1, ..]) = (&mut stream.reply[..], bytes)
            && stream.repeats_transaction
        {
            (*to0, *to1) = (*from0, *from1);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modbus::link::reply_check::checksum;
    use crate::modbus::link::tests::device::{UNIT, block, reply};

    #[test]
    fn a_thousand_replies_are_read_by_one_client_whatever_is_left_of_its_buffer() {
        for length in (1..=125).cycle().take(1_000) {
            let block = block(Table::InputRegisters, 0, length);
            assert_eq!(request(Framing::Mbap, &block)[6..], [UNIT, 4, 0, 0, 0, u8::try_from(length).unwrap()]);
            let sent = vec![length; length.into()];
            // Of whatever transaction the reply reader has made it.
            assert_eq!(words(Framing::Mbap, &block, reply(7_777, UNIT, 4, &sent)).unwrap(), sent, "{length}");
        }
    }

    #[test]
    fn each_request_is_its_own_however_many_were_made_before() {
        for address in (0..2 * u16::try_from(MOST_REQUESTS).unwrap()).step_by(4) {
            // Each is asked for twice, among others that differ from it in one thing.
            let coils = (1, Table::Coils, 1, 9);
            let others = [(2, Table::Coils, 1, 9), (1, Table::HoldingRegisters, 3, 9), (1, Table::Coils, 1, 8)];
            for (unit, table, function, quantity) in [coils].into_iter().chain(others).cycle().take(8) {
                let [high, low] = address.to_be_bytes();
                let block = Block { unit: UnitId(unit), ..block(table, address, quantity) };
                let frame = [unit, function, high, low, 0, u8::try_from(quantity).unwrap()];
                assert_eq!(request(Framing::Mbap, &block)[2..], [&[0, 0, 0, 6], &frame[..]].concat());
                let [c0, c1] = checksum(&frame).to_le_bytes();
                assert_eq!(request(Framing::Rtu, &block)[..], [&frame, [c0, c1].as_slice(), &[0; 4]].concat());
            }
        }
    }

    #[test]
    fn an_exception_without_its_function_is_one_whatever_is_left_of_the_buffer() {
        for last in 1..=125 {
            // 32 of the longest replies have 8,160 bytes of 8,192.
            for length in [[125; 32].as_slice(), &[last]].concat() {
                let block = block(Table::InputRegisters, 0, length);
                let sent = vec![length; length.into()];
                let bytes = sent.iter().flat_map(|word| word.to_be_bytes());
                let pdu: Vec<u8> = [4, u8::try_from(2 * length).unwrap()].into_iter().chain(bytes).collect();
                assert_eq!(words(Framing::Rtu, &block, rtu_frame(&pdu)).unwrap(), sent);
            }
            let answer = words(Framing::Rtu, &block(Table::InputRegisters, 0, 1), rtu_frame(&[0x80, 11]));
            assert!(matches!(answer, Err(ReadError::Exception(Exception { code: 11 }))), "{last}: {answer:?}");
        }
    }

    fn rtu_frame(pdu: &[u8]) -> Vec<u8> {
        let mut frame = [&[UNIT], pdu].concat();
        frame.extend(checksum(&frame).to_le_bytes());
        frame
    }
}
