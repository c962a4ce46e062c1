//! The .deb and the .rpm as an administrator meets them: on a Debian made for this test, booted with its own systemd in a
//! container, beside a simulated device and a simulated server on this machine's loopback.
//!
//! One test for each kind, because one machine lives through it all: install, start without and with a configuration, reload good
//! and bad ones, upgrade, go back, stop, remove, install again, purge. At the end no reading of all that may be lost or doubled.
//!
//! No distribution of the other family can be had everywhere. Debian has its rpm, which does with files, scripts and its own
//! database what it does there; what the package requires is compared with what that Debian has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use support::device::Device;
use support::judge::judge;
use support::server::Server;
use support::{needs, until};

const UNIT: &str = "pattoo_agent_modbustcpd.service";

const AGENT: &str = "etc/pattoo/pattoo_agent_modbustcpd.yaml";
const SHARED: &str = "etc/pattoo/pattoo.yaml";

/// What `docs/install.md` tells to install in it; the rest is what a small server has, and the program that installs an .rpm.
const DEBIAN: &str = "systemd,systemd-sysv,dbus,logrotate,rpm";

/// Debian's rpm warns whoever uses it beside dpkg, and has no database of the machine's.
const RPM: &str = "rpm --force-debian --define '_dbpath /var/lib/rpm'";

fn run(command: &mut Command) -> (bool, String) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn must(command: &mut Command) -> String {
    let (done, text) = run(command);
    assert!(done, "{command:?}: {text}");
    text
}

/// A Debian that runs.
struct Machine {
    root: PathBuf,
    container: Child,
    /// Its first process, as this machine numbers it.
    init: String,
}

impl Machine {
    fn boot(root: &Path) -> Self {
        let console = File::create(root.with_extension("console")).unwrap();
        let mut command = Command::new("systemd-nspawn");
        command.args([
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--console=pipe",
            "--link-journal=no",
            "-D",
        ]);
        let mut container = command.arg(root).stdin(Stdio::null()).stdout(console).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", container.id());
        let mut init = String::new();
        until("the machine to boot", || {
            assert!(container.try_wait().unwrap().is_none(), "the container ended");
            fs::read_to_string(&children).unwrap_or_default().trim().clone_into(&mut init);
            let state = ["--target", &*init, "--all", "systemctl", "is-system-running"];
            let (_, state) = run(Command::new("nsenter").args(state));
            ["running", "degraded"].contains(&state.trim())
        });
        Self { root: root.to_owned(), container, init }
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init, "--all", "env", "--ignore-environment", "PATH=/usr/sbin:/usr/bin"]);
        command.args(["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "/bin/sh", "-c", script]);
        command
    }

    /// What a script says that must succeed there.
    fn does(&self, script: &str) -> String {
        must(&mut self.shell(script))
    }

    /// What a script says that must fail there.
    fn fails(&self, script: &str) -> String {
        let (done, text) = run(&mut self.shell(script));
        assert!(!done, "{script}: {text}");
        text
    }

    fn property(&self, name: &str) -> String {
        self.does(&format!("systemctl show --value --property {name} {UNIT}")).trim().to_owned()
    }

    /// The lines that the agent has written into the journal, with their priorities.
    fn journal(&self) -> Vec<(char, String)> {
        self.does("journalctl --sync");
        let lines = self.does(&format!("journalctl --output json --no-pager _SYSTEMD_UNIT={UNIT}"));
        let entries = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        entries.map(|it| (text(&it, "PRIORITY").chars().next().unwrap_or('?'), text(&it, "MESSAGE"))).collect()
    }

    fn says(&self, priority: char, what: &str) -> bool {
        self.journal().iter().any(|(found, line)| *found == priority && line.contains(what))
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.root.join(path), text).unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (_, journal) = run(&mut self.shell("journalctl --no-pager --lines 60 --priority info"));
            // Not by a macro: the lints have it that nothing prints.
            writeln!(std::io::stderr(), "{journal}").ok();
        }
        run(&mut self.shell("systemctl --force --force poweroff"));
        self.container.kill().ok();
        self.container.wait().ok();
    }
}

/// What both tests need, made once: the packages, and a Debian as an archive.
struct Made {
    deb: PathBuf,
    rpm: PathBuf,
    debian: PathBuf,
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        must(Command::new(tree().join("setup/packages/build")).args(["deb", "rpm"]).env("PROFILE", "dev"));
        Made { deb: newest("deb"), rpm: newest("rpm"), debian: debian() }
    })
}

fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn newest(kind: &str) -> PathBuf {
    let made = fs::read_dir(tree().join("target/packages-dev")).unwrap().map(|entry| entry.unwrap().path());
    let made = made
        .filter(|path| path.extension().is_some_and(|it| it == kind))
        .max_by_key(|path| path.metadata().and_then(|metadata| metadata.modified()).expect("a package has a date"));
    made.expect("a package was made")
}

fn debian() -> PathBuf {
    // Kept for the next time; a root that is years old serves as well.
    let kept = tree().join(format!("target/packages-{}.tar", DEBIAN.replace(',', "-")));
    if !kept.exists() {
        let made = kept.with_extension("new.tar");
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io", "--include", DEBIAN]);
        command.args(["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*"]);
        must(command.arg("bookworm").arg(&made));
        fs::rename(made, &kept).unwrap();
    }
    kept
}

/// The root of a new Debian.
fn root(directory: &Path) -> PathBuf {
    let root = directory.join("debian");
    fs::create_dir(&root).unwrap();
    must(Command::new("tar").arg("-C").arg(&root).arg("-xf").arg(&made().debian));
    root
}

/// Lays the .deb into a Debian, and the same files as a later version.
fn lay_debs(root: &Path) {
    let (first, next, files) = (root.join("root/first.deb"), root.join("root/next.deb"), root.join("root/files"));
    fs::copy(&made().deb, &first).unwrap();
    must(Command::new("dpkg-deb").arg("--raw-extract").args([&first, &files]));
    must(Command::new("sed").args(["-i", "s/^Version: .*/&+next/"]).arg(files.join("DEBIAN/control")));
    must(Command::new("dpkg-deb").args(["-Zgzip", "-z1", "--build"]).args([&files, &next]));
}

/// Lays the .rpm into a Debian, and a later release of it with another file for logrotate.
fn lay_rpms(root: &Path) {
    fs::copy(&made().rpm, root.join("root/first.rpm")).unwrap();
    // The same tree, but for that file.
    let next = root.join("root/tree");
    fs::create_dir_all(next.join("src")).unwrap();
    for file in ["Cargo.toml", "Cargo.lock", "README.md", "LICENSE", "src/main.rs"] {
        fs::copy(tree().join(file), next.join(file)).unwrap();
    }
    must(Command::new("cp").arg("-r").arg(tree().join("setup")).arg(&next));
    std::os::unix::fs::symlink(tree().join("target"), next.join("target")).unwrap();
    must(Command::new("sed").args(["-i", "s/rotate 8/rotate 9/"]).arg(next.join("setup/logrotate")));
    let mut command = Command::new(tree().join("target/tools/bin/cargo-generate-rpm"));
    command.args(["--profile", "dev", "--payload-compress", "none", "--set-metadata", "release = \"2\""]);
    command.args(["--target-dir", "target/stripped"]);
    must(command.arg("--output").arg(root.join("root/next.rpm")).current_dir(next));
}

fn config(device: &Device, interval: &str) -> String {
    format!(
        "polling_interval: {interval}\nagent_hostname: agent.example.net\npolling_groups:\n  - ip_devices: ['{}']\n    \
         input_registers: [30001, 30002]\n",
        device.target()
    )
}

fn arrives(server: &Server, what: &str) {
    let before = server.row_count();
    until(what, || server.row_count() > before + 4);
}

/// After the first installation: user, directories and units, and nothing started.
fn starts_nothing(machine: &Machine, told: &str, files: &str) {
    assert!(told.contains("`pattoo_agent_modbustcpd configure`"), "{told}");
    assert_eq!(machine.fails(&format!("systemctl is-enabled {UNIT}")).trim(), "disabled");
    assert_eq!(machine.property("ActiveState"), "inactive");
    let owned = machine.does("stat --format '%U %G %a' /var/lib/pattoo /var/log/pattoo");
    assert_eq!(owned, "pattoo pattoo 750\n".repeat(2));
    let units = "/usr/lib/systemd/system/pattoo_agent_modbustcpd.service pattoo_agent_modbustcpd@0-4.service";
    assert_eq!(machine.does(&format!("systemd-analyze verify --man=no {units} 2>&1 | grep pattoo || true")), "");
    for file in ["man/man1/pattoo_agent_modbustcpd.1.gz", "bash-completion/completions/pattoo_agent_modbustcpd"] {
        assert!(files.contains(file), "{file} in {files}");
    }
    machine.does("logrotate --debug /etc/logrotate.d/pattoo_agent_modbustcpd");
}

