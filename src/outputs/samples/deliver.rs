//! One post, and what its answers mean.
//!
//! Such a server keeps each series in order of time, and does not say which series of a post it refuses, nor always the whole
//! post: Prometheus takes all of it or nothing (`storage/remote/write_handler.go` rolls back at the first sample that it does
//! not take), Mimir and Thanos take what they can. A sample is
//!
//! | refused as | when the server has of its series |
//! |---|---|
//! | nothing: it is taken, or there already | nothing newer, or this very sample as the newest one |
//! | *out of order* | something newer |
//! | *duplicate* | another value of the same time |
//! | *out of bounds*, *too old* | anything: it is older than what the server still takes of any series |
//!
//! # Rules
//!
//! - While answers fail or take long, and while something may be there already, a post holds one sample of each series
//!   ([`pace`](super::pace)). So what is repeated because its answer was in doubt is refused by nobody.
//! - A post that is refused in such words goes again in parts, until it is known of each sample by itself: of each series the
//!   oldest, then the next. What the server took on the way it keeps, and what was found out is not asked again.
//! - *Out of order* means that the server has it, where it was posted before. In this life: it was taken, or it was in a post
//!   that nobody answered and that had a later sample of its series, for a server takes what a post has of a series as a
//!   whole. Or in an earlier life, whose cursor was lost with the power ([`Deliver::post_again`]).
//! - Of all else, and of any series of which something was taken in this life, it means that somebody else writes the same
//!   series.
//! - What is refused so will be refused for ever ([`Verdict::RefusedForGood`]): it is set aside without being asked for again,
//!   and a backlog that is older than the server's window does not stop what comes behind it. A time that is still to come is
//!   another matter: it is waited for.
//! - Other words are about the post ([`Verdict::RefusedPart`]: Mimir's limits, names), about us, or about the server.

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{Hash as _, Hasher as _};
use std::time::Instant;

use awc::http::{Method, Uri};
use bytes::Bytes;
use prost::Message as _;

use super::answer::{NotTaken, Refusal};
use super::pace::Pace;
use super::post::{Post, PostSample, PostSeries};
use crate::outputs::http::{Endpoint, Headers, HttpClient, HttpError, Reply, Request};
use crate::outputs::{Answer, Deliver, Failure, LocalFuture, Verdict};
use crate::text::count;

/// How a kind of server is written to.
pub trait Protocol {
    /// Whether every server takes a request that has nothing in it; else some say that there is nothing in it.
    const TAKES_NOTHING: bool;

    /// The body of a request, and its headers. Without series: one that asks whether the server would take something.
    ///
    /// # Errors
    /// When there can be none.
    fn request(&self, series: &[Series]) -> Result<(Headers, Bytes), Failure>;

    /// What follows from an answer of `server`.
    ///
    /// # Errors
    /// When it does not mean that the server has all of it.
    fn judge(&self, server: &str, reply: &Reply) -> Result<(), NotTaken>;
}

/// Where posts are written, known to be well formed.
#[derive(Debug, Clone)]
pub struct Target<P> {
    /// The server.
    pub endpoint: Endpoint,
    /// The whole address of the endpoint.
    pub uri: Uri,
    /// What is said there.
    pub protocol: P,
}

/// Writes posts.
pub struct SampleDeliver<P> {
    client: HttpClient,
    uri: Uri,
    protocol: P,
    pace: Pace,
    known: HashMap<u64, Known>,
    /// Of each series the last time in each post of which nobody knows whether it was taken, as far as that matters still.
    doubts: HashMap<u64, BTreeSet<i64>>,
    /// So many readings of earlier lives were there already, and nobody was told of them yet.
    there: usize,
}

/// What is known of a series in this life.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The server has everything up to here.
    until: i64,
    /// It has taken something, and did not merely have it.
    taken: bool,
}

/// A series of a post, and what is to be sent of it.
#[derive(Debug, Clone)]
pub struct Series {
    /// Tells it from others.
    key: u64,
    /// What [`Describe`](super::encode::Describe) has made of it.
    pub head: Bytes,
    /// In order of time.
    pub samples: VecDeque<PostSample>,
}

/// What the search has found so far.
#[derive(Debug)]
struct Found {
    /// The places of samples that are refused for good.
    refused: Vec<usize>,
    /// In which words.
    text: String,
    /// How many series go into the next request of it.
    width: usize,
}

impl<P: Protocol> SampleDeliver<P> {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(Target { endpoint, uri, protocol }: Target<P>, pace: Pace) -> Self {
        let client = HttpClient::new(endpoint);
        Self { client, uri, protocol, pace, known: HashMap::new(), doubts: HashMap::new(), there: 0 }
    }

