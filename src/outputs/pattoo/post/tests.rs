//! The poster against real sockets and a server that says exactly what a case tells it to.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use std::time::Duration;

use super::*;

const ID: &str = "4cdcccc044dedbd932ee13e96766dd477f9f5b460a7a742e154647028461de04";
const DATE: &str = "Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n";

fn poster(host: &str, port: u16) -> Poster {
    Poster::new(Api::new(host, port, &ID.parse().unwrap()).unwrap())
}

/// What the server does after its last byte.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Close,
    Reset,
    /// Keeps the connection until the poster has had enough of it.
    Hang,
}

/// A server that reads a whole request, says `answer` over and over if it is `endless`, and ends with `then`.
#[derive(Clone)]
struct Script {
    answer: Vec<u8>,
    read_body: bool,
    endless: bool,
    then: Then,
}

fn says(answer: impl AsRef<[u8]>) -> Script {
    Script { answer: answer.as_ref().to_vec(), read_body: true, endless: false, then: Then::Close }
}

struct Server {
    port: u16,
    requests: mpsc::Receiver<String>,
}

impl Server {
    /// Plays the scripts, a connection each, and is gone after the last.
    fn start(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, requests) = mpsc::channel();
        thread::spawn(move || {
            for script in scripts {
                let (stream, _) = listener.accept().unwrap();
                play(&script, stream, &seen);
            }
        });
        Self { port, requests }
    }

    fn poster(&self) -> Poster {
        poster("127.0.0.1", self.port)
    }
}

fn play(script: &Script, mut stream: TcpStream, seen: &mpsc::Sender<String>) {
    if script.read_body {
        seen.send(read_request(&mut stream)).ok();
    } else {
        stream.read_exact(&mut [0]).unwrap();
    }
    // The poster may leave before the last byte; that is its good right.
    while stream.write_all(&script.answer).is_ok() && script.endless {}
    match script.then {
        Then::Close => drop(stream.shutdown(Shutdown::Write)),
        Then::Reset => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
        Then::Hang => drop(stream.read_to_end(&mut Vec::new())),
    }
}

/// The request, head and body.
fn read_request(stream: &mut TcpStream) -> String {
    let mut request = String::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the request is cut");
        request.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        if let Some((head, body)) = request.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                return request;
            }
        }
    }
}

/// An answer with its length.
fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// The outcome of one attempt at a server that plays `script`.
async fn outcome(script: Script) -> Result<(), PostError> {
    let server = Server::start(vec![script]);
    server.poster().post(b"{}".to_vec()).await
}

#[actix_rt::test]
async fn the_request_is_this_to_the_byte() {
    let server = Server::start(vec![says(answer("200 OK", "", "OK"))]);
    server.poster().post(b"{\"a\":1}".to_vec()).await.unwrap();

    let request = server.requests.recv().unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    assert_eq!(line, format!("POST /pattoo/api/v1/agent/receive/{ID} HTTP/1.1"));
    // awc writes its headers in no fixed order, and its own clock among them.
    let mut headers: Vec<_> = headers.split("\r\n").collect();
    headers.sort_unstable();
    headers.retain(|header| !header.starts_with("date: "));
    let expected = [
        "connection: close",
        "content-length: 7",
        "content-type: application/json",
        &format!("host: 127.0.0.1:{}", server.port),
        &format!("user-agent: pattoo_agent_modbustcpd/{}", env!("CARGO_PKG_VERSION")),
    ];
    assert_eq!(headers, expected);
    assert_eq!(body, "{\"a\":1}");
}

#[actix_rt::test]
async fn a_complete_200_ok_is_delivered_in_whatever_form() {
    for form in [
        answer("200 OK", "Server: gunicorn\r\nContent-Type: text/html; charset=utf-8\r\n", "OK"),
        answer("200 OK", "", " \r\n OK\n\n"),
        answer("200 Fine, thank you!", "", "OK"),
        answer("200 ", "", "OK"),
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nOK".to_owned(),
        "HTTP/1.0 200 OK\r\n\r\nOK".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nO\r\n1\r\nK\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncONTENT-lENGTH: 2\r\nConnection: keep-alive\r\n\r\nOK".to_owned(),
    ] {
        outcome(says(&form)).await.unwrap_or_else(|error| panic!("{form}: {error}"));
    }
}

