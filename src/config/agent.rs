//! `pattoo_agent_modbustcpd.yaml`: what to poll, by the rules of the original agent.
//!
//! What the original accepts means the same here. Where it crashes, the fault is told; where it left
//! something out without a word (a number outside its table, an `ip_device` that is no text), the agent
//! starts as before and a warning says what is left out, so that an old configuration goes on working. In a file
//! that was written for it ([`original`]) that holds for everything it took: unknown and repeated keys, intervals
//! of 0, devices and registers that are none.

use std::net::SocketAddr;
use std::time::Duration;

use super::cache;
use super::diagnostic::Fault;
use super::original::{self, Known};
use super::registers::{self, Register};
use super::settings::{self, Sections};
use super::yaml::cursor::{Entry, Report, View};
use super::yaml::node::Node;
use super::yaml::source::Source;
use crate::logging::Format;
use crate::modbus::endpoint::Address;
use crate::modbus::plan::Limits as RequestLimits;
use crate::modbus::register::{Table, UnitId};
use crate::spool::Limits;

/// The default of `polling_interval`.
pub const POLLING_INTERVAL: Duration = Duration::from_secs(300);

/// The default of `flush_interval`.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// The default of `split_refused_after`.
pub const SPLIT_REFUSED_AFTER: Duration = Duration::from_secs(3_600);

const KEYS: [&str; 14] = [
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
    "device_defaults",
    "devices",
    "polling_groups",
];
const GROUP_KEYS: [&str; 13] = [
    "group_name",
    "ip_devices",
    "ip_targets",
    "unit",
    "polling_interval",
    "input_registers",
    "holding_registers",
    "coils",
    "discrete_inputs",
    "type",
    "order",
    "unavailable",
    "together",
];

/// The least `polling_interval` that the original knew: it polled without a pause, where it took one for 0.
const LEAST: Duration = Duration::from_secs(1);

/// The longest: in milliseconds the server has 32 bits for it.
const LONGEST: Duration = Duration::from_secs(49 * 86_400);

const INTERVALS: &str = "seconds as a whole number, or a duration such as 10s or 5m, from 100ms to 49days";

/// No longer text is stored by the server.
const MAX_TEXT_BYTES: usize = 512;

/// The name of a group goes to no server, and the original takes any.
const MAX_NAME_BYTES: usize = 4096;

/// The file as it is meant.
#[derive(Debug)]
pub struct Agent<'a> {
    pub polling_interval: Duration,
    pub flush_interval: Duration,
    pub cache_limits: Limits,
    pub split_refused_after: Duration,
    pub trust_local_clock: bool,
    pub status_listen: Option<SocketAddr>,
    pub status_hosts: Vec<String>,
    pub hostname: Option<String>,
    pub log_format: Format,
    pub sections: Sections<'a>,
    pub groups: Vec<Group<'a>>,
}

/// One polling group.
#[derive(Debug)]
pub struct Group<'a> {
    pub name: String,
    pub devices: Vec<(String, Address, View<'a>)>,
    pub unit: UnitId,
    pub polling_interval: Option<Duration>,
    /// Whether what it reads of a table is read by one request or not at all.
    pub together: bool,
    /// Input registers, holding registers, coils, discrete inputs, each in the order of the file.
    pub registers: Vec<Register<'a>>,
}

