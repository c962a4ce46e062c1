//! An edge node, held to the specification by a host that listens.

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::reading::points::{self, Builder, Kind, Register};

const START: u64 = 1_795_943_592_000;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(START + ms)
}

fn node(plant: &Plant) -> EdgeNode {
    let settings = SparkplugSettings {
        group_id: "g".to_owned(),
        edge_node_id: None,
        device_id: "{device}".parse().unwrap(),
        metric: "{name}".parse().unwrap(),
        primary_host_id: None,
    };
    EdgeNode::new(settings, "n".to_owned(), plant.clone())
}

/// Devices of one metric or more: `a/x` is the metric x of the device a.
fn table(metrics: &[&str], unit: &str) -> Arc<PointTable> {
    let mut builder = Builder::new("4c", "host", Duration::from_secs(1));
    for metric in metrics {
        let (device, name) = metric.split_once('/').unwrap();
        let unit_of_measurement = Some(unit.to_owned());
        let table = if name.starts_with("bit") { "coil" } else { "input_register" };
        let register = Register::new(name, table, 1, Kind::Float);
        builder.push(&points::Device::new(device, 1, "g", 10_000), &Register { unit_of_measurement, ..register });
    }
    Arc::new(builder.build())
}

fn unit_of(device: &str) -> Unit {
    (device.to_owned(), 1)
}

/// Readings, each as metric, milliseconds and value.
fn post(readings: &[(&str, u64, &str)]) -> Bytes {
    let line = |(metric, ms, value): &(&str, u64, &str)| {
        let (device, name) = metric.split_once('/').unwrap();
        format!(
            "{{\"device\":\"{device}\",\"metric\":\"{name}\",\"time\":\"{}\",\"value\":{value},\"unit_of_measurement\":\"V\",\
             \"interval_ms\":10000}}\n",
            at(*ms).rfc3339()
        )
    };
    readings.iter().map(line).collect::<String>().into()
}

/// What a host makes of the messages; it fails where the specification is broken.
#[derive(Default)]
struct Host {
    next: Option<u8>,
    bd_seq: Option<u64>,
    /// Of each device that is born, its metrics by alias: name and datatype.
    devices: BTreeMap<String, BTreeMap<u64, (String, u32)>>,
    aliases: BTreeMap<u64, (String, String)>,
    /// Metric, when it was read, its value, whether it is of the past.
    readings: Vec<(String, u64, Value, bool)>,
}

impl Host {
    fn take(&mut self, messages: &[Message]) -> Vec<String> {
        messages.iter().map(|message| self.hear(message)).collect()
    }

