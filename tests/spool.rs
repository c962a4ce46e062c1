//! `spool show` and `spool export`: what waits on disk is shown and written for others, beside a running agent, and nothing
//! there is changed by it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::agent::{Agent, Finished, HOSTNAME, Home};
use support::device::{Device, Mode as DeviceMode};
use support::judge::judge;
use support::server::{Row, Server};

/// A reading, in the words of all forms: time in ms, device, key, value.
type Known = (u64, String, String, String);

fn home_of(server: &Server, device: &Device) -> Home {
    let home = Home::new(server.address());
    home.write_config(&format!(
        "polling_interval: 100ms\nflush_interval: 20ms\nagent_hostname: {HOSTNAME}\noutputs: [pattoo, {{type: file, \
         name: archive, path: {}}}]\npolling_groups:\n  - {{ip_devices: ['{}'], unit: 1, input_registers: [30001, 30002], \
         holding_registers: [40101]}}\n",
        home.path().join("archive.csv").display(),
        device.target()
    ));
    home
}

/// An agent whose server is away and which has something on disk that waits for it; nothing more comes.
fn piled_up(server: &Server, device: &Device) -> (Home, Agent) {
    server.stop();
    let home = home_of(server, device);
    let mut agent = home.run();
    agent.until("readings", || device.served_count() > 40);
    device.set(DeviceMode::Silent);
    let readings = judge(&[device], &[]).served;
    agent.until("everything on disk and in the file", || {
        let shown = shown(&home, &[]);
        waiting(&shown, "pattoo") == readings && waiting(&shown, "archive") == 0
    });
    (home, agent)
}

fn spool(home: &Home, arguments: &[&str]) -> Finished {
    let config_dir = home.config_dir();
    home.output(&[&["spool"], arguments, &["--config_dir", config_dir.to_str().unwrap()]].concat())
}

fn shown(home: &Home, arguments: &[&str]) -> Value {
    let finished = spool(home, &[&["show", "--format", "json"], arguments].concat());
    // Before the agent has made its directory there is nothing to show.
    serde_json::from_str(&finished.stdout).unwrap_or_default()
}

fn waiting(shown: &Value, name: &str) -> usize {
    let outputs = shown["outputs"].as_array().cloned().unwrap_or_default();
    let output = outputs.into_iter().find(|output| output["name"] == name);
    output.and_then(|output| output["waiting"].as_u64()).map_or(usize::MAX, |waiting| usize::try_from(waiting).unwrap())
}

fn known_rows(rows: &[Row]) -> Vec<Known> {
    let known = |row: &Row| (row.timestamp, row.target.clone(), row.key.clone(), row.value.to_string());
    rows.iter().map(known).collect()
}

fn ms(time: &str) -> u64 {
    let at = humantime::parse_rfc3339(time).unwrap();
    u64::try_from(at.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn known_lines(text: &str) -> Vec<Known> {
    let objects = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    objects
        .map(|it| (ms(it["time"].as_str().unwrap()), text(&it["device"]), text(&it["key"]), it["value"].to_string()))
        .collect()
}

fn known_cells(text: &str) -> Vec<Known> {
    let mut lines = text.lines();
    assert_eq!(
        lines.next().unwrap(),
        "time,device,unit,key,name,value,unit_of_measurement,group,device_name,text,tags"
    );
    let known = |line: &str| {
        let cells: Vec<_> = line.split(',').map(str::to_owned).collect();
        (ms(&cells[0]), cells[1].clone(), cells[3].clone(), cells[5].clone())
    };
    lines.map(known).collect()
}

/// Every file below `root`, and what is in it.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut open, mut files) = (vec![root.to_owned()], BTreeMap::new());
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    files
}

#[test]
fn what_is_exported_beside_a_running_agent_is_what_arrives_later() {
    let (device, server) = (Device::counting(1), Server::start());
    let (home, mut agent) = piled_up(&server, &device);
    let before = tree(&home.path().join("cache"));
    let csv = spool(&home, &["export"]);
    let jsonl = spool(&home, &["export", "--format", "jsonl", "--output", "pattoo"]);
    let (bodies, lines) = (home.path().join("bodies"), home.path().join("lines"));
    let pattoo = spool(&home, &["export", "--format", "pattoo", "--to", bodies.to_str().unwrap()]);
    let filed = spool(&home, &["export", "--all", "--to", lines.to_str().unwrap()]);
    let nothing = spool(&home, &["export", "--output", "archive"]);
    for (finished, has_some) in [(&csv, true), (&jsonl, true), (&pattoo, true), (&filed, true), (&nothing, false)] {
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        assert_eq!(finished.stderr.contains("wrote 0 readings"), !has_some, "{}", finished.stderr);
    }
    assert_eq!(nothing.stdout.lines().count(), 1, "{}", nothing.stdout);
    assert!(agent.is_running());
    assert!(before == tree(&home.path().join("cache")), "an export changes nothing in the cache");

    server.come_back();
    agent.until("everything to arrive", || judge(&[&device], server.database().rows()).lost.is_empty());
    agent.stop();
    let arrived = known_rows(server.database().rows());
    assert!(arrived.len() > 40, "{}", arrived.len());
    assert_eq!(known_cells(&csv.stdout), arrived);
    assert_eq!(known_lines(&jsonl.stdout), arrived);
    assert_eq!(fs::read_to_string(lines.join("all.csv")).unwrap(), csv.stdout);
    assert_eq!(
        fs::read_to_string(home.path().join("archive.csv")).unwrap(),
        csv.stdout,
        "the file output says the same"
    );

    // The bodies are what another agent with this id, or the Python one, takes for its own cache.
    let id = home.agent_id();
    let names: Vec<String> =
        fs::read_dir(&bodies).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.is_empty());
    for name in &names {
        let (stamp, rest) = name.split_at(13);
        assert!(stamp.bytes().all(|byte| byte.is_ascii_digit()) && rest == format!("_{id}.json"), "{name}");
        let body: Value = serde_json::from_slice(&fs::read(bodies.join(name)).unwrap()).unwrap();
        assert_eq!(body["pattoo_agent_timestamp"].to_string(), stamp, "{name}");
    }
    let heir = Server::start();
    let other = home_of(&heir, &device);
    other.write_agent_id(&id);
    fs::create_dir_all(other.spool()).unwrap();
    for name in &names {
        fs::copy(bodies.join(name), other.spool().join(name)).unwrap();
    }
    let mut agent = other.run();
    agent.until("the bodies to arrive", || heir.row_count() >= arrived.len());
    agent.stop();
    assert_eq!(known_rows(heir.database().rows()), arrived);
    heir.database().assert_sound();
    let series = |rows: &[Row]| rows.iter().map(|row| row.checksum.clone()).collect::<BTreeSet<_>>();
    assert_eq!(series(heir.database().rows()), series(server.database().rows()), "no chart begins anew");
}

