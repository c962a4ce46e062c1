//! The signals that people and service managers send, served by a thread of their own.
//!
//! | signal | what it does |
//! |---|---|
//! | SIGTERM, SIGINT | the first: stop in order; while still starting: exit 0 at once. The second, unless it is the same one within 200 ms: exit at once |
//! | SIGQUIT | exit at once |
//! | SIGHUP | the configuration is read again ([`super::reload`]): many of them at once are one wish, and one that comes while starting waits |
//! | SIGUSR1 | the log file is opened again: it is before each line, if it was moved away (`logging::file`) |
//! | SIGXFSZ | ignored: a file that grows beyond `ulimit -f` is an error like a full disk |
//!
//! The thread waits for nothing else, so that a signal is obeyed even when the rest of the process hangs: in
//! a name look-up, on a disk. What has not stopped [`PATIENCE`] after it was asked to is ended.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use super::exit::Exit;
use super::process_setup::end_at_once;

/// Longer than every part of stopping may take together, and short of the two seconds promised.
pub const PATIENCE: Duration = Duration::from_millis(1_750);

/// SIGXFSZ on every architecture that Linux knows but MIPS and PA-RISC.
const FILE_SIZE_EXCEEDED: SignalKind = SignalKind::from_raw(25);

/// The wish that the process stops.
#[derive(Debug)]
pub struct StopSignal {
    asked: oneshot::Receiver<&'static str>,
    heard: Arc<AtomicBool>,
}

impl StopSignal {
    /// Waits for the wish; from now on whoever waits is the one who stops the process. Says which signal.
    pub async fn asked(self) -> &'static str {
        self.heard.store(true, Ordering::Release);
        match self.asked.await {
            Ok(signal) => signal,
            // The thread is gone, which ends the process by itself.
            Err(_) => std::future::pending().await,
        }
    }
}

/// The wish that the configuration is read again.
#[derive(Debug, Clone, Default)]
pub struct ReloadSignal {
    asked: Arc<Notify>,
}

impl ReloadSignal {
    /// Waits for the wish, however often it was uttered since the last time.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }
}

/// What signals can wish for.
#[derive(Debug)]
pub struct Signals {
    /// SIGTERM, SIGINT.
    pub stop: StopSignal,
    /// SIGHUP.
    pub reload: ReloadSignal,
}

/// Installs every handler, then serves them.
///
/// # Errors
/// When the system gives no handler or no thread.
pub fn serve() -> io::Result<Signals> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    // Here and not in the thread: once this function has returned, no signal kills and none is missed.
    let mut handlers = Handlers::install(&runtime)?;
    let (stop, asked) = oneshot::channel();
    let heard = Arc::new(AtomicBool::new(false));
    let reload = ReloadSignal::default();
    let signals = Signals { stop: StopSignal { asked, heard: Arc::clone(&heard) }, reload: reload.clone() };
    let mut signal_loop = SignalLoop { reload, stop: Some(stop), heard, deadline: None, asked: None };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            loop {
                if let Some(end) = signal_loop.serve(handlers.next()).await {
                    end.happens();
                }
            }
        });
    })?;
    Ok(signals)
}

struct Handlers {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    reopen: Signal,
    /// Never asked: that it is here keeps the signal from killing.
    _file_size: Signal,
}

