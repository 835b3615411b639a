//! Asking the agent of this node, from a verb.
//!
//! Owns: one question and its answer, or the lines that follow it. Does not: retry, or know the answers.
//! Invariant: only a stream waits without end.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tortie::agent_api;

use crate::exit::Failure;

/// A busy agent answers within this.
const PATIENCE: Duration = Duration::from_secs(10);

/// The agent's one answer. A refusal is an answer too: `ok` is false.
pub fn agent(run_dir: &Path, question: &Value) -> io::Result<Value> {
    agent_within(run_dir, question, PATIENCE)
}

/// The same, with another patience.
pub fn agent_within(run_dir: &Path, question: &Value, patience: Duration) -> io::Result<Value> {
    let stream = connect(run_dir, question)?;
    stream.set_read_timeout(Some(patience))?;
    let mut line = String::new();
    if BufReader::new(stream).read_line(&mut line)? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
    }
    Ok(serde_json::from_str(&line)?)
}

/// Every line that the agent says, until it or the reader ends.
pub fn stream(run_dir: &Path, question: &Value) -> io::Result<impl Iterator<Item = io::Result<Value>>> {
    let lines = BufReader::new(connect(run_dir, question)?).lines();
    Ok(lines.map(|line| Ok(serde_json::from_str(&line?)?)))
}

fn connect(run_dir: &Path, question: &Value) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(agent_api::socket_path(run_dir))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{question}\n").as_bytes())?;
    Ok(stream)
}

/// Why there is no answer, for a person.
pub fn unreachable(run_dir: &Path, error: &io::Error) -> String {
    let socket = agent_api::socket_path(run_dir);
    let why = match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody listens there; it has ended".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted".to_owned(),
        io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
        _ => error.to_string(),
    };
    let next = match error.kind() {
        io::ErrorKind::PermissionDenied => "run as root",
        _ => "is `tortie agent` running on this node?",
    };
    format!("the agent cannot be reached at {}: {why}; {next}", socket.display())
}

/// The same as a verb's failure: who may not ask is not to look for the agent.
pub fn failure(run_dir: &Path, error: &io::Error) -> Failure {
    classed(error, unreachable(run_dir, error))
}

/// Words about a question without an answer, in the class of what kept it from being answered.
pub fn classed(error: &io::Error, words: String) -> Failure {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::not_allowed(anyhow::anyhow!(words)),
        _ => Failure::unreachable(anyhow::anyhow!(words)),
    }
}
