//! What a panic costs: a device itself, anything else the process, which then is started whole again.

use std::fs;

use super::support::agent::{Agent, Home};
use super::support::device::Device;
use super::support::server::Server;
use super::{home_with, logged};

/// An agent that has panicked at `place` when readings flowed, and what must outlive it.
fn panicked_at(place: &str, number: u32) -> (Agent, Server, Device, Home) {
    let (device, server) = (Device::counting(number), Server::start());
    let mut home = home_with(&server, &device);
    let point = home.path().join("fail_point");
    home.set_variable("PATTOO_FAIL_POINT", point.to_str().unwrap());
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    fs::write(&point, place).unwrap();
    if place == "supervisor" {
        agent.sigterm();
    }
    super::support::until("the fail point to be passed", || !point.exists());
    (agent, server, device, home)
}

#[test]
fn a_panic_of_a_device_costs_that_device_a_pause_and_nothing_else() {
    let (mut agent, server, _device, _home) = panicked_at("device", 30);
    let rows = server.row_count();
    agent.until("readings of the device started again", || server.row_count() > rows + 20);
    let log = agent.log();
    assert_eq!(log.matches("panic at src/failpoint.rs").count(), 1, "{log}");
    assert!(log.contains("a test asked for it\\nat device"), "on one line: {log}");
    assert!(log.contains("is started again in"), "{log}");
    agent.stop();
}

#[test]
fn a_panic_anywhere_else_ends_the_process_with_1_and_one_line() {
    for (place, number) in [("aggregator", 31), ("poster", 32), ("spool", 33), ("supervisor", 34)] {
        let (mut agent, _server, _device, _home) = panicked_at(place, number);
        agent.ends_with(1);
        let log = agent.log();
        assert_eq!(log.matches("panic at").count(), 1, "{place}: {log}");
        assert!(!log.contains("stopped;"), "{place}: it goes on to no orderly stop: {log}");
    }
}

/// B6: whoever waits for a disk that never answers does not end.
#[test]
fn a_disk_that_hangs_holds_no_end() {
    for (is_there, code, said) in
        [(true, 0, "stopped; everything is delivered or on disk"), (false, 1, "stopped; LOST ")]
    {
        let (mut agent, server, device, home) = panicked_at("hang spool", 35);
        agent.until("a word", || logged(&home).contains("has not answered for"));
        let rows = server.row_count();
        agent.until("readings past the disk", || server.row_count() > rows + 10);
        if !is_there {
            server.stop();
        }
        let polled = device.served_count();
        agent.until("polls that go on", || device.served_count() > polled + 20);
        agent.sigterm();
        agent.ends_with(code);
        assert!(agent.log().contains(said), "{}", agent.log());
    }
}
