//! A snapshot for people: what matters in a few lines, then the devices, the worst first.

use std::fmt::Write as _;
use std::time::Duration;

use super::registry::State;
use super::snapshot::{Device, Output, Server, Snapshot, Time};
use crate::reading::Timestamp;
use crate::reading::points::called;
use crate::text::harmless::escaped;
use crate::text::table::TextTable;
use crate::text::{count, seconds};

/// How many devices are shown unless all are asked for.
const MOST_DEVICES: usize = 20;

/// The lines below `Daemon is running`, of at most `width` characters; with `all`, every device.
#[must_use]
pub fn render(snapshot: &Snapshot, all: bool, width: usize) -> String {
    let mut text = String::new();
    for (name, said) in summary(snapshot) {
        // Memory is the only thing that writing to a string can lack.
        writeln!(text, "{name:<9}{}", escaped(&said)).ok();
    }
    text.push('\n');
    text + &devices(snapshot, all, width)
}

fn summary(snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    let Snapshot { now, polling, server, cache, books, .. } = snapshot;
    let rate = polling.readings_per_minute.map_or_else(String::new, |rate| format!(", {rate} readings a minute"));
    let degraded =
        if polling.degraded > 0 { format!(", {} of them not everything", polling.degraded) } else { String::new() };
    let answering = polling.up + polling.degraded;
    let refused = if polling.refused > 0 { format!(", {} of them refused", polling.refused) } else { String::new() };
    let oldest = cache.oldest.map_or_else(String::new, |oldest| format!(", the oldest of {}", ago(oldest, *now)));
    let undated = if cache.undated > 0 { format!(", {} without a date", cache.undated) } else { String::new() };
    let fault = cache.fault.as_ref().map_or_else(String::new, |fault| format!("; {fault}"));
    let old = match cache.batches {
        0 => String::new(),
        1 => ", 1 batch of an old cache".to_owned(),
        batches => format!(", {batches} batches of an old cache"),
    };
    let dropped: Vec<_> =
        books.dropped.iter().filter(|(_, count)| **count > 0).map(|(why, count)| format!(", {why} {count}")).collect();
    let lost: Vec<_> = books
        .lost_by_reason
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(why, count)| format!("{why} {count}"))
        .collect();
    let mut rows: Vec<_> = snapshot.problems.iter().map(|problem| ("PROBLEM", problem.text.clone())).collect();
    if rows.is_empty() && polling.starting == 0 {
        rows.push(("health", "all is well".to_owned()));
    }
    rows.extend([
        ("agent", format!("{} on {}, version {}", snapshot.agent_id, snapshot.hostname, snapshot.version)),
        ("process", format!("{}, started {}", snapshot.pid, ago(snapshot.started, *now))),
        (
            "polling",
            format!(
                "{answering} of {} answer{degraded}; {}{refused}{rate}, {} skipped",
                count(polling.devices, "device"),
                count(polling.points, "point"),
                count(usize::try_from(polling.overruns).unwrap_or(usize::MAX), "poll")
            ),
        ),
        ("server", format!("{}: {}", server.address, health(server, *now))),
        ("cache", format!("{}, {} bytes{old}{oldest}{undated}{fault}", readings(cache.readings), cache.bytes)),
        ("clock", snapshot.clock.state.clone()),
        (
            "readings",
            format!(
                "accepted {}, found on disk {}; delivered {}, on disk {}, in memory {}, quarantined {}{}",
                books.accepted,
                books.found,
                books.delivered,
                books.on_disk,
                books.in_memory,
                books.quarantined,
                dropped.concat()
            ),
        ),
    ]);
    if snapshot.outputs.len() > 1 {
        for Output { name, kind, server, readings: counted, oldest, .. } in &snapshot.outputs {
            let waiting = counted.on_disk + counted.in_memory;
            let oldest = oldest.map_or_else(String::new, |oldest| format!(", the oldest of {}", ago(oldest, *now)));
            let lost = if counted.lost > 0 { format!(", LOST {}", counted.lost) } else { String::new() };
            rows.push((
                "output",
                format!(
                    "{name} ({kind}, {}): {}; delivered {}, {} waiting{oldest}{lost}",
                    server.address,
                    health(server, *now),
                    counted.delivered,
                    waiting
                ),
            ));
        }
    }
    if books.lost > 0 {
        rows.push(("LOST", format!("{} readings since the start: {}", books.lost, lost.join(", "))));
    }
    rows
}

fn readings(number: u64) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "reading")
}

