//! What devices do to the agent: the real binary against devices that are down, slow, lying or hostile, and
//! what the agent asks of those that are well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use support::agent::{Agent, Home};
use support::device::{Device, Mode, Table};
use support::judge::judge;
use support::server::{Row, Server};

/// A polling group of unit 0 with three input registers and one holding register.
fn group(device: &Device) -> String {
    format!(
        "  - group_name: of {target}\n    ip_devices: ['{target}']\n    \
         input_registers: [30011, 30012, 30013]\n    holding_registers: [40001]\n",
        target = device.target(),
    )
}

fn home_with(server: &Server, interval: &str, groups: &[String]) -> Home {
    let home = Home::new(server.address());
    home.write_groups(interval, &groups.concat());
    home
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

fn keys_of<'a>(rows: &'a [Row], unit: &str) -> BTreeSet<&'a str> {
    rows.iter().filter(|row| row.unit == unit).map(|row| row.key.as_str()).collect()
}

#[test]
fn one_connection_serves_all_groups_and_units_of_a_host_with_one_request_per_run_of_registers() {
    let (device, server) = (Device::counting(1), Server::start());
    let target = device.target();
    let home = home_with(
        &server,
        "200ms",
        &[format!(
            "  - group_name: first\n    ip_devices: ['{target}']\n    unit: 1\n    \
             input_registers: [30003, 30001, 30002, 30007]\n    holding_registers: [40010, 40011]\n  \
             - group_name: second\n    ip_targets: ['{target}']\n    unit: 2\n    \
             input_registers: [{{address: 30001, multiplier: 1}}, 30002]\n  \
             - group_name: overlapping the first\n    ip_devices: ['{target}']\n    unit: 1\n    \
             input_registers: [30002, 30004]\n"
        )],
    );
    let mut agent = home.run();
    agent.until("some cycles", || device.request_count() >= 16 && server.row_count() >= 9);
    let asked: BTreeMap<(u8, u8, u16, u16), usize> =
        device.requests().iter().fold(BTreeMap::new(), |mut asked, request| {
            *asked.entry((request.function, request.unit, request.address, request.quantity)).or_default() += 1;
            asked
        });
    let runs: Vec<_> = asked.keys().copied().collect();
    assert_eq!(runs, [(3, 1, 9, 2), (4, 1, 0, 4), (4, 1, 6, 1), (4, 2, 0, 2)], "function, unit, address, quantity");
    assert_eq!(device.connections(), 1, "one connection for everything");
    everything_arrives(&mut agent, &[&device], &server);
    let database = server.database();
    let of_unit_2 = ["input_register_30001", "input_register_30002"];
    assert_eq!(keys_of(database.rows(), "002"), of_unit_2.into());
    assert_eq!(keys_of(database.rows(), "001").len(), 7);
}

#[test]
fn three_hundred_registers_are_read_in_blocks_of_at_most_125_each_register_once() {
    let (device, server) = (Device::counting(2), Server::start());
    let numbers: Vec<String> = (40_001..=40_300).map(|number: u32| number.to_string()).collect();
    let home = home_with(
        &server,
        "500ms",
        &[format!(
            "  - group_name: long\n    ip_devices: ['{}']\n    unit: 9\n    holding_registers: [{}]\n",
            device.target(),
            numbers.join(", "),
        )],
    );
    let mut agent = home.run();
    agent.until("two cycles", || device.request_count() >= 6 && server.row_count() >= 600);
    let blocks: BTreeSet<(u16, u16)> =
        device.requests().iter().map(|request| (request.address, request.quantity)).collect();
    assert_eq!(blocks.len(), 3, "{blocks:?}");
    assert_eq!(blocks.iter().map(|(_, quantity)| quantity).sum::<u16>(), 300, "{blocks:?}");
    everything_arrives(&mut agent, &[&device], &server);
    assert_eq!(keys_of(server.database().rows(), "009").len(), 300);
}

#[test]
fn one_reading_falls_into_each_interval_without_drift_and_without_bursts() {
    let (device, server) = (Device::counting(3), Server::start());
    let home = home_with(&server, "1s", &[group(&device)]);
    let mut agent = home.run();
    let key = "input_register_30011";
    let stamps = || -> Vec<u64> {
        server.database().rows().iter().filter(|row| row.key == key).map(|row| row.timestamp).collect()
    };
    agent.until("six readings of a register", || stamps().len() >= 6);
    // The first poll comes at once, from the second on the grid rules.
    let stamps = &stamps()[1..];
    for (place, stamp) in (0..).zip(stamps) {
        let off = i64::try_from(stamp - stamps[0]).unwrap() - 1_000 * place;
        assert!(off.abs() < 500, "reading {place} is {off} ms off the grid: {stamps:?}");
    }
}

