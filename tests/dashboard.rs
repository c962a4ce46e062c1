//! The Grafana dashboard without a Grafana: each of its queries asked of a real Prometheus that asks the real agent.
//!
//! An empty panel looks like one on which all is well. So each query must find something, with the labels that its legend
//! names, and its unit must be that of the metric.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use support::agent::Home;
use support::device::{Device, Table};
use support::prometheus::{Prometheus, escaped, request};
use support::server::Server;

/// What Prometheus answers.
fn ask(server: &Prometheus, path: &str) -> Value {
    let (status, body) = request(server.address(), "GET", &format!("/api/v1/{path}"), &[]).unwrap_or_default();
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str::<Value>(&body).unwrap()["data"].take()
}

fn query(server: &Prometheus, expression: &str) -> Vec<Value> {
    ask(server, &format!("query?query={}", escaped(expression)))["result"].as_array().unwrap().clone()
}

/// What a variable of the dashboard stands for, all of it chosen: `label_values(selector, label)`.
fn values(server: &Prometheus, query: &str) -> String {
    let (selector, label) =
        query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap().rsplit_once(", ").unwrap();
    let values = ask(server, &format!("label/{label}/values?match[]={}", escaped(selector)));
    let values = values.as_array().unwrap().iter().map(|value| value.as_str().unwrap().replace('.', "\\\\."));
    format!("({})", values.collect::<Vec<_>>().join("|"))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// The metrics of an expression, each with what stands before it.
fn metrics(expression: &str) -> impl Iterator<Item = (&str, &str)> {
    let begins = ["pattoo_agent_modbus_", "process_"].into_iter().flat_map(|it| expression.match_indices(it));
    begins.map(|(at, _)| {
        let (before, metric) = expression.split_at(at);
        (before, metric.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next().unwrap())
    })
}

fn unit_of(metric: &str) -> &'static str {
    let base = metric.strip_suffix("_bucket").unwrap_or(metric);
    match base {
        "process_cpu_seconds_total" => "percentunit",
        _ if base.ends_with("_seconds") => "s",
        _ if base.ends_with("_bytes") => "bytes",
        _ => "short",
    }
}

#[test]
fn every_query_of_the_dashboard_finds_what_its_panel_shows() {
    if !support::needs(&["prometheus"]) {
        return;
    }
    // A device that gives all, one that refuses a point, one that is not there; two outputs.
    let (device, refusing, server) = (Device::counting(1), Device::counting(2), Server::start());
    refusing.refuse(Table::Input, 1);
    let home = Home::new(server.address());
    home.write_config(&format!(
        "status_listen: 127.0.0.1:0\npolling_interval: 100ms\nflush_interval: 50ms\nagent_hostname: agent.example.net\n\
         outputs: [pattoo, {{type: sqlite, path: {}}}]\npolling_groups:\n  - ip_devices: ['{}', '{}', '127.0.0.1:1']\n    \
         input_registers: [30001, 30002]\n",
        home.path().join("readings.sqlite").display(),
        device.target(),
        refusing.target()
    ));
    let mut agent = home.run();
    agent.until("the page", || !home.pages().is_empty());
    let mut prometheus = Prometheus::start();
    prometheus.kill();
    prometheus.configure(&format!(
        "scrape_configs: [{{job_name: modbus, scrape_interval: 200ms, scrape_timeout: 200ms, static_configs: [{{targets: \
         ['{}']}}]}}]",
        home.pages()[0]
    ));
    prometheus.run();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("setup/grafana/dashboard.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    // Every state is known: the device that is not there has failed, the refused point was found.
    let points_missing = "sum(pattoo_agent_modbus_device_points_missing) == 3";
    agent.until("each device to be judged", || {
        !query(&prometheus, points_missing).is_empty()
            && !query(&prometheus, "pattoo_agent_modbus_devices{state=\"down\"} == 1").is_empty()
    });

    let mut variables: Vec<(String, String)> = Vec::new();
    let filled_in = |variables: &[(String, String)], query: &str| {
        variables.iter().fold(query.to_owned(), |query, (name, value)| query.replace(&format!("${name}"), value))
    };
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if text(variable, "type") == "query" {
            let values = values(&prometheus, &filled_in(&variables, text(&variable["query"], "query")));
            assert_ne!(values, "()", "{variable}");
            variables.push((text(variable, "name").to_owned(), values));
        }
    }
    let page = request(home.pages()[0], "GET", "/metrics", &[]).unwrap().1;
    let kinds: BTreeMap<&str, &str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();

    let mut shown = BTreeMap::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = text(panel, "title");
        for target in panel["targets"].as_array().unwrap() {
            let expression = filled_in(&variables, text(target, "expr"));
            assert!(!expression.contains('$'), "{title}: {expression}");
            for (before, metric) in metrics(&expression) {
                let kind = kinds[metric.strip_suffix("_bucket").unwrap_or(metric)];
                let grows = before.ends_with("rate(") || before.ends_with("increase(");
                assert_eq!(grows, kind != "gauge", "{title}: {metric} is a {kind}");
                let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or("short");
                assert_eq!(unit, unit_of(metric), "{title}: {metric}");
            }
            let mut found = Vec::new();
            agent.until(title, || {
                found = query(&prometheus, &expression);
                let finite =
                    |series: &Value| series["value"][1].as_str().unwrap().parse::<f64>().is_ok_and(f64::is_finite);
                !found.is_empty() && found.iter().all(finite)
            });
            for label in text(target, "legendFormat").split("{{").skip(1).map(|it| it.split("}}").next().unwrap()) {
                assert!(
                    found.iter().all(|series| series["metric"][label].is_string()),
                    "{title}: no {label}: {found:?}"
                );
            }
            shown.insert(title, found);
        }
    }
    let one = |title: &str| shown[title][0]["value"][1].as_str().unwrap();
    assert_eq!((one("Devices down"), one("Devices up")), ("1", "2"));
    assert_eq!((one("Readings LOST, last day"), one("Points that cannot be read")), ("0", "3"));
    assert_eq!(shown["Readings a minute, by output"].len(), 2);
    assert_eq!(shown["Devices that give no readings"][0]["metric"]["device"], "127.0.0.1:1");
    agent.stop();
}
