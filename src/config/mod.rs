//! The two YAML files of the agent → one validated [`Config`], or every fault at once.
//!
//! (header to be completed with the room)

use std::path::PathBuf;
use std::time::Duration;

use crate::modbus::endpoint::Endpoint;
use crate::modbus::register::{Reference, Scale, UnitId};

/// Everything the agent needs to know, checked whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `pattoo.yaml`, section `pattoo`.
    pub log_level: LogLevel,
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
    /// The default time between two polls of a point; the top-level interval of each post.
    pub polling_interval: Duration,
    /// How long a reading may wait for others before its batch is stored.
    pub flush_interval: Duration,
    /// The hostname that identifies every series; `None`: what the system says, remembered once used.
    pub agent_hostname: Option<String>,
    /// Every device to poll, in file order, one per endpoint.
    pub devices: Vec<Device>,
    /// Every point, in file order; a point's place is its [`crate::reading::PointId`].
    pub points: Vec<Point>,
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
    /// Time allowed for name resolution and TCP handshake.
    pub connect_timeout: Duration,
    /// Time allowed from a request to its whole reply.
    pub response_timeout: Duration,
}

/// One value to read and post.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Place in [`Config::devices`].
    pub device: usize,
    /// `pattoo_agent_polled_target`: the `ip_device` as configured, stripped.
    pub target: String,
    /// Name of the polling group it was first met in.
    pub group: String,
    /// Unit id of the request and of the metadata.
    pub unit: UnitId,
    /// Register.
    pub reference: Reference,
    /// Word → value.
    pub scale: Scale,
    /// Time between two polls.
    pub interval: Duration,
}