    fn hear(&mut self, message: &Message) -> String {
        assert!(!message.kept);
        let Payload { timestamp, metrics, seq } = Payload::decode(message.payload.clone()).unwrap();
        assert!(timestamp.is_some());
        let mut levels = message.topic.split('/');
        assert_eq!((levels.next(), levels.next()), (Some("spBv1.0"), Some("g")));
        let kind = levels.next().unwrap();
        assert_eq!(levels.next(), Some("n"));
        let device = levels.next().map(str::to_owned);
        assert_eq!(message.line.is_empty(), kind != "DDATA", "only data can be made smaller");
        if kind == "NDEATH" {
            assert_eq!((seq, metrics.len(), metrics[0].name.as_deref()), (None, 1, Some("bdSeq")));
            let Some(Value::Long(number)) = metrics[0].value else { panic!("{metrics:?}") };
            self.bd_seq = Some(number);
            return format!("NDEATH {number}");
        }
        let seq = u8::try_from(seq.unwrap()).unwrap();
        if kind == "NBIRTH" {
            assert_eq!(seq, 0);
            assert_eq!(metrics[0].value, self.bd_seq.map(Value::Long), "the number of the last will");
            assert_eq!((metrics[1].name.as_deref(), metrics[1].value), (Some(REBIRTH), Some(Value::Boolean(false))));
            assert!(metrics.iter().all(|it| it.alias.is_none() && it.datatype.is_some() && it.timestamp.is_some()));
            self.devices.clear();
        } else {
            assert_eq!(Some(seq), self.next, "no gap");
        }
        self.next = Some(seq.wrapping_add(1));
        let Some(device) = device else { return kind.to_owned() };
        match kind {
            "DBIRTH" => {
                let mut known = BTreeMap::new();
                for metric in metrics {
                    let (name, alias) = (metric.name.unwrap(), metric.alias.unwrap());
                    let owner = self.aliases.entry(alias).or_insert_with(|| (device.clone(), name.clone()));
                    assert_eq!(*owner, (device.clone(), name.clone()), "an alias is of one metric");
                    assert!(metric.timestamp.is_some() && metric.is_historical.is_none());
                    assert_eq!(metric.is_null == Some(true), metric.value.is_none());
                    known.insert(alias, (name, metric.datatype.unwrap()));
                }
                self.devices.insert(device.clone(), known);
            }
            "DDEATH" => {
                assert!(metrics.is_empty() && self.devices.remove(&device).is_some(), "who lives can die");
            }
            "DDATA" => {
                let known = self.devices.get(&device).expect("born before");
                assert!(metrics.is_sorted_by_key(|metric| metric.timestamp), "in order of time");
                for metric in metrics {
                    assert!(metric.name.is_none() && metric.datatype.is_none() && metric.is_null.is_none());
                    let (name, datatype) = &known[&metric.alias.unwrap()];
                    let value = metric.value.unwrap();
                    let of_value = match value {
                        Value::Long(_) => Datatype::Int64,
                        Value::Double(_) => Datatype::Double,
                        Value::Boolean(_) => Datatype::Boolean,
                    };
                    assert_eq!(*datatype, of_value as u32);
                    let at = metric.timestamp.unwrap() - START;
                    self.readings.push((format!("{device}/{name}"), at, value, metric.is_historical == Some(true)));
                }
            }
            other => panic!("{other}"),
        }
        format!("{kind} {device}")
    }

    /// A connection begins.
    fn meets(&mut self, node: &mut EdgeNode, now: Timestamp) -> Vec<String> {
        self.hear(&node.will(now));
        self.take(&node.begin(None, now))
    }
}

#[test]
fn births_come_before_data_and_each_connection_has_the_next_number() {
    let (plant, mut host) = (Plant::default(), Host::default());
    let mut node = node(&plant);
    plant.configure(&table(&["a/x", "a/bit", "b/x"], "V"));
    for (number, born) in [(0, vec!["NBIRTH"]), (1, vec!["NBIRTH", "DBIRTH a"])] {
        assert_eq!(host.meets(&mut node, at(0)), born);
        assert_eq!(host.bd_seq, Some(number));
        let said = host.take(&node.post(&post(&[("a/x", 1, "1.5"), ("b/x", 1, "2.5"), ("a/bit", 1, "true")]), at(2)));
        let births: &[&str] = if number == 0 { &["DBIRTH a", "DBIRTH b"] } else { &["DBIRTH b"] };
        assert_eq!(said, [births, &["DDATA a", "DDATA b"]].concat());
        assert_eq!(host.take(&node.post(&post(&[("a/x", 2, "1.5")]), at(3))), ["DDATA a"]);
        plant.say([(unit_of("a"), true)]);
        assert_eq!(host.take(&node.due(at(4))), [""; 0], "it is born already");
    }
    assert_eq!(host.readings.len(), 8);
    for _ in 0..300 {
        host.meets(&mut node, at(5));
    }
    assert_eq!(host.bd_seq, Some((1 + 300) % 256));
}

