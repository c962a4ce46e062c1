//! Which devices are polled, and what of them: each device is asked at once who it is and what it has, and what is read of it is
//! shown before anything is written.

use std::mem;

use super::ConfigureError;
use super::drafts::Drafts;
use super::group::{Group, words};
use super::interview::{Choice, Interview, Objection};
use super::network::{Floats, Network, Values};
use crate::commands::candidate::{Contact, USUAL_UNITS};
use crate::commands::sunspec::Model;
use crate::config::{Config, ConfigError, Diagnostic, Point};
use crate::modbus::register::Table;
use crate::text::count;
use crate::text::harmless::escaped;

/// What the first question allows.
const ADDRESS: &str = "Address of a device, or of several that are alike, with commas:\n   host, host:port, [IPv6]:port or serial:/dev/ttyUSB0";

/// What to do about a device that does not answer.
const AWAY: [Choice; 3] = [
    ("other", "give another address"),
    ("keep", "keep it all the same: it may be off today, or be another unit"),
    ("end", "end, and write nothing"),
];

/// What is known of the devices of one address list.
struct Met {
    /// The unit to offer.
    unit: u8,
    /// Those that answer.
    answering: Vec<String>,
    /// Those that take a connection and do not answer.
    silent: Vec<String>,
}

/// Asks for groups until there are enough, and puts them into `drafts`.
pub fn ask(
    interview: &mut Interview<'_>,
    network: &mut dyn Network,
    drafts: &mut Drafts,
) -> Result<(), ConfigureError> {
    let is_new = drafts.agent.is_none();
    loop {
        let name = format!("group {}", drafts.next_place() + 1);
        let mut dialogue = Dialogue { interview, network, drafts, group: Group { name, ..Group::default() } };
        dialogue.group()?;
        let group = dialogue.group;
        drafts.add(&group);
        // Once, and not in a file that is there: its interval is somebody's decision.
        if is_new && drafts.groups.len() == 1 {
            let offered = drafts.interval.clone();
            let judged = interview.ask("How often it is all read (300, 10s, 5m)", &offered, |answer| {
                let mut trial = drafts.clone();
                answer.clone_into(&mut trial.interval);
                about(&trial, |it, is_fault| it.path == "polling_interval" && is_fault)
            });
            drafts.interval = judged?;
        }
        if !interview.agrees("Another group, of other devices or registers?", false)? {
            return Ok(());
        }
    }
}

/// What is said against an answer; what cannot be judged is judged at the end with everything else.
fn about(trial: &Drafts, is_about: impl Fn(&Diagnostic, bool) -> bool) -> Vec<Objection> {
    let objection = |it: &Diagnostic| {
        // A bracket, a quote or a colon, which the whole file is wrong for.
        if it.path.is_empty() {
            format!("it would make a file that cannot be read: {}", it.message).into()
        } else {
            it.into()
        }
    };
    trial.objections(is_about).unwrap_or_default().iter().map(objection).collect()
}

/// The conversation about one group.
struct Dialogue<'d, 'p> {
    interview: &'d mut Interview<'p>,
    network: &'d mut dyn Network,
    drafts: &'d Drafts,
    group: Group,
}

impl Dialogue<'_, '_> {
    fn group(&mut self) -> Result<(), ConfigureError> {
        // What a default offers is nobody's device: an empty answer must not ask 127.0.0.1.
        self.group.devices = String::new();
        let mut met = self.meet()?;
        self.group.unit = met.unit.to_string();
        self.key("Its unit id (slave id), or several such as 1, 5-8", "unit", |group| &mut group.unit)?;
        self.ask_told_units(&mut met);
        if !self.takes_models(&met.answering)? {
            self.registers(&met.answering)?;
        }
        self.more_devices()?;
        if self.group.models.is_empty() {
            self.key("Name of this group", "group_name", |group| &mut group.name)?;
        }
        Ok(())
    }

    /// Asks for addresses until their devices answer, or are kept though they do not.
    fn meet(&mut self) -> Result<Met, ConfigureError> {
        loop {
            self.key(ADDRESS, "ip_devices", |group| &mut group.devices)?;
            let mut met = Met { unit: 1, answering: Vec::new(), silent: Vec::new() };
            let mut is_away = false;
            let targets: Vec<String> = self.group.targets().map(str::to_owned).collect();
            self.interview.tell(&format!("   Asking {} ...\n", escaped(&targets.join(", "))));
            let contacts = self.network.contact(&targets, &USUAL_UNITS);
            for (target, contact) in targets.into_iter().zip(contacts) {
                match contact {
                    Contact::Answers { unit, is_rtu } => {
                        let not_1 = if unit == 1 { "" } else { ", and not as unit 1" };
                        // The first that answers decides which unit is offered for all.
                        if met.answering.is_empty() {
                            met.unit = unit;
                        }
                        self.answers(&mut met, target, &format!("unit {unit}{not_1}"), is_rtu);
                    }
                    Contact::Silent(why) => {
                        let why = format!(
                            "   {} takes a connection, but none of the units 1, 0 and 255 answers: {why}\n",
                            escaped(&target)
                        );
                        self.interview.tell(&why);
                        met.silent.push(target);
                        is_away = true;
                    }
                    Contact::Away(why) => {
                        self.interview.tell(&format!("   {}: {why}\n", escaped(&target)));
                        is_away = true;
                    }
                }
            }
            if !is_away {
                return Ok(met);
            }
            match self.interview.choose("What now?", &AWAY, 0)? {
                0 => {}
                1 => return Ok(met),
                _ => return Err(ConfigureError::Ended),
            }
        }
    }

