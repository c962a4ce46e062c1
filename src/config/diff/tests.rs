//! Edits of a small plant, each with what it means at the devices and at the server.

use std::fs;

use super::*;
use crate::config::load_for;

const PLANT: &str = "\
polling_groups:
  - {group_name: meters, ip_devices: [m1, m2], unit: 1, input_registers: [30001, 30002]}
  - {group_name: boiler, ip_devices: ['b:1502'], polling_interval: 10s, holding_registers: [40001]}
";

const SHARED: &str = "\
pattoo: {log_directory: /l, cache_directory: /c, daemon_directory: /d}
pattoo_agent_api: {ip_address: one, ip_bind_port: 20201}
";

fn config(shared: &str, agent: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pattoo.yaml"), shared).unwrap();
    fs::write(directory.path().join("pattoo_agent_modbustcpd.yaml"), agent).unwrap();
    load_for(directory.path(), None).unwrap().config
}

/// What an edit of the plant does: devices kept, removed, added, changed; series forked, orphaned, begun.
fn edited(edit: &str) -> ([String; 4], [usize; 3]) {
    let (old, new) = (config(SHARED, PLANT), config(SHARED, edit));
    let diff = Diff::between(&old, &new);
    let names = |devices: &[&Device]| devices.iter().map(|device| device.name()).collect::<Vec<_>>().join(" ");
    let replaced: Vec<_> = diff.changed.iter().map(|(_, after)| *after).collect();
    let devices = [names(&diff.kept), names(&diff.removed), names(&diff.added), names(&replaced)];
    (devices, [diff.forked.len(), diff.orphaned.len(), diff.begun])
}

#[test]
fn an_edit_touches_only_the_devices_that_it_is_about_and_says_which_charts_end() {
    let cases = [
        ("nothing", PLANT.to_owned(), ["m1 m2 b:1502", "", "", ""], [0, 0, 0]),
        ("a name for people", PLANT.replace("meters", "gauges"), ["m1 m2 b:1502", "", "", ""], [0, 0, 0]),
        ("the order of registers", PLANT.replace("30001, 30002", "30002, 30001"), ["m1 m2 b:1502", "", "", ""], [0; 3]),
        ("the order of devices", PLANT.replace("m1, m2", "m2, m1"), ["m2 m1 b:1502", "", "", ""], [0, 0, 0]),
        ("a device more", PLANT.replace("m1, m2", "m0, m1, m2"), ["m1 m2 b:1502", "", "m0", ""], [0, 0, 2]),
        ("a device less", PLANT.replace("m1, m2", "m2"), ["m2 b:1502", "m1", "", ""], [0, 2, 0]),
        ("another device", PLANT.replace("m1", "m3"), ["m2 b:1502", "m1", "m3", ""], [0, 2, 2]),
        ("its port spelled out", PLANT.replace("m1", "'m1:502'"), ["m2 b:1502", "", "", "m1:502"], [2, 0, 0]),
        ("in capitals", PLANT.replace("m1", "M1"), ["m2 b:1502", "", "", "M1"], [2, 0, 0]),
        ("another port", PLANT.replace("m1", "'m1:503'"), ["m2 b:1502", "m1", "m1:503", ""], [0, 2, 2]),
        ("a unit", PLANT.replace("unit: 1", "unit: 2"), ["b:1502", "", "", "m1 m2"], [4, 0, 0]),
        ("a register more", PLANT.replace("30002", "30002, 30003"), ["b:1502", "", "", "m1 m2"], [0, 0, 2]),
        ("a register less", PLANT.replace(", 30002", ""), ["b:1502", "", "", "m1 m2"], [0, 2, 0]),
        ("a long number", PLANT.replace("30002", "300002"), ["b:1502", "", "", "m1 m2"], [0, 2, 2]),
        (
            "a multiplier",
            PLANT.replace("40001", "{address: 40001, multiplier: 2}"),
            ["m1 m2", "", "", "b:1502"],
            [0; 3],
        ),
        ("a bit of it", PLANT.replace("40001", "{address: 40001, bit: 3}"), ["m1 m2", "", "", "b:1502"], [0, 1, 1]),
        ("an interval", PLANT.replace("10s", "20s"), ["m1 m2", "", "", "b:1502"], [0, 0, 0]),
        ("a setting", format!("devices: {{m1: {{max_gap: 3}}}}\n{PLANT}"), ["m2 b:1502", "", "", "m1"], [0; 3]),
        (
            "a setting said otherwise",
            format!("devices: {{m1: {{max_gap: 0}}}}\n{PLANT}"),
            ["m1 m2 b:1502", "", "", ""],
            [0; 3],
        ),
        (
            "a setting of all",
            format!("device_defaults: {{retries: 0}}\ndevices: {{m1: {{retries: 3}}}}\n{PLANT}"),
            ["m1", "", "", "m2 b:1502"],
            [0; 3],
        ),
        ("the general interval", format!("polling_interval: 60\n{PLANT}"), ["b:1502", "", "", "m1 m2"], [0, 0, 0]),
    ];
    for (what, edit, devices, series) in cases {
        assert_eq!(edited(&edit), (devices.map(str::to_owned), series), "{what}");
    }
}

