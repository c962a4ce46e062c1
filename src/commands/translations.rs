//! `translations`: names and units of measurement as a CSV that `pattoo_cli.py import key_translation` reads, so that the
//! charts of a pattoo server have them.
//!
//! pattoo has one name for a key in each of its translation groups, whatever the device. A key with several is left out and
//! told: devices that differ need a translation group each, and a file each, written with `--device` or `--group`.
//!
//! What its importer does, by its source (`PalisadoesFoundation/pattoo`; the behaviour of pandas was tried with 3.1):
//!
//! | what | where | so |
//! |---|---|---|
//! | a comma-separated file in UTF-8, read by `pandas.read_csv` as it is without options | `cli_import.py` | quotes are doubled, no mark at the beginning |
//! | headings are exactly `language`, `key`, `translation`, `units`; another one ends the import (20053) | `db/table/pair_xlate.py`, `update` | these four |
//! | a missing value is shown as `nan`; as a language it ends the import | the same, `str(row[…])`, `row['language'].lower()` | a space before it |
//! | a column of nothing but numbers, or of `true` and `false`, is read as such: `007` is shown as `7` or `7.0`, `true` as `True` | `pandas.read_csv` | white space before it that pandas does not skip |
//! | white space around language, translation and units is taken off | `pair_xlate.py`, `language.py`, `strip()` | the rows are what was meant |
//! | a language is looked up in lower case; where it is unknown its rows are passed over, and a line says so (20078) | `pair_xlate.py`, `language.py`, `exists` | lower case; `create language` comes first |
//! | a key that is there is updated, a key that is not in the file stays | `pair_xlate.py`, `update` | a file may be imported again |
//! | key, translation and units have 512 bytes each; a longer one ends the import (20035) | `db/models.py`, `MAX_KEYPAIR_LENGTH` | names and units have 255 here |

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::selection::Selection;
use crate::cli::terminal::{complain, pour};
use crate::config::{Config, Instance};
use crate::daemon::exit::Exit;
use crate::files::atomic::{self, Access};
use crate::outputs::pattoo::identity::PROGRAM;
use crate::text::table::TextTable;
use crate::text::{Chain, count, some_of};

/// What pandas, which pattoo reads the file with, takes for a missing value, in lower case; pattoo would show `nan`.
const MISSING: [&str; 15] = [
    "", "#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan", "<na>", "n/a", "na", "nan",
    "none", "null",
];

/// What to write, and where to.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of which devices and groups.
    pub selection: Selection,
    /// The language of the names, as pattoo knows it.
    pub language: String,
    /// A file; stdout without one.
    pub to: Option<PathBuf>,
}

/// Writes the CSV.
#[must_use]
pub fn translations(instance: &Instance, options: &Options) -> Exit {
    let config = match options.selection.load(instance) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let Translations { known, several, partly } = Translations::of(&config);
    let mut table = TextTable::new(&["language", "key", "translation", "units"]);
    for (key, (name, unit)) in &known {
        let name = name.unwrap_or(key);
        table.push([cell(&options.language), format!("{PROGRAM}_{key}"), cell(name), cell(unit.unwrap_or_default())]);
    }
    if let Some(path) = &options.to {
        if let Err(error) = atomic::write(path, table.csv().as_bytes(), Access::mode(0o644)) {
            complain(&Chain(&error).to_string());
            return Exit::Failure;
        }
        complain(&format!("wrote {} to {}", count(known.len(), "translation"), path.display()));
    } else if !pour(&table.csv()) {
        return Exit::Failure;
    }
    if known.is_empty() {
        complain("warning: no register has a name or a unit of measurement");
    }
    if !several.is_empty() {
        complain(&format!(
            "warning: {} with more than one name or unit of measurement left out: {}; pattoo has one in a translation group: \
             write a file for each kind of device, with --device or --group",
            count(several.len(), "key"),
            some_of(several.iter().map(|(key, names)| format!("{key} ({})", some_of(names.iter()))))
        ));
    }
    if !partly.is_empty() {
        complain(&format!(
            "warning: {} without a name on some devices: {}; pattoo shows the name there, too",
            count(partly.len(), "key"),
            some_of(partly.iter())
        ));
    }
    Exit::Done
}