/// Reads the file. What is wrong is in the report.
pub fn read<'a>(source: &'a Source, report: &mut Report) -> Option<Agent<'a>> {
    let root = View::root(source);
    let known = Known { top: &KEYS, group: &GROUP_KEYS, register: &registers::KEYS };
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
        trust_local_clock: false,
        status_listen: None,
        status_hosts: Vec::new(),
        hostname: None,
        log_format: Format::Text,
        sections: Sections::default(),
        groups: Vec::new(),
    };
    let (mut groups, mut device_defaults, mut devices) = (None, None, None);
    for Entry { key, value, key_view } in &entries {
        match key.as_str() {
            "polling_interval" => {
                let taken = if report.lenient { originals_interval(value, report) } else { None };
                agent.polling_interval = taken.or_else(|| interval(value, report)).unwrap_or(POLLING_INTERVAL);
            }
            "flush_interval" => agent.flush_interval = flush_interval(value, report).unwrap_or(FLUSH_INTERVAL),
            "cache_min_free" | "cache_max_bytes" | "cache_max_age" => {
                cache::limit(key, value, &mut agent.cache_limits, report);
            }
            "split_refused_after" => {
                let second = Duration::from_secs(1);
                let after = cache::duration(value, second, "a duration such as 1h, from 1s", report);
                agent.split_refused_after = after.unwrap_or(SPLIT_REFUSED_AFTER);
            }
            "trust_local_clock" => match &*value.node {
                Node::Bool(trust) => agent.trust_local_clock = *trust,
                _ => report.faults.push(value.unfit("true or false")),
            },
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
            "device_defaults" => device_defaults = Some(value),
            "devices" => devices = Some(value),
            "polling_groups" => groups = Some(value),
            _ => {
                let entry = Entry { key: key.clone(), key_view: key_view.clone(), value: value.clone() };
                entry.report_unknown(&KEYS, report);
            }
        }
    }
    match groups.map(|groups| (groups, groups.items())) {
        None => report.faults.push(Fault::of_file(&source.file, "polling_groups is missing; it lists what to poll")),
        Some((view, None)) => report.faults.push(view.unfit("a list of polling groups")),
        Some((view, Some(items))) if items.is_empty() => report.faults.push(view.unfit("at least one polling group")),
        Some((_, Some(items))) => {
            agent.groups = items.iter().enumerate().filter_map(|(place, item)| group(place, item, report)).collect();
        }
    }
    agent.sections = settings::read([device_defaults, devices], &agent.groups, report);
    Some(agent)
}

fn group<'a>(place: usize, view: &View<'a>, report: &mut Report) -> Option<Group<'a>> {
    let Some(entries) = view.entries(report) else {
        let fault = view.unfit("a mapping with ip_devices and registers");
        match *view.node {
            Node::Text(_) | Node::List(_) => report.unless_lenient(fault, "it is left out"),
            _ => report.faults.push(fault),
        }
        return None;
    };
    let mut group = Group {
        name: format!("group {}", place + 1),
        devices: Vec::new(),
        unit: UnitId::default(),
        polling_interval: None,
        together: false,
        registers: Vec::new(),
    };
    let mut polled = true;
    let (mut named, mut tables) = (false, [const { None }; Table::ALL.len()]);
    let mut defaults = registers::Defaults::default();
    let mut whole = None;
    let faults_before = report.faults.len();
    for entry in &entries {
        let value = &entry.value;
        match entry.key.as_str() {
            "group_name" => group.name = name(value, report),
            "ip_devices" | "ip_targets" => {
                named = true;
                devices(value, &mut group.devices, report);
            }
            "unit" => match unit(value, report) {
                Unit::Of(unit) => group.unit = unit,
                Unit::OfNoDevice => polled = false,
            },
            "polling_interval" => group.polling_interval = interval(value, report),
            "input_registers" => tables[0] = Some(value),
            "holding_registers" => tables[1] = Some(value),
            "coils" => tables[2] = Some(value),
            "discrete_inputs" => tables[3] = Some(value),
            "type" => defaults.kind = registers::kind(value, report),
            "order" => defaults.order = registers::order(value, report),
            "together" => match &*value.node {
                Node::Bool(together) => (group.together, whole) = (*together, Some(value)),
                _ => report.faults.push(value.unfit("true or false")),
            },
            "unavailable" => defaults.unavailable = registers::sentinels(value, report),
            _ => entry.report_unknown(&GROUP_KEYS, report),
        }
    }
    // The original looks for the devices of what it reads only.
    let reads = tables.iter().any(Option::is_some);
    if !named && (reads || !report.lenient) {
        report.faults.push(view.fault("ip_devices is missing; it lists the devices of this group"));
    }
    for (table, value) in Table::ALL.into_iter().zip(tables) {
        if let Some(value) = value {
            registers::read(table, value, &defaults, &mut group.registers, report);
        }
    }
    if !polled {
        group.registers.clear();
    }
    if let Some(view) = whole.filter(|_| group.together) {
        report.faults.extend(Table::ALL.into_iter().filter_map(|table| too_long(table, &group.registers, view)));
    }
    if group.registers.is_empty() && report.faults.len() == faults_before {
        report.warnings.push(view.fault("this group has nothing that can be read, so nothing of it is polled"));
    }
    Some(group)
}

