//! The output `mqtt` in the real binary, against a real broker, mosquitto: killed, restarted, with a login, with topics that it
//! forbids; what a subscriber heard against what the device served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use support::agent::{Agent, HOSTNAME, Home};
use support::destination::kill;
use support::device::{Device, Mode, Table};
use support::judge::{Arrival, Verdict, weigh};
use support::mqtt::{Message, Mosquitto, Subscriber, program};
use support::now_ms;
use support::proxy::{Proxy, Route};

/// No more messages are on their way at once.
const WINDOW: usize = 100;

/// An agent with no output but this one.
fn home_of(address: SocketAddr, device: &Device, keys: &str) -> Home {
    let home = Home::without_pattoo();
    configure(&home, &format!("mqtt://{address}"), device, keys);
    home
}

fn configure(home: &Home, url: &str, device: &Device, keys: &str) {
    configure_points(home, url, device, keys, "input_registers: [30001-30010], holding_registers: [40101]");
}

fn configure_points(home: &Home, url: &str, device: &Device, keys: &str, points: &str) {
    home.write_config(&format!(
        "polling_interval: 100ms\nflush_interval: 20ms\nagent_hostname: {HOSTNAME}\noutputs:\n  - {{type: mqtt, url: '{url}', \
         max_backoff: 1s{keys}}}\npolling_groups:\n  - {{group_name: meters, ip_devices: ['{}'], unit: 1, {points}}}\n",
        device.target()
    ));
}

/// What the agent takes for the broker, whose next life has another address.
fn proxy_to(broker: &Mosquitto) -> Proxy {
    Proxy::start(Route::InTurn(vec![broker.address()]))
}

/// What was heard of the device.
#[derive(Default)]
struct Heard {
    /// In order, without repetitions after a break.
    arrivals: Vec<Arrival>,
    /// How many messages came again after each time that the agent came.
    repeated: Vec<usize>,
}

/// Of what subscribers heard, one after another. A message may come again only directly after the agent came anew, before
/// anything new of its topic.
fn heard(messages: &[Message]) -> Heard {
    let mut heard = Heard::default();
    let (mut before, mut now, mut fresh) = (HashSet::new(), HashSet::new(), HashSet::new());
    let about = |topic: &str| topic.starts_with("homeassistant/") || is_device_status(topic);
    let said = messages.iter().filter(|message| !message.retained && !about(&message.topic));
    for message in said {
        let Message { topic, payload, .. } = message;
        if is_status(topic) {
            if payload == "online" {
                before.extend(now.drain());
                fresh.clear();
                heard.repeated.push(0);
            }
            continue;
        }
        if before.contains(&(topic, payload)) {
            assert!(!fresh.contains(topic), "{message:?} comes again behind what is newer");
            *heard.repeated.last_mut().expect("the agent came before it said anything") += 1;
            continue;
        }
        fresh.insert(topic);
        now.insert((topic, payload));
        heard.arrivals.extend(arrivals(topic, payload));
    }
    heard
}

/// Whether it says that the agent is there, or is not.
fn is_status(topic: &str) -> bool {
    topic.rsplit('/').nth(1) == Some("status")
}

/// Whether it says that a device is there, or is not.
fn is_device_status(topic: &str) -> bool {
    topic.rsplit('/').nth(3) == Some("status")
}

/// The readings of a message: of a point or of the device.
fn arrivals(topic: &str, payload: &str) -> Vec<Arrival> {
    let payload: Value = serde_json::from_str(payload).unwrap();
    let at = humantime::parse_rfc3339(payload["time"].as_str().unwrap()).unwrap();
    let at = at.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let arrival = |key: &str, value: &Value| {
        let (table, address) = Table::of_key(key).unwrap();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what a register holds")]
        let word = value.as_f64().unwrap() as u16;
        Arrival { unit: 1, table, address, word, timestamp: u64::try_from(at).unwrap() }
    };
    if let Some(value) = payload.get("value") {
        return vec![arrival(topic.rsplit('/').next().unwrap(), value)];
    }
    let members = payload.as_object().unwrap().iter().filter(|(key, _)| *key != "time");
    members.map(|(key, value)| arrival(key, value)).collect()
}

fn judged(device: &Device, messages: impl FnOnce() -> Vec<Message>) -> Verdict {
    let mut verdict = Verdict::default();
    // Read before what was served is: no message can be older than the answer that explains it.
    let messages = messages();
    weigh(device, &device.served(), &heard(&messages).arrivals, &[], &mut verdict);
    verdict
}

