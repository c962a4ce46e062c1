//! `plan`: every request of a poll, and whether there is time for all of them. Without a network.
//!
//! Requests for scale registers that are read again at the end of a poll are among them: they are made in every poll.
//!
//! How long a device takes for a request is assumed, unless it is measured by a poll. At worst each unit costs one
//! timeout: more does not happen in a poll, because a unit that has not answered is left alone.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::terminal::{complain, pour, say, width};
use crate::config::{Config, Instance};
use crate::daemon::assemble;
use crate::daemon::exit::{self, Exit};
use crate::modbus::endpoint::Endpoint;
use crate::modbus::plan::{Block, rechecks};
use crate::modbus::session::{Cycle, DeviceSettings};
use crate::modbus::session::{EndpointDial, Session};
use crate::text::alike::{MANY, alike, first};
use crate::text::harmless::{self, escaped};
use crate::text::table::TextTable;
use crate::text::{count, seconds, some_of};
use crate::time::clock;

/// How long a device is assumed to take for a request.
pub const ASSUMED: Duration = Duration::from_millis(50);

/// Of a device for whose requests there is no time.
const DOES_NOT_FIT: &str = "DOES NOT FIT";

/// How to plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// How long a request takes; `None`: [`ASSUMED`].
    pub response: Option<Duration>,
    /// Poll each device once to know.
    pub measure: bool,
    /// As JSON.
    pub json: bool,
    /// Every row, however many there are.
    pub all: bool,
}

/// One request.
#[derive(Debug, Serialize)]
struct Request {
    device: String,
    interval: String,
    unit: u8,
    table: String,
    numbers: String,
    quantity: u16,
    points: usize,
    /// Entries that are read though nobody asked for them.
    unused: u16,
    /// Whether it reads scale registers again, because a value could not be read by one request with its own.
    again: bool,
}

/// One device and its time.
#[derive(Debug, Serialize)]
pub struct Timing {
    /// As the log calls it.
    pub device: String,
    /// The polling groups that read it.
    pub groups: Vec<String>,
    /// Requests in the poll in which all of its groups are due.
    pub requests: usize,
    /// Seconds that this takes.
    pub expected: f64,
    /// Seconds that it takes when each unit lets one request time out.
    pub worst: f64,
    /// Seconds between two polls, the shortest of its groups.
    pub interval: f64,
    /// Whether it was measured.
    pub measured: bool,
}

impl Timing {
    /// Whether there is time for all requests.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.expected <= self.interval
    }
}

/// Prints every request and every device's time.
#[must_use]
pub fn plan(instance: &Instance, options: Options) -> Exit {
    let config = match instance.load() {
        Ok(loaded) => loaded.config,
        Err(error) => return exit::refuse(&error),
    };
    let devices = assemble::devices(&config);
    let groups = groups(&config);
    let requests: Vec<Request> = devices.iter().flat_map(|device| requests(device)).collect();
    let timings: Vec<Timing> = devices
        .iter()
        .map(|device| {
            let measured = if options.measure { measure(device) } else { None };
            if options.measure && measured.is_none() {
                complain(&format!("{}: does not answer, so that its time is assumed", device.name));
            }
            timing(&groups, device, options.response.unwrap_or(ASSUMED), measured)
        })
        .collect();
    if options.json {
        let both = serde_json::json!({"requests": requests, "devices": timings});
        pour(&(harmless::json(&serde_json::to_string_pretty(&both).unwrap_or_default()) + "\n"));
        return Exit::Done;
    }
    // Only the table is cut: JSON, for programs, has every row.
    let many = requests.len() > MANY && !options.all;
    let mut by_device: Vec<(String, Vec<[String; 7]>)> = Vec::new();
    for request in requests {
        let (device, row) = request.row();
        match by_device.last_mut().filter(|(last, _)| *last == device) {
            Some((_, rows)) => rows.push(row),
            None => by_device.push((device, vec![row])),
        }
    }
    if many {
        by_device = alike(by_device.into_iter());
    }
    let with_device = |(device, rows): (String, Vec<[String; 7]>)| {
        rows.into_iter().map(move |[a, b, c, d, e, f, g]| [device.clone(), a, b, c, d, e, f, g])
    };
    let rows: Vec<[String; 8]> = by_device.into_iter().flat_map(with_device).collect();
    let (shown, more) = if many { first(&rows) } else { (&*rows, None) };
    let mut table = TextTable::new(&["device", "interval", "unit", "table", "numbers", "quantity", "points", "unused"]);
    for row in shown {
        table.push(row.iter().cloned());
    }
    say(&format!("{}{}\n", table.within(width()), more.unwrap_or_default()));
    let verdicts: Vec<_> = timings.iter().map(|timing| (timing.device.clone(), verdict(timing))).collect();
    let verdicts = if many { alike(verdicts.into_iter()) } else { verdicts };
    let (shown, more) = if many { first(&verdicts) } else { (&*verdicts, None) };
    // What does not fit is never among those that are left out.
    let left_out = verdicts.iter().skip(shown.len()).filter(|(_, verdict)| verdict.contains(DOES_NOT_FIT));
    for (device, verdict) in shown.iter().chain(left_out) {
        say(&format!("{}: {verdict}\n", escaped(device)));
    }
    say(&more.unwrap_or_default());
    Exit::Done
}

impl Request {
    /// Its device, and the cells of its row.
    fn row(self) -> (String, [String; 7]) {
        let (unit, quantity) = (self.unit.to_string(), self.quantity.to_string());
        let (points, unused) = (self.points.to_string(), self.unused.to_string());
        let numbers = if self.again { self.numbers + " again" } else { self.numbers };
        (self.device, [self.interval, unit, self.table, numbers, quantity, points, unused])
    }
}

