//! `outputs`, type `influxdb`: readings as lines of a database over HTTP.

use super::network::{self, HTTP};
use crate::config::value::flag;
use crate::config::yaml::cursor::{Cursor, Entry, Report};
use crate::config::yaml::node::Node;
use crate::outputs::influxdb::{Api, InfluxSettings};
use crate::outputs::template::Template;

/// What it takes besides what all outputs over a network take.
pub const KEYS: &[&str] =
    &["database", "retention_policy", "org", "bucket", "api", "measurement", "field", "tags", "integers", "gzip"];

/// The default of `measurement`.
const MEASUREMENT: &str = "modbus";

/// The default of `field`.
const FIELD: &str = "{name}";

/// The tags of every line, unless `tags` says otherwise.
const TAGS: [(&str, &str); 3] = [("device", "{device}"), ("group", "{group}"), ("unit", "{unit}")];

/// Reads it. What is wrong is in the report.
pub fn read(item: &Cursor<'_>, entries: &[Entry<'_>], report: &mut Report) -> Option<InfluxSettings> {
    let faults = report.faults.len();
    let network = network::read(item, entries, HTTP, report)?;
    let of = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    let api = api(item, &of, report);
    let measurement = template(of("measurement"), MEASUREMENT, report);
    let field = template(of("field"), FIELD, report);
    let tags = templates(of("tags"), &TAGS, "tags, such as {site: plant-7}", |_| None, report);
    // No integers unless wanted: a field that begins as an integer refuses every fraction for as long as its shard
    // lives, and another multiplier is enough for that.
    let (mut integers, mut gzip) = (false, true);
    for (key, of_key) in [("integers", &mut integers), ("gzip", &mut gzip)] {
        if let Some(value) = of(key) {
            flag(of_key, value, report);
        }
    }
    if report.faults.len() > faults {
        return None;
    }
    Some(InfluxSettings { network, api: api?, measurement: measurement?, field: field?, tags, integers, gzip })
}

/// What is set, key by key, as it is written in the file.
#[must_use]
pub fn shown(settings: &InfluxSettings) -> Vec<(&'static str, String)> {
    let InfluxSettings { network, api, measurement, field, tags, integers, gzip } = settings;
    let mut shown = network::shown(network);
    match api {
        Api::V1 { database, retention_policy } => {
            shown.extend([("api", "v1".to_owned()), ("database", database.clone())]);
            shown.extend(retention_policy.clone().map(|policy| ("retention_policy", policy)));
        }
        Api::V2 { org, bucket } => {
            shown.push(("api", "v2".to_owned()));
            shown.extend(org.clone().map(|org| ("org", org)));
            shown.push(("bucket", bucket.clone()));
        }
        Api::V3 { database } => shown.extend([("api", "v3".to_owned()), ("database", database.clone())]),
    }
    let tags: Vec<_> = tags.iter().map(|(tag, value)| format!("{tag}={value}")).collect();
    shown.extend([("measurement", measurement.to_string()), ("field", field.to_string()), ("tags", tags.join(", "))]);
    shown.extend([("integers", integers.to_string()), ("gzip", gzip.to_string())]);
    shown
}

/// Which API, by the key `api`, else by what is named: a bucket is of version 2, a database of version 1.
fn api<'v, 'a: 'v>(
    item: &Cursor<'_>,
    of: &impl Fn(&str) -> Option<&'v Cursor<'a>>,
    report: &mut Report,
) -> Option<Api> {
    let said = of("api").map(|value| match &*value.node {
        Node::Text(text) if ["v1", "v2", "v3"].contains(&&**text) => Some(text.clone()),
        _ => {
            report.faults.push(value.unfit("v1, v2 or v3"));
            None
        }
    });
    let version = match said {
        Some(version) => version?,
        // Version 3 takes a database as version 1 does, so that only `api` can say it.
        None if of("bucket").is_some() => "v2".to_owned(),
        None => "v1".to_owned(),
    };
    let (needed, taken): (&str, &[&str]) = match &*version {
        "v2" => ("bucket", &["bucket", "org"]),
        "v3" => ("database", &["database"]),
        _ => ("database", &["database", "retention_policy"]),
    };
    let mut text = |key: &str| of(key).map(|value| network::line(value, "a name", report));
    // All four, whichever version it is: what is wrong with a name is told even where the name is not wanted.
    let values = [text("database"), text("retention_policy"), text("org"), text("bucket")];
    for (key, value) in
        ["database", "retention_policy", "org", "bucket"].into_iter().filter_map(|key| Some((key, of(key)?)))
    {
        if !taken.contains(&key) {
            report.faults.push(value.diagnostic(format!("found {key}, which api {version} does not have")));
        }
    }
    let [database, retention_policy, org, bucket] = values;
    if of(needed).is_none() {
        let message = "found an output of type influxdb that does not say where in the server; write database (version 1), \
                       or org and bucket (version 2), or database and api: v3";
        report.faults.push(item.diagnostic(message));
        return None;
    }
    Some(match &*version {
        "v2" => Api::V2 { org: org.flatten(), bucket: bucket.flatten()? },
        "v3" => Api::V3 { database: database.flatten()? },
        _ => Api::V1 { database: database.flatten()?, retention_policy: retention_policy.flatten() },
    })
}

/// A text with places.
pub fn template(value: Option<&Cursor<'_>>, default: &str, report: &mut Report) -> Option<Template> {
    let Some(value) = value else { return default.parse().ok() };
    let text = match (value.written(), &*value.node) {
        (Some(text), _) => text.to_owned(),
        (None, Node::Integer(number)) => number.to_string(),
        (None, Node::Bool(flag)) => flag.to_string(),
        (None, _) => {
            report.faults.push(value.unfit("a text, such as \"{device}\""));
            return None;
        }
    };
    let found = value.node.shown();
    text.parse().map_err(|error| report.faults.push(value.diagnostic(format!("found {found}: {error}")))).ok()
}

/// Texts with places, by name: those of `defaults`, and over them what the value says. `name` says of one that is none what is
/// allowed.
pub fn templates(
    value: Option<&Cursor<'_>>,
    defaults: &[(&str, &str)],
    allowed: &str,
    name: fn(&str) -> Option<&'static str>,
    report: &mut Report,
) -> Vec<(String, Template)> {
    let default = |(name, text): &(&str, &str)| Some(((*name).to_owned(), text.parse().ok()?));
    let mut templates: Vec<_> = defaults.iter().filter_map(default).collect();
    for entry in value.map_or_else(Vec::new, |value| value.entries_of(allowed, report)) {
        if let Some(allowed) = name(&entry.key) {
            report.faults.push(entry.key_cursor.diagnostic(format!("found {:?}; allowed is {allowed}", entry.key)));
        }
        let value = template(Some(&entry.value), "", report);
        // A default gives way, even to a template that is wrong, and then there is a fault.
        templates.retain(|(name, _)| *name != entry.key);
        templates.extend(value.map(|value| (entry.key, value)));
    }
    templates
}
