//! Names that resolve badly, late or not at all: a name server of the test's own, which the agent alone sees.
//!
//! The agent runs in a mount namespace in which `/etc/resolv.conf` and `/etc/hosts` are the test's.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::support::agent::{Agent, Home};
use super::support::device::Device;
use super::support::judge::judge;
use super::support::needs;
use super::support::server::{Mode as ServerMode, Server};
use super::{configure, logged};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Answer,
    /// NXDOMAIN.
    NoSuchName,
    /// SERVFAIL.
    Failure,
    Silent,
}

/// Answers questions for A and AAAA records of the names that it knows, and for all others that they have none.
struct NameServer {
    address: Ipv4Addr,
    names: Arc<Mutex<BTreeMap<&'static str, Vec<IpAddr>>>>,
    mode: Arc<Mutex<Mode>>,
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    fn start(names: BTreeMap<&'static str, Vec<IpAddr>>) -> Self {
        // The device and the server of each test are where nobody else is, and so is the name server beside them.
        let (socket, address) = (1..=254)
            .find_map(|last| {
                let [.., high, low] = std::process::id().to_be_bytes();
                let address = Ipv4Addr::new(127, 128 | high, low, last);
                Some((UdpSocket::bind((address, 53)).ok()?, address))
            })
            .expect("a loopback address with a free port 53");
        let (mode, asked) = (Arc::new(Mutex::new(Mode::Answer)), Arc::new(AtomicUsize::new(0)));
        let names = Arc::new(Mutex::new(names));
        let server = Self { address, names: Arc::clone(&names), mode: Arc::clone(&mode), asked: Arc::clone(&asked) };
        thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut question) {
                asked.fetch_add(1, Ordering::Relaxed);
                let mode = *mode.lock().unwrap();
                if let Some(answer) = answer(mode, &question[..length], &names.lock().unwrap()) {
                    socket.send_to(&answer, client).unwrap();
                }
            }
        });
        server
    }

    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// From now on the name has this address.
    fn lead(&self, name: &'static str, to: IpAddr) {
        self.names.lock().unwrap().insert(name, vec![to]);
    }

    fn questions(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Starts the agent where this is the only name service.
    fn run(&self, home: &Home) -> Agent {
        let (resolv, hosts) = (home.path().join("resolv.conf"), home.path().join("hosts"));
        fs::write(&resolv, format!("nameserver {}\noptions timeout:30 attempts:5\n", self.address)).unwrap();
        fs::write(&hosts, "").unwrap();
        let script = format!(
            "mount --bind {} /etc/resolv.conf && mount --bind {} /etc/hosts && exec \"$0\" \"$@\"",
            resolv.display(),
            hosts.display()
        );
        home.run_under("unshare", &["--mount", "sh", "-c", &script].map(ToOwned::to_owned))
    }
}

fn answer(mode: Mode, question: &[u8], names: &BTreeMap<&'static str, Vec<IpAddr>>) -> Option<Vec<u8>> {
    let mut name = String::new();
    let mut at = 12;
    while question[at] > 0 {
        let end = at + 1 + usize::from(question[at]);
        name += &String::from_utf8_lossy(&question[at + 1..end]);
        name.push('.');
        at = end;
    }
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let known = names.get(name.trim_end_matches('.')).filter(|_| mode == Mode::Answer);
    let octets = |address: &IpAddr| match address {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (28, address.octets().to_vec()),
    };
    let asked_for: Vec<_> = known.into_iter().flatten().map(octets).filter(|(is, _)| *is == kind).collect();
    let code = match mode {
        Mode::Silent => return None,
        Mode::Answer => 0,
        Mode::Failure => 2,
        Mode::NoSuchName => 3,
    };
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(asked_for.len()).unwrap(), 0, 0, 0, 0]);
    answer.extend(&question[12..at + 5]);
    for (_, octets) in asked_for {
        // The name and the kind of the question, of the Internet, not to be kept, so many bytes.
        answer.extend([0xc0, 12, 0, u8::try_from(kind).unwrap(), 0, 1, 0, 0, 0, 0, 0]);
        answer.push(u8::try_from(octets.len()).unwrap());
        answer.extend(octets);
    }
    Some(answer)
}

