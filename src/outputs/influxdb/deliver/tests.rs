//! What is asked of a server, and what its answers mean.

use awc::http::header::HeaderMap;

use super::*;
use crate::outputs::fixtures::network;
use crate::outputs::http::End;
use crate::outputs::network::{Network, Secret};

fn settings(api: Api) -> InfluxSettings {
    InfluxSettings {
        network: Network {
            base: "/base".to_owned(),
            token: Some(Secret::new("abc".to_owned())),
            ..network("http://192.0.2.10:8086/base", 8086)
        },
        api,
        measurement: "m".parse().unwrap(),
        field: "f".parse().unwrap(),
        tags: Vec::new(),
        integers: false,
        gzip: true,
    }
}

#[test]
fn each_api_has_its_path_and_its_way_to_show_a_token() {
    let text = str::to_owned;
    let (database, bucket) = (text("a b&c"), text("ä/1"));
    for (api, path, token) in [
        (
            Api::V1 { database: database.clone(), retention_policy: None },
            "/write?db=a%20b%26c&precision=ms",
            "Token abc",
        ),
        (
            Api::V1 { database: database.clone(), retention_policy: Some(text("week")) },
            "/write?db=a%20b%26c&rp=week&precision=ms",
            "Token abc",
        ),
        (
            Api::V2 { org: Some(text("o")), bucket: bucket.clone() },
            "/api/v2/write?org=o&bucket=%C3%A4%2F1&precision=ms",
            "Token abc",
        ),
        (Api::V2 { org: None, bucket }, "/api/v2/write?bucket=%C3%A4%2F1&precision=ms", "Token abc"),
        (Api::V3 { database }, "/api/v3/write_lp?db=a%20b%26c&precision=millisecond", "Bearer abc"),
    ] {
        let target = Target::new(&settings(api)).unwrap();
        assert_eq!(target.uri.to_string(), format!("http://192.0.2.10:8086/base{path}"));
        assert_eq!(target.endpoint.headers, [(header::AUTHORIZATION, HeaderValue::from_static(token))]);
    }
}

/// The answers of real servers, of versions 1.6, 1.8, 2 and 3, and of what stands before them.
#[test]
fn each_answer_says_what_follows_from_it() {
    let later = |late| Verdict::Later { after: None, late };
    for (status, said, verdict) in [
        (200, "", None),
        (204, "", None),
        // A captive portal.
        (200, "<html>Please log in", Some(Verdict::RefusedUs)),
        (200, r#"{"results":[{"error":"timeout"}]}"#, Some(Verdict::RefusedUs)),
        (
            400,
            r#"{"error":"partial write: field type conflict: input field \"u\" on measurement \"m\" is type float, already exists as type integer dropped=1"}"#,
            Some(Verdict::RefusedPart),
        ),
        (400, r#"{"error":"partial write: points beyond retention policy dropped=2"}"#, Some(Verdict::RefusedPart)),
        (400, r#"{"error":"unable to parse 'x': missing fields"}"#, Some(Verdict::RefusedPart)),
        (
            422,
            r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: field type conflict"}"#,
            Some(Verdict::RefusedPart),
        ),
        (400, r#"{"error":"partial write of line protocol occurred","data":[]}"#, Some(Verdict::RefusedPart)),
        (400, r#"{"code":"invalid","message":"writing requires points"}"#, Some(Verdict::RefusedBody)),
        (400, "", Some(Verdict::RefusedBody)),
        (401, r#"{"error":"authorization failed"}"#, Some(Verdict::RefusedUs)),
        (403, "", Some(Verdict::RefusedUs)),
        (404, r#"{"error":"database not found: \"plant\""}"#, Some(Verdict::RefusedUs)),
        (301, "", Some(Verdict::RefusedUs)),
        (408, "", Some(later(true))),
        (413, r#"{"error":"Request Entity Too Large"}"#, Some(Verdict::TooLarge)),
        (429, "", Some(later(false))),
        (500, r#"{"error":"timeout"}"#, Some(later(false))),
        (503, "", Some(later(false))),
    ] {
        let reply = Reply { status, headers: HeaderMap::new(), said: said.into(), end: End::Complete };
        let judged = judge("tsdb.example.net:8086", &reply);
        assert_eq!(judged.as_ref().err().map(|failure| failure.verdict), verdict, "{status} {said}");
        if let Err(failure) = judged {
            assert!(failure.text.contains(&status.to_string()), "{}", failure.text);
        }
    }
    let cut = Reply { status: 204, headers: HeaderMap::new(), said: Vec::new(), end: End::Late };
    assert_eq!(judge("x", &cut).unwrap_err().verdict, later(false));
    let page = Reply { status: 200, headers: HeaderMap::new(), said: b"<p>".to_vec(), end: End::TooLong };
    assert_eq!(judge("x", &page).unwrap_err().verdict, Verdict::RefusedUs);
}
