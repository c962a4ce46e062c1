//! The faults of disks (rows K of FAULTS.md) that need a file system of the test's own, or calls that fail:
//! no power, no inodes, no lock, no answer for seconds.
//!
//! Without the right to mount, without mkfs.ext4, strace or perl, a test is skipped, but not in CI.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says when it could not be tried"
)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::PATIENCE;
use support::agent::{Agent, HOSTNAME, Home};
use support::device::{Device, Mode as DeviceMode};
use support::judge::judge;
use support::mounted::Mounted;
use support::server::{Database, Mode, Server};
use support::spool::{self, Batch, HEADER};

/// Two registers of one device, ten times a second, each batch on its own.
fn home_with(server: &Server, device: &Device) -> Home {
    let home = Home::new(server.address());
    home.write_config(&format!(
        "polling_interval: 100ms\nflush_interval: 50ms\nagent_hostname: {HOSTNAME}\npolling_groups:\n  \
         - ip_devices: ['{}']\n    input_registers: [30001, 30002]\n",
        device.target()
    ));
    home
}

/// A thousand registers, ten times a second, in small segments: a new one every few seconds, and room for the backlog of a minute.
fn home_of_many_segments(server: &Server, device: &Device) -> Home {
    let home = Home::new(server.address());
    home.write_config(&format!(
        "cache_max_bytes: 3MB\npolling_interval: 100ms\nflush_interval: 50ms\nagent_hostname: {HOSTNAME}\n\
         status_listen: 127.0.0.1:0\npolling_groups:\n  - {{ip_devices: ['{}'], input_registers: [30001-31000]}}\n",
        device.target()
    ));
    home
}

/// From now on no file of the agent can grow beyond `limit` bytes.
fn limit_files(home: &Home, limit: Option<u64>) {
    use rustix::process::{Resource, Rlimit, prlimit};
    prlimit(home.pid(), Resource::Fsize, Rlimit { current: limit, maximum: None }).unwrap();
}

