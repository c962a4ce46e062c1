//! Who judges the judges: the simulated device and server and the arithmetic, without the agent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use support::device::{Device, Mode};
use support::judge::{Verdict, judge, unwrap};
use support::python;
use support::server::http::http_date;
use support::server::{self, Database, Row, Server};
use support::until;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn body(at: u64) -> Vec<u8> {
    python::body(ID, at, &[("10.0.0.1", "input_register_30001", 7.0)])
}

#[test]
fn the_recorded_posts_of_the_original_are_sound() {
    let mut seen = 0;
    for folder in std::fs::read_dir("tests/fixtures/golden").unwrap() {
        let Ok(body) = std::fs::read(folder.unwrap().path().join("body.json")) else { continue };
        let mut database = Database::default();
        database.ingest(&body);
        database.assert_sound();
        seen += 1;
    }
    assert_eq!(seen, 7);
}

#[test]
fn a_datapoint_after_a_later_one_is_late_and_one_that_comes_again_is_not() {
    let mut database = Database::default();
    for at in [1_700_000_000_002, 1_700_000_000_002, 1_700_000_000_001] {
        database.ingest(&body(at));
    }
    assert_eq!((database.rows().len(), database.repeated(), database.late().len()), (1, 1, 1));
}

#[test]
fn what_kills_the_real_ingester_is_written_down() {
    let text = String::from_utf8(body(1_700_000_000_002)).unwrap();
    for (from, to) in [
        ("7.0", "1e30"),
        ("7.0", "null"),
        ("1700000000002]", "\"1700000000002\"]"),
        ("1700000000002]", "18446744073709551616]"),
        ("10.0.0.1", &"x".repeat(513)),
        ("\"300000\"", "\"5s\""),
        ("interval\": 300000", "interval\": 4294967296"),
        ("timestamp\": 1700000000002", "timestamp\": 17000000002"),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        let mut database = Database::default();
        database.ingest(text.replace(from, to).as_bytes());
        assert_eq!(database.deaths().len(), 1, "{from} → {to}: {:?}", database.deaths());
    }
}

#[test]
fn what_the_real_ingester_ignores_or_misfiles_is_written_down() {
    let text = String::from_utf8(body(1_700_000_000_002)).unwrap();
    for (from, to) in [("\"000\"", "\"001\""), ("[[0,", "[[99,"), ("\"pattoo_agent_id\":", "\"id\":"), ("[[", "[[3,")] {
        assert!(text.contains(from), "{from} in {text}");
        let mut database = Database::default();
        database.ingest(text.replacen(from, to, 1).as_bytes());
        assert_eq!(database.invalid().len(), 1, "{from} → {to}: {:?}", database.invalid());
    }
}

#[test]
fn the_server_answers_as_the_real_one() {
    let server = Server::start();
    let whole = String::from_utf8(body(1_700_000_000_002)).unwrap();
    let json = "Content-Type: application/json\r\n";
    for (headers, body, status) in [
        (json, whole.as_str(), 200),
        ("", whole.as_str(), 404),
        ("Content-Type: text/plain\r\n", whole.as_str(), 404),
        (json, "[1]", 404),
        (json, &whole[..whole.len() - 1], 500),
        (json, "{\"pattoo_agent_id\": 1}", 500),
    ] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST /pattoo/api/v1/agent/receive/{ID} HTTP/1.1\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}{body}: {answer}");
        assert!(answer.contains("\r\nConnection: close\r\n") && answer.contains("\r\nDate: "), "{answer}");
        assert_eq!(status == 200, answer.ends_with("\r\n\r\nOK"), "{answer}");
    }
    assert_eq!(server.row_count(), 1);
    server.stop();
    assert!(TcpStream::connect(server.address()).is_err(), "stopped");
    server.come_back();
    server.set(server::Mode::StoreThenClose);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"GET /pattoo/api/v1/agent/status HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn the_date_header_is_the_standards() {
    for (seconds, text) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (951_825_600, "Tue, 29 Feb 2000 12:00:00 GMT"),
        (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT"),
    ] {
        assert_eq!(http_date(seconds), text);
    }
}

/// Asks for input registers 0 and 1 of unit 0.
const REQUEST: [u8; 12] = [0, 9, 0, 0, 0, 6, 0, 4, 0, 0, 0, 2];

fn ask(device: &Device) -> [u16; 2] {
    let mut stream = TcpStream::connect(device.address()).unwrap();
    stream.write_all(&REQUEST).unwrap();
    let mut answer = [0; 13];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..9], [0, 9, 0, 0, 0, 7, 0, 4, 4]);
    drop(stream);
    [u16::from_be_bytes([answer[9], answer[10]]), u16::from_be_bytes([answer[11], answer[12]])]
}

