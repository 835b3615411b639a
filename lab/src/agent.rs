//! The agents of the nodes.
//!
//! Owns: starting, stopping, killing them, and asking them whether everything is enforced.
//! Does not: know what they enforce.
//! Invariant: a node has at most one agent of ours.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::error::{Result, bad, silent};
use crate::lab::{Lab, Where};
use crate::plan::Dataplane;
use crate::process::Record;

/// An agent may write its last records before it goes.
const PATIENCE: Duration = Duration::from_secs(20);

impl Lab {
    fn agent_record(&self, node: &str) -> Result<std::path::PathBuf> {
        if self.state.plan.node(node)?.dataplane != Dataplane::Bpf {
            return Err(bad!("{node} runs no agent: its data plane is plain"));
        }
        Ok(self.paths.process(&format!("agent-{node}")))
    }

    /// Whether the node's agent runs.
    pub fn agent_is_alive(&self, node: &str) -> bool {
        self.agent_pid(node).is_some()
    }

    /// The process id of the node's agent, while it runs.
    pub fn agent_pid(&self, node: &str) -> Option<i32> {
        let path = self.agent_record(node).ok()?;
        Record::read(&path).filter(Record::is_alive).map(|record| record.pid)
    }

    /// Starts the node's agent; one that runs already is left alone.
    pub fn start_agent(&self, node: &str) -> Result<()> {
        self.start_agent_with(node, &[])
    }

    /// The same, with more in its environment.
    pub fn start_agent_with(&self, node: &str, environment: &[(&str, &str)]) -> Result<()> {
        let path = self.agent_record(node)?;
        if self.agent_is_alive(node) {
            return Ok(());
        }
        let mut place = self.place(&Where::Node(node.to_owned()))?;
        if self.has_api_server() {
            let own = [OsString::from("kube:"), self.agent_kubeconfig(node).into_os_string()];
            place.env.insert("TORTIE_STORE".to_owned(), own.into_iter().collect());
            place.env.remove("KUBECONFIG");
            // Whoever builds tools into TORTIE_CACHE would else have all nodes remember at one place.
            let memory = self.paths.run_dir(node).join("store");
            place.env.insert("TORTIE_CACHE".to_owned(), memory.into_os_string());
        }
        let more = environment.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value)));
        place.env.extend(more);
        // A stale socket would make the first request after the start fail instead of wait.
        let _ = std::fs::remove_file(self.agent_socket(node));
        let mut argv = vec![self.binary.clone().into_os_string()];
        argv.extend(["agent", "--node", node].map(Into::into));
        Record::start(&place, &argv, &self.paths.log(node), &path)?;
        Ok(())
    }

    /// Ends the node's agent gracefully; the data plane stays.
    pub fn stop_agent(&self, node: &str) -> Result<()> {
        self.end_agent(node, Signal::TERM)
    }

    /// Kills the node's agent; the data plane stays.
    pub fn kill_agent(&self, node: &str) -> Result<()> {
        self.end_agent(node, Signal::KILL)
    }

    fn end_agent(&self, node: &str, signal: Signal) -> Result<()> {
        match Record::read(&self.agent_record(node)?) {
            Some(record) => {
                record.end(signal, PATIENCE).map_err(|error| error.context(format!("agent of {node}")))
            }
            None => Ok(()),
        }
    }

    fn agent_socket(&self, node: &str) -> std::path::PathBuf {
        self.paths.run_dir(node).join("agent.sock")
    }

    /// Returns when everything in the store is enforced on every node.
    pub fn wait(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        if self.has_api_server() {
            self.ensure_kubelet()?;
            self.wait_until_settled(deadline)?;
        }
        let asked = thread::scope(|scope| {
            let waits: Vec<_> =
                self.agents().map(|node| scope.spawn(|| self.wait_for(&node.name, deadline))).collect();
            waits.into_iter().map(|wait| wait.join()).collect::<Vec<_>>()
        });
        let mut errors = Vec::new();
        for result in asked {
            match result {
                Ok(Ok(())) => {}
                Ok(Err(error)) => errors.push(error.to_string()),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(silent!("{}", errors.join("; ")))
    }

    /// Returns when everything in the store is enforced on one node.
    pub fn wait_node(&self, node: &str, patience: Duration) -> Result<()> {
        self.agent_record(node)?;
        self.wait_for(node, Instant::now() + patience)
    }

    fn wait_for(&self, node: &str, deadline: Instant) -> Result<()> {
        if !self.agent_is_alive(node) {
            let name = &self.name;
            return Err(silent!(
                "the agent of {node} does not run: `tortie lab logs --name {name} {node}`, `tortie lab start-agent --name {name} {node}`"
            ));
        }
        let answer = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let request = json!({"verb": "waitEnforced", "timeoutMillis": left.as_millis()});
            let answer = self.ask_agent(node, &request, deadline);
            // It has started again, for a larger map, or has not heard everything yet.
            let again = answer.as_ref().map_or(true, |answer| answer["code"] == "notReady");
            if !again || Instant::now() >= deadline || !self.agent_is_alive(node) {
                break answer?;
            }
            thread::sleep(Duration::from_millis(20));
        };
        if answer.get("ok") == Some(&Value::Bool(true)) {
            return Ok(());
        }
        let why = answer.get("error").and_then(Value::as_str).unwrap_or("not everything is enforced");
        let dirty = answer.get("dirty").map(|dirty| format!(", dirty: {dirty}")).unwrap_or_default();
        Err(silent!("{node}: {why}{dirty}"))
    }

    /// One request to a node's agent. An agent that starts is given time to listen.
    pub fn ask_agent(&self, node: &str, request: &Value, deadline: Instant) -> Result<Value> {
        let stream = connect(&self.agent_socket(node), deadline, || self.agent_is_alive(node))
            .map_err(|error| error.context(format!("the agent of {node} does not listen")))?;
        // It answers by its own time-out; the margin is for one that hangs.
        let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_secs(2);
        let text = converse(stream, &request.to_string(), left)
            .with_context(|| format!("asking the agent of {node}"));
        let text = text.map_err(crate::error::Error::Unreachable)?;
        Ok(serde_json::from_str(&text).with_context(|| format!("the agent of {node} answered {text:?}"))?)
    }
}

/// Connects to a socket whose owner may still be starting.
pub(crate) fn connect(socket: &Path, deadline: Instant, is_alive: impl Fn() -> bool) -> Result<UnixStream> {
    let mut pause = Duration::from_millis(1);
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            // Whoever is refused will be.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(anyhow::Error::from(error).context(socket.display().to_string()).into());
            }
            Err(error) if Instant::now() >= deadline || !is_alive() => {
                return Err(silent!("{}: {error}", socket.display()));
            }
            Err(_) => thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// One line there, one line back.
pub(crate) fn converse(mut stream: UnixStream, request: &str, patience: Duration) -> anyhow::Result<String> {
    stream.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut text = String::new();
    let read = BufReader::new(stream).read_line(&mut text);
    read.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => anyhow!("it does not answer in time; does it hang?"),
        _ => error.into(),
    })?;
    anyhow::ensure!(!text.is_empty(), "it closed the connection without an answer");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_who_takes_the_question_and_says_nothing_it_is_said_that_it_does_not_answer() {
        let (asking, _silent) = UnixStream::pair().unwrap();
        let error = converse(asking, "{}", Duration::from_millis(1)).unwrap_err();
        assert!(error.to_string().contains("does not answer in time"), "{error}");
    }
}
