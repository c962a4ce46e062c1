//! Packets ↔ bytes: the few that a client sends and gets that publishes and hears little.
//!
//! Of both versions one form comes out: reasons are those of version 5. What is no such packet ends the connection, and so does
//! one of more than [`MOST_BYTES`], which nothing that concerns us needs.

use bytes::{Buf as _, Bytes, BytesMut};
use mqtt_proto::{Pid, QoS, QosPid, TopicFilter, TopicName, v3, v5};

use super::Version;
use super::message::Message;

/// A broker that says more than this at once is none.
pub const MOST_BYTES: usize = 64 << 10;

/// The reason of a CONNACK of version 3.1.1, as version 5 says it (3.2.2 of both).
const REASONS: [u8; 6] =
    [0, reason::VERSION, reason::CLIENT_ID, reason::UNAVAILABLE, reason::LOGIN, reason::NOT_AUTHORIZED];

/// What a broker that speaks no version 5 answers to it (3.1.1, clause 3.1.2).
const OTHER_VERSION: [u8; 4] = [0x20, 2, 0, 1];

/// How the packets begin that we may get: CONNACK, PUBACK, SUBACK, PINGRESP, DISCONNECT, and PUBLISH of QoS 0 and 1.
const FIRST_BYTES: [u8; 11] = [0x20, 0x40, 0x90, 0xD0, 0xE0, 0x30, 0x31, 0x32, 0x33, 0x3A, 0x3B];

/// Reasons that have consequences here.
pub mod reason {
    /// Nothing is wrong.
    pub const SUCCESS: u8 = 0;
    /// Accepted, but nobody gets it.
    pub const NO_SUBSCRIBERS: u8 = 0x10;
    /// No, and nothing more; reasons from here on are refusals.
    pub const UNSPECIFIED: u8 = 0x80;
    /// It speaks another version.
    pub const VERSION: u8 = 0x84;
    /// It does not like the client id.
    pub const CLIENT_ID: u8 = 0x85;
    /// Wrong user name or password.
    pub const LOGIN: u8 = 0x86;
    /// Not allowed.
    pub const NOT_AUTHORIZED: u8 = 0x87;
    /// It cannot serve now.
    pub const UNAVAILABLE: u8 = 0x88;
}

/// As whom we come.
#[derive(Debug, Clone)]
pub struct Login {
    /// The client id.
    pub client_id: String,
    /// The user name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Bytes>,
    /// What is published when we are gone.
    pub will: Option<Message>,
    /// In seconds.
    pub keep_alive: u16,
}

/// What a broker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The answer to the login.
    Connected(Connected),
    /// The answer to a message.
    Published {
        /// Of which.
        id: u16,
        /// What became of it.
        answer: Reason,
    },
    /// The answer to a subscription.
    Subscribed {
        /// Of which.
        id: u16,
        /// What became of it.
        answer: Reason,
    },
    /// A message of somebody, or of us.
    Message {
        /// What is to be acknowledged, if anything is.
        id: Option<u16>,
        /// Where it was published.
        topic: String,
        /// What it holds.
        payload: Bytes,
    },
    /// The answer to a ping.
    Pong,
    /// It ends the connection.
    Disconnected(Reason),
}

/// The answer to a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Whether we are in.
    pub answer: Reason,
    /// So many messages may wait for their acknowledgement.
    pub window: u16,
    /// No larger packet may be sent.
    pub most_bytes: usize,
    /// In seconds, if not what we said.
    pub keep_alive: Option<u16>,
    /// Whether it takes messages of QoS 1.
    pub acknowledges: bool,
    /// Whether it keeps messages.
    pub retains: bool,
}

/// A reason, as version 5 numbers them, and the broker's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The number.
    pub code: u8,
    /// More, if it says more.
    pub said: Option<String>,
}

impl Reason {
    fn new(code: u8, said: Option<&str>) -> Self {
        Self { code, said: said.map(str::to_owned) }
    }
}

/// What is no packet that a client like this one gets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what it sends is not what MQTT has at this point")]
pub struct NoPacket;

