//! What a device holds and what the server gets of it: every table and type, through the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use support::agent::{HOSTNAME, Home};
use support::device::{Device, Table, Values};
use support::server::Server;

/// The registers of a device that holds these words from address 0 on.
fn holding(words: &[u16]) -> Values {
    let overrides = (0..).zip(words).map(|(at, &word)| (None, Table::Holding, at, word)).collect();
    Values::Fixed { overrides }
}

/// What arrived last of each series, by key: its data type and value.
type Series = BTreeMap<String, (u64, Value)>;

/// Function code, address and quantity of each request.
type Requests = BTreeSet<(u8, u16, u16)>;

/// A device that is read as `group` says: what arrives of each series, with its data type, and the requests.
fn polled(values: Values, group: &str) -> (Series, Requests, String) {
    let device = Device::at("127.0.0.1:0".parse().unwrap(), values).unwrap();
    let server = Server::start();
    let home = Home::new(server.address());
    home.write_config(&format!(
        "polling_interval: 200ms\nflush_interval: 10ms\nagent_hostname: {HOSTNAME}\npolling_groups:\n  \
         - ip_devices: ['{}']\n{group}",
        device.target()
    ));
    let mut agent = home.run();
    // Two polls, so that what is left out is left out and not late.
    let again = |rows: &[support::server::Row]| rows.iter().map(|row| row.timestamp).collect::<BTreeSet<_>>().len() > 2;
    agent.until("two polls", || again(server.database().rows()));
    agent.stop();
    server.database().assert_sound();
    assert_eq!(device.violations(), [""; 0]);
    let rows =
        server.database().rows().iter().map(|row| (row.key.clone(), (row.data_type, row.value.clone()))).collect();
    let requests = device.requests().iter().map(|it| (it.function, it.address, it.quantity)).collect();
    (rows, requests, agent.log())
}

fn expected<const N: usize>(rows: [(&str, u64, Value); N]) -> Series {
    rows.into_iter().map(|(key, data_type, value)| (key.to_owned(), (data_type, value))).collect()
}

/// Where requests begin and how many registers they are for, from the one with this number on.
fn asked(device: &Device, from: usize) -> Vec<(u16, u16)> {
    device.requests().iter().skip(from).map(|request| (request.address, request.quantity)).collect()
}

#[test]
fn what_a_device_refuses_costs_no_neighbour_a_single_poll_and_is_looked_for_once() {
    let (device, server) = (Device::counting(3), Server::start());
    let holes = [7, 8, 40, 99];
    for hole in holes {
        device.refuse(Table::Holding, hole);
    }
    let home = Home::new(server.address());
    home.write_groups(
        "300ms",
        &format!("  - ip_devices: ['{}']\n    holding_registers: [40001-40100]\n", device.target()),
    );
    let mut agent = home.run();
    let keys = || server.database().rows().iter().map(|row| row.key.clone()).collect::<BTreeSet<_>>();
    agent.until("everything that can be read", || keys().len() == 96);
    let search = device.request_count();
    agent.until("more polls", || device.request_count() > search + 20);
    let log = agent.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("refuses holding registers")).collect();
    assert!(told.len() == 1 && told[0].contains("40008-40009, 40041, 40100: "), "{log}");
    assert!(told[0].contains("illegal data address"), "{log}");
    let shown = home.output(&["--status", "--config_dir", home.config_dir().to_str().unwrap()]).stdout;
    assert!(shown.contains("100, 4 refused") && shown.contains("refused: 40008-40009, 40041, 40100 ("), "{shown}");

    // The search was one, within its bound, and all that could be read was read in the poll of the search.
    let asked = asked(&device, 0);
    let around: Vec<_> = vec![(0, 7), (9, 31), (41, 58)];
    let before = asked.windows(3).position(|requests| requests == around).unwrap();
    assert!(before <= 1 + 2 * holes.len() * 7 + 1, "{before} requests before: {asked:?}");
    assert!(asked[before..].chunks_exact(3).all(|requests| requests == around), "{asked:?}");
    let first = server.database().rows().iter().filter(|row| row.key == "holding_register_40001").count();
    let last = server.database().rows().iter().filter(|row| row.key == "holding_register_40099").count();
    assert!(first.abs_diff(last) <= 1, "{first} of the first, {last} of the last");
    agent.stop();
    server.database().assert_sound();

    // Another process goes on with what this one knew.
    let before = device.request_count();
    let mut agent = home.run();
    agent.until("more polls", || device.request_count() > before + 9);
    agent.stop();
    assert!(self::asked(&device, before).chunks_exact(3).all(|requests| requests == around));
    assert!(!agent.log().contains("refuses holding registers"), "{}", agent.log());
    assert_eq!(device.violations(), [""; 0]);
}

