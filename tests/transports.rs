//! Ways to a device: whatever it is reached by, its readings arrive whole under the names that they always had.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::thread;

use support::agent::{Agent, Home};
use support::device::{Device, Mode};
use support::gateway::{Authority, Gateway, Issued, Line, SerialLine};
use support::judge::{Verdict, judge};
use support::server::{Row, Server};

/// What is configured for each device here.
fn group(target: &str) -> String {
    format!(
        "  - group_name: of {target}\n    ip_devices: ['{target}']\n    unit: 7\n    \
         input_registers: [30011, 30012, 30013]\n    holding_registers: [40001]\n"
    )
}

fn write(home: &Home, settings: &str, targets: &[&str]) {
    let groups: String = targets.iter().map(|target| group(target)).collect();
    home.write_config(&format!(
        "polling_interval: 100ms\nagent_hostname: agent.example.net\ncache_min_free: 0\n{settings}polling_groups:\n{groups}"
    ));
}

/// What became of what `device` served, whose readings go by the name of `target`.
fn verdict(target: &str, device: &Device, server: &Server) -> Verdict {
    let database = server.database();
    let rows: Vec<Row> = database.rows().iter().filter(|row| row.target == target).cloned().collect();
    let rows: Vec<Row> = rows.into_iter().map(|row| Row { target: device.target(), ..row }).collect();
    judge(&[device], &rows)
}

fn everything_arrives(agent: &mut Agent, target: &str, device: &Device, server: &Server) {
    agent.until("some polls", || device.served_count() > 10);
    // Silence would leave the gateway waiting at a connection that the agent has given up.
    device.set(Mode::Exception(4));
    agent.until("every reading served to arrive", || verdict(target, device, server).lost.is_empty());
    verdict(target, device, server).assert_complete();
    assert_eq!(device.violations(), [""; 0]);
    server.database().assert_sound();
}

#[test]
fn a_device_behind_an_rtu_gateway_is_read_under_the_names_that_it_always_had() {
    let (device, server) = (Device::counting(1), Server::start());
    let gateway = Gateway::rtu(device.address());
    let home = Home::new(server.address());
    write(&home, "device_defaults: {transport: rtu}\n", &[&gateway.target()]);
    let mut agent = home.run();
    everything_arrives(&mut agent, &gateway.target(), &device, &server);
    assert_eq!(gateway.violations(), [""; 0]);
    let keys: std::collections::BTreeSet<_> =
        server.database().rows().iter().map(|row| (row.target.clone(), row.unit.clone(), row.key.clone())).collect();
    let name = |key: &str| (gateway.target(), "007".to_owned(), key.to_owned());
    let expected = ["holding_register_40001", "input_register_30011", "input_register_30012", "input_register_30013"];
    assert_eq!(keys, expected.map(name).into());
    agent.stop();
}

#[test]
fn no_noise_of_a_line_is_ever_recorded_and_the_device_is_read_again_when_it_is_clean() {
    let server = Server::start();
    let cases = [(2, Line::Flips, "the checksum is wrong")];
    let lines = cases.map(|(number, line, told)| {
        let device = Device::counting(number);
        let gateway = Gateway::rtu(device.address());
        gateway.set(line);
        (device, gateway, told)
    });
    let home = Home::new(server.address());
    let targets = lines.each_ref().map(|(_, gateway, _)| gateway.target());
    write(&home, "device_defaults: {transport: rtu}\n", &targets.each_ref().map(String::as_str));
    let mut agent = home.run();
    for (_, gateway, told) in &lines {
        let line = format!("{}: unit 7: the reply does not fit the request: {told}", gateway.target());
        agent.until(told, || home.says(&line));
    }
    assert!(server.database().rows().is_empty());
    for (device, gateway, _) in &lines {
        gateway.set(Line::Clean);
        let target = gateway.target();
        agent.until("a reading", || server.database().rows().iter().any(|row| row.target == target));
        verdict(&target, device, &server).assert_true();
        assert_eq!(gateway.violations(), [""; 0]);
    }
    agent.stop();
}

