//! Whatever the file holds: no panic, and a configuration that loads is within all its ranges.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pattoo_agent_modbustcpd::config;
use pattoo_agent_modbustcpd::modbus::format::{Format, Scale};

const PATTOO: &str = "pattoo: {log_directory: /tmp/l, cache_directory: /tmp/c, daemon_directory: /tmp/d}\n";

fuzz_target!(|data: &[u8]| {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    std::fs::write(directory.path().join("pattoo.yaml"), PATTOO).unwrap();
    std::fs::write(directory.path().join("pattoo_agent_modbustcpd.yaml"), data).unwrap();
    match config::load(directory.path()) {
        Err(error) => assert!(!error.faults.is_empty() && !error.to_string().is_empty()),
        Ok(loaded) => {
            let config = loaded.config;
            assert!(!config.points.is_empty());
            for point in &config.points {
                assert!(point.device < config.devices.len());
                assert!(point.target.len() <= 512 && !point.target.is_empty());
                assert!((Duration::from_millis(100)..=Duration::from_secs(49 * 86_400)).contains(&point.interval));
                if let Format::Word(Scale::Times(factor)) = point.format {
                    assert!(factor.is_finite() && factor.abs() * 65_535.0 < 1e29);
                }
            }
            assert!(config.devices.iter().all(|device| !device.names.is_empty()));
            assert!(!config::render::summary(&config).is_empty());
        }
    }
});
