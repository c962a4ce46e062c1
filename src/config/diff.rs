//! What an edit of the configuration means: old and new compared, for a reload and for `check --against`. Pure.
//!
//! A device is known by its endpoint; it is *kept* when nothing that concerns it has changed, and *changed* as soon
//! as anything has. Series are what the server knows, whatever reads them. One that the new configuration
//! does not have is *forked* when the same register of the same device goes on under another identity, so that its
//! chart ends and another one begins, and else *orphaned*: its chart ends.
//!
//! Names, units of measurement, tags and texts are no part of an identity: when they change, no device is interrupted
//! and no chart ends.
//!
//! What is opened or remembered only once needs a restart: [`Config::taken_over_by`] leaves it as it is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use super::configuration::{Config, Device, Point};
use super::keys::{self, TABLE, TakesEffect};
use super::outputs::OutputConfig;
use crate::modbus::endpoint::Endpoint;
use crate::modbus::format::{Format, Part};
use crate::modbus::register::{Reference, UnitId};
use crate::reading::points;
use crate::text::{count, some_of};

/// The differences between two configurations.
#[derive(Debug, Default)]
pub struct Diff<'a> {
    /// Devices of the new configuration that go on as they are.
    pub kept: Vec<&'a Device>,
    /// Devices of the old configuration that the new one does not have.
    pub removed: Vec<&'a Device>,
    /// Devices that only the new configuration has.
    pub added: Vec<&'a Device>,
    /// Devices of both that are not read as before: as they were, and as they are to be.
    pub changed: Vec<(&'a Device, &'a Device)>,
    /// Points whose chart ends, with the point that goes on in another chart.
    pub forked: Vec<(&'a Point, &'a Point)>,
    /// Points whose chart ends.
    pub orphaned: Vec<&'a Point>,
    /// Points whose chart begins, those that others went over to not counted.
    pub begun: usize,
    /// Points that get another name: as they were, and as they are to be.
    pub renamed: Vec<(&'a Point, &'a Point)>,
    /// Points that keep their name and get another group, unit of measurement, tag or text.
    pub redescribed: Vec<&'a Point>,
    /// Devices that get another name, as they are to be.
    pub renamed_devices: Vec<&'a Device>,
    /// What happens to outputs, with the next start.
    pub outputs: Vec<OutputDiff<'a>>,
    /// Keys that take effect at once.
    pub settings: Vec<&'static str>,
    /// Keys that take effect with the next start.
    pub needs_restart: Vec<&'static str>,
}

/// The key that stands at the top and with an output.
const SPLIT_REFUSED_AFTER: &str = "split_refused_after";

/// What happens to an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputDiff<'a> {
    /// Only the new configuration has it.
    Added(&'a str),
    /// Only the old configuration has it: what it has not delivered is dropped.
    Removed(&'a str),
    /// It has another name, under which it begins anew: what it has not delivered is dropped.
    Renamed {
        /// Its name in the old configuration.
        from: &'a str,
        /// Its name in the new one.
        to: &'a str,
    },
    /// It goes on where it is, by other settings.
    Changed(&'a str),
}

impl<'a> OutputDiff<'a> {
    /// The name of the output that will not deliver what it has not delivered yet.
    #[must_use]
    pub fn ended(&self) -> Option<&'a str> {
        match self {
            Self::Removed(name) | Self::Renamed { from: name, .. } => Some(name),
            Self::Added(_) | Self::Changed(_) => None,
        }
    }
}

/// What identifies a series, but for what all series of an agent have in common.
type Identity<'a> = (&'a str, UnitId, Reference, Part, points::Kind);

/// What is read from a device and how, whatever the order of the file. Points that are read together are known by the
/// first of them: the number of their group is a place in the file, which another group may push on.
type Readout<'a> = BTreeMap<Identity<'a>, (&'a Format, Duration, Option<Identity<'a>>)>;

fn identity(point: &Point) -> Identity<'_> {
    (&point.target, point.unit, point.reference, point.format.part(), point.kind)
}

impl<'a> Diff<'a> {
    /// What changes when `old` becomes `new`.
    #[must_use]
    pub fn between(old: &'a Config, new: &'a Config) -> Self {
        let mut diff = Self::default();
        diff.compare_devices(old, new);
        diff.compare_series(old, new);
        diff.compare_names(old, new);
        diff.compare_outputs(old, new);
        // After the outputs: whether `outputs` needs a restart is said by what was found there.
        diff.compare_settings(old, new);
        diff
    }

