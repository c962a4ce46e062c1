//! SIGHUP: another configuration while the agent works, and what must not notice it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::agent::{Agent, HOSTNAME, Home};
use support::device::{Device, Mode};
use support::judge::judge;
use support::server::{Mode as ServerMode, Server};
use support::{PATIENCE, listen_somewhere, now_ms, until};

const TAKEN_OVER: &str = "the new configuration is taken over";
const REFUSED: &str = "the agent goes on with the configuration that it has";
const UNCHANGED: &str = "nothing in the configuration has changed";

/// A group of these devices with these registers.
fn group(devices: &[&Device], registers: &str) -> String {
    let targets: Vec<_> = devices.iter().map(|device| format!("'{}'", device.target())).collect();
    format!("  - {{ip_devices: [{}], input_registers: [{registers}]}}\n", targets.join(", "))
}

fn configure(home: &Home, settings: &str, groups: &[String]) {
    home.write_config(&format!(
        "{settings}polling_interval: 100ms\nflush_interval: 20ms\nagent_hostname: {HOSTNAME}\npolling_groups:\n{}",
        groups.concat()
    ));
}

fn hangup(agent: &Agent) {
    let pid = Pid::from_raw(i32::try_from(agent.id()).unwrap()).unwrap();
    // One that has ended keeps its number until it is waited for.
    kill_process(pid, Signal::HUP).unwrap();
}