#[test]
fn what_is_on_disk_is_shown_in_80_columns_with_and_without_a_configuration() {
    let (device, server) = (Device::counting(1), Server::start());
    let (home, mut agent) = piled_up(&server, &device);
    let readings = judge(&[&device], &[]).served;
    fs::create_dir(home.spool().join("quarantine")).unwrap();
    fs::write(home.spool().join("quarantine/x.json"), "12345").unwrap();
    let old = format!("1700000000123_{}.json", home.agent_id());
    let before = tree(&home.path().join("cache"));
    let table = spool(&home, &["show"]);
    let (cache, own) = (home.path().join("cache"), home.spool());
    for place in [&cache, &own] {
        let place = ["--cache", place.to_str().unwrap()];
        let same = home.output(&[&["spool", "show"][..], &place, &["--config_dir", "/nowhere"]].concat());
        assert_eq!(same.code, Some(0), "{}", same.stderr);
        // Without a configuration nobody knows of which type an output is, nor which is the first.
        for part in [&format!("{readings} readings"), "quarantine  1 file, 5 B", "archive  ?", "pattoo   ?"] {
            assert!(same.stdout.contains(part), "{part}\n{}", same.stdout);
        }
    }
    assert!(before == tree(&home.path().join("cache")));
    let id = home.agent_id();
    for part in [
        &format!("agent       {id}\n"),
        &format!("log         {readings} readings, "),
        " in 1 segment\nnumbers     0 to ",
        "quarantine  1 file, 5 B\n",
        "output   type    next reading  waiting  oldest waits for\npattoo   pattoo  0 ",
        "\narchive  file    ",
        "segment           size",
        "\n0000000000000000  ",
    ] {
        assert!(table.stdout.contains(part), "{part}\n{}", table.stdout);
    }
    let long = |line: &&str| line.chars().count() > 80 && !line.starts_with("cache ");
    assert_eq!(table.stdout.lines().find(long), None, "{}", table.stdout);
    // What taking an output out means is said beforehand.
    let edited = home.path().join("edited");
    fs::create_dir(&edited).unwrap();
    for name in ["pattoo.yaml", "pattoo_agent_modbustcpd.yaml"] {
        let text = fs::read_to_string(home.config_dir().join(name)).unwrap();
        fs::write(edited.join(name), text.replace("outputs: [pattoo, ", "outputs: [")).unwrap();
    }
    let config_dir = home.config_dir();
    let [running, edited] = [&config_dir, &edited].map(|path| path.to_str().unwrap());
    let against = home.output(&["check", "--config_dir", edited, "--against", running]);
    for part in [
        "output           pattoo is taken out\n",
        "But the next start drops what this output has not delivered by then: pattoo is taken out.\n",
        &format!("Output pattoo has {readings} readings on disk to deliver.\n"),
    ] {
        assert!(against.stdout.contains(part), "{part}\n{}", against.stdout);
    }

    let json = shown(&home, &[]);
    assert_eq!((&json["start"], &json["readings"], &json["undated"]), (&0.into(), &readings.into(), &0.into()));
    assert_eq!(json["segments"].as_array().unwrap().len(), 1);
    assert_eq!(json["segments"][0]["damaged"], false);
    assert!(json["outputs"][0]["oldest"].as_u64() <= json["segments"][0]["newest"].as_u64());
    assert_eq!(json["outputs"][1]["oldest"], Value::Null);

    // What an old cache holds waits for the pattoo output too.
    agent.stop();
    fs::write(home.spool().join(&old), "{}").unwrap();
    assert!(spool(&home, &["show"]).stdout.contains("old caches  1 file, 2 B\n"));
    let lines = spool(&home, &["export"]);
    assert_eq!(lines.code, Some(1));
    assert!(lines.stderr.contains("1 bodies of old caches wait too"), "{}", lines.stderr);
    let bodies = home.path().join("bodies");
    let pattoo = spool(&home, &["export", "--format", "pattoo", "--to", bodies.to_str().unwrap()]);
    assert_eq!(pattoo.code, Some(0), "{}", pattoo.stderr);
    assert_eq!(fs::read(bodies.join(&old)).unwrap(), b"{}");
}

