//! EndpointSlices, as the controller of Kubernetes keeps them.
//!
//! Owns: which pods are behind a Service, on which ports, in which condition.
//! Does not: touch slices that users wrote.
//! Invariant: one slice for each family and set of ports, split at 100 endpoints.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{MANAGED_BY, MANAGER};
use crate::object::{Key, Object};
use crate::world::World;

const MOST_ENDPOINTS: usize = 100;
const MANAGED_BY_POINTER: &str = "/metadata/labels/endpointslice.kubernetes.io~1managed-by";

/// Writes all slices of Services that have a selector, and removes those that are no longer due.
pub fn reconcile(world: &mut World) {
    let due = expected(world);
    let keys: BTreeSet<Key> = due.iter().map(Object::key).collect();
    let stale: Vec<Key> = world
        .of_kind("EndpointSlice")
        .filter(|slice| slice.text(MANAGED_BY_POINTER) == Some(MANAGER))
        .map(Object::key)
        .filter(|key| !keys.contains(key))
        .collect();
    for key in stale {
        world.remove(&key);
    }
    for slice in due {
        world.put(slice);
    }
}

/// The slices that are due for what the world has.
pub fn expected(world: &World) -> Vec<Object> {
    world.of_kind("Service").flat_map(|service| of_service(service, world)).collect()
}

fn of_service(service: &Object, world: &World) -> Vec<Object> {
    let Some(selector) =
        service.at("/spec/selector").and_then(Value::as_object).filter(|map| !map.is_empty())
    else {
        return Vec::new();
    };
    if service.text("/spec/type") == Some("ExternalName") {
        return Vec::new();
    }
    let pods: Vec<&Object> = world
        .of_kind("Pod")
        .filter(|pod| pod.namespace() == service.namespace())
        .filter(|pod| {
            selector
                .iter()
                .all(|(key, value)| pod.at("/metadata/labels").and_then(|l| l.get(key)) == Some(value))
        })
        .collect();
    let families = service.texts("/spec/ipFamilies");
    families.iter().flat_map(|family| of_family(service, family, &pods, world)).collect()
}

fn of_family(service: &Object, family: &str, pods: &[&Object], world: &World) -> Vec<Object> {
    let mut by_ports: BTreeMap<String, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    for pod in pods {
        let Some(address) = address(pod, family) else { continue };
        let ports = ports(service, pod);
        // Pods may give one port's name to different numbers: each set of numbers has its own slice.
        let entry = by_ports.entry(json!(ports).to_string()).or_insert_with(|| (ports, Vec::new()));
        entry.1.push(endpoint(service, pod, address, world));
    }
    let chunks = by_ports.into_values().flat_map(|(ports, endpoints)| {
        let chunks: Vec<Vec<Value>> = endpoints.chunks(MOST_ENDPOINTS).map(<[Value]>::to_vec).collect();
        chunks.into_iter().map(move |endpoints| (ports.clone(), endpoints))
    });
    chunks
        .enumerate()
        .map(|(index, (ports, endpoints))| slice(service, family, index, &ports, &endpoints))
        .collect()
}

fn slice(service: &Object, family: &str, index: usize, ports: &[Value], endpoints: &[Value]) -> Object {
    let name = format!("{}-{}-{index}", service.name(), family.to_lowercase());
    let mut slice = Object::make(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        service.namespace(),
        &name,
        json!({"addressType": family, "ports": ports, "endpoints": endpoints}),
    );
    slice.set(&["metadata", "labels", "kubernetes.io/service-name"], json!(service.name()));
    slice.set(&["metadata", "labels", MANAGED_BY], json!(MANAGER));
    slice
}

fn address<'a>(pod: &'a Object, family: &str) -> Option<&'a str> {
    let all = pod.list("/status/podIPs").iter().filter_map(|entry| entry.get("ip")?.as_str());
    all.into_iter().find(|ip| ip.contains(':') == (family == "IPv6"))
}

