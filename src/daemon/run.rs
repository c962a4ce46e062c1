//! `run`: the daemon in the foreground, from the configuration to the last log line.
//!
//! Everything that can be refused is refused before the first actor starts, with the exit code that says
//! what it was: configuration 78, directories 77, another agent 75. From then on nothing ends the process
//! but a signal ([`super::signals`]) or a broken actor.

use std::env;
use std::error::Error;
use std::io;
use std::iter::successors;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use actix::prelude::*;
use rustix::process::Pid;

use super::assemble;
use super::detach;
use super::exit::{self, Exit};
use super::left_shards;
use super::lock::{Lock, LockError};
use super::preflight;
use super::process_setup::{self, LAST_WORDS};
use super::python_agent::PythonAgent;
use super::refusal_file;
use super::reload::Reloader;
use super::sd_notify::Manager;
use super::signals::{self, Signals};
use crate::actors::context::AgentContext;
use crate::actors::lifecycle::{ExitStatus, Heartbeat, Stop};
use crate::actors::spooler::SpoolThread;
use crate::actors::supervisor::{Parts, SupervisorActor};
use crate::actors::timekeeper::Timekeeper;
use crate::cli::terminal::complain;
use crate::config::{Config, Instance};
use crate::counters::{Counters, OutputCounters, Published};
use crate::files::directory::{self, DirectoryError};
use crate::files::mirrored;
use crate::files::trust::Untrusted;
use crate::host::agent_id::{self, Missing, StoredAgentId};
use crate::host::{clone_guard, hostname};
use crate::logging;
use crate::modbus::session::DeviceSettings;
use crate::outputs::pattoo::identity::{Agent, AgentId, PROGRAM};
use crate::outputs::pattoo::restamp;
use crate::outputs::pipeline::{OutputPlan, Pipeline};
use crate::spool::SpoolError;
use crate::spool::log::{Life, Log, Opened};
use crate::spool::real::RealDisk;
use crate::status::narrator::{self, Narrator};
use crate::status::page::{self, Hosts};
use crate::status::reporter::Reporter;
use crate::status::snapshot::{OutputProfile, Profile};
use crate::status::socket;
use crate::text::{Chain, count};
use crate::time::clock;
use crate::time::timeline::{BUILT, Timeline};

/// With the value 1, a missing agent id is an error: set where the volume that holds it may be missing.
pub const REQUIRE_STATE: &str = "PATTOO_REQUIRE_STATE";

/// The agent id, where the agents of several machines are to be one to the server.
pub const AGENT_ID: &str = "PATTOO_AGENT_ID";

/// Where the status page is served, whatever the configuration says: for shards that have a machine each, as in Kubernetes, where
/// the port of a probe is the same for all.
pub const STATUS_LISTEN: &str = "PATTOO_STATUS_LISTEN";

/// Runs `instance` until it is told to stop.
#[must_use]
pub fn run(instance: &Instance) -> Exit {
    process_setup::apply();
    detach::leave_session();
    if let Err(error) = preflight::check() {
        // There is no log yet.
        complain(&Chain(&error).to_string());
        return Exit::Failure;
    }
    // Before all that can hang: as process 1 of a container, an unhandled SIGTERM would be ignored.
    let signals = match signals::serve() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("cannot handle signals: {error}"));
            return Exit::Failure;
        }
    };
    let loaded = match instance.load() {
        Ok(loaded) => loaded,
        Err(error) => return exit::refuse(&error),
    };
    let config = loaded.config;
    start_log(&config);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let exit = serve(instance, config, signals).unwrap_or_else(|refusal| {
        tracing::error!("{}", refusal.why);
        refusal.exit
    });
    logging::flush(LAST_WORDS);
    exit
}

fn start_log(config: &Config) {
    let directory = &config.log_directory;
    let untrusted = directory::make(directory);
    logging::set_format(config.log_format);
    // No reason to refuse: a device that is read and not logged is better than one that is not read.
    if let Err(error) = logging::start(assemble::level(config.log_level), directory) {
        tracing::warn!(cause = %error, "no log file in {}; the log goes to stderr only", directory.display());
    }
    if let Ok(Some(untrusted)) = untrusted {
        tracing::warn!("{untrusted}");
    }
}

