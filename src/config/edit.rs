//! A configuration file about to be written: what stands in it already stays, keys are set in its sections.
//! Comments of the old file do not survive; whoever writes keeps the old file beside the new one.

use std::path::Path;

use serde_yaml::{Mapping, Value};

use super::diagnostic::Diagnostic;
use super::yaml::source::{self, Source};

/// Sections of keys and values, all else carried along.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit(Mapping);

impl Edit {
    /// What stands in a file.
    ///
    /// # Errors
    /// When the agent would not read it, it is no mapping, or has a key twice: which of the two is meant is not for a
    /// program to say that writes the file anew.
    pub fn parse(text: &str) -> Result<Self, String> {
        // Whatever would keep the parser busy for minutes is refused by the one that knows how.
        Source::of_text(Path::new(""), text.to_owned()).map_err(|fault| fault.message)?;
        serde_yaml::from_str(text).map(Self).map_err(|error| error.to_string())
    }

    /// Whether the section is there, whatever is in it.
    #[must_use]
    pub fn has(&self, section: &str) -> bool {
        self.0.contains_key(section)
    }

    /// The value of a key as a person would type it.
    #[must_use]
    pub fn get(&self, section: &str, key: &str) -> Option<String> {
        match self.0.get(section)?.get(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Sets a key; a whole number stays one.
    pub fn set(&mut self, section: &str, key: &str, value: &str) {
        let value = value.parse::<u64>().map_or_else(|_| Value::from(value), Value::from);
        let section = self.0.entry(Value::from(section)).or_insert_with(|| Value::from(Mapping::new()));
        if !section.is_mapping() {
            *section = Value::from(Mapping::new());
        }
        if let Some(section) = section.as_mapping_mut() {
            section.insert(Value::from(key), value);
        }
    }

    /// The file.
    #[must_use]
    pub fn render(&self) -> String {
        serde_yaml::to_string(&self.0).unwrap_or_default()
    }
}

/// The text of a configuration file that is safe to read, or `None` when there is none.
///
/// # Errors
/// When something is there that cannot be read as such.
pub fn read(path: &Path) -> Result<Option<String>, Diagnostic> {
    source::read(path)?.map(|bytes| source::text(path, bytes)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_stays() {
        let mut draft = Edit::parse("pattoo: {log_level: debug}\npattoo_web_api: {ip_bind_port: 20202}\n").unwrap();
        assert_eq!(draft.get("pattoo", "log_level").as_deref(), Some("debug"));
        draft.set("pattoo", "log_level", "info");
        draft.set("pattoo_agent_api", "ip_bind_port", "20201");
        let expected = "pattoo:\n  log_level: info\npattoo_web_api:\n  ip_bind_port: 20202\npattoo_agent_api:\n  ip_bind_port: 20201\n";
        assert_eq!(draft.render(), expected);
        assert!(draft.has("pattoo_web_api") && !draft.has("polling"));
    }

    #[test]
    fn what_cannot_be_written_anew_is_refused_with_the_reason() {
        let cases = [("- a list", "expected a YAML mapping"), ("a: 1\nb: 1\na: 2\n", "\"a\""), ("a: [", "not YAML")];
        for (text, why) in cases {
            let error = Edit::parse(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
