//! `outputs`: where readings go. Without it, one output: pattoo.
//!
//! An entry is a type, or a mapping with a type and what that type needs. An output is known by its name: its cursor in
//! the log of readings has it, so two outputs of one name are a fault, and another name is another output. What all types
//! take is read here; what one type takes, in the file of its name. A new type is a row in `TYPES`, a variant of
//! [`OutputKind`] and such a file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::configuration::Config;
use super::diagnostic::Diagnostic;
use super::point_table;
use super::value::{LONGEST_DURATION, duration_within};
use super::yaml::cursor::{Cursor, Entry, Report};
use super::yaml::node::Node;
use crate::outputs::Start;
use crate::outputs::delivery::MAX_BACKOFF;
use crate::outputs::file::FileSettings;
use crate::outputs::influxdb::InfluxSettings;
use crate::outputs::mqtt::MqttSettings;
use crate::outputs::network::Network;
use crate::outputs::otlp::OtlpSettings;
use crate::outputs::prometheus::PrometheusSettings;
use crate::outputs::sqlite::SqliteSettings;
use crate::outputs::template::{Unfit, unfit};
use crate::shard::Shard;
use crate::text::table::TextTable;

mod file;
mod influxdb;
mod mqtt;
pub mod network;
mod otlp;
mod prometheus;
mod sqlite;

/// The default of `split_refused_after`.
pub const SPLIT_REFUSED_AFTER: Duration = Duration::from_secs(3_600);

/// No longer name fits everywhere that a name goes: the file of cursors, metrics, file names.
const MAX_NAME_BYTES: usize = 64;

/// A type of output.
struct Type {
    /// As it is configured.
    name: &'static str,
    /// What it takes besides [`KEYS`].
    keys: &'static [&'static [&'static str]],
    /// Reads what it takes from the entries of an output, which are none where only the type is given.
    read: for<'a> fn(&Cursor<'a>, &[Entry<'a>], &mut Report) -> Option<OutputKind>,
}

/// The types that there are.
const TYPES: [Type; 7] = [
    Type { name: "pattoo", keys: &[], read: |_, _, _| Some(OutputKind::Pattoo) },
    Type {
        name: "file",
        keys: &[file::KEYS],
        read: |item, entries, report| file::read(item, entries, report).map(OutputKind::File),
    },
    Type {
        name: "sqlite",
        keys: &[sqlite::KEYS],
        read: |_, entries, report| sqlite::read(entries, report).map(OutputKind::Sqlite),
    },
    Type {
        name: "influxdb",
        keys: &[&network::KEYS, influxdb::KEYS],
        read: |item, entries, report| influxdb::read(item, entries, report).map(Box::new).map(OutputKind::Influx),
    },
    Type {
        name: "mqtt",
        keys: &[&network::STREAM_KEYS, mqtt::KEYS],
        read: |item, entries, report| mqtt::read(item, entries, report).map(Box::new).map(OutputKind::Mqtt),
    },
    Type {
        name: "prometheus",
        keys: &[&network::KEYS, prometheus::KEYS],
        read: |item, entries, report| prometheus::read(item, entries, report).map(Box::new).map(OutputKind::Prometheus),
    },
    Type {
        name: "otlp",
        keys: &[&network::KEYS, otlp::KEYS],
        read: |item, entries, report| otlp::read(item, entries, report).map(Box::new).map(OutputKind::Otlp),
    },
];

/// What every type takes.
const KEYS: [&str; 6] = ["type", "name", "start", "split_refused_after", "max_backoff", "max_age"];

/// Each type and every key that it takes.
pub fn keys_by_type() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    TYPES.iter().map(|of| (of.name, keys_of(Some(of))))
}

/// The keys of a type, or those that all have.
fn keys_of(of: Option<&Type>) -> Vec<&'static str> {
    KEYS.iter().chain(of.map_or(&[][..], |of| of.keys).iter().copied().flatten()).copied().collect()
}

