//! One connection of a device: requests in, answers or misbehaviour out.
//!
//! MBAP by hand: transaction, protocol, length (two bytes each, big endian), unit; then function, address,
//! quantity. Ends when the agent closes the connection or the mode says so.

use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::super::now_ms;
use super::{Fate, Mode, Refusal, Request, Served, Shared, Table};

/// The pause between two pieces of an answer: long enough for each to be a segment of its own.
const PIECE_PAUSE: Duration = Duration::from_millis(3);

/// What a request has to be answered with.
enum Reply {
    Nothing,
    Exception(u8),
    /// The place of the answer in the served list, and its registers.
    Values(usize, Vec<u16>),
}

impl Reply {
    /// Whether the agent must not use the connection any more: an answer that comes late, or of another request,
    /// would be taken for that of the next.
    fn spoils_connection(&self, mode: Mode) -> bool {
        match self {
            Self::Nothing => true,
            Self::Exception(_) => false,
            Self::Values(..) => fate_until_sent(mode) == Fate::Forbidden,
        }
    }
}

/// Answers requests until the connection ends.
pub fn converse(shared: &Shared, connection: u64, mut stream: TcpStream) {
    stream.set_nodelay(true).ok();
    let accepted = Instant::now();
    let greeting = shared.state().quirks.greeting;
    stream.write_all(greeting).ok();
    let (mut spoilt, mut answered) = (false, false);
    while let Some((header, pdu)) = read_frame(&mut stream) {
        if spoilt {
            shared
                .state()
                .violations
                .push("a request over a connection whose last answer was missing or wrong".to_owned());
        }
        let Some((request, mode, reply)) = shared.take(connection, accepted, header, &pdu) else { return };
        spoilt = reply.spoils_connection(mode);
        // Over a connection that has not answered anything yet a client may ask again: it tells a late answer by its id,
        // and what is no answer at all may have been a greeting.
        answered |= !spoilt;
        spoilt &= answered;
        if peek(&stream) == Peek::Bytes {
            shared.state().violations.push("a request before the answer to the one before".to_owned());
        }
        let stops = shared.state().quirks.stops_after.take_if(|unit| *unit == request.unit).is_some();
        if stops {
            // Before the answer, so that the next request meets a closed door in any case.
            shared.refuse_connections();
        }
        let goes_on = play(shared, connection, &mut stream, header, request, mode, reply);
        shared.state().busy.remove(&connection);
        if stops || !goes_on {
            return;
        }
    }
}

/// Whether the other side has closed this connection.
pub fn is_closed(stream: &TcpStream) -> bool {
    peek(stream) == Peek::Closed
}

fn read_frame(stream: &mut TcpStream) -> Option<([u8; 7], Vec<u8>)> {
    let mut header = [0; 7];
    stream.read_exact(&mut header).ok()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let mut pdu = vec![0; length.checked_sub(1)?];
    stream.read_exact(&mut pdu).ok()?;
    Some((header, pdu))
}

impl Shared {
    /// Writes the request down and decides what becomes of it; `None` when it is no request at all.
    fn take(&self, connection: u64, accepted: Instant, header: [u8; 7], pdu: &[u8]) -> Option<(Request, Mode, Reply)> {
        let mut state = self.state();
        let unit = header[6];
        let Ok([function, rest @ ..]) = <[u8; 5]>::try_from(pdu) else {
            state.violations.push(format!("a request of {} bytes", pdu.len()));
            return None;
        };
        let [address, quantity] = [[rest[0], rest[1]], [rest[2], rest[3]]].map(u16::from_be_bytes);
        let request = Request { function, unit, address, quantity, at: Instant::now(), connection };
        state.requests.push(request);
        if state.is_busy_elsewhere(connection) {
            state.violations.push("two requests at once".to_owned());
        }
        state.busy.insert(connection);
        if header[2..4] != [0, 0] {
            state.violations.push(format!("protocol id {:02x?}", &header[2..4]));
        }
        let mode = state.mode_of(unit);
        let Some(table) = Table::of_function(function) else {
            state.violations.push(format!("function code {function}"));
            return Some((request, mode, Reply::Exception(1)));
        };
        if quantity == 0 || quantity > table.longest() {
            state.violations.push(format!("{quantity} entries in one request"));
            return Some((request, mode, Reply::Exception(3)));
        }
        let refusal = state.quirks.refusal(table, address, quantity, accepted);
        let reply = match (refusal, mode) {
            _ if u32::from(address) + u32::from(quantity) > 65_536 => Reply::Exception(2),
            _ if state.refuses(table, address, quantity) => Reply::Exception(2),
            (Some(Refusal::Silence), _) | (_, Mode::Silent) => Reply::Nothing,
            (_, Mode::Exception(code)) | (Some(Refusal::Exception(code)), _) => Reply::Exception(code),
            _ => {
                let counter = state.counters.entry((unit, table)).or_default();
                let n = *counter;
                *counter += 1;
                let fate = fate_until_sent(mode);
                state.served.push(Served::now(unit, table, address, quantity, n, fate));
                let values = (address..=address + (quantity - 1)).map(|at| self.values.at(unit, table, at, n));
                Reply::Values(state.served.len() - 1, values.collect())
            }
        };
        Some((request, mode, reply))
    }

    /// The answer has left whole.
    fn sent(&self, place: usize) {
        let mut state = self.state();
        state.quirks.answered = Some(Instant::now());
        let served = &mut state.served[place];
        served.fate = Fate::Due;
        served.at_ms = now_ms();
    }
}

