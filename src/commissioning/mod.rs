//! What an engineer asks before the daemon runs, and beside it: `check`, `plan`, `once`, `probe`.
//!
//! [`check`] says what is wrong or doubtful in the configuration, [`plan`] says what will be asked of each device and whether there is time for it, [`once`] asks it once and shows
//! every value or why there is none, [`reach`] whether anybody answers, [`probe`] looks at a device that is not configured yet. Nothing here writes a
//! file, posts anything, or takes the agent's lock: it may be used beside a running agent, by which devices that
//! allow one connection only will make one of the two wait.

pub mod check;
pub mod once;
pub mod plan;
pub mod probe;
pub mod reach;
pub mod sunspec;

use crate::cli::terminal::{complain, say};
