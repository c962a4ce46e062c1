//! What operators do between two lives of the agent (rows O of FAULTS.md): another server, another id, another
//! list of devices, old backups in the place of new files, another program.
//!
//! Each begins with a backlog on disk, and ends with the question what became of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use support::agent::{HOSTNAME, Home};
use support::device::{Device, Mode};
use support::judge::judge;
use support::server::{Database, Server};
use support::spool;

/// Two registers of each device, ten times a second, each batch on its own.
fn configure(home: &Home, interval: &str, devices: &[&Device]) {
    let targets: Vec<_> = devices.iter().map(|device| format!("'{}'", device.target())).collect();
    home.write_config(&format!(
        "polling_interval: {interval}\nflush_interval: 50ms\nagent_hostname: {HOSTNAME}\npolling_groups:\n  \
         - ip_devices: [{}]\n    input_registers: [30001, 30002]\n",
        targets.join(", ")
    ));
}

/// A home with what a life without a server left on disk: at least four batches with readings of each device.
fn with_backlog(server: &Server, devices: &[&Device]) -> Home {
    let home = Home::new(server.address());
    configure(&home, "100ms", devices);
    server.stop();
    let mut agent = home.run();
    agent.until("batches on disk", || devices.iter().all(|device| device.served_count() > 4));
    agent.stop();
    assert!(home.spooled().len() >= 4);
    home
}

/// The readings in these bodies: series and date.
fn readings(bodies: &[Vec<u8>]) -> BTreeSet<(String, u64)> {
    let mut database = Database::default();
    for body in bodies {
        database.ingest(body);
    }
    rows(&database)
}

fn rows(database: &Database) -> BTreeSet<(String, u64)> {
    database.rows().iter().map(|row| (row.checksum.clone(), row.timestamp)).collect()
}

/// Copies what is in `from` over what is in `to`, directories too.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Puts a backup in the place of what is there.
fn restore(backup: &Path, spool: &Path) {
    fs::remove_dir_all(spool).unwrap();
    copy(backup, spool);
}

