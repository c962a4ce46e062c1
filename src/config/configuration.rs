//! What the files mean when nothing is wrong in them: one [`Config`], with every device and every point.
//!
//! Nothing here reads a file. Whoever holds a [`Config`] may rely on it: it was checked whole.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::naming::{Naming, Tags};
use super::outputs::{OutputConfig, OutputKind};
use super::provenance::Provenance;
use crate::logging;
use crate::modbus::endpoint::Endpoint;
use crate::modbus::format::Format;
use crate::modbus::register::{Reference, UnitId};
use crate::modbus::settings::Settings;
use crate::outputs::network::Network;
use crate::reading::points;
use crate::shard::Shard;
use crate::spool::Limits;

/// The file that all pattoo programs share.
pub const SHARED_FILE: &str = "pattoo.yaml";

/// Where later versions of pattoo keep the address of the server.
pub const SHARED_AGENT_FILE: &str = "pattoo_agent.yaml";

/// The file of this agent alone.
pub const AGENT_FILE: &str = "pattoo_agent_modbustcpd.yaml";

/// More points than this, repetitions included, are a slip: devices times registers grows fast.
pub const MAX_POINTS: usize = 1_000_000;

/// Everything the agent needs to know, checked whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which of several agents with this configuration it is for.
    pub shard: Shard,
    /// `pattoo.yaml`, section `pattoo`.
    pub log_level: LogLevel,
    /// How a line of the log is written.
    pub log_format: logging::Format,
    /// Where `pattoo.log` is written.
    pub log_directory: PathBuf,
    /// Parent of the spool.
    pub cache_directory: PathBuf,
    /// Parent of the agent id.
    pub daemon_directory: PathBuf,
    /// Parent of pid and lock files.
    pub system_daemon_directory: PathBuf,
    /// Host of the pattoo agent API: name, IPv4, or IPv6 without brackets.
    pub server_host: String,
    /// Port of the pattoo agent API.
    pub server_port: u16,
    /// How it is reached, if it is configured by `url`.
    pub server_network: Option<Box<Network>>,
    /// The default time between two polls of a point; the top-level interval of each post.
    pub polling_interval: Duration,
    /// How long a reading may wait for others before its batch is stored.
    pub flush_interval: Duration,
    /// How much disk the spool may take.
    pub cache_limits: Limits,
    /// Where readings go, in file order; one at least.
    pub outputs: Vec<OutputConfig>,
    /// How long the oldest post may be refused, before it is taken apart to find out why: for outputs that say nothing else.
    pub split_refused_after: Duration,
    /// Whether this machine's clock is believed when the server's says otherwise.
    pub trust_local_clock: bool,
    /// Where the status page is served; `None`: nowhere.
    pub status_listen: Option<SocketAddr>,
    /// The names under which it may be asked for, besides addresses and the agent's own.
    pub status_hosts: Vec<String>,
    /// Whether the metrics have the last value of every point.
    pub readings_in_metrics: bool,
    /// The hostname that identifies every series; `None`: what the system says, remembered once used.
    pub agent_hostname: Option<String>,
    /// Every device to poll, in file order, one per endpoint.
    pub devices: Vec<Device>,
    /// Where their settings come from.
    pub settings: Provenance,
    /// Every point, in file order; a point's place is its [`crate::reading::PointId`].
    pub points: Vec<Point>,
}

impl Config {
    /// Whether anything goes to a pattoo server.
    #[must_use]
    pub fn posts_to_pattoo(&self) -> bool {
        self.outputs.iter().any(|output| output.kind == OutputKind::Pattoo)
    }

    /// Where the pattoo server is, and how it is reached.
    #[must_use]
    pub fn server(&self) -> (&str, u16, Option<&Network>) {
        (&self.server_host, self.server_port, self.server_network.as_deref())
    }
}

/// `log_level` of `pattoo.yaml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything, payloads included.
    Debug,
    /// Changes of state and summaries.
    Info,
    /// Faults only.
    Warning,
    /// What loses readings.
    Error,
    /// What ends the process.
    Critical,
}

/// One host and port with every point that is read through it.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// What to connect to. `ip_devices` that spell the same endpoint differently share it.
    pub endpoint: Endpoint,
    /// The `ip_device` texts that mean this endpoint, in file order, without repetition.
    pub names: Vec<String>,
    /// How it is treated.
    pub settings: Settings,
    /// The name that the configuration gives it.
    pub label: Option<String>,
    /// Its own tags.
    pub tags: Tags,
}

impl Device {
    /// As people call it in the log: the first `ip_device` that means it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }
}

/// One value to read and post.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Place in [`Config::devices`].
    pub device: usize,
    /// `pattoo_agent_polled_target`: the `ip_device` as configured, stripped.
    pub target: Arc<str>,
    /// Name of the polling group it was first met in.
    pub group: Arc<str>,
    /// Unit id of the request and of the metadata.
    pub unit: UnitId,
    /// Where it begins.
    pub reference: Reference,
    /// Words → value.
    pub format: Format,
    /// How the server treats it.
    pub kind: points::Kind,
    /// Time between two polls.
    pub interval: Duration,
    /// Points of one device, unit and table with the same number here are read by one request or not at all.
    pub together: Option<u32>,
    /// Its name and its metadata.
    pub naming: Naming,
    /// The tags that it has from its device, its group and the defaults, its own not among them.
    pub tags: Arc<Tags>,
}

impl Point {
    /// Its name, with the key if it has one: `flow (input_register_30387)`.
    #[must_use]
    pub fn called(&self) -> String {
        points::called(self.naming.name.as_deref(), &self.key())
    }

    /// Its key, which is its name at the pattoo server: `input_register_30387`, `holding_register_40001_bit_3`, `coil_00001`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}{}", self.reference, self.format.part())
    }
}
