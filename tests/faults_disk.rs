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

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::PATIENCE;
use support::agent::{Agent, HOSTNAME, Home};
use support::device::{Device, Mode as DeviceMode};
use support::judge::judge;
use support::server::Server;

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

fn logged(home: &Home) -> String {
    fs::read_to_string(home.path().join("log/pattoo.log")).unwrap_or_default()
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

/// Where the batches are, oldest first.
fn batches(home: &Home) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.spool()).unwrap().map(|entry| entry.unwrap().path());
    let mut batches: Vec<_> = entries.filter(|path| path.extension().is_some_and(|kind| kind == "json")).collect();
    batches.sort();
    batches
}

/// A file system that is mounted in the place of the cache directory, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn below(home: &Home, arguments: &[&str]) -> Option<Self> {
        let cache = home.path().join("cache");
        fs::create_dir_all(&cache).unwrap();
        let mounted = Self(cache);
        let possible = mounted.mount(arguments);
        if !possible {
            support::skipped(&format!("mount {arguments:?} is not possible"));
        }
        possible.then_some(mounted)
    }

    fn mount(&self, arguments: &[&str]) -> bool {
        succeeds(Command::new("mount").args(arguments).arg(&self.0))
    }

    /// Takes it away from its place; who is in it stays in it.
    fn pull(&self) -> bool {
        succeeds(Command::new("umount").arg("-l").arg(&self.0))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.pull();
    }
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
    let Some(disk) = Mounted::below(&home, &mount).filter(|_| made) else { return };
    server.stop();
    for cut in 0..10 {
        let mut agent = home.run();
        polls_go_on(&mut agent, &device, 3 + cut % 4);
        // What is there under its name when the spool's thread has no work was promised, the last of them too.
        let promised = batches(&home);
        agent.until("the spool's thread to rest", || rests(&home, "spool"));
        agent.freeze();
        let promised: BTreeMap<PathBuf, Vec<u8>> =
            promised.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        // From now on nothing reaches the disk, not even the journal: EXT4_IOC_SHUTDOWN without a flush.
        let shutdown = "open(my $d, '<', $ARGV[0]) or exit 1; my $how = pack('L', 2); \
                        defined ioctl($d, 0x8004587d, $how) or exit 1";
        if !succeeds(Command::new("perl").args(["-e", shutdown]).arg(&disk.0)) {
            return support::skipped("perl or this kernel does not shut down a file system");
        }
        agent.thaw();
        agent.sigkill();
        unmount(&disk);
        assert!(disk.mount(&mount), "the journal is played back");
        for (path, content) in promised {
            assert!(fs::read(&path).is_ok_and(|now| now == content), "{} is lost or torn", path.display());
        }
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
    assert_eq!(home.quarantined(), 0, "no name stood for half a batch");
}

/// Whether this thread of the agent waits for others.
fn rests(home: &Home, thread: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", home.pid().unwrap().as_raw_nonzero())).unwrap();
    let text = |task: &Path, file: &str| fs::read_to_string(task.join(file)).unwrap_or_default();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let task = tasks.find(|task| text(task, "comm").trim() == thread).expect("a thread of this name");
    text(&task, "wchan").contains("futex")
}

/// Takes it away for good: nobody is in it any more.
fn unmount(disk: &Mounted) {
    support::until("the file system to be free", || succeeds(Command::new("umount").arg(&disk.0)));
}

#[test]
fn without_a_free_inode_readings_go_to_the_server_from_memory() {
    let (device, server) = (Device::counting(2), Server::start());
    let home = home_with(&server, &device);
    let options = ["-t", "tmpfs", "-o", "size=16m,nr_inodes=40,mode=0750", "few-inodes"];
    let Some(disk) = Mounted::below(&home, &options) else { return };
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    let mut taken: Vec<PathBuf> = Vec::new();
    agent.until("a word", || {
        // More than once: a batch that is on the disk just now gives its inode back.
        let more = (taken.len()..).map(|number| disk.0.join(format!("taken{number}")));
        taken.extend(more.take_while(|path| fs::write(path, "").is_ok()));
        logged(&home).contains("No space left on device")
    });
    assert!(taken.len() < 40);
    let arrived = server.row_count();
    agent.until("readings past the disk", || server.row_count() > arrived + 20);
    server.stop();
    polls_go_on(&mut agent, &device, 20);
    for path in &taken {
        fs::remove_file(path).unwrap();
    }
    agent.until("batches on disk again", || home.spooled().len() > 4);
    server.come_back();
    everything_arrives(&mut agent, &device, &server);
    assert!(!logged(&home).contains("gave way"), "nothing had to");
    agent.stop();
}

