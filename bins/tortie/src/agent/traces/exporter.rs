//! Sending spans to a collector: OTLP, protobuf over HTTP.
//!
//! Owns: the HTTP client, on the observing thread's runtime. Does not: know what the spans are about.
//! Invariant: plain HTTP and nothing else: to a collector on this node, or on a network that is trusted.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use tokio::runtime::Handle;

/// How long spans wait for company.
const DELAY: Duration = Duration::from_secs(1);
/// A collector that has not taken them by then gets the next ones.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read.
const ANSWER: usize = 64 << 10;

/// The provider of spans that go to that collector.
pub fn provider(endpoint: &str, node: &str, runtime: Handle) -> anyhow::Result<SdkTracerProvider> {
    let wrong =
        || format!("--traces-endpoint {endpoint:?}: expected a URL such as http://127.0.0.1:4318/v1/traces");
    let url: hyper::Uri = endpoint.parse().with_context(wrong)?;
    if url.scheme_str() != Some("http") || url.host().is_none_or(str::is_empty) {
        bail!("{}; TLS is a matter of the collector on this node", wrong());
    }
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Sender::new(runtime))
        .with_endpoint(endpoint)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(PATIENCE)
        .build()
        .with_context(wrong)?;
    let resource = Resource::builder()
        .with_service_name("tortie")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("k8s.node.name", node.to_owned()),
        ])
        .build();
    let batches = BatchConfigBuilder::default().with_scheduled_delay(DELAY).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    Ok(SdkTracerProvider::builder().with_resource(resource).with_span_processor(processor).build())
}

/// The library sends from a thread without a runtime; the work is done on ours.
struct Sender {
    runtime: Handle,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Sender {
    fn new(runtime: Handle) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(PATIENCE));
        Self { runtime, client: Client::builder(TokioExecutor::new()).build(tcp) }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl HttpClient for Sender {
    fn send_bytes<'s, 'f>(
        &'s self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let exchange = async {
                let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
                let body = Limited::new(body, ANSWER).collect().await?.to_bytes();
                Ok::<_, HttpError>(Response::from_parts(head, body))
            };
            tokio::time::timeout(PATIENCE, exchange).await.map_err(HttpError::from)?
        });
        Box::pin(async move { sent.await.map_err(HttpError::from)? })
    }
}
