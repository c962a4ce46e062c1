//! The YAML files of the agent → one validated [`Config`], or every fault at once.
//!
//! Owns the rules of what a configuration means, the original agent's and ours. Refuses a configuration
//! whole: a [`Config`] exists only when there is no fault in any file. What the original silently left out
//! is a warning, so that a configuration it ran with goes on working; in a file without any key of ours
//! (`original`) so is everything else that it took.
//!
//! `source` reads a file with suspicion and parses it once into `node`s;
//! `shared` and `agent` say what the two files mean; every value that is wrong becomes a [`Fault`] with
//! file, line, column, what was found and what is allowed. [`settings`] is how devices are treated. [`render`] tells people what will be polled, [`changes`]
//! what an edit changes.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::agent::{Agent, Group};
pub use self::fault::{ConfigError, Fault};
pub use self::instance::{Instance, Places};
use self::registers::Register;
use self::settings::Origins;
use self::source::Source;
use self::view::Report;
use crate::logging;
use crate::modbus::endpoint::Endpoint;
use crate::modbus::format::{Format, Part};
use crate::modbus::register::{Reference, Table, UnitId};
use crate::modbus::settings::Settings;
use crate::reading::points;
use crate::shard::Shard;
use crate::spool::Limits;

mod agent;
mod cache;
pub mod changes;
mod doubts;
pub mod draft;
mod fault;
mod fit;
mod instance;
mod nesting;
mod node;
mod original;
mod path;
mod registers;
pub mod render;
pub mod settings;
mod shared;
mod source;
mod view;
mod yaml11;

/// The file that all pattoo programs share.
pub const SHARED_FILE: &str = "pattoo.yaml";

/// Where later versions of pattoo keep the address of the server.
pub const SHARED_AGENT_FILE: &str = "pattoo_agent.yaml";

/// The file of this agent alone.
pub const AGENT_FILE: &str = "pattoo_agent_modbustcpd.yaml";

/// More points than this, repetitions included, are a slip: devices times registers grows fast.
const MAX_POINTS: usize = 1_000_000;

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
    /// The default time between two polls of a point; the top-level interval of each post.
    pub polling_interval: Duration,
    /// How long a reading may wait for others before its batch is stored.
    pub flush_interval: Duration,
    /// How much disk the spool may take.
    pub cache_limits: Limits,
    /// How long the oldest batch may be refused, before it is taken apart to find out why.
    pub split_refused_after: Duration,
    /// Whether this machine's clock is believed when the server's says otherwise.
    pub trust_local_clock: bool,
    /// Where the status page is served; `None`: nowhere.
    pub status_listen: Option<SocketAddr>,
    /// The names under which it may be asked for, besides addresses and the agent's own.
    pub status_hosts: Vec<String>,
    /// The hostname that identifies every series; `None`: what the system says, remembered once used.
    pub agent_hostname: Option<String>,
    /// Every device to poll, in file order, one per endpoint.
    pub devices: Vec<Device>,
    /// Where their settings come from.
    pub settings: Origins,
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
    /// How it is treated.
    pub settings: Settings,
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
    /// What kind of number it holds.
    pub kind: points::Kind,
    /// Time between two polls.
    pub interval: Duration,
    /// Points of one device, unit and table with the same number here are read by one request or not at all.
    pub together: Option<u32>,
}

impl Point {
    /// Its name at the server: `input_register_30387`, `holding_register_40001_bit_3`, `coil_00001`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}{}", self.reference, self.format.part())
    }
}

/// A configuration without faults, and what a person should know of it all the same.
#[derive(Debug, PartialEq)]
pub struct Loaded {
    /// What to do.
    pub config: Config,
    /// What is questionable, in order of file and line; of very much the beginning, and how much more there is.
    pub warnings: Vec<Fault>,
}

/// Reads the configuration files in `directory`.
///
/// # Errors
/// With every fault of every file.
pub fn load(directory: &Path) -> Result<Loaded, ConfigError> {
    load_for(directory, std::env::var_os("HOME"))
}

/// Reads the configuration files in `directory` as a user with this home directory will.
///
/// # Errors
/// With every fault of every file.
pub fn load_for(directory: &Path, home: Option<OsString>) -> Result<Loaded, ConfigError> {
    load_as_proposed(directory, home, Vec::new())
}

