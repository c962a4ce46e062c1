//! The way of a batch from disk to an output.
//!
//! An output reads on where it has stopped: marks say where in which segment that was, so a drain costs one look at each
//! frame. Without a mark the headers of one segment are read. What is missing between two whole frames is known exactly,
//! because positions are numbers of readings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::SpoolError;
use super::batch::{Batch, Position};
use super::disk::{Disk, shown};
use super::frame::{Header, SEGMENT_HEADER};
use super::job::{Gap, GapReason, Read};
use super::log::Log;
use super::quarantine;
use super::segment;
use super::source::{At, Source};
use super::tables::Tables;
use crate::digest::sha256;

/// So many places are remembered for each output: the batches of one read, for one that asks for some of them again.
const MARKS: usize = 1_024;

/// Where an output may go on: of positions, the segment, and the place in it of the first frame that ends behind them.
#[derive(Debug, Default)]
pub(super) struct Marks(BTreeMap<Position, (Position, u64)>);

impl Marks {
    fn put(&mut self, position: Position, segment: Position, at: u64) {
        self.0.insert(position, (segment, at));
        if self.0.len() > MARKS {
            // Outputs go forward: the lowest place is the one that is least likely to be asked for again.
            self.0.pop_first();
        }
    }

    fn before(&self, position: Position) -> Option<(Position, u64)> {
        self.0.range(..=position).next_back().map(|(_, &place)| place)
    }

    /// The segment is gone.
    pub(super) fn forget(&mut self, segment: Position) {
        self.0.retain(|_, place| place.0 != segment);
    }
}

/// What is damaged between two whole frames.
#[derive(Debug, Clone, Copy)]
struct Damage {
    from: u64,
    to: u64,
}

/// A read that is under way.
struct Reading {
    read: Read,
    /// The next reading that is wanted,
    wanted: Position,
    /// and how many.
    most: u64,
    damage: Option<Damage>,
}

impl Log {
    /// The readings from `from` on, `most` of them or some more.
    pub(super) fn read(&mut self, output: usize, from: Position, most: usize) -> Result<Read, SpoolError> {
        let most = most as u64;
        let mut reading = Reading { read: Read::default(), wanted: from, most, damage: None };
        let (mut segment, mut at) = self.place(output, from);
        while reading.most > 0
            && let Some(first) = segment
        {
            let next = self.segments.range(first.after(1)..).next().map(|(&next, _)| next);
            match self.read_segment(output, first, at, next, &mut reading) {
                Ok(true) => {}
                Ok(false) => break,
                // Somebody has removed it.
                Err(error) if error.is_gone() => reading.damage = None,
                Err(error) => return Err(error),
            }
            let end = next.unwrap_or(self.end);
            // Before `vanished`: readings that nobody has ever seen must not be told as gone.
            if let Some((_, guess)) = self.guess.filter(|&(segment, _)| segment == first) {
                reading.missing(guess.min(end), GapReason::Guessed);
            }
            // Readings that were delivered from memory were never written: there is nothing between the last frame and
            // `end`.
            reading.vanished(end);
            (segment, at) = (next, SEGMENT_HEADER);
        }
        if segment.is_none() && reading.most > 0 {
            reading.vanished(self.end);
        }
        Ok(reading.read)
    }

    /// Where to begin: at a mark, or at the beginning of the segment.
    fn place(&self, output: usize, from: Position) -> (Option<Position>, u64) {
        let within = self.segments.range(..=from).next_back().or_else(|| self.segments.first_key_value());
        let Some((&first, _)) = within else { return (None, 0) };
        let mark = self.marks.get(&output).and_then(|marks| marks.before(from));
        let at = mark.filter(|&(segment, _)| segment == first).map_or(SEGMENT_HEADER, |(_, at)| at);
        (Some(first), at)
    }

