//! What is polled: how many devices with how many registers, their addresses, and the text of their readings.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use pattoo_agent_modbustcpd::outputs::pattoo::identity::{Agent, Series};
use pattoo_agent_modbustcpd::outputs::pattoo::payload::{Catalogue, Encoder};
use pattoo_agent_modbustcpd::reading::points::Kind;
use pattoo_agent_modbustcpd::reading::{PointId, Reading, Timestamp, Value};

use crate::simulator::DEAD;

/// The address of the first device.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 10, 0, 1);

/// Datapoints of a full post.
pub const MAX_DATAPOINTS: usize = 5_000;

/// How much is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// How many devices answer.
    pub devices: u32,
    /// How many more never do.
    pub dead: u32,
    /// Registers of each, in one request.
    pub registers: u32,
    /// Time between two polls of one device.
    pub interval: Duration,
}

impl Shape {
    /// Devices that all answer, once a second.
    pub const fn new(devices: u32, registers: u32) -> Self {
        Self { devices, dead: 0, registers, interval: Duration::from_secs(1) }
    }

    /// Every device as the configuration names it.
    pub fn targets(&self, port: u16) -> Vec<String> {
        let alive = (0..self.devices).map(|device| Ipv4Addr::from_bits(FIRST.to_bits() + device));
        let dead = Ipv4Addr::new(127, DEAD, 0, 1).to_bits();
        let dead = (0..self.dead).map(|device| Ipv4Addr::from_bits(dead + device));
        alive.chain(dead).map(|address| format!("{address}:{port}")).collect()
    }

    /// The agent's configuration for it.
    pub fn config(&self, port: u16) -> String {
        let interval = self.interval.as_millis();
        let mut yaml = format!(
            "polling_interval: {interval}ms\nagent_hostname: bench.example.net\npolling_groups:\n  \
             - group_name: bench\n    ip_devices:\n"
        );
        for target in self.targets(port) {
            writeln!(yaml, "      - '{target}'").expect("memory");
        }
        yaml.push_str("    unit: 1\n    input_registers: [");
        let registers: Vec<_> = (0..self.registers).map(|register| (30_001 + register).to_string()).collect();
        yaml + &registers.join(", ") + "]\n"
    }

    /// Datapoints a second.
    pub fn rate(&self) -> f64 {
        f64::from(self.devices * self.registers) / self.interval.as_secs_f64()
    }
}

/// The body of a full batch of such devices.
pub fn template(shape: &Shape) -> Vec<u8> {
    let agent = Agent::new("4c".repeat(32).parse().expect("64 hex digits"), "bench.example.net").expect("a name");
    let points = shape.devices * shape.registers;
    let targets = shape.targets(40_000);
    let series: Vec<_> = (0..points)
        .map(|point| {
            let target = targets[(point / shape.registers) as usize].clone();
            let key = format!("input_register_{}", 30_001 + point % shape.registers);
            Series::new(target, key, 1, Kind::Integer, shape.interval).expect("short names")
        })
        .collect();
    let catalogue = Catalogue::new(&agent, shape.interval, &series).expect("an interval");
    let mut encoder = Encoder::new(Arc::new(catalogue));
    let now = Timestamp::from_millis(1_700_000_000_123);
    for datapoint in 0..u32::try_from(MAX_DATAPOINTS).expect("few") {
        let value = Value::Float(f64::from(datapoint * 1_057 % 65_536));
        encoder.push(&Reading { point: PointId(datapoint % points), at: now, value }).expect("a finite value");
    }
    encoder.finish(now).expect("13 digits")
}
