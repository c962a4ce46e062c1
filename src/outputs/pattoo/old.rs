//! A batch of an old cache (the Python agent's, or of an earlier release of this one) on its way to the server.
//!
//! Such a batch is a body already. It goes byte for byte if nothing stands against it; else as new bodies of its rows, whose
//! values are copied as they were written. Rows that crash the server's ingester, that are stamped more than an hour ahead of
//! the clock (the server would drop every later reading of their series until then), or that have no date, are never posted:
//! they are [`unsound`](OldLoad::unsound), and kept for people.

use super::body::{Body, Damaged, Datapoints, legible};
use super::encode::stamp;
use super::identity::AgentId;
use crate::outputs::{Encoded, OldLoad, Unsound};
use crate::reading::Timestamp;
use crate::shard::Shard;
use crate::spool::job::OldBatch;
use crate::text::Chain;
use crate::time::timeline::{HOUR, Stamp};

/// A batch that can be posted, at least in part.
#[derive(Debug)]
pub struct OldBody {
    agent_id: AgentId,
    shard: Shard,
    text: Vec<u8>,
    /// The stamp of its posts, if it is greater than that of the post before.
    at: Timestamp,
    /// Whether it may go byte for byte.
    plain: bool,
    /// Later stamps are too far ahead.
    latest: Timestamp,
    /// Of each sound row its series, and when the reading was taken.
    rows: Vec<(u32, Timestamp)>,
    unsound: Option<Unsound>,
}

impl OldBody {
    /// Reads a batch of the agent with this id, at `now`.
    ///
    /// # Errors
    /// When it is no body that the server would take, or one of another agent.
    pub fn new(batch: OldBatch, agent_id: &AgentId, shard: Shard, now: Timestamp) -> Result<Self, String> {
        let latest = now.after(HOUR);
        let text = legible(batch.body);
        let body = read(&text, agent_id, latest).map_err(|error| Chain(&error).to_string())?;
        let plain = body.is_plain(agent_id.as_str(), batch.at) && batch.at <= latest;
        let (found, bodies) = (body.unsound(), [body]);
        let sound = Datapoints::sound(&bodies);
        let rows: Vec<_> =
            (0..).zip(sound.series()).map(|(row, &series)| (series, sound.at(row).unwrap_or_default())).collect();
        let newest = rows.iter().map(|&(_, at)| at).max().unwrap_or(now);
        // A stamp that is ahead is not kept: those of all later posts would have to be greater.
        let at = if batch.at <= latest { batch.at } else { newest };
        let unsound = found.map(|(rows, why)| {
            let unsound = Datapoints::unsound(&bodies);
            let body = unsound.encode(0..unsound.len(), agent_id.as_str(), batch.at);
            Unsound { rows, at: batch.at, body, why: why.to_owned() }
        });
        Ok(Self { agent_id: agent_id.clone(), shard, at, plain, latest, rows, unsound, text })
    }

    /// A body of these rows as posted at `at`.
    fn body(&self, rows: &[usize], at: Timestamp) -> Vec<u8> {
        // It was read once already.
        let bodies: Vec<_> = read(&self.text, &self.agent_id, self.latest).into_iter().collect();
        Datapoints::sound(&bodies).encode(rows.iter().copied(), self.agent_id.as_str(), at)
    }
}

impl OldLoad for OldBody {
    fn unsound(&self) -> Option<Unsound> {
        self.unsound.clone()
    }

    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn series(&self, row: usize) -> u32 {
        self.rows.get(row).map_or(u32::MAX, |&(series, _)| series)
    }

    fn at(&self, row: usize) -> Timestamp {
        self.rows.get(row).map(|&(_, at)| at).unwrap_or_default()
    }

