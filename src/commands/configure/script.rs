//! For tests: a person whose answers are known, and a network that is none.

use std::collections::BTreeMap;
use std::io;

use super::interview::Person;
use super::network::{Network, Values};
use crate::commands::candidate::Contact;
use crate::commands::sunspec::Model;
use crate::config::Config;
use crate::modbus::settings::Transport;

/// Answers, and everything that was shown in between.
#[derive(Debug)]
pub struct Script {
    answers: Vec<String>,
    is_terminal: bool,
    said: String,
}

impl Script {
    /// Somebody who can answer again.
    pub fn at_a_terminal(answers: &str) -> Self {
        let answers = answers.lines().rev().map(str::to_owned).collect();
        Self { answers, is_terminal: true, said: String::new() }
    }

    /// Nobody.
    pub fn in_a_pipe(answers: &str) -> Self {
        Self { is_terminal: false, ..Self::at_a_terminal(answers) }
    }

    /// What was shown.
    pub fn said(&self) -> &str {
        &self.said
    }
}

impl Person for Script {
    fn answer(&mut self, question: &str, _hidden: bool) -> io::Result<String> {
        self.said += question;
        self.answers.pop().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn tell(&mut self, text: &str) {
        self.said += text;
    }

    fn object(&mut self, text: &str) {
        self.said += text;
        self.said += "\n";
    }

    fn can_answer_again(&self) -> bool {
        self.is_terminal
    }
}

/// Devices by their text, and what outputs say in turn.
#[derive(Debug, Default)]
pub struct Pretended {
    /// The unit that answers, and its models; a device that is not here is away.
    pub devices: BTreeMap<String, (u8, Vec<Model>)>,
    /// Those that speak RTU over TCP.
    pub rtu: Vec<&'static str>,
    /// What outputs say, the last first; they answer when nothing is left.
    pub outputs: Vec<Result<String, String>>,
    /// How many polls there were.
    pub polls: usize,
}

impl Network for Pretended {
    fn contact(&mut self, targets: &[String], units: &[u8]) -> Vec<Contact> {
        let of = |target: &String| match self.devices.get(target) {
            None => Contact::Away("it is off".to_owned()),
            Some((unit, _)) if units.contains(unit) => {
                Contact::Answers { unit: *unit, is_rtu: self.rtu.contains(&target.as_str()) }
            }
            Some(_) => Contact::Silent("no whole reply".to_owned()),
        };
        targets.iter().map(of).collect()
    }

    fn models(&mut self, target: &str, _unit: u8, _: Transport) -> Option<Vec<Model>> {
        self.devices.get(target).map(|(_, models)| models.clone()).filter(|models| !models.is_empty())
    }

    fn poll(&mut self, config: &Config) -> Values {
        self.polls += 1;
        let text = config.points.iter().map(|point| format!("{} {}\n", point.target, point.key()));
        let text = text.collect::<Vec<_>>().concat();
        Values { text, read: config.points.len(), of: config.points.len(), floats: None }
    }

    fn outputs(&mut self, _: &Config) -> Vec<Result<String, String>> {
        vec![self.outputs.pop().unwrap_or_else(|| Ok("answers".to_owned()))]
    }
}
