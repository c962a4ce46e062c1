//! A polling group as it is answered, and as it is written.

use crate::commands::sunspec::{self, Model};
use crate::config::edit;
use crate::modbus::settings::Transport;

/// What is polled of devices that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its devices, between commas or spaces.
    pub devices: String,
    /// Their unit, or units.
    pub unit: String,
    /// Input registers; `-` for none.
    pub input: String,
    /// Holding registers; `-` for none.
    pub holding: String,
    /// The models that are read instead of registers, if the devices have any.
    pub models: Vec<Model>,
    /// Those of its devices that speak RTU over TCP, and perhaps others.
    pub rtu: Vec<String>,
}

impl Default for Group {
    /// What is offered, as the Python agent's installation offers it.
    fn default() -> Self {
        let [name, devices, unit, input, holding] = ["group 1", "127.0.0.1:502", "0", "30001", "-"].map(str::to_owned);
        Self { name, devices, unit, input, holding, models: Vec::new(), rtu: Vec::new() }
    }
}

impl Group {
    /// Its devices, each by itself.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        words(&self.devices)
    }

    /// Those of its devices that speak RTU over TCP.
    pub fn rtu_targets(&self) -> impl Iterator<Item = &str> {
        self.targets().filter(|target| self.rtu.iter().any(|rtu| rtu == target))
    }

    /// How requests to this device travel.
    #[must_use]
    pub fn transport_of(&self, target: &str) -> Transport {
        if self.rtu.iter().any(|rtu| rtu == target) { Transport::Rtu } else { Transport::Tcp }
    }

    /// The first unit of each of its ranges of units.
    pub fn first_units(&self) -> impl Iterator<Item = u8> {
        words(&self.unit).filter_map(|range| range.split('-').next()?.parse().ok())
    }

    /// Items of `polling_groups`: what a person types between commas is what the file says.
    #[must_use]
    pub fn items(&self) -> String {
        let Self { name, unit, input, holding, models, .. } = self;
        let units: Vec<&str> = words(unit).collect();
        // One unit alone as a number, which the Python agent understands too.
        let unit = if let [one] = units[..] { one.to_owned() } else { format!("[{}]", units.join(", ")) };
        if !models.is_empty() {
            let targets: Vec<&str> = self.targets().collect();
            let groups = sunspec::groups(models, &targets, &unit);
            // Not indented, as `Edit::append` wants it: the file says how deep its list stands.
            let lines = groups.split_inclusive('\n').map(|line| line.strip_prefix("  ").unwrap_or(line));
            return lines.collect();
        }
        // Always in quotes: `[2001:db8::7]:502` would be a list to YAML.
        let targets: Vec<String> = self.targets().map(edit::in_quotes).collect();
        let mut registers = String::new();
        for (key, list) in [("input_registers", input), ("holding_registers", holding)] {
            let list = registers_of(list);
            if !list.is_empty() {
                registers.extend(["  ", key, ": [", &list, "]\n"]);
            }
        }
        format!(
            "- group_name: {}\n  ip_devices: [{}]\n  unit: {unit}\n{registers}",
            edit::quoted(name),
            targets.join(", ")
        )
    }

    /// Whether it reads anything.
    #[must_use]
    pub fn reads(&self) -> bool {
        !self.models.is_empty() || [&self.input, &self.holding].into_iter().any(|list| !registers_of(list).is_empty())
    }
}

/// Registers as they stand between brackets; what has braces is written by somebody who knows how.
fn registers_of(list: &str) -> String {
    if list.contains('{') {
        return list.trim_matches(['[', ']']).to_owned();
    }
    words(list).filter(|word| *word != "-").collect::<Vec<_>>().join(", ")
}

/// The words of a list with commas or spaces.
pub fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ' ']).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_with_commas_or_spaces() {
        let group = Group {
            devices: "plc:1502, [2001:db8::7]:502".to_owned(),
            unit: "1".to_owned(),
            input: "30001 30002".to_owned(),
            ..Group::default()
        };
        let expected = "- group_name: group 1\n  ip_devices: [\"plc:1502\", \"[2001:db8::7]:502\"]\n  unit: 1\n  \
                        input_registers: [30001, 30002]\n";
        assert_eq!(group.items(), expected);
        let several = Group { unit: "1, 2 5-7".to_owned(), ..group.clone() };
        assert!(several.items().contains("  unit: [1, 2, 5-7]\n"), "{}", several.items());
        let typed = Group { input: "{address: 30001, type: float32}".to_owned(), name: "a: b".to_owned(), ..group };
        assert!(typed.items().contains("  input_registers: [{address: 30001, type: float32}]\n"), "{}", typed.items());
        assert!(typed.items().starts_with("- group_name: \"a: b\"\n"), "{}", typed.items());
        assert!(!Group { input: "-".to_owned(), ..Group::default() }.reads());
    }

    #[test]
    fn models_are_read_instead_of_registers() {
        let models = vec![Model { id: 103, address: 40_070, length: 50 }];
        let group = Group { devices: "a, b".to_owned(), unit: "126".to_owned(), models, ..Group::default() };
        let items = group.items();
        let begin = "- group_name: SunSpec 103 (inverter, three phase)\n  ip_devices: [\"a\", \"b\"]\n  unit: 126\n";
        assert!(items.starts_with(begin) && items.contains("\n    - {address: 440085, "), "{items}");
    }
}
