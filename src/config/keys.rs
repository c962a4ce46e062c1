//! The keys at the top of `pattoo_agent_modbustcpd.yaml`, each said once: what is allowed, the default, what it does, how it
//! is read and shown, and what a reload does with it.
//!
//! From this table come the parser, the suggestions for unknown keys, `check --settings`, what a reload takes over and
//! what it leaves to a restart, and the table in `docs/configuration.md`. A new key is one row here and one field of [`Config`].

use std::fmt::Write as _;
use std::time::Duration;

use super::agent::Found;
use super::cache;
use super::configuration::Config;
use super::outputs;
use super::shape::Shape;
use super::value::{MAX_TEXT_BYTES, duration_within, flag, interval, originals_interval};
use super::yaml::cursor::{Cursor, Report};
use super::yaml::node::Node;
use crate::logging::Format;
use crate::text::size;
use crate::text::table::TextTable;

/// A key.
pub struct Key {
    /// As it stands in the file.
    pub name: &'static str,
    /// What its value may be.
    pub allowed: &'static str,
    /// What its value looks like, for editors.
    pub shape: Shape,
    /// What holds without it, as it is written in the file, or in brackets in words.
    pub default: &'static str,
    /// What it does.
    pub what: &'static str,
    /// When another value takes effect.
    pub takes_effect: TakesEffect,
    /// Reads it. What is wrong is in the report.
    parse: Parse,
    /// What holds, as it is written in the file; `None` for what has a table of its own.
    pub shown: Option<fn(&Config) -> String>,
}

/// Reads the value of a key.
type Parse = for<'a> fn(&mut Found<'a>, &Cursor<'a>, &mut Report);

/// When another value takes effect.
#[derive(Clone, Copy)]
pub enum TakesEffect {
    /// With a reload.
    AtOnce,
    /// With a restart: at a reload this puts the running value into the next configuration.
    WithRestart(fn(&mut Config, &Config)),
    /// With a reload, which compares what is in it one by one.
    OneByOne,
}

impl TakesEffect {
    /// In a word or two.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::AtOnce | Self::OneByOne => "reload",
            Self::WithRestart(_) => "restart",
        }
    }
}

