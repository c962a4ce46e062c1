//! The status over HTTP, for browsers, for Prometheus and for probes; served only when `status_listen` says where.
//!
//! It has a thread of its own and reads nothing but the status, so whatever is asked of it costs polling nothing.
//! There are no secrets on it and nothing can be changed by it; who may see it is decided by the address.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ContentType};
use actix_web::{App, HttpResponse, HttpServer, web};

use super::metrics;
use super::reporter::Reporter;
use super::snapshot::Snapshot;
use crate::clock;

const HTML: &str = include_str!("page.html");

/// Everything the page needs is in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";

/// How long a client may take to send a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// Clients served at once.
const CLIENTS: usize = 64;

type Shared = web::Data<Mutex<Reporter>>;

/// Serves until the process ends; returns the address, which differs from the one asked for in a port of 0.
///
/// # Errors
/// When the address cannot be had, or the system gives no thread.
pub fn serve(address: SocketAddr, reporter: Arc<Mutex<Reporter>>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    let reporter = Shared::from(reporter);
    thread::Builder::new().name("page".to_owned()).spawn(move || {
        if let Err(error) = actix_rt::System::new().block_on(answer_all(listener, reporter)) {
            tracing::error!(cause = %error, "the status page has ended; polling goes on");
        }
    })?;
    Ok(address)
}

async fn answer_all(listener: TcpListener, reporter: Shared) -> io::Result<()> {
    let routes = move || {
        App::new()
            .app_data(reporter.clone())
            .route("/", web::get().to(page))
            .route("/status.json", web::get().to(json))
            .route("/metrics", web::get().to(prometheus))
            .route("/-/healthy", web::get().to(healthy))
            .route("/-/ready", web::get().to(ready))
    };
    HttpServer::new(routes)
        .workers(1)
        .max_connections(CLIENTS)
        .client_request_timeout(PATIENCE)
        // Signals are the daemon's.
        .disable_signals()
        .listen(listener)?
        .run()
        .await
}

async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::html())
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(HTML)
}

async fn json(reporter: Shared) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(snapshot(&reporter))
}

async fn prometheus(reporter: Shared) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(metrics::render(&snapshot(&reporter)))
}

/// The process answers.
async fn healthy() -> &'static str {
    "healthy\n"
}

/// Every device was polled once, whatever came of it.
async fn ready(reporter: Shared) -> HttpResponse {
    match snapshot(&reporter).polling.starting {
        0 => HttpResponse::Ok().body("ready\n"),
        starting => {
            HttpResponse::ServiceUnavailable().body(format!("first polls of {starting} devices have not ended\n"))
        }
    }
}

fn snapshot(reporter: &Shared) -> Snapshot {
    // A panic in between leaves plain data.
    reporter.lock().unwrap_or_else(PoisonError::into_inner).snapshot(clock::now())
}
