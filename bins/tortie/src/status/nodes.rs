//! The nodes of a cluster or laboratory, and how the agent of each is asked.
//!
//! Owns: finding them. Does not: open a port or need one: in a cluster this verb is run in the agent's pod over the API
//! server, with the caller's own rights; in a laboratory the agents' sockets are on this machine.
//! Invariant: every node there is is in the list, also one without an agent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tortie_lab::{Lab, LabName, Where};
use tortie_store::kind::{self, Kind};
use tortie_store::kube::{Cluster, ClusterError, Command, Query};
use tortie_store::objects::Dry;

use super::answer::Status;
use super::of_agent;
use crate::args::{Global, StoreAddress};
use crate::ask;
use crate::exit::Failure;
use crate::resources::open;

/// How the DaemonSet labels its pods, and calls the container (deploy/base/daemonset.yaml).
const PODS: &str = "k8s-app=tortie-node";
const CONTAINER: &str = "tortie-node";

/// A node.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    agent: Agent,
}

/// Where its agent is.
#[derive(Debug, PartialEq, Eq)]
enum Agent {
    Pod(String),
    RunDir(PathBuf),
    /// There is none, because of this.
    Missing(String),
}

/// The way to the agents.
pub enum Ask {
    /// By running a command in their pods.
    Pods {
        /// The way to the API server.
        cluster: Box<Cluster>,
        /// The pods' namespace.
        namespace: String,
    },
    /// By their sockets.
    Lab(LabName),
}

/// All nodes of the cluster that is meant.
pub fn of_cluster(global: &Global, namespace: &str) -> Result<(Vec<Node>, Ask), Failure> {
    if let Some(StoreAddress::Dir(path)) = &global.store {
        return Err(Failure::bad_input(anyhow::anyhow!(
            "--cluster: the directory {} does not say where agents are; use --store kube, or --lab NAME for a laboratory",
            path.display()
        )));
    }
    let cluster = open::cluster(global, Dry::Not)?;
    let query = Query { namespace: namespace.to_owned(), labels: PODS.to_owned(), ..Query::default() };
    let nodes = list(&cluster, "nodes", &Query::default())?;
    let mut pods = pods_by_node(list(&cluster, "pods", &query)?);
    let nodes = nodes.iter().filter(|node| runs_linux(node)).map(|node| {
        let name = text(node, "/metadata/name").to_owned();
        let agent = pods.remove(&name).map_or_else(
            || Agent::Missing(format!("no pod with the label {PODS} in namespace {namespace} runs there")),
            |pod| agent(&pod),
        );
        Node { name, agent }
    });
    let nodes = nodes.collect();
    Ok((nodes, Ask::Pods { cluster: Box::new(cluster), namespace: namespace.to_owned() }))
}

/// All nodes of a laboratory that have an agent.
pub fn of_lab(name: &LabName) -> Result<(Vec<Node>, Ask), Failure> {
    let lab = Lab::open(name)?;
    let mut nodes = Vec::new();
    for node in lab.agents() {
        let place = lab.place(&Where::Node(node.name.clone()))?;
        let agent = match place.env.get("TORTIE_RUN_DIR") {
            Some(path) => Agent::RunDir(path.into()),
            None => Agent::Missing("the laboratory knows no run directory for it".into()),
        };
        nodes.push(Node { name: node.name.clone(), agent });
    }
    Ok((nodes, Ask::Lab(name.clone())))
}

fn list(cluster: &Cluster, kind: &str, query: &Query) -> Result<Vec<Value>, Failure> {
    let kind: &'static Kind =
        kind::named(kind).ok_or_else(|| Failure::bad_input(anyhow::anyhow!("no kind {kind:?}")))?;
    let found = cluster.list(kind, query).map_err(|error: ClusterError| open::failure(error.into()))?;
    Ok(found.into_iter().map(|object| object.value).collect())
}

fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The DaemonSet does not go elsewhere.
fn runs_linux(node: &Value) -> bool {
    matches!(text(node, "/metadata/labels/kubernetes.io~1os"), "" | "linux")
}

/// The pod to ask on each node: while one replaces another there are two, and one that ends or has ended is the worse.
fn pods_by_node(pods: Vec<Value>) -> BTreeMap<String, Value> {
    let rank = |pod: &Value| {
        let ends = pod.pointer("/metadata/deletionTimestamp").is_some();
        (!ends, text(pod, "/status/phase") == "Running")
    };
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    for pod in pods {
        let node = text(&pod, "/spec/nodeName").to_owned();
        if found.get(&node).is_none_or(|other| rank(&pod) > rank(other)) {
            found.insert(node, pod);
        }
    }
    found
}

