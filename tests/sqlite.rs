//! The output `sqlite` in the real binary: what is in the database while others read it, lock it and fill its disk, and after kills.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::{Connection, OpenFlags};
use support::agent::{Agent, HOSTNAME, Home};
use support::device::{Device, Mode, Table};
use support::judge::{Arrival, Verdict, weigh};
use support::mounted::Mounted;
use support::now_ms;
use support::server::Server;

/// What a kill may cost: readings that are not gathered yet (50 ms), and those on their way to the disk of a busy machine.
const LOST_BY_A_KILL_MS: u64 = 50 + 1_000;

/// An agent with no output but this one, and no other key than this for it.
fn home_of(server: &Server, device: &Device, output: &str) -> Home {
    let home = Home::new(server.address());
    home.write_config(&format!(
        "polling_interval: 100ms\nflush_interval: 20ms\nagent_hostname: {HOSTNAME}\noutputs: [{output}]\npolling_groups:\n  \
         - {{group_name: meters, tags: {{hall: 3}}, ip_devices: ['{}'], unit: 1, input_registers: [30001-30010], holding_registers: \
         [{{address: 40101, multiplier: 0}}]}}\n",
        device.target()
    ));
    home
}

fn file(home: &Home) -> PathBuf {
    home.path().join("daemon/readings.sqlite")
}

/// What another program finds, in order of time.
fn arrivals(path: &Path) -> Vec<Arrival> {
    let Ok(database) = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY) else { return Vec::new() };
    // Before the first post there is no table.
    let Ok(mut history) = database.prepare("SELECT unit, key, value, ms FROM history ORDER BY ms") else {
        return Vec::new();
    };
    let arrival = |row: &rusqlite::Row<'_>| {
        let (table, address) = Table::of_key(&row.get::<_, String>(1)?).unwrap();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what a register holds")]
        let word = match row.get(2)? {
            rusqlite::types::Value::Integer(word) if table == Table::Holding => u16::try_from(word).unwrap(),
            rusqlite::types::Value::Real(word) if table == Table::Input => word as u16,
            other => panic!("{other:?}"),
        };
        Ok(Arrival { unit: row.get(0)?, table, address, word, timestamp: row.get::<_, i64>(3)?.unsigned_abs() })
    };
    history.query_map((), arrival).unwrap().map(Result::unwrap).collect()
}

/// The rows that a query gives, as text.
fn rows(path: &Path, sql: &str) -> Vec<String> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut statement = database.prepare(sql).unwrap();
    let columns = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| {
        let cells = (0..columns).map(|column| row.get::<_, rusqlite::types::Value>(column).unwrap());
        Ok(cells.map(|cell| format!("{cell:?}")).collect::<Vec<_>>().join(" "))
    };
    statement.query_map((), row).unwrap().map(Result::unwrap).collect()
}

fn judged(device: &Device, path: &Path) -> Verdict {
    let mut verdict = Verdict::default();
    // Read before what was served is: no row can be older than the answer that explains it.
    let arrivals = arrivals(path);
    weigh(device, &device.served(), &arrivals, &[], &mut verdict);
    verdict
}

/// Lets what was served arrive; nothing more comes.
fn everything_arrives(agent: &mut Agent, device: &Device, path: &Path) {
    device.set(Mode::Silent);
    agent.until("every reading in the database", || judged(device, path).lost.is_empty());
    judged(device, path).assert_complete();
}

/// Lets what was served arrive, but for what a kill at one of these times may have cost; nothing is double or out of order.
fn everything_but(agent: &mut Agent, device: &Device, path: &Path, allowed: &[Range<u64>]) {
    device.set(Mode::Silent);
    agent.until("every reading that was on disk", || {
        let lost = judged(device, path).lost;
        lost.iter().all(|(at, _)| allowed.iter().any(|kill| kill.contains(at)))
    });
    judged(device, path).assert_true();
}

fn some_more(agent: &mut Agent, device: &Device, path: &Path) {
    let before = arrivals(path).len();
    agent.until("some more readings", || arrivals(path).len() > before + 50);
    assert!(device.served_count() > 0);
}

