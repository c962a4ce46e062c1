//! SunSpec: the chain of models in a device, and the groups that read those that we know, with the names and units of
//! measurement of the models. Pure data and arithmetic.
//!
//! Source: SunSpec Device Information Model Specification (the marker, the chain, types and unimplemented values), and
//! the published models 1, 101–103, 111–113, 160, 201–204. Offsets count from the register with the model's number.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::modbus::register::Table;

/// Where the chain may begin, as addresses.
pub const BASES: [u16; 3] = [40_000, 50_000, 0];

/// What stands there: `SunS`.
pub const MARKER: [u16; 2] = [0x5375, 0x6E53];

/// The number that ends the chain.
pub const END: u16 = 0xFFFF;

/// One model of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// Its number.
    pub id: u16,
    /// The address of the register that holds the number.
    pub address: u16,
    /// Registers behind number and length.
    pub length: u16,
}

impl Model {
    /// The address of the model behind it; `None` at the end of the table.
    #[must_use]
    pub fn next(self) -> Option<u16> {
        self.address.checked_add(2)?.checked_add(self.length)
    }

    /// What it is about, as far as we know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.id {
            1 => "common",
            101 => "inverter, single phase",
            102 => "inverter, split phase",
            103 => "inverter, three phase",
            111 => "inverter, single phase, floats",
            112 => "inverter, split phase, floats",
            113 => "inverter, three phase, floats",
            160 => "multiple MPPT",
            201 => "meter, single phase",
            202 => "meter, split phase",
            203 => "meter, three phase, wye",
            204 => "meter, three phase, delta",
            _ => "",
        }
    }

    fn points(self) -> Vec<Point> {
        let offset = |run: &Run| run.points();
        match self.id {
            101..=103 => INVERTER.iter().flat_map(offset).collect(),
            111..=113 => FLOATS.iter().flat_map(offset).collect(),
            201..=204 => METER.iter().flat_map(offset).collect(),
            160 => {
                // Model 160 begins with 8 registers that all modules share. One of them says how many modules there
                // are, but no values are read here: the length says it, too.
                let modules = self.length.saturating_sub(8) / MODULE_LENGTH;
                (0..modules)
                    .flat_map(|module| {
                        MODULE.iter().flat_map(move |run| {
                            // Behind number and length, and these 8.
                            let offset = 10 + module * MODULE_LENGTH;
                            let place = move |point: Point| Point {
                                offset: point.offset + offset,
                                module: Some(module + 1),
                                ..point
                            };
                            run.points().into_iter().map(place)
                        })
                    })
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Values of one type, one behind the other, with one power of ten.
struct Run {
    names: &'static [&'static str],
    offset: u16,
    kind: &'static str,
    width: u16,
    scale: Option<u16>,
    counter: bool,
}

/// One value.
#[derive(Debug, Clone, Copy)]
struct Point {
    name: &'static str,
    offset: u16,
    kind: &'static str,
    width: u16,
    scale: Option<u16>,
    counter: bool,
    /// Of the modules of a model, which one; from 1 on.
    module: Option<u16>,
}

impl Point {
    /// Its name in the model, with the module that it is of; the model, then the number follow where that is in `taken`.
    fn name_beside(&self, model: u16, number: u32, taken: &mut BTreeSet<String>) -> String {
        let name = self.module.map_or_else(|| self.name.to_owned(), |module| format!("{}_{module}", self.name));
        // Names are those of the device's points: two models of a device both have a W.
        let names = [name.clone(), format!("{name}_{model}")];
        let free = names.into_iter().find(|name| !taken.contains(name)).unwrap_or_else(|| format!("{name}_{number}"));
        taken.insert(free.clone());
        free
    }

    /// In what it is measured, by its name.
    fn unit_of_measurement(&self) -> Option<&'static str> {
        // By the beginning, because phases and directions follow it: AphA, TotWhExpPhB.
        let units = UNITS.iter().find(|(beginning, _)| self.name.starts_with(beginning));
        units.map(|(_, unit)| *unit)
    }
}

/// How names begin, and the unit of measurement of these; the first that fits counts.
const UNITS: [(&str, &str); 16] = [
    ("A", "A"),
    ("DCA", "A"),
    ("PPV", "V"),
    ("PhV", "V"),
    ("DCV", "V"),
    ("Hz", "Hz"),
    ("VAR", "var"),
    ("VAr", "var"),
    ("VA", "VA"),
    ("TotWh", "Wh"),
    ("PF", "%"),
    ("Tmp", "°C"),
    ("WH", "Wh"),
    ("W", "W"),
    ("DCWH", "Wh"),
    ("DCW", "W"),
];

impl Run {
    fn points(&self) -> Vec<Point> {
        let Self { names, offset, kind, width, scale, counter } = *self;
        (0..)
            .zip(names)
            .map(|(n, &name)| Point { name, offset: offset + n * width, kind, width, scale, counter, module: None })
            .collect()
    }
}

const fn run(names: &'static [&'static str], offset: u16, kind: &'static str, scale: Option<u16>) -> Run {
    Run { names, offset, kind, width: 1, scale, counter: false }
}