/// A right answer may get lost on its way until it is written whole; a wrong one is never right.
fn fate_until_sent(mode: Mode) -> Fate {
    match mode {
        Mode::Answer
        | Mode::Slow(_)
        | Mode::Drip
        | Mode::SplitAt(_)
        | Mode::CloseAfterAnswer
        | Mode::CloseIdle(_)
        // Right, but an agent that sees what follows may well refuse both.
        | Mode::TwoFrames => Fate::Optional,
        _ => Fate::Forbidden,
    }
}

/// Answers as the mode says; `false` ends the connection.
fn play(
    shared: &Shared,
    connection: u64,
    stream: &mut TcpStream,
    mut header: [u8; 7],
    request: Request,
    mode: Mode,
    reply: Reply,
) -> bool {
    header[6] = shared.state().quirks.answers_as.unwrap_or(header[6]);
    let (place, values) = match reply {
        Reply::Nothing => return true,
        Reply::Exception(code) => {
            return stream.write_all(&frame(header, &[request.function | 0x80, code])).is_ok();
        }
        Reply::Values(place, values) => (place, values),
    };
    let right = frame(header, &pdu(request.function, &values));
    let with = |place: usize, change: u8| {
        let mut wrong = right.clone();
        wrong[place] ^= change;
        wrong
    };
    let whole = match mode {
        Mode::Slow(pause) => wait(stream, pause) && stream.write_all(&right).is_ok(),
        Mode::Drip => in_pieces(stream, right.chunks(1)),
        Mode::SplitAt(at) => in_pieces(stream, <[&[u8]; 2]>::from(right.split_at(at.min(right.len()))).into_iter()),
        Mode::CloseAfterAnswer => {
            if stream.write_all(&right).is_ok() {
                shared.sent(place);
            }
            return false;
        }
        Mode::CloseIdle(patience) => {
            if stream.write_all(&right).is_err() {
                return false;
            }
            shared.sent(place);
            shared.state().busy.remove(&connection);
            return is_asked_within(stream, patience);
        }
        Mode::Late(pause) => return wait(stream, pause) && stream.write_all(&right).is_ok(),
        Mode::WrongTransaction => return stream.write_all(&with(1, 0x40)).is_ok(),
        Mode::WrongProtocol => return stream.write_all(&with(3, 0x01)).is_ok(),
        Mode::WrongUnit => return stream.write_all(&with(6, 0x01)).is_ok(),
        Mode::WrongFunction => return stream.write_all(&with(7, 0x07)).is_ok(),
        Mode::WrongByteCount => return stream.write_all(&with(8, 0x02)).is_ok(),
        Mode::TooFewRegisters => {
            let fewer = frame(header, &pdu(request.function, &values[1..]));
            return stream.write_all(&fewer).is_ok();
        }
        Mode::Truncated => {
            stream.write_all(&right[..right.len() / 2]).ok();
            return false;
        }
        Mode::Reset => {
            stream.write_all(&right[..right.len() / 2]).ok();
            // Closing sends a reset only when no other handle keeps the socket open.
            shared.state().open.remove(&connection);
            SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).ok();
            return false;
        }
        Mode::TwoFrames => return stream.write_all(&[right.clone(), with(1, 0x01)].concat()).is_ok(),
        Mode::Firehose => {
            let unasked = with(1, 0x40).repeat(64);
            while stream.write_all(&unasked).is_ok() {}
            return false;
        }
        Mode::Answer | Mode::Silent | Mode::Exception(_) => stream.write_all(&right).is_ok(),
    };
    if whole {
        shared.sent(place);
    }
    whole
}

fn pdu(function: u8, values: &[u16]) -> Vec<u8> {
    let data: Vec<u8> = match function {
        // Eight bits in a byte, the first of them the least significant one.
        1 | 2 => values
            .chunks(8)
            .map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(bit & 1 == 1)))
            .collect(),
        _ => values.iter().flat_map(|value| value.to_be_bytes()).collect(),
    };
    let mut pdu = vec![function, u8::try_from(data.len()).expect("at most 125 registers or 2000 bits")];
    pdu.extend(data);
    pdu
}

fn frame(mut header: [u8; 7], pdu: &[u8]) -> Vec<u8> {
    let length = u16::try_from(pdu.len() + 1).expect("a PDU of at most 253 bytes");
    header[4..6].copy_from_slice(&length.to_be_bytes());
    [&header[..], pdu].concat()
}

fn in_pieces<'a>(stream: &mut TcpStream, pieces: impl Iterator<Item = &'a [u8]>) -> bool {
    for piece in pieces {
        if stream.write_all(piece).is_err() {
            return false;
        }
        thread::sleep(PIECE_PAUSE);
    }
    true
}

/// Lets time pass; `false` as soon as the agent has closed the connection.
fn wait(stream: &TcpStream, pause: Duration) -> bool {
    let until = Instant::now() + pause;
    while Instant::now() < until {
        if is_closed(stream) {
            return false;
        }
        thread::sleep(PIECE_PAUSE);
    }
    true
}

/// Whether the next request begins to come within this time.
fn is_asked_within(stream: &TcpStream, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while peek(stream) == Peek::Nothing && Instant::now() < until {
        thread::sleep(PIECE_PAUSE);
    }
    peek(stream) == Peek::Bytes
}

#[derive(PartialEq, Eq)]
enum Peek {
    Nothing,
    Bytes,
    Closed,
}

/// What lies in the receive buffer, without taking it and without waiting.
fn peek(stream: &TcpStream) -> Peek {
    const MSG_PEEK: i32 = 0x02;
    const MSG_DONTWAIT: i32 = 0x40;
    let mut byte = [MaybeUninit::uninit()];
    match SockRef::from(stream).recv_with_flags(&mut byte, MSG_PEEK | MSG_DONTWAIT) {
        Ok(0) => Peek::Closed,
        Ok(_) => Peek::Bytes,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Peek::Nothing,
        Err(_) => Peek::Closed,
    }
}
