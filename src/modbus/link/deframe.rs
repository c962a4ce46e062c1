//! Which bytes of a serial line are the reply to a request: pure, bytes in, verdict out.
//!
//! RTU has no number and, over TCP, no silence between frames: a reply is known by its unit, function, byte count and
//! checksum. A line in the field adds noise (a byte at each turn of a badly biased line), the echo of each request, and
//! frames of other clients and units. What is looked at is always the earliest byte that is not decided yet:
//!
//! 1. the bytes of the request itself are its echo, and dropped; as long as they may become one they are waited for;
//! 2. a frame whose unit, function (or its exception), byte count and checksum fit is the reply: at once if nothing but
//!    echoes and whole frames of others came before it; behind noise only if it ends the burst, that is, if nothing
//!    (behind values: at most [`TAIL`] byte) follows within [`SETTLE`], so that what looks like a reply inside
//!    somebody else's frame is not taken: that frame's checksum follows;
//! 3. one whose checksum does not fit is our reply, damaged: it is skipped whole, with all that is in it;
//! 4. a frame of anybody else whose checksum fits is skipped whole. While it may become one, no reply inside it is
//!    taken, unless the line falls silent;
//! 5. any other byte is noise, of which at most so many are skipped as the caller allows.
//!
//! The request of another client to our unit and function makes every later reply ambiguous: none is taken any more.
//! Where any unit may answer (`ignore_unit_id`), a frame is known by too little to be found in noise or among frames
//! of others: only the first frame is taken. So that setting is sound on a line with one device only.

use std::time::Duration;

use super::reply_check::{Framing, Ignored, REQUEST_LEN, ReplyCheck, checksum};
use crate::modbus::error::Violation;

/// A burst has ended when nothing comes for so long: more than gateways wait before they send what they have.
pub(super) const SETTLE: Duration = Duration::from_millis(50);

/// So much noise may follow a reply with noise before it. A frame that a reply is a part of goes on for two at least.
const TAIL: usize = 1;

/// So many bytes are looked at in one exchange: a second of a busy fast line.
pub(super) const MOST_BYTES: usize = 16 << 10;

/// Unit, function, address, quantity, checksum.
const REQUEST: usize = 8;
/// Unit, function, code, checksum.
const EXCEPTION: usize = 5;
/// No frame is longer.
const LONGEST: usize = 256;

/// The search for one reply.
#[derive(Debug)]
pub(super) struct Search {
    request: [u8; REQUEST],
    check: ReplyCheck,
    /// What has come and is not decided.
    bytes: Vec<u8>,
    /// How many bytes have come.
    all: usize,
    most_noise: usize,
    noise: usize,
    echo: bool,
    /// Whether another client was heard, and whether it asked for what we ask for.
    others: bool,
    rival: bool,
    /// The most telling of what did not fit.
    fault: Option<Violation>,
}

/// What is known after some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The reply.
    Reply(Vec<u8>),
    /// There may be one if nothing follows for [`SETTLE`]: ask [`Search::settled`] then.
    Settling,
    /// Not yet.
    More,
}

/// What stands at some place.
enum Found {
    Echo,
    Reply(usize),
    Damaged(usize),
    Foreign(usize),
    /// It may still become our reply or an echo.
    OursSoFar,
    /// It may still become somebody else's frame.
    ForeignSoFar,
    Nothing,
}

impl Search {
    /// For the reply to `request`, behind at most so much noise.
    pub(super) fn new(request: &[u8; REQUEST_LEN], ignored: Ignored, most_noise: usize) -> Self {
        let [echo @ .., _, _, _, _] = *request;
        Self {
            request: echo,
            check: ReplyCheck::by(Framing::Rtu, ignored, request),
            bytes: Vec::new(),
            all: 0,
            most_noise,
            noise: 0,
            echo: false,
            others: false,
            rival: false,
            fault: None,
        }
    }

