//! For tests: the bodies recorded from the original agent, encoded anew from what they say.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::identity::{Agent, Series};
use super::payload::{Catalogue, Encoder};
use super::server_rules::{Datapoint, datapoints};
use crate::reading::points::Kind;
use crate::reading::{PointId, Reading, Timestamp, Value};

#[test]
fn our_encoder_sends_the_datapoints_that_the_original_sent() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden");
    let mut vectors = 0;
    for entry in fs::read_dir(golden).unwrap() {
        let folder = entry.unwrap().path();
        if folder.is_dir() {
            let recorded = fs::read(folder.join("body.json")).unwrap();
            assert_eq!(as_set(&datapoints(&encoded_anew(&recorded))), as_set(&datapoints(&recorded)), "{folder:?}");
            vectors += 1;
        }
    }
    assert_eq!(vectors, 7);
}

fn encoded_anew(recorded: &[u8]) -> Vec<u8> {
    let top: Json = serde_json::from_slice(recorded).unwrap();
    let datapoints = datapoints(recorded);
    let text = |datapoint: &Datapoint, key: &str| datapoint[key].as_str().unwrap().to_owned();

    let agent = Agent::new(
        top["pattoo_agent_id"].as_str().unwrap().parse().unwrap(),
        text(&datapoints[0], "pattoo_agent_hostname"),
    )
    .unwrap();
    let series: Vec<_> = datapoints
        .iter()
        .map(|datapoint| {
            assert_eq!(datapoint["pattoo_data_type"], 99);
            Series::new(
                text(datapoint, "pattoo_agent_polled_target"),
                text(datapoint, "pattoo_key"),
                text(datapoint, "unit").parse().unwrap(),
                Kind::Integer,
                Duration::from_millis(text(datapoint, "pattoo_agent_polling_interval").parse().unwrap()),
            )
            .unwrap()
        })
        .collect();
    let interval = Duration::from_millis(top["pattoo_agent_polling_interval"].as_u64().unwrap());

    let mut encoder = Encoder::new(Arc::new(Catalogue::new(&agent, interval, &series).unwrap()));
    for (point, datapoint) in (0..).map(PointId).zip(&datapoints) {
        let number = &datapoint["pattoo_value"];
        let value = number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap()), Value::Integer);
        let at = Timestamp::from_millis(datapoint["pattoo_timestamp"].as_u64().unwrap());
        encoder.push(&Reading { point, at, value }).unwrap();
    }
    encoder.finish(Timestamp::from_millis(top["pattoo_agent_timestamp"].as_u64().unwrap())).unwrap()
}

/// Text tells 13 from 13.0.
fn as_set(datapoints: &[Datapoint]) -> BTreeSet<String> {
    datapoints.iter().map(|datapoint| format!("{datapoint:?}")).collect()
}
