//! The status over HTTP, for browsers, for Prometheus and for probes; served only when `status_listen` says where.
//!
//! It has a thread of its own and reads nothing but the status, so whatever is asked of it costs polling nothing.
//! There are no secrets on it and nothing can be changed by it; who may see it is decided by the address, and by the name
//! that it is asked for ([`Hosts`]). One connection has one answer and a short life (`connections`), and within
//! `FRESH` everybody gets the same one, of which nobody holds a copy: clients that read nothing cost neither time nor
//! memory. What the server has to say of its clients is not logged: each of them could fill the disk with it.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::Error;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{KeepAlive, StatusCode, Version};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpResponse, HttpServer, web};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::Semaphore;

use self::connections::Connections;
pub use self::hosts::Hosts;
use super::metrics;
use super::process::Process;
use super::reporter::Reporter;
use super::snapshot::{SCHEMA, Time};
use crate::logging;
use crate::outputs::sqlite::PointKey;
use crate::time::clock;

mod connections;
mod hosts;

/// What the page is made of: path, kind, content.
const FILES: [(&str, &str, &str); 3] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
];

/// What every answer tells a browser: the page is what this server sends, and nothing of anybody else. The icon is drawn by the
/// page itself.
const POLICY: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

const JSON: &str = "application/json";

const TEXT: &str = "text/plain; charset=utf-8";

/// How long a client may take to send a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one may take to close when all is said.
const GOODBYE: Duration = Duration::from_secs(1);

/// Whoever asks within this time of another gets the same answer.
const FRESH: Duration = Duration::from_millis(250);

/// Given to the connection at once; the rest when the client has read.
const SLICE: usize = 16 << 10;

const DAY: Duration = Duration::from_secs(86_400);

/// How far back a plot goes.
const MOST_DAYS: u32 = 31;

/// Steps of such a plot.
const HISTORY_SAMPLES: u32 = 480;

/// How often connections are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What can be asked for besides the page itself, and is the same for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Answer {
    Json,
    JsonWithoutValues,
    Metrics,
    Ready,
    Healthy,
}

/// Answers, and when they were made.
struct Desk {
    reporter: Arc<Mutex<Reporter>>,
    /// Who may read the database just now.
    reads: Arc<Semaphore>,
    made: Mutex<HashMap<Answer, (Instant, StatusCode, Bytes)>>,
}

type Shared = web::Data<Desk>;

/// Serves whoever asks by one of the names of `hosts` until the process ends; returns the address, which differs from
/// the one asked for in a port of 0.
///
/// # Errors
/// When the address cannot be had, or the system gives no thread.
pub fn serve(address: SocketAddr, hosts: Hosts, reporter: Arc<Mutex<Reporter>>) -> io::Result<SocketAddr> {
    // Not in the thread: a port that is taken is told at the start, by whoever has asked for it.
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    let desk = Shared::new(Desk { reporter, reads: Arc::new(Semaphore::new(1)), made: Mutex::default() });
    thread::Builder::new().name("page".to_owned()).spawn(move || {
        if let Err(error) = actix_rt::System::new().block_on(answer_all(listener, hosts, desk)) {
            tracing::error!(cause = %error, "the status page has ended; polling goes on");
        }
    })?;
    Ok(address)
}

async fn answer_all(listener: TcpListener, hosts: Hosts, desk: Shared) -> io::Result<()> {
    let connections = Arc::<Connections>::default();
    let hosts = web::Data::new(hosts);
    let routes = move || {
        let mut app = App::new().app_data(desk.clone()).app_data(hosts.clone()).wrap(from_fn(guard));
        // Whatever the method: the guard lets none but GET and HEAD through.
        for (path, kind, content) in FILES {
            let file = move || async move { answer(StatusCode::OK, kind, Bytes::from_static(content.as_bytes())) };
            app = app.route(path, web::to(file));
        }
        app.route("/status.json", web::to(json))
            .route("/device.json", web::to(device))
            .route("/history.json", web::to(history))
            .route("/log.json", web::to(log))
            .route("/metrics", web::to(prometheus))
            .route("/-/healthy", web::to(healthy))
            .route("/-/ready", web::to(ready))
            .default_service(web::to(nothing))
    };
    let watched = Arc::clone(&connections);
    actix_rt::spawn(async move {
        loop {
            actix_rt::time::sleep(LOOK).await;
            watched.close_old();
        }
    });
    HttpServer::new(routes)
        // By default it is one for each core. Answers are made once for all who ask, so more threads would wait for
        // each other.
        .workers(1)
        // More than are kept: one more is taken, and another closed for it.
        .max_connections(2 * connections::MOST)
        .on_connect(move |stream, data| {
            if let Some(stream) = stream.downcast_ref::<actix_rt::net::TcpStream>() {
                let peer = stream.peer_addr().ok().map(|peer| peer.ip());
                // Forgotten with the connection.
                data.insert(connections.opened(stream, peer));
            }
        })
        // One answer for each connection is what makes their number and their life short.
        .keep_alive(KeepAlive::Disabled)
        .client_request_timeout(PATIENCE)
        .client_disconnect_timeout(GOODBYE)
        // Signals are the daemon's.
        .disable_signals()
        .listen(listener)?
        .run()
        .await
}

