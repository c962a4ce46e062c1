//! `schema`: the JSON schema of the agent's configuration, for editors.

use crate::cli::terminal::pour;
use crate::config::schema;
use crate::daemon::exit::Exit;

/// Prints it.
#[must_use]
pub fn schema() -> Exit {
    pour(&schema::text());
    Exit::Done
}