/// Configured as the book says, for this device and this server, and started.
fn starts(machine: &Machine, device: &Device, server: &Server) {
    machine.does("pattoo_agent_modbustcpd configure --yes");
    let text = fs::read_to_string(machine.root.join(SHARED)).unwrap();
    let (ip, port) = (server.address().ip().to_string(), server.address().port().to_string());
    machine.write(SHARED, &text.replace("127.0.0.1", &ip).replace("20201", &port));
    machine.write(AGENT, &config(device, "200ms"));
    machine.does(&format!("systemctl enable --now {UNIT}"));
    arrives(server, "readings at the server");
}

/// Upgraded while the configuration has a fault: the former program goes on. Then upgraded without one, or taken back: restarted
/// each time.
fn is_upgraded(machine: &Machine, device: &Device, server: &Server, [bad, upgrades @ ..]: [&str; 3]) {
    let pid = machine.property("MainPID");
    machine.write(AGENT, &config(device, "never"));
    let told = machine.does(bad);
    assert!(told.contains("goes on with the former program"), "{told}");
    assert_eq!(machine.property("MainPID"), pid);
    machine.write(AGENT, &config(device, "200ms"));
    let mut pids = vec![pid];
    for upgrade in upgrades {
        server.excuse_repetition();
        machine.does(upgrade);
        assert_eq!(machine.property("ActiveState"), "active", "{upgrade}");
        let pid = machine.property("MainPID");
        assert!(!pids.contains(&pid), "{upgrade}");
        pids.push(pid);
        arrives(server, "readings after an upgrade");
    }
}

/// Removed while it runs, and installed again: configuration and identity are as they were.
fn is_removed_and_installed_again(machine: &Machine, server: &Server, remove: &str, install: &str) {
    let id = "cat /var/lib/pattoo/daemon/agent_id/pattoo_agent_modbustcpd.agent_id";
    let before = machine.does(id);
    machine.does(&format!("systemctl start {UNIT} && {remove}"));
    assert_eq!(machine.does("ls -l /proc/*/exe 2>/dev/null | grep -c pattoo_agent || true").trim(), "0");
    assert!(machine.root.join(AGENT).exists());
    machine.fails(&format!("systemctl is-enabled {UNIT}"));
    machine.does(&format!("{install} && systemctl start {UNIT}"));
    assert_eq!(machine.does(id), before);
    arrives(server, "readings after a removal");
}

/// Every file of that name, below these.
fn found(machine: &Machine, below: &str) -> Vec<String> {
    let found = machine.does(&format!("find {below} -path /var/log/journal -prune -o -name '*pattoo*' -print"));
    let mut found: Vec<_> = found.lines().map(str::to_owned).collect();
    found.sort_unstable();
    found
}

