//! How the process ends: the exit codes that scripts and service managers see.

use std::process::ExitCode;

use crate::cli::terminal::complain;
use crate::config::ConfigError;

/// An exit code (sysexits.h from 64 up).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Done,
    /// Something is broken.
    Failure,
    /// The command line.
    Usage,
    /// No agent runs (`--status`), or a point has no value (`once --strict`).
    NotRunning,
    /// Another agent holds the directories.
    Held,
    /// Permissions or owners of a file or directory.
    Permissions,
    /// The configuration.
    BadConfiguration,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NotRunning => 3,
            // EX_TEMPFAIL, EX_NOPERM and EX_CONFIG of sysexits.h. The unit for systemd does not start the agent again
            // after these.
            Self::Held => 75,
            Self::Permissions => 77,
            Self::BadConfiguration => 78,
        }
    }

    /// What an agent meant that ended with this code.
    #[must_use]
    pub fn from_code(code: i32) -> Self {
        let all = [Self::Done, Self::NotRunning, Self::Held, Self::Permissions, Self::BadConfiguration];
        all.into_iter().find(|exit| i32::from(exit.code()) == code).unwrap_or(Self::Failure)
    }
}

impl From<&ConfigError> for Exit {
    fn from(error: &ConfigError) -> Self {
        if error.is_permission() { Self::Permissions } else { Self::BadConfiguration }
    }
}

/// Prints what is wrong with a configuration; the code to end with.
#[must_use]
pub fn refuse(error: &ConfigError) -> Exit {
    complain(&error.shown());
    error.into()
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