/// All of them, in the order in which people read about them.
pub const TABLE: [Key; 16] = [
    Key {
        name: "polling_interval",
        allowed: "seconds, or a duration such as 10s, 5m; from 100ms to 49days",
        shape: Shape::Duration,
        default: "5m",
        what: "time between two polls of a point, for groups that say nothing else",
        takes_effect: TakesEffect::AtOnce,
        parse: |found, value, report| {
            let taken = if report.lenient { originals_interval(value, report) } else { None };
            // A value that is wrong has left a fault; the default stays so that what follows can be judged.
            put(&mut found.agent.polling_interval, taken.or_else(|| interval(value, report)));
        },
        shown: Some(|config| duration(config.polling_interval)),
    },
    Key {
        name: "polling_groups",
        allowed: "a list of groups, one at least",
        shape: Shape::List(&Shape::Of("group")),
        default: "(required)",
        what: "which registers of which devices",
        takes_effect: TakesEffect::OneByOne,
        parse: |found, value, _| found.polling_groups = Some(value.clone()),
        shown: None,
    },
    Key {
        name: "device_defaults",
        allowed: "a mapping of settings",
        shape: Shape::Any(&[Shape::Of("device"), Shape::Null]),
        default: "(none)",
        what: "how all devices are treated",
        takes_effect: TakesEffect::OneByOne,
        parse: |found, value, _| found.device_defaults = Some(value.clone()),
        shown: None,
    },
    Key {
        name: "devices",
        allowed: "a mapping of `ip_devices` to settings",
        shape: Shape::Map(&Shape::Any(&[Shape::Of("device"), Shape::Null])),
        default: "(none)",
        what: "how a device is treated",
        takes_effect: TakesEffect::OneByOne,
        parse: |found, value, _| found.devices = Some(value.clone()),
        shown: None,
    },
    Key {
        name: "outputs",
        allowed: "a list of types, or of mappings with a type, one at least",
        shape: Shape::List(&Shape::Of("output")),
        default: "[pattoo]",
        what: "where readings go",
        takes_effect: TakesEffect::WithRestart(|next, running| {
            next.outputs = running.outputs.iter().map(|output| output.taken_over_by(next)).collect();
        }),
        parse: |found, value, _| found.outputs = Some(value.clone()),
        shown: None,
    },
    Key {
        name: "flush_interval",
        allowed: "a duration from 10ms to 60s",
        shape: Shape::Duration,
        default: "1s",
        what: "how long a reading may be on disk without being safe from a power cut",
        takes_effect: TakesEffect::AtOnce,
        parse: |found, value, report| {
            let allowed = Duration::from_millis(10)..=Duration::from_secs(60);
            let interval = duration_within(value, allowed, "a duration such as 1s, from 10ms to 60s", report);
            put(&mut found.agent.flush_interval, interval);
        },
        shown: Some(|config| duration(config.flush_interval)),
    },
    Key {
        name: "cache_min_free",
        allowed: "a share such as 5%, or a size such as 500MB",
        shape: Shape::Any(&[Shape::Bytes, Shape::Pattern("^ *[0-9.]+ *% *$")]),
        default: "5%",
        what: "while less is free on the disk, the oldest readings are dropped for new ones",
        takes_effect: TakesEffect::AtOnce,
        parse: |found, value, report| cache::min_free(value, &mut found.agent.cache_limits, report),
        shown: Some(|config| config.cache_limits.min_free.to_string()),
    },
    Key {
        name: "cache_max_bytes",
        allowed: "a size such as 2GB, from 1MB",
        shape: Shape::Bytes,
        default: "(no limit)",
        what: "with more on disk, the oldest readings are dropped",
        takes_effect: TakesEffect::AtOnce,
        parse: |found, value, report| cache::max_bytes(value, &mut found.agent.cache_limits, report),
        shown: Some(|config| config.cache_limits.max_bytes.map_or_else(|| "(no limit)".to_owned(), size)),
    },
    Key {
        name: "cache_max_age",
        allowed: "a duration such as 30days, from 1m",
        shape: Shape::Duration,
        default: "(no limit)",
        what: "readings that are older are dropped",
        takes_effect: TakesEffect::AtOnce,
        parse: |found, value, report| cache::max_age(value, &mut found.agent.cache_limits, report),
        shown: Some(|config| config.cache_limits.max_age.map_or_else(|| "(no limit)".to_owned(), duration)),
    },
    Key {
        name: "split_refused_after",
        allowed: "a duration such as 1h, from 1s",
        shape: Shape::Duration,
        default: "1h",
        what: "how long a post may be refused before the agent searches for the reading that is the reason",
        takes_effect: TakesEffect::AtOnce,
        parse: |found, value, report| {
            put(&mut found.agent.split_refused_after, outputs::split_refused_after(value, report));
        },
        shown: Some(|config| duration(config.split_refused_after)),
    },
    Key {
        name: "trust_local_clock",
        allowed: "true or false",
        shape: Shape::Flag,
        default: "false",
        what: "whether this machine's clock is believed when the server's says otherwise",
        takes_effect: TakesEffect::AtOnce,
        parse: |found, value, report| flag(&mut found.agent.trust_local_clock, value, report),
        shown: Some(|config| config.trust_local_clock.to_string()),
    },
    Key {
        name: "agent_hostname",
        allowed: "a name of at most 512 bytes",
        shape: Shape::Text,
        default: "(of this machine)",
        what: "the host name that is part of every series; without it, that of this machine when first used",
        takes_effect: TakesEffect::WithRestart(|next, running| next.agent_hostname.clone_from(&running.agent_hostname)),
        parse: |found, value, report| found.agent.hostname = hostname(value, report),
        shown: Some(|config| {
            let unset = || "(of this machine)".to_owned();
            config.agent_hostname.clone().unwrap_or_else(unset)
        }),
    },
    Key {
        name: "status_listen",
        allowed: "an address with a port, such as 127.0.0.1:20204",
        shape: Shape::Pattern(":[0-9]+$"),
        default: "(nowhere)",
        what: "where the status page is served",
        takes_effect: TakesEffect::WithRestart(|next, running| next.status_listen = running.status_listen),
        parse: |found, value, report| {
            found.agent.status_listen = match &*value.node {
                Node::Text(text) => text.trim().parse().ok(),
                _ => None,
            };
            if found.agent.status_listen.is_none() {
                report.faults.push(value.unfit("an address with a port, such as 127.0.0.1:20204 or \"[::1]:20204\""));
            }
        },
        shown: Some(|config| {
            config.status_listen.map_or_else(|| "(nowhere)".to_owned(), |address| address.to_string())
        }),
    },
    Key {
        name: "status_hosts",
        allowed: "a list of host names, without a port",
        shape: Shape::List(&Shape::Text),
        default: "[]",
        what: "names under which the status page may be asked for, besides addresses and `agent_hostname`",
        takes_effect: TakesEffect::WithRestart(|next, running| next.status_hosts.clone_from(&running.status_hosts)),
        parse: |found, value, report| found.agent.status_hosts = hosts(value, report),
        shown: Some(|config| format!("[{}]", config.status_hosts.join(", "))),
    },
    Key {
        name: "readings_in_metrics",
        allowed: "true or false",
        shape: Shape::Flag,
        default: "false",
        what: "whether `/metrics` has the last value of every point",
        takes_effect: TakesEffect::AtOnce,
        parse: |found, value, report| flag(&mut found.agent.readings_in_metrics, value, report),
        shown: Some(|config| config.readings_in_metrics.to_string()),
    },
    Key {
        name: "log_format",
        allowed: "text or json",
        shape: Shape::OneOf(&["text", "json"]),
        default: "text",
        what: "how a line of the log is written",
        takes_effect: TakesEffect::AtOnce,
        parse: |found, value, report| match &*value.node {
            Node::Text(text) if text == "text" => found.agent.log_format = Format::Text,
            Node::Text(text) if text == "json" => found.agent.log_format = Format::Json,
            _ => report.faults.push(value.unfit("text or json")),
        },
        shown: Some(|config| match config.log_format {
            Format::Text => "text".to_owned(),
            Format::Json => "json".to_owned(),
        }),
    },
];

