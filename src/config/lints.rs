//! What is allowed and probably not meant: one device under two names, unit 0 beside other units, values that share
//! registers, values too far from the register that scales them, scalars and addresses that mean something else than they seem
//! to. Nothing of it hinders a start, but for variables in a file that is ours alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::{Display, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::ptr;

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::configuration::{AGENT_FILE, Device, Point, SHARED_AGENT_FILE, SHARED_FILE};
use super::diagnostic::{Diagnostic, MAX_TOLD};
use super::groups::{Group, span};
use super::registers::Register;
use super::yaml::cursor::{Report, cut};
use super::yaml::node::{Node, Route, Step};
use super::yaml::source::Source;
use super::yaml::yaml11;
use crate::files::trust;
use crate::modbus::endpoint::Endpoint;
use crate::modbus::register::{Table, UnitId};
use crate::text::{count, some_of};

/// Whoever may write to the files, or put others in their place, decides what is polled and where it goes.
pub fn of_owners(directory: &Path) -> Vec<Diagnostic> {
    let files = [SHARED_FILE, SHARED_AGENT_FILE, AGENT_FILE].map(|name| directory.join(name));
    let doubt = |path: &Path| {
        let doubt = std::fs::metadata(path).ok().as_ref().and_then(trust::doubt)?;
        Some(Diagnostic::of_file(path, doubt))
    };
    // The files in it are looked at all the same.
    let directory = (!is_config_map(directory)).then_some(directory);
    directory.into_iter().chain(files.iter().map(PathBuf::as_path)).filter_map(doubt).collect()
}

/// Whether Kubernetes has mounted a `ConfigMap` or a `Secret` there. It gives such a directory mode 0777 and lets no
/// container write to it; nobody could follow the advice to change that.
fn is_config_map(directory: &Path) -> bool {
    let of_kubernetes = std::fs::symlink_metadata(directory.join("..data")).is_ok_and(|it| it.is_symlink());
    of_kubernetes && statvfs(directory).is_ok_and(|it| it.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Scalars that do not say what they seem to: numbers that YAML 1.1 reads in another base, and variables that nobody fills in.
pub fn of_scalars(source: &Source, sections: Option<&[&str]>, report: &mut Report) {
    let Node::Mapping(entries) = &source.root else { return };
    for (place, (key, value)) in entries.iter().enumerate() {
        let Node::Text(name) = key else { continue };
        if sections.is_none_or(|sections| sections.contains(&name.as_str())) {
            let mut at = At { source, route: vec![Step::Value(place)], path: name.clone() };
            of_node(value, &mut at, report);
        }
    }
}

/// Where a scalar is.
struct At<'a> {
    source: &'a Source,
    route: Route,
    path: String,
}

impl At<'_> {
    fn below(&mut self, node: &Node, step: Step, name: impl Display, report: &mut Report) {
        // One path that grows and shrinks on the way: nearly no scalar is told, so none is worth a text of its own.
        let length = self.path.len();
        // Writing to a String cannot fail.
        let _ = write!(self.path, "{name}");
        self.route.push(step);
        of_node(node, self, report);
        self.route.pop();
        self.path.truncate(length);
    }
}

fn of_node(node: &Node, at: &mut At<'_>, report: &mut Report) {
    match node {
        Node::List(items) => {
            for (place, item) in items.iter().enumerate() {
                at.below(item, Step::Item(place), format_args!("[{place}]"), report);
            }
        }
        Node::Mapping(entries) => {
            for (place, (key, value)) in entries.iter().enumerate() {
                let name = match key {
                    Node::Text(name) => cut(name).to_owned(),
                    key => key.shown(),
                };
                at.below(key, Step::Key(place), format_args!(".{name}"), report);
                at.below(value, Step::Value(place), format_args!(".{name}"), report);
            }
        }
        Node::Text(text) => {
            // Not bounded as the warnings below are: in a file of ours it is a fault.
            if let Some(message) = unfilled(text) {
                let fault = at.source.diagnostic(&at.route, &at.path, message);
                report.unless_lenient(fault, "it is taken as it stands");
            }
            // Nobody reads what is behind the first hundred.
            if report.warnings.len() < MAX_TOLD
                && let Some(message) = in_another_base(text, &at.path)
                // Last, because it parses the file again.
                && at.source.is_plain(&at.route)
            {
                report.warnings.push(at.source.diagnostic(&at.route, &at.path, message));
            }
        }
        _ => {}
    }
}

