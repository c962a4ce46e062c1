//! What the agent tells the service manager that started it (`sd_notify(3)`): ready, how it is, alive,
//! reloading, stopping.
//!
//! Datagrams to the socket that `NOTIFY_SOCKET` names; without it nothing is told. A manager that does not
//! listen changes nothing: every error is ignored. That the agent is alive is told by whoever has seen it
//! make progress ([`crate::actors::lifecycle::Heartbeat`]), never by a mere timer.

use std::env;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use crate::time::clock;

/// How often the manager hears how the agent is when it watches nothing.
const LEISURE: Duration = Duration::from_secs(30);

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Manager {
    /// As the environment says.
    #[must_use]
    pub fn from_environment() -> Self {
        let variable = |name| env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id());
        Self { socket: variable("NOTIFY_SOCKET").and_then(|name| connect(&name)), watchdog }
    }

    /// Whether anybody is told anything.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.socket.is_some()
    }

    /// How long from one sign of life to the next: three fit into what the manager waits.
    #[must_use]
    pub fn beat(&self) -> Duration {
        self.watchdog.map_or(LEISURE, |watchdog| watchdog / 3)
    }

    /// Everything works now; `status` is shown to people.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// Progress was made; `status` is shown to people.
    pub fn alive(&self, status: &str) {
        self.tell(&format!("WATCHDOG=1\nSTATUS={}", one_line(status)));
    }

    /// A new configuration is being read; [`Manager::ready`] ends it.
    pub fn reloading(&self) {
        // The time is what Type=notify-reload wants beside it (sd_notify(3)).
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic().as_micros()));
    }

    /// The agent stops.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping: what is in memory goes to disk");
    }

    fn tell(&self, message: &str) {
        if let Some(socket) = &self.socket {
            // A sign of life that is lost is made up for by the next: three fit into what the manager waits.
            socket.send(message.as_bytes()).ok();
        }
    }
}

fn connect(name: &str) -> Option<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        // `@` stands for the zero byte of an abstract name (sd_notify(3)).
        Some(name) => SocketAddr::from_abstract_name(name).ok()?,
        None if name.starts_with('/') => SocketAddr::from_pathname(Path::new(name)).ok()?,
        None => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect_addr(&address).ok()?;
    // A manager that is slow to read must hold up nothing.
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

/// How long the manager waits for a sign of life, if it waits for one of this process.
fn watchdog(micros: Option<String>, pid: Option<String>, us: u32) -> Option<Duration> {
    // The variables are inherited: of a parent that is watched they say nothing about us (sd_watchdog_enabled(3)).
    let ours = pid.is_none_or(|pid| pid.parse() == Ok(us));
    let micros: u64 = micros?.parse().ok()?;
    (ours && micros > 0).then(|| Duration::from_micros(micros))
}

fn one_line(text: &str) -> String {
    // A line break would begin another assignment of the message.
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_waits_only_for_the_process_that_it_names() {
        let text = |text: &str| Some(text.to_owned());
        let minute = Some(Duration::from_secs(60));
        let cases = [
            (text("60000000"), None, minute),
            (text("60000000"), text("7"), minute),
            (text("60000000"), text("8"), None),
            (text("0"), None, None),
            (text("soon"), None, None),
            (None, None, None),
        ];
        for (micros, pid, expected) in cases {
            assert_eq!(watchdog(micros.clone(), pid.clone(), 7), expected, "{micros:?} {pid:?}");
        }
    }

    #[test]
    fn without_a_manager_nothing_is_told() {
        for name in ["", "relative", "/nowhere/at/all"] {
            assert!(connect(name).is_none(), "{name}");
        }
    }
}
