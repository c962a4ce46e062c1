//! A snapshot as Prometheus reads it: text exposition format 0.0.4. Pure.
//!
//! Base units, seconds and bytes; counters end in `_total`. Labels are of few values, but for `device`, of
//! which there are as many as configured, and those of `reading`, which somebody has asked for. Causes are not labels: they are
//! words for people. What has not happened yet has no sample: a time stamp of 0 would be an alert about 1970.

use std::collections::HashSet;
use std::fmt::{self, Display, Write as _};

use super::process::Process;
use super::registry::State;
use super::snapshot::{Device, Output, Snapshot, Time};

const PREFIX: &str = "pattoo_agent_modbus";

/// Every metric.
#[must_use]
pub fn render(snapshot: &Snapshot) -> String {
    let mut page = Page(String::new());
    about_the_agent(&mut page, snapshot);
    about_readings(&mut page, snapshot);
    about_outputs(&mut page, snapshot);
    about_devices(&mut page, snapshot);
    about_values(&mut page, snapshot);
    page.0
}

/// What the process takes of the machine, under the names that Prometheus' client libraries have for it.
#[must_use]
pub fn of_process(process: &Process, started: Time) -> String {
    let mut page = Page(String::new());
    let mut one = |name: &str, kind: &str, help: &str, value: &dyn Display| {
        page.line(format_args!("# HELP process_{name} {help}\n# TYPE process_{name} {kind}\nprocess_{name} {value}"));
    };
    one("cpu_seconds_total", "counter", "Processor time of user and system.", &process.cpu_seconds);
    one("resident_memory_bytes", "gauge", "Memory that is in use.", &process.resident_bytes);
    one("virtual_memory_bytes", "gauge", "Memory that has addresses.", &process.virtual_bytes);
    one("open_fds", "gauge", "Open descriptors.", &process.open_fds);
    if let Some(max_fds) = process.max_fds {
        one("max_fds", "gauge", "How many descriptors there may be.", &max_fds);
    }
    one("threads", "gauge", "Threads.", &process.threads);
    one("start_time_seconds", "gauge", "When the process started.", &seconds(started));
    page.0
}

fn about_the_agent(page: &mut Page, snapshot: &Snapshot) {
    let Snapshot { version, agent_id, hostname, server, cache, clock, .. } = snapshot;
    page.family("info", "gauge", "Who this is.");
    // Text can only stand in labels; the value is 1 by convention.
    page.sample("info", &[("version", version), ("agent_id", agent_id), ("hostname", hostname)], 1);
    page.one("start_time_seconds", "gauge", "When the process started.", seconds(snapshot.started));
    page.one("clock_good", "gauge", "Whether stamps are this machine's time.", u8::from(clock.good));
    let up = u8::from(server.last_success.is_some() && server.failing_since.is_none());
    page.one("server_up", "gauge", "Whether the last post was taken.", up);
    page.some(
        "server_last_success_timestamp_seconds",
        "gauge",
        "When the server last took a post.",
        server.last_success,
    );
    page.one("posts_total", "counter", "Posts that the server took.", server.posts);
    page.one("cache_segments", "gauge", "Segments of the log on disk.", cache.segments);
    page.one("cache_batches", "gauge", "Batches of old caches that wait for the server.", cache.batches);
    page.one("cache_undated_readings", "gauge", "Readings that wait for a date.", cache.undated);
    page.one("cache_bytes", "gauge", "Bytes of the cache on disk.", cache.bytes);
    page.some("cache_oldest_timestamp_seconds", "gauge", "The stamp of the oldest reading that waits.", cache.oldest);
    page.one("cache_writable", "gauge", "Whether the disk takes readings.", u8::from(cache.fault.is_none()));
}

fn about_readings(page: &mut Page, Snapshot { books, .. }: &Snapshot) {
    let came = [("accepted", books.accepted), ("found_on_disk", books.found)];
    page.family("readings_total", "counter", "Readings that came, by where from.");
    for (from, count) in came {
        page.sample("readings_total", &[("from", from)], count);
    }
    page.family("readings_settled_total", "counter", "Readings that went, by what became of them.");
    for (fate, count) in [("delivered", books.delivered), ("quarantined", books.quarantined)] {
        page.sample("readings_settled_total", &[("fate", fate)], count);
    }
    for (fate, count) in &books.dropped {
        page.sample("readings_settled_total", &[("fate", fate)], count);
    }
    page.family("readings_lost_total", "counter", "Readings LOST: accepted and never to be delivered, by reason.");
    for (reason, count) in &books.lost_by_reason {
        page.sample("readings_lost_total", &[("reason", reason)], count);
    }
    page.family("readings", "gauge", "Readings that are here, by where.");
    for (place, count) in [("disk", books.on_disk), ("memory", books.in_memory)] {
        page.sample("readings", &[("place", place)], count);
    }
}

