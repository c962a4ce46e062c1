//! What is in the agent's log of readings, read by its specification (the headers of `src/spool`) without the agent's code, as
//! bodies that the test server's ingester takes: one for each batch that an output has not acknowledged.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The bodies of what the output `name` has not acknowledged yet, in order. A batch that is being written is not there yet.
pub fn waiting(spool: &Path, name: &str) -> Vec<Vec<u8>> {
    batches(spool, name).into_iter().map(|batch| batch.body).collect()
}

/// The files of the log that hold readings, oldest first.
pub fn segments(spool: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(spool.join("log")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut segments: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "segment")).collect();
    segments.sort();
    segments
}

/// A batch in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The segment that it is in.
    pub segment: PathBuf,
    /// The bytes of it there, its header included.
    pub bytes: Range<usize>,
    /// How many readings it holds.
    pub readings: u32,
    /// What it holds, as one body.
    pub body: Vec<u8>,
}

impl Batch {
    /// Changes the byte `at` of it, counted from its beginning.
    pub fn damage(&self, at: usize) {
        let mut bytes = fs::read(&self.segment).unwrap();
        bytes[self.bytes.clone()][at] ^= 0x20;
        fs::write(&self.segment, bytes).unwrap();
    }

    /// Its bytes, as they are now.
    pub fn content(&self) -> Vec<u8> {
        fs::read(&self.segment).unwrap()[self.bytes.clone()].to_vec()
    }
}

/// How many readings the output `name` has not acknowledged.
pub fn readings(spool: &Path, name: &str) -> u64 {
    let cursor = cursor(&fs::read(spool.join("log/cursors")).unwrap_or_default(), name);
    let of = |segment| {
        let bytes = fs::read(segment).unwrap_or_default();
        let frames = frames(&bytes).into_iter();
        frames.map(|frame| (frame.first + u64::from(frame.count)).saturating_sub(frame.first.max(cursor))).sum::<u64>()
    };
    segments(spool).into_iter().map(of).sum()
}

/// The header of a batch, before its readings.
pub const HEADER: usize = 56;

/// The batches of which the output `name` has not acknowledged everything, in order.
pub fn batches(spool: &Path, name: &str) -> Vec<Batch> {
    let log = spool.join("log");
    let cursor = cursor(&fs::read(log.join("cursors")).unwrap_or_default(), name);
    let mut batches = Vec::new();
    for segment in segments(spool) {
        let bytes = fs::read(&segment).unwrap_or_default();
        batches.extend(frames(&bytes).into_iter().filter_map(|frame| {
            let body = frame.body(&log, cursor)?;
            let bytes = frame.at..frame.at + HEADER + frame.payload.len();
            Some(Batch { segment: segment.clone(), bytes, readings: frame.count, body })
        }));
    }
    batches
}

/// The position of an output, by the half of the file that is whole and newer.
fn cursor(file: &[u8], name: &str) -> u64 {
    let half = |half: &[u8]| {
        let length = usize::try_from(u32_at(half, 4)?).ok()?;
        let content = half.get(4..8 + length)?;
        let positions = content.get(12..)?;
        (crc32c::crc32c(content) == u32_at(half, 0)?).then(|| (u64_at(half, 8), positions.to_vec()))
    };
    let halves = file.chunks(16 << 10).filter_map(half);
    let Some((_, mut rest)) = halves.max_by_key(|(sequence, _)| *sequence) else { return 0 };
    while let (Some(position), Some(length)) = (u64_at(&rest, 0), rest.get(16..18)) {
        let end = 18 + usize::from(u16::from_le_bytes([length[0], length[1]]));
        if rest.get(18..end) == Some(name.as_bytes()) {
            return position;
        }
        rest = rest.split_off(end.min(rest.len()));
    }
    0
}

struct Frame<'a> {
    at: usize,
    first: u64,
    table: u64,
    newest: u64,
    count: u32,
    payload: &'a [u8],
}

/// The whole frames of a segment, damaged ones passed over.
fn frames(segment: &[u8]) -> Vec<Frame<'_>> {
    let (mut at, mut found) = (32, Vec::new());
    while let Some(header) = segment.get(at..at + 56) {
        if header[..4] != [0xf7, b'm', b'b', b'f'] || u32_at(header, 4) != Some(crc32c::crc32c(&header[8..])) {
            at += 1;
            continue;
        }
        let long = |at| u64_at(header, at).unwrap();
        let word = |at| u32_at(header, at).unwrap();
        let end = at + 56 + word(44) as usize;
        let Some(payload) = segment.get(at + 56..end) else { break };
        if crc32c::crc32c(payload) == word(48) {
            found.push(Frame { at, first: long(8), table: long(16), newest: long(32), count: word(40), payload });
        }
        at = end;
    }
    found
}