/// One entry of `outputs`.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputConfig {
    /// Its name; the type where none is given.
    pub name: String,
    /// What kind of server.
    pub kind: OutputKind,
    /// Where it begins when it is new.
    pub start: Start,
    /// How long its oldest post may be refused before it is taken apart to find out why.
    pub split_refused_after: Duration,
    /// How long its server is left alone at most after posts that failed, unless it asks for more.
    pub max_backoff: Duration,
    /// It lets go of readings that are older; `None`: of none.
    pub max_age: Option<Duration>,
}

/// The kinds of servers, with their settings.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputKind {
    /// The pattoo server of `pattoo_agent_api`.
    Pattoo,
    /// Files.
    File(FileSettings),
    /// A database on this machine.
    Sqlite(SqliteSettings),
    /// A database that takes the line protocol.
    Influx(Box<InfluxSettings>),
    /// A broker.
    Mqtt(Box<MqttSettings>),
    /// A server that takes remote write.
    Prometheus(Box<PrometheusSettings>),
    /// A server that takes metrics by OTLP.
    Otlp(Box<OtlpSettings>),
}

impl OutputKind {
    /// As it is configured.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pattoo => "pattoo",
            Self::File(_) => "file",
            Self::Sqlite(_) => "sqlite",
            Self::Influx(_) => "influxdb",
            Self::Mqtt(_) => "mqtt",
            Self::Prometheus(_) => "prometheus",
            Self::Otlp(_) => "otlp",
        }
    }

    /// The file on this machine that it alone may write, if its server is one.
    fn path(&self) -> Option<&Path> {
        match self {
            Self::File(settings) => Some(&settings.path),
            Self::Sqlite(settings) => Some(&settings.path),
            _ => None,
        }
    }

    /// Where its server is, if it has one of its own.
    fn network(&self) -> Option<&Network> {
        match self {
            Self::Pattoo | Self::File(_) | Self::Sqlite(_) => None,
            Self::Influx(settings) => Some(&settings.network),
            Self::Mqtt(settings) => Some(&settings.network),
            Self::Prometheus(settings) => Some(&settings.network),
            Self::Otlp(settings) => Some(&settings.network),
        }
    }

    /// Whether its server is another machine, or might be: then a post that nobody waits for any more harms no other one.
    #[must_use]
    pub fn is_over_a_network(&self) -> bool {
        self.network().is_some()
    }

    fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::File(settings) => Some(&mut settings.path),
            Self::Sqlite(settings) => Some(&mut settings.path),
            _ => None,
        }
    }
}

impl Default for OutputConfig {
    /// The pattoo server.
    fn default() -> Self {
        Self {
            name: "pattoo".to_owned(),
            kind: OutputKind::Pattoo,
            start: Start::End,
            split_refused_after: SPLIT_REFUSED_AFTER,
            max_backoff: MAX_BACKOFF,
            max_age: None,
        }
    }
}

impl OutputConfig {
    /// Where its posts go, for people.
    #[must_use]
    pub fn target(&self, config: &Config) -> String {
        match (self.kind.network(), self.kind.path(), config.server_network.as_deref()) {
            (Some(network), ..) | (None, None, Some(network)) => network.url.clone(),
            (None, Some(path), _) => path.display().to_string(),
            (None, None, None) => format!("{} port {}", config.server_host, config.server_port),
        }
    }