fn about_outputs(page: &mut Page, Snapshot { outputs, now, .. }: &Snapshot) {
    // A loop for each metric and not for each output: the format wants all samples of a metric together.
    page.family("output_up", "gauge", "Whether the last post of the output was taken.");
    for Output { name, server, .. } in outputs {
        let up = server.last_success.is_some() && server.failing_since.is_none();
        page.sample("output_up", &[("output", name)], u8::from(up));
    }
    page.family("output_posts_total", "counter", "Posts that the output's server took.");
    for Output { name, server, .. } in outputs {
        page.sample("output_posts_total", &[("output", name)], server.posts);
    }
    page.family("output_failures_total", "counter", "Attempts of the output that failed.");
    for Output { name, server, .. } in outputs {
        page.sample("output_failures_total", &[("output", name)], server.failures);
    }
    page.family("output_last_success_timestamp_seconds", "gauge", "When the output's server last took a post.");
    for Output { name, server, .. } in outputs {
        page.time("output_last_success_timestamp_seconds", &[("output", name)], server.last_success);
    }
    page.family("output_readings_waiting", "gauge", "Readings that wait for the output, by where.");
    for Output { name, readings, .. } in outputs {
        for (place, count) in [("disk", readings.on_disk), ("memory", readings.in_memory)] {
            page.sample("output_readings_waiting", &[("output", name), ("place", place)], count);
        }
    }
    page.family("output_oldest_timestamp_seconds", "gauge", "The stamp of the oldest reading that waits.");
    for Output { name, oldest, .. } in outputs {
        page.time("output_oldest_timestamp_seconds", &[("output", name)], *oldest);
    }
    page.family("output_lag_seconds", "gauge", "The age of the oldest reading that waits, 0 when none waits.");
    for Output { name, oldest, .. } in outputs {
        let lag = oldest.map_or(0.0, |oldest| now.0.since(oldest.0).as_secs_f64());
        page.sample("output_lag_seconds", &[("output", name)], lag);
    }
    page.family("output_readings_total", "counter", "Readings of the output that went, by what became of them.");
    for Output { name, readings, .. } in outputs {
        for (fate, count) in [("delivered", readings.delivered), ("quarantined", readings.quarantined)] {
            page.sample("output_readings_total", &[("output", name), ("fate", fate)], count);
        }
        for (fate, count) in &readings.dropped {
            page.sample("output_readings_total", &[("output", name), ("fate", fate)], count);
        }
    }
    page.family("output_readings_lost_total", "counter", "Readings LOST for the output, by reason.");
    for Output { name, readings, .. } in outputs {
        for (reason, count) in &readings.lost_by_reason {
            page.sample("output_readings_lost_total", &[("output", name), ("reason", reason)], count);
        }
    }
}

/// What a metric says of one device.
type OfDevice = fn(&Device) -> u64;

