//! Several agents that share one configuration: each device is polled by one of them, and to the server they are one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use support::agent::{Agent, Home};
use support::device::{Device, Mode};
use support::judge::judge;
use support::server::{Post, Server};

const SHARDS: usize = 4;

fn start(home: &Home, shard: usize) -> Agent {
    let directory = home.config_dir();
    home.start(&["run", "--shard", &format!("{shard}/{SHARDS}"), "--config_dir", directory.to_str().unwrap()])
}

fn home(server: &Server, devices: &[Device], interval: &str) -> Home {
    let home = Home::new(server.address());
    let targets: Vec<_> = devices.iter().map(|device| format!("'{}'", device.target())).collect();
    home.write_groups(interval, &format!("  - ip_devices: [{}]\n    input_registers: [30001]\n", targets.join(", ")));
    home
}

#[test]
fn four_shards_poll_two_hundred_devices_once_each_and_one_that_is_killed_loses_nothing() {
    let devices: Vec<_> = (0..200).map(Device::counting).collect();
    let server = Server::start();
    let home = home(&server, &devices, "1s");
    let mut agents: Vec<_> = (0..SHARDS).map(|shard| start(&home, shard)).collect();
    let polled = |least: usize| devices.iter().all(|device| device.served_count() >= least);
    agents[0].until("polls of all devices", || polled(3));
    assert!(devices.iter().all(|device| device.connections() == 1), "each by one shard");

    // One is killed while the server is away, so that it has a backlog of its own, and comes back.
    server.stop();
    let before = agents[2].id();
    agents[1].until("polls without a server", || polled(5));
    agents[2].sigkill();
    agents[2] = start(&home, 2);
    assert_ne!(agents[2].id(), before);
    agents[2].until("polls again", || polled(7));
    // Before they are silent: whoever gets no answer connects again.
    let of_the_killed: BTreeSet<_> =
        devices.iter().filter(|device| device.connections() == 2).map(Device::target).collect();
    server.come_back();
    for device in &devices {
        device.set(Mode::Silent);
    }
    let all: Vec<_> = devices.iter().collect();
    // What was not on disk yet when the kill came is the exception that is promised.
    agents[0].until("everything to arrive", || judge(&all, server.database().rows()).lost.len() <= devices.len() / 2);
    let directories = [home.spool()]
        .into_iter()
        .chain((1..SHARDS).map(|shard| home.path().join("cache").join(format!("shard_{shard}")).join(home.agent_id())));
    let directories: Vec<_> = directories.collect();
    let batches = || directories.iter().map(|spool| support::spool::waiting(spool, "pattoo").len()).sum::<usize>();
    agents[0].until("empty queues", || batches() == 0);
    for agent in &mut agents {
        agent.stop();
    }
    let verdict = judge(&all, server.database().rows());
    verdict.assert_true();
    assert!((20..90).contains(&of_the_killed.len()), "{} devices of one shard of four", of_the_killed.len());
    assert!(verdict.lost.iter().all(|lost| of_the_killed.iter().any(|target| format!("{lost:?}").contains(target))));

    // All are one agent to the server, and none of them has ever used a stamp of another one.
    let stamps: Vec<_> = server.posts().iter().map(Post::timestamp).collect();
    let mut classes: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); SHARDS];
    for stamp in &stamps {
        classes[usize::try_from(stamp % 4).unwrap()].insert(*stamp);
    }
    assert!(classes.iter().all(|class| !class.is_empty()));
    let rows = server.database();
    let ids: BTreeSet<_> = rows.rows().iter().map(|row| (row.agent_id.clone(), row.hostname.clone())).collect();
    assert_eq!(ids.len(), 1);
}

#[test]
fn two_agents_of_one_shard_refuse_each_other_and_each_shard_answers_for_itself() {
    let (devices, server) = (vec![Device::counting(1), Device::counting(2)], Server::start());
    let home = home(&server, &devices, "200ms");
    let mut agents: Vec<_> = [0, 3].map(|shard| start(&home, shard)).into();
    let directory = home.config_dir();
    let asked = |shard: &str, flags: &[&str]| {
        home.output(&[flags, &["--shard", shard, "--config_dir", directory.to_str().unwrap()]].concat())
    };
    for (agent, shard) in agents.iter_mut().zip(["0/4", "3/4"]) {
        agent.until("its word", || asked(shard, &["--status"]).code == Some(0));
        let second = asked(shard, &["run"]);
        assert_eq!(second.code, Some(75), "{}", second.stderr);
    }
    assert_eq!(asked("1/4", &["--status"]).code, Some(3));
    let points: usize = (0..4)
        .map(|shard| {
            let said = asked(&format!("{shard}/4"), &["check"]).stdout;
            said.lines().last().unwrap().split(' ').next().unwrap().parse::<usize>().unwrap()
        })
        .sum();
    assert_eq!(points, 2, "check counts the devices of its shard");
    assert_eq!(asked("3/4", &["--stop"]).code, Some(0));
    assert_eq!(agents[1].wait(support::PATIENCE), Some(0));
    assert!(agents[0].is_running());
}

