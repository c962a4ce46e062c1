//! What the Python agent leaves behind: bodies and cache files in its own spelling.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::server::{Row, checksum};

/// A body as the Python agent posts and caches it: `(target, key, value)` of unit 0, all read at `at`.
pub fn body(agent_id: &str, at: u64, readings: &[(&str, &str, f64)]) -> Vec<u8> {
    let mut pairs: Vec<serde_json::Value> = Vec::new();
    let mut datapoints = Vec::new();
    for (target, key, value) in readings {
        let mut row = Row {
            checksum: String::new(),
            unit: "000".to_owned(),
            interval: "300000".to_owned(),
            hostname: "python.example.net".to_owned(),
            agent_id: agent_id.to_owned(),
            target: (*target).to_owned(),
            program: "pattoo_agent_modbustcpd".to_owned(),
            key: (*key).to_owned(),
            data_type: 99,
            value: json!(value),
            timestamp: at,
        };
        row.checksum = checksum(&row);
        let first = pairs.len();
        pairs.extend([
            json!(["unit", row.unit]),
            json!(["pattoo_agent_polling_interval", row.interval]),
            json!(["pattoo_agent_hostname", row.hostname]),
            json!(["pattoo_agent_id", row.agent_id]),
            json!(["pattoo_agent_polled_target", row.target]),
            json!(["pattoo_agent_program", row.program]),
            json!(["pattoo_key", row.key]),
            json!(["pattoo_data_type", row.data_type]),
            json!(["pattoo_value", row.value]),
            json!(["pattoo_timestamp", row.timestamp]),
            json!(["pattoo_checksum", row.checksum]),
        ]);
        datapoints.push((first..pairs.len()).collect::<Vec<_>>());
    }
    let numbered: Vec<String> = pairs.iter().enumerate().map(|(id, pair)| format!("\"{id}\": {pair}")).collect();
    format!(
        "{{\"pattoo_agent_timestamp\": {at}, \"pattoo_agent_id\": \"{agent_id}\", \
         \"pattoo_agent_polling_interval\": 300000, \"pattoo_datapoints\": \
         {{\"key_value_pairs\": {{{}}}, \"datapoint_pairs\": {}}}}}",
        numbered.join(", "),
        json!(datapoints),
    )
    .into_bytes()
}

/// Puts a cache file where the Python agent would have put it; `directory` is that of its agent id.
pub fn leave(directory: &Path, agent_id: &str, at: u64, body: &[u8]) -> PathBuf {
    fs::create_dir_all(directory).expect("a cache directory");
    let path = directory.join(format!("{at}_{agent_id}.json"));
    fs::write(&path, body).expect("a cache file");
    path
}
