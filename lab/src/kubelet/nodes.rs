//! The Nodes of the cluster, and their sign of life.
//!
//! Owns: registering every node, its addresses and conditions, renewing its Lease, and saying that it is ready again.
//! Does not: take labels away that users gave a Node.
//! Invariant: a Node counts as ready for as long as its Lease is renewed, as with a real kubelet.

use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tortie_store::kube::Patch;

use crate::api::{explain, known, object, resource};
use crate::cluster::{self, rfc3339};
use crate::error::Result;
use crate::lab::Lab;
use crate::object::Object;

/// As a real kubelet.
const RENEW: Duration = Duration::from_secs(10);

/// Renews all Leases, for as long as the process lives.
pub fn keep(lab: &Lab) -> anyhow::Result<()> {
    let lab = lab.clone();
    thread::Builder::new().name("leases".into()).spawn(move || {
        loop {
            for node in &lab.state.plan.nodes {
                if let Err(error) = renew(&lab, &node.name) {
                    tracing::warn!("the Lease of {}: {error}", node.name);
                }
                if let Err(error) = recover(&lab, &node.name) {
                    tracing::warn!("the conditions of {}: {error}", node.name);
                }
            }
            thread::sleep(RENEW);
        }
    })?;
    Ok(())
}

fn renew(lab: &Lab, node: &str) -> Result<()> {
    // Times of Leases have microseconds.
    let now = rfc3339(SystemTime::now()).replace('Z', ".000000Z");
    let spec = json!({"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": now});
    let lease =
        Object::make("coordination.k8s.io/v1", "Lease", Some("kube-node-lease"), node, json!({"spec": spec}));
    lab.cluster()?.apply(&resource(&lease)?, None, true).map(drop).map_err(explain)
}

/// Of a node whose sign of life came late, as after a long outage, the controllers say that it is not ready, and then so of
/// its pods; that it is, only its kubelet can say.
fn recover(lab: &Lab, node: &str) -> Result<()> {
    let kind = known("", "Node")?;
    let node = object(lab.cluster()?.get(kind, "", node).map_err(explain)?)?;
    let is_ready = |condition: &Value| {
        condition.get("type") == Some(&json!("Ready")) && condition.get("status") == Some(&json!("True"))
    };
    if node.list("/status/conditions").iter().any(is_ready) {
        return Ok(());
    }
    let patch = Patch::Strategic(json!({"status": {"conditions": conditions()}}));
    lab.cluster()?.patch(kind, "", node.name(), Some("status"), &patch).map(drop).map_err(explain)
}

impl Lab {
    /// Tells the API server of every node.
    pub(crate) fn register_nodes(&self) -> Result<()> {
        for node in &self.state.plan.nodes {
            let described = cluster::describe(Object::make("v1", "Node", None, &node.name, json!({})), node);
            let mut status = described.at("/status").cloned().unwrap_or_default();
            if let Some(map) = status.as_object_mut() {
                let size = json!({"cpu": "4", "memory": "8Gi", "pods": "250"});
                map.insert("capacity".into(), size.clone());
                map.insert("allocatable".into(), size);
                map.insert("conditions".into(), conditions());
                map.insert("nodeInfo".into(), info(&node.name));
            }
            let mut node = described;
            node.set(&["status"], Value::Null);
            self.cluster()?.apply(&resource(&node)?, None, true).map_err(explain)?;
            let patch = Patch::Strategic(json!({"status": status}));
            let answer = self.cluster()?.patch(known("", "Node")?, "", node.name(), Some("status"), &patch);
            answer.map_err(explain)?;
        }
        Ok(())
    }
}

/// What a kubelet says of its machine. The API server fills what is left out with nothing at all, which would say that
/// the node has no operating system.
fn info(node: &str) -> Value {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let lab = concat!("tortie-lab://", env!("CARGO_PKG_VERSION"));
    json!({
        "architecture": architecture,
        "operatingSystem": "linux",
        "kernelVersion": kernel.trim(),
        "osImage": "tortie lab",
        "containerRuntimeVersion": lab,
        "kubeletVersion": concat!("v", env!("CARGO_PKG_VERSION"), "-tortie-lab"),
        "kubeProxyVersion": "",
        "machineID": node,
        "systemUUID": node,
        "bootID": node,
    })
}

fn conditions() -> Value {
    let now = rfc3339(SystemTime::now());
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": "",
            "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    json!([
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID"),
        condition("Ready", "True", "KubeletReady"),
    ])
}
