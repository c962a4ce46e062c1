//! Names that every such server and every query takes, and which label comes first in rank. Pure.
//!
//! Of a Prometheus: a metric is `[a-zA-Z_:][a-zA-Z0-9_:]*`, a label `[a-zA-Z_][a-zA-Z0-9_]*`, and not `__` at its beginning, which is the servers'.
//! A run of other characters becomes one `_`. Newer servers take any UTF-8; the older ones drop a series with such a name and
//! answer that all is well. Source: Prometheus, "Data model".

use crate::outputs::template::Template;
use crate::reading::points::Point;

/// The labels of a point, each once and none empty: those that the output is told, then its tags.
pub fn labels(told: &[(String, Template)], point: &Point<'_>, name: impl Fn(&str) -> String) -> Vec<(String, String)> {
    let told = told.iter().map(|(label, value)| (label.as_str(), value.fill(point, str::to_owned)));
    let tags = point.tags().map(|(tag, value)| (tag, value.to_owned()));
    let mut labels: Vec<(String, String)> = Vec::new();
    for (label, value) in told.chain(tags) {
        let name = name(label);
        if !name.is_empty() && !labels.iter().any(|(known, _)| *known == name) {
            labels.push((name, value));
        }
    }
    // Not before: an empty one that the output is told keeps a tag of its name away.
    labels.retain(|(_, value)| !value.is_empty());
    labels
}

/// The name of a metric; empty when nothing is left to name.
pub fn metric(text: &str) -> String {
    fit(text, |character| character.is_ascii_alphanumeric() || "_:".contains(character))
}

/// The name of a label; empty when nothing is left to name.
pub fn label(text: &str) -> String {
    let name = fit(text, |character| character.is_ascii_alphanumeric() || character == '_');
    if name.starts_with("__") { format!("_{}", name.trim_start_matches('_')) } else { name }
}

/// A text with `_` for each run of characters that do not fit, no digit first; empty when nothing is left of it.
pub fn fit(text: &str, fits: impl Fn(char) -> bool) -> String {
    let mut name = String::with_capacity(text.len() + 1);
    let mut replaced = false;
    for character in text.chars() {
        if fits(character) {
            if name.is_empty() && character.is_ascii_digit() {
                name.push('_');
            }
            name.push(character);
            replaced = false;
        } else if !replaced {
            name.push('_');
            replaced = true;
        }
    }
    if name.bytes().all(|byte| byte == b'_') { String::new() } else { name }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_name_becomes_one() {
        for (text, name) in [
            ("", ""),
            ("flow_temperature", "flow_temperature"),
            ("Vorlauf (°C)", "Vorlauf_C_"),
            ("1st", "_1st"),
            ("°C", "_C"),
            ("plant:power:sum", "plant:power:sum"),
            ("_", ""),
            ("温度", ""),
        ] {
            assert_eq!(metric(text), name, "{text}");
        }
        for (text, name) in [("site", "site"), ("a:b", "a_b"), ("__name__", "_name__"), ("___", ""), ("__1", "_1")] {
            assert_eq!(label(text), name, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_one(text in "\\PC{0,12}|[_0-9a:]{0,6}") {
            let first = |it: char| it.is_ascii_alphabetic() || it == '_';
            let name = metric(&text);
            prop_assert!(name.is_empty() || name.starts_with(|it| first(it) || it == ':'));
            prop_assert!(name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_' || it == ':'));
            prop_assert_eq!(metric(&name), name.clone());
            let name = label(&text);
            prop_assert!(name.is_empty() || name.starts_with(first) && !name.starts_with("__"));
            prop_assert!(name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_'));
            prop_assert_eq!(label(&name), name.clone());
        }
    }
}
