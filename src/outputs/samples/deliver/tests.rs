//! Posts by remote write to a stand-in that keeps series as Prometheus does, or takes of a post what it can, as Mimir does.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use awc::http::header::HeaderMap;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::outputs::fixtures::network;
use crate::outputs::http::End;
use crate::outputs::network::{Network, Secret};
use crate::outputs::prometheus::PrometheusSettings;
use crate::outputs::prometheus::message::{Label, TimeSeries};
use crate::outputs::prometheus::remote_write::RemoteWrite;
use crate::outputs::samples::encode::SampleEncode;
use crate::outputs::samples::post::Sample;
use crate::outputs::{Encode as _, Encoded};
use crate::reading::points::{Builder, Device, Kind, Register};
use crate::reading::{PointId, Reading, Timestamp, Value};

/// `WriteRequest`, by its specification.
#[derive(Clone, PartialEq, prost::Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

/// A server that keeps series.
#[derive(Debug, Default)]
struct Shelf {
    /// Of each series its samples, in order of time.
    series: BTreeMap<String, Vec<(i64, f64)>>,
    /// Nothing older is taken.
    oldest: i64,
    /// Whether it takes what it can of a post, not all or nothing.
    in_part: bool,
    /// The requests of these numbers, from 1, are taken and not answered.
    silent: Vec<usize>,
    /// So many requests of a hundred are not answered, half of them not taken either.
    loses: u8,
    random: fastrand::Rng,
    requests: usize,
    heads: Vec<String>,
}

