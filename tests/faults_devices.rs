//! The faults of devices (rows D of FAULTS.md) that need the real binary and are not in `devices.rs`: what
//! many broken devices cost the others, and what a device sees of the agent's connections.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints what it measured"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::agent::{Agent, Home};
use support::device::{Device, Mode, Request, Table};
use support::judge::judge;
use support::server::Server;

fn home_with(server: &Server, interval: &str, groups: &str) -> Home {
    let home = Home::new(server.address());
    home.write_groups(interval, groups);
    home
}

fn group(target: impl std::fmt::Display, unit: u8) -> String {
    format!(
        "  - group_name: {target} unit {unit}\n    ip_devices: ['{target}']\n    unit: {unit}\n    \
         input_registers: [30001, 30002]\n"
    )
}

/// Lets what was served arrive, and fails unless all of it does, once, in order.
fn everything_arrives(agent: &mut Agent, devices: &[&Device], server: &Server) {
    for device in devices {
        device.set(Mode::Silent);
    }
    agent.until("every reading served to arrive", || judge(devices, server.database().rows()).lost.is_empty());
    judge(devices, server.database().rows()).assert_complete();
    server.database().assert_sound();
    for device in devices {
        assert_eq!(device.violations(), [""; 0], "{}", device.target());
    }
}

/// The time from each request to the next, of a device that gets one request a cycle.
fn pauses(requests: &[Request]) -> Vec<Duration> {
    requests.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

#[test]
fn every_exception_costs_its_own_unit_only_and_is_told_once_with_its_meaning() {
    let (gateway, server) = (Device::counting(60), Server::start());
    let exceptions = [
        (0, "exception 0"),
        (1, "illegal function"),
        (2, "illegal data address"),
        (3, "illegal data value"),
        (4, "device failure"),
        (5, "acknowledge"),
        (6, "busy"),
        (10, "gateway path"),
        (11, "gateway target"),
        (0x80, "exception 128"),
        (0xFF, "exception 255"),
    ];
    let units: Vec<u8> = (1..).take(exceptions.len()).collect();
    for (unit, (code, _)) in units.iter().zip(exceptions) {
        gateway.set_unit(*unit, Mode::Exception(code));
    }
    let well = 200;
    let groups: String = units.iter().chain([&well]).map(|unit| group(gateway.target(), *unit)).collect();
    let home = home_with(&server, "500ms", &groups);
    let mut agent = home.run();
    agent.until("six cycles", || gateway.served_count() >= 6);
    assert_eq!(gateway.connections(), 1, "an exception is no reason to close a connection");
    everything_arrives(&mut agent, &[&gateway], &server);
    assert!(server.database().rows().iter().all(|row| row.unit == "200"), "no value without an answer");

    let log = agent.log();
    for (unit, (code, meaning)) in units.iter().zip(exceptions) {
        let about = |line: &&str| line.contains(&format!(": unit {unit}")) && line.contains(meaning);
        let told = log.lines().filter(about).count();
        assert!((1..=2).contains(&told), "exception {code}: {told} lines say {meaning:?}\n{log}");
    }
    // Busy is asked three times more in its cycle; a unit behind a gateway that cannot reach it is probed ever more rarely.
    let cycles = gateway.requests().iter().filter(|request| request.unit == well).count();
    let asked = |code: u8| {
        let place = exceptions.iter().position(|(of, _)| *of == code).unwrap();
        gateway.requests().iter().filter(|request| request.unit == units[place]).count()
    };
    // Of a unit that refuses what it is asked for, each value is tried alone once: the group has two.
    let alone = 2;
    for (code, most) in
        [(2, cycles + alone), (3, cycles + alone), (5, 4 * cycles), (6, 4 * cycles), (10, cycles - 1), (11, cycles - 1)]
    {
        assert!(asked(code) <= most, "exception {code}: {} requests in {cycles} cycles", asked(code));
    }
    assert!(asked(6) > cycles, "busy is asked again");
}

/// A port on every loopback address that takes no connection and refuses none.
struct BlackHole {
    port: u16,
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    fn open() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let port = listener.local_addr().unwrap().as_socket().unwrap().port();
        // Once its queue is full, the system ignores whoever wants to connect.
        let full = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let queued =
            std::iter::from_fn(|| TcpStream::connect_timeout(&full, Duration::from_millis(200)).ok()).collect();
        Self { port, _listener: listener, _queued: queued }
    }
}

