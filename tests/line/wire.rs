//! The line: what each request is answered with, when, and what else is on the wires. Written from the specification.
//!
//! It is drawn whole before a run ([`Plan`]). Bytes go to whatever connection is open when they are due; a gateway may
//! also keep them for the next one. Bound, as the link's assumption has it: everything that a request causes is over
//! within twice the response timeout. Whole frames of others are never damaged *and* cut short behind an image of our
//! reply: no receiver could tell those.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};

/// Of the link, in milliseconds.
pub const RESPONSE: u64 = 1_000;
/// What a request causes is over by then.
const OVER: u64 = 2 * RESPONSE - 10;
/// Words that nobody here asks for.
const STRANGE: u16 = 0xEEEE;

/// A case.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For ever: the line repeats requests; this byte comes before each reply.
    pub echo: bool,
    pub crackle: Option<u8>,
    /// Whether the gateway keeps what comes while nobody is connected, and what it says to who connects.
    pub keeps: bool,
    pub greeting: Vec<u8>,
    pub steps: Vec<Step>,
}

/// One request, and what becomes of it.
#[derive(Debug, Clone)]
pub struct Step {
    pub ask: Ask,
    /// Before it, in milliseconds.
    pub pause: u64,
    /// The read is given up after so long.
    pub abandoned: Option<u64>,
    pub trouble: Trouble,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    pub unit: u8,
    pub function: u8,
    pub address: u16,
    pub quantity: u16,
}

#[derive(Debug, Clone, Default)]
pub struct Trouble {
    pub others: Vec<Other>,
    pub noise: Vec<u8>,
    /// Between the noise and the reply.
    pub delay: u64,
    pub reply: Reply,
    /// Where the reply is cut, and for how long.
    pub cut: (usize, u64),
    pub behind: Vec<u8>,
    pub others_behind: Vec<Other>,
    /// The connection is closed so long after the request.
    pub closes: Option<u64>,
}

#[derive(Debug, Clone, Default)]
pub enum Reply {
    #[default]
    Right,
    Exception(u8),
    None,
    /// Without its end.
    Truncated(usize),
    /// Without one byte.
    Dropped(usize),
    Flipped(usize),
    /// Of another unit.
    Strange(u8),
}

/// Somebody else's frame.
#[derive(Debug, Clone)]
pub enum Other {
    /// A request and its reply, in which our reply stands (`true`) or an exception for us; damaged if that is said.
    Exchange { unit: u8, function: u8, image: Option<bool>, damaged: bool },
    /// The request of another client to the same unit and function, and its reply after so long.
    Rival(u64),
    /// A heartbeat of the gateway.
    Text,
}

fn ask() -> impl Strategy<Value = Ask> {
    let address = prop_oneof![Just(0), Just(0x0200), Just(0x0400), 0..2_000_u16];
    (prop_oneof![1..4_u8, Just(17)], prop_oneof![Just(3_u8), Just(3), Just(4), Just(1)], address, 1..5_u16).prop_map(
        |(unit, function, address, quantity)| {
            let quantity = if function == 1 { 16 } else { quantity };
            Ask { unit, function, address, quantity }
        },
    )
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(Vec::new()),
        2 => vec(Just(0), 1..3),
        2 => vec(any::<u8>(), 1..40),
        1 => vec(prop_oneof![0..5_u8, Just(17), Just(0x83)], 1..12),
        1 => vec(any::<u8>(), 200..300),
    ]
}

fn other(rival: u32) -> impl Strategy<Value = Other> {
    let exchange =
        (20..24_u8, prop_oneof![Just(3_u8), Just(4), Just(16), Just(65)], any::<Option<bool>>(), any::<bool>());
    prop_oneof![
        4 => exchange.prop_map(|(unit, function, image, damaged)| Other::Exchange { unit, function, image, damaged }),
        rival => (0..RESPONSE / 2).prop_map(Other::Rival),
        1 => Just(Other::Text),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        8 => Just(Reply::Right),
        1 => (1..12_u8).prop_map(Reply::Exception),
        1 => Just(Reply::None),
        1 => (1..13_usize).prop_map(Reply::Truncated),
        1 => (0..13_usize).prop_map(Reply::Dropped),
        1 => (0..104_usize).prop_map(Reply::Flipped),
        1 => (18..20_u8).prop_map(Reply::Strange),
    ]
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let others = prop_oneof![3 => Just(Vec::new()), 1 => vec(other(1), 1..3)];
    // No rival: whose request comes when nobody listens, behind other bytes, cannot be known.
    let behind = prop_oneof![4 => Just(Vec::new()), 1 => vec(other(0), 1..2)];
    let delay = prop_oneof![3 => 0..20_u64, 1 => 0..RESPONSE, 2 => RESPONSE..OVER];
    let cut = prop_oneof![4 => Just((0, 0)), 1 => (1..12_usize, 0..40_u64), 1 => (1..12_usize, 0..OVER)];
    let closes = prop_oneof![9 => Just(None), 1 => (0..RESPONSE + 200).prop_map(Some)];
    (others, noise(), delay, reply(), cut, noise(), behind, closes).prop_map(
        |(others, noise, delay, reply, cut, behind, others_behind, closes)| Trouble {
            others,
            noise,
            delay,
            reply,
            cut,
            behind,
            others_behind,
            closes,
        },
    )
}

