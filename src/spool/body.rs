//! Whether a stored body is one that the server would take, without building it in memory.
//!
//! The server answers 500 to anything but the four keys, and that for ever: such a file would stop the queue.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

/// How many datapoints `body` holds, or what is wrong with it.
pub fn check(body: &[u8], agent_id: &str) -> Result<usize, String> {
    let body: Body<'_> = serde_json::from_slice(body).map_err(|error| format!("it is no post body: {error}"))?;
    if body.pattoo_agent_id.trim() != agent_id {
        return Err(format!("it is of another agent, {:?}", body.pattoo_agent_id));
    }
    Ok(body.pattoo_datapoints.datapoint_pairs.0)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(rename = "pattoo_agent_timestamp")]
    _timestamp: IgnoredAny,
    #[serde(borrow)]
    pattoo_agent_id: std::borrow::Cow<'a, str>,
    #[serde(rename = "pattoo_agent_polling_interval")]
    _interval: IgnoredAny,
    pattoo_datapoints: Datapoints,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Datapoints {
    #[serde(rename = "key_value_pairs")]
    _pairs: IgnoredAny,
    datapoint_pairs: Length,
}

/// The length of a list whose items nobody looks at.
struct Length(usize);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Count;
        impl<'de> Visitor<'de> for Count {
            type Value = Length;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of datapoints")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Length, A::Error> {
                let mut length = 0;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    length += 1;
                }
                Ok(Length(length))
            }
        }
        deserializer.deserialize_seq(Count)
    }
}