/// What an edit is, the groups before it and after it, the devices that are kept and replaced.
type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a str, &'a str);

/// A8: the places of groups in the file are not what is read.
#[test]
fn where_a_group_stands_in_the_file_is_no_change_of_a_device() {
    const A: &str = "{ip_devices: [a], unit: 1, together: true, holding_registers: [40001, 40003], coils: [1, 9]}";
    const A2: &str = "{ip_devices: [a], unit: 1, together: true, holding_registers: [40011, 40013]}";
    const A3: &str =
        "{ip_devices: [a], unit: 2, unavailable: [1, 2], input_registers: [{address: 30001, type: int16}]}";
    const B: &str = "{ip_devices: [b, 'b:502', 'B'], unit: 1, together: true, holding_registers: [40001]}";
    const B2: &str = "{ip_devices: [b, 'B', 'b:502'], unit: 1, together: true, holding_registers: [40001]}";
    const N: &str = "{ip_devices: [n], unit: 1, together: true, holding_registers: [40001]}";
    let all: &[&str] = &[A, A2, A3, B];
    let merged = A.replace("40003", "40003, 40011, 40013");
    let (split, split2) = (A.replace(", 40003", ""), A.replace("40001, ", "").replace(", coils: [1, 9]", ""));
    let loose = A2.replace("together: true, ", "");
    let sorted = A3.replace("[1, 2]", "[2, 1]");
    let cases: [Case<'_>; 13] = [
        ("a group of another device above", all, &[N, A, A2, A3, B], "a b", ""),
        ("a group of another device between", all, &[A, N, A2, N, A3, B], "a b", ""),
        ("and out again", &[N, A, N, A2, A3, B], all, "a b", ""),
        ("the order of groups", all, &[B, A3, A2, A], "b a", ""),
        ("the order of spellings", all, &[A, A2, A3, B2], "a b", ""),
        ("a group twice", all, &[A, A2, A3, A, A2, B], "a b", ""),
        ("the order of what is no value", all, &[A, A2, &sorted, B], "a b", ""),
        ("its registers in the order of another group", &[A, A2, N], &[A2, N, A], "a n", ""),
        ("two groups become one", all, &[&merged, A3, B], "b", "a"),
        ("one becomes two", all, &[&split, &split2, A2, A3, B], "b", "a"),
        ("two that are split otherwise", &[&split, &split2], &[A], "", "a"),
        ("no longer together", all, &[A, &loose, A3, B], "b", "a"),
        ("together as of now", &[A, &loose], &[A, A2], "", "a"),
    ];
    for (what, before, after, kept, replaced) in cases {
        let [old, new] = [before, after].map(|groups| {
            config(
                SHARED,
                &format!(
                    "polling_groups:\n{}",
                    groups.iter().map(|it| format!("  - {it}\n")).collect::<Vec<_>>().concat()
                ),
            )
        });
        let diff = Diff::between(&old, &new);
        let names = |devices: &[&Device]| devices.iter().map(|device| device.name()).collect::<Vec<_>>().join(" ");
        let replaced_by: Vec<_> = diff.changed.iter().map(|(_, after)| *after).collect();
        assert_eq!((names(&diff.kept), names(&replaced_by)), (kept.to_owned(), replaced.to_owned()), "{what}");
        assert_eq!((diff.forked.len(), diff.orphaned.len()), (0, usize::from(what.contains("out again"))), "{what}");
    }
}

