//! Packets, read by the codec's other half, and what no broker should send.

use proptest::prelude::*;

use super::*;

fn message(topic: &str, payload: &'static str) -> Message {
    Message {
        line: Bytes::new(),
        topic: topic.to_owned(),
        payload: Bytes::from_static(payload.as_bytes()),
        kept: false,
    }
}

fn login() -> Login {
    Login {
        client_id: "plant".to_owned(),
        username: Some("me".to_owned()),
        password: Some(Bytes::from_static(b"sesame")),
        will: Some(Message::kept("modbus/status/plant", "offline")),
        keep_alive: 60,
    }
}

#[test]
fn a_login_says_who_we_are_and_what_is_to_be_said_when_we_are_gone() {
    let mut bytes = BytesMut::new();
    connect(Version::V3, &login(), &mut bytes).unwrap();
    let Some(v3::Packet::Connect(said)) = v3::Packet::decode(&bytes).unwrap() else { panic!("{bytes:?}") };
    let will = said.last_will.unwrap();
    assert_eq!((&*said.client_id, said.keep_alive, said.clean_session), ("plant", 60, true));
    assert_eq!((said.username.as_deref(), said.password.as_deref()), (Some("me"), Some(&b"sesame"[..])));
    assert_eq!((&*will.topic_name, &will.message[..], will.qos), ("modbus/status/plant", &b"offline"[..], QoS::Level1));
    assert!(will.retain);

    let mut bytes = BytesMut::new();
    connect(Version::V5, &login(), &mut bytes).unwrap();
    let Some(v5::Packet::Connect(said)) = v5::Packet::decode(&bytes).unwrap() else { panic!("{bytes:?}") };
    let will = said.last_will.unwrap();
    assert_eq!((&*said.client_id, said.keep_alive, said.clean_start), ("plant", 60, true));
    assert_eq!((&*will.topic_name, &will.payload[..], will.retain), ("modbus/status/plant", &b"offline"[..], true));
    assert_eq!(said.properties.max_packet_size, Some(65_536));
}

#[test]
fn a_message_has_its_number_topic_and_payload() {
    for (version, retain) in [(Version::V3, true), (Version::V5, false)] {
        let mut bytes = BytesMut::new();
        let length = publish(version, Some(7), &message("modbus/ä/b", "21.5"), retain, &mut bytes).unwrap();
        assert_eq!(length, bytes.len());
        let (id, topic, payload, retained) = match version {
            Version::V3 => match v3::Packet::decode(&bytes).unwrap() {
                Some(v3::Packet::Publish(it)) => (it.qos_pid, it.topic_name, it.payload, it.retain),
                other => panic!("{other:?}"),
            },
            Version::V5 => match v5::Packet::decode(&bytes).unwrap() {
                Some(v5::Packet::Publish(it)) => (it.qos_pid, it.topic_name, it.payload, it.retain),
                other => panic!("{other:?}"),
            },
        };
        assert_eq!((id.pid().unwrap().value(), id.qos()), (7, QoS::Level1));
        assert_eq!((&*topic, &payload[..], retained), ("modbus/ä/b", &b"21.5"[..], retain));
    }
    let mut bytes = BytesMut::new();
    assert_eq!(publish(Version::V5, Some(1), &message("a/+", ""), true, &mut bytes), None);
    assert_eq!(publish(Version::V5, Some(0), &message("a", ""), true, &mut bytes), None);
}

#[test]
fn a_message_without_a_number_is_of_qos_0() {
    for version in [Version::V3, Version::V5] {
        let mut bytes = BytesMut::new();
        assert!(publish(version, None, &message("a", "x"), false, &mut bytes).is_some());
        assert_eq!(
            take(version, &mut bytes),
            Ok(Some(Said::Message { id: None, topic: "a".to_owned(), payload: "x".into() }))
        );
    }
}

#[test]
fn a_subscription_is_of_qos_1_and_what_comes_is_acknowledged() {
    let filters = ["a/+/b".to_owned(), "c/#".to_owned()];
    for version in [Version::V3, Version::V5] {
        let mut bytes = BytesMut::new();
        subscribe(version, 7, &filters, &mut bytes).unwrap();
        let asked: Vec<_> = match version {
            Version::V3 => match v3::Packet::decode(&bytes).unwrap() {
                Some(v3::Packet::Subscribe(it)) => it.topics.iter().map(|(it, qos)| (it.to_string(), *qos)).collect(),
                other => panic!("{other:?}"),
            },
            Version::V5 => match v5::Packet::decode(&bytes).unwrap() {
                Some(v5::Packet::Subscribe(it)) => {
                    it.topics.iter().map(|(it, with)| (it.to_string(), with.max_qos)).collect()
                }
                other => panic!("{other:?}"),
            },
        };
        assert_eq!(asked, filters.clone().map(|filter| (filter, QoS::Level1)));
        let mut bytes = BytesMut::new();
        acknowledge(258, &mut bytes);
        assert!(matches!(take(version, &mut bytes), Ok(Some(Said::Published { id: 258, .. }))));
    }
    assert_eq!(subscribe(Version::V5, 0, &filters, &mut BytesMut::new()), None);
}