#[test]
fn a_device_that_goes_down_and_comes_back_is_a_state_and_disturbs_nobody() {
    let (failing, healthy, server) = (Device::counting(4), Device::counting(5), Server::start());
    let home = home_with(&server, "200ms", &[group(&failing), group(&healthy)]);
    let mut agent = home.run();
    agent.until("readings of both", || failing.served_count() > 4 && healthy.served_count() > 4);
    failing.stop();
    let before = healthy.served_count();
    agent.until("polls of the healthy one go on", || healthy.served_count() > before + 20);
    let told = log_lines(&home, &failing, "").len();
    assert!((1..=3).contains(&told), "one line per change of state, not {told}:\n{}", agent.log());
    failing.start();
    let before = failing.served_count();
    agent.until("readings of it again", || failing.served_count() > before + 4);
    assert_eq!(healthy.connections(), 1, "the healthy one noticed nothing");
    agent.until("a line about it", || !log_lines(&home, &failing, "works again").is_empty());
    everything_arrives(&mut agent, &[&failing, &healthy], &server);
    assert_eq!(log_lines(&home, &failing, "works again").len(), 1, "{}", agent.log());
}

#[test]
fn an_agent_starts_while_its_device_is_down() {
    let (device, server) = (Device::counting(6), Server::start());
    device.stop();
    let home = home_with(&server, "200ms", &[group(&device)]);
    let mut agent = home.run();
    agent.until("a line about it", || !log_lines(&home, &device, "WARNING").is_empty());
    device.start();
    agent.until("readings of it", || device.served_count() > 4);
    everything_arrives(&mut agent, &[&device], &server);
}

/// The lines of the log file about a device that contain `word`.
fn log_lines(home: &Home, device: &Device, word: &str) -> Vec<String> {
    let log = home.log();
    let about = device.target();
    log.lines().filter(|line| line.contains(&about) && line.contains(word)).map(str::to_owned).collect()
}

#[test]
fn a_refused_block_costs_no_other_block() {
    let (device, server) = (Device::counting(7), Server::start());
    device.refuse(Table::Input, 100);
    let home = home_with(
        &server,
        "200ms",
        &[format!(
            "  - group_name: with a hole\n    ip_devices: ['{}']\n    \
             input_registers: [30001, 30002, 30101, 30201]\n    holding_registers: [40101]\n",
            device.target(),
        )],
    );
    let mut agent = home.run();
    agent.until("some cycles", || device.served_count() >= 12);
    assert_eq!(device.connections(), 1, "an exception is no reason to close a connection");
    everything_arrives(&mut agent, &[&device], &server);
    let expected = ["holding_register_40101", "input_register_30001", "input_register_30002", "input_register_30201"];
    assert_eq!(keys_of(server.database().rows(), "000"), expected.into());
}

#[test]
fn a_unit_without_an_answer_does_not_silence_the_others_behind_the_same_gateway() {
    let (gateway, server) = (Device::counting(8), Server::start());
    gateway.set_unit(2, Mode::Exception(11));
    let groups: Vec<String> = (1..=3)
        .map(|unit| {
            format!(
                "  - group_name: unit {unit}\n    ip_devices: ['{}']\n    unit: {unit}\n    input_registers: [30001]\n",
                gateway.target(),
            )
        })
        .collect();
    let home = home_with(&server, "200ms", &groups);
    let mut agent = home.run();
    agent.until("readings of the others", || gateway.served_count() >= 12);
    assert_eq!(gateway.connections(), 1);
    everything_arrives(&mut agent, &[&gateway], &server);
    let units: BTreeSet<String> = server.database().rows().iter().map(|row| row.unit.clone()).collect();
    assert_eq!(units, ["001".to_owned(), "003".to_owned()].into());
}

#[test]
fn no_lie_is_ever_recorded_and_each_liar_is_read_again_once_it_tells_the_truth() {
    let server = Server::start();
    let lies = [
        Mode::WrongTransaction,
        Mode::WrongProtocol,
        Mode::WrongUnit,
        Mode::WrongFunction,
        Mode::TooFewRegisters,
        Mode::WrongByteCount,
        Mode::Truncated,
        Mode::Reset,
        Mode::TwoFrames,
        Mode::Firehose,
        Mode::Late(Duration::from_secs(20)),
        Mode::Silent,
    ];
    let liars: Vec<Device> = (20..).zip(lies).map(|(number, _)| Device::counting(number)).collect();
    let honest = Device::counting(9);
    let groups: Vec<String> = liars.iter().chain([&honest]).map(group).collect();
    let home = home_with(&server, "200ms", &groups);
    let mut agent = home.run();
    agent.until("readings of all", || liars.iter().all(|device| device.served_count() >= 2));
    let counts = |devices: &[Device]| devices.iter().map(Device::request_count).collect::<Vec<_>>();
    for (liar, lie) in liars.iter().zip(lies) {
        liar.set(lie);
    }
    let before = counts(&liars);
    let honest_before = honest.served_count();
    agent.until("each liar to lie", || counts(&liars).iter().zip(&before).all(|(now, before)| now > before));
    agent.until("polls of the honest one", || honest.served_count() > honest_before + 10);
    for liar in &liars {
        liar.set(Mode::Answer);
    }
    let before: Vec<usize> = liars.iter().map(Device::served_count).collect();
    agent.until("readings of all again", || {
        liars.iter().zip(&before).all(|(device, before)| device.served_count() > *before + 1)
    });
    assert_eq!(honest.connections(), 1, "the honest one noticed nothing");
    let all: Vec<&Device> = liars.iter().chain([&honest]).collect();
    everything_arrives(&mut agent, &all, &server);
}