    /// Posts; `again`: what an earlier life may have posted.
    async fn write(&mut self, body: Bytes, again: bool) -> Result<(), Failure> {
        if !again && self.there > 0 {
            let (server, there) = (self.client.server(), count(std::mem::take(&mut self.there), "reading"));
            tracing::info!(
                "{server} had {there} of before this start already, or newer ones of the same series: what an earlier run has \
                 posted, unless somebody else writes the same series"
            );
        }
        let all = series_of(body);
        let mut series = all.clone();
        self.leave_out_what_is_there(&mut series);
        // Even when there is nothing to be said the server is asked: what it answers is evidence of how it is.
        let series = if series.is_empty() { all } else { series };
        let begun = Instant::now();
        let result = self.send(&series).await;
        match result {
            Ok(()) => {
                // Where something may be there already a post may be refused, and a server that takes posts in part has taken two
                // samples of a series then: nobody could say what became of the earlier one.
                if !again && self.doubts.is_empty() {
                    self.pace.taken(begun.elapsed());
                }
                Ok(())
            }
            Err(not_taken) => {
                self.pace.failed();
                match not_taken {
                    NotTaken::Otherwise(failure) => Err(failure),
                    NotTaken::Samples(refusal, text) => self.find_out(series, refusal, text, again).await,
                }
            }
        }
    }

    /// Finds out what becomes of each sample of a post that was refused.
    async fn find_out(
        &mut self,
        mut series: Vec<Series>,
        mut refusal: Refusal,
        text: String,
        again: bool,
    ) -> Result<(), Failure> {
        // Half of it: all of it was refused just now.
        let mut found = Found { refused: Vec::new(), text, width: series.len().div_ceil(2) };
        loop {
            self.leave_out_what_is_there(&mut series);
            let oldest = series.iter_mut().filter_map(|Series { key, head, samples }| {
                let sample = samples.pop_front()?;
                Some(Series { key: *key, head: head.clone(), samples: [sample].into() })
            });
            let oldest: Vec<_> = oldest.collect();
            if oldest.is_empty() {
                break;
            }
            let was_too_old = self.find_out_oldest(oldest, refusal, again, &mut found).await?;
            self.leave_out_what_is_there(&mut series);
            if was_too_old || series.is_empty() {
                continue;
            }
            match self.send(&series).await {
                Ok(()) => break,
                Err(NotTaken::Otherwise(failure)) => return Err(failure),
                Err(NotTaken::Samples(next, _)) => refusal = next,
            }
        }
        if found.refused.is_empty() {
            return Ok(());
        }
        Err(Failure { verdict: Verdict::RefusedForGood, kind: "refused", text: found.text, refused: found.refused })
    }

    /// The same of one sample of each series; whether some are too old.
    async fn find_out_oldest(
        &mut self,
        mut left: Vec<Series>,
        refusal: Refusal,
        again: bool,
        found: &mut Found,
    ) -> Result<bool, Failure> {
        let mut was_too_old = false;
        // Newest first: when a server finds that one too old, it is all of them.
        if refusal == Refusal::TooOld {
            left.sort_by_key(|one| std::cmp::Reverse(one.first()));
            found.width = 1;
        }
        while !left.is_empty() {
            let width = found.width.clamp(1, left.len());
            let (refusal, said) = match self.send(&left[..width]).await {
                Ok(()) => {
                    left.drain(..width);
                    // What was halved to find a sample grows again behind it.
                    found.width = width.saturating_mul(2);
                    continue;
                }
                Err(NotTaken::Otherwise(failure)) => return Err(failure),
                Err(NotTaken::Samples(refusal, said)) => (refusal, said),
            };
            if width > 1 {
                found.width = width / 2;
                continue;
            }
            let one = left.remove(0);
            let (key, at) = (one.key, one.first());
            if refusal == Refusal::OutOfOrder
                && let Some(until) = self.end_of_doubt(key, at)
            {
                self.has(key, Known { until, taken: true });
                continue;
            }
            if refusal == Refusal::OutOfOrder && again && !self.known.get(&key).is_some_and(|known| known.taken) {
                self.has(key, Known { until: at, taken: false });
                self.there += 1;
                continue;
            }
            // It is refused for good: posts in doubt that end here or before say nothing more.
            self.settle(key, at);
            found.text = said;
            found.refused.extend(one.places());
            if refusal == Refusal::TooOld {
                was_too_old = true;
                found.refused.extend(left.extract_if(.., |other| other.first() <= at).flat_map(|other| other.places()));
            }
        }
        Ok(was_too_old)
    }

