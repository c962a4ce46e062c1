//! `pattoo_agent_modbustcpd.yaml`: what to poll, by the rules of the original agent.
//!
//! What the original accepts means the same here. Where it crashes, the fault is told; where it left
//! something out without a word (a number outside its table, an `ip_device` that is no text), the agent
//! starts as before and a warning says what is left out, so that an old configuration goes on working. In a file
//! that was written for it ([`original`]) that holds for everything it took: unknown and repeated keys, intervals
//! of 0, devices and registers that are none.

use std::net::SocketAddr;
use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::groups::{self, Group};
use super::original::{self, Known};
use super::outputs::{self, OutputConfig, SPLIT_REFUSED_AFTER};
use super::settings::{self, Sections};
use super::value::{MAX_TEXT_BYTES, POLLING_INTERVAL, duration_within, flag, interval, originals_interval};
use super::yaml::cursor::{Cursor, Entry, Report};
use super::yaml::node::Node;
use super::yaml::source::Source;
use super::{cache, registers};
use crate::logging::Format;
use crate::spool::Limits;

/// The default of `flush_interval`.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

const KEYS: [&str; 15] = [
    "polling_interval",
    "flush_interval",
    "cache_min_free",
    "cache_max_bytes",
    "cache_max_age",
    "split_refused_after",
    "trust_local_clock",
    "status_listen",
    "status_hosts",
    "agent_hostname",
    "log_format",
    "outputs",
    "device_defaults",
    "devices",
    "polling_groups",
];

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
    pub hostname: Option<String>,
    pub log_format: Format,
    pub sections: Sections<'a>,
    pub groups: Vec<Group<'a>>,
}

/// Reads the file. What is wrong is in the report.
pub fn read<'a>(source: &'a Source, report: &mut Report) -> Option<Agent<'a>> {
    let root = Cursor::root(source);
    let known = Known { top: &KEYS, group: &groups::KEYS, register: &registers::KEYS };
    report.lenient = original::is_for_it(&source.root, &known);
    let Some(entries) = root.entries(report) else {
        report.faults.push(root.unfit("a mapping with polling_groups"));
        return None;
    };
    let mut agent = Agent {
        polling_interval: POLLING_INTERVAL,
        flush_interval: FLUSH_INTERVAL,
        cache_limits: Limits::default(),
        split_refused_after: SPLIT_REFUSED_AFTER,
        outputs: Vec::new(),
        trust_local_clock: false,
        status_listen: None,
        status_hosts: Vec::new(),
        hostname: None,
        log_format: Format::Text,
        sections: Sections::default(),
        groups: Vec::new(),
    };
    let (mut listed, mut device_defaults, mut devices, mut listed_outputs) = (None, None, None, None);
    for Entry { key, value, key_cursor } in &entries {
        match key.as_str() {
            "polling_interval" => {
                let taken = if report.lenient { originals_interval(value, report) } else { None };
                agent.polling_interval = taken.or_else(|| interval(value, report)).unwrap_or(POLLING_INTERVAL);
            }
            "flush_interval" => {
                let allowed = Duration::from_millis(10)..=Duration::from_secs(60);
                let interval = duration_within(value, allowed, "a duration such as 1s, from 10ms to 60s", report);
                agent.flush_interval = interval.unwrap_or(FLUSH_INTERVAL);
            }
            "cache_min_free" | "cache_max_bytes" | "cache_max_age" => {
                cache::limit(key, value, &mut agent.cache_limits, report);
            }
            "split_refused_after" => {
                let after = outputs::split_refused_after(value, report);
                agent.split_refused_after = after.unwrap_or(SPLIT_REFUSED_AFTER);
            }
            "trust_local_clock" => flag(&mut agent.trust_local_clock, value, report),
            "status_listen" => {
                agent.status_listen = match &*value.node {
                    Node::Text(text) => text.trim().parse().ok(),
                    _ => None,
                };
                if agent.status_listen.is_none() {
                    report
                        .faults
                        .push(value.unfit("an address with a port, such as 127.0.0.1:20204 or \"[::1]:20204\""));
                }
            }
            "status_hosts" => agent.status_hosts = hosts(value, report),
            "log_format" => match &*value.node {
                Node::Text(text) if text == "text" => agent.log_format = Format::Text,
                Node::Text(text) if text == "json" => agent.log_format = Format::Json,
                _ => report.faults.push(value.unfit("text or json")),
            },
            "agent_hostname" => agent.hostname = hostname(value, report),
            "outputs" => listed_outputs = Some(value),
            "device_defaults" => device_defaults = Some(value),
            "devices" => devices = Some(value),
            "polling_groups" => listed = Some(value),
            _ => {
                let entry = Entry { key: key.clone(), key_cursor: key_cursor.clone(), value: value.clone() };
                entry.report_unknown(&KEYS, report);
            }
        }
    }
    match listed.map(|listed| (listed, listed.items())) {
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
    let after = agent.split_refused_after;
    agent.outputs = match listed_outputs {
        Some(listed) => outputs::read(listed, after, report),
        None => vec![OutputConfig { split_refused_after: after, ..OutputConfig::default() }],
    };
    agent.sections = settings::read([device_defaults, devices], &agent.groups, report);
    Some(agent)
}

/// Names as a browser sends them, without scheme and port.
fn hosts(value: &Cursor<'_>, report: &mut Report) -> Vec<String> {
    const ALLOWED: &str = "a host name such as status.example.net, without http:// and without a port";
    let Some(items) = value.items() else {
        report.faults.push(value.unfit("a list of host names"));
        return Vec::new();
    };
    let mut hosts = Vec::new();
    for item in items {
        let label = |label: &str| {
            let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            (1..=63).contains(&label.len()) && label.bytes().all(fit)
        };
        match &*item.node {
            Node::Text(text) if text.len() <= 253 && text.trim_end_matches('.').split('.').all(label) => {
                hosts.push(text.clone());
            }
            _ => report.faults.push(item.unfit(ALLOWED)),
        }
    }
    hosts
}

fn hostname(value: &Cursor<'_>, report: &mut Report) -> Option<String> {
    let Node::Text(text) = &*value.node else {
        report.faults.push(value.unfit("a name"));
        return None;
    };
    let text = text.trim();
    let fit = !text.is_empty() && text.len() <= MAX_TEXT_BYTES && !text.contains(char::is_control);
    if !fit {
        report.faults.push(value.unfit("a name of at most 512 bytes"));
    }
    fit.then(|| text.to_owned())
}