impl Shelf {
    /// Why a sample cannot follow `newest`.
    fn refuses(&self, newest: Option<(i64, f64)>, Sample { value, timestamp }: Sample) -> Option<&'static str> {
        match newest {
            _ if timestamp < self.oldest => Some("out of bounds"),
            Some((newest, _)) if timestamp < newest => Some("out of order sample"),
            Some((newest, other)) if timestamp == newest && other.to_bits() != value.to_bits() => {
                Some("duplicate sample for timestamp")
            }
            _ => None,
        }
    }

    fn write(&mut self, body: &[u8]) -> Result<(), &'static str> {
        let body = snap::raw::Decoder::new().decompress_vec(body).unwrap();
        let (mut good, mut refused) = (Vec::new(), None);
        for TimeSeries { labels, samples } in WriteRequest::decode(&*body).unwrap().timeseries {
            assert!(samples.is_sorted_by(|a, b| a.timestamp < b.timestamp));
            let name = labels[0].value.clone();
            // Against what it had before: of what else is in the post it knows nothing yet.
            let newest = self.series.get(&name).and_then(|samples| samples.last().copied());
            for sample in samples {
                match self.refuses(newest, sample) {
                    Some(why) => refused = refused.or(Some(why)),
                    None => good.push((name.clone(), sample)),
                }
            }
        }
        if refused.is_none() || self.in_part {
            for (series, Sample { value, timestamp }) in good {
                let samples = self.series.entry(series).or_default();
                if samples.last() != Some(&(timestamp, value)) {
                    samples.push((timestamp, value));
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// The times of each series.
    fn times(&self, series: &str) -> Vec<i64> {
        self.series.get(series).map_or_else(Vec::new, |samples| samples.iter().map(|(at, _)| *at).collect())
    }
}

async fn serve(shelf: Rc<RefCell<Shelf>>, listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        actix_rt::spawn(converse(Rc::clone(&shelf), stream));
    }
}

async fn converse(shelf: Rc<RefCell<Shelf>>, mut stream: TcpStream) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let answer = {
            let mut shelf = shelf.borrow_mut();
            shelf.requests += 1;
            shelf.heads.push(head);
            let loses = shelf.random.u8(0..100) < shelf.loses;
            if loses && shelf.random.bool() {
                return;
            }
            let answer = match shelf.write(&body) {
                Ok(()) => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
                Err(why) => format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n{why}\n", why.len() + 1),
            };
            if loses || shelf.silent.contains(&shelf.requests) {
                return;
            }
            answer
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

/// A server and what writes to it.
async fn world(shelf: Shelf) -> (Rc<RefCell<Shelf>>, SampleDeliver<RemoteWrite>) {
    let shelf = Rc::new(RefCell::new(shelf));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    actix_rt::spawn(serve(Rc::clone(&shelf), listener));
    (shelf, SampleDeliver::new(RemoteWrite::target(&settings(port)).unwrap(), Pace::default()))
}

fn settings(port: u16) -> PrometheusSettings {
    PrometheusSettings {
        network: Network {
            base: "/api/v1/write".to_owned(),
            token: Some(Secret::new("abc".to_owned())),
            ..network(&format!("http://127.0.0.1:{port}/api/v1/write"), port)
        },
        parameters: Vec::new(),
        metric: "m".parse().unwrap(),
        counter_suffix: String::new(),
        labels: Vec::new(),
    }
}

/// Of each its series and its time; those of one series follow each other.
fn post(samples: &[(&str, i64)]) -> Bytes {
    let mut series: Vec<PostSeries> = Vec::new();
    for (place, (name, timestamp)) in (0..).zip(samples) {
        let label = Label { name: "__name__".to_owned(), value: (*name).to_owned() };
        let head: Bytes = TimeSeries { labels: vec![label], samples: Vec::new() }.encode_to_vec().into();
        let sample = PostSample { sample: Sample { value: 1.5, timestamp: *timestamp }, place };
        match series.iter_mut().find(|series| series.head == head) {
            Some(series) => series.samples.push(sample),
            None => series.push(PostSeries { head, samples: vec![sample] }),
        }
    }
    Post { series }.encode_to_vec().into()
}

/// The places that are refused for good.
fn refused(result: Result<(), Failure>) -> Vec<usize> {
    let failure = result.unwrap_err();
    assert_eq!(failure.verdict, Verdict::RefusedForGood, "{}", failure.text);
    let mut refused = failure.refused;
    refused.sort_unstable();
    refused
}

fn verdict(result: Result<(), Failure>) -> Option<Verdict> {
    result.err().map(|failure| failure.verdict)
}

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

fn all(at: i64) -> Vec<(&'static str, i64)> {
    NAMES.iter().map(|name| (*name, at)).collect()
}

#[actix_rt::test]
async fn a_post_is_what_the_specification_wants() {
    let (shelf, mut deliver) = world(Shelf::default()).await;
    assert_eq!(verdict(deliver.write(post(&all(1)), false).await), None);
    let head = shelf.borrow().heads[0].clone();
    for part in [
        "post /api/v1/write http/1.1\r\n",
        "content-encoding: snappy\r\n",
        "content-type: application/x-protobuf\r\n",
        "x-prometheus-remote-write-version: 0.1.0\r\n",
        "user-agent: pattoo_agent_modbustcpd/",
        "authorization: bearer abc\r\n",
    ] {
        assert!(head.contains(part), "{part} in {head}");
    }
}

#[test]
fn parameters_stand_behind_the_path() {
    let uri = |parameters: &[(&str, &str)]| {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        RemoteWrite::target(&PrometheusSettings { parameters, ..settings(9090) }).unwrap().uri.to_string()
    };
    assert_eq!(uri(&[]), "http://127.0.0.1:9090/api/v1/write");
    assert_eq!(uri(&[("db", "a&b c"), ("x", "")]), "http://127.0.0.1:9090/api/v1/write?db=a%26b%20c&x=");
}

/// Of a server that takes all or nothing, and of one that takes what it can.
async fn both(test: impl AsyncFn(Shelf)) {
    for in_part in [false, true] {
        test(Shelf { in_part, ..Shelf::default() }).await;
    }
}

#[actix_rt::test]
async fn what_an_unanswered_post_brought_is_not_refused_when_it_comes_again() {
    both(async |shelf| {
        let (shelf, mut deliver) = world(Shelf { silent: vec![1, 2], ..shelf }).await;
        assert_eq!(
            verdict(deliver.write(post(&all(1)), false).await),
            Some(Verdict::Later { after: None, late: false })
        );
        assert_eq!(shelf.borrow().times("g"), [1]);
        // A smaller one, and one with more.
        assert_eq!(
            verdict(deliver.write(post(&all(1)[2..4]), false).await),
            Some(Verdict::Later { after: None, late: false })
        );
        assert_eq!(verdict(deliver.write(post(&all(1)[..3]), false).await), None);
        assert_eq!(verdict(deliver.write(post(&all(2)), false).await), None);
        assert!(NAMES.iter().all(|name| shelf.borrow().times(name) == [1, 2]));
        assert_eq!(shelf.borrow().requests, 4, "nothing was refused");
    })
    .await;
}

/// Its cursor was lost with the power: an earlier life has posted some of this, nobody knows how much.
#[actix_rt::test]
async fn what_an_earlier_life_has_posted_is_there_and_the_rest_is_taken() {
    both(async |shelf| {
        let old = |at| vec![(at, 1.5)];
        let series = BTreeMap::from([("a".to_owned(), old(3)), ("c".to_owned(), old(2)), ("g".to_owned(), old(4))]);
        let (shelf, mut deliver) = world(Shelf { series, ..shelf }).await;
        for at in 1..=5 {
            assert_eq!(verdict(deliver.write(post(&all(at)), at < 5).await), None, "{at}");
        }
        let shelf = shelf.borrow();
        assert_eq!(shelf.times("a"), [3, 4, 5]);
        assert_eq!(shelf.times("b"), [1, 2, 3, 4, 5]);
        assert_eq!(shelf.times("c"), [2, 3, 4, 5]);
        assert_eq!(shelf.times("g"), [4, 5]);
    })
    .await;
}

#[actix_rt::test]
async fn a_reading_of_this_life_that_is_out_of_order_is_refused_for_good_and_costs_no_other() {
    both(async |shelf| {
        let series = BTreeMap::from([("c".to_owned(), vec![(1_000, 1.5)]), ("d".to_owned(), vec![(101, 7.0)])]);
        let (shelf, mut deliver) = world(Shelf { series, ..shelf }).await;
        assert_eq!(refused(deliver.write(post(&all(101)), false).await), [2, 3]);
        for name in ["a", "b", "e", "f", "g"] {
            assert_eq!(shelf.borrow().times(name), [101], "{name}");
        }
        let again = post(&[("d", 101), ("a", 101), ("c", 101)]);
        assert_eq!(refused(deliver.write(again, false).await), [0, 2]);
        assert_eq!(verdict(deliver.write(post(&[("a", 101), ("b", 101)]), false).await), None);
    })
    .await;
}

/// Once the server has taken something of a series, somebody else wrote what is newer.
#[actix_rt::test]
async fn doubt_ends_with_the_first_sample_that_is_taken() {
    both(async |shelf| {
        let (shelf, mut deliver) = world(shelf).await;
        assert_eq!(verdict(deliver.write(post(&[("a", 1)]), true).await), None);
        shelf.borrow_mut().series.insert("a".to_owned(), vec![(1, 1.5), (9, 1.5)]);
        assert_eq!(refused(deliver.write(post(&[("a", 2)]), true).await), [0]);
        assert_eq!(verdict(deliver.write(post(&[("a", 1)]), false).await), None, "this life knows of it");
    })
    .await;
}

#[actix_rt::test]
async fn a_backlog_that_is_too_old_is_refused_for_good_in_two_requests() {
    both(async |shelf| {
        let (shelf, mut deliver) = world(Shelf { oldest: 50, ..shelf }).await;
        let mut samples = all(10);
        samples[3].1 = 12;
        assert_eq!(refused(deliver.write(post(&samples), false).await), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(shelf.borrow().requests, 2);
        // Across the border: what is not too old is taken.
        for (sample, at) in samples.iter_mut().zip([48, 52, 49, 50, 51, 47, 53]) {
            sample.1 = at;
        }
        assert_eq!(refused(deliver.write(post(&samples), false).await), [0, 2, 5]);
        for (name, at) in [("b", 52), ("d", 50), ("e", 51), ("g", 53)] {
            assert_eq!(shelf.borrow().times(name), [at], "{name}");
        }
    })
    .await;
}

/// What was found out is not lost when the search for the rest is cut off.
#[actix_rt::test]
async fn a_search_that_is_cut_off_goes_on_where_it_was() {
    both(async |shelf| {
        let series = ["b", "e", "g"].map(|name| (name.to_owned(), vec![(2, 1.5)])).into();
        // A kept connection that breaks is replaced once, so two in a row are lost.
        let silent = (1..200).filter(|number| number % 6 > 3).collect();
        let (shelf, mut deliver) = world(Shelf { series, silent, ..shelf }).await;
        let mut cut_off = 0;
        while let Some(answer) = verdict(deliver.write(post(&all(1)), true).await) {
            assert_eq!(answer, Verdict::Later { after: None, late: false });
            cut_off += 1;
            assert!(cut_off < 20);
        }
        assert!(cut_off > 2, "{cut_off}");
        let shelf = shelf.borrow();
        for name in NAMES {
            let there = ["b", "e", "g"].contains(&name);
            assert_eq!(shelf.times(name), [if there { 2 } else { 1 }], "{name}");
        }
    })
    .await;
}

/// Of a post that was not answered and had two samples of a series, the server has both or none, whatever came between.
#[actix_rt::test]
async fn what_more_samples_of_a_series_became_is_found_out() {
    both(async |shelf| {
        for taken in [true, false] {
            let shelf = Shelf { in_part: shelf.in_part, ..Shelf::default() };
            let (shelf, mut deliver) = world(shelf).await;
            let long: Vec<_> = NAMES.iter().flat_map(|name| [(*name, 1), (*name, 2), (*name, 3), (*name, 4)]).collect();
            let request = {
                // The first half of a smaller one was taken too, and not answered either.
                let ends = if taken { vec![4, 2] } else { vec![2] };
                for name in NAMES {
                    let samples = (1..=ends[0]).map(|at| (at, 1.5)).collect();
                    shelf.borrow_mut().series.insert(name.to_owned(), samples);
                }
                for end in [4, 2] {
                    let part: Vec<_> = long.iter().copied().filter(|(_, at)| *at <= end).collect();
                    deliver.doubt(&series_of(post(&part)));
                }
                post(&long)
            };
            assert_eq!(verdict(deliver.write(request, false).await), None);
            assert!(NAMES.iter().all(|name| shelf.borrow().times(name) == [1, 2, 3, 4]), "{:?}", shelf.borrow().series);
            assert!(deliver.doubts.is_empty());
            assert_eq!(verdict(deliver.write(post(&all(5)), false).await), None);
        }
    })
    .await;
}

/// What a run of the model is made of.
#[derive(Debug, Clone)]
struct Scenario {
    seed: u64,
    in_part: bool,
    points: u32,
    polls: u64,
    loses: u8,
    kills: u8,
    /// The server lets go of what is old while posts are on their way.
    forgets: bool,
}

/// An agent that is killed and loses its cursor, and a server whose answers are lost: each reading is in the server once, or it
/// was said to be refused for good, and that only by a server that refuses.
async fn run(scenario: Scenario) {
    let Scenario { seed, in_part, points, polls, loses, kills, forgets } = scenario;
    let mut random = fastrand::Rng::with_seed(seed);
    let shelf = Shelf { in_part, loses, random: random.fork(), ..Shelf::default() };
    let (shelf, mut deliver) = world(shelf).await;
    let mut builder = Builder::new("4c", "host", Duration::from_secs(1));
    for point in 0..points {
        let register = Register { name: Some(format!("p{point}")), ..Register::new("k", "coil", point, Kind::Float) };
        builder.push(&Device::new("a", 1, "g", 1_000), &register);
    }
    let table = Arc::new(builder.build());
    let settings =
        PrometheusSettings { metric: "{name}".parse().unwrap(), ..settings(deliver.uri.port_u16().unwrap()) };
    // Points are read in no order, some of them less often.
    let mut log = Vec::new();
    for poll in 1..=polls {
        let mut of: Vec<u32> = (0..points).filter(|point| poll % u64::from(point % 3 + 1) == 0).collect();
        random.shuffle(&mut of);
        let reading = |point| Reading {
            point: PointId(point),
            at: Timestamp::from_millis(poll * 10 + u64::from(point)),
            value: Value::Float(1.5),
        };
        log.extend(of.into_iter().map(reading));
    }
    let mut encode = SampleEncode::new(settings.clone(), deliver.pace.clone());
    let (mut cursor, mut begin, mut written, mut attempts) = (0, 0, 0, 0);
    let mut saved = vec![0];
    let mut refused = BTreeSet::new();
    let mut pending: Option<Encoded> = None;
    while cursor < log.len() {
        attempts += 1;
        assert!(attempts < 20_000);
        written = log.len().min(written + random.usize(0..=2 * points as usize)).max(cursor + 1);
        if random.u8(0..100) < kills {
            // It knows an older cursor, and nothing else.
            cursor = saved[saved.len() - 1 - random.usize(0..saved.len().min(4))];
            saved = vec![cursor];
            (begin, pending) = (written, None);
            deliver = SampleDeliver::new(RemoteWrite::target(&settings).unwrap(), Pace::default());
            encode = SampleEncode::new(settings.clone(), deliver.pace.clone());
        }
        if forgets && random.u8(0..20) == 0 {
            let at = i64::try_from(log[random.usize(cursor..log.len())].at.as_millis()).unwrap();
            let mut shelf = shelf.borrow_mut();
            shelf.oldest = shelf.oldest.max(at - 300);
        }
        let room = if random.u8(0..4) == 0 { random.usize(1..2_000) } else { 1 << 20 };
        let post =
            pending.take().unwrap_or_else(|| encode.encode(&table, &log[cursor..written], room, Timestamp::default()));
        match deliver.write(post.body.clone().unwrap(), cursor < begin).await {
            Ok(()) => {}
            Err(Failure { verdict: Verdict::RefusedForGood, refused: places, .. }) => {
                assert!(forgets && places.iter().all(|place| *place < post.taken));
                refused.extend(places.into_iter().map(|place| (log[cursor + place].point, log[cursor + place].at)));
            }
            Err(failure) => {
                assert_eq!(failure.verdict, Verdict::Later { after: None, late: false }, "{}", failure.text);
                // The same again, or made anew.
                pending = random.bool().then_some(post);
                continue;
            }
        }
        cursor += post.taken;
        saved.push(cursor);
    }
    let shelf = shelf.borrow();
    for point in (0..points).map(PointId) {
        let there = shelf.times(&format!("p{}", point.0));
        assert!(there.is_sorted_by(|a, b| a < b), "{point:?}: {there:?}");
        let of_point = log.iter().filter(|reading| reading.point == point);
        let missing = of_point.filter(|reading| {
            let at = i64::try_from(reading.at.as_millis()).unwrap();
            !there.contains(&at) && !refused.contains(&(point, reading.at))
        });
        assert_eq!(missing.count(), 0, "{point:?}: {there:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_is_lost_and_nothing_refused_that_is_there(
        seed in any::<u64>(),
        in_part in any::<bool>(),
        points in 1..9_u32,
        polls in 1..60_u64,
        loses in prop_oneof![Just(0), 1..50_u8],
        kills in prop_oneof![Just(0), 1..20_u8],
        forgets in prop_oneof![4 => Just(false), 1 => Just(true)],
    ) {
        let scenario = Scenario { seed, in_part, points, polls, loses, kills, forgets };
        actix_rt::System::new().block_on(run(scenario));
    }
}

/// Answers of real servers.
#[test]
fn each_answer_says_what_follows_from_it() {
    let later = |late| Some(Verdict::Later { after: None, late });
    let samples = |status, said: &str| {
        let reply = Reply { status, headers: HeaderMap::new(), said: said.into(), end: End::Complete };
        RemoteWrite.judge("mimir.example.net:80", &reply)
    };
    let NotTaken::Otherwise(failure) = samples(200, "\n<!DOCTYPE html>").unwrap_err() else { panic!() };
    assert_eq!(failure.verdict, Verdict::RefusedUs, "a captive portal");
    assert!(samples(200, "").is_ok() && samples(200, "ok").is_ok());
    for (status, said, refusal) in [
        (400, "out of order sample\n", Refusal::OutOfOrder),
        (400, "out of bounds\n", Refusal::TooOld),
        (400, "too old sample\n", Refusal::TooOld),
        (500, "too old sample\n", Refusal::TooOld),
        (400, "duplicate sample for timestamp\n", Refusal::Duplicate),
        (400, "duplicate sample for timestamp 5; overrides not allowed: existing 1, new value 2", Refusal::Duplicate),
        (
            409,
            "store locally for endpoint 127.0.0.1:10907: conflict: add 3 samples: out of order sample",
            Refusal::OutOfOrder,
        ),
        (
            400,
            "failed pushing to ingester: user=plant: the sample has been rejected because another sample with a more recent \
             timestamp has already been ingested and out-of-order samples are not allowed (err-mimir-sample-out-of-order)",
            Refusal::OutOfOrder,
        ),
        (
            400,
            "failed pushing to ingester: user=plant: the sample has been rejected because its timestamp is too old \
             (err-mimir-sample-timestamp-too-old)",
            Refusal::TooOld,
        ),
        (
            400,
            "the sample has been rejected because another sample with the same timestamp, but a different value, has already \
             been ingested (err-mimir-sample-duplicate-timestamp)",
            Refusal::Duplicate,
        ),
    ] {
        match samples(status, said) {
            Err(NotTaken::Samples(found, text)) => {
                assert_eq!(found, refusal, "{said}");
                assert!(text.contains(&status.to_string()), "{text}");
            }
            other => panic!("{said}: {other:?}"),
        }
    }
    for (status, said, verdict) in [
        (200, "", None),
        (204, "", None),
        (400, "snappy: corrupt input", Some(Verdict::RefusedPart)),
        (400, "out of bounds: timestamp is too far in the future", later(false)),
        (400, "received a sample whose timestamp is too far in the future (err-mimir-too-far-in-future)", later(false)),
        (
            400,
            "received a series whose label value length exceeds the limit (err-mimir-label-value-too-long)",
            Some(Verdict::RefusedPart),
        ),
        (401, "no org id", Some(Verdict::RefusedUs)),
        (403, "", Some(Verdict::RefusedUs)),
        (
            404,
            "remote write receiver needs to be enabled with --web.enable-remote-write-receiver",
            Some(Verdict::RefusedUs),
        ),
        (405, "", Some(Verdict::RefusedUs)),
        (301, "", Some(Verdict::RefusedUs)),
        (415, "", Some(Verdict::RefusedUs)),
        (408, "", later(true)),
        (413, "", Some(Verdict::TooLarge)),
        (418, "", Some(Verdict::RefusedBody)),
        (429, "err-mimir-tenant-max-ingestion-rate", later(false)),
        (500, "", later(false)),
        (503, "Service Unavailable", later(false)),
    ] {
        let judged = match samples(status, said) {
            Ok(()) => None,
            Err(NotTaken::Otherwise(failure)) => Some(failure.verdict),
            Err(NotTaken::Samples(..)) => panic!("{status} {said}"),
        };
        assert_eq!(judged, verdict, "{status} {said}");
    }
}