    /// Reads on in the segment `first`; whether it was read to its end.
    fn read_segment(
        &mut self,
        output: usize,
        first: Position,
        mut at: u64,
        next: Option<Position>,
        reading: &mut Reading,
    ) -> Result<bool, SpoolError> {
        let Some(length) = self.segments.get(&first).map(|segment| segment.length) else { return Ok(true) };
        let from_the_beginning = at == SEGMENT_HEADER;
        let marks = self.marks.entry(output).or_default();
        let mut tables_patience = std::mem::take(&mut self.table_patience);
        let mut source = Source::new(&mut *self.disk, &mut self.patience, segment::path(first), length);
        let done = loop {
            if reading.most == 0 {
                marks.put(reading.wanted, first, at);
                break Ok(false);
            }
            let found = match source.frame(at) {
                Ok(found) => found,
                Err(error) => break Err(error),
            };
            match found {
                At::End => break Ok(true),
                // A failed write that could not be cut off has left it; its readings were written again into the next
                // segment.
                At::Frame(header) if next.is_some_and(|next| header.first >= next) => break Ok(true),
                At::Frame(header) if header.end() <= reading.wanted => {
                    reading.pass();
                    at = at.saturating_add(header.frame());
                }
                At::Frame(header) => {
                    let to = at.saturating_add(header.frame());
                    let batch = match batch(&mut source, &mut self.tables, &mut tables_patience, at, &header) {
                        Ok(batch) => batch,
                        Err(error) => break Err(error),
                    };
                    match batch {
                        Some(batch) => {
                            // Only with this frame is it known how many readings the damage before it has cost.
                            if let Err(error) = reading.damaged(&mut source, header.first, first) {
                                break Err(error);
                            }
                            marks.put(header.first, first, at);
                            reading.push(batch);
                        }
                        None => reading.damage(at, to),
                    }
                    at = to;
                }
                // Byte by byte: the length in a damaged header may lead past frames that are whole.
                At::Damaged => match source.next_whole(at.saturating_add(1), reading.earliest()) {
                    Ok(whole) => {
                        let to = whole.unwrap_or_else(|| source.limit());
                        reading.damage(at, to);
                        at = to;
                    }
                    Err(error) => break Err(error),
                },
            }
        };
        let done = match done {
            Ok(true) => reading.damaged(&mut source, next.unwrap_or(self.end), first).map(|()| true),
            done => done,
        };
        let unreadable = source.unreadable;
        self.table_patience = tables_patience;
        if unreadable {
            self.unreadable.insert(first);
        // Only who has read all of it can say that nothing of it is unreadable.
        } else if from_the_beginning && matches!(done, Ok(true)) {
            // The disk has thought better of it.
            self.unreadable.remove(&first);
        }
        done
    }
}

/// The batch of the frame at `at`; `None` when payload or table are damaged.
fn batch(
    source: &mut Source<'_>,
    tables: &mut Tables,
    patience: &mut super::source::Patience,
    at: u64,
    header: &Header,
) -> Result<Option<Arc<Batch>>, SpoolError> {
    let Some(payload) = source.payload(at, header)?.map(<[u8]>::to_vec) else { return Ok(None) };
    let Some(table) = tables.get(source.disk, patience, header.table)? else { return Ok(None) };
    Ok(Some(Arc::new(Batch {
        first: header.first,
        count: header.count,
        table,
        undated: header.undated,
        newest: header.newest,
        payload,
    })))
}

impl Reading {
    fn push(&mut self, batch: Arc<Batch>) {
        self.vanished(batch.first);
        self.most = self.most.saturating_sub(batch.end().since(self.wanted));
        self.wanted = batch.end();
        self.read.batches.push(batch);
    }

    /// The first reading that a frame behind damage may hold. Until one is found of what is wanted that is any: the output may
    /// have stopped within it.
    fn earliest(&self) -> Position {
        if self.has_begun() { self.wanted } else { Position::default() }
    }

    /// A frame has nothing that is wanted: what is damaged before it was passed with it.
    fn pass(&mut self) {
        if !self.has_begun() {
            self.damage = None;
        }
    }

    fn has_begun(&self) -> bool {
        !self.read.batches.is_empty() || !self.read.gaps.is_empty()
    }

    /// The bytes between the two places are of no use.
    fn damage(&mut self, from: u64, to: u64) {
        self.damage = Some(Damage { from: self.damage.map_or(from, |damage| damage.from), to });
    }

    /// What is damaged ends before the reading `to`: it is kept for people to look at, unless no reading was in it.
    fn damaged(&mut self, source: &mut Source<'_>, to: Position, first: Position) -> Result<(), SpoolError> {
        let Some(damage) = self.damage else { return Ok(()) };
        if to > self.wanted {
            let path = keep(source, damage, first)?;
            self.read.gaps.push(Gap { from: self.wanted, to, why: GapReason::Damaged(path) });
            self.wanted = to;
        }
        self.damage = None;
        Ok(())
    }

    /// No reading before `to` is there.
    fn vanished(&mut self, to: Position) {
        self.missing(to, GapReason::Vanished);
    }

    fn missing(&mut self, to: Position, why: GapReason) {
        if to > self.wanted {
            self.read.gaps.push(Gap { from: self.wanted, to, why });
            self.wanted = to;
        }
    }
}

/// Copies what is damaged to quarantine. It is not waited for a full disk: then it is where it was.
fn keep(source: &mut Source<'_>, damage: Damage, first: Position) -> Result<PathBuf, SpoolError> {
    let length = usize::try_from(damage.to.saturating_sub(damage.from)).unwrap_or_default();
    let bytes = source.get(damage.from, length)?.unwrap_or_default().to_vec();
    let [a, b, c, d, ..] = sha256(&[&bytes]);
    // By content: the same damage, met by another output or after a restart, is kept once.
    let name = format!("{:016x}_{a:02x}{b:02x}{c:02x}{d:02x}.damaged", first.0);
    let disk: &mut dyn Disk = source.disk;
    match quarantine::keep(disk, &name, &bytes) {
        // A disk that reads nothing and takes nothing is broken as a whole, or pulled: nothing is passed over.
        Err(error) if source.unreadable && !error.takes_nothing() => Err(error),
        Err(_) => Ok(shown(source.disk, &source.path)),
        kept => kept,
    }
}
