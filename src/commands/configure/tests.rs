//! The whole conversation, without a network: answers in, questions and files out.

use std::fs;

use tempfile::TempDir;

use super::drafts::Drafts;
use super::script::{Pretended, Script};
use super::*;
use crate::commands::sunspec::Model;

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// What was said, what came of it, and what is to be written.
fn conversation(
    directory: &TempDir,
    answers: &str,
    network: &mut Pretended,
) -> (String, Result<(), ConfigureError>, Vec<String>) {
    let mut person = Script::at_a_terminal(answers);
    let mut drafts = Drafts::of(directory.path()).unwrap();
    let ended = ask(&mut Interview::new(&mut person), network, &mut drafts);
    if let Err(error) = &ended
        && !matches!(error, ConfigureError::Ended)
    {
        panic!("{error}: {}", person.said());
    }
    let written = drafts.changes().unwrap().iter().map(Change::shown).collect();
    (person.said().to_owned(), ended, written)
}

fn plain(targets: &[&str]) -> Pretended {
    let devices = targets.iter().map(|target| ((*target).to_owned(), (1, Vec::new()))).collect();
    Pretended { devices, ..Pretended::default() }
}

#[test]
fn two_groups_of_three_devices_for_an_output_that_needs_no_server() {
    let directory = directory(&[]);
    let answers = "plc7\n\n30001 30002\n-\nyes\nplc8\n\n-\nboilers\n10s\ny\nplc9:1502\n5-7\n-\n40001\n\n\n\n\nsqlite\n";
    let mut network = plain(&["plc7", "plc8", "plc9:1502"]);
    let (said, ended, written) = conversation(&directory, answers, &mut network);
    ended.unwrap();
    assert_eq!(network.polls, 3, "{said}");
    let expected = "polling_interval: 10s\noutputs:\n  - sqlite\npolling_groups:\n  - group_name: boilers\n    ip_devices: \
                    [\"plc7\", \"plc8\"]\n    unit: 1\n    input_registers: [30001, 30002]\n  - group_name: group 2\n    \
                    ip_devices: [\"plc9:1502\"]\n    unit: 5-7\n    holding_registers: [40001]\n";
    let agent = written.iter().find(|text| text.contains("polling_groups")).unwrap();
    assert_eq!(agent.split_once('\n').unwrap().1, expected, "{said}");
    assert!(!written.iter().any(|text| text.contains("pattoo_agent_api")), "{written:?}");
}

#[test]
fn a_device_that_does_not_answer_is_replaced_kept_or_ends_it() {
    let directory = directory(&[]);
    let mut network = plain(&["plc8"]);
    let rest = "\n\n-\n";
    for (answers, asked, is_kept) in [
        (format!("plc7\nother\nplc8\n{rest}\n\n\n\n\n5\n"), 1, "plc8"),
        (format!("plc7\n2\n{rest}\n\n\n\n5\n"), 0, "plc7"),
    ] {
        network.polls = 0;
        let (said, ended, written) = conversation(&directory, &answers, &mut network);
        ended.unwrap();
        assert!(said.contains("plc7: it is off\n"), "{said}");
        assert_eq!(network.polls, asked, "what does not answer is not read: {said}");
        assert!(written.concat().contains(&format!("ip_devices: [\"{is_kept}\"]")), "{written:?}");
    }
    let (_, ended, _) = conversation(&directory, "plc7\nend\n", &mut network);
    assert!(matches!(ended, Err(ConfigureError::Ended)));
}

/// Behind a gateway a device may be any unit, and a converter may speak RTU over TCP.
#[test]
fn a_silent_device_is_asked_again_as_the_unit_that_is_told_and_what_speaks_rtu_is_written_so() {
    let mut network = Pretended { rtu: vec!["gateway"], ..plain(&["plc8"]) };
    network.devices.insert("gateway".to_owned(), (7, Vec::new()));
    let answers = "gateway, plc8\nkeep\n7, 8\n30001\n-\n\n-\n";
    let empty = directory(&[]);
    let (said, ended, written) = conversation(&empty, &format!("{answers}\n\n\nsqlite\n"), &mut network);
    ended.unwrap();
    assert!(said.contains("none of the units 1, 0 and 255 answers: no whole reply"), "{said}");
    assert!(said.contains("gateway answers as unit 7, by RTU over TCP."), "{said}");
    assert!(said.contains("gateway input_register_30001"), "what answers now is read: {said}");
    let expected = "  - sqlite\ndevices:\n  gateway: {transport: rtu}\npolling_groups:\n";
    assert!(written.concat().contains(expected), "{written:?}");
    let agent = "outputs: [sqlite]\npolling_groups:\n  - ip_devices: [plc1]\n    input_registers: [30001]\ndevices:\n  plc1: {retries: 5} # slow\n";
    let there = directory(&[("pattoo_agent_modbustcpd.yaml", agent)]);
    let (said, ended, written) = conversation(&there, &format!("yes\n{answers}\n\n"), &mut network);
    ended.unwrap();
    assert!(
        written.concat().ends_with("  plc1: {retries: 5} # slow\n+  gateway: {transport: rtu}\n"),
        "{said} {written:?}"
    );
}

