//! Cost and memory against the number of devices.

use std::path::Path;

use crate::Plan;
use crate::fleet::Shape;
use crate::peers::Who;
use crate::plot::{Line, draw};
use crate::round::{Measured, measure, median};

/// The registers of each device.
const REGISTERS: u32 = 10;

/// Measures, prints and draws.
pub fn run(plan: &Plan) {
    let binary = plan.binary();
    let clients = [Who::ReadFloor, Who::FullFloor, Who::Agent];
    let mut lines = clients.map(|who| Line { name: who.name(), points: Vec::new() });
    println!("{:>8} {:>12} {:>10} {:>10} {:>12} {:>10}", "devices", "", "µs/point", "served", "peak KiB", "late p99");
    for devices in [10, 100, 1_000, 10_000] {
        let shape = Shape::new(devices, REGISTERS);
        let mut all = clients.map(|_| Vec::<Measured>::new());
        for _ in 0..plan.rounds {
            for (who, rounds) in clients.iter().zip(&mut all) {
                match measure(*who, shape, plan.window, &binary) {
                    Ok(measured) => rounds.push(measured),
                    Err(why) => println!("{} at {devices}: {why}", who.name()),
                }
            }
        }
        for ((who, rounds), line) in clients.iter().zip(&all).zip(&mut lines) {
            let cost = median(rounds, |measured| measured.per_datapoint);
            println!(
                "{devices:>8} {:>12} {cost:>10.3} {:>9.1}% {:>12.0} {:>7.1} ms",
                who.name(),
                median(rounds, |measured| measured.served * 100.0),
                median(rounds, |measured| measured.memory.1 as f64),
                median(rounds, |measured| measured.late[1] as f64 / 1e3),
            );
            line.points.push((f64::from(devices), cost));
        }
    }
    let title = format!("µs of processor time per datapoint, devices with {REGISTERS} registers polled each second");
    draw(&plan.plots.join(Path::new("growth.svg")), &title, "devices", &lines);
}
