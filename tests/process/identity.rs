//! One agent for each id and set of directories, and the same one at each start.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::support::agent::{Finished, Home};
use super::support::device::Device;
use super::support::server::Server;
use super::support::{PATIENCE, skipped};
use super::{home_with, logged};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn world(number: u32) -> (Home, Server, Device) {
    let (device, server) = (Device::counting(number), Server::start());
    (home_with(&server, &device), server, device)
}

fn run_to_its_end(home: &Home) -> Finished {
    home.output(&["run", "--config_dir", home.config_dir().to_str().unwrap()])
}

/// Runs it until readings arrive, and stops it.
fn run_for_a_moment(home: &Home, server: &Server) {
    let rows = server.row_count();
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > rows);
    agent.stop();
}

fn copy(path: &Path) -> PathBuf {
    path.with_extension(format!("{}.copy", path.extension().unwrap().to_str().unwrap()))
}

#[test]
fn twenty_started_at_once_leave_exactly_one() {
    let (home, server, _device) = world(40);
    let mut agents: Vec<_> = (0..20).map(|_| home.run()).collect();
    let mut codes = Vec::new();
    super::support::until("nineteen to end", || {
        agents.retain_mut(|agent| {
            let running = agent.is_running();
            if !running {
                codes.push(agent.wait(PATIENCE));
            }
            running
        });
        codes.len() == 19
    });
    assert_eq!(codes, [Some(75); 19]);
    agents[0].until("readings to arrive", || server.row_count() > 0);
    agents[0].stop();
}

#[test]
fn a_second_one_is_refused() {
    let (home, server, _device) = world(41);
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    assert_eq!(run_to_its_end(&home).code, Some(75));
    assert!(home.pid().is_some(), "the pid file is the first one's");
    agent.stop();
}

#[test]
fn an_id_that_is_none_is_refused_and_left_as_it_is() {
    let contents =
        [String::new(), "\n".to_owned(), "garbage".to_owned(), format!("{ID}\n{ID}\n"), "0".repeat(10 << 20)];
    for (text, number) in contents.iter().zip(42..) {
        let (home, ..) = world(number);
        home.write_agent_id(text);
        let end = run_to_its_end(&home);
        assert_eq!(end.code, Some(1), "{}", end.stderr);
        assert!(end.stderr.contains(".agent_id"), "names the file: {}", end.stderr);
        assert_eq!(&fs::read_to_string(home.agent_id_file()).unwrap(), text);
        assert!(!home.path().join("cache").exists(), "nothing was begun");
    }
}

#[test]
fn what_is_planted_as_the_id_or_the_host_name_is_neither_followed_nor_waited_for() {
    for (name, number) in [("agent_id", 47), ("hostname", 48)] {
        for kind in ["link", "fifo", "directory"] {
            let (home, ..) = world(number);
            home.write_agent_id(ID);
            let path = home.agent_id_file().with_extension(name);
            fs::remove_file(&path).ok();
            let victim = home.path().join("victim");
            fs::write(&victim, ID).unwrap();
            match kind {
                "link" => symlink(&victim, &path).unwrap(),
                "fifo" => mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
                _ => fs::create_dir(&path).unwrap(),
            }
            let end = run_to_its_end(&home);
            assert_eq!(end.code, Some(1), "{kind}: {}", end.stderr);
            assert!(end.stderr.contains("is no regular file"), "{}", end.stderr);
            assert_eq!(fs::read_to_string(&victim).unwrap(), ID);
        }
    }
}

#[test]
fn the_id_is_kept_twice_restored_when_lost_and_refused_when_unequal() {
    let (home, server, _device) = world(49);
    run_for_a_moment(&home, &server);
    let (file, id) = (home.agent_id_file(), home.agent_id());
    assert_eq!(fs::read_to_string(copy(&file)).unwrap(), id);

    fs::remove_file(&file).unwrap();
    run_for_a_moment(&home, &server);
    assert_eq!(home.agent_id(), id);
    assert!(logged(&home).contains("restored from its copy"), "{}", logged(&home));

    for text in ["", ID] {
        fs::write(copy(&file), text).unwrap();
        let end = run_to_its_end(&home);
        assert_eq!(end.code, Some(1), "{}", end.stderr);
        assert!(end.stderr.contains("copy the right one over the wrong one"), "{}", end.stderr);
        assert_eq!((home.agent_id(), fs::read_to_string(copy(&file)).unwrap().as_str()), (id.clone(), text));
    }
}

#[test]
fn without_its_volume_it_makes_no_new_id_when_told_so() {
    let (mut home, server, _device) = world(50);
    home.set_variable("PATTOO_REQUIRE_STATE", "1");
    let end = run_to_its_end(&home);
    assert_eq!(end.code, Some(1));
    assert!(end.stderr.contains("PATTOO_REQUIRE_STATE"), "{}", end.stderr);
    assert!(!home.agent_id_file().exists());
    home.write_agent_id(ID);
    run_for_a_moment(&home, &server);
}

#[test]
fn another_machine_is_warned_of() {
    if !fs::read_to_string("/etc/machine-id").is_ok_and(|id| !id.trim().is_empty()) {
        return skipped("this machine has no machine id");
    }
    let (home, server, _device) = world(51);
    run_for_a_moment(&home, &server);
    assert!(!logged(&home).contains("not the machine"));
    fs::write(home.agent_id_file().with_extension("machine"), ID).unwrap();
    run_for_a_moment(&home, &server);
    assert!(logged(&home).contains("this is not the machine"), "{}", logged(&home));
}
