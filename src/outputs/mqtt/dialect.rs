//! What is said over connections, and what is heard there. Pure: told the time.
//!
//! There are two dialects: the messages of a post as they stand in its lines, which is [`Plain`], and Sparkplug
//! ([`EdgeNode`]). A dialect makes messages in the order in which they are sent.
//!
//! [`Plain`] skips what is acknowledged when a post comes again, as it was or in parts: the lines are remembered until then. It
//! says of each device whether it is there, at a topic below that of the agent, and of each point what Home Assistant must know before
//! its first state over each connection. What the broker has kept of that from before, of points that are configured no more, is taken
//! back, by a message without a payload. It listens to the topics of its own announcements for that, so nothing has to be kept here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::home_assistant::Announcements;
use super::message::{Message, parse};
use super::sparkplug::edge_node::EdgeNode;
use super::{Identity, MqttSettings};
use crate::outputs::plant::{Now, Plant, unit};
use crate::reading::Timestamp;
use crate::reading::points::Device;

/// What is said over connections, and what is heard there.
pub trait Dialect {
    /// What is subscribed to over each connection.
    fn filters(&self) -> Vec<String>;

    /// The last will of the next connection.
    fn will(&mut self, now: Timestamp) -> Message;

    /// Whether anything may be said: somebody may have to be there first.
    fn is_heard(&self) -> bool {
        true
    }

    /// The connection begins, for a post if there is one: what is said first.
    fn begin(&mut self, post: Option<&Bytes>, now: Timestamp) -> Vec<Message>;

    /// The messages of a post.
    fn post(&mut self, body: &Bytes, now: Timestamp) -> Vec<Message>;

    /// Whether all of these have arrived, and if not, the lines of those that need not be sent again.
    fn posted(&mut self, done: Vec<Bytes>, all: bool);

    /// This has come to a topic.
    fn hear(&mut self, topic: &str, payload: &Bytes);

    /// What is to be said besides posts.
    fn due(&mut self, now: Timestamp) -> Vec<Message>;
}

/// The messages of a post as they stand in its lines.
#[derive(Debug)]
pub struct Plain {
    identity: Identity,
    announcements: Announcements,
    plant: Plant,
    /// As `plant` was when devices were last told of over this connection.
    told: Option<Arc<Now>>,
    /// What was announced over this connection, by topic.
    announced: HashMap<String, Bytes>,
    /// What was announced for the post that is on its way.
    announcing: HashMap<String, Bytes>,
    /// The lines of posts that failed which need not be sent again.
    done: HashSet<Bytes>,
    /// Those of them that the post on its way would have had.
    skipped: Vec<Bytes>,
    /// What was said of devices over this connection, by topic.
    said: HashMap<String, bool>,
    /// Topics of ours that the broker keeps something of.
    kept: HashSet<String>,
}

impl Plain {
    /// By these settings; which devices there are is seen in `plant`.
    #[must_use]
    pub fn new(settings: MqttSettings, identity: Identity, plant: Plant) -> Self {
        Self {
            announcements: Announcements::new(settings, identity.clone()),
            identity,
            plant,
            told: None,
            announced: HashMap::new(),
            announcing: HashMap::new(),
            done: HashSet::new(),
            skipped: Vec::new(),
            said: HashMap::new(),
            kept: HashSet::new(),
        }
    }

    /// Looks at the plant.
    fn look(&mut self) -> Arc<Now> {
        let now = self.plant.now();
        if let Some(table) = &now.table {
            self.announcements.take_over(table);
        }
        now
    }
}

impl Dialect for Plain {
    fn filters(&self) -> Vec<String> {
        let Some(filter) = self.announcements.filter() else { return Vec::new() };
        vec![filter, format!("{}/+/+", self.identity.availability_topic)]
    }

    fn will(&mut self, _: Timestamp) -> Message {
        Message::kept(&self.identity.availability_topic, "offline")
    }

    fn begin(&mut self, _: Option<&Bytes>, _: Timestamp) -> Vec<Message> {
        // Another broker may be there, or one that has forgotten.
        self.announced.clear();
        self.said.clear();
        self.kept.clear();
        self.told = None;
        vec![Message::kept(&self.identity.availability_topic, "online")]
    }

