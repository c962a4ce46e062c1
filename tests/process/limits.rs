//! What the system gives the process: memory, descriptors, threads, and who else may touch it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use super::support::PATIENCE;
use super::support::agent::{Agent, Home};
use super::support::device::{Device, Mode as DeviceMode};
use super::support::judge::judge;
use super::support::server::Server;
use super::support::{fill, needs, now_ms, peak_memory, python, skipped};
use super::{home_with, logged, run_by_shell};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A control group with this much memory, removed when dropped.
struct Memory {
    group: PathBuf,
    limit: &'static str,
}

impl Memory {
    /// `None`, and a word about it, where none can be made.
    fn group(bytes: u64) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pattoo-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let versions = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        for (root, limit) in versions {
            let group = PathBuf::from(root).join(&name);
            if fs::create_dir(&group).is_ok() {
                let memory = Self { group, limit };
                if memory.allow(bytes) {
                    return Some(memory);
                }
            }
        }
        skipped("it needs a control group for memory");
        None
    }

    fn allow(&self, bytes: u64) -> bool {
        fs::write(self.group.join(self.limit), bytes.to_string()).is_ok()
    }

    fn run(&self, home: &Home) -> Agent {
        run_by_shell(home, &format!(r#"echo $$ > '{}/cgroup.procs' && exec "$0" "$@""#, self.group.display()))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A process that has just ended may still be in it.
        let deadline = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.group).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn an_end_for_want_of_memory_costs_nothing_that_was_on_disk() {
    let Some(memory) = Memory::group(256 << 20) else {
        return;
    };
    let (device, server) = (Device::counting(90), Server::start());
    let home = home_with(&server, &device);
    let mut agent = memory.run(&home);
    agent.until("readings to arrive", || server.row_count() > 0);
    server.stop();
    let polled = device.served_count();
    agent.until("batches on disk", || device.served_count() > polled + 10 && home.spooled().len() > 4);
    let on_disk = home.spooled();
    // The agent is the one whom the kernel ends when others take all the memory there is.
    fs::write(format!("/proc/{}/oom_score_adj", agent.id()), "1000").unwrap();
    assert!(memory.allow(64 << 20));
    let hog = format!("echo $$ > '{}/cgroup.procs' && exec tail /dev/zero", memory.group.display());
    let mut hog = std::process::Command::new("sh").args(["-c", &hog]).spawn().unwrap();
    assert_eq!(agent.wait(PATIENCE), None, "ended by a signal");
    hog.kill().ok();
    hog.wait().unwrap();
    let left = home.spooled();
    assert!(on_disk.iter().all(|batch| left.contains(batch)));
    server.come_back();
    assert!(memory.allow(256 << 20));
    let (started, mut agent) = (now_ms(), memory.run(&home));
    agent.until("readings of the next life", || server.database().rows().iter().any(|row| row.timestamp >= started));
    agent.until("an empty spool", || home.spooled().len() <= 1);
    agent.stop();
    for batch in &left {
        let sent = serde_json::from_slice::<serde_json::Value>(batch).unwrap();
        assert!(sent["pattoo_agent_timestamp"].as_u64().unwrap() < started);
    }
    judge(&[&device], server.database().rows()).assert_true();
    let mut all = server.database();
    let rows = all.rows().len();
    for batch in &left {
        all.ingest(batch);
    }
    assert_eq!(all.rows().len(), rows, "each batch on disk is in the database");
    server.database().assert_sound();
}

/// A home whose cache is in memory, in `disk`.
fn home_on(disk: &Path, server: &Server, device: &Device) -> Home {
    let home = home_with(server, device);
    home.write_agent_id(ID);
    let file = home.config_dir().join("pattoo.yaml");
    let yaml = fs::read_to_string(&file).unwrap();
    let cache = |directory: &Path| format!("cache_directory: {}", directory.display());
    fs::write(&file, yaml.replace(&cache(&home.path().join("cache")), &cache(disk))).unwrap();
    home
}

const MILLION: u64 = 1_000_000;

const FIRST_MS: u64 = 1_700_000_000_000;

#[test]
fn a_million_batches_in_the_log_delay_no_start_and_need_no_memory() {
    let (Ok(disk), Some(memory)) = (tempfile::tempdir_in("/dev/shm"), Memory::group(256 << 20)) else {
        return skipped("it needs a file system in memory");
    };
    let (device, server) = (Device::counting(95), Server::start());
    server.forget_bodies();
    let home = home_on(disk.path(), &server, &device);
    fill::fill(disk.path(), ID, MILLION, 2, FIRST_MS, |batch, point| {
        f64::from(u32::try_from(batch % 60_000).unwrap() + point)
    });
    let mut agent = memory.run(&home);
    agent.until("polls", || device.served_count() > 0);
    assert!(logged(&home).contains("2000000 readings on disk"), "{}", logged(&home));
    agent.until("the backlog to be on its way", || server.post_count() > 20);
    let polled = device.served_count();
    agent.until("polls beside it", || device.served_count() > polled + 10);
    let peak = peak_memory(agent.id());
    assert!(peak < 32 << 10, "{peak} KiB");
    agent.stop();
    let database = server.database();
    database.assert_sound();
    let rows = database.rows();
    assert!(rows.len() > 20_000, "many batches are in each post: {}", rows.len());
    let due = (FIRST_MS..).step_by(1_000).flat_map(|at| [at, at]);
    assert!(rows.iter().map(|row| row.timestamp).eq(due.take(rows.len())), "each of them once, the oldest first");
}

#[test]
fn a_million_files_of_an_old_cache_delay_no_start_and_need_no_memory() {
    let (Ok(disk), Some(memory)) = (tempfile::tempdir_in("/dev/shm"), Memory::group(64 << 20)) else {
        return skipped("it needs a file system in memory");
    };
    let (device, server) = (Device::counting(91), Server::start());
    server.forget_bodies();
    let home = home_on(disk.path(), &server, &device);
    // One content under all names: it is the number that counts.
    let directory = disk.path().join(ID);
    let body = python::body(ID, FIRST_MS, &[("10.0.0.1", "input_register_30001", 7.0)]);
    let one = python::leave(&directory, ID, FIRST_MS, &body);
    for at in (FIRST_MS..).step_by(1_000).take(usize::try_from(MILLION).unwrap()).skip(1) {
        fs::hard_link(&one, directory.join(format!("{at}_{ID}.json"))).unwrap();
    }
    let mut agent = memory.run(&home);
    agent.until("polls", || device.served_count() > 0);
    let log = logged(&home);
    assert!(log.contains("1000000 batches of old caches on disk"), "{log}");
    agent.until("the backlog to be on its way", || server.post_count() > 200);
    let polled = device.served_count();
    agent.until("polls beside it", || device.served_count() > polled + 10);
    let posts = server.posts();
    assert!(posts.is_sorted_by_key(|post| post.at));
    assert_eq!(server.database().rows()[0].timestamp, FIRST_MS, "the oldest first");
    let peak = peak_memory(agent.id());
    assert!(peak < 64 << 10, "{peak} KiB");
    agent.stop();
    let left = fs::read_dir(&directory)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "json"));
    let (left, posts) = (left.count() as u64, server.post_count() as u64);
    assert!((MILLION - posts..=MILLION - posts + 1).contains(&left), "one for each post: {left} left, {posts} posts");
}

