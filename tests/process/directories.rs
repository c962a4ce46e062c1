//! Modes, owners, and what others may have planted.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Signal, kill_process};

use super::support::device::Device;
use super::support::server::Server;
use super::support::{PATIENCE, needs, skipped};
use super::{home_with, log_file, logged, run_by_shell};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn everything_below(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(everything_below(&path));
        }
        all.push(path);
    }
    all
}

/// Without `pattoo.yaml`, and without a server.
#[test]
fn a_service_without_pattoo_finds_its_directories() {
    if !needs(&["root", "unshare", "mount"]) {
        return;
    }
    let (device, server) = (Device::counting(61), Server::start());
    let home = home_with(&server, &device);
    let file = home.config_dir().join("pattoo_agent_modbustcpd.yaml");
    let agent = format!("outputs: [sqlite]\n{}", fs::read_to_string(&file).unwrap());
    fs::write(file, agent).unwrap();
    fs::remove_file(home.config_dir().join("pattoo.yaml")).unwrap();
    // What it makes is found here afterwards, and not on this machine.
    let places = ["/var/lib", "/var/log", "/run"];
    let seen = places.map(|place| home.path().join(place.trim_start_matches('/')));
    let over = places.iter().zip(&seen).map(|(place, seen)| {
        fs::create_dir_all(seen).unwrap();
        format!("mount --bind {} {place} && ", seen.display())
    });
    let script = over.collect::<Vec<_>>().concat() + r#"exec "$0" "$@""#;
    let mut agent = home.run_under("unshare", &["--mount", "sh", "-c", &script].map(ToOwned::to_owned));
    let database = seen[0].join("pattoo/daemon/readings.sqlite");
    let rows = || {
        let opened = rusqlite::Connection::open_with_flags(&database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY);
        opened.and_then(|opened| opened.query_row("SELECT count(*) FROM history", (), |row| row.get::<_, i64>(0)))
    };
    agent.until("rows", || rows().is_ok_and(|rows| rows > 0));
    agent.stop();
    let [lib, log, run] = seen;
    for made in [lib.join("pattoo/cache"), log.join("pattoo/pattoo.log"), run.join("pattoo")] {
        assert!(made.exists(), "{}", made.display());
    }
}

