//! Readings → lines: one for each device and instant, with a field for each point, where their tags agree.
//!
//! What is said of a point is escaped once for each point table; the last two tables are kept, because around a reload readings
//! of two tables alternate. Not sendable: a value that is not finite, a field or measurement without a name, a date before
//! 1970 or after what 64 bits of nanoseconds hold.

use std::collections::HashMap;
use std::sync::Arc;

use super::InfluxSettings;
use super::line::{key, measurement, push_value, tag_value};
use crate::outputs::recent::Recent;
use crate::outputs::{Encode, Encoded};
use crate::reading::points::{Point, PointTable};
use crate::reading::{Reading, Timestamp};

/// The last millisecond that a server can store: it counts nanoseconds in 63 bits.
const LAST: u64 = 9_223_372_036_854;

/// Makes lines.
#[derive(Debug)]
pub struct InfluxEncode {
    settings: InfluxSettings,
    tables: Recent<Table>,
}

/// What the points of a table are in lines.
#[derive(Debug)]
struct Table {
    /// Measurement and tags, each once.
    series: Vec<String>,
    /// Of each point its place in `series` and its field; `None` if it cannot be said.
    points: Vec<Option<(usize, String)>>,
}

impl InfluxEncode {
    /// By these settings.
    #[must_use]
    pub fn new(settings: InfluxSettings) -> Self {
        Self { settings, tables: Recent::default() }
    }
}

impl Encode for InfluxEncode {
    fn encode(&mut self, table: &Arc<PointTable>, readings: &[Reading], room: usize, _: Timestamp) -> Encoded {
        let Table { series, points } = self.tables.of(table, || Table::new(table, &self.settings));
        // Lines in order of their first reading; of each its series, its instant and its fields.
        let mut lines: Vec<(usize, u64, String)> = Vec::new();
        let mut places: HashMap<(usize, u64), usize> = HashMap::new();
        let (mut taken, mut sent, mut bytes) = (0, 0, 0);
        for Reading { point, at, value } in readings {
            taken += 1;
            let at = at.as_millis();
            let Some((of, field)) = points.get(point.index()).and_then(Option::as_ref).filter(|_| at <= LAST) else {
                continue;
            };
            let mut text = format!("{field}=");
            if !push_value(&mut text, *value, self.settings.integers) {
                continue;
            }
            sent += 1;
            if let Some((_, _, fields)) = places.get(&(*of, at)).and_then(|&place| lines.get_mut(place)) {
                bytes += 1 + text.len();
                fields.push(',');
                fields.push_str(&text);
            } else {
                bytes += series.get(*of).map_or(0, String::len) + text.len() + 16;
                places.insert((*of, at), lines.len());
                lines.push((*of, at, text));
            }
            if bytes + bytes / sent > room {
                break;
            }
        }
        let mut body = String::with_capacity(bytes);
        for (of, at, fields) in &lines {
            for part in
                [series.get(*of).map_or("", String::as_str), " ", fields, " ", itoa::Buffer::new().format(*at), "\n"]
            {
                body.push_str(part);
            }
        }
        Encoded { body: (sent > 0).then(|| body.into()), taken, not_sendable: taken - sent, stamp: None }
    }

    fn extension(&self) -> &'static str {
        "lp"
    }
}

impl Table {
    fn new(table: &PointTable, settings: &InfluxSettings) -> Self {
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut all = Vec::new();
        let points = table.iter().map(|point| {
            let (series, field) = names(&point, settings)?;
            let place = *known.entry(series).or_insert_with_key(|series| {
                all.push(series.clone());
                all.len() - 1
            });
            Some((place, field))
        });
        let points = points.collect();
        Self { points, series: all }
    }
}

/// Measurement and tags, and the field; `None` when one of them is without a name.
fn names(point: &Point<'_>, settings: &InfluxSettings) -> Option<(String, String)> {
    let name = measurement(&settings.measurement.fill(point, str::to_owned));
    let field = key(&settings.field.fill(point, str::to_owned));
    let mut tags: Vec<(String, String)> = point.tags().map(|(tag, value)| (key(tag), tag_value(value))).collect();
    // What the output is told comes first in rank.
    for (tag, value) in &settings.tags {
        let tag = key(tag);
        tags.retain(|(known, _)| *known != tag);
        tags.push((tag, tag_value(&value.fill(point, str::to_owned))));
    }
    tags.retain(|(tag, value)| !tag.is_empty() && !value.is_empty());
    // Sorted, as the servers like it best; two keys may have become one.
    tags.sort();
    tags.dedup_by(|second, first| second.0 == first.0);
    let series = tags.iter().fold(name.clone(), |series, (tag, value)| format!("{series},{tag}={value}"));
    (!name.is_empty() && !field.is_empty()).then_some((series, field))
}

/// What no two points may have in common: measurement, tags and field. `None` when the measurement or the field is empty.
#[must_use]
pub fn name_of(point: &Point<'_>, settings: &InfluxSettings) -> Option<String> {
    names(point, settings).map(|(series, field)| format!("{series} {field}"))
}

#[cfg(test)]
mod tests;