    /// Asks those that are silent as the units that were answered: behind a gateway they may be any.
    fn ask_told_units(&mut self, met: &mut Met) {
        // The usual ones have been asked.
        let units: Vec<u8> = self.group.first_units().filter(|unit| !USUAL_UNITS.contains(unit)).collect();
        let silent = mem::take(&mut met.silent);
        if silent.is_empty() || units.is_empty() {
            return;
        }
        self.interview.tell(&format!("   Asking {} ...\n", escaped(&silent.join(", "))));
        for (target, contact) in silent.iter().zip(self.network.contact(&silent, &units)) {
            match contact {
                Contact::Answers { unit, is_rtu } => {
                    self.answers(met, target.clone(), &format!("unit {unit}"), is_rtu);
                }
                Contact::Silent(why) | Contact::Away(why) => {
                    self.interview.tell(&format!("   {} does not answer: {why}\n", escaped(target)));
                }
            }
        }
    }

    /// This device answers.
    fn answers(&mut self, met: &mut Met, target: String, as_what: &str, is_rtu: bool) {
        let how = if is_rtu { ", by RTU over TCP" } else { "" };
        self.interview.tell(&format!("   {} answers as {as_what}{how}.\n", escaped(&target)));
        if is_rtu {
            self.group.rtu.push(target.clone());
        }
        met.answering.push(target);
    }

    /// Offers what the models of SunSpec devices have; whether that is what is read.
    fn takes_models(&mut self, answering: &[String]) -> Result<bool, ConfigureError> {
        // Of several units each may be another device: no models are looked for.
        let Ok(unit) = self.group.unit.parse() else { return Ok(false) };
        let Some((first, others)) = answering.split_first() else { return Ok(false) };
        // A device that answers slowly takes seconds here.
        self.interview.tell("   Looking for models of SunSpec ...\n");
        let Some(models) = self.network.models(first, unit, self.group.transport_of(first)) else { return Ok(false) };
        let known: Vec<Model> = models.into_iter().filter(|model| !model.name().is_empty()).collect();
        let listed: Vec<_> = known.iter().map(|model| format!("{} {}", model.id, model.name())).collect();
        self.interview.tell(&format!("   {} is a SunSpec device: {}.\n", escaped(first), listed.join("; ")));
        for other in others {
            let models = self.network.models(other, unit, self.group.transport_of(other));
            // At the same addresses, too: one group reads the same registers of all its devices.
            if models.is_none_or(|models| !known.iter().all(|model| models.contains(model))) {
                let what = format!("   {} has not the same models; give it a group of its own.\n", escaped(other));
                self.interview.tell(&what);
                return Ok(false);
            }
        }
        self.group.models = known;
        if self.group.items().is_empty() {
            self.interview.tell("   What its models hold is not known here; it is read by register numbers.\n");
        } else {
            self.show(answering)?;
            if self.interview.agrees("Read these, with the names and units of measurement of the models?", true)? {
                return Ok(true);
            }
        }
        // The registers that are asked for next would not be written beside models.
        self.group.models.clear();
        Ok(false)
    }

    /// Asks for registers until what is read of them looks right.
    fn registers(&mut self, answering: &[String]) -> Result<(), ConfigureError> {
        loop {
            let what = "Input registers, such as 30001, 30005-30008; - for none";
            self.key(what, "input_registers", |group| &mut group.input)?;
            let what = "Holding registers, such as 40001, 40005-40008; - for none";
            self.key(what, "holding_registers", |group| &mut group.holding)?;
            // Nothing can be shown, so there is nothing to agree to.
            if answering.is_empty() {
                return Ok(());
            }
            if let Some(Floats { table, entry }) = self.show(answering)?.floats {
                let what = "All pairs look like numbers of two registers (float32). Read them so?";
                if self.interview.agrees(what, true)? {
                    let is_input = table == Table::InputRegisters;
                    *(if is_input { &mut self.group.input } else { &mut self.group.holding }) = entry;
                    self.show(answering)?;
                }
            }
            if self.interview.agrees("Does that look right?", true)? {
                return Ok(());
            }
        }
    }