#[actix_rt::test]
async fn a_200_that_is_not_ok_is_not_delivered() {
    let page = format!("<html>{}</html>", "x".repeat(1_000_000));
    for body in ["", "ok", "OKAY", "O K", "<html>Sign in</html>", &page] {
        let error = outcome(says(answer("200 OK", "", body))).await.unwrap_err();
        let PostError::NotOk { excerpt, .. } = error else { panic!("{error}") };
        assert!(excerpt.len() < 300 && body.starts_with(excerpt.trim_end_matches('…')), "{excerpt}");
    }
}

#[actix_rt::test]
async fn any_other_status_is_refused_and_says_what_to_do() {
    let ports = "check ip_address and ip_bind_port";
    for (status, hint) in [
        ("404 NOT FOUND", ports),
        ("405 Method Not Allowed", ports),
        ("401 Unauthorized", "login"),
        ("403 Forbidden", "login"),
        ("400 Bad Request", ports),
        ("413 Too Large", "size"),
        ("500 INTERNAL SERVER ERROR", "log"),
        ("204 No Content", ports),
        ("206 Partial Content", ports),
        ("100 Continue", ports),
        ("103 Early Hints", ports),
        ("999 What", ports),
    ] {
        let error = outcome(says(answer(status, "", "OK\x1b[2J"))).await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&status[..3]) && said.contains(hint) && !said.contains('\x1b'), "{said}");
        assert!(matches!(error, PostError::Refused { .. }), "{error:?}");
    }
}

#[actix_rt::test]
async fn a_refusal_counts_though_the_rest_of_the_answer_hangs_or_breaks() {
    let head = "HTTP/1.1 500 X\r\nContent-Length: 20\r\n\r\nbroken";
    for then in [Then::Close, Then::Reset, Then::Hang] {
        let server = Server::start(vec![Script { then, ..says(head) }]);
        let error = hurried(&server).post(b"{}".to_vec()).await.unwrap_err();
        assert!(matches!(error, PostError::Refused { status: 500, .. }), "{error:?}");
    }
}

#[actix_rt::test]
async fn retry_after_is_understood_and_bounded() {
    for (text, seconds) in [
        ("7", Some(7)),
        ("0", Some(0)),
        ("1000000000", Some(300)),
        ("99999999999999999999999999", Some(300)),
        ("Tue, 14 Nov 2023 22:13:50 GMT", Some(30)),
        ("Tue, 14 Nov 2023 22:13:00 GMT", Some(0)),
        ("Tue, 14 Nov 2084 22:13:00 GMT", Some(300)),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("soon", None),
    ] {
        for status in ["429 Too Many Requests", "503 Service Unavailable"] {
            let headers = format!("{DATE}Retry-After: {text}\r\n");
            let error = outcome(says(answer(status, &headers, ""))).await.unwrap_err();
            let PostError::Refused { retry_after, .. } = error else { panic!("{error}") };
            assert_eq!(retry_after.map(|pause| pause.as_secs()), seconds, "{text}");
        }
    }
}