#[test]
fn without_a_server_everything_is_in_a_database_that_others_read_meanwhile() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = home_of(&server, &device, "sqlite");
    let mut agent = home.run();
    let path = file(&home);
    some_more(&mut agent, &device, &path);
    if support::needs(&["sqlite3"]) {
        let sql =
            "SELECT count(*), min(name), max(group_name), typeof(max(value)) FROM history WHERE key LIKE 'holding%'";
        let cli = Command::new("sqlite3").args(["-readonly", "-separator", "|"]).arg(&path).arg(sql).output().unwrap();
        let said = String::from_utf8(cli.stdout).unwrap();
        let (count, rest) = said.trim().split_once('|').unwrap_or_else(|| panic!("{said:?} {:?}", cli.stderr));
        assert!(count.parse::<u32>().unwrap() > 3, "{said}");
        assert_eq!(rest, "holding_register_40101|meters|integer");
    }
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/outputs.md")).unwrap();
    let queries = page.split("```sql\n").nth(1).unwrap().split("\n```").next().unwrap();
    let queries: Vec<&str> = queries.split(';').filter(|query| !query.trim().is_empty()).collect();
    assert_eq!(queries.len(), 4, "{queries:?}");
    for query in queries {
        assert!(!rows(&path, query).is_empty(), "{query}");
        let plan = rows(&path, &query.replacen("SELECT", "EXPLAIN QUERY PLAN SELECT", 1));
        let is_found = |step: &String| step.contains("SEARCH readings USING PRIMARY KEY (point=? AND ms>?)");
        assert!(plan.iter().any(is_found), "{query}: {plan:?}");
    }
    everything_arrives(&mut agent, &device, &path);
    agent.stop();
    assert!(agent.log().contains("stopped; everything is delivered or on disk"));
    assert_eq!(server.post_count(), 0);
    let left: Vec<_> =
        std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().any(|name| name == "readings.sqlite"), "{left:?}");
}

#[test]
fn kills_cost_what_was_not_on_disk_yet_and_double_nothing() {
    let (device, server) = (Device::counting(2), Server::start());
    let home = home_of(&server, &device, "sqlite");
    let path = file(&home);
    let mut allowed = Vec::new();
    for life in 0..6 {
        let (mut agent, before) = (home.run(), arrivals(&path).len());
        agent.until("readings of this life", || arrivals(&path).len() > before + 20 + 7 * life);
        let killed_at = now_ms();
        agent.sigkill();
        allowed.push(killed_at - LOST_BY_A_KILL_MS..now_ms());
    }
    let (mut agent, started_at) = (home.run(), now_ms());
    agent.until("the last life", || arrivals(&path).last().is_some_and(|last| last.timestamp > started_at));
    everything_but(&mut agent, &device, &path, &allowed);
    agent.stop();
    let verdict = judged(&device, &path);
    assert!(verdict.arrived > 200, "{verdict:?}");
    let count: i64 =
        Connection::open(&path).unwrap().query_row("SELECT count(*) FROM points", (), |row| row.get(0)).unwrap();
    assert_eq!(count, 11, "a point is there once");
}

#[test]
fn a_database_that_is_locked_costs_nothing_but_time() {
    let (device, server) = (Device::counting(3), Server::start());
    let home = home_of(&server, &device, "{type: sqlite, name: local, max_backoff: 1s}");
    let path = file(&home);
    let mut agent = home.run();
    some_more(&mut agent, &device, &path);
    let other = Connection::open(&path).unwrap();
    agent.until("a lock", || other.execute_batch("BEGIN EXCLUSIVE").is_ok());
    agent.until("a line in the log", || agent_says(&home, "another program holds it, end its transaction"));
    let before = device.served_count();
    agent.until("polls that go on", || device.served_count() > before + 10);
    other.execute_batch("COMMIT").unwrap();
    everything_arrives(&mut agent, &device, &path);
    agent.stop();
    assert!(agent.log().contains("cannot write to "));
}