/// Reads the configuration files in `directory` as if some of them, by their paths, had these texts.
///
/// # Errors
/// With every fault of every file.
pub fn load_as_proposed(
    directory: &Path,
    home: Option<OsString>,
    proposed: Vec<(PathBuf, String)>,
) -> Result<Loaded, ConfigError> {
    // The shared files have no keys but the original's.
    let mut report = Report { home, proposed, lenient: true, ..Report::default() };
    let shared_file = required(directory, SHARED_FILE, &mut report);
    let shared_agent_file = open(&directory.join(SHARED_AGENT_FILE), &mut report);
    let agent_file = required(directory, AGENT_FILE, &mut report);
    report.warnings.extend(doubts::of_owners(directory));
    let shared = shared_file.as_ref().and_then(|file| shared::read(file, shared_agent_file.as_ref(), &mut report));
    let agent = agent_file.as_ref().and_then(|file| agent::read(file, &mut report));
    let sources = [&shared_file, &shared_agent_file, &agent_file];
    report.faults.extend(sources.into_iter().flatten().filter_map(Source::too_ambiguous));
    if let (Some(agent), Some(file)) = (&agent, &agent_file) {
        report.faults.extend(too_many_points(agent, &file.file));
    }
    let points = agent.as_ref().filter(|_| report.faults.is_empty()).map(|agent| points(agent, &mut report));
    if let (Some((_, _, points)), Some(file)) = (&points, &agent_file)
        && points.is_empty()
        && report.faults.is_empty()
    {
        report.faults.push(Fault::of_file(
            &file.file,
            "there is nothing to poll: no polling group has both a device and a register",
        ));
    }
    // A fault of the file as a whole comes first, one that was not located last.
    let order = |fault: &Fault| (fault.position.is_none() && !fault.path.is_empty(), fault.position);
    let sort = |faults: &mut Vec<Fault>| faults.sort_by(|a, b| (&a.file, order(a)).cmp(&(&b.file, order(b))));
    sort(&mut report.faults);
    report.settle_warnings(sort);
    match (shared, agent, points) {
        (Some((pattoo, api)), Some(agent), Some((devices, settings, points))) if report.faults.is_empty() => {
            Ok(Loaded {
                config: Config {
                    shard: Shard::default(),
                    log_level: pattoo.log_level,
                    log_format: agent.log_format,
                    log_directory: pattoo.log_directory,
                    cache_directory: pattoo.cache_directory,
                    daemon_directory: pattoo.daemon_directory,
                    system_daemon_directory: pattoo.system_daemon_directory,
                    server_host: api.host,
                    server_port: api.port,
                    polling_interval: agent.polling_interval,
                    flush_interval: agent.flush_interval,
                    cache_limits: agent.cache_limits,
                    split_refused_after: agent.split_refused_after,
                    trust_local_clock: agent.trust_local_clock,
                    status_listen: agent.status_listen,
                    status_hosts: agent.status_hosts,
                    agent_hostname: agent.hostname,
                    devices,
                    settings,
                    points,
                },
                warnings: report.warnings,
            })
        }
        _ => Err(ConfigError { faults: report.faults, warnings: report.warnings }),
    }
}

/// `system_daemon_directory` and `daemon_directory`, whatever else is wrong with the files.
///
/// # Errors
/// With every fault of the file that says it.
pub fn daemon_directories(directory: &Path) -> Result<[PathBuf; 2], ConfigError> {
    let mut report = Report { home: std::env::var_os("HOME"), lenient: true, ..Report::default() };
    let file = required(directory, SHARED_FILE, &mut report);
    let found = file.and_then(|file| shared::daemon_directories(&file, &mut report));
    found.ok_or_else(|| report.faults.into())
}

fn required(directory: &Path, name: &str, report: &mut Report) -> Option<Source> {
    let path = directory.join(name);
    let faults = report.faults.len();
    let source = open(&path, report);
    if source.is_none() && report.faults.len() == faults {
        report.faults.push(Fault::of_file(
            &path,
            "there is no such file; --config_dir or PATTOO_CONFIGDIR names the directory that holds it",
        ));
    }
    source
}

fn open(path: &Path, report: &mut Report) -> Option<Source> {
    let proposed = report.proposed.iter().find(|(of, _)| of == path).map(|(_, text)| text.clone());
    let source = match proposed {
        Some(text) => Source::of_text(path, text).map(Some),
        None => Source::read(path),
    };
    source.unwrap_or_else(|fault| {
        report.faults.push(fault);
        None
    })
}

fn too_many_points(agent: &Agent<'_>, file: &Path) -> Option<Fault> {
    let of = |group: &Group<'_>| group.devices.len().saturating_mul(group.registers.len());
    let points = agent.groups.iter().map(of).fold(0, usize::saturating_add);
    let message = format!("found {points} points (devices times registers); allowed are {MAX_POINTS}");
    (points > MAX_POINTS).then(|| Fault::of_file(file, message))
}