#[actix_rt::test]
async fn no_redirect_is_followed() {
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    target.set_nonblocking(true).unwrap();
    let elsewhere = format!("http://{}/", target.local_addr().unwrap());
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        for location in [elsewhere.as_str(), "/pattoo", "file:///etc/passwd", "\x01?\u{e9}"] {
            let headers = format!("Location: {location}\r\n");
            let error = outcome(says(answer(status, &headers, "OK"))).await.unwrap_err();
            let garbage = matches!(error, PostError::Transport { .. }) && location.starts_with('\x01');
            assert!(garbage || matches!(error, PostError::Redirected { .. }), "{error:?}");
        }
    }
    assert_eq!(target.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[actix_rt::test]
async fn what_is_cut_reset_contradictory_or_no_http_is_not_delivered() {
    let ok = answer("200 OK", "", "OK");
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nOK";
    for script in [
        says(""),
        Script { then: Then::Reset, ..says("") },
        says(&ok[..30]),
        Script { then: Then::Reset, ..says(&ok[..30]) },
        says(cut),
        Script { then: Then::Reset, ..says(cut) },
        says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nO"),
        says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nOK"),
        says("HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nOK"),
        says("HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nOK"),
        says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n"),
        says("HTTP/1.1 20 OK\r\n\r\nOK"),
        says("HTTP/9.9 200 OK\r\n\r\nOK"),
        says("OK"),
        says("SSH-2.0-OpenSSH_9.2\r\n"),
        says([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]),
        says([0xff; 4096]),
    ] {
        let text = String::from_utf8_lossy(&script.answer).into_owned();
        let outcome = outcome(script).await;
        assert!(matches!(outcome, Err(PostError::Transport { .. } | PostError::NotOk { .. })), "{text}: {outcome:?}");
    }
}

#[actix_rt::test]
async fn an_answer_before_the_body_is_read_is_doubtful_or_delivered_but_never_hangs() {
    // More than the socket buffers hold, so that the poster is still writing when the server is gone.
    let body = vec![b' '; 64 << 20];
    let script = Script { read_body: false, then: Then::Reset, ..says(answer("200 OK", "", "OK")) };
    let server = Server::start(vec![script]);
    let error = server.poster().post(body).await.unwrap_err();
    assert!(matches!(error, PostError::Transport { .. }), "{error:?}");
}

#[actix_rt::test]
async fn an_answer_without_end_or_of_monstrous_size_is_read_no_further_than_needed() {
    let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
    for (head, piece) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 100000000000000\r\n\r\n", "x".repeat(4096)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFF\r\n", "x".repeat(4096)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk.repeat(4)),
        ("HTTP/1.0 200 OK\r\n\r\n", "x".repeat(4096)),
        ("HTTP/1.1 200 OK\r\nX: ", "x".repeat(4096)),
        ("HTTP/1.1 200 OK\r\n", "X: y\r\n".repeat(1000)),
        ("HTTP/1.1 200 OK\r\n", "x".repeat(4096)),
    ] {
        // The head once, its continuation for ever.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            read_request(&mut stream);
            stream.write_all(head.as_bytes()).ok();
            while stream.write_all(piece.as_bytes()).is_ok() {}
        });
        let mut poster = poster("127.0.0.1", port);
        let error = poster.post(b"{}".to_vec()).await.unwrap_err();
        assert!(matches!(error, PostError::NotOk { .. } | PostError::Transport { .. }), "{head}: {error:?}");
    }
}

#[actix_rt::test]
async fn a_header_name_that_the_client_chokes_on_is_an_error_and_no_panic() {
    let name = "x".repeat(70_000);
    let error = outcome(says(format!("HTTP/1.1 200 OK\r\n{name}: y\r\n\r\n"))).await.unwrap_err();
    assert!(matches!(error, PostError::Transport { .. }), "{error:?}");
}

/// A poster with little time; what it waits for never comes, so that how little does not matter.
fn hurried(server: &Server) -> Poster {
    let limit = Duration::from_millis(200);
    server.poster().with_timeouts(Timeouts { connect: Duration::from_secs(5), total: limit })
}

#[actix_rt::test]
async fn silence_ends_the_attempt_wherever_it_sets_in() {
    for said in [
        "",
        "HTTP/1.1 2",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        &answer("200 OK", "", "OK").replace("h: 2", "h: 3"),
    ] {
        let server = Server::start(vec![Script { then: Then::Hang, ..says(said) }]);
        let error = hurried(&server).post(b"{}".to_vec()).await.unwrap_err();
        assert!(matches!(error, PostError::Timeout { .. }), "{said}: {error:?}");
    }
}

#[actix_rt::test]
async fn an_answer_that_is_slow_but_in_time_is_delivered_and_one_that_is_late_is_not() {
    for (limit, delivered) in [(Duration::from_secs(30), true), (Duration::from_millis(100), false)] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = Server { port: listener.local_addr().unwrap().port(), requests: mpsc::channel().1 };
        let (give_up, given_up) = mpsc::channel::<()>();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            read_request(&mut stream);
            // In two pieces, each of them late; when nobody waits any more, the answer is there at last.
            let (first, second) = ("HTTP/1.1 200 OK\r\nContent-", "Length: 2\r\n\r\nOK");
            for piece in [first, second] {
                given_up.recv_timeout(Duration::from_millis(200)).ok();
                stream.write_all(piece.as_bytes()).ok();
            }
        });
        let timeouts = Timeouts { connect: Duration::from_secs(5), total: limit };
        let posted = server.poster().with_timeouts(timeouts).post(b"{}".to_vec()).await;
        drop(give_up);
        match posted {
            Ok(()) => assert!(delivered),
            Err(error) => assert!(!delivered && matches!(error, PostError::Timeout { .. }), "{error:?}"),
        }
    }
}

#[actix_rt::test]
async fn a_server_that_does_not_read_the_body_is_not_waited_for() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let server = Server { port: listener.local_addr().unwrap().port(), requests: mpsc::channel().1 };
    let error = hurried(&server).post(vec![b' '; 64 << 20]).await.unwrap_err();
    assert!(matches!(error, PostError::Timeout { .. }), "{error:?}");
}

