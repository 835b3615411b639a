//! Events about objects that are not in force or contradict each other, for `kubectl describe`.
//!
//! Owns: which node's agent says what, and how often. Does not: find what is wrong.
//! Invariant: nothing ever waits for a report; a server that refuses them changes nothing else.

use super::connection::{Ask, Connection};
use super::error::ClusterError;
use super::node::ADDRESS_ANNOTATIONS;
use super::served::{Served, encoded};
use crate::kind::{self, Kind};
use crate::rejection::{Effect, ObjectName, Rejection};
use crate::stream::Finding;
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tortie_model::{ObjectId, RangesId};

/// Between two Events.
const PACE: Duration = Duration::from_millis(100);
/// Events that may wait; more are left out, `status` has them all.
const QUEUE: usize = 1000;
/// So many agents say the same, so that it is said even if one of them is away.
const VOICES: usize = 2;

/// Something about an object of the server, for an Event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Report {
    object: ObjectName,
    identity: Identity,
    reason: &'static str,
    message: String,
}

/// How the server knows an object.
#[derive(Clone, Debug, PartialEq)]
enum Identity {
    Known { api_version: String, uid: String },
    ToAsk(&'static Kind),
}

impl Report {
    /// `None`: nobody knows which object.
    pub fn of_rejection(rejection: &Rejection, api_version: String, uid: String) -> Option<Self> {
        let field = rejection.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
        Some(Self {
            object: rejection.object.clone()?,
            identity: Identity::Known { api_version, uid },
            reason: match rejection.effect {
                Effect::NotEnforced => "NotEnforced",
                Effect::KeepsLast | Effect::Absent => "Rejected",
            },
            message: format!(
                "{field}{}; {} ({})",
                rejection.problem,
                rejection.fix,
                rejection.effect.as_str()
            ),
        })
    }

    fn of_finding(finding: Finding) -> Option<Self> {
        let (kind, namespace, name) = subject(&finding.object)?;
        Some(Self {
            object: ObjectName { kind: kind.kind.into(), namespace, name },
            identity: Identity::ToAsk(kind),
            reason: finding.reason,
            message: finding.message,
        })
    }

    /// The same for the same report on every node, so that the API server has it once.
    fn event_name(&self) -> String {
        let text = format!("{}|{}|{}", self.object, self.reason, self.message);
        // The name of an Event may be as long as that of its object, which may be 253 long.
        let prefix: String = self.object.name.chars().take(200).collect();
        format!("{}.{:016x}", prefix.trim_end_matches(['.', '-']), fnv(text.bytes()))
    }
}

/// Kind, namespace and name of a model's object, as the server has it.
fn subject(id: &ObjectId) -> Option<(&'static Kind, String, String)> {
    let (group, kind, namespace, name) = match id {
        ObjectId::Namespace(name) => ("", "Namespace", "", name.as_str()),
        ObjectId::Node(name) => ("", "Node", "", name.as_str()),
        ObjectId::Workload(id) | ObjectId::Attachment(id) => ("", "Pod", id.namespace.as_str(), &*id.name),
        ObjectId::Service(id) => ("", "Service", id.namespace.as_str(), &*id.name),
        ObjectId::Slice(id) => ("discovery.k8s.io", "EndpointSlice", id.namespace.as_str(), &*id.name),
        ObjectId::NetworkPolicy(id) => {
            ("networking.k8s.io", "NetworkPolicy", id.namespace.as_str(), &*id.name)
        }
        ObjectId::Pool(name) => ("projectcalico.org", "IPPool", "", &**name),
        ObjectId::Ranges(RangesId::ServiceCidr(name)) => ("networking.k8s.io", "ServiceCIDR", "", &**name),
        ObjectId::Ranges(RangesId::BgpConfiguration(name)) => {
            ("projectcalico.org", "BGPConfiguration", "", &**name)
        }
        ObjectId::OwnAddresses | ObjectId::Settings => return None,
    };
    Some((kind::of(group, kind)?, namespace.to_owned(), name.to_owned()))
}

/// Passes reports on to a task of its own.
pub(super) struct Reporter {
    node: String,
    /// Nodes where an agent has been.
    agents: BTreeSet<String>,
    own_is_there: bool,
    queue: mpsc::Sender<Report>,
    said: BTreeSet<String>,
    /// How often our own Node has come to be.
    appeared: watch::Sender<u64>,
}

impl Reporter {
    /// Starts the task; inside a runtime.
    pub fn start(connection: Connection, served: Served, node: &str, appeared: watch::Sender<u64>) -> Self {
        let (queue, mut reports) = mpsc::channel::<Report>(QUEUE);
        let node = node.to_owned();
        let name = node.clone();
        tokio::spawn(async move {
            while let Some(report) = reports.recv().await {
                if let Err(error) = write(&connection, &served, &name, report).await {
                    tracing::debug!(%error, "an Event could not be written");
                }
                tokio::time::sleep(PACE).await;
            }
        });
        Self { node, agents: BTreeSet::new(), own_is_there: false, queue, said: BTreeSet::new(), appeared }
    }