#[test]
fn a_device_on_a_line_that_crackles_before_each_reply_is_read() {
    let (device, server) = (Device::counting(3), Server::start());
    let gateway = Gateway::rtu(device.address());
    gateway.set(Line::Crackles);
    let home = Home::new(server.address());
    write(&home, "device_defaults: {transport: rtu}\n", &[&gateway.target()]);
    let mut agent = home.run();
    everything_arrives(&mut agent, &gateway.target(), &device, &server);
    assert_eq!(gateway.violations(), [""; 0]);
    agent.stop();
}

#[test]
fn units_on_a_serial_port_share_its_line_and_a_line_that_was_torn_off_is_taken_up_again() {
    let (device, server) = (Device::counting(6), Server::start());
    let home = Home::new(server.address());
    let path = home.path().join("ttyUSB0");
    let line = SerialLine::new(path.clone(), device.address());
    let target = line.target();
    let unit = |unit: u8| format!("  - {{ip_devices: ['{target}'], unit: {unit}, input_registers: [30001, 30002]}}\n");
    home.write_config(&format!(
        "polling_interval: 100ms\nagent_hostname: agent.example.net\ncache_min_free: 0\n\
         devices: {{'{target}': {{parity: none, response_timeout: 1s}}}}\npolling_groups:\n{}{}",
        unit(1),
        unit(2)
    ));
    let mut agent = home.run();
    let read = |unit: u8, more: usize| device.served().iter().filter(|served| served.unit == unit).count() > more;
    agent.until("both units to be read", || read(1, 3) && read(2, 3));
    assert_eq!(line.violations(), [""; 0]);

    drop(line);
    agent.until("it to be missed", || home.says("cannot open the serial port"));
    let before = device.served_count();
    let line = SerialLine::new(path, device.address());
    agent.until("both units to be read again", || read(1, before) && read(2, before));
    assert_eq!(line.violations(), [""; 0]);
    agent.until("every reading to arrive", || verdict(&target, &device, &server).arrived > before * 2);
    verdict(&target, &device, &server).assert_true();
    agent.stop();
}

