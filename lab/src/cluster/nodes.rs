//! The objects of the cluster itself: Nodes, Namespaces, address pools and ranges.
//!
//! Owns: what the laboratory knows about its nodes, over what users add (labels, annotations).
//! Does not: remove a user's object.
//! Invariant: a Node's addresses and pod CIDRs are always the laboratory's.

use std::collections::BTreeSet;

use serde_json::json;

use crate::object::{Key, Object};
use crate::plan::{Family, Node, Plan};
use crate::world::World;

/// Brings them up to date.
pub fn reconcile(world: &mut World, plan: &Plan) {
    for node in &plan.nodes {
        let object = world.get(&Key::core("Node", None, &node.name)).cloned();
        world.put(describe(
            object.unwrap_or_else(|| Object::make("v1", "Node", None, &node.name, json!({}))),
            node,
        ));
    }
    namespaces(world);
    default_pools(plan)
        .into_iter()
        .chain([felix(), service_cidr(plan)])
        .for_each(|object| default_object(world, object));
}

/// The pools that the pods' addresses are from.
pub fn default_pools(plan: &Plan) -> Vec<Object> {
    let pool = |cidr: &ipnet::IpNet| {
        let family = if Family::of(&cidr.addr()) == Family::Ipv4 { "ipv4" } else { "ipv6" };
        let spec = json!({"cidr": cidr.to_string(), "natOutgoing": false, "ipipMode": "Never", "vxlanMode": "Never",
            "nodeSelector": "all()"});
        let name = format!("default-{family}-ippool");
        Object::make("projectcalico.org/v3", "IPPool", None, &name, json!({"spec": spec}))
    };
    plan.pod_cidrs.iter().map(pool).collect()
}

/// The settings of a laboratory: its nodes answer their pods.
pub fn felix() -> Object {
    let spec = json!({"spec": {"defaultEndpointToHostAction": "Accept"}});
    Object::make("projectcalico.org/v3", "FelixConfiguration", None, "default", spec)
}

/// Where ClusterIPs come from, as an API server says it.
fn service_cidr(plan: &Plan) -> Object {
    let cidrs: Vec<String> = plan.service_cidrs.iter().map(ToString::to_string).collect();
    let spec = json!({"spec": {"cidrs": cidrs}});
    Object::make("networking.k8s.io/v1", "ServiceCIDR", None, "kubernetes", spec)
}

/// Only where the user has none of that name.
fn default_object(world: &mut World, object: Object) {
    if world.get(&object.key()).is_none() {
        world.put(object);
    }
}

/// A Node as the laboratory's plan has it, over what users have added.
pub fn describe(mut object: Object, node: &Node) -> Object {
    object.set(&["metadata", "labels", "kubernetes.io/hostname"], json!(node.name));
    object.set(&["metadata", "labels", "kubernetes.io/os"], json!("linux"));
    let cidrs: Vec<String> = node.pod_cidrs.iter().map(ToString::to_string).collect();
    object.set(&["spec", "podCIDR"], json!(cidrs.first()));
    object.set(&["spec", "podCIDRs"], json!(cidrs));
    let mut addresses: Vec<_> = node
        .addresses
        .iter()
        .map(|address| json!({"type": "InternalIP", "address": address.addr().to_string()}))
        .collect();
    addresses.push(json!({"type": "Hostname", "address": node.name}));
    object.set(&["status", "addresses"], json!(addresses));
    object.set(&["status", "conditions"], json!([{"type": "Ready", "status": "True"}]));
    object
}

/// Every namespace that something lives in exists, and every Namespace carries the label with its name.
fn namespaces(world: &mut World) {
    let mut names: BTreeSet<String> = world.namespaces().collect();
    names.extend(["default".to_owned(), "kube-system".to_owned()]);
    for name in names {
        let key = Key::core("Namespace", None, &name);
        let mut object = world
            .get(&key)
            .cloned()
            .unwrap_or_else(|| Object::make("v1", "Namespace", None, &name, json!({})));
        object.set(&["metadata", "labels", "kubernetes.io/metadata.name"], json!(name));
        world.put(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Dataplane, Families};

    #[test]
    fn a_users_labels_stay_on_a_node_and_its_addresses_are_ours() {
        let plan = Plan::new(Families::Dual, 1500, &[Dataplane::Bpf]).unwrap();
        let mut world = World::default();
        world.put(Object::make(
            "v1",
            "Node",
            None,
            "node1",
            json!({"metadata": {"name": "node1", "labels": {"topology.kubernetes.io/zone": "a"}}, "spec": {"podCIDR": "1.2.3.0/24"}}),
        ));
        reconcile(&mut world, &plan);
        let node = world.get(&Key::core("Node", None, "node1")).unwrap();
        assert_eq!(node.at("/metadata/labels/topology.kubernetes.io~1zone"), Some(&json!("a")));
        assert_eq!(node.texts("/spec/podCIDRs"), ["10.244.1.0/24", "fd00:244:1::/64"]);
    }

    #[test]
    fn a_namespace_that_nobody_declared_exists_once_something_lives_in_it() {
        let plan = Plan::new(Families::Dual, 1500, &[Dataplane::Bpf]).unwrap();
        let mut world = World::default();
        world.put(Object::make("v1", "Pod", Some("shop"), "a", json!({})));
        reconcile(&mut world, &plan);
        assert!(world.get(&Key::core("Namespace", None, "shop")).is_some());
    }
}
