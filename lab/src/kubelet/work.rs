//! What is done for pods, on threads of their own.
//!
//! Owns: binding, attaching, statuses, and letting pods go.
//! Does not: decide.
//! Invariant: a pod is let go only after its network is gone.

use serde_json::{Value, json};
use tortie_store::kube::{ClusterError, Method, Patch};

use super::next::Job;
use crate::api::{explain, known};
use crate::cluster::{self, Attachment, rfc3339};
use crate::error::Result;
use crate::lab::Lab;
use crate::object::Object;

/// What came of a job.
#[derive(Debug)]
pub enum Outcome {
    /// The pod has its network.
    Attached(Box<Attachment>),
    /// The pod's network, or the pod itself, is gone.
    Gone,
    /// The API server knows; it will say what follows from that.
    Said,
}

const JSON: &str = "application/json";

/// Does it.
pub fn run(lab: &Lab, job: &Job) -> Result<Outcome> {
    match job {
        Job::Bind(pod) => bind(lab, pod),
        Job::Attach(pod) => match lab.attach(pod) {
            Ok(attachment) => Ok(Outcome::Attached(Box::new(attachment))),
            Err(error) => {
                // Whoever waits for the pod learns why; that the network failed is what counts here.
                if let Err(other) = report_trouble(lab, pod, &error.to_string()) {
                    tracing::warn!("{}: {other}", pod.key());
                }
                Err(error)
            }
        },
        Job::Report(pod, attachment) => report(lab, pod, attachment.as_ref()),
        Job::Detach(attachment) => lab.detach(attachment).map(|()| Outcome::Gone),
        Job::Finish(pod, attachment) => {
            if let Some(attachment) = attachment {
                lab.detach(attachment)?;
            }
            finish(lab, pod)
        }
    }
}

fn path(pod: &Object, part: &str) -> String {
    format!("/api/v1/namespaces/{}/pods/{}{part}", pod.namespace().unwrap_or_default(), pod.name())
}

fn bind(lab: &Lab, pod: &Object) -> Result<Outcome> {
    let body = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod.name(), "namespace": pod.namespace(), "uid": pod.text("/metadata/uid")},
        "target": {"apiVersion": "v1", "kind": "Node", "name": pod.text("/spec/nodeName")},
    });
    let answer = lab.cluster()?.raw(&Method::POST, &path(pod, "/binding"), Some((JSON, &body)));
    said(answer.map(drop))
}

/// A pod that went meanwhile, or was bound by an earlier kubelet, is heard of.
fn said(result: std::result::Result<(), ClusterError>) -> Result<Outcome> {
    match result {
        Ok(()) => Ok(Outcome::Said),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(Outcome::Said),
        Err(error) => Err(explain(error)),
    }
}

fn report(lab: &Lab, pod: &Object, attachment: Option<&Attachment>) -> Result<Outcome> {
    let mut status = cluster::status(pod, &lab.state.plan, attachment);
    let now = rfc3339(std::time::SystemTime::now());
    let ready = cluster::is_ready_by_annotation(pod);
    if let Some(Value::Array(conditions)) = status.get_mut("conditions") {
        for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
            condition.insert("lastTransitionTime".into(), json!(now));
        }
    }
    if let Some(map) = status.as_object_mut() {
        let started = pod.text("/status/startTime").unwrap_or(&now).to_owned();
        let container = |container: &Value| {
            json!({
                "name": container.get("name"), "image": container.get("image"), "imageID": "",
                "ready": ready, "started": true, "restartCount": 0, "state": {"running": {"startedAt": started}},
            })
        };
        let containers: Vec<Value> = pod.list("/spec/containers").iter().map(container).collect();
        map.insert("startTime".into(), json!(started));
        map.insert("containerStatuses".into(), json!(containers));
    }
    patch_status(lab, pod, status)
}

fn report_trouble(lab: &Lab, pod: &Object, message: &str) -> Result<Outcome> {
    let condition =
        json!({"type": "Ready", "status": "False", "reason": "NetworkFailed", "message": message});
    patch_status(lab, pod, json!({"phase": "Pending", "conditions": [condition]}))
}

fn patch_status(lab: &Lab, pod: &Object, mut status: Value) -> Result<Outcome> {
    for list in ["podIPs", "hostIPs"] {
        // Else addresses of an earlier sandbox would stay beside those of this one.
        if let Some(addresses) = status.get_mut(list).and_then(Value::as_array_mut) {
            addresses.push(json!({"$patch": "replace"}));
        }
    }
    // The uid makes it a conflict, and no lie, when there is another pod of this name by now.
    let patch = json!({"metadata": {"uid": pod.text("/metadata/uid")}, "status": status});
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name());
    let patch = Patch::Strategic(patch);
    let answer = lab.cluster()?.patch(known("", "Pod")?, namespace, name, Some("status"), &patch);
    said(answer.map(drop))
}

fn finish(lab: &Lab, pod: &Object) -> Result<Outcome> {
    let body = json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": pod.text("/metadata/uid")},
    });
    let answer = lab.cluster()?.raw(&Method::DELETE, &path(pod, ""), Some((JSON, &body)));
    said(answer.map(drop)).map(|_| Outcome::Gone)
}
