//! Names that resolve badly, late or not at all: a name server of the test's own, which the agent alone sees.
//!
//! The agent runs in a mount namespace in which `/etc/resolv.conf` and `/etc/hosts` are the test's.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::support::agent::{Agent, Home};
use super::support::device::Device;
use super::support::judge::judge;
use super::support::server::Server;
use super::{configure, logged, root};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Answer,
    /// NXDOMAIN.
    NoSuchName,
    /// SERVFAIL.
    Failure,
    Silent,
}

/// Answers questions for A records of the names that it knows, and for all others that they have none.
struct NameServer {
    address: Ipv4Addr,
    mode: Arc<Mutex<Mode>>,
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    fn start(names: BTreeMap<&'static str, Vec<Ipv4Addr>>) -> Self {
        // The device and the server of each test are where nobody else is, and so is the name server beside them.
        let (socket, address) = (1..=254)
            .find_map(|last| {
                let [.., high, low] = std::process::id().to_be_bytes();
                let address = Ipv4Addr::new(127, 128 | high, low, last);
                Some((UdpSocket::bind((address, 53)).ok()?, address))
            })
            .expect("a loopback address with a free port 53");
        let (mode, asked) = (Arc::new(Mutex::new(Mode::Answer)), Arc::new(AtomicUsize::new(0)));
        let server = Self { address, mode: Arc::clone(&mode), asked: Arc::clone(&asked) };
        thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut question) {
                asked.fetch_add(1, Ordering::Relaxed);
                let mode = *mode.lock().unwrap();
                if let Some(answer) = answer(mode, &question[..length], &names) {
                    socket.send_to(&answer, client).unwrap();
                }
            }
        });
        server
    }

    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    fn questions(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Starts the agent where this is the only name service.
    fn run(&self, home: &Home) -> Agent {
        let (resolv, hosts) = (home.path().join("resolv.conf"), home.path().join("hosts"));
        fs::write(&resolv, format!("nameserver {}\noptions timeout:30\n", self.address)).unwrap();
        fs::write(&hosts, "").unwrap();
        let script = format!(
            "mount --bind {} /etc/resolv.conf && mount --bind {} /etc/hosts && exec \"$0\" \"$@\"",
            resolv.display(),
            hosts.display()
        );
        home.run_under("unshare", &["--mount", "sh", "-c", &script].map(ToOwned::to_owned))
    }
}

fn answer(mode: Mode, question: &[u8], names: &BTreeMap<&'static str, Vec<Ipv4Addr>>) -> Option<Vec<u8>> {
    let mut name = String::new();
    let mut at = 12;
    while question[at] > 0 {
        let end = at + 1 + usize::from(question[at]);
        name += &String::from_utf8_lossy(&question[at + 1..end]);
        name.push('.');
        at = end;
    }
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let addresses = match names.get(name.trim_end_matches('.')) {
        Some(addresses) if kind == 1 && mode == Mode::Answer => addresses.as_slice(),
        _ => &[],
    };
    let code = match mode {
        Mode::Silent => return None,
        Mode::Answer => 0,
        Mode::Failure => 2,
        Mode::NoSuchName => 3,
    };
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(addresses.len()).unwrap(), 0, 0, 0, 0]);
    answer.extend(&question[12..at + 5]);
    for address in addresses {
        // The name of the question, an A record of the Internet, not to be kept, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

fn v4(address: SocketAddr) -> Ipv4Addr {
    let SocketAddr::V4(address) = address else { unreachable!("the simulators are on IPv4") };
    *address.ip()
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
    if !root("the_last_good_address_is_used_while_names_do_not_resolve") {
        return;
    }
    let (device, server) = (Device::counting(70), Server::start());
    let names = NameServer::start(
        [("meter.test", vec![v4(device.address())]), ("pattoo.test", vec![v4(server.address())])].into(),
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
        let started = Instant::now();
        agent.until("readings of a new connection to arrive", || {
            device.served_count() > polls + 10 && server.row_count() > rows + 20
        });
        assert!(started.elapsed() < Duration::from_secs(15), "{mode:?}: {:?}", started.elapsed());
        assert!(names.questions() > questions, "it asked");
    }
    assert!(logged(&home).contains("its last known address is used"), "{}", logged(&home));
    let asked = Instant::now();
    agent.stop();
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert!(judge(&[&device], server.database().rows()).forbidden.is_empty());
}

#[test]
fn names_that_never_resolve_hold_neither_the_other_devices_nor_the_end() {
    if !root("names_that_never_resolve_hold_neither_the_other_devices_nor_the_end") {
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
    assert_eq!(agent.wait(Duration::from_secs(2)), Some(0));
}

#[test]
fn sigterm_ends_a_start_that_hangs_in_the_name_service() {
    if !root("sigterm_ends_a_start_that_hangs_in_the_name_service") {
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
    assert_eq!(agent.wait(Duration::from_secs(2)), Some(0));
    assert!(agent.log().contains("while starting"), "{}", agent.log());

    // Later on the name is remembered, and a start does not depend on the name service.
    names.set(Mode::NoSuchName);
    let mut agent = names.run(&home);
    agent.until("readings to arrive", || server.row_count() > 0);
    agent.stop();
    names.set(Mode::Silent);
    let (started, requests) = (Instant::now(), device.request_count());
    let mut agent = names.run(&home);
    agent.until("polls", || device.request_count() > requests);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    agent.stop();
}

#[test]
fn each_address_of_the_server_is_tried_and_a_dead_one_in_front_only_takes_its_share() {
    if !root("each_address_of_the_server_is_tried") {
        return;
    }
    let (device, server) = (Device::counting(73), Server::start());
    let port = server.address().port();
    let alive = v4(server.address());
    // Nearer to the source address 127.0.0.1 than the other one, so that the resolver sorts it to the front.
    let dead = Ipv4Addr::new(127, 0, alive.octets()[2], 128 | alive.octets()[3]);
    // Accepts nothing more: the queue of its connections is full, further ones are not answered.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((dead, port)).into()).unwrap();
    socket.listen(0).unwrap();
    let _queued = std::net::TcpStream::connect((dead, port)).unwrap();
    let names =
        NameServer::start([("meter.test", vec![v4(device.address())]), ("pattoo.test", vec![dead, alive])].into());
    let home = home_by_names(&device, &server);
    let started = Instant::now();
    let mut agent = names.run(&home);
    agent.until("readings to arrive", || server.row_count() > 0);
    let took = started.elapsed();
    assert!((2..4).contains(&took.as_secs()), "half of the five seconds went to the dead one: {took:?}");
    let (started, posts) = (Instant::now(), server.post_count());
    agent.until("more posts", || server.post_count() > posts + 3);
    assert!(started.elapsed() < Duration::from_secs(4), "the dead one is paid for once: {:?}", started.elapsed());
    agent.stop();
}