    /// Sends what is left of these series.
    async fn send(&mut self, series: &[Series]) -> Result<(), NotTaken> {
        let (headers, body) = self.protocol.request(series).map_err(NotTaken::Otherwise)?;
        let request = Request { method: Method::POST, uri: &self.uri, headers: &headers, body };
        let reply = self.client.exchange(request).await;
        let is_known = match &reply {
            // After 408 and 5xx nobody knows: what stands in between says these, too, when the server may have taken
            // it.
            Ok(reply) => reply.is_whole_success() || matches!(reply.status, 300..=407 | 409..=499),
            Err(error) => matches!(error, HttpError::Connect { .. }),
        };
        // The first of two requests may have been taken and the second refused.
        if !is_known || self.client.has_repeated() {
            self.doubt(series);
        }
        match reply {
            Ok(reply) => self.protocol.judge(self.client.server(), &reply)?,
            Err(error) => return Err(NotTaken::Otherwise(error.into())),
        }
        for one in series {
            self.has(one.key, Known { until: one.last(), taken: true });
        }
        Ok(())
    }

    /// Nobody knows whether the server has taken these samples.
    fn doubt(&mut self, series: &[Series]) {
        for one in series {
            self.doubts.entry(one.key).or_default().insert(one.last());
        }
    }

    /// Up to which time the server has a series, if it has something newer than `at` because it took a post that was not answered.
    fn end_of_doubt(&self, key: u64, at: i64) -> Option<i64> {
        self.doubts.get(&key)?.range(at + 1..).next().copied()
    }

    /// The server has so much of a series.
    fn has(&mut self, key: u64, Known { until, taken }: Known) {
        let known = self.known.entry(key).or_insert(Known { until, taken });
        *known = Known { until: known.until.max(until), taken: known.taken || taken };
        self.settle(key, until);
    }

    /// It is known what became of a series up to here.
    fn settle(&mut self, key: u64, until: i64) {
        if let Entry::Occupied(mut doubts) = self.doubts.entry(key) {
            doubts.get_mut().retain(|end| *end > until);
            if doubts.get().is_empty() {
                doubts.remove();
            }
        }
    }

    fn leave_out_what_is_there(&self, series: &mut Vec<Series>) {
        for Series { key, samples, .. } in &mut *series {
            if let Some(Known { until, .. }) = self.known.get(key) {
                samples.retain(|sample| sample.sample.timestamp > *until);
            }
        }
        series.retain(|series| !series.samples.is_empty());
    }
}

impl Series {
    pub(in crate::outputs) fn of(PostSeries { head, samples }: PostSeries) -> Self {
        let mut hasher = DefaultHasher::new();
        head.hash(&mut hasher);
        Self { key: hasher.finish(), head, samples: samples.into() }
    }

    fn first(&self) -> i64 {
        self.samples.front().map_or(i64::MIN, |sample| sample.sample.timestamp)
    }

    fn last(&self) -> i64 {
        self.samples.back().map_or(i64::MIN, |sample| sample.sample.timestamp)
    }

    fn places(&self) -> impl Iterator<Item = usize> + use<> {
        self.samples.clone().into_iter().map(|sample| sample.place as usize)
    }
}

/// The series of a post.
pub(in crate::outputs) fn series_of(body: Bytes) -> Vec<Series> {
    let Post { series } = Post::decode(body).unwrap_or_default();
    series.into_iter().map(Series::of).collect()
}

impl<P: Protocol> Deliver for SampleDeliver<P> {
    fn post(&mut self, body: Bytes) -> LocalFuture<'_, Answer> {
        Box::pin(async move { Answer { result: self.write(body, false).await, server_time: None } })
    }

    fn post_again(&mut self, body: Bytes) -> LocalFuture<'_, Answer> {
        Box::pin(async move { Answer { result: self.write(body, true).await, server_time: None } })
    }

    fn try_out(&mut self) -> LocalFuture<'_, Result<String, Failure>> {
        // A request without a series: whatever is said of it, the login was looked at first.
        Box::pin(async {
            match self.write(Bytes::new(), false).await {
                Err(Failure { verdict: Verdict::RefusedBody | Verdict::RefusedPart, .. }) if !P::TAKES_NOTHING => {}
                result => result?,
            }
            Ok("answers".to_owned())
        })
    }
}

#[cfg(test)]
mod tests;
