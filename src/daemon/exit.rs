//! How the process ends: the exit codes that scripts and service managers see.

use std::process::ExitCode;

/// An exit code (sysexits.h from 64 up).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Done,
    /// Something is broken.
    Failure,
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
            Self::Held => 75,
            Self::Permissions => 77,
            Self::BadConfiguration => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
