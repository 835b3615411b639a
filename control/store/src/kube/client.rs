//! An HTTP client that notices when nobody is at the other end.
//!
//! Owns: keep-alive, time-outs of connecting, HTTP/2 where the server has it (one connection for all watches).
//! Does not: read configuration.
//! Invariant: a peer that vanished without a word is noticed within [`GONE_AFTER`].

use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use std::time::Duration;
use tower::{BoxError, ServiceBuilder};

/// A connection is made within this time, or not at all.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long nothing may be heard before the peer is asked, and how often.
const ASK_AFTER: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_secs(5);
const ASK_TIMES: u32 = 3;
/// When a silent peer counts as gone.
pub(super) const GONE_AFTER: Duration = Duration::from_secs(25);

/// What is spoken with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP/2 where the server has it: one connection for everything.
    Either,
    /// What can be upgraded to a WebSocket: a connection for each.
    Http1,
}

/// A client for one server.
pub(super) fn build(config: Config, speaks: Speaks) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_WITHIN));
    tcp.set_keepalive(Some(ASK_AFTER));
    tcp.set_keepalive_interval(Some(ASK_EVERY));
    tcp.set_keepalive_retries(Some(ASK_TIMES));
    tcp.set_tcp_user_timeout(Some(GONE_AFTER));
    let mut https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http();
    if let Some(name) = config.tls_server_name.as_deref().and_then(|name| name.to_owned().try_into().ok()) {
        https = https.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name));
    }
    let https = match speaks {
        Speaks::Either => https.enable_http1().enable_http2().wrap_connector(tcp),
        Speaks::Http1 => https.enable_http1().wrap_connector(tcp),
    };
    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(ASK_AFTER)
        .http2_keep_alive_timeout(GONE_AFTER - ASK_AFTER)
        .http2_keep_alive_while_idle(true)
        .http2_initial_stream_window_size(1 << 20)
        .http2_initial_connection_window_size(8 << 20)
        .build(https);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

/// Whether a request that failed had not reached the server.
pub(super) fn was_not_sent(error: &kube::Error) -> bool {
    match error {
        kube::Error::Service(error) => {
            error.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect)
        }
        _ => false,
    }
}