/// Lets what was served arrive; nothing more comes.
fn everything_arrives(agent: &mut Agent, device: &Device, messages: impl Fn() -> Vec<Message>) {
    device.set(Mode::Silent);
    agent.until("every reading at the subscriber", || judged(device, &messages).lost.is_empty());
    judged(device, messages).assert_complete();
}

fn some_more(agent: &mut Agent, subscriber: &Subscriber, count: usize) {
    let before = subscriber.messages().len();
    agent.until("some more messages", || subscriber.messages().len() > before + count);
}

/// What a newcomer is told that the broker has kept.
fn kept(broker: &Mosquitto) -> Vec<Message> {
    let mut newcomer = Subscriber::of(broker);
    newcomer.ping();
    newcomer.messages().into_iter().filter(|message| message.retained).collect()
}

/// Every life of the broker has a subscriber that is there before the agent is.
fn a_broker_that_is_killed(number: u32, keys: &str) {
    if !support::needs(&["mosquitto"]) {
        return;
    }
    let (device, mut broker) = (Device::counting(number), Mosquitto::open());
    let (proxy, mut subscribers) = (proxy_to(&broker), vec![Subscriber::of(&broker)]);
    let home = home_of(proxy.address(), &device, keys);
    let mut agent = home.run();
    // The last ones come while what waited is on its way.
    for more in [50, 200, 20, 5, 1] {
        some_more(&mut agent, subscribers.last().unwrap(), more);
        broker.kill();
        let before = device.served_count();
        agent.until("polls that go on", || device.served_count() > before + 20);
        broker.run();
        subscribers.push(Subscriber::of(&broker));
        proxy.set(Route::InTurn(vec![broker.address()]));
    }
    some_more(&mut agent, subscribers.last().unwrap(), 50);
    let messages = || subscribers.iter().flat_map(Subscriber::messages).collect::<Vec<_>>();
    everything_arrives(&mut agent, &device, messages);
    let Heard { repeated, .. } = heard(&messages());
    assert_eq!(repeated.len(), 6, "the agent says each time that it is there");
    assert!(repeated.iter().all(|&count| count <= WINDOW), "{repeated:?}");
    agent.stop();
    assert!(agent.log().contains("stopped; everything is delivered or on disk"));
    agent_is_offline(&broker);
}

/// Once the connection is closed, the broker says so.
fn agent_is_offline(broker: &Mosquitto) {
    let offline = || kept(broker).iter().any(|it| is_status(&it.topic) && it.payload == "offline");
    support::until("the last will", offline);
}

#[test]
fn a_broker_that_is_killed_again_and_again_gets_everything_in_order() {
    a_broker_that_is_killed(1, "");
}

#[test]
fn so_does_one_of_version_3_with_a_message_for_a_device_and_instant() {
    a_broker_that_is_killed(2, ", version: 3.1.1, messages: device");
}

#[test]
fn an_agent_that_is_killed_says_offline_and_loses_what_was_not_on_disk_yet() {
    if !support::needs(&["mosquitto"]) {
        return;
    }
    let (device, broker) = (Device::counting(3), Mosquitto::open());
    let subscriber = Subscriber::of(&broker);
    let home = home_of(broker.address(), &device, "");
    let mut kills = Vec::new();
    for life in 0..4 {
        let mut agent = home.run();
        some_more(&mut agent, &subscriber, 20 + 7 * life);
        kills.push(kill(&mut agent));
    }
    let (mut agent, started_at) = (home.run(), now_ms());
    let is_last = |heard: &Heard| heard.arrivals.last().is_some_and(|last| last.timestamp > started_at);
    agent.until("the last life", || is_last(&heard(&subscriber.messages())));
    device.set(Mode::Silent);
    let missing = || judged(&device, || subscriber.messages()).lost_but(&kills);
    agent.until("every reading that was on disk", || missing().is_empty());
    agent.stop();
    assert_eq!(missing(), []);
    judged(&device, || subscriber.messages()).assert_true();
    agent_is_offline(&broker);
    let status = subscriber.messages().into_iter().filter(|message| is_status(&message.topic));
    let status: Vec<_> = status.map(|message| message.payload).collect();
    assert_eq!(status, ["online", "offline"].repeat(5));
}

