//! What the process takes of the machine, from `/proc`.

use std::fs;

/// What Prometheus' client libraries say of a process, under the same names.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// Processor time, of user and system, in seconds.
    pub cpu_seconds: f64,
    /// Memory that is in use, in bytes.
    pub resident_bytes: u64,
    /// Memory that has addresses, in bytes.
    pub virtual_bytes: u64,
    /// Open descriptors.
    pub open_fds: usize,
    /// How many there may be; `None` without a limit.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: u64,
}

impl Process {
    /// This process as it is now; `None` where there is no `/proc`.
    #[must_use]
    pub fn now() -> Option<Self> {
        let mut process = Self::of(&fs::read_to_string("/proc/self/stat").ok()?)?;
        // The descriptor by which they are counted is not one of them.
        process.open_fds = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
        process.max_fds = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Some(process)
    }

    /// What `/proc/PID/stat` says (proc(5)): fields behind the name, which stands in brackets and may hold anything.
    fn of(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // The first of these is the third of all.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        #[allow(clippy::cast_precision_loss, reason = "ticks of ten years are far below 2^53")]
        let cpu_seconds = (field(14)? + field(15)?) as f64 / rustix::param::clock_ticks_per_second() as f64;
        Some(Self {
            cpu_seconds,
            threads: field(20)?,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * rustix::param::page_size() as u64,
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat =
            "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 1234 1048576 10 18446744073709551615 1 1";
        let process = Process::of(stat).unwrap();
        let ticks = rustix::param::clock_ticks_per_second();
        assert!((process.cpu_seconds * f64::from(u32::try_from(ticks).unwrap()) - 200.0).abs() < 1e-9);
        assert_eq!((process.threads, process.virtual_bytes), (9, 1_048_576));
        assert_eq!(process.resident_bytes, 10 * rustix::param::page_size() as u64);
        assert_eq!(Process::of("nothing"), None);
    }

    #[test]
    fn this_process_is_found() {
        let process = Process::now().unwrap();
        assert!(process.resident_bytes > 0 && process.open_fds > 2 && process.threads > 0);
    }
}