/// From the next start on the configuration names `new` and not `old`.
fn point_to(home: &Home, old: &Server, new: &Server) {
    let file = home.config_dir().join("pattoo.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let changed = text
        .replace(&old.address().ip().to_string(), &new.address().ip().to_string())
        .replace(&old.address().port().to_string(), &new.address().port().to_string());
    assert_ne!(text, changed);
    fs::write(file, changed).unwrap();
}

/// A life in which everything on disk and everything new arrives at `server`, once and in order.
fn everything_arrives(home: &Home, devices: &[&Device], server: &Server) {
    every_reading_arrives(home, devices, server);
    server.database().assert_sound();
}

/// The same, but posts may be older than those of a time that nobody remembers.
fn every_reading_arrives(home: &Home, devices: &[&Device], server: &Server) {
    let polled: usize = devices.iter().map(|device| device.served_count()).sum();
    let mut agent = home.run();
    agent.until("new polls", || devices.iter().map(|device| device.served_count()).sum::<usize>() > polled + 3);
    for device in devices {
        device.set(Mode::Silent);
    }
    agent.until("every reading served to arrive", || judge(devices, server.database().rows()).lost.is_empty());
    agent.until("an empty spool", || home.spooled().is_empty());
    agent.stop();
    judge(devices, server.database().rows()).assert_complete();
    let database = server.database();
    let wrong = [database.deaths(), database.invalid()];
    assert!(wrong.iter().all(|list| list.is_empty()) && database.late().is_empty(), "{wrong:?} {:?}", database.late());
    for device in devices {
        device.set(Mode::Answer);
    }
}

#[test]
fn a_backlog_goes_to_the_server_that_the_configuration_names_now() {
    let (device, old, new) = (Device::counting(1), Server::start(), Server::start());
    let home = with_backlog(&old, &[&device]);
    point_to(&home, &old, &new);
    old.come_back();
    everything_arrives(&home, &[&device], &new);
    assert_eq!(old.post_count(), 0, "nothing more to the old one");
}

#[test]
fn an_id_changed_by_hand_is_refused_and_its_backlog_waits_for_the_old_one() {
    let (device, server) = (Device::counting(2), Server::start());
    let home = with_backlog(&server, &[&device]);
    let (id, backlog) = (home.agent_id(), home.spooled());
    let spool = home.spool();
    home.write_agent_id(&"e".repeat(64));
    let end = home.output(&["run", "--config_dir", home.config_dir().to_str().unwrap()]);
    assert_eq!(end.code, Some(1), "{}", end.stderr);
    assert!(end.stderr.contains("agent_id"), "it says which file: {}", end.stderr);
    home.write_agent_id(&id);
    assert_eq!((home.spool(), home.spooled()), (spool, backlog), "untouched");
    server.come_back();
    everything_arrives(&home, &[&device], &server);
    assert!(server.database().rows().iter().all(|row| row.agent_id == id));
}

#[test]
fn what_was_read_from_a_device_that_is_configured_no_more_still_arrives() {
    let (kept, removed, server) = (Device::counting(3), Device::counting(4), Server::start());
    let home = with_backlog(&server, &[&kept, &removed]);
    configure(&home, "100ms", &[&kept]);
    server.come_back();
    let polled = removed.request_count();
    everything_arrives(&home, &[&kept], &server);
    judge(&[&kept, &removed], server.database().rows()).assert_complete();
    assert_eq!(removed.request_count(), polled, "it is not polled any more");
}

#[test]
fn another_interval_is_no_other_series() {
    let (device, server) = (Device::counting(5), Server::start());
    let home = with_backlog(&server, &[&device]);
    configure(&home, "200ms", &[&device]);
    server.come_back();
    everything_arrives(&home, &[&device], &server);
    let database = server.database();
    let mut series: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for row in database.rows() {
        series.entry(&row.key).or_default().insert((&row.checksum, &row.interval));
    }
    assert_eq!(series.len(), 2);
    for (key, seen) in series {
        let checksums: BTreeSet<_> = seen.iter().map(|(checksum, _)| checksum).collect();
        assert_eq!((checksums.len(), seen.len()), (1, 2), "{key}: one series, both intervals: {seen:?}");
    }
}

#[test]
fn a_backlog_that_comes_back_from_a_backup_doubles_nothing() {
    let (device, server) = (Device::counting(6), Server::start());
    let home = with_backlog(&server, &[&device]);
    let backup = home.path().join("backup");
    copy(&home.spool(), &backup);
    server.come_back();
    everything_arrives(&home, &[&device], &server);
    let (before, repeated) = (rows(&server.database()), server.database().repeated());
    // Only the batches, and it is known that they are delivered.
    let posts = server.post_count();
    for segment in spool::segments(&backup) {
        fs::copy(&segment, home.spool().join("log").join(segment.file_name().unwrap())).unwrap();
    }
    assert_eq!(home.spooled().len(), 0);
    everything_arrives(&home, &[&device], &server);
    assert!(server.post_count() > posts);
    assert_eq!(server.database().repeated(), repeated);

    restore(&backup, &home.spool());
    let restored = readings(&home.spooled());
    assert!(restored.len() >= 8);
    every_reading_arrives(&home, &[&device], &server);
    assert_eq!(server.database().repeated(), repeated + restored.len(), "posted, and known to the server");
    assert!(before.is_subset(&rows(&server.database())));
}

#[test]
fn cursors_and_batches_of_different_backups_lose_double_and_disorder_nothing() {
    let (device, server) = (Device::counting(7), Server::start());
    let home = with_backlog(&server, &[&device]);
    let [first, second] = ["first", "second"].map(|name| home.path().join(name));
    copy(&home.spool(), &first);
    server.come_back();
    everything_arrives(&home, &[&device], &server);
    server.stop();
    let mut agent = home.run();
    let polled = device.served_count();
    agent.until("more batches on disk", || device.served_count() > polled + 4);
    agent.stop();
    copy(&home.spool(), &second);
    server.come_back();

    // What is remembered is older than what lies on disk.
    let cursors = |of: &Path| of.join("log/cursors");
    assert_ne!(fs::read(cursors(&first)).unwrap(), fs::read(cursors(&second)).unwrap());
    fs::copy(cursors(&first), cursors(&home.spool())).unwrap();
    everything_arrives(&home, &[&device], &server);

    // And newer: all batches come from before it.
    restore(&first, &home.spool());
    fs::copy(cursors(&second), cursors(&home.spool())).unwrap();
    every_reading_arrives(&home, &[&device], &server);

    // And nothing is remembered at all, and the server has not had what is on disk.
    let other = Server::start();
    point_to(&home, &server, &other);
    restore(&second, &home.spool());
    fs::remove_file(cursors(&home.spool())).unwrap();
    let waiting = readings(&home.spooled());
    assert!(waiting.len() >= 8);
    let polled = device.served_count();
    let mut agent = home.run();
    agent.until("new polls", || device.served_count() > polled + 3);
    agent.until("everything on disk to arrive", || waiting.is_subset(&rows(&other.database())));
    agent.stop();
    other.database().assert_sound();
}

#[test]
fn a_program_replaced_under_its_running_process_changes_nothing_until_the_next_start() {
    let (device, server) = (Device::counting(8), Server::start());
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("agent");
    let built = Path::new(env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd"));
    fs::copy(built, &program).unwrap();
    let home = Home::of(&program, server.address(), "debug");
    configure(&home, "100ms", &[&device]);
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    // As package managers do it.
    fs::copy(built, program.with_extension("new")).unwrap();
    fs::rename(program.with_extension("new"), &program).unwrap();
    let arrived = server.row_count();
    agent.until("readings that go on", || server.row_count() > arrived + 8);
    server.stop();
    let polled = device.served_count();
    agent.until("batches on disk", || device.served_count() > polled + 4);
    agent.stop();
    assert!(!home.spooled().is_empty());
    server.come_back();
    everything_arrives(&home, &[&device], &server);
}