#[test]
fn what_is_torn_or_damaged_is_passed_and_told_and_stays_where_it_is() {
    let (device, server) = (Device::counting(1), Server::start());
    let (home, mut agent) = piled_up(&server, &device);
    let readings = judge(&[&device], &[]).served;
    agent.stop();
    let segment = home.spool().join("log/0000000000000000.segment");
    let whole = fs::read(&segment).unwrap();

    // The first bytes of a frame: as while it is written.
    fs::write(&segment, [&whole, &whole[32..100]].concat()).unwrap();
    let before = tree(&home.path().join("cache"));
    let export = spool(&home, &["export", "--format", "jsonl"]);
    assert_eq!((export.code, export.stdout.lines().count()), (Some(0), readings), "{}", export.stderr);
    assert!(before == tree(&home.path().join("cache")));

    // A byte of the first payload.
    let mut damaged = whole.clone();
    damaged[32 + 56 + 3] ^= 1;
    fs::write(&segment, &damaged).unwrap();
    let before = tree(&home.path().join("cache"));
    let export = spool(&home, &["export", "--format", "jsonl"]);
    let exported = export.stdout.lines().count();
    assert_eq!(export.code, Some(1), "{}", export.stderr);
    let said = format!("{} readings are damaged and are left out", readings - exported);
    assert!((1..readings).contains(&exported) && export.stderr.contains(&said), "{exported}\n{}", export.stderr);
    assert!(before == tree(&home.path().join("cache")), "nothing is moved to quarantine");
}

#[test]
fn what_cannot_be_done_is_said() {
    let (device, server) = (Device::counting(1), Server::start());
    let (home, mut agent) = piled_up(&server, &device);
    agent.stop();
    let cache = home.path().join("cache");
    let (cache_text, id) = (cache.to_str().unwrap(), home.agent_id());
    fs::create_dir(home.path().join("full")).unwrap();
    fs::write(home.path().join("full/x"), "").unwrap();
    let full = home.path().join("full");
    let empty = home.path().join("nothing");
    fs::create_dir(&empty).unwrap();
    let cases: [(&[&str], i32, &str); 7] = [
        (&["export", "--format", "pattoo"], 2, "--to <DIR>"),
        (&["export", "--output", "tsdb"], 2, "there is no output \"tsdb\"; there are pattoo, archive"),
        (&["export", "--output", "pattoo", "--all"], 2, "cannot be used with"),
        (&["export", "--to", full.to_str().unwrap()], 2, "is not empty; name a new directory"),
        (&["export", "--to", "/nowhere/x"], 1, "cannot write /nowhere/x: No such file or directory"),
        (&["show", "--cache", "/nowhere"], 1, "there is no cache directory /nowhere"),
        (&["show", "--cache", empty.to_str().unwrap()], 1, "no agent has left readings in"),
    ];
    for (arguments, code, part) in cases {
        let finished = spool(&home, arguments);
        assert_eq!(finished.code, Some(code), "{arguments:?}\n{}", finished.stderr);
        assert!(finished.stderr.contains(part), "{arguments:?}\n{}", finished.stderr);
    }
    // Two agents have left something.
    let other = "4c".repeat(32);
    fs::create_dir(cache.join(&other)).unwrap();
    let several = spool(&home, &["show"]);
    assert_eq!(several.code, Some(1));
    for part in [&*id, &other, "name one of them with --cache DIR/ID", cache_text] {
        assert!(several.stderr.contains(part), "{part}\n{}", several.stderr);
    }
    let own = home.spool();
    assert_eq!(spool(&home, &["show", "--cache", own.to_str().unwrap()]).code, Some(0));
    // A configuration with faults: 78, and how to do without.
    home.write_config("nonsense");
    assert_eq!(spool(&home, &["show"]).code, Some(78));
}