#[actix_rt::test]
async fn no_server_and_no_such_host_are_failures_to_connect() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    for host in ["127.0.0.1", "no-such-host.invalid"] {
        let mut poster = poster(host, port);
        let error = poster.post(b"{}".to_vec()).await.unwrap_err();
        assert!(matches!(error, PostError::Connect { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("{host}:{port}")), "{error}");
    }
}

#[actix_rt::test]
async fn the_session_cookie_is_sent_back_and_the_servers_clock_known() {
    let set = |cookie: &str| format!("{DATE}Set-Cookie: other=1\r\nSet-Cookie: session={cookie}; HttpOnly; Path=/\r\n");
    let server = Server::start(vec![
        says(answer("200 OK", &set("abc.d"), "OK")),
        says(answer("500 X", &set("second"), "")),
        says(answer("200 OK", "Date: yesterday\r\n", "OK")),
        says(answer("200 OK", DATE, "OK")),
    ]);
    let mut poster = server.poster();
    let mut cookies = Vec::new();
    let mut dates = Vec::new();
    for _ in 0..4 {
        poster.post(b"{}".to_vec()).await.ok();
        dates.push(poster.server_date().map(Timestamp::as_millis));
        let request = server.requests.recv().unwrap();
        cookies.push(request.lines().find_map(|line| line.strip_prefix("cookie: ")).map(str::to_owned));
    }
    // All scripts are played, nobody listens any more.
    poster.post(b"{}".to_vec()).await.unwrap_err();
    dates.push(poster.server_date().map(Timestamp::as_millis));

    let now = Some(1_700_000_000_000);
    let cookie = |value: &str| Some(format!("session={value}"));
    assert_eq!(cookies, [None, cookie("abc.d"), cookie("second"), cookie("second")]);
    assert_eq!(dates, [now, now, None, now, None]);
}

#[actix_rt::test]
async fn an_ipv6_server_is_reached_with_or_without_brackets() {
    for host in ["::1", "[::1]"] {
        // Not every machine has IPv6; there the address must at least be well formed.
        let Ok(listener) = TcpListener::bind("[::1]:0") else {
            poster(host, 20201);
            continue;
        };
        let port = listener.local_addr().unwrap().port();
        let seen = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = read_request(&mut stream);
            stream.write_all(answer("200 OK", "", "OK").as_bytes()).unwrap();
            request
        });
        poster(host, port).post(b"{}".to_vec()).await.unwrap();
        assert!(seen.join().unwrap().contains(&format!("host: [::1]:{port}\r\n")));
    }
}

#[test]
fn what_is_no_host_is_no_address() {
    for host in ["", " ", "a b", "a/b", "user@a", "a?b", "a#b", "http://a", "[::1", "a\n"] {
        let error = Api::new(host, 20201, &ID.parse().unwrap()).unwrap_err();
        assert!(matches!(error, PostError::Address { .. }), "{host:?}: {error:?}");
    }
    for host in ["localhost", "pattoo.example.net", "192.168.1.100", "2001:db8::7"] {
        Api::new(host, 20201, &ID.parse().unwrap()).unwrap();
    }
}

#[actix_rt::test]
async fn the_pipeline_is_told_the_verdict_the_time_and_the_whole_text() {
    use crate::outputs::{Answer, Deliver, Failure, Verdict};

    let server = Server::start(vec![
        says(answer("200 OK", DATE, "OK")),
        says(answer("500 X", DATE, "no")),
        says(answer("200 OK", DATE, "OK")),
    ]);
    let mut poster = server.poster();
    let deliver: &mut dyn Deliver = &mut poster;
    let server_time = Some(Timestamp::from_millis(1_700_000_000_000));
    assert_eq!(deliver.post("{}".into()).await, Answer { result: Ok(()), server_time });
    let refused = deliver.post("{}".into()).await;
    let Err(Failure { verdict: Verdict::RefusedBody, kind: "refused", text, .. }) = refused.result else {
        panic!("{refused:?}")
    };
    assert!(text.contains("answered 500") && refused.server_time == server_time, "{text}");
    assert_eq!(deliver.ask_time().await, Answer { result: Ok(()), server_time });
    // All scripts are played, nobody listens any more.
    for gone in [deliver.post("{}".into()).await, deliver.ask_time().await] {
        let Err(Failure { verdict, kind: "connect", text, .. }) = gone.result else { panic!("{gone:?}") };
        assert_eq!((verdict, gone.server_time), (Verdict::Later { after: None, late: false }, None));
        assert!(text.contains("refused"), "the cause is told: {text}");
    }
}
