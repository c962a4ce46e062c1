//! What was learned of all devices, kept so that the next process need not find it again.
//!
//! Shared by the devices, which note what they learn, and by whoever keeps it on disk: as text, a line for each thing,
//! the endpoint first, below a line with the version of the format:
//!
//! ```text
//! plc7:502 settings tcp,125,2000,0,0s
//! plc7:502 refused 1 holding_register 40 2
//! plc7:502 limit 1 registers 40 41 refused
//! plc7:502 gaps 1
//! plc7:502 pause 4000
//! ```
//!
//! What was learned under other settings than a device has now is forgotten, and so is what is known of devices that
//! are not configured any more. Malformed lines are ignored: the data can be found again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Learned, Limit};
use crate::modbus::endpoint::Endpoint;
use crate::modbus::plan::Span;
use crate::modbus::register::{Table, UnitId};
use crate::reading::millis;

/// The first line: what this is.
const HEAD: &str = "pattoo-learned-2";

/// The first line of the version before, which had refused values only, without the word `refused`.
const HEAD_BEFORE: &str = "pattoo-refused-1";

/// More lines than this are not remembered.
const MOST: usize = 100_000;

/// No device is left alone longer after connecting, whatever a file says.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What was learned, by endpoint.
#[derive(Debug, Default)]
pub struct RefusalStore {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    devices: BTreeMap<String, Device>,
    changed: bool,
}

#[derive(Debug, Default)]
struct Device {
    /// The settings under which it was learned; `None` when the file does not say.
    settings: Option<String>,
    learned: Learned,
}

impl RefusalStore {
    /// What `text` says.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut known = Known::default();
        let (head, lines) = text.split_once('\n').unwrap_or_default();
        for line in lines.lines().take(MOST) {
            // No endpoint has white space in it, not even the path of a serial port.
            let words: Vec<&str> = line.split(' ').collect();
            match (head, &words[..]) {
                (HEAD, [endpoint, kind, rest @ ..]) => known.take(endpoint, kind, rest),
                (HEAD_BEFORE, [endpoint, rest @ ..]) => known.take(endpoint, "refused", rest),
                _ => None,
            };
        }
        Self { known: Mutex::new(known) }
    }

    /// What is known of the device at `endpoint`, which has these `settings` now.
    #[must_use]
    pub fn of(&self, endpoint: &Endpoint, settings: &str) -> Learned {
        let known = self.known();
        let device = known.devices.get(&endpoint.to_string());
        // A file of the version before does not name them, and is believed.
        let valid = device.filter(|device| device.settings.as_deref().is_none_or(|before| before == settings));
        valid.map(|device| device.learned.clone()).unwrap_or_default()
    }

    /// All that is known of the device at `endpoint` under these `settings`.
    pub fn note(&self, endpoint: &Endpoint, settings: &str, learned: Learned) {
        let mut known = self.known();
        let endpoint = endpoint.to_string();
        if learned.is_empty() {
            known.changed |= known.devices.remove(&endpoint).is_some();
        } else {
            known.changed = true;
            known.devices.insert(endpoint, Device { settings: Some(settings.to_owned()), learned });
        }
    }

    /// Forgets every device that is not at one of these endpoints.
    pub fn retain<'e>(&self, endpoints: impl Iterator<Item = &'e Endpoint>) {
        let mut known = self.known();
        if known.devices.is_empty() {
            return;
        }
        let wanted: std::collections::HashSet<String> = endpoints.map(ToString::to_string).collect();
        let before = known.devices.len();
        known.devices.retain(|endpoint, _| wanted.contains(endpoint));
        known.changed |= known.devices.len() < before;
    }

    /// The text to keep, if it is another one than last time.
    pub fn changed(&self) -> Option<String> {
        let mut known = self.known();
        if !std::mem::take(&mut known.changed) {
            return None;
        }
        let mut text = format!("{HEAD}\n");
        for (endpoint, Device { settings, learned }) in &known.devices {
            let mut line = |rest: std::fmt::Arguments<'_>| {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{endpoint} {rest}");
            };
            if let Some(settings) = settings {
                line(format_args!("settings {settings}"));
            }
            for Span { unit, table, address, width } in &learned.refused {
                line(format_args!("refused {unit} {} {address} {width}", table.key_prefix()));
            }
            for unit in &learned.gaps {
                line(format_args!("gaps {unit}"));
            }
            for &Limit { unit, bits, works, fails, silent } in &learned.limits {
                let (what, how) = (kind_of(bits), if silent { "silent" } else { "refused" });
                line(format_args!("limit {unit} {what} {works} {fails} {how}"));
            }
            if !learned.pause_after_connect.is_zero() {
                line(format_args!("pause {}", millis(learned.pause_after_connect)));
            }
        }
        Some(text)
    }

    /// Everything; a panic elsewhere leaves it as good as it was.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kind_of(bits: bool) -> &'static str {
    if bits { "bits" } else { "registers" }
}