    /// What comes next.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.all += bytes.len();
        self.bytes.extend_from_slice(bytes);
    }

    /// How many bytes have come.
    pub(super) fn received(&self) -> usize {
        self.all
    }

    /// How many bytes before the reply belong to no frame.
    pub(super) fn noise(&self) -> usize {
        self.noise
    }

    /// Whether the line repeats the request.
    pub(super) fn has_echo(&self) -> bool {
        self.echo
    }

    /// Decides as much as can be decided.
    ///
    /// # Errors
    /// When too much has come.
    pub(super) fn advance(&mut self) -> Result<Progress, Violation> {
        if self.all > MOST_BYTES {
            return Err(Violation::Flood { most: MOST_BYTES });
        }
        while !self.bytes.is_empty() {
            match self.look(&self.bytes) {
                Found::Echo => {
                    self.echo = true;
                    self.bytes.drain(..REQUEST);
                }
                Found::Reply(whole) if self.noise == 0 && self.may_take() => {
                    return Ok(Progress::Reply(self.bytes.drain(..whole).collect()));
                }
                Found::Reply(whole) if self.may_take() && ends_burst(whole, &self.bytes) => {
                    return Ok(Progress::Settling);
                }
                Found::Damaged(whole) => {
                    self.fault.get_or_insert(Violation::Checksum);
                    self.skip_noise(whole)?;
                }
                // What is in it, or behind it, is not ours for certain.
                Found::Reply(whole) => self.skip_noise(whole)?,
                Found::Foreign(whole) => {
                    self.note(whole);
                    self.bytes.drain(..whole);
                }
                Found::OursSoFar => return Ok(Progress::More),
                // Its checksum decides. If the line falls silent before that is there, it was no frame.
                Found::ForeignSoFar => return Ok(Progress::Settling),
                Found::Nothing => self.skip_noise(1)?,
            }
        }
        Ok(Progress::More)
    }

    /// The reply among what has come, now that the line is silent; `None` if it has not.
    pub(super) fn settled(&mut self) -> Option<Vec<u8>> {
        let mut at = 0;
        while let Some(rest) = self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            at += match self.look(rest) {
                Found::Reply(whole) if ends_burst(whole, rest) => {
                    if !self.may_take() || (self.check.is_of_any_unit() && at > 0) {
                        return None;
                    }
                    let reply = rest[..whole].to_vec();
                    self.noise += at;
                    return Some(reply);
                }
                // The rest of it may still come: gateways cut frames.
                Found::OursSoFar => return None,
                Found::Foreign(whole) if is_rival(&self.check, &rest[..whole]) => return None,
                Found::Echo => REQUEST,
                Found::Reply(whole) | Found::Damaged(whole) | Found::Foreign(whole) => whole,
                // The line is silent, so that it did not become a frame.
                Found::ForeignSoFar | Found::Nothing => 1,
            };
        }
        None
    }

    /// Why there is no reply at the deadline; `None` when nothing has come but a part of it.
    pub(super) fn fault(&self) -> Option<Violation> {
        if self.rival {
            return Some(Violation::OtherClient { unit: self.check.unit });
        }
        let undecided = match self.look(&self.bytes) {
            _ if self.bytes.is_empty() => 0,
            Found::OursSoFar => 0,
            _ => self.bytes.len(),
        };
        let noise = Some(self.noise + undecided).filter(|bytes| *bytes > 0);
        self.fault.or_else(|| noise.map(|bytes| Violation::NoFrame { bytes }))
    }

    /// Whether a reply can be told from those to others.
    fn may_take(&self) -> bool {
        !self.rival && !(self.check.is_of_any_unit() && (self.others || self.noise > 0))
    }

    fn skip_noise(&mut self, bytes: usize) -> Result<(), Violation> {
        self.noise += bytes;
        self.bytes.drain(..bytes);
        if self.noise > self.most_noise {
            return Err(self.fault.unwrap_or(Violation::NoFrame { bytes: self.noise }));
        }
        Ok(())
    }

    /// A frame of somebody else stands at the beginning.
    fn note(&mut self, whole: usize) {
        let frame = &self.bytes[..whole];
        let ReplyCheck { unit, function, .. } = self.check;
        self.rival |= is_rival(&self.check, frame);
        if is_request(frame) {
            // Not our device answers strangely: others are talking.
            self.others = true;
            self.fault = self.fault.filter(|fault| *fault == Violation::Checksum);
        }
        if let ([found_unit, found, count, ..], false) = (frame, self.others) {
            let fault = if *found_unit != unit {
                (*found & !0x80 == function).then_some(Violation::Unit { expected: unit, found: *found_unit })
            } else if *found != function {
                Some(Violation::Function { expected: function, found: *found })
            } else {
                Some(Violation::ByteCount { expected: self.check.byte_count(), found: u16::from(*count) })
            };
            self.fault = self.fault.or(fault);
        }
        // Where any unit may answer, no later frame can be told from one for whoever this one was for.
        self.others = true;
    }

    fn look(&self, rest: &[u8]) -> Found {
        // First: an echo is also what a rival would ask, which would make every later reply ambiguous.
        if rest.starts_with(&self.request) {
            return Found::Echo;
        }
        if self.request.starts_with(rest) {
            return Found::OursSoFar;
        }
        let ours = match self.check.check(rest) {
            Ok(None) => return Found::OursSoFar,
            Ok(Some(whole)) if rest.len() < whole => return Found::OursSoFar,
            Ok(Some(whole)) if checksum(&rest[..whole]) == 0 => return Found::Reply(whole),
            // Ours by its head, with a wrong checksum: damaged, or the beginning of somebody else's frame.
            Ok(Some(whole)) => Some(whole),
            Err(_) => None,
        };
        match (foreign(rest), ours) {
            (Found::Foreign(whole), _) => Found::Foreign(whole),
            // The head of an exception is too short to be sure of its length.
            (_, Some(whole)) if whole > EXCEPTION => Found::Damaged(whole),
            (other, _) => other,
        }
    }
}