#[test]
#[allow(clippy::too_many_lines, reason = "one life of one machine, in the order of time")]
fn a_deb_is_installed_configured_upgraded_taken_back_and_purged_and_no_reading_is_lost() {
    if !needs(&["root", "mmdebstrap", "systemd-nspawn", "dpkg-deb", "nsenter"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = root(directory.path());
    lay_debs(&root);
    let (device, server) = (Device::counting(1), Server::start());
    let machine = Machine::boot(&root);

    let told = machine.does("dpkg --install /root/first.deb");
    starts_nothing(&machine, &told, &machine.does("dpkg --listfiles pattoo-agent-modbustcpd"));

    // Started without a configuration: refused once, with the reason as an error.
    machine.fails(&format!("systemctl start {UNIT}"));
    assert_eq!((machine.property("ExecMainStatus"), machine.property("NRestarts")), ("78".to_owned(), "0".to_owned()));
    assert!(machine.says('3', "pattoo_agent_modbustcpd.yaml"), "{:?}", machine.journal());

    starts(&machine, &device, &server);
    let pid = machine.property("MainPID");

    // Reloaded: a good one is taken over, a bad one fails the reload and changes nothing.
    machine.write(AGENT, &config(&device, "300ms"));
    machine.does(&format!("systemctl reload {UNIT}"));
    until("the reload", || machine.says('6', "the new configuration is taken over"));
    machine.write(AGENT, &config(&device, "never"));
    let told = machine.fails(&format!("systemctl reload {UNIT}"));
    assert!(told.contains("failed"), "{told}");
    assert!(machine.says('3', "never"), "{:?}", machine.journal());
    assert_eq!((machine.property("ActiveState"), machine.property("MainPID")), ("active".to_owned(), pid));
    arrives(&server, "readings after a bad reload");

    let [next, first] = ["next", "first"].map(|name| format!("dpkg --install /root/{name}.deb"));
    is_upgraded(&machine, &device, &server, [&next, &next, &first]);

    // A device that goes away is a warning, one that comes back is none.
    device.stop();
    until("the warning", || machine.says('4', &device.target()));
    device.start();
    arrives(&server, "readings after an outage");

    // Stopped in order.
    machine.does(&format!("systemctl stop {UNIT}"));
    assert_eq!(
        (machine.property("Result"), machine.property("ExecMainStatus")),
        ("success".to_owned(), "0".to_owned())
    );
    is_removed_and_installed_again(&machine, &server, "dpkg --remove pattoo-agent-modbustcpd", &first);

    // Nothing doubled in the journal's lines, and every level is there.
    let journal = machine.journal();
    let stamped: Vec<_> =
        journal.iter().filter(|(_, line)| line.contains(" - pattoo_") || line.starts_with("20")).collect();
    assert!(stamped.is_empty(), "{stamped:#?}");
    let levels: String =
        ['3', '4', '6', '7'].into_iter().filter(|it| journal.iter().any(|(found, _)| found == it)).collect();
    assert_eq!(levels, "3467", "{journal:#?}");
    assert!(!journal.iter().any(|(_, line)| line.starts_with('<')), "{journal:#?}");

    // Purged: what is this agent's is gone; what other pattoo programs use goes with the last of them.
    let left = || found(&machine, "/etc /var /usr /run");
    let other = "/etc/pattoo/pattoo_agent_other.yaml";
    machine.does(&format!("touch {other} && dpkg --purge pattoo-agent-modbustcpd"));
    assert_eq!(
        left(),
        ["/etc/pattoo", "/etc/pattoo/pattoo.yaml", other, "/var/log/pattoo", "/var/log/pattoo/pattoo.log"]
    );
    machine.does(&format!("rm {other} && dpkg --install /root/first.deb && dpkg --purge pattoo-agent-modbustcpd"));
    assert_eq!(left(), [""; 0]);
    drop(machine);
    judge(&[&device], server.database().rows()).assert_complete();
}

#[test]
fn an_rpm_is_installed_configured_upgraded_taken_back_and_erased_and_no_reading_is_lost() {
    if !needs(&["root", "mmdebstrap", "systemd-nspawn", "rpm", "nsenter"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = root(directory.path());
    lay_rpms(&root);
    let (device, server) = (Device::counting(1), Server::start());
    let machine = Machine::boot(&root);

    // What it requires is here, but rpm does not know what dpkg has installed.
    let libraries = machine.does("ldconfig --print-cache");
    for needed in machine.does(&format!("{RPM} --query --package --requires /root/first.rpm")).lines() {
        let (name, _) = needed.split_once(['(', ' ']).unwrap_or((needed, ""));
        let here = match name {
            "rpmlib" | "rtld" | "config" | "systemd" => true,
            path if path.starts_with('/') => root.join(path.trim_start_matches('/')).exists(),
            library => library.contains(".so") && libraries.contains(library),
        };
        assert!(here, "nothing has {needed}");
    }
    let told = machine.does("rpm --checksig --nosignature /root/first.rpm");
    assert!(told.contains("digests OK"), "{told}");

    let [install, next, first, erase] = [
        "--install /root/first.rpm",
        "--upgrade /root/next.rpm",
        "--upgrade --oldpackage /root/first.rpm",
        "--erase pattoo-agent-modbustcpd",
    ]
    .map(|what| format!("{RPM} --nodeps {what}"));
    let told = machine.does(&install);
    starts_nothing(&machine, &told, &machine.does(&format!("{RPM} --query --list pattoo-agent-modbustcpd")));
    assert_eq!(machine.does(&format!("{RPM} --verify --nodeps pattoo-agent-modbustcpd")), "");

    // A file of the administrator's is kept, and what the later release has for it is laid beside it.
    starts(&machine, &device, &server);
    let logrotate = "/etc/logrotate.d/pattoo_agent_modbustcpd";
    machine.does(&format!("sed -i 's/rotate 8/rotate 7/' {logrotate}"));
    is_upgraded(&machine, &device, &server, [&next, &first, &next]);
    let rotates = machine.does(&format!("grep -ho 'rotate .' {logrotate} {logrotate}.rpmnew"));
    assert_eq!(rotates, "rotate 7\nrotate 9\n");
    machine.does(&format!("systemctl is-enabled {UNIT}"));

    is_removed_and_installed_again(&machine, &server, &erase, &install);
    machine.does(&format!("systemctl stop {UNIT} && {erase}"));
    assert_eq!(found(&machine, "/usr"), [""; 0]);
    assert!(root.join(AGENT).exists() && root.join(SHARED).exists());
    drop(machine);
    judge(&[&device], server.database().rows()).assert_complete();
}
