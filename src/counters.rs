//! What became of every reading, in numbers: once for the agent, and for each output.
//!
//! Nothing is dropped uncounted. For each output, at any moment: what waited for it at the start and what was
//! appended since = delivered + quarantined + dropped (by [`DropReason`]) + waiting. The pipeline publishes its numbers as a
//! whole, so no reader ever sees half of a change.
//!
//! Counters of one run; they start at zero. Nothing here fails.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::reading::Timestamp;

/// Why a reading is not, and will not be, at an output's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// The device says that it has no value.
    Unavailable,
    /// The value is outside what its configuration allows.
    OutsideLimits,
    /// No server of this kind takes such a value.
    NotSendable,
    /// Evicted by `cache_min_free`.
    MinFree,
    /// Evicted by `cache_max_bytes`.
    MaxBytes,
    /// Evicted by `cache_max_age`.
    MaxAge,
    /// Neither the disk nor the server took it until memory was full.
    MemoryFull,
    /// Somebody else removed the files.
    Vanished,
    /// It is whole on disk and is nothing that this release can read.
    Unreadable,
    /// Its boot is over and the clock was never right in it.
    NeverDated,
    /// The output lets go of what is older than its `max_age`.
    OutputMaxAge,
}

impl DropReason {
    /// Every reason, in the order of their places.
    pub const ALL: [Self; 11] = [
        Self::Unavailable,
        Self::OutsideLimits,
        Self::NotSendable,
        Self::MinFree,
        Self::MaxBytes,
        Self::MaxAge,
        Self::MemoryFull,
        Self::Vanished,
        Self::Unreadable,
        Self::NeverDated,
        Self::OutputMaxAge,
    ];

    /// The name in metrics and status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::OutsideLimits => "outside_limits",
            Self::NotSendable => "not_sendable",
            Self::MinFree => "cache_min_free",
            Self::MaxBytes => "cache_max_bytes",
            Self::MaxAge => "cache_max_age",
            Self::MemoryFull => "memory_full",
            Self::Vanished => "vanished",
            Self::Unreadable => "unreadable",
            Self::NeverDated => "never_dated",
            Self::OutputMaxAge => "output_max_age",
        }
    }

    /// Whether it is a loss: the server could have had it.
    #[must_use]
    pub fn is_loss(self) -> bool {
        !matches!(self, Self::Unavailable | Self::OutsideLimits | Self::NotSendable)
    }

    fn index(self) -> usize {
        Self::ALL.iter().position(|reason| *reason == self).unwrap_or_default()
    }
}

/// Numbers of dropped readings by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped([u64; DropReason::ALL.len()]);

impl Dropped {
    /// So many more were dropped for this reason.
    pub fn add(&mut self, reason: DropReason, count: u64) {
        if let Some(dropped) = self.0.get_mut(reason.index()) {
            *dropped += count;
        }
    }

    /// How many were dropped for this reason.
    #[must_use]
    pub fn count(&self, reason: DropReason) -> u64 {
        self.0.get(reason.index()).copied().unwrap_or_default()
    }

    /// All of them.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Those that are losses.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.by_reason().filter(|(reason, _)| reason.is_loss()).map(|(_, count)| count).sum()
    }

    /// Every reason with its number.
    pub fn by_reason(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().map(|reason| (reason, self.count(reason)))
    }
}

/// What became of the readings that one output was to deliver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputCounters {
    /// Its name.
    pub name: String,
    /// What waited for it at the start.
    pub found: u64,
    /// What was appended to the log since.
    pub appended: u64,
    /// The server has them.
    pub delivered: u64,
    /// Set aside for people to look at.
    pub quarantined: u64,
    /// Gone, by reason.
    pub dropped: Dropped,
    /// What waits for it on disk.
    pub on_disk: u64,
    /// What waits for it in memory and is not on disk.
    pub in_memory: u64,
    /// The stamp of the oldest reading that waits for it, as far as it is known.
    pub oldest: Option<Timestamp>,
}

