//! A wall clock that is wrong, or is set while the agent runs: libfaketime stands between it and the agent.
//!
//! Only the wall clock is faked; the time since boot and the timers go on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::support::agent::{Agent, Home};
use super::support::device::{Device, Mode};
use super::support::judge::judge;
use super::support::server::http::http_date;
use super::support::server::{Mode as ServerMode, Server};
use super::support::{self, needs, now_ms};
use super::{home_with, limit_files, logged};

/// The library, where a distribution puts it.
fn library() -> Option<PathBuf> {
    if needs(&["libfaketime"]) { support::library("faketime/libfaketimeMT.so.1") } else { None }
}

/// An agent whose wall clock is what [`Clock::set`] says.
struct Clock(PathBuf);

impl Clock {
    fn of(home: &mut Home, library: &Path) -> Self {
        let file = home.path().join("clock");
        for (name, value) in [
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
            ("FAKETIME_DISABLE_SHM", "1"),
        ] {
            home.set_variable(name, value);
        }
        Self(file)
    }

    /// Sets it, as `faketime -f` understands it.
    fn set(&self, time: &str) {
        let new = self.0.with_extension("new");
        fs::write(&new, time).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}

fn everything_arrives(agent: &mut Agent, device: &Device, server: &Server) {
    device.set(Mode::Silent);
    // The verdict that was waited for: an answer that was on its way meanwhile is only due once it has left.
    let mut verdict = None;
    agent.until("every reading served to arrive", || {
        verdict.insert(judge(&[device], server.database().rows())).lost.is_empty()
    });
    verdict.unwrap().assert_complete();
    server.database().assert_sound();
}

#[test]
fn readings_from_before_the_clock_was_set_arrive_with_their_true_dates() {
    let Some(library) = library() else { return };
    let (device, server) = (Device::counting(80), Server::start());
    let mut home = home_with(&server, &device);
    let clock = Clock::of(&mut home, &library);
    clock.set("@1970-01-01 00:01:00");
    let mut agent = home.run();
    let told = "has not been set; readings are taken on and kept on disk without dates";
    agent.until("a word about the clock", || logged(&home).contains(told));
    agent.until("polls", || device.served_count() > 10);
    assert_eq!(server.row_count(), 0);
    clock.set("+0");
    agent.until("another word", || logged(&home).contains("the clock is right again after"));
    everything_arrives(&mut agent, &device, &server);
    let error = judge(&[&device], server.database().rows()).worst_stamp_error;
    assert!(error < 60_000, "each has the date at which it was read: {error} ms");
    agent.stop();
}

/// B9: they are dated when the clock becomes right, not with the next reading.
#[test]
fn undated_readings_survive_a_kill_and_get_their_dates_while_devices_are_silent() {
    let Some(library) = library() else { return };
    let (device, server) = (Device::counting(83), Server::start());
    let mut home = home_with(&server, &device);
    let clock = Clock::of(&mut home, &library);
    clock.set("@1970-01-01 00:01:00");
    let mut agent = home.run();
    agent.until("polls", || device.served_count() > 10);
    let killed_at = now_ms();
    agent.sigkill();
    let killed = killed_at - 1_000..now_ms();
    let (mut agent, polled) = (home.run(), device.served_count());
    agent.until("polls", || device.served_count() > polled + 10);
    device.set(Mode::Silent);
    let asked = device.request_count();
    agent.until("a poll that is not answered", || device.request_count() > asked);
    assert_eq!(server.row_count(), 0);
    clock.set("+0");
    let lost = || judge(&[&device], server.database().rows()).lost;
    agent.until("what was read to arrive", || lost().iter().all(|(at, _)| killed.contains(at)));
    agent.stop();
    let verdict = judge(&[&device], server.database().rows());
    verdict.assert_true();
    assert!(verdict.worst_stamp_error < 60_000, "{} ms", verdict.worst_stamp_error);
    server.database().assert_sound();
}

/// B7: the disk refuses just when the clock becomes right.
#[test]
fn what_waited_for_the_clock_is_overtaken_by_nothing_from_memory() {
    let Some(library) = library() else { return };
    let (device, server) = (Device::counting(84), Server::start());
    let mut home = home_with(&server, &device);
    let clock = Clock::of(&mut home, &library);
    clock.set("@1970-01-01 00:01:00");
    let mut agent = home.run();
    agent.until("polls", || device.served_count() > 10);
    limit_files(&home, Some(0));
    clock.set("+0");
    let polled = device.served_count();
    agent.until("polls without a disk", || device.served_count() > polled + 20);
    limit_files(&home, None);
    everything_arrives(&mut agent, &device, &server);
    assert_eq!(server.database().late().len(), 0, "the server dropped nothing as late");
    agent.stop();
}

/// B8: what waits for the clock is under the limits of the cache.
#[test]
fn undated_readings_keep_to_the_limits_of_the_cache() {
    let Some(library) = library() else { return };
    let (device, server) = (Device::counting(85), Server::start());
    let mut home = home_with(&server, &device);
    home.write_config(&format!(
        "cache_max_bytes: 1MB\npolling_interval: 100ms\nflush_interval: 100ms\nagent_hostname: plant-7\n\
         polling_groups:\n  - {{ip_devices: ['{}'], input_registers: [30001-31000]}}\n",
        device.target()
    ));
    let clock = Clock::of(&mut home, &library);
    clock.set("@1970-01-01 00:01:00");
    let mut agent = home.run();
    agent.until("a loss that is told", || logged(&home).contains("LOST "));
    let polled = device.served_count();
    agent.until("more polls", || device.served_count() > polled + 30);
    let files = fs::read_dir(home.spool().join("log")).unwrap();
    // It may be gone meanwhile.
    let bytes: u64 = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum();
    assert!((500_000..1_200_000).contains(&bytes), "{bytes}");
    agent.sigterm();
    agent.ends_with(1);
    assert!(agent.log().contains("stopped; LOST "), "{}", agent.log());
}

#[test]
fn each_change_of_the_clock_is_one_line_that_says_what_becomes_of_readings() {
    let Some(library) = library() else {
        return;
    };
    let (device, server) = (Device::counting(81), Server::start());
    let mut home = home_with(&server, &device);
    let clock = Clock::of(&mut home, &library);
    clock.set("+0");
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    let steps = [
        ("-30m", "ahead of it until it has caught up", "no reading is lost by it"),
        ("-120m", "the clock was set back to before", "the server drops readings until"),
        ("+150m", "ahead of the server's; readings are taken on", "kept on disk without dates"),
        ("+0", "the clock is right again after", "is dated and delivered"),
    ];
    for (time, what, then) in steps {
        clock.set(time);
        agent.until(what, || logged(&home).contains(what));
        let polled = device.served_count();
        agent.until("polls that go on", || device.served_count() > polled + 5);
        let log = logged(&home);
        let lines: Vec<_> = log.lines().filter(|line| line.contains(what)).collect();
        assert!(lines.len() == 1 && lines[0].contains(then), "{lines:#?}");
    }
    agent.stop();
}

#[test]
fn polls_that_were_slept_through_are_not_made_up_for() {
    let (device, server) = (Device::counting(82), Server::start());
    let home = home_with(&server, &device);
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    agent.freeze();
    // Twenty intervals.
    std::thread::sleep(Duration::from_secs(2));
    let (before, woken) = (device.request_count(), Instant::now());
    agent.thaw();
    agent.until("polls", || device.request_count() > before + 15);
    let polls: Vec<_> = device.requests()[before..].iter().map(|request| request.at - woken).collect();
    for (earlier, poll) in polls.iter().enumerate() {
        let due = u128::try_from(earlier).unwrap();
        assert!(due <= poll.as_millis() / 100 + 3, "a burst: {polls:?}");
    }
    everything_arrives(&mut agent, &device, &server);
    assert!(!logged(&home).contains("clock"), "nor is it a step of the clock: {}", logged(&home));
    agent.stop();
}

/// B1: one answer of the server with an odd date, right ones before and after it.
#[test]
fn one_odd_date_of_the_server_holds_readings_for_half_a_minute_at_most() {
    let (device, server) = (Device::counting(45), Server::start());
    let home = home_with(&server, &device);
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    let two_hours_ago = http_date(now_ms() / 1_000 - 7_200);
    let odd = format!("HTTP/1.1 200 OK\r\nDate: {two_hours_ago}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK");
    server.set(ServerMode::StoreAndSay(odd.into_bytes().leak()));
    agent.until("a word about the clock", || logged(&home).contains("ahead of the server's"));
    server.set(ServerMode::Ok);
    let before = server.row_count();
    agent.until("readings to arrive again", || server.row_count() > before && logged(&home).contains("right again"));
    device.set(Mode::Silent);
    agent.until("everything served to arrive", || judge(&[&device], server.database().rows()).lost.is_empty());
    agent.stop();
    judge(&[&device], server.database().rows()).assert_complete();
}