#[test]
fn a_late_answer_is_never_recorded() {
    let (device, server) = (Device::counting(10), Server::start());
    let home = home_with(&server, "200ms", &[group(&device)]);
    let mut agent = home.run();
    agent.until("readings", || device.served_count() >= 2);
    // Later than any response timeout, and yet ready to answer the next request if the connection stays.
    device.set(Mode::Late(Duration::from_secs(20)));
    let (before, connections) = (device.request_count(), device.connections());
    agent.until("the next connection", || device.request_count() > before + 1 && device.connections() > connections);
    device.set(Mode::Answer);
    let before = device.served_count();
    agent.until("readings again", || device.served_count() > before + 4);
    everything_arrives(&mut agent, &[&device], &server);
}

#[test]
fn odd_but_right_answers_are_taken_whole() {
    let server = Server::start();
    let oddities = [
        Mode::Drip,
        Mode::SplitAt(1),
        Mode::SplitAt(7),
        Mode::SplitAt(9),
        Mode::SplitAt(10),
        Mode::CloseAfterAnswer,
        Mode::Slow(Duration::from_millis(300)),
    ];
    let devices: Vec<Device> = (40..)
        .zip(oddities)
        .map(|(number, oddity)| {
            let device = Device::counting(number);
            device.set(oddity);
            device
        })
        .collect();
    let home = home_with(&server, "500ms", &devices.iter().map(group).collect::<Vec<_>>());
    let mut agent = home.run();
    agent.until("readings of all", || devices.iter().all(|device| device.served_count() >= 6));
    everything_arrives(&mut agent, &devices.iter().collect::<Vec<_>>(), &server);
}

#[test]
fn the_server_of_another_library_is_read_right() {
    let seen = Arc::default();
    let address = foreign::serve(Arc::clone(&seen));
    let server = Server::start();
    let home = home_with(
        &server,
        "200ms",
        &[format!(
            "  - group_name: foreign\n    ip_devices: ['{address}']\n    unit: 17\n    \
             input_registers: [30011, 30012]\n    holding_registers: [{{address: 40021, multiplier: 0.25}}]\n"
        )],
    );
    let mut agent = home.run();
    agent.until("two cycles", || server.row_count() >= 6);
    let database = server.database();
    database.assert_sound();
    for row in database.rows() {
        let expected = match row.key.as_str() {
            "input_register_30011" => 1_010.0,
            "input_register_30012" => 1_011.0,
            "holding_register_40021" => 505.0, // a quarter of 2020
            other => panic!("{other} was not asked for"),
        };
        assert_eq!(row.value.as_f64(), Some(expected), "{row:?}");
        assert_eq!(row.unit, "017");
    }
    assert_eq!(*seen.lock().unwrap(), BTreeSet::from([3, 4]), "function codes");
}

/// A device made of tokio-modbus's own server, which shares nothing with [`support::device`].
mod foreign {
    use super::{BTreeSet, SocketAddr};
    use std::future::{Ready, ready};
    use std::sync::{Arc, Mutex};

    use tokio::net::TcpListener;
    use tokio_modbus::prelude::*;
    use tokio_modbus::server::Service;
    use tokio_modbus::server::tcp::{Server, accept_tcp_connection};

    pub type Seen = Arc<Mutex<BTreeSet<u8>>>;

    #[derive(Clone)]
    struct Registers {
        seen: Seen,
    }

    impl Service for Registers {
        type Request = SlaveRequest<'static>;
        type Response = Response;
        type Exception = ExceptionCode;
        type Future = Ready<Result<Response, ExceptionCode>>;

        /// Input register `a` holds `1000 + a`, holding register `a` `2000 + a`.
        fn call(&self, SlaveRequest { slave, request }: Self::Request) -> Self::Future {
            self.seen.lock().unwrap().insert(request.function_code().value());
            let words = |base: u16, address: u16, quantity: u16| (0..quantity).map(|at| base + address + at).collect();
            ready(match request {
                _ if slave != 17 => Err(ExceptionCode::GatewayTargetDevice),
                Request::ReadInputRegisters(address, quantity) => {
                    Ok(Response::ReadInputRegisters(words(1_000, address, quantity)))
                }
                Request::ReadHoldingRegisters(address, quantity) => {
                    Ok(Response::ReadHoldingRegisters(words(2_000, address, quantity)))
                }
                _ => Err(ExceptionCode::IllegalFunction),
            })
        }
    }

    /// Serves until the test program ends.
    pub fn serve(seen: Seen) -> SocketAddr {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                let accepted = |stream, from| {
                    let service = Registers { seen: Arc::clone(&seen) };
                    async move { accept_tcp_connection(stream, from, move |_| Ok(Some(service.clone()))) }
                };
                Server::new(listener).serve(&accepted, |error| panic!("{error}")).await.unwrap();
            });
        });
        receiver.recv().unwrap()
    }
}