/// What is read together must fit into one request.
fn too_long(table: Table, registers: &[Register<'_>], view: &View<'_>) -> Option<Fault> {
    let span = span(table, registers)?;
    let most = RequestLimits::default().of(table);
    (span > most.into()).then(|| {
        view.fault(format!(
            "found {table} that span {span} places and are to be read together; allowed are {most}, which is what one \
             request may ask for"
        ))
    })
}

/// How many places of `table` lie between the first and the last that is read for `registers`.
pub fn span(table: Table, registers: &[Register<'_>]) -> Option<u32> {
    let of_table = || registers.iter().filter(|register| register.reference.table() == table);
    let first = of_table().flat_map(|it| [Some(it.reference.address()), it.format.scale_address()]).flatten().min()?;
    let ends = |it: &Register<'_>| {
        let scale = it.format.scale_address().map_or(0, |address| u32::from(address) + 1);
        scale.max(u32::from(it.reference.address()) + u32::from(it.format.width()))
    };
    Some(of_table().map(ends).max()?.saturating_sub(u32::from(first)))
}

/// It stands in many messages, so that it must not be a book.
fn name(value: &View<'_>, report: &mut Report) -> String {
    match &*value.node {
        Node::Text(text) if text.len() > MAX_NAME_BYTES => {
            report.faults.push(value.unfit("a name of at most 4096 bytes"));
            String::new()
        }
        Node::Text(text) => text.trim().to_owned(),
        other => other.shown(),
    }
}

fn devices<'a>(value: &View<'a>, devices: &mut Vec<(String, Address, View<'a>)>, report: &mut Report) {
    let items = match (value.items(), &*value.node) {
        (Some(items), _) => items,
        (None, Node::Text(_)) => {
            report.warnings.push(value.fault("found one text where a list belongs; it is taken as one device"));
            vec![value.clone()]
        }
        (None, Node::Mapping(_)) if report.lenient => {
            let fault = value.unfit("a list of devices (name, address, host:port)");
            report.unless_lenient(fault, "its keys are the devices");
            value.entries(report).unwrap_or_default().into_iter().map(|entry| entry.key_view).collect()
        }
        (None, _) => {
            report.faults.push(value.unfit("a list of devices (name, address, host:port)"));
            return;
        }
    };
    if items.is_empty() {
        report.unless_lenient(value.unfit("at least one device (name, address, host:port)"), "the group is left out");
    }
    for item in items {
        let Node::Text(text) = &*item.node else {
            let message = format!(
                "found {}, which is no text and is left out; put it in quotes if it is a device",
                item.node.shown()
            );
            report.warnings.push(item.fault(message));
            continue;
        };
        if text.len() > MAX_TEXT_BYTES {
            report.faults.push(item.unfit("name, address, host:port, of at most 512 bytes"));
            continue;
        }
        let text = text.trim().to_owned();
        match text.parse() {
            Ok(address) => devices.push((text, address, item)),
            Err(error) => {
                let found = item.node.shown();
                let fault = item
                    .fault(format!("found {found}, which is no device: {error}; allowed are name, address, host:port"));
                report.unless_lenient(fault, "it is left out");
            }
        }
    }
}

/// What the original took and [`interval`] does not, with a warning: for its default whatever is nothing (0, false,
/// an empty text or list), for a second `true`. What it took for 0 otherwise it polled without a pause: a second, too.
fn originals_interval(value: &View<'_>, report: &mut Report) -> Option<Duration> {
    const NOTHING: &str = "the default of 300 s holds, as with the Python agent";
    const NO_PAUSE: &str = "1 s holds, the least of whole seconds: the Python agent took 0 and polled without a pause";
    let (interval, taken) = match &*value.node {
        Node::Integer(0) | Node::Bool(false) => (POLLING_INTERVAL, NOTHING),
        Node::Float(seconds) if *seconds == 0.0 => (POLLING_INTERVAL, NOTHING),
        Node::Text(text) if text.is_empty() => (POLLING_INTERVAL, NOTHING),
        Node::List(items) if items.is_empty() => (POLLING_INTERVAL, NOTHING),
        Node::Mapping(entries) if entries.is_empty() => (POLLING_INTERVAL, NOTHING),
        Node::Bool(true) => (LEAST, "1 s holds, as with the Python agent"),
        Node::Float(seconds) if seconds.abs() < 1.0 => (LEAST, NO_PAUSE),
        Node::Text(text) if text.trim().trim_start_matches(['-', '+']).parse() == Ok(0) => (LEAST, NO_PAUSE),
        Node::Integer(seconds) if seconds.unsigned_abs() > LONGEST.as_secs().into() => {
            (LONGEST, "49 days hold, the longest that the server can store")
        }
        _ => return None,
    };
    let fault = value.unfit(INTERVALS);
    report.warnings.push(Fault { message: format!("{}; {taken}", fault.message), ..fault });
    Some(interval)
}

/// `abs(int(value))` seconds as in the original, or a duration with its unit.
fn interval(value: &View<'_>, report: &mut Report) -> Option<Duration> {
    let seconds = match &*value.node {
        Node::Null => return None,
        Node::Integer(seconds) => u64::try_from(seconds.unsigned_abs()).ok().map(Duration::from_secs),
        // Towards zero, as Python's int() does.
        Node::Float(seconds) => Duration::try_from_secs_f64(seconds.abs().trunc()).ok(),
        Node::Text(text) => {
            let digits = text.trim().trim_start_matches(['-', '+']);
            digits.parse().map(Duration::from_secs).ok().or_else(|| humantime::parse_duration(text.trim()).ok())
        }
        _ => None,
    };
    let allowed = Duration::from_millis(100)..=LONGEST;
    let seconds = seconds.filter(|seconds| allowed.contains(seconds) && seconds.subsec_nanos() % 1_000_000 == 0);
    if seconds.is_none() {
        report.faults.push(value.unfit(INTERVALS));
    }
    seconds
}

fn flush_interval(value: &View<'_>, report: &mut Report) -> Option<Duration> {
    let duration = match &*value.node {
        Node::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        Node::Float(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
        Node::Text(text) => humantime::parse_duration(text.trim()).ok(),
        _ => None,
    };
    let allowed = Duration::from_millis(10)..=Duration::from_secs(60);
    let duration = duration.filter(|duration| allowed.contains(duration));
    if duration.is_none() {
        report.faults.push(value.unfit("a duration such as 1s, from 10ms to 60s"));
    }
    duration
}

/// Names as a browser sends them, without scheme and port.
fn hosts(value: &View<'_>, report: &mut Report) -> Vec<String> {
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

fn hostname(value: &View<'_>, report: &mut Report) -> Option<String> {
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

/// What `unit` says.
enum Unit {
    Of(UnitId),
    /// A number that no unit has.
    OfNoDevice,
}

/// The original takes 0 for whatever is no number; a quoted number is a slip that it hides. A group with a number
/// that is no unit it never polled.
fn unit(value: &View<'_>, report: &mut Report) -> Unit {
    const ALLOWED: &str = "a whole number from 0 to 255";
    let number = match &*value.node {
        Node::Null => return Unit::Of(UnitId::default()),
        Node::Integer(number) => *number,
        #[allow(
            clippy::cast_possible_truncation,
            reason = "towards zero, as Python's int() does; saturation is out of range too"
        )]
        Node::Float(number) if number.is_finite() => *number as i128,
        Node::Text(text) if text.trim().parse::<i128>().is_ok() => {
            report.faults.push(
                value.fault(format!("found {}, a text; allowed is {ALLOWED} (remove the quotes)", value.node.shown())),
            );
            return Unit::OfNoDevice;
        }
        Node::Bool(_) | Node::Text(_) | Node::List(_) => {
            let found = value.node.shown();
            report.warnings.push(value.fault(format!("found {found}, which counts as unit 0; allowed is {ALLOWED}")));
            return Unit::Of(UnitId::default());
        }
        _ => {
            report.faults.push(value.unfit(ALLOWED));
            return Unit::OfNoDevice;
        }
    };
    if let Ok(unit) = u8::try_from(number) {
        return Unit::Of(UnitId(unit));
    }
    report.unless_lenient(value.unfit(ALLOWED), "the group is left out");
    Unit::OfNoDevice
}
