//! Whether the outputs and the devices of a configuration can be reached, one sentence each. Delivers nothing.

use crate::config::Config;
use crate::daemon::assemble;
use crate::outputs::pattoo::identity::{Agent, AgentId};
use crate::outputs::plant::Plant;
use crate::text::harmless::escaped;
use crate::text::{Chain, count};

/// What each output says when it is asked whether it would take readings: `Err` if it would not.
#[must_use]
pub fn outputs(config: &Config) -> Vec<Result<String, String>> {
    // Nobody is told who asks.
    let agent = Agent::new(AgentId::from_bytes([0; 32]), "");
    let asked = config.outputs.iter().map(|output| {
        let named = format!("output {}, {}", output.name, escaped(&output.target(config)));
        let answer = match &agent {
            Err(error) => Err(Chain(error).to_string()),
            Ok(agent) => match assemble::way(output, config, agent, &Plant::default()) {
                Err(error) => Err(Chain(&error).to_string()),
                Ok((_, open)) => {
                    actix_rt::System::new().block_on(async { open().try_out().await }).map_err(|failure| failure.text)
                }
            },
        };
        match answer {
            Ok(said) => Ok(format!("{named}: {said}")),
            Err(why) => Err(format!("{named}: {why}")),
        }
    });
    asked.collect()
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