fn about_devices(page: &mut Page, Snapshot { polling, devices, .. }: &Snapshot) {
    page.family("devices", "gauge", "Devices, by how they are.");
    let states =
        [("up", polling.up), ("degraded", polling.degraded), ("down", polling.down), ("starting", polling.starting)];
    for (state, count) in states {
        page.sample("devices", &[("state", state)], count);
    }
    page.one("points", "gauge", "Points configured.", polling.points);
    page.one("points_refused", "gauge", "Points that devices refuse.", polling.refused);
    page.one("polls_skipped_total", "counter", "Polls skipped because the one before still ran.", polling.overruns);
    page.family("poll_duration_seconds", "histogram", "How long polls of devices took.");
    let durations = &polling.durations;
    for (bound, count) in &durations.at_most {
        page.sample("poll_duration_seconds_bucket", &[("le", &bound.to_string())], count);
    }
    // A histogram ends with this bucket, and it equals the count.
    page.sample("poll_duration_seconds_bucket", &[("le", "+Inf")], durations.count);
    page.sample("poll_duration_seconds_sum", &[], durations.seconds);
    page.sample("poll_duration_seconds_count", &[], durations.count);
    page.family("request_failures_total", "counter", "Requests and connections that failed, by kind.");
    for (kind, count) in &polling.failures {
        page.sample("request_failures_total", &[("kind", kind)], count);
    }
    page.family("points_unread_total", "counter", "Points that were due and were not read, by reason.");
    for (reason, count) in &polling.unread {
        page.sample("points_unread_total", &[("reason", reason)], count);
    }
    // A metric of its own: as a label of all the others, another name would begin all their series anew.
    page.family("device_info", "gauge", "The name that the configuration gives a device, for those that have one.");
    for (device, label) in devices.iter().filter_map(|device| Some((device, device.label.as_ref()?))) {
        page.sample("device_info", &[("device", &device.name), ("name", label)], 1);
    }
    let of_each: [(&str, &str, &str, OfDevice); 8] = [
        ("device_up", "gauge", "Whether the device gives readings.", |device| {
            // A device that refuses one point of nine works: what is missing has metrics of its own.
            u64::from(matches!(device.state, State::Up | State::Degraded))
        }),
        ("device_points", "gauge", "Points of the device.", |device| device.points as u64),
        ("device_points_missing", "gauge", "Points that could not be read when they were last due.", |device| {
            device.missing as u64
        }),
        ("device_points_refused", "gauge", "Points that the device refuses.", |device| device.refused as u64),
        ("device_polls_total", "counter", "Polls of the device that ended.", |device| device.polls),
        ("device_polls_skipped_total", "counter", "Polls of the device that were skipped.", |device| device.overruns),
        ("device_request_failures_total", "counter", "Requests and connections that failed.", |device| device.failures),
        ("device_readings_total", "counter", "Readings that the device gave.", |device| device.readings),
    ];
    for (name, kind, help, of) in of_each {
        page.family(name, kind, help);
        for device in devices {
            page.sample(name, &[("device", &device.name)], of(device));
        }
    }
    page.family("device_poll_duration_seconds", "gauge", "How long the last poll of the device took.");
    // Before its first poll has ended it would be 0 s, as of the fastest of all.
    for device in devices.iter().filter(|device| device.polls > 0) {
        page.sample("device_poll_duration_seconds", &[("device", &device.name)], device.took);
    }
    page.family("device_last_reading_timestamp_seconds", "gauge", "When the device gave its last reading.");
    for device in devices {
        page.time("device_last_reading_timestamp_seconds", &[("device", &device.name)], device.last_good);
    }
}

/// Values that are there because somebody asked for them. One that could not be read when it was last due has no sample, so that
/// it is stale in Prometheus, too.
fn about_values(page: &mut Page, Snapshot { devices, .. }: &Snapshot) {
    if devices.iter().all(|device| device.values.is_empty()) {
        return;
    }
    page.family("reading", "gauge", "The last value of a point.");
    for device in devices {
        // One register read as two types may be one series here, and so may a device under two spellings: a page must not have it
        // twice, and `check` has warned of it.
        let mut there = HashSet::new();
        for point in device.values.iter().filter(|point| point.why.is_none()) {
            let Some(value) = &point.value else { continue };
            let (unit, name) = (point.unit.to_string(), point.name.as_ref().unwrap_or(&point.key));
            if !there.insert((point.unit, &point.group, &point.key, name, &point.unit_of_measurement)) {
                continue;
            }
            let labels = [
                ("device", device.name.as_str()),
                ("device_name", device.label.as_ref().unwrap_or(&device.name)),
                ("unit", &unit),
                ("group", &point.group),
                ("key", &point.key),
                ("name", name),
                ("unit_of_measurement", point.unit_of_measurement.as_deref().unwrap_or_default()),
            ];
            page.sample("reading", &labels, value);
        }
    }
}

fn seconds(Time(at): Time) -> impl Display {
    let millis = at.as_millis();
    format!("{}.{:03}", millis / 1_000, millis % 1_000)
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {PREFIX}_{name} {help}\n# TYPE {PREFIX}_{name} {kind}"));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// Nothing for what has not happened yet.
    fn some(&mut self, name: &str, kind: &str, help: &str, time: Option<Time>) {
        self.family(name, kind, help);
        self.time(name, &[], time);
    }

    fn time(&mut self, name: &str, labels: &[(&str, &str)], time: Option<Time>) {
        if let Some(time) = time {
            self.sample(name, labels, seconds(time));
        }
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.line(format_args!("{PREFIX}_{name}{labels} {value}"));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Memory is the only thing that writing to a string can lack.
        writeln!(self.0, "{line}").ok();
    }
}

fn escaped(value: &str) -> String {
    // The format knows these three; the backslash is first, or it would double those of the others.
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
