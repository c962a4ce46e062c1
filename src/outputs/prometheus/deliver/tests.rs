//! Posts to a stand-in that keeps series as Prometheus does, or takes of a post what it can, as Mimir does.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use awc::http::header::HeaderMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::net::connect::Server;
use crate::outputs::http::End;
use crate::outputs::network::{Network, Secret};
use crate::outputs::prometheus::message::{Label, Sample, TimeSeries};

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
    requests: usize,
    heads: Vec<String>,
}

impl Shelf {
    fn refuses(&self, series: &str, at: i64, value: f64) -> Option<&'static str> {
        let newest = self.series.get(series).and_then(|samples| samples.last());
        match newest {
            _ if at < self.oldest => Some("out of bounds"),
            Some(&(newest, _)) if at < newest => Some("out of order sample"),
            Some(&(newest, other)) if at == newest && other.to_bits() != value.to_bits() => {
                Some("duplicate sample for timestamp")
            }
            _ => None,
        }
    }

    fn write(&mut self, body: &[u8]) -> Result<(), &'static str> {
        let body = snap::raw::Decoder::new().decompress_vec(body).unwrap();
        let request = WriteRequest::decode(&*body).unwrap();
        let (mut good, mut refused) = (Vec::new(), None);
        for series in request.timeseries {
            let TimeSeries { labels, samples } = TimeSeries::decode(series).unwrap();
            assert_eq!(samples.len(), 1);
            match self.refuses(&labels[0].value, samples[0].timestamp, samples[0].value) {
                Some(why) => refused = refused.or(Some(why)),
                None => good.push((labels[0].value.clone(), samples[0])),
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
            let answer = match shelf.write(&body) {
                Ok(()) => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
                Err(why) => format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n{why}\n", why.len() + 1),
            };
            if shelf.silent.contains(&shelf.requests) {
                return;
            }
            answer
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

/// A server and what writes to it.
async fn world(shelf: Shelf) -> (Rc<RefCell<Shelf>>, PrometheusDeliver) {
    let shelf = Rc::new(RefCell::new(shelf));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    actix_rt::spawn(serve(Rc::clone(&shelf), listener));
    (shelf, PrometheusDeliver::new(Target::new(&settings(port)).unwrap()))
}

fn settings(port: u16) -> PrometheusSettings {
    PrometheusSettings {
        network: Network {
            url: format!("http://127.0.0.1:{port}/api/v1/write"),
            server: Server { host: "127.0.0.1".to_owned(), port, tls: None, proxy: None },
            base: "/api/v1/write".to_owned(),
            username: None,
            password: None,
            token: Some(Secret::new("abc".to_owned())),
            headers: Vec::new(),
            timeout: Network::TIMEOUT,
        },
        metric: "m".parse().unwrap(),
        counter_suffix: String::new(),
        labels: Vec::new(),
    }
}

fn post(samples: &[(&str, i64)]) -> Bytes {
    let series = samples.iter().map(|(name, timestamp)| {
        let label = Label { name: "__name__".to_owned(), value: (*name).to_owned() };
        let sample = Sample { value: 1.5, timestamp: *timestamp };
        TimeSeries { labels: vec![label], samples: vec![sample] }.encode_to_vec().into()
    });
    WriteRequest { timeseries: series.collect() }.encode_to_vec().into()
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
        assert_eq!(verdict(deliver.write(post(&all(101)), false).await), Some(Verdict::RefusedPart));
        for name in ["a", "b", "e", "f", "g"] {
            assert_eq!(shelf.borrow().times(name), [101], "{name}");
        }
        let for_good = Some(Verdict::RefusedForGood { until: Timestamp::default() });
        assert_eq!(verdict(deliver.write(post(&[("c", 101), ("d", 101)]), false).await), for_good);
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
        let for_good = Some(Verdict::RefusedForGood { until: Timestamp::default() });
        assert_eq!(verdict(deliver.write(post(&[("a", 2)]), true).await), for_good);
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
        let until = Timestamp::from_millis(12);
        assert_eq!(verdict(deliver.write(post(&samples), false).await), Some(Verdict::RefusedForGood { until }));
        assert_eq!(shelf.borrow().requests, 2);
        // Across the border: what is not too old is taken.
        for (sample, at) in samples.iter_mut().zip([48, 52, 49, 50, 51, 47, 53]) {
            sample.1 = at;
        }
        assert_eq!(verdict(deliver.write(post(&samples), false).await), Some(Verdict::RefusedPart));
        for (name, at) in [("b", 52), ("d", 50), ("e", 51), ("g", 53)] {
            assert_eq!(shelf.borrow().times(name), [at], "{name}");
        }
        let until = Timestamp::from_millis(49);
        let old = [samples[0], samples[2], samples[5]];
        assert_eq!(verdict(deliver.write(post(&old), false).await), Some(Verdict::RefusedForGood { until }));
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

/// Answers of real servers.
#[test]
fn each_answer_says_what_follows_from_it() {
    let later = |late| Some(Verdict::Later { after: None, late });
    let samples = |status, said: &str| {
        let reply = Reply { status, headers: HeaderMap::new(), said: said.into(), end: End::Complete };
        judge("mimir.example.net:80", &reply)
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