const fn counter(names: &'static [&'static str], offset: u16, scale: Option<u16>) -> Run {
    Run { names, offset, kind: "uint32", width: 2, scale, counter: true }
}

const fn floats(names: &'static [&'static str], offset: u16) -> Run {
    Run { names, offset, kind: "float32", width: 2, scale: None, counter: false }
}

const INVERTER: &[Run] = &[
    run(&["A", "AphA", "AphB", "AphC"], 2, "uint16", Some(6)),
    run(&["PPVphAB", "PPVphBC", "PPVphCA", "PhVphA", "PhVphB", "PhVphC"], 7, "uint16", Some(13)),
    run(&["W"], 14, "int16", Some(15)),
    run(&["Hz"], 16, "uint16", Some(17)),
    run(&["VA"], 18, "int16", Some(19)),
    run(&["VAr"], 20, "int16", Some(21)),
    run(&["PF"], 22, "int16", Some(23)),
    counter(&["WH"], 24, Some(26)),
    run(&["DCA"], 27, "uint16", Some(28)),
    run(&["DCV"], 29, "uint16", Some(30)),
    run(&["DCW"], 31, "int16", Some(32)),
    run(&["TmpCab", "TmpSnk", "TmpTrns", "TmpOt"], 33, "int16", Some(37)),
    run(&["St", "StVnd"], 38, "uint16", None),
];

const FLOATS: &[Run] = &[
    floats(&["A", "AphA", "AphB", "AphC", "PPVphAB", "PPVphBC", "PPVphCA", "PhVphA", "PhVphB", "PhVphC"], 2),
    floats(&["W", "Hz", "VA", "VAr", "PF", "WH", "DCA", "DCV", "DCW", "TmpCab", "TmpSnk", "TmpTrns", "TmpOt"], 22),
    run(&["St", "StVnd"], 48, "uint16", None),
];

const METER: &[Run] = &[
    run(&["A", "AphA", "AphB", "AphC"], 2, "int16", Some(6)),
    run(&["PhV", "PhVphA", "PhVphB", "PhVphC", "PPV", "PhVphAB", "PhVphBC", "PhVphCA"], 7, "int16", Some(15)),
    run(&["Hz"], 16, "int16", Some(17)),
    run(&["W", "WphA", "WphB", "WphC"], 18, "int16", Some(22)),
    run(&["VA", "VAphA", "VAphB", "VAphC"], 23, "int16", Some(27)),
    run(&["VAR", "VARphA", "VARphB", "VARphC"], 28, "int16", Some(32)),
    run(&["PF", "PFphA", "PFphB", "PFphC"], 33, "int16", Some(37)),
    counter(
        &[
            "TotWhExp",
            "TotWhExpPhA",
            "TotWhExpPhB",
            "TotWhExpPhC",
            "TotWhImp",
            "TotWhImpPhA",
            "TotWhImpPhB",
            "TotWhImpPhC",
        ],
        38,
        Some(54),
    ),
];

/// What the operating state of an inverter means.
const STATES: &str = ", values: {1: off, 2: sleeping, 3: starting, 4: MPPT, 5: throttled, 6: shutting down, 7: fault, \
                      8: standby}";

/// Registers of one module of model 160.
const MODULE_LENGTH: u16 = 20;

/// Offsets from the module, but for the powers of ten, which all modules share.
const MODULE: &[Run] = &[
    run(&["DCA"], 9, "uint16", Some(2)),
    run(&["DCV"], 10, "uint16", Some(3)),
    run(&["DCW"], 11, "uint16", Some(4)),
    counter(&["DCWH"], 12, Some(5)),
    run(&["Tmp"], 16, "int16", None),
    run(&["DCSt"], 17, "uint16", None),
];

