//! The bytes of a segment: its header, and the headers of its frames. Pure.
//!
//! All numbers are little endian. A segment begins with 32 bytes:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `mbrdlog\n` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | CRC-32C of bytes 0 to 11 and 16 to 31 |
//! | 16 | 8 | the position of its first reading, as its name says |
//! | 24 | 8 | the greatest date in all segments before it, in ms |
//!
//! Then frames, each of which is one batch. A frame is a header of 56 bytes and the payload:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | F7 `mbf` |
//! | 4 | 4 | CRC-32C of bytes 8 to 55 |
//! | 8 | 8 | the position of its first reading |
//! | 16 | 8 | the id of its point table |
//! | 24 | 8 | the hold of which its stamps are, if flag 1 is set |
//! | 32 | 8 | its greatest stamp |
//! | 40 | 4 | how many readings |
//! | 44 | 4 | how many bytes of payload |
//! | 48 | 4 | CRC-32C of the payload |
//! | 52 | 4 | flags: 1: undated; others are 0 |
//!
//! The header has a checksum of its own, so a damaged payload is passed without a search, and its readings are counted.

use crate::reading::Timestamp;
use crate::reading::points::TableId;
use crate::spool::batch::{Batch, HoldoverId, Position};

/// Bytes before the first frame of a segment.
pub(super) const SEGMENT_HEADER: u64 = 32;

/// Bytes before the payload of a frame.
pub(super) const FRAME_HEADER: usize = 56;

/// How a frame begins. A search for the next whole frame looks for this.
pub(super) const FRAME_MAGIC: [u8; 4] = [0xf7, b'm', b'b', b'f'];

/// No payload is larger: what a damaged header says is never asked of the memory.
pub(super) const MAX_PAYLOAD: usize = 16 << 20;

const SEGMENT_MAGIC: [u8; 8] = *b"mbrdlog\n";
const VERSION: u32 = 1;
const UNDATED: u32 = 1;

/// What stands at the beginning of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Ours; with the greatest date before it.
    Ours(Timestamp),
    /// Too short, or damaged.
    Damaged,
    /// Whole, but of another version or another position than its name says.
    Foreign,
}

/// The header of the segment that begins with `first`; `newest` is the greatest date in all before it.
pub(super) fn segment_header(first: Position, newest: Timestamp) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    bytes.extend_from_slice(&SEGMENT_MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&first.0.to_le_bytes());
    bytes.extend_from_slice(&newest.as_millis().to_le_bytes());
    let crc = segment_crc(&bytes).to_le_bytes();
    if let Some(place) = bytes.get_mut(12..16) {
        place.copy_from_slice(&crc);
    }
    bytes
}

fn segment_crc(bytes: &[u8]) -> u32 {
    let [before, behind] = [bytes.get(..12), bytes.get(16..32)].map(Option::unwrap_or_default);
    crc32c::crc32c_append(crc32c::crc32c(before), behind)
}

/// What a segment that is named after `first` begins with.
pub(super) fn beginning(bytes: &[u8], first: Position) -> Beginning {
    let numbers = (word(bytes, 8), word(bytes, 12), long(bytes, 16), long(bytes, 24));
    let (Some(version), Some(crc), Some(position), Some(newest)) = numbers else { return Beginning::Damaged };
    if !bytes.starts_with(&SEGMENT_MAGIC) || crc != segment_crc(bytes) {
        return Beginning::Damaged;
    }
    if (version, position) == (VERSION, first.0) {
        Beginning::Ours(Timestamp::from_millis(newest))
    } else {
        Beginning::Foreign
    }
}

/// Whether `bytes` may be what is left of the beginning of a segment of ours.
pub(super) fn may_be_ours(bytes: &[u8]) -> bool {
    let magic = bytes.get(..SEGMENT_MAGIC.len()).unwrap_or(bytes);
    // After a power cut a file may have its length and only zeros for content.
    SEGMENT_MAGIC.starts_with(magic) || bytes.iter().all(|&byte| byte == 0)
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) first: Position,
    pub(super) count: u32,
    pub(super) table: TableId,
    pub(super) undated: Option<HoldoverId>,
    pub(super) newest: Timestamp,
    pub(super) payload: u32,
    pub(super) crc: u32,
}

impl Header {
    /// The header of the frame of `batch`; `None` when its payload is too large for one.
    pub(super) fn of(batch: &Batch) -> Option<Self> {
        let payload = u32::try_from(batch.payload.len()).ok().filter(|_| batch.payload.len() <= MAX_PAYLOAD)?;
        Some(Self {
            first: batch.first,
            count: batch.count,
            table: batch.table.id(),
            undated: batch.undated,
            newest: batch.newest,
            payload,
            crc: crc32c::crc32c(&batch.payload),
        })
    }