    fn encode(&self, rows: &[usize], room: usize, posted: Timestamp) -> Encoded {
        let stamp = stamp(self.shard, posted, self.at);
        let fits = self.text.len() <= room || rows.len() == 1;
        // Its own stamp stands in its bytes: so it can go as it is only if no post had that one or a greater one.
        if self.plain && stamp == self.at && rows.len() == self.rows.len() && fits {
            let body = Some(self.text.clone().into());
            return Encoded { body, taken: rows.len(), not_sendable: 0, stamp: Some(stamp) };
        }
        // Rows are of about one size.
        // By estimate first, because each attempt below reads the whole body.
        let fitting = room.saturating_mul(self.rows.len()) / self.text.len().max(1);
        let mut taken = rows.len().min(fitting.max(1));
        let mut body = self.body(rows.get(..taken).unwrap_or_default(), stamp);
        while body.len() > room && taken > 1 {
            // At least one less each time, so it ends.
            taken = (taken * room / body.len()).clamp(1, taken - 1);
            body = self.body(rows.get(..taken).unwrap_or_default(), stamp);
        }
        Encoded { body: Some(body.into()), taken, not_sendable: 0, stamp: Some(stamp) }
    }
}

/// The body, with the rows marked that must not be posted.
fn read<'a>(text: &'a [u8], agent_id: &AgentId, latest: Timestamp) -> Result<Body<'a>, Damaged> {
    let mut body = Body::parse(text)?.of_agent(agent_id.as_str())?;
    body.judge_stamps(|at| match Stamp::read(at) {
        Stamp::Undated(_) => Some("its reading has no date"),
        Stamp::At(_) if at > latest => Some("its timestamp is more than an hour ahead of the clock"),
        Stamp::At(_) => None,
    });
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::outputs::pattoo::identity::{Agent, Series};
    use crate::outputs::pattoo::payload::{Catalogue, Encoder};
    use crate::outputs::pattoo::server_rules::datapoints;
    use crate::reading::points::Kind;
    use crate::reading::{PointId, Reading, Value};
    use crate::spool::job::OldName;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
    const ROOM: usize = 1 << 20;
    const FAR: u64 = 3_600_001;

    fn id() -> AgentId {
        AgentId::from_bytes([0x4c; 32])
    }

    /// A body of ours with the stamp `at`: (series, milliseconds after [`NOW`], value) each.
    fn body(at: Timestamp, readings: &[(u32, u64, f64)]) -> Vec<u8> {
        let agent = Agent::new(id(), "plant-7").unwrap();
        let interval = Duration::from_secs(10);
        let series: Vec<_> = (0..8)
            .map(|n| Series::new("device", format!("input_register_{n}"), 1, Kind::Integer, interval).unwrap())
            .collect();
        let mut encoder = Encoder::new(Arc::new(Catalogue::new(&agent, interval, &series).unwrap()));
        for &(point, late, value) in readings {
            let at = NOW.after(Duration::from_millis(late));
            encoder.push(&Reading { point: PointId(point), at, value: Value::Float(value) }).unwrap();
        }
        encoder.finish(at).unwrap()
    }

    fn batch(at: Timestamp, body: Vec<u8>) -> OldBatch {
        OldBatch { name: OldName("a".to_owned()), at, body, left: 1 }
    }

    fn old(at: Timestamp, body: Vec<u8>) -> Result<OldBody, String> {
        OldBody::new(batch(at, body), &id(), Shard::default(), NOW)
    }

    fn rows(load: &OldBody) -> Vec<usize> {
        (0..load.rows()).collect()
    }

    fn values(body: &[u8]) -> Vec<f64> {
        datapoints(body).iter().map(|row| row["pattoo_value"].as_f64().unwrap()).collect()
    }

    #[test]
    fn a_plain_body_goes_byte_for_byte_unless_its_stamp_was_had() {
        let text = body(NOW, &[(0, 0, 1.0), (1, 5, 2.0)]);
        let load = old(NOW, text.clone()).unwrap();
        assert_eq!((load.unsound(), load.at(1), load.series(0)), (None, NOW.after(Duration::from_millis(5)), 0));
        let encoded = load.encode(&rows(&load), ROOM, Timestamp::default());
        let whole = Encoded { body: Some(text.clone().into()), taken: 2, not_sendable: 0, stamp: Some(NOW) };
        assert_eq!(encoded, whole);

        let later = load.encode(&rows(&load), ROOM, NOW);
        assert_eq!(later.stamp, Some(NOW.after(Duration::from_millis(1))));
        assert_eq!(values(&later.body.unwrap()), [1.0, 2.0]);
        // Of another shard the stamp is none of its own.
        let shard = "1/7".parse().unwrap();
        let load = OldBody::new(batch(NOW, text), &id(), shard, NOW).unwrap();
        let stamp = load.encode(&rows(&load), ROOM, Timestamp::default()).stamp.unwrap();
        assert_eq!(shard.stamp(stamp), stamp);
    }

    #[test]
    fn the_python_agents_newline_in_its_id_is_no_other_agent() {
        let text = String::from_utf8(body(NOW, &[(0, 0, 1.0)])).unwrap();
        let text = text.replacen(&format!(":\"{}\"", id()), &format!(": \"{}\\n\"", id()), 1);
        let load = old(NOW, text.into_bytes()).unwrap();
        let encoded = load.encode(&[0], ROOM, Timestamp::default());
        assert_eq!(values(&encoded.body.unwrap()), [1.0]);
    }

    #[test]
    fn what_crashes_the_ingester_or_is_ahead_or_undated_is_apart() {
        let text = body(NOW, &[(0, 0, 1.0), (1, 1, 2.0), (2, FAR, 3.0), (3, 2, 4.0), (4, 3, 5.0)]);
        let text = String::from_utf8(text).unwrap().replacen("2.0]", "Infinity]", 1);
        let text = text.replacen(
            &format!("[\"pattoo_timestamp\",{}]", 1_790_000_000_003_u64),
            "[\"pattoo_timestamp\",1000000000003]",
            1,
        );
        let load = old(NOW, text.into_bytes()).unwrap();
        let encoded = load.encode(&rows(&load), ROOM, Timestamp::default());
        assert_eq!(values(&encoded.body.unwrap()), [1.0, 4.0]);
        let unsound = load.unsound().unwrap();
        assert_eq!((unsound.rows, unsound.at), (3, NOW));
        assert!(unsound.why.contains("1e29"), "{}", unsound.why);
        let kept = String::from_utf8(unsound.body).unwrap();
        assert_eq!(kept.matches("pattoo_checksum").count(), 3, "{kept}");
    }

    #[test]
    fn a_stamp_far_ahead_is_not_posted_and_its_readings_are() {
        let far = NOW.after(Duration::from_millis(FAR));
        let load = old(far, body(far, &[(0, 7, 1.0)])).unwrap();
        assert!(load.unsound().is_none());
        let encoded = load.encode(&[0], ROOM, Timestamp::default());
        assert_eq!(encoded.stamp, Some(NOW.after(Duration::from_millis(7))));
        // All of it is ahead.
        let load = old(far, body(far, &[(0, FAR, 1.0)])).unwrap();
        assert_eq!((load.rows(), load.unsound().unwrap().rows), (0, 1));
    }

    #[test]
    fn what_is_no_body_or_anothers_is_not_taken() {
        let good = String::from_utf8(body(NOW, &[(0, 0, 1.0)])).unwrap();
        let other = good.replace("4c4c", "5d5d");
        for (text, why) in [(&good[..90], "no post body"), ("[]", "no post body"), (&*other, "another agent")] {
            let error = old(NOW, text.as_bytes().to_vec()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_between_rows() {
        let readings: Vec<_> = (0..200).map(|n| (n % 8, u64::from(n), f64::from(n))).collect();
        let load = old(NOW, body(NOW, &readings)).unwrap();
        for room in [1, 2_000, 8_000] {
            let mut left = rows(&load);
            let mut all = Vec::new();
            while !left.is_empty() {
                let encoded = load.encode(&left, room, NOW);
                let body = encoded.body.unwrap();
                assert!(body.len() <= room || encoded.taken == 1);
                all.extend(values(&body));
                left.drain(..encoded.taken);
            }
            assert_eq!(all, (0..200).map(f64::from).collect::<Vec<_>>());
        }
    }
}
