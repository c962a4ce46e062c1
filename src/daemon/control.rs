//! `--start`, `--stop`, `--restart`, `--status`: the daemon from outside, in the original's words.
//!
//! Who runs is asked of the kernel, which knows who holds the lock; a pid file decides nothing. A process is
//! signalled by a handle on it, taken while it held the lock, so that no other can be hit. Everything is
//! idempotent: what is so already is no failure.

use std::env;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::exit::Exit;
use super::lock::{self, Holder, LockError};
use super::ready;
use crate::cli::Format;
use crate::config::Instance;
use crate::pattoo::identity::PROGRAM;
use crate::phrase::{Chain, seconds};
use crate::status::{socket, table};
use crate::terminal::{self, complain};

/// How long an agent may take to start; the first start may wait a minute for its own name from DNS.
const START: Duration = Duration::from_secs(90);

/// How long one may take to stop; it promises two seconds, save for a disk that hangs.
const STOP: Duration = Duration::from_secs(20);

/// How long one may take that is to be ended by force if it does not go.
const STOP_BY_FORCE: Duration = Duration::from_secs(5);

/// Starts the agent in the background, unless it runs.
#[must_use]
pub fn start(instance: &Instance) -> Exit {
    // Whatever is wrong is told here and now, not in a log that has still to be found.
    let directory = match instance.load() {
        Ok(loaded) => loaded.config.system_daemon_directory,
        Err(error) => {
            complain(&error.to_string());
            return Exit::BadConfiguration;
        }
    };
    match lock::holder(&directory) {
        Ok(None) => {}
        Ok(Some(_)) => {
            say("is running");
            return Exit::Done;
        }
        Err(error) => return cannot_tell(&error),
    }
    match spawn(instance).and_then(wait_until_ready) {
        Ok(Exit::Done) => {
            say("started");
            Exit::Done
        }
        // Two at once: the other one runs.
        Ok(Exit::Held) => {
            say("is running");
            Exit::Done
        }
        Ok(exit) => {
            say("not started");
            exit
        }
        Err(error) => {
            complain(&format!("cannot start the agent in the background: {error}"));
            Exit::Failure
        }
    }
}

/// Stops the agent that runs and waits until it is gone; with `force`, ends what does not go.
#[must_use]
pub fn stop(instance: &Instance, force: bool) -> Exit {
    let directory = match system_daemon_directory(instance) {
        Ok(directory) => directory,
        Err(exit) => return exit,
    };
    let process = match handle(&directory) {
        Ok(Some(process)) => process,
        Ok(None) => {
            say("is stopped");
            return Exit::Done;
        }
        Err(exit) => return exit,
    };
    let patience = if force { STOP_BY_FORCE } else { STOP };
    if end(&process, Signal::TERM, patience) || (force && end(&process, Signal::KILL, patience)) {
        say("stopped");
        return Exit::Done;
    }
    say("is running");
    let advice = if force { "its disk may hang" } else { "--force ends it; nothing that is on disk is lost by that" };
    complain(&format!("it has not stopped within {}; {advice}", seconds(patience)));
    Exit::Failure
}

/// Stops the agent if it runs, then starts it.
#[must_use]
pub fn restart(instance: &Instance, force: bool) -> Exit {
    // An agent that works is not stopped for a configuration with which none would start.
    if let Err(error) = instance.load() {
        complain(&error.to_string());
        complain("nothing was stopped");
        return Exit::BadConfiguration;
    }
    match stop(instance, force) {
        Exit::Done => start(instance),
        exit => exit,
    }
}

/// Prints how the agent is.
#[must_use]
pub fn status(instance: &Instance, format: Format, all: bool) -> Exit {
    let directory = match system_daemon_directory(instance) {
        Ok(directory) => directory,
        Err(exit) => return exit,
    };
    match lock::holder(&directory) {
        Ok(Some(_)) => {}
        Ok(None) => {
            match format {
                Format::Table => say("is stopped"),
                Format::Json => terminal::say(&format!("{{\"program\":\"{PROGRAM}\",\"running\":false}}\n")),
            }
            return Exit::NotRunning;
        }
        Err(error) => return cannot_tell(&error),
    }
    let snapshot = socket::ask(&socket::path(&directory));
    if format == Format::Table {
        say("is running");
    }
    match snapshot {
        Ok(snapshot) => {
            terminal::say(&match format {
                Format::Table => format!("\n{}", table::render(&snapshot, all)),
                Format::Json => terminal::json(&serde_json::to_string_pretty(&snapshot).unwrap_or_default()) + "\n",
            });
            Exit::Done
        }
        Err(error) => {
            complain(&format!("it does not say how it is: {}", Chain(&error)));
            Exit::Failure
        }
    }
}

