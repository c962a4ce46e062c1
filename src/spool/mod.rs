//! What waits on disk: one log of readings, over which every output has a cursor.
//!
//! | file | what it owns |
//! |---|---|
//! | [`batch`] | readings of one point table in their compact form; pure |
//! | [`batcher`] | the open batch: what closes it; pure |
//! | [`tail`] | the newest batches in memory, whether the disk has them or not; pure |
//! | [`job`] | the words between whoever decides and the log |
//! | [`log`] | the log on disk: its format and its invariants are the header of this file |
//! | `append`, `read`, `evict`, `quarantine` | the jobs of the log, one file each |
//! | `segment`, `frame`, `source` | segments as they are known, their bytes, how they are read |
//! | `cursors`, `tables`, `holdovers` | the small files beside the segments |
//! | [`disk`], [`real`] | what the log needs of a disk, and the real one |
//! | [`old`], `adopt`, `name`, `state`, `window` | the old caches: what the Python agent and earlier releases left |
//!
//! Nothing here knows a server. Everything that waits for the disk belongs on a thread of its own.

use std::path::PathBuf;

pub use self::disk::{Disk, Space, Stat};
pub use self::error::SpoolError;
pub use self::limits::{Limits, MinFree};
pub use self::log::{Life, Log, Opened};
pub use self::name::Name;
pub use self::real::RealDisk;
use crate::reading::Timestamp;

mod adopt;
mod append;
pub mod batch;
pub mod batcher;
mod cursors;
mod directory;
pub mod disk;
mod error;
mod evict;
mod frame;
mod holdovers;
pub mod job;
mod limits;
pub mod log;
#[cfg(test)]
mod log_tests;
#[cfg(test)]
mod model_tests;
mod name;
pub mod old;
mod quarantine;
mod read;
pub mod reader;
pub mod real;
mod segment;
#[cfg(test)]
#[path = "../../tests/support/sim_disk.rs"]
mod sim_disk;
mod source;
mod state;
mod tables;
pub mod tail;
mod window;

/// How many names are held in memory.
pub const WINDOW: usize = 65_536;

/// So many findings are told one by one.
const MOST_TOLD: usize = 16;

/// A stamp of the year 2100 or later is no reason for ours to follow it.
const IMPLAUSIBLE: Timestamp = Timestamp::from_millis(4_102_444_800_000);

/// A batch that is not given out.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it is now.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// Whether it was moved to quarantine; what is no regular file stays where it is.
    pub moved: bool,
}

/// What was found damaged or strange.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The first of them.
    pub told: Vec<Finding>,
    /// How many more there were.
    pub untold: usize,
}

/// How often the disk may fail to read a place before what is there counts as damaged.
pub const PATIENCE: u8 = 3;
