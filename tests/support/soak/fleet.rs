//! The devices: three models, each with two units, both tables, and multipliers 1, 0.1 and 0.001.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::support::device::{Device, Table};
use crate::support::judge::Arrival;
use crate::support::server::Row;

/// Registers of one model that touch each other.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    unit: u8,
    table: Table,
    first: u16,
    count: u16,
    multiplier: f64,
}

const fn run(unit: u8, table: Table, first: u16, count: u16, multiplier: f64) -> Run {
    Run { unit, table, first, count, multiplier }
}

const MODELS: [&[Run]; 3] = [
    &[
        run(1, Table::Input, 0, 8, 1.0),
        run(1, Table::Holding, 100, 4, 0.1),
        run(2, Table::Input, 10, 4, 0.001),
        run(2, Table::Holding, 0, 4, 1.0),
    ],
    &[
        run(1, Table::Input, 0, 6, 1.0),
        run(1, Table::Input, 40, 4, 0.1),
        run(7, Table::Holding, 9_000, 6, 1.0),
        run(7, Table::Holding, 9_990, 4, 0.001),
    ],
    &[
        run(1, Table::Holding, 5, 10, 1.0),
        run(1, Table::Input, 0, 3, 0.1),
        run(200, Table::Input, 500, 5, 0.001),
        run(200, Table::Input, 505, 2, 1.0),
    ],
];

/// A series of readings of one device.
pub type Series = (u8, Table, u16);

/// All devices and what has arrived of each.
#[derive(Debug)]
pub struct Fleet {
    /// The devices, by number.
    pub devices: Vec<Device>,
    /// Rows of the database by device, in the order of their arrival.
    pub arrivals: Vec<Vec<Arrival>>,
    /// Rows that no register of ours can have given.
    pub foreign: Vec<String>,
    by_target: BTreeMap<String, usize>,
}

impl Fleet {
    /// So many devices, all of them well.
    pub fn start(count: u32) -> Self {
        let devices: Vec<Device> = (0..count).map(Device::counting).collect();
        let by_target = devices.iter().enumerate().map(|(number, device)| (device.target(), number)).collect();
        let arrivals = devices.iter().map(|_| Vec::new()).collect();
        Self { devices, arrivals, foreign: Vec::new(), by_target }
    }

    /// The polling groups of a configuration.
    pub fn groups(&self) -> String {
        let mut yaml = String::new();
        for (model, runs) in MODELS.iter().enumerate() {
            let targets: Vec<String> = self
                .devices
                .iter()
                .skip(model)
                .step_by(MODELS.len())
                .map(|device| format!("'{}'", device.target()))
                .collect();
            for run in *runs {
                let (table, _, base) = run.table.words();
                let Run { unit, multiplier, .. } = run;
                let targets = targets.join(", ");
                writeln!(yaml, "  - ip_devices: [{targets}]\n    unit: {unit}\n    {table}:").expect("memory");
                for address in run.first..run.first + run.count {
                    let number = base + u32::from(address);
                    writeln!(yaml, "      - {{address: {number}, multiplier: {multiplier}}}").expect("memory");
                }
            }
        }
        yaml
    }

    /// Every series of a device.
    pub fn series(device: usize) -> impl Iterator<Item = Series> {
        let runs = MODELS[device % MODELS.len()].iter();
        runs.flat_map(|run| (run.first..run.first + run.count).map(|address| (run.unit, run.table, address)))
    }

    /// Takes a row in; its device.
    pub fn take_in(&mut self, row: &Row) {
        match self.recognise(row) {
            Some((device, arrival)) => self.arrivals[device].push(arrival),
            None => self.foreign.push(format!("{} unit {} {} = {}", row.target, row.unit, row.key, row.value)),
        }
    }

    /// The device and the register behind a row.
    pub fn recognise(&self, row: &Row) -> Option<(usize, Arrival)> {
        self.find(&row.target, row.unit.parse().ok()?, &row.key, row.value.as_f64()?, row.timestamp)
    }

    /// The same of what is no row of a pattoo server.
    pub fn find(&self, target: &str, unit: u8, key: &str, value: f64, timestamp: u64) -> Option<(usize, Arrival)> {
        let device = *self.by_target.get(target)?;
        let (table, address) = Table::of_key(key)?;
        let run = MODELS[device % MODELS.len()].iter().find(|run| {
            (run.unit, run.table) == (unit, table) && (run.first..run.first + run.count).contains(&address)
        })?;
        Some((device, Arrival::new(unit, key, value / run.multiplier, timestamp)?))
    }

    /// The key of a series in a body, and the text of its unit.
    pub fn key(series: Series) -> String {
        let (_, table, address) = series;
        let (_, key, base) = table.words();
        format!("{key}_{:05}", base + u32::from(address))
    }

    /// The first request of a healthy poll: function code, unit, address.
    pub fn first_request(device: usize) -> (u8, u8, u16) {
        let runs = MODELS[device % MODELS.len()];
        let first = runs.iter().min_by_key(|run| (run.unit, run.table, run.first)).expect("no model is empty");
        (if first.table == Table::Input { 4 } else { 3 }, first.unit, first.first)
    }
}
