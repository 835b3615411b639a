//! A watch: the events of one answer, as they come.
//!
//! Owns: cutting the stream into lines and lines into events. Does not: ask again.
//! Invariant: an event is given only when its whole line has come, so a stream that breaks off loses nothing
//! that was given. A server need not say anything of a kind of which nothing changes: silence alone is no failure.

use super::connection::{Ask, Connection};
use super::error::{ClusterError, Refusal};
use http::Version;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;

/// No object is larger: the API server's own limit is 3 MB.
const LONGEST_LINE: usize = 16 << 20;
/// No watch lasts longer: its end, which the server was asked for, has been lost.
const LONGEST_SILENCE: Duration = Duration::from_secs(600);

/// One event of a watch.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard {
    /// New or changed.
    Is(Value),
    /// Deleted; its last state.
    Gone(Value),
    /// Nothing has happened up to this version.
    Bookmark(String),
}

/// An open watch.
pub(super) struct Lines {
    connection: Connection,
    server: String,
    body: Body,
    buffer: Vec<u8>,
    /// Up to here the buffer has no end of line.
    searched: usize,
    ready: VecDeque<Heard>,
    /// Its connection is that of other requests.
    shares: bool,
    quiet: Duration,
    silent: Duration,
}

#[derive(Deserialize)]
struct Line {
    r#type: String,
    object: Value,
}

impl Lines {
    /// Asks for a watch; when it says nothing for `quiet` it is looked whether the server is there.
    pub async fn open(connection: &Connection, ask: &Ask, quiet: Duration) -> Result<Self, ClusterError> {
        let (server, response) = connection.stream(ask).await?;
        Ok(Self {
            connection: connection.clone(),
            server,
            shares: response.version() == Version::HTTP_2,
            body: response.into_body(),
            buffer: Vec::new(),
            searched: 0,
            ready: VecDeque::new(),
            quiet,
            silent: Duration::ZERO,
        })
    }

    /// The next event; `None`: the watch is over, as it is every few minutes.
    pub async fn next(&mut self) -> Result<Option<Heard>, ClusterError> {
        loop {
            if let Some(heard) = self.ready.pop_front() {
                return Ok(Some(heard));
            }
            let frame = match tokio::time::timeout(self.quiet, self.body.frame()).await {
                Ok(frame) => frame,
                Err(_) if self.is_alive().await? => continue,
                Err(_) => return Ok(None),
            };
            self.silent = Duration::ZERO;
            match frame {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                    self.cut()?;
                }
                Some(Err(error)) => {
                    return Err(self.connection.lost(&self.server, &super::access::chain(&error)));
                }
                None if self.buffer.iter().any(|byte| !byte.is_ascii_whitespace()) => {
                    return Err(ClusterError::Malformed {
                        what: "a watch".into(),
                        cause: "it ended in the middle of an event".into(),
                    });
                }
                None => return Ok(None),
            }
        }
    }

    /// After silence. What is asked on the connection of all watches tells of this one, too; of a connection of its own only
    /// a new watch does.
    async fn is_alive(&mut self) -> Result<bool, ClusterError> {
        self.silent += self.quiet;
        let ask = self.shares && self.silent < LONGEST_SILENCE;
        Ok(ask && self.connection.still_answers(&self.server).await?)
    }

    fn cut(&mut self) -> Result<(), ClusterError> {
        let mut start = 0;
        while let Some(at) = self.buffer.iter().skip(self.searched).position(|byte| *byte == b'\n') {
            let end = self.searched + at;
            let line = self.buffer.get(start..end).unwrap_or_default();
            if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
                self.ready.extend(event(line)?);
            }
            start = end + 1;
            self.searched = start;
        }
        self.buffer.drain(..start);
        self.searched = self.buffer.len();
        if self.buffer.is_empty() && self.buffer.capacity() > 1 << 16 {
            self.buffer = Vec::new();
        }
        match self.buffer.len() > LONGEST_LINE {
            true => Err(malformed(format!("a line is longer than {LONGEST_LINE} bytes"))),
            false => Ok(()),
        }
    }
}

fn event(line: &[u8]) -> Result<Option<Heard>, ClusterError> {
    let Line { r#type, object } = serde_json::from_slice(line).map_err(|e| malformed(e.to_string()))?;
    match r#type.as_str() {
        "ADDED" | "MODIFIED" => Ok(Some(Heard::Is(object))),
        "DELETED" => Ok(Some(Heard::Gone(object))),
        "BOOKMARK" => Ok(version(&object).map(|version| Heard::Bookmark(version.to_owned()))),
        "ERROR" => Err(ClusterError::Refused(Refusal::read(500, object.to_string().as_bytes(), None))),
        // A later API may have more; what it says is not for us.
        _ => Ok(None),
    }
}

/// `metadata.resourceVersion`.
pub(super) fn version(value: &Value) -> Option<&str> {
    value.pointer("/metadata/resourceVersion")?.as_str().filter(|text| !text.is_empty())
}

fn malformed(cause: String) -> ClusterError {
    ClusterError::Malformed { what: "an event of a watch".into(), cause }
}