/// What to say of devices for whose requests there is no time, alike ones together.
#[must_use]
pub fn tight(timings: &[Timing]) -> Vec<String> {
    let tight = timings.iter().filter(|timing| !timing.fits()).map(|timing| (timing.device.clone(), verdict(timing)));
    alike(tight).into_iter().map(|(device, verdict)| format!("{}: {verdict}", escaped(&device))).collect()
}

/// How each device of `config` fits into its interval when a request takes as long as is assumed.
#[must_use]
pub fn timings(config: &Config) -> Vec<Timing> {
    let groups = groups(config);
    assemble::devices(config).iter().map(|device| timing(&groups, device, ASSUMED, None)).collect()
}

/// The polling groups that read each device.
type Groups<'c> = HashMap<&'c Endpoint, BTreeSet<&'c str>>;

fn groups(config: &Config) -> Groups<'_> {
    let mut groups = Groups::new();
    for point in &config.points {
        if let Some(device) = config.devices.get(point.device) {
            groups.entry(&device.endpoint).or_default().insert(&point.group);
        }
    }
    groups
}

/// One sentence without its subject: how long a device takes, and what to do if that is too long.
fn verdict(timing: &Timing) -> String {
    let Timing { groups, requests, expected, worst, interval, measured, .. } = timing;
    let span = |seconds_: f64| seconds(Duration::try_from_secs_f64(seconds_).unwrap_or_default()).to_string();
    let how = if *measured { "measured" } else { "assumed" };
    let (requests, interval) = (count(*requests, "request"), span(*interval));
    let takes = format!("{requests}, {how} {}, at worst {}, each {interval}", span(*expected), span(*worst));
    if !timing.fits() {
        let groups = some_of(groups.iter());
        return format!("{takes}: {DOES_NOT_FIT}; lengthen polling_interval of {groups}, or read less of this device");
    }
    let late = if *worst > timing.interval { "; polls are skipped while a unit does not answer" } else { "" };
    format!("{takes}: fits{late}")
}

fn requests(device: &DeviceSettings) -> impl Iterator<Item = Request> + '_ {
    device.cycles.iter().flat_map(move |Cycle { interval, blocks }| {
        let request = move |block: &Block, again| {
            let first = block.table.number_of(block.address);
            let last = first + u32::from(block.quantity) - 1;
            Request {
                device: device.name.clone(),
                interval: seconds(*interval).to_string(),
                unit: block.unit.0,
                table: block.table.to_string(),
                numbers: if first == last { first.to_string() } else { format!("{first}-{last}") },
                quantity: block.quantity,
                points: block.values().count(),
                unused: unused(block),
                again,
            }
        };
        let again: Vec<Request> = rechecks(blocks).iter().map(|block| request(block, true)).collect();
        blocks.iter().map(move |block| request(block, false)).chain(again)
    })
}

fn unused(block: &Block) -> u16 {
    // A set, because points may share registers (bits, bytes, overlaps).
    let used: BTreeSet<u16> = block.points.iter().flat_map(|point| point.offset..point.offset + point.width).collect();
    block.quantity.saturating_sub(u16::try_from(used.len()).unwrap_or(u16::MAX))
}

fn timing(groups: &Groups<'_>, device: &DeviceSettings, response: Duration, measured: Option<Duration>) -> Timing {
    // All cycles at once: the poll in which every interval is due is the longest one.
    let blocks: Vec<&Block> = device.cycles.iter().flat_map(|cycle| &cycle.blocks).collect();
    let asked = blocks.len() + rechecks(blocks.iter().copied()).len();
    let units: BTreeSet<u8> = blocks.iter().map(|block| block.unit.0).collect();
    let settings = &device.settings;
    let each = response + settings.pause_between_requests;
    // Otherwise a poll finds the connection of the one before.
    let connecting = if settings.close_after_poll { settings.pause_after_connect + response } else { Duration::ZERO };
    let requests = u32::try_from(asked).unwrap_or(u32::MAX);
    let expected = measured.unwrap_or(connecting + each * requests);
    let timeouts = settings.response_timeout * u32::try_from(units.len()).unwrap_or(u32::MAX);
    // The shortest: a poll that takes longer than that has the next one skipped.
    let interval = device.cycles.iter().map(|cycle| cycle.interval).min().unwrap_or_default();
    Timing {
        device: device.name.clone(),
        groups: groups.get(&device.endpoint).into_iter().flatten().map(|&group| group.to_owned()).collect(),
        requests: asked,
        expected: expected.as_secs_f64(),
        worst: (expected + timeouts).as_secs_f64(),
        interval: interval.as_secs_f64(),
        measured: measured.is_some(),
    }
}

/// How long a poll takes that needs no new connection; `None` when the device does not answer.
fn measure(device: &DeviceSettings) -> Option<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let measured = runtime.block_on(async {
        let dial = EndpointDial::new(&device.endpoint, device.settings.clone());
        let mut session = Session::new(dial, device.settings.clone());
        let blocks = || device.cycles.iter().flat_map(|cycle| &cycle.blocks);
        let mut took = None;
        // The first one connects, and finds out what is refused.
        for _ in 0..2 {
            let begun = Instant::now();
            let outcome = session.poll(blocks(), clock::wall).await;
            took = outcome.answered.then(|| begun.elapsed());
        }
        took
    });
    runtime.shutdown_background();
    measured
}
