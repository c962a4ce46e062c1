//! One configuration → what each room needs of it, computed once: the plan of every device the point table,
//! the outputs. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use crate::config::outputs::{OutputConfig, OutputKind};
use crate::config::{self, Config, Device, LogLevel, point_table};
use crate::modbus::plan::plan;
use crate::modbus::register;
use crate::modbus::session::{Cycle, DeviceSettings};
use crate::outputs::file::{FileDeliver, FileEncode};
use crate::outputs::influxdb::InfluxSettings;
use crate::outputs::influxdb::deliver::{InfluxDeliver, Target};
use crate::outputs::influxdb::encode::InfluxEncode;
use crate::outputs::mqtt::deliver::MqttDeliver;
use crate::outputs::mqtt::encode::MqttEncode;
use crate::outputs::mqtt::sparkplug::encode::SparkplugEncode;
use crate::outputs::mqtt::{self, Identity, MqttSettings};
use crate::outputs::otlp::{Otlp, OtlpSettings};
use crate::outputs::pattoo::encode::PattooEncode;
use crate::outputs::pattoo::identity::{Agent, AgentId};
use crate::outputs::pattoo::post::{Api, PostError, Poster};
use crate::outputs::plant::Plant;
use crate::outputs::prometheus::PrometheusSettings;
use crate::outputs::prometheus::remote_write::RemoteWrite;
use crate::outputs::samples::deliver::{Protocol, SampleDeliver, Target as SampleTarget};
use crate::outputs::samples::encode::{Describe, SampleEncode};
use crate::outputs::samples::pace::Pace;
use crate::outputs::sqlite::{History, SqliteDeliver, SqliteEncode};
use crate::outputs::{Encode, Halves, Output};
use crate::reading::PointId;
use crate::reading::points::{self, PointTable};

/// What to read from each device, in the order of the configuration.
#[must_use]
pub fn devices(config: &Config) -> Vec<Arc<DeviceSettings>> {
    let mut points: Vec<Vec<(Duration, register::Point)>> = vec![Vec::new(); config.devices.len()];
    for (id, point) in (0..).map(PointId).zip(&config.points) {
        let format = point.format.clone();
        let config::Point { unit, reference, together, .. } = *point;
        let planned = register::Point { id, unit, reference, format, together };
        if let Some(points) = points.get_mut(point.device) {
            points.push((point.interval, planned));
        }
    }
    config.devices.iter().zip(points).map(|(device, points)| Arc::new(settings(device, &points))).collect()
}

/// What every point is, in the order of the configuration, for the agent `agent`.
#[must_use]
pub fn point_table(config: &Config, agent: &Agent) -> PointTable {
    point_table::of(config, points::Builder::new(agent.id().as_str(), agent.hostname(), config.polling_interval))
}

/// The same for commands that poll without an agent id.
#[must_use]
pub fn points(config: &Config) -> PointTable {
    point_table::nameless(config)
}

/// Everything that readings go to, in the order of the configuration; what some of them say of devices is seen in `plant`.
///
/// # Errors
/// When no server could be at the address of one.
pub fn outputs(config: &Config, agent: &Agent, plant: &Plant) -> Result<Vec<Output>, PostError> {
    let output = |output: &OutputConfig| {
        let (encode, deliver) = way(output, config, agent, plant)?;
        // Old caches are bodies of posts to such a server. And when one reading was stamped ahead of its clock it drops
        // the later ones of that series without a word, so its clock is listened to.
        let is_pattoo = matches!(output.kind, OutputKind::Pattoo);
        Ok(Output {
            name: output.name.clone(),
            kind: output.kind.as_str(),
            target: output.target(config),
            encode,
            deliver,
            tells_time: is_pattoo,
            takes_old_caches: is_pattoo,
            split_refused_after: output.split_refused_after,
            start: output.start,
        })
    };
    config.outputs.iter().map(output).collect()
}