    /// What is set, key by key, as it is written in the file.
    #[must_use]
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        let start = match self.start {
            Start::End => "end",
            Start::Beginning => "beginning",
        };
        let mut shown = vec![
            ("type", self.kind.as_str().to_owned()),
            ("start", start.to_owned()),
            ("split_refused_after", humantime::format_duration(self.split_refused_after).to_string()),
            ("max_backoff", humantime::format_duration(self.max_backoff).to_string()),
        ];
        if let Some(max_age) = self.max_age {
            shown.push(("max_age", humantime::format_duration(max_age).to_string()));
        }
        match &self.kind {
            OutputKind::Pattoo => {}
            OutputKind::File(settings) => shown.extend(file::shown(settings)),
            OutputKind::Sqlite(settings) => shown.extend(sqlite::shown(settings)),
            OutputKind::Influx(settings) => shown.extend(influxdb::shown(settings)),
            OutputKind::Mqtt(settings) => shown.extend(mqtt::shown(settings)),
            OutputKind::Prometheus(settings) => shown.extend(prometheus::shown(settings)),
            OutputKind::Otlp(settings) => shown.extend(otlp::shown(settings)),
        }
        shown
    }

    /// This output once `new` has been taken over without a restart.
    ///
    /// What a type takes that writes files waits for one: a post that nobody waits for any more may still be on its way to the
    /// file, and two that append to one file cut off each other's lines.
    #[must_use]
    pub fn taken_over_by(&self, new: &Config) -> Self {
        // One that is taken out goes on until the restart that ends it.
        let Some(same) = new.outputs.iter().find(|output| output.name == self.name) else { return self.clone() };
        let kind = if self.is_same_server_type(same) { &same.kind } else { &self.kind };
        // `start` is for an output that is new; this one has a cursor.
        Self { kind: kind.clone(), start: self.start, ..same.clone() }
    }

    /// Whether `new` may take the place of this output at once.
    #[must_use]
    pub fn is_same_server_type(&self, new: &Self) -> bool {
        self.kind.is_over_a_network() && self.kind.as_str() == new.kind.as_str()
    }

    /// This output for `shard`: two agents never write to one file, nor come to a broker as the same client.
    #[must_use]
    pub fn of_shard(mut self, shard: Shard) -> Self {
        if let OutputKind::Mqtt(settings) = &mut self.kind {
            settings.shard = shard;
        }
        if let Some(path) = self.kind.path_mut()
            && !shard.suffix().is_empty()
        {
            let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
            // Before the extension, by which people and programs know what is in the file.
            let mut name = format!("{}_{}", text(path.file_stem()), shard.suffix());
            if let Some(extension) = path.extension() {
                name = format!("{name}.{}", text(Some(extension)));
            }
            path.set_file_name(name);
        }
        self
    }
}

/// Why an output could not write a point of `config`, or not tell two apart: a fault for each such output, with the points.
#[must_use]
pub fn faults_of_points(config: &Config) -> Vec<String> {
    let named: Vec<_> = config.outputs.iter().filter(|output| output.kind.is_over_a_network()).collect();
    // What is left writes points by their keys, which differ: only templates can give two points one name.
    if named.is_empty() {
        return Vec::new();
    }
    let table = point_table::nameless(config);
    let point = |place: usize| {
        config
            .points
            .get(place)
            .map_or_else(String::new, |point| format!("{} of {} unit {}", point.called(), point.target, point.unit))
    };
    // A fault here, because no server says it: of two points under one name it would keep the last one.
    let told = named.iter().filter_map(|output| {
        let (unfit, why_nameless) = match &output.kind {
            OutputKind::Influx(settings) => (
                unfit(&table, |point| crate::outputs::influxdb::encode::name_of(point, settings)),
                "its measurement or its field is empty",
            ),
            OutputKind::Mqtt(settings) => {
                (unfit(&table, |point| crate::outputs::mqtt::encode::name_of(point, settings)), "its topic is too long")
            }
            OutputKind::Prometheus(settings) => (
                unfit(&table, |point| crate::outputs::prometheus::series::name_of(point, settings)),
                "nothing of its name fits into that of a metric (letters without accents, digits and _)",
            ),
            OutputKind::Otlp(settings) => (
                unfit(&table, |point| crate::outputs::otlp::series::name_of(point, settings)),
                "its metric has no name that begins with a letter, of 255 bytes at most",
            ),
            OutputKind::Pattoo | OutputKind::File(_) | OutputKind::Sqlite(_) => return None,
        };
        let what = match unfit? {
            Unfit::Nameless(first) => {
                let first = point(first);
                format!("no value of {first} could be written, because {why_nameless}; give it another name")
            }
            Unfit::Clash(first, second, what) => format!(
                "{} and {} would both be {what}, so that one value takes the place of the other; give them names of their \
                 own, or the output a template that tells them apart",
                point(first),
                point(second)
            ),
        };
        Some(format!("outputs: {}: {what}", output.name))
    });
    told.collect()
}

