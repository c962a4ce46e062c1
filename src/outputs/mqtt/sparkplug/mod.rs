//! Sparkplug B (3.0.0): the agent as an edge node, its devices as devices, for SCADA systems and historians.
//!
//! | file | what it owns |
//! |---|---|
//! | this one | what it is configured with; topics and names |
//! | [`payload`] | messages ↔ bytes |
//! | [`encode`] | readings → the lines of a post |
//! | [`edge_node`] | births, deaths, sequence numbers, aliases |
//!
//! With a primary host nothing is sent while that is not there, because nobody keeps it for the host: it waits in the log.
//!
//! A post is lines that people can read (`device`, `metric`, `time`, `value`); what becomes of them depends on the connection over
//! which they go: only it knows what was born over it. So the messages are made when they are sent.
//!
//! Messages are of QoS 0 and not retained, because the specification says so (`topics-ddata-mqtt` and others). A broker acknowledges
//! no such message, so a ping goes behind at most a hundred of them: it is answered when the broker has read all that came before
//! on the connection, which is about what an acknowledgement of QoS 1 says too. A post that was not answered so goes again as a whole.

pub mod edge_node;
pub mod encode;
pub mod payload;

use std::time::Duration;

use super::topic::clean;
use crate::outputs::template::Template;
use crate::reading::Timestamp;
use crate::reading::points::Point;

/// The namespace of payloads of this kind.
const NAMESPACE: &str = "spBv1.0";

/// A value is how its metric is now for one interval of its device, and for so long at least.
const LEAST_CURRENT: Duration = Duration::from_secs(5);

/// What the configuration says of an edge node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparkplugSettings {
    /// The group.
    pub group_id: String,
    /// As which node of the group we come; without it, as the client id.
    pub edge_node_id: Option<String>,
    /// What a device is called.
    pub device_id: Template,
    /// What a metric is called.
    pub metric: Template,
    /// The host without which nothing is sent.
    pub primary_host_id: Option<String>,
}

impl SparkplugSettings {
    /// The device of a point.
    #[must_use]
    pub fn device_id(&self, point: &Point<'_>) -> String {
        let id = self.device_id.fill(point, clean);
        if id.is_empty() { "_".to_owned() } else { id }
    }

    /// The name of the metric of a point; `None` where that is empty.
    #[must_use]
    pub fn metric(&self, point: &Point<'_>) -> Option<String> {
        Some(self.metric.fill(point, str::to_owned)).filter(|name| !name.is_empty())
    }

    /// What no two points may have in common. `None` when there is no name.
    #[must_use]
    pub fn name_of(&self, point: &Point<'_>) -> Option<String> {
        // A device has no slash in its name.
        Some(format!("{}/{}", self.device_id(point), self.metric(point)?))
    }
}

/// Whether `text` is a part of a topic that stands for a group, a node or a device.
#[must_use]
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && clean(text) == text
}

/// Whether a value that was read at `at` is still how its metric is at `now`.
fn is_current(at: Timestamp, interval: Duration, now: Timestamp) -> bool {
    at.after(interval.max(LEAST_CURRENT)) >= now
}