    /// Whether the two say the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let devices = self.removed.len() + self.added.len() + self.changed.len();
        let names = self.renamed.len() + self.redescribed.len() + self.renamed_devices.len();
        devices + names == 0 && self.settings.is_empty() && self.needs_restart.is_empty()
    }

    /// What ends at the server, in one sentence; `None` when every chart goes on.
    #[must_use]
    pub fn orphans(&self) -> Option<String> {
        let names = self.orphaned.iter().map(|point| name(point));
        (!self.orphaned.is_empty()).then(|| {
            format!(
                "{} at the server are orphaned, their charts end here: {}",
                series(self.orphaned.len()),
                some_of(names)
            )
        })
    }

    /// What goes on under another identity, in one sentence; `None` when nothing does.
    #[must_use]
    pub fn forks(&self) -> Option<String> {
        let names = self.forked.iter().map(|(before, after)| format!("{} as {}", name(before), name(after)));
        (!self.forked.is_empty()).then(|| {
            format!(
                "{} at the server are forked, their charts end here and new ones begin: {}",
                series(self.forked.len()),
                some_of(names)
            )
        })
    }

    /// What waits for the next start, in one sentence; `None` when nothing does.
    #[must_use]
    pub fn restart(&self) -> Option<String> {
        let keys = self.needs_restart.join(", ");
        let charts = if self.needs_restart.contains(&"agent_hostname") {
            "; the host name is part of every series, so all charts start anew with it"
        } else {
            ""
        };
        (!self.needs_restart.is_empty()).then(|| format!("only a restart changes {keys}; until then as before{charts}"))
    }

    /// What the next start drops, in one sentence; `None` when every output goes on.
    #[must_use]
    pub fn drops(&self) -> Option<String> {
        let ended: Vec<_> =
            self.outputs.iter().filter(|output| output.ended().is_some()).map(ToString::to_string).collect();
        (!ended.is_empty()).then(|| {
            format!(
                "the next start drops what {} not delivered by then: {}",
                if ended.len() == 1 { "this output has" } else { "these outputs have" },
                some_of(ended.iter())
            )
        })
    }

    fn compare_devices(&mut self, old: &'a Config, new: &'a Config) {
        // By endpoint: the place in the file and the spelling of a name say nothing about which device it is.
        let known: HashMap<_, _> = readouts(old).into_iter().map(|known| (&known.0.endpoint, known)).collect();
        for (device, readout) in readouts(new) {
            match known.get(&device.endpoint) {
                None => self.added.push(device),
                Some((before, as_before)) if same(before, device) && *as_before == readout => self.kept.push(device),
                Some((before, _)) => self.changed.push((before, device)),
            }
        }
        let wanted: HashSet<&Endpoint> = new.devices.iter().map(|device| &device.endpoint).collect();
        self.removed = old.devices.iter().filter(|device| !wanted.contains(&device.endpoint)).collect();
    }

    fn compare_series(&mut self, old: &'a Config, new: &'a Config) {
        let [before, after] =
            [old, new].map(|config| config.points.iter().map(identity).collect::<HashSet<Identity<'_>>>());
        let (mut by_place, mut by_name) = (HashMap::new(), HashMap::new());
        for point in new.points.iter().filter(|point| !before.contains(&identity(point))) {
            self.begun += 1;
            let endpoint = endpoint(new, point);
            // Not the kind of number: when `type` goes from an integer to a float, the same register goes on in another
            // chart.
            let place = (point.reference, point.format.part());
            // Two ways to have been the same point: spelled otherwise (with and without its port), or of another unit.
            by_place.entry((endpoint, point.unit, place)).or_insert(point);
            by_name.entry((endpoint, &point.target, place)).or_insert(point);
        }
        let mut taken = HashSet::new();
        for point in old.points.iter().filter(|point| !after.contains(&identity(point))) {
            let endpoint = endpoint(old, point);
            let place = (point.reference, point.format.part());
            let spelled_otherwise = by_place.get(&(endpoint, point.unit, place));
            let of_another_unit = by_name.get(&(endpoint, &point.target, place));
            // A new chart follows one old chart at most, or what is taken from `begun` below would be too much.
            match spelled_otherwise.or(of_another_unit).filter(|after| taken.insert(identity(after))) {
                Some(after) => self.forked.push((point, after)),
                None => self.orphaned.push(point),
            }
        }
        self.begun -= self.forked.len();
    }

    fn compare_names(&mut self, old: &'a Config, new: &'a Config) {
        let known: HashMap<Identity<'_>, &Point> = old.points.iter().map(|point| (identity(point), point)).collect();
        for after in &new.points {
            match known.get(&identity(after)) {
                Some(before) if before.naming.name != after.naming.name => self.renamed.push((before, after)),
                Some(before)
                    if (&before.naming, &before.tags, &before.group) != (&after.naming, &after.tags, &after.group) =>
                {
                    self.redescribed.push(after);
                }
                _ => {}
            }
        }
        let known: HashMap<&Endpoint, &Device> = old.devices.iter().map(|device| (&device.endpoint, device)).collect();
        let other = |device: &&Device| known.get(&device.endpoint).is_some_and(|before| before.label != device.label);
        self.renamed_devices = new.devices.iter().filter(other).collect();
    }

    fn compare_outputs(&mut self, old: &'a Config, new: &'a Config) {
        // By name, as the cursors on disk are.
        let known = |config: &'a Config, name: &str| config.outputs.iter().find(|output| output.name == name);
        let mut added: Vec<_> = new.outputs.iter().filter(|output| known(old, &output.name).is_none()).collect();
        for output in &old.outputs {
            match known(new, &output.name) {
                // What an output over a network takes changes at once, so that nothing of it waits for the next start.
                Some(same) if same.kind == output.kind || output.is_same_server_type(same) => {}
                Some(_) => self.outputs.push(OutputDiff::Changed(&output.name)),
                None => {
                    // The cursor is known by the name alone, so that a new name begins anew; equal settings only say
                    // that the output was renamed and not taken out.
                    let heir = added.iter().position(|heir| heir.kind == output.kind);
                    self.outputs.push(match heir.map(|place| added.remove(place)) {
                        Some(heir) => OutputDiff::Renamed { from: &output.name, to: &heir.name },
                        None => OutputDiff::Removed(&output.name),
                    });
                }
            }
        }
        self.outputs.extend(added.iter().map(|output| OutputDiff::Added(&output.name)));
    }

    fn compare_settings(&mut self, old: &Config, new: &Config) {
        // Keys of pattoo.yaml: the table of keys has those of this agent's own file alone.
        // Where nothing goes to a pattoo server any more, no other address counts.
        let another_server = new.posts_to_pattoo() && old.server() != new.server();
        let shared_at_once = [("pattoo_agent_api", another_server), ("log_level", old.log_level != new.log_level)];
        let shared_with_a_restart = [
            ("log_directory", old.log_directory != new.log_directory),
            ("cache_directory", old.cache_directory != new.cache_directory),
            ("daemon_directory", old.daemon_directory != new.daemon_directory),
            ("system_daemon_directory", old.system_daemon_directory != new.system_daemon_directory),
            ("outputs", !self.outputs.is_empty()),
        ];
        let differing =
            |keys: &[(&'static str, bool)]| keys.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key).collect();
        self.settings = differing(&shared_at_once);
        self.needs_restart = differing(&shared_with_a_restart);
        for key in keys::differing(old, new) {
            match key.takes_effect {
                TakesEffect::AtOnce => self.settings.push(key.name),
                TakesEffect::WithRestart(_) => self.needs_restart.push(key.name),
                // Groups, devices and outputs, which were compared above.
                TakesEffect::OneByOne => {}
            }
        }
        // What an output says for itself. Of one that is in only one of the two nothing is taken over.
        let known = |output: &OutputConfig| old.outputs.iter().find(|known| known.name == output.name);
        let other = |output: &OutputConfig| {
            known(output).is_some_and(|known| known.split_refused_after != output.split_refused_after)
        };
        let patience =
            |output: &OutputConfig| known(output).is_some_and(|known| known.max_backoff != output.max_backoff);
        let way = |output: &OutputConfig| {
            known(output).is_some_and(|known| known.kind != output.kind && known.is_same_server_type(output))
        };
        if new.outputs.iter().any(way) {
            self.settings.push("outputs");
        }
        let age = |output: &OutputConfig| known(output).is_some_and(|known| known.max_age != output.max_age);
        if new.outputs.iter().any(age) {
            self.settings.push("max_age");
        }
        if new.outputs.iter().any(patience) {
            self.settings.push("max_backoff");
        }
        if new.outputs.iter().any(other) && !self.settings.contains(&SPLIT_REFUSED_AFTER) {
            self.settings.push(SPLIT_REFUSED_AFTER);
        }
    }
}

fn readouts(config: &Config) -> Vec<(&Device, Readout<'_>)> {
    let set = |point: &Point| point.together.map(|number| (point.device, point.unit, point.reference.table(), number));
    let mut first: HashMap<_, Identity<'_>> = HashMap::new();
    for point in &config.points {
        if let Some(set) = set(point) {
            // The least by identity, not the first of the file: an edit may change the order without changing what is
            // read.
            first.entry(set).and_modify(|known| *known = identity(point).min(*known)).or_insert(identity(point));
        }
    }
    let mut readouts: Vec<_> = config.devices.iter().map(|device| (device, Readout::new())).collect();
    for point in &config.points {
        if let Some((_, readout)) = readouts.get_mut(point.device) {
            let together = set(point).and_then(|set| first.get(&set).copied());
            readout.insert(identity(point), (&point.format, point.interval, together));
        }
    }
    readouts
}

/// Whether the two are one device, under the same name in the log and treated alike. Its other spellings are in the
/// order of the file, which says nothing.
fn same(before: &Device, after: &Device) -> bool {
    let spellings = |device: &Device| device.names.iter().cloned().collect::<BTreeSet<_>>();
    (&before.endpoint, &before.settings, before.name()) == (&after.endpoint, &after.settings, after.name())
        && spellings(before) == spellings(after)
}

fn endpoint<'a>(config: &'a Config, point: &Point) -> Option<&'a Endpoint> {
    config.devices.get(point.device).map(|device| &device.endpoint)
}

