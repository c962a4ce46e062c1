//! Answers, as real receivers give them.

use awc::http::header::HeaderMap;

use super::super::series::tests::{otlp, settings};
use super::*;
use crate::outputs::http::End;
use crate::outputs::samples::answer::Refusal;

fn judged(status: u16, said: &[u8]) -> Result<(), NotTaken> {
    let reply = Reply { status, headers: HeaderMap::new(), said: said.into(), end: End::Complete };
    otlp(&settings("{name}", &[])).judge("collector.example.net:4318", &reply)
}

fn partial(rejected_data_points: i64, said: &str) -> Vec<u8> {
    let partial_success = Some(PartialSuccess { rejected_data_points, error_message: said.to_owned() });
    ExportResponse { partial_success }.encode_to_vec()
}

#[test]
fn a_success_is_whole_or_in_part() {
    for said in
        [&b""[..], b"{}", b"{\"partialSuccess\":{}}", &partial(0, ""), &partial(0, "use another port"), b"\n{ }"]
    {
        assert!(judged(200, said).is_ok(), "{said:?}");
    }
    let message = "otlp parse error: unit too long";
    for said in [
        partial(2, message),
        format!("{{\"partialSuccess\":{{\"rejectedDataPoints\":\"2\",\"errorMessage\":\"{message}\"}}}}").into(),
        format!("{{\"partialSuccess\":{{\"rejectedDataPoints\":2,\"errorMessage\":\"{message}\"}}}}").into(),
    ] {
        let Err(NotTaken::Otherwise(failure)) = judged(200, &said) else { panic!("{said:?}") };
        assert_eq!((failure.verdict, failure.kind), (Verdict::RefusedPart, "refused"));
        assert_eq!(
            failure.text,
            "collector.example.net:4318 took a part of a post and refused 2 data points (which is searched for): \"otlp parse \
             error: unit too long\""
        );
    }
    let words = partial(
        1,
        "the sample has been rejected because its timestamp is too old (err-mimir-sample-timestamp-too-old)",
    );
    assert!(matches!(judged(200, &words), Err(NotTaken::Samples(Refusal::TooOld, _))));
    for said in [
        &b"ok"[..],
        b"<html>",
        b"{",
        b"{\"error\":\"no tenant\"}",
        b"{\"partialSuccess\":{\"rejectedDataPoints\":\"x\"}}",
    ] {
        let Err(NotTaken::Otherwise(failure)) = judged(200, said) else { panic!("{said:?}") };
        assert_eq!((failure.verdict, failure.kind), (Verdict::RefusedUs, "not_ok"), "{said:?}");
    }
}

#[test]
fn an_error_is_told_in_a_status_or_as_text() {
    let status = |message: &str| Status { message: message.to_owned() }.encode_to_vec();
    let later = |late| Verdict::Later { after: None, late };
    for (code, said, verdict, told) in [
        (
            400,
            status("invalid character"),
            Verdict::RefusedPart,
            "which part of the post it refuses is searched for): \"invalid",
        ),
        (400, b"proto: illegal wireType 7".to_vec(), Verdict::RefusedPart, "\"proto: illegal wireType 7\""),
        (
            400,
            b"unsupported path requested: \"/v1/metrics\"".to_vec(),
            Verdict::RefusedUs,
            "nobody takes metrics by OTLP there",
        ),
        (401, status("no token"), Verdict::RefusedUs, "check username and password_file, or token_file): \"no token\""),
        (403, Vec::new(), Verdict::RefusedUs, "check username"),
        (
            404,
            b"404 page not found\n".to_vec(),
            Verdict::RefusedUs,
            "nobody takes metrics by OTLP there; check url, which",
        ),
        (413, Vec::new(), Verdict::TooLarge, "a smaller post follows"),
        (429, status("slow down"), later(false), "slow down"),
        (500, status("exporter queue is full"), later(false), "exporter queue is full"),
        (502, Vec::new(), later(false), "left alone"),
        (503, Vec::new(), later(false), "left alone"),
        (504, Vec::new(), later(false), "left alone"),
    ] {
        let Err(NotTaken::Otherwise(failure)) = judged(code, &said) else { panic!("{code} {said:?}") };
        assert_eq!(failure.verdict, verdict, "{code} {said:?}");
        assert!(failure.text.contains(told), "{}", failure.text);
    }
    for (code, said, refusal) in [
        (400, b"out of order sample\n".to_vec(), Refusal::OutOfOrder),
        (400, b"duplicate sample for timestamp\n".to_vec(), Refusal::Duplicate),
        (500, b"too old sample\n".to_vec(), Refusal::TooOld),
        (400, status("send data to ingesters: err-mimir-sample-out-of-order"), Refusal::OutOfOrder),
    ] {
        let judged = judged(code, &said);
        assert!(matches!(judged, Err(NotTaken::Samples(found, _)) if found == refusal), "{judged:?}");
    }
}

/// Whether a receiver would take anything is asked without a data point.
#[test]
fn a_request_says_what_it_is_and_is_compressed_where_that_helps() {
    let names = |gzip: bool, series: &[Series]| {
        let settings = super::super::OtlpSettings { gzip, ..settings("{name}", &[]) };
        let (headers, body) = otlp(&settings).request(series).unwrap();
        let headers = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        (headers.collect::<Vec<_>>(), body.len())
    };
    let plain = "content-type: application/x-protobuf";
    let (headers, empty) = names(true, &[]);
    assert!(headers == [plain] && (1..300).contains(&empty));
    let of = |key: u32| {
        let name = format!("m{key}").repeat(20);
        let metric = Metric { name, ..Metric::default() }.encode_to_vec().into();
        let head = Head { metric, ..Head::default() }.encode_to_vec();
        let sample = crate::outputs::samples::post::PostSample::default();
        let post = crate::outputs::samples::post::PostSeries { head: head.into(), samples: vec![sample] };
        crate::outputs::samples::deliver::Series::of(post)
    };
    let series: Vec<_> = (0..40).map(of).collect();
    let ((packed, small), (unpacked, large)) = (names(true, &series), names(false, &series));
    assert_eq!(
        (packed, unpacked),
        (vec![plain.to_owned(), "content-encoding: gzip".to_owned()], vec![plain.to_owned()])
    );
    assert!(small * 3 < large, "{small} of {large}");
}