/// Refuses what nobody should ask, and says of each answer what a browser may do with it.
async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let mut response = match refusal(&request) {
        Some(refusal) => request.into_response(refusal).map_into_boxed_body(),
        None => next.call(request).await?.map_into_boxed_body(),
    };
    for (name, value) in POLICY {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

fn refusal(request: &ServiceRequest) -> Option<HttpResponse> {
    let mut named = request.headers().get_all(header::HOST);
    // Not HeaderMap::get, which gives the first and says nothing of a second.
    let (host, another) = (named.next(), named.next());
    let hosts = request.app_data::<web::Data<Hosts>>()?;
    let allowed = |host: &str| hosts.allow(host);
    // A request may name the host in its first line, which then counts instead of the header (RFC 9112, 3.2.2). Both
    // must be known.
    let of_uri = request.uri().authority().is_none_or(|authority| allowed(authority.as_str()));
    let of_header = match host {
        // Before there were names in requests; no browser does so.
        None if request.version() < Version::HTTP_11 => true,
        None => return Some(HttpResponse::BadRequest().body("a request without Host\n")),
        Some(host) => host.to_str().is_ok_and(allowed),
    };
    // More than one, as none at all, is answered by 400 (RFC 9112, 3.2).
    if another.is_some() {
        return Some(HttpResponse::BadRequest().body("a request with more than one Host\n"));
    }
    if !of_uri || !of_header {
        let text = "this page is not served under that name; ask for its address, or list the name in status_hosts\n";
        return Some(HttpResponse::build(StatusCode::MISDIRECTED_REQUEST).body(text));
    }
    let reads = matches!(request.method().as_str(), "GET" | "HEAD");
    (!reads).then(|| HttpResponse::MethodNotAllowed().insert_header((header::ALLOW, "GET, HEAD")).body("read only\n"))
}

/// What of the status is asked for.
#[derive(Deserialize)]
struct Wanted {
    /// `no` for a status without values.
    values: Option<String>,
}

/// Which point is asked for, and how far back.
#[derive(Deserialize)]
struct PastOf {
    /// The device as it is configured, in `ip_devices`.
    name: String,
    unit: u8,
    key: String,
    days: u32,
}

/// Which device is asked for.
#[derive(Deserialize)]
struct Named {
    /// As it is configured, in `ip_devices`.
    name: String,
}

async fn json(desk: Shared, wanted: Option<web::Query<Wanted>>) -> HttpResponse {
    let without = wanted.is_some_and(|wanted| wanted.values.as_deref() == Some("no"));
    let (status, body) = desk.answer(if without { Answer::JsonWithoutValues } else { Answer::Json });
    answer(status, JSON, body)
}

/// One device, with the values of all its points and how they went.
async fn device(desk: Shared, named: Option<web::Query<Named>>) -> HttpResponse {
    let detail = named.and_then(|named| desk.reporter().device(&named.name, clock::now()));
    let Some(detail) = detail else {
        let text = b"no such device; ask as /device.json?name=NAME, with a name of ip_devices\n";
        return answer(StatusCode::NOT_FOUND, TEXT, Bytes::from_static(text));
    };
    answer(StatusCode::OK, JSON, serde_json::to_vec(&detail).unwrap_or_default().into())
}

/// The last days of a point, from the database of an output.
async fn history(desk: Shared, wanted: Option<web::Query<PastOf>>) -> HttpResponse {
    let missing = |text: &'static str| answer(StatusCode::NOT_FOUND, TEXT, Bytes::from_static(text.as_bytes()));
    let Some(web::Query(PastOf { name, unit, key, days })) = wanted else {
        return missing("ask as /history.json?name=DEVICE&unit=UNIT&key=KEY&days=DAYS\n");
    };
    let Some((history, agent)) = desk.reporter().history() else {
        return missing("no output is a database of which the last days could be read\n");
    };
    // One at a time, so that the disk is not kept busy; whoever asks meanwhile is told at once.
    let Ok(turn) = Arc::clone(&desk.reads).try_acquire_owned() else {
        return answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, Bytes::from_static(b"another plot is being made\n"));
    };
    // Cut, not refused: the work is bounded by it, whatever somebody asks for.
    let (now, back) = (clock::wall(), DAY * days.clamp(1, MOST_DAYS));
    // Not on this thread: while the database is read, probes are answered.
    let read = web::block(move || {
        // Until the read has ended, also when whoever asked has gone.
        let _turn = turn;
        let point = PointKey { agent: &agent, device: &name, unit, key: &key };
        history.means(point, now, back, HISTORY_SAMPLES)
    });
    match read.await {
        Ok(Ok(samples)) => {
            let every = back.as_secs_f64() / f64::from(HISTORY_SAMPLES);
            let body =
                serde_json::json!({ "schema": SCHEMA, "now": Time(now), "sampled_every": every, "samples": samples });
            answer(StatusCode::OK, JSON, body.to_string().into())
        }
        Ok(Err(error)) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{error}\n").into()),
        Err(_) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, Bytes::from_static(b"the agent ends\n")),
    }
}

