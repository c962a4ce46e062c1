//! SIGHUP: the configuration is read again while the agent works, and taken over if there is no fault in it.
//!
//! Refused whole with every fault in the log, and then nothing changes. Taken over: devices that the edit does
//! not concern keep their connection and their tick; what the edit means for the charts at the server is said
//! ([`Diff`]), and so is what only a restart changes.
//!
//! A file that is being written may be half there and without a fault: what two looks in a row
//! do not find the same is looked at again.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use thiserror::Error;

use super::assemble;
use super::preflight;
use super::sd_notify::Manager;
use super::signals::ReloadSignal;
use crate::actors::poster::{self, OutputChange};
use crate::actors::supervisor::{Reload, SupervisorActor};
use crate::actors::timekeeper::Timekeeper;
use crate::config::diff::Diff;
use crate::config::outputs::OutputKind;
use crate::config::{Config, ConfigError, Instance, Loaded};
use crate::counters::Counters;
use crate::logging;
use crate::outputs::pattoo::identity::Agent;
use crate::outputs::pattoo::post::PostError;
use crate::outputs::plant::Plant;
use crate::status::reporter::Reporter;
use crate::text::{Chain, count};

/// How long two looks at the files are apart.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// As many looks; files that are written all the time are taken as they are then.
const MOST_LOOKS: usize = 25;

/// As many faults are told one by one.
const MOST_FAULTS: usize = 20;

/// What a reload reads, and what it changes.
pub struct Reloader {
    /// Which agent it is, and where the files are.
    pub instance: Instance,
    /// What the agent goes by now.
    pub running: Config,
    /// Who we are to the server.
    pub agent: Agent,
    /// Believes a clock or does not.
    pub timekeeper: Timekeeper,
    /// What outputs say of devices.
    pub plant: Plant,
    /// Tells where posts go.
    pub reporter: Arc<Mutex<Reporter>>,
}

/// Why a configuration without a fault is not taken over.
#[derive(Debug, Error)]
enum NotUsable {
    #[error("no server could be at that address")]
    Server(#[from] PostError),
}

impl Reloader {
    /// Reads the configuration whenever somebody wishes it, and has `supervisor` take it over.
    pub async fn serve(
        mut self,
        wish: &ReloadSignal,
        supervisor: &Addr<SupervisorActor>,
        manager: &Manager,
        counters: &Counters,
    ) -> Infallible {
        loop {
            wish.asked().await;
            tracing::info!("SIGHUP; the configuration in {} is read again", self.instance.config_dir.display());
            manager.reloading();
            self.reload(supervisor).await;
            // After a refusal too: the agent works, and the manager waits for this word.
            manager.ready(&counters.to_string());
        }
    }

    async fn reload(&mut self, supervisor: &Addr<SupervisorActor>) {
        let loaded = match look_until_settled(&self.instance).await {
            Ok(loaded) => loaded,
            Err(error) => return refuse(&error),
        };
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        if let Err(error) = self.take_over(loaded.config, supervisor).await {
            tracing::error!("the agent goes on with the configuration that it has: {}", Chain(&error));
        }
    }

    async fn take_over(&mut self, new: Config, supervisor: &Addr<SupervisorActor>) -> Result<(), NotUsable> {
        let next = self.running.taken_over_by(new.clone());
        // Against what is written, not against `next`: what only a restart changes is to be told, at each reload until
        // there was one.
        let diff = Diff::between(&self.running, &new);
        if diff.is_empty() {
            tracing::info!("nothing in the configuration has changed");
            return Ok(());
        }
        // First what can fail: nothing is changed yet, so a refusal leaves the agent as it was.
        let mut outputs = Vec::new();
        for output in &next.outputs {
            let before = self.running.outputs.iter().find(|before| before.name == output.name);
            let other = before.is_none_or(|before| {
                before.kind != output.kind
                    // Its address does not stand with the output but in pattoo_agent_api.
                    || (output.kind == OutputKind::Pattoo && self.running.server() != next.server())
            });
            // Only where something has changed: the poster uses no answer of a way that was replaced, so what is under
            // way would be posted again.
            let server = other.then(|| assemble::way(output, &next, &self.agent, &self.plant)).transpose()?;
            let split_refused_after = output.split_refused_after;
            let (max_backoff, max_age) = (output.max_backoff, output.max_age);
            outputs.push((output.name.clone(), OutputChange { server, split_refused_after, max_backoff, max_age }));
        }
        let reload = Reload {
            devices: assemble::devices(&next),
            kept: diff.kept.iter().map(|device| device.endpoint.clone()).collect(),
            table: Arc::new(assemble::point_table(&next, &self.agent)),
            delivery: poster::Reload { limits: next.cache_limits, flush_interval: next.flush_interval, outputs },
        };
        logging::set_level(assemble::level(next.log_level));
        logging::set_format(next.log_format);
        self.timekeeper.trust_local_clock(next.trust_local_clock);
        for output in &next.outputs {
            let mut reporter = self.reporter.lock().unwrap_or_else(PoisonError::into_inner);
            reporter.posts_to(&output.name, output.target(&next));
        }
        self.reporter.lock().unwrap_or_else(PoisonError::into_inner).readings_in_metrics(next.readings_in_metrics);
        // A supervisor that is gone ends the process.
        supervisor.send(reload).await.ok();
        // After the reply: "taken over" is true then.
        tell(&diff);
        if let Some(warning) = preflight::warning(next.devices.len()) {
            tracing::warn!("{warning}");
        }
        self.running = next;
        Ok(())
    }
}

/// The files, once they say the same twice.
async fn look_until_settled(instance: &Instance) -> Result<Loaded, ConfigError> {
    let mut before = look(instance).await;
    for _ in 1..MOST_LOOKS {
        actix_rt::time::sleep(BETWEEN_LOOKS).await;
        let now = look(instance).await;
        // Faults are compared as well: half a file may be refused, and the whole one may not.
        if now == before {
            break;
        }
        before = now;
    }
    before
}

/// The files as they are now, read by a thread that may wait for the disk.
async fn look(instance: &Instance) -> Result<Loaded, ConfigError> {
    let instance = instance.clone();
    // A panic there costs this reload and nothing else.
    let looked = actix_rt::task::spawn_blocking(move || instance.load()).await;
    looked.unwrap_or_else(|_| Err(ConfigError::from(Vec::new())))
}

fn refuse(error: &ConfigError) {
    let faults = error.faults.len();
    tracing::error!(
        "the agent goes on with the configuration that it has; of the new one nothing is taken over, it has {}:",
        count(faults, "fault")
    );
    for fault in error.faults.iter().take(MOST_FAULTS) {
        tracing::error!("{fault}");
    }
    if faults > MOST_FAULTS {
        tracing::error!("and {} more; `check` tells them all", count(faults - MOST_FAULTS, "fault"));
    }
    // One of them may be what is behind a fault.
    for warning in error.warnings.iter().take(MOST_FAULTS) {
        tracing::warn!("{warning}");
    }
}

fn tell(diff: &Diff<'_>) {
    tracing::info!("the new configuration is taken over: {diff}");
    for ending in [diff.forks(), diff.orphans()].into_iter().flatten() {
        tracing::warn!("{ending}");
    }
    for later in [diff.restart(), diff.drops()].into_iter().flatten() {
        tracing::warn!("{later}");
    }
}