/// A container that does not run cannot be asked: what the kubelet says about it is the reason.
fn agent(pod: &Value) -> Agent {
    let name = text(pod, "/metadata/name").to_owned();
    let statuses = |list: &str| pod.pointer(list).and_then(Value::as_array).cloned().unwrap_or_default();
    let (main, init) = (statuses("/status/containerStatuses"), statuses("/status/initContainerStatuses"));
    if main.iter().any(|c| text(c, "/name") == CONTAINER && c.pointer("/state/running").is_some()) {
        return Agent::Pod(name);
    }
    let waits = init.iter().chain(&main).find_map(|container| {
        let why = ["waiting", "terminated"].iter().find_map(|state| {
            let reason = text(container, &format!("/state/{state}/reason"));
            (!matches!(reason, "" | "Completed" | "PodInitializing")).then(|| reason.to_owned())
        })?;
        Some(format!("container {} is in {why}", text(container, "/name")))
    });
    let phase = match text(pod, "/status/phase") {
        "" => "Pending",
        phase => phase,
    };
    Agent::Missing(format!(
        "pod {name} is {phase}{}",
        waits.map(|why| format!(": {why}")).unwrap_or_default()
    ))
}

impl Ask {
    /// How the node is, or why it does not say.
    pub fn one(&self, node: &Node, within: Duration) -> Result<Status, String> {
        match (self, &node.agent) {
            (_, Agent::Missing(why)) => Err(why.clone()),
            (_, Agent::RunDir(dir)) => of_agent(dir, within).map_err(|error| ask::unreachable(dir, &error)),
            (Self::Pods { cluster, namespace }, Agent::Pod(pod)) => {
                in_pod(cluster, namespace, pod, within).map_err(|why| format!("pod {pod}: {why}"))
            }
            (Self::Lab(_), Agent::Pod(pod)) => Err(format!("pod {pod}: a laboratory has no such pods")),
        }
    }

    /// The command that tells more about a node.
    pub fn more(&self, node: &str) -> String {
        match self {
            Self::Pods { namespace, .. } => format!(
                "kubectl -n {namespace} exec -c {CONTAINER} $(kubectl -n {namespace} get pod -l {PODS} \
                 --field-selector spec.nodeName={node} -o name) -- tortie status"
            ),
            Self::Lab(name) => format!("tortie lab exec --name {name} --node {node} -- tortie status"),
        }
    }
}

fn in_pod(cluster: &Cluster, namespace: &str, pod: &str, within: Duration) -> Result<Status, String> {
    let ran = cluster.execute(Command {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container: CONTAINER.to_owned(),
        words: ["tortie", "status", "-o", "json"].map(str::to_owned).to_vec(),
        within,
    });
    let ran = ran.map_err(|error| error.to_string())?;
    // With an exit code that is not 0 it has still said how it is, as a rule.
    serde_json::from_slice(&ran.stdout).map_err(|error| {
        let said = String::from_utf8_lossy(&ran.stderr);
        match said.trim() {
            "" => format!("its answer is not understood (exit code {}): {error}", ran.code),
            said => format!("{} (exit code {})", said.trim_start_matches("tortie: "), ran.code),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, extra: Value) -> Value {
        let mut pod =
            json!({"metadata": {"name": name}, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}});
        json_patch::merge(&mut pod, &extra);
        pod
    }

    #[test]
    fn of_two_pods_on_a_node_the_one_that_stays_is_asked() {
        let old = || pod("old", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        let new = || pod("new", json!({"status": {"phase": "Pending"}}));
        for pods in [vec![old(), new()], vec![new(), old()]] {
            assert_eq!(text(&pods_by_node(pods)["n1"], "/metadata/name"), "new");
        }
    }

    #[test]
    fn a_pod_that_does_not_run_says_why() {
        let with = |status: Value| agent(&pod("p", json!({"status": status})));
        let running = json!({"containerStatuses": [{"name": CONTAINER, "state": {"running": {}}}]});
        assert_eq!(with(running), Agent::Pod("p".into()));
        let crashing = json!({"containerStatuses": [{"name": CONTAINER, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
        let why = format!("pod p is Running: container {CONTAINER} is in CrashLoopBackOff");
        assert_eq!(with(crashing), Agent::Missing(why));
        let initial = json!({
            "phase": "Pending",
            "initContainerStatuses": [
                {"name": "prepare-node", "state": {"terminated": {"reason": "Completed"}}},
                {"name": "install-cni", "state": {"waiting": {"reason": "ErrImagePull"}}},
            ],
            "containerStatuses": [{"name": CONTAINER, "state": {"waiting": {"reason": "PodInitializing"}}}],
        });
        assert_eq!(
            with(initial),
            Agent::Missing("pod p is Pending: container install-cni is in ErrImagePull".into())
        );
        assert_eq!(with(json!({"phase": "Pending"})), Agent::Missing("pod p is Pending".into()));
    }

    #[test]
    fn nodes_of_other_systems_are_not_asked() {
        let labelled = |os: &str| json!({"metadata": {"labels": {"kubernetes.io/os": os}}});
        assert!(
            runs_linux(&labelled("linux")) && runs_linux(&json!({})) && !runs_linux(&labelled("windows"))
        );
    }
}
