//! Pods: where they go, what they serve, how they are.
//!
//! Owns: scheduling and the status a kubelet reports.
//! Does not: attach anything.
//! Invariant: a pod has an address in its status exactly while it is attached.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Result, bad};
use crate::object::{Key, Object};
use crate::plan::Plan;
use crate::proto::Protocol;
use crate::world::World;

/// Namespace and name.
pub type PodName = (String, String);

/// A pod that has its network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which pod of that name.
    pub uid: String,
    /// Its node.
    pub node: String,
    /// Name of its network namespace; the node's for a pod on the host network.
    pub netns: String,
    /// What the plugin was told.
    pub container_id: String,
    /// Its addresses; none while it is being attached.
    pub addresses: Vec<IpAddr>,
    /// Whether it shares the node's network.
    pub host_network: bool,
    /// How long the plugin took to attach it, from starting it to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_micros: Option<u64>,
}

/// Puts a pod on a node. `turn` counts the pods that had no preference.
pub fn schedule(pod: &mut Object, world: &World, plan: &Plan, turn: &mut u64) -> Result<()> {
    if let Some(name) = pod.text("/spec/nodeName") {
        return match plan.node(name) {
            Ok(_) => Ok(()),
            Err(error) => Err(bad!("{}: spec.nodeName: {error}", pod.key())),
        };
    }
    let fits = |name: &str| {
        let labels =
            world.get(&Key::core("Node", None, name)).and_then(|node| node.at("/metadata/labels").cloned());
        let wanted = pod.at("/spec/nodeSelector").and_then(Value::as_object);
        wanted.is_none_or(|wanted| {
            wanted
                .iter()
                .all(|(key, value)| labels.as_ref().and_then(|labels| labels.get(key)) == Some(value))
        })
    };
    let names: Vec<&str> =
        plan.nodes.iter().map(|node| node.name.as_str()).filter(|name| fits(name)).collect();
    let place = usize::try_from(*turn).unwrap_or_default().checked_rem(names.len());
    let Some(name) = place.and_then(|place| names.get(place)) else {
        return Err(bad!("{}: spec.nodeSelector: no node has these labels", pod.key()));
    };
    *turn += 1;
    let name = json!(name);
    pod.set(&["spec", "nodeName"], name);
    Ok(())
}

/// Writes the status of every pod.
pub fn report(world: &mut World, plan: &Plan, attached: &BTreeMap<PodName, Attachment>) {
    let pods: Vec<Object> = world.of_kind("Pod").cloned().collect();
    for mut pod in pods {
        let name = (pod.namespace().unwrap_or_default().to_owned(), pod.name().to_owned());
        let attachment = attached.get(&name).filter(|found| {
            pod.text("/metadata/uid") == Some(found.uid.as_str()) && !found.addresses.is_empty()
        });
        let status = status(&pod, plan, attachment);
        pod.set(&["status"], status);
        world.put(pod);
    }
}

/// Whether the user lets a pod be ready once it runs.
pub fn is_ready_by_annotation(pod: &Object) -> bool {
    pod.text("/metadata/annotations/tortie.dev~1ready") != Some("false")
}

/// The status of a pod, given what was attached for it.
pub fn status(pod: &Object, plan: &Plan, attachment: Option<&Attachment>) -> Value {
    let ready = attachment.is_some() && is_ready_by_annotation(pod);
    let condition =
        |kind: &str, yes: bool| json!({"type": kind, "status": if yes { "True" } else { "False" }});
    let mut status = json!({
        "phase": if attachment.is_some() { "Running" } else { "Pending" },
        "conditions": [
            condition("PodScheduled", true),
            condition("Initialized", true),
            condition("ContainersReady", ready),
            condition("Ready", ready),
        ],
    });
    let node = pod.text("/spec/nodeName").and_then(|name| plan.node(name).ok());
    let hosts: Vec<String> =
        node.iter().flat_map(|node| &node.addresses).map(|address| address.addr().to_string()).collect();
    let addresses: Vec<String> =
        attachment.iter().flat_map(|found| &found.addresses).map(ToString::to_string).collect();
    let listed = |all: &[String]| all.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>();
    let Value::Object(map) = &mut status else { return status };
    for (one, many, all) in [("hostIP", "hostIPs", &hosts), ("podIP", "podIPs", &addresses)] {
        if let Some(first) = all.first() {
            map.insert(one.into(), json!(first));
            map.insert(many.into(), json!(listed(all)));
        }
    }
    status
}

/// The ports that a pod's containers declare: name, protocol, number. Containers with `image: host` serve for
/// themselves and are left out when `served` is asked for.
pub fn container_ports(pod: &Object, served: bool) -> Vec<(Option<String>, Protocol, u16)> {
    let containers = pod.list("/spec/containers").iter();
    containers
        .filter(|container| !(served && is_host_program(container)))
        .flat_map(|container| container.get("ports").and_then(Value::as_array).into_iter().flatten())
        .filter_map(|port| {
            let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP").parse().ok()?;
            let number = u16::try_from(port.get("containerPort")?.as_u64()?).ok()?;
            Some((port.get("name").and_then(Value::as_str).map(str::to_owned), protocol, number))
        })
        .collect()
}

