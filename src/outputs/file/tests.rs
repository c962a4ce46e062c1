//! Lines as other programs read them, and a file as it is found afterwards.

use std::time::Duration;

use super::*;
use crate::reading::PointId;
use crate::reading::points::{Builder, Device, Kind, Register};

const AT: Timestamp = Timestamp::from_millis(1_700_000_000_123);

fn table() -> Arc<PointTable> {
    let mut builder = Builder::new("4c", "host", Duration::from_secs(300));
    for (device, name, unit_of_measurement) in
        [("192.0.2.20:1502", Some("flow"), Some("°C")), ("a,\"b\"\n=1", None, None)]
    {
        let device = Device::new(device, 3, "meters", 1_000);
        let register = Register::new("input_register_30001", "input_register", 30_001, Kind::Integer);
        if let Some(name) = name {
            let tags = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
            let device = Device { name: Some("boiler".to_owned()), tags: tags("hall", "3"), ..device };
            let values = vec![(13, "\"low\"".to_owned())];
            let (name, unit_of_measurement) = (Some(name.to_owned()), unit_of_measurement.map(str::to_owned));
            builder.push(&device, &Register { name, unit_of_measurement, tags: tags("area", "a"), values, ..register });
        } else {
            builder.push(&device, &register);
        }
    }
    Arc::new(builder.build())
}

fn reading(point: u32, value: Value) -> Reading {
    Reading { point: PointId(point), at: AT, value }
}

fn encode(format: Format, readings: &[Reading]) -> Encoded {
    FileEncode(format).encode(&table(), readings, 1 << 20, Timestamp::default())
}

#[test]
fn lines_are_these() {
    let readings = [reading(0, Value::Float(13.0)), reading(1, Value::Integer(-7))];
    let cases = [
        (
            Format::Jsonl,
            r#"{"time":"2023-11-14T22:13:20.123Z","device":"192.0.2.20:1502","unit":3,"key":"input_register_30001","#
                .to_owned()
                + r#""name":"flow","value":13.0,"unit_of_measurement":"°C","group":"meters","device_name":"boiler","text":"\"low\"","#
                + r#""tags":{"area":"a","hall":"3"}}"#
                + "\n"
                + r#"{"time":"2023-11-14T22:13:20.123Z","device":"a,\"b\"\n=1","unit":3,"key":"input_register_30001","#
                + r#""value":-7,"group":"meters"}"#
                + "\n",
        ),
        (
            Format::Csv,
            "2023-11-14T22:13:20.123Z,192.0.2.20:1502,3,input_register_30001,flow,13.0,°C,meters,boiler,\"\"\"low\"\"\",\"{\"\"area\"\":\"\"a\"\",\"\"hall\"\":\"\"3\"\"}\"\n".to_owned()
                + "2023-11-14T22:13:20.123Z,\"a,\"\"b\"\"\n=1\",3,input_register_30001,,-7,,meters,,,\n",
        ),
    ];
    for (format, lines) in cases {
        let body = Some(lines.into());
        assert_eq!(encode(format, &readings), Encoded { body, taken: 2, not_sendable: 0, stamp: None });
    }
}

#[test]
fn what_no_line_can_say_is_counted() {
    let odd = [
        reading(0, Value::Float(f64::NAN)),
        reading(0, Value::Float(f64::INFINITY)),
        reading(2, Value::Integer(1)),
        Reading { at: Timestamp::NO_DATE, ..reading(0, Value::Integer(1)) },
        Reading { at: Timestamp::from_millis(u64::MAX), ..reading(0, Value::Integer(1)) },
    ];
    for format in [Format::Jsonl, Format::Csv] {
        assert_eq!(encode(format, &odd), Encoded { body: None, taken: 5, not_sendable: 5, stamp: None });
        let last = Reading {
            at: Timestamp::from_millis(Timestamp::NO_DATE.as_millis() - 1),
            ..reading(0, Value::Float(f64::MAX))
        };
        let encoded = encode(format, &[odd.as_slice(), &[last]].concat());
        assert_eq!((encoded.taken, encoded.not_sendable, encoded.body.is_some()), (6, 5, true));
    }
}

#[test]
fn a_post_is_about_as_large_as_there_is_room_for() {
    let readings = vec![reading(0, Value::Integer(1)); 1_000];
    for room in [1, 1_000, 10_000] {
        let encoded = FileEncode(Format::Csv).encode(&table(), &readings, room, Timestamp::default());
        assert!(encoded.taken == 1 || encoded.body.unwrap().len().abs_diff(room) < 200);
    }
}

#[actix_rt::test]
async fn posts_are_appended_and_a_failure_names_file_and_cause() {
    let directory = tempfile::tempdir().unwrap();
    let settings = |name: &str| FileSettings {
        path: directory.path().join(name),
        format: Format::Csv,
        max_bytes: 1_000_000,
        keep: 1,
    };
    let mut deliver = FileDeliver::new(settings("readings.csv"));
    for body in ["1\n", "2\n", "2\n"] {
        assert_eq!(deliver.post(body.into()).await, Answer { result: Ok(()), server_time: None });
    }
    assert_eq!(deliver.ask_time().await, Answer { result: Ok(()), server_time: None });
    let text = std::fs::read_to_string(directory.path().join("readings.csv")).unwrap();
    assert_eq!(text, format!("{COLUMNS}\n1\n2\n"));

    let failure = FileDeliver::new(settings("no/readings.csv")).post("1\n".into()).await.result.unwrap_err();
    assert_eq!((failure.kind, failure.verdict), ("write", Verdict::Later { after: None, late: false }));
    let text = failure.text;
    assert!(text.contains("no/readings.csv: No such file or directory"), "{text}");
}