/// Appends the packet that begins a connection; `None` if there is no such packet.
#[must_use]
pub fn connect(version: Version, login: &Login, to: &mut BytesMut) -> Option<()> {
    let Login { client_id, username, password, will, keep_alive } = login.clone();
    let will = match will {
        Some(will) => Some((TopicName::try_from(will.topic.as_str()).ok()?, will.payload, will.kept)),
        None => None,
    };
    let packet = match version {
        Version::V3 => {
            let mut connect = v3::Connect::new(client_id.into(), keep_alive);
            connect.last_will = will
                .map(|(topic, said, retain)| v3::LastWill { retain, ..v3::LastWill::new(QoS::Level1, topic, said) });
            (connect.username, connect.password) = (username.map(Into::into), password);
            v3::Packet::from(connect).encode().ok()?
        }
        Version::V5 => {
            let mut connect = v5::Connect::new(client_id.into(), keep_alive);
            connect.last_will = will
                .map(|(topic, said, retain)| v5::LastWill { retain, ..v5::LastWill::new(QoS::Level1, topic, said) });
            (connect.username, connect.password) = (username.map(Into::into), password);
            // So that a broker does not send what would end the connection here.
            connect.properties.max_packet_size = u32::try_from(MOST_BYTES).ok();
            v5::Packet::from(connect).encode().ok()?
        }
    };
    to.extend_from_slice(packet.as_ref());
    Some(())
}

/// Appends a message, of QoS 1 if it has an identifier, else of QoS 0; says how many bytes it takes, or `None` if there is no such
/// packet.
#[must_use]
pub fn publish(version: Version, id: Option<u16>, message: &Message, retain: bool, to: &mut BytesMut) -> Option<usize> {
    let topic = TopicName::try_from(message.topic.as_str()).ok()?;
    let id = match id {
        Some(id) => QosPid::Level1(Pid::try_from(id).ok()?),
        None => QosPid::Level0,
    };
    let payload = message.payload.clone();
    let packet = match version {
        Version::V3 => {
            v3::Packet::from(v3::Publish { retain, ..v3::Publish::new(id, topic, payload) }).encode().ok()?
        }
        Version::V5 => {
            v5::Packet::from(v5::Publish { retain, ..v5::Publish::new(id, topic, payload) }).encode().ok()?
        }
    };
    to.extend_from_slice(packet.as_ref());
    Some(packet.as_ref().len())
}

/// Appends a subscription of QoS 1 to what fits one of these; `None` if there is no such packet.
#[must_use]
pub fn subscribe(version: Version, id: u16, filters: &[String], to: &mut BytesMut) -> Option<()> {
    let id = Pid::try_from(id).ok()?;
    let filters = filters.iter().map(|filter| TopicFilter::try_from(filter.as_str()).ok());
    let filters = filters.collect::<Option<Vec<_>>>()?;
    let packet = match version {
        Version::V3 => {
            let filters = filters.into_iter().map(|filter| (filter, QoS::Level1)).collect();
            v3::Packet::from(v3::Subscribe::new(id, filters)).encode().ok()?
        }
        Version::V5 => {
            let with = |filter| (filter, v5::SubscriptionOptions::new(QoS::Level1));
            v5::Packet::from(v5::Subscribe::new(id, filters.into_iter().map(with).collect())).encode().ok()?
        }
    };
    to.extend_from_slice(packet.as_ref());
    Some(())
}

/// Appends the acknowledgement of a message that came as the packet `id`.
pub fn acknowledge(id: u16, to: &mut BytesMut) {
    // Both versions write it so where all is well.
    to.extend_from_slice(&[0x40, 2]);
    to.extend_from_slice(&id.to_be_bytes());
}

/// Appends a ping.
pub fn ping(to: &mut BytesMut) {
    to.extend_from_slice(&[0xC0, 0]);
}

/// Takes the first packet from `bytes`, if it is there as a whole.
///
/// # Errors
/// When it is none that we should get.
pub fn take(version: Version, bytes: &mut BytesMut) -> Result<Option<Said>, NoPacket> {
    let Some(length) = length(bytes)? else { return Ok(None) };
    if bytes.len() < length {
        return Ok(None);
    }
    let packet = bytes.split_to(length);
    match version {
        Version::V5 if packet[..] == OTHER_VERSION => read_v3(&packet),
        Version::V5 => read_v5(&packet),
        Version::V3 => read_v3(&packet),
    }
    .map(Some)
    .ok_or(NoPacket)
}