fn serve(instance: &Instance, running: Config, signals: Signals) -> Result<Exit, Refusal> {
    let config = &running;
    // Before its pid file becomes ours.
    if let Some(other) = PythonAgent::find(&config.pid_directories()) {
        return Err(Refusal { exit: Exit::Held, why: refuse_beside(&other) });
    }
    if let Some(hidden) = PythonAgent::hidden(&config.pid_directories()) {
        tracing::warn!(
            "{} names process {}, which another user runs and this one cannot see; if that is the Python agent, stop it: two \
             agents would post under one agent id",
            hidden.pid_file.display(),
            Pid::as_raw(Some(hidden.pid))
        );
    }
    let status_listen = status_listen(config)?;
    // Before the agent id and the log of readings are looked at. With a name, because `_` would give it back at once.
    let _lock = Lock::acquire(&config.system_daemon_directory)?;
    let stored_id = stored_id(&config.daemon_directory)?;
    let agent = identify(config, stored_id.id)?;
    let context = AgentContext::default();
    let outputs = assemble::outputs(config, &agent, &context.plant)
        .map_err(|error| Refusal::new(Exit::BadConfiguration, &error))?;
    let table = Arc::new(assemble::point_table(config, &agent));
    let cache = config.cache_directory.join(agent.id().as_str());
    directory::make_trusted(&config.cache_directory)?;
    directory::make_trusted(&cache)?;
    // A name that no earlier process has used: undated readings of another boot must not get the offset of this one.
    let boot_id = clock::boot_id().unwrap_or_else(|| format!("unknown-{}", clock::wall()));
    let disk = RealDisk::open(&config.cache_directory, agent.id().as_str())?;
    // Before the log is opened, which looks for old caches in the agent's own directory only.
    if let Some(name) = stored_id.original_cache {
        let adopted = disk.adopt(&name, agent.id().as_str())?;
        if adopted > 0 {
            tracing::info!("took in {adopted} batches that the Python agent left in the cache directory {name:?}");
        }
    }
    let life = Life { agent_id: agent.id().as_str(), boot_id: &boot_id, restamp: restamp::by };
    let (mut log, opened) = Log::open(Box::new(disk), config.cache_limits, &life)?;
    for left in left_shards::find(&config.cache_directory, agent.id().as_str(), config.shard) {
        tracing::warn!(
            "{}{} wait in {}, of a shard that is none of the present {}; start it again with its old number until they are \
             delivered, or take them out with spool export",
            count(usize::try_from(left.readings).unwrap_or(usize::MAX), "reading"),
            if left.old { " and batches of an old cache" } else { "" },
            left.directory.display(),
            config.shard.count()
        );
    }
    let timeline = timeline(config, &opened, &boot_id);
    if let Some(warning) = directory::medium_warning(&config.cache_directory) {
        tracing::warn!("{warning}");
    }
    let devices = assemble::devices(config);
    tell_opened(&mut log, &opened);
    if let Some(warning) = preflight::warning(devices.len()) {
        tracing::warn!("{warning}");
    }
    let profiles = outputs.iter().map(|output| OutputProfile {
        name: output.name.clone(),
        kind: output.kind,
        server: output.target.clone(),
    });
    let profile = Profile {
        agent_id: agent.id().as_str().to_owned(),
        hostname: agent.hostname().to_owned(),
        outputs: profiles.collect(),
        started: clock::wall(),
        history: assemble::history(config),
    };
    let targets: Vec<_> = outputs.iter().map(|output| output.target.clone()).collect();
    let names = outputs.iter().map(|output| (output.name.clone(), output.target.clone())).collect();
    let narrator = Narrator::new(names, cache, config.cache_limits);
    let (planned, ways): (Vec<_>, Vec<_>) = outputs
        .into_iter()
        .map(|output| {
            let name = output.name.clone();
            let (plan, deliver) = OutputPlan::of(output);
            (plan, (name, deliver))
        })
        .unzip();
    let mut pipeline = Pipeline::new(opened, planned, &boot_id, config.flush_interval);
    let published = pipeline.published();
    tell_start(config, &agent, &devices, &targets, &published);
    for output in &config.outputs {
        pipeline.set_max_backoff(&output.name, output.max_backoff);
        pipeline.set_max_age(&output.name, output.max_age);
    }
    // Whoever asks before the pipeline's first turn finds what waits on disk, and not nothing.
    context.counters.publish(published);
    let spool = SpoolThread::start(log).map_err(|error| Refusal::new(Exit::Failure, &error))?;
    let learned = Arc::new(refusal_file::recall(&refusal_file::path(config)));
    let context = AgentContext { learned, ..context };
    if status_listen.is_some() {
        context.registry.budget().expect(table.len());
    }
    let timekeeper = Timekeeper::new(timeline, &boot_id);
    let reporter = reporter(config, profile, &context, timekeeper.clone());
    // After the lock, and so dropped before it: the socket is replaced by whoever has the lock.
    let _status = serve_status(config, status_listen, agent.hostname(), &reporter);
    let parts = Parts { devices, table, spool, pipeline, outputs: ways, narrator, timekeeper, context };
    // Not dropped: a name look-up that hangs in a thread of its own would hold it.
    let runner = ManuallyDrop::new(System::new());
    let (timekeeper, plant) = (parts.timekeeper.clone(), parts.context.plant.clone());
    let reloader = Reloader { instance: instance.clone(), running, agent, timekeeper, plant, reporter };
    Ok(runner.block_on(live(parts, signals, reloader)))
}