#[test]
fn a_connection_for_a_post_begins_with_the_births_that_this_needs() {
    let (plant, mut host) = (Plant::default(), Host::default());
    let mut node = node(&plant);
    plant.configure(&table(&["a/x", "b/x", "c/x"], "V"));
    plant.say([(unit_of("a"), true), (unit_of("b"), false)]);
    let body = post(&[("b/x", 0, "1"), ("a/x", 0, "7")]);
    host.hear(&node.will(at(1)));
    assert_eq!(host.take(&node.begin(Some(&body), at(1))), ["NBIRTH", "DBIRTH a", "DBIRTH b"]);
    assert_eq!(host.take(&node.post(&body, at(1))), ["DDATA b", "DDATA a"], "with the right datatypes at once");
    assert_eq!(host.take(&node.due(at(2))), ["DDEATH b"]);
}

#[test]
fn a_device_is_born_anew_for_what_its_birth_did_not_have() {
    let (plant, mut host) = (Plant::default(), Host::default());
    let mut node = node(&plant);
    host.meets(&mut node, at(0));
    for (reading, born) in [
        (("a/x", 1, "1.5"), true),
        (("a/x", 2, "1.0"), false),
        // Another datatype, and another metric.
        (("a/x", 3, "1"), true),
        (("a/y", 4, "true"), true),
        (("a/x", 5, "-1"), false),
    ] {
        let said = host.take(&node.post(&post(&[reading]), at(9)));
        assert_eq!(said.contains(&"DBIRTH a".to_owned()), born, "{reading:?}");
    }
    plant.configure(&table(&["a/x", "a/bit1", "b/x"], "V"));
    assert_eq!(host.take(&node.due(at(10))), ["DBIRTH a"], "a metric is gone, another one is there");
    let names: Vec<_> = host.devices["a"].values().map(|(name, datatype)| (&**name, *datatype)).collect();
    assert_eq!(names, [("x", 4), ("bit1", 11)]);
    assert_eq!(host.take(&node.due(at(11))), [""; 0]);
    // What waits of before is sent all the same.
    assert_eq!(host.take(&node.post(&post(&[("a/y", 5, "true")]), at(12))), ["DBIRTH a", "DDATA a"]);
    plant.configure(&table(&["b/x"], "V"));
    assert_eq!(host.take(&node.due(at(13))), ["DDEATH a"], "configured no more");
    assert_eq!(host.take(&node.post(&post(&[("a/y", 6, "true")]), at(14))), ["DBIRTH a", "DDATA a"]);
    assert_eq!(host.take(&node.due(at(15))), ["DDEATH a"]);
}

#[test]
fn a_device_that_is_away_dies_and_lives_again_when_it_is_back() {
    let (plant, mut host) = (Plant::default(), Host::default());
    let mut node = node(&plant);
    plant.configure(&table(&["a/x", "b/x"], "V"));
    host.meets(&mut node, at(0));
    host.take(&node.post(&post(&[("a/x", 0, "1.5")]), at(1)));
    for (there, said) in [(true, vec![]), (false, vec!["DDEATH a"]), (false, vec![]), (true, vec!["DBIRTH a"])] {
        plant.say([(unit_of("a"), there)]);
        assert_eq!(host.take(&node.due(at(2))), said, "{there}");
    }
    plant.say([(unit_of("a"), false)]);
    assert_eq!(host.meets(&mut node, at(3)), ["NBIRTH"], "nobody is born who is away");
    assert_eq!(host.take(&node.post(&post(&[("a/x", 2, "1.5")]), at(4))), ["DBIRTH a", "DDATA a"]);
    assert_eq!(host.take(&node.due(at(5))), ["DDEATH a"], "that was all that waited");
}