/// Every setting of every output, for people.
#[must_use]
pub fn table(outputs: &[OutputConfig], width: usize) -> String {
    let mut table = TextTable::new(&["output", "setting", "value"]);
    for output in outputs {
        for (key, value) in output.shown() {
            table.push([output.name.clone(), key.to_owned(), value]);
        }
    }
    table.within(width)
}

/// `split_refused_after`, at the top or of one output.
pub fn split_refused_after(value: &Cursor<'_>, report: &mut Report) -> Option<Duration> {
    duration_within(value, Duration::from_secs(1)..=LONGEST_DURATION, "a duration such as 1h, from 1s", report)
}

fn max_backoff(value: &Cursor<'_>, report: &mut Report) -> Option<Duration> {
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(3_600));
    duration_within(value, least..=most, "a duration such as 10s, from 1s to 1h", report)
}

/// Reads the list. What is wrong is in the report. `split_refused_after` is what holds for an output that does not say it.
pub fn read(cursor: &Cursor<'_>, split_refused_after: Duration, report: &mut Report) -> Vec<OutputConfig> {
    let items = match cursor.items() {
        Some(items) if items.is_empty() => {
            report.faults.push(cursor.unfit("at least one output, such as [pattoo]"));
            return Vec::new();
        }
        Some(items) => items,
        None => {
            report.faults.push(cursor.unfit("a list of outputs, such as [pattoo]"));
            return Vec::new();
        }
    };
    let found: Vec<_> = items.iter().filter_map(|item| Found::read(item, split_refused_after, report)).collect();
    report.faults.extend(clashes(&found));
    found.into_iter().map(|found| found.output).collect()
}

/// An output, and where it says what must be its own.
struct Found<'a> {
    output: OutputConfig,
    /// Where it is named: by its name, else by its type.
    named: Cursor<'a>,
    /// Its type.
    typed: Cursor<'a>,
    /// Its `path`, if it has one.
    path: Option<Cursor<'a>>,
}

/// The same for every spelling of a path, as far as its directory is there.
fn however_spelled(path: &Path) -> PathBuf {
    let directory = path.parent().and_then(|directory| directory.canonicalize().ok());
    directory.zip(path.file_name()).map_or_else(|| path.to_owned(), |(directory, name)| directory.join(name))
}