/// The agent API of the pattoo server.
///
/// # Errors
/// When no server could be at its address.
pub fn api(config: &Config, id: &AgentId) -> Result<Api, PostError> {
    match &config.server_network {
        Some(network) => Api::at(network, id),
        None => Api::new(&config.server_host, config.server_port, id),
    }
}

/// What makes the posts of an output, and what brings them to its server.
///
/// # Errors
/// As [`outputs`].
pub fn way(output: &OutputConfig, config: &Config, agent: &Agent, plant: &Plant) -> Result<Halves, PostError> {
    Ok(match &output.kind {
        OutputKind::Influx(settings) => {
            let target = Target::new(settings).ok_or_else(|| PostError::Address { server: output.target(config) })?;
            let encode = InfluxEncode::new(InfluxSettings::clone(settings));
            (Box::new(encode), Box::new(move || Box::new(InfluxDeliver::new(target))))
        }
        OutputKind::Mqtt(settings) => {
            let settings = MqttSettings::clone(settings);
            let encode: Box<dyn Encode> = match &settings.sparkplug {
                Some(sparkplug) => Box::new(SparkplugEncode::new(sparkplug.clone())),
                None => Box::new(MqttEncode::new(settings.clone())),
            };
            let identity = Identity::new(&settings, agent.id().as_str(), &output.name);
            let target = mqtt::deliver::Target::new(settings, identity, plant.clone());
            (encode, Box::new(move || Box::new(MqttDeliver::new(target))))
        }
        OutputKind::Prometheus(settings) => {
            let target = RemoteWrite::target(settings);
            let target = target.ok_or_else(|| PostError::Address { server: output.target(config) })?;
            samples(PrometheusSettings::clone(settings), target)
        }
        OutputKind::Otlp(settings) => {
            let otlp = Otlp::new(OtlpSettings::clone(settings), agent.id().as_str(), agent.hostname());
            let target = otlp.clone().target();
            let target = target.ok_or_else(|| PostError::Address { server: output.target(config) })?;
            samples(otlp, target)
        }
        OutputKind::Pattoo => {
            let api = api(config, agent.id())?;
            (
                Box::new(PattooEncode::new(agent.id().clone(), config.shard)),
                Box::new(move || Box::new(Poster::new(api))),
            )
        }
        OutputKind::File(settings) => {
            let deliver = FileDeliver::new(settings.clone());
            (Box::new(FileEncode(settings.format)), Box::new(move || Box::new(deliver)))
        }
        OutputKind::Sqlite(settings) => {
            let deliver = SqliteDeliver::new(settings.clone());
            (Box::new(SqliteEncode), Box::new(move || Box::new(deliver)))
        }
    })
}

/// The halves of an output whose server keeps series of samples.
fn samples<P: Protocol + Send + 'static>(describe: impl Describe + 'static, target: SampleTarget<P>) -> Halves {
    let pace = Pace::default();
    let encode = SampleEncode::new(describe, pace.clone());
    (Box::new(encode), Box::new(move || Box::new(SampleDeliver::new(target, pace))))
}

/// The database of the first output that is one, for plots.
#[must_use]
pub fn history(config: &Config) -> Option<History> {
    config.outputs.iter().find_map(|output| match &output.kind {
        OutputKind::Sqlite(settings) => Some(History { path: settings.path.clone() }),
        _ => None,
    })
}

/// What is logged.
#[must_use]
pub fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        // The original's `critical`; there is no level above ERROR here.
        LogLevel::Error | LogLevel::Critical => LevelFilter::ERROR,
    }
}

fn settings(device: &Device, points: &[(Duration, register::Point)]) -> DeviceSettings {
    let mut cycles: BTreeMap<Duration, Vec<register::Point>> = BTreeMap::new();
    for (interval, point) in points {
        cycles.entry(*interval).or_default().push(point.clone());
    }
    let cycle = |(interval, points): (_, Vec<_>)| Cycle { interval, blocks: plan(&points, device.settings.limits()) };
    DeviceSettings {
        name: device.name().to_owned(),
        endpoint: device.endpoint.clone(),
        settings: device.settings.clone(),
        cycles: cycles.into_iter().map(cycle).collect(),
    }
}
