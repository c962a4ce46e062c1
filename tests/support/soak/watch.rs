//! Looks at the process from outside, twice a second: memory, descriptors, threads, processor, files on disk.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::disk;

const EVERY: Duration = Duration::from_millis(500);

/// Clock ticks in a second, as Linux counts processor time for programs.
const TICKS: u64 = 100;

/// One look.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Since the first one.
    pub at: Duration,
    /// How old the process is.
    pub age: Duration,
    /// Resident memory.
    pub rss_kib: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub fds: u64,
}

/// All looks at all processes.
#[derive(Debug)]
pub struct Watch {
    begun: Instant,
    due: Instant,
    born: Instant,
    /// Every look.
    pub samples: Vec<Sample>,
    /// The most batches on disk at one time.
    pub backlog: usize,
    ticks_before: u64,
    ticks: u64,
}

impl Watch {
    /// Begins now.
    pub fn begin() -> Self {
        let now = Instant::now();
        Self { begun: now, due: now, born: now, samples: Vec::new(), backlog: 0, ticks_before: 0, ticks: 0 }
    }

    /// A new process.
    pub fn born(&mut self) {
        self.ticks_before += std::mem::take(&mut self.ticks);
        self.born = Instant::now();
    }

    /// Looks, if it is time.
    pub fn look(&mut self, pid: u32, spool: Option<&Path>) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.due = now + EVERY;
        if let Some(spool) = spool {
            self.backlog = self.backlog.max(disk::batches(spool).len());
        }
        // It may have just ended.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let (Some(rss_kib), Some(threads)) = (field("VmRSS:"), field("Threads:")) else { return };
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count) as u64;
        let age = now - self.born;
        self.samples.push(Sample { at: now - self.begun, age, rss_kib, threads, fds });
        self.ticks = ticks(pid).unwrap_or(self.ticks);
    }

    /// Processor time of all processes in percent of the time.
    pub fn cpu_percent(&self) -> f64 {
        let ticks = u32::try_from(self.ticks_before + self.ticks).expect("less than a year");
        let seconds = f64::from(ticks) / f64::from(u32::try_from(TICKS).expect("small"));
        100.0 * seconds / self.begun.elapsed().as_secs_f64()
    }

    /// Growth of memory in MiB an hour, of processes that have run for a while; `None` while none has.
    pub fn slope(&self) -> Option<f64> {
        let grown: Vec<(f64, f64)> = self
            .samples
            .iter()
            .filter(|sample| sample.age > Duration::from_secs(10))
            .map(|sample| {
                let kib = u32::try_from(sample.rss_kib).expect("less than 4 TiB");
                (sample.at.as_secs_f64() / 3_600.0, f64::from(kib) / 1_024.0)
            })
            .collect();
        let count = f64::from(u32::try_from(grown.len()).ok().filter(|count| *count > 20)?);
        let mean = |pick: fn(&(f64, f64)) -> f64| grown.iter().map(pick).sum::<f64>() / count;
        let (x, y) = (mean(|(x, _)| *x), mean(|(_, y)| *y));
        let above: f64 = grown.iter().map(|(at, mib)| (at - x) * (mib - y)).sum();
        Some(above / grown.iter().map(|(at, _)| (at - x).powi(2)).sum::<f64>())
    }
}

/// Processor time of a process, in its own and in the system's code.
fn ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}