impl OutputCounters {
    /// What waits for it.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.on_disk + self.in_memory
    }

    /// What is wrong with the counters: 0.
    #[must_use]
    pub fn residual(&self) -> i128 {
        let came = i128::from(self.found) + i128::from(self.appended);
        let gone = [self.delivered, self.quarantined, self.dropped.sum(), self.waiting()];
        came - gone.map(i128::from).iter().sum::<i128>()
    }
}

/// The log, as its pipeline sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogCounters {
    /// Bytes on disk.
    pub bytes: u64,
    /// Segments on disk.
    pub segments: usize,
    /// Files of old caches that wait.
    pub old_batches: usize,
    /// The greatest stamp in the oldest segment.
    pub oldest: Option<Timestamp>,
    /// Readings that wait for a date.
    pub undated: u64,
    /// What is wrong with the disk, in words.
    pub fault: Option<String>,
    /// Batches of old caches that the limits have let go; how many readings they held nobody knows.
    pub old_batches_lost: u64,
    /// Whether it does not answer.
    pub hangs: bool,
}

/// Everything that the pipeline counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// For each output, in the order of the configuration.
    pub outputs: Vec<OutputCounters>,
    /// The log.
    pub log: LogCounters,
}

/// The counters of one run of the agent.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    /// Not readings at all: values that are none.
    dropped: Mutex<Dropped>,
    overruns: AtomicU64,
    published: Mutex<Published>,
}

impl Counters {
    /// The aggregator has taken over `count` readings.
    pub fn accept(&self, count: usize) {
        self.accepted.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// `count` values are none and never become readings; they are accepted and dropped.
    pub fn drop_values(&self, reason: DropReason, count: usize) {
        // Accepted first: whoever reads the dropped ones first never finds more of them than were accepted.
        self.accept(count);
        lock(&self.dropped).add(reason, count as u64);
    }

    /// `count` polls were skipped because the one before them still ran.
    pub fn overrun(&self, count: u64) {
        self.overruns.fetch_add(count, Ordering::Relaxed);
    }

    /// The pipeline's numbers are these now.
    pub fn publish(&self, published: Published) {
        *lock(&self.published) = published;
    }

    /// Readings taken over so far, values that are none included.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Values that were none.
    #[must_use]
    pub fn dropped_values(&self) -> Dropped {
        *lock(&self.dropped)
    }

    /// Polls skipped so far.
    #[must_use]
    pub fn overruns(&self) -> u64 {
        self.overruns.load(Ordering::Relaxed)
    }

    /// The pipeline's numbers.
    #[must_use]
    pub fn published(&self) -> Published {
        lock(&self.published).clone()
    }

    /// What every output has lost so far.
    #[must_use]
    pub fn lost(&self) -> Lost {
        let published = lock(&self.published);
        Lost::of(&published.outputs).and("batches_of_old_caches", published.log.old_batches_lost)
    }

    /// Readings of this run that are in memory only, for the output to which most of them are missing.
    #[must_use]
    pub fn in_memory(&self) -> u64 {
        let published = lock(&self.published);
        // The first output's is everyone's: there is one log.
        let appended = published.outputs.first().map_or(0, |output| output.appended);
        let gathered = self.accepted().saturating_sub(lock(&self.dropped).sum() + appended);
        gathered + published.outputs.iter().map(|output| output.in_memory).max().unwrap_or(0)
    }
}

/// A panic in between leaves whole numbers.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What outputs have lost, by output and reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost(Vec<(String, &'static str, u64)>);

impl Lost {
    fn of(outputs: &[OutputCounters]) -> Self {
        let of = |output: &OutputCounters| {
            let name = output.name.clone();
            let losses = output.dropped.by_reason().filter(|(reason, count)| reason.is_loss() && *count > 0);
            losses.map(|(reason, count)| (name.clone(), reason.as_str(), count)).collect::<Vec<_>>()
        };
        Self(outputs.iter().flat_map(of).collect())
    }

