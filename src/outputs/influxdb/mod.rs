//! InfluxDB's line protocol over HTTP, versions 1, 2 and 3, and what else takes it: VictoriaMetrics, QuestDB, GreptimeDB,
//! Telegraf's listeners.
//!
//! | file | what it owns |
//! |---|---|
//! | this one | what such an output is configured with |
//! | `line` | names and values in the line protocol |
//! | [`encode`] | readings → lines |
//! | [`deliver`] | one write request, and what its answer means |

pub mod deliver;
pub mod encode;
mod line;

use super::network::Network;
use super::template::Template;

/// Which write API of the server is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Api {
    /// `/write` of version 1.
    V1 {
        /// The database.
        database: String,
        /// The retention policy, if not the default one.
        retention_policy: Option<String>,
    },
    /// `/api/v2/write`.
    V2 {
        /// The organization; servers that have none are not told.
        org: Option<String>,
        /// The bucket.
        bucket: String,
    },
    /// `/api/v3/write_lp`.
    V3 {
        /// The database.
        database: String,
    },
}

/// What the configuration says of such an output.
#[derive(Debug, Clone, PartialEq)]
pub struct InfluxSettings {
    /// The server.
    pub network: Network,
    /// Where in it readings go.
    pub api: Api,
    /// The measurement of a point.
    pub measurement: Template,
    /// The field that its value is.
    pub field: Template,
    /// The tags of its line, beside those that the configuration gives it; empty ones are left out.
    pub tags: Vec<(String, Template)>,
    /// Whether integers are written as such. A field that begins as one can take no fraction later, so floats are the default.
    pub integers: bool,
    /// Whether bodies are compressed.
    pub gzip: bool,
}
