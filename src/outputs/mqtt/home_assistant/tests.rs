//! Announcements, held to what Home Assistant asks of them.

use proptest::prelude::*;

use super::*;
use crate::outputs::fixtures::network;
use crate::outputs::mqtt::{Messages, Version};
use crate::reading::points::{Builder, Device, Register};
use crate::shard::Shard;

fn settings(payload: Payload) -> MqttSettings {
    MqttSettings {
        network: network("mqtt://broker.example.net", 1883),
        version: Version::V5,
        client_id: None,
        shard: Shard::default(),
        topic: "modbus/{device}/{unit}/{key}".parse().unwrap(),
        payload,
        messages: Messages::Point,
        retain: true,
        availability_topic: None,
        home_assistant: Some("homeassistant".to_owned()),
        sparkplug: None,
    }
}

fn device(address: &str, unit: u8, name: &str) -> Device {
    Device { name: Some(name.to_owned()), ..Device::new(address, unit, "heat", 10_000) }
}

fn register(name: &str, unit: &str, kind: Kind) -> Register {
    Register {
        name: Some(name.to_owned()),
        unit_of_measurement: (!unit.is_empty()).then(|| unit.to_owned()),
        ..Register::new("input_register_30001", "input_register", 30_001, kind)
    }
}

/// Topic and content of what is said of these points, in their order.
fn said(settings: &MqttSettings, points: &[(Device, Register)]) -> Vec<(String, Json)> {
    let mut builder = Builder::new("4c", "host", Duration::from_secs(300));
    for (device, register) in points {
        builder.push(device, register);
    }
    let table = builder.build();
    let mut announcements = Announcements::new(settings.clone(), Identity::new(settings, "4c", "mqtt"));
    announcements.take_over(&table);
    let of = |point: Point<'_>| {
        let message = announcements.of(&topic(&settings.topic, &point).unwrap()).unwrap().clone();
        assert!(message.kept && message.line.is_empty());
        (message.topic, serde_json::from_slice(&message.payload).unwrap())
    };
    table.iter().map(of).collect()
}

/// What Home Assistant asks of a message of discovery: its pattern of topics, its schemas of sensors, which units a class has, which
/// state classes. What is more than it asks, but known of these messages, too.
fn is_taken(topic: &str, config: &Json) -> Result<(), String> {
    let levels: Vec<_> = topic.split('/').collect();
    let [_, component, node_id, object_id, "config"] = levels[..] else { return Err(format!("{topic}: levels")) };
    let fits =
        |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"_-".contains(&it));
    if !fits(object_id) || !fits(node_id) {
        return Err(format!("{node_id} {object_id}: characters"));
    }
    let mut keys = vec!["name", "unique_id", "state_topic", "availability", "availability_mode", "expire_after"];
    keys.extend(["value_template", "device", "origin"]);
    if component == "sensor" {
        keys.extend(["unit_of_measurement", "device_class", "state_class"]);
    }
    let config = config.as_object().ok_or("no object")?;
    if let Some(key) = config.keys().find(|key| !keys.contains(&key.as_str())) {
        return Err(format!("{key}: not of a {component}"));
    }
    let text = |key: &str| config.get(key).and_then(Json::as_str);
    for key in ["name", "unique_id", "state_topic"] {
        text(key).filter(|text| !text.is_empty()).ok_or(format!("{key}: missing"))?;
    }
    let available = config["availability"].as_array().ok_or("availability: no list")?;
    if available.len() != 2 || !available.iter().all(|it| it["topic"].is_string()) {
        return Err("availability: not of agent and device".to_owned());
    }
    if text("availability_mode") != Some("all") {
        return Err("availability_mode: one of them is not enough".to_owned());
    }
    if config["expire_after"].as_u64().is_none_or(|it| it == 0) {
        return Err("expire_after: no positive integer".to_owned());
    }
    let identifiers = config["device"]["identifiers"].as_array().ok_or("device: no identifiers")?;
    if identifiers.is_empty() || !config["device"]["name"].is_string() || !config["origin"]["name"].is_string() {
        return Err("device or origin without a name".to_owned());
    }
    let state_classes: &[&str] = match (text("device_class"), text("unit_of_measurement")) {
        (None, _) | (Some("duration"), Some("d" | "h" | "min" | "s" | "ms")) => {
            &["measurement", "total", "total_increasing"]
        }
        (Some("energy"), Some("J" | "kJ" | "MJ" | "GJ" | "Wh" | "kWh" | "MWh" | "GWh" | "TWh")) => {
            &["total", "total_increasing"]
        }
        (Some("apparent_power"), Some("VA"))
        | (Some("current"), Some("A" | "mA"))
        | (Some("frequency"), Some("Hz" | "kHz" | "MHz" | "GHz"))
        | (Some("illuminance"), Some("lx"))
        | (Some("irradiance"), Some("W/m²"))
        | (Some("power"), Some("W" | "kW" | "MW" | "GW" | "TW"))
        | (Some("pressure"), Some("Pa" | "hPa" | "kPa" | "bar" | "cbar" | "mbar" | "mmHg" | "inHg" | "psi"))
        | (Some("reactive_power"), Some("var"))
        | (Some("speed"), Some("m/s" | "km/h" | "mph" | "kn" | "ft/s"))
        | (Some("temperature"), Some("°C" | "°F" | "K"))
        | (Some("voltage"), Some("V" | "mV"))
        | (Some("volume_flow_rate"), Some("m³/h" | "L/min" | "ft³/min")) => &["measurement"],
        (class, unit) => return Err(format!("{class:?} in {unit:?}")),
    };
    match text("state_class") {
        Some(class) if !state_classes.contains(&class) => Err(format!("{class} of {state_classes:?}")),
        _ => Ok(()),
    }
}