/// The command of a container with `image: host`.
pub fn runs_host_program(pod: &Object) -> Vec<(String, Vec<String>)> {
    let containers = pod.list("/spec/containers").iter().filter(|container| is_host_program(container));
    let words = |container: &Value, field: &str| -> Vec<String> {
        let list = container.get(field).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    containers
        .map(|container| {
            let name = container.get("name").and_then(Value::as_str).unwrap_or("main").to_owned();
            (name, [words(container, "command"), words(container, "args")].concat())
        })
        .filter(|(_, command)| !command.is_empty())
        .collect()
}

fn is_host_program(container: &Value) -> bool {
    container.get("image").and_then(Value::as_str) == Some("host")
}

/// Whether the pod shares its node's network.
pub fn is_host_network(pod: &Object) -> bool {
    pod.at("/spec/hostNetwork") == Some(&Value::Bool(true))
}

/// How long a pod goes on serving after its deletion: what the user set. Without that it ends at once, as a
/// program does that heeds SIGTERM.
pub fn grace_seconds(pod: &Object) -> u64 {
    pod.at("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Dataplane, Families};

    fn pod(spec: Value) -> Object {
        Object::make(
            "v1",
            "Pod",
            Some("default"),
            "a",
            json!({"metadata": {"name": "a", "namespace": "default", "uid": "u"}, "spec": spec}),
        )
    }

    fn plan() -> Plan {
        Plan::new(Families::Dual, 1500, &[Dataplane::Bpf; 3]).unwrap()
    }

    #[test]
    fn pods_without_a_preference_go_round_robin_and_others_where_they_say() {
        let mut turn = 0;
        let mut placed = |spec: Value| {
            let mut pod = pod(spec);
            schedule(&mut pod, &World::default(), &plan(), &mut turn)
                .map(|()| pod.text("/spec/nodeName").unwrap().to_owned())
        };
        let names: Vec<String> = (0..4).map(|_| placed(json!({})).unwrap()).collect();
        assert_eq!(names, ["node1", "node2", "node3", "node1"]);
        assert_eq!(placed(json!({"nodeName": "node3"})).unwrap(), "node3");
        assert!(placed(json!({"nodeName": "node9"})).unwrap_err().to_string().contains("spec.nodeName"));
        assert!(
            placed(json!({"nodeSelector": {"disk": "ssd"}}))
                .unwrap_err()
                .to_string()
                .contains("nodeSelector")
        );
    }

    #[test]
    fn a_pod_is_ready_when_attached_unless_its_annotation_says_no() {
        let mut pod = pod(json!({"nodeName": "node2"}));
        let attachment = Attachment {
            namespace: "default".into(),
            name: "a".into(),
            uid: "u".into(),
            node: "node2".into(),
            netns: "n".into(),
            container_id: "c".into(),
            addresses: vec!["10.244.2.2".parse().unwrap()],
            host_network: false,
            add_micros: None,
        };
        let ready = |pod: &Object, attached: &[Attachment]| {
            let mut world = World::default();
            world.put(pod.clone());
            let attached =
                attached.iter().map(|a| ((a.namespace.clone(), a.name.clone()), a.clone())).collect();
            report(&mut world, &plan(), &attached);
            let pod = world.get(&pod.key()).unwrap();
            (
                pod.text("/status/conditions/3/status").unwrap().to_owned(),
                pod.text("/status/podIP").map(str::to_owned),
            )
        };
        assert_eq!(ready(&pod, &[]), ("False".into(), None));
        assert_eq!(
            ready(&pod, std::slice::from_ref(&attachment)),
            ("True".into(), Some("10.244.2.2".into()))
        );
        let other = Attachment { uid: "earlier".into(), ..attachment.clone() };
        assert_eq!(ready(&pod, &[other]).1, None);
        pod.set(&["metadata", "annotations", "tortie.dev/ready"], json!("false"));
        assert_eq!(ready(&pod, &[attachment]).0, "False");
    }

    #[test]
    fn ports_of_all_containers_are_served_but_not_those_of_host_programs() {
        let pod = pod(json!({"containers": [
            {"name": "a", "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 53, "protocol": "UDP"}]},
            {"name": "b", "image": "host", "command": ["sleep"], "args": ["1"], "ports": [{"containerPort": 9}]},
        ]}));
        let served = container_ports(&pod, true);
        assert_eq!(served, [(Some("http".into()), Protocol::Tcp, 80), (None, Protocol::Udp, 53)]);
        assert_eq!(container_ports(&pod, false).len(), 3);
        assert_eq!(runs_host_program(&pod), [("b".to_owned(), vec!["sleep".to_owned(), "1".to_owned()])]);
    }
}
