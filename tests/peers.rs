//! Devices that others have written: a server by pymodbus and one by libmodbus, polled by the real binary.
//!
//! Both run in Python; `PATTOO_TEST_PYTHON` names one that has pymodbus. What is not installed is left out, but not in CI.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::agent::{HOSTNAME, Home};
use support::needs;
use support::server::Server;

/// A running server; it ends when dropped.
struct Peer {
    child: Child,
    target: String,
}

impl Peer {
    /// The server of `library`, or `None` where that is not installed.
    fn start(library: &str) -> Option<Self> {
        if !needs(&["python3", library]) {
            return None;
        }
        let script = format!("{}/tests/fixtures/peers/{library}_server.py", env!("CARGO_MANIFEST_DIR"));
        let spawned = Command::new(support::python()).arg(script).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.expect("Python");
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let mut said = String::new();
        if port.is_empty() {
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        }
        assert!(!port.is_empty(), "{library}: {said}");
        Some(Self { child, target: format!("127.0.0.1:{}", port.trim()) })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Every value that `group` gives, by key, once polled by the daemon and delivered.
fn delivered(peer: &Peer, group: &str, enough: usize) -> Vec<(String, Value)> {
    let server = Server::start();
    let home = Home::new(server.address());
    let target = &peer.target;
    home.write_config(&format!(
        "polling_interval: 200ms\nflush_interval: 10ms\nagent_hostname: {HOSTNAME}\npolling_groups:\n  \
         - ip_devices: ['{target}']\n    unit: 9\n{group}"
    ));
    let mut agent = home.run();
    let of_keys = || {
        let mut values: Vec<_> =
            server.database().rows().iter().map(|row| (row.key.clone(), row.value.clone())).collect();
        values.sort_by(|a, b| a.0.cmp(&b.0));
        values.dedup();
        values
    };
    agent.until("every value", || of_keys().len() >= enough);
    agent.stop();
    server.database().assert_sound();
    of_keys()
}

#[test]
fn all_four_tables_of_other_peoples_servers_are_read_right() {
    let group = "    holding_registers: [40001-40007, 40010-40040, 40042-40125, {address: 40127, type: uint32, order: CDAB}]\n    \
                 input_registers: [30001-30007, 300010-300040]\n    coils: [1-7, 10-40]\n    discrete_inputs: [10001-10007]\n";
    for library in ["pymodbus", "libmodbus"] {
        let Some(peer) = Peer::start(library) else { continue };
        let values = delivered(&peer, group, 7 + 31 + 84 + 1 + 7 + 31 + 7 + 31 + 7);
        assert_eq!(values.len(), 206, "{library}: {values:?}");
        for (key, value) in values {
            let (table, number) = key.rsplit_once('_').unwrap();
            let number: u32 = number.parse().unwrap();
            let a = number % 10_000 - 1;
            let expected = match table {
                "holding_register" if number == 40_127 => ((11 * (a + 1) + 5) << 16) | (11 * a + 5),
                "holding_register" => 11 * a + 5,
                "input_register" => 7 * a + 13,
                "coil" => u32::from(a.is_multiple_of(3)),
                "discrete_input" => u32::from(a.is_multiple_of(2)),
                _ => panic!("{library}: {key}"),
            };
            assert_eq!(value.as_f64(), Some(f64::from(expected)), "{library}: {key}");
        }
    }
}

#[test]
fn what_other_peoples_servers_refuse_costs_no_neighbour() {
    let Some(peer) = Peer::start("libmodbus") else { return };
    // It has no registers from 201 on.
    let values = delivered(&peer, "    holding_registers: [40101-40205]\n", 100);
    let numbers: Vec<u32> = values.iter().map(|(key, _)| key.rsplit_once('_').unwrap().1.parse().unwrap()).collect();
    assert_eq!(numbers, (40_101..=40_200).collect::<Vec<_>>());
}

#[test]
fn an_exception_that_does_not_name_its_function_is_one_all_the_same() {
    let Some(peer) = Peer::start("pymodbus") else { return };
    let server = Server::start();
    let home = Home::new(server.address());
    let answer = |unit: &str, number: &str| {
        let answer = home.output(&["probe", &peer.target, number, "1", "--unit", unit]);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(1), ""), "{}", answer.stderr);
        answer.stderr
    };
    let (no_unit, no_register) = (answer("3", "40001"), answer("9", "40008"));
    assert!(no_unit.contains("exception 11"), "{no_unit}");
    assert!(no_register.contains("exception 4"), "{no_register}");
}
