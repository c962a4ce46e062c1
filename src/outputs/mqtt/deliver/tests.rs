//! A connection against a broker that does what a script says, over streams in memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use mqtt_proto::v5::{
    self, Connack, ConnectReasonCode, Disconnect, DisconnectReasonCode, Packet, Puback, PubackReasonCode, Publish,
    Suback, SubscribeReasonCode,
};
use mqtt_proto::{Pid, QoS, QosPid, TopicName, v3};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::timeout;

use super::*;
use crate::net::connect::Server;
use crate::net::error::DialError;
use crate::outputs::mqtt::home_assistant::Announcements;
use crate::outputs::mqtt::sparkplug::SparkplugSettings;
use crate::outputs::mqtt::{Messages, Payload, Version};
use crate::reading::points::{Builder, Device, Kind, PointTable, Register};
use crate::shard::Shard;

const TIMEOUT: Duration = Duration::from_secs(30);

/// The ends of connections that are to be made, in order; without one nobody answers.
#[derive(Clone, Default)]
struct Wires(Rc<RefCell<VecDeque<DuplexStream>>>);

impl Wires {
    /// The broker's end of the next connection.
    fn next(&self) -> Broker {
        // So small that no message fits into it at once.
        let (ours, stream) = duplex(16);
        self.0.borrow_mut().push_back(ours);
        Broker { stream, input: BytesMut::new() }
    }

    fn connection(&self, version: Version) -> Connection<Self> {
        self.telling(MqttSettings { version, ..settings() }, &Plant::default())
    }

    /// What is told of devices is seen in `plant`.
    fn telling(&self, settings: MqttSettings, plant: &Plant) -> Connection<Self> {
        let identity = Identity::new(&settings, "4c", "mqtt");
        let target = Target::new(settings, identity, plant.clone());
        let dialect = target.dialect();
        Connection::new(self.clone(), target.session(&*dialect), dialect, plant.changes())
    }
}

fn settings() -> MqttSettings {
    MqttSettings {
        network: crate::outputs::network::Network {
            url: "mqtt://broker.example.net".to_owned(),
            server: Server { host: "broker.example.net".to_owned(), port: 1883, tls: None, proxy: None },
            base: String::new(),
            username: None,
            password: None,
            token: None,
            headers: Vec::new(),
            timeout: TIMEOUT,
        },
        version: Version::V5,
        client_id: Some("plant".to_owned()),
        shard: Shard::default(),
        topic: "modbus/{device}/{name}".parse().unwrap(),
        payload: Payload::Json,
        messages: Messages::Point,
        retain: true,
        availability_topic: None,
        home_assistant: None,
        sparkplug: None,
    }
}

impl Dial for Wires {
    type Stream = DuplexStream;

    async fn dial(&mut self) -> Result<DuplexStream, ConnectError> {
        let source = std::io::ErrorKind::ConnectionRefused.into();
        let stream = self.0.borrow_mut().pop_front();
        stream.ok_or_else(|| DialError::Unreachable { address: ([192, 0, 2, 1], 1883).into(), source }.into())
    }
}

struct Broker {
    stream: DuplexStream,
    input: BytesMut,
}

/// A message as the broker got it.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    id: u16,
    topic: String,
    payload: String,
    retain: bool,
}

