//! What the pipeline has done, as lines of the log and as the state of outputs in the registry.
//!
//! One line for a change of state, never one for each attempt; what is lost, or set aside, is told at once and then at most once a
//! minute, with how many, for which output, by which limit, and how many in all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::registry::Registry;
use crate::counters::DropReason;
use crate::outage::{Outages, QUIET, Transition};
use crate::outputs::Failure;
use crate::outputs::pipeline::Event;
use crate::spool::{Finding, Findings, Limits};
use crate::text::{count, seconds, size};
use crate::time::clock;

/// Tells what was found strange or damaged on disk.
pub fn tell_findings(Findings { told, untold }: &Findings) {
    for Finding { path, why, moved } in told {
        if *moved {
            tracing::error!(
                code = 1036,
                "a part of the cache is damaged: {why}; it is kept as {} for you to look at",
                path.display()
            );
        } else {
            tracing::warn!("{} is not the agent's and is left alone: {why}", path.display());
        }
    }
    if *untold > 0 {
        tracing::error!(code = 1036, "{untold} more files like these");
    }
}

/// Turns events into lines.
#[derive(Debug)]
pub struct Narrator {
    /// Of each output, its name, and where its posts go.
    outputs: Vec<(String, String)>,
    path: PathBuf,
    limits: Limits,
    outages: Outages<Subject>,
    lost: BTreeMap<(usize, DropReason), Loss>,
    aside: BTreeMap<usize, SetAside>,
}

/// What an output has set aside since the last line.
#[derive(Debug, Default)]
struct SetAside {
    readings: usize,
    files: usize,
    told_at: Option<Duration>,
}

#[derive(Debug, Default)]
struct Loss {
    readings: u64,
    told: u64,
    told_at: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Disk,
    Reading,
    Keeping,
    Posting(usize),
    Ahead(usize),
}

impl Narrator {
    /// A narrator for outputs of these names and servers, and for a cache at `path`.
    #[must_use]
    pub fn new(outputs: Vec<(String, String)>, path: PathBuf, limits: Limits) -> Self {
        Self { outputs, path, limits, outages: Outages::default(), lost: BTreeMap::new(), aside: BTreeMap::new() }
    }

    /// From now on these limits hold.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Tells of `event`.
    pub fn tell(&mut self, event: Event, registry: &Registry, now: Duration) {
        match event {
            Event::Posted { output, bytes, readings } => self.posted(output, bytes, readings, registry, now),
            Event::Failed { output, failure, pause } => self.failed(output, &failure, pause, registry, now),
            Event::Ahead { output, by } => self.ahead(output, by, now),
            Event::Quarantined { output, readings, why, path } => self.set_aside(output, readings, &why, &path, now),
            Event::Lost { output, readings, reason } => self.lost(output, readings, reason, now),
            Event::DiskRefuses(why) => {
                if self.outages.failed(Subject::Disk, "disk", now).is_some() {
                    tracing::error!(
                        "cannot write to the cache directory {}: {why}; readings stay in memory, go to the server from there \
                         in their order, and the disk is tried again",
                        self.path.display()
                    );
                }
            }
            Event::DiskHangs(lasted) => {
                // Told whatever the outage says of it: the pipeline gives it once for each hang, and a kill is
                // dangerous now. It is noted, so that the end of it is told with how long it was.
                self.outages.failed(Subject::Disk, "hang", now);
                tracing::error!(
                    "the disk of the cache directory {} has not answered for {}; readings stay in memory and go to the server \
                     from there; a kill now loses what is in memory",
                    self.path.display(),
                    seconds(lasted)
                );
            }
            Event::DiskWell => {
                if let Some(Transition::Recovered { lasted, failures }) = self.outages.worked(&Subject::Disk, now) {
                    let failures = count(usize::try_from(failures).unwrap_or(usize::MAX), "failure");
                    tracing::info!("the cache directory takes readings again after {} and {failures}", seconds(lasted));
                }
            }
            Event::CannotRead(why) => {
                if self.outages.failed(Subject::Reading, "disk", now).is_some() {
                    tracing::error!("cannot read the cache directory {}: {why}; delivery waits", self.path.display());
                }
            }
            Event::ReadsAgain => {
                self.outages.worked(&Subject::Reading, now);
            }
            Event::CannotKeep(why) => {
                if self.outages.failed(Subject::Keeping, "disk", now).is_some() {
                    tracing::error!(
                        "cannot set aside or remove files in the cache directory {}: {why}; tried again, and everything that does \
                         not wait for it is delivered",
                        self.path.display()
                    );
                }
            }
            Event::KeepsAgain => {
                self.outages.worked(&Subject::Keeping, now);
            }
            Event::Forgotten { name, readings } => {
                tracing::warn!(
                    "output {name} is configured no more; {} on disk were not delivered to it",
                    count(usize::try_from(readings).unwrap_or(usize::MAX), "reading")
                );
            }
            Event::OldEvicted(batches) => {
                tracing::error!(
                    "LOST {batches} batches of an old cache in {}, because of the limits of the cache",
                    self.path.display()
                );
            }
            Event::OldDone => tracing::debug!("no batch of an old cache waits"),
        }
    }

    fn name(&self, output: usize) -> Option<&str> {
        self.outputs.get(output).map(|(name, _)| name.as_str())
    }

    /// Where there is more than one output, which one the line is about.
    fn which(&self, output: usize) -> String {
        match self.outputs.get(output) {
            Some((name, _)) if self.outputs.len() > 1 => format!("output {name}: "),
            _ => String::new(),
        }
    }

