//! What all devices are known to refuse, so that the next process need not look for it again.
//!
//! Shared by the devices, which note what they learn, and by whoever keeps it on disk: as text, a line for each value
//! (`plc7:502 1 holding_register 40 2`: endpoint, unit, table, address, width). A line that is none is skipped, for
//! nothing here is worth a refusal to start: what is missing is found again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::endpoint::Endpoint;
use super::plan::Spot;
use super::register::{Table, UnitId};

/// The first line: what this is.
const HEAD: &str = "pattoo-refused-1";

/// More values than this are not remembered.
const MOST: usize = 100_000;

/// Refused values by endpoint.
#[derive(Debug, Default)]
pub struct Ledger {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    spots: BTreeMap<String, Vec<Spot>>,
    changed: bool,
}

impl Ledger {
    /// What `text` says.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut known = Known::default();
        let lines = text.strip_prefix(HEAD).unwrap_or_default().lines();
        for (endpoint, spot) in lines.filter_map(parse).take(MOST) {
            known.spots.entry(endpoint).or_default().push(spot);
        }
        Self { known: Mutex::new(known) }
    }

    /// What the device at `endpoint` is known to refuse.
    #[must_use]
    pub fn of(&self, endpoint: &Endpoint) -> Vec<Spot> {
        self.known().spots.get(&endpoint.to_string()).cloned().unwrap_or_default()
    }

    /// The device at `endpoint` refuses these values and no others.
    pub fn note(&self, endpoint: &Endpoint, spots: Vec<Spot>) {
        let mut known = self.known();
        known.changed = true;
        if spots.is_empty() {
            known.spots.remove(&endpoint.to_string());
        } else {
            known.spots.insert(endpoint.to_string(), spots);
        }
    }

    /// The text to keep, if it is another one than last time.
    pub fn changed(&self) -> Option<String> {
        let mut known = self.known();
        if !std::mem::take(&mut known.changed) {
            return None;
        }
        let mut text = format!("{HEAD}\n");
        let all = known.spots.iter().flat_map(|(endpoint, spots)| spots.iter().map(move |spot| (endpoint, spot)));
        for (endpoint, Spot { unit, table, address, width }) in all.take(MOST) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{endpoint} {unit} {} {address} {width}", table.key_prefix());
        }
        Some(text)
    }

    /// Everything; a panic elsewhere leaves it as good as it was.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(line: &str) -> Option<(String, Spot)> {
    let [endpoint, unit, table, address, width] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
    let table = Table::ALL.into_iter().find(|known| known.key_prefix() == table)?;
    let spot =
        Spot { unit: UnitId(unit.parse().ok()?), table, address: address.parse().ok()?, width: width.parse().ok()? };
    Some((endpoint.to_owned(), spot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_to_the_next_process_and_what_is_no_line_is_skipped() {
        let ledger = Ledger::read("");
        assert_eq!(ledger.changed(), None);
        let [one, two, three]: [Endpoint; 3] = ["plc7", "[2001:db8::7]:1502", "gone"].map(|text| text.parse().unwrap());
        let spot = |table, address| Spot { unit: UnitId(3), table, address, width: 2 };
        let refused = vec![spot(Table::HoldingRegisters, 40), spot(Table::Coils, 65_534)];
        ledger.note(&one, refused.clone());
        ledger.note(&two, vec![spot(Table::InputRegisters, 0)]);
        ledger.note(&three, refused.clone());
        ledger.note(&three, Vec::new());
        let text = ledger.changed().unwrap();
        assert_eq!(ledger.changed(), None, "once is enough");
        let damaged = format!("{text}plc7:502 3 holding_register 99999 1\nplc7:502 3 writing 1 1\n\u{0}\nplc7:502");
        for text in [text, damaged] {
            let later = Ledger::read(&text);
            assert_eq!(later.of(&one), refused);
            assert_eq!(later.of(&two), [spot(Table::InputRegisters, 0)]);
            assert_eq!(later.of(&three), []);
        }
        assert_eq!(Ledger::read("some other file\nplc7:502 3 coil 1 1").of(&one), []);
    }
}
