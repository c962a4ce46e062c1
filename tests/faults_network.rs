//! The faults of networks (rows N of FAULTS.md): links that are down, flap, lose, swallow or damage packets.
//!
//! Most need packets dropped, which each such test does in a network namespace of its own: it runs itself
//! again below `unshare`. Where that, `ip` or `nft` is not possible, the test is skipped, but not in CI.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says when it could not be tried"
)]

mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pattoo_agent_modbustcpd::outputs::Deliver;
use pattoo_agent_modbustcpd::outputs::delivery::{Delivery, Next, Run};
use pattoo_agent_modbustcpd::outputs::http::Timeouts;
use pattoo_agent_modbustcpd::outputs::pattoo::encode::PattooEncode;
use pattoo_agent_modbustcpd::outputs::pattoo::identity::AgentId;
use pattoo_agent_modbustcpd::outputs::pattoo::post::{Api, Poster};
use pattoo_agent_modbustcpd::reading::points::{self, Builder, Kind};
use pattoo_agent_modbustcpd::reading::{PointId, Reading, Timestamp, Value};
use pattoo_agent_modbustcpd::shard::Shard;
use socket2::SockRef;
use support::agent::{Agent, HOSTNAME, Home};
use support::device::{Device, Mode as DeviceMode};
use support::judge::judge;
use support::proxy::{Proxy, Route};
use support::server::{Mode, Server};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Set for the second run of a test, the one in a namespace.
const INSIDE: &str = "PATTOO_TEST_IN_ITS_OWN_NETWORK";

/// Plays `scene` in a network of its own; `test` is the name of the calling test.
fn in_a_network_of_its_own(test: &str, scene: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        ip(&["link", "set", "lo", "up"]);
        return scene();
    }
    if !support::needs(&["unshare", "ip", "nft"]) {
        return;
    }
    let mut again = below_unshare(std::env::current_exe().unwrap());
    let ended = again.args([test, "--exact", "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let utf8 = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ended.status.success(), "{}\n{}", utf8(&ended.stdout), utf8(&ended.stderr));
    assert!(utf8(&ended.stdout).contains("1 passed"), "it was tried: {}", utf8(&ended.stdout));
}

fn below_unshare(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--map-root-user"]).arg(program);
    command
}

fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {arguments:?}");
}

/// Replaces every rule; each is applied to what a program of this network sends.
fn rules(rules: &[&str]) {
    let rules = rules.join("\n");
    let script = format!(
        "table inet faults {{}}\ndelete table inet faults\n\
         table inet faults {{ chain out {{ type filter hook output priority 0;\n{rules}\n}}\n}}\n"
    );
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{script}");
}

/// Two registers of one device, ten times a second, each batch on its own.
fn home_with(server: SocketAddr, device: &Device) -> Home {
    let home = Home::new(server);
    home.write_config(&format!(
        "polling_interval: 100ms\nflush_interval: 50ms\nagent_hostname: {HOSTNAME}\npolling_groups:\n  \
         - group_name: plant\n    ip_devices: ['{}']\n    input_registers: [30001, 30002]\n",
        device.target()
    ));
    home
}

fn at_work(home: &Home, server: &Server) -> Agent {
    let mut agent = home.run();
    agent.until("the first readings to arrive", || server.row_count() > 0);
    agent
}

/// Lets what was served arrive, and fails unless all of it does, once, in order.
fn everything_arrives(agent: &mut Agent, device: &Device, server: &Server) {
    device.set(DeviceMode::Silent);
    agent.until("every reading served to arrive", || judge(&[device], server.database().rows()).lost.is_empty());
    judge(&[device], server.database().rows()).assert_complete();
    server.database().assert_sound();
    assert_eq!(server.database().late().len(), 0, "the server dropped nothing as late");
    assert_eq!(server.most_at_once(), 1, "one post in flight");
}

fn polls_go_on(agent: &mut Agent, device: &Device) {
    let polled = device.served_count();
    agent.until("polls that go on", || device.served_count() > polled + 8);
}