#[test]
fn a_series_is_the_successor_of_one_other_at_most() {
    let twice = "polling_groups:\n  - {ip_devices: [m1], unit: 1, input_registers: [30001]}\n  \
                 - {ip_devices: [m1], unit: 2, input_registers: [30001]}\n";
    let once = "polling_groups:\n  - {ip_devices: [m1], unit: 3, input_registers: [30001]}\n";
    let (old, new) = (config(SHARED, twice), config(SHARED, once));
    let diff = Diff::between(&old, &new);
    assert_eq!((diff.forked.len(), diff.orphaned.len(), diff.begun), (1, 1, 0));
    let back = Diff::between(&new, &old);
    assert_eq!((back.forked.len(), back.orphaned.len(), back.begun), (1, 0, 1));
}

#[test]
fn settings_take_effect_at_once_or_are_named_as_those_that_need_a_restart() {
    let at_once = [
        ("ip_address: one", "ip_address: two", "pattoo_agent_api"),
        ("20201", "20202", "pattoo_agent_api"),
        ("pattoo: {", "pattoo: {log_level: info, ", "log_level"),
    ];
    let restart = [
        ("/l", "/l2", "log_directory"),
        ("/c", "/c2", "cache_directory"),
        ("pattoo: {", "pattoo: {system_daemon_directory: /s, ", "system_daemon_directory"),
    ];
    let old = config(SHARED, PLANT);
    for (cases, is_at_once) in [(at_once, true), (restart, false)] {
        for (from, to, key) in cases {
            let new = config(&SHARED.replace(from, to), PLANT);
            let diff = Diff::between(&old, &new);
            let (settings, needs_restart) = if is_at_once { (vec![key], vec![]) } else { (vec![], vec![key]) };
            assert_eq!((&diff.settings, &diff.needs_restart), (&settings, &needs_restart), "{key}");
            assert!(!diff.is_empty() && diff.kept.len() == 3, "{key}");
            // What could not be taken over goes on being told.
            let running = old.taken_over_by(new.clone());
            assert_eq!(Diff::between(&running, &new).needs_restart, needs_restart);
            assert!(Diff::between(&running, &new).settings.is_empty(), "{key}");
        }
    }
    let keys = [
        "flush_interval: 2s",
        "cache_min_free: 1%",
        "cache_max_bytes: 1GB",
        "cache_max_age: 1day",
        "split_refused_after: 2h",
        "trust_local_clock: true",
        "readings_in_metrics: true",
    ];
    for line in keys {
        let new = config(SHARED, &format!("{line}\n{PLANT}"));
        let key = line.split(':').next().unwrap();
        assert_eq!(Diff::between(&old, &new).settings, [key]);
        assert_eq!(old.taken_over_by(new.clone()), new, "{key}");
    }
    for line in ["status_listen: '127.0.0.1:1'", "agent_hostname: x"] {
        let new = config(SHARED, &format!("{line}\n{PLANT}"));
        let key = line.split(':').next().unwrap();
        assert_eq!(Diff::between(&old, &new).needs_restart, [key]);
        assert_eq!(old.taken_over_by(new), old, "{key}");
    }
}

