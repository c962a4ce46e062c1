//! A pattoo agent of one's own, on this library: the load of this Linux to a pattoo server; its arguments are SERVER:PORT, a
//! directory and, if need be, seconds. It has what the Modbus agent has: readings are on disk before they are posted, and each
//! arrives once and in order, whatever becomes of server, process and clock. Its own is what it reads, and as what.
use std::{error::Error, path::Path, sync::Arc, time::Duration};

use actix::prelude::*;
use actix_rt::signal::unix::{SignalKind, signal};
use pattoo_agent_modbustcpd::actors::aggregator::{AggregatorActor, Submit};
use pattoo_agent_modbustcpd::actors::{context, lifecycle, poster::PosterActor, spooler, timekeeper};
use pattoo_agent_modbustcpd::outputs::pattoo::{encode, identity, post, restamp};
use pattoo_agent_modbustcpd::outputs::{self, pipeline};
use pattoo_agent_modbustcpd::reading::{PointId, Reading, Value, points};
use pattoo_agent_modbustcpd::spool::{Limits, log, real};
use pattoo_agent_modbustcpd::time::{clock, timeline};
use pattoo_agent_modbustcpd::{digest, logging, shard, status::narrator};

const PROGRAM: &str = "pattoo_agent_linux_load";

/// What is read: the load of the last minute, five and fifteen minutes.
fn loads() -> std::io::Result<Vec<f64>> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').take(3).filter_map(|load| load.parse().ok()).collect())
}

/// What that is called at the server.
fn points(agent: &identity::Agent, interval: Duration) -> Result<points::PointTable, Box<dyn Error>> {
    let mut points = points::Builder::new(agent.id().as_str(), agent.hostname(), interval).of_program(PROGRAM);
    let machine = points::Device::new(agent.hostname(), 0, "load", u64::try_from(interval.as_millis())?);
    for key in ["load_1m", "load_5m", "load_15m"] {
        points.push(&machine, &points::Register::new(key, "load", 0, points::Kind::Float));
    }
    Ok(points.build())
}

/// Is told when an actor is gone, and ends the process: whoever started it starts it again.
struct Watcher;
impl Actor for Watcher {
    type Context = Context<Self>;
}
impl Handler<lifecycle::Exited> for Watcher {
    type Result = ();
    fn handle(&mut self, _: lifecycle::Exited, _: &mut Self::Context) {
        System::current().stop_with_code(1);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, directory, seconds @ ..] = &*arguments else { return Err("SERVER:PORT DIRECTORY [SECONDS]".into()) };
    let interval = Duration::from_secs_f64(seconds.first().map_or(Ok(10.0), |seconds| seconds.parse())?);
    let (directory, (host, port)) = (Path::new(directory), server.rsplit_once(':').ok_or("no port")?);
    logging::start(tracing::level_filters::LevelFilter::INFO, &directory.join("log"))?;
    // Two agents must never have one id, and one agent must not change its own: it comes from the machine's.
    let machine = std::fs::read("/etc/machine-id")?;
    let id = identity::AgentId::from_bytes(digest::sha256(&[PROGRAM.as_bytes(), &machine]));
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let agent = identity::Agent::new(id.clone(), hostname.trim())?.of_program(PROGRAM)?;
    let (table, api) = (Arc::new(points(&agent, interval)?), post::Api::new(host, port.parse()?, &id)?);
    let (plan, open) = pipeline::OutputPlan::of(outputs::Output {
        name: "pattoo".to_owned(),
        kind: "pattoo",
        target: server.clone(),
        encode: Box::new(encode::PattooEncode::new(id.clone(), shard::Shard::default())),
        deliver: Box::new(|| Box::new(post::Poster::new(api))),
        tells_time: true,
        takes_old_caches: false,
        split_refused_after: Duration::from_secs(3600),
        start: outputs::Start::End,
    });
    let (open, names) = (vec![("pattoo".to_owned(), open)], vec![("pattoo".to_owned(), server.clone())]);
    let boot_id = clock::boot_id().unwrap_or_default();
    let life = log::Life { agent_id: id.as_str(), boot_id: &boot_id, restamp: restamp::by };
    let disk = real::RealDisk::open(directory, id.as_str())?;
    let (log, opened) = log::Log::open(Box::new(disk), Limits::default(), &life)?;
    let timeline = timeline::Timeline::new(timeline::BUILT, opened.last_stamp(clock::wall()));
    let (keeper, context) = (timekeeper::Timekeeper::new(timeline, &boot_id), context::AgentContext::default());
    let pipeline = pipeline::Pipeline::new(opened, vec![plan], &boot_id, Duration::from_secs(1));
    let spool = spooler::SpoolThread::start(log)?;
    let narrator = narrator::Narrator::new(names, directory.join(id.as_str()), Limits::default());
    System::new().block_on(async move {
        let watcher = Watcher.start().recipient();
        let guard = |actor| lifecycle::ExitGuard::new(watcher.clone(), actor);
        let (first, second) = (guard(lifecycle::ActorId::Poster), guard(lifecycle::ActorId::Aggregator));
        let poster = PosterActor::new(pipeline, open, spool, keeper.clone(), context.clone(), narrator, first).start();
        let append = poster.clone().recipient();
        let aggregator = AggregatorActor::new(keeper.clone(), append, context, second).start();
        let (mut ticks, mut track) = (tokio::time::interval(interval), keeper.track());
        let mut stop = signal(SignalKind::terminate())?;
        while tokio::select! { _ = ticks.tick() => true, _ = stop.recv() => false } {
            let (at, loads) = (keeper.stamp(&mut track), loads()?);
            let reading = |(point, load)| Reading { point: PointId(point), at, value: Value::Float(load) };
            let readings = (0..).zip(loads).map(reading).collect();
            aggregator.send(Submit { table: Arc::clone(&table), readings }).await?;
        }
        // The aggregator gives what it has to the poster, which brings it to the disk, and to the server.
        aggregator.send(lifecycle::Stop).await?;
        Ok(poster.send(lifecycle::Stop).await?)
    })
}