/// What comes while it is away the broker keeps for it, over a restart too.
#[test]
fn a_subscriber_that_is_away_while_the_broker_restarts_misses_nothing() {
    if !support::needs(&["mosquitto"]) {
        return;
    }
    let (device, mut broker) = (Device::counting(4), Mosquitto::open());
    let (proxy, subscriber) = (proxy_to(&broker), Subscriber::lasting(&broker));
    let home = home_of(proxy.address(), &device, "");
    let mut agent = home.run();
    some_more(&mut agent, &subscriber, 50);
    let messages = subscriber.end();
    let before = device.served_count();
    agent.until("polls while it is away", || device.served_count() > before + 20);
    broker.stop();
    agent.until("polls without a broker", || device.served_count() > before + 40);
    broker.run();
    proxy.set(Route::InTurn(vec![broker.address()]));
    agent.until("polls with a new one", || device.served_count() > before + 60);
    let subscriber = Subscriber::lasting(&broker);
    device.set(Mode::Silent);
    let known: HashSet<_> = messages.iter().map(|it| (it.topic.clone(), it.payload.clone())).collect();
    let all = || {
        let later = subscriber.messages().into_iter();
        // The broker tells again what the first one had heard and not confirmed, and what it has kept.
        let later = later.filter(|it| !it.retained && !known.contains(&(it.topic.clone(), it.payload.clone())));
        messages.iter().cloned().chain(later).collect::<Vec<_>>()
    };
    agent.until("every reading", || judged(&device, all).lost.is_empty());
    judged(&device, all).assert_complete();
    agent.stop();
}

#[test]
fn the_last_value_of_each_point_is_there_for_a_newcomer_unless_that_is_not_wanted() {
    if !support::needs(&["mosquitto"]) {
        return;
    }
    for (number, keys, count) in [(5, "", 11), (6, ", retain: false, payload: value, topic: 'modbus/a/{name}'", 0)] {
        let (device, broker) = (Device::counting(number), Mosquitto::open());
        let subscriber = Subscriber::of(&broker);
        let home = home_of(broker.address(), &device, keys);
        let mut agent = home.run();
        some_more(&mut agent, &subscriber, 50);
        agent.stop();
        agent_is_offline(&broker);
        let mut kept = kept(&broker);
        assert_eq!(kept.iter().filter(|message| is_device_status(&message.topic)).count(), 1);
        kept.retain(|message| !is_status(&message.topic) && !is_device_status(&message.topic));
        assert_eq!(kept.len(), count);
        for message in kept {
            let last = subscriber.messages().into_iter().rev().find(|it| it.topic == message.topic);
            assert_eq!(last.unwrap().payload, message.payload);
        }
        if count == 0 {
            let heard = subscriber.messages().into_iter();
            let heard = heard.filter(|it| !is_status(&it.topic) && !is_device_status(&it.topic));
            let numbers: Vec<f64> = heard.map(|it| it.payload.parse().unwrap()).collect();
            assert!(numbers.len() > 40, "{numbers:?}");
        }
    }
}

/// The same client comes anew; the broker must not be told last that the old connection has ended.
#[test]
fn a_reload_costs_nothing_and_leaves_the_agent_online() {
    if !support::needs(&["mosquitto"]) {
        return;
    }
    let (device, broker) = (Device::counting(10), Mosquitto::open());
    let subscriber = Subscriber::of(&broker);
    let home = home_of(broker.address(), &device, "");
    let mut agent = home.run();
    for life in 0..5 {
        some_more(&mut agent, &subscriber, 30);
        let prefix = format!("modbus/life{life}/");
        let url = format!("mqtt://{}", broker.address());
        configure(&home, &url, &device, &format!(", topic: '{prefix}{{name}}', availability_topic: modbus/status/x"));
        agent.sighup();
        let begun = || subscriber.messages().iter().any(|message| message.topic.starts_with(&prefix));
        agent.until("messages to other topics", begun);
    }
    let presence = kept(&broker).into_iter().find(|message| message.topic == "modbus/status/x");
    assert_eq!(presence.unwrap().payload, "online");
    everything_arrives(&mut agent, &device, || subscriber.messages());
    agent.stop();
}

/// No reading comes that would be posted: whoever asks for the agent's presence is not to wait for one.
#[test]
fn a_reload_that_nothing_is_posted_after_leaves_the_agent_online_too() {
    if !support::needs(&["mosquitto"]) {
        return;
    }
    let (device, broker) = (Device::counting(14), Mosquitto::open());
    let subscriber = Subscriber::of(&broker);
    let home = home_of(broker.address(), &device, "");
    let mut agent = home.run();
    some_more(&mut agent, &subscriber, 30);
    everything_arrives(&mut agent, &device, || subscriber.messages());
    let url = format!("mqtt://{}", broker.address());
    configure(&home, &url, &device, ", availability_topic: modbus/status/y");
    agent.sighup();
    let presence = || kept(&broker).into_iter().find(|message| message.topic == "modbus/status/y");
    agent.until("the agent's presence", || presence().is_some_and(|message| message.payload == "online"));
    agent.stop();
}