#[test]
fn a_server_without_a_route_to_it_gets_everything_once_there_is_one() {
    in_a_network_of_its_own("a_server_without_a_route_to_it_gets_everything_once_there_is_one", || {
        let (device, server) = (Device::counting(1), Server::start());
        let home = home_with(server.address(), &device);
        let mut agent = at_work(&home, &server);
        for refusal in ["reject with icmpx type no-route", "reject with icmpx type host-unreachable", "drop"] {
            rules(&[&format!("tcp dport {} {refusal}", server.address().port())]);
            polls_go_on(&mut agent, &device);
            assert!(home.spooled().len() >= 2, "{refusal}: the queue grows");
            rules(&[]);
            let arrived = server.row_count();
            agent.until("readings again", || server.row_count() > arrived + 8);
        }
        everything_arrives(&mut agent, &device, &server);
    });
}

#[test]
fn a_line_that_flaps_costs_no_reading_and_doubles_none() {
    in_a_network_of_its_own("a_line_that_flaps_costs_no_reading_and_doubles_none", || {
        let (device, server) = (Device::counting(2), Server::start());
        let home = home_with(server.address(), &device);
        let mut agent = at_work(&home, &server);
        let port = server.address().port();
        for _ in 0..8 {
            rules(&[&format!("tcp dport {port} drop"), &format!("tcp sport {port} drop")]);
            let polled = device.served_count();
            agent.until("polls", || device.served_count() > polled + 2);
            rules(&[]);
            let polled = device.served_count();
            agent.until("polls", || device.served_count() > polled + 2);
        }
        everything_arrives(&mut agent, &device, &server);
    });
}

#[test]
fn a_line_that_loses_three_packets_in_ten_is_slow_and_right() {
    in_a_network_of_its_own("a_line_that_loses_three_packets_in_ten_is_slow_and_right", || {
        let (device, server) = (Device::counting(3), Server::start());
        let home = home_with(server.address(), &device);
        let mut agent = at_work(&home, &server);
        rules(&["meta l4proto tcp numgen random mod 100 < 30 drop"]);
        let (polled, arrived) = (device.served_count(), server.row_count());
        agent.until("polls and posts all the same", || {
            device.served_count() > polled + 5 && server.row_count() > arrived + 5
        });
        rules(&[]);
        // An answer whose packets were lost until the agent gave up is none; once it reads again each must arrive.
        polls_go_on(&mut agent, &device);
        let healed = support::now_ms();
        polls_go_on(&mut agent, &device);
        device.set(DeviceMode::Silent);
        let verdict = || judge(&[&device], server.database().rows());
        agent.until("what was served since to arrive", || verdict().lost.iter().all(|(at, _)| *at < healed));
        verdict().assert_true();
        server.database().assert_sound();
        assert_eq!(server.database().late().len(), 0);
    });
}

#[test]
fn a_hole_in_either_direction_of_a_post_costs_its_deadline_and_no_reading() {
    in_a_network_of_its_own("a_hole_in_either_direction_of_a_post_costs_its_deadline_and_no_reading", || {
        let devices = [Device::counting(4), Device::counting(5)];
        let servers = [Server::start(), Server::start()];
        let homes = [0, 1].map(|place| home_with(servers[place].address(), &devices[place]));
        let mut agents = [0, 1].map(|place| at_work(&homes[place], &servers[place]));
        // The first server hears nothing but the handshake, of the second nothing is heard but the handshake.
        let ports = servers.each_ref().map(|server| server.address().port());
        let no_handshake = "tcp flags & syn != syn drop";
        rules(&[&format!("tcp dport {} {no_handshake}", ports[0]), &format!("tcp sport {} {no_handshake}", ports[1])]);
        // Twenty seconds and more.
        let polled = devices.each_ref().map(Device::served_count);
        agents[0].until("polls that go on", || [0, 1].iter().all(|&n| devices[n].served_count() > polled[n] + 200));
        assert!(homes.iter().all(|home| home.spooled().len() > 100), "both queues grow");
        for agent in &agents {
            let log = agent.log();
            assert!(!log.contains("no complete answer within 30s"), "not before its time\n{log}");
        }
        for place in [0, 1] {
            let log = || homes[place].log();
            agents[place].until("the deadline of the post", || log().contains("no complete answer within 30s"));
        }
        rules(&[]);
        for place in [0, 1] {
            everything_arrives(&mut agents[place], &devices[place], &servers[place]);
        }
        assert!(servers[1].database().repeated() > 0, "what was stored without an answer came again");
    });
}

