//! Events about objects that are not in force, for `kubectl describe`.
//!
//! Owns: which node's agent says what, and how often. Does not: find what is wrong.
//! Invariant: nothing ever waits for a report; a server that refuses them changes nothing else.

use super::connection::{Ask, Connection};
use super::objects::Report;
use crate::rejection::{Effect, Rejection};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};

/// Between two Events.
const PACE: Duration = Duration::from_millis(100);
/// Events that may wait; more are left out, `status` has them all.
const QUEUE: usize = 1000;
/// So many agents say the same, so that it is said even if one of them is away.
const VOICES: usize = 2;

/// Passes reports on to a task of its own.
pub(super) struct Reporter {
    node: String,
    nodes: BTreeSet<String>,
    queue: mpsc::Sender<Report>,
    said: BTreeSet<String>,
    /// How often our own Node has come to be.
    appeared: watch::Sender<u64>,
}

impl Reporter {
    /// Starts the task; inside a runtime.
    pub fn start(connection: Connection, node: &str, appeared: watch::Sender<u64>) -> Self {
        let (queue, mut reports) = mpsc::channel::<Report>(QUEUE);
        let node = node.to_owned();
        let name = node.clone();
        tokio::spawn(async move {
            while let Some(report) = reports.recv().await {
                write(&connection, &name, &report).await;
                tokio::time::sleep(PACE).await;
            }
        });
        Self { node, nodes: BTreeSet::new(), queue, said: BTreeSet::new(), appeared }
    }

    /// A node is there, or gone.
    pub fn node(&mut self, name: &str, there: bool) {
        if there {
            if self.nodes.insert(name.to_owned()) && name == self.node {
                self.appeared.send_modify(|count| *count += 1);
            }
        } else {
            self.nodes.remove(name);
        }
    }

    /// Says it once, if this node is one of those that do.
    pub fn report(&mut self, report: Report) {
        let Some(name) = event_name(&report.rejection) else { return };
        if self.is_ours(&name) && self.said.insert(name) && self.queue.try_send(report).is_err() {
            tracing::debug!("an Event is left out: too many at once");
        }
    }

    fn is_ours(&self, name: &str) -> bool {
        let ours = rank(&self.node, name);
        let before = self.nodes.iter().filter(|node| **node != self.node && rank(node, name) < ours);
        before.take(VOICES).count() < VOICES
    }
}

fn rank(node: &str, name: &str) -> u64 {
    fnv(node.bytes().chain([0]).chain(name.bytes()))
}

/// The same for the same report on every node, so that the API server has it once.
fn event_name(rejection: &Rejection) -> Option<String> {
    let object = rejection.object.as_ref()?;
    let text = format!("{object}|{:?}|{}|{:?}", rejection.field, rejection.problem, rejection.effect);
    // The name of an Event may be as long as that of its object, which may be 253 long.
    let prefix: String = object.name.chars().take(200).collect();
    Some(format!("{}.{:016x}", prefix.trim_end_matches(['.', '-']), fnv(text.bytes())))
}

/// FNV-1a: the same in every version.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

async fn write(connection: &Connection, node: &str, report: &Report) {
    let Some((namespace, event)) = event(node, report) else { return };
    let ask = Ask::with_body(
        Method::POST,
        format!("/api/v1/namespaces/{namespace}/events"),
        "application/json",
        &event,
    );
    match connection.json(&ask).await {
        Ok(_) => {}
        Err(error) if error.is_already_exists() => {}
        Err(error) => tracing::debug!(%error, "an Event could not be written"),
    }
}

fn event(node: &str, report: &Report) -> Option<(String, Value)> {
    let rejection = &report.rejection;
    let object = rejection.object.as_ref()?;
    let namespace = if object.namespace.is_empty() { "default" } else { &object.namespace };
    let field = rejection.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
    let message = format!("{field}{}; {} ({})", rejection.problem, rejection.fix, rejection.effect.as_str());
    let message: String = message.chars().take(1000).collect();
    let now = k8s_openapi::jiff::Timestamp::try_from(SystemTime::now()).ok()?;
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
    let mut involved = json!({
        "apiVersion": report.api_version,
        "kind": object.kind,
        "name": object.name,
        "uid": report.uid,
    });
    if !object.namespace.is_empty() {
        involved["namespace"] = object.namespace.as_str().into();
    }
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": event_name(rejection)?, "namespace": namespace},
        "involvedObject": involved,
        "reason": match rejection.effect {
            Effect::NotEnforced => "NotEnforced",
            Effect::KeepsLast | Effect::Absent => "Rejected",
        },
        "message": message,
        "type": "Warning",
        "source": {"component": "tortie", "host": node},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "reportingComponent": "tortie",
        "reportingInstance": node,
    });
    Some((namespace.to_owned(), event))
}
