//! A text with places for what a point is: `plant/{group}/{device}/{name}`. Pure.
//!
//! Parsed once, filled in for each point. A place that a point has nothing for is empty.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::str::FromStr;

use thiserror::Error;

use crate::reading::PointId;
use crate::reading::points::{Point, PointTable};

/// What a place may be filled with.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
    Tag(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Address,
    Device,
    Group,
    Key,
    Name,
    Number,
    Table,
    Unit,
}

/// The names of the places, in order.
const FIELDS: [(&str, Field); 8] = [
    ("address", Field::Address),
    ("device", Field::Device),
    ("group", Field::Group),
    ("key", Field::Key),
    ("name", Field::Name),
    ("number", Field::Number),
    ("table", Field::Table),
    ("unit", Field::Unit),
];

/// What `FIELDS` says, for people.
pub const PLACES: &str =
    "{address}, {device}, {group}, {key}, {name}, {number}, {table}, {unit} and {tags.x} for a tag x";

/// A text with places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// Why a text is no template.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NoTemplate {
    /// A brace that is not closed, or one that closes nothing.
    #[error("it has a brace without its other one")]
    Brace,
    /// A place that nothing is known for.
    #[error("there is no {{{0}}}; there are {PLACES}")]
    Unknown(String),
}

impl FromStr for Template {
    type Err = NoTemplate;

    fn from_str(text: &str) -> Result<Self, NoTemplate> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let (name, after) =
                brace.strip_prefix('{').and_then(|inner| inner.split_once('}')).ok_or(NoTemplate::Brace)?;
            parts.push(match (name.strip_prefix("tags."), FIELDS.iter().find(|(known, _)| *known == name)) {
                (Some(tag), _) if !tag.is_empty() => Part::Tag(tag.to_owned()),
                (_, Some((_, field))) => Part::Field(*field),
                _ => return Err(NoTemplate::Unknown(name.to_owned())),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }
}

impl Template {
    /// The text for `point`; what stands in a place goes through `clean` first.
    #[must_use]
    pub fn fill(&self, point: &Point<'_>, clean: impl Fn(&str) -> String) -> String {
        let filled = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Tag(tag) => clean(point.tags().find(|(key, _)| key == tag).map_or("", |(_, value)| value)),
            Part::Field(field) => clean(&match field {
                Field::Address => point.device.device.clone(),
                Field::Device => point.device_name().to_owned(),
                Field::Group => point.device.group.clone(),
                Field::Key => point.register.key.clone(),
                Field::Name => point.name().to_owned(),
                Field::Number => point.register.number.to_string(),
                Field::Table => point.register.table.clone(),
                Field::Unit => point.device.unit.to_string(),
            }),
        });
        filled.collect()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Tag(tag) => write!(f, "{{tags.{tag}}}"),
            Part::Field(field) => {
                let name = FIELDS.iter().find(|(_, known)| known == field).map_or("", |(name, _)| name);
                write!(f, "{{{name}}}")
            }
        })
    }
}

/// Why an output cannot have the points of a table; points by their places in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// This one has no name there.
    Nameless(usize),
    /// These two have one name, which is this.
    Clash(usize, usize, String),
}

/// The first point that `name` gives no name, else the first two that it gives the same.
pub fn unfit(table: &PointTable, name: impl Fn(&Point<'_>) -> Option<String>) -> Option<Unfit> {
    // Hashes, because a million names take much memory; two names of one hash are compared.
    let hasher = RandomState::new();
    let mut known: HashMap<u64, usize> = HashMap::new();
    let mut clash = None;
    for (place, point) in table.iter().enumerate() {
        let Some(text) = name(&point) else { return Some(Unfit::Nameless(place)) };
        if clash.is_none()
            && let Some(first) = known.insert(hasher.hash_one(&text), place)
        {
            // The name is made again, because it was not kept.
            let other = u32::try_from(first).ok().and_then(|first| table.get(PointId(first)));
            if other.and_then(|other| name(&other)).as_ref() == Some(&text) {
                clash = Some(Unfit::Clash(first, place, text));
            }
        }
    }
    clash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::points::{Device, Kind, Register};

    #[test]
    fn every_place_is_filled_with_what_the_point_has_for_it() {
        let device = Device {
            name: Some("boiler".to_owned()),
            tags: vec![("site".to_owned(), "7".to_owned())],
            ..Device::new("192.0.2.20:502", 3, "heat", 1_000)
        };
        let register = Register {
            name: Some("flow".to_owned()),
            ..Register::new("holding_register_40001", "holding_register", 40_001, Kind::Float)
        };
        let point = Point { device: &device, register: &register };
        for (text, filled) in [
            ("", ""),
            ("plain", "plain"),
            ("{group}/{device}/{name}", "HEAT/BOILER/FLOW"),
            ("{address} {unit} {key}", "192.0.2.20:502 3 HOLDING_REGISTER_40001"),
            ("{table}{number}", "HOLDING_REGISTER40001"),
            ("a{tags.site}b{tags.none}c", "a7bc"),
        ] {
            let template: Template = text.parse().unwrap();
            assert_eq!(template.fill(&point, str::to_uppercase), filled);
            assert_eq!(template.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["{", "}", "a{b", "a}b", "{{name}}", "{a{name}"] {
            assert!(text.parse::<Template>().is_err(), "{text}");
        }
        for text in ["{}", "{nam}", "{tags.}", "{tags}", "{ name }"] {
            assert!(matches!(text.parse::<Template>(), Err(NoTemplate::Unknown(_))), "{text}");
        }
    }
}
