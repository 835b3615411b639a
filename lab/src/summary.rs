//! What there is in a laboratory.
//!
//! Owns: the fields of `lab list` and `lab status`.
//! Does not: format them.
//! Invariant: names, not numbers.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::cluster::container_ports;
use crate::error::Result;
use crate::lab::Lab;
use crate::names::LabName;
use crate::object::Object;
use crate::plan::Dataplane;
use crate::state::{self, Paths, State};

/// A laboratory.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// Whether building it was completed.
    pub complete: bool,
    /// Its nodes.
    pub nodes: Vec<NodeSummary>,
    /// The machines outside.
    pub clients: Vec<ClientSummary>,
    /// Its pods.
    pub pods: Vec<PodSummary>,
    /// Its Services.
    pub services: Vec<ServiceSummary>,
    /// What `lab route` has set.
    pub routes: BTreeMap<String, String>,
    /// Where its objects are, as `--store` takes it.
    pub store: String,
}

/// A node.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSummary {
    /// Its name.
    pub name: String,
    /// `bpf` or `plain`.
    pub dataplane: String,
    /// Its agent; absent on a plain node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentSummary>,
    /// Its addresses on the underlay.
    pub addresses: Vec<String>,
    /// Where its pods' addresses come from.
    pub pod_cidrs: Vec<String>,
    /// Its network namespace, for `ip netns exec`.
    pub netns: String,
    /// Its run directory.
    pub run_dir: String,
    /// Its BPF file system.
    pub bpffs: String,
    /// Its cgroup.
    pub cgroup: String,
}

/// An agent.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentSummary {
    /// Whether it runs.
    pub alive: bool,
    /// Its process id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
}

/// A machine outside.
#[derive(Debug, Clone, Serialize)]
pub struct ClientSummary {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its network namespace, for `ip netns exec`.
    pub netns: String,
}

/// A pod.
#[derive(Debug, Clone, Serialize)]
pub struct PodSummary {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// `80/tcp`.
    pub ports: Vec<String>,
    /// Its network namespace, for `ip netns exec`.
    pub netns: String,
}

/// A Service.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceSummary {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its ClusterIPs.
    pub addresses: Vec<String>,
    /// `80/TCP`.
    pub ports: Vec<String>,
}

/// Every laboratory on this machine, interrupted ones included.
pub fn summaries() -> Result<Vec<Summary>> {
    let mut found = Vec::new();
    for name in state::names()? {
        let Ok(name) = name.parse::<LabName>() else { continue };
        let summary = match Lab::open(&name) {
            Ok(lab) => lab.summary()?,
            Err(_) => interrupted(&name),
        };
        found.push(summary);
    }
    Ok(found)
}

fn interrupted(name: &LabName) -> Summary {
    Summary {
        name: name.to_string(),
        complete: false,
        nodes: Vec::new(),
        clients: Vec::new(),
        pods: Vec::new(),
        services: Vec::new(),
        routes: BTreeMap::new(),
        store: Paths::of(name).store().display().to_string(),
    }
}

impl Lab {
    /// What there is.
    pub fn summary(&self) -> Result<Summary> {
        let State { plan, routes, .. } = &self.state;
        let world = self.world()?;
        let attached = self.attachments()?;
        let netns_of = |pod: &Object| {
            let name = (pod.namespace().unwrap_or_default().to_owned(), pod.name().to_owned());
            attached.get(&name).map(|found| found.netns.clone()).unwrap_or_default()
        };
        Ok(Summary {
            name: self.name.to_string(),
            complete: self.state.complete,
            nodes: plan.nodes.iter().map(|node| self.node_summary(node)).collect(),
            clients: plan
                .clients
                .iter()
                .map(|client| ClientSummary {
                    name: client.name.clone(),
                    addresses: client.addresses.iter().map(|net| net.addr().to_string()).collect(),
                    netns: self.name.machine(&client.name),
                })
                .collect(),
            pods: world.of_kind("Pod").map(|pod| pod_summary(pod, netns_of(pod))).collect(),
            services: world.of_kind("Service").map(service_summary).collect(),
            routes: routes.iter().map(|(prefix, node)| (prefix.to_string(), node.clone())).collect(),
            store: self.store_address().to_string_lossy().into_owned(),
        })
    }

    fn node_summary(&self, node: &crate::plan::Node) -> NodeSummary {
        let name = &node.name;
        let agent = (node.dataplane == Dataplane::Bpf).then(|| {
            let pid = self.agent_pid(name);
            AgentSummary { alive: pid.is_some(), pid }
        });
        NodeSummary {
            name: name.clone(),
            dataplane: if agent.is_some() { "bpf" } else { "plain" }.to_owned(),
            agent,
            addresses: node.addresses.iter().map(|net| net.addr().to_string()).collect(),
            pod_cidrs: node.pod_cidrs.iter().map(ToString::to_string).collect(),
            netns: self.name.machine(name),
            run_dir: self.paths.run_dir(name).display().to_string(),
            bpffs: self.paths.node_bpffs(name).display().to_string(),
            cgroup: self.cgroup(name).display().to_string(),
        }
    }
}

fn pod_summary(pod: &Object, netns: String) -> PodSummary {
    let conditions = pod.list("/status/conditions").iter();
    let is = |condition: &Value, field: &str, text: &str| {
        condition.get(field).and_then(Value::as_str) == Some(text)
    };
    let ips = pod.list("/status/podIPs").iter();
    PodSummary {
        namespace: pod.namespace().unwrap_or_default().to_owned(),
        name: pod.name().to_owned(),
        node: pod.text("/spec/nodeName").unwrap_or_default().to_owned(),
        ready: conditions.into_iter().any(|found| is(found, "type", "Ready") && is(found, "status", "True")),
        addresses: ips.filter_map(|ip| ip.get("ip")?.as_str().map(str::to_owned)).collect(),
        ports: container_ports(pod, false)
            .into_iter()
            .map(|(_, protocol, port)| format!("{port}/{}", protocol.as_str()))
            .collect(),
        netns,
    }
}

fn service_summary(service: &Object) -> ServiceSummary {
    let port = |port: &Value| {
        let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
        let node_port = port.get("nodePort").map(|number| format!(":{number}")).unwrap_or_default();
        Some(format!("{}{node_port}/{protocol}", port.get("port")?))
    };
    ServiceSummary {
        namespace: service.namespace().unwrap_or_default().to_owned(),
        name: service.name().to_owned(),
        kind: service.text("/spec/type").unwrap_or("ClusterIP").to_owned(),
        addresses: service.texts("/spec/clusterIPs").into_iter().map(str::to_owned).collect(),
        ports: service.list("/spec/ports").iter().filter_map(port).collect(),
    }
}
