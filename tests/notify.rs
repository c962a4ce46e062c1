//! What a service manager hears from the real binary, on a socket as systemd's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use support::PATIENCE;
use support::agent::Home;
use support::device::Device;
use support::server::Server;

/// Waits for a message that contains `what`.
fn hear(manager: &UnixDatagram, what: &str) -> String {
    let mut buffer = [0; 4_096];
    let limit = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < limit, "no {what} among what was said");
        let length = manager.recv(&mut buffer).unwrap_or_else(|error| panic!("no {what}: {error}"));
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if message.contains(what) {
            return message;
        }
    }
}

/// An agent that tells `manager` of itself, twenty times a second, and fails where the file says that is returned.
fn watched(device: &Device, server: &Server) -> (Home, UnixDatagram, std::path::PathBuf) {
    let mut home = Home::new(server.address());
    let path = home.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let fail = home.path().join("fail");
    home.set_variable("NOTIFY_SOCKET", path.to_str().unwrap());
    home.set_variable("WATCHDOG_USEC", "150000");
    home.set_variable("PATTOO_FAIL_POINT", fail.to_str().unwrap());
    home.write_groups("1s", &format!("  - ip_devices: ['{}']\n    input_registers: [30001]\n", device.target()));
    (home, manager, fail)
}

#[test]
fn a_service_manager_hears_nothing_more_once_readings_do_not_get_on() {
    let (device, server) = (Device::counting(1), Server::start());
    let (home, manager, fail) = watched(&device, &server);
    let mut agent = home.run();
    hear(&manager, "WATCHDOG=1");
    std::fs::write(&fail, "hang aggregator").unwrap();
    agent.until("it to hang", || !fail.exists());
    // Silence of forty times as long as it takes for a sign of life, once what was said before is heard.
    manager.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let limit = Instant::now() + PATIENCE;
    while manager.recv(&mut [0; 4_096]).is_ok() {
        assert!(Instant::now() < limit, "it hangs, and says that it lives");
    }
    assert!(agent.is_running());
    agent.sigkill();
}

#[test]
fn a_service_manager_hears_ready_then_signs_of_life_then_stopping() {
    let (device, server) = (Device::counting(1), Server::start());
    let (home, manager, _) = watched(&device, &server);
    let mut agent = home.run();
    assert!(hear(&manager, "READY=1").contains("STATUS="));
    for _ in 0..3 {
        assert!(hear(&manager, "WATCHDOG=1").contains("STATUS=readings accepted"));
    }
    agent.sigterm();
    hear(&manager, "STOPPING=1");
    assert_eq!(agent.wait(PATIENCE), Some(0));
}
