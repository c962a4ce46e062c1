//! The world around the agent, for the end-to-end tests and for `cargo run --example demo`.
//!
//! [`device`] is a Modbus device and [`server`] a pattoo server, both written from the specifications with
//! bare sockets and without a line of the agent's code, so that the two cannot share a mistake. [`agent`]
//! runs the real binary, [`gateway`] is another way to a device, [`crashpoints`] ends it at each of its system calls, [`spool`] reads its log of readings, [`archives`] what outputs have written on this machine, [`fill`] writes one, [`broken`] lists builds that must be caught, [`mounted`] is a disk of a test's own, [`judge`] says by arithmetic what was lost, doubled, disordered or mixed up, [`destination`] waits until nothing is.
//!
//! Every simulator has a loopback address of its own: a port that one of them gave up for a while cannot
//! be taken by another one, so "stop listening and come back" is safe in tests that run side by side.

#![allow(dead_code, reason = "each test program uses its part of the world")]

pub mod agent;
pub mod archives;
pub mod broken;
pub mod crashpoints;
pub mod destination;
pub mod device;
pub mod fill;
pub mod gateway;
pub mod influxdb;
pub mod judge;
pub mod mounted;
pub mod mqtt;
pub mod otlp;
pub mod powercut;
pub mod prometheus;
pub mod proxy;
pub mod python;
pub mod server;
pub mod sparkplug;
pub mod spool;
pub mod victoria;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a test waits for what must happen before it fails: the longest pause of the agent, a minute, is no
/// failure, nor is that minute on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// Every command of the program that has a help of its own.
pub const COMMANDS: [&str; 16] = [
    "start",
    "stop",
    "restart",
    "status",
    "run",
    "check",
    "plan",
    "once",
    "probe",
    "spool",
    "translations",
    "configure",
    "install",
    "uninstall",
    "schema",
    "completions",
];

/// Waits until `condition` holds, or fails the test with `what` it waited for.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether everything is here that a test needs: programs, and the right to use them; `root`, `libfaketime`,
/// `libmodbus`, `pymodbus`. Where something is missing the test says that it is skipped, but in CI it fails
/// ([`skipped`]).
pub fn needs(tools: &[&str]) -> bool {
    let missing: Vec<&str> = tools.iter().copied().filter(|tool| !is_here(tool)).collect();
    if missing.is_empty() {
        return true;
    }
    skipped(&format!("it needs {}", missing.join(", ")));
    false
}

/// Says that this test is skipped; in CI, where everything must be here, it fails.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let said = format!("{} is skipped: {why}", thread.name().unwrap_or("a test"));
    assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "{said}");
    // Not by a macro: the harness would hide it.
    writeln!(std::io::stderr(), "{said}").ok();
}

fn is_here(tool: &str) -> bool {
    match tool {
        "root" => rustix::process::geteuid().is_root(),
        "strace" => succeeds(Command::new("strace").args(["-f", "-o", "/dev/null", "true"])),
        "nft" => {
            let rule = ["nft", "add", "table", "inet", "faults"];
            succeeds(Command::new("unshare").args(["--net", "--map-root-user"]).args(rule))
        }
        "libfaketime" => library("faketime/libfaketimeMT.so.1").is_some(),
        "libmodbus" => library("libmodbus.so.5").is_some(),
        "puppeteer-core" => browser().join("node_modules/puppeteer-core").is_dir(),
        "pymodbus" => succeeds(Command::new(python()).args(["-c", "import pymodbus"])),
        program => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
            std::env::split_paths(&path).chain(system).any(|directory| directory.join(program).is_file())
        }
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Where `npm install` put what drives a browser.
pub fn browser() -> PathBuf {
    std::env::var_os("PATTOO_TEST_BROWSER").map_or_else(|| "target/browser".into(), PathBuf::from)
}

/// The Python that has the other Modbus devices.
pub fn python() -> std::ffi::OsString {
    std::env::var_os("PATTOO_TEST_PYTHON").unwrap_or_else(|| "python3".into())
}

/// A shared library of this machine, by the end of its path.
pub fn library(name: &str) -> Option<PathBuf> {
    let directories = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    directories.chain(["/usr/lib".into(), "/usr/lib64".into()]).map(|path| path.join(name)).find(|path| path.is_file())
}

/// The most memory that a process has ever had, in KiB, less what its program takes: that of a build for tests is many
/// times as large as the one that people run.
pub fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default()
    };
    field("VmHWM:").saturating_sub(field("RssFile:"))
}

/// Wall-clock time in the server's unit.
#[expect(clippy::disallowed_methods, reason = "the stand-ins share no clock with the agent")]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(since.as_millis()).expect("a clock before the year 500 million")
}

/// A listener on a loopback address that no other simulator of any test program has.
pub fn listen_somewhere() -> TcpListener {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, high.max(1), low, NEXT.fetch_add(1, Ordering::Relaxed));
    listen(SocketAddr::from((ip, 0))).expect("a free port on the loopback")
}

/// Listens where a listener may have been until a moment ago (the standard library sets `SO_REUSEADDR`).
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address)
}
