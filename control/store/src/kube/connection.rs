//! Requests to whichever API server answers.
//!
//! Owns: the clients, fail-over between servers, reading credentials again, time-outs.
//! Does not: know what the requests mean.
//! Invariant: a request that may have changed something is never sent twice.

use super::access::{Access, Timing, chain};
use super::client::{self, Speaks};
use super::error::{ClusterError, Refusal};
use crate::stream::Standing;
use http::{Method, Response};
use kube::client::Body;
use kube::{Client, Config};
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// Credentials are not read again more often.
const RELOAD_AT_MOST: Duration = Duration::from_secs(2);

/// Answered to everybody who is known, and without looking at anything.
const CHEAPEST: &str = "/version";

/// A request, apart from the server it goes to.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub method: Method,
    /// With its query.
    pub path: String,
    pub body: Option<(&'static str, Vec<u8>)>,
    pub accept: &'static str,
}

impl Ask {
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None, accept: "application/json" }
    }

    pub fn with_body(method: Method, path: String, content: &'static str, body: &Value) -> Self {
        Self {
            method,
            path,
            body: Some((content, body.to_string().into_bytes())),
            accept: "application/json",
        }
    }

    fn request(&self) -> Result<http::Request<Body>, ClusterError> {
        let mut builder = http::Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header("accept", self.accept);
        let mut bytes = Vec::new();
        if let Some((content, body)) = &self.body {
            builder = builder.header("content-type", *content);
            bytes.clone_from(body);
        }
        let malformed = |error: http::Error| ClusterError::Malformed {
            what: self.path.clone(),
            cause: error.to_string(),
        };
        builder.body(Body::from(bytes)).map_err(malformed)
    }
}

/// One server.
#[derive(Clone)]
struct Server {
    url: String,
    client: Client,
    config: Config,
}

struct Servers {
    all: Vec<Server>,
    current: usize,
    read: Instant,
    /// There are addresses that are not among them yet.
    stale: bool,
}

/// The answer to whether a server is there: which one answered, and when.
struct Sign {
    at: Instant,
    from: Result<String, ClusterError>,
}

impl Sign {
    /// It is new enough for whoever asks at that moment. A failure is one for those who waited for it, and no longer.
    fn holds(&self, asked: Instant, quiet: Duration) -> bool {
        match self.from {
            Ok(_) => self.at + quiet / 2 > asked,
            Err(_) => self.at >= asked,
        }
    }
}

/// The way to the cluster; clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    access: Access,
    servers: Arc<Mutex<Option<Servers>>>,
    standing: Arc<Mutex<Option<Standing>>>,
    /// Whether it is in trouble.
    away: Arc<watch::Sender<bool>>,
    losses: Arc<AtomicU64>,
    sign: Arc<tokio::sync::Mutex<Option<Sign>>>,
    /// Addresses that the cluster itself has told.
    told: Arc<Mutex<Vec<String>>>,
    /// Nobody waits for the answers, so trouble goes into the log.
    logs: bool,
}

impl Connection {
    /// Reads no file yet.
    pub fn new(access: Access) -> Self {
        Self {
            access,
            servers: Arc::default(),
            standing: Arc::default(),
            away: Arc::new(watch::Sender::new(false)),
            losses: Arc::default(),
            sign: Arc::default(),
            told: Arc::default(),
            logs: true,
        }
    }

    /// For somebody who waits for each answer, and is told what is wrong with it.
    pub fn for_questions(access: Access) -> Self {
        Self { logs: false, ..Self::new(access) }
    }

    /// How long to wait for what.
    pub fn timing(&self) -> Timing {
        self.access.timing
    }

    /// Whether there is a configuration that can be used.
    pub async fn check_configuration(&self) -> Result<(), ClusterError> {
        self.current().await.map(drop)
    }

