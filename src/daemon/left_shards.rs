//! What shards that run no more have left: readings on disk that nobody delivers.
//!
//! The first shard looks for it at its start, because it has the directory in which those of the others are. What it finds is a
//! warning and nothing more: it delivers nothing of them, for a shard of that number may start at any time.

use std::fs;
use std::path::{Path, PathBuf};

use crate::outputs::pattoo::restamp;
use crate::shard::Shard;
use crate::spool::reader::Reader;

/// A directory of a shard that is not one of the present ones.
#[derive(Debug, PartialEq, Eq)]
pub struct Left {
    /// The directory.
    pub directory: PathBuf,
    /// How many readings wait in its log for the output that is furthest behind.
    pub readings: u64,
    /// Whether files of old caches wait there, too.
    pub old: bool,
}

/// What wait in the directories of shards of the agent `agent_id` that are none of the configuration of `shard`, below the cache
/// directory of the first shard. What cannot be read is left out.
#[must_use]
pub fn find(cache_directory: &Path, agent_id: &str, shard: Shard) -> Vec<Left> {
    if shard.index() > 0 {
        return Vec::new();
    }
    let entries = fs::read_dir(cache_directory).into_iter().flatten().flatten();
    let mut left: Vec<_> = entries
        .filter(|entry| {
            let number = entry.file_name().to_str().and_then(|name| name.strip_prefix("shard_")?.parse().ok());
            // Below it is a shard of the present configuration, which delivers what it has by itself.
            number.is_some_and(|number: u32| number >= u32::from(shard.count()))
        })
        .filter_map(|entry| look(entry.path(), agent_id))
        .collect();
    left.sort_by(|one, other| one.directory.cmp(&other.directory));
    left
}

fn look(directory: PathBuf, agent_id: &str) -> Option<Left> {
    let mut reader = Reader::open(&directory.join(agent_id), agent_id, restamp::by).ok()??;
    let opened = reader.opened();
    let acknowledged = opened.cursors.values().map(|cursor| cursor.position).min();
    let readings = opened.end.since(acknowledged.unwrap_or(reader.start()));
    let old = !reader.old_batches().ok()?.is_empty();
    (readings > 0 || old).then_some(Left { directory, readings, old })
}