/// The agent's port of its connection to this address.
fn local_port(home: &Home, to: SocketAddr) -> u16 {
    let pid = home.pid().unwrap().as_raw_nonzero();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let remote = format!(":{:04X}", to.port());
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let open = lines.filter(|fields| fields.len() > 3 && fields[2].ends_with(&remote) && fields[3] == "01");
    let local = open.map(|fields| fields[1].to_owned()).next().expect("a connection");
    u16::from_str_radix(local.rsplit(':').next().unwrap(), 16).unwrap()
}

#[test]
fn a_connection_whose_far_end_vanished_is_replaced() {
    in_a_network_of_its_own("a_connection_whose_far_end_vanished_is_replaced", || {
        let (device, server) = (Device::counting(6), Server::start());
        let home = home_with(server.address(), &device);
        let mut agent = at_work(&home, &server);
        for reboots in [false, true] {
            // As after a power cut, a change of our address, or a router that forgot us: no packet of it comes through.
            let (port, connections) = (local_port(&home, device.address()), device.connections());
            rules(&[&format!("tcp sport {port} drop"), &format!("tcp dport {port} drop")]);
            if reboots {
                device.stop();
                device.start();
            }
            agent.until("a new connection", || device.connections() > connections);
            let (polled, arrived) = (device.served_count(), server.row_count());
            agent.until("readings", || device.served_count() > polled + 4 && server.row_count() > arrived + 4);
            rules(&[]);
        }
        judge(&[&device], server.database().rows()).assert_true();
        server.database().assert_sound();
    });
}

#[test]
fn without_a_free_port_posts_wait_and_polls_go_on() {
    in_a_network_of_its_own("without_a_free_port_posts_wait_and_polls_go_on", || {
        let (device, server) = (Device::counting(7), Server::start());
        let home = home_with(server.address(), &device);
        let mut agent = at_work(&home, &server);
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40009").unwrap();
        // Every port of ours that could lead to the server does, and nothing comes of it.
        let taken: Vec<TcpStream> = std::iter::from_fn(|| TcpStream::connect(server.address()).ok()).collect();
        agent.until("posts that fail", || home.says("Cannot assign requested address"));
        polls_go_on(&mut agent, &device);
        assert!(!home.spooled().is_empty() && !taken.is_empty());
        for stream in &taken {
            SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(taken);
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "32768 60999").unwrap();
        everything_arrives(&mut agent, &device, &server);
    });
}

#[test]
fn a_body_damaged_on_its_way_is_posted_again() {
    let (device, server) = (Device::counting(8), Server::start());
    let proxy = Proxy::start(Route::InTurn(vec![server.address()]));
    let home = home_with(proxy.address(), &device);
    let mut agent = at_work(&home, &server);
    proxy.set(Route::Flipping(server.address()));
    let reached = server.post_count();
    agent.until("a damaged post", || server.posts()[reached..].iter().any(|post| post.status == Some(500)));
    polls_go_on(&mut agent, &device);
    proxy.set(Route::InTurn(vec![server.address()]));
    everything_arrives(&mut agent, &device, &server);
    assert_eq!(server.database().posted_again(), 0);
}

#[test]
fn of_two_servers_behind_one_address_each_batch_goes_to_the_one_that_takes_it() {
    thread::scope(|scope| {
        for stale in &[Mode::Html, Mode::Status(500), Mode::Ok] {
            scope.spawn(move || of_two_servers_the_second_is(stale));
        }
    });
}

fn of_two_servers_the_second_is(stale: &Mode) {
    let (device, servers) = (Device::counting(9), [Server::start(), Server::start()]);
    let proxy = Proxy::start(Route::InTurn(servers.each_ref().map(Server::address).to_vec()));
    let home = home_with(proxy.address(), &device);
    servers[1].set(stale.clone());
    let mut agent = at_work(&home, &servers[0]);
    agent.until("posts to both", || servers.iter().all(|server| server.post_count() >= 3));
    device.set(DeviceMode::Silent);
    let rows = || {
        let mut rows = servers.each_ref().map(|server| server.database().rows().to_vec()).concat();
        rows.sort_by_key(|row| row.timestamp);
        rows
    };
    agent.until("every reading served to arrive", || judge(&[&device], &rows()).lost.is_empty());
    judge(&[&device], &rows()).assert_complete();
    for server in &servers {
        server.database().assert_sound();
    }
    assert_eq!(servers[1].row_count() > 0, *stale == Mode::Ok, "{stale:?}");
}