/// The Service's ports as this pod serves them; a name that the pod does not have is left out.
fn ports(service: &Object, pod: &Object) -> Vec<Value> {
    let resolve = |port: &Value| -> Option<Value> {
        let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
        let number = match port.get("targetPort") {
            Some(Value::String(name)) => named_port(pod, name, protocol)?,
            Some(number) => number.as_u64()?,
            None => port.get("port")?.as_u64()?,
        };
        let mut resolved = json!({"name": port.get("name").cloned().unwrap_or(json!("")), "protocol": protocol, "port": number});
        if let (Some(application), Some(map)) = (port.get("appProtocol"), resolved.as_object_mut()) {
            map.insert("appProtocol".into(), application.clone());
        }
        Some(resolved)
    };
    service.list("/spec/ports").iter().filter_map(resolve).collect()
}

fn named_port(pod: &Object, name: &str, protocol: &str) -> Option<u64> {
    let containers = pod.list("/spec/containers").iter();
    let mut ports = containers
        .flat_map(|container| container.get("ports").and_then(Value::as_array).into_iter().flatten());
    ports
        .find(|port| {
            port.get("name").and_then(Value::as_str) == Some(name)
                && port.get("protocol").and_then(Value::as_str).unwrap_or("TCP") == protocol
        })?
        .get("containerPort")?
        .as_u64()
}

