//! The Python agent of the same name, while it runs: found by its pid file, and never taken for another process.
//!
//! It takes no lock that the kernel knows of. Its pid file is all there is, and the number in it may be that of
//! another process by now. So a process is taken for the Python agent only if its command line is an interpreter
//! that runs a script of that name as a daemon. It is signalled by a handle that was open before the command line
//! was looked at last: the number cannot change hands in between.
//!
//! Nothing here writes, but for [`PythonAgent::forget`].

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};

use crate::outputs::pattoo::identity::PROGRAM;

/// No pid file of its is longer.
const MAX_BYTES: u64 = 64;

/// Options of the interpreter whose value is the next argument.
const WITH_VALUE: [&str; 3] = ["-W", "-X", "--check-hash-based-pycs"];

/// What the script is called with when it does not stay.
const NO_DAEMON: [&str; 4] = ["--stop", "--status", "--help", "-h"];

/// The Python agent, running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonAgent {
    /// Its process.
    pub pid: Pid,
    /// The file that says so.
    pub pid_file: PathBuf,
}

impl PythonAgent {
    /// The one that a pid file below one of `directories` names, if it runs.
    #[must_use]
    pub fn find(directories: &[PathBuf]) -> Option<Self> {
        named(directories).find(|Self { pid, .. }| command_line(*pid).is_some_and(|line| is_python_agent(&line)))
    }

    /// What a pid file names that runs and cannot be looked at: of another user, and hidden from this one, as the
    /// service's `ProtectProc=` does. It may be the Python agent, and it may be anything else that has its number by now.
    #[must_use]
    pub fn hidden(directories: &[PathBuf]) -> Option<Self> {
        // Signal 0 only asks. EPERM means that the process is there and is another user's; one that has ended is ESRCH.
        let is_hidden = |pid| command_line(pid).is_none() && test_kill_process(pid) == Err(Errno::PERM);
        named(directories).find(|Self { pid, .. }| is_hidden(*pid))
    }

    /// A handle on its process; `None` when it has ended.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn handle(&self) -> io::Result<Option<OwnedFd>> {
        match pidfd_open(self.pid, PidfdFlags::empty()) {
            Ok(process) => Ok(command_line(self.pid).is_some_and(|line| is_python_agent(&line)).then_some(process)),
            Err(Errno::SRCH) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes the pid file that it has left, unless that names another process by now.
    pub fn forget(&self) {
        if named_in(&self.pid_file) == Some(self.pid) {
            // One that stays says nothing true, which is found out at the next look.
            fs::remove_file(&self.pid_file).ok();
        }
    }
}

impl fmt::Display for PythonAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the Python agent runs, process {}, named in {}",
            Pid::as_raw(Some(self.pid)),
            self.pid_file.display()
        )
    }
}

/// What the pid files below `directories` name.
fn named(directories: &[PathBuf]) -> impl Iterator<Item = PythonAgent> {
    directories.iter().filter_map(|directory| {
        let pid_file = directory.join("pid").join(format!("{PROGRAM}.pid"));
        Some(PythonAgent { pid: named_in(&pid_file)?, pid_file })
    })
}

/// The number in a pid file.
fn named_in(path: &Path) -> Option<Pid> {
    // A FIFO in its place must not be waited for, and a link may lead to another program's pid file.
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    // 0 and negative numbers mean groups of processes to the kernel.
    Pid::from_raw(text.trim().parse().ok().filter(|&pid: &i32| pid > 0)?)
}

/// The arguments of a process, each ended by a zero byte; nothing for one that has ended.
fn command_line(pid: Pid) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{}/cmdline", Pid::as_raw(Some(pid)))).ok()
}

/// Whether these are the arguments of an interpreter that runs the Python agent as a daemon.
fn is_python_agent(command_line: &[u8]) -> bool {
    let arguments = String::from_utf8_lossy(command_line);
    let mut arguments = arguments.trim_end_matches('\0').split('\0');
    // Not the whole line: an editor or a `tail` with the script's name among its arguments is no agent.
    let interpreter = arguments.next().map(file_name).unwrap_or_default();
    if !["python", "pypy"].iter().any(|name| interpreter.starts_with(name)) {
        return false;
    }
    let script = loop {
        match arguments.next() {
            Some("-c") | None => return false,
            Some("-m") => break arguments.next().and_then(|module| module.rsplit('.').next()),
            Some(option) if WITH_VALUE.contains(&option) => drop(arguments.next()),
            // Also `-Wignore`, which has its value in itself.
            Some(option) if option.starts_with('-') => {}
            Some(script) => break Some(file_name(script).trim_end_matches(".py")),
        }
    };
    // Earlier ones spell it with hyphens.
    script.is_some_and(|name| name.replace('-', "_") == PROGRAM) && !arguments.any(|it| NO_DAEMON.contains(&it))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_interpreter_that_runs_the_daemon_is_the_python_agent() {
        let cases = [
            ("python3 /opt/pattoo-agents/bin/pattoo_agent_modbustcpd.py --start", true),
            ("/opt/venv/bin/python3.11 /opt/venv/bin/pattoo_agent_modbustcpd --restart --force", true),
            ("python -u -W ignore -Xdev bin/pattoo_agent_modbustcpd.py --start", true),
            ("pypy3 pattoo-agent-modbustcpd.py --start", true),
            ("/usr/bin/python3 -m pattoo_agents.bin.pattoo_agent_modbustcpd --start", true),
            ("python3 pattoo_agent_modbustcpd.py", true),
            ("python3 /opt/bin/pattoo_agent_modbustcpd.py --stop", false),
            ("python3 /opt/bin/pattoo_agent_modbustcpd.py --status", false),
            ("python3 /opt/bin/pattoo_agent_snmpd.py --start", false),
            ("python3 /usr/bin/editor pattoo_agent_modbustcpd.py", false),
            ("python3 -m pytest pattoo_agent_modbustcpd.py", false),
            ("python3 -c pattoo_agent_modbustcpd.py", false),
            ("python3 test_pattoo_agent_modbustcpd.py", false),
            ("vim /opt/bin/pattoo_agent_modbustcpd.py", false),
            ("sh -c pattoo_agent_modbustcpd.py", false),
            ("/usr/local/bin/pattoo_agent_modbustcpd run", false),
            ("python3", false),
            ("", false),
        ];
        for (line, expected) in cases {
            let bytes = line.replace(' ', "\0") + "\0";
            assert_eq!(is_python_agent(bytes.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_number_in_a_file_of_its_own_names_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        for (text, pid) in
            [("4711\n", Some(4711)), (" 7 ", Some(7)), ("", None), ("0", None), ("-1", None), ("1e3", None)]
        {
            fs::write(&file, text).unwrap();
            assert_eq!(named_in(&file), pid.and_then(Pid::from_raw), "{text:?}");
        }
        let link = directory.path().join("link");
        fs::write(&file, "4711").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(named_in(&link), None, "a link is not followed");
        assert_eq!(named_in(directory.path()), None);
    }
}
