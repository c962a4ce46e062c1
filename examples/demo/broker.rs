//! As much of an MQTT broker as the demonstration needs: it takes the login and acknowledges every message (version 5).

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Mutex;

use serde_json::Value;

use crate::sink::Row;
use crate::support::mqtt::receive;

/// One packet; `None` when the connection is over.
pub fn take(mut stream: &TcpStream, rows: &Mutex<Vec<Row>>) -> Option<()> {
    let (first, packet) = receive(&mut stream).ok()?;
    match first >> 4 {
        // CONNECT, PUBLISH, PINGREQ.
        1 => stream.write_all(&[0x20, 3, 0, 0, 0]).ok(),
        3 => {
            let (length, rest) = packet.split_first_chunk()?;
            let (topic, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
            // The message has no properties.
            let (&[high, low, 0], payload) = rest.split_first_chunk()? else { return None };
            keep(topic, payload, &mut rows.lock().expect("no thread of it panics"));
            stream.write_all(&[0x40, 2, high, low]).ok()
        }
        12 => stream.write_all(&[0xD0, 0]).ok(),
        _ => None,
    }
}

/// What is no reading is whether the agent is there; what comes again is known by its time.
fn keep(topic: &[u8], payload: &[u8], rows: &mut Vec<Row>) {
    let Ok(message) = serde_json::from_slice::<Value>(payload) else { return };
    let topic = String::from_utf8_lossy(topic);
    let (device, key) = topic.strip_prefix("modbus/").and_then(|rest| rest.split_once('/')).expect("device and point");
    let time = humantime::parse_rfc3339(message["time"].as_str().expect("a time")).expect("in RFC 3339");
    let at = time.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    let row = Row {
        at: u64::try_from(at).expect("before the year 500 million"),
        device: device.to_owned(),
        key: key.to_owned(),
        value: message["value"].as_f64().expect("a number"),
    };
    if !rows.iter().any(|known| (known.at, &known.device, &known.key) == (row.at, &row.device, &row.key)) {
        rows.push(row);
    }
}