/// Any case.
pub fn plan() -> impl Strategy<Value = Plan> {
    let trouble = prop_oneof![1 => Just(Trouble::default()), 2 => trouble()];
    let pause = prop_oneof![4 => Just(0_u64), 1 => 0..100_u64, 1 => 0..5_000_u64];
    let abandoned = prop_oneof![9 => Just(None), 1 => (0..RESPONSE).prop_map(Some)];
    let step = (ask(), pause, abandoned, trouble).prop_map(|(ask, pause, abandoned, trouble)| Step {
        ask,
        pause,
        abandoned,
        trouble,
    });
    let crackle = prop_oneof![3 => Just(None), 1 => Just(Some(0)), 1 => any::<Option<u8>>()];
    let greeting =
        prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<u8>(), 1..60), 1 => Just(b"+REG:4711\r\n".to_vec())];
    (any::<bool>(), crackle, any::<bool>(), greeting, vec(step, 1..14))
        .prop_map(|(echo, crackle, keeps, greeting, steps)| Plan { echo, crackle, keeps, greeting, steps })
}

/// From the clock: no run is like the one before.
#[expect(clippy::disallowed_methods, reason = "a seed")]
pub fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

/// The words that answer request `number`: they name it, and the place.
pub fn words(ask: Ask, number: u16) -> Vec<u16> {
    if ask.function == 1 {
        return (0..16).map(|bit| number >> bit & 1).collect();
    }
    let place = u16::from(ask.unit) << 8 | u16::from(ask.function) << 12 | ask.address & 0xFF;
    (0..ask.quantity).map(|at| if at % 2 == 0 { number } else { place + at }).collect()
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    [bytes, &checksum(bytes).to_le_bytes()].concat()
}

/// The checksum as the specification describes it; 0 over a frame that ends in its own.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    })
}

fn answer(unit: u8, ask: Ask, words: &[u16]) -> Vec<u8> {
    let data: Vec<u8> = match ask.function {
        1 => {
            words.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit == 1))).collect()
        }
        _ => words.iter().flat_map(|word| word.to_be_bytes()).collect(),
    };
    frame(&[&[unit, ask.function, u8::try_from(data.len()).unwrap()][..], &data].concat())
}

/// What the run reads of it.
#[derive(Debug, Default)]
pub struct Seen {
    /// The last request that came, and how many there were.
    pub asked: Option<Ask>,
    pub number: u16,
    /// The exception with which it is answered.
    pub exception: Option<u8>,
    pub late: usize,
    pub foreign: usize,
    pub violations: Vec<String>,
    /// When the last byte of all is due.
    pub over: Option<Instant>,
}

/// The line under way.
pub struct Wire<'p> {
    plan: &'p Plan,
    connections: UnboundedReceiver<DuplexStream>,
    open: Option<DuplexStream>,
    request: Vec<u8>,
    /// By time; no bytes: the connection is closed.
    due: VecDeque<(Instant, Vec<u8>)>,
    kept: Vec<u8>,
}

impl<'p> Wire<'p> {
    pub fn new(plan: &'p Plan, connections: UnboundedReceiver<DuplexStream>) -> Self {
        Self { plan, connections, open: None, request: Vec::new(), due: VecDeque::new(), kept: Vec::new() }
    }

