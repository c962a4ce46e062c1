//! Readings → one post, with as many samples of each series as [`Pace`] allows: one, as a rule.
//!
//! A server keeps a series in order of time: it refuses what is older than the newest sample that it has, and ignores that one
//! itself when it comes again. So of a post with one sample of each series any part can go alone, in any order, and all of it
//! again: nothing of it is refused for having been taken before. A post ends where a series would have too many.
//!
//! Not sendable: a value that is not finite, a point that has no series.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::pace::Pace;
use super::post::{Post, PostSample, PostSeries, Sample};
use crate::outputs::recent::Recent;
use crate::outputs::{Encode, Encoded};
use crate::reading::points::{Point, PointTable};
use crate::reading::{Reading, Timestamp};

/// What a point is to a kind of server.
pub trait Describe: Send + fmt::Debug {
    /// The series of a point; `None` if it cannot be one.
    fn series(&self, point: &Point<'_>) -> Option<Description>;

    /// What is kept of samples that are refused, for people.
    fn aside(&self, samples: Vec<(&Description, Sample)>) -> String;

    /// How the name of a file ends that holds that.
    fn extension(&self) -> &'static str;
}

/// A series.
#[derive(Debug)]
pub struct Description {
    /// As the protocol needs it; no other series has the same.
    pub head: Bytes,
    /// As people know it.
    pub text: String,
    /// About what a sample of it takes in a body.
    pub sample_bytes: usize,
}

/// Makes posts.
#[derive(Debug)]
pub struct SampleEncode<D> {
    describe: D,
    pace: Pace,
    tables: Recent<Table>,
}

/// What the points of a table are.
#[derive(Debug)]
struct Table {
    series: Vec<Series>,
    /// Of each point its place in `series`; `None` if it cannot be one.
    points: Vec<Option<usize>>,
    /// How many posts were made of it.
    posts: u64,
}

#[derive(Debug)]
struct Series {
    is: Description,
    /// The last post that has a sample of it, and its place there.
    post: (u64, usize),
}

impl<D: Describe> SampleEncode<D> {
    /// At the pace that is found when posts are delivered.
    #[must_use]
    pub fn new(describe: D, pace: Pace) -> Self {
        Self { describe, pace, tables: Recent::default() }
    }
}

impl<D: Describe> Encode for SampleEncode<D> {
    fn encode(&mut self, table: &Arc<PointTable>, readings: &[Reading], room: usize, _: Timestamp) -> Encoded {
        let most = self.pace.samples();
        let Table { series, points, posts } = self.tables.of(table, || Table::new(table, &self.describe));
        // From 1 on: 0 is the post of a series that was in none. By the number nothing need be cleared between posts.
        *posts += 1;
        let mut post = Post::default();
        let (mut taken, mut sent, mut bytes) = (0, 0, 0);
        for (place, reading) in (0..).zip(readings) {
            let of = points.get(reading.point.index()).copied().flatten().and_then(|of| series.get_mut(of));
            let (Some(of), Some(sample)) = (of, sample(*reading)) else {
                taken += 1;
                continue;
            };
            if of.post.0 != *posts {
                of.post = (*posts, post.series.len());
                bytes += of.is.head.len();
                post.series.push(PostSeries { head: of.is.head.clone(), samples: Vec::new() });
            }
            let Some(PostSeries { samples, .. }) = post.series.get_mut(of.post.1) else { break };
            let is_next = samples.last().is_none_or(|last| last.sample.timestamp < sample.timestamp);
            // The post ends here, and does not pass over this sample: readings are taken from the front, without a gap.
            if samples.len() >= most || !is_next {
                break;
            }
            samples.push(PostSample { sample, place });
            taken += 1;
            sent += 1;
            bytes += of.is.sample_bytes;
            if bytes + bytes / sent > room {
                break;
            }
        }
        let body = (sent > 0).then(|| post.encode_to_vec().into());
        Encoded { body, taken, not_sendable: taken - sent, stamp: None }
    }

    fn set_aside(&mut self, table: &Arc<PointTable>, readings: &[Reading]) -> Encoded {
        let Table { series, points, .. } = self.tables.of(table, || Table::new(table, &self.describe));
        let samples = readings.iter().filter_map(|reading| {
            let of = points.get(reading.point.index()).copied().flatten().and_then(|place| series.get(place));
            Some((&of?.is, sample(*reading)?))
        });
        let samples: Vec<_> = samples.collect();
        let not_sendable = readings.len() - samples.len();
        let body = (!samples.is_empty()).then(|| Bytes::from(self.describe.aside(samples)));
        Encoded { body, taken: readings.len(), not_sendable, stamp: None }
    }

    fn extension(&self) -> &'static str {
        self.describe.extension()
    }
}

/// A reading that a server can take.
fn sample(Reading { at, value, .. }: Reading) -> Option<Sample> {
    let value = value.as_f64();
    // Not a number is how servers mark the end of a series, among others.
    let timestamp = i64::try_from(at.as_millis()).ok()?;
    value.is_finite().then_some(Sample { value, timestamp })
}

impl Table {
    fn new(table: &PointTable, describe: &impl Describe) -> Self {
        let mut known: HashMap<Bytes, usize> = HashMap::new();
        let mut series = Vec::new();
        let points = table.iter().map(|point| {
            let is = describe.series(&point)?;
            let place = *known.entry(is.head.clone()).or_insert(series.len());
            if place == series.len() {
                series.push(Series { is, post: (0, 0) });
            }
            Some(place)
        });
        let points = points.collect();
        Self { points, series, posts: 0 }
    }
}