#[test]
fn the_device_writes_down_what_an_agent_must_never_do() {
    let device = Device::counting(1);
    ask(&device);
    assert_eq!(device.violations(), [""; 0]);
    let mut stream = TcpStream::connect(device.address()).unwrap();
    let mut answer = [0; 9];
    for (pdu, exception, violation) in [
        ([6, 0, 0, 0, 1], 1, "function code 6"),
        ([4, 0, 0, 0, 126], 3, "126 entries in one request"),
        ([3, 0, 0, 0, 0], 3, "0 entries in one request"),
    ] {
        stream.write_all(&[&[0, 1, 0, 0, 0, 6, 7], &pdu[..]].concat()).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0, 1, 0, 0, 0, 3, 7, pdu[0] | 0x80, exception]);
        assert_eq!(device.violations().pop().as_deref(), Some(violation));
    }
    let mut second = TcpStream::connect(device.address()).unwrap();
    second.write_all(&[REQUEST, REQUEST].concat()).unwrap();
    until("both to be noticed", || {
        let violations = device.violations();
        violations.contains(&"2 connections at once".to_owned())
            && violations.contains(&"a request before the answer to the one before".to_owned())
    });
}

#[test]
fn a_misbehaving_device_never_sends_what_was_asked_for() {
    for mode in [
        Mode::WrongTransaction,
        Mode::WrongProtocol,
        Mode::WrongUnit,
        Mode::WrongFunction,
        Mode::TooFewRegisters,
        Mode::WrongByteCount,
        Mode::Truncated,
        Mode::Reset,
        Mode::Firehose,
        Mode::Exception(2),
    ] {
        let device = Device::counting(1);
        let right = device.values().at(0, support::device::Table::Input, 0, 0).to_be_bytes();
        device.set(mode);
        let mut stream = TcpStream::connect(device.address()).unwrap();
        stream.write_all(&REQUEST).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while answer.len() < 13 && matches!(stream.read(&mut byte), Ok(1)) {
            answer.push(byte[0]);
            if mode == Mode::Exception(2) && answer.len() == 9 || mode == Mode::TooFewRegisters && answer.len() == 11 {
                break;
            }
        }
        let head = [0, 9, 0, 0, 0, 7, 0, 4, 4, right[0], right[1]];
        assert!(!answer.starts_with(&head), "{mode:?}: {answer:?}");
        assert_eq!(device.served_count(), 0, "{mode:?}");
    }
}

fn rows(device: &Device, values: &[[u16; 2]]) -> Vec<Row> {
    let mut database = Database::default();
    for (at, [first, second]) in (1_700_000_000_000..).zip(values) {
        let target = device.target();
        let readings = [
            (target.as_str(), "input_register_30001", f64::from(*first)),
            (target.as_str(), "input_register_30002", f64::from(*second)),
        ];
        database.ingest(&python::body(ID, at, &readings));
    }
    database.rows().to_vec()
}

#[test]
fn the_judge_tells_every_kind_of_fault_from_the_others() {
    let device = Device::counting(3);
    let [a, b, c] = [ask(&device), ask(&device), ask(&device)];
    for (what, values, expected) in [
        ("whole", vec![a, b, c], [0, 0, 0, 0]),
        ("a loss", vec![a, c], [2, 0, 0, 0]),
        ("a duplicate", vec![a, b, b, c], [0, 2, 0, 0]),
        ("disorder", vec![a, c, b], [0, 0, 2, 0]),
        ("swapped registers", vec![a, [b[1], b[0]], c], [2, 0, 0, 2]),
        ("a stale half", vec![a, [b[0], a[1]], c], [1, 1, 0, 0]),
    ] {
        let Verdict { lost, duplicate, disorder, misattributed, .. } = judge(&[&device], &rows(&device, &values));
        let found = [lost.len(), duplicate.len(), disorder.len(), misattributed.len()];
        assert_eq!(found, expected, "{what}: lost, duplicate, disorder, misattributed");
    }
}

#[test]
fn the_judge_knows_a_value_of_a_faulty_answer() {
    let device = Device::counting(3);
    let a = ask(&device);
    device.set(Mode::Late(std::time::Duration::ZERO));
    let late = ask(&device);
    assert_eq!(judge(&[&device], &rows(&device, &[a])).lost.len(), 0, "nobody misses it");
    assert_eq!(judge(&[&device], &rows(&device, &[a, late])).forbidden.len(), 2);
}

#[test]
fn a_counter_that_wraps_is_unwrapped_by_the_nearest_way() {
    for (low, last, n) in [
        (5, None, 5),
        (0, Some(65_535), 65_536),
        (65_535, Some(65_536), 65_535),
        (7, Some(7), 7),
        (65_530, Some(3), 65_530),
    ] {
        assert_eq!(unwrap(low, last), n);
    }
}
