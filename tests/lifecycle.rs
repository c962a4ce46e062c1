//! The life of the process: stopped and killed in the middle, started on what others left, started twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use support::PATIENCE;
use support::agent::{Agent, HOSTNAME, Home};
use support::device::{Device, Mode as DeviceMode};
use support::judge::{Verdict, judge};
use support::server::{Mode, Row, Server};
use support::{now_ms, python};

/// The id that the Python agent left in the tests about its files.
const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What an answer may need from the wire to the agent's memory on a busy machine.
const ON_ITS_WAY_MS: u64 = 1_000;

/// How long readings are gathered before they are written.
const GATHERED_MS: u64 = 50;

fn home_with(server: &Server, device: &Device) -> Home {
    let home = Home::new(server.address());
    home.write_groups(
        "100ms",
        &format!(
            "  - group_name: plant\n    ip_devices: ['{}']\n    input_registers: [30001, 30002, 30003]\n",
            device.target(),
        ),
    );
    home
}

fn arrived(device: &Device, server: &Server) -> Verdict {
    judge(&[device], server.database().rows())
}

/// Lets what was served since `ms` arrive, and fails when any of it does not.
fn everything_since_arrives(agent: &mut Agent, device: &Device, server: &Server, ms: u64) {
    device.set(DeviceMode::Silent);
    agent.until("every reading of this life to arrive", || arrived(device, server).lost.iter().all(|(at, _)| *at < ms));
    device.set(DeviceMode::Answer);
}

#[test]
fn sigterm_with_a_dead_server_leaves_everything_on_disk_for_the_next_life() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = home_with(&server, &device);
    let mut agent = home.run();
    agent.until("the first readings to arrive", || server.row_count() > 0);
    server.stop();
    let before = device.served_count();
    agent.until("polls without a server", || device.served_count() > before + 10);
    let stopped_at = now_ms();
    agent.stop();
    let mut database = server.database();
    home.spooled().iter().for_each(|body| database.ingest(body));
    let verdict = judge(&[&device], database.rows());
    verdict.assert_true();
    database.assert_sound();
    assert_eq!(verdict.lost_before(stopped_at - ON_ITS_WAY_MS), [""; 0], "neither delivered nor on disk");

    server.come_back();
    let started_at = now_ms();
    let mut agent = home.run();
    agent
        .until("readings of the second life", || server.database().rows().iter().any(|row| row.timestamp > started_at));
    everything_since_arrives(&mut agent, &device, &server, started_at);
    let verdict = arrived(&device, &server);
    verdict.assert_true();
    server.database().assert_sound();
    let lost: Vec<_> = verdict.lost_before(stopped_at - ON_ITS_WAY_MS);
    assert_eq!(lost, [""; 0], "not delivered by the second life");
}

#[test]
fn sigterm_ends_the_agent_in_every_state_of_server_and_device() {
    let hang = [Mode::Ok, Mode::HangOnAccept, Mode::HangAfterReading, Mode::Status(500)];
    let devices = [DeviceMode::Answer, DeviceMode::Silent, DeviceMode::Exception(4)];
    for (number, mode) in (30..).zip(hang) {
        for device_mode in devices {
            let (device, server) = (Device::counting(number), Server::start());
            device.set(device_mode);
            server.set(mode.clone());
            let home = home_with(&server, &device);
            let mut agent = home.run();
            agent.until("work", || {
                device.request_count() > 2 && (device_mode != DeviceMode::Answer || server.connections() > 0)
                    || (device_mode == DeviceMode::Silent && device.request_count() > 0)
            });
            agent.stop();
        }
    }
}

#[test]
fn sigint_stops_it_like_sigterm() {
    let (device, server) = (Device::counting(2), Server::start());
    let home = home_with(&server, &device);
    let mut agent = home.run();
    agent.until("the first readings to arrive", || server.row_count() > 0);
    agent.sigint();
    assert_eq!(agent.wait(PATIENCE), Some(0), "{}", agent.log());
}