impl Broker {
    async fn packet(&mut self) -> Packet {
        loop {
            let length = match self.input.get(1..3) {
                Some(&[low, _]) if low < 0x80 => 2 + usize::from(low),
                Some(&[low, high]) => 3 + usize::from(low & 0x7F) + (usize::from(high) << 7),
                _ => usize::MAX,
            };
            // A packet of two bytes has nothing behind them.
            let length = if self.input[..] == [0xC0, 0] { 2 } else { length };
            if self.input.len() >= length {
                return Packet::decode(&self.input.split_to(length)).unwrap().unwrap();
            }
            assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0, "the connection ended");
        }
    }

    async fn message(&mut self) -> Got {
        let message = loop {
            match self.packet().await {
                Packet::Publish(message) => break message,
                // Of what was published to it.
                Packet::Puback(_) => {}
                other => panic!("{other:?}"),
            }
        };
        Got {
            id: message.qos_pid.pid().unwrap().value(),
            topic: message.topic_name.to_string(),
            payload: String::from_utf8(message.payload.to_vec()).unwrap(),
            retain: message.retain,
        }
    }

    async fn say(&mut self, packet: impl Into<Packet>) {
        self.stream.write_all(packet.into().encode().unwrap().as_ref()).await.unwrap();
    }

    async fn answer(&mut self, id: u16, reason: PubackReasonCode) {
        self.say(Puback::new(Pid::try_from(id).unwrap(), reason)).await;
    }

    /// Takes the login, with at most `window` messages open, and the word that we are there.
    async fn accept(&mut self, window: u16) {
        let Packet::Connect(connect) = self.packet().await else { panic!("no login") };
        assert_eq!((&*connect.client_id, connect.last_will.unwrap().payload), ("plant", "offline".into()));
        let mut connack = Connack::new(false, ConnectReasonCode::Success);
        connack.properties.receive_max = Some(window);
        self.say(connack).await;
        let online = self.message().await;
        assert_eq!(
            (&*online.topic, &*online.payload, online.retain),
            ("modbus/status/plant", "online", true),
            "before anything else"
        );
        self.answer(online.id, PubackReasonCode::Success).await;
    }

    /// As [`accept`](Self::accept), and the subscription to what begins so.
    async fn listen(&mut self, window: u16, filter: &str) {
        self.subscribed(SubscribeReasonCode::GrantedQoS1, window, filter).await;
    }

    async fn subscribed(&mut self, answer: SubscribeReasonCode, window: u16, filter: &str) {
        let Packet::Connect(_) = self.packet().await else { panic!("no login") };
        let mut connack = Connack::new(false, ConnectReasonCode::Success);
        connack.properties.receive_max = Some(window);
        self.say(connack).await;
        self.grant(answer, filter).await;
        assert_eq!(self.take(1).await, ["online"]);
    }

    async fn grant(&mut self, answer: SubscribeReasonCode, filter: &str) {
        let Packet::Subscribe(asked) = self.packet().await else { panic!("no subscription") };
        assert!(asked.topics[0].0.starts_with(filter), "{asked:?}");
        self.say(Suback::new(asked.pid, vec![answer; asked.topics.len()])).await;
    }

    /// Publishes to the client, which acknowledges that.
    async fn publish(&mut self, topic: &str, payload: Bytes) {
        let id = QosPid::Level1(Pid::try_from(999).unwrap());
        self.say(Publish::new(id, TopicName::try_from(topic).unwrap(), payload)).await;
    }

    /// The topic of a message of QoS 0.
    async fn unacknowledged(&mut self) -> String {
        let Packet::Publish(message) = self.packet().await else { panic!("no message") };
        assert_eq!((message.qos_pid.qos(), message.retain), (QoS::Level0, false));
        message.topic_name.to_string()
    }

    /// Acknowledges the next `count` messages; says what they were.
    async fn take(&mut self, count: usize) -> Vec<String> {
        let mut taken = Vec::new();
        for _ in 0..count {
            let message = self.message().await;
            self.answer(message.id, PubackReasonCode::Success).await;
            taken.push(message.payload);
        }
        taken
    }

    /// Nothing more comes.
    async fn silence(&mut self) {
        let silent = timeout(Duration::from_secs(1), self.stream.read_buf(&mut self.input)).await;
        assert!(silent.is_err(), "{silent:?} {:?}", self.input);
    }

    /// Reads until the connection ends.
    async fn ended(&mut self) {
        while self.stream.read_buf(&mut self.input).await.unwrap() > 0 {}
    }
}

fn post(payloads: impl IntoIterator<Item = usize>) -> Bytes {
    let line = |number| format!("{{\"topic\":\"modbus/a/b\",\"payload\":\"{number}\"}}\n");
    payloads.into_iter().map(line).collect::<String>().into()
}

fn verdict(result: Result<(), MqttError>) -> Verdict {
    result.unwrap_err().verdict()
}

const LATER: Verdict = Verdict::Later { after: None, late: false };