    /// With what is in memory and has no time any more to get anywhere.
    #[must_use]
    pub fn and_in_memory(self, count: u64) -> Self {
        self.and("in_memory", count)
    }

    fn and(mut self, reason: &'static str, count: u64) -> Self {
        if count > 0 {
            self.0.push((String::new(), reason, count));
        }
        self
    }

    /// All of it; a reading that two outputs have lost counts twice.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, _, count)| count).sum()
    }

    /// Every reason with its number, over all outputs.
    #[must_use]
    pub fn by_reason(&self) -> std::collections::BTreeMap<&'static str, u64> {
        let mut by_reason = std::collections::BTreeMap::new();
        for (_, reason, count) in &self.0 {
            *by_reason.entry(*reason).or_insert(0) += count;
        }
        by_reason
    }
}

impl fmt::Display for Lost {
    /// `7100 readings: cache_max_bytes 7000, memory_full 100`; with the output's name where there are several.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count();
        write!(f, "{count} {}", if count == 1 { "reading" } else { "readings" })?;
        let mut names = self.0.iter().map(|(name, ..)| name).filter(|name| !name.is_empty());
        let first = names.next();
        let several = names.any(|name| Some(name) != first);
        let mut separator = ": ";
        for (name, reason, count) in &self.0 {
            f.write_str(separator)?;
            if several && !name.is_empty() {
                write!(f, "output {name} ")?;
            }
            write!(f, "{reason} {count}")?;
            separator = ", ";
        }
        Ok(())
    }
}

impl fmt::Display for Counters {
    /// Where every reading of this run and of what was on disk before it is, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (published, values) = (self.published(), self.dropped_values());
        write!(f, "readings accepted {}", self.accepted())?;
        for (reason, count) in values.by_reason().filter(|(_, count)| *count > 0) {
            write!(f, ", {} {count}", reason.as_str())?;
        }
        for output in &published.outputs {
            let OutputCounters { name, found, delivered, quarantined, on_disk, .. } = output;
            write!(
                f,
                "; output {name}: found on disk {found}, delivered {delivered}, on disk {on_disk}, in memory {}, \
                 quarantined {quarantined}",
                output.in_memory
            )?;
            for (reason, count) in output.dropped.by_reason().filter(|(_, count)| *count > 0) {
                write!(f, ", {} {count}", reason.as_str())?;
            }
        }
        match &published.log.fault {
            Some(fault) => write!(f, "; {fault}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(name: &str, max_bytes: u64) -> OutputCounters {
        let mut dropped = Dropped::default();
        dropped.add(DropReason::MaxBytes, max_bytes);
        dropped.add(DropReason::NotSendable, 3);
        OutputCounters { name: name.to_owned(), dropped, ..OutputCounters::default() }
    }

    #[test]
    fn lost_is_what_a_server_could_have_had_and_names_the_output_where_there_are_several() {
        let counters = Counters::default();
        counters.publish(Published { outputs: vec![output("pattoo", 7)], ..Published::default() });
        assert_eq!(counters.lost().to_string(), "7 readings: cache_max_bytes 7");
        assert_eq!(counters.lost().and_in_memory(2).to_string(), "9 readings: cache_max_bytes 7, in_memory 2");
        counters.publish(Published { outputs: vec![output("pattoo", 1), output("files", 0)], ..Published::default() });
        assert_eq!(counters.lost().to_string(), "1 reading: cache_max_bytes 1");
        assert_eq!(Counters::default().lost().to_string(), "0 readings");
    }

    #[test]
    fn what_is_gathered_and_not_appended_is_in_memory() {
        let counters = Counters::default();
        counters.accept(10);
        counters.drop_values(DropReason::Unavailable, 2);
        let output = OutputCounters { appended: 6, in_memory: 1, ..OutputCounters::default() };
        counters.publish(Published { outputs: vec![output], ..Published::default() });
        assert_eq!((counters.accepted(), counters.in_memory()), (12, 5));
    }
}
