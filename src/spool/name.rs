//! The name of a batch on disk: its place in the queue, and how to know that it is whole.
//!
//! Ours is `<ms timestamp>_<agent id>_<crc32c>.json`, the Python agent's `<ms timestamp>_<agent id>.json`.
//! A [`Name`] is what of that is not the same for every file: a few bytes, so that tens of thousands fit
//! into memory. Names are ordered as batches are delivered: by timestamp, Python's before ours.
//! Anything else in the directory is no batch and is refused here.

use std::fmt;

use crate::reading::Timestamp;

/// A batch file of one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    // Fields in the order of the derived `Ord`: by stamp, then `None`, the Python agent's, before `Some`.
    at: Timestamp,
    crc: Option<u32>,
}

impl Name {
    /// The name of a batch of ours with this stamp and this body.
    #[must_use]
    pub fn of(at: Timestamp, body: &[u8]) -> Self {
        Self { at, crc: Some(crc32c::crc32c(body)) }
    }

    /// The stamp that orders it.
    #[must_use]
    pub fn at(self) -> Timestamp {
        self.at
    }

    /// CRC-32C of the content; the Python agent's files have none.
    #[must_use]
    pub fn crc(self) -> Option<u32> {
        self.crc
    }

    /// The same batch of the Python agent under another stamp.
    #[must_use]
    pub(super) fn python(at: Timestamp) -> Self {
        Self { at, crc: None }
    }

    /// The file name, for the agent with this id.
    #[must_use]
    pub fn file_name(self, agent_id: &str) -> String {
        match self.crc {
            Some(crc) => format!("{}_{agent_id}_{crc:08x}.json", self.at),
            None => format!("{}_{agent_id}.json", self.at),
        }
    }

    /// The batch with this file name, or `None` when it is not one of the agent with this id.
    #[must_use]
    pub fn parse(file_name: &[u8], agent_id: &str) -> Option<Self> {
        let stem = std::str::from_utf8(file_name).ok()?.strip_suffix(".json")?;
        let (at, rest) = stem.split_once('_')?;
        let rest = rest.strip_prefix(agent_id)?;
        let crc = match rest.strip_prefix('_') {
            Some(crc) => Some(hex8(crc)?),
            None if rest.is_empty() => None,
            None => return None,
        };
        Some(Self { at: Timestamp::from_millis(decimal(at)?), crc })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.crc {
            Some(crc) => write!(f, "{}_…_{crc:08x}.json", self.at),
            None => write!(f, "{}_….json", self.at),
        }
    }
}

/// Digits only, no sign, no leading zero: one text for each number, so that a name read is the name written.
fn decimal(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| canonical)
}

fn hex8(text: &str) -> Option<u32> {
    let canonical = text.len() == 8 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    u32::from_str_radix(text, 16).ok().filter(|_| canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4cdcccc044dedbd932ee13e96766dd477f9f5b460a7a742e154647028461de04";

    #[test]
    fn only_the_two_forms_of_this_agent_are_batches() {
        let ours = format!("1700000000123_{ID}_00c0ffee.json");
        let python = format!("1700000000123_{ID}.json");
        for known in [&ours, &python] {
            let name = Name::parse(known.as_bytes(), ID).unwrap();
            assert_eq!(&name.file_name(ID), known);
            assert_eq!(name.at(), Timestamp::from_millis(1_700_000_000_123));
        }
        let foreign = [
            String::new(),
            ".json".to_owned(),
            "quarantine".to_owned(),
            format!("1700000000123_{ID}_00c0ffee.tmp"),
            format!("1700000000123_{ID}_00C0FFEE.json"),
            format!("1700000000123_{ID}_c0ffee.json"),
            format!("1700000000123_{ID}_00c0ffee00.json"),
            format!("01700000000123_{ID}.json"),
            format!("+1700000000123_{ID}.json"),
            format!("99999999999999999999_{ID}.json"),
            format!("1700000000123_{}.json", ID.replace('4', "5")),
            format!("1700000000123_{ID}x.json"),
            format!("1700000000123{ID}.json"),
            format!(".1700000000123_{ID}.json.swp"),
        ];
        for name in foreign {
            assert_eq!(Name::parse(name.as_bytes(), ID), None, "{name}");
        }
        assert_eq!(Name::parse(b"17\xff_x.json", ID), None);
    }

    #[test]
    fn names_are_ordered_by_stamp_and_then_pythons_first() {
        let at = Timestamp::from_millis;
        let mut names = [Name::of(at(2), b"b"), Name::of(at(1), b"a"), Name::python(at(2)), Name::of(at(10), b"")];
        names.sort_unstable();
        let order: Vec<_> = names.iter().map(|name| (name.at().as_millis(), name.crc().is_some())).collect();
        assert_eq!(order, [(1, true), (2, false), (2, true), (10, true)]);
    }

    #[test]
    fn tens_of_thousands_of_names_fit_into_memory() {
        assert!(size_of::<Name>() <= 16);
    }
}