#[test]
fn a_sensor_says_where_its_state_is_and_what_it_is_of() {
    let points = [(device("192.0.2.20:502", 1, "boiler"), register("flow temperature", "°C", Kind::Float))];
    let said = said(&settings(Payload::Json), &points);
    let (topic, config) = &said[0];
    let id = topic.strip_prefix("homeassistant/sensor/pattoo_").and_then(|rest| rest.strip_suffix("/config")).unwrap();
    let (node, id) = id.split_once('/').unwrap();
    assert_eq!(node.len(), 8, "{topic}");
    let agent = "modbus/status/".to_owned() + &Identity::new(&settings(Payload::Json), "4c", "mqtt").client_id;
    assert!(id.starts_with("192_0_2_20_502_1_input_register_30001_"), "{id}");
    let device_id = config["device"]["identifiers"][0].as_str().unwrap();
    assert!(device_id.starts_with("192_0_2_20_502_1_"), "{device_id}");
    assert_eq!(
        config,
        &json!({
            "name": "flow temperature",
            "unique_id": id,
            "state_topic": "modbus/boiler/1/input_register_30001",
            "availability": [{"topic": agent}, {"topic": format!("{agent}/192.0.2.20:502/1")}],
            "availability_mode": "all",
            "expire_after": 60,
            "value_template": "{{ value_json.value }}",
            "unit_of_measurement": "°C",
            "device_class": "temperature",
            "state_class": "measurement",
            "device": {"identifiers": [device_id], "name": "boiler"},
            "origin": {"name": "pattoo_agent_modbustcpd", "sw_version": env!("CARGO_PKG_VERSION")},
        })
    );
    assert_eq!(is_taken(topic, config), Ok(()));
}

#[test]
fn a_bit_is_a_binary_sensor_and_a_value_with_a_meaning_a_text() {
    let bit = Register { ..Register::new("coil_00001", "coil", 1, Kind::Integer) };
    let mode = Register { values: vec![(0, "off".to_owned())], ..register("mode", "°C", Kind::Integer) };
    let points = [(device("a", 1, "a"), bit), (device("a", 1, "a"), mode)];
    for (payload, templates) in [
        (
            Payload::Json,
            [
                json!("{{ 'ON' if value_json.value | float(0) != 0 else 'OFF' }}"),
                json!("{{ value_json.text | default(value_json.value) }}"),
            ],
        ),
        (Payload::Value, [json!("{{ 'ON' if value | float(0) != 0 else 'OFF' }}"), Json::Null]),
    ] {
        let said = said(&settings(payload), &points);
        assert!(
            said[0].0.starts_with("homeassistant/binary_sensor/") && said[1].0.starts_with("homeassistant/sensor/")
        );
        for ((topic, config), template) in said.iter().zip(templates) {
            assert_eq!(config["value_template"], template);
            assert_eq!(is_taken(topic, config), Ok(()));
        }
        // As a number it has a unit, as a text it must not.
        assert_eq!(said[1].1["unit_of_measurement"].is_string(), payload == Payload::Value);
    }
}