fn v4(address: IpAddr) -> Ipv4Addr {
    let IpAddr::V4(address) = address else { unreachable!("the simulators are on IPv4") };
    address
}

/// An address at which connections are neither accepted nor refused: the queue of those that wait is full.
fn black_hole(address: SocketAddr) -> (socket2::Socket, std::net::TcpStream) {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    let queued = std::net::TcpStream::connect(address).unwrap();
    (socket, queued)
}

/// A home whose device and server are known by names only.
fn home_by_names(device: &Device, server: &Server) -> Home {
    let home = Home::new(server.address());
    configure(&home, &format!("meter.test:{}", device.address().port()));
    let file = home.config_dir().join("pattoo.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let address = format!("ip_address: {}", server.address().ip());
    fs::write(&file, text.replace(&address, "ip_address: pattoo.test")).unwrap();
    home
}

#[test]
fn the_last_good_address_is_used_while_names_do_not_resolve() {
    if !needs(&["root"]) {
        return;
    }
    let (device, server) = (Device::counting(70), Server::start());
    let names = NameServer::start(
        [("meter.test", vec![device.address().ip()]), ("pattoo.test", vec![server.address().ip()])].into(),
    );
    let home = home_by_names(&device, &server);
    let mut agent = names.run(&home);
    agent.until("readings to arrive", || server.row_count() > 0);
    for mode in [Mode::NoSuchName, Mode::Failure, Mode::Silent] {
        names.set(mode);
        let questions = names.questions();
        device.stop();
        device.start();
        let (rows, polls) = (server.row_count(), device.served_count());
        agent.until("readings of a new connection to arrive", || {
            device.served_count() > polls + 10 && server.row_count() > rows + 20
        });
        assert!(names.questions() > questions, "it asked");
    }
    assert!(logged(&home).contains("its last known address is used"), "{}", logged(&home));
    agent.stop();
    assert!(judge(&[&device], server.database().rows()).forbidden.is_empty());
}

#[test]
fn names_that_never_resolve_hold_neither_the_other_devices_nor_the_end() {
    if !needs(&["root"]) {
        return;
    }
    let (device, server) = (Device::counting(71), Server::start());
    let names = NameServer::start(BTreeMap::new());
    names.set(Mode::Silent);
    let home = Home::new(server.address());
    let targets = (0..40).map(|number| format!("'dead{number}.test'")).collect::<Vec<_>>().join(", ");
    home.write_groups(
        "100ms",
        &format!(
            "  - group_name: plant\n    ip_devices: [{targets}, '{}']\n    input_registers: [30001]\n",
            device.target()
        ),
    );
    let mut agent = names.run(&home);
    agent.until("readings of the device with an address", || server.row_count() > 20);
    agent.until("a word about the others", || logged(&home).contains("cannot resolve dead"));
    let rows = server.row_count();
    agent.until("readings that go on", || server.row_count() > rows + 20);
    agent.sigterm();
    // In time: the agent watches over that itself, and the name service says nothing for longer than a test waits.
    agent.ends_with(0);
}

#[test]
fn sigterm_ends_a_start_that_hangs_in_the_name_service() {
    if !needs(&["root"]) {
        return;
    }
    let (device, server) = (Device::counting(72), Server::start());
    let names = NameServer::start(BTreeMap::new());
    names.set(Mode::Silent);
    let home = Home::new(server.address());
    configure(&home, &device.target());
    let file = home.config_dir().join("pattoo_agent_modbustcpd.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.lines().filter(|line| !line.starts_with("agent_hostname")).collect::<Vec<_>>().join("\n"))
        .unwrap();
    let mut agent = names.run(&home);
    agent.until("the question after its own name", || names.questions() > 0);
    agent.sigterm();
    agent.ends_with(0);
    assert!(agent.log().contains("while starting"), "{}", agent.log());

    // Later on the name is remembered, and a start does not depend on the name service.
    names.set(Mode::NoSuchName);
    let mut agent = names.run(&home);
    agent.until("readings to arrive", || server.row_count() > 0);
    agent.stop();
    names.set(Mode::Silent);
    let requests = device.request_count();
    let mut agent = names.run(&home);
    agent.until("polls without an answer", || device.request_count() > requests);
    agent.stop();
}

#[test]
fn each_address_of_the_server_is_tried_and_a_dead_one_in_front_only_takes_its_share() {
    if !needs(&["root"]) {
        return;
    }
    let (device, server) = (Device::counting(73), Server::start());
    let port = server.address().port();
    let alive = v4(server.address().ip());
    // Nearer to the source address 127.0.0.1 than the other one, so that the resolver sorts it to the front.
    let dead = Ipv4Addr::new(127, 0, alive.octets()[2], 128 | alive.octets()[3]);
    let _hole = black_hole(SocketAddr::from((dead, port)));
    let names = NameServer::start(
        [("meter.test", vec![device.address().ip()]), ("pattoo.test", vec![dead.into(), alive.into()])].into(),
    );
    let home = home_by_names(&device, &server);
    let started = Instant::now();
    let mut agent = names.run(&home);
    agent.until("readings to arrive", || server.row_count() > 0);
    // Its share is half of five seconds; that it is no more is decided in virtual time, in `resolve.rs`.
    assert!(started.elapsed() >= Duration::from_secs(2), "the dead one was tried first: {:?}", started.elapsed());
    let posts = server.post_count();
    agent.until("more posts", || server.post_count() > posts + 3);
    agent.stop();
}

#[test]
fn where_ipv6_leads_nowhere_ipv4_is_used_in_time() {
    if !needs(&["root"]) {
        return;
    }
    let (device, server) = (Device::counting(74), Server::start());
    // Preferred to any IPv4 address by whatever sorts them.
    let both = |of: SocketAddr| vec![IpAddr::V6(Ipv6Addr::LOCALHOST), of.ip()];
    let _holes = [device.address(), server.address()]
        .map(|address| black_hole(SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()))));
    let names =
        NameServer::start([("meter.test", both(device.address())), ("pattoo.test", both(server.address()))].into());
    let home = home_by_names(&device, &server);
    let mut agent = names.run(&home);
    agent.until("readings to arrive", || server.row_count() > 20);
    agent.stop();
    judge(&[&device], server.database().rows()).assert_true();
}