impl Handlers {
    fn install(runtime: &Runtime) -> io::Result<Self> {
        // tokio binds a handler to the runtime that is entered, and nobody runs in it yet.
        let _context = runtime.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            _file_size: signal(FILE_SIZE_EXCEEDED)?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.quit.recv() => Asked::Quit,
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.reopen.recv() => Asked::Reopen,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Stop(&'static str),
    Quit,
    Reload,
    Reopen,
}

/// Why the process ends here and now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has not stopped in time.
    NotStopped,
    /// It was asked once more.
    Again(&'static str),
    /// Nothing has begun that could be stopped.
    Starting(&'static str),
    Quit,
}

impl End {
    fn happens(self) -> ! {
        match self {
            Self::NotStopped => tracing::error!("not stopped {PATIENCE:?} after it was asked for; exiting at once"),
            Self::Again(name) => tracing::warn!("{name} again; exiting at once"),
            Self::Starting(name) => tracing::info!("{name} while starting; there is nothing to stop"),
            Self::Quit => tracing::warn!("SIGQUIT; exiting at once"),
        }
        end_at_once(if matches!(self, Self::Starting(_)) { Exit::Done } else { Exit::Failure })
    }
}

/// The same signal again so soon is the same wish that came twice: `timeout` and other wrappers signal the process and its
/// group, and to end at once would lose what is in memory.
const SAME: Duration = Duration::from_millis(200);

struct SignalLoop {
    reload: ReloadSignal,
    stop: Option<oneshot::Sender<&'static str>>,
    heard: Arc<AtomicBool>,
    /// Once stopping: when it must be over.
    deadline: Option<Instant>,
    /// Once stopping: by what, and when it was asked for.
    asked: Option<(&'static str, Instant)>,
}

impl SignalLoop {
    /// Serves the next signal, but not beyond the end of patience; says whether the process ends by it.
    async fn serve(&mut self, next: impl Future<Output = Asked>) -> Option<End> {
        let asked = match self.deadline {
            None => next.await,
            Some(deadline) => match timeout_at(deadline, next).await {
                Ok(asked) => asked,
                Err(_elapsed) => return Some(End::NotStopped),
            },
        };
        match asked {
            Asked::Stop(name) => return self.stop(name),
            Asked::Quit => return Some(End::Quit),
            // It keeps one permit: a wish while nobody waits is not lost, and many are one reload.
            Asked::Reload => self.reload.asked.notify_one(),
            // The line does it: before each one the file is looked at and opened again if it was moved.
            Asked::Reopen => tracing::info!("SIGUSR1; the log file is opened again"),
        }
        None
    }

    fn stop(&mut self, name: &'static str) -> Option<End> {
        let now = Instant::now();
        // The one who has sent SIGTERM and then Ctrl-C is in a hurry: another signal is never taken for the same one.
        let Some(stop) = self.stop.take() else {
            let same = self.asked.is_some_and(|(first, at)| first == name && now < at + SAME);
            return (!same).then_some(End::Again(name));
        };
        // From the first wish on: later ones do not lengthen it.
        (self.deadline, self.asked) = (Some(now + PATIENCE), Some((name, now)));
        // Sent before it is asked whether somebody listens: whoever begins to in between finds it.
        stop.send(name).ok();
        (!self.heard.load(Ordering::Acquire)).then_some(End::Starting(name))
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::actors::supervisor::GRACE;
    use crate::daemon::process_setup::LAST_WORDS;

    /// Two seconds are promised.
    const _: () = assert!(GRACE.as_millis() < PATIENCE.as_millis());
    const _: () = assert!(PATIENCE.as_millis() + LAST_WORDS.as_millis() < 2_000);

    fn signal_loop(heard: bool) -> (SignalLoop, oneshot::Receiver<&'static str>) {
        let (stop, asked) = oneshot::channel();
        let heard = Arc::new(AtomicBool::new(heard));
        (SignalLoop { reload: ReloadSignal::default(), stop: Some(stop), heard, deadline: None, asked: None }, asked)
    }

    async fn serve(signal_loop: &mut SignalLoop, asked: Asked) -> Option<End> {
        signal_loop.serve(ready(asked)).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_not_stopped_when_patience_ends_is_ended_then_and_not_before() {
        let (mut signal_loop, mut asked) = signal_loop(true);
        assert_eq!(serve(&mut signal_loop, Asked::Stop("SIGTERM")).await, None);
        assert_eq!(asked.try_recv(), Ok("SIGTERM"));
        let begun = Instant::now();
        // Other signals in between give it no more time.
        for _ in 0..3 {
            tokio::time::advance(Duration::from_millis(400)).await;
            assert_eq!(serve(&mut signal_loop, Asked::Reload).await, None);
        }
        assert_eq!(signal_loop.serve(pending()).await, Some(End::NotStopped));
        // The timer counts whole milliseconds.
        assert_eq!(begun.elapsed().as_millis() / 10, PATIENCE.as_millis() / 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_it_at_once_unless_it_is_the_first_that_came_twice() {
        for (after, second, end) in [
            (0, Asked::Stop("SIGINT"), Some(End::Again("SIGINT"))),
            (0, Asked::Quit, Some(End::Quit)),
            (0, Asked::Stop("SIGTERM"), None),
            (199, Asked::Stop("SIGTERM"), None),
            (200, Asked::Stop("SIGTERM"), Some(End::Again("SIGTERM"))),
        ] {
            let (mut signal_loop, _asked) = signal_loop(true);
            assert_eq!(serve(&mut signal_loop, Asked::Stop("SIGTERM")).await, None);
            tokio::time::advance(Duration::from_millis(after)).await;
            let begun = Instant::now();
            assert_eq!(serve(&mut signal_loop, second).await, end, "after {after} ms");
            assert_eq!(begun.elapsed(), Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn before_anything_has_begun_the_first_ends_it() {
        let (mut signal_loop, _asked) = signal_loop(false);
        assert_eq!(serve(&mut signal_loop, Asked::Stop("SIGTERM")).await, Some(End::Starting("SIGTERM")));
        let (mut signal_loop, _asked) = self::signal_loop(true);
        assert_eq!(serve(&mut signal_loop, Asked::Quit).await, Some(End::Quit));
        assert_eq!(serve(&mut signal_loop, Asked::Reopen).await, None);
    }
}