/// From now on the process may have no more descriptors than it has; `false` lifts that.
fn limit_descriptors(home: &Home, limited: bool) {
    let pid = home.pid().unwrap();
    let open = || -> BTreeSet<u64> {
        std::thread::sleep(Duration::from_millis(2));
        let open = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap();
        open.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
    };
    // A file that is being written is there for a moment.
    let always = (0..200).fold(open(), |always, _| &always & &open());
    let first_free = (0..1_024).find(|number| !always.contains(number));
    // That of the agent is ours.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = if limited { first_free } else { maximum };
    prlimit(Some(pid), Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

#[test]
fn without_a_free_descriptor_readings_go_to_disk_and_later_to_the_server() {
    std::thread::scope(|scope| {
        for killed in [false, true] {
            scope.spawn(move || without_a_free_descriptor(killed));
        }
    });
}

fn without_a_free_descriptor(killed: bool) {
    let (device, server) = (Device::counting(92), Server::start());
    let home = home_with(&server, &device);
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    server.stop();
    agent.until("an outage", || logged(&home).contains("(1028S)"));
    limit_descriptors(&home, true);
    let (polled, stored) = (device.served_count(), home.spooled().len());
    agent.until("batches on disk", || device.served_count() > polled + 20 && home.spooled().len() > stored + 10);
    let on_disk = home.spooled();
    if killed {
        agent.sigkill();
        server.come_back();
        agent = home.run();
    } else {
        server.come_back();
        let polled = device.served_count();
        agent.until("polls beside posts that want descriptors too", || device.served_count() > polled + 20);
        limit_descriptors(&home, false);
    }
    agent.until("what was on disk to arrive", || server.row_count() > 2 * on_disk.len());
    device.set(DeviceMode::Silent);
    let lost = || judge(&[&device], server.database().rows()).lost;
    agent.until("everything to arrive", || home.spooled().is_empty() && (killed || lost().is_empty()));
    let mut database = server.database();
    judge(&[&device], database.rows()).assert_true();
    database.assert_sound();
    let arrived = database.rows().len();
    for batch in &on_disk {
        database.ingest(batch);
    }
    assert_eq!(database.rows().len(), arrived, "what was on disk is in the database");
    agent.stop();
}

#[test]
fn with_too_few_descriptors_or_threads_it_does_not_start_and_says_what_to_raise() {
    let (device, server) = (Device::counting(93), Server::start());
    for descriptors in [6, 8, 10, 12, 14, 16, 18, 20, 24] {
        let home = home_with(&server, &device);
        let mut agent = run_by_shell(&home, &format!(r#"ulimit -n {descriptors}; exec "$0" "$@""#));
        assert_eq!(agent.wait(PATIENCE), Some(1), "{descriptors}: {}", agent.log());
        assert!(agent.log().contains("LimitNOFILE"), "{descriptors}: {}", agent.log());
        assert_eq!(agent.log().lines().count(), 1, "{descriptors}: {}", agent.log());
    }
    let home = home_with(&server, &device);
    let mut agent = run_by_shell(&home, r#"ulimit -S -n 12; exec "$0" "$@""#);
    agent.until("readings to arrive, for a soft limit is raised", || server.row_count() > 0);
    agent.stop();
    let connections = device.connections();
    if !needs(&["strace"]) {
        return;
    }
    for n in 1..=4 {
        let home = home_with(&server, &device);
        let inject = format!("inject=clone,clone3:error=EAGAIN:when={n}+");
        let mut agent =
            home.run_under("strace", &["-f", "-qq", "-o", "/dev/null", "-e", &inject].map(ToOwned::to_owned));
        assert_eq!(agent.wait(PATIENCE), Some(1), "{n}: {}", agent.log());
        assert!(agent.log().contains("TasksMax"), "{n}: {}", agent.log());
    }
    assert_eq!(device.connections(), connections);
}

#[test]
fn nobody_of_the_same_user_reads_its_memory_and_no_other_user_stops_it() {
    if !needs(&["root"]) {
        return;
    }
    let (device, server) = (Device::counting(94), Server::start());
    let home = home_with(&server, &device);
    fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for name in ["log", "cache", "daemon", "run"] {
        fs::create_dir(home.path().join(name)).unwrap();
        std::os::unix::fs::chown(home.path().join(name), Some(12_345), Some(12_345)).unwrap();
    }
    let program = home.path().join("agent");
    fs::copy(env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd"), &program).unwrap();
    let as_user = |user: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", user, "--regid", user, "--clear-groups"]).args(arguments);
        command.output().unwrap()
    };
    let script =
        format!(r#"shift 0; exec setpriv --reuid 12345 --regid 12345 --clear-groups '{}' "$@""#, program.display());
    let mut agent = run_by_shell(&home, &script);
    agent.until("readings to arrive", || server.row_count() > 0);
    let pid = home.pid().unwrap();
    for file in ["environ", "mem", "maps", "fd"] {
        let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
        let read = as_user("12345", &["ls", &format!("{path}/")]);
        let read = if file == "fd" { read } else { as_user("12345", &["head", "-c1", &path]) };
        assert!(!read.status.success(), "{file} could be read");
    }
    let pid_text = pid.as_raw_nonzero().to_string();
    assert!(!as_user("23456", &["sh", "-c", &format!("kill -KILL {pid_text}")]).status.success());
    let socket = home.path().join("run/pattoo_agent_modbustcpd.sock");
    let connect = "exit !IO::Socket::UNIX->new(Peer => $ARGV[0])";
    let connects = |user: &str| {
        as_user(user, &["perl", "-MIO::Socket::UNIX", "-e", connect, socket.to_str().unwrap()]).status.success()
    };
    // Its directory is the owner's and the group's; the socket is the owner's alone.
    fs::set_permissions(home.path().join("run"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(connects("12345") && !connects("23456"), "the status is its owner's to ask for");
    let rows = server.row_count();
    agent.until("readings that go on", || server.row_count() > rows + 4);
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(agent.wait(PATIENCE), Some(0));
}
