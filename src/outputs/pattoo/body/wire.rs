//! The JSON of a body as serde sees it: borrowed from the text, exactly the server's keys.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wire<'a> {
    #[serde(rename = "pattoo_agent_timestamp")]
    pub(super) at: u64,
    #[serde(rename = "pattoo_agent_id", borrow)]
    pub(super) agent_id: Cow<'a, str>,
    #[serde(rename = "pattoo_agent_polling_interval")]
    pub(super) interval: u32,
    #[serde(rename = "pattoo_datapoints", borrow)]
    pub(super) datapoints: WireDatapoints<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireDatapoints<'a> {
    #[serde(rename = "key_value_pairs", borrow, deserialize_with = "pairs")]
    pub(super) pairs: Pairs<'a>,
    #[serde(rename = "datapoint_pairs")]
    pub(super) rows: Vec<[u32; 11]>,
}

/// Id, key, and the value as written.
pub(super) type Pairs<'a> = Vec<(u32, Cow<'a, str>, &'a str)>;

#[derive(Deserialize)]
struct WirePair<'a>(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] &'a RawValue);

fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pairs<'de>, D::Error> {
    struct ById;
    impl<'de> Visitor<'de> for ById {
        type Value = Pairs<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("pairs by their ids")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            let mut ids = HashSet::new();
            while let Some((id, WirePair(key, value))) = map.next_entry::<u32, WirePair<'de>>()? {
                if !ids.insert(id) {
                    return Err(A::Error::custom(format_args!("pair {id} is there twice")));
                }
                pairs.push((id, key, value.get()));
            }
            Ok(pairs)
        }
    }
    deserializer.deserialize_map(ById)
}
