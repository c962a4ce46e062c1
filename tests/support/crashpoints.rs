//! The agent ended at one system call after another, and what its next life makes of what is left.
//!
//! A *point* is a scene, a system call and a number N: the scene is played with the real binary under strace,
//! which kills the agent on entry to the N-th such call of any of its threads, or makes that call fail once
//! with an error. Then the agent is started again with nothing in its way, and arithmetic says whether
//! whatever was on disk or delivered at the moment of death is in the database, once and in order.
//! A scene whose N is never reached was played to its end: then all points of that call are tried.
//!
//! strace counts N for each thread by itself, and file-system calls of the queue are all made by one thread,
//! so N = 1, 2, 3 … visits each of them. The runtime wakes its threads by `write`, and no error of a disk comes of that: there only
//! writes to files are struck, and in [`Scene::SetAside`], which waits for a search, only these too. What a power cut does to what was not fsynced, [`powercut`] works out.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use super::agent::{Agent, Home};
use super::device::Device;
use super::judge::judge;
use super::server::{Database, Mode, Row, Server};
use super::{PATIENCE, archives, powercut, python, spool};

/// The series that the server of [`Scene::SetAside`] refuses.
const REFUSED: &str = "input_register_30002";

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The system calls by which anything can be lost.
pub const CALLS: [&str; 15] = [
    "open",
    "openat",
    "write",
    "pread64",
    "pwrite64",
    "ftruncate",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "sendto",
];

/// What the disk can say instead of obeying.
const DISK_ERRORS: [&str; 7] = ["ENOSPC", "EIO", "EACCES", "EMFILE", "EROFS", "EDQUOT", "EFBIG"];

/// What the network can say: broken, closed, no memory, forbidden by a filter, no way.
const NETWORK_ERRORS: [&str; 6] = ["ECONNRESET", "EPIPE", "ENOBUFS", "EACCES", "EPERM", "EHOSTUNREACH"];

/// What a call can say instead of obeying.
pub fn errors(call: &str) -> &'static [&'static str] {
    if call == "sendto" { &NETWORK_ERRORS } else { &DISK_ERRORS }
}

/// What the agent writes by `write`, below its home.
const WRITTEN: [&str; 8] = [
    "archive.jsonl",
    "log/pattoo.log",
    "run/pid/pattoo_agent_modbustcpd.pid",
    "daemon/agent_id/pattoo_agent_modbustcpd.agent_id.tmp",
    "daemon/agent_id/pattoo_agent_modbustcpd.agent_id.copy.tmp",
    "daemon/agent_id/pattoo_agent_modbustcpd.hostname.tmp",
    "daemon/agent_id/pattoo_agent_modbustcpd.hostname.copy.tmp",
    "daemon/agent_id/pattoo_agent_modbustcpd.machine.tmp",
];

/// What the agent is doing when it is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// A first start, some polls that are delivered, an orderly stop.
    Life,
    /// A start on what an outage left, delivered oldest first.
    Drain,
    /// A start on what others left: Python's files, an odd directory of its, a damaged and a torn batch.
    Leftovers,
    /// A start on what an outage left, to a server that refuses one series, which is set aside.
    SetAside,
    /// A first start with a database and a file on this machine beside the server.
    Archives,
}

impl Scene {
    /// Every scene.
    pub const ALL: [Self; 5] = [Self::Life, Self::Drain, Self::Leftovers, Self::SetAside, Self::Archives];
}

/// What happens at the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL.
    Kill,
    /// The call fails with this error, once.
    Error(&'static str),
}

/// One point to try.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// What the agent is doing.
    pub scene: Scene,
    /// Which call.
    pub call: &'static str,
    /// Which of them, from 1.
    pub n: usize,
    /// What happens there.
    pub blow: Blow,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scene, call, n, blow } = self;
        write!(f, "{scene:?}:{call}:{n}:{blow:?}")
    }
}

/// What came of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// The blow fell, and nothing was lost by it.
    Survived,
    /// There is no N-th such call in this scene.
    BeyondTheEnd,
}

/// Whether strace can be used here.
pub fn is_possible() -> bool {
    super::is_here("strace")
}

/// What a scene starts from, and what must be in the database at its end whatever happens.
struct Stage {
    home: Home,
    device: Device,
    server: Server,
    owed: BTreeSet<(String, u64)>,
    /// Readings of the refused series: owed too, but quarantine is a place for them.
    refused: BTreeSet<(String, u64)>,
}