    /// How often a server was lost: whatever was known of it then has to be asked again.
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::SeqCst)
    }

    /// The cluster says where else its API server is; tried after the servers of the configuration.
    pub fn tell_servers(&self, servers: Vec<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != servers {
            tracing::info!(?servers, "API servers, as the cluster says");
            *told = servers;
            drop(told);
            // Read again at the next failure, or now if there has been one already.
            if let Some(servers) = self.servers.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                servers.stale = true;
            }
        }
    }

    /// How it stands; `None`: nothing has been asked yet.
    pub fn standing(&self) -> Option<Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Others go on without an answer: that there has been none so far is trouble from now on, however long a server may take.
    pub fn nobody_waits(&self) {
        if self.standing().is_some() {
            return;
        }
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let server = servers.as_ref().and_then(|servers| servers.all.get(servers.current));
        let url = server.map(|server| server.url.clone()).unwrap_or_default();
        drop(servers);
        self.note(&url, Some("it has not answered yet".to_owned()));
    }

    /// Ends when a server answers, whoever asked it.
    pub async fn answers(&self) {
        // The sender is here, so it does not end.
        let _ = self.away.subscribe().wait_for(|away| !away).await;
    }

    /// Asks, and reads the answer's body as JSON.
    pub async fn json(&self, ask: &Ask) -> Result<Value, ClusterError> {
        let bytes = self.bytes(ask).await?;
        serde_json::from_slice(&bytes).map_err(|error| ClusterError::Malformed {
            what: format!("the answer to {} {}", ask.method, path_of(&ask.path)),
            cause: error.to_string(),
        })
    }

    /// Asks, and reads the answer's body.
    pub async fn bytes(&self, ask: &Ask) -> Result<Vec<u8>, ClusterError> {
        let whole = async {
            let (server, response) = self.send(ask).await?;
            match response.into_body().collect_bytes().await {
                Ok(bytes) => Ok(bytes.to_vec()),
                Err(error) => Err(self.lost(&server, &chain(&error))),
            }
        };
        match tokio::time::timeout(self.timing().answer, whole).await {
            Ok(result) => result,
            Err(_) => Err(self.silent()),
        }
    }

    /// Asks, and gives the answer as it comes; for watches. Gives the server that answers.
    pub async fn stream(&self, ask: &Ask) -> Result<(String, Response<Body>), ClusterError> {
        match tokio::time::timeout(self.timing().answer, self.send(ask)).await {
            Ok(result) => result,
            Err(_) => Err(self.silent()),
        }
    }

    /// Whether the server of a watch that says nothing is there; `false`: another one answers. Watches share the question.
    pub async fn still_answers(&self, server: &str) -> Result<bool, ClusterError> {
        let asked = Instant::now();
        let mut sign = self.sign.lock().await;
        let known = sign.take().filter(|sign| sign.holds(asked, self.timing().quiet));
        let known = match known {
            Some(known) => known,
            None => {
                let from = match self.stream(&Ask::get(CHEAPEST)).await {
                    // A no is an answer as well.
                    Err(error) if !error.is_unreachable() && !error.is_unauthorized() => {
                        Ok(server.to_owned())
                    }
                    other => other.map(|(server, _)| server),
                };
                Sign { at: Instant::now(), from }
            }
        };
        let from = known.from.clone();
        *sign = Some(known);
        Ok(from? == server)
    }

    /// A client for connections that become something else, with the server that answered last.
    pub async fn upgrading(&self) -> Result<Client, ClusterError> {
        let (server, _) = self.current().await?;
        client::build(server.config, Speaks::Http1).map_err(|error| ClusterError::Configuration {
            source_of: format!("credentials for {}", server.url),
            cause: chain(&error),
        })
    }

    /// A stream has ended in a way that says something about its server.
    pub fn lost(&self, server: &str, cause: &str) -> ClusterError {
        self.losses.fetch_add(1, Ordering::SeqCst);
        self.next_after(server);
        self.note(server, Some(cause.to_owned()));
        ClusterError::Unreachable { server: server.to_owned(), cause: cause.to_owned() }
    }

    fn silent(&self) -> ClusterError {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let server = servers.as_ref().and_then(|servers| servers.all.get(servers.current));
        let server = server.map(|server| server.url.clone()).unwrap_or_default();
        drop(servers);
        self.lost(&server, &format!("no answer within {} s", self.timing().answer.as_secs()))
    }

    /// Tries each server once, beginning with the one that answered last.
    async fn send(&self, ask: &Ask) -> Result<(String, Response<Body>), ClusterError> {
        let mut reloaded = false;
        let mut tries = 0;
        loop {
            let (server, count) = self.current().await?;
            tries += 1;
            let error = match server.client.send(ask.request()?).await {
                Ok(response) if response.status().is_success() => {
                    self.note(&server.url, None);
                    return Ok((server.url, response));
                }
                Ok(response) => {
                    let mut refusal = refusal(response).await;
                    // Whoever may not do something may be somebody else by now; mostly it is the role that lacks it.
                    let again_after = match refusal.code {
                        401 => Some(RELOAD_AT_MOST),
                        403 => Some(self.timing().longest_pause),
                        _ => None,
                    };
                    if let Some(pause) = again_after
                        && !reloaded
                        && self.reload(pause).await
                    {
                        reloaded = true;
                        continue;
                    }
                    // Nothing more will be heard from a server that does not know us: as good as away.
                    let unknown = (refusal.code == 401).then(|| {
                        format!("401 {}: renew the certificate or token of the agent", refusal.message)
                    });
                    self.note(&server.url, unknown);
                    if refusal.code == 401 && !self.logs {
                        refusal.message = self.stranger(&server.url, &refusal.message);
                    }
                    return Err(ClusterError::Refused(refusal));
                }
                Err(error) => error,
            };
            let not_sent = client::was_not_sent(&error);
            let lost = self.lost(&server.url, &chain(&error));
            let may_repeat = not_sent || ask.method == Method::GET;
            if tries >= count || !may_repeat {
                // A certificate that has been replaced shows as a failed handshake.
                self.reload(RELOAD_AT_MOST).await;
                return Err(lost);
            }
        }
    }

    /// A person is told whom the server does not know, and where that is written.
    fn stranger(&self, server: &str, said: &str) -> String {
        let kubeconfig = self.access.kubeconfig.as_ref().map(|path| path.display().to_string());
        let kubeconfig =
            kubeconfig.unwrap_or_else(|| "the kubeconfig (KUBECONFIG, else ~/.kube/config)".into());
        format!(
            "API server {server} does not know who asks ({said}); renew the certificate or token in {kubeconfig}, or give \
             another one with --kubeconfig or --context"
        )
    }

    async fn current(&self) -> Result<(Server, usize), ClusterError> {
        if let Some(found) = self.picked() {
            return Ok(found);
        }
        let fresh = self.read().await?;
        *self.servers.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
        self.picked().ok_or(ClusterError::Closed)
    }

    fn picked(&self) -> Option<(Server, usize)> {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let servers = servers.as_ref()?;
        servers.all.get(servers.current).map(|server| (server.clone(), servers.all.len()))
    }

    async fn read(&self) -> Result<Servers, ClusterError> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let configs = self.access.configs(&told).await?;
        let all = configs.into_iter().map(|config| {
            let url = config.cluster_url.to_string();
            let url = url.trim_end_matches('/').to_owned();
            let failed = |error: kube::Error| ClusterError::Configuration {
                source_of: format!("credentials for {url}"),
                cause: chain(&error),
            };
            let client = client::build(config.clone(), Speaks::Either).map_err(failed)?;
            Ok(Server { client, config, url })
        });
        Ok(Servers {
            all: all.collect::<Result<_, ClusterError>>()?,
            current: 0,
            read: Instant::now(),
            stale: false,
        })
    }

    /// Reads files again, unless that was done within `pause`; `true`: they have been read.
    async fn reload(&self, pause: Duration) -> bool {
        {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            match servers.as_mut() {
                Some(servers) if !servers.stale && servers.read.elapsed() < pause => return false,
                Some(servers) => servers.read = Instant::now(),
                None => {}
            }
        }
        match self.read().await {
            Ok(mut fresh) => {
                let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
                let current = servers.as_ref().map(|servers| servers.current).unwrap_or_default();
                fresh.current = if current < fresh.all.len() { current } else { 0 };
                *servers = Some(fresh);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "credentials cannot be read again; the old ones stay");
                false
            }
        }
    }

    fn next_after(&self, server: &str) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(servers) = servers.as_mut()
            && servers.all.get(servers.current).is_some_and(|current| current.url == server)
        {
            servers.current = (servers.current + 1).checked_rem(servers.all.len()).unwrap_or_default();
        }
    }

    fn note(&self, server: &str, trouble: Option<String>) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = standing.as_ref();
        let same = before.is_some_and(|it| it.trouble.is_some() == trouble.is_some());
        let since = match before {
            Some(it) if same => it.since,
            _ => SystemTime::now(),
        };
        match (same, &trouble) {
            _ if !self.logs => {}
            (false, Some(cause)) => {
                tracing::warn!(server, cause, "API server is away; what is in force stays")
            }
            (false, None) => tracing::info!(server, "API server answers"),
            _ => {}
        }
        self.away.send_replace(trouble.is_some());
        *standing = Some(Standing {
            server: server.to_owned(),
            trouble,
            since,
            from_cache: false,
            waiting_for: Vec::new(),
            behind: Vec::new(),
            memory: None,
            unwritten: None,
            fallback: None,
        });
    }
}

async fn refusal(response: Response<Body>) -> Refusal {
    let code = response.status().as_u16();
    let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let body = response.into_body().collect_bytes().await.unwrap_or_default();
    Refusal::read(code, &body, after.map(Duration::from_secs))
}

/// Without the query, for messages.
pub(super) fn path_of(path: &str) -> &str {
    path.split('?').next().unwrap_or(path)
}