/// A series as people find it.
pub(super) fn name(point: &Point) -> String {
    format!("{} of {} unit {}", point.called(), point.target, point.unit)
}

/// A device and its name.
pub(super) fn renamed_device(device: &Device) -> String {
    format!("{} is {}", device.name(), device.label.as_deref().unwrap_or("without a name"))
}

/// A point and its new name.
pub(super) fn renamed(before: &Point, after: &Point) -> String {
    let after = after.naming.name.as_deref().map_or_else(|| after.key(), str::to_owned);
    format!("{} is {after}", name(before))
}

fn series(number: usize) -> String {
    format!("{number} series")
}

/// What happens to devices and settings, in one sentence.
impl fmt::Display for Diff<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let mut devices = |what: &str, devices: Vec<&Device>| {
            if !devices.is_empty() {
                let names = some_of(devices.iter().map(|device| device.name()));
                parts.push(format!("{} {what} ({names})", count(devices.len(), "device")));
            }
        };
        devices("added", self.added.clone());
        devices("removed", self.removed.clone());
        devices("replaced", self.changed.iter().map(|(_, after)| *after).collect());
        parts.push(format!("{} kept as they are", count(self.kept.len(), "device")));
        if self.begun > 0 {
            parts.push(format!("{} new at the server", series(self.begun)));
        }
        if !self.renamed.is_empty() {
            let names = some_of(self.renamed.iter().map(|(before, after)| renamed(before, after)));
            parts.push(format!("{} renamed ({names})", count(self.renamed.len(), "point")));
        }
        if !self.redescribed.is_empty() {
            let (points, names) =
                (count(self.redescribed.len(), "point"), some_of(self.redescribed.iter().map(|it| name(it))));
            parts.push(format!("{points} with another group, unit of measurement, tag or text ({names})"));
        }
        if !self.renamed_devices.is_empty() {
            let names = some_of(self.renamed_devices.iter().map(|device| renamed_device(device)));
            parts.push(format!("{} renamed ({names})", count(self.renamed_devices.len(), "device")));
        }
        if !self.settings.is_empty() {
            parts.push(format!("new values of {}", self.settings.join(", ")));
        }
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for OutputDiff<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(name) => write!(f, "{name} is new"),
            Self::Removed(name) => write!(f, "{name} is taken out"),
            Self::Renamed { from, to } => write!(f, "{from} is renamed to {to}"),
            Self::Changed(name) => write!(f, "{name} has other settings"),
        }
    }
}

impl Config {
    /// This configuration once `new` has been taken over without a restart.
    #[must_use]
    pub fn taken_over_by(&self, new: Self) -> Self {
        let posts_to_pattoo = new.posts_to_pattoo();
        let mut next = Self {
            shard: self.shard,
            log_directory: self.log_directory.clone(),
            cache_directory: self.cache_directory.clone(),
            daemon_directory: self.daemon_directory.clone(),
            system_daemon_directory: self.system_daemon_directory.clone(),
            // Whatever is not named here, or in the table, is taken over at once: a key that needs a restart has to say
            // so.
            ..new
        };
        for key in &TABLE {
            if let TakesEffect::WithRestart(keep) = key.takes_effect {
                keep(&mut next, self);
            }
        }
        if !posts_to_pattoo {
            // Its address may have been taken out with it, and it posts there until the restart.
            next.server_host.clone_from(&self.server_host);
            next.server_port = self.server_port;
            next.server_network.clone_from(&self.server_network);
        }
        next
    }
}

#[cfg(test)]
mod tests;
