//! A snapshot as Prometheus reads it: text exposition format 0.0.4. Pure.
//!
//! Base units, seconds and bytes; counters end in `_total`. Labels are of few values, but for `device`, of
//! which there are as many as configured. Causes are not labels: they are words for people.

use std::fmt::{self, Display, Write as _};

use super::registry::State;
use super::snapshot::{Output, Snapshot, Time};

const PREFIX: &str = "pattoo_agent_modbus";

/// Every metric.
#[must_use]
pub fn render(snapshot: &Snapshot) -> String {
    let mut page = Page(String::new());
    about_the_agent(&mut page, snapshot);
    about_readings(&mut page, snapshot);
    about_outputs(&mut page, snapshot);
    about_devices(&mut page, snapshot);
    page.0
}

fn about_the_agent(page: &mut Page, snapshot: &Snapshot) {
    let Snapshot { version, agent_id, hostname, server, cache, clock, .. } = snapshot;
    page.family("info", "gauge", "Who this is.");
    page.sample("info", &[("version", version), ("agent_id", agent_id), ("hostname", hostname)], 1);
    page.one("start_time_seconds", "gauge", "When the process started.", seconds(Some(snapshot.started)));
    page.one("clock_good", "gauge", "Whether stamps are this machine's time.", u8::from(clock.good));
    let up = u8::from(server.last_success.is_some() && server.failing_since.is_none());
    page.one("server_up", "gauge", "Whether the last post was taken.", up);
    let last = seconds(server.last_success);
    page.one("server_last_success_timestamp_seconds", "gauge", "When the server last took a post, 0 for never.", last);
    page.one("posts_total", "counter", "Posts that the server took.", server.posts);
    page.one("cache_segments", "gauge", "Segments of the log on disk.", cache.segments);
    page.one("cache_batches", "gauge", "Batches of old caches that wait for the server.", cache.batches);
    page.one("cache_undated_readings", "gauge", "Readings that wait for a date.", cache.undated);
    page.one("cache_bytes", "gauge", "Bytes of the cache on disk.", cache.bytes);
    let oldest = seconds(cache.oldest);
    page.one(
        "cache_oldest_timestamp_seconds",
        "gauge",
        "The stamp of the oldest reading that waits, 0 for none.",
        oldest,
    );
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

fn about_outputs(page: &mut Page, Snapshot { outputs, .. }: &Snapshot) {
    page.family("output_up", "gauge", "Whether the last post of the output was taken.");
    for Output { name, server, .. } in outputs {
        let up = server.last_success.is_some() && server.failing_since.is_none();
        page.sample("output_up", &[("output", name)], u8::from(up));
    }
    page.family("output_posts_total", "counter", "Posts that the output's server took.");
    for Output { name, server, .. } in outputs {
        page.sample("output_posts_total", &[("output", name)], server.posts);
    }
    page.family("output_readings_waiting", "gauge", "Readings that wait for the output, by where.");
    for Output { name, readings, .. } in outputs {
        for (place, count) in [("disk", readings.on_disk), ("memory", readings.in_memory)] {
            page.sample("output_readings_waiting", &[("output", name), ("place", place)], count);
        }
    }
    page.family("output_oldest_timestamp_seconds", "gauge", "The stamp of the oldest reading that waits, 0 for none.");
    for Output { name, oldest, .. } in outputs {
        page.sample("output_oldest_timestamp_seconds", &[("output", name)], seconds(*oldest));
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
}

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
    page.family("device_info", "gauge", "The name that the configuration gives a device, for those that have one.");
    for (device, label) in devices.iter().filter_map(|device| Some((device, device.label.as_ref()?))) {
        page.sample("device_info", &[("device", &device.name), ("name", label)], 1);
    }
    page.family("device_up", "gauge", "Whether every point of the device can be read.");
    for device in devices {
        page.sample("device_up", &[("device", &device.name)], u8::from(device.state == State::Up));
    }
    page.family(
        "device_last_reading_timestamp_seconds",
        "gauge",
        "When the device gave its last reading, 0 for never.",
    );
    for device in devices {
        page.sample("device_last_reading_timestamp_seconds", &[("device", &device.name)], seconds(device.last_good));
    }
    page.family("device_polls_total", "counter", "Polls of the device that ended.");
    for device in devices {
        page.sample("device_polls_total", &[("device", &device.name)], device.polls);
    }
    page.family("device_readings_total", "counter", "Readings that the device gave.");
    for device in devices {
        page.sample("device_readings_total", &[("device", &device.name)], device.readings);
    }
}

fn seconds(time: Option<Time>) -> impl Display {
    let millis = time.map_or(0, |Time(at)| at.as_millis());
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
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