/// Whether so little follows the reply of this length that it is no part of another frame.
fn ends_burst(whole: usize, bytes: &[u8]) -> bool {
    // An exception is short enough to be somewhere by chance.
    bytes.len() - whole <= if whole > EXCEPTION { TAIL } else { 0 }
}

/// Whether another client asks for what could be answered as `reply_check`.
fn is_rival(check: &ReplyCheck, frame: &[u8]) -> bool {
    is_request(frame)
        && frame.get(1) == Some(&check.function)
        && (check.is_of_any_unit() || frame.first() == Some(&check.unit))
}

/// Whether a whole frame asks to read something.
fn is_request(frame: &[u8]) -> bool {
    matches!(frame, [_, 1..=4, _, _, _, _, _, _])
}

/// Whether `bytes` end with a request to what could answer as `request` does: that answer is about to come.
pub(super) fn ends_with_rival(bytes: &[u8], request: &[u8; REQUEST_LEN], ignored: Ignored) -> bool {
    let last = bytes.len().checked_sub(REQUEST).and_then(|start| bytes.get(start..));
    let expected = ReplyCheck::by(Framing::Rtu, ignored, request);
    last.is_some_and(|frame| checksum(frame) == 0 && is_rival(&expected, frame))
}

/// A frame of anybody, request or reply, by the functions that are in use on serial lines.
fn foreign(rest: &[u8]) -> Found {
    let Some(&function) = rest.get(1) else {
        return Found::ForeignSoFar;
    };
    // `None`: as long as a byte says that is not there yet.
    let counted = |at: usize, around: usize| rest.get(at).map(|count| around + usize::from(*count));
    // As a request and as a reply: nothing but the checksum tells which of the two it is.
    let lengths = match function {
        1..=4 => [Some(REQUEST), counted(2, 5)],
        5 | 6 => [Some(8); 2],
        15 | 16 => [counted(6, 9), Some(8)],
        22 => [Some(10); 2],
        23 => [counted(10, 13), counted(2, 5)],
        // 0x80 itself: the exceptions of gateways that leave the function out.
        0x80..=0x86 | 0x8F | 0x90 | 0x96 | 0x97 => [Some(EXCEPTION); 2],
        // Not any function: nearly each byte of noise could begin a frame, and the reply behind it would wait.
        _ => return Found::Nothing,
    };
    let whole = |length: &usize| rest.get(..*length).is_some_and(|frame| checksum(frame) == 0);
    if let Some(whole) = lengths.into_iter().flatten().find(whole) {
        return Found::Foreign(whole);
    }
    let is_open = |length: Option<usize>| length.is_none_or(|length| rest.len() < length && length <= LONGEST);
    if lengths.into_iter().any(is_open) { Found::ForeignSoFar } else { Found::Nothing }
}

#[cfg(test)]
mod tests;
