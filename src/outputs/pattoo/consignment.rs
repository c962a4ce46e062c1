//! A run of stored batches on its way to the server: as one body, or in as many as the way allows. Pure.
//!
//! Usually it is one batch that goes byte for byte as it was stored. Several become one body, because the
//! server takes a merged backlog a hundred times faster than single posts. What does not fit is cut between
//! rows, in order; what the server refuses for long is [taken apart](Consignment::take_apart) by series. Rows
//! that the server's ingester would die of are never part of a body ([`Consignment::unsound`]).
//!
//! The stamp of a body is the newest batch's, but greater than that of the post before it, so that the
//! server reads posts in the order in which they were sent, and one of the shard's own, so that no other shard's post
//! can take its place there.

use std::time::Duration;

use bytes::Bytes;

use super::body::{Body, Datapoints, legible};
use super::identity::AgentId;
use super::parts::Parts;
use crate::reading::Timestamp;
use crate::shard::Shard;
use crate::time::timeline::HOUR;

/// A stored batch.
#[derive(Debug)]
pub struct Item {
    /// The stamp of its name.
    pub at: Timestamp,
    /// The body as stored.
    pub body: Bytes,
    /// How many datapoints it holds.
    pub datapoints: usize,
    /// Whether the body can be posted byte for byte.
    pub plain: bool,
}

/// One body to post.
#[derive(Debug, PartialEq, Eq)]
pub struct Post {
    /// Its stamp.
    pub at: Timestamp,
    /// The text.
    pub body: Bytes,
}

/// Datapoints that are not delivered, as a body for people to look at.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// How many.
    pub datapoints: usize,
    /// The text.
    pub body: Vec<u8>,
    /// What is wrong with them.
    pub why: &'static str,
}

/// Batches that are posted together, and how far that has come.
#[derive(Debug)]
pub struct Consignment {
    agent_id: AgentId,
    shard: Shard,
    items: Vec<Item>,
    /// The newest stamp of the items.
    newest: Timestamp,
    unsound: Option<(usize, &'static str)>,
    /// What each of the parts' items is: rows that stay together.
    groups: Groups,
    parts: Parts,
}

#[derive(Debug)]
enum Groups {
    /// Each row by itself.
    Rows,
    /// All rows of a series.
    Series(Vec<Vec<usize>>),
}

impl Consignment {
    /// The `items`, oldest first, for this shard of the agent with this id.
    #[must_use]
    pub fn new(mut items: Vec<Item>, agent_id: AgentId, shard: Shard) -> Self {
        for item in items.iter_mut().filter(|item| !item.plain) {
            item.body = legible(std::mem::take(&mut item.body).into()).into();
        }
        let newest = items.iter().map(|item| item.at).max().unwrap_or_default();
        let mut this =
            Self { agent_id, shard, items, newest, unsound: None, groups: Groups::Rows, parts: Parts::in_order(0) };
        let rows = if this.is_plain() { this.datapoints() } else { this.read(|sound, _| sound.len()) };
        this.unsound = this.find_unsound();
        this.parts = Parts::in_order(rows);
        this
    }

    /// Goes on series by series, to find out which of them the server refuses.
    pub fn take_apart(&mut self) {
        let delivered = self.parts.next().map_or(0, |part| part.start);
        let mut groups: Vec<Vec<usize>> = Vec::new();
        self.read(|sound, _| {
            for (row, &series) in sound.series().iter().enumerate().skip(delivered) {
                let series = series as usize;
                groups.resize(groups.len().max(series + 1), Vec::new());
                groups[series].push(row);
            }
        });
        // Series of which all rows are delivered have none left.
        groups.retain(|rows| !rows.is_empty());
        self.parts = Parts::apart(groups.len());
        self.groups = Groups::Series(groups);
    }

    /// Whether it goes by series already.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        matches!(self.groups, Groups::Series(_))
    }

    /// How many datapoints it holds, sound or not.
    #[must_use]
    pub fn datapoints(&self) -> usize {
        self.items.iter().map(|item| item.datapoints).sum()
    }

    /// What to post next, after a post of the stamp `posted` was delivered; `None` when all is done.
    #[must_use]
    pub fn next(&self, posted: Timestamp) -> Option<Post> {
        let part = self.parts.next()?;
        let at = self.shard.stamp(after(posted, self.newest));
        let body = match &self.groups {
            Groups::Rows if self.is_plain() && at == self.newest && part.len() == self.datapoints() => {
                self.items.first()?.body.clone()
            }
            Groups::Rows => self.encode(part, at).into(),
            Groups::Series(groups) => {
                let mut rows: Vec<usize> = groups.get(part)?.concat();
                rows.sort_unstable();
                self.encode(rows, at).into()
            }
        };
        Some(Post { at, body })
    }

    /// How the posts go on; told what became of each.
    pub fn parts(&mut self) -> &mut Parts {
        &mut self.parts
    }

    /// The datapoints that the server's ingester would not survive.
    #[must_use]
    pub fn unsound(&self) -> Option<Kept> {
        let (datapoints, why) = self.unsound?;
        let body = self.read(|_, unsound| unsound.encode(0..unsound.len(), self.agent_id.as_str(), self.newest));
        Some(Kept { datapoints, body, why })
    }

    /// The datapoints that the server refused while it took the others.
    #[must_use]
    pub fn condemned(&self) -> Option<Kept> {
        let Groups::Series(groups) = &self.groups else { return None };
        let mut rows: Vec<usize> =
            self.parts.condemned().iter().filter_map(|&series| groups.get(series)).flatten().copied().collect();
        rows.sort_unstable();
        let datapoints = rows.len();
        (datapoints > 0).then(|| Kept {
            datapoints,
            body: self.encode(rows, self.newest),
            why: "the server refuses them, though it takes others",
        })
    }

    fn is_plain(&self) -> bool {
        matches!(&self.items[..], [item] if item.plain)
    }

    fn find_unsound(&self) -> Option<(usize, &'static str)> {
        let found =
            self.items.iter().filter(|item| !item.plain).filter_map(|item| Body::parse(&item.body).ok()?.unsound());
        found.reduce(|(sum, why), (rows, _)| (sum + rows, why))
    }

    fn encode(&self, rows: impl IntoIterator<Item = usize>, at: Timestamp) -> Vec<u8> {
        self.read(|sound, _| sound.encode(rows, self.agent_id.as_str(), at))
    }

    /// Reads all bodies; `use_rows` is given the rows to post and those never to post.
    fn read<T>(&self, use_rows: impl FnOnce(&Datapoints<'_>, &Datapoints<'_>) -> T) -> T {
        let bodies: Vec<_> = self.items.iter().filter_map(|item| Body::parse(&item.body).ok()).collect();
        use_rows(&Datapoints::sound(&bodies), &Datapoints::unsound(&bodies))
    }
}

/// The stamp of a post that is to follow one of `posted`: `newest`, or the millisecond after `posted`. If that
/// is more than an hour ahead the clock was set back, and the true clock counts.
fn after(posted: Timestamp, newest: Timestamp) -> Timestamp {
    if newest > posted || posted.since(newest) > HOUR { newest } else { posted.after(Duration::from_millis(1)) }
}
