//! The output `mqtt` as an edge node of Sparkplug B in the real binary, against a real broker, mosquitto, and a host application that
//! is built without the agent's code; messages are read by `protoc`, too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::HashSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use support::agent::{Agent, HOSTNAME, Home};
use support::destination::kill;
use support::device::{Device, Mode, Table};
use support::judge::{Arrival, Verdict, weigh};
use support::mqtt::{Message, Mosquitto, Subscriber};
use support::proxy::{Proxy, Route};
use support::sparkplug::{Host, Reading};

/// A value that was read so long before a birth is historical: the least that is, since the interval is shorter.
const CURRENT_MS: u64 = 5_000;

fn home_of(address: SocketAddr, device: &Device, keys: &str) -> Home {
    let home = Home::without_pattoo();
    home.write_config(&format!(
        "polling_interval: 100ms\nflush_interval: 20ms\nagent_hostname: {HOSTNAME}\noutputs:\n  - {{type: mqtt, url: \
         'mqtt://{address}', payload: sparkplug, group_id: g, edge_node_id: n, device_id: d, max_backoff: 1s{keys}}}\n\
         polling_groups:\n  - {{group_name: meters, ip_devices: ['{}'], unit: 1, input_registers: [30001-30010], \
         holding_registers: [{{address: 40101, unit_of_measurement: V}}]}}\n",
        device.target()
    ));
    home
}

/// What a host understands of the messages of one life of a broker.
fn host(messages: &[Message]) -> Host {
    let mut host = Host::default();
    for Message { topic, bytes, retained, .. } in messages {
        assert!(!retained, "{topic}: nothing of the node is kept");
        host.hear(topic, bytes);
    }
    host
}

/// The readings of several hosts, one after another. What one has had already may come again to the next, before anything new of
/// its metric.
fn arrivals(hosts: &[Host]) -> Vec<Arrival> {
    let (mut before, mut arrivals) = (HashSet::new(), Vec::new());
    for host in hosts {
        let (mut now, mut fresh) = (HashSet::new(), HashSet::new());
        for Reading { metric, at, value, .. } in &host.values {
            if before.contains(&(metric, *at)) {
                assert!(!fresh.contains(metric), "{metric} {at} comes again behind what is newer");
                continue;
            }
            fresh.insert(metric);
            now.insert((metric, *at));
            let (table, address) = Table::of_key(metric).unwrap();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what a register holds")]
            let word = *value as u16;
            arrivals.push(Arrival { unit: 1, table, address, word, timestamp: *at });
        }
        before.extend(now);
    }
    arrivals
}

fn judged(device: &Device, hosts: impl FnOnce() -> Vec<Host>) -> Verdict {
    let mut verdict = Verdict::default();
    // Read before what was served is: no message can be older than the answer that explains it.
    let hosts = hosts();
    weigh(device, &device.served(), &arrivals(&hosts), &[], &mut verdict);
    verdict
}

fn some_more(agent: &mut Agent, subscriber: &Subscriber, count: usize) {
    let before = host(&subscriber.messages()).values.len();
    agent.until("some more values", || host(&subscriber.messages()).values.len() > before + count);
}

/// The broker is killed again and again, once for longer than a value is how its metric is now.
fn a_broker_that_is_killed(number: u32, keys: &str) {
    if !support::needs(&["mosquitto"]) {
        return;
    }
    let (device, mut broker) = (Device::counting(number), Mosquitto::open());
    let proxy = Proxy::start(Route::InTurn(vec![broker.address()]));
    let mut subscribers = vec![Subscriber::of(&broker)];
    let home = home_of(proxy.address(), &device, keys);
    let mut agent = home.run();
    // Two answers a poll; the last kills come while what waited is on its way.
    for (more, polls) in [(50, 160), (3_000, 20), (20, 20), (5, 20), (1, 20)] {
        some_more(&mut agent, subscribers.last().unwrap(), more);
        broker.kill();
        let before = device.served_count();
        agent.until("polls that go on", || device.served_count() > before + polls);
        broker.run();
        subscribers.push(Subscriber::of(&broker));
        proxy.set(Route::InTurn(vec![broker.address()]));
    }
    some_more(&mut agent, subscribers.last().unwrap(), 50);
    let hosts = || subscribers.iter().map(|subscriber| host(&subscriber.messages())).collect::<Vec<_>>();
    device.set(Mode::Silent);
    agent.until("every reading at the hosts", || judged(&device, hosts).lost.is_empty());
    judged(&device, hosts).assert_complete();
    agent.until("the death of the device", || {
        hosts().last().unwrap().events.last().is_some_and(|event| event == "DDEATH d")
    });
    let mut numbers = Vec::new();
    for host in hosts() {
        assert_eq!(host.births.len(), 1, "{:?}", host.events);
        numbers.push(host.events[0].strip_prefix("NBIRTH ").unwrap().parse::<u8>().unwrap());
        for Reading { at, is_historical, .. } in &host.values {
            assert_eq!(*is_historical, at + CURRENT_MS < host.births[0], "{at}");
        }
    }
    assert_eq!(numbers[0], 0, "the first connection of the process");
    assert!(numbers.is_sorted_by(|a, b| a < b), "each has a number of its own: {numbers:?}");
    let past = hosts().iter().flat_map(|host| &host.values).filter(|value| value.is_historical).count();
    assert!(past > 0, "an outage was long enough");
    agent.stop();
    let last = subscribers.last().unwrap();
    support::until("the last will", || host(&last.messages()).events.last().unwrap().starts_with("NDEATH"));
}