/// In the order in which they were asked: when any of them gets a request, each of the others has had all but two as
/// many. A machine that is slow is slow for all of them. How far off its time one in a hundred polls may be is the
/// bound "poll jitter" of the soak.
#[test]
fn nine_hundred_dead_devices_of_a_thousand_delay_none_of_the_others() {
    let (server, dead) = (Server::start(), BlackHole::open());
    let healthy: Vec<Device> = (100..200).map(Device::counting).collect();
    let mut targets = String::new();
    for device in &healthy {
        write!(targets, "'{}',", device.target()).unwrap();
    }
    for place in 0..900 {
        write!(targets, "'127.255.{}.{}:{}',", place / 200, place % 200 + 1, dead.port).unwrap();
    }
    let plant = format!("  - group_name: plant\n    ip_devices: [{targets}]\n    input_registers: [30001]\n");
    let home = home_with(&server, "1s", &plant);
    let mut agent = home.run();
    let (mut most_files, mut most_threads) = (0, 0);
    // The first eight cycles, in which all that are dead are dialled most often.
    agent.until("eight cycles of all that are well", || {
        if let Some(pid) = home.pid() {
            let process = format!("/proc/{}", pid.as_raw_nonzero());
            let count = |what: &str| std::fs::read_dir(format!("{process}/{what}")).map_or(0, Iterator::count);
            most_files = most_files.max(count("fd"));
            most_threads = most_threads.max(count("task"));
        }
        healthy.iter().all(|device| device.request_count() >= 8)
    });
    println!("{most_files} files, {most_threads} threads");
    assert!(most_files > 500, "the dead ones were being dialled: {most_files}");
    assert!(most_files <= 1_100, "{most_files} open files");
    assert!(most_threads <= 64, "{most_threads} threads");
    everything_arrives(&mut agent, &healthy.iter().collect::<Vec<_>>(), &server);
    let mut asked: Vec<(Instant, usize)> = Vec::new();
    for (place, device) in healthy.iter().enumerate() {
        assert_eq!(device.connections(), 1, "{}", device.target());
        asked.extend(device.requests().iter().take(8).map(|request| (request.at, place)));
    }
    asked.sort_unstable();
    let mut polls = vec![0_u32; healthy.len()];
    for (_, place) in asked {
        polls[place] += 1;
        let fewest = polls.iter().min().unwrap();
        assert!(polls[place] <= fewest + 2, "{} had {}, another one {fewest}", healthy[place].target(), polls[place]);
    }
}

#[test]
fn a_gateway_that_never_repeats_the_transaction_id_is_read_once_the_configuration_says_so() {
    let (device, server) = (Device::counting(64), Server::start());
    device.set(Mode::WrongTransaction);
    let home = Home::new(server.address());
    let configured = |ignored: bool| {
        home.write_config(&format!(
            "polling_interval: 500ms\nflush_interval: 10ms\nagent_hostname: agent.example.net\ncache_min_free: 0\ndevices: \
             {{'{}': {{ignore_transaction_id: {ignored}}}}}\npolling_groups:\n{}",
            device.target(),
            group(device.target(), 1)
        ));
        home.run()
    };
    let mut agent = configured(false);
    agent.until("it to be refused twice", || device.connections() > 1);
    agent.stop();
    let log = agent.log();
    assert!(log.contains("if it never repeats that of the request, set ignore_transaction_id"), "{log}");
    assert!(server.database().rows().is_empty());
    let mut agent = configured(true);
    agent.until("readings over the first connection", || server.database().rows().len() > 8);
    assert_eq!(device.requests().last().map(|request| request.connection), Some(device.connections()));
    agent.stop();
    // The device counts every word of an answer with a wrong id as one that must not arrive; each value is right.
    for row in server.database().rows() {
        let (_, address) = Table::of_key(&row.key).unwrap();
        // The server stores every number as a decimal.
        let value: u16 = row.value.as_f64().unwrap().to_string().parse().unwrap();
        assert!(device.values().n_of(1, address, value) < 100, "{}: {value}", row.key);
    }
}

