//! The agent's socket: a line of JSON in, a line of JSON out.
//!
//! Owns: connections and the form of requests. Does not: know the answers; the main loop does.
//! Invariant: a request that cannot be understood is answered with what would be.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tortie::agent_api;
use tortie_model::WorkloadId;
use tortie_store::{Handle, Revision};

use super::observe::Live;
use super::waiters::refused;

/// What the main loop is asked.
pub enum Ask {
    /// Wait until everything of a revision is in force.
    Enforced(Revision, Instant),
    /// Wait until a workload can be let go.
    EndpointReady(WorkloadId, String, Instant),
    /// A workload is about to go.
    EndpointGone(WorkloadId, String),
    /// How are things?
    Status,
    /// Endpoints of all Services, used or not.
    Services,
    /// Drops after this number.
    Drops(u64),
    /// Compare kernel and desired state now.
    Resync,
    /// Are you there?
    Ping,
}

/// A question and where its answer goes.
pub type Question = (Ask, oneshot::Sender<Value>);

/// Requests beyond those of the CNI plugin.
#[derive(Debug, Deserialize)]
#[serde(tag = "verb", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Request {
    WaitEnforced {
        #[serde(default = "default_timeout")]
        timeout_millis: u64,
    },
    Status,
    Services,
    Drops {
        #[serde(default)]
        since: u64,
        #[serde(default)]
        follow: bool,
    },
    Resync,
}

fn default_timeout() -> u64 {
    30_000
}

/// Longest request.
const LONGEST: u64 = 1 << 20;

/// What every connection needs.
#[derive(Clone)]
pub struct Server {
    /// To the main loop.
    pub questions: mpsc::Sender<Question>,
    /// To the store.
    pub store: Handle,
    /// The number of the latest drop.
    pub drops: watch::Receiver<u64>,
    /// Counts what the CNI plugin asks.
    pub live: Live,
}

/// The socket in the run directory, and who answers there.
pub struct Door {
    server: Server,
    path: PathBuf,
    /// Device and inode of the socket's file.
    file: Option<(u64, u64)>,
    accepting: JoinHandle<()>,
}

impl Door {
    /// Listens; an old socket is replaced (the node's lock says that nobody else listens there). Needs a `LocalSet`.
    pub fn open(server: Server, run_dir: &Path) -> io::Result<Self> {
        let path = agent_api::socket_path(run_dir);
        let listener = listen(&path)?;
        let accepting = tokio::task::spawn_local(server.clone().serve(listener));
        Ok(Self { server, file: file_at(&path), path, accepting })
    }

    /// Listens again where somebody removed or replaced the socket.
    pub fn check(&mut self) {
        if self.file.is_some() && file_at(&self.path) == self.file {
            return;
        }
        match listen(&self.path) {
            Ok(listener) => {
                tracing::warn!(path = %self.path.display(), "somebody removed the agent's socket; it listens again");
                self.accepting.abort();
                self.accepting = tokio::task::spawn_local(self.server.clone().serve(listener));
                self.file = file_at(&self.path);
            }
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%path, %error, "somebody removed the agent's socket, and it cannot listen again");
            }
        }
    }
}

