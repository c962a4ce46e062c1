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
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::Error;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{KeepAlive, StatusCode, Version};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpResponse, HttpServer, web};
use bytes::Bytes;

use self::connections::Connections;
pub use self::hosts::Hosts;
use super::metrics;
use super::reporter::Reporter;
use crate::digest::sha256;
use crate::time::clock;

mod connections;
mod hosts;

const HTML: &str = include_str!("page.html");

/// How long a client may take to send a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one may take to close when all is said.
const GOODBYE: Duration = Duration::from_secs(1);

/// Whoever asks within this time of another gets the same answer.
const FRESH: Duration = Duration::from_millis(250);

/// Given to the connection at once; the rest when the client has read.
const SLICE: usize = 16 << 10;

/// How often connections are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What can be asked for besides the page itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Answer {
    Json,
    Metrics,
    Ready,
    Healthy,
}

/// Answers, and when they were made.
struct Desk {
    reporter: Arc<Mutex<Reporter>>,
    made: Mutex<HashMap<Answer, (Instant, StatusCode, Bytes)>>,
}

type Shared = web::Data<Desk>;

/// Serves whoever asks by one of the names of `hosts` until the process ends; returns the address, which differs from
/// the one asked for in a port of 0.
///
/// # Errors
/// When the address cannot be had, or the system gives no thread.
pub fn serve(address: SocketAddr, hosts: Hosts, reporter: Arc<Mutex<Reporter>>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    let desk = Shared::new(Desk { reporter, made: Mutex::default() });
    thread::Builder::new().name("page".to_owned()).spawn(move || {
        if let Err(error) = actix_rt::System::new().block_on(answer_all(listener, hosts, desk)) {
            tracing::error!(cause = %error, "the status page has ended; polling goes on");
        }
    })?;
    Ok(address)
}

async fn answer_all(listener: TcpListener, hosts: Hosts, desk: Shared) -> io::Result<()> {
    let connections = Arc::<Connections>::default();
    let (hosts, policy) = (web::Data::new(hosts), web::Data::new(policy()));
    let routes = move || {
        App::new()
            .app_data(desk.clone())
            .app_data(hosts.clone())
            .app_data(policy.clone())
            .wrap(from_fn(guard))
            // Whatever the method: the guard lets none but GET and HEAD through.
            .route("/", web::to(page))
            .route("/status.json", web::to(json))
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
    let policy = request.app_data::<web::Data<Policy>>().cloned();
    let mut response = match refusal(&request) {
        Some(refusal) => request.into_response(refusal).map_into_boxed_body(),
        None => next.call(request).await?.map_into_boxed_body(),
    };
    if let Some(policy) = policy {
        policy.add_to(response.headers_mut());
    }
    Ok(response)
}

fn refusal(request: &ServiceRequest) -> Option<HttpResponse> {
    let mut named = request.headers().get_all(header::HOST);
    let (host, another) = (named.next(), named.next());
    let hosts = request.app_data::<web::Data<Hosts>>()?;
    let allowed = |host: &str| hosts.allow(host);
    let of_uri = request.uri().authority().is_none_or(|authority| allowed(authority.as_str()));
    let of_header = match host {
        // Before there were names in requests; no browser does so.
        None if request.version() < Version::HTTP_11 => true,
        None => return Some(HttpResponse::BadRequest().body("a request without Host\n")),
        Some(host) => host.to_str().is_ok_and(allowed),
    };
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

/// What every answer tells a browser.
struct Policy(Vec<(HeaderName, HeaderValue)>);

/// Everything the page needs is in it: its own script and style by their digests, and the status.
fn policy() -> Policy {
    let own = |tag: &str| {
        let inner = HTML.split_once(&format!("<{tag}>")).and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
        format!("'sha256-{}'", base64(&sha256(&[inner.map_or("", |(inner, _)| inner).as_bytes()])))
    };
    let content = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        own("script"),
        own("style")
    );
    let mut policy = Vec::new();
    let plain = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    policy.extend(plain.map(|(name, value)| (name, HeaderValue::from_static(value))));
    policy.extend(HeaderValue::from_str(&content).ok().map(|content| (header::CONTENT_SECURITY_POLICY, content)));
    Policy(policy)
}

impl Policy {
    fn add_to(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            headers.insert(name.clone(), value.clone());
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0_usize, |word, place| word << 8 | usize::from(*chunk.get(place).unwrap_or(&0)));
        for place in 0..4 {
            let digit = DIGITS[word >> (18 - 6 * place) & 63];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

async fn page() -> HttpResponse {
    answer(StatusCode::OK, "text/html; charset=utf-8", Bytes::from_static(HTML.as_bytes()))
}

async fn json(desk: Shared) -> HttpResponse {
    let (status, body) = desk.answer(Answer::Json);
    answer(status, "application/json", body)
}

async fn prometheus(desk: Shared) -> HttpResponse {
    let (status, body) = desk.answer(Answer::Metrics);
    answer(status, "text/plain; version=0.0.4", body)
}

/// The process answers, and so does its disk.
async fn healthy(desk: Shared) -> HttpResponse {
    let (status, body) = desk.answer(Answer::Healthy);
    answer(status, "text/plain; charset=utf-8", body)
}

/// Every device was polled once, whatever came of it.
async fn ready(desk: Shared) -> HttpResponse {
    let (status, body) = desk.answer(Answer::Ready);
    answer(status, "text/plain; charset=utf-8", body)
}

async fn nothing() -> HttpResponse {
    answer(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", Bytes::from_static(b"nothing is here\n"))
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> HttpResponse {
    HttpResponse::build(status).insert_header((header::CONTENT_TYPE, kind)).body(Slices(body))
}

impl Desk {
    /// The answer as it was made lately, or a new one.
    fn answer(&self, what: Answer) -> (StatusCode, Bytes) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, status, body)) = made.get(&what)
            && at.elapsed() < FRESH
        {
            return (*status, body.clone());
        }
        // A panic in between leaves plain data.
        let snapshot = self.reporter.lock().unwrap_or_else(PoisonError::into_inner).snapshot(clock::now());
        let (status, body) = match what {
            Answer::Json => (StatusCode::OK, serde_json::to_vec(&snapshot).unwrap_or_default().into()),
            Answer::Metrics => (StatusCode::OK, metrics::render(&snapshot).into()),
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

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    /// A style or a script that is not there as a whole would be forbidden by its own policy.
    #[test]
    fn the_page_has_one_script_and_one_style_and_nothing_of_others() {
        for tag in ["script", "style"] {
            assert_eq!(HTML.matches(&format!("<{tag}")).count(), 1, "{tag}");
            assert_eq!(HTML.matches(&format!("<{tag}>")).count(), 1, "{tag}");
        }
        for forbidden in [" style=", " onclick", "innerHTML", "eval(", "src=", "href="] {
            assert!(!HTML.contains(forbidden), "{forbidden}");
        }
    }
}