    /// Asks for more devices that are read alike, and shows what is read of each.
    fn more_devices(&mut self) -> Result<(), ConfigureError> {
        loop {
            let before = self.group.clone();
            let place = self.drafts.next_place();
            let asked =
                self.interview.ask("Address of another device that is read alike; - for none", "-", |answer| {
                    match &*answer.to_lowercase() {
                        "-" | "no" | "n" => return Vec::new(),
                        "yes" | "y" => return vec!["answer its address, or - for none".to_owned().into()],
                        _ => {}
                    }
                    let devices = answer.to_owned();
                    let trial = self.drafts.with_group(&Group { devices, ..before.clone() });
                    about(&trial, |it, is_fault| is_fault && is_of(it, place, "ip_devices"))
                })?;
            if ["-", "no", "n"].contains(&&*asked.to_lowercase()) {
                return Ok(());
            }
            let more: Vec<String> = words(&asked).map(str::to_owned).collect();
            self.group.devices = asked;
            // Read alike, so over the same kind of converter; what is read of it is shown before it is kept.
            if !before.rtu.is_empty() {
                self.group.rtu.extend(more.iter().cloned());
            }
            let gives_something = self.show(&more)?.read > 0;
            let is_kept = self.interview.agrees("Keep it in this group?", gives_something)?;
            let devices = format!("{}, {}", before.devices, more.join(", "));
            let rtu = mem::take(&mut self.group.rtu);
            self.group = if is_kept { Group { devices, rtu, ..before } } else { before };
        }
    }

    /// Asks for one part of the group.
    fn key(&mut self, what: &str, key: &str, of: fn(&mut Group) -> &mut String) -> Result<(), ConfigureError> {
        let offered = of(&mut self.group).clone();
        let (group, drafts, place) = (&mut self.group, self.drafts, self.drafts.next_place());
        let answer = self.interview.ask(what, &offered, |answer| {
            let mut trial = group.clone();
            answer.clone_into(of(&mut trial));
            // What comes next is judged when it is answered.
            let reads = trial.reads();
            // Without registers a group is a fault of its own, which is not about this answer.
            if !reads {
                trial.input = Group::default().input;
            }
            if trial.devices.is_empty() {
                trial.devices = Group::default().devices;
            }
            let is_register = key.ends_with("registers");
            if is_register && !reads {
                // What stands in for them is not what was answered.
                let neither = "found no input registers either; one of the two is needed";
                return if key == "holding_registers" { vec![neither.to_owned().into()] } else { Vec::new() };
            }
            about(&drafts.with_group(&trial), |it, is_fault| is_of(it, place, key) && (is_fault || is_register))
        })?;
        *of(group) = answer;
        Ok(())
    }

    /// Shows what these devices of the group give.
    fn show(&mut self, devices: &[String]) -> Result<Values, ConfigureError> {
        let group = Group { devices: devices.join(", "), ..self.group.clone() };
        let config = self.alone(&group)?;
        let values = self.network.poll(&config);
        let read = match values.of {
            0 => "   Another group has all of it polled already.\n".to_owned(),
            of => format!("{} of {} read.\n", values.read, count(of, "point")),
        };
        self.interview.tell(&format!("\n{}{read}", values.text));
        Ok(values)
    }

    /// The configuration with no points but those of this group.
    fn alone(&self, group: &Group) -> Result<Config, ConfigureError> {
        let wrong = |error: ConfigError| ConfigureError::Wrong(error.shown());
        let mut trial = self.drafts.clone();
        trial.groups.clear();
        trial.rtu.clear();
        trial.add(group);
        if trial.agent.is_none() {
            return Ok(trial.load_apart().map_err(wrong)?.config);
        }
        // With the settings of devices that stand there, and without what is polled already.
        let targets: Vec<&str> = group.targets().collect();
        // The names as they are written: models make a group each, whose names are not the one of this group.
        let names = names_of(&group.items());
        let is_new =
            |point: &Point| targets.contains(&&*point.target) && names.iter().any(|name| **name == *point.group);
        Ok(trial.load()?.map_err(wrong)?.config.with_points(is_new))
    }
}

/// Whether it is about this key of the group at this place, or about no key, because what is written is no YAML.
fn is_of(diagnostic: &Diagnostic, place: usize, key: &str) -> bool {
    diagnostic.path.starts_with(&format!("polling_groups[{place}].{key}"))
        || (diagnostic.path.is_empty() && diagnostic.position.is_some())
}

/// The names of groups that are written as items.
fn names_of(items: &str) -> Vec<String> {
    let names = items.lines().filter_map(|line| line.strip_prefix("- group_name: "));
    names.map(|name| serde_json::from_str(name).unwrap_or_else(|_| name.to_owned())).collect()
}
