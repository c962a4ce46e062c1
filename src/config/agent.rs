//! `pattoo_agent_modbustcpd.yaml`: what to poll, by the rules of the original agent.
//!
//! What the original accepts means the same here. Where it crashes, the fault is told; where it left
//! something out without a word (a number outside its table, an `ip_device` that is no text), the agent
//! starts as before and a warning says what is left out, so that an old configuration goes on working. In a file
//! that was written for it ([`original`]) that holds for everything it took: unknown and repeated keys, intervals
//! of 0, devices and registers that are none. Its keys stand in one table ([`keys`]).

use std::net::SocketAddr;
use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::groups::{self, Group};
use super::original::{self, Known};
use super::outputs::{self, OutputConfig, SPLIT_REFUSED_AFTER};
use super::settings::{self, Sections};
use super::value::POLLING_INTERVAL;
use super::yaml::cursor::{Cursor, Report};
use super::yaml::source::Source;
use super::{keys, registers};
use crate::logging::Format;
use crate::spool::Limits;

/// The default of `flush_interval`.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// The file as it is meant.
#[derive(Debug)]
pub struct Agent<'a> {
    pub polling_interval: Duration,
    pub flush_interval: Duration,
    pub cache_limits: Limits,
    pub split_refused_after: Duration,
    pub outputs: Vec<OutputConfig>,
    pub trust_local_clock: bool,
    pub status_listen: Option<SocketAddr>,
    pub status_hosts: Vec<String>,
    pub readings_in_metrics: bool,
    pub hostname: Option<String>,
    pub log_format: Format,
    pub sections: Sections<'a>,
    pub groups: Vec<Group<'a>>,
}

/// The file as it is being read: what its keys say, and where the sections are that are read when all keys are known.
#[derive(Debug)]
pub struct Found<'a> {
    pub agent: Agent<'a>,
    pub outputs: Option<Cursor<'a>>,
    pub device_defaults: Option<Cursor<'a>>,
    pub devices: Option<Cursor<'a>>,
    pub polling_groups: Option<Cursor<'a>>,
}

/// Reads the file. What is wrong is in the report.
pub fn read<'a>(source: &'a Source, report: &mut Report) -> Option<Agent<'a>> {
    let root = Cursor::root(source);
    let known = Known { top: &keys::NAMES, group: &groups::KEYS, register: &registers::KEYS };
    // Before anything is judged: it decides what is a fault and what a warning.
    report.lenient = original::is_for_it(&source.root, &known);
    let Some(entries) = root.entries(report) else {
        report.faults.push(root.unfit("a mapping with polling_groups"));
        return None;
    };
    let mut found = Found {
        agent: Agent {
            polling_interval: POLLING_INTERVAL,
            flush_interval: FLUSH_INTERVAL,
            cache_limits: Limits::default(),
            split_refused_after: SPLIT_REFUSED_AFTER,
            outputs: Vec::new(),
            trust_local_clock: false,
            status_listen: None,
            status_hosts: Vec::new(),
            readings_in_metrics: false,
            hostname: None,
            log_format: Format::Text,
            sections: Sections::default(),
            groups: Vec::new(),
        },
        outputs: None,
        device_defaults: None,
        devices: None,
        polling_groups: None,
    };
    for entry in &entries {
        if !keys::parse(&entry.key, &mut found, &entry.value, report) {
            entry.report_unknown(&keys::NAMES, report);
        }
    }
    // Sections come after the keys: an output without `split_refused_after` has the one of the top, wherever that
    // stands.
    let Found { mut agent, outputs, device_defaults, devices, polling_groups } = found;
    match polling_groups.as_ref().map(|listed| (listed, listed.items())) {
        None => {
            report.faults.push(Diagnostic::of_file(&source.file, "polling_groups is missing; it lists what to poll"));
        }
        Some((cursor, None)) => report.faults.push(cursor.unfit("a list of polling groups")),
        Some((cursor, Some(items))) if items.is_empty() => {
            report.faults.push(cursor.unfit("at least one polling group"));
        }
        Some((_, Some(items))) => {
            agent.groups =
                items.iter().enumerate().filter_map(|(place, item)| groups::read(place, item, report)).collect();
        }
    }
    let split_refused_after = agent.split_refused_after;
    agent.outputs = match outputs {
        Some(listed) => outputs::read(&listed, split_refused_after, report),
        None => vec![OutputConfig { split_refused_after, ..OutputConfig::default() }],
    };
    // After the groups: a section about a device that no group has is a slip.
    agent.sections = settings::read([device_defaults.as_ref(), devices.as_ref()], &agent.groups, report);
    Some(agent)
}