/// The names of all.
pub const NAMES: [&str; TABLE.len()] = names();

const fn names() -> [&'static str; TABLE.len()] {
    let mut names = [""; TABLE.len()];
    let mut place = 0;
    // A constant has no iterators.
    while place < TABLE.len() {
        names[place] = TABLE[place].name;
        place += 1;
    }
    names
}

/// Reads the value of the key `name`; `false` when there is no such key.
pub(super) fn parse<'a>(name: &str, found: &mut Found<'a>, value: &Cursor<'a>, report: &mut Report) -> bool {
    let key = TABLE.iter().find(|key| key.name == name);
    if let Some(key) = key {
        (key.parse)(found, value, report);
    }
    key.is_some()
}

/// Which keys have other values in `new` than in `old`, of those that are compared as a whole.
pub fn differing(old: &Config, new: &Config) -> impl Iterator<Item = &'static Key> {
    // As they are shown: 5m and 300 are one value.
    TABLE.iter().filter(|key| key.shown.is_some_and(|shown| shown(old) != shown(new)))
}

/// Every key that is one value, what holds, and the default, for people.
#[must_use]
pub fn settings(config: &Config, width: usize) -> String {
    let mut table = TextTable::new(&["key", "value", "default"]);
    for key in &TABLE {
        if let Some(shown) = key.shown {
            table.push([key.name, &shown(config), key.default].map(str::to_owned));
        }
    }
    table.within(width)
}

/// The table in `docs/configuration.md`.
#[must_use]
pub fn reference() -> String {
    let mut text = "| key | default | allowed | | takes effect with a |\n|---|---|---|---|---|\n".to_owned();
    for Key { name, allowed, default, what, takes_effect, .. } in &TABLE {
        let default = default.trim_matches(['(', ')']);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{name}` | {default} | {allowed} | {what} | {} |", takes_effect.as_str());
    }
    text
}

fn put<T>(of: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *of = value;
    }
}

fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
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
            // The bounds of a name in the DNS (RFC 1035); an underscore is in use though no host name has one.
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