/// The polling groups that read `models` of each of the devices configured as `targets`, of this unit or of these.
#[must_use]
pub fn groups(models: &[Model], targets: &[&str], unit: &str) -> String {
    let targets = targets.iter().map(|target| format!("{target:?}")).collect::<Vec<_>>().join(", ");
    let mut text = String::new();
    let mut names = BTreeSet::new();
    for model in models.iter().filter(|model| !model.points().is_empty()) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  - group_name: SunSpec {} ({})\n    ip_devices: [{targets}]\n    unit: {unit}\n    unavailable: sunspec\n    \
             holding_registers:",
            model.id,
            model.name()
        );
        // The model's own length, and the end of the table.
        let known = model.points().into_iter().filter(|point| point.offset + point.width <= model.length + 2);
        for point in known {
            let Some(address) = model.address.checked_add(point.offset) else { continue };
            let number = |address| Table::HoldingRegisters.number_of(address);
            let scale = point.scale.and_then(|offset| model.address.checked_add(offset));
            let scale = scale.map_or_else(String::new, |address| format!(", scale_register: {}", number(address)));
            let counter = if point.counter { ", counter: true" } else { "" };
            let name = point.name_beside(model.id, number(address), &mut names);
            let unit = point.unit_of_measurement().map(|unit| format!(", unit_of_measurement: \"{unit}\""));
            let (kind, unit) = (point.kind, unit.unwrap_or_default());
            let values = if point.name == "St" { STATES } else { "" };
            let _ = writeln!(
                text,
                "      - {{address: {}, type: {kind}{scale}{counter}, name: {name}{unit}{values}}}",
                number(address)
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::Loaded;
    use crate::modbus::plan::{BlockPoint, Reads, rechecks};

    fn model(id: u16, length: u16) -> Model {
        Model { id, address: 40_069, length }
    }

    /// The configuration with the groups for these models.
    fn loaded(models: &[Model]) -> Loaded {
        let directory = tempfile::tempdir().unwrap();
        let agent = format!("outputs: [sqlite]\npolling_groups:\n{}", groups(models, &["inverter:502"], "126"));
        std::fs::write(directory.path().join("pattoo_agent_modbustcpd.yaml"), agent).unwrap();
        crate::config::load_for(directory.path(), None).unwrap()
    }

    #[test]
    fn every_value_of_every_model_has_a_name_of_its_own() {
        let places = [(103, 50), (160, 8 + 2 * 20), (203, 105), (103, 50), (113, 60), (103, 50)];
        let mut address = 40_069;
        let models = places.map(|(id, length)| {
            let model = Model { id, address, length };
            address = model.next().unwrap();
            model
        });
        let loaded = loaded(&models);
        let names: Vec<_> = loaded.config.points.iter().filter_map(|point| point.naming.name.as_deref()).collect();
        assert_eq!(names.len(), loaded.config.points.len());
        for name in ["W", "W_203", "DCW_1", "DCW_2", "W_103", "W_113", "W_440407"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        let unit = |name: &str| {
            let point = loaded.config.points.iter().find(|point| point.naming.name.as_deref() == Some(name)).unwrap();
            point.naming.metadata.unit_of_measurement.clone()
        };
        let units =
            ["AphA", "PhVphB", "VA", "VAr", "WH", "DCWH_2", "DCA_1", "PF", "TmpSnk", "TotWhImp", "St"].map(unit);
        let expected = ["A", "V", "VA", "var", "Wh", "Wh", "A", "%", "°C", "Wh", ""];
        assert_eq!(units.map(Option::unwrap_or_default), expected);
    }

    #[test]
    fn no_value_of_a_model_shares_a_register_with_another_or_with_a_power_of_ten() {
        for (id, length) in [(101, 50), (103, 50), (113, 60), (160, 8 + 3 * 20), (203, 105)] {
            let points = model(id, length).points();
            let mut taken = BTreeSet::new();
            for point in &points {
                assert!(point.offset + point.width <= length + 2, "{id}: {} is behind the end", point.name);
                for register in point.offset..point.offset + point.width {
                    assert!(taken.insert(register), "{id}: {} at {register}", point.name);
                }
            }
            assert!(points.iter().filter_map(|point| point.scale).all(|scale| !taken.contains(&scale)), "{id}");
        }
    }

    /// A17: of model 160 as many modules as one request can have with the scale registers; all of the others.
    #[test]
    fn what_is_written_is_read_by_one_request_with_its_scale_register_where_the_model_allows_it() {
        let cases = [
            (101, 50, 0),
            (103, 50, 0),
            (203, 105, 0),
            (160, 8 + 2 * 20, 0),
            (160, 8 + 6 * 20, 0),
            (160, 8 + 9 * 20, 12),
        ];
        for (id, length, apart) in cases {
            let loaded = loaded(&[model(id, length)]);
            assert_eq!(loaded.warnings.len(), usize::from(apart > 0), "{id}: {:#?}", loaded.warnings);
            let devices = crate::daemon::assemble::devices(&loaded.config);
            let blocks = &devices[0].cycles[0].blocks;
            let mut scaled = 0;
            let mut alone = 0;
            for block in blocks {
                for point in &block.points {
                    let Reads::Value(_, format) = &point.reads else { continue };
                    let Some(scale) = format.scale_address() else { continue };
                    scaled += 1;
                    let has = |at: &BlockPoint| at.reads == Reads::PowerOfTen && block.address + at.offset == scale;
                    alone += usize::from(!block.points.iter().any(has));
                }
            }
            assert_eq!((alone, scaled > 6), (apart, true), "{id}");
            assert_eq!(rechecks(blocks).len(), usize::from(apart > 0), "{id}");
        }
    }

    #[test]
    fn a_group_is_written_in_the_syntax_of_the_configuration() {
        let text = groups(&[model(1, 66), model(103, 50)], &["inverter:502"], "126");
        assert!(
            text.starts_with(
                "  - group_name: SunSpec 103 (inverter, three phase)\n    ip_devices: [\"inverter:502\"]\n"
            )
        );
        let power =
            "      - {address: 440084, type: int16, scale_register: 440085, name: W, unit_of_measurement: \"W\"}";
        assert!(text.lines().any(|line| line == power), "{text}");
        assert_eq!(model(103, 50).next(), Some(40_121));
        assert_eq!(Model { id: 1, address: 65_000, length: 600 }.next(), None);
    }
}
