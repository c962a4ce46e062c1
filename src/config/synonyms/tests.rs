//! The words of other collectors lead to keys that exist, and stand in nobody's way.

use super::*;
use crate::config::{groups, keys, outputs, registers, settings, shared};
use crate::modbus::format::Order;

/// The keys of every place at which keys are looked for.
fn levels() -> Vec<Vec<&'static str>> {
    let mut levels: Vec<Vec<&'static str>> = vec![
        keys::NAMES.to_vec(),
        groups::KEYS.to_vec(),
        registers::KEYS.to_vec(),
        settings::KEYS.to_vec(),
        shared::PATTOO_KEYS.to_vec(),
        shared::API_KEYS.to_vec(),
    ];
    levels.extend(outputs::keys_by_type().map(|(_, keys)| keys));
    levels
}

#[test]
fn every_word_leads_to_a_key_that_exists() {
    let levels = levels();
    assert_eq!(levels.len(), 13);
    let mut idle = Vec::new();
    for (words, to, how) in KEYS {
        if to.is_empty() {
            assert!(!how.is_empty(), "{words:?}");
            continue;
        }
        let known: Vec<_> = levels.iter().filter(|level| level.contains(to)).collect();
        assert!(!known.is_empty(), "{to}");
        for word in *words {
            // Where a word is a key itself, nobody asks what it means.
            let leads =
                known.iter().any(|level| level.contains(word) || key(word, level).is_some_and(|it| it.word == *to));
            if !leads {
                idle.push(format!("{word} never leads to {to}"));
            }
        }
    }
    assert!(idle.is_empty(), "{idle:#?}");
}

#[test]
fn every_place_has_the_keys_that_belong_there() {
    let levels = levels();
    for (place, keys) in PLACES {
        for key in *keys {
            assert!(levels.iter().any(|level| level.contains(key)), "{place}: {key}");
        }
    }
}

#[test]
fn every_type_and_order_that_is_named_is_one() {
    let names = registers::TYPES.map(|(name, _)| name);
    for (words, to, _) in KINDS {
        assert!(to.is_empty() || names.contains(to), "{to}");
        assert!(words.iter().all(|word| !names.contains(word)), "{words:?}");
    }
    for (words, to, _) in ARRANGED {
        assert!(Order::parse(to).is_some(), "{to}");
        assert!(words.iter().all(|word| Order::parse(word).is_none()), "{words:?}");
    }
    for rows in [KINDS, ARRANGED] {
        let words = rows.iter().flat_map(|(words, ..)| *words);
        let mut words: Vec<String> = words.map(|word| plain(word).collect()).collect();
        words.sort();
        let twice: Vec<_> = words.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "words with two meanings: {twice:?}");
    }
}

#[test]
fn a_word_means_what_it_means_where_it_stands() {
    let top = &keys::NAMES[..];
    let (group, register, device) = (&groups::KEYS[..], &registers::KEYS[..], &settings::KEYS[..]);
    let cases: [(&str, &[&str], &str); 24] = [
        ("interval", top, "polling_interval"),
        ("scanInterval", group, "polling_interval"),
        ("slave", group, "unit"),
        ("SlaveID", group, "unit"),
        ("unit_id", group, "unit"),
        ("host", group, "ip_devices"),
        ("address", group, "ip_devices"),
        ("port", group, "ip_devices"),
        ("registers", group, "holding_registers"),
        ("byte_order", group, "order"),
        ("data_type", group, "type"),
        ("name", group, "group_name"),
        ("scale", register, "multiplier"),
        ("byte-order", register, "order"),
        ("data type", register, "type"),
        ("unit", register, "unit_of_measurement"),
        ("register", register, "address"),
        ("length", register, "count"),
        ("min_value", register, "minimum"),
        ("precision", register, ""),
        ("timeout", device, "response_timeout"),
        ("baudrate", device, "baud"),
        ("method", device, "transport"),
        ("influxdb", top, "outputs"),
    ];
    for (word, known, to) in cases {
        assert_eq!(key(word, known).map(|meant| meant.word), Some(to), "{word}");
    }
    assert_eq!(key("colour", group), None);
    let elsewhere: [(&str, &[&str], &str, &str); 6] = [
        ("slave", register, "a polling group", "unit"),
        ("timeout", group, "device_defaults, or devices below the device", "response_timeout"),
        ("parity", top, "device_defaults, or devices below the device", "parity"),
        ("scale", group, "an entry of a list such as holding_registers, {address: 40001, ...}", "multiplier"),
        ("log_level", top, "pattoo.yaml, in the section pattoo", "log_level"),
        ("ip_devices", top, "a polling group", "ip_devices"),
    ];
    for (word, known, place, to) in elsewhere {
        assert_eq!((key(word, known), super::elsewhere(word, known)), (None, Some((place, to))), "{word}");
    }
}