#[test]
fn the_models_of_sunspec_devices_are_offered_and_may_be_refused() {
    let directory = directory(&[]);
    let models = vec![Model { id: 1, address: 40_002, length: 66 }, Model { id: 103, address: 40_070, length: 50 }];
    let mut network = plain(&["meter"]);
    network.devices.insert("inverter".to_owned(), (255, models));
    let (said, ended, written) = conversation(&directory, "inverter\n\nyes\n-\n10s\n\nsqlite\n", &mut network);
    ended.unwrap();
    assert!(said.contains("inverter answers as unit 255, and not as unit 1."), "{said}");
    assert!(said.contains("is a SunSpec device: 1 common; 103 inverter, three phase."), "{said}");
    assert!(written.concat().contains("unit: 255\n    unavailable: sunspec\n"), "{written:?}");
    let answers = "inverter\n\nno\n30001\n-\n\n\n\n\n\nsqlite\n";
    let (said, ended, written) = conversation(&directory, answers, &mut network);
    ended.unwrap();
    assert!(written.concat().contains("input_registers: [30001]\n"), "{said}");
    let (said, ended, _) = conversation(&directory, "inverter, meter\n\n30001\n-\n\n\n\n\n\nsqlite\n", &mut network);
    ended.unwrap();
    assert!(said.contains("meter has not the same models"), "{said}");
}

#[test]
fn every_answer_is_judged_at_once() {
    let directory = directory(&[]);
    let wrong = "pl c7//\nplc7\none\n1\n40001\n-\n-\nx: y\n30001\n40001\n\n-\n\n0\n5m\n\nsqlite\n";
    let (said, ended, _) = conversation(&directory, wrong, &mut plain(&["plc7"]));
    ended.unwrap();
    for told in [
        "found \"c7//\", which is no device",
        "found 40001",
        "one of the two is needed",
        "found \"one\"",
        "found 0",
        "cannot be read",
    ] {
        assert!(said.contains(told), "no {told}: {said}");
    }
}

#[test]
fn an_output_that_would_not_take_readings_is_corrected_or_kept() {
    let directory = directory(&[(
        "pattoo.yaml",
        "pattoo:\n  log_directory: /log\n  cache_directory: /cache\n  daemon_directory: /daemon\n  system_daemon_directory: /run\n",
    )]);
    let group = "plc7\n\n\n-\n\n\n\n\n\n";
    let refused = || Err("no such database".to_owned());
    let mut network = Pretended { outputs: vec![refused(), refused()], ..plain(&["plc7"]) };
    let influx = "influxdb\ntsdb\nhttp://tsdb.example.net:8086\nv2\nmodbus\nplant\ntoken\n\ngeheim\n";
    let again = "correct\n\nv1\nplant\n\nkeep\n";
    let (said, ended, written) = conversation(&directory, &format!("{group}{influx}{again}"), &mut network);
    ended.unwrap();
    assert!(said.contains("no such database\n"), "{said}");
    let expected = "  - {type: influxdb, url: \"http://tsdb.example.net:8086\", database: plant}\n";
    assert!(written.concat().contains(expected), "{written:?}");
    assert_eq!(written.len(), 1, "neither a secret that is not used, nor pattoo.yaml: {written:?}");
    let (said, ended, written) = conversation(&directory, &format!("{group}{influx}"), &mut network);
    ended.unwrap();
    assert!(!said.contains("geheim") && !written.concat().contains("geheim"), "{said} {written:?}");
    let expected = "{type: influxdb, url: \"http://tsdb.example.net:8086\", bucket: modbus, org: plant, token_file: influxdb.token}";
    assert!(written.concat().contains(expected), "{written:?}");
    assert!(written.iter().any(|text| text.contains("influxdb.token\n(a secret")), "{written:?}");
}

