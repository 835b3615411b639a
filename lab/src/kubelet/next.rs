//! What is next for a pod.
//!
//! Owns: the decision, from the pod as the API server has it and what is attached for it.
//! Does not: act.
//! Invariant: pure; the same situation gives the same job, and no job when everything is as it should be.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{self, Attachment};
use crate::object::Object;
use crate::plan::Plan;

/// Something to do for a pod.
#[derive(Debug, Clone)]
pub enum Job {
    /// Tell the API server which node it goes to.
    Bind(Object),
    /// Give it its network.
    Attach(Object),
    /// Tell the API server how it is.
    Report(Object, Option<Attachment>),
    /// Take its network away: there is no such pod any more.
    Detach(Attachment),
    /// Take its network away and let it go: its time to end is over.
    Finish(Object, Option<Attachment>),
}

impl Job {
    /// For the log.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Bind(_) => "binding",
            Self::Attach(_) => "attaching",
            Self::Report(..) => "reporting",
            Self::Detach(_) => "detaching",
            Self::Finish(..) => "ending",
        }
    }
}

/// The grace that the API server gives to pods whose users said nothing.
const DEFAULT_GRACE: u64 = 30;

/// How long a pod that is asked to end goes on serving: as its user or its deletion says. One of which nobody
/// said anything ends at once, as a program does that heeds SIGTERM.
pub fn lingers(pod: &Object) -> Duration {
    let seconds = pod.at("/metadata/deletionGracePeriodSeconds").and_then(Value::as_u64).unwrap_or(0);
    Duration::from_secs(if seconds == DEFAULT_GRACE { 0 } else { seconds })
}

/// What is next; `leaving` is until when a pod serves that has been asked to go.
pub fn next(
    pod: Option<&Object>,
    attached: Option<&Attachment>,
    leaving: Option<Instant>,
    now: Instant,
    plan: &Plan,
) -> Option<Job> {
    let Some(pod) = pod else { return attached.cloned().map(Job::Detach) };
    if let Some(attached) = attached
        && (Some(attached.uid.as_str()) != pod.text("/metadata/uid") || attached.addresses.is_empty())
    {
        // Of an earlier pod with this name, or half attached when a kubelet was killed.
        return Some(Job::Detach(attached.clone()));
    }
    let Some(node) = pod.text("/spec/nodeName") else {
        let ours = pod.text("/spec/schedulerName").is_none_or(|name| name == "default-scheduler");
        let gates = !pod.list("/spec/schedulingGates").is_empty();
        return (ours && !gates && leaving.is_none()).then(|| Job::Bind(pod.clone()));
    };
    // Pods of nodes that are not here are somebody else's, or measurements'.
    plan.node(node).ok()?;
    if let Some(until) = leaving {
        return (until <= now).then(|| Job::Finish(pod.clone(), attached.cloned()));
    }
    let Some(attached) = attached else { return Some(Job::Attach(pod.clone())) };
    let due = cluster::status(pod, plan, Some(attached));
    (!says(pod, &due)).then(|| Job::Report(pod.clone(), Some(attached.clone())))
}

/// Whether a pod's status already says all of this.
fn says(pod: &Object, due: &Value) -> bool {
    let fields = due.as_object().into_iter().flatten();
    fields.into_iter().all(|(field, wanted)| match (field.as_str(), wanted) {
        ("conditions", Value::Array(conditions)) => conditions.iter().all(|condition| {
            let there = pod.list("/status/conditions").iter();
            let same = |name: &str, other: &Value| condition.get(name) == other.get(name);
            there.into_iter().any(|other| same("type", other) && same("status", other))
        }),
        _ => pod.at(&format!("/status/{field}")) == Some(wanted),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::{Dataplane, Families};

    fn pod(more: Value) -> Object {
        let mut pod = Object::make("v1", "Pod", Some("default"), "a", json!({"spec": {"nodeName": "node1"}}));
        pod.set(&["metadata", "uid"], json!("u"));
        for (path, value) in more.as_object().unwrap() {
            pod.set(&path.split('/').collect::<Vec<_>>(), value.clone());
        }
        pod
    }

    fn attachment(uid: &str, addresses: &[&str]) -> Attachment {
        Attachment {
            namespace: "default".into(),
            name: "a".into(),
            uid: uid.into(),
            node: "node1".into(),
            netns: "n".into(),
            container_id: "c".into(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            host_network: false,
            add_micros: None,
        }
    }

    fn verb(
        pod: Option<&Object>,
        attached: Option<&Attachment>,
        leaving: Option<Instant>,
    ) -> Option<&'static str> {
        let plan = Plan::new(Families::Dual, 1500, &[Dataplane::Bpf]).unwrap();
        next(pod, attached, leaving, Instant::now(), &plan).map(|job| job.verb())
    }

    #[test]
    fn a_pod_is_bound_attached_and_reported_once() {
        let there = attachment("u", &["10.244.1.2"]);
        assert_eq!(verb(Some(&pod(json!({"spec/nodeName": null}))), None, None), Some("binding"));
        assert_eq!(verb(Some(&pod(json!({}))), None, None), Some("attaching"));
        assert_eq!(verb(Some(&pod(json!({}))), Some(&there), None), Some("reporting"));
        let plan = Plan::new(Families::Dual, 1500, &[Dataplane::Bpf]).unwrap();
        let mut reported = pod(json!({}));
        let status = cluster::status(&reported, &plan, Some(&there));
        reported.set(&["status"], status);
        assert_eq!(verb(Some(&reported), Some(&there), None), None);
        reported.set(&["metadata", "annotations", "tortie.dev/ready"], json!("false"));
        assert_eq!(verb(Some(&reported), Some(&there), None), Some("reporting"));
    }

    #[test]
    fn what_is_attached_for_another_pod_or_half_attached_goes_first() {
        for other in [attachment("earlier", &["10.244.1.2"]), attachment("u", &[])] {
            assert_eq!(verb(Some(&pod(json!({}))), Some(&other), None), Some("detaching"));
        }
        assert_eq!(verb(None, Some(&attachment("u", &["10.244.1.2"])), None), Some("detaching"));
        assert_eq!(verb(None, None, None), None);
    }

    #[test]
    fn a_pod_serves_until_its_grace_is_over_and_then_ends() {
        let there = attachment("u", &["10.244.1.2"]);
        let soon = Instant::now() + Duration::from_secs(60);
        assert_eq!(verb(Some(&pod(json!({}))), Some(&there), Some(soon)), None);
        let over = Instant::now();
        assert_eq!(verb(Some(&pod(json!({}))), Some(&there), Some(over)), Some("ending"));
        assert_eq!(verb(Some(&pod(json!({}))), None, Some(over)), Some("ending"));
    }

    #[test]
    fn a_pod_lingers_as_somebody_said_and_else_not_at_all() {
        let seconds =
            |seconds: u64| lingers(&pod(json!({"metadata/deletionGracePeriodSeconds": seconds}))).as_secs();
        assert_eq!([seconds(30), seconds(0), seconds(3), seconds(60)], [0, 0, 3, 60]);
    }

    #[test]
    fn pods_of_other_nodes_and_schedulers_are_left_alone() {
        assert_eq!(verb(Some(&pod(json!({"spec/nodeName": "elsewhere"}))), None, None), None);
        let other = pod(json!({"spec/nodeName": null, "spec/schedulerName": "mine"}));
        assert_eq!(verb(Some(&other), None, None), None);
    }
}
