//! `spool export`: what waits for an output, or all that is on disk, written for others.
//!
//! Lines go to stdout, or into a file. Bodies of posts go into files that are named as the Python agent names those in its
//! cache: put into the cache directory of an agent with this id, of the Python agent or of this one, they are delivered.
//! What the old caches hold are such bodies already.
//!
//! Readings without a date are left out, and so is what is damaged; both are counted and told, and then it has failed.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Found, Refused};
use crate::cli::arguments::{ExportFormat, SpoolExport};
use crate::cli::terminal::{complain, pour};
use crate::daemon::exit::Exit;
use crate::outputs::delivery::to_follow;
use crate::outputs::file::{COLUMNS, FileEncode, Format};
use crate::outputs::pattoo::encode::PattooEncode;
use crate::outputs::{Encode, Encoded};
use crate::reading::points::PointTable;
use crate::reading::{Reading, Timestamp};
use crate::shard::Shard;
use crate::spool::batch::Position;
use crate::spool::job::GapReason;
use crate::text::count;
use crate::time::clock;

/// So many readings are read at once.
const AT_ONCE: usize = 4_096;

/// About so many bytes are in a body.
const ROOM: usize = 256 << 10;

/// Writes it.
pub(super) fn export(mut found: Found, shard: Shard, how: &SpoolExport) -> Result<Exit, Refused> {
    let (name, from, posted, takes_old) = what(&found, how)?;
    let encode: Box<dyn Encode> = match how.format {
        ExportFormat::Pattoo => Box::new(PattooEncode::new(found.agent_id.clone(), shard)),
        ExportFormat::Csv => Box::new(FileEncode(Format::Csv)),
        ExportFormat::Jsonl => Box::new(FileEncode(Format::Jsonl)),
    };
    let sink = match (&how.to, how.format) {
        (Some(directory), ExportFormat::Pattoo) => Sink::Bodies(Bodies::into(directory, found.agent_id.as_str())?),
        (Some(directory), _) => {
            empty(directory)?;
            Sink::file(directory.join(format!("{name}.{}", encode.extension())))?
        }
        (None, _) => Sink::Stdout,
    };
    let mut export = Export { encode, sink, posted, counted: Counted::default() };
    if how.format == ExportFormat::Csv {
        export.sink.write(format!("{COLUMNS}\n").as_bytes(), None)?;
    }
    // Before the log, as they are delivered: a pattoo server drops what is older than what it has.
    let old = if takes_old { found.reader.old_batches()? } else { Vec::new() };
    if how.format == ExportFormat::Pattoo {
        for name in old {
            match found.reader.old_body(name)? {
                Some(body) => {
                    export.sink.write(&body, Some(name.at()))?;
                    // The stamps of bodies only go up, old ones included: the name of a file is its place in the queue.
                    export.posted = export.posted.max(name.at());
                    export.counted.old += 1;
                }
                None => export.counted.damaged_old += 1,
            }
        }
    } else {
        export.counted.old_left = old.len();
    }
    export.all(&mut found, from)?;
    export.sink.end()?;
    Ok(export.counted.tell(how.to.as_deref()))
}

/// Whose readings, from where on, the greatest stamp that a post of it had, and whether the old caches are for it.
fn what(found: &Found, how: &SpoolExport) -> Result<(String, Position, Timestamp, bool), Refused> {
    if how.all {
        let stamps = found.outputs.iter().filter_map(|output| output.cursor).map(|cursor| cursor.stamp);
        return Ok(("all".to_owned(), found.reader.start(), stamps.max().unwrap_or_default(), true));
    }
    let output = match &how.output {
        None => found.outputs.first(),
        Some(name) => found.outputs.iter().find(|output| output.name == *name),
    };
    let Some(output) = output else {
        let names: Vec<_> = found.outputs.iter().map(|output| output.name.as_str()).collect();
        return Err(Refused::Usage(match &how.output {
            Some(name) => format!("there is no output {name:?}; there are {}", names.join(", ")),
            None => "no output has ever read from this log; --all writes everything on disk".to_owned(),
        }));
    };
    let stamp = output.cursor.map(|cursor| cursor.stamp).unwrap_or_default();
    Ok((output.name.clone(), output.from, stamp, output.takes_old_caches))
}

/// An export under way.
struct Export {
    encode: Box<dyn Encode>,
    sink: Sink,
    /// The greatest stamp of a body so far.
    posted: Timestamp,
    counted: Counted,
}