#[test]
fn a_host_gets_everything_in_order_from_a_broker_that_is_killed_again_and_again() {
    a_broker_that_is_killed(1, "");
}

#[test]
fn so_does_one_of_a_broker_of_version_3() {
    a_broker_that_is_killed(2, ", version: 3.1.1");
}

#[test]
fn an_agent_that_is_killed_dies_for_the_host_and_loses_what_was_not_on_disk_yet() {
    if !support::needs(&["mosquitto"]) {
        return;
    }
    let (device, broker) = (Device::counting(3), Mosquitto::open());
    let subscriber = Subscriber::of(&broker);
    let home = home_of(broker.address(), &device, "");
    let (mut kills, mut begun) = (Vec::new(), vec![0]);
    for life in 0..4 {
        let mut agent = home.run();
        some_more(&mut agent, &subscriber, 40 + 7 * life);
        kills.push(kill(&mut agent));
        support::until("the death of the node", || {
            host(&subscriber.messages()).events.last().is_some_and(|event| event == "NDEATH 0")
        });
        begun.push(subscriber.messages().len());
    }
    let mut agent = home.run();
    some_more(&mut agent, &subscriber, 40);
    device.set(Mode::Silent);
    // A host that forgets with each life, so that what is told twice is known by that.
    let hosts = || {
        let messages = subscriber.messages();
        let ends = begun.iter().skip(1).copied().chain([messages.len()]);
        begun.iter().zip(ends).map(|(begin, end)| host(&messages[*begin..end])).collect::<Vec<_>>()
    };
    let missing = || judged(&device, hosts).lost_but(&kills);
    agent.until("every reading that was on disk", || missing().is_empty());
    judged(&device, hosts).assert_true();
    agent.stop();
    for host in hosts() {
        assert_eq!(&host.events[..2], ["NBIRTH 0", "DBIRTH d"]);
    }
}

/// The command is made, and what comes of it is read, by another implementation of the encoding.
#[test]
fn a_host_that_asks_for_births_gets_them_and_protoc_reads_them() {
    if !support::needs(&["mosquitto", "protoc"]) {
        return;
    }
    let (device, broker) = (Device::counting(4), Mosquitto::open());
    let (mut subscriber, home) = (Subscriber::of(&broker), home_of(broker.address(), &device, ""));
    let mut agent = home.run();
    some_more(&mut agent, &subscriber, 30);
    let rebirth =
        "timestamp: 1 metrics { name: \"Node Control/Rebirth\" timestamp: 1 datatype: 11 boolean_value: true }";
    let births = |subscriber: &Subscriber| host(&subscriber.messages()).events;
    assert_eq!(births(&subscriber), ["NBIRTH 0", "DBIRTH d"]);
    subscriber.publish("spBv1.0/g/NCMD/other", &protoc("--encode", rebirth.as_bytes()));
    subscriber.publish("spBv1.0/g/NCMD/n", &protoc("--encode", rebirth.replace("true", "false").as_bytes()));
    subscriber.publish("spBv1.0/g/NCMD/n", b"no message");
    some_more(&mut agent, &subscriber, 30);
    assert_eq!(births(&subscriber).len(), 2, "nobody has asked");
    subscriber.publish("spBv1.0/g/NCMD/n", &protoc("--encode", rebirth.as_bytes()));
    agent.until("births", || births(&subscriber).len() >= 4);
    assert_eq!(births(&subscriber)[2..], ["NBIRTH 0", "DBIRTH d"], "over the same connection");
    some_more(&mut agent, &subscriber, 30);
    device.set(Mode::Silent);
    let hosts = || vec![host(&subscriber.messages())];
    agent.until("every reading at the host", || judged(&device, hosts).lost.is_empty());
    judged(&device, hosts).assert_complete();
    agent.stop();

    let messages = subscriber.messages();
    let read = |kind: &str| {
        let message = messages.iter().rfind(|message| message.topic.contains(kind)).unwrap();
        String::from_utf8(protoc("--decode", &message.bytes)).unwrap()
    };
    let birth = read("/NBIRTH/");
    for part in [
        "  name: \"bdSeq\"\n",
        "  datatype: 4\n  long_value: 0\n",
        "  name: \"Node Control/Rebirth\"\n",
        "  datatype: 11\n  boolean_value: false\n",
        "\nseq: 0\n",
    ] {
        assert!(birth.contains(part), "{birth}");
    }
    let birth = read("/DBIRTH/");
    assert_eq!(birth.matches("  datatype: 10\n").count(), 11, "{birth}");
    // As it is now: a poll is not long ago.
    assert_eq!(birth.matches("  double_value: ").count(), 11, "{birth}");
    assert!(!birth.contains("is_null") && birth.contains("\nseq: 1\n"), "{birth}");
    let unit =
        "  properties {\n    keys: \"engUnit\"\n    values {\n      type: 12\n      string_value: \"V\"\n    }\n  }\n";
    assert_eq!(birth.matches(unit).count(), 1, "{birth}");
    let data = read("/DDATA/");
    assert!(!data.contains("name:") && !data.contains("datatype:") && data.contains("  alias: "), "{data}");
    for message in &messages {
        // No field is there that it does not know, or it would be shown by its number.
        let text = String::from_utf8(protoc("--decode", &message.bytes)).unwrap();
        let mut names = text.lines().map(|line| line.trim_start().split([':', ' ']).next().unwrap());
        assert!(message.bytes == b"no message" || !names.any(|name| name.parse::<u32>().is_ok()), "{text}");
    }
}