#[test]
fn sigkill_loses_at_most_what_was_being_gathered_and_doubles_nothing() {
    let (device, server) = (Device::counting(3), Server::start());
    let home = home_with(&server, &device);
    let mut losses_allowed = Vec::new();
    let kills = 4;
    for life in 0..kills {
        let started_at = now_ms();
        let mut agent = home.run();
        agent.until("readings of this life to arrive", || {
            server.database().rows().last().is_some_and(|row| row.timestamp > started_at)
        });
        if life % 2 == 1 {
            server.stop();
        }
        let before = device.served_count();
        agent.until("some more polls", || device.served_count() > before + 7 + 5 * life);
        let killed_at = now_ms();
        agent.sigkill();
        losses_allowed.push(killed_at - GATHERED_MS - ON_ITS_WAY_MS..now_ms());
        if life % 2 == 1 {
            server.come_back();
        }
    }
    let started_at = now_ms();
    let mut agent = home.run();
    agent.until("readings of the last life", || {
        server.database().rows().last().is_some_and(|row| row.timestamp > started_at)
    });
    everything_since_arrives(&mut agent, &device, &server, started_at);
    let verdict = arrived(&device, &server);
    verdict.assert_true();
    let lost: Vec<_> =
        verdict.lost.iter().filter(|(at, _)| !losses_allowed.iter().any(|allowed| allowed.contains(at))).collect();
    assert!(lost.is_empty(), "lost of {}: {lost:#?}", verdict.served);
    server.database().assert_sound();
    assert!(server.database().posted_again() <= kills, "at most one batch comes again per kill");
}

/// B16: an interval in which nothing is synced is far longer than all lives here.
#[test]
fn sigkill_in_an_outage_loses_nothing_that_came_before_the_last_moment() {
    let (device, server) = (Device::counting(12), Server::start());
    let home = home_with(&server, &device);
    home.write_config(&format!(
        "polling_interval: 100ms\nflush_interval: 1m\nagent_hostname: {HOSTNAME}\npolling_groups:\n  \
         - {{ip_devices: ['{}'], input_registers: [30001, 30002, 30003]}}\n",
        device.target()
    ));
    server.stop();
    let mut allowed = Vec::new();
    for life in 0..6 {
        let (mut agent, before) = (home.run(), device.served_count());
        agent.until("polls of this life", || device.served_count() > before + 25 + 3 * life);
        let killed_at = now_ms();
        agent.sigkill();
        allowed.push(killed_at - GATHERED_MS - ON_ITS_WAY_MS..now_ms());
    }
    let mut database = server.database();
    home.spooled().iter().for_each(|body| database.ingest(body));
    database.assert_sound();
    let verdict = judge(&[&device], database.rows());
    verdict.assert_true();
    let lost: Vec<_> = verdict.lost.iter().filter(|(at, _)| !allowed.iter().any(|range| range.contains(at))).collect();
    assert!(lost.is_empty(), "lost of {}: {lost:#?}", verdict.served);
    assert!(verdict.arrived * 2 > verdict.served, "{} of {}", verdict.arrived, verdict.served);
}

#[test]
fn what_the_python_agent_left_is_delivered_first_and_in_its_order() {
    let (device, server) = (Device::counting(4), Server::start());
    let home = home_with(&server, &device);
    // The Python agent's file has no newline; one written by hand may have.
    home.write_agent_id(&format!("{ID}\n"));
    let stamps: Vec<u64> = (1_700_000_000_000..).step_by(300_000).take(12).collect();
    for at in stamps.iter().rev() {
        let body = python::body(
            ID,
            *at,
            &[("10.0.0.1", "input_register_30001", 7.0), ("10.0.0.2", "input_register_30001", 8.0)],
        );
        python::leave(&home.path().join("cache").join(ID), ID, *at, &body);
    }
    let mut agent = home.run();
    agent.until("what was left and what is new", || server.row_count() > 24 + 6);
    let database = server.database();
    database.assert_sound();
    let first: Vec<u64> = database.rows()[..24].iter().map(|row| row.timestamp).collect();
    let expected: Vec<u64> = stamps.iter().flat_map(|at| [*at, *at]).collect();
    assert_eq!(first, expected, "the leftovers first, oldest first");
    assert_eq!(home.agent_id(), ID, "the id is kept");
    everything_since_arrives(&mut agent, &device, &server, 0);
    arrived(&device, &server).assert_complete();
    agent.until("an empty spool", || home.spooled().is_empty());
}