/// Waits for a word on stderr: the log's own file cannot grow either.
fn until_said(agent: &mut Agent, words: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !agent.log().contains(words) {
        assert!(agent.is_running() && Instant::now() < deadline, "no {words:?} in:\n{}", agent.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn polls_go_on(agent: &mut Agent, device: &Device, polls: usize) {
    let polled = device.served_count();
    agent.until("polls that go on", || device.served_count() > polled + polls);
}

/// Lets what was served arrive, and fails unless all of it does, once, in order.
fn everything_arrives(agent: &mut Agent, device: &Device, server: &Server) {
    device.set(DeviceMode::Silent);
    agent.until("every reading served to arrive", || judge(&[device], server.database().rows()).lost.is_empty());
    judge(&[device], server.database().rows()).assert_complete();
    server.database().assert_sound();
}

/// A life without a server, which leaves batches on disk.
fn outage(home: &Home, device: &Device, server: &Server) {
    server.stop();
    let mut agent = home.run();
    polls_go_on(&mut agent, device, 6);
    agent.stop();
    assert!(home.spooled().len() > 4);
    server.come_back();
}

/// The batches of the log that wait, oldest first.
fn batches(home: &Home) -> Vec<Batch> {
    spool::batches(&home.spool(), "pattoo")
}

fn cache_of(home: &Home) -> PathBuf {
    home.path().join("cache")
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Starts the agent with its system calls tampered with; on these files only, if there are any.
fn run_injected(home: &Home, inject: &[&str], files: &[&Path]) -> Agent {
    let mut arguments = ["-f", "-qq", "-o"].map(str::to_owned).to_vec();
    arguments.push(home.path().join("strace").to_str().unwrap().to_owned());
    arguments.extend(inject.iter().flat_map(|inject| ["-e".to_owned(), format!("inject={inject}")]));
    arguments.extend(files.iter().flat_map(|file| ["-P".to_owned(), file.to_str().unwrap().to_owned()]));
    home.run_under("strace", &arguments)
}

/// strace stands between: the agent itself is told to stop.
fn stop_below_strace(home: &Home, agent: &mut Agent) {
    rustix::process::kill_process(home.pid().unwrap(), rustix::process::Signal::TERM).unwrap();
    assert_eq!(agent.wait(PATIENCE), Some(0), "{}", agent.log());
}

#[test]
fn what_was_on_disk_when_the_power_failed_is_there_afterwards() {
    if !support::needs(&["root", "mkfs.ext4", "perl"]) {
        return;
    }
    let (device, server) = (Device::counting(1), Server::start());
    let home = home_with(&server, &device);
    let image = home.path().join("disk");
    fs::File::create(&image).unwrap().set_len(24 << 20).unwrap();
    let made = succeeds(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
    let mount = ["-o", "loop", image.to_str().unwrap()];
    let Some(disk) = Mounted::at(&cache_of(&home), &mount).filter(|_| made) else { return };
    server.stop();
    for cut in 0..10 {
        let mut agent = home.run();
        polls_go_on(&mut agent, &device, 3 + cut % 4);
        // What was written longer ago than the flush interval was promised.
        let promised = home.spooled();
        polls_go_on(&mut agent, &device, 3);
        agent.until("the spool's thread to rest", || rests(&home, "spool"));
        agent.freeze();
        if !disk.cut_the_power() {
            return support::skipped("perl or this kernel does not shut down a file system");
        }
        agent.thaw();
        agent.sigkill();
        disk.unmount();
        assert!(disk.mount(&mount), "the journal is played back");
        let left = home.spooled();
        assert!(!promised.is_empty() && promised.iter().all(|batch| left.contains(batch)), "a batch is lost or torn");
    }
    let whole = home.spooled();
    server.come_back();
    let mut agent = home.run();
    agent.until("the backlog to arrive", || home.spooled().is_empty());
    polls_go_on(&mut agent, &device, 3);
    agent.stop();
    let mut database = server.database();
    judge(&[&device], database.rows()).assert_true();
    database.assert_sound();
    let rows = database.rows().len();
    for batch in &whole {
        database.ingest(batch);
    }
    assert_eq!(database.rows().len(), rows);
    assert_eq!(home.quarantined(), 0, "no torn batch was taken for one that is damaged");
}

/// Whether this thread of the agent waits for others.
fn rests(home: &Home, thread: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", home.pid().unwrap().as_raw_nonzero())).unwrap();
    let text = |task: &Path, file: &str| fs::read_to_string(task.join(file)).unwrap_or_default();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let task = tasks.find(|task| text(task, "comm").trim() == thread).expect("a thread of this name");
    text(&task, "wchan").contains("futex")
}

#[test]
fn without_a_free_inode_readings_go_to_the_server_from_memory() {
    let (device, server) = (Device::counting(2), Server::start());
    // A new segment needs an inode.
    let home = home_of_many_segments(&server, &device);
    let options = ["-t", "tmpfs", "-o", "size=16m,nr_inodes=40,mode=0750", "few-inodes"];
    let Some(disk) = Mounted::at(&cache_of(&home), &options) else { return };
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    let mut taken: Vec<PathBuf> = Vec::new();
    agent.until("a word", || {
        // More than once: a segment that is delivered gives its inode back.
        let more = (taken.len()..).map(|number| disk.path().join(format!("taken{number}")));
        taken.extend(more.take_while(|path| fs::write(path, "").is_ok()));
        home.says("No space left on device")
    });
    assert!(taken.len() < 40);
    let arrived = server.row_count();
    agent.until("readings past the disk", || server.row_count() > arrived + 20_000);
    server.stop();
    polls_go_on(&mut agent, &device, 20);
    for path in &taken {
        fs::remove_file(path).unwrap();
    }
    agent.until("a disk that takes readings again", || home.says("takes readings again"));
    server.come_back();
    everything_arrives(&mut agent, &device, &server);
    assert!(!home.says("LOST"), "nothing had to go");
    agent.stop();
}

#[test]
fn what_the_disk_reads_again_is_delivered_and_what_it_never_reads_is_told() {
    if !support::needs(&["strace"]) {
        return;
    }
    let injected =
        [("pread64:error=EIO:when=1..4", false), ("pread64:error=EIO:when=7..8", false), ("pread64:error=EIO", true)];
    for (inject, lost) in injected {
        let (device, server) = (Device::counting(3), Server::start());
        let home = home_with(&server, &device);
        outage(&home, &device, &server);
        let waited = home.spooled();
        let segment = batches(&home)[0].segment.clone();
        let content = fs::read(&segment).unwrap();
        let mut agent = run_injected(&home, &[inject], &[&segment]);
        agent.until("what is readable to arrive", || server.row_count() > 8 && home.spooled().is_empty());
        stop_below_strace(&home, &mut agent);
        let mut database = server.database();
        judge(&[&device], database.rows()).assert_true();
        database.assert_sound();
        let rows = database.rows().len();
        if lost {
            assert!(home.says("damaged on disk"), "{}", home.log());
            let aside = home.spool().join("quarantine").join(segment.file_name().unwrap());
            assert_eq!(fs::read(aside).unwrap(), content, "kept untouched, for a better disk");
        } else {
            assert_eq!(home.quarantined(), 0, "{inject}: {}", home.log());
            for body in &waited {
                database.ingest(body);
            }
            assert_eq!(database.rows().len(), rows, "{inject}");
        }
    }
}

#[test]
fn what_is_below_the_cache_is_not_written_to_when_its_disk_is_pulled() {
    let (device, server) = (Device::counting(4), Server::start());
    let home = home_with(&server, &device);
    let Some(disk) = Mounted::at(&cache_of(&home), &["-t", "tmpfs", "-o", "size=16m,mode=0750", "stick"]) else {
        return;
    };
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    server.stop();
    polls_go_on(&mut agent, &device, 5);
    assert!(disk.pull());
    polls_go_on(&mut agent, &device, 10);
    server.come_back();
    everything_arrives(&mut agent, &device, &server);
    agent.stop();
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0, "below the mount point");
}

#[test]
fn a_disk_that_takes_seconds_for_each_batch_delays_no_poll_and_loses_none() {
    if !support::needs(&["strace"]) {
        return;
    }
    let (device, server) = (Device::counting(5), Server::start());
    let home = home_with(&server, &device);
    let mut agent = run_injected(&home, &["fdatasync:delay_enter=1500000:when=9..11"], &[]);
    agent.until("the first slow batch", || {
        fs::read_to_string(home.path().join("strace")).is_ok_and(|trace| trace.contains("(DELAYED)"))
    });
    agent.until("readings to arrive", || server.row_count() > 60);
    everything_arrives(&mut agent, &device, &server);
    // While the disk took more than four seconds nothing arrived, and ten readings a second were taken.
    let posts: Vec<_> = server.posts().iter().map(|post| post.at).collect();
    let gap = posts.windows(2).max_by_key(|pair| pair[1] - pair[0]).unwrap();
    assert!(gap[1] - gap[0] > Duration::from_millis(1_400), "the disk was slow: {:?}", gap[1] - gap[0]);
    let meanwhile = device.requests().iter().filter(|request| (gap[0]..gap[1]).contains(&request.at)).count();
    assert!(meanwhile > 5, "{meanwhile} polls in {:?}", gap[1] - gap[0]);
    stop_below_strace(&home, &mut agent);
}

#[test]
fn what_was_set_aside_is_kept_told_of_at_each_start_and_never_looked_at_again() {
    let (device, server) = (Device::counting(6), Server::start());
    let home = home_with(&server, &device);
    let mut damaged = Vec::new();
    for life in 1..=4 {
        outage(&home, &device, &server);
        // Each second one, and in each life another byte of it.
        let waiting = batches(&home);
        for batch in waiting.iter().step_by(2) {
            batch.damage(HEADER + life);
            damaged.push(batch.content());
        }
        let mut whole = Database::default();
        waiting.iter().skip(1).step_by(2).for_each(|batch| whole.ingest(&batch.body));
        let mut agent = home.run();
        agent.until("all of them aside", || home.quarantined() == damaged.len());
        agent.until("the others delivered", || home.spooled().is_empty());
        polls_go_on(&mut agent, &device, 3);
        agent.stop();
        let arrived = server.database();
        let arrived: BTreeSet<_> = arrived.rows().iter().map(|row| (&row.checksum, row.timestamp)).collect();
        assert!(whole.rows().iter().all(|row| arrived.contains(&(&row.checksum, row.timestamp))));
    }
    let kept = fs::read_dir(home.spool().join("quarantine")).unwrap().map(|entry| entry.unwrap());
    let mut kept: Vec<_> = kept.map(|entry| fs::read(entry.path()).unwrap()).collect();
    kept.sort();
    damaged.sort();
    assert_eq!(kept, damaged, "each of them, as it was found");
    let mut agent = home.run();
    let told = format!("{} files are kept in", damaged.len());
    agent.until("a word about them", || home.says(&told));
    agent.stop();
    server.database().assert_sound();
}

#[test]
fn a_file_system_without_locks_is_refused_and_one_without_fsync_or_of_a_container_told_of() {
    if !support::needs(&["strace"]) {
        return;
    }
    let (device, server) = (Device::counting(7), Server::start());
    let home = home_with(&server, &device);
    home.write_agent_id(&"4c".repeat(32));
    let mut agent = run_injected(&home, &["fcntl:error=ENOLCK"], &[&home.spool().join("lock")]);
    assert_eq!(agent.wait(PATIENCE), Some(1), "{}", agent.log());
    assert!(agent.log().contains("cannot lock"), "{}", agent.log());
    assert_eq!(device.connections(), 0);

    // One whose id is there already.
    outage(&home, &device, &server);
    let mut agent = run_injected(&home, &["fsync,fdatasync:error=EINVAL"], &[]);
    agent.until("a word", || home.says("cannot fsync"));
    let arrived = server.row_count();
    agent.until("readings all the same", || server.row_count() > arrived + 20);
    everything_arrives(&mut agent, &device, &server);
    stop_below_strace(&home, &mut agent);

    let (device, server) = (Device::counting(8), Server::start());
    let home = home_with(&server, &device);
    let layers = ["lower", "upper", "work"].map(|name| home.path().join(name));
    for layer in &layers {
        fs::create_dir(layer).unwrap();
    }
    let [lower, upper, work] = layers.each_ref().map(|layer| layer.display());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let Some(_disk) = Mounted::at(&cache_of(&home), &["-t", "overlay", "-o", &options, "overlay"]) else { return };
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    assert!(home.says("(overlayfs) is a container's own layer"), "{}", home.log());
    agent.stop();
}

/// B2: room that another program takes is not made by letting readings go.
#[test]
fn a_disk_that_others_fill_costs_no_reading() {
    let (device, server) = (Device::counting(9), Server::start());
    let home = home_of_many_segments(&server, &device);
    let Some(disk) = Mounted::at(&cache_of(&home), &["-t", "tmpfs", "-o", "size=4m,mode=0750", "small"]) else {
        return;
    };
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    server.stop();
    agent.until("segments", || spool::segments(&home.spool()).len() > 2);
    let before = spool::readings(&home.spool(), "pattoo");
    let ballast = disk.path().join("ballast");
    agent.until("a word", || {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&ballast).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
        home.says("No space left on device")
    });
    polls_go_on(&mut agent, &device, 80);
    assert!(spool::readings(&home.spool(), "pattoo") >= before, "what was on disk is there");
    fs::remove_file(&ballast).unwrap();
    agent.until("room again", || home.says("takes readings again"));
    server.come_back();
    everything_arrives(&mut agent, &device, &server);
    assert!(!home.says("LOST"), "{}", home.log());
    agent.stop();
}

/// B3: what may not be read for a while is waited for, and nothing is passed.
#[test]
fn what_may_not_be_read_is_waited_for() {
    if !support::needs(&["root", "setpriv"]) {
        return;
    }
    let (device, server) = (Device::counting(10), Server::start());
    let home = home_of_many_segments(&server, &device);
    let mode = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(home.path(), 0o755);
    for name in ["log", "cache", "daemon", "run"] {
        fs::create_dir(home.path().join(name)).unwrap();
        chown(home.path().join(name), Some(12_345), Some(12_345)).unwrap();
    }
    let program = home.path().join("agent");
    fs::copy(env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd"), &program).unwrap();
    // Root may read everything.
    let script = format!(r#"exec setpriv --reuid 12345 --regid 12345 --clear-groups '{}' "$@""#, program.display());
    let run = || home.run_under("sh", &["-c".to_owned(), script.clone()]);
    server.stop();
    let mut agent = run();
    agent.until("segments", || home.agent_id_file().exists() && spool::segments(&home.spool()).len() > 2);
    // What was answered of a poll that a stop cuts short is read by nobody.
    device.set(DeviceMode::Silent);
    agent.until("the end of a poll", || home.says("no whole reply within"));
    agent.stop();
    device.set(DeviceMode::Answer);
    let segments = spool::segments(&home.spool());
    assert!(segments.len() > 2, "{segments:?}");
    mode(&segments[0], 0);
    server.come_back();
    let mut agent = run();
    agent.until("a word", || home.says("cannot read the cache directory"));
    polls_go_on(&mut agent, &device, 10);
    assert_eq!(server.row_count(), 0, "nothing is passed");
    mode(&segments[0], 0o640);
    everything_arrives(&mut agent, &device, &server);
    agent.stop();
    assert_eq!(home.quarantined(), 0);
}

/// B4: the disk is tried beside the post.
#[test]
fn what_the_disk_takes_again_is_written_while_a_post_is_not_answered() {
    let (device, server) = (Device::counting(11), Server::start());
    let home = home_with(&server, &device);
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    server.set(Mode::HangAfterReading);
    let posts = server.connections();
    agent.until("a post that is not answered", || server.connections() > posts);
    limit_files(&home, Some(0));
    until_said(&mut agent, "cannot write to the cache directory");
    polls_go_on(&mut agent, &device, 10);
    limit_files(&home, None);
    let (posts, lifted) = (server.connections(), Instant::now());
    until_said(&mut agent, "takes readings again");
    assert!(lifted.elapsed() < Duration::from_secs(8), "{:?}", lifted.elapsed());
    polls_go_on(&mut agent, &device, 10);
    assert_eq!(server.connections(), posts, "the same post is waited for");
    let killed_at = support::now_ms();
    agent.sigkill();
    let mut database = server.database();
    home.spooled().iter().for_each(|body| database.ingest(body));
    let verdict = judge(&[&device], database.rows());
    verdict.assert_true();
    assert_eq!(verdict.lost_before(killed_at - 1_000), [""; 0], "neither delivered nor on disk");
}

/// B5: a server that refuses is left alone also while the disk refuses.
#[test]
fn posts_from_memory_keep_to_the_pauses() {
    const BUSY: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 60\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for (mode, most) in [(Mode::Status(500), 12), (Mode::Say(BUSY), 1)] {
        let (device, server) = (Device::counting(12), Server::start());
        let home = home_with(&server, &device);
        let mut agent = home.run();
        agent.until("readings to arrive", || server.row_count() > 0);
        limit_files(&home, Some(0));
        until_said(&mut agent, "cannot write to the cache directory");
        server.set(mode.clone());
        let posts = server.connections();
        agent.until("a post that is refused", || server.connections() > posts);
        let posts = server.connections();
        polls_go_on(&mut agent, &device, 50);
        let more = server.connections() - posts;
        assert!(more <= most, "{mode:?}: {more} posts in 5 s");
        limit_files(&home, None);
        until_said(&mut agent, "takes readings again");
        agent.stop();
    }
}

/// A file system that takes nothing and answers nothing, until this is dropped.
struct Frozen<'a>(&'a Mounted);

impl<'a> Frozen<'a> {
    fn new(disk: &'a Mounted) -> Option<Self> {
        let frozen = succeeds(Command::new("fsfreeze").arg("-f").arg(disk.path()));
        if !frozen {
            support::skipped("fsfreeze is not possible");
        }
        frozen.then_some(Self(disk))
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        succeeds(Command::new("fsfreeze").arg("-u").arg(self.0.path()));
    }
}

/// The answer of the status page, without its head.
fn ask(home: &Home, path: &str) -> (u16, String) {
    let log = home.log();
    let address = log.split("the status page is on http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let mut page = TcpStream::connect(address).unwrap();
    write!(page, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    page.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// B6: a disk that answers nothing is told of within seconds, and readings go on from memory.
#[test]
fn a_disk_that_hangs_is_told_of_and_passed_by() {
    if !support::needs(&["root", "mkfs.ext4", "fsfreeze"]) {
        return;
    }
    let (device, server) = (Device::counting(13), Server::start());
    let home = home_of_many_segments(&server, &device);
    let image = home.path().join("disk");
    fs::File::create(&image).unwrap().set_len(24 << 20).unwrap();
    let made = succeeds(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
    let mounted = Mounted::at(&cache_of(&home), &["-o", "loop", image.to_str().unwrap()]);
    let Some(disk) = mounted.filter(|_| made) else { return };
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    assert_eq!(ask(&home, "/-/healthy"), (200, "healthy\n".to_owned()));
    let Some(frozen) = Frozen::new(&disk) else { return };
    let since = Instant::now();
    agent.until("a word", || home.says("has not answered for"));
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    let (status, why) = ask(&home, "/-/healthy");
    assert!(status == 503 && why.contains("hangs"), "{status} {why}");
    let arrived = server.row_count();
    agent.until("readings past the disk", || server.row_count() > arrived + 20_000);
    drop(frozen);
    agent.until("a word", || home.says("takes readings again"));
    agent.until("health", || ask(&home, "/-/healthy").0 == 200);
    everything_arrives(&mut agent, &device, &server);
    agent.stop();
    assert!(!home.says("LOST"), "{}", home.log());
}

#[test]
fn a_cache_directory_that_was_deleted_is_made_anew() {
    let (device, server) = (Device::counting(14), Server::start());
    let home = home_with(&server, &device);
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    server.stop();
    polls_go_on(&mut agent, &device, 10);
    let delivered = server.row_count();
    fs::remove_dir_all(home.spool()).unwrap();
    agent.until("batches on disk again", || home.spooled().len() > 4);
    server.come_back();
    // What was deleted is open still.
    everything_arrives(&mut agent, &device, &server);
    assert!(server.row_count() > delivered);
    agent.stop();
    assert!(!home.says("LOST"), "{}", home.log());
}