/// `protoc` with the messages of the specification.
fn protoc(mode: &str, input: &[u8]) -> Vec<u8> {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let mut command = Command::new("protoc");
    command.args([&format!("{mode}=Payload"), "-I", fixtures, "sparkplug_b.proto"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().stdout
}

/// While its host is away everything waits in the log, and the broker has nobody to give it to.
#[test]
fn a_primary_host_misses_nothing_while_it_is_away() {
    if !support::needs(&["mosquitto"]) {
        return;
    }
    let (device, broker) = (Device::counting(6), Mosquitto::open());
    let mut subscriber = Subscriber::of(&broker);
    let home = home_of(broker.address(), &device, ", primary_host_id: scada");
    let mut agent = home.run();
    let mut at = 0;
    let mut say = |subscriber: &mut Subscriber, online: bool| {
        at += 1;
        let said = format!("{{\"online\":{online},\"timestamp\":{at}}}");
        subscriber.publish_kept("spBv1.0/STATE/scada", said.as_bytes());
    };
    let log = || home.log();
    for life in 0..3 {
        agent.until("word of it", || log().contains("says that the primary host is not there"));
        let before = device.served_count();
        agent.until("polls that go on", || device.served_count() > before + 20);
        let said = host(&subscriber.messages());
        assert_eq!(said.events.iter().filter(|event| event.starts_with("NBIRTH")).count(), life);
        say(&mut subscriber, true);
        some_more(&mut agent, &subscriber, 100);
        say(&mut subscriber, false);
        let number = format!("NDEATH {life}");
        agent.until("the death of the node", || host(&subscriber.messages()).events.contains(&number));
    }
    say(&mut subscriber, true);
    some_more(&mut agent, &subscriber, 100);
    device.set(Mode::Silent);
    // What was on its way when the node died comes again.
    let hosts = || {
        let messages = subscriber.messages();
        let births = messages.iter().enumerate().filter(|(_, message)| message.topic.contains("/NBIRTH/"));
        let births: Vec<_> = births.map(|(place, _)| place).collect();
        let ends = births.iter().skip(1).copied().chain([messages.len()]);
        births.iter().zip(ends).map(|(birth, end)| host(&messages[*birth..end])).collect::<Vec<_>>()
    };
    agent.until("every reading at the host", || judged(&device, hosts).lost.is_empty());
    judged(&device, hosts).assert_complete();
    agent.stop();
}

#[test]
fn a_device_that_is_away_dies_and_is_born_when_it_is_back() {
    if !support::needs(&["mosquitto"]) {
        return;
    }
    let (device, broker) = (Device::counting(5), Mosquitto::open());
    let (subscriber, home) = (Subscriber::of(&broker), home_of(broker.address(), &device, ""));
    let mut agent = home.run();
    let events = || host(&subscriber.messages()).events;
    for life in 1..3 {
        some_more(&mut agent, &subscriber, 30);
        device.stop();
        agent.until("its death", || events().iter().filter(|event| *event == "DDEATH d").count() == life);
        device.start();
    }
    some_more(&mut agent, &subscriber, 30);
    agent.stop();
    assert_eq!(events()[..6], ["NBIRTH 0", "DBIRTH d", "DDEATH d", "DBIRTH d", "DDEATH d", "DBIRTH d"]);
    judged(&device, || vec![host(&subscriber.messages())]).assert_true();
}