#[test]
fn a_damaged_leftover_is_set_aside_untouched_and_stops_nothing() {
    let (device, server) = (Device::counting(5), Server::start());
    let home = home_with(&server, &device);
    home.write_agent_id(ID);
    let directory = home.path().join("cache").join(ID);
    let whole = |at| python::body(ID, at, &[("10.0.0.1", "input_register_30001", 7.0)]);
    python::leave(&directory, ID, 1_700_000_000_000, &whole(1_700_000_000_000));
    let mut damaged = BTreeMap::new();
    for (at, body) in [
        (1_700_000_100_000, whole(1_700_000_100_000)[..300].to_vec()),
        (1_700_000_200_000, Vec::new()),
        (1_700_000_300_000, vec![0; 700]),
        (1_700_000_400_000, b"[1, 2]".to_vec()),
    ] {
        let path = python::leave(&directory, ID, at, &body);
        damaged.insert(path.file_name().unwrap().to_owned(), body);
    }
    python::leave(&directory, ID, 1_700_000_500_000, &whole(1_700_000_500_000));
    let mut agent = home.run();
    agent.until("the whole ones and what is new", || server.row_count() > 2 + 6);
    let stamps: Vec<u64> = server.database().rows()[..2].iter().map(|row| row.timestamp).collect();
    assert_eq!(stamps, [1_700_000_000_000, 1_700_000_500_000]);
    server.database().assert_sound();
    let set_aside: BTreeMap<_, _> = files_below(home.path())
        .into_iter()
        .filter(|path| path.parent().is_some_and(|parent| parent.ends_with("quarantine")))
        .map(|path| (path.file_name().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    assert_eq!(set_aside, damaged, "in quarantine, bytes unchanged");
    agent.stop();
}

/// B10: a batch from a clock that was wrong holds up no other.
#[test]
fn a_leftover_of_the_future_is_set_aside_and_the_others_arrive() {
    let (device, server) = (Device::counting(13), Server::start());
    let home = home_with(&server, &device);
    home.write_agent_id(ID);
    let directory = home.path().join("cache").join(ID);
    let body = |at| python::body(ID, at, &[("10.0.0.1", "input_register_30001", 7.0)]);
    let (past, future) = ([1_700_000_000_000, 1_700_000_300_000], 2_524_608_000_000);
    for at in [past[0], future, past[1]] {
        python::leave(&directory, ID, at, &body(at));
    }
    let mut agent = home.run();
    agent.until("the others and what is new", || server.row_count() > 2 + 6);
    agent.until("one aside", || home.quarantined() == 1);
    let stamps: Vec<u64> = server.database().rows()[..2].iter().map(|row| row.timestamp).collect();
    assert_eq!(stamps, past);
    assert!(server.database().rows().iter().all(|row| row.timestamp < future), "nothing of the future");
    everything_since_arrives(&mut agent, &device, &server, 0);
    agent.until("an empty spool", || home.spooled().is_empty());
    agent.stop();
    server.database().assert_sound();
}

/// B12: what no flush has made durable yet is delivered at the stop.
#[test]
fn an_orderly_stop_delivers_the_last_batch() {
    let (device, server) = (Device::counting(14), Server::start());
    let home = home_with(&server, &device);
    let mut config = fs::read_to_string(home.config_dir().join("pattoo_agent_modbustcpd.yaml")).unwrap();
    config.insert_str(0, "flush_interval: 1m\n");
    home.write_config(&config);
    let mut agent = home.run();
    agent.until("polls", || device.served_count() > 10);
    device.set(DeviceMode::Silent);
    let polled = device.request_count();
    agent.until("a poll that is not answered", || device.request_count() > polled);
    agent.stop();
    assert_eq!(home.spooled().len(), 0, "the caches are empty");
    arrived(&device, &server).assert_complete();
    server.database().assert_sound();
}

#[test]
fn another_agents_cache_is_left_alone() {
    let (device, server) = (Device::counting(6), Server::start());
    let home = home_with(&server, &device);
    let other = "f".repeat(64);
    let body = python::body(&other, 1_700_000_000_000, &[("10.0.0.1", "input_register_30001", 7.0)]);
    let path = python::leave(&home.path().join("cache").join(&other), &other, 1_700_000_000_000, &body);
    home.write_agent_id(ID);
    let foreign = home.path().join("cache").join(ID).join(format!("1700000000000_{other}.json"));
    fs::create_dir_all(foreign.parent().unwrap()).unwrap();
    fs::write(&foreign, &body).unwrap();
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 6);
    agent.stop();
    assert_eq!(fs::read(&path).unwrap(), body);
    assert_eq!(fs::read(&foreign).unwrap(), body, "nor a file of another agent in our directory");
    assert!(server.database().rows().iter().all(|row| row.agent_id == ID));
}

#[test]
fn two_agents_with_ids_of_their_own_do_not_disturb_each_other() {
    let (one, two, server) = (Device::counting(7), Device::counting(8), Server::start());
    let (home_one, home_two) = (home_with(&server, &one), home_with(&server, &two));
    let (mut first, mut second) = (home_one.run(), home_two.run());
    first.until("readings of both", || {
        let database = server.database();
        let of = |device: &Device| database.rows().iter().filter(|row| row.target == device.target()).count();
        of(&one) > 6 && of(&two) > 6
    });
    assert_ne!(home_one.agent_id(), home_two.agent_id());
    one.set(DeviceMode::Silent);
    two.set(DeviceMode::Silent);
    second.until("everything to arrive", || judge(&[&one, &two], server.database().rows()).lost.is_empty());
    judge(&[&one, &two], server.database().rows()).assert_complete();
    server.database().assert_sound();
}

#[test]
fn a_second_instance_on_the_same_directories_exits_75_and_changes_nothing() {
    let (device, server) = (Device::counting(9), Server::start());
    let home = home_with(&server, &device);
    let mut agent = home.run();
    agent.until("the first readings to arrive", || server.row_count() > 0);
    server.stop();
    let log = home.path().join("log/pattoo.log");
    agent.until("a batch that waits on disk", || fs::read_to_string(&log).is_ok_and(|log| log.contains("(1028S)")));
    device.set(DeviceMode::Silent);
    agent.until("everything read to be on disk", || {
        let mut database = server.database();
        home.spooled().iter().for_each(|body| database.ingest(body));
        judge(&[&device], database.rows()).lost.is_empty()
    });
    let (mut before, connections) = (contents(home.path()), device.connections());
    before.retain(|path, _| !path.starts_with(home.path().join("log")));
    let second = home.output(&["run", "--config_dir", home.config_dir().to_str().unwrap()]);
    assert_eq!(second.code, Some(75), "{}", second.stderr);
    assert!(!second.stderr.trim().is_empty(), "it says why");
    assert!(agent.is_running());
    for (path, bytes) in before {
        assert!(fs::read(&path).is_ok_and(|now| now == bytes), "{} has changed", path.display());
    }
    assert!(device.connections() <= connections + 1, "no polls of its own");
    server.come_back();
    device.set(DeviceMode::Answer);
    everything_since_arrives(&mut agent, &device, &server, 0);
    arrived(&device, &server).assert_complete();
}

#[test]
fn what_a_killed_agent_held_is_free_at_once() {
    let (device, server) = (Device::counting(10), Server::start());
    let home = home_with(&server, &device);
    for _ in 0..2 {
        let started_at = now_ms();
        let mut agent = home.run();
        agent.until("readings to arrive", || {
            server.database().rows().last().is_some_and(|row: &Row| row.timestamp > started_at)
        });
        agent.sigkill();
    }
}

#[test]
fn the_agent_id_is_made_once_and_for_its_owner_only() {
    let (device, server) = (Device::counting(11), Server::start());
    let home = home_with(&server, &device);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let before = server.row_count();
        let mut agent = home.run();
        agent.until("readings to arrive", || server.row_count() > before);
        agent.stop();
        ids.push(home.agent_id());
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(fs::metadata(home.agent_id_file()).unwrap().permissions().mode() & 0o777, 0o600);
    for path in files_below(home.path()) {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert!(mode & 0o002 == 0 || path.starts_with(home.config_dir()), "{} is {mode:o}", path.display());
    }
    assert!(home.path().join("log/pattoo.log").is_file());
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

/// Every file with its bytes; one that is gone before it is read is not there.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files_below(directory).into_iter().filter_map(|path| Some((path.clone(), fs::read(path).ok()?))).collect()
}