/// What to say of a text that was written for a program that fills in variables.
fn unfilled(text: &str) -> Option<String> {
    // As a whole, or before a port: topics of a broker's own begin with $ too.
    let name = |rest: &str| rest.split(':').next().map(str::to_owned).unwrap_or_default();
    let variable = |rest: &str| {
        !rest.is_empty() && name(rest).bytes().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit() || it == b'_')
    };
    let is_one = text.contains("${") || text.contains("{{") || text.strip_prefix('$').is_some_and(variable);
    is_one.then(|| {
        let found = Node::Text(text.to_owned()).shown();
        format!("found {found}; no variable is filled in here, so write what is meant")
    })
}

/// Where digits are taken as they stand: coils, which are written with leading zeros, and texts.
const AS_WRITTEN: [&str; 8] =
    [".coils", ".name", ".tags", ".values", ".unit_of_measurement", ".labels", ".headers", ".parameters"];

/// What to say of digits that are octal or base 60 to YAML 1.1.
fn in_another_base(text: &str, path: &str) -> Option<String> {
    let digits = text.trim_start_matches(['-', '+']);
    let octal = digits.len() > 1 && digits.starts_with('0');
    // Underscores alone (30_001) are read in one way by everybody who reads them at all.
    if !(octal || digits.contains(':')) || AS_WRITTEN.iter().any(|key| path.contains(key)) {
        return None;
    }
    let Node::Integer(meant) = yaml11::resolve(text)? else { return None };
    let decimal = digits.trim_start_matches('0').replace('_', "");
    Some(if octal {
        format!(
            "found {text}, which is octal and means {meant}, as to the Python agent; write {meant}, or {decimal} if that is meant"
        )
    } else {
        format!(
            "found {text}, which is base 60 and means {meant}, as to the Python agent; write {meant}, or put it in quotes"
        )
    })
}

