//! The YAML files of the agent → one validated [`Config`], or every fault at once.
//!
//! Owns the rules of what a configuration means, the original agent's and ours. Refuses a configuration
//! whole: a [`Config`] exists only when there is no fault in any file. What the original silently left out
//! is a warning, so that a configuration it ran with goes on working; in a file without any key of ours
//! (`original`) so is everything else that it took.
//!
//! `yaml` reads a file with suspicion and parses it once into nodes that know their place;
//! `shared` and `agent` say what the two files mean; every value that is wrong becomes a [`Diagnostic`] with
//! file, line, column, what was found and what is allowed. `load` opens them, `points` puts it together. [`settings`] is how devices are treated. [`render`] tells people what will be polled, [`diff`]
//! what an edit changes.

pub use self::configuration::{AGENT_FILE, Config, Device, LogLevel, Point, SHARED_AGENT_FILE, SHARED_FILE};
pub use self::diagnostic::{ConfigError, Diagnostic};
pub use self::instance::{Instance, Places};
pub use self::load::{Loaded, load, load_as_proposed, load_for};
pub use self::provenance::Provenance;

mod agent;
mod cache;
mod configuration;
mod diagnostic;
pub mod diff;
pub mod edit;
mod groups;
mod instance;
pub mod keys;
mod limits;
mod lints;
mod load;
mod name_clashes;
pub mod naming;
mod original;
pub mod outputs;
mod path;
pub mod point_table;
mod points;
mod provenance;
mod registers;
pub mod render;
pub mod schema;
pub mod settings;
mod shape;
mod shared;
mod synonyms;
mod tls;
mod value;
mod yaml;