/// The original's line: `Daemon is running - pattoo_agent_modbustcpd`.
fn say(what: &str) {
    terminal::say(&format!("Daemon {what} - {PROGRAM}\n"));
}

fn cannot_tell(error: &LockError) -> Exit {
    complain(&format!("cannot tell whether the agent runs: {}", Chain(error)));
    if error.is_permission() { Exit::Permissions } else { Exit::Failure }
}

/// From `pattoo.yaml` alone: what else may be wrong with the configuration hinders nobody here.
fn system_daemon_directory(instance: &Instance) -> Result<PathBuf, Exit> {
    instance.system_daemon_directory().map_err(|error| {
        complain(&error.to_string());
        Exit::BadConfiguration
    })
}

/// A handle on the process that holds the lock.
fn handle(directory: &Path) -> Result<Option<OwnedFd>, Exit> {
    let holder = || lock::holder(directory).map_err(|error| cannot_tell(&error));
    let pid = match holder()? {
        None => return Ok(None),
        Some(Holder::Process(pid)) => pid,
        Some(Holder::Elsewhere) => {
            say("is running");
            complain("it runs in another container, from where it must be stopped");
            return Err(Exit::Failure);
        }
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        // Between the two looks it may have ended, and its number have been given to another process.
        Ok(process) if holder()? == Some(Holder::Process(pid)) => Ok(Some(process)),
        Ok(_) | Err(Errno::SRCH) => Ok(None),
        Err(errno) => {
            complain(&format!("cannot get hold of process {}: {}", Pid::as_raw(Some(pid)), io::Error::from(errno)));
            Err(Exit::Failure)
        }
    }
}

/// Sends the signal and waits; whether the process is gone.
fn end(process: &OwnedFd, signal: Signal, patience: Duration) -> bool {
    match pidfd_send_signal(process, signal) {
        Ok(()) => {}
        Err(Errno::SRCH) => return true,
        Err(errno) => {
            complain(&format!("cannot signal it: {}", io::Error::from(errno)));
            return false;
        }
    }
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        match poll(&mut [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// The agent in a session of its own, its words in our hands until it is ready.
fn spawn(instance: &Instance) -> io::Result<Child> {
    let config_dir = std::path::absolute(&instance.config_dir)?;
    Command::new(env::current_exe()?)
        .args(["run", "--config_dir"])
        .arg(config_dir)
        .args(["--shard", &instance.shard.to_string()])
        .env(ready::DETACH, "1")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Passes on what it says until it is ready ([`Exit::Done`]) or has ended (with its code).
fn wait_until_ready(mut agent: Child) -> io::Result<Exit> {
    let (Some(word), Some(words)) = (agent.stdout.take(), agent.stderr.take()) else { return Ok(Exit::Failure) };
    let talker = thread::spawn(move || {
        // Warnings of a start that succeeds are worth reading too.
        BufReader::new(words).lines().map_while(Result::ok).for_each(|line| complain(&line));
    });
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut said = String::new();
        word.take(ready::WORD.len() as u64).read_to_string(&mut said).ok();
        sender.send(said == ready::WORD).ok();
    });
    match receiver.recv_timeout(START) {
        Ok(true) => {
            talker.join().ok();
            Ok(Exit::Done)
        }
        Ok(false) => {
            let ended = agent.wait()?;
            talker.join().ok();
            Ok(ended.code().map_or(Exit::Failure, Exit::from_code))
        }
        Err(_) => {
            complain(&format!("it is not ready after {}; its log says what it waits for", seconds(START)));
            Ok(Exit::Failure)
        }
    }
}