/// Plays one point to its end.
///
/// # Errors
/// With what was lost, doubled, disordered, or otherwise wrong.
pub fn attempt(binary: &Path, point: Point) -> Result<Tried, String> {
    let mut stage = stage(binary, point.scene);
    let inject = match point.blow {
        Blow::Kill => format!("inject={}:signal=SIGKILL:when={}", point.call, point.n),
        Blow::Error(error) => format!("inject={}:error={error}:when={}", point.call, point.n),
    };
    let trace = stage.home.path().join("strace");
    let trace_path = trace.to_str().expect("a path in UTF-8").to_owned();
    let calls = format!("trace={}", point.call);
    let mut arguments = ["-f", "-qq", "-o", &trace_path, "-e", &calls, "-e", &inject].map(str::to_owned).to_vec();
    if point.call == "write" && (point.blow != Blow::Kill || point.scene == Scene::SetAside) {
        arguments.extend(
            WRITTEN.iter().flat_map(|name| ["-P".to_owned(), format!("{}", stage.home.path().join(name).display())]),
        );
    }
    let mut agent = stage.home.run_under("strace", &arguments);
    let ended = play(&mut agent, &stage)?;
    let fell = fs::read_to_string(&trace)
        .is_ok_and(|trace| trace.contains("(INJECTED)") || trace.contains("killed by SIGKILL"));
    if !fell {
        return if ended == Some(0) {
            Ok(Tried::BeyondTheEnd)
        } else {
            Err(format!("exit {ended:?}\n{}", agent.log()))
        };
    }
    match (point.blow, ended) {
        (Blow::Kill, None) | (Blow::Error(_), Some(0)) => {}
        // Before it runs an agent may refuse to start; at the end it may say what it could not store.
        (Blow::Error(_), Some(_)) if !agent.log().contains("(1070S)") || agent.log().contains("(1071E)") => {}
        (_, ended) => return Err(format!("ended with {ended:?}\n{}", agent.log())),
    }
    let mut on_disk = Database::default();
    for body in whole_batches(&stage.home) {
        on_disk.ingest(&body);
    }
    stage.owed.extend(rows_of(&on_disk));
    stage.owed.extend(rows_of(&stage.server.database()));
    stage.owed.append(&mut stage.refused);
    let aside = if point.scene == Scene::SetAside { set_aside(&stage.home)? } else { BTreeSet::new() };
    stage.owed.retain(|row| !aside.contains(row));
    stage.server.set(Mode::Ok);
    let tried = next_life(&stage, point.scene).and_then(|tried| match (point.scene, stage.home.quarantined()) {
        (Scene::SetAside, _) | (_, 0) | (Scene::Leftovers, 1) => Ok(tried),
        _ => Err("a batch was visible before it was whole".to_owned()),
    });
    tried.map_err(|why| format!("{why}\n--- log of the life that was struck ---\n{}", agent.log()))
}

/// Plays a life in which every call that makes a batch durable or posts it is watched; how many posts there were.
///
/// # Errors
/// With what was posted before it would have survived a power cut.
pub fn cut_the_power(binary: &Path) -> Result<usize, String> {
    let stage = stage(binary, Scene::Life);
    let trace = stage.home.path().join("strace");
    let mut arguments = ["-f", "-qq", "-o", trace.to_str().expect("a path in UTF-8")].map(str::to_owned).to_vec();
    arguments.extend(powercut::TRACE.map(str::to_owned));
    let mut agent = stage.home.run_under("strace", &arguments);
    play(&mut agent, &stage)?;
    powercut::follow(&fs::read_to_string(&trace).expect("strace's output"))
}

/// The batches under their final names: what is a whole body; a file that is not is the scene's own damage.
fn whole_batches(home: &Home) -> Vec<Vec<u8>> {
    if !home.agent_id_file().exists() {
        return Vec::new();
    }
    let bodies = home.spooled();
    bodies.into_iter().filter(|body| serde_json::from_slice::<serde_json::Value>(body).is_ok()).collect()
}

/// What is in quarantine, all of which must be whole and of the refused series.
fn set_aside(home: &Home) -> Result<BTreeSet<(String, u64)>, String> {
    if !home.agent_id_file().exists() {
        return Ok(BTreeSet::new());
    }
    let mut database = Database::default();
    let entries = fs::read_dir(home.spool().join("quarantine")).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    // What was being written when the blow fell has no final name; the server's rules need the rest in order.
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    for file in files {
        database.ingest(&fs::read(file).map_err(|error| error.to_string())?);
    }
    let strange: Vec<&Row> = database.rows().iter().filter(|row| row.key != REFUSED).collect();
    if !strange.is_empty() || !database.deaths().is_empty() || !database.invalid().is_empty() {
        return Err(format!("in quarantine: {strange:?}, {:?}, {:?}", database.deaths(), database.invalid()));
    }
    Ok(rows_of(&database))
}

