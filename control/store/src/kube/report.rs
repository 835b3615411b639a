//! Events about objects that are not in force or contradict each other, for `kubectl describe`.
//!
//! Owns: which node's agent says what, and how often. Does not: find what is wrong.
//! Invariant: nothing ever waits for a report; a server that refuses them changes nothing else. While one of the agents
//! whose turns there are is alive, a report is not lost, and however large a cluster is, few ask the server.

use super::connection::{Ask, Connection};
use super::error::ClusterError;
use super::node::ADDRESS_ANNOTATIONS;
use super::served::{Served, encoded};
use crate::kind::{self, Kind};
use crate::rejection::{Effect, ObjectName, Rejection};
use crate::stream::Finding;
use http::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tortie_model::{ObjectId, RangesId};

/// Between two Events.
const PACE: Duration = Duration::from_millis(100);
/// Events that may wait; more are left out, `status` has them all.
const QUEUE: usize = 1000;
/// So many agents say the same at once, so that it is said even if one of them is away.
const VOICES: usize = 2;
/// If all of them are, it is the turn of as many others, then of twice as many, and so on; an Event that is there already is
/// not made again. There are so many turns.
const TURNS: u32 = 4;

/// Something about an object of the server, for an Event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Report {
    object: ObjectName,
    identity: Identity,
    reason: &'static str,
    message: String,
    /// When it was found.
    found: SystemTime,
}

/// How the server knows an object.
#[derive(Clone, Debug, PartialEq)]
enum Identity {
    /// The name is that which it has there, which may not be the one that people use.
    Known {
        api_version: String,
        uid: String,
        name: String,
    },
    ToAsk(&'static Kind),
}

impl Report {
    /// `None`: nobody knows which object.
    pub fn of_rejection(rejection: &Rejection, object: &Value) -> Option<Self> {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let field = rejection.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
        Some(Self {
            object: rejection.object.clone()?,
            identity: Identity::Known {
                api_version: text("/apiVersion"),
                uid: text("/metadata/uid"),
                name: text("/metadata/name"),
            },
            reason: match rejection.effect {
                Effect::NotEnforced => "NotEnforced",
                Effect::KeepsLast | Effect::Absent | Effect::Isolates => "Rejected",
            },
            message: format!(
                "{field}{}; {} ({})",
                rejection.problem,
                rejection.fix,
                rejection.effect.as_str()
            ),
            found: SystemTime::now(),
        })
    }

    fn of_finding(finding: Finding) -> Option<Self> {
        let (kind, namespace, name) = subject(&finding.object)?;
        Some(Self {
            object: ObjectName { kind: kind.kind.into(), namespace, name },
            identity: Identity::ToAsk(kind),
            reason: finding.reason,
            message: finding.message,
            found: SystemTime::now(),
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
    /// In how long each is to be said.
    queue: mpsc::Sender<(Duration, Report)>,
    /// Between two turns.
    turn: Duration,
    said: BTreeSet<String>,
    /// How often our own Node has come to be.
    appeared: watch::Sender<u64>,
}

impl Reporter {
    /// Starts the task; inside a runtime.
    pub fn start(connection: Connection, served: Served, node: &str, appeared: watch::Sender<u64>) -> Self {
        let (queue, mut reports) = mpsc::channel(QUEUE);
        let (node, turn) = (node.to_owned(), connection.timing().turn);
        let name = node.clone();
        tokio::spawn(async move {
            let mut waiting = BTreeMap::new();
            while let Some(report) = next(&mut reports, &mut waiting).await {
                if let Err(error) = write(&connection, &served, &name, report).await {
                    tracing::debug!(%error, "an Event could not be written");
                }
                tokio::time::sleep(PACE).await;
            }
        });
        let (agents, said) = (BTreeSet::new(), BTreeSet::new());
        Self { node, agents, own_is_there: false, queue, turn, said, appeared }
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

    /// Says what was found in an object, once, when it is this node's turn, if it has one.
    pub fn report(&mut self, report: Report) {
        if let Some(turn) = self.turn_of(&report.event_name()) {
            self.say(turn, report);
        }
    }

    /// Says what the agent has found out, once.
    pub fn find(&mut self, finding: Finding) {
        let alone = finding.alone;
        let Some(report) = Report::of_finding(finding) else { return };
        if alone {
            self.say(0, report);
        } else {
            self.report(report);
        }
    }

    fn say(&mut self, turn: u32, report: Report) {
        if self.said.insert(report.event_name())
            && self.queue.try_send((self.turn.saturating_mul(turn), report)).is_err()
        {
            tracing::debug!("an Event is left out: too many at once");
        }
    }

    fn turn_of(&self, name: &str) -> Option<u32> {
        let ours = rank(&self.node, name);
        let before = self.agents.iter().filter(|node| **node != self.node && rank(node, name) < ours);
        turn(before.count())
    }
}

/// Whose turn it is, of one that ranks behind so many others.
fn turn(before: usize) -> Option<u32> {
    let turn = (before / VOICES).checked_ilog2().map_or(0, |log| log + 1);
    (turn < TURNS).then_some(turn)
}

/// The next report that is due; `None` when there will be none.
async fn next(
    reports: &mut mpsc::Receiver<(Duration, Report)>,
    waiting: &mut BTreeMap<(Instant, String), Report>,
) -> Option<Report> {
    loop {
        let first = waiting.first_entry().map(|entry| entry.key().0);
        let due = async {
            match first {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = reports.recv() => match heard? {
                (Duration::ZERO, report) => return Some(report),
                (delay, report) if waiting.len() < QUEUE => {
                    waiting.insert((Instant::now() + delay, report.event_name()), report);
                }
                _ => tracing::debug!("an Event is left out: too many wait for their turn"),
            },
            () = due => return waiting.pop_first().map(|(_, report)| report),
        }
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
        Identity::Known { api_version, uid, name } => Some((api_version.clone(), uid.clone(), name.as_str())),
        Identity::ToAsk(kind) => {
            let found = ask(connection, served, kind, &report.object).await?;
            found.map(|(api_version, uid)| (api_version, uid, report.object.name.as_str()))
        }
    };
    // What has gone meanwhile needs no Event.
    let Some((api_version, uid, name)) = identity else { return Ok(()) };
    let kind = kind::in_form(&api_version, &report.object.kind);
    let involved = json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid});
    let Some((namespace, event)) = event(node, &report, involved) else { return Ok(()) };
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

fn event(node: &str, report: &Report, mut involved: Value) -> Option<(String, Value)> {
    let object = &report.object;
    let namespace = if object.namespace.is_empty() { "default" } else { &object.namespace };
    let message: String = report.message.chars().take(1000).collect();
    let found = k8s_openapi::jiff::Timestamp::try_from(report.found).ok()?;
    let found = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(found);
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
        "firstTimestamp": found,
        "lastTimestamp": found,
        "count": 1,
        "reportingComponent": "tortie",
        "reportingInstance": node,
    });
    Some((namespace.to_owned(), event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_speak_at_once_then_two_then_four_then_eight_and_nobody_else() {
        let turns: Vec<Option<u32>> = (0..17).map(turn).collect();
        let of = |turn: u32| turns.iter().filter(|it| **it == Some(turn)).count();
        assert_eq!([of(0), of(1), of(2), of(3)], [2, 2, 4, 8]);
        assert!(turns.is_sorted_by_key(|turn| turn.unwrap_or(TURNS)));
        assert_eq!(turns[16], None);
    }
}