    fn post(&mut self, body: &Bytes, _: Timestamp) -> Vec<Message> {
        self.look();
        let mut messages = parse(body);
        // They are of this post, or of one that comes in parts: each is skipped once.
        self.skipped.clear();
        messages.retain(|message| self.done.take(&message.line).map(|line| self.skipped.push(line)).is_none());
        if self.skipped.is_empty() {
            self.done.clear();
        }
        self.announcing.clear();
        let mut all = Vec::with_capacity(messages.len());
        for message in messages {
            if let Some(announcement) = self.announcements.of(&message.topic)
                && self.announced.get(&announcement.topic) != Some(&announcement.payload)
                && self.announcing.insert(announcement.topic.clone(), announcement.payload.clone()).is_none()
            {
                all.push(announcement.clone());
            }
            all.push(message);
        }
        all
    }

    fn posted(&mut self, done: Vec<Bytes>, all: bool) {
        if all {
            // Only when all has arrived. Of a post that failed nobody knows, so what it announced is announced again.
            self.announced.extend(self.announcing.drain());
        } else {
            self.done.extend(self.skipped.drain(..));
            self.done.extend(done);
        }
    }

    fn hear(&mut self, topic: &str, payload: &Bytes) {
        self.told = None;
        let is_device = topic.starts_with(&self.identity.availability_topic);
        if payload.is_empty() {
            self.kept.remove(topic);
            // Whoever has taken it away, it is said again.
            self.announced.remove(topic);
            self.said.remove(topic);
        } else if is_device || self.announcements.is_ours(payload) {
            self.kept.insert(topic.to_owned());
        } else {
            // Another shard reads the point now.
            self.kept.remove(topic);
        }
    }

    fn due(&mut self, _: Timestamp) -> Vec<Message> {
        let now = self.look();
        if self.told.as_ref().is_some_and(|told| Arc::ptr_eq(told, &now)) {
            return Vec::new();
        }
        self.told = Some(Arc::clone(&now));
        let Some(table) = &now.table else { return Vec::new() };
        let mut messages = Vec::new();
        let mut topics: HashSet<String> = HashSet::new();
        let mut last: Option<&Device> = None;
        for device in table.iter().map(|point| point.device) {
            // Points of a device stand together.
            if last.replace(device) == Some(device) {
                continue;
            }
            let topic = self.identity.device_topic(device);
            if let Some(&answers) = now.answers.get(&unit(device))
                && self.said.insert(topic.clone(), answers) != Some(answers)
            {
                messages.push(Message::kept(&topic, if answers { "online" } else { "offline" }));
            }
            topics.insert(topic);
        }
        let is_configured = |topic: &String| topics.contains(topic) || self.announcements.has(topic);
        // What was said over this connection is there, whether or not the broker lets us hear it.
        let there = self.kept.iter().chain(self.said.keys().filter(|topic| !self.kept.contains(*topic)));
        let gone: Vec<_> = there.filter(|topic| !is_configured(topic)).cloned().collect();
        for topic in gone {
            self.kept.remove(&topic);
            // What an edit that is taken back brings back has to be said again.
            self.announced.remove(&topic);
            self.said.remove(&topic);
            messages.push(Message::kept(&topic, ""));
        }
        messages
    }
}

impl Dialect for EdgeNode {
    fn filters(&self) -> Vec<String> {
        self.filters()
    }

    fn is_heard(&self) -> bool {
        self.is_heard()
    }

    fn will(&mut self, now: Timestamp) -> Message {
        self.will(now)
    }

    fn begin(&mut self, post: Option<&Bytes>, now: Timestamp) -> Vec<Message> {
        self.begin(post, now)
    }

    fn post(&mut self, body: &Bytes, now: Timestamp) -> Vec<Message> {
        self.post(body, now)
    }

    /// A post that has not arrived as a whole goes again as a whole: what was of it is not told apart.
    fn posted(&mut self, _: Vec<Bytes>, _: bool) {}

    fn hear(&mut self, topic: &str, payload: &Bytes) {
        self.hear(topic, payload);
    }

    fn due(&mut self, now: Timestamp) -> Vec<Message> {
        self.due(now)
    }
}
