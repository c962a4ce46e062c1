//! Whether the server and the devices of a configuration can be reached, one sentence each. Posts nothing.

use crate::config::Config;
use crate::config::outputs::OutputConfig;
use crate::daemon::assemble;
use crate::outputs::pattoo::identity::AgentId;
use crate::outputs::pattoo::post::Poster;
use crate::text::harmless::escaped;
use crate::text::{Chain, count};
use crate::time::clock;

/// What the pattoo server answers to the question for its time.
#[must_use]
pub fn server(config: &Config) -> String {
    let target = OutputConfig::default().target(config);
    // The question does not say who asks.
    let answer = assemble::api(config, &AgentId::from_bytes([0; 32]))
        .and_then(|api| actix_rt::System::new().block_on(async { Poster::new(api).ask_time().await }));
    match answer {
        Ok(Some(time)) => {
            let apart = time.as_millis().abs_diff(clock::wall().as_millis()) / 1_000;
            let clocks =
                if apart > 60 { format!("; its clock and this one are {apart}s apart") } else { String::new() };
            format!("server {target}: answers{clocks}")
        }
        Ok(None) => format!("server {target}: something answers that is no pattoo agent API"),
        Err(error) => format!("server {target}: {}", Chain(&error)),
    }
}

/// What comes of one poll of each device.
#[must_use]
pub fn devices(config: &Config) -> Vec<String> {
    let lines = super::once::poll(config);
    let mut told = Vec::new();
    for (place, device) in config.devices.iter().enumerate() {
        let of_device = || config.points.iter().zip(&lines).filter(|(point, _)| point.device == place);
        let total = of_device().count();
        let failed: Vec<&str> = of_device().filter_map(|(_, line)| line.why.as_deref()).collect();
        let read = format!("{} of {} read", total - failed.len(), count(total, "point"));
        told.push(match failed.first() {
            Some(why) => format!("device {}: {read}; {why}", escaped(device.name())),
            None => format!("device {}: {read}", escaped(device.name())),
        });
    }
    told
}