/// How long the packet is that begins there (3.1.1, clause 2.2), if that is there.
fn length(bytes: &[u8]) -> Result<Option<usize>, NoPacket> {
    // A server of another protocol is known by its first byte, and not waited for.
    if bytes.first().is_some_and(|first| !FIRST_BYTES.contains(first)) {
        return Err(NoPacket);
    }
    let mut length = 0;
    for (place, &byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            let length = 1 + place + 1 + length;
            return if length <= MOST_BYTES { Ok(Some(length)) } else { Err(NoPacket) };
        }
    }
    // A length has four bytes at most (3.1.1, clause 2.2.3): behind a fourth that wants another one, there is no
    // packet.
    if bytes.len() > 4 { Err(NoPacket) } else { Ok(None) }
}

fn read_v3(packet: &[u8]) -> Option<Said> {
    Some(match v3::Packet::decode(packet).ok()?? {
        v3::Packet::Connack(connack) => Said::Connected(Connected {
            answer: Reason::new(*REASONS.get(connack.code as usize)?, None),
            window: u16::MAX,
            most_bytes: usize::MAX,
            keep_alive: None,
            acknowledges: true,
            retains: true,
        }),
        v3::Packet::Puback(id) => Said::Published { id: id.value(), answer: Reason::new(reason::SUCCESS, None) },
        v3::Packet::Suback(v3::Suback { pid, topics }) => {
            let refused = topics.contains(&v3::SubscribeReturnCode::Failure);
            let code = if refused { reason::UNSPECIFIED } else { reason::SUCCESS };
            Said::Subscribed { id: pid.value(), answer: Reason::new(code, None) }
        }
        v3::Packet::Publish(message) => {
            let id = message.qos_pid.pid().map(Pid::value);
            Said::Message { id, topic: message.topic_name.to_string(), payload: message.payload }
        }
        v3::Packet::Pingresp => Said::Pong,
        _ => return None,
    })
}

fn read_v5(packet: &[u8]) -> Option<Said> {
    Some(match v5::Packet::decode(packet).ok()?? {
        v5::Packet::Connack(v5::Connack { reason_code, properties, .. }) => Said::Connected(Connected {
            answer: Reason::new(reason_code as u8, properties.reason_string.as_deref()),
            // 0 is a protocol error (MQTT 5, 3.2.2.3.3); taken as it is, nothing could ever be sent.
            window: properties.receive_max.unwrap_or(u16::MAX).max(1),
            most_bytes: properties.max_packet_size.and_then(|most| most.try_into().ok()).unwrap_or(usize::MAX),
            keep_alive: properties.server_keep_alive,
            acknowledges: properties.max_qos != Some(QoS::Level0),
            retains: properties.retain_available != Some(false),
        }),
        v5::Packet::Puback(v5::Puback { pid, reason_code, properties }) => Said::Published {
            id: pid.value(),
            answer: Reason::new(reason_code as u8, properties.reason_string.as_deref()),
        },
        v5::Packet::Suback(v5::Suback { pid, properties, topics }) => {
            let refused = topics.into_iter().map(|code| code as u8).find(|code| *code >= reason::UNSPECIFIED);
            let code = refused.unwrap_or(reason::SUCCESS);
            Said::Subscribed { id: pid.value(), answer: Reason::new(code, properties.reason_string.as_deref()) }
        }
        v5::Packet::Publish(message) => {
            let id = message.qos_pid.pid().map(Pid::value);
            Said::Message { id, topic: message.topic_name.to_string(), payload: message.payload }
        }
        v5::Packet::Pingresp => Said::Pong,
        v5::Packet::Disconnect(v5::Disconnect { reason_code, properties, .. }) => {
            Said::Disconnected(Reason::new(reason_code as u8, properties.reason_string.as_deref()))
        }
        _ => return None,
    })
}

/// What was written is taken away.
pub fn written(bytes: &mut BytesMut, count: usize) {
    bytes.advance(count.min(bytes.len()));
}

#[cfg(test)]
mod tests;