fn file_at(path: &Path) -> Option<(u64, u64)> {
    let there = std::fs::symlink_metadata(path).ok()?;
    Some((there.dev(), there.ino()))
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

impl Server {
    /// Accepts connections until the runtime ends.
    pub async fn serve(self, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = self.clone();
                    tokio::task::spawn_local(async move {
                        if let Err(error) = server.converse(stream).await {
                            tracing::debug!(%error, "a connection ended early");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn converse(&self, stream: UnixStream) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut line = String::new();
        BufReader::new(read.take(LONGEST)).read_line(&mut line).await?;
        if let Ok(Request::Drops { since, follow: true }) = serde_json::from_str(&line) {
            return self.follow_drops(since, &mut write).await;
        }
        let answer = self.answer(&line).await;
        send(&mut write, &answer).await
    }

    async fn answer(&self, line: &str) -> Value {
        let until = |millis: u64| Instant::now() + Duration::from_millis(millis.min(3_600_000));
        match serde_json::from_str(line) {
            Ok(Request::WaitEnforced { timeout_millis }) => {
                let deadline = until(timeout_millis);
                match tokio::time::timeout_at(deadline.into(), self.store.rescan()).await {
                    Ok(Ok(revision)) => self.ask(Ask::Enforced(revision, deadline)).await,
                    Ok(Err(error)) => refused("notReady", error.to_string()),
                    Err(_) => refused("timeout", self.unread()),
                }
            }
            Ok(Request::Status) => self.ask(Ask::Status).await,
            Ok(Request::Services) => self.ask(Ask::Services).await,
            Ok(Request::Drops { since, .. }) => self.ask(Ask::Drops(since)).await,
            Ok(Request::Resync) => self.ask(Ask::Resync).await,
            Err(_) => match serde_json::from_str(line) {
                Ok(agent_api::Request::EndpointReady {
                    namespace,
                    name,
                    container_id,
                    timeout_millis,
                    ..
                }) => {
                    let id = WorkloadId::new(namespace.as_str(), name.as_str());
                    let ask = Ask::EndpointReady(id, container_id, until(timeout_millis));
                    self.ask_for_cni("endpointReady", ask).await
                }
                Ok(agent_api::Request::EndpointGone { namespace, name, container_id, .. }) => {
                    let id = WorkloadId::new(namespace.as_str(), name.as_str());
                    self.ask_for_cni("endpointGone", Ask::EndpointGone(id, container_id)).await
                }
                Ok(agent_api::Request::Ping) => self.ask(Ask::Ping).await,
                Err(error) => refused(
                    "badRequest",
                    format!(
                        "{error}; verbs: waitEnforced, status, services, drops, resync, endpointReady, endpointGone, ping"
                    ),
                ),
            },
        }
    }

    /// Why the store's newest state is not known.
    fn unread(&self) -> String {
        let trouble = self.store.standing().and_then(|standing| standing.trouble);
        let why = trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
        format!("the store's newest state has not been read within the time given{why}")
    }

    async fn ask_for_cni(&self, verb: &str, ask: Ask) -> Value {
        let start = Instant::now();
        let answer = self.ask(ask).await;
        let refusal = (answer["ok"] != true).then(|| answer["code"].as_str().unwrap_or_default());
        self.live.cni(verb, refusal, start.elapsed());
        answer
    }

    async fn ask(&self, ask: Ask) -> Value {
        let (reply, answer) = oneshot::channel();
        if self.questions.send((ask, reply)).await.is_err() {
            return refused("notReady", "the agent stops");
        }
        answer.await.unwrap_or_else(|_| refused("notReady", "the agent stops"))
    }

    /// A line for each drop as it happens, until the other side hangs up.
    async fn follow_drops(
        &self,
        mut since: u64,
        write: &mut tokio::net::unix::OwnedWriteHalf,
    ) -> io::Result<()> {
        let mut drops = self.drops.clone();
        loop {
            let answer = self.ask(Ask::Drops(since)).await;
            if let Some(missed) = answer.get("missed").and_then(Value::as_u64).filter(|missed| *missed > 0) {
                send(write, &json!({"missed": missed})).await?;
            }
            for row in answer.get("items").and_then(Value::as_array).into_iter().flatten() {
                send(write, row).await?;
            }
            since = answer.get("last").and_then(Value::as_u64).unwrap_or(since);
            if drops.changed().await.is_err() {
                return Ok(());
            }
        }
    }
}

async fn send(write: &mut tokio::net::unix::OwnedWriteHalf, value: &Value) -> io::Result<()> {
    let mut line = value.to_string();
    line.push('\n');
    write.write_all(line.as_bytes()).await
}