#[test]
fn a_doubt_about_an_output_that_refuses_is_told_with_the_refusal() {
    let empty = directory(&[]);
    let answers = "plc7\n\n\n-\n\n\n\n\n\notlp\nhttp://192.0.2.9:4317\n\nkeep\n";
    let mut network = Pretended { outputs: vec![Err("no connection".to_owned())], ..plain(&["plc7"]) };
    let (said, ended, _) = conversation(&empty, answers, &mut network);
    ended.unwrap();
    assert!(said.contains("no connection\n   found port 4317, where a receiver of OTLP speaks gRPC"), "{said}");
}

#[test]
fn a_file_of_what_to_poll_gets_one_group_more_and_stays_otherwise() {
    let agent = "# ours\npolling_interval: 10s\noutputs: [sqlite] # nobody else\npolling_groups:\n- ip_devices: [plc1, plc2]\n  \
                 input_registers: [30001]   # level\n\n# the end\n";
    let directory = directory(&[("pattoo_agent_modbustcpd.yaml", agent)]);
    let (said, ended, written) = conversation(&directory, "\n", &mut plain(&[]));
    ended.unwrap();
    assert!(said.contains("polls 2 devices in 1 group.\n") && written.is_empty(), "{said} {written:?}");
    let answers = "yes\nplc7\n\n-\n40001\n\n\n\n\n";
    let (said, ended, written) = conversation(&directory, answers, &mut plain(&["plc7"]));
    ended.unwrap();
    let diff = "@@ -5,4 +5,8 @@\n - ip_devices: [plc1, plc2]\n   input_registers: [30001]   # level\n+- group_name: \
                group 2\n+  ip_devices: [\"plc7\"]\n+  unit: 1\n+  holding_registers: [40001]\n \n # the end\n";
    assert!(written.concat().ends_with(diff), "{said} {written:?}");
    assert!(said.contains("plc7 holding_register_40001\n1 of 1 point read"), "only what is new is read: {said}");
}

/// Whoever adds a group to what is right already is not asked for all of `pattoo.yaml` again.
#[test]
fn what_stands_in_pattoo_yaml_stays_unless_somebody_wants_to_change_it() {
    let shared = "pattoo: {log_directory: /log, cache_directory: /cache, daemon_directory: /daemon, \
                  system_daemon_directory: /run}\npattoo_agent_api: {ip_address: 192.0.2.1}\n";
    let agent = "polling_groups:\n  - ip_devices: [plc7]\n    input_registers: [30001]\n";
    let there = directory(&[("pattoo.yaml", shared), ("pattoo_agent_modbustcpd.yaml", agent)]);
    let group = "yes\nplc7\n0\n";
    let rest = "-\n40001\n\n-\n\n\n";
    // Nothing of the old group is in the way of none.
    let (said, ended, written) = conversation(&there, &format!("{group}{rest}\n"), &mut plain(&["plc7"]));
    ended.unwrap();
    assert!(said.ends_with("Change the pattoo server, directories or log level? [no]: "), "{said}");
    assert_eq!(written.len(), 1, "{written:?}");
    let (said, ended, written) = conversation(&there, "no\nyes\n192.0.2.2\n\n\n\n\n\n\n", &mut plain(&["plc7"]));
    ended.unwrap();
    assert!(
        written.concat().contains("+pattoo_agent_api: {ip_bind_port: 20201, ip_address: 192.0.2.2}"),
        "{said} {written:?}"
    );
}

#[test]
fn a_file_that_cannot_be_changed_in_place_is_refused_before_anything_is_asked() {
    let agent = "outputs: [sqlite]\npolling_groups: [{ip_devices: [plc1], input_registers: [30001]}]\n";
    let directory = directory(&[("pattoo_agent_modbustcpd.yaml", agent)]);
    let mut person = Script::at_a_terminal("yes\n");
    let mut drafts = Drafts::of(directory.path()).unwrap();
    let ended = ask(&mut Interview::new(&mut person), &mut plain(&[]), &mut drafts);
    let why = ended.unwrap_err().to_string();
    assert!(why.contains("polling_groups is written in a way") && why.contains("by hand"), "{why}");
    assert!(!person.said().contains("2."), "{}", person.said());
}