/// A configuration whose database is on a disk of its own, below `disk`.
fn on_a_disk(server: &Server, device: &Device) -> (Home, PathBuf) {
    let home = home_of(server, device, "{type: sqlite, path: DISK/readings.sqlite, max_backoff: 1s}");
    let disk = home.path().join("disk");
    let config = home.config_dir().join("pattoo_agent_modbustcpd.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(config, text.replace("DISK", disk.to_str().unwrap())).unwrap();
    (home, disk)
}

#[test]
fn a_full_disk_costs_no_reading_and_room_is_enough_to_go_on() {
    let (device, server) = (Device::counting(4), Server::start());
    let (home, disk) = on_a_disk(&server, &device);
    let path = disk.join("readings.sqlite");
    let Some(disk) = Mounted::at(&disk, &["-t", "tmpfs", "-o", "size=4m,mode=0750", "small"]) else { return };
    let mut agent = home.run();
    some_more(&mut agent, &device, &path);
    let ballast = disk.path().join("ballast");
    agent.until("a line in the log", || {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&ballast).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
        agent_says(&home, "database or disk is full; make room on its disk")
    });
    let before = device.served_count();
    agent.until("polls that go on", || device.served_count() > before + 20);
    std::fs::remove_file(&ballast).unwrap();
    everything_arrives(&mut agent, &device, &path);
    agent.stop();
    assert_eq!(rows(&path, "PRAGMA integrity_check"), ["Text(\"ok\")"]);
}

#[test]
fn a_disk_that_is_read_only_is_told_and_taken_when_it_is_not() {
    let (device, server) = (Device::counting(5), Server::start());
    let (home, disk) = on_a_disk(&server, &device);
    let path = disk.join("readings.sqlite");
    let Some(disk) = Mounted::at(&disk, &["-t", "tmpfs", "-o", "ro,size=4m,mode=0750", "small"]) else { return };
    let mut agent = home.run();
    agent
        .until("a line in the log", || agent_says(&home, "cannot open it: Read-only file system (os error 30); check"));
    let before = device.served_count();
    agent.until("polls that go on", || device.served_count() > before + 20);
    assert!(disk.mount(&["-o", "remount,rw"]));
    everything_arrives(&mut agent, &device, &path);
    agent.stop();
}

#[test]
fn what_others_have_seen_in_it_is_there_after_a_power_cut() {
    if !support::needs(&["root", "mkfs.ext4", "perl"]) {
        return;
    }
    let (device, server) = (Device::counting(6), Server::start());
    let (home, disk) = on_a_disk(&server, &device);
    let path = disk.join("readings.sqlite");
    let image = home.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(24 << 20).unwrap();
    assert!(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image).status().unwrap().success());
    let mount = ["-o", "loop", image.to_str().unwrap()];
    let Some(disk) = Mounted::at(&disk, &mount) else { return };
    let mut allowed = Vec::new();
    for _ in 0..8 {
        let mut agent = home.run();
        some_more(&mut agent, &device, &path);
        // Nothing is acknowledged that is not on disk, and nothing is seen that is not.
        let seen = arrivals(&path);
        if !disk.cut_the_power() {
            return support::skipped("perl or this kernel does not shut down a file system");
        }
        let killed_at = now_ms();
        agent.sigkill();
        allowed.push(killed_at - LOST_BY_A_KILL_MS..now_ms());
        disk.unmount();
        assert!(disk.mount(&mount), "the journal is played back");
        let left = arrivals(&path);
        assert!(seen.iter().all(|reading| left.contains(reading)), "{} were seen, {} are left", seen.len(), left.len());
    }
    let mut agent = home.run();
    some_more(&mut agent, &device, &path);
    everything_but(&mut agent, &device, &path, &allowed);
    agent.stop();
    assert_eq!(rows(&path, "PRAGMA integrity_check"), ["Text(\"ok\")"]);
}

fn agent_says(home: &Home, words: &str) -> bool {
    std::fs::read_to_string(home.path().join("log/pattoo.log")).is_ok_and(|text| text.contains(words))
}