fn connected(code: u8) -> Connected {
    Connected {
        answer: Reason { code, said: None },
        window: u16::MAX,
        most_bytes: usize::MAX,
        keep_alive: None,
        acknowledges: true,
        retains: true,
    }
}

#[test]
fn packets_are_found_however_they_come() {
    let reason = |code| Reason { code, said: None };
    let of_v3 = [
        (&[0x20, 2, 0, 0][..], Said::Connected(connected(0))),
        (&[0x20, 2, 0, 5], Said::Connected(connected(0x87))),
        (&[0x40, 2, 1, 2], Said::Published { id: 258, answer: reason(0) }),
        (&[0xD0, 0], Said::Pong),
        (&[0x90, 3, 0, 3, 1], Said::Subscribed { id: 3, answer: reason(0) }),
        (&[0x90, 4, 0, 3, 1, 0x80], Said::Subscribed { id: 3, answer: reason(0x80) }),
        (&[0x31, 4, 0, 1, b'a', b'x'], Said::Message { id: None, topic: "a".to_owned(), payload: "x".into() }),
        (&[0x32, 5, 0, 1, b'a', 0, 9], Said::Message { id: Some(9), topic: "a".to_owned(), payload: Bytes::new() }),
    ];
    let mut limited = connected(0);
    (limited.window, limited.most_bytes, limited.keep_alive) = (20, 1_000, Some(30));
    (limited.acknowledges, limited.retains) = (false, false);
    let of_v5 = [
        (&[0x20, 3, 0, 0, 0][..], Said::Connected(connected(0))),
        (
            &[0x20, 18, 0, 0, 15, 0x21, 0, 20, 0x27, 0, 0, 3, 0xE8, 0x13, 0, 30, 0x24, 0, 0x25, 0],
            Said::Connected(limited),
        ),
        (&[0x20, 2, 0, 1], Said::Connected(connected(0x84))),
        (&[0x40, 2, 0, 9], Said::Published { id: 9, answer: reason(0) }),
        (&[0x40, 3, 0, 9, 0x10], Said::Published { id: 9, answer: reason(0x10) }),
        (
            &[0x40, 9, 0, 9, 0x87, 5, 0x1F, 0, 2, b'n', b'o'],
            Said::Published { id: 9, answer: Reason { code: 0x87, said: Some("no".to_owned()) } },
        ),
        (&[0xE0, 0], Said::Disconnected(reason(0))),
        (&[0xE0, 1, 0x8E], Said::Disconnected(reason(0x8E))),
        (&[0xD0, 0], Said::Pong),
        (&[0x90, 4, 0, 3, 0, 0x87], Said::Subscribed { id: 3, answer: reason(0x87) }),
        (&[0x3B, 6, 0, 1, b'a', 0, 9, 0], Said::Message { id: Some(9), topic: "a".to_owned(), payload: Bytes::new() }),
    ];
    for (version, packets) in [(Version::V3, &of_v3[..]), (Version::V5, &of_v5)] {
        let mut bytes = BytesMut::new();
        for (packet, said) in packets {
            for (place, byte) in packet.iter().enumerate() {
                assert_eq!(take(version, &mut bytes), Ok(None), "{packet:?} {place}");
                bytes.extend_from_slice(&[*byte]);
            }
            bytes.extend_from_slice(&[0xD0]);
            assert_eq!(take(version, &mut bytes).as_ref(), Ok(&Some(said.clone())), "{packet:?}");
            assert_eq!(bytes.split(), [0xD0][..], "no more is taken");
        }
    }
}

#[test]
fn what_no_broker_may_send_to_us_is_refused() {
    for packet in [
        &[0x00, 0][..],
        &[0xF0, 0],
        // A message of QoS 2, and a subscription.
        &[0x34, 5, 0, 1, b'a', 0, 1],
        &[0x82, 6, 0, 1, 0, 1, b'a', 0],
        &[0xC0, 0],
        // No identifier, or none that there can be.
        &[0x40, 1, 0],
        &[0x40, 2, 0, 0],
        // 268 MB, and a length that does not end.
        &[0x40, 0xFF, 0xFF, 0xFF, 0x7F],
        &[0x40, 0x80, 0x80, 0x80, 0x80],
        &[0x20, 2, 0, 99],
        b"HTTP/1.1 400 Bad Request\r\n",
        b"SSH-2.0-OpenSSH",
    ] {
        for version in [Version::V3, Version::V5] {
            assert_eq!(take(version, &mut BytesMut::from(packet)), Err(NoPacket), "{packet:x?} {version:?}");
        }
    }
}

proptest! {
    /// Whatever comes, it is a packet, or none, or not there yet; nothing panics and nothing is read for ever.
    #[test]
    fn any_bytes_come_to_an_end(
        kind in any::<u8>(),
        body in prop::collection::vec(any::<u8>(), 0..60),
        rest in prop::collection::vec(any::<u8>(), 0..60),
        v5 in any::<bool>(),
    ) {
        let version = if v5 { Version::V5 } else { Version::V3 };
        let mut bytes = BytesMut::from(&[kind, u8::try_from(body.len()).unwrap()][..]);
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&rest);
        let mut before = bytes.len() + 1;
        while let Ok(Some(_)) = take(version, &mut bytes) {
            prop_assert!(bytes.len() < before);
            before = bytes.len();
        }
    }
}