/// A text that is read back as it is: white space around it is taken off again.
fn cell(text: &str) -> String {
    let lower = text.to_lowercase();
    // Of what might be a number pandas skips spaces, but no other white space.
    if text.trim().parse::<f64>().is_ok() && !MISSING.contains(&lower.as_str()) {
        return format!("\u{a0}{text}");
    }
    let other = MISSING.contains(&lower.as_str()) || ["true", "false"].contains(&lower.as_str());
    if other { format!(" {text}") } else { text.to_owned() }
}

/// The name and the unit of measurement of a point.
type Description<'c> = (Option<&'c str>, Option<&'c str>);

/// What the keys are called.
#[derive(Debug, Default, PartialEq)]
struct Translations<'c> {
    /// Keys with one description.
    known: BTreeMap<String, Description<'c>>,
    /// Keys with several, and what these are.
    several: Vec<(String, Vec<String>)>,
    /// Keys with a description that some points lack.
    partly: Vec<String>,
}

impl<'c> Translations<'c> {
    fn of(config: &'c Config) -> Self {
        let mut by_key: BTreeMap<String, BTreeSet<Description<'c>>> = BTreeMap::new();
        for point in &config.points {
            let description = (point.naming.name.as_deref(), point.naming.metadata.unit_of_measurement.as_deref());
            // By key alone: pattoo has one translation for a key, whatever the device.
            by_key.entry(point.key()).or_default().insert(description);
        }
        let mut found = Self::default();
        for (key, mut descriptions) in by_key {
            // A point without a description does not contradict one that has it.
            let lacking = descriptions.remove(&(None, None));
            match (descriptions.pop_first(), descriptions.is_empty()) {
                (None, _) => {}
                (Some(description), true) => {
                    if lacking {
                        found.partly.push(key.clone());
                    }
                    found.known.insert(key, description);
                }
                (Some(first), false) => {
                    let all = std::iter::once(first).chain(descriptions);
                    let names = all.map(|(name, unit)| [name.unwrap_or(&key), unit.unwrap_or_default()].join(" "));
                    let names = names.map(|name| name.trim_end().to_owned()).collect();
                    found.several.push((key, names));
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn config(groups: &str) -> Config {
        let directory = tempfile::tempdir().unwrap();
        let shared = "pattoo: {log_directory: /l, cache_directory: /c, daemon_directory: /d}\n";
        fs::write(directory.path().join("pattoo.yaml"), shared).unwrap();
        let agent = format!("polling_groups:\n{groups}");
        fs::write(directory.path().join("pattoo_agent_modbustcpd.yaml"), agent).unwrap();
        crate::config::load_for(directory.path(), None).unwrap().config
    }

    #[test]
    fn a_key_has_the_one_description_that_its_points_have() {
        let u = "{address: 30001, name: u, unit_of_measurement: V}";
        let config = config(&format!(
            "  - {{ip_devices: [a, b], input_registers: [{u}, {{address: 30002, unit_of_measurement: A}}, 30003]}}\n  \
             - {{ip_devices: [c], input_registers: [{u}, 30002, {{address: 30004, name: x}}]}}\n  \
             - {{ip_devices: [d], input_registers: [{{address: 30004, name: x, unit_of_measurement: W}}]}}\n  \
             - {{ip_devices: [e], input_registers: [{{address: 30004, unit_of_measurement: W}}]}}\n"
        ));
        let key = |number: u32| format!("input_register_{number}");
        let known = [(key(30_001), (Some("u"), Some("V"))), (key(30_002), (None, Some("A")))];
        let several = ["input_register_30004 W", "x", "x W"].map(str::to_owned).to_vec();
        let expected =
            Translations { known: known.into(), several: vec![(key(30_004), several)], partly: vec![key(30_002)] };
        assert_eq!(Translations::of(&config), expected);
    }

    #[test]
    fn a_text_that_reads_as_no_value_gets_a_space() {
        for (text, expected) in [
            ("", " "),
            ("NA", " NA"),
            ("None", " None"),
            ("n/a", " n/a"),
            ("nan", " nan"),
            ("Na+", "Na+"),
            ("°C", "°C"),
        ] {
            assert_eq!(cell(text), expected);
        }
    }

    #[test]
    fn a_text_that_reads_as_a_number_or_a_flag_stays_a_text() {
        for text in ["007", "1e3", "5.", "+5", "-1.5", "inf", " 7"] {
            assert_eq!(cell(text), format!("\u{a0}{text}"));
        }
        for text in ["true", "False"] {
            assert_eq!(cell(text), format!(" {text}"));
        }
        for text in ["1,5", "1_0", "0x10", "1 000", "pump 7", "-"] {
            assert_eq!(cell(text), text);
        }
    }
}