#[test]
fn outputs_wait_for_a_restart_and_it_is_said_what_that_drops() {
    const A: &str = "{type: file, name: a, path: /srv/a.csv}";
    const ALONE: &str = "the next start drops what this output has not delivered by then: ";
    let cases = [
        ("the same", "pattoo", "{type: pattoo}", "", None),
        ("the order", &format!("pattoo, {A}"), &format!("{A}, pattoo"), "", None),
        ("one more", "pattoo", &format!("pattoo, {A}"), "a is new", None),
        ("one less", &format!("pattoo, {A}"), "pattoo", "a is taken out", Some("a is taken out")),
        (
            "a name",
            &format!("pattoo, {A}"),
            &format!("pattoo, {}", A.replace("name: a", "name: b")),
            "a is renamed to b",
            Some("a is renamed to b"),
        ),
        (
            "a name and a path",
            A,
            "{type: file, name: b, path: /srv/b.csv}",
            "a is taken out, b is new",
            Some("a is taken out"),
        ),
        ("a path", A, "{type: file, name: a, path: /srv/b.csv}", "a has other settings", None),
        ("a format", A, "{type: file, name: a, path: /srv/a.csv, format: jsonl}", "a has other settings", None),
        ("a size", A, "{type: file, name: a, path: /srv/a.csv, max_bytes: 1MB}", "a has other settings", None),
    ];
    for (what, before, after, expected, dropped) in cases {
        let [old, new] = [before, after].map(|it| config(SHARED, &format!("outputs: [{it}]\n{PLANT}")));
        let diff = Diff::between(&old, &new);
        let outputs: Vec<_> = diff.outputs.iter().map(ToString::to_string).collect();
        assert_eq!(outputs.join(", "), expected, "{what}");
        assert_eq!(diff.needs_restart, if expected.is_empty() { vec![] } else { vec!["outputs"] }, "{what}");
        assert_eq!(diff.drops(), dropped.map(|dropped| format!("{ALONE}{dropped}")), "{what}");
        assert!(diff.settings.is_empty(), "{what}");
        let running = old.taken_over_by(new);
        assert_eq!(running.outputs, old.outputs, "{what}");
    }
    // What an output that stays does with refusals is taken over, whatever happens to the others.
    let [old, new] = ["1h", "2h"].map(|after| {
        let more = if after == "1h" { "" } else { ", pattoo" };
        let own = A.replace('}', &format!(", split_refused_after: {after}}}"));
        config(SHARED, &format!("outputs: [{own}{more}]\n{PLANT}"))
    });
    let diff = Diff::between(&old, &new);
    assert_eq!((&*diff.settings, &*diff.needs_restart), (&["split_refused_after"][..], &["outputs"][..]));
    let running = old.taken_over_by(new.clone());
    assert_eq!(running.outputs, new.outputs[..1]);
    assert!(Diff::between(&running, &new).settings.is_empty());
}

#[test]
fn what_has_changed_can_be_said_in_a_few_words() {
    let edit = PLANT.replace("m1, m2", "m0, M2").replace("10s", "20s");
    let (old, new) = (config(SHARED, PLANT), config(SHARED, &format!("agent_hostname: x\nflush_interval: 2s\n{edit}")));
    let diff = Diff::between(&old, &new);
    assert_eq!(
        diff.to_string(),
        "1 device added (m0), 1 device removed (m1), 2 devices replaced (M2, b:1502), 0 devices kept as they are, \
         2 series new at the server, new values of flush_interval"
    );
    assert_eq!(
        diff.orphans().unwrap(),
        "2 series at the server are orphaned, their charts end here: input_register_30001 of m1 unit 1, \
         input_register_30002 of m1 unit 1"
    );
    assert!(diff.forks().unwrap().contains("input_register_30001 of m2 unit 1 as input_register_30001 of M2 unit 1"));
    assert!(diff.restart().unwrap().contains("all charts start anew"));
    let none = Diff::between(&old, &old);
    assert!(none.is_empty() && none.orphans().is_none() && none.forks().is_none() && none.restart().is_none());
}

