//! Messages to a broker: MQTT 3.1.1 and 5, QoS 1, or Sparkplug B.
//!
//! | file | what it owns |
//! |---|---|
//! | this one | what such an output is configured with |
//! | [`home_assistant`] | what Home Assistant is told of points |
//! | `topic` | topics of points, and what no topic may hold |
//! | [`encode`] | readings → messages |
//! | [`sparkplug`] | the other payload: the agent as an edge node |
//! | [`message`] | messages ↔ the lines of a post |
//! | [`packet`] | packets ↔ bytes |
//! | `flight` | which messages of a post are sent and acknowledged |
//! | `session` | one connection: login, last will, keep alive, posts, what is heard |
//! | [`dialect`] | what is said over connections, and what is heard: posts, which devices are there |
//! | [`deliver`] | a connection that is there when it is needed |
//! | `reason` | what a broker's refusals mean |
//!
//! A post is delivered when the broker has acknowledged each of its messages. One that failed before goes again without those
//! that are acknowledged: at least once, and what was on its way comes twice at most, directly after the connection broke.
//! Messages of one topic keep their order. Version 3.1.1 has no word for a refusal: a broker acknowledges there what it
//! throws away (mosquitto does when its ACL forbids a topic), so 5 is the default.
//!
//! The packets are those of the crate `mqtt-proto`: both versions, a codec and nothing else, so that this folder decides what is
//! acknowledged, when it is sent again and over which connection. Compared with it: `mqtt-protocol-core` (no I/O either, but a
//! session of its own that asserts on what a broker sends, and 15 crates below it), `rumqttc` (an event loop that reconnects by itself and
//! does not say which message was acknowledged, a TLS stack of its own; its successor needs Rust 1.89), `mqtt5-protocol` (1.89),
//! `mqttbytes` and `mqttrs` (not kept since 2021; the latter without version 5).

pub mod deliver;
pub mod dialect;
pub mod encode;
mod flight;
pub mod home_assistant;
pub mod message;
pub mod packet;
mod reason;
mod session;
pub mod sparkplug;
mod topic;

pub use self::topic::{NoTopic, check, check_template};

use self::sparkplug::SparkplugSettings;
use super::network::Network;
use super::template::Template;
use crate::digest::sha256;
use crate::reading::points::Device;
use crate::shard::Shard;

/// Which protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// 3.1.1.
    V3,
    /// 5.
    #[default]
    V5,
}

/// What a message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Payload {
    /// A JSON object: time, value, what the point is.
    #[default]
    Json,
    /// The value as text.
    Value,
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Messages {
    /// One reading.
    #[default]
    Point,
    /// Readings of one topic and instant: a JSON object with a member for each point.
    Device,
}

/// What the configuration says of such an output.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttSettings {
    /// The broker.
    pub network: Network,
    /// The protocol.
    pub version: Version,
    /// As whom we come; without it, the agent id says so.
    pub client_id: Option<String>,
    /// Which of several agents that share the configuration comes.
    pub shard: Shard,
    /// Where the readings of a point go.
    pub topic: Template,
    /// What a message holds.
    pub payload: Payload,
    /// What a message is about.
    pub messages: Messages,
    /// Whether the broker keeps the last message of each topic.
    pub retain: bool,
    /// Where it stands whether this agent is connected; without it, beside the readings.
    pub availability_topic: Option<String>,
    /// Below which topic Home Assistant looks for what is new, if it is told of the points.
    pub home_assistant: Option<String>,
    /// As which edge node it comes, if that is what it is; topic, payload and the like are not ours to choose then.
    pub sparkplug: Option<SparkplugSettings>,
}

/// As whom an output comes to its broker, and where it says that it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The same after a restart, another one for each output of each agent: a broker ends a connection when another one comes
    /// with its client id.
    pub client_id: String,
    /// Holds `online` or `offline`.
    pub availability_topic: String,
    /// Whose points these are: the same for every shard.
    pub series: String,
    /// As which edge node of its group it comes, if it does.
    pub edge_node_id: String,
}

impl Identity {
    /// Of the output `output` of the agent `agent_id`.
    #[must_use]
    pub fn new(settings: &MqttSettings, agent_id: &str, output: &str) -> Self {
        let suffix = settings.shard.suffix();
        let with = |text: &str, separator| {
            if suffix.is_empty() { text.to_owned() } else { format!("{text}{separator}{suffix}") }
        };
        let client_id = settings.client_id.as_ref().map_or_else(
            || {
                // The agent id itself is a secret of the pattoo server. No broker refuses 23 letters and digits.
                let digest = sha256(&[agent_id.as_bytes(), b"\0", output.as_bytes(), b"\0", suffix.as_bytes()]);
                format!("pattoo{:016x}", digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first)))
            },
            |client_id| with(client_id, '_'),
        );
        let availability_topic = settings.availability_topic.as_ref().map_or_else(
            || format!("{}/status/{}", topic::prefix(&settings.topic), topic::clean(&client_id)),
            |topic| with(topic, '/'),
        );
        let series = settings.client_id.clone().unwrap_or_else(|| agent_id.to_owned());
        let edge_node_id = settings.sparkplug.as_ref().and_then(|sparkplug| sparkplug.edge_node_id.as_ref());
        let edge_node_id = edge_node_id.map_or_else(|| topic::clean(&client_id), |id| with(id, '_'));
        Self { client_id, availability_topic, series, edge_node_id }
    }

    /// Where it stands whether a device answers: below where it stands whether we are there.
    #[must_use]
    pub fn device_topic(&self, device: &Device) -> String {
        format!("{}/{}/{}", self.availability_topic, topic::clean(&device.device), device.unit)
    }
}