/// Puts the files of `tls` beside the configuration.
fn write_credentials(home: &Home, ca: &Authority, own: &Issued) {
    let file = |name: &str, text: &str| {
        let path = home.config_dir().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    file("ca.pem", &ca.certificate());
    file("agent.pem", &own.certificate);
    file("agent.key", &own.key);
}

const TLS: &str = "device_defaults:\n  transport: tls\n  \
                   tls: {ca: ca.pem, certificate: agent.pem, key: agent.key, server_name: plc.example}\n";

#[test]
fn a_secure_device_is_read_whether_it_asks_who_we_are_or_not() {
    let authority = Authority::new("plant");
    let server = Server::start();
    for (number, clients) in [(3, Some(&authority)), (4, None)] {
        let device = Device::counting(number);
        let gateway = Gateway::tls(device.address(), &authority.issue("plc.example"), clients);
        let home = Home::new(server.address());
        write_credentials(&home, &authority, &authority.issue("agent.example"));
        write(&home, TLS, &[&gateway.target()]);
        let mut agent = home.run();
        everything_arrives(&mut agent, &gateway.target(), &device, &server);
        agent.stop();
    }
}

#[test]
fn a_device_that_is_not_the_one_it_must_be_is_told_why_and_never_asked_anything() {
    let (plant, stranger) = (Authority::new("plant"), Authority::new("stranger"));
    let (server, device) = (Server::start(), Device::counting(5));
    let good = plant.issue("plc.example");
    let to = |own: &Issued, clients| Gateway::tls(device.address(), own, Some(clients)).target();
    let plain = Device::counting(6);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let cases = [
        (to(&plant.issue_expired("plc.example"), &plant), "its certificate has expired"),
        (to(&plant.issue("boiler.example"), &plant), "its certificate is for another name"),
        (to(&stranger.issue("plc.example"), &plant), "its certificate is signed by nobody in tls.ca"),
        (to(&good, &stranger), "it refused us"),
        (silent.local_addr().unwrap().to_string(), "no whole TLS handshake within"),
        (plain.target(), "no whole TLS handshake within"),
        (answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "it does not speak TLS"),
        (answering(b""), "the connection broke during the TLS handshake"),
    ];
    let home = Home::new(server.address());
    write_credentials(&home, &plant, &plant.issue("agent.example"));
    let targets: Vec<&str> = cases.iter().map(|(target, _)| target.as_str()).collect();
    write(&home, &format!("{TLS}  connect_timeout: 2s\n"), &targets);
    let mut agent = home.run();
    for (target, told) in &cases {
        let line = format!("{target}: connection: ");
        agent.until(told, || {
            let log = home.log();
            log.lines().any(|said| said.contains(&line) && said.contains(told))
        });
    }
    assert_eq!([&device, &plain].map(Device::request_count), [0, 0], "nobody is asked who is not believed");
    agent.stop();
    assert!(server.database().rows().is_empty());
}

#[test]
fn an_authority_that_is_added_to_the_file_is_believed_after_a_reload() {
    let [old, new] = ["old", "new"].map(Authority::new);
    let (device, server) = (Device::counting(7), Server::start());
    let gateway = Gateway::tls(device.address(), &new.issue("plc.example"), None);
    let home = Home::new(server.address());
    write_credentials(&home, &old, &old.issue("agent.example"));
    write(&home, TLS, &[&gateway.target()]);
    let mut agent = home.run();
    agent.until("it to be told", || home.says("its certificate is signed by nobody in tls.ca"));
    fs::write(home.config_dir().join("ca.pem"), old.certificate() + &new.certificate()).unwrap();
    agent.sighup();
    agent.until("the device to be replaced", || home.says("1 device replaced"));
    everything_arrives(&mut agent, &gateway.target(), &device, &server);
    agent.stop();
}

/// The agent API behind a reverse proxy with TLS: nobody is posted to who is not believed, and a reload believes another one.
#[test]
fn a_pattoo_server_behind_tls_is_posted_to_when_it_is_believed() {
    let [old, new] = ["old", "new"].map(Authority::new);
    let (device, server) = (Device::counting(8), Server::start());
    let proxy = Gateway::https(server.address(), &new.issue("pattoo.example"));
    let home = Home::new(server.address());
    write_credentials(&home, &old, &old.issue("agent.example"));
    write(&home, "", &[&device.target()]);
    let shared = home.config_dir().join("pattoo.yaml");
    let text = fs::read_to_string(&shared).unwrap();
    // ip_address stays for other programs; url wins.
    let api = format!("  url: https://{}\n  tls: {{ca: ca.pem, server_name: pattoo.example}}\n", proxy.target());
    fs::write(&shared, text + &api).unwrap();
    let mut agent = home.run();
    agent.until("it to be told", || home.says("its certificate is signed by nobody in tls.ca"));
    assert_eq!(server.post_count(), 0);
    fs::write(home.config_dir().join("ca.pem"), old.certificate() + &new.certificate()).unwrap();
    agent.sighup();
    everything_arrives(&mut agent, &device.target(), &device, &server);
    agent.stop();
}

/// Something else than a device: it answers whatever comes with this, and closes.
fn answering(with: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            stream.read_exact(&mut [0; 16]).ok();
            stream.write_all(with).ok();
        }
    });
    address
}

#[test]
fn openssl_believes_the_agent_and_the_agent_believes_openssl() {
    if Command::new("openssl").arg("version").output().is_err() {
        // Debian has it; where it is not there, the library alone must do.
        return;
    }
    let plant = Authority::new("plant");
    let home = Home::new("127.0.0.1:9".parse().unwrap());
    write_credentials(&home, &plant, &plant.issue("agent.example"));
    let own = plant.issue("plc.example");
    fs::write(home.path().join("plc.pem"), own.certificate).unwrap();
    fs::write(home.path().join("plc.key"), own.key).unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let mut openssl = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-cert", "plc.pem", "-key", "plc.key"])
            .args(["-CAfile", "etc/ca.pem", "-Verify", "1", "-verify_return_error", version])
            .current_dir(home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(openssl.stdout.take().unwrap()).lines().map_while(Result::ok);
        let accepting = lines.find_map(|line| line.strip_prefix("ACCEPT ").map(str::to_owned)).unwrap();
        write(&home, TLS, &[&accepting]);
        let mut agent = home.run();
        // What it says of a connection once it is secure, and who the other side is.
        assert!(lines.any(|line| line.contains("issuer=CN = plant") || line.contains("issuer=CN=plant")), "{version}");
        agent.until("openssl to be asked, who has no answer", || home.says("no whole reply within 3s"));
        agent.stop();
        openssl.kill().ok();
        openssl.wait().ok();
        fs::remove_file(home.path().join("log/pattoo.log")).unwrap();
    }
}