impl Export {
    /// Everything from `from` on.
    fn all(&mut self, found: &mut Found, mut from: Position) -> Result<(), Refused> {
        loop {
            let read = found.reader.read(from, AT_ONCE)?;
            for gap in &read.gaps {
                match gap.why {
                    GapReason::Damaged(_) => self.counted.damaged += gap.to.since(gap.from),
                    // Delivered meanwhile, or given up by the limits.
                    GapReason::Vanished | GapReason::Guessed => {}
                }
            }
            let mut pending: Vec<Reading> = Vec::new();
            let mut of: Option<Arc<PointTable>> = None;
            for batch in &read.batches {
                // A point's id means something in its own table only, so that readings of two tables are never in one
                // body.
                if let Some(table) = of.take_if(|table| table.id() != batch.table.id()) {
                    self.write(&table, &std::mem::take(&mut pending))?;
                }
                let waiting = batch.end().since(from.max(batch.first));
                match found.reader.dated(batch, from) {
                    Some(readings) => {
                        pending.extend(readings);
                        of = Some(Arc::clone(&batch.table));
                    }
                    None if batch.undated.is_some() => self.counted.undated += waiting,
                    None => self.counted.damaged += waiting,
                }
            }
            if let Some(table) = of {
                self.write(&table, &pending)?;
            }
            let batches = read.batches.iter().map(|batch| batch.end());
            let next = batches.chain(read.gaps.iter().map(|gap| gap.to)).max();
            // No further than before is the end, whatever the log says: this must not turn for ever.
            match next.filter(|next| *next > from && !self.sink.is_closed()) {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    fn write(&mut self, table: &Arc<PointTable>, mut readings: &[Reading]) -> Result<(), Refused> {
        while !readings.is_empty() {
            let first = readings.first().map(|reading| reading.at).unwrap_or_default();
            let posted = to_follow(self.posted, first, Some(clock::wall()));
            let Encoded { body, taken, not_sendable, stamp } = self.encode.encode(table, readings, ROOM, posted);
            if let Some(body) = body {
                self.sink.write(&body, stamp)?;
            }
            self.posted = stamp.unwrap_or(self.posted);
            self.counted.readings += taken - not_sendable;
            self.counted.not_sendable += not_sendable;
            // At least one, or an encoder that takes nothing would be asked for ever.
            readings = readings.get(taken.max(1)..).unwrap_or_default();
        }
        Ok(())
    }
}

/// What became of everything.
#[derive(Debug, Default)]
struct Counted {
    readings: usize,
    /// No body or line can say them.
    not_sendable: usize,
    undated: u64,
    damaged: u64,
    /// Batches of the old caches: written,
    old: usize,
    /// damaged,
    damaged_old: usize,
    /// and not written because of the format.
    old_left: usize,
}

impl Counted {
    /// Tells it on stderr: stdout is for the readings.
    fn tell(&self, to: Option<&Path>) -> Exit {
        let batches =
            if self.old > 0 { format!(" and {} of old caches", count(self.old, "body")) } else { String::new() };
        let batches = batches.replace("bodys", "bodies");
        let to = to.map_or_else(String::new, |to| format!(" to {}", to.display()));
        complain(&format!("wrote {}{batches}{to}", count(self.readings, "reading")));
        let left: [(u64, &str); 5] = [
            (self.undated, "readings have no date yet and are left out"),
            (self.damaged, "readings are damaged and are left out"),
            (self.not_sendable as u64, "readings cannot be said in this form and are left out"),
            (self.damaged_old as u64, "bodies of old caches are damaged or gone and are left out"),
            (self.old_left as u64, "bodies of old caches wait too and are left out; --format pattoo writes them"),
        ];
        let mut exit = Exit::Done;
        for (number, what) in left.into_iter().filter(|(number, _)| *number > 0) {
            complain(&format!("{number} {what}"));
            exit = Exit::Failure;
        }
        exit
    }
}

/// Where it goes.
enum Sink {
    Stdout,
    /// Nobody reads any more.
    Closed,
    File(File, PathBuf),
    Bodies(Bodies),
}

impl Sink {
    fn file(path: PathBuf) -> Result<Self, Refused> {
        let file = make(&path).map_err(|source| Refused::Write { path: path.clone(), source })?;
        Ok(Self::File(file, path))
    }

    fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    fn write(&mut self, bytes: &[u8], stamp: Option<Timestamp>) -> Result<(), Refused> {
        match self {
            Self::Closed => {}
            Self::Stdout => {
                // Whoever reads has seen enough (`head`): the rest need not be read from disk.
                if !pour(&String::from_utf8_lossy(bytes)) {
                    *self = Self::Closed;
                }
            }
            Self::File(file, path) => {
                file.write_all(bytes).map_err(|source| Refused::Write { path: path.clone(), source })?;
            }
            Self::Bodies(bodies) => bodies.write(bytes, stamp.unwrap_or_default())?,
        }
        Ok(())
    }

    /// Everything is durable.
    fn end(self) -> Result<(), Refused> {
        let (synced, path) = match self {
            Self::Stdout | Self::Closed => return Ok(()),
            Self::File(file, path) => (file.sync_all(), path),
            // The files were synced one by one; their names are durable with the directory.
            Self::Bodies(Bodies { directory, .. }) => (File::open(&directory).and_then(|it| it.sync_all()), directory),
        };
        synced.map_err(|source| Refused::Write { path, source })
    }
}

/// Files as in the cache of the Python agent.
struct Bodies {
    directory: PathBuf,
    agent_id: String,
    used: BTreeSet<Timestamp>,
}

impl Bodies {
    fn into(directory: &Path, agent_id: &str) -> Result<Self, Refused> {
        empty(directory)?;
        Ok(Self { directory: directory.to_owned(), agent_id: agent_id.to_owned(), used: BTreeSet::new() })
    }

    fn write(&mut self, body: &[u8], mut stamp: Timestamp) -> Result<(), Refused> {
        // Two of the old caches may have one stamp; the name is nothing but the place in the queue.
        while !self.used.insert(stamp) {
            stamp = stamp.after(Duration::from_millis(1));
        }
        let path = self.directory.join(format!("{stamp}_{}.json", self.agent_id));
        let written = make(&path).and_then(|mut file| file.write_all(body).and_then(|()| file.sync_all()));
        written.map_err(|source| Refused::Write { path, source })
    }
}

/// A directory that holds nothing: made, or there and empty. What is written is not mixed up with what was there.
fn empty(directory: &Path) -> Result<(), Refused> {
    let failed = |source| Refused::Write { path: directory.to_owned(), source };
    match fs::DirBuilder::new().mode(0o750).create(directory) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    if fs::read_dir(directory).map_err(failed)?.next().is_some() {
        return Err(Refused::Usage(format!("{} is not empty; name a new directory", directory.display())));
    }
    Ok(())
}

/// A new file, nothing that was there before.
fn make(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)
}
