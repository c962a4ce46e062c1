//! The table: every client at every shape, rounds interleaved, medians and ratios.

use std::collections::BTreeMap;

use crate::Plan;
use crate::fleet::Shape;
use crate::peers::Who;
use crate::round::{CORES, Measured, measure, median};

/// Measures and prints.
pub fn compare(plan: &Plan) {
    let binary = plan.binary();
    println!("agent           : {}", binary.display());
    println!(
        "plan            : {} rounds of {:?}, medians; client on core {}, the rest on core {}",
        plan.rounds, plan.window, CORES.0, CORES.1
    );
    let (here, missing): (Vec<Who>, Vec<Who>) = plan.who.iter().partition(|who| who.missing().is_none());
    for who in missing {
        println!("skipped         : {}, which is not installed ({})", who.name(), who.missing().unwrap());
    }
    for &shape in &plan.shapes {
        let mut all = BTreeMap::<Who, Vec<Measured>>::new();
        for _ in 0..plan.rounds {
            for &who in &here {
                match measure(who, shape, plan.window, &binary) {
                    Ok(measured) => all.entry(who).or_default().push(measured),
                    Err(why) => println!("{} at {}x{}: {why}", who.name(), shape.devices, shape.registers),
                }
            }
        }
        print(shape, &all);
    }
}

fn print(shape: Shape, all: &BTreeMap<Who, Vec<Measured>>) {
    let agent = all.get(&Who::Agent).map(|rounds| median(rounds, |measured| measured.per_datapoint));
    let dead = if shape.dead == 0 { String::new() } else { format!(" and {} dead", shape.dead) };
    println!("\n{} devices{dead} × {} registers, once a second", shape.devices, shape.registers);
    println!(
        "{:24} {:>9} {:>9} {:>7} {:>7} {:>7} {:>9} {:>9} {:>20}",
        "", "µs/point", "agent/it", "core %", "sim %", "served", "B/point", "RSS KiB", "late ms p50 p99 max"
    );
    for (who, rounds) in all {
        let value = |of: fn(&Measured) -> f64| median(rounds, of);
        let cost = value(|measured| measured.per_datapoint);
        let late = [value(|m| m.late[0] as f64), value(|m| m.late[1] as f64), value(|m| m.late[2] as f64)];
        println!(
            "{:24} {:>9.3} {:>9.3} {:>7.1} {:>7.1} {:>6.1}% {:>9.1} {:>9.0} {:>6.1} {:>6.1} {:>6.1}",
            who.name(),
            cost,
            agent.map_or(f64::NAN, |agent| agent / cost),
            value(|m| m.share * 100.0),
            value(|m| m.simulator * 100.0),
            value(|m| m.served * 100.0),
            value(|m| m.bytes),
            value(|m| m.memory.1 as f64),
            late[0] / 1e3,
            late[1] / 1e3,
            late[2] / 1e3,
        );
    }
}