#[test]
fn a_name_that_leads_elsewhere_for_a_while_delivers_nothing_there_and_loses_nothing() {
    if !needs(&["root"]) {
        return;
    }
    let (device, server) = (Device::counting(75), Server::start());
    let names = NameServer::start([("pattoo.test", vec![server.address().ip()])].into());
    let home = home_by_names(&device, &server);
    configure(&home, &device.target());
    let mut agent = names.run(&home);
    agent.until("readings to arrive", || server.row_count() > 0);
    // A page of somebody else, on the same port.
    let elsewhere = Server::start_at((Ipv4Addr::new(127, 77, 0, 1), server.address().port()).into());
    elsewhere.set(ServerMode::Html);
    names.lead("pattoo.test", elsewhere.address().ip());
    agent.until("posts elsewhere", || elsewhere.post_count() > 1);
    let (rows, polls) = (server.row_count(), device.served_count());
    agent.until("polls that go on", || device.served_count() > polls + 5);
    assert_eq!(server.row_count(), rows);
    for post in elsewhere.posts() {
        assert!(post.head.line.starts_with("POST /pattoo/api/v1/agent/receive/"), "{}", post.head.line);
    }
    // Nobody there at all: the last good address is the wrong one.
    names.lead("pattoo.test", Ipv4Addr::new(127, 77, 0, 2).into());
    elsewhere.stop();
    agent.until("polls that go on", || device.served_count() > polls + 15);
    names.lead("pattoo.test", server.address().ip());
    device.set(super::support::device::Mode::Silent);
    agent.until("every reading to arrive", || judge(&[&device], server.database().rows()).lost.is_empty());
    judge(&[&device], server.database().rows()).assert_complete();
    server.database().assert_sound();
    agent.stop();
}
