//! Topics of points. Pure.
//!
//! A topic is levels between slashes. What stands in a place of the template is part of one level: `/`, the wildcards `+` and
//! `#`, control characters and what is no character (MQTT 5, 1.5.4) become `_`, and so does a level with nothing in it. `$` begins
//! topics of the broker's own (4.7.2).

use thiserror::Error;

use crate::outputs::template::Template;
use crate::reading::points::{Device, Kind, Point, Register};

/// The longest topic that a packet can hold.
const MOST_BYTES: usize = 65_535;

/// The first level where a template begins with a place.
const NO_PREFIX: &str = "pattoo";

/// Why a text is no topic.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoTopic {
    /// With a character that none may have.
    #[error("a topic has no {0:?} in it")]
    Character(char),
    /// With nothing between two slashes, or before or after all.
    #[error("it has a level without a name")]
    EmptyLevel,
    /// One of the broker's own.
    #[error("topics that begin with $ are the broker's own")]
    Dollar,
    /// Too long.
    #[error("a topic has at most {MOST_BYTES} bytes")]
    Length,
}

/// Whether a topic may have this character.
#[must_use]
pub fn is_fit(character: char) -> bool {
    let is_no_character = u32::from(character) & 0xFFFE == 0xFFFE || ('\u{fdd0}'..='\u{fdef}').contains(&character);
    !character.is_control() && !is_no_character && !['+', '#'].contains(&character)
}

/// Whether `text` is a topic to publish to.
///
/// # Errors
/// When it is none, or not a good one.
pub fn check(text: &str) -> Result<(), NoTopic> {
    if let Some(character) = text.chars().find(|&character| !is_fit(character)) {
        return Err(NoTopic::Character(character));
    }
    if text.split('/').any(str::is_empty) {
        return Err(NoTopic::EmptyLevel);
    }
    if text.starts_with('$') {
        return Err(NoTopic::Dollar);
    }
    if text.len() > MOST_BYTES { Err(NoTopic::Length) } else { Ok(()) }
}

/// A text as a part of one level.
pub fn clean(text: &str) -> String {
    text.chars().map(|character| if is_fit(character) && character != '/' { character } else { '_' }).collect()
}

/// The topic of a point; `None` if it is too long.
pub fn topic(template: &Template, point: &Point<'_>) -> Option<String> {
    let filled = template.fill(point, clean);
    let levels: Vec<_> = filled.split('/').map(|level| if level.is_empty() { "_" } else { level }).collect();
    let topic = levels.join("/");
    let topic = topic.strip_prefix('$').map_or(topic.clone(), |rest| format!("_{rest}"));
    (topic.len() <= MOST_BYTES).then_some(topic)
}

/// Whether what stands around the places of `template` makes topics.
///
/// # Errors
/// When it does not.
pub fn check_template(template: &Template) -> Result<(), NoTopic> {
    check(&literal(template, "x"))
}

/// The levels before the first place.
pub fn prefix(template: &Template) -> String {
    // No topic has such a character, and a place is never empty for it.
    let marked = literal(template, "\0");
    let before = marked.split('\0').next().unwrap_or_default();
    let whole =
        if before.len() == marked.len() { Some(before) } else { before.rsplit_once('/').map(|(whole, _)| whole) };
    whole.filter(|whole| !whole.is_empty()).unwrap_or(NO_PREFIX).to_owned()
}

/// The template with `place` in each of its places.
fn literal(template: &Template, place: &str) -> String {
    let device = Device::new("", 0, "", 0);
    let register = Register::new("", "", 0, Kind::Integer);
    template.fill(&Point { device: &device, register: &register }, |_| place.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_no_topic_are_told_why() {
        for (text, error) in [
            ("", NoTopic::EmptyLevel),
            ("/a", NoTopic::EmptyLevel),
            ("a//b", NoTopic::EmptyLevel),
            ("a/", NoTopic::EmptyLevel),
            ("a/+/b", NoTopic::Character('+')),
            ("a/#", NoTopic::Character('#')),
            ("a\0", NoTopic::Character('\0')),
            ("a\u{85}", NoTopic::Character('\u{85}')),
            ("a\u{fffe}", NoTopic::Character('\u{fffe}')),
            ("a\u{1ffff}", NoTopic::Character('\u{1ffff}')),
            ("a\u{fdd0}", NoTopic::Character('\u{fdd0}')),
            ("$SYS/a", NoTopic::Dollar),
            (&"a".repeat(65_536), NoTopic::Length),
        ] {
            assert_eq!(check(text), Err(error), "{text:?}");
        }
        for text in ["a", "a/b c/ä", "a/$b", &"a".repeat(65_535)] {
            assert_eq!(check(text), Ok(()));
        }
    }

    #[test]
    fn a_template_is_judged_by_what_stands_around_its_places() {
        for (text, fits) in
            [("a/{name}", true), ("{tags.a/b}/{name}", true), ("a/{name}/", false), ("+/{name}", false), ("", false)]
        {
            assert_eq!(check_template(&text.parse().unwrap()).is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn what_stands_in_a_place_stays_in_its_level() {
        let device = Device { name: Some("$a/b+#\0\u{fffe}".to_owned()), ..Device::new("", 1, "", 0) };
        let register = Register::new("k", "t", 1, Kind::Integer);
        let point = Point { device: &device, register: &register };
        for (template, filled) in [
            ("{device}", "_a_b____"),
            ("x/{device}", "x/$a_b____"),
            ("x/{group}/{tags.none}/{key}", "x/_/_/k"),
            ("{group}", "_"),
        ] {
            assert_eq!(topic(&template.parse().unwrap(), &point).as_deref(), Some(filled));
        }
    }
}
