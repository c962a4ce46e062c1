//! What devices are known to refuse, kept beside the agent id across restarts.
//!
//! `<daemon_directory>/refused/pattoo_agent_modbustcpd.refused` (of each shard its own), written whole when something was learned, at most every
//! ten seconds and at the end. A file that cannot be read or written is worth a line and nothing more: what is missing is
//! found again at the cost of some requests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::process_setup::LAST_WORDS;
use crate::config::Config;
use crate::files::text_file::{self, TextFileError};
use crate::modbus::refusals::store::RefusalStore;
use crate::outputs::pattoo::identity::PROGRAM;
use crate::text::Chain;

/// How often it is looked whether there is something to write.
const PAUSE: Duration = Duration::from_secs(10);

/// More than the file of any agent has.
const MAX_BYTES: u64 = 16 << 20;

/// Where it is kept.
#[must_use]
pub fn path(config: &Config) -> PathBuf {
    let shard = config.shard.suffix();
    let between = if shard.is_empty() { "" } else { "_" };
    config.daemon_directory.join("refused").join(format!("{PROGRAM}{between}{shard}.refused"))
}

/// What an earlier process has kept; nothing, with a line in the log, when it cannot be read.
#[must_use]
pub fn recall(path: &Path) -> RefusalStore {
    look(path).unwrap_or_else(|error| {
        tracing::warn!("what devices refuse must be found again: {}", Chain(&error));
        RefusalStore::default()
    })
}

/// What an earlier process has kept.
///
/// # Errors
/// When there is such a file and it cannot be read.
pub fn look(path: &Path) -> Result<RefusalStore, TextFileError> {
    let text = text_file::read_up_to(path, MAX_BYTES)?;
    Ok(RefusalStore::read(&text.unwrap_or_default()))
}

/// Keeps what is learned, for as long as it is polled.
pub async fn keep(path: PathBuf, learned: Arc<RefusalStore>) {
    loop {
        // A pause after each write, not a fixed beat: a disk that takes a minute gets no queue of writes.
        actix_rt::time::sleep(PAUSE).await;
        write_apart(path.clone(), Arc::clone(&learned)).await;
    }
}

/// Keeps what was learned last, unless the disk takes too long for an end in time.
pub async fn keep_at_last(path: PathBuf, learned: Arc<RefusalStore>) {
    tokio::time::timeout(LAST_WORDS, write_apart(path, learned)).await.ok();
}

/// In a thread that may wait for the disk; a panic there costs what it was to write and nothing else.
async fn write_apart(path: PathBuf, learned: Arc<RefusalStore>) {
    actix_rt::task::spawn_blocking(move || write(&path, &learned)).await.ok();
}

/// Writes what has been learned since the last time.
fn write(path: &Path, learned: &RefusalStore) {
    let Some(text) = learned.changed() else { return };
    if let Err(error) = text_file::write(path, &text) {
        tracing::warn!("what devices refuse is not remembered across a restart: {}", Chain(&error));
    }
}
