//! `outputs`: where readings go. Without it, one output: pattoo.

use crate::outputs::Start;
use crate::outputs::file::FileSettings;

/// One entry of `outputs`.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputConfig {
    /// Its name; the kind where none is given.
    pub name: String,
    /// What kind of server.
    pub kind: OutputKind,
    /// Where it begins when it is new.
    pub start: Start,
}

/// The kinds of servers, with their settings.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputKind {
    /// The pattoo server of `pattoo_agent_api`.
    Pattoo,
    /// Files.
    File(FileSettings),
}

impl OutputKind {
    /// As it is configured.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pattoo => "pattoo",
            Self::File(_) => "file",
        }
    }
}

impl Default for OutputConfig {
    /// The pattoo server.
    fn default() -> Self {
        Self { name: "pattoo".to_owned(), kind: OutputKind::Pattoo, start: Start::End }
    }
}