fn endpoint(service: &Object, pod: &Object, address: &str, world: &World) -> Value {
    let conditions = pod.list("/status/conditions").iter();
    let serving = conditions
        .filter(|condition| condition.get("type") == Some(&json!("Ready")))
        .any(|condition| condition.get("status") == Some(&json!("True")));
    let terminating = pod.at("/metadata/deletionTimestamp").is_some();
    let published = service.at("/spec/publishNotReadyAddresses") == Some(&Value::Bool(true));
    let node = pod.text("/spec/nodeName").unwrap_or_default();
    let mut endpoint = json!({
        "addresses": [address],
        "conditions": {
            "ready": published || (serving && !terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "nodeName": node,
        "targetRef": {"kind": "Pod", "namespace": pod.namespace(), "name": pod.name(), "uid": pod.text("/metadata/uid")},
    });
    let zone = world
        .get(&Key::core("Node", None, node))
        .and_then(|node| node.text("/metadata/labels/topology.kubernetes.io~1zone"));
    if let Some(map) = endpoint.as_object_mut() {
        if let Some(zone) = zone {
            map.insert("zone".into(), json!(zone));
        }
        if let Some(hints) = hints(service, node, zone) {
            map.insert("hints".into(), hints);
        }
    }
    endpoint
}

/// Who should go to an endpoint on this node, by `spec.trafficDistribution`.
fn hints(service: &Object, node: &str, zone: Option<&str>) -> Option<Value> {
    let for_zones = zone.map(|zone| json!([{"name": zone}]));
    match service.text("/spec/trafficDistribution")? {
        "PreferClose" | "PreferSameZone" => Some(json!({"forZones": for_zones?})),
        "PreferSameNode" => {
            let mut hints = json!({"forNodes": [{"name": node}]});
            if let (Some(zones), Some(map)) = (for_zones, hints.as_object_mut()) {
                map.insert("forZones".into(), zones);
            }
            Some(hints)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, more: Value) -> Object {
        let mut pod = Object::make(
            "v1",
            "Pod",
            Some("shop"),
            name,
            json!({
                "spec": {"nodeName": "node1", "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
                "status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "conditions": [{"type": "Ready", "status": "True"}]},
            }),
        );
        pod.set(&["metadata", "labels", "app"], json!("front"));
        for (path, value) in more.as_object().unwrap() {
            pod.set(&path.split('/').collect::<Vec<_>>(), value.clone());
        }
        pod
    }

    fn service(spec: Value) -> Object {
        let mut service = Object::make("v1", "Service", Some("shop"), "front", json!({"spec": spec}));
        service.set_default(&["spec", "selector"], json!({"app": "front"}));
        service.set_default(&["spec", "ipFamilies"], json!(["IPv4"]));
        service.set_default(
            &["spec", "ports"],
            json!([{"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"}]),
        );
        service
    }

    fn slices(objects: &[Object]) -> Vec<Object> {
        let mut world = World::default();
        objects.iter().for_each(|object| world.put(object.clone()));
        reconcile(&mut world);
        world.of_kind("EndpointSlice").cloned().collect()
    }

    fn conditions(slice: &Object) -> (bool, bool, bool) {
        let one = |name: &str| {
            slice.at(&format!("/endpoints/0/conditions/{name}")).and_then(Value::as_bool).unwrap()
        };
        (one("ready"), one("serving"), one("terminating"))
    }

    #[test]
    fn each_family_of_the_service_has_its_slice_with_the_named_port_resolved() {
        let slices = slices(&[pod("a", json!({})), service(json!({"ipFamilies": ["IPv4", "IPv6"]}))]);
        assert_eq!(slices.len(), 2);
        assert_eq!(slices[0].at("/endpoints/0/addresses"), Some(&json!(["10.0.0.1"])));
        assert_eq!(slices[1].at("/endpoints/0/addresses"), Some(&json!(["fd00::1"])));
        assert_eq!(slices[0].list("/ports"), [json!({"name": "web", "protocol": "TCP", "port": 8080})]);
    }

    #[test]
    fn conditions_follow_readiness_deletion_and_publication() {
        let unready = json!({"status/conditions": [{"type": "Ready", "status": "False"}]});
        let deleted = json!({"metadata/deletionTimestamp": "2026-01-01T00:00:00Z"});
        let published = json!({"publishNotReadyAddresses": true});
        let seen = |pod_is: &Value, service_is: &Value| {
            conditions(&slices(&[pod("a", pod_is.clone()), service(service_is.clone())])[0])
        };
        assert_eq!(seen(&json!({}), &json!({})), (true, true, false));
        assert_eq!(seen(&unready, &json!({})), (false, false, false));
        assert_eq!(seen(&unready, &published), (true, false, false));
        assert_eq!(seen(&deleted, &json!({})), (false, true, true));
    }

    #[test]
    fn traffic_distribution_becomes_hints_of_node_and_zone() {
        let mut node = Object::make("v1", "Node", None, "node1", json!({}));
        node.set(&["metadata", "labels", "topology.kubernetes.io/zone"], json!("a"));
        let seen = |distribution: Value| {
            let service = service(json!({"trafficDistribution": distribution}));
            slices(&[pod("a", json!({})), node.clone(), service])[0].at("/endpoints/0/hints").cloned()
        };
        assert_eq!(seen(Value::Null), None);
        assert_eq!(seen(json!("PreferClose")), Some(json!({"forZones": [{"name": "a"}]})));
        let both = json!({"forNodes": [{"name": "node1"}], "forZones": [{"name": "a"}]});
        assert_eq!(seen(json!("PreferSameNode")), Some(both));
    }

    #[test]
    fn pods_that_give_one_name_to_different_ports_are_in_different_slices() {
        let other =
            pod("b", json!({"spec/containers": [{"ports": [{"name": "http", "containerPort": 9090}]}]}));
        let slices = slices(&[pod("a", json!({})), other, service(json!({}))]);
        let ports: BTreeSet<u64> =
            slices.iter().filter_map(|slice| slice.at("/ports/0/port")?.as_u64()).collect();
        assert_eq!(ports, BTreeSet::from([8080, 9090]));
    }

    #[test]
    fn a_slice_holds_at_most_a_hundred_endpoints() {
        let mut objects: Vec<Object> = (0..250).map(|n| pod(&format!("p{n}"), json!({}))).collect();
        objects.push(service(json!({})));
        let mut sizes: Vec<usize> =
            slices(&objects).iter().map(|slice| slice.list("/endpoints").len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [50, 100, 100]);
    }

    #[test]
    fn a_users_slice_stays_and_one_of_a_vanished_service_goes() {
        let own = Object::make("discovery.k8s.io/v1", "EndpointSlice", Some("shop"), "own", json!({}));
        let mut world = World::default();
        [own, pod("a", json!({})), service(json!({}))].into_iter().for_each(|object| world.put(object));
        reconcile(&mut world);
        assert_eq!(world.of_kind("EndpointSlice").count(), 2);
        world.remove(&service(json!({})).key());
        reconcile(&mut world);
        let left: Vec<&str> = world.of_kind("EndpointSlice").map(Object::name).collect();
        assert_eq!(left, ["own"]);
    }

    #[test]
    fn a_service_without_a_selector_has_no_slices_of_ours() {
        assert!(slices(&[pod("a", json!({})), service(json!({"selector": {}}))]).is_empty());
    }
}
