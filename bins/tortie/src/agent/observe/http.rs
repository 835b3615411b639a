//! One HTTP connection.
//!
//! Owns: the paths. Does not: know the answers.
//! Invariant: a request has no body that is read, and a slow client costs one task until its time is over.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tortie_model::ServiceId;

use super::health::{self, Probe};
use super::proxy::{self, Checks};
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
    /// The service proxy's page.
    Proxy(Arc<Vitals>),
    /// One Service's `healthCheckNodePort`, in one family.
    Check {
        /// How the agent is.
        vitals: Arc<Vitals>,
        /// Of all Services.
        checks: watch::Receiver<Arc<Checks>>,
        /// Whose.
        service: ServiceId,
        /// The family.
        v6: bool,
    },
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

const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

async fn route(request: &Request<Incoming>, service: &Service) -> Response<Full<Bytes>> {
    // As kube-proxy: whatever is asked there, and how.
    if let Service::Check { vitals, checks, service, v6 } = service {
        let checks = checks.borrow().clone();
        return check(proxy::of_service(vitals, &checks, service, *v6));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET\n".into());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
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
        (Service::Proxy(vitals), "/healthz") => page(proxy::healthz(vitals)),
        (Service::Proxy(vitals), "/livez") => page(proxy::livez(vitals)),
        (Service::Proxy(_) | Service::Check { .. }, _) => missing("/healthz and /livez"),
    }
}

async fn health(vitals: &Vitals, probe: Probe) -> Response<Full<Bytes>> {
    let (status, body) = health::answer(vitals, probe).await;
    respond(status, JSON, body)
}

fn page((status, body): proxy::Answer) -> Response<Full<Bytes>> {
    let mut response = respond(status, JSON, body);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn check(answer: Option<(proxy::Answer, u32)>) -> Response<Full<Bytes>> {
    let Some((answer, weight)) = answer else {
        return respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "no such Service any more\n".into());
    };
    let mut response = page(answer);
    response.headers_mut().insert(WEIGHT, weight.into());
    response
}

fn missing(what: &str) -> Response<Full<Bytes>> {
    respond(StatusCode::NOT_FOUND, TEXT, format!("there is {what}\n"))
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