    /// For ever.
    pub async fn serve(mut self, seen: &std::cell::RefCell<Seen>, step: &std::cell::Cell<usize>) {
        loop {
            let next = self.due.front().map(|(at, _)| *at);
            let mut byte = [0];
            tokio::select! {
                Some(stream) = self.connections.recv() => {
                    self.open = Some(stream);
                    self.request.clear();
                    // As the first bytes of a connection, they come when the first request may have left.
                    let first = [std::mem::take(&mut self.kept), self.plan.greeting.clone()].concat();
                    if !first.is_empty() {
                        self.add(3, first);
                    }
                }
                read = read_byte(&mut self.open, &mut byte) => {
                    if !read {
                        self.open = None;
                        continue;
                    }
                    self.request.push(byte[0]);
                    if self.request.len() == 8 {
                        let request = std::mem::take(&mut self.request);
                        self.asked(&request, step.get(), &mut seen.borrow_mut());
                    }
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.deliver().await,
            }
        }
    }

    async fn deliver(&mut self) {
        let Some((_, bytes)) = self.due.pop_front() else { return };
        if bytes.is_empty() {
            self.open = None;
        } else if let Some(stream) = &mut self.open {
            // Whoever has closed it does not want them.
            stream.write_all(&bytes).await.ok();
        } else if self.plan.keeps {
            self.kept.extend(bytes);
        }
    }

    fn add(&mut self, after: u64, bytes: Vec<u8>) {
        let at = Instant::now() + Duration::from_millis(after);
        let place = self.due.partition_point(|(other, _)| *other <= at);
        self.due.insert(place, (at, bytes));
    }

    fn asked(&mut self, request: &[u8], step: usize, seen: &mut Seen) {
        let [unit, function, a0, a1, q0, q1, ..] = *request else { return };
        let (address, quantity) = (u16::from_be_bytes([a0, a1]), u16::from_be_bytes([q0, q1]));
        let ask = Ask { unit, function, address, quantity };
        if checksum(request) != 0 || !(1..=4).contains(&function) {
            seen.violations.push(format!("no request: {request:?}"));
        }
        seen.number += 1;
        (seen.asked, seen.exception) = (Some(ask), None);
        let default = Trouble::default();
        let trouble = self.plan.steps.get(step).map_or(&default, |step| &step.trouble);
        // Everything in its order, one after the other.
        let mut sequence: Vec<(u64, Vec<u8>)> = Vec::new();
        if self.plan.echo {
            sequence.push((1, request.to_vec()));
        }
        let image = |exception: bool| {
            if exception { frame(&[unit, function | 0x80, 2]) } else { answer(unit, ask, &strange(ask)) }
        };
        for other in &trouble.others {
            seen.foreign += 1;
            sequence.extend(other.frames(ask, &image));
        }
        sequence.push((1, trouble.noise.clone()));
        let right = answer(unit, ask, &words(ask, seen.number));
        let mut reply = match trouble.reply {
            Reply::Right | Reply::Truncated(_) | Reply::Dropped(_) | Reply::Flipped(_) => right,
            Reply::Exception(code) => {
                seen.exception = Some(code);
                frame(&[unit, function | 0x80, code])
            }
            Reply::None => Vec::new(),
            Reply::Strange(unit) => answer(unit, ask, &strange(ask)),
        };
        let length = reply.len().max(1);
        match trouble.reply {
            Reply::Truncated(by) => reply.truncate(length - (by % length).max(1)),
            Reply::Dropped(at) => {
                reply.remove(at % length);
            }
            Reply::Flipped(bit) => reply[bit / 8 % length] ^= 1 << (bit % 8),
            _ => {}
        }
        let behind = reply.split_off(trouble.cut.0.min(reply.len()));
        let crackle = self.plan.crackle.filter(|_| !reply.is_empty() || !behind.is_empty());
        reply.splice(..0, crackle);
        sequence.push((trouble.delay, reply));
        sequence.push((trouble.cut.1, behind));
        let replied = sequence.len();
        sequence.push((1, trouble.behind.clone()));
        for other in &trouble.others_behind {
            seen.foreign += 1;
            sequence.extend(other.frames(ask, &image));
        }
        let mut at = 0;
        for (place, (after, bytes)) in sequence.into_iter().enumerate() {
            at = (at + after).min(OVER);
            if place + 1 == replied && at > RESPONSE {
                seen.late += 1;
            }
            if !bytes.is_empty() {
                self.add(at, bytes);
            }
        }
        if let Some(after) = trouble.closes {
            self.add(after, Vec::new());
        }
        seen.over = self.due.back().map(|(at, _)| *at).max(seen.over);
    }
}

fn strange(ask: Ask) -> Vec<u16> {
    let word = if ask.function == 1 { 1 } else { STRANGE };
    vec![word; ask.quantity.into()]
}

/// The next byte; `false` when the connection is closed. Waits for ever when there is none.
async fn read_byte(open: &mut Option<DuplexStream>, byte: &mut [u8; 1]) -> bool {
    match open {
        Some(stream) => stream.read_exact(byte).await.is_ok(),
        None => std::future::pending().await,
    }
}

impl Other {
    /// Each with the pause before it.
    fn frames(&self, ask: Ask, image: &dyn Fn(bool) -> Vec<u8>) -> Vec<(u64, Vec<u8>)> {
        match *self {
            Self::Text => vec![(1, b"www.usr.cn".to_vec())],
            Self::Rival(after) => {
                let [q0, q1] = ask.quantity.to_be_bytes();
                let request = frame(&[ask.unit, ask.function, 0x12, 0x34, q0, q1]);
                vec![(1, request), (after, answer(ask.unit, ask, &strange(ask)))]
            }
            Self::Exchange { unit, function, image: inside, damaged } => {
                let mut data = vec![0xAB];
                data.extend(inside.map_or_else(Vec::new, image));
                data.resize(data.len() + 2 + data.len() % 2, 0xCD);
                if data.len() % 2 == 1 {
                    data.push(0xEF);
                }
                let count = u8::try_from(data.len()).unwrap();
                let half = count / 2;
                let (request, mut reply) = match function {
                    16 => ([&[unit, 16, 0, 9, 0, half, count][..], &data].concat(), vec![unit, 16, 0, 9, 0, half]),
                    _ => (vec![unit, function, 0, 9, 0, half], [&[unit, function, count][..], &data].concat()),
                };
                reply = frame(&reply);
                if damaged {
                    let last = reply.len() - 1;
                    reply[last] ^= 0x10;
                }
                vec![(1, frame(&request)), (7, reply)]
            }
        }
    }
}
