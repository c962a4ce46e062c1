//! Why a post is not known to be in the database, and what follows: classified by what `SQLite` and the system report, never by
//! their text.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;
use thiserror::Error;

use crate::outputs::{Failure, Verdict};

/// Why a post is not known to be in the database.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The file cannot be opened or made.
    #[error("cannot open it: {0}; check the directory, its owner and its mode")]
    Open(io::Error),
    /// It is a database of another program.
    #[error(
        "it is a database of another program and is left alone; give the output another path, or move the file away"
    )]
    OtherProgram,
    /// A later release of the agent has made it.
    #[error(
        "a later release of this agent has made it (version {0} of its tables); give the output another path, or go back to that release"
    )]
    Newer(i64),
    /// Somebody moves it away again and again.
    #[error("it is moved or removed while it is written to")]
    Moved,
    /// Another program hinders the journal from being emptied.
    #[error(
        "another program has read in it for so long that its journal has grown over {0}; end that program's transaction"
    )]
    Journal(String),
    /// `SQLite` reports an error.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The post is none of ours.
    #[error("the post cannot be read: {0}")]
    Post(#[from] serde_json::Error),
    /// The thread that writes has ended.
    #[error("the thread that writes has ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl DatabaseError {
    /// Of the database at `path`, with what follows, the name under which it is counted and a sentence for a person.
    #[must_use]
    pub fn failure(&self, path: &Path) -> Failure {
        let later = Verdict::Later { after: None, late: false };
        let us = Verdict::RefusedUs;
        let (verdict, kind, hint) = match self {
            Self::Open(_) => (us, "open", ""),
            Self::OtherProgram => (us, "other_program", ""),
            Self::Newer(_) => (us, "newer", ""),
            Self::Journal(_) => (later, "journal", ""),
            Self::Moved => (later, "moved", ""),
            Self::Post(_) => (Verdict::RefusedBody, "post", ""),
            Self::Thread(_) => (later, "thread", ""),
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    (later, "locked", "; another program holds it, end its transaction")
                }
                Some(ErrorCode::DiskFull) => (later, "full", "; make room on its disk"),
                Some(ErrorCode::SystemIoFailure) => (later, "disk", "; check its disk"),
                Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                    (us, "read_only", "; check the owner and mode of the file and of its directory, and the mount")
                }
                Some(ErrorCode::NotADatabase) => {
                    (us, "no_database", "; give the output another path, or move the file away")
                }
                Some(ErrorCode::DatabaseCorrupt) => (
                    us,
                    "damaged",
                    "; move it away, and a new one is made; `sqlite3 FILE .recover` saves what is in the old one",
                ),
                // A table that somebody has changed: nothing but a person mends that.
                Some(ErrorCode::Unknown | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => {
                    (us, "tables", "; have its tables been changed? move it away, and a new one is made")
                }
                _ => (later, "sqlite", ""),
            },
        };
        Failure::new(verdict, kind, format!("cannot write to {}: {self}{hint}", path.display()))
    }
}