/// What no two outputs may have in common.
fn clashes(found: &[Found<'_>]) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    let mut names: HashMap<&str, &Cursor<'_>> = HashMap::new();
    let mut paths: HashMap<PathBuf, &Cursor<'_>> = HashMap::new();
    let mut clients: HashMap<(&str, u16, &str), &Cursor<'_>> = HashMap::new();
    let mut pattoo: Option<&Cursor<'_>> = None;
    for Found { output, named, typed, path } in found {
        if output.kind == OutputKind::Pattoo {
            if let Some(first) = pattoo {
                faults.push(typed.diagnostic(format!(
                    "found a second output of type pattoo, the first is at {}; allowed is one, because \
                     pattoo_agent_api names one server",
                    first.place()
                )));
                // Both have the name of their type, as a rule: one fault is enough.
                continue;
            }
            pattoo = Some(typed);
        }
        // The path of one that says none has its place where its type is.
        let place = path.as_ref().unwrap_or(typed);
        if let Some(of) = output.kind.path()
            && let Some(first) = paths.insert(however_spelled(of), place)
        {
            faults.push(place.diagnostic(format!(
                "found {}, the path of the output at {} too; allowed is a file for each output",
                of.display(),
                first.place()
            )));
        }
        if let OutputKind::Mqtt(settings) = &output.kind
            && let (server, Some(client_id)) = (&settings.network.server, &settings.client_id)
            && let Some(first) = clients.insert((&server.host, server.port, client_id), typed)
        {
            faults.push(typed.diagnostic(format!(
                "found the client_id {client_id:?}, which the output at {} has too at the same broker; give each its own, \
                 because a broker ends a connection when another one comes with its client id",
                first.place()
            )));
        }
        if let Some(first) = names.insert(&output.name, named) {
            faults.push(named.diagnostic(format!(
                "found \"{}\", the name of the output at {} too; give one of the two another name",
                output.name,
                first.place()
            )));
        }
    }
    faults
}

impl<'a> Found<'a> {
    fn read(item: &Cursor<'a>, split_refused_after: Duration, report: &mut Report) -> Option<Self> {
        let mut output = OutputConfig { split_refused_after, ..OutputConfig::default() };
        if matches!(*item.node, Node::Text(_)) {
            let Type { name, read, .. } = kind(item, report)?;
            output.kind = read(item, &[], report)?;
            (*name).clone_into(&mut output.name);
            return Some(Self { output, named: item.clone(), typed: item.clone(), path: None });
        }
        let Some(entries) = item.entries(report) else {
            report.faults.push(item.unfit(&format!("a type ({}) or a mapping with a type", type_names().join(", "))));
            return None;
        };
        let of = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
        let Some(typed) = of("type") else {
            report.faults.push(
                item.diagnostic(format!("found an output without type; allowed are {}", type_names().join(", "))),
            );
            return None;
        };
        let kind = kind(typed, report);
        let known = keys_of(kind);
        let mut name = None;
        for entry in &entries {
            let value = &entry.value;
            match entry.key.as_str() {
                "type" => {}
                "name" => name = Some(self::name(value, report)),
                "start" => match &*value.node {
                    Node::Text(text) if text == "end" => output.start = Start::End,
                    Node::Text(text) if text == "beginning" => output.start = Start::Beginning,
                    _ => report.faults.push(value.unfit("end or beginning")),
                },
                "split_refused_after" => {
                    output.split_refused_after =
                        self::split_refused_after(value, report).unwrap_or(split_refused_after);
                }
                "max_backoff" => output.max_backoff = max_backoff(value, report).unwrap_or(MAX_BACKOFF),
                // A database keeps to it by itself, by the newest reading that is in it.
                "max_age" if kind.is_some_and(|kind| kind.name == "sqlite") => {}
                "max_age" => {
                    let allowed = Duration::from_secs(60)..=LONGEST_DURATION;
                    output.max_age = duration_within(value, allowed, "a duration such as 30days, from 1m", report);
                }
                // Of an unknown type nobody knows the keys.
                key if known.contains(&key) || kind.is_none() => {}
                _ => report.faults.push(entry.unknown(&known)),
            }
        }
        // Not before: of an output of an unknown type, too, every other key is judged.
        let kind = kind?;
        output.kind = (kind.read)(item, &entries, report)?;
        output.name = name.unwrap_or_else(|| Some(kind.name.to_owned()))?;
        let named = of("name").unwrap_or(typed).clone();
        Some(Self { output, named, typed: typed.clone(), path: of("path").cloned() })
    }
}

fn type_names() -> [&'static str; TYPES.len()] {
    TYPES.each_ref().map(|kind| kind.name)
}

fn kind(value: &Cursor<'_>, report: &mut Report) -> Option<&'static Type> {
    let names = type_names();
    let Node::Text(text) = &*value.node else {
        report.faults.push(value.unfit(&names.join(", ")));
        return None;
    };
    if let Some(kind) = TYPES.iter().find(|kind| kind.name == text) {
        return Some(kind);
    }
    let hint = match value.meant(text, &names) {
        Some(word) => format!("did you mean \"{word}\"?"),
        None => format!("allowed are {}", names.join(", ")),
    };
    report.faults.push(value.diagnostic(format!("found {}, an unknown type; {hint}", value.node.shown())));
    None
}

fn name(value: &Cursor<'_>, report: &mut Report) -> Option<String> {
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    match &*value.node {
        Node::Text(text) if (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(fit) => Some(text.clone()),
        _ => {
            report.faults.push(value.unfit("a name of letters, digits, _ and -, at most 64 of them"));
            None
        }
    }
}
