//! Random configurations and random edits of them, as the text that the agent reads.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use fastrand::Rng;
use pattoo_agent_modbustcpd::config::{Config, load_for};

use super::device::{SCALED, SCALES};

/// What is configured: devices are numbered, groups stand in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    groups: Vec<Group>,
    /// Of each device, a section of settings.
    settings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Group {
    device: usize,
    unit: u8,
    /// In milliseconds.
    interval: u64,
    together: bool,
    registers: Vec<String>,
}

const INTERVALS: [u64; 6] = [1_000, 5_000, 20_000, 60_000, 90_000, 300_000];

/// The address of a device by its number.
pub fn name(device: usize) -> String {
    format!("d{device}.example.net")
}

impl Configuration {
    /// Some groups for so many devices; each device has one at least.
    pub fn draw(rng: &mut Rng, devices: usize) -> Self {
        let mut groups: Vec<Group> = (0..devices).map(|device| Group::draw(rng, device)).collect();
        for _ in 0..rng.usize(0..=devices) {
            groups.push(Group::draw(rng, rng.clone().usize(0..devices)));
        }
        // The same registers at two intervals, as points of their own: 32 bits of them.
        if rng.u8(0..3) == 0 {
            let (device, unit, first) = (rng.usize(0..devices), rng.u8(1..4), 40_301 + rng.u32(0..50) * 2);
            for interval in [1_000, 5_000] {
                let kind = if interval == 1_000 { "counter: false" } else { "counter: true" };
                let registers = vec![format!("{{address: {first}, count: 10, type: uint32, {kind}}}")];
                groups.push(Group { device, unit, interval, together: false, registers });
            }
        }
        // A gateway with many units.
        if rng.u8(0..3) == 0 {
            let (device, template) = (rng.usize(0..devices), Group { interval: 20_000, ..Group::draw(rng, 0) });
            groups.extend((1..rng.u8(4..31)).map(|unit| Group { device, unit, ..template.clone() }));
        }
        rng.shuffle(&mut groups);
        let settings = (0..devices).map(|_| settings(rng)).collect();
        Self { groups, settings }
    }

    /// The same, but for an edit.
    pub fn edit(&mut self, rng: &mut Rng) {
        let devices = self.settings.len();
        match rng.u8(0..8) {
            0 | 1 => {
                let group = Group::draw(rng, rng.clone().usize(0..devices));
                self.groups.insert(rng.usize(0..=self.groups.len()), group);
            }
            2 if self.groups.len() > 1 => {
                self.groups.remove(rng.usize(0..self.groups.len()));
            }
            3 => rng.shuffle(&mut self.groups),
            4 => {
                let device = rng.usize(0..devices);
                self.settings[device] = settings(rng);
            }
            5 => {
                let group = rng.usize(0..self.groups.len());
                let registers = &mut self.groups[group].registers;
                if registers.len() > 1 {
                    registers.remove(rng.usize(0..registers.len()));
                }
            }
            6 => {
                let group = rng.usize(0..self.groups.len());
                let another = if self.groups[group].together { apart(rng) } else { register(rng) };
                self.groups[group].registers.push(another);
            }
            _ => {
                let group = rng.usize(0..self.groups.len());
                self.groups[group].interval = INTERVALS[rng.usize(0..INTERVALS.len())];
            }
        }
    }

    /// As the agent understands it; `None` for what it refuses.
    pub fn load(&self, directory: &Path) -> Option<Config> {
        fs::write(directory.join("pattoo_agent_modbustcpd.yaml"), self.text()).expect("a writable directory");
        load_for(directory, None).ok().map(|loaded| loaded.config)
    }

    /// The file.
    pub fn text(&self) -> String {
        let mut text = "polling_interval: 5s\nagent_hostname: plant.example.net\ndevices:\n".to_owned();
        for (device, settings) in self.settings.iter().enumerate() {
            if self.groups.iter().any(|group| group.device == device) {
                writeln!(text, "  {}: {{{settings}}}", name(device)).expect("memory");
            }
        }
        text.push_str("polling_groups:\n");
        for Group { device, unit, interval, together, registers } in &self.groups {
            let (device, registers) = (name(*device), registers.join(", "));
            writeln!(
                text,
                "  - {{ip_devices: [{device}], unit: {unit}, polling_interval: {interval}ms, together: {together}, \
                 holding_registers: [{registers}]}}"
            )
            .expect("memory");
        }
        text
    }
}

impl Group {
    fn draw(rng: &mut Rng, device: usize) -> Self {
        let together = rng.u8(0..6) == 0;
        let count = if together { 1 } else { rng.usize(1..5) };
        let unit = rng.u8(1..4);
        let registers = (0..count).map(|_| if together { apart(rng) } else { register(rng) }).collect();
        let interval = INTERVALS[rng.usize(0..INTERVALS.len())];
        Self { device, unit, interval, together, registers }
    }
}

/// What is read together is read otherwise, so that no other group may have the same.
fn apart(rng: &mut Rng) -> String {
    format!("{{address: {}, count: 12}}", 40_601 + rng.u32(0..10) * 12)
}

/// One register or several.
fn register(rng: &mut Rng) -> String {
    match rng.u8(0..8) {
        0 => run(rng, 120),
        1..=3 => run(rng, 12),
        4 => format!("{{address: {}, type: uint32}}", 40_301 + rng.u32(0..100) * 2),
        5 | 6 => {
            let scaled = u32::from(SCALED) + rng.u32(0..u32::from(SCALES - SCALED));
            // The same for each group that reads it.
            let scale = u32::from(SCALES) + scaled % 80;
            format!("{{address: {}, scale_register: {}}}", 40_001 + scaled, 40_001 + scale)
        }
        _ => (40_001 + rng.u32(0..250)).to_string(),
    }
}

fn run(rng: &mut Rng, longest: u32) -> String {
    format!("{{address: {}, count: {}}}", 40_001 + rng.u32(0..150), rng.u32(1..=longest))
}

fn settings(rng: &mut Rng) -> String {
    let mut settings = vec!["response_timeout: 1s".to_owned()];
    let mut may = |one_in: u8, text: String| {
        if rng.u8(0..one_in) == 0 {
            settings.push(text);
        }
    };
    may(4, "max_gap: 8".to_owned());
    may(4, "max_registers: 60".to_owned());
    may(6, "close_after_poll: true".to_owned());
    may(6, "retries: 0".to_owned());
    may(6, "max_backoff: 40s".to_owned());
    settings.join(", ")
}