#[test]
fn a_device_that_needs_pauses_and_its_only_connection_back_gets_them() {
    let (device, server) = (Device::counting(63), Server::start());
    let home = Home::new(server.address());
    let pause = Duration::from_millis(50);
    home.write_config(&format!(
        "polling_interval: 500ms\nagent_hostname: agent.example.net\ncache_min_free: 0\ndevice_defaults: \
         {{pause_after_connect: 20ms, pause_between_requests: 50ms, close_after_poll: true}}\npolling_groups:\n{}{}{}",
        group(device.target(), 1),
        group(device.target(), 2),
        group(device.target(), 3)
    ));
    let mut agent = home.run();
    agent.until("some polls", || device.connections() > 3);
    let requests = device.requests();
    for poll in requests.chunk_by(|a, b| a.connection == b.connection).take(3) {
        assert_eq!(poll.iter().map(|request| request.unit).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(pauses(poll).iter().all(|between| *between >= pause), "{:?}", pauses(poll));
    }
    everything_arrives(&mut agent, &[&device], &server);
    agent.stop();
}

/// That a poll which was skipped is made at the next instant of the grid, and that nothing drifts, is decided in
/// virtual time, in `schedule.rs`.
#[test]
fn a_cycle_longer_than_its_interval_skips_ticks_and_never_overlaps() {
    let (device, server) = (Device::counting(61), Server::start());
    let took = Duration::from_millis(700);
    device.set(Mode::Slow(took));
    let home = home_with(&server, "500ms", &group(device.target(), 1));
    let mut agent = home.run();
    agent.until("six polls", || device.request_count() >= 7);
    for pause in pauses(&device.requests()[1..7]) {
        assert!(pause >= took, "{pause:?}: a poll before the end of the one before");
    }
    assert!(status(&home)["overruns"].as_u64() >= Some(3), "skipped and counted: {}", status(&home));
    everything_arrives(&mut agent, &[&device], &server);
}

/// What `--status` says of the only device.
fn status(home: &Home) -> serde_json::Value {
    let directory = home.config_dir();
    let finished = home.output(&["--status", "--format", "json", "--config_dir", directory.to_str().unwrap()]);
    serde_json::from_str::<serde_json::Value>(&finished.stdout).unwrap()["devices"][0].take()
}

#[test]
fn a_device_that_closes_idle_connections_loses_no_cycle() {
    let (device, server) = (Device::counting(62), Server::start());
    device.set(Mode::CloseIdle(Duration::from_millis(100)));
    let home = home_with(&server, "400ms", &group(device.target(), 1));
    let mut agent = home.run();
    agent.until("six cycles", || device.served_count() >= 6);
    assert!(device.connections() >= 5, "{} connections", device.connections());
    let state = status(&home);
    let number = |name: &str| state[name].as_u64().unwrap();
    assert!(
        number("polls") >= 5 && number("readings") == 2 * number("polls"),
        "no poll is without its readings: {state}"
    );
    everything_arrives(&mut agent, &[&device], &server);
    assert!(!agent.log().contains("WARNING"), "a connection that ends while idle is no fault\n{}", agent.log());
}

/// What a device has seen that answers none of its requests rightly.
#[derive(Default)]
struct Sessions {
    /// How many requests have come, one of each session at most.
    asked: usize,
    /// How each session ended.
    ends: Vec<Option<ErrorKind>>,
}

/// The first of each three requests gets an answer to another one, the next half an answer, the last none.
fn stubborn_device() -> (SocketAddr, Arc<Mutex<Sessions>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let sessions = Arc::<Mutex<Sessions>>::default();
    let seen = Arc::clone(&sessions);
    thread::spawn(move || {
        for (place, mut stream) in listener.incoming().map(Result::unwrap).enumerate() {
            let mut request = [0; 12];
            stream.read_exact(&mut request).unwrap();
            seen.lock().unwrap().asked += 1;
            match place % 3 {
                0 => stream.write_all(&[9, 9, 0, 0, 0, 7, 1, 4, 4, 0, 0, 0, 0]).unwrap(),
                1 => stream.write_all(&request[..5]).unwrap(),
                _ => {}
            }
            let end = stream.read(&mut request).err().map(|error| error.kind());
            seen.lock().unwrap().ends.push(end);
        }
    });
    (address, sessions)
}

#[test]
fn sessions_end_by_reset_so_that_no_device_runs_out_of_them() {
    let (server, (address, sessions)) = (Server::start(), stubborn_device());
    let home = home_with(&server, "200ms", &group(address, 1));
    let mut agent = home.run();
    // The third one ends because the agent does, which waits for an answer.
    agent.until("a session of each kind", || sessions.lock().unwrap().asked >= 3);
    agent.stop();
    support::until("its end", || sessions.lock().unwrap().ends.len() >= 3);
    let ends = sessions.lock().unwrap().ends.clone();
    assert!(ends.iter().all(|end| *end == Some(ErrorKind::ConnectionReset)), "{ends:?}");
}

#[test]
fn a_gateway_shared_by_groups_with_different_intervals_gets_one_request_at_a_time() {
    let (gateway, server) = (Device::counting(63), Server::start());
    gateway.set(Mode::Slow(Duration::from_millis(20)));
    let mut groups = String::new();
    for unit in 1..=6 {
        let interval = 100 * u32::from(unit);
        writeln!(groups, "{}    polling_interval: {interval}ms", group(gateway.target(), unit)).unwrap();
    }
    let home = home_with(&server, "1s", &groups);
    let mut agent = home.run();
    agent.until("readings of all units", || gateway.served_count() >= 40);
    let asked: BTreeMap<u8, usize> = gateway.requests().iter().fold(BTreeMap::new(), |mut asked, request| {
        *asked.entry(request.unit).or_default() += 1;
        asked
    });
    assert_eq!(asked.keys().copied().collect::<BTreeSet<_>>(), (1..=6).collect(), "{asked:?}");
    assert_eq!(gateway.connections(), 1);
    everything_arrives(&mut agent, &[&gateway], &server);
}