/// Has the agent read its configuration again, until it says so.
fn reload(agent: &mut Agent, word: &str) {
    let said = |log: &str| log.matches(word).count();
    let before = said(&agent.log());
    hangup(agent);
    let deadline = Instant::now() + PATIENCE;
    while said(&agent.log()) == before {
        assert!(agent.is_running() && Instant::now() < deadline, "no {word:?} in:\n{}", agent.log());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Lets everything served arrive, ends the agent, and fails if a reading is lost, doubled or mixed up.
fn nothing_is_lost(agent: &mut Agent, devices: &[&Device], server: &Server) {
    for device in devices {
        device.set(Mode::Silent);
    }
    agent.until("everything served to arrive", || judge(devices, server.database().rows()).lost.is_empty());
    agent.stop();
    judge(devices, server.database().rows()).assert_complete();
    server.database().assert_sound();
    for device in devices {
        assert_eq!(device.violations(), [""; 0]);
    }
}

#[test]
fn devices_that_an_edit_does_not_concern_keep_their_connection_and_all_readings_go_where_they_belong() {
    let server = Server::start();
    let [first, kept, removed, changed, added] = [1, 2, 3, 4, 5].map(Device::counting);
    let home = Home::new(server.address());
    let two = "30001, 30002";
    configure(&home, "", &[group(&[&first, &kept, &removed], two), group(&[&changed], two)]);
    let mut agent = home.run();
    let four = [&first, &kept, &removed, &changed];
    agent.until("readings", || four.iter().all(|device| device.served_count() > 5));

    // Every point but those of the first device gets another number.
    configure(&home, "", &[group(&[&first, &added, &kept], two), group(&[&changed], "30001, 30002, 30003")]);
    reload(&mut agent, TAKEN_OVER);
    let before = removed.request_count();
    let four = [&first, &kept, &added, &changed];
    let counts = four.map(Device::served_count);
    agent.until("readings after the reload", || {
        four.iter().zip(counts).all(|(device, before)| device.served_count() > before + 5)
    });
    assert!(removed.request_count() <= before, "polls of a device that is not configured any more");
    assert_eq!([&first, &kept, &added].map(Device::connections), [1, 1, 1]);
    assert_eq!(changed.connections(), 2, "replaced");
    let log = agent.log();
    let line = log.lines().find(|line| line.contains(TAKEN_OVER)).unwrap();
    for words in ["1 device added", "1 device removed", "1 device replaced", "2 devices kept as they are"] {
        assert!(line.contains(words), "{words}: {line}");
    }
    assert!(log.contains("2 series at the server are orphaned"), "{log}");
    let rows = server.database().rows().to_vec();
    let keys = |device: &Device| -> BTreeSet<String> {
        rows.iter().filter(|row| row.target == device.target()).map(|row| row.key.clone()).collect()
    };
    assert_eq!(keys(&added).len(), 2);
    assert_eq!(keys(&changed).len(), 3);
    // Whatever was in flight with the old numbers was posted under its own name.
    nothing_is_lost(&mut agent, &[&first, &kept, &added, &changed], &server);
    judge(&[&removed], server.database().rows()).assert_true();
}

#[test]
fn a_poll_that_a_reload_comes_into_is_neither_lost_nor_doubled_nor_mixed_up_with_another_device() {
    let (device, other, server) = (Device::counting(1), Device::counting(2), Server::start());
    let home = Home::new(server.address());
    let with = |devices: &[&Device]| configure(&home, "", &[group(devices, "30001")]);
    with(&[&device]);
    // Nearly always there is a poll under way, with the number that the point had when it began.
    device.set(Mode::Slow(Duration::from_millis(90)));
    let mut agent = home.run();
    agent.until("readings", || device.served_count() > 3);
    for round in 0..8 {
        if round % 2 == 0 {
            with(&[&other, &device]);
        } else {
            with(&[&device]);
        }
        reload(&mut agent, TAKEN_OVER);
    }
    with(&[&other, &device]);
    reload(&mut agent, TAKEN_OVER);
    let before = other.served_count();
    agent.until("readings of the other one", || other.served_count() > before + 3);
    assert_eq!(device.connections(), 1);
    device.set(Mode::Silent);
    agent.until("everything served to arrive", || judge(&[&device], server.database().rows()).lost.is_empty());
    agent.stop();
    judge(&[&device, &other], server.database().rows()).assert_true();
    server.database().assert_sound();
    let times: Vec<u64> =
        server.database().rows().iter().filter(|row| row.target == device.target()).map(|row| row.timestamp).collect();
    // Its answers take nine tenths of the interval: two that are nearer are a poll that a reload has added.
    let nearest = times.windows(2).map(|pair| pair[1] - pair[0]).skip(1).min();
    assert!(nearest >= Some(50), "{times:?}");
}

#[test]
fn a_configuration_with_faults_is_refused_with_all_of_them_and_the_old_one_goes_on() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = Home::new(server.address());
    configure(&home, "", &[group(&[&device], "30001")]);
    let mut agent = home.run();
    agent.until("readings", || server.row_count() > 3);
    let file = home.config_dir().join("pattoo_agent_modbustcpd.yaml");
    let good = fs::read_to_string(&file).unwrap();

    // What is warned of may be what is behind a fault.
    let doubtful = good.replace("100ms", "never").replace("polling_groups:", "polling_groups:\n  - {ip_devices: a}");
    home.write_config(&doubtful);
    reload(&mut agent, REFUSED);
    until("the warning, too", || agent.log().contains("it is taken as one device"));

    let two_faults = good.replace("100ms", "never").replace("polling_groups", "poling_groups");
    home.write_config(&two_faults);
    reload(&mut agent, REFUSED);
    let path = file.display();
    for place in [format!("{path}:1:19: polling_interval:"), format!("{path}:4:1:")] {
        until("every fault in the log", || agent.log().contains(&place));
    }
    // Missing, empty, cut at any line by an editor: refused, or what is there is meant.
    fs::remove_file(&file).unwrap();
    reload(&mut agent, REFUSED);
    home.write_config("");
    reload(&mut agent, REFUSED);
    home.write_config(&good[..good.find("polling_groups").unwrap()]);
    reload(&mut agent, REFUSED);
    let before = device.served_count();
    agent.until("readings that go on", || device.served_count() > before + 5);
    assert_eq!(device.connections(), 1);

    home.write_config(&good);
    reload(&mut agent, UNCHANGED);
    nothing_is_lost(&mut agent, &[&device], &server);
}

#[test]
fn a_file_that_is_being_written_is_waited_for() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = Home::new(server.address());
    let with = |days: u32| configure(&home, &format!("cache_max_age: {days}days\n"), &[group(&[&device], "30001")]);
    with(1);
    let mut agent = home.run();
    agent.until("readings", || device.served_count() > 3);
    loop {
        let told = agent.log().len();
        // An editor writes in place and slowly, and each state in between is a configuration without a fault.
        hangup(&agent);
        let mut longest = Duration::ZERO;
        for state in (2..20).chain([1]) {
            let started = Instant::now();
            with(state);
            thread::sleep(Duration::from_millis(40));
            longest = longest.max(started.elapsed());
        }
        // A writer that stops between emptying the file and filling it leaves one that is refused.
        let refused = "of the new one nothing is taken over";
        until("a word", || [UNCHANGED, TAKEN_OVER, refused].iter().any(|word| agent.log()[told..].contains(word)));
        // A writer that made a long pause on a busy machine could not be told from one that has ended.
        if longest < Duration::from_millis(150) {
            let log = &agent.log()[told..];
            assert!(!log.contains(TAKEN_OVER), "a file that was half there was taken over:\n{log}");
            break;
        }
        hangup(&agent);
        until("the whole file", || agent.log().rfind("is read again") < agent.log().rfind(UNCHANGED));
    }
    agent.stop();
}

