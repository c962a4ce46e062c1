//! One place where log lines go: a bounded queue, and a thread that alone waits for the disk or the terminal.
//!
//! Handing over a line never blocks and never fails: when the queue is full the line is dropped, and what the
//! sink refuses is lost. Both are counted, and told in one line once the sink takes lines again, at most
//! once a minute. Whoever ends the process may wait for the queue to run empty, for a limited time.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that may wait for a slow disk or terminal before further ones are dropped.
const QUEUE: usize = 2_048;

/// The least time between two lines about lost lines.
const QUIET: Duration = Duration::from_secs(60);

/// A handle on the queue of one sink.
#[derive(Debug, Clone)]
pub struct LogWriter {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    /// A line is on its way to the sink.
    writing: bool,
    lost: u64,
}

impl LogWriter {
    /// Starts the thread that gives each line to `sink`, which may block.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        name: &'static str,
        mut sink: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let queue = Arc::clone(&shared);
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut told_at: Option<Instant> = None;
            loop {
                let line = queue.take();
                let written = sink(&line).is_ok();
                // Only behind a line that got through: one about lost lines would be lost like them.
                let may_tell = written && told_at.is_none_or(|at| at.elapsed() >= QUIET);
                let lost = queue.done(written, may_tell);
                if lost > 0 {
                    told_at = Some(Instant::now());
                    // Through the queues like any other line, so the sink that works tells of the one that does not.
                    tracing::warn!("{lost} lines did not get to the {name}: it was full, blocked or gone");
                }
            }
        })?;
        Ok(Self { shared })
    }

    /// Waits until every line is with the sink, until `deadline` at most.
    pub fn flush(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let busy = |state: &mut State| state.writing || !state.lines.is_empty();
        drop(self.shared.changed.wait_timeout_while(self.shared.state(), left, busy));
    }
}

impl io::Write for LogWriter {
    /// Takes one whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.state();
        if state.lines.len() < QUEUE {
            state.lines.push_back(line.to_vec());
            // All: the thread waits here, and whoever flushes does too.
            self.shared.changed.notify_all();
        } else {
            state.lost += 1;
        }
        // A line that was dropped as well: who has logged it can do nothing about it.
        Ok(line.len())
    }

    // Nothing is waited for: this is called by whoever logs.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// The next line, waited for.
    fn take(&self) -> Vec<u8> {
        let mut state = self.state();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.writing = true;
                return line;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The line taken is written or not; returns how many lost ones are to be told now.
    fn done(&self, written: bool, may_tell: bool) -> u64 {
        let mut state = self.state();
        state.writing = false;
        state.lost += u64::from(!written);
        self.changed.notify_all();
        if may_tell { std::mem::take(&mut state.lost) } else { 0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nobody panics with the lock held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_sink_that_blocks_costs_lines_and_no_time() {
        let (release, blocked) = mpsc::channel::<()>();
        let (written, lines) = mpsc::channel();
        let mut writer = LogWriter::start("test", move |line| {
            blocked.recv().ok();
            written.send(line.to_vec()).map_err(io::Error::other)
        })
        .unwrap();
        let started = Instant::now();
        for number in 0..3 * QUEUE {
            writer.write_all(number.to_string().as_bytes()).unwrap();
        }
        writer.flush(started + Duration::from_millis(20));
        assert!(started.elapsed() < Duration::from_secs(60));
        drop(release);
        writer.flush(Instant::now() + Duration::from_secs(30));
        let lines: Vec<_> = lines.try_iter().collect();
        assert!((QUEUE..=QUEUE + 1).contains(&lines.len()), "{}", lines.len());
        assert_eq!(lines[0], b"0");
    }

    #[test]
    fn flushing_waits_for_the_last_line() {
        let (written, lines) = mpsc::channel();
        let mut writer = LogWriter::start("test", move |line| {
            thread::yield_now();
            written.send(line.to_vec()).map_err(io::Error::other)
        })
        .unwrap();
        for number in 0..100 {
            writer.write_all(&[number]).unwrap();
        }
        writer.flush(Instant::now() + Duration::from_secs(30));
        assert_eq!(lines.try_iter().count(), 100);
    }
}