impl Frame<'_> {
    /// Its readings from `cursor` on; `None` when there are none.
    fn body(&self, log: &Path, cursor: u64) -> Option<Vec<u8>> {
        if self.first + u64::from(self.count) <= cursor {
            return None;
        }
        let table = fs::read(log.join(format!("{:016x}.points", self.table))).ok()?;
        let table: Value = serde_json::from_slice(&table).ok()?;
        let readings = (self.first..).zip(self.readings()).filter(|(position, _)| *position >= cursor);
        let (mut pairs, mut rows, mut next) = (serde_json::Map::new(), Vec::new(), 0);
        for (_, (point, at, value)) in readings {
            let place = &table["points"][point];
            let device = &table["devices"][usize::try_from(place[0].as_u64()?).ok()?];
            let register = &table["registers"][usize::try_from(place[1].as_u64()?).ok()?];
            let unit = format!("{:03}", device["unit"].as_u64()?);
            let data_type = match register["kind"].as_str()? {
                "integer" => 99,
                "float" => 101,
                "counter" => 32,
                _ => 64,
            };
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (host, id) = (text(&table["hostname"]), text(&table["agent_id"]));
            let (target, program) = (text(&device["device"]), "pattoo_agent_modbustcpd".to_owned());
            let key = text(&register["key"]);
            let mut checksum = sha(&format!("{key}{data_type}"));
            for (name, value) in [
                ("unit", &unit),
                ("pattoo_agent_hostname", &host),
                ("pattoo_agent_id", &id),
                ("pattoo_agent_polled_target", &target),
                ("pattoo_agent_program", &program),
            ] {
                checksum = sha(&format!("{checksum}{name}{value}"));
            }
            let row = [
                ("unit", json!(unit)),
                ("pattoo_agent_polling_interval", json!(device["interval_ms"].as_u64()?.to_string())),
                ("pattoo_agent_hostname", json!(host)),
                ("pattoo_agent_id", json!(id)),
                ("pattoo_agent_polled_target", json!(target)),
                ("pattoo_agent_program", json!(program)),
                ("pattoo_key", json!(key)),
                ("pattoo_data_type", json!(data_type)),
                ("pattoo_value", value),
                ("pattoo_timestamp", json!(at)),
                ("pattoo_checksum", json!(checksum)),
            ];
            rows.push(json!((next..next + row.len()).collect::<Vec<_>>()));
            for (name, value) in row {
                pairs.insert(next.to_string(), json!([name, value]));
                next += 1;
            }
        }
        let body = json!({
            "pattoo_agent_timestamp": self.newest,
            "pattoo_agent_id": table["agent_id"],
            "pattoo_agent_polling_interval": table["polling_interval_ms"],
            "pattoo_datapoints": {"key_value_pairs": pairs, "datapoint_pairs": rows},
        });
        (next > 0).then(|| serde_json::to_vec(&body).unwrap())
    }

    /// Point, stamp and value of each reading.
    fn readings(&self) -> Vec<(usize, u64, Value)> {
        let (mut rest, mut point, mut at) = (self.payload, 0_i64, 0_i64);
        let mut readings = Vec::new();
        for _ in 0..self.count {
            let flags = rest[0];
            rest = &rest[1..];
            point = if flags & 8 == 0 { point + zigzag(&mut rest) } else { point + 1 };
            if flags & 4 == 0 {
                at += zigzag(&mut rest);
            }
            let value = match flags & 3 {
                0 => {
                    let (bits, behind) = rest.split_first_chunk().unwrap();
                    rest = behind;
                    json!(f64::from_bits(u64::from_le_bytes(*bits)))
                }
                1 => json!(zigzag(&mut rest)),
                #[allow(clippy::cast_precision_loss, reason = "whole numbers below 2^53")]
                _ => json!(zigzag(&mut rest) as f64),
            };
            readings.push((usize::try_from(point).unwrap(), u64::try_from(at).unwrap(), value));
        }
        readings
    }
}

fn zigzag(rest: &mut &[u8]) -> i64 {
    let (mut value, mut shift) = (0_u64, 0);
    loop {
        let byte = rest[0];
        *rest = &rest[1..];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
}

fn sha(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}