/// The last lines of the log.
async fn log() -> HttpResponse {
    let line = |line: logging::LastLine| serde_json::json!({ "time": Time(line.at.into()), "level": line.level, "message": line.message });
    let lines: Vec<_> = logging::last_lines().into_iter().map(line).collect();
    let body = serde_json::json!({ "schema": SCHEMA, "lines": lines });
    answer(StatusCode::OK, JSON, body.to_string().into())
}

async fn prometheus(desk: Shared) -> HttpResponse {
    let (status, body) = desk.answer(Answer::Metrics);
    answer(status, "text/plain; version=0.0.4", body)
}

/// The process answers, and so does its disk.
async fn healthy(desk: Shared) -> HttpResponse {
    let (status, body) = desk.answer(Answer::Healthy);
    answer(status, TEXT, body)
}

/// Every device was polled once, whatever came of it.
async fn ready(desk: Shared) -> HttpResponse {
    let (status, body) = desk.answer(Answer::Ready);
    answer(status, TEXT, body)
}

async fn nothing() -> HttpResponse {
    answer(StatusCode::NOT_FOUND, TEXT, Bytes::from_static(b"nothing is here\n"))
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> HttpResponse {
    HttpResponse::build(status).insert_header((header::CONTENT_TYPE, kind)).body(Slices(body))
}

impl Desk {
    fn reporter(&self) -> MutexGuard<'_, Reporter> {
        // A panic in between leaves plain data.
        self.reporter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer as it was made lately, or a new one.
    fn answer(&self, what: Answer) -> (StatusCode, Bytes) {
        // Held until the answer is made: whoever asks meanwhile waits for this one and does not make another.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, status, body)) = made.get(&what)
            && at.elapsed() < FRESH
        {
            return (*status, body.clone());
        }
        let (reporter, now) = (self.reporter(), clock::now());
        let snapshot = match what {
            Answer::Json => reporter.snapshot_with_values(now),
            Answer::Metrics => reporter.snapshot_for_metrics(now),
            _ => reporter.snapshot(now),
        };
        // The socket wants it, too: it does not wait until megabytes of text are written.
        drop(reporter);
        let (status, body) = match what {
            Answer::Json | Answer::JsonWithoutValues => {
                (StatusCode::OK, serde_json::to_vec(&snapshot).unwrap_or_default().into())
            }
            Answer::Metrics => {
                let process = Process::now().map(|process| metrics::of_process(&process, snapshot.started));
                (StatusCode::OK, (metrics::render(&snapshot) + &process.unwrap_or_default()).into())
            }
            Answer::Healthy => match snapshot.cache.fault.filter(|_| snapshot.cache.hangs) {
                None => (StatusCode::OK, Bytes::from_static(b"healthy\n")),
                Some(fault) => (StatusCode::SERVICE_UNAVAILABLE, format!("{fault}\n").into()),
            },
            Answer::Ready => match snapshot.polling.starting {
                0 => (StatusCode::OK, Bytes::from_static(b"ready\n")),
                starting => {
                    let text = format!("first polls of {starting} devices have not ended\n");
                    (StatusCode::SERVICE_UNAVAILABLE, text.into())
                }
            },
        };
        made.insert(what, (Instant::now(), status, body.clone()));
        (status, body)
    }
}

/// A body of which a connection has a copy of no more than the slice that it sends.
struct Slices(Bytes);

impl MessageBody for Slices {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let next = self.0.len().min(SLICE);
        Poll::Ready((next > 0).then(|| Ok(self.0.split_to(next))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy would forbid them.
    #[test]
    fn the_page_has_nothing_that_its_policy_forbids() {
        for (path, _, content) in FILES {
            for forbidden in ["<script>", "<style>", " style=", " onclick", "innerHTML", "eval(", "http://", "https://"]
            {
                let content = content.replace("http://www.w3.org/2000/svg", "");
                assert!(!content.contains(forbidden), "{path}: {forbidden}");
            }
        }
    }
}
