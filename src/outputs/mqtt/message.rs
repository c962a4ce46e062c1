//! Messages ↔ the lines of a post: `{"topic":"modbus/boiler/flow","payload":{"time":"…","value":21.5}}`.
//!
//! A payload that is JSON stands there as it is, any other one as a text, with the time beside it. So what is set aside can be
//! read by people, and no two lines are the same.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// As it stands in its post, which tells it from all others; empty where it is of none.
    pub line: Bytes,
    /// Where it goes.
    pub topic: String,
    /// What it holds.
    pub payload: Bytes,
    /// The broker keeps it, whatever the output says of its messages.
    pub kept: bool,
}

impl Message {
    /// These words, of no post, which the broker keeps.
    #[must_use]
    pub fn kept(topic: &str, words: &'static str) -> Self {
        Self { line: Bytes::new(), topic: topic.to_owned(), payload: Bytes::from_static(words.as_bytes()), kept: true }
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// A text as it stands in a line.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Appends a line; `topic` is [`quoted`], and so is a payload that is no JSON. `members` come first: each with a comma behind.
pub(super) fn push(lines: &mut String, members: &str, topic: &str, payload: &str) {
    for part in ["{", members, "\"topic\":", topic, ",\"payload\":", payload, "}\n"] {
        lines.push_str(part);
    }
}

/// The messages of a post, in order. What is no such line is left out.
#[must_use]
pub fn parse(post: &Bytes) -> Vec<Message> {
    let lines = post.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let message = |line: &[u8]| {
        let Line { topic, payload } = serde_json::from_slice(line).ok()?;
        let payload = match serde_json::from_str::<String>(payload.get()) {
            Ok(text) => text.into(),
            Err(_) => post.slice_ref(payload.get().as_bytes()),
        };
        // Slices of the post, not copies: lines are remembered until all of a post has arrived.
        Some(Message { line: post.slice_ref(line), topic: topic.into_owned(), payload, kept: false })
    };
    lines.filter_map(message).collect()
}