#[test]
fn unit_and_kind_say_which_class_a_number_has() {
    for (unit, kind, class, state_class) in [
        ("kWh", Kind::Counter64, Some("energy"), "total_increasing"),
        ("Wh", Kind::Counter, Some("energy"), "total_increasing"),
        ("kWh", Kind::Float, Some("energy"), "total"),
        ("kW", Kind::Float, Some("power"), "measurement"),
        ("W", Kind::Counter, None, "total_increasing"),
        ("h", Kind::Counter, Some("duration"), "total_increasing"),
        ("h", Kind::Integer, Some("duration"), "measurement"),
        ("VA", Kind::Float, Some("apparent_power"), "measurement"),
        ("var", Kind::Float, Some("reactive_power"), "measurement"),
        ("V", Kind::Integer, Some("voltage"), "measurement"),
        ("A", Kind::Float, Some("current"), "measurement"),
        ("Hz", Kind::Float, Some("frequency"), "measurement"),
        ("bar", Kind::Float, Some("pressure"), "measurement"),
        ("m³", Kind::Counter, None, "total_increasing"),
        ("%", Kind::Float, None, "measurement"),
        ("C", Kind::Float, None, "measurement"),
        ("", Kind::Float, None, "measurement"),
    ] {
        let said = said(&settings(Payload::Json), &[(device("a", 1, "a"), register("x", unit, kind))]);
        let (topic, config) = &said[0];
        assert_eq!(is_taken(topic, config), Ok(()), "{unit} {kind:?}");
        assert_eq!(
            (config["device_class"].as_str(), config["state_class"].as_str()),
            (class, Some(state_class)),
            "{unit}"
        );
        assert_eq!(config["unit_of_measurement"].as_str().unwrap_or_default(), unit);
    }
}

#[test]
fn every_class_of_the_table_is_one_that_is_taken() {
    let units: Vec<_> = CLASSES.iter().flat_map(|(_, units)| *units).collect();
    assert_eq!(units.iter().collect::<HashSet<_>>().len(), units.len(), "a unit has one class");
    for unit in units {
        for kind in [Kind::Integer, Kind::Float, Kind::Counter, Kind::Counter64] {
            let said = said(&settings(Payload::Json), &[(device("a", 1, "a"), register("x", unit, kind))]);
            assert_eq!(is_taken(&said[0].0, &said[0].1), Ok(()), "{unit}");
        }
    }
}

#[test]
fn units_of_one_address_are_devices_of_their_own_and_names_change_no_id() {
    let flow = || register("flow", "°C", Kind::Float);
    let points = [(device("gw", 1, "meters"), flow()), (device("gw", 12, "meters"), flow())];
    let two = said(&settings(Payload::Json), &points);
    assert_eq!(two[0].1["device"]["name"], "meters unit 1");
    assert_eq!(two[1].1["device"]["name"], "meters unit 12");
    assert_ne!(two[0].1["device"]["identifiers"], two[1].1["device"]["identifiers"]);
    let renamed = said(&settings(Payload::Json), &[(device("gw", 1, "plant"), register("x", "V", Kind::Float))]);
    assert_eq!(renamed[0].1["device"]["name"], "plant");
    assert_eq!((&renamed[0].0, &renamed[0].1["unique_id"]), (&two[0].0, &two[0].1["unique_id"]));
    // Another agent with the same addresses, elsewhere.
    let other = MqttSettings { client_id: Some("elsewhere".to_owned()), ..settings(Payload::Json) };
    let other = said(&other, &points);
    assert_ne!(other[0].0, two[0].0);
    // A shard more changes no id.
    let shard = MqttSettings { shard: "1/2".parse().unwrap(), ..settings(Payload::Json) };
    assert_eq!(said(&shard, &points)[0].0, two[0].0);
}

proptest! {
    /// Whatever things are called, Home Assistant takes it.
    #[test]
    fn any_names_make_a_message_that_is_taken(
        address in "(?s).{1,20}",
        name in "(?s).{1,20}",
        device_name in "(?s).{1,20}",
        unit in "(?s).{0,8}",
        interval in 1..100_000_000_u64,
    ) {
        let device = Device { interval_ms: interval, ..device(&address, 1, &device_name) };
        let said = said(&settings(Payload::Json), &[(device, register(&name, &unit, Kind::Float))]);
        let (topic, config) = &said[0];
        prop_assert_eq!(is_taken(topic, config), Ok(()));
        prop_assert_eq!(&config["name"], name.as_str());
        let expiry = config["expire_after"].as_u64().unwrap();
        prop_assert!(expiry >= 60 && expiry * 1_000 >= 3 * interval && (expiry == 60 || (expiry - 1) * 1_000 < 3 * interval));
    }
}