/// Delivers `batches` of `readings` each as the agent does, but with a second for each post, until all of it is
/// there; returns how many posts that took.
fn delivered(server: &Server, batches: u64, readings: u32) -> usize {
    let id: AgentId = ID.parse().unwrap();
    let second = Duration::from_secs(1);
    let api = Api::new(&server.address().ip().to_string(), server.address().port(), &id).unwrap();
    let encode = Box::new(PattooEncode::new(id, Shard::default()));
    let mut delivery = Delivery::new(encode, Duration::from_secs(3_600), Timestamp::default());
    delivery.load(vec![run(batches, readings)]);
    let begun = Instant::now();
    actix_rt::System::new().block_on(async {
        let mut poster = Poster::new(api).with_timeouts(Timeouts { connect: second, total: second });
        loop {
            assert!(begun.elapsed() < support::PATIENCE, "in vain");
            match delivery.next(begun.elapsed()) {
                Next::Post { body, .. } => {
                    let answer = Deliver::post(&mut poster, body).await;
                    delivery.answered(&answer.result, begun.elapsed(), 0.5);
                }
                Next::Wait(until) => tokio::time::sleep(until.saturating_sub(begun.elapsed())).await,
                Next::Empty => break,
                aside @ Next::SetAside { .. } => panic!("{aside:?}"),
            }
        }
    });
    let all = usize::try_from(batches).unwrap() * usize::try_from(readings).unwrap();
    assert_eq!(delivery.progress().delivered, all);
    // What was given up may still have been on its way, and be in the database before its parts.
    let database = server.database();
    assert!(database.late().is_empty() && database.deaths().is_empty() && database.invalid().is_empty());
    assert_eq!(database.rows().len(), all);
    server.post_count()
}

/// So many polls, a second apart, of so many registers.
fn run(polls: u64, registers: u32) -> Run {
    let mut table = Builder::new(ID, HOSTNAME, Duration::from_secs(1));
    let device = points::Device::new("10.0.0.1", 0, "plant", 1_000);
    for number in (30_001..).take(usize::try_from(registers).unwrap()) {
        let key = format!("input_register_{number}");
        table.push(&device, &points::Register::new(&key, "input_register", number, Kind::Integer));
    }
    let at = |poll: u64| Timestamp::from_millis(1_780_000_000_000 + 1_000 * poll);
    let reading = |poll, point| Reading { point: PointId(point), at: at(poll), value: Value::Integer(7) };
    let readings = (0..polls).flat_map(|poll| (0..registers).map(move |point| reading(poll, point))).collect();
    Run { table: Arc::new(table.build()), readings }
}

#[test]
fn on_a_slow_line_posts_become_as_small_as_it_takes() {
    in_a_network_of_its_own("on_a_slow_line_posts_become_as_small_as_it_takes", || {
        let server = Server::start();
        ip(&["link", "set", "lo", "mtu", "1500"]);
        let slow = ["qdisc", "add", "dev", "lo", "root", "tbf", "rate", "320kbit", "burst", "4kb", "latency", "100ms"];
        assert!(Command::new("tc").args(slow).status().unwrap().success());
        // What a sender has given up must not arrive from the buffers of the kernel all the same.
        std::fs::write("/proc/sys/net/ipv4/tcp_wmem", "4096 4096 8192").unwrap();
        // As a whole it takes some seconds, and it has one.
        let posts = delivered(&server, 40, 40);
        assert!(posts > 1, "{posts}");
    });
}

#[test]
fn where_no_large_packet_gets_through_posts_become_as_small_as_it_takes() {
    in_a_network_of_its_own("where_no_large_packet_gets_through_posts_become_as_small_as_it_takes", || {
        let server = Server::start();
        ip(&["link", "set", "lo", "mtu", "1500"]);
        rules(&[&format!("tcp dport {} meta length > 1280 drop", server.address().port())]);
        let posts = delivered(&server, 2, 5);
        assert_eq!(posts, 10, "one for each reading");
    });
}