/// A device that is spelled in two ways is one connection, but its charts are those of two devices.
pub fn of_names(groups: &[Group<'_>], devices: &[Device], report: &mut Report) {
    // Taken out when it is told: one word for each name, however many groups have it.
    let mut others: BTreeMap<&str, &Device> =
        devices.iter().flat_map(|device| device.names.iter().skip(1).map(move |name| (&**name, device))).collect();
    for (name, _, cursor) in groups.iter().flat_map(|group| &group.devices) {
        if let Some(device) = others.remove(&**name) {
            report.warnings.push(cursor.diagnostic(format!(
                "found {name:?}, which is the device {:?} under another name; the two are polled over one connection and \
                 charted as two devices, so spell it in one way unless that is meant",
                device.name()
            )));
        }
    }
    of_this_machine(groups, devices, report);
    of_odd_addresses(groups, devices, report);
}

/// Digits and dots that are no address as people write it are one to the system's resolver, which takes a number with a leading
/// zero for octal and fewer than four numbers for a short form; or they are a name that nobody has.
fn of_odd_addresses(groups: &[Group<'_>], devices: &[Device], report: &mut Report) {
    let is_odd = |device: &Device| match &device.endpoint {
        Endpoint::Tcp { host, .. } if host.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit()) => {
            host.parse::<Ipv4Addr>().is_err().then(|| host.clone())
        }
        _ => None,
    };
    let odd: HashMap<&str, String> =
        devices.iter().filter_map(|device| Some((device.name(), is_odd(device)?))).collect();
    let mut told = HashSet::new();
    for (name, _, cursor) in groups.iter().flat_map(|group| &group.devices) {
        let Some(host) = odd.get(&**name).filter(|host| told.insert(*host)) else { continue };
        let decimal = host.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u8>>>();
        let decimal = decimal.and_then(|parts| <[u8; 4]>::try_from(parts).ok()).map(Ipv4Addr::from);
        let meant = as_the_system_reads(host);
        if meant.is_some() && meant == decimal {
            continue;
        }
        let or = decimal.map_or_else(String::new, |decimal| format!(", or {decimal} if that is meant"));
        let what = match meant {
            Some(meant) => format!("which this system takes for {meant}; write {meant}{or}"),
            None => format!("which is no address and is looked up as a name; write four numbers from 0 to 255{or}"),
        };
        report.warnings.push(cursor.diagnostic(format!("found {name:?}, {what}; another text begins its charts anew")));
    }
}

/// What `inet_aton` makes of digits and dots.
fn as_the_system_reads(host: &str) -> Option<Ipv4Addr> {
    let number = |part: &str| {
        let octal = part.len() > 1 && part.starts_with('0');
        u32::from_str_radix(part, if octal { 8 } else { 10 }).ok()
    };
    let numbers = host.split('.').map(number).collect::<Option<Vec<u32>>>()?;
    let (last, first) = numbers.split_last().filter(|(_, first)| first.len() < 4)?;
    let room = 32 - 8 * u32::try_from(first.len()).ok()?;
    let mut address = Some(*last).filter(|last| u64::from(*last) < 1 << room)?;
    for (place, part) in (0..).zip(first) {
        address |= u32::from(u8::try_from(*part).ok()?) << (24 - 8 * place);
    }
    Some(address.into())
}

/// `localhost` and `127.0.0.1` are two texts and, as a rule, one device, which is then asked twice. Only these can be told without asking
/// a name server.
fn of_this_machine(groups: &[Group<'_>], devices: &[Device], report: &mut Report) {
    let mut known: HashMap<u16, &Device> = HashMap::new();
    for device in devices {
        // By port: simulators and gateways on one machine are many devices on many ports.
        let Endpoint::Tcp { host, port } = &device.endpoint else { continue };
        let is_loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if !is_loopback && !host.eq_ignore_ascii_case("localhost") {
            continue;
        }
        let first = *known.entry(*port).or_insert(device);
        let place = || groups.iter().flat_map(|group| &group.devices).find(|(name, ..)| name == device.name());
        if let (false, Some((name, _, cursor))) = (ptr::eq(first, device), place()) {
            report.warnings.push(cursor.diagnostic(format!(
                "found {name:?}, which is this machine, as is {:?}; if both are one device, it is asked twice and charted as two \
                 devices, so spell it in one way",
                first.name()
            )));
        }
    }
}

/// A gateway takes unit 0 for a broadcast, which is not answered.
pub fn of_unit_0(groups: &[Group<'_>], points: &[Point], devices: &[Device], report: &mut Report) {
    let mut units: BTreeMap<usize, BTreeSet<UnitId>> = BTreeMap::new();
    for point in points {
        units.entry(point.device).or_default().insert(point.unit);
    }
    let gateways: BTreeMap<&str, UnitId> = units
        .iter()
        .filter(|(_, units)| units.contains(&UnitId(0)))
        .filter_map(|(&device, units)| Some((devices.get(device)?, *units.range(UnitId(1)..).next()?)))
        .flat_map(|(device, other)| device.names.iter().map(move |name| (&**name, other)))
        .collect();
    for group in groups.iter().filter(|group| group.units.contains(&UnitId(0))) {
        let gateway = group.devices.iter().find_map(|(name, _, cursor)| Some((name, cursor, gateways.get(&**name)?)));
        if let Some((name, cursor, other)) = gateway {
            report.warnings.push(cursor.diagnostic(format!(
                "found {name:?} with unit 0 in group {:?}, and with unit {other} in another one; a gateway sends what is \
                 for unit 0 to all of its units and none of them answers, so give this group the unit of its device",
                group.name
            )));
        }
    }
}

/// A value that cannot be read by one request with the register that scales it costs another request, and is lost
/// whenever the device changes its scale. One word for each group and table, about the device that takes the least at
/// once.
pub fn of_scale_registers(groups: &[Group<'_>], devices: &[Device], report: &mut Report) {
    let by_name: HashMap<&str, &Device> =
        devices.iter().flat_map(|device| device.names.iter().map(move |name| (name.as_str(), device))).collect();
    // What is read together fits, or is a fault.
    for group in groups.iter().filter(|group| !group.together) {
        for table in Table::ALL {
            let scaled = || {
                group.registers.iter().filter(|it| it.reference.table() == table && it.format.scale_address().is_some())
            };
            if scaled().next().is_none() {
                continue;
            }
            let limit = |device: &&Device| device.settings.limits().of(table);
            let of_group = group.devices.iter().filter_map(|(name, ..)| by_name.get(name.as_str()).copied());
            let Some(device) = of_group.min_by_key(limit) else { continue };
            let most = limit(&device);
            let spans = scaled().filter_map(|it| Some((span(table, std::slice::from_ref(it))?, it)));
            let far: Vec<(u32, &Register<'_>)> = spans.filter(|(span, _)| *span > most.into()).collect();
            let (Some((_, first)), Some(longest)) = (far.first(), far.iter().map(|(span, _)| span).max()) else {
                continue;
            };
            let keys = far.iter().map(|(_, it)| format!("{}{}", it.reference, it.format.part()));
            report.warnings.push(first.cursor.diagnostic(format!(
                "found {} too far from scale_register to be read at once ({}): the two span up to {longest} registers, and \
                 one request to {} may have {most}; the scale register is read again at the end of each poll, which costs one \
                 more request, and a value is left out when it has changed meanwhile",
                count(far.len(), "value"),
                some_of(keys),
                device.name()
            )));
        }
    }
}

/// Two values that share a register in part cannot both be what the device means by it.
pub fn of_overlaps(points: &[Point], registers: &[&Register<'_>], report: &mut Report) {
    let place = |point: &Point| (point.device, point.unit, point.reference.table(), point.reference.address());
    let mut sorted: Vec<(&Point, &Register<'_>)> = points.iter().zip(registers.iter().copied()).collect();
    sorted.sort_by_key(|(point, _)| place(point));
    let mut told = HashSet::new();
    // The one that reaches furthest of those before.
    let mut before: Option<(&Point, &Register<'_>)> = None;
    let end = |point: &Point| u32::from(point.reference.address()) + u32::from(point.format.width());
    for (point, register) in sorted {
        let same_table = |other: &Point| {
            (other.device, other.unit, other.reference.table()) == (point.device, point.unit, point.reference.table())
        };
        match before {
            Some((other, other_register)) if same_table(other) && end(other) > point.reference.address().into() => {
                let same_place = place(other) == place(point) && end(other) == end(point);
                // One device under two names is another matter, and so are many devices of one group.
                if !same_place && other.target == point.target && told.insert(ptr::from_ref(register)) {
                    report.warnings.push(register.cursor.diagnostic(format!(
                        "found {} ({}), which shares registers with {} ({}) at {}; one of the two is probably off by one \
                         or of another type",
                        point.key(),
                        point.format,
                        other.key(),
                        other.format,
                        other_register.cursor.place()
                    )));
                }
                // A wide value may reach over several that follow; what ends earlier must not hide it.
                if end(point) > end(other) {
                    before = Some((point, register));
                }
            }
            _ => before = Some((point, register)),
        }
    }
}
