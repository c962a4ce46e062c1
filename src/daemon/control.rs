//! `--start`, `--stop`, `--restart`, `--status`, and the commands of the same names: the daemon from outside, in the original's words.
//!
//! Who runs is asked of the kernel, which knows who holds the lock; a pid file decides nothing. A process is
//! signalled by a handle on it, taken while it held the lock, so that no other can be hit. Everything is
//! idempotent: what is so already is no failure.
//!
//! The Python agent of the same name is an agent too ([`super::python_agent`]): told of, not started beside, and
//! stopped by the same words.

use std::env;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::exit::{self, Exit};
use super::lock::{self, Holder, LockError};
use super::python_agent::PythonAgent;
use super::{detach, run};
use crate::cli::arguments::Format;
use crate::cli::terminal::{self, complain};
use crate::config::{Instance, Places};
use crate::outputs::pattoo::identity::PROGRAM;
use crate::status::snapshot::Snapshot;
use crate::status::socket::AskError;
use crate::status::{socket, table};
use crate::text::harmless;
use crate::text::{Chain, seconds};

/// How long an agent may take to start; the first start may wait a minute for its own name from DNS.
const START: Duration = Duration::from_secs(90);

/// How long one may take to stop; it promises two seconds, save for a disk that hangs.
const STOP: Duration = Duration::from_secs(20);

/// How often it is shown how the agent is.
const FOLLOW: Duration = Duration::from_secs(2);

/// How long one may take that is to be ended by force if it does not go.
const STOP_BY_FORCE: Duration = Duration::from_secs(5);