    /// A node is known, or not any more.
    pub fn known(&mut self, name: &str, there: bool) {
        let was_there =
            if name == self.node { std::mem::replace(&mut self.own_is_there, there) } else { there };
        if there && !was_there {
            self.appeared.send_modify(|count| *count += 1);
        }
    }

    /// A Node is as given, or gone. One that no agent has written its addresses to has none that could speak.
    pub fn node(&mut self, node: &Value, there: bool) {
        let Some(name) = node.pointer("/metadata/name").and_then(Value::as_str) else { return };
        let annotations = node.pointer("/metadata/annotations");
        let has = |key: &&str| annotations.and_then(|all| all.get(key)).is_some();
        if there && ADDRESS_ANNOTATIONS.iter().any(has) {
            self.agents.insert(name.to_owned());
        } else {
            self.agents.remove(name);
        }
    }

    /// Says what was found in an object, once, if this node is one of those that do.
    pub fn report(&mut self, report: Report) {
        if self.is_ours(&report.event_name()) {
            self.say(report);
        }
    }

    /// Says what the agent has found out, once.
    pub fn find(&mut self, finding: Finding) {
        let alone = finding.alone;
        let Some(report) = Report::of_finding(finding) else { return };
        if alone || self.is_ours(&report.event_name()) {
            self.say(report);
        }
    }

    fn say(&mut self, report: Report) {
        if self.said.insert(report.event_name()) && self.queue.try_send(report).is_err() {
            tracing::debug!("an Event is left out: too many at once");
        }
    }

    fn is_ours(&self, name: &str) -> bool {
        let ours = rank(&self.node, name);
        let before = self.agents.iter().filter(|node| **node != self.node && rank(node, name) < ours);
        before.take(VOICES).count() < VOICES
    }
}

fn rank(node: &str, name: &str) -> u64 {
    fnv(node.bytes().chain([0]).chain(name.bytes()))
}

/// FNV-1a: the same in every version.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

async fn write(
    connection: &Connection,
    served: &Served,
    node: &str,
    report: Report,
) -> Result<(), ClusterError> {
    let identity = match &report.identity {
        Identity::Known { api_version, uid } => Some((api_version.clone(), uid.clone())),
        Identity::ToAsk(kind) => ask(connection, served, kind, &report.object).await?,
    };
    // What has gone meanwhile needs no Event.
    let Some((api_version, uid)) = identity else { return Ok(()) };
    let Some((namespace, event)) = event(node, &report, &api_version, &uid) else { return Ok(()) };
    let ask = Ask::with_body(
        Method::POST,
        format!("/api/v1/namespaces/{namespace}/events"),
        "application/json",
        &event,
    );
    match connection.json(&ask).await {
        Err(error) if !error.is_already_exists() => Err(error),
        _ => Ok(()),
    }
}

/// The `apiVersion` and uid of an object, by a list of it alone: that right we have for every kind.
async fn ask(
    connection: &Connection,
    served: &Served,
    kind: &Kind,
    object: &ObjectName,
) -> Result<Option<(String, String)>, ClusterError> {
    let api = served.find(connection, kind).await?;
    let path = api.collection(&object.namespace);
    let only = encoded(&format!("metadata.name={}", object.name));
    let list = connection.json(&Ask::get(format!("{path}?fieldSelector={only}"))).await?;
    let uid = list.pointer("/items/0/metadata/uid").and_then(Value::as_str);
    Ok(uid.map(|uid| (api.api_version, uid.to_owned())))
}

fn event(node: &str, report: &Report, api_version: &str, uid: &str) -> Option<(String, Value)> {
    let object = &report.object;
    let namespace = if object.namespace.is_empty() { "default" } else { &object.namespace };
    let message: String = report.message.chars().take(1000).collect();
    let now = k8s_openapi::jiff::Timestamp::try_from(SystemTime::now()).ok()?;
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
    let mut involved =
        json!({"apiVersion": api_version, "kind": object.kind, "name": object.name, "uid": uid});
    if !object.namespace.is_empty() {
        involved["namespace"] = object.namespace.as_str().into();
    }
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": report.event_name(), "namespace": namespace},
        "involvedObject": involved,
        "reason": report.reason,
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
