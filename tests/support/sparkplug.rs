//! A host application of Sparkplug, built without the agent's code: what it understands of what a broker sends it.
//!
//! Messages are taken apart by hand, by the field numbers of the specification. Whatever breaks it fails the test.

use std::collections::BTreeMap;

/// A field of a message: its number, and what is there.
pub enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    pub fn number(&self) -> u64 {
        let Self::Number(number) = self else { panic!("a number is wanted") };
        *number
    }

    pub fn bytes(&self) -> &'a [u8] {
        let Self::Bytes(bytes) = self else { panic!("bytes are wanted") };
        bytes
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }
}

/// The fields of a message, in order.
pub fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn number(bytes: &mut &[u8]) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let (first, rest) = bytes.split_first().expect("a number ends");
            *bytes = rest;
            number |= u64::from(first & 0x7F) << shift;
            shift += 7;
            if first & 0x80 == 0 {
                return number;
            }
        }
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = number(&mut bytes);
        let field = match tag & 7 {
            0 => Field::Number(number(&mut bytes)),
            wire @ (1 | 2) => {
                let length = if wire == 1 { 8 } else { usize::try_from(number(&mut bytes)).unwrap() };
                let (content, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(content)
            }
            other => panic!("wire type {other}"),
        };
        fields.push((tag >> 3, field));
    }
    fields
}

/// A value of a metric that has arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub device: String,
    pub metric: String,
    pub at: u64,
    pub value: f64,
    pub is_historical: bool,
}

/// What a host knows.
#[derive(Default)]
pub struct Host {
    /// The next sequence number; none while the node is not born.
    next: Option<u64>,
    bd_seq: Option<u64>,
    /// Of each device that is born, its metrics by alias.
    devices: BTreeMap<String, BTreeMap<u64, String>>,
    /// What has happened, without data.
    pub events: Vec<String>,
    /// When the node was born, again and again.
    pub births: Vec<u64>,
    /// In order.
    pub values: Vec<Reading>,
}

impl Host {
    /// Takes a message that was published to `topic`.
    pub fn hear(&mut self, topic: &str, payload: &[u8]) {
        let levels: Vec<_> = topic.split('/').collect();
        let (kind, device) = match levels[..] {
            // Of a host, to somebody.
            ["spBv1.0", "g", "NCMD", _] | ["spBv1.0", "STATE", _] => return,
            ["spBv1.0", "g", kind, "n"] => (kind, None),
            ["spBv1.0", "g", kind, "n", device] => (kind, Some(device.to_owned())),
            _ => panic!("{topic}"),
        };
        let payload = fields(payload);
        let of = |wanted: u64| payload.iter().filter(move |(number, _)| *number == wanted).map(|(_, field)| field);
        let metrics: Vec<_> = of(2).map(|metric| fields(metric.bytes())).collect();
        let seq = of(3).next().map(Field::number);
        let named = |metric: &[(u64, Field<'_>)], wanted: u64| {
            metric.iter().find(|(number, _)| *number == wanted).map(|(_, field)| field.number())
        };
        match kind {
            "NDEATH" => {
                assert_eq!((seq, metrics.len(), metrics[0][0].1.text()), (None, 1, "bdSeq".to_owned()));
                let number = named(&metrics[0], 11);
                self.events.push(format!("NDEATH {}", number.unwrap()));
                // Of another connection it would mean nothing.
                if number == self.bd_seq {
                    self.next = None;
                    self.devices.clear();
                }
                return;
            }
            "NBIRTH" => {
                assert_eq!(seq, Some(0));
                self.devices.clear();
                self.bd_seq = named(&metrics[0], 11);
                self.births.push(of(1).next().unwrap().number());
                self.events.push(format!("NBIRTH {}", self.bd_seq.unwrap()));
            }
            _ => assert_eq!(seq, Some(self.next.expect("a node that is born")), "{topic}: no gap"),
        }
        self.next = Some((seq.unwrap() + 1) % 256);
        let Some(device) = device else { return };
        match kind {
            "DBIRTH" => {
                let name = |metric: &[(u64, Field<'_>)]| (named(metric, 2).unwrap(), metric[0].1.text());
                self.events.push(format!("DBIRTH {device}"));
                self.devices.insert(device, metrics.iter().map(|metric| name(metric)).collect());
            }
            "DDEATH" => {
                self.events.push(format!("DDEATH {device}"));
                self.devices.remove(&device).expect("a device that is born");
            }
            "DDATA" => {
                let known = self.devices.get(&device).expect("a device that is born");
                for metric in metrics {
                    let value = metric.iter().find(|(number, _)| *number == 13).expect("a double").1.bytes();
                    self.values.push(Reading {
                        device: device.clone(),
                        metric: known[&named(&metric, 2).unwrap()].clone(),
                        at: named(&metric, 3).unwrap(),
                        value: f64::from_le_bytes(value.try_into().unwrap()),
                        is_historical: named(&metric, 5) == Some(1),
                    });
                }
            }
            other => panic!("{other}"),
        }
    }
}