/// Starts the agent in the background, unless it runs.
#[must_use]
pub fn start(instance: &Instance) -> Exit {
    // Whatever is wrong is told here and now, not in a log that has still to be found.
    let config = match instance.load() {
        Ok(loaded) => loaded.config,
        Err(error) => return exit::refuse(&error),
    };
    match lock::holder(&config.system_daemon_directory) {
        Ok(None) => {}
        Ok(Some(_)) => {
            say("is running");
            return Exit::Done;
        }
        Err(error) => return cannot_tell(&error),
    }
    if let Some(other) = PythonAgent::find(&config.pid_directories()) {
        say("not started");
        complain(&run::refuse_beside(&other));
        return Exit::Held;
    }
    match spawn(instance).and_then(wait_until_ready) {
        Ok(Exit::Done) => {
            say("started");
            Exit::Done
        }
        // Two at once: the other one runs.
        Ok(Exit::Held) if PythonAgent::find(&config.pid_directories()).is_none() => {
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

/// Stops the agent that runs, the Python one too, and waits until it is gone; with `force`, ends what does not go.
#[must_use]
pub fn stop(instance: &Instance, force: bool) -> Exit {
    match try_stop(instance, force) {
        Ok(stopped) => {
            say(if stopped { "stopped" } else { "is stopped" });
            Exit::Done
        }
        Err(exit) => exit,
    }
}

/// Whether there was anything to stop.
fn try_stop(instance: &Instance, force: bool) -> Result<bool, Exit> {
    let Places { system_daemon_directory: directory, pid_directories } = places(instance)?;
    let ours = handle(&directory)?;
    if let Some(process) = &ours {
        end(process, force)?;
    }
    let python = PythonAgent::find(&pid_directories);
    if let Some(agent) = &python {
        let process = agent.handle().map_err(|error| {
            complain(&format!("cannot get hold of process {}: {error}", Pid::as_raw(Some(agent.pid))));
            Exit::Failure
        })?;
        if let Some(process) = process {
            end(&process, force)?;
        }
        agent.forget();
    }
    // Nobody is left who could hold it, and the Python agent's own --stop would wait for it.
    for directory in pid_directories.iter().chain([&directory]) {
        let _ = lock::remove_former(directory);
    }
    Ok(ours.is_some() || python.is_some())
}

/// Stops the agent if it runs, then starts it.
#[must_use]
pub fn restart(instance: &Instance, force: bool) -> Exit {
    // An agent that works is not stopped for a configuration with which none would start.
    if let Err(error) = instance.load() {
        let exit = exit::refuse(&error);
        complain("nothing was stopped");
        return exit;
    }
    match stop(instance, force) {
        Exit::Done => start(instance),
        exit => exit,
    }
}

/// Prints how the agent is.
#[must_use]
pub fn status(instance: &Instance, format: Format, all: bool) -> Exit {
    match look(instance) {
        Ok(state) => tell(&state, format, all),
        Err(exit) => exit,
    }
}

/// Prints how the agent is again and again, until nobody reads it or Ctrl-C; on a terminal in one place, for programs a line each.
#[must_use]
pub fn follow(instance: &Instance, format: Format, all: bool) -> Exit {
    loop {
        let state = match look(instance) {
            Ok(state) => state,
            Err(exit) => return exit,
        };
        let is_left = match format {
            Format::Table => {
                terminal::clear();
                tell(&state, format, all);
                // A blank line between two of them, where they stand below each other; and the only way to see whether anybody
                // reads on.
                terminal::pour("\n")
            }
            Format::Json => terminal::pour(&(harmless::json(&state.json()) + "\n")),
        };
        if !is_left {
            return Exit::Done;
        }
        thread::sleep(FOLLOW);
    }
}

/// Who runs, and what it says of itself.
enum Running {
    Nobody,
    Python(PythonAgent),
    Agent(Box<Result<Snapshot, AskError>>),
}

impl Running {
    /// For programs, on one line.
    fn json(&self) -> String {
        match self {
            Self::Nobody => format!("{{\"program\":\"{PROGRAM}\",\"running\":false}}"),
            Self::Python(python) => format!(
                "{{\"program\":\"{PROGRAM}\",\"running\":false,\"python_agent\":{{\"pid\":{}}}}}",
                Pid::as_raw(Some(python.pid))
            ),
            Self::Agent(said) => match &**said {
                Ok(snapshot) => serde_json::to_string(snapshot).unwrap_or_default(),
                Err(_) => format!("{{\"program\":\"{PROGRAM}\",\"running\":true}}"),
            },
        }
    }
}

fn look(instance: &Instance) -> Result<Running, Exit> {
    let Places { system_daemon_directory: directory, pid_directories } = places(instance)?;
    let python = PythonAgent::find(&pid_directories);
    match (lock::holder(&directory).map_err(|error| cannot_tell(&error))?, python) {
        (None, None) => return Ok(Running::Nobody),
        (None, Some(python)) => return Ok(Running::Python(python)),
        // The lock does not keep the Python agent away, which may have been started later.
        (Some(_), Some(python)) => complain(&format!("{python}, beside this one; {PROGRAM} --stop ends both")),
        (Some(_), None) => {}
    }
    Ok(Running::Agent(Box::new(socket::ask(&socket::path(&directory)))))
}

fn tell(state: &Running, format: Format, all: bool) -> Exit {
    match state {
        Running::Nobody => {
            match format {
                Format::Table => say("is stopped"),
                Format::Json => drop(terminal::pour(&(state.json() + "\n"))),
            }
            Exit::NotRunning
        }
        Running::Python(python) => {
            match format {
                Format::Table => {
                    say("is running");
                    terminal::say(&format!(
                        "\n{python}; this agent does not run.\n{PROGRAM} --stop ends it, --restart puts this agent in its place.\n"
                    ));
                }
                Format::Json => drop(terminal::pour(&(state.json() + "\n"))),
            }
            Exit::Held
        }
        Running::Agent(said) => {
            if format == Format::Table {
                say("is running");
            }
            match (&**said, format) {
                (Ok(snapshot), Format::Table) => {
                    terminal::say(&format!("\n{}", table::render(snapshot, all, terminal::width())));
                    Exit::Done
                }
                (Ok(snapshot), Format::Json) => {
                    let text = serde_json::to_string_pretty(snapshot).unwrap_or_default();
                    terminal::pour(&(harmless::json(&text) + "\n"));
                    Exit::Done
                }
                (Err(error), _) => {
                    complain(&format!("it does not say how it is: {}", Chain(error)));
                    Exit::Failure
                }
            }
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

/// From `pattoo.yaml` alone, or its absence: what else may be wrong with the configuration hinders nobody here.
fn places(instance: &Instance) -> Result<Places, Exit> {
    instance.places().map_err(|error| exit::refuse(&error))
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

/// Asks the process to end and waits for that; with `force`, ends it if it does not go.
fn end(process: &OwnedFd, force: bool) -> Result<(), Exit> {
    // By force too it is asked first: an agent that obeys brings what is in memory to disk.
    let patience = if force { STOP_BY_FORCE } else { STOP };
    if is_ended_by(process, Signal::TERM, patience)? || (force && is_ended_by(process, Signal::KILL, patience)?) {
        return Ok(());
    }
    say("is running");
    let advice = if force { "its disk may hang" } else { "--force ends it; nothing that is on disk is lost by that" };
    complain(&format!("it has not stopped within {}; {advice}", seconds(patience)));
    Err(Exit::Failure)
}

/// Sends the signal and waits; whether the process is gone.
fn is_ended_by(process: &OwnedFd, signal: Signal, patience: Duration) -> Result<bool, Exit> {
    // By the handle and not by the number, which another process may have by now.
    match pidfd_send_signal(process, signal) {
        Ok(()) => {}
        Err(Errno::SRCH) => return Ok(true),
        Err(errno) => {
            say("is running");
            complain(&format!("cannot signal it: {}", io::Error::from(errno)));
            return Err(if errno == Errno::PERM { Exit::Permissions } else { Exit::Failure });
        }
    }
    let deadline = Instant::now() + patience;
    loop {
        // What is left, because a signal may interrupt the wait and it begins again.
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        // A pidfd can be read once its process has ended, whosever child it is (pidfd_open(2)).
        match poll(&mut [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(_) => return Ok(false),
        }
    }
}

/// The agent in a session of its own, its words in our hands until it is ready.
fn spawn(instance: &Instance) -> io::Result<Child> {
    // Absolute, because the agent works in `/`: it must not keep the file system busy from which it happened to be
    // started.
    let config_dir = std::path::absolute(&instance.config_dir)?;
    // This program, and not one of the same name that stands earlier in PATH.
    Command::new(env::current_exe()?)
        .args(["run", "--config_dir"])
        .arg(config_dir)
        .args(["--shard", &instance.shard.to_string()])
        .env(detach::DETACH, "1")
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
        // In a thread, because a read from a pipe has no time limit. An end of the stream without the word is a start
        // that failed.
        word.take(detach::WORD.len() as u64).read_to_string(&mut said).ok();
        sender.send(said == detach::WORD).ok();
    });
    match receiver.recv_timeout(START) {
        Ok(true) => {
            // It ends soon: the agent lets go of stderr after the word. Its last line is to stand before ours.
            talker.join().ok();
            Ok(Exit::Done)
        }
        Ok(false) => {
            let ended = agent.wait()?;
            talker.join().ok();
            Ok(ended.code().map_or(Exit::Failure, Exit::from_code))
        }
        Err(_) => {
            // Not killed: it may be ready a moment later, and --stop ends it if it is not wanted.
            complain(&format!("it is not ready after {}; its log says what it waits for", seconds(START)));
            Ok(Exit::Failure)
        }
    }
}
