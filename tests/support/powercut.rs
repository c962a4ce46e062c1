//! What a power cut would leave: the disk as its promises stand, worked out from a trace of system calls.
//!
//! SIGKILL leaves the page cache, so no killed process shows that an fsync is missing. Here the worst case is
//! assumed instead: what was written is on disk when its file was fsynced since, a name when its directory
//! was fsynced since, and nothing else is. A batch must be so before the first byte of its post leaves.

use std::collections::{BTreeMap, BTreeSet};

/// What strace has to show for it.
pub const TRACE: [&str; 5] = ["-y", "-s", "1000", "-e", "trace=write,pwrite64,fsync,fdatasync,renameat,sendto"];

/// The disk after a power cut now, as far as batches go.
#[derive(Debug, Default)]
struct Disk {
    /// Paths that were written and not fsynced since.
    dirty: BTreeSet<String>,
    /// Paths whose directory was not fsynced since they got their name.
    nameless: BTreeSet<String>,
    /// Batches that were given their final name, by their timestamp.
    batches: BTreeMap<String, String>,
}

/// Follows the trace; returns how many posts it saw of batches that were stored before.
///
/// # Errors
/// With the first batch that was posted before it would have survived a power cut.
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
            disk.apply(&(begun.remove(thread).unwrap_or_default() + rest));
        } else {
            disk.apply(call);
        }
    }
    Ok(posts)
}

impl Disk {
    /// A call that has ended.
    fn apply(&mut self, call: &str) {
        let Some((name, arguments)) = call.split_once('(') else { return };
        if call.contains("= -1 ") {
            return;
        }
        match name {
            "write" | "pwrite64" => {
                self.dirty.extend(path(arguments));
            }
            "fsync" | "fdatasync" => {
                let Some(synced) = path(arguments) else { return };
                self.dirty.remove(&synced);
                self.nameless.retain(|path| path.rsplit_once('/').is_none_or(|(directory, _)| directory != synced));
            }
            "renameat" => self.rename(arguments),
            _ => {}
        }
    }

    fn rename(&mut self, arguments: &str) {
        let names: Vec<&str> = arguments.split('"').skip(1).step_by(2).collect();
        let (Some(directory), [from, to]) = (path(arguments), &names[..]) else { return };
        let (from, to) = (format!("{directory}/{from}"), format!("{directory}/{to}"));
        if self.dirty.remove(&from) {
            self.dirty.insert(to.clone());
        }
        if let Some((stamp, _)) = to.rsplit('/').next().and_then(|name| name.split_once('_')) {
            self.batches.insert(stamp.to_owned(), to.clone());
        }
        self.nameless.insert(to);
    }

    /// A post begins; whether it is of one batch that is known.
    fn post(&self, call: &str) -> Result<bool, String> {
        let stamp = call.split("pattoo_agent_timestamp\\\":").nth(1).map(|text| text.chars().take(13).collect());
        let Some(path) = stamp.and_then(|stamp: String| self.batches.get(&stamp)) else { return Ok(false) };
        if self.dirty.contains(path) {
            return Err(format!("{path} is posted, and what it holds is not fsynced"));
        }
        if self.nameless.contains(path) {
            return Err(format!("{path} is posted, and its directory is not fsynced"));
        }
        Ok(true)
    }
}

/// The path of the first descriptor: `13</path/to/it>, …`.
fn path(arguments: &str) -> Option<String> {
    let (_, rest) = arguments.split_once('<')?;
    let (path, _) = rest.split_once('>')?;
    path.starts_with('/').then(|| path.to_owned())
}