    fn posted(&mut self, output: usize, bytes: usize, readings: usize, registry: &Registry, now: Duration) {
        if let Some((name, _)) = self.outputs.get(output) {
            registry.output(name).write(|state| state.took(clock::wall()));
        }
        if let Some(Transition::Recovered { lasted, failures }) = self.outages.worked(&Subject::Posting(output), now) {
            let (which, lasted_seconds, lasted) = (self.which(output), lasted.as_secs_f64(), seconds(lasted));
            tracing::info!(
                code = 1007,
                output = self.name(output),
                lasted_seconds,
                "{which}posts are taken again after {lasted} and {failures} failed posts; what was kept is delivered oldest first"
            );
        }
        tracing::debug!(code = 1027, bytes, readings, "{}posted", self.which(output));
    }

    fn failed(&mut self, output: usize, failure: &Failure, pause: Duration, registry: &Registry, now: Duration) {
        let (which, cause, next) = (self.which(output), &failure.text, seconds(pause));
        let next_attempt_seconds = pause.as_secs_f64();
        if let Some((name, _)) = self.outputs.get(output) {
            registry.output(name).write(|state| state.refused(cause.clone(), clock::wall(), pause));
        }
        match self.outages.failed(Subject::Posting(output), failure.kind, now) {
            None | Some(Transition::Recovered { .. }) => {}
            Some(Transition::Down { lasted }) => {
                let (lasted_seconds, lasted) = (lasted.as_secs_f64(), seconds(lasted));
                tracing::error!(
                    code = 1097,
                    output = self.name(output),
                    why = cause,
                    lasted_seconds,
                    next_attempt_seconds,
                    "{which}the server has taken nothing for {lasted}: {cause}; readings are kept, next attempt in {next}"
                );
            }
            Some(Transition::Failed { .. } | Transition::OtherCause { .. }) => {
                tracing::warn!(
                    code = 1028,
                    output = self.name(output),
                    why = cause,
                    next_attempt_seconds,
                    "{which}post failed: {cause}; its readings are kept, next attempt in {next}"
                );
            }
        }
    }

    /// A series that somebody else writes too is set aside with each poll.
    fn set_aside(&mut self, output: usize, readings: usize, why: &str, path: &Path, now: Duration) {
        let aside = self.aside.entry(output).or_default();
        aside.readings += readings;
        aside.files += 1;
        // A batch whose readings nobody has counted is rare.
        if readings > 0 && aside.told_at.is_some_and(|at| now.saturating_sub(at) < QUIET) {
            return;
        }
        let SetAside { readings, files, .. } = std::mem::take(aside);
        aside.told_at = Some(now);
        let what = match readings {
            0 => "a batch of an old cache is".to_owned(),
            1 => "1 reading is".to_owned(),
            readings => format!("{} are", count(readings, "reading")),
        };
        let others = if files > 1 { format!(" and {}", count(files - 1, "other file")) } else { String::new() };
        let which = self.which(output);
        tracing::error!(
            code = 1036,
            output = self.name(output),
            why,
            "{which}{what} not delivered: {why}; kept as {}{others} for you to look at",
            path.display()
        );
    }

    fn ahead(&mut self, output: usize, by: Option<Duration>, now: Duration) {
        let which = self.which(output);
        let Some(by) = by else {
            if let Some(Transition::Recovered { .. }) = self.outages.worked(&Subject::Ahead(output), now) {
                tracing::info!("{which}readings on disk are no longer ahead of the server's clock; delivery goes on");
            }
            return;
        };
        if self.outages.failed(Subject::Ahead(output), "future", now).is_some() {
            tracing::error!(
                "{which}readings on disk are stamped up to {} ahead of the server's clock and are held until it is less than an \
                 hour; set this machine's clock, or the server's, or trust_local_clock in the configuration",
                seconds(by)
            );
        }
    }

    fn lost(&mut self, output: usize, readings: u64, reason: DropReason, now: Duration) {
        let name = self.outputs.get(output).map(|(name, _)| name.as_str());
        let of = name.map_or_else(String::new, |name| format!(" of output {name}"));
        // By reason too: each has another remedy, and one that comes first must not mute the others for a minute.
        let loss = self.lost.entry((output, reason)).or_default();
        loss.readings += readings;
        if loss.told_at.is_some_and(|at| now.saturating_sub(at) < QUIET) {
            return;
        }
        let why = match reason {
            DropReason::MinFree => format!("less of the disk is free than cache_min_free ({})", self.limits.min_free),
            DropReason::MaxBytes => {
                format!("the cache is over cache_max_bytes ({})", size(self.limits.max_bytes.unwrap_or(0)))
            }
            DropReason::MaxAge => {
                format!("they are older than cache_max_age ({})", seconds(self.limits.max_age.unwrap_or_default()))
            }
            DropReason::MemoryFull => "neither the disk nor the server takes them, and memory is full".to_owned(),
            DropReason::Vanished => "somebody else removed the files".to_owned(),
            DropReason::Unreadable => "they are whole on disk and nothing that this release can read".to_owned(),
            DropReason::NeverDated => "the clock was never right in the boot that they are of".to_owned(),
            DropReason::OutputMaxAge => "they are older than max_age of this output".to_owned(),
            DropReason::Unavailable | DropReason::OutsideLimits | DropReason::NotSendable => reason.as_str().to_owned(),
        };
        let new = count(usize::try_from(loss.readings - loss.told).unwrap_or(usize::MAX), "reading");
        tracing::error!(
            output = name,
            reason = reason.as_str(),
            lost = loss.readings - loss.told,
            "LOST {new}{of} that were not delivered yet, the oldest in {}: {why}; {} lost since the start for this reason",
            self.path.display(),
            loss.readings
        );
        // What came in the quiet minute is in the next line: `told` is how many the lines have said, not the last
        // event's.
        (loss.told, loss.told_at) = (loss.readings, Some(now));
    }
}