/// Waits until the scene is over or the agent dead; its exit code, or `None` when a signal ended it.
fn play(agent: &mut Agent, stage: &Stage) -> Result<Option<i32>, String> {
    let owed = stage.owed.len();
    let enough = || stage.server.row_count() >= owed + 12 && stage.owed.is_subset(&rows_of(&stage.server.database()));
    let deadline = Instant::now() + PATIENCE;
    while agent.is_running() && !enough() {
        if Instant::now() > deadline {
            return Err(format!("the scene does not end\n{}", agent.log()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // strace stands between: the agent itself is told to stop.
    while agent.is_running() {
        if Instant::now() > deadline + PATIENCE {
            return Err(format!("it does not stop\n{}", agent.log()));
        }
        if let Some(pid) = stage.home.pid() {
            kill_process(pid, Signal::TERM).ok();
            if agent.ends_within(Duration::from_secs(5)) {
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(agent.wait(PATIENCE))
}

/// A life without blows: it must start, deliver all that is owed and fresh readings, and stop.
fn next_life(stage: &Stage, scene: Scene) -> Result<Tried, String> {
    let mut agent = stage.home.run();
    let begun = super::now_ms();
    let deadline = Instant::now() + PATIENCE;
    let fresh = |rows: &[Row]| rows.iter().any(|row| row.timestamp >= begun);
    loop {
        let database = stage.server.database();
        if stage.owed.is_subset(&rows_of(&database)) && fresh(database.rows()) {
            break;
        }
        if !agent.is_running() || Instant::now() > deadline {
            let lost: Vec<_> = stage.owed.difference(&rows_of(&database)).take(20).cloned().collect();
            return Err(format!("LOST {lost:#?}\nspool: {:#?}\n{}", listing(&stage.home), agent.log()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    agent.sigterm();
    if agent.wait(PATIENCE) != Some(0) {
        return Err(format!("the next life does not stop in order\n{}", agent.log()));
    }
    let mut database = stage.server.database();
    for body in whole_batches(&stage.home) {
        database.ingest(&body);
    }
    if !database.deaths().is_empty() || !database.invalid().is_empty() {
        return Err(format!("deadly {:?}, invalid {:?}", database.deaths(), database.invalid()));
    }
    let verdict = judge(&[&stage.device], database.rows());
    let wrong = [&verdict.duplicate, &verdict.disorder, &verdict.misattributed, &verdict.forbidden];
    if wrong.iter().any(|list| !list.is_empty()) {
        return Err(format!("{wrong:#?}"));
    }
    if !database.late().is_empty() {
        return Err(format!("dropped as late by the server: {:?}", database.late()));
    }
    // A blow may cost one repetition of what was posted but not yet recorded as delivered.
    if database.posted_again() > 1 {
        return Err(format!("{} posts were repeated", database.posted_again()));
    }
    if scene == Scene::Archives {
        archives_agree(stage, &database)?;
    }
    Ok(Tried::Survived)
}

/// Whether each output has what the server has, or has it waiting: all of them read one log. A blow may cost the file one repetition.
fn archives_agree(stage: &Stage, database: &Database) -> Result<(), String> {
    let expected: BTreeSet<_> = database.rows().iter().map(|row| (row.key.clone(), row.timestamp)).collect();
    let (lines, repeats) = archives::in_file(&archive(&stage.home));
    let rows = archives::in_database(&stage.home.path().join("daemon/readings.sqlite"));
    for (name, kept) in [("file", lines), ("sqlite", rows)] {
        let mut found: BTreeSet<_> = kept.iter().map(|kept| (kept.key.clone(), kept.at)).collect();
        if found.len() < kept.len() || !kept.is_sorted_by_key(|kept| kept.at) {
            return Err(format!(
                "output {name}: {} of {} are there twice, or not in order",
                kept.len() - found.len(),
                kept.len()
            ));
        }
        let mut waiting = Database::default();
        for body in spool::waiting(&stage.home.spool(), name) {
            waiting.ingest(&body);
        }
        found.extend(waiting.rows().iter().map(|row| (row.key.clone(), row.timestamp)));
        if found != expected {
            let (lost, more): (Vec<_>, Vec<_>) =
                (expected.difference(&found).collect(), found.difference(&expected).collect());
            return Err(format!("output {name}: LOST {lost:#?}, the server has not {more:#?}"));
        }
    }
    if repeats > 1 { Err(format!("output file: {repeats} times something came again")) } else { Ok(()) }
}

fn archive(home: &Home) -> PathBuf {
    home.path().join("archive.jsonl")
}

fn rows_of(database: &Database) -> BTreeSet<(String, u64)> {
    database.rows().iter().map(|row| (row.checksum.clone(), row.timestamp)).collect()
}

fn listing(home: &Home) -> Vec<String> {
    let entries = fs::read_dir(home.spool()).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn stage(binary: &Path, scene: Scene) -> Stage {
    let (device, server) = (Device::counting(1), Server::start());
    let home = Home::of(binary, server.address(), "debug");
    let group = format!("  - ip_devices: ['{}']\n    input_registers: [30001, 30002, 30003]\n", device.target());
    let outputs = if scene == Scene::Archives {
        format!("outputs: [pattoo, sqlite, {{type: file, path: {}}}]\n", archive(&home).display())
    } else {
        String::new()
    };
    let configure = |home: &Home, interval: &str| {
        home.write_config(&format!(
            "{outputs}split_refused_after: 1s\npolling_interval: {interval}\nflush_interval: 50ms\n\
             agent_hostname: agent.example.net\npolling_groups:\n{group}"
        ));
    };
    configure(&home, "100ms");
    let mut stage = Stage { home, device, server, owed: BTreeSet::new(), refused: BTreeSet::new() };
    match scene {
        Scene::Life | Scene::Archives => {}
        Scene::Drain => outage(&mut stage, scene),
        Scene::Leftovers => leftovers(&mut stage),
        Scene::SetAside => {
            outage(&mut stage, scene);
            // The search takes many seconds: what is polled meanwhile is no more of the scene than it must be.
            configure(&stage.home, "1s");
            stage.server.set(Mode::Refusing(REFUSED.to_owned()));
        }
    }
    stage
}

/// Batches of a life without a server.
fn outage(stage: &mut Stage, scene: Scene) {
    stage.server.stop();
    let mut agent = stage.home.run();
    agent.until("batches on disk", || stage.home.agent_id_file().exists() && stage.home.spooled().len() >= 4);
    agent.stop();
    let mut database = Database::default();
    stage.home.spooled().iter().for_each(|body| database.ingest(body));
    stage.owed = rows_of(&database);
    if scene == Scene::SetAside {
        let refused = database.rows().iter().filter(|row| row.key == REFUSED);
        stage.refused = refused.map(|row| (row.checksum.clone(), row.timestamp)).collect();
        stage.owed.retain(|row| !stage.refused.contains(row));
    }
    stage.server.come_back();
}

/// Files of others: two of Python's, one in its odd directory, one cut short, one torn temporary file.
fn leftovers(stage: &mut Stage) {
    stage.home.write_agent_id(&format!("{ID}\n"));
    let (cache, odd) =
        (stage.home.path().join("cache").join(ID), stage.home.path().join("cache").join(format!("{ID}\n")));
    let mut database = Database::default();
    for (at, key) in [(1_700_000_000_001, "input_register_30001"), (1_700_000_000_002, "input_register_30002")] {
        let body = python::body(ID, at, &[("old.example.net", key, 7.0)]);
        database.ingest(&body);
        python::leave(&cache, ID, at, &body);
    }
    let body = python::body(ID, 1_700_000_000_003, &[("old.example.net", "input_register_30003", 7.0)]);
    database.ingest(&body);
    fs::create_dir_all(&odd).expect("an odd directory");
    fs::write(odd.join(format!("1700000000003_{ID}\n.json")), &body).expect("a file in it");
    python::leave(&cache, ID, 1_700_000_000_004, &body[..body.len() / 2]);
    fs::write(cache.join(format!("1700000000005_{ID}_00c0ffee.json.tmp")), &body[..9]).expect("a torn file");
    stage.owed = rows_of(&database);
}

/// How the points of one scene, call and blow ended.
#[derive(Debug)]
pub struct Series {
    /// Scene, call and blow.
    pub what: String,
    /// How many points the blow fell at.
    pub tried: usize,
    /// The points that were not survived, and why.
    pub failures: Vec<(Point, String)>,
}

/// Tries every `step`-th point of one scene, call and blow, to the end of the scene or to `limit` points.
pub fn try_all(binary: &Path, scene: Scene, call: &'static str, blow: Blow, step: usize, limit: usize) -> Series {
    let mut series = Series { what: format!("{scene:?} {call} {blow:?}"), tried: 0, failures: Vec::new() };
    for n in (1..).step_by(step).take(limit) {
        let point = Point { scene, call, n, blow };
        match attempt(binary, point) {
            Ok(Tried::BeyondTheEnd) => break,
            Ok(Tried::Survived) => series.tried += 1,
            Err(why) => {
                series.tried += 1;
                series.failures.push((point, why));
            }
        }
    }
    series
}
