//! One configuration → what each room needs of it, computed once: the plan of every device and the
//! catalogue of every series. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use crate::config::{self, Config, Device, LogLevel, Point};
use crate::modbus::plan::plan;
use crate::modbus::register;
use crate::modbus::session::{Cycle, DeviceSettings};
use crate::outputs::pattoo::identity::{Agent, IdentityError, Series};
use crate::outputs::pattoo::payload::Catalogue;
use crate::reading::PointId;

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

/// What the server knows of each point, in the order of the configuration.
///
/// # Errors
/// When the server could not store a series; the configuration refuses such a one before.
pub fn series(config: &Config) -> Result<Vec<Series>, IdentityError> {
    let series =
        |point: &Point| Series::new(&*point.target, point.key(), point.unit.0, point.data_type, point.interval);
    config.points.iter().map(series).collect()
}

/// The catalogue of every series that `agent` posts.
///
/// # Errors
/// As [`series`].
pub fn catalogue(config: &Config, agent: &Agent) -> Result<Catalogue, IdentityError> {
    series(config).and_then(|series| Catalogue::new(agent, config.polling_interval, &series))
}

/// Where posts go, for people.
#[must_use]
pub fn server(config: &Config) -> String {
    format!("{} port {}", config.server_host, config.server_port)
}

/// What is logged.
#[must_use]
pub fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
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