#[test]
fn the_backlog_of_a_server_that_is_gone_goes_in_order_to_the_one_that_is_configured_now() {
    let (device, old, new) = (Device::counting(1), Server::start(), Server::start());
    let home = Home::new(old.address());
    configure(&home, "", &[group(&[&device], "30001, 30002")]);
    let shared = home.config_dir().join("pattoo.yaml");
    let text = fs::read_to_string(&shared).unwrap();
    let [from, to] = [&old, &new].map(support::server::Server::address);
    let edited = text
        .replace(&format!("ip_address: {}", from.ip()), &format!("ip_address: {}", to.ip()))
        .replace(&format!("ip_bind_port: {}", from.port()), &format!("ip_bind_port: {}", to.port()));
    assert_ne!(text, edited);

    for hangs in [false, true] {
        fs::write(&shared, &text).unwrap();
        if hangs {
            old.set(ServerMode::Status(500));
        } else {
            old.stop();
        }
        let mut agent = home.run();
        let before = device.served_count();
        agent.until("a backlog", || device.served_count() > before + 20 && agent_is_pausing(&home));
        let since = now_ms();
        fs::write(&shared, &edited).unwrap();
        reload(&mut agent, TAKEN_OVER);
        // Whatever pause the old server had earned is over.
        until("posts to the new server", || new.database().rows().iter().any(|row| row.timestamp > since));
        nothing_is_lost(&mut agent, &[&device], &new);
        device.set(Mode::Answer);
        if !hangs {
            old.come_back();
        }
    }
    assert_eq!(old.row_count(), 0);
}

/// Its answer would be of no use: it does not go on at the old server beside the next one.
#[test]
fn a_post_under_way_to_a_server_that_is_configured_no_more_is_given_up() {
    let (device, hangs) = (Device::counting(1), listen_somewhere());
    let home = Home::new(hangs.local_addr().unwrap());
    let with = |address: SocketAddr| {
        let output = format!("{{type: influxdb, url: 'http://{address}', database: plant, timeout: 10m}}");
        configure(&home, &format!("outputs: [{output}]\n"), &[group(&[&device], "30001")]);
    };
    with(hangs.local_addr().unwrap());
    let mut agent = home.run();
    hangs.set_nonblocking(true).unwrap();
    let mut under_way = None;
    agent.until("a post", || {
        under_way = under_way.take().or_else(|| hangs.accept().ok());
        under_way.is_some()
    });
    let (mut stream, _) = under_way.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(stream.read(&mut [0]).unwrap() > 0);
    with(([127, 0, 0, 1], 1).into());
    reload(&mut agent, TAKEN_OVER);
    let ended = stream.read_to_end(&mut Vec::new());
    assert!(ended.is_ok() || ended.as_ref().unwrap_err().kind() == ErrorKind::ConnectionReset, "{ended:?}");
    agent.stop();
}

fn agent_is_pausing(home: &Home) -> bool {
    home.says("next attempt in")
}

#[test]
fn settings_change_at_once_where_they_can_and_the_others_are_named() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = Home::new(server.address());
    configure(&home, "", &[group(&[&device], "30001")]);
    let shared = home.config_dir().join("pattoo.yaml");
    let edit = |from: &str, to: &str| {
        let text = fs::read_to_string(&shared).unwrap();
        assert!(text.contains(from));
        fs::write(&shared, text.replace(from, to)).unwrap();
    };
    edit("log_level: debug", "log_level: info");
    let mut agent = home.run();
    agent.until("readings", || server.row_count() > 3);
    assert!(!agent.log().contains("DEBUG"), "{}", agent.log());

    edit("log_level: info", "log_level: debug");
    edit("/cache\n", "/cache2\n");
    configure(&home, "cache_max_bytes: 1MB\ntrust_local_clock: true\n", &[group(&[&device], "30001")]);
    let file = home.config_dir().join("pattoo_agent_modbustcpd.yaml");
    let named = fs::read_to_string(&file).unwrap().replace(HOSTNAME, "another.example.net");
    fs::write(&file, &named).unwrap();
    reload(&mut agent, TAKEN_OVER);
    until("posts in the log", || agent.log().contains("DEBUG"));
    let log = agent.log();
    assert!(
        log.contains("1 device kept as they are, new values of log_level, cache_max_bytes, trust_local_clock"),
        "{log}"
    );
    until("what needs a restart", || {
        agent.log().contains("only a restart changes cache_directory, agent_hostname")
            && agent.log().contains("start anew")
    });
    // Told again as long as it is so.
    reload(&mut agent, "only a restart changes");
    assert_eq!(device.connections(), 1);
    nothing_is_lost(&mut agent, &[&device], &server);
    assert!(server.database().rows().iter().all(|row| row.hostname == HOSTNAME));
    assert!(!home.path().join("cache2").exists());
}