#[test]
fn a_batch_that_the_disk_reads_again_is_delivered_and_one_that_it_never_reads_is_set_aside() {
    if !support::needs(&["strace"]) {
        return;
    }
    for (inject, lost) in [("read:error=EIO:when=1..2", 0), ("read:error=EIO", 1)] {
        let (device, server) = (Device::counting(3), Server::start());
        let home = home_with(&server, &device);
        outage(&home, &device, &server);
        let unreadable = batches(&home)[2].clone();
        let content = fs::read(&unreadable).unwrap();
        let mut agent = run_injected(&home, &[inject], &[&unreadable]);
        agent.until("what is readable to arrive", || server.row_count() > 8 && home.spooled().is_empty());
        stop_below_strace(&home, &mut agent);
        let mut database = server.database();
        judge(&[&device], database.rows()).assert_true();
        database.assert_sound();
        assert_eq!(home.quarantined(), lost, "{}", logged(&home));
        let rows = database.rows().len();
        if lost > 0 {
            let aside = home.spool().join("quarantine").join(unreadable.file_name().unwrap());
            assert_eq!(fs::read(aside).unwrap(), content, "kept untouched");
            assert!(logged(&home).contains("the disk cannot read it"));
        } else {
            database.ingest(&content);
            assert_eq!(database.rows().len(), rows);
        }
    }
}

#[test]
fn what_is_below_the_cache_is_not_written_to_when_its_disk_is_pulled() {
    let (device, server) = (Device::counting(4), Server::start());
    let home = home_with(&server, &device);
    let Some(disk) = Mounted::below(&home, &["-t", "tmpfs", "-o", "size=16m,mode=0750", "stick"]) else {
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
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 0, "below the mount point");
}

#[test]
fn a_disk_that_takes_seconds_for_each_batch_delays_no_poll_and_loses_none() {
    if !support::needs(&["strace"]) {
        return;
    }
    let (device, server) = (Device::counting(5), Server::start());
    let home = home_with(&server, &device);
    let mut agent = run_injected(&home, &["fsync:delay_enter=1500000:when=9..11"], &[]);
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
    let mut damaged = BTreeMap::new();
    for life in 1..=4 {
        outage(&home, &device, &server);
        for path in batches(&home) {
            fs::write(&path, format!("damage of life {life}")).unwrap();
            damaged.insert(path.file_name().unwrap().to_owned(), fs::read(&path).unwrap());
        }
        let mut agent = home.run();
        agent.until("all of them aside", || home.quarantined() == damaged.len());
        polls_go_on(&mut agent, &device, 3);
        agent.stop();
    }
    let kept = fs::read_dir(home.spool().join("quarantine")).unwrap().map(|entry| entry.unwrap());
    let kept: BTreeMap<_, _> = kept.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect();
    assert_eq!(kept, damaged, "each of them, as it was found");
    let mut agent = home.run();
    let told = format!("{} files are kept in", damaged.len());
    agent.until("a word about them", || logged(&home).contains(&told));
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
    let mut agent = run_injected(&home, &["fsync:error=EINVAL"], &[]);
    agent.until("a word", || logged(&home).contains("cannot fsync"));
    let arrived = server.row_count();
    agent.until("readings all the same", || server.row_count() > arrived + 20);
    assert!(home.spooled().is_empty(), "nothing on disk that may not be there after a power cut");
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
    let Some(_disk) = Mounted::below(&home, &["-t", "overlay", "-o", &options, "overlay"]) else { return };
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    assert!(logged(&home).contains("(overlayfs) is a container's own layer"), "{}", logged(&home));
    agent.stop();
}
