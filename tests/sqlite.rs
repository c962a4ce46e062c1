//! The output `sqlite` in the real binary: what is in the database while others read it, lock it and fill its disk, and after kills.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use support::agent::{HOSTNAME, Home};
use support::destination::{Destination, kill};
use support::device::{Device, Table};
use support::judge::Arrival;
use support::mounted::Mounted;
use support::now_ms;
use support::server::Server;

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

impl Destination for Path {
    fn arrivals(&self) -> Vec<Arrival> {
        // Before the first post there is no table.
        read(self).unwrap_or_default()
    }
}

/// What another program finds, in order of time.
fn read(path: &Path) -> rusqlite::Result<Vec<Arrival>> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut history = database.prepare("SELECT unit, key, value, ms FROM history ORDER BY ms")?;
    let arrival = |row: &rusqlite::Row<'_>| {
        let key: String = row.get(1)?;
        let word = match (Table::of_key(&key).unwrap().0, row.get(2)?) {
            (Table::Holding, Value::Integer(word)) => f64::from(u16::try_from(word).unwrap()),
            (Table::Input, Value::Real(word)) => word,
            other => panic!("{other:?}"),
        };
        Ok(Arrival::new(row.get(0)?, &key, word, row.get::<_, i64>(3)?.unsigned_abs()).unwrap())
    };
    history.query_map((), arrival)?.collect()
}

/// The rows that a query gives, as text.
fn rows(path: &Path, sql: &str) -> Vec<String> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut statement = database.prepare(sql).unwrap();
    let columns = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| {
        let cells = (0..columns).map(|column| row.get::<_, Value>(column).unwrap());
        Ok(cells.map(|cell| format!("{cell:?}")).collect::<Vec<_>>().join(" "))
    };
    statement.query_map((), row).unwrap().map(Result::unwrap).collect()
}

#[test]
fn without_a_server_everything_is_in_a_database_that_others_read_meanwhile() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = home_of(&server, &device, "sqlite");
    let mut agent = home.run();
    let path = file(&home);
    path.gets(&mut agent, 50);
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
    path.gets_everything(&mut agent, &device);
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
    let mut kills = Vec::new();
    for life in 0..6 {
        let mut agent = home.run();
        path.gets(&mut agent, 20 + 7 * life);
        kills.push(kill(&mut agent));
    }
    let (mut agent, started_at) = (home.run(), now_ms());
    path.gets_one_after(&mut agent, started_at);
    path.gets_everything_but(&mut agent, &device, &kills);
    agent.stop();
    let verdict = path.judged(&device);
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
    path.gets(&mut agent, 50);
    let other = Connection::open(&path).unwrap();
    agent.until("a lock", || other.execute_batch("BEGIN EXCLUSIVE").is_ok());
    agent.until("a line in the log", || home.says("another program holds it, end its transaction"));
    let before = device.served_count();
    agent.until("polls that go on", || device.served_count() > before + 10);
    other.execute_batch("COMMIT").unwrap();
    path.gets_everything(&mut agent, &device);
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
    path.gets(&mut agent, 50);
    let ballast = disk.path().join("ballast");
    agent.until("a line in the log", || {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&ballast).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
        home.says("database or disk is full; make room on its disk")
    });
    let before = device.served_count();
    agent.until("polls that go on", || device.served_count() > before + 20);
    std::fs::remove_file(&ballast).unwrap();
    path.gets_everything(&mut agent, &device);
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
    agent.until("a line in the log", || home.says("cannot open it: Read-only file system (os error 30); check"));
    let before = device.served_count();
    agent.until("polls that go on", || device.served_count() > before + 20);
    assert!(disk.mount(&["-o", "remount,rw"]));
    path.gets_everything(&mut agent, &device);
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
    let mut kills = Vec::new();
    for _ in 0..8 {
        let mut agent = home.run();
        path.gets(&mut agent, 50);
        // Nothing is acknowledged that is not on disk, and nothing is seen that is not.
        let seen = path.arrivals();
        if !disk.cut_the_power() {
            return support::skipped("perl or this kernel does not shut down a file system");
        }
        kills.push(kill(&mut agent));
        disk.unmount();
        assert!(disk.mount(&mount), "the journal is played back");
        let left = read(&path).unwrap();
        assert!(seen.iter().all(|reading| left.contains(reading)), "{} were seen, {} are left", seen.len(), left.len());
    }
    let mut agent = home.run();
    path.gets(&mut agent, 50);
    path.gets_everything_but(&mut agent, &device, &kills);
    agent.stop();
    assert_eq!(rows(&path, "PRAGMA integrity_check"), ["Text(\"ok\")"]);
}