/// What identifies a series, but for what all series of an agent have in common.
type Identity<'g> = (&'g str, UnitId, Reference, Part, points::Kind);

/// Every point once, in the original's order: groups as in the file, input before holding registers, devices
/// as in the file, then by multiplier and number.
fn points<'g>(agent: &'g Agent<'_>, report: &mut Report) -> (Vec<Device>, Origins, Vec<Point>) {
    let mut devices: Vec<Device> = Vec::new();
    let mut places: HashMap<Endpoint, usize> = HashMap::new();
    let mut known: HashMap<Identity<'g>, Seen<'_>> = HashMap::new();
    let mut points = Vec::new();
    let mut registers_of_points = Vec::new();
    // A host can be spelled in thousands of ways.
    let mut named: HashSet<(usize, &str)> = HashSet::new();
    for (number, group) in (0..).zip(&agent.groups) {
        if group.registers.is_empty() {
            continue;
        }
        // Of millions of points many share a name.
        let group_name: Arc<str> = group.name.as_str().into();
        for table in Table::ALL {
            let registers = in_order(group, table);
            if registers.is_empty() {
                continue;
            }
            for (target, address, _) in &group.devices {
                let target_name: Arc<str> = target.as_str().into();
                let endpoint = agent.sections.endpoint(target, address);
                let device = *places.entry(endpoint.clone()).or_insert_with(|| {
                    devices.push(Device {
                        endpoint: endpoint.clone(),
                        names: Vec::new(),
                        settings: Settings::default(),
                    });
                    devices.len() - 1
                });
                if named.insert((device, target.as_str())) {
                    devices[device].names.push(target.clone());
                }
                for register in &registers {
                    let (format, kind) = (&register.format, register.kind);
                    let identity = (target.as_str(), group.unit, register.reference, format.part(), kind);
                    if let Some(first) = known.get(&identity) {
                        first.clash(group, register, report);
                        continue;
                    }
                    known.insert(identity, Seen { group: &group.name, register });
                    registers_of_points.push(*register);
                    points.push(Point {
                        device,
                        target: Arc::clone(&target_name),
                        group: Arc::clone(&group_name),
                        unit: group.unit,
                        reference: register.reference,
                        format: format.clone(),
                        kind,
                        interval: group.polling_interval.unwrap_or(agent.polling_interval),
                        together: group.together.then_some(number),
                    });
                }
            }
        }
    }
    let settings = agent.sections.settle(&mut devices, report);
    fit::check(&agent.groups, &devices, report);
    doubts::of_names(&agent.groups, &devices, report);
    doubts::of_unit_0(&agent.groups, &points, &devices, report);
    doubts::of_overlaps(&points, &registers_of_points, report);
    doubts::of_scale_registers(&agent.groups, &devices, report);
    (devices, settings, points)
}

/// The registers of one table by multiplier and number: of a number that is there twice the smallest
/// multiplier comes first, and the first is the one that is polled.
fn in_order<'g, 'a>(group: &'g Group<'a>, table: Table) -> Vec<&'g Register<'a>> {
    let mut registers: Vec<_> = group.registers.iter().filter(|register| register.reference.table() == table).collect();
    let order = |register: &Register<'_>| (register.sorted_by, register.reference.number());
    registers.sort_by(|a, b| {
        let ((a, a_number), (b, b_number)) = (order(a), order(b));
        a.total_cmp(&b).then(a_number.cmp(&b_number))
    });
    registers
}

/// The configured register that a point was first met in.
struct Seen<'g> {
    group: &'g str,
    register: &'g Register<'g>,
}

impl Seen<'_> {
    /// A point is posted once. Another configuration of it is worth a word unless it says the same, and a fault when
    /// the original agent could not have been told either.
    fn clash(&self, group: &Group<'_>, register: &Register<'_>, report: &mut Report) {
        let same = self.register.format == register.format
            && self.register.sorted_by.to_bits() == register.sorted_by.to_bits();
        if self.group == group.name && same {
            return;
        }
        let (place, other) = (self.register.view.place(), view::cut(self.group));
        let originals = [&self.register.format, &register.format].into_iter().all(|it| matches!(it, Format::Word(_)));
        if originals || same {
            report.warnings.push(register.view.fault(format!(
                "found a register that is already read at {place} (group \"{other}\"); that one is posted, this one is left out"
            )));
        } else {
            report.faults.push(register.view.fault(format!(
                "found a point that would be one chart with the one at {place} (group \"{other}\"), which is read otherwise; allowed is one of them"
            )));
        }
    }
}
