//! `bench kube`: what an API server, a cluster of some size, and the loss of it cost.
//!
//! Owns: the laboratory they are measured in, and which figures there are.
//! Does not: print.
//! Invariant: the laboratory is gone at the end, also after a failure and after Ctrl-C.

mod changes;
pub(super) mod fill;
mod outage;
mod size;

use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};
use tortie_lab::{Dataplane, Object, StoreKind, UpOptions};

use super::Item;
use super::laboratory::Own;
use crate::exit::Failure;

/// The figures, in the order of measuring.
const NAMES: [&str; 7] = [
    "endpointslice-map",
    "pod-first-packet",
    "api-down-lost-connections",
    "api-down-cni-failures",
    "start-in-force",
    "agent-rss",
    "watch-at-rest",
];

const NAMESPACE: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(60);

/// Flags of `bench kube`.
#[derive(Debug, Args)]
pub struct Kube {
    /// Only these figures: names as they are printed, or beginnings of them.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// How often an EndpointSlice is changed.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    changes: u32,
    /// How many pods are made, one after the other.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=600))]
    pods: u32,
    /// How long the API server is away.
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    outage: u64,
    /// How many Services, of five endpoints each, the agent starts with.
    #[arg(long, default_value_t = 5000, value_name = "N")]
    services: u32,
    /// How many pods of other nodes.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    other_pods: u32,
    /// How many NetworkPolicies.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    policies: u32,
}

impl Kube {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| name.starts_with(wanted.as_str()))
    }

    /// Measures what is asked for.
    pub(super) fn items(&self) -> Result<Vec<Item>, Failure> {
        if !NAMES.iter().any(|name| self.wants(name)) {
            return Err(Failure::bad_input(anyhow!(
                "--only {}: there is no such figure; there are {}",
                self.only.join(","),
                NAMES.join(", ")
            )));
        }
        let options = UpOptions {
            dataplanes: vec![Dataplane::Bpf; 3],
            store: StoreKind::Kube,
            patience: PATIENCE,
            ..UpOptions::default()
        };
        let mut bench = Bench { lab: Own::up("bench-kube", "three nodes with a control plane", &options)? };
        bench.measure(self)
    }
}

struct Bench {
    lab: Own,
}

impl Bench {
    fn measure(&mut self, kube: &Kube) -> Result<Vec<Item>, Failure> {
        let mut items = Vec::new();
        self.apply(vec![
            Object::make("v1", "Namespace", None, NAMESPACE, Value::Null),
            pod("client", Some("node1")),
            pod("server", Some("node2")),
            service("server", true),
        ])?;
        if kube.wants("endpointslice-map") {
            super::progress("changing an EndpointSlice");
            items.push(self.endpointslice_map(kube.changes)?);
        }
        if kube.wants("pod-first-packet") {
            super::progress("making pods");
            items.push(self.pod_first_packet(kube.pods)?);
        }
        if kube.wants("api-down-lost-connections") || kube.wants("api-down-cni-failures") {
            super::progress("working without an API server");
            items.extend(self.outage(Duration::from_secs(kube.outage))?);
        }
        if ["start-in-force", "agent-rss", "watch-at-rest"].iter().any(|name| kube.wants(name)) {
            super::progress("filling the API server");
            items.extend(self.of_size(kube)?);
        }
        items.retain(|item| kube.wants(item.name));
        Ok(items)
    }

    fn apply(&mut self, objects: Vec<Object>) -> Result<(), Failure> {
        self.lab.put(objects, PATIENCE)
    }
}

/// A pod that serves port 80; without a node, one is chosen.
fn pod(name: &str, node: Option<&str>) -> Object {
    let container = json!({"name": "main", "image": "any", "ports": [{"containerPort": 80}]});
    let mut rest = json!({"spec": {"containers": [container]}});
    if let (Some(node), Some(spec)) = (node, rest.pointer_mut("/spec").and_then(Value::as_object_mut)) {
        spec.insert("nodeName".into(), json!(node));
    }
    let mut pod = Object::make("v1", "Pod", Some(NAMESPACE), name, rest);
    pod.set(&["metadata", "labels"], json!({"name": name}));
    pod
}

/// A Service on port 80, of the pod with its name or of nobody.
fn service(name: &str, selects: bool) -> Object {
    let mut spec = json!({"ports": [{"port": 80}]});
    if let (true, Some(map)) = (selects, spec.as_object_mut()) {
        map.insert("selector".into(), json!({"name": name}));
    }
    Object::make("v1", "Service", Some(NAMESPACE), name, json!({"spec": spec}))
}

/// An EndpointSlice of a Service, with these addresses.
fn slice(service: &str, addresses: &[String]) -> Object {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"addresses": [address], "conditions": {"ready": true}}))
        .collect();
    let rest = json!({"addressType": "IPv4", "ports": [{"port": 80, "name": "", "protocol": "TCP"}],
        "endpoints": endpoints});
    let name = format!("{service}-made");
    let mut slice = Object::make("discovery.k8s.io/v1", "EndpointSlice", Some(NAMESPACE), &name, rest);
    slice.set(&["metadata", "labels", "kubernetes.io/service-name"], json!(service));
    slice
}
