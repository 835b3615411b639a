//! The process that serves in the pods of one machine, and probes from them.
//!
//! Owns: its control socket and the loop behind it.
//! Does not: know the cluster; what to serve and where to probe comes resolved.
//! Invariant: one process for each node, in the node's cgroup, so that a node's cgroup programs see the
//! sockets of its pods.

mod attempt;
mod factory;
mod flood;
mod records;
mod sctp;
mod serve;
mod stream;
mod talk;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use self::factory::Factory;
use self::serve::Serving;
use self::stream::Streams;
use crate::proto::{Answer, Request};

/// More attempts than this wait for others to end, so that their time-outs measure the network and not this
/// process.
const ATTEMPTS_AT_ONCE: usize = 256;

#[derive(Debug)]
struct Server {
    factory: Factory,
    serving: Mutex<Serving>,
    streams: Mutex<Streams>,
    attempts: Arc<Semaphore>,
}

/// Serves until killed. `socket` is made anew; whoever can connect to it has listened to `listen` succeed.
pub fn run(socket: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Arc::new(Server {
            factory: Factory::start()?,
            serving: Mutex::default(),
            streams: Mutex::default(),
            attempts: Arc::new(Semaphore::new(ATTEMPTS_AT_ONCE)),
        });
        let _ = fs::remove_file(socket);
        let listener = UnixListener::bind(socket).with_context(|| socket.display().to_string())?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(converse(server.clone(), stream));
        }
    })
}

async fn converse(server: Arc<Server>, stream: UnixStream) {
    if let Err(error) = answer(&server, stream).await {
        tracing::warn!("control socket: {error:#}");
    }
}

async fn answer(server: &Arc<Server>, mut stream: UnixStream) -> Result<()> {
    let (reader, mut writer) = stream.split();
    let mut text = String::new();
    BufReader::new(reader).read_line(&mut text).await?;
    let answer = match serde_json::from_str(&text) {
        Ok(request) => server
            .act(request)
            .await
            .unwrap_or_else(|error| Answer { error: Some(format!("{error:#}")), ..Answer::default() }),
        Err(error) => Answer { error: Some(format!("not a request: {error}")), ..Answer::default() },
    };
    writer.write_all(&talk::line(&answer)?).await?;
    Ok(())
}

impl Server {
    async fn act(self: &Arc<Self>, request: Request) -> Result<Answer> {
        let mut answer = Answer::default();
        match request {
            Request::Serve { served } => {
                answer.complaints = self.serving.lock().await.replace(&self.factory, served).await;
            }
            Request::Probe { attempts } => {
                let mut running = JoinSet::new();
                for (index, attempt) in attempts.into_iter().enumerate() {
                    let server = self.clone();
                    running.spawn(async move {
                        let _turn = server.attempts.acquire().await;
                        (index, attempt::make(&server.factory, &attempt).await)
                    });
                }
                let mut results = running.join_all().await;
                results.sort_by_key(|(index, _)| *index);
                answer.results = results.into_iter().map(|(_, result)| result).collect();
            }
            Request::StreamStart { spec } => {
                answer.stream = Some(self.streams.lock().await.start(&self.factory, spec).await?);
            }
            Request::StreamReport { id } => answer.stream = Some(self.streams.lock().await.report(&id)?),
            Request::Flood { flood } => answer.sent = flood::send(&self.factory, &flood).await?,
            Request::StreamStop { id } => answer.stream = Some(self.streams.lock().await.stop(&id)?),
        }
        Ok(answer)
    }
}