fn health(server: &Server, now: Time) -> String {
    let last = server.last_success.map_or_else(
        || "has taken nothing yet".to_owned(),
        |at| format!("took the last of {} posts {}", server.posts, ago(at, now)),
    );
    let Some(since) = server.failing_since else { return last };
    let next = server.next_attempt.map_or_else(String::new, |at| {
        let wait = at.0.since(now.0);
        format!("; next attempt in {}", seconds(wait))
    });
    let cause = server.cause.as_deref().unwrap_or("no reason is known");
    format!("fails since {}: {cause}{next}; {last}", ago(since, now))
}

fn devices(snapshot: &Snapshot, all: bool, width: usize) -> String {
    let mut devices: Vec<&Device> = snapshot.devices.iter().collect();
    // The list is in order of name, and stays so among equals.
    devices.sort_by_key(|device| (device.state, device.since));
    let shown = if all { devices.len() } else { MOST_DEVICES };
    let mut table = TextTable::new(&["device", "state", "since", "last reading", "points", "why"]);
    for device in devices.iter().take(shown) {
        table.push(row(device, snapshot.now));
    }
    let mut text = table.within(width);
    if let Some(rest) = devices.get(shown..).filter(|rest| !rest.is_empty()) {
        let worst = rest.iter().map(|device| device.state).min().unwrap_or(State::Up);
        writeln!(text, "… and {} more, none worse than {worst}; --all shows them", count(rest.len(), "device")).ok();
    }
    text
}

fn row(device: &Device, now: Time) -> [String; 6] {
    let ago = |time: Option<Time>| time.map_or_else(|| "never".to_owned(), |time| ago(time, now));
    let troubles = device.troubles.iter().map(|trouble| format!("{}: {}", trouble.what, trouble.cause));
    let why: Vec<_> = troubles.chain(device.learned.iter().map(|learned| format!("learned: {learned}"))).collect();
    [
        called(device.label.as_deref(), &device.name),
        device.state.to_string(),
        ago(device.since),
        ago(device.last_good),
        if device.refused > 0 {
            format!("{}, {} refused", device.points, device.refused)
        } else {
            device.points.to_string()
        },
        why.join("; "),
    ]
}

/// `5m ago`, in one unit or two.
fn ago(then: Time, now: Time) -> String {
    let passed = now.0.since(then.0);
    if then == Time(Timestamp::default()) {
        return "never".to_owned();
    }
    let passed = passed.as_secs();
    let rounded = match passed {
        0..3_600 => passed,
        3_600..86_400 => passed / 60 * 60,
        _ => passed / 3_600 * 3_600,
    };
    format!("{} ago", seconds(Duration::from_secs(rounded)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Counters;
    use crate::outage::Fault;
    use crate::status::registry::{Polled, Registry};
    use crate::status::snapshot::{Clock, Profile, Rates, take};
    use crate::time::clock::Moment;

    #[test]
    fn the_worst_devices_come_first_and_the_rest_is_a_number_unless_all_are_asked_for() {
        let registry = Registry::default();
        let wall = Timestamp::from_millis(1_700_000_000_000);
        let now = Moment { wall, boot: Duration::from_secs(60) };
        for device in 0..10_000 {
            let failing = [0, 4, 2][usize::from(device == 9_998) + 2 * usize::from(device == 9_999)];
            let fault = Fault { since: wall, cause: "no whole reply within 3s".to_owned() };
            let faults = if failing > 0 { vec![("unit 1".to_owned(), fault)] } else { Vec::new() };
            registry.device(&format!("plc{device:04}")).write(|state| {
                state.points = 4;
                state.polled(Polled { readings: 4 - failing, failing, faults, ..Polled::default() }, now);
            });
        }
        let profile = Profile {
            agent_id: String::new(),
            hostname: String::new(),
            outputs: Vec::new(),
            started: wall,
            history: None,
        };
        let clock = Clock { good: true, state: String::new() };
        let snapshot = take(&profile, &registry, &Counters::default(), &Rates::default(), clock, now);
        let text = render(&snapshot, false, usize::MAX);
        let rows: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("device ")).skip(1).collect();
        assert!(
            rows[0].starts_with("plc9998  down") && rows[0].ends_with("unit 1: no whole reply within 3s"),
            "{text}"
        );
        assert!(rows[1].starts_with("plc9999  degraded") && rows[2].starts_with("plc0000  up"), "{text}");
        assert_eq!(rows[MOST_DEVICES], "… and 9980 devices more, none worse than up; --all shows them");
        assert_eq!(rows.len(), MOST_DEVICES + 1);
        assert!(text.contains("9999 of 10000 devices answer, 1 of them not everything; 40000 points"), "{text}");
        assert_eq!(render(&snapshot, true, usize::MAX).lines().filter(|line| line.starts_with("plc")).count(), 10_000);
    }
}