#[test]
fn what_is_no_shard_and_shards_without_a_common_name_are_refused() {
    let server = Server::start();
    let home = Home::new(server.address());
    let directory = home.config_dir();
    let run = |shard: &str| home.output(&["run", "--shard", shard, "--config_dir", directory.to_str().unwrap()]);
    let refused = run("4/4");
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("the last of 4 is 3/4"), "{}", refused.stderr);
    home.write_config("polling_groups:\n  - ip_devices: [a]\n    input_registers: [30001]\n");
    let refused = run("0/4");
    assert_eq!(refused.code, Some(78));
    assert!(refused.stderr.contains("agent_hostname is missing"), "{}", refused.stderr);
}

#[test]
fn an_agent_id_may_be_given_from_outside_unless_there_is_another_one() {
    let (devices, server) = (vec![Device::counting(1)], Server::start());
    let mut home = home(&server, &devices, "100ms");
    let id = "5c".repeat(32);
    home.set_variable("PATTOO_AGENT_ID", &id);
    let mut agent = home.run();
    agent.until("readings", || server.row_count() > 1);
    agent.stop();
    assert!(server.database().rows().iter().all(|row| row.agent_id == id));
    assert!(!home.agent_id_file().exists(), "nothing is made that could differ later");
    home.write_agent_id(&"6d".repeat(32));
    let refused = home.output(&["run", "--config_dir", home.config_dir().to_str().unwrap()]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("PATTOO_AGENT_ID is not the agent id in"), "{}", refused.stderr);
}

#[test]
fn what_a_shard_that_is_no_more_has_left_is_told_at_the_start_of_the_first_one() {
    let devices: Vec<_> = (0..8).map(Device::counting).collect();
    let server = Server::start();
    server.stop();
    let home = home(&server, &devices, "200ms");
    let directory = home.config_dir();
    let config_dir = directory.to_str().unwrap();
    let log_has = |agent: &Agent, words: &str| support::until(words, || agent.log().contains(words));
    let left = (1..SHARDS).find(|shard| {
        let mut agent = start(&home, *shard);
        log_has(&agent, "started ");
        let polls = !agent.log().contains(" 0 devices,");
        if polls {
            support::until("readings on disk", || {
                let spool = home.path().join(format!("cache/shard_{shard}")).join(home.agent_id());
                !support::spool::waiting(&spool, "pattoo").is_empty()
            });
        }
        agent.stop();
        polls
    });
    let mut agent = home.start(&["run", "--config_dir", config_dir]);
    let directory = home.path().join(format!("cache/shard_{}", left.expect("a shard that polls")));
    log_has(&agent, &format!("wait in {}, of a shard that is none of the present 1", directory.display()));
    agent.stop();
}

/// Where each has a machine of its own, as in Kubernetes, a probe needs the same port for all.
#[test]
fn a_status_address_in_the_environment_is_moved_by_no_shard() {
    let (devices, server) = (vec![Device::counting(1)], Server::start());
    let mut home = home(&server, &devices, "200ms");
    home.set_variable("PATTOO_STATUS_LISTEN", "nowhere");
    let mut refused = start(&home, 3);
    refused.ends_with(78);
    assert!(refused.log().contains("PATTOO_STATUS_LISTEN is \"nowhere\""), "{}", refused.log());
    // The shard would be at port 3, and never say so.
    home.set_variable("PATTOO_STATUS_LISTEN", "127.0.0.1:0");
    let mut agent = start(&home, 3);
    let file = home.path().join("log/pattoo.log");
    let log = || std::fs::read_to_string(&file).unwrap_or_default();
    agent.until("the page", || log().contains("the status page is on http://127.0.0.1:"));
    assert!(!log().contains("http://127.0.0.1:3/"));
    agent.stop();
}