/// What tells how the agent is.
fn reporter(config: &Config, profile: Profile, context: &AgentContext, clock: Timekeeper) -> Arc<Mutex<Reporter>> {
    let (registry, counters) = (Arc::clone(&context.registry), Arc::clone(&context.counters));
    let mut reporter = Reporter::new(profile, registry, counters, move || clock.observe().into());
    reporter.readings_in_metrics(config.readings_in_metrics);
    Arc::new(Mutex::new(reporter))
}

/// Why no agent starts beside the Python one.
#[must_use]
pub fn refuse_beside(other: &PythonAgent) -> String {
    format!(
        "{other}: two agents would post under one agent id, and the server drops what comes second; {PROGRAM} --stop \
         ends it, --restart puts this agent in its place"
    )
}

/// Where the status page is to be served.
fn status_listen(config: &Config) -> Result<Option<SocketAddr>, Refusal> {
    let Some(given) = env::var_os(STATUS_LISTEN) else { return Ok(config.status_listen) };
    let given = given.to_string_lossy();
    let address = given.parse().ok();
    let why = || format!("{STATUS_LISTEN} is {given:?}; allowed is an address with a port, such as 0.0.0.0:20204");
    address.map(Some).ok_or_else(|| Refusal { exit: Exit::BadConfiguration, why: why() })
}

/// The socket that says how the agent is; without it the agent works all the same.
fn serve_status(
    config: &Config,
    listen: Option<SocketAddr>,
    hostname: &str,
    reporter: &Arc<Mutex<Reporter>>,
) -> Option<socket::Served> {
    let path = socket::path(&config.system_daemon_directory);
    if let Some(address) = listen {
        match page::serve(address, Hosts::new(hostname, &config.status_hosts), Arc::clone(reporter)) {
            Ok(address) => tracing::info!("the status page is on http://{address}/"),
            Err(error) => tracing::warn!(cause = %error, "no status page: {address} of status_listen cannot be had"),
        }
    }
    // Whether or not there is a page: the socket is how --status asks, and its thread takes the samples that rates are
    // made of.
    let served = socket::serve(&path, Arc::clone(reporter));
    served
        .inspect_err(|error| tracing::warn!(cause = %error, "--status will know little: no socket {}", path.display()))
        .ok()
}