#[test]
fn all_four_tables_are_read_with_their_own_function_code_and_as_few_requests_as_can_be() {
    let group = "    input_registers: [30001-30003]\n    holding_registers: [40001, 40002]\n    \
                 coils: [1-10, 00012]\n    discrete_inputs: [10001, 10002, 100003]\n";
    let (rows, requests, _) = polled(Values::Fixed { overrides: Vec::new() }, group);
    assert_eq!(requests, [(4, 0, 3), (3, 0, 2), (1, 0, 10), (1, 11, 1), (2, 0, 3)].into());
    assert_eq!(rows.len(), 3 + 2 + 11 + 3);
    assert_eq!(rows["input_register_30002"], (99, json!(20.0)), "as the original: a float of type integer");
    for (key, on) in [("coil_00001", 1), ("coil_00002", 0), ("coil_00004", 1), ("coil_00010", 1), ("coil_00012", 0)] {
        assert_eq!(rows[key], (99, json!(on)), "{key}");
    }
    for (key, on) in [("discrete_input_10001", 1), ("discrete_input_10002", 0), ("discrete_input_100003", 1)] {
        assert_eq!(rows[key], (99, json!(on)), "{key}");
    }
}

#[test]
fn values_of_every_type_arrive_under_the_servers_types_and_what_is_no_value_does_not() {
    let pi = std::f64::consts::PI.to_bits();
    let word = |place: u32| u16::try_from(pi >> (16 * (3 - place)) & 0xFFFF).unwrap();
    let words = [
        0xFFFE, // 40001 int16 -2
        0x80A5, // 40002 bits
        0x0001,
        0x0002, // 40003 uint32
        0x6666,
        0x4366, // 40005 float32 in the order CDAB: 230.4
        word(0),
        word(1),
        word(2),
        word(3), // 40007 float64
        0x1234,
        0x5678, // 40011 bcd32
        0x7FC0,
        0x0000, // 40013 float32 NaN
        0x8000, // 40015 int16, not available
        2301,   // 40016, scaled by 40018
        0xFFFF, // 40017 uint16, not available
        0xFFFF, // 40018 the power of ten: -1
        0x0000,
        0x0000,
        0x0001,
        0x0000, // 40019 uint64
    ];
    let group = "    holding_registers:
      - {address: 40001, type: int16}
      - {address: 40002, bit: 15}
      - {address: 40002, bits: 4..7}
      - {address: 40002, type: uint8, byte: high}
      - {address: 40003, type: uint32, counter: true}
      - {address: 40005, type: float32, order: CDAB}
      - {address: 40007, type: float64}
      - {address: 40011, type: bcd32, multiplier: 0.5}
      - {address: 40013, type: float32}
      - {address: 40015, type: int16, unavailable: sunspec}
      - {address: 40016, type: int16, scale_register: 40018}
      - {address: 40017, unavailable: [0xFFFF]}
      - {address: 40019, type: uint64}
      - {address: 40003, type: uint32, maximum: 5}
";
    let (rows, requests, log) = polled(holding(&words), group);
    let float = f64::from(230.4_f32);
    let wanted = expected([
        ("holding_register_40001", 99, json!(-2)),
        ("holding_register_40002_bit_15", 99, json!(1)),
        ("holding_register_40002_bits_4_7", 99, json!(10)),
        ("holding_register_40002_high", 99, json!(128)),
        ("holding_register_40003", 32, json!(65_538)),
        ("holding_register_40005", 101, json!(float)),
        ("holding_register_40007", 101, json!(std::f64::consts::PI)),
        ("holding_register_40011", 99, json!(6_172_839.0)),
        ("holding_register_40016", 99, json!(230.1)),
        ("holding_register_40019", 99, json!(65_536)),
    ]);
    assert_eq!(rows, wanted);
    assert_eq!(requests, [(3, 0, 22)].into(), "and all that in one request");
    assert!(log.contains("unavailable") && log.contains("outside_limits"), "the books name what was left out: {log}");
}
