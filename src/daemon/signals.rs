//! The signals that people and service managers send, served by a thread of their own.
//!
//! | signal | what it does |
//! |---|---|
//! | SIGTERM, SIGINT | the first: stop in order; while still starting: exit 0 at once. The second: exit at once |
//! | SIGQUIT | exit at once |
//! | SIGHUP | the configuration is read again ([`super::reload`]): many of them at once are one wish, and one that comes while starting waits |
//! | SIGUSR1 | the log file is opened again: it is before each line, if it was moved away (`logging::file`) |
//! | SIGXFSZ | ignored: a file that grows beyond `ulimit -f` is an error like a full disk |
//!
//! The thread waits for nothing else, so that a signal is obeyed even when the rest of the process hangs: in
//! a name look-up, on a disk. What has not stopped [`PATIENCE`] after it was asked to is ended.

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
use super::surroundings::end_at_once;

/// Longer than every part of stopping may take together, and short of the two seconds promised.
pub const PATIENCE: Duration = Duration::from_millis(1_750);

/// SIGXFSZ on every architecture that Linux knows but MIPS and PA-RISC.
const FILE_SIZE_EXCEEDED: SignalKind = SignalKind::from_raw(25);

/// The wish that the process stops.
#[derive(Debug)]
pub struct StopWish {
    asked: oneshot::Receiver<&'static str>,
    heard: Arc<AtomicBool>,
}

impl StopWish {
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
pub struct ReloadWish {
    asked: Arc<Notify>,
}

impl ReloadWish {
    /// Waits for the wish, however often it was uttered since the last time.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }
}

/// What signals can wish for.
#[derive(Debug)]
pub struct Wishes {
    /// SIGTERM, SIGINT.
    pub stop: StopWish,
    /// SIGHUP.
    pub reload: ReloadWish,
}

/// Installs every handler, then serves them.
///
/// # Errors
/// When the system gives no handler or no thread.
pub fn serve() -> io::Result<Wishes> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let mut handlers = Handlers::install(&runtime)?;
    let (stop, asked) = oneshot::channel();
    let heard = Arc::new(AtomicBool::new(false));
    let reload = ReloadWish::default();
    let wishes = Wishes { stop: StopWish { asked, heard: Arc::clone(&heard) }, reload: reload.clone() };
    let mut desk = Desk { reload, stop: Some(stop), heard, deadline: None };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            loop {
                desk.serve(&mut handlers).await;
            }
        });
    })?;
    Ok(wishes)
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

enum Asked {
    Stop(&'static str),
    Quit,
    Reload,
    Reopen,
}

struct Desk {
    reload: ReloadWish,
    stop: Option<oneshot::Sender<&'static str>>,
    heard: Arc<AtomicBool>,
    /// Once stopping: when it must be over.
    deadline: Option<Instant>,
}

impl Desk {
    async fn serve(&mut self, handlers: &mut Handlers) {
        let asked = match self.deadline {
            None => handlers.next().await,
            Some(deadline) => match timeout_at(deadline, handlers.next()).await {
                Ok(asked) => asked,
                Err(_elapsed) => {
                    tracing::error!("not stopped {PATIENCE:?} after it was asked for; exiting at once");
                    end_at_once(Exit::Failure);
                }
            },
        };
        match asked {
            Asked::Stop(name) => self.stop(name),
            Asked::Quit => {
                tracing::warn!("SIGQUIT; exiting at once");
                end_at_once(Exit::Failure);
            }
            Asked::Reload => self.reload.asked.notify_one(),
            Asked::Reopen => tracing::info!("SIGUSR1; the log file is opened again"),
        }
    }

    fn stop(&mut self, name: &'static str) {
        let Some(stop) = self.stop.take() else {
            tracing::warn!("{name} again; exiting at once");
            end_at_once(Exit::Failure);
        };
        self.deadline = Some(Instant::now() + PATIENCE);
        // Sent before it is asked whether somebody listens: whoever begins to in between finds it.
        stop.send(name).ok();
        if !self.heard.load(Ordering::Acquire) {
            tracing::info!("{name} while starting; there is nothing to stop");
            end_at_once(Exit::Done);
        }
    }
}