/// The source of stamps, going on from what is on disk.
fn timeline(config: &Config, opened: &Opened, boot_id: &str) -> Timeline {
    let timeline = Timeline::new(BUILT, opened.last_stamp(clock::wall()));
    let timeline = if config.trust_local_clock { timeline.trusting_local_clock() } else { timeline };
    // An earlier process of this boot has left them. The time since boot has gone on, so one offset is right for them
    // and for ours.
    let undated = opened.holds.iter().filter(|hold| hold.boot_id == boot_id && hold.offset.is_none());
    match undated.map(|hold| hold.since).max() {
        Some(since) => timeline.holding_since(since),
        None => timeline,
    }
}

/// What is strange about what was found on disk.
fn tell_opened(log: &mut Log, opened: &Opened) {
    if let Some((files, quarantine)) = log.in_quarantine() {
        tracing::warn!(
            "{} kept in {} because they could not be delivered; look at them, then remove them",
            if files == 1 { "1 file is".to_owned() } else { format!("{files} files are") },
            quarantine.display()
        );
    }
    narrator::tell_findings(&opened.findings);
    if let Some(cut) = &opened.cut {
        tracing::warn!(
            "the end of {} was not whole, as after a power cut: {} bytes of readings that were never durable are LOST",
            cut.path.display(),
            cut.bytes
        );
    }
}

/// The agent id, and what is strange about it in the log.
fn stored_id(daemon_directory: &Path) -> Result<StoredAgentId, Refusal> {
    let file = agent_id::path(daemon_directory);
    directory::make_trusted(file.parent().unwrap_or(daemon_directory))?;
    // Shards that start at once make one id.
    let _one_at_a_time = directory::hold(file.parent().unwrap_or(daemon_directory), &format!("{PROGRAM}.lock"));
    let missing =
        if env::var_os(REQUIRE_STATE).is_some_and(|value| value == "1") { Missing::Refuse } else { Missing::Make };
    let stored = match env::var_os(AGENT_ID) {
        // What is no text is no id either: it is refused as that.
        Some(given) => agent_id::given(daemon_directory, &given.to_string_lossy()),
        None => agent_id::load_or_make(daemon_directory, missing),
    }
    .map_err(|error| Refusal::new(Exit::Failure, &error))?;
    if stored.restored {
        tracing::warn!(
            "the agent id was missing and is restored from its copy, so that charts go on; to start every chart anew, \
             remove both {} and {}",
            file.display(),
            mirrored::copy(&file).display()
        );
    }
    match clone_guard::notice(daemon_directory) {
        Ok(notice) => notice.into_iter().for_each(|notice| tracing::warn!("{notice}")),
        Err(error) => {
            tracing::warn!(cause = %Chain(&error), "cannot tell whether this is the machine of this agent id");
        }
    }
    Ok(stored)
}

/// Who we are to the server: the id and the host name first used.
fn identify(config: &Config, id: AgentId) -> Result<Agent, Refusal> {
    // Shards that start at once remember one name.
    let path = hostname::path(&config.daemon_directory);
    let _one_at_a_time = directory::hold(path.parent().unwrap_or(&config.daemon_directory), &format!("{PROGRAM}.lock"));
    let hostname = hostname::decide(config.agent_hostname.as_deref(), &config.daemon_directory)
        .map_err(|error| Refusal::new(Exit::Failure, &error))?;
    if let Some(warning) = hostname.warning {
        tracing::warn!("{warning}");
    }
    Agent::new(id, hostname.name).map_err(|error| Refusal::new(Exit::BadConfiguration, &error))
}

fn tell_start(
    config: &Config,
    agent: &Agent,
    devices: &[Arc<DeviceSettings>],
    targets: &[String],
    Published { outputs, log }: &Published,
) {
    let requests: usize = devices.iter().flat_map(|device| &device.cycles).map(|cycle| cycle.blocks.len()).sum();
    let shard = if config.shard.is_one_of_many() { format!(", shard {}", config.shard) } else { String::new() };
    let waiting = outputs.iter().map(OutputCounters::waiting).max().unwrap_or_default();
    let old =
        if log.old_batches > 0 { format!(" and {} of old caches", batches(log.old_batches)) } else { String::new() };
    tracing::info!(
        code = 1070,
        "started {PROGRAM} {}{shard}: {}, {}, {} per cycle, {}{old} on disk; posting to {} as agent {} on {}",
        env!("CARGO_PKG_VERSION"),
        count(config.devices.len(), "device"),
        count(config.points.len(), "point"),
        count(requests, "request"),
        count(usize::try_from(waiting).unwrap_or(usize::MAX), "reading"),
        targets.join(", "),
        agent.id(),
        agent.hostname(),
    );
}