/// What an edit changes of names, whom it concerns, and what a person reads; no device, no chart.
#[test]
fn what_people_say_of_points_and_devices_touches_neither() {
    const PLANT: &str = "\
flush_interval: 1s
devices: {m1: {name: hall}}
polling_groups:
  - {group_name: meters, ip_devices: [m1, m2], unit: 1, input_registers: {30001: u, 30002: i}}
";
    for (from, to, said) in [
        ("30002: i", "30002: j", "2 points renamed (i (input_register_30002) of m1 unit 1 is j, i"),
        ("{30001: u, 30002: i}", "[{address: 30001}, {address: 30002, name: i}]", "is input_register_30001, u (input"),
        (
            "{30001: u, 30002: i}",
            "[{address: 30001, name: u, unit_of_measurement: V}, {address: 30002, name: i}]",
            "2 points with another group, unit of measurement, tag or text (u (input_register_30001) of m1 unit 1, u",
        ),
        ("unit: 1", "unit: 1, tags: {site: 7}", "4 points with another group,"),
        ("meters", "gauges", "4 points with another group,"),
        ("name: hall", "tags: {a: b}, name: hall", "2 points with another group,"),
        ("name: hall", "name: plant", "1 device renamed (m1 is plant)"),
        ("{name: hall}", "", "1 device renamed (m1 is without a name)"),
    ] {
        let (old, new) = (config(SHARED, PLANT), config(SHARED, &PLANT.replace(from, to)));
        let diff = Diff::between(&old, &new);
        assert!(diff.to_string().contains(said), "{to}: {diff}");
        assert!(!diff.is_empty() && diff.kept.len() == 2 && diff.begun == 0, "{to}: {diff}");
        assert!(diff.forked.is_empty() && diff.orphaned.is_empty() && diff.needs_restart.is_empty(), "{to}: {diff}");
        assert!(!crate::config::render::diff(&diff).starts_with("Nothing"), "{to}");
    }
}

/// The address of the pattoo server may go with the output that needs it: that one posts to where it did until the restart.
#[test]
fn the_server_of_an_output_that_is_taken_out_stays_until_the_restart() {
    let old = config(SHARED, &format!("outputs: [pattoo, {{type: file, path: /srv/a.csv}}]\n{PLANT}"));
    let shared = SHARED.replace("one", "localhost");
    assert_ne!(shared, SHARED);
    let new = config(&shared, &format!("outputs: [{{type: file, path: /srv/a.csv}}]\n{PLANT}"));
    let diff = Diff::between(&old, &new);
    assert_eq!((&*diff.settings, &*diff.needs_restart), (&[][..], &["outputs"][..]));
    let running = old.taken_over_by(new);
    assert_eq!(running.server(), old.server());
    assert_eq!(running.outputs[0].target(&running), old.outputs[0].target(&old));
}

/// An output over a network gets its new settings at once, renewed secrets among them; one that writes a file does not.
#[test]
fn outputs_over_a_network_are_taken_over_at_once() {
    let outputs = |database: &str, file: &str| {
        config(
            SHARED,
            &format!(
                "outputs: [{{type: influxdb, url: 'http://192.0.2.10', database: {database}}}, {{type: file, path: {file}}}]\n\
                 polling_groups: [{{group_name: g, ip_devices: [m1], input_registers: [30001]}}]\n"
            ),
        )
    };
    let old = outputs("a", "/tmp/a.csv");
    let network = outputs("b", "/tmp/a.csv");
    let diff = Diff::between(&old, &network);
    assert_eq!((&*diff.settings, &*diff.needs_restart), (&["outputs"][..], &[][..]));
    assert_eq!(old.taken_over_by(network.clone()).outputs, network.outputs);
    let file = outputs("a", "/tmp/b.csv");
    let diff = Diff::between(&old, &file);
    assert_eq!((&*diff.settings, &*diff.needs_restart), (&[][..], &["outputs"][..]));
    assert_eq!(old.taken_over_by(file).outputs, old.outputs);
}
