//! The messages of one post on their way: which are sent, which are acknowledged. Pure.
//!
//! At most so many as the window says wait for their acknowledgement. After a refusal nothing more is sent; what is on its way is
//! still waited for, so that the next post begins with nothing open.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;

use super::message::Message;
use super::packet::{Reason, reason};

/// A post on its way.
#[derive(Debug)]
pub struct Flight {
    messages: Vec<Message>,
    /// Of each message.
    acknowledged: Vec<bool>,
    /// The next one to send.
    next: usize,
    window: usize,
    /// Identifiers of packets, and the places of their messages.
    open: VecDeque<(u16, usize)>,
    refused: Option<(usize, Reason)>,
}

impl Flight {
    /// Of these messages.
    #[must_use]
    pub fn new(messages: Vec<Message>, window: usize) -> Self {
        let acknowledged = vec![false; messages.len()];
        Self { messages, acknowledged, next: 0, window: window.max(1), open: VecDeque::new(), refused: None }
    }

    /// The message to send now as the packet `id`, if one may be sent.
    pub fn send(&mut self, id: u16) -> Option<&Message> {
        if self.refused.is_some() || self.open.len() >= self.window {
            return None;
        }
        let message = self.messages.get(self.next)?;
        self.open.push_back((id, self.next));
        self.next += 1;
        Some(message)
    }

    /// The packet `id` is answered; `false` when nothing waits for that.
    pub fn answered(&mut self, id: u16, answer: Reason) -> bool {
        // They come in order (3.1.1, clause 4.6), so it is the first one.
        let Some(at) = self.open.iter().position(|(open, _)| *open == id) else { return false };
        let Some((_, place)) = self.open.remove(at) else { return false };
        if [reason::SUCCESS, reason::NO_SUBSCRIBERS].contains(&answer.code) {
            self.acknowledged.get_mut(place).into_iter().for_each(|acknowledged| *acknowledged = true);
        } else {
            self.refused.get_or_insert((place, answer));
        }
        true
    }

    /// All that was sent has arrived.
    pub fn all_arrived(&mut self) {
        for (_, place) in self.open.drain(..) {
            self.acknowledged.get_mut(place).into_iter().for_each(|acknowledged| *acknowledged = true);
        }
    }

    /// Whether there is nothing more to wait for.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.open.is_empty() && (self.refused.is_some() || self.next >= self.messages.len())
    }

    /// The first message that was refused, and why.
    #[must_use]
    pub fn refused(&self) -> Option<(&Message, &Reason)> {
        let (place, reason) = self.refused.as_ref()?;
        Some((self.messages.get(*place)?, reason))
    }

    /// The lines of the messages that need not be sent again: those that are acknowledged, as all before them of their topic
    /// are. The others must go in order once more.
    #[must_use]
    pub fn done(&self) -> Vec<Bytes> {
        let mut waiting: HashSet<&str> = HashSet::new();
        let mut done = Vec::new();
        for (message, acknowledged) in self.messages.iter().zip(&self.acknowledged) {
            if !acknowledged {
                waiting.insert(&message.topic);
            // Behind one of its topic that goes again it must go again, too: else the topic would have them in the
            // wrong order.
            } else if !waiting.contains(&*message.topic) && !message.line.is_empty() {
                done.push(message.line.clone());
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(topics: &str, window: usize) -> Flight {
        let message = |topic: char| {
            let topic = topic.to_string();
            Message { line: topic.clone().into(), topic, payload: Bytes::new(), kept: false }
        };
        Flight::new(topics.chars().map(message).collect(), window)
    }

    fn answer(code: u8) -> Reason {
        Reason { code, said: None }
    }

    /// The topics that are sent now, as packets from `id` on.
    fn sent(flight: &mut Flight, id: &mut u16) -> String {
        let mut sent = String::new();
        while let Some(message) = flight.send(*id) {
            sent.push_str(&message.topic);
            *id += 1;
        }
        sent
    }

    #[test]
    fn no_more_are_open_than_the_window_and_they_go_in_order() {
        let (mut flight, mut id) = (flight("1234", 2), 1);
        assert_eq!(sent(&mut flight, &mut id), "12");
        assert!(!flight.answered(9, answer(0)));
        assert!(flight.answered(2, answer(0)));
        assert!(!flight.answered(2, answer(0)), "once");
        assert_eq!(sent(&mut flight, &mut id), "3");
        assert!(flight.answered(1, answer(0x10)) && flight.answered(3, answer(0)) && !flight.is_over());
        assert_eq!(sent(&mut flight, &mut id), "4");
        assert!(flight.answered(4, answer(0)) && flight.is_over() && flight.refused().is_none());
        assert_eq!(flight.done(), ["1", "2", "3", "4"]);
    }

    #[test]
    fn after_a_refusal_nothing_more_is_sent_and_what_is_open_is_waited_for() {
        let (mut flight, mut id) = (flight("012345678", 3), 1);
        assert_eq!(sent(&mut flight, &mut id), "012");
        assert!(flight.answered(2, answer(0x99)) && !flight.is_over());
        assert!(flight.answered(1, answer(0)) && flight.answered(3, answer(0x87)));
        assert_eq!(sent(&mut flight, &mut id), "");
        assert!(flight.is_over());
        assert_eq!(flight.refused().map(|(message, reason)| (&*message.topic, reason.code)), Some(("1", 0x99)));
        assert_eq!(flight.done(), ["0"]);
    }

    #[test]
    fn what_is_acknowledged_goes_again_behind_what_is_not_of_its_topic() {
        let (mut flight, mut id) = (flight("abab", 4), 1);
        assert_eq!(sent(&mut flight, &mut id), "abab");
        assert!([2, 3, 4].into_iter().all(|id| flight.answered(id, answer(0))));
        assert_eq!(flight.done(), ["b", "b"]);
    }

    #[test]
    fn a_post_without_messages_is_over_at_once() {
        assert!(flight("", 0).is_over());
    }
}