fn batches(number: usize) -> String {
    if number == 1 { "1 batch".to_owned() } else { format!("{number} batches") }
}

/// Why the agent does not start.
struct Refusal {
    exit: Exit,
    why: String,
}

impl Refusal {
    /// `exit`, unless permissions are at the root of it.
    fn new(exit: Exit, error: &(dyn Error + 'static)) -> Self {
        let forbidden = successors(Some(error), |&error| error.source()).any(|error| {
            error.is::<Untrusted>()
                || error
                    .downcast_ref::<io::Error>()
                    .is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        });
        Self { exit: if forbidden { Exit::Permissions } else { exit }, why: Chain(error).to_string() }
    }
}

impl From<DirectoryError> for Refusal {
    fn from(error: DirectoryError) -> Self {
        Self::new(Exit::Failure, &error)
    }
}

impl From<LockError> for Refusal {
    fn from(error: LockError) -> Self {
        let exit = match error {
            LockError::Held { .. } => Exit::Held,
            // Worth another start: whoever is in the way goes away.
            LockError::InTheWay { .. } | LockError::Directory(_) | LockError::NotAFile(_) | LockError::Io { .. } => {
                Exit::Failure
            }
        };
        Self::new(exit, &error)
    }
}

impl From<SpoolError> for Refusal {
    fn from(error: SpoolError) -> Self {
        Self::new(if matches!(error, SpoolError::InUse { .. }) { Exit::Held } else { Exit::Failure }, &error)
    }
}

/// From the first actor to the last.
async fn live(parts: Parts, Signals { stop, reload }: Signals, reloader: Reloader) -> Exit {
    let manager = Rc::new(Manager::from_environment());
    let memory = refusal_file::path(&reloader.running);
    let log_directory = reloader.running.log_directory.clone();
    let AgentContext { counters, learned, .. } = parts.context.clone();
    let (supervisor, mut ended) = SupervisorActor::new(parts);
    let supervisor = supervisor.start();
    // Not after a first poll: devices may be away for days. That is a state of theirs, not a start that failed.
    manager.ready(&counters.to_string());
    let keeping = actix_rt::spawn(refusal_file::keep(memory.clone(), Arc::clone(&learned)));
    actix_rt::spawn(pulse(Rc::clone(&manager), supervisor.clone(), Arc::clone(&counters)));
    if let Err(error) = detach::announce(&log_directory) {
        tracing::warn!(cause = %error, "no pattoo-daemon.log in {}: what is said beside the log is lost", log_directory.display());
    }
    let ending = tokio::select! {
        ending = &mut ended => ending,
        signal = stop.asked() => {
            tracing::info!("{signal}; stopping: no more polls, what is in memory goes to disk");
            manager.stopping();
            supervisor.do_send(Stop);
            ended.await
        }
        // A stop drops it wherever it is: a configuration on a disk that hangs holds up nothing.
        never = reloader.serve(&reload, &supervisor, &manager, &counters) => match never {},
    };
    keeping.abort();
    refusal_file::keep_at_last(memory, learned).await;
    match ending {
        Ok(ExitStatus::Done) => Exit::Done,
        Ok(ExitStatus::Failed) | Err(_) => Exit::Failure,
    }
}

/// Tells the service manager of progress as long as there is any.
async fn pulse(manager: Rc<Manager>, supervisor: Addr<SupervisorActor>, counters: Arc<Counters>) {
    while manager.listens() {
        actix_rt::time::sleep(manager.beat()).await;
        // An actor that hangs never answers, and the manager hears nothing more.
        if supervisor.send(Heartbeat).await.is_ok_and(|alive| alive) {
            manager.alive(&counters.to_string());
        }
    }
}
