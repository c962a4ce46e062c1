//! What is not as it should be, for whoever has one glance: the banner of the page, the first lines of `--status`. Pure.
//!
//! Each problem is one sentence, of what is at fault and since when. Nothing else decides whether all is well, so the page, the
//! tab and the status never disagree.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::registry::State;
use super::snapshot::{Output, Snapshot, Time};
use crate::text::{count, grouped, seconds};

/// An output that was well a moment ago is no reason to get up at night.
const PATIENCE: Duration = Duration::from_secs(60);

/// How bad it is; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Readings are lost, or no reading comes or goes any more.
    Error,
    /// Something does not work, and nothing is lost by it that could be had.
    Warning,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: `devices`, `output`, `disk`, `clock` or `lost`.
    pub about: String,
    /// In words.
    pub text: String,
}

/// What is not as it should be, the worst first.
#[must_use]
pub fn problems(snapshot: &Snapshot) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |severity, about: &str, text| problems.push(Problem { severity, about: about.to_owned(), text });
    if snapshot.books.lost > 0 {
        let text = format!("{} readings are LOST since the start", grouped(snapshot.books.lost));
        add(Severity::Error, "lost", text);
    }
    if let Some(fault) = &snapshot.cache.fault {
        add(Severity::Error, "disk", format!("the disk takes no readings: {fault}"));
    }
    if !snapshot.clock.good {
        add(Severity::Warning, "clock", format!("the clock is not believed: {}", snapshot.clock.state));
    }
    for output in &snapshot.outputs {
        if let Some((severity, text)) = of_output(output, snapshot.now) {
            add(severity, "output", text);
        }
    }
    if let Some((severity, text)) = of_devices(snapshot) {
        add(severity, "devices", text);
    }
    // A stable sort: among equals the order of above stays.
    problems.sort_by_key(|problem| problem.severity);
    problems
}

fn of_output(output: &Output, now: Time) -> Option<(Severity, String)> {
    let since = output.server.failing_since?;
    let lasted = now.0.since(since.0);
    let cause = output.server.cause.as_deref().unwrap_or("no reason is known");
    let severity = if lasted < PATIENCE { Severity::Warning } else { Severity::Error };
    let waiting = output.readings.on_disk + output.readings.in_memory;
    Some((
        severity,
        format!(
            "output {} delivers nothing for {}: {cause}; {} readings wait",
            output.name,
            seconds(Duration::from_secs(lasted.as_secs())),
            grouped(waiting)
        ),
    ))
}

fn of_devices(snapshot: &Snapshot) -> Option<(Severity, String)> {
    let polling = &snapshot.polling;
    if polling.down + polling.degraded == 0 {
        return None;
    }
    let names = |state: State| {
        let names = snapshot.devices.iter().filter(move |device| device.state == state);
        names.map(|device| device.label.as_ref().unwrap_or(&device.name))
    };
    let of = |number: usize, state: State, what: &str| {
        // Behind one switch there may be thousands, and this is one sentence.
        let shown: Vec<_> = names(state).take(3).map(String::as_str).collect();
        let more =
            if number > shown.len() { format!(" and {} more", grouped(number - shown.len())) } else { String::new() };
        (number > 0).then(|| format!("{} {what}: {}{more}", count(number, "device"), shown.join(", ")))
    };
    let verb = |number: usize, one: &'static str, several: &'static str| if number == 1 { one } else { several };
    let down = of(polling.down, State::Down, verb(polling.down, "is down", "are down"));
    let degraded = of(
        polling.degraded,
        State::Degraded,
        verb(polling.degraded, "does not give every point", "do not give every point"),
    );
    // So many at once are rather a network or a gateway.
    let most = polling.down * 2 > polling.devices;
    let severity = if most { Severity::Error } else { Severity::Warning };
    Some((severity, [down, degraded].into_iter().flatten().collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Counters;
    use crate::outage::Fault;
    use crate::reading::Timestamp;
    use crate::status::registry::{Polled, Registry};
    use crate::status::snapshot::{Clock, OutputProfile, Profile, Rates, take};
    use crate::time::clock::Moment;

    fn snapshot(registry: &Registry, good: bool) -> Snapshot {
        let outputs = vec![OutputProfile { name: "tsdb".to_owned(), kind: "influxdb", server: String::new() }];
        let profile =
            Profile { agent_id: String::new(), hostname: String::new(), outputs, started: wall(0), history: None };
        let clock = Clock { good, state: "it shows 1970".to_owned() };
        let now = Moment { wall: wall(1_000), boot: Duration::from_secs(1_000) };
        take(&profile, registry, &Counters::default(), &Rates::default(), clock, now)
    }

    fn wall(second: u64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }

    fn device(registry: &Registry, name: &str, failing: usize) {
        let now = Moment { wall: wall(900), boot: Duration::from_secs(900) };
        registry.device(name).write(|state| {
            state.points = 2;
            state.polled(Polled { failing, ..Polled::default() }, now);
        });
    }

    fn texts(snapshot: &Snapshot) -> Vec<(Severity, &str)> {
        snapshot.problems.iter().map(|problem| (problem.severity, &*problem.text)).collect()
    }

    #[test]
    fn each_problem_is_a_sentence_and_the_worst_comes_first() {
        let registry = Registry::default();
        for name in ["a", "a2", "a3", "a4"] {
            device(&registry, name, 0);
        }
        assert!(texts(&snapshot(&registry, true)).is_empty());
        for name in ["b", "c", "d", "e"] {
            device(&registry, name, 2);
        }
        device(&registry, "f", 1);
        registry.output("tsdb").write(|state| {
            state.fault = Some(Fault { since: wall(400), cause: "connection refused".to_owned() });
        });
        let expected = [
            (Severity::Error, "output tsdb delivers nothing for 10m: connection refused; 0 readings wait"),
            (Severity::Warning, "the clock is not believed: it shows 1970"),
            (Severity::Warning, "4 devices are down: b, c, d and 1 more; 1 device does not give every point: f"),
        ];
        assert_eq!(texts(&snapshot(&registry, false)), expected);
    }

    #[test]
    fn one_refused_post_is_a_warning_and_most_devices_down_is_an_error() {
        let registry = Registry::default();
        device(&registry, "a", 2);
        registry.output("tsdb").write(|state| {
            state.fault = Some(Fault { since: wall(990), cause: "busy".to_owned() });
        });
        let expected = [
            (Severity::Error, "1 device is down: a"),
            (Severity::Warning, "output tsdb delivers nothing for 10s: busy; 0 readings wait"),
        ];
        assert_eq!(texts(&snapshot(&registry, true)), expected);
    }
}