    pub(super) fn to_bytes(self) -> [u8; FRAME_HEADER] {
        let flags = if self.undated.is_some() { UNDATED } else { 0 };
        let longs = [self.first.0, self.table.0, self.undated.map_or(0, |hold| hold.0), self.newest.as_millis()];
        let words = [self.count, self.payload, self.crc, flags];
        let content = longs.iter().flat_map(|long| long.to_le_bytes());
        let content: Vec<u8> = content.chain(words.iter().flat_map(|word| word.to_le_bytes())).collect();
        let mut bytes = [0; FRAME_HEADER];
        let crc = crc32c::crc32c(&content).to_le_bytes();
        for (place, byte) in bytes.iter_mut().zip(FRAME_MAGIC.into_iter().chain(crc).chain(content)) {
            *place = byte;
        }
        bytes
    }

    /// The header that `bytes` begin with, if it is whole.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let content = bytes.get(8..FRAME_HEADER)?;
        if !bytes.starts_with(&FRAME_MAGIC) || word(bytes, 4)? != crc32c::crc32c(content) {
            return None;
        }
        let flags = word(bytes, 52)?;
        let header = Self {
            first: Position(long(bytes, 8)?),
            count: word(bytes, 40)?,
            table: TableId(long(bytes, 16)?),
            undated: (flags & UNDATED != 0).then_some(HoldoverId(long(bytes, 24)?)),
            newest: Timestamp::from_millis(long(bytes, 32)?),
            payload: word(bytes, 44)?,
            crc: word(bytes, 48)?,
        };
        // What a checksum lets through by chance, or a later version wrote.
        let possible = header.count > 0
            && header.first.0.checked_add(u64::from(header.count)).is_some()
            && header.payload as usize <= MAX_PAYLOAD
            && flags & !UNDATED == 0;
        possible.then_some(header)
    }

    /// The position behind its last reading.
    pub(super) fn end(&self) -> Position {
        self.first.after(u64::from(self.count))
    }

    /// Bytes of the whole frame.
    pub(super) fn frame(&self) -> u64 {
        FRAME_HEADER as u64 + u64::from(self.payload)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let (word, _) = bytes.get(at..)?.split_first_chunk()?;
    Some(u32::from_le_bytes(*word))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    let (long, _) = bytes.get(at..)?.split_first_chunk()?;
    Some(u64::from_le_bytes(*long))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            first: Position(0x0102_0304_0506_0708),
            count: 3,
            table: TableId(0x1112_1314_1516_1718),
            undated: Some(HoldoverId(0x2122)),
            newest: Timestamp::from_millis(0x3132_3334),
            payload: 41,
            crc: 0x5152_5354,
        }
    }

    #[test]
    fn a_header_is_read_as_it_was_written_and_no_bit_of_it_may_change() {
        for header in
            [header(), Header { undated: None, ..header() }, Header { undated: Some(HoldoverId(0)), ..header() }]
        {
            let bytes = header.to_bytes();
            assert_eq!(Header::parse(&bytes), Some(header));
            for bit in 0..8 * FRAME_HEADER {
                let mut bytes = bytes;
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Header::parse(&bytes), None, "bit {bit}");
            }
            assert_eq!(Header::parse(&bytes[..FRAME_HEADER - 1]), None);
        }
    }

    #[test]
    fn impossible_numbers_are_no_header_though_the_checksum_is_right() {
        let impossible = [
            Header { count: 0, ..header() },
            Header { first: Position(u64::MAX), ..header() },
            Header { payload: u32::MAX, ..header() },
        ];
        for header in impossible {
            assert_eq!(Header::parse(&header.to_bytes()), None, "{header:?}");
        }
    }

    #[test]
    fn a_segment_is_known_by_its_beginning() {
        let newest = Timestamp::from_millis(77);
        let bytes = segment_header(Position(5), newest);
        assert_eq!(bytes.len() as u64, SEGMENT_HEADER);
        assert_eq!(beginning(&bytes, Position(5)), Beginning::Ours(newest));
        assert_eq!(beginning(&bytes, Position(6)), Beginning::Foreign);
        for bit in 0..8 * bytes.len() {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(beginning(&bytes, Position(5)), Beginning::Damaged, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(beginning(&bytes[..length], Position(5)), Beginning::Damaged);
        }
    }
}