#[test]
fn modes_are_the_same_whatever_the_umask() {
    for umask in ["0", "0777", "0077"] {
        let (device, server) = (Device::counting(60), Server::start());
        let home = home_with(&server, &device);
        let mut agent = run_by_shell(&home, &format!(r#"umask {umask}; exec "$0" "$@""#));
        agent.until("readings to arrive", || server.row_count() > 0);
        server.stop();
        agent.until("a batch on disk", || !home.spooled().is_empty());
        let mut seen = 0;
        for path in ["cache", "daemon", "log", "run"].iter().flat_map(|name| everything_below(&home.path().join(name)))
        {
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let socket = path.extension().is_some_and(|extension| extension == "sock");
            let lock = path.file_name().is_some_and(|name| name.to_string_lossy().contains("lock"));
            let secret = socket || lock || path.parent().unwrap().ends_with("agent_id");
            let expected = if metadata.is_dir() {
                0o750
            } else if secret {
                0o600
            } else {
                0o640
            };
            let mode = metadata.permissions().mode() & 0o7777;
            // A batch that is being written gets its mode a moment after its name.
            let fine = mode == expected || path.extension().is_some_and(|extension| extension == "tmp");
            assert!(fine, "umask {umask}: {} is {mode:o}", path.display());
            seen += 1;
        }
        assert!(seen > 10, "{seen}");
        for name in ["cache", "daemon", "log", "run"] {
            assert_eq!(fs::metadata(home.path().join(name)).unwrap().permissions().mode() & 0o7777, 0o750, "{name}");
        }
        agent.stop();
    }
}

#[test]
fn what_is_planted_as_pid_lock_or_log_file_is_neither_followed_nor_waited_for() {
    let files = ["run/pid/pattoo_agent_modbustcpd.pid", "run/lock/pattoo_agent_modbustcpd.flock", "log/pattoo.log"];
    for file in files {
        for kind in ["link", "hard link", "fifo"] {
            let (device, server) = (Device::counting(61), Server::start());
            let home = home_with(&server, &device);
            let (path, victim) = (home.path().join(file), home.path().join("victim"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&victim, "untouched").unwrap();
            match kind {
                "link" => symlink(&victim, &path).unwrap(),
                "hard link" => fs::hard_link(&victim, &path).unwrap(),
                _ => mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
            }
            if file.starts_with("log") {
                let mut agent = home.run();
                agent.until("readings to arrive", || server.row_count() > 0);
                agent.stop();
                assert!(agent.log().contains("no log file in"), "{kind}: {}", agent.log());
            } else {
                // A FIFO that nobody writes to would be waited for for ever.
                let end = home.output(&["run", "--config_dir", home.config_dir().to_str().unwrap()]);
                assert_eq!(end.code, Some(1), "{file} {kind}: {}", end.stderr);
                assert!(end.stderr.contains("is no file of its own"), "{}", end.stderr);
            }
            assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{file} {kind}");
        }
    }
}

#[test]
fn what_is_planted_as_the_cache_of_an_agent_is_not_followed_and_the_error_says_what_to_do() {
    type Plant = fn(&Path, &Path);
    let planted: [(&str, Plant); 3] = [
        ("is a symbolic link to", |elsewhere, cache| symlink(elsewhere, cache).unwrap()),
        ("is a file or a link to nothing", |_, cache| fs::write(cache, "").unwrap()),
        ("is a file or a link to nothing", |_, cache| symlink("/nowhere", cache).unwrap()),
    ];
    for (what, plant) in planted {
        let (device, server) = (Device::counting(65), Server::start());
        let home = home_with(&server, &device);
        home.write_agent_id(ID);
        let (cache, elsewhere) = (home.path().join("cache").join(ID), home.path().join("elsewhere"));
        fs::create_dir(&elsewhere).unwrap();
        fs::create_dir(cache.parent().unwrap()).unwrap();
        plant(&elsewhere, &cache);
        let end = home.output(&["run", "--config_dir", home.config_dir().to_str().unwrap()]);
        assert_eq!(end.code, Some(1), "{}", end.stderr);
        for said in [cache.to_str().unwrap(), what, "remove it"] {
            assert!(end.stderr.contains(said), "{said}: {}", end.stderr);
        }
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "nothing was written there");
    }
}

#[test]
fn a_directory_that_others_can_write_to_is_refused_with_77_and_for_the_log_warned_of() {
    for (name, refused) in [
        ("run/lock", true),
        ("run/pid", true),
        ("daemon/agent_id", true),
        ("cache", true),
        (&format!("cache/{ID}"), true),
        ("log", false),
    ] {
        for foreign in [false, true] {
            if foreign && !needs(&["root"]) {
                continue;
            }
            let (device, server) = (Device::counting(62), Server::start());
            let home = home_with(&server, &device);
            home.write_agent_id(ID);
            let directory = home.path().join(name);
            fs::create_dir_all(&directory).unwrap();
            if foreign {
                chown(&directory, Some(65_534), None).unwrap();
            } else {
                fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).unwrap();
            }
            if refused {
                let end = home.output(&["run", "--config_dir", home.config_dir().to_str().unwrap()]);
                assert_eq!(end.code, Some(77), "{name}: {}", end.stderr);
                let told = if foreign { "belongs to user 65534" } else { "by every user" };
                assert!(end.stderr.contains(told), "{}", end.stderr);
            } else {
                let mut agent = home.run();
                agent.until("readings to arrive", || server.row_count() > 0);
                agent.stop();
                assert!(logged(&home).contains("run ch"), "{}", logged(&home));
            }
        }
    }
}

/// Somebody who may read what the agent has left, and locks it in every way that takes no more than that.
struct Reader(Child);

impl Reader {
    fn locks(files: &[&Path]) -> Self {
        let mut reader = Command::new("setpriv");
        reader.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        for file in files {
            reader.arg("flock").arg(file);
        }
        reader.args(["sh", "-c", "echo held; exec cat"]);
        let mut reader = reader.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(reader.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n", "the reader holds {files:?}");
        Self(reader)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// C6: an agent is kept out by an agent, never by somebody who may only read its files.
#[test]
fn a_reader_who_locks_what_the_agent_has_left_keeps_it_from_nothing() {
    if !needs(&["root", "setpriv"]) {
        return;
    }
    let (device, server) = (Device::counting(66), Server::start());
    let home = home_with(&server, &device);
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    agent.stop();
    // As an earlier release and a careless hand leave it: everybody may look, nobody else may write.
    let cache = home.spool();
    let directories = ["run/lock", "run", "daemon/agent_id", "daemon", "cache", ""].map(|name| home.path().join(name));
    for directory in directories.iter().chain([&cache]) {
        fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let files: Vec<PathBuf> = everything_below(home.path())
        .into_iter()
        .filter(|path| {
            path.extension().is_some_and(|extension| extension == "lock" || extension == "flock")
                || path.ends_with("lock")
        })
        .filter(|path| path.is_file())
        .collect();
    assert!(files.len() >= 3, "{files:?}, of the agent, of its cache, of its id");
    for file in &files {
        fs::set_permissions(file, PermissionsExt::from_mode(0o644)).unwrap();
    }
    let all: Vec<&Path> = files.iter().chain(&directories).chain([&cache]).map(PathBuf::as_path).collect();
    let reader = Reader::locks(&all);
    let arrived = server.row_count();
    let mut agent = home.run();
    agent.until("readings to arrive beside the reader", || server.row_count() > arrived);
    let second = home.output(&["run", "--config_dir", home.config_dir().to_str().unwrap()]);
    assert_eq!(second.code, Some(75), "an agent is kept out: {}", second.stderr);
    drop(reader);
    agent.stop();
    for file in &files {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn a_cache_in_memory_is_warned_of_at_the_start() {
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
        return skipped("there is no /dev/shm");
    };
    let (device, server) = (Device::counting(63), Server::start());
    let home = home_with(&server, &device);
    let file = home.config_dir().join("pattoo.yaml");
    let cache = |directory: &Path| format!("cache_directory: {}", directory.display());
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(&cache(&home.path().join("cache")), &cache(memory.path()))).unwrap();
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    agent.stop();
    assert!(logged(&home).contains("(tmpfs) is in memory"), "{}", logged(&home));
}

#[test]
fn an_abort_leaves_no_core_file() {
    let (device, server) = (Device::counting(64), Server::start());
    let home = home_with(&server, &device);
    let mut agent = run_by_shell(&home, r#"ulimit -c unlimited; "$0" "$@"; exit 7"#);
    agent.until("readings to arrive", || server.row_count() > 0);
    kill_process(home.pid().unwrap(), Signal::ABORT).unwrap();
    assert_eq!(agent.wait(PATIENCE), Some(7));
    assert!(!agent.log().contains("core dumped"), "{}", agent.log());
    assert!(agent.log().contains("Abort"), "the shell tells: {}", agent.log());
    assert!(log_file(&home).exists());
}