/// What Home Assistant would find: each point before its first state, and again where the broker has forgotten it.
#[test]
fn points_are_announced_before_their_first_state_over_each_connection() {
    if !support::needs(&["mosquitto"]) {
        return;
    }
    let (device, mut broker) = (Device::counting(9), Mosquitto::open());
    let (proxy, mut subscribers) = (proxy_to(&broker), vec![Subscriber::of(&broker)]);
    let home = home_of(proxy.address(), &device, ", home_assistant: true, retain: false");
    let mut agent = home.run();
    for life in 0..2 {
        if life > 0 {
            broker.kill();
            broker.run();
            subscribers.push(Subscriber::of(&broker));
            proxy.set(Route::InTurn(vec![broker.address()]));
        }
        let subscriber = subscribers.last().unwrap();
        some_more(&mut agent, subscriber, 50);
        let mut announced = HashSet::new();
        let mut states = HashSet::new();
        let about_presence = |topic: &str| is_status(topic) || is_device_status(topic);
        for message in subscriber.messages().iter().filter(|message| !about_presence(&message.topic)) {
            if message.topic.starts_with("homeassistant/sensor/") {
                let config: Value = serde_json::from_str(&message.payload).unwrap();
                assert_eq!(message.topic.split('/').nth(3), config["unique_id"].as_str());
                assert!(announced.insert(config["state_topic"].as_str().unwrap().to_owned()), "once over a connection");
                let presence = subscriber.messages().into_iter().find(|it| is_status(&it.topic)).unwrap();
                let of_device = format!("{}/{}/1", presence.topic, device.target());
                assert_eq!(
                    config["availability"],
                    serde_json::json!([{"topic": presence.topic}, {"topic": of_device}])
                );
            } else {
                assert!(announced.contains(&message.topic), "{message:?}");
                states.insert(message.topic.clone());
            }
        }
        assert_eq!((announced.len(), states.len()), (11, 11));
        let kept = kept(&broker).into_iter().filter(|message| !about_presence(&message.topic));
        let kept: HashSet<_> = kept.map(|message| message.topic).collect();
        assert!(kept.len() == 11 && kept.iter().all(|topic| topic.starts_with("homeassistant/sensor/")), "{kept:?}");
    }
    everything_arrives(&mut agent, &device, || subscribers.iter().flat_map(Subscriber::messages).collect());
    agent.stop();
}

/// By a reload, while the agent is not running, and with a whole device: Home Assistant keeps what is configured, and nothing else.
#[test]
fn points_that_are_taken_out_are_taken_back_from_home_assistant() {
    if !support::needs(&["mosquitto"]) {
        return;
    }
    let (device, other, broker) = (Device::counting(11), Device::counting(12), Mosquitto::open());
    let url = format!("mqtt://{}", broker.address());
    let keys = ", home_assistant: true, topic: 'modbus/{unit}/{key}'";
    let home = home_of(broker.address(), &device, keys);
    let kept = |part: &str| kept(&broker).iter().filter(|message| message.topic.contains(part)).count();
    // Somebody else's, which nobody takes away.
    let mut foreign = Subscriber::of(&broker);
    foreign.publish_kept("homeassistant/sensor/other/x/config", b"{}");
    let mut agent = home.run();
    agent.until("every point", || kept("_input_register_30") == 10);
    for count in [5, 3] {
        configure_points(&home, &url, &device, keys, &format!("input_registers: [30001-3000{count}]"));
        agent.sighup();
        let are_left = || (kept("_input_register_30"), kept("_holding_register_")) == (count, 0);
        agent.until("what is left", are_left);
    }
    agent.stop();
    configure_points(&home, &url, &device, keys, "input_registers: [30003, 30006]");
    let mut agent = home.run();
    agent.until("what is configured now", || {
        (kept("_input_register_30"), kept("_input_register_30003_"), kept("_input_register_30006_")) == (2, 1, 1)
    });
    let is_there = |device: &Device| kept(&format!("/{}/1", device.target()));
    agent.until("the device", || is_there(&device) == 1);
    configure_points(&home, &url, &other, keys, "input_registers: [30003]");
    agent.sighup();
    agent.until("the other device", || (is_there(&device), is_there(&other), kept("_input_register_30")) == (0, 1, 1));
    agent.stop();
    assert_eq!(kept("homeassistant/sensor/other/x/config"), 1);
}