#[test]
fn a_host_that_asks_gets_every_birth_with_the_number_of_the_connection() {
    let (plant, mut host) = (Plant::default(), Host::default());
    let mut node = node(&plant);
    plant.configure(&table(&["a/x", "a/y"], "V"));
    host.meets(&mut node, at(0));
    host.take(&node.post(&post(&[("a/x", 0, "1.5")]), at(1)));
    let command = |name: &str, value| {
        Payload::new(at(2), None, vec![payload::Metric::of_node(name, Datatype::Boolean, value, at(2))]).bytes()
    };
    node.hear("spBv1.0/g/NCMD/n", &command("Node Control/Reboot", Value::Boolean(true)));
    node.hear("spBv1.0/g/NCMD/other", &command(REBIRTH, Value::Boolean(true)));
    assert!(node.due(at(3)).is_empty());
    node.hear("spBv1.0/g/NCMD/n", &command(REBIRTH, Value::Boolean(true)));
    node.hear("spBv1.0/g/NCMD/n", &command(REBIRTH, Value::Boolean(true)));
    let births = node.due(at(4));
    let born = Payload::decode(births[1].payload.clone()).unwrap().metrics;
    let values: Vec<_> =
        born.iter().map(|it| (it.name.as_deref().unwrap(), it.timestamp.unwrap() - START, it.value)).collect();
    assert_eq!(values, [("x", 0, Some(Value::Double(1.5))), ("y", 4, None)], "as it is now, if that is known");
    assert_eq!(born[0].properties, Some(PropertySet::of_unit("V")));
    assert_eq!(host.take(&births), ["NBIRTH", "DBIRTH a"]);
    assert!(node.due(at(5)).is_empty());
    // A value is not how the metric is for ever.
    node.hear("spBv1.0/g/NCMD/n", &command(REBIRTH, Value::Boolean(true)));
    let born = Payload::decode(node.due(at(10_001))[1].payload.clone()).unwrap().metrics;
    assert!(born.iter().all(|metric| metric.is_null == Some(true)));
}

#[test]
fn a_primary_host_is_there_when_its_newest_word_says_so() {
    let mut node = node(&Plant::default());
    assert!(node.is_heard() && node.filters() == ["spBv1.0/g/NCMD/n"]);
    node.settings.primary_host_id = Some("scada".to_owned());
    assert_eq!(node.filters(), ["spBv1.0/g/NCMD/n", "spBv1.0/STATE/scada"]);
    for (topic, said, is_heard) in [
        ("spBv1.0/STATE/other", "{\"online\":true,\"timestamp\":9}", false),
        ("spBv1.0/STATE/scada", "{\"online\":true,\"timestamp\":5}", true),
        ("spBv1.0/STATE/scada", "ONLINE", true),
        ("spBv1.0/STATE/scada", "{\"online\":false,\"timestamp\":4}", true),
        ("spBv1.0/STATE/scada", "{\"online\":false,\"timestamp\":5}", false),
        ("spBv1.0/STATE/scada", "{\"online\":true,\"timestamp\":6}", true),
    ] {
        node.hear(topic, &Bytes::from(said));
        assert_eq!(node.is_heard(), is_heard, "{topic} {said}");
    }
    node.will(at(0));
    assert!(!node.is_heard(), "another connection has to say so again");
}

#[test]
fn what_was_read_an_interval_before_the_birth_is_historical() {
    let (plant, mut host) = (Plant::default(), Host::default());
    let mut node = node(&plant);
    host.meets(&mut node, at(60_000));
    let readings = [0, 49_999, 50_000, 60_000, 70_000].map(|ms| ("a/x", ms, "1.5"));
    host.take(&node.post(&post(&readings), at(90_000)));
    let command = payload::Metric::of_node(REBIRTH, Datatype::Boolean, Value::Boolean(true), at(0));
    node.hear("spBv1.0/g/NCMD/n", &Payload::new(at(0), None, vec![command]).bytes());
    host.take(&node.due(at(90_000)));
    host.take(&node.post(&post(&[("a/x", 71_000, "1.5")]), at(90_000)));
    let past: Vec<_> = host.readings.iter().map(|(_, at, _, past)| (*at, *past)).collect();
    assert_eq!(
        past,
        [(0, true), (49_999, true), (50_000, false), (60_000, false), (70_000, false), (71_000, false)],
        "a birth that is asked for changes nothing"
    );
}

