//! One HTTP connection.
//!
//! Owns: the paths. Does not: know the answers.
//! Invariant: a request has no body that is read, and a slow client costs one task until its time is over.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::health::{self, Probe};
use super::scrape::Scrape;
use super::vitals::Vitals;

/// A client that has not sent its request by then is dropped.
const HEADER_PATIENCE: Duration = Duration::from_secs(10);
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// What a listener serves.
#[derive(Clone)]
pub enum Service {
    /// Liveness and readiness.
    Health(Arc<Vitals>),
    /// Metrics.
    Metrics(Arc<Scrape>),
}

/// Serves one connection until it ends.
pub async fn serve(stream: TcpStream, service: Service) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(route(&request, &service).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "a client of health or metrics ended early");
    }
}

async fn route(request: &Request<Incoming>, service: &Service) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET\n".into());
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match (service, request.uri().path()) {
        (Service::Health(vitals), "/liveness") => health(vitals, Probe::Liveness).await,
        (Service::Health(vitals), "/readiness") => health(vitals, Probe::Readiness).await,
        (Service::Health(_), _) => missing("/liveness and /readiness"),
        (Service::Metrics(scrape), "/metrics") => match scrape.text().await {
            Ok(text) => respond(StatusCode::OK, prometheus::TEXT_FORMAT, text),
            Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error:#}\n")),
        },
        (Service::Metrics(_), _) => missing("/metrics"),
    }
}

async fn health(vitals: &Vitals, probe: Probe) -> Response<Full<Bytes>> {
    let (status, body) = health::answer(vitals, probe).await;
    respond(status, JSON, body)
}

fn missing(what: &str) -> Response<Full<Bytes>> {
    respond(StatusCode::NOT_FOUND, TEXT, format!("there is {what}\n"))
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
