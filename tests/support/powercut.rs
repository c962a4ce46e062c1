//! What a power cut would leave: the disk as its promises stand, worked out from a trace of system calls.
//!
//! SIGKILL leaves the page cache, so no killed process shows that an fsync is missing. Here the worst case is
//! assumed instead: what was written is on disk when its file was fsynced since, a name when its directory
//! was fsynced since, and nothing else is. A batch must be so before the first byte of its post leaves, and the table of
//! its points before the batch is written.

use std::collections::{BTreeMap, BTreeSet};

/// What strace has to show for it.
pub const TRACE: [&str; 6] =
    ["-y", "-x", "-s", "1000000", "-e", "trace=write,pwrite64,fsync,fdatasync,renameat,sendto"];

/// The disk after a power cut now, as far as batches go.
#[derive(Debug, Default)]
struct Disk {
    /// Paths that were written and not fsynced since.
    dirty: BTreeSet<String>,
    /// Paths whose directory was not fsynced since they got their name.
    nameless: BTreeSet<String>,
    /// Batches that were written, by the greatest date in them: the path of the segment.
    batches: BTreeMap<u64, Batch>,
}

#[derive(Debug)]
struct Batch {
    segment: String,
    /// Whether it was fsynced since it was written.
    durable: bool,
}

/// Follows the trace; returns how many posts it saw of batches that were stored before.
///
/// # Errors
/// With the first batch that was posted before it would have survived a power cut, or written before its points would.
pub fn follow(trace: &str) -> Result<usize, String> {
    let (mut disk, mut begun, mut posts) = (Disk::default(), BTreeMap::new(), 0);
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(char::is_whitespace) else { continue };
        let call = call.trim_start();
        if call.starts_with("sendto(") && call.contains("POST /pattoo/api/v1/agent/receive/") {
            posts += usize::from(disk.post(call)?);
        }
        // A call during which another thread made one is told in two halves.
        if let Some(half) = call.strip_suffix("<unfinished ...>") {
            begun.insert(thread, half.to_owned());
        } else if let Some((_, rest)) = call.split_once(" resumed>") {
            disk.apply(&(begun.remove(thread).unwrap_or_default() + rest))?;
        } else {
            disk.apply(call)?;
        }
    }
    Ok(posts)
}

impl Disk {
    /// A call that has ended.
    fn apply(&mut self, call: &str) -> Result<(), String> {
        let Some((name, arguments)) = call.split_once('(') else { return Ok(()) };
        if call.contains("= -1 ") {
            return Ok(());
        }
        match name {
            "write" | "pwrite64" => {
                if let Some(path) = path(arguments) {
                    self.write(path, arguments)?;
                }
            }
            "fsync" | "fdatasync" => {
                let Some(synced) = path(arguments) else { return Ok(()) };
                self.dirty.remove(&synced);
                self.nameless.retain(|path| path.rsplit_once('/').is_none_or(|(directory, _)| directory != synced));
                let written = self.batches.values_mut().filter(|batch| batch.segment == synced);
                written.for_each(|batch| batch.durable = true);
            }
            "renameat" => self.rename(arguments),
            _ => {}
        }
        Ok(())
    }

    fn write(&mut self, path: String, arguments: &str) -> Result<(), String> {
        if path.ends_with(".segment") {
            let bytes = bytes(arguments);
            if bytes.starts_with(b"mbrdlog\n") {
                self.nameless.insert(path.clone());
            }
            for (table, newest) in frames(&bytes) {
                let table = format!("{}/{table:016x}.points", path.rsplit_once('/').unwrap_or_default().0);
                if self.dirty.contains(&table) || self.nameless.contains(&table) {
                    return Err(format!("{path} names {table}, which is not fsynced"));
                }
                self.batches.insert(newest, Batch { segment: path.clone(), durable: false });
            }
        }
        self.dirty.insert(path);
        Ok(())
    }

    fn rename(&mut self, arguments: &str) {
        let names: Vec<&str> = arguments.split('"').skip(1).step_by(2).collect();
        let (Some(directory), [from, to]) = (path(arguments), &names[..]) else { return };
        let (from, to) = (format!("{directory}/{from}"), format!("{directory}/{to}"));
        if self.dirty.remove(&from) {
            self.dirty.insert(to.clone());
        }
        self.nameless.insert(to);
    }

    /// A post begins; whether it is of readings.
    fn post(&self, call: &str) -> Result<bool, String> {
        let stamps = call.split("pattoo_timestamp\\\",").skip(1);
        let stamps: BTreeSet<u64> = stamps.filter_map(|text| text.get(..13)?.parse().ok()).collect();
        for stamp in &stamps {
            // A batch is of one poll or some: the first that ends at or behind this reading holds it.
            let Some((_, batch)) = self.batches.range(stamp..).next() else {
                return Err(format!("a reading of {stamp} is posted, and nowhere on disk"));
            };
            if !batch.durable {
                return Err(format!("a reading of {stamp} is posted, and {} is not fsynced", batch.segment));
            }
            if self.nameless.contains(&batch.segment) {
                return Err(format!("{} is posted from, and its directory is not fsynced", batch.segment));
            }
        }
        Ok(!stamps.is_empty())
    }
}

/// The path of the first descriptor: `13</path/to/it>, …`.
fn path(arguments: &str) -> Option<String> {
    let (_, rest) = arguments.split_once('<')?;
    let (path, _) = rest.split_once('>')?;
    path.starts_with('/').then(|| path.to_owned())
}

/// The bytes that were written: a string of which strace shows each byte, because some are no text.
fn bytes(arguments: &str) -> Vec<u8> {
    let shown = arguments.split('"').nth(1).unwrap_or_default();
    shown.split("\\x").skip(1).filter_map(|byte| u8::from_str_radix(byte.get(..2)?, 16).ok()).collect()
}

/// Of each batch in what is written to a segment, its point table and the greatest date.
fn frames(bytes: &[u8]) -> Vec<(u64, u64)> {
    let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (mut at, mut found) = (if bytes.starts_with(b"mbrdlog\n") { 32 } else { 0 }, Vec::new());
    while bytes.get(at..at + 4) == Some(b"\xf7mbf")
        && let (Some(table), Some(newest), Some(length)) = (long(at + 16), long(at + 32), long(at + 44))
    {
        found.push((table, newest));
        at += 56 + usize::try_from(length & 0xffff_ffff).unwrap_or_default();
    }
    found
}