#[test]
fn a_device_that_is_away_is_offline_until_it_is_back_and_costs_no_reading() {
    if !support::needs(&["mosquitto"]) {
        return;
    }
    let (device, broker) = (Device::counting(13), Mosquitto::open());
    let (subscriber, home) = (Subscriber::of(&broker), home_of(broker.address(), &device, ""));
    let mut agent = home.run();
    let said = || {
        let said = subscriber.messages().into_iter().filter(|message| is_device_status(&message.topic));
        said.map(|message| message.payload).collect::<Vec<_>>()
    };
    for life in 1..3 {
        some_more(&mut agent, &subscriber, 30);
        device.stop();
        agent.until("its absence", || said().len() == 2 * life);
        device.start();
        agent.until("its return", || said().len() == 2 * life + 1);
    }
    assert_eq!(said(), ["online", "offline", "online", "offline", "online"]);
    everything_arrives(&mut agent, &device, || subscriber.messages());
    agent.stop();
}

/// The password is wrong, then the topics are forbidden: nothing is dropped, a person is told, and a reload mends it; over TLS.
#[test]
fn what_is_about_us_is_told_and_costs_nothing_but_time() {
    if !support::needs(&["mosquitto", "mosquitto_passwd"]) {
        return;
    }
    let certificate = rcgen::generate_simple_self_signed(["broker.example.net".to_owned()]).unwrap();
    let broker = Mosquitto::start(
        "password_file DIR/passwords\nacl_file DIR/acl\nallow_anonymous false\ncertfile DIR/cert.pem\nkeyfile DIR/key.pem",
        |directory| {
            let passwords = directory.join("passwords");
            for (create, user) in [(true, "plant"), (false, "watch")] {
                let mut command = Command::new(program("mosquitto_passwd"));
                command.arg("-b").args(create.then_some("-c")).arg(&passwords).args([user, "geheim"]);
                assert!(command.status().unwrap().success());
            }
            fs::write(directory.join("acl"), "user plant\ntopic write modbus/status/#\n").unwrap();
            fs::write(directory.join("cert.pem"), certificate.cert.pem()).unwrap();
            fs::write(directory.join("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
        },
    );
    let (device, home) = (Device::counting(7), Home::without_pattoo());
    let url = format!("mqtts://{}", broker.address());
    fs::write(home.config_dir().join("ca.pem"), certificate.cert.pem()).unwrap();
    let secret = home.config_dir().join("mqtt.password");
    fs::write(&secret, "falsch\n").unwrap();
    let keys = ", username: plant, password_file: mqtt.password, tls: {ca: ca.pem, server_name: broker.example.net}";
    configure(&home, &url, &device, keys);
    let mut agent = home.run();
    agent.until("the login to be told", || home.log().contains("refused the login with reason 0x87"));
    fs::write(&secret, "geheim\n").unwrap();
    agent.sighup();
    let forbidden = format!("refused a message to modbus/{}/", device.target());
    agent.until("the topic to be told", || home.log().contains(&forbidden));
    let before = device.served_count();
    agent.until("polls that go on", || device.served_count() > before + 10);
    assert!(!home.log().contains("geheim") && !home.log().contains("falsch"), "no secret in the log");
    assert_eq!(home.quarantined(), 0);

    // Another broker takes what this one would not.
    let broker = Mosquitto::open();
    let subscriber = Subscriber::of(&broker);
    configure(&home, &format!("mqtt://{}", broker.address()), &device, "");
    agent.sighup();
    everything_arrives(&mut agent, &device, || subscriber.messages());
    agent.stop();
}

#[test]
fn check_asks_the_broker_whether_it_takes_the_login_and_disturbs_nobody() {
    if !support::needs(&["mosquitto"]) {
        return;
    }
    let (device, mut broker) = (Device::counting(8), Mosquitto::open());
    let home = home_of(broker.address(), &device, ", client_id: plant");
    let (subscriber, mut agent) = (Subscriber::of(&broker), home.run());
    some_more(&mut agent, &subscriber, 20);
    let check = |code: i32, said: &str| {
        let finished = home.output(&["check", "--connect", "--config_dir", home.config_dir().to_str().unwrap()]);
        let output = finished.stdout.clone() + &finished.stderr;
        assert_eq!(finished.code, Some(code), "{output}");
        assert!(output.contains("output mqtt, mqtt://") && output.contains(said), "{output}");
    };
    check(0, ": takes the login");
    some_more(&mut agent, &subscriber, 20);
    let status = subscriber.messages().into_iter().filter(|message| message.topic == "modbus/status/plant");
    assert_eq!(status.map(|message| message.payload).collect::<Vec<_>>(), ["online"]);
    everything_arrives(&mut agent, &device, || subscriber.messages());
    agent.stop();
    broker.kill();
    check(1, "Connection refused");
}