impl Known {
    /// Takes over one line; `None` when it is malformed.
    fn take(&mut self, endpoint: &str, what: &str, rest: &[&str]) -> Option<()> {
        // An endpoint that nobody could have written is not one.
        endpoint.parse::<Endpoint>().ok()?;
        match (what, rest) {
            ("settings", [settings]) => self.device(endpoint).settings = Some((*settings).to_owned()),
            ("refused", [unit, table, address, width]) => {
                let table = Table::ALL.into_iter().find(|known| known.key_prefix() == *table)?;
                let unit = UnitId(unit.parse().ok()?);
                let (address, width) = (address.parse().ok()?, width.parse().ok()?);
                let learned = &mut self.device(endpoint).learned;
                learned.refused.push(Span { unit, table, address, width });
            }
            ("gaps", [unit]) => {
                let unit = UnitId(unit.parse().ok()?);
                self.device(endpoint).learned.gaps.push(unit);
            }
            ("limit", [unit, entries, works, fails, how]) => {
                let bits = [false, true].into_iter().find(|bits| kind_of(*bits) == *entries)?;
                let silent = ["refused", "silent"].iter().position(|known| known == how)? == 1;
                let (works, fails): (u16, u16) = (works.parse().ok()?, fails.parse().ok()?);
                // Not written by the agent: what works is less than what fails.
                if !(1..fails).contains(&works) {
                    return None;
                }
                let limit = Limit { unit: UnitId(unit.parse().ok()?), bits, works, fails, silent };
                self.device(endpoint).learned.limits.push(limit);
            }
            ("pause", [pause]) => {
                let pause = Duration::from_millis(pause.parse().ok()?);
                self.device(endpoint).learned.pause_after_connect = pause.min(LONGEST_PAUSE);
            }
            _ => return None,
        }
        Some(())
    }

    fn device(&mut self, endpoint: &str) -> &mut Device {
        self.devices.entry(endpoint.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &str = "tcp,125,2000,0,0s";

    fn span(table: Table, address: u16) -> Span {
        Span { unit: UnitId(3), table, address, width: 2 }
    }

    fn refused(spans: &[Span]) -> Learned {
        Learned { refused: spans.to_vec(), ..Learned::default() }
    }

    #[test]
    fn what_was_noted_is_known_to_the_next_process_and_malformed_lines_are_ignored() {
        let store = RefusalStore::read("");
        assert_eq!(store.changed(), None);
        let [one, two, three]: [Endpoint; 3] = ["plc7", "[2001:db8::7]:1502", "gone"].map(|text| text.parse().unwrap());
        let limit = Limit { unit: UnitId(3), bits: false, works: 40, fails: 41, silent: true };
        let learned = Learned {
            refused: vec![span(Table::HoldingRegisters, 40), span(Table::Coils, 65_534)],
            gaps: vec![UnitId(3)],
            limits: vec![limit, Limit { unit: UnitId(4), bits: true, silent: false, ..limit }],
            pause_after_connect: Duration::from_secs(4),
        };
        store.note(&one, SETTINGS, learned.clone());
        store.note(&two, SETTINGS, refused(&[span(Table::InputRegisters, 0)]));
        store.note(&three, SETTINGS, learned.clone());
        store.note(&three, SETTINGS, Learned::default());
        let text = store.changed().unwrap();
        assert_eq!(store.changed(), None, "once is enough");
        let damaged = format!(
            "{text}plc7:502 refused 3 holding_register 99999 1\nplc7:502 refused 3 writing 1 1\n\u{0}\nplc7:502\n\
             plc7:502 limit 3 registers 9 9 refused\nplc7:502 limit 3 registers 0 9 refused\nplc7:502 pause x\n\
             plc7:502 what 1\n/ gaps 1"
        );
        for text in [text, damaged] {
            let later = RefusalStore::read(&text);
            assert_eq!(later.of(&one, SETTINGS), learned);
            assert_eq!(later.of(&two, SETTINGS), refused(&[span(Table::InputRegisters, 0)]));
            assert!(later.of(&three, SETTINGS).is_empty());
        }
        assert!(RefusalStore::read("some other file\nplc7:502 refused 3 coil 1 1").of(&one, SETTINGS).is_empty());
    }

    #[test]
    fn what_was_learned_under_other_settings_or_of_a_device_that_is_gone_is_forgotten() {
        let [one, two]: [Endpoint; 2] = ["plc7", "plc8"].map(|text| text.parse().unwrap());
        let store = RefusalStore::read("");
        let learned = refused(&[span(Table::HoldingRegisters, 40)]);
        store.note(&one, SETTINGS, learned.clone());
        store.note(&two, SETTINGS, learned.clone());
        assert!(store.of(&one, "rtu,125,2000,0,0s").is_empty());
        assert_eq!(store.of(&one, SETTINGS), learned);
        store.changed();
        store.retain([&two].into_iter());
        assert!(store.of(&one, SETTINGS).is_empty() && store.changed().is_some());
        store.retain([&two].into_iter());
        assert_eq!(store.changed(), None);
    }

    #[test]
    fn the_file_of_the_version_before_is_read() {
        let endpoint: Endpoint = "plc7".parse().unwrap();
        let store = RefusalStore::read("pattoo-refused-1\nplc7:502 3 holding_register 40 2\nplc7:502 3 gaps");
        assert_eq!(store.of(&endpoint, SETTINGS), refused(&[span(Table::HoldingRegisters, 40)]));
    }
}