/// What was read before keeps the name under which it was read; neither the device nor a chart notices.
#[test]
fn another_name_is_for_what_is_read_from_then_on_and_no_chart_ends() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = Home::new(server.address());
    let file = home.path().join("readings.jsonl");
    let outputs = format!("outputs: [pattoo, {{type: file, path: {}}}]\n", file.display());
    let name = |name: &str, of_device: &str| {
        let devices = format!("devices: {{'{}': {{name: {of_device}}}}}\n", device.target());
        configure(
            &home,
            &(outputs.clone() + &devices),
            &[group(&[&device], &format!("{{address: 30001, name: {name}}}"))],
        );
    };
    let names = || -> Vec<String> {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| line["name"].as_str().unwrap().to_owned()).collect()
    };
    name("flow", "boiler");
    let mut agent = home.run();
    agent.until("readings of the first name", || names().len() > 5);
    name("return", "heater");
    reload(&mut agent, TAKEN_OVER);
    agent.until("readings of the second name", || names().iter().any(|name| name == "return"));
    let log = agent.log();
    let line = log.lines().find(|line| line.contains(TAKEN_OVER)).unwrap();
    for words in
        ["1 device kept as they are", "1 point renamed (flow (input_register_30001) of", "is return)", "is heater)"]
    {
        assert!(line.contains(words), "{words}: {line}");
    }
    assert!(!log.contains("orphaned") && !log.contains("forked"), "{log}");
    nothing_is_lost(&mut agent, &[&device], &server);
    assert_eq!(device.connections(), 1);
    let mut names = names();
    assert_eq!(names.len(), device.served_count());
    names.dedup();
    assert_eq!(names, ["flow", "return"]);
    let series: BTreeSet<_> =
        server.database().rows().iter().map(|row| (row.key.clone(), row.checksum.clone())).collect();
    assert_eq!(series.len(), 1, "{series:?}");
}

#[test]
fn the_log_is_written_as_objects_from_the_reload_on_that_says_so() {
    let (device, server) = (Device::counting(9), Server::start());
    let home = Home::new(server.address());
    configure(&home, "", &[group(&[&device], "30001")]);
    let mut agent = home.run();
    agent.until("readings", || device.served_count() > 3);
    configure(&home, "log_format: json\n", &[group(&[&device], "30001")]);
    reload(&mut agent, TAKEN_OVER);
    device.set(Mode::Exception(1));
    let objects = |log: &str| -> Vec<serde_json::Value> {
        let from = log.find("{\"time\"").unwrap_or(log.len());
        log[from..].lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    };
    let about = |log: &str| objects(log).into_iter().find(|line| line["device"] == device.target());
    let deadline = Instant::now() + PATIENCE;
    let line = loop {
        // The last line may not be whole yet.
        if let Some(line) = agent.log().rsplit_once('\n').and_then(|(whole, _)| about(whole)) {
            break line;
        }
        assert!(Instant::now() < deadline, "{}", agent.log());
        thread::sleep(Duration::from_millis(5));
    };
    assert_eq!((&line["level"], &line["code"]), (&"WARNING".into(), &65_027.into()));
    assert_eq!(line["group"], "group 1", "{line}");
    assert!(line["message"].as_str().unwrap().contains("illegal function"), "{line}");
    agent.stop();
}

#[test]
fn any_number_of_signals_at_any_time_is_harmless() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = Home::new(server.address());
    let with = |interval: u32| {
        home.write_config(&format!(
            "polling_interval: {interval}ms\nflush_interval: 20ms\nagent_hostname: {HOSTNAME}\npolling_groups:\n{}",
            group(&[&device], "30001")
        ));
    };
    with(100);
    let mut agent = home.run();
    // From the first moment that it has a handler: before that any process dies of it.
    agent.until("handlers", || home.pid().is_some());
    for round in 0..300 {
        hangup(&agent);
        if round % 20 == 0 {
            with(100 + round);
            thread::sleep(Duration::from_millis(30));
        }
    }
    with(150);
    reload(&mut agent, "is read again");
    until("the last configuration", || {
        let log = agent.log();
        log.rfind("is read again") < log.rfind(UNCHANGED).max(log.rfind(TAKEN_OVER))
    });
    assert!(agent.log().matches("is read again").count() < 100, "many signals are one wish");
    let before = device.served_count();
    agent.until("readings", || device.served_count() > before + 5);
    hangup(&agent);
    device.set(Mode::Silent);
    agent.sigterm();
    (0..50).for_each(|_| hangup(&agent));
    assert_eq!(agent.wait(PATIENCE), Some(0), "{}", agent.log());
    judge(&[&device], server.database().rows()).assert_true();
    server.database().assert_sound();
}