#[test]
fn much_of_one_device_is_several_messages_in_order() {
    let (plant, mut host) = (Plant::default(), Host::default());
    let mut node = node(&plant);
    host.meets(&mut node, at(0));
    let readings: Vec<_> = (0..2_500).map(|ms| ("a/x", ms, "1.5")).collect();
    let messages = node.post(&post(&readings), at(0));
    assert_eq!(host.take(&messages), ["DBIRTH a", "DDATA a", "DDATA a", "DDATA a"]);
    // Of two units, read side by side.
    host.take(&node.post(&post(&[("a/y", 3, "1.5"), ("a/z", 2, "1.5"), ("a/y", 4, "1.5")]), at(0)));
    host.readings.truncate(2_500);
    assert!(host.readings.iter().map(|(_, at, ..)| *at).eq(0..2_500));
}

/// What may happen.
#[derive(Debug, Clone)]
enum Event {
    Connected,
    Configured(Vec<usize>, bool),
    There(usize, bool),
    Asked,
    Posted(Vec<(usize, usize)>),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        2 => Just(Event::Connected),
        2 => (prop::collection::vec(0..METRICS.len(), 0..6), any::<bool>()).prop_map(|(it, unit)| Event::Configured(it, unit)),
        4 => (0..3_usize, any::<bool>()).prop_map(|(device, there)| Event::There(device, there)),
        2 => Just(Event::Asked),
        9 => prop::collection::vec((0..METRICS.len(), 0..4_usize), 1..8).prop_map(Event::Posted),
    ];
    prop::collection::vec(event, 1..60)
}

const METRICS: [&str; 6] = ["a/x", "a/bit", "b/x", "b/y", "c/x", "c/bit"];

proptest! {
    /// Whatever happens, a host understands everything, misses no number and gets each reading once, in order.
    #[test]
    fn a_host_understands_whatever_happens(events in events()) {
        let (plant, mut host) = (Plant::default(), Host::default());
        let mut node = node(&plant);
        plant.configure(&table(&METRICS, "V"));
        host.meets(&mut node, at(0));
        let mut sent = Vec::new();
        for (ms, event) in (1..).zip(events) {
            let now = at(ms);
            match event {
                Event::Connected => { host.meets(&mut node, now); }
                Event::Configured(mut metrics, volts) => {
                    metrics.sort_unstable();
                    metrics.dedup();
                    let metrics: Vec<_> = metrics.into_iter().map(|it| METRICS[it]).collect();
                    plant.configure(&table(&metrics, if volts { "V" } else { "A" }));
                }
                Event::There(device, there) => plant.say([(unit_of(["a", "b", "c"][device]), there)]),
                Event::Asked => {
                    let command = payload::Metric::of_node(REBIRTH, Datatype::Boolean, Value::Boolean(true), now);
                    node.hear("spBv1.0/g/NCMD/n", &Payload::new(now, None, vec![command]).bytes());
                }
                Event::Posted(mut readings) => {
                    // The values of a metric are of one kind in one post, as those of one point table are.
                    readings.sort_unstable_by_key(|(metric, _)| *metric);
                    readings.dedup_by_key(|(metric, _)| *metric);
                    let readings: Vec<_> = readings.into_iter().map(|(metric, kind)| {
                        let metric = METRICS[metric];
                        let value = if metric.contains("bit") { "true" } else { ["1", "1.5", "-7", "2.5"][kind] };
                        (metric, ms, value)
                    }).collect();
                    host.take(&node.post(&post(&readings), now));
                    sent.extend(readings.iter().map(|(metric, ms, _)| ((*metric).to_owned(), *ms)));
                }
            }
            host.take(&node.due(now));
            let state = plant.now();
            for id in host.devices.keys() {
                prop_assert_ne!(state.answers.get(&unit_of(id)), Some(&false), "nobody lives who is away");
            }
        }
        let got = host.readings.iter().map(|(metric, at, ..)| (metric.clone(), *at));
        prop_assert_eq!(got.collect::<Vec<_>>(), sent);
    }
}
