//! The client's side of conversations that stay open.
//!
//! Owns: starting, reporting and stopping them.
//! Does not: number records; `records` does.
//! Invariant: a report can be had at any time, also after the end.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::attempt::{connect, plain};
use super::factory::Factory;
use super::records::{Account, RECORD_BYTES, every, fill};
use super::talk::{Opening, line, read_greeting};
use crate::proto::{Greeting, Protocol, StreamReport, StreamSpec};

/// All conversations that this server's pods have opened.
#[derive(Debug, Default)]
pub struct Streams {
    open: BTreeMap<String, Stream>,
}

#[derive(Debug)]
struct Stream {
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    greeting: Greeting,
    account: Account,
    ended: Option<(String, Instant)>,
}

impl Streams {
    /// Opens a conversation and reports it.
    pub async fn start(&mut self, factory: &Factory, spec: StreamSpec) -> Result<StreamReport> {
        if self.open.contains_key(&spec.id) {
            bail!("stream {}: there is one of that name; stop it first", spec.id);
        }
        if spec.attempt.protocol != Protocol::Tcp {
            bail!("stream {}: only tcp keeps a conversation", spec.id);
        }
        let limit = Duration::from_millis(spec.attempt.timeout_millis);
        let (stream, greeting) = timeout(limit, open(factory, &spec))
            .await
            .map_err(|_| anyhow!("no answer within {limit:?}"))??;
        let account = Account::open(Instant::now());
        let shared = Arc::new(Mutex::new(Shared { greeting, account, ended: None }));
        let task = tokio::spawn(run(stream, spec.interval_micros, shared.clone()));
        let entry = Stream { shared, task };
        let report = entry.report(&spec.id);
        self.open.insert(spec.id, entry);
        Ok(report)
    }

    /// How a conversation is going, or went.
    pub fn report(&self, id: &str) -> Result<StreamReport> {
        Ok(self.open.get(id).with_context(|| format!("there is no stream {id:?}"))?.report(id))
    }

    /// Ends a conversation.
    pub fn stop(&mut self, id: &str) -> Result<StreamReport> {
        let stream = self.open.remove(id).with_context(|| format!("there is no stream {id:?}"))?;
        stream.task.abort();
        let mut shared = stream.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.ended.get_or_insert(("stopped".to_owned(), Instant::now()));
        drop(shared);
        Ok(stream.report(id))
    }
}

async fn open(factory: &Factory, spec: &StreamSpec) -> Result<(BufReader<TcpStream>, Greeting)> {
    let mut stream = BufReader::new(connect(factory, &spec.attempt).await?);
    stream.write_all(&line(&Opening::Stream { interval_micros: spec.interval_micros })?).await?;
    let greeting = read_greeting(&mut stream).await?;
    Ok((stream, greeting))
}

async fn run(stream: BufReader<TcpStream>, interval_micros: u64, shared: Arc<Mutex<Shared>>) {
    let Err(end) = talk(stream, interval_micros, &shared).await;
    let why = match end.kind() {
        io::ErrorKind::ConnectionReset => "reset".to_owned(),
        io::ErrorKind::UnexpectedEof => "closed".to_owned(),
        _ => end.to_string(),
    };
    shared.lock().unwrap_or_else(PoisonError::into_inner).ended.get_or_insert((why, Instant::now()));
}

async fn talk(
    stream: BufReader<TcpStream>,
    interval_micros: u64,
    shared: &Mutex<Shared>,
) -> io::Result<std::convert::Infallible> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let account = |change: &mut dyn FnMut(&mut Account)| {
        change(&mut shared.lock().unwrap_or_else(PoisonError::into_inner).account);
    };
    let mut ticks = every(interval_micros);
    let mut bytes = [0; RECORD_BYTES];
    let mut filled = 0;
    let mut backlog: Vec<u8> = Vec::new();
    loop {
        tokio::select! {
            // While the peer is silent the send buffer fills; reading must go on meanwhile.
            _ = ticks.tick(), if backlog.is_empty() => {
                account(&mut |account| backlog = account.next().bytes().to_vec());
            }
            written = writer.write(&backlog), if !backlog.is_empty() => {
                backlog.drain(..written?);
                writer.flush().await?;
            }
            read = fill(&mut reader, &mut bytes, filled) => {
                filled = read?;
                if filled == RECORD_BYTES {
                    account(&mut |account| account.take(&bytes, Instant::now()));
                    filled = 0;
                }
            }
        }
    }
}

impl Stream {
    fn report(&self, id: &str) -> StreamReport {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let account = &shared.account;
        let now = shared.ended.as_ref().map_or_else(Instant::now, |(_, at)| *at);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        StreamReport {
            id: id.to_owned(),
            open: shared.ended.is_none(),
            ended: shared.ended.as_ref().map(|(why, _)| why.clone()),
            server: shared.greeting.server.clone(),
            node: shared.greeting.node.clone(),
            client_seen: plain(shared.greeting.client_seen),
            sent: account.sent,
            received: account.received,
            acknowledged: account.peer_received,
            lost: account.missed + account.peer_missed,
            disordered: account.disordered,
            longest_pause_micros: micros(account.longest_pause(now)),
            silent_micros: micros(account.silence(now)),
            last_record_unix_micros: account.last_unix_micros(),
            age_micros: micros(now.duration_since(account.opened)),
        }
    }
}