#[tokio::test(start_paused = true)]
async fn a_post_is_delivered_when_all_its_messages_are_acknowledged() {
    let wires = Wires::default();
    let (mut broker, mut connection) = (wires.next(), wires.connection(Version::V5));
    let script = async {
        broker.accept(100).await;
        let messages = [broker.message().await, broker.message().await, broker.message().await];
        assert_eq!(messages.each_ref().map(|message| &*message.payload), ["1", "2", "3"]);
        assert!(messages.iter().all(|message| message.retain && message.topic == "modbus/a/b"));
        for message in messages {
            broker.answer(message.id, PubackReasonCode::NoMatchingSubscribers).await;
        }
        broker.take(1).await
    };
    let client = async {
        connection.post(&post(1..=3)).await.unwrap();
        connection.post(&post([4])).await.unwrap();
    };
    assert_eq!(tokio::join!(script, client).0, ["4"], "over the same connection");
}

#[tokio::test(start_paused = true)]
async fn no_more_messages_are_open_than_the_broker_allows() {
    let wires = Wires::default();
    let (mut broker, mut connection) = (wires.next(), wires.connection(Version::V5));
    let script = async {
        broker.accept(2).await;
        let (first, second) = (broker.message().await, broker.message().await);
        broker.silence().await;
        broker.answer(first.id, PubackReasonCode::Success).await;
        let third = broker.message().await;
        broker.silence().await;
        broker.answer(second.id, PubackReasonCode::Success).await;
        broker.answer(third.id, PubackReasonCode::Success).await;
    };
    let body = post(1..=3);
    tokio::join!(script, connection.post(&body)).1.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_a_break_only_what_is_not_acknowledged_goes_again() {
    let wires = Wires::default();
    let (mut first, mut second, mut connection) = (wires.next(), wires.next(), wires.connection(Version::V5));
    let script = async {
        first.accept(100).await;
        assert_eq!(first.take(2).await, ["1", "2"]);
        first.message().await;
        drop(first);
        second.accept(100).await;
        assert_eq!(second.take(3).await, ["3", "4", "5"]);
        assert_eq!(second.take(5).await, ["1", "2", "3", "4", "5"]);
    };
    let client = async {
        let body = post(1..=5);
        assert_eq!(verdict(connection.post(&body).await), LATER);
        connection.post(&body).await.unwrap();
        // What was delivered is forgotten.
        connection.post(&body).await.unwrap();
    };
    tokio::join!(script, client);
}

#[tokio::test(start_paused = true)]
async fn a_post_that_took_too_long_is_known_again_in_smaller_ones() {
    let wires = Wires::default();
    let (mut first, mut second, mut connection) = (wires.next(), wires.next(), wires.connection(Version::V5));
    let script = async {
        first.accept(100).await;
        first.take(3).await;
        first.ended().await;
        second.accept(100).await;
        assert_eq!(second.take(2).await, ["4", "5"]);
    };
    let client = async {
        let started = Instant::now();
        let late = verdict(connection.post(&post(1..=5)).await);
        assert_eq!((late, started.elapsed()), (Verdict::Later { after: None, late: true }, TIMEOUT));
        connection.post(&post(1..=2)).await.unwrap();
        connection.post(&post(3..=4)).await.unwrap();
        connection.post(&post(5..=5)).await.unwrap();
    };
    tokio::join!(script, client);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_refused_ends_the_post_and_not_the_connection() {
    let wires = Wires::default();
    let (mut broker, mut connection) = (wires.next(), wires.connection(Version::V5));
    let script = async {
        broker.accept(2).await;
        let (first, second) = (broker.message().await, broker.message().await);
        broker.answer(first.id, PubackReasonCode::Success).await;
        let third = broker.message().await;
        broker.answer(second.id, PubackReasonCode::PayloadFormatInvalid).await;
        broker.silence().await;
        broker.answer(third.id, PubackReasonCode::Success).await;
        let again = broker.message().await;
        broker.answer(again.id, PubackReasonCode::NotAuthorized).await;
        let last = broker.message().await;
        broker.answer(last.id, PubackReasonCode::QuotaExceeded).await;
        // The third one was acknowledged before the second one of its topic.
        assert_eq!(broker.take(3).await, ["2", "3", "4"]);
    };
    let client = async {
        assert_eq!(verdict(connection.post(&post(1..=4)).await), Verdict::RefusedPart);
        assert_eq!(verdict(connection.post(&post(1..=2)).await), Verdict::RefusedUs);
        assert_eq!(verdict(connection.post(&post(1..=2)).await), LATER);
        connection.post(&post(1..=4)).await.unwrap();
    };
    tokio::join!(script, client);
}

/// mosquitto 2.0.11 closes the connection behind a refusal; the reason counts, not the end.
#[tokio::test(start_paused = true)]
async fn a_broker_that_refuses_and_closes_has_said_why() {
    let wires = Wires::default();
    let (mut first, mut second, mut connection) = (wires.next(), wires.next(), wires.connection(Version::V5));
    let script = async {
        first.accept(100).await;
        assert_eq!(first.take(1).await, ["1"]);
        let refused = first.message().await;
        first.answer(refused.id, PubackReasonCode::NotAuthorized).await;
        drop(first);
        second.accept(100).await;
        assert_eq!(second.take(8).await.len(), 8);
    };
    let client = async {
        assert_eq!(verdict(connection.post(&post(1..=9)).await), Verdict::RefusedUs);
        connection.post(&post(1..=9)).await.unwrap();
    };
    tokio::join!(script, client);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_refused_says_why() {
    for (reason, verdict) in [
        (ConnectReasonCode::BadUserNameOrPassword, Verdict::RefusedUs),
        (ConnectReasonCode::NotAuthorized, Verdict::RefusedUs),
        (ConnectReasonCode::ClientIdentifierNotValid, Verdict::RefusedUs),
        (ConnectReasonCode::ServerUnavailable, LATER),
        (ConnectReasonCode::QoSNotSupported, Verdict::RefusedUs),
    ] {
        let wires = Wires::default();
        let (mut broker, mut connection) = (wires.next(), wires.connection(Version::V5));
        let script = async {
            broker.packet().await;
            broker.say(Connack::new(false, reason)).await;
            broker.ended().await;
        };
        let body = post([1]);
        assert_eq!(super::tests::verdict(tokio::join!(script, connection.post(&body)).1), verdict, "{reason:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_without_version_5_or_qos_1_is_told_of() {
    let wires = Wires::default();
    let (mut old, mut poor, mut connection) = (wires.next(), wires.next(), wires.connection(Version::V5));
    let script = async {
        old.packet().await;
        old.stream.write_all(&[0x20, 2, 0, 1]).await.unwrap();
        old.ended().await;
        poor.packet().await;
        let mut connack = Connack::new(false, ConnectReasonCode::Success);
        connack.properties.max_qos = Some(mqtt_proto::QoS::Level0);
        poor.say(connack).await;
        poor.ended().await;
    };
    let client = async {
        let failures = [connection.post(&post([1])).await, connection.post(&post([1])).await];
        failures.map(|result| Failure::from(result.unwrap_err()).kind)
    };
    assert_eq!(tokio::join!(script, client).1, ["version", "qos"]);
}

#[tokio::test(start_paused = true)]
async fn version_3_has_the_same_ways_with_other_packets() {
    let wires = Wires::default();
    let (mut broker, mut connection) = (wires.next(), wires.connection(Version::V3));
    let script = async {
        let mut input = [0; 200];
        let mut read = 0;
        while v3::Packet::decode(&input[..read]).unwrap().is_none() {
            read += broker.stream.read(&mut input[read..]).await.unwrap();
        }
        broker.stream.write_all(&[0x20, 2, 0, 0]).await.unwrap();
        for id in 1..=2 {
            read = 0;
            while v3::Packet::decode(&input[..read]).unwrap().is_none() {
                read += broker.stream.read(&mut input[read..]).await.unwrap();
            }
            broker.stream.write_all(&[0x40, 2, 0, id]).await.unwrap();
        }
    };
    let body = post([1]);
    tokio::join!(script, connection.post(&body)).1.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_or_none_at_all_ends_the_connection() {
    for (said, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "transport"),
        (&[0x40, 2, 0, 77], "transport"),
        (&[0xD0, 0], "transport"),
        (&[0x20, 3, 0, 0, 0], "transport"),
        (&[0xE0, 1, 0x8E], "taken_over"),
        (&[0xE0, 0], "server"),
        (&[0x40], "timeout"),
        (&[], "timeout"),
    ] {
        let wires = Wires::default();
        let (mut broker, mut connection) = (wires.next(), wires.connection(Version::V5));
        let script = async {
            broker.accept(1).await;
            broker.message().await;
            // It may be seen to be wrong before all of it is there.
            broker.stream.write_all(said).await.ok();
            broker.ended().await;
        };
        let client = async {
            let failure = Failure::from(connection.post(&post([1])).await.unwrap_err());
            assert_eq!(failure.kind, expected, "{}", failure.text);
            let failure = Failure::from(connection.post(&post([1])).await.unwrap_err());
            assert_eq!(failure.kind, "connect", "{}", failure.text);
        };
        tokio::join!(script, client);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_for_the_broker_is_not_sent() {
    let wires = Wires::default();
    let (mut broker, mut connection) = (wires.next(), wires.connection(Version::V5));
    let script = async {
        broker.packet().await;
        let mut connack = Connack::new(false, ConnectReasonCode::Success);
        connack.properties.max_packet_size = Some(60);
        broker.say(connack).await;
        broker.take(1).await;
        broker.ended().await;
    };
    let body = Bytes::from(format!("{{\"topic\":\"modbus/a/b\",\"payload\":\"{}\"}}\n", "x".repeat(60)));
    assert_eq!(verdict(tokio::join!(script, connection.post(&body)).1), Verdict::TooLarge);
}

/// Points of one device, which is called `a`, with these names and this unit of measurement.
fn table(names: &[&str], unit: &str) -> Arc<PointTable> {
    let mut builder = Builder::new("4c", "host", Duration::from_secs(1));
    let device = Device { name: Some("a".to_owned()), ..Device::new("192.0.2.20", 1, "heat", 1_000) };
    for (number, name) in (30_001..).zip(names) {
        let (name, unit_of_measurement) = (Some((*name).to_owned()), Some(unit.to_owned()));
        let plain = Register::new(&format!("input_register_{number}"), "input_register", number, Kind::Float);
        builder.push(&device, &Register { name, unit_of_measurement, ..plain });
    }
    Arc::new(builder.build())
}

fn home_assistant() -> MqttSettings {
    MqttSettings { home_assistant: Some("ha".to_owned()), ..settings() }
}

#[tokio::test(start_paused = true)]
async fn each_connection_announces_a_point_before_its_first_state() {
    let plant = Plant::default();
    plant.configure(&table(&["b", "c"], "V"));
    let wires = Wires::default();
    let (mut first, mut second) = (wires.next(), wires.next());
    let mut connection = wires.telling(home_assistant(), &plant);
    let is_config = |payload: &str, unit: &str| {
        payload.contains("\"state_topic\":\"modbus/a/b\"")
            && payload.contains(&format!("\"unit_of_measurement\":\"{unit}\""))
    };
    let script = async {
        first.listen(100, "ha/+/pattoo_").await;
        let config = first.message().await;
        assert!(config.topic.starts_with("ha/sensor/pattoo_") && config.retain && is_config(&config.payload, "V"));
        first.answer(config.id, PubackReasonCode::Success).await;
        assert_eq!(first.take(2).await, ["1", "2"]);
        assert_eq!(first.take(1).await, ["3"], "once");
        let taken = first.take(2).await;
        assert!(is_config(&taken[0], "A") && taken[1] == "4", "another table says something else");
        drop(first);
        second.listen(100, "ha/+/pattoo_").await;
        let taken = second.take(2).await;
        assert!(is_config(&taken[0], "A") && taken[1] == "5", "the broker may have forgotten it");
    };
    let client = async {
        connection.post(&post(1..=2)).await.unwrap();
        connection.post(&post([3])).await.unwrap();
        plant.configure(&table(&["b", "c"], "A"));
        connection.post(&post([4])).await.unwrap();
        assert_eq!(verdict(connection.post(&post([5])).await), LATER);
        connection.post(&post([5])).await.unwrap();
    };
    tokio::join!(script, client);
}

#[tokio::test(start_paused = true)]
async fn devices_are_told_of_as_they_come_and_go_and_again_over_the_next_connection() {
    let (wires, plant) = (Wires::default(), Plant::default());
    plant.configure(&table(&["b"], "V"));
    let unit = || ("192.0.2.20".to_owned(), 1);
    let (mut first, mut second) = (wires.next(), wires.next());
    beside(wires.telling(settings(), &plant), |posts| async move {
        let script = async {
            first.accept(1).await;
            first.take(1).await;
            first.silence().await;
            for there in [true, false, true] {
                plant.say([(unit(), there)]);
                let said = first.message().await;
                assert_eq!((&*said.topic, said.retain), ("modbus/status/plant/192.0.2.20/1", true));
                assert_eq!(said.payload, if there { "online" } else { "offline" });
                first.answer(said.id, PubackReasonCode::Success).await;
            }
            plant.say([(unit(), true)]);
            first.silence().await;
            drop(first);
            second.accept(1).await;
            assert_eq!(second.take(1).await, ["online"]);
        };
        tokio::join!(script, ask(&posts, post([1]))).1.unwrap();
    })
    .await;
}

/// As Home Assistant sees it: what is configured no more has an empty message, which takes it away; and nothing else has.
#[tokio::test(start_paused = true)]
async fn what_is_configured_no_more_is_taken_back_even_from_an_earlier_run() {
    let (wires, plant) = (Wires::default(), Plant::default());
    plant.configure(&table(&["b", "c"], "V"));
    let mut announcements = Announcements::new(home_assistant(), Identity::new(&home_assistant(), "4c", "mqtt"));
    announcements.take_over(&table(&["b", "c", "d"], "V"));
    let kept = ["b", "c", "d"].map(|name| announcements.of(&format!("modbus/a/{name}")).unwrap().clone());
    let mut broker = wires.next();
    beside(wires.telling(home_assistant(), &plant), |posts| async move {
        let script = async {
            broker.listen(100, "ha/+/pattoo_").await;
            for message in &kept {
                broker.publish(&message.topic, message.payload.clone()).await;
            }
            let theirs = Bytes::from(String::from_utf8_lossy(&kept[2].payload).replace("status/plant", "status/other"));
            broker.publish("ha/sensor/pattoo_x/of_another_shard/config", theirs).await;
            broker.publish("modbus/status/plant/192.0.2.20/1", "online".into()).await;
            broker.publish("modbus/status/plant/192.0.2.99/1", "online".into()).await;
            let mut gone = Vec::new();
            let mut posted = false;
            // What is on its way when the post comes goes before or behind it.
            while gone.len() < 2 || !posted {
                let message = broker.message().await;
                broker.answer(message.id, PubackReasonCode::Success).await;
                match &*message.payload {
                    "" if message.retain => gone.push(message.topic),
                    "1" => posted = true,
                    payload => assert!(payload.contains("state_topic"), "{payload}"),
                }
            }
            gone.sort_unstable();
            assert_eq!(gone, [&*kept[2].topic, "modbus/status/plant/192.0.2.99/1"]);
            broker.silence().await;
            plant.configure(&table(&["b"], "V"));
            let gone = broker.message().await;
            assert_eq!((&gone.topic, &*gone.payload, gone.retain), (&kept[1].topic, "", true), "by a reload");
            broker.answer(gone.id, PubackReasonCode::Success).await;
            broker.silence().await;
        };
        tokio::join!(script, ask(&posts, post([1]))).1.unwrap();
    })
    .await;
}

/// Both by reloads, over one connection: what was taken back while it was out is said again.
#[tokio::test(start_paused = true)]
async fn a_device_that_is_taken_out_and_back_in_is_told_of_again() {
    let (wires, plant) = (Wires::default(), Plant::default());
    let there = || [(("192.0.2.20".to_owned(), 1), true)];
    plant.configure(&table(&["b"], "V"));
    plant.say(there());
    let mut broker = wires.next();
    beside(wires.telling(home_assistant(), &plant), |posts| async move {
        let script = async {
            const TOPIC: &str = "modbus/status/plant/192.0.2.20/1";
            broker.listen(100, "ha/+/pattoo_").await;
            assert_eq!(broker.take(3).await[1..], ["1", "online"]);
            broker.publish(TOPIC, "online".into()).await;
            assert!(matches!(broker.packet().await, Packet::Puback(_)));
            plant.configure(&PointTable::empty());
            let gone = broker.message().await;
            assert_eq!((&*gone.topic, &*gone.payload), (TOPIC, ""));
            broker.answer(gone.id, PubackReasonCode::Success).await;
            broker.publish(TOPIC, "".into()).await;
            assert!(matches!(broker.packet().await, Packet::Puback(_)));
            plant.configure(&table(&["b"], "V"));
            plant.say(there());
            let back = broker.message().await;
            assert_eq!((&*back.topic, &*back.payload, back.retain), (TOPIC, "online", true));
            broker.answer(back.id, PubackReasonCode::Success).await;
        };
        tokio::join!(script, ask(&posts, post([1]))).1.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_lets_nothing_be_heard_or_said_of_devices_gets_readings_all_the_same() {
    let (wires, plant) = (Wires::default(), Plant::default());
    plant.configure(&table(&["b"], "V"));
    let mut broker = wires.next();
    beside(wires.telling(MqttSettings { retain: false, ..home_assistant() }, &plant), |posts| async move {
        let script = async {
            broker.subscribed(SubscribeReasonCode::NotAuthorized, 100, "ha/+/pattoo_").await;
            assert_eq!(broker.take(2).await[1], "1");
            plant.say([(("192.0.2.20".to_owned(), 1), true)]);
            let said = broker.message().await;
            broker.answer(said.id, PubackReasonCode::NotAuthorized).await;
            plant.say([(("192.0.2.20".to_owned(), 1), false)]);
            broker.silence().await;
            let (taken, result) = tokio::join!(broker.take(1), ask(&posts, post([2])));
            result.unwrap();
            assert_eq!(taken, ["2"]);
        };
        tokio::join!(script, ask(&posts, post([1]))).1.unwrap();
    })
    .await;
}

/// The node is born, then its device, then there is data; a broker that answers the ping has all of it.
#[tokio::test(start_paused = true)]
async fn messages_of_an_edge_node_have_arrived_when_the_ping_behind_them_is_answered() {
    let sparkplug = SparkplugSettings {
        group_id: "g".to_owned(),
        edge_node_id: Some("n".to_owned()),
        device_id: "{device}".parse().unwrap(),
        metric: "{name}".parse().unwrap(),
        primary_host_id: None,
    };
    let settings = MqttSettings { retain: false, sparkplug: Some(sparkplug), ..settings() };
    let wires = Wires::default();
    let (mut first, mut second) = (wires.next(), wires.next());
    let mut connection = wires.telling(settings, &Plant::default());
    let line = "{\"device\":\"d\",\"metric\":\"m\",\"time\":\"2026-11-29T09:13:12.005Z\",\"value\":1.0,\"interval_ms\":1000}\n";
    let body = Bytes::from(line);
    let script = async {
        for (broker, answers) in [(&mut first, false), (&mut second, true)] {
            let Packet::Connect(connect) = broker.packet().await else { panic!("no login") };
            let will = connect.last_will.unwrap();
            assert_eq!((&*will.topic_name, will.retain, will.qos), ("spBv1.0/g/NDEATH/n", false, QoS::Level1));
            broker.say(Connack::new(false, ConnectReasonCode::Success)).await;
            broker.grant(SubscribeReasonCode::GrantedQoS1, "spBv1.0/g/NCMD/n").await;
            assert_eq!(broker.unacknowledged().await, "spBv1.0/g/NBIRTH/n");
            assert_eq!(broker.unacknowledged().await, "spBv1.0/g/DBIRTH/n/d");
            assert_eq!(broker.packet().await, Packet::Pingreq);
            broker.say(Packet::Pingresp).await;
            assert_eq!(broker.unacknowledged().await, "spBv1.0/g/DDATA/n/d");
            assert_eq!(broker.packet().await, Packet::Pingreq);
            if answers {
                broker.say(Packet::Pingresp).await;
            } else {
                broker.ended().await;
            }
        }
    };
    let client = async {
        assert_eq!(verdict(connection.post(&body).await), Verdict::Later { after: None, late: true });
        connection.post(&body).await.unwrap();
    };
    tokio::join!(script, client);
}

/// A birth cannot be made smaller by posting less.
#[tokio::test(start_paused = true)]
async fn a_birth_that_is_too_large_for_the_broker_is_about_us() {
    let (wires, sparkplug) = (
        Wires::default(),
        SparkplugSettings {
            group_id: "g".repeat(100),
            edge_node_id: None,
            device_id: "{device}".parse().unwrap(),
            metric: "{name}".parse().unwrap(),
            primary_host_id: None,
        },
    );
    let settings = MqttSettings { retain: false, sparkplug: Some(sparkplug), ..settings() };
    let (mut broker, mut connection) = (wires.next(), wires.telling(settings, &Plant::default()));
    let script = async {
        broker.packet().await;
        let mut connack = Connack::new(false, ConnectReasonCode::Success);
        connack.properties.max_packet_size = Some(100);
        broker.say(connack).await;
        broker.grant(SubscribeReasonCode::GrantedQoS1, "spBv1.0/g").await;
        broker.ended().await;
    };
    let body = post([1]);
    assert_eq!(verdict(tokio::join!(script, connection.post(&body)).1), Verdict::RefusedUs);
}

/// Runs `connection` beside `script`, which is given what posts.
async fn beside<F: Future>(connection: Connection<Wires>, script: impl FnOnce(mpsc::Sender<Post>) -> F) -> F::Output {
    let (posts, requests) = mpsc::channel(1);
    // The script drops the sender when it is over.
    tokio::join!(connection.run(requests), script(posts)).1
}

async fn ask(posts: &mpsc::Sender<Post>, body: Bytes) -> Result<(), Failure> {
    let (answer, answered) = oneshot::channel();
    posts.send(Post { body, answer }).await.ok().unwrap();
    answered.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn while_nothing_is_posted_the_broker_is_pinged() {
    let wires = Wires::default();
    let mut broker = wires.next();
    beside(wires.connection(Version::V5), |posts| async move {
        let script = async {
            broker.accept(1).await;
            broker.take(1).await;
            broker
        };
        let (mut broker, result) = tokio::join!(script, ask(&posts, post([1])));
        result.unwrap();
        for _ in 0..3 {
            let since = Instant::now();
            assert_eq!(broker.packet().await, Packet::Pingreq);
            assert_eq!(since.elapsed(), KEEP_ALIVE / 2);
            broker.say(Packet::Pingresp).await;
        }
        let (taken, result) = tokio::join!(broker.take(1), ask(&posts, post([2])));
        result.unwrap();
        assert_eq!(taken, ["2"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_while_nothing_is_posted_is_made_again() {
    let wires = Wires::default();
    let (mut first, mut second, mut third) = (wires.next(), wires.next(), wires.next());
    beside(wires.connection(Version::V5), |posts| async move {
        let script = async {
            first.accept(1).await;
            first.take(1).await;
            // It is shut down.
            drop(first);
            second.accept(1).await;
            // It is dead, but nobody says so.
            assert_eq!(second.packet().await, Packet::Pingreq);
            let pinged = Instant::now();
            second.ended().await;
            assert_eq!(pinged.elapsed(), TIMEOUT);
            third.accept(1).await;
            third.say(Disconnect::new(DisconnectReasonCode::ServerShuttingDown)).await;
            third.ended().await;
        };
        let (posts, result) = (&posts, ask(&posts, post([1])));
        let ((), result) = tokio::join!(script, result);
        result.unwrap();
        assert_eq!(ask(posts, post([2])).await.unwrap_err().kind, "connect", "asked for at once");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn while_there_is_no_broker_attempts_become_rare() {
    let wires = Wires::default();
    let connection = wires.connection(Version::V5);
    let late = wires.clone();
    beside(connection, |posts| async move {
        assert_eq!(ask(&posts, post([1])).await.unwrap_err().kind, "connect");
        tokio::time::sleep(Duration::from_secs(600)).await;
        let (mut broker, since) = (late.next(), Instant::now());
        broker.accept(1).await;
        assert!(since.elapsed() <= IDLE_BACKOFF, "{:?}", since.elapsed());
    })
    .await;
}

#[test]
fn reasons_of_the_codec_have_the_numbers_of_the_specification() {
    assert_eq!(v5::PubackReasonCode::NotAuthorized as u8, 0x87);
    assert_eq!(v5::DisconnectReasonCode::SessionTakenOver as u8, 0x8E);
}
